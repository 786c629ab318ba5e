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
		ON_LOOP(many_children),
		ON_LOOP(a_signal_completes_its_waits),
		ON_LOOP(loops_share_a_signal),
		ON_LOOP(signals_from_another_thread),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
