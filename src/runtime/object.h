/* src/runtime/object.h -- groups, tickers, channels and semaphores: what a handle names, and who waits at it.
 *
 * A handle is a plain value like a future, and names a slot of the loop's table in the same way: one that was closed
 * is stale, and is told so. The slot holds the object for its life; it does not count as pending.
 *
 * Used by: group.c, ticker.c, channel.c, semaphore.c, loop.c (closing).
 * Thread: loop. Memory: one allocation for each object, freed by wh__object_free(), at the latest when the loop closes.
 */
#ifndef WH_RUNTIME_OBJECT_H
#define WH_RUNTIME_OBJECT_H

#include "runtime/loop.h"

enum wh__object_kind { WH__GROUP = 1, WH__TICKER, WH__CHANNEL, WH__SEMAPHORE };

struct wh__object {
	struct wh__op *op;
	void (*fini)(struct wh__object *object); /* frees what hangs on it; nobody waits any more */
	bool closing;                            /* its handle is stale already */
	bool ended;                              /* wh__object_free() was called while it was held */
	uint32_t holds;
};

/* bytes: of the whole, which begins with its struct wh__object; the rest is zero. 0, -EPERM, -EAGAIN, -ENOMEM,
 * -ECANCELED (the loop closes). */
int wh__object_new(wh_loop *loop, enum wh__object_kind kind, size_t bytes,
                   void (*fini)(struct wh__object *object), void *ret);
void wh__object_free(struct wh__object *object);

/* wh__object_hold(), wh__object_release() - around what completes operations and looks at the object afterwards: the end of an
 * operation may be the end of a group, whose results are disposed of by functions of the program's, which may close this one. */
static inline void wh__object_hold(struct wh__object *object)
{
	object->holds++;
}
void wh__object_release(struct wh__object *object);

/* The object of a handle and 0; NULL and -ESTALE (closed, or its loop is) or -EPERM (another thread). */
void *wh__object_find(uint64_t id, enum wh__object_kind kind, int *ret_error);

static inline uint64_t wh__object_id(const struct wh__object *object)
{
	return wh__op_future(object->op).id;
}

/* Those who wait at an object, first come first: operations of WH__OP_WAIT, linked through next and prev. */
struct wh__waits {
	struct wh__op *first, *last;
};

/* wh__wait_new() - a slot to wait with: cancel is called when it is to end, and op->second is object. NULL: *ret_failed
 * says why. */
struct wh__op *wh__wait_new(struct wh__object *object, void (*cancel)(struct wh__op *op),
                            wh_future *ret_failed);

static inline void wh__waits_append(struct wh__waits *waits, struct wh__op *op)
{
	op->next = NULL;
	op->prev = waits->last;
	*(waits->last ? &waits->last->next : &waits->first) = op;
	waits->last = op;
}

static inline void wh__waits_remove(struct wh__waits *waits, struct wh__op *op)
{
	*(op->prev ? &op->prev->next : &waits->first) = op->next;
	*(op->next ? &op->next->prev : &waits->last) = op->prev;
	op->next = op->prev = NULL;
}

/* wh__wait_for_end() - the same for a wait that ends once all is cancelled: it begins while the loop closes, too. */
struct wh__op *wh__wait_for_end(struct wh__object *object, void (*cancel)(struct wh__op *op),
                                wh_future *ret_failed);

/* wh__waits_end() - all of them, with n. */
void wh__waits_end(struct wh__waits *waits, int64_t n);

#endif
