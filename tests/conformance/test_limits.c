/* tests/conformance/test_limits.c -- every limit of wh_loop_options: its default, and what happens when it is reached. */
#include "runtime/loop.h"

#include "conformance.h"

#include <malloc.h>

#include <sys/resource.h>

static bool engine_is(const char *name)
{
	return strcmp(wh_engine_name(loop), name) == 0;
}

static void open_with(struct wh_loop_options options)
{
	assert_int_equal(wh_loop_open(&loop, &options), 0);
}

static void defaults_are_as_the_header_says(void **state)
{
	struct wh_stats stats;
	open_with((struct wh_loop_options){0});
	wh_stats(loop, &stats);
	assert_int_equal(stats.workers[WH__WORKERS_FILES].threads_max, 8);
	assert_int_equal(stats.workers[WH__WORKERS_WORK].threads_max, 8);
	assert_int_equal(stats.workers[WH__WORKERS_SYNC].threads_max, 2);
	assert_int_equal(stats.workers[WH__WORKERS_SOCKETS].threads_max, 1024);
	assert_int_equal(loop->slots_max, 4194303);
	assert_int_equal(loop->options.buffers_max, 65536);
	assert_int_equal(loop->options.ring_entries, 1024);
	struct wh_buf *buf = wh_buf_get(loop);
	assert_int_equal(buf->cap, 16384);
	wh_buf_put(buf);
	loop = wh_loop_close(loop);
	/* beyond the largest number of futures: the largest number */
	open_with((struct wh_loop_options){.futures_max = UINT32_MAX});
	assert_int_equal(loop->slots_max, 4194303);
	loop = wh_loop_close(loop);
}

static void futures_max(void **state)
{
	wh_future fs[5];
	open_with((struct wh_loop_options){.futures_max = 5});
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 5; i++)
			fs[i] = wh_promise(loop, NULL, NULL);
		assert_int_equal(wh_await(wh_promise(loop, NULL, NULL)).n, -EAGAIN);
		assert_int_equal(wh_await(wh_sleep(loop, 0)).n, -EAGAIN);
		assert_int_equal(wh_await(wh_open(loop, "/", O_RDONLY, 0)).n, -EAGAIN);
		assert_int_equal(wh_await(wh_all(loop, fs, 5, NULL)).n, -EAGAIN); /* which consumes none */
		/* without a timer it could last for ever, and so it ends */
		assert_int_equal(wh_await(wh_deadline(fs[4], INT64_MAX)).n, -ECANCELED);
		for (int i = 0; i < 4; i++) {
			assert_int_equal(wh_resolve(fs[i], i, NULL), 0);
			assert_int_equal(wh_await(fs[i]).n, i);
		}
		assert_int_equal(wh_loop_run(loop), 0);
	}
	loop = wh_loop_close(loop);
}

/* ---- workers ------------------------------------------------------------------------------ */

static atomic_int at_once, most_at_once, begun;
static atomic_bool open_gate;

static int64_t stand(void *arg)
{
	int most, now = atomic_fetch_add(&at_once, 1) + 1;
	while ((most = atomic_load(&most_at_once)) < now &&
	       !atomic_compare_exchange_weak(&most_at_once, &most, now))
		;
	atomic_fetch_add(&begun, 1);
	while (!atomic_load(&open_gate))
		sched_yield();
	atomic_fetch_sub(&at_once, 1);
	return 0;
}

static void work_workers_max(void **state)
{
	enum { WORKS = 12, AT_MOST = 3 };
	wh_future works[WORKS];
	struct wh_stats stats;
	open_with((struct wh_loop_options){.work_workers_max = AT_MOST});
	atomic_store(&begun, 0);
	atomic_store(&open_gate, engine_is("sync")); /* whose one thread does them in turn */
	for (int i = 0; i < WORKS; i++)
		works[i] = wh_work(loop, stand, NULL);
	while (!engine_is("sync") && atomic_load(&begun) < AT_MOST)
		sched_yield();
	wh_stats(loop, &stats);
	assert_int_equal(stats.workers[WH__WORKERS_WORK].queued, engine_is("sync") ? 0 : WORKS - AT_MOST);
	/* other classes are not held up */
	assert_int_equal(wh_await(wh_size(loop, -1)).n, -EBADF);
	int fd = make_file("content");
	assert_int_equal(wh_await(wh_size(loop, fd)).n, 7);
	close_fd(fd);
	atomic_store(&open_gate, true);
	for (int i = 0; i < WORKS; i++)
		assert_int_equal(wh_await(works[i]).n, 0);
	assert_int_equal(atomic_load(&most_at_once), engine_is("sync") ? 1 : AT_MOST);
	loop = wh_loop_close(loop);
}

