/* tests/sim/test_sim_lives.c -- the store on the simulated machine: submits, leases, transactions, with power cut at every
 * disk call, in recovery too, and every disk call failing; then every job is where store_model.h says.
 */
#include "store_model.h"

/* ---- changes ------------------------------------------------------------------------------ */

struct started {
	struct op *op;
	wh_future future;
};

static struct store_slice slice(const char *text)
{
	return (struct store_slice){text, strlen(text)};
}

static int chosen_level(void)
{
	static const int levels[] = {STORE_DEFAULT, STORE_ASYNC, STORE_LOCAL};
	return levels[chance(3)];
}

static struct store_action submission(struct op *op, int queue, char *payload)
{
	int index = op->count;
	bool delayed = chance(4) == 0;
	int at = job_new(queue, op->number, index);
	op_moves(op, at, delayed ? JOB_DELAYED : JOB_READY);
	struct store_action action = {.kind = STORE_SUBMIT};
	action.submit.queue = slice(queue_names[queue]);
	action.submit.payload = (struct store_slice){payload, payload_of(op->number, index, payload)};
	action.submit.content_type = slice("text/plain");
	action.submit.priority = (uint32_t)chance(4);
	action.submit.attempts_max = 100;
	action.submit.delay_ns = delayed ? DAY : 0;
	action.submit.time_to_run_ns = DAY;
	action.submit.retention_ns = 7 * DAY;
	return action;
}

static bool start_submit(struct started *to)
{
	char payloads[OP_JOBS_MAX][PAYLOAD_MAX + 1];
	struct store_action actions[OP_JOBS_MAX];
	struct op *op = op_new(STORE_SUBMIT);
	if (!op)
		return false;
	size_t count = chance(3) ? 1 : 2 + chance(OP_JOBS_MAX - 2);
	for (size_t i = 0; i < count; i++)
		actions[i] = submission(op, (int)chance(QUEUES), payloads[i]);
	int level = chosen_level();
	to->op = op;
	to->future = count == 1 && chance(2) ? store_submit(store, &actions[0].submit, level)
	                                     : store_apply(store, actions, count, 0, level);
	return true;
}

static bool start_submit_many(struct started *to)
{
	char payloads[OP_JOBS_MAX][PAYLOAD_MAX + 1];
	struct store_slice slices[OP_JOBS_MAX];
	struct op *op = op_new(SUBMIT_MANY);
	if (!op)
		return false;
	size_t count = 2 + chance(OP_JOBS_MAX - 2);
	int queue = (int)chance(QUEUES);
	struct store_submit options = {.queue = slice(queue_names[queue]),
	                               .content_type = slice("text/plain"),
	                               .attempts_max = 100,
	                               .time_to_run_ns = DAY,
	                               .retention_ns = 7 * DAY};
	for (size_t i = 0; i < count; i++) {
		int at = job_new(queue, op->number, (int)i);
		op_moves(op, at, JOB_READY);
		slices[i] = (struct store_slice){payloads[i], payload_of(op->number, (int)i, payloads[i])};
	}
	to->op = op;
	to->future = store_submit_many(store, &options, slices, count, chosen_level());
	return true;
}

/* One job that is there already. */
static bool start_change(struct started *to)
{
	static const struct {
		int kind;
		unsigned from;
		int after;
	} changes[] = {
		{STORE_COMPLETE, 1U << JOB_RUNNING, JOB_DONE},
		{STORE_COMPLETE, 1U << JOB_RUNNING, JOB_DONE},
		{STORE_FAIL, 1U << JOB_RUNNING, JOB_DELAYED},
		{STORE_FAIL, 1U << JOB_RUNNING, JOB_FAILED}, /* no_retry */
		{STORE_RELEASE, 1U << JOB_RUNNING, JOB_READY},
		{STORE_RELEASE, 1U << JOB_RUNNING, JOB_DELAYED},
		{STORE_EXTEND, 1U << JOB_RUNNING, JOB_RUNNING},
		{STORE_PROGRESS, 1U << JOB_RUNNING, JOB_RUNNING},
		{STORE_BURY, 1U << JOB_RUNNING, JOB_BURIED},
		{STORE_CANCEL, 1U << JOB_READY | 1U << JOB_DELAYED | 1U << JOB_BURIED, JOB_CANCELLED},
		{STORE_KICK, 1U << JOB_DELAYED | 1U << JOB_BURIED, JOB_READY},
		{STORE_DELETE, 1U << JOB_READY | 1U << JOB_DONE | 1U << JOB_FAILED, JOB_NONE},
	};
	size_t which = chance(sizeof changes / sizeof *changes);
	int kind = changes[which].kind, after = changes[which].after, at = pick(changes[which].from);
	struct op *op = at == NONE ? NULL : op_new(kind);
	if (!op)
		return false;
	struct store_action action = {.kind = kind, .job = jobs[at].id, .lease = jobs[at].lease};
	op_moves(op, at, after);
	switch (kind) {
	case STORE_COMPLETE:
		action.complete.bytes = result_of(&jobs[at]);
		break;
	case STORE_FAIL:
		action.fail.error = slice("failed");
		action.fail.no_retry = after == JOB_FAILED;
		action.fail.delay_set = true;
		action.fail.delay_ns = DAY;
		break;
	case STORE_RELEASE:
		action.release.delay_ns = after == JOB_DELAYED ? DAY : 0;
		break;
	case STORE_EXTEND:
		action.extend.by_ns = 2 * DAY;
		break;
	case STORE_PROGRESS:
		action.progress.bytes = slice("half");
		break;
	case STORE_BURY:
		action.bury.error = slice("aside");
		break;
	default:
		break;
	}
	to->op = op;
	to->future = store_apply(store, &action, 1, 0, chosen_level());
	return true;
}

