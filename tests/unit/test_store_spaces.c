/* tests/unit/test_store_spaces.c -- namespaces that may hold so many jobs and queues: what counts, what is refused, what comes in any case. */
#include "store_support.h"

static void limit(struct bench *b, const char *name, uint64_t jobs_max, uint64_t queues_max)
{
	const struct job_space_limit limits[] = {{text(name), jobs_max, queues_max}};

	assert_int_equal(store_limit_spaces(b->store, limits, 1), 0);
}

static void holds(struct bench *b, const char *name, uint64_t unfinished, uint64_t queues)
{
	struct store_space space = store_space(b->store, text(name));

	assert_int_equal(space.unfinished, unfinished);
	assert_int_equal(space.queues, queues);
	assert_int_equal(store_recount(b->store), 0);
}

static void jobs_in_all_queues(void **state)
{
	struct bench *b = *state;
	uint64_t delayed;
	struct store_leased job;
	struct store_action wait = submission("acme:b", "later");

	limit(b, "acme", 3, 0);
	submit(b, "acme:a", "1");
	wait.submit.delay_ns = INT64_C(3600000000000);
	assert_int_equal(try(b, wait), 0);
	submit(b, "acme:c", "3");
	holds(b, "acme", 3, 3);
	assert_int_equal(try(b, submission("acme:a", "4")), -JOB_ENAMESPACE_FULL);
	assert_int_equal(try(b, submission("acme:new", "4")), -JOB_ENAMESPACE_FULL);
	/* others have nothing to do with it, however alike they are called */
	submit(b, "a", "x");
	submit(b, "acm:a", "x");
	submit(b, "acmee:a", "x");
	submit(b, "acme", "x");
	holds(b, "acm", 1, 1);
	/* running is unfinished, done is not */
	job = reserve_one(b, "acme:a");
	assert_int_equal(try(b, submission("acme:a", "4")), -JOB_ENAMESPACE_FULL);
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, job)), 0);
	holds(b, "acme", 2, 3);
	delayed = submit(b, "acme:b", "4");
	assert_int_equal(try(b, submission("acme:a", "5")), -JOB_ENAMESPACE_FULL);
	/* over a restart it is counted, and the limit is to be said again */
	close_and_reopen(b);
	holds(b, "acme", 3, 3);
	submit(b, "acme:a", "5");
	limit(b, "acme", 3, 0);
	holds(b, "acme", 4, 3);
	assert_int_equal(try(b, submission("acme:a", "6")), -JOB_ENAMESPACE_FULL);
	assert_int_equal(try(b, (struct store_action){.kind = STORE_CANCEL, .job = delayed}), 0);
	assert_int_equal(try(b, submission("acme:a", "6")), -JOB_ENAMESPACE_FULL);
	limit(b, "acme", 4, 0);
	submit(b, "acme:a", "6");
	limit(b, "other", 1, 1);
	submit(b, "acme:a", "7");
	assert_int_equal(store_space(b->store, text("acme")).jobs_max, 0);
	holds(b, "other", 0, 0);
}

static void all_or_none(void **state)
{
	struct bench *b = *state;
	struct store_action many[4];
	const struct store_slice payloads[3] = {text("1"), text("2"), text("3")};
	struct store_submit options = submission("acme:a", "").submit;
	struct store_commit *commit;
	wh_res res;

	for (size_t i = 0; i < 4; i++)
		many[i] = submission(i % 2 ? "acme:a" : "acme:b", "x");
	limit(b, "acme", 3, 0);
	res = wh_await(store_apply(b->store, many, 4, 0, STORE_LOCAL));
	assert_int_equal(res.n, 0);
	commit = res.ptr;
	assert_int_equal(commit->error, -JOB_ENAMESPACE_FULL);
	assert_int_equal(commit->failed, 3);
	store_commit_free(commit);
	holds(b, "acme", 0, 0);
	res = wh_await(store_apply(b->store, many, 2, 0, STORE_LOCAL));
	store_commit_free(res.ptr);
	holds(b, "acme", 2, 2);
	for (size_t count = 2; count > 0; count--) {
		res = wh_await(store_submit_many(b->store, &options, payloads, count, STORE_LOCAL));
		commit = res.ptr;
		assert_int_equal(commit->error, count == 2 ? -JOB_ENAMESPACE_FULL : 0);
		store_commit_free(commit);
	}
	holds(b, "acme", 3, 2);
}

