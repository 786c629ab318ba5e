/* tests/unit/test_log.c -- the log on real files: what is committed comes back, positions and marks say the truth.
 */
#include "log_help.h"

static const char *const files[] = {"manifest-a",
                                    "manifest-b",
                                    "seg-0000000000000000.log",
                                    "seg-0000000000000001.log",
                                    "seg-0000000000000002.log",
                                    NULL};

static void an_empty_log_opens_again(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 100);
	for (uint32_t epoch = 1; epoch <= 5; epoch++) {
		struct log *log = must_open(folder, &model);
		const struct log_epoch *epochs;
		uint64_t end = 0;
		assert_int_equal(log_epoch(log), epoch);
		assert_int_equal(log_epochs(log, &epochs), epoch);
		assert_int_equal(epochs[epoch - 1].reason, epoch == 1 ? LOG_EPOCH_CREATED : LOG_EPOCH_START);
		assert_int_equal(log_epoch_end(log, epoch, &end), -EINPROGRESS);
		assert_int_equal(log_epoch_end(log, epoch + 1, &end), -ENOENT);
		assert_int_equal(log_epoch_end(log, 0, &end), -ENOENT);
		for (uint32_t e = 1; e < epoch; e++) {
			assert_int_equal(log_epoch_end(log, e, &end), 0);
			assert_int_equal(end, epochs[e].start);
		}
		assert_all_replayed(&model);
		assert_int_equal(log_close(log), 0);
	}
	help_fini(&model);
	help_remove(folder);
}

static void commits_come_back(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 300);
	for (int life = 0; life < 4; life++) {
		struct log *log = must_open(folder, &model);
		assert_all_replayed(&model);
		for (uint32_t i = 0; i < 40; i++)
			must_commit(log, &model, i % 7, i % 3 == 0 ? LOG_ASYNC : LOG_LOCAL);
		assert_int_equal(log_close(log), 0);
	}
	struct log *log = must_open(folder, &model);
	assert_all_replayed(&model);
	assert_true(model.count > 400);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

/* Commits of one turn share a group; the marks keep their order and reach what was promised. */
static void a_turn_is_a_group(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 100);
	struct log *log = must_open(folder, &model);
	struct log_stats before, after;
	struct log_commit commit = {0}, last = {0};
	log_stats(log, &before);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(help_commit(log, &model, 1, LOG_LOCAL, &commit), 0);
		assert_true(commit.lsn > last.lsn);
		assert_ptr_equal(commit.mark, log_flushed(log));
		assert_int_equal(wh_mark_read(log_appended(log)), commit.lsn);
		assert_true(wh_mark_read(log_written(log)) < commit.lsn);
		last = commit;
	}
	assert_int_equal(wh_await(wh_mark_wait(commit.mark, commit.lsn)).n, 0);
	log_stats(log, &after);
	assert_int_equal(after.groups - before.groups, 100 * (100 + 24) > 57344 ? 2 : 1);
	assert_int_equal(after.flushes - before.flushes, 1);
	assert_int_equal(after.commits_local - before.commits_local, 100);
	uint64_t flushed = wh_mark_read(log_flushed(log));
	assert_true(flushed >= commit.lsn);
	assert_true(flushed <= wh_mark_read(log_written(log)));
	assert_true(wh_mark_read(log_written(log)) <= wh_mark_read(log_appended(log)));
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

