/* tests/conformance/test_task.c -- tasks: begin, wait, yield, end, be cancelled, in one order with callbacks. */
#include "tasks.h"

#include <sys/wait.h>

/* ---- beginning and ending ---- */

static int64_t give(void *arg)
{
	return *(int64_t *)arg;
}

static void a_body_gives_its_result(void **state)
{
	int64_t values[] = {0, 7, INT64_MAX, -EIO, INT64_MIN + 1};
	for (int i = 0; i < 5; i++)
		assert_int_equal(wh_await(wh_go(loop, give, &values[i])).n, values[i]);
	struct seen seen = {0};
	assert_int_equal(wh_then(wh_go(loop, give, &values[1]), note, &seen), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.last.n, 7);
	wh_res res;
	wh_future f = wh_go(loop, give, &values[1]);
	assert_false(wh_poll(f, &res)); /* never before wh_go() has returned */
	turn_once();
	assert_true(wh_poll(f, &res));
	assert_int_equal(res.n, 7);
	assert_int_equal(wh_await(f).n, -ESTALE);
	assert_int_equal(wh_await(wh_go(loop, NULL, NULL)).n, -EINVAL);
}

static void say_callback(wh_loop *l, wh_res res, void *arg)
{
	say(arg);
}

static int64_t begin_another(void *arg)
{
	static char inner[] = "inner";
	say("outer-begins");
	wh_future f = wh_go(wh_self(), say_it, inner);
	say("outer-goes-on");
	assert_int_equal(wh_await(f).n, 0);
	say(arg);
	return 0;
}

static void they_begin_in_order_and_never_inline(void **state)
{
	static char a[] = "a", b[] = "b", c[] = "c", ends[] = "outer-ends";
	trace[0] = 0;
	assert_int_equal(wh_detach(wh_go(loop, say_it, a)), 0);
	assert_int_equal(wh_then(wh_promise(loop, NULL, NULL), say_callback, b), 0);
	assert_int_equal(wh_detach(wh_go(loop, say_it, c)), 0);
	assert_string_equal(trace, "");
	turn_once();
	assert_string_equal(trace, "a c ");
	trace[0] = 0;
	assert_int_equal(wh_await(wh_go(loop, begin_another, ends)).n, 0);
	assert_string_equal(trace, "outer-begins outer-goes-on inner outer-ends ");
}

/* ---- waiting ---- */

static int64_t sleep_and_say(void *arg)
{
	const char *name = arg;
	wh_loop *l = wh_self();
	for (int i = 0; i < 3; i++) {
		int64_t before = wh_clock(l), ns = (name[0] - 'a' + 2) * 3 * WH_NS_PER_MS;
		assert_int_equal(wh_await(wh_sleep(l, ns)).n, 0);
		assert_true(wh_clock(l) >= before + ns);
		say(name);
	}
	return 3;
}

static void tasks_wait_side_by_side(void **state)
{
	static char a[] = "a", c[] = "c";
	trace[0] = 0;
	wh_future fs[] = {wh_go(loop, sleep_and_say, a), wh_go(loop, sleep_and_say, c)};
	wh_res results[2];
	int64_t began = monotonic();
	assert_int_equal(wh_await(wh_all(loop, fs, 2, results)).n, 0);
	assert_true(monotonic() - began >= 36 * WH_NS_PER_MS);
	assert_int_equal(results[0].n, 3);
	assert_int_equal(results[1].n, 3);
	if (on_sim()) /* elsewhere a slow machine may be late for some */
		assert_string_equal(trace, "a c a a c c ");
}

struct talk {
	int fds[2];
	int rounds;
};

static int64_t answer(void *arg)
{
	struct talk *talk = arg;
	char byte;
	int64_t n;
	while ((n = wh_await(wh_recv(wh_self(), talk->fds[1], &byte, 1)).n) == 1) {
		byte++;
		if ((n = wh_await(wh_send_all(wh_self(), talk->fds[1], &byte, 1)).n) < 0)
			return n;
	}
	return n;
}

