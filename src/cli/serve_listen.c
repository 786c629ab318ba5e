/* src/cli/serve_listen.c -- the sockets that `whilst serve` listens on. See serve_listen.h. */
#include "cli/serve_listen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/units.h"
#include "whilst/socket.h"

enum { INHERITED_FIRST = 3 }; /* SD_LISTEN_FDS_START */

/* How long an address that is in use is tried again, first after this long and then after twice as long each time. */
enum { TRY_AGAIN_MS = 10, TRY_AGAIN_MS_MAX = 640 };

static const char *const schemes[] = {"http", "https", "beanstalk"};

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

bool serve_address_valid(const char *text)
{
	struct wh_address address;

	return wh_parse_address(text, &address) == 0;
}

/* What a client is told to connect to, with the port that was chosen. */
static int add(struct serve_listeners *listeners, wh_loop *loop, int fd, enum serve_front front)
{
	struct wh__text *to = &listeners->addresses;
	char text[WH_ADDRESS_TEXT_MAX];
	struct sockaddr_storage address;
	socklen_t len;
	int error = wh_local_address(loop, fd, &address, &len);

	listeners->all[listeners->count++] = (struct serve_listener){fd, front};
	if (error == 0)
		error = wh_format_address((const struct sockaddr *)&address, len, text, sizeof(text));
	if (error < 0)
		return error;
	if (to->len > 0)
		wh__text_put(to, ", ", 2);
	if (address.ss_family != AF_UNIX)
		wh__text_format(to, "%s://", schemes[front]);
	else if (front != SERVE_HTTP)
		wh__text_format(to, "%s:", schemes[front]);
	wh__text_str(to, text);
	return 0;
}

int serve_listen(struct serve_listeners *listeners, wh_loop *loop, const char *text, enum serve_front front)
{
	int fd;

	if (listeners->count == SERVE_LISTENERS_MAX)
		return -ENOSPC;
	fd = wh_listen_text(loop, text, NULL);
	/* The sockets of a process that was killed while a ring was to accept from them live on until the kernel has taken
	 * the ring apart, some 10 to 100 ms. */
	for (int64_t ms = TRY_AGAIN_MS; fd == -EADDRINUSE && ms <= TRY_AGAIN_MS_MAX; ms *= 2) {
		wh_await(wh_sleep(loop, ms * WH_NS_PER_MS));
		fd = wh_listen_text(loop, text, NULL);
	}
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
