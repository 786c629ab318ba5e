/* src/engine/sim_stream.c -- streams of a simulated network: TCP in small, and UNIX sockets.
 *
 * Positions count the bytes of a direction from 0; its end takes one. What is sent stays until it is acknowledged, and
 * all of it from there on is sent again when that takes too long. A receiver takes what it expects next, as far as it has
 * room, says so, and drops the rest. A packet for a connection that a machine does not know is answered by a reset: that
 * is how peers learn that it has been away.
 *
 * UNIX streams are the same between two sockets of one machine, with packets that arrive while they are sent.
 */
#include "engine/sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT_BYTES = 16384, TRIES_MAX = 15, CONNECT_TRIES_MAX = 6 };

#define RETRY_MIN     (200 * WH_NS_PER_MS)
#define RETRY_MAX     (120 * WH_NS_PER_S)
#define ORPHAN_NS_MAX (60 * WH_NS_PER_S) /* that waits for its peer's end */

/* ---- bytes -------------------------------------------------------------------------------- */

size_t wh__bytes_copy(const struct wh__bytes *bytes, size_t at, void *to, size_t len)
{
	if (at >= bytes->len)
		return 0;
	if (len > bytes->len - at)
		len = bytes->len - at;
	size_t from = (bytes->start + at) & (bytes->max - 1), first = bytes->max - from;
	if (first > len)
		first = len;
	memcpy(to, bytes->data + from, first);
	memcpy((uint8_t *)to + first, bytes->data, len - first);
	return len;
}

int wh__bytes_put(struct wh__bytes *bytes, const void *from, size_t len)
{
	if (len > bytes->max - bytes->len) {
		size_t max = bytes->max ? bytes->max : 256;
		while (max < bytes->len + len)
			max *= 2;
		uint8_t *data = malloc(max);
		if (!data)
			return -ENOMEM;
		size_t kept = bytes->len > 0 ? wh__bytes_copy(bytes, 0, data, bytes->len) : 0;
		free(bytes->data);
		*bytes = (struct wh__bytes){.data = data, .max = max, .len = kept};
	}
	if (len == 0)
		return 0;
	size_t to = (bytes->start + bytes->len) & (bytes->max - 1), first = bytes->max - to;
	if (first > len)
		first = len;
	memcpy(bytes->data + to, from, first);
	memcpy(bytes->data, (const uint8_t *)from + first, len - first);
	bytes->len += len;
	return 0;
}

void wh__bytes_drop(struct wh__bytes *bytes, size_t len)
{
	assert(len <= bytes->len);
	bytes->len -= len;
	bytes->start = bytes->len == 0 ? 0 : (bytes->start + len) & (bytes->max - 1);
}

/* ---- sending packets ---------------------------------------------------------------------- */

static size_t room_of(const struct wh__socket *s)
{
	size_t max = s->machine->world->options.socket_bytes;
	return s->in.len < max ? max - s->in.len : 0;
}

size_t wh__stream_room(const struct wh__socket *s)
{
	size_t max = s->machine->world->options.socket_bytes;
	return s->out.len < max ? max - s->out.len : 0;
}

static void emit(struct wh__socket *s, struct wh__packet *packet)
{
	if (!packet)
		return;
	packet->from = s->machine;
	packet->source = s->local;
	packet->destination = s->peer;
	packet->source_id = s->id;
	packet->destination_id = s->peer_id;
	packet->window = s->taken + room_of(s);
	if (s->family == AF_UNIX) {
		packet->to = s->machine;
		wh__stream_arrive(s->machine->world, packet);
		free(packet);
		return;
	}
	packet->to = wh__net_route(s->machine, &s->peer);
	if (!packet->to) {
		free(packet); /* nobody has the address */
		return;
	}
	wh__net_send(s->machine->world, packet, s);
}

static void emit_plain(struct wh__socket *s, enum wh__packet_kind kind)
{
	struct wh__packet *packet = wh__packet_new(kind, NULL, 0);
	if (packet)
		packet->position = s->taken + (s->peer_ended ? 1 : 0);
	emit(s, packet);
}

