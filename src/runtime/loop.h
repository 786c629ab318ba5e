/* src/runtime/loop.h -- the loop's inside, for the runtime, the engines and io.
 *
 * Thread: loop, but for the fields said to be shared.
 * Turn: due timers -> callbacks of the ready queue -> deferred calls -> (anything due again: once more,
 * bounded) -> engine wait -> inbox. Callbacks run from the queue only, never inline and never nested.
 */
#ifndef WH_RUNTIME_LOOP_H
#define WH_RUNTIME_LOOP_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine.h"
#include "runtime/arguments.h"
#include "runtime/registry.h"
#include "runtime/wheel.h"
#include "runtime/worker.h"

enum { WH__CHUNK_SLOTS = 1024, WH__CHUNKS_MAX = 4096, WH__SLOTS_MAX = (1 << 22) - 1 };

/* The first chunks are allocated one by one, the later ones in blocks: of a block all is resident from its first use on, which must be
 * little beside what there is already. */
enum { WH__CHUNKS_ALONE = 64, WH__CHUNKS_OF_BLOCK = 16 };

static inline bool wh__chunk_is_allocated(uint32_t chunk)
{
	return chunk < WH__CHUNKS_ALONE || chunk % WH__CHUNKS_OF_BLOCK == 0;
}

struct wh__queue {
	struct wh__op *first, *last;
};

/* A call on its way to a loop. Posted ones are malloc'ed; an operation completed by a worker travels as itself
 * (see inbox.c). */
struct wh__message {
	struct wh__message *next;
	wh_function *fn;
	void *arg;
	bool embedded; /* part of another object: not freed here, fn(arg) is internal */
};

/* wh__defer() - wh_defer() that cannot fail: message is embedded, and not deferred already. It may be deferred again, or go with
 * what it is a part of, from the moment its function is called. */
void wh__defer(wh_loop *loop, struct wh__message *message);

/* Cancelling what is made of others is a walk over them, which may be walks in turn: as deep as the program likes, so they are
 * a list and no recursion. Embedded in a combination or a group, which stays until end() is called. */
struct wh__walk {
	struct wh__walk *below;
	bool (*next)(struct wh__walk *walk, wh_future *ret); /* the next to be cancelled; false: no more */
	void (*end)(struct wh__walk *walk);
};

/* Operations of one opcode. */
struct wh__counts {
	uint64_t started, completed, failed, cancelled; /* completed includes failed and cancelled */
};

struct wh_loop {
	const struct wh__engine *engine;
	void *engine_state;
	uint32_t number; /* 1..1023 in the registry */
	bool in_callback, running, closing;
	bool choosing;       /* WH_AUTO tries an engine: only its full feature set will do */
	bool started_thread; /* from wh_loop_start() */
	struct started *started;
	void (*at_close)(wh_loop *loop); /* of io: what it keeps for the loop; NULL: nothing */
	struct wh__names *names;         /* of io/name_server.c; NULL until first needed */
	void (*close_names)(wh_loop *loop);
	struct wh__child *children; /* of io/process.c: those that end with the loop */
	void (*close_children)(wh_loop *loop);
	pthread_t thread; /* of a started loop, for joining */
	uint32_t closing_turns;
	uint64_t batches; /* of callbacks run */

	/* slots */
	_Atomic(struct wh__op *)
		chunks[WH__CHUNKS_MAX]; /* written once each by the loop, read by any thread */
	struct wh__op *free_slots;
	_Atomic uint32_t slots_made; /* raised by the loop, read by any thread */
	uint32_t slots_max, live_count;
	uint32_t first_generation, last_generation; /* of any slot */
	uint32_t pending_count;                     /* slots that are PENDING, or DONE with a callback due */
	uint32_t background_count;                  /* of these, for which wh_loop_run() does not run */

	/* due */
	struct wh__queue ready;
	struct wh__queue ended; /* done, and who is made of them not told yet: see tell_outer() in op.c */
	bool telling;
	struct wh__walk *walks; /* the innermost first */
	bool walking;
	struct wh__message *deferred, **deferred_last;
	struct wh__wheel wheel;
	int64_t now;

	struct wh__message *free_messages;    /* of deferred calls */
	struct wh__arguments *free_arguments; /* arguments.h */

	/* shared: any thread */
	_Atomic(struct wh__message *) inbox; /* calls, newest first */
	_Atomic(struct wh__op *) inbox_ops;  /* operations completed by workers, newest first */
	atomic_int wake_state;               /* asleep, awake, woken: see inbox.c */
	atomic_bool stop;

	struct wh__workers *workers[WH__WORKERS__MAX]; /* NULL until first needed */
	uint32_t workers_max[WH__WORKERS__MAX];

	struct wh__descriptors *descriptors; /* engine/descriptor.h; NULL until first needed */
	struct wh__buffers *buffers;
	struct wh__tasks *tasks; /* task.h; NULL until first needed */
	wh_loop *next_of_thread; /* loops that the thread has opened */
	struct wh_loop_options options;
	char name[32];

