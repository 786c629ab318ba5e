/* src/front/api_log_stream.c -- GET /v1/log as an event stream: told when a position is reached, and how the log goes on.
 *
 * Events tell where the log is when they are written, so movements that come while a client is slow, or within PAUSE_MS, are one
 * event; the position that was asked for does not wait for that.
 * Thread: the loop of the store.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/event_stream.h"

enum { PAUSE_MS = 100, EVENT_BYTES_MAX = 512 };

struct log_stream {
	struct event_stream base;       /* first */
	bool asked;                     /* for .position */
	struct store_position position; /* of the present epoch */
	int level;
	uint64_t told;      /* lsn of the newest event */
	int64_t pause_ends; /* wh_now() */
};

static void release(struct event_stream *base)
{
	free(base);
}

/* The last event of a stream with a position; a client that connects again after it is told that there is no more. */
static void send_reached(struct log_stream *s)
{
	char event[EVENT_BYTES_MAX];
	int n = snprintf(event, sizeof(event),
	                 "event: reached\nid: %u/%llu reached\n"
	                 "data: {\"position\":\"%u/%llu\",\"level\":\"%s\"}\n\n",
	                 s->position.epoch, (unsigned long long)s->position.lsn, s->position.epoch,
	                 (unsigned long long)s->position.lsn, answer_level(s->level));

	s->base.over = true;
	event_stream_send(&s->base, event, (size_t)n);
}

static void send_moved(struct log_stream *s, const struct store_marks *marks, uint64_t lsn)
{
	char event[EVENT_BYTES_MAX];
	int n = snprintf(event, sizeof(event),
	                 "event: log\nid: %u/%llu\n"
	                 "data: {\"epoch\":%u,\"appended\":\"%u/%llu\",\"written\":\"%u/%llu\","
	                 "\"flushed\":\"%u/%llu\"}\n\n",
	                 marks->epoch, (unsigned long long)lsn, marks->epoch, marks->epoch,
	                 (unsigned long long)marks->appended, marks->epoch,
	                 (unsigned long long)marks->written, marks->epoch,
	                 (unsigned long long)marks->flushed);

	s->told = lsn;
	s->pause_ends = wh_now(s->base.api->loop) + PAUSE_MS * WH_NS_PER_MS;
	event_stream_send(&s->base, event, (size_t)n);
}

/* Look where the log is, and send what there is to tell or wait for it. */
static void go_on(struct event_stream *base)
{
	struct log_stream *s = (struct log_stream *)base;
	wh_loop *loop = base->api->loop;
	struct store *store = base->api->store;
	struct store_marks marks;
	uint64_t lsn;

	store_marks(store, &marks);
	lsn = s->level == STORE_ASYNC ? marks.written : marks.flushed;
	if (s->asked && s->position.lsn <= lsn)
		send_reached(s);
	else if (lsn > s->told && wh_now(loop) >= s->pause_ends)
		send_moved(s, &marks, lsn);
	else if (lsn > s->told && s->asked)
		event_stream_wait(
			base, wh_deadline(store_moved(store, s->position.lsn - 1, s->level), s->pause_ends));
	else if (lsn > s->told)
		event_stream_wait(base, wh_sleep_until(loop, s->pause_ends));
	else
		event_stream_wait(base, store_moved(store, s->told, s->level));
}

/* What a client that was cut off may have missed: the end of its epoch before what it had been told. */
static size_t put_lost(const struct store_log *log, struct store_position last, char *to, size_t cap)
{
	for (size_t i = 0; i < log->epochs_count; i++)
		if (log->epochs[i].epoch == last.epoch && last.lsn > log->epochs[i].end)
			return (size_t)snprintf(to, cap,
			                        "event: lost\ndata: {\"position\":\"%u/%llu\","
			                        "\"end\":\"%u/%llu\"}\n\n",
			                        last.epoch, (unsigned long long)last.lsn, last.epoch,
			                        (unsigned long long)log->epochs[i].end);
	return 0;
}

static void got_log(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_log *log = res.ptr;
	struct log_stream *s = malloc(sizeof(*s));
	char lost[EVENT_BYTES_MAX];
	size_t lost_len = 0;

	if (res.n < 0 || !s) {
		answer_error(call->api, call->x, res.n < 0 ? res.n : -ENOMEM, NULL, JOB_NONE, "log");
		store_log_free(res.n < 0 ? NULL : log);
		free(s);
		call_end(call);
		return;
	}
	if (call->arg)
		lost_len = put_lost(log, *(const struct store_position *)call->arg, lost, sizeof(lost));
	store_log_free(log);
	*s = (struct log_stream){.asked = call->position.epoch != 0,
	                         .position = call->position,
	                         .level = call->level,
	                         .pause_ends = INT64_MIN};
	event_stream_begin(&s->base, call, lost, lost_len, go_on, release);
}

void api_log_stream(struct call *call)
{
	call_then(call, store_log(call->api->store), got_log);
}
