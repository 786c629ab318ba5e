/* tests/conformance/test_chain.c -- futures made of futures made of futures: chains that are long, circles through groups, and
 * disposers that close what they are called from. */
#define WH_TESTS_CALLS_ON_SIM
#include "tasks.h"

#include <limits.h>

/* A program's thread may have a small stack: what needed a frame for each link would not survive this. */
enum { LINKS = 100000, TASKS = SLOW ? 100 : 5000, STACK_BYTES = 256 * 1024 };

static void *on_small_stack(void *arg)
{
	void (*body)(void) = *(void (**)(void))arg;
	assert_int_equal(open_tasks_loop_with((struct wh_loop_options){.stack_bytes = 16384}), 0);
	body();
	loop = wh_loop_close(loop);
	return NULL;
}

static void with_small_stack(void (*body)(void))
{
	pthread_attr_t attributes;
	pthread_t thread;
	pthread_attr_init(&attributes);
	assert_int_equal(pthread_attr_setstacksize(&attributes, SANITIZED ? 8 * STACK_BYTES : STACK_BYTES),
	                 0);
	assert_int_equal(pthread_create(&thread, &attributes, on_small_stack, &body), 0);
	pthread_join(thread, NULL);
	pthread_attr_destroy(&attributes);
	on_sim_close();
}

static wh_future link_of(int kind, wh_future f)
{
	switch (kind % 4) {
	case 0:
		return wh_all(loop, &f, 1, NULL);
	case 1:
		return wh_deadline(f, INT64_MAX);
	case 2:
		return wh_any(loop, &f, 1, NULL);
	default:
		return wh_all_settled(loop, &f, 1, NULL);
	}
}

static void cancel_a_long_chain(void)
{
	for (int kind = 0; kind < 5; kind++) { /* of one kind each; and of all in turn */
		wh_future end = wh_promise(loop, NULL, NULL), f = end;
		for (int i = 0; i < LINKS; i++)
			f = link_of(kind < 4 ? kind : i, f);
		assert_false(wh_done(f));
		wh_cancel(f);
		assert_true(wh_done(f));
		assert_int_equal(wh_resolve(end, 0, NULL), -ESTALE);
		assert_int_equal(wh_await(f).n, kind < 3 ? -ECANCELED : 1);
	}
}

static void end_a_long_chain(void)
{
	wh_future end = wh_promise(loop, NULL, NULL), f = end;
	for (int i = 0; i < LINKS; i++)
		f = link_of(i % 3, f);
	assert_int_equal(wh_resolve(end, 7, NULL), 0);
	assert_int_equal(wh_await(f).n, 0);
}

/* Groups, each a member of the next. */
static void cancel_groups_in_groups(void)
{
	wh_future f = wh_promise(loop, NULL, NULL);
	wh_group *groups = calloc(LINKS, sizeof *groups);
	for (int i = 0; i < LINKS; i++) {
		assert_int_equal(wh_group_open(loop, &groups[i], NULL), 0);
		assert_int_equal(wh_group_add(groups[i], f, NULL), 0);
		f = wh_group_wait(groups[i]);
	}
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	free(groups);
}

static int64_t await_it(void *arg)
{
	return wh_await(*(wh_future *)arg).n;
}

/* Tasks, each of which waits for the next. */
static void cancel_tasks_in_tasks(void)
{
	wh_future *fs = calloc(TASKS + 1, sizeof *fs);
	fs[0] = wh_promise(loop, NULL, NULL);
	for (int i = 0; i < TASKS; i++)
		fs[i + 1] = wh_go(loop, await_it, &fs[i]);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	wh_cancel(fs[TASKS]);
	assert_int_equal(wh_await(fs[TASKS]).n, -ECANCELED);
	free(fs);
}

/* Its inputs are chains as well, and what they end with ends it while they are still walked over. */
static void cancel_a_tree(void)
{
	enum { WIDTH = 8, DEPTH = 5000 };
	wh_future f = wh_promise(loop, NULL, NULL);
	for (int i = 0; i < DEPTH; i++) {
		wh_future fs[WIDTH];
		fs[i % WIDTH] = f;
		for (int k = 0; k < WIDTH; k++)
			if (k != i % WIDTH)
				fs[k] = k % 2 ? wh_sleep(loop, INT64_MAX) : wh_promise(loop, NULL, NULL);
		f = i % 2 ? wh_all(loop, fs, WIDTH, NULL) : wh_any(loop, fs, WIDTH, NULL);
	}
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	assert_int_equal(wh_loop_run(loop), 0);
}

