/* sim.h -- simulated machines: programs of libwhilst in virtual time, with disks that lose power, all decided by a seed.
 *
 * A wh_sim is a machine: a clock, a disk and a source of randomness. Loops opened on it with WH_SIM run
 * deterministically in virtual time. How true it is to a real machine: docs/design/simulation.md.
 */
#ifndef WHILST_SIM_H
#define WHILST_SIM_H

#include "whilst.h"

#ifdef __cplusplus
extern "C" {
#endif

struct wh_sim_options {
	uint64_t seed;
	/* power is cut at the k-th disk call (1 = first), before it has effect; 0: never */
	uint64_t crash_at_io;
	uint64_t fail_at_io;    /* the k-th disk call fails with fail_error; 0: never */
	int fail_error;         /* positive errno */
	bool fail_from_then_on; /* not once but for ever */
	uint64_t disk_bytes;    /* capacity, 0: unlimited; beyond: -ENOSPC */
};
/* What becomes of a 512-byte sector that was written but not synced when power is cut. */
enum wh_sim_damage {
	WH_SIM_RANDOM = 0, /* one of the below for each sector, by the seed */
	WH_SIM_KEEP_NEW,
	WH_SIM_KEEP_OLD,
	WH_SIM_ZERO,
	WH_SIM_GARBAGE,
	WH_SIM_KILLED, /* no power cut: only the process ended, as by kill -9. All that was written is read
			  again, and what was not synced still is not */
};
/* wh_sim_open() - a new machine with an empty disk; options may be NULL. Result 0 or -ENOMEM. */
WH_API int wh_sim_open(wh_sim **ret, const struct wh_sim_options *options) WH_MUST_USE;
WH_API void wh_sim_power_cut(wh_sim *sim);       /* from now on every operation gives -WH_ESIM_POWER_CUT */
WH_API bool wh_sim_has_power(const wh_sim *sim); /* no cut since it was opened or restarted */
/* After a cut and after all its loops are closed: the machine starts again, disk as power left it. options: new
 * faults and a new seed for what follows, NULL for none. damage: enum wh_sim_damage. */
WH_API int wh_sim_restart(wh_sim *sim, const struct wh_sim_options *options, int damage) WH_MUST_USE;
WH_API uint64_t wh_sim_io_count(const wh_sim *sim); /* disk calls since start: bounds for crash_at_io */
WH_API wh_sim *wh_sim_close(wh_sim *sim);           /* after all its loops; returns NULL, accepts NULL */

#ifdef __cplusplus
}
#endif
#endif
