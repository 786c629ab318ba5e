/* tests/conformance/test_channel.c -- channels and semaphores: by waiting, by callback and by looking. */
#include "tasks.h"

/* ---- channels ---- */

static void items_come_in_order(void **state)
{
	wh_channel channel;
	wh_res res;
	char thing[4];
	assert_int_equal(wh_channel_open(loop, &channel, 3, NULL, NULL), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wh_await(wh_channel_send(channel, i, thing + i)).n, 0);
	assert_int_equal(wh_channel_count(channel), 3);
	/* full: the fourth waits, and the fifth behind it */
	wh_future fourth = wh_channel_send(channel, 3, thing + 3), fifth = wh_channel_send(channel, 4, NULL);
	turn_once();
	assert_false(wh_poll(fourth, NULL));
	assert_int_equal(wh_drop(fourth), -EBUSY); /* whose would the item be? */
	for (int i = 0; i < 5; i++) {
		res = wh_await(wh_channel_receive(channel));
		assert_int_equal(res.n, i);
		if (i < 4)
			assert_ptr_equal(res.ptr, thing + i);
	}
	assert_int_equal(wh_await(fourth).n, 0);
	assert_int_equal(wh_await(fifth).n, 0);
	/* empty: receivers wait, first come, first served */
	struct seen seen = {0};
	wh_future first = wh_channel_receive(channel);
	assert_int_equal(wh_then(wh_channel_receive(channel), note, &seen), 0);
	assert_int_equal(wh_await(wh_channel_send(channel, 5, NULL)).n, 0);
	assert_int_equal(wh_await(wh_channel_send(channel, 6, NULL)).n, 0);
	assert_int_equal(wh_await(first).n, 5);
	run_until(&seen.count, 1);
	assert_int_equal(seen.last.n, 6);
	assert_int_equal(wh_await(wh_channel_send(channel, -1, NULL)).n, -EINVAL);
	assert_int_equal(wh_channel_close(channel), 0);
}

enum { ITEMS = 3000, WORKERS = 5 };

struct stream {
	wh_channel channel;
	int sent, received[ITEMS], ended;
};

static int64_t produce(void *arg)
{
	struct stream *stream = arg;
	while (stream->sent < ITEMS) {
		int64_t n = wh_await(wh_channel_send(stream->channel, stream->sent++, stream)).n;
		if (n < 0)
			return n;
	}
	return 0;
}

static int64_t consume(void *arg)
{
	struct stream *stream = arg;
	wh_res res;
	while ((res = wh_await(wh_channel_receive(stream->channel))).n >= 0) {
		assert_ptr_equal(res.ptr, stream);
		stream->received[res.n]++;
		if (res.n % 7 == 0)
			(void)wh_yield();
	}
	stream->ended++;
	return res.n == -EPIPE ? 0 : res.n;
}

static int64_t produce_then_shut(void *arg)
{
	struct stream *stream = arg;
	wh_group producers;
	assert_int_equal(wh_group_open(wh_self(), &producers, NULL), 0);
	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(wh_group_go(producers, produce, stream, NULL), 0);
	int64_t n = wh_await(wh_group_wait(producers)).n;
	return n < 0 ? n : wh_channel_shut(stream->channel);
}

static void producers_and_consumers(void **state)
{
	static struct stream stream;
	for (uint32_t capacity = 0; capacity <= 10; capacity += 5) {
		wh_group all;
		memset(&stream, 0, sizeof stream);
		assert_int_equal(wh_channel_open(loop, &stream.channel, capacity, NULL, NULL), 0);
		assert_int_equal(wh_group_open(loop, &all, NULL), 0);
		assert_int_equal(wh_group_go(all, produce_then_shut, &stream, NULL), 0);
		for (int i = 0; i < WORKERS; i++)
			assert_int_equal(wh_group_go(all, consume, &stream, NULL), 0);
		assert_int_equal(wh_await(wh_group_close(all)).n, -ECANCELED);
		assert_int_equal(wh_channel_close(stream.channel), 0);
		/* that was a close in the midst; now to the end */
		memset(&stream, 0, sizeof stream);
		assert_int_equal(wh_channel_open(loop, &stream.channel, capacity, NULL, NULL), 0);
		assert_int_equal(wh_group_open(loop, &all, NULL), 0);
		assert_int_equal(wh_group_go(all, produce_then_shut, &stream, NULL), 0);
		for (int i = 0; i < WORKERS; i++)
			assert_int_equal(wh_group_go(all, consume, &stream, NULL), 0);
		assert_int_equal(wh_await(wh_group_wait(all)).n, 0);
		assert_int_equal(stream.ended, WORKERS);
		for (int i = 0; i < ITEMS; i++)
			assert_int_equal(stream.received[i], 1);
		assert_int_equal(wh_channel_close(stream.channel), 0);
		assert_int_equal(wh_await(wh_group_close(all)).n, 0);
	}
}

