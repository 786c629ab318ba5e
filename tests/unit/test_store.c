/* tests/unit/test_store.c -- the embedded store on a real disk: what every call of store.h promises. */
#include "store_support.h"

static void test_life(void **state)
{
	struct bench *b = *state;
	uint64_t id = submit(b, "mail", "hello");
	struct store_lot *lot = reserve(b, "mail", 10);
	struct store_leased job;
	struct store_action done;
	struct store_bytes *bytes;
	struct store_view *v;
	wh_res res;

	assert_non_null(lot);
	assert_int_equal(lot->count, 1);
	job = lot->jobs[0];
	assert_int_equal(job.job, id);
	assert_int_equal(job.attempt, 1);
	assert_int_equal(job.attempts_max, 5);
	assert_int_equal(job.payload->body.len, 5);
	assert_memory_equal(job.payload->body.data, "hello", 5);
	assert_memory_equal(job.payload->content_type.data, "text/plain", 10);
	assert_int_equal(job.queue.len, 4);
	assert_null(reserve(b, "mail", 1));
	assert_int_equal(wh_await(store_result(b->store, id, STORE_DEFAULT)).n, -JOB_ENOT_READY);
	done = with_lease(STORE_COMPLETE, job);
	done.complete.bytes = text("world");
	done.complete.content_type = text("text/html");
	done.complete.headers = text("X-A: b");
	done.complete.status = 201;
	store_lot_free(lot);
	assert_int_equal(try(b, done), 0);
	assert_int_equal(try(b, done), -JOB_ELEASE_LOST);
	for (int round = 0; round < 2; round++) {
		res = wh_await(store_get(b->store, id, STORE_DEFAULT));
		assert_int_equal(res.n, JOB_DONE);
		v = res.ptr;
		assert_int_equal(v->attempts, 1);
		assert_int_equal(v->result_status, 201);
		assert_int_equal(v->result_bytes, 5);
		assert_int_equal(v->payload_bytes, 5);
		assert_int_equal(v->queue.len, 4);
		assert_memory_equal(v->queue.data, "mail", 4);
		assert_memory_equal(v->content_type.data, "text/plain", 10);
		assert_memory_equal(v->result_content_type.data, "text/html", 9);
		assert_true(v->created_at > 0 && v->finished_at >= v->created_at &&
		            v->expires_at > v->finished_at);
		assert_int_equal(v->time_to_run_ns, 60 * WH_NS_PER_S);
		store_view_free(v);
		res = wh_await(store_result(b->store, id, STORE_DEFAULT));
		assert_int_equal(res.n, 5);
		bytes = res.ptr;
		assert_memory_equal(bytes->body.data, "world", 5);
		assert_memory_equal(bytes->headers.data, "X-A: b", 6);
		assert_int_equal(bytes->status, 201);
		store_bytes_unref(bytes);
		res = wh_await(store_payload(b->store, id, STORE_DEFAULT));
		assert_int_equal(res.n, 5);
		store_bytes_unref(res.ptr);
		close_and_reopen(b); /* then from disk */
	}
	assert_int_equal(store_recount(b->store), 0);
	assert_int_equal(wh_await(store_get(b->store, id + 1, STORE_DEFAULT)).n, -JOB_EUNKNOWN_JOB);
	assert_int_equal(submit(b, "mail", "next"), id + 1);
}

