/* src/engine/sim_net.c -- the network of a simulated world: addresses, paths, packets on their way; see sim_net.h.
 *
 * A packet is lost when it is sent (by chance) or when it arrives where it cannot: the path is cut by then, the machine
 * has no power, or nobody has the address. Whoever sent it is not told.
 */
#include "engine/sim.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HOSTS_MAX = 254, FIRST_FREE_PORT = 32768, REORDERED_DELAYS_MAX = 10 };

#define LOOPBACK_NS_MAX   (20 * WH_NS_PER_US)
#define DEFAULT_DELAY_MIN (50 * WH_NS_PER_US)
#define DEFAULT_DELAY_MAX (500 * WH_NS_PER_US)

/* ---- addresses ---------------------------------------------------------------------------- */

static const uint8_t no_ip[16], ipv6_loopback[16] = {[15] = 1};

bool wh__address_read(struct wh__address *ret, const struct sockaddr *address, socklen_t len)
{
	struct wh__address read = {.family = address->sa_family};
	if (address->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		const struct sockaddr_in *from = (const struct sockaddr_in *)(const void *)address;
		memcpy(read.ip, &from->sin_addr, 4);
		read.port = ntohs(from->sin_port);
	} else if (address->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
		const struct sockaddr_in6 *from = (const struct sockaddr_in6 *)(const void *)address;
		memcpy(read.ip, &from->sin6_addr, 16);
		read.port = ntohs(from->sin6_port);
	} else {
		return false;
	}
	*ret = read;
	return true;
}

void wh__address_write(const struct wh__address *address, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	memset(ret, 0, sizeof *ret);
	ret->ss_family = address->family;
	if (address->family == AF_INET) {
		struct sockaddr_in *to = (struct sockaddr_in *)ret;
		memcpy(&to->sin_addr, address->ip, 4);
		to->sin_port = htons(address->port);
		*ret_len = sizeof *to;
	} else {
		struct sockaddr_in6 *to = (struct sockaddr_in6 *)ret;
		memcpy(&to->sin6_addr, address->ip, 16);
		to->sin6_port = htons(address->port);
		*ret_len = sizeof *to;
	}
}

bool wh__address_parse(struct wh__address *ret, const char *text)
{
	struct wh__address read = {.family = AF_INET};
	if (inet_pton(AF_INET, text, read.ip) != 1) {
		read.family = AF_INET6;
		if (inet_pton(AF_INET6, text, read.ip) != 1)
			return false;
	}
	*ret = read;
	return true;
}

bool wh__address_is_any(const struct wh__address *address)
{
	return !memcmp(address->ip, no_ip, sizeof no_ip);
}

bool wh__address_equal(const struct wh__address *a, const struct wh__address *b)
{
	return a->family == b->family && !memcmp(a->ip, b->ip, sizeof a->ip);
}

static bool is_loopback(const struct wh__address *address)
{
	return address->family == AF_INET ? address->ip[0] == 127
	                                  : !memcmp(address->ip, ipv6_loopback, sizeof ipv6_loopback);
}

bool wh__address_is_local(const wh_sim *sim, const struct wh__address *address)
{
	return is_loopback(address) || wh__address_is_any(address) ||
	       wh__address_equal(address, &sim->host.ipv4) || wh__address_equal(address, &sim->host.ipv6);
}

wh_sim *wh__net_route(wh_sim *from, const struct wh__address *address)
{
	if (wh__address_is_local(from, address))
		return from;
	for (size_t i = 0; i < from->world->machines_count; i++) {
		wh_sim *sim = from->world->machines[i];
		if (wh__address_equal(address, &sim->host.ipv4) ||
		    wh__address_equal(address, &sim->host.ipv6))
			return sim;
	}
	return NULL;
}

/* ---- machines and paths ------------------------------------------------------------------- */

int wh__net_init(struct wh_sim_world *world)
{
	world->net.default_path.link =
		(struct wh_sim_link){.delay_min_ns = DEFAULT_DELAY_MIN, .delay_max_ns = DEFAULT_DELAY_MAX};
	return 0;
}

static struct wh__path *path_of(struct wh_sim_world *world, const wh_sim *from, const wh_sim *to)
{
	return &world->net.paths[from->host.number][to->host.number];
}

