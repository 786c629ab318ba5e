/* src/runtime/mark.c -- a rising value with any number of waiters: commit watermarks and job states.
 *
 * The value is stored first and waiters are told second, so whoever comes late reads it: no wake-up can be missed.
 * Waiters lie in a list by value, lowest first; those that come usually want the highest, so they are entered from
 * the end. Thread: wh_mark_raise() and wh_mark_read() any, the rest loop.
 */
#include "runtime/loop.h"

#include <assert.h>
#include <stdlib.h>

struct wh_mark {
	wh_loop *loop;
	uint32_t loop_number; /* a thread that raises may outlive the loop: it asks the registry first */
	_Atomic uint64_t value;
	struct wh__op *first, *last; /* waiters, op->off their value */
	int64_t error;               /* of wh_mark_fail() */
	struct wh__message message;  /* travels to the loop when another thread has raised */
	atomic_bool told;            /* it is on its way */
	bool closed;
};

int wh_mark_open(wh_loop *loop, wh_mark **ret, uint64_t value)
{
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	wh_mark *mark = calloc(1, sizeof *mark);
	if (!mark)
		return -ENOMEM;
	mark->loop = loop;
	mark->loop_number = loop->number;
	atomic_init(&mark->value, value);
	*ret = mark;
	return 0;
}

static void take_out(wh_mark *mark, struct wh__op *op)
{
	*(op->prev ? &op->prev->next : &mark->first) = op->next;
	*(op->next ? &op->next->prev : &mark->last) = op->prev;
	op->next = op->prev = NULL;
}

static void tell_reached(wh_mark *mark)
{
	uint64_t value = atomic_load(&mark->value);
	while (mark->first && mark->first->off <= value) {
		struct wh__op *op = mark->first;
		take_out(mark, op);
		wh__op_complete(op, 0, NULL);
	}
}

static void tell_all(wh_mark *mark, int64_t error)
{
	while (mark->first) {
		struct wh__op *op = mark->first;
		take_out(mark, op);
		wh__op_complete(op, error, NULL);
	}
}

static void on_message(void *arg)
{
	wh_mark *mark = arg;
	atomic_store(&mark->told, false);
	if (mark->closed)
		free(mark);
	else
		tell_reached(mark);
}

void wh_mark_raise(wh_mark *mark, uint64_t value)
{
	uint64_t before = atomic_load_explicit(&mark->value, memory_order_relaxed);
	do {
		if (value <= before)
			return;
	} while (!atomic_compare_exchange_weak(&mark->value, &before, value));
	int error = 0;
	if (wh__registry_own(mark->loop_number, &error) == mark->loop) {
		tell_reached(mark);
		return;
	}
	wh_loop *loop = wh__registry_enter(mark->loop_number, &error);
	if (!loop)
		return;
	if (loop == mark->loop && !atomic_exchange(&mark->told, true)) {
		mark->message = (struct wh__message){.fn = on_message, .arg = mark, .embedded = true};
		wh__inbox_push(loop, &mark->message);
	}
	wh__registry_leave(mark->loop_number);
}

uint64_t wh_mark_read(const wh_mark *mark)
{
	return atomic_load(&mark->value);
}

wh_future wh_mark_wait(wh_mark *mark, uint64_t value)
{
	wh_future f;
	struct wh__op *op = wh__begin(mark->loop, WH__OP_MARK_WAIT, &f);
	if (!op)
		return f;
	f = wh__op_future(op);
	if (mark->error != 0 || value <= atomic_load(&mark->value))
		return wh__end(op, mark->error);
	op->off = value;
	op->engine_data = mark;
	struct wh__op *before = mark->last;
	while (before && before->off > value)
		before = before->prev;
	op->prev = before;
	op->next = before ? before->next : mark->first;
	*(op->prev ? &op->prev->next : &mark->first) = op;
	*(op->next ? &op->next->prev : &mark->last) = op;
	return f;
}

void wh__mark_cancel(struct wh__op *op)
{
	take_out(op->engine_data, op);
	wh__op_complete(op, -ECANCELED, NULL);
}

void wh_mark_fail(wh_mark *mark, int64_t error)
{
	assert(error < 0);
	mark->error = error;
	tell_all(mark, error);
}

wh_mark *wh_mark_close(wh_mark *mark)
{
	if (!mark)
		return NULL;
	tell_all(mark, -ECANCELED);
	mark->closed = true;
	if (!atomic_load(&mark->told))
		free(mark); /* else when the message has arrived */
	return NULL;
}