static void test_retry_and_fail(void **state)
{
	struct bench *b = *state;
	struct store_action a = submission("work", "x"), failing;
	struct store_commit *commit;
	struct store_view *v;
	uint64_t id;
	wh_res res;

	a.submit.attempts_max = 2;
	commit = apply(b, a, STORE_DEFAULT);
	id = commit->results[0].job;
	store_commit_free(commit);
	failing = with_lease(STORE_FAIL, reserve_one(b, "work"));
	failing.fail.error = text("first");
	failing.fail.delay_set = true;
	commit = apply(b, failing, STORE_DEFAULT);
	assert_int_equal(commit->results[0].state, JOB_READY);
	store_commit_free(commit);
	failing = with_lease(STORE_FAIL, reserve_one(b, "work"));
	failing.fail.error = text("second");
	commit = apply(b, failing, STORE_DEFAULT);
	assert_int_equal(commit->results[0].state, JOB_FAILED);
	store_commit_free(commit);
	for (int round = 0; round < 2; round++) {
		res = wh_await(store_get(b->store, id, STORE_DEFAULT));
		assert_int_equal(res.n, JOB_FAILED);
		v = res.ptr;
		assert_int_equal(v->attempts, 2);
		assert_int_equal(v->attempts_max, 2);
		assert_int_equal(v->errors_count, 2);
		assert_memory_equal(v->errors[0].text.data, "first", 5);
		assert_memory_equal(v->errors[1].text.data, "second", 6);
		assert_int_equal(v->errors[0].attempt, 1);
		assert_int_equal(v->errors[1].attempt, 2);
		store_view_free(v);
		assert_int_equal(wh_await(store_result(b->store, id, STORE_DEFAULT)).n, -JOB_ENO_RESULT);
		close_and_reopen(b);
	}
}

static void test_transaction(void **state)
{
	struct bench *b = *state;
	struct store_commit *commit;
	struct store_leased job;
	wh_res res;

	submit(b, "a", "1");
	job = reserve_one(b, "a");
	struct store_action actions[3] = {
		with_lease(STORE_COMPLETE, job), submission("b", "2"), {.kind = STORE_CANCEL, .job = 999}};
	res = wh_await(store_apply(b->store, actions, 3, 0, STORE_DEFAULT));
	commit = res.ptr;
	assert_int_equal(commit->error, -JOB_EUNKNOWN_JOB);
	assert_int_equal(commit->failed, 2);
	assert_non_null(commit->reason);
	assert_int_equal(commit->results[0].error, -JOB_EIN_GROUP);
	store_commit_free(commit);
	assert_int_equal(state_of(b, job.job), JOB_RUNNING);
	assert_null(reserve(b, "b", 1));
	actions[2] = actions[0];
	res = wh_await(store_apply(b->store, actions, 3, 0, STORE_DEFAULT));
	commit = res.ptr;
	assert_int_equal(commit->error, -JOB_ETWICE);
	assert_int_equal(commit->failed, 2);
	store_commit_free(commit);
	res = wh_await(store_apply(b->store, actions, 2, 0, STORE_DEFAULT));
	commit = res.ptr;
	assert_int_equal(commit->error, 0);
	assert_int_equal(commit->level, STORE_LOCAL);
	assert_int_equal(commit->results[0].state, JOB_DONE);
	assert_int_equal(commit->results[1].state, JOB_READY);
	store_commit_free(commit);
	/* each for itself */
	actions[0] = (struct store_action){.kind = STORE_CANCEL, .job = 999};
	actions[1] = submission("b", "3");
	res = wh_await(store_apply(b->store, actions, 2, STORE_EACH, STORE_DEFAULT));
	commit = res.ptr;
	assert_int_equal(commit->results[0].error, -JOB_EUNKNOWN_JOB);
	assert_int_equal(commit->results[1].error, 0);
	store_commit_free(commit);
	assert_int_equal(store_recount(b->store), 0);
}

static void test_wait_parks(void **state)
{
	struct bench *b = *state;
	wh_future first = reserve_start(b, "q", 1, true), second = reserve_start(b, "q", 1, true), gone,
		  third;
	struct store_lot *lot;
	uint64_t id;
	wh_res res;

	assert_false(wh_done(first));
	id = submit(b, "q", "1");
	res = wh_await(first);
	assert_int_equal(res.n, 1);
	lot = res.ptr;
	assert_int_equal(lot->jobs[0].job, id);
	store_lot_free(lot);
	assert_false(wh_done(second));
	wh_cancel(second);
	assert_int_equal(wh_await(second).n, -ECANCELED);
	id = submit(b, "q", "2");
	assert_int_equal(reserve_one(b, "q").job, id);
	/* granted, never consumed: released by itself */
	id = submit(b, "q", "3");
	gone = reserve_start(b, "q", 1, true);
	third = reserve_start(b, "q", 1, true);
	assert_int_equal(wh_drop(gone), 0);
	res = wh_await(third);
	assert_int_equal(res.n, 1);
	lot = res.ptr;
	assert_int_equal(lot->jobs[0].job, id);
	assert_int_equal(lot->jobs[0].attempt, 1);
	store_lot_free(lot);
}

