/* tests/unit/test_store_replay.c -- jobs called back and moved, many at a time, in the embedded store on a real disk: from failure, from burial,
 * from where the dead go; chosen by state, id, error and time; what they are then, and after a restart, a checkpoint and compaction.
 */
#include "store_support.h"

#define BIT(state) (1u << (state))

static void configure(struct bench *b, const char *name, uint32_t attempts, const char *dead_letter)
{
	struct store_action put = {
		.kind = STORE_QUEUE_PUT,
		.queue = {.name = text(name),
	                  .config = {.attempts_max = attempts, .backoffs = 1, .backoff_list_ms = {0}},
	                  .dead_letter = text(dead_letter ? dead_letter : "")}};

	assert_int_equal(try(b, put), 0);
}

static uint64_t in_state(struct bench *b, const char *queue, int state)
{
	struct store_queue_view view;

	assert_int_equal(store_queue_now(b->store, text(queue), &view), 0);
	return view.jobs[state];
}

static int64_t many(struct bench *b, struct store_many what)
{
	wh_res res = wh_await(store_do_many(b->store, &what));
	int64_t count = res.n;

	if (res.n < 0)
		return count;
	count = (int64_t)((struct store_commit *)res.ptr)->results[0].count;
	store_commit_free(res.ptr);
	return count;
}

static struct store_view *look(struct bench *b, uint64_t id)
{
	wh_res res = wh_await(store_get(b->store, id, STORE_DEFAULT));

	assert_true(res.n > 0);
	return res.ptr;
}

/* Its next attempt fails with these words. */
static void fail_next(struct bench *b, const char *queue, const char *words, bool for_good)
{
	struct store_action a = with_lease(STORE_FAIL, reserve_one(b, queue));

	assert_true(a.job > 0);
	a.fail.error = text(words);
	a.fail.no_retry = for_good;
	a.fail.delay_set = true;
	assert_int_equal(try(b, a), 0);
}

static struct store_many of(int kind, const char *queue)
{
	return (struct store_many){.kind = kind, .queue = text(queue)};
}

/* A failed job is the one that it was, but for its attempts. */
static void test_failed(void **state)
{
	struct bench *b = *state;
	struct store_action action = submission("q", "hello");
	struct store_commit *commit;
	struct store_view *v;
	struct store_bytes *payload;
	uint64_t id;
	wh_res res;

	action.submit.headers = text("X-A: b\r\n");
	action.submit.attempts_max = 2;
	action.submit.time_to_run_ns = 90 * WH_NS_PER_S;
	action.submit.retention_ns = 7200 * WH_NS_PER_S;
	action.submit.group = text("g");
	action.submit.unique = text("u");
	action.submit.priority = 7;
	commit = apply(b, action, STORE_DEFAULT);
	id = commit->results[0].job;
	store_commit_free(commit);
	fail_next(b, "q", "first", false);
	fail_next(b, "q", "second", false);
	assert_int_equal(state_of(b, id), JOB_FAILED);
	for (int round = 0; round < 3; round++) { /* from memory, from a checkpoint, as it is now */
		if (round > 0)
			close_and_reopen(b);
		if (round < 2)
			assert_int_equal(many(b, of(STORE_REPLAY, "q")), 1);
		v = look(b, id);
		assert_true(v->state == JOB_READY && v->attempts == 0 && v->priority == 7);
		assert_true(v->attempts_max == 2 && v->time_to_run_ns == 90 * WH_NS_PER_S);
		assert_int_equal(v->retention_ns, 7200 * WH_NS_PER_S);
		assert_true(v->group.len == 1 && v->unique.len == 1);
		assert_int_equal(v->errors_count, round == 0 ? 2 : 3);
		assert_memory_equal(v->errors[0].text.data, "first", 5);
		assert_memory_equal(v->errors[1].text.data, "second", 6);
		assert_int_equal(v->errors[1].attempt, 2);
		store_view_free(v);
		res = wh_await(store_payload(b->store, id, STORE_DEFAULT));
		assert_int_equal(res.n, 5);
		payload = res.ptr;
		assert_memory_equal(payload->body.data, "hello", 5);
		assert_memory_equal(payload->headers.data, "X-A: b", 6);
		store_bytes_unref(payload);
		commit = apply(b, action, STORE_DEFAULT); /* it has its key */
		assert_true(commit->results[0].duplicate && commit->results[0].job == id);
		store_commit_free(commit);
		assert_int_equal(store_recount(b->store), 0);
		if (round == 0)
			fail_next(b, "q", "third", true);
		if (round == 1)
			assert_int_equal(many(b, of(STORE_REPLAY, "q")), 0); /* done once */
	}
	assert_int_equal(in_state(b, "q", JOB_READY), 1);
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, reserve_one(b, "q"))), 0);
	assert_int_equal(state_of(b, id), JOB_DONE);
	assert_int_equal(store_recount(b->store), 0);
}

