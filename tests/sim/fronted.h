/* tests/sim/fronted.h -- what served.h serves when it is the HTTP interface: the front over the store. The program says in server_open()
 * what else there is; it may say before this how large a payload may be: #define FRONTED_PAYLOAD_BYTES.
 */
#ifndef TESTS_SIM_FRONTED_H
#define TESTS_SIM_FRONTED_H

#include "served.h"

#include "front/front.h"

#ifndef FRONTED_PAYLOAD_BYTES
#define FRONTED_PAYLOAD_BYTES (1 << 20)
#endif

static struct api *front;

/* ranges: of private addresses that are allowed; NULL: none. 0 or -errno. */
static int front_begin(const struct ranges *ranges)
{
	struct front_options options = {.payload_bytes_max = FRONTED_PAYLOAD_BYTES,
	                                .wait_ns_max = 60 * WH_NS_PER_S,
	                                .request_timeout_ns = 30 * WH_NS_PER_S,
	                                .idle_timeout_ns = 60 * WH_NS_PER_S,
	                                .connections_max = 100,
	                                .ranges = ranges};

	return front_open(loop, store, &options, &front);
}

static int server_listen(int fd)
{
	return front_listen(front, fd, NULL);
}

static void server_close(void)
{
	if (front)
		front_close(front);
}

static void server_free(void)
{
	if (front)
		front_free(front);
	front = NULL;
}

#endif
