/* src/engine/descriptor.c -- see descriptor.h. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/descriptor.h"

struct wh__descriptors {
	uint32_t count;
	struct wh__descriptor *entries;
};

bool wh__descriptor_used(const struct wh__op *op)
{
	switch (op->opcode) {
	case WH__OP_CLOSE:
	case WH__OP_WORK:
		return false;
	default:
		return op->fd >= 0; /* an operation on a name: the directory that it starts from */
	}
}

static int grow(wh_loop *loop, int fd)
{
	/* A wild number must not make the table huge: only an open descriptor gets an entry. */
	if (fd < 0 || fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	if (!loop->descriptors) {
		loop->descriptors = calloc(1, sizeof *loop->descriptors);
		if (!loop->descriptors)
			return -ENOMEM;
	}
	struct wh__descriptors *table = loop->descriptors;
	uint32_t count = table->count ? table->count : 64;
	while (count <= (uint32_t)fd)
		count *= 2;
	/* A new one, not the old one made longer: of what is not used yet the kernel's zeros are not touched, and take no memory. */
	struct wh__descriptor *entries = calloc(count, sizeof *entries);
	if (!entries)
		return -ENOMEM;
	if (table->count)
		memcpy(entries, table->entries, table->count * sizeof *entries);
	free(table->entries);
	table->entries = entries;
	table->count = count;
	return 0;
}

struct wh__descriptor *wh__descriptor_look(wh_loop *loop, int fd)
{
	struct wh__descriptors *table = loop->descriptors;
	if (!table || fd < 0 || (uint32_t)fd >= table->count)
		return NULL;
	return &table->entries[fd];
}

int wh__descriptor_get(wh_loop *loop, int fd, struct wh__descriptor **ret)
{
	struct wh__descriptor *descriptor = wh__descriptor_look(loop, fd);
	if (!descriptor) {
		int error = grow(loop, fd);
		if (error)
			return error;
		descriptor = wh__descriptor_look(loop, fd);
	}
	*ret = descriptor;
	return 0;
}

/* The closing of a descriptor that is to be closed without a slot. */
static struct wh__op close_later;

int64_t wh__close_without_slot(wh_loop *loop, int fd)
{
	struct wh__op op = {
		.loop = loop, .opcode = WH__OP_CLOSE, .state = WH__PENDING, .flags = WH__NO_SLOT, .fd = fd};
	loop->engine->close_fd(&op);
	if (op.state == WH__DONE)
		return op.n;
	struct wh__descriptor *descriptor = wh__descriptor_look(loop, fd);
	assert(descriptor && descriptor->closing == &op);
	descriptor->closing = &close_later;
	return -EINPROGRESS;
}

void wh__descriptor_close(wh_loop *loop, int fd, struct wh__op *close)
{
	if (close == &close_later)
		(void)wh__close_without_slot(loop, fd);
	else
		loop->engine->close_fd(close);
}

static void close_twin(struct wh__descriptor *descriptor)
{
	if (descriptor->twin > 0)
		close(descriptor->twin);
	descriptor->twin = 0;
}

void wh__descriptor_closed(wh_loop *loop, int fd)
{
	struct wh__descriptor *descriptor = wh__descriptor_look(loop, fd);
	if (descriptor) {
		descriptor->known_socket = descriptor->known_seekable = descriptor->known_peer = false;
		descriptor->known_empty = descriptor->known_listener = false;
		close_twin(descriptor);
	}
}

void wh__descriptor_link(struct wh__descriptor *descriptor, struct wh__op *op)
{
	op->prev = NULL;
	op->next = descriptor->first;
	if (op->next)
		op->next->prev = op;
	descriptor->first = op;
}

void wh__descriptor_unlink(struct wh__descriptor *descriptor, struct wh__op *op)
{
	assert(op->prev || descriptor->first == op);
	*(op->prev ? &op->prev->next : &descriptor->first) = op->next;
	if (op->next)
		op->next->prev = op->prev;
	op->next = op->prev = NULL;
}

/* The flag that says there is one of op's kind; NULL: there may be any number. */
static bool *flag_of(struct wh__descriptor *descriptor, const struct wh__op *op)
{
	switch (op->opcode) {
	case WH__OP_RECV:
	case WH__OP_RECV_BUF:
		return &descriptor->receiving;
	case WH__OP_RECV_MESSAGE: /* of datagrams any number may wait: none is ever a part of another */
		return op->second ? NULL : &descriptor->receiving;
	case WH__OP_SEND:
	case WH__OP_SENDV:
		return &descriptor->sending;
	default:
		return NULL;
	}
}

/* The end of a pipe that only writes never gets readable, nor says why. */
static bool is_open_for(const struct wh__op *op)
{
	int mode = fcntl(op->fd, F_GETFL) & O_ACCMODE;
	return mode == O_RDWR || mode == (wh__opcode_sends(op->opcode) ? O_WRONLY : O_RDONLY);
}

/* 0, or why op's kind is not for this descriptor. */
static int check_kind(struct wh__descriptor *descriptor, const struct wh__op *op)
{
	bool streams = wh__opcode_streams(op->opcode);
	bool transfers = op->opcode != WH__OP_ACCEPT && op->opcode != WH__OP_CONNECT;
	int listens = 0;
	socklen_t len = sizeof listens;
	if (streams && !is_open_for(op))
		return -EBADF;
	if (!wh__opcode_waits(op->opcode) || op->opcode == WH__OP_READY)
		return 0;
	if (transfers ? descriptor->known_peer : descriptor->known_socket)
		return 0;
	if (getsockopt(op->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 && !streams)
		return -errno;
	if (transfers && listens)
		return -ENOTCONN;
	descriptor->known_socket |= !streams;
	descriptor->known_peer |= transfers;
	return 0;
}

int wh__descriptor_enter(struct wh__descriptor *descriptor, const struct wh__op *op)
{
	bool *flag = flag_of(descriptor, op);
	if (descriptor->closing)
		return -EBADF;
	int error = check_kind(descriptor, op);
	if (error != 0)
		return error;
	if (flag && *flag)
		return -EBUSY;
	if (flag)
		*flag = true;
	return 0;
}

void wh__descriptor_leave(struct wh__descriptor *descriptor, const struct wh__op *op, int64_t n)
{
	bool *flag = flag_of(descriptor, op);
	if (flag)
		*flag = false;
	if (n < 0 && n != -ECANCELED)
		descriptor->known_peer = false;
}

bool wh__descriptor_accepts_none(const struct wh__descriptor *descriptor, const struct wh__op *op)
{
	struct pollfd poll_fd = {.fd = op->fd, .events = POLLIN};
	return op->opcode == WH__OP_ACCEPT && descriptor->known_listener && poll(&poll_fd, 1, 0) == 0;
}

void wh__descriptor_given(wh_loop *loop, int fd)
{
	struct wh__descriptor *descriptor = wh__descriptor_look(loop, fd);
	if (descriptor && !descriptor->first && !descriptor->closing && descriptor->at_worker_count == 0) {
		close_twin(descriptor);
		*descriptor = (struct wh__descriptor){.registration = descriptor->registration + 1};
	}
}

void wh__descriptors_fini(wh_loop *loop)
{
	if (loop->descriptors) {
		for (uint32_t i = 0; i < loop->descriptors->count; i++)
			close_twin(&loop->descriptors->entries[i]);
		free(loop->descriptors->entries);
	}
	free(loop->descriptors);
	loop->descriptors = NULL;
}
