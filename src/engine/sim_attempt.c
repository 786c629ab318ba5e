/* src/engine/sim_attempt.c -- one try of an operation on a socket of a simulated machine, and waiting until the next makes
 * sense: an operation that cannot go on is parked at its socket; whatever changes the socket wakes those that can.
 *
 * Results and errors are Linux's. Thread: the world's only one.
 */
#include "engine/sim.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* ---- readiness ---------------------------------------------------------------------------- */

static int ready_stream(const struct wh__socket *s)
{
	int events = 0;
	bool dead = s->state == WH__DEAD;
	if (s->state == WH__IDLE)
		return POLLOUT | POLLHUP;
	if (s->state == WH__CONNECTING)
		return 0;
	if (s->in.len > 0 || s->peer_ended || s->deaf || dead)
		events |= POLLIN;
	if (wh__stream_room(s) > 0 || s->ends || s->peer_gone || dead)
		events |= POLLOUT;
	if (dead || s->peer_gone || (s->ends && s->peer_ended))
		events |= POLLHUP;
	return events;
}

/* As poll(2): what is ready. */
static int ready(const struct wh__socket *s)
{
	int events = s->error ? POLLERR | POLLIN | POLLOUT : 0;
	if (s->is_pipe)
		return wh__pipe_ready(s);
	if (s->type == SOCK_DGRAM)
		return events | (s->first ? POLLIN : 0) | POLLOUT;
	if (s->state == WH__LISTENING)
		return s->queue ? POLLIN : 0;
	return events | ready_stream(s);
}

/* Of these one at a time; of messages any number. */
static bool receives(const struct wh__op *op)
{
	return op->opcode == WH__OP_RECV || op->opcode == WH__OP_RECV_BUF || op->opcode == WH__OP_READ ||
	       op->opcode == WH__OP_READV;
}

static bool sends(const struct wh__op *op)
{
	return op->opcode == WH__OP_SEND || op->opcode == WH__OP_SENDV || op->opcode == WH__OP_WRITE ||
	       op->opcode == WH__OP_WRITEV;
}

static bool transfers(const struct wh__op *op)
{
	return op->opcode != WH__OP_ACCEPT && op->opcode != WH__OP_CONNECT && op->opcode != WH__OP_READY;
}

int wh__socket_enter(struct wh__op *op)
{
	struct wh__socket *s = wh__socket_of(wh__sim_of(op->loop), op->fd);
	if (!s || s->closing)
		return -EBADF;
	int error = s->is_pipe ? wh__pipe_takes(s, op) : 0;
	if (s->state == WH__LISTENING && transfers(op))
		error = -ENOTCONN; /* as elsewhere, also of what would be sent */
	if (error != 0)
		return error;
	bool *flag = receives(op) ? &s->receiving : sends(op) ? &s->sending : NULL;
	if (flag && *flag)
		return -EBUSY;
	if (flag)
		*flag = true;
	op->engine_state |= WH__SIM_ENTERED;
	return 0;
}

void wh__socket_leave(struct wh__op *op)
{
	struct wh__socket *s = wh__socket_of(wh__sim_of(op->loop), op->fd);
	if (!s || !(op->engine_state & WH__SIM_ENTERED))
		return;
	op->engine_state &= ~(uint32_t)WH__SIM_ENTERED;
	if (receives(op))
		s->receiving = false;
	else if (sends(op))
		s->sending = false;
}

void wh__socket_park(struct wh__op *op)
{
	struct wh__socket *s = wh__socket_of(wh__sim_of(op->loop), op->fd);
	struct wh__op *last = s->parked;
	while (last && last->next)
		last = last->next;
	op->engine_state |= WH__SIM_PARKED;
	op->next = NULL;
	op->prev = last;
	*(last ? &last->next : &s->parked) = op;
}

void wh__socket_unpark(struct wh__op *op)
{
	struct wh__socket *s = wh__socket_of(wh__sim_of(op->loop), op->fd);
	op->engine_state &= ~(uint32_t)WH__SIM_PARKED;
	*(op->prev ? &op->prev->next : &s->parked) = op->next;
	if (op->next)
		op->next->prev = op->prev;
	op->next = op->prev = NULL;
}

void wh__socket_wake(struct wh__socket *s)
{
	int events = ready(s);
	struct wh__op *next;
	for (struct wh__op *op = s->parked; op; op = next) {
		next = op->next;
		if (!(events & (wh__op_events(op) | POLLERR | POLLHUP)))
			continue;
		wh__socket_unpark(op);
		if (wh__sim_take_off(op, s->machine->world->now + wh__sim_latency(op)) != 0)
			wh__socket_park(op); /* no memory: the next change will do */
	}
}

