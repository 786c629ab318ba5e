/* tests/conformance/test_errors_runtime.c -- the errors of loops, futures, tasks, handles, signals and processes.
 *
 * Those that come with what a call is for are in its own file (test_future.c, test_group.c, ...); here are those of all:
 * handles that are closed, callbacks that want to wait, no descriptors left.
 */
#include "errors.h"

static int64_t no_body(void *arg)
{
	return 0;
}

static wh_future note_promise(void)
{
	return wh_promise(loop, NULL, NULL);
}

/* ---- futures ---------------------------------------------------------------------------------- */

static void futures_that_are_gone(void **state)
{
	wh_future none = {0}, f = note_promise(), timer = wh_sleep(loop, 0),
		  late = wh_sleep(loop, WH_NS_PER_S * 1000);
	wh_res res;
	struct seen seen = {0};
	wrong = 0;
	is(none, -ESTALE);
	assert_true(wh_poll(none, &res));
	is_now(res.n, -ESTALE);
	is_now(wh_then(none, note, &seen), -ESTALE);
	is_now(wh_drop(none), -ESTALE);
	is_now(wh_detach(none), -ESTALE);
	is_now(wh_resolve(none, 0, NULL), -ESTALE);
	is_now(wh_rearm(none, 0), -ESTALE);
	is(wh_deadline(none, 0), -ESTALE);
	is_now(wh_rearm(f, 0), -EINVAL);
	is_now(wh_resolve(timer, 1, NULL), -ESTALE);
	is_now(wh_resolve(f, 1, NULL), 0);
	is_now(wh_resolve(f, 1, NULL), -EALREADY);
	is(f, 1);
	is_now(wh_resolve(f, 1, NULL), -ESTALE);
	while (!wh_done(timer))
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	is_now(wh_rearm(timer, INT64_MAX), -EALREADY);
	is(timer, 0);
	is(wh_all(loop, NULL, 1, NULL), -EINVAL);
	is(wh_all_settled(loop, NULL, 1, NULL), -EINVAL);
	is(wh_any(loop, NULL, 1, NULL), -EINVAL);
	is(wh_work(loop, NULL, NULL), -EINVAL);
	is(wh_ask(loop, loop, NULL, NULL), -EINVAL);
	is(wh_ask(loop, NULL, no_body, NULL), -EINVAL);
	is(wh_go(loop, NULL, NULL), -EINVAL);
	is_now(wh_post(loop, NULL, NULL), -EINVAL);
	is_now(wh_defer(loop, NULL, NULL), -EINVAL);
	is_now(wh_dump_on_signal(0, 2), -EINVAL);
	assert_int_equal(wh_drop(late), 0);
	assert_int_equal(wrong, 0);
}

static void in_a_callback(wh_loop *l, wh_res res, void *arg)
{
	wh_future f = note_promise();
	is(f, -EDEADLK);
	is_now(wh_loop_run(loop), -EDEADLK);
	is_now(wh_loop_turn(loop, 0), -EDEADLK);
	is_now(wh_yield(), -EPERM);
	is_now(wh_drop(f), 0);
}