static void a_shut_channel_is_emptied(void **state)
{
	wh_channel channel;
	assert_int_equal(wh_channel_open(loop, &channel, 1, NULL, NULL), 0);
	assert_int_equal(wh_await(wh_channel_send(channel, 1, NULL)).n, 0);
	wh_future waiting = wh_channel_send(channel, 2, NULL);
	assert_int_equal(wh_channel_shut(channel), 0);
	assert_int_equal(wh_await(waiting).n, -EPIPE);
	assert_int_equal(wh_await(wh_channel_send(channel, 3, NULL)).n, -EPIPE);
	assert_int_equal(wh_await(wh_channel_receive(channel)).n, 1);
	assert_int_equal(wh_await(wh_channel_receive(channel)).n, -EPIPE);
	assert_int_equal(wh_channel_shut(channel), 0);
	assert_int_equal(wh_channel_close(channel), 0);
	assert_int_equal(wh_channel_open(loop, &channel, 0, NULL, NULL), 0);
	waiting = wh_channel_receive(channel);
	assert_int_equal(wh_channel_shut(channel), 0);
	assert_int_equal(wh_await(waiting).n, -EPIPE);
}

static int64_t disposed_sum;

static void sum_disposed(wh_res res, void *arg)
{
	assert_ptr_equal(arg, &disposed_sum);
	disposed_sum += res.n;
}

static void no_item_is_lost(void **state)
{
	wh_channel channel;
	wh_res results[2];
	disposed_sum = 0;
	assert_int_equal(wh_channel_open(loop, &channel, 2, sum_disposed, &disposed_sum), 0);
	/* a receive that is cancelled before the item leaves it */
	wh_future f = wh_channel_receive(channel);
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	assert_int_equal(wh_await(wh_channel_send(channel, 1, NULL)).n, 0);
	assert_int_equal(wh_channel_count(channel), 1);
	/* one that is cancelled after it has it */
	f = wh_channel_receive(channel);
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, 1);
	/* a time-out */
	assert_int_equal(wh_await(wh_deadline(wh_channel_receive(channel), monotonic() + WH_NS_PER_MS)).n,
	                 -ETIMEDOUT);
	/* a send that is cancelled has not sent */
	assert_int_equal(wh_await(wh_channel_send(channel, 2, NULL)).n, 0);
	assert_int_equal(wh_await(wh_channel_send(channel, 3, NULL)).n, 0);
	f = wh_channel_send(channel, 4, NULL);
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	assert_int_equal(wh_channel_count(channel), 2);
	/* two receivers, one is chosen: the other's item is in the results */
	wh_future fs[] = {wh_channel_receive(channel), wh_channel_receive(channel)};
	assert_int_equal(wh_await(wh_any(loop, fs, 2, results)).n, 0);
	assert_int_equal(results[0].n, 2);
	assert_int_equal(results[1].n, 3);
	assert_int_equal(disposed_sum, 0);
	/* what is dropped with its item, or left at the close, is disposed of */
	assert_int_equal(wh_await(wh_channel_send(channel, 100, NULL)).n, 0);
	assert_int_equal(wh_drop(wh_channel_receive(channel)), 0);
	assert_int_equal(disposed_sum, 100);
	assert_int_equal(wh_await(wh_channel_send(channel, 1000, NULL)).n, 0);
	assert_int_equal(wh_await(wh_channel_send(channel, 10000, NULL)).n, 0);
	f = wh_channel_send(channel, 50, NULL);
	assert_int_equal(wh_channel_close(channel), 0);
	assert_int_equal(disposed_sum, 11100);
	assert_int_equal(wh_await(f).n, -ECANCELED); /* still the sender's */
	/* or at the close of the loop */
	assert_int_equal(wh_channel_open(loop, &channel, 2, sum_disposed, &disposed_sum), 0);
	assert_int_equal(wh_await(wh_channel_send(channel, 100000, NULL)).n, 0);
	loop = wh_loop_close(loop);
	assert_int_equal(disposed_sum, 111100);
	assert_int_equal(wh_channel_count(channel), -ESTALE);
}

