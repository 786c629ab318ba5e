/* tests/conformance/test_task_life.c -- tasks and the lives of loops: closing with live tasks, futures of other loops,
 * stacks that overflow. */
#include "tasks.h"

#include <signal.h>
#include <sys/wait.h>

/* ---- closing ---- */

struct closed {
	int fds[2];
	int began, ended, closed_fd;
	int64_t n;
};

static int64_t serve_until_the_end(void *arg)
{
	struct closed *c = arg;
	wh_loop *l = wh_self();
	c->began++;
	c->n = wh_await(wh_promise(l, NULL, NULL)).n;
	/* nothing new can be started, but descriptors are closed, one after the other */
	assert_int_equal(wh_await(wh_sleep(l, 1)).n, -ECANCELED);
	assert_int_equal(wh_await(wh_go(l, wait_for_ever, NULL)).n, -ECANCELED);
	assert_int_equal(wh_yield(), -ECANCELED);
	for (int i = 0; i < 2; i++)
		if (c->fds[i] >= 0)
			c->closed_fd += wh_await(wh_close(l, c->fds[i])).n == 0;
	c->ended++;
	return 5;
}

static void closing_ends_live_tasks(void **state)
{
	for (int round = 0; round < 4; round++) {
		struct closed all[50] = {{{0}}};
		struct seen seen = {0};
		for (int i = 0; i < 50; i++) {
			make_pair(all[i].fds);
			wh_future f = wh_go(loop, serve_until_the_end, &all[i]);
			if (i % 3 == 0)
				assert_int_equal(wh_then(f, note, &seen), 0);
			else if (i % 3 == 1)
				assert_int_equal(wh_detach(f), 0);
		}
		if (round % 2) /* else they have not begun */
			turn_once();
		loop = wh_loop_close(loop);
		for (int i = 0; i < 50; i++) {
			assert_int_equal(all[i].began, 1);
			assert_int_equal(all[i].ended, 1);
			assert_int_equal(all[i].n, -ECANCELED);
			assert_int_equal(all[i].closed_fd, 2);
		}
		assert_int_equal(seen.count, 17);
		assert_int_equal(seen.last.n, 5);
		assert_int_equal(notice_count, 0);
		assert_int_equal(open_tasks_loop(NULL), 0);
	}
}

static int64_t close_many(void *arg)
{
	int *closed = arg;
	wh_loop *l = wh_self();
	(void)wh_await(wh_promise(l, NULL, NULL));
	for (int i = 0; i < 400; i++) { /* more than the turns that callbacks are granted */
		int fds[2];
		make_pair(fds);
		*closed += wh_await(wh_close(l, fds[0])).n == 0;
		*closed += wh_await(wh_close(l, fds[1])).n == 0;
	}
	return 0;
}

static void a_long_farewell_is_waited_for(void **state)
{
	int closed = 0;
	assert_int_equal(wh_detach(wh_go(loop, close_many, &closed)), 0);
	turn_once();
	loop = wh_loop_close(loop);
	assert_int_equal(closed, 800);
}

static volatile bool never;

static int64_t never_listen(void *arg)
{
	while (!never)
		(void)wh_await(wh_sleep(wh_self(), 1));
	return 0;
}

static int64_t yield_for_ever(void *arg)
{
	while (!never)
		(void)wh_yield();
	return 0;
}

static int64_t recurse_and_never_listen(void *arg)
{
	char bytes[3000];
	memset(bytes, 1, sizeof bytes);
	return *(int *)arg > 0 ? never_listen(bytes) : yield_for_ever(bytes);
}

static void who_never_ends_is_given_up(void **state)
{
	int one = 1, zero = 0;
	struct seen seen = {0};
	struct wh_task_options options = {.name = "stubborn"};
	assert_int_equal(wh_detach(wh_go_with(loop, never_listen, NULL, &options)), 0);
	assert_int_equal(wh_then(wh_go_with(loop, yield_for_ever, NULL, &options), note, &seen), 0);
	assert_int_equal(wh_detach(wh_go_with(loop, recurse_and_never_listen, &one, &options)), 0);
	assert_int_equal(wh_detach(wh_go_with(loop, recurse_and_never_listen, &zero, &options)), 0);
	turn_once();
	loop = wh_loop_close(loop);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.last.n, -ECANCELED);
	assert_int_equal(notice_count, 4);
	assert_non_null(strstr(last_notice, "stubborn"));
}

