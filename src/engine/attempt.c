/* src/engine/attempt.c -- one try, without blocking, of an operation that may wait for ever. Thread: loop. */
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { CONNECTING = 1 }; /* op->done of WH__OP_CONNECT */

int wh__op_events(const struct wh__op *op)
{
	switch (op->opcode) {
	case WH__OP_READY:
		return (int)op->len;
	case WH__OP_CONNECT:
	case WH__OP_SEND:
	case WH__OP_SENDV:
	case WH__OP_WRITE:
		return POLLOUT;
	default:
		return POLLIN;
	}
}

static int64_t ready(int fd, int events)
{
	struct pollfd p = {.fd = fd, .events = (short)events};
	int n = poll(&p, 1, 0);
	if (n < 0)
		return -errno;
	if (n == 0)
		return -EAGAIN;
	return p.revents & POLLNVAL ? -EBADF : p.revents;
}

/* Descriptors from elsewhere may be blocking ones: look first. */
static int64_t read_some(struct wh__op *op)
{
	int64_t n = ready(op->fd, POLLIN);
	if (n < 0)
		return n;
	n = read(op->fd, op->buf, op->len);
	return n < 0 ? -errno : n;
}

static int64_t write_until_full(struct wh__op *op)
{
	/* a blocking pipe takes PIPE_BUF bytes at once when poll(2) says so, more might block */
	uint64_t most = fcntl(op->fd, F_GETFL) & O_NONBLOCK ? UINT64_MAX : PIPE_BUF;
	for (;;) {
		int64_t n = ready(op->fd, POLLOUT);
		if (n < 0)
			return n;
		uint64_t left = op->len - op->done;
		n = write(op->fd, (const char *)op->buf + op->done, left < most ? left : most);
		if (n < 0)
			return -errno;
		op->done += (uint64_t)n;
		if (op->done == op->len || !(op->flags & WH__ALL))
			return (int64_t)op->done;
	}
}

/* write(2) has no MSG_NOSIGNAL. A pipe that nobody reads is -EPIPE and no SIGPIPE: the signal goes to the calling
 * thread, which holds it off meanwhile and takes it back. */
static int64_t write_without_signal(struct wh__op *op)
{
	static const struct timespec at_once;
	sigset_t broken_pipe, before;
	sigemptyset(&broken_pipe);
	sigaddset(&broken_pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &broken_pipe, &before);
	int64_t n = write_until_full(op);
	if (!sigismember(&before, SIGPIPE)) {
		if (n == -EPIPE)
			(void)sigtimedwait(&broken_pipe, NULL, &at_once);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	return n;
}

static int64_t receive(struct wh__op *op)
{
	ssize_t n = recv(op->fd, op->buf, op->len, MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

static int64_t receive_pooled(struct wh__op *op, void **ret_ptr)
{
	struct wh_buf *buf = wh_buf_get(op->loop);
	if (!buf)
		return -ENOBUFS;
	ssize_t n = recv(op->fd, buf->data, buf->cap, MSG_DONTWAIT);
	int64_t result = n < 0 ? -errno : n;
	if (n <= 0) {
		wh_buf_put(buf);
		return result;
	}
	buf->len = (uint32_t)n;
	*ret_ptr = buf;
	return result;
}

static int64_t send_some(struct wh__op *op)
{
	size_t left = op->len - op->done;
	ssize_t n = send(op->fd, (const char *)op->buf + op->done, left, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	op->done += (uint64_t)n;
	/* a short send has filled the socket: another one now would only be told so */
	return op->done < op->len && op->flags & WH__ALL ? -EAGAIN : (int64_t)op->done;
}

/* op->buf: a copy of the vector, which shrinks from its start as bytes leave; op->len entries. */
static int64_t send_vector(struct wh__op *op)
{
	struct msghdr message = {.msg_iov = op->buf, .msg_iovlen = op->len};
	ssize_t n = sendmsg(op->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	op->done += (uint64_t)n;
	struct iovec *iov = op->buf;
	size_t first = 0, left = (size_t)n;
	while (first < op->len && left >= iov[first].iov_len)
		left -= iov[first++].iov_len;
	if (first == op->len)
		return (int64_t)op->done;
	iov[first].iov_base = (char *)iov[first].iov_base + left;
	iov[first].iov_len -= left;
	op->len -= first;
	memmove(iov, iov + first, op->len * sizeof *iov);
	return -EAGAIN;
}

int64_t wh__op_accepted(int64_t n)
{
	switch (n) {
	case -ECONNABORTED:
	case -ENETDOWN:
	case -EPROTO:
	case -ENOPROTOOPT:
	case -EHOSTDOWN:
	case -ENONET:
	case -EHOSTUNREACH:
	case -ENETUNREACH:
		return -EINTR;
	default:
		break;
	}
	int one = 1;
	if (n >= 0)
		(void)setsockopt((int)n, IPPROTO_TCP, TCP_NODELAY, &one,
		                 sizeof one); /* not of UNIX sockets */
	return n;
}

static int64_t accept_one(struct wh__op *op)
{
	/* A listener from elsewhere may be a blocking one. */
	if (!(fcntl(op->fd, F_GETFL) & O_NONBLOCK)) {
		int64_t n = ready(op->fd, POLLIN);
		if (n < 0)
			return n;
	}
	int fd = accept4(op->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	return wh__op_accepted(fd < 0 ? -errno : fd);
}

static int64_t connect_now(struct wh__op *op)
{
	int error = 0;
	socklen_t len = sizeof error;
	if (op->done != CONNECTING) {
		if (connect(op->fd, op->buf, (socklen_t)op->len) == 0)
			return op->fd;
		if (errno != EINPROGRESS)
			/* EAGAIN: the backlog of a UNIX socket is full, and nothing would tell when it is not; see
			 * wh_connect() */
			return errno == EAGAIN ? -EXFULL : -errno;
		op->done = CONNECTING;
		return -EAGAIN;
	}
	int64_t n = ready(op->fd, POLLOUT);
	if (n < 0)
		return n;
	if (getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return error ? -error : op->fd;
}

static int64_t attempt(struct wh__op *op, void **ret_ptr)
{
	switch (op->opcode) {
	case WH__OP_READ:
		return read_some(op);
	case WH__OP_WRITE:
		return write_without_signal(op);
	case WH__OP_ACCEPT:
		return accept_one(op);
	case WH__OP_CONNECT:
		return connect_now(op);
	case WH__OP_RECV:
		return receive(op);
	case WH__OP_RECV_BUF:
		return receive_pooled(op, ret_ptr);
	case WH__OP_SEND:
		return send_some(op);
	case WH__OP_SENDV:
		return send_vector(op);
	case WH__OP_READY:
		return ready(op->fd, (int)op->len);
	default:
		return -ENOSYS;
	}
}

int64_t wh__op_attempt(struct wh__op *op, void **ret_ptr)
{
	int64_t n;
	*ret_ptr = NULL;
	do
		n = attempt(op, ret_ptr);
	while (n == -EINTR);
	return n;
}