/* A job is completed and its successors submitted in one transaction. */
static bool start_hand_over(struct started *to)
{
	char payloads[3][PAYLOAD_MAX + 1];
	struct store_action actions[3];
	int at = pick(1U << JOB_RUNNING);
	struct op *op = at == NONE ? NULL : op_new(HAND_OVER);
	if (!op)
		return false;
	actions[0] =
		(struct store_action){.kind = STORE_COMPLETE, .job = jobs[at].id, .lease = jobs[at].lease};
	actions[0].complete.bytes = result_of(&jobs[at]);
	op_moves(op, at, JOB_DONE);
	size_t count = 2 + chance(2);
	for (size_t i = 1; i < count; i++)
		actions[i] = submission(op, (int)chance(QUEUES), payloads[i]);
	to->op = op;
	to->future = store_apply(store, actions, count, 0, chosen_level());
	return true;
}

/* A given job, so that the model knows which even if no answer comes. */
static bool start_reserve(struct started *to)
{
	int at = pick(1U << JOB_READY);
	struct op *op = at == NONE ? NULL : op_new(RESERVE);
	if (!op)
		return false;
	op_moves(op, at, JOB_RUNNING);
	struct store_reserve reserve = {.job = jobs[at].id, .level = chosen_level()};
	to->op = op;
	to->future = store_reserve(store, &reserve);
	return true;
}

static bool start_one(struct started *to)
{
	switch (chance(8)) {
	case 0:
	case 1:
		return start_submit(to);
	case 2:
		return start_submit_many(to);
	case 3:
		return start_hand_over(to);
	case 4:
	case 5:
		return start_reserve(to);
	default:
		return start_change(to);
	}
}

/* A read may fail by itself: then the lease is given, and says so. */
static void check_leased(const struct job *job, const struct store_leased *leased)
{
	if (leased->payload) {
		struct store_slice body;
		int64_t n = body_of(leased->payload, &body);
		if (n >= 0)
			check_payload(job, body);
		else
			must(n == -WH_ESIM_POWER_CUT || plan.fail_at > 0, "a body: %s", wh_strerror(n));
	} else

		must(leased->error == -WH_ESIM_POWER_CUT || plan.fail_at > 0, "no payload: %s",
		     wh_strerror(leased->error));
}

static void answered_lot(struct op *op, struct store_lot *lot)
{
	if (!lot) {
		op_refused(op);
		return;
	}
	must(lot->count == 1, "%zu jobs", lot->count);
	struct job *job = &jobs[op->jobs[0]];
	must(lot->jobs[0].job == job->id, "job %" PRIu64 " instead of %" PRIu64, lot->jobs[0].job, job->id);
	check_leased(job, &lot->jobs[0]);
	lease_seen(job, lot->jobs[0].lease);
	op->leases[0] = lot->jobs[0].lease;
	op_done(op, lot->level, lot->position);
	store_lot_free(lot);
}

static void answered_commit(struct op *op, struct store_commit *commit)
{
	if (commit->error) {
		must(commit->error != -JOB_ELEASE_LOST, "lease lost");
		op_refused(op);
	} else {
		must(commit->count == (size_t)op->count, "%zu results", commit->count);
		for (int i = 0; i < op->count; i++) {
			struct job *job = &jobs[op->jobs[i]];
			if (!job->id)
				id_seen(job, commit->results[i].job);
			must(op->after[i] == JOB_NONE || commit->results[i].state == op->after[i],
			     "op %d: state %d, not %d", op->kind, commit->results[i].state, op->after[i]);
		}
		op_done(op, commit->level, commit->position);
	}
	store_commit_free(commit);
}

