/* tests/conformance/test_process.c -- child processes and signals. */
#include "conformance.h"

#include <signal.h>
#include <sys/wait.h>

static int64_t read_to_end(int fd, char *buf, size_t len)
{
	size_t got = 0;
	for (;;) {
		int64_t n = wh_await(wh_read(loop, fd, buf + got, len - got)).n;
		if (n <= 0)
			return n < 0 ? n : (int64_t)got;
		got += (size_t)n;
	}
}

static void a_child_talks_through_pipes(void **state)
{
	const char *const argv[] = {"sh", "-c",
	                            "read line; echo \"out $line\"; echo \"err $line\" >&2; exit 7", NULL};
	struct wh_spawn_options options = {.argv = argv, .pipe_in = true, .pipe_out = true, .pipe_err = true};
	struct wh_child child;
	char buf[64] = {0};
	int before = open_fd_count();
	assert_int_equal(wh_spawn(loop, &options, &child), 0);
	assert_true(child.pid > 0 && child.in >= 0 && child.out >= 0 && child.err >= 0);
	wh_future ended = wh_child_wait(loop, child.pid);
	assert_int_equal(wh_await(wh_write_all(loop, child.in, "hello\n", 6)).n, 6);
	assert_int_equal(read_to_end(child.out, buf, sizeof buf), 10);
	assert_string_equal(buf, "out hello\n");
	memset(buf, 0, sizeof buf);
	assert_int_equal(read_to_end(child.err, buf, sizeof buf), 10);
	assert_string_equal(buf, "err hello\n");
	int64_t status = wh_await(ended).n;
	assert_true(WIFEXITED((int)status));
	assert_int_equal(WEXITSTATUS((int)status), 7);
	close_fd(child.in);
	close_fd(child.out);
	close_fd(child.err);
	assert_int_equal(wh_await(wh_child_wait(loop, child.pid)).n, -ECHILD);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before);
}

static void what_a_child_is_given(void **state)
{
	const char *const argv[] = {"sh", "-c", "pwd; echo $COLOUR; ls /proc/self/fd | wc -l; cat", NULL};
	const char *const environment[] = {"COLOUR=blue", "PATH=/usr/bin:/bin", NULL};
	struct wh_spawn_options options = {.argv = argv,
	                                   .environment = environment,
	                                   .directory = "/",
	                                   .pipe_out = true,
	                                   .null_in = true,
	                                   .null_err = true,
	                                   .new_group = true};
	struct wh_child child;
	char buf[256] = {0}, expected[64];
	int inherited = 0;
	for (int fd = 3; fd < 1024; fd++) /* of whoever started this test */
		inherited += fcntl(fd, F_GETFD) == 0;
	assert_int_equal(wh_spawn(loop, &options, &child), 0);
	assert_int_equal(child.in, -1);
	assert_int_equal(child.err, -1);
	assert_int_equal(getpgid(child.pid), child.pid);
	assert_true(read_to_end(child.out, buf, sizeof buf - 1) > 0);
	/* 0 to 2, and the directory itself: nothing of ours */
	snprintf(expected, sizeof expected, "/\nblue\n%d\n", 4 + inherited);
	assert_string_equal(buf, expected);
	assert_true(wh_await(wh_child_wait(loop, child.pid)).n >= 0);
	close_fd(child.out);
}

static void a_child_starts_with_default_signals(void **state)
{
	const char *const argv[] = {"sh", "-c", "kill -TERM $$; sleep 60", NULL};
	struct wh_spawn_options options = {.argv = argv};
	struct wh_child child;
	sigset_t term, before;
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &term, &before);
	assert_int_equal(wh_spawn(loop, &options, &child), 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	int64_t status = wh_await(wh_child_wait(loop, child.pid)).n;
	assert_true(WIFSIGNALED((int)status));
	assert_int_equal(WTERMSIG((int)status), SIGTERM);
}