static void test_wait_for_job(void **state)
{
	struct bench *b = *state;
	uint64_t id = submit(b, "q", "1");
	wh_future waits[50];
	struct store_leased job;

	for (int i = 0; i < 50; i++)
		waits[i] = store_wait(b->store, id, STORE_WAIT_FINISHED, 0, STORE_DEFAULT);
	job = reserve_one(b, "q");
	assert_false(wh_done(waits[0]));
	wh_cancel(waits[7]);
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, job)), 0);
	for (int i = 0; i < 50; i++)
		assert_int_equal(wh_await(waits[i]).n, i == 7 ? -ECANCELED : JOB_DONE);
	assert_int_equal(wh_await(store_wait(b->store, id, STORE_WAIT_FINISHED, 0, STORE_DEFAULT)).n,
	                 JOB_DONE);
	assert_int_equal(wh_await(store_wait(b->store, 12345, STORE_WAIT_FINISHED, 0, STORE_DEFAULT)).n,
	                 -JOB_EUNKNOWN_JOB);
}

static void test_cancel(void **state)
{
	struct bench *b = *state;
	uint64_t id = submit(b, "q", "1");
	struct store_leased job;

	assert_int_equal(try(b, (struct store_action){.kind = STORE_CANCEL, .job = id}), 0);
	assert_int_equal(state_of(b, id), JOB_CANCELLED);
	assert_int_equal(try(b, (struct store_action){.kind = STORE_CANCEL, .job = id}), -JOB_EFINISHED);
	id = submit(b, "q", "2");
	job = reserve_one(b, "q");
	assert_int_equal(try(b, (struct store_action){.kind = STORE_CANCEL, .job = id}), 0);
	assert_int_equal(state_of(b, id), JOB_RUNNING);
	assert_int_equal(try(b, with_lease(STORE_EXTEND, job)), -JOB_ECANCELLED);
	assert_int_equal(state_of(b, id), JOB_CANCELLED);
}

static void test_time(void **state)
{
	struct bench *b = *state;
	struct store_action a = submission("q", "1");
	struct store_lot *lot;
	struct store_commit *commit;
	struct store_leased job;
	uint64_t id;
	wh_res res;

	a.submit.delay_ns = 50 * WH_NS_PER_MS;
	a.submit.time_to_run_ns = 40 * WH_NS_PER_MS;
	a.submit.retention_ns = 30 * WH_NS_PER_MS;
	a.submit.attempts_max = 2;
	commit = apply(b, a, STORE_DEFAULT);
	id = commit->results[0].job;
	assert_int_equal(commit->results[0].state, JOB_DELAYED);
	store_commit_free(commit);
	assert_null(reserve(b, "q", 1));
	res = wh_await(reserve_start(b, "q", 1, true));
	lot = res.ptr;
	assert_int_equal(lot->jobs[0].job, id);
	job = lot->jobs[0];
	store_lot_free(lot);
	/* the lease passes: ready again, then failed, then forgotten */
	res = wh_await(reserve_start(b, "q", 1, true));
	lot = res.ptr;
	assert_int_equal(lot->jobs[0].attempt, 2);
	store_lot_free(lot);
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, job)), -JOB_ELEASE_LOST);
	assert_int_equal(wh_await(store_wait(b->store, id, STORE_WAIT_FINISHED, 0, STORE_DEFAULT)).n,
	                 JOB_FAILED);
	for (;;) {
		res = wh_await(store_get(b->store, id, STORE_DEFAULT));
		if (res.n < 0)
			break;
		store_view_free(res.ptr);
		wh_await(wh_sleep(b->loop, WH_NS_PER_MS));
	}
	assert_int_equal(res.n, -JOB_EEXPIRED);
	assert_int_equal(store_recount(b->store), 0);
}

