/* src/runtime/task_away.c -- a task awaits a future of another loop.
 *
 * The task parks on a slot of its own loop. A message asks the other loop to send the result on; where the same thread owns
 * both loops it is done at once. Cancelling the wait is a request to the other loop; the slot completes with what
 * that says in the end, since the memory of what is awaited may be in use until then.
 *
 * Thread: the task's loop, but for what is said to run on the other. Memory: one allocation for each such wait,
 * counted: the task, the other loop, and a cancel on its way each hold it.
 */
#include "runtime/task.h"

#include <stdlib.h>

struct away {
	wh_future f;
	wh_loop *other, *home;
	struct wh__op *local; /* of home; whoever completes it does not touch it again */
	struct wh__message attach, cancel;
	atomic_int holds;
	bool cancel_sent; /* of home's thread */
};

static void let_go(struct away *away)
{
	if (atomic_fetch_sub(&away->holds, 1) == 1)
		free(away);
}

/* On the other loop's thread: tell home. */
static void send_back(wh_loop *other, wh_res res, void *arg)
{
	struct away *away = arg;
	(void)other;
	if (wh__loop_is_mine(away->home))
		wh__op_complete(away->local, res.n, res.ptr);
	else
		wh__op_complete_from_afar(away->local, res.n, res.ptr);
	let_go(away);
}

/* On the other loop's thread. */
static void attach(void *arg)
{
	struct away *away = arg;
	struct wh__op *op = wh__op_find(away->other, away->f);
	wh_res res = {away->other->closing ? -ECANCELED : -ESTALE, NULL};
	if (op && op->consumer == WH__CONSUMER_NONE && op->state == WH__PENDING) {
		op->consumer = WH__CONSUMER_INTERNAL;
		op->callback = send_back;
		op->arg = away;
		return;
	}
	if (op && op->consumer == WH__CONSUMER_NONE) {
		res = (wh_res){op->n, op->ptr};
		wh__op_free(op);
	}
	send_back(away->other, res, away);
}

/* On the other loop's thread. */
static void cancel_there(void *arg)
{
	struct away *away = arg;
	wh_cancel(away->f);
	let_go(away);
}

static void cancel(struct wh__op *local)
{
	struct away *away = local->dispose_arg;
	uint32_t number = (uint32_t)(away->f.id >> 54);
	int error = 0;
	if (away->cancel_sent)
		return;
	away->cancel_sent = true;
	if (wh__registry_own(number, &error)) {
		wh_cancel(away->f);
		return;
	}
	wh_loop *other = wh__registry_enter(number, &error);
	if (!other)
		return; /* it closes, and has cancelled everything: the result is on its way */
	atomic_fetch_add(&away->holds, 1);
	away->cancel = (struct wh__message){.fn = cancel_there, .arg = away, .embedded = true};
	wh__inbox_push(other, &away->cancel);
	wh__registry_leave(number);
}

wh_res wh__task_await_away(struct wh__task *task, wh_future f)
{
	wh_loop *home = wh__task_loop(task);
	uint32_t number = (uint32_t)(f.id >> 54);
	int error = 0;
	if (!wh__loop_is_mine(home))
		return (wh_res){-EPERM, NULL};
	wh_loop *other = wh__registry_own(number, &error);
	bool is_near = other != NULL;
	if (!is_near && !(other = wh__registry_enter(number, &error)))
		return (wh_res){error, NULL};
	struct away *away = malloc(sizeof *away);
	struct wh__op *local = away ? wh__op_new(home, WH__OP_WAIT) : NULL;
	if (!local) {
		if (!is_near)
			wh__registry_leave(number);
		error = away && home->live_count >= home->slots_max ? -EAGAIN : -ENOMEM;
		free(away);
		return (wh_res){error, NULL};
	}
	*away = (struct away){.f = f, .other = other, .home = home, .local = local};
	atomic_init(&away->holds, 2);
	local->dispose_arg = away; /* not where a result on its way is kept */
	local->cancel_inner = cancel;
	if (is_near) {
		attach(away);
	} else {
		away->attach = (struct wh__message){.fn = attach, .arg = away, .embedded = true};
		wh__inbox_push(other, &away->attach);
		wh__registry_leave(number);
	}
	wh_res res = wh__task_await(task, local);
	let_go(away);
	return res;
}
