/* process.h -- signals and child processes.
 *
 * The words used here and the errors that every operation may give are told at the top of whilst.h, which includes
 * this header.
 */
#ifndef WHILST_PROCESS_H
#define WHILST_PROCESS_H

#include "whilst.h"

#ifdef __cplusplus
extern "C" {
#endif

/* n = signal_number at its next delivery. From the first wait on, the action that the signal had is off, between waits as
 * well, and a delivery between two waits is kept for the next. When the last loop that has waited for it is closed, that
 * action is back. Several waits, of one loop or of many, each complete with a delivery. Deliveries are not counted: those that
 * come before the loop has looked are one, as in signal(7). -EINVAL: no such signal, SIGKILL, SIGSTOP; -ENOMEM; -EMFILE. */
WH_API wh_future wh_signal(wh_loop *loop, int signal_number);

/* A descriptor of ours, and the number it has in the child. */
struct wh_spawn_descriptor {
	int ours, theirs;
};
/* The most that one child is given. */
enum { WH_SPAWN_DESCRIPTORS_MAX = 64 };

/* Of all other descriptors of ours the child gets those that are not close-on-exec, as is whatever libwhilst opens. */
struct wh_spawn_options {
	const char *const *argv; /* argv[0] is looked up in PATH; NULL-terminated; borrowed for the call */
	const char *const *environment;   /* NULL: ours */
	const char *directory;            /* NULL: ours */
	bool pipe_in, pipe_out, pipe_err; /* else inherited; a pipe not wanted may be /dev/null: see null_* */
	bool null_in, null_out, null_err;
	bool new_group; /* own process group: a terminal's Ctrl-C does not reach it */
	/* Further descriptors; numbers may overlap, each theirs once. They stay ours as well, to use and to close; the open
	 * file description, with its O_NONBLOCK, is shared with the child. Borrowed for the call. */
	const struct wh_spawn_descriptor *descriptors;
	int descriptors_count; /* 0 to WH_SPAWN_DESCRIPTORS_MAX */
	bool new_session;      /* setsid(2): no controlling terminal; implies new_group */
	bool pidfd;            /* give wh_child.pidfd */
	/* Not 0: a signal that the child, with its group if it has its own, gets when the loop is closed before
	 * wh_child_wait() has reaped it. wh_loop_close() then waits for its end, sends SIGKILL after a second,
	 * and reaps it. 0: it is left alone. */
	int kill_on_close;
};
struct wh_child {
	pid_t pid;
	/* our ends of the pipes, non-blocking; -1 when not asked for; close with wh_close() */
	int in, out, err;
	int pidfd; /* pidfd_open(2), close-on-exec; -1 when not asked for; close with wh_close() */
};
/* posix_spawnp(3); 0 or -errno, and no child then: -ENOENT, -EACCES, -ENOTDIR, -E2BIG as of execve(2) and chdir(2); -EINVAL
 * for options that contradict each other, or a number theirs that is not below RLIMIT_NOFILE; -EBADF for a descriptor that
 * is not open; -EMFILE (a pidfd that cannot be had ends a child that has just begun). ret is untouched on failure.
 * Thread: loop. Cost: blocks until the child runs the program, some 100 us. */
WH_API int wh_spawn(wh_loop *loop, const struct wh_spawn_options *options, struct wh_child *ret) WH_MUST_USE;
/* n = wait status as of waitpid(2); reaps it. -ECHILD: no child of this process, or another has reaped it; -EINVAL */
WH_API wh_future wh_child_wait(wh_loop *loop, pid_t pid);
/* kill(2), of the whole group if pid is negative; 0; -ESRCH (nobody), -EPERM, -EINVAL. Only before wh_child_wait() has completed is the number
 * sure to be the child's. */
WH_API int wh_child_kill(wh_loop *loop, pid_t pid, int signal_number);

#ifdef __cplusplus
}
#endif
#endif
