/* tests/unit/test_log_release.c -- segments below a checkpoint: listed, scanned, released in any order, made into new ones,
 * and kept while the log is pinned.
 */
#include "log_help.h"

enum { INFOS_MAX = 400 };

static struct log_segment_info infos[INFOS_MAX];

static char *segment_path(const char *folder, uint64_t number)
{
	char name[64];
	snprintf(name, sizeof name, "seg-%016llx.log", (unsigned long long)number);
	return help_path(folder, name);
}

static bool is_there(const char *folder, uint64_t number)
{
	char *path = segment_path(folder, number);
	bool there = access(path, F_OK) == 0;
	free(path);
	return there;
}

static void wait_until_gone(const char *folder, uint64_t number)
{
	while (is_there(folder, number))
		assert_true(wh_loop_turn(loop, WH_NS_PER_MS) >= 0);
}

/* A log of many segments, with a checkpoint near its end. */
static struct log *make(const char *folder, struct help_model *model, int commits)
{
	struct log *log = must_open(folder, model);
	for (int i = 0; i < commits; i++)
		must_commit(log, model, 3, LOG_ASYNC);
	assert_int_equal(help_checkpoint(log, model), 0);
	for (int i = 0; i < 40; i++)
		must_commit(log, model, 1, LOG_LOCAL);
	return log;
}

