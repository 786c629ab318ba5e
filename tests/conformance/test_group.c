/* tests/conformance/test_group.c -- groups: what was started together ends together. */
#include "tasks.h"

struct body {
	int64_t n, sleep_ns;
	bool cancelled;
	int ended;
};

static int64_t sleep_then_give(void *arg)
{
	struct body *body = arg;
	int64_t n = body->sleep_ns < 0 ? 0 : wh_await(wh_sleep(wh_self(), body->sleep_ns)).n;
	body->cancelled = n == -ECANCELED;
	body->ended++;
	return n < 0 ? n : body->n;
}

#define FOR_EVER (3600 * WH_NS_PER_S)

static void a_group_ends_when_its_members_have(void **state)
{
	wh_group group;
	struct body bodies[10];
	assert_int_equal(wh_group_open(loop, &group, NULL), 0);
	assert_int_equal(wh_await(wh_group_wait(group)).n, 0); /* of nobody */
	for (int i = 0; i < 10; i++) {
		bodies[i] = (struct body){.n = i, .sleep_ns = (10 - i) * 100000};
		assert_int_equal(wh_group_go(group, sleep_then_give, &bodies[i], NULL), 0);
	}
	wh_future several[] = {wh_group_wait(group), wh_group_wait(group)};
	wh_res results[2];
	assert_int_equal(wh_await(wh_all(loop, several, 2, results)).n, 0);
	for (int i = 0; i < 10; i++)
		assert_int_equal(bodies[i].ended, 1);
	/* it can be used again */
	assert_int_equal(wh_group_go(group, sleep_then_give, &bodies[0], NULL), 0);
	assert_int_equal(wh_await(wh_group_wait(group)).n, 0);
	assert_int_equal(bodies[0].ended, 2);
	assert_int_equal(wh_await(wh_group_close(group)).n, 0);
}

static void the_first_error_cancels_the_others(void **state)
{
	wh_group group;
	struct body bodies[6] = {{.sleep_ns = FOR_EVER},        {.sleep_ns = FOR_EVER},
	                         {.n = -EIO, .sleep_ns = 1000}, {.sleep_ns = FOR_EVER},
	                         {.n = 5, .sleep_ns = -1},      {.n = -EPROTO, .sleep_ns = FOR_EVER}};
	assert_int_equal(wh_group_open(loop, &group, NULL), 0);
	for (int i = 0; i < 6; i++)
		assert_int_equal(wh_group_go(group, sleep_then_give, &bodies[i], NULL), 0);
	assert_int_equal(wh_await(wh_group_wait(group)).n, -EIO);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(bodies[i].ended, 1);
		assert_int_equal(bodies[i].cancelled, i != 2 && i != 4);
	}
	assert_int_equal(wh_group_go(group, sleep_then_give, &bodies[0], NULL), -ECANCELED);
	assert_int_equal(bodies[0].ended, 1);
	assert_int_equal(wh_await(wh_group_close(group)).n, -EIO);
}

static void errors_need_not_cancel(void **state)
{
	wh_group group;
	struct wh_group_options options = {.keep_going = true};
	struct body bodies[3] = {{.n = -EIO, .sleep_ns = 1000},
	                         {.n = 1, .sleep_ns = 900000},
	                         {.n = -EPROTO, .sleep_ns = 100000}};
	assert_int_equal(wh_group_open(loop, &group, &options), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wh_group_go(group, sleep_then_give, &bodies[i], NULL), 0);
	assert_int_equal(wh_await(wh_group_wait(group)).n, -EIO);
	for (int i = 0; i < 3; i++)
		assert_false(bodies[i].cancelled);
	assert_int_equal(wh_await(wh_group_close(group)).n, -EIO);
}

