/* src/front/api_lease.c -- what a worker says about its lease: complete, fail, release, extend, progress, bury; and
 * many completions as one commit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/units.h"
#include "front/api.h"
#include "front/batch.h"
#include "front/json_words.h"

#define DAY_NS (INT64_C(86400) * WH_NS_PER_S)

static void put_instant(struct wh__text *text, const char *name, int64_t at)
{
	char instant[WH__INSTANT_TEXT_BYTES];

	wh__text_format(text, ",\"%s\":\"%.*s\"", name, (int)wh__put_instant(instant, at), instant);
}

void answer_action(struct wh__text *text, int kind, uint64_t job, const struct store_result *result)
{
	wh__text_put(text, "{\"id\":", 6);
	wh__text_u64(text, job);
	if (kind == STORE_EXTEND) {
		put_instant(text, "deadline", result->at);
	} else if (kind != STORE_PROGRESS) {
		wh__text_format(text,
		                result->state == JOB_NONE && kind == STORE_SUBMIT ? ",\"state\":null"
		                                                                  : ",\"state\":\"%s\"",
		                answer_state(result->state));
		if (result->duplicate)
			wh__text_str(text, ",\"duplicate\":true");
		if (kind == STORE_FAIL && result->state == JOB_DELAYED)
			put_instant(text, "run_at", result->at);
		else if (kind == STORE_FAIL)
			wh__text_str(text,
			             result->dead ? ",\"run_at\":null,\"dead\":true" : ",\"run_at\":null");
		else if (kind == STORE_CANCEL && result->state == JOB_RUNNING)
			wh__text_str(text, ",\"cancel_requested\":true");
	}
	wh__text_put(text, "}", 1);
}

static void acted(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	const struct store_result *result;
	char given[256];
	struct wh__text text;

	if (res.n < 0) {
		call_refuse(call, res.n, NULL);
		return;
	}
	result = &commit->results[0];
	if (commit->error != 0) {
		call_refuse(call, commit->error, commit->reason);
		store_commit_free(commit);
		return;
	}
	wh__text_init(&text, given, sizeof(given));
	answer_action(&text, call->action, call->job, result);
	wh__text_put(&text, "\n", 1);
	answer_committed(call->x, commit->level, commit->position);
	answer_done(call->api, call->x, 200, "application/json", &text);
	store_commit_free(commit);
	call_end(call);
}

/* What all have in common: lease, level, query. */
static bool begin(struct request *request, struct store_action *action, int kind, struct option *options,
                  size_t count, int *ret_level)
{
	memset(action, 0, sizeof(*action));
	action->kind = kind;
	action->job = request->job;
	return request_lease(request, &action->lease) && request_level(request, false, ret_level) &&
	       request_options(request, options, count);
}

static void act(struct request *request, const struct store_action *action, int level)
{
	struct call *call = call_new(request, CALL_OTHER);

	if (!call)
		return;
	call->action = (uint8_t)action->kind;
	/* without the lease nothing that is still to come of the body can help: the store says why */
	if (request->streamed && store_lease_holds(request->api->store, action->job, action->lease))
		upload_start(call, action, NULL, (struct wh_slice){NULL, 0}, level, NULL, acted);
	else
		call_then(call, store_apply(request->api->store, action, 1, 0, level), acted);
}

static struct store_slice body_of(const struct request *request)
{
	struct wh_slice body = request_body(request);

	return (struct store_slice){body.data, body.len};
}

void api_complete(struct request *request)
{
	struct option options[] = {{"status", OPTION_NUMBER, 200, 599, false, 0, ""}};
	struct store_action action;
	int level;

	if (!begin(request, &action, STORE_COMPLETE, options, 1, &level) ||
	    !request_content_type(request, &action.complete.content_type))
		return;
	action.complete.status = (uint32_t)options[0].value;
	action.complete.bytes = body_of(request);
	act(request, &action, level);
}