/* Of one size and of others, more than there is room for at first, refused in between: each is what was put last. */
static void test_settings_in_one_commit(void **state)
{
	enum { COUNT = 50 };
	struct bench *b = *state;
	struct store_action actions[COUNT + 1] = {0};
	char keys[COUNT][8], values[COUNT][8];
	struct store_settings *all;
	struct store_commit *commit;
	wh_res res;

	for (int round = 0; round < 4; round++) {
		size_t count = COUNT;

		for (int i = 0; i < COUNT; i++) {
			bool removed = round == 2 && i % 2;

			snprintf(keys[i], sizeof(keys[i]), "k%02d", i);
			snprintf(values[i], sizeof(values[i]), "%d", i % 3 ? round : round * 100);
			actions[i] = (struct store_action){.kind = removed ? STORE_SETTING_DELETE
			                                                   : STORE_SETTING_PUT,
			                                   .setting = {text(keys[i]), text(values[i])}};
		}
		if (round == 1) /* nothing of it is done */
			actions[count++] = (struct store_action){.kind = STORE_SETTING_DELETE,
			                                         .setting = {.key = text("none")}};
		res = wh_await(store_apply(b->store, actions, count, 0, STORE_LOCAL));
		commit = res.ptr;
		assert_int_equal(commit->error, round == 1 ? -JOB_EUNKNOWN_SETTING : 0);
		store_commit_free(commit);
		if (round % 2)
			close_and_reopen(b);
		res = wh_await(store_settings(b->store, text("k")));
		all = res.ptr;
		assert_int_equal(all->count, round == 2 ? COUNT / 2 : COUNT);
		for (size_t i = 0; i < all->count; i++) {
			const char *key = all->settings[i].key.data;
			int number = (key[1] - '0') * 10 + key[2] - '0', put = round == 1 ? 0 : round;

			snprintf(values[0], sizeof(values[0]), "%d", number % 3 ? put : put * 100);
			assert_int_equal(all->settings[i].value.len, strlen(values[0]));
			assert_memory_equal(all->settings[i].value.data, values[0], strlen(values[0]));
		}
		store_settings_free(all);
	}
}

/* Put only in place of what it was: told as of when its turn comes, whatever is under way; parked or not. */
static void test_settings_in_place(void **state)
{
	struct bench *b = *state;
	struct store_action first = {.kind = STORE_SETTING_PUT, .setting = {text("place"), text("one"), {0}}},
			    second = {.kind = STORE_SETTING_PUT,
	                              .setting = {text("place"), text("two"), text("one")}},
			    third = {.kind = STORE_SETTING_PUT,
	                             .setting = {text("place"), text("three"), text("one")}};
	struct store_action none = {.kind = STORE_SETTING_PUT,
	                            .setting = {text("nowhere"), text("x"), text("")}};
	static const int32_t errors[] = {0, 0, -JOB_EVERSION, -JOB_EVERSION};
	struct store_slice now;
	wh_future all[4];

	assert_false(store_setting_now(b->store, text("place"), &now));
	all[0] = store_apply(b->store, &first, 1, 0, STORE_LOCAL);
	assert_true(store_setting_now(b->store, text("place"), &now));
	assert_true(now.len == 3 && memcmp(now.data, "one", 3) == 0);
	all[1] = store_apply(b->store, &second, 1, 0, STORE_LOCAL);
	all[2] = store_apply(b->store, &third, 1, 0, STORE_LOCAL);
	all[3] = store_apply(b->store, &none, 1, 0, STORE_LOCAL);
	for (int i = 0; i < 4; i++) {
		wh_res res = wh_await(all[i]);
		struct store_commit *commit = res.ptr;

		assert_true(res.n >= 0);
		assert_int_equal(commit->error, errors[i]);
		store_commit_free(commit);
	}
	assert_true(store_setting_now(b->store, text("place"), &now));
	assert_true(now.len == 3 && memcmp(now.data, "two", 3) == 0);
	assert_false(store_setting_now(b->store, text("nowhere"), &now));
}