static void long_chains_are_cancelled(void **state)
{
	with_small_stack(cancel_a_long_chain);
	with_small_stack(cancel_groups_in_groups);
	with_small_stack(cancel_tasks_in_tasks);
	with_small_stack(cancel_a_tree);
}

static void long_chains_end(void **state)
{
	with_small_stack(end_a_long_chain);
}

/* A closing loop cancels all of it, too. */
static void leave_it_all(void)
{
	wh_future f = wh_promise(loop, NULL, NULL);
	for (int i = 0; i < LINKS; i++)
		f = link_of(i, f);
}

static void long_chains_end_with_their_loop(void **state)
{
	with_small_stack(leave_it_all);
}

/* ---- circles through groups ---------------------------------------------------------------------- */

static wh_group group;
static wh_future outer;
static int64_t inner_result, outer_result;

static int64_t waits_for_outer(void *arg)
{
	inner_result = wh_await(outer).n;
	return 0;
}

static int64_t waits_for_group(void *arg)
{
	if (arg)
		assert_int_equal(wh_yield(), 0); /* the member is first */
	wh_future wait = wh_group_wait(group);
	outer_result = wh_await(wait).n;
	if (outer_result == -EDEADLK)
		wh_detach(wait);
	return 0;
}

static void a_member_waits_for_who_waits_for_its_group(void **state)
{
	static int later;
	for (int i = 0; i < 2; i++) {
		inner_result = outer_result = 1;
		assert_int_equal(wh_group_open(loop, &group, NULL), 0);
		outer = wh_go(loop, waits_for_group, i ? &later : NULL);
		assert_int_equal(wh_group_go(group, waits_for_outer, NULL, NULL), 0);
		assert_int_equal(wh_loop_run(loop), 0);
		/* whoever closes the circle is told */
		assert_int_equal(i ? outer_result : inner_result, -EDEADLK);
		assert_int_equal(i ? inner_result : outer_result, 0);
		assert_int_equal(wh_await(wh_group_close(group)).n, 0);
	}
}

/* Waiting for the group of somebody else is none. */
static int64_t waits_twice(void *arg)
{
	return wh_await(wh_group_wait(group)).n;
}

static void no_circle_is_seen_where_there_is_none(void **state)
{
	wh_group other;
	wh_future f = wh_promise(loop, NULL, NULL), first, second;
	assert_int_equal(wh_group_open(loop, &group, NULL), 0);
	assert_int_equal(wh_group_open(loop, &other, NULL), 0);
	assert_int_equal(wh_group_add(group, f, NULL), 0);
	assert_int_equal(wh_group_go(other, waits_twice, NULL, NULL), 0);
	first = wh_go(loop, waits_twice, NULL);
	second = wh_group_wait(other);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	assert_int_equal(wh_resolve(f, 0, NULL), 0);
	assert_int_equal(wh_await(first).n, 0);
	assert_int_equal(wh_await(second).n, 0);
}

/* ---- disposers that close what they are called from ------------------------------------------------ */

static wh_channel channel;
static wh_semaphore semaphore;
static int disposed_count, closed_count;

static void close_all(wh_res res, void *arg)
{
	disposed_count++;
	closed_count += wh_channel_close(channel) == 0;
	closed_count += wh_semaphore_close(semaphore) == 0;
	wh_detach(wh_group_close(group));
	closed_count += wh_group_cancel(group) == -ESTALE;
}

static void open_all(void)
{
	disposed_count = closed_count = 0;
	const struct wh_group_options keep = {.keep_results = true};
	assert_int_equal(wh_channel_open(loop, &channel, 0, close_all, NULL), 0);
	assert_int_equal(wh_semaphore_open(loop, &semaphore, 1), 0);
	assert_int_equal(wh_group_open(loop, &group, &keep), 0);
}

