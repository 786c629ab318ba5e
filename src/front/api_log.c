/* src/front/api_log.c -- GET /v1/log: how far the log has come, and whether a position is reached or lost. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "front/api.h"

static void error(struct call *call, int64_t code)
{
	char subject[64];

	snprintf(subject, sizeof(subject), "position %u/%llu", call->position.epoch,
	         (unsigned long long)call->position.lsn);
	answer_error(call->api, call->x, code, NULL, JOB_NONE, call->position.epoch ? subject : "log");
	call_end(call);
}

static void put_position(struct wh__text *text, const char *name, uint32_t epoch, uint64_t lsn)
{
	wh__text_format(text, ",\"%s\":\"%u/%llu\"", name, epoch, (unsigned long long)lsn);
}

static void got_log(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_log *log = res.ptr;
	struct wh__text text;

	if (res.n < 0) {
		error(call, res.n);
		return;
	}
	wh__text_init(&text, NULL, 0);
	wh__text_format(&text, "{\"epoch\":%u", log->epoch);
	put_position(&text, "appended", log->epoch, log->appended);
	put_position(&text, "written", log->epoch, log->written);
	put_position(&text, "flushed", log->epoch, log->flushed);
	wh__text_str(&text, ",\"epochs\":[");
	for (size_t i = 0; i < log->epochs_count; i++)
		wh__text_format(&text, "%s{\"epoch\":%u,\"end\":%llu}", i ? "," : "", log->epochs[i].epoch,
		                (unsigned long long)log->epochs[i].end);
	wh__text_str(&text, "]}\n");
	answer_text(call->api, call->x, 200, "application/json", &text);
	store_log_free(log);
	call_end(call);
}

static void answer_reached(struct call *call, bool reached)
{
	char body[160];
	int n = snprintf(body, sizeof(body), "{\"position\":\"%u/%llu\",\"level\":\"%s\",\"reached\":%s}\n",
	                 call->position.epoch, (unsigned long long)call->position.lsn,
	                 answer_level(call->level), reached ? "true" : "false");

	answer_preference(call->x, &call->prefer, true);
	answer_bytes(call->api, call->x, 200, "application/json", body, (size_t)n);
	call_end(call);
}

/* Where the epoch ended is part of the answer "lost". */
static void got_end(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_log *log = res.ptr;
	char members[64] = "";

	if (res.n < 0) {
		error(call, res.n);
		return;
	}
	for (size_t i = 0; i < log->epochs_count; i++) {
		if (log->epochs[i].epoch == call->position.epoch)
			snprintf(members, sizeof(members), ",\"end\":\"%u/%llu\"", log->epochs[i].epoch,
			         (unsigned long long)log->epochs[i].end);
	}
	answer_problem(call->api, call->x, PROBLEM_LOST, members,
	               "position %u/%llu: its epoch ended before it; what was committed there is gone",
	               call->position.epoch, (unsigned long long)call->position.lsn);
	store_log_free(log);
	call_end(call);
}

static void reached(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;

	call_unpark(call);
	if (res.n >= 0)
		answer_reached(call, true);
	else if (res.n == -ETIMEDOUT || res.n == -ECANCELED)
		answer_reached(call, false);
	else if (res.n == -JOB_ELOST)
		call_then(call, store_log(call->api->store), got_end);
	else
		error(call, res.n);
}

static bool read_position(struct request *request, const struct option *option, struct store_position *ret)
{
	const char *slash = memchr(option->text, '/', (size_t)option->value);
	uint64_t epoch;

	if (slash && wh__parse_u64(option->text, (size_t)(slash - option->text), UINT32_MAX, &epoch) &&
	    wh__parse_u64(slash + 1, strlen(slash + 1), UINT64_MAX, &ret->lsn)) {
		ret->epoch = (uint32_t)epoch;
		return true;
	}
	answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
	               "query: position '%.60s' is not epoch/lsn, such as 3/90112", option->text);
	return false;
}

static bool read_level(struct request *request, const struct option *option, int *ret)
{
	if (!option->given || strcmp(option->text, "local") == 0)
		*ret = STORE_LOCAL;
	else if (strcmp(option->text, "async") == 0)
		*ret = STORE_ASYNC;
	else if (strcmp(option->text, "remote-write") == 0 || strcmp(option->text, "remote-flush") == 0) {
		answer_problem(request->api, request->x, PROBLEM_LEVEL_UNAVAILABLE, NULL,
		               "level %s needs a standby, and none is configured", option->text);
		return false;
	} else {
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "query: level '%.60s' is not async, local, remote-write or remote-flush",
		               option->text);
		return false;
	}
	return true;
}

void api_log_get(struct request *request)
{
	struct option options[] = {{"position", OPTION_TEXT, 0, 0, false, 0, ""},
	                           {"level", OPTION_TEXT, 0, 0, false, 0, ""}};
	struct store_position position = {0, 0};
	struct call *call;
	int level;

	if (!request_options(request, options, 2) || !read_level(request, &options[1], &level) ||
	    (options[0].given && !read_position(request, &options[0], &position)))
		return;
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	if (!options[0].given) {
		call_then(call, store_log(request->api->store), got_log);
		return;
	}
	call_set_wait(call, request);
	call->position = position;
	call->level = level;
	call_watch(call, false);
	call_park(call, store_wait_position(request->api->store, position, level), reached);
}
