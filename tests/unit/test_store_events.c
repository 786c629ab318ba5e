/* tests/unit/test_store_events.c -- events that are kept by the store: order, positions, waits, restarts, and how they go. */
#include "store_support.h"

#define QUEUE "topic/t"

/* count events and two jobs for each, one commit. */
static struct store_commit *publish(struct bench *b, size_t count, int level)
{
	struct store_action actions[30];
	struct store_commit *commit;
	wh_res res;

	assert_true(count <= 10);
	for (size_t i = 0; i < count; i++) {
		static const char *const queues[] = {QUEUE, "t/a", "t/b"};
		for (size_t j = 0; j < 3; j++) {
			struct store_action *a = &actions[3 * i + j];
			*a = submission(queues[j], "data");
			a->submit.headers = text("ce-id: 1\r\n");
			a->submit.event = (uint32_t)i + 1;
			a->submit.done = j == 0;
			a->submit.retention_ns = j == 0 ? 3600 * WH_NS_PER_S : 0;
		}
	}
	res = wh_await(store_apply(b->store, actions, 3 * count, 0, level));
	assert_int_equal(res.n, 0);
	commit = res.ptr;
	assert_int_equal(commit->error, 0);
	return commit;
}

static struct store_position nth(const struct store_commit *commit, uint64_t n)
{
	return (struct store_position){commit->position.epoch, commit->events_from + n};
}

static uint64_t next(struct bench *b, uint64_t after)
{
	return store_kept_next(b->store, text(QUEUE), after);
}

static void expect_position(struct bench *b, uint64_t job, struct store_position position)
{
	wh_res res = wh_await(store_payload(b->store, job, STORE_DEFAULT));
	struct store_bytes *bytes = res.ptr;

	assert_int_equal(res.n, 4);
	assert_int_equal(bytes->event.epoch, position.epoch);
	assert_true(bytes->event.lsn == position.lsn);
	assert_memory_equal(bytes->headers.data, "ce-id: 1\r\n", 10);
	store_bytes_unref(bytes);
}

static wh_res find(struct bench *b, uint32_t epoch, uint64_t lsn)
{
	return wh_await(store_kept_find(b->store, text(QUEUE), (struct store_position){epoch, lsn}));
}

static void kept(void **state)
{
	struct bench *b = *state;
	struct store_commit *one, *two;
	struct store_lot *lot;
	uint64_t id = 0;

	assert_int_equal(next(b, 0), 0);
	assert_int_equal(store_kept_last(b->store, text(QUEUE)), 0);
	one = publish(b, 3, STORE_DEFAULT);
	two = publish(b, 2, STORE_ASYNC);
	assert_true(one->events_from < nth(one, 3).lsn && nth(one, 3).lsn <= one->position.lsn);
	assert_true(one->position.lsn <= two->events_from);
	for (int i = 0; i < 5; i++) {
		struct store_commit *commit = i < 3 ? one : two;
		uint64_t n = (uint64_t)(i < 3 ? i : i - 3);

		id = next(b, id);
		assert_int_equal(id, commit->results[3 * n].job);
		assert_int_equal(commit->results[3 * n].state, JOB_DONE);
		assert_int_equal(store_state(b->store, id), JOB_DONE);
		expect_position(b, id, nth(commit, n + 1));
	}
	assert_int_equal(next(b, id), 0);
	assert_int_equal(store_kept_last(b->store, text(QUEUE)), id);
	assert_int_equal(store_kept_count(b->store, text(QUEUE), 0), 5);
	assert_int_equal(store_kept_count(b->store, text(QUEUE), one->results[3].job), 3);
	assert_null(reserve(b, QUEUE, 10));
	lot = reserve(b, "t/a", 10);
	assert_int_equal(lot->count, 5);
	for (size_t i = 0; i < 5; i++) {
		struct store_position p = i < 3 ? nth(one, i + 1) : nth(two, i - 2);
		assert_true(lot->jobs[i].payload->event.epoch == p.epoch &&
		            lot->jobs[i].payload->event.lsn == p.lsn);
	}
	store_lot_free(lot);
	assert_int_equal(store_recount(b->store), 0);
	store_commit_free(one);
	store_commit_free(two);
}

