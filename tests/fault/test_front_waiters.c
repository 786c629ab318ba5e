/* tests/fault/test_front_waiters.c -- what a caller that waits costs: operations of the loop, and memory by what the allocator says is in
 * use, which is exact where the resident memory of a process is not.
 *
 * So many callers wait, go, and come again, so that tables by descriptor and by job have their size and every slot has been made; then more
 * come, and what they have brought is divided by their number. A caller costs besides its entry in such tables, of 40 bytes at most.
 */
#include <arpa/inet.h>
#include <malloc.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "front/front.h"
#include "store/store.h"

enum {
	/* More than the exchanges that a server keeps for the next ones; and so few that the store does not look, while the rest comes, which
	 * waits have been given up: that is when it has twice as many as the last time. */
	FIRST = 300,
	MORE = 150,
	OPERATION_BYTES = 128, /* src/runtime/op.h */
	OPERATIONS = 2,        /* a receive, by which the client's leaving is seen, and the wait itself */
	OWN_MAX = 8,
	BYTES_MAX = 984, /* with a table's entry: 1 KiB */
};

static wh_loop *loop;
static struct store *store;
static struct api *front;
static struct sockaddr_storage address;
static socklen_t address_len;
static int fds[FIRST + MORE];

static void on_failure(int64_t error, const char *message, void *arg)
{
	(void)error, (void)message, (void)arg;
	fail_msg("the store has failed: %s", message);
}

static int open_server(void **state)
{
	static char directory[64];
	struct front_options options = {.payload_bytes_max = 1 << 20,
	                                .wait_ns_max = 3600 * WH_NS_PER_S,
	                                .request_timeout_ns = 60 * WH_NS_PER_S,
	                                .idle_timeout_ns = 600 * WH_NS_PER_S,
	                                .connections_max = FIRST + MORE + 10};
	struct store_options of_store = {
		.segment_bytes = 4 << 20, .recent_bytes = 1 << 20, .on_failure = on_failure};
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct store_problem problem;
	int fd;

	snprintf(directory, sizeof(directory), "%s/whilst-store-XXXXXX",
	         access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(directory));
	of_store.directory = *state = directory;
	assert_int_equal(wh_loop_open(&loop, NULL), 0);
	assert_int_equal(store_open(loop, &of_store, &store, &problem), 0);
	assert_int_equal(front_open(loop, store, &options, &front), 0);
	fd = wh_listen(loop, (struct sockaddr *)&any, sizeof(any),
	               &(struct wh_listen_options){.backlog = MORE});
	assert_true(fd >= 0);
	assert_int_equal(wh_local_address(loop, fd, &address, &address_len), 0);
	assert_int_equal(front_listen(front, fd, NULL), 0);
	return 0;
}

static int close_server(void **state)
{
	char command[128];

	front_close(front);
	store_close(store);
	loop = wh_loop_close(loop);
	front_free(front);
	snprintf(command, sizeof(command), "rm -rf %s", (char *)*state);
	return system(command);
}

/* ---- callers ----------------------------------------------------------------------------- */

static uint64_t in_flight(void)
{
	struct wh_stats stats;

	wh_stats(loop, &stats);
	return stats.in_flight;
}

static uint64_t waiting(void)
{
	struct store_stats stats;

	store_stats(store, &stats);
	return stats.waits_waiting + stats.reservations_waiting;
}

/* Timers of the server's own come and go. */
static bool about(uint64_t value, uint64_t wanted)
{
	return value + OWN_MAX >= wanted && value <= wanted + OWN_MAX;
}

/* At least so many waits: the store forgets those that were given up when others come. */
static void settle(uint64_t waits, uint64_t operations, const char *what)
{
	int64_t end = wh_clock(loop) + 30 * WH_NS_PER_S;

	while (waiting() < waits || !about(in_flight(), operations)) {
		assert_true(wh_loop_turn(loop, WH_NS_PER_MS * 10) >= 0);
		if (wh_clock(loop) > end)
			fail_msg("%s: %llu waits of %llu, %llu operations of %llu", what,
			         (unsigned long long)waiting(), (unsigned long long)waits,
			         (unsigned long long)in_flight(), (unsigned long long)operations);
	}
}

static void call(int from, int until, const char *request)
{
	for (int i = from; i < until; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_true(fds[i] >= 0);
		assert_int_equal(connect(fds[i], (struct sockaddr *)&address, address_len), 0);
		assert_int_equal(send(fds[i], request, strlen(request), MSG_NOSIGNAL), strlen(request));
		assert_true(wh_loop_turn(loop, 0) >= 0);
	}
}

/* By a reset: who only closes may still be there to read. */
static void leave(int until)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	for (int i = 0; i < until; i++) {
		assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
		close(fds[i]);
	}
}

static uint64_t submit(void)
{
	struct store_submit job = {.queue = STORE_SLICE("jobs"), .payload = STORE_SLICE("x")};
	wh_res res = wh_await(store_submit(store, &job, STORE_LOCAL));
	uint64_t id;

	assert_true(res.n >= 0);
	id = ((struct store_commit *)res.ptr)->results[0].job;
	store_commit_free(res.ptr);
	return id;
}

/* What the allocator has given, its own words beside each piece included; 0: it is another one, which does not say. */
static uint64_t bytes_in_use(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return 0;
#else
	return mallinfo2().uordblks;
#endif
}

static void measure(const char *what, const char *request)
{
	uint64_t idle = in_flight(), before, bytes, operations;

	call(0, FIRST + MORE, request);
	settle(FIRST + MORE, idle + (FIRST + MORE) * OPERATIONS, what);
	leave(FIRST + MORE);
	settle(0, idle, what);
	call(0, FIRST, request);
	settle(FIRST, idle + FIRST * OPERATIONS, what);
	before = bytes_in_use();
	operations = in_flight();
	call(FIRST, FIRST + MORE, request);
	settle(FIRST + MORE, idle + (FIRST + MORE) * OPERATIONS, what);
	bytes = bytes_in_use() - before;
	operations = in_flight() - operations;
	bytes = (bytes + operations * OPERATION_BYTES) / MORE;
	print_message("%s: %.2f operations, %llu bytes each\n", what, (double)operations / MORE,
	              (unsigned long long)bytes);
	assert_true(bytes <= BYTES_MAX);
	assert_true(before == 0 || bytes > OPERATIONS * OPERATION_BYTES);
	leave(FIRST + MORE);
}

static void ask_for_job(const char *fields, char *to, size_t len)
{
	snprintf(to, len, "GET /v1/jobs/%llu HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n",
	         (unsigned long long)submit(), fields);
}

static void test_poll(void **state)
{
	char request[200];

	(void)state;
	ask_for_job("Prefer: wait=3000", request, sizeof(request));
	measure("a long poll", request);
}

static void test_stream(void **state)
{
	char request[200];

	(void)state;
	ask_for_job("Accept: text/event-stream", request, sizeof(request));
	measure("an event stream", request);
}

static void test_worker(void **state)
{
	(void)state;
	measure("a worker",
	        "POST /v1/queues/none/reserve HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=3000\r\n"
	        "Content-Length: 0\r\n\r\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_poll, open_server, close_server),
		cmocka_unit_test_setup_teardown(test_stream, open_server, close_server),
		cmocka_unit_test_setup_teardown(test_worker, open_server, close_server),
	};
	const char *engine = getenv("WHILST_ENGINE");
	struct rlimit files;

	if (engine && strcmp(engine, "epoll") != 0 && strcmp(engine, "uring") != 0) {
		printf("these figures are for epoll and uring\n");
		return 77;
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < 2 * (FIRST + MORE) + 100) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
