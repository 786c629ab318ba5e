/* tests/sim/test_sim_machine.c -- the simulated machine: one seed gives one run; time, loops, faults, power.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "engine/sim.h"

static wh_sim *sim;
static wh_loop *loop;

static void start(const struct wh_sim_options *options)
{
	assert_int_equal(wh_sim_open(&sim, options), 0);
	assert_int_equal(wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}), 0);
}

static void restart(const struct wh_sim_options *options, int damage)
{
	wh_loop_close(loop);
	assert_int_equal(wh_sim_restart(sim, options, damage), 0);
	assert_int_equal(wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}), 0);
}

static void end(void)
{
	loop = wh_loop_close(loop);
	sim = wh_sim_close(sim);
}

static int end_after_test(void **state)
{
	if (sim)
		end();
	return 0;
}

static int64_t get(wh_future f)
{
	return wh_await(f).n;
}

static int open_file(const char *path, int flags)
{
	int64_t fd = get(wh_open(loop, path, flags, 0600));
	assert_true(fd >= 0);
	return (int)fd;
}

/* ---- determinism -------------------------------------------------------------------------- */

struct writer {
	int fd, left;
	char text[8];
	unsigned char order[64];
	int ended;
};

static void on_written(wh_loop *on, wh_res res, void *arg)
{
	struct writer *writer = arg;
	if (res.n < 0 || writer->left-- == 0)
		return;
	wh_future f = writer->left % 5 == 0 ? wh_fsync(on, writer->fd, true)
	                                    : wh_pwrite(on, writer->fd, writer->text, sizeof writer->text,
	                                                (uint64_t)writer->left * 700);
	assert_int_equal(wh_then(f, on_written, writer), 0);
}

static int64_t work(void *arg)
{
	return ++*(int *)arg;
}

/* Several writers, work, timers and another loop; a digest of all of it. */
static uint64_t run_once(uint64_t seed, uint64_t *ret_disk)
{
	wh_loop *other;
	struct writer writers[4] = {{0}};
	int worked = 0;
	uint64_t number;
	start(&(struct wh_sim_options){.seed = seed});
	assert_int_equal(wh_loop_start(&other, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}), 0);
	for (int i = 0; i < 4; i++) {
		char path[] = "/a";
		path[1] = (char)(path[1] + i);
		writers[i] = (struct writer){.fd = open_file(path, O_RDWR | O_CREAT), .left = 20 + i};
		wh_random(loop, writers[i].text, sizeof writers[i].text);
	}
	for (int i = 0; i < 4; i++) {
		/* a started loop is turned by whoever waits */
		wh_loop *on = i % 2 ? other : loop;
		assert_int_equal(wh_then(wh_sleep(on, i), on_written, &writers[i]), 0);
	}
	assert_int_equal(get(wh_work(loop, work, &worked)), 1);
	assert_int_equal(get(wh_sleep(loop, WH_NS_PER_S)), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(writers[i].left, -1);
	wh_random(loop, &number, sizeof number);
	*ret_disk = wh__disk_digest(sim->disk);
	number ^= wh_sim_world_trace(wh_sim_world_of(sim)) ^ (uint64_t)wh_now(loop);
	wh_loop_close(other);
	end();
	return number;
}

static void test_one_seed_one_run(void **state)
{
	uint64_t traces[20], disk, again;
	for (uint64_t seed = 0; seed < 20; seed++) {
		traces[seed] = run_once(seed, &disk);
		assert_true(run_once(seed, &again) == traces[seed]);
		assert_true(again == disk);
		for (uint64_t earlier = 0; earlier < seed; earlier++)
			assert_true(traces[earlier] != traces[seed]);
	}
}

static void on_ended(wh_loop *on, wh_res res, void *arg)
{
	unsigned char **at = arg;
	*(*at)++ = (unsigned char)res.n;
}

static void test_chance_decides_what_ends_first(void **state)
{
	int in_order = 0;
	for (uint64_t seed = 0; seed < 100; seed++) {
		unsigned char order[4], *at = order, bytes[4] = {0};
		start(&(struct wh_sim_options){.seed = seed});
		int fd = open_file("/f", O_RDWR | O_CREAT);
		assert_int_equal(get(wh_pwrite_all(loop, fd, bytes, 4, 0)), 4);
		for (size_t i = 0; i < 4; i++)
			assert_int_equal(wh_then(wh_pread_all(loop, fd, bytes, i + 1, 0), on_ended, &at), 0);
		assert_int_equal(wh_loop_run(loop), 0);
		assert_ptr_equal(at, order + 4);
		in_order += !memcmp(order, "\1\2\3\4", 4);
		end();
	}
	assert_true(in_order > 0);
	assert_true(in_order < 50);
}