/* A key that somebody has in the meantime stays his. */
static void test_key_taken(void **state)
{
	struct bench *b = *state;
	struct store_action action = submission("q", "x");
	struct store_commit *commit;

	action.submit.unique = text("u");
	assert_int_equal(try(b, action), 0);
	fail_next(b, "q", "no", true);
	assert_int_equal(try(b, action), 0);
	assert_int_equal(many(b, of(STORE_REPLAY, "q")), 1);
	commit = apply(b, action, STORE_DEFAULT);
	assert_true(commit->results[0].duplicate && commit->results[0].job == 2);
	store_commit_free(commit);
	assert_int_equal(in_state(b, "q", JOB_READY), 2);
	assert_int_equal(store_recount(b->store), 0);
	close_and_reopen(b);
	assert_int_equal(store_recount(b->store), 0);
}

/* Dead ones go back where they became dead; buried ones are ready; others are left alone. */
static void test_dead_and_buried(void **state)
{
	struct bench *b = *state;
	struct store_many what = of(STORE_REPLAY, "dead");
	struct store_view *v;
	uint64_t ids[4];

	configure(b, "mail", 1, "dead");
	for (int i = 0; i < 3; i++) {
		ids[i] = submit(b, "mail", "x");
		fail_next(b, "mail", i == 1 ? "refused by peer" : "timeout", false);
	}
	ids[3] = submit(b, "dead", "its own");
	assert_int_equal(in_state(b, "dead", JOB_READY), 4);
	what.error = text("refused");
	assert_int_equal(many(b, what), 1);
	v = look(b, ids[1]);
	assert_true(v->state == JOB_READY && v->queue.len == 4 && v->dead_from.len == 0 &&
	            v->errors_count == 1);
	assert_memory_equal(v->queue.data, "mail", 4);
	store_view_free(v);
	assert_int_equal(try(b, with_lease(STORE_BURY, reserve_one(b, "dead"))), 0); /* the first */
	assert_int_equal(many(b, of(STORE_REPLAY, "dead")), 2);
	assert_int_equal(in_state(b, "mail", JOB_READY), 3);
	assert_int_equal(in_state(b, "dead", JOB_READY), 1);
	assert_int_equal(many(b, of(STORE_REPLAY, "dead")), 0);
	assert_int_equal(try(b, with_lease(STORE_BURY, reserve_one(b, "mail"))), 0);
	assert_int_equal(many(b, of(STORE_REPLAY, "mail")), 1);
	v = look(b, ids[0]);
	assert_true(v->state == JOB_READY && v->attempts == 0 && v->kicks == 2);
	store_view_free(v);
	close_and_reopen(b);
	assert_int_equal(in_state(b, "mail", JOB_READY), 3);
	assert_int_equal(store_recount(b->store), 0);
}

