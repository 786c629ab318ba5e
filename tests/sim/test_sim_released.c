/* tests/sim/test_sim_released.c -- a job is not leased before its submission is flushed, nor, if it awaits another, before the end that
 * releases it is, whatever else is.
 *
 * On a simulated machine whose flushes are slow: one is under way when the submission, or the end, comes, and does not cover it.
 */
#include "plan.h"

#include "store/store.h"

static wh_sim *sim;
static wh_loop *loop;
static struct store *store;

static struct store_action submit_of(const char *queue)
{
	return (struct store_action){.kind = STORE_SUBMIT,
	                             .submit = {.queue = {queue, strlen(queue)},
	                                        .payload = STORE_SLICE("x"),
	                                        .priority = JOB_PRIORITY_DEFAULT,
	                                        .retention_ns = 3600 * WH_NS_PER_S,
	                                        .attempts_max = 5}};
}

static uint64_t settle(wh_future future)
{
	wh_res res = wh_await(future);
	struct store_commit *commit = res.ptr;

	must(res.n == 0 && commit->error == 0, "%s", job_strerror(res.n < 0 ? res.n : commit->error));
	uint64_t job = commit->results[0].job;
	store_commit_free(commit);
	return job;
}

static wh_future apply(struct store_action action)
{
	return store_apply(store, &action, 1, 0, STORE_LOCAL);
}

/* 0: there is none to be had now. */
static uint64_t reserve(const char *queue, struct job_lease *ret)
{
	struct store_slice name = {queue, strlen(queue)};
	wh_res res = wh_await(store_reserve(
		store, &(struct store_reserve){.queues = &name, .queues_count = 1, .level = STORE_ASYNC}));
	struct store_lot *lot = res.ptr;

	if (res.n < 1) {
		must(res.n == 0, "%s", job_strerror(res.n));
		store_lot_free(lot);
		return 0;
	}
	uint64_t job = lot->jobs[0].job;
	*ret = lot->jobs[0].lease;
	store_lot_free(lot);
	return job;
}

static void run(uint64_t seed)
{
	struct wh_sim_options machine = {.seed = seed};
	struct store_options options = {.directory = "/data", .segment_bytes = 1 << 18};
	struct wh_sim_fault slow = {.kinds = WH_SIM_FSYNCS, .late_ns = 100 * WH_NS_PER_MS};
	struct store_problem problem = {0};
	struct store_action after = submit_of("second"), complete = {.kind = STORE_COMPLETE};
	struct job_lease lease;

	plan = (struct plan){.seed = seed};
	must(wh_sim_open(&sim, &machine) == 0, "machine");
	loop = plan_loop(sim);
	must(store_open(loop, &options, &store, &problem) == 0, "%s", problem.text);
	must(wh_sim_add_fault(sim, &slow) == 0, "slow");
	/* so slow that the log leaves its flushes to others */
	for (int i = 0; i < 40; i++)
		settle(apply(submit_of("other")));
	uint64_t first = settle(apply(submit_of("first")));
	after.submit.after = (struct store_slice){&first, sizeof(first)};
	uint64_t second = settle(apply(after));
	must(reserve("first", &lease) == first, "the first");
	complete.job = first;
	complete.lease = lease;
	wh_await(wh_sleep(loop, WH_NS_PER_S));
	wh_future before = apply(submit_of("other"));
	wh_await(wh_sleep(loop, 20 * WH_NS_PER_MS)); /* its flush is under way */
	wh_future end = apply(complete);
	must(!wh_done(before), "a flush is not slow: the test tries nothing");
	settle(before);
	must(!wh_done(end), "the end is flushed already: the test tries nothing");
	must(reserve("second", &lease) == 0, "leased, and what released it is not on the disk");
	settle(end);
	must(reserve("second", &lease) == second, "not leased though all is on the disk");
	before = apply(submit_of("other"));
	wh_await(wh_sleep(loop, 20 * WH_NS_PER_MS));
	wh_future third = apply(submit_of("third"));
	must(!wh_done(before), "a flush is not slow: the test tries nothing");
	must(reserve("third", &lease) == 0 && !wh_done(third),
	     "leased, and its submission is not on the disk");
	settle(before);
	uint64_t job = settle(third);
	must(reserve("third", &lease) == job, "not leased though its submission is on the disk");
	must(store_recount(store) == 0 && store_close(store) == 0, "close");
	loop = wh_loop_close(loop);
	sim = wh_sim_close(sim);
}

int main(void)
{
	for (uint64_t seed = 1; seed <= 20; seed++)
		run(seed);
	return 0;
}
