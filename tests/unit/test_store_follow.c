/* tests/unit/test_store_follow.c -- following a queue: order, what is durable, resuming without a gap, and saying so when there is one. */
#include "store_support.h"

enum { KEPT = 16 };

static int set_up_small(void **state)
{
	int error = set_up(state);
	struct bench *b = *state;

	b->options.events_max = KEPT;
	close_and_reopen(b);
	return error;
}

static struct store_follow *follow(struct bench *b, const char *queue, const struct store_position *last,
                                   bool *reset)
{
	struct store_follow *f = NULL;

	assert_int_equal(store_follow(b->store, text(queue), last, STORE_DEFAULT, &f, reset), 0);
	assert_non_null(f);
	return f;
}

static struct store_follow *follow_now(struct bench *b, const char *queue)
{
	bool reset = true;
	struct store_follow *f = follow(b, queue, NULL, &reset);

	assert_false(reset);
	return f;
}

/* The next event, waited for. */
static struct store_event next(struct store_follow *f)
{
	struct store_event e = {0};
	int got;

	while ((got = store_follow_next(f, &e)) == 0)
		assert_int_equal(wh_await(store_follow_wait(f)).n, 0);
	assert_int_equal(got, 1);
	return e;
}

static void expect(struct store_follow *f, uint64_t job, int change, int state)
{
	struct store_event e = next(f);

	assert_int_equal(e.job, job);
	assert_int_equal(e.change, change);
	assert_int_equal(e.state, state);
}

static void nothing(struct store_follow *f)
{
	struct store_event e;

	assert_int_equal(store_follow_next(f, &e), 0);
}

static uint64_t put(struct bench *b, const char *queue)
{
	return submit_level(b, queue, "x", STORE_LOCAL);
}

static struct job_lease lease_one(struct bench *b, const char *queue, uint64_t job)
{
	struct store_slice name = text(queue);
	struct store_reserve reserve = {.queues = &name, .queues_count = 1, .level = STORE_LOCAL};
	wh_res res = wh_await(store_reserve(b->store, &reserve));
	struct store_lot *lot = res.ptr;
	struct job_lease lease;

	assert_int_equal(res.n, 1);
	assert_int_equal(lot->jobs[0].job, job);
	lease = lot->jobs[0].lease;
	store_lot_free(lot);
	return lease;
}