/* ---- time and loops ----------------------------------------------------------------------- */

static void test_time_passes_only_when_nothing_is_due(void **state)
{
	start(NULL);
	int64_t before = wh_now(loop), wall = wh_wall_now(loop);
	assert_int_equal(get(wh_sleep(loop, 3600 * WH_NS_PER_S)), 0);
	int64_t slept = wh_now(loop) - before;
	assert_true(slept >= 3600 * WH_NS_PER_S && slept < 3601 * WH_NS_PER_S);
	assert_true(wh_wall_now(loop) - wall >= 3600 * WH_NS_PER_S);
	/* who looks at the clock again and again sees it move */
	int64_t until = wh_clock(loop) + 100 * WH_NS_PER_US;
	while (wh_clock(loop) < until) {
	}
}

static void test_what_can_never_happen_is_not_waited_for(void **state)
{
	start(NULL);
	wh_future f = wh_promise(loop, NULL, NULL);
	assert_int_equal(get(f), -EDEADLK);
	assert_int_equal(wh_resolve(f, 5, NULL), 0);
	assert_int_equal(get(f), 5);
}

struct ping {
	wh_loop *here, *there;
	int left;
};

static void ping(void *arg)
{
	struct ping *p = arg;
	if (--p->left <= 0)
		return;
	wh_loop *next = p->there;
	p->there = p->here;
	p->here = next;
	assert_int_equal(wh_post(next, ping, p), 0);
}

static void resolve(void *arg)
{
	assert_int_equal(wh_resolve(*(wh_future *)arg, 7, NULL), 0);
}

static void on_slept(wh_loop *on, wh_res res, void *arg)
{
	assert_int_equal(wh_post(on, resolve, arg), 0);
}

static void test_loops_of_one_machine_run_together(void **state)
{
	wh_loop *other;
	start(NULL);
	assert_int_equal(wh_loop_start(&other, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}), 0);
	struct ping p = {.here = loop, .there = other, .left = 100};
	assert_int_equal(wh_post(other, ping, &p), 0);
	/* the other loop's timer runs while this one waits for what it resolves */
	wh_future f = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_then(wh_sleep(other, WH_NS_PER_MS), on_slept, &f), 0);
	assert_int_equal(get(f), 7);
	assert_int_equal(get(wh_sleep(loop, WH_NS_PER_S)), 0);
	assert_int_equal(p.left, 0);
	/* awaiting something of the other loop turns that one */
	assert_int_equal(get(wh_sleep(other, WH_NS_PER_MS)), 0);
	wh_loop_close(other);
}

static void test_cancel_gives_one_completion(void **state)
{
	int cancelled = 0;
	for (uint64_t seed = 0; seed < 100; seed++) {
		char bytes[4] = "abc";
		start(&(struct wh_sim_options){.seed = seed});
		int fd = open_file("/f", O_RDWR | O_CREAT);
		wh_future f = wh_pwrite_all(loop, fd, bytes, 4, 0), sync = wh_fsync(loop, fd, false);
		wh_cancel(f);
		wh_cancel(sync);
		int64_t n = get(f);
		assert_true(n == 4 || n == -ECANCELED);
		assert_int_equal(get(wh_size(loop, fd)), n == 4 ? 4 : 0);
		cancelled += n == -ECANCELED;
		n = get(sync);
		assert_true(n == 0 || n == -ECANCELED);
		/* close cancels what is under way, and comes after it */
		f = wh_pread_all(loop, fd, bytes, 4, 0);
		wh_future closing = wh_close(loop, fd);
		assert_int_equal(get(closing), 0);
		assert_true(wh_done(f));
		(void)get(f);
		assert_int_equal(get(wh_size(loop, fd)), -EBADF);
		end();
	}
	assert_true(cancelled > 20);
	assert_true(cancelled < 80);
}