static void cancelling_a_group_or_its_wait(void **state)
{
	for (int round = 0; round < 4; round++) {
		wh_group group;
		struct body bodies[5];
		assert_int_equal(wh_group_open(loop, &group, NULL), 0);
		for (int i = 0; i < 5; i++) {
			bodies[i] = (struct body){.sleep_ns = FOR_EVER};
			assert_int_equal(wh_group_go(group, sleep_then_give, &bodies[i], NULL), 0);
		}
		turn_once();
		if (round == 0) {
			assert_int_equal(wh_group_cancel(group), 0);
			assert_int_equal(wh_group_cancel(group), 0);
			assert_int_equal(wh_await(wh_group_wait(group)).n, -ECANCELED);
		} else if (round == 1) {
			wh_future f = wh_group_wait(group);
			wh_cancel(f);
			assert_int_equal(wh_await(f).n, -ECANCELED);
		} else if (round == 2) {
			wh_future f = wh_deadline(wh_group_wait(group), wh_clock(loop) + WH_NS_PER_MS);
			assert_int_equal(wh_await(f).n, -ETIMEDOUT);
		} else {
			assert_int_equal(wh_await(wh_group_close(group)).n, -ECANCELED);
			assert_int_equal(wh_await(wh_group_close(group)).n, -ESTALE);
		}
		for (int i = 0; i < 5; i++)
			assert_true(bodies[i].cancelled);
		if (round < 3)
			assert_int_equal(wh_await(wh_group_close(group)).n, -ECANCELED);
	}
}

