/* src/runtime/ask.c -- a call on another loop's thread whose result is a future here.
 *
 * The way there is a message in the other loop's inbox, the way back that of an operation at a worker. Cancelling
 * takes the message back if the other loop has not begun with it; which of the two comes first, one word decides.
 *
 * Thread: the asking loop, but for answer(), which runs on the other. Memory: one allocation; it goes with the completion of
 * the operation, or when the message arrives that was taken back.
 */
#include <errno.h>
#include <stdlib.h>

#include "runtime/loop.h"

enum { WAITS, BEGUN, TAKEN_BACK };

struct ask {
	struct wh__message message;
	wh_loop *to;
	struct wh__op *op; /* of the asking loop; not touched once it is taken back */
	wh_work_function *fn;
	void *arg;
	atomic_int state;
};

static void answer(void *arg)
{
	struct ask *ask = arg;
	if (atomic_exchange(&ask->state, BEGUN) == TAKEN_BACK) {
		free(ask);
		return;
	}
	struct wh__watch *watch = ask->to->watch;
	wh__callbacks_begin(ask->to);
	if (watch)
		wh__watch_begin(watch, (uintptr_t)ask->fn, wh_clock(ask->to));
	int64_t n = ask->fn(ask->arg);
	if (watch)
		wh__watch_end(watch);
	wh__callbacks_end(ask->to);
	wh__op_complete_from_afar(ask->op, n, NULL); /* from here on ask is the other loop's to free */
}

static void cancel_ask(struct wh__op *op)
{
	struct ask *ask = op->buf;
	int state = WAITS;
	if (!atomic_compare_exchange_strong(&ask->state, &state, TAKEN_BACK))
		return; /* it has begun: the result is on its way */
	op->flags &= (uint8_t)~WH__OWNS_BUF;
	wh__op_complete(op, -ECANCELED, NULL);
}

wh_future wh_ask(wh_loop *loop, wh_loop *to, wh_work_function *fn, void *arg)
{
	wh_future f;
	struct wh__op *op = wh__begin(loop, WH__OP_ASK, &f);
	if (!op)
		return f;
	if (!to || !fn)
		return wh__end(op, -EINVAL);
	if (atomic_load(&wh__registry[to->number].inherited))
		return wh__end(op, -EPERM);
	struct ask *ask = calloc(1, sizeof *ask);
	if (!ask)
		return wh__end(op, -ENOMEM);
	*ask = (struct ask){.to = to, .op = op, .fn = fn, .arg = arg};
	ask->message = (struct wh__message){.fn = answer, .arg = ask, .embedded = true};
	op->flags = WH__BORROWS | WH__OWNS_BUF;
	op->buf = ask;
	op->cancel_inner = cancel_ask;
	f = wh__op_future(op);
	wh__inbox_push(to, &ask->message);
	return f;
}