/* A group that is being closed, and holds a result whose disposer closes everything else. It ends with f. */
static void bomb(wh_future f)
{
	wh_group carrier;
	const struct wh_group_options keep = {.keep_results = true, .keep_going = true};
	wh_future result = wh_promise(loop, close_all, NULL);
	assert_int_equal(wh_group_open(loop, &carrier, &keep), 0);
	assert_int_equal(wh_group_add(carrier, result, NULL), 0);
	assert_int_equal(wh_resolve(result, 1, NULL), 0);
	assert_int_equal(wh_group_add(carrier, wh_deadline(f, INT64_MAX), NULL), 0);
	/* cancelling does not end f: it is at work */
	wh_future closing = wh_group_close(carrier);
	wh_detach(closing);
}

static void a_channel_is_closed_by_what_it_ends(void **state)
{
	open_all();
	wh_future send = wh_channel_send(channel, 1, NULL);
	wh_future all[1] = {send};
	bomb(wh_all(loop, all, 1, NULL));
	assert_int_equal(disposed_count, 1); /* the send could be cancelled */
	assert_int_equal(closed_count, 3);

	open_all();
	wh_detach(wh_channel_receive(channel)); /* nobody will take what it gets */
	wh_detach(wh_channel_receive(channel));
	assert_int_equal(wh_await(wh_channel_send(channel, 1, NULL)).n, 0);
	assert_int_equal(disposed_count, 1);
	assert_int_equal(closed_count, 3);
	assert_int_equal(wh_channel_count(channel), -ESTALE);
}

static void a_semaphore_is_closed_by_what_it_ends(void **state)
{
	open_all();
	assert_int_equal(wh_await(wh_semaphore_acquire(semaphore, 1)).n, 1);
	bomb(wh_semaphore_acquire(semaphore, 1));
	assert_int_equal(disposed_count, 1);
	assert_int_equal(closed_count, 3);
	assert_int_equal(wh_semaphore_release(semaphore, 1), -ESTALE);
}

/* A member whose result nobody wants ends: its disposer closes the group. */
static void a_group_is_closed_by_what_it_ends(void **state)
{
	wh_future last = wh_promise(loop, close_all, NULL);
	open_all();
	wh_future closing = wh_group_close(group);
	assert_int_equal(wh_await(closing).n, 0);
	assert_int_equal(wh_group_open(loop, &group, NULL), 0);
	assert_int_equal(wh_group_add(group, last, NULL), 0);
	wh_future wait = wh_group_wait(group);
	assert_int_equal(wh_resolve(last, 1, NULL), 0);
	assert_int_equal(wh_await(wait).n, 0);
	assert_int_equal(disposed_count, 1);
	assert_int_equal(wh_group_cancel(group), -ESTALE);

	/* what is told of the end of a group ends another, which closes the first */
	open_all();
	last = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_group_add(group, last, NULL), 0);
	wh_group carrier;
	const struct wh_group_options keep = {.keep_results = true, .keep_going = true};
	wh_future result = wh_promise(loop, close_all, NULL);
	assert_int_equal(wh_group_open(loop, &carrier, &keep), 0);
	assert_int_equal(wh_group_add(carrier, result, NULL), 0);
	assert_int_equal(wh_resolve(result, 1, NULL), 0);
	assert_int_equal(wh_group_add(carrier, wh_group_wait(group), NULL), 0);
	wh_detach(wh_group_close(carrier)); /* which cancels the wait, and so the group */
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(disposed_count, 1);
	assert_int_equal(wh_group_cancel(group), -ESTALE);
}

#define ON_TASKS_LOOP(f) cmocka_unit_test_setup_teardown(f, open_tasks_loop, close_tasks_loop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(long_chains_are_cancelled),
		cmocka_unit_test(long_chains_end),
		cmocka_unit_test(long_chains_end_with_their_loop),
		ON_TASKS_LOOP(a_member_waits_for_who_waits_for_its_group),
		ON_TASKS_LOOP(no_circle_is_seen_where_there_is_none),
		ON_TASKS_LOOP(a_channel_is_closed_by_what_it_ends),
		ON_TASKS_LOOP(a_semaphore_is_closed_by_what_it_ends),
		ON_TASKS_LOOP(a_group_is_closed_by_what_it_ends),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
