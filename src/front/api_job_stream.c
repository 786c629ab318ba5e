/* src/front/api_job_stream.c -- GET /v1/jobs/{id} as an event stream: told whenever the job has changed, until its end.
 *
 * Each event is the job as a poll would show it, so a client needs no other request, and one that was cut off has missed nothing once it
 * has the next. Changes that come while a client is slow are one event: the newest. Thread: the loop of the store.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/event_stream.h"

struct job_stream {
	struct event_stream base; /* first */
	uint64_t job;
	int level;
	bool known;        /* .version is what the client has */
	uint64_t version;  /* of the newest event */
	uint64_t progress; /* a hash of it */
	uint8_t state;
	uint8_t namespace_len;
	char namespace[]; /* of the client */
};

static const char ended[] = " end";

static void release(struct event_stream *base)
{
	free(base);
}

static uint64_t hash(struct store_slice text) /* FNV-1a */
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < text.len; i++)
		h = (h ^ ((const unsigned char *)text.data)[i]) * UINT64_C(0x100000001b3);
	return h;
}

static void send_text(struct job_stream *s, struct wh__text *text)
{
	if (text->failed) {
		s->base.over = true;
		wh__text_done(text);
		event_stream_end(&s->base);
		return;
	}
	event_stream_send(&s->base, text->data, text->len);
	wh__text_done(text);
}

/* The job has ended, and was forgotten before its end was read. */
static void send_gone(struct job_stream *s)
{
	char data[64], given[256];
	struct wh__text text;
	int n = snprintf(data, sizeof(data), "{\"id\":%llu,\"state\":null}", (unsigned long long)s->job);

	wh__text_init(&text, given, sizeof(given));
	wh__text_str(&text, "event: end\n");
	event_stream_data(&text, data, (size_t)n);
	wh__text_format(&text, "id: %llx%s\n\n", (unsigned long long)s->version, ended);
	s->base.over = true;
	send_text(s, &text);
}

static void send_view(struct job_stream *s, const struct store_view *view)
{
	bool end = job_state_finished(view->state), moved = !s->known || view->state != s->state;
	uint64_t progress = hash(view->progress);
	char given[1024], room[1200];
	struct wh__text json, text;
	const char *event = end ? "end" : moved || progress == s->progress ? "state" : "progress";

	wh__text_init(&json, given, sizeof(given));
	answer_view(&json, view, (struct wh_slice){s->namespace, s->namespace_len});
	wh__text_init(&text, room, sizeof(room));
	wh__text_format(&text, "event: %s\n", event);
	event_stream_data(&text, json.failed ? "" : json.data, json.failed ? 0 : json.len);
	wh__text_format(&text, "id: %llx%s\n\n", (unsigned long long)view->version, end ? ended : "");
	text.failed = text.failed || json.failed;
	wh__text_done(&json);
	s->known = true;
	s->version = view->version;
	s->state = view->state;
	s->progress = progress;
	s->base.over = end;
	send_text(s, &text);
}

static void wait_for_change(struct job_stream *s)
{
	event_stream_wait(&s->base,
	                  store_wait(s->base.api->store, s->job, STORE_WAIT_CHANGE, s->version, s->level));
}

static void got_view(wh_loop *loop, wh_res res, void *arg)
{
	struct job_stream *s = arg;
	struct store_view *view = res.n >= 0 ? res.ptr : NULL;

	if (!event_stream_back(&s->base)) {
		store_view_free(view);
		return;
	}
	if (!view && res.n != -JOB_EEXPIRED && res.n != -JOB_EUNKNOWN_JOB)
		event_stream_end(&s->base);
	else if (!view)
		send_gone(s);
	else if (s->known && view->version == s->version)
		wait_for_change(s);
	else
		send_view(s, view);
	store_view_free(view);
}

/* Whatever has been waited for: how is the job now? */
static void go_on(struct event_stream *base)
{
	struct job_stream *s = (struct job_stream *)base;

	event_stream_then(base, store_get(base->api->store, s->job, s->level), got_view);
}

/* Is there such a job? If not, the answer is no stream. */
static void judged(wh_loop *loop, wh_res res, void *arg)
{
	static const char first[] = "retry: 1000\n\n";
	struct call *call = arg;
	struct job_stream *s = call->arg;

	if (res.n < 0) {
		call_refuse(call, res.n, NULL);
		return;
	}
	store_view_free(res.ptr);
	call->arg = NULL;
	event_stream_begin(&s->base, call, first, sizeof(first) - 1, go_on, release);
}

void api_job_stream(struct call *call, struct wh_slice last)
{
	struct job_stream *s;
	char tag[20];

	if (last.len >= sizeof(ended) - 1 &&
	    memcmp(last.data + last.len - (sizeof(ended) - 1), ended, sizeof(ended) - 1) == 0) {
		answer_bytes(call->api, call->x, 204, NULL, "", 0); /* all has been told */
		call_end(call);
		return;
	}
	s = calloc(1, sizeof(*s) + call->namespace_len);
	if (!s) {
		answer_problem(call->api, call->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		call_end(call);
		return;
	}
	s->job = call->job;
	s->namespace_len = call->namespace_len;
	memcpy(s->namespace, call_namespace(call).data, call->namespace_len);
	s->level = call->read_async ? STORE_ASYNC : STORE_LOCAL;
	if (last.len > 0 && last.len < sizeof(tag)) {
		char *rest;

		memcpy(tag, last.data, last.len);
		tag[last.len] = 0;
		s->version = strtoull(tag, &rest, 16);
		s->known = *rest == 0;
	}
	call->arg = s;
	call_then(call, store_get(call->api->store, s->job, s->level), judged);
}
