/* tests/conformance/test_uring.c -- what is particular to the io_uring engine: a ring that is too small for what is
 * asked of it, buffers that run out, a process that forks.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "whilst/whilst.h"

/* The smallest ring has room for 21 waiting operations. */
enum { ENTRIES = 32, PAIRS = 200 };

static wh_loop *loop;
static int pairs[PAIRS][2];

static int set_up(void **state)
{
	struct wh_loop_options options = {.engine = WH_URING, .ring_entries = ENTRIES};
	assert_int_equal(wh_loop_open(&loop, &options), 0);
	for (int i = 0; i < PAIRS; i++)
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pairs[i]),
		                 0);
	return 0;
}

static int tear_down(void **state)
{
	for (int i = 0; i < PAIRS; i++) {
		if (pairs[i][0] >= 0)
			close(pairs[i][0]);
		if (pairs[i][1] >= 0)
			close(pairs[i][1]);
	}
	loop = wh_loop_close(loop);
	return 0;
}

static void more_waits_than_room(void **state)
{
	wh_future receives[PAIRS];
	char bytes[PAIRS][8];
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < PAIRS; i++)
			receives[i] = wh_recv(loop, pairs[i][0], bytes[i], sizeof bytes[i]);
		assert_true(wh_loop_turn(loop, 0) >= 0);
		for (int i = PAIRS - 1; i >= 0; i--) { /* those without room first */
			char text[8];
			int len = snprintf(text, sizeof text, "%d", i);
			assert_int_equal(write(pairs[i][1], text, (size_t)len), len);
		}
		for (int i = 0; i < PAIRS; i++) {
			wh_res res = wh_await(receives[i]);
			assert_true(res.n > 0);
			bytes[i][res.n] = 0;
			assert_int_equal(atoi(bytes[i]), i);
		}
	}
}

static void more_buffers_than_given(void **state)
{
	wh_future receives[PAIRS];
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < PAIRS; i++)
			receives[i] = wh_recv_buf(loop, pairs[i][0]);
		assert_true(wh_loop_turn(loop, 0) >= 0);
		for (int i = 0; i < PAIRS; i++)
			assert_int_equal(write(pairs[i][1], &i, sizeof i), sizeof i);
		struct wh_buf *bufs[PAIRS]; /* all at once in use */
		for (int i = 0; i < PAIRS; i++) {
			wh_res res = wh_await(receives[i]);
			assert_int_equal(res.n, sizeof i);
			bufs[i] = res.ptr;
			assert_int_equal(bufs[i]->len, sizeof i);
			assert_memory_equal(bufs[i]->data, &i, sizeof i);
		}
		for (int i = 0; i < PAIRS; i++)
			wh_buf_put(bufs[i]);
	}
}

static void both_directions_beside_the_ring(void **state)
{
	static char big[1 << 20], back[1 << 20];
	wh_future receives[PAIRS];
	char byte[PAIRS];
	for (size_t i = 0; i < sizeof big; i++)
		big[i] = (char)(i * 7 + i / 256);
	for (int i = 0; i < PAIRS; i++) /* fill the ring */
		receives[i] = wh_recv(loop, pairs[i][0], &byte[i], 1);
	/* Too much for the socket's buffer: the send waits, on the descriptor on which a receive waits. */
	int last = PAIRS - 1;
	wh_future send = wh_send_all(loop, pairs[last][0], big, sizeof big);
	size_t done = 0;
	while (done < sizeof back) {
		wh_res res = wh_await(wh_recv(loop, pairs[last][1], back + done, sizeof back - done));
		assert_true(res.n > 0);
		done += (size_t)res.n;
	}
	assert_int_equal(wh_await(send).n, sizeof big);
	assert_memory_equal(big, back, sizeof big);
	for (int i = 0; i < PAIRS; i++) {
		assert_int_equal(write(pairs[i][1], "x", 1), 1);
		assert_int_equal(wh_await(receives[i]).n, 1);
	}
}

