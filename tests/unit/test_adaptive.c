/* tests/unit/test_adaptive.c -- how many jobs a target is given at once: found, kept, found again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "deliver/adaptive.h"

#define MS INT64_C(1000000)

/* A target that serves up to .bears at once within .latency, and is late or busy beyond. A round: as many as the limit, together. */
struct target {
	struct adaptive adaptive;
	uint32_t bears;
	int64_t latency, now;
	int refuses; /* beyond; else it is late */
};

static uint32_t rounds(struct target *t, int count)
{
	for (int i = 0; i < count; i++) {
		uint32_t limit = adaptive_limit(&t->adaptive);
		int64_t begun = t->now, took = t->latency;

		assert_true(limit >= 1 && limit <= t->adaptive.max);
		if (!t->refuses && limit > t->bears)
			took = t->latency * 10 * limit / t->bears;
		t->now += took;
		for (uint32_t k = 0; k < limit; k++)
			adaptive_told(&t->adaptive,
			              t->refuses && k >= t->bears ? ADAPTIVE_TOO_MUCH : ADAPTIVE_GOOD, begun,
			              t->now);
	}
	return adaptive_limit(&t->adaptive);
}

static void begins(void **state)
{
	struct adaptive a = {0};

	adaptive_bound(&a, 100);
	assert_int_equal(adaptive_limit(&a), 8);
	adaptive_bound(&a, 3);
	assert_int_equal(adaptive_limit(&a), 3);
	adaptive_bound(&a, 100); /* not higher at once */
	assert_int_equal(adaptive_limit(&a), 3);
}

static void rises_to_its_bound(void **state)
{
	struct target t = {.bears = UINT32_MAX, .latency = 10 * MS};

	adaptive_bound(&t.adaptive, 50);
	assert_in_range(rounds(&t, 10), 14, 20);
	assert_int_equal(rounds(&t, 100), 50);
}

static void settles_where_it_is_refused(void **state)
{
	struct target t = {.bears = 20, .latency = 10 * MS, .refuses = 1};
	uint32_t low = UINT32_MAX, high = 0;

	adaptive_bound(&t.adaptive, 1000);
	rounds(&t, 100);
	for (int i = 0; i < 100; i++) {
		uint32_t limit = rounds(&t, 1);
		low = limit < low ? limit : low;
		high = limit > high ? limit : high;
	}
	assert_in_range(low, 12, 20);
	assert_in_range(high, 18, 24);
	/* it bears more again */
	t.bears = 100;
	assert_in_range(rounds(&t, 200), 60, 110);
}

static void settles_where_it_is_late(void **state)
{
	struct target t = {.bears = 10, .latency = 30 * MS};

	adaptive_bound(&t.adaptive, 1000);
	for (int i = 0; i < 300; i++)
		assert_in_range(rounds(&t, 1), 3, 40);
}

/* Latencies that vary by themselves, and small ones that double, are no load. */
static void noise(void **state)
{
	struct target t = {.bears = UINT32_MAX, .latency = 1 * MS};

	adaptive_bound(&t.adaptive, 64);
	for (int i = 0; i < 400; i++) {
		t.latency = (1 + i * 7 % 20) * MS;
		rounds(&t, 1);
	}
	assert_int_equal(adaptive_limit(&t.adaptive), 64);
}

/* A target that has become slower for good is slow, not loaded: in time the limit rises again. */
static void slower_for_good(void **state)
{
	struct target t = {.bears = UINT32_MAX, .latency = 30 * MS};

	adaptive_bound(&t.adaptive, 16);
	assert_int_equal(rounds(&t, 50), 16);
	t.latency = 400 * MS;
	rounds(&t, 30);
	assert_int_equal(rounds(&t, 2000), 16);
}

static void one_fall_a_round(void **state)
{
	struct adaptive a = {0};

	adaptive_bound(&a, 100);
	for (int i = 0; i < 50; i++)
		adaptive_told(&a, ADAPTIVE_TOO_MUCH, 0, 10 + i);
	assert_int_equal(adaptive_limit(&a), 5);
	for (int i = 0; i < 100; i++)
		adaptive_told(&a, ADAPTIVE_TOO_MUCH, 1000 + i, 1000 + i);
	assert_int_equal(adaptive_limit(&a), 1);
	for (int i = 0; i < 100; i++)
		adaptive_told(&a, ADAPTIVE_NEITHER, 2000, 2010);
	assert_int_equal(adaptive_limit(&a), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(begins),
		cmocka_unit_test(rises_to_its_bound),
		cmocka_unit_test(settles_where_it_is_refused),
		cmocka_unit_test(settles_where_it_is_late),
		cmocka_unit_test(noise),
		cmocka_unit_test(slower_for_good),
		cmocka_unit_test(one_fall_a_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
