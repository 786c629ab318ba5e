/* src/http/body.h -- what streamed bodies have in common at server and client.
 *
 * Depends on: whilst.h.  Used by: input, reply.  Thread: loop.
 */
#ifndef WH_HTTP_BODY_H
#define WH_HTTP_BODY_H

#include <string.h>

#include "whilst/whilst.h"

/* wh__http_body_piece() - len bytes at data, which lie in *input, as a buffer of their own: if *input is used up to its
 * end (at) it is the buffer, and *input NULL; else they are copied. NULL: no buffer. */
static inline struct wh_buf *wh__http_body_piece(wh_loop *loop, struct wh_buf **input, uint32_t at,
                                                 char *data, size_t len)
{
	struct wh_buf *buf = *input;

	if (at == buf->len) {
		*input = NULL;
		buf->cap -= (uint32_t)(data - (char *)buf->data);
		buf->data = (uint8_t *)data;
		buf->len = (uint32_t)len;
		return buf;
	}
	buf = wh_buf_get(loop);
	if (!buf || buf->cap < len)
		return wh_buf_put(buf);
	memcpy(buf->data, data, len);
	buf->len = (uint32_t)len;
	return buf;
}

#endif
