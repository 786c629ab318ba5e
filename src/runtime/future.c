/* src/runtime/future.c -- consume, ask, cancel, resolve. See docs/design/futures.md.
 *
 * A future of number 0 has no slot: it is the failure to get one, or a close that was made without. Its slot bits name the loop,
 * its generation bits hold the errno, 0 for none.
 *
 * A promise may be resolved by any thread while the loop's thread cancels it: whoever sets its claim word first
 * completes it. The word holds the generation, so that a late resolver cannot take a slot that is in use again, and
 * is 0 when the slot is no promise.
 */
#include "runtime/probe.h"
#include "runtime/task.h"

#include <assert.h>
#include <stdlib.h>

#define CLAIM_TAKEN (UINT32_C(1) << 31) /* beside the generation */

struct waiter {
	wh_future f;
	wh_res res;
	bool done; /* of the loop's own thread */
	bool remote;
	pthread_mutex_t lock; /* of another one */
	pthread_cond_t changed;
};

static wh_future no_slot(uint32_t number, int64_t error)
{
	assert(error <= 0 && error >= -INT32_MAX);
	return (wh_future){(uint64_t)number << 32 | (uint32_t)-error};
}

wh_future wh__fail(wh_loop *loop, int64_t error)
{
	return no_slot(loop->number, error);
}

wh_future wh__done(wh_loop *loop)
{
	return no_slot(loop->number, 0);
}

wh_future wh__fail_at(uint64_t id, int64_t error)
{
	return no_slot((uint32_t)(id >> 54), error);
}

wh_future wh_failed(wh_loop *loop, int64_t error)
{
	return no_slot(loop->number, error < 0 ? error : -EINVAL);
}

static uint32_t number_of(wh_future f)
{
	return (uint32_t)(f.id >> 54);
}

/* Of a future without a slot. */
static int64_t result_of(wh_future f)
{
	return f.id ? -(int64_t)(uint32_t)f.id : -ESTALE;
}

/* ---- await -------------------------------------------------------------------------------- */

static void wake_remote(struct waiter *waiter, wh_res res)
{
	pthread_mutex_lock(&waiter->lock);
	waiter->res = res;
	waiter->done = true;
	pthread_cond_signal(&waiter->changed);
	pthread_mutex_unlock(&waiter->lock);
}

void wh__waiter_wake(struct wh__op *op, wh_res res)
{
	struct waiter *waiter = op->arg;
	wh__op_free(op);
	if (waiter->remote) {
		wake_remote(waiter, res);
	} else {
		waiter->res = res;
		waiter->done = true;
	}
}

static wh_res take(struct wh__op *op)
{
	wh_res res = {op->n, op->ptr};
	wh__op_free(op);
	return res;
}

struct remote_await {
	struct wh__message message;
	struct waiter waiter;
	wh_loop *loop;
};

/* On the loop's thread, for a thread that blocks. */
static void await_for_other(void *arg)
{
	struct remote_await *remote = arg;
	struct wh__op *op = wh__op_find(remote->loop, remote->waiter.f);
	if (!op || op->consumer != WH__CONSUMER_NONE) {
		wake_remote(&remote->waiter, (wh_res){remote->loop->closing ? -ECANCELED : -ESTALE, NULL});
	} else if (op->state == WH__DONE) {
		wake_remote(&remote->waiter, take(op));
	} else {
		op->consumer = WH__CONSUMER_AWAIT;
		op->arg = &remote->waiter;
	}
}

static wh_res await_from_other_thread(wh_future f)
{
	int error = 0;
	if (wh__thread.in_callback)
		return (wh_res){-EDEADLK, NULL};
	wh_loop *loop = wh__registry_enter(number_of(f), &error);
	if (!loop)
		return (wh_res){error, NULL};
	struct remote_await remote = {.waiter = {.f = f, .remote = true}, .loop = loop};
	remote.message = (struct wh__message){.fn = await_for_other, .arg = &remote, .embedded = true};
	pthread_mutex_init(&remote.waiter.lock, NULL);
	pthread_cond_init(&remote.waiter.changed, NULL);
	wh__inbox_push(loop, &remote.message);
	wh__registry_leave(number_of(f));
	pthread_mutex_lock(&remote.waiter.lock);
	while (!remote.waiter.done)
		pthread_cond_wait(&remote.waiter.changed, &remote.waiter.lock);
	pthread_mutex_unlock(&remote.waiter.lock);
	pthread_cond_destroy(&remote.waiter.changed);
	pthread_mutex_destroy(&remote.waiter.lock);
	return remote.waiter.res;
}