static void waits_that_end_each_other_at_a_close(void **state)
{
	wh_channel channel;
	wh_semaphore semaphore;
	assert_int_equal(wh_channel_open(loop, &channel, 0, NULL, NULL), 0);
	assert_int_equal(wh_semaphore_open(loop, &semaphore, 1), 0);
	assert_int_equal(wh_await(wh_semaphore_acquire(semaphore, 1)).n, 1);
	wh_future receives[3], sends[3], acquires[3];
	for (int i = 0; i < 3; i++) {
		receives[i] = wh_channel_receive(channel);
		acquires[i] = wh_semaphore_acquire(semaphore, 1);
	}
	wh_future all = wh_all(loop, receives, 3, NULL), all_acquired = wh_all(loop, acquires, 3, NULL);
	assert_int_equal(wh_channel_close(channel), 0);
	assert_int_equal(wh_semaphore_close(semaphore), 0);
	assert_int_equal(wh_await(all).n, -ECANCELED);
	assert_int_equal(wh_await(all_acquired).n, -ECANCELED);
	assert_int_equal(wh_channel_open(loop, &channel, 0, NULL, NULL), 0);
	for (int i = 0; i < 3; i++)
		sends[i] = wh_channel_send(channel, 1, NULL);
	all = wh_all(loop, sends, 3, NULL);
	assert_int_equal(wh_channel_close(channel), 0);
	assert_int_equal(wh_await(all).n, -ECANCELED);
}

static void a_stale_channel_is_told(void **state)
{
	wh_channel channel;
	assert_int_equal(wh_channel_open(loop, &channel, UINT32_MAX, NULL, NULL), -EINVAL);
	assert_int_equal(wh_channel_open(loop, &channel, 1, NULL, NULL), 0);
	assert_int_equal(wh_channel_close(channel), 0);
	assert_int_equal(wh_channel_close(channel), -ESTALE);
	assert_int_equal(wh_channel_shut(channel), -ESTALE);
	assert_int_equal(wh_channel_count(channel), -ESTALE);
	assert_int_equal(wh_await(wh_channel_send(channel, 1, NULL)).n, -ESTALE);
	assert_int_equal(wh_await(wh_channel_receive(channel)).n, -ESTALE);
}

/* ---- semaphores ---- */

struct limited {
	wh_semaphore semaphore;
	int inside, inside_max, done;
};

static int64_t work_inside(void *arg)
{
	struct limited *limited = arg;
	int64_t n = wh_await(wh_semaphore_acquire(limited->semaphore, 1)).n;
	if (n < 0)
		return n;
	if (++limited->inside > limited->inside_max)
		limited->inside_max = limited->inside;
	n = wh_await(wh_sleep(wh_self(), 50000)).n;
	limited->inside--;
	limited->done++;
	assert_int_equal(wh_semaphore_release(limited->semaphore, 1), 0);
	return n;
}

static void no_more_than_so_many_at_once(void **state)
{
	struct limited limited = {.done = 0};
	wh_group group;
	assert_int_equal(wh_semaphore_open(loop, &limited.semaphore, 3), 0);
	assert_int_equal(wh_group_open(loop, &group, NULL), 0);
	for (int i = 0; i < 50; i++)
		assert_int_equal(wh_group_go(group, work_inside, &limited, NULL), 0);
	assert_int_equal(wh_await(wh_group_wait(group)).n, 0);
	assert_int_equal(limited.inside_max, 3);
	assert_int_equal(limited.done, 50);
	/* cancelled on the way: none is lost */
	for (int i = 0; i < 50; i++)
		assert_int_equal(wh_group_go(group, work_inside, &limited, NULL), 0);
	assert_int_equal(wh_await(wh_sleep(loop, 120000)).n, 0);
	assert_int_equal(wh_await(wh_group_close(group)).n, -ECANCELED);
	assert_int_equal(wh_await(wh_semaphore_acquire(limited.semaphore, 3)).n, 3);
	assert_int_equal(wh_semaphore_close(limited.semaphore), 0);
}

