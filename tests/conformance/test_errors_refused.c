/* tests/conformance/test_errors_refused.c -- what a loop refuses whatever is asked: it is full, or another thread asks. */
#include "errors_tables.h"

/* What takes a loop and gives a future. */
static int64_t no_body(void *arg)
{
	return 0;
}

#define OF_LOOP(name, ...)                     \
	static wh_future name##_of(wh_loop *l) \
	{                                      \
		return __VA_ARGS__;            \
	}
OF_LOOP(promise, wh_promise(l, NULL, NULL))
OF_LOOP(all, wh_all(l, NULL, 0, NULL))
OF_LOOP(all_settled, wh_all_settled(l, NULL, 0, NULL))
OF_LOOP(any, wh_any(l, NULL, 0, NULL))
OF_LOOP(work, wh_work(l, no_body, NULL))
OF_LOOP(ask, wh_ask(l, l, no_body, NULL))
OF_LOOP(sleep, wh_sleep(l, 0))
OF_LOOP(sleep_until, wh_sleep_until(l, 0))
OF_LOOP(go, wh_go(l, no_body, NULL))
OF_LOOP(go_with, wh_go_with(l, no_body, NULL, NULL))
OF_LOOP(signal, wh_signal(l, SIGUSR1))
OF_LOOP(child_wait, wh_child_wait(l, 0x7ffffff0))
OF_LOOP(connect, wh_connect(l, (struct sockaddr *)&nobody, sizeof nobody))
OF_LOOP(lookup, wh_lookup(l, "127.0.0.1", "1", NULL))
OF_LOOP(lookup_name, wh_lookup_name(l, (struct sockaddr *)&nobody, sizeof nobody, NULL))
OF_LOOP(dial, wh_dial(l, "127.0.0.1", "1", NULL))
static const struct of_loop {
	const char *name;
	wh_future (*start)(wh_loop *l);
} of_loop[] = {
#define ROW(name)                \
	{                        \
#name, name##_of \
	}
	ROW(promise), ROW(all),         ROW(all_settled), ROW(any),     ROW(work),   ROW(ask),
	ROW(sleep),   ROW(sleep_until), ROW(go),          ROW(go_with), ROW(signal), ROW(child_wait),
	ROW(connect), ROW(lookup),      ROW(lookup_name), ROW(dial),
#undef ROW
};
enum { OF_LOOP_COUNT = sizeof of_loop / sizeof *of_loop };

static void on_full_loop(void **state)
{
	wh_loop *small = NULL;
	struct wh_loop_options options = {.futures_max = 1};
	assert_int_equal(wh_loop_open(&small, &options), 0);
	wh_future only = wh_promise(small, NULL, NULL);
	wrong = 0;
	for (size_t i = 0; i < NAMED_COUNT; i++)
		judge(named[i].name, "no slot", wh_await(named[i].start(small, AT_FDCWD, "/tmp")).n, -EAGAIN);
	for (size_t i = 0; i < ON_FD_COUNT; i++)
		if (strcmp(on_fd[i].name, "close") != 0)
			judge(on_fd[i].name, "no slot", wh_await(on_fd[i].start(small, 0)).n, -EAGAIN);
	for (size_t i = 0; i < OF_LOOP_COUNT; i++)
		judge(of_loop[i].name, "no slot", wh_await(of_loop[i].start(small)).n, -EAGAIN);
	wh_mark *mark = NULL;
	is_now(wh_mark_open(small, &mark, 0), 0);
	is(wh_mark_wait(mark, 1), -EAGAIN);
	wh_mark_close(mark);
	wh_group group;
	wh_ticker ticker;
	wh_channel channel;
	wh_semaphore semaphore;
	is_now(wh_group_open(small, &group, NULL), -EAGAIN);
	is_now(wh_ticker_open(small, &ticker, 0, 0), -EAGAIN);
	is_now(wh_channel_open(small, &channel, 1, NULL, NULL), -EAGAIN);
	is_now(wh_semaphore_open(small, &semaphore, 1), -EAGAIN);
	/* a descriptor that cannot be given back would be lost: this one needs no slot */
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	judge("close", "no slot", wh_await(wh_close(small, fd)).n, 0);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(wrong, 0);
	assert_int_equal(wh_drop(only), 0);
	wh_loop_close(small);
}

/* What was opened by the loop's thread. */
struct things {
	wh_future f, timer;
	wh_mark *mark;
	wh_group group;
	wh_ticker ticker;
	wh_channel channel;
	wh_semaphore semaphore;
};

static void ignore_line(const char *line, void *arg)
{
}

static void nothing(void *arg)
{
}

