/* src/engine/sim_socket.c -- sockets of a simulated machine: numbers, names, options, closing; what src/io asks of them
 * directly (io/system.h). Results and errors are Linux's. Operations: sim_attempt.c. Thread: the world's only one.
 */
#include "engine/sim.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PORT_MAX = 65535 };

/* ---- sockets and their numbers ------------------------------------------------------------ */

static int give_id(struct wh__net *net, struct wh__socket *s)
{
	if (net->by_id_count == net->by_id_max) {
		size_t max = net->by_id_max ? net->by_id_max * 2 : 64;
		struct wh__socket **by_id = reallocarray(net->by_id, max, sizeof(struct wh__socket *));
		if (!by_id)
			return -ENOMEM;
		net->by_id = by_id;
		net->by_id_max = max;
		if (net->by_id_count == 0)
			net->by_id[net->by_id_count++] = NULL; /* 0 is nobody */
	}
	s->id = net->by_id_count;
	net->by_id[net->by_id_count++] = s;
	return 0;
}

struct wh__socket *wh__socket_new(wh_sim *sim, int family, int type)
{
	struct wh__socket *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	if (give_id(&sim->world->net, s) != 0) {
		free(s);
		return NULL;
	}
	s->machine = sim;
	s->fd = -1;
	s->family = family;
	s->type = type;
	s->prev = sim->host.last;
	*(s->prev ? &s->prev->next : &sim->host.first) = s;
	sim->host.last = s;
	return s;
}

void wh__socket_gone(struct wh__socket *s)
{
	struct wh__host *host = &s->machine->host;
	struct wh__net *net = &s->machine->world->net;
	if (s->gone)
		return;
	assert(!s->parked);
	s->gone = true;
	net->by_id[s->id] = NULL;
	*(s->prev ? &s->prev->next : &host->first) = s->next;
	*(s->next ? &s->next->prev : &host->last) = s->prev;
	if (s->fd >= 0)
		host->by_fd[s->fd - WH__SIM_SOCKET_FIRST] = NULL;
	s->next = net->gone;
	net->gone = s;
}

void wh__socket_free(struct wh__socket *s)
{
	while (s->first) {
		struct wh__datagram *datagram = s->first;
		s->first = datagram->next;
		free(datagram);
	}
	free(s->out.data);
	free(s->in.data);
	free(s->path);
	free(s);
}

struct wh__socket *wh__socket_of(const wh_sim *sim, int fd)
{
	size_t at = (size_t)(fd - WH__SIM_SOCKET_FIRST);
	return wh__socket_is_number(fd) && at < sim->host.by_fd_count ? sim->host.by_fd[at] : NULL;
}

int wh__socket_find(const wh_sim *sim, int fd, struct wh__socket **ret)
{
	struct wh__socket *s = wh__socket_of(sim, fd);
	if (!s)
		return wh__disk_is_open(sim->disk, fd) ? -ENOTSOCK : -EBADF;
	if (s->is_pipe)
		return -ENOTSOCK;
	*ret = s;
	return 0;
}

/* The lowest number that is free. */
int wh__socket_give_fd(struct wh__socket *s)
{
	struct wh__host *host = &s->machine->host;
	size_t at = 0;
	while (at < host->by_fd_count && host->by_fd[at])
		at++;
	if (at == host->by_fd_count) {
		size_t count = host->by_fd_count ? host->by_fd_count * 2 : 16;
		struct wh__socket **by_fd = reallocarray(host->by_fd, count, sizeof(struct wh__socket *));
		if (!by_fd)
			return -ENOMEM;
		memset(by_fd + at, 0, (count - at) * sizeof(struct wh__socket *));
		host->by_fd = by_fd;
		host->by_fd_count = count;
	}
	host->by_fd[at] = s;
	s->fd = WH__SIM_SOCKET_FIRST + (int)at;
	return s->fd;
}

static int new_socket(wh_loop *loop, int family, int type, int protocol)
{
	wh_sim *sim = wh__sim_of(loop);
	if (!sim->has_power)
		return -WH_ESIM_POWER_CUT;
	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		return -EAFNOSUPPORT;
	type &= ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (type != SOCK_STREAM && (type != SOCK_DGRAM || family == AF_UNIX))
		return -EPROTONOSUPPORT;
	int error = wh__sim_fault(sim, WH_SIM_LISTENS, NULL);
	if (error != 0)
		return -error;
	struct wh__socket *s = wh__socket_new(sim, family, type);
	if (!s)
		return -ENOMEM;
	int fd = wh__socket_give_fd(s);
	if (fd < 0)
		wh__socket_gone(s);
	return fd;
}

/* ---- names -------------------------------------------------------------------------------- */

