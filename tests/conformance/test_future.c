/* tests/conformance/test_future.c -- futures: consume once, in one of the ways; promises; posts; the loop's run. */
#include "conformance.h"

#include <sys/wait.h>

static void a_promise_can_be_awaited(void **state)
{
	int value = 0;
	wh_future f = wh_promise(loop, NULL, NULL);
	assert_false(wh_done(f));
	assert_false(wh_poll(f, NULL));
	assert_int_equal(wh_resolve(f, 7, &value), 0);
	assert_true(wh_done(f));
	assert_int_equal(wh_resolve(f, 8, NULL), -EALREADY);
	wh_res res = wh_await(f);
	assert_int_equal(res.n, 7);
	assert_ptr_equal(res.ptr, &value);
	assert_int_equal(wh_resolve(f, 8, NULL), -ESTALE);
}

static void every_use_after_consumption_is_stale(void **state)
{
	wh_res res = {0};
	wh_future f = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_resolve(f, 1, NULL), 0);
	assert_true(wh_poll(f, &res));
	assert_int_equal(res.n, 1);
	/* also when the slot serves another */
	wh_future other = wh_promise(loop, NULL, NULL);
	assert_true(other.id != f.id);
	assert_int_equal(wh_await(f).n, -ESTALE);
	assert_true(wh_poll(f, &res));
	assert_int_equal(res.n, -ESTALE);
	assert_int_equal(wh_then(f, note, NULL), -ESTALE);
	assert_int_equal(wh_drop(f), -ESTALE);
	assert_int_equal(wh_resolve(f, 3, NULL), -ESTALE);
	assert_true(wh_done(f));
	wh_cancel(f); /* harmless */
	assert_false(wh_done(other));
	assert_int_equal(wh_drop(other), 0);
	assert_int_equal(wh_await((wh_future){0}).n, -ESTALE);
	assert_int_equal(wh_then((wh_future){0}, note, NULL), -ESTALE);
	assert_int_equal(wh_resolve((wh_future){0}, 0, NULL), -ESTALE);
}

static void what_has_a_consumer_has_no_second(void **state)
{
	struct seen seen = {0};
	wh_future f = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_then(f, note, &seen), 0);
	assert_int_equal(wh_then(f, note, &seen), -ESTALE);
	assert_int_equal(wh_await(f).n, -ESTALE);
	assert_int_equal(wh_drop(f), -ESTALE);
	assert_int_equal(wh_resolve(f, 5, NULL), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.last.n, 5);
}

static wh_future inner;
static bool running_callback;
static int nested_count;

static void check_not_nested(wh_loop *l, wh_res res, void *arg)
{
	assert_false(running_callback);
	running_callback = true;
	nested_count++;
	if (arg) {
		/* complete already, and still not called inline */
		wh_future f = wh_promise(l, NULL, NULL);
		assert_int_equal(wh_resolve(f, 1, NULL), 0);
		assert_int_equal(wh_then(f, check_not_nested, NULL), 0);
		assert_int_equal(wh_then(wh_failed(l, -EIO), check_not_nested, NULL), 0);
		assert_int_equal(wh_resolve(inner, 2, NULL), 0);
	}
	running_callback = false;
}

