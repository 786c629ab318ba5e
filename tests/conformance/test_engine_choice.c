/* tests/conformance/test_engine_choice.c -- which engine a loop gets, and what it says when it is not the best one.
 *
 * Each case runs in a child process, because filters and limits cannot be taken back.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "whilst/whilst.h"

struct notices {
	int count;
	char last[512];
};

static void on_notice(int level, const char *message, void *arg)
{
	struct notices *notices = arg;
	notices->count++;
	snprintf(notices->last, sizeof notices->last, "%s", message);
}

static void expect(bool true_one, const char *what, const struct notices *notices)
{
	if (true_one)
		return;
	fprintf(stderr, "not so: %s (%d notices, last \"%s\")\n", what, notices->count, notices->last);
	_exit(1);
}

/* WH_AUTO gives epoll, with one notice that has hint in it; forcing uring gives error. */
static void expect_fallback(const char *hint, int error)
{
	struct notices notices = {0};
	struct wh_loop_options options = {.log = on_notice, .log_arg = &notices};
	wh_loop *loop = NULL;
	expect(wh_loop_open(&loop, &options) == 0, "WH_AUTO opens", &notices);
	expect(strcmp(wh_engine_name(loop), "epoll") == 0, "the engine is epoll", &notices);
	expect(notices.count == 1 && strstr(notices.last, hint), hint, &notices);
	expect(wh_await(wh_sleep(loop, 1000)).n == 0, "it works", &notices);
	wh_loop_close(loop);

	loop = NULL;
	options.engine = WH_URING;
	int result = wh_loop_open(&loop, &options);
	expect(result == error, "a forced engine reports its error", &notices);
	expect(!loop, "the result is untouched", &notices);
	_exit(0);
}

/* From now on the system call gives error instead of running. */
static void forbid(int call, int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
		perror("seccomp");
		_exit(77);
	}
}

static void lock_at_most(rlim_t bytes)
{
	struct rlimit limit = {.rlim_cur = bytes, .rlim_max = bytes};
	const struct passwd *nobody = getpwnam("nobody");
	if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
	    (geteuid() == 0 && (!nobody || setgid(nobody->pw_gid) != 0 || setuid(nobody->pw_uid) != 0))) {
		perror("cannot give up privileges");
		_exit(77);
	}
}

static bool uring_works(void)
{
	wh_loop *loop = NULL;
	struct wh_loop_options options = {.engine = WH_URING};
	if (wh_loop_open(&loop, &options) != 0)
		return false;
	wh_loop_close(loop);
	return true;
}

/* From Linux 6.1 on; before, WH_AUTO has refused it already for what it lacks. */
static bool auto_takes_uring(void)
{
	wh_loop *loop = NULL;
	unsetenv("WHILST_ENGINE");
	assert_int_equal(wh_loop_open(&loop, NULL), 0);
	bool is_uring = strcmp(wh_engine_name(loop), "uring") == 0;
	wh_loop_close(loop);
	return is_uring;
}

static void run_in_child(void (*body)(void))
{
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		unsetenv("WHILST_ENGINE");
		body();
		_exit(1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void setup_forbidden(void)
{
	forbid(SYS_io_uring_setup, EPERM);
	expect_fallback("seccomp", -EPERM);
}

static void setup_unknown(void)
{
	forbid(SYS_io_uring_setup, ENOSYS);
	expect_fallback("io_uring", -ENOSYS);
}

static void use_forbidden(void)
{
	forbid(SYS_io_uring_enter, EPERM);
	expect_fallback("kernel.io_uring_disabled", -EPERM);
}

static void register_forbidden(void)
{
	forbid(SYS_io_uring_register, EPERM);
	expect_fallback("seccomp", -EPERM);
}

static void nothing_lockable(void)
{
	lock_at_most(0);
	if (uring_works()) {
		fprintf(stderr, "this kernel does not charge rings to RLIMIT_MEMLOCK\n");
		_exit(77);
	}
	expect_fallback("ulimit -l", -ENOMEM);
}

/* The kernel gives back the memory of a ring that was closed a little later: until then there may be too little for the next. */
static wh_loop *open_on_ring(void)
{
	wh_loop *loop = NULL;
	struct wh_loop_options options = {.engine = WH_URING};
	while (wh_loop_open(&loop, &options) != 0)
		sched_yield();
	return loop;
}

/* Enough for a smaller ring: it is taken, without a notice, down to what holds the smallest; and it serves as many. */
static void little_lockable(void)
{
	static const rlim_t bytes[] = {128 * 1024, 64 * 1024, 32 * 1024, 16 * 1024};
	enum { WAITS = 2000 };
	static wh_future ready[WAITS];
	struct notices notices = {0};
	struct wh_loop_options options = {.log = on_notice, .log_arg = &notices};
	for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
		wh_loop *loop = NULL;
		int fds[2];
		lock_at_most(bytes[i]);
		if (i == 0) {
			expect(wh_loop_open(&loop, &options) == 0, "WH_AUTO opens", &notices);
			expect(strcmp(wh_engine_name(loop), "uring") == 0, "the engine is uring", &notices);
			expect(notices.count == 0, "nothing to say", &notices);
		} else {
			loop = open_on_ring();
		}
		expect(pipe(fds) == 0, "a pipe", &notices);
		for (int k = 0; k < WAITS; k++)
			ready[k] = wh_ready(loop, fds[0], POLLIN);
		expect(write(fds[1], "x", 1) == 1, "a byte", &notices);
		for (int k = 0; k < WAITS; k++)
			expect(wh_await(ready[k]).n == POLLIN, "it works", &notices);
		wh_loop_close(loop);
		close(fds[0]);
		close(fds[1]);
	}
	_exit(0);
}

static void named_by_environment(void)
{
	static const char *const names[] = {"sync", "threads", "epoll"};
	struct notices notices = {0};
	struct wh_loop_options options = {.log = on_notice, .log_arg = &notices};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		wh_loop *loop = NULL;
		setenv("WHILST_ENGINE", names[i], 1);
		expect(wh_loop_open(&loop, &options) == 0, "opens", &notices);
		expect(strcmp(wh_engine_name(loop), names[i]) == 0, "the engine is the one named", &notices);
		wh_loop_close(loop);
	}
	expect(notices.count == 0, "nothing to say", &notices);
	_exit(0);
}

