/* src/runtime/worker.c -- elastic bounded classes of worker threads.
 *
 * Calls that would stop the loop run here. Classes are apart so that a slow one (names, user work) does not hold up
 * another (files). The thread that became idle last is used first: the surplus stays idle and ends. An idle thread
 * parks at once: on few cores, spinning first takes the loop's core away and made a round trip longer, not shorter.
 *
 * Thread: as worker.h says. One lock per class guards the queue, the idle stack and the counts.
 * Memory: operations are linked through themselves; a thread is one allocation. An ending thread joins the one that
 * ended before it, so at most one ended thread is kept, and joining the last joins all.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "runtime/loop.h"
#include "runtime/probe.h"
#include "runtime/worker.h"

/* How long an idle thread stays. A test may want to see it end. */
#ifndef WH__WORKERS_IDLE_MS
#define WH__WORKERS_IDLE_MS 5000
#endif

enum { STACK_BYTES = 512 * 1024 };

struct worker {
	struct wh__workers *workers;
	pthread_t thread;
	pthread_cond_t wake;
	struct wh__op *op;         /* handed over by submit; NULL while idle */
	struct worker *idle_below; /* the next one on the idle stack */
	bool idle;
};

struct wh__workers {
	pthread_mutex_t lock;
	pthread_cond_t none_left;
	struct wh__queue queue;
	struct worker *idle;  /* stack */
	struct worker *ended; /* not joined yet */
	bool closing;
	uint32_t threads_max;
	atomic_uint thread_count, queued_count; /* written under the lock */
	enum wh__worker_class class;
	char name[16];
};

const char *const wh__worker_class_names[WH__WORKERS__MAX] = {[WH__WORKERS_FILES] = "file",
                                                              [WH__WORKERS_WORK] = "work",
                                                              [WH__WORKERS_SYNC] = "sync",
                                                              [WH__WORKERS_SOCKETS] = "sock"};

int wh__workers_open(struct wh__workers **ret, wh_loop *loop, enum wh__worker_class class,
                     uint32_t threads_max)
{
	struct wh__workers *workers = calloc(1, sizeof *workers);
	if (!workers)
		return -ENOMEM;
	assert(threads_max > 0);
	pthread_mutex_init(&workers->lock, NULL);
	pthread_cond_init(&workers->none_left, NULL);
	workers->threads_max = threads_max;
	workers->class = class;
	snprintf(workers->name, sizeof workers->name, "%.10s/%s", loop->name[0] ? loop->name : "whilst",
	         wh__worker_class_names[class]);
	*ret = workers;
	return 0;
}

static void queue_append(struct wh__workers *workers, struct wh__op *op)
{
	op->next = NULL;
	op->prev = workers->queue.last;
	*(op->prev ? &op->prev->next : &workers->queue.first) = op;
	workers->queue.last = op;
	atomic_fetch_add_explicit(&workers->queued_count, 1, memory_order_relaxed);
}

static void queue_remove(struct wh__workers *workers, struct wh__op *op)
{
	*(op->prev ? &op->prev->next : &workers->queue.first) = op->next;
	*(op->next ? &op->next->prev : &workers->queue.last) = op->prev;
	op->next = op->prev = NULL;
	atomic_fetch_sub_explicit(&workers->queued_count, 1, memory_order_relaxed);
}

static void idle_remove(struct worker *worker)
{
	struct worker **link = &worker->workers->idle;
	while (*link != worker)
		link = &(*link)->idle_below;
	*link = worker->idle_below;
	worker->idle = false;
}

/* Waits on the idle stack. The operation to run, or NULL: end. Lock held. */
static struct wh__op *wait_for_op(struct worker *worker)
{
	struct wh__workers *workers = worker->workers;
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	int64_t ns = until.tv_nsec + WH__WORKERS_IDLE_MS * WH_NS_PER_MS;
	until.tv_sec += ns / WH_NS_PER_S;
	until.tv_nsec = ns % WH_NS_PER_S;
	worker->idle_below = workers->idle;
	workers->idle = worker;
	worker->idle = true;
	while (worker->idle && !workers->closing)
		if (pthread_cond_timedwait(&worker->wake, &workers->lock, &until) == ETIMEDOUT)
			break;
	if (worker->idle)
		idle_remove(worker);
	struct wh__op *op = worker->op;
	worker->op = NULL;
	return op;
}

