/* tests/conformance/test_cross_thread.c -- what other threads may do to a loop: post, resolve, await, raise, stop. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "whilst/whilst.h"

enum { THREADS = 4, EACH = 3000 };

static wh_loop *loop;

static int set_up(void **state)
{
	assert_int_equal(wh_loop_open(&loop, NULL), 0);
	return 0;
}

static int tear_down(void **state)
{
	loop = wh_loop_close(loop);
	return 0;
}

static void join_all(pthread_t *threads)
{
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* ---- post ---- */

static int next_of[THREADS], posts_seen;
static wh_future all_seen;

static void on_post(void *arg)
{
	uintptr_t value = (uintptr_t)arg;
	int thread = (int)(value / EACH), number = (int)(value % EACH);
	if (next_of[thread]++ != number)
		abort(); /* posts from one thread run in order */
	if (++posts_seen == THREADS * EACH)
		(void)wh_resolve(all_seen, 0, NULL);
}

static void *poster(void *arg)
{
	for (uintptr_t i = 0; i < EACH; i++)
		if (wh_post(loop, on_post, (void *)((uintptr_t)arg * EACH + i)) != 0)
			abort();
	return NULL;
}

static void posts_arrive_once_and_in_order(void **state)
{
	pthread_t threads[THREADS];
	memset(next_of, 0, sizeof next_of);
	posts_seen = 0;
	all_seen = wh_promise(loop, NULL, NULL);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, poster, (void *)i), 0);
	assert_int_equal(wh_await(all_seen).n, 0);
	join_all(threads);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	assert_int_equal(posts_seen, THREADS * EACH);
}

/* ---- resolve, against a cancel and against each other ---- */

enum { PROMISES = 4000 };
static wh_future promises[PROMISES];
static atomic_int won, lost, stale;

static void *resolver(void *arg)
{
	for (int i = 0; i < PROMISES; i++) {
		int result = wh_resolve(promises[i], i, NULL);
		if (result == 0)
			atomic_fetch_add(&won, 1);
		else if (result == -EALREADY)
			atomic_fetch_add(&lost, 1);
		else if (result == -ESTALE)
			atomic_fetch_add(&stale, 1);
		else
			abort();
	}
	return NULL;
}

static void a_promise_has_one_outcome(void **state)
{
	pthread_t threads[THREADS];
	int by_resolve = 0, by_cancel = 0;
	atomic_store(&won, 0);
	atomic_store(&lost, 0);
	atomic_store(&stale, 0);
	for (int i = 0; i < PROMISES; i++)
		promises[i] = wh_promise(loop, NULL, NULL);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, resolver, NULL), 0);
	for (int i = PROMISES - 1; i >= 0; i--) {
		if (i % 2 == 0)
			wh_cancel(promises[i]);
		wh_res res = wh_await(promises[i]);
		assert_true(res.n == i || (res.n == -ECANCELED && i % 2 == 0));
		*(res.n == i ? &by_resolve : &by_cancel) += 1;
	}
	join_all(threads);
	assert_int_equal(by_resolve + by_cancel, PROMISES);
	assert_int_equal(atomic_load(&won), by_resolve);
	assert_int_equal(atomic_load(&won) + atomic_load(&lost) + atomic_load(&stale), THREADS * PROMISES);
}

/* ---- await ---- */

struct awaiter {
	wh_future future;
	wh_res res;
};

static void *await_one(void *arg)
{
	struct awaiter *awaiter = arg;
	awaiter->res = wh_await(awaiter->future);
	return NULL;
}

static void other_threads_may_wait(void **state)
{
	for (int round = 0; round < 50; round++) {
		struct awaiter awaiters[THREADS];
		pthread_t threads[THREADS];
		int joined = 0;
		for (int i = 0; i < THREADS; i++) {
			awaiters[i].future = wh_promise(loop, NULL, NULL);
			assert_int_equal(pthread_create(&threads[i], NULL, await_one, &awaiters[i]), 0);
		}
		/* Half complete before anybody waits, or while, or after: all the same. */
		for (int i = 0; i < THREADS; i++)
			assert_int_equal(wh_resolve(awaiters[i].future, i, NULL), 0);
		while (wh_loop_turn(loop, WH_NS_PER_MS) == 0) {
			while (joined < THREADS && pthread_tryjoin_np(threads[joined], NULL) == 0)
				joined++;
			if (joined == THREADS)
				break;
		}
		assert_int_equal(joined, THREADS);
		for (int i = 0; i < THREADS; i++)
			assert_int_equal(awaiters[i].res.n, i);
	}
}

