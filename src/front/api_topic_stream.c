/* src/front/api_topic_stream.c -- GET /v1/topics/{topic}/events: the events that a topic keeps, and those to come, as server-sent events.
 *
 * A small state machine on callbacks: it waits for the next event, or one is being read, or written, at any moment. So a reader costs
 * one event of memory, however slow it is and however many there are; one that is too slow is cut off (event_stream.h), and goes on where it
 * was, since the id of each is its position. What has gone before a reader came to it is told by an event of its own.
 * Thread: the loop of the store.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/api.h"
#include "front/event.h"
#include "front/event_stream.h"
#include "front/publish.h"

enum { KEEP_ALIVE_S = 15 };

struct topic_stream {
	struct api *api;
	wh_http_exchange *x;
	wh_future waiting;
	bool is_waiting, over; /* over: the client has gone, the server stops, or the topic is no more */
	bool gap;              /* to be told: some may be missing */
	uint64_t after;        /* the newest one that was told */
	uint64_t gone;         /* the newest one that had gone when that was last looked at */
	struct store_position position; /* of it; epoch 0: none yet */
	int level;
	int64_t told_at; /* wh_now(), of anything */
	size_t queue_len;
	char queue[sizeof(TOPIC_QUEUE_PREFIX) + TOPIC_NAME_BYTES_MAX];
};

static void end_as(struct topic_stream *s, bool abort)
{
	struct api *api = s->api;

	wh_http_on_close(s->x, NULL, NULL);
	wh_http_on_drain(s->x, NULL, NULL);
	if (abort)
		event_stream_cut(api, s->x);
	else
		wh_http_end(s->x);
	free(s);
	api->calls_count--;
	api->streams_count--;
	front_check_drained(api);
}

static void end(struct topic_stream *s)
{
	end_as(s, false);
}

static void go_on(struct topic_stream *s);

static void wait(struct topic_stream *s, wh_future future, wh_callback *callback)
{
	s->waiting = future;
	s->is_waiting = true;
	if (wh_then(future, callback, s) == 0)
		return;
	s->is_waiting = false;
	end(s);
}

static void on_written(wh_loop *loop, wh_res res, void *arg)
{
	struct topic_stream *s = arg;

	s->is_waiting = false;
	if (res.n == -ETIMEDOUT) /* not as if all were told */
		end_as(s, true);
	else if (res.n < 0 || s->over)
		end(s);
	else
		go_on(s);
}

static void send_bytes(struct topic_stream *s, const char *bytes, size_t len)
{
	s->told_at = wh_now(s->api->loop);
	wait(s, event_stream_write(s->api, s->x, bytes, len), on_written);
}

/* ---- one event ----------------------------------------------------------------------------- */

/* A value of several lines is one field for each; line ends are blanks of JSON. */
static void put_data(struct wh__text *to, const char *json, size_t len)
{
	while (len > 0) {
		size_t n = 0;

		while (n < len && json[n] != '\n' && json[n] != '\r')
			n++;
		wh__text_str(to, "data: ");
		wh__text_put(to, json, n);
		wh__text_put(to, "\n", 1);
		if (n < len && json[n] == '\r' && n + 1 < len && json[n + 1] == '\n')
			n++;
		n += n < len;
		json += n;
		len -= n;
	}
}

static void send_event(struct topic_stream *s, const struct store_bytes *bytes)
{
	struct wh__text json, text;
	struct event event;

	wh__text_init(&json, NULL, 0);
	wh__text_init(&text, NULL, 0);
	if (event_read_kept(&event, answer_slice(bytes->headers), answer_slice(bytes->content_type),
	                    answer_slice(bytes->body)) == EVENT_GOOD) {
		event_put_json(&json, &event, NULL, NULL);
		event_done(&event);
	}
	wh__text_format(&text, "id: %u/%llu\n", bytes->event.epoch, (unsigned long long)bytes->event.lsn);
	if (!json.failed)
		put_data(&text, json.data, json.len);
	wh__text_put(&text, "\n", 1);
	s->position = bytes->event;
	if (json.failed || text.failed || json.len == 0)
		end(s);
	else
		send_bytes(s, text.data, text.len);
	wh__text_done(&json);
	wh__text_done(&text);
}

static void send_gap(struct topic_stream *s)
{
	char text[160];
	int n;

	s->gap = false;
	if (s->position.epoch != 0)
		n = snprintf(text, sizeof(text), "event: gap\ndata: {\"after\":\"%u/%llu\"}\n\n",
		             s->position.epoch, (unsigned long long)s->position.lsn);
	else
		n = snprintf(text, sizeof(text), "event: gap\ndata: {\"after\":null}\n\n");
	send_bytes(s, text, (size_t)n);
}

static void on_event(wh_loop *loop, wh_res res, void *arg)
{
	struct topic_stream *s = arg;
	struct store_bytes *bytes = res.n >= 0 ? res.ptr : NULL;

	s->is_waiting = false;
	if (s->over) {
		end(s);
	} else if (bytes) {
		send_event(s, bytes);
	} else if (res.n == -JOB_EEXPIRED || res.n == -JOB_EUNKNOWN_JOB) { /* it has gone in this moment */
		s->gap = true;
		go_on(s);
	} else {
		end(s);
	}
	store_bytes_unref(bytes);
}

/* ---- what is next -------------------------------------------------------------------------- */

static void on_more(wh_loop *loop, wh_res res, void *arg)
{
	struct topic_stream *s = arg;

	s->is_waiting = false;
	if (s->over || (res.n < 0 && res.n != -ETIMEDOUT))
		end(s);
	else
		go_on(s);
}