static void cancel_on_and_beside_the_ring(void **state)
{
	wh_future receives[PAIRS];
	char byte[PAIRS];
	for (int i = 0; i < PAIRS; i++)
		receives[i] = wh_recv(loop, pairs[i][0], &byte[i], 1);
	assert_true(wh_loop_turn(loop, 0) >= 0);
	for (int i = 0; i < PAIRS; i++)
		wh_cancel(receives[i]);
	for (int i = 0; i < PAIRS; i++)
		assert_int_equal(wh_await(receives[i]).n, -ECANCELED);
	for (int i = 0; i < PAIRS; i++) { /* and the room is free again */
		wh_future receive = wh_recv(loop, pairs[i][0], &byte[i], 1);
		assert_int_equal(write(pairs[i][1], "x", 1), 1);
		assert_int_equal(wh_await(receive).n, 1);
	}
}

static void close_on_and_beside_the_ring(void **state)
{
	wh_future receives[PAIRS], closes[PAIRS];
	char byte[PAIRS];
	for (int i = 0; i < PAIRS; i++)
		receives[i] = wh_recv(loop, pairs[i][0], &byte[i], 1);
	assert_true(wh_loop_turn(loop, 0) >= 0);
	for (int i = 0; i < PAIRS; i++) {
		closes[i] = wh_close(loop, pairs[i][0]);
		pairs[i][0] = -1;
	}
	for (int i = 0; i < PAIRS; i++) {
		assert_int_equal(wh_await(closes[i]).n, 0);
		assert_true(wh_done(receives[i]));
		assert_int_equal(wh_await(receives[i]).n, -ECANCELED);
		assert_int_equal(read(pairs[i][1], &byte[i], 1), 0); /* really closed */
	}
}

static void more_file_operations_than_room(void **state)
{
	enum { BLOCKS = 1000 };
	static uint32_t written[BLOCKS][128], read_back[BLOCKS][128];
	char path[] = "/tmp/whilst-test-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	unlink(path);
	wh_future futures[BLOCKS];
	for (uint32_t i = 0; i < BLOCKS; i++) {
		for (uint32_t k = 0; k < 128; k++)
			written[i][k] = i * 131 + k;
		futures[i] = wh_pwrite_all(loop, fd, written[i], sizeof written[i], i * sizeof written[i]);
	}
	for (uint32_t i = 0; i < BLOCKS; i++)
		assert_int_equal(wh_await(futures[i]).n, sizeof written[i]);
	assert_int_equal(wh_await(wh_fsync(loop, fd, true)).n, 0);
	for (uint32_t i = 0; i < BLOCKS; i++)
		futures[i] =
			wh_pread_all(loop, fd, read_back[i], sizeof read_back[i], i * sizeof read_back[i]);
	wh_future closed = wh_close(loop, fd); /* cancels what has not begun, and waits for the rest */
	for (uint32_t i = 0; i < BLOCKS; i++) {
		wh_res res = wh_await(futures[i]);
		if (res.n == -ECANCELED)
			continue;
		assert_int_equal(res.n, sizeof read_back[i]);
		assert_memory_equal(read_back[i], written[i], sizeof written[i]);
	}
	assert_int_equal(wh_await(closed).n, 0);
}

/* Ten thousand at once on the smallest ring, cancelled, ended and begun anew in between: what the completion queue has
 * room for is never exceeded. */
static void ten_thousand_on_the_smallest_ring(void **state)
{
	enum { MANY = 10000 };
	static wh_future ready[MANY];
	struct wh_stats stats;
	int ended = 0, cancelled = 0;
	for (int i = 0; i < MANY; i++)
		ready[i] = wh_ready(loop, pairs[i % PAIRS][0], POLLIN);
	assert_true(wh_loop_turn(loop, 0) >= 0);
	wh_stats(loop, &stats);
	assert_int_equal(stats.classes[WH_CLASS_SOCKET].in_flight, MANY);
	assert_true(stats.engine.spilled > MANY - 64);
	for (int i = 0; i < MANY; i += 2) /* all on the descriptors of even number */
		wh_cancel(ready[i]);
	for (int i = 1; i < PAIRS; i += 2)
		assert_int_equal(write(pairs[i][1], "x", 1), 1);
	for (int i = 0; i < MANY; i++) {
		int64_t n = wh_await(ready[i]).n;
		assert_true(n == POLLIN || n == -ECANCELED);
		ended += n == POLLIN;
		cancelled += n == -ECANCELED;
		if (i % 100 == 1) /* and others begin meanwhile */
			assert_int_equal(wh_await(wh_ready(loop, pairs[1][0], POLLIN)).n, POLLIN);
	}
	assert_int_equal(ended, MANY / 2);
	assert_int_equal(cancelled, MANY / 2);
	wh_stats(loop, &stats);
	assert_int_equal(stats.engine.overflows, 0);
	assert_true(stats.engine.submissions > 0 && stats.engine.events > 0);
}