static void test_move(void **state)
{
	struct bench *b = *state;
	struct store_many move = {.kind = STORE_MOVE, .queue = text("a"), .to = text("b")};
	struct store_action later = submission("a", "later");
	struct store_view *v;
	uint64_t ready = submit(b, "a", "x"), buried, delayed, ids[2];
	struct store_commit *commit;
	wh_future waiting;
	wh_res res;

	fail_next(b, "a", "once", false);
	buried = submit(b, "a", "y");
	later.submit.delay_ns = 3600 * WH_NS_PER_S;
	commit = apply(b, later, STORE_DEFAULT);
	delayed = commit->results[0].job;
	store_commit_free(commit);
	{
		struct store_slice name = text("a");
		struct store_reserve one = {.queues = &name, .queues_count = 1, .job = buried};
		struct store_lot *lot = wh_await(store_reserve(b->store, &one)).ptr;

		assert_int_equal(try(b, with_lease(STORE_BURY, lot->jobs[0])), 0);
		store_lot_free(lot);
	}
	ids[0] = delayed;
	ids[1] = 99999;
	move.ids = ids;
	move.ids_count = 2;
	assert_int_equal(many(b, move), 1); /* the queue is made */
	move.ids_count = 0;
	submit(b, "b", "there before");
	waiting = reserve_start(b, "b", 5, true);
	store_lot_free(wh_await(waiting).ptr);
	waiting = reserve_start(b, "b", 1, true);
	assert_false(wh_done(waiting));
	assert_int_equal(many(b, move), 2);
	res = wh_await(waiting); /* who waits there is served */
	assert_int_equal(res.n, 1);
	assert_int_equal(((struct store_lot *)res.ptr)->jobs[0].job, ready);
	assert_int_equal(((struct store_lot *)res.ptr)->jobs[0].attempt, 2);
	store_lot_free(res.ptr);
	assert_int_equal(many(b, move), 0);
	close_and_reopen(b);
	assert_int_equal(in_state(b, "b", JOB_DELAYED), 1);
	assert_int_equal(in_state(b, "b", JOB_BURIED), 1);
	assert_int_equal(in_state(b, "a", JOB_READY) + in_state(b, "a", JOB_BURIED) +
	                         in_state(b, "a", JOB_DELAYED),
	                 0);
	v = look(b, ready);
	assert_true(v->errors_count == 1 && v->queue.len == 1 && *(const char *)v->queue.data == 'b');
	store_view_free(v);
	assert_int_equal(store_recount(b->store), 0);
	move.to = text("a");
	assert_int_equal(many(b, move), -JOB_EVALUE);
	move.to = text("");
	assert_int_equal(many(b, move), -JOB_EVALUE);
	move.to = text("-bad");
	assert_int_equal(many(b, move), -JOB_EVALUE);
	move.to = text("c");
	move.queue = text("nowhere");
	assert_int_equal(many(b, move), -JOB_EUNKNOWN_QUEUE);
	move.queue = text("a");
	move.states = BIT(JOB_FAILED);
	assert_int_equal(many(b, move), -JOB_EVALUE);
	move.kind = STORE_CANCEL;
	move.states = BIT(JOB_READY);
	assert_int_equal(many(b, move), -JOB_EVALUE); /* to means nothing there */
}

/* Choosing by what must be read, in every kind of operation. */
static void test_choices(void **state)
{
	struct bench *b = *state;
	struct store_many what = of(STORE_DELETE, "q");
	struct store_list *list;
	wh_res res;

	configure(b, "q", 1, NULL);
	for (int i = 0; i < 300; i++) {
		submit(b, "q", "x");
		fail_next(b, "q", i % 3 == 0 ? "connection refused" : "bad gateway", false);
	}
	for (int i = 0; i < 20; i++)
		submit(b, "q", "waits");
	what.states = BIT(JOB_FAILED);
	what.error = text("refused");
	what.count_max = 10;
	assert_int_equal(many(b, what), 10);
	what.count_max = 0;
	what.older_ns = 3600 * WH_NS_PER_S;
	assert_int_equal(many(b, what), 0);
	what.older_ns = 0;
	what.newer_ns = 3600 * WH_NS_PER_S;
	what.id_max = 150;
	assert_int_equal(many(b, what), 40);
	what.error = text("");
	what.id_max = 0;
	what.states = BIT(JOB_FAILED) | BIT(JOB_READY);
	res = wh_await(store_list_some(b->store, &what, 0, 1000));
	list = res.ptr;
	assert_int_equal(res.n, 270);
	assert_int_equal(list->next, 0);
	store_list_free(list);
	what.error = text("refused");
	res = wh_await(store_list_some(b->store, &what, 0, 20));
	list = res.ptr;
	assert_int_equal(res.n, 20);
	what.count_max = 0;
	res = wh_await(store_list_some(b->store, &what, list->next, 1000));
	store_list_free(list);
	assert_int_equal(res.n, 30); /* the page after it */
	store_list_free(res.ptr);
	what.kind = STORE_CANCEL;
	what.states = BIT(JOB_READY);
	assert_int_equal(many(b, what), 0); /* no errors, so none with these words */
	what.error = text("");
	assert_int_equal(many(b, what), 20); /* submitted just now */
	what.kind = STORE_REPLAY;
	what.states = 0;
	what.error = text("gateway");
	assert_int_equal(many(b, what), 200);
	assert_int_equal(in_state(b, "q", JOB_READY), 200);
	assert_int_equal(in_state(b, "q", JOB_FAILED), 50);
	what.to = text("other");
	what.error = text("");
	what.newer_ns = 0;
	assert_int_equal(many(b, what), 50);
	assert_int_equal(in_state(b, "other", JOB_READY), 50);
	what.ids_count = STORE_MANY_IDS_MAX + 1;
	assert_int_equal(many(b, what), -JOB_EVALUE);
	assert_int_equal(store_recount(b->store), 0);
	close_and_reopen(b);
	assert_int_equal(in_state(b, "q", JOB_READY), 200);
	assert_int_equal(in_state(b, "other", JOB_READY), 50);
	assert_int_equal(store_recount(b->store), 0);
}

