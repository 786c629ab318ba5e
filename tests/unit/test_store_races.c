/* tests/unit/test_store_races.c -- waits, submits, reservations and completions in every order, again and again.
 *
 * Everything is started without waiting for anything before it, in a random order, and cancelled at random moments. No
 * wake-up may be missed (each await here would hang), no job lost to a caller that has gone, none leased twice.
 */
#include "store_support.h"

static uint64_t seed;

static uint32_t below(uint32_t n)
{
	uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)((z ^ (z >> 31)) % n);
}

static int any_level(void)
{
	return below(2) ? STORE_ASYNC : STORE_LOCAL;
}

static void a_little(struct bench *b)
{
	for (uint32_t n = below(3); n > 0; n--)
		assert_true(wh_loop_turn(b->loop, 0) >= 0);
}

static struct store_lot *take_lot(wh_future f)
{
	wh_res res = wh_await(f);

	assert_true(res.n >= 1);
	return res.ptr;
}

static struct store_commit *take_commit(wh_future f)
{
	wh_res res = wh_await(f);

	assert_true(res.n == 0);
	return res.ptr;
}

/* One job: submitter, worker and two waiters, whoever comes first. */
static void one_round(struct bench *b)
{
	struct store_action a = submission("race", "payload");
	wh_future submitted, reserved, first, second, completed;
	bool worker_first = below(2), wait_early = below(2);
	struct store_commit *commit;
	struct store_lot *lot;
	struct store_action done;
	uint64_t id;

	if (worker_first) {
		reserved = reserve_start(b, "race", 1, true);
		a_little(b);
	}
	submitted = store_apply(b->store, &a, 1, 0, any_level());
	a_little(b);
	if (!worker_first)
		reserved = reserve_start(b, "race", 1, true);
	a_little(b);
	lot = take_lot(reserved);
	id = lot->jobs[0].job;
	assert_int_equal(lot->count, 1);
	assert_int_equal(lot->jobs[0].payload->body.len, 7);
	if (wait_early)
		first = store_wait(b->store, id, STORE_WAIT_FINISHED, 0, any_level());
	a_little(b);
	done = with_lease(STORE_COMPLETE, lot->jobs[0]);
	completed = store_apply(b->store, &done, 1, 0, any_level());
	a_little(b);
	second = store_wait(b->store, id, STORE_WAIT_FINISHED, 0, any_level());
	if (!wait_early)
		first = store_wait(b->store, id, STORE_WAIT_FINISHED, 0, any_level());
	store_lot_free(lot);
	if (below(4) == 0) {
		wh_cancel(second);
		(void)wh_await(second);
	} else {
		assert_int_equal(wh_await(second).n, JOB_DONE);
	}
	assert_int_equal(wh_await(first).n, JOB_DONE);
	commit = take_commit(submitted);
	assert_int_equal(commit->results[0].job, id);
	store_commit_free(commit);
	commit = take_commit(completed);
	assert_int_equal(commit->error, 0);
	store_commit_free(commit);
}

static void test_every_order(void **state)
{
	struct bench *b = *state;

	seed = 1;
	for (int i = 0; i < 1000; i++)
		one_round(b);
	assert_int_equal(store_recount(b->store), 0);
}

/* Many reservations, some cancelled or dropped at any moment: each job goes to exactly one caller that is there. */
static void cancel_round(struct bench *b)
{
	enum { WAITERS = 8 };
	wh_future waiting[WAITERS], submitted[WAITERS];
	struct store_action a = submission("many", "x");
	uint64_t given[WAITERS];
	size_t stay = 0, got = 0;
	bool gone[WAITERS], dropped[WAITERS] = {0};

	for (int i = 0; i < WAITERS; i++) {
		waiting[i] = reserve_start(b, "many", 1, true);
		gone[i] = below(2);
		stay += !gone[i];
	}
	for (size_t i = 0; i < stay; i++) {
		submitted[i] = store_apply(b->store, &a, 1, 0, any_level());
		a_little(b);
		for (int k = 0; k < WAITERS; k++) {
			if (!gone[k] || dropped[k] || below(3) != 0)
				continue;
			if (below(2)) {
				assert_int_equal(wh_drop(waiting[k]), 0);
				dropped[k] = true;
			} else {
				wh_cancel(waiting[k]);
			}
		}
	}
	for (int k = 0; k < WAITERS; k++)
		if (gone[k] && !dropped[k])
			assert_int_equal(wh_drop(waiting[k]), 0); /* a lot that came before goes back */
	for (int k = 0; k < WAITERS; k++) {
		struct store_lot *lot;

		if (gone[k])
			continue;
		lot = take_lot(waiting[k]);
		for (size_t i = 0; i < got; i++)
			assert_true(given[i] != lot->jobs[0].job);
		given[got++] = lot->jobs[0].job;
		assert_int_equal(lot->jobs[0].attempt, 1);
		store_lot_free(lot);
	}
	for (size_t i = 0; i < stay; i++)
		store_commit_free(take_commit(submitted[i]));
	assert_null(reserve(b, "many", 1));
}

