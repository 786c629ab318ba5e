/* tests/conformance/test_combine.c -- all, all settled, any, deadline; timers; marks. */
#include "conformance.h"

static int disposed;

static void dispose(wh_res res, void *arg)
{
	disposed++;
}

static wh_future resolved(int64_t n)
{
	wh_future f = wh_promise(loop, dispose, NULL);
	assert_int_equal(wh_resolve(f, n, NULL), 0);
	return f;
}

static void all_keeps_results(void **state)
{
	int marker;
	wh_res results[3] = {{0}};
	wh_future late = wh_promise(loop, NULL, NULL);
	wh_future fs[] = {resolved(10), late, wh_sleep(loop, 1000)};
	wh_future all = wh_all(loop, fs, 3, results);
	assert_false(wh_done(all));
	assert_int_equal(wh_await(fs[0]).n, -ESTALE); /* consumed */
	assert_int_equal(wh_resolve(late, 30, &marker), 0);
	assert_int_equal(wh_await(all).n, 0);
	assert_int_equal(results[0].n, 10);
	assert_int_equal(results[1].n, 30);
	assert_ptr_equal(results[1].ptr, &marker);
	assert_int_equal(results[2].n, 0);
}

static void all_cancels_the_rest_at_the_first_error(void **state)
{
	wh_res results[4] = {{0}};
	wh_future bad = wh_promise(loop, NULL, NULL);
	wh_future fs[] = {wh_sleep(loop, 1000 * WH_NS_PER_S), bad, resolved(4), wh_promise(loop, NULL, NULL)};
	wh_future all = wh_all(loop, fs, 4, results);
	assert_int_equal(wh_resolve(bad, -EIO, NULL), 0);
	assert_int_equal(wh_await(all).n, -EIO);
	assert_int_equal(results[0].n, -ECANCELED);
	assert_int_equal(results[1].n, -EIO);
	assert_int_equal(results[2].n, 4);
	assert_int_equal(results[3].n, -ECANCELED);
	/* an error that is there from the start cancels what comes after it, too */
	wh_future more[] = {wh_failed(loop, -EPIPE), wh_sleep(loop, 1000 * WH_NS_PER_S), (wh_future){0}};
	assert_int_equal(wh_await(wh_all(loop, more, 3, results)).n, -EPIPE);
	assert_int_equal(results[1].n, -ECANCELED);
	assert_int_equal(results[2].n, -ESTALE);
}

static void all_settled_cancels_nothing(void **state)
{
	wh_res results[3];
	wh_future fs[] = {wh_failed(loop, -EIO), wh_sleep(loop, 2 * WH_NS_PER_MS), resolved(2)};
	assert_int_equal(wh_await(wh_all_settled(loop, fs, 3, results)).n, 2);
	assert_int_equal(results[0].n, -EIO);
	assert_int_equal(results[1].n, 0);
	assert_int_equal(results[2].n, 2);
}

static void any_takes_the_first_success(void **state)
{
	wh_res results[3];
	wh_future winner = wh_promise(loop, NULL, NULL);
	wh_future fs[] = {wh_failed(loop, -EIO), wh_sleep(loop, 1000 * WH_NS_PER_S), winner};
	wh_future any = wh_any(loop, fs, 3, results);
	assert_int_equal(wh_resolve(winner, 77, NULL), 0);
	assert_int_equal(wh_await(any).n, 2);
	assert_int_equal(results[0].n, -EIO);
	assert_int_equal(results[1].n, -ECANCELED);
	assert_int_equal(results[2].n, 77);
	wh_future bad[] = {wh_failed(loop, -EIO), wh_failed(loop, -EPIPE)};
	assert_int_equal(wh_await(wh_any(loop, bad, 2, NULL)).n, -EPIPE);
}

static void empty_and_wrong_inputs(void **state)
{
	wh_res results[2];
	wh_future same = resolved(1), fs[] = {same, same};
	assert_int_equal(wh_await(wh_all(loop, NULL, 0, NULL)).n, 0);
	assert_int_equal(wh_await(wh_all_settled(loop, NULL, 0, NULL)).n, 0);
	assert_int_equal(wh_await(wh_any(loop, NULL, 0, NULL)).n, -EINVAL);
	assert_int_equal(wh_await(wh_all(loop, NULL, 1, NULL)).n, -EINVAL);
	assert_int_equal(wh_await(wh_all_settled(loop, fs, 2, results)).n, 1);
	assert_int_equal(results[0].n, 1);
	assert_int_equal(results[1].n, -ESTALE);
}

