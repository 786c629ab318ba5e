/* src/front/front.h -- the HTTP front of the server: what serve opens, drains and closes.
 *
 * Thread: the loop of the store.
 */
#ifndef WH_FRONT_FRONT_H
#define WH_FRONT_FRONT_H

#include <stdbool.h>
#include <stdint.h>

#include "whilst/http.h"
#include "whilst/whilst.h"

struct store;
struct api;
struct token_table;
struct ranges;
struct secrets;

typedef void front_event_function(int level, const char *event, const char *members, void *arg);

enum { FRONT_THREADS_MAX = 64 };

struct front_options {
	uint64_t payload_bytes_max;
	int64_t wait_ns_max;
	int64_t request_timeout_ns, idle_timeout_ns;
	uint32_t connections_max;
	uint32_t threads;                        /* that speak HTTP beside the loop's; 0 and 1: none */
	uint32_t stream_bytes_max;               /* of an event stream, unsent */
	bool dashboard;                          /* browsers get a page at / */
	bool files_restricted, calls_restricted; /* by a sandbox, for figures */
	int64_t stream_timeout_ns; /* in which its reader takes enough of them for more to be told */
	const struct ranges
		*ranges; /* where pushes may lead that is not for everybody; NULL: nowhere; copied */
	const char *
		zone_directory; /* of the tz database; NULL: where distributions keep it; borrowed until front_free() */
	bool half_close_waits;       /* who ends its sending side while it waits is not taken for gone */
	front_event_function *event; /* something worth a line of the log; members in logfmt */
	void *event_arg;
};

/* front_open() - a front without listeners. store is borrowed until front_close(). Result 0 or -errno. Synchronous:
 * awaits the services that the store knows, so outside callbacks. */
int front_open(wh_loop *loop, struct store *store, const struct front_options *options, struct api **ret);

/* front_service() - declare a service from --service NAME=URL, unless the store has one of that name that differs only in
 * what the flag cannot say. Synchronous. 0, or -errno with a sentence in detail. */
int front_service(struct api *api, const char *name, const char *url, char *detail, size_t detail_len);

/* front_use_tokens() - from now on whoever asks for anything but /livez, /readyz and the page at / must show one of these, and may do what it is
 * good for, and namespaces hold what its lines let them. NULL: nobody is asked. 0: tokens is taken; -ENOMEM: it is not, and all is as before. */
int front_use_tokens(struct api *api, struct token_table *tokens);

/* front_use_hosts() - names that the server goes by, see host.h; all valid by host_valid(), borrowed until the next call or front_close(). */
void front_use_hosts(struct api *api, const char *const *names, unsigned count);

/* front_use_secrets() - callbacks are signed with these from now on; copied. NULL: nobody can ask for one. Synchronous, or in a task. 0 or
 * -errno. */
int front_use_secrets(struct api *api, const struct secrets *secrets);

/* front_schedules() - schedules run from now on: once tokens, services and listeners are there. 0 or -ENOMEM. front_reload_zones(): a newer tz database may be there.
 * Synchronous, or in a task. */
int front_schedules(struct api *api);
void front_reload_zones(struct api *api);

/* front_listen() - takes fd. tls NULL: in the clear; else a server's context, borrowed until front_free(). */
int front_listen(struct api *api, int fd, wh_tls_context *tls);

/* front_drain() - stop accepting, give waiting callers their current state, let calls of the gateway end until the
 * instant until (wh_now()). n = 0 once nothing is under way. */
wh_future front_drain(struct api *api, int64_t until);

/* front_close() - end everything at once. The loop must still turn until nothing is pending (wh_loop_close() does); then
 * front_free(). */
void front_close(struct api *api);
void front_free(struct api *api);

#endif
