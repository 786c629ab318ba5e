/* tests/unit/test_store_edit.c -- jobs that are told to be others, in the embedded store on a real disk: what holds then, at once, after a
 * restart and when they have finished; conditions; several as one commit.
 */
#include "store_support.h"

static struct store_view *look(struct bench *b, uint64_t id)
{
	wh_res res = wh_await(store_get(b->store, id, STORE_DEFAULT));

	assert_true(res.n > 0);
	return res.ptr;
}

static struct store_action edit_of(uint64_t job, struct store_edit edit)
{
	return (struct store_action){.kind = STORE_EDIT, .job = job, .edit = edit};
}

static int edit(struct bench *b, uint64_t job, struct store_edit what)
{
	return try(b, edit_of(job, what));
}

static uint64_t version_of(struct bench *b, uint64_t id)
{
	struct store_view *v = look(b, id);
	uint64_t version = v->version;

	store_view_free(v);
	return version;
}

static void check_all(struct bench *b, uint64_t id, int64_t run_at)
{
	struct store_view *v = look(b, id);

	assert_int_equal(v->state, JOB_DELAYED);
	assert_int_equal(v->priority, 7);
	assert_int_equal(v->run_at, run_at);
	assert_int_equal(v->time_to_run_ns, 90 * WH_NS_PER_S);
	assert_int_equal(v->retention_ns, 86400 * WH_NS_PER_S);
	assert_int_equal(v->attempts_max, 3);
	assert_int_equal(v->begin_by, run_at + WH_NS_PER_S);
	store_view_free(v);
}

/* Every value, and back to what the queue says. */
static void test_values(void **state)
{
	struct bench *b = *state;
	int64_t at = (wh_wall_now(b->loop) / WH_NS_PER_S + 7200) * WH_NS_PER_S;
	uint64_t id = submit(b, "q", "x"), before = version_of(b, id);
	struct store_edit all = {.fields = 63,
	                         .priority = 7,
	                         .run_at = at,
	                         .time_to_run_ns = 90 * WH_NS_PER_S,
	                         .retention_ns = 86400 * WH_NS_PER_S,
	                         .attempts_max = 3,
	                         .expires_at = at + WH_NS_PER_S};
	struct store_view *v;

	assert_int_equal(edit(b, id, all), 0);
	check_all(b, id, at);
	assert_true(version_of(b, id) != before);
	before = version_of(b, id);
	close_and_reopen(b); /* by a checkpoint */
	check_all(b, id, at);
	assert_int_equal(version_of(b, id), before);
	assert_int_equal(edit(b, id, (struct store_edit){.fields = 63, .priority = 1024}), 0);
	assert_true(version_of(b, id) != before);
	v = look(b, id);
	assert_true(v->state == JOB_READY && v->run_at == 0 && v->begin_by == 0 && v->attempts_max == 5);
	assert_true(v->time_to_run_ns == 60 * WH_NS_PER_S && v->retention_ns == 3600 * WH_NS_PER_S);
	store_view_free(v);
	assert_int_equal(edit(b, id, (struct store_edit){0}), 0); /* nothing */
	assert_int_equal(store_recount(b->store), 0);
}

/* Who is next follows, whoever waits is served, and what is hidden by a delay comes out. */
static void test_order(void **state)
{
	struct bench *b = *state;
	uint64_t ids[4];
	struct store_lot *lot;
	wh_future waiting;
	wh_res res;

	for (int i = 0; i < 4; i++)
		ids[i] = submit(b, "q", "x");
	assert_int_equal(edit(b, ids[2], (struct store_edit){.fields = STORE_EDIT_PRIORITY, .priority = 1}),
	                 0);
	assert_int_equal(
		edit(b, ids[0],
	             (struct store_edit){.fields = STORE_EDIT_RUN_AT, .delay_ns = 3600 * WH_NS_PER_S}),
		0);
	assert_int_equal(edit(b, ids[3], (struct store_edit){.fields = STORE_EDIT_PRIORITY, .priority = 9}),
	                 0);
	assert_int_equal(reserve_one(b, "q").job, ids[2]);
	assert_int_equal(reserve_one(b, "q").job, ids[3]);
	assert_int_equal(reserve_one(b, "q").job, ids[1]);
	waiting = reserve_start(b, "q", 1, true);
	assert_false(wh_done(waiting));
	assert_int_equal(edit(b, ids[0], (struct store_edit){.fields = STORE_EDIT_RUN_AT}), 0);
	res = wh_await(waiting);
	assert_int_equal(res.n, 1);
	lot = res.ptr;
	assert_int_equal(lot->jobs[0].job, ids[0]);
	store_lot_free(lot);
	assert_int_equal(store_recount(b->store), 0);
}

