/* tests/unit/test_op.c -- slots: generations, retirement, limits; and the inbox with threads pushing. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/loop.h"

static wh_loop *loop;

static int set_up(void **state)
{
	struct wh_loop_options options = {.engine = WH_EPOLL};
	return wh_loop_open(&loop, &options);
}

static int tear_down(void **state)
{
	loop = wh_loop_close(loop);
	return 0;
}

static void slots_are_used_again_with_another_generation(void **state)
{
	struct wh__op *op = wh__op_new(loop, WH__OP_PROMISE);
	wh_future first = wh__op_future(op);
	assert_ptr_equal(wh__op_find(loop, first), op);
	wh__op_complete(op, 0, NULL);
	assert_ptr_equal(wh__op_find(loop, first), op);
	wh__op_free(op);
	assert_null(wh__op_find(loop, first));
	struct wh__op *again = wh__op_new(loop, WH__OP_TIMER);
	assert_ptr_equal(again, op);
	assert_true(wh__op_future(again).id != first.id);
	assert_null(wh__op_find(loop, first));
	wh__op_complete(again, 0, NULL);
	wh__op_free(again);
}

static void a_slot_whose_generation_would_wrap_is_retired(void **state)
{
	struct wh__op *op = wh__op_new(loop, WH__OP_PROMISE);
	uint32_t slot = op->slot;
	op->generation = WH__GENERATION_MAX - 2;
	wh__op_complete(op, 0, NULL);
	wh__op_free(op);
	op = wh__op_new(loop, WH__OP_PROMISE);
	assert_int_equal(op->slot, slot);
	wh_future last = wh__op_future(op);
	wh__op_complete(op, 0, NULL);
	wh__op_free(op);
	for (int i = 0; i < 2000; i++) {
		wh_future f = wh_promise(loop, NULL, NULL);
		assert_int_not_equal(f.id >> 32 & WH__SLOTS_MAX, slot);
	}
	assert_null(wh__op_find(loop, last));
	assert_int_equal(wh_resolve(last, 1, NULL), -ESTALE);
}

static void forged_futures_are_stale(void **state)
{
	uint64_t bits = 88172645463325252;
	(void)wh_promise(loop, NULL, NULL);
	for (int i = 0; i < 100000; i++) {
		bits ^= bits << 13;
		bits ^= bits >> 7;
		bits ^= bits << 17;
		wh_future f = {(uint64_t)loop->number << 54 | bits >> 10};
		if (!wh__op_find(loop, f)) {
			assert_int_equal(wh_drop(f), -ESTALE);
			assert_int_equal(wh_resolve(f, 1, NULL), -ESTALE);
			assert_int_equal(wh_await(f).n, -ESTALE);
		}
	}
	/* an operation that is no promise cannot be resolved, whatever its arguments look like */
	struct wh__op *op = wh__op_new(loop, WH__OP_INNER);
	op->off = op->len = op->done = op->generation;
	assert_int_equal(wh_resolve(wh__op_future(op), 1, NULL), -ESTALE);
	wh__op_complete(op, 0, NULL);
}

static void many_slots(void **state)
{
	enum { SLOTS = 100000 };
	wh_future *fs = calloc(SLOTS, sizeof *fs);
	for (int i = 0; i < SLOTS; i++)
		fs[i] = wh_promise(loop, NULL, NULL);
	for (int i = 0; i < SLOTS; i++)
		assert_int_equal(wh_resolve(fs[i], i, NULL), 0);
	for (int i = SLOTS; i-- > 0;)
		assert_int_equal(wh_await(fs[i]).n, i);
	assert_int_equal(loop->live_count, 0);
	free(fs);
}

/* ---- inbox ---- */

enum { THREADS = 4, EACH = 20000 };

struct pusher {
	pthread_t thread;
	int pushed, seen;
};

struct parcel {
	struct wh__message message;
	struct pusher *from;
	int number;
};

static void on_parcel(void *arg)
{
	struct parcel *parcel = arg;
	assert_int_equal(parcel->number, parcel->from->seen);
	parcel->from->seen++;
	free(parcel);
}

static void *push(void *arg)
{
	struct pusher *pusher = arg;
	for (; pusher->pushed < EACH; pusher->pushed++) {
		struct parcel *parcel = calloc(1, sizeof *parcel);
		*parcel = (struct parcel){
			{.fn = on_parcel, .arg = parcel, .embedded = true}, pusher, pusher->pushed};
		wh__inbox_push(loop, &parcel->message);
	}
	return NULL;
}

static void each_message_arrives_once_and_in_order(void **state)
{
	struct pusher pushers[THREADS] = {{0}};
	wh_future busy = wh_promise(loop, NULL, NULL); /* the loop does not end by itself */
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&pushers[i].thread, NULL, push, &pushers[i]), 0);
	/* asleep between messages: a lost wake-up would hang here */
	for (int i = 0; i < THREADS; i++)
		while (pushers[i].seen < EACH)
			assert_int_equal(wh_loop_turn(loop, -1), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(pushers[i].thread, NULL);
	assert_true(wh__inbox_is_empty(loop));
	assert_int_equal(wh_drop(busy), 0);
}

#define ON_LOOP(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(slots_are_used_again_with_another_generation),
		ON_LOOP(a_slot_whose_generation_would_wrap_is_retired),
		ON_LOOP(forged_futures_are_stale),
		ON_LOOP(many_slots),
		ON_LOOP(each_message_arrives_once_and_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
