/* tests/fault/test_log_errors.c -- every disk call fails once, or for ever; the disk is full; a flush lies.
 *
 * On the simulated machine. What must hold: the first failure that matters ends the log, is told once, and nothing is
 * acknowledged after it; after the next start everything that was acknowledged is there (a failed flush leaves pages that
 * look clean and are not on the disk). Want of memory for the next segment only makes it later.
 */
#include "../unit/log_help.h"

static char context[160];

#define CHECK(condition)                                         \
	do {                                                     \
		if (!(condition))                                \
			fail_msg("%s: %s", context, #condition); \
	} while (0)

struct told {
	int count;
	int64_t error;
	char message[512];
};

static void on_failure(void *arg, int64_t error, const char *message)
{
	struct told *told = arg;
	told->count++;
	told->error = error;
	snprintf(told->message, sizeof(told->message), "%s", message);
}

static wh_sim *new_machine(const struct wh_sim_options *options)
{
	wh_sim *sim = NULL;
	CHECK(wh_sim_open(&sim, options) == 0);
	return sim;
}

static void new_loop(wh_sim *sim)
{
	loop = NULL;
	CHECK(wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}) == 0);
}

/* 40 commits of both levels; *ret_flushed: what was acknowledged. Calls made of the disk. */
static uint64_t live(wh_sim *sim, struct help_model *model, uint64_t *ret_flushed, struct told *told)
{
	struct log_options options = help_options("data", model);
	struct log *log = NULL;
	struct log_problem problem;
	options.on_failure = on_failure;
	options.failure_arg = told;
	*ret_flushed = 0;
	new_loop(sim);
	int status = log_open(loop, &options, &log, &problem);
	if (status < 0) {
		CHECK(problem.kind == LOG_PROBLEM_IO && problem.reason[0] && problem.exit_status == 4);
		CHECK(log == NULL);
		loop = wh_loop_close(loop);
		return wh_sim_io_count(sim);
	}
	bool good = true;
	for (uint32_t i = 0; i < 40 && good; i++) {
		struct log_commit commit = {0};
		while ((status = help_commit(log, model, 1 + i % 5, i % 3 == 1 ? LOG_ASYNC : LOG_LOCAL,
		                             &commit)) == -ENOSPC &&
		       log_failed(log) == 0)
			while (log_full(log) && log_failed(log) == 0)
				(void)wh_await(log_room_wait(log));
		good = status == 0;
		if (good && i % 4 != 3)
			good = wh_await(wh_mark_wait(commit.mark, commit.lsn)).n == 0;
	}
	*ret_flushed = wh_mark_read(log_flushed(log));
	if (!good) {
		CHECK(log_failed(log) < 0 && told->count == 1 && told->error == log_failed(log));
		CHECK(strstr(told->message, "data") != NULL);
		CHECK(log_begin(log, 100, 0) == log_failed(log));
		CHECK(wh_await(wh_mark_wait(log_flushed(log), UINT64_MAX)).n == log_failed(log));
		CHECK(wh_await(wh_mark_wait(log_written(log), UINT64_MAX)).n == log_failed(log));
		CHECK(log_room(log) == 0);
	}
	status = log_close(log);
	CHECK((status == 0) == (good && told->count == 0) || told->count == 0);
	if (status == 0)
		*ret_flushed = UINT64_MAX;
	loop = wh_loop_close(loop);
	return wh_sim_io_count(sim);
}

/* Start again on a healthy disk: everything acknowledged is there, and the log works. */
static void restart(wh_sim *sim, struct help_model *model, uint64_t flushed, int damage, uint64_t seed)
{
	struct log_options options = help_options("data", model);
	struct log *log = NULL;
	struct log_problem problem;
	char text[1024];
	wh_sim_power_cut(sim);
	CHECK(wh_sim_restart(sim, &(struct wh_sim_options){.seed = seed}, damage) == 0);
	new_loop(sim);
	if (log_open(loop, &options, &log, &problem) < 0) {
		log_problem_text(&problem, text, sizeof(text));
		fail_msg("%s: does not start: %s", context, text);
	}
	CHECK(!model->wrong && model->replayed <= model->count);
	for (uint32_t i = model->replayed; i < model->count; i++)
		CHECK(model->records[i].lsn > flushed);
	model->count = model->replayed;
	must_commit(log, model, 3, LOG_LOCAL);
	CHECK(log_close(log) == 0);
	loop = wh_loop_close(loop);
}

