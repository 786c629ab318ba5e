/* src/io/process.c -- child processes: posix_spawn(3), pipes, and a wait that is a future (pidfd_open(2), 5.3).
 *
 * Thread: loop. A child starts with default signal dispositions and an empty mask, whatever the loop's thread has.
 * Memory: of a child that ends with its loop a record with a pidfd, until it has been reaped.
 */
#include "runtime/loop.h"
#include "runtime/standard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CLOSE_GRACE_MS = 1000, SOURCES_MAX = 3 + WH_SPAWN_DESCRIPTORS_MAX };

/* What becomes a descriptor of the child. All of ours are above all of theirs: setting up one is never in the way of
 * another. */
struct source {
	int ours, theirs;
};

struct setup {
	int parent[3]; /* our ends of pipes; -1: none */
	int above;     /* the lowest number for ours */
	int count;
	struct source sources[SOURCES_MAX];
};

struct wh__child {
	struct wh__child *next;
	pid_t pid;
	int pidfd, signal_number;
	bool group; /* the signal is for its group */
};

static void close_ends(const int fds[3])
{
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void close_sources(const struct setup *setup)
{
	for (int i = 0; i < setup->count; i++)
		close(setup->sources[i].ours);
}

/* Takes fd: it becomes one that is not below the number. */
static int move_above(int fd, int above)
{
	if (fd < 0)
		return -errno;
	if (fd >= above)
		return fd;
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, above);
	int error = -errno;
	close(fd);
	return moved < 0 ? error : moved;
}

/* Gives fd, or the error in its place, a number in the child. */
static int add_source(struct setup *setup, int fd, int theirs)
{
	if (fd < 0)
		return fd;
	setup->sources[setup->count++] = (struct source){fd, theirs};
	return 0;
}

static int make_pipe(wh_loop *loop, struct setup *setup, int which)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	int ours = move_above(ends[which == 0 ? 1 : 0], 3); /* not where standard streams are looked for */
	int error = add_source(setup, move_above(ends[which == 0 ? 0 : 1], setup->above), which);
	if (ours < 0)
		return ours;
	setup->parent[which] = ours;
	wh__descriptor_given(loop, ours);
	if (error == 0 && fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		error = -errno;
	return error;
}

