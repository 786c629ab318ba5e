/* tests/sim/test_sim_policy.c -- unique keys, groups, dead letters and rates, while the machine loses power at every disk call.
 *
 * A life submits jobs with keys and groups, has them fail until they are dead, and ends them, one change after the other, each
 * answered when it is on disk. After each recovery:
 *
 * - of the jobs with one key at most one is unfinished, a submit is answered with it, and otherwise with a new one;
 * - a job whose last attempt was answered as failed is in the dead-letter queue, with its errors; it is in one of the queues, never in both;
 * - the jobs of a group are reserved in their order, one at a time;
 * - a queue with a rate, and each group of one whose groups have, has given out no more than it may, in all lives together.
 */
#include "plan.h"

#include "store/store.h"

enum { KEYS = 3, GROUPS = 2, JOBS_MAX = 400, STEPS = 14, LIVES = 3, ATTEMPTS = 2, RATE_BURST = 5 };

struct job {
	uint64_t id;
	int key, group; /* NONE: none */
	bool ended;     /* was answered so */
	bool dead;      /* was answered so */
	bool unsure;    /* a change of it was not answered */
	struct job_lease lease;
	bool leased;
	int failures;
};

static wh_sim *sim;
static wh_loop *loop;
static struct store *store;
static struct job jobs[JOBS_MAX];
static int jobs_count;
static uint32_t rated;            /* jobs that the queue with the rate gave out, as answered */
static uint32_t rated_of[GROUPS]; /* likewise the queue whose groups have one, of each */
enum { NONE = -1 };

static void on_failure(int64_t error, const char *message, void *arg)
{
}

static int open_store(void)
{
	struct store_problem problem = {0};
	struct store_options options = {.directory = "/data",
	                                .segment_bytes = 64 << 10,
	                                .recent_bytes = 4096,
	                                .checkpoint_bytes = 4 << 10,
	                                .compact_slack = 64 << 10,
	                                .on_failure = on_failure,
	                                .log = verbose ? tell : NULL};
	int error = store_open(loop, &options, &store, &problem);
	if (error != 0)
		tell(0, problem.text, NULL);
	return error;
}

static struct store_slice slice(const char *text)
{
	return (struct store_slice){text, strlen(text)};
}

/* One change; 0, or why there is no answer. What it became of is in *ret. */
static int64_t change(struct store_action action, struct store_result *ret, int32_t *ret_error)
{
	wh_res res = wh_await(store_apply(store, &action, 1, 0, STORE_LOCAL));
	if (res.n < 0)
		return res.n;
	struct store_commit *commit = res.ptr;
	*ret = commit->results[0];
	*ret_error = commit->error;
	store_commit_free(commit);
	return 0;
}

static int64_t configure(const char *name, const char *dead, struct job_rate rate, struct job_rate group_rate)
{
	struct store_action put = {.kind = STORE_QUEUE_PUT,
	                           .queue = {.name = slice(name), .dead_letter = slice(dead)}};
	struct store_result result;
	int32_t error = 0;
	put.queue.config.attempts_max = ATTEMPTS;
	put.queue.config.time_to_run_ns = 30 * 86400 * WH_NS_PER_S; /* no lease passes by itself */
	put.queue.config.rate = rate;
	put.queue.config.group_rate = group_rate;
	put.queue.config.group_concurrency = group_rate.count > 0 ? JOBS_MAX : 0;
	int64_t n = change(put, &result, &error);
	must(n < 0 || error == 0, "configure: %s", job_strerror(error));
	return n;
}

static struct job *job_of(uint64_t id)
{
	for (int i = 0; i < jobs_count; i++)
		if (jobs[i].id == id)
			return &jobs[i];
	return NULL;
}

/* The job that is unfinished and has the key, as the answers say; unsure: one may have it. */
static struct job *holder(int key, bool *unsure)
{
	struct job *found = NULL;
	*unsure = false;
	for (int i = 0; i < jobs_count; i++) {
		if (jobs[i].key != key || jobs[i].ended || jobs[i].dead)
			continue;
		if (jobs[i].unsure)
			*unsure = true;
		else
			found = &jobs[i];
	}
	return found;
}

