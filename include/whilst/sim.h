/* sim.h -- simulated machines: programs of libwhilst in virtual time, with disks that lose power and a network that
 * loses packets, all decided by a seed.
 *
 * A wh_sim is a machine: a disk, addresses, and the loops that were opened on it with WH_SIM. Machines may share a
 * wh_sim_world: one clock, one seed and the network between them. A machine that names no world has one for itself.
 * Nothing in a world is parallel and nothing waits: when nothing is due, the clock is set to when something is, so that
 * hours pass in milliseconds, and the same seed and calls give the same run, which wh_sim_world_trace() proves.
 *
 * Any loop of a world that waits (wh_loop_run(), wh_await(), wh_loop_turn()) turns the others meanwhile, and so does
 * wh_sim_world_run(). When nothing is due on any, ever, waiting gives -EDEADLK instead of hanging.
 *
 * A guide: docs/testing-with-sim.md. How true it is to a real machine: docs/design/simulation.md.
 * Thread: everything of one world belongs to the thread that opened it.
 */
#ifndef WHILST_SIM_H
#define WHILST_SIM_H

#include "whilst.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- worlds ------------------------------------------------------------------------------ */

/* Machines that share a clock, a seed and a network. */
typedef struct wh_sim_world wh_sim_world;

/* Which of the operations that could end comes next. */
enum wh_sim_order {
	WH_SIM_BY_SEED = 0, /* each takes a while, by chance: any order that a real machine could give */
	WH_SIM_FIFO,        /* each takes the same while: in the order they were started. For debugging */
};

/* All-zero means defaults. Fields may be added at the end. */
struct wh_sim_world_options {
	uint64_t seed;
	int order;         /* enum wh_sim_order */
	int short_percent; /* transfers not "_all" that move less than they could; default 10, negative: none */
	uint32_t socket_bytes; /* what a socket holds, each way, before it pushes back; default 262,144 */
};

/* wh_sim_world_open() - a world without machines. options may be NULL. 0, -EINVAL or -ENOMEM. */
WH_API int wh_sim_world_open(wh_sim_world **ret, const struct wh_sim_world_options *options) WH_MUST_USE;

/* wh_sim_world_run() - let ns nanoseconds pass: all loops of all machines with power run. They are turned from here, so
 * not in a callback (-EDEADLK). Result 0, also when nothing had to be done meanwhile. */
WH_API int wh_sim_world_run(wh_sim_world *world, int64_t ns);

/* Nanoseconds since the world began. */
WH_API int64_t wh_sim_world_now(const wh_sim_world *world);

/* A digest of all that has happened so far, in order: operations with their results, packets, times. Equal traces are
 * equal runs. */
WH_API uint64_t wh_sim_world_trace(const wh_sim_world *world);

/* A number below n (> 0), decided by the seed: for what a test draws by chance. */
WH_API uint64_t wh_sim_world_draw(wh_sim_world *world, uint64_t n);

/* Returns NULL; accepts NULL. Its machines are closed first. */
WH_API wh_sim_world *wh_sim_world_close(wh_sim_world *world);

/* ---- machines ---------------------------------------------------------------------------- */

/* All-zero means defaults. Fields may be added at the end. */
struct wh_sim_options {
	uint64_t seed;
	/* power is cut at the k-th disk call (1 = first), before it has effect; 0: never */
	uint64_t crash_at_io;
	uint64_t fail_at_io;    /* the k-th disk call fails with fail_error; 0: never */
	int fail_error;         /* positive errno */
	bool fail_from_then_on; /* not once but for ever */
	uint64_t disk_bytes;    /* capacity, 0: unlimited; beyond: -ENOSPC */
	wh_sim_world *world; /* borrowed; NULL: a world of its own, with this seed. Not of wh_sim_restart() */
	const char
		*address; /* IPv4, copied; NULL: 10.0.0.1 for the first, and so on. Not of wh_sim_restart() */
};
/* What becomes of a 512-byte sector that was written but not synced when power is cut. */
enum wh_sim_damage {
	WH_SIM_RANDOM = 0, /* one of the below for each sector, by the seed */
	WH_SIM_KEEP_NEW,
	WH_SIM_KEEP_OLD,
	WH_SIM_ZERO,
	WH_SIM_GARBAGE,
	WH_SIM_KILLED, /* no power cut: only the process ended, as by kill -9. All that was written is read
			  again, and what was not synced still is not; peers are told that connections ended */
};

/* wh_sim_open() - a machine with an empty disk. options may be NULL. 0, -EINVAL, -EADDRINUSE (the address is another
 * machine's), -ENOSPC (254 machines), -ENOMEM. */
WH_API int wh_sim_open(wh_sim **ret, const struct wh_sim_options *options) WH_MUST_USE;

/* From now on every operation gives -WH_ESIM_POWER_CUT. Peers hear nothing, until it is started again and answers
 * what they send with a reset. */
WH_API void wh_sim_power_cut(wh_sim *sim);
WH_API bool wh_sim_has_power(const wh_sim *sim);

/* wh_sim_restart() - the machine starts again, disk as power left it. First all its loops are closed (-EBUSY).
 * options: new faults and a new seed for what follows, NULL for none. damage: enum wh_sim_damage. */
