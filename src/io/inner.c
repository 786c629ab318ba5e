/* src/io/inner.c -- see inner.h. Thread: loop. */
#include "io/inner.h"

void wh__inner_then(wh_loop *loop, wh_future f, wh_callback *callback, void *arg)
{
	struct wh__op *op = wh__op_find(loop, f);
	wh_res res;
	if (op && op->state == WH__PENDING) {
		assert(op->consumer == WH__CONSUMER_NONE);
		op->consumer = WH__CONSUMER_INTERNAL;
		op->callback = callback;
		op->arg = arg;
		return;
	}
	(void)wh_poll(f, &res); /* complete, or a failure without a slot */
	callback(loop, res, arg);
}

struct wh__op *wh__inner_timer(wh_loop *loop, int64_t at, wh_callback *callback, void *arg)
{
	struct wh__op *timer = wh__op_new(loop, WH__OP_TIMER);
	if (!timer)
		return NULL;
	timer->consumer = WH__CONSUMER_INTERNAL;
	timer->callback = callback;
	timer->arg = arg;
	timer->at = at;
	wh__wheel_arm(&loop->wheel, timer);
	return timer;
}

void wh__inner_timer_move(struct wh__op *timer, int64_t at)
{
	wh__wheel_disarm(&timer->loop->wheel, timer);
	timer->at = at;
	wh__wheel_arm(&timer->loop->wheel, timer);
}

struct wh__op *wh__inner_timer_stop(struct wh__op *timer)
{
	if (timer) {
		timer->consumer = WH__CONSUMER_DROP;
		wh__op_cancel(timer);
	}
	return NULL;
}