static void results_without_a_taker_are_disposed_of(void **state)
{
	disposed = 0;
	wh_future fs[] = {resolved(1), wh_promise(loop, dispose, NULL), resolved(3)}, late = fs[1];
	wh_future all = wh_all(loop, fs, 3, NULL);
	assert_int_equal(disposed, 2);
	assert_int_equal(wh_resolve(late, 2, NULL), 0);
	assert_int_equal(wh_await(all).n, 0);
	assert_int_equal(disposed, 3);
	/* a loser that succeeded nevertheless */
	wh_future pair[] = {resolved(1), resolved(2)};
	assert_int_equal(wh_await(wh_any(loop, pair, 2, NULL)).n, 0);
	assert_int_equal(disposed, 5);
	/* through a deadline */
	assert_int_equal(wh_drop(wh_deadline(resolved(1), 0)), 0);
	assert_int_equal(disposed, 6);
	wh_future slow = wh_promise(loop, dispose, NULL);
	wh_future limited = wh_deadline(slow, wh_clock(loop) + WH_NS_PER_S);
	assert_int_equal(wh_resolve(slow, 1, NULL), 0);
	assert_int_equal(wh_drop(limited), 0);
	assert_int_equal(disposed, 7);
}

static void combinations_cancel_and_nest(void **state)
{
	wh_res inner[2], outer[2];
	wh_future a[] = {wh_sleep(loop, 1000 * WH_NS_PER_S), wh_promise(loop, NULL, NULL)};
	wh_future b[] = {wh_all(loop, a, 2, inner),
	                 wh_deadline(wh_sleep(loop, 1000 * WH_NS_PER_S), INT64_MAX)};
	wh_future all = wh_all_settled(loop, b, 2, outer);
	wh_cancel(all);
	wh_cancel(all);
	assert_int_equal(wh_await(all).n, 0);
	assert_int_equal(inner[0].n, -ECANCELED);
	assert_int_equal(inner[1].n, -ECANCELED);
	assert_int_equal(outer[0].n, -ECANCELED);
	assert_int_equal(outer[1].n, -ECANCELED);
}

static void what_borrows_cannot_be_dropped(void **state)
{
	wh_res results[1];
	wh_future f = wh_promise(loop, NULL, NULL), fs[] = {f};
	wh_future all = wh_all(loop, fs, 1, results);
	assert_int_equal(wh_drop(all), -EBUSY);
	assert_int_equal(wh_resolve(f, 1, NULL), 0);
	assert_int_equal(wh_drop(all), 0);
	f = fs[0] = wh_promise(loop, NULL, NULL);
	all = wh_all(loop, fs, 1, NULL);
	assert_int_equal(wh_drop(all), 0); /* nothing borrowed: cancelled and forgotten */
	assert_int_equal(wh_resolve(f, 1, NULL), -ESTALE);
	int fds[2];
	char byte;
	make_pair(fds);
	f = fs[0] = wh_recv(loop, fds[0], &byte, 1);
	assert_int_equal(wh_drop(f), -EBUSY);
	all = wh_all(loop, fs, 1, NULL);
	assert_int_equal(wh_drop(all), -EBUSY);
	wh_cancel(all);
	assert_int_equal(wh_await(all).n, -ECANCELED);
	wh_future limited = wh_deadline(wh_recv(loop, fds[0], &byte, 1), wh_clock(loop) + WH_NS_PER_S);
	assert_int_equal(wh_drop(limited), -EBUSY);
	wh_cancel(limited);
	assert_int_equal(wh_await(limited).n, -ECANCELED);
	close_fd(fds[0]);
	close_fd(fds[1]);
}

static void a_race_on_one_descriptor(void **state)
{
	/* completing one input cancels another that waits on the same descriptor */
	int fds[2];
	char byte = 0;
	wh_res results[3];
	make_pair(fds);
	for (int round = 0; round < 20; round++) {
		wh_future fs[] = {wh_ready(loop, fds[0], POLLIN), wh_recv(loop, fds[0], &byte, 1),
		                  wh_ready(loop, fds[0], POLLIN)};
		wh_future any = wh_any(loop, fs, 3, results);
		assert_int_equal(wh_loop_turn(loop, 0), 0);
		assert_int_equal(write(fds[1], "x", 1), 1);
		int64_t n = wh_await(any).n;
		assert_true(n >= 0 && n < 3);
		assert_true(results[n].n > 0);
		if (results[1].n != 1)
			assert_int_equal(read(fds[0], &byte, 1), 1);
	}
	close_fd(fds[0]);
	close_fd(fds[1]);
}

