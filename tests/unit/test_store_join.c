/* tests/unit/test_store_join.c -- jobs that run after others, in the embedded store on a real disk: fans, chains, every way to end, and what is
 * done to a job that waits for others. All of it must be the same after a restart.
 */
#include "store_support.h"

static struct store_action after(const char *queue, const uint64_t *ids, size_t count, int failure)
{
	struct store_action a = submission(queue, "after");

	a.submit.after = (struct store_slice){ids, count * sizeof(ids[0])};
	a.submit.after_failure = (uint8_t)failure;
	return a;
}

static uint64_t submit_action(struct bench *b, struct store_action a, int state)
{
	struct store_commit *commit = apply(b, a, STORE_DEFAULT);
	uint64_t id = commit->results[0].job;

	assert_int_equal(commit->error, 0);
	assert_int_equal(commit->results[0].state, state);
	store_commit_free(commit);
	return id;
}

static uint64_t submit_after(struct bench *b, const char *queue, uint64_t id, int failure)
{
	return submit_action(b, after(queue, &id, 1, failure), JOB_AWAITING);
}

static struct store_view *look(struct bench *b, uint64_t id)
{
	wh_res res = wh_await(store_get(b->store, id, STORE_DEFAULT));

	assert_true(res.n > 0);
	return res.ptr;
}

static void assert_state(struct bench *b, uint64_t id, int state)
{
	struct store_view *v = look(b, id);

	assert_int_equal(v->state, state);
	store_view_free(v);
}

/* What the store does by itself comes in a later turn. */
static void await_state(struct bench *b, uint64_t id, int state)
{
	int64_t end = wh_clock(b->loop) + wait_s * WH_NS_PER_S;
	wh_res res = {0};

	while (store_state(b->store, id) != state) {
		if (wh_clock(b->loop) > end) {
			wait_s = 1;
			fail_msg("a job is in state %d, and does not come to %d", store_state(b->store, id),
			         state);
		}
		res = wh_await(wh_sleep(b->loop, WH_NS_PER_MS));
	}
	assert_true(res.n >= 0);
	assert_state(b, id, state);
}

static void complete(struct bench *b, const char *queue, uint64_t id)
{
	struct store_leased job = reserve_one(b, queue);

	assert_int_equal(job.job, id);
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, job)), 0);
}

static void fail_it(struct bench *b, const char *queue, uint64_t id)
{
	struct store_leased job = reserve_one(b, queue);
	struct store_action a = with_lease(STORE_FAIL, job);

	a.fail.no_retry = true;
	assert_int_equal(job.job, id);
	assert_int_equal(try(b, a), 0);
}

static void check_awaits(struct bench *b, uint64_t id, uint32_t count, const uint64_t *ids, uint32_t open)
{
	struct store_view *v = look(b, id);

	assert_int_equal(v->state, JOB_AWAITING);
	assert_int_equal(v->awaits_count, count);
	assert_int_equal(v->awaits_open, open);
	assert_int_equal(v->awaits.len, open * sizeof(ids[0]));
	assert_memory_equal(v->awaits.data, ids, open * sizeof(ids[0]));
	store_view_free(v);
}

/* Many before one, one before many. */
static void test_fans(void **state)
{
	struct bench *b = *state;
	uint64_t ids[3], join, then[4];
	struct store_queue_view v;

	for (size_t i = 0; i < 3; i++)
		ids[i] = submit(b, "in", "x");
	join = submit_action(b, after("join", ids, 3, JOB_AFTER_CANCEL), JOB_AWAITING);
	for (size_t i = 0; i < 4; i++)
		then[i] = submit_after(b, "out", join, JOB_AFTER_CANCEL);
	assert_int_equal(store_queue_now(b->store, text("out"), &v), 0);
	assert_int_equal(v.jobs[JOB_AWAITING], 4);
	assert_int_equal(v.jobs[JOB_READY] + v.jobs[JOB_DELAYED], 0);
	check_awaits(b, join, 3, ids, 3);
	complete(b, "in", ids[0]);
	assert_int_equal(reserve_one(b, "join").job, 0);
	check_awaits(b, join, 3, ids + 1, 2);
	close_and_reopen(b);
	check_awaits(b, join, 3, ids + 1, 2);
	complete(b, "in", ids[1]);
	complete(b, "in", ids[2]);
	assert_state(b, join, JOB_READY);
	assert_int_equal(reserve_one(b, "out").job, 0);
	close_and_reopen(b);
	complete(b, "join", join);
	for (size_t i = 0; i < 4; i++) /* in their order */
		complete(b, "out", then[i]);
	assert_int_equal(store_recount(b->store), 0);
}

