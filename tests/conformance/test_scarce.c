/* tests/conformance/test_scarce.c -- descriptors, or what watches them, run out while operations wait: storms of errors, not one alone.
 * What is promised comes, nothing waits in vain, no connection is lost, and afterwards all goes on.
 *
 * tests/conformance/meson.build wraps accept4(2), what a ring's accept gave (wh__op_accepted()), epoll_ctl(2) and eventfd(2).
 */
#include "conformance.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

enum { WAITS = 6, CONNECTIONS = 2 * WAITS, STORM = 200, PATIENCE_S = 30 };

/* ---- what fails ------------------------------------------------------------------------------ */

static atomic_int accept_error;  /* each accept gives it, 0: none */
static atomic_int aborted_count; /* so many connections are gone when they are taken */
static atomic_int failed_count;  /* how often something has failed here */
static atomic_int add_error;     /* of each EPOLL_CTL_ADD of a listener */
static atomic_int eventfd_error;

int __real_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int64_t __real_wh__op_accepted(int64_t n);
int64_t __wrap_wh__op_accepted(int64_t n);
int __real_epoll_ctl(int epoll, int what, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int what, int fd, struct epoll_event *event);
int __real_eventfd(unsigned int value, int flags);
int __wrap_eventfd(unsigned int value, int flags);

static int fail_with(int error)
{
	atomic_fetch_add(&failed_count, 1);
	errno = error;
	return -1;
}

/* One of the connections that are to be gone by now. */
static bool is_aborted(void)
{
	int left = atomic_load(&aborted_count);
	while (left > 0)
		if (atomic_compare_exchange_weak(&aborted_count, &left, left - 1))
			return true;
	return false;
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
	int error = atomic_load(&accept_error);
	if (error != 0)
		return fail_with(error);
	int n = __real_accept4(fd, address, len, flags);
	if (n < 0 || !is_aborted())
		return n;
	close(n);
	return fail_with(ECONNABORTED);
}

/* As the ring calls it. */
int64_t __wrap_wh__op_accepted(int64_t n)
{
	if (n < 0 || !is_aborted())
		return __real_wh__op_accepted(n);
	close((int)n);
	fail_with(ECONNABORTED);
	return __real_wh__op_accepted(-ECONNABORTED);
}

int __wrap_epoll_ctl(int epoll, int what, int fd, struct epoll_event *event)
{
	int error = atomic_load(&add_error);
	if (error != 0 && what == EPOLL_CTL_ADD && event->events & EPOLLEXCLUSIVE)
		return fail_with(error);
	return __real_epoll_ctl(epoll, what, fd, event);
}

int __wrap_eventfd(unsigned int value, int flags)
{
	int error = atomic_load(&eventfd_error);
	return error != 0 ? fail_with(error) : __real_eventfd(value, flags);
}

static int nothing_fails(void **state)
{
	int error = open_loop(state);
	atomic_store(&accept_error, 0);
	atomic_store(&aborted_count, 0);
	atomic_store(&failed_count, 0);
	atomic_store(&add_error, 0);
	atomic_store(&eventfd_error, 0);
	return error;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, nothing_fails, close_loop)

static bool engine_is(const char *name)
{
	return strcmp(wh_engine_name(loop), name) == 0;
}

/* ---- accepts --------------------------------------------------------------------------------- */

static int listener;
static struct sockaddr_in address;
static wh_future accepts[WAITS];
static int64_t last_error; /* that take_all() knows of: a thread may bring it a little later */

static void begin_accepts(void)
{
	listener = listen_tcp(&address);
	for (int i = 0; i < WAITS; i++)
		accepts[i] = wh_accept(loop, listener);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
}

static void end_accepts(void)
{
	for (int i = 0; i < WAITS; i++) {
		wh_cancel(accepts[i]);
		int64_t n = wh_await(accepts[i]).n;
		assert_true(n == -ECANCELED || (n < 0 && n == last_error));
	}
	last_error = 0;
	close_fd(listener);
}

static void connect_now(int fd)
{
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
}

static void make_sockets(int fds[CONNECTIONS])
{
	for (int i = 0; i < CONNECTIONS; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_true(fds[i] >= 0);
	}
}