static void standard_descriptors_may_be_closed_here(void **state)
{
	/* our ends and the child's must not get in each other's way */
	int saved[3];
	const char *const argv[] = {"cat", NULL};
	struct wh_spawn_options options = {.argv = argv, .pipe_in = true, .pipe_out = true, .pipe_err = true};
	struct wh_child child;
	char buf[16] = {0};
	for (int i = 0; i < 3; i++) {
		saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
		close(i);
	}
	int error = wh_spawn(loop, &options, &child);
	for (int i = 0; i < 3; i++) {
		dup2(saved[i], i);
		close(saved[i]);
	}
	assert_int_equal(error, 0);
	assert_true(child.in > 2 && child.out > 2 && child.err > 2);
	assert_int_equal(wh_await(wh_write_all(loop, child.in, "through", 7)).n, 7);
	close_fd(child.in);
	assert_int_equal(read_to_end(child.out, buf, sizeof buf), 7);
	assert_string_equal(buf, "through");
	assert_int_equal(wh_await(wh_child_wait(loop, child.pid)).n, 0);
	close_fd(child.out);
	close_fd(child.err);
}

static void nothing_is_in_the_way_of_a_pipe(void **state)
{
	/* /dev/null would be opened as our missing 0, where the child sets up its pipe first */
	const char *const argv[] = {"sh", "-c", "out=$(readlink /proc/$$/fd/1); echo $out >&2", NULL};
	struct wh_spawn_options options = {.argv = argv, .pipe_in = true, .null_out = true, .pipe_err = true};
	struct wh_child child;
	char buf[64] = {0};
	int saved = fcntl(0, F_DUPFD_CLOEXEC, 10);
	close(0);
	int error = wh_spawn(loop, &options, &child);
	dup2(saved, 0);
	close(saved);
	assert_int_equal(error, 0);
	close_fd(child.in);
	assert_true(read_to_end(child.err, buf, sizeof buf - 1) > 0);
	assert_string_equal(buf, "/dev/null\n");
	assert_int_equal(wh_await(wh_child_wait(loop, child.pid)).n, 0);
	close_fd(child.err);
}

static void errors_of_children(void **state)
{
	const char *const none[] = {"whilst-there-is-no-such-program", NULL}, *const nothing[] = {NULL},
			  *const sleeper[] = {"sleep", "60", NULL};
	struct wh_spawn_options options = {.argv = none, .pipe_out = true};
	struct wh_child child = {.pid = 42};
	int before = open_fd_count();
	assert_int_equal(wh_spawn(loop, &options, &child), -ENOENT);
	options.argv = nothing;
	assert_int_equal(wh_spawn(loop, &options, &child), -EINVAL);
	assert_int_equal(wh_spawn(loop, NULL, &child), -EINVAL);
	options = (struct wh_spawn_options){.argv = sleeper, .directory = "/no/such/directory"};
	assert_int_equal(wh_spawn(loop, &options, &child), -ENOENT);
	assert_int_equal(child.pid, 42);
	assert_int_equal(wh_await(wh_child_wait(loop, -5)).n, -EINVAL);
	assert_int_equal(wh_await(wh_child_wait(loop, 0x7ffffff0)).n, -ECHILD);
	/* a wait that is given up leaves the child to another */
	options = (struct wh_spawn_options){.argv = sleeper};
	assert_int_equal(wh_spawn(loop, &options, &child), 0);
	wh_future f = wh_child_wait(loop, child.pid);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	f = wh_deadline(wh_child_wait(loop, child.pid), wh_clock(loop) + WH_NS_PER_MS);
	assert_int_equal(wh_await(f).n, -ETIMEDOUT);
	f = wh_child_wait(loop, child.pid);
	assert_int_equal(kill(child.pid, SIGKILL), 0);
	assert_int_equal(WTERMSIG((int)wh_await(f).n), SIGKILL);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before);
}

static void errors_of_programs(void **state)
{
	enum { TOO_LONG = 16 << 20 }; /* more than a program's arguments may have, execve(2) */
	struct wh_child child = {.pid = 42};
	char *long_text = malloc(TOO_LONG);
	assert_non_null(long_text);
	memset(long_text, 'x', TOO_LONG - 1);
	long_text[TOO_LONG - 1] = 0;
	const struct {
		const char *argv[3];
		int error;
	} cases[] = {
		{{"/no/such/program"}, -ENOENT},     {{"/etc/passwd"}, -EACCES},    {{"/etc"}, -EACCES},
		{{"/etc/passwd/program"}, -ENOTDIR}, {{"true", long_text}, -E2BIG},
	};
	int before = open_fd_count();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wh_spawn_options options = {.argv = cases[i].argv,
		                                   .pipe_in = true,
		                                   .pipe_out = true,
		                                   .null_err = true,
		                                   .pidfd = true,
		                                   .kill_on_close = SIGKILL};
		assert_int_equal(wh_spawn(loop, &options, &child), cases[i].error);
		options = (struct wh_spawn_options){.argv = cases[i].argv, .directory = "/etc/passwd"};
		assert_int_equal(wh_spawn(loop, &options, &child), -ENOTDIR);
	}
	free(long_text);
	assert_int_equal(child.pid, 42);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* none is left behind */
	assert_int_equal(errno, ECHILD);
	assert_int_equal(open_fd_count(), before);
}