static void test_refused(void **state)
{
	struct bench *b = *state;
	uint64_t id = submit(b, "q", "x");
	struct store_leased job = reserve_one(b, "q");
	struct store_edit at = {.fields = STORE_EDIT_RUN_AT}, by = {.fields = STORE_EDIT_EXPIRES},
			  tries = {.fields = STORE_EDIT_ATTEMPTS, .attempts_max = 1};
	struct store_action bury = with_lease(STORE_BURY, job), cancel = {.kind = STORE_CANCEL, .job = id};

	assert_int_equal(edit(b, id, at), -JOB_ESTATE);
	assert_int_equal(edit(b, id, by), -JOB_ESTATE);
	assert_int_equal(edit(b, id, tries), 0); /* this one is the last */
	assert_int_equal(try(b, bury), 0);
	assert_int_equal(edit(b, id, at), -JOB_ESTATE);
	assert_int_equal(edit(b, id, tries), -JOB_EVALUE);
	tries.attempts_max = 2;
	assert_int_equal(edit(b, id, tries), 0);
	tries.attempts_max = 1001;
	assert_int_equal(edit(b, id, tries), -JOB_EVALUE);
	assert_int_equal(edit(b, id, (struct store_edit){.fields = 64}), -JOB_EVALUE);
	assert_int_equal(edit(b, id, (struct store_edit){.fields = 2, .delay_ns = -1}), -JOB_EVALUE);
	assert_int_equal(try(b, cancel), 0);
	assert_int_equal(edit(b, id, tries), -JOB_EFINISHED);
	assert_int_equal(edit(b, 99999, at), -JOB_EUNKNOWN_JOB);
}

/* A finished job shows the values that it had at last, not those of its submit. */
static void test_finished(void **state)
{
	struct bench *b = *state;
	struct store_action action = submission("q", "x");
	struct store_edit own = {.fields =
	                                 STORE_EDIT_TIME_TO_RUN | STORE_EDIT_ATTEMPTS | STORE_EDIT_RETENTION,
	                         .time_to_run_ns = 90 * WH_NS_PER_S,
	                         .attempts_max = 4,
	                         .retention_ns = 7200 * WH_NS_PER_S};
	struct store_leased job;
	struct store_commit *commit;
	uint64_t id;

	action.submit.time_to_run_ns = 5 * WH_NS_PER_S;
	action.submit.attempts_max = 2;
	action.submit.retention_ns = 100 * WH_NS_PER_S;
	commit = apply(b, action, STORE_DEFAULT);
	id = commit->results[0].job;
	store_commit_free(commit);
	assert_int_equal(edit(b, id, own), 0);
	job = reserve_one(b, "q");
	assert_int_equal(job.time_to_run_ns, 90 * WH_NS_PER_S);
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, job)), 0);
	for (int i = 0; i < 2; i++) {
		struct store_view *v = look(b, id);

		assert_int_equal(v->state, JOB_DONE);
		assert_int_equal(v->time_to_run_ns, 90 * WH_NS_PER_S);
		assert_int_equal(v->attempts_max, 4);
		assert_int_equal(v->retention_ns, 7200 * WH_NS_PER_S);
		assert_true(v->expires_at - v->finished_at >= 7199 * WH_NS_PER_S);
		store_view_free(v);
		close_and_reopen(b);
	}
}

static void test_condition(void **state)
{
	struct bench *b = *state;
	uint64_t id = submit(b, "q", "x"), seen[4];
	struct store_edit what = {.fields = STORE_EDIT_PRIORITY, .priority = 1, .conditional = true};
	struct store_leased job;

	assert_int_equal(edit(b, id, what), -JOB_EVERSION); /* of none */
	for (int i = 0; i < 4; i++) { /* a version comes once, within one block of the log as well */
		seen[i] = version_of(b, id);
		for (int k = 0; k < i; k++)
			assert_true(seen[k] != seen[i]);
		what.versions_count = 1;
		what.versions[0] = seen[i] + 1;
		assert_int_equal(edit(b, id, what), -JOB_EVERSION);
		what.versions[1] = seen[i];
		what.versions_count = 2;
		assert_int_equal(edit(b, id, what), 0);
		assert_int_equal(edit(b, id, what), -JOB_EVERSION);
	}
	job = reserve_one(b, "q"); /* and not again when it has been run and given back */
	assert_int_equal(try(b, with_lease(STORE_RELEASE, job)), 0);
	what.versions_count = 4;
	memcpy(what.versions, seen, sizeof(seen));
	assert_int_equal(edit(b, id, what), -JOB_EVERSION);
}

/* Several are one commit, and one that cannot be keeps the others from it. */
static void test_transaction(void **state)
{
	struct bench *b = *state;
	struct store_action actions[3];
	struct store_commit *commit;
	uint64_t ids[3];
	wh_res res;

	for (int i = 0; i < 3; i++) {
		ids[i] = submit(b, "q", "x");
		actions[i] = edit_of(ids[i],
		                     (struct store_edit){.fields = STORE_EDIT_PRIORITY | STORE_EDIT_EXPIRES,
		                                         .priority = 5,
		                                         .expires_ns = 3600 * WH_NS_PER_S});
	}
	actions[2].edit.conditional = true;
	res = wh_await(store_apply(b->store, actions, 3, 0, STORE_DEFAULT));
	commit = res.ptr;
	assert_true(res.n == 0 && commit->error == -JOB_EVERSION && commit->failed == 2);
	store_commit_free(commit);
	actions[2].edit.versions_count = 1;
	actions[2].edit.versions[0] = version_of(b, ids[2]);
	res = wh_await(store_apply(b->store, actions, 3, 0, STORE_DEFAULT));
	commit = res.ptr;
	assert_true(res.n == 0 && commit->error == 0);
	assert_int_equal(commit->results[2].state, JOB_READY);
	store_commit_free(commit);
	close_and_reopen(b);
	for (int i = 0; i < 3; i++) {
		struct store_view *v = look(b, ids[i]);

		assert_true(v->priority == 5 && v->begin_by > wh_wall_now(b->loop));
		store_view_free(v);
	}
	assert_int_equal(store_recount(b->store), 0);
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {ONE(test_values),   ONE(test_order),     ONE(test_refused),
	                                   ONE(test_finished), ONE(test_condition), ONE(test_transaction)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
