/* src/runtime/buffer.c -- pooled buffers: an idle connection holds none.
 *
 * A few that were put back are kept for the next receive, the rest is freed, so that a burst does not hold its memory. Of those
 * that are kept, what nobody has needed for a while goes as well, but for a handful: of a server with many idle connections it
 * would be a good part of what it has.
 * Thread: loop. Memory: one allocation for a buffer and its bytes.
 */
#include "runtime/loop.h"

#include <stdlib.h>

enum {
	KEPT_MAX = 256,
	KEPT_MIN = 16,
	WHILE = 1024 /* times that one was put back */
};

struct pooled {
	struct wh_buf buf; /* what the caller sees; first */
	struct wh__buffers *pool;
	struct pooled *next;
	uint8_t bytes[];
};

struct wh__buffers {
	struct pooled *kept;
	uint32_t kept_count, out_count, out_max, bytes;
	uint32_t kept_least /* since it was looked at last */, put_count;
	bool closed; /* the loop is gone: the last buffer that comes back frees the pool */
};

struct wh__buffers *wh__buffers_open(wh_loop *loop)
{
	struct wh__buffers *pool = calloc(1, sizeof *pool);
	if (!pool)
		return NULL;
	pool->bytes = loop->options.buffer_bytes;
	pool->out_max = loop->options.buffers_max;
	return pool;
}

struct wh_buf *wh_buf_get(wh_loop *loop)
{
	struct wh__buffers *pool = loop->buffers;
	struct pooled *pooled = pool->kept;
	if (pool->out_count >= pool->out_max)
		return NULL;
	if (pooled) {
		pool->kept = pooled->next;
		if (--pool->kept_count < pool->kept_least)
			pool->kept_least = pool->kept_count;
	} else {
		pooled = malloc(sizeof *pooled + pool->bytes);
		if (!pooled)
			return NULL;
		pooled->pool = pool;
	}
	pool->out_count++;
	pooled->buf = (struct wh_buf){.data = pooled->bytes, .cap = pool->bytes};
	return &pooled->buf;
}

/* Half of those that nobody has needed: the coldest, which are the last. */
static __attribute__((noinline)) void trim(struct wh__buffers *pool)
{
	struct pooled **link = &pool->kept, *unused;
	uint32_t stay = pool->kept_count - pool->kept_least / 2;

	if (stay < KEPT_MIN)
		stay = KEPT_MIN;
	for (uint32_t i = 0; i < stay && *link; i++)
		link = &(*link)->next;
	unused = *link;
	*link = NULL;
	while (unused) {
		struct pooled *next = unused->next;
		free(unused);
		pool->kept_count--;
		unused = next;
	}
	pool->kept_least = pool->kept_count;
	pool->put_count = 0;
}

struct wh_buf *wh_buf_put(struct wh_buf *buf)
{
	if (!buf)
		return NULL;
	struct pooled *pooled = (struct pooled *)buf;
	struct wh__buffers *pool = pooled->pool;
	pool->out_count--;
	if (pool->closed || pool->kept_count >= KEPT_MAX) {
		free(pooled);
		if (pool->closed && pool->out_count == 0)
			free(pool);
	} else {
		pooled->next = pool->kept;
		pool->kept = pooled;
		pool->kept_count++;
		if (++pool->put_count >= WHILE)
			trim(pool);
	}
	return NULL;
}

struct wh__buffers *wh__buffers_close(struct wh__buffers *pool)
{
	if (!pool)
		return NULL;
	while (pool->kept) {
		struct pooled *pooled = pool->kept;
		pool->kept = pooled->next;
		free(pooled);
	}
	pool->kept_count = 0;
	pool->closed = true;
	if (pool->out_count == 0)
		free(pool);
	return NULL;
}
