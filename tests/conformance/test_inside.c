/* tests/conformance/test_inside.c -- to see inside: counters by class, times, slow and stuck callbacks, dumps. */
#include "runtime/loop.h"

#include "conformance.h"

#include <signal.h>
#include <time.h>

/* ---- counters ----------------------------------------------------------------------------- */

static int64_t give(void *arg)
{
	return *(const int64_t *)arg;
}

static void nothing(void *arg)
{
}

static void classes_are_counted(void **state)
{
	struct wh_stats before, after;
	int64_t five = 5, bad = -EIO;
	int fds[2];
	char bytes[8];
	make_pair(fds);
	wh_stats(loop, &before);
	wh_future promise = wh_promise(loop, NULL, NULL), timer = wh_sleep(loop, WH_NS_PER_S);
	wh_future receive = wh_recv(loop, fds[0], bytes, sizeof bytes);
	assert_int_equal(wh_await(wh_work(loop, give, &five)).n, 5);
	assert_int_equal(wh_await(wh_work(loop, give, &bad)).n, -EIO);
	assert_int_equal(wh_await(wh_open(loop, "/nowhere/at/all", O_RDONLY, 0)).n, -ENOENT);
	wh_stats(loop, &after);
	assert_int_equal(after.classes[WH_CLASS_PROMISE].in_flight, 1);
	assert_int_equal(after.classes[WH_CLASS_TIMER].in_flight, 1);
	assert_int_equal(after.classes[WH_CLASS_SOCKET].in_flight, 1);
	assert_int_equal(after.classes[WH_CLASS_WORK].started - before.classes[WH_CLASS_WORK].started, 2);
	assert_int_equal(after.classes[WH_CLASS_WORK].completed - before.classes[WH_CLASS_WORK].completed, 2);
	assert_int_equal(after.classes[WH_CLASS_WORK].failed - before.classes[WH_CLASS_WORK].failed, 1);
	assert_int_equal(after.classes[WH_CLASS_FILE].failed - before.classes[WH_CLASS_FILE].failed, 1);
	wh_cancel(timer);
	wh_cancel(receive);
	assert_int_equal(wh_await(timer).n, -ECANCELED);
	assert_int_equal(wh_await(receive).n, -ECANCELED);
	assert_int_equal(wh_resolve(promise, 0, NULL), 0);
	assert_int_equal(wh_await(promise).n, 0);
	close_fd(fds[0]);
	close_fd(fds[1]);
	wh_stats(loop, &after);
	assert_int_equal(after.classes[WH_CLASS_TIMER].cancelled, 1);
	assert_int_equal(after.classes[WH_CLASS_SOCKET].cancelled, 1);

	struct wh_class_stats sum = {0};
	for (size_t i = 0; i < sizeof after.classes / sizeof after.classes[0]; i++) {
		const struct wh_class_stats *class = &after.classes[i];
		assert_int_equal(class->name != NULL, i < WH_CLASS_COUNT);
		assert_int_equal(class->started - class->completed, class->in_flight);
		sum.started += class->started;
		sum.completed += class->completed;
		sum.failed += class->failed;
		sum.cancelled += class->cancelled;
		assert_int_equal(class->ns_total, 0); /* not asked for */
	}
	assert_int_equal(sum.started, after.started);
	assert_int_equal(sum.completed, after.completed);
	assert_int_equal(sum.failed, after.failed);
	assert_int_equal(sum.cancelled, after.cancelled);
	assert_int_equal(after.in_flight, 0);
	assert_true(after.engine.waits > 0);
	assert_int_equal(after.engine.overflows, 0);
}

static void every_opcode_has_a_name_and_a_class(void **state)
{
	for (unsigned opcode = 0; opcode < WH__OP__MAX; opcode++) {
		assert_non_null(wh__opcode_names[opcode]);
		assert_true(wh__opcode_class(opcode) < WH_CLASS_COUNT);
	}
}

