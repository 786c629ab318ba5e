/* src/io/name.h -- names: between the public operations (name.c, dial.c) and what answers them.
 *
 * name_server.c asks name servers through c-ares, where the library is built with it. A simulated machine answers from
 * its own table (engine.h). Thread: loop.
 */
#ifndef WH_IO_NAME_H
#define WH_IO_NAME_H

#include "runtime/loop.h"

enum {
	WH__NAME_MAX = 253 /* bytes of a name without its last dot, RFC 1035 2.3.4 */,
	WH__ADDRESSES_MAX = 1024
};

/* What a question ends with: called once, inline, perhaps before wh__name_ask() returns. n >= 0: ptr is given (addresses or
 * names); n < 0: why not. */
typedef void wh__name_answer(void *arg, int64_t n, void *ptr);

struct wh__name_question {
	const char *host; /* a name; NULL: which names has address? borrowed for the call */
	int family;       /* of the addresses wanted: AF_UNSPEC, AF_INET, AF_INET6 */
	uint16_t port;    /* for the answer */
	const struct sockaddr *address;
	socklen_t address_len;
	const char *servers, *resolv_conf_path; /* NULL: those of the machine */
};

struct wh__name_query;

/* wh__name_ask() - NULL: it has been answered already. */
struct wh__name_query *wh__name_ask(wh_loop *loop, const struct wh__name_question *question,
                                    wh__name_answer *answer, void *arg);

/* wh__name_forget() - the answer is no longer wanted and will not come. */
void wh__name_forget(struct wh__name_query *query);

/* wh__addresses_new() - room for count addresses; NULL: no memory. */
struct wh_addresses *wh__addresses_new(size_t count, const char *name);
void wh__address_set(struct wh_address *to, const struct sockaddr *address, socklen_t len, uint16_t port);

#endif
