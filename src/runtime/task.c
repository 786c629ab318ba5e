/* src/runtime/task.c -- tasks: start, park, go on, yield, cancel, end. See docs/design/coroutines.md.
 *
 * A task that awaits is, to the loop, a callback: the operation carries wh__task_resume() and the task, waits in the ready
 * queue like any other once it has completed, and its callback is the switch to the task's stack. So tasks and
 * callbacks share one order, and a task's hot path is that of a callback and two switches: no allocation, no system
 * call, no atomic. A task that begins or yields waits in the same queue with its own, pending, slot.
 *
 * Switches are always between the loop's stack and a task's, so code of the runtime never runs within another's call.
 *
 * Thread: loop. Memory: a task is the top of its stack.
 */
#include "runtime/task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/context.h"
#include "runtime/probe.h"
#include "runtime/sanitizers.h"
#include "runtime/stack.h"

enum {
	/* Awaits in a row that find their result there: then others get their turn. */
	BUDGET = 64,
	/* How far to look for circles of tasks that wait for each other; and through how many groups that several wait for. */
	CIRCLE_STEPS_MAX = 10000,
	CIRCLE_GROUPS_MAX = 16,
	/* Awaits of what a closing loop refuses, before a task that goes on and on is given up. */
	REFUSED_MAX = 100000
};

struct wh__task {
	struct wh__context context;
	struct wh__tasks *tasks;
	wh_loop *loop;
	struct wh__op *op; /* the slot of its future, pending as long as the task lives */
	wh_work_function *fn;
	void *arg;
	wh_res res;        /* of the await that has ended */
	wh_future awaited; /* what it is parked for; 0: nothing */
	int64_t n;         /* of the body */
	struct group *groups;
	struct wh__stack stack;
	uint32_t budget, refused_count;
	bool cancelled, shielded, ended, given_up;
#ifdef WH__ASAN
	void *fake_stack;
#endif
#ifdef WH__TSAN
	void *fiber;
#endif
	char name[WH__TASK_NAME_BYTES];
};

/* The tasks of one loop. */
struct wh__tasks {
	struct wh__context context; /* of the loop itself, while a task runs */
	struct wh__stacks *stacks;
	uint64_t live_count, started, switches;
#ifdef WH__ASAN
	void *fake_stack; /* of the loop's thread, while a task runs */
	const void *low;
	size_t bytes;
#endif
#ifdef WH__TSAN
	void *fiber;
#endif
};

/* ---- switching ---------------------------------------------------------------------------- */

/* The loop's side, before and after. */
static inline void before_task(struct wh__tasks *tasks, struct wh__task *task)
{
#ifdef WH__ASAN
	__sanitizer_start_switch_fiber(&tasks->fake_stack, task->stack.low,
	                               (size_t)((uint8_t *)task - task->stack.low));
#endif
#ifdef WH__TSAN
	tasks->fiber = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(task->fiber, 0);
#endif
	(void)tasks, (void)task;
}

static inline void after_task(struct wh__tasks *tasks)
{
#ifdef WH__ASAN
	__sanitizer_finish_switch_fiber(tasks->fake_stack, NULL, NULL);
#endif
	(void)tasks;
}

/* The task's side: after it has landed on its stack, and before it leaves it. */
static inline void landed(struct wh__task *task)
{
#ifdef WH__ASAN
	__sanitizer_finish_switch_fiber(task->fake_stack, &task->tasks->low, &task->tasks->bytes);
#endif
	(void)task;
}

static inline void before_loop(struct wh__task *task)
{
#ifdef WH__ASAN
	__sanitizer_start_switch_fiber(task->ended ? NULL : &task->fake_stack, task->tasks->low,
	                               task->tasks->bytes);
#endif
#ifdef WH__TSAN
	__tsan_switch_to_fiber(task->tasks->fiber, 0);
#endif
	(void)task;
}

static inline void stand_still(struct wh__task *task)
{
	before_loop(task);
	wh__context_switch(&task->context, &task->tasks->context);
	landed(task);
}

/* What was below the stack is overwritten, and nobody knows what of: nothing may run any more. */
static _Noreturn __attribute__((noinline, cold)) void overflown(const struct wh__task *task)
{
	char line[160];
	int len = snprintf(line, sizeof line, "whilst: task \"%s\" has overflown its stack of %zu bytes\n",
	                   task->name, task->stack.bytes);
	if (len > 0)
		(void)!write(STDERR_FILENO, line, (size_t)len);
	abort();
}

