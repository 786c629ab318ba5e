/* src/engine/sim.h -- the inside of simulated machines and the world they share.
 *
 * A world is a clock, a source of chance and a network; a machine (wh_sim) is a disk, descriptors and loops. Everything
 * in a world happens on one thread and in one order, which the seed decides.
 *
 * Files: sim_world.c (time, and whose turn it is), sim.c (the engine: operations under way), sim_machine.c (open, power,
 * restart), sim_call.c (calls and their faults), sim_disk.c, sim_tree.c, sim_status.c and sim_file.c (the disk), sim_net.c
 * (packets and paths), sim_socket.c and sim_pair.c (sockets, pipes), sim_stream.c (TCP in small). Used by: those, and tests.
 */
#ifndef WH_ENGINE_SIM_H
#define WH_ENGINE_SIM_H

#include "engine/sim_disk.h"
#include "engine/sim_net.h"
#include "runtime/loop.h"
#include "whilst/sim.h"

/* An operation under way. */
struct wh__flight {
	struct wh__op *op;
	int64_t due;  /* when it ends */
	uint64_t tie; /* decides between equals */
};

struct wh__sim_name {
	char *name;
	struct wh__address address;
};

struct wh_sim_world {
	struct wh_sim_world_options options;
	struct wh__sim_random random; /* of order, durations and the network */
	int64_t now;
	uint64_t trace;    /* a digest of all that has happened, in order */
	uint64_t sequence; /* of what is under way */
	bool turns_others; /* the other loops are being turned by one that waits */

	wh_sim **machines;
	size_t machines_count;
	wh_loop **loops;   /* of all machines */
	wh_loop **turning; /* those being walked through */
	size_t turning_max;
	size_t loops_count;

	struct wh__flight *flights; /* the one that ends next is the last */
	size_t flights_count, flights_max;

	struct wh__net net;
	struct wh__sim_name *names; /* in the order they were added */
	size_t names_count;
};

enum { WH__SIM_FAULTS_MAX = 16 };

struct wh_sim {
	struct wh__simulated simulated; /* first: what loop.c knows of it */
	struct wh_sim_options options;
	struct wh__sim_random random; /* of the disk and of faults */
	struct wh_sim_world *world;
	bool owns_world;
	struct wh__disk *disk;
	int64_t clock_offset; /* CLOCK_MONOTONIC is so much more than the world's time */
	int64_t paused_until; /* in the world's time */
	uint64_t io_count;
	bool has_power;
	size_t loops_count;

	struct wh__host host; /* its place in the network */

	struct {
		struct wh_sim_fault fault;
		uint64_t seen;
	} faults[WH__SIM_FAULTS_MAX];
	size_t faults_count;

	struct wh__op *signal_waits;               /* through next and prev */
	uint64_t signals_watched, signals_pending; /* bit number - 1 */
};

#define WH__SIM_FIRST_DAY (INT64_C(1767225600) * WH_NS_PER_S) /* 2026-01-01: when worlds begin */

static inline wh_sim *wh__sim_of(const wh_loop *loop)
{
	return loop->engine_state;
}

static inline int64_t wh__sim_clock(const wh_sim *sim)
{
	return sim->world->now + sim->clock_offset;
}

/* What happened becomes part of the trace. */
static inline void wh__sim_trace(struct wh_sim_world *world, uint64_t what)
{
	world->trace = wh__sim_mix(world->trace * 31 + what);
}

/* ---- sim_world.c ---- */

int wh__sim_join(struct wh_sim_world *world, wh_sim *sim);
void wh__sim_leave(wh_sim *sim);
int wh__sim_add_loop(wh_loop *loop);
void wh__sim_remove_loop(wh_loop *loop);
/* op ends at due, in the world's time. 0 or -ENOMEM. */
int wh__sim_take_off(struct wh__op *op, int64_t due);
/* op is under way no more. false: it was not. */
bool wh__sim_take_out(struct wh__op *op);
/* wait() of the engine: end what is due for loop; let time pass. */
int wh__sim_wait(wh_loop *loop, int64_t timeout_ns);

/* ---- sim_machine.c ---- */

/* lookup() of the engine: in the world's table. */
int64_t wh__sim_lookup(wh_loop *loop, const char *host, int family, struct sockaddr_storage *ret, size_t max);

/* ---- sim.c ---- */

/* op is due. */
void wh__sim_land(struct wh__op *op);

/* ---- sim_call.c ---- */

/* Do op now: a disk call, counted, with its faults, or work. The payload goes to *ret_ptr. */
int64_t wh__sim_execute(struct wh__op *op, void **ret_ptr);
/* The same without counting and faults: of len bytes. */
int64_t wh__sim_call(struct wh__op *op, uint64_t len, void **ret_ptr);
bool wh__sim_changes_the_disk(const struct wh__op *op);
void wh__sim_note(const struct wh__op *op, int64_t n);

/* Which kind of enum wh_sim_kind op is; 0: none. */
uint32_t wh__sim_kind(const struct wh__op *op);
/* Does the next operation of kind fail? Positive errno, or 0. *ret_late (may be NULL): how much longer it takes. */
int wh__sim_fault(wh_sim *sim, uint32_t kind, int64_t *ret_late);

/* How long op takes, by chance. */
int64_t wh__sim_latency(struct wh__op *op);
/* op is being started: how long it takes, by chance and faults. Also decides whether it fails, which op->engine_state remembers: WH__SIM_ERROR. */
int64_t wh__sim_start(struct wh__op *op);
/* op->engine_state, while pending */
enum { WH__SIM_ERROR = 0xffff, WH__SIM_PARKED = 1 << 16, WH__SIM_ENTERED = 1 << 17 };

/* Should a transfer of more than one byte be a short one? */
bool wh__sim_is_short(struct wh_sim_world *world, const struct wh__op *op);

/* A flush covers what was written when it is started: to be called when op, a WH__OP_FSYNC, is. */
void wh__sim_flush_start(struct wh__op *op);
/* op will not be executed. */
void wh__sim_flush_forget(struct wh__op *op);

#endif
