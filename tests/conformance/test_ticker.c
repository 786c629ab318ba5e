/* tests/conformance/test_ticker.c -- instants that come again and again, and timers that are moved. */
#include "tasks.h"

#define MS WH_NS_PER_MS

static void ticks_come_at_their_instants(void **state)
{
	wh_ticker ticker;
	int64_t first = monotonic() + 3 * MS, ticks = 0;
	assert_int_equal(wh_ticker_open(loop, &ticker, first, 2 * MS), 0);
	while (ticks < 10) {
		int64_t n = wh_await(wh_ticker_next(ticker)).n;
		assert_true(n >= 1);
		ticks += n;
		/* never early: the last of those taken has passed */
		assert_true(monotonic() >= first + (ticks - 1) * 2 * MS);
		if (on_sim())
			assert_int_equal(n, 1);
	}
	assert_int_equal(wh_ticker_close(ticker), 0);
}

static void ticks_that_were_missed_are_counted(void **state)
{
	wh_ticker ticker;
	int64_t first = monotonic() + 5 * MS, interval = 2 * MS, taken = 0;
	assert_int_equal(wh_ticker_open(loop, &ticker, first, interval), 0);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(wh_await(wh_sleep(loop, 9 * MS)).n, 0);
		int64_t before = monotonic();
		wh_future f = wh_ticker_next(ticker);
		assert_true(wh_done(f)); /* at once */
		int64_t n = wh_await(f).n, after = monotonic();
		taken += n;
		assert_true(n >= 3);
		/* all that had passed then, and no more: no drift */
		assert_true(taken >= (before - first) / interval + 1);
		assert_true(taken <= (after - first) / interval + 1);
	}
	/* the next is a multiple of the interval from the first, however late those before were taken */
	int64_t n = wh_await(wh_ticker_next(ticker)).n;
	assert_true(monotonic() >= first + (taken + n - 1) * interval);
	assert_int_equal(wh_ticker_close(ticker), 0);
}

struct ticked {
	wh_ticker ticker;
	int count;
	int64_t ticks;
};

static void on_tick(wh_loop *l, wh_res res, void *arg)
{
	struct ticked *ticked = arg;
	if (res.n < 0) {
		assert_int_equal(res.n, -ECANCELED);
		return;
	}
	ticked->count++;
	ticked->ticks += res.n;
	if (ticked->count < 5)
		assert_int_equal(wh_then(wh_ticker_next(ticked->ticker), on_tick, ticked), 0);
	else
		assert_int_equal(wh_ticker_close(ticked->ticker), 0);
}

static int64_t count_ticks(void *arg)
{
	struct ticked *ticked = arg;
	while (ticked->count < 5) {
		ticked->ticks += wh_await(wh_ticker_next(ticked->ticker)).n;
		ticked->count++;
	}
	return wh_ticker_close(ticked->ticker);
}

static void callbacks_and_tasks_tick(void **state)
{
	struct ticked a = {.count = 0}, b = {.count = 0};
	int64_t began = monotonic();
	assert_int_equal(wh_ticker_open(loop, &a.ticker, began + MS, MS), 0);
	assert_int_equal(wh_ticker_open(loop, &b.ticker, began + MS, 3 * MS), 0);
	assert_int_equal(wh_then(wh_ticker_next(a.ticker), on_tick, &a), 0);
	wh_future f = wh_go(loop, count_ticks, &b);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(wh_await(f).n, 0);
	assert_int_equal(a.count, 5);
	assert_true(monotonic() >= began + (b.ticks - 1) * 3 * MS);
}