/* Out of line, so that a switch needs no room for it. */
static __attribute__((noinline)) void end(struct wh__task *task)
{
	struct wh__tasks *tasks = task->tasks;
	struct wh__op *op = task->op;
	int64_t n = task->n;
	WH__PROBE4(task_end, op->loop->number, op->slot, op->generation, n);
	op->engine_data = NULL; /* a dump may come at any moment */
	atomic_signal_fence(memory_order_seq_cst);
	tasks->live_count--;
#ifdef WH__TSAN
	__tsan_destroy_fiber(task->fiber);
#endif
	if (task->given_up) /* others may have pointers to its stack, which stays until the loop is freed */
		wh__notice(task->loop, WH_LOG_WARNING,
		           "task \"%s\" goes on after its loop has closed: given up", task->name);
	else
		wh__stack_put(tasks->stacks, &task->stack);
	wh__op_complete(op, n, NULL);
}

static inline void run(struct wh__task *task)
{
	struct wh__tasks *tasks = task->tasks;
	wh__thread.task = task;
	tasks->switches++;
	WH__PROBE4(task_switch, task->loop->number, task->op->slot, task->op->generation, task->res.n);
	before_task(tasks, task);
	wh__context_switch(&tasks->context, &task->context);
	after_task(tasks);
	wh__thread.task = NULL;
	WH__PROBE3(task_back, task->loop->number, task->op->slot, task->op->generation);
	if (task->stack.guard == WH__GUARD_CANARY && !wh__stack_is_whole(&task->stack))
		overflown(task);
	if (task->ended)
		end(task);
}

void wh__task_resume(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__task *task = arg;
	(void)loop;
	task->res = res;
	run(task);
}

void wh__task_continue(struct wh__op *op)
{
	run(op->engine_data);
}

static _Noreturn void stand_still_for_good(struct wh__task *task)
{
	task->ended = true;
	stand_still(task);
	abort(); /* nobody goes on with a task that has ended */
}

static void task_main(void *arg)
{
	struct wh__task *task = arg;
	landed(task);
	task->n = task->fn(task->arg);
	if (task->groups)
		task->n = wh__groups_end(task, task->n);
	stand_still_for_good(task);
}

/* ---- starting ----------------------------------------------------------------------------- */

static struct wh__tasks *open_tasks(wh_loop *loop)
{
	struct wh__tasks *tasks = calloc(1, sizeof *tasks);
	if (!tasks)
		return NULL;
	tasks->stacks = wh__stacks_open(loop->options.stack_bytes, loop->options.stacks_measured,
	                                WH__GUARD_INSTALLED);
	if (!tasks->stacks) {
		free(tasks);
		return NULL;
	}
	loop->tasks = tasks;
	return tasks;
}

void wh__tasks_close(wh_loop *loop)
{
	if (!loop->tasks)
		return;
	wh__stacks_close(loop->tasks->stacks);
	free(loop->tasks);
	loop->tasks = NULL;
}

static int make(struct wh__op *op, wh_work_function *fn, void *arg, const struct wh_task_options *options)
{
	wh_loop *loop = op->loop;
	struct wh__stack stack;
	struct wh__tasks *tasks = loop->tasks ? loop->tasks : open_tasks(loop);
	if (!tasks)
		return -ENOMEM;
	int error = wh__stack_get(tasks->stacks, options ? options->stack_bytes : 0, &stack);
	if (error != 0)
		return error;
	uintptr_t top = ((uintptr_t)stack.low + stack.bytes - sizeof(struct wh__task)) & ~(uintptr_t)63;
	struct wh__task *task = (void *)(stack.low + (top - (uintptr_t)stack.low));
	*task = (struct wh__task){.tasks = tasks,
	                          .loop = loop,
	                          .op = op,
	                          .fn = fn,
	                          .arg = arg,
	                          .stack = stack,
	                          .budget = BUDGET};
	if (options && options->name)
		snprintf(task->name, sizeof task->name, "%s", options->name);
#ifdef WH__TSAN
	task->fiber = __tsan_create_fiber(0);
#endif
	wh__context_init(&task->context, stack.low, (size_t)((uint8_t *)task - stack.low), task_main, task);
	tasks->live_count++;
	tasks->started++;
	op->engine_data = task;
	WH__PROBE5(task_begin, loop->number, op->slot, op->generation, fn, task->name);
	wh__queue_append(&loop->ready, op);
	return 0;
}

