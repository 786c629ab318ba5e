/* tests/conformance/test_accept.c -- many accepts on one listener: each connection is taken once, and wakes one of those that
 * wait. The calls that find nobody are counted (tests/conformance/meson.build wraps accept4(2)).
 */
#include "conformance.h"

#include <sys/resource.h>

enum { WAITS = 32, CONNECTIONS = 96, LOOPS = 4 };

static atomic_int vain_count;

int __real_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags);

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
	int n = __real_accept4(fd, address, len, flags);
	if (n < 0 && errno == EAGAIN)
		atomic_fetch_add(&vain_count, 1);
	return n;
}

static int connect_to(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)address, sizeof *address), 0);
	return fd;
}

static long times_slept(void)
{
	struct rusage usage;
	assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
	return usage.ru_nvcsw;
}

/* The first of fs to be done; it is replaced by a new accept. */
static int take_one(wh_future *fs, int listener)
{
	for (;;) {
		for (int i = 0; i < WAITS; i++) {
			if (!wh_done(fs[i]))
				continue;
			int64_t n = wh_await(fs[i]).n;
			assert_true(n >= 0);
			fs[i] = wh_accept(loop, listener);
			return (int)n;
		}
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	}
}

/* Before Linux 6.1, and asked for by name. */
static bool is_old_ring(void)
{
	wh_loop *best = NULL;
	if (strcmp(wh_engine_name(loop), "uring") != 0)
		return false;
	unsetenv("WHILST_ENGINE");
	assert_int_equal(wh_loop_open(&best, NULL), 0);
	bool is_old = strcmp(wh_engine_name(best), "uring") != 0;
	wh_loop_close(best);
	setenv("WHILST_ENGINE", "uring", 1);
	return is_old;
}

/* Whoever waits is known to wait once the loop has turned, but for a thread that may take a while: so the first round, in which
 * every thread gets to its place, does not count. */
static void a_connection_wakes_one(void **state)
{
	struct sockaddr_in address;
	wh_future fs[WAITS];
	int listener = listen_tcp(&address);
	long slept = 0;
	for (int i = 0; i < WAITS; i++)
		fs[i] = wh_accept(loop, listener);
	for (int i = 0; i < 2 * CONNECTIONS; i++) {
		if (i == CONNECTIONS) {
			atomic_store(&vain_count, 0);
			slept = times_slept();
		}
		int fd = connect_to(&address), accepted = take_one(fs, listener);
		char byte = 'x';
		assert_int_equal(write(fd, &byte, 1), 1);
		assert_int_equal(wh_await(wh_recv(loop, accepted, &byte, 1)).n, 1);
		close_fd(accepted);
		close_fd(fd);
	}
	/* each connection would wake all of them; the polls of rings that WH_AUTO does not take do, and it is tried in vain */
	assert_true(times_slept() - slept < (long)CONNECTIONS * WAITS / 2);
	assert_true(is_old_ring() || atomic_load(&vain_count) <= CONNECTIONS);
	for (int i = 0; i < WAITS; i++)
		assert_int_equal(wh_drop(fs[i]), 0);
	close_fd(listener);
}

/* One is cancelled for each connection that comes: it takes it, or somebody else does. */
static void no_connection_is_left(void **state)
{
	struct sockaddr_in address;
	wh_future fs[WAITS];
	int listener = listen_tcp(&address);
	for (int i = 0; i < WAITS; i++)
		fs[i] = wh_accept(loop, listener);
	for (int i = 0; i < CONNECTIONS; i++) {
		wh_future *victim = &fs[i % WAITS];
		int fd = connect_to(&address);
		wh_cancel(*victim);
		int64_t n = wh_await(*victim).n;
		*victim = wh_accept(loop, listener);
		if (n == -ECANCELED)
			n = take_one(fs, listener);
		assert_true(n >= 0);
		close_fd((int)n);
		close_fd(fd);
	}
	for (int i = 0; i < WAITS; i++)
		assert_int_equal(wh_drop(fs[i]), 0);
	close_fd(listener);
}

struct acceptor {
	wh_loop *loop;
	int listener;
	atomic_int *accepted_count;
	wh_future all;
	wh_future f;
};

static void accept_next(struct acceptor *acceptor);

static void on_accepted(wh_loop *l, wh_res res, void *arg)
{
	struct acceptor *acceptor = arg;
	if (res.n == -ECANCELED)
		return;
	if (res.n < 0 || wh_close_now(l, (int)res.n) != 0)
		abort();
	if (atomic_fetch_add(acceptor->accepted_count, 1) + 1 == CONNECTIONS)
		(void)wh_resolve(acceptor->all, 0, NULL);
	accept_next(acceptor);
}

static void accept_next(struct acceptor *acceptor)
{
	acceptor->f = wh_accept(acceptor->loop, acceptor->listener);
	if (wh_then(acceptor->f, on_accepted, acceptor) != 0)
		abort();
}

static void begin(void *arg)
{
	accept_next(arg);
}

/* A listener that loops share: each connection is one loop's. */
static void loops_share_a_listener(void **state)
{
	struct sockaddr_in address;
	struct acceptor acceptors[LOOPS];
	atomic_int accepted_count = 0;
	int listener = listen_tcp(&address), fds[CONNECTIONS];
	wh_future all = wh_promise(loop, NULL, NULL);
	for (int i = 0; i < LOOPS; i++) {
		acceptors[i] = (struct acceptor){
			.listener = listener, .accepted_count = &accepted_count, .all = all};
		assert_int_equal(wh_loop_start(&acceptors[i].loop, NULL), 0);
		assert_int_equal(wh_post(acceptors[i].loop, begin, &acceptors[i]), 0);
	}
	for (int i = 0; i < CONNECTIONS; i++)
		fds[i] = connect_to(&address);
	assert_int_equal(wh_await(all).n, 0);
	assert_int_equal(atomic_load(&accepted_count), CONNECTIONS);
	for (int i = 0; i < LOOPS; i++)
		wh_loop_close(acceptors[i].loop);
	for (int i = 0; i < CONNECTIONS; i++)
		close_fd(fds[i]);
	close_fd(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(a_connection_wakes_one),
		ON_LOOP(no_connection_is_left),
		ON_LOOP(loops_share_a_listener),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