static void found(void **state)
{
	struct bench *b = *state;
	struct store_commit *commits[6];
	uint64_t jobs[6];
	wh_res res;

	for (int round = 0; round < 2; round++) {
		for (int i = 3 * round; i < 3 * round + 3; i++) {
			commits[i] = publish(b, 1, STORE_DEFAULT);
			jobs[i] = commits[i]->results[0].job;
		}
		if (round == 0)
			close_and_reopen(b);
	}
	assert_true(commits[0]->position.epoch < commits[5]->position.epoch);
	for (int i = 0; i < 6; i++) {
		struct store_position p = nth(commits[i], 1);

		res = find(b, p.epoch, p.lsn);
		assert_int_equal(res.n, jobs[i]);
		assert_null(res.ptr);
		res = find(b, p.epoch, p.lsn - 1);
		assert_int_equal(res.n, i > 0 ? jobs[i - 1] : 0);
		res = find(b, p.epoch, commits[i]->position.lsn);
		assert_int_equal(res.n, jobs[i]);
	}
	res = find(b, commits[5]->position.epoch, commits[5]->position.lsn + (1 << 20));
	assert_int_equal(res.n, -JOB_EVALUE);
	res = find(b, commits[5]->position.epoch + 1, 1);
	assert_int_equal(res.n, -JOB_EVALUE);
	res = wh_await(store_kept_find(b->store, text("topic/none"), nth(commits[5], 1)));
	assert_int_equal(res.n, 0);
	assert_null(res.ptr);
	/* the order after a start is the order before it */
	close_and_reopen(b);
	for (uint64_t i = 0, id = 0; i < 6; i++) {
		id = next(b, id);
		assert_int_equal(id, jobs[i]);
		expect_position(b, id, nth(commits[i], 1));
	}
	for (int i = 0; i < 6; i++)
		store_commit_free(commits[i]);
}

static void gone(void **state)
{
	struct bench *b = *state;
	struct store_action queue = {.kind = STORE_QUEUE_PUT,
	                             .queue = {.name = text(QUEUE), .config = {.finished_max = 3}}};
	struct store_commit *commits[8];
	wh_res res;

	assert_int_equal(try(b, queue), 0);
	for (int i = 0; i < 8; i++)
		commits[i] = publish(b, 1, STORE_DEFAULT);
	while (store_kept_count(b->store, text(QUEUE), 0) > 3)
		assert_true(wh_loop_turn(b->loop, -1) >= 0);
	assert_int_equal(next(b, 0), commits[5]->results[0].job);
	/* what is kept, and the last that is not, go on without a gap; from before that there is one */
	for (int i = 0; i < 8; i++) {
		struct store_position p = nth(commits[i], 1);

		res = find(b, p.epoch, p.lsn);
		assert_int_equal(res.n, i >= 5 ? commits[i]->results[0].job : 0);
		assert_int_equal(res.ptr != NULL, i < 4);
	}
	close_and_reopen(b);
	res = find(b, commits[4]->position.epoch, nth(commits[4], 1).lsn);
	assert_non_null(res.ptr); /* nobody knows any more */
	res = find(b, commits[5]->position.epoch, nth(commits[5], 1).lsn);
	assert_null(res.ptr);
	assert_int_equal(res.n, commits[5]->results[0].job);
	for (int i = 0; i < 8; i++)
		store_commit_free(commits[i]);
}