static void test_a_life(void **state)
{
	struct bench *b = *state;
	uint64_t before = put(b, "a"), job;
	struct store_follow *one = follow_now(b, "a"), *all = follow_now(b, "");
	struct job_lease lease;

	nothing(one);
	job = put(b, "a");
	expect(one, job, STORE_CHANGE_SUBMIT, JOB_READY);
	lease = lease_one(b, "a", before);
	expect(one, before, STORE_CHANGE_RESERVE, JOB_RUNNING);
	try(b, (struct store_action){
		       .kind = STORE_PROGRESS, .job = before, .lease = lease, .progress.bytes = text("1")});
	expect(one, before, STORE_CHANGE_PROGRESS, JOB_RUNNING);
	try(b, (struct store_action){.kind = STORE_EXTEND, .job = before, .lease = lease});
	try(b, (struct store_action){.kind = STORE_RELEASE, .job = before, .lease = lease});
	expect(one, before, STORE_CHANGE_RELEASE, JOB_READY);
	lease = lease_one(b, "a", before);
	expect(one, before, STORE_CHANGE_RESERVE, JOB_RUNNING);
	try(b,
	    (struct store_action){.kind = STORE_FAIL, .job = before, .lease = lease, .fail.delay_set = true});
	expect(one, before, STORE_CHANGE_RETRY, JOB_READY);
	lease = lease_one(b, "a", before);
	expect(one, before, STORE_CHANGE_RESERVE, JOB_RUNNING);
	try(b, (struct store_action){.kind = STORE_BURY, .job = before, .lease = lease});
	expect(one, before, STORE_CHANGE_BURY, JOB_BURIED);
	try(b, (struct store_action){.kind = STORE_KICK, .job = before});
	expect(one, before, STORE_CHANGE_KICK, JOB_READY);
	lease = lease_one(b, "a", before);
	expect(one, before, STORE_CHANGE_RESERVE, JOB_RUNNING);
	try(b, (struct store_action){.kind = STORE_COMPLETE, .job = before, .lease = lease});
	expect(one, before, STORE_CHANGE_FINISH, JOB_DONE);
	lease = lease_one(b, "a", job);
	expect(one, job, STORE_CHANGE_RESERVE, JOB_RUNNING);
	try(b, (struct store_action){.kind = STORE_CANCEL, .job = job});
	expect(one, job, STORE_CHANGE_CANCEL, JOB_RUNNING);
	try(b, (struct store_action){.kind = STORE_COMPLETE, .job = job, .lease = lease});
	expect(one, job, STORE_CHANGE_FINISH, JOB_CANCELLED);
	try(b, (struct store_action){.kind = STORE_DELETE, .job = job});
	expect(one, job, STORE_CHANGE_FORGET, JOB_NONE);
	try(b, (struct store_action){.kind = STORE_QUEUE_PAUSE, .queue.name = text("a")});
	assert_true(next(one).paused);
	try(b, (struct store_action){.kind = STORE_DELETE, .job = before});
	expect(one, before, STORE_CHANGE_FORGET, JOB_NONE);
	try(b, (struct store_action){.kind = STORE_QUEUE_DELETE, .queue.name = text("a")});
	expect(one, 0, STORE_CHANGE_QUEUE_GONE, JOB_NONE);
	nothing(one);
	/* who follows all of them saw the same, and is behind by more than is kept */
	assert_int_equal(store_follow_next(all, &(struct store_event){0}), -JOB_ELOST);
	nothing(all);
	store_follow_free(one);
	/* another queue of that name is another one */
	job = put(b, "a");
	expect(all, 0, STORE_CHANGE_QUEUE, JOB_NONE);
	expect(all, job, STORE_CHANGE_SUBMIT, JOB_READY);
	store_follow_free(all);
	assert_int_equal(store_recount(b->store), 0);
}

static void test_time(void **state)
{
	struct bench *b = *state;
	struct store_action action = submission("a", "x");
	uint64_t first = put(b, "a"), job;
	struct store_follow *f = follow_now(b, "a");
	struct store_position last;
	struct store_event e;
	bool reset;

	action.submit.delay_ns = 20 * WH_NS_PER_MS;
	assert_int_equal(try(b, action), 0);
	e = next(f);
	job = e.job;
	assert_true(job > first && e.state == JOB_DELAYED && e.run_at >= e.at && e.position.lsn > 0);
	last = e.position;
	e = next(f);
	assert_true(e.job == job && e.change == STORE_CHANGE_DUE && e.state == JOB_READY &&
	            e.position.lsn == 0);
	store_follow_free(f);
	/* no record says it: who resumes gets it again, and nothing else */
	f = follow(b, "a", &last, &reset);
	assert_false(reset);
	expect(f, job, STORE_CHANGE_DUE, JOB_READY);
	nothing(f);
	first = put(b, "a");
	expect(f, first, STORE_CHANGE_SUBMIT, JOB_READY);
	store_follow_free(f);
}

/* Who resumes at any event, and at the beginning, gets what came after it: of one queue and of all. */
static void test_resume(void **state)
{
	struct bench *b = *state;
	uint64_t jobs[KEPT / 2];
	bool reset;

	put(b, "a");
	put(b, "b");
	for (int all = 0; all < 2; all++) {
		const char *name = all ? "" : "a";
		struct store_follow *f = follow_now(b, name);
		struct store_position at[KEPT / 2 + 1];
		size_t count = KEPT / 4;

		at[0] = store_follow_position(f);
		for (size_t i = 0; i < count; i++) {
			jobs[i] = put(b, "a");
			if (!all)
				put(b, "b");
			at[i + 1] = next(f).position;
			assert_true(at[i + 1].lsn > at[i].lsn);
		}
		store_follow_free(f);
		for (size_t i = 0; i <= count; i++) {
			f = follow(b, name, &at[i], &reset);
			assert_false(reset);
			for (size_t j = i; j < count; j++)
				expect(f, jobs[j], STORE_CHANGE_SUBMIT, JOB_READY);
			nothing(f);
			store_follow_free(f);
		}
	}
}

