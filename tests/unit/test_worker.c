/* tests/unit/test_worker.c -- worker classes: bounds, order, cancelling, closing.
 *
 * Stands alone: the functions given to the class count completions themselves, so no loop is needed.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/loop.h"

static wh_loop *loop;
static atomic_uint running_now, running_most, finished_count;
static atomic_uint order[4096];
static sem_t gate, started, finished;

static int set_up(void **state)
{
	loop = calloc(1, sizeof *loop);
	assert_non_null(loop);
	strcpy(loop->name, "test");
	atomic_store(&running_now, 0);
	atomic_store(&running_most, 0);
	atomic_store(&finished_count, 0);
	sem_init(&gate, 0, 0);
	sem_init(&started, 0, 0);
	sem_init(&finished, 0, 0);
	return 0;
}

static int tear_down(void **state)
{
	sem_destroy(&gate);
	sem_destroy(&started);
	sem_destroy(&finished);
	free(loop);
	return 0;
}

static void wait_for(sem_t *semaphore)
{
	while (sem_wait(semaphore) != 0)
		assert_int_equal(errno, EINTR);
}

/* Notes its place in the order of running. */
static void run_quick(struct wh__op *op)
{
	unsigned int most, now = atomic_fetch_add(&running_now, 1) + 1;
	while ((most = atomic_load(&running_most)) < now &&
	       !atomic_compare_exchange_weak(&running_most, &most, now))
		;
	atomic_store(&order[atomic_fetch_add(&finished_count, 1)], op->slot);
	atomic_fetch_sub(&running_now, 1);
	sem_post(&finished);
}

/* Runs until the test opens the gate. */
static void run_gated(struct wh__op *op)
{
	sem_post(&started);
	wait_for(&gate);
	run_quick(op);
}

static void bound_holds_and_all_run(void **state)
{
	enum { OPS = 2000 };
	struct wh__workers *workers = NULL;
	static struct wh__op ops[OPS];
	assert_int_equal(wh__workers_open(&workers, loop, WH__WORKERS_FILES, 3), 0);
	assert_int_equal(wh__workers_thread_count(workers), 0);
	for (uint32_t i = 0; i < OPS; i++) {
		ops[i] = (struct wh__op){.slot = i};
		assert_int_equal(wh__workers_submit(workers, &ops[i], run_quick), 0);
		assert_true(ops[i].flags & WH__AT_WORKER);
		assert_true(wh__workers_thread_count(workers) <= 3);
	}
	for (int i = 0; i < OPS; i++)
		wait_for(&finished);
	assert_null(wh__workers_close(workers));
	assert_int_equal(atomic_load(&finished_count), OPS);
	assert_true(atomic_load(&running_most) <= 3);
	bool seen[OPS] = {false};
	for (int i = 0; i < OPS; i++) {
		assert_false(seen[atomic_load(&order[i])]);
		seen[atomic_load(&order[i])] = true;
	}
}

static void idle_thread_is_used_again(void **state)
{
	struct wh__workers *workers = NULL;
	struct wh__op op = {.slot = 7};
	assert_int_equal(wh__workers_open(&workers, loop, WH__WORKERS_WORK, 100), 0);
	unsigned int threads_most = 0;
	for (int i = 0; i < 200; i++) {
		assert_int_equal(wh__workers_submit(workers, &op, run_quick), 0);
		wait_for(&finished);
		if (wh__workers_thread_count(workers) > threads_most)
			threads_most = wh__workers_thread_count(workers);
	}
	/* A thread may not have reached its idle stack yet when the next comes: a few, but not one for each. */
	assert_true(threads_most < 50);
	wh__workers_close(workers);
}

