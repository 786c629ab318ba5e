/* tests/unit/test_log_checkpoint.c -- checkpoints on real files: a start begins with them, and what is before them may go.
 */
#include "log_help.h"

/* Segments that are just being made are not counted. */
static uint32_t count_files(const char *folder, const char *suffix)
{
	DIR *directory = opendir(folder);
	uint32_t count = 0;
	assert_non_null(directory);
	for (struct dirent *entry; (entry = readdir(directory));) {
		size_t len = strlen(entry->d_name), skip = strlen(suffix);
		count += len > skip && strncmp(entry->d_name, "seg-", 4) != 0 &&
		         strcmp(entry->d_name + len - skip, suffix) == 0;
	}
	closedir(directory);
	return count;
}

static void a_start_begins_with_the_checkpoint(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	struct log_stats stats;
	help_init(&model, 1500);
	for (int life = 0; life < 5; life++) {
		struct log *log = must_open(folder, &model);
		assert_all_replayed(&model);
		log_stats(log, &stats);
		if (life > 0) {
			assert_true(stats.loaded_records > model.in_checkpoint);
			assert_true(stats.replayed_records < model.count - model.in_checkpoint + 20);
		}
		for (uint32_t i = 0; i < 60; i++)
			must_commit(log, &model, 1 + i % 4, i % 2 ? LOG_LOCAL : LOG_ASYNC);
		assert_int_equal(help_checkpoint(log, &model), 0);
		for (int i = 0; i < 10 * life; i++)
			must_commit(log, &model, 2, LOG_LOCAL);
		log_stats(log, &stats);
		assert_int_equal(stats.checkpoints, 1);
		/* what is below stays readable */
		wh_res res = wh_await(log_read(log, model.records[3].location, 0));
		assert_int_equal(res.n, help_payload_bytes(&model, 3));
		log_data_free(res.ptr);
		assert_int_equal(log_close(log), 0);
		assert_int_equal(count_files(folder, ".ckp"), 1);
		assert_int_equal(count_files(folder, ".tmp"), 0);
	}
	struct log *log = must_open(folder, &model);
	assert_all_replayed(&model);
	const struct log_epoch *epochs;
	assert_int_equal(log_epochs(log, &epochs), 6);
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(epochs[i].epoch, i + 1);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

/* Commits go on while it is written, across rolls; what came after its beginning is not in it. */
static void commits_go_on_meanwhile(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	struct log_checkpoint *checkpoint = NULL, *other = NULL;
	struct log_stats stats;
	help_init(&model, 3000);
	struct log *log = must_open(folder, &model);
	for (int i = 0; i < 100; i++)
		must_commit(log, &model, 3, LOG_ASYNC);
	uint32_t count = model.count;
	assert_int_equal(log_checkpoint_begin(log, &checkpoint), 0);
	assert_int_equal(log_checkpoint_begin(log, &other), -EBUSY);
	uint64_t lsn = log_checkpoint_lsn(checkpoint);
	assert_true(lsn >= model.records[count - 1].lsn && lsn <= wh_mark_read(log_appended(log)));
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(help_append_to(log, checkpoint, &model, i), 0);
		if (i % 3 == 0)
			must_commit(log, &model, 1, LOG_ASYNC);
		if (log_checkpoint_unwritten(checkpoint) > 300000)
			assert_int_equal(wh_await(log_checkpoint_room(checkpoint)).n, 0);
	}
	assert_int_equal(wh_await(log_checkpoint_end(checkpoint)).n, 0);
	log_stats(log, &stats);
	assert_true(stats.rolls > 3);
	assert_int_equal(stats.checkpoint_lsn, lsn);
	assert_int_equal(log_close(log), 0);
	model.in_checkpoint = count;
	log = must_open(folder, &model);
	assert_all_replayed(&model);
	/* nothing was committed since: the start itself has appended to the log, though */
	assert_int_equal(log_checkpoint_begin(log, &checkpoint), 0);
	log_checkpoint_cancel(checkpoint);
	while ((count = (uint32_t)-log_checkpoint_begin(log, &checkpoint)) == EBUSY)
		assert_true(wh_loop_turn(loop, 10 * WH_NS_PER_MS) >= 0);
	assert_int_equal(count, 0);
	for (uint32_t i = 0; i < model.count; i++)
		assert_int_equal(help_append_to(log, checkpoint, &model, i), 0);
	assert_int_equal(wh_await(log_checkpoint_end(checkpoint)).n, 0);
	assert_int_equal(count_files(folder, ".tmp"), 0);
	model.in_checkpoint = model.count;
	assert_int_equal(log_close(log), 0);
	log = must_open(folder, &model);
	assert_all_replayed(&model);
	/* one under way when the log is closed is gone */
	must_commit(log, &model, 1, LOG_LOCAL);
	assert_int_equal(log_checkpoint_begin(log, &checkpoint), 0);
	wh_future end = log_checkpoint_end(checkpoint);
	assert_int_equal(log_close(log), 0);
	assert_int_equal(wh_await(end).n, -ECANCELED);
	assert_int_equal(count_files(folder, ".tmp"), 0);
	log = must_open(folder, &model);
	assert_all_replayed(&model);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

/* Records of every size, up to the largest; and a checkpoint without any. */
static void records_of_every_size(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	struct log_checkpoint *checkpoint = NULL;
	help_init(&model, 40000);
	struct log *log = must_open(folder, &model);
	assert_int_equal(help_checkpoint(log, &model), 0);
	int error = log_checkpoint_begin(log, &checkpoint);
	if (error == 0)
		log_checkpoint_cancel(
			checkpoint); /* the log has sealed itself meanwhile: there is more of it */
	else
		assert_int_equal(error, -EALREADY);
	assert_int_equal(log_close(log), 0);
	log = must_open(folder, &model);
	assert_all_replayed(&model);
	for (int i = 0; i < 100; i++)
		must_commit(log, &model, 1, LOG_ASYNC);
	assert_int_equal(help_checkpoint(log, &model), 0);
	assert_int_equal(log_close(log), 0);
	log = must_open(folder, &model);
	assert_all_replayed(&model);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

/* Half made, not named by a manifest, of segments that are released: removed at the start. */
static void leftovers_are_removed(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 1000);
	struct log *log = must_open(folder, &model);
	must_commit(log, &model, 5, LOG_LOCAL);
	assert_int_equal(help_checkpoint(log, &model), 0);
	assert_int_equal(log_close(log), 0);
	help_save(folder, "checkpoint-0000000000ff0000.tmp", "x", 1);
	help_save(folder, "checkpoint-0000000000ff0000.ckp", "x", 1);
	help_save(folder, "checkpoint-of-mine.ckp", "x", 1);
	log = must_open(folder, &model);
	assert_all_replayed(&model);
	assert_int_equal(count_files(folder, ".tmp"), 0);
	assert_int_equal(count_files(folder, ".ckp"), 2);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

static void a_checkpoint_that_is_not_there_is_damage(void **state)
{
	char *folder = help_folder(), path[512];
	struct help_model model;
	struct log_problem problem;
	struct log_stats stats;
	struct log *refused = NULL;
	help_init(&model, 1000);
	struct log *log = must_open(folder, &model);
	must_commit(log, &model, 5, LOG_LOCAL);
	assert_int_equal(help_checkpoint(log, &model), 0);
	log_stats(log, &stats);
	assert_int_equal(log_close(log), 0);
	snprintf(path, sizeof path, "%s/checkpoint-%016llx.ckp", folder,
	         (unsigned long long)stats.checkpoint_lsn);
	assert_int_equal(unlink(path), 0);
	struct log_options options = help_options(folder, &model);
	assert_int_equal(log_open(loop, &options, &refused, &problem), -WH_EDAMAGED);
	assert_int_equal(problem.exit_status, 3);
	assert_string_equal(problem.file, path);
	help_fini(&model);
	help_remove(folder);
}

/* By the time that a checkpoint is done both manifests name it: what only the earlier one needed may be gone, and whichever of the two is
 * lost, the log starts. */
static void either_manifest_will_do(void **state)
{
	static const char *const names[] = {"manifest-a", "manifest-b"};
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 1500);
	struct log *log = must_open(folder, &model);
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 20; i++)
			must_commit(log, &model, 3, LOG_LOCAL);
		assert_int_equal(help_checkpoint(log, &model), 0);
		while (count_files(folder, ".ckp") > 1)
			assert_true(wh_loop_turn(loop, WH_NS_PER_MS) >= 0);
		for (int i = 0; i < 2; i++) {
			static const uint8_t zeros[4096];
			char *copy = help_copy_all(folder);
			help_write_at(copy, names[i], zeros, sizeof zeros, 0);
			struct log *again = must_open(copy, &model);
			assert_all_replayed(&model);
			assert_int_equal(log_close(again), 0);
			help_remove(copy);
		}
	}
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

