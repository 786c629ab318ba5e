/* task.h -- tasks: bodies that wait, on coroutines; groups of them; tickers, channels and semaphores. Part of whilst.h.
 *
 * A task runs fn(arg) as a coroutine on its loop: wh_await() in it parks it, and the loop goes on with others. It runs
 * between two awaits without interruption, on the loop's thread for all its life, in turn with callbacks. Its future
 * completes with n = what the body returned; a negative n counts as an error. arg is the body's own affair.
 *
 * Its stack is 64 KiB unless asked otherwise. What needs more, or blocks (name lookups of libc, TLS handshakes of
 * foreign libraries), belongs into wh_work(). Below a stack lies a guard page: running over it is a SIGSEGV, never
 * silent; see wh_stack_overflow(). errno is of the thread: it does not survive an await.
 *
 * Cancelling (wh_cancel() or wh_drop() of its future, its group, or wh_loop_close()) is a request. What the task awaits
 * is cancelled, and from then on whatever it awaits that is not complete is asked to cancel first: waits end with
 * -ECANCELED, results that are there are still given, descriptors are still closed. The body always runs to its own
 * end, even if it was cancelled before it began: what arg owns is freed in one place.
 */
#ifndef WHILST_TASK_H
#define WHILST_TASK_H

#include "whilst.h"

