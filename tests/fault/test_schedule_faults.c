/* tests/fault/test_schedule_faults.c -- every allocation while a schedule runs fails once, on a simulated machine: each due time gets one job all the same, and nothing is
 * left of the memory. And every allocation while one is read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/units.h"
#include "front/front.h"
#include "schedule/schedule.h"
#include "store/store.h"
#include "whilst/sim.h"

#include "allocations.h"

enum { SECONDS = 4, ROUNDS_MAX = 5000, DUE_MAX = 100 };

static wh_sim *machine;
static wh_loop *loop;
static struct store *store;
static struct api *front;

/* ---- a schedule runs --------------------------------------------------------------------- */

static void put_schedule(void)
{
	struct store_action action = {.kind = STORE_SETTING_PUT};
	struct store_commit *commit;
	char value[256];
	long long now = wh_wall_now(loop);
	int len = snprintf(value, sizeof(value),
	                   "{\"every\":\"1s\",\"missed\":\"all\",\"job\":{\"queue\":\"q\",\"payload\":\"x\","
	                   "\"headers\":{\"X-A\":\"b\"}},"
	                   "\"since\":%lld,\"anchor\":%lld}",
	                   now, now);
	wh_res res;

	action.setting.key = STORE_SLICE("schedule/s");
	action.setting.value = (struct store_slice){value, (size_t)len};
	res = wh_await(store_apply(store, &action, 1, 0, STORE_LOCAL));
	commit = res.ptr;
	assert_true(res.n >= 0 && commit->error == 0);
	store_commit_free(commit);
}

static void open_world(void)
{
	struct store_options options = {.directory = "/data", .segment_bytes = 1 << 16};
	struct front_options front_options = {.payload_bytes_max = 1 << 20,
	                                      .wait_ns_max = 60 * WH_NS_PER_S,
	                                      .request_timeout_ns = 30 * WH_NS_PER_S,
	                                      .idle_timeout_ns = 60 * WH_NS_PER_S,
	                                      .connections_max = 100};
	struct store_problem problem;

	assert_int_equal(wh_sim_open(&machine, &(struct wh_sim_options){.seed = 1}), 0);
	assert_int_equal(wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = machine}), 0);
	assert_int_equal(store_open(loop, &options, &store, &problem), 0);
	put_schedule();
	assert_int_equal(front_open(loop, store, &front_options, &front), 0);
}

static void close_world(void)
{
	front_close(front);
	assert_int_equal(store_close(store), 0);
	loop = wh_loop_close(loop);
	front_free(front);
	machine = wh_sim_close(machine);
}

/* Whatever the test's own timer meets. */
static void pass(int64_t ns)
{
	int64_t until = wh_now(loop) + ns;

	while (wh_now(loop) < until)
		(void)wh_await(wh_sleep_until(loop, until));
}

static int order(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static size_t read_due(int64_t due[DUE_MAX])
{
	static const char field[] = "Whilst-Due: ";
	uint32_t cursor = 0;
	size_t count = 0;
	uint64_t id;

	while ((id = store_next_in(store, STORE_SLICE("q"), JOB_READY, &cursor)) != 0 && count < DUE_MAX) {
		wh_res res = wh_await(store_payload(store, id, STORE_LOCAL));
		struct store_bytes *bytes = res.ptr;
		const char *at;

		assert_true(res.n >= 0);
		at = memmem(bytes->headers.data, bytes->headers.len, field, sizeof(field) - 1);
		assert_non_null(at);
		assert_true(wh__parse_instant(at + sizeof(field) - 1, 24, &due[count++]));
		store_bytes_unref(bytes);
	}
	qsort(due, count, sizeof(due[0]), order);
	return count;
}

static void each_due_time_gets_one_job(void **state)
{
	int64_t due[DUE_MAX];
	long before;
	size_t count;
	int round = 0;

	(void)state;
	do {
		assert_true(++round < ROUNDS_MAX);
		before = live;
		open_world();
		hit = false;
		calls = 0;
		fail_at = round;
		if (front_schedules(front) != 0) { /* the server says so, and ends */
			assert_true(hit);
			assert_int_equal(front_schedules(front), 0);
		}
		pass(SECONDS * WH_NS_PER_S);
		fail_at = 0;
		pass(3 * WH_NS_PER_S); /* a refusal is tried again after a second */
		count = read_due(due);
		assert_in_range(count, SECONDS + 2, SECONDS + 3);
		for (size_t i = 1; i < count; i++) /* none is missing, none twice */
			assert_int_equal(due[i] - due[i - 1], WH_NS_PER_S);
		close_world();
		assert_int_equal(live, before);
	} while (hit);
	assert_true(round > 20);
}

/* ---- one is read ------------------------------------------------------------------------- */

static void each_allocation_of_reading(void **state)
{
	static const char text[] =
		"{\"cron\":\"0 3 * * *\",\"time_zone\":\"Europe/Berlin\",\"job\":{\"queue\":\"q\"}}";
	struct schedule_table table = {0};
	char detail[SCHEDULE_DETAIL_BYTES];
	struct schedule *s = NULL;
	long before = live;
	int round = 0;

	(void)state;
	do {
		enum schedule_wrong wrong;

		hit = false;
		calls = 0;
		fail_at = ++round;
		wrong = schedule_read((struct wh_slice){text, sizeof(text) - 1}, "s", 1, false, &s, detail);
		assert_int_equal(wrong, hit ? SCHEDULE_NO_MEMORY : SCHEDULE_GOOD);
		if (wrong == SCHEDULE_GOOD) {
			s->zone = zone_utc();
			assert_true(!s->zone || !hit);
			if (schedule_put(&table, s) < 0)
				schedule_free(s);
			schedule_clear(&table);
		}
		assert_int_equal(live, before);
	} while (hit);
	fail_at = 0;
	assert_true(round > 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_due_time_gets_one_job),
		cmocka_unit_test(each_allocation_of_reading),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
