/* src/io/socket.c -- bytes of sockets, messages, readiness. Thread: loop. Connections: connection.c; options: option.c. */
#include "io/start.h"

#include <poll.h>
#include <string.h>

/* recv_flags: MSG_PEEK or 0 */
static wh_future start_transfer(wh_loop *loop, enum wh__opcode opcode, int fd, void *buf, size_t len,
                                uint8_t flags, int recv_flags)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, opcode, fd, &f);
	if (!op)
		return f;
	if (!buf && len > 0)
		return wh__end(op, -EINVAL);
	op->buf = buf;
	op->len = len;
	op->off = (unsigned int)recv_flags;
	op->flags = WH__BORROWS | flags;
	return wh__start(op);
}

wh_future wh_recv(wh_loop *loop, int fd, void *buf, size_t len)
{
	return start_transfer(loop, WH__OP_RECV, fd, buf, len, 0, 0);
}

wh_future wh_recv_all(wh_loop *loop, int fd, void *buf, size_t len)
{
	return start_transfer(loop, WH__OP_RECV, fd, buf, len, WH__ALL, 0);
}

wh_future wh_peek(wh_loop *loop, int fd, void *buf, size_t len)
{
	return start_transfer(loop, WH__OP_RECV, fd, buf, len, 0, MSG_PEEK);
}

wh_future wh_send(wh_loop *loop, int fd, const void *buf, size_t len)
{
	return start_transfer(loop, WH__OP_SEND, fd, (void *)(uintptr_t)buf, len, 0, 0);
}

wh_future wh_send_all(wh_loop *loop, int fd, const void *buf, size_t len)
{
	return start_transfer(loop, WH__OP_SEND, fd, (void *)(uintptr_t)buf, len, WH__ALL, 0);
}

wh_future wh_sendv_all(wh_loop *loop, int fd, const struct iovec *iov, int count)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, WH__OP_SENDV, fd, &f);
	if (!op)
		return f;
	int error = wh__copy_vector(op, iov, count, WH__VECTOR_MAX);
	if (error != 0)
		return wh__end(op, error);
	op->flags |= WH__ALL;
	return wh__start(op);
}

static void put_dropped(wh_res res, void *arg)
{
	wh_buf_put(res.ptr);
}

wh_future wh_recv_buf(wh_loop *loop, int fd)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, WH__OP_RECV_BUF, fd, &f);
	if (!op)
		return f;
	op->dispose = put_dropped;
	return wh__start(op);
}

wh_future wh_ready(wh_loop *loop, int fd, int events)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, WH__OP_READY, fd, &f);
	if (!op)
		return f;
	op->len = (uint64_t)(events & (POLLIN | POLLOUT));
	if (op->len == 0)
		return wh__end(op, -EINVAL);
	return wh__start(op);
}

/* ---- messages ------------------------------------------------------------------------------- */

/* A slot with room for what the kernel is handed, and the vector in it. */
static struct wh__op *begin_message(wh_loop *loop, enum wh__opcode opcode, int fd, const struct iovec *iov,
                                    int count, wh_future *ret_failed)
{
	struct wh__op *op = wh__begin_on(loop, opcode, fd, ret_failed);
	if (!op)
		return NULL;
	int error = wh__copy_vector(op, iov, count, WH__VECTOR_MAX);
	if (error != 0) {
		*ret_failed = wh__end(op, error);
		return NULL;
	}
	struct wh__arguments *arguments = op->buf;
	arguments->message = (struct msghdr){.msg_iov = arguments->iov, .msg_iovlen = (size_t)count};
	return op;
}

static void want_address(struct wh__arguments *arguments)
{
	arguments->message.msg_name = &arguments->address;
	arguments->message.msg_namelen = sizeof arguments->address;
}

wh_future wh_recvv(wh_loop *loop, int fd, const struct iovec *iov, int count)
{
	wh_future f;
	struct wh__op *op = begin_message(loop, WH__OP_RECV_MESSAGE, fd, iov, count, &f);
	return op ? wh__start(op) : f;
}

wh_future wh_recv_message(wh_loop *loop, int fd, struct wh_message *message)
{
	static const struct iovec none;
	wh_future f;
	struct wh__op *op = begin_message(loop, WH__OP_RECV_MESSAGE, fd, message ? message->iov : &none,
	                                  message ? message->iov_count : 0, &f);
	if (!op)
		return f;
	struct wh__arguments *arguments = op->buf;
	int room = message->descriptors ? message->descriptor_count : 0;
	if (room < 0 || room > WH__DESCRIPTORS_MAX)
		return wh__end(op, -EINVAL);
	want_address(arguments);
	if (room > 0) {
		arguments->message.msg_control = &arguments->control;
		arguments->message.msg_controllen = CMSG_LEN((size_t)room * sizeof(int));
	}
	op->second = message;
	return wh__start(op);
}

wh_future wh_recv_from(wh_loop *loop, int fd, void *buf, size_t len, struct wh_from *ret_from)
{
	const struct iovec iov = {.iov_base = buf, .iov_len = len};
	wh_future f;
	struct wh__op *op = begin_message(loop, WH__OP_RECV_FROM, fd, &iov, 1, &f);
	if (!op)
		return f;
	if (!ret_from || (!buf && len > 0))
		return wh__end(op, -EINVAL);
	want_address(op->buf);
	op->second = ret_from;
	return wh__start(op);
}

static int set_address(struct wh__arguments *arguments, const void *address, socklen_t len)
{
	if (len > sizeof arguments->address || (len > 0 && !address))
		return -EINVAL;
	if (len == 0)
		return 0;
	memcpy(&arguments->address, address, len);
	arguments->message.msg_name = &arguments->address;
	arguments->message.msg_namelen = len;
	return 0;
}

static int set_descriptors(struct wh__arguments *arguments, const int *descriptors, int count)
{
	size_t bytes = (size_t)count * sizeof *descriptors;
	if (count == 0)
		return 0;
	if (count < 0 || count > WH__DESCRIPTORS_MAX || !descriptors)
		return -EINVAL;
	memset(&arguments->control, 0, sizeof arguments->control);
	arguments->message.msg_control = &arguments->control;
	arguments->message.msg_controllen = CMSG_SPACE(bytes);
	struct cmsghdr *part = CMSG_FIRSTHDR(&arguments->message);
	part->cmsg_level = SOL_SOCKET;
	part->cmsg_type = SCM_RIGHTS;
	part->cmsg_len = CMSG_LEN(bytes);
	memcpy(CMSG_DATA(part), descriptors, bytes);
	return 0;
}

wh_future wh_send_message(wh_loop *loop, int fd, const struct wh_message *message)
{
	static const struct iovec none;
	wh_future f;
	struct wh__op *op = begin_message(loop, WH__OP_SEND_MESSAGE, fd, message ? message->iov : &none,
	                                  message ? message->iov_count : 0, &f);
	if (!op)
		return f;
	int error = set_address(op->buf, &message->address, message->address_len);
	if (error == 0)
		error = set_descriptors(op->buf, message->descriptors, message->descriptor_count);
	return error == 0 ? wh__start(op) : wh__end(op, error);
}

wh_future wh_send_to(wh_loop *loop, int fd, const void *buf, size_t len, const struct sockaddr *address,
                     socklen_t address_len)
{
	const struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	wh_future f;
	struct wh__op *op = begin_message(loop, WH__OP_SEND_MESSAGE, fd, &iov, 1, &f);
	if (!op)
		return f;
	int error = !buf && len > 0 ? -EINVAL : set_address(op->buf, address, address ? address_len : 0);
	return error == 0 ? wh__start(op) : wh__end(op, error);
}