void api_fail(struct request *request)
{
	struct option options[] = {{"retry", OPTION_FLAG, 0, 0, false, 1, ""},
	                           {"delay", OPTION_DURATION, 0, 3650 * DAY_NS, false, 0, ""}};
	struct store_action action;
	int level;

	if (!begin(request, &action, STORE_FAIL, options, 2, &level))
		return;
	action.fail.error = body_of(request);
	action.fail.no_retry = !options[0].value;
	action.fail.delay_set = options[1].given;
	action.fail.delay_ns = options[1].value;
	act(request, &action, level);
}

void api_release(struct request *request)
{
	struct option options[] = {{"delay", OPTION_DURATION, 0, 3650 * DAY_NS, false, 0, ""},
	                           {"priority", OPTION_NUMBER, 0, UINT32_MAX, false, 0, ""}};
	struct store_action action;
	int level;

	if (!begin(request, &action, STORE_RELEASE, options, 2, &level))
		return;
	action.release.delay_ns = options[0].value;
	action.release.priority_set = options[1].given;
	action.release.priority = (uint32_t)options[1].value;
	act(request, &action, level);
}

void api_extend(struct request *request)
{
	struct option options[] = {{"by", OPTION_DURATION, WH_NS_PER_MS, 30 * DAY_NS, false, 0, ""}};
	struct store_action action;
	int level;

	if (!begin(request, &action, STORE_EXTEND, options, 1, &level))
		return;
	action.extend.by_ns = options[0].value;
	act(request, &action, level);
}

void api_bury(struct request *request)
{
	struct option options[] = {{"priority", OPTION_NUMBER, 0, UINT32_MAX, false, 0, ""}};
	struct store_action action;
	int level;

	if (!begin(request, &action, STORE_BURY, options, 1, &level))
		return;
	action.bury.error = body_of(request);
	action.bury.priority_set = options[0].given;
	action.bury.priority = (uint32_t)options[0].value;
	act(request, &action, level);
}

static bool check_json(struct request *request)
{
	struct wh_slice body = request_body(request);
	json_error_t error;
	char members[64];
	json_t *value = json_loadb(body.data ? body.data : "", body.len,
	                           JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);

	if (value) {
		json_decref(value);
		return true;
	}
	snprintf(members, sizeof(members), ",\"line\":%d,\"column\":%d", error.line, error.column);
	answer_problem(request->api, request->x, PROBLEM_BAD_JSON, members,
	               "progress: line %d, column %d: %s", error.line, error.column, json_words(&error));
	return false;
}

void api_progress(struct request *request)
{
	struct store_action action;
	int level;

	if (!begin(request, &action, STORE_PROGRESS, NULL, 0, &level) || !check_json(request))
		return;
	action.progress.bytes = body_of(request);
	act(request, &action, level);
}

/* ---- many at once ------------------------------------------------------------------------ */

enum { ITEM_BYTES = 24 };

static uint32_t status_of(int32_t error)
{
	switch (-error) {
	case 0:
		return 200;
	case JOB_EUNKNOWN_JOB:
		return 404;
	case JOB_EEXPIRED:
		return 410;
	case JOB_ETOO_LARGE:
		return 413;
	default:
		return 409;
	}
}

static void completed_many(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	char given[4096];
	struct wh__text text;

	if (res.n < 0) {
		answer_error(call->api, call->x, res.n, NULL, JOB_NONE, "completions");
		call_end(call);
		return;
	}
	if (commit->count == 0) {
		answer_error(call->api, call->x, commit->error, commit->reason, JOB_NONE, "completions");
		store_commit_free(commit);
		call_end(call);
		return;
	}
	wh__text_init(&text, given, sizeof(given));
	for (size_t i = 0; i < commit->count; i++) {
		char *to = wh__text_room(&text, 8);
		if (!to)
			break;
		batch_put_u32(to, 4);
		batch_put_u32(to + 4, status_of(commit->results[i].error));
		text.len += 8;
	}
	answer_committed(call->x, commit->level, commit->position);
	answer_done(call->api, call->x, 200, BATCH_TYPE, &text);
	store_commit_free(commit);
	call_end(call);
}