static void records_are_read_back(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 9000);
	struct log *log = must_open(folder, &model);
	struct log_commit commit = {0};
	struct log_data peeked;
	assert_int_equal(help_commit(log, &model, 3, LOG_LOCAL, &commit), 0);
	assert_true(log_peek(log, model.records[1].location, &peeked)); /* not written yet */
	assert_true(help_same(&model, 1, peeked.type, peeked.version, peeked.flags, peeked.fixed,
	                      peeked.fixed_bytes, peeked.payload, peeked.payload_bytes));
	assert_false(log_peek(log, model.records[1].location + 8, &peeked));
	for (int i = 0; i < 60; i++)
		must_commit(log, &model, 2, LOG_ASYNC);
	for (int life = 0; life < 2; life++) {
		for (uint32_t i = 0; i < model.count; i++) {
			uint64_t hint = i % 2 ? help_record_bytes(&model, i) : 0;
			wh_res res = wh_await(log_read(log, model.records[i].location, hint));
			struct log_data *data = res.ptr;
			assert_int_equal(res.n, help_payload_bytes(&model, i));
			assert_true(help_same(&model, i, data->type, data->version, data->flags, data->fixed,
			                      data->fixed_bytes, data->payload, data->payload_bytes));
			log_data_free(data);
		}
		assert_int_equal(wh_await(log_read(log, model.records[5].location + 8, 0)).n, -WH_EDAMAGED);
		assert_int_equal(wh_await(log_read(log, model.records[5].location + 1, 0)).n, -ENOENT);
		assert_int_equal(wh_await(log_read(log, UINT64_C(1) << 40, 0)).n, -ENOENT);
		assert_int_equal(wh_drop(log_read(log, model.records[7].location, 0)), 0);
		assert_int_equal(log_close(log), 0);
		log = must_open(folder, &model);
	}
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

static void a_damaged_payload_is_told_when_it_is_read(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 200);
	struct log *log = must_open(folder, &model);
	must_commit(log, &model, 4, LOG_LOCAL);
	uint64_t in_file = 8192 + model.records[2].location + 30;
	help_write_at(folder, files[2], "?", 1, in_file);
	wh_res res = wh_await(log_read(log, model.records[2].location, 0));
	assert_int_equal(res.n, -WH_EDAMAGED);
	res = wh_await(log_read(log, model.records[3].location, 0));
	assert_int_equal(res.n, help_payload_bytes(&model, 3));
	log_data_free(res.ptr);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

/* A commit larger than a group is several groups, and still whole. */
static void a_large_commit_is_a_transaction(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 3000);
	struct log_options options = help_options(folder, &model);
	options.group_bytes = 8192;
	struct log *log = NULL;
	struct log_problem problem;
	assert_int_equal(log_open(loop, &options, &log, &problem), 0);
	assert_int_equal(log_record_max(log), 8192 - 96);
	assert_int_equal(log_transaction_max(log), 32 << 10);
	for (int i = 0; i < 60; i++)
		must_commit(log, &model, i % 3 == 0 ? 12 : 1, i % 2 ? LOG_ASYNC : LOG_LOCAL);
	assert_int_equal(log_begin(log, (32 << 10) + 1, 0), -EMSGSIZE);
	assert_int_equal(log_close(log), 0);
	log = must_open(folder, &model);
	assert_all_replayed(&model);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

/* What a killed process leaves: everything written is there, and the epoch before ends behind it. */
static void written_commits_survive_the_process(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 200);
	struct log *log = must_open(folder, &model);
	must_commit(log, &model, 5, LOG_LOCAL);
	must_commit(log, &model, 5, LOG_ASYNC);
	char *copy = help_copy(folder, files);
	struct log *second = must_open(copy, &model);
	assert_all_replayed(&model);
	const struct log_epoch *epochs;
	assert_int_equal(log_epochs(second, &epochs), 2);
	assert_int_equal(epochs[1].reason, LOG_EPOCH_RECOVERED);
	uint64_t end;
	assert_int_equal(log_epoch_end(second, 1, &end), 0);
	assert_true(model.records[9].lsn <= end);
	assert_int_equal(log_close(second), 0);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(copy);
	help_remove(folder);
}

static void a_folder_has_one_owner(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 100);
	struct log *log = must_open(folder, &model), *second = NULL;
	struct log_options options = help_options(folder, &model);
	struct log_problem problem;
	char text[1024], pid[32];
	assert_int_equal(log_open(loop, &options, &second, &problem), -EBUSY);
	assert_null(second);
	assert_int_equal(problem.kind, LOG_PROBLEM_HELD);
	assert_int_equal(problem.exit_status, 4);
	log_problem_text(&problem, text, sizeof(text));
	snprintf(pid, sizeof(pid), "process %d)", (int)getpid());
	assert_non_null(strstr(text, pid));
	assert_non_null(strstr(text, folder));
	must_commit(log, &model, 1, LOG_LOCAL); /* undisturbed */
	assert_int_equal(log_close(log), 0);
	log = must_open(folder, &model);
	assert_all_replayed(&model);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

