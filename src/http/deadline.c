/* src/http/deadline.c -- coarse time-outs for many connections. See deadline.h. Thread: loop. */
#include "http/deadline.h"

#include <assert.h>
#include <errno.h>

void wh__http_deadlines_init(struct wh__http_deadlines *deadlines, wh_loop *loop, int64_t period_ns,
                             wh__http_look *look, wh_function *idle, void *arg)
{
	int64_t step = period_ns / WH__HTTP_DEADLINE_STEPS;

	*deadlines = (struct wh__http_deadlines){.loop = loop,
	                                         .look = look,
	                                         .idle = idle,
	                                         .arg = arg,
	                                         .step_ns = step > WH_NS_PER_MS ? step : WH_NS_PER_MS};
}

static void hang(struct wh__http_deadlines *deadlines, struct wh__http_deadline *node, int64_t at)
{
	int64_t first = deadlines->tick + 1, last = deadlines->tick + WH__HTTP_DEADLINE_STEPS;
	int64_t tick = at / deadlines->step_ns + 1; /* the slot's instant is not before at */
	struct wh__http_deadline **slot;

	tick = tick < first ? first : tick > last ? last : tick;
	slot = &deadlines->slots[tick % WH__HTTP_DEADLINE_SLOTS];
	node->next = *slot;
	node->link = slot;
	if (node->next)
		node->next->link = &node->next;
	*slot = node;
}

static void unhang(struct wh__http_deadline *node)
{
	*node->link = node->next;
	if (node->next)
		node->next->link = node->link;
	node->link = NULL;
}

static void on_tick(wh_loop *loop, wh_res res, void *arg);

static void tick_again(void *arg)
{
	struct wh__http_deadlines *deadlines = arg;

	on_tick(deadlines->loop, (wh_res){-ENOMEM, NULL}, deadlines);
}

static void arm(struct wh__http_deadlines *deadlines)
{
	int error;

	deadlines->timer = wh__sleep_until(deadlines->loop, (deadlines->tick + 1) * deadlines->step_ns);
	error = wh_then(deadlines->timer, on_tick, deadlines);
	deadlines->armed = error == 0 || error == -ENOMEM;
	if (error == -ENOMEM) { /* tried again as soon as what else is ready has run */
		deadlines->again = (struct wh__message){.fn = tick_again, .arg = deadlines, .embedded = true};
		wh__defer(deadlines->loop, &deadlines->again);
	} else if (error == 0 && deadlines->background) {
		wh__background(deadlines->loop, deadlines->timer, true);
	}
}

static void look_at_slot(struct wh__http_deadlines *deadlines, int64_t now)
{
	struct wh__http_deadline *due = deadlines->slots[deadlines->tick % WH__HTTP_DEADLINE_SLOTS];

	/* hang from a local head: a look may remove its node, and the rest must not be met twice */
	deadlines->slots[deadlines->tick % WH__HTTP_DEADLINE_SLOTS] = NULL;
	if (due)
		due->link = &due;
	while (due) {
		struct wh__http_deadline *node = due;
		int64_t at;

		unhang(node);
		hang(deadlines, node, INT64_MAX);
		at = deadlines->look(node, now);
		if (at < now + WH__HTTP_DEADLINE_STEPS * deadlines->step_ns)
			wh__http_deadlines_move(deadlines, node, at);
	}
}

static void on_tick(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__http_deadlines *deadlines = arg;
	int64_t now = wh_now(loop);

	deadlines->armed = false;
	if (res.n == -ECANCELED || deadlines->count == 0) {
		deadlines->idle(deadlines->arg);
		return;
	}
	/* every slot at most once, however long the loop was away */
	if (now / deadlines->step_ns - deadlines->tick > WH__HTTP_DEADLINE_SLOTS)
		deadlines->tick = now / deadlines->step_ns - WH__HTTP_DEADLINE_SLOTS;
	while ((deadlines->tick + 1) * deadlines->step_ns <= now) {
		deadlines->tick++;
		look_at_slot(deadlines, now);
	}
	if (deadlines->count > 0)
		arm(deadlines);
	else
		deadlines->idle(deadlines->arg);
}

void wh__http_deadlines_add(struct wh__http_deadlines *deadlines, struct wh__http_deadline *node)
{
	if (deadlines->count++ == 0)
		deadlines->tick = wh_now(deadlines->loop) / deadlines->step_ns;
	hang(deadlines, node, INT64_MAX);
	if (!deadlines->armed)
		arm(deadlines);
}

void wh__http_deadlines_move(struct wh__http_deadlines *deadlines, struct wh__http_deadline *node, int64_t at)
{
	if (!node->link)
		return;
	unhang(node);
	hang(deadlines, node, at);
}

void wh__http_deadlines_remove(struct wh__http_deadlines *deadlines, struct wh__http_deadline *node)
{
	if (!node->link)
		return;
	unhang(node);
	assert(deadlines->count > 0);
	deadlines->count--;
}

bool wh__http_deadlines_stop(struct wh__http_deadlines *deadlines)
{
	assert(deadlines->count == 0);
	if (deadlines->armed)
		wh_cancel(deadlines->timer);
	return deadlines->armed;
}
