/* src/engine/sim_message.c -- datagrams of a simulated network, and messages with addresses. Thread: the world's only one. */
#include "engine/message.h"
#include "engine/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { DATAGRAM_BYTES_MAX = 65507 };

/* ---- datagrams ---------------------------------------------------------------------------- */

int64_t wh__datagram_receive(struct wh__socket *s, const struct iovec *iov, size_t count, bool peeks,
                             struct wh__address *ret_source, bool *ret_truncated)
{
	struct wh__datagram *datagram = s->first;
	size_t done = 0;
	if (s->error)
		return wh__socket_take_error(s);
	if (!datagram)
		return s->deaf ? 0 : -EAGAIN;
	for (size_t i = 0; i < count && done < datagram->len; i++) {
		size_t part = datagram->len - done;
		if (part > iov[i].iov_len)
			part = iov[i].iov_len;
		if (part > 0)
			memcpy(iov[i].iov_base, datagram->bytes + done, part);
		done += part;
	}
	if (ret_source)
		*ret_source = datagram->source;
	if (ret_truncated)
		*ret_truncated = done < datagram->len;
	if (peeks)
		return (int64_t)done;
	s->first = datagram->next;
	if (!s->first)
		s->last = NULL;
	s->datagram_bytes -= datagram->len;
	free(datagram);
	return (int64_t)done;
}

int64_t wh__datagram_send(struct wh__socket *s, const void *buf, size_t len,
                          const struct wh__address *destination)
{
	if (s->error)
		return wh__socket_take_error(s);
	if (destination->family == 0)
		return -EDESTADDRREQ;
	if (len > DATAGRAM_BYTES_MAX)
		return -EMSGSIZE;
	if (!s->is_bound) {
		s->local.family = (sa_family_t)s->family;
		if (wh__socket_choose_port(s) != 0)
			return -EAGAIN;
		s->is_bound = true;
	}
	struct wh__packet *packet = wh__packet_new(WH__PACKET_DATAGRAM, buf, len);
	if (!packet)
		return -ENOBUFS;
	packet->from = s->machine;
	packet->to = wh__net_route(s->machine, destination);
	packet->source = s->local;
	if (wh__address_is_any(&packet->source)) {
		const struct wh__host *host = &s->machine->host;
		packet->source = s->family == AF_INET ? host->ipv4 : host->ipv6;
		if (packet->to == s->machine)
			packet->source = *destination; /* from where it was sent to, as of loopback */
		packet->source.port = s->local.port;
	}
	packet->destination = *destination;
	packet->source_id = s->id;
	if (!packet->to)
		free(packet);
	else
		wh__net_send(s->machine->world, packet, NULL);
	return (int64_t)len;
}

void wh__socket_datagram(struct wh_sim_world *world, struct wh__packet *packet)
{
	struct wh__socket *s;
	for (s = packet->to->host.first; s; s = s->next)
		if (s->type == SOCK_DGRAM && s->fd >= 0 && wh__socket_hears(s, &packet->destination) &&
		    (s->state != WH__CONNECTED ||
		     (wh__address_equal(&s->peer, &packet->source) && s->peer.port == packet->source.port)))
			break;
	if (!s) {
		struct wh__packet *answer = wh__packet_new(WH__PACKET_UNREACHABLE, NULL, 0);
		if (!answer)
			return;
		answer->from = packet->to;
		answer->to = packet->from;
		answer->destination_id = packet->source_id;
		wh__net_send(world, answer, NULL);
		return;
	}
	struct wh__datagram *datagram = malloc(sizeof *datagram + packet->len);
	if (!datagram || s->datagram_bytes + packet->len > world->options.socket_bytes) {
		free(datagram); /* no room: lost */
		return;
	}
	*datagram = (struct wh__datagram){.source = packet->source, .len = packet->len};
	memcpy(datagram->bytes, packet->bytes, packet->len);
	*(s->last ? &s->last->next : &s->first) = datagram;
	s->last = datagram;
	s->datagram_bytes += packet->len;
	wh__socket_wake(s);
}

