/* src/runtime/semaphore.c -- at most so many at once, on one loop.
 *
 * Strictly first come, first served: one that wants much is not passed by those that want little. A permit that was
 * granted and that nobody took, because its future was dropped, goes back.
 *
 * Thread: loop. Memory: one allocation for each semaphore.
 */
#include <stdlib.h>

#include "runtime/object.h"

struct semaphore {
	struct wh__object object;
	uint64_t free_count, count;
	struct wh__waits waits; /* op->len: how many it wants */
};

static void fini(struct wh__object *object)
{
	(void)object;
}

int wh_semaphore_open(wh_loop *loop, wh_semaphore *ret, uint32_t count)
{
	struct semaphore *semaphore;
	if (count == 0)
		return -EINVAL;
	int error = wh__object_new(loop, WH__SEMAPHORE, sizeof *semaphore, fini, &semaphore);
	if (error != 0)
		return error;
	semaphore->free_count = semaphore->count = count;
	ret->id = wh__object_id(&semaphore->object);
	return 0;
}

static void release(struct semaphore *semaphore, uint64_t count);

/* A grant was dropped. The semaphore may be closed by now: res.ptr tells the generation of its slot, arg the slot. */
static void take_back(wh_res res, void *arg)
{
	const struct wh__op *slot = arg;
	uint64_t id = wh__op_future(slot).id & ~(uint64_t)UINT32_MAX;
	int error;
	struct semaphore *semaphore =
		wh__object_find(id | (uint32_t)(uintptr_t)res.ptr, WH__SEMAPHORE, &error);
	if (semaphore)
		release(semaphore, (uint64_t)res.n);
}

static void grant(struct semaphore *semaphore, struct wh__op *op)
{
	uint64_t count = op->len;
	semaphore->free_count -= count;
	op->dispose = take_back;
	op->dispose_arg = semaphore->object.op;
	wh__op_complete(op, (int64_t)count, (void *)(uintptr_t)semaphore->object.op->generation);
}

static void serve(struct semaphore *semaphore)
{
	wh__object_hold(&semaphore->object);
	while (semaphore->waits.first && semaphore->waits.first->len <= semaphore->free_count) {
		struct wh__op *op = semaphore->waits.first;
		wh__waits_remove(&semaphore->waits, op);
		grant(semaphore, op);
	}
	wh__object_release(&semaphore->object);
}

static void release(struct semaphore *semaphore, uint64_t count)
{
	semaphore->free_count += count;
	serve(semaphore);
}

static void cancel(struct wh__op *op)
{
	struct semaphore *semaphore = op->second;
	wh__waits_remove(&semaphore->waits, op);
	wh__object_hold(&semaphore->object);
	wh__op_complete(op, -ECANCELED, NULL);
	serve(semaphore); /* it may have held up those behind it */
	wh__object_release(&semaphore->object);
}

wh_future wh_semaphore_acquire(wh_semaphore handle, uint32_t count)
{
	int error;
	wh_future f;
	struct semaphore *semaphore = wh__object_find(handle.id, WH__SEMAPHORE, &error);
	if (!semaphore)
		return wh__fail_at(handle.id, error);
	struct wh__op *op = wh__wait_new(&semaphore->object, cancel, &f);
	if (!op)
		return f;
	if (count == 0 || count > semaphore->count)
		return wh__end(op, -EINVAL);
	op->len = count;
	if (semaphore->waits.first || count > semaphore->free_count)
		wh__waits_append(&semaphore->waits, op);
	else
		grant(semaphore, op);
	return f;
}

int wh_semaphore_release(wh_semaphore handle, uint32_t count)
{
	int error;
	struct semaphore *semaphore = wh__object_find(handle.id, WH__SEMAPHORE, &error);
	if (!semaphore)
		return error;
	if (count == 0 || count > semaphore->count - semaphore->free_count)
		return -EINVAL;
	release(semaphore, count);
	return 0;
}

int wh_semaphore_close(wh_semaphore handle)
{
	int error;
	struct semaphore *semaphore = wh__object_find(handle.id, WH__SEMAPHORE, &error);
	if (!semaphore)
		return error;
	semaphore->object.closing = true; /* ending one may end others, through combinators */
	semaphore->free_count = 0;        /* and none is granted any more */
	wh__waits_end(&semaphore->waits, -ECANCELED);
	wh__object_free(&semaphore->object);
	return 0;
}
