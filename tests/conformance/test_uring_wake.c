/* tests/conformance/test_uring_wake.c -- how another thread wakes a loop on a ring: by a message where the kernel takes them
 * from any thread, else by writing to a descriptor; whatever fails, no wake-up is lost.
 *
 * Each case runs in a child process, because filters cannot be taken back.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "whilst/whilst.h"

enum { REGISTER_SEND_MSG_RING = 31, ROUNDS = 200, TIME_LIMIT_S = 60 };

static wh_loop *home, *away;
static int left;
static wh_future done;

static void expect(bool true_one, const char *what)
{
	if (true_one)
		return;
	fprintf(stderr, "not so: %s\n", what);
	_exit(1);
}

/* From now on the call, with second as its second argument (-1: whatever that is), gives error on every thread. */
static void forbid(int call, int second, int error)
{
	const uint32_t refuse = SECCOMP_RET_ERRNO | (uint32_t)error;
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)second, 0, second < 0 ? 0 : 1),
		BPF_STMT(BPF_RET | BPF_K, refuse),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) {
		perror("seccomp");
		_exit(77);
	}
}

static void ping_home(void *arg);

static void ping_away(void *arg)
{
	if (wh_post(home, ping_home, NULL) != 0)
		abort();
}

static void ping_home(void *arg)
{
	if (--left == 0)
		(void)wh_resolve(done, 0, NULL);
	else if (wh_post(away, ping_away, NULL) != 0)
		abort();
}

static int64_t seven(void *arg)
{
	return 7;
}

/* Both loops wait nearly all the time: each post has to wake one. A worker wakes, too, and owns no loop. */
static void there_and_back(void)
{
	left = ROUNDS;
	done = wh_promise(home, NULL, NULL);
	expect(wh_post(away, ping_away, NULL) == 0, "a post is taken");
	expect(wh_await(done).n == 0, "every post has arrived");
	for (int i = 0; i < ROUNDS; i++)
		expect(wh_await(wh_work(home, seven, NULL)).n == 7, "work returns");
}

static void open_loops(void)
{
	struct wh_loop_options options = {.engine = WH_URING};
	expect(wh_loop_open(&home, &options) == 0 && wh_loop_start(&away, &options) == 0, "loops open");
	there_and_back(); /* and all threads are there */
}

static void close_loops(void)
{
	wh_loop_close(away);
	wh_loop_close(home);
	_exit(0);
}

/* Of an address that cannot be read only a kernel that would look at it complains. */
static bool kernel_takes_messages(void)
{
	return syscall(SYS_io_uring_register, -1, REGISTER_SEND_MSG_RING, 1, 1) < 0 && errno == EFAULT;
}

static void by_whatever_there_is(void)
{
	open_loops();
	close_loops();
}

/* Nobody can write, so it was a message. */
static void by_messages(void)
{
	if (!kernel_takes_messages())
		_exit(77);
	open_loops();
	forbid(SYS_write, -1, EIO);
	there_and_back();
	close_loops();
}

static void by_writing_where_messages_are_unknown(void)
{
	forbid(SYS_io_uring_register, REGISTER_SEND_MSG_RING, EINVAL);
	open_loops();
	close_loops();
}

/* They were taken when the ring was tried out, and are not any more: for want of memory, say. */
static void by_writing_when_messages_fail(void)
{
	open_loops();
	forbid(SYS_io_uring_register, REGISTER_SEND_MSG_RING, ENOMEM);
	there_and_back();
	close_loops();
}

static void run_in_child(void (*body)(void))
{
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		alarm(TIME_LIMIT_S); /* a wake-up that is lost would be waited for without end */
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

static void loops_wake_each_other(void **state)
{
	run_in_child(by_whatever_there_is);
}

static void messages_wake(void **state)
{
	run_in_child(by_messages);
}

static void writing_wakes_without_messages(void **state)
{
	run_in_child(by_writing_where_messages_are_unknown);
}

static void writing_wakes_when_messages_fail(void **state)
{
	run_in_child(by_writing_when_messages_fail);
}

int main(void)
{
	struct wh_loop_options options = {.engine = WH_URING};
	int error = wh_loop_open(&home, &options);
	if (error) {
		fprintf(stderr, "skipped: no io_uring here: %s\n", wh_strerror(error));
		return 77;
	}
	home = wh_loop_close(home);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loops_wake_each_other),
		cmocka_unit_test(messages_wake),
		cmocka_unit_test(writing_wakes_without_messages),
		cmocka_unit_test(writing_wakes_when_messages_fail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
