/* src/engine/epoll.c -- readiness.
 *
 * A descriptor is registered once, edge-triggered for both directions. What is known from the last call saves the
 * next: after a receive that did not fill its buffer a stream socket is empty, epoll(7), and the next one waits for
 * the edge without a try; so a steady echo costs one receive, one send and a share of epoll_wait for each message.
 * File and work operations go to workers (offload.c).
 *
 * A listener that others may wait for as well, loops or processes, is registered so that a connection wakes one of them
 * (EPOLLEXCLUSIVE). Nobody else hears of that connection, so who sleeps must want it: a listener stays registered over a wait
 * only while an accept waits for it. Who is awake need not: the kernel passes on to one that sleeps, and what it says to a
 * sleeper is done before anything else happens there. It asks who was registered first: so the registration is renewed now and then.
 *
 * Thread: loop, but for wake().
 */
#include "engine/descriptor.h"
#include "runtime/standard.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Few enough that what the kernel touched for a receive is still in the cache for the answer. */
enum { EVENTS_MAX = 64 };

enum flags {
	REGISTERED = 1 << 0,
	STREAM = 1 << 1,   /* a short transfer means empty or full */
	READABLE = 1 << 2, /* an edge came and nothing showed since that it is used up */
	WRITABLE = 1 << 3,
	ENDED = 1 << 4,     /* hung up: no further edge, a receive never waits */
	ALWAYS = 1 << 5,    /* epoll refuses it (a regular file): workers do it */
	EXCLUSIVE = 1 << 6, /* a listener, registered for accepts alone */
};

enum {
	UNSETTLED_MAX = 8, /* listeners that are looked at before the next wait */
	TURN_ACCEPTS = 16  /* connections until another loop is asked first */
};

struct epoll_state {
	int epoll_fd, wake_fd;
	uint64_t event_count;
	bool no_pwait2;               /* the kernel is older than 5.11 */
	int unsettled[UNSETTLED_MAX]; /* listeners of which an accept has ended since the last wait */
	uint32_t unsettled_count;
	struct epoll_event events[EVENTS_MAX];
};

static int init(wh_loop *loop, const struct wh_loop_options *options)
{
	struct epoll_state *state = calloc(1, sizeof *state);
	if (!state)
		return -ENOMEM;
	state->epoll_fd = wh__above_standard(epoll_create1(EPOLL_CLOEXEC));
	state->wake_fd = wh__above_standard(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	/* Edge-triggered: each write is an event, and the count need not be read back. */
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = UINT64_MAX};
	if (state->epoll_fd < 0 || state->wake_fd < 0 ||
	    epoll_ctl(state->epoll_fd, EPOLL_CTL_ADD, state->wake_fd, &event) < 0) {
		int error = -errno;
		if (state->epoll_fd >= 0)
			close(state->epoll_fd);
		if (state->wake_fd >= 0)
			close(state->wake_fd);
		free(state);
		return error;
	}
	loop->engine_state = state;
	return 0;
}

static void fini(wh_loop *loop)
{
	struct epoll_state *state = loop->engine_state;
	close(state->epoll_fd);
	close(state->wake_fd);
	free(state);
	wh__descriptors_fini(loop);
}

static void wake(wh_loop *loop)
{
	struct epoll_state *state = loop->engine_state;
	uint64_t one = 1;
	ssize_t n = write(state->wake_fd, &one, sizeof one);
	assert(n == sizeof one); /* the count would be full after 2^64 - 1 */
}

/* Of epoll_ctl(2). How many descriptors a user may watch is a matter of memory, epoll(7). */
static int why_not_registered(void)
{
	return errno == ENOSPC ? -ENOMEM : -errno;
}

/* Registered: for a look, see watch_again(), or the number was closed behind our back while a duplicate keeps the file
 * open. Changing it reports what is ready now; an exclusive one cannot be changed. */
