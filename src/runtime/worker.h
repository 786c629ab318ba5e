/* src/runtime/worker.h -- elastic bounded classes of worker threads, one set for each loop.
 *
 * A thread is started when work is queued and none is idle, up to the class's maximum; it ends after it has been
 * idle for a while, and at the latest when the loop closes. Beyond the maximum work queues, first in first out.
 *
 * Thread: submit and cancel: loop. Memory: operations are linked through op->next, no allocation.
 */
#ifndef WH_RUNTIME_WORKER_H
#define WH_RUNTIME_WORKER_H

#include "runtime/op.h"

enum wh__worker_class {
	WH__WORKERS_FILES,
	WH__WORKERS_WORK,
	WH__WORKERS_SYNC,
	WH__WORKERS_SOCKETS,
	WH__WORKERS__MAX
};

extern const char *const wh__worker_class_names[WH__WORKERS__MAX];

struct wh__workers; /* one class */

int wh__workers_open(struct wh__workers **ret, wh_loop *loop, enum wh__worker_class class,
                     uint32_t threads_max);

/* Queue op; a worker calls run(op), which ends in wh__op_complete_from_worker(). Sets WH__AT_WORKER: from here on
 * the slot's arguments and flags are the worker's, and the loop writes none of them (WH__CANCELLED included).
 * 0; -EAGAIN: the class has no thread and none can be started; op is the caller's as before. */
int wh__workers_submit(struct wh__workers *workers, struct wh__op *op,
                       void (*run)(struct wh__op *op)) WH_MUST_USE;

/* true: op was still queued and is taken out (the caller completes it); false: it runs or has run, and its
 * completion is on its way. op carries WH__AT_WORKER. */
bool wh__workers_cancel(struct wh__workers *workers, struct wh__op *op);

uint32_t wh__workers_thread_count(const struct wh__workers *workers); /* approximate; any thread */
uint32_t wh__workers_queued_count(const struct wh__workers *workers);

/* Waits for running work, joins every thread. Queued work must have been cancelled. Returns NULL. */
struct wh__workers *wh__workers_close(struct wh__workers *workers);

#endif
