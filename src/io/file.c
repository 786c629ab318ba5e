/* src/io/file.c -- operations on files: fill a slot in, hand it to the engine. Thread: loop. */
#include "runtime/loop.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

static wh_future start_on_path(wh_loop *loop, enum wh__opcode opcode, const char *path, uint64_t len,
                               uint64_t off, wh_disposer *dispose, void *arg)
{
	wh_future failed;
	struct wh__op *op = wh__begin(loop, opcode, &failed);
	if (!op)
		return failed;
	if (!path)
		return wh__end(op, -EINVAL);
	op->buf = strdup(path);
	if (!op->buf)
		return wh__end(op, -ENOMEM);
	op->flags = WH__OWNS_BUF;
	op->len = len;
	op->off = off;
	op->dispose = dispose;
	op->dispose_arg = arg;
	return wh__start(op);
}

static wh_future start_on_fd(wh_loop *loop, enum wh__opcode opcode, int fd, uint64_t len, uint64_t off,
                             uint8_t flags)
{
	wh_future failed;
	struct wh__op *op = wh__begin(loop, opcode, &failed);
	if (!op)
		return failed;
	if (fd < 0)
		return wh__end(op, -EBADF);
	op->fd = fd;
	op->len = len;
	op->off = off;
	op->flags = flags;
	return wh__start(op);
}

static wh_future start_transfer(wh_loop *loop, enum wh__opcode opcode, int fd, void *buf, size_t len,
                                uint64_t off, uint8_t flags)
{
	wh_future failed;
	struct wh__op *op = wh__begin(loop, opcode, &failed);
	if (!op)
		return failed;
	if (fd < 0)
		return wh__end(op, -EBADF);
	if ((!buf && len > 0) || off > INT64_MAX)
		return wh__end(op, -EINVAL);
	op->fd = fd;
	op->buf = buf;
	op->len = len;
	op->off = off;
	op->flags = WH__BORROWS | flags;
	return wh__start(op);
}

static void close_dropped(wh_res res, void *arg)
{
	/* nobody learned the number, so nothing of ours is on it */
	(void)wh_drop(wh_close(arg, (int)res.n));
}

wh_future wh_open(wh_loop *loop, const char *path, int flags, mode_t mode)
{
	return start_on_path(loop, WH__OP_OPEN, path, (uint32_t)flags, mode, close_dropped, loop);
}

wh_future wh_close(wh_loop *loop, int fd)
{
	return start_on_fd(loop, WH__OP_CLOSE, fd, 0, 0, 0);
}

wh_future wh_pread(wh_loop *loop, int fd, void *buf, size_t len, uint64_t off)
{
	return start_transfer(loop, WH__OP_PREAD, fd, buf, len, off, 0);
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

wh_future wh_read(wh_loop *loop, int fd, void *buf, size_t len)
{
	return start_transfer(loop, WH__OP_READ, fd, buf, len, 0, 0);
}

wh_future wh_write_all(wh_loop *loop, int fd, const void *buf, size_t len)
{
	return start_transfer(loop, WH__OP_WRITE, fd, (void *)(uintptr_t)buf, len, 0, WH__ALL);
}

wh_future wh_fsync(wh_loop *loop, int fd, bool data_only)
{
	if (wh__loop_is_mine(loop))
		loop->file_sync_count++;
	return start_on_fd(loop, WH__OP_FSYNC, fd, 0, 0, data_only ? WH__DATA_ONLY : 0);
}

wh_future wh_truncate(wh_loop *loop, int fd, uint64_t len)
{
	return start_on_fd(loop, WH__OP_TRUNCATE, fd, len, 0, 0);
}

wh_future wh_allocate(wh_loop *loop, int fd, uint64_t off, uint64_t len)
{
	return start_on_fd(loop, WH__OP_ALLOCATE, fd, len, off, 0);
}

wh_future wh_size(wh_loop *loop, int fd)
{
	return start_on_fd(loop, WH__OP_SIZE, fd, 0, 0, 0);
}

wh_future wh_lock(wh_loop *loop, int fd)
{
	return start_on_fd(loop, WH__OP_LOCK, fd, 0, 0, 0);
}

wh_future wh_disk_free(wh_loop *loop, int fd)
{
	return start_on_fd(loop, WH__OP_DISK_FREE, fd, 0, 0, 0);
}

wh_future wh_rename(wh_loop *loop, const char *from, const char *to)
{
	wh_future failed;
	struct wh__op *op = wh__begin(loop, WH__OP_RENAME, &failed);
	if (!op)
		return failed;
	if (!from || !to)
		return wh__end(op, -EINVAL);
	/* both paths in one allocation */
	size_t from_len = strlen(from) + 1, to_len = strlen(to) + 1;
	char *paths = malloc(from_len + to_len);
	if (!paths)
		return wh__end(op, -ENOMEM);
	memcpy(paths, from, from_len);
	op->second = memcpy(paths + from_len, to, to_len);
	op->buf = paths;
	op->flags = WH__OWNS_BUF;
	return wh__start(op);
}

wh_future wh_unlink(wh_loop *loop, const char *path)
{
	return start_on_path(loop, WH__OP_UNLINK, path, 0, 0, NULL, NULL);
}

wh_future wh_mkdir(wh_loop *loop, const char *path, mode_t mode)
{
	return start_on_path(loop, WH__OP_MKDIR, path, 0, mode, NULL, NULL);
}

static void free_names(wh_res res, void *arg)
{
	wh_names_free(res.ptr);
}

wh_future wh_list(wh_loop *loop, const char *path)
{
	return start_on_path(loop, WH__OP_LIST, path, 0, 0, free_names, NULL);
}

struct wh_names *wh_names_free(struct wh_names *names)
{
	free(names); /* one allocation: engine/execute.c */
	return NULL;
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
