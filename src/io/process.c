/* src/io/process.c -- child processes: posix_spawn(3), pipes, and a wait that is a future (pidfd_open(2), 5.3).
 *
 * Thread: loop. A child starts with default signal dispositions and an empty mask, whatever the loop's thread has.
 */
#include "runtime/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct pipes {
	int parent[3], child[3]; /* -1: none */
};

static void close_all(int fds[3])
{
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* Not 0 to 2, which the child sets up one after the other: what it has for one could be in the way of another. Gives fd or
 * its successor, or -errno. */
static int above_standard(int fd)
{
	if (fd < 0)
		return -errno;
	if (fd > 2)
		return fd;
	int above = fcntl(fd, F_DUPFD_CLOEXEC, 3), error = errno;
	close(fd);
	return above < 0 ? -error : above;
}

static int pipe_above_standard(int ends[2])
{
	int low[2], error = 0;
	if (pipe2(low, O_CLOEXEC) < 0)
		return -errno;
	for (int i = 0; i < 2; i++) {
		ends[i] = above_standard(low[i]);
		if (ends[i] < 0)
			error = ends[i];
	}
	for (int i = 0; i < 2 && error != 0; i++)
		if (ends[i] >= 0)
			close(ends[i]);
	return error;
}

static int make_pipe(wh_loop *loop, struct pipes *pipes, int which)
{
	int ends[2] = {-1, -1};
	int error = pipe_above_standard(ends);
	if (error != 0)
		return error;
	int ours = which == 0 ? ends[1] : ends[0];
	pipes->parent[which] = ours;
	pipes->child[which] = which == 0 ? ends[0] : ends[1];
	wh__descriptor_given(loop, ours);
	return fcntl(ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int make_pipes(wh_loop *loop, struct pipes *pipes, const struct wh_spawn_options *options)
{
	const bool wanted[3] = {options->pipe_in, options->pipe_out, options->pipe_err};
	const bool null[3] = {options->null_in, options->null_out, options->null_err};
	for (int i = 0; i < 3; i++) {
		if (wanted[i]) {
			int error = make_pipe(loop, pipes, i);
			if (error != 0)
				return error;
		} else if (null[i]) {
			int mode = i == 0 ? O_RDONLY : O_WRONLY;
			pipes->child[i] = above_standard(open("/dev/null", mode | O_CLOEXEC));
			if (pipes->child[i] < 0)
				return pipes->child[i];
		}
	}
	return 0;
}

static int spawn(const struct wh_spawn_options *options, const struct pipes *pipes, pid_t *ret_pid)
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
	for (int i = 0; i < 3 && error == 0; i++)
		if (pipes->child[i] >= 0)
			error = posix_spawn_file_actions_adddup2(&actions, pipes->child[i], i);
	if (error == 0 && options->directory)
		error = posix_spawn_file_actions_addchdir_np(&actions, options->directory);
	if (error == 0)
		error = posix_spawnattr_setsigmask(&attributes, &none);
	if (error == 0)
		error = posix_spawnattr_setsigdefault(&attributes, &all);
	if (options->new_group)
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

int wh_spawn(wh_loop *loop, const struct wh_spawn_options *options, struct wh_child *ret)
{
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	if (loop->engine->execute)
		return -ENOSYS; /* a simulated machine has one process */
	if (!options || !options->argv || !options->argv[0])
		return -EINVAL;
	struct pipes pipes = {{-1, -1, -1}, {-1, -1, -1}};
	pid_t pid = 0;
	int error = make_pipes(loop, &pipes, options);
	if (error == 0)
		error = spawn(options, &pipes, &pid);
	close_all(pipes.child);
	if (error != 0) {
		close_all(pipes.parent);
		return error;
	}
	*ret = (struct wh_child){pid, pipes.parent[0], pipes.parent[1], pipes.parent[2]};
	return 0;
}

/* The slot that the caller sees; its fd is the pidfd, its len the future of the readiness. */
static void on_exited(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__op *op = arg;
	int64_t n = res.n;
	if (n >= 0) {
		int status = 0;
		pid_t pid = waitpid((pid_t)op->off, &status, WNOHANG);
		n = pid < 0 ? -errno : status;
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
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return wh__end(op, errno == ESRCH ? -ECHILD : -errno);
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
