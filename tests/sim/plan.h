/* tests/sim/plan.h -- how a run on the simulated machine is asked for, told and repeated.
 *
 * A run is decided by its plan: a seed, where power is cut, what it does to unsynced sectors. A test goes through
 * many plans; what fails prints its plan, and WHILST_SIM_PLAN runs that one alone, telling every disk call.
 *
 *     WHILST_SIM_SEEDS   how many seeds (the size of the test; default: what fits the gate)
 *     WHILST_SIM_FIRST   the first one
 *     WHILST_SIM_PLAN    seed:crash_at:damage:fail_at:error:from_then_on
 *
 * Nothing on a simulated machine waits, so a run that takes minutes of the processor's time will not end: it says so, and its plan.
 */
#ifndef TESTS_SIM_PLAN_H
#define TESTS_SIM_PLAN_H

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "whilst/sim.h"

struct plan {
	uint64_t seed;
	uint64_t crash_at; /* disk call of the first life */
	int damage;        /* enum wh_sim_damage */
	uint64_t fail_at;
	int error;
	bool from_then_on;
};

/* What the plans have led to, for the line at the end. */
struct tally {
	uint64_t runs, crashes, recoveries, crashes_in_recovery, faults, checked, lost, kept, files;
};

static struct plan plan;
static struct tally tally;
static bool verbose;
static uint64_t chance_state;

static inline void plan_print(FILE *to)
{
	fprintf(to, "WHILST_SIM_PLAN=%" PRIu64 ":%" PRIu64 ":%d:%" PRIu64 ":%d:%d", plan.seed, plan.crash_at,
	        plan.damage, plan.fail_at, plan.error, plan.from_then_on);
}

enum { RUN_CPU_S = 100 };

static inline void plan_does_not_end(int signal)
{
	char text[200];
	int len =
		snprintf(text, sizeof(text),
	                 "a run does not end\nrepeat with WHILST_SIM_PLAN=%" PRIu64 ":%" PRIu64 ":%d:%" PRIu64
	                 ":%d:%d\n",
	                 plan.seed, plan.crash_at, plan.damage, plan.fail_at, plan.error, plan.from_then_on);

	(void)signal;
	(void)!write(STDERR_FILENO, text, (size_t)len);
	_exit(1);
}

/* At the beginning of each run. */
static inline void plan_watch(void)
{
	const struct itimerval limit = {.it_value = {.tv_sec = RUN_CPU_S}};

	signal(SIGPROF, plan_does_not_end);
	setitimer(ITIMER_PROF, &limit, NULL);
}

/* What must hold, or the run is over. */
#define must(condition, ...)                                                            \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
			fprintf(stderr, __VA_ARGS__);                                   \
			fprintf(stderr, "\nrepeat with ");                              \
			plan_print(stderr);                                             \
			fprintf(stderr, "\n");                                          \
			exit(1);                                                        \
		}                                                                       \
	} while (0)

static inline uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static inline bool plan_from_environment(void)
{
	const char *text = getenv("WHILST_SIM_PLAN");
	int then_on = 0;
	if (!text)
		return false;
	if (sscanf(text, "%" SCNu64 ":%" SCNu64 ":%d:%" SCNu64 ":%d:%d", &plan.seed, &plan.crash_at,
	           &plan.damage, &plan.fail_at, &plan.error, &then_on) != 6) {
		fprintf(stderr, "WHILST_SIM_PLAN: six numbers\n");
		exit(2);
	}
	plan.from_then_on = then_on;
	verbose = true;
	return true;
}

/* The test's own chance, apart from the machine's: what is asked for does not depend on what happens. */
static inline uint64_t chance(uint64_t below)
{
	chance_state += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t z = chance_state;
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31)) % below;
}

static inline void tell(int level, const char *message, void *arg)
{
	if (verbose)
		fprintf(stderr, "\t%s\n", message);
}

static inline wh_loop *plan_loop(wh_sim *sim)
{
	wh_loop *loop = NULL;
	int error = wh_loop_open(
		&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim, .log = verbose ? tell : NULL});
	must(error == 0, "%s", wh_strerror(error));
	return loop;
}

/* A machine that the plan spoils. */
static inline wh_sim *plan_machine(void)
{
	wh_sim *sim = NULL;
	struct wh_sim_options options = {.seed = plan.seed,
	                                 .crash_at_io = plan.crash_at,
	                                 .fail_at_io = plan.fail_at,
	                                 .fail_error = plan.error,
	                                 .fail_from_then_on = plan.from_then_on};
	int error = wh_sim_open(&sim, &options);
	must(error == 0, "%s", wh_strerror(error));
	chance_state = plan.seed;
	tally.runs++;
	plan_watch();
	return sim;
}

