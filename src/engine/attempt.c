/* src/engine/attempt.c -- one try, without blocking, of an operation that may wait for ever. Thread: loop. */
#include "engine/execute.h"
#include "engine/message.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
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
	case WH__OP_SEND_MESSAGE:
	case WH__OP_WRITE:
	case WH__OP_WRITEV:
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

/* Descriptors from elsewhere may be blocking ones, and O_NONBLOCK is not ours to set. What to use in place of op->fd: the same,
 * or the loop's own opening of a terminal. *ret_blocks: it blocks. */
static int stream_of(const struct wh__op *op, bool *ret_blocks)
{
	int flags = fcntl(op->fd, F_GETFL);
	int twin = flags & O_NONBLOCK ? -1 : wh__terminal_twin(op->loop, op->fd, flags);
	*ret_blocks = !(flags & O_NONBLOCK) && twin < 0;
	return twin < 0 ? op->fd : twin;
}

/* The kernel cannot try this kind of descriptor for us. */
static bool cannot_try(int64_t n)
{
	return n == -EOPNOTSUPP || n == -ENOSYS || n == -EINVAL;
}

/* Of a blocking one: look first, then let the kernel try, since another reader may be faster. Where it cannot, a reader that
 * shares the descriptor with us may make us wait for it. */
static int64_t read_some(struct wh__op *op)
{
	bool blocks;
	int fd = stream_of(op, &blocks);
	struct iovec one = {.iov_base = op->buf, .iov_len = op->len};
	const struct iovec *iov = op->opcode == WH__OP_READV ? op->buf : &one;
	int count = op->opcode == WH__OP_READV ? (int)op->len : 1;
	int64_t n;
	if (blocks) {
		if ((n = ready(fd, POLLIN)) < 0)
			return n;
		n = wh__result(preadv2(fd, iov, count, -1, RWF_NOWAIT));
		if (!cannot_try(n))
			return n;
	}
	return wh__result(count == 1 ? read(fd, iov->iov_base, iov->iov_len) : readv(fd, iov, count));
}

/* The rest of op as a vector of at most max bytes, at least one. Result: its entries. */
static int rest_of(const struct wh__op *op, size_t max, struct iovec ret[WH__VECTOR_MAX])
{
	const struct iovec whole = {(char *)op->buf + op->done, op->len - op->done};
	/* the copy of a vector shrinks from its start as bytes leave */
	const struct iovec *iov = op->opcode == WH__OP_WRITEV ? op->buf : &whole;
	int count = op->opcode == WH__OP_WRITEV ? (int)op->len : 1, used = 0;
	do {
		ret[used] = iov[used];
		if (ret[used].iov_len > max)
			ret[used].iov_len = max;
		max -= ret[used++].iov_len;
	} while (used < count && max > 0);
	return used;
}

static int64_t write_some(const struct wh__op *op, int fd, bool blocks)
{
	struct iovec iov[WH__VECTOR_MAX];
	int64_t n = -EOPNOTSUPP;
	if (blocks && !isatty(fd))
		n = wh__result(pwritev2(fd, iov, rest_of(op, SSIZE_MAX, iov), -1, RWF_NOWAIT));
	/* a blocking pipe takes PIPE_BUF bytes at once when poll(2) says so, more might block */
	if (cannot_try(n))
		n = wh__result(writev(fd, iov, rest_of(op, blocks ? PIPE_BUF : SSIZE_MAX, iov)));
	return n;
}

static int64_t write_until_full(struct wh__op *op)
{
	bool blocks;
	int fd = stream_of(op, &blocks);
	for (;;) {
		int64_t n = ready(fd, POLLOUT);
		if (n >= 0)
			n = write_some(op, fd, blocks);
		if (n < 0)
			return n;
		if (wh__op_advance(op, (uint64_t)n) == 0 || !(op->flags & WH__ALL))
			return (int64_t)op->done;
	}
}

static int64_t write_without_signal(struct wh__op *op)
{
	sigset_t before;
	wh__sigpipe_hold(&before);
	int64_t n = write_until_full(op);
	wh__sigpipe_release(&before, n);
	return n;
}

/* What is asked for whole is read until the socket is empty, ends, or has given it. op->off: flags. */
static int64_t receive(struct wh__op *op)
{
	for (;;) {
		char *at = (char *)op->buf + op->done;
		int64_t n = wh__result(recv(op->fd, at, op->len - op->done, MSG_DONTWAIT | (int)op->off));
		if (n < 0)
			return n;
		op->done += (uint64_t)n;
		if (n == 0 || op->done == op->len || !(op->flags & WH__ALL))
			return (int64_t)op->done;
	}
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
	return wh__op_advance(op, (uint64_t)n) == 0 ? (int64_t)op->done : -EAGAIN;
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
	int fd = accept4(op->fd, op->buf, op->second, SOCK_NONBLOCK | SOCK_CLOEXEC);
	return wh__op_accepted(fd < 0 ? -errno : fd);
}

int64_t wh__op_accept_last(struct wh__op *op)
{
	int64_t n = accept_one(op);
	return n >= 0 ? n : -ECANCELED;
}

/* The second call, when the first has been answered, tells how it went, and makes the socket a connected one in the eyes of
 * later calls, too. */
static int64_t connect_now(struct wh__op *op)
{
	bool again = op->done == CONNECTING;
	if (again) {
		int64_t n = ready(op->fd, POLLOUT);
		if (n < 0)
			return n;
	}
	if (connect(op->fd, op->buf, (socklen_t)op->len) == 0)
		return op->fd;
	switch (errno) {
	case EISCONN:
		return again ? op->fd : -EISCONN;
	case EALREADY:
		if (!again)
			return -EALREADY;
		__attribute__((fallthrough));
	case EINPROGRESS:
		op->done = CONNECTING;
		return -EAGAIN;
	case EAGAIN:
		/* the backlog of a UNIX socket is full, and nothing would tell when it is not; see wh_connect(). Of datagrams: no
		 * port is left, which streams call by its name. */
		return ((const struct sockaddr *)op->buf)->sa_family == AF_UNIX ? -EXFULL : -EADDRNOTAVAIL;
	default:
		return -errno;
	}
}

static int64_t attempt(struct wh__op *op, void **ret_ptr)
{
	switch (op->opcode) {
	case WH__OP_READ:
	case WH__OP_READV:
		return read_some(op);
	case WH__OP_WRITE:
	case WH__OP_WRITEV:
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
	case WH__OP_RECV_MESSAGE:
	case WH__OP_RECV_FROM:
		return wh__message_receive(op);
	case WH__OP_SEND_MESSAGE:
		return wh__message_send(op);
	case WH__OP_READY:
		return ready(op->fd, (int)op->len);
	default:
		return -ENOSYS;
	}
}

int64_t wh__op_invalid(const struct wh__op *op)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof peer;
	switch (op->opcode) {
	case WH__OP_READ:
	case WH__OP_READV:
	case WH__OP_RECV:
	case WH__OP_RECV_BUF:
	case WH__OP_RECV_FROM:
	case WH__OP_RECV_MESSAGE:
		if (getpeername(op->fd, (struct sockaddr *)&peer, &len) < 0 && errno == ENOTCONN)
			return -ENOTCONN;
		return -EINVAL;
	default:
		return -EINVAL;
	}
}

int64_t wh__op_attempt(struct wh__op *op, void **ret_ptr)
{
	int64_t n;
	*ret_ptr = NULL;
	do
		n = attempt(op, ret_ptr);
	while (n == -EINTR);
	return n == -EINVAL ? wh__op_invalid(op) : n;
}
