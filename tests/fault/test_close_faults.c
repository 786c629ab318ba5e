/* tests/fault/test_close_faults.c -- a descriptor is closed also when there is no memory for a future.
 *
 * Every slot of the loop is taken, and every allocation fails: then descriptors are closed on which nothing is under way, a receive,
 * a file's flush, or several operations. Each must be closed, at once or when what was on it has ended, which is told. On each engine.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "allocations.h"
#include "whilst/whilst.h"

enum { PROMISES_MAX = 5000 };

static wh_loop *loop;
static wh_future promises[PROMISES_MAX];
static size_t promise_count;

/* From here on until memory_is_back() no future can be had. */
static void memory_is_gone(void)
{
	wh_res res = {0, NULL};

	atomic_store(&calls, 0);
	atomic_store(&fail_each, 1);
	atomic_store(&fail_end, INT_MAX);
	atomic_store(&fail_at, 1);
	for (;;) {
		wh_future f = wh_promise(loop, NULL, NULL);

		if (wh_poll(f, &res))
			break;
		assert_true(promise_count < PROMISES_MAX);
		promises[promise_count++] = f;
	}
	assert_int_equal(res.n, -ENOMEM);
}

static void memory_is_back(void)
{
	atomic_store(&fail_at, 0);
	while (promise_count > 0)
		assert_int_equal(wh_drop(promises[--promise_count]), 0);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int open_loop(void **state)
{
	loop = NULL;
	int error = wh_loop_open(&loop, NULL);

	return error;
}

static int close_loop(void **state)
{
	loop = wh_loop_close(loop);
	return 0;
}

static void with_nothing_on_it(void **state)
{
	int fds[2], file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char byte;

	assert_true(file >= 0);
	assert_int_equal(wh_socket_pair(loop, SOCK_STREAM, fds), 0);
	/* what is known of a descriptor, and what is not */
	assert_int_equal(wh_await(wh_send(loop, fds[1], "x", 1)).n, 1);
	assert_int_equal(wh_await(wh_recv(loop, fds[0], &byte, 1)).n, 1);
	memory_is_gone();
	assert_int_equal(wh_await(wh_close(loop, fds[0])).n, 0);
	assert_int_equal(wh_drop(wh_close(loop, fds[1])), 0);
	assert_int_equal(wh_close_now(loop, file), 0);
	assert_int_equal(wh_await(wh_close(loop, -1)).n, -EBADF);
	assert_int_equal(wh_await(wh_close(loop, fds[0])).n, -EBADF);
	assert_false(is_open(fds[0]));
	assert_false(is_open(fds[1]));
	assert_false(is_open(file));
	memory_is_back();
}

static void on_closed(wh_loop *l, wh_res res, void *arg)
{
	*(int64_t *)arg = res.n;
}

/* All ways of consuming what closing gives. */
static void consumed(void **state)
{
	int fds[2];
	wh_res res = {1, NULL};

	assert_int_equal(wh_socket_pair(loop, SOCK_STREAM, fds), 0);
	memory_is_gone();
	wh_future f = wh_close(loop, fds[0]);
	assert_true(wh_done(f));
	assert_true(wh_poll(f, &res));
	assert_int_equal(res.n, 0);
	memory_is_back();
	memory_is_gone();
	f = wh_close(loop, fds[1]);
	memory_is_back();
	assert_int_equal(wh_await(wh_all(loop, &f, 1, &res)).n, 0);
	assert_int_equal(res.n, 0);
	int64_t told = 1;
	assert_int_equal(wh_then(f, on_closed, &told), 0);
	assert_int_equal(told, 1);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(told, 0);
}

static void closed_with_others_on_it(wh_future *fs, size_t count, int fd)
{
	wh_res res[4];

	memory_is_gone();
	int64_t n = wh_await(wh_close(loop, fd)).n;
	assert_true(n == 0 || n == -EINPROGRESS);
	assert_int_equal(is_open(fd), n != 0);
	if (n != 0) { /* it is being closed */
		assert_int_equal(wh_await(wh_close(loop, fd)).n, -EBADF);
		assert_int_equal(wh_close_now(loop, fd), -EBADF);
	}
	memory_is_back();
	if (n != 0)
		assert_int_equal(wh_await(wh_fstat(loop, fd, &(struct wh_stat){0})).n, -EBADF);
	for (size_t i = 0; i < count; i++)
		res[i] = wh_await(fs[i]);
	assert_false(is_open(fd));
	for (size_t i = 0; i < count; i++)
		assert_true(res[i].n == -ECANCELED || res[i].n == 0);
}

static void with_a_receive_on_it(void **state)
{
	static char bytes[10];
	int fds[2];

	assert_int_equal(wh_socket_pair(loop, SOCK_STREAM, fds), 0);
	wh_future f = wh_recv(loop, fds[0], bytes, sizeof bytes);
	(void)wh_loop_turn(loop, 0);
	closed_with_others_on_it(&f, 1, fds[0]);
	assert_int_equal(wh_await(wh_close(loop, fds[1])).n, 0);
}

static void with_several_on_it(void **state)
{
	static char bytes[10];
	int fds[2];

	assert_int_equal(wh_socket_pair(loop, SOCK_STREAM, fds), 0);
	wh_future fs[] = {wh_recv(loop, fds[0], bytes, sizeof bytes), wh_ready(loop, fds[0], POLLIN),
	                  wh_ready(loop, fds[0], POLLIN)};
	(void)wh_loop_turn(loop, 0);
	closed_with_others_on_it(fs, 3, fds[0]);
	assert_int_equal(wh_await(wh_close(loop, fds[1])).n, 0);
}

static void with_a_flush_on_it(void **state)
{
	int file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(file >= 0);
	assert_int_equal(wh_await(wh_pwrite_all(loop, file, "hello", 5, 0)).n, 5);
	wh_future f = wh_fsync(loop, file, true);
	closed_with_others_on_it(&f, 1, file);
}

/* Nobody waits for what was on it: closing the loop ends it, and closes. */
static void the_loop_goes_meanwhile(void **state)
{
	static char bytes[10];
	int fds[2];

	assert_int_equal(wh_socket_pair(loop, SOCK_STREAM, fds), 0);
	wh_future f = wh_recv(loop, fds[0], bytes, sizeof bytes);
	(void)wh_loop_turn(loop, 0);
	memory_is_gone();
	assert_int_equal(wh_close_now(loop, fds[0]), 0);
	memory_is_back();
	(void)f;
	loop = wh_loop_close(loop);
	assert_false(is_open(fds[0]));
	close(fds[1]);
	assert_int_equal(open_loop(NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_nothing_on_it),   cmocka_unit_test(consumed),
		cmocka_unit_test(with_a_receive_on_it), cmocka_unit_test(with_several_on_it),
		cmocka_unit_test(with_a_flush_on_it),   cmocka_unit_test(the_loop_goes_meanwhile)};

	alarm(100);
	if (wh_loop_open(&loop, NULL) != 0) {
		printf("skipped: no such engine here\n");
		return 77;
	}
	loop = wh_loop_close(loop);
	return cmocka_run_group_tests(tests, open_loop, close_loop);
}
