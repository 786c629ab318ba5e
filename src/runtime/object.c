/* src/runtime/object.c -- see object.h. */
#include "runtime/object.h"

#include <stdlib.h>

int wh__object_new(wh_loop *loop, enum wh__object_kind kind, size_t bytes,
                   void (*fini)(struct wh__object *object), void *ret)
{
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	if (loop->closing)
		return -ECANCELED;
	struct wh__object *object = calloc(1, bytes);
	if (!object)
		return -ENOMEM;
	struct wh__op *op = wh__op_new(loop, WH__OP_OBJECT);
	if (!op) {
		free(object);
		return loop->live_count >= loop->slots_max ? -EAGAIN : -ENOMEM;
	}
	/* it is no operation: nobody consumes it, and the loop does not run for it */
	op->consumer = WH__CONSUMER_INTERNAL;
	loop->pending_count--;
	loop->counts[WH__OP_OBJECT].started--;
	op->engine_data = object;
	op->len = kind;
	object->op = op;
	object->fini = fini;
	*(void **)ret = object;
	return 0;
}

void wh__object_release(struct wh__object *object)
{
	if (--object->holds == 0 && object->ended)
		wh__object_free(object);
}

void wh__object_free(struct wh__object *object)
{
	struct wh__op *op = object->op;
	object->closing = object->ended = true;
	if (object->holds > 0)
		return;
	object->fini(object);
	wh__op_free(op);
	free(object);
}

void *wh__object_find(uint64_t id, enum wh__object_kind kind, int *ret_error)
{
	uint32_t number = (uint32_t)(id >> 54);
	*ret_error = -ESTALE;
	wh_loop *loop = number ? wh__registry_own(number, ret_error) : NULL;
	struct wh__op *op = loop ? wh__op_find(loop, (wh_future){id}) : NULL;
	if (!op || op->opcode != WH__OP_OBJECT || op->len != kind)
		return NULL;
	struct wh__object *object = op->engine_data;
	if (object->closing)
		return NULL;
	*ret_error = 0;
	return object;
}

static struct wh__op *wait_at(struct wh__object *object, struct wh__op *op, void (*cancel)(struct wh__op *op),
                              wh_future *ret)
{
	if (op) {
		op->cancel_inner = cancel;
		op->second = object;
		*ret = wh__op_future(op);
	}
	return op;
}

struct wh__op *wh__wait_new(struct wh__object *object, void (*cancel)(struct wh__op *op),
                            wh_future *ret_failed)
{
	return wait_at(object, wh__begin(object->op->loop, WH__OP_WAIT, ret_failed), cancel, ret_failed);
}

struct wh__op *wh__wait_for_end(struct wh__object *object, void (*cancel)(struct wh__op *op),
                                wh_future *ret_failed)
{
	wh_loop *loop = object->op->loop;
	if (!loop->closing || !wh__loop_is_mine(loop))
		return wh__wait_new(object, cancel, ret_failed);
	struct wh__op *op = wh__op_new(loop, WH__OP_WAIT);
	if (!op)
		*ret_failed = wh__fail(loop, loop->live_count >= loop->slots_max ? -EAGAIN : -ENOMEM);
	return wait_at(object, op, cancel, ret_failed);
}

void wh__waits_end(struct wh__waits *waits, int64_t n)
{
	while (waits->first) {
		struct wh__op *op = waits->first;
		wh__waits_remove(waits, op);
		wh__op_complete(op, n, NULL);
	}
}
