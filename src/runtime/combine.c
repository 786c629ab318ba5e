/* src/runtime/combine.c -- futures made of futures.
 *
 * A combinator is a slot; its inputs are consumed by it (WH__CONSUMER_PARENT) and tell it when they end. It completes
 * when all have, so that no memory of theirs is in use any more. Thread: loop.
 */
#include "runtime/loop.h"

#include <stdlib.h>
#include <string.h>

struct combined {
	struct wh__walk walk; /* over the inputs, to cancel them */
	struct wh__op *op;
	size_t cancelled; /* how many have been, of a walk under way */
	bool walking;
	size_t count;
	size_t left; /* inputs that have not ended, + 1 while this file walks over them */
	size_t succeeded;
	wh_res *ret;
	uint64_t winner;
	int64_t error; /* of all: the first; of any: the last */
	bool decided;
	wh_future inputs[];
};

static void finish(struct wh__op *parent)
{
	struct combined *c = parent->buf;
	int64_t n = 0;
	switch (parent->opcode) {
	case WH__OP_ALL:
		n = c->error;
		break;
	case WH__OP_ALL_SETTLED:
		n = (int64_t)c->succeeded;
		break;
	case WH__OP_ANY:
		n = c->decided ? (int64_t)c->winner : c->error;
		break;
	default:
		abort(); /* not a combinator */
	}
	wh__op_complete(parent, n, NULL);
}

static void hold(struct combined *c)
{
	c->left++;
}

static void release(struct wh__op *parent)
{
	struct combined *c = parent->buf;
	if (--c->left == 0)
		finish(parent);
}

static bool next_input(struct wh__walk *walk, wh_future *ret)
{
	struct combined *c = (struct combined *)walk;
	if (c->cancelled == c->count)
		return false;
	*ret = c->inputs[c->cancelled++];
	return true;
}

static void walk_ended(struct wh__walk *walk)
{
	struct combined *c = (struct combined *)walk;
	c->walking = false;
	release(c->op);
}

static void cancel_inputs(struct wh__op *parent)
{
	struct combined *c = parent->buf;
	if (c->walking)
		return;
	hold(c);
	c->walking = true;
	c->cancelled = 0;
	c->walk.next = next_input;
	c->walk.end = walk_ended;
	wh__walk(parent->loop, &c->walk);
}

static void input_ended(struct wh__op *parent, uint64_t index, wh_res res, wh_disposer *dispose, void *arg)
{
	struct combined *c = parent->buf;
	bool cancel = false;
	if (c->ret)
		c->ret[index] = res;
	else if (res.n >= 0 && dispose)
		dispose(res, arg);
	if (res.n >= 0) {
		c->succeeded++;
		if (parent->opcode == WH__OP_ANY && !c->decided) {
			c->decided = cancel = true;
			c->winner = index;
		}
	} else if (parent->opcode == WH__OP_ALL) {
		if (!c->decided) {
			c->decided = cancel = true;
			c->error = res.n;
		}
	} else {
		c->error = res.n;
	}
	if (cancel)
		cancel_inputs(parent); /* this input still counts */
	release(parent);
}

static void deadline_ended(struct wh__op *parent, wh_res res, wh_disposer *dispose, void *arg)
{
	bool timed_out = parent->next == NULL;
	if (!timed_out)
		wh__wheel_disarm(&parent->loop->wheel, parent);
	parent->dispose = dispose;
	parent->dispose_arg = arg;
	wh__op_complete(parent, timed_out && res.n == -ECANCELED ? -ETIMEDOUT : res.n, res.ptr);
}

void wh__combine_child(struct wh__op *parent, uint64_t index, wh_res res, wh_disposer *dispose, void *arg)
{
	if (parent->opcode == WH__OP_DEADLINE)
		deadline_ended(parent, res, dispose, arg);
	else
		input_ended(parent, index, res, dispose, arg);
}

void wh__combine_cancel(struct wh__op *parent)
{
	cancel_inputs(parent);
}

void wh__combine_timer(struct wh__op *parent)
{
	wh_cancel((wh_future){parent->len});
}