/* However much is asked for at once, there are no more threads than the limits say. */
static void file_and_sync_workers_max(void **state)
{
	enum { CALLS = 200 };
	wh_future sizes[CALLS], syncs[CALLS];
	struct wh_stats stats;
	open_with((struct wh_loop_options){.file_workers_max = 2, .sync_workers_max = 1});
	int fd = make_file("content");
	for (int i = 0; i < CALLS; i++) {
		sizes[i] = wh_size(loop, fd);
		syncs[i] = wh_fsync(loop, fd, true);
	}
	wh_stats(loop, &stats);
	assert_true(stats.workers[WH__WORKERS_FILES].threads <= 2);
	assert_true(stats.workers[WH__WORKERS_SYNC].threads <= 1);
	for (int i = 0; i < CALLS; i++) {
		assert_int_equal(wh_await(sizes[i]).n, 7);
		assert_int_equal(wh_await(syncs[i]).n, 0);
	}
	close_fd(fd);
	loop = wh_loop_close(loop);
}

static void socket_threads_max(void **state)
{
	enum { PAIRS = 10, AT_MOST = 4 };
	int pairs[PAIRS][2], refused = 0;
	wh_future receives[PAIRS];
	char bytes[PAIRS];
	struct wh_stats stats;
	open_with((struct wh_loop_options){.socket_threads_max = AT_MOST});
	for (int i = 0; i < PAIRS; i++) {
		make_pair(pairs[i]);
		receives[i] = wh_recv(loop, pairs[i][0], &bytes[i], 1);
	}
	wh_stats(loop, &stats);
	assert_int_equal(stats.engine.blocked, engine_is("threads") ? AT_MOST : 0);
	for (int i = 0; i < PAIRS; i++) {
		assert_int_equal(write(pairs[i][1], "x", 1), 1);
		int64_t n = wh_await(receives[i]).n;
		refused += n == -EAGAIN;
		assert_true(n == 1 || n == -EAGAIN);
	}
	assert_int_equal(refused, engine_is("threads") ? PAIRS - AT_MOST : 0); /* of that engine only */
	for (int i = 0; i < PAIRS; i++) { /* the threads are free again; what was refused is still there */
		wh_future again = wh_recv(loop, pairs[i][0], &bytes[i], 1);
		assert_int_equal(write(pairs[i][1], "y", 1), 1);
		assert_int_equal(wh_await(again).n, 1);
		close_fd(pairs[i][0]);
		close_fd(pairs[i][1]);
	}
	loop = wh_loop_close(loop);
}

/* ---- buffers ------------------------------------------------------------------------------ */

static void buffers(void **state)
{
	int fds[2];
	struct wh_buf *taken[3];
	open_with((struct wh_loop_options){.buffer_bytes = 64, .buffers_max = 3});
	make_pair(fds);
	for (int i = 0; i < 3; i++) {
		taken[i] = wh_buf_get(loop);
		assert_non_null(taken[i]);
		assert_int_equal(taken[i]->cap, 64);
	}
	assert_null(wh_buf_get(loop));
	assert_int_equal(write(fds[1], "some bytes", 10), 10);
	assert_int_equal(wh_await(wh_recv_buf(loop, fds[0])).n, -ENOBUFS); /* and the bytes are still there */
	wh_buf_put(taken[0]);
	wh_res res = wh_await(wh_recv_buf(loop, fds[0]));
	assert_int_equal(res.n, 10);
	assert_memory_equal(((struct wh_buf *)res.ptr)->data, "some bytes", 10);
	wh_buf_put(res.ptr);
	wh_buf_put(taken[1]);
	wh_buf_put(taken[2]);
	close_fd(fds[0]);
	close_fd(fds[1]);
	loop = wh_loop_close(loop);
}

