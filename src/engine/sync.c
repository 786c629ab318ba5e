/* src/engine/sync.c -- the classic way: the loop's thread itself blocks in the call.
 *
 * Starting only queues; wait() executes, in the order of starting. Files, names and work are plain blocking calls, one
 * after the other. What may wait for ever waits together in one ppoll(2), then the call is made. No thread is ever
 * started. Thread: loop, but for wake().
 */
#include "engine/descriptor.h"
#include "runtime/standard.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* op->engine_state */
enum { QUEUED, WAITS, EXECUTES };

struct sync_state {
	struct wh__op *first, *last;                 /* plain calls, in the order of starting */
	struct wh__op *waiting_first, *waiting_last; /* what may wait for ever */
	uint32_t waiting_count;
	struct pollfd *polls; /* one for each that waits, and one for wake() */
	uint32_t polls_max;
	int wake_fd;
};

static bool have_polls(struct sync_state *state, uint32_t count)
{
	if (count <= state->polls_max)
		return true;
	uint32_t max = state->polls_max ? state->polls_max * 2 : 64;
	struct pollfd *polls = reallocarray(state->polls, max, sizeof *polls);
	if (!polls)
		return false;
	state->polls = polls;
	state->polls_max = max;
	return true;
}

static int init(wh_loop *loop, const struct wh_loop_options *options)
{
	struct sync_state *state = calloc(1, sizeof *state);
	if (!state)
		return -ENOMEM;
	state->wake_fd = wh__above_standard(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	int error = state->wake_fd < 0 ? -errno : 0;
	/* Now, and whenever something is added that waits: so a wait cannot fail for want of memory. */
	if (error == 0 && !have_polls(state, 1)) {
		close(state->wake_fd);
		error = -ENOMEM;
	}
	if (error != 0) {
		free(state);
		return error;
	}
	loop->engine_state = state;
	return 0;
}

static void fini(wh_loop *loop)
{
	struct sync_state *state = loop->engine_state;
	close(state->wake_fd);
	free(state->polls);
	free(state);
	wh__descriptors_fini(loop);
}

static void wake(wh_loop *loop)
{
	struct sync_state *state = loop->engine_state;
	uint64_t one = 1;
	if (write(state->wake_fd, &one, sizeof one) < 0)
		assert(errno == EAGAIN);
}

static void append(struct wh__op **first, struct wh__op **last, struct wh__op *op)
{
	op->next = NULL;
	op->prev = *last;
	*(*last ? &(*last)->next : first) = op;
	*last = op;
}

static void take_out(struct wh__op **first, struct wh__op **last, struct wh__op *op)
{
	*(op->prev ? &op->prev->next : first) = op->next;
	*(op->next ? &op->next->prev : last) = op->prev;
	op->next = op->prev = NULL;
}

static void submit(struct wh__op *op)
{
	struct sync_state *state = op->loop->engine_state;
	struct wh__descriptor *descriptor = NULL;
	bool waits = wh__opcode_waits(op->opcode) && !wh__offload_is_plain_file(op);
	int error = wh__descriptor_used(op) ? wh__descriptor_get(op->loop, op->fd, &descriptor) : 0;
	if (error == 0 && descriptor)
		error = wh__descriptor_enter(descriptor, op);
	if (error == 0 && waits && !have_polls(state, state->waiting_count + 2)) {
		error = -ENOMEM;
		wh__descriptor_leave(descriptor, op, error);
	}
	if (error != 0) {
		wh__op_complete(op, error, NULL);
	} else if (waits) {
		op->engine_state = WAITS;
		append(&state->waiting_first, &state->waiting_last, op);
		state->waiting_count++;
	} else {
		append(&state->first, &state->last, op);
	}
}

static void end(struct sync_state *state, struct wh__op *op, int64_t n, void *ptr)
{
	bool waits = op->engine_state == WAITS;
	if (waits) {
		take_out(&state->waiting_first, &state->waiting_last, op);
		state->waiting_count--;
	} else {
		take_out(&state->first, &state->last, op);
	}
	if (wh__descriptor_used(op)) {
		struct wh__descriptor *descriptor = wh__descriptor_look(op->loop, op->fd);
		descriptor->known_listener |= op->opcode == WH__OP_ACCEPT && n >= 0;
		wh__descriptor_leave(descriptor, op, n);
		if (descriptor->closing && op->opcode == WH__OP_SEND_FILE)
			n = -ECANCELED; /* a part of something that would go on with the next */
	}
	wh__op_complete(op, n, ptr);
}

static void cancel(struct wh__op *op)
{
	if (op->opcode != WH__OP_CLOSE && op->engine_state != EXECUTES)
		end(op->loop->engine_state, op, -ECANCELED, NULL);
}

/* Ending one may end others, through combinators. */
static void cancel_all_on(struct wh__op *const *first, int fd)
{
	bool found;
	do {
		found = false;
		for (struct wh__op *other = *first; other && !found; other = other->next)
			if ((found = wh__descriptor_used(other) && other->fd == fd))
				cancel(other);
	} while (found);
}

static int64_t execute(struct wh__op *op, void **ret_ptr);

static void close_fd(struct wh__op *op)
{
	struct sync_state *state = op->loop->engine_state;
	struct wh__descriptor *descriptor = NULL;
	int error = wh__descriptor_get(op->loop, op->fd, &descriptor);
	if (error == 0 && descriptor->closing)
		error = -EBADF;
	if (error != 0 &&
	    error != -ENOMEM) { /* without memory nothing is on it, and it is closed all the same */
		wh__op_complete(op, error, NULL);
		return;
	}
	if (descriptor)
		descriptor->closing = op;
	cancel_all_on(&state->waiting_first, op->fd);
	if (op->flags & WH__NO_SLOT) {
		void *ptr = NULL;
		cancel_all_on(&state->first, op->fd);
		wh__op_complete(op, execute(op, &ptr), NULL);
	} else {
		/* plain calls on it are in the queue before this one */
		append(&state->first, &state->last, op);
	}
}

static int64_t execute(struct wh__op *op, void **ret_ptr)
{
	op->engine_state = EXECUTES;
	if (op->opcode == WH__OP_CLOSE) {
		struct wh__descriptor *descriptor = wh__descriptor_look(op->loop, op->fd);
		if (descriptor)
			descriptor->closing = NULL;
		wh__descriptor_closed(op->loop, op->fd);
	}
	if (op->opcode != WH__OP_WORK)
		return wh__op_execute(op, ret_ptr);
	/* user code, which on other engines runs on another thread: what may not be done there may not be done here */
	wh__registry_disown(op->loop);
	int64_t n = wh__op_execute(op, ret_ptr);
	wh__registry_reown(op->loop);
	return n;
}

static void run_queue(struct sync_state *state)
{
	/* only what is there now: what that starts belongs to the next turn */
	for (const struct wh__op *last = state->last; state->first;) {
		struct wh__op *op = state->first;
		bool more = op != last;
		void *ptr;
		int64_t n = execute(op, &ptr);
		end(state, op, n, ptr);
		if (!more)
			break;
	}
}

static bool accepts_none(const struct wh__op *op)
{
	return wh__descriptor_accepts_none(wh__descriptor_look(op->loop, op->fd), op);
}

/* Many may wait to accept from one listener, and the poll is of before the first of them did. */
static bool comes_too_late(const struct wh__op *op, int accepted_fd, int *empty_fd)
{
	if (op->opcode != WH__OP_ACCEPT || op->fd != accepted_fd)
		return false;
	if (op->fd != *empty_fd && accepts_none(op))
		*empty_fd = op->fd;
	return op->fd == *empty_fd;
}

/* What waits for each descriptor, once: poll(2) takes no more of them than may be open. Result: how many, wake_fd included. */
static uint32_t make_polls(struct sync_state *state)
{
	uint32_t count = 1;
	state->polls[0] = (struct pollfd){.fd = state->wake_fd, .events = POLLIN};
	for (const struct wh__op *op = state->waiting_first; op; op = op->next)
		wh__descriptor_look(op->loop, op->fd)->poll_index = 0;
	for (const struct wh__op *op = state->waiting_first; op; op = op->next) {
		struct wh__descriptor *descriptor = wh__descriptor_look(op->loop, op->fd);
		if (descriptor->poll_index == 0) {
			descriptor->poll_index = count;
			state->polls[count++] = (struct pollfd){.fd = op->fd};
		}
		state->polls[descriptor->poll_index].events |= (short)wh__op_events(op);
	}
	return count;
}

/* Whose descriptor the poll says is ready is tried, in the order of starting. What completes may end others: only those that are left are looked
 * at, and whose turn was missed is seen by the next poll(2). */
static void try_waiting(struct sync_state *state)
{
	int accepted_fd = -1, empty_fd = -1;
	for (struct wh__op *op = state->waiting_first; op; op = op->next) {
		int events = state->polls[wh__descriptor_look(op->loop, op->fd)->poll_index].revents;
		op->engine_data = events & (wh__op_events(op) | POLLERR | POLLHUP | POLLNVAL) ? state : NULL;
	}
	for (struct wh__op *op = state->waiting_first; op;) {
		void *ptr;
		struct wh__op *next = op->next;
		bool ready = op->engine_data && !comes_too_late(op, accepted_fd, &empty_fd);
		op->engine_data = NULL;
		if (!ready) {
			op = next;
			continue;
		}
		if (op->opcode == WH__OP_ACCEPT)
			accepted_fd = op->fd;
		int64_t n = wh__op_attempt(op, &ptr);
		if (n != -EAGAIN) {
			end(state, op, n, ptr);
			next = state->waiting_first; /* the list may have changed */
		}
		op = next;
	}
}

/* A connection must be begun before poll(2) can tell anything; and it never tells of what does not listen. */
static bool begin_connections(struct sync_state *state)
{
	bool ended = false;
	for (struct wh__op *op = state->waiting_first, *next; op; op = next) {
		void *ptr;
		next = op->next;
		if ((op->opcode != WH__OP_CONNECT && op->opcode != WH__OP_ACCEPT) || op->done != 0)
			continue;
		int64_t n = accepts_none(op) ? -EAGAIN : wh__op_attempt(op, &ptr);
		op->done = 1; /* begun */
		if (n == -EAGAIN)
			continue;
		end(state, op, n, ptr);
		next = state->waiting_first;
		ended = true;
	}
	return ended;
}

static int wait(wh_loop *loop, int64_t timeout_ns)
{
	struct sync_state *state = loop->engine_state;
	bool worked = state->first != NULL;
	if (worked)
		run_queue(state);
	worked |= begin_connections(state);
	if (worked && state->waiting_count == 0)
		return 0;
	uint32_t count = make_polls(state);
	struct timespec ts = {0};
	if (!worked && timeout_ns > 0)
		ts = (struct timespec){.tv_sec = timeout_ns / WH_NS_PER_S,
		                       .tv_nsec = timeout_ns % WH_NS_PER_S};
	int n = ppoll(state->polls, count, worked || timeout_ns >= 0 ? &ts : NULL, NULL);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (state->polls[0].revents) {
		uint64_t drained;
		if (read(state->wake_fd, &drained, sizeof drained) < 0)
			assert(errno == EAGAIN);
	}
	if (n > 0)
		try_waiting(state);
	return 0;
}

const struct wh__engine wh__engine_sync = {
	.name = "sync",
	.init = init,
	.submit = submit,
	.cancel = cancel,
	.close_fd = close_fd,
	.wait = wait,
	.wake = wake,
	.fini = fini,
};
