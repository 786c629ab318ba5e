/* tests/fault/test_log_crash.c -- the power goes at every disk call of a script, and nothing that was promised is lost.
 *
 * The script runs on the simulated machine: commits of both levels, transactions, rolls, idle times, a clean end and a
 * new start. After every crash, for every kind of damage to what was not flushed, the log is opened again and must keep
 * what durability.md calls I1 (acknowledged commits survive), I2 (survivors are a prefix), I3 (commits are whole), I7
 * (recovering twice is recovering once, also when recovery itself crashes), I8 (it always starts: nothing durable was
 * damaged) and I10 (the published end of the epoch says exactly what survived).
 *
 * In the gate, steps are skipped so that it takes seconds; LOG_CRASH_ALL=1 takes every one, LOG_CRASH_SEEDS=n
 * scripts, from LOG_CRASH_FIRST on.
 */
#include "../unit/log_help.h"

enum { COMMITS_MAX = 400 };

static const int damages[] = {WH_SIM_RANDOM, WH_SIM_KEEP_NEW, WH_SIM_KEEP_OLD,
                              WH_SIM_ZERO,   WH_SIM_GARBAGE,  WH_SIM_KILLED};
enum { DAMAGES = sizeof(damages) / sizeof(*damages) };

static uint64_t runs; /* crash-recoveries that were checked */
static char context[160];

static uint32_t environment(const char *name, uint32_t otherwise)
{
	const char *value = getenv(name);
	return value ? (uint32_t)strtoul(value, NULL, 10) : otherwise;
}

#define CHECK(condition)                                         \
	do {                                                     \
		if (!(condition))                                \
			fail_msg("%s: %s", context, #condition); \
	} while (0)

/* What the log had promised when it stopped. */
struct promise {
	uint64_t written, flushed;
};

static struct log_options crash_options(struct help_model *model)
{
	struct log_options options = help_options("data", model);
	options.group_bytes = 16384;
	return options;
}

/* One life: false when something failed (the power, as a rule). *ret is what had been promised by then. */
static bool live(wh_sim *sim, struct help_model *model, uint32_t seed, uint32_t commits, struct promise *ret)
{
	struct log_options options = crash_options(model);
	struct log *log = NULL;
	struct log_problem problem;
	bool good = true;
	loop = NULL;
	if (wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}) < 0)
		return false;
	if (log_open(loop, &options, &log, &problem) < 0) {
		loop = wh_loop_close(loop);
		return false;
	}
	CHECK(!model->wrong && model->replayed == model->count);
	for (uint32_t i = 0; i < commits && good; i++) {
		struct log_commit commit = {0};
		uint32_t dice = help_mix(seed * 7919 + i);
		uint32_t count = dice % 16 == 0 ? 28 : dice % 5;
		good = help_commit(log, model, count, dice >> 8 & 1 ? LOG_ASYNC : LOG_LOCAL, &commit) == 0;
		if (good && dice >> 9 & 1)
			good = wh_await(wh_mark_wait(commit.mark, commit.lsn)).n == 0;
		else if (good && dice >> 10 & 1)
			good = wh_loop_turn(loop, 0) >= 0;
		if (good && (dice >> 11) % 16 == 0)
			good = wh_await(wh_sleep(loop, (dice >> 16) % 20 * WH_NS_PER_MS)).n == 0;
	}
	*ret = (struct promise){wh_mark_read(log_written(log)), wh_mark_read(log_flushed(log))};
	if (good) {
		good = log_close(log) == 0;
		if (good)
			ret->flushed = ret->written = UINT64_MAX; /* all of it */
	} else {
		(void)log_close(log);
	}
	loop = wh_loop_close(loop);
	return good;
}

/* Forget what was lost: the model becomes what survived. */
static void cut_model(struct help_model *model, uint32_t count)
{
	model->count = count;
}

/* Open after a crash, check everything, commit, close. The model becomes what survived and what is new, *promise what
 * this life has promised. false: the power went again. */
static bool recover(wh_sim *sim, struct help_model *model, struct promise *promise, bool killed,
                    bool more_crashes)
{
	struct log_options options = crash_options(model);
	struct log *log = NULL;
	struct log_problem problem;
	char text[1024];
	loop = NULL;
	CHECK(wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}) == 0);
	int status = log_open(loop, &options, &log, &problem);
	if (status < 0) {
		if (!more_crashes || wh_sim_has_power(sim)) {
			log_problem_text(&problem, text, sizeof(text));
			fail_msg("%s: does not start: %s", context, text);
		}
		loop = wh_loop_close(loop);
		return false;
	}
	CHECK(!model->wrong); /* I2: a prefix, and the bytes are right */
	CHECK(model->replayed <= model->count);
	uint32_t survived = model->replayed;
	const struct help_record *records = model->records;
	if (survived > 0 && survived < model->count)
		CHECK(records[survived - 1].commit != records[survived].commit); /* I3 */
	for (uint32_t i = survived; i < model->count; i++)
		CHECK(records[i].lsn > (killed ? promise->written : promise->flushed)); /* I1 */
	for (uint32_t i = 0; i < model->count; i++) {
		uint64_t end = 0;
		CHECK(log_epoch_end(log, records[i].epoch, &end) == 0);
		CHECK((records[i].lsn <= end) == (i < survived)); /* I10 */
	}
	cut_model(model, survived);
	/* The log goes on: a transaction, which must not be mixed up with the rest of a lost one. */
	struct log_commit commit = {0};
	bool good = help_commit(log, model, 28, LOG_LOCAL, &commit) == 0 &&
	            wh_await(wh_mark_wait(commit.mark, commit.lsn)).n == 0;
	CHECK(good || (more_crashes && !wh_sim_has_power(sim)));
	*promise = (struct promise){wh_mark_read(log_written(log)), wh_mark_read(log_flushed(log))};
	good = log_close(log) == 0 && good;
	if (good)
		promise->flushed = promise->written = UINT64_MAX;
	loop = wh_loop_close(loop);
	runs++;
	return good;
}