wh_res wh_await(wh_future f)
{
	int error = 0;
	struct wh__task *task = wh__thread.task;
	if (number_of(f) == 0) {
		if (task)
			wh__task_did_not_wait(task);
		return (wh_res){result_of(f), NULL};
	}
	wh_loop *loop = wh__registry_own(number_of(f), &error);
	if (task && loop != wh__task_loop(task))
		return wh__task_await_away(task, f);
	if (!loop)
		return await_from_other_thread(f);
	struct wh__op *op = wh__op_find(loop, f);
	if (!op || op->consumer != WH__CONSUMER_NONE)
		return (wh_res){task && op == wh__task_op(task) ? -EDEADLK : -ESTALE, NULL};
	if (task)
		return wh__task_await(task, op);
	if (op->state == WH__DONE)
		return take(op);
	if (wh__thread.in_callback || loop->running)
		return (wh_res){-EDEADLK, NULL};
	struct waiter waiter = {.f = f};
	op->consumer = WH__CONSUMER_AWAIT;
	op->arg = &waiter;
	error = wh__loop_turn_until(loop, &waiter.done);
	if (waiter.done)
		return waiter.res;
	/* the engine has failed: f is nobody's again, and wh_loop_close() will end it */
	op->consumer = WH__CONSUMER_NONE;
	op->arg = NULL;
	return (wh_res){error, NULL};
}

/* ---- poll, then, drop, look --------------------------------------------------------------- */

bool wh_poll(wh_future f, wh_res *ret)
{
	wh_res res = {-ESTALE, NULL};
	int error = 0;
	if (number_of(f) == 0) {
		res.n = result_of(f);
	} else {
		wh_loop *loop = wh__registry_own(number_of(f), &error);
		struct wh__op *op = loop ? wh__op_find(loop, f) : NULL;
		if (!loop)
			res.n = error;
		else if (op && op->consumer == WH__CONSUMER_NONE) {
			if (op->state == WH__PENDING)
				return false;
			if (!ret)
				wh__op_dispose(op);
			res = take(op);
		}
	}
	if (ret)
		*ret = res;
	return true;
}

/* A failure without a slot still calls back, never inline. */
struct late_failure {
	wh_callback *callback;
	void *arg;
	wh_loop *loop;
	int64_t error;
};

static void tell_failure(void *arg)
{
	struct late_failure failure = *(struct late_failure *)arg;
	free(arg);
	failure.callback(failure.loop, (wh_res){failure.error, NULL}, failure.arg);
}

static int then_without_slot(wh_future f, wh_callback *callback, void *arg)
{
	int error = -ESTALE;
	wh_loop *loop = f.id ? wh__registry_own((uint32_t)(f.id >> 32) % WH__LOOPS_MAX, &error) : NULL;
	if (!loop)
		return error;
	if (wh__loop_is_closed_to(loop))
		return -ECANCELED;
	struct late_failure *failure = malloc(sizeof *failure);
	if (!failure)
		return -ENOMEM;
	*failure = (struct late_failure){callback, arg, loop, result_of(f)};
	error = wh_defer(loop, tell_failure, failure);
	if (error != 0)
		free(failure);
	return error;
}

int wh_then(wh_future f, wh_callback *callback, void *arg)
{
	int error = 0;
	if (!callback)
		return -EINVAL;
	if (number_of(f) == 0)
		return then_without_slot(f, callback, arg);
	wh_loop *loop = wh__registry_own(number_of(f), &error);
	if (!loop)
		return error;
	struct wh__op *op = wh__op_find(loop, f);
	if (!op || op->consumer != WH__CONSUMER_NONE)
		return -ESTALE;
	op->consumer = WH__CONSUMER_THEN;
	op->callback = callback;
	op->arg = arg;
	if (op->state == WH__DONE) {
		loop->pending_count++;
		wh__queue_append(&loop->ready, op);
	}
	return 0;
}