int wh__task_start(wh_loop *loop, wh_work_function *fn, void *arg, const struct wh_task_options *options,
                   struct wh__op **ret)
{
	wh_future failed;
	struct wh__op *op = wh__begin(loop, WH__OP_TASK, &failed);
	if (!op) {
		wh_res res;
		(void)wh_poll(failed, &res);
		return (int)res.n;
	}
	int error = fn ? make(op, fn, arg, options) : -EINVAL;
	if (error != 0) {
		op->consumer = WH__CONSUMER_DROP;
		wh__op_complete(op, error, NULL);
		return error;
	}
	*ret = op;
	return 0;
}

wh_future wh_go_with(wh_loop *loop, wh_work_function *fn, void *arg, const struct wh_task_options *options)
{
	struct wh__op *op;
	int error = wh__task_start(loop, fn, arg, options, &op);
	return error != 0 ? wh__fail(loop, error) : wh__op_future(op);
}

wh_future wh_go(wh_loop *loop, wh_work_function *fn, void *arg)
{
	return wh_go_with(loop, fn, arg, NULL);
}

/* ---- waiting ------------------------------------------------------------------------------ */

/* The task that op is the future of, while it lives. */
static struct wh__task *task_of(const struct wh__op *op)
{
	return op && op->opcode == WH__OP_TASK && op->state == WH__PENDING ? op->engine_data : NULL;
}

/* Who waits for op: a combination, or the future of a task that awaits it; NULL: nobody of these. */
static const struct wh__op *waits_for(const struct wh__op *op)
{
	if (op->consumer == WH__CONSUMER_PARENT)
		return op->parent;
	if (op->consumer == WH__CONSUMER_THEN && op->callback == wh__task_resume)
		return ((const struct wh__task *)op->arg)->op;
	return NULL;
}

static bool leads_to(const struct wh__op *from, const struct wh__op *to, int depth, int *steps);

static bool group_leads_to(const void *member, const struct wh__op *to, int depth, int *steps)
{
	for (int closes = 0; closes < 2; closes++)
		for (const struct wh__op *op = wh__group_waits(member, closes); op; op = op->next)
			if (leads_to(op, to, depth + 1, steps))
				return true;
	return false;
}

/* Is to among those who cannot end before from has? Bounded, as is the stack this runs on. */
static bool leads_to(const struct wh__op *from, const struct wh__op *to, int depth, int *steps)
{
	for (; from; from = waits_for(from)) {
		if (from == to)
			return true;
		if (--*steps < 0)
			return false;
		if (from->consumer == WH__CONSUMER_GROUP)
			return depth < CIRCLE_GROUPS_MAX && group_leads_to(from->arg, to, depth, steps);
	}
	return false;
}

/* Would the task wait for itself, through others that each wait for the next? A combination and a group end when all
 * that they are made of have ended, so they are no way out. */
static bool waits_for_itself(const struct wh__task *task, const struct wh__op *op)
{
	int steps = CIRCLE_STEPS_MAX;
	const struct wh__task *other = task_of(op);
	if (other && other != task && !other->awaited.id)
		return false; /* it waits for nobody */
	return leads_to(task->op, op, 0, &steps);
}

static bool is_made_of_others(const struct wh__op *op)
{
	return op->opcode == WH__OP_TASK || (op->opcode >= WH__OP_ALL && op->opcode <= WH__OP_DEADLINE) ||
	       wh__group_is_wait(op);
}

wh_res wh__task_await(struct wh__task *task, struct wh__op *op)
{
	wh_loop *loop = task->loop;
	if (op->state == WH__DONE) {
		if (--task->budget > 0) {
			wh_res res = {op->n, op->ptr};
			wh__op_free(op);
			return res;
		}
		loop->pending_count++;
		wh__queue_append(&loop->ready, op);
	} else if (is_made_of_others(op) && waits_for_itself(task, op)) {
		return (wh_res){-EDEADLK, NULL};
	}
	task->budget = BUDGET;
	op->arg = task;
	op->callback = wh__task_resume;
	atomic_signal_fence(memory_order_seq_cst); /* a dump may come at any moment */
	op->consumer = WH__CONSUMER_THEN;
	task->awaited = wh__op_future(op);
	if (task->cancelled && !task->shielded && op->state == WH__PENDING)
		wh__op_cancel(op);
	stand_still(task);
	task->awaited.id = 0;
	return task->res;
}