/* Only a connected socket learns of it: udp(7). */
void wh__socket_unreachable(struct wh_sim_world *world, const struct wh__packet *packet)
{
	struct wh__socket *s = wh__net_socket(world, packet->destination_id);
	if (!s || s->state != WH__CONNECTED || s->machine != packet->to)
		return;
	s->error = ECONNREFUSED;
	wh__socket_wake(s);
}

/* ---- messages ----------------------------------------------------------------------------- */

/* As recvmsg(2) fills in what it was handed. Descriptors do not come. */
int64_t wh__message_take(struct wh__socket *s, struct wh__op *op)
{
	struct wh__arguments *arguments = op->buf;
	struct msghdr *message = &arguments->message;
	struct wh__address source = {0};
	bool truncated = false;
	int64_t n = 0;
	socklen_t len = 0;
	if (s->type == SOCK_DGRAM) {
		n = wh__datagram_receive(s, message->msg_iov, message->msg_iovlen, false, &source,
		                         &truncated);
	} else {
		for (size_t i = 0; i < message->msg_iovlen; i++) {
			const struct iovec *iov = &message->msg_iov[i];
			int64_t part = wh__socket_receive(s, op, iov->iov_base, iov->iov_len);
			if (part < 0 && n == 0)
				return part;
			n += part > 0 ? part : 0;
			if (part < (int64_t)iov->iov_len)
				break;
		}
	}
	if (n < 0)
		return n;
	if (source.family != 0)
		wh__address_write(&source, &arguments->address, &len);
	message->msg_namelen = len;
	message->msg_controllen = 0;
	message->msg_flags = truncated ? MSG_TRUNC : 0;
	wh__message_received(op);
	return n;
}

static int64_t send_all_of(struct wh__socket *s, const struct msghdr *message,
                           const struct wh__address *destination)
{
	uint8_t bytes[DATAGRAM_BYTES_MAX];
	size_t len = 0;
	for (size_t i = 0; i < message->msg_iovlen; i++) {
		const struct iovec *iov = &message->msg_iov[i];
		if (iov->iov_len > sizeof bytes - len)
			return -EMSGSIZE;
		if (iov->iov_len > 0)
			memcpy(bytes + len, iov->iov_base, iov->iov_len);
		len += iov->iov_len;
	}
	return wh__datagram_send(s, bytes, len, destination);
}

int64_t wh__message_give(struct wh__socket *s, struct wh__op *op)
{
	const struct wh__arguments *arguments = op->buf;
	const struct msghdr *message = &arguments->message;
	struct wh__address destination = s->peer;
	int64_t n = 0;
	if (message->msg_controllen > 0)
		return -EOPNOTSUPP;
	if (s->type == SOCK_DGRAM) {
		if (message->msg_namelen > 0 &&
		    !wh__address_read(&destination, message->msg_name, message->msg_namelen))
			return -EINVAL;
		if (destination.family != 0 && destination.family != s->family)
			return -EAFNOSUPPORT;
		return send_all_of(s, message, &destination);
	}
	for (size_t i = 0; i < message->msg_iovlen; i++) {
		const struct iovec *iov = &message->msg_iov[i];
		int64_t part = wh__socket_send(s, op, iov->iov_base, iov->iov_len);
		if (part < 0 && n == 0)
			return part;
		n += part > 0 ? part : 0;
		if (part < (int64_t)iov->iov_len)
			break;
	}
	return n;
}

int64_t wh__socket_send_file(wh_sim *sim, struct wh__op *op)
{
	const struct wh__arguments *arguments = op->buf;
	struct wh__socket *s = wh__socket_of(sim, op->fd);
	uint8_t bytes[16384];
	if (!s)
		return wh__disk_is_open(sim->disk, op->fd) ? -ENOTSOCK : -EBADF;
	if (wh__socket_is_number(arguments->source.fd))
		return wh__socket_of(sim, arguments->source.fd) ? -ESPIPE : -EBADF;
	int64_t n = wh__disk_pread(sim->disk, arguments->source.fd, bytes,
	                           op->len < sizeof bytes ? op->len : sizeof bytes, arguments->source.off);
	return n > 0 ? wh__socket_send(s, op, bytes, (size_t)n) : n;
}
