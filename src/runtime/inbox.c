/* src/runtime/inbox.c -- what other threads tell a loop: posted calls and operations that workers have completed.
 *
 * Two stacks that any thread pushes on and the loop takes whole and reverses. A wake-up cannot be lost: the loop
 * says "asleep" before it looks at the stacks a last time, and a pusher looks at that word after it has pushed;
 * both sequentially consistent, so at least one sees the other. A loop that is awake is not woken: no system call.
 */
#include "runtime/loop.h"

#include <stdlib.h>

enum { AWAKE, ASLEEP, WOKEN };

void wh__wake(wh_loop *loop)
{
	if (atomic_exchange(&loop->wake_state, WOKEN) == ASLEEP) {
		atomic_fetch_add_explicit(&loop->wake_count, 1, memory_order_relaxed);
		loop->engine->wake(loop);
	}
}

void wh__inbox_push(wh_loop *loop, struct wh__message *message)
{
	message->next = atomic_load_explicit(&loop->inbox, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&loop->inbox, &message->next, message)) {
	}
	wh__wake(loop);
}

void wh__inbox_push_op(wh_loop *loop, struct wh__op *op)
{
	op->next = atomic_load_explicit(&loop->inbox_ops, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&loop->inbox_ops, &op->next, op)) {
	}
	wh__wake(loop);
}

bool wh__inbox_is_empty(const wh_loop *loop)
{
	return !atomic_load(&loop->inbox) && !atomic_load(&loop->inbox_ops);
}

bool wh__inbox_may_sleep(wh_loop *loop)
{
	atomic_store(&loop->wake_state, ASLEEP);
	if (wh__inbox_is_empty(loop) && !atomic_load(&loop->stop))
		return true;
	wh__inbox_awake(loop);
	return false;
}

void wh__inbox_awake(wh_loop *loop)
{
	atomic_store(&loop->wake_state, AWAKE);
}

static void complete_ops(wh_loop *loop)
{
	struct wh__op *op = atomic_exchange(&loop->inbox_ops, NULL), *oldest = NULL, *next;
	for (; op; op = next) {
		next = op->next;
		op->next = oldest;
		oldest = op;
	}
	for (; oldest; oldest = next) {
		next = oldest->next;
		int64_t n = oldest->returned_n;
		void *ptr = oldest->returned_ptr;
		oldest->next = oldest->prev = NULL;
		oldest->flags &= (uint8_t)~WH__AT_WORKER;
		if (loop->engine->returned && oldest->opcode != WH__OP_PROMISE &&
		    oldest->opcode != WH__OP_WAIT)
			loop->engine->returned(oldest, n, ptr);
		else
			wh__op_complete(oldest, n, ptr);
	}
}

void wh__inbox_drain(wh_loop *loop)
{
	if (atomic_load_explicit(&loop->inbox_ops, memory_order_relaxed))
		complete_ops(loop);
	if (!atomic_load_explicit(&loop->inbox, memory_order_relaxed))
		return;
	struct wh__message *message = atomic_exchange(&loop->inbox, NULL), *oldest = NULL, *next;
	for (; message; message = next) {
		next = message->next;
		message->next = oldest;
		oldest = message;
	}
	for (; oldest; oldest = next) {
		wh_function *fn = oldest->fn;
		void *arg = oldest->arg;
		next = oldest->next;
		if (oldest->embedded) {
			loop->batches++;
			fn(arg);
			continue;
		}
		free(oldest);
		wh__callbacks_begin(loop);
		wh__call(loop, fn, arg);
		wh__callbacks_end(loop);
	}
}

int wh_post(wh_loop *loop, wh_function *fn, void *arg)
{
	if (!fn)
		return -EINVAL;
	if (atomic_load(&wh__registry[loop->number].inherited))
		return -EPERM;
	struct wh__message *message = malloc(sizeof *message);
	if (!message)
		return -ENOMEM;
	*message = (struct wh__message){.fn = fn, .arg = arg};
	wh__inbox_push(loop, message);
	return 0;
}