static void a_child_gets_descriptors(void **state)
{
	/* a number of ours is another's number in the child, and the other way round */
	int first[2], second[2];
	assert_int_equal(pipe2(first, O_CLOEXEC), 0);
	assert_int_equal(pipe2(second, O_CLOEXEC), 0);
	char code[160], buf[8] = {0};
	snprintf(code, sizeof code, "echo one >&%d; echo two >&%d", second[1], first[1]);
	const char *const argv[] = {"bash", "-c", code, NULL};
	const struct wh_spawn_descriptor swapped[] = {{first[1], second[1]}, {second[1], first[1]}};
	struct wh_spawn_options options = {.argv = argv, .descriptors = swapped, .descriptors_count = 2};
	struct wh_child child;
	int before = open_fd_count();
	assert_int_equal(wh_spawn(loop, &options, &child), 0);
	assert_int_equal(open_fd_count(), before);
	assert_int_equal(wh_await(wh_child_wait(loop, child.pid)).n, 0);
	close_fd(first[1]);
	close_fd(second[1]);
	assert_int_equal(read_to_end(first[0], buf, sizeof buf), 4);
	assert_memory_equal(buf, "one\n", 4);
	assert_int_equal(read_to_end(second[0], buf, sizeof buf), 4);
	assert_memory_equal(buf, "two\n", 4);
	close_fd(first[0]);
	close_fd(second[0]);
}

static void a_child_gets_no_other_descriptor(void **state)
{
	const char *const argv[] = {"ls", "/proc/self/fd", NULL};
	int pair[2], inherited = 0;
	char buf[1024] = {0};
	struct wh_child child, running;
	for (int fd = 3; fd < 1024; fd++) /* of whoever started this test */
		inherited += fcntl(fd, F_GETFD) >= 0 && !(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	make_pair(pair);
	const char *const sleeper[] = {"sleep", "60", NULL};
	struct wh_spawn_options options = {
		.argv = sleeper, .pipe_in = true, .pipe_out = true, .pidfd = true, .kill_on_close = SIGKILL};
	wh_future wait = wh_signal(loop, SIGUSR1),
		  read = wh_recv(loop, pair[0], buf, 1); /* the engine's own */
	assert_int_equal(wh_spawn(loop, &options, &running), 0);
	const struct wh_spawn_descriptor one[] = {{pair[0], 700}};
	options = (struct wh_spawn_options){.argv = argv,
	                                    .pipe_in = true,
	                                    .pipe_out = true,
	                                    .pipe_err = true,
	                                    .descriptors = one,
	                                    .descriptors_count = 1};
	assert_int_equal(wh_spawn(loop, &options, &child), 0);
	assert_true(read_to_end(child.out, buf, sizeof buf - 1) > 0);
	int lines = 0;
	for (char *at = buf; *at; at++)
		lines += *at == '\n';
	assert_int_equal(lines, 5 + inherited); /* 0 to 2, 700, the directory */
	assert_non_null(strstr(buf, "\n700\n"));
	assert_int_equal(wh_await(wh_child_wait(loop, child.pid)).n, 0);
	assert_int_equal(wh_drop(wait), 0);
	wh_cancel(read);
	assert_int_equal(wh_await(read).n, -ECANCELED);
	assert_int_equal(wh_child_kill(loop, running.pid, SIGKILL), 0);
	assert_int_equal(wh_await(wh_child_wait(loop, running.pid)).n, SIGKILL);
	const int ours[] = {child.in,   child.out,   child.err,     pair[0],
	                    running.in, running.out, running.pidfd, pair[1]};
	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		close_fd(ours[i]);
}

static void wrong_descriptors(void **state)
{
	const char *const argv[] = {"true", NULL};
	struct wh_child child = {.pid = 42};
	const struct {
		struct wh_spawn_descriptor descriptors[2];
		int count, error;
	} cases[] = {
		{{{0, -1}}, 1, -EINVAL},
		{{{0, 9}, {1, 9}}, 2, -EINVAL},
		{{{0, 0}}, 1, -EINVAL},
		/* a pipe */ {{{0, 1000000000}}, 1, -EINVAL},
		{{{0, 9}, {1000000, 10}}, 2, -EBADF},
		{{{-1, 9}}, 1, -EBADF},
		{{{0, 9}}, -1, -EINVAL},
		{{{0, 9}}, WH_SPAWN_DESCRIPTORS_MAX + 1, -EINVAL},
	};
	int before = open_fd_count();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wh_spawn_options options = {.argv = argv,
		                                   .pipe_in = true,
		                                   .descriptors = cases[i].descriptors,
		                                   .descriptors_count = cases[i].count};
		assert_int_equal(wh_spawn(loop, &options, &child), cases[i].error);
	}
	struct wh_spawn_options options = {.argv = argv, .descriptors_count = 1};
	assert_int_equal(wh_spawn(loop, &options, &child), -EINVAL);
	options = (struct wh_spawn_options){.argv = argv, .kill_on_close = 65};
	assert_int_equal(wh_spawn(loop, &options, &child), -EINVAL);
	assert_int_equal(child.pid, 42);
	assert_int_equal(open_fd_count(), before);
}

