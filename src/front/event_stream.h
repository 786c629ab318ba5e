/* src/front/event_stream.h -- an answer of server-sent events (WHATWG HTML, section 9.2), for the handlers that give them.
 *
 * One wait or one write is under way at any moment. Idle, a stream costs itself, the exchange and that wait. It has no buffer of its own: the
 * next event is looked for when there is room for it, so a slow client holds stream_bytes_max and one event; one that makes no room
 * within stream_timeout_ns is cut off, and goes on where it was when it connects again. A comment comes when there has been nothing else for a while: streams stand in a line, the one that was silent longest
 * first, and one timer serves all of them. Thread: the loop of the store.
 */
#ifndef WH_FRONT_EVENT_STREAM_H
#define WH_FRONT_EVENT_STREAM_H

#include "front/api.h"

struct event_stream {
	struct api *api;
	wh_http_exchange *x;
	struct event_stream *next, **at; /* api->streams, by .told_at */
	wh_future waiting;
	bool is_waiting;
	bool is_idle;    /* in event_stream_wait() */
	bool silent;     /* for so long that it is called out of its wait */
	bool slow;       /* its reader is: it is cut off, not ended as if all were told */
	bool over;       /* the client has gone, or the server stops, or all has been said */
	int64_t told_at; /* wh_now(), of the last bytes */
	void (*go_on)(struct event_stream *s);   /* sends, waits or ends */
	void (*release)(struct event_stream *s); /* frees it */
	/* what is sent when there has been nothing for long, at most len bytes; NULL: a comment */
	size_t (*silence)(struct event_stream *s, char *to, size_t len);
};

/* event_stream_begin() - answer the call's request by a stream, and end the call. first: what is sent before go_on() is called for the first
 * time; may be empty. */
void event_stream_begin(struct event_stream *s, struct call *call, const char *first, size_t first_len,
                        void (*go_on)(struct event_stream *s), void (*release)(struct event_stream *s));
/* event_stream_send() - then go_on(), or the end if the stream is over. */
void event_stream_send(struct event_stream *s, const char *bytes, size_t len);
/* event_stream_wait() - until future is complete, or is cancelled for a comment to be sent, then go_on(). Its errors end the stream, but for
 * -ETIMEDOUT. */
void event_stream_wait(struct event_stream *s, wh_future future);
/* event_stream_then() - the same with a callback of the stream's own, which calls event_stream_back() first: false: the stream is over, and
 * only what the result holds is to be freed. */
void event_stream_then(struct event_stream *s, wh_future future, wh_callback *callback);
bool event_stream_back(struct event_stream *s);
void event_stream_end(struct event_stream *s);

/* For streams of another kind: event_stream_bound() - hold no more for the reader than the settings allow. event_stream_write() - as wh_http_write(),
 * in the time that they give; -ETIMEDOUT: then event_stream_cut(), which ends x and counts. */
void event_stream_bound(struct api *api, wh_http_exchange *x);
wh_future event_stream_write(struct api *api, wh_http_exchange *x, const char *bytes, size_t len);
void event_stream_cut(struct api *api, wh_http_exchange *x);

/* event_stream_data() - "data: " lines: text may hold line ends, which JSON allows between its tokens. */
void event_stream_data(struct wh__text *text, const char *data, size_t len);

/* event_stream_wanted() - is an event stream what the client would rather have? It names the type, and no other before it. */
bool event_stream_wanted(const struct request *request);

#endif
