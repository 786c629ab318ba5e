/* src/cli/serve_listen.h -- the sockets that `whilst serve` listens on: addresses in text, and what systemd has opened.
 *
 * Thread: the server's loop.
 */
#ifndef WH_CLI_SERVE_LISTEN_H
#define WH_CLI_SERVE_LISTEN_H

#include <stdbool.h>

#include "base/text.h"
#include "whilst/whilst.h"

/* Who answers on a socket. */
enum serve_front { SERVE_HTTP, SERVE_HTTPS, SERVE_BEANSTALK, SERVE_FRONTS };

enum { SERVE_LISTENERS_MAX = 256 };

struct serve_listener {
	int fd; /* -1: given away */
	enum serve_front front;
};

struct serve_listeners {
	struct serve_listener all[SERVE_LISTENERS_MAX];
	unsigned count;
	struct wh__text addresses; /* what a client is told, "http://127.0.0.1:4480, ..." */
};

void serve_listeners_init(struct serve_listeners *listeners);
/* serve_listeners_done() - closes what was not given away. Synchronous. */
void serve_listeners_done(struct serve_listeners *listeners, wh_loop *loop);

/* serve_address_valid() - is text an address that serve_listen() knows? */
bool serve_address_valid(const char *text);

/* serve_listen() - listen on an address as wh_parse_address() reads it. 0; -ENOSPC: too many; or as wh_listen_text(), -EADDRINUSE
 * after more than a second of trying: turns the loop meanwhile. */
int serve_listen(struct serve_listeners *listeners, wh_loop *loop, const char *text, enum serve_front front);

/* serve_inherit() - take the sockets that a service manager has opened for us ($LISTEN_PID, $LISTEN_FDS, $LISTEN_FDNAMES), by
 * name: "https", "beanstalk", anything else is HTTP. How many; -EINVAL: a descriptor that is no listening stream socket,
 * *ret_bad; -ENOSPC. Source: sd_listen_fds(3). */
int serve_inherit(struct serve_listeners *listeners, wh_loop *loop, int *ret_bad);

#endif
