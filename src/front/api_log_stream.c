/* src/front/api_log_stream.c -- GET /v1/log as an event stream: told when a position is reached, and how the log goes on.
 *
 * A small state machine on callbacks: one wait at the log's mark with a limit in time, or one write, is under way at any
 * moment. Idle, it costs itself, the exchange and that wait. Events tell where the log is when they are written, so movements
 * that come while a client is slow, or within PAUSE_MS, are one event; the position that was asked for does not wait for that.
 * Thread: the loop of the store.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/api.h"

enum { PAUSE_MS = 100, KEEP_ALIVE_S = 15, EVENT_BYTES_MAX = 512 };

struct log_stream {
	struct api *api;
	wh_http_exchange *x;
	wh_future waiting;
	bool is_waiting, over;          /* over: the client has gone, or the server stops */
	bool asked;                     /* for .position */
	struct store_position position; /* of the present epoch */
	int level;
	uint64_t told;   /* lsn of the newest event */
	int64_t told_at; /* wh_now(), of any event */
};

static void end(struct log_stream *s)
{
	struct api *api = s->api;

	wh_http_on_close(s->x, NULL, NULL);
	wh_http_on_drain(s->x, NULL, NULL);
	wh_http_end(s->x);
	free(s);
	api->calls_count--;
	front_check_drained(api);
}

static void go_on(struct log_stream *s);

static void on_written(wh_loop *loop, wh_res res, void *arg)
{
	struct log_stream *s = arg;

	s->is_waiting = false;
	if (res.n < 0 || s->over)
		end(s);
	else
		go_on(s);
}

static void on_moved(wh_loop *loop, wh_res res, void *arg)
{
	struct log_stream *s = arg;

	s->is_waiting = false;
	/* a log that fails ends the process: a client that connects again learns what became of its position */
	if (s->over || (res.n < 0 && res.n != -ETIMEDOUT))
		end(s);
	else
		go_on(s);
}

static void wait(struct log_stream *s, wh_future future, wh_callback *callback)
{
	s->waiting = future;
	s->is_waiting = true;
	if (wh_then(future, callback, s) == 0)
		return;
	s->is_waiting = false;
	end(s);
}

static void send_bytes(struct log_stream *s, const char *bytes, size_t len)
{
	s->told_at = wh_now(s->api->loop);
	wait(s, wh_http_write(s->x, bytes, len), on_written);
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

	s->over = true;
	send_bytes(s, event, (size_t)n);
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
	send_bytes(s, event, (size_t)n);
}

/* Look where the log is, and send what there is to tell or wait for it. */
static void go_on(struct log_stream *s)
{
	wh_loop *loop = s->api->loop;
	int64_t now = wh_now(loop), pause_ends = s->told_at + PAUSE_MS * WH_NS_PER_MS;
	int64_t keep_alive_at = s->told_at + KEEP_ALIVE_S * WH_NS_PER_S;
	struct store_marks marks;
	uint64_t lsn;

	store_marks(s->api->store, &marks);
	lsn = s->level == STORE_ASYNC ? marks.written : marks.flushed;
	if (s->asked && s->position.lsn <= lsn)
		send_reached(s);
	else if (lsn > s->told && now >= pause_ends)
		send_moved(s, &marks, lsn);
	else if (now >= keep_alive_at)
		send_bytes(s, ":\n\n", 3);
	else if (lsn > s->told && s->asked)
		wait(s, wh_deadline(store_moved(s->api->store, s->position.lsn - 1, s->level), pause_ends),
		     on_moved);
	else if (lsn > s->told)
		wait(s, wh_sleep_until(loop, pause_ends), on_moved);
	else
		wait(s, wh_deadline(store_moved(s->api->store, s->told, s->level), keep_alive_at), on_moved);
}

static void on_over(void *arg)
{
	struct log_stream *s = arg;

	s->over = true;
	if (s->is_waiting)
		wh_cancel(s->waiting);
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

static void begin(struct call *call, struct log_stream *s, const char *first, size_t first_len)
{
	wh_http_exchange *x = call->x;

	*s = (struct log_stream){.api = call->api,
	                         .x = x,
	                         .asked = call->position.epoch != 0,
	                         .position = call->position,
	                         .level = call->level,
	                         .told_at = INT64_MIN / 2};
	wh_http_set(x, "Content-Type", "text/event-stream");
	wh_http_set(x, "Cache-Control", "no-store");
	wh_http_set(x, "Vary", "Accept");
	wh_http_start(x, 200, WH_HTTP_CHUNKED);
	call->api->codes[200]++;
	call->api->calls_count++;
	call_end(call);
	wh_http_on_close(x, on_over, s);
	wh_http_on_drain(x, on_over, s);
	if (first_len > 0)
		wait(s, wh_http_write(x, first, first_len), on_written);
	else
		go_on(s);
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
	begin(call, s, lost, lost_len);
}

void api_log_stream(struct call *call)
{
	call_then(call, store_log(call->api->store), got_log);
}