int wh_drop(wh_future f)
{
	int error = 0;
	if (number_of(f) == 0)
		return f.id ? 0 : -ESTALE;
	wh_loop *loop = wh__registry_own(number_of(f), &error);
	if (!loop)
		return error;
	struct wh__op *op = wh__op_find(loop, f);
	if (!op || op->consumer != WH__CONSUMER_NONE)
		return -ESTALE;
	if (op->state == WH__DONE) {
		wh__op_dispose(op);
		wh__op_free(op);
		return 0;
	}
	if (op->flags & WH__BORROWS)
		return -EBUSY;
	op->consumer = WH__CONSUMER_DROP;
	wh__op_cancel(op);
	return 0;
}

int wh_detach(wh_future f)
{
	int error = 0;
	if (number_of(f) == 0)
		return f.id ? 0 : -ESTALE;
	wh_loop *loop = wh__registry_own(number_of(f), &error);
	if (!loop)
		return error;
	struct wh__op *op = wh__op_find(loop, f);
	if (!op || op->consumer != WH__CONSUMER_NONE)
		return -ESTALE;
	op->consumer = WH__CONSUMER_DROP;
	if (op->state == WH__DONE) {
		wh__op_dispose(op);
		wh__op_free(op);
	}
	return 0;
}

bool wh_done(wh_future f)
{
	int error = 0;
	wh_loop *loop = number_of(f) ? wh__registry_own(number_of(f), &error) : NULL;
	struct wh__op *op = loop ? wh__op_find(loop, f) : NULL;
	return !op || op->state == WH__DONE;
}

/* ---- cancel ------------------------------------------------------------------------------- */

static bool claim(struct wh__op *op, uint32_t generation)
{
	return atomic_compare_exchange_strong(&op->claim, &generation, generation | CLAIM_TAKEN);
}

void wh__walk(wh_loop *loop, struct wh__walk *walk)
{
	walk->below = loop->walks;
	loop->walks = walk;
	if (loop->walking)
		return;
	loop->walking = true;
	while ((walk = loop->walks)) {
		wh_future f;
		struct wh__op *op;
		if (!walk->next(walk, &f)) {
			loop->walks = walk->below;
			walk->end(walk);
		} else if ((op = wh__op_find(loop, f)) && op->state == WH__PENDING) {
			wh__op_cancel(op);
		}
	}
	loop->walking = false;
}

/* What to cancel in place of op, which has no more than that; NULL: cancel op itself. */
static struct wh__op *inner_of(const struct wh__op *op)
{
	struct wh__op *inner = NULL;
	if (op->opcode == WH__OP_DEADLINE)
		inner = wh__op_find(op->loop, (wh_future){op->len});
	else if (op->opcode == WH__OP_TASK)
		inner = wh__task_cancel(op);
	return inner && inner->state == WH__PENDING ? inner : NULL;
}

void wh__op_cancel(struct wh__op *op)
{
	wh_loop *loop = op->loop;
	for (struct wh__op *inner; (inner = inner_of(op)); op = inner)
		WH__PROBE4(op_cancel, loop->number, op->slot, op->generation, op->opcode);
	WH__PROBE4(op_cancel, loop->number, op->slot, op->generation, op->opcode);
	switch ((enum wh__opcode)op->opcode) {
	case WH__OP_PROMISE:
		if (claim(op, op->generation)) /* else its result is on its way */
			wh__op_complete(op, -ECANCELED, NULL);
		break;
	case WH__OP_TIMER:
		wh__wheel_disarm(&loop->wheel, op);
		wh__op_complete(op, -ECANCELED, NULL);
		break;
	case WH__OP_MARK_WAIT:
		wh__mark_cancel(op);
		break;
	case WH__OP_ALL:
	case WH__OP_ALL_SETTLED:
	case WH__OP_ANY:
		wh__combine_cancel(op);
		break;
	case WH__OP_DEADLINE: /* what it limits is ending */
		break;
	case WH__OP_TICK:
		wh__ticker_cancel(op);
		break;
	case WH__OP_TASK: /* it waits for nothing that can be cancelled */
		break;
	case WH__OP_OBJECT:
		break; /* closed by who opened it, or with the loop */
	default:
		if (wh__opcode_is_inner(op->opcode))
			op->cancel_inner(op);
		else
			loop->engine->cancel(op);
		break;
	}
}

void wh_cancel(wh_future f)
{
	int error = 0;
	wh_loop *loop = number_of(f) ? wh__registry_own(number_of(f), &error) : NULL;
	struct wh__op *op = loop ? wh__op_find(loop, f) : NULL;
	if (op && op->state == WH__PENDING)
		wh__op_cancel(op);
}