/* Waiting operations leave room for files. */
static void files_go_on_while_all_wait(void **state)
{
	wh_future receives[PAIRS];
	char byte[PAIRS], zero[16];
	for (int i = 0; i < PAIRS; i++)
		receives[i] = wh_recv(loop, pairs[i][0], &byte[i], 1);
	wh_res opened = wh_await(wh_open(loop, "/dev/zero", O_RDONLY, 0));
	assert_true(opened.n >= 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(wh_await(wh_pread(loop, (int)opened.n, zero, sizeof zero, 0)).n,
		                 sizeof zero);
	assert_int_equal(wh_await(wh_close(loop, (int)opened.n)).n, 0);
	for (int i = 0; i < PAIRS; i++)
		wh_cancel(receives[i]);
	for (int i = 0; i < PAIRS; i++)
		assert_int_equal(wh_await(receives[i]).n, -ECANCELED);
}

/* Threads that the kernel has made for the rings of this process. */
static int kernel_workers(void)
{
	int count = 0;
	DIR *tasks = opendir("/proc/self/task");
	assert_non_null(tasks);
	for (struct dirent *entry; (entry = readdir(tasks));) {
		char path[sizeof entry->d_name + 32], name[16] = {0};
		snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0) /* it has ended */
			continue;
		count += read(fd, name, sizeof name - 1) > 0 && strncmp(name, "iou-wrk", 7) == 0;
		close(fd);
	}
	closedir(tasks);
	return count;
}

/* The most kernel workers that were there at once, or -1. One that has just ended is still to be seen, beside whoever took its
 * place: what is too many on a second look, and a third, was too many. */
static int most_workers(wh_loop *bounded, int fd, int bound)
{
	enum { CALLS = 400, LOOKS = 100 };
	char block[4096] = {1};
	wh_future calls[CALLS];
	int most = 0;
	for (int i = 0; i < CALLS; i++)
		calls[i] =
			i % 2 ? wh_fsync(bounded, fd, true)
			      : wh_pwrite_all(bounded, fd, block, sizeof block, (uint64_t)i * sizeof block);
	for (int i = 0; i < CALLS; i++) {
		if (wh_await(calls[i]).n != (i % 2 ? 0 : (int)sizeof block))
			return -1;
		int count = kernel_workers();
		for (int look = 0; look < LOOKS && count > bound; look++)
			count = kernel_workers();
		most = count > most ? count : most;
	}
	return most;
}

/* Left to itself the kernel makes hundreds for so many writes and syncs. A thread's rings share them, and those of a ring with
 * another bound stay for seconds: so this is done by a child, which has none. */
static void kernel_workers_are_bounded(void **state)
{
	enum { WORKERS = 2, BOUND = 2 * WORKERS /* a limit for what ends soon, and one for what may last */ };
	wh_loop *bounded;
	struct wh_loop_options options = {.engine = WH_URING, .file_workers_max = WORKERS};
	char path[] = "/tmp/whilst-test-XXXXXX";
	/* the limit came with 5.15, and is promised of rings that WH_AUTO takes */
	unsetenv("WHILST_ENGINE");
	assert_int_equal(wh_loop_open(&bounded, NULL), 0);
	bool is_old = strcmp(wh_engine_name(bounded), "uring") != 0;
	wh_loop_close(bounded);
	if (is_old)
		skip();
	int status, fd = mkstemp(path);
	assert_true(fd >= 0);
	unlink(path);
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		int most = wh_loop_open(&bounded, &options) == 0 ? most_workers(bounded, fd, BOUND) : -1;
		_exit(most >= 0 && most < 100 ? most : 100);
	}
	close(fd);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_in_range(WEXITSTATUS(status), 0, BOUND);
}