static int make_paths(struct wh__net *net, size_t number)
{
	if (number < net->hosts_max)
		return 0;
	size_t max = net->hosts_max ? net->hosts_max * 2 : 4;
	struct wh__path **paths = calloc(max, sizeof *paths);
	if (!paths)
		return -ENOMEM;
	for (size_t from = 0; from < max; from++) {
		paths[from] = calloc(max, sizeof **paths);
		if (!paths[from]) {
			while (from-- > 0)
				free(paths[from]);
			free(paths);
			return -ENOMEM;
		}
		for (size_t to = 0; to < max; to++) {
			bool known = from < net->hosts_max && to < net->hosts_max;
			paths[from][to] = known ? net->paths[from][to] : net->default_path;
		}
	}
	for (size_t from = 0; from < net->hosts_max; from++)
		free(net->paths[from]);
	free(net->paths);
	net->paths = paths;
	net->hosts_max = max;
	return 0;
}

static bool number_is_taken(const struct wh_sim_world *world, size_t number)
{
	for (size_t i = 0; i < world->machines_count; i++)
		if (world->machines[i]->host.number == number)
			return true;
	return false;
}

int wh__net_join(struct wh_sim_world *world, wh_sim *sim, const char *address)
{
	size_t number = 0;
	while (number < HOSTS_MAX && number_is_taken(world, number))
		number++;
	if (number == HOSTS_MAX)
		return -ENOSPC;
	struct wh__host *host = &sim->host;
	host->ipv4 = (struct wh__address){.family = AF_INET, .ip = {10, 0, 0, (uint8_t)(number + 1)}};
	host->ipv6 =
		(struct wh__address){.family = AF_INET6, .ip = {[0] = 0xfd, [15] = (uint8_t)(number + 1)}};
	if (address && (!wh__address_parse(&host->ipv4, address) || host->ipv4.family != AF_INET ||
	                is_loopback(&host->ipv4) || wh__address_is_any(&host->ipv4)))
		return -EINVAL;
	for (size_t i = 0; i < world->machines_count; i++)
		if (wh__address_equal(&world->machines[i]->host.ipv4, &host->ipv4))
			return -EADDRINUSE;
	if (make_paths(&world->net, number) != 0)
		return -ENOMEM;
	host->number = number;
	host->next_port = FIRST_FREE_PORT;
	inet_ntop(AF_INET, host->ipv4.ip, host->text, sizeof host->text);
	for (size_t i = 0; i < world->net.hosts_max; i++)
		world->net.paths[number][i] = world->net.paths[i][number] = world->net.default_path;
	return 0;
}

/* Packets on their way to or from it are lost. */
void wh__net_leave(struct wh_sim_world *world, wh_sim *sim)
{
	struct wh__net *net = &world->net;
	size_t kept = 0;
	wh__socket_forget_all(sim);
	for (size_t i = 0; i < net->packets_count; i++) {
		if (net->packets[i]->from == sim || net->packets[i]->to == sim)
			free(net->packets[i]);
		else
			net->packets[kept++] = net->packets[i];
	}
	net->packets_count = kept;
	for (size_t i = 0; i < sim->host.unix_names_count; i++)
		free(sim->host.unix_names[i].path);
	free(sim->host.unix_names);
	free(sim->host.by_fd);
}

static void free_gone(struct wh__net *net)
{
	while (net->gone) {
		struct wh__socket *s = net->gone;
		net->gone = s->next;
		wh__socket_free(s);
	}
}

void wh__net_fini(struct wh_sim_world *world)
{
	struct wh__net *net = &world->net;
	free_gone(net);
	for (size_t i = 0; i < net->packets_count; i++)
		free(net->packets[i]);
	for (size_t i = 0; i < net->hosts_max; i++)
		free(net->paths[i]);
	free(net->paths);
	free(net->packets);
	free(net->by_id);
}

struct wh__socket *wh__net_socket(struct wh_sim_world *world, uint64_t id)
{
	return id < world->net.by_id_count ? world->net.by_id[id] : NULL;
}

/* ---- links, as tests set them ------------------------------------------------------------- */

static int check_link(const struct wh_sim_link *link)
{
	bool fine = link->delay_min_ns >= 0 && link->delay_max_ns >= link->delay_min_ns &&
	            link->lose_percent <= 100 && link->duplicate_percent <= 100 &&
	            link->reorder_percent <= 100;
	return fine ? 0 : -EINVAL;
}