	/* to see inside: stats.c, watch.c, dump.c */
	struct wh__counts counts[WH__OP__MAX];
	uint64_t completed_count, wait_count, turn_count, turn_ns_max, file_sync_count;
	atomic_ullong wake_count;    /* shared */
	struct wh__measure *measure; /* NULL: off */
	struct wh__watch *watch;     /* NULL: off */
	pid_t owner_tid;             /* whom to ask for a dump */
};

static inline void wh__queue_append(struct wh__queue *queue, struct wh__op *op)
{
	op->next = NULL;
	if (queue->last)
		queue->last->next = op;
	else
		queue->first = op;
	queue->last = op;
}

static inline struct wh__op *wh__op_at(const wh_loop *loop, uint32_t slot)
{
	return &atomic_load_explicit(&loop->chunks[slot / WH__CHUNK_SLOTS],
	                             memory_order_relaxed)[slot % WH__CHUNK_SLOTS];
}

/* wh__op_future() - the value that names the slot. */
static inline wh_future wh__op_future(const struct wh__op *op)
{
	return (wh_future){(uint64_t)op->loop->number << 54 | (uint64_t)op->slot << 32 | op->generation};
}

/* wh__op_find() - the slot of f on its loop; NULL when stale. Thread: loop. */
static inline struct wh__op *wh__op_find(wh_loop *loop, wh_future f)
{
	uint32_t slot = (uint32_t)(f.id >> 32) & WH__SLOTS_MAX;
	if (f.id >> 54 != loop->number ||
	    slot >= atomic_load_explicit(&loop->slots_made, memory_order_relaxed))
		return NULL;
	struct wh__op *op = wh__op_at(loop, slot);
	return op->generation == (uint32_t)f.id && op->state != WH__FREE ? op : NULL;
}

/* wh__op_free() - give a slot back that is DONE, or was never started. */
static inline void wh__op_free(struct wh__op *op)
{
	wh_loop *loop = op->loop;
	assert(op->state != WH__FREE);
	op->state = WH__FREE;
	loop->live_count--;
	if (op->opcode == WH__OP_PROMISE)
		atomic_store_explicit(&op->claim, 0, memory_order_relaxed);
	if (++op->generation >= WH__GENERATION_MAX)
		return; /* every future of this slot has been given out once: retired */
	op->next = loop->free_slots;
	loop->free_slots = op;
}

/* wh__background() - f does not keep wh_loop_run() running (true), or does again (false): the receive of an idle connection, the
 * timer that looks for time-outs. Nothing happens if f is not pending. Of a composed operation, what it is made of counts
 * for itself. wh_loop_close() ends it like any other. */
void wh__background(wh_loop *loop, wh_future f, bool background);

/* wh__sleep_until() - wh_sleep_until() for time-outs of the library's own, which a limit on futures does not stop. */
wh_future wh__sleep_until(wh_loop *loop, int64_t at);

/* wh__op_cancel() - what wh_cancel() does, for a pending slot. */
void wh__op_cancel(struct wh__op *op);

/* wh__walk() - cancel all that walk gives. Within another walk that is left to the outermost one, which ends it before
 * the call that began it returns. */
void wh__walk(wh_loop *loop, struct wh__walk *walk);

/* Kinds of opcodes. */
static inline bool wh__opcode_is_inner(unsigned opcode)
{
	return opcode >= WH__OP_INNER && opcode <= WH__OP_HTTP;
}
static inline bool wh__opcode_waits(unsigned opcode)
{
	return opcode >= WH__OP__WAITING_FIRST && opcode <= WH__OP_READY;
}
static inline bool wh__opcode_sends(unsigned opcode)
{
	return opcode == WH__OP_WRITE || opcode == WH__OP_WRITEV || opcode == WH__OP_SEND ||
	       opcode == WH__OP_SENDV || opcode == WH__OP_SEND_MESSAGE || opcode == WH__OP_CONNECT;
}

/* Reads and writes at a file's own offset, which wait for pipes and terminals. */
static inline bool wh__opcode_streams(unsigned opcode)
{
	return opcode >= WH__OP_READ && opcode <= WH__OP_WRITEV;
}

/* stats.c: what the opcode is called, and its class. Times of operations, with the option measure. */
extern const char *const wh__opcode_names[WH__OP__MAX];
enum wh_class wh__opcode_class(unsigned opcode);
int wh__measure_open(wh_loop *loop);
int wh__measure_chunk(wh_loop *loop, uint32_t chunk); /* room for the slots of a chunk: 0 or -ENOMEM */
void wh__measure_start(struct wh__op *op);
void wh__measure_end(struct wh__op *op);
int64_t wh__measure_started(const struct wh__op *op); /* instant; -1: not measured */
void wh__measure_close(wh_loop *loop);

