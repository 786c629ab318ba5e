/* tests/fault/test_store_memory.c -- the store while memory is short.
 *
 * The linker puts a function of this file before each that allocates. A short life of a store (jobs at both levels, delayed
 * ones, more bytes than the log has room for, reservations and waits that stand in line, leases that pass) is repeated: one
 * allocation fails, the first, the second, ... until none does; a stretch of them; every n-th; all of them for a time, with the
 * loop's slots used up. Then memory is there again and nothing more is asked of the store: every future that has something to
 * wait for must end by itself, nobody may wait beside a job that is ready, nothing may spin meanwhile, and a start finds what was
 * acknowledged.
 *
 * STORE_MEMORY_AT=n repeats one run of each.
 */
#include "../unit/store_support.h"

#include <limits.h>
#include <stdatomic.h>

/* ---- the functions in between -------------------------------------------------------------- */

/* Allocations from the fail_from-th on, until fail_end; of them each that fail_each divides. Those of other threads count too. */
static atomic_long calls;
static atomic_long fail_from, fail_end, fail_each = 1, failures;

static bool fails(void)
{
	long at;

	if (atomic_load(&fail_from) == 0)
		return false;
	at = atomic_fetch_add(&calls, 1) + 1;
	if (at < atomic_load(&fail_from) || at >= atomic_load(&fail_end) ||
	    (at - atomic_load(&fail_from)) % atomic_load(&fail_each) != 0)
		return false;
	atomic_fetch_add(&failures, 1);
	errno = ENOMEM;
	return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

static void begin_failing(long from, long end, long each)
{
	atomic_store(&calls, 0);
	atomic_store(&failures, 0);
	atomic_store(&fail_end, end);
	atomic_store(&fail_each, each);
	atomic_store(&fail_from, from);
}

static void end_failing(void)
{
	atomic_store(&fail_from, 0);
}

/* ---- a life -------------------------------------------------------------------------------- */

enum { SUBMITS = 24, WAITERS = 6, WAITS = 6, SETTLED_S = 10, LARGE = 24 << 10, SLOTS_PER_CHUNK = 1024 };

struct life {
	struct bench bench;
	wh_future submits[SUBMITS], waiters[WAITERS], waits[WAITS], held[2 * SLOTS_PER_CHUNK];
	bool ended[SUBMITS], served[WAITERS];
	uint64_t acked[SUBMITS];
	size_t acked_count, refused_count, held_count; /* refused: but for want of memory */
};

static char context[120];
static char payload[LARGE];

#define CHECK(condition)                                                             \
	do {                                                                         \
		if (!(condition)) {                                                  \
			end_failing();                                               \
			fail_msg("%s: %s (line %d)", context, #condition, __LINE__); \
		}                                                                    \
	} while (0)

static void open_life(struct life *life)
{
	struct bench *b = &life->bench;

	*life = (struct life){.bench = {.options = {.segment_bytes = 256 << 10,
	                                            .recent_bytes = 64 << 10,
	                                            .defaults = {.time_to_run_ns = 20 * WH_NS_PER_MS,
	                                                         .backoff_ns = WH_NS_PER_MS,
	                                                         .backoff_max_ns = WH_NS_PER_MS,
	                                                         .attempts_max = JOB_ATTEMPTS_UNLIMITED}}}};
	snprintf(b->directory, sizeof(b->directory), "/tmp/whilst-store-XXXXXX");
	CHECK(mkdtemp(b->directory) != NULL);
	CHECK(wh_loop_open(&b->loop, NULL) == 0);
	reopen(b);
}

static void close_life(struct life *life)
{
	char command[128];

	(void)!store_close(life->bench.store);
	wh_loop_close(life->bench.loop);
	snprintf(command, sizeof(command), "rm -rf %s", life->bench.directory);
	CHECK(system(command) == 0);
}

/* All slots of the loop are taken but for a few: the next ones must be allocated. */
static void use_up_slots(struct life *life, long but)
{
	long left = LONG_MAX;

	begin_failing(LONG_MAX, LONG_MAX, 1); /* counts only */
	while (left != but) {
		life->held[life->held_count++] = wh_promise(life->bench.loop, NULL, NULL);
		if (left == LONG_MAX && atomic_load(&calls) > 0)
			left = SLOTS_PER_CHUNK; /* this is the first of a new chunk */
		if (left != LONG_MAX)
			left--;
		CHECK(life->held_count < sizeof(life->held) / sizeof(life->held[0]));
	}
	end_failing();
}

static void ask(struct life *life)
{
	struct bench *b = &life->bench;
	struct store_slice lines[2] = {STORE_SLICE("plain"), STORE_SLICE("large")};
	struct store_reserve reserve = {.queues = lines, .queues_count = 2, .jobs_max = 2, .wait = true};

	for (size_t i = 0; i < WAITERS; i++) {
		reserve.queues_count = 1 + i % 2;
		life->waiters[i] = store_reserve(b->store, &reserve);
	}
	for (size_t i = 0; i < SUBMITS; i++) {
		struct store_submit submit = {.queue = lines[i % 3 == 0],
		                              .payload = {payload, i % 3 == 0 ? LARGE : 9},
		                              .priority = JOB_PRIORITY_DEFAULT,
		                              .delay_ns = i % 4 == 3 ? 10 * WH_NS_PER_MS : 0};

		life->submits[i] = store_submit(b->store, &submit, i % 2 ? STORE_LOCAL : STORE_ASYNC);
		if (i % 8 == 7)
			(void)!wh_loop_turn(b->loop, 0);
	}
	for (size_t i = 0; i < WAITS; i++)
		life->waits[i] = store_wait(b->store, 1 + i, STORE_WAIT_CHANGE, 0, STORE_LOCAL);
}

/* Take the answers that are there. A reservation's jobs are completed, which wakes the waits. */
static void take_answers(struct life *life)
{
	struct store *store = life->bench.store;
	wh_res res;

	for (size_t i = 0; i < SUBMITS; i++) {
		struct store_commit *commit;

		if (life->ended[i] || !wh_poll(life->submits[i], &res))
			continue;
		life->ended[i] = true;
		commit = res.n == 0 ? res.ptr : NULL;
		life->refused_count += res.n != -ENOMEM && (!commit || commit->error < 0);
		if (commit && commit->error == 0)
			life->acked[life->acked_count++] = commit->results[0].job;
		store_commit_free(commit);
	}
	for (size_t i = 0; i < WAITERS; i++) {
		struct store_lot *lot;

		if (life->served[i] || !wh_poll(life->waiters[i], &res))
			continue;
		life->served[i] = true;
		lot = res.n > 0 ? res.ptr : NULL;
		for (size_t k = 0; lot && k < lot->count; k++) {
			struct store_action done = with_lease(STORE_COMPLETE, lot->jobs[k]);

			(void)wh_detach(store_apply(store, &done, 1, 0, STORE_LOCAL));
		}
		store_lot_free(lot);
	}
}

/* Is everything at rest? A job that is ready and a reservation in its line are not. */
static bool settled(struct life *life)
{
	struct store *store = life->bench.store;
	struct store_slice lines[2] = {STORE_SLICE("plain"), STORE_SLICE("large")};

	for (size_t i = 0; i < SUBMITS; i++)
		if (!life->ended[i])
			return false;
	if (life->bench.failures > 0)
		return true;
	for (size_t i = 0; i < 2; i++) {
		struct store_queue_view view;

		if (store_queue_now(store, lines[i], &view) < 0)
			continue;
		if (view.jobs[JOB_DELAYED] > 0 || view.jobs[JOB_RUNNING] > 0 ||
		    (view.jobs[JOB_READY] > 0 && view.waiting > 0))
			return false;
	}
	return true;
}

/* Turn the loop until all is settled; nothing is asked of the store but completions of what it hands out. */
static void turn_until_settled(struct life *life)
{
	wh_loop *loop = life->bench.loop;
	int64_t until = wh_clock(loop) + SETTLED_S * WH_NS_PER_S;
	wh_future alarm = wh_sleep(loop, SETTLED_S * WH_NS_PER_S);

	while (!settled(life)) {
		CHECK(wh_loop_turn(loop, WH_NS_PER_S) >= 0);
		take_answers(life);
		CHECK(wh_clock(loop) < until);
	}
	(void)wh_drop(alarm);
}

static void end_waiting(struct life *life)
{
	for (size_t i = 0; i < WAITERS; i++)
		if (!life->served[i])
			(void)wh_drop(life->waiters[i]);
	for (size_t i = 0; i < WAITS; i++)
		(void)wh_drop(life->waits[i]);
	for (size_t i = 0; i < life->held_count; i++)
		(void)wh_drop(life->held[i]);
}

/* What was acknowledged is there, finished or not, and after a start too. */
static void check_kept(struct life *life)
{
	struct bench *b = &life->bench;

	end_waiting(life);
	if (b->failures == 0)
		CHECK(store_recount(b->store) == 0);
	CHECK(store_close(b->store) == 0 || b->failures > 0);
	reopen(b);
	for (size_t i = 0; i < life->acked_count; i++) {
		wh_res res = wh_await(store_payload(b->store, life->acked[i], STORE_LOCAL));

		CHECK(res.n == LARGE || res.n == 9);
		store_bytes_unref(res.ptr);
	}
	CHECK(store_recount(b->store) == 0);
}

/* One life in which allocations fail. Result: how many did. */
static long live(long from, long end, long each, long slots)
{
	static struct life life;
	long failed;

	open_life(&life);
	if (slots > 0)
		use_up_slots(&life, slots);
	begin_failing(from, end, each);
	ask(&life);
	for (int turns = 0; turns < 8; turns++) {
		CHECK(wh_loop_turn(life.bench.loop, WH_NS_PER_MS) >= 0);
		take_answers(&life);
	}
	end_failing();
	failed = atomic_load(&failures);
	turn_until_settled(&life);
	CHECK(end - from > 1 || life.bench.failures == 0); /* one failure alone never ends the store */
	check_kept(&life);
	close_life(&life);
	return failed;
}

static bool skipped(long n)
{
	const char *only = getenv("STORE_MEMORY_AT");

	return only && atol(only) != n;
}

static void test_each(void **state)
{
	long n, failed = 1;

	(void)state;
	for (n = 1; failed > 0; n++) {
		if (skipped(n))
			continue;
		snprintf(context, sizeof(context), "allocation %ld", n);
		failed = live(n, n + 1, 1, n % 12);
	}
	assert_true(n > 50); /* there are that many */
}

static void test_stretches(void **state)
{
	(void)state;
	for (long n = 1; n < 120; n += 3) {
		if (skipped(n))
			continue;
		snprintf(context, sizeof(context), "allocations %ld to %ld", n, n + 1 + n % 25);
		live(n, n + 2 + n % 25, 1, n % 7);
	}
}

static void test_every_nth(void **state)
{
	(void)state;
	for (long n = 2; n < 30; n++) {
		if (skipped(n))
			continue;
		snprintf(context, sizeof(context), "every allocation that %ld divides", n);
		live(n, LONG_MAX, n, n % 5);
	}
}

/* Jobs that await another one, more than a group has room for, and that one is cancelled: what becomes of them is written by the store. */
static void doom(struct life *life)
{
	enum { AWAITING = 6000, AT_ONCE = 500 };
	struct bench *b = &life->bench;
	static struct store_action after[AT_ONCE];
	uint64_t awaited = submit(b, "awaited", "a");
	struct store_action cancel = {.kind = STORE_CANCEL, .job = awaited};

	for (size_t i = 0; i < AT_ONCE; i++) {
		after[i] = submission("awaiting", "b");
		after[i].submit.after = (struct store_slice){&awaited, sizeof(awaited)};
	}
	for (size_t i = 0; i < AWAITING; i += AT_ONCE) {
		wh_res res = wh_await(store_apply(b->store, after, AT_ONCE, 0, STORE_ASYNC));

		CHECK(res.n == 0);
		store_commit_free(res.ptr);
	}
	(void)wh_detach(store_apply(b->store, &cancel, 1, 0, STORE_ASYNC));
}

/* No memory at all for a while, from the n-th turn after the questions on: what waits tries again now and then, and does not
 * spin. What was asked before comes
 * to its end. */
static void test_none_for_a_time(void **state)
{
	enum { MS = 60, TURNS_MAX = 500 };

	(void)state;
	for (long n = 1; n < 36; n++) {
		static struct life life;
		int turns = 0;
		int64_t until;

		if (skipped(n))
			continue;
		snprintf(context, sizeof(context), "no memory from turn %ld on", n / 6);
		open_life(&life);
		ask(&life);
		for (long i = 0; i < n / 6; i++)
			(void)!wh_loop_turn(life.bench.loop, 0);
		if (n % 6 == 1)
			doom(&life);
		use_up_slots(&life, n % 6);
		begin_failing(1, LONG_MAX, 1);
		until = wh_clock(life.bench.loop) + MS * WH_NS_PER_MS;
		for (; wh_clock(life.bench.loop) < until; turns++)
			CHECK(wh_loop_turn(life.bench.loop, WH_NS_PER_MS) >= 0);
		end_failing();
		CHECK(turns < TURNS_MAX);
		CHECK(life.bench.failures == 0);
		turn_until_settled(&life);
		CHECK(life.refused_count == 0);
		check_kept(&life);
		close_life(&life);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each),
		cmocka_unit_test(test_stretches),
		cmocka_unit_test(test_every_nth),
		cmocka_unit_test(test_none_for_a_time),
	};

	memset(payload, 'p', sizeof(payload));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
