/* src/cli/serve_listen.c -- the sockets that `whilst serve` listens on. See serve_listen.h. */
#include "cli/serve_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/units.h"

enum { INHERITED_FIRST = 3 }; /* SD_LISTEN_FDS_START */

static const char *const schemes[] = {"http", "https", "beanstalk"};

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
	struct sockaddr_storage room;
};

void serve_listeners_init(struct serve_listeners *listeners)
{
	listeners->count = 0;
	wh__text_init(&listeners->addresses, NULL, 0);
}

void serve_listeners_done(struct serve_listeners *listeners, wh_loop *loop)
{
	while (listeners->count > 0) {
		int fd = listeners->all[--listeners->count].fd;
		if (fd >= 0)
			wh_await(wh_close(loop, fd));
	}
	wh__text_done(&listeners->addresses);
}

static bool parse_unix(const char *path, union address *ret, socklen_t *ret_len)
{
	size_t len = strlen(path);

	if (len == 0 || len >= sizeof(ret->local.sun_path))
		return false;
	ret->local.sun_family = AF_UNIX;
	memcpy(ret->local.sun_path, path, len + 1);
	*ret_len = (socklen_t)sizeof(ret->local);
	return true;
}

static bool parse_address(const char *text, union address *ret, socklen_t *ret_len)
{
	const char *colon = strrchr(text, ':');
	char host[64];
	uint64_t port;

	memset(ret, 0, sizeof(*ret));
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, ret, ret_len);
	if (!colon || (size_t)(colon - text) >= sizeof(host) ||
	    !wh__parse_u64(colon + 1, strlen(colon + 1), 65535, &port))
		return false;
	snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	if (strcmp(host, "localhost") == 0)
		snprintf(host, sizeof(host), "127.0.0.1");
	if (strcmp(host, "*") == 0)
		snprintf(host, sizeof(host), "0.0.0.0");
	if (host[0] == '[' && host[strlen(host) - 1] == ']') {
		host[strlen(host) - 1] = 0;
		ret->v6.sin6_family = AF_INET6;
		ret->v6.sin6_port = htons((uint16_t)port);
		*ret_len = sizeof(ret->v6);
		return inet_pton(AF_INET6, host + 1, &ret->v6.sin6_addr) == 1;
	}
	ret->v4.sin_family = AF_INET;
	ret->v4.sin_port = htons((uint16_t)port);
	*ret_len = sizeof(ret->v4);
	return inet_pton(AF_INET, host, &ret->v4.sin_addr) == 1;
}

bool serve_address_valid(const char *text)
{
	union address address;
	socklen_t len;

	return parse_address(text, &address, &len);
}

/* What a client is told to connect to, with the port that was chosen. */
static void put_address(struct wh__text *to, const union address *address, enum serve_front front)
{
	char ip[INET6_ADDRSTRLEN] = "";
	const char *scheme = schemes[front];

	if (to->len > 0)
		wh__text_put(to, ", ", 2);
	if (address->any.sa_family == AF_UNIX) {
		wh__text_format(to, "%s%sunix:%s", front == SERVE_HTTP ? "" : scheme,
		                front == SERVE_HTTP ? "" : ":", address->local.sun_path);
	} else if (address->any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &address->v6.sin6_addr, ip, sizeof(ip));
		wh__text_format(to, "%s://[%s]:%u", scheme, ip, ntohs(address->v6.sin6_port));
	} else {
		inet_ntop(AF_INET, &address->v4.sin_addr, ip, sizeof(ip));
		wh__text_format(to, "%s://%s:%u", scheme, ip, ntohs(address->v4.sin_port));
	}
}

static int add(struct serve_listeners *listeners, wh_loop *loop, int fd, enum serve_front front)
{
	union address address = {0};
	socklen_t len = sizeof(address);
	int error = wh_local_address(loop, fd, &address.room, &len);

	listeners->all[listeners->count++] = (struct serve_listener){fd, front};
	if (error == 0)
		put_address(&listeners->addresses, &address, front);
	return error;
}

int serve_listen(struct serve_listeners *listeners, wh_loop *loop, const char *text, enum serve_front front)
{
	union address address;
	socklen_t len;
	int fd;

	if (!parse_address(text, &address, &len))
		return -EINVAL;
	if (listeners->count == SERVE_LISTENERS_MAX)
		return -ENOSPC;
	fd = wh_listen(loop, &address.any, len, NULL);
	return fd < 0 ? fd : add(listeners, loop, fd, front);
}

/* The name of the index-th descriptor in "web:https:beanstalk". */
static enum serve_front inherited_front(const char *names, unsigned index)
{
	for (; names && index > 0; index--) {
		names = strchr(names, ':');
		if (names)
			names++;
	}
	for (int front = SERVE_HTTPS; names && front < SERVE_FRONTS; front++)
		if (strcspn(names, ":") == strlen(schemes[front]) &&
		    strncmp(names, schemes[front], strlen(schemes[front])) == 0)
			return (enum serve_front)front;
	return SERVE_HTTP;
}

static bool listens(wh_loop *loop, int fd)
{
	int type = 0, accepts = 0;
	socklen_t len = sizeof(int);

	if (wh_get_option_raw(loop, fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 || type != SOCK_STREAM)
		return false;
	len = sizeof(int);
	return wh_get_option_raw(loop, fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) == 0 && accepts != 0;
}

int serve_inherit(struct serve_listeners *listeners, wh_loop *loop, int *ret_bad)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS"),
		   *names = getenv("LISTEN_FDNAMES");
	uint64_t ours, count;

	/* they may be meant for another process, which has left them in the environment */
	if (!pid || !fds || !wh__parse_u64(pid, strlen(pid), UINT32_MAX, &ours) ||
	    ours != (uint64_t)getpid() || !wh__parse_u64(fds, strlen(fds), UINT16_MAX, &count))
		return 0;
	if (count > SERVE_LISTENERS_MAX - listeners->count)
		return -ENOSPC;
	for (unsigned i = 0; i < count; i++) {
		int fd = INHERITED_FIRST + (int)i;
		if (!listens(loop, fd)) {
			*ret_bad = fd;
			return -EINVAL;
		}
	}
	for (unsigned i = 0; i < count; i++)
		if (add(listeners, loop, INHERITED_FIRST + (int)i, inherited_front(names, i)) != 0) {
			*ret_bad = INHERITED_FIRST + (int)i;
			return -EINVAL;
		}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return (int)count;
}
