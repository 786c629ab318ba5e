/* tests/unit/test_log_segments.c -- a log of many segments: rolls, and reading from all of them.
 */
#include "log_help.h"

static void segments_follow_each_other(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 4000);
	struct log *log = must_open(folder, &model);
	for (int i = 0; i < 400; i++)
		must_commit(log, &model, 1, i % 5 ? LOG_ASYNC : LOG_LOCAL);
	struct log_stats stats;
	log_stats(log, &stats);
	assert_true(stats.rolls > 20);
	assert_int_equal(log_close(log), 0);
	log = must_open(folder, &model);
	assert_all_replayed(&model);
	for (uint32_t i = 0; i < model.count; i += 7) {
		wh_res res = wh_await(log_read(log, model.records[i].location, help_record_bytes(&model, i)));
		assert_int_equal(res.n, help_payload_bytes(&model, i));
		log_data_free(res.ptr);
	}
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

/* More old segments than files are kept open. */
static void many_segments_share_few_descriptors(void **state)
{
	char *folder = help_folder();
	struct help_model model;
	help_init(&model, 9000);
	struct log *log = must_open(folder, &model);
	for (int i = 0; i < 340; i++)
		must_commit(log, &model, 6, LOG_ASYNC);
	struct log_stats stats;
	log_stats(log, &stats);
	assert_true(stats.rolls > 130);
	wh_future reads[200];
	for (uint32_t round = 0; round < 5; round++) {
		for (uint32_t i = 0; i < 200; i++)
			reads[i] = log_read(log, model.records[(i * 6 + round) % model.count].location, 0);
		for (uint32_t i = 0; i < 200; i++) {
			wh_res res = wh_await(reads[i]);
			assert_int_equal(res.n, help_payload_bytes(&model, (i * 6 + round) % model.count));
			log_data_free(res.ptr);
		}
	}
	assert_int_equal(log_close(log), 0);
	log = must_open(folder, &model);
	assert_all_replayed(&model);
	assert_int_equal(log_close(log), 0);
	help_fini(&model);
	help_remove(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segments_follow_each_other),
		cmocka_unit_test(many_segments_share_few_descriptors),
	};
	return cmocka_run_group_tests(tests, open_loop, close_loop);
}
