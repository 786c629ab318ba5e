/* tests/unit/test_store_policy.c -- what queues do with jobs, in the embedded store on a real disk: pauses between attempts, dead letters,
 * expiry, how many run and how many are begun, unique keys, groups. All of it must be the same after a restart.
 */
#include "store_support.h"

static void configure(struct bench *b, const char *name, struct job_queue_config config,
                      const char *dead_letter)
{
	struct store_action put = {.kind = STORE_QUEUE_PUT,
	                           .queue = {.name = text(name),
	                                     .config = config,
	                                     .dead_letter = text(dead_letter ? dead_letter : "")}};

	assert_int_equal(try(b, put), 0);
}

static struct store_queue_view view_of(struct bench *b, const char *name)
{
	struct store_queue_view v;

	assert_int_equal(store_queue_now(b->store, text(name), &v), 0);
	return v;
}

static struct store_view *look(struct bench *b, uint64_t id)
{
	wh_res res = wh_await(store_get(b->store, id, STORE_DEFAULT));

	assert_true(res.n > 0);
	return res.ptr;
}

static uint64_t submit_action(struct bench *b, struct store_action a)
{
	struct store_commit *commit = apply(b, a, STORE_DEFAULT);
	uint64_t id = commit->results[0].job;

	assert_int_equal(commit->error, 0);
	assert_false(commit->results[0].duplicate);
	store_commit_free(commit);
	return id;
}

static struct store_leased reserve_id(struct bench *b, const char *queue, uint64_t id)
{
	struct store_leased job = reserve_one(b, queue);

	assert_int_equal(job.job, id);
	return job;
}

static int fail_it(struct bench *b, struct store_leased job, const char *error, int64_t delay_ns)
{
	struct store_action a = with_lease(STORE_FAIL, job);

	a.fail.error = text(error);
	a.fail.delay_set = delay_ns >= 0;
	a.fail.delay_ns = delay_ns;
	return try(b, a);
}

/* ---- pauses ------------------------------------------------------------------------------ */

static void test_backoff_list(void **state)
{
	struct bench *b = *state;
	int64_t pauses[] = {20, 40, 60, 60};
	struct store_commit *commit;
	uint64_t id;

	configure(b, "q",
	          (struct job_queue_config){.backoffs = 3,
	                                    .backoff_list_ms = {20000, 40000, 60000},
	                                    .backoff_jitter = JOB_NO_JITTER},
	          NULL);
	id = submit(b, "q", "x");
	for (size_t i = 0; i < sizeof(pauses) / sizeof(pauses[0]); i++) {
		struct store_leased job = reserve_id(b, "q", id);
		struct store_action kick = {.kind = STORE_KICK, .job = id};
		struct store_action failing = with_lease(STORE_FAIL, job);
		int64_t before = wh_wall_now(b->loop), pause = pauses[i] * WH_NS_PER_S;

		commit = apply(b, failing, STORE_DEFAULT);
		assert_int_equal(commit->results[0].state, JOB_DELAYED);
		assert_true(commit->results[0].at >= before + pause - WH_NS_PER_S);
		assert_true(commit->results[0].at <= wh_wall_now(b->loop) + pause + WH_NS_PER_S);
		store_commit_free(commit);
		close_and_reopen(b);
		assert_int_equal(try(b, kick), 0);
	}
}

/* ---- dead letters ------------------------------------------------------------------------ */