static int register_again(const struct epoll_state *state, int fd, struct epoll_event *event)
{
	if (!(event->events & EPOLLEXCLUSIVE) && epoll_ctl(state->epoll_fd, EPOLL_CTL_MOD, fd, event) == 0)
		return 0;
	(void)epoll_ctl(state->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	return epoll_ctl(state->epoll_fd, EPOLL_CTL_ADD, fd, event) == 0 ? 0 : why_not_registered();
}

static int register_fd(wh_loop *loop, int fd, struct wh__descriptor *descriptor, bool is_listener)
{
	struct epoll_state *state = loop->engine_state;
	struct epoll_event event = {.events = is_listener ? EPOLLIN | EPOLLEXCLUSIVE | EPOLLET
	                                                  : EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
	                            .data.u64 = (uint64_t)descriptor->registration << 32 | (uint32_t)fd};
	int type = 0;
	socklen_t len = sizeof type;
	if (epoll_ctl(state->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		if (errno == EPERM) {
			descriptor->epoll_flags = REGISTERED | ALWAYS;
			return 0;
		}
		int error = errno == EEXIST ? register_again(state, fd, &event) : why_not_registered();
		if (error != 0)
			return error;
	}
	descriptor->epoll_flags = REGISTERED | (is_listener ? EXCLUSIVE : 0);
	if (!is_listener && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0) {
		if (type == SOCK_STREAM)
			descriptor->epoll_flags |= STREAM;
	}
	return 0;
}

/* A foreign descriptor may have been closed and its number given out again since it was registered, and no edge would
 * come: registering anew costs a call, and tells what is ready now. */
static int watch_again(wh_loop *loop, int fd, struct wh__descriptor *descriptor)
{
	descriptor->epoll_flags = 0;
	return register_fd(loop, fd, descriptor, false);
}

/* ---- listeners ---- */

/* An accept that waits for fd; NULL: none does. */
static struct wh__op *accept_on(const struct wh__descriptor *descriptor)
{
	struct wh__op *op = descriptor->first;
	while (op && op->opcode != WH__OP_ACCEPT)
		op = op->next;
	return op;
}

/* No connection wakes this loop any more. */
static void let_go(wh_loop *loop, int fd, struct wh__descriptor *descriptor)
{
	const struct epoll_state *state = loop->engine_state;
	(void)epoll_ctl(state->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	descriptor->epoll_flags = 0;
}

/* What waits for fd has nothing that would wake it: its place among those who share the listener could be had neither when it was
 * given up, accepted(), nor now. */
static void fail_accepts(wh_loop *loop, int fd, int error)
{
	struct wh__descriptor *descriptor;
	struct wh__op *op;
	while ((op = accept_on(descriptor = wh__descriptor_look(loop, fd)))) {
		wh__descriptor_unlink(descriptor, op);
		wh__descriptor_leave(descriptor, op, error);
		wh__op_complete(op, error, NULL);
	}
}

/* The loop may wait now: a listener is registered if and only if an accept waits for it. false: an accept has ended. */
static bool settle(wh_loop *loop, int fd)
{
	struct wh__descriptor *descriptor = wh__descriptor_look(loop, fd);
	if (!accept_on(descriptor)) {
		if (descriptor->epoll_flags & EXCLUSIVE)
			let_go(loop, fd, descriptor);
	} else if (!(descriptor->epoll_flags & REGISTERED)) {
		int error = register_fd(loop, fd, descriptor, true);
		if (error != 0)
			fail_accepts(loop, fd, error);
		return error == 0;
	}
	return true;
}

/* An accept has ended; usually the next one comes before the loop waits. */
static void unsettle(wh_loop *loop, int fd)
{
	struct epoll_state *state = loop->engine_state;
	for (uint32_t i = 0; i < state->unsettled_count; i++) {
		if (state->unsettled[i] == fd)
			return;
	}
	if (state->unsettled_count == UNSETTLED_MAX)
		(void)settle(loop, state->unsettled[--state->unsettled_count]);
	state->unsettled[state->unsettled_count++] = fd;
}

static void accepted(wh_loop *loop, int fd, struct wh__descriptor *descriptor)
{
	if (++descriptor->accept_count % TURN_ACCEPTS == 0) {
		let_go(loop, fd, descriptor);
		(void)register_fd(loop, fd, descriptor, true); /* else settle() tries again */
	}
	unsettle(loop, fd);
}

static uint8_t direction(const struct wh__op *op)
{
	return wh__op_events(op) & POLLOUT ? WRITABLE : READABLE;
}

static bool short_transfer(const struct wh__op *op, int64_t n, void *ptr)
{
	switch (op->opcode) {
	case WH__OP_RECV:
		return n > 0 && (uint64_t)n < op->len && op->off == 0; /* a peek takes nothing */
	case WH__OP_RECV_BUF:
		return n > 0 && (uint32_t)n < ((struct wh_buf *)ptr)->cap;
	case WH__OP_SEND:
		return n > 0 && (uint64_t)n < op->len;
	default:
		return false;
	}
}

/* true: op has completed. What the try shows is remembered. */
static bool try_op(struct wh__op *op, struct wh__descriptor *descriptor, bool linked)
{
	void *ptr;
	int64_t n = wh__descriptor_accepts_none(descriptor, op) ? -EAGAIN : wh__op_attempt(op, &ptr);
	if (n == -EAGAIN) {
		descriptor->epoll_flags &= (uint8_t)~direction(op);
		return false;
	}
	descriptor->known_listener |= op->opcode == WH__OP_ACCEPT && n >= 0;
	if ((descriptor->epoll_flags & (STREAM | ENDED)) == STREAM && short_transfer(op, n, ptr))
		descriptor->epoll_flags &= (uint8_t)~direction(op);
	if (linked)
		wh__descriptor_unlink(descriptor, op);
	wh__descriptor_leave(descriptor, op, n);
	if (descriptor->epoll_flags & EXCLUSIVE && op->opcode == WH__OP_ACCEPT)
		accepted(op->loop, op->fd, descriptor);
	wh__op_complete(op, n, ptr);
	return true;
}

/* epoll refuses it: a plain file, a device that is always ready. */
static void submit_unwatched(struct wh__op *op, struct wh__descriptor *descriptor)
{
	if (wh__opcode_streams(op->opcode)) {
		wh__offload(op);
		return;
	}
	void *ptr;
	int64_t n = wh__op_attempt(op, &ptr);
	wh__descriptor_leave(descriptor, op, n);
	wh__op_complete(op, n == -EAGAIN ? -EOPNOTSUPP : n, ptr);
}

/* A connection must be under way before it can be waited for; what is sent first usually fits. A receive on a new
 * descriptor waits for the edge that registering gives. READY is a look, never a transfer. */
static bool may_succeed_now(const struct wh__op *op, const struct wh__descriptor *descriptor)
{
	if (op->opcode == WH__OP_READY || op->opcode == WH__OP_CONNECT || descriptor->epoll_flags & ENDED)
		return true;
	if (descriptor->epoll_flags & EXCLUSIVE && op->opcode != WH__OP_ACCEPT)
		return true; /* of what listens nothing else would tell that it cannot be done */
	if (descriptor->epoll_flags & REGISTERED)
		return descriptor->epoll_flags & direction(op);
	return direction(op) == WRITABLE ||
	       op->opcode == WH__OP_ACCEPT; /* what does not listen never gets ready */
}

static void submit_waiting(struct wh__op *op)
{
	struct wh__descriptor *descriptor;
	int error = wh__descriptor_get(op->loop, op->fd, &descriptor);
	if (error == 0)
		error = wh__descriptor_enter(descriptor, op);
	if (error != 0) {
		wh__op_complete(op, error, NULL);
		return;
	}
	if (!(descriptor->epoll_flags & REGISTERED) && wh__offload_is_plain_file(op))
		descriptor->epoll_flags = REGISTERED | ALWAYS;
	if (descriptor->epoll_flags & ALWAYS) {
		submit_unwatched(op, descriptor);
		return;
	}
	if (may_succeed_now(op, descriptor) && try_op(op, descriptor, false))
		return;
	if (op->opcode == WH__OP_READY)
		error = watch_again(op->loop, op->fd, descriptor);
	else if (!(descriptor->epoll_flags & REGISTERED))
		error = register_fd(op->loop, op->fd, descriptor, op->opcode == WH__OP_ACCEPT);
	if (error != 0) {
		wh__descriptor_leave(descriptor, op, error);
		wh__op_complete(op, error, NULL);
	} else if (descriptor->epoll_flags & ALWAYS) {
		submit_unwatched(op, descriptor);
	} else {
		wh__descriptor_link(descriptor, op);
	}
}

static void submit(struct wh__op *op)
{
	if (wh__opcode_waits(op->opcode))
		submit_waiting(op);
	else
		wh__offload(op);
}

static void cancel(struct wh__op *op)
{
	if (op->flags & WH__AT_WORKER) {
		(void)wh__offload_cancel(op); /* false: it runs, and completes with its result */
		return;
	}
	if (op->opcode == WH__OP_CLOSE)
		return; /* it waits for a worker, and then ends */
	struct wh__descriptor *descriptor = wh__descriptor_look(op->loop, op->fd);
	wh__descriptor_unlink(descriptor, op);
	wh__descriptor_leave(descriptor, op, -ECANCELED);
	if (descriptor->epoll_flags & EXCLUSIVE && op->opcode == WH__OP_ACCEPT)
		unsettle(op->loop, op->fd);
	wh__op_complete(op, -ECANCELED, NULL);
}

static void close_fd(struct wh__op *op)
{
	wh_loop *loop = op->loop;
	struct wh__descriptor *descriptor = wh__descriptor_look(loop, op->fd);
	if (descriptor && descriptor->closing) {
		wh__op_complete(op, -EBADF, NULL);
		return;
	}
	while (descriptor && descriptor->first) {
		descriptor->closing = op; /* nothing new starts on it while its operations end */
		cancel(descriptor->first);
		descriptor = wh__descriptor_look(loop, op->fd);
	}
	if (descriptor)
		descriptor->closing = NULL;
	if (wh__offload_holds_close(op))
		return;
	/* The registration goes with the open file, unless that was duplicated: late events are told by the number. */
	wh__descriptor_closed(loop, op->fd);
	if (descriptor)
		*descriptor = (struct wh__descriptor){.registration = descriptor->registration + 1};
	wh__offload_close(op);
}

static bool may_go_on(const struct wh__op *op, const struct wh__descriptor *descriptor)
{
	return op->opcode == WH__OP_READY || descriptor->epoll_flags & direction(op);
}

/* Tries what waits on fd, oldest first. What completes may start or cancel others here, through combinators, and make
 * the table move: after each completion begin again. */
static void try_all(wh_loop *loop, int fd)
{
	bool some_completed;
	do {
		struct wh__descriptor *descriptor = wh__descriptor_look(loop, fd);
		struct wh__op *op = descriptor->first;
		some_completed = false;
		while (op && op->next)
			op = op->next;
		for (; op && !some_completed; op = some_completed ? NULL : op->prev)
			some_completed = may_go_on(op, descriptor) && try_op(op, descriptor, true);
	} while (some_completed);
}

static void on_event(wh_loop *loop, const struct epoll_event *event)
{
	int fd = (int)(uint32_t)event->data.u64;
	struct wh__descriptor *descriptor = wh__descriptor_look(loop, fd);
	if (!descriptor || descriptor->registration != (uint32_t)(event->data.u64 >> 32))
		return; /* of a descriptor that has been closed since */
	if (event->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		descriptor->epoll_flags |= READABLE;
	if (event->events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		descriptor->epoll_flags |= WRITABLE;
	if (event->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		descriptor->epoll_flags |= ENDED;
	if (descriptor->first)
		try_all(loop, fd);
}

static int wait_for_events(struct epoll_state *state, int64_t timeout_ns)
{
	if (timeout_ns > 0 && !state->no_pwait2) {
		struct timespec ts = {.tv_sec = timeout_ns / WH_NS_PER_S,
		                      .tv_nsec = timeout_ns % WH_NS_PER_S};
		int n = epoll_pwait2(state->epoll_fd, state->events, EVENTS_MAX, &ts, NULL);
		if (n >= 0 || errno != ENOSYS)
			return n;
		state->no_pwait2 = true;
	}
	int64_t ms = timeout_ns < 0 ? -1 : (timeout_ns + WH_NS_PER_MS - 1) / WH_NS_PER_MS; /* never early */
	return epoll_wait(state->epoll_fd, state->events, EVENTS_MAX, ms > INT32_MAX ? INT32_MAX : (int)ms);
}

static int wait(wh_loop *loop, int64_t timeout_ns)
{
	struct epoll_state *state = loop->engine_state;
	while (timeout_ns != 0 && state->unsettled_count > 0) {
		if (!settle(loop, state->unsettled[--state->unsettled_count]))
			timeout_ns = 0;
	}
	int n = wait_for_events(state, timeout_ns);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	state->event_count += (uint64_t)n;
	for (int i = 0; i < n; i++) {
		if (state->events[i].data.u64 !=
		    UINT64_MAX) /* the wake-up has done its work by ending the wait */
			on_event(loop, &state->events[i]);
	}
	return 0;
}

static void stats(const wh_loop *loop, struct wh_engine_stats *ret)
{
	const struct epoll_state *state = loop->engine_state;
	ret->events = state->event_count;
}

const struct wh__engine wh__engine_epoll = {
	.name = "epoll",
	.init = init,
	.submit = submit,
	.cancel = cancel,
	.close_fd = close_fd,
	.wait = wait,
	.wake = wake,
	.returned = wh__offload_returned,
	.fini = fini,
	.stats = stats,
};
