/* tests/fault/test_runtime_faults.c -- every allocation and every system call below the runtime fails, one at a time.
 *
 * The linker puts a function of this file before each function that the library calls (faults.h). A script does
 * one of everything; for each function and each of its errors the first call fails, then the second, ... until the script
 * ends without a failure. Every future must complete once, with its true result or a documented error; nothing may be
 * leaked (memory, descriptors), nothing may crash or hang. An error that is to be tried again must not be seen at all.
 *
 * WHILST_FAULT=function:errno:n repeats one.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "whilst/whilst.h"

/* ---- the functions in between -------------------------------------------------------------- */

enum function {
#define FAULT(name, ...) FAULT_##name,
#include "faults.h"
#undef FAULT
	FUNCTIONS,
	FAULT_NONE = -1
};

static const struct {
	const char *name;
	int errors[6];
} functions[FUNCTIONS] = {
#define FAULT(name, type, failed, parameters, arguments, ...) {#name, {__VA_ARGS__}},
#include "faults.h"
#undef FAULT
};

static atomic_int chosen = FAULT_NONE;
static atomic_int calls;
static int fail_at, fail_error;
static atomic_bool hit;

static bool fails(enum function function)
{
	if (atomic_load(&chosen) != (int)function || atomic_fetch_add(&calls, 1) + 1 != fail_at)
		return false;
	atomic_store(&hit, true);
	errno = fail_error < 0 ? -fail_error : fail_error;
	return true;
}

int __real_close(int fd);

/* Linux closes the descriptor even when it says EINTR. */
static int close_anyway(int fd)
{
	int error = errno;
	__real_close(fd);
	errno = error;
	return -1;
}