static int64_t ask(void *arg)
{
	struct talk *talk = arg;
	for (int i = 0; i < 500; i++) {
		char byte = (char)(i % 100);
		if (wh_await(wh_send_all(wh_self(), talk->fds[0], &byte, 1)).n != 1 ||
		    wh_await(wh_recv(wh_self(), talk->fds[0], &byte, 1)).n != 1 || byte != i % 100 + 1)
			return -EPROTO;
		talk->rounds++;
	}
	wh_shutdown(wh_self(), talk->fds[0], SHUT_WR);
	return 0;
}

static void tasks_talk_through_sockets(void **state)
{
	struct talk talk = {.rounds = 0};
	make_pair(talk.fds);
	wh_future fs[] = {wh_go(loop, answer, &talk), wh_go(loop, ask, &talk)};
	wh_res results[2];
	assert_int_equal(wh_await(wh_all(loop, fs, 2, results)).n, 0);
	assert_int_equal(talk.rounds, 500);
	close_fd(talk.fds[0]);
	close_fd(talk.fds[1]);
}

static int64_t use_files(void *arg)
{
	char path[] = "/tmp/whilst-task-XXXXXX", bytes[100] = "whilst";
	wh_loop *l = wh_self();
	int fd = (int)wh_await(wh_make_temporary(l, path, 0)).n;
	assert_true(fd >= 0);
	assert_int_equal(wh_await(wh_pwrite_all(l, fd, bytes, 100, 0)).n, 100);
	assert_int_equal(wh_await(wh_fsync(l, fd, true)).n, 0);
	memset(bytes, 0, sizeof bytes);
	assert_int_equal(wh_await(wh_pread_all(l, fd, bytes, 100, 0)).n, 100);
	assert_string_equal(bytes, "whilst");
	assert_int_equal(wh_await(wh_close(l, fd)).n, 0);
	assert_int_equal(wh_await(wh_unlink(l, path)).n, 0);
	return wh_await(wh_work(l, give, arg)).n;
}

static void a_task_uses_files_and_workers(void **state)
{
	int64_t value = 99;
	wh_future fs[20];
	for (int i = 0; i < 20; i++)
		fs[i] = wh_go(loop, use_files, &value);
	for (int i = 0; i < 20; i++)
		assert_int_equal(wh_await(fs[i]).n, 99);
}

static int64_t say_and_yield(void *arg)
{
	for (int i = 0; i < 3; i++) {
		say(arg);
		assert_int_equal(wh_yield(), 0);
	}
	return 0;
}