static void callbacks_are_never_inline_and_never_nest(void **state)
{
	wh_future f = wh_promise(loop, NULL, NULL);
	inner = wh_promise(loop, NULL, NULL);
	nested_count = 0;
	assert_int_equal(wh_then(inner, check_not_nested, NULL), 0);
	assert_int_equal(wh_then(f, check_not_nested, loop), 0);
	assert_int_equal(wh_resolve(f, 1, NULL), 0);
	assert_int_equal(nested_count, 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(nested_count, 4);
}

static int order[100], order_count;

static void note_order(wh_loop *l, wh_res res, void *arg)
{
	order[order_count++] = (int)res.n;
}

static void callbacks_come_in_the_order_of_completion(void **state)
{
	wh_future fs[100];
	order_count = 0;
	for (int i = 0; i < 100; i++) {
		fs[i] = wh_promise(loop, NULL, NULL);
		if (i % 2 == 0)
			assert_int_equal(wh_then(fs[i], note_order, NULL), 0);
	}
	for (int i = 0; i < 100; i++)
		assert_int_equal(wh_resolve(fs[i * 37 % 100], i, NULL), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(order_count, 50);
	for (int i = 1; i < 50; i++)
		assert_true(order[i] > order[i - 1]);
	for (int i = 1; i < 100; i += 2)
		assert_int_equal(wh_drop(fs[i]), 0);
}

static void await_in_callback(wh_loop *l, wh_res res, void *arg)
{
	wh_future pending = wh_promise(l, NULL, NULL), done = wh_promise(l, NULL, NULL);
	assert_int_equal(wh_await(pending).n, -EDEADLK);
	assert_false(wh_done(pending)); /* not consumed */
	assert_int_equal(wh_drop(pending), 0);
	assert_int_equal(wh_resolve(done, 3, NULL), 0);
	assert_int_equal(wh_await(done).n, 3);
	assert_int_equal(wh_loop_run(l), -EDEADLK);
	assert_int_equal(wh_loop_turn(l, 0), -EDEADLK);
	*(bool *)arg = true;
}

static void await_in_a_callback_is_refused(void **state)
{
	bool called = false;
	assert_int_equal(wh_then(wh_sleep(loop, 0), await_in_callback, &called), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_true(called);
}

static void await_turns_the_loop(void **state)
{
	struct seen seen = {0};
	assert_int_equal(wh_then(wh_sleep(loop, 0), note, &seen), 0);
	assert_int_equal(wh_await(wh_sleep(loop, 2 * WH_NS_PER_MS)).n, 0);
	assert_int_equal(seen.count, 1);
}

static int disposed;

static void dispose(wh_res res, void *arg)
{
	assert_ptr_equal(arg, &disposed);
	disposed += (int)res.n;
}

static void a_result_that_nobody_takes_is_disposed_of(void **state)
{
	disposed = 0;
	wh_future early = wh_promise(loop, dispose, &disposed), late = wh_promise(loop, dispose, &disposed),
		  polled = wh_promise(loop, dispose, &disposed),
		  failed = wh_promise(loop, dispose, &disposed), taken = wh_promise(loop, dispose, &disposed),
		  left = wh_promise(loop, dispose, &disposed);
	assert_int_equal(wh_resolve(early, 1, NULL), 0);
	assert_int_equal(wh_drop(early), 0);
	assert_int_equal(disposed, 1);
	assert_int_equal(wh_drop(late), 0); /* cancels it: there is no result */
	assert_int_equal(wh_resolve(late, 2, NULL), -ESTALE);
	assert_int_equal(wh_resolve(polled, 4, NULL), 0);
	assert_true(wh_poll(polled, NULL));
	assert_int_equal(disposed, 5);
	assert_int_equal(wh_resolve(failed, -EIO, NULL), 0);
	assert_int_equal(wh_drop(failed), 0);
	assert_int_equal(wh_resolve(taken, 8, NULL), 0);
	assert_int_equal(wh_await(taken).n, 8);
	assert_int_equal(wh_resolve(left, 16, NULL), 0);
	assert_int_equal(disposed, 5);
	loop = wh_loop_close(loop); /* nobody will consume left */
	assert_int_equal(disposed, 21);
}

static void a_cancelled_promise_ends_once(void **state)
{
	wh_future f = wh_promise(loop, NULL, NULL);
	wh_cancel(f);
	wh_cancel(f);
	assert_int_equal(wh_resolve(f, 1, NULL), -EALREADY);
	assert_int_equal(wh_await(f).n, -ECANCELED);
}

static void cancel_works_while_a_callback_waits(void **state)
{
	struct seen seen = {0};
	wh_future f = wh_sleep(loop, 1000 * WH_NS_PER_S);
	assert_int_equal(wh_then(f, note, &seen), 0);
	wh_cancel(f);
	assert_int_equal(seen.count, 0); /* never inline */
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.last.n, -ECANCELED);
}

static void a_failure_is_a_future(void **state)
{
	struct seen seen = {0};
	wh_res res;
	wh_future f = wh_failed(loop, -ENOENT);
	assert_true(wh_done(f));
	assert_true(wh_poll(f, &res));
	assert_int_equal(res.n, -ENOENT);
	assert_int_equal(wh_await(wh_failed(loop, -EIO)).n, -EIO);
	assert_int_equal(wh_await(wh_failed(loop, -WH_EDAMAGED)).n, -WH_EDAMAGED);
	assert_int_equal(wh_await(wh_failed(loop, 5)).n, -EINVAL);
	assert_int_equal(wh_drop(wh_failed(loop, -EIO)), 0);
	assert_int_equal(wh_then(wh_failed(loop, -EIO), note, &seen), 0);
	assert_int_equal(seen.count, 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.last.n, -EIO);
	assert_int_equal(wh_then(wh_sleep(loop, 0), NULL, NULL), -EINVAL);
}

static void a_loop_without_slots_says_so_and_recovers(void **state)
{
	struct wh_loop_options options = {.futures_max = 3};
	wh_loop *small;
	assert_int_equal(wh_loop_open(&small, &options), 0);
	wh_future fs[3], refused;
	for (int i = 0; i < 3; i++)
		fs[i] = wh_promise(small, NULL, NULL);
	refused = wh_promise(small, NULL, NULL);
	struct seen seen = {0};
	assert_int_equal(wh_then(refused, note, &seen), 0);
	assert_int_equal(wh_await(wh_sleep(small, 0)).n, -EAGAIN);
	assert_int_equal(wh_drop(fs[0]), 0);
	assert_int_equal(wh_await(wh_sleep(small, 0)).n, 0);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.last.n, -EAGAIN);
	wh_loop_close(small);
}

static void run_returns_when_nothing_is_pending(void **state)
{
	assert_int_equal(wh_loop_run(loop), 0);
	wh_future f = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_resolve(f, 0, NULL), 0);
	assert_int_equal(wh_loop_run(loop), 0); /* a result that lies there is not pending */
	assert_true(wh_done(f));
	assert_int_equal(wh_drop(f), 0);
	wh_loop_stop(loop);
	assert_int_equal(wh_loop_run(loop), 1); /* the next one */
	assert_int_equal(wh_loop_run(loop), 0);
}

