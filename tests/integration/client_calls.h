/* tests/integration/client_calls.h -- what tests of the C client's calls share: a server for the whole program, a client and a queue of
 * its own for each test.
 *
 * Each test is run twice, once over TCP and once over a UNIX socket; the engine is $WHILST_ENGINE for both sides.
 */
#ifndef WH_TESTS_CLIENT_CALLS_H
#define WH_TESTS_CLIENT_CALLS_H

#include "client_server.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>

#include "whilst/client.h"

#define S  WH_NS_PER_S
#define MS WH_NS_PER_MS

static struct served server;
static wh_loop *loop;
static wh_client *client;
static bool over_unix;
static char queue[32];
static struct wh_problem problem;
static struct wh_receipt receipt;
static const struct wh_how how = {.receipt = &receipt, .problem = &problem};

static int open_all(void **state)
{
	static int number;
	struct wh_client_options options = {.server = over_unix ? server.local : server.tcp,
	                                    .user_agent = "test"};

	(void)state;
	snprintf(queue, sizeof(queue), "q/%d", ++number);
	memset(&problem, 0, sizeof(problem));
	memset(&receipt, 0, sizeof(receipt));
	return wh_loop_open(&loop, NULL) != 0 || wh_client_open(loop, &options, &client) != 0;
}

static int close_all(void **state)
{
	(void)state;
	client = wh_client_close(client);
	loop = wh_loop_close(loop);
	return 0;
}

#define NEED(f, wanted) need(wh_await(f), wanted, __LINE__)
static void need(wh_res res, int64_t wanted, int line)
{
	if (res.n != wanted)
		fail_msg("line %d: %" PRId64 " (%s), wanted %" PRId64 "; %s", line, res.n,
		         res.n < 0 ? wh_strerror(res.n) : "", wanted, problem.detail);
}

__attribute__((unused)) static void *need_ptr(wh_res res, int64_t wanted, int line)
{
	need(res, wanted, line);
	assert_non_null(res.ptr);
	return res.ptr;
}
#define NEED_PTR(f, wanted) need_ptr(wh_await(f), wanted, __LINE__)

__attribute__((unused)) static struct wh_payload bytes_of(const char *text)
{
	return (struct wh_payload){.bytes = text, .len = strlen(text), .type = "text/plain"};
}

__attribute__((unused)) static uint64_t submit(const char *text, const struct wh_submit_options *options)
{
	struct wh_payload payload = bytes_of(text);
	wh_res res = wh_await(wh_client_submit(client, queue, &payload, options, &how));

	assert_true(res.n > 0);
	return (uint64_t)res.n;
}

__attribute__((unused)) static struct wh_lease lease_one(void)
{
	struct wh_leases *leases = NEED_PTR(wh_client_reserve(client, queue, 1, 5 * S, &how), 1);
	struct wh_lease lease = leases->jobs[0].lease;

	wh_leases_free(leases);
	return lease;
}

__attribute__((unused)) static bool equals(struct wh_slice slice, const char *text)
{
	return wh_slice_equal(slice, text);
}

/* open_all() and close_all() around each test. */
#define ONE(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

static int run_over_both(const struct CMUnitTest *tests, size_t count)
{
	int failed;

	server_start(&server);
	failed = _cmocka_run_group_tests("over TCP", tests, count, NULL, NULL);
	over_unix = true;
	failed += _cmocka_run_group_tests("over a UNIX socket", tests, count, NULL, NULL);
	server_remove(&server);
	return failed;
}
#define RUN_OVER_BOTH(tests) run_over_both(tests, sizeof(tests) / sizeof((tests)[0]))

#endif