static void waited_for(void **state)
{
	struct bench *b = *state;
	wh_future first = store_kept_wait(b->store, text(QUEUE), 0), second, never;
	struct store_commit *commit;
	uint64_t id;
	wh_res res;

	assert_false(wh_poll(first, &res));
	commit = publish(b, 1, STORE_DEFAULT);
	id = commit->results[0].job;
	store_commit_free(commit);
	assert_int_equal(wh_await(first).n, 0);
	assert_int_equal(wh_await(store_kept_wait(b->store, text(QUEUE), id - 1)).n, 0);
	second = store_kept_wait(b->store, text(QUEUE), id);
	never = store_kept_wait(b->store, text("topic/other"), 0);
	store_commit_free(publish(b, 2, STORE_ASYNC));
	assert_int_equal(wh_await(second).n, 0);
	assert_false(wh_poll(never, &res));
	wh_cancel(never);
	assert_int_equal(wh_await(never).n, -ECANCELED);
	(void)res;
}

/* A queue that is full refuses all of it, and settings may be part of it. */
static void whole_or_not(void **state)
{
	struct bench *b = *state;
	struct store_action queue = {.kind = STORE_QUEUE_PUT,
	                             .queue = {.name = text("t/a"), .config = {.jobs_max = 1}}};
	struct store_action actions[3] = {
		submission(QUEUE, "data"), submission("t/a", "data"), {.kind = STORE_SETTING_PUT}};
	struct store_commit *commit;
	struct store_settings *settings;
	wh_res res;

	actions[0].submit.done = true;
	actions[0].submit.event = actions[1].submit.event = 1;
	actions[2].setting.key = text("x");
	actions[2].setting.value = text("1");
	assert_int_equal(try(b, queue), 0);
	for (int i = 0; i < 2; i++) {
		res = wh_await(store_apply(b->store, actions, 3, 0, STORE_DEFAULT));
		assert_int_equal(res.n, 0);
		commit = res.ptr;
		assert_int_equal(commit->error, i == 0 ? 0 : -JOB_EQUEUE_FULL);
		assert_int_equal(commit->failed, i);
		store_commit_free(commit);
		actions[2].setting.value = text("2");
	}
	assert_int_equal(store_kept_count(b->store, text(QUEUE), 0), 1);
	res = wh_await(store_settings(b->store, text("x")));
	settings = res.ptr;
	assert_int_equal(settings->count, 1);
	assert_memory_equal(settings->settings[0].value.data, "1", 1);
	store_settings_free(settings);
	actions[0].submit.buried = true;
	assert_int_equal(try(b, actions[0]), -JOB_EVALUE);
	assert_int_equal(store_recount(b->store), 0);
}

/* Many, with compaction and restarts in between: each is where it was, and reads as it did. */
static void many(void **state)
{
	struct bench *b = *state;
	struct store_position *positions = calloc(3000, sizeof(*positions));
	uint64_t *jobs = calloc(3000, sizeof(*jobs)), id = 0;
	int count = 0;

	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 100; i++) {
			struct store_commit *commit = publish(b, 10, i % 3 ? STORE_ASYNC : STORE_LOCAL);

			for (uint64_t n = 1; n <= 10; n++) {
				jobs[count] = commit->results[3 * (n - 1)].job;
				positions[count++] = nth(commit, n);
			}
			store_commit_free(commit);
		}
		close_and_reopen(b);
	}
	for (int i = 0; i < count; i++) {
		id = next(b, id);
		assert_int_equal(id, jobs[i]);
		if (i % 97 == 0) {
			expect_position(b, id, positions[i]);
			assert_int_equal(find(b, positions[i].epoch, positions[i].lsn).n, id);
		}
	}
	assert_int_equal(next(b, id), 0);
	assert_int_equal(store_recount(b->store), 0);
	free(positions);
	free(jobs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(found, set_up, tear_down),
		cmocka_unit_test_setup_teardown(gone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(waited_for, set_up, tear_down),
		cmocka_unit_test_setup_teardown(whole_or_not, set_up, tear_down),
		cmocka_unit_test_setup_teardown(many, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