static void test_ended_already(void **state)
{
	struct bench *b = *state;
	uint64_t done = submit(b, "a", "x"), failed = submit(b, "a", "y"), ids[2] = {done, done};
	struct store_action a;

	complete(b, "a", done);
	fail_it(b, "a", failed);
	(void)submit_action(b, after("b", ids, 2, JOB_AFTER_CANCEL), JOB_READY);
	a = after("b", ids, 2, JOB_AFTER_CANCEL);
	a.submit.delay_ns = 3600 * WH_NS_PER_S;
	(void)submit_action(b, a, JOB_DELAYED);
	ids[1] = failed;
	(void)submit_action(b, after("b", ids, 2, JOB_AFTER_RUN), JOB_READY);
	await_state(b, submit_action(b, after("b", ids, 2, JOB_AFTER_BURY), JOB_AWAITING), JOB_BURIED);
	await_state(b, submit_action(b, after("b", ids, 2, JOB_AFTER_CANCEL), JOB_AWAITING), JOB_CANCELLED);
	check_awaits(b, submit_action(b, after("b", ids, 2, JOB_AFTER_WAIT), JOB_AWAITING), 2, ids + 1, 1);
}

/* Every way not to end well, every policy. */
static void test_not_well(void **state)
{
	struct bench *b = *state;
	static const int becomes[] = {[JOB_AFTER_CANCEL] = JOB_CANCELLED,
	                              [JOB_AFTER_BURY] = JOB_BURIED,
	                              [JOB_AFTER_RUN] = JOB_READY};
	struct store_action put = {.kind = STORE_QUEUE_PUT,
	                           .queue = {.name = text("mortal"), .dead_letter = text("dead")}};

	assert_int_equal(try(b, put), 0);
	for (int way = 0; way < 5; way++) {
		const char *queue = way == 1 ? "mortal" : "a";
		struct store_action before = submission(queue, "x"), end = {0};
		struct store_action actions[2 + JOB_AFTER_FAILURES];
		uint64_t first, then[JOB_AFTER_FAILURES], last;
		uint64_t refs[] = {STORE_AFTER_ACTION | 0, STORE_AFTER_ACTION | 1};
		struct store_commit *commit;

		before.submit.expires_ns = way == 4 ? WH_NS_PER_S / 5 : 0;
		/* all in one commit, so that the first one has not expired before */
		actions[0] = before;
		for (int failure = 0; failure < JOB_AFTER_FAILURES; failure++)
			actions[1 + failure] = after("then", &refs[0], 1, failure);
		actions[1 + JOB_AFTER_FAILURES] =
			after("last", &refs[1 + JOB_AFTER_CANCEL], 1, JOB_AFTER_CANCEL);
		commit = wh_await(store_apply(b->store, actions, 2 + JOB_AFTER_FAILURES, 0, STORE_DEFAULT))
		                 .ptr;
		assert_int_equal(commit->error, 0);
		first = commit->results[0].job;
		for (int failure = 0; failure < JOB_AFTER_FAILURES; failure++)
			then[failure] = commit->results[1 + failure].job;
		last = commit->results[1 + JOB_AFTER_FAILURES].job;
		store_commit_free(commit);
		end.job = first;
		end.kind = way == 2 ? STORE_CANCEL : STORE_DELETE;
		if (way < 2)
			fail_it(b, queue, first);
		else if (way < 4)
			assert_int_equal(try(b, end), 0);
		for (int failure = 0; failure < JOB_AFTER_WAIT; failure++)
			await_state(b, then[failure], becomes[failure]);
		await_state(b, last, JOB_CANCELLED);
		/* a failed one can be called back, a dead one too; the others cannot */
		if (way < 2 || way == 4)
			check_awaits(b, then[JOB_AFTER_WAIT], 1, &first, 1);
		else
			await_state(b, then[JOB_AFTER_WAIT], JOB_CANCELLED);
		close_and_reopen(b);
		for (int failure = 0; failure < JOB_AFTER_WAIT; failure++)
			assert_state(b, then[failure], becomes[failure]);
		if (way == 0) {
			struct store_many many = {
				.kind = STORE_REPLAY, .queue = text("a"), .states = 1u << JOB_FAILED};
			wh_res res = wh_await(store_do_many(b->store, &many));

			assert_int_equal(res.n, 0);
			store_commit_free(res.ptr);
			complete(b, "a", first);
			assert_state(b, then[JOB_AFTER_WAIT], JOB_READY);
		}
		assert_int_equal(store_recount(b->store), 0);
		end = (struct store_action){.kind = STORE_QUEUE_PURGE, .queue = {.name = text("then")}};
		assert_int_equal(try(b, end), 0);
		assert_state(b, then[JOB_AFTER_WAIT], JOB_CANCELLED);
	}
}