static void check_dead(struct bench *b, uint64_t id)
{
	struct store_view *v = look(b, id);
	struct store_bytes *payload;
	wh_res res;

	assert_int_equal(v->state, JOB_READY);
	assert_int_equal(v->attempts, 0);
	assert_int_equal(v->queue.len, 4);
	assert_memory_equal(v->queue.data, "dead", 4);
	assert_int_equal(v->dead_from.len, 4);
	assert_memory_equal(v->dead_from.data, "mail", 4);
	assert_int_equal(v->errors_count, 2);
	assert_int_equal(v->errors[0].attempt, 1);
	assert_memory_equal(v->errors[0].text.data, "first", 5);
	assert_int_equal(v->errors[1].attempt, 2);
	assert_memory_equal(v->errors[1].text.data, "second", 6);
	store_view_free(v);
	res = wh_await(store_payload(b->store, id, STORE_DEFAULT));
	assert_int_equal(res.n, 5);
	payload = res.ptr;
	assert_memory_equal(payload->body.data, "hello", 5);
	assert_memory_equal(payload->content_type.data, "text/plain", 10);
	assert_memory_equal(payload->headers.data, "X-A: b", 6);
	store_bytes_unref(payload);
	assert_int_equal(view_of(b, "mail").dead, 1);
	assert_int_equal(view_of(b, "mail").failed, 0);
	assert_int_equal(view_of(b, "mail").jobs[JOB_READY], 0);
	assert_int_equal(view_of(b, "dead").jobs[JOB_READY], 1);
	assert_memory_equal(view_of(b, "mail").dead_letter.data, "dead", 4);
	assert_int_equal(store_recount(b->store), 0);
}

static void test_dead_letter(void **state)
{
	struct bench *b = *state;
	struct store_action a = submission("mail", "hello"), done, cancel;
	struct store_action gone = {.kind = STORE_QUEUE_DELETE, .queue.name = text("dead")};
	struct store_leased job;
	struct store_lot *lot;
	wh_future waits;
	uint64_t id;

	configure(b, "mail", (struct job_queue_config){.attempts_max = 2}, "dead");
	assert_true(view_of(b, "dead").implicit);
	a.submit.headers = text("X-A: b");
	id = submit_action(b, a);
	assert_int_equal(fail_it(b, reserve_id(b, "mail", id), "first", 0), 0);
	/* who waits for the other queue is woken */
	waits = reserve_start(b, "dead", 1, true);
	assert_false(wh_done(waits));
	assert_int_equal(fail_it(b, reserve_id(b, "mail", id), "second", 0), 0);
	lot = wh_await(waits).ptr;
	job = lot->jobs[0];
	store_lot_free(lot);
	assert_int_equal(job.job, id);
	assert_int_equal(job.attempt, 1);
	assert_int_equal(try(b, with_lease(STORE_RETURN, job)), 0);
	check_dead(b, id);
	close_and_reopen(b);
	check_dead(b, id);
	/* named by another queue; gone only after that */
	assert_int_equal(try(b, gone), -JOB_ENOT_EMPTY);
	job = reserve_id(b, "dead", id);
	done = with_lease(STORE_COMPLETE, job);
	assert_int_equal(try(b, done), 0);
	assert_int_equal(state_of(b, id), JOB_DONE);
	assert_int_equal(try(b, gone), -JOB_EIN_USE);
	configure(b, "mail", (struct job_queue_config){.attempts_max = 2}, NULL);
	assert_int_equal(try(b, gone), 0);
	/* a queue that is removed stays known to its dead jobs */
	configure(b, "mail", (struct job_queue_config){.attempts_max = 1}, "late");
	id = submit(b, "mail", "x");
	assert_int_equal(fail_it(b, reserve_id(b, "mail", id), "only", 0), 0);
	gone.queue.name = text("mail");
	assert_int_equal(try(b, gone), 0);
	submit(b, "other", "takes the next free number");
	for (int round = 0; round < 2; round++) {
		struct store_view *v = look(b, id);

		assert_memory_equal(v->dead_from.data, "mail", 4);
		store_view_free(v);
		close_and_reopen(b);
	}
	cancel = (struct store_action){.kind = STORE_CANCEL, .job = id};
	assert_int_equal(try(b, cancel), 0);
	assert_int_equal(store_recount(b->store), 0);
}