static void any_order_and_again_after_a_start(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	struct log_stats stats;
	help_init(&model, 4000);
	struct log *log = make(folder, &model, 150);
	size_t count = log_segments_list(log, infos, INFOS_MAX);
	log_stats(log, &stats);
	assert_true(count > 10 && count < INFOS_MAX);
	assert_true(infos[0].below && !infos[count - 1].below);
	for (size_t i = 0; i + 1 < count; i++)
		assert_true(infos[i].end_lsn == infos[i + 1].base_lsn &&
		            infos[i].below == (infos[i].end_lsn <= stats.checkpoint_lsn &&
		                               infos[i + 1].base_lsn < stats.checkpoint_lsn));
	/* what a start needs is not released */
	for (size_t i = 0; i < count; i++)
		if (!infos[i].below)
			assert_int_equal(log_segment_release(log, infos[i].number), -EINVAL);
	assert_int_equal(log_segment_release(log, 12345), -ENOENT);
	uint64_t gone[] = {4, 1, 6, 3};
	for (size_t i = 0; i < 4; i++) {
		assert_true(infos[gone[i]].below);
		assert_int_equal(log_segment_release(log, gone[i]), 0);
		assert_int_equal(log_segment_release(log, gone[i]), -ENOENT);
		wait_until_gone(folder, gone[i]);
		assert_int_equal(log_segment_number(log, infos[gone[i]].base_lsn + 200), LOG_SEGMENT_NONE);
		assert_int_equal(wh_await(log_read(log, infos[gone[i]].base_lsn + 96, 0)).n, -ENOENT);
	}
	/* how much of a range is there, wherever in it the gaps are: 0, 2, 5 and 7 of the first eight */
	uint64_t held = 0, first = infos[0].base_lsn, end = infos[7].end_lsn;
	for (size_t i = 0; i < 8; i++)
		held += i == 0 || i == 2 || i == 5 || i == 7 ? infos[i].end_lsn - infos[i].base_lsn : 0;
	assert_int_equal(log_bytes_held(log, first, end), held);
	assert_int_equal(log_bytes_held(log, first + 100, end - 50), held - 150);
	assert_int_equal(log_bytes_held(log, infos[3].base_lsn, infos[4].end_lsn), 0);
	assert_int_equal(log_bytes_held(log, infos[4].base_lsn, infos[5].base_lsn + 1), 1);
	assert_int_equal(log_bytes_held(log, infos[1].base_lsn, infos[1].base_lsn), 0);
	assert_int_equal(log_bytes_held(log, wh_mark_read(log_written(log)) - 10, UINT64_MAX), 10);
	/* between them everything is there */
	for (int life = 0; life < 2; life++) {
		for (uint32_t i = 0; i < model.count; i++) {
			uint64_t number = log_segment_number(log, model.records[i].location);
			wh_res res = wh_await(log_read(log, model.records[i].location, 0));
			int64_t expected = help_payload_bytes(&model, i);
			assert_int_equal(res.n, number == LOG_SEGMENT_NONE ? -ENOENT : expected);
			log_data_free(res.ptr);
		}
		assert_int_equal(log_segments_list(log, NULL, 0), count - 4);
		assert_int_equal(log_close(log), 0);
		log = must_open(folder, &model);
		assert_all_replayed(&model);
		count = log_segments_list(log, NULL, 0) + 4; /* a start may have rolled */
	}
	assert_int_equal(log_segments_list(log, infos, INFOS_MAX), count - 4);
	assert_int_equal(infos[0].number, 0);
	assert_int_equal(infos[1].number, 2);
	assert_int_equal(log_segment_number(log, infos[1].base_lsn - 96), LOG_SEGMENT_NONE);
	assert_int_equal(log_close(log), 0);
	/* who looks sees it, too */
	struct log_look found;
	struct log_options options = help_options(folder, &model);
	assert_int_equal(log_look(loop, &options, &found, NULL), 0);
	assert_int_equal(found.missing, 4);
	assert_true(found.segments[0].below && found.segments[1].number == 2);
	assert_true(found.checkpoint_lsn > 0 && found.checkpoint_records > 0);
	log_look_fini(&found);
	/* and damage there, which a start does not */
	help_write_at(folder, "seg-0000000000000002.log", "?", 1, 9000);
	struct log_problem problem;
	options = help_options(folder, &model);
	assert_int_equal(log_look(loop, &options, &found, &problem), -WH_EDAMAGED);
	assert_non_null(strstr(problem.file, "seg-0000000000000002.log"));
	log_look_fini(&found);
	log = must_open(folder, &model);
	assert_all_replayed(&model);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

/* A released segment becomes a new one, without a byte of what it held. */
static void released_ones_become_new_ones(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	struct log_stats stats;
	uint32_t released = 0;
	help_init(&model, 4000);
	struct log *log = make(folder, &model, 60);
	for (int round = 0; round < 12; round++) {
		size_t count = log_segments_list(log, infos, INFOS_MAX);
		for (size_t i = 0; i < count; i++)
			if (infos[i].below && infos[i].number != 2) {
				assert_int_equal(log_segment_release(log, infos[i].number), 0);
				released++;
			}
		for (int i = 0; i < 20; i++)
			must_commit(log, &model, 3, i % 2 ? LOG_ASYNC : LOG_LOCAL);
		assert_int_equal(help_checkpoint(log, &model), 0);
	}
	log_stats(log, &stats);
	assert_true(stats.recycled > 5);
	assert_int_equal(stats.released, released);
	assert_true(stats.segments < 20);
	assert_true(stats.disk_bytes < (uint64_t)20 << 16);
	wh_res res = wh_await(log_read(log, model.records[100].location, 0));
	assert_true(res.n == -ENOENT || res.n == help_payload_bytes(&model, 100));
	log_data_free(res.ptr);
	assert_int_equal(log_close(log), 0);
	log = must_open(folder, &model);
	assert_all_replayed(&model);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

/* What it held before is not taken for what a crash has left behind the end: a killed process leaves no torn tail, in whatever segment
 * its log ends. */
static void end_cleanly(uint64_t segment_bytes, uint32_t payload_max, int rounds)
{
	char *folder = help_folder();
	struct help_model model;
	struct log_stats stats;
	help_init(&model, payload_max);
	struct log_options options = help_options(folder, &model);
	struct log *log = NULL;
	options.segment_bytes = segment_bytes;
	/* so that the log writes nothing by itself while it is copied */
	options.seal_ns = 3600 * WH_NS_PER_S;
	assert_int_equal(log_open(loop, &options, &log, NULL), 0);
	for (int round = 0; round < rounds; round++) {
		size_t count = log_segments_list(log, infos, INFOS_MAX);
		for (size_t i = 0; i < count; i++)
			if (infos[i].below)
				assert_int_equal(log_segment_release(log, infos[i].number), 0);
		for (int i = 0; i < 20; i++)
			must_commit(log, &model, 3, LOG_LOCAL);
		assert_int_equal(help_checkpoint(log, &model), 0);
		must_commit(log, &model, 1, LOG_LOCAL);
		char *copy = help_copy_all(folder);
		struct log *again = must_open(copy, &model);
		assert_all_replayed(&model);
		log_stats(again, &stats);
		assert_int_equal(stats.torn_bytes, 0);
		assert_int_equal(log_close(again), 0);
		help_remove(copy);
	}
	log_stats(log, &stats);
	assert_in_range(stats.recycled, rounds / 2, UINT64_MAX);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

/* Their zeros are one write, or many short ones. */
static void new_ones_of_them_end_cleanly(void **state)
{
	end_cleanly(64 << 10, 4000, 12);
	end_cleanly(1536 << 10, 100000, 5);
}

/* A read that is under way when its segment is released still gets its record. */
static void reads_under_way_are_waited_for(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 4000);
	struct log *log = make(folder, &model, 60);
	wh_future reads[20];
	for (uint32_t i = 0; i < 20; i++)
		reads[i] = log_read(log, model.records[i].location, 0);
	assert_int_equal(log_segment_release(log, 0), 0);
	for (uint32_t i = 0; i < 20; i++) {
		wh_res res = wh_await(reads[i]);
		if (model.records[i].location < infos[1].base_lsn)
			assert_int_equal(res.n, help_payload_bytes(&model, i));
		log_data_free(res.ptr);
	}
	wait_until_gone(folder, 0);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

struct seen {
	struct log *log;
	const struct help_model *model;
	uint32_t next, count, pause_every, paused, refuse_at;
	int64_t last_turn;
	bool wrong;
};

static int on_record(void *arg, const struct log_record *record)
{
	struct seen *seen = arg;
	const struct help_model *model = seen->model;
	if (seen->pause_every && seen->count % seen->pause_every == 0 && seen->paused <= seen->count) {
		seen->paused = seen->count + 1;
		return LOG_SCAN_PAUSE;
	}
	while (seen->next < model->count && model->records[seen->next].location < record->location)
		seen->next++;
	uint32_t i = seen->next;
	if (i == model->count || record->location != model->records[i].location || record->checkpoint ||
	    !help_same(model, model->records[i].seed, record->type, record->version, record->flags,
	               record->fixed, record->fixed_bytes, record->payload, record->payload_bytes))
		seen->wrong = true;
	seen->count++;
	return seen->refuse_at == seen->count ? -EXDEV : 0;
}

static void a_segment_is_scanned(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 4000);
	struct log *log = make(folder, &model, 60);
	size_t count = log_segments_list(log, infos, INFOS_MAX);
	uint32_t all = 0;
	for (size_t i = 0; i + 1 < count; i++) {
		struct seen seen = {.log = log, .model = &model};
		int64_t n = wh_await(log_segment_scan(log, infos[i].number, on_record, &seen)).n;
		assert_int_equal(n, seen.count);
		assert_false(seen.wrong);
		all += seen.count;
	}
	struct seen seen = {.log = log, .model = &model};
	assert_int_equal(wh_await(log_segment_scan(log, infos[count - 1].number, on_record, &seen)).n,
	                 -ENOENT); /* the current one */
	for (uint32_t i = 0; i < model.count; i++)
		all += model.records[i].location > infos[count - 1].base_lsn;
	assert_int_equal(all, model.count);

	/* it can be paused, and be refused */
	seen = (struct seen){.log = log, .model = &model, .pause_every = 7};
	wh_future scan = log_segment_scan(log, 1, on_record, &seen);
	assert_int_equal(wh_await(log_segment_scan(log, 2, on_record, &seen)).n, -EBUSY);
	assert_int_equal(log_segment_release(log, 1), -EBUSY);
	while (!wh_done(scan)) {
		assert_true(wh_loop_turn(loop, WH_NS_PER_MS) >= 0);
		log_segment_scan_resume(log);
	}
	assert_int_equal(wh_await(scan).n, seen.count);
	assert_true(seen.count > 10 && seen.paused > 0 && !seen.wrong);
	seen = (struct seen){.log = log, .model = &model, .refuse_at = 5};
	assert_int_equal(wh_await(log_segment_scan(log, 1, on_record, &seen)).n, -EXDEV);

	/* cancelled while it is paused, and while it reads; ended by the close */
	seen = (struct seen){.log = log, .model = &model, .pause_every = 1};
	scan = log_segment_scan(log, 1, on_record, &seen);
	while (seen.paused == 0)
		assert_true(wh_loop_turn(loop, WH_NS_PER_MS) >= 0);
	assert_int_equal(wh_drop(scan), 0);
	scan = log_segment_scan(log, 2, on_record, &seen);
	assert_int_equal(wh_drop(scan), 0);
	while (wh_done(scan = log_segment_scan(log, 1, on_record, &seen))) {
		assert_int_equal(wh_await(scan).n, -EBUSY);
		assert_true(wh_loop_turn(loop, WH_NS_PER_MS) >= 0);
	}
	assert_int_equal(log_close(log), 0);
	assert_int_equal(wh_await(scan).n, -ECANCELED);
	help_fini(&model);
	help_remove(folder);
}

static void damage_is_found_by_a_scan(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 4000);
	struct log *log = make(folder, &model, 60);
	for (uint64_t at = 4096; at < 20000; at += 1111) {
		struct seen seen = {.log = log, .model = &model};
		uint8_t byte;
		char *path = segment_path(folder, 2);
		int fd = open(path, O_RDWR);
		assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
		byte ^= 4;
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
		assert_int_equal(wh_await(log_segment_scan(log, 2, on_record, &seen)).n, -WH_EDAMAGED);
		assert_false(seen.wrong);
		byte ^= 4;
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
		close(fd);
		free(path);
	}
	char *path = segment_path(folder, 3);
	struct seen seen = {.log = log, .model = &model};
	assert_int_equal(truncate(path, 30000), 0);
	assert_int_equal(wh_await(log_segment_scan(log, 3, on_record, &seen)).n, -WH_EDAMAGED);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(wh_await(log_segment_scan(log, 3, on_record, &seen)).n, -WH_EDAMAGED);
	free(path);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

/* A copy made while the log goes on, from what a pin names: it is what was flushed then. */
static void a_pinned_log_can_be_copied(void **state)
{
	char *folder = help_folder(), *copy = help_folder();
	struct help_model model;
	struct log_pin *pin = NULL;
	const struct log_pin_file *files;
	help_init(&model, 3000);
	struct log *log = make(folder, &model, 60);
	assert_int_equal(log_segment_release(log, 3), 0);
	wait_until_gone(folder, 3);
	assert_int_equal(log_pin(log, &pin), 0);
	uint32_t then = model.count, in_checkpoint = model.in_checkpoint;
	uint64_t lsn = log_pin_lsn(pin);
	assert_true(lsn >= model.records[then - 1].lsn);
	/* releases and another checkpoint do not take anything away */
	assert_int_equal(log_segment_release(log, 1), 0);
	for (int i = 0; i < 60; i++)
		must_commit(log, &model, 3, LOG_LOCAL);
	assert_int_equal(help_checkpoint(log, &model), 0);
	assert_int_equal(log_segment_release(log, 2), 0);
	for (int i = 0; i < 20; i++)
		must_commit(log, &model, 1, LOG_LOCAL);
	size_t count = log_pin_files(pin, &files);
	/* what came later goes as ever */
	unsigned long long later = 0;
	assert_int_equal(sscanf(files[count - 1].name, "seg-%16llx", &later), 1);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 60; i++)
			must_commit(log, &model, 3, LOG_LOCAL);
		assert_int_equal(help_checkpoint(log, &model), 0);
	}
	uint64_t held = log_pinned_bytes(log);
	assert_true(held > 0);
	assert_int_equal(log_segment_release(log, later + 1), 0);
	wait_until_gone(folder, later + 1);
	assert_int_equal(log_pinned_bytes(log), held);
	for (size_t i = 0; i < count; i++) {
		size_t len;
		uint8_t *bytes = help_load(folder, files[i].name, &len);
		assert_int_equal(len, files[i].file_bytes);
		memset(bytes + files[i].bytes, 0, len - files[i].bytes);
		help_save(copy, files[i].name, bytes, len);
		free(bytes);
	}
	help_save(copy, "manifest-a", log_pin_manifest(pin), 4096);
	pin = log_unpin(log, pin);
	wait_until_gone(folder, 1);
	wait_until_gone(folder, 2);
	assert_int_equal(log_pinned_bytes(log), 0);
	assert_int_equal(log_close(log), 0);
	log = must_open(folder, &model);
	assert_all_replayed(&model);
	assert_int_equal(log_close(log), 0);

	model.count = then;
	model.in_checkpoint = in_checkpoint;
	log = must_open(copy, &model);
	assert_all_replayed(&model);
	for (uint32_t i = 0; i < then; i++) {
		wh_res res = wh_await(log_read(log, model.records[i].location, 0));
		assert_true(res.n == help_payload_bytes(&model, i) || res.n == -ENOENT);
		log_data_free(res.ptr);
	}
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
	help_remove(copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_order_and_again_after_a_start),
		cmocka_unit_test(released_ones_become_new_ones),
		cmocka_unit_test(new_ones_of_them_end_cleanly),
		cmocka_unit_test(reads_under_way_are_waited_for),
		cmocka_unit_test(a_segment_is_scanned),
		cmocka_unit_test(damage_is_found_by_a_scan),
		cmocka_unit_test(a_pinned_log_can_be_copied),
	};
	return cmocka_run_group_tests(tests, open_loop, close_loop);
}