/* The next accept to end; it is begun anew. */
static int64_t next_end(void)
{
	int64_t until = wh_clock(loop) + PATIENCE_S * WH_NS_PER_S;
	while (wh_clock(loop) < until) {
		for (int i = 0; i < WAITS; i++) {
			if (!wh_done(accepts[i]))
				continue;
			int64_t n = wh_await(accepts[i]).n;
			accepts[i] = wh_accept(loop, listener);
			return n;
		}
		assert_int_equal(wh_loop_turn(loop, 100 * WH_NS_PER_MS), 0);
	}
	fail_msg("no accept ends");
	return 0;
}

/* The connections that are not taken yet are, each once; errors in between are error. */
static void take_all(int taken, int64_t error)
{
	last_error = error;
	while (taken < CONNECTIONS) {
		int64_t n = next_end();
		if (n < 0) {
			assert_int_equal(n, error);
			continue;
		}
		close_fd((int)n);
		taken++;
	}
	/* nobody is left in line, and what is said to be done was done before */
	for (int i = 0; i < WAITS; i++) {
		while (wh_done(accepts[i])) {
			assert_int_equal(wh_await(accepts[i]).n, error);
			accepts[i] = wh_accept(loop, listener);
		}
	}
}

static void close_sockets(const int fds[CONNECTIONS])
{
	for (int i = 0; i < CONNECTIONS; i++)
		close(fds[i]);
}

/* Real ones: no descriptor is left, however often it is asked for. */
static void no_descriptors(void **state)
{
	struct rlimit before, none;
	int fds[CONNECTIONS], ended = 0, taken = 0;
	if (under_valgrind())
		skip(); /* its limit of descriptors takes what was accepted, and then closes it */
	begin_accepts();
	make_sockets(fds);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3; /* what is open stays open */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	for (int i = 0; i < CONNECTIONS; i++)
		connect_now(fds[i]);
	int64_t n = -EMFILE;
	while (ended < STORM && (n == -EMFILE || n >= 0)) {
		n = next_end();
		ended += n == -EMFILE;
		taken += n >= 0; /* a ring knows the limit of when the accept was started */
		if (n >= 0)
			close((int)n);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	if (ended < STORM)
		fail_msg("%d accepts failed, then %lld", ended, (long long)n);
	assert_true(taken == 0 || engine_is("uring"));
	take_all(taken, -EMFILE);
	end_accepts();
	close_sockets(fds);
}

/* Those that a test cannot bring about, of engines that call accept4(2). */
static void errors_of_the_system(void **state)
{
	static const int errors[] = {ENFILE, ENOBUFS, ENOMEM, EMFILE};
	if (engine_is("uring"))
		return; /* its accepts are the kernel's own */
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
		int fds[CONNECTIONS];
		begin_accepts();
		make_sockets(fds);
		atomic_store(&accept_error, errors[i]);
		for (int k = 0; k < CONNECTIONS; k++)
			connect_now(fds[k]);
		for (int k = 0; k < STORM; k++)
			assert_int_equal(next_end(), -errors[i]);
		atomic_store(&accept_error, 0);
		take_all(0, -errors[i]);
		end_accepts();
		close_sockets(fds);
	}
}

