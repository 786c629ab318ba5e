/* tests/sim/test_sim_small.c -- every crash of every small script: the log, a few operations, power cut at every disk call,
 * and for each cut every subset of what was not safe; then again within each recovery.
 *
 * Chance finds what is likely; this finds what is small. Scripts are numbered by length: 1..8 are the single operations,
 * 9..72 the pairs, and so on up to six of them. A crash state is a script, the disk call at which power goes, and one
 * answer (survives or not) for each size and name that was not safe, two for each block (survives, torn or not): all answers for
 * up to 12 of them, a sample of 4096 beyond. After each, the log must start (I8); commits are whole (I3) and a prefix (I2), what was flushed is there (I1), the
 * published end of the epoch says exactly what (I10), a checkpoint that was acknowledged is used, and going on works. Power
 * is also cut at every call of the recovery and of what follows it, with every subset of up to 4 (beyond: none, all, each alone),
 * and the recovery after that must show all that the first one had shown (I7).
 *
 *     WHILST_SIM_FIRST, WHILST_SIM_SEEDS    which scripts, and how many
 *     WHILST_SMALL_NESTED=1                 within recoveries for all scripts, not only for the first; more failures
 */
#include <inttypes.h>
#include <time.h>

#include "../unit/log_help.h"
#include "engine/sim_choose.h"

enum { KINDS = 8, LENGTH_MAX = 6, SUBSET_MAX = 12, SAMPLE = 4096, NESTED_SUBSET_MAX = 4 };

static const char letters[KINDS + 1] = "lawnbscr";
/* l: local commit, awaited; a: async, written; w: async, not awaited; n: local, not awaited; b: a big transaction of several
 * groups; s: sleep until all is flushed and sealed; c: checkpoint; r: close, and start again */

struct promise {
	uint64_t written, flushed;
	uint32_t saved; /* records in the newest checkpoint that was acknowledged */
};

/* Answers of a power cut. */
struct answers {
	uint64_t bits;
	uint32_t asked;
};

static wh_sim *sim;
static struct help_model model;
static uint32_t from_checkpoint, saved_max;
static uint64_t states, recoveries, nested, sampled;
static uint64_t machine_seed = 1;
static uint64_t fail_at; /* the disk call of the first life that fails instead; 0: none */
static char script[LENGTH_MAX + 1], context[200];

#define CHECK(condition)                                         \
	do {                                                     \
		if (!(condition))                                \
			fail_msg("%s: %s", context, #condition); \
	} while (0)

static bool answer(void *arg)
{
	struct answers *answers = arg;
	return answers->bits >> (answers->asked++ & 63) & 1;
}

/* ---- the log ----------------------------------------------------------------------------- */

static int replay(void *arg, const struct log_record *record)
{
	uint32_t i = model.replayed;
	if (record->checkpoint)
		from_checkpoint++;
	bool placed = record->checkpoint ? record->location == 0 && i < saved_max && from_checkpoint == i + 1
	                                 : i < model.count && record->location == model.records[i].location &&
	                                           record->epoch == model.records[i].epoch;
	if (!placed || i >= model.count ||
	    !help_same(&model, model.records[i].seed, record->type, record->version, record->flags,
	               record->fixed, record->fixed_bytes, record->payload, record->payload_bytes))
		model.wrong = true;
	model.replayed++;
	return 0;
}

static int open_log(struct log **ret, bool may_fail)
{
	struct log_options options = help_options("data", &model);
	struct log_problem problem;
	char text[1024];
	options.group_bytes = 16384;
	options.replay = replay;
	from_checkpoint = 0;
	int status = log_open(loop, &options, ret, &problem);
	if (status < 0 && wh_sim_has_power(sim) && !may_fail) {
		log_problem_text(&problem, text, sizeof(text));
		fail_msg("%s: does not start: %s", context, text);
	}
	return status;
}

static bool open_machine_loop(void)
{
	loop = NULL;
	return wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}) == 0;
}

static bool commit(struct log *log, uint32_t count, int level, bool awaited)
{
	struct log_commit made = {0};
	return help_commit(log, &model, count, level, &made) == 0 &&
	       (awaited ? wh_await(wh_mark_wait(made.mark, made.lsn)).n == 0 : wh_loop_turn(loop, 0) >= 0);
}

static bool save(struct log *log, struct promise *promise)
{
	uint32_t before = model.in_checkpoint, count = model.count;
	saved_max = count; /* may be found from now on */
	int status = help_checkpoint(log, &model);
	model.in_checkpoint = before;
	if (status == 0)
		promise->saved = count;
	return status == 0 || status == -EALREADY;
}

