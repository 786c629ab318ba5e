/* tests/sim/test_sim_store_faults.c -- a disk call that fails stops the store, and everybody is told.
 *
 * Every disk call of a short life fails in turn, once and for ever after. Either the store does not open, or it goes on
 * unharmed (calls that may fail), or it fails: then every future, old and new, ends with an error, on_failure has been
 * called once, and a start on the same disk finds what was acknowledged.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/store.h"
#include "whilst/sim.h"

enum { JOBS = 12 };

static int told;
static char context[100];
static uint64_t failures, unharmed, unopened, refused;
static bool in_files; /* all bodies are */

#define CHECK(condition)                                         \
	do {                                                     \
		if (!(condition))                                \
			fail_msg("%s: %s", context, #condition); \
	} while (0)

static void on_failure(int64_t error, const char *message, void *arg)
{
	(void)arg;
	CHECK(error < 0 && message[0] != 0);
	told++;
}

static wh_loop *open_loop(wh_sim *sim)
{
	wh_loop *loop = NULL;

	CHECK(wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}) == 0);
	return loop;
}

static int open_store(wh_loop *loop, struct store **ret)
{
	struct store_options options = {.directory = "data",
	                                .recent_bytes = 4096,
	                                .segment_bytes = 128 << 10,
	                                .blob_bytes = in_files ? 6 : 0,
	                                .on_failure = on_failure};

	return store_open(loop, &options, ret, NULL);
}

/* A life with futures of every kind. acked[]: ids that were acknowledged. */
static size_t live(wh_loop *loop, struct store *store, uint64_t *acked)
{
	struct store_slice name = STORE_SLICE("nothing");
	struct store_reserve reserve = {.queues = &name, .queues_count = 1, .wait = true};
	struct store_submit submit = {.queue = STORE_SLICE("q"), .payload = STORE_SLICE("payload")};
	wh_future parked = store_reserve(store, &reserve), waiting = wh_failed(loop, -1), submitted[JOBS];
	size_t count = 0;

	for (int i = 0; i < JOBS; i++) {
		submitted[i] = store_submit(store, &submit, i % 3 ? STORE_LOCAL : STORE_ASYNC);
		if (i % 4 != 0)
			continue;
		(void)wh_loop_turn(loop, 0);
		if (i == 4) {
			(void)wh_drop(waiting);
			waiting = store_wait(store, 1, STORE_WAIT_FINISHED, 0, STORE_LOCAL);
		}
	}
	for (int i = 0; i < JOBS; i++) {
		wh_res res = wh_await(submitted[i]);
		struct store_commit *commit = res.ptr;

		CHECK(res.n == 0 || told > 0 || in_files); /* a file that fails is not the store's end */
		refused += res.n < 0 && told == 0;
		if (res.n == 0 && commit->error == 0 && commit->level == STORE_LOCAL)
			acked[count++] = commit->results[0].job;
		if (res.n == 0)
			store_commit_free(commit);
	}
	if (told > 0) {
		CHECK(told == 1);
		CHECK(wh_await(parked).n < 0);
		CHECK(wh_await(waiting).n < 0);
		CHECK(wh_await(store_submit(store, &submit, STORE_LOCAL)).n < 0);
		CHECK(wh_await(store_reserve(store, &reserve)).n < 0);
		failures++;
	} else {
		(void)wh_drop(parked);
		(void)wh_drop(waiting);
		unharmed++;
	}
	return count;
}

static void check_body(struct store *store, struct store_bytes *bytes)
{
	struct store_reader *reader;
	wh_res res;

	CHECK((bytes->blob.number != 0) == in_files);
	if (!in_files)
		return;
	CHECK(store_reader_open(store, bytes, &reader) == 0);
	CHECK(wh_await(store_reader_check(reader)).n == 7);
	res = wh_await(store_reader_next(reader));
	CHECK(res.n == 7 && memcmp(res.ptr, "payload", 7) == 0);
	store_reader_free(reader);
}

/* What failed has left no file behind. */
static void check_files(wh_loop *loop, struct store *store)
{
	wh_res res = wh_await(wh_list(loop, "data/blobs"));
	struct store_stats stats;

	store_stats(store, &stats);
	CHECK(res.n == (int64_t)stats.blobs);
	wh_names_free(res.ptr);
}