static void times_are_taken_when_asked_for(void **state)
{
	struct wh_loop_options options = {.measure = true};
	struct wh_stats stats;
	assert_int_equal(wh_loop_open(&loop, &options), 0);
	assert_int_equal(wh_await(wh_sleep(loop, 3 * WH_NS_PER_MS)).n, 0);
	assert_int_equal(wh_await(wh_sleep(loop, 5 * WH_NS_PER_MS)).n, 0);
	wh_future many[3000]; /* more than a chunk of slots */
	for (int i = 0; i < 3000; i++)
		many[i] = wh_sleep(loop, 0);
	for (int i = 0; i < 3000; i++)
		assert_int_equal(wh_await(many[i]).n, 0);
	wh_stats(loop, &stats);
	assert_true(stats.classes[WH_CLASS_TIMER].ns_max >= 5 * WH_NS_PER_MS);
	assert_true(stats.classes[WH_CLASS_TIMER].ns_total >= 8 * WH_NS_PER_MS);
	loop = wh_loop_close(loop);
}

struct gate {
	atomic_bool open, reached;
};

static int64_t wait_at_gate(void *arg)
{
	struct gate *gate = arg;
	atomic_store(&gate->reached, true);
	while (!atomic_load(&gate->open))
		sched_yield();
	return 0;
}

static void workers_are_seen(void **state)
{
	struct wh_loop_options options = {.work_workers_max = 2};
	struct wh_stats stats;
	struct gate gate = {false, false};
	wh_future works[6];
	assert_int_equal(wh_loop_open(&loop, &options), 0);
	wh_stats(loop, &stats);
	assert_string_equal(stats.workers[WH__WORKERS_WORK].name, "work");
	assert_int_equal(stats.workers[WH__WORKERS_WORK].threads_max, 2);
	assert_int_equal(stats.workers[WH__WORKERS_WORK].threads, 0); /* none before it is needed */
	if (strcmp(wh_engine_name(loop), "sync") != 0) {              /* which has no workers */
		for (int i = 0; i < 6; i++)
			works[i] = wh_work(loop, wait_at_gate, &gate);
		wh_stats(loop, &stats);
		assert_int_equal(stats.workers[WH__WORKERS_WORK].threads, 2);
		assert_int_equal(stats.workers[WH__WORKERS_WORK].queued, 4);
		assert_int_equal(stats.threads, 2);
		atomic_store(&gate.open, true);
		for (int i = 0; i < 6; i++)
			assert_int_equal(wh_await(works[i]).n, 0);
		wh_stats(loop, &stats);
		assert_int_equal(stats.workers[WH__WORKERS_WORK].queued, 0);
	}
	loop = wh_loop_close(loop);
}

static void *resolve_when_asleep(void *arg)
{
	const wh_future *f = arg;
	while (atomic_load(&loop->wake_state) != 1) /* ASLEEP */
		sched_yield();
	(void)wh_resolve(*f, 7, NULL);
	return NULL;
}

/* One at most for each, and none where the loop, on its way to sleep, finds that something has come: try until it slept. */
static void wakes_are_counted(void **state)
{
	struct wh_stats before, after;
	do {
		pthread_t thread;
		wh_future f = wh_promise(loop, NULL, NULL);
		wh_stats(loop, &before);
		assert_int_equal(pthread_create(&thread, NULL, resolve_when_asleep, &f), 0);
		assert_int_equal(wh_await(f).n, 7);
		pthread_join(thread, NULL);
		wh_stats(loop, &after);
		assert_true(after.wakes - before.wakes <= 1);
	} while (after.wakes == before.wakes);
}

/* ---- slow and stuck ----------------------------------------------------------------------- */

static struct {
	atomic_int count, stuck_count; /* of them those that name a function of this program as stuck */
	char last[512];
} notices;

static void on_notice(int level, const char *message, void *arg)
{
	snprintf(notices.last, sizeof notices.last, "%s", message);
	if (strstr(message, "loop is stuck: ") && strstr(message, "test_inside") &&
	    strstr(message, "loop \"stuck one\""))
		atomic_fetch_add(&notices.stuck_count, 1);
	atomic_fetch_add(&notices.count, 1); /* what was written before it is seen by who reads it */
}

/* Exported by the program, so that dladdr(3) finds its name. */
void test_inside_slow(wh_loop *l, wh_res res, void *arg);
void test_inside_slow(wh_loop *l, wh_res res, void *arg)
{
	int64_t until = wh_clock(l) + 3 * WH_NS_PER_MS;
	while (wh_clock(l) < until)
		;
}