static bool read_item(struct store_slice item, struct store_slice content_type, struct store_action *action)
{
	const char *bytes = item.data;

	if (item.len < ITEM_BYTES || batch_get_u32(bytes + 20) != 0)
		return false;
	memset(action, 0, sizeof(*action));
	action->kind = STORE_COMPLETE;
	action->job = batch_get_u64(bytes);
	action->lease = (struct job_lease){batch_get_u32(bytes + 16), batch_get_u64(bytes + 8)};
	action->complete.bytes = (struct store_slice){bytes + ITEM_BYTES, item.len - ITEM_BYTES};
	action->complete.content_type = content_type;
	return true;
}

/* The path's queue is what the token was judged by, and what stands in a batch may be anywhere. A job of a queue that it is not good for is to it
 * one that is not there; likewise in a namespace one that is really not there. */
static bool may_complete(const struct request *request, const struct token *token, uint64_t job)
{
	struct store_slice queue;

	if (store_queue_of(request->api->store, job, &queue) != 0)
		return request->namespace.len == 0;
	return (queue.len == request->name_len && memcmp(queue.data, request->name, queue.len) == 0) ||
	       authorize_allows(token, TOKEN_WORK, answer_slice(queue));
}

/* false: the token was taken away while the body came; answered. */
static bool judge_items(struct request *request, struct store_action *actions, size_t count)
{
	const struct token *token = request->api->tokens ? authorize_who(request->api, request->x) : NULL;

	if (request->api->tokens && !token) {
		answer_problem(request->api, request->x, PROBLEM_NO_TOKEN, NULL,
		               "the token that was shown is not known here");
		return false;
	}
	for (size_t i = 0; token && i < count; i++) {
		if (!may_complete(request, token, actions[i].job))
			actions[i].job = JOB_ID_MAX - i; /* never given: each of them another one */
	}
	return true;
}

static void complete_batch(struct request *request, const struct batch *batch,
                           struct store_slice content_type, int level)
{
	struct store_action *actions = malloc(batch->count * sizeof(*actions));
	struct call *call = NULL;
	size_t i = 0;

	if (!actions) {
		answer_problem(request->api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		return;
	}
	while (i < batch->count && read_item(batch->items[i], content_type, &actions[i]))
		i++;
	if (i < batch->count)
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "item %zu is not id(8) claim(8) epoch(4) zero(4) result", i);
	else if (judge_items(request, actions, i))
		call = call_new(request, CALL_OTHER);
	if (call)
		call_then(call, store_apply(request->api->store, actions, batch->count, STORE_EACH, level),
		          completed_many);
	free(actions);
}

void api_complete_many(struct request *request)
{
	struct option options[] = {{"content-type", OPTION_TEXT, 0, 0, false, 0, ""}};
	struct store_slice content_type = STORE_SLICE("application/octet-stream");
	struct wh_slice body = request_body(request);
	struct batch batch;
	int level, wrong;

	if (!request_is_type(request->content_type, BATCH_TYPE)) {
		answer_problem(request->api, request->x, PROBLEM_WRONG_CONTENT_TYPE, NULL,
		               "Content-Type: wanted is " BATCH_TYPE);
		return;
	}
	if (!request_level(request, false, &level) || !request_options(request, options, 1))
		return;
	if (options[0].given)
		content_type = (struct store_slice){options[0].text, (size_t)options[0].value};
	wrong = batch_read(&batch, body.data, body.len, request->api->options.payload_bytes_max + ITEM_BYTES);
	if (wrong != BATCH_GOOD)
		batch_refuse(request, &batch, wrong);
	else
		complete_batch(request, &batch, content_type, level);
	batch_done(&batch);
}
