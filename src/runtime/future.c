/* src/runtime/future.c -- consume, ask, cancel, resolve. See docs/design/futures.md.
 *
 * A future of number 0 has no slot: it is the failure to get one. Its slot bits name the loop, its generation bits hold the
 * errno.
 *
 * A promise may be resolved by any thread while the loop's thread cancels it: whoever sets its claim word first
 * completes it. The word holds the generation, so that a late resolver cannot take a slot that is in use again; its
 * highest bit tells it from the pointers that other operations keep there.
 */
#include "runtime/loop.h"

#include <assert.h>
#include <stdlib.h>

#define CLAIM_OPEN(generation) (UINT64_C(1) << 63 | (uint64_t)(generation) << 1)

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
	assert(error < 0 && error >= -INT32_MAX);
	return (wh_future){(uint64_t)number << 32 | (uint32_t)-error};
}

wh_future wh__fail(wh_loop *loop, int64_t error)
{
	return no_slot(loop->number, error);
}

wh_future wh_failed(wh_loop *loop, int64_t error)
{
	return no_slot(loop->number, error < 0 ? error : -EINVAL);
}

static uint32_t number_of(wh_future f)
{
	return (uint32_t)(f.id >> 54);
}

static int64_t error_of(wh_future f)
{
	uint32_t error = (uint32_t)f.id;
	return error ? -(int64_t)error : -ESTALE;
}

/* ---- await -------------------------------------------------------------------------------- */

void wh__waiter_wake(struct wh__op *op, wh_res res)
{
	struct waiter *waiter = op->arg;
	wh__op_free(op);
	if (!waiter->remote) {
		waiter->res = res;
		waiter->done = true;
		return;
	}
	pthread_mutex_lock(&waiter->lock);
	waiter->res = res;
	waiter->done = true;
	pthread_cond_signal(&waiter->changed);
	pthread_mutex_unlock(&waiter->lock);
}

static void wake_remote(struct waiter *waiter, wh_res res)
{
	pthread_mutex_lock(&waiter->lock);
	waiter->res = res;
	waiter->done = true;
	pthread_cond_signal(&waiter->changed);
	pthread_mutex_unlock(&waiter->lock);
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
		wake_remote(&remote->waiter, (wh_res){-ESTALE, NULL});
	} else if (op->state == WH__DONE) {
		wake_remote(&remote->waiter, take(op));
	} else {
		op->consumer = WH__CONSUMER_AWAIT;
		op->arg = &remote->waiter;
	}
}

