/* tests/sim/test_sim_keys.c -- what is asked for under a key is done once, whatever disk call the power is cut at and however often it is asked.
 *
 * A life asks for changes under keys: a job, a batch, a transaction over queues that are not there yet, a body in a file, events among
 * other things, of which those who are asked for again may have other subscriptions. Power is cut at
 * every disk call of it; then all of them are asked for again, in lives of which the second may be cut as well. What must
 * hold:
 *
 * - what was answered at `local` is answered again with the same ids and position, and not done again;
 * - what was not answered is done now, or was done then: in the end the queues have had exactly the jobs that were asked for;
 * - a checkpoint holds the keys of its moment, as the log before it did.
 */
#include "plan.h"

#include "store/store.h"

enum { KEYS = 40, ACTIONS_MAX = 12 };

struct asked {
	struct store_commit *answer; /* the first at local; NULL: none yet */
	bool done;                   /* one at local was not a repetition */
};

static wh_sim *sim;
static wh_loop *loop;
static struct store *store;
static bool has_failed;
static struct asked asked[KEYS];
static uint64_t replays, checkpoints;

static void on_failure(int64_t error, const char *message, void *arg)
{
	has_failed = true;
}

static int start(void)
{
	struct store_options options = {.directory = "data",
	                                .segment_bytes = 128 << 10,
	                                .checkpoint_bytes = 24 << 10,
	                                .blob_bytes = 4096,
	                                .recent_bytes = 4096,
	                                .on_failure = on_failure};
	struct store_problem problem = {0};
	int error;

	has_failed = false;
	loop = plan_loop(sim);
	error = store_open(loop, &options, &store, &problem);
	must(error != -WH_EDAMAGED, "a crash was taken for damage: %s", problem.text);
	return error;
}

static int64_t stop(void)
{
	int64_t error = 0;

	if (store) {
		struct store_stats stats;

		store_stats(store, &stats);
		checkpoints += stats.checkpoints;
		error = store_close(store);
	}
	store = NULL;
	loop = wh_loop_close(loop);
	return error;
}

/* ---- what is asked for -------------------------------------------------------------------- */

/* Events that jobs come of, one job, and an event that nobody wants. */
enum { EVENTS_COUNT = 3 };

static bool has_events(unsigned key)
{
	return key % 8 == 5;
}

static size_t jobs_of(unsigned key)
{
	return has_events(key) ? EVENTS_COUNT : key % 4 == 1 ? ACTIONS_MAX : key % 4 == 2 ? 3 : 1;
}

/* How many it made, as its answer says. */
static uint64_t jobs_made(unsigned key)
{
	return has_events(key) ? asked[key].answer->results[0].count + 1 : jobs_of(key);
}

static wh_future ask_events(struct store_action *actions, unsigned key, int level,
                            const struct store_key *once)
{
	struct store_asked items[EVENTS_COUNT] = {{.event = true}, {.actions = 1}, {.event = true}};
	struct store_asking asking = {.items = items, .count = EVENTS_COUNT};
	uint32_t jobs = 1 + (uint32_t)chance(5);

	items[0].actions = jobs;
	memset(asking.note, (int)key, sizeof asking.note);
	for (uint32_t i = 0; i < jobs + 1; i++) {
		actions[i] = actions[0];
		actions[i].submit.event = i < jobs;
	}
	return store_apply_asked(store, actions, jobs + 1, &asking, level, once);
}

static wh_future ask(unsigned key, int level)
{
	static char large[5000];
	struct store_action actions[ACTIONS_MAX] = {{0}};
	size_t count = jobs_of(key);
	struct store_key once = {{0}, {0}};
	char name[40], other[40];
	int len = snprintf(name, sizeof name, "somebody/work/key-%u", key);

	snprintf(other, sizeof other, "other-%u", key);
	memset(large, 'x', sizeof large);
	for (size_t i = 0; i < count; i++) {
		actions[i].kind = STORE_SUBMIT;
		actions[i].submit.queue = STORE_SLICE("work");
		if (key % 4 == 2 && i > 0)
			actions[i].submit.queue = (struct store_slice){other, strlen(other)};
		actions[i].submit.payload = (struct store_slice){large, key % 4 == 3 ? sizeof large : 900};
	}
	once.name = (struct store_slice){name, (size_t)len};
	store_key_mix(once.fingerprint, &key, sizeof key);
	store_key_mix(once.fingerprint, large, 100);
	if (has_events(key))
		return ask_events(actions, key, level, &once);
	return store_apply_once(store, actions, count, level, &once);
}

/* An answer at local, the first or another. */
static void answered(unsigned key, struct store_commit *commit)
{
	struct store_commit *first = asked[key].answer;

	must(commit->error == 0 && commit->count == jobs_of(key), "key %u: %s", key, commit->reason);
	replays += commit->replayed;
	must(!asked[key].done || commit->replayed, "key %u was done twice", key);
	asked[key].done |= !commit->replayed;
	if (!first) {
		asked[key].answer = commit;
		return;
	}
	must(commit->position.epoch == first->position.epoch && commit->position.lsn == first->position.lsn,
	     "key %u: another position: %u/%" PRIu64 ", first %u/%" PRIu64, key, commit->position.epoch,
	     commit->position.lsn, first->position.epoch, first->position.lsn);
	for (size_t i = 0; i < commit->count; i++)
		must(commit->results[i].job == first->results[i].job &&
		             commit->results[i].count == first->results[i].count &&
		             commit->results[i].event == first->results[i].event &&
		             commit->results[i].state == first->results[i].state &&
		             commit->results[i].at == first->results[i].at,
		     "key %u: another result", key);
	if (has_events(key))
		must(commit->events_from == first->events_from && commit->note[0] == key &&
		             commit->results[0].event && commit->results[0].job == 1,
		     "key %u: another event", key);
	store_commit_free(commit);
}

