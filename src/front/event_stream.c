/* src/front/event_stream.c -- an answer of server-sent events. See event_stream.h. */
#include "front/event_stream.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

enum { KEEP_ALIVE_S = 15, SILENCE_BYTES = 64 };

static const char type[] = "text/event-stream";

bool event_stream_wanted(const struct request *request)
{
	return wh_http_method(request->x) == WH_HTTP_GET && request->accept.len >= sizeof(type) - 1 &&
	       strncasecmp(request->accept.data, type, sizeof(type) - 1) == 0;
}

static void leave_line(struct event_stream *s)
{
	*s->at = s->next;
	if (s->next)
		s->next->at = s->at;
	else
		s->api->streams_last = s->at;
}

/* The last in line: it was silent for the shortest time. */
static void enter_line(struct event_stream *s)
{
	struct api *api = s->api;

	s->told_at = wh_now(api->loop);
	s->next = NULL;
	s->at = api->streams ? api->streams_last : &api->streams;
	*s->at = s;
	api->streams_last = &s->next;
}

static void set_timer(struct api *api);

/* Who has been silent for long is called out of its wait: see on_waited(). Who writes to a slow client is not. */
static void on_timer(wh_loop *loop, wh_res res, void *arg)
{
	int64_t due = wh_now(loop) - KEEP_ALIVE_S * WH_NS_PER_S;
	struct api *api = arg;

	api->streams_timed = false;
	api->calls_count--;
	while (api->streams && api->streams->told_at <= due && res.n >= 0) {
		struct event_stream *s = api->streams;

		leave_line(s);
		enter_line(s);
		if (s->is_idle) {
			s->silent = true;
			wh_cancel(s->waiting);
		}
	}
	set_timer(api);
	front_check_drained(api);
}

static void set_timer(struct api *api)
{
	if (api->streams_timed || !api->streams)
		return;
	api->streams_timer = wh_sleep_until(api->loop, api->streams->told_at + KEEP_ALIVE_S * WH_NS_PER_S);
	if (wh_then(api->streams_timer, on_timer, api) != 0)
		return; /* no memory: the next one to be told something tries again */
	api->streams_timed = true;
	api->calls_count++;
}

void event_stream_bound(struct api *api, wh_http_exchange *x)
{
	wh_http_set_unsent_max(x, api->options.stream_bytes_max);
}

wh_future event_stream_write(struct api *api, wh_http_exchange *x, const char *bytes, size_t len)
{
	wh_future written = wh_http_write(x, bytes, len);

	if (wh_done(written) || api->options.stream_timeout_ns <= 0)
		return written;
	return wh_deadline(written, wh_now(api->loop) + api->options.stream_timeout_ns);
}

void event_stream_cut(struct api *api, wh_http_exchange *x)
{
	api->streams_dropped++;
	wh_http_abort(x);
}

void event_stream_end(struct event_stream *s)
{
	struct api *api = s->api;

	wh_http_on_half_close(s->x, NULL, NULL);
	wh_http_on_drain(s->x, NULL, NULL);
	if (s->slow)
		event_stream_cut(api, s->x);
	else
		wh_http_end(s->x);
	leave_line(s);
	s->release(s);
	api->streams_count--;
	api->calls_count--;
	if (!api->streams && api->streams_timed)
		wh_cancel(api->streams_timer);
	front_check_drained(api);
}

bool event_stream_back(struct event_stream *s)
{
	s->is_waiting = false;
	if (!s->over)
		return true;
	event_stream_end(s);
	return false;
}

void event_stream_then(struct event_stream *s, wh_future future, wh_callback *callback)
{
	s->waiting = future;
	s->is_waiting = true;
	if (wh_then(future, callback, s) == 0)
		return;
	s->is_waiting = false;
	event_stream_end(s);
}

static void on_written(wh_loop *loop, wh_res res, void *arg)
{
	struct event_stream *s = arg;

	s->slow = res.n == -ETIMEDOUT;
	s->over = s->over || res.n < 0;
	if (event_stream_back(s))
		s->go_on(s);
}

void event_stream_send(struct event_stream *s, const char *bytes, size_t len)
{
	leave_line(s);
	enter_line(s);
	set_timer(s->api);
	event_stream_then(s, event_stream_write(s->api, s->x, bytes, len), on_written);
}

static void send_silence(struct event_stream *s)
{
	char text[SILENCE_BYTES] = ":\n\n";
	size_t len = s->silence ? s->silence(s, text, sizeof(text)) : 3;

	event_stream_send(s, text, len);
}

static void on_waited(wh_loop *loop, wh_res res, void *arg)
{
	struct event_stream *s = arg;
	bool silent = s->silent;

	s->silent = s->is_idle = false;
	/* a log that fails ends the process: a client that connects again learns what became of it */
	s->over = s->over || (res.n < 0 && res.n != -ETIMEDOUT && !(silent && res.n == -ECANCELED));
	if (!event_stream_back(s))
		return;
	if (silent)
		send_silence(s);
	else
		s->go_on(s);
}

void event_stream_wait(struct event_stream *s, wh_future future)
{
	s->is_idle = true;
	event_stream_then(s, future, on_waited);
}

static void on_over(void *arg)
{
	struct event_stream *s = arg;

	s->over = true;
	if (s->is_waiting)
		wh_cancel(s->waiting);
}

void event_stream_begin(struct event_stream *s, struct call *call, const char *first, size_t first_len,
                        void (*go_on)(struct event_stream *s), void (*release)(struct event_stream *s))
{
	wh_http_exchange *x = call->x;

	s->api = call->api;
	s->x = x;
	s->is_waiting = s->is_idle = s->silent = s->slow = s->over = false;
	s->go_on = go_on;
	s->release = release;
	wh_http_set(x, "Content-Type", type);
	wh_http_set(x, "Cache-Control", "no-store");
	wh_http_set(x, "X-Accel-Buffering", "no"); /* nginx gathers answers otherwise */
	wh_http_set(x, "Vary", "Accept");
	wh_http_start(x, 200, WH_HTTP_CHUNKED);
	event_stream_bound(s->api, x);
	answer_count(s->api, x, 200);
	s->api->calls_count++;
	s->api->streams_count++;
	enter_line(s);
	set_timer(s->api);
	call_end(call);
	/* who follows and has closed looks like one that has ended its sending side only, until something is written */
	wh_http_on_half_close(x, on_over, s);
	wh_http_on_drain(x, on_over, s);
	if (first_len > 0)
		event_stream_send(s, first, first_len);
	else
		go_on(s);
}

void event_stream_data(struct wh__text *text, const char *data, size_t len)
{
	size_t from = 0;

	for (size_t i = 0; i <= len; i++) {
		if (i < len && data[i] != '\n' && data[i] != '\r')
			continue;
		if (i > from || i == len) {
			wh__text_str(text, "data: ");
			wh__text_put(text, data + from, i - from);
			wh__text_put(text, "\n", 1);
		}
		from = i + 1;
	}
}