static bool run(uint64_t fail_at, int error, bool for_ever, uint64_t *ret_calls)
{
	struct wh_sim_options options = {
		.seed = fail_at, .fail_at_io = fail_at, .fail_error = error, .fail_from_then_on = for_ever};
	struct store *store = NULL;
	uint64_t acked[JOBS];
	size_t count = 0;
	wh_sim *sim = NULL;
	wh_loop *loop;

	snprintf(context, sizeof(context), "call %llu fails with %d%s", (unsigned long long)fail_at, error,
	         for_ever ? " for ever" : "");
	told = 0;
	CHECK(wh_sim_open(&sim, &options) == 0);
	loop = open_loop(sim);
	if (open_store(loop, &store) == 0) {
		count = live(loop, store, acked);
		error = store_close(store);
		CHECK(error == 0 || fail_at > 0);
	} else {
		unopened++;
	}
	wh_loop_close(loop);
	*ret_calls = wh_sim_io_count(sim);
	wh_sim_power_cut(sim);
	CHECK(wh_sim_restart(sim, NULL, WH_SIM_RANDOM) == 0);
	told = 0;
	store = NULL;
	loop = open_loop(sim);
	CHECK(open_store(loop, &store) == 0);
	for (size_t i = 0; i < count; i++) {
		wh_res res = wh_await(store_payload(store, acked[i], STORE_LOCAL));

		CHECK(res.n == 7);
		check_body(store, res.ptr);
		store_bytes_unref(res.ptr);
	}
	check_files(loop, store);
	CHECK(store_recount(store) == 0);
	CHECK(store_close(store) == 0);
	wh_loop_close(loop);
	wh_sim_close(sim);
	return true;
}

static void fail_every_call(void)
{
	static const int errors[] = {EIO, ENOSPC};
	uint64_t calls, ignored;

	failures = unharmed = unopened = refused = 0;
	run(0, 0, false, &calls);
	CHECK(calls > 20);
	for (uint64_t k = 1; k <= calls; k++)
		for (int i = 0; i < 4; i++)
			run(k, errors[i % 2], i / 2, &ignored);
	print_message("%llu calls: %llu failures told, %llu lives unharmed, %llu stores not opened, %llu "
	              "changes refused\n",
	              (unsigned long long)calls, (unsigned long long)failures, (unsigned long long)unharmed,
	              (unsigned long long)unopened, (unsigned long long)refused);
	assert_true(failures > 10);
}

static void every_call_fails(void **state)
{
	(void)state;
	in_files = false;
	fail_every_call();
	assert_int_equal(refused, 0);
}

static void every_call_fails_with_bodies_in_files(void **state)
{
	(void)state;
	in_files = true;
	fail_every_call();
	assert_true(refused > 10);
}

struct progress {
	uint64_t calls, done, all, jobs;
};

static void on_progress(uint64_t done, uint64_t all, uint64_t jobs, void *arg)
{
	struct progress *p = arg;

	CHECK(done >= p->done && done <= all);
	*p = (struct progress){p->calls + 1, done, all, jobs};
}

/* A disk that takes seconds for a read: whoever waits is told how far the start has come, up to its end. */
static void a_slow_start_is_told_of(void **state)
{
	struct progress progress = {0};
	struct store_options options = {.directory = "data",
	                                .segment_bytes = 128 << 10,
	                                .on_progress = on_progress,
	                                .progress_arg = &progress};
	const struct wh_sim_fault late = {.kinds = WH_SIM_READS, .late_ns = 2 * WH_NS_PER_S};
	struct store *store;
	uint64_t acked[JOBS];
	wh_sim *sim;

	(void)state;
	in_files = false;
	CHECK(wh_sim_open(&sim, NULL) == 0);
	wh_loop *loop = open_loop(sim);
	CHECK(store_open(loop, &options, &store, NULL) == 0);
	CHECK(progress.calls == 0); /* a new folder has nothing to be read */
	live(loop, store, acked);
	CHECK(store_close(store) == 0);
	CHECK(wh_sim_add_fault(sim, &late) == 0);
	CHECK(store_open(loop, &options, &store, NULL) == 0);
	CHECK(progress.calls >= 3 && progress.done == progress.all && progress.jobs == JOBS);
	CHECK(store_close(store) == 0);
	wh_loop_close(loop);
	wh_sim_close(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(every_call_fails),
	                                   cmocka_unit_test(a_slow_start_is_told_of),
	                                   cmocka_unit_test(every_call_fails_with_bodies_in_files)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