static void queue_is_first_in_first_out_and_can_be_cancelled(void **state)
{
	enum { OPS = 20 };
	struct wh__workers *workers = NULL;
	struct wh__op ops[OPS];
	assert_int_equal(wh__workers_open(&workers, loop, WH__WORKERS_FILES, 1), 0);
	for (uint32_t i = 0; i < OPS; i++) {
		ops[i] = (struct wh__op){.slot = i};
		assert_int_equal(wh__workers_submit(workers, &ops[i], i == 0 ? run_gated : run_quick), 0);
	}
	wait_for(&started);
	assert_int_equal(wh__workers_queued_count(workers), OPS - 1);
	assert_false(wh__workers_cancel(workers, &ops[0])); /* runs */
	assert_true(wh__workers_cancel(workers, &ops[1]));  /* first, middle and last of the queue */
	assert_true(wh__workers_cancel(workers, &ops[10]));
	assert_true(wh__workers_cancel(workers, &ops[OPS - 1]));
	assert_false(ops[10].flags & WH__AT_WORKER);
	assert_int_equal(wh__workers_queued_count(workers), OPS - 4);
	sem_post(&gate);
	for (int i = 0; i < OPS - 3; i++)
		wait_for(&finished);
	unsigned int at = 0;
	for (unsigned int i = 0; i < OPS; i++)
		if (i != 1 && i != 10 && i != OPS - 1)
			assert_int_equal(atomic_load(&order[at++]), i);
	wh__workers_close(workers);
	assert_int_equal(atomic_load(&finished_count), OPS - 3);
}

static void close_waits_for_what_runs(void **state)
{
	struct wh__workers *workers = NULL;
	struct wh__op ops[4] = {{.slot = 0}};
	assert_int_equal(wh__workers_open(&workers, loop, WH__WORKERS_SOCKETS, 4), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(wh__workers_submit(workers, &ops[i], run_gated), 0);
	for (int i = 0; i < 4; i++)
		wait_for(&started);
	assert_int_equal(wh__workers_thread_count(workers), 4);
	for (int i = 0; i < 4; i++)
		sem_post(&gate);
	wh__workers_close(workers);
	assert_int_equal(atomic_load(&finished_count), 4);
}

static char seen_name[16];
static sigset_t seen_mask;

static void run_look(struct wh__op *op)
{
	pthread_getname_np(pthread_self(), seen_name, sizeof seen_name);
	pthread_sigmask(SIG_SETMASK, NULL, &seen_mask);
	sem_post(&finished);
}

static void threads_have_names_and_block_signals(void **state)
{
	struct wh__workers *workers = NULL;
	struct wh__op op = {.slot = 0};
	sigset_t before, after;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	assert_int_equal(wh__workers_open(&workers, loop, WH__WORKERS_SYNC, 1), 0);
	assert_int_equal(wh__workers_submit(workers, &op, run_look), 0);
	wait_for(&finished);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	assert_string_equal(seen_name, "test/sync");
	assert_true(sigismember(&seen_mask, SIGINT) && sigismember(&seen_mask, SIGTERM) &&
	            sigismember(&seen_mask, SIGCHLD));
	for (int i = 1; i < 32; i++) /* the caller's mask is as it was */
		assert_int_equal(sigismember(&before, i), sigismember(&after, i));
	wh__workers_close(workers);
}

/* Built with an idle time of a few milliseconds. */
static void idle_threads_end(void **state)
{
	struct wh__workers *workers = NULL;
	struct wh__op ops[8] = {{.slot = 0}};
	assert_int_equal(wh__workers_open(&workers, loop, WH__WORKERS_FILES, 8), 0);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 8; i++)
			assert_int_equal(wh__workers_submit(workers, &ops[i], run_gated), 0);
		for (int i = 0; i < 8; i++)
			wait_for(&started);
		assert_int_equal(wh__workers_thread_count(workers), 8);
		for (int i = 0; i < 8; i++)
			sem_post(&gate);
		while (wh__workers_thread_count(workers) > 0)
			sched_yield();
	}
	wh__workers_close(workers);
	assert_int_equal(atomic_load(&finished_count), 16);
}

static void close_of_nothing(void **state)
{
	struct wh__workers *workers = NULL;
	assert_null(wh__workers_close(NULL));
	assert_int_equal(wh__workers_open(&workers, loop, WH__WORKERS_FILES, 1), 0);
	assert_null(wh__workers_close(workers));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(bound_holds_and_all_run, set_up, tear_down),
		cmocka_unit_test_setup_teardown(idle_thread_is_used_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(queue_is_first_in_first_out_and_can_be_cancelled, set_up,
	                                        tear_down),
		cmocka_unit_test_setup_teardown(close_waits_for_what_runs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(threads_have_names_and_block_signals, set_up, tear_down),
		cmocka_unit_test_setup_teardown(idle_threads_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(close_of_nothing, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