static void an_idle_log_seals_itself(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 100);
	struct log *log = must_open(folder, &model);
	struct log_stats stats;
	must_commit(log, &model, 1, LOG_LOCAL);
	uint64_t before = wh_mark_read(log_flushed(log));
	assert_int_equal(wh_await(wh_mark_wait(log_flushed(log), before + 4096)).n, 0); /* nobody committed */
	log_stats(log, &stats);
	assert_true(stats.seals >= 1);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

/* Nobody waits, and yet it gets to the disk. */
static void async_commits_are_flushed_by_the_window(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 100);
	struct log *log = must_open(folder, &model);
	struct log_commit commit = {0};
	assert_int_equal(help_commit(log, &model, 1, LOG_ASYNC, &commit), 0);
	assert_ptr_equal(commit.mark, log_written(log));
	assert_int_equal(wh_await(wh_mark_wait(log_written(log), commit.lsn)).n, 0);
	assert_true(wh_mark_read(log_flushed(log)) < commit.lsn);
	int64_t from = wh_clock(loop);
	assert_int_equal(wh_await(wh_mark_wait(log_flushed(log), commit.lsn)).n, 0);
	assert_true(wh_clock(loop) - from > 5 * WH_NS_PER_MS);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

static void an_unknown_record_stops_the_start(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 100);
	struct log *log = must_open(folder, &model);
	must_commit(log, &model, 6, LOG_LOCAL);
	assert_int_equal(log_close(log), 0);
	struct log_options options = help_options(folder, &model);
	struct log_problem problem;
	model.refuse_type = LOG_TYPE_USER + 3;
	assert_int_equal(log_open(loop, &options, &log, &problem), -ENOTSUP);
	assert_int_equal(problem.kind, LOG_PROBLEM_VERSION);
	assert_int_equal(problem.exit_status, 4);
	assert_int_equal(problem.offset, 8192 + model.records[3].location);
	assert_non_null(strstr(problem.file, "seg-0000000000000000.log"));
	model.refuse_type = 0;
	log = must_open(folder, &model); /* and nothing was changed */
	assert_all_replayed(&model);
	assert_int_equal(log_epoch(log), 2);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

static void options_out_of_range_are_refused(void **state)
{
	struct log_problem problem;
	struct log *log = NULL;
	struct log_options wrong[] = {
		{.path = ""},
		{.path = "x", .segment_bytes = 4096},
		{.path = "x", .segment_bytes = (64 << 10) + 1},
		{.path = "x", .segment_bytes = UINT64_C(2) << 30},
		{.path = "x", .group_bytes = 4096},
		{.path = "x", .group_bytes = 8 << 20},
		{.path = "x", .async_window_ns = -1},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		assert_int_equal(log_open(loop, &wrong[i], &log, &problem), -EINVAL);
		assert_int_equal(problem.kind, LOG_PROBLEM_OPTIONS);
	}
	assert_int_equal(log_open(loop, &(struct log_options){.path = "/proc/none/such"}, &log, &problem),
	                 -ENOENT);
	assert_int_equal(problem.kind, LOG_PROBLEM_IO);
	assert_null(log);
	assert_int_equal(log_close(NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_log_opens_again),
		cmocka_unit_test(commits_come_back),
		cmocka_unit_test(a_turn_is_a_group),
		cmocka_unit_test(records_are_read_back),
		cmocka_unit_test(a_damaged_payload_is_told_when_it_is_read),
		cmocka_unit_test(a_large_commit_is_a_transaction),
		cmocka_unit_test(written_commits_survive_the_process),
		cmocka_unit_test(a_folder_has_one_owner),
		cmocka_unit_test(an_idle_log_seals_itself),
		cmocka_unit_test(async_commits_are_flushed_by_the_window),
		cmocka_unit_test(an_unknown_record_stops_the_start),
		cmocka_unit_test(options_out_of_range_are_refused),
	};
	return cmocka_run_group_tests(tests, open_loop, close_loop);
}