static void results_come_in_the_order_of_ending(void **state)
{
	wh_group group;
	struct wh_group_options options = {.keep_results = true, .keep_going = true};
	struct wh_group_result result;
	struct body bodies[4] = {{.n = 10, .sleep_ns = 30 * WH_NS_PER_MS},
	                         {.n = -EIO, .sleep_ns = -1},
	                         {.n = 12, .sleep_ns = 60 * WH_NS_PER_MS},
	                         {.n = 13, .sleep_ns = -1}};
	const int order[] = {1, 3, 0, 2};
	assert_int_equal(wh_group_open(loop, &group, &options), 0);
	assert_int_equal(wh_await(wh_group_next(group, &result)).n, 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(wh_group_go(group, sleep_then_give, &bodies[i], NULL), 0);
	for (int i = 0; i < 4; i++) {
		wh_future f = wh_group_next(group, &result);
		if (i == 2) { /* a cancel takes none */
			assert_int_equal(wh_drop(f), -EBUSY);
			wh_cancel(f);
			assert_int_equal(wh_await(f).n, -ECANCELED);
			f = wh_group_next(group, &result);
		}
		assert_int_equal(wh_await(f).n, 1);
		assert_int_equal(result.index, order[i]);
		assert_ptr_equal(result.arg, &bodies[order[i]]);
		assert_int_equal(result.n, bodies[order[i]].n);
	}
	assert_int_equal(wh_await(wh_group_next(group, &result)).n, 0);
	assert_int_equal(wh_await(wh_group_next(group, NULL)).n, -EINVAL);
	/* several wait; the last is told that no more come */
	assert_int_equal(wh_group_go(group, sleep_then_give, &bodies[0], NULL), 0);
	struct wh_group_result other;
	wh_future fs[] = {wh_group_next(group, &result), wh_group_next(group, &other)};
	assert_int_equal(wh_await(fs[0]).n, 1);
	assert_int_equal(wh_await(fs[1]).n, 0);
	/* one is left, never taken */
	assert_int_equal(wh_group_go(group, sleep_then_give, &bodies[3], NULL), 0);
	assert_int_equal(wh_await(wh_group_wait(group)).n, -EIO);
	assert_int_equal(wh_await(wh_group_close(group)).n, -EIO);
	assert_int_equal(wh_group_open(loop, &group, NULL), 0);
	assert_int_equal(wh_await(wh_group_next(group, &result)).n, -EINVAL);
}

static int disposed_count;

static void count_disposed(wh_res res, void *arg)
{
	disposed_count += (int)res.n;
}

static void any_future_can_be_a_member(void **state)
{
	wh_group group;
	struct wh_group_options options = {.keep_results = true};
	struct wh_group_result result;
	disposed_count = 0;
	for (int round = 0; round < 3; round++) {
		assert_int_equal(wh_group_open(loop, &group, round == 0 ? &options : NULL), 0);
		wh_future promise = wh_promise(loop, count_disposed, NULL),
			  done = wh_promise(loop, count_disposed, NULL);
		assert_int_equal(wh_resolve(done, 1, NULL), 0);
		assert_int_equal(wh_group_add(group, promise, &group), 0);
		assert_int_equal(wh_group_add(group, promise, NULL), -ESTALE);
		assert_int_equal(wh_group_add(group, done, &done), 0);
		assert_int_equal(wh_group_add(group, wh_sleep(loop, 1000), NULL), 0);
		assert_int_equal(wh_await(promise).n, -ESTALE);
		if (round == 0) {
			assert_int_equal(wh_await(wh_group_next(group, &result)).n, 1);
			assert_ptr_equal(result.arg, &done);
			assert_int_equal(result.n, 1);
		}
		assert_int_equal(wh_resolve(promise, 10, NULL), 0);
		assert_int_equal(wh_await(wh_group_wait(group)).n, 0);
		if (round == 2) {
			assert_int_equal(wh_group_cancel(group), 0);
			promise = wh_promise(loop, count_disposed, NULL);
			assert_int_equal(wh_group_add(group, promise, NULL), 0);
			assert_int_equal(wh_await(wh_group_wait(group)).n, -ECANCELED);
		}
		assert_int_equal(wh_await(wh_group_close(group)).n, round == 2 ? -ECANCELED : 0);
	}
	/* of the first, one was taken */
	assert_int_equal(disposed_count, 10 + 11 + 11);
	/* what has failed without a slot counts as well */
	assert_int_equal(wh_group_open(loop, &group, NULL), 0);
	assert_int_equal(wh_group_add(group, wh_failed(loop, -EIO), NULL), 0);
	assert_int_equal(wh_await(wh_group_wait(group)).n, -EIO);
}

static void members_that_end_each_other(void **state)
{
	/* promises end at once when they are cancelled, and combinators with them */
	wh_group group;
	assert_int_equal(wh_group_open(loop, &group, NULL), 0);
	wh_future failing = wh_promise(loop, NULL, NULL);
	for (int i = 0; i < 20; i++) {
		wh_future parts[2] = {wh_promise(loop, NULL, NULL), wh_promise(loop, NULL, NULL)};
		assert_int_equal(wh_group_add(group, wh_all(loop, parts, 2, NULL), NULL), 0);
		assert_int_equal(
			wh_group_add(group, wh_deadline(wh_promise(loop, NULL, NULL), INT64_MAX), NULL), 0);
		if (i == 10)
			assert_int_equal(wh_group_add(group, failing, NULL), 0);
	}
	wh_future wait = wh_group_wait(group), close = wh_group_close(group);
	assert_int_equal(wh_await(wait).n, -ECANCELED);
	assert_int_equal(wh_await(close).n, -ECANCELED);
	assert_int_equal(wh_await(failing).n, -ESTALE);
}

/* ---- from tasks ---- */

static wh_group opened;

static int64_t use_a_group(void *arg)
{
	wh_group group;
	struct body bodies[3] = {{.sleep_ns = 1000}, {.sleep_ns = 2000}, {.sleep_ns = 100}};
	assert_int_equal(wh_group_open(wh_self(), &group, NULL), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wh_group_go(group, sleep_then_give, &bodies[i], NULL), 0);
	int64_t n = wh_await(wh_group_wait(group)).n;
	assert_int_equal(bodies[0].ended + bodies[1].ended + bodies[2].ended, 3);
	assert_int_equal(wh_await(wh_group_close(group)).n, 0);
	return n;
}

static struct body left_bodies[3];

static int64_t leave_members(void *arg)
{
	wh_group group;
	for (int i = 0; i < 3; i++)
		left_bodies[i] = (struct body){.sleep_ns = FOR_EVER};
	assert_int_equal(wh_group_open(wh_self(), &group, NULL), 0);
	opened = group;
	assert_int_equal(wh_group_go(group, sleep_then_give, &left_bodies[0], NULL), 0);
	assert_int_equal(wh_group_open(wh_self(), &group, NULL), 0);
	assert_int_equal(wh_group_go(group, sleep_then_give, &left_bodies[1], NULL), 0);
	assert_int_equal(wh_group_open(wh_self(), &group, NULL), 0); /* an empty one */
	return 3;
}

static int64_t leave_a_shared_one(void *arg)
{
	struct wh_group_options options = {.shared = true};
	wh_group group;
	assert_int_equal(wh_group_open(wh_self(), &opened, &options), 0);
	assert_int_equal(wh_group_go(opened, sleep_then_give, &left_bodies[2], NULL), 0);
	assert_int_equal(wh_group_open(wh_self(), &group, NULL), 0); /* an empty one is no mistake */
	return 3;
}

static void a_group_ends_with_the_task_that_opened_it(void **state)
{
	assert_int_equal(wh_await(wh_go(loop, use_a_group, NULL)).n, 0);
	assert_int_equal(wh_await(wh_go(loop, leave_members, NULL)).n, -WH_EUNFINISHED);
	assert_true(left_bodies[0].cancelled && left_bodies[1].cancelled);
	assert_int_equal(notice_count, 2);
	assert_int_equal(wh_group_cancel(opened), -ESTALE);
	assert_int_equal(wh_await(wh_go(loop, leave_a_shared_one, NULL)).n, 3);
	assert_int_equal(left_bodies[2].ended, 0);
	assert_int_equal(wh_await(wh_group_close(opened)).n, -ECANCELED);
	assert_true(left_bodies[2].cancelled);
	assert_int_equal(notice_count, 2);
	/* also when the task is cancelled meanwhile */
	wh_future f = wh_go(loop, leave_members, NULL);
	turn_once();
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -WH_EUNFINISHED);
}