static void test_cancelled_reservations(void **state)
{
	struct bench *b = *state;

	seed = 2;
	for (int i = 0; i < 200; i++)
		cancel_round(b);
	assert_int_equal(store_recount(b->store), 0);
}

/* First come, first served, also among those who watch several queues. */
static void test_fair(void **state)
{
	struct bench *b = *state;
	struct store_slice names[2] = {text("x"), text("y")};
	struct store_reserve both = {.queues = names, .queues_count = 2, .wait = true};
	wh_future f[4];
	struct store_lot *lot;

	f[0] = store_reserve(b->store, &both);
	f[1] = reserve_start(b, "x", 1, true);
	f[2] = store_reserve(b->store, &both);
	f[3] = reserve_start(b, "y", 1, true);
	for (int i = 0; i < 2; i++) {
		uint64_t id = submit(b, "y", "1");

		lot = take_lot(f[i * 2]);
		assert_int_equal(lot->jobs[0].job, id);
		assert_int_equal(lot->jobs[0].queue.len, 1);
		store_lot_free(lot);
	}
	submit(b, "y", "2");
	store_lot_free(take_lot(f[3]));
	assert_false(wh_done(f[1]));
	submit(b, "x", "2");
	store_lot_free(take_lot(f[1]));
}

/* Pausing holds back, resuming wakes. */
static void test_pause(void **state)
{
	struct bench *b = *state;
	wh_future f;

	submit(b, "p", "1");
	assert_int_equal(
		try(b, (struct store_action){.kind = STORE_QUEUE_PAUSE, .queue = {.name = text("p")}}), 0);
	f = reserve_start(b, "p", 1, true);
	submit(b, "p", "2");
	assert_false(wh_done(f));
	assert_int_equal(
		try(b, (struct store_action){.kind = STORE_QUEUE_RESUME, .queue = {.name = text("p")}}), 0);
	store_lot_free(take_lot(f));
}

/* More ids than are reserved at once, asynchronously: none twice, none missing after a restart. */
static void test_many_ids(void **state)
{
	enum { COMMITS = 30, BATCH = 5000 };
	struct bench *b = *state;
	struct store_slice *payloads = calloc(BATCH, sizeof(payloads[0]));
	struct store_submit options = {.queue = text("ids")};
	uint64_t last = 0;
	struct store_queues *queues;
	wh_res res;

	for (int i = 0; i < COMMITS; i++) {
		struct store_commit *commit =
			take_commit(store_submit_many(b->store, &options, payloads, BATCH, STORE_ASYNC));

		assert_int_equal(commit->error, 0);
		for (size_t k = 0; k < BATCH; k++) {
			assert_true(commit->results[k].job > last);
			last = commit->results[k].job;
		}
		store_commit_free(commit);
	}
	free(payloads);
	close_and_reopen(b);
	res = wh_await(store_queue(b->store, text("ids")));
	queues = res.ptr;
	assert_int_equal(queues->queues[0].jobs[JOB_READY], COMMITS * BATCH);
	store_queues_free(queues);
	assert_true(submit(b, "ids", "") > last);
	assert_int_equal(store_recount(b->store), 0);
}

static uint64_t appended(struct bench *b)
{
	struct store_log *log = wh_await(store_log(b->store)).ptr;
	uint64_t lsn = log->appended;

	store_log_free(log);
	return lsn;
}

/* Of the place of a job's last change 16 bits are kept: 256 MiB of log later an old job looks as if it were about to be
 * written. Nobody writes here, so whoever waits for that waits for ever. */
static void test_old_jobs_of_an_idle_log(void **state)
{
	enum { JOBS = 40, FILLER_BYTES = 512 << 10, TURN_BYTES = 65536 * 4096 };
	struct bench *b = *state;
	uint64_t ids[JOBS], first = appended(b) & ~UINT64_C(4095);
	char *filler = calloc(1, FILLER_BYTES);

	assert_non_null(filler);
	memset(filler, 'x', FILLER_BYTES - 1);
	for (int i = 0; i < JOBS; i++)
		ids[i] = submit(b, "old", "one");
	while (appended(b) + 2 * FILLER_BYTES < first + TURN_BYTES)
		(void)submit(b, "filler", filler);
	while (appended(b) < first + TURN_BYTES + 4 * 4096)
		(void)submit(b, "filler", "small");
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < JOBS; i++) {
			wh_res res = wh_await(wh_deadline(store_get(b->store, ids[i], STORE_DEFAULT),
			                                  wh_now(b->loop) + 10 * WH_NS_PER_S));

			assert_int_equal(res.n, JOB_READY);
			store_view_free(res.ptr);
		}
		(void)submit(b, "filler", "small");
	}
	free(filler);
}