WH_API int wh_sim_restart(wh_sim *sim, const struct wh_sim_options *options, int damage) WH_MUST_USE;

WH_API uint64_t wh_sim_io_count(const wh_sim *sim);   /* disk calls since start: bounds for crash_at_io */
WH_API const char *wh_sim_address(const wh_sim *sim); /* "10.0.0.1"; lives as long as the machine */
/* The world that the machine is in. */
WH_API wh_sim_world *wh_sim_world_of(wh_sim *sim);
WH_API wh_sim *wh_sim_close(wh_sim *sim); /* its loops are closed first; returns NULL, accepts NULL */

/* wh_sim_pause() - no loop of the machine runs for ns nanoseconds, as if its process had been stopped: the kernel goes
 * on, sockets fill, timers are late. */
WH_API void wh_sim_pause(wh_sim *sim, int64_t ns);

/* wh_sim_signal() - deliver a signal to the machine's wh_signal() waits. It stays for the next wait if there has been one
 * before. 0; -ENOENT: nobody has ever waited for it, so that its default action would be taken; -EINVAL. */
WH_API int wh_sim_signal(wh_sim *sim, int signal_number);

/* wh_sim_add_name() - name resolves to address (IPv4 or IPv6, numeric) on every machine of sim's world; several addresses
 * in the order they were added. 0, -EINVAL, -ENOMEM. */
WH_API int wh_sim_add_name(wh_sim *sim, const char *name, const char *address);

/* ---- faults of operations ---------------------------------------------------------------- */

enum wh_sim_kind {
	WH_SIM_OPENS = 1 << 0,  /* files opened */
	WH_SIM_READS = 1 << 1,  /* of files */
	WH_SIM_WRITES = 1 << 2, /* of files */
	WH_SIM_FSYNCS = 1 << 3,
	WH_SIM_NAMES =
		1 << 4, /* files renamed, linked, unlinked, listed, stat, directories made, locks, sizes */
	WH_SIM_LISTENS = 1 << 5, /* sockets made and bound */
	WH_SIM_ACCEPTS = 1 << 6,
	WH_SIM_CONNECTS = 1 << 7,
	WH_SIM_RECEIVES = 1 << 8,
	WH_SIM_SENDS = 1 << 9,
	WH_SIM_WORKS = 1 << 10, /* wh_work(): fn is not called */
	WH_SIM_EVERYTHING = (1 << 11) - 1,
};

/* Operations of some kinds fail. With error ENOMEM it is memory that is short. */
struct wh_sim_fault {
	uint32_t kinds;      /* bits of enum wh_sim_kind */
	uint32_t percent;    /* by chance; 0: always */
	uint64_t skip_count; /* so many of them go well first */
	uint64_t count;      /* then so many fail; 0: all */
	int error;           /* positive errno; 0: none, they are only late */
	int64_t late_ns;     /* they take so much longer */
};

/* wh_sim_add_fault() - from now on; at most 16 at a time, the first that applies is taken. Gone after a restart.
 * 0, -EINVAL, -ENOSPC. */
WH_API int wh_sim_add_fault(wh_sim *sim, const struct wh_sim_fault *fault);
WH_API void wh_sim_clear_faults(wh_sim *sim);

/* ---- the network between machines --------------------------------------------------------
 * Streams are TCP in small: what is lost is sent again (after 200 ms, then after twice as long, up to 120 s), so a path
 * that is cut is silence, and heals; after 15 tries an operation gives -ETIMEDOUT, a connect after 6 (127 s). What arrives
 * at a machine that does not know the connection is answered by a reset. A machine reaches itself (127.0.0.0/8, ::1, its
 * own addresses, UNIX sockets) whatever happens outside.
 *
 * from, to: one direction; NULL: all machines. */

struct wh_sim_link {
	int64_t delay_min_ns, delay_max_ns; /* of a packet; default 50 us .. 500 us when both are 0 */
	uint64_t bytes_per_s;               /* 0: no limit */
	uint32_t lose_percent;              /* of packets: a datagram is gone, a stream is late */
	uint32_t duplicate_percent;         /* of datagrams */
	uint32_t reorder_percent;           /* of datagrams that come up to 10 delays late */
};
/* 0 or -EINVAL. link: NULL for the defaults. */
WH_API int wh_sim_link(wh_sim_world *world, wh_sim *from, wh_sim *to, const struct wh_sim_link *link);
WH_API void wh_sim_cut(wh_sim_world *world, wh_sim *from, wh_sim *to);  /* nothing arrives any more */
WH_API void wh_sim_heal(wh_sim_world *world, wh_sim *from, wh_sim *to); /* undoes wh_sim_cut() */
/* All between sim and the others, both ways. */
WH_API void wh_sim_isolate(wh_sim *sim);
WH_API void wh_sim_rejoin(wh_sim *sim);
/* wh_sim_reset() - every stream between the two is reset, at both ends; NULL: any machine. How many. */
WH_API int wh_sim_reset(wh_sim_world *world, wh_sim *one, wh_sim *other);

#ifdef __cplusplus
}
#endif
#endif