/* Why it did not run is told. */
static void test_reason(void **state)
{
	struct bench *b = *state;
	uint64_t first = submit(b, "a", "x"), then = submit_after(b, "b", first, JOB_AFTER_BURY),
		 other = submit_after(b, "b", first, JOB_AFTER_CANCEL);
	char expected[100];
	struct store_view *v;

	fail_it(b, "a", first);
	snprintf(expected, sizeof(expected), "job %llu, which it was to run after, has failed",
	         (unsigned long long)first);
	await_state(b, then, JOB_BURIED);
	await_state(b, other, JOB_CANCELLED);
	for (int i = 0; i < 2; i++) {
		v = look(b, i ? other : then);
		assert_int_equal(v->errors_count, 1);
		assert_int_equal(v->errors[0].text.len, strlen(expected));
		assert_memory_equal(v->errors[0].text.data, expected, strlen(expected));
		store_view_free(v);
	}
}

/* The delay counts from the end on, the instant is one. */
static void test_delay(void **state)
{
	struct bench *b = *state;
	uint64_t first = submit(b, "a", "x"), then, at;
	struct store_action a = after("b", &first, 1, JOB_AFTER_CANCEL), edit = {.kind = STORE_EDIT};
	int64_t before = wh_wall_now(b->loop), day = 86400 * WH_NS_PER_S;
	struct store_view *v;

	a.submit.delay_ns = day;
	then = submit_action(b, a, JOB_AWAITING);
	a.submit.delay_ns = 0;
	a.submit.run_at = before + 3 * day;
	at = submit_action(b, a, JOB_AWAITING);
	complete(b, "a", first);
	v = look(b, then);
	assert_int_equal(v->state, JOB_DELAYED);
	assert_true(v->run_at >= before + day - WH_NS_PER_S && v->run_at < before + 2 * day);
	assert_int_equal(v->delay_ns, day);
	store_view_free(v);
	v = look(b, at);
	assert_int_equal(v->state, JOB_DELAYED);
	assert_true(v->run_at >= before + 3 * day - WH_NS_PER_S &&
	            v->run_at <= before + 3 * day + WH_NS_PER_S);
	store_view_free(v);
	/* edited while it waits: its instant, its queue */
	first = submit(b, "a", "x");
	then = submit_after(b, "b", first, JOB_AFTER_CANCEL);
	edit.job = then;
	edit.edit = (struct store_edit){
		.fields = STORE_EDIT_RUN_AT | STORE_EDIT_PRIORITY, .delay_ns = day, .priority = 7};
	assert_int_equal(try(b, edit), 0);
	assert_state(b, then, JOB_AWAITING);
	close_and_reopen(b);
	complete(b, "a", first);
	v = look(b, then);
	assert_int_equal(v->state, JOB_DELAYED);
	assert_int_equal(v->priority, 7);
	store_view_free(v);
}

static void test_told_to_go(void **state)
{
	struct bench *b = *state;
	uint64_t first = submit(b, "a", "x"), kicked = submit_after(b, "b", first, JOB_AFTER_CANCEL),
		 gone = submit_after(b, "b", first, JOB_AFTER_CANCEL),
		 moved = submit_after(b, "b", first, JOB_AFTER_CANCEL),
		 cancelled = submit_after(b, "b", first, JOB_AFTER_CANCEL);
	struct store_many many = {
		.kind = STORE_MOVE, .queue = text("b"), .to = text("c"), .ids = &moved, .ids_count = 1};
	wh_res res;

	assert_int_equal(try(b, (struct store_action){.kind = STORE_KICK, .job = kicked}), 0);
	complete(b, "b", kicked);
	assert_int_equal(try(b, (struct store_action){.kind = STORE_DELETE, .job = gone}), 0);
	assert_int_equal(try(b, (struct store_action){.kind = STORE_CANCEL, .job = cancelled}), 0);
	res = wh_await(store_do_many(b->store, &many));
	assert_int_equal(res.n, 0);
	store_commit_free(res.ptr);
	assert_state(b, moved, JOB_AWAITING);
	assert_int_equal(
		try(b, (struct store_action){.kind = STORE_QUEUE_DELETE, .queue = {.name = text("c")}}),
		-JOB_ENOT_EMPTY);
	close_and_reopen(b);
	complete(b, "a", first);
	complete(b, "c", moved);
	assert_int_equal(store_recount(b->store), 0);
}

