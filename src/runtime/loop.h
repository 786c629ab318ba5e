/* src/runtime/loop.h -- the loop's inside, for the runtime, the engines and io.
 *
 * Thread: loop, but for the fields said to be shared.
 * Turn: due timers -> callbacks of the ready queue -> deferred calls -> (anything due again: once more,
 * bounded) -> engine wait -> inbox. Callbacks run from the queue only, never inline and never nested.
 */
#ifndef WH_RUNTIME_LOOP_H
#define WH_RUNTIME_LOOP_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"
#include "runtime/wheel.h"
#include "runtime/worker.h"

enum { WH__CHUNK_SLOTS = 1024, WH__CHUNKS_MAX = 4096, WH__SLOTS_MAX = (1 << 22) - 1 };

struct wh__queue {
	struct wh__op *first, *last;
};

/* A call on its way to a loop. Posted ones are malloc'ed; an operation completed by a worker travels as itself
 * (see inbox.c). */
struct wh__message {
	struct wh__message *next;
	wh_function *fn;
	void *arg;
};

struct wh_loop {
	const struct wh__engine *engine;
	void *engine_state;
	uint32_t number; /* 1..1023 in the registry */
	bool in_callback, running, closing, started_thread;
	pthread_t thread;
	pid_t pid; /* of the process that opened it: a forked child may not use it */

	/* slots */
	struct wh__op *chunks[WH__CHUNKS_MAX];
	struct wh__op *free_slots;
	uint32_t slots_made, slots_max;
	uint32_t pending_count; /* slots that are PENDING, or DONE with a callback due */

	/* due */
	struct wh__queue ready;
	struct wh__message *deferred, **deferred_last;
	struct wh__wheel wheel;
	int64_t now;

	/* shared: any thread */
	_Atomic(struct wh__message *) inbox; /* calls, newest first */
	_Atomic(struct wh__op *) inbox_ops;  /* operations completed by workers, newest first */
	atomic_int wake_state;               /* asleep, awake, woken: see inbox.c */
	atomic_bool stop;

	struct wh__workers *workers[WH__WORKERS__MAX]; /* NULL until first needed */
	uint32_t workers_max[WH__WORKERS__MAX];

	struct wh__descriptors *descriptors; /* engine/descriptor.h; NULL until first needed */
	struct wh__buffers *buffers;
	struct wh_loop_options options;
	struct wh_stats stats;
	char name[32];
};

/* wh__start() - hand a filled-in operation to the engine and give its future. */
wh_future wh__start(struct wh__op *op);

/* wh__fail() - the future of an operation that could not even get a slot: loop 0, no slot. */
wh_future wh__fail(wh_loop *loop, int64_t error);

/* wh__loop_workers() - the class, opened on first use; NULL: no memory. */
struct wh__workers *wh__loop_workers(wh_loop *loop, enum wh__worker_class class);

/* wh__loop_is_mine() - the caller is on the loop's thread, in the process that opened it. */
bool wh__loop_is_mine(const wh_loop *loop);

/* wh__notice() - one line to the loop's log function. */
void wh__notice(wh_loop *loop, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* wh__wake() - make the loop look at its inbox. Thread: any. */
void wh__wake(wh_loop *loop);

#endif