static void a_yield_lets_others_run(void **state)
{
	static char a[] = "a", b[] = "b";
	trace[0] = 0;
	assert_int_equal(wh_detach(wh_go(loop, say_and_yield, a)), 0);
	assert_int_equal(wh_detach(wh_go(loop, say_and_yield, b)), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_string_equal(trace, "a b a b a b ");
	assert_int_equal(wh_yield(), -EPERM);
}

static int64_t take_what_is_there(void *arg)
{
	int *stop = arg;
	int64_t taken = 0;
	while (!*stop) {
		wh_future f = wh_promise(wh_self(), NULL, NULL);
		assert_int_equal(wh_resolve(f, 5, NULL), 0);
		assert_int_equal(wh_await(f).n, 5);
		taken++;
	}
	return taken;
}

static int64_t fail_at_once(void *arg)
{
	int *stop = arg;
	int64_t taken = 0;
	for (; !*stop; taken++)
		assert_int_equal(wh_await(wh_failed(wh_self(), -EIO)).n, -EIO);
	return taken;
}

static void set_it(wh_loop *l, wh_res res, void *arg)
{
	*(int *)arg = 1;
}

static void results_that_are_there_do_not_starve_others(void **state)
{
	wh_work_function *bodies[] = {take_what_is_there, fail_at_once};
	for (int i = 0; i < 2; i++) {
		int stop = 0;
		wh_future f = wh_go(loop, bodies[i], &stop);
		assert_int_equal(wh_then(wh_sleep(loop, WH_NS_PER_MS), set_it, &stop), 0);
		assert_true(wh_await(f).n > 0);
	}
}

static int64_t hand_on(void *arg)
{
	wh_future *f = arg;
	return wh_await(*f).n + 1;
}

static void a_task_waits_for_a_task(void **state)
{
	/* a chain: each waits for the one before */
	enum { LENGTH = 200 };
	wh_future fs[LENGTH + 1];
	fs[0] = wh_promise(loop, NULL, NULL);
	for (int i = 0; i < LENGTH; i++)
		fs[i + 1] = wh_go(loop, hand_on, &fs[i]);
	turn_once();
	assert_int_equal(wh_resolve(fs[0], 1000, NULL), 0);
	assert_int_equal(wh_await(fs[LENGTH]).n, 1000 + LENGTH);
}

static int64_t sleep_long(void *arg)
{
	return wh_await(wh_sleep(wh_self(), 3600 * WH_NS_PER_S)).n;
}

static int64_t set_limits(void *arg)
{
	wh_loop *l = wh_self();
	wh_res results[2];
	assert_int_equal(wh_await(wh_deadline(wh_sleep(l, 3600 * WH_NS_PER_S), wh_clock(l) + WH_NS_PER_MS)).n,
	                 -ETIMEDOUT);
	assert_int_equal(wh_await(wh_deadline(wh_go(l, sleep_long, NULL), wh_clock(l) + WH_NS_PER_MS)).n,
	                 -ETIMEDOUT);
	assert_int_equal(wh_await(wh_deadline(wh_go(l, give, arg), wh_clock(l) + 3600 * WH_NS_PER_S)).n, 7);
	wh_future race[] = {wh_go(l, sleep_long, NULL), wh_go(l, give, arg)};
	assert_int_equal(wh_await(wh_any(l, race, 2, results)).n, 1);
	assert_int_equal(results[0].n, -ECANCELED);
	assert_int_equal(results[1].n, 7);
	return 0;
}

static void combinators_and_deadlines(void **state)
{
	int64_t seven = 7;
	assert_int_equal(wh_await(wh_go(loop, set_limits, &seven)).n, 0);
	assert_int_equal(
		wh_await(wh_deadline(wh_go(loop, sleep_long, NULL), wh_clock(loop) + WH_NS_PER_MS)).n,
		-ETIMEDOUT);
}

/* ---- being cancelled ---- */

struct cleaned {
	int fds[2];
	int step;
	wh_future shared;
};

static int64_t clean_up(void *arg)
{
	struct cleaned *c = arg;
	wh_loop *l = wh_self();
	char byte;
	assert_false(wh_is_cancelled());
	assert_int_equal(wh_await(wh_sleep(l, 3600 * WH_NS_PER_S)).n, -ECANCELED);
	assert_true(wh_is_cancelled());
	c->step = 1;
	/* every later wait is asked to cancel at once; */
	assert_int_equal(wh_await(wh_promise(l, NULL, NULL)).n, -ECANCELED);
	assert_int_equal(wh_await(wh_sleep(l, 3600 * WH_NS_PER_S)).n, -ECANCELED);
	/* what is there is given; */
	assert_int_equal(wh_await(c->shared).n, 12);
	if (!on_sim()) {
		assert_int_equal(wh_await(wh_recv(l, c->fds[0], &byte, 1)).n, -ECANCELED);
		/* and descriptors are closed */
		assert_int_equal(wh_await(wh_close(l, c->fds[0])).n, 0);
	}
	assert_int_equal(wh_yield(), -ECANCELED);
	/* a farewell that waits */
	assert_false(wh_shield(true));
	assert_false(wh_is_cancelled());
	assert_int_equal(wh_await(wh_sleep(l, WH_NS_PER_MS)).n, 0);
	assert_int_equal(wh_yield(), 0);
	c->step = 2;
	assert_true(wh_shield(false));
	assert_true(wh_is_cancelled());
	return -ECANCELED;
}

static void a_cancelled_task_cleans_up(void **state)
{
	struct cleaned c = {.step = 0};
	if (!on_sim())
		make_pair(c.fds);
	c.shared = wh_promise(loop, NULL, NULL);
	wh_resolve(c.shared, 12, NULL);
	wh_future f = wh_go(loop, clean_up, &c);
	turn_once();
	wh_cancel(f);
	wh_cancel(f);
	assert_int_equal(c.step, 0); /* a request */
	assert_int_equal(wh_await(f).n, -ECANCELED);
	assert_int_equal(c.step, 2);
	if (!on_sim()) {
		assert_int_equal(fcntl(c.fds[0], F_GETFD), -1);
		close_fd(c.fds[1]);
	}
}

static int64_t note_cancelled(void *arg)
{
	*(int *)arg = wh_is_cancelled() ? 1 : 2;
	return wh_await(wh_sleep(wh_self(), 3600 * WH_NS_PER_S)).n;
}

static void cancelled_before_it_began_it_runs_all_the_same(void **state)
{
	int seen = 0;
	wh_future f = wh_go(loop, note_cancelled, &seen);
	wh_cancel(f);
	assert_int_equal(seen, 0);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	assert_int_equal(seen, 1);
	seen = 0;
	assert_int_equal(wh_drop(wh_go(loop, note_cancelled, &seen)), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(seen, 1);
}

static int64_t shielded_wait(void *arg)
{
	wh_shield(true);
	int64_t n = wh_await(*(wh_future *)arg).n;
	wh_shield(false);
	return n;
}

static void a_shielded_wait_is_not_cancelled(void **state)
{
	wh_future inner = wh_promise(loop, NULL, NULL), f = wh_go(loop, shielded_wait, &inner);
	turn_once();
	wh_cancel(f);
	turn_once();
	assert_false(wh_done(f));
	assert_int_equal(wh_resolve(inner, 4, NULL), 0);
	assert_int_equal(wh_await(f).n, 4);
	assert_false(wh_shield(true)); /* outside tasks it does nothing */
	assert_false(wh_shield(false));
}

static int64_t await_child(void *arg)
{
	return wh_await(wh_go(wh_self(), wait_for_ever, arg)).n;
}

static void cancelling_reaches_the_task_it_waits_for(void **state)
{
	int ended = 0;
	wh_future f = wh_go(loop, await_child, &ended);
	turn_once();
	turn_once();
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	assert_int_equal(ended, 1);
}

static void dropping_cancels_and_detaching_does_not(void **state)
{
	int ended = 0;
	wh_future f = wh_go(loop, wait_for_ever, &ended);
	turn_once();
	assert_int_equal(wh_drop(f), 0);
	assert_int_equal(wh_await(f).n, -ESTALE);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(ended, 1);
	static char name[] = "c";
	trace[0] = 0;
	f = wh_go(loop, sleep_and_say, name);
	assert_int_equal(wh_detach(f), 0);
	assert_int_equal(wh_detach(f), -ESTALE);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_string_equal(trace, "c c c ");
	/* any future can be detached */
	f = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_detach(f), 0);
	assert_int_equal(wh_resolve(f, 0, NULL), 0);
	f = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_resolve(f, 0, NULL), 0);
	assert_int_equal(wh_detach(f), 0);
	assert_int_equal(wh_detach(wh_failed(loop, -EIO)), 0);
}