/* Groups, keys and expiry of one that waits for others. */
static void test_policies(void **state)
{
	struct bench *b = *state;
	uint64_t first = submit(b, "a", "x"), older, younger;
	struct store_action a = after("b", &first, 1, JOB_AFTER_CANCEL), plain = submission("b", "y");
	struct store_commit *commit;
	struct store_leased held;

	a.submit.group = plain.submit.group = text("g");
	older = submit_action(b, a, JOB_AWAITING);
	younger = submit_action(b, plain, JOB_READY);
	held = reserve_one(b, "b"); /* the group does not wait for it */
	assert_int_equal(held.job, younger);
	complete(b, "a", first);
	assert_int_equal(reserve_one(b, "b").job, 0);
	close_and_reopen(b);
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, held)), 0);
	complete(b, "b", older);
	first = submit(b, "a", "x");
	a = after("b", &first, 1, JOB_AFTER_CANCEL);
	a.submit.unique = text("k");
	older = submit_action(b, a, JOB_AWAITING);
	commit = apply(b, a, STORE_DEFAULT);
	assert_true(commit->results[0].duplicate && commit->results[0].job == older);
	store_commit_free(commit);
	a = after("b", &first, 1, JOB_AFTER_CANCEL);
	a.submit.expires_ns = WH_NS_PER_S / 10;
	await_state(b, submit_action(b, a, JOB_AWAITING), JOB_FAILED);
}

static void test_refused(void **state)
{
	struct bench *b = *state;
	uint64_t unknown = 4000000, gone = submit(b, "a", "x"), first = submit(b, "a", "x"),
		 bad = first | STORE_AFTER_ACTION;
	struct store_action actions[2], a = after("b", &unknown, 1, JOB_AFTER_CANCEL);
	uint64_t *many = calloc(JOB_AFTER_MAX + 1, sizeof(*many));
	struct store_commit *commit = apply(b, a, STORE_DEFAULT);
	wh_res res;

	assert_int_equal(commit->error, -JOB_EAWAITED);
	assert_int_equal(commit->results[0].job, unknown);
	store_commit_free(commit);
	assert_int_equal(try(b, (struct store_action){.kind = STORE_DELETE, .job = gone}), 0);
	assert_int_equal(try(b, after("b", &gone, 1, JOB_AFTER_CANCEL)), -JOB_EAWAITED);
	assert_int_equal(try(b, after("b", &bad, 1, JOB_AFTER_CANCEL)), -JOB_EVALUE);
	assert_int_equal(try(b, after("b", &first, 1, JOB_AFTER_FAILURES)), -JOB_EVALUE);
	for (size_t i = 0; i <= JOB_AFTER_MAX; i++)
		many[i] = first;
	assert_int_equal(try(b, after("b", many, JOB_AFTER_MAX + 1, JOB_AFTER_CANCEL)), -JOB_ETOO_LARGE);
	(void)submit_action(b, after("b", many, JOB_AFTER_MAX, JOB_AFTER_CANCEL), JOB_AWAITING);
	free(many);
	a = after("b", &first, 1, JOB_AFTER_CANCEL);
	a.submit.buried = true;
	assert_int_equal(try(b, a), -JOB_EVALUE);
	/* ended by the same transaction, in either order */
	actions[0] = (struct store_action){.kind = STORE_CANCEL, .job = first};
	actions[1] = after("b", &first, 1, JOB_AFTER_CANCEL);
	for (int i = 0; i < 2; i++) {
		res = wh_await(store_apply(b->store, actions, 2, 0, STORE_DEFAULT));
		commit = res.ptr;
		assert_int_equal(commit->error, -JOB_ETWICE);
		assert_int_equal(commit->failed, 1);
		store_commit_free(commit);
		a = actions[0];
		actions[0] = actions[1];
		actions[1] = a;
	}
	assert_int_equal(try(b, (struct store_action){.kind = STORE_CANCEL, .job = first}), 0);
	/* forward, or to what is no submit */
	bad = STORE_AFTER_ACTION | 1;
	actions[0] = after("b", &bad, 1, JOB_AFTER_CANCEL);
	actions[1] = submission("b", "x");
	commit = wh_await(store_apply(b->store, actions, 2, 0, STORE_DEFAULT)).ptr;
	assert_int_equal(commit->error, -JOB_EVALUE);
	store_commit_free(commit);
	assert_int_equal(store_recount(b->store), 0);
}

