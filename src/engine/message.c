/* src/engine/message.c -- messages with an address or with descriptors. Thread: loop, or the blocked thread of the threads
 * engine.
 *
 * op->buf is a struct wh__arguments: what the kernel is handed. op->second is the caller's structure, which a receive
 * fills in; NULL when the caller wants the bytes alone.
 */
#include "engine/message.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

/* An internet socket that is to send gets a port first. */
static bool has_no_port(int fd)
{
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_storage room;
	} own;
	socklen_t len = sizeof own;
	if (getsockname(fd, &own.any, &len) != 0)
		return false;
	switch (own.any.sa_family) {
	case AF_INET:
		return own.in.sin_port == 0;
	case AF_INET6:
		return own.in6.sin6_port == 0;
	default:
		return false;
	}
}

/* EAGAIN has two meanings: the socket is full, and will say when it is not; or no port is left for it, and it says that it
 * can be written to all the time. */
int64_t wh__message_send(struct wh__op *op)
{
	const struct wh__arguments *arguments = op->buf;
	ssize_t n = sendmsg(op->fd, &arguments->message, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n >= 0)
		return n;
	int64_t error = -errno;
	return error == -EAGAIN && has_no_port(op->fd) ? -EADDRNOTAVAIL : error;
}

/* Descriptors that there is no room for are closed: nobody would know of them. */
static void take_descriptors(struct msghdr *from, struct wh_message *to)
{
	int room = to->descriptors ? to->descriptor_count : 0, count = 0;
	for (struct cmsghdr *part = CMSG_FIRSTHDR(from); part; part = CMSG_NXTHDR(from, part)) {
		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		size_t sent = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < sent; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
			if (count < room) {
				to->descriptors[count++] = fd;
			} else {
				close(fd);
				to->descriptors_lost = true;
			}
		}
	}
	to->descriptor_count = count;
}

static socklen_t take_address(const struct wh__arguments *arguments, struct sockaddr_storage *ret)
{
	socklen_t len = arguments->message.msg_namelen;
	if (len > sizeof *ret)
		len = sizeof *ret;
	memcpy(ret, &arguments->address, len);
	return len;
}

void wh__message_received(struct wh__op *op)
{
	struct wh__arguments *arguments = op->buf;
	struct msghdr *raw = &arguments->message;
	struct wh_message *message = op->second;
	struct wh_from *from = op->second;
	if (op->opcode == WH__OP_RECV_FROM) {
		from->address_len = take_address(arguments, &from->address);
		from->truncated = raw->msg_flags & MSG_TRUNC;
	} else if (message) {
		message->address_len = take_address(arguments, &message->address);
		message->truncated = raw->msg_flags & MSG_TRUNC;
		message->descriptors_lost = raw->msg_flags & MSG_CTRUNC;
		take_descriptors(raw, message);
	}
}

int64_t wh__message_receive(struct wh__op *op)
{
	struct wh__arguments *arguments = op->buf;
	ssize_t n = recvmsg(op->fd, &arguments->message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	wh__message_received(op);
	return n;
}