static void first_come_first_served(void **state)
{
	wh_semaphore semaphore;
	assert_int_equal(wh_semaphore_open(loop, &semaphore, 4), 0);
	assert_int_equal(wh_await(wh_semaphore_acquire(semaphore, 3)).n, 3);
	wh_future large = wh_semaphore_acquire(semaphore, 4), small = wh_semaphore_acquire(semaphore, 1);
	turn_once();
	assert_false(wh_done(small)); /* does not pass the one that wants more */
	assert_int_equal(wh_semaphore_release(semaphore, 3), 0);
	assert_int_equal(wh_await(large).n, 4);
	assert_false(wh_done(small));
	assert_int_equal(wh_semaphore_release(semaphore, 4), 0);
	assert_int_equal(wh_await(small).n, 1);
	assert_int_equal(wh_semaphore_release(semaphore, 2), -EINVAL); /* more than are held */
	assert_int_equal(wh_semaphore_release(semaphore, 0), -EINVAL);
	assert_int_equal(wh_await(wh_semaphore_acquire(semaphore, 0)).n, -EINVAL);
	assert_int_equal(wh_await(wh_semaphore_acquire(semaphore, 5)).n, -EINVAL);
	/* one that gives up lets those behind it pass */
	large = wh_semaphore_acquire(semaphore, 4);
	small = wh_semaphore_acquire(semaphore, 2);
	wh_cancel(large);
	assert_int_equal(wh_await(large).n, -ECANCELED);
	assert_int_equal(wh_await(small).n, 2);
	assert_int_equal(wh_semaphore_close(semaphore), 0);
	assert_int_equal(wh_semaphore_close(semaphore), -ESTALE);
	assert_int_equal(wh_semaphore_release(semaphore, 1), -ESTALE);
	assert_int_equal(wh_await(wh_semaphore_acquire(semaphore, 1)).n, -ESTALE);
	assert_int_equal(wh_semaphore_open(loop, &semaphore, 0), -EINVAL);
}

static void a_grant_that_is_dropped_goes_back(void **state)
{
	wh_semaphore semaphore, again;
	assert_int_equal(wh_semaphore_open(loop, &semaphore, 2), 0);
	wh_future f = wh_semaphore_acquire(semaphore, 2), waiting = wh_semaphore_acquire(semaphore, 1);
	assert_true(wh_done(f));
	assert_int_equal(wh_drop(f), 0);
	assert_int_equal(wh_await(waiting).n, 1);
	/* the loser of a race */
	wh_future fs[] = {wh_failed(loop, -EIO), wh_semaphore_acquire(semaphore, 1)};
	assert_int_equal(wh_await(wh_all(loop, fs, 2, NULL)).n, -EIO);
	assert_int_equal(wh_await(wh_semaphore_acquire(semaphore, 1)).n, 1);
	assert_int_equal(wh_semaphore_release(semaphore, 2), 0);
	/* not to one that has taken its place */
	f = wh_semaphore_acquire(semaphore, 2);
	assert_int_equal(wh_semaphore_close(semaphore), 0);
	assert_int_equal(wh_semaphore_open(loop, &again, 1), 0);
	assert_int_equal(wh_drop(f), 0);
	assert_int_equal(wh_semaphore_release(again, 1), -EINVAL); /* none is held */
	assert_true(wh_done(wh_semaphore_acquire(again, 1)));
	loop = wh_loop_close(loop); /* with a grant that nobody took */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_TASKS_LOOP(items_come_in_order),
		ON_TASKS_LOOP(producers_and_consumers),
		ON_TASKS_LOOP(a_shut_channel_is_emptied),
		ON_TASKS_LOOP(no_item_is_lost),
		ON_TASKS_LOOP(waits_that_end_each_other_at_a_close),
		ON_TASKS_LOOP(a_stale_channel_is_told),
		ON_TASKS_LOOP(no_more_than_so_many_at_once),
		ON_TASKS_LOOP(first_come_first_served),
		ON_TASKS_LOOP(a_grant_that_is_dropped_goes_back),
	};
	need_tasks_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