void wh__socket_end_parked(wh_sim *sim, wh_loop *loop, int64_t error)
{
	for (struct wh__socket *s = sim->host.first; s; s = s->next) {
		struct wh__op *next;
		for (struct wh__op *op = s->parked; op; op = next) {
			next = op->next;
			if (op->loop != loop)
				continue;
			wh__socket_unpark(op);
			wh__socket_leave(op);
			wh__op_complete(op, error, NULL);
		}
	}
}

/* ---- one try ------------------------------------------------------------------------------ */

int64_t wh__socket_take_error(struct wh__socket *s)
{
	int error = s->error;
	s->error = 0;
	return -error;
}

static size_t shorten(const struct wh__socket *s, const struct wh__op *op, size_t len)
{
	struct wh_sim_world *world = s->machine->world;
	return wh__sim_is_short(world, op) && len > 1 ? 1 + wh__sim_below(&world->random, len) : len;
}

int64_t wh__socket_receive(struct wh__socket *s, const struct wh__op *op, void *buf, size_t len)
{
	bool peeks = op->opcode == WH__OP_RECV && op->off & MSG_PEEK;
	if (s->type == SOCK_DGRAM) {
		const struct iovec iov = {.iov_base = buf, .iov_len = len};
		return wh__datagram_receive(s, &iov, 1, peeks, NULL, NULL);
	}
	if (s->is_pipe)
		return wh__pipe_receive(s, buf, shorten(s, op, len));
	if (s->state == WH__IDLE || s->state == WH__LISTENING)
		return -ENOTCONN;
	if (s->in.len > 0 && !s->deaf && peeks)
		return (int64_t)wh__bytes_copy(&s->in, 0, buf, len);
	if (s->in.len > 0 && !s->deaf)
		return wh__stream_receive(s, buf, shorten(s, op, len < s->in.len ? len : s->in.len));
	if (s->error)
		return wh__socket_take_error(s);
	return s->peer_ended || s->peer_gone || s->deaf || s->state == WH__DEAD ? 0 : -EAGAIN;
}

static int64_t receive_some(struct wh__socket *s, struct wh__op *op)
{
	for (;;) {
		int64_t n = wh__socket_receive(s, op, (char *)op->buf + op->done, op->len - op->done);
		if (n < 0)
			return n;
		op->done += (uint64_t)n;
		if (n == 0 || op->done == op->len || !(op->flags & WH__ALL))
			return (int64_t)op->done;
	}
}

/* Into one entry after the other, while there is something. */
static int64_t receive_vector(struct wh__socket *s, const struct wh__op *op)
{
	const struct iovec *iov = op->buf;
	int64_t total = 0;
	for (size_t i = 0; i < op->len; i++) {
		int64_t n = wh__socket_receive(s, op, iov[i].iov_base, iov[i].iov_len);
		if (n < 0)
			return total > 0 ? total : n;
		total += n;
		if ((size_t)n < iov[i].iov_len)
			break;
	}
	return total;
}

static int64_t receive_pooled(struct wh__socket *s, struct wh__op *op, void **ret_ptr)
{
	struct wh_buf *buf = wh_buf_get(op->loop);
	if (!buf)
		return -ENOBUFS;
	int64_t n = wh__socket_receive(s, op, buf->data, buf->cap);
	if (n <= 0) {
		wh_buf_put(buf);
		return n;
	}
	buf->len = (uint32_t)n;
	*ret_ptr = buf;
	return n;
}

int64_t wh__socket_send(struct wh__socket *s, const struct wh__op *op, const void *buf, size_t len)
{
	if (s->type == SOCK_DGRAM)
		return wh__datagram_send(s, buf, len, &s->peer);
	if (s->is_pipe)
		return wh__pipe_send(s, buf, shorten(s, op, len));
	if (s->error)
		return wh__socket_take_error(s);
	if (s->ends || s->peer_gone || s->state == WH__DEAD)
		return -EPIPE;
	if (s->state == WH__CONNECTING)
		return -EAGAIN;
	if (s->state != WH__CONNECTED)
		return s->family == AF_UNIX ? -ENOTCONN : -EPIPE;
	return wh__stream_send(s, buf, shorten(s, op, len));
}

static int64_t send_some(struct wh__socket *s, struct wh__op *op)
{
	for (;;) {
		int64_t n = wh__socket_send(s, op, (const char *)op->buf + op->done, op->len - op->done);
		if (n < 0)
			return n;
		op->done += (uint64_t)n;
		if (op->done == op->len || !(op->flags & WH__ALL))
			return (int64_t)op->done;
	}
}

/* op->buf: a copy of the vector, whose entries shrink as bytes leave. */
static int64_t send_vector(struct wh__socket *s, struct wh__op *op)
{
	struct iovec *iov = op->buf;
	for (size_t i = 0; i < op->len; i++) {
		while (iov[i].iov_len > 0) {
			int64_t n = wh__socket_send(s, op, iov[i].iov_base, iov[i].iov_len);
			if (n < 0)
				return n;
			iov[i].iov_base = (char *)iov[i].iov_base + n;
			iov[i].iov_len -= (size_t)n;
			op->done += (uint64_t)n;
		}
	}
	return (int64_t)op->done;
}

