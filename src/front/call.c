/* src/front/call.c -- a request while the store works on it or its caller waits; how waits end. See api.h.
 *
 * The state is read when the wait is over, whatever ended it: the job, the time, a stop of the server. So an
 * event cannot be missed, and a late answer is a true one. A client that leaves cancels its wait. One that has called close(2) shows
 * the same as one that has ended its sending side and reads on: either gets the present state, which harms neither.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deliver/push.h"
#include "front/api.h"

struct call *call_new(struct request *request, enum call_kind kind)
{
	size_t bytes = offsetof(struct call, name) + request->name_len + request->namespace.len;
	struct call *call = malloc(bytes > sizeof(*call) ? bytes : sizeof(*call));

	if (!call) {
		answer_problem(request->api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		return NULL;
	}
	memset(call, 0, sizeof(*call));
	call->api = request->api;
	call->x = request->x;
	call->job = request->job;
	call->kind = (uint8_t)kind;
	call->read_async = request->level == STORE_ASYNC;
	call->name_len = (uint8_t)request->name_len;
	memcpy(call->name, request->name, request->name_len);
	call->hidden = (uint8_t)request->hidden;
	call->namespace_len = (uint8_t)request->namespace.len;
	if (request->namespace.len > 0)
		memcpy(call->name + call->name_len, request->namespace.data, request->namespace.len);
	call->api->calls_count++;
	return call;
}

void call_end(struct call *call)
{
	struct api *api = call->api;

	(void)parked_remove(call, 0);
	free(call->arg);
	free(call);
	api->calls_count--;
	front_check_drained(api);
}

void call_then(struct call *call, wh_future future, wh_callback *callback)
{
	wh_res res = {-ENOMEM, NULL};

	if (wh_then(future, callback, call) == 0)
		return;
	/* it has failed already, and there is no memory to say so later: the callback knows what is to be undone */
	(void)wh_poll(future, &res);
	callback(call->api->loop, res, call);
}

static void client_left(void *arg)
{
	struct call *call = arg;

	call->gone = true;
	if (call->is_parked)
		wh_cancel(call->waiting);
}

void call_watch(struct call *call, bool half_close)
{
	if (half_close)
		wh_http_on_half_close(call->x, client_left, call);
	else
		wh_http_on_close(call->x, client_left, call);
}

void call_watch_wait(struct call *call)
{
	call_watch(call, !call->api->options.half_close_waits);
}

void call_park(struct call *call, wh_future future, wh_callback *callback)
{
	answer_waits(call->x);
	call->waiting = future;
	parked_add(call);
	if (call->gone)
		wh_cancel(future);
	call_then(call, future, callback);
}

void call_set_wait(struct call *call, const struct request *request)
{
	call->prefer = request->prefer;
	call->until = wh_http_received_at(call->x) + (int64_t)call->prefer.wait_s * WH_NS_PER_S;
}

static int read_level(const struct call *call)
{
	return call->read_async ? STORE_ASYNC : STORE_DEFAULT;
}

static void error(struct call *call, int64_t code, const char *reason)
{
	char subject[40];

	snprintf(subject, sizeof(subject), "job %llu", (unsigned long long)call->job);
	answer_error(call->api, call->x, code, reason, JOB_NONE, subject);
	call_end(call);
}

static void got_state(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_view *view = res.ptr;
	char subject[40];

	snprintf(subject, sizeof(subject), "job %llu", (unsigned long long)call->job);
	answer_error(call->api, call->x, call->error, call->reason, res.n < 0 ? JOB_NONE : view->state,
	             subject);
	if (res.n >= 0)
		store_view_free(view);
	call_end(call);
}

void call_refuse(struct call *call, int64_t code, const char *reason)
{
	if (code == -JOB_EFINISHED || code == -JOB_ESTATE || code == -JOB_ECANCELLED) {
		call->error = (int32_t)code;
		call->reason = reason;
		call_then(call, store_get(call->api->store, call->job, read_level(call)), got_state);
	} else {
		error(call, code, reason);
	}
}

