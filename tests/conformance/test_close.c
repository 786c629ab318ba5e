/* tests/conformance/test_close.c -- closing a loop in any state: everything ends once, nothing is left behind. */
#include "conformance.h"

#include <dirent.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <time.h>

static int ended_count, wrong_count;

static void note_end(wh_loop *l, wh_res res, void *arg)
{
	ended_count++;
	if (res.n != -ECANCELED)
		wrong_count++;
}

static int thread_count(void)
{
	int count = -2; /* "." and ".." */
	DIR *tasks = opendir("/proc/self/task");
	while (readdir(tasks))
		count++;
	closedir(tasks);
	return count;
}

static int64_t monotonic_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * WH_NS_PER_S + ts.tv_nsec;
}

static int64_t wait_for_semaphore(void *arg)
{
	while (sem_wait(arg) != 0)
		;
	return 1;
}

static void *nothing(void *arg)
{
	return arg;
}

static void everything_pending_is_cancelled(void **state)
{
	/* a sanitizer starts a thread of its own with the first one that a program makes */
	pthread_t first;
	assert_int_equal(pthread_create(&first, NULL, nothing, NULL), 0);
	pthread_join(first, NULL);
	int fds[2], full[2], pipes[2], before = open_fd_count(), threads = thread_count();
	char byte, byte2;
	static char big[4000000];
	struct sockaddr_in address;
	wh_mark *mark;
	for (int round = 0; round < 6; round++) {
		ended_count = wrong_count = 0;
		make_pair(fds);
		make_pair(full);
		assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
		int listener = listen_tcp(&address);
		assert_int_equal(wh_mark_open(loop, &mark, 0), 0);
		wh_future both[] = {wh_sleep(loop, WH_NS_PER_S * 1000), wh_promise(loop, NULL, NULL)};
		const wh_future fs[] = {
			wh_recv(loop, fds[0], &byte, 1),
			wh_send_all(loop, full[0], big, sizeof big),
			wh_recv_buf(loop, fds[1]),
			wh_accept(loop, listener),
			wh_accept(loop, listener),
			wh_read(loop, pipes[0], &byte2, 1),
			wh_ready(loop, fds[1], POLLIN),
			wh_sleep(loop, WH_NS_PER_S * 1000),
			wh_promise(loop, NULL, NULL),
			wh_mark_wait(mark, 1),
			wh_signal(loop, SIGUSR2),
			wh_all(loop, both, 2, NULL),
			wh_deadline(wh_promise(loop, NULL, NULL), wh_clock(loop) + WH_NS_PER_S * 1000),
		};
		int count = sizeof fs / sizeof *fs;
		if (round % 2)
			assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
		for (int i = 0; i < count; i++)
			if (round / 2 == 0)
				assert_int_equal(wh_then(fs[i], note_end, NULL), 0);
			else if (round / 2 == 1 && wh_drop(fs[i]) == -EBUSY)
				assert_int_equal(wh_then(fs[i], note_end, NULL), 0);
		loop = wh_loop_close(loop); /* round / 2 == 2: nobody consumes */
		wh_mark_raise(mark, 5);
		wh_mark_close(mark);
		if (round / 2 == 0)
			assert_int_equal(ended_count, count);
		assert_int_equal(wrong_count, 0);
		close(listener);
		for (int i = 0; i < 2; i++) {
			close(fds[i]);
			close(full[i]);
			close(pipes[i]);
		}
		open_loop(NULL);
	}
	close_loop(NULL);
	/* one that was joined may still be seen, ending */
	int64_t until = monotonic_now() + 5 * WH_NS_PER_S;
	while (thread_count() > threads && monotonic_now() < until)
		sched_yield();
	assert_true(thread_count() <= threads);
	/* the pipe of a signal is kept for the next loop that wants it */
	assert_true(open_fd_count() <= before + 2);
}