/* A record that removes many jobs is many events, and each is a place to resume at. */
static void test_many_of_one_record(void **state)
{
	struct bench *b = *state;
	uint64_t jobs[3], wanted;
	struct store_position at[3];
	struct store_follow *f;
	bool reset;

	put(b, "b");
	for (int i = 0; i < 3; i++) {
		struct store_action action = submission("a", "x");
		struct store_commit *commit;

		action.submit.retention_ns = 30 * WH_NS_PER_MS;
		commit = apply(b, action, STORE_LOCAL);
		jobs[i] = commit->results[0].job;
		store_commit_free(commit);
	}
	f = follow_now(b, "a");
	try(b, (struct store_action){.kind = STORE_QUEUE_PURGE, .queue.name = text("a")});
	for (int i = 0; i < 3; i++)
		expect(f, jobs[i], STORE_CHANGE_FINISH, JOB_CANCELLED);
	for (int i = 0; i < 3; i++) {
		struct store_event e = next(f);

		assert_int_equal(e.change, STORE_CHANGE_FORGET);
		jobs[i] = e.job;
		at[i] = e.position;
	}
	store_follow_free(f);
	wanted = put(b, "a");
	for (int i = 0; i < 3; i++) {
		f = follow(b, "a", &at[i], &reset);
		assert_false(reset);
		for (int j = i + 1; j < 3; j++)
			expect(f, jobs[j], STORE_CHANGE_FORGET, JOB_NONE);
		expect(f, wanted, STORE_CHANGE_SUBMIT, JOB_READY);
		store_follow_free(f);
	}
}

static void test_gaps_are_told(void **state)
{
	struct bench *b = *state;
	struct store_position start, early, wrong, at;
	struct store_follow *f, *quiet, *slow;
	struct store_event e;
	uint64_t job;
	bool reset = false;

	put(b, "quiet");
	put(b, "a");
	f = follow_now(b, "a");
	start = store_follow_position(f);
	slow = follow_now(b, "a");
	quiet = follow_now(b, "quiet");
	job = put(b, "quiet");
	expect(quiet, job, STORE_CHANGE_SUBMIT, JOB_READY);
	early = store_follow_position(quiet);
	for (int i = 0; i < 2 * KEPT; i++) {
		job = put(b, "a");
		expect(f, job, STORE_CHANGE_SUBMIT, JOB_READY);
	}
	/* too slow, once; and what is new comes after it */
	assert_int_equal(store_follow_next(slow, &e), -JOB_ELOST);
	nothing(slow);
	job = put(b, "a");
	expect(slow, job, STORE_CHANGE_SUBMIT, JOB_READY);
	expect(f, job, STORE_CHANGE_SUBMIT, JOB_READY);
	store_follow_free(slow);
	slow = follow(b, "a", &start, &reset);
	assert_true(reset);
	nothing(slow);
	store_follow_free(slow);
	/* the other queue's events have pushed out those of the quiet one, but it has had none since */
	store_follow_free(quiet);
	quiet = follow(b, "quiet", &early, &reset);
	assert_false(reset);
	nothing(quiet);
	store_follow_free(quiet);
	/* positions that are none */
	wrong = (struct store_position){start.epoch + 1, 1};
	store_follow_free(follow(b, "a", &wrong, &reset));
	assert_true(reset);
	wrong = (struct store_position){start.epoch, UINT64_MAX};
	store_follow_free(follow(b, "a", &wrong, &reset));
	assert_true(reset);
	/* of another run: what has turned out of the ring is not known then either, and what has not is */
	at = store_follow_position(f);
	store_follow_free(f);
	job = put(b, "a");
	for (int i = 0; i < 3; i++) {
		close_and_reopen(b);
		store_follow_free(follow(b, "a", &start, &reset));
		assert_true(reset);
		quiet = follow(b, "quiet", &early, &reset);
		assert_false(reset);
		nothing(quiet);
		store_follow_free(quiet);
		f = follow(b, "a", &at, &reset);
		assert_false(reset);
		expect(f, job, STORE_CHANGE_SUBMIT, JOB_READY);
		nothing(f);
		store_follow_free(f);
	}
}