static void a_session_and_a_pidfd(void **state)
{
	const char *const argv[] = {"cat", NULL};
	struct wh_spawn_options options = {
		.argv = argv, .pipe_in = true, .new_session = true, .new_group = true, .pidfd = true};
	struct wh_child child;
	assert_int_equal(wh_spawn(loop, &options, &child), 0);
	assert_int_equal(getsid(child.pid), child.pid);
	assert_int_equal(getpgid(child.pid), child.pid);
	assert_true(child.pidfd >= 0 && (fcntl(child.pidfd, F_GETFD) & FD_CLOEXEC));
	wh_future ended = wh_ready(loop, child.pidfd, POLLIN);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	assert_false(wh_done(ended));
	close_fd(child.in);
	assert_true(wh_await(ended).n & POLLIN);
	assert_int_equal(wh_await(wh_child_wait(loop, child.pid)).n, 0);
	close_fd(child.pidfd);
}

/* What the child has written says that it is as far as it should be. */
static pid_t start_and_hear(wh_loop *of, const char *code, int signal_number, bool group)
{
	const char *const argv[] = {"bash", "-c", code, NULL};
	struct wh_spawn_options options = {
		.argv = argv, .pipe_out = true, .kill_on_close = signal_number, .new_group = group};
	struct wh_child child;
	char buf[8];
	assert_int_equal(wh_spawn(of, &options, &child), 0);
	assert_int_equal(wh_await(wh_read(of, child.out, buf, 1)).n, 1);
	assert_int_equal(wh_await(wh_close(of, child.out)).n, 0);
	return child.pid;
}

static void children_end_with_their_loop(void **state)
{
	wh_loop *other;
	int before = open_fd_count(), words[2];
	assert_int_equal(wh_loop_open(&other, NULL), 0);
	assert_int_equal(pipe2(words, O_NONBLOCK), 0); /* children hold its end for writing */
	char code[200], buf[16];
	snprintf(code, sizeof code,
	         "trap 'echo -n term >&%d; exit' TERM; echo; while :; do read -t 60 <> <(:); done", words[1]);
	pid_t polite = start_and_hear(other, code, SIGTERM, false);
	pid_t stubborn = start_and_hear(other, "trap '' TERM; echo; exec sleep 60", SIGTERM, false);
	pid_t family = start_and_hear(other, "sleep 60 & sleep 60 & echo; wait", SIGKILL, true);
	pid_t reaped = start_and_hear(other, "echo; exec sleep 60", SIGKILL, false);
	pid_t alone = start_and_hear(other, "echo; exec sleep 60", 0, false);
	assert_int_equal(kill(reaped, SIGKILL), 0);
	assert_int_equal(wh_await(wh_child_wait(other, reaped)).n, SIGKILL);
	wh_future wait = wh_child_wait(other, family); /* that has not reaped it */
	assert_false(wh_done(wait));
	close(words[1]);
	wh_loop_close(other);
	const pid_t gone[] = {polite, stubborn, family, reaped};
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(waitpid(gone[i], NULL, 0), -1);
		assert_int_equal(errno, ECHILD);
	}
	assert_int_equal(waitpid(alone, NULL, WNOHANG), 0);
	assert_int_equal(kill(alone, SIGKILL), 0);
	assert_int_equal(waitpid(alone, NULL, 0), alone);
	/* the group's others as well: nobody holds the pipe */
	assert_int_equal(read_to_end(words[0], buf, sizeof buf), 4);
	assert_memory_equal(buf, "term", 4);
	close_fd(words[0]);
	assert_int_equal(open_fd_count(), before);
}