static bool are_in_conflict(const struct wh__socket *a, const struct wh__socket *b)
{
	if (!a->is_bound || a->type != b->type || a->family != b->family || a->local.port != b->local.port)
		return false;
	return wh__address_is_any(&a->local) || wh__address_is_any(&b->local) ||
	       wh__address_equal(&a->local, &b->local);
}

static bool is_taken(const struct wh__socket *s)
{
	for (const struct wh__socket *other = s->machine->host.first; other; other = other->next)
		if (other != s && are_in_conflict(other, s) && !(other->reuse_port && s->reuse_port))
			return true;
	return false;
}

/* Any port that nobody has. */
int wh__socket_choose_port(struct wh__socket *s)
{
	struct wh__host *host = &s->machine->host;
	for (int tries = 0; tries < PORT_MAX - 32768; tries++) {
		s->local.port = host->next_port;
		host->next_port = host->next_port == PORT_MAX ? 32768 : (uint16_t)(host->next_port + 1);
		if (!is_taken(s))
			return 0;
	}
	s->local.port = 0;
	return -EADDRINUSE;
}

static struct wh__unix_name *find_name(const wh_sim *sim, const char *path)
{
	for (size_t i = 0; i < sim->host.unix_names_count; i++)
		if (!strcmp(sim->host.unix_names[i].path, path))
			return &sim->host.unix_names[i];
	return NULL;
}

bool wh__socket_has_name(const wh_sim *sim, const char *path, mode_t *ret_mode)
{
	const struct wh__unix_name *name = find_name(sim, path);
	if (name && ret_mode)
		*ret_mode = S_IFSOCK | name->mode;
	return name != NULL;
}

bool wh__socket_unlink_name(wh_sim *sim, const char *path)
{
	struct wh__unix_name *name = find_name(sim, path);
	if (!name)
		return false;
	free(name->path);
	*name = sim->host.unix_names[--sim->host.unix_names_count];
	return true;
}

static int add_name(struct wh__socket *s, const char *path)
{
	struct wh__host *host = &s->machine->host;
	struct wh__unix_name *names =
		reallocarray(host->unix_names, host->unix_names_count + 1, sizeof *names);
	if (!names)
		return -ENOMEM;
	host->unix_names = names;
	char *copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	names[host->unix_names_count++] = (struct wh__unix_name){.path = copy, .id = s->id, .mode = s->mode};
	return 0;
}

/* The path of a UNIX address, which need not end with a zero byte. false: it has none. */
bool wh__socket_read_path(char ret[WH__UNIX_PATH_MAX + 1], const struct sockaddr *address, socklen_t len)
{
	const struct sockaddr_un *from = (const struct sockaddr_un *)(const void *)address;
	size_t max = len > offsetof(struct sockaddr_un, sun_path)
	                     ? len - offsetof(struct sockaddr_un, sun_path)
	                     : 0;
	if (address->sa_family != AF_UNIX || max == 0)
		return false;
	if (max > sizeof from->sun_path)
		max = sizeof from->sun_path;
	/* an abstract name begins with a zero byte: shown as @, as Linux shows it */
	memcpy(ret, from->sun_path, max);
	ret[max] = 0;
	if (ret[0] == 0)
		ret[0] = '@';
	return true;
}

struct wh__socket *wh__socket_unix_listener(const wh_sim *sim, const char *path)
{
	const struct wh__unix_name *name = find_name(sim, path);
	struct wh__socket *s = name ? wh__net_socket(sim->world, name->id) : NULL;
	return s && s->state == WH__LISTENING ? s : NULL;
}

/* To see whether somebody listens one connects, and that is seen there: as wh_listen() does it. */
static void look_at(struct wh__socket *listener)
{
	struct wh__socket *s = wh__socket_new(listener->machine, AF_UNIX, SOCK_STREAM);
	if (!s)
		return;
	if (wh__stream_join(s, listener) == 0)
		wh__stream_close(s);
	else
		wh__socket_gone(s);
}

static int bind_unix(struct wh__socket *s, const struct sockaddr *address, socklen_t len)
{
	char path[WH__UNIX_PATH_MAX + 1];
	if (!wh__socket_read_path(path, address, len))
		return -EINVAL;
	int error = wh__disk_can_make(s->machine->disk, path);
	if (error != 0 && path[0] != '@')
		return error;
	struct wh__socket *listener = wh__socket_unix_listener(s->machine, path);
	if (listener) {
		look_at(listener);
		return -EADDRINUSE;
	}
	(void)wh__socket_unlink_name(s->machine, path);
	s->path = strdup(path);
	if (!s->path || add_name(s, path) != 0)
		return -ENOMEM;
	s->is_bound = true;
	return 0;
}