static void test_settings_and_queues(void **state)
{
	struct bench *b = *state;
	struct store_action put = {.kind = STORE_SETTING_PUT, .setting = {text("service/a"), text("{}")}};
	struct store_action config = {.kind = STORE_QUEUE_PUT,
	                              .queue = {.name = text("lim"), .config = {.jobs_max = 1}}};
	struct store_settings *all;
	struct store_queues *queues;
	struct store_commit *commit;
	wh_res res;

	commit = apply(b, put, STORE_ASYNC);
	assert_true(commit->results[0].created);
	assert_int_equal(commit->level, STORE_LOCAL);
	store_commit_free(commit);
	put.setting.value = text("{1}");
	assert_int_equal(try(b, put), 0);
	put.setting.key = text("other");
	assert_int_equal(try(b, put), 0);
	assert_int_equal(try(b, config), 0);
	submit(b, "lim", "1");
	assert_int_equal(try(b, submission("lim", "2")), -JOB_EQUEUE_FULL);
	assert_int_equal(try(b, submission("-bad", "2")), -JOB_EVALUE);
	close_and_reopen(b);
	res = wh_await(store_settings(b->store, text("service/")));
	assert_int_equal(res.n, 1);
	all = res.ptr;
	assert_memory_equal(all->settings[0].value.data, "{1}", 3);
	store_settings_free(all);
	put.kind = STORE_SETTING_DELETE;
	assert_int_equal(try(b, put), 0);
	assert_int_equal(try(b, put), -JOB_EUNKNOWN_SETTING);
	assert_int_equal(
		try(b, (struct store_action){.kind = STORE_QUEUE_DELETE, .queue = {.name = text("lim")}}),
		-JOB_ENOT_EMPTY);
	commit = apply(b, (struct store_action){.kind = STORE_QUEUE_PURGE, .queue = {.name = text("lim")}},
	               STORE_DEFAULT);
	assert_int_equal(commit->results[0].count, 1);
	store_commit_free(commit);
	res = wh_await(store_queue(b->store, text("lim")));
	queues = res.ptr;
	assert_int_equal(queues->queues[0].jobs[JOB_CANCELLED], 1);
	assert_int_equal(queues->queues[0].config.jobs_max, 1);
	store_queues_free(queues);
	assert_int_equal(
		try(b, (struct store_action){.kind = STORE_QUEUE_DELETE, .queue = {.name = text("lim")}}), 0);
	assert_int_equal(wh_await(store_queue(b->store, text("lim"))).n, -JOB_EUNKNOWN_QUEUE);
	close_and_reopen(b);
	assert_int_equal(store_recount(b->store), 0);
}

static void test_positions(void **state)
{
	struct bench *b = *state;
	struct store_commit *commit = apply(b, submission("q", "1"), STORE_ASYNC);
	struct store_position position = commit->position, later = position;
	struct store_log *log;
	wh_res res;

	assert_int_equal(commit->level, STORE_ASYNC);
	store_commit_free(commit);
	assert_int_equal(wh_await(store_wait_position(b->store, position, STORE_LOCAL)).n, 0);
	later.lsn += 1 << 20;
	assert_int_equal(wh_await(store_wait_position(b->store, later, STORE_LOCAL)).n, -JOB_EVALUE);
	assert_int_equal(wh_await(store_wait_position(b->store, position, STORE_REMOTE_FLUSH)).n,
	                 -JOB_ELEVEL);
	commit = apply(b, submission("q", "1"), STORE_REMOTE_WRITE);
	assert_int_equal(commit->error, -JOB_ELEVEL);
	store_commit_free(commit);
	close_and_reopen(b);
	assert_int_equal(wh_await(store_wait_position(b->store, position, STORE_LOCAL)).n, 0);
	assert_int_equal(wh_await(store_wait_position(b->store, later, STORE_LOCAL)).n, -JOB_ELOST);
	res = wh_await(store_log(b->store));
	log = res.ptr;
	assert_true(log->epoch > position.epoch);
	assert_true(log->epochs_count >= 1);
	assert_true(log->flushed <= log->written && log->written <= log->appended);
	store_log_free(log);
}

