/* tests/sim/test_sim_join.c -- jobs that run after others, while the machine loses power at every disk call.
 *
 * A life submits jobs alone and in transactions, many of them to run after some that are there or that the same transaction submits, and has jobs
 * end in every way. Whatever was answered or not, after each recovery, and when what the store does by itself is done:
 *
 * - a job that waits or has run does so after all that it was to run after, which are done; it awaits if and only if one of them has not ended; it is
 *   cancelled or buried if and only if one has not ended well;
 * - what was answered as ended is so;
 * - a job that was leased, if only at async, and in a life whose end is lost, is so after the ends of the others were on the disk: they are done for ever.
 */
#include "plan.h"

#include "store/store.h"

enum { JOBS_MAX = 300, AFTER_MAX = 3, STEPS = 16, LIVES = 3, GRAPH = 4 };

struct job {
	uint64_t id;
	int after[AFTER_MAX], after_count; /* indexes */
	int failure;
	int ended; /* answered: state; 0: not */
	bool begun, leased;
	struct job_lease lease;
};

static wh_sim *sim;
static wh_loop *loop;
static struct store *store;
static struct job jobs[JOBS_MAX];
static int jobs_count;

static void on_failure(int64_t error, const char *message, void *arg)
{
}

static int open_store(void)
{
	struct store_problem problem = {0};
	struct store_options options = {.directory = "/data",
	                                .segment_bytes = 64 << 10,
	                                .recent_bytes = 4096,
	                                .checkpoint_bytes = 3 << 10,
	                                .compact_slack = 64 << 10,
	                                .on_failure = on_failure,
	                                .log = verbose ? tell : NULL};
	int error = store_open(loop, &options, &store, &problem);
	if (error != 0)
		tell(0, problem.text, NULL);
	return error;
}

/* One transaction; its results, or why there is no answer. */
static int64_t change(const struct store_action *actions, size_t count, struct store_result *ret)
{
	wh_res res = wh_await(store_apply(store, actions, count, 0, STORE_LOCAL));
	if (res.n < 0)
		return res.n;
	struct store_commit *commit = res.ptr;
	must(commit->error == 0, "action %u: %s", commit->failed, commit->reason);
	memcpy(ret, commit->results, count * sizeof(ret[0]));
	store_commit_free(commit);
	return 0;
}

/* Which jobs the one of this index is to run after: of those before it, of which the last ones are of the same transaction. */
static void draw_after(struct job *job, int index, uint64_t *ids, int first_of_transaction)
{
	int count = (int)chance(AFTER_MAX + 1);
	for (int i = 0; i < count && index > 0; i++) {
		int other = index - 1 - (int)chance(index < 10 ? (uint64_t)index : 10);
		job->after[job->after_count] = other;
		ids[job->after_count++] =
			other < first_of_transaction
				? jobs[other].id
				: STORE_AFTER_ACTION | (uint64_t)(other - first_of_transaction);
	}
}

static int64_t submit(int count)
{
	struct store_action actions[GRAPH] = {{0}};
	struct store_result results[GRAPH];
	uint64_t ids[GRAPH][AFTER_MAX];
	if (jobs_count + count > JOBS_MAX)
		return 0;
	for (int i = 0; i < count; i++) {
		struct job *job = &jobs[jobs_count + i];
		*job = (struct job){.failure = (int)chance(JOB_AFTER_FAILURES)};
		draw_after(job, jobs_count + i, ids[i], jobs_count);
		actions[i] = (struct store_action){
			.kind = STORE_SUBMIT,
			.submit = {.queue = STORE_SLICE("work"),
		                   .payload = STORE_SLICE("payload"),
		                   .retention_ns = 86400 * WH_NS_PER_S,
		                   .time_to_run_ns = 86400 * WH_NS_PER_S,
		                   .after = {ids[i], (size_t)job->after_count * sizeof(ids[i][0])},
		                   .after_failure = (uint8_t)(job->after_count ? job->failure : 0)}};
	}
	int64_t n = change(actions, (size_t)count, results);
	if (n < 0)
		return n; /* whether they are there is not known, and nobody can name them */
	for (int i = 0; i < count; i++)
		jobs[jobs_count++].id = results[i].job;
	tally.checked++;
	return 0;
}

static bool all_after_done(const struct job *job)
{
	for (int i = 0; i < job->after_count; i++)
		if (store_state(store, jobs[job->after[i]].id) != JOB_DONE)
			return false;
	return true;
}

static void leased(const struct store_leased *got)
{
	for (int i = 0; i < jobs_count; i++) {
		struct job *job = &jobs[i];
		if (job->id != got->job)
			continue;
		must(job->failure == JOB_AFTER_RUN || all_after_done(job),
		     "job %" PRIu64 " is leased, and awaits others", job->id);
		job->leased = job->begun = true;
		job->lease = got->lease;
	}
}

static int64_t reserve(int level)
{
	struct store_slice name = STORE_SLICE("work");
	struct store_reserve reserve = {.queues = &name, .queues_count = 1, .jobs_max = 1, .level = level};
	wh_res res = wh_await(store_reserve(store, &reserve));
	if (res.n <= 0)
		return res.n;
	struct store_lot *lot = res.ptr;
	leased(&lot->jobs[0]);
	store_lot_free(lot);
	return 0;
}

static struct job *any_leased(void)
{
	struct job *found = NULL;
	for (int i = 0; i < jobs_count; i++)
		if (jobs[i].leased && (!found || chance(2)))
			found = &jobs[i];
	return found;
}