static int64_t cancel_self(void *arg)
{
	wh_cancel(wh_task_self());
	assert_true(wh_is_cancelled());
	return wh_await(wh_sleep(wh_self(), 3600 * WH_NS_PER_S)).n;
}

static void a_task_cancels_itself(void **state)
{
	assert_int_equal(wh_await(wh_go(loop, cancel_self, NULL)).n, -ECANCELED);
	assert_int_equal(wh_task_self().id, 0);
}

/* ---- mistakes ---- */

static int64_t await_self(void *arg)
{
	return wh_await(wh_task_self()).n;
}

static int64_t await_other(void *arg)
{
	return wh_await(*(wh_future *)arg).n;
}

static void waiting_for_oneself_is_told(void **state)
{
	assert_int_equal(wh_await(wh_go(loop, await_self, NULL)).n, -EDEADLK);
	/* three in a circle: the last to wait is told, and so the others end */
	wh_future fs[3];
	for (int i = 0; i < 3; i++)
		fs[i] = wh_go(loop, await_other, &fs[(i + 1) % 3]);
	turn_once();
	for (int i = 0; i < 10; i++)
		turn_once();
	int deadlocks = 0, stale = 0;
	for (int i = 0; i < 3; i++) {
		int64_t n = wh_await(fs[i]).n;
		deadlocks += n == -EDEADLK;
		stale += n == -ESTALE; /* another one has consumed it */
	}
	assert_int_equal(deadlocks, 1);
	assert_int_equal(stale, 2);
}