/* How often the log ended for it. */
static uint64_t fail_every_call(int error, bool for_ever)
{
	struct help_model model;
	struct told told = {0};
	uint64_t flushed, stopped = 0;
	snprintf(context, sizeof(context), "no error");
	help_init(&model, 2000);
	wh_sim *sim = new_machine(&(struct wh_sim_options){.seed = 1});
	uint64_t calls = live(sim, &model, &flushed, &told);
	CHECK(told.count == 0 && flushed == UINT64_MAX);
	wh_sim_close(sim);
	help_fini(&model);
	for (uint64_t k = 1; k <= calls; k++) {
		int damage = k % 3 == 0 ? WH_SIM_KILLED : k % 3 == 1 ? WH_SIM_RANDOM : WH_SIM_KEEP_OLD;
		snprintf(context, sizeof(context), "call %llu fails with %d%s", (unsigned long long)k, error,
		         for_ever ? " for ever" : "");
		told = (struct told){0};
		help_init(&model, 2000);
		sim = new_machine(&(struct wh_sim_options){
			.seed = k, .fail_at_io = k, .fail_error = error, .fail_from_then_on = for_ever});
		live(sim, &model, &flushed, &told);
		CHECK(told.count <= 1);
		/* a manifest that finds no room is written again when there is some */
		CHECK(error != ENOSPC || !strstr(told.message, "manifest"));
		stopped += (uint64_t)told.count;
		restart(sim, &model, flushed, damage, k + 1);
		wh_sim_close(sim);
		help_fini(&model);
	}
	print_message("%s%s: %llu calls, %llu failures of the log\n", strerror(error),
	              for_ever ? " for ever" : "", (unsigned long long)calls, (unsigned long long)stopped);
	assert_true(stopped > 20 || error == ENOSPC);
	return stopped;
}

/* A write of zeros past the page cache that is refused as such goes by way of it: with another error it ends the log. */
static void every_call_fails_once(void **state)
{
	uint64_t failed = fail_every_call(EIO, false), refused = fail_every_call(EINVAL, false);
	assert_true(refused < failed);
}

static void every_call_fails_for_ever(void **state)
{
	(void)fail_every_call(EIO, true);
}

static void every_call_finds_no_space(void **state)
{
	(void)fail_every_call(ENOSPC, false);
}

/* ---- a full disk ------------------------------------------------------------------------- */

static void write_junk(const char *path, size_t bytes)
{
	void *junk = calloc(1, bytes);
	wh_res res = wh_await(wh_open(loop, path, O_RDWR | O_CREAT, 0600));
	assert_true(res.n >= 0);
	assert_int_equal(wh_await(wh_pwrite_all(loop, (int)res.n, junk, bytes, 0)).n, bytes);
	assert_int_equal(wh_await(wh_close(loop, (int)res.n)).n, 0);
	free(junk);
}

/* One essential commit. */
static int finish_something(struct log *log, struct help_model *model)
{
	struct log_commit commit = {0};
	int status;
	while ((status = log_begin(log, help_record_bytes(model, model->seeds), LOG_ESSENTIAL)) == -EAGAIN)
		CHECK(wh_await(log_room_wait(log)).n == 0);
	if (status < 0)
		return status;
	struct help_record *record = &model->records[model->count++];
	*record = (struct help_record){.location = help_append(log, model, model->seeds),
	                               .commit = model->commits++,
	                               .seed = model->seeds++,
	                               .epoch = log_epoch(log)};
	commit = log_commit(log, LOG_LOCAL);
	record->lsn = commit.lsn;
	return (int)wh_await(wh_mark_wait(commit.mark, commit.lsn)).n;
}