/* Lock held on entry, not on return. Nothing of the class is touched once none_left has been told. */
static void end(struct worker *worker)
{
	struct wh__workers *workers = worker->workers;
	struct worker *before = workers->ended;
	workers->ended = worker;
	if (atomic_fetch_sub_explicit(&workers->thread_count, 1, memory_order_relaxed) == 1)
		pthread_cond_signal(&workers->none_left);
	pthread_mutex_unlock(&workers->lock);
	if (before) {
		pthread_join(before->thread, NULL);
		pthread_cond_destroy(&before->wake);
		free(before);
	}
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct wh__workers *workers = worker->workers;
	pthread_mutex_lock(&workers->lock);
	pthread_setname_np(worker->thread, workers->name);
	struct wh__op *op = worker->op;
	worker->op = NULL;
	while (op) {
		void (*run)(struct wh__op *) = op->run;
		op->run = NULL; /* from here on it can no longer be taken back */
		pthread_mutex_unlock(&workers->lock);
		WH__PROBE3(worker_start, workers->class, op->slot, op->opcode);
		run(op);
		WH__PROBE1(worker_end, workers->class);
		pthread_mutex_lock(&workers->lock);
		op = workers->queue.first;
		if (op)
			queue_remove(workers, op);
		else
			op = wait_for_op(worker);
	}
	end(worker);
	return NULL;
}

/* Lock held, so that the new thread finds worker->thread set. */
static int start_thread(struct wh__workers *workers, struct wh__op *op)
{
	struct worker *worker = calloc(1, sizeof *worker);
	if (!worker)
		return -ENOMEM;
	worker->workers = workers;
	worker->op = op;
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&worker->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);

	/* User code may need a deep stack; ours does not, and there may be a thousand. */
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	if (workers->class != WH__WORKERS_WORK)
		pthread_attr_setstacksize(&attributes, STACK_BYTES);
	/* Blocked before it starts: a signal of the program must not land on a thread it does not know of. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(&worker->thread, &attributes, worker_main, worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (error) {
		pthread_cond_destroy(&worker->wake);
		free(worker);
		return -error;
	}
	atomic_fetch_add_explicit(&workers->thread_count, 1, memory_order_relaxed);
	return 0;
}

int wh__workers_submit(struct wh__workers *workers, struct wh__op *op, void (*run)(struct wh__op *op))
{
	int result = 0;
	uint8_t flags = op->flags;
	op->flags = (uint8_t)(flags | WH__AT_WORKER);
	op->run = run;
	pthread_mutex_lock(&workers->lock);
	uint32_t thread_count = atomic_load_explicit(&workers->thread_count, memory_order_relaxed);
	struct worker *idle = workers->idle;
	if (idle) {
		workers->idle = idle->idle_below;
		idle->idle = false;
		idle->op = op;
		pthread_cond_signal(&idle->wake);
	} else if (thread_count >= workers->threads_max) {
		queue_append(workers, op);
	} else if (start_thread(workers, op) != 0) {
		if (thread_count > 0)
			queue_append(workers, op);
		else
			result = -EAGAIN;
	}
	pthread_mutex_unlock(&workers->lock);
	if (result != 0) {
		op->flags = flags;
		op->run = NULL;
	}
	return result;
}

bool wh__workers_cancel(struct wh__workers *workers, struct wh__op *op)
{
	pthread_mutex_lock(&workers->lock);
	/* Queued: not taken by a worker, nor handed over to one that has not woken yet. */
	bool queued = op->run && (op->prev || workers->queue.first == op);
	if (queued) {
		queue_remove(workers, op);
		op->run = NULL;
	}
	pthread_mutex_unlock(&workers->lock);
	if (queued)
		op->flags = (uint8_t)(op->flags & ~WH__AT_WORKER);
	return queued;
}

uint32_t wh__workers_thread_count(const struct wh__workers *workers)
{
	return atomic_load_explicit(&workers->thread_count, memory_order_relaxed);
}

uint32_t wh__workers_queued_count(const struct wh__workers *workers)
{
	return atomic_load_explicit(&workers->queued_count, memory_order_relaxed);
}

struct wh__workers *wh__workers_close(struct wh__workers *workers)
{
	if (!workers)
		return NULL;
	pthread_mutex_lock(&workers->lock);
	assert(!workers->queue.first);
	workers->closing = true;
	for (struct worker *worker = workers->idle; worker; worker = worker->idle_below)
		pthread_cond_signal(&worker->wake);
	while (atomic_load_explicit(&workers->thread_count, memory_order_relaxed) > 0)
		pthread_cond_wait(&workers->none_left, &workers->lock);
	struct worker *last = workers->ended;
	pthread_mutex_unlock(&workers->lock);
	if (last) {
		pthread_join(last->thread, NULL);
		pthread_cond_destroy(&last->wake);
		free(last);
	}
	pthread_cond_destroy(&workers->none_left);
	pthread_mutex_destroy(&workers->lock);
	free(workers);
	return NULL;
}