/* It has come to its end, or is broken off. */
static void give_up(wh_future f)
{
	wh_res res = wh_await(f);

	assert_true(res.n == 0 || res.n == -ECANCELED);
	if (res.n == 0)
		store_commit_free(res.ptr);
}

/* Others are served meanwhile, the end of the store and who gives up stop it, and doing it again does the rest. */
static void test_in_steps(void **state)
{
	struct bench *b = *state;
	struct store_many replay = of(STORE_REPLAY, "q"), move = of(STORE_MOVE, "q");
	struct store_submit options = {.queue = text("q")};
	static struct store_slice payloads[10000];
	uint64_t done, later;
	wh_future f;
	wh_res res;

	b->options.recent_bytes = 64 << 10; /* most is read from the disk */
	configure(b, "q", 1, NULL);
	close_and_reopen(b);
	res = wh_await(store_submit_many(b->store, &options, payloads, 3000, STORE_LOCAL));
	store_commit_free(res.ptr);
	for (int i = 0; i < 15; i++) {
		struct store_lot *lot = reserve(b, "q", 200);
		struct store_action fails[200];

		for (size_t k = 0; k < lot->count; k++)
			fails[k] = with_lease(STORE_FAIL, lot->jobs[k]);
		res = wh_await(store_apply(b->store, fails, lot->count, 0, STORE_LOCAL));
		assert_int_equal(((struct store_commit *)res.ptr)->error, 0);
		store_commit_free(res.ptr);
		store_lot_free(lot);
	}
	assert_int_equal(in_state(b, "q", JOB_FAILED), 3000);
	f = store_do_many(b->store, &replay);
	while (in_state(b, "q", JOB_READY) == 0)
		assert_true(wh_loop_turn(b->loop, -1) >= 0);
	wh_cancel(f);
	give_up(f);
	submit(b, "other", "x");
	done = in_state(b, "q", JOB_READY);
	assert_true(done > 0);
	f = store_do_many(b->store, &replay);
	assert_int_equal(store_close(b->store), 0);
	give_up(f);
	reopen(b);
	done = in_state(b, "q", JOB_READY);
	assert_int_equal(many(b, replay), 3000 - done);
	assert_int_equal(in_state(b, "q", JOB_READY), 3000);
	move.to = text("z");
	f = store_do_many(b->store, &move);
	later = submit(b, "q", "later");
	res = wh_await(f);
	assert_int_equal(((struct store_commit *)res.ptr)->results[0].count, 3000);
	store_commit_free(res.ptr);
	assert_int_equal(store_state(b->store, later), JOB_READY);
	assert_int_equal(in_state(b, "q", JOB_READY), 1);
	assert_int_equal(store_recount(b->store), 0);
	close_and_reopen(b);
	assert_int_equal(in_state(b, "z", JOB_READY), 3000);
	assert_int_equal(store_recount(b->store), 0);
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {ONE(test_failed), ONE(test_key_taken), ONE(test_dead_and_buried),
	                                   ONE(test_move),   ONE(test_choices),   ONE(test_in_steps)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
