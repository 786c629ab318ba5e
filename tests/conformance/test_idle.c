/* tests/conformance/test_idle.c -- waiting costs nothing: thousands of idle connections and timers wake nobody.
 *
 * What is counted is turns and the thread's own waits, not time.
 */
#include "conformance.h"

#include <sys/resource.h>
#include <sys/wait.h>

enum { CONNECTIONS_MAX = 10000, TIMERS = 10000, BATCH = 250 };

static int fds[CONNECTIONS_MAX];
static wh_future receives[CONNECTIONS_MAX], timers[TIMERS];

/* The hard limit too, where that is allowed. */
static bool may_open(rlim_t count)
{
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur >= count)
		return true;
	limit.rlim_cur = count;
	if (limit.rlim_max < count)
		limit.rlim_max = count;
	return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

/* ---- the other ends ----------------------------------------------------------------------- */

/* In a process of its own, because one may not have descriptors enough for both. Connects count times, a batch for each
 * order: what overflows a listen queue is lost with SYN cookies, and nobody would notice on an idle connection. Then
 * sends the port of a connection over it for each port that it is told, and ends with the pipe. */
static void be_the_clients(const struct sockaddr_in *address, int count, int orders)
{
	static int of_port[UINT16_MAX + 1];
	in_port_t port;
	for (int i = 0; i < count; i++) {
		struct sockaddr_in own;
		if (i % BATCH == 0 && read(orders, &port, sizeof port) != sizeof port)
			_exit(3);
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 ||
		    getsockname(fd, (struct sockaddr *)&own, &(socklen_t){sizeof own}) != 0)
			_exit(1);
		of_port[own.sin_port] = fd;
	}
	while (read(orders, &port, sizeof port) == sizeof port)
		if (write(of_port[port], &port, sizeof port) != sizeof port)
			_exit(2);
	_exit(0);
}

struct clients {
	pid_t process;
	int orders;
};

/* Not always accepted in the order in which they connect: on a busy machine the end of a handshake is left to a kernel thread
 * while the client goes on, on another processor. So both sides know a connection by the client's port. */
static struct clients connect_clients(int count)
{
	struct sockaddr_in address;
	struct clients clients;
	in_port_t none = 0;
	int listener = listen_tcp(&address), pipe_fds[2];
	assert_int_equal(pipe(pipe_fds), 0);
	fflush(NULL);
	clients.process = fork();
	assert_true(clients.process >= 0);
	if (clients.process == 0) {
		close(pipe_fds[1]);
		be_the_clients(&address, count, pipe_fds[0]);
	}
	close(pipe_fds[0]);
	clients.orders = pipe_fds[1];
	for (int i = 0; i < count; i++) {
		if (i % BATCH == 0)
			assert_int_equal(write(clients.orders, &none, sizeof none), sizeof none);
		fds[i] = (int)wh_await(wh_accept(loop, listener)).n;
		assert_true(fds[i] >= 0);
	}
	close_fd(listener);
	return clients;
}

static void end_clients(struct clients clients)
{
	int status;
	close(clients.orders);
	assert_int_equal(waitpid(clients.process, &status, 0), clients.process);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- idleness ----------------------------------------------------------------------------- */

/* threads has a thread for each operation that waits, and is not for many connections; valgrind knows 500 threads. */
static int connection_count(void)
{
	return strcmp(wh_engine_name(loop), "threads") == 0 ? 300 : CONNECTIONS_MAX;
}

struct idleness {
	uint64_t turns;
	long waits;
	int64_t cpu_ns;
};

static struct idleness now_of_thread(void)
{
	struct wh_stats stats;
	struct rusage usage;
	wh_stats(loop, &stats);
	assert_int_equal(getrusage(RUSAGE_THREAD, &usage), 0);
	return (struct idleness){stats.turns, usage.ru_nvcsw,
	                         ((int64_t)usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * WH_NS_PER_S +
	                                 ((int64_t)usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) *
	                                         WH_NS_PER_US};
}

/* What is new to an engine may bring an event once, as epoll tells that a socket can be written to. */
static void settle(void)
{
	struct wh_stats before, after;
	do {
		wh_stats(loop, &before);
		assert_int_equal(wh_loop_turn(loop, 0), 0);
		wh_stats(loop, &after);
	} while (after.engine.events != before.engine.events);
}

/* One timer is due in 200 ms, and nothing else happens: some turns lead up to it, for coarser slots of the wheel. */
static void expect_idle(void)
{
	enum { TURNS_MAX = 8 };
	struct idleness before = now_of_thread();
	assert_int_equal(wh_await(wh_sleep(loop, 200 * WH_NS_PER_MS)).n, 0);
	struct idleness after = now_of_thread();
	print_message("turns %llu, waits %ld, cpu %lld us\n",
	              (unsigned long long)(after.turns - before.turns), after.waits - before.waits,
	              (long long)(after.cpu_ns - before.cpu_ns) / WH_NS_PER_US);
	assert_true(after.turns - before.turns <= TURNS_MAX);
	assert_true(after.waits - before.waits <= 2 * TURNS_MAX);
}

static void idle_connections_wake_nobody(void **state)
{
	int count = connection_count();
	if (!may_open((rlim_t)count + 1000)) {
		print_message("skipped: RLIMIT_NOFILE cannot be raised to %d\n", count + 1000);
		skip();
	}
	struct clients clients = connect_clients(count);
	for (int i = 0; i < count; i++)
		receives[i] = wh_recv_buf(loop, fds[i]);
	settle();
	expect_idle();
	struct wh_stats stats;
	wh_stats(loop, &stats);
	assert_int_equal(stats.classes[WH_CLASS_SOCKET].in_flight, count);
	assert_int_equal(stats.engine.overflows, 0);
	/* and each is served as before */
	for (int i = count - 1; i >= 0; i -= 97) {
		struct sockaddr_in peer;
		assert_int_equal(getpeername(fds[i], (struct sockaddr *)&peer, &(socklen_t){sizeof peer}), 0);
		assert_int_equal(write(clients.orders, &peer.sin_port, sizeof peer.sin_port),
		                 sizeof peer.sin_port);
		wh_res res = wh_await(receives[i]);
		assert_int_equal(res.n, sizeof peer.sin_port);
		assert_memory_equal(((struct wh_buf *)res.ptr)->data, &peer.sin_port, sizeof peer.sin_port);
		wh_buf_put(res.ptr);
		receives[i] = wh_recv_buf(loop, fds[i]);
	}
	expect_idle();
	for (int i = 0; i < count; i++) {
		assert_int_equal(wh_drop(receives[i]), 0);
		assert_int_equal(wh_drop(wh_close(loop, fds[i])), 0);
	}
	assert_int_equal(wh_loop_run(loop), 0);
	end_clients(clients);
}

static void pending_timers_wake_nobody(void **state)
{
	int64_t now = wh_clock(loop);
	for (int i = 0; i < TIMERS; i++) /* from an hour to a day ahead */
		timers[i] = wh_sleep_until(loop, now + 3600 * WH_NS_PER_S + i * 8 * WH_NS_PER_S);
	expect_idle();
	expect_idle();
	for (int i = 0; i < TIMERS; i++)
		assert_int_equal(wh_drop(timers[i]), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(idle_connections_wake_nobody),
		ON_LOOP(pending_timers_wake_nobody),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
