/* src/http/deadline.h -- coarse time-outs for many connections: one timer for all, nothing to do on activity.
 *
 * Whoever has deadlines hangs in a ring of slots and is looked at now and then, at the latest one period from now; the
 * look says when the next deadline is, as things stand then. So activity only stores an instant, and moves nothing.
 * No deadline is set less than a period ahead, but for those that are announced with wh__http_deadlines_move().
 *
 * Depends on: runtime.  Used by: server, client.
 * Thread: loop.  Memory: intrusive.
 */
#ifndef WH_HTTP_DEADLINE_H
#define WH_HTTP_DEADLINE_H

#include "runtime/loop.h"

enum { WH__HTTP_DEADLINE_SLOTS = 32, WH__HTTP_DEADLINE_STEPS = 16 /* of a period */ };

struct wh__http_deadline {
	struct wh__http_deadline *next, **link; /* link NULL: not hanging */
};

/* When to look again, INT64_MAX: no matter when. May remove the node it is about (the result is then ignored), and
 * no other. */
typedef int64_t wh__http_look(struct wh__http_deadline *node, int64_t now);

struct wh__http_deadlines {
	wh_loop *loop;
	wh__http_look *look;
	wh_function *idle; /* called with arg when a timer that outlived the last node, or close, has ended */
	void *arg;
	int64_t step_ns;
	int64_t tick; /* of the slot looked at last: instant / step_ns */
	uint32_t count;
	bool armed;
	bool background; /* the timer does not keep wh_loop_run() running */
	wh_future timer;
	struct wh__message again; /* when there was no memory for a timer */
	struct wh__http_deadline *slots[WH__HTTP_DEADLINE_SLOTS];
};

void wh__http_deadlines_init(struct wh__http_deadlines *deadlines, wh_loop *loop, int64_t period_ns,
                             wh__http_look *look, wh_function *idle, void *arg);
void wh__http_deadlines_add(struct wh__http_deadlines *deadlines, struct wh__http_deadline *node);
void wh__http_deadlines_move(struct wh__http_deadlines *deadlines, struct wh__http_deadline *node,
                             int64_t at);
void wh__http_deadlines_remove(struct wh__http_deadlines *deadlines, struct wh__http_deadline *node);
/* true: the timer still runs (it is cancelled) and idle() will be called. Nodes must be gone. */
bool wh__http_deadlines_stop(struct wh__http_deadlines *deadlines);

#endif
