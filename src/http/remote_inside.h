/* src/http/remote_inside.h -- what the two files of the handlers' side of a server with threads share.
 *
 * Depends on: threads.h, remote.h.  Used by: remote, remote_answer.  Thread: the handlers' loop.
 */
#ifndef WH_HTTP_REMOTE_INSIDE_H
#define WH_HTTP_REMOTE_INSIDE_H

#include "http/remote.h"
#include "http/threads.h"

static inline struct wh__http_ticket *ticket_of(wh_http_exchange *x)
{
	return (struct wh__http_ticket *)(void *)x;
}

static inline const struct wh__http_ticket *const_ticket_of(const wh_http_exchange *x)
{
	return (const struct wh__http_ticket *)(const void *)x;
}

static inline struct wh__http_hub *hub_of(const struct wh__http_ticket *t)
{
	return t->lane->thread->hub;
}

static inline wh_loop *loop_of(const struct wh__http_ticket *t)
{
	return hub_of(t)->server->loop;
}

static inline void put(struct wh__http_ticket *t, struct wh__http_note *note, enum wh__http_note_kind kind)
{
	wh__http_way_put(&t->lane->thread->out, note, kind);
}

/* remote.c: wh__http_remote_over() - the answer is there, of which .reply says what it is. */
void wh__http_remote_over(struct wh__http_ticket *t);

/* remote_answer.c: wh__http_remote_fail() - the connection is to be taken down. wh__http_remote_take_room(): a note. */
void wh__http_remote_fail(struct wh__http_ticket *t);
void wh__http_remote_take_room(struct wh__http_ticket *t);

#endif