/* Where it comes from is known by a start that reads of its death in a checkpoint, and stays known when that queue is removed. */
static void test_dead_in_a_checkpoint(void **state)
{
	struct bench *b = *state;
	struct store_action gone = {.kind = STORE_QUEUE_DELETE, .queue.name = text("mail")};
	struct store_stats stats;
	struct store_view *v;
	char body[4000];
	uint64_t id;

	b->options.segment_bytes = b->options.checkpoint_bytes = 1 << 20;
	close_and_reopen(b);
	configure(b, "mail", (struct job_queue_config){.attempts_max = 1}, "dead");
	id = submit(b, "mail", "x");
	assert_int_equal(fail_it(b, reserve_id(b, "mail", id), "only", 0), 0);
	memset(body, 'b', sizeof(body) - 1);
	body[sizeof(body) - 1] = '\0';
	store_stats(b->store, &stats);
	for (int i = 0; stats.checkpoints == 0; i++) {
		assert_true(i < 20000);
		store_commit_free(apply(b, submission("other", body), STORE_ASYNC));
		store_stats(b->store, &stats);
	}
	close_and_reopen(b);
	assert_int_equal(try(b, gone), 0);
	submit(b, "next", "takes the next free number");
	v = look(b, id);
	assert_int_equal(v->dead_from.len, 4);
	assert_memory_equal(v->dead_from.data, "mail", 4);
	store_view_free(v);
	assert_int_equal(store_recount(b->store), 0);
}

static void test_dead_letter_refusals(void **state)
{
	struct bench *b = *state;
	struct store_action put = {.kind = STORE_QUEUE_PUT,
	                           .queue = {.name = text("a"), .dead_letter = text("a")}};

	assert_int_equal(try(b, put), -JOB_EDEAD_LOOP);
	configure(b, "a", (struct job_queue_config){0}, "b");
	configure(b, "b", (struct job_queue_config){0}, "c");
	put.queue.name = text("c");
	assert_int_equal(try(b, put), -JOB_EDEAD_LOOP);
	put.queue.dead_letter = text("-no");
	assert_int_equal(try(b, put), -JOB_EVALUE);
	assert_int_equal(view_of(b, "c").dead_letter.len, 0);
	/* pausing keeps it */
	put = (struct store_action){.kind = STORE_QUEUE_PAUSE, .queue.name = text("a")};
	assert_int_equal(try(b, put), 0);
	assert_memory_equal(view_of(b, "a").dead_letter.data, "b", 1);
	assert_int_equal(store_close(b->store), 0);
	b->options.queues_declared = true;
	reopen(b);
	put = (struct store_action){.kind = STORE_QUEUE_PUT,
	                            .queue = {.name = text("a"), .dead_letter = text("nowhere")}};
	assert_int_equal(try(b, put), -JOB_EUNKNOWN_QUEUE);
}

/* A lease that passes is an attempt, the last one too; in a transaction, several at once. */
static void test_dead_by_time(void **state)
{
	struct bench *b = *state;
	struct store_action a = submission("q", "x"), fails[3];
	struct store_lot *lot;
	struct store_view *v;
	wh_res res;
	uint64_t id;

	configure(b, "q", (struct job_queue_config){.attempts_max = 1, .jobs_max = 4}, "d");
	configure(b, "d", (struct job_queue_config){.jobs_max = 1}, NULL); /* is no limit for the dead */
	a.submit.time_to_run_ns = WH_NS_PER_MS;
	id = submit_action(b, a);
	reserve_id(b, "q", id);
	res = wh_await(reserve_start(b, "d", 1, true));
	assert_int_equal(res.n, 1);
	store_lot_free(res.ptr);
	v = look(b, id);
	assert_int_equal(v->timeouts, 1);
	assert_memory_equal(v->errors[0].text.data, "lease expired", 13);
	store_view_free(v);
	for (int i = 0; i < 3; i++)
		submit(b, "q", "y");
	lot = reserve(b, "q", 3);
	assert_int_equal(lot->count, 3);
	for (int i = 0; i < 3; i++)
		fails[i] = with_lease(STORE_FAIL, lot->jobs[i]);
	store_lot_free(lot);
	res = wh_await(store_apply(b->store, fails, 3, 0, STORE_DEFAULT));
	assert_int_equal(res.n, 0);
	assert_int_equal(((struct store_commit *)res.ptr)->error, 0);
	store_commit_free(res.ptr);
	assert_int_equal(view_of(b, "q").dead, 4);
	close_and_reopen(b);
	assert_int_equal(view_of(b, "q").dead, 4);
	assert_int_equal(store_recount(b->store), 0);
}

/* ---- expiry ------------------------------------------------------------------------------ */