/* One of two copies of a folder, which go different ways from here on: as much in as many records. */
static struct log *go_on(const char *folder, struct help_model *model, uint32_t seed)
{
	struct log *log = must_open(folder, model);
	struct log_commit commit = {0};
	model->seeds = seed;
	/* in one turn: no time passes in which the log would add to itself */
	assert_int_equal(help_commit(log, model, 30, LOG_LOCAL, &commit), 0);
	assert_int_equal(help_checkpoint(log, model), 0);
	return log;
}

static void exchange(const char *one, const char *other, const char *name)
{
	size_t bytes[2];
	uint8_t *contents[2] = {help_load(one, name, &bytes[0]), help_load(other, name, &bytes[1])};
	assert_int_equal(bytes[0], bytes[1]);
	assert_memory_not_equal(contents[0], contents[1], bytes[0]);
	help_save(one, name, contents[1], bytes[1]);
	help_save(other, name, contents[0], bytes[0]);
	free(contents[0]);
	free(contents[1]);
}

struct twin {
	char *folder;
	struct help_model model;
	struct log_stats stats;
};

/* Whether the checkpoints of the two are of the same place: they are, unless one of them was late and has sealed itself in between. */
static bool make_twins(struct twin twins[2])
{
	for (int i = 0; i < 2; i++)
		help_init(&twins[i].model,
		          0); /* every payload is empty: what differs is not how long it is */
	twins[0].folder = help_folder();
	assert_int_equal(log_close(must_open(twins[0].folder, &twins[0].model)), 0);
	twins[1].folder = help_copy_all(twins[0].folder);
	for (int i = 0; i < 2; i++) {
		/* 30: of the same types in the same order */
		struct log *log = go_on(twins[i].folder, &twins[i].model, i ? 30 : 0);
		log_stats(log, &twins[i].stats);
		assert_int_equal(log_close(log), 0);
	}
	return twins[0].stats.checkpoint_lsn == twins[1].stats.checkpoint_lsn;
}

