/* src/http/output.h -- bytes on their way to a socket: a chain of pieces, copied together or taken over.
 *
 * Depends on: whilst.h, io/stream.h.  Used by: connection, answer, client.
 * Thread: loop.  Memory: what is copied lives in pooled buffers while there are some, else in malloc'ed pieces; a
 * chain that is empty holds nothing.
 */
#ifndef WH_HTTP_OUTPUT_H
#define WH_HTTP_OUTPUT_H

#include "io/stream.h"

struct wh__http_piece {
	struct wh__http_piece *next;
	const char *data; /* what is left to send */
	size_t len;
	uint32_t room;        /* bytes that may be appended at data + len */
	struct wh_buf *buf;   /* pooled: put when sent; the piece itself may lie in it */
	wh_function *release; /* somebody else's bytes */
	void *arg;
	bool embedded; /* the piece lies in buf */
};

struct wh__http_chain {
	struct wh__http_piece *first, *last;
};

/* wh__http_chain_bytes() - how many it has; a look at each piece. */
size_t wh__http_chain_bytes(const struct wh__http_chain *chain);

/* wh__http_chain_room() - len contiguous bytes at the end, to be filled before anything else happens to the chain; they
 * count at once. NULL: no memory. */
char *wh__http_chain_room(struct wh__http_chain *chain, wh_loop *loop, size_t len);
/* wh__http_chain_trim() - the last n bytes of the room were not needed. */
void wh__http_chain_trim(struct wh__http_chain *chain, size_t n);
/* wh__http_chain_copy() - false: no memory, nothing appended. */
bool wh__http_chain_copy(struct wh__http_chain *chain, wh_loop *loop, const void *bytes, size_t len);
/* wh__http_chain_take() - borrowed until release(arg) (NULL: for ever). false: no memory; release was not called. */
bool wh__http_chain_take(struct wh__http_chain *chain, const void *bytes, size_t len, wh_function *release,
                         void *arg);
/* wh__http_chain_take_buf() - takes buf, also on failure (false: no memory). */
bool wh__http_chain_take_buf(struct wh__http_chain *chain, struct wh_buf *buf);
/* wh__http_chain_append() - all of more moves to the end of chain. */
void wh__http_chain_append(struct wh__http_chain *chain, struct wh__http_chain *more);
/* wh__http_chain_sent() - n bytes from the front are gone; pieces that are done are released. */
void wh__http_chain_sent(struct wh__http_chain *chain, size_t n);
void wh__http_chain_clear(struct wh__http_chain *chain);
/* wh__http_chain_send() - start to send from the front, at most max bytes; *ret_len says how many. chain is not to be
 * touched, other than by append, room and copy on another chain, until the future completes. */
wh_future wh__http_chain_send(const struct wh__http_chain *chain, wh_loop *loop, struct wh__stream stream,
                              size_t max, size_t *ret_len);

#endif
