/* src/io/start.h -- what the files of io share to begin an operation.
 *
 * Depends on: runtime/loop.h.  Used by: io only.  Thread: loop.
 */
#ifndef WH_IO_START_H
#define WH_IO_START_H

#include <errno.h>

#include "runtime/loop.h"

/* wh__begin_on() - wh__begin() for an operation on a descriptor; -EBADF for a number below 0. */
static inline struct wh__op *wh__begin_on(wh_loop *loop, enum wh__opcode opcode, int fd,
                                          wh_future *ret_failed)
{
	struct wh__op *op = wh__begin(loop, opcode, ret_failed);
	if (!op)
		return NULL;
	op->fd = fd;
	if (fd >= 0)
		return op;
	*ret_failed = wh__end(op, -EBADF);
	return NULL;
}

/* wh__copy_vector() - op->buf and op->len become a copy of iov. 0, -EINVAL, -ENOMEM. (file.c) */
int wh__copy_vector(struct wh__op *op, const struct iovec *iov, int count, int count_max);

/* wh__close_dropped() - disposer: the result is a descriptor, arg its loop. */
static inline void wh__close_dropped(wh_res res, void *arg)
{
	/* nobody learned the number, so nothing of ours is on it */
	(void)wh_drop(wh_close((wh_loop *)arg, (int)res.n));
}

#endif