/* ---- make --------------------------------------------------------------------------------- */

wh_future wh__start(struct wh__op *op)
{
	wh_loop *loop = op->loop;
	wh_future f = wh__op_future(op);
	WH__PROBE6(op_submit, loop->number, op->slot, op->generation, op->opcode, op->fd, op->len);
	if (op->opcode == WH__OP_CLOSE)
		loop->engine->close_fd(op);
	else if (loop->closing) /* a slot that the runtime made for itself */
		wh__op_complete(op, -ECANCELED, NULL);
	else
		loop->engine->submit(op);
	return f;
}

wh_future wh_promise(wh_loop *loop, wh_disposer *dispose, void *arg)
{
	wh_future failed;
	struct wh__op *op = wh__begin(loop, WH__OP_PROMISE, &failed);
	if (!op)
		return failed;
	op->dispose = dispose;
	op->dispose_arg = arg;
	atomic_store_explicit(&op->claim, op->generation, memory_order_release);
	return wh__op_future(op);
}

/* -EALREADY: somebody else has it; -ESTALE: it is no longer, or is no promise. */
static int claim_for(struct wh__op *op, uint32_t generation)
{
	uint32_t seen = generation;
	if (generation == 0 || generation >= WH__GENERATION_MAX)
		return -ESTALE;
	if (atomic_compare_exchange_strong(&op->claim, &seen, generation | CLAIM_TAKEN))
		return 0;
	return seen == (generation | CLAIM_TAKEN) ? -EALREADY : -ESTALE;
}

static struct wh__op *slot_of(wh_loop *loop, wh_future f)
{
	uint32_t slot = (uint32_t)(f.id >> 32) & WH__SLOTS_MAX;
	/* a slot once made stays until the loop closes, which waits for visitors */
	return slot < atomic_load_explicit(&loop->slots_made, memory_order_acquire) ? wh__op_at(loop, slot)
	                                                                            : NULL;
}

int wh_resolve(wh_future f, int64_t n, void *ptr)
{
	int error = -ESTALE;
	if (number_of(f) == 0)
		return -ESTALE;
	wh_loop *loop = wh__registry_own(number_of(f), &error);
	if (loop) {
		struct wh__op *op = slot_of(loop, f);
		error = op ? claim_for(op, (uint32_t)f.id) : -ESTALE;
		if (error == 0)
			wh__op_complete(op, n, ptr);
		return error;
	}
	loop = wh__registry_enter(number_of(f), &error);
	if (!loop)
		return error;
	struct wh__op *op = slot_of(loop, f);
	error = op ? claim_for(op, (uint32_t)f.id) : -ESTALE;
	if (error == 0)
		wh__op_complete_from_worker(op, n, ptr);
	wh__registry_leave(number_of(f));
	return error;
}

wh_future wh_work(wh_loop *loop, wh_work_function *fn, void *arg)
{
	wh_future failed;
	struct wh__op *op = wh__begin(loop, WH__OP_WORK, &failed);
	if (!op)
		return failed;
	if (!fn)
		return wh__end(op, -EINVAL);
	op->work = fn;
	op->buf = arg;
	op->flags = WH__BORROWS;
	return wh__start(op);
}

wh_future wh_sleep_until(wh_loop *loop, int64_t at)
{
	wh_future failed;
	struct wh__op *op = wh__begin(loop, WH__OP_TIMER, &failed);
	if (!op)
		return failed;
	op->at = at;
	wh__wheel_arm(&loop->wheel, op);
	return wh__op_future(op);
}

wh_future wh__sleep_until(wh_loop *loop, int64_t at)
{
	if (loop->closing)
		return wh__fail(loop, -ECANCELED);
	struct wh__op *op = wh__op_new_beyond(loop, WH__OP_TIMER);
	if (!op)
		return wh__fail(loop, -ENOMEM);
	op->at = at;
	wh__wheel_arm(&loop->wheel, op);
	return wh__op_future(op);
}

wh_future wh_sleep(wh_loop *loop, int64_t ns)
{
	int64_t now = wh_clock(loop);
	return wh_sleep_until(loop, ns > INT64_MAX - now ? INT64_MAX : now + (ns > 0 ? ns : 0));
}