static void of_the_runtime(const struct things *of)
{
	struct wh_group_result result;
	struct wh_task_info info;
	struct seen seen = {0};
	struct wh_child child;
	const char *const argv[] = {"true", NULL};
	struct wh_spawn_options options = {.argv = argv};
	wh_mark *mark;
	wh_group group;
	wh_ticker ticker;
	wh_channel channel;
	wh_semaphore semaphore;
	wh_res res;
	is_now(wh_loop_run(loop), -EPERM);
	is_now(wh_loop_turn(loop, 0), -EPERM);
	is_now(wh_defer(loop, nothing, NULL), -EPERM);
	assert_true(wh_poll(of->f, &res));
	is_now(res.n, -EPERM);
	is_now(wh_then(of->f, note, &seen), -EPERM);
	is_now(wh_drop(of->f), -EPERM);
	is_now(wh_detach(of->f), -EPERM);
	is_now(wh_rearm(of->timer, 0), -EPERM);
	is_now(wh_mark_open(loop, &mark, 0), -EPERM);
	is(wh_mark_wait(of->mark, 1), -EPERM);
	is_now(wh_dump(loop, ignore_line, NULL), -EPERM);
	is_now(wh_yield(), -EPERM);
	is_now(wh_task_look(of->f, &info), -EPERM);
	is_now(wh_group_open(loop, &group, NULL), -EPERM);
	is_now(wh_group_go(of->group, no_body, NULL, NULL), -EPERM);
	is_now(wh_group_add(of->group, of->f, NULL), -EPERM);
	is(wh_group_wait(of->group), -EPERM);
	is(wh_group_next(of->group, &result), -EPERM);
	is_now(wh_group_cancel(of->group), -EPERM);
	is(wh_group_close(of->group), -EPERM);
	is_now(wh_ticker_open(loop, &ticker, 0, 0), -EPERM);
	is(wh_ticker_next(of->ticker), -EPERM);
	is_now(wh_ticker_set(of->ticker, 0, 0), -EPERM);
	is_now(wh_ticker_close(of->ticker), -EPERM);
	is_now(wh_channel_open(loop, &channel, 1, NULL, NULL), -EPERM);
	is(wh_channel_send(of->channel, 0, NULL), -EPERM);
	is(wh_channel_receive(of->channel), -EPERM);
	is_now(wh_channel_count(of->channel), -EPERM);
	is_now(wh_channel_shut(of->channel), -EPERM);
	is_now(wh_channel_close(of->channel), -EPERM);
	is_now(wh_semaphore_open(loop, &semaphore, 1), -EPERM);
	is(wh_semaphore_acquire(of->semaphore, 1), -EPERM);
	is_now(wh_semaphore_release(of->semaphore, 1), -EPERM);
	is_now(wh_semaphore_close(of->semaphore), -EPERM);
	is_now(wh_spawn(loop, &options, &child), -EPERM);
	is_now(wh_child_kill(loop, 0x7ffffff0, SIGTERM), -EPERM);
}

/* Futures without a slot carry their error to any thread. */
static void *elsewhere(void *arg)
{
	int ends[2];
	for (size_t i = 0; i < NAMED_COUNT; i++)
		judge(named[i].name, "elsewhere", wh_await(named[i].start(loop, AT_FDCWD, "/tmp")).n, -EPERM);
	for (size_t i = 0; i < ON_FD_COUNT; i++)
		judge(on_fd[i].name, "elsewhere", wh_await(on_fd[i].start(loop, 0)).n, -EPERM);
	is(wh_make_temporary(loop, bytes, 0), -EPERM);
	is(wh_make_temporary_directory(loop, bytes), -EPERM);
	for (size_t i = 0; i < AT_ONCE_COUNT; i++)
		judge(at_once[i].name, "elsewhere", at_once[i].call(loop, 0), -EPERM);
	for (size_t i = 0; i < OF_LOOP_COUNT; i++)
		judge(of_loop[i].name, "elsewhere", wh_await(of_loop[i].start(loop)).n, -EPERM);
	of_the_runtime(arg);
	is_now(wh_socket(loop, AF_INET, SOCK_STREAM, 0), -EPERM);
	is_now(wh_socket_pair(loop, SOCK_STREAM, ends), -EPERM);
	is_now(wh_pipe(loop, ends), -EPERM);
	is_now(wh_close_now(loop, 0), -EPERM);
	is_now(wh_listen(loop, (struct sockaddr *)&nobody, sizeof nobody, NULL), -EPERM);
	is_now(wh_listen_text(loop, "127.0.0.1:0", NULL), -EPERM);
	return NULL;
}

static void on_another_thread(void **state)
{
	pthread_t thread;
	struct things things = {.f = wh_promise(loop, NULL, NULL), .timer = wh_sleep(loop, WH_NS_PER_S)};
	wrong = 0;
	is_now(wh_mark_open(loop, &things.mark, 0), 0);
	is_now(wh_group_open(loop, &things.group, NULL), 0);
	is_now(wh_ticker_open(loop, &things.ticker, 0, 0), 0);
	is_now(wh_channel_open(loop, &things.channel, 1, NULL, NULL), 0);
	is_now(wh_semaphore_open(loop, &things.semaphore, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, elsewhere, &things), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* nothing has happened to any of them */
	is_now(wh_drop(things.timer), 0);
	is_now(wh_resolve(things.f, 7, NULL), 0);
	is(things.f, 7);
	is(wh_group_close(things.group), 0);
	is_now(wh_ticker_close(things.ticker), 0);
	is_now(wh_channel_close(things.channel), 0);
	is_now(wh_semaphore_close(things.semaphore), 0);
	wh_mark_close(things.mark);
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(on_full_loop),
		IN_FOLDER(on_another_thread),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
