/* tests/conformance/test_hot.c -- what the hot path does not do: allocate, start threads where none is needed, or go to a worker for what
 * the page cache has. The allocations of the loop's thread are counted (tests/conformance/meson.build wraps the functions).
 */
#include "conformance.h"

#include <dirent.h>

enum { ROUNDS = 300 };

/* ---- counting --------------------------------------------------------------------------------- */

static _Thread_local bool counts; /* the loop's thread, while it is looked at */
static int allocation_count;

#define WRAP(name, parameters, arguments)       \
	void *__real_##name parameters;         \
	void *__wrap_##name parameters;         \
	void *__wrap_##name parameters          \
	{                                       \
		allocation_count += counts;     \
		return __real_##name arguments; \
	}
WRAP(malloc, (size_t size), (size))
WRAP(calloc, (size_t count, size_t size), (count, size))
WRAP(realloc, (void *old, size_t size), (old, size))
WRAP(reallocarray, (void *old, size_t count, size_t size), (old, count, size))
WRAP(aligned_alloc, (size_t alignment, size_t size), (alignment, size))

static int thread_count(void)
{
	int count = 0;
	DIR *tasks = opendir("/proc/self/task");
	assert_non_null(tasks);
	for (const struct dirent *entry; (entry = readdir(tasks));)
		count += entry->d_name[0] != '.';
	closedir(tasks);
	return count;
}

/* ---- what is done all the time ----------------------------------------------------------------- */

static int fds[2], file, listener;
static struct sockaddr_in address;
static char bytes[64];

static void promises(void)
{
	struct seen seen = {0};
	wh_future f = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_resolve(f, 1, NULL), 0);
	assert_int_equal(wh_await(f).n, 1);
	f = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_then(f, note, &seen), 0);
	assert_int_equal(wh_resolve(f, 2, NULL), 0);
	run_until(&seen.count, 1);
	assert_int_equal(wh_drop(wh_promise(loop, NULL, NULL)), 0);
}

static void timers(void)
{
	assert_int_equal(wh_await(wh_sleep(loop, 0)).n, 0);
	wh_future f = wh_sleep(loop, WH_NS_PER_S);
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -ECANCELED);
}

static void conversation(void)
{
	assert_int_equal(wh_await(wh_send_all(loop, fds[0], "ping", 4)).n, 4);
	assert_int_equal(wh_await(wh_recv(loop, fds[1], bytes, sizeof bytes)).n, 4);
	/* one that waits */
	wh_future f = wh_recv(loop, fds[0], bytes, sizeof bytes);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	assert_int_equal(wh_await(wh_send(loop, fds[1], "pong", 4)).n, 4);
	assert_int_equal(wh_await(f).n, 4);
	/* and one into a pooled buffer */
	f = wh_recv_buf(loop, fds[0]);
	assert_int_equal(wh_await(wh_send(loop, fds[1], "buf", 3)).n, 3);
	wh_res res = wh_await(f);
	assert_int_equal(res.n, 3);
	wh_buf_put(res.ptr);
	/* and in time */
	f = wh_deadline(wh_recv(loop, fds[1], bytes, sizeof bytes), wh_now(loop) + 30 * WH_NS_PER_S);
	assert_int_equal(wh_await(wh_send(loop, fds[0], "x", 1)).n, 1);
	assert_int_equal(wh_await(f).n, 1);
}

/* Some file systems of old kernels cannot say whether a read would wait. */
static bool cache_can_be_asked(void)
{
	struct iovec iov = {bytes, 7};
	return preadv2(file, &iov, 1, 0, RWF_NOWAIT) == 7;
}

static void cached_read(void)
{
	assert_int_equal(wh_await(wh_pread(loop, file, bytes, 7, 0)).n, 7);
}

static int64_t no_work(void *arg)
{
	return 7;
}

static void deferred(void *arg)
{
	++*(int *)arg;
}

static void calls(void)
{
	int count = 0;
	assert_int_equal(wh_defer(loop, deferred, &count), 0);
	run_until(&count, 1);
}

static int64_t task(void *arg)
{
	return wh_await(wh_sleep(loop, 0)).n;
}

static void tasks(void)
{
	assert_int_equal(wh_await(wh_go(loop, task, NULL)).n, 0);
}

static const struct {
	const char *name;
	void (*run)(void);
} hot[] = {{"promises", promises},        {"timers", timers},        {"conversation", conversation},
           {"cached reads", cached_read}, {"deferred calls", calls}, {"tasks", tasks}};