/* Make f an input of parent. true: it has ended already, *ret is its result and *ret_dispose what frees it. */
static bool consume(struct wh__op *parent, uint64_t index, wh_future f, wh_res *ret,
                    wh_disposer **ret_dispose, void **ret_arg)
{
	struct wh__op *op = wh__op_find(parent->loop, f);
	*ret = (wh_res){-ESTALE, NULL};
	*ret_dispose = NULL;
	*ret_arg = NULL;
	if (f.id >> 54 == 0) {
		(void)wh_poll(f, ret);
	} else if (op && op->consumer == WH__CONSUMER_NONE) {
		if (op->state == WH__PENDING) {
			op->parent = parent;
			op->index = index;
			atomic_signal_fence(memory_order_seq_cst); /* a dump may come at any moment */
			op->consumer = WH__CONSUMER_PARENT;
			return false;
		}
		*ret_dispose = op->dispose;
		*ret_arg = op->dispose_arg;
		(void)wh_poll(f, ret);
	}
	return true;
}

/* What borrows memory makes the combination borrow it. */
static uint8_t borrows(wh_loop *loop, wh_future f)
{
	struct wh__op *op = wh__op_find(loop, f);
	return op && op->state == WH__PENDING ? op->flags & WH__BORROWS : 0;
}

static wh_future combine(wh_loop *loop, enum wh__opcode opcode, const wh_future *fs, size_t n, wh_res *ret)
{
	if (!wh__loop_is_mine(loop))
		return wh__fail(loop, -EPERM);
	if ((n > 0 && !fs) || n > WH__SLOTS_MAX)
		return wh__fail(loop, -EINVAL);
	struct wh__op *parent = wh__op_new(loop, opcode);
	struct combined *c = parent ? malloc(sizeof *c + n * sizeof *fs) : NULL;
	if (!c) {
		if (parent)
			wh__op_complete(parent, -ENOMEM, NULL);
		return parent ? wh__op_future(parent) : wh__fail(loop, -EAGAIN);
	}
	*c = (struct combined){.op = parent, .count = n, .left = n + 1, .ret = ret, .error = n ? 0 : -EINVAL};
	if (opcode == WH__OP_ALL)
		c->error = 0;
	if (n > 0)
		memcpy(c->inputs, fs, n * sizeof *fs);
	parent->buf = c;
	parent->flags = WH__OWNS_BUF | (ret ? WH__BORROWS : 0);
	wh_future f = wh__op_future(parent);
	for (size_t i = 0; i < n; i++) {
		wh_res res;
		wh_disposer *dispose;
		void *arg;
		parent->flags |= borrows(loop, fs[i]);
		if (consume(parent, i, fs[i], &res, &dispose, &arg))
			input_ended(parent, i, res, dispose, arg);
		else if (c->decided)
			wh_cancel(fs[i]); /* an earlier input has decided before this one was taken */
	}
	release(parent);
	return f;
}

wh_future wh_all(wh_loop *loop, const wh_future *fs, size_t n, wh_res *ret)
{
	return combine(loop, WH__OP_ALL, fs, n, ret);
}

wh_future wh_all_settled(wh_loop *loop, const wh_future *fs, size_t n, wh_res *ret)
{
	return combine(loop, WH__OP_ALL_SETTLED, fs, n, ret);
}

wh_future wh_any(wh_loop *loop, const wh_future *fs, size_t n, wh_res *ret)
{
	return combine(loop, WH__OP_ANY, fs, n, ret);
}

wh_future wh_deadline(wh_future f, int64_t at)
{
	uint32_t number = (uint32_t)(f.id >> 54);
	if (number == 0)
		return f;
	int error = 0;
	wh_loop *loop = wh__registry_own(number, &error);
	if (!loop)
		return f; /* stale or of another thread, and says so when consumed */
	struct wh__op *op = wh__op_find(loop, f);
	if (!op || op->consumer != WH__CONSUMER_NONE || op->state == WH__DONE)
		return f; /* nothing to limit: it is complete or stale */
	struct wh__op *parent = wh__op_new(loop, WH__OP_DEADLINE);
	if (!parent) {
		wh_cancel(
			f); /* without a timer it could last for ever: it ends with -ECANCELED or its result */
		return f;
	}
	parent->len = f.id;
	parent->at = at;
	parent->flags = op->flags & WH__BORROWS;
	op->parent = parent;
	op->index = 0;
	atomic_signal_fence(memory_order_seq_cst);
	op->consumer = WH__CONSUMER_PARENT;
	wh__wheel_arm(&loop->wheel, parent);
	return wh__op_future(parent);
}
