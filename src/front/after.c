/* src/front/after.c -- which jobs a new one is to run after, as clients say it: in a query, in JSON. See after.h. */
#include "front/after.h"

#include <stdio.h>
#include <string.h>

#include "base/units.h"
#include "front/once.h"

static const char *const failures[JOB_AFTER_FAILURES] = {"cancel", "bury", "run", "wait"};

const char *after_failure(int failure)
{
	return failure >= 0 && failure < JOB_AFTER_FAILURES ? failures[failure] : "cancel";
}

bool after_failure_read(const char *text, size_t len, uint8_t *ret)
{
	for (int i = 0; i < JOB_AFTER_FAILURES; i++) {
		if (len == strlen(failures[i]) && memcmp(text, failures[i], len) == 0) {
			*ret = (uint8_t)i;
			return true;
		}
	}
	return false;
}

/* A comma, as it is or encoded; bytes of it, 0: none. */
static size_t comma(const char *at, const char *end)
{
	if (at < end && *at == ',')
		return 1;
	return end - at >= 3 && at[0] == '%' && at[1] == '2' && (at[2] == 'C' || at[2] == 'c') ? 3 : 0;
}

bool after_read(struct wh_slice text, struct after *ret)
{
	const char *at = text.data, *end = at + text.len;

	ret->count = 0;
	while (ret->count < AFTER_QUERY_MAX) {
		const char *from = at;
		uint64_t *id = &ret->ids[ret->count++];

		while (at < end && *at >= '0' && *at <= '9')
			at++;
		if (!wh__parse_u64(from, (size_t)(at - from), JOB_ID_MAX, id) || *id == 0)
			return false;
		if (at == end)
			return true;
		from = at;
		at += comma(at, end);
		if (at == from)
			return false;
	}
	return false;
}

static bool may_await(struct api *api, const struct token *token, uint64_t job)
{
	struct store_slice queue;

	return token && store_queue_of(api->store, job, &queue) == 0 &&
	       (authorize_allows(token, TOKEN_READ, answer_slice(queue)) ||
	        authorize_allows(token, TOKEN_SUBMIT, answer_slice(queue)) ||
	        authorize_allows(token, TOKEN_WORK, answer_slice(queue)));
}

uint64_t after_refused(struct api *api, wh_http_exchange *x, struct store_slice after, struct once *once)
{
	const struct token *token;

	if (after.len == 0 || !api->tokens ||
	    (once && once->given && store_key_known(api->store, once_key(once))))
		return 0;
	token = authorize_who(api, x);
	for (size_t i = 0; i < after.len / sizeof(uint64_t); i++) {
		uint64_t id;

		memcpy(&id, (const uint8_t *)after.data + i * sizeof(id), sizeof(id));
		if (!(id & STORE_AFTER_ACTION) && !may_await(api, token, id))
			return id;
	}
	return 0;
}

void after_put(struct wh__text *text, const struct store_view *view)
{
	if (view->state != JOB_AWAITING) {
		wh__text_str(text, "null");
		return;
	}
	wh__text_format(text, "{\"open\":%u,\"count\":%u,\"after_failure\":\"%s\",\"jobs\":[",
	                view->awaits_open, view->awaits_count, after_failure(view->after_failure));
	for (size_t i = 0; i < view->awaits.len / sizeof(uint64_t); i++) {
		uint64_t id;

		memcpy(&id, (const uint8_t *)view->awaits.data + i * sizeof(id), sizeof(id));
		wh__text_format(text, "%s%llu", i ? "," : "", (unsigned long long)id);
	}
	wh__text_put(text, "]}", 2);
}