#ifdef __cplusplus
extern "C" {
#endif

struct wh_task_options {
	const char *name; /* copied, 31 bytes; for messages and wh_task_look() */
	/* 0: as the loop's. Another size than that is mapped and unmapped for each task. */
	uint32_t stack_bytes;
};
/* wh_go() - begin a task. It never runs before wh_go() has returned, and begins in the order of these calls. It
 * cannot be begun from another thread (-EPERM): wh_post(). While the loop closes: -ECANCELED, and fn is not called. */
WH_API wh_future wh_go(wh_loop *loop, wh_work_function *fn, void *arg);
WH_API wh_future wh_go_with(wh_loop *loop, wh_work_function *fn, void *arg,
                            const struct wh_task_options *options);

/* wh_self() - the loop whose task or callback runs; outside of them, the loop that this thread has opened, if it is
 * one. NULL: none, several, or the thread is at wh_work(). */
WH_API wh_loop *wh_self(void);

/* wh_yield() - let all that is ready have its turn. In a task. 0; -ECANCELED (it has yielded, and is cancelled);
 * -EPERM outside tasks. */
WH_API int wh_yield(void);

/* wh_is_cancelled() - is the calling task cancelled, and not shielded? */
WH_API bool wh_is_cancelled(void);

/* wh_shield() - while on, a cancel does not touch what the calling task awaits: for a farewell that needs to wait. Gives
 * how it was before, to be restored. It does not hold up wh_loop_close(), which ends everything. */
WH_API bool wh_shield(bool on);

WH_API wh_future wh_task_self(void); /* the future of the calling task, to be cancelled; id 0 outside tasks */

struct wh_task_info {
	const char *name;      /* "" when it has none; good as long as the task lives */
	size_t stack_bytes;    /* a little less than asked for: the task itself is kept there */
	size_t stack_used_max; /* deepest so far; 0 unless the loop measures stacks */
	bool cancelled;
	wh_future awaits; /* what it is parked for; id 0: it is ready, or runs */
};
/* wh_task_look() - 0; -ESTALE (it has ended); -EINVAL (no task). Thread: loop. */
WH_API int wh_task_look(wh_future task, struct wh_task_info *ret) WH_MUST_USE;

/* wh_stack_overflow() - in a handler of SIGSEGV (on a stack of its own: sigaltstack(2)): the name of the running task, if
 * address, that of siginfo_t, lies in the guard of its stack; else NULL. Async-signal-safe. */
WH_API const char *wh_stack_overflow(const void *address);

/* ---- handles -----------------------------------------------------------------------------
 * Groups, tickers, channels and semaphores are named by plain values, like futures, and belong to the loop's thread
 * (-EPERM elsewhere). After its close a handle is stale: -ESTALE. wh_loop_close() closes what is left open. */
/* Tasks, or any futures, that end together. */
typedef struct {
	uint64_t id;
} wh_group;
/* Instants that come again and again. */
typedef struct {
	uint64_t id;
} wh_ticker;
/* A bounded queue. */
typedef struct {
	uint64_t id;
} wh_channel;
/* At most so many at once. */
typedef struct {
	uint64_t id;
} wh_semaphore;

/* ---- groups: what was started together ends together ------------------------------------- */

struct wh_group_options {
	bool keep_results; /* for wh_group_next() */
	bool keep_going;   /* the first error does not cancel the other members */
	bool shared;       /* opened by a task, it may outlive it */
};
struct wh_group_result {
	uint64_t index; /* in the order of joining, from 0 */
	void *arg;
	int64_t n; /* of the member's future; ptr is given, as by that */
	void *ptr;
};
/* A group that a task opens (and that is not shared) ends with it: members that are left when it returns are cancelled
 * and waited for, and the task's result is -WH_EUNFINISHED. */
WH_API int wh_group_open(wh_loop *loop, wh_group *ret, const struct wh_group_options *options) WH_MUST_USE;
/* wh_group_go() - wh_go(), into the group, which consumes the future. 0; -ECANCELED: the group is cancelled, fn is not
 * called; what wh_go() fails with. options may be NULL. */
WH_API int wh_group_go(wh_group group, wh_work_function *fn, void *arg,
                       const struct wh_task_options *options) WH_MUST_USE;
/* wh_group_add() - any future of the same loop joins, and is consumed; a cancelled group cancels it. arg is for
 * wh_group_next(). 0; else f is still the caller's: -ESTALE, -ENOMEM, -EDEADLK (the calling task itself, or a wait for
 * this group). */
WH_API int wh_group_add(wh_group group, wh_future f, void *arg) WH_MUST_USE;
/* wh_group_wait() - n = 0 or the first error, once no member is left; the group stays usable. Cancelling this future
 * cancels the group. A member that waits for its own group: -EDEADLK. A loop that closes does not cut it short, nor
 * wh_group_close(). */
WH_API wh_future wh_group_wait(wh_group group);
/* wh_group_next() - n = 1 and the result of a member in *ret (borrowed), in the order of ending; n = 0: no member is left. Of
 * a group that keeps results, else -EINVAL. Cancelling takes no result. */
WH_API wh_future wh_group_next(wh_group group, struct wh_group_result *ret);
/* wh_group_cancel() - all members, and those to come; does not wait. 0, -ESTALE, -EPERM. */
WH_API int wh_group_cancel(wh_group group);
/* wh_group_close() - cancel the members; n = 0 or the group's first error, once none is left. The handle is stale at
 * once, and the group is closed whatever becomes of the future. */
WH_API wh_future wh_group_close(wh_group group);

/* ---- tickers: instants that come again and again ------------------------------------------- */

/* wh_ticker_open() - ticks at first (an instant of wh_now()), first + interval_ns, first + 2 * interval_ns, ..., without
 * drift. interval_ns 0: none, until wh_ticker_set(). Negative: -EINVAL. */
WH_API int wh_ticker_open(wh_loop *loop, wh_ticker *ret, int64_t first, int64_t interval_ns) WH_MUST_USE;
/* wh_ticker_next() - n = ticks since the last one taken: 1, or more when some were missed; at once if there are any.
 * One at a time, else -EBUSY. A ticker that nobody waits for costs nothing. */
WH_API wh_future wh_ticker_next(wh_ticker ticker);
/* wh_ticker_set() - begin anew; a wait goes on with the new instants. Cost: constant, no allocation. */
WH_API int wh_ticker_set(wh_ticker ticker, int64_t first, int64_t interval_ns);
WH_API int wh_ticker_close(wh_ticker ticker); /* a wait ends with -ECANCELED */

/* ---- channels: a bounded queue between tasks and callbacks of a loop ------------------------ */

/* wh_channel_open() - room for capacity items (at most 16,777,216; 0: each send waits for its receive). An item is a
 * wh_res with n >= 0. dispose (may be NULL) frees items that are left at the close, or that a dropped receive got. */
WH_API int wh_channel_open(wh_loop *loop, wh_channel *ret, uint32_t capacity, wh_disposer *dispose,
                           void *arg) WH_MUST_USE;
/* wh_channel_send() - n = 0 once the channel or a receiver has the item; it waits while the channel is full. On an error the
 * item is still the caller's: -EPIPE (shut), -ECANCELED, -EINVAL (n < 0). While pending it cannot be dropped (wh_drop()). */
WH_API wh_future wh_channel_send(wh_channel channel, int64_t n, void *ptr);
/* wh_channel_receive() - the result is the item, first sent first. -EPIPE: shut, and nothing is left. A cancel that comes
 * before the item leaves it in the channel. */
WH_API wh_future wh_channel_receive(wh_channel channel);
WH_API int64_t wh_channel_count(wh_channel channel); /* items in it, or -errno */
/* wh_channel_shut() - nothing is sent any more, sends that wait end with -EPIPE; what is in it can be received. */
WH_API int wh_channel_shut(wh_channel channel);
WH_API int wh_channel_close(wh_channel channel); /* who waits gets -ECANCELED; items are disposed of */

/* ---- semaphores: at most so many at once ------------------------------------------------- */

/* wh_semaphore_open() - count permits, all free. */
WH_API int wh_semaphore_open(wh_loop *loop, wh_semaphore *ret, uint32_t count) WH_MUST_USE;
/* wh_semaphore_acquire() - n = count once that many are free; first come, first served. More than there are: -EINVAL. ptr
 * means nothing. What was granted to a future that is dropped goes back. */
WH_API wh_future wh_semaphore_acquire(wh_semaphore semaphore, uint32_t count);
WH_API int wh_semaphore_release(wh_semaphore semaphore, uint32_t count); /* -EINVAL: more than are held */
WH_API int wh_semaphore_close(wh_semaphore semaphore);                   /* who waits gets -ECANCELED */

#ifdef __cplusplus
}
#endif
#endif