static int64_t submit(void)
{
	static const char *const keys[KEYS] = {"k0", "k1", "k2"}, *const groups[GROUPS] = {"g0", "g1"};
	int key = (int)chance(KEYS + 1) - 1, group = (int)chance(GROUPS + 1) - 1;
	struct store_action action = {.kind = STORE_SUBMIT,
	                              .submit = {.queue = slice("work"), .payload = slice("payload")}};
	struct store_result result;
	int32_t error;
	if (jobs_count == JOBS_MAX)
		return 0;
	action.submit.priority = (uint32_t)chance(5);
	action.submit.retention_ns = 86400 * WH_NS_PER_S;
	if (key != NONE)
		action.submit.unique = slice(keys[key]);
	if (group != NONE)
		action.submit.group = slice(groups[group]);
	bool unsure;
	struct job *has = holder(key, &unsure);
	int64_t n = change(action, &result, &error);
	if (n < 0) {
		if (key != NONE && !has) /* perhaps somebody has it now */
			jobs[jobs_count++] = (struct job){.key = key, .group = group, .unsure = true};
		return n;
	}
	must(error == 0, "submit: %s", job_strerror(error));
	if (key != NONE && has)
		must(result.duplicate && result.job == has->id,
		     "key %d is job %" PRIu64 "'s, and was given to %" PRIu64, key, has->id, result.job);
	if (key == NONE || (!has && !unsure))
		must(!result.duplicate, "key %d was free", key);
	if (result.duplicate) {
		if (!job_of(result.job)) /* one whose submit was not answered */
			jobs[jobs_count++] =
				(struct job){.id = result.job, .key = key, .group = NONE, .unsure = true};
		return 0;
	}
	must(!job_of(result.job), "id %" PRIu64 " was given twice", result.job);
	for (int i = 0; i < jobs_count; i++) /* those that were not sure are known not to have it */
		jobs[i].ended |= key != NONE && jobs[i].key == key && jobs[i].unsure;
	jobs[jobs_count++] = (struct job){.id = result.job, .key = key, .group = group};
	tally.checked++;
	return 0;
}

static int64_t reserve(void)
{
	struct store_slice name = slice("work");
	struct store_reserve reserve = {
		.queues = &name, .queues_count = 1, .jobs_max = 1, .level = STORE_LOCAL};
	wh_res res = wh_await(store_reserve(store, &reserve));
	if (res.n < 0)
		return res.n;
	if (res.n == 0)
		return 0;
	struct store_lot *lot = res.ptr;
	struct job *job = job_of(lot->jobs[0].job);
	for (int i = 0; job && job->group != NONE && i < jobs_count; i++)
		must(jobs[i].group != job->group || jobs[i].ended || jobs[i].dead || jobs[i].unsure ||
		             jobs[i].id == 0 || (!jobs[i].leased && jobs[i].id >= job->id),
		     "job %" PRIu64 " was reserved before %" PRIu64 " of its group", job->id, jobs[i].id);
	if (job) {
		must(!job->dead && !job->ended, "job %" PRIu64 " had ended", job->id);
		job->lease = lot->jobs[0].lease;
		job->leased = true;
	}
	store_lot_free(lot);
	return 0;
}

static int64_t end_one(bool fails)
{
	struct job *job = NULL;
	for (int i = 0; i < jobs_count; i++)
		if (jobs[i].leased && !jobs[i].unsure && (!job || chance(2)))
			job = &jobs[i];
	if (!job)
		return 0;
	struct store_action action = {
		.kind = fails ? STORE_FAIL : STORE_COMPLETE, .job = job->id, .lease = job->lease};
	struct store_result result;
	int32_t error;
	if (fails) {
		action.fail.error = slice("broken");
		action.fail.delay_set = true;
	}
	int64_t n = change(action, &result, &error);
	job->leased = false;
	if (n < 0) {
		job->unsure = true;
		return n;
	}
	must(error == 0, "job %" PRIu64 ": %s", job->id, job_strerror(error));
	job->failures += fails;
	job->ended = !fails;
	job->dead = result.dead;
	must(!fails || result.dead == (job->failures == ATTEMPTS), "job %" PRIu64 " failed %d times", job->id,
	     job->failures);
	return 0;
}