static int make_standard(wh_loop *loop, struct setup *setup, const struct wh_spawn_options *options)
{
	const bool wanted[3] = {options->pipe_in, options->pipe_out, options->pipe_err};
	const bool null[3] = {options->null_in, options->null_out, options->null_err};
	int error = 0;
	for (int i = 0; i < 3 && error == 0; i++) {
		if (wanted[i]) {
			error = make_pipe(loop, setup, i);
		} else if (null[i]) {
			int fd = open("/dev/null", (i == 0 ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
			error = add_source(setup, move_above(fd, setup->above), i);
		}
	}
	return error;
}

/* 0 to 2 are as the options say, if they say anything. */
static bool is_taken(const struct wh_spawn_options *options, int index)
{
	const bool taken[3] = {options->pipe_in || options->null_in, options->pipe_out || options->null_out,
	                       options->pipe_err || options->null_err};
	int theirs = options->descriptors[index].theirs;
	for (int i = 0; i < index; i++)
		if (options->descriptors[i].theirs == theirs)
			return true;
	return theirs < 3 && taken[theirs];
}

static int check_options(const struct wh_spawn_options *options, int *ret_above)
{
	if (!options || !options->argv || !options->argv[0])
		return -EINVAL;
	if (options->kill_on_close < 0 || options->kill_on_close >= NSIG)
		return -EINVAL;
	if (options->descriptors_count < 0 || options->descriptors_count > WH_SPAWN_DESCRIPTORS_MAX ||
	    (options->descriptors_count > 0 && !options->descriptors))
		return -EINVAL;
	int above = 3;
	for (int i = 0; i < options->descriptors_count; i++) {
		int theirs = options->descriptors[i].theirs;
		if (theirs < 0 || theirs == INT_MAX || is_taken(options, i))
			return -EINVAL;
		if (theirs >= above)
			above = theirs + 1;
	}
	*ret_above = above;
	return 0;
}

static int make_sources(wh_loop *loop, struct setup *setup, const struct wh_spawn_options *options)
{
	int error = make_standard(loop, setup, options);
	for (int i = 0; i < options->descriptors_count && error == 0; i++) {
		const struct wh_spawn_descriptor *descriptor = &options->descriptors[i];
		int fd = fcntl(descriptor->ours, F_DUPFD_CLOEXEC, setup->above);
		error = add_source(setup, fd < 0 ? -errno : fd, descriptor->theirs);
	}
	return error;
}

static int spawn(const struct wh_spawn_options *options, const struct setup *setup, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
	int error = posix_spawn_file_actions_init(&actions);
	if (error != 0)
		return -error;
	error = posix_spawnattr_init(&attributes);
	sigemptyset(&none);
	sigfillset(&all);
	sigdelset(&all, SIGKILL);
	sigdelset(&all, SIGSTOP);
	for (int i = 0; i < setup->count && error == 0; i++)
		error = posix_spawn_file_actions_adddup2(&actions, setup->sources[i].ours,
		                                         setup->sources[i].theirs);
	if (error == 0 && options->directory)
		error = posix_spawn_file_actions_addchdir_np(&actions, options->directory);
	if (error == 0)
		error = posix_spawnattr_setsigmask(&attributes, &none);
	if (error == 0)
		error = posix_spawnattr_setsigdefault(&attributes, &all);
	if (options->new_session)
		flags |= POSIX_SPAWN_SETSID; /* with a group of its own */
	else if (options->new_group)
		flags |= POSIX_SPAWN_SETPGROUP;
	if (error == 0)
		error = posix_spawnattr_setflags(&attributes, flags);
	if (error == 0)
		error = posix_spawnp(ret_pid, options->argv[0], &actions, &attributes,
		                     (char *const *)(uintptr_t)options->argv,
		                     options->environment ? (char *const *)(uintptr_t)options->environment
		                                          : environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -error;
}

/* ---- children that end with their loop ------------------------------------------------------ */

static void forget(wh_loop *loop, pid_t pid)
{
	for (struct wh__child **link = &loop->children, *child; (child = *link); link = &child->next)
		if (child->pid == pid) {
			*link = child->next;
			close(child->pidfd);
			free(child);
			return;
		}
}

/* false: there is nothing to wait for. As long as the pidfd finds it, it has not been reaped, and the number is its own. */
static bool signal_child(const struct wh__child *child, int signal_number)
{
	if (child->group && syscall(SYS_pidfd_send_signal, child->pidfd, 0, NULL, 0) == 0 &&
	    getpgid(child->pid) == child->pid)
		return kill(-child->pid, signal_number) == 0;
	return syscall(SYS_pidfd_send_signal, child->pidfd, signal_number, NULL, 0) == 0;
}

static bool ends_by(const struct wh__child *child, int64_t until)
{
	struct pollfd pollfd = {.fd = child->pidfd, .events = POLLIN};
	for (;;) {
		struct timespec now;
		clock_gettime(CLOCK_MONOTONIC, &now);
		int64_t left = until - ((int64_t)now.tv_sec * WH_NS_PER_S + now.tv_nsec);
		int n = poll(&pollfd, 1, left > 0 ? (int)(left / WH_NS_PER_MS) + 1 : 0);
		if (n >= 0 || errno != EINTR)
			return n > 0;
	}
}

static void close_children(wh_loop *loop)
{
	struct timespec now;
	for (struct wh__child *child = loop->children; child; child = child->next)
		(void)signal_child(child, child->signal_number);
	clock_gettime(CLOCK_MONOTONIC, &now);
	int64_t until = (int64_t)now.tv_sec * WH_NS_PER_S + now.tv_nsec + CLOSE_GRACE_MS * WH_NS_PER_MS;
	while (loop->children) {
		struct wh__child *child = loop->children;
		bool ends = ends_by(child, until) ||
		            signal_child(child, SIGKILL); /* not if it has become another user's */
		while (waitpid(child->pid, NULL, ends ? 0 : WNOHANG) < 0 && errno == EINTR) {
		}
		forget(loop, child->pid);
	}
}

static int open_pidfd(pid_t pid)
{
	int fd = wh__above_standard((int)syscall(SYS_pidfd_open, pid, 0));
	return fd < 0 ? -errno : fd;
}

/* Takes record, which may be NULL: the child is not to end with the loop. Undoes itself on failure. */
static int follow(wh_loop *loop, const struct wh_spawn_options *options, struct wh__child *record, pid_t pid,
                  int *ret_pidfd)
{
	int for_caller = options->pidfd ? open_pidfd(pid) : -1;
	int error = options->pidfd && for_caller < 0 ? for_caller : 0;
	if (record && error == 0) {
		*record = (struct wh__child){loop->children, pid, open_pidfd(pid), options->kill_on_close,
		                             options->new_group || options->new_session};
		error = record->pidfd < 0 ? record->pidfd : 0;
	}
	if (error != 0) {
		if (for_caller >= 0)
			close(for_caller);
		free(record);
		return error;
	}
	if (record) {
		loop->children = record;
		loop->close_children = close_children;
	}
	if (for_caller >= 0)
		wh__descriptor_given(loop, for_caller);
	*ret_pidfd = for_caller;
	return 0;
}

int wh_spawn(wh_loop *loop, const struct wh_spawn_options *options, struct wh_child *ret)
{
	struct setup setup = {.parent = {-1, -1, -1}};
	struct wh__child *record = NULL;
	pid_t pid = 0;
	int pidfd = -1;
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	if (loop->engine->execute)
		return -ENOSYS; /* a simulated machine has one process */
	int error = check_options(options, &setup.above);
	if (error != 0)
		return error;
	if (options->kill_on_close != 0 && !(record = calloc(1, sizeof *record)))
		return -ENOMEM;
	error = make_sources(loop, &setup, options);
	if (error == 0)
		error = spawn(options, &setup, &pid);
	close_sources(&setup);
	if (error != 0) {
		free(record);
	} else {
		error = follow(loop, options, record, pid, &pidfd);
		if (error != 0) { /* nobody will know of it */
			(void)kill(pid, SIGKILL);
			while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
			}
		}
	}
	if (error != 0) {
		close_ends(setup.parent);
		return error;
	}
	*ret = (struct wh_child){pid, setup.parent[0], setup.parent[1], setup.parent[2], pidfd};
	return 0;
}

/* ---- waiting ---------------------------------------------------------------------------------- */

/* The slot that the caller sees; its fd is the pidfd, its len the future of the readiness. */
static void on_exited(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__op *op = arg;
	int64_t n = res.n;
	if (n >= 0) {
		int status = 0;
		pid_t pid = waitpid((pid_t)op->off, &status, WNOHANG);
		n = pid < 0 ? -errno : status;
		forget(loop, (pid_t)op->off); /* reaped, by us or by another */
	}
	(void)wh_drop(wh_close(loop, op->fd));
	wh__op_complete(op, n, NULL);
}

static void cancel_wait(struct wh__op *op)
{
	wh_cancel((wh_future){op->len});
}

wh_future wh_child_wait(wh_loop *loop, pid_t pid)
{
	wh_future f;
	struct wh__op *op = wh__begin(loop, WH__OP_CHILD, &f);
	if (!op)
		return f;
	if (pid <= 0 || loop->engine->execute)
		return wh__end(op, pid <= 0 ? -EINVAL : -ENOSYS);
	/* readable once the child has ended, and never another process, unlike the pid */
	int fd = open_pidfd(pid);
	if (fd < 0)
		return wh__end(op, fd == -ESRCH ? -ECHILD : fd);
	struct wh__op *ready = wh__op_new(loop, WH__OP_READY);
	if (!ready) {
		close(fd);
		return wh__end(op, -EAGAIN);
	}
	wh__descriptor_given(loop, fd);
	f = wh__op_future(op);
	op->fd = fd;
	op->off = (uint64_t)pid;
	op->cancel_inner = cancel_wait;
	op->len = wh__op_future(ready).id;
	ready->fd = fd;
	ready->len = POLLIN;
	ready->consumer = WH__CONSUMER_INTERNAL;
	ready->callback = on_exited;
	ready->arg = op;
	(void)wh__start(ready);
	return f;
}

int wh_child_kill(wh_loop *loop, pid_t pid, int signal_number)
{
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	if (pid == 0 || pid == -1)
		return -EINVAL; /* they mean others than a child, kill(2) */
	return kill(pid, signal_number) < 0 ? -errno : 0;
}
