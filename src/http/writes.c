/* src/http/writes.c -- see writes.h. */
#include "http/writes.h"

#include <errno.h>

#include "runtime/loop.h"

static void take_out(struct wh__op **first, struct wh__op *op)
{
	*(op->prev ? &op->prev->next : first) = op->next;
	if (op->next)
		op->next->prev = op->prev;
}

static void cancelled(struct wh__op *op)
{
	take_out(op->buf, op);
	wh__op_complete(op, -ECANCELED, NULL);
}

wh_future wh__http_writes_wait(wh_loop *loop, struct wh__op **first, bool room)
{
	struct wh__op *op = wh__op_new(loop, WH__OP_HTTP), **link = first, *last = NULL;

	if (!op)
		return wh_failed(loop, -EAGAIN);
	wh_future f = wh__op_future(op);
	if (room) {
		wh__op_complete(op, 0, NULL);
		return f;
	}
	op->buf = first;
	op->cancel_inner = cancelled;
	for (; *link; link = &(*link)->next)
		last = *link;
	*link = op;
	op->prev = last;
	return f;
}

void wh__http_writes_end(struct wh__op **first, int64_t result)
{
	while (*first) {
		struct wh__op *op = *first;

		take_out(first, op);
		wh__op_complete(op, result, NULL);
	}
}