/* From the queue with the rate, or from the one whose groups have one. */
static int64_t take_rated(bool by_group)
{
	static const char *const groups[GROUPS] = {"g0", "g1"};
	struct store_slice name = slice(by_group ? "grouped" : "rated");
	uint32_t group = by_group ? (uint32_t)chance(GROUPS) : 0;
	struct store_reserve reserve = {
		.queues = &name, .queues_count = 1, .jobs_max = 2, .level = STORE_LOCAL};
	struct store_action action = {.kind = STORE_SUBMIT, .submit = {.queue = name, .payload = slice("r")}};
	struct store_result result;
	int32_t error;
	if (by_group)
		action.submit.group = action.submit.payload = slice(groups[group]);
	int64_t n = change(action, &result, &error);
	if (n < 0)
		return n;
	wh_res res = wh_await(store_reserve(store, &reserve));
	if (res.n <= 0)
		return res.n;
	struct store_lot *lot = res.ptr;
	for (size_t i = 0; i < lot->count; i++) {
		uint32_t *taken = &rated;
		if (by_group)
			taken = &rated_of[memcmp(lot->jobs[i].payload->body.data, "g1", 2) == 0];
		++*taken;
		must(*taken <= RATE_BURST, "%" PRIu32 " jobs were begun, %d may be in a day", *taken,
		     RATE_BURST);
	}
	store_lot_free(lot);
	return 0;
}

static int64_t live(void)
{
	static const struct job_rate none, daily = {.count = 1, .period_ms = 86400000, .burst = RATE_BURST};
	int64_t error = configure("work", "dead", none, none);
	if (error == 0)
		error = configure("rated", "", daily, none);
	if (error == 0)
		error = configure("grouped", "", none, daily);
	for (int i = 0; i < STEPS && error == 0; i++) {
		switch (chance(8)) {
		case 0:
		case 1:
		case 2:
			error = submit();
			break;
		case 3:
		case 4:
			error = reserve();
			break;
		case 5:
		case 6:
			error = end_one(chance(3) > 0);
			break;
		default:
			error = take_rated(chance(2));
		}
	}
	int closed = store_close(store);
	store = NULL;
	return error != 0 ? error : closed;
}

/* A job that was answered is in the state that follows, and in one queue. */
static void check_job(const struct job *job)
{
	if (job->id == 0 || job->unsure)
		return;
	wh_res res = wh_await(store_get(store, job->id, STORE_DEFAULT));
	must(res.n > 0, "job %" PRIu64 ": %s", job->id, job_strerror(res.n));
	struct store_view *view = res.ptr;
	bool in_dead = view->queue.len == 4 && memcmp(view->queue.data, "dead", 4) == 0;
	must(in_dead == job->dead, "job %" PRIu64 " is in queue %.*s", job->id, (int)view->queue.len,
	     (const char *)view->queue.data);
	must(!job->dead || (res.n == JOB_READY && view->errors_count == ATTEMPTS && view->dead_from.len == 4),
	     "dead job %" PRIu64 " is in state %d with %u errors", job->id, (int)res.n, view->errors_count);
	must(!job->ended || res.n == JOB_DONE, "job %" PRIu64 " is in state %d", job->id, (int)res.n);
	tally.kept++;
	store_view_free(view);
}

static void check_recovered(void)
{
	struct store_queue_view work = {0}, dead = {0};
	uint64_t sure = 0;
	must(store_recount(store) == 0, "the counters are wrong");
	for (int i = 0; i < jobs_count; i++) {
		check_job(&jobs[i]);
		sure += jobs[i].dead;
	}
	if (store_queue_now(store, STORE_SLICE("work"), &work) == 0 &&
	    store_queue_now(store, STORE_SLICE("dead"), &dead) == 0)
		must(work.dead >= sure && dead.jobs[JOB_READY] == work.dead,
		     "%" PRIu64 " dead jobs, %" PRIu64 " in the queue", work.dead, dead.jobs[JOB_READY]);
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
	rated = 0;
	memset(rated_of, 0, sizeof(rated_of));
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
	plan_cut_everywhere("policies", run, 3);
	assert_true(tally.kept > tally.runs && tally.checked > tally.runs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_power_is_cut_at_every_disk_call)};
	if (plan_alone(run))
		return 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