static int64_t shielded(void *arg)
{
	wh_shield(true);
	*(int64_t *)arg = wh_await(wh_sleep(wh_self(), 3600 * WH_NS_PER_S)).n;
	return 0;
}

static void a_shield_does_not_hold_up_a_close(void **state)
{
	int64_t n = 0;
	assert_int_equal(wh_detach(wh_go(loop, shielded, &n)), 0);
	turn_once();
	loop = wh_loop_close(loop);
	assert_int_equal(n, -ECANCELED);
}

static int64_t start_and_leave(void *arg)
{
	(void)wh_go(wh_self(), wait_for_ever, arg);
	return 0;
}

static void nobody_took_their_results(void **state)
{
	int ended = 0;
	(void)wh_go(loop, start_and_leave, &ended);
	(void)wh_go(loop, start_and_leave, &ended);
	turn_once();
	turn_once();
	loop = wh_loop_close(loop);
	assert_int_equal(ended, 2);
}

/* ---- futures of other loops ---- */

struct there {
	wh_loop *loop;
	wh_future f;
	atomic_int ready;
};

static void make_there(void *arg)
{
	struct there *there = arg;
	there->f = wh_promise(there->loop, NULL, NULL);
	atomic_store(&there->ready, 1);
}

static void open_there(struct there *there)
{
	struct wh_loop_options options = {.name = "there"};
	if (on_sim()) {
		options.engine = WH_SIM;
		options.sim = machine;
	}
	atomic_init(&there->ready, 0);
	assert_int_equal(wh_loop_start(&there->loop, &options), 0);
	assert_int_equal(wh_post(there->loop, make_there, there), 0);
	while (!atomic_load(&there->ready))
		assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
}

static int64_t await_it(void *arg)
{
	return wh_await(*(wh_future *)arg).n;
}

static int64_t await_twice(void *arg)
{
	int64_t n = wh_await(*(wh_future *)arg).n;
	return n < 0 ? n : wh_await(*(wh_future *)arg).n == -ESTALE ? n : -EPROTO;
}

static void a_task_waits_for_another_loop(void **state)
{
	struct there there;
	for (int round = 0; round < 20; round++) {
		open_there(&there);
		if (round % 4 == 3) /* it is there already */
			assert_int_equal(wh_resolve(there.f, 7, NULL), 0);
		wh_future f = wh_go(loop, await_twice, &there.f);
		turn_once();
		if (round % 4 == 0) {
			assert_int_equal(wh_resolve(there.f, 7, NULL), 0);
			assert_int_equal(wh_await(f).n, 7);
		} else if (round % 4 == 1) {
			wh_cancel(f);
			wh_cancel(f);
			assert_int_equal(wh_await(f).n, -ECANCELED);
		} else if (round % 4 == 2) {
			assert_null(wh_loop_close(there.loop));
			there.loop = NULL;
			assert_int_equal(wh_await(f).n, -ECANCELED);
		} else {
			assert_int_equal(wh_await(f).n, 7);
		}
		wh_loop_close(there.loop);
		assert_int_equal(wh_await(wh_go(loop, await_it, &there.f)).n, -ESTALE);
	}
}

static void cancelling_races_with_the_other_loop(void **state)
{
	struct there there;
	for (int round = 0; round < 40; round++) {
		open_there(&there);
		wh_future f = wh_go(loop, await_it, &there.f);
		turn_once();
		if (round % 2)
			wh_cancel(f);
		int resolved = wh_resolve(there.f, 9, NULL);
		wh_cancel(f);
		int64_t n = wh_await(f).n;
		assert_true(n == 9 || n == -ECANCELED);
		assert_true(n != 9 || resolved == 0);
		wh_loop_close(there.loop);
	}
}

static void closing_while_a_task_waits_for_another_loop(void **state)
{
	struct there there;
	struct seen seen = {0};
	open_there(&there);
	assert_int_equal(wh_then(wh_go(loop, await_it, &there.f), note, &seen), 0);
	turn_once();
	loop = wh_loop_close(loop);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.last.n, -ECANCELED);
	wh_loop_close(there.loop);
}

