/* src/io/inner.h -- operations that are made of others.
 *
 * The caller sees one slot (WH__OP_INNER and its kin); what it consists of are futures of their own, whose ends are told to a function
 * of ours, inline, without a turn of the loop in between. Thread: loop.
 */
#ifndef WH_IO_INNER_H
#define WH_IO_INNER_H

#include "runtime/loop.h"

/* wh__inner_then() - consume f: callback(loop, res, arg) is called exactly once, before this returns if f is complete.
 * Runtime code only, no user code: it may be called from within an engine. */
void wh__inner_then(wh_loop *loop, wh_future f, wh_callback *callback, void *arg);

/* wh__inner_step() - the same for one part after the other: *ret_current is f meanwhile, for a cancel. */
static inline void wh__inner_step(wh_loop *loop, wh_future f, wh_callback *callback, void *arg,
                                  uint64_t *ret_current)
{
	*ret_current = f.id;
	wh__inner_then(loop, f, callback, arg);
}

/* wh__inner_timer() - callback at an instant of wh_clock(); NULL: no slot. wh__inner_timer_move() sets another instant,
 * wh__inner_timer_stop() ends it without a call; NULL is fine. Not after the callback has been called. When the loop
 * closes the callback is called with -ECANCELED. */
struct wh__op *wh__inner_timer(wh_loop *loop, int64_t at, wh_callback *callback, void *arg);
void wh__inner_timer_move(struct wh__op *timer, int64_t at);
struct wh__op *wh__inner_timer_stop(struct wh__op *timer); /* NULL */

#endif