/* A child that inherits the ring cannot submit to it, and takes nothing from its parent. */
static void forked_child_does_no_harm(void **state)
{
	char byte;
	wh_future receive = wh_recv(loop, pairs[0][0], &byte, 1);
	assert_true(wh_loop_turn(loop, 0) >= 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		wh_res res = wh_await(wh_sleep(loop, 0));
		_exit(res.n == -EPERM && wh_loop_turn(loop, 0) == -EPERM ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(write(pairs[0][1], "x", 1), 1);
	assert_int_equal(wh_await(receive).n, 1);
}

/* From now on whoever asks for something to be registered at a ring ends; messages (31) go to one, but ask nothing of it. */
static void end_who_registers(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_register, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 31, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) {
		perror("seccomp");
		_exit(77);
	}
}

static int64_t seven(void *arg)
{
	return 7;
}

static bool all_kinds_of_work_do(void)
{
	int ends[2], own[2];
	char bytes[8];
	wh_loop *fresh = NULL;
	struct wh_loop_options options = {.engine = WH_URING};
	if (wh_loop_open(&fresh, &options) != 0 || wh_socket_pair(fresh, SOCK_STREAM, ends) != 0 ||
	    wh_socket_pair(fresh, SOCK_STREAM, own) != 0)
		return false;
	end_who_registers();
	wh_future waits = wh_recv_buf(fresh, ends[1]),
		  own_buffer = wh_recv(fresh, own[1], bytes, sizeof bytes);
	bool good = wh_await(wh_work(fresh, seven, NULL)).n == 7 &&
	            wh_await(wh_send_all(fresh, ends[0], "data", 4)).n == 4 &&
	            wh_await(wh_send_all(fresh, own[0], "more", 4)).n == 4 && wh_await(own_buffer).n == 4;
	wh_res res = wh_await(waits);
	good = good && res.n == 4 && res.ptr;
	wh_buf_put(res.ptr);
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	good = good && wh_await(wh_pread(fresh, file, bytes, sizeof bytes, 0)).n == sizeof bytes;
	for (int i = 0; i < 2; i++)
		good = good && wh_await(wh_close(fresh, ends[i])).n == 0 &&
		       wh_await(wh_close(fresh, own[i])).n == 0;
	close(file);
	return good; /* the loop ends with the process: closing takes back what was registered */
}

/* Before 2023 a kernel that did not know what was to be registered waited for all that was on the ring to end, and so
 * for ever. Of later ones none can tell: so nothing at all is, once the loop is there. */
static void a_ring_in_use_registers_nothing(void **state)
{
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(all_kinds_of_work_do() ? 0 : 1);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	struct wh_loop_options options = {.engine = WH_URING};
	int error = wh_loop_open(&loop, &options);
	if (error) {
		fprintf(stderr, "skipped: no io_uring here: %s\n", wh_strerror(error));
		return 77;
	}
	loop = wh_loop_close(loop);
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 4 * PAIRS) {
		limit.rlim_cur = limit.rlim_max < 4 * PAIRS ? limit.rlim_max : 4 * PAIRS;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(more_waits_than_room, set_up, tear_down),
		cmocka_unit_test_setup_teardown(more_buffers_than_given, set_up, tear_down),
		cmocka_unit_test_setup_teardown(both_directions_beside_the_ring, set_up, tear_down),
		cmocka_unit_test_setup_teardown(cancel_on_and_beside_the_ring, set_up, tear_down),
		cmocka_unit_test_setup_teardown(close_on_and_beside_the_ring, set_up, tear_down),
		cmocka_unit_test_setup_teardown(more_file_operations_than_room, set_up, tear_down),
		cmocka_unit_test_setup_teardown(ten_thousand_on_the_smallest_ring, set_up, tear_down),
		cmocka_unit_test_setup_teardown(files_go_on_while_all_wait, set_up, tear_down),
		cmocka_unit_test_setup_teardown(kernel_workers_are_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(forked_child_does_no_harm, set_up, tear_down),
		cmocka_unit_test(a_ring_in_use_registers_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