/* Whole bodies too large for a record: each in a file of its own. */
static void test_large(void **state)
{
	static const size_t sizes[] = {(1 << 20) + 1, (3 << 20) / 2 + 12345, 2 << 20, 9 << 20,
	                               (20 << 20) + 7};
	enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };
	struct bench *b = *state;
	uint64_t ids[SIZES];
	uint8_t *big = malloc(sizes[SIZES - 1]);

	for (size_t i = 0; i < sizes[SIZES - 1]; i++)
		big[i] = (uint8_t)(i * 7 + i / 1000);
	for (size_t i = 0; i < SIZES; i++) {
		struct store_action a = submission("big", "");
		struct store_commit *commit;

		a.submit.payload = (struct store_slice){big, sizes[i]};
		commit = apply(b, a, STORE_DEFAULT);
		assert_int_equal(commit->error, 0);
		ids[i] = commit->results[0].job;
		store_commit_free(commit);
	}
	for (size_t i = 0; i < SIZES; i++) {
		struct store_lot *lot = reserve(b, "big", 1);
		struct store_action done = with_lease(STORE_COMPLETE, lot->jobs[0]);

		assert_true(lot->jobs[0].payload->blob.number > 0);
		check_bytes(b, lot->jobs[0].payload, big, sizes[i]);
		done.complete.bytes = (struct store_slice){big + 1, sizes[i] - 1};
		assert_int_equal(try(b, done), 0);
		store_lot_free(lot);
	}
	close_and_reopen(b);
	for (size_t i = 0; i < SIZES; i++) {
		wh_res res = wh_await(store_result(b->store, ids[i], STORE_DEFAULT));
		struct store_bytes *bytes = res.ptr;
		struct store_view *v;

		assert_int_equal(res.n, sizes[i] - 1);
		check_bytes(b, bytes, big + 1, sizes[i] - 1);
		store_bytes_unref(bytes);
		v = wh_await(store_get(b->store, ids[i], STORE_DEFAULT)).ptr;
		assert_int_equal(v->payload_bytes, sizes[i]);
		assert_int_equal(v->result_bytes, sizes[i] - 1);
		store_view_free(v);
	}
	free(big);
}

static void test_too_large(void **state)
{
	struct bench *b = *state;
	struct store_action a = submission("big", "");

	a.submit.payload = (struct store_slice){calloc(1, (64 << 20) + 1), (64 << 20) + 1};
	assert_non_null(a.submit.payload.data);
	assert_int_equal(try(b, a), -JOB_ETOO_LARGE);
	free((void *)(uintptr_t)a.submit.payload.data);
}
/* A flush may take place within a turn of the loop, whose own clock stands still: the metric counts it all the same. */
static void test_commits_last_as_long_as_their_flush(void **state)
{
	struct bench *b = *state;
	struct store_stats before, after;
	int alone = 0;

	for (int i = 0; i < 1000 && alone < 20; i++) {
		store_stats(b->store, &before);
		submit(b, "mail", "hello");
		store_stats(b->store, &after);
		assert_int_equal(after.commits_local, before.commits_local + 1);
		if (after.flushes != before.flushes + 1)
			continue; /* another flush beside its own */
		alone++;
		assert_true(after.commit_local.sum - before.commit_local.sum >=
		            after.flush_ns - before.flush_ns);
	}
	assert_int_equal(alone, 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_life, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_retry_and_fail, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_transaction, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wait_parks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wait_for_job, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cancel, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_settings_and_queues, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_settings_in_one_commit, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_settings_in_place, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_positions, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_large, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_large, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_commits_last_as_long_as_their_flush, set_up_in_memory,
	                                        tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
