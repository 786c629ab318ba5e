/* src/engine/uring_spill.c -- waiting operations for which the ring has no room.
 *
 * Every operation on the ring needs a place in the completion queue, whose size is fixed when the ring is made, and
 * small where locked memory is short. Operations that may wait for ever must not stand in a queue for a place: they
 * could hold each other up. So what is beyond waits in an epoll set, and the ring polls the set. Slower by some
 * system calls, without a limit.
 *
 * Invariant: a descriptor with a spilled operation is armed for the events of all of them, or about to be looked at.
 */
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "engine/uring.h"
#include "runtime/standard.h"

enum { EVENTS_PER_LOOK = 256 };

static bool is_spilled(const struct wh__op *op)
{
	return wh__uring_state(op) == WH__URING_SPILLED;
}

/* One-shot: after an event the descriptor stays silent until it is armed again. */
static int arm(struct wh__uring *u, int fd)
{
	struct epoll_event event = {.events = EPOLLONESHOT, .data.fd = fd};
	struct wh__descriptor *descriptor = wh__descriptor_look(u->loop, fd);
	for (const struct wh__op *op = descriptor->first; op; op = op->next)
		if (is_spilled(op)) /* POLLIN and EPOLLIN, POLLOUT and EPOLLOUT are the same bits */
			event.events |= (uint32_t)wh__op_events(op);
	if (epoll_ctl(u->spill_fd, EPOLL_CTL_MOD, fd, &event) == 0)
		return 0;
	if (errno == ENOENT && epoll_ctl(u->spill_fd, EPOLL_CTL_ADD, fd, &event) == 0)
		return 0;
	return errno == ENOSPC ? -ENOMEM
	                       : -errno; /* how many a user may watch is a matter of memory, epoll(7) */
}

void wh__uring_spill_poll(struct wh__uring *u)
{
	if (u->spill_armed)
		return;
	struct io_uring_sqe *sqe = wh__uring_sqe(u);
	u->spill_arm_wanted = !sqe;
	if (!sqe)
		return;
	io_uring_prep_poll_add(sqe, u->spill_fd, POLLIN);
	sqe->user_data = WH__URING_SPILL;
	u->spill_armed = true;
}

int wh__uring_spill_add(struct wh__uring *u, struct wh__op *op)
{
	if (u->spill_fd < 0) {
		u->spill_fd = wh__above_standard(epoll_create1(EPOLL_CLOEXEC));
		if (u->spill_fd < 0) /* no descriptor is left for waiting, which is a limit like others */
			return errno == EMFILE || errno == ENFILE ? -EAGAIN : -errno;
	}
	wh__uring_spill_poll(u);
	op->engine_state = WH__URING_SPILLED;
	int error = arm(u, op->fd);
	if (error)
		op->engine_state = WH__URING_HELD;
	else
		u->spilled_count++;
	return error;
}

/* The spilled operation of fd that was started next after op; NULL: the oldest. */
static struct wh__op *next_spilled(struct wh__uring *u, int fd, struct wh__op *op)
{
	if (op) {
		op = op->prev;
	} else {
		op = wh__descriptor_look(u->loop, fd)->first;
		while (op && op->next)
			op = op->next;
	}
	while (op && !is_spilled(op))
		op = op->prev;
	return op;
}

/* Tries every spilled operation of fd, oldest first; those that still wait are armed again. */
static void look_at(struct wh__uring *u, int fd)
{
	struct wh__op *op = NULL;
	bool waits = false;
	while ((op = next_spilled(u, fd, op))) {
		void *ptr = NULL;
		int64_t n = wh__op_attempt(op, &ptr);
		waits = waits || n == -EAGAIN;
		if (n == -EAGAIN)
			continue;
		wh__uring_finish(u, op, n, ptr);
		op = NULL; /* that may have ended or started others, and moved the table: begin again */
	}
	int error = waits ? arm(u, fd) : 0;
	while (error && (op = next_spilled(u, fd, NULL)))
		wh__uring_finish(u, op, error, NULL);
}

void wh__uring_spill_ready(struct wh__uring *u)
{
	struct epoll_event events[EVENTS_PER_LOOK];
	int count = epoll_wait(u->spill_fd, events, EVENTS_PER_LOOK, 0);
	for (int i = 0; i < count; i++)
		look_at(u, events[i].data.fd);
	u->spill_armed = false;
	wh__uring_spill_poll(u);
}

void wh__uring_spill_forget(struct wh__uring *u, int fd)
{
	if (u->spill_fd >= 0)
		(void)epoll_ctl(u->spill_fd, EPOLL_CTL_DEL, fd, NULL);
}

void wh__uring_spill_close(struct wh__uring *u)
{
	if (u->spill_fd >= 0)
		close(u->spill_fd);
}
