/* tests/sim/test_sim_flush.c -- who flushes, on a disk whose flushes are short or long.
 *
 * The commits are real ones of a log on a simulated machine; time is the machine's.
 */
#include "plan.h"

#include "log/log.h"

enum { TURNS = 40, COMMITS = 8, WINDOW_BYTES = 64 << 10 };

static wh_sim *sim;
static wh_loop *loop;
static struct log *opened;

static int replay(void *arg, const struct log_record *record)
{
	return 0;
}

static struct log_stats stats(void)
{
	struct log_stats now;
	log_stats(opened, &now);
	return now;
}

static struct log_commit commit_one(int level)
{
	const struct log_append append = {
		.type = LOG_TYPE_USER, .version = 1, .fixed = "12345678", .fixed_bytes = 8};
	assert_int_equal(log_begin(opened, log_record_bytes(8, 0), 0), 0);
	log_append(opened, &append);
	return log_commit(opened, level);
}

/* Within a minute of the machine's time, or what is mistaken would be waited for without an end. */
static void await_mark(wh_mark *mark, uint64_t lsn)
{
	int64_t n = wh_await(wh_deadline(wh_mark_wait(mark, lsn), wh_clock(loop) + 60 * WH_NS_PER_S)).n;
	if (n != 0)
		fail_msg("a commit has not come so far: %s", wh_strerror(n));
}

static void flushes_are_late(int64_t ns)
{
	const struct wh_sim_fault late = {.kinds = WH_SIM_FSYNCS, .late_ns = ns};
	wh_sim_clear_faults(sim);
	if (ns > 0)
		assert_int_equal(wh_sim_add_fault(sim, &late), 0);
}

/* Turns of several local commits each; how many of their flushes were inline. */
static uint64_t inline_percent(void)
{
	struct log_stats before = stats(), after;
	for (int turn = 0; turn < TURNS; turn++) {
		struct log_commit last;
		for (int i = 0; i < COMMITS; i++)
			last = commit_one(LOG_LOCAL);
		await_mark(last.mark, last.lsn);
	}
	after = stats();
	return 100 * (after.flushes_inline - before.flushes_inline) / (after.flushes - before.flushes);
}

/* Flushes that are not inline, so that the log sees how long they take now: calls of the loop's thread take no time here. */
static void learn(void)
{
	for (int i = 0; i < TURNS; i++) {
		struct log_commit commit = commit_one(LOG_ASYNC);
		await_mark(log_flushed(opened), commit.lsn);
	}
}

static void short_flushes_are_the_loops_own(void **state)
{
	flushes_are_late(0);
	learn();
	assert_in_range(inline_percent(), 80, 100); /* some flushes of this disk are held up */
	flushes_are_late(5 * WH_NS_PER_MS);
	learn();
	assert_int_equal(inline_percent(), 0);
	flushes_are_late(0);
	learn();
	assert_in_range(inline_percent(), 80, 100);
}

struct answer {
	uint64_t flushes; /* when it came */
	bool came;
};

static void on_answer(wh_loop *on, wh_res res, void *arg)
{
	struct answer *answer = arg;
	assert_int_equal(res.n, 0);
	answer->flushes = stats().flushes;
	answer->came = true;
}

static void asynchronous_answers_do_not_wait_for_it(void **state)
{
	struct answer answer = {0};
	struct log_stats before;
	struct log_commit async, local;
	flushes_are_late(0);
	learn();
	before = stats();
	async = commit_one(LOG_ASYNC);
	local = commit_one(LOG_LOCAL);
	assert_int_equal(wh_then(wh_mark_wait(async.mark, async.lsn), on_answer, &answer), 0);
	await_mark(local.mark, local.lsn);
	assert_true(answer.came);
	assert_int_equal(answer.flushes, before.flushes);
	assert_int_equal(stats().flushes_inline, before.flushes_inline + 1);
}

/* So many bytes that are not flushed end the window of asynchronous commits, however long it is. */
static void the_window_has_so_many_bytes(void **state)
{
	int64_t from = wh_clock(loop);
	struct log_commit commit;
	uint64_t first = 0;
	for (int i = 0; i < 3 * WINDOW_BYTES / 4096; i++) {
		commit = commit_one(LOG_ASYNC); /* a block of the log each */
		await_mark(commit.mark, commit.lsn);
		first = first ? first : commit.lsn;
		if (commit.lsn - first > WINDOW_BYTES)
			await_mark(log_flushed(opened), first);
	}
	assert_true(wh_mark_read(log_flushed(opened)) >= first);
	assert_true(wh_clock(loop) - from < 60 * WH_NS_PER_S);
}

static int set_up_with(struct log_options options)
{
	struct log_problem problem;
	options.path = "/data";
	options.segment_bytes = 1 << 20;
	options.replay = replay;
	plan = (struct plan){.seed = 1};
	sim = plan_machine();
	loop = plan_loop(sim);
	return log_open(loop, &options, &opened, &problem);
}

static int set_up(void **state)
{
	return set_up_with((struct log_options){0});
}

static int set_up_window(void **state)
{
	int64_t hour = 3600 * WH_NS_PER_S;
	return set_up_with((struct log_options){
		.async_window_ns = hour, .seal_ns = hour, .async_window_bytes = WINDOW_BYTES});
}

static int tear_down(void **state)
{
	int error = log_close(opened);
	loop = wh_loop_close(loop);
	sim = wh_sim_close(sim);
	return error;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(short_flushes_are_the_loops_own, set_up, tear_down),
		cmocka_unit_test_setup_teardown(asynchronous_answers_do_not_wait_for_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_window_has_so_many_bytes, set_up_window, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