/* One operation. false: power is gone. */
static bool operate(struct log **log, char letter, struct promise *promise)
{
	switch (letter) {
	case 'l':
		return commit(*log, 1, LOG_LOCAL, true);
	case 'a':
		return commit(*log, 1, LOG_ASYNC, true);
	case 'w':
		return commit(*log, 2, LOG_ASYNC, false);
	case 'n':
		return commit(*log, 1, LOG_LOCAL, false);
	case 'b':
		return commit(*log, 28, LOG_LOCAL, false);
	case 's':
		return wh_await(wh_sleep(loop, 25 * WH_NS_PER_MS)).n == 0;
	case 'c':
		return save(*log, promise);
	default: {
		bool good = log_close(*log) == 0;
		*log = NULL;
		if (good)
			promise->flushed = promise->written =
				model.count ? model.records[model.count - 1].lsn : 0;
		return good && open_log(log, fail_at > 0) == 0 && !model.wrong &&
		       model.replayed == model.count;
	}
	}
}

/* The script, until it ends or power does. *ret: what was promised by then. */
static void live(uint64_t crash_at, struct promise *ret)
{
	struct log *log = NULL;
	*ret = (struct promise){0};
	help_init(&model, 1400);
	saved_max = 0;
	struct wh_sim_options options = {
		.seed = machine_seed, .crash_at_io = crash_at, .fail_at_io = fail_at, .fail_error = EIO};
	CHECK(wh_sim_open(&sim, &options) == 0);
	CHECK(open_machine_loop());
	bool good = open_log(&log, fail_at > 0) == 0;
	for (const char *letter = script; good && *letter; letter++)
		good = operate(&log, *letter, ret);
	CHECK(good || !wh_sim_has_power(sim) || fail_at > 0);
	if (log && wh_mark_read(log_flushed(log)) > ret->flushed)
		ret->flushed = wh_mark_read(log_flushed(log));
	if (log_close(log) == 0 && good)
		ret->flushed = UINT64_MAX; /* all of it */
	loop = wh_loop_close(loop);
}

static void end_life(void)
{
	loop = wh_loop_close(loop);
	sim = wh_sim_close(sim);
	help_fini(&model);
}

/* ---- crash and recovery ------------------------------------------------------------------ */

static uint32_t cut(struct answers *answers, uint64_t bits, uint64_t crash_at)
{
	*answers = (struct answers){.bits = bits};
	wh__sim_choose(sim, answer, answers);
	wh_sim_power_cut(sim);
	CHECK(wh_sim_restart(sim, &(struct wh_sim_options){.seed = 1, .crash_at_io = crash_at},
	                     WH_SIM_KEEP_OLD) == 0);
	wh__sim_choose(sim, NULL, NULL);
	return answers->asked;
}

/* Start, check, go on. false: power was cut meanwhile. *least: so many records must be there; raised by what is shown. */
static bool recover(const struct promise *promise, uint32_t *least)
{
	struct log *log = NULL;
	if (!open_machine_loop() || open_log(&log, false) < 0)
		return false;
	uint32_t there = model.replayed;
	CHECK(!model.wrong && there <= model.count && there >= *least);
	CHECK(from_checkpoint >= promise->saved);
	CHECK(there == 0 || there == model.count ||
	      model.records[there - 1].commit != model.records[there].commit);
	for (uint32_t i = 0; i < model.count; i++) {
		uint64_t end = 0;
		CHECK(log_epoch_end(log, model.records[i].epoch, &end) == 0);
		CHECK((model.records[i].lsn <= end) == (i < there));
	}
	recoveries++;
	/* what is not there now will never be; what is, and is shown, stays */
	model.count = *least = there;
	struct log_commit made = {0};
	bool good = help_commit(log, &model, 1, LOG_LOCAL, &made) == 0 &&
	            wh_await(wh_mark_wait(made.mark, made.lsn)).n == 0;
	CHECK(good || !wh_sim_has_power(sim));
	if (good)
		*least = model.count;
	good = log_close(log) == 0 && good;
	loop = wh_loop_close(loop);
	if (!good || !open_machine_loop() || open_log(&log, false) < 0)
		return false;
	CHECK(!model.wrong && model.replayed == model.count);
	return log_close(log) == 0;
}

/* The state of the disk after a cut at call k, then recovery, cut short at call j (0: not). Returns its disk calls. */
static uint64_t try_state(uint64_t k, uint64_t bits, uint64_t j, uint64_t nested_bits, uint32_t *ret_asked,
                          uint32_t *ret_nested_asked)
{
	struct promise promise;
	struct answers answers;
	snprintf(context, sizeof(context),
	         "script %s, failure at call %" PRIu64 ", cut at call %" PRIu64 ", answers %" PRIx64
	         ", again at call %" PRIu64 ", answers %" PRIx64,
	         script, fail_at, k, bits, j, nested_bits);
	live(k, &promise);
	uint32_t least = 0;
	while (least < model.count && model.records[least].lsn <= promise.flushed)
		least++;
	*ret_asked = 0;
	if (fail_at == 0)
		*ret_asked = cut(&answers, bits, j);
	else
		CHECK(wh_sim_restart(sim, &(struct wh_sim_options){.seed = 1, .crash_at_io = j},
		                     WH_SIM_KILLED) == 0);
	bool through = recover(&promise, &least);
	loop = wh_loop_close(loop);
	CHECK(through || j > 0);
	uint64_t calls = wh_sim_io_count(sim);
	states++;
	*ret_nested_asked = 0;
	if (!through) {
		calls = UINT64_MAX;
		nested++;
		*ret_nested_asked = cut(&answers, nested_bits, 0);
		CHECK(recover(&promise, &least));
	}
	end_life();
	return calls;
}