static void much_goes_through_both_ways(void **state)
{
	enum { BYTES = 10 << 20 };
	const char *const argv[] = {"cat", NULL};
	struct wh_spawn_options options = {.argv = argv, .pipe_in = true, .pipe_out = true};
	struct wh_child child;
	char *sent = malloc(BYTES), *got = malloc(BYTES + 1);
	assert_non_null(sent);
	assert_non_null(got);
	for (int i = 0; i < BYTES; i++)
		sent[i] = (char)(i * 31 >> 7);
	assert_int_equal(wh_spawn(loop, &options, &child), 0);
	wh_future written = wh_write_all(loop, child.in, sent, BYTES);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	assert_false(wh_done(written)); /* nobody reads: it waits */
	for (size_t have = 0; have < BYTES;) {
		int64_t n = wh_await(wh_read(loop, child.out, got + have, BYTES + 1 - have)).n;
		assert_true(n > 0);
		have += (size_t)n;
	}
	assert_int_equal(wh_await(written).n, BYTES);
	close_fd(child.in);
	assert_int_equal(wh_await(wh_read(loop, child.out, got + BYTES, 1)).n, 0);
	assert_int_equal(wh_await(wh_child_wait(loop, child.pid)).n, 0);
	assert_memory_equal(sent, got, BYTES);
	close_fd(child.out);
	free(sent);
	free(got);
}

static void many_children(void **state)
{
	enum { CHILDREN = 20 };
	wh_future fs[CHILDREN];
	wh_res results[CHILDREN];
	for (int i = 0; i < CHILDREN; i++) {
		char code[16];
		snprintf(code, sizeof code, "exit %d", i);
		const char *const argv[] = {"sh", "-c", code, NULL};
		struct wh_spawn_options options = {.argv = argv};
		struct wh_child child;
		assert_int_equal(wh_spawn(loop, &options, &child), 0);
		fs[i] = wh_child_wait(loop, child.pid);
	}
	assert_int_equal(wh_await(wh_all(loop, fs, CHILDREN, results)).n, 0);
	for (int i = 0; i < CHILDREN; i++)
		assert_int_equal(WEXITSTATUS((int)results[i].n), i);
}

/* ---- signals ---- */

static void a_signal_completes_its_waits(void **state)
{
	wh_future first = wh_signal(loop, SIGUSR1), second = wh_signal(loop, SIGUSR1),
		  other = wh_signal(loop, SIGHUP);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	assert_false(wh_done(first));
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(wh_await(first).n, SIGUSR1);
	assert_int_equal(wh_await(second).n, SIGUSR1);
	assert_false(wh_done(other));
	assert_int_equal(kill(getpid(), SIGHUP), 0);
	assert_int_equal(wh_await(other).n, SIGHUP);
	/* between two waits it is kept, not lost, and does not end us */
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(wh_await(wh_signal(loop, SIGUSR1)).n, SIGUSR1);
	first = wh_signal(loop, SIGUSR1);
	wh_cancel(first);
	assert_int_equal(wh_await(first).n, -ECANCELED);
	first = wh_signal(loop, SIGUSR1);
	assert_int_equal(wh_drop(first), 0);
	assert_int_equal(wh_loop_run(loop), 0); /* a wait that is given up is not pending */
	first = wh_deadline(wh_signal(loop, SIGUSR1), wh_clock(loop) + WH_NS_PER_MS);
	assert_int_equal(wh_await(first).n, -ETIMEDOUT);
	first = wh_signal(loop, SIGUSR1);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(wh_await(first).n, SIGUSR1);
	const int wrong[] = {0, -1, SIGKILL, SIGSTOP, 65, 1000};
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(wh_await(wh_signal(loop, wrong[i])).n, -EINVAL);
}