static int64_t wait_for_its_own(void *arg)
{
	struct wh_group_result result;
	assert_int_equal(wh_await(wh_group_wait(opened)).n, -EDEADLK);
	assert_int_equal(wh_await(wh_group_next(opened, &result)).n, -EDEADLK);
	assert_int_equal(wh_await(wh_group_close(opened)).n, -EDEADLK);
	assert_int_equal(wh_group_add(opened, wh_task_self(), NULL), -ESTALE); /* the group has it */
	return 0;
}

static int64_t join_oneself(void *arg)
{
	return wh_group_add(opened, wh_task_self(), NULL);
}

static void a_member_cannot_wait_for_its_group(void **state)
{
	assert_int_equal(wh_group_open(loop, &opened, NULL), 0);
	assert_int_equal(wh_group_go(opened, wait_for_its_own, NULL, NULL), 0);
	assert_int_equal(wh_await(wh_group_wait(opened)).n, 0);
	struct seen seen = {0};
	wh_future f = wh_go(loop, join_oneself, NULL);
	while (!wh_done(f))
		turn_once();
	assert_int_equal(wh_then(f, note, &seen), 0);
	turn_once();
	assert_int_equal(seen.last.n, -EDEADLK);
}

static int64_t nest(void *arg)
{
	int *depth = arg, below = *depth - 1;
	wh_group group;
	if (*depth == 0)
		return wh_await(wh_sleep(wh_self(), FOR_EVER)).n;
	assert_int_equal(wh_group_open(wh_self(), &group, NULL), 0);
	assert_int_equal(wh_group_go(group, nest, &below, NULL), 0);
	assert_int_equal(wh_group_go(group, nest, &below, NULL), 0);
	int64_t n = wh_await(wh_group_wait(group)).n;
	assert_int_equal(wh_await(wh_group_close(group)).n, n);
	return n;
}

static void cancelling_a_tree_ends_all_of_it(void **state)
{
	int depth = 6;
	struct wh_stats stats;
	wh_future f = wh_go(loop, nest, &depth);
	for (int i = 0; i < 8; i++)
		turn_once();
	wh_stats(loop, &stats);
	assert_int_equal(stats.tasks, 127);
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	wh_stats(loop, &stats);
	assert_int_equal(stats.tasks, 0);
}