static wh_future circle[2];

static int64_t await_combined(void *arg)
{
	const bool *with_deadline = arg;
	wh_future f =
		*with_deadline ? wh_deadline(circle[1], INT64_MAX) : wh_all(wh_self(), &circle[1], 1, NULL);
	return wh_await(f).n;
}

static int64_t await_first_of_circle(void *arg)
{
	return wh_await(circle[0]).n;
}

static void waiting_for_oneself_through_a_combination_is_told(void **state)
{
	for (int round = 0; round < 4; round++) {
		bool with_deadline = round % 2 == 1;
		circle[0] = wh_go(loop, await_combined, &with_deadline);
		circle[1] = wh_go(loop, await_first_of_circle, NULL);
		turn_once();
		if (round < 2) {
			/* the second to wait was told, which ended the first, which nobody has asked */
			assert_int_equal(wh_await(circle[0]).n, -EDEADLK);
			continue;
		}
		/* and a cancel ends all of it */
		wh_cancel(circle[0]);
		turn_once();
		assert_int_equal(wh_await(circle[0]).n, -EDEADLK);
	}
}

static int64_t use_the_loop_wrongly(void *arg)
{
	wh_loop *l = wh_self();
	assert_int_equal(wh_loop_run(l), -EDEADLK);
	assert_int_equal(wh_loop_turn(l, 0), -EDEADLK);
	assert_int_equal(wh_await((wh_future){0}).n, -ESTALE);
	wh_future f = wh_sleep(l, 0);
	assert_int_equal(wh_await(f).n, 0);
	assert_int_equal(wh_await(f).n, -ESTALE);
	return 0;
}

static void await_in_callback(wh_loop *l, wh_res res, void *arg)
{
	wh_future f = wh_sleep(l, 0);
	*(int64_t *)arg = wh_await(f).n;
	assert_int_equal(wh_yield(), -EPERM);
	assert_int_equal(wh_task_self().id, 0);
	assert_false(wh_is_cancelled());
	wh_drop(f);
}

static void the_rules_of_callbacks_stay(void **state)
{
	int64_t n = 0;
	assert_int_equal(wh_await(wh_go(loop, use_the_loop_wrongly, NULL)).n, 0);
	/* also between two steps of a task */
	wh_future f = wh_go(loop, sleep_long, NULL);
	assert_int_equal(wh_then(wh_sleep(loop, 0), await_in_callback, &n), 0);
	while (n == 0)
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	assert_int_equal(n, -EDEADLK);
	assert_int_equal(wh_drop(f), 0);
}