static void test_expires(void **state)
{
	struct bench *b = *state;
	struct store_action a = submission("q", "x");
	struct store_leased job;
	struct store_view *v;
	uint64_t late, begun, next;

	a.submit.expires_ns = WH_NS_PER_MS;
	late = submit_action(b, a);
	assert_int_equal(wh_await(store_wait(b->store, late, STORE_WAIT_FINISHED, 0, STORE_DEFAULT)).n,
	                 JOB_FAILED);
	v = look(b, late);
	assert_int_equal(v->attempts, 0);
	assert_int_equal(v->errors_count, 1);
	assert_memory_equal(v->errors[0].text.data, "expired", 7);
	store_view_free(v);
	assert_null(reserve(b, "q", 1));
	/* in the past: it is over at once, and keeps nothing from others */
	a.submit.expires_ns = 0;
	a.submit.expires_at = 1;
	late = submit_action(b, a);
	next = submit(b, "q", "y");
	reserve_id(b, "q", next);
	assert_int_equal(state_of(b, late), JOB_FAILED);
	/* once begun it does not expire, unless what began it is taken back */
	a.submit.expires_at = 0;
	a.submit.expires_ns = 3600 * WH_NS_PER_S;
	begun = submit_action(b, a);
	v = look(b, begun);
	assert_true(v->begin_by > wh_wall_now(b->loop));
	store_view_free(v);
	job = reserve_id(b, "q", begun);
	v = look(b, begun);
	assert_int_equal(v->begin_by, 0);
	store_view_free(v);
	assert_int_equal(fail_it(b, job, "no", 0), 0);
	job = reserve_id(b, "q", begun);
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, job)), 0);
	/* across a restart */
	a.submit.expires_ns = 30 * WH_NS_PER_MS;
	late = submit_action(b, a);
	close_and_reopen(b);
	assert_int_equal(wh_await(store_wait(b->store, late, STORE_WAIT_FINISHED, 0, STORE_DEFAULT)).n,
	                 JOB_FAILED);
	a.submit.expires_ns = -1;
	assert_int_equal(try(b, a), -JOB_EVALUE);
	assert_int_equal(store_recount(b->store), 0);
}

/* ---- limits ------------------------------------------------------------------------------ */

static void test_concurrency(void **state)
{
	struct bench *b = *state;
	struct store_leased one, two;
	struct store_lot *lot;
	wh_future waits;
	wh_res res;

	configure(b, "q", (struct job_queue_config){.concurrency = 2}, NULL);
	for (int i = 0; i < 4; i++)
		submit(b, "q", "x");
	lot = reserve(b, "q", 10);
	assert_int_equal(lot->count, 2);
	one = lot->jobs[0];
	two = lot->jobs[1];
	store_lot_free(lot);
	assert_null(reserve(b, "q", 1));
	close_and_reopen(b); /* leases stay */
	assert_null(reserve(b, "q", 1));
	/* one that is named is refused; one that waits comes when a lease ends */
	res = wh_await(store_reserve(b->store, &(struct store_reserve){.job = two.job + 1}));
	assert_int_equal(res.n, -JOB_ESTATE);
	waits = reserve_start(b, "q", 2, true);
	assert_false(wh_done(waits));
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, one)), 0);
	res = wh_await(waits);
	assert_int_equal(res.n, 1);
	store_lot_free(res.ptr);
	waits = reserve_start(b, "q", 2, true);
	assert_int_equal(try(b, with_lease(STORE_RELEASE, two)), 0);
	res = wh_await(waits);
	assert_int_equal(res.n, 1);
	assert_int_equal(((struct store_lot *)res.ptr)->jobs[0].job, two.job);
	store_lot_free(res.ptr);
	/* more may run: who waits gets them */
	waits = reserve_start(b, "q", 2, true);
	configure(b, "q", (struct job_queue_config){.concurrency = 3}, NULL);
	res = wh_await(waits);
	assert_int_equal(res.n, 1);
	store_lot_free(res.ptr);
	assert_int_equal(store_recount(b->store), 0);
}

