/* src/io/signal.c -- signals as futures.
 *
 * The handler, installed once for each signal, writes a byte into the pipe of every watch of that signal; the loop waits
 * until the pipe is readable. A byte stays until it is waited for, so a delivery between two waits is not missed.
 * Watches are never freed, only used again by other loops: the handler may be looking at them. When the last watch of a
 * signal is given back, the action from before the first is restored, unless somebody has set another meanwhile.
 *
 * Thread: loop; the handler on any, and it does nothing but read atomics and write(2).
 */
#include "runtime/loop.h"
#include "runtime/standard.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct watch {
	struct watch *next;        /* constant once it is in the list */
	_Atomic int signal_number; /* 0: free */
	int read_fd, write_fd;
	pid_t pid; /* a forked child must not write into our pipe */
	wh_loop *loop;
	struct wh__op *waiters; /* linked through next and prev */
	wh_future ready;        /* armed while there are waiters */
};

static _Atomic(struct watch *) watches;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of taking and giving back watches, and: */
static struct sigaction before[NSIG];                    /* actions that the handler has replaced */

static void handler(int signal_number)
{
	int error = errno;
	for (struct watch *watch = atomic_load(&watches); watch; watch = watch->next)
		if (atomic_load(&watch->signal_number) == signal_number && watch->pid == getpid()) {
			/* a full pipe is readable, which is all that is wanted */
			ssize_t ignored = write(watch->write_fd, "", 1);
			(void)ignored;
		}
	errno = error;
}

static void drain(const struct watch *watch)
{
	char bytes[64];
	while (read(watch->read_fd, bytes, sizeof bytes) > 0) {
	}
}

static struct watch *new_watch(void)
{
	struct watch *watch = calloc(1, sizeof *watch);
	int ends[2];
	if (!watch)
		return NULL;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		free(watch);
		return NULL;
	}
	watch->read_fd = wh__above_standard(ends[0]);
	watch->write_fd = wh__above_standard(ends[1]);
	if (watch->read_fd < 0 || watch->write_fd < 0) {
		int error = errno;
		close(watch->read_fd);
		close(watch->write_fd);
		free(watch);
		errno = error;
		return NULL;
	}
	watch->next = atomic_load(&watches);
	atomic_store(&watches, watch); /* the lock is held: nobody else adds */
	return watch;
}

/* With the lock held. */
static bool is_watched(int signal_number)
{
	for (struct watch *watch = atomic_load(&watches); watch; watch = watch->next)
		if (atomic_load(&watch->signal_number) == signal_number && watch->pid == getpid())
			return true;
	return false;
}

/* With the lock held, and a watch there to take what is delivered. */
static int install(int signal_number)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
	sigfillset(&action.sa_mask);
	if (sigaction(signal_number, &action, &old) < 0)
		return -errno;
	if ((old.sa_flags & SA_SIGINFO) || old.sa_handler != handler)
		before[signal_number] = old;
	return 0;
}

static void restore(int signal_number)
{
	struct sigaction now;
	if (sigaction(signal_number, NULL, &now) == 0 && !(now.sa_flags & SA_SIGINFO) &&
	    now.sa_handler == handler)
		(void)sigaction(signal_number, &before[signal_number], NULL);
}

static void give_back(struct watch *watch)
{
	int signal_number = atomic_exchange(&watch->signal_number, 0);
	watch->loop = NULL;
	if (!is_watched(signal_number))
		restore(signal_number);
}

static int take_watch(wh_loop *loop, int signal_number, struct watch **ret)
{
	struct watch *unused = NULL, *watch;
	int error = 0;
	pthread_mutex_lock(&lock);
	for (watch = atomic_load(&watches); watch; watch = watch->next) {
		int number = atomic_load(&watch->signal_number);
		if (number == signal_number && watch->loop == loop && watch->pid == getpid())
			break;
		if (number == 0 && watch->pid == getpid())
			unused = watch;
	}
	if (!watch) {
		watch = unused ? unused : new_watch();
		if (watch) {
			drain(watch);
			wh__descriptor_given(loop, watch->read_fd);
			watch->loop = loop;
			watch->pid = getpid();
			watch->waiters = NULL;
			atomic_store(&watch->signal_number, signal_number);
		} else {
			error = -errno;
		}
	}
	if (watch) {
		error = install(signal_number);
		if (error != 0)
			give_back(watch);
		else
			*ret = watch;
	}
	pthread_mutex_unlock(&lock);
	return error;
}

static void release(wh_loop *loop)
{
	pthread_mutex_lock(&lock);
	for (struct watch *watch = atomic_load(&watches); watch; watch = watch->next)
		if (watch->loop == loop)
			give_back(watch);
	pthread_mutex_unlock(&lock);
}

static void take_out(struct watch *watch, struct wh__op *op)
{
	*(op->prev ? &op->prev->next : &watch->waiters) = op->next;
	if (op->next)
		op->next->prev = op->prev;
	op->next = op->prev = NULL;
}

static int arm(struct watch *watch);

static void on_readable(wh_loop *loop, wh_res res, void *arg)
{
	struct watch *watch = arg;
	watch->ready.id = 0;
	if (res.n == -ECANCELED && watch->waiters) {
		if (!loop->closing && arm(watch) == 0)
			return; /* cancelled for want of waiters, and one has come since */
	}
	if (res.n >= 0)
		drain(watch);
	while (watch->waiters) {
		struct wh__op *op = watch->waiters;
		take_out(watch, op);
		wh__op_complete(op, res.n < 0 ? res.n : atomic_load(&watch->signal_number), NULL);
	}
}

static int arm(struct watch *watch)
{
	struct wh__op *ready = wh__op_new(watch->loop, WH__OP_READY);
	if (!ready)
		return -EAGAIN;
	ready->fd = watch->read_fd;
	ready->len = POLLIN;
	ready->consumer = WH__CONSUMER_INTERNAL;
	ready->callback = on_readable;
	ready->arg = watch;
	watch->ready = wh__op_future(ready);
	(void)wh__start(ready);
	return 0;
}

static void cancel(struct wh__op *op)
{
	struct watch *watch = op->second;
	take_out(watch, op);
	if (!watch->waiters)
		wh_cancel(watch->ready);
	wh__op_complete(op, -ECANCELED, NULL);
}

wh_future wh_signal(wh_loop *loop, int signal_number)
{
	struct watch *watch = NULL;
	wh_future f;
	struct wh__op *op = wh__begin(loop, WH__OP_SIGNAL, &f);
	if (!op)
		return f;
	if (signal_number <= 0 || signal_number == SIGKILL || signal_number == SIGSTOP ||
	    signal_number >= NSIG)
		return wh__end(op, -EINVAL);
	if (loop->engine->signal) {
		f = wh__op_future(op);
		loop->engine->signal(op, signal_number);
		return f;
	}
	int error = take_watch(loop, signal_number, &watch);
	if (error != 0)
		return wh__end(op, error);
	loop->at_close = release;
	f = wh__op_future(op);
	op->cancel_inner = cancel;
	op->second = watch;
	op->next = watch->waiters;
	if (op->next)
		op->next->prev = op;
	watch->waiters = op;
	if (watch->ready.id == 0 && arm(watch) != 0) {
		take_out(watch, op);
		wh__op_complete(op, -EAGAIN, NULL);
	}
	return f;
}