int wh_sim_link(wh_sim_world *world, wh_sim *from, wh_sim *to, const struct wh_sim_link *link)
{
	struct wh_sim_link wanted = link ? *link : (struct wh_sim_link){0};
	if (check_link(&wanted) != 0)
		return -EINVAL;
	if (wanted.delay_max_ns == 0) {
		wanted.delay_min_ns = DEFAULT_DELAY_MIN;
		wanted.delay_max_ns = DEFAULT_DELAY_MAX;
	}
	if (!from && !to)
		world->net.default_path.link = wanted;
	for (size_t i = 0; i < world->net.hosts_max; i++)
		for (size_t j = 0; j < world->net.hosts_max; j++)
			if ((!from || from->host.number == i) && (!to || to->host.number == j))
				world->net.paths[i][j].link = wanted;
	return 0;
}

static void set_cut(wh_sim_world *world, const wh_sim *from, const wh_sim *to, bool is_cut)
{
	if (!from && !to)
		world->net.default_path.is_cut = is_cut;
	for (size_t i = 0; i < world->net.hosts_max; i++)
		for (size_t j = 0; j < world->net.hosts_max; j++)
			if ((!from || from->host.number == i) && (!to || to->host.number == j))
				world->net.paths[i][j].is_cut = is_cut;
}

void wh_sim_cut(wh_sim_world *world, wh_sim *from, wh_sim *to)
{
	set_cut(world, from, to, true);
}

void wh_sim_heal(wh_sim_world *world, wh_sim *from, wh_sim *to)
{
	set_cut(world, from, to, false);
}

void wh_sim_isolate(wh_sim *sim)
{
	set_cut(sim->world, sim, NULL, true);
	set_cut(sim->world, NULL, sim, true);
}

void wh_sim_rejoin(wh_sim *sim)
{
	set_cut(sim->world, sim, NULL, false);
	set_cut(sim->world, NULL, sim, false);
}

int wh_sim_reset(wh_sim_world *world, wh_sim *one, wh_sim *other)
{
	int count = 0;
	for (uint64_t id = 0; id < world->net.by_id_count; id++) {
		struct wh__socket *s = world->net.by_id[id];
		if (!s || s->type != SOCK_STREAM || s->state != WH__CONNECTED)
			continue;
		struct wh__socket *peer = wh__net_socket(world, s->peer_id);
		bool here = peer && ((!one || s->machine == one) && (!other || peer->machine == other));
		bool there = peer && ((!one || peer->machine == one) && (!other || s->machine == other));
		if (!here && !there)
			continue;
		wh__stream_reset(s, ECONNRESET);
		wh__stream_reset(peer, ECONNRESET);
		count++;
	}
	return count;
}

/* ---- packets ------------------------------------------------------------------------------ */

struct wh__packet *wh__packet_new(enum wh__packet_kind kind, const void *bytes, size_t len)
{
	struct wh__packet *packet = calloc(1, sizeof *packet + len);
	if (!packet)
		return NULL;
	packet->kind = (uint8_t)kind;
	packet->len = len;
	if (len > 0)
		memcpy(packet->bytes, bytes, len);
	return packet;
}

static bool arrives_before(const struct wh__packet *a, const struct wh__packet *b)
{
	return a->due != b->due ? a->due < b->due : a->tie < b->tie;
}

/* Takes the packet. */
static void put_on_its_way(struct wh_sim_world *world, struct wh__packet *packet, int64_t due)
{
	struct wh__net *net = &world->net;
	if (net->packets_count == net->packets_max) {
		size_t max = net->packets_max ? net->packets_max * 2 : 64;
		struct wh__packet **packets = reallocarray(net->packets, max, sizeof(struct wh__packet *));
		if (!packets) {
			free(packet);
			return;
		}
		net->packets = packets;
		net->packets_max = max;
	}
	packet->due = due;
	packet->tie = world->sequence++;
	size_t at = net->packets_count++;
	for (; at > 0 && arrives_before(net->packets[at - 1], packet); at--)
		net->packets[at] = net->packets[at - 1];
	net->packets[at] = packet;
}

static int64_t draw_delay(struct wh_sim_world *world, const struct wh_sim_link *link)
{
	if (world->options.order == WH_SIM_FIFO)
		return link->delay_max_ns;
	uint64_t range = (uint64_t)(link->delay_max_ns - link->delay_min_ns) + 1;
	return link->delay_min_ns + (int64_t)wh__sim_below(&world->random, range);
}

static void duplicate(struct wh_sim_world *world, const struct wh__packet *packet, int64_t due)
{
	struct wh__packet *copy = malloc(sizeof *copy + packet->len);
	if (!copy)
		return;
	memcpy(copy, packet, sizeof *copy + packet->len);
	put_on_its_way(world, copy, due);
}