static void answer_poll(struct call *call, const struct store_view *view)
{
	char given[1024], tag[40];
	struct wh__text text;
	int n = snprintf(tag, sizeof(tag), "\"%llx\"", (unsigned long long)view->version);

	wh_http_set(call->x, "ETag", tag);
	answer_preference(call->x, &call->prefer, true);
	if (call->retained && request_names_tag(call->x, tag, (size_t)n)) {
		answer_bytes(call->api, call->x, 304, NULL, "", 0);
		return;
	}
	wh__text_init(&text, given, sizeof(given));
	answer_view(&text, view, call_namespace(call));
	wh__text_put(&text, "\n", 1);
	answer_text(call->api, call->x, 200, "application/json", &text);
}

void call_accepted(struct call *call, int state)
{
	char body[512 + TARGET_NAME_BYTES_MAX * 2], location[48];
	struct wh__text text;

	wh__text_init(&text, body, sizeof(body));
	wh__text_put(&text, "{\"id\":", 6);
	wh__text_u64(&text, call->job);
	wh__text_put(&text, ",\"queue\":", 9);
	wh__text_json(&text, call->name + call->hidden, call->name_len - call->hidden);
	wh__text_str(&text, state == JOB_NONE ? ",\"state\":null" : ",\"state\":\"");
	if (state != JOB_NONE) {
		wh__text_str(&text, answer_state(state));
		wh__text_put(&text, "\"", 1);
	}
	wh__text_str(&text, call->duplicate ? ",\"duplicate\":true,\"level\":\"" : ",\"level\":\"");
	wh__text_str(&text, answer_level(call->level));
	wh__text_str(&text, "\",\"position\":\"");
	wh__text_u64(&text, call->position.epoch);
	wh__text_put(&text, "/", 1);
	wh__text_u64(&text, call->position.lsn);
	wh__text_put(&text, "\"}\n", 3);
	memcpy(location, "/v1/jobs/", 9);
	wh_http_set_slice(call->x, (struct wh_slice){"Location", 8},
	                  (struct wh_slice){location, 9 + wh__put_u64(location + 9, call->job)});
	wh_http_set(call->x, "Retry-After", "1");
	answer_committed(call->x, call->level, call->position);
	answer_preference(call->x, &call->prefer, true);
	/* the answer of who waited is 200 only with the result */
	answer_text(call->api, call->x, call->duplicate && !call->prefer.wait ? 200 : 202, "application/json",
	            &text);
}

static bool last_error_is_timeout(const struct store_view *view)
{
	const struct store_slice *text;

	if (view->errors_count == 0)
		return false;
	text = &view->errors[view->errors_count - 1].text;
	return text->len >= sizeof(PUSH_TIMED_OUT) - 1 &&
	       memcmp(text->data, PUSH_TIMED_OUT, sizeof(PUSH_TIMED_OUT) - 1) == 0;
}

static void answer_failed(struct call *call, const struct store_view *view)
{
	struct wh__text members;
	struct store_slice last = {"", 0};
	bool late = call->kind == CALL_RECORDED && last_error_is_timeout(view);

	if (view->errors_count > 0)
		last = view->errors[view->errors_count - 1].text;
	wh__text_init(&members, NULL, 0);
	wh__text_str(&members, ",\"job\":");
	answer_view(&members, view, call_namespace(call));
	wh__text_put(&members, "", 1);
	answer_preference(call->x, &call->prefer, true);
	answer_problem(call->api, call->x, late ? PROBLEM_JOB_TIMED_OUT : PROBLEM_JOB_FAILED,
	               members.failed ? NULL : members.data, "job %llu failed after %u attempt%s; last: %.*s",
	               (unsigned long long)call->job, view->attempts, view->attempts == 1 ? "" : "s",
	               (int)(last.len < 300 ? last.len : 300), (const char *)last.data);
	wh__text_done(&members);
}

static void got_view(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_view *view = res.ptr;

	if (res.n < 0) {
		error(call, res.n, NULL);
		return;
	}
	if (call->kind == CALL_POLL) {
		answer_poll(call, view);
	} else if (view->state == JOB_DONE && call->kind != CALL_OTHER) {
		store_view_free(view);
		call_finish(call, JOB_DONE);
		return;
	} else if (view->state == JOB_FAILED) {
		answer_failed(call, view);
	} else if (view->state == JOB_CANCELLED) {
		answer_problem(call->api, call->x, PROBLEM_JOB_CANCELLED, ",\"state\":\"cancelled\"",
		               "job %llu was cancelled: it has no result", (unsigned long long)call->job);
	} else if (call->kind == CALL_RESULT) {
		char members[40];
		snprintf(members, sizeof(members), ",\"state\":\"%s\"", answer_state(view->state));
		answer_preference(call->x, &call->prefer, true);
		answer_problem(call->api, call->x, PROBLEM_NOT_READY, members,
		               "job %llu is %s: ask again, or with Prefer: wait=N",
		               (unsigned long long)call->job, answer_state(view->state));
	} else {
		call_accepted(call, view->state);
	}
	store_view_free(view);
	call_end(call);
}

