/* tests/fault/test_schedule_faults.c -- every allocation while a schedule runs fails once, on a simulated machine: each due time gets one job, or one event, all the same, and nothing is
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

static void put_setting(const char *key, const char *value)
{
	struct store_action action = {.kind = STORE_SETTING_PUT};
	struct store_commit *commit;
	wh_res res;

	action.setting.key = (struct store_slice){key, strlen(key)};
	action.setting.value = (struct store_slice){value, strlen(value)};
	res = wh_await(store_apply(store, &action, 1, 0, STORE_LOCAL));
	commit = res.ptr;
	assert_true(res.n >= 0 && commit->error == 0);
	store_commit_free(commit);
}

/* what: "job" or "publish" and its value. It has been due each second for so many seconds. */
static void put_schedule(const char *what, int64_t seconds)
{
	long long since = wh_wall_now(loop) - seconds * WH_NS_PER_S;
	char value[300];

	snprintf(value, sizeof(value),
	         "{\"every\":\"1s\",\"missed\":\"all\",%s,\"since\":%lld,\"anchor\":%lld}", what, since,
	         since);
	put_setting("schedule/s", value);
}

#define JOB   "\"job\":{\"queue\":\"q\",\"payload\":\"x\",\"headers\":{\"X-A\":\"b\"}}"
#define EVENT "\"publish\":{\"topic\":\"t\",\"payload\":\"x\",\"attributes\":{\"x\":\"y\",\"n\":7}}"

static void put_topic(int subscriptions)
{
	char key[40];

	put_setting("topic/t", "{\"retention\":\"1h\"}");
	for (int i = 0; i < subscriptions; i++) {
		snprintf(key, sizeof(key), "subscription/t:s%d", i);
		put_setting(key, "{\"queue\":\"q\"}");
	}
}

static void open_world(const char *what, int64_t seconds, int subscriptions, uint64_t segment_bytes)
{
	struct store_options options = {.directory = "/data", .segment_bytes = segment_bytes};
	struct front_options front_options = {.payload_bytes_max = 1 << 20,
	                                      .wait_ns_max = 60 * WH_NS_PER_S,
	                                      .request_timeout_ns = 30 * WH_NS_PER_S,
	                                      .idle_timeout_ns = 60 * WH_NS_PER_S,
	                                      .connections_max = 100};
	struct store_problem problem;

	assert_int_equal(wh_sim_open(&machine, &(struct wh_sim_options){.seed = 1}), 0);
	assert_int_equal(wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = machine}), 0);
	assert_int_equal(store_open(loop, &options, &store, &problem), 0);
	put_topic(subscriptions);
	put_schedule(what, seconds);
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

/* What the field says of the jobs of the queue, oldest first. */
static size_t read_due(const char *field, int64_t due[DUE_MAX])
{
	uint32_t cursor = 0;
	size_t count = 0;
	uint64_t id;

	while ((id = store_next_in(store, STORE_SLICE("q"), JOB_READY, &cursor)) != 0 && count < DUE_MAX) {
		wh_res res = wh_await(store_payload(store, id, STORE_LOCAL));
		struct store_bytes *bytes = res.ptr;
		const char *at;

		assert_true(res.n >= 0);
		at = memmem(bytes->headers.data, bytes->headers.len, field, strlen(field));
		assert_non_null(at);
		assert_true(wh__parse_instant(at + strlen(field), 24, &due[count++]));
		store_bytes_unref(bytes);
	}
	qsort(due, count, sizeof(due[0]), order);
	return count;
}

static void each_allocation(const char *what, const char *field, int subscriptions)
{
	int64_t due[DUE_MAX];
	long before;
	size_t count;
	int round = 0;

	do {
		assert_true(++round < ROUNDS_MAX);
		before = live;
		open_world(what, 0, subscriptions, 1 << 16);
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
		count = read_due(field, due);
		assert_in_range(count, SECONDS + 2, SECONDS + 3);
		for (size_t i = 1; i < count; i++) /* none is missing, none twice */
			assert_int_equal(due[i] - due[i - 1], WH_NS_PER_S);
		assert_int_equal(store_kept_count(store, STORE_SLICE("topic/t"), 0),
		                 subscriptions > 0 ? count : 0);
		close_world();
		assert_int_equal(live, before);
	} while (hit);
	assert_true(round > 20);
}

static void each_due_time_gets_one_job(void **state)
{
	(void)state;
	each_allocation(JOB, "Whilst-Due: ", 0);
}

static void each_due_time_gets_one_event(void **state)
{
	(void)state;
	each_allocation(EVENT, "ce-time: ", 1);
}

/* ---- more than a commit has ----------------------------------------------------------------- */

/* 100 due times were missed, and each event becomes many jobs. */
static void many_events(int subscriptions, uint64_t segment_bytes)
{
	enum { EVENTS = 100 };
	struct store_queue_view view;
	uint64_t job, after = 0, events = 0;
	int64_t due = 0;

	fail_at = 0;
	open_world(EVENT, EVENTS, subscriptions, segment_bytes);
	assert_int_equal(front_schedules(front), 0);
	pass(WH_NS_PER_S / 2);
	while ((job = store_kept_next(store, STORE_SLICE("topic/t"), after)) != 0) {
		wh_res res = wh_await(store_payload(store, job, STORE_LOCAL));
		struct store_bytes *bytes = res.ptr;
		const char *at;
		int64_t last = due;

		assert_true(res.n >= 0);
		at = memmem(bytes->headers.data, bytes->headers.len, "ce-time: ", 9);
		assert_non_null(at);
		assert_true(wh__parse_instant(at + 9, 24, &due));
		assert_true(last == 0 || due - last == WH_NS_PER_S);
		store_bytes_unref(bytes);
		after = job;
		events++;
	}
	assert_int_equal(events, EVENTS);
	assert_int_equal(store_queue_now(store, STORE_SLICE("q"), &view), 0);
	assert_int_equal(view.jobs[JOB_READY], EVENTS * subscriptions);
	close_world();
}

static void more_actions_than_a_commit_has(void **state)
{
	(void)state;
	many_events(150, 16 << 20);
}

static void more_bytes_than_a_commit_has(void **state)
{
	(void)state;
	many_events(40, 1 << 16);
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
		cmocka_unit_test(each_due_time_gets_one_event),
		cmocka_unit_test(more_actions_than_a_commit_has),
		cmocka_unit_test(more_bytes_than_a_commit_has),
		cmocka_unit_test(each_allocation_of_reading),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