/* A whole graph in one transaction, by the places of its submits; one of them is there already by its key. */
static void test_transaction(void **state)
{
	struct bench *b = *state;
	struct store_action actions[4], keyed = submission("a", "keyed");
	uint64_t ids[] = {STORE_AFTER_ACTION | 0, STORE_AFTER_ACTION | 1}, last = STORE_AFTER_ACTION | 2,
		 there;
	struct store_commit *commit;
	wh_res res;

	keyed.submit.unique = text("k");
	there = submit_action(b, keyed, JOB_READY);
	actions[0] = submission("a", "first");
	actions[1] = keyed;
	actions[2] = after("b", ids, 2, JOB_AFTER_CANCEL);
	actions[3] = after("c", &last, 1, JOB_AFTER_CANCEL);
	res = wh_await(store_apply(b->store, actions, 4, 0, STORE_DEFAULT));
	commit = res.ptr;
	assert_int_equal(commit->error, 0);
	assert_int_equal(commit->results[1].job, there);
	ids[0] = there;
	ids[1] = commit->results[0].job;
	close_and_reopen(b);
	complete(b, "a", there);
	check_awaits(b, commit->results[2].job, 2, ids + 1, 1);
	complete(b, "a", commit->results[0].job);
	complete(b, "b", commit->results[2].job);
	complete(b, "c", commit->results[3].job);
	store_commit_free(commit);
}

/* Who waits for a job learns that one of those it awaits has ended; and whoever waits for work gets it then. */
static void test_told(void **state)
{
	struct bench *b = *state;
	uint64_t ids[2] = {submit(b, "a", "x"), submit(b, "a", "y")},
		 then = submit_action(b, after("b", ids, 2, JOB_AFTER_CANCEL), JOB_AWAITING);
	struct store_view *v = look(b, then);
	wh_future change = store_wait(b->store, then, STORE_WAIT_CHANGE, v->version, STORE_DEFAULT), lot;
	wh_res res;

	store_view_free(v);
	lot = reserve_start(b, "b", 1, true);
	complete(b, "a", ids[0]);
	assert_int_equal(await(b, change, "what a job waits for has changed").n, JOB_AWAITING);
	v = look(b, then);
	change = store_wait(b->store, then, STORE_WAIT_CHANGE, v->version, STORE_DEFAULT);
	store_view_free(v);
	complete(b, "a", ids[1]);
	assert_int_equal(await(b, change, "what a job waits for has changed").n, JOB_READY);
	res = await(b, lot, "a lease of what ran after another");
	assert_int_equal(res.n, 1);
	assert_int_equal(((struct store_lot *)res.ptr)->jobs[0].job, then);
	store_lot_free(res.ptr);
}

/* A job that ended at `async` gives way at once; one that ended at `local` when that is on the disk. A lease never tells of an end that may be lost. */
static void test_levels(void **state)
{
	struct bench *b = *state;
	uint64_t first = submit(b, "a", "x"), then = submit_after(b, "b", first, JOB_AFTER_CANCEL);
	struct store_action done = with_lease(STORE_COMPLETE, reserve_one(b, "a"));
	wh_future ended = store_apply(b->store, &done, 1, 0, STORE_LOCAL);
	wh_future early = reserve_start(b, "b", 1, false);
	struct store_action actions[2];
	uint64_t ref = STORE_AFTER_ACTION | 0;
	struct store_commit *commit;
	struct store_lot *lot;

	assert_int_equal(wh_await(early).n, 0); /* in the log, but not on the disk yet */
	store_commit_free(wh_await(ended).ptr);
	lot = reserve(b, "b", 1);
	assert_int_equal(lot->jobs[0].job, then);
	store_lot_free(lot);
	first = submit_level(b, "a", "x", STORE_ASYNC);
	then = submit_after(b, "b", first, JOB_AFTER_CANCEL);
	done = with_lease(STORE_COMPLETE, reserve_one(b, "a"));
	ended = store_apply(b->store, &done, 1, 0, STORE_ASYNC);
	lot = reserve(b, "b", 1);
	assert_int_equal(lot->jobs[0].job, then);
	store_lot_free(lot);
	store_commit_free(wh_await(ended).ptr);
	/* what time ends is committed without anybody waiting for it; those behind it go on all the same */
	done = submission("a", "late");
	done.submit.expires_ns = WH_NS_PER_S / 20;
	actions[0] = done;
	actions[1] = after("b", &ref, 1, JOB_AFTER_RUN);
	commit = wh_await(store_apply(b->store, actions, 2, 0, STORE_DEFAULT)).ptr;
	then = commit->results[1].job;
	store_commit_free(commit);
	lot = await(b, reserve_start(b, "b", 1, true), "a lease of what ran after one that expired").ptr;
	assert_int_equal(lot->jobs[0].job, then);
	store_lot_free(lot);
}