/* Of each kind of record one, and what time alone does. */
static void live(struct bench *b)
{
	uint64_t job = put(b, "a"), other = put(b, "a");
	struct job_lease lease = lease_one(b, "a", job);
	struct store_action late = {.kind = STORE_SUBMIT,
	                            .submit = {.queue = text("b"), .payload = text("x"), .delay_ns = 1}};

	try(b, (struct store_action){
		       .kind = STORE_PROGRESS, .job = job, .lease = lease, .progress.bytes = text("1")});
	try(b, (struct store_action){.kind = STORE_RELEASE, .job = job, .lease = lease});
	lease = lease_one(b, "a", job);
	try(b, (struct store_action){.kind = STORE_FAIL,
	                             .job = job,
	                             .lease = lease,
	                             .fail = {.delay_set = true, .delay_ns = 3600 * WH_NS_PER_S}});
	try(b, (struct store_action){.kind = STORE_KICK, .job = job});
	lease = lease_one(b, "a", job);
	try(b, (struct store_action){.kind = STORE_BURY, .job = job, .lease = lease});
	try(b, late);
	lease = lease_one(b, "a", other);
	try(b, (struct store_action){.kind = STORE_CANCEL, .job = other});
	try(b, (struct store_action){.kind = STORE_COMPLETE, .job = other, .lease = lease});
	try(b, (struct store_action){.kind = STORE_QUEUE_PAUSE, .queue.name = text("b")});
	try(b, (struct store_action){.kind = STORE_DELETE, .job = other});
}

/* Every event of one run is told by the next as it was, up to the time and the epoch. */
static void test_runs(void **state)
{
	struct bench *b = *state;
	struct store_event before[64], e;
	struct store_position start;
	struct store_follow *f;
	size_t count = 0;
	bool reset;

	put(b, "b");
	try(b, (struct store_action){.kind = STORE_QUEUE_PUT, .queue.name = text("a")});
	f = follow_now(b, "");
	start = store_follow_position(f);
	live(b);
	for (; store_follow_next(f, &before[count]) == 1; count++)
		assert_true(count < 63);
	assert_true(count > 8);
	store_follow_free(f);
	for (int run = 0; run < 3; run++) {
		close_and_reopen(b);
		f = follow(b, "", &start, &reset);
		assert_false(reset);
		for (size_t i = 0; i < count; i++) {
			if (before[i].position.lsn == 0) /* time alone */
				continue;
			assert_int_equal(store_follow_next(f, &e), 1);
			assert_true(e.job == before[i].job && e.change == before[i].change &&
			            e.state == before[i].state && e.attempts == before[i].attempts &&
			            e.run_at == before[i].run_at &&
			            e.position.epoch == before[i].position.epoch &&
			            e.position.lsn == before[i].position.lsn);
			assert_true(e.at > 0 && llabs(e.at - before[i].at) < 60 * WH_NS_PER_S);
		}
		while (store_follow_next(f, &e) == 1) /* time alone may do it again */
			assert_int_equal(e.change, STORE_CHANGE_DUE);
		store_follow_free(f);
	}
}

/* A start knows what came after the checkpoint; who was told nothing for long has been told how far the log has come. */
static void test_checkpoint(void **state)
{
	struct bench *b = *state;
	struct store_position early, late, quiet;
	struct store_follow *f, *other;
	struct store_stats stats = {0};
	uint64_t job;
	bool reset;

	b->options.checkpoint_bytes = 512 << 10; /* by far more than comes while one is written */
	close_and_reopen(b);
	put(b, "quiet");
	put(b, "a-queue-of-its-own");
	f = follow_now(b, "a-queue-of-its-own");
	early = store_follow_position(f);
	other = follow_now(b, "quiet");
	for (; stats.checkpoints == 0; store_stats(b->store, &stats))
		put(b, "a-queue-of-its-own");
	quiet = store_follow_reached(other);
	assert_true(quiet.lsn > early.lsn);
	while (store_follow_next(f, &(struct store_event){0}) != 0)
		;
	late = store_follow_reached(f);
	job = put(b, "a-queue-of-its-own");
	store_follow_free(f);
	store_follow_free(other);
	for (int i = 0; i < 2; i++) {
		close_and_reopen(b);
		store_follow_free(follow(b, "a-queue-of-its-own", &early, &reset));
		assert_true(reset);
		f = follow(b, "a-queue-of-its-own", &late, &reset);
		assert_false(reset);
		expect(f, job, STORE_CHANGE_SUBMIT, JOB_READY);
		nothing(f);
		store_follow_free(f);
		f = follow(b, "quiet", &quiet, &reset);
		assert_false(reset);
		nothing(f);
		store_follow_free(f);
	}
}