static int64_t accept_one(struct wh__socket *s, const struct wh__op *op)
{
	struct wh__socket *waiting = s->queue;
	if (s->type != SOCK_STREAM)
		return -EOPNOTSUPP;
	if (s->state != WH__LISTENING)
		return -EINVAL;
	if (!waiting)
		return -EAGAIN;
	int fd = wh__socket_give_fd(waiting);
	if (fd < 0)
		return -ENFILE;
	if (s->family != AF_UNIX)
		wh__socket_set_nodelay(waiting);
	if (s->path && !waiting->path)
		waiting->path = strdup(s->path);
	s->queue = waiting->queue_next;
	waiting->queue_next = NULL;
	s->queue_count--;
	if (op->buf) {
		/* wh_accept_from(): a UNIX peer has no name, as of one that did not bind */
		struct sockaddr_storage *address = op->buf;
		socklen_t *len = op->second;
		*address = (struct sockaddr_storage){.ss_family = (sa_family_t)waiting->family};
		*len = sizeof(sa_family_t);
		if (waiting->family != AF_UNIX)
			wh__address_write(&waiting->peer, address, len);
	}
	return fd;
}

static int64_t connect_unix(struct wh__socket *s, const struct wh__op *op)
{
	char path[WH__UNIX_PATH_MAX + 1];
	if (!wh__socket_read_path(path, op->buf, (socklen_t)op->len))
		return -EINVAL;
	struct wh__socket *listener = wh__socket_unix_listener(s->machine, path);
	if (!listener)
		return wh__socket_has_name(s->machine, path, NULL) || path[0] == '@' ? -ECONNREFUSED
		                                                                     : -ENOENT;
	int error = wh__stream_join(s, listener);
	return error == 0 ? s->fd : error == -EAGAIN ? -EXFULL : error; /* see wh_connect() */
}

static int64_t connect_one(struct wh__socket *s, const struct wh__op *op)
{
	struct wh__address peer;
	if (s->state == WH__CONNECTING)
		return -EAGAIN;
	if (s->error)
		return wh__socket_take_error(s);
	if (s->type == SOCK_STREAM && s->state == WH__CONNECTED)
		return s->peer.port != 0 && op->done ? s->fd : -EISCONN;
	if (s->family == AF_UNIX)
		return s->state == WH__IDLE ? connect_unix(s, op) : -EINVAL;
	if (!wh__address_read(&peer, op->buf, (socklen_t)op->len))
		return -EINVAL;
	if (peer.family != s->family)
		return -EAFNOSUPPORT;
	if (wh__address_is_any(&peer))
		peer.ip[s->family == AF_INET ? 0 : 15] = s->family == AF_INET ? 127 : 1;
	wh_sim *to = wh__net_route(s->machine, &peer);
	if (!s->is_bound && wh__socket_choose_port(s) != 0)
		return -EADDRNOTAVAIL;
	if (wh__address_is_any(&s->local)) {
		uint16_t port = s->local.port;
		s->local = to == s->machine       ? peer
		           : s->family == AF_INET ? s->machine->host.ipv4
		                                  : s->machine->host.ipv6;
		s->local.port = port;
	}
	s->peer = peer;
	if (s->type == SOCK_STREAM) {
		wh__stream_connect(s);
		return -EAGAIN;
	}
	s->is_bound = true;
	s->state = WH__CONNECTED;
	return s->fd;
}

int64_t wh__socket_attempt(struct wh__op *op, void **ret_ptr)
{
	wh_sim *sim = wh__sim_of(op->loop);
	struct wh__socket *s = wh__socket_of(sim, op->fd);
	int64_t n;
	if (!s)
		return -EBADF;
	switch (op->opcode) {
	case WH__OP_READ:
		return wh__socket_receive(s, op, op->buf, op->len);
	case WH__OP_READV:
		return receive_vector(s, op);
	case WH__OP_RECV:
		return receive_some(s, op);
	case WH__OP_RECV_FROM:
	case WH__OP_RECV_MESSAGE:
		return wh__message_take(s, op);
	case WH__OP_SEND_MESSAGE:
		return wh__message_give(s, op);
	case WH__OP_RECV_BUF:
		return receive_pooled(s, op, ret_ptr);
	case WH__OP_WRITE:
	case WH__OP_SEND:
		return send_some(s, op);
	case WH__OP_SENDV:
	case WH__OP_WRITEV:
		return send_vector(s, op);
	case WH__OP_ACCEPT:
		return accept_one(s, op);
	case WH__OP_CONNECT:
		n = connect_one(s, op);
		op->done = 1; /* from now on, being connected is the result */
		return n;
	case WH__OP_READY:
		n = ready(s) & ((int)op->len | POLLERR | POLLHUP);
		return n ? n : -EAGAIN;
	default:
		return -ESPIPE;
	}
}
