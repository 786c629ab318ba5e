/* src/engine/threads.c -- the threads engine: a thread blocks and calls back.
 *
 * Files and work go to their classes of workers. A socket operation is tried at once, and if it cannot be done, a
 * thread of its own waits for it: in ppoll() on the descriptor and on an eventfd, so that a cancel or a close can end
 * the wait. Many may wait to accept from one listener, also on other loops, and ppoll() would wake them all for each
 * connection: they wait in epoll sets, which take turns. Costs a thread for each blocked operation; behaves in a
 * debugger, under valgrind and rr like any threaded program.
 *
 * Thread: loop; run_blocked() on a worker, which owns the operation meanwhile. Memory: a wait is one allocation,
 * kept for the next when it ends.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "engine/descriptor.h"
#include "runtime/standard.h"

/* A blocked operation. */
struct wait {
	struct wh__op *op;
	struct wait *next, *prev; /* of those in use, or next of the free ones */
	int cancel_fd;
	int epoll_fd;   /* with cancel_fd in it, and the listener while its turn may come; -1: not made yet */
	bool cancelled; /* loop's own note; the thread learns of it through cancel_fd */
};

struct threads {
	struct wait *waits, *free_waits;
	uint32_t blocked_count;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool woken;
};

/* ---- on the waiting thread ---- */

/* 0: to be tried; -EAGAIN: to be waited for again; -ECANCELED, or what poll says. */
static int64_t wait_ready(const struct wh__op *op, const struct wait *wait)
{
	struct pollfd fds[2] = {{.fd = op->fd, .events = (short)wh__op_events(op)},
	                        {.fd = wait->cancel_fd, .events = POLLIN}};
	if (ppoll(fds, 2, NULL, NULL) < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return fds[1].revents ? -ECANCELED : 0;
}

static int make_set(struct wait *wait)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = wait->cancel_fd};
	int epoll_fd = wh__above_standard(epoll_create1(EPOLL_CLOEXEC));
	if (epoll_fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wait->cancel_fd, &event) == 0)
		return epoll_fd;
	if (epoll_fd >= 0)
		close(epoll_fd);
	return -1;
}