/* Judged, and not done: said by the store, not by what is below it. */
static bool is_refusal(int64_t n)
{
	return n <= -JOB_EUNKNOWN_JOB && n >= -JOB_EIN_GROUP;
}

/* 0, or why there is no answer. */
static int64_t finish(struct started *started)
{
	wh_res res = wh_await(started->future);
	if (res.n < 0) {
		if (is_refusal(res.n)) {
			op_refused(started->op);
			return 0;
		}
		return res.n;
	}
	if (started->op->kind == RESERVE)
		answered_lot(started->op, res.ptr);
	else
		answered_commit(started->op, res.ptr);
	return 0;
}

static int64_t burst(void)
{
	struct started started[BURST_MAX];
	size_t count = 0;
	int64_t error = 0;
	for (uint64_t n = 1 + chance(BURST_MAX); n > 0; n--)
		count += start_one(&started[count]);
	for (size_t i = 0; i < count; i++) {
		int64_t n = finish(&started[i]);
		error = error ? error : n;
	}
	return error;
}

/* What a read shows is durable: the change that it shows is as good as local. */
static int64_t look(void)
{
	int at = pick(~0U);
	if (at == NONE)
		return 0;
	wh_res res = wh_await(store_get(store, jobs[at].id, STORE_DEFAULT));
	if (jobs[at].state == JOB_NONE && (res.n == -JOB_EEXPIRED || res.n == -JOB_EUNKNOWN_JOB))
		return 0;
	if (res.n < 0)
		return res.n;
	must(res.n == jobs[at].state, "job %" PRIu64 " is shown in state %d, not %d", jobs[at].id, (int)res.n,
	     jobs[at].state);
	store_view_free(res.ptr);
	if (jobs[at].op != NONE)
		ops[jobs[at].op].revealed = true;
	return 0;
}

/* Whatever the queues give. The jobs are not known if no answer comes, so it is alone; local: then it is answered or
 * the life is over. */
static int64_t reserve_from_queues(void)
{
	struct store_slice names[QUEUES];
	size_t count = 1 + chance(QUEUES);
	struct op *op = op_new(RESERVE);
	if (!op)
		return 0;
	for (size_t i = 0; i < count; i++)
		names[i] = slice(queue_names[i]);
	/* every ready job of these queues may be one of them */
	struct store_reserve reserve = {
		.queues = names, .queues_count = count, .jobs_max = 1 + (uint32_t)chance(3)};
	wh_res res = wh_await(store_reserve(store, &reserve));
	if (is_refusal(res.n)) {
		op_refused(op);
		return 0;
	}
	if (res.n < 0) {
		op->kind = RESERVE + 1000; /* judged by check_fuzzy() */
		op->count = (int)count;
		return res.n;
	}
	struct store_lot *lot = res.ptr;
	for (size_t i = 0; lot && i < lot->count; i++) {
		int at = 0;
		while (at < jobs_count && jobs[at].id != lot->jobs[i].job)
			at++;
		must(at < jobs_count, "an unknown job %" PRIu64, lot->jobs[i].job);
		must(jobs[at].state == JOB_READY, "job %" PRIu64 " was in state %d, and is reserved",
		     jobs[at].id, jobs[at].state);
		check_leased(&jobs[at], &lot->jobs[i]);
		lease_seen(&jobs[at], lot->jobs[i].lease);
		op->leases[op->count] = lot->jobs[i].lease;
		op_moves(op, at, JOB_RUNNING);
	}
	if (lot)
		op_done(op, lot->level, lot->position);
	else
		op->answered = op->refused = true;
	store_lot_free(lot);
	return 0;
}

static int64_t step(void)
{
	switch (chance(8)) {
	case 0:
		return reserve_from_queues();
	case 1:
		return look();
	case 2:
		return wh_await(wh_sleep(loop, (int64_t)chance(15) * WH_NS_PER_MS)).n;
	default:
		return burst();
	}
}

/* ---- lives -------------------------------------------------------------------------------- */

static void on_failure(int64_t error, const char *message, void *arg)
{
	failed = true;
}

static int open_store(void)
{
	struct store_problem problem = {0};
	struct store_options options = {
		.directory = "/data",
		.segment_bytes = 64 << 10,
		.recent_bytes = 4096,
		.checkpoint_bytes = 16 << 10,
		.compact_slack = 64 << 10,
		.compact_rate = 1 << 30,
		.blob_bytes = 900, /* so that a fifth of the bodies is in files */
		.on_failure = on_failure,
		.log = verbose ? tell : NULL,
	};
	failed = false;
	int error = store_open(loop, &options, &store, &problem);
	if (error != 0)
		tell(0, problem.text, NULL);
	return error;
}

/* Checkpoints and compaction, in all lives together: they are part of what is tried here. */
static struct {
	uint64_t checkpoints, released, moved;
} upkeep;

