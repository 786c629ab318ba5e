/* tests/sim/test_sim_ids.c -- ids that were told at `async` are not given again, however many there were before a flush.
 *
 * Ids are reserved in blocks, each by a record. A simulated machine whose flushes are slow takes more asynchronous submits than a block has before
 * any of them is flushed, and loses power: what was told is gone, and the next life must not know it by another job.
 */
#include "plan.h"

#include "store/store.h"

enum { BATCH = 1000, BATCHES = 80 }; /* more than the block that is left, and the next one */

static wh_sim *sim;
static wh_loop *loop;
static struct store *store;

static void open_store(void)
{
	struct store_options options = {.directory = "/data", .segment_bytes = 32 << 20};
	struct store_problem problem = {0};
	must(store_open(loop, &options, &store, &problem) == 0, "%s", problem.text);
}

static uint64_t last_of(wh_future future)
{
	wh_res res = wh_await(future);
	struct store_commit *commit = res.ptr;
	must(res.n == 0 && commit->error == 0, "%s", job_strerror(res.n < 0 ? res.n : commit->error));
	uint64_t job = commit->results[commit->count - 1].job;
	store_commit_free(commit);
	return job;
}

/* As one transaction of many actions, or as one batch: two ways through the store. */
static uint64_t submit(bool as_actions, size_t count, int level)
{
	static struct store_action actions[BATCH];
	static struct store_slice payloads[BATCH];
	struct store_submit options = {.queue = STORE_SLICE("q"),
	                               .priority = JOB_PRIORITY_DEFAULT,
	                               .retention_ns = 3600 * WH_NS_PER_S,
	                               .attempts_max = 5};
	for (size_t i = 0; i < count; i++) {
		payloads[i] = STORE_SLICE("x");
		actions[i] = (struct store_action){.kind = STORE_SUBMIT, .submit = options};
		actions[i].submit.payload = payloads[i];
	}
	return last_of(as_actions ? store_apply(store, actions, count, 0, level)
	                          : store_submit_many(store, &options, payloads, count, level));
}

static void run(uint64_t seed, bool as_actions)
{
	struct wh_sim_options machine = {.seed = seed};
	struct wh_sim_fault slow = {.kinds = WH_SIM_FSYNCS, .late_ns = 100 * WH_NS_PER_MS};
	uint64_t told = 0;
	plan = (struct plan){.seed = seed};
	must(wh_sim_open(&sim, &machine) == 0, "machine");
	loop = plan_loop(sim);
	open_store();
	submit(as_actions, 1, STORE_LOCAL);
	must(wh_sim_add_fault(sim, &slow) == 0, "slow");
	int64_t began = wh_now(loop);
	for (int i = 0; i < BATCHES; i++)
		told = submit(as_actions, BATCH, STORE_ASYNC);
	must(told > 65536, "so many ids are no more than a block: the test tries nothing");
	must(wh_now(loop) - began < 300 * WH_NS_PER_MS,
	     "everything was flushed by and by: the test tries nothing");
	wh_sim_power_cut(sim);
	(void)!store_close(store);
	loop = wh_loop_close(loop);
	must(wh_sim_restart(sim, NULL, WH_SIM_KEEP_OLD) == 0, "restart");
	loop = plan_loop(sim);
	open_store();
	uint64_t next = submit(as_actions, 1, STORE_LOCAL);
	must(next > told,
	     "job %" PRIu64 " has the id of one that was told before the cut, the last of which was %" PRIu64,
	     next, told);
	must(store_recount(store) == 0 && store_close(store) == 0, "close");
	loop = wh_loop_close(loop);
	sim = wh_sim_close(sim);
}

int main(void)
{
	for (uint64_t seed = 1; seed <= 3; seed++) {
		run(seed, false);
		run(seed, true);
	}
	return 0;
}