static void a_deadline_gives_the_true_result_in_time(void **state)
{
	wh_future f = wh_promise(loop, NULL, NULL);
	wh_future limited = wh_deadline(f, wh_clock(loop) + 1000 * WH_NS_PER_S);
	assert_int_equal(wh_await(f).n, -ESTALE);
	assert_int_equal(wh_resolve(f, 5, &disposed), 0);
	wh_res res = wh_await(limited);
	assert_int_equal(res.n, 5);
	assert_ptr_equal(res.ptr, &disposed);
	assert_int_equal(wh_loop_run(loop), 0); /* its timer does not linger */
	assert_int_equal(wh_await(wh_deadline(wh_failed(loop, -EIO), 0)).n, -EIO);
	assert_int_equal(wh_await(wh_deadline(resolved(3), 0)).n, 3);
	assert_int_equal(wh_await(wh_deadline((wh_future){0}, 0)).n, -ESTALE);
}

/* What a worker or the kernel is at cannot be taken back: the future completes late, and then the memory is the caller's. */
static void a_deadline_does_not_hurry_a_disk(void **state)
{
	enum { LEN = 8 << 20 };
	char *bytes = malloc(LEN), *read_back = malloc(LEN);
	int fd = make_file("");
	assert_non_null(bytes);
	assert_non_null(read_back);
	for (int round = 0; round < 3; round++) {
		memset(bytes, 'a' + round, LEN);
		wh_future f = wh_pwrite_all(loop, fd, bytes, LEN, 0);
		assert_int_equal(wh_loop_turn(loop, 0), 0);
		int64_t n = wh_await(wh_deadline(f, wh_now(loop))).n;
		assert_true(n == LEN || n == -ETIMEDOUT);
		memset(bytes, 'z', LEN);
		int64_t len = wh_await(wh_pread_all(loop, fd, read_back, LEN, 0)).n;
		assert_true(n < 0 || len == LEN);
		for (int64_t i = 0; i < len; i++)
			if (read_back[i] == 'z')
				fail_msg("byte %lld was written after the end", (long long)i);
	}
	free(bytes);
	free(read_back);
	close_fd(fd);
}

static void a_deadline_that_passes_is_a_time_out(void **state)
{
	int fds[2];
	char byte;
	make_pair(fds);
	int64_t at = wh_clock(loop) + 5 * WH_NS_PER_MS;
	assert_int_equal(wh_await(wh_deadline(wh_recv(loop, fds[0], &byte, 1), at)).n, -ETIMEDOUT);
	assert_true(wh_clock(loop) >= at);
	assert_int_equal(wh_await(wh_deadline(wh_promise(loop, NULL, NULL), 0)).n, -ETIMEDOUT);
	wh_future f = wh_deadline(wh_promise(loop, NULL, NULL), wh_clock(loop) + WH_NS_PER_S);
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -ECANCELED); /* not the deadline's doing */
	/* a receive after one that timed out works */
	assert_int_equal(write(fds[1], "y", 1), 1);
	assert_int_equal(wh_await(wh_recv(loop, fds[0], &byte, 1)).n, 1);
	close_fd(fds[0]);
	close_fd(fds[1]);
}

/* ---- timers ---- */

static void a_timer_is_never_early(void **state)
{
	const int64_t waits[] = {
		0, 1, 50000, 65536, 100000, 1000000, 999999, 1500000, 2000001, 10 * WH_NS_PER_MS, -5, 70000};
	for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
		int64_t begin = wh_clock(loop);
		assert_int_equal(wh_await(wh_sleep(loop, waits[i])).n, 0);
		assert_true(wh_clock(loop) - begin >= waits[i]);
		int64_t at = wh_clock(loop) + waits[i];
		assert_int_equal(wh_await(wh_sleep_until(loop, at)).n, 0);
		assert_true(wh_clock(loop) >= at);
	}
	assert_int_equal(wh_await(wh_sleep_until(loop, 0)).n, 0);
	assert_int_equal(wh_await(wh_sleep_until(loop, INT64_MIN)).n, 0);
	wh_future longest = wh_sleep(loop, INT64_MAX);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	assert_false(wh_done(longest));
	assert_int_equal(wh_drop(longest), 0);
}

enum { TIMERS = 10000 };
static int fired_count, early_count, out_of_order_count;
static int64_t last_at;

static void note_timer(wh_loop *l, wh_res res, void *arg)
{
	int64_t at = *(int64_t *)arg;
	fired_count++;
	if (wh_clock(l) < at)
		early_count++;
	if (at < last_at)
		out_of_order_count++;
	last_at = at;
}