/* ---- marks ---- */

static wh_mark *mark;

static void *raiser(void *arg)
{
	for (uint64_t i = 1; i <= EACH; i++)
		wh_mark_raise(mark, i);
	return NULL;
}

static void no_raise_is_missed(void **state)
{
	pthread_t threads[THREADS];
	assert_int_equal(wh_mark_open(loop, &mark, 0), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, raiser, NULL), 0);
	for (uint64_t i = 1; i <= EACH; i += 7) {
		assert_int_equal(wh_await(wh_mark_wait(mark, i)).n, 0);
		assert_true(wh_mark_read(mark) >= i);
	}
	join_all(threads);
	assert_int_equal(wh_mark_read(mark), EACH);
	mark = wh_mark_close(mark);
}

/* ---- loops on threads of their own ---- */

struct ping {
	wh_loop *home, *away;
	int left;
	wh_future done;
};

static void ping_home(void *arg);

static void ping_away(void *arg)
{
	struct ping *ping = arg;
	if (wh_post(ping->home, ping_home, ping) != 0)
		abort();
}

static void ping_home(void *arg)
{
	struct ping *ping = arg;
	if (--ping->left == 0)
		(void)wh_resolve(ping->done, 0, NULL);
	else if (wh_post(ping->away, ping_away, ping) != 0)
		abort();
}