/* ---- handles ---- */

static void *use_elsewhere(void *arg)
{
	assert_int_equal(wh_group_cancel(opened), -EPERM);
	assert_int_equal(wh_await(wh_group_wait(opened)).n, -EPERM);
	wh_group group;
	assert_int_equal(wh_group_open(loop, &group, NULL), -EPERM);
	return NULL;
}

static void a_stale_group_is_told(void **state)
{
	pthread_t thread;
	struct wh_group_result result;
	struct body body = {.sleep_ns = -1};
	assert_int_equal(wh_group_open(loop, &opened, NULL), 0);
	assert_int_equal(pthread_create(&thread, NULL, use_elsewhere, NULL), 0);
	pthread_join(thread, NULL);
	wh_group copy = opened, nothing = {0};
	wh_ticker other_kind = {opened.id};
	assert_int_equal(wh_ticker_close(other_kind), -ESTALE);
	assert_int_equal(wh_group_go(opened, sleep_then_give, &body, NULL), 0);
	assert_int_equal(wh_drop(wh_group_close(opened)), 0); /* it is closed all the same */
	for (int round = 0; round < 2; round++) {
		assert_int_equal(wh_group_cancel(copy), -ESTALE);
		assert_int_equal(wh_group_go(copy, sleep_then_give, &body, NULL), -ESTALE);
		assert_int_equal(wh_await(wh_group_wait(copy)).n, -ESTALE);
		assert_int_equal(wh_await(wh_group_next(copy, &result)).n, -ESTALE);
		assert_int_equal(wh_await(wh_group_close(copy)).n, -ESTALE);
		copy = nothing;
	}
	assert_int_equal(wh_loop_run(loop), 0);
	/* left open: closed with the loop, and stale after it */
	assert_int_equal(wh_group_open(loop, &opened, NULL), 0);
	assert_int_equal(wh_group_go(opened, sleep_then_give, &body, NULL), 0);
	loop = wh_loop_close(loop);
	assert_int_equal(wh_group_cancel(opened), -ESTALE);
	assert_int_equal(open_tasks_loop(NULL), 0);
	assert_int_equal(wh_group_cancel(opened), -ESTALE);
	struct wh_loop_options few = {.futures_max = 2};
	close_tasks_loop(NULL);
	assert_int_equal(open_tasks_loop_with(few), 0);
	assert_int_equal(wh_group_open(loop, &opened, NULL), 0);
	assert_int_equal(wh_group_go(opened, sleep_then_give, &body, NULL), 0);
	assert_int_equal(wh_group_go(opened, sleep_then_give, &body, NULL), -EAGAIN);
	assert_int_equal(wh_group_open(loop, &copy, NULL), -EAGAIN);
	assert_int_equal(wh_await(wh_group_close(opened)).n, -EAGAIN); /* closed all the same */
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(wh_group_cancel(opened), -ESTALE);
}

static int64_t end_without_a_slot(void *arg)
{
	/* two slots: this task and its group; a third for the member */
	static struct body body;
	wh_group group;
	body = (struct body){.sleep_ns = -1};
	assert_int_equal(wh_group_open(wh_self(), &group, NULL), 0);
	return wh_group_go(group, sleep_then_give, &body, NULL);
}

static void a_task_ends_its_groups_without_a_slot_to_wait_with(void **state)
{
	struct wh_loop_options few = {.futures_max = 3};
	close_tasks_loop(NULL);
	assert_int_equal(open_tasks_loop_with(few), 0);
	assert_int_equal(wh_await(wh_go(loop, end_without_a_slot, NULL)).n, -WH_EUNFINISHED);
}

static struct {
	bool parent_has_waited[2];
	int ended, late_count;
} tree;

static int64_t take_leave_slowly(void *arg)
{
	const bool *parent_has_waited = arg;
	(void)wh_await(wh_sleep(wh_self(), FOR_EVER));
	for (int i = 0; i < 5; i++)
		(void)wh_yield();
	tree.late_count += *parent_has_waited;
	tree.ended++;
	return 0;
}