/* How a life has ended, and what it was to end by. Returns the disk calls that it has made. */
static inline uint64_t plan_first_life(wh_sim *sim, int64_t error)
{
	must(error == 0 || plan.crash_at > 0 || plan.fail_at > 0, "the first life: %s", wh_strerror(error));
	uint64_t calls = wh_sim_io_count(sim);
	tally.faults += plan.fail_at > 0 && plan.fail_at <= calls;
	chance_state = plan.seed + plan.crash_at * 77 + (uint64_t)plan.damage;
	return calls;
}

static inline double seconds(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static inline void tally_print(const char *name, uint64_t first, uint64_t seeds, double from)
{
	printf("%s: seeds %" PRIu64 "..%" PRIu64 ", %" PRIu64 " runs, %" PRIu64
	       " power cuts or kills (%" PRIu64 " within recovery), %" PRIu64 " faults, %" PRIu64
	       " recoveries, %" PRIu64 " commits checked: %" PRIu64 " kept, %" PRIu64
	       " lost of which none was promised; %.1f s\n",
	       name, first, first + seeds - 1, tally.runs, tally.crashes, tally.crashes_in_recovery,
	       tally.faults, tally.recoveries, tally.checked, tally.kept, tally.lost, seconds() - from);
	fflush(stdout);
}

/* run() follows a plan. What it returns is that of a test: the disk calls of its first life, or a trace. */
typedef uint64_t plan_run(void);

/* WHILST_SIM_PLAN is run alone; false: there is none. */
static inline bool plan_alone(plan_run *run)
{
	if (!plan_from_environment())
		return false;
	printf("ended: %016" PRIx64 "\n", run());
	return true;
}

/* Every seed once, and the first one twice: run() returns a trace, which is the same. */
static inline void plan_each_seed(plan_run *run, uint64_t first, uint64_t seeds)
{
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		plan = (struct plan){.seed = seed};
		uint64_t trace = run();
		must(seed != first || run() == trace, "the same seed gave another run");
	}
}

/* As many as the environment says. */
static inline void plan_seeds(const char *name, plan_run *run, uint64_t seeds)
{
	uint64_t first = env_number("WHILST_SIM_FIRST", 1);
	double from = seconds();
	seeds = env_number("WHILST_SIM_SEEDS", seeds);
	plan_each_seed(run, first, seeds);
	tally_print(name, first, seeds, from);
}

/* ---- power and faults at every disk call: run() returns how many there are in the first life ---- */

/* Power is cut at every disk call of each seed's life, with each damage. What must have come of it all is the caller's to say. */
static inline void plan_cut_everywhere(const char *name, plan_run *run, uint64_t seeds)
{
	uint64_t first = env_number("WHILST_SIM_FIRST", 1);
	double from = seconds();
	seeds = env_number("WHILST_SIM_SEEDS", seeds);
	tally = (struct tally){0};
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		plan = (struct plan){.seed = seed};
		uint64_t calls = run();
		for (uint64_t at = 1; at <= calls; at++) {
			for (int damage = 0; damage <= WH_SIM_KILLED; damage++) {
				plan = (struct plan){.seed = seed, .crash_at = at, .damage = damage};
				(void)run();
			}
		}
	}
	tally_print(name, first, seeds, from);
}

/* Every disk call of each seed's life fails, once or from then on. */
static inline void plan_fail_everywhere(plan_run *run, uint64_t seeds)
{
	static const int errors[] = {EIO, ENOSPC};
	uint64_t first = env_number("WHILST_SIM_FIRST", 1);
	double from = seconds();
	seeds = env_number("WHILST_SIM_SEEDS", seeds);
	tally = (struct tally){0};
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		plan = (struct plan){.seed = seed};
		uint64_t calls = run();
		for (uint64_t at = 1; at <= calls; at++) {
			for (int kind = 0; kind < 4; kind++) {
				plan = (struct plan){.seed = seed,
				                     .fail_at = at,
				                     .error = errors[kind / 2],
				                     .from_then_on = kind % 2,
				                     .damage = at % 3 ? WH_SIM_KILLED : WH_SIM_RANDOM};
				(void)run();
			}
		}
	}
	tally_print("faults", first, seeds, from);
}

#endif