static void go_on(struct topic_stream *s)
{
	struct store_slice queue = {s->queue, s->queue_len};
	int64_t keep_alive_at = s->told_at + KEEP_ALIVE_S * WH_NS_PER_S;
	uint64_t next = store_kept_next(s->api->store, queue, s->after),
		 gone = store_kept_gone(s->api->store, queue);

	/* events between the newest that was told and the next one have gone: the reader was too slow */
	if (gone > s->gone && gone > s->after && (next == 0 || gone < next)) {
		s->gone = gone;
		s->gap = true;
	}
	if (s->gap) {
		send_gap(s);
		return;
	}
	if (next != 0) {
		s->after = next;
		wait(s, store_payload(s->api->store, next, s->level), on_event);
	} else if (wh_now(s->api->loop) >= keep_alive_at) {
		send_bytes(s, ":\n\n", 3);
	} else {
		uint64_t last = store_kept_last(s->api->store, queue);

		wait(s,
		     wh_deadline(store_kept_wait(s->api->store, queue, last > s->after ? last : s->after),
		                 keep_alive_at),
		     on_more);
	}
}

static void on_over(void *arg)
{
	struct topic_stream *s = arg;

	s->over = true;
	if (s->is_waiting)
		wh_cancel(s->waiting);
}

/* ---- the beginning ------------------------------------------------------------------------- */

static void begin(struct call *call, uint64_t after, bool gap)
{
	struct topic_stream *s = malloc(sizeof(*s));
	wh_http_exchange *x = call->x;

	if (!s) {
		answer_problem(call->api, x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		call_end(call);
		return;
	}
	*s = (struct topic_stream){.api = call->api,
	                           .x = x,
	                           .gap = gap,
	                           .after = after,
	                           .position = call->position,
	                           .level = call->read_async ? STORE_ASYNC : STORE_LOCAL,
	                           .told_at = INT64_MIN / 2};
	s->queue_len = topic_queue_name(s->queue, call->name, call->name_len).len;
	wh_http_set(x, "Content-Type", "text/event-stream");
	wh_http_set(x, "Cache-Control", "no-store");
	wh_http_set(x, "X-Accel-Buffering", "no");
	wh_http_start(x, 200, WH_HTTP_CHUNKED);
	event_stream_bound(call->api, x);
	call->api->codes[200]++;
	call->api->calls_count++;
	call->api->streams_count++;
	call_end(call);
	wh_http_on_close(x, on_over, s);
	wh_http_on_drain(x, on_over, s);
	s->gone = store_kept_gone(s->api->store, (struct store_slice){s->queue, s->queue_len});
	go_on(s);
}

static void error(struct call *call, int64_t code)
{
	char subject[TARGET_NAME_BYTES_MAX + 20];

	snprintf(subject, sizeof(subject), "topic '%.*s'", SHOWN(call));
	answer_error(call->api, call->x, code,
	             code == -JOB_EVALUE ? "from: there is nothing at that position yet" : NULL, JOB_NONE,
	             subject);
	call_end(call);
}

static void found(wh_loop *loop, wh_res res, void *arg)
{
	if (res.n < 0)
		error(arg, res.n);
	else
		begin(arg, (uint64_t)res.n, res.ptr != NULL);
}

/* What did not survive the end of its epoch, or is yet to come, is no place to go on from. */
static void judged(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	char queue[sizeof(TOPIC_QUEUE_PREFIX) + TOPIC_NAME_BYTES_MAX];

	if (res.n < 0)
		error(call, res.n);
	else
		call_then(call,
		          store_kept_find(call->api->store,
		                          topic_queue_name(queue, call->name, call->name_len),
		                          call->position),
		          found);
}

static bool read_from(struct request *request, struct store_position *ret, bool *ret_beginning)
{
	struct option options[] = {{"from", OPTION_TEXT, 0, 0, false, 0, ""}};
	struct wh_slice last = request->last_event_id;

	*ret = (struct store_position){0, 0};
	*ret_beginning = false;
	if (!request_options(request, options, 1))
		return false;
	if (last.len > 0) { /* a client that connects again: it says where it was */
		if (topic_position(last.data, last.len, ret))
			return true;
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "Last-Event-ID: '%.*s' is not the id of an event, such as 3/90112",
		               (int)(last.len < 60 ? last.len : 60), last.data);
		return false;
	}
	*ret_beginning = options[0].given && strcmp(options[0].text, "beginning") == 0;
	if (!options[0].given || *ret_beginning || strcmp(options[0].text, "now") == 0 ||
	    topic_position(options[0].text, (size_t)options[0].value, ret))
		return true;
	answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
	               "query: from '%.60s' is neither now, beginning nor a position such as 3/90112",
	               options[0].text);
	return false;
}

void api_topic_stream(struct request *request)
{
	struct store_position position;
	struct topic *topic;
	struct call *call;
	bool beginning;
	int level;

	if (!request_level(request, false, &level) || !read_from(request, &position, &beginning) ||
	    !(topic = request_topic(request)))
		return;
	if (topic->config.retention_ns == 0) {
		answer_problem(request->api, request->x, PROBLEM_KEEPS_NO_EVENTS, NULL,
		               "topic '%.*s' keeps no events: give it a retention, PUT /v1/topics/{topic} "
		               "{\"retention\":\"1h\"}",
		               SHOWN(request));
		return;
	}
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	call->position = position;
	if (position.epoch != 0)
		call_then(call, store_wait_position(request->api->store, position, STORE_ASYNC), judged);
	else
		begin(call, beginning ? 0 : store_kept_last(request->api->store, topic_queue(topic)), false);
}
