/* tests/unit/test_log_look.c -- looking at a log: what it tells, and that it changes nothing.
 */
#include "log_help.h"

/* Everything in the folder: names, sizes and bytes, as one number. */
static uint64_t fingerprint(const char *folder)
{
	char command[512], line[128] = "";
	snprintf(command, sizeof command,
	         "cd '%s' && { ls -l --time-style=full-iso; cat *; } | cksum | tr -d ' \\n'", folder);
	FILE *pipe = popen(command, "r");
	assert_non_null(pipe);
	assert_non_null(fgets(line, sizeof line, pipe));
	assert_int_equal(pclose(pipe), 0);
	return strtoull(line, NULL, 10);
}

static int look(const char *folder, struct help_model *model, struct log_look *ret,
                struct log_problem *ret_problem)
{
	struct log_options options = help_options(folder, model);
	return log_look(loop, &options, ret, ret_problem);
}

/* Writes bytes over what the segments hold at an lsn. */
static void overwrite(const char *folder, const struct log_look *found, uint64_t lsn, const char *bytes)
{
	size_t i = found->segments_count - 1;
	char name[64];
	while (!found->segments[i].opened || found->segments[i].base_lsn > lsn)
		i--;
	snprintf(name, sizeof name, "seg-%016llx.log", (unsigned long long)found->segments[i].number);
	help_write_at(folder, name, bytes, strlen(bytes), 8192 + lsn - found->segments[i].base_lsn);
}

/* A log of two lives. */
static char *make(struct help_model *model)
{
	char *folder = help_folder();
	help_init(model, 300);
	for (int life = 0; life < 2; life++) {
		struct log *log = must_open(folder, model);
		for (int i = 0; i < 20; i++)
			must_commit(log, model, 2, LOG_LOCAL);
		assert_int_equal(log_close(log), 0);
	}
	return folder;
}

static void tells_what_is_there_and_changes_nothing(void **state)
{
	struct help_model model;
	struct log_look found;
	char *folder = make(&model);
	uint64_t before = fingerprint(folder);
	assert_int_equal(look(folder, &model, &found, NULL), 0);
	assert_all_replayed(&model);
	assert_int_equal(found.records, model.count + 2); /* and an EPOCH record each */
	assert_int_equal(found.epochs_count, 2);
	assert_int_equal(found.epochs[0].reason, LOG_EPOCH_CREATED);
	assert_int_equal(found.epochs[1].reason, LOG_EPOCH_START);
	assert_int_equal(found.torn_bytes, 0);
	int newest = found.manifests[1].sequence > found.manifests[0].sequence;
	assert_true(found.manifests[newest].valid && found.manifests[newest].clean);
	assert_int_equal(found.manifests[newest].durable_lsn, found.end_lsn);
	uint64_t used = 0;
	for (size_t i = 0; i < found.segments_count; i++)
		used += found.segments[i].used_bytes;
	assert_int_equal(used, found.end_lsn);
	log_look_fini(&found);
	assert_int_equal(fingerprint(folder), before);
	help_fini(&model);
	help_remove(folder);
}

static void a_torn_tail_is_told_and_left(void **state)
{
	struct help_model model;
	struct log_look found;
	char *folder = make(&model);
	assert_int_equal(look(folder, &model, &found, NULL), 0);
	uint64_t end = found.end_lsn;
	overwrite(folder, &found, end + 10, "not a group");
	log_look_fini(&found);
	uint64_t before = fingerprint(folder);
	assert_int_equal(look(folder, &model, &found, NULL), 0);
	assert_all_replayed(&model);
	assert_int_equal(found.end_lsn, end);
	assert_true(found.torn_bytes >= 4096);
	log_look_fini(&found);
	assert_int_equal(fingerprint(folder), before);
	struct log *log = must_open(folder, &model); /* this cuts it off */
	assert_int_equal(log_close(log), 0);
	assert_int_equal(look(folder, &model, &found, NULL), 0);
	assert_int_equal(found.torn_bytes, 0);
	log_look_fini(&found);
	help_fini(&model);
	help_remove(folder);
}

static void damage_is_found_and_what_came_before_is_shown(void **state)
{
	struct help_model model;
	struct log_look found;
	struct log_problem problem;
	char *folder = make(&model);
	uint64_t place = model.records[30].location;
	assert_int_equal(look(folder, &model, &found, NULL), 0);
	overwrite(folder, &found, place + 20, "?");
	log_look_fini(&found);
	uint64_t before = fingerprint(folder);
	assert_int_equal(look(folder, &model, &found, &problem), -WH_EDAMAGED);
	assert_int_equal(problem.kind, LOG_PROBLEM_DAMAGED);
	assert_int_equal(problem.exit_status, 3);
	assert_true(found.end_lsn <= place && found.end_lsn > 0);
	assert_int_equal(model.replayed, 30);
	assert_int_equal(found.segments_count > 0, 1);
	log_look_fini(&found);
	assert_int_equal(fingerprint(folder), before);
	help_fini(&model);
	help_remove(folder);
}

/* A segment below the checkpoint is checked alone, and may begin with the rest of a transaction. */
static void a_segment_may_begin_within_a_transaction(void **state)
{
	struct help_model model;
	struct log_look found;
	struct log_problem problem = {0};
	char *folder = help_folder();
	help_init(&model, 300);
	struct log_options options = help_options(folder, &model);
	struct log *log = NULL;
	options.group_bytes = 8192;
	assert_int_equal(log_open(loop, &options, &log, NULL), 0);
	for (int i = 0; i < 40; i++)
		must_commit(log, &model, 100, LOG_ASYNC);
	assert_int_equal(help_checkpoint(log, &model), 0);
	must_commit(log, &model, 1, LOG_LOCAL);
	assert_int_equal(log_close(log), 0);
	if (look(folder, &model, &found, &problem) < 0)
		fail_msg("%s, byte %llu: %s", problem.file, (unsigned long long)problem.offset,
		         problem.reason);
	assert_true(found.segments_count > 4 && found.segments[3].below);
	log_look_fini(&found);
	help_fini(&model);
	help_remove(folder);
}

static void a_folder_in_use_or_without_a_log_is_refused(void **state)
{
	struct help_model model;
	struct log_look found;
	struct log_problem problem;
	char *folder = help_folder(), path[512];
	help_init(&model, 300);
	assert_int_equal(look(folder, &model, &found, &problem), -ENOENT);
	log_look_fini(&found);
	struct log *log = must_open(folder, &model);
	assert_int_equal(look(folder, &model, &found, &problem), -EBUSY);
	assert_int_equal(problem.kind, LOG_PROBLEM_HELD);
	log_look_fini(&found);
	assert_int_equal(log_close(log), 0);
	/* a copy without its lock */
	snprintf(path, sizeof path, "%s/LOCK", folder);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(look(folder, &model, &found, &problem), 0);
	log_look_fini(&found);
	assert_int_not_equal(access(path, F_OK), 0);
	help_remove(folder);
	assert_int_equal(look("/nonexistent/folder", &model, &found, &problem), -ENOENT);
	log_look_fini(&found);
	help_fini(&model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_what_is_there_and_changes_nothing),
		cmocka_unit_test(a_torn_tail_is_told_and_left),
		cmocka_unit_test(damage_is_found_and_what_came_before_is_shown),
		cmocka_unit_test(a_segment_may_begin_within_a_transaction),
		cmocka_unit_test(a_folder_in_use_or_without_a_log_is_refused),
	};
	return cmocka_run_group_tests(tests, open_loop, close_loop);
}
