/* src/runtime/wheel.h -- hierarchical timer wheel: O(1) arm, re-arm and cancel; never early.
 *
 * Timers are operations (op->at), linked through op->next and op->prev; no allocation.
 * Source: Varghese & Lauck 1987, scheme 7.  Thread: loop.
 */
#ifndef WH_RUNTIME_WHEEL_H
#define WH_RUNTIME_WHEEL_H

#include "runtime/op.h"

enum { WH__WHEEL_SLOTS = 64, WH__WHEEL_LEVELS = 8 };

struct wh__wheel {
	int64_t tick; /* of the last advance; a tick is 2^16 ns (65.5 us) */
	uint64_t occupied[WH__WHEEL_LEVELS];
	struct wh__op *slots[WH__WHEEL_LEVELS][WH__WHEEL_SLOTS];
	struct wh__op *due; /* taken out by the advance under way, not fired yet */
	uint32_t armed_count;
};

void wh__wheel_init(struct wh__wheel *wheel, int64_t now);
void wh__wheel_arm(struct wh__wheel *wheel, struct wh__op *op); /* at op->at; in the past: the next advance */
void wh__wheel_disarm(struct wh__wheel *wheel, struct wh__op *op); /* op is armed */

/* Takes out every timer with at <= now and calls fire(op), in the order of at; of equal ones those armed first come
 * first, unless the others were armed when it was much nearer. fire() may arm and disarm. */
void wh__wheel_advance(struct wh__wheel *wheel, int64_t now, void (*fire)(struct wh__op *op));

/* ns until something may be due, counted from now; -1: no timer is armed. Never later than the nearest timer. */
int64_t wh__wheel_wait(const struct wh__wheel *wheel, int64_t now);

#endif