static void test_rate(void **state)
{
	struct bench *b = *state;
	struct store_leased job;
	struct store_lot *lot;
	wh_future waits;
	int64_t began;
	wh_res res;

	/* one in 100 ms, three at once */
	configure(b, "q",
	          (struct job_queue_config){.rate.count = 10, .rate.period_ms = 1000, .rate.burst = 3}, NULL);
	for (int i = 0; i < 10; i++)
		submit(b, "q", "x");
	began = wh_now(b->loop);
	lot = reserve(b, "q", 10);
	assert_int_equal(lot->count, 3);
	job = lot->jobs[0];
	store_lot_free(lot);
	for (int i = 0; i < 2; i++) {
		waits = reserve_start(b, "q", 1, true);
		res = wh_await(waits);
		assert_int_equal(res.n, 1);
		store_lot_free(res.ptr);
	}
	/* five in all: two more than the burst; the store's clock may be off by a tenth while it follows the wall's */
	assert_true(wh_now(b->loop) - began >= 2 * 80 * WH_NS_PER_MS);
	/* an hour for each: nothing is given out again by a restart, nor by ending a job; what is returned is */
	configure(b, "q",
	          (struct job_queue_config){.rate.count = 1, .rate.period_ms = 3600000, .rate.burst = 2},
	          NULL);
	lot = reserve(b, "q", 10);
	assert_true(!lot || lot->count <= 2);
	store_lot_free(lot);
	assert_null(reserve(b, "q", 1));
	close_and_reopen(b);
	assert_null(reserve(b, "q", 1));
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, job)), 0);
	assert_null(reserve(b, "q", 1));
	assert_int_equal(view_of(b, "q").config.rate.burst, 2);
	/* another rate makes up for what the one before took in its own time, from now on */
	configure(b, "q", (struct job_queue_config){.rate.count = 1000, .rate.period_ms = 1000}, NULL);
	res = wh_await(reserve_start(b, "q", 1, true));
	assert_int_equal(res.n, 1);
	store_lot_free(res.ptr);
	configure(b, "q", (struct job_queue_config){0}, NULL);
	job = reserve_one(b, "q");
	assert_true(job.job > 0);
	/* nothing else happens that would look at the clock */
	configure(b, "t", (struct job_queue_config){.rate.count = 1, .rate.period_ms = 3600000}, NULL);
	submit(b, "t", "x");
	submit(b, "t", "y");
	assert_true(reserve_one(b, "t").job > 0);
	close_and_reopen(b);
	assert_null(reserve(b, "t", 1));
	configure(b, "t", (struct job_queue_config){.rate.count = 1000, .rate.period_ms = 1000}, NULL);
	res = wh_await(reserve_start(b, "t", 1, true));
	assert_int_equal(res.n, 1);
	store_lot_free(res.ptr);
	configure(b, "r", (struct job_queue_config){.rate.count = 1, .rate.period_ms = 3600000}, NULL);
	submit(b, "r", "x");
	job = reserve_one(b, "r");
	assert_true(job.job > 0);
	assert_int_equal(try(b, with_lease(STORE_RETURN, job)), 0);
	assert_int_equal(reserve_one(b, "r").job, job.job);
	assert_int_equal(store_recount(b->store), 0);
}

/* ---- unique keys ------------------------------------------------------------------------- */

/* The job that a submit with the key is answered with. */
static uint64_t submit_unique(struct bench *b, const char *key, int64_t while_ns, bool duplicate, int level)
{
	struct store_action a = submission("q", "x");
	struct store_commit *commit;
	uint64_t id;

	a.submit.unique = text(key);
	a.submit.unique_while_ns = while_ns;
	commit = apply(b, a, level);
	assert_int_equal(commit->error, 0);
	assert_int_equal(commit->results[0].duplicate, duplicate);
	id = commit->results[0].job;
	store_commit_free(commit);
	return id;
}