void wh__net_send(struct wh_sim_world *world, struct wh__packet *packet, struct wh__socket *s)
{
	static const struct wh_sim_link loopback = {.delay_min_ns = 1000, .delay_max_ns = LOOPBACK_NS_MAX};
	if (packet->from == packet->to) {
		int64_t due = world->now + draw_delay(world, &loopback);
		struct wh__host *host = &packet->from->host;
		if (due <= host->loopback_due)
			due = host->loopback_due + 1;
		host->loopback_due = due;
		put_on_its_way(world, packet, due);
		return;
	}
	struct wh__path *path = path_of(world, packet->from, packet->to);
	const struct wh_sim_link *link = &path->link;
	if (link->lose_percent > 0 && wh__sim_chance(&world->random, link->lose_percent)) {
		free(packet);
		return;
	}
	int64_t due = world->now + draw_delay(world, link);
	if (link->bytes_per_s > 0) {
		if (path->free_at < world->now)
			path->free_at = world->now;
		path->free_at += (int64_t)((double)(packet->len + 40) * (double)WH_NS_PER_S /
		                           (double)link->bytes_per_s);
		due += path->free_at - world->now;
	}
	if (s) {
		due = due <= s->last_due ? s->last_due + 1 : due;
		s->last_due = due;
	} else {
		if (wh__sim_chance(&world->random, link->reorder_percent))
			due += (int64_t)wh__sim_below(
				&world->random, (uint64_t)link->delay_max_ns * REORDERED_DELAYS_MAX + 1);
		if (packet->kind == WH__PACKET_DATAGRAM &&
		    wh__sim_chance(&world->random, link->duplicate_percent))
			duplicate(world, packet, due + draw_delay(world, link));
	}
	put_on_its_way(world, packet, due);
}

void wh__net_retry_at(struct wh__socket *s, int64_t due)
{
	s->retry_at = due;
	if (s->retry_queued)
		return;
	struct wh__packet *packet = wh__packet_new(WH__PACKET_RETRY, NULL, 0);
	if (!packet)
		return;
	packet->from = packet->to = s->machine;
	packet->destination_id = s->id;
	s->retry_queued = true;
	put_on_its_way(s->machine->world, packet, due);
}

int64_t wh__net_round_trip(wh_sim *from, wh_sim *to)
{
	if (!to || from == to)
		return 2 * LOOPBACK_NS_MAX;
	return path_of(from->world, from, to)->link.delay_max_ns +
	       path_of(from->world, to, from)->link.delay_max_ns;
}

static void retry(struct wh_sim_world *world, const struct wh__packet *packet)
{
	struct wh__socket *s = wh__net_socket(world, packet->destination_id);
	if (!s)
		return;
	s->retry_queued = false;
	if (s->retry_at > world->now)
		wh__net_retry_at(s, s->retry_at);
	else
		wh__stream_retry(s);
}

static void arrive(struct wh_sim_world *world, struct wh__packet *packet)
{
	if (!packet->to || !packet->to->has_power)
		return;
	if (packet->kind == WH__PACKET_RETRY) {
		retry(world, packet);
		return;
	}
	if (packet->from != packet->to && path_of(world, packet->from, packet->to)->is_cut)
		return;
	const uint64_t seen[] = {packet->kind,           packet->from->host.number, packet->to->host.number,
	                         packet->destination_id, packet->position,          packet->len,
	                         (uint64_t)world->now};
	for (size_t i = 0; i < sizeof seen / sizeof *seen; i++)
		wh__sim_trace(world, seen[i]);
	if (packet->kind == WH__PACKET_DATAGRAM)
		wh__socket_datagram(world, packet);
	else if (packet->kind == WH__PACKET_UNREACHABLE)
		wh__socket_unreachable(world, packet);
	else
		wh__stream_arrive(world, packet);
}

bool wh__net_run(struct wh_sim_world *world)
{
	struct wh__net *net = &world->net;
	bool any = false;
	free_gone(net);
	while (net->packets_count > 0 && net->packets[net->packets_count - 1]->due <= world->now) {
		struct wh__packet *packet = net->packets[--net->packets_count];
		arrive(world, packet);
		free(packet);
		any = true;
	}
	return any;
}

int64_t wh__net_next(const struct wh_sim_world *world)
{
	const struct wh__net *net = &world->net;
	return net->packets_count > 0 ? net->packets[net->packets_count - 1]->due : INT64_MAX;
}
