/* src/runtime/task.h -- a task: a body that runs as a coroutine on its loop, and the future of its result.
 *
 * Used by: loop.c, future.c, group.c.  Thread: loop.
 * Memory: the task lies at the top of its own stack; it lives until the body has ended.
 */
#ifndef WH_RUNTIME_TASK_H
#define WH_RUNTIME_TASK_H

#include "runtime/loop.h"

struct group;

enum { WH__TASK_NAME_BYTES = 32 };

/* wh__task_start() - begin a task; its body runs later, from the loop. 0, or what wh_go() fails with. */
int wh__task_start(wh_loop *loop, wh_work_function *fn, void *arg, const struct wh_task_options *options,
                   struct wh__op **ret);

/* wh__task_continue() - op, the slot of a task, has come up in the ready queue: the task begins, or has yielded. */
void wh__task_continue(struct wh__op *op);

/* wh__task_resume() - the callback of what a task awaits; arg is the task. */
void wh__task_resume(wh_loop *loop, wh_res res, void *arg);

/* wh__task_await() - park the calling task until op, of its own loop, has completed. op is not consumed yet. */
wh_res wh__task_await(struct wh__task *task, struct wh__op *op);

/* wh__task_await_away() - f is of another loop (task_away.c). */
wh_res wh__task_await_away(struct wh__task *task, wh_future f);

/* wh__task_did_not_wait() - the calling task has awaited what had failed at once. Gives others a turn now and then; does not
 * return when the loop closes and the task goes on like that for ever. */
void wh__task_did_not_wait(struct wh__task *task);

/* What wh_cancel() does to a task; what else is to be cancelled then, as the task awaits it: NULL, or any slot. */
struct wh__op *wh__task_cancel(const struct wh__op *op);

/* For dumps and for who names slow callbacks. The first two in a signal handler, too. */
const char *wh__task_name(const struct wh__task *task); /* "" when it has none */
wh_future wh__task_awaits(const struct wh__task *task);
uintptr_t wh__task_body(const struct wh__task *task);

wh_loop *wh__task_loop(const struct wh__task *task);
struct wh__op *wh__task_op(const struct wh__task *task);

/* The groups that a task has opened and not closed, for group.c. */
struct group **wh__task_groups(struct wh__task *task);

/* group.c, for those who look for circles: does op wait for all members of a group? Those that do so of the group of which of is a
 * member (the arg of its slot), the first of a list through next; or those that wait for it to close. */
bool wh__group_is_wait(const struct wh__op *op);
const struct wh__op *wh__group_waits(const void *of, bool closes);

/* wh__groups_end() - the body has returned n: close the groups it opened, wait until their members have ended, and give
 * what the task's result becomes. On the task's stack. */
int64_t wh__groups_end(struct wh__task *task, int64_t n);

/* What wh_stats() tells. */
void wh__tasks_stats(const wh_loop *loop, struct wh_stats *ret);

void wh__tasks_close(wh_loop *loop); /* frees; all tasks have ended or were given up */

#endif