static void count_upkeep(void)
{
	struct store_stats stats;
	store_stats(store, &stats);
	upkeep.checkpoints += stats.checkpoints;
	upkeep.released += stats.segments_released;
	upkeep.moved += stats.moved;
}

static int64_t live(uint64_t steps)
{
	int64_t error = 0;
	for (uint64_t i = 0; i < steps && error == 0; i++)
		error = step();
	count_upkeep();
	int closed = store_close(store);
	store = NULL;
	return error != 0 ? error : closed;
}

/* ---- recoveries --------------------------------------------------------------------------- */

/* Start the machine again, to lose power at a disk call (0: not), and open the store. */
static int start_again(int damage, uint64_t cut)
{
	struct wh_sim_options options = {.seed = plan.seed * 1000 + chance(1000), .crash_at_io = cut};
	loop = wh_loop_close(loop);
	int error = wh_sim_restart(sim, &options, damage);
	must(error == 0, "restart: %s", wh_strerror(error));
	loop = plan_loop(sim);
	error = open_store();
	must(error == 0 || (error == -WH_ESIM_POWER_CUT && cut > 0), "recovery: %s", wh_strerror(error));
	return error;
}

/* Recover, perhaps with power cuts within, and check what is there. */
static void recover(int damage, bool faulty)
{
	bool killed = damage == WH_SIM_KILLED && !faulty;
	tally.crashes++;
	for (uint64_t nested = chance(3); nested > 0; nested--) {
		if (start_again(damage, 1 + chance(60)) == 0)
			store = (store_close(store), NULL);
		if (wh_sim_has_power(sim)) {
			damage = WH_SIM_KILLED;
			continue;
		}
		tally.crashes++;
		tally.crashes_in_recovery++;
		damage = (int)chance(WH_SIM_KILLED + 1);
		killed = killed && damage == WH_SIM_KILLED;
	}
	(void)start_again(damage, 0);
	check_recovered(killed);
	if (chance(4) > 0)
		return;
	/* recovered once more, it is the same (I7) */
	uint64_t before = fingerprint();
	wh_sim_power_cut(sim);
	store = (store_close(store), NULL);
	(void)start_again(WH_SIM_RANDOM, 0);
	must(fingerprint() == before, "another recovery shows something else");
	check_counts();
}

/* Another life, which may end by a power cut. Returns the damage that it leaves. */
static int live_again(void)
{
	int closed = store_close(store);
	must(closed == 0, "close: %s", wh_strerror(closed));
	store = NULL;
	int64_t error = start_again(WH_SIM_KILLED, 1 + chance(300));
	if (error == 0)
		error = live(STEPS);
	must(error == 0 || error == -WH_ESIM_POWER_CUT, "a life: %s", wh_strerror(error));
	return (int)chance(WH_SIM_KILLED + 1);
}

static void begin_run(void)
{
	sim = plan_machine();
	jobs_count = ops_count = ops_judged = 0;
	id_highest = id_judged = 0;
	starts[0] = 0;
	starts_count = 1;
	loop = plan_loop(sim);
}

static uint64_t run(void)
{
	begin_run();
	int64_t error = open_store();
	if (error == 0)
		error = live(STEPS);
	uint64_t calls = plan_first_life(sim, error);
	int damage = plan.damage;
	for (int life = 1; life < LIVES; life++) {
		recover(damage, life == 1 && plan.fail_at > 0);
		damage = live_again();
	}
	recover(damage, false);
	int closed = store_close(store);
	must(closed == 0, "close: %s", wh_strerror(closed));
	store = NULL;
	loop = wh_loop_close(loop);
	sim = wh_sim_close(sim);
	return calls;
}

/* ---- tests -------------------------------------------------------------------------------- */

static void test_power_is_cut_at_every_disk_call(void **state)
{
	refusals = 0;
	plan_cut_everywhere("power cuts", run, 3);
	assert_true(tally.kept > tally.lost && tally.lost > 0);
	assert_true(tally.files > tally.recoveries); /* the test is of files as well */
	assert_true(refusals < tally.kept / 20);     /* the model knows what is possible */
	printf("%" PRIu64 " checkpoints, %" PRIu64 " segments released, %" PRIu64 " jobs moved\n",
	       upkeep.checkpoints, upkeep.released, upkeep.moved);
	assert_true(upkeep.checkpoints > tally.runs && upkeep.moved > tally.runs &&
	            upkeep.released > tally.runs / 2);
}

static void test_every_disk_call_fails(void **state)
{
	plan_fail_everywhere(run, 3);
	assert_true(tally.kept > tally.lost);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_is_cut_at_every_disk_call),
		cmocka_unit_test(test_every_disk_call_fails),
	};
	if (plan_alone(run))
		return 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
