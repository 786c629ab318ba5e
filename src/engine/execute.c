/* src/engine/execute.c -- the blocking system call of a file or work operation. Thread: any; it touches nothing but
 * the operation's arguments. Operations on names: execute_name.c; those with two descriptors: execute_copy.c. */
#include "engine/execute.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runtime/arguments.h"

/* read(2) transfers at most this many bytes */
enum { TRANSFER_MAX = 0x7ffff000 };

static int64_t transfer_bytes(const struct wh__op *op)
{
	char *at = (char *)op->buf + op->done;
	size_t left = op->len - op->done;
	if (left > TRANSFER_MAX)
		left = TRANSFER_MAX;
	switch (op->opcode) {
	case WH__OP_PREAD:
		return wh__result(pread(op->fd, at, left, (off_t)(op->off + op->done)));
	case WH__OP_PWRITE:
	case WH__OP_APPEND:
		return wh__result(pwrite(op->fd, at, left, (off_t)(op->off + op->done)));
	case WH__OP_READ:
		return wh__result(read(op->fd, at, left));
	default:
		return wh__result(write(op->fd, at, left));
	}
}

static int64_t transfer_vector(const struct wh__op *op)
{
	int count = op->len < IOV_MAX ? (int)op->len : IOV_MAX;
	switch (op->opcode) {
	case WH__OP_PREADV:
		return wh__result(preadv(op->fd, op->buf, count, (off_t)(op->off + op->done)));
	case WH__OP_PWRITEV:
		return wh__result(pwritev(op->fd, op->buf, count, (off_t)(op->off + op->done)));
	case WH__OP_READV:
		return wh__result(readv(op->fd, op->buf, count));
	default:
		return wh__result(writev(op->fd, op->buf, count));
	}
}

bool wh__op_has_vector(const struct wh__op *op)
{
	switch (op->opcode) {
	case WH__OP_PREADV:
	case WH__OP_PWRITEV:
	case WH__OP_READV:
	case WH__OP_WRITEV:
	case WH__OP_SENDV:
		return true;
	default:
		return false;
	}
}

uint64_t wh__op_advance(struct wh__op *op, uint64_t n)
{
	op->done += n;
	if (!wh__op_has_vector(op))
		return op->len - op->done;
	wh__vector_advance(op->buf, &op->len, n);
	return wh__vector_bytes(op->buf, op->len);
}

static int64_t transfer(struct wh__op *op)
{
	for (;;) {
		int64_t n = wh__op_has_vector(op) ? transfer_vector(op) : transfer_bytes(op);
		if (n == -EINTR)
			continue;
		if (n < 0)
			return op->done > 0 && !(op->flags & WH__ALL) ? (int64_t)op->done : n;
		uint64_t left = wh__op_advance(op, (uint64_t)n);
		if (n == 0 || left == 0 || !(op->flags & WH__ALL))
			return (int64_t)op->done;
	}
}

int64_t wh__op_write_all(struct wh__op *op)
{
	while (op->done < op->len) {
		int64_t n = transfer_bytes(op);
		if (n < 0 && n != -EINTR)
			return n;
		if (n == 0)
			return -EIO; /* nothing of something, and no reason: it would be so for ever */
		op->done += n > 0 ? (uint64_t)n : 0;
	}
	return 0;
}

/* A sync that has failed is not tried again: the kernel may have dropped the pages, and would say that all is well. */
static int64_t append(struct wh__op *op)
{
	int64_t error = wh__op_write_all(op);
	if (error == 0)
		error = wh__result(fdatasync(op->fd));
	return error == 0 ? (int64_t)op->done : error;
}

static int64_t size_of(int fd)
{
	struct stat st;
	return fstat(fd, &st) < 0 ? -errno : st.st_size;
}

static int64_t disk_free(int fd)
{
	struct statvfs vfs;
	return fstatvfs(fd, &vfs) < 0 ? -errno : (int64_t)(vfs.f_bavail * vfs.f_frsize);
}

static int64_t close_once(int fd)
{
	/* Linux frees the number even when it says EINTR, close(2): never twice */
	int64_t n = wh__result(close(fd));
	return n == -EINTR ? 0 : n;
}

static int64_t allocate(const struct wh__op *op)
{
	return wh__result(fallocate(op->fd, (int)op->done, (off_t)op->off, (off_t)op->len));
}

static int64_t lock(int fd, int how)
{
	int64_t n = wh__result(flock(fd, how | LOCK_NB));
	return n == -EWOULDBLOCK ? -EAGAIN : n;
}

static int64_t call(struct wh__op *op, void **ret_ptr)
{
	switch (op->opcode) {
	case WH__OP_CLOSE:
		return close_once(op->fd);
	case WH__OP_PREAD:
	case WH__OP_PWRITE:
	case WH__OP_PREADV:
	case WH__OP_PWRITEV:
	case WH__OP_READ:
	case WH__OP_WRITE:
	case WH__OP_READV:
	case WH__OP_WRITEV:
		return transfer(op);
	case WH__OP_APPEND:
		return append(op);
	case WH__OP_FSYNC:
		return wh__result(op->flags & WH__DATA_ONLY ? fdatasync(op->fd) : fsync(op->fd));
	case WH__OP_TRUNCATE:
		return wh__result(ftruncate(op->fd, (off_t)op->len));
	case WH__OP_ALLOCATE:
		return allocate(op);
	case WH__OP_SIZE:
		return size_of(op->fd);
	case WH__OP_LOCK:
		return lock(op->fd, (int)op->len);
	case WH__OP_ADVISE:
		return -posix_fadvise(op->fd, (off_t)op->off, (off_t)op->len, (int)op->done);
	case WH__OP_SYNC_RANGE:
		return wh__result(
			sync_file_range(op->fd, (off_t)op->off, (off_t)op->len, (unsigned int)op->done));
	case WH__OP_COPY_RANGE:
		return wh__execute_copy(op);
	case WH__OP_SEND_FILE:
		return wh__execute_send_file(op);
	case WH__OP_DISK_FREE:
		return disk_free(op->fd);
	case WH__OP_WORK:
		return op->work(op->buf);
	default:
		return wh__execute_on_name(op, ret_ptr);
	}
}

int64_t wh__op_execute(struct wh__op *op, void **ret_ptr)
{
	int64_t n;
	*ret_ptr = NULL;
	do
		n = call(op, ret_ptr);
	while (n == -EINTR && op->opcode != WH__OP_WORK);
	return n;
}