static void test_transfers_may_be_short(void **state)
{
	char bytes[1000] = {0};
	int shorts = 0;
	start(NULL);
	int fd = open_file("/f", O_RDWR | O_CREAT);
	for (int i = 0; i < 200; i++) {
		int64_t n = get(wh_pwrite(loop, fd, bytes, sizeof bytes, 0));
		assert_true(n > 0 && n <= (int64_t)sizeof bytes);
		shorts += n < (int64_t)sizeof bytes;
		assert_int_equal(get(wh_pwrite_all(loop, fd, bytes, sizeof bytes, 0)), sizeof bytes);
		n = get(wh_pread(loop, fd, bytes, sizeof bytes, 0));
		assert_true(n > 0 && n <= (int64_t)sizeof bytes);
		shorts += n < (int64_t)sizeof bytes;
		assert_int_equal(get(wh_pread_all(loop, fd, bytes, sizeof bytes, 0)), sizeof bytes);
	}
	assert_true(shorts > 10);
	assert_true(shorts < 200);
}

/* ---- power -------------------------------------------------------------------------------- */

/* Six disk calls. */
static int64_t save(const char *content)
{
	int64_t fd = get(wh_open(loop, "/tmp", O_RDWR | O_CREAT | O_TRUNC, 0600)), n;
	if (fd < 0)
		return fd;
	n = wh_pwrite_blocking(loop, (int)fd, content, strlen(content), 0);
	if (n >= 0)
		n = wh_fsync_blocking(loop, (int)fd, false);
	if (n == 0)
		n = get(wh_rename(loop, "/tmp", "/file"));
	if (n != 0)
		return n;
	fd = get(wh_open(loop, "/", O_RDONLY, 0));
	return fd < 0 ? fd : get(wh_fsync(loop, (int)fd, false));
}

static int64_t load(char *to, size_t cap)
{
	int64_t fd = get(wh_open(loop, "/file", O_RDONLY, 0));
	memset(to, 0, cap);
	return fd < 0 ? fd : wh_pread_blocking(loop, (int)fd, to, cap - 1, 0);
}

static void test_power_is_cut_at_the_call_asked_for(void **state)
{
	for (uint64_t at = 1; at <= 6; at++) {
		char text[16];
		start(&(struct wh_sim_options){.seed = at, .crash_at_io = at});
		assert_int_equal(save("first"), -WH_ESIM_POWER_CUT);
		assert_int_equal(wh_sim_io_count(sim), at);
		assert_false(wh_sim_has_power(sim));
		assert_int_equal(get(wh_open(loop, "/", O_RDONLY, 0)), -WH_ESIM_POWER_CUT);
		assert_int_equal(wh_pread_blocking(loop, WH__SIM_FD_FIRST, text, 1, 0), -WH_ESIM_POWER_CUT);
		assert_int_equal(get(wh_sleep(loop, WH_NS_PER_S)), -WH_ESIM_POWER_CUT);
		wh_future f = wh_promise(loop, NULL, NULL);
		assert_int_equal(wh_loop_run(loop), -WH_ESIM_POWER_CUT);
		assert_int_equal(wh_drop(f), 0);
		assert_int_equal(wh_sim_restart(sim, NULL, WH_SIM_RANDOM), -EBUSY);
		restart(NULL, WH_SIM_KEEP_OLD);
		assert_int_equal(load(text, sizeof text), -ENOENT);
		end();
	}
	start(&(struct wh_sim_options){.crash_at_io = 7});
	assert_int_equal(save("first"), 0);
	assert_true(wh_sim_has_power(sim));
	end();
}

/* The classic way to replace a file is safe, whenever power goes; leaving out a sync is not. */
static void test_a_saved_file_is_the_old_or_the_new_one(void **state)
{
	int olds = 0, news = 0;
	for (uint64_t seed = 0; seed < 20; seed++) {
		for (uint64_t at = 1; at <= 7; at++) {
			char text[16];
			start(&(struct wh_sim_options){.seed = seed});
			assert_int_equal(save("first"), 0);
			restart(&(struct wh_sim_options){.seed = seed, .crash_at_io = at}, WH_SIM_RANDOM);
			int64_t n = save("other");
			assert_int_equal(n, at == 7 ? 0 : -WH_ESIM_POWER_CUT);
			restart(&(struct wh_sim_options){.seed = seed + 100}, WH_SIM_RANDOM);
			assert_int_equal(load(text, sizeof text), 5);
			assert_true(!strcmp(text, "other") || (n != 0 && !strcmp(text, "first")));
			olds += !strcmp(text, "first");
			news += n != 0 && !strcmp(text, "other");
			end();
		}
	}
	assert_true(olds > 20);
	assert_true(news > 5);
}