static void stop_from_timer(wh_loop *l, wh_res res, void *arg)
{
	wh_loop_stop(l);
}

static void stop_does_not_starve_who_awaits(void **state)
{
	wh_loop_stop(loop);
	assert_int_equal(wh_await(wh_sleep(loop, WH_NS_PER_MS)).n, 0);
	assert_int_equal(wh_loop_run(loop), 1); /* it was for the next run */
}

static void stop_ends_the_run(void **state)
{
	wh_future f = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_then(wh_sleep(loop, WH_NS_PER_MS), stop_from_timer, NULL), 0);
	assert_int_equal(wh_loop_run(loop), 1);
	assert_false(wh_done(f));
	assert_int_equal(wh_drop(f), 0);
}

static void note_call(void *arg)
{
	order[order_count++] = *(int *)arg;
}

static void deferred_again(void *arg)
{
	note_call(arg);
	static int last = 9;
	assert_int_equal(wh_defer(loop, note_call, &last), 0);
}

static void defer_in_callback(wh_loop *l, wh_res res, void *arg)
{
	static int two = 2;
	order[order_count++] = 1;
	assert_int_equal(wh_defer(l, deferred_again, &two), 0);
}

static void deferred_calls_come_after_what_is_ready(void **state)
{
	order_count = 0;
	for (int i = 0; i < 3; i++) {
		wh_future f = wh_promise(loop, NULL, NULL);
		assert_int_equal(wh_resolve(f, 1, NULL), 0);
		assert_int_equal(wh_then(f, i == 0 ? defer_in_callback : note_order, NULL), 0);
	}
	assert_int_equal(wh_loop_turn(loop, 0), 0); /* in this turn */
	const int expected[] = {1, 1, 1, 2, 9};
	assert_int_equal(order_count, 5);
	assert_memory_equal(order, expected, sizeof expected);
}