static void release_bytes(void *arg)
{
	store_bytes_unref(arg);
}

static void got_result(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_bytes *bytes = res.ptr;
	char job[24];
	int status;

	if (res.n == -JOB_ENO_RESULT || res.n == -JOB_ENOT_READY) {
		/* look why: failed, cancelled, or run again by a kick meanwhile */
		call_then(call, store_get(call->api->store, call->job, read_level(call)), got_view);
		return;
	}
	if (res.n < 0) {
		error(call, res.n, NULL);
		return;
	}
	status = bytes->status >= 200 && bytes->status <= 599 ? (int)bytes->status : 200;
	answer_kept(call->x, bytes->headers);
	if (bytes->content_type.len > 0)
		wh_http_set_slice(call->x, (struct wh_slice){"Content-Type", 12},
		                  answer_slice(bytes->content_type));
	answer_foreign(call, bytes->content_type);
	job[wh__put_u64(job, call->job)] = 0;
	wh_http_set(call->x, "Whilst-Job", job);
	answer_preference(call->x, &call->prefer, call->kind == CALL_RESULT);
	if (call->kind != CALL_RESULT)
		wh_http_add(call->x, "Vary", "Prefer");
	if (download_bytes(call, status, bytes))
		return;
	answer_count(call->api, call->x, status);
	wh_http_respond_own(call->x, status, bytes->body.data, bytes->body.len, release_bytes, bytes);
	call_end(call);
}

void call_finish(struct call *call, int state)
{
	if (call->kind != CALL_POLL &&
	    (state == JOB_DONE || (call->kind == CALL_RESULT && state == JOB_NONE)))
		call_then(call, store_result(call->api->store, call->job, read_level(call)), got_result);
	else
		call_then(call, store_get(call->api->store, call->job, read_level(call)), got_view);
}

/* The time that the caller waited was all that the call was given. */
static void wait_ended(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	int64_t code = res.n < 0 ? res.n : commit->error;
	char members[40];

	if (res.n >= 0)
		store_commit_free(commit);
	if (code == -JOB_EFINISHED) {
		call_finish(call, JOB_DONE); /* just now */
		return;
	}
	if (code != 0 && code != -JOB_ECANCELLED) {
		error(call, code, NULL);
		return;
	}
	push_cancelled(call->api->push, (struct store_slice){call->name, call->name_len}, call->job);
	snprintf(members, sizeof(members), ",\"job\":%llu", (unsigned long long)call->job);
	answer_preference(call->x, &call->prefer, true);
	answer_problem(
		call->api, call->x, PROBLEM_WAIT_ENDED, members,
		"job %llu was not done within the time that was waited for it; its service has such calls "
		"cancelled",
		(unsigned long long)call->job);
	call_end(call);
}

static void cancel_at_end(struct call *call)
{
	struct store_action action = {.kind = STORE_CANCEL, .job = call->job};

	call_then(call, store_apply(call->api->store, &action, 1, 0, STORE_LOCAL), wait_ended);
}

static void wait_over(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;

	res.n = parked_remove(call, res.n);
	/* the time ran out, the client left or the server stops: the present state is the answer */
	if (call->cancel_at_end && (res.n == -ETIMEDOUT || (call->gone && res.n == -ECANCELED)))
		cancel_at_end(call);
	else if (res.n == -ETIMEDOUT || res.n == -ECANCELED)
		call_finish(call, JOB_READY);
	else if (res.n < 0)
		error(call, res.n, NULL);
	else
		call_finish(call, (int)res.n);
}

void call_wait_finished(struct call *call)
{
	call_watch_wait(call);
	call_park(call, store_wait(call->api->store, call->job, STORE_WAIT_FINISHED, 0, read_level(call)),
	          wait_over);
}