static void slow_callbacks_are_named(void **state)
{
	struct wh_loop_options options = {.slow_ns = WH_NS_PER_MS, .log = on_notice, .name = "slow one"};
	struct wh_stats stats;
	atomic_store(&notices.count, 0);
	assert_int_equal(wh_loop_open(&loop, &options), 0);
	int others = atomic_load(&notices.count); /* which engine */
	int64_t begin = wh_clock(loop);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(wh_then(wh_sleep(loop, 0), test_inside_slow, NULL), 0);
		assert_int_equal(wh_loop_run(loop), 0);
	}
	/* one line a second, and all are counted */
	int lines = atomic_load(&notices.count) - others;
	assert_true(lines == 1 || (lines > 1 && wh_clock(loop) - begin >= WH_NS_PER_S));
	assert_non_null(strstr(notices.last, "slow callback: "));
	assert_non_null(strstr(notices.last, "test_inside")); /* the program, if not the function */
	assert_non_null(strstr(notices.last, "loop \"slow one\""));
	wh_stats(loop, &stats);
	assert_int_equal(stats.slow_callbacks, 3);
	assert_true(stats.callback_ns_max >= 3 * WH_NS_PER_MS);
	loop = wh_loop_close(loop);

	options.slow_ns = 100 * WH_NS_PER_S; /* what is quicker is not named, but known */
	assert_int_equal(wh_loop_open(&loop, &options), 0);
	lines = atomic_load(&notices.count);
	assert_int_equal(wh_post(loop, nothing, NULL), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	wh_stats(loop, &stats);
	assert_int_equal(stats.slow_callbacks, 0);
	assert_true(stats.callback_ns_max > 0);
	assert_int_equal(atomic_load(&notices.count), lines);
	loop = wh_loop_close(loop);
	options.slow_ns = -1;
	assert_int_equal(wh_loop_open(&loop, &options), -EINVAL);
}

/* Blocks until somebody has noticed. On a busy machine a turn without it may be found long as well, and told of before. */
static void stick(void *arg)
{
	int before = atomic_load(&notices.stuck_count);
	while (atomic_load(&notices.stuck_count) == before)
		sched_yield();
}

static void a_stuck_loop_is_noticed(void **state)
{
	struct wh_loop_options options = {
		.stuck_ns = 2 * WH_NS_PER_MS, .log = on_notice, .name = "stuck one"};
	atomic_store(&notices.stuck_count, 0);
	for (int round = 0; round < 3; round++) { /* the watching thread comes and goes with the loops */
		wh_loop *other = NULL;
		assert_int_equal(wh_loop_open(&loop, &options), 0);
		assert_int_equal(wh_loop_start(&other, &options), 0);
		assert_int_equal(wh_post(loop, stick, NULL), 0);
		assert_int_equal(wh_loop_run(loop), 0);
		other = wh_loop_close(other);
		loop = wh_loop_close(loop);
		assert_true(atomic_load(&notices.stuck_count) > round);
	}
}

static atomic_int opened_count;

/* What the log does is its own matter: it holds up no loop that is opened or closed meanwhile, not even its own. */
static void open_another(int level, const char *message, void *arg)
{
	wh_loop *inner = NULL;
	const struct wh_loop_options options = {.stuck_ns = WH_NS_PER_S};
	if (strstr(message, "loop is stuck: ") && wh_loop_open(&inner, &options) == 0) {
		inner = wh_loop_close(inner);
		atomic_fetch_add(&opened_count, 1);
	}
}

static void stick_until_opened(void *arg)
{
	while (atomic_load(&opened_count) == 0)
		sched_yield();
}