static void posts_run_in_order_and_count_as_pending(void **state)
{
	static int numbers[50];
	order_count = 0;
	for (int i = 0; i < 50; i++) {
		numbers[i] = i;
		assert_int_equal(wh_post(loop, note_call, &numbers[i]), 0);
	}
	assert_int_equal(order_count, 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(order_count, 50);
	for (int i = 0; i < 50; i++)
		assert_int_equal(order[i], i);
}

static int busy_left;

static void stay_busy(wh_loop *l, wh_res res, void *arg)
{
	if (--busy_left == 0)
		return;
	wh_future f = wh_promise(l, NULL, NULL);
	assert_int_equal(wh_resolve(f, 0, NULL), 0);
	assert_int_equal(wh_then(f, stay_busy, NULL), 0);
}

static void note_busy(wh_loop *l, wh_res res, void *arg)
{
	*(int *)arg = busy_left;
}

static void a_busy_loop_still_looks_at_its_engine(void **state)
{
	int fds[2], left_when_received = 0, left_when_timed = 0;
	char byte;
	busy_left = 1000000;
	make_pair(fds);
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(wh_then(wh_recv(loop, fds[0], &byte, 1), note_busy, &left_when_received), 0);
	assert_int_equal(wh_then(wh_sleep(loop, 0), note_busy, &left_when_timed), 0);
	stay_busy(loop, (wh_res){0}, NULL);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_true(left_when_received > 0);
	assert_true(left_when_timed > 0);
	close_fd(fds[0]);
	close_fd(fds[1]);
}

static int64_t multiply(void *arg)
{
	return *(int *)arg * 3;
}

static int64_t misuse(void *arg)
{
	/* on a worker, or on the loop's thread of an engine without workers: in neither case the loop's own code */
	struct seen seen = {0};
	wh_future f = *(wh_future *)arg;
	return wh_await(wh_sleep(loop, 0)).n == -EPERM && wh_then(f, note, &seen) == -EPERM &&
	       wh_drop(f) == -EPERM && wh_defer(loop, note_call, NULL) == -EPERM &&
	       wh_loop_run(loop) == -EPERM;
}

static void work_gives_its_result(void **state)
{
	int seven = 7;
	wh_future f = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_await(wh_work(loop, multiply, &seven)).n, 21);
	assert_int_equal(wh_await(wh_work(loop, misuse, &f)).n, 1);
	assert_int_equal(wh_await(wh_work(loop, NULL, NULL)).n, -EINVAL);
	assert_int_equal(wh_drop(f), 0);
	f = wh_work(loop, multiply, &seven);
	wh_cancel(f); /* queued, running or done */
	wh_res res = wh_await(f);
	assert_true(res.n == 21 || res.n == -ECANCELED);
}

static void stats_count(void **state)
{
	struct wh_stats before, after;
	wh_stats(loop, &before);
	wh_future f = wh_promise(loop, NULL, NULL), cancelled = wh_sleep(loop, WH_NS_PER_S);
	wh_stats(loop, &after);
	assert_int_equal(after.started - before.started, 2);
	assert_int_equal(after.in_flight - before.in_flight, 2);
	wh_cancel(cancelled);
	assert_int_equal(wh_resolve(f, -EIO, NULL), 0);
	assert_int_equal(wh_drop(f), 0);
	assert_int_equal(wh_await(cancelled).n, -ECANCELED);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	wh_stats(loop, &after);
	assert_int_equal(after.completed - before.completed, 2);
	assert_int_equal(after.cancelled - before.cancelled, 1);
	assert_int_equal(after.failed - before.failed, 1);
	assert_int_equal(after.in_flight, 0);
	assert_true(after.turns > before.turns);
}

static void slow_callback(wh_loop *l, wh_res res, void *arg)
{
	int64_t until = wh_clock(l) + 3 * WH_NS_PER_MS, now = wh_now(l);
	while (wh_clock(l) < until)
		;
	assert_int_equal(wh_now(l), now); /* one instant for a batch of callbacks */
}