#define FAULT(name, type, failed, parameters, arguments, ...)                        \
	type __real_##name parameters;                                               \
	type __wrap_##name parameters;                                               \
	type __wrap_##name parameters                                                \
	{                                                                            \
		return fails(FAULT_##name) ? (type)failed : __real_##name arguments; \
	}
#include "faults.h"
#undef FAULT

/* ---- the script --------------------------------------------------------------------------- */

static char folder[] = "/tmp/whilst-fault-XXXXXX";
static wh_loop *loop;
static int problems; /* results that are not right when nothing fails */
static char first_problem[200];

static const char *function_name = "";

static void problem(const char *what, int64_t n)
{
	if (problems++ == 0)
		snprintf(first_problem, sizeof first_problem, "%s gives %lld, %s", what, (long long)n,
		         n < 0 ? wh_strerror(n) : "");
}

/* Is it an error that may come of this fault? */
static bool is_documented(int64_t n)
{
	int injected = fail_error < 0 ? -fail_error : fail_error;
	return n == -injected || n == -EAGAIN || n == -ENOMEM || n == -ENOBUFS || n == -ECANCELED ||
	       n == -EPIPE || n == -ECONNRESET || n == -ENOENT;
}

static bool expect_at_least(const char *what, int64_t n, int64_t least)
{
	if (n >= least)
		return true;
	if (n >= 0 || !is_documented(n)) {
		fprintf(stderr, "WHILST_FAULT=%s:%d:%d: %s: an undocumented %lld\n", function_name,
		        fail_error, fail_at, what, (long long)n);
		abort();
	}
	problem(what, n);
	return false;
}

#define must_give(f, least) expect_at_least(#f, wh_await(f).n, least)

static const char *in_folder(const char *name)
{
	static char path[2][80];
	static int which;
	which = !which;
	snprintf(path[which], sizeof path[which], "%s/%s", folder, name);
	return path[which];
}

static void use_files(void)
{
	char bytes[100] = "whilst";
	struct iovec iov[2] = {{bytes, 10}, {bytes + 50, 20}};
	int64_t fd = wh_await(wh_open(loop, in_folder("file"), O_RDWR | O_CREAT | O_TRUNC, 0600)).n;
	if (!expect_at_least("open", fd, 0))
		return;
	int file = (int)fd;
	must_give(wh_pwrite_all(loop, file, bytes, sizeof bytes, 0), 100);
	must_give(wh_pwrite(loop, file, bytes, 10, 0), 1);
	must_give(wh_fsync(loop, file, true), 0);
	must_give(wh_fsync(loop, file, false), 0);
	must_give(wh_allocate(loop, file, 0, 8192), 0);
	must_give(wh_truncate(loop, file, 100), 0);
	must_give(wh_size(loop, file), 100);
	must_give(wh_lock(loop, file), 0);
	must_give(wh_disk_free(loop, file), 0);
	must_give(wh_pread_all(loop, file, bytes, 100, 0), 0);
	must_give(wh_pread(loop, file, bytes, 10, 0), 0);
	expect_at_least("pwrite_blocking", wh_pwrite_blocking(loop, file, bytes, 10, 5), 10);
	expect_at_least("pwritev_blocking", wh_pwritev_blocking(loop, file, iov, 2, 5), 30);
	expect_at_least("pread_blocking", wh_pread_blocking(loop, file, bytes, 10, 5), 0);
	expect_at_least("fsync_blocking", wh_fsync_blocking(loop, file, true), 0);
	/* several under way, one of them cancelled */
	wh_future fs[3] = {wh_pread_all(loop, file, bytes, 10, 0), wh_fsync(loop, file, false),
	                   wh_pread_all(loop, file, bytes + 20, 10, 0)};
	wh_cancel(fs[2]);
	wh_res results[3];
	wh_res all = wh_await(wh_all_settled(loop, fs, 3, results));
	expect_at_least("all_settled", all.n, 1);
	must_give(wh_close(loop, file), 0);
}

/* vectors, appends, copies */
static void use_content(void)
{
	char bytes[100] = "whilst";
	struct iovec iov[2] = {{bytes, 10}, {bytes + 50, 20}};
	int64_t fd = wh_await(wh_open(loop, in_folder("file"), O_RDWR | O_CREAT | O_TRUNC, 0600)).n;
	if (!expect_at_least("open", fd, 0))
		return;
	int file = (int)fd;
	must_give(wh_append_durable(loop, file, bytes, 100, 0), 100);
	must_give(wh_pwritev_all(loop, file, iov, 2, 100), 30);
	must_give(wh_preadv_all(loop, file, iov, 2, 0), 30);
	must_give(wh_allocate_mode(loop, file, WH_ALLOCATE_KEEP_SIZE, 0, 8192), 0);
	must_give(wh_advise(loop, file, 0, 0, POSIX_FADV_NORMAL), 0);
	must_give(wh_sync_range(loop, file, 0, 10, SYNC_FILE_RANGE_WRITE), 0);
	must_give(wh_lock_shared(loop, file), 0);
	must_give(wh_unlock(loop, file), 0);
	must_give(wh_fchmod(loop, file, 0600), 0);
	must_give(wh_fchown(loop, file, UINT32_MAX, UINT32_MAX), 0);
	must_give(wh_fset_times(loop, file, WH_TIME_NOW, WH_TIME_KEEP), 0);
	must_give(wh_copy_range(loop, file, 1000, file, 0, 50), 50);
	must_give(wh_writev_all(loop, file, iov, 2), 30);
	must_give(wh_readv(loop, file, iov, 2), 0);
	must_give(wh_close(loop, file), 0);
	must_give(wh_copy_file(loop, in_folder("file"), in_folder("copy"), true), 0);
	(void)__real_unlink(in_folder("copy"));
}

static void use_links(void)
{
	char text[100], path[100];
	struct wh_stat status;
	must_give(wh_stat(loop, folder, &status), 0);
	must_give(wh_access(loop, folder, R_OK), 0);
	must_give(wh_chmod(loop, folder, 0700), 0);
	must_give(wh_chown(loop, folder, UINT32_MAX, UINT32_MAX), 0);
	must_give(wh_set_times(loop, folder, WH_TIME_NOW, WH_TIME_NOW), 0);
	must_give(wh_link(loop, in_folder("file"), in_folder("link")), 0);
	must_give(wh_symlink(loop, "file", in_folder("symbolic")), 0);
	must_give(wh_readlink(loop, in_folder("symbolic"), text, sizeof text), 4);
	must_give(wh_realpath(loop, folder, text, sizeof text), 4);
	snprintf(path, sizeof path, "%s/t-XXXXXX", folder);
	int64_t fd = wh_await(wh_make_temporary(loop, path, 0)).n;
	if (expect_at_least("make_temporary", fd, 0)) {
		must_give(wh_close(loop, (int)fd), 0);
		(void)__real_unlink(path);
	}
	snprintf(path, sizeof path, "%s/t-XXXXXX", folder);
	if (must_give(wh_make_temporary_directory(loop, path), 0))
		(void)rmdir(path);
	fd = wh_await(wh_open(loop, folder, O_RDONLY | O_DIRECTORY, 0)).n;
	if (expect_at_least("open", fd, 0)) {
		wh_res res = wh_await(wh_list_next(loop, (int)fd));
		if (expect_at_least("list_next", res.n, 0))
			wh_entries_free(res.ptr);
		must_give(wh_close(loop, (int)fd), 0);
	}
	(void)__real_unlink(in_folder("link"));
	(void)__real_unlink(in_folder("symbolic"));
}

static void use_names(void)
{
	must_give(wh_mkdir(loop, in_folder("dir"), 0700), 0);
	int64_t fd = wh_await(wh_open(loop, in_folder("dir/a"), O_RDWR | O_CREAT, 0600)).n;
	if (expect_at_least("open", fd, 0))
		must_give(wh_close(loop, (int)fd), 0);
	must_give(wh_rename(loop, in_folder("dir/a"), in_folder("dir/b")), 0);
	wh_res res = wh_await(wh_list(loop, in_folder("dir")));
	if (expect_at_least("list", res.n, 0))
		wh_names_free(res.ptr);
	wh_future dropped = wh_list(loop, in_folder("dir"));
	if (wh_drop(dropped) != 0)
		problem("drop", 0);
	must_give(wh_unlink(loop, in_folder("dir/b")), 0);
}

static int64_t some_work(void *arg)
{
	return ++*(int *)arg;
}

static void count_call(void *arg)
{
	++*(int *)arg;
}

static void count_result(wh_loop *on, wh_res res, void *arg)
{
	++*(int *)arg;
	if (res.n < 0 && !is_documented(res.n))
		abort();
}

static void use_time_and_threads(void)
{
	int worked = 0, called = 0, wanted = 0;
	wh_mark *mark = NULL;
	uint64_t random;
	wh_random(loop, &random, sizeof random);
	must_give(wh_sleep(loop, 1000), 0);
	must_give(wh_work(loop, some_work, &worked), 1);
	wh_future promise = wh_promise(loop, NULL, NULL);
	if (wh_resolve(promise, 7, NULL) == 0)
		must_give(promise, 7);
	int error = wh_post(loop, count_call, &called);
	wanted += expect_at_least("post", error, 0);
	error = wh_defer(loop, count_call, &called);
	wanted += expect_at_least("defer", error, 0);
	error = wh_then(wh_sleep(loop, 0), count_result, &called);
	wanted += expect_at_least("then", error, 0);
	wh_future late = wh_deadline(wh_promise(loop, NULL, NULL), wh_now(loop) + 1000);
	int64_t n = wh_await(late).n;
	if (n != -ETIMEDOUT)
		expect_at_least("deadline", n, 0);
	error = wh_mark_open(loop, &mark, 5);
	if (expect_at_least("mark_open", error, 0)) {
		wh_future waits[2] = {wh_mark_wait(mark, 6), wh_mark_wait(mark, 7)};
		wh_res results[2];
		wh_mark_raise(mark, 7);
		must_give(wh_all(loop, waits, 2, results), 0);
		wh_mark_close(mark);
	}
	error = wh_loop_run(loop);
	expect_at_least("run", error, 0);
	if (called != wanted) {
		fprintf(stderr, "%d calls, not %d\n", called, wanted);
		abort();
	}
	struct wh_buf *buf = wh_buf_get(loop);
	if (!buf)
		problem("buf_get", 0);
	wh_buf_put(buf);
}

static int64_t sleep_and_add(void *arg)
{
	int64_t n = wh_await(wh_sleep(loop, 1000)).n;
	if (n == 0)
		++*(int *)arg;
	else if (!is_documented(n))
		abort();
	return n < 0 ? n : 1;
}

static int64_t use_group(void *arg)
{
	wh_group group;
	struct wh_group_options options = {.keep_results = true, .keep_going = true};
	struct wh_group_result result;
	int error = wh_group_open(loop, &group, &options), members = 0;
	if (!expect_at_least("group_open", error, 0))
		return error;
	for (int i = 0; i < 3; i++) {
		error = wh_group_go(group, sleep_and_add, arg, NULL);
		members += expect_at_least("group_go", error, 0);
	}
	wh_future added = wh_sleep(loop, 1000);
	error = wh_group_add(group, added, NULL);
	if (expect_at_least("group_add", error, 0))
		members++;
	else
		(void)wh_drop(added); /* it is still ours */
	while (wh_await(wh_group_next(group, &result)).n == 1)
		members--;
	if (members != 0)
		abort();
	must_give(wh_group_close(group), 0);
	return 0;
}

static void use_channel(void)
{
	wh_channel channel;
	int error = wh_channel_open(loop, &channel, 2, NULL, NULL);
	if (expect_at_least("channel_open", error, 0)) {
		must_give(wh_channel_send(channel, 4, NULL), 0);
		must_give(wh_channel_receive(channel), 4);
		wh_channel_close(channel);
	}
}

static void use_tasks(void)
{
	int added = 0;
	wh_ticker ticker;
	wh_semaphore semaphore;
	struct wh_task_options large = {.name = "large", .stack_bytes = 1000000};
	must_give(wh_go(loop, sleep_and_add, &added), 1);
	must_give(wh_go_with(loop, sleep_and_add, &added, &large), 1);
	must_give(wh_go(loop, use_group, &added), 0);
	int error = wh_ticker_open(loop, &ticker, wh_clock(loop) + 1000, 1000);
	if (expect_at_least("ticker_open", error, 0)) {
		must_give(wh_ticker_next(ticker), 1);
		wh_ticker_close(ticker);
	}
	use_channel();
	error = wh_semaphore_open(loop, &semaphore, 1);
	if (expect_at_least("semaphore_open", error, 0)) {
		must_give(wh_semaphore_acquire(semaphore, 1), 1);
		wh_semaphore_close(semaphore);
	}
}

static void converse(int a, int b)
{
	char bytes[64] = "0123456789";
	struct iovec iov[2] = {{bytes, 4}, {bytes + 4, 6}};
	wh_res received;
	if (must_give(wh_send_all(loop, a, bytes, 10), 10)) {
		must_give(wh_ready(loop, b, POLLIN), 1);
		must_give(wh_recv(loop, b, bytes + 20, 40), 1);
	}
	/* the receive waits while the bytes are sent */
	wh_future waiting = wh_recv_buf(loop, b);
	bool sent = must_give(wh_sendv_all(loop, a, iov, 2), 10);
	if (!sent)
		wh_cancel(waiting);
	received = wh_await(waiting);
	if (received.n >= 0)
		wh_buf_put(received.ptr);
	else
		expect_at_least("recv_buf", received.n, 0);
	must_give(wh_send(loop, b, bytes, 5), 1);
	expect_at_least("shutdown", wh_shutdown(loop, a, SHUT_WR), 0);
	wh_future end = wh_recv(loop, b, bytes, 10);
	wh_cancel(end); /* the shutdown may have failed */
	(void)wh_await(end);
}

/* So many connections that a loop gives up its place among those who share the listener, while an accept waits. */
static void use_turns(int listening, const struct sockaddr *at, socklen_t len)
{
	wh_future waiting[2] = {wh_accept(loop, listening), wh_accept(loop, listening)};
	int under_test = atomic_exchange(&chosen, FAULT_NONE); /* not the same sixteen times */
	for (int i = 0; i < 17; i++) {
		if (i == 14)
			atomic_store(&chosen, under_test);
		int64_t a = wh_await(wh_connect(loop, at, len)).n;
		if (!expect_at_least("connect", a, 0))
			continue;
		while (!wh_done(waiting[0]) && !wh_done(waiting[1]))
			expect_at_least("turn", wh_loop_turn(loop, -1), 0);
		int done = wh_done(waiting[0]) ? 0 : 1;
		int64_t b = wh_await(waiting[done]).n;
		if (expect_at_least("accept", b, 0))
			must_give(wh_close(loop, (int)b), 0);
		must_give(wh_close(loop, (int)a), 0);
		if (i == 14) /* the loop waits, with one accept less */
			must_give(wh_sleep(loop, 1), 0);
		waiting[done] = wh_accept(loop, listening);
	}
	for (int i = 0; i < 2; i++) {
		wh_cancel(waiting[i]);
		int64_t n = wh_await(waiting[i]).n;
		if (n >= 0)
			must_give(wh_close(loop, (int)n), 0);
		else if (n != -ECANCELED)
			expect_at_least("cancelled accept", n, 0);
	}
}

static void use_sockets(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_storage at = {0};
	socklen_t len = sizeof at;
	int listening = wh_listen(loop, (struct sockaddr *)&address, sizeof address, NULL);
	if (!expect_at_least("listen", listening, 0))
		return;
	int error = wh_local_address(loop, listening, &at, &len);
	if (expect_at_least("local_address", error, 0)) {
		wh_future accepting = wh_accept(loop, listening);
		int64_t a = wh_await(wh_connect(loop, (struct sockaddr *)&at, len)).n;
		if (!expect_at_least("connect", a, 0))
			wh_cancel(accepting);
		int64_t b = wh_await(accepting).n;
		expect_at_least("accept", b, 0);
		if (a >= 0 && b >= 0)
			converse((int)a, (int)b);
		if (a >= 0)
			must_give(wh_close(loop, (int)a), 0);
		if (b >= 0)
			must_give(wh_close(loop, (int)b), 0);
		use_turns(listening, (struct sockaddr *)&at, len);
		/* one that nobody comes to */
		accepting = wh_accept(loop, listening);
		must_give(wh_close(loop, listening), 0);
		int64_t n = wh_await(accepting).n;
		if (n >= 0) /* a connection that an accept before has failed to take */
			must_give(wh_close(loop, (int)n), 0);
		else if (n != -ECANCELED)
			expect_at_least("closed accept", n, 0);
		return;
	}
	must_give(wh_close(loop, listening), 0);
}

static void use_datagrams(void)
{
	int fds[2], streams[2];
	char bytes[20] = "datagram";
	struct wh_from from;
	int error = wh_socket_pair(loop, SOCK_DGRAM, fds);
	if (!expect_at_least("socket_pair", error, 0))
		return;
	struct iovec iov = {bytes, 5};
	int passed = fds[1], got = -1;
	struct wh_message out = {.iov = &iov, .iov_count = 1, .descriptors = &passed, .descriptor_count = 1},
			  in = {.iov = &iov, .iov_count = 1, .descriptors = &got, .descriptor_count = 1};
	if (must_give(wh_send_to(loop, fds[0], bytes, 8, NULL, 0), 8)) {
		/* one that fails has taken nothing, or is tried again */
		wh_future receiving = wh_recv_from(loop, fds[1], bytes, 20, &from);
		must_give(receiving, 8);
	}
	if (must_give(wh_send_message(loop, fds[1], &out), 5) &&
	    must_give(wh_recv_message(loop, fds[0], &in), 5) && got >= 0)
		must_give(wh_close(loop, got), 0);
	error = wh_socket_pair(loop, SOCK_STREAM, streams);
	int64_t file = wh_await(wh_open(loop, in_folder("file"), O_RDWR | O_CREAT | O_TRUNC, 0600)).n;
	if (expect_at_least("socket_pair", error, 0) && expect_at_least("open", file, 0) &&
	    must_give(wh_pwrite_all(loop, (int)file, "0123456789", 10, 0), 10) &&
	    must_give(wh_send_file(loop, streams[0], (int)file, 0, 10), 10))
		must_give(wh_recv_all(loop, streams[1], bytes, 10), 10);
	for (int i = 0; i < 2; i++) {
		must_give(wh_close(loop, fds[i]), 0);
		if (error == 0)
			must_give(wh_close(loop, streams[i]), 0);
	}
	if (file >= 0)
		must_give(wh_close(loop, (int)file), 0);
}

static void use_processes(void)
{
	const char *argv[] = {"true", NULL};
	struct wh_child child;
	struct wh_spawn_options options = {.argv = argv, .pipe_out = true};
	int error = wh_spawn(loop, &options, &child);
	if (expect_at_least("spawn", error, 0)) {
		wh_future end = wh_child_wait(loop, child.pid);
		if (!must_give(end, 0)) {
			int status;
			while (waitpid(child.pid, &status, 0) < 0 && errno == EINTR) {
			}
		}
		must_give(wh_close(loop, child.out), 0);
	}
}

static void use_signals(void)
{
	wh_future f = wh_signal(loop, SIGWINCH); /* ignored by default: if the wait could not be made */
	(void)raise(SIGWINCH);
	must_give(f, SIGWINCH);
}

static int64_t give_seven(void *arg)
{
	return 7;
}

static void note_line(const char *line, void *arg)
{
	++*(int *)arg;
}

/* Another loop, which is measured and watched. */
static void use_another_loop(void)
{
	struct wh_loop_options options = {
		.name = "another", .measure = true, .slow_ns = WH_NS_PER_S, .stuck_ns = 10 * WH_NS_PER_S};
	wh_loop *another = NULL;
	int error = wh_loop_start(&another, &options), lines = 0;
	if (!expect_at_least("loop_start", error, 0))
		return;
	must_give(wh_ask(loop, another, give_seven, NULL), 7);
	wh_loop_close(another);
	if (wh_dump(loop, note_line, &lines) + 1 != lines)
		problem("dump", lines);
}

static void script(void)
{
	int error = wh_loop_open(&loop, NULL);
	if (!expect_at_least("loop_open", error, 0))
		return;
	use_files();
	use_content();
	use_links();
	use_names();
	use_time_and_threads();
	use_tasks();
	use_sockets();
	use_datagrams();
	use_processes();
	use_signals();
	use_another_loop();
	/* what is left open is ended by the close */
	wh_future left = wh_sleep(loop, 3600 * WH_NS_PER_S);
	(void)wh_then(left, count_result, &problems);
	int before = problems;
	loop = wh_loop_close(loop);
	problems = before;
}

/* ---- around it ---------------------------------------------------------------------------- */

static int open_descriptors(void)
{
	int count = 0;
	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void clean(void)
{
	(void)unlink(in_folder("dir/a"));
	(void)unlink(in_folder("dir/b"));
	(void)rmdir(in_folder("dir"));
	(void)unlink(in_folder("file"));
}

static void on_alarm(int number)
{
	static char line[200];
	int len = snprintf(line, sizeof line, "hangs: WHILST_FAULT=%s:%d:%d\n", function_name, fail_error,
	                   fail_at);
	(void)!write(2, line, (size_t)len);
	_exit(1);
}

/* true: the script ended without coming to the n-th call. */
static bool run_one(enum function function, int error, int n)
{
	int before = open_descriptors();
	function_name = functions[function].name;
	fail_at = n;
	fail_error = error;
	problems = 0;
	atomic_store(&calls, 0);
	atomic_store(&hit, false);
	alarm(20);
	atomic_store(&chosen, (int)function);
	script();
	atomic_store(&chosen, FAULT_NONE);
	alarm(0);
	clean();
	int after = open_descriptors();
	bool was_hit = atomic_load(&hit);
	if (after != before || (problems > 0 && (!was_hit || error < 0))) {
		fprintf(stderr, "WHILST_FAULT=%s:%d:%d: %d descriptors before, %d after; %d problems: %s\n",
		        function_name, error, n, before, after, problems, first_problem);
		exit(1);
	}
	return !was_hit;
}

int main(void)
{
	int runs = 0, functions_hit = 0;
	char name[40];
	int error = 0, n = 0;
	const char *text = getenv("WHILST_FAULT");
	if (!mkdtemp(folder))
		return 2;
	signal(SIGALRM, on_alarm);
	fail_error = EIO;
	int probe = wh_loop_open(&loop, NULL);
	if (probe != 0) {
		printf("skipped: engine %s: %s\n", getenv("WHILST_ENGINE"), wh_strerror(probe));
		return 77;
	}
	loop = wh_loop_close(loop);
	script(); /* what is made once in a process is made now */
	clean();
	if (problems > 0) {
		fprintf(stderr, "without a fault: %s\n", first_problem);
		return 1;
	}
	for (int f = 0; f < FUNCTIONS; f++) {
		bool any = false;
		if (text && (sscanf(text, "%39[^:]:%d:%d", name, &error, &n) != 3 ||
		             strcmp(name, functions[f].name) != 0))
			continue;
		for (int e = 0; functions[f].errors[e] != 0; e++) {
			int first = text ? n : 1, last = text ? n : 1000;
			if (text && functions[f].errors[e] != error)
				continue;
			for (int i = first; i <= last; i++) {
				if (run_one((enum function)f, functions[f].errors[e], i))
					break;
				any = true;
				runs++;
			}
		}
		functions_hit += any;
	}
	rmdir(folder);
	printf("%s: %d functions failed in %d runs\n", getenv("WHILST_ENGINE"), functions_hit, runs);
	return runs > 0 ? 0 : 1;
}