static void test_unique(void **state)
{
	struct bench *b = *state;
	uint64_t active = submit_unique(b, "a", JOB_UNIQUE_ACTIVE, false, STORE_DEFAULT), queued, timed;
	struct store_leased job;

	queued = submit_unique(b, "b", JOB_UNIQUE_QUEUED, false, STORE_DEFAULT);
	timed = submit_unique(b, "c", 3600 * WH_NS_PER_S, false, STORE_DEFAULT);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(submit_unique(b, "a", JOB_UNIQUE_QUEUED, true, STORE_DEFAULT), active);
		assert_int_equal(submit_unique(b, "b", JOB_UNIQUE_ACTIVE, true, STORE_ASYNC), queued);
		assert_int_equal(submit_unique(b, "c", 0, true, STORE_LOCAL), timed);
		assert_int_equal(view_of(b, "q").submitted, 3);
		close_and_reopen(b);
	}
	/* begun: the queued one is let go, the active one is not */
	job = reserve_id(b, "q", active);
	assert_int_equal(submit_unique(b, "a", 0, true, STORE_DEFAULT), active);
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, job)), 0);
	assert_true(submit_unique(b, "a", 0, false, STORE_DEFAULT) != active);
	job = reserve_id(b, "q", queued);
	assert_int_equal(try(b, with_lease(STORE_RELEASE, job)), 0);
	assert_int_equal(submit_unique(b, "b", 0, true, STORE_DEFAULT), queued);
	job = reserve_id(b, "q", queued);
	assert_true(submit_unique(b, "b", 0, false, STORE_DEFAULT) != queued);
	assert_int_equal(try(b, with_lease(STORE_RELEASE, job)), 0); /* it is another one's now */
	close_and_reopen(b);
	assert_true(submit_unique(b, "b", 0, true, STORE_DEFAULT) != queued);
	/* for a time: whatever becomes of the job */
	assert_int_equal(try(b, (struct store_action){.kind = STORE_DELETE, .job = timed}), 0);
	close_and_reopen(b);
	assert_int_equal(submit_unique(b, "c", 0, true, STORE_DEFAULT), timed);
	/* in another queue it is another key */
	submit(b, "other", "x");
	assert_int_equal(store_recount(b->store), 0);
}

static void test_unique_passes(void **state)
{
	struct bench *b = *state;
	uint64_t id = submit_unique(b, "k", WH_NS_PER_MS, false, STORE_DEFAULT);
	struct store_action a = submission("q", "x");
	struct store_commit *commit;

	for (bool duplicate = true; duplicate;) {
		a.submit.unique = text("k");
		a.submit.unique_while_ns = 3600 * WH_NS_PER_S;
		commit = apply(b, a, STORE_DEFAULT);
		duplicate = commit->results[0].duplicate;
		assert_int_equal(commit->results[0].job == id, duplicate);
		store_commit_free(commit);
		if (duplicate)
			wh_await(wh_sleep(b->loop, WH_NS_PER_MS));
	}
	close_and_reopen(b);
	assert_true(submit_unique(b, "k", 0, true, STORE_DEFAULT) > id);
	assert_int_equal(store_recount(b->store), 0);
}

/* In one transaction, and in one batch, the first one has the key. */
static void test_unique_together(void **state)
{
	struct bench *b = *state;
	struct store_slice payloads[3] = {text("1"), text("2"), text("3")};
	struct store_action all[3];
	struct store_commit *commit;
	wh_res res;

	for (int i = 0; i < 3; i++) {
		all[i] = submission("q", "x");
		all[i].submit.unique = i < 2 ? text("k") : text("other");
	}
	res = wh_await(store_apply(b->store, all, 3, 0, STORE_DEFAULT));
	commit = res.ptr;
	assert_int_equal(commit->error, 0);
	assert_false(commit->results[0].duplicate || commit->results[2].duplicate);
	assert_true(commit->results[1].duplicate);
	assert_int_equal(commit->results[1].job, commit->results[0].job);
	assert_int_equal(commit->results[1].state, JOB_READY);
	store_commit_free(commit);
	all[0].submit.unique = text("batch");
	res = wh_await(store_submit_many(b->store, &all[0].submit, payloads, 3, STORE_DEFAULT));
	commit = res.ptr;
	assert_int_equal(commit->error, 0);
	assert_false(commit->results[0].duplicate);
	assert_true(commit->results[1].duplicate && commit->results[2].duplicate);
	store_commit_free(commit);
	assert_int_equal(view_of(b, "q").submitted, 3);
	assert_int_equal(store_recount(b->store), 0);
}

