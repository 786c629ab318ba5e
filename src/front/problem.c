/* src/front/problem.c -- every refusal in one place: application/problem+json. See problem.h. */
#include "front/problem.h"

#include <assert.h>
#include <stdio.h>

/* A detail may quote what the client sent, which must not blow up the answer. */
enum { DETAIL_BYTES_MAX = 600 };

static const struct {
	const char *code, *title;
	int status;
} kinds[] = {
#define PROBLEM_ROW(name, code, status, title) [PROBLEM_##name] = {code, title, status},
	PROBLEM_KINDS(PROBLEM_ROW)
#undef PROBLEM_ROW
};

int problem_status(enum problem problem)
{
	assert(problem < PROBLEM__COUNT);
	return kinds[problem].status;
}

const char *problem_code(enum problem problem)
{
	assert(problem < PROBLEM__COUNT);
	return kinds[problem].code;
}

const char *problem_limit(char to[PROBLEM_MEMBERS_BYTES], uint64_t limit, const char *more)
{
	int n = 0;

	if (limit > 0)
		n = snprintf(to, PROBLEM_MEMBERS_BYTES, ",\"limit\":%llu", (unsigned long long)limit);
	n += snprintf(to + n, PROBLEM_MEMBERS_BYTES - (size_t)n, "%s", more ? more : "");
	assert(n < PROBLEM_MEMBERS_BYTES);
	return to;
}

void problem_write(struct wh__text *text, enum problem problem, const char *members, const char *detail,
                   va_list list)
{
	char formatted[DETAIL_BYTES_MAX];
	int n = vsnprintf(formatted, sizeof(formatted), detail, list);

	assert(problem < PROBLEM__COUNT);
	if (n < 0)
		n = 0;
	if ((size_t)n >= sizeof(formatted))
		n = sizeof(formatted) - 1;
	wh__text_format(text,
	                "{\"type\":\"urn:whilst:problem:%s\",\"title\":\"%s\",\"status\":%d,\"code\":\"%s\","
	                "\"detail\":",
	                kinds[problem].code, kinds[problem].title, kinds[problem].status,
	                kinds[problem].code);
	wh__text_json(text, formatted, (size_t)n);
	if (members)
		wh__text_str(text, members);
	wh__text_put(text, "}\n", 2);
}

void problem_put(struct wh__text *text, enum problem problem, const char *members, const char *detail, ...)
{
	va_list list;

	va_start(list, detail);
	problem_write(text, problem, members, detail, list);
	va_end(list);
}
