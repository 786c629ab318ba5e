/* src/engine/uring_buffers.c -- pooled buffers that the kernel chooses from when data arrives.
 *
 * So an idle connection holds no buffer, and a receive is still one trip through the ring. The kernel is given few
 * buffers with the first such receive and more whenever it runs out; a receive that found none is waited for by poll and done then.
 *
 * Thread: loop. Memory: the buffers given count as taken from the loop's pool.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/uring.h"

static size_t ring_bytes(void)
{
	return WH__URING_BUFFERS_MAX * sizeof(struct io_uring_buf);
}

void wh__uring_buffers_open(struct wh__uring *u)
{
	/* A small pool is the program's own, to the last buffer. */
	if (u->loop->options.buffers_max < 8 * WH__URING_BUFFERS_MAX)
		return;
	void *memory = mmap(NULL, ring_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return;
	struct io_uring_buf_reg registration = {.ring_addr = (uint64_t)(uintptr_t)memory,
	                                        .ring_entries = WH__URING_BUFFERS_MAX,
	                                        .bgid = WH__URING_BUFFER_GROUP};
	if (io_uring_register_buf_ring(&u->ring, &registration, 0) != 0) {
		munmap(memory, ring_bytes());
		return;
	}
	u->buffer_ring = memory;
	io_uring_buf_ring_init(u->buffer_ring);
	u->buffers_target = WH__URING_BUFFERS_MIN;
	for (uint32_t i = 0; i < WH__URING_BUFFERS_MAX; i++)
		u->buffers_absent[u->buffers_absent_count++] = (uint16_t)(WH__URING_BUFFERS_MAX - 1 - i);
	u->has.buffers = true;
}

void wh__uring_buffers_fill(struct wh__uring *u)
{
	int added = 0;
	while (u->buffers_given < u->buffers_target) {
		struct wh_buf *buf = wh_buf_get(u->loop);
		if (!buf)
			break;
		uint16_t id = u->buffers_absent[--u->buffers_absent_count];
		u->buffers[id] = buf;
		u->buffers_given++;
		io_uring_buf_ring_add(u->buffer_ring, buf->data, buf->cap, id,
		                      io_uring_buf_ring_mask(WH__URING_BUFFERS_MAX), added++);
	}
	if (added)
		io_uring_buf_ring_advance(u->buffer_ring, added);
}

void wh__uring_buffers_more(struct wh__uring *u)
{
	if (u->buffers_given == u->buffers_target && u->buffers_target < WH__URING_BUFFERS_MAX)
		u->buffers_target *= 2;
	wh__uring_buffers_fill(u);
}

struct wh_buf *wh__uring_buffers_take(struct wh__uring *u, uint32_t cqe_flags)
{
	uint16_t id = (uint16_t)(cqe_flags >> IORING_CQE_BUFFER_SHIFT);
	struct wh_buf *buf = u->buffers[id];
	u->buffers[id] = NULL;
	u->buffers_absent[u->buffers_absent_count++] = id;
	u->buffers_given--;
	return buf;
}

void wh__uring_buffers_close(struct wh__uring *u)
{
	if (!u->has.buffers)
		return;
	for (uint32_t i = 0; i < WH__URING_BUFFERS_MAX; i++)
		wh_buf_put(u->buffers[i]);
	munmap(u->buffer_ring, ring_bytes());
}