static void loops_post_to_each_other(void **state)
{
	struct ping pings[THREADS];
	for (int i = 0; i < THREADS; i++) {
		pings[i] = (struct ping){.home = loop, .left = 1000, .done = wh_promise(loop, NULL, NULL)};
		assert_int_equal(wh_loop_start(&pings[i].away, NULL), 0);
		assert_int_equal(wh_post(pings[i].away, ping_away, &pings[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(wh_await(pings[i].done).n, 0);
	for (int i = 0; i < THREADS; i++)
		assert_null(wh_loop_close(pings[i].away));
}

/* ---- a loop that grows meanwhile ---- */

enum { GROWN = 60000 };
static wh_future grown[GROWN];
static atomic_int grown_count;

static void *resolve_as_they_come(void *arg)
{
	for (int i = 0; i < GROWN; i++) {
		while (atomic_load(&grown_count) <= i)
			sched_yield();
		/* and a slot that is not there yet, or never will be */
		const wh_future none = {grown[i].id + ((uint64_t)(GROWN * 2) << 32)};
		if (wh_resolve(none, 0, NULL) != -ESTALE || wh_resolve(grown[i], i, NULL) != 0)
			abort();
	}
	return NULL;
}

static void resolving_while_it_grows(void **state)
{
	pthread_t thread;
	struct wh_stats stats;
	atomic_store(&grown_count, 0);
	assert_int_equal(pthread_create(&thread, NULL, resolve_as_they_come, NULL), 0);
	for (int i = 0; i < GROWN; i++) {
		grown[i] = wh_promise(loop, NULL, NULL);
		atomic_store(&grown_count, i + 1);
	}
	for (int i = 0; i < GROWN; i++)
		assert_int_equal(wh_await(grown[i]).n, i);
	assert_int_equal(pthread_join(thread, NULL), 0);
	wh_stats(loop, &stats);
	assert_int_equal(stats.classes[WH_CLASS_PROMISE].completed, GROWN);
}

/* ---- a loop that closes meanwhile ---- */

static atomic_int disposed_count, closing_won;
static atomic_bool go;

static void count_disposed(wh_res res, void *arg)
{
	atomic_fetch_add(&disposed_count, 1);
}

static void *resolve_while_closing(void *arg)
{
	wh_future *first = arg;
	while (!atomic_load(&go))
		;
	for (int i = 0; i < 100; i++) {
		int result = wh_resolve(first[i], i, NULL);
		if (result == 0)
			atomic_fetch_add(&closing_won, 1);
		else if (result != -EALREADY && result != -ESTALE)
			abort();
	}
	return NULL;
}

/* Whoever is told that its result was taken may count on the disposer, however far the closing is. */
static void closing_while_others_resolve(void **state)
{
	for (int round = 0; round < 50; round++) {
		pthread_t threads[THREADS];
		wh_loop *closing;
		atomic_store(&go, false);
		atomic_store(&disposed_count, 0);
		atomic_store(&closing_won, 0);
		assert_int_equal(wh_loop_open(&closing, NULL), 0);
		for (int i = 0; i < THREADS * 100; i++)
			promises[i] = wh_promise(closing, count_disposed, NULL);
		for (int i = 0; i < THREADS; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, resolve_while_closing,
			                                &promises[(size_t)i * 100]),
			                 0);
		atomic_store(&go, true);
		for (int turn = 0; turn < round % 5; turn++)
			assert_int_equal(wh_loop_turn(closing, 0), 0);
		closing = wh_loop_close(closing);
		join_all(threads);
		assert_int_equal(atomic_load(&disposed_count), atomic_load(&closing_won));
	}
}

/* ---- a turn ---- */

enum { TURNS = 30000 };

static _Atomic uint64_t to_resolve; /* a promise; 0: none, 1: no more */

static void *resolve_each(void *arg)
{
	uint64_t id;
	for (unsigned int spin = 0; (id = atomic_exchange(&to_resolve, 0)) != 1; spin++) {
		for (volatile unsigned int i = spin % 512; id != 0 && i > 0; i--)
			;
		if (id != 0 && wh_resolve((wh_future){id}, 0, NULL) != 0)
			abort();
	}
	return NULL;
}

/* What ends while a turn begins ends that turn, whenever that is: nobody else would. */
static void a_turn_does_not_sleep_over_what_has_ended(void **state)
{
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, resolve_each, NULL), 0);
	for (int i = 0; i < TURNS; i++) {
		wh_future f = wh_promise(loop, NULL, NULL);
		atomic_store(&to_resolve, f.id);
		while (!wh_done(f))
			assert_int_equal(wh_loop_turn(loop, -1), 0);
		assert_int_equal(wh_await(f).n, 0);
	}
	atomic_store(&to_resolve, 1);
	pthread_join(thread, NULL);
}

static void *stopper(void *arg)
{
	wh_loop_stop(loop);
	return NULL;
}

static void any_thread_stops_a_loop(void **state)
{
	for (int round = 0; round < 100; round++) {
		pthread_t thread;
		wh_future pending = wh_promise(loop, NULL, NULL);
		assert_int_equal(pthread_create(&thread, NULL, stopper, NULL), 0);
		assert_int_equal(wh_loop_run(loop), 1);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(wh_drop(pending), 0);
	}
}

static void *foreign(void *arg)
{
	wh_res res;
	wh_future f = *(wh_future *)arg;
	if (wh_await(wh_sleep(loop, 0)).n != -EPERM || wh_then(f, NULL, NULL) == 0 || wh_drop(f) != -EPERM ||
	    wh_loop_turn(loop, 0) != -EPERM || !wh_poll(f, &res) || res.n != -EPERM)
		abort();
	wh_cancel(f);
	return NULL;
}

static void the_rest_belongs_to_the_loops_thread(void **state)
{
	pthread_t thread;
	wh_future f = wh_promise(loop, NULL, NULL);
	assert_int_equal(pthread_create(&thread, NULL, foreign, &f), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(wh_resolve(f, 7, NULL), 0); /* nothing has happened to it */
	assert_int_equal(wh_await(f).n, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(posts_arrive_once_and_in_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_promise_has_one_outcome, set_up, tear_down),
		cmocka_unit_test_setup_teardown(other_threads_may_wait, set_up, tear_down),
		cmocka_unit_test_setup_teardown(no_raise_is_missed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(loops_post_to_each_other, set_up, tear_down),
		cmocka_unit_test_setup_teardown(resolving_while_it_grows, set_up, tear_down),
		cmocka_unit_test_setup_teardown(closing_while_others_resolve, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_turn_does_not_sleep_over_what_has_ended, set_up, tear_down),
		cmocka_unit_test_setup_teardown(any_thread_stops_a_loop, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_rest_belongs_to_the_loops_thread, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