/* Power again at every call of the recovery of this state. */
static void try_recovery(uint64_t k, uint64_t bits)
{
	uint32_t asked, nested_asked;
	for (uint64_t j = 1; try_state(k, bits, j, 0, &asked, &nested_asked) == UINT64_MAX; j++) {
		if (nested_asked <= NESTED_SUBSET_MAX) {
			for (uint64_t inner = 1; inner < UINT64_C(1) << nested_asked; inner++)
				(void)try_state(k, bits, j, inner, &asked, &nested_asked);
			continue;
		}
		uint32_t count = nested_asked < 64 ? nested_asked : 64;
		(void)try_state(k, bits, j, UINT64_MAX, &asked, &nested_asked);
		for (uint32_t i = 0; i < count; i++)
			(void)try_state(k, bits, j, UINT64_C(1) << i, &asked, &nested_asked);
	}
}

static void try_cut(uint64_t k, bool with_nested)
{
	uint32_t asked, nested_asked;
	(void)try_state(k, 0, 0, 0, &asked, &nested_asked);
	uint64_t count = asked <= SUBSET_MAX ? UINT64_C(1) << asked : SAMPLE;
	sampled += asked > SUBSET_MAX;
	for (uint64_t i = 1; i < count; i++) {
		uint64_t bits = i;
		if (asked > SUBSET_MAX && i > 1) /* all first, then any */
			bits = ((uint64_t)help_mix((uint32_t)i) << 32 | help_mix((uint32_t)(i + k * 7919)));
		else if (asked > SUBSET_MAX)
			bits = UINT64_MAX;
		(void)try_state(k, bits, 0, 0, &asked, &nested_asked);
	}
	if (!with_nested)
		return;
	try_recovery(k, 0);
	if (asked > 0)
		try_recovery(k, UINT64_MAX);
}

/* Script number 1, 2, ...: by length, then in the order of the letters. */
static void name_script(uint64_t number)
{
	uint64_t count = KINDS, rest = number - 1;
	int length = 1;
	for (; rest >= count; length++, count *= KINDS)
		rest -= count;
	CHECK(length <= LENGTH_MAX);
	memset(script, 0, sizeof(script));
	for (int at = length; at-- > 0; rest /= KINDS)
		script[at] = letters[rest % KINDS];
}

static uint64_t environment(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);
	return value && *value ? strtoull(value, NULL, 10) : otherwise;
}

static uint64_t calls_of_script(void)
{
	struct promise promise;
	live(0, &promise);
	uint64_t calls = wh_sim_io_count(sim);
	end_life();
	return calls;
}

static void test_every_crash_of_every_small_script(void **state)
{
	uint64_t first = environment("WHILST_SIM_FIRST", 1), count = environment("WHILST_SIM_SEEDS", 12);
	struct timespec from, to;
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (uint64_t number = first; number < first + count; number++) {
		snprintf(context, sizeof(context), "script %" PRIu64, number);
		script[0] = 0;
		uint64_t opening = calls_of_script();
		name_script(number);
		uint64_t calls = calls_of_script();
		bool with_nested = environment("WHILST_SMALL_NESTED", number == 1);
		/* how an empty log is made and closed is the same for all: tried once */
		for (uint64_t k = number == 1 ? 1 : opening / 2; k <= calls + 1; k++)
			try_cut(k, with_nested);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	print_message("scripts %" PRIu64 "..%" PRIu64 ": %" PRIu64 " crash states (%" PRIu64
	              " cut again within recovery), %" PRIu64 " recoveries checked, %" PRIu64
	              " cuts with more than 12 unsafe, sampled; %.1f s\n",
	              first, first + count - 1, states, nested, recoveries, sampled,
	              (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
}

/* A disk call fails, and the process ends; the page cache shows what the disk does not hold. The next start is cut short at every
 * call: it must not have hung on the cache. */
static void test_a_failure_then_every_cut_of_the_recovery(void **state)
{
	static const char *const scripts[] = {"l", "l", "ls", "clc"};
	states = recoveries = nested = 0;
	size_t count = environment("WHILST_SMALL_NESTED", 0) ? sizeof(scripts) / sizeof(*scripts) : 1;
	for (size_t i = 0; i < count; i++) {
		fail_at = 0;
		machine_seed = i + 1; /* what a flush that fails leaves behind is left to chance */
		snprintf(script, sizeof(script), "%s", scripts[i]);
		uint64_t calls = calls_of_script();
		for (fail_at = 1; fail_at <= calls; fail_at++)
			try_recovery(0, 0);
	}
	fail_at = 0;
	machine_seed = 1;
	print_message("failures, then cuts: %" PRIu64 " crash states, %" PRIu64 " recoveries checked\n",
	              states, recoveries);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_crash_of_every_small_script),
		cmocka_unit_test(test_a_failure_then_every_cut_of_the_recovery),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
