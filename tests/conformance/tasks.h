/* tests/conformance/tasks.h -- what the tests of tasks share. They run on every engine, on a simulated machine too. */
#ifndef WH_TESTS_TASKS_H
#define WH_TESTS_TASKS_H

#include "conformance.h"

/* SLOW: ThreadSanitizer, to which tasks are few, and dear. SANITIZED: memory is not as in the plain build. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define SLOW 1
#endif
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED 1
#endif
#ifndef SLOW
#define SLOW 0
#endif
#ifndef SANITIZED
#define SANITIZED SLOW
#endif

__attribute__((unused)) static int notice_count;
static char last_notice[512];

static void keep_notice(int level, const char *message, void *arg)
{
	(void)arg;
	if (level < WH_LOG_WARNING)
		return;
	notice_count++;
	snprintf(last_notice, sizeof last_notice, "%s", message);
}

__attribute__((unused)) static bool on_sim(void)
{
	const char *engine = getenv("WHILST_ENGINE");
	return engine && !strcmp(engine, "sim");
}

static int open_tasks_loop_with(struct wh_loop_options options)
{
	int error = 0;
	notice_count = 0;
	options.log = keep_notice;
	if (on_sim() && !machine)
		error = on_sim_open();
	return error != 0 ? error : on_sim_loop_open(&loop, &options);
}

static int open_tasks_loop(void **state)
{
	(void)state;
	struct wh_loop_options options = {0};
	return open_tasks_loop_with(options);
}

static int close_tasks_loop(void **state)
{
	(void)state;
	loop = wh_loop_close(loop);
	on_sim_close();
	return 0;
}

#define ON_TASKS_LOOP(f) cmocka_unit_test_setup_teardown(f, open_tasks_loop, close_tasks_loop)

__attribute__((unused)) static void need_tasks_engine(void)
{
	if (!on_sim())
		need_engine();
}

/* What happened, as text: the order in which bodies and callbacks run. */
static char trace[4096];

__attribute__((unused)) static void say(const char *what)
{
	strncat(trace, what, sizeof trace - strlen(trace) - 1);
	strncat(trace, " ", sizeof trace - strlen(trace) - 1);
}

/* A body that says its arg. */
__attribute__((unused)) static int64_t say_it(void *arg)
{
	say(arg);
	return 0;
}

/* A body that waits until it is cancelled. */
__attribute__((unused)) static int64_t wait_for_ever(void *arg)
{
	int *ended = arg;
	int64_t n = wh_await(wh_promise(wh_self(), NULL, NULL)).n;
	if (ended)
		++*ended;
	return n;
}

/* One turn for all that is due, without waiting. */
__attribute__((unused)) static void turn_once(void)
{
	assert_int_equal(wh_loop_turn(loop, 0), 0);
}

#endif
