/* src/front/parked.c -- calls that wait, by the time until which they do. See api.h.
 *
 * A pairing heap whose links are in the calls, and one timer for all of them: a timer, or a deadline, of its own would cost each call an
 * operation of the loop. The timer is at the time of the call on top, or earlier: that call has been answered since, and when the timer
 * is due it is set again. Thread: the loop of the store.
 */
#include <errno.h>

#include "front/api.h"

/* Both are tops of heaps, or NULL. */
static struct call *meld(struct call *a, struct call *b)
{
	struct call *top = a;

	if (!a || !b)
		return a ? a : b;
	if (b->until < a->until) {
		top = b;
		b = a;
	}
	b->previous = top;
	b->next = top->child;
	if (b->next)
		b->next->previous = b;
	top->child = b;
	return top;
}

/* What was below a call: pairs from the left, then all of these from the right, which is what keeps the heap shallow. */
static struct call *meld_all(struct call *first)
{
	struct call *pairs = NULL, *top = NULL;

	while (first) {
		struct call *a = first, *b = first->next, *pair;

		first = b ? b->next : NULL;
		a->next = a->previous = NULL;
		if (b)
			b->next = b->previous = NULL;
		pair = meld(a, b);
		pair->next = pairs;
		pairs = pair;
	}
	while (pairs) {
		struct call *pair = pairs;

		pairs = pair->next;
		pair->next = NULL;
		top = meld(top, pair);
	}
	return top;
}

static void take_out(struct call *call)
{
	struct call *below = meld_all(call->child), *before = call->previous;
	struct api *api = call->api;

	if (!before) {
		api->parked = below;
	} else {
		*(before->child == call ? &before->child : &before->next) = call->next;
		if (call->next)
			call->next->previous = before;
		api->parked = meld(api->parked, below);
	}
	call->next = call->previous = call->child = NULL;
	call->is_parked = false;
	api->parked_count--;
}

/* The callback of its wait is still to come. */
static void end(struct call *call, bool timed_out)
{
	take_out(call);
	call->timed_out = timed_out;
	wh_cancel(call->waiting);
}

static void set_timer(struct api *api);

static void on_timer(wh_loop *loop, wh_res res, void *arg)
{
	struct api *api = arg;

	api->parked_timed = false;
	api->calls_count--;
	while (api->parked && api->parked->until <= wh_now(loop))
		end(api->parked, true);
	if (res.n == 0 || res.n == -ECANCELED)
		set_timer(api);
	else /* there was no room for a timer: without one they could wait for ever */
		parked_end_all(api);
	front_check_drained(api);
}

static void set_timer(struct api *api)
{
	if (!api->parked || api->draining)
		return;
	if (api->parked_timed) {
		if (api->parked->until < api->parked_timer_at)
			wh_cancel(api->parked_timer); /* and is set anew when that is told */
		return;
	}
	api->parked_timer_at = api->parked->until;
	api->parked_timer = wh_sleep_until(api->loop, api->parked_timer_at);
	if (wh_then(api->parked_timer, on_timer, api) != 0) {
		parked_end_all(api);
		return;
	}
	api->parked_timed = true;
	api->calls_count++;
}

void parked_add(struct call *call)
{
	struct api *api = call->api;

	call->next = call->previous = call->child = NULL;
	call->is_parked = true;
	call->timed_out = false;
	api->parked = meld(api->parked, call);
	api->parked_count++;
	if (api->draining)
		end(call, false);
	else
		set_timer(api);
}

int64_t parked_remove(struct call *call, int64_t n)
{
	if (call->is_parked)
		take_out(call);
	return n == -ECANCELED && call->timed_out ? -ETIMEDOUT : n;
}

void parked_end_all(struct api *api)
{
	while (api->parked)
		end(api->parked, false);
	if (api->parked_timed)
		wh_cancel(api->parked_timer);
}