static void loops_share_a_signal(void **state)
{
	wh_loop *other;
	assert_int_equal(wh_loop_open(&other, NULL), 0);
	wh_future here = wh_signal(loop, SIGUSR1), there = wh_signal(other, SIGUSR1);
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(wh_await(there).n, SIGUSR1);
	assert_int_equal(wh_await(here).n, SIGUSR1);
	(void)wh_signal(other, SIGUSR1);
	wh_loop_close(other); /* cancelled with its loop */
	assert_int_equal(raise(SIGUSR1), 0);
	assert_int_equal(wh_await(wh_signal(loop, SIGUSR1)).n, SIGUSR1);
}

static int handled;
static void on_usr2(int signal_number)
{
	handled++;
}

static void the_action_from_before_is_back(void **state)
{
	struct sigaction ours = {.sa_handler = on_usr2}, default_action = {.sa_handler = SIG_DFL}, now;
	wh_loop *loops[2];
	assert_int_equal(sigaction(SIGUSR2, &ours, NULL), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(wh_loop_open(&loops[i], NULL), 0);
		(void)wh_signal(loops[i], SIGUSR2);
		(void)wh_signal(loops[i], SIGURG);
	}
	handled = 0;
	wh_loop_close(loops[0]);
	wh_future f = wh_signal(loops[1], SIGUSR2);
	assert_int_equal(raise(SIGUSR2), 0);
	assert_int_equal(wh_await(f).n, SIGUSR2); /* the other loop still waits */
	assert_int_equal(handled, 0);
	wh_loop_close(loops[1]);
	assert_int_equal(raise(SIGUSR2), 0);
	assert_int_equal(handled, 1);
	assert_int_equal(sigaction(SIGURG, NULL, &now), 0);
	assert_true(now.sa_handler == SIG_DFL);
	/* what somebody else has set meanwhile stays */
	assert_int_equal(sigaction(SIGUSR2, &default_action, NULL), 0);
	assert_int_equal(wh_loop_open(&loops[0], NULL), 0);
	(void)wh_signal(loops[0], SIGUSR2);
	assert_int_equal(sigaction(SIGUSR2, &ours, NULL), 0);
	wh_loop_close(loops[0]);
	assert_int_equal(sigaction(SIGUSR2, NULL, &now), 0);
	assert_true(now.sa_handler == on_usr2);
	assert_int_equal(sigaction(SIGUSR2, &default_action, NULL), 0);
}

static void deliveries_are_not_counted(void **state)
{
	wh_future first[3];
	for (int i = 0; i < 3; i++)
		first[i] = wh_signal(loop, SIGUSR1);
	for (int i = 0; i < 100000; i++) /* more than a pipe holds */
		raise(SIGUSR1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wh_await(first[i]).n, SIGUSR1);
	wh_future next = wh_signal(loop, SIGUSR1);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	assert_false(wh_done(next)); /* they were one */
	wh_cancel(next);
	assert_int_equal(wh_await(next).n, -ECANCELED);
}

static void *send_signals(void *arg)
{
	for (int i = 0; i < 1000; i++)
		kill(getpid(), SIGUSR1);
	return NULL;
}

static void signals_from_another_thread(void **state)
{
	pthread_t thread;
	for (int round = 0; round < 10; round++) {
		wh_future f = wh_signal(loop, SIGUSR1);
		assert_int_equal(pthread_create(&thread, NULL, send_signals, NULL), 0);
		assert_int_equal(wh_await(f).n, SIGUSR1);
		pthread_join(thread, NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(a_child_talks_through_pipes),
		ON_LOOP(what_a_child_is_given),
		ON_LOOP(a_child_starts_with_default_signals),
		ON_LOOP(standard_descriptors_may_be_closed_here),
		ON_LOOP(nothing_is_in_the_way_of_a_pipe),
		ON_LOOP(errors_of_children),
		ON_LOOP(errors_of_programs),
		ON_LOOP(a_child_gets_descriptors),
		ON_LOOP(a_child_gets_no_other_descriptor),
		ON_LOOP(wrong_descriptors),
		ON_LOOP(a_session_and_a_pidfd),
		ON_LOOP(children_end_with_their_loop),
		ON_LOOP(much_goes_through_both_ways),
		ON_LOOP(many_children),
		ON_LOOP(a_signal_completes_its_waits),
		ON_LOOP(loops_share_a_signal),
		ON_LOOP(the_action_from_before_is_back),
		ON_LOOP(deliveries_are_not_counted),
		ON_LOOP(signals_from_another_thread),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
