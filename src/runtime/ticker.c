/* src/runtime/ticker.c -- instants that come again and again, without drift; and moving the instant of a timer.
 *
 * Ticks are first, first + interval, first + 2 * interval, ...: a tick that is taken late does not delay those after it.
 * Ticks that nobody has taken are counted, not queued. A timer is armed only while somebody waits, so a ticker at
 * which nobody looks costs no wake-up.
 *
 * Thread: loop. Memory: one allocation for each ticker, none for a tick.
 */
#include <stdlib.h>

#include "runtime/object.h"

struct ticker {
	struct wh__object object;
	int64_t next, interval; /* interval 0: none come */
	struct wh__op *waiting; /* op->len: the ticker */
};

static void fini(struct wh__object *object)
{
	(void)object;
}

/* A sum of instants: for ever is the latest. */
static int64_t later(int64_t at, int64_t ns)
{
	int64_t sum;
	return __builtin_add_overflow(at, ns, &sum) ? INT64_MAX : sum;
}

/* The ticks up to now, taken: how many. */
static int64_t take(struct ticker *ticker, int64_t now)
{
	if (ticker->interval == 0 || now < ticker->next)
		return 0;
	int64_t n = (now - ticker->next) / ticker->interval + 1, ns;
	ticker->next = __builtin_mul_overflow(n, ticker->interval, &ns) ? INT64_MAX : later(ticker->next, ns);
	return n;
}

static bool is_valid(int64_t first, int64_t interval_ns)
{
	return first >= 0 && interval_ns >= 0;
}

int wh_ticker_open(wh_loop *loop, wh_ticker *ret, int64_t first, int64_t interval_ns)
{
	struct ticker *ticker;
	if (!is_valid(first, interval_ns))
		return -EINVAL;
	int error = wh__object_new(loop, WH__TICKER, sizeof *ticker, fini, &ticker);
	if (error != 0)
		return error;
	ticker->next = first;
	ticker->interval = interval_ns;
	ret->id = wh__object_id(&ticker->object);
	return 0;
}

static struct ticker *ticker_of(const struct wh__op *op)
{
	return (struct ticker *)(uintptr_t)op->len;
}

static void disarm(struct ticker *ticker)
{
	if (ticker->waiting && ticker->waiting->next)
		wh__wheel_disarm(&ticker->object.op->loop->wheel, ticker->waiting);
}

static void arm(struct ticker *ticker)
{
	ticker->waiting->at = ticker->next;
	if (ticker->interval != 0)
		wh__wheel_arm(&ticker->object.op->loop->wheel, ticker->waiting);
}

static void end_wait(struct ticker *ticker, int64_t n)
{
	struct wh__op *op = ticker->waiting;
	ticker->waiting = NULL;
	wh__op_complete(op, n, NULL);
}

void wh__ticker_fire(struct wh__op *op)
{
	struct ticker *ticker = ticker_of(op);
	/* the wheel fires what is due by the loop's clock */
	end_wait(ticker, take(ticker, op->loop->now));
}

void wh__ticker_cancel(struct wh__op *op)
{
	struct ticker *ticker = ticker_of(op);
	disarm(ticker);
	end_wait(ticker, -ECANCELED);
}

wh_future wh_ticker_next(wh_ticker handle)
{
	int error;
	wh_future failed;
	struct ticker *ticker = wh__object_find(handle.id, WH__TICKER, &error);
	if (!ticker)
		return wh__fail_at(handle.id, error);
	wh_loop *loop = ticker->object.op->loop;
	struct wh__op *op = wh__begin(loop, WH__OP_TICK, &failed);
	if (!op)
		return failed;
	if (ticker->waiting)
		return wh__end(op, -EBUSY);
	int64_t n = take(ticker, wh_clock(loop));
	if (n > 0)
		return wh__end(op, n);
	op->len = (uintptr_t)ticker;
	ticker->waiting = op;
	arm(ticker);
	return wh__op_future(op);
}

int wh_ticker_set(wh_ticker handle, int64_t first, int64_t interval_ns)
{
	int error;
	struct ticker *ticker = wh__object_find(handle.id, WH__TICKER, &error);
	if (!ticker)
		return error;
	if (!is_valid(first, interval_ns))
		return -EINVAL;
	disarm(ticker);
	ticker->next = first;
	ticker->interval = interval_ns;
	if (ticker->waiting)
		arm(ticker);
	return 0;
}

int wh_ticker_close(wh_ticker handle)
{
	int error;
	struct ticker *ticker = wh__object_find(handle.id, WH__TICKER, &error);
	if (!ticker)
		return error;
	disarm(ticker);
	struct wh__op *op = ticker->waiting;
	wh__object_free(&ticker->object);
	if (op)
		wh__op_complete(op, -ECANCELED, NULL);
	return 0;
}

int wh_rearm(wh_future f, int64_t at)
{
	int error = -ESTALE;
	uint32_t number = (uint32_t)(f.id >> 54);
	wh_loop *loop = number ? wh__registry_own(number, &error) : NULL;
	if (!loop)
		return error;
	struct wh__op *op = wh__op_find(loop, f);
	if (!op)
		return -ESTALE;
	if (op->opcode != WH__OP_TIMER && op->opcode != WH__OP_DEADLINE)
		return -EINVAL;
	/* a deadline that has passed has been acted upon */
	if (op->state != WH__PENDING || !op->next)
		return -EALREADY;
	wh__wheel_disarm(&loop->wheel, op);
	op->at = at;
	wh__wheel_arm(&loop->wheel, op);
	return 0;
}