/* All of them, several under way at a time; twice, some before the first is answered. */
static int64_t ask_all(bool first)
{
	wh_future under_way[KEYS], again[KEYS];
	int64_t error = 0;

	for (unsigned from = 0; from < KEYS; from += 8) {
		for (unsigned key = from; key < from + 8; key++) {
			under_way[key] = ask(key, first && key % 3 == 0 ? STORE_ASYNC : STORE_LOCAL);
			again[key] = ask(key, STORE_LOCAL);
		}
		for (unsigned key = from; key < from + 8; key++) {
			for (int i = 0; i < 2; i++) {
				wh_res res = wh_await(i ? again[key] : under_way[key]);
				struct store_commit *commit = res.ptr;

				must(res.n == 0 || has_failed || !wh_sim_has_power(sim), "key %u: %s", key,
				     wh_strerror(res.n));
				if (res.n < 0)
					error = res.n;
				else if (commit->level == STORE_ASYNC)
					store_commit_free(commit);
				else
					answered(key, commit);
			}
		}
	}
	return error;
}

static uint64_t submitted(void)
{
	wh_res res = wh_await(store_queues(store));
	struct store_queues *queues = res.ptr;
	uint64_t count = 0;

	must(res.n >= 0, "%s", wh_strerror(res.n));
	for (size_t i = 0; queues && i < queues->count; i++)
		count += queues->queues[i].submitted;
	store_queues_free(queues);
	return count;
}

/* ---- lives -------------------------------------------------------------------------------- */

static uint64_t run(void)
{
	uint64_t wanted = 0, calls;
	int64_t error;

	memset(asked, 0, sizeof asked);
	sim = plan_machine();
	error = start();
	if (error == 0)
		error = ask_all(true);
	if (error == 0)
		error = stop(); /* in order: a crash may come while it ends as well */
	else
		(void)stop();
	calls = plan_first_life(sim, error);
	tally.crashes += error != 0;
	for (int life = 0; life < 3; life++) {
		/* the first of these may be cut, too */
		struct wh_sim_options options = {.seed = plan.seed * 1000 + plan.crash_at + (uint64_t)life};
		bool again = life == 0 && plan.crash_at > 0 && chance(3) == 0;

		options.crash_at_io = again ? 1 + chance(60) : 0;
		wh_sim_power_cut(sim);
		must(wh_sim_restart(sim, &options, life == 0 ? plan.damage : WH_SIM_KILLED) == 0, "restart");
		error = start();
		if (error == 0)
			error = ask_all(false);
		must(error == 0 || again, "life %d: %s", life, wh_strerror(error));
		tally.recoveries += error == 0;
		tally.crashes_in_recovery += error != 0;
		if (error == 0 && life > 0) {
			struct store_stats stats;

			for (unsigned key = 0; key < KEYS; key++)
				wanted += jobs_made(key);
			must(submitted() == wanted, "%" PRIu64 " jobs were made, %" PRIu64 " were asked for",
			     submitted(), wanted);
			store_stats(store, &stats);
			must(stats.keys == KEYS, "%" PRIu64 " keys are kept", stats.keys);
			must(store_recount(store) == 0, "recount");
			wanted = 0;
		}
		(void)stop();
	}
	for (unsigned key = 0; key < KEYS; key++) {
		must(asked[key].answer, "key %u was never answered", key);
		store_commit_free(asked[key].answer);
	}
	tally.checked += KEYS;
	tally.kept += KEYS;
	sim = wh_sim_close(sim);
	return calls;
}

int main(void)
{
	uint64_t first = env_number("WHILST_SIM_FIRST", 1), seeds = env_number("WHILST_SIM_SEEDS", 1),
		 cuts = 0;
	double from = seconds();

	if (plan_alone(run))
		return 0;
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		plan = (struct plan){.seed = seed};
		uint64_t calls = run();

		for (uint64_t at = 1; at <= calls; at++) {
			/* sector by sector as the seed has it, and in turn each kind for all */
			for (int turn = 0; turn < 2; turn++, cuts++) {
				int damage = turn == 0 ? WH_SIM_RANDOM : 1 + (int)(at % WH_SIM_KILLED);

				plan = (struct plan){.seed = seed, .crash_at = at, .damage = damage};
				(void)run();
			}
		}
	}
	printf("%" PRIu64 " cuts, %" PRIu64 " answers given again, %" PRIu64 " checkpoints\n", cuts, replays,
	       checkpoints);
	must(replays > 0 && checkpoints > 0, "nothing was tried");
	tally_print("keys", first, seeds, from);
	return 0;
}