static void a_ticker_is_set_anew(void **state)
{
	wh_ticker ticker;
	wh_res res;
	assert_int_equal(wh_ticker_open(loop, &ticker, 0, 0), 0); /* none come */
	wh_future f = wh_ticker_next(ticker);
	turn_once();
	assert_false(wh_poll(f, &res));
	int64_t began = monotonic();
	assert_int_equal(wh_ticker_set(ticker, began + 3600 * WH_NS_PER_S, MS), 0);
	assert_int_equal(wh_ticker_set(ticker, began + MS, 3600 * WH_NS_PER_S), 0); /* the wait goes on */
	assert_int_equal(wh_await(f).n, 1);
	assert_true(monotonic() >= began + MS);
	f = wh_ticker_next(ticker);
	assert_int_equal(wh_ticker_set(ticker, 0, 0), 0);
	assert_int_equal(wh_await(wh_sleep(loop, 2 * MS)).n, 0);
	assert_false(wh_done(f));
	/* from long ago: all of them have passed */
	assert_int_equal(wh_ticker_set(ticker, 0, 1), 0);
	assert_true(wh_await(f).n > 1000);
	/* and the end of time does not come round again */
	assert_int_equal(wh_ticker_set(ticker, INT64_MAX - 5, INT64_MAX), 0);
	f = wh_ticker_next(ticker);
	turn_once();
	assert_false(wh_done(f));
	assert_int_equal(wh_await(wh_ticker_next(ticker)).n, -EBUSY);
	assert_int_equal(wh_ticker_set(ticker, -1, 1), -EINVAL);
	assert_int_equal(wh_ticker_set(ticker, 1, -1), -EINVAL);
	assert_int_equal(wh_ticker_close(ticker), 0);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	assert_int_equal(wh_ticker_close(ticker), -ESTALE);
	assert_int_equal(wh_ticker_set(ticker, 1, 1), -ESTALE);
	assert_int_equal(wh_await(wh_ticker_next(ticker)).n, -ESTALE);
	assert_int_equal(wh_ticker_open(loop, &ticker, -1, 1), -EINVAL);
}

static void a_wait_is_cancelled_dropped_or_limited(void **state)
{
	wh_ticker ticker;
	int64_t first = monotonic() + 200 * MS; /* this thread may be kept waiting until it cancels */
	assert_int_equal(wh_ticker_open(loop, &ticker, first, MS), 0);
	wh_future f = wh_ticker_next(ticker);
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	assert_int_equal(wh_drop(wh_ticker_next(ticker)), 0);
	/* no tick was lost by that */
	int64_t n = wh_await(wh_ticker_next(ticker)).n, now = monotonic();
	assert_true(n >= 1 && n <= (now - first) / MS + 1);
	assert_int_equal(wh_ticker_set(ticker, now + 3600 * WH_NS_PER_S, MS), 0);
	assert_int_equal(wh_await(wh_deadline(wh_ticker_next(ticker), monotonic() + MS)).n, -ETIMEDOUT);
	f = wh_ticker_next(ticker);
	/* left open, and waited for */
	struct seen seen = {0};
	assert_int_equal(wh_then(f, note, &seen), 0);
	loop = wh_loop_close(loop);
	assert_int_equal(seen.last.n, -ECANCELED);
	assert_int_equal(wh_ticker_close(ticker), -ESTALE);
}

static void timers_are_moved(void **state)
{
	int64_t began = monotonic();
	struct seen seen = {0};
	wh_future f = wh_sleep(loop, 3600 * WH_NS_PER_S);
	assert_int_equal(wh_rearm(f, began + 2 * MS), 0);
	assert_int_equal(wh_await(f).n, 0);
	assert_true(monotonic() >= began + 2 * MS);
	assert_int_equal(wh_rearm(f, 0), -ESTALE);
	/* also one that has its callback; again and again, as a time-out of an idle connection */
	f = wh_sleep(loop, 3600 * WH_NS_PER_S);
	assert_int_equal(wh_then(f, note, &seen), 0);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(wh_rearm(f, began + 3600 * WH_NS_PER_S + i * MS), 0);
	turn_once();
	assert_int_equal(seen.count, 0);
	assert_int_equal(wh_rearm(f, 0), 0); /* the past: the next turn */
	run_until(&seen.count, 1);
	assert_int_equal(seen.last.n, 0);
	/* a deadline */
	f = wh_deadline(wh_promise(loop, NULL, NULL), monotonic() + 3600 * WH_NS_PER_S);
	assert_int_equal(wh_rearm(f, monotonic() + MS), 0);
	assert_int_equal(wh_await(f).n, -ETIMEDOUT);
	wh_future promise = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_rearm(promise, 0), -EINVAL);
	f = wh_sleep(loop, 0);
	while (!wh_done(f))
		turn_once();
	assert_int_equal(wh_rearm(f, 0), -EALREADY);
	assert_int_equal(wh_rearm((wh_future){0}, 0), -ESTALE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_TASKS_LOOP(ticks_come_at_their_instants),
		ON_TASKS_LOOP(ticks_that_were_missed_are_counted),
		ON_TASKS_LOOP(callbacks_and_tasks_tick),
		ON_TASKS_LOOP(a_ticker_is_set_anew),
		ON_TASKS_LOOP(a_wait_is_cancelled_dropped_or_limited),
		ON_TASKS_LOOP(timers_are_moved),
	};
	need_tasks_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