/* The body that is not needed leaves no file. */
static void test_unique_large(void **state)
{
	struct bench *b = *state;
	size_t len = 3 << 20;
	char *large = calloc(1, len);
	struct store_action a = submission("q", "x");
	struct store_stats stats;

	a.submit.unique = text("k");
	a.submit.payload = (struct store_slice){large, len};
	for (int i = 0; i < 2; i++) {
		struct store_commit *commit = apply(b, a, STORE_DEFAULT);

		assert_int_equal(commit->error, 0);
		assert_int_equal(commit->results[0].duplicate, i == 1);
		store_commit_free(commit);
	}
	store_stats(b->store, &stats);
	assert_int_equal(stats.blobs, 1);
	free(large);
	close_and_reopen(b);
	store_stats(b->store, &stats);
	assert_int_equal(stats.blobs, 1);
}

/* ---- groups ------------------------------------------------------------------------------ */

static uint64_t submit_group(struct bench *b, const char *group, uint32_t priority)
{
	struct store_action a = submission("q", group);

	a.submit.group = text(group);
	a.submit.priority = priority;
	return submit_action(b, a);
}

static void test_groups(void **state)
{
	struct bench *b = *state;
	uint64_t a1 = submit_group(b, "a", 9), a2 = submit_group(b, "a", 1), b1 = submit_group(b, "b", 5),
		 a3 = submit_group(b, "a", 5), plain;
	struct store_leased first, job;
	wh_future waits;
	wh_res res;

	/* of each group the oldest, whatever the others' priorities */
	job = reserve_id(b, "q", b1);
	first = reserve_id(b, "q", a1);
	assert_null(reserve(b, "q", 1));
	plain = submit(b, "q", "no group");
	reserve_id(b, "q", plain);
	close_and_reopen(b);
	assert_null(reserve(b, "q", 1));
	res = wh_await(store_reserve(b->store, &(struct store_reserve){.job = a2}));
	assert_int_equal(res.n, -JOB_ESTATE);
	/* a failed attempt keeps the group's others back, across a restart, until it has its turn again */
	assert_int_equal(fail_it(b, first, "no", 3600 * WH_NS_PER_S), 0);
	assert_null(reserve(b, "q", 1));
	close_and_reopen(b);
	assert_null(reserve(b, "q", 1));
	assert_int_equal(try(b, (struct store_action){.kind = STORE_KICK, .job = a1}), 0);
	first = reserve_id(b, "q", a1);
	waits = reserve_start(b, "q", 1, true);
	assert_false(wh_done(waits));
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, first)), 0);
	res = wh_await(waits);
	assert_int_equal(res.n, 1);
	first = ((struct store_lot *)res.ptr)->jobs[0];
	store_lot_free(res.ptr);
	assert_int_equal(first.job, a2);
	/* set aside it is in nobody's way; it comes back before those that are younger */
	assert_int_equal(try(b, with_lease(STORE_BURY, first)), 0);
	assert_int_equal(try(b, (struct store_action){.kind = STORE_KICK, .job = a2}), 0);
	first = reserve_id(b, "q", a2);
	assert_int_equal(try(b, with_lease(STORE_DELETE, first)), 0);
	reserve_id(b, "q", a3);
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, job)), 0);
	assert_int_equal(store_recount(b->store), 0);
}

static void test_group_concurrency(void **state)
{
	struct bench *b = *state;
	struct store_lot *lot;
	struct store_view *v;
	uint64_t first = 0;

	configure(b, "q", (struct job_queue_config){.group_concurrency = 2}, NULL);
	for (int i = 0; i < 5; i++) {
		uint64_t id = submit_group(b, "a", 5);

		first = first ? first : id;
	}
	lot = reserve(b, "q", 10);
	assert_int_equal(lot->count, 2);
	assert_int_equal(lot->jobs[0].job, first);
	store_lot_free(lot);
	configure(b, "q", (struct job_queue_config){.group_concurrency = 4}, NULL);
	lot = reserve(b, "q", 10);
	assert_int_equal(lot->count, 2);
	store_lot_free(lot);
	configure(b, "q", (struct job_queue_config){0}, NULL);
	assert_null(reserve(b, "q", 1));
	v = look(b, first);
	assert_int_equal(v->group.len, 1);
	assert_memory_equal(v->group.data, "a", 1);
	store_view_free(v);
	assert_int_equal(store_recount(b->store), 0);
}