/* So many as may await one. Nothing recurses, and the end of one job is one record. */
static void test_many(void **state)
{
	struct bench *b = *state;
	uint64_t first = submit(b, "a", "x"), records;
	struct store_action *actions = calloc(JOB_ACTIONS_MAX, sizeof(*actions));
	struct store_commit *commit;
	struct store_queue_view v;
	struct store_stats stats;

	for (size_t i = 0; i < JOB_ACTIONS_MAX; i++)
		actions[i] = after("b", &first, 1, i % 2 ? JOB_AFTER_RUN : JOB_AFTER_CANCEL);
	for (size_t i = 0; i < JOB_AWAITED_MAX / JOB_ACTIONS_MAX; i++) {
		commit = wh_await(store_apply(b->store, actions, JOB_ACTIONS_MAX, 0, STORE_DEFAULT)).ptr;
		assert_int_equal(commit->error, 0);
		store_commit_free(commit);
	}
	free(actions);
	assert_int_equal(try(b, after("b", &first, 1, JOB_AFTER_CANCEL)), -JOB_EAWAITED_FULL);
	store_stats(b->store, &stats);
	records = stats.records;
	complete(b, "a", first);
	store_stats(b->store, &stats);
	assert_int_equal(stats.records, records + 2); /* CLAIM, FINISH */
	assert_int_equal(store_queue_now(b->store, text("b"), &v), 0);
	assert_int_equal(v.jobs[JOB_READY], JOB_AWAITED_MAX);
	assert_int_equal(store_recount(b->store), 0);
	close_and_reopen(b);
	assert_int_equal(store_queue_now(b->store, text("b"), &v), 0);
	assert_int_equal(v.jobs[JOB_READY], JOB_AWAITED_MAX);
}

/* A chain as long as it likes: doomed one by one, in turns. */
static void test_chain(void **state)
{
	enum { LENGTH = 2000 };
	struct bench *b = *state;
	uint64_t first = submit(b, "a", "x"), before = first, last = 0;
	struct store_action *actions = calloc(LENGTH, sizeof(*actions));
	uint64_t *refs = calloc(LENGTH, sizeof(*refs));
	struct store_queue_view v;
	struct store_commit *commit;

	for (size_t i = 0; i < LENGTH; i++) {
		refs[i] = i ? STORE_AFTER_ACTION | (i - 1) : before;
		actions[i] = after("b", &refs[i], 1, JOB_AFTER_CANCEL);
	}
	commit = wh_await(store_apply(b->store, actions, LENGTH, 0, STORE_DEFAULT)).ptr;
	assert_int_equal(commit->error, 0);
	last = commit->results[LENGTH - 1].job;
	store_commit_free(commit);
	free(actions);
	free(refs);
	assert_int_equal(try(b, (struct store_action){.kind = STORE_CANCEL, .job = first}), 0);
	close_and_reopen(b); /* in the middle of it, or before it began: it goes on */
	await_state(b, last, JOB_CANCELLED);
	assert_int_equal(store_queue_now(b->store, text("b"), &v), 0);
	assert_int_equal(v.jobs[JOB_CANCELLED], LENGTH);
	assert_int_equal(v.cancelled, LENGTH);
	assert_int_equal(store_recount(b->store), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_fans, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ended_already, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_well, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reason, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_delay, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_told_to_go, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_policies, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_transaction, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_levels, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_chain, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