/* watch.c: callbacks and turns that take long, with the options slow_ns and stuck_ns. */
int wh__watch_open(wh_loop *loop);
void wh__watch_close(wh_loop *loop);
void wh__watch_forked(void); /* in the child: it has neither the loops nor the watching thread */
void wh__watch_turn(struct wh__watch *watch,
                    int64_t since); /* a turn has begun; 0: the loop waits, or is not run */
/* A call of user code: since, wh_clock(), is when it began; the end gives when it ended. One call after another needs one
 * reading of the clock each. */
void wh__watch_begin(struct wh__watch *watch, uintptr_t function, int64_t since);
int64_t wh__watch_end(struct wh__watch *watch);
uintptr_t wh__watch_running(const struct wh__watch *watch,
                            int64_t *ret_since); /* any thread, signal handlers; 0: none */
void wh__watch_stats(const struct wh__watch *watch, struct wh_stats *ret);
/* Text for a code address: "function (file+0x1234)". */
void wh__watch_symbol(uintptr_t address, char *ret_text, size_t len);

/* Around calls of user code on the loop's thread. */
static inline void wh__callbacks_begin(wh_loop *loop)
{
	loop->in_callback = wh__thread.in_callback = true;
	wh__thread.current = loop;
	loop->batches++;
}
static inline void wh__callbacks_end(wh_loop *loop)
{
	loop->in_callback = wh__thread.in_callback = false;
	wh__thread.current = NULL;
}
/* A posted or deferred call, within the two above. */
static inline void wh__call(wh_loop *loop, wh_function *fn, void *arg)
{
	struct wh__watch *watch = loop->watch;
	if (watch)
		wh__watch_begin(watch, (uintptr_t)fn, wh_clock(loop));
	fn(arg);
	if (watch)
		wh__watch_end(watch);
}

/* inbox.c */
void wh__inbox_push(wh_loop *loop, struct wh__message *message); /* any thread */
void wh__inbox_push_op(wh_loop *loop, struct wh__op *op);        /* any thread */
bool wh__inbox_is_empty(const wh_loop *loop);
void wh__inbox_drain(wh_loop *loop);
bool wh__inbox_may_sleep(wh_loop *loop); /* declares the loop asleep; false (and awake): something came */
void wh__inbox_awake(wh_loop *loop);

/* combine.c, mark.c: ends of the parts of a composed future */
void wh__combine_child(struct wh__op *parent, uint64_t index, wh_res res, wh_disposer *dispose, void *arg);
void wh__combine_cancel(struct wh__op *parent);
void wh__combine_timer(struct wh__op *parent);
void wh__mark_cancel(struct wh__op *op);
void wh__group_ended(void *of, wh_res res, wh_disposer *disposer, void *dispose_arg); /* of: the member */

/* ticker.c */
void wh__ticker_fire(struct wh__op *op);
void wh__ticker_cancel(struct wh__op *op);

/* future.c: the wait of one wh_await() */
void wh__waiter_wake(struct wh__op *op, wh_res res);

/* buffer.c */
struct wh__buffers *wh__buffers_open(wh_loop *loop);
struct wh__buffers *wh__buffers_close(struct wh__buffers *pool);

/* wh__loop_is_closed_to() - the loop closes, and callbacks that always start anew have had their chance. */
bool wh__loop_is_closed_to(const wh_loop *loop);

/* wh__loop_turn_until() - turn until *done, which a completion sets. 0, or -errno. */
int wh__loop_turn_until(wh_loop *loop, const bool *done);

/* wh__begin() - a pending slot to fill in, for an operation of the caller's; NULL: refused, and *ret_failed says why. */
struct wh__op *wh__begin(wh_loop *loop, enum wh__opcode opcode, wh_future *ret_failed);

/* wh__end() - complete what was begun but cannot start. */
wh_future wh__end(struct wh__op *op, int64_t error);

/* wh__start() - hand a filled-in operation to the engine and give its future. */
wh_future wh__start(struct wh__op *op);

/* wh__fail() - the future of an operation that could not even get a slot: loop 0, no slot. */
wh_future wh__fail(wh_loop *loop, int64_t error);
/* wh__done() - the same for one that has ended with 0. */
wh_future wh__done(wh_loop *loop);
/* wh__fail_at() - the same for the loop that a handle or future names, which may be closed. */
wh_future wh__fail_at(uint64_t id, int64_t error);

/* wh__loop_workers() - the class, opened on first use; NULL: no memory. */
struct wh__workers *wh__loop_workers(wh_loop *loop, enum wh__worker_class class);

/* wh__loop_is_mine() - the caller is on the loop's thread, in the process that opened it. */
static inline bool wh__loop_is_mine(const wh_loop *loop)
{
	return atomic_load_explicit(&wh__registry[loop->number].owner, memory_order_relaxed) == &wh__thread;
}

/* wh__notice() - one line to the loop's log function. */
void wh__notice(wh_loop *loop, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* wh__wake() - make the loop look at its inbox. Thread: any. */
void wh__wake(wh_loop *loop);

#endif