static void two_loops_of_one_thread(void **state)
{
	wh_loop *first = loop;
	assert_int_equal(open_tasks_loop(NULL), 0);
	wh_future inner = wh_promise(loop, NULL, NULL), f = wh_go(first, await_it, &inner);
	assert_int_equal(wh_loop_turn(first, 0), 0);
	assert_int_equal(wh_resolve(inner, 3, NULL), 0);
	assert_int_equal(wh_await(f).n, 3);
	inner = wh_sleep(loop, 3600 * WH_NS_PER_S);
	f = wh_go(first, await_it, &inner);
	assert_int_equal(wh_loop_turn(first, 0), 0);
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	/* tasks of both, waiting for each other's */
	wh_future gate = wh_promise(first, NULL, NULL), there = wh_go(loop, await_it, &gate);
	f = wh_go(first, await_it, &there);
	assert_int_equal(wh_loop_turn(first, 0), 0);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	assert_int_equal(wh_resolve(gate, 8, NULL), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(wh_await(f).n, 8);
	wh_loop_close(loop);
	loop = first;
}

static void *await_from_thread(void *arg)
{
	int64_t n = wh_await(*(wh_future *)arg).n;
	wh_loop_stop(loop);
	return (void *)(intptr_t)n;
}

static void another_thread_waits_for_a_task(void **state)
{
	pthread_t thread;
	void *n;
	if (on_sim())
		skip(); /* one thread */
	wh_future gate = wh_promise(loop, NULL, NULL), f = wh_go(loop, await_it, &gate);
	assert_int_equal(pthread_create(&thread, NULL, await_from_thread, &f), 0);
	turn_once();
	assert_int_equal(wh_resolve(gate, 77, NULL), 0);
	wh_future held = wh_promise(loop, NULL, NULL); /* the loop runs until it is stopped */
	assert_int_equal(wh_loop_run(loop), 1);
	assert_int_equal(wh_drop(held), 0);
	pthread_join(thread, &n);
	assert_int_equal((intptr_t)n, 77);
}

/* ---- overflow ---- */

static __attribute__((noinline)) int64_t recurse(int64_t depth)
{
	char frame[1024];
	memset(frame, 1, sizeof frame);
	int64_t below = depth > 0 ? recurse(depth - 1) : 0;
	__asm__ volatile("" ::"r"(frame) : "memory"); /* no tail call */
	return below + frame[5];
}

static int64_t overflow(void *arg)
{
	return recurse(*(int64_t *)arg);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
	const char *name = wh_stack_overflow(info->si_addr);
	_exit(name && !strcmp(name, "deep") ? 42 : 43);
}

static int status_of_overflow(bool handled)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		static char on_another_stack[65536];
		stack_t alternate = {.ss_sp = on_another_stack, .ss_size = sizeof on_another_stack};
		struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
		struct wh_task_options options = {.name = "deep"};
		int64_t deep = 1000000;
		machine = NULL; /* the parent's */
		sigaltstack(&alternate, NULL);
		if (handled)
			sigaction(SIGSEGV, &action, NULL);
		else
			signal(SIGSEGV, SIG_DFL);
		if (open_tasks_loop(NULL) != 0)
			_exit(1);
		(void)wh_await(wh_go_with(loop, overflow, &deep, &options));
		_exit(2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void an_overflow_is_never_silent(void **state)
{
	if (SLOW)
		skip(); /* ThreadSanitizer does not follow a fork with threads */
	int64_t some = 30;
	assert_int_equal(wh_await(wh_go(loop, overflow, &some)).n, 31); /* this much there is room for */
	int status = status_of_overflow(false);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
	status = status_of_overflow(true);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_TASKS_LOOP(closing_ends_live_tasks),
		ON_TASKS_LOOP(a_long_farewell_is_waited_for),
		ON_TASKS_LOOP(who_never_ends_is_given_up),
		ON_TASKS_LOOP(a_shield_does_not_hold_up_a_close),
		ON_TASKS_LOOP(nobody_took_their_results),
		ON_TASKS_LOOP(a_task_waits_for_another_loop),
		ON_TASKS_LOOP(cancelling_races_with_the_other_loop),
		ON_TASKS_LOOP(closing_while_a_task_waits_for_another_loop),
		ON_TASKS_LOOP(two_loops_of_one_thread),
		ON_TASKS_LOOP(another_thread_waits_for_a_task),
		ON_TASKS_LOOP(an_overflow_is_never_silent),
	};
	need_tasks_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