/* The answer to a packet for a socket that is not here. */
static void refuse(struct wh_sim_world *world, const struct wh__packet *packet)
{
	struct wh__packet *answer = wh__packet_new(WH__PACKET_RESET, NULL, 0);
	if (!answer)
		return;
	answer->from = packet->to;
	answer->to = packet->from;
	answer->source = packet->destination;
	answer->destination = packet->source;
	answer->destination_id = packet->source_id;
	wh__net_send(world, answer, NULL);
}

static int64_t patience(const struct wh__socket *s)
{
	int64_t ns = 2 * wh__net_round_trip(s->machine, wh__net_route(s->machine, &s->peer));
	if (ns < RETRY_MIN)
		ns = RETRY_MIN;
	for (int i = 0; i < s->tries && ns < RETRY_MAX; i++)
		ns *= 2;
	return s->machine->world->now + (ns < RETRY_MAX ? ns : RETRY_MAX);
}

static bool has_unfinished(const struct wh__socket *s)
{
	return s->state == WH__CONNECTED && (s->out.len > 0 || (s->ends && !s->end_acked));
}

static void send_segment(struct wh__socket *s, size_t len)
{
	uint8_t bytes[SEGMENT_BYTES];
	len = wh__bytes_copy(&s->out, (size_t)(s->sent - s->acked), bytes, len);
	struct wh__packet *packet = wh__packet_new(WH__PACKET_DATA, bytes, len);
	if (packet)
		packet->position = s->sent;
	s->sent += len;
	emit(s, packet);
}

/* Send what the peer has room for. */
static void push(struct wh__socket *s)
{
	bool was_idle = s->sent == s->acked && !s->end_sent;
	while (s->state == WH__CONNECTED && s->sent < s->acked + s->out.len && s->sent < s->window) {
		uint64_t len = s->acked + s->out.len - s->sent;
		if (len > s->window - s->sent)
			len = s->window - s->sent;
		send_segment(s, len < SEGMENT_BYTES ? (size_t)len : SEGMENT_BYTES);
	}
	if (s->state == WH__CONNECTED && s->ends && !s->end_sent && s->sent == s->acked + s->out.len) {
		struct wh__packet *packet = wh__packet_new(WH__PACKET_END, NULL, 0);
		if (packet)
			packet->position = s->sent;
		s->end_sent = true;
		emit(s, packet);
	}
	if (s->family != AF_UNIX && has_unfinished(s) && (was_idle || !s->retry_queued))
		wh__net_retry_at(s, patience(s));
}

/* ---- what programs do --------------------------------------------------------------------- */

void wh__stream_connect(struct wh__socket *s)
{
	s->state = WH__CONNECTING;
	s->tries = 0;
	emit_plain(s, WH__PACKET_CONNECT);
	wh__net_retry_at(s, s->machine->world->now + WH_NS_PER_S);
}

int64_t wh__stream_send(struct wh__socket *s, const void *bytes, size_t len)
{
	size_t room = wh__stream_room(s);
	if (room == 0 && len > 0)
		return -EAGAIN;
	if (len > room)
		len = room;
	if (wh__bytes_put(&s->out, bytes, len) != 0)
		return -ENOBUFS;
	push(s);
	return (int64_t)len;
}

int64_t wh__stream_receive(struct wh__socket *s, void *bytes, size_t len)
{
	size_t before = room_of(s), max = s->machine->world->options.socket_bytes;
	size_t n = wh__bytes_copy(&s->in, 0, bytes, len);
	wh__bytes_drop(&s->in, n);
	/* small steps are not worth a packet */
	if (before < max / 2 && (room_of(s) >= max / 2 || s->in.len == 0) && s->state == WH__CONNECTED)
		emit_plain(s, WH__PACKET_ACK);
	return (int64_t)n;
}

void wh__stream_end(struct wh__socket *s)
{
	if (s->ends)
		return;
	s->ends = true;
	push(s);
}

