/* src/io/file.c -- operations on open files: fill a slot in, hand it to the engine. Thread: loop. Names: path.c;
 * copies: copy.c. */
#include "io/inner.h"
#include "io/start.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* extra: of the operation; see op.h, done */
static wh_future start_on_fd(wh_loop *loop, enum wh__opcode opcode, int fd, uint64_t len, uint64_t off,
                             uint64_t extra)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, opcode, fd, &f);
	if (!op)
		return f;
	op->len = len;
	op->off = off;
	op->done = extra;
	return wh__start(op);
}

static wh_future start_transfer(wh_loop *loop, enum wh__opcode opcode, int fd, void *buf, size_t len,
                                uint64_t off, uint8_t flags)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, opcode, fd, &f);
	if (!op)
		return f;
	if ((!buf && len > 0) || off > INT64_MAX)
		return wh__end(op, -EINVAL);
	op->buf = buf;
	op->len = len;
	op->off = off;
	op->flags = WH__BORROWS | flags;
	return wh__start(op);
}

int wh__copy_vector(struct wh__op *op, const struct iovec *iov, int count, int count_max)
{
	if (!iov || count <= 0 || count > count_max)
		return -EINVAL;
	if (count <= WH__VECTOR_MAX) {
		op->buf = wh__arguments_get(op->loop);
		op->flags |= op->buf ? WH__POOLED : 0;
	} else {
		op->buf = malloc((size_t)count * sizeof *iov);
		op->flags |= op->buf ? WH__OWNS_BUF : 0;
	}
	if (!op->buf)
		return -ENOMEM;
	memcpy(op->buf, iov, (size_t)count * sizeof *iov);
	op->len = (uint64_t)count;
	op->flags |= WH__BORROWS;
	return 0;
}

static wh_future start_vector(wh_loop *loop, enum wh__opcode opcode, int fd, const struct iovec *iov,
                              int count, uint64_t off, uint8_t flags)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, opcode, fd, &f);
	if (!op)
		return f;
	if (off > INT64_MAX)
		return wh__end(op, -EINVAL);
	int error = wh__copy_vector(op, iov, count, wh__opcode_waits(opcode) ? WH__VECTOR_MAX : IOV_MAX);
	if (error != 0)
		return wh__end(op, error);
	op->off = off;
	op->flags |= flags;
	return wh__start(op);
}

wh_future wh_close(wh_loop *loop, int fd)
{
	wh_future f;
	struct wh__op *op = wh__begin(loop, WH__OP_CLOSE, &f);
	if (op) {
		op->fd = fd;
		return fd < 0 ? wh__end(op, -EBADF) : wh__start(op);
	}
	if (!wh__loop_is_mine(loop) || loop->engine->execute)
		return f;
	int64_t n = fd < 0 ? -EBADF : wh__close_without_slot(loop, fd);
	return n == 0 ? wh__done(loop) : wh__fail(loop, n);
}

int wh_close_now(wh_loop *loop, int fd)
{
	wh_res res = {0};
	wh_future f = wh_close(loop, fd);
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	if (wh_poll(f, &res))
		return (int)(res.n < 0 && res.n != -EINPROGRESS ? res.n : 0);
	return wh_detach(f);
}

/* ---- at an offset --------------------------------------------------------------------------- */

wh_future wh_pread(wh_loop *loop, int fd, void *buf, size_t len, uint64_t off)
{
	return start_transfer(loop, WH__OP_PREAD, fd, buf, len, off, 0);
}

static void put_dropped(wh_res res, void *arg)
{
	wh_buf_put(res.ptr);
}

static void on_buf_read(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__op *outer = arg;
	struct wh_buf *buf = outer->second;
	if (res.n <= 0)
		buf = wh_buf_put(buf);
	else
		buf->len = (uint32_t)res.n;
	outer->dispose = put_dropped;
	wh__op_complete(outer, res.n, buf);
}

static void cancel_buf_read(struct wh__op *outer)
{
	wh_cancel((wh_future){outer->len});
}

wh_future wh_pread_buf(wh_loop *loop, int fd, uint64_t off)
{
	wh_future f;
	struct wh__op *outer = wh__begin(loop, WH__OP_INNER, &f);
	if (!outer)
		return f;
	struct wh_buf *buf = wh_buf_get(loop);
	if (!buf)
		return wh__end(outer, -ENOBUFS);
	f = wh__op_future(outer);
	outer->second = buf;
	outer->cancel_inner = cancel_buf_read;
	wh__inner_step(loop, wh_pread(loop, fd, buf->data, buf->cap, off), on_buf_read, outer, &outer->len);
	return f;
}

wh_future wh_pwrite(wh_loop *loop, int fd, const void *buf, size_t len, uint64_t off)
{
	return start_transfer(loop, WH__OP_PWRITE, fd, (void *)(uintptr_t)buf, len, off, 0);
}