static void test_group_rate(void **state)
{
	struct bench *b = *state;
	struct job_rate hourly = {.count = 1, .period_ms = 3600000, .burst = 2};
	struct store_leased job;
	struct store_lot *lot;
	int64_t began;
	wh_res res;

	/* of each group so many, whatever others take */
	configure(b, "q", (struct job_queue_config){.group_rate = hourly, .group_concurrency = 5}, NULL);
	for (int i = 0; i < 4; i++) {
		submit_group(b, "a", 5);
		submit_group(b, "b", 5);
	}
	lot = reserve(b, "q", 10);
	assert_int_equal(lot->count, 4);
	job = lot->jobs[0];
	store_lot_free(lot);
	submit(b, "q", "without a group");
	assert_true(reserve_one(b, "q").job > 0);
	/* neither the end of a job, nor that of all of the group, nor a restart gives another one */
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, job)), 0);
	assert_null(reserve(b, "q", 1));
	close_and_reopen(b);
	assert_null(reserve(b, "q", 1));
	submit_group(b, "c", 5);
	submit_group(b, "c", 5);
	for (int i = 0; i < 2; i++)
		assert_int_equal(try(b, with_lease(STORE_COMPLETE, reserve_one(b, "q"))), 0);
	submit_group(b, "c", 5);
	assert_null(reserve(b, "q", 1));
	close_and_reopen(b);
	assert_null(reserve(b, "q", 1));
	assert_int_equal(store_recount(b->store), 0);
	/* another rate begins anew */
	configure(b, "q",
	          (struct job_queue_config){.group_rate = {.count = 10, .period_ms = 1000, .burst = 1}},
	          NULL);
	lot = reserve(b, "q", 10);
	assert_int_equal(lot->count, 1); /* of c; one of a and both of b are still under way */
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, lot->jobs[0])), 0);
	store_lot_free(lot);
	/* one who waits is woken when it is time */
	submit_group(b, "c", 5);
	began = wh_now(b->loop);
	assert_null(reserve(b, "q", 1));
	res = wh_await(reserve_start(b, "q", 1, true));
	assert_int_equal(res.n, 1);
	store_lot_free(res.ptr);
	assert_true(wh_now(b->loop) - began >= 50 * WH_NS_PER_MS);
	configure(b, "q", (struct job_queue_config){0}, NULL);
	assert_int_equal(store_recount(b->store), 0);
}

static void test_keys_are_short(void **state)
{
	struct bench *b = *state;
	char key[JOB_KEY_MAX + 2] = {0};
	struct store_action a = submission("q", "x");

	memset(key, 'k', JOB_KEY_MAX);
	a.submit.unique = a.submit.group = text(key);
	submit_action(b, a);
	key[JOB_KEY_MAX] = 'k';
	a.submit.unique = text(key);
	assert_int_equal(try(b, a), -JOB_EVALUE);
	a.submit.unique = text("short");
	a.submit.group = text(key);
	assert_int_equal(try(b, a), -JOB_EVALUE);
	a.submit.group = text("short");
	a.submit.unique_while_ns = -2;
	assert_int_equal(try(b, a), -JOB_EVALUE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_backoff_list),
		TEST(test_dead_letter),
		TEST(test_dead_in_a_checkpoint),
		TEST(test_dead_letter_refusals),
		TEST(test_dead_by_time),
		TEST(test_expires),
		TEST(test_concurrency),
		TEST(test_rate),
		TEST(test_unique),
		TEST(test_unique_passes),
		TEST(test_unique_together),
		TEST(test_unique_large),
		TEST(test_groups),
		TEST(test_group_concurrency),
		TEST(test_group_rate),
		TEST(test_keys_are_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
