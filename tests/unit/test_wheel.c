/* tests/unit/test_wheel.c -- the timer wheel against a plain list, with random operations.
 *
 * What must hold: no timer fires early; every due one fires in the advance that makes it due; order is that of the
 * instants; the wait is never later than the nearest timer, and following it reaches every timer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/wheel.h"

enum { TIMERS = 300, TICK_NS = 1 << 16 };

static struct wh__wheel wheel;
static struct wh__op timers[TIMERS];
static bool armed[TIMERS];
static int64_t now, last_fired_at;
static int fired_count;
static uint64_t seed;

static uint64_t any(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static int64_t any_distance(void)
{
	/* all levels alike */
	int64_t most = INT64_C(1) << any(50);
	return (int64_t)any((uint64_t)most + 1) - (any(8) == 0 ? most / 2 : 0);
}

static void arm(uint64_t i, int64_t at)
{
	timers[i].at = at;
	wh__wheel_arm(&wheel, &timers[i]);
	armed[i] = true;
}

static void fire(struct wh__op *op)
{
	uint64_t i = (uint64_t)(op - timers);
	assert_true(i < TIMERS && armed[i]);
	assert_true(op->at <= now);
	assert_true(op->at >= last_fired_at);
	last_fired_at = op->at;
	armed[i] = false;
	fired_count++;
	/* firing may disarm what is due as well, and arm what is not */
	if (any(4) == 0) {
		uint64_t other = any(TIMERS);
		if (armed[other]) {
			wh__wheel_disarm(&wheel, &timers[other]);
			armed[other] = false;
		}
	}
}

static void advance(int64_t to)
{
	now = to;
	last_fired_at = INT64_MIN;
	wh__wheel_advance(&wheel, now, fire);
	for (int i = 0; i < TIMERS; i++)
		if (armed[i])
			assert_true(timers[i].at > now);
}

static void check_wait(void)
{
	int64_t nearest = INT64_MAX;
	uint32_t count = 0;
	for (int i = 0; i < TIMERS; i++)
		if (armed[i]) {
			count++;
			nearest = timers[i].at < nearest ? timers[i].at : nearest;
		}
	assert_int_equal(wheel.armed_count, count);
	int64_t wait = wh__wheel_wait(&wheel, now);
	if (count == 0)
		assert_int_equal(wait, -1);
	else
		assert_true(wait >= 0 && (nearest <= now ? wait == 0 : wait <= nearest - now));
}

static void random_operations(int64_t start, uint64_t run)
{
	seed = run * 7919 + 1;
	memset(armed, 0, sizeof armed);
	memset(timers, 0, sizeof timers);
	now = start;
	wh__wheel_init(&wheel, now);
	for (int step = 0; step < 3000; step++) {
		uint64_t i = any(TIMERS);
		switch (any(6)) {
		case 0:
		case 1:
		case 2:
			if (!armed[i])
				arm(i, now + any_distance());
			break;
		case 3:
			if (armed[i]) {
				wh__wheel_disarm(&wheel, &timers[i]);
				armed[i] = false;
			}
			break;
		case 4: {
			int64_t wait = wh__wheel_wait(&wheel, now);
			if (wait >= 0)
				advance(now + wait);
			break;
		}
		default:
			advance(now + (int64_t)any(INT64_C(1) << any(40)));
			break;
		}
		check_wait();
	}
}

static void agrees_with_a_list(void **state)
{
	const int64_t starts[] = {0, 1, TICK_NS - 1, INT64_C(1) << 40, INT64_C(123456789012345)};
	for (uint64_t run = 0; run < 100; run++)
		random_operations(starts[run % 5], run);
	assert_true(fired_count > 10000);
}

static int wakes_until_fired(int64_t distance)
{
	int wakes = 0;
	now = 1000000007;
	wh__wheel_init(&wheel, now);
	memset(armed, 0, sizeof armed);
	arm(0, now + distance);
	while (armed[0]) {
		int64_t wait = wh__wheel_wait(&wheel, now);
		assert_true(wait >= 0);
		advance(now + wait);
		wakes++;
		assert_true(wakes < 10);
	}
	assert_int_equal(now, timers[0].at);
	return wakes;
}

static void following_the_wait_reaches_a_timer_soon(void **state)
{
	seed = 3;
	for (int shift = 0; shift < 55; shift++)
		assert_true(wakes_until_fired((INT64_C(1) << shift) + 12345) <= WH__WHEEL_LEVELS);
}

static struct wh__op *next_in_order;

static void fire_in_order(struct wh__op *op)
{
	assert_ptr_equal(op, next_in_order);
	next_in_order++;
}

static void timers_of_one_instant_keep_their_order(void **state)
{
	/* far away, so that they move through levels together */
	int64_t at = INT64_C(300) * 1000 * 1000 * 1000;
	wh__wheel_init(&wheel, 0);
	for (uint64_t i = 0; i < TIMERS; i++)
		arm(i, at);
	next_in_order = timers;
	for (now = 0; now < at; now += at / 7)
		wh__wheel_advance(&wheel, now, fire_in_order);
	assert_ptr_equal(next_in_order, timers);
	wh__wheel_advance(&wheel, at, fire_in_order);
	assert_ptr_equal(next_in_order, timers + TIMERS);
	assert_int_equal(wheel.armed_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_a_list),
		cmocka_unit_test(following_the_wait_reaches_a_timer_soon),
		cmocka_unit_test(timers_of_one_instant_keep_their_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