static int64_t wait_and_be_cancelled(void *arg)
{
	wh_group group;
	bool *has_waited = arg, closes = has_waited == &tree.parent_has_waited[1];
	assert_int_equal(wh_group_open(wh_self(), &group, NULL), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wh_group_go(group, take_leave_slowly, has_waited, NULL), 0);
	(void)wh_await(wh_sleep(wh_self(), FOR_EVER));
	int64_t n = wh_await(closes ? wh_group_close(group) : wh_group_wait(group)).n;
	*has_waited = true; /* and what the members used could be freed now */
	return n;
}

static void members_end_first_when_the_loop_closes(void **state)
{
	memset(&tree, 0, sizeof tree);
	for (int i = 0; i < 2; i++)
		assert_int_equal(wh_detach(wh_go(loop, wait_and_be_cancelled, &tree.parent_has_waited[i])),
		                 0);
	turn_once();
	turn_once();
	loop = wh_loop_close(loop);
	assert_true(tree.parent_has_waited[0] && tree.parent_has_waited[1]);
	assert_int_equal(tree.ended, 6);
	assert_int_equal(tree.late_count, 0);
}

static int64_t say_goodbye(void *arg)
{
	(void)wh_await(wh_sleep(wh_self(), FOR_EVER));
	(void)wh_shield(true);
	return wh_await(wh_sleep(wh_self(), 20 * WH_NS_PER_MS)).n;
}

static int64_t leave_while_it_closes(void *arg)
{
	wh_group group;
	assert_int_equal(wh_group_open(wh_self(), &group, NULL), 0);
	assert_int_equal(wh_group_go(group, say_goodbye, NULL, NULL), 0);
	(void)wh_yield();
	assert_int_equal(wh_detach(wh_group_close(group)), 0);
	return 0;
}

static void a_close_under_way_is_waited_for_at_rest(void **state)
{
	struct wh_stats stats;
	assert_int_equal(wh_await(wh_go(loop, leave_while_it_closes, NULL)).n, -WH_EUNFINISHED);
	wh_stats(loop, &stats);
	assert_true(stats.task_switches < 20);
}

static void a_group_does_not_wait_for_its_own_wait(void **state)
{
	struct wh_group_options options = {.keep_results = true};
	struct wh_group_result result;
	struct body body = {.sleep_ns = 1000};
	assert_int_equal(wh_group_open(loop, &opened, &options), 0);
	assert_int_equal(wh_group_go(opened, sleep_then_give, &body, NULL), 0);
	wh_future wait = wh_group_wait(opened), next = wh_group_next(opened, &result);
	assert_int_equal(wh_group_add(opened, wait, NULL), -EDEADLK);
	assert_int_equal(wh_group_add(opened, next, NULL), -EDEADLK);
	assert_int_equal(wh_await(wait).n, 0);
	assert_int_equal(wh_await(next).n, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_TASKS_LOOP(members_end_first_when_the_loop_closes),
		ON_TASKS_LOOP(a_close_under_way_is_waited_for_at_rest),
		ON_TASKS_LOOP(a_group_does_not_wait_for_its_own_wait),
		ON_TASKS_LOOP(a_group_ends_when_its_members_have),
		ON_TASKS_LOOP(the_first_error_cancels_the_others),
		ON_TASKS_LOOP(errors_need_not_cancel),
		ON_TASKS_LOOP(cancelling_a_group_or_its_wait),
		ON_TASKS_LOOP(results_come_in_the_order_of_ending),
		ON_TASKS_LOOP(any_future_can_be_a_member),
		ON_TASKS_LOOP(members_that_end_each_other),
		ON_TASKS_LOOP(a_group_ends_with_the_task_that_opened_it),
		ON_TASKS_LOOP(a_member_cannot_wait_for_its_group),
		ON_TASKS_LOOP(cancelling_a_tree_ends_all_of_it),
		ON_TASKS_LOOP(a_stale_group_is_told),
		ON_TASKS_LOOP(a_task_ends_its_groups_without_a_slot_to_wait_with),
	};
	need_tasks_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