/* A name means that engine, not the best there is. */
static void named_but_refused(void)
{
	wh_loop *loop = NULL;
	forbid(SYS_io_uring_setup, EPERM);
	setenv("WHILST_ENGINE", "uring", 1);
	int result = wh_loop_open(&loop, NULL);
	_exit(result == -EPERM && !loop ? 0 : 1);
}

/* The others are made of plain system calls: a debugger that records those, as rr does, sees everything. */
static void rings_forbidden(void)
{
	static const int engines[] = {WH_SYNC, WH_THREADS, WH_EPOLL};
	struct notices notices = {0};
	forbid(SYS_io_uring_setup, EPERM);
	forbid(SYS_io_uring_enter, EPERM);
	forbid(SYS_io_uring_register, EPERM);
	for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
		wh_loop *loop = NULL;
		char byte;
		int fds[2];
		struct wh_loop_options options = {
			.engine = engines[i], .log = on_notice, .log_arg = &notices};
		expect(wh_loop_open(&loop, &options) == 0, "opens", &notices);
		expect(wh_pipe(loop, fds) == 0, "a pipe", &notices);
		wh_future reading = wh_read(loop, fds[0], &byte, 1);
		expect(wh_await(wh_write_all(loop, fds[1], "x", 1)).n == 1, "writes", &notices);
		expect(wh_await(reading).n == 1, "reads", &notices);
		expect(wh_await(wh_fsync(loop, fds[0], false)).n == -EINVAL, "a worker answers", &notices);
		expect(wh_await(wh_close(loop, fds[0])).n == 0, "closes", &notices);
		expect(wh_await(wh_close(loop, fds[1])).n == 0, "closes", &notices);
		wh_loop_close(loop);
	}
	expect(notices.count == 0, "nothing to say", &notices);
	_exit(0);
}

static void only_uring_makes_rings(void **state)
{
	run_in_child(rings_forbidden);
}

static void falls_back_when_setup_is_forbidden(void **state)
{
	run_in_child(setup_forbidden);
}

static void falls_back_when_setup_is_unknown(void **state)
{
	run_in_child(setup_unknown);
}

static void falls_back_when_a_ring_cannot_be_used(void **state)
{
	if (!auto_takes_uring())
		skip();
	run_in_child(use_forbidden);
}

static void falls_back_when_a_ring_cannot_be_asked(void **state)
{
	if (!auto_takes_uring())
		skip();
	run_in_child(register_forbidden);
}

static void falls_back_when_nothing_can_be_locked(void **state)
{
	run_in_child(nothing_lockable);
}

static void shrinks_when_little_can_be_locked(void **state)
{
	if (!auto_takes_uring())
		skip();
	run_in_child(little_lockable);
}

static void environment_names_the_engine(void **state)
{
	run_in_child(named_by_environment);
}

static void environment_is_obeyed_or_fails(void **state)
{
	run_in_child(named_but_refused);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(falls_back_when_setup_is_forbidden),
		cmocka_unit_test(falls_back_when_setup_is_unknown),
		cmocka_unit_test(falls_back_when_a_ring_cannot_be_used),
		cmocka_unit_test(falls_back_when_a_ring_cannot_be_asked),
		cmocka_unit_test(falls_back_when_nothing_can_be_locked),
		cmocka_unit_test(shrinks_when_little_can_be_locked),
		cmocka_unit_test(environment_names_the_engine),
		cmocka_unit_test(environment_is_obeyed_or_fails),
		cmocka_unit_test(only_uring_makes_rings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