wh_future wh_pread_all(wh_loop *loop, int fd, void *buf, size_t len, uint64_t off)
{
	return start_transfer(loop, WH__OP_PREAD, fd, buf, len, off, WH__ALL);
}

wh_future wh_pwrite_all(wh_loop *loop, int fd, const void *buf, size_t len, uint64_t off)
{
	return start_transfer(loop, WH__OP_PWRITE, fd, (void *)(uintptr_t)buf, len, off, WH__ALL);
}

wh_future wh_preadv(wh_loop *loop, int fd, const struct iovec *iov, int count, uint64_t off)
{
	return start_vector(loop, WH__OP_PREADV, fd, iov, count, off, 0);
}

wh_future wh_pwritev(wh_loop *loop, int fd, const struct iovec *iov, int count, uint64_t off)
{
	return start_vector(loop, WH__OP_PWRITEV, fd, iov, count, off, 0);
}

wh_future wh_preadv_all(wh_loop *loop, int fd, const struct iovec *iov, int count, uint64_t off)
{
	return start_vector(loop, WH__OP_PREADV, fd, iov, count, off, WH__ALL);
}

wh_future wh_pwritev_all(wh_loop *loop, int fd, const struct iovec *iov, int count, uint64_t off)
{
	return start_vector(loop, WH__OP_PWRITEV, fd, iov, count, off, WH__ALL);
}

/* ---- durable -------------------------------------------------------------------------------
 *
 * A real engine does both steps as one operation. A simulated machine has two calls of its disk, between which power may
 * be cut: outer is what the caller sees, its len names the step that is under way. */

static void on_synced(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__op *outer = arg;
	wh__op_complete(outer, res.n < 0 ? res.n : (int64_t)outer->done, NULL);
}

static void on_written(wh_loop *loop, wh_res res, void *arg);

static void start_step(struct wh__op *outer, enum wh__opcode opcode, wh_callback *callback)
{
	struct wh__op *op = wh__op_new(outer->loop, opcode);
	if (!op) {
		wh__op_complete(outer, -EAGAIN, NULL);
		return;
	}
	op->consumer = WH__CONSUMER_INTERNAL;
	op->callback = callback;
	op->arg = outer;
	op->fd = outer->fd;
	op->flags = opcode == WH__OP_FSYNC ? WH__DATA_ONLY : WH__ALL;
	op->buf = outer->buf;
	op->len = outer->done;
	op->off = outer->off;
	outer->len = wh__op_future(op).id;
	(void)wh__start(op);
}

static void on_written(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__op *outer = arg;
	if (res.n < 0)
		wh__op_complete(outer, res.n, NULL);
	else
		start_step(outer, WH__OP_FSYNC, on_synced);
}

static void cancel_step(struct wh__op *outer)
{
	wh_cancel((wh_future){outer->len});
}

wh_future wh_append_durable(wh_loop *loop, int fd, const void *buf, size_t len, uint64_t off)
{
	wh_future f;
	bool mine = wh__loop_is_mine(loop), in_steps = mine && loop->engine->execute;
	if (mine)
		loop->file_sync_count++;
	if (!in_steps)
		return start_transfer(loop, WH__OP_APPEND, fd, (void *)(uintptr_t)buf, len, off, WH__ALL);
	struct wh__op *outer = wh__begin_on(loop, WH__OP_INNER, fd, &f);
	if (!outer)
		return f;
	if ((!buf && len > 0) || off > INT64_MAX)
		return wh__end(outer, -EINVAL);
	f = wh__op_future(outer);
	outer->buf = (void *)(uintptr_t)buf;
	outer->done = len;
	outer->off = off;
	outer->flags = WH__BORROWS;
	outer->cancel_inner = cancel_step;
	start_step(outer, WH__OP_PWRITE, on_written);
	return f;
}

/* ---- in order ------------------------------------------------------------------------------- */

wh_future wh_read(wh_loop *loop, int fd, void *buf, size_t len)
{
	return start_transfer(loop, WH__OP_READ, fd, buf, len, 0, 0);
}

wh_future wh_write(wh_loop *loop, int fd, const void *buf, size_t len)
{
	return start_transfer(loop, WH__OP_WRITE, fd, (void *)(uintptr_t)buf, len, 0, 0);
}

wh_future wh_write_all(wh_loop *loop, int fd, const void *buf, size_t len)
{
	return start_transfer(loop, WH__OP_WRITE, fd, (void *)(uintptr_t)buf, len, 0, WH__ALL);
}

wh_future wh_readv(wh_loop *loop, int fd, const struct iovec *iov, int count)
{
	return start_vector(loop, WH__OP_READV, fd, iov, count, 0, 0);
}

wh_future wh_writev_all(wh_loop *loop, int fd, const struct iovec *iov, int count)
{
	return start_vector(loop, WH__OP_WRITEV, fd, iov, count, 0, WH__ALL);
}

