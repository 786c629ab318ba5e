/* tests/unit/test_front.c -- what a request says: Prefer, names and queries in its target; and how it is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "front/namespace.h"
#include "front/prefer.h"
#include "front/problem.h"
#include "front/target.h"
#include "job/job.h"

static void preferences(void **state)
{
	static const struct {
		const char *lines[3];
		bool respond_async, wait;
		uint32_t wait_s;
		const char *applied;
	} cases[] = {
		{{"respond-async"}, true, false, 0, "respond-async"},
		{{"wait=10"}, false, true, 10, "wait=10"},
		{{"Respond-Async , WAIT = \"7\" "}, true, true, 7, "respond-async, wait=7"},
		{{"wait=3, wait=5"}, false, true, 3, "wait=3"},
		{{"foo; wait=9", "wait=4"}, false, true, 4, "wait=4"},
		{{"foo=\"a, wait=9\", wait=2"}, false, true, 2, "wait=2"},
		{{"foo=\"a\\\", wait=9\", wait=2"}, false, true, 2, "wait=2"},
		{{"wait=x, wait=5"}, false, false, 0, ""},
		{{"wait=-1"}, false, false, 0, ""},
		{{"wait"}, false, false, 0, ""},
		{{"wait=99999999999"}, false, true, 300, "wait=300"},
		{{"respond-async=yes"}, false, false, 0, ""},
		{{"respond-async; x=1"}, true, false, 0, "respond-async"},
		{{",,\t,respond-async,,"}, true, false, 0, "respond-async"},
		{{"handling=strict, respond-asynchronously"}, false, false, 0, ""},
		{{""}, false, false, 0, ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct prefer prefer = {0};
		char applied[PREFER_APPLIED_BYTES];
		for (size_t j = 0; j < 3 && cases[i].lines[j]; j++)
			prefer_add(&prefer, cases[i].lines[j], strlen(cases[i].lines[j]));
		prefer_clamp(&prefer, 300);
		if (prefer.respond_async != cases[i].respond_async || prefer.wait != cases[i].wait ||
		    prefer.wait_s != cases[i].wait_s)
			fail_msg("%s", cases[i].lines[0]);
		applied[prefer_applied(&prefer, applied)] = 0;
		assert_string_equal(applied, cases[i].applied);
	}
}

static struct wh_slice slice(const char *text)
{
	return (struct wh_slice){text, text ? strlen(text) : 0};
}

static void segments(void **state)
{
	static const struct {
		const char *text;
		int count; /* -1: refused */
		const char *last, *query;
	} cases[] = {
		{"/", 1, "", NULL},
		{"/a", 1, "a", NULL},
		{"/a/", 2, "", NULL},
		{"/a//b", 3, "b", "x=1?y"},
		{"/v1/queues/a%2Fb/jobs", 4, "jobs", ""},
		{"/1/2/3/4/5/6", 6, "6", NULL},
		{"/1/2/3/4/5/6/", 7, NULL, NULL},
		{"/1/2/3/4/5/6/7/8", 7, NULL, NULL},
		{"*", -1, NULL, NULL},
		{"", -1, NULL, NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct target target;
		bool good = target_split(&target, slice(cases[i].text), slice(cases[i].query));
		assert_int_equal(good, cases[i].count >= 0);
		if (!good)
			continue;
		assert_int_equal(target.segments_count, cases[i].count);
		if (cases[i].last) {
			struct wh_slice last = target.segments[cases[i].count - 1];
			assert_int_equal(last.len, strlen(cases[i].last));
			assert_memory_equal(last.data, cases[i].last, last.len);
		}
	}
}

static void names(void **state)
{
	static const struct {
		const char *text, *name;
	} cases[] = {
		{"mail", "mail"},    {"call%2Fshop", "call/shop"},
		{"a%2fb", "a/b"},    {"a+b;c.$_()-", "a+b;c.$_()-"},
		{"", NULL},          {"-a", NULL},
		{"%2Da", NULL},      {"a%2", NULL},
		{"a%", NULL},        {"a%zz", NULL},
		{"a%00b", NULL},     {"a%20b", NULL},
		{"caf%C3%A9", NULL},
	};
	char name[TARGET_NAME_BYTES_MAX], encoded[3 * TARGET_NAME_BYTES_MAX],
		longest[TARGET_NAME_BYTES_MAX + 1];
	size_t len;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wh_slice piece = {cases[i].text, strlen(cases[i].text)};
		const char *wrong = target_name(piece, name, &len);
		if ((wrong == NULL) != (cases[i].name != NULL))
			fail_msg("%s", cases[i].text);
		if (wrong)
			continue;
		assert_int_equal(len, strlen(cases[i].name));
		assert_memory_equal(name, cases[i].name, len);
		piece = (struct wh_slice){encoded, target_encode(name, len, encoded)};
		assert_null(target_name(piece, name, &len));
		assert_memory_equal(name, cases[i].name, len);
	}
	memset(longest, 'x', sizeof(longest));
	assert_null(target_name((struct wh_slice){longest, TARGET_NAME_BYTES_MAX}, name, &len));
	assert_non_null(target_name((struct wh_slice){longest, sizeof(longest)}, name, &len));
}

