/* src/engine/execute_copy.c -- from a file to a file, from a file to a socket, without the bytes passing through here
 * where the kernel can do that. Thread: any; it touches nothing but the operation's arguments. */
#include "engine/execute.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/arguments.h"

enum { BUFFER_BYTES = 64 * 1024, CALL_BYTES_MAX = 1 << 30 };

void wh__sigpipe_hold(sigset_t *ret_before)
{
	sigset_t broken_pipe;
	sigemptyset(&broken_pipe);
	sigaddset(&broken_pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &broken_pipe, ret_before);
}

void wh__sigpipe_release(const sigset_t *before, int64_t n)
{
	static const struct timespec at_once;
	sigset_t broken_pipe;
	if (sigismember(before, SIGPIPE))
		return;
	sigemptyset(&broken_pipe);
	sigaddset(&broken_pipe, SIGPIPE);
	if (n == -EPIPE)
		(void)sigtimedwait(&broken_pipe, NULL, &at_once);
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

static size_t at_most(uint64_t len, size_t most)
{
	return len < most ? (size_t)len : most;
}

/* ---- file to file --------------------------------------------------------------------------- */

static int64_t write_whole(int fd, const char *bytes, size_t len, uint64_t off)
{
	for (size_t done = 0; done < len;) {
		int64_t n = wh__result(pwrite(fd, bytes + done, len - done, (off_t)(off + done)));
		if (n == -EINTR)
			continue;
		if (n < 0)
			return n;
		done += (size_t)n;
	}
	return (int64_t)len;
}

/* One buffer of it: bytes, 0 at the end of the file. */
static int64_t copy_by_hand(struct wh__op *op, char *buffer)
{
	const struct wh__arguments *arguments = op->buf;
	int64_t n;
	do
		n = wh__result(pread(arguments->source.fd, buffer, at_most(op->len - op->done, BUFFER_BYTES),
		                     (off_t)(arguments->source.off + op->done)));
	while (n == -EINTR);
	return n <= 0 ? n : write_whole(op->fd, buffer, (size_t)n, op->off + op->done);
}

static int64_t copy_in_kernel(const struct wh__op *op)
{
	const struct wh__arguments *arguments = op->buf;
	off_t from = (off_t)(arguments->source.off + op->done), to = (off_t)(op->off + op->done);
	return wh__result(copy_file_range(arguments->source.fd, &from, op->fd, &to,
	                                  at_most(op->len - op->done, CALL_BYTES_MAX), 0));
}

/* Within one file a copy onto itself is refused; between two the same error means that the kernel will not do it. */
static bool overlaps(const struct wh__op *op)
{
	const struct wh__arguments *arguments = op->buf;
	uint64_t from = arguments->source.off, to = op->off;
	struct stat a, b;
	return fstat(arguments->source.fd, &a) == 0 && fstat(op->fd, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino && from < to + op->len && to < from + op->len;
}

static bool kernel_will_not(const struct wh__op *op, int64_t n)
{
	switch (n) {
	case -EINVAL:
		return !overlaps(op);
	case -EXDEV:
	case -EOPNOTSUPP:
	case -ENOSYS:
	case -EPERM:
	case -EBADF: /* also what it says of O_APPEND; plain calls tell which it is */
		return true;
	default:
		return false;
	}
}

int64_t wh__execute_copy(struct wh__op *op)
{
	char *buffer = NULL;
	int64_t n = 0;
	while (op->done < op->len) {
		n = buffer ? copy_by_hand(op, buffer) : copy_in_kernel(op);
		/* files of /proc and the like have no size, and seem to be at their end */
		if (!buffer && ((n == 0 && op->done == 0) || kernel_will_not(op, n))) {
			buffer = malloc(BUFFER_BYTES);
			n = buffer ? -EINTR : -ENOMEM;
		}
		if (n == -EINTR)
			continue;
		if (n <= 0)
			break;
		op->done += (uint64_t)n;
	}
	free(buffer);
	return n < 0 ? n : (int64_t)op->done;
}

/* ---- file to socket ------------------------------------------------------------------------- */

static int64_t send_in_kernel(struct wh__op *op, const struct wh__arguments *arguments)
{
	sigset_t before;
	off_t off = (off_t)arguments->source.off;
	wh__sigpipe_hold(&before);
	int64_t n =
		wh__result(sendfile(op->fd, arguments->source.fd, &off, at_most(op->len, CALL_BYTES_MAX)));
	wh__sigpipe_release(&before, n);
	return n;
}

static int64_t send_by_hand(struct wh__op *op, const struct wh__arguments *arguments)
{
	char *buffer = malloc(BUFFER_BYTES);
	if (!buffer)
		return -ENOMEM;
	int64_t n = wh__result(pread(arguments->source.fd, buffer, at_most(op->len, BUFFER_BYTES),
	                             (off_t)arguments->source.off));
	if (n > 0)
		n = wh__result(send(op->fd, buffer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL));
	free(buffer);
	return n;
}

/* One call: on a socket that may block sendfile(2) would wait for its peer, and a worker with it. */
int64_t wh__execute_send_file(struct wh__op *op)
{
	const struct wh__arguments *arguments = op->buf;
	int flags = fcntl(op->fd, F_GETFL);
	if (flags < 0)
		return -errno;
	int64_t n = flags & O_NONBLOCK ? send_in_kernel(op, arguments) : -EINVAL;
	return n == -EINVAL || n == -ENOSYS ? send_by_hand(op, arguments) : n;
}