/* ---- a crowd ------------------------------------------------------------------------------- */

enum { CROWD = 3000 };

static struct crowd {
	struct bench *b;
	uint64_t other;
	int told, told_when_others_were; /* the other's answer: how many of the crowd had theirs */
	int places[CROWD];
	bool asked;
	int state; /* that they are told */
} crowd;

static void other_answered(wh_loop *loop, wh_res res, void *arg)
{
	(void)loop;
	(void)arg;
	assert_int_equal(res.n, JOB_READY);
	store_view_free(res.ptr);
	crowd.told_when_others_were = crowd.told;
}

static void one_told(wh_loop *loop, wh_res res, void *arg)
{
	int *place = arg;

	(void)loop;
	assert_int_equal(res.n, crowd.state);
	*place = crowd.told++;
	if (crowd.told == 1)
		assert_int_equal(
			wh_then(store_get(crowd.b->store, crowd.other, STORE_DEFAULT), other_answered, NULL),
			0);
}

/* All wait for one job: they are told in the order in which they came, not in one turn, and others are served meanwhile;
 * who leaves in the middle of that is not told. */
static void test_a_crowd(void **state)
{
	struct bench *b = *state;
	uint64_t job = submit(b, "one", "x"), turns;
	wh_future last[100];
	struct wh_stats before, after;
	struct store_commit *commit;
	struct store_action cancel = {.kind = STORE_CANCEL, .job = job};

	crowd = (struct crowd){.b = b, .other = submit(b, "other", "y"), .state = JOB_CANCELLED};
	for (int i = 0; i < CROWD; i++)
		assert_int_equal(wh_then(store_wait(b->store, job, STORE_WAIT_FINISHED, 0,
		                                    i % 2 ? STORE_ASYNC : STORE_LOCAL),
		                         one_told, &crowd.places[i]),
		                 0);
	for (int i = 0; i < 100; i++)
		last[i] = store_wait(b->store, job, STORE_WAIT_FINISHED, 0, STORE_LOCAL);
	wh_stats(b->loop, &before);
	commit = take_commit(store_apply(b->store, &cancel, 1, 0, STORE_LOCAL));
	assert_int_equal(commit->error, 0);
	store_commit_free(commit);
	assert_true(crowd.told < CROWD);
	for (int i = 0; i < 100; i += 2)
		assert_int_equal(wh_drop(last[i]), 0);
	for (int i = 1; i < 100; i += 2)
		assert_int_equal(wh_await(last[i]).n, JOB_CANCELLED);
	wh_stats(b->loop, &after);
	turns = after.turns - before.turns;
	assert_int_equal(crowd.told, CROWD);
	assert_true(turns >= CROWD / 512);
	for (int i = 2; i < CROWD; i++) /* at each level */
		assert_true(crowd.places[i] > crowd.places[i - 2]);
	assert_true(crowd.told_when_others_were > 0 && crowd.told_when_others_were < CROWD);
}

/* The same when it is time alone that changes the job. */
static void test_a_crowd_for_what_is_due(void **state)
{
	struct bench *b = *state;
	struct store_action a = submission("one", "x");
	struct wh_stats before, after;
	struct store_commit *commit;
	struct store_view *view;
	uint64_t job;

	a.submit.delay_ns = WH_NS_PER_S;
	commit = apply(b, a, STORE_LOCAL);
	job = commit->results[0].job;
	store_commit_free(commit);
	crowd = (struct crowd){.b = b, .other = submit(b, "other", "y"), .state = JOB_READY};
	view = wh_await(store_get(b->store, job, STORE_LOCAL)).ptr;
	assert_int_equal(view->state, JOB_DELAYED);
	for (int i = 0; i < CROWD; i++)
		assert_int_equal(wh_then(store_wait(b->store, job, STORE_WAIT_CHANGE, view->version,
		                                    i % 2 ? STORE_ASYNC : STORE_LOCAL),
		                         one_told, &crowd.places[i]),
		                 0);
	store_view_free(view);
	while (crowd.told == 0)
		assert_true(wh_loop_turn(b->loop, WH_NS_PER_S) >= 0);
	assert_true(crowd.told < CROWD);
	wh_stats(b->loop, &before);
	while (crowd.told < CROWD)
		assert_true(wh_loop_turn(b->loop, WH_NS_PER_S) >= 0);
	wh_stats(b->loop, &after);
	assert_true(after.turns - before.turns >= CROWD / 1024);
	for (int i = 2; i < CROWD; i++) /* at each level */
		assert_true(crowd.places[i] > crowd.places[i - 2]);
	assert_true(crowd.told_when_others_were > 0 && crowd.told_when_others_were < CROWD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cancelled_reservations, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fair, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_pause, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_ids, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_old_jobs_of_an_idle_log, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_crowd, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_crowd_for_what_is_due, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