int wh_pipe(wh_loop *loop, int ret[2])
{
	int ends[2];
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	if (loop->engine->sockets)
		return loop->engine->sockets->pipe(loop, ret);
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0)
		return -errno;
	for (int i = 0; i < 2; i++)
		wh__descriptor_given(loop, ret[i] = ends[i]);
	return 0;
}

/* ---- content -------------------------------------------------------------------------------- */

wh_future wh_fsync(wh_loop *loop, int fd, bool data_only)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, WH__OP_FSYNC, fd, &f);
	if (!op)
		return f;
	loop->file_sync_count++;
	op->flags = data_only ? WH__DATA_ONLY : 0;
	return wh__start(op);
}

wh_future wh_truncate(wh_loop *loop, int fd, uint64_t len)
{
	return start_on_fd(loop, WH__OP_TRUNCATE, fd, len, 0, 0);
}

wh_future wh_allocate(wh_loop *loop, int fd, uint64_t off, uint64_t len)
{
	return start_on_fd(loop, WH__OP_ALLOCATE, fd, len, off, 0);
}

wh_future wh_allocate_mode(wh_loop *loop, int fd, int mode, uint64_t off, uint64_t len)
{
	return start_on_fd(loop, WH__OP_ALLOCATE, fd, len, off, (unsigned int)mode);
}

wh_future wh_size(wh_loop *loop, int fd)
{
	return start_on_fd(loop, WH__OP_SIZE, fd, 0, 0, 0);
}

wh_future wh_advise(wh_loop *loop, int fd, uint64_t off, uint64_t len, int advice)
{
	return start_on_fd(loop, WH__OP_ADVISE, fd, len, off, (unsigned int)advice);
}

wh_future wh_sync_range(wh_loop *loop, int fd, uint64_t off, uint64_t len, int flags)
{
	return start_on_fd(loop, WH__OP_SYNC_RANGE, fd, len, off, (unsigned int)flags);
}

wh_future wh_lock(wh_loop *loop, int fd)
{
	return start_on_fd(loop, WH__OP_LOCK, fd, LOCK_EX, 0, 0);
}

wh_future wh_lock_shared(wh_loop *loop, int fd)
{
	return start_on_fd(loop, WH__OP_LOCK, fd, LOCK_SH, 0, 0);
}

wh_future wh_unlock(wh_loop *loop, int fd)
{
	return start_on_fd(loop, WH__OP_LOCK, fd, LOCK_UN, 0, 0);
}

wh_future wh_disk_free(wh_loop *loop, int fd)
{
	return start_on_fd(loop, WH__OP_DISK_FREE, fd, 0, 0, 0);
}

/* ---- blocking forms ------------------------------------------------------------------------ */

static int64_t execute(wh_loop *loop, struct wh__op *op)
{
	void *ptr;
	op->loop = loop;
	return loop->engine->execute ? loop->engine->execute(op, &ptr) : wh__op_execute(op, &ptr);
}

int64_t wh_pread_blocking(wh_loop *loop, int fd, void *buf, size_t len, uint64_t off)
{
	struct wh__op op = {
		.opcode = WH__OP_PREAD, .flags = WH__ALL, .fd = fd, .buf = buf, .len = len, .off = off};
	return wh__loop_is_mine(loop) ? execute(loop, &op) : -EPERM;
}

int64_t wh_pwrite_blocking(wh_loop *loop, int fd, const void *buf, size_t len, uint64_t off)
{
	struct wh__op op = {.opcode = WH__OP_PWRITE,
	                    .flags = WH__ALL,
	                    .fd = fd,
	                    .buf = (void *)(uintptr_t)buf,
	                    .len = len,
	                    .off = off};
	return wh__loop_is_mine(loop) ? execute(loop, &op) : -EPERM;
}

int64_t wh_pwritev_blocking(wh_loop *loop, int fd, const struct iovec *iov, int count, uint64_t off)
{
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	if (!loop->engine->execute && count <= IOV_MAX) {
		ssize_t n;
		size_t wanted = 0;
		for (int i = 0; i < count; i++)
			wanted += iov[i].iov_len;
		do
			n = pwritev(fd, iov, count, (off_t)off);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return -errno;
		if ((size_t)n == wanted)
			return n;
		/* short: go on piece by piece, from the start, which writes the same bytes again */
	}
	int64_t total = 0;
	for (int i = 0; i < count; i++) {
		int64_t n =
			wh_pwrite_blocking(loop, fd, iov[i].iov_base, iov[i].iov_len, off + (uint64_t)total);
		if (n < 0)
			return n;
		total += n;
	}
	return total;
}

int64_t wh_fsync_blocking(wh_loop *loop, int fd, bool data_only)
{
	struct wh__op op = {.opcode = WH__OP_FSYNC, .flags = data_only ? WH__DATA_ONLY : 0, .fd = fd};
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	loop->file_sync_count++;
	return execute(loop, &op);
}