static wh_res await_from_other_thread(wh_future f, uint32_t number)
{
	struct remote_await remote = {.waiter = {.f = f, .remote = true}};
	remote.message = (struct wh__message){.fn = await_for_other, .arg = &remote, .embedded = true};
	pthread_mutex_init(&remote.waiter.lock, NULL);
	pthread_cond_init(&remote.waiter.changed, NULL);
	wh_loop *loop = wh__registry_enter(number);
	if (!loop)
		return (wh_res){-ESTALE, NULL};
	if (loop->fork_generation != wh__fork_generation()) {
		wh__registry_leave(number);
		return (wh_res){-EPERM, NULL}; /* in a forked child nobody turns the loop */
	}
	remote.loop = loop;
	wh__inbox_push(loop, &remote.message);
	wh__registry_leave(number);
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
	uint32_t number = number_of(f);
	int error;
	if (number == 0)
		return (wh_res){error_of(f), NULL};
	wh_loop *loop = wh__registry_own(number, &error);
	if (!loop)
		return error == -EPERM ? await_from_other_thread(f, number) : (wh_res){error, NULL};
	struct wh__op *op = wh__op_find(loop, f);
	if (!op || op->consumer != WH__CONSUMER_NONE)
		return (wh_res){-ESTALE, NULL};
	if (op->state == WH__DONE)
		return take(op);
	if (loop->in_callback || loop->running)
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
	int error;
	if (number_of(f) == 0) {
		res.n = error_of(f);
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
	int error;
	wh_loop *loop = f.id ? wh__registry_own((uint32_t)(f.id >> 32), &error) : NULL;
	if (!loop)
		return f.id ? error : -ESTALE;
	struct late_failure *failure = malloc(sizeof *failure);
	if (!failure)
		return -ENOMEM;
	*failure = (struct late_failure){callback, arg, loop, error_of(f)};
	error = wh_defer(loop, tell_failure, failure);
	if (error != 0)
		free(failure);
	return error;
}

int wh_then(wh_future f, wh_callback *callback, void *arg)
{
	int error;
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
	int error;
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

bool wh_done(wh_future f)
{
	int error;
	wh_loop *loop = number_of(f) ? wh__registry_own(number_of(f), &error) : NULL;
	struct wh__op *op = loop ? wh__op_find(loop, f) : NULL;
	return !op || op->state == WH__DONE;
}

/* ---- cancel ------------------------------------------------------------------------------- */

static bool claim(struct wh__op *op, uint32_t generation)
{
	uint64_t open = CLAIM_OPEN(generation);
	return atomic_compare_exchange_strong(&op->claim, &open, open | 1);
}

void wh__op_cancel(struct wh__op *op)
{
	wh_loop *loop = op->loop;
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
	case WH__OP_DEADLINE:
		wh__combine_cancel(op);
		break;
	case WH__OP_INNER:
		op->cancel_inner(op);
		break;
	default:
		loop->engine->cancel(op);
		break;
	}
}

void wh_cancel(wh_future f)
{
	int error;
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
	if (op->opcode == WH__OP_CLOSE)
		loop->engine->close_fd(op); /* also while the loop closes: descriptors are not leaked then */
	else if (loop->closing)
		wh__op_complete(op, -ECANCELED, NULL);
	else
		loop->engine->submit(op);
	return f;
}

wh_future wh_promise(wh_loop *loop, wh_disposer *dispose, void *arg)
{
	if (!wh__loop_is_mine(loop))
		return wh__fail(loop, -EPERM);
	if (loop->closing)
		return wh__fail(loop, -ECANCELED);
	struct wh__op *op = wh__op_new(loop, WH__OP_PROMISE);
	if (!op)
		return wh__fail(loop, -EAGAIN);
	op->dispose = dispose;
	op->dispose_arg = arg;
	/* the id is not out yet: whoever gets it gets this too */
	atomic_store_explicit(&op->claim, CLAIM_OPEN(op->generation), memory_order_relaxed);
	return wh__op_future(op);
}

/* From the loop's own thread: no lock, no chunk that could go. */
static int resolve_own(wh_loop *loop, wh_future f, int64_t n, void *ptr)
{
	struct wh__op *op = wh__op_find(loop, f);
	if (!op || op->opcode != WH__OP_PROMISE)
		return -ESTALE;
	if (op->state == WH__DONE || !claim(op, op->generation))
		return -EALREADY;
	wh__op_complete(op, n, ptr);
	return 0;
}

int wh_resolve(wh_future f, int64_t n, void *ptr)
{
	uint32_t number = number_of(f), generation = (uint32_t)f.id,
		 slot = (uint32_t)(f.id >> 32) & WH__SLOTS_MAX;
	int error = -ESTALE;
	if (number == 0)
		return error;
	wh_loop *loop = wh__registry_own(number, &error);
	if (loop)
		return resolve_own(loop, f, n, ptr);
	loop = wh__registry_enter(number);
	if (!loop)
		return -ESTALE;
	error = -ESTALE;
	/* a chunk once made stays until the loop closes, which waits for this lock */
	struct wh__op *chunk =
		atomic_load_explicit(&loop->chunks[slot / WH__CHUNK_SLOTS], memory_order_acquire);
	struct wh__op *op = chunk ? &chunk[slot % WH__CHUNK_SLOTS] : NULL;
	if (op && claim(op, generation)) {
		op->n = n;
		op->ptr = ptr;
		wh__inbox_push_op(loop, op);
		error = 0;
	} else if (op && atomic_load(&op->claim) == (CLAIM_OPEN(generation) | 1)) {
		error = -EALREADY;
	}
	wh__registry_leave(number);
	return error;
}

wh_future wh_work(wh_loop *loop, wh_work_function *fn, void *arg)
{
	if (!wh__loop_is_mine(loop))
		return wh__fail(loop, -EPERM);
	if (!fn)
		return wh__fail(loop, -EINVAL);
	struct wh__op *op = wh__op_new(loop, WH__OP_WORK);
	if (!op)
		return wh__fail(loop, -EAGAIN);
	op->work = fn;
	op->buf = arg;
	op->flags = WH__BORROWS;
	return wh__start(op);
}

wh_future wh_sleep_until(wh_loop *loop, int64_t at)
{
	if (!wh__loop_is_mine(loop))
		return wh__fail(loop, -EPERM);
	if (loop->closing)
		return wh__fail(loop, -ECANCELED);
	struct wh__op *op = wh__op_new(loop, WH__OP_TIMER);
	if (!op)
		return wh__fail(loop, -EAGAIN);
	op->at = at;
	wh__wheel_arm(&loop->wheel, op);
	return wh__op_future(op);
}

wh_future wh_sleep(wh_loop *loop, int64_t ns)
{
	int64_t now = wh_clock(loop);
	return wh_sleep_until(loop, ns > INT64_MAX - now ? INT64_MAX : now + (ns > 0 ? ns : 0));
}