static void test_what_was_under_way_may_have_been_done(void **state)
{
	int done = 0;
	for (uint64_t seed = 0; seed < 100; seed++) {
		char text[16];
		start(&(struct wh_sim_options){.seed = seed});
		assert_int_equal(save("first"), 0);
		wh_future f = wh_rename(loop, "/file", "/moved");
		wh_sim_power_cut(sim);
		assert_int_equal(get(f), -WH_ESIM_POWER_CUT);
		restart(NULL, WH_SIM_KEEP_NEW);
		done += load(text, sizeof text) == -ENOENT;
		end();
	}
	assert_true(done > 20);
	assert_true(done < 80);
}

static int callbacks;

static void count(wh_loop *on, wh_res res, void *arg)
{
	callbacks++;
	assert_int_equal(res.n, -WH_ESIM_POWER_CUT);
}

static void test_nothing_is_called_back_after_the_cut(void **state)
{
	start(NULL);
	callbacks = 0;
	int fd = open_file("/f", O_RDWR | O_CREAT);
	assert_int_equal(wh_then(wh_fsync(loop, fd, false), count, NULL), 0);
	wh_sim_power_cut(sim);
	assert_int_equal(wh_loop_run(loop), -WH_ESIM_POWER_CUT);
	assert_int_equal(callbacks, 0);
	loop = wh_loop_close(loop);
	assert_int_equal(callbacks, 1); /* its memory may have to be freed */
}

static void test_clocks_after_a_restart(void **state)
{
	start(NULL);
	assert_int_equal(get(wh_sleep(loop, 5000 * WH_NS_PER_S)), 0);
	int64_t now = wh_now(loop), wall = wh_wall_now(loop);
	restart(NULL, WH_SIM_KILLED);
	assert_true(wh_now(loop) > now); /* the machine went on */
	restart(NULL, WH_SIM_KEEP_NEW);
	assert_true(wh_now(loop) < now);
	assert_true(wh_wall_now(loop) > wall);
}

/* ---- faults ------------------------------------------------------------------------------- */

static void test_the_call_asked_for_fails(void **state)
{
	for (uint64_t at = 1; at <= 6; at++) {
		start(&(struct wh_sim_options){.fail_at_io = at, .fail_error = EIO});
		assert_int_equal(save("first"), -EIO);
		assert_int_equal(save("first"), 0);
		end();
		start(&(struct wh_sim_options){
			.fail_at_io = at, .fail_error = ENOSPC, .fail_from_then_on = true});
		assert_int_equal(save("first"), -ENOSPC);
		assert_int_equal(save("first"), -ENOSPC);
		end();
	}
}

static int ran;

static void run_the_world(wh_loop *l, wh_res res, void *arg)
{
	ran = wh_sim_world_run(wh_sim_world_of(sim), WH_NS_PER_MS);
}

static void test_callbacks_do_not_run_the_world(void **state)
{
	start(NULL);
	assert_int_equal(wh_then(wh_sleep(loop, WH_NS_PER_MS), run_the_world, NULL), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(ran, -EDEADLK);
}

static void test_options_are_checked(void **state)
{
	assert_int_equal(wh_sim_open(&sim, &(struct wh_sim_options){.fail_at_io = 1}), -EINVAL);
	assert_null(sim);
	assert_int_equal(wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM}), -EINVAL);
	start(NULL);
	wh_loop_close(loop);
	assert_int_equal(wh_sim_restart(sim, NULL, 99), -EINVAL);
	assert_int_equal(wh_sim_restart(sim, NULL, WH_SIM_RANDOM), 0);
	assert_int_equal(wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}), 0);
}

#define TEST(name) cmocka_unit_test_teardown(name, end_after_test)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_seed_one_run),
		TEST(test_chance_decides_what_ends_first),
		TEST(test_time_passes_only_when_nothing_is_due),
		TEST(test_what_can_never_happen_is_not_waited_for),
		TEST(test_loops_of_one_machine_run_together),
		TEST(test_cancel_gives_one_completion),
		TEST(test_transfers_may_be_short),
		TEST(test_power_is_cut_at_the_call_asked_for),
		TEST(test_a_saved_file_is_the_old_or_the_new_one),
		TEST(test_what_was_under_way_may_have_been_done),
		TEST(test_nothing_is_called_back_after_the_cut),
		TEST(test_clocks_after_a_restart),
		TEST(test_the_call_asked_for_fails),
		TEST(test_callbacks_do_not_run_the_world),
		TEST(test_options_are_checked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