static int bind_socket(wh_loop *loop, int fd, const struct sockaddr *address, socklen_t len)
{
	struct wh__socket *s;
	struct wh__address wanted;
	int error = wh__socket_find(wh__sim_of(loop), fd, &s);
	if (error != 0)
		return error;
	if (s->is_bound)
		return -EINVAL;
	if (s->family == AF_UNIX)
		return bind_unix(s, address, len);
	if (address->sa_family != s->family)
		return -EAFNOSUPPORT;
	if (!wh__address_read(&wanted, address, len))
		return -EINVAL;
	if (!wh__address_is_local(s->machine, &wanted))
		return -EADDRNOTAVAIL;
	s->local = wanted;
	error = wanted.port == 0 ? wh__socket_choose_port(s) : is_taken(s) ? -EADDRINUSE : 0;
	if (error != 0)
		s->local = (struct wh__address){0};
	else
		s->is_bound = true;
	return error;
}

static int listen_socket(wh_loop *loop, int fd, int backlog)
{
	struct wh__socket *s;
	int error = wh__socket_find(wh__sim_of(loop), fd, &s);
	if (error != 0)
		return error;
	if (s->type != SOCK_STREAM)
		return -EOPNOTSUPP;
	if ((s->state != WH__IDLE && s->state != WH__LISTENING) || (s->family == AF_UNIX && !s->is_bound))
		return -EINVAL;
	s->state = WH__LISTENING;
	s->backlog = backlog;
	return 0;
}

bool wh__socket_hears(const struct wh__socket *s, const struct wh__address *destination)
{
	if (!s->is_bound || s->closing || s->local.port != destination->port)
		return false;
	/* of IPv6, any is of IPv4, too */
	return wh__address_is_any(&s->local) ? s->family == AF_INET6 || destination->family == AF_INET
	                                     : wh__address_equal(&s->local, destination);
}

struct wh__socket *wh__socket_listening(wh_sim *sim, const struct wh__address *address)
{
	struct wh__socket *found = NULL;
	uint64_t count = 0;
	for (struct wh__socket *s = sim->host.first; s; s = s->next)
		if (s->state == WH__LISTENING && s->family != AF_UNIX && wh__socket_hears(s, address) &&
		    wh__sim_below(&sim->world->random, ++count) == 0)
			found = s; /* of several that share a port, any */
	return found;
}

/* ---- what programs ask of a socket -------------------------------------------------------- */

static int name_of(wh_loop *loop, int fd, bool peer, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	wh_sim *sim = wh__sim_of(loop);
	struct wh__socket *s;
	int error = wh__socket_find(sim, fd, &s);
	if (error != 0)
		return error;
	if (peer && s->state != WH__CONNECTED && s->peer.family == 0)
		return -ENOTCONN;
	if (s->family == AF_UNIX) {
		struct sockaddr_un address = {.sun_family = AF_UNIX};
		const struct wh__socket *of = peer ? wh__net_socket(sim->world, s->peer_id) : s;
		const char *path = of ? of->path : NULL;
		size_t len = path ? strlen(path) + 1 : 0;
		memcpy(address.sun_path, path ? path : "", len);
		if (path && path[0] == '@')
			address.sun_path[0] = 0;
		memset(ret, 0, sizeof *ret);
		memcpy(ret, &address, sizeof address);
		*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
		return 0;
	}
	struct wh__address address = peer ? s->peer : s->local;
	address.family = (sa_family_t)(address.family ? address.family : s->family);
	wh__address_write(&address, ret, ret_len);
	return 0;
}

static int shut_down(wh_loop *loop, int fd, int how)
{
	wh_sim *sim = wh__sim_of(loop);
	struct wh__socket *s;
	int error = wh__socket_find(sim, fd, &s);
	if (error != 0)
		return error;
	if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
		return -EINVAL;
	if (s->state != WH__CONNECTED)
		return -ENOTCONN;
	if (how != SHUT_WR)
		s->deaf = true;
	if (how != SHUT_RD && s->type == SOCK_STREAM)
		wh__stream_end(s);
	wh__socket_wake(s);
	return 0;
}

/* Options that are kept, and read again: their value is a bit of s->options. */
static int option_bit(int level, int name)
{
	static const struct {
		int level, name;
	} known[] = {
		{IPPROTO_TCP, TCP_NODELAY},      {SOL_SOCKET, SO_REUSEADDR},  {SOL_SOCKET, SO_REUSEPORT},
		{SOL_SOCKET, SO_KEEPALIVE},      {IPPROTO_TCP, TCP_KEEPIDLE}, {IPPROTO_TCP, TCP_KEEPINTVL},
		{IPPROTO_TCP, TCP_KEEPCNT},      {IPPROTO_TCP, TCP_CORK},     {IPPROTO_IPV6, IPV6_V6ONLY},
		{SOL_SOCKET, SO_BROADCAST},      {SOL_SOCKET, SO_RCVBUF},     {SOL_SOCKET, SO_SNDBUF},
		{IPPROTO_TCP, TCP_USER_TIMEOUT}, {IPPROTO_TCP, TCP_FASTOPEN}};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (known[i].level == level && known[i].name == name)
			return 1 << i;
	return 0;
}