static void queues(void **state)
{
	struct bench *b = *state;
	struct store_action put = {.kind = STORE_QUEUE_PUT, .queue = {.name = text("acme:b")}},
			    gone = {.kind = STORE_QUEUE_DELETE, .queue = {.name = text("acme:a")}};

	limit(b, "acme", 0, 2);
	submit(b, "acme:a", "1");
	assert_int_equal(try(b, put), 0);
	assert_int_equal(try(b, put), 0);
	put.queue.name = text("acme:c");
	assert_int_equal(try(b, put), -JOB_ENAMESPACE_FULL);
	assert_int_equal(try(b, submission("acme:c", "1")), -JOB_ENAMESPACE_FULL);
	put.queue.name = text("bolt:c");
	assert_int_equal(try(b, put), 0);
	submit(b, "acme:b", "2");
	holds(b, "acme", 2, 2);
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, reserve_one(b, "acme:a"))), 0);
	/* gone, though its finished job can be asked for still */
	assert_int_equal(try(b, gone), 0);
	holds(b, "acme", 1, 1);
	submit(b, "acme:c", "3");
	assert_int_equal(try(b, submission("acme:a", "1")), -JOB_ENAMESPACE_FULL);
	close_and_reopen(b);
	holds(b, "acme", 2, 2);
	limit(b, "acme", 0, 2);
	assert_int_equal(try(b, submission("acme:a", "1")), -JOB_ENAMESPACE_FULL);
}

/* What is there already comes back and goes elsewhere as ever. */
static void what_comes_in_any_case(void **state)
{
	struct bench *b = *state;
	struct store_action put = {.kind = STORE_QUEUE_PUT,
	                           .queue = {.name = text("acme:a"),
	                                     .config = {.attempts_max = 1},
	                                     .dead_letter = text("acme:dead")}};
	struct store_many move = {.kind = STORE_MOVE, .queue = text("bolt:b"), .to = text("acme:a")};
	struct store_commit *commit;
	wh_res res;

	assert_int_equal(try(b, put), 0);
	limit(b, "acme", 1, 0);
	submit(b, "acme:a", "1");
	assert_int_equal(try(b, with_lease(STORE_FAIL, reserve_one(b, "acme:a"))), 0);
	holds(b, "acme", 1, 2);
	submit(b, "bolt:b", "2");
	res = wh_await(store_do_many(b->store, &move));
	assert_int_equal(res.n, 0);
	commit = res.ptr;
	assert_int_equal(commit->results[0].count, 1);
	store_commit_free(commit);
	holds(b, "acme", 2, 2);
	holds(b, "bolt", 0, 1);
	assert_int_equal(try(b, submission("acme:a", "3")), -JOB_ENAMESPACE_FULL);
}

/* What a start knows from a checkpoint counts as well. */
static void over_a_checkpoint(void **state)
{
	static char large[8 << 10];
	struct bench *b = *state;
	struct store_stats stats = {0};

	b->options.segment_bytes = 1 << 20;
	b->options.checkpoint_bytes = 1 << 20;
	close_and_reopen(b);
	for (int i = 0; i < 3; i++)
		submit(b, i % 2 ? "acme:a" : "acme:b", "1");
	assert_int_equal(reserve_one(b, "acme:a").job, 2);
	memset(large, 'x', sizeof(large) - 1);
	for (int i = 0; stats.checkpoints == 0; i++) {
		assert_true(i < 10000);
		submit(b, "bolt:b", large);
		store_stats(b->store, &stats);
	}
	close_and_reopen(b);
	holds(b, "acme", 3, 2);
	limit(b, "acme", 3, 0);
	assert_int_equal(try(b, submission("acme:a", "4")), -JOB_ENAMESPACE_FULL);
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {ONE(jobs_in_all_queues), ONE(all_or_none), ONE(queues),
	                                   ONE(what_comes_in_any_case), ONE(over_a_checkpoint)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
