/* src/http/known.h -- heads of requests that have come before, byte for byte: they need not be parsed again.
 *
 * Clients of a server say much the same again and again: the same path, the same fields, a body of the same length. What a
 * head means depends on its bytes alone, so one that equals a head that was taken before is taken, and is found by comparing: no
 * scan, no parser. A head is remembered when it has come twice, since most of those that name a job come once.
 *
 * Depends on: parse.h.  Used by: input.c.
 * Thread: the server's loop.  Memory: at most WH__HTTP_KNOWN_MAX heads of WH__HTTP_KNOWN_BYTES_MAX bytes and as many fields as
 * fit; without memory nothing is remembered.
 */
#ifndef WH_HTTP_KNOWN_H
#define WH_HTTP_KNOWN_H

#include "http/parse.h"

enum { WH__HTTP_KNOWN_MAX = 16, WH__HTTP_KNOWN_BYTES_MAX = 1024, WH__HTTP_KNOWN_FIELDS_MAX = 32 };

struct wh__http_known_head; /* bytes and what they mean */

struct wh__http_known {
	struct wh__http_known_head *heads[WH__HTTP_KNOWN_MAX];
	uint64_t seen[WH__HTTP_KNOWN_MAX]; /* the last head that was not known here, as a hash */
};

/* Does data begin with a known head? What it means, until the next call of either function, and *ret_len bytes belong to it. NULL:
 * no, or it cannot be told without more bytes. */
struct wh__http_head *wh__http_known_find(struct wh__http_known *known, const char *data, size_t len,
                                          size_t *ret_len);

/* A whole head that was taken and was not known. */
void wh__http_known_learn(struct wh__http_known *known, const char *data, size_t len,
                          const struct wh__http_head *head);

void wh__http_known_done(struct wh__http_known *known);

#endif