void wh__socket_set_nodelay(struct wh__socket *s)
{
	s->options |= option_bit(IPPROTO_TCP, TCP_NODELAY);
}

static int set_option(wh_loop *loop, int fd, int level, int name, const void *value, socklen_t len)
{
	struct wh__socket *s;
	int bit = option_bit(level, name), set = 0, error = wh__socket_find(wh__sim_of(loop), fd, &s);
	if (error != 0)
		return error;
	if (len < sizeof set)
		return -EINVAL;
	memcpy(&set, value, sizeof set);
	if (level == SOL_SOCKET && name == SO_LINGER) {
		struct linger linger = {0};
		memcpy(&linger, value, len < sizeof linger ? len : sizeof linger);
		s->resets = linger.l_onoff && linger.l_linger == 0;
		return 0;
	}
	if (bit == 0 || (level == IPPROTO_TCP && (s->family == AF_UNIX || s->type != SOCK_STREAM)))
		return s->family == AF_UNIX ? -EOPNOTSUPP : -ENOPROTOOPT;
	s->options = set ? s->options | bit : s->options & ~bit;
	if (level == SOL_SOCKET && name == SO_REUSEPORT)
		s->reuse_port = set != 0;
	return 0;
}

static int get_option(wh_loop *loop, int fd, int level, int name, void *ret_value, socklen_t *ret_len)
{
	struct wh__socket *s;
	int bit = option_bit(level, name), value, error = wh__socket_find(wh__sim_of(loop), fd, &s);
	if (error != 0)
		return error;
	if (*ret_len < sizeof value)
		return -EINVAL;
	if (level == SOL_SOCKET && name == SO_ERROR) {
		value = s->error;
		s->error = 0;
	} else if (level == SOL_SOCKET && name == SO_TYPE) {
		value = s->type;
	} else if (bit != 0) {
		value = (s->options & bit) != 0;
	} else {
		return -ENOPROTOOPT;
	}
	memcpy(ret_value, &value, sizeof value);
	*ret_len = sizeof value;
	return 0;
}

/* of a UNIX socket's file */
static int set_mode(wh_loop *loop, int fd, mode_t mode)
{
	struct wh__socket *s = wh__socket_of(wh__sim_of(loop), fd);
	if (!s)
		return -EBADF;
	s->mode = mode;
	struct wh__unix_name *name = s->path ? find_name(s->machine, s->path) : NULL;
	if (name)
		name->mode = mode;
	return 0;
}

static void close_now(wh_loop *loop, int fd)
{
	(void)wh__socket_close(wh__sim_of(loop), fd);
}

const struct wh__sockets wh__sim_sockets = {
	.socket = new_socket,
	.pair = wh__socket_pair,
	.pipe = wh__socket_pipe,
	.close = close_now,
	.bind = bind_socket,
	.listen = listen_socket,
	.name = name_of,
	.shutdown = shut_down,
	.set_option = set_option,
	.get_option = get_option,
	.set_mode = set_mode,
};

/* ---- closing ------------------------------------------------------------------------------ */

int64_t wh__socket_begin_close(wh_sim *sim, int fd)
{
	struct wh__socket *s = wh__socket_of(sim, fd);
	if (!s || s->closing)
		return -EBADF;
	s->closing = true;
	while (s->parked) {
		struct wh__op *op = s->parked;
		wh__socket_unpark(op);
		wh__socket_leave(op);
		wh__sim_note(op, -ECANCELED);
		wh__op_complete(op, -ECANCELED, NULL);
	}
	return 0;
}

int64_t wh__socket_close(wh_sim *sim, int fd)
{
	struct wh__socket *s = wh__socket_of(sim, fd);
	if (!s)
		return -EBADF;
	(void)wh__socket_begin_close(sim, fd);
	sim->host.by_fd[fd - WH__SIM_SOCKET_FIRST] = NULL;
	s->fd = -1;
	while (s->queue) {
		struct wh__socket *waiting = s->queue;
		s->queue = waiting->queue_next;
		waiting->resets = waiting->family != AF_UNIX;
		wh__stream_close(waiting);
	}
	if (s->type == SOCK_STREAM)
		wh__stream_close(s);
	else
		wh__socket_gone(s);
	return 0;
}

void wh__socket_close_all(wh_sim *sim)
{
	for (size_t i = 0; i < sim->host.by_fd_count; i++)
		if (sim->host.by_fd[i])
			(void)wh__socket_close(sim, WH__SIM_SOCKET_FIRST + (int)i);
}

void wh__socket_forget_all(wh_sim *sim)
{
	while (sim->host.first)
		wh__socket_gone(sim->host.first);
}