static void results_nobody_took_are_disposed_of(void **state)
{
	struct sockaddr_in address;
	int fds[2], before = open_fd_count();
	for (int round = 0; round < 2; round++) {
		int listener = listen_tcp(&address);
		make_pair(fds);
		wh_future fs[] = {wh_accept(loop, listener),
		                  wh_connect(loop, (struct sockaddr *)&address, sizeof address),
		                  wh_open(loop, "/dev/null", O_RDONLY, 0), wh_list(loop, "/"),
		                  wh_recv_buf(loop, fds[0])};
		assert_int_equal(write(fds[1], "abc", 3), 3);
		for (int i = 0; i < 5 && round > 0; i++)
			while (!wh_done(fs[i]))
				assert_int_equal(wh_loop_turn(loop, -1), 0);
		loop = wh_loop_close(loop);
		close(listener);
		close(fds[0]);
		close(fds[1]);
		open_loop(NULL);
	}
	assert_int_equal(open_fd_count(), before);
}

static int fds_to_close[2];

static void close_in_callback(wh_loop *l, wh_res res, void *arg)
{
	assert_int_equal(res.n, -ECANCELED);
	/* starting fails, closing does not: descriptors are not leaked */
	assert_int_equal(wh_await(wh_sleep(l, 0)).n, -ECANCELED);
	assert_int_equal(wh_await(wh_promise(l, NULL, NULL)).n, -ECANCELED);
	assert_int_equal(wh_await(wh_recv(l, fds_to_close[0], arg, 1)).n, -ECANCELED);
	assert_int_equal(wh_then(wh_close(l, fds_to_close[0]), note, arg), 0);
	assert_int_equal(wh_drop(wh_close(l, fds_to_close[1])), 0);
}

static void callbacks_may_close_descriptors(void **state)
{
	struct seen closed = {0};
	make_pair(fds_to_close);
	static char bytes[sizeof(struct seen)];
	assert_int_equal(wh_then(wh_recv(loop, fds_to_close[0], bytes, 1), close_in_callback, &closed), 0);
	loop = wh_loop_close(loop);
	assert_int_equal(closed.count, 1);
	assert_int_equal(closed.last.n, 0);
	assert_int_equal(fcntl(fds_to_close[0], F_GETFD), -1);
	assert_int_equal(fcntl(fds_to_close[1], F_GETFD), -1);
}

static int restarted_count, refused;

static void always_again(wh_loop *l, wh_res res, void *arg)
{
	restarted_count++;
	refused = wh_then(wh_accept(l, *(int *)arg), always_again, arg);
}

static void a_callback_that_always_starts_anew_is_stopped(void **state)
{
	struct sockaddr_in address;
	int listener = listen_tcp(&address);
	assert_int_equal(wh_then(wh_accept(loop, listener), always_again, &listener), 0);
	loop = wh_loop_close(loop);
	assert_true(restarted_count > 1);
	assert_int_equal(refused, -ECANCELED);
	close(listener);
}

static void post_late(void *arg)
{
	(*(int *)arg)++;
}

static void posts_run_before_the_end(void **state)
{
	int count = 0;
	for (int i = 0; i < 5; i++)
		assert_int_equal(wh_post(loop, post_late, &count), 0);
	assert_int_equal(wh_defer(loop, post_late, &count), 0);
	loop = wh_loop_close(loop);
	assert_int_equal(count, 6);
}

static void work_is_waited_for(void **state)
{
	sem_t semaphore;
	struct seen seen = {0};
	wh_future fs[20];
	sem_init(&semaphore, 0, 20); /* on an engine without workers nobody else would post */
	for (int i = 0; i < 20; i++)
		fs[i] = wh_work(loop, wait_for_semaphore, &semaphore);
	for (int i = 0; i < 20; i++)
		assert_int_equal(wh_then(fs[i], note, &seen), 0);
	loop = wh_loop_close(loop);
	assert_int_equal(seen.count, 20);
	sem_destroy(&semaphore);
}

/* ---- loops with a thread of their own ---- */

static atomic_int posted;

static void count_post(void *arg)
{
	atomic_fetch_add(&posted, 1);
	sem_post(arg);
}

static void *later_future;

static void make_promise(void *arg)
{
	*(wh_future *)later_future = wh_promise(arg, NULL, NULL);
}

