/* src/engine/offload.c -- file and work operations on worker threads, for engines whose loop must not block.
 *
 * Reads that the page cache can serve are done at once: a thread hop costs some twenty times as much as the copy.
 *
 * Thread: loop; run() on a worker, which owns the operation meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "engine/descriptor.h"

/* More is copied by a worker: the loop must not stand still for milliseconds. */
enum { INLINE_BYTES_MAX = 256 * 1024, DIRECT_ALIGNMENT = 512 };

static enum wh__worker_class class_of(const struct wh__op *op)
{
	switch (op->opcode) {
	case WH__OP_WORK:
		return WH__WORKERS_WORK;
	case WH__OP_FSYNC:
	case WH__OP_APPEND:
		return WH__WORKERS_SYNC;
	default:
		return WH__WORKERS_FILES;
	}
}

/* Reads and writes at the file's own offset are never awaited by readiness on a plain file, and block. */
static bool is_file(int fd)
{
	struct stat status;
	return fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode));
}

bool wh__offload_is_plain_file(const struct wh__op *op)
{
	return wh__opcode_streams(op->opcode) && is_file(op->fd);
}

static void run(struct wh__op *op)
{
	void *ptr = NULL;
	int64_t n = wh__op_execute(op, &ptr);
	wh__op_complete_from_worker(op, n, ptr);
}

/* With O_DIRECT, RWF_NOWAIT still waits for the disk. Only aligned requests can be direct. */
static bool may_be_direct(const struct wh__op *op)
{
	if (op->opcode == WH__OP_PREAD && ((uintptr_t)op->buf | op->len | op->off) % DIRECT_ALIGNMENT != 0)
		return false;
	int flags = fcntl(op->fd, F_GETFL);
	return flags >= 0 && (flags & O_DIRECT);
}

int64_t wh__offload_read_cached(struct wh__op *op)
{
	bool vector = op->opcode == WH__OP_PREADV;
	uint64_t bytes = vector ? wh__vector_bytes(op->buf, op->len) : op->len;
	if (bytes > INLINE_BYTES_MAX || op->off > INT64_MAX || may_be_direct(op))
		return -EAGAIN;
	for (;;) {
		struct iovec rest = {.iov_base = (char *)op->buf + op->done, .iov_len = op->len - op->done};
		ssize_t n = preadv2(op->fd, vector ? op->buf : &rest, vector ? (int)op->len : 1,
		                    (off_t)(op->off + op->done), RWF_NOWAIT);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno == EOPNOTSUPP || errno == ENOSYS)
				return -EAGAIN;
			return -errno;
		}
		if (wh__op_advance(op, (uint64_t)n) == 0 || n == 0 || !(op->flags & WH__ALL))
			return (int64_t)op->done;
	}
}

static int to_worker(struct wh__op *op)
{
	struct wh__workers *workers = wh__loop_workers(op->loop, class_of(op));
	return workers ? wh__workers_submit(workers, op, run) : -ENOMEM;
}

void wh__offload(struct wh__op *op)
{
	wh_loop *loop = op->loop;
	if (op->opcode == WH__OP_PREAD || op->opcode == WH__OP_PREADV) {
		int64_t n = wh__offload_read_cached(op);
		if (n != -EAGAIN) {
			wh__op_complete(op, n, NULL);
			return;
		}
	}
	struct wh__descriptor *descriptor = NULL;
	int error = 0;
	if (wh__descriptor_used(op)) {
		error = wh__descriptor_get(loop, op->fd, &descriptor);
		if (!error && descriptor->closing)
			error = -EBADF;
	}
	if (!error)
		error = to_worker(op);
	if (error)
		wh__op_complete(op, error, NULL);
	else if (descriptor)
		descriptor->at_worker_count++;
}

void wh__offload_returned(struct wh__op *op, int64_t n, void *ptr)
{
	wh_loop *loop = op->loop;
	struct wh__op *close = NULL;
	if (wh__descriptor_used(op)) {
		struct wh__descriptor *descriptor = wh__descriptor_look(loop, op->fd);
		if (--descriptor->at_worker_count == 0) {
			close = descriptor->closing;
			descriptor->closing = NULL;
		}
	}
	if (close && op->opcode == WH__OP_SEND_FILE)
		n = -ECANCELED; /* a part of something that would go on with the next */
	int fd = op->fd;
	wh__op_complete(op, n, ptr);
	if (close)
		wh__descriptor_close(loop, fd, close);
}

void wh__offload_close(struct wh__op *op)
{
	void *ptr = NULL;
	wh__descriptor_closed(op->loop, op->fd);
	/* The last close of a removed file may take long; that of a socket does not wait, unless SO_LINGER asks for it. Without memory
	 * for a worker the loop does it: a descriptor that stays open is worse. */
	if (op->flags & WH__NO_SLOT || op->loop->closing || !is_file(op->fd) || to_worker(op) != 0)
		wh__op_complete(op, wh__op_execute(op, &ptr), NULL);
}

bool wh__offload_cancel(struct wh__op *op)
{
	/* A close that is taken back would leave the descriptor open, and nobody would know. */
	if (op->opcode == WH__OP_CLOSE || !wh__workers_cancel(op->loop->workers[class_of(op)], op))
		return false;
	wh__offload_returned(op, -ECANCELED, NULL);
	return true;
}

bool wh__offload_holds_close(struct wh__op *op)
{
	struct wh__descriptor *descriptor = wh__descriptor_look(op->loop, op->fd);
	if (!descriptor || descriptor->at_worker_count == 0)
		return false;
	descriptor->closing = op;
	return true;
}