static void callbacks_do_not_wait(void **state)
{
	wrong = 0;
	assert_int_equal(wh_then(wh_sleep(loop, 0), in_a_callback, NULL), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(wrong, 0);
}

/* ---- handles ---------------------------------------------------------------------------------- */

static void handles_that_are_closed(void **state)
{
	wh_group group;
	wh_ticker ticker;
	wh_channel channel;
	wh_semaphore semaphore;
	struct wh_group_result result;
	wrong = 0;
	is_now(wh_group_open(loop, &group, NULL), 0);
	is(wh_group_close(group), 0);
	is_now(wh_group_go(group, no_body, NULL, NULL), -ESTALE);
	is_now(wh_group_add(group, wh_failed(loop, -EIO), NULL), -ESTALE);
	is(wh_group_wait(group), -ESTALE);
	is(wh_group_next(group, &result), -ESTALE);
	is_now(wh_group_cancel(group), -ESTALE);
	is(wh_group_close(group), -ESTALE);
	is_now(wh_ticker_open(loop, &ticker, 0, -1), -EINVAL);
	is_now(wh_ticker_open(loop, &ticker, 0, 0), 0);
	wh_future tick = wh_ticker_next(ticker);
	is(wh_ticker_next(ticker), -EBUSY);
	is_now(wh_ticker_set(ticker, 0, -1), -EINVAL);
	is_now(wh_ticker_close(ticker), 0);
	is(tick, -ECANCELED);
	is(wh_ticker_next(ticker), -ESTALE);
	is_now(wh_ticker_set(ticker, 0, 1), -ESTALE);
	is_now(wh_ticker_close(ticker), -ESTALE);
	is_now(wh_channel_open(loop, &channel, 16777217, NULL, NULL), -EINVAL);
	is_now(wh_channel_open(loop, &channel, 0, NULL, NULL), 0);
	is(wh_channel_send(channel, -1, NULL), -EINVAL);
	wh_future send = wh_channel_send(channel, 1, NULL);
	is_now(wh_drop(send), -EBUSY);
	is_now(wh_channel_shut(channel), 0);
	is(send, -EPIPE);
	is(wh_channel_send(channel, 1, NULL), -EPIPE);
	is(wh_channel_receive(channel), -EPIPE);
	is_now(wh_channel_close(channel), 0);
	is(wh_channel_send(channel, 1, NULL), -ESTALE);
	is(wh_channel_receive(channel), -ESTALE);
	is_now(wh_channel_count(channel), -ESTALE);
	is_now(wh_channel_shut(channel), -ESTALE);
	is_now(wh_channel_close(channel), -ESTALE);
	is_now(wh_semaphore_open(loop, &semaphore, 2), 0);
	is(wh_semaphore_acquire(semaphore, 3), -EINVAL);
	is_now(wh_semaphore_release(semaphore, 1), -EINVAL);
	is(wh_semaphore_acquire(semaphore, 2), 2);
	wh_future more = wh_semaphore_acquire(semaphore, 1);
	is_now(wh_semaphore_close(semaphore), 0);
	is(more, -ECANCELED);
	is(wh_semaphore_acquire(semaphore, 1), -ESTALE);
	is_now(wh_semaphore_release(semaphore, 1), -ESTALE);
	is_now(wh_semaphore_close(semaphore), -ESTALE);
	assert_int_equal(wrong, 0);
}

/* ---- processes and signals -------------------------------------------------------------------- */

static int no_preparation(void)
{
	return 0;
}

/* In a process that has waited for no signal yet, and started nothing. */
static void with_no_descriptors(void)
{
	struct rlimit none = {3, 3}; /* what is open stays open */
	const char *const argv[] = {"true", NULL};
	struct wh_spawn_options options = {.argv = argv, .pipe_out = true};
	struct wh_child child;
	if (setrlimit(RLIMIT_NOFILE, &none) != 0)
		_exit(2);
	is(wh_signal(loop, SIGUSR1), -EMFILE);
	is_now(wh_spawn(loop, &options, &child), -EMFILE);
}

static void without_descriptors(void **state)
{
	in_another_process(no_preparation, with_no_descriptors);
}

static void children_that_are_none(void **state)
{
	if (under_valgrind())
		skip(); /* it knows no pidfd_open(2) */
	wrong = 0;
	is(wh_child_wait(loop, -1), -EINVAL);
	is(wh_child_wait(loop, 0x7ffffff0), -ECHILD);
	is_now(wh_child_kill(loop, 0x7ffffff0, SIGTERM), -ESRCH);
	is_now(wh_child_kill(loop, getpid(), 9999), -EINVAL);
	is(wh_signal(loop, SIGKILL), -EINVAL);
	is(wh_signal(loop, SIGSTOP), -EINVAL);
	is(wh_signal(loop, 0), -EINVAL);
	is(wh_signal(loop, 9999), -EINVAL);
	assert_int_equal(wrong, 0);
}

static void others_are_not_killed(void)
{
	is_now(wh_child_kill(loop, 1, SIGTERM), -EPERM);
}

static void without_permission(void **state)
{
	assert_int_equal(chmod(folder, 0755), 0);
	in_another_process(become_nobody, others_are_not_killed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(futures_that_are_gone),   IN_FOLDER(callbacks_do_not_wait),
		IN_FOLDER(handles_that_are_closed), IN_FOLDER(without_descriptors),
		IN_FOLDER(children_that_are_none),  IN_FOLDER(without_permission),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
