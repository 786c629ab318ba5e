/* src/engine/sim.h -- the inside of a simulated machine.
 *
 * A wh_sim is a clock, a disk and a source of chance. Everything on it happens on one thread and in one order,
 * which the seed decides.
 *
 * Files: sim_machine.c (open, restart, faults, disk calls), sim.c (the engine: operations under way, time,
 * loops), sim_disk.c and sim_file.c (the disk). Used by: those, and tests.
 */
#ifndef WH_ENGINE_SIM_H
#define WH_ENGINE_SIM_H

#include "engine/sim_disk.h"
#include "runtime/loop.h"
#include "whilst/sim.h"

/* An operation under way. */
struct wh__flight {
	struct wh__op *op;
	int64_t due;  /* when it ends */
	uint64_t tie; /* chance decides between equals */
};

struct wh_sim {
	struct wh_sim_options options;
	struct wh__sim_random random;
	struct wh__disk *disk;
	int64_t now;         /* CLOCK_MONOTONIC */
	int64_t wall_offset; /* CLOCK_REALTIME is so much more */
	uint64_t io_count;
	bool has_power;
	bool turns_others; /* the other loops are being turned by one that waits */
	uint64_t trace;    /* a digest of all that has happened, in order */

	wh_loop **loops;
	size_t loops_count;

	struct wh__flight *flights; /* the one that ends next is the last */
	size_t flights_count, flights_max;
};

/* Do op now: a disk call, counted, with its faults, or work. The payload goes to *ret_ptr. */
int64_t wh__sim_execute(struct wh_sim *sim, struct wh__op *op, void **ret_ptr);

/* How long op takes, by chance. */
int64_t wh__sim_latency(struct wh_sim *sim, const struct wh__op *op);

/* A flush covers what was written when it is started: to be called when op, a WH__OP_FSYNC, is. */
void wh__sim_flush_start(struct wh_sim *sim, struct wh__op *op);
/* op will not be executed. */
void wh__sim_flush_forget(struct wh_sim *sim, struct wh__op *op);

static inline uint64_t wh__sim_trace(const struct wh_sim *sim)
{
	return sim->trace;
}

#endif