static void a_full_disk_refuses_work_and_lets_it_end(void **state)
{
	struct help_model model;
	struct told told = {0};
	struct log_options options;
	struct log *log = NULL;
	struct log_problem problem;
	struct log_commit commit = {0};
	help_init(&model, 1000);
	snprintf(context, sizeof(context), "full disk");
	wh_sim *sim = new_machine(&(struct wh_sim_options){.seed = 5, .disk_bytes = 6 * 65536});
	new_loop(sim);
	write_junk("junk", 128 << 10);
	options = help_options("data", &model);
	options.on_failure = on_failure;
	options.failure_arg = &told;
	CHECK(log_open(loop, &options, &log, &problem) == 0);
	int status = 0, accepted = 0;
	while ((status = help_commit(log, &model, 1, LOG_LOCAL, &commit)) == 0) {
		CHECK(wh_await(wh_mark_wait(commit.mark, commit.lsn)).n == 0);
		accepted++;
	}
	CHECK(status == -ENOSPC);
	CHECK(accepted > 10 && log_full(log) && log_failed(log) == 0);
	CHECK(help_commit(log, &model, 1, LOG_ASYNC, &commit) == -ENOSPC);
	for (int i = 0; i < 5; i++)
		CHECK(finish_something(log, &model) == 0);

	/* Space comes back, and the log finds out by itself. */
	CHECK(wh_await(wh_unlink(loop, "junk")).n == 0);
	while (log_full(log)) /* it is tried again every second */
		CHECK(wh_await(log_room_wait(log)).n == 0);
	CHECK(log_room(log) > 0);
	must_commit(log, &model, 2, LOG_LOCAL);

	/* To the very end: essential commits are refused, too, in order. */
	while ((status = finish_something(log, &model)) == 0)
		;
	CHECK(status == -ENOSPC && log_failed(log) == 0 && told.count == 0);
	CHECK(log_close(log) == 0);

	/* A full disk does not keep the log from starting if it can write a block; here it cannot. */
	options = help_options("data", &model);
	status = log_open(loop, &options, &log, &problem);
	CHECK(status == -ENOSPC && problem.kind == LOG_PROBLEM_IO);
	loop = wh_loop_close(loop);
	wh_sim_power_cut(sim);
	CHECK(wh_sim_restart(sim, &(struct wh_sim_options){.disk_bytes = 64 << 20}, WH_SIM_RANDOM) == 0);
	new_loop(sim);
	log = must_open("data", &model);
	assert_all_replayed(&model);
	must_commit(log, &model, 2, LOG_LOCAL);
	CHECK(log_close(log) == 0);
	loop = wh_loop_close(loop);
	wh_sim_close(sim);
	help_fini(&model);
}

/* ---- want of memory ---------------------------------------------------------------------- */

static unsigned paths_asked, paths_fail_at,
	paths_fail_count; /* of log_path(): the first that fails, how many */

char *__real_log_path(const struct log *log, const char *format, ...);
char *__wrap_log_path(const struct log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

char *__wrap_log_path(const struct log *log, const char *format, ...)
{
	char name[128];
	va_list args;
	paths_asked++;
	if (paths_asked >= paths_fail_at && paths_asked - paths_fail_at < paths_fail_count)
		return NULL;
	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	return __real_log_path(log, "%s", name);
}

/* Over several segments, in simulated seconds. How many paths were asked for. */
static unsigned live_without_memory(unsigned fail_at, unsigned fail_count)
{
	struct help_model model;
	struct told told = {0};
	snprintf(context, sizeof(context), "path %u and %u more fail", fail_at, fail_count);
	help_init(&model, 2000);
	wh_sim *sim = new_machine(&(struct wh_sim_options){.seed = fail_at + 1});
	new_loop(sim);
	struct log_options options = help_options("data", &model);
	options.on_failure = on_failure;
	options.failure_arg = &told;
	struct log *log = NULL;
	struct log_problem problem;
	struct log_stats stats = {0};
	CHECK(log_open(loop, &options, &log, &problem) == 0);
	int64_t began = wh_clock(loop);
	paths_asked = 0;
	paths_fail_at = fail_at;
	paths_fail_count = fail_count;
	while (stats.rolls < 4) {
		struct log_commit commit = {0};
		CHECK(help_commit(log, &model, 3, LOG_LOCAL, &commit) == 0);
		CHECK(wh_await(wh_mark_wait(commit.mark, commit.lsn)).n == 0);
		CHECK(!log_full(log));
		log_stats(log, &stats);
	}
	unsigned asked = paths_asked;
	paths_fail_count = 0;
	CHECK(told.count == 0 && wh_clock(loop) - began < 5 * WH_NS_PER_S);
	CHECK(log_close(log) == 0);
	model.replayed = 0;
	log = must_open("data", &model);
	assert_all_replayed(&model);
	CHECK(log_close(log) == 0);
	loop = wh_loop_close(loop);
	wh_sim_close(sim);
	help_fini(&model);
	return asked;
}

static void want_of_memory_only_makes_the_next_segment_later(void **state)
{
	unsigned calls = live_without_memory(1, 0);
	CHECK(calls >= 8); /* two for each creation and each renaming */
	for (unsigned i = 1; i <= calls; i++) {
		live_without_memory(i, 1);
		live_without_memory(i, 5); /* its removal and the next try, too */
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_call_fails_once),
		cmocka_unit_test(every_call_fails_for_ever),
		cmocka_unit_test(every_call_finds_no_space),
		cmocka_unit_test(a_full_disk_refuses_work_and_lets_it_end),
		cmocka_unit_test(want_of_memory_only_makes_the_next_segment_later),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