static void ten_thousand_timers(void **state)
{
	static int64_t at[TIMERS];
	static wh_future fs[TIMERS];
	unsigned int seed = 12345;
	int64_t begin = wh_clock(loop);
	fired_count = early_count = out_of_order_count = 0;
	last_at = 0;
	for (int i = 0; i < TIMERS; i++) {
		at[i] = begin + rand_r(&seed) % (200 * WH_NS_PER_MS);
		fs[i] = wh_sleep_until(loop, at[i]);
		assert_int_equal(wh_then(fs[i], note_timer, &at[i]), 0);
	}
	for (int i = 0; i < TIMERS; i += 4) {
		wh_cancel(fs[i]);
		at[i] = 0;
	}
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(fired_count, TIMERS);
	assert_int_equal(early_count, 0);
	assert_int_equal(out_of_order_count, 0);
}

static void a_turn_waits_as_long_as_it_is_told(void **state)
{
	wh_future f = wh_promise(loop, NULL, NULL);
	int64_t begin = wh_clock(loop);
	assert_int_equal(wh_loop_turn(loop, 3 * WH_NS_PER_MS), 0);
	assert_true(wh_clock(loop) - begin >= 3 * WH_NS_PER_MS);
	begin = wh_clock(loop);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	assert_true(wh_clock(loop) - begin < WH_NS_PER_S);
	assert_int_equal(wh_drop(f), 0);
}

/* ---- marks ---- */

static void a_mark_tells_whoever_waits(void **state)
{
	wh_mark *mark;
	assert_int_equal(wh_mark_open(loop, &mark, 10), 0);
	assert_int_equal(wh_mark_read(mark), 10);
	wh_future reached = wh_mark_wait(mark, 10), low = wh_mark_wait(mark, 11),
		  high = wh_mark_wait(mark, 100), middle = wh_mark_wait(mark, 50),
		  cancelled = wh_mark_wait(mark, 12);
	assert_true(wh_done(reached));
	assert_int_equal(wh_await(reached).n, 0);
	assert_int_equal(wh_drop(cancelled), 0);
	wh_mark_raise(mark, 50);
	wh_mark_raise(mark, 40); /* ignored */
	assert_int_equal(wh_mark_read(mark), 50);
	assert_true(wh_done(low) && wh_done(middle));
	assert_false(wh_done(high));
	assert_int_equal(wh_await(low).n, 0);
	assert_int_equal(wh_await(middle).n, 0);
	wh_mark_fail(mark, -EIO);
	assert_int_equal(wh_await(high).n, -EIO);
	assert_int_equal(wh_await(wh_mark_wait(mark, 1)).n, -EIO);
	assert_null(wh_mark_close(mark));
	assert_null(wh_mark_close(NULL));
	assert_int_equal(wh_mark_open(loop, &mark, 0), 0);
	wh_future never = wh_mark_wait(mark, 1);
	wh_mark_close(mark);
	assert_int_equal(wh_await(never).n, -ECANCELED);
}

static void waits_of_a_mark_end_in_the_order_of_their_values(void **state)
{
	enum { WAITS = 1000 };
	wh_mark *mark;
	unsigned int seed = 99;
	static wh_future fs[WAITS];
	static uint64_t values[WAITS];
	assert_int_equal(wh_mark_open(loop, &mark, 0), 0);
	for (int i = 0; i < WAITS; i++) {
		values[i] = 1 + (uint64_t)rand_r(&seed) % 500;
		fs[i] = wh_mark_wait(mark, values[i]);
	}
	for (int i = 0; i < WAITS; i += 5)
		wh_cancel(fs[i]);
	for (uint64_t value = 0; value <= 500; value += 25) {
		wh_mark_raise(mark, value);
		for (int i = 0; i < WAITS; i++)
			assert_int_equal(wh_done(fs[i]), i % 5 == 0 || values[i] <= value);
	}
	for (int i = 0; i < WAITS; i++)
		assert_int_equal(wh_await(fs[i]).n, i % 5 == 0 ? -ECANCELED : 0);
	wh_mark_close(mark);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(all_keeps_results),
		ON_LOOP(all_cancels_the_rest_at_the_first_error),
		ON_LOOP(all_settled_cancels_nothing),
		ON_LOOP(any_takes_the_first_success),
		ON_LOOP(empty_and_wrong_inputs),
		ON_LOOP(results_without_a_taker_are_disposed_of),
		ON_LOOP(combinations_cancel_and_nest),
		ON_LOOP(what_borrows_cannot_be_dropped),
		ON_LOOP(a_race_on_one_descriptor),
		ON_LOOP(a_deadline_gives_the_true_result_in_time),
		ON_LOOP(a_deadline_does_not_hurry_a_disk),
		ON_LOOP(a_deadline_that_passes_is_a_time_out),
		ON_LOOP(a_timer_is_never_early),
		ON_LOOP(ten_thousand_timers),
		ON_LOOP(a_turn_waits_as_long_as_it_is_told),
		ON_LOOP(a_mark_tells_whoever_waits),
		ON_LOOP(waits_of_a_mark_end_in_the_order_of_their_values),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
