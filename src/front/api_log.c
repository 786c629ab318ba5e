/* src/front/api_log.c -- GET /v1/log: how far the log has come, and whether a position is reached or lost.
 *
 * As an answer, or as events: api_log_stream.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "front/event_stream.h"

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

	res.n = parked_remove(call, res.n);
	if (res.n >= 0)
		answer_reached(call, true);
	else if (res.n == -ETIMEDOUT || res.n == -ECANCELED)
		answer_reached(call, false);
	else if (res.n == -JOB_ELOST)
		call_then(call, store_log(call->api->store), got_end);
	else
		error(call, res.n);
}

bool api_parse_position(const char *text, size_t len, struct store_position *ret)
{
	const char *slash = memchr(text, '/', len);
	uint64_t epoch;

	if (!slash || !wh__parse_u64(text, (size_t)(slash - text), UINT32_MAX, &epoch) ||
	    !wh__parse_u64(slash + 1, (size_t)(text + len - slash - 1), UINT64_MAX, &ret->lsn))
		return false;
	ret->epoch = (uint32_t)epoch;
	return true;
}

static bool read_position(struct request *request, const struct option *option, struct store_position *ret)
{
	if (api_parse_position(option->text, strlen(option->text), ret))
		return true;
	answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
	               "query: position '%.60s' is not epoch/lsn, such as 3/90112", option->text);
	return false;
}

/* What a position that is lost, of an earlier epoch or none at all is answered with is no stream. */
static void judged(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;

	if (res.n >= 0 || res.n == -ETIMEDOUT)
		api_log_stream(call);
	else if (res.n == -JOB_ELOST)
		call_then(call, store_log(call->api->store), got_end);
	else
		error(call, res.n);
}

static void stream_events(struct request *request, struct call *call)
{
	static const char reached[] = " reached";
	struct wh_slice last = request->last_event_id;
	struct store_position seen, *told;

	if (last.len >= sizeof(reached) - 1 &&
	    memcmp(last.data + last.len - (sizeof(reached) - 1), reached, sizeof(reached) - 1) == 0) {
		answer_bytes(call->api, call->x, 204, NULL, "", 0); /* all has been told */
		call_end(call);
		return;
	}
	if (call->position.epoch != 0) {
		call_then(call,
		          wh_deadline(store_wait_position(call->api->store, call->position, call->level),
		                      wh_now(call->api->loop)),
		          judged);
		return;
	}
	if (api_parse_position(last.data ? last.data : "", last.len, &seen)) {
		told = malloc(sizeof(*told));
		if (told)
			*told = seen;
		call->arg = told;
	}
	api_log_stream(call);
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
	call->level = (int8_t)level;
	if (event_stream_wanted(request) && !options[0].given) {
		stream_events(request, call);
		return;
	}
	if (!options[0].given) {
		call_then(call, store_log(request->api->store), got_log);
		return;
	}
	call->position = position;
	if (event_stream_wanted(request)) {
		stream_events(request, call);
		return;
	}
	call_set_wait(call, request);
	call_watch_wait(call);
	call_park(call, store_wait_position(request->api->store, position, level), reached);
}
