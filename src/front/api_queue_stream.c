/* src/front/api_queue_stream.c -- the events of one queue or of all, as they become durable: GET /v1/queues/{queue}/events, and GET
 * /v1/queues as an event stream.
 *
 * What there is to tell is asked of the store piece by piece, as the client takes it. Thread: the loop of the store.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "front/event_stream.h"

enum { PIECE_BYTES = 4096, EVENT_BYTES_MAX = 1024 };

struct queue_stream {
	struct event_stream base; /* first */
	struct store_follow *follow;
	bool one; /* queue, whose removal is the end */
	uint8_t namespace_len;
	char namespace[]; /* of the client, who is told of nothing else */
};

static const char *const changes[] = {
	[STORE_CHANGE_OTHER] = "other",       [STORE_CHANGE_SUBMIT] = "submit",
	[STORE_CHANGE_DUE] = "due",           [STORE_CHANGE_RESERVE] = "reserve",
	[STORE_CHANGE_PROGRESS] = "progress", [STORE_CHANGE_RETRY] = "retry",
	[STORE_CHANGE_RELEASE] = "release",   [STORE_CHANGE_RETURN] = "return",
	[STORE_CHANGE_BURY] = "bury",         [STORE_CHANGE_KICK] = "kick",
	[STORE_CHANGE_CANCEL] = "cancel",     [STORE_CHANGE_FINISH] = "finish",
	[STORE_CHANGE_EDIT] = "edit",         [STORE_CHANGE_MOVE] = "move",
	[STORE_CHANGE_REPLAY] = "replay",     [STORE_CHANGE_FORGET] = "forget",
};

static void release(struct event_stream *base)
{
	struct queue_stream *s = (struct queue_stream *)base;

	store_follow_free(s->follow);
	free(s);
}

/* The id comes last: there are clients that take it for told as soon as they have read it, though the event may be cut off. */
static void put_tail(struct wh__text *text, struct store_position position)
{
	wh__text_str(text, "}\n");
	if (position.lsn != 0)
		wh__text_format(text, "id: %u/%llu\n", position.epoch, (unsigned long long)position.lsn);
	wh__text_put(text, "\n", 1);
}

static void put_instant(struct wh__text *text, const char *name, int64_t at)
{
	char instant[WH__INSTANT_TEXT_BYTES];

	wh__text_format(text, ",\"%s\":\"%.*s\"", name, (int)wh__put_instant(instant, at), instant);
}

static void put_event(struct wh__text *text, const struct store_event *e, struct wh_slice queue)
{
	bool progress = e->change == STORE_CHANGE_PROGRESS;

	wh__text_format(text, "event: %s\ndata: {", e->job == 0 ? "queue" : progress ? "progress" : "state");
	if (e->job != 0)
		wh__text_format(text, "\"id\":%llu,", (unsigned long long)e->job);
	wh__text_str(text, "\"queue\":");
	wh__text_json(text, queue.data, queue.len);
	if (e->job == 0) {
		wh__text_format(text, ",\"removed\":%s,\"paused\":%s",
		                e->change == STORE_CHANGE_QUEUE_GONE ? "true" : "false",
		                e->paused ? "true" : "false");
	} else {
		if (e->state == JOB_NONE)
			wh__text_str(text, ",\"state\":null");
		else
			wh__text_format(text, ",\"state\":\"%s\"", answer_state(e->state));
		wh__text_format(text, ",\"change\":\"%s\",\"attempts\":%u", changes[e->change], e->attempts);
		if (e->state == JOB_DELAYED)
			put_instant(text, "run_at", e->run_at);
		if (e->cancel_requested)
			wh__text_str(text, ",\"cancel_requested\":true");
	}
	put_instant(text, "at", e->at);
	put_tail(text, e->position);
}

/* What was before is not known any more: the client has to look at the queue anew. */
static void put_reset(struct wh__text *text, const struct store_follow *follow)
{
	struct store_position now = store_follow_position(follow);

	wh__text_format(text, "event: reset\ndata: {\"position\":\"%u/%llu\"", now.epoch,
	                (unsigned long long)now.lsn);
	put_tail(text, now);
}

/* Nothing has happened here, but elsewhere the log goes on: so far a client that connects again has missed nothing. */
static size_t silence(struct event_stream *base, char *to, size_t len)
{
	struct queue_stream *s = (struct queue_stream *)base;
	struct store_position now = store_follow_reached(s->follow);

	return (size_t)snprintf(to, len, ":\nid: %u/%llu\n\n", now.epoch, (unsigned long long)now.lsn);
}

static void go_on(struct event_stream *base)
{
	struct queue_stream *s = (struct queue_stream *)base;
	char given[PIECE_BYTES];
	struct wh__text text;
	struct store_event e;
	int got = 0;

	wh__text_init(&text, given, sizeof(given));
	while (text.len + EVENT_BYTES_MAX <= PIECE_BYTES && !base->over &&
	       (got = store_follow_next(s->follow, &e)) != 0) {
		struct wh_slice queue =
			got < 0 ? (struct wh_slice){NULL, 0}
				: namespace_show((struct wh_slice){s->namespace, s->namespace_len},
		                                 answer_slice(e.queue));

		if (got < 0) {
			put_reset(&text, s->follow);
		} else if (queue.data) {
			put_event(&text, &e, queue);
			base->over = s->one && e.change == STORE_CHANGE_QUEUE_GONE;
		}
	}
	if (text.len > 0)
		event_stream_send(base, text.data, text.len);
	else
		event_stream_wait(base, store_follow_wait(s->follow));
	wh__text_done(&text);
}

void api_queue_stream(struct call *call, struct wh_slice last)
{
	struct queue_stream *s = calloc(1, sizeof(*s) + call->namespace_len);
	char given[256], subject[TARGET_NAME_BYTES_MAX + 20];
	struct store_position position;
	struct wh__text text;
	bool reset = last.len > 0 && !api_parse_position(last.data, last.len, &position),
	     parsed = last.len > 0 && !reset;
	bool lost = false;
	int error = s ? store_follow(call->api->store, (struct store_slice){call->name, call->name_len},
	                             parsed ? &position : NULL, call->read_async ? STORE_ASYNC : STORE_LOCAL,
	                             &s->follow, &lost)
	              : -ENOMEM;

	if (error < 0) {
		free(s);
		snprintf(subject, sizeof(subject), "queue '%.*s'", SHOWN(call));
		answer_error(call->api, call->x, error, NULL, JOB_NONE, subject);
		call_end(call);
		return;
	}
	s->one = call->name_len > 0;
	s->namespace_len = call->namespace_len;
	memcpy(s->namespace, call_namespace(call).data, call->namespace_len);
	s->base.silence = silence;
	wh__text_init(&text, given, sizeof(given));
	wh__text_str(&text, "retry: 1000\n");
	position = store_follow_position(s->follow);
	if (reset || lost)
		put_reset(&text, s->follow);
	else /* from where on to resume, should it end before the first event */
		wh__text_format(&text, "id: %u/%llu\n\n", position.epoch, (unsigned long long)position.lsn);
	event_stream_begin(&s->base, call, text.data, text.len, go_on, release);
	wh__text_done(&text);
}