/* Names as a client of a namespace says them, and in full. */
static void namespaces(void **state)
{
	static const struct {
		const char *namespace, *text, *name;
	} cases[] = {
		{"", "mail", "mail"},
		{"", "acme:mail", "acme:mail"},
		{"", "acme%3Amail", "acme:mail"},
		{"", "acme:call%2Fshop", "acme:call/shop"},
		{"", "a:b:c", NULL},
		{"", ":mail", NULL},
		{"", "acme:", NULL},
		{"", "-acme:mail", NULL},
		{"", "acme:-mail", NULL},
		{"", "a+b:mail", NULL},
		{"", "0123456789012345678901234567890123456789:q",
	         "0123456789012345678901234567890123456789:q"},
		{"", "01234567890123456789012345678901234567890:q", NULL},
		{"acme", "mail", "acme:mail"},
		{"acme", "call%2Fshop", "acme:call/shop"},
		{"acme", "acme:mail", NULL},
		{"acme", "bolt%3Amail", NULL},
		{"acme", ":mail", NULL},
		{"acme", "-mail", NULL},
		{"acme", "", NULL},
	};
	char name[TARGET_NAME_BYTES_MAX], longest[TARGET_NAME_BYTES_MAX];
	size_t len;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wh_slice namespace = {cases[i].namespace, strlen(cases[i].namespace)},
				segment = {cases[i].text, strlen(cases[i].text)};
		const char *wrong = namespace_target(namespace, segment, name, &len);

		if ((wrong == NULL) != (cases[i].name != NULL))
			fail_msg("%s in '%s'", cases[i].text, cases[i].namespace);
		if (wrong)
			continue;
		assert_int_equal(len, strlen(cases[i].name));
		assert_memory_equal(name, cases[i].name, len);
		assert_true(namespace_full_valid(name, len));
		assert_true(job_name_valid((struct job_slice){name, len}));
	}
	memset(longest, 'q', sizeof(longest));
	assert_null(
		namespace_target((struct wh_slice){"acme", 4}, (struct wh_slice){longest, 195}, name, &len));
	assert_int_equal(len, 200);
	assert_non_null(
		namespace_target((struct wh_slice){"acme", 4}, (struct wh_slice){longest, 196}, name, &len));
}

static void namespaces_shown(void **state)
{
	const struct wh_slice acme = {"acme", 4}, full = {"acme:mail", 9}, plain = {"mail", 4},
			      longer = {"acmes:mail", 10};
	struct wh_slice shown = namespace_show(acme, full);

	(void)state;
	assert_int_equal(shown.len, 4);
	assert_memory_equal(shown.data, "mail", 4);
	assert_null(namespace_show(acme, plain).data);
	assert_null(namespace_show(acme, longer).data);
	assert_null(namespace_show((struct wh_slice){"acm", 3}, full).data);
	assert_int_equal(namespace_show((struct wh_slice){NULL, 0}, full).len, 9);
	assert_true(namespace_same(full, (struct wh_slice){"acme:x", 6}));
	assert_false(namespace_same(full, longer));
	assert_false(namespace_same(full, plain));
	assert_true(namespace_same(plain, (struct wh_slice){"x", 1}));
	assert_int_equal(namespace_plain(full).len, 4);
	assert_false(namespace_valid("", 0));
	assert_false(namespace_valid("a:b", 3));
	assert_false(namespace_valid("a/b", 3));
	assert_true(namespace_valid("a.b_c-D9", 8));
}

static void queries(void **state)
{
	static const char *const expected[][2] = {{"a", "1"}, {"b", ""}, {"c", "=%20"}, {"", "x"}};
	struct target target;
	struct wh_slice name, value;
	size_t at = 0, n = 0;

	assert_true(target_split(&target, slice("/"), slice("a=1&&b&c==%20&=x&")));
	while (target_query_next(&target, &at, &name, &value)) {
		assert_true(n < 4);
		assert_int_equal(name.len, strlen(expected[n][0]));
		assert_memory_equal(name.data, expected[n][0], name.len);
		assert_int_equal(value.len, strlen(expected[n][1]));
		assert_memory_equal(value.data, expected[n][1], value.len);
		n++;
	}
	assert_int_equal(n, 4);
}

static void write_problem(struct wh__text *text, enum problem problem, const char *members,
                          const char *detail, ...) __attribute__((format(printf, 4, 5)));
static void write_problem(struct wh__text *text, enum problem problem, const char *members,
                          const char *detail, ...)
{
	va_list list;

	va_start(list, detail);
	problem_write(text, problem, members, detail, list);
	va_end(list);
}

static void problems(void **state)
{
	struct wh__text text;

	wh__text_init(&text, NULL, 0);
	write_problem(&text, PROBLEM_TOO_LARGE, ",\"limit\":5", "%s", "\"x\"\xff");
	wh__text_put(&text, "", 1);
	assert_string_equal(text.data,
	                    "{\"type\":\"urn:whilst:problem:too-large\",\"title\":\"The body is too large\","
	                    "\"status\":413,\"code\":\"too-large\",\"detail\":\"\\\"x\\\"\xef\xbf\xbd\","
	                    "\"limit\":5}\n");
	wh__text_done(&text);
	for (int i = 0; i < PROBLEM__COUNT; i++)
		assert_in_range(problem_status((enum problem)i), 400, 599);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(preferences), cmocka_unit_test(segments),         cmocka_unit_test(names),
		cmocka_unit_test(namespaces),  cmocka_unit_test(namespaces_shown), cmocka_unit_test(queries),
		cmocka_unit_test(problems),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
