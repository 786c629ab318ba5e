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

/* ---- how many are woken ---- */

enum { SLEEPERS = 12, ARRIVALS = 240, ROUNDS = 5 };

/* A loop that sleeps until somebody connects. */
struct sleeper {
	wh_loop *loop;
	int listener;
	wh_future f;
	_Atomic int taken_count;
};

static struct sleeper sleepers[SLEEPERS];
static _Atomic uint64_t next_taken; /* the promise that is resolved when a connection has been taken */

static void accept_again(struct sleeper *sleeper);

static void on_arrival(wh_loop *l, wh_res res, void *arg)
{
	struct sleeper *sleeper = arg;
	if (res.n == -ECANCELED)
		return;
	if (res.n < 0 || wh_close_now(l, (int)res.n) != 0)
		abort();
	sleeper->taken_count++;
	accept_again(sleeper);
	(void)wh_resolve((wh_future){atomic_load(&next_taken)}, 0, NULL);
}

static void accept_again(struct sleeper *sleeper)
{
	sleeper->f = wh_accept(sleeper->loop, sleeper->listener);
	if (wh_then(sleeper->f, on_arrival, sleeper) != 0)
		abort();
}

static int64_t begin_to_sleep(void *arg)
{
	accept_again(arg);
	return 0;
}

/* A connection a time, each when the one before has been taken. */
static void connect_one_by_one(const struct sockaddr_in *address)
{
	for (int i = 0; i < ARRIVALS; i++) {
		wh_future taken = wh_promise(loop, NULL, NULL);
		atomic_store(&next_taken, taken.id);
		int fd = connect_to(address);
		assert_int_equal(wh_await(taken).n, 0);
		close_fd(fd);
	}
}

static bool all_have_taken(void)
{
	for (int i = 0; i < SLEEPERS; i++)
		if (sleepers[i].taken_count == 0)
			return false;
	return true;
}

/* Of the loops that sleep on one listener a connection wakes one, and not always the same. Whoever is woken in vain goes back to sleep within
 * the kernel, so sleeps are counted: each connection would be one for each loop. */
static void a_connection_wakes_one_loop(void **state)
{
	struct sockaddr_in address;
	int listener = listen_tcp(&address), rounds = 0;
	long slept, few = (long)ARRIVALS * SLEEPERS * 3 / 4;
	if (strcmp(wh_engine_name(loop), "sync") == 0 || is_old_ring()) {
		close_fd(listener);
		skip(); /* ppoll(2), and the polls of old rings, know of no turns */
	}
	for (int i = 0; i < SLEEPERS; i++) {
		sleepers[i] = (struct sleeper){.listener = listener};
		assert_int_equal(wh_loop_start(&sleepers[i].loop, NULL), 0);
		assert_int_equal(wh_await(wh_ask(loop, sleepers[i].loop, begin_to_sleep, &sleepers[i])).n, 0);
	}
	do {
		slept = times_slept();
		connect_one_by_one(&address);
		slept = times_slept() - slept;
	} while (slept >= few && ++rounds < ROUNDS); /* a busy machine makes threads sleep that would not */
	assert_true(slept < few);
	/* each has its turn, if not in so many connections: whoever is still awake is passed over */
	while (strcmp(wh_engine_name(loop), "epoll") == 0 && !all_have_taken() && ++rounds < 8 * ROUNDS)
		connect_one_by_one(&address);
	for (int i = 0; i < SLEEPERS; i++)
		wh_loop_close(sleepers[i].loop);
	assert_true(all_have_taken() || strcmp(wh_engine_name(loop), "epoll") != 0);
	close_fd(listener);
}

/* ---- one that is woken, and cancelled ---- */

enum { RACES = 300 };

static void on_one_arrival(wh_loop *l, wh_res res, void *arg)
{
	struct sleeper *sleeper = arg;
	sleeper->f = (wh_future){0};
	if (res.n == -ECANCELED)
		return;
	if (res.n < 0 || wh_close_now(l, (int)res.n) != 0)
		abort();
	(void)wh_resolve((wh_future){atomic_load(&next_taken)}, 0, NULL);
}

static int64_t accept_once(void *arg)
{
	struct sleeper *sleeper = arg;
	sleeper->f = wh_accept(sleeper->loop, sleeper->listener);
	return wh_then(sleeper->f, on_one_arrival, sleeper);
}

static void give_up(void *arg)
{
	struct sleeper *sleeper = arg;
	wh_cancel(sleeper->f);
}

static int64_t give_up_now(void *arg)
{
	give_up(arg);
	return 0;
}

/* Two loops wait, and the one that is woken first is told at that moment not to: it takes the connection, or the other one does. */
static void a_cancelled_accept_keeps_nobody_waiting(void **state)
{
	struct sockaddr_in address;
	int listener = listen_tcp(&address);
	for (int i = 0; i < 2; i++) {
		sleepers[i] = (struct sleeper){.listener = listener};
		assert_int_equal(wh_loop_start(&sleepers[i].loop, NULL), 0);
	}
	for (int i = 0; i < RACES; i++) {
		wh_future taken = wh_promise(loop, NULL, NULL);
		atomic_store(&next_taken, taken.id);
		for (int j = 0; j < 2; j++)
			assert_int_equal(
				wh_await(wh_ask(loop, sleepers[j].loop, accept_once, &sleepers[j])).n, 0);
		if (i % 2)
			assert_int_equal(wh_post(sleepers[0].loop, give_up, &sleepers[0]), 0);
		int fd = connect_to(&address);
		if (i % 2 == 0)
			assert_int_equal(wh_post(sleepers[0].loop, give_up, &sleepers[0]), 0);
		assert_int_equal(wh_await(wh_deadline(taken, wh_now(loop) + 30 * WH_NS_PER_S)).n, 0);
		close_fd(fd);
		for (int j = 0; j < 2; j++)
			assert_int_equal(
				wh_await(wh_ask(loop, sleepers[j].loop, give_up_now, &sleepers[j])).n, 0);
	}
	for (int i = 0; i < 2; i++)
		wh_loop_close(sleepers[i].loop);
	close_fd(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(a_connection_wakes_one),
		ON_LOOP(no_connection_is_left),
		ON_LOOP(loops_share_a_listener),
		ON_LOOP(a_connection_wakes_one_loop),
		ON_LOOP(a_cancelled_accept_keeps_nobody_waiting),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