/* What ends a connection before it is taken is not seen, be it so many. */
static void connections_that_are_gone(void **state)
{
	enum { GONE = 50 };
	int fds[CONNECTIONS], gone[GONE];
	begin_accepts();
	atomic_store(&aborted_count, GONE);
	for (int i = 0; i < GONE; i++) {
		gone[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		connect_now(gone[i]);
		if (i % 7 == 0)
			assert_int_equal(wh_loop_turn(loop, 0), 0);
	}
	make_sockets(fds);
	for (int i = 0; i < CONNECTIONS; i++)
		connect_now(fds[i]);
	for (int i = 0; i < CONNECTIONS; i++) {
		int64_t n = next_end();
		if (n < 0)
			fail_msg("an accept gives %lld", (long long)n);
		close_fd((int)n);
	}
	assert_int_equal(atomic_load(&aborted_count), 0);
	assert_int_equal(atomic_load(&failed_count), GONE);
	end_accepts();
	close_sockets(fds);
	for (int i = 0; i < GONE; i++)
		close(gone[i]);
}

/* More wait for one descriptor than descriptors may be open: poll(2) would refuse as many entries. */
static void many_wait_for_one(void **state)
{
	enum { MANY = 300 };
	static wh_future many[MANY];
	struct rlimit before, few;
	int taken = 0;
	if (engine_is("threads"))
		return; /* where each needs a descriptor to be woken by */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = MANY / 2;
	listener = listen_tcp(&address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	for (int i = 0; i < MANY; i++)
		many[i] = wh_accept(loop, listener);
	int error = wh_loop_turn(loop, 0);
	connect_now(fd);
	while (error == 0 && taken == 0) {
		error = wh_loop_turn(loop, PATIENCE_S * WH_NS_PER_S);
		for (int i = 0; i < MANY; i++) {
			wh_res res;
			if (!wh_poll(many[i], &res))
				continue;
			many[i] = wh_accept(loop, listener);
			if (res.n < 0)
				fail_msg("an accept gives %lld", (long long)res.n);
			taken++;
			close((int)res.n);
		}
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(error, 0);
	assert_int_equal(taken, 1);
	for (int i = 0; i < MANY; i++) {
		wh_cancel(many[i]);
		(void)wh_await(many[i]);
	}
	close_fd(listener);
	close(fd);
}

/* ---- what watches ----------------------------------------------------------------------------- */

/* A loop that shares a listener gives up its place now and then. If it cannot have it back, twice in a row, its accepts end rather
 * than wait for what nobody would tell; and the connections are there for those that come later. */
static void a_listener_that_cannot_be_watched(void **state)
{
	enum { TURNS = 40 };
	static const int errors[] = {ENOMEM, ENOSPC};
	if (!engine_is("epoll") && !engine_is("threads"))
		return; /* the others have no such sets */
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
		int failed = 0, taken = 0, fds[TURNS];
		begin_accepts();
		for (int k = 0; k < TURNS; k++) {
			fds[k] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
			if (k == TURNS / 4)
				atomic_store(&add_error, errors[i]);
			if (k == TURNS * 3 / 4)
				atomic_store(&add_error, 0);
			connect_now(fds[k]);
			/* each ends well, or says that it cannot wait */
			for (int64_t n = -1; n < 0;) {
				n = next_end();
				assert_true(n >= 0 || n == -ENOMEM);
				failed += n < 0;
				taken += n >= 0;
				if (n >= 0)
					close_fd((int)n);
			}
		}
		assert_int_equal(taken, TURNS);
		assert_true(atomic_load(&failed_count) > 0);
		/* threads wait without their turns then */
		assert_true(failed > 0 || engine_is("threads"));
		for (int k = 0; k < WAITS; k++) {
			wh_cancel(accepts[k]);
			int64_t n = wh_await(accepts[k]).n;
			assert_true(n == -ECANCELED || n == -ENOMEM);
		}
		close_fd(listener);
		for (int k = 0; k < TURNS; k++)
			close(fds[k]);
	}
}

/* A thread that waits needs a descriptor to be woken by. Without: a limit is reached. */
static void no_descriptor_to_be_woken_by(void **state)
{
	static const int errors[] = {EMFILE, ENFILE};
	char byte;
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
		int fds[2];
		make_pair(fds);
		atomic_store(&eventfd_error, errors[i]);
		wh_future f = wh_recv(loop, fds[0], &byte, 1);
		for (int k = 0; k < 3; k++)
			assert_int_equal(wh_loop_turn(loop, 0), 0);
		atomic_store(&eventfd_error, 0);
		if (engine_is("threads")) {
			assert_int_equal(wh_await(f).n, -EAGAIN);
			f = wh_recv(loop, fds[0], &byte, 1);
		}
		assert_int_equal(write(fds[1], "x", 1), 1);
		assert_int_equal(wh_await(f).n, 1);
		close_fd(fds[0]);
		close_fd(fds[1]);
		loop = wh_loop_close(loop); /* it has kept the descriptor for the next wait */
		assert_int_equal(wh_loop_open(&loop, NULL), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_descriptors),
		TEST(errors_of_the_system),
		TEST(connections_that_are_gone),
		TEST(many_wait_for_one),
		TEST(a_listener_that_cannot_be_watched),
		TEST(no_descriptor_to_be_woken_by),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