/* ---- ring --------------------------------------------------------------------------------- */

/* From one entry to more than there can be: what does not fit is made to fit, and nothing is refused. */
/* What the allocator has given; 0: it is another one, which does not say. */
static size_t bytes_in_use(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	return 0;
#else
	return mallinfo2().uordblks;
#endif
}

/* A burst's are kept for the next, and go when it does not come. */
static void buffers_that_nobody_needs(void **state)
{
	enum { BURST = 200, ROUNDS = 20000, BYTES = 4096 };
	struct wh_buf *taken[BURST];
	size_t before, after;
	open_with((struct wh_loop_options){.buffer_bytes = BYTES});
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < BURST; i++)
			assert_non_null(taken[i] = wh_buf_get(loop));
		for (int i = 0; i < BURST; i++)
			wh_buf_put(taken[i]);
	}
	before = bytes_in_use();
	for (int i = 0; i < ROUNDS; i++) {
		taken[0] = wh_buf_get(loop);
		taken[1] = wh_buf_get(loop);
		wh_buf_put(taken[0]);
		wh_buf_put(taken[1]);
	}
	after = bytes_in_use();
	if (before > 0)
		assert_true(before >= after + (size_t)BURST / 2 * BYTES);
	loop = wh_loop_close(loop);
}

static void ring_entries(void **state)
{
	static const uint32_t sizes[] = {1, 31, 33, 1000, 4096, 1 << 20};
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		enum { SLEEPS = 300 };
		wh_future ready[SLEEPS];
		int fds[2];
		open_with((struct wh_loop_options){.ring_entries = sizes[i]});
		make_pair(fds);
		for (int k = 0; k < SLEEPS && !engine_is("threads"); k++)
			ready[k] = wh_ready(loop, fds[0], POLLIN);
		assert_int_equal(write(fds[1], "x", 1), 1);
		for (int k = 0; k < SLEEPS && !engine_is("threads"); k++)
			assert_int_equal(wh_await(ready[k]).n, POLLIN);
		close_fd(fds[0]);
		close_fd(fds[1]);
		loop = wh_loop_close(loop);
	}
}

static void options_that_make_no_sense(void **state)
{
	struct wh_loop_options engine = {.engine = 99}, slow = {.slow_ns = -1}, stuck = {.stuck_ns = -5};
	wh_loop *none = NULL;
	assert_int_equal(wh_loop_open(&none, &engine), -EINVAL);
	assert_int_equal(wh_loop_open(&none, &slow), -EINVAL);
	assert_int_equal(wh_loop_open(&none, &stuck), -EINVAL);
	assert_null(none);
}

/* 1,023 loops in a process. */
static void loops_max(void **state)
{
	enum { LOOPS_MAX = 1023 };
	static wh_loop *many[LOOPS_MAX];
	wh_loop *one_more = NULL;
	struct wh_loop_options options = {.engine = WH_SYNC}; /* one descriptor each */
	struct rlimit files;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	if (files.rlim_cur < LOOPS_MAX + 100) {
		files.rlim_cur = LOOPS_MAX + 100;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	}
	for (int i = 0; i < LOOPS_MAX; i++)
		assert_int_equal(wh_loop_open(&many[i], &options), 0);
	assert_int_equal(wh_loop_open(&one_more, &options), -EMFILE);
	assert_null(one_more);
	many[500] = wh_loop_close(many[500]);
	assert_int_equal(wh_loop_open(&many[500], &options), 0);
	for (int i = 0; i < LOOPS_MAX; i++)
		many[i] = wh_loop_close(many[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_as_the_header_says),
		cmocka_unit_test(futures_max),
		cmocka_unit_test(work_workers_max),
		cmocka_unit_test(file_and_sync_workers_max),
		cmocka_unit_test(socket_threads_max),
		cmocka_unit_test(buffers),
		cmocka_unit_test(buffers_that_nobody_needs),
		cmocka_unit_test(ring_entries),
		cmocka_unit_test(options_that_make_no_sense),
		cmocka_unit_test(loops_max),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
