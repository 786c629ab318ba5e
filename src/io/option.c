/* src/io/option.c -- making sockets, their addresses and options: calls that never wait. Thread: loop. */
#include "io/system.h"

#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

/* 0, or why not. */
static int refused(const wh_loop *loop, int fd)
{
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	return fd < 0 ? -EBADF : 0;
}

int wh_socket(wh_loop *loop, int family, int type, int protocol)
{
	return wh__loop_is_mine(loop) ? wh__system_socket(loop, family, type, protocol) : -EPERM;
}

int wh_socket_pair(wh_loop *loop, int type, int ret[2])
{
	int ends[2];
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	if (loop->engine->sockets)
		return loop->engine->sockets->pair(loop, type, ret);
	if (socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	for (int i = 0; i < 2; i++)
		wh__descriptor_given(loop, ret[i] = ends[i]);
	return 0;
}

int wh_bind(wh_loop *loop, int fd, const struct sockaddr *address, socklen_t len)
{
	int error = refused(loop, fd);
	if (error == 0 && !address)
		error = -EINVAL;
	return error == 0 ? wh__system_bind(loop, fd, address, len) : error;
}

int wh_local_address(wh_loop *loop, int fd, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	int error = refused(loop, fd);
	return error == 0 ? wh__system_name(loop, fd, false, ret, ret_len) : error;
}

int wh_peer_address(wh_loop *loop, int fd, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	int error = refused(loop, fd);
	return error == 0 ? wh__system_name(loop, fd, true, ret, ret_len) : error;
}

int wh_peer_credentials(wh_loop *loop, int fd, struct wh_credentials *ret)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	int error = refused(loop, fd);
	if (error == 0)
		error = wh__system_get_option(loop, fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
	if (error != 0)
		return error;
	if (peer.pid == 0)
		return -ENOTCONN;
	*ret = (struct wh_credentials){.pid = peer.pid, .user = peer.uid, .group = peer.gid};
	return 0;
}

/* ---- options -------------------------------------------------------------------------------- */

enum unit { NUMBER, SECONDS, MILLISECONDS, LINGER, INTERFACE };

static const struct known {
	int level, name;
	int name6; /* of IPv6, where that is another */
	enum unit unit;
} options[] = {
	[WH_NODELAY] = {IPPROTO_TCP, TCP_NODELAY, 0, NUMBER},
	[WH_KEEPALIVE] = {SOL_SOCKET, SO_KEEPALIVE, 0, NUMBER},
	[WH_KEEPALIVE_IDLE_NS] = {IPPROTO_TCP, TCP_KEEPIDLE, 0, SECONDS},
	[WH_KEEPALIVE_EVERY_NS] = {IPPROTO_TCP, TCP_KEEPINTVL, 0, SECONDS},
	[WH_KEEPALIVE_PROBES] = {IPPROTO_TCP, TCP_KEEPCNT, 0, NUMBER},
	[WH_USER_TIMEOUT_NS] = {IPPROTO_TCP, TCP_USER_TIMEOUT, 0, MILLISECONDS},
	[WH_LINGER_NS] = {SOL_SOCKET, SO_LINGER, 0, LINGER},
	[WH_REUSE_ADDRESS] = {SOL_SOCKET, SO_REUSEADDR, 0, NUMBER},
	[WH_REUSE_PORT] = {SOL_SOCKET, SO_REUSEPORT, 0, NUMBER},
	[WH_SEND_BUFFER] = {SOL_SOCKET, SO_SNDBUF, 0, NUMBER},
	[WH_RECEIVE_BUFFER] = {SOL_SOCKET, SO_RCVBUF, 0, NUMBER},
	[WH_IPV6_ONLY] = {IPPROTO_IPV6, IPV6_V6ONLY, 0, NUMBER},
	[WH_BROADCAST] = {SOL_SOCKET, SO_BROADCAST, 0, NUMBER},
	[WH_MULTICAST_HOPS] = {IPPROTO_IP, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, NUMBER},
	[WH_MULTICAST_LOOP] = {IPPROTO_IP, IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, NUMBER},
	[WH_MULTICAST_INTERFACE] = {IPPROTO_IP, IP_MULTICAST_IF, IPV6_MULTICAST_IF, INTERFACE},
	[WH_PASS_CREDENTIALS] = {SOL_SOCKET, SO_PASSCRED, 0, NUMBER},
};

/* As the socket's family wants it. 0, or -errno. */
static int find(wh_loop *loop, int fd, int option, struct known *ret)
{
	int family = 0;
	socklen_t len = sizeof family;
	if (option < 0 || (size_t)option >= sizeof options / sizeof *options)
		return -EINVAL;
	*ret = options[option];
	if (ret->name6 == 0)
		return 0;
	int error = wh__system_get_option(loop, fd, SOL_SOCKET, SO_DOMAIN, &family, &len);
	if (error != 0)
		return error;
	if (family == AF_INET6) {
		ret->level = IPPROTO_IPV6;
		ret->name = ret->name6;
		ret->unit = NUMBER; /* an index, which IPv4 wants in a structure */
	}
	return 0;
}

static int64_t divide_up(int64_t ns, int64_t unit_ns)
{
	return ns / unit_ns + (ns % unit_ns > 0);
}

int wh_set_option(wh_loop *loop, int fd, int option, int64_t value)
{
	struct known known;
	int error = refused(loop, fd);
	if (error == 0)
		error = find(loop, fd, option, &known);
	if (error != 0)
		return error;
	if (known.unit == SECONDS || known.unit == MILLISECONDS)
		value = divide_up(value, known.unit == SECONDS ? WH_NS_PER_S : WH_NS_PER_MS);
	else if (known.unit == LINGER && value > 0)
		value = divide_up(value, WH_NS_PER_S);
	if (value > INT_MAX || value < (known.unit == LINGER ? -1 : 0))
		return -EINVAL;
	int number = (int)value;
	struct linger linger = {.l_onoff = number >= 0, .l_linger = number >= 0 ? number : 0};
	struct ip_mreqn interface = {.imr_ifindex = number};
	switch (known.unit) {
	case LINGER:
		return wh__system_set_option(loop, fd, known.level, known.name, &linger, sizeof linger);
	case INTERFACE:
		return wh__system_set_option(loop, fd, known.level, known.name, &interface, sizeof interface);
	default:
		return wh__system_set_option(loop, fd, known.level, known.name, &number, sizeof number);
	}
}

static int64_t value_of(enum unit unit, int64_t number)
{
	switch (unit) {
	case SECONDS:
		return number * WH_NS_PER_S;
	case MILLISECONDS:
		return number * WH_NS_PER_MS;
	default:
		return number;
	}
}

int wh_get_option(wh_loop *loop, int fd, int option, int64_t *ret)
{
	struct known known;
	int error = refused(loop, fd), number = 0;
	struct linger linger = {0};
	if (error == 0)
		error = find(loop, fd, option, &known);
	if (error != 0)
		return error;
	socklen_t len = known.unit == LINGER ? sizeof linger : sizeof number;
	void *at = known.unit == LINGER ? (void *)&linger : &number;
	if (known.unit == INTERFACE)
		return -EOPNOTSUPP; /* IPv4 tells an address, not the index */
	error = wh__system_get_option(loop, fd, known.level, known.name, at, &len);
	if (error != 0)
		return error;
	if (known.unit == LINGER)
		*ret = linger.l_onoff ? linger.l_linger * WH_NS_PER_S : -1;
	else
		*ret = value_of(known.unit, number);
	return 0;
}

int wh_set_option_raw(wh_loop *loop, int fd, int level, int name, const void *value, socklen_t len)
{
	int error = refused(loop, fd);
	return error == 0 ? wh__system_set_option(loop, fd, level, name, value, len) : error;
}

int wh_get_option_raw(wh_loop *loop, int fd, int level, int name, void *ret, socklen_t *len)
{
	int error = refused(loop, fd);
	return error == 0 ? wh__system_get_option(loop, fd, level, name, ret, len) : error;
}

/* ---- groups --------------------------------------------------------------------------------- */

static int change_group(wh_loop *loop, int fd, int change, const struct sockaddr *group, socklen_t len,
                        unsigned int interface_index)
{
	struct group_req request = {.gr_interface = interface_index};
	int error = refused(loop, fd);
	if (error != 0)
		return error;
	if (!group || len > sizeof request.gr_group || len < sizeof(sa_family_t))
		return -EINVAL;
	memcpy(&request.gr_group, group, len);
	int level = group->sa_family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
	return wh__system_set_option(loop, fd, level, change, &request, sizeof request);
}

int wh_join_group(wh_loop *loop, int fd, const struct sockaddr *group, socklen_t len,
                  unsigned int interface_index)
{
	return change_group(loop, fd, MCAST_JOIN_GROUP, group, len, interface_index);
}

int wh_leave_group(wh_loop *loop, int fd, const struct sockaddr *group, socklen_t len,
                   unsigned int interface_index)
{
	return change_group(loop, fd, MCAST_LEAVE_GROUP, group, len, interface_index);
}