static bool is_over(const struct wh__socket *s)
{
	return s->state != WH__CONNECTED || (s->end_acked && (s->peer_ended || s->family == AF_UNIX));
}

void wh__stream_reset(struct wh__socket *s, int error)
{
	if (s->state != WH__CONNECTED && s->state != WH__CONNECTING)
		return;
	s->state = WH__DEAD;
	s->error = error;
	wh__bytes_drop(&s->out, s->out.len);
	if (s->orphan)
		wh__socket_gone(s);
	else
		wh__socket_wake(s);
}

void wh__stream_close(struct wh__socket *s)
{
	s->orphan = true;
	if (s->state == WH__CONNECTED && (s->in.len > 0 || s->resets)) {
		emit_plain(s, WH__PACKET_RESET);
		s->state = WH__DEAD;
	}
	if (s->state == WH__CONNECTED) {
		struct wh__socket *peer = wh__net_socket(s->machine->world, s->peer_id);
		wh__stream_end(s);
		if (s->family == AF_UNIX && peer && !peer->gone) {
			peer->peer_gone = true;
			wh__socket_wake(peer);
		}
	}
	if (s->gone)
		return;
	if (is_over(s))
		wh__socket_gone(s);
	else if (s->end_acked)
		wh__net_retry_at(s, s->machine->world->now + ORPHAN_NS_MAX);
}

/* ---- timers ------------------------------------------------------------------------------- */

void wh__stream_retry(struct wh__socket *s)
{
	struct wh_sim_world *world = s->machine->world;
	if (s->state == WH__CONNECTING) {
		if (++s->tries > CONNECT_TRIES_MAX) {
			wh__stream_reset(s, ETIMEDOUT);
			return;
		}
		emit_plain(s, WH__PACKET_CONNECT);
		wh__net_retry_at(s, world->now + (WH_NS_PER_S << s->tries));
		return;
	}
	if (!has_unfinished(s)) {
		if (s->orphan)
			wh__socket_gone(s);
		return;
	}
	if (++s->tries > TRIES_MAX) {
		wh__stream_reset(s, ETIMEDOUT);
		return;
	}
	s->sent = s->acked;
	s->end_sent = false;
	if (s->sent >= s->window && s->out.len > 0)
		send_segment(s, 0); /* no room: ask */
	wh__net_retry_at(s, patience(s));
	push(s);
}

/* ---- what arrives ------------------------------------------------------------------------- */

static struct wh__socket *make_connection(struct wh__socket *listener, const struct wh__packet *packet)
{
	struct wh__socket *s = wh__socket_new(listener->machine, listener->family, SOCK_STREAM);
	if (!s)
		return NULL;
	s->state = WH__CONNECTED;
	s->local = packet->destination;
	s->peer = packet->source;
	s->peer_id = packet->source_id;
	s->window = packet->window;
	struct wh__socket **last = &listener->queue;
	while (*last)
		last = &(*last)->queue_next;
	*last = s;
	listener->queue_count++;
	wh__socket_wake(listener);
	return s;
}

static bool is_full(const struct wh__socket *listener)
{
	return listener->queue_count > listener->backlog;
}

static void on_connect(struct wh_sim_world *world, const struct wh__packet *packet)
{
	struct wh__socket *s;
	for (s = packet->to->host.first; s; s = s->next)
		if (s->state == WH__CONNECTED && s->type == SOCK_STREAM && s->family != AF_UNIX &&
		    s->peer_id == packet->source_id)
			break; /* its answer was lost */
	if (!s) {
		struct wh__socket *listener = wh__socket_listening(packet->to, &packet->destination);
		if (!listener) {
			refuse(world, packet);
			return;
		}
		if (is_full(listener))
			return; /* it will ask again */
		s = make_connection(listener, packet);
	}
	if (s)
		emit_plain(s, WH__PACKET_CONNECTED);
}

