/* src/front/api_job.c -- /v1/jobs/{id}: poll, wait, follow, result, payload, cancel, kick. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deliver/push.h"
#include "front/event_stream.h"

static void look(struct request *request, enum call_kind kind)
{
	struct call *call;
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, false, &level))
		return;
	call = call_new(request, kind);
	if (!call)
		return;
	if (kind == CALL_POLL && event_stream_wanted(request)) {
		api_job_stream(call, request->last_event_id);
		return;
	}
	call->is_page = kind == CALL_RESULT && answer_is_page(request->x);
	call_set_wait(call, request);
	if (request->if_none_match && kind == CALL_POLL)
		call->retained = wh_http_retain(request->x) == 0;
	if (request->prefer.wait && request->prefer.wait_s > 0)
		call_wait_finished(call);
	else
		call_finish(call, kind == CALL_RESULT ? JOB_NONE : JOB_READY);
}

void api_job_get(struct request *request)
{
	look(request, CALL_POLL);
}

void api_job_result(struct request *request)
{
	look(request, CALL_RESULT);
}

static void release_bytes(void *arg)
{
	store_bytes_unref(arg);
}

static void got_payload(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_bytes *bytes = res.ptr;

	if (res.n < 0) {
		call_refuse(call, res.n, NULL);
		return;
	}
	if (bytes->content_type.len > 0)
		wh_http_set_slice(call->x, (struct wh_slice){"Content-Type", 12},
		                  answer_slice(bytes->content_type));
	answer_foreign(call, bytes->content_type);
	answer_kept(call->x, bytes->headers);
	answer_event(call->x, bytes);
	if (download_bytes(call, 200, bytes))
		return;
	answer_count(call->api, call->x, 200);
	wh_http_respond_own(call->x, 200, bytes->body.data, bytes->body.len, release_bytes, bytes);
	call_end(call);
}

void api_job_payload(struct request *request)
{
	struct call *call;
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, false, &level))
		return;
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	call->is_page = answer_is_page(request->x);
	call_then(call, store_payload(request->api->store, request->job, request_read_level(request)),
	          got_payload);
}

/* Cancel and kick: one action, then how the job is now. */
static void changed(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	int64_t code = res.n < 0 ? res.n : commit->error;
	int state = res.n < 0 ? JOB_NONE : commit->results[0].state;
	const char *reason = res.n < 0 ? NULL : commit->reason;
	struct store_slice queue;
	char body[128];
	bool running;
	int n;

	if (res.n >= 0 && code == 0)
		answer_committed(call->x, commit->level, commit->position);
	if (res.n >= 0)
		store_commit_free(commit);
	if (code != 0) {
		call_refuse(call, code, reason);
		return;
	}
	running = call->action == STORE_CANCEL && state == JOB_RUNNING;
	if (running && store_queue_of(call->api->store, call->job, &queue) == 0)
		push_cancelled(call->api->push, queue, call->job);
	n = snprintf(body, sizeof(body), "{\"id\":%llu,\"state\":\"%s\"%s}\n", (unsigned long long)call->job,
	             answer_state(state), running ? ",\"cancel_requested\":true" : "");
	answer_bytes(call->api, call->x, running ? 202 : 200, "application/json", body, (size_t)n);
	call_end(call);
}

static void change(struct request *request, int kind)
{
	struct store_action action = {.kind = kind, .job = request->job};
	struct call *call;
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, false, &level))
		return;
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	call->action = (uint8_t)kind;
	call_then(call, store_apply(request->api->store, &action, 1, 0, level), changed);
}

void api_job_cancel(struct request *request)
{
	change(request, STORE_CANCEL);
}

void api_job_kick(struct request *request)
{
	change(request, STORE_KICK);
}