static wh_sim *new_machine(uint64_t seed, uint64_t crash_at)
{
	wh_sim *sim = NULL;
	CHECK(wh_sim_open(&sim, &(struct wh_sim_options){.seed = seed, .crash_at_io = crash_at}) == 0);
	return sim;
}

/* Two lives of the script. false: it ended early. */
static bool script(wh_sim *sim, struct help_model *model, uint32_t seed, struct promise *ret)
{
	return live(sim, model, seed, 60, ret) && live(sim, model, seed + 1, 60, ret);
}

static uint64_t calls_of_script(uint32_t seed)
{
	struct help_model model;
	struct promise promise = {0};
	help_init(&model, 1400);
	snprintf(context, sizeof(context), "seed %u, no crash", seed);
	wh_sim *sim = new_machine(seed, 0);
	CHECK(script(sim, &model, seed, &promise));
	uint64_t count = wh_sim_io_count(sim);
	wh_sim_close(sim);
	help_fini(&model);
	return count;
}

/* Crash at call k, then recover, then recover again. */
static void crash_at(uint32_t seed, uint64_t k, int damage)
{
	struct help_model model;
	struct promise promise = {0};
	help_init(&model, 1400);
	snprintf(context, sizeof(context), "seed %u, crash at call %llu, damage %d", seed,
	         (unsigned long long)k, damage);
	wh_sim *sim = new_machine(seed, k);
	bool whole = script(sim, &model, seed, &promise);
	CHECK(!whole || !wh_sim_has_power(sim) || wh_sim_io_count(sim) < k);
	wh_sim_power_cut(sim);
	CHECK(wh_sim_restart(sim, &(struct wh_sim_options){.seed = seed ^ k}, damage) == 0);
	bool good = recover(sim, &model, &promise, damage == WH_SIM_KILLED, false);
	CHECK(good);
	wh_sim_power_cut(sim);
	CHECK(wh_sim_restart(sim, NULL, WH_SIM_RANDOM) == 0);
	good = recover(sim, &model, &promise, false, false); /* I7 */
	CHECK(good);
	wh_sim_close(sim);
	help_fini(&model);
}

static void a_crash_at_every_call(void **state)
{
	bool all = environment("LOG_CRASH_ALL", 0);
	uint32_t seeds = environment("LOG_CRASH_SEEDS", 1), stride = all ? 1 : 2;
	uint32_t first = environment("LOG_CRASH_FIRST", 1);
	for (uint32_t seed = first; seed < first + seeds; seed++) {
		uint64_t calls = calls_of_script(seed);
		print_message("seed %u: %llu disk calls\n", seed, (unsigned long long)calls);
		CHECK(calls > 200);
		for (int i = 0; i < DAMAGES; i++)
			for (uint64_t k = 1 + (uint64_t)i % stride; k <= calls; k += stride)
				crash_at(seed, k, damages[i]);
	}
	print_message("%llu crash-recoveries\n", (unsigned long long)runs);
}

/* Crash at call k, then at call j of the recovery, then recover. */
static uint64_t crash_twice(uint32_t seed, uint64_t k, uint64_t j, int damage)
{
	struct help_model model;
	struct promise promise = {0};
	help_init(&model, 1400);
	snprintf(context, sizeof(context), "seed %u, crash at call %llu, damage %d, again at call %llu", seed,
	         (unsigned long long)k, damage, (unsigned long long)j);
	wh_sim *sim = new_machine(seed, k);
	(void)script(sim, &model, seed, &promise);
	wh_sim_power_cut(sim);
	CHECK(wh_sim_restart(sim, &(struct wh_sim_options){.seed = seed ^ k, .crash_at_io = j}, damage) == 0);
	bool through = recover(sim, &model, &promise, damage == WH_SIM_KILLED, true);
	uint64_t calls = through ? wh_sim_io_count(sim) : UINT64_MAX;
	wh_sim_power_cut(sim);
	CHECK(wh_sim_restart(sim, &(struct wh_sim_options){.seed = j}, WH_SIM_RANDOM) == 0);
	CHECK(recover(sim, &model, &promise, false, false));
	wh_sim_close(sim);
	help_fini(&model);
	return calls;
}

static void a_crash_within_recovery(void **state)
{
	bool all = environment("LOG_CRASH_ALL", 0);
	uint32_t seeds = environment("LOG_CRASH_SEEDS", 1), first = environment("LOG_CRASH_FIRST", 1);
	for (uint32_t seed = first; seed < first + seeds; seed++) {
		uint64_t calls = calls_of_script(seed + 100), stride = all ? 7 : calls / 9;
		for (uint64_t k = 3; k <= calls; k += stride)
			for (uint64_t j = 1;; j++)
				if (crash_twice(seed + 100, k, j, WH_SIM_RANDOM) < j)
					break;
	}
	print_message("%llu crash-recoveries\n", (unsigned long long)runs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_crash_at_every_call),
		cmocka_unit_test(a_crash_within_recovery),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