int wh__stream_join(struct wh__socket *s, struct wh__socket *listener)
{
	if (is_full(listener))
		return -EAGAIN;
	const struct wh__packet packet = {.source_id = s->id,
	                                  .window = s->machine->world->options.socket_bytes};
	struct wh__socket *peer = make_connection(listener, &packet);
	if (!peer)
		return -ENOBUFS;
	s->peer_id = peer->id;
	s->window = packet.window;
	s->state = WH__CONNECTED;
	return 0;
}

static void on_connected(struct wh__socket *s, const struct wh__packet *packet)
{
	if (s->state != WH__CONNECTING)
		return;
	s->state = WH__CONNECTED;
	s->peer_id = packet->source_id;
	s->window = packet->window;
	s->tries = 0;
	wh__socket_wake(s);
}

static void on_data(struct wh_sim_world *world, struct wh__socket *s, const struct wh__packet *packet)
{
	if (s->orphan && packet->len > 0) {
		/* nobody will read it */
		s->state = WH__DEAD;
		emit_plain(s, WH__PACKET_RESET);
		wh__socket_gone(s);
		return;
	}
	if (packet->position <= s->taken && packet->position + packet->len > s->taken) {
		size_t skip = (size_t)(s->taken - packet->position), len = packet->len - skip,
		       room = room_of(s);
		if (len > room)
			len = room;
		if (s->deaf || wh__bytes_put(&s->in, packet->bytes + skip, len) == 0)
			s->taken += len;
		wh__socket_wake(s);
	}
	emit_plain(s, WH__PACKET_ACK);
}

static void on_end(struct wh__socket *s, const struct wh__packet *packet)
{
	if (packet->position == s->taken && !s->peer_ended) {
		s->peer_ended = true;
		wh__socket_wake(s);
	}
	emit_plain(s, WH__PACKET_ACK);
	if (s->orphan && is_over(s))
		wh__socket_gone(s);
}

static void on_ack(struct wh__socket *s, const struct wh__packet *packet)
{
	uint64_t end = s->acked + s->out.len;
	if (packet->window > s->window)
		s->window = packet->window;
	s->tries = 0;
	if (packet->position > s->acked) {
		uint64_t upto = packet->position < end ? packet->position : end;
		wh__bytes_drop(&s->out, (size_t)(upto - s->acked));
		s->acked = upto;
		if (s->sent < upto)
			s->sent = upto;
		s->end_acked = s->end_acked || (s->ends && packet->position > end);
		if (s->retry_queued && has_unfinished(s))
			wh__net_retry_at(s, patience(s));
		wh__socket_wake(s);
	}
	push(s);
	if (!s->orphan || s->gone)
		return;
	if (is_over(s))
		wh__socket_gone(s);
	else if (s->end_acked)
		wh__net_retry_at(s, s->machine->world->now + ORPHAN_NS_MAX);
}

void wh__stream_arrive(struct wh_sim_world *world, struct wh__packet *packet)
{
	if (packet->kind == WH__PACKET_CONNECT) {
		on_connect(world, packet);
		return;
	}
	struct wh__socket *s = wh__net_socket(world, packet->destination_id);
	bool is_here =
		s && s->machine == packet->to && (s->state == WH__CONNECTED || s->state == WH__CONNECTING);
	if (packet->kind == WH__PACKET_RESET) {
		if (is_here && s->state == WH__CONNECTING)
			wh__stream_reset(s, ECONNREFUSED);
		else if (is_here)
			wh__stream_reset(s, s->peer_ended && s->family != AF_UNIX ? EPIPE : ECONNRESET);
		return;
	}
	if (!is_here) {
		if (s && s->family == AF_UNIX)
			return; /* both ends are here, and know */
		if (packet->kind != WH__PACKET_ACK)
			refuse(world, packet);
		return;
	}
	if (packet->kind == WH__PACKET_CONNECTED)
		on_connected(s, packet);
	else if (packet->kind == WH__PACKET_DATA)
		on_data(world, s, packet);
	else if (packet->kind == WH__PACKET_END)
		on_end(s, packet);
	else
		on_ack(s, packet);
}
