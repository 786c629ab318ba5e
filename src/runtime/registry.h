/* src/runtime/registry.h -- the open loops by number, so that a future is a plain value.
 *
 * The owner's way in costs one load and one comparison, since nobody else closes a loop. Another thread announces its
 * visit first, and closing waits until the visitors have left; so a loop is not freed under a thread that has only a
 * future. A forked child inherits the numbers but owns none: it gets -EPERM.
 *
 * Used by: runtime, io, engines (through loop.h).  Thread: any.
 */
#ifndef WH_RUNTIME_REGISTRY_H
#define WH_RUNTIME_REGISTRY_H

#include <errno.h>
#include <stdatomic.h>

#include "whilst/whilst.h"

enum { WH__LOOPS_MAX = 1024 }; /* number 0 stands for failures without a slot */

/* What is known of the calling thread; its address is the thread's identity. */
struct wh__thread {
	bool in_callback;      /* of any loop */
	struct wh__task *task; /* that runs; NULL outside tasks */
	wh_loop *current;      /* whose callback or task runs */
	wh_loop *loops;        /* opened here, through next_of_thread */
};
extern _Thread_local struct wh__thread wh__thread __attribute__((tls_model("initial-exec")));

struct wh__registry_entry {
	_Atomic(const struct wh__thread *) owner;
	wh_loop *own;              /* for the owner; NULL: the number is free */
	_Atomic(wh_loop *) loop;   /* for visitors; NULL: none, or no longer */
	atomic_uint visitor_count; /* threads between enter and leave */
	atomic_bool inherited;     /* of the process that forked this one */
	uint32_t generation; /* the next loop of this number starts its slots here: no old future fits */
};
extern struct wh__registry_entry wh__registry[WH__LOOPS_MAX];

/* The loop of a number if it is the caller's own, else NULL and -ESTALE or -EPERM. */
static inline wh_loop *wh__registry_own(uint32_t number, int *ret_error)
{
	struct wh__registry_entry *entry = &wh__registry[number];
	if (atomic_load_explicit(&entry->owner, memory_order_relaxed) == &wh__thread)
		return entry->own;
	*ret_error = atomic_load(&entry->loop) || atomic_load(&entry->inherited) ? -EPERM : -ESTALE;
	return NULL;
}

int wh__registry_add(wh_loop *loop);     /* sets loop->number; -EMFILE when 1,023 are open */
void wh__registry_hide(wh_loop *loop);   /* from here on there are no visitors */
void wh__registry_remove(wh_loop *loop); /* after hide */

/* The loop of a number, kept from being freed until wh__registry_leave(); NULL and -ESTALE or -EPERM. */
wh_loop *wh__registry_enter(uint32_t number, int *ret_error);
void wh__registry_leave(uint32_t number);

/* While the loop's thread runs code that on other engines runs on a worker: nothing of the loop is its own. */
void wh__registry_disown(wh_loop *loop);
void wh__registry_reown(wh_loop *loop);

#endif