static void started_loops(void **state)
{
	sem_t semaphore;
	sem_init(&semaphore, 0, 0);
	struct wh_loop_options options = {.name = "second"};
	for (int round = 0; round < 20; round++) {
		wh_loop *other;
		assert_int_equal(wh_loop_start(&other, &options), 0);
		if (round % 4 != 0) {
			assert_int_equal(wh_post(other, count_post, &semaphore), 0);
			wait_for_semaphore(&semaphore);
		}
		if (round % 4 == 2) /* it does not end when nothing is pending, but when it is told */
			wh_loop_stop(other);
		assert_int_equal(wh_loop_run(other), -EPERM);
		assert_int_equal(wh_await(wh_sleep(other, 0)).n, -EPERM);
		assert_null(wh_loop_close(other));
	}
	sem_destroy(&semaphore);
	struct wh_loop_options wrong = {.engine = 99};
	wh_loop *untouched = NULL;
	assert_int_equal(wh_loop_start(&untouched, &wrong), -EINVAL);
	assert_null(untouched);
}

static void *await_it(void *arg)
{
	wh_res res = wh_await(*(wh_future *)arg);
	return (void *)(intptr_t)res.n;
}

static void closing_releases_who_waits_on_another_thread(void **state)
{
	for (int round = 0; round < 30; round++) {
		pthread_t threads[3];
		wh_future f = wh_promise(loop, NULL, NULL);
		for (int i = 0; i < 3; i++) /* one of them gets it */
			assert_int_equal(pthread_create(&threads[i], NULL, await_it, &f), 0);
		if (round % 3 == 1)
			usleep(200);
		if (round % 3 == 2)
			assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
		loop = wh_loop_close(loop);
		for (int i = 0; i < 3; i++) {
			void *n;
			pthread_join(threads[i], &n);
			assert_true((intptr_t)n == -ECANCELED || (intptr_t)n == -ESTALE);
		}
		open_loop(NULL);
	}
}

static void *resolve_until_stale(void *arg)
{
	int error;
	do
		error = wh_resolve(*(wh_future *)arg, 1, NULL);
	while (error != -ESTALE);
	return NULL;
}

static void *raise_until_told(void *arg)
{
	wh_mark *mark = arg;
	for (uint64_t value = 1; value < 20000; value++)
		wh_mark_raise(mark, value);
	return NULL;
}

static void closing_races_with_other_threads(void **state)
{
	for (int round = 0; round < 30; round++) {
		pthread_t resolver, raiser;
		wh_mark *mark;
		wh_future f = wh_promise(loop, NULL, NULL);
		assert_int_equal(wh_mark_open(loop, &mark, 0), 0);
		wh_future waits[100];
		for (int i = 0; i < 100; i++)
			waits[i] = wh_mark_wait(mark, (uint64_t)i * 200);
		assert_int_equal(pthread_create(&resolver, NULL, resolve_until_stale, &f), 0);
		assert_int_equal(pthread_create(&raiser, NULL, raise_until_told, mark), 0);
		if (round % 2)
			assert_int_equal(wh_loop_turn(loop, 0), 0);
		for (int i = 0; i < 50; i++)
			assert_int_equal(wh_drop(waits[i]), 0);
		loop = wh_loop_close(loop);
		pthread_join(resolver, NULL);
		pthread_join(raiser, NULL);
		wh_mark_close(mark);
		open_loop(NULL);
	}
}

static void a_future_of_another_loop(void **state)
{
	/* consumed across loops of two threads: awaited, but not polled or dropped */
	wh_loop *other;
	wh_future f = {0};
	struct seen seen = {0};
	wh_res res;
	assert_int_equal(wh_loop_start(&other, NULL), 0);
	later_future = &f;
	assert_int_equal(wh_post(other, make_promise, other), 0);
	sem_t semaphore;
	sem_init(&semaphore, 0, 0);
	assert_int_equal(wh_post(other, count_post, &semaphore), 0);
	wait_for_semaphore(&semaphore);
	sem_destroy(&semaphore);
	assert_int_equal(wh_then(f, note, &seen), -EPERM);
	assert_int_equal(wh_drop(f), -EPERM);
	assert_true(wh_poll(f, &res));
	assert_int_equal(res.n, -EPERM);
	wh_cancel(f);
	wh_future fs[] = {f};
	assert_int_equal(wh_await(wh_all(loop, fs, 1, &res)).n, -ESTALE);
	assert_int_equal(wh_resolve(f, 12, NULL), 0);
	assert_int_equal(wh_await(f).n, 12);
	assert_int_equal(wh_await(f).n, -ESTALE);
	wh_loop_close(other);
	assert_int_equal(wh_await(f).n, -ESTALE);
}