static void free_twins(struct twin twins[2])
{
	for (int i = 0; i < 2; i++) {
		help_fini(&twins[i].model);
		help_remove(twins[i].folder);
	}
}

/* Of the same log, of the same place, of the same size, whole: and it is another one. */
static void the_checkpoint_of_a_copy_is_refused(void **state)
{
	struct twin twins[2];
	char name[64];
	for (int attempt = 0; !make_twins(twins); attempt++) {
		free_twins(twins);
		assert_true(attempt < 50);
	}
	snprintf(name, sizeof name, "checkpoint-%016llx.ckp",
	         (unsigned long long)twins[0].stats.checkpoint_lsn);
	exchange(twins[0].folder, twins[1].folder, name);
	for (int i = 0; i < 2; i++) {
		struct log_options options = help_options(twins[i].folder, &twins[i].model);
		struct log_problem problem;
		struct log *log = NULL;
		char *path = help_path(twins[i].folder, name);
		assert_int_equal(log_open(loop, &options, &log, &problem), -WH_EDAMAGED);
		assert_int_equal(problem.exit_status, 3);
		assert_string_equal(problem.file, path);
		assert_string_equal(problem.reason, "the checkpoint does not end as the manifest says");
		free(path);
	}
	exchange(twins[0].folder, twins[1].folder, name);
	for (int i = 0; i < 2; i++) {
		struct log *log = must_open(twins[i].folder, &twins[i].model);
		assert_all_replayed(&twins[i].model);
		assert_int_equal(log_close(log), 0);
	}
	free_twins(twins);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_start_begins_with_the_checkpoint),
		cmocka_unit_test(commits_go_on_meanwhile),
		cmocka_unit_test(records_of_every_size),
		cmocka_unit_test(leftovers_are_removed),
		cmocka_unit_test(a_checkpoint_that_is_not_there_is_damage),
		cmocka_unit_test(either_manifest_will_do),
		cmocka_unit_test(the_checkpoint_of_a_copy_is_refused),
	};
	return cmocka_run_group_tests(tests, open_loop, close_loop);
}