static void the_longest_turn_is_known(void **state)
{
	struct wh_stats stats;
	assert_int_equal(wh_then(wh_sleep(loop, 0), slow_callback, NULL), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	wh_stats(loop, &stats);
	assert_true(stats.turn_ns_max >= 3 * WH_NS_PER_MS);
}

static void clocks_and_randomness(void **state)
{
	struct timespec ts;
	unsigned char a[64] = {0}, b[64] = {0};
	clock_gettime(CLOCK_MONOTONIC, &ts);
	int64_t now = ts.tv_sec * WH_NS_PER_S + ts.tv_nsec;
	assert_true(wh_clock(loop) >= now && wh_clock(loop) < now + WH_NS_PER_S);
	assert_true(wh_now(loop) >= now); /* outside callbacks it does not stand still */
	clock_gettime(CLOCK_REALTIME, &ts);
	int64_t wall = wh_wall_now(loop) - (ts.tv_sec * WH_NS_PER_S + ts.tv_nsec);
	assert_true(wall >= 0 && wall < WH_NS_PER_S);
	wh_random(loop, a, sizeof a);
	wh_random(loop, b, sizeof b);
	assert_memory_not_equal(a, b, sizeof a);
	assert_string_equal(wh_strerror(-ENOENT), "No such file or directory");
	assert_string_equal(wh_strerror(ENOENT), "No such file or directory");
	for (int code = WH_EHTTP_SYNTAX; code <= WH_EDAMAGED; code++)
		assert_string_not_equal(wh_strerror(-code), "unknown error");
	assert_string_equal(wh_strerror(-999999), "unknown error");
	assert_true(strlen(wh_version()) > 0);
	const char *engine = getenv("WHILST_ENGINE");
	if (engine)
		assert_string_equal(wh_engine_name(loop), engine);
}

static void a_forked_child_may_not_use_the_loop(void **state)
{
	wh_future f = wh_promise(loop, NULL, NULL), done = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_resolve(done, 1, NULL), 0);
	pid_t pid = fork();
	if (pid == 0) {
		wh_loop *own = NULL;
		struct seen seen = {0};
		int failed = 0;
		failed |= wh_await(f).n != -EPERM;
		failed |= (wh_then(f, note, &seen) != -EPERM) << 1;
		failed |= (wh_resolve(f, 1, NULL) != -EPERM) << 2;
		failed |= (wh_drop(done) != -EPERM) << 3;
		failed |= (wh_await(wh_sleep(loop, 0)).n != -EPERM) << 4;
		failed |= (wh_loop_run(loop) != -EPERM || wh_post(loop, note_call, NULL) != -EPERM) << 5;
		failed |= (wh_loop_close(loop) != loop) << 6;
		/* but one of its own */
		failed |= (wh_loop_open(&own, NULL) != 0 || wh_await(wh_sleep(own, 1000)).n != 0 ||
		           wh_loop_close(own) != NULL)
		          << 7;
		_exit(failed);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(wh_resolve(f, 2, NULL), 0); /* the parent is as before */
	assert_int_equal(wh_await(f).n, 2);
	assert_int_equal(wh_await(done).n, 1);
	assert_int_equal(wh_await(wh_sleep(loop, 1000)).n, 0);
}

static void numbers_of_loops_are_given_out_again(void **state)
{
	wh_future old = wh_promise(loop, NULL, NULL);
	loop = wh_loop_close(loop);
	for (int i = 0; i < 1100; i++) {
		wh_loop *other;
		assert_int_equal(wh_loop_open(&other, NULL), 0);
		wh_future f = wh_promise(other, NULL, NULL);
		assert_true(f.id != old.id);
		assert_int_equal(wh_resolve(old, 1, NULL), -ESTALE);
		wh_loop_close(other);
	}
}

static void there_are_limits_to_loops(void **state)
{
	struct wh_loop_options options = {.engine = 77};
	wh_loop *untouched = (wh_loop *)&options;
	assert_int_equal(wh_loop_open(&untouched, &options), -EINVAL);
	assert_ptr_equal(untouched, &options);
	assert_null(wh_loop_close(NULL));
	char *before = getenv("WHILST_ENGINE");
	char *copy = before ? strdup(before) : NULL;
	setenv("WHILST_ENGINE", "steam", 1);
	assert_int_equal(wh_loop_open(&untouched, NULL), -EINVAL);
	copy ? setenv("WHILST_ENGINE", copy, 1) : unsetenv("WHILST_ENGINE");
	free(copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(a_promise_can_be_awaited),
		ON_LOOP(every_use_after_consumption_is_stale),
		ON_LOOP(what_has_a_consumer_has_no_second),
		ON_LOOP(callbacks_are_never_inline_and_never_nest),
		ON_LOOP(callbacks_come_in_the_order_of_completion),
		ON_LOOP(await_in_a_callback_is_refused),
		ON_LOOP(await_turns_the_loop),
		ON_LOOP(a_result_that_nobody_takes_is_disposed_of),
		ON_LOOP(a_cancelled_promise_ends_once),
		ON_LOOP(cancel_works_while_a_callback_waits),
		ON_LOOP(a_failure_is_a_future),
		ON_LOOP(a_loop_without_slots_says_so_and_recovers),
		ON_LOOP(run_returns_when_nothing_is_pending),
		ON_LOOP(stop_ends_the_run),
		ON_LOOP(stop_does_not_starve_who_awaits),
		ON_LOOP(deferred_calls_come_after_what_is_ready),
		ON_LOOP(posts_run_in_order_and_count_as_pending),
		ON_LOOP(a_busy_loop_still_looks_at_its_engine),
		ON_LOOP(work_gives_its_result),
		ON_LOOP(stats_count),
		ON_LOOP(the_longest_turn_is_known),
		ON_LOOP(clocks_and_randomness),
		ON_LOOP(a_forked_child_may_not_use_the_loop),
		ON_LOOP(numbers_of_loops_are_given_out_again),
		ON_LOOP(there_are_limits_to_loops),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