static void await_elsewhere(wh_loop *l, wh_res res, void *arg)
{
	struct seen *seen = arg;
	seen->last = wh_await(*(wh_future *)later_future);
	seen->count++;
}

static void a_callback_does_not_wait_for_another_loop_either(void **state)
{
	wh_loop *other;
	struct seen seen = {0};
	assert_int_equal(wh_loop_open(&other, NULL), 0); /* on the same thread */
	wh_future f = wh_promise(other, NULL, NULL);
	later_future = &f;
	assert_int_equal(wh_then(wh_sleep(loop, 0), await_elsewhere, &seen), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.last.n, -EDEADLK);
	assert_int_equal(wh_drop(f), 0);
	assert_null(wh_loop_close(other));
}

static int64_t answer(void *arg)
{
	++*(int *)arg;
	return 5;
}

static void two_loops_of_one_thread_close_in_any_order(void **state)
{
	for (int order = 0; order < 2; order++) {
		struct seen seen[3] = {0};
		int asked = 0, asked_back = 0;
		wh_loop *loops[2];
		assert_int_equal(wh_loop_open(&loops[0], NULL), 0);
		assert_int_equal(wh_loop_open(&loops[1], NULL), 0);
		/* each asks the other; one waits for nothing that will come, and somebody posts to each */
		assert_int_equal(wh_then(wh_ask(loops[0], loops[1], answer, &asked), note, &seen[0]), 0);
		assert_int_equal(wh_then(wh_ask(loops[1], loops[0], answer, &asked_back), note, &seen[1]), 0);
		wh_future f = wh_promise(loops[0], NULL, NULL);
		assert_int_equal(wh_then(f, note, &seen[2]), 0);
		wh_loop *first = loops[order], *second = loops[1 - order];
		assert_null(wh_loop_close(first));
		/* what the first asked was taken back, what it was asked it has answered */
		assert_int_equal(seen[order].count, 1);
		assert_int_equal(seen[order].last.n, -ECANCELED);
		assert_int_equal(order == 0 ? asked : asked_back, 0);
		assert_int_equal(order == 0 ? asked_back : asked, 1);
		if (order == 0)
			assert_int_equal(wh_await(f).n, -ESTALE);
		assert_null(wh_loop_close(second));
		assert_int_equal(seen[1 - order].count, 1);
		assert_int_equal(seen[1 - order].last.n, 5);
		assert_int_equal(seen[2].count, 1);
		assert_int_equal(seen[2].last.n, -ECANCELED);
	}
}

static int descriptor_count(void)
{
	int count = 0;
	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* A terminal that blocks is opened once more for the loop, and that goes with it. */
static void nothing_is_left_of_a_terminal(void **state)
{
	int other = posix_openpt(O_RDWR | O_NOCTTY);
	assert_true(other >= 0);
	assert_int_equal(grantpt(other), 0);
	assert_int_equal(unlockpt(other), 0);
	int before = descriptor_count();
	for (int i = 0; i < 3; i++) {
		int terminal = open(ptsname(other), O_RDWR | O_NOCTTY);
		assert_true(terminal >= 0);
		assert_int_equal(wh_await(wh_write(loop, terminal, "hello", 5)).n, 5);
		assert_int_equal(wh_await(wh_close(loop, terminal)).n, 0);
	}
	assert_true(descriptor_count() <= before + 1); /* what the engine keeps for waiting */
	close(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(everything_pending_is_cancelled),
		ON_LOOP(results_nobody_took_are_disposed_of),
		ON_LOOP(callbacks_may_close_descriptors),
		ON_LOOP(nothing_is_left_of_a_terminal),
		ON_LOOP(a_callback_that_always_starts_anew_is_stopped),
		ON_LOOP(posts_run_before_the_end),
		ON_LOOP(work_is_waited_for),
		ON_LOOP(started_loops),
		ON_LOOP(closing_releases_who_waits_on_another_thread),
		ON_LOOP(closing_races_with_other_threads),
		ON_LOOP(a_future_of_another_loop),
		ON_LOOP(a_callback_does_not_wait_for_another_loop_either),
		ON_LOOP(two_loops_of_one_thread_close_in_any_order),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