/* false: it cannot wait for its turn, and waits with all others. */
static bool enter_turns(struct wait *wait, int fd)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = fd};
	if (wait->epoll_fd < 0)
		wait->epoll_fd = make_set(wait);
	return wait->epoll_fd >= 0 && epoll_ctl(wait->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* As wait_ready(). Whose turn it is accepts, cancelled or not: nobody else has been woken for that connection. */
static int64_t wait_turn(const struct wh__op *op, const struct wait *wait)
{
	struct epoll_event events[2];
	int count = epoll_wait(wait->epoll_fd, events, 2, -1);
	if (count < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	for (int i = 0; i < count; i++)
		if (events[i].data.fd == op->fd)
			return 0;
	return -ECANCELED;
}

static void run_blocked(struct wh__op *op)
{
	struct wait *wait = op->engine_data;
	bool turns = op->opcode == WH__OP_ACCEPT && enter_turns(wait, op->fd);
	void *ptr = NULL;
	int64_t n;
	do {
		n = turns ? wait_turn(op, wait) : wait_ready(op, wait);
		/* pooled buffers belong to the loop's thread, which receives: see threads_returned() */
		if (n == 0 && op->opcode != WH__OP_RECV_BUF)
			n = wh__op_attempt(op, &ptr);
	} while (n == -EAGAIN);
	if (turns)
		(void)epoll_ctl(wait->epoll_fd, EPOLL_CTL_DEL, op->fd, NULL);
	wh__op_complete_from_worker(op, n, ptr);
}

/* ---- waits ---- */

static int wait_new(struct threads *threads, struct wh__op *op)
{
	struct wait *wait = threads->free_waits;
	if (wait) {
		threads->free_waits = wait->next;
	} else {
		wait = calloc(1, sizeof *wait);
		if (!wait)
			return -ENOMEM;
		wait->epoll_fd = -1;
		wait->cancel_fd = wh__above_standard(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
		if (wait->cancel_fd < 0) {
			/* no descriptor is left for waiting, which is a limit like others */
			int error = errno == EMFILE || errno == ENFILE ? -EAGAIN : -errno;
			free(wait);
			return error;
		}
	}
	wait->op = op;
	wait->cancelled = false;
	wait->prev = NULL;
	wait->next = threads->waits;
	if (wait->next)
		wait->next->prev = wait;
	threads->waits = wait;
	threads->blocked_count++;
	op->engine_data = wait;
	return 0;
}

static void wait_end(struct threads *threads, struct wh__op *op)
{
	struct wait *wait = op->engine_data;
	uint64_t count;
	if (wait->cancelled)
		(void)!read(wait->cancel_fd, &count, sizeof count);
	*(wait->prev ? &wait->prev->next : &threads->waits) = wait->next;
	if (wait->next)
		wait->next->prev = wait->prev;
	wait->next = threads->free_waits;
	threads->free_waits = wait;
	threads->blocked_count--;
	op->engine_data = NULL;
}

/* ---- operations ---- */

/* op has entered its descriptor. */
static int block(struct wh__op *op)
{
	struct threads *threads = op->loop->engine_state;
	if (threads->blocked_count >= op->loop->workers_max[WH__WORKERS_SOCKETS])
		return -EAGAIN;
	struct wh__workers *workers = wh__loop_workers(op->loop, WH__WORKERS_SOCKETS);
	int error = workers ? wait_new(threads, op) : -ENOMEM;
	if (error)
		return error;
	error = wh__workers_submit(workers, op, run_blocked);
	if (error)
		wait_end(threads, op);
	else
		wh__descriptor_look(op->loop, op->fd)->at_worker_count++;
	return error;
}

static void threads_submit(struct wh__op *op)
{
	if (!wh__opcode_waits(op->opcode) || wh__offload_is_plain_file(op)) {
		wh__offload(op);
		return;
	}
	struct wh__descriptor *descriptor;
	int error = wh__descriptor_get(op->loop, op->fd, &descriptor);
	if (!error)
		error = wh__descriptor_enter(descriptor, op);
	if (error) {
		wh__op_complete(op, error, NULL);
		return;
	}
	void *ptr = NULL;
	int64_t n = wh__descriptor_accepts_none(descriptor, op) ? -EAGAIN : wh__op_attempt(op, &ptr);
	if (n == -EAGAIN) {
		n = block(op);
		if (n == 0)
			return;
	}
	descriptor = wh__descriptor_look(op->loop, op->fd);
	descriptor->known_listener |= op->opcode == WH__OP_ACCEPT && n >= 0;
	wh__descriptor_leave(descriptor, op, n);
	wh__op_complete(op, n, ptr);
}

static void threads_returned(struct wh__op *op, int64_t n, void *ptr)
{
	if (!wh__opcode_waits(op->opcode) || !op->engine_data) {
		wh__offload_returned(op, n, ptr);
		return;
	}
	struct wait *wait = op->engine_data;
	bool cancelled = wait->cancelled;
	wait_end(op->loop->engine_state, op);
	struct wh__descriptor *descriptor = wh__descriptor_look(op->loop, op->fd);
	if (op->opcode == WH__OP_RECV_BUF && n == 0) {
		n = wh__op_attempt(op, &ptr);
		if (n == -EAGAIN && cancelled)
			n = -ECANCELED;
		if (n == -EAGAIN) {
			descriptor->at_worker_count--;
			n = block(op);
			if (n == 0)
				return;
			descriptor->at_worker_count++;
		}
	}
	descriptor->known_listener |= op->opcode == WH__OP_ACCEPT && n >= 0;
	wh__descriptor_leave(descriptor, op, n);
	wh__offload_returned(op, n, ptr);
}

static void cancel_wait(struct wait *wait)
{
	struct wh__op *op = wait->op;
	if (wh__workers_cancel(op->loop->workers[WH__WORKERS_SOCKETS], op)) {
		threads_returned(op, -ECANCELED, NULL);
	} else if (!wait->cancelled) {
		uint64_t one = 1;
		wait->cancelled = true;
		(void)!write(wait->cancel_fd, &one, sizeof one); /* cannot fail: the count was 0 */
	}
}

static void threads_cancel(struct wh__op *op)
{
	if (wh__opcode_waits(op->opcode) && op->engine_data)
		cancel_wait(op->engine_data);
	else if (op->opcode != WH__OP_CLOSE && (op->flags & WH__AT_WORKER))
		(void)wh__offload_cancel(op);
}

static struct wait *next_on(struct threads *threads, int fd)
{
	struct wait *wait = threads->waits;
	while (wait && (wait->op->fd != fd || wait->cancelled))
		wait = wait->next;
	return wait;
}

static void threads_close_fd(struct wh__op *op)
{
	struct threads *threads = op->loop->engine_state;
	int fd = op->fd;
	struct wh__descriptor *descriptor = wh__descriptor_look(op->loop, fd);
	if (descriptor && descriptor->closing) {
		wh__op_complete(op, -EBADF, NULL);
		return;
	}
	if (wh__offload_holds_close(op)) {
		struct wait *wait;
		while ((wait = next_on(threads, fd)))
			cancel_wait(wait);
		return; /* the last one to return goes on with it, or has done so */
	}
	wh__offload_close(op);
}

/* ---- turning ---- */

static int threads_wait(wh_loop *loop, int64_t timeout_ns)
{
	struct threads *threads = loop->engine_state;
	struct timespec until;
	if (timeout_ns > 0) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		int64_t ns = until.tv_nsec + timeout_ns % WH_NS_PER_S;
		until.tv_sec += timeout_ns / WH_NS_PER_S + ns / WH_NS_PER_S;
		until.tv_nsec = ns % WH_NS_PER_S;
	}
	pthread_mutex_lock(&threads->lock);
	int error = timeout_ns == 0 ? ETIMEDOUT : 0;
	while (!threads->woken && error != ETIMEDOUT)
		error = timeout_ns < 0 ? pthread_cond_wait(&threads->wake, &threads->lock)
		                       : pthread_cond_timedwait(&threads->wake, &threads->lock, &until);
	threads->woken = false;
	pthread_mutex_unlock(&threads->lock);
	return 0;
}

static void threads_wake(wh_loop *loop)
{
	struct threads *threads = loop->engine_state;
	pthread_mutex_lock(&threads->lock);
	threads->woken = true;
	pthread_cond_signal(&threads->wake);
	pthread_mutex_unlock(&threads->lock);
}

static int threads_init(wh_loop *loop, const struct wh_loop_options *options)
{
	struct threads *threads = calloc(1, sizeof *threads);
	if (!threads)
		return -ENOMEM;
	pthread_condattr_t monotonic;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&threads->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	pthread_mutex_init(&threads->lock, NULL);
	loop->engine_state = threads;
	return 0;
}

static void threads_fini(wh_loop *loop)
{
	struct threads *threads = loop->engine_state;
	while (threads->free_waits) {
		struct wait *wait = threads->free_waits;
		threads->free_waits = wait->next;
		close(wait->cancel_fd);
		if (wait->epoll_fd >= 0)
			close(wait->epoll_fd);
		free(wait);
	}
	pthread_cond_destroy(&threads->wake);
	pthread_mutex_destroy(&threads->lock);
	wh__descriptors_fini(loop);
	free(threads);
	loop->engine_state = NULL;
}

static void threads_stats(const wh_loop *loop, struct wh_engine_stats *ret)
{
	const struct threads *threads = loop->engine_state;
	ret->blocked = threads->blocked_count;
}

const struct wh__engine wh__engine_threads = {
	.name = "threads",
	.init = threads_init,
	.submit = threads_submit,
	.cancel = threads_cancel,
	.close_fd = threads_close_fd,
	.wait = threads_wait,
	.wake = threads_wake,
	.returned = threads_returned,
	.fini = threads_fini,
	.stats = threads_stats,
};
