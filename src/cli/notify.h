/* src/cli/notify.h -- telling the service manager how the server stands: sd_notify(3), without its library.
 *
 * One datagram of NAME=VALUE lines to the socket of $NOTIFY_SOCKET. Nothing is told when there is none; what cannot be
 * delivered is lost, as sd_notify(3) does it. Thread: the server's loop.
 */
#ifndef WH_CLI_NOTIFY_H
#define WH_CLI_NOTIFY_H

#include <sys/socket.h>
#include <sys/un.h>

#include "whilst/whilst.h"

struct notify {
	wh_loop *loop;
	int fd; /* -1: nobody wants to know */
	struct sockaddr_un to;
	socklen_t to_len;
};

void notify_open(struct notify *notify, wh_loop *loop);
/* notify_close() - synchronous, outside callbacks. */
void notify_close(struct notify *notify);
/* notify_say() - "READY=1", "STOPPING=1", "STATUS=..."; copied. */
void notify_say(struct notify *notify, const char *state);
/* notify_reloading() - "RELOADING=1" with the instant, which Type=notify-reload wants; end it by READY=1. */
void notify_reloading(struct notify *notify);

#endif