static int begin(void **state)
{
	int error = open_loop(state);
	make_tcp(fds);
	file = make_file("content");
	listener = listen_tcp(&address);
	return error;
}

static int end(void **state)
{
	close_fd(fds[0]);
	close_fd(fds[1]);
	close_fd(file);
	close_fd(listener);
	return close_loop(state);
}

/* ---- tests ------------------------------------------------------------------------------------- */

/* After the first rounds everything that is needed is there, and is used again. */
static void nothing_is_allocated(void **state)
{
	int wrong = 0;
	for (size_t i = 0; i < sizeof hot / sizeof *hot; i++) {
		/* whatever blocks there may begin a thread, if the one before has not found its rest yet */
		if (hot[i].run == conversation && strcmp(wh_engine_name(loop), "threads") == 0)
			continue;
		for (int k = 0; k < 10; k++)
			hot[i].run();
		allocation_count = 0;
		counts = true;
		for (int k = 0; k < ROUNDS; k++)
			hot[i].run();
		counts = false;
		if (allocation_count != 0)
			print_error("%s: %d allocations in %d rounds\n", hot[i].name, allocation_count,
			            ROUNDS);
		wrong += allocation_count != 0;
	}
	assert_int_equal(wrong, 0);
}

/* Many at once, as many as before: their slots are there. */
static void nor_for_many_at_once(void **state)
{
	enum { MANY = 1000 };
	static wh_future many[MANY];
	for (int round = 0; round < 3; round++) {
		allocation_count = 0;
		counts = round > 0;
		for (int i = 0; i < MANY; i++)
			many[i] = i % 2 ? wh_sleep(loop, i * WH_NS_PER_US) : wh_promise(loop, NULL, NULL);
		for (int i = 0; i < MANY; i += 2)
			assert_int_equal(wh_resolve(many[i], i, NULL), 0);
		for (int i = 0; i < MANY; i++)
			assert_true(wh_await(many[i]).n >= 0);
		counts = false;
		assert_int_equal(allocation_count, 0);
	}
}

/* What the page cache has needs no worker, and what needs no worker starts none. */
static void no_thread_is_started_for_what_is_at_hand(void **state)
{
	struct wh_stats stats;
	int before = thread_count();
	if (strcmp(wh_engine_name(loop), "threads") == 0)
		return; /* one blocks for each that waits */
	promises();
	timers();
	conversation();
	for (int i = 0; i < ROUNDS && cache_can_be_asked(); i++)
		cached_read();
	tasks();
	wh_stats(loop, &stats);
	assert_int_equal(stats.threads, 0);
	assert_true(thread_count() == before ||
	            strcmp(wh_engine_name(loop), "uring") == 0); /* the kernel's */
}

static void cached_reads_need_no_thread(void **state)
{
	struct wh_stats stats;
	for (int i = 0; i < ROUNDS && cache_can_be_asked(); i++)
		cached_read();
	wh_stats(loop, &stats);
	assert_string_equal(stats.workers[0].name, "file");
	assert_int_equal(stats.workers[0].threads, 0);
}

/* The engine that is made of blocking calls never starts a thread, whatever it is asked for. */
static void sync_starts_no_thread(void **state)
{
	int before = thread_count(), ends[2];
	if (strcmp(wh_engine_name(loop), "sync") != 0)
		return;
	calls();
	tasks();
	conversation();
	assert_int_equal(wh_await(wh_work(loop, no_work, NULL)).n, 7);
	assert_int_equal(wh_await(wh_fsync(loop, file, false)).n, 0);
	assert_int_equal(wh_await(wh_size(loop, file)).n, 7);
	wh_future accepted = wh_accept(loop, listener);
	int64_t fd = wh_await(wh_connect(loop, (struct sockaddr *)&address, sizeof address)).n;
	int64_t other = wh_await(accepted).n;
	assert_true(fd >= 0 && other >= 0);
	close_fd((int)fd);
	close_fd((int)other);
	assert_int_equal(wh_pipe(loop, ends), 0);
	assert_int_equal(wh_await(wh_write_all(loop, ends[1], "p", 1)).n, 1);
	assert_int_equal(wh_await(wh_read(loop, ends[0], bytes, 1)).n, 1);
	close_fd(ends[0]);
	close_fd(ends[1]);
	assert_int_equal(thread_count(), before);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_is_allocated),
		TEST(nor_for_many_at_once),
		TEST(no_thread_is_started_for_what_is_at_hand),
		TEST(cached_reads_need_no_thread),
		TEST(sync_starts_no_thread),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