static void a_log_may_use_loops(void **state)
{
	const struct wh_loop_options options = {
		.stuck_ns = 2 * WH_NS_PER_MS, .log = open_another, .name = "stuck two"};
	atomic_store(&opened_count, 0);
	assert_int_equal(wh_loop_open(&loop, &options), 0);
	assert_int_equal(wh_post(loop, stick_until_opened, NULL), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	loop = wh_loop_close(loop); /* waits for the log, should it be called once more */
	assert_true(atomic_load(&opened_count) > 0);
}

/* ---- dumps -------------------------------------------------------------------------------- */

struct dump {
	char text[16384];
	int count;
};

static void add_line(const char *line, void *arg)
{
	struct dump *dump = arg;
	assert_null(strchr(line, '\n'));
	strncat(dump->text, line, sizeof dump->text - strlen(dump->text) - 1);
	strncat(dump->text, "\n", sizeof dump->text - strlen(dump->text) - 1);
	dump->count++;
}

static void *dump_elsewhere(void *arg)
{
	struct dump dump = {0};
	*(int *)arg = wh_dump(loop, add_line, &dump);
	return NULL;
}

static void a_dump_tells_what_is_pending(void **state)
{
	struct wh_loop_options options = {.measure = true, .name = "dumped"};
	static struct dump dump;
	struct seen seen = {0};
	int fds[2], elsewhere = 0;
	char bytes[8], expected[64];
	pthread_t thread;
	assert_int_equal(wh_loop_open(&loop, &options), 0);
	make_pair(fds);
	wh_future receive = wh_recv(loop, fds[0], bytes, sizeof bytes);
	wh_future timer = wh_sleep(loop, 60 * WH_NS_PER_S);
	wh_future done = wh_promise(loop, NULL, NULL), both[2] = {wh_promise(loop, NULL, NULL), timer};
	assert_int_equal(wh_resolve(done, -EIO, NULL), 0);
	assert_int_equal(wh_then(receive, note, &seen), 0);
	wh_future all = wh_all(loop, both, 2, NULL);

	assert_int_equal(wh_dump(loop, add_line, &dump), 5);
	assert_int_equal(dump.count, 6);
	assert_non_null(strstr(dump.text, "\"dumped\", engine "));
	assert_non_null(strstr(dump.text, ": 4 pending, 5 futures"));
	snprintf(expected, sizeof expected, ", fd %d, age 0.", fds[0]);
	assert_non_null(strstr(dump.text, expected));
	assert_non_null(strstr(dump.text, "  recv "));
	assert_non_null(strstr(dump.text, ", then test_inside+0x"));
	assert_non_null(strstr(dump.text, "  timer "));
	assert_non_null(strstr(dump.text, ", due in 59."));
	assert_non_null(strstr(dump.text, ", part of "));
	assert_non_null(strstr(dump.text, "done: -5, not taken"));
	assert_int_equal(wh_dump(loop, NULL, NULL), -EINVAL);
	assert_int_equal(pthread_create(&thread, NULL, dump_elsewhere, &elsewhere), 0);
	pthread_join(thread, NULL);
	assert_int_equal(elsewhere, -EPERM);

	assert_int_equal(wh_poll(done, NULL), true);
	wh_cancel(all);
	assert_int_equal(wh_await(all).n, -ECANCELED);
	close_fd(fds[0]);
	close_fd(fds[1]);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(seen.last.n, -ECANCELED);
	loop = wh_loop_close(loop);
}

static void stick_at_gate(void *arg)
{
	(void)wait_at_gate(arg);
}

/* Reads until all of the wanted texts have come; a hang is the test's time limit. */
static void read_until(int fd, const char *const *wanted, size_t count)
{
	static char text[65536];
	size_t len = 0, found = 0;
	while (found < count) {
		ssize_t n = read(fd, text + len, sizeof text - 1 - len);
		assert_true(n > 0);
		len += (size_t)n;
		text[len] = 0;
		for (found = 0; found < count && strstr(text, wanted[found]);)
			found++;
	}
}

static void a_signal_dumps_every_loop(void **state)
{
	static const char *const wanted[] = {"\"own\"", "\"stuck\"", "in a callback", "  promise ",
	                                     "\"asleep\""};
	struct wh_loop_options own = {.name = "own"}, stuck = {.name = "stuck"}, asleep = {.name = "asleep"};
	wh_loop *stuck_loop = NULL, *asleep_loop = NULL;
	struct gate gate = {false, false};
	int pipe_fds[2];
	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(wh_dump_on_signal(SIGUSR1, -1), -EBADF);
	assert_int_equal(wh_dump_on_signal(SIGKILL, pipe_fds[1]), -EINVAL);
	assert_int_equal(wh_dump_on_signal(SIGUSR1, pipe_fds[1]), 0);
	assert_int_equal(wh_loop_open(&loop, &own), 0);
	assert_int_equal(wh_loop_start(&stuck_loop, &stuck), 0);
	assert_int_equal(wh_loop_start(&asleep_loop, &asleep), 0);
	wh_future promise = wh_promise(loop, NULL, NULL);
	assert_int_equal(wh_post(stuck_loop, stick_at_gate, &gate), 0);
	while (!atomic_load(&gate.reached))
		sched_yield();
	assert_int_equal(kill(getpid(), SIGUSR1), 0);
	read_until(pipe_fds[0], wanted, sizeof wanted / sizeof wanted[0]);
	atomic_store(&gate.open, true);
	stuck_loop = wh_loop_close(stuck_loop);
	asleep_loop = wh_loop_close(asleep_loop);
	assert_int_equal(wh_drop(promise), 0);
	loop = wh_loop_close(loop);
	signal(SIGUSR1, SIG_DFL);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

struct asker {
	pthread_t whom;
	atomic_bool stop;
};

static void *ask_for_dumps(void *arg)
{
	struct asker *asker = arg;
	while (!atomic_load(&asker->stop))
		pthread_kill(asker->whom, SIGUSR1);
	return NULL;
}

static int64_t await_parts(void *arg)
{
	const wh_future *promise = arg;
	wh_future parts[2] = {wh_deadline(*promise, INT64_MAX), wh_sleep(wh_self(), 0)};
	return wh_await(wh_all(wh_self(), parts, 2, NULL)).n;
}

static void a_signal_may_come_at_any_moment(void **state)
{
	struct asker asker = {.whom = pthread_self()};
	pthread_t thread;
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(wh_dump_on_signal(SIGUSR1, fd), 0);
	assert_int_equal(pthread_create(&thread, NULL, ask_for_dumps, &asker), 0);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(wh_loop_open(&loop, NULL), 0);
		for (int j = 0; j < 100; j++) {
			wh_future promise = wh_promise(loop, NULL, NULL);
			wh_future task = wh_go(loop, await_parts, &promise), again = promise;
			assert_int_equal(wh_loop_turn(loop, 0), 0);
			assert_int_equal(wh_resolve(again, 1, NULL), 0);
			assert_int_equal(wh_await(task).n, 0);
		}
		loop = wh_loop_close(loop);
	}
	atomic_store(&asker.stop, true);
	pthread_join(thread, NULL);
	signal(SIGUSR1, SIG_DFL);
	close(fd);
}

static void note_thread_name(void *arg)
{
	pthread_getname_np(pthread_self(), arg, 16);
}

static void threads_bear_the_name_of_their_loop(void **state)
{
	struct wh_loop_options options = {.name = "a loop with a long name"};
	char name[16] = "", before[16], after[16];
	wh_loop *other = NULL;
	pthread_getname_np(pthread_self(), before, sizeof before);
	assert_int_equal(wh_loop_start(&other, &options), 0);
	assert_int_equal(wh_post(other, note_thread_name, name), 0);
	other = wh_loop_close(other);
	assert_string_equal(name, "a loop with a l");
	pthread_getname_np(pthread_self(), after, sizeof after);
	assert_string_equal(before, after); /* a thread of the program's keeps its own */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(classes_are_counted),
		cmocka_unit_test(every_opcode_has_a_name_and_a_class),
		cmocka_unit_test(times_are_taken_when_asked_for),
		cmocka_unit_test(workers_are_seen),
		ON_LOOP(wakes_are_counted),
		cmocka_unit_test(slow_callbacks_are_named),
		cmocka_unit_test(a_stuck_loop_is_noticed),
		cmocka_unit_test(a_log_may_use_loops),
		cmocka_unit_test(a_dump_tells_what_is_pending),
		cmocka_unit_test(a_signal_dumps_every_loop),
		cmocka_unit_test(a_signal_may_come_at_any_moment),
		cmocka_unit_test(threads_bear_the_name_of_their_loop),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
