/* src/cli/notify.c -- telling the service manager how the server stands. See notify.h. */
#include "cli/notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void notify_open(struct notify *notify, wh_loop *loop)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	*notify = (struct notify){.loop = loop, .fd = -1};
	if (len < 2 || len >= sizeof(notify->to.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	notify->to.sun_family = AF_UNIX;
	memcpy(notify->to.sun_path, path, len);
	if (path[0] == '@') /* abstract */
		notify->to.sun_path[0] = 0;
	notify->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	notify->fd = wh_socket(loop, AF_UNIX, SOCK_DGRAM, 0);
	/* children are not the service */
	unsetenv("NOTIFY_SOCKET");
}

void notify_close(struct notify *notify)
{
	if (notify->fd >= 0)
		wh_await(wh_close(notify->loop, notify->fd));
	notify->fd = -1;
}

static void on_said(wh_loop *loop, wh_res res, void *arg)
{
	(void)loop;
	(void)res;
	free(arg);
}

void notify_say(struct notify *notify, const char *state)
{
	char *copy;

	if (notify->fd < 0)
		return;
	copy = strdup(state);
	if (!copy)
		return;
	wh_future said = wh_send_to(notify->loop, notify->fd, copy, strlen(copy),
	                            (const struct sockaddr *)&notify->to, notify->to_len);
	if (wh_then(said, on_said, copy) != 0)
		free(copy); /* it failed at once: nothing looks at it any more */
}

void notify_reloading(struct notify *notify)
{
	char state[64];

	snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%lld",
	         (long long)(wh_clock(notify->loop) / 1000));
	notify_say(notify, state);
}