static void *go_elsewhere(void *arg)
{
	int64_t value = 1;
	struct wh_task_info info;
	assert_int_equal(wh_await(wh_go(loop, give, &value)).n, -EPERM);
	assert_int_equal(wh_task_look(*(wh_future *)arg, &info), -EPERM);
	assert_null(wh_self());
	return NULL;
}

static void another_thread_is_refused(void **state)
{
	pthread_t thread;
	wh_future f = wh_go(loop, sleep_long, NULL);
	assert_int_equal(pthread_create(&thread, NULL, go_elsewhere, &f), 0);
	pthread_join(thread, NULL);
	assert_int_equal(wh_drop(f), 0);
}

static int64_t fork_here(void *arg)
{
	int status;
	wh_loop *l = wh_self();
	wh_future f = wh_sleep(l, 0);
	pid_t pid = fork();
	if (pid == 0) {
		bool right = wh_await(wh_go(l, give, arg)).n == -EPERM && wh_await(f).n == -EPERM &&
		             wh_yield() == -EPERM && wh_self() == NULL;
		_exit(right ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(wh_await(f).n, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static void a_forked_child_is_refused(void **state)
{
	if (SLOW)
		skip(); /* ThreadSanitizer does not follow a fork with threads */
	assert_int_equal(wh_await(wh_go(loop, fork_here, NULL)).n, 0);
}

/* ---- looking ---- */

static int64_t look_at_self(void *arg)
{
	assert_ptr_equal(wh_self(), arg);
	return 0;
}

static void self_in_callback(wh_loop *l, wh_res res, void *arg)
{
	assert_ptr_equal(wh_self(), arg);
}

static int64_t self_at_work(void *arg)
{
	return wh_self() ? -EPERM : 0;
}

static void self_is_the_loop_that_runs(void **state)
{
	assert_ptr_equal(wh_self(), loop);
	wh_loop *first = loop;
	assert_int_equal(open_tasks_loop(NULL), 0); /* a second one */
	wh_loop *second = loop;
	assert_null(wh_self());
	assert_int_equal(wh_await(wh_go(first, look_at_self, first)).n, 0);
	assert_int_equal(wh_await(wh_go(second, look_at_self, second)).n, 0);
	assert_int_equal(wh_then(wh_sleep(first, 0), self_in_callback, first), 0);
	assert_int_equal(wh_then(wh_sleep(second, 0), self_in_callback, second), 0);
	assert_int_equal(wh_loop_run(first), 0);
	assert_int_equal(wh_loop_run(second), 0);
	assert_int_equal(wh_await(wh_work(first, self_at_work, NULL)).n, 0);
	loop = first;
	wh_loop_close(second);
	assert_ptr_equal(wh_self(), first);
	assert_int_equal(wh_await(wh_work(first, self_at_work, NULL)).n, 0);
}

static void a_task_can_be_looked_at(void **state)
{
	struct wh_task_options options = {.name = "a name that is longer than thirty-one bytes",
	                                  .stack_bytes = 200000};
	struct wh_task_info info;
	struct wh_stats stats;
	wh_future inner = wh_promise(loop, NULL, NULL), f = wh_go_with(loop, await_other, &inner, &options);
	assert_int_equal(wh_task_look(f, &info), 0);
	assert_int_equal(info.awaits.id, 0);
	turn_once();
	assert_int_equal(wh_task_look(f, &info), 0);
	assert_string_equal(info.name, "a name that is longer than thir");
	assert_in_range(info.stack_bytes, 198000, 210000);
	assert_int_equal(info.stack_used_max, 0);
	assert_int_equal(info.awaits.id, inner.id);
	assert_false(info.cancelled);
	wh_stats(loop, &stats);
	assert_int_equal(stats.tasks, 1);
	assert_int_equal(stats.tasks_started, 1);
	assert_true(stats.task_switches >= 1 && stats.stacks_mapped_bytes >= 200000);
	assert_int_equal(wh_task_look(inner, &info), -EINVAL);
	wh_cancel(f);
	assert_int_equal(wh_task_look(f, &info), 0);
	assert_true(info.cancelled);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	assert_int_equal(wh_task_look(f, &info), -ESTALE);
	wh_stats(loop, &stats);
	assert_int_equal(stats.tasks, 0);
	struct wh_task_options too_big = {.stack_bytes = UINT32_MAX};
	assert_int_equal(wh_await(wh_go_with(loop, give, &inner, &too_big)).n, -EINVAL);
	assert_null(wh_stack_overflow(&info));
}

static char dumped[4096];

static void keep_line(const char *line, void *arg)
{
	snprintf(dumped + strlen(dumped), sizeof dumped - strlen(dumped), "%s\n", line);
}

static void a_dump_names_tasks(void **state)
{
	struct wh_task_options named = {.name = "fetch"}, other = {.name = "parent"};
	wh_group group;
	wh_channel channel;
	wh_future inner = wh_promise(loop, NULL, NULL), f = wh_go_with(loop, await_other, &inner, &named);
	wh_future outer = wh_go_with(loop, await_other, &f, &other);
	assert_int_equal(wh_group_open(loop, &group, NULL), 0);
	assert_int_equal(wh_channel_open(loop, &channel, 1, NULL, NULL), 0);
	assert_int_equal(wh_group_go(group, wait_for_ever, NULL, NULL), 0);
	dumped[0] = 0;
	assert_true(wh_dump(loop, keep_line, NULL) > 0); /* not begun */
	turn_once();
	dumped[0] = 0;
	assert_true(wh_dump(loop, keep_line, NULL) > 0);
	assert_non_null(strstr(dumped, "awaited by task \"fetch\""));
	assert_non_null(strstr(dumped, "\"fetch\", awaits "));
	assert_non_null(strstr(dumped, "awaited by task \"parent\""));
	assert_non_null(strstr(dumped, "member of a group"));
	assert_non_null(strstr(dumped, "\n  group "));
	assert_non_null(strstr(dumped, "\n  channel "));
	assert_int_equal(wh_drop(outer), 0);
}

static __attribute__((noinline)) int64_t use_stack(size_t bytes)
{
	char frame[1024];
	memset(frame, 1, sizeof frame);
	int64_t below = bytes > sizeof frame ? use_stack(bytes - sizeof frame) : 0;
	__asm__ volatile("" ::"r"(frame) : "memory"); /* no tail call */
	return below;
}

static int64_t use_much(void *arg)
{
	struct wh_task_info info;
	int64_t n = use_stack(*(size_t *)arg);
	assert_int_equal(wh_task_look(wh_task_self(), &info), 0);
	return n < 0 ? n : (int64_t)info.stack_used_max;
}

static void stacks_are_measured_on_request(void **state)
{
	struct wh_loop_options options = {.stacks_measured = true};
	struct wh_stats stats;
	size_t want = 30000;
	close_tasks_loop(NULL);
	assert_int_equal(open_tasks_loop_with(options), 0);
	int64_t used = wh_await(wh_go(loop, use_much, &want)).n;
	assert_in_range(used, 30000, 60000);
	wh_stats(loop, &stats);
	assert_in_range(stats.stack_used_max, used, 60000);
}

static void limits_are_told(void **state)
{
	struct wh_loop_options options = {.futures_max = 10, .stack_bytes = 20000};
	wh_future fs[10];
	int64_t value = 5;
	close_tasks_loop(NULL);
	assert_int_equal(open_tasks_loop_with(options), 0);
	for (int i = 0; i < 10; i++)
		fs[i] = wh_go(loop, give, &value);
	assert_int_equal(wh_await(wh_go(loop, give, &value)).n, -EAGAIN);
	for (int i = 0; i < 10; i++)
		assert_int_equal(wh_await(fs[i]).n, 5);
}

/* ---- many ---- */

static int passed_count;

static int64_t sleep_a_while(void *arg)
{
	int64_t n = wh_await(wh_sleep_until(wh_self(), *(int64_t *)arg)).n;
	passed_count++;
	return n;
}

static size_t resident_bytes(void)
{
	size_t total = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%zu %zu", &total, &resident), 2);
	fclose(file);
	return resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void a_hundred_thousand_at_once(void **state)
{
	const char *few = getenv("WHILST_TASKS"); /* valgrind takes its time */
	int count = few ? atoi(few) : SLOW ? 1000 : 100000;
	wh_future *fs = calloc((size_t)count, sizeof *fs);
	int64_t nothing = 0;
	assert_int_equal(wh_await(wh_go(loop, give, &nothing)).n, 0); /* what is made once is made */
	int64_t at = monotonic() + 3600 * WH_NS_PER_S;
	size_t before = resident_bytes();
	passed_count = 0;
	for (int i = 0; i < count; i++)
		fs[i] = wh_go(loop, sleep_a_while, &at);
	turn_once();
	size_t each = (resident_bytes() - before) / (size_t)count;
	struct wh_stats stats;
	wh_stats(loop, &stats);
	assert_int_equal(stats.tasks, count);
	print_message("%d tasks that wait: %zu resident bytes each\n", count, each);
	if (!SANITIZED && !few)
		assert_true(each <= 8192);
	for (int i = 0; i < count; i++)
		wh_cancel(fs[i]);
	for (int i = 0; i < count; i++)
		assert_int_equal(wh_await(fs[i]).n, -ECANCELED);
	assert_int_equal(passed_count, count);
	wh_stats(loop, &stats);
	assert_int_equal(stats.tasks, 0);
	/* a thousand stacks are kept */
	assert_true(stats.stacks_mapped_bytes < (size_t)count * 65536 / 4 || count < 10000);
	free(fs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_TASKS_LOOP(a_body_gives_its_result),
		ON_TASKS_LOOP(they_begin_in_order_and_never_inline),
		ON_TASKS_LOOP(tasks_wait_side_by_side),
		ON_TASKS_LOOP(tasks_talk_through_sockets),
		ON_TASKS_LOOP(a_task_uses_files_and_workers),
		ON_TASKS_LOOP(a_yield_lets_others_run),
		ON_TASKS_LOOP(results_that_are_there_do_not_starve_others),
		ON_TASKS_LOOP(a_task_waits_for_a_task),
		ON_TASKS_LOOP(combinators_and_deadlines),
		ON_TASKS_LOOP(a_cancelled_task_cleans_up),
		ON_TASKS_LOOP(cancelled_before_it_began_it_runs_all_the_same),
		ON_TASKS_LOOP(a_shielded_wait_is_not_cancelled),
		ON_TASKS_LOOP(cancelling_reaches_the_task_it_waits_for),
		ON_TASKS_LOOP(dropping_cancels_and_detaching_does_not),
		ON_TASKS_LOOP(a_task_cancels_itself),
		ON_TASKS_LOOP(waiting_for_oneself_is_told),
		ON_TASKS_LOOP(waiting_for_oneself_through_a_combination_is_told),
		ON_TASKS_LOOP(the_rules_of_callbacks_stay),
		ON_TASKS_LOOP(another_thread_is_refused),
		ON_TASKS_LOOP(a_forked_child_is_refused),
		ON_TASKS_LOOP(self_is_the_loop_that_runs),
		ON_TASKS_LOOP(a_task_can_be_looked_at),
		ON_TASKS_LOOP(a_dump_names_tasks),
		ON_TASKS_LOOP(stacks_are_measured_on_request),
		ON_TASKS_LOOP(limits_are_told),
		ON_TASKS_LOOP(a_hundred_thousand_at_once),
	};
	need_tasks_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