static void yield(struct wh__task *task)
{
	task->budget = BUDGET;
	wh__queue_append(&task->loop->ready, task->op);
	stand_still(task);
}

/* A closing loop waits for its tasks, but not for ever. */
static void give_up_one_day(struct wh__task *task)
{
	if (task->loop->closing && ++task->refused_count > REFUSED_MAX) {
		task->given_up = true;
		task->n = -ECANCELED;
		stand_still_for_good(task);
	}
}

void wh__task_did_not_wait(struct wh__task *task)
{
	if (!wh__loop_is_mine(task->loop))
		return; /* a forked child: nobody turns its parent's loop here */
	give_up_one_day(task);
	if (--task->budget == 0)
		yield(task);
}

int wh_yield(void)
{
	struct wh__task *task = wh__thread.task;
	if (!task || !wh__loop_is_mine(task->loop))
		return -EPERM;
	give_up_one_day(task);
	yield(task);
	return wh_is_cancelled() ? -ECANCELED : 0;
}

/* ---- cancelling --------------------------------------------------------------------------- */

struct wh__op *wh__task_cancel(const struct wh__op *op)
{
	struct wh__task *task = op->engine_data;
	task->cancelled = true;
	return task->awaited.id && !task->shielded ? wh__op_find(task->loop, task->awaited) : NULL;
}

bool wh_is_cancelled(void)
{
	struct wh__task *task = wh__thread.task;
	return task && task->cancelled && !task->shielded;
}

bool wh_shield(bool on)
{
	struct wh__task *task = wh__thread.task;
	bool before = task && task->shielded;
	if (task)
		task->shielded = on;
	return before;
}

/* ---- looking ------------------------------------------------------------------------------ */

wh_loop *wh__task_loop(const struct wh__task *task)
{
	return task->loop;
}

struct wh__op *wh__task_op(const struct wh__task *task)
{
	return task->op;
}

const char *wh__task_name(const struct wh__task *task)
{
	return task->name;
}

wh_future wh__task_awaits(const struct wh__task *task)
{
	return task->awaited;
}

uintptr_t wh__task_body(const struct wh__task *task)
{
	return (uintptr_t)task->fn;
}

struct group **wh__task_groups(struct wh__task *task)
{
	return &task->groups;
}

wh_loop *wh_self(void)
{
	wh_loop *loop = wh__thread.current;
	if (!loop && wh__thread.loops && !wh__thread.loops->next_of_thread)
		loop = wh__thread.loops;
	return loop && wh__loop_is_mine(loop) ? loop : NULL;
}

wh_future wh_task_self(void)
{
	struct wh__task *task = wh__thread.task;
	return task ? wh__op_future(task->op) : (wh_future){0};
}

int wh_task_look(wh_future f, struct wh_task_info *ret)
{
	int error = -ESTALE;
	uint32_t number = (uint32_t)(f.id >> 54);
	wh_loop *loop = number ? wh__registry_own(number, &error) : NULL;
	if (!loop)
		return error;
	struct wh__op *op = wh__op_find(loop, f);
	struct wh__task *task = task_of(op);
	if (!task)
		return op && op->opcode != WH__OP_TASK ? -EINVAL : -ESTALE;
	*ret = (struct wh_task_info){
		.name = task->name,
		.stack_bytes = task->stack.bytes,
		.stack_used_max = wh__stack_used(task->tasks->stacks, &task->stack),
		.cancelled = task->cancelled,
		.awaits = task->awaited,
	};
	return 0;
}

const char *wh_stack_overflow(const void *address)
{
	const struct wh__task *task = wh__thread.task;
	return task && wh__stack_guard_holds(&task->stack, address) ? task->name : NULL;
}

void wh__tasks_stats(const wh_loop *loop, struct wh_stats *ret)
{
	const struct wh__tasks *tasks = loop->tasks;
	if (!tasks)
		return;
	ret->tasks = tasks->live_count;
	ret->tasks_started = tasks->started;
	ret->task_switches = tasks->switches;
	ret->stacks_mapped_bytes = wh__stacks_mapped(tasks->stacks);
	ret->stack_used_max = wh__stacks_used_max(tasks->stacks);
}