/* Nobody follows: the past is kept for as long as the ring does not turn. */
static void test_forgotten(void **state)
{
	struct bench *b = *state;
	struct store_marks marks;
	struct store_position start;
	struct store_follow *f;
	bool reset;

	put(b, "a");
	f = follow_now(b, "a");
	start = store_follow_position(f);
	store_follow_free(f);
	for (int i = 0; i < 2; i++) {
		close_and_reopen(b);
		f = follow(b, "a", &start, &reset);
		assert_false(reset);
		store_follow_free(f);
	}
	close_and_reopen(b);
	for (int i = 0; i < KEPT + 1; i++)
		put(b, "a");
	store_marks(b->store, &marks);
	put(b, "a");
	start = (struct store_position){marks.epoch, marks.appended};
	store_follow_free(follow(b, "a", &start, &reset));
	assert_true(reset);
	/* who follows keeps it from then on */
	store_marks(b->store, &marks);
	put(b, "a");
	start = (struct store_position){marks.epoch, marks.appended};
	store_follow_free(follow(b, "a", &start, &reset));
	assert_false(reset);
}

/* Nothing is told before it is flushed, unless asked for. */
static void test_durable(void **state)
{
	struct bench *b = *state;
	struct store_follow *local, *async = NULL;
	struct store_event e;
	bool reset;

	put(b, "a");
	local = follow_now(b, "a");
	assert_int_equal(store_follow(b->store, text("a"), NULL, STORE_ASYNC, &async, &reset), 0);
	for (int i = 0; i < 50; i++) {
		struct store_marks marks;
		uint64_t job = submit_level(b, "a", "x", STORE_ASYNC);

		expect(async, job, STORE_CHANGE_SUBMIT, JOB_READY);
		while (store_follow_next(local, &e) == 0) {
			store_marks(b->store, &marks);
			assert_int_equal(wh_await(store_follow_wait(local)).n, 0);
		}
		store_marks(b->store, &marks);
		assert_true(e.job == job && e.position.lsn < marks.flushed);
	}
	store_follow_free(local);
	store_follow_free(async);
	assert_int_equal(store_follow(b->store, text("a"), NULL, STORE_REMOTE_FLUSH, &async, &reset),
	                 -JOB_ELEVEL);
	assert_int_equal(store_follow(b->store, text("nobody's"), NULL, STORE_LOCAL, &async, &reset),
	                 -JOB_EUNKNOWN_QUEUE);
}

static void test_waits_end(void **state)
{
	struct bench *b = *state;
	struct store_follow *f;
	wh_future wait;
	uint64_t job;

	put(b, "a");
	f = follow_now(b, "a");
	assert_int_equal(wh_await(wh_deadline(store_follow_wait(f), wh_now(b->loop) + WH_NS_PER_MS)).n,
	                 -ETIMEDOUT);
	job = put(b, "a");
	expect(f, job, STORE_CHANGE_SUBMIT, JOB_READY);
	wait = store_follow_wait(f);
	assert_false(wh_done(wait));
	assert_int_equal(store_close(b->store), 0);
	assert_int_equal(wh_await(wait).n, -ECANCELED);
	assert_null(store_follow_free(f));
	assert_null(store_follow_free(NULL));
	reopen(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_life, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_time, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_resume, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_many_of_one_record, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_gaps_are_told, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_runs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_checkpoint, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_forgotten, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_durable, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_waits_end, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