/* One ends; and before that is on the disk, somebody asks for work. */
static int64_t end_one(bool fails)
{
	struct job *job = any_leased();
	if (!job)
		return 0;
	struct store_action action = {
		.kind = fails ? STORE_FAIL : STORE_COMPLETE, .job = job->id, .lease = job->lease};
	if (fails) {
		action.fail.error = STORE_SLICE("broken");
		action.fail.no_retry = true;
	}
	job->leased = false;
	wh_future ended = store_apply(store, &action, 1, 0, STORE_LOCAL);
	int64_t n = reserve(STORE_ASYNC);
	wh_res res = wh_await(ended);
	if (res.n < 0)
		return res.n;
	struct store_commit *commit = res.ptr;
	must(commit->error == 0, "job %" PRIu64 ": %s", job->id, commit->reason);
	job->ended = fails ? JOB_FAILED : JOB_DONE;
	store_commit_free(commit);
	return n;
}

/* One that awaits nothing is cancelled: those that await others are only by what these do. */
static int64_t cancel_one(void)
{
	struct job *job = jobs_count ? &jobs[chance((uint64_t)jobs_count)] : NULL;
	struct store_result result;
	if (!job || job->after_count > 0 || job->leased || store_state(store, job->id) != JOB_READY)
		return 0;
	struct store_action action = {.kind = STORE_CANCEL, .job = job->id};
	int64_t n = change(&action, 1, &result);
	if (n == 0)
		job->ended = JOB_CANCELLED;
	return n;
}

static int64_t live(void)
{
	int64_t error = 0;
	for (int i = 0; i < STEPS && error == 0; i++) {
		switch (chance(9)) {
		case 0:
		case 1:
			error = submit(1);
			break;
		case 2:
		case 3:
			error = submit(1 + (int)chance(GRAPH));
			break;
		case 4:
			error = reserve(chance(2) ? STORE_LOCAL : STORE_ASYNC);
			break;
		case 5:
		case 6:
		case 7:
			error = end_one(chance(4) == 0);
			break;
		default:
			error = cancel_one();
		}
	}
	int closed = store_close(store);
	store = NULL;
	return error != 0 ? error : closed;
}

/* What those that it was to run after make of it. */
static void check_job(const struct job *job)
{
	int state = store_state(store, job->id), open = 0, bad = 0, may_come = 0;
	for (int i = 0; i < job->after_count; i++) {
		int other = store_state(store, jobs[job->after[i]].id);
		open += !job_state_finished(other);
		bad += other == JOB_FAILED || other == JOB_CANCELLED;
		may_come += other == JOB_FAILED;
	}
	must(job->ended == 0 || state == job->ended, "job %" PRIu64 " has ended in %d, and is in %d", job->id,
	     job->ended, state);
	if (job->begun && job->failure != JOB_AFTER_RUN)
		must(open == 0 && bad == 0, "job %" PRIu64 " was leased, and the end of another is lost",
		     job->id);
	if (job->after_count == 0)
		must(state != JOB_AWAITING, "job %" PRIu64 " awaits nothing", job->id);
	else if (bad > 0 && job->failure != JOB_AFTER_RUN &&
	         (job->failure != JOB_AFTER_WAIT || bad > may_come))
		must(state == (job->failure == JOB_AFTER_BURY ? JOB_BURIED : JOB_CANCELLED),
		     "job %" PRIu64 " is in %d, and one before it has not ended well", job->id, state);
	else
		must((open > 0 || (job->failure == JOB_AFTER_WAIT && bad > 0)) == (state == JOB_AWAITING),
		     "job %" PRIu64 " is in %d, and %d before it have not ended", job->id, state, open);
	tally.kept++;
}

static void check_recovered(void)
{
	/* what is doomed is ended step by step */
	wh_await(wh_sleep(loop, WH_NS_PER_S));
	must(store_recount(store) == 0, "the counters are wrong");
	for (int i = 0; i < jobs_count; i++)
		check_job(&jobs[i]);
	tally.recoveries++;
}

static void start_again(int damage, uint64_t cut)
{
	struct wh_sim_options options = {.seed = plan.seed * 1000 + chance(1000), .crash_at_io = cut};
	loop = wh_loop_close(loop);
	int error = wh_sim_restart(sim, &options, damage);
	must(error == 0, "restart: %s", wh_strerror(error));
	loop = plan_loop(sim);
}

static uint64_t run(void)
{
	sim = plan_machine();
	loop = plan_loop(sim);
	jobs_count = 0;
	int64_t error = open_store();
	if (error == 0)
		error = live();
	uint64_t calls = plan_first_life(sim, error);
	int damage = plan.damage;
	for (int life = 0; life < LIVES; life++) {
		start_again(damage, 0);
		tally.crashes++;
		must(open_store() == 0, "recovery");
		check_recovered();
		if (life + 1 == LIVES)
			break;
		must(store_close(store) == 0, "close");
		store = NULL;
		for (int i = 0; i < jobs_count;
		     i++) /* of an earlier run, whose leases hold; but not of one that is lost */
			jobs[i].leased = false;
		start_again(WH_SIM_KILLED, 1 + chance(250));
		error = open_store();
		if (error == 0)
			error = live();
		must(error == 0 || error == -WH_ESIM_POWER_CUT, "a life: %s", wh_strerror(error));
		damage = (int)chance(WH_SIM_KILLED + 1);
	}
	must(store_close(store) == 0, "close");
	store = NULL;
	loop = wh_loop_close(loop);
	sim = wh_sim_close(sim);
	return calls;
}

static void test_power_is_cut_at_every_disk_call(void **state)
{
	plan_cut_everywhere("joins", run, 3);
	assert_true(tally.kept > tally.runs && tally.checked > tally.runs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_power_is_cut_at_every_disk_call)};
	if (plan_alone(run))
		return 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
