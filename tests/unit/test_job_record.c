/* tests/unit/test_job_record.c -- records, byte by byte as docs/format-records.md says, and what is refused. */
#include "job_record_bytes.h"

static void test_submit(void **state)
{
	struct job_record r = {.type = JOB_SUBMIT,
	                       .id = 0x1122334455,
	                       .queue = 7,
	                       .priority = 9,
	                       .at_ns = -5,
	                       .when_ms = 77,
	                       .retention_ms = -1,
	                       .attempts_max = 3,
	                       .content_type = {"t/p", 3},
	                       .headers = {"h", 1},
	                       .body = {"body", 4}},
			  back;

	(void)state;
	put(&r);
	assert_int_equal(r.type, 19);
	assert_int_equal(fixed_bytes, 40 + 11 + 11 + 7);
	assert_int_equal(number(0, 8), 0x1122334455);
	assert_int_equal(number(8, 4), 7);
	assert_int_equal(number(12, 4), 9);
	assert_true((int64_t)number(16, 8) == -5);
	assert_int_equal(number(24, 4), 4);
	assert_int_equal(number(28, 2), 1);
	assert_int_equal(number(30, 2), 29);
	assert_int_equal(number(32, 1), 3);
	assert_int_equal(number(33, 7), 0);
	assert_memory_equal(bytes + 40,
	                    "\1\10\0\115\0\0\0\0\0\0\0\3\10\0\377\377\377\377\377\377\377\377\4\4\0\3\0\0\0",
	                    29);
	assert_memory_equal(bytes + fixed_bytes, "t/phbody", 8);
	assert_int_equal(get(JOB_SUBMIT, &back), 0);
	assert_true(back.id == r.id && back.at_ns == -5 && back.when_ms == 77 && back.retention_ms == -1 &&
	            back.attempts_max == 3 && back.time_to_run_ms == 0);
	assert_int_equal(back.body.len, 4);
	assert_memory_equal(back.body.data, "body", 4);
	bytes[36] = 1; /* zero */
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
	bytes[36] = 0;
	bytes[33] = 2; /* a flag of a later version */
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
	bytes[33] = 1; /* a reference has 32 bytes */
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
	bytes[33] = 0;
	bytes[40] = 99; /* an option that is not known */
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
	bytes[40] = 200; /* one that may be ignored */
	assert_int_equal(get(JOB_SUBMIT, &back), 0);
	assert_int_equal(back.when_ms, 0);
	bytes[41] = 250; /* beyond the end */
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
	bytes[41] = 8;
	bytes[42] = 1;
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
}

/* A job that is to run after others, and which. */
static void test_after(void **state)
{
	uint64_t ids[] = {3, 5};
	struct job_record r = {.type = JOB_SUBMIT,
	                       .id = 9,
	                       .queue = 7,
	                       .after_count = 2,
	                       .after_failure = JOB_AFTER_WAIT,
	                       .after_delay_ms = 4},
			  back;

	(void)state;
	put(&r);
	assert_int_equal(number(30, 2), 7 + 7 + 11);
	assert_memory_equal(bytes + 40, "\30\4\0\2\0\0\0\31\4\0\3\0\0\0\32\10\0\4\0\0\0\0\0\0\0", 25);
	assert_int_equal(get(JOB_SUBMIT, &back), 0);
	assert_true(back.after_count == 2 && back.after_failure == JOB_AFTER_WAIT &&
	            back.after_delay_ms == 4);
	bytes[50] = JOB_AFTER_FAILURES; /* what is not known */
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
	bytes[50] = 1;
	bytes[45] = 1; /* too many */
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
	bytes[45] = bytes[43] = 0; /* none, but what if one of them fails */
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
	bytes[43] = 2;
	bytes[33] = JOB_SUBMIT_BURIED;
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
	r = (struct job_record){.type = JOB_AFTER, .id = 9, .at_ns = 6, .body = {ids, sizeof(ids)}};
	put(&r);
	assert_int_equal(r.type, 50);
	assert_int_equal(fixed_bytes, 16);
	assert_int_equal(number(0, 8), 9);
	assert_int_equal(number(8, 8), 6);
	assert_int_equal(number(16, 8), 3);
	assert_int_equal(number(24, 8), 5);
	assert_int_equal(get(JOB_AFTER, &back), 0);
	assert_true(back.id == 9 && back.at_ns == 6 && back.body.len == 16);
	all_bytes--;
	assert_int_equal(get(JOB_AFTER, &back), -EPROTO);
	all_bytes = 16; /* none */
	assert_int_equal(get(JOB_AFTER, &back), -EPROTO);
	/* the instant at which jobs are forgotten counts for those that await them */
	r = (struct job_record){.type = JOB_REMOVE,
	                        .reason = JOB_REMOVE_DELETED,
	                        .at_ns = INT64_C(1700000000123999999),
	                        .body = {ids, sizeof(ids)}};
	put(&r);
	assert_int_equal(number(0, 2), 2);
	assert_int_equal(number(2, 6), INT64_C(1700000000123));
	assert_int_equal(get(JOB_REMOVE, &back), 0);
	assert_true(back.at_ns == INT64_C(1700000000123000000) && back.reason == JOB_REMOVE_DELETED);
	bytes[1] = 1;
	assert_int_equal(get(JOB_REMOVE, &back), -EPROTO);
	bytes[1] = 0;
	bytes[7] = 0xff; /* an instant beyond all */
	assert_int_equal(get(JOB_REMOVE, &back), -EPROTO);
}

static void test_submit_policy(void **state)
{
	struct job_record r = {.type = JOB_SUBMIT,
	                       .id = 1,
	                       .queue = 1,
	                       .unique = {"u", 1},
	                       .group = {"gg", 2},
	                       .unique_while_ms = -1,
	                       .expires_ms = 77},
			  back;
	char key[JOB_KEY_MAX + 1] = {0};

	(void)state;
	put(&r);
	assert_int_equal(number(30, 2), 4 + 5 + 11 + 11);
	assert_memory_equal(bytes + 40, "\5\1\0u\6\2\0gg\11\10\0\377\377\377\377\377\377\377\377", 20);
	assert_memory_equal(bytes + 60, "\12\10\0\115\0\0\0\0\0\0\0", 11);
	assert_int_equal(get(JOB_SUBMIT, &back), 0);
	assert_true(back.unique.len == 1 && back.group.len == 2 && back.unique_while_ms == -1 &&
	            back.expires_ms == 77);
	assert_memory_equal(back.group.data, "gg", 2);
	r.unique.len = 0; /* for how long, but not what */
	put(&r);
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
	r.unique = (struct job_slice){key, JOB_KEY_MAX};
	put(&r);
	assert_int_equal(get(JOB_SUBMIT, &back), 0);
	r.unique.len++;
	put(&r);
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
	r.unique.len = 1;
	r.expires_ms = -1;
	put(&r);
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
}

static void test_event(void **state)
{
	struct job_record r = {.type = JOB_SUBMIT,
	                       .id = 5,
	                       .queue = 7,
	                       .event_epoch = 3,
	                       .event_lsn = 0x1122334455},
			  back;

	(void)state;
	put(&r);
	assert_int_equal(fixed_bytes, 40 + 15);
	assert_memory_equal(bytes + 40, "\24\14\0\125\104\63\42\21\0\0\0\3\0\0\0", 15);
	assert_int_equal(get(JOB_SUBMIT, &back), 0);
	assert_true(back.event_epoch == 3 && back.event_lsn == 0x1122334455);
	bytes[51] = 0; /* an epoch is never 0 */
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
	bytes[51] = 3;
	bytes[41] = 11;
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
}

static void test_finish(void **state)
{
	struct job_record r = {.type = JOB_FINISH,
	                       .id = 5,
	                       .at_ns = 6,
	                       .when_ms = 7,
	                       .submit_place = 8,
	                       .error_place = 9,
	                       .state = JOB_FAILED,
	                       .reason = JOB_BY_WORKER,
	                       .status = 200,
	                       .attempt = 3,
	                       .timeouts = 2,
	                       .content_type = {"c", 1},
	                       .headers = {"hh", 2},
	                       .body = {"bbb", 3},
	                       .text = {"tttt", 4}},
			  back;

	(void)state;
	put(&r);
	assert_int_equal(fixed_bytes, 72);
	assert_int_equal(r.type, 24);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(number(8 * i, 8), 5 + i);
	assert_int_equal(number(40, 4), 3);
	assert_int_equal(number(44, 2), 2);
	assert_int_equal(number(46, 2), 4);
	assert_memory_equal(bytes + 48, "\1\5\0\1", 4);
	assert_int_equal(number(52, 4), 200);
	assert_int_equal(number(56, 4), 3);
	assert_int_equal(number(60, 4), 2);
	assert_memory_equal(bytes + 72, "chhbbbtttt", 10);
	assert_int_equal(get(JOB_FINISH, &back), 0);
	assert_memory_equal(back.text.data, "tttt", 4);
	bytes[49] = JOB_READY;
	assert_int_equal(get(JOB_FINISH, &back), -EPROTO);
}

static void test_blob(void **state)
{
	struct job_blob blob = {.number = 0x100000002, .bytes = 77, .hash = "0123456789abcde"}, back_blob;
	struct job_record r = {.type = JOB_SUBMIT, .id = 5, .queue = 1, .flags = JOB_BODY_IN_BLOB}, back;
	uint8_t reference[JOB_BLOB_BYTES];

	(void)state;
	job_blob_put(&blob, reference);
	r.body = (struct job_slice){reference, sizeof(reference)};
	put(&r);
	assert_int_equal(number(24, 4), 32);
	assert_int_equal(number(33, 1), 1);
	assert_int_equal(number(40, 8), 0x100000002);
	assert_int_equal(number(48, 8), 77);
	assert_memory_equal(bytes + 56, "0123456789abcde", 16);
	assert_int_equal(get(JOB_SUBMIT, &back), 0);
	assert_int_equal(job_body_bytes(&back), 77);
	back_blob = job_record_blob(&back);
	assert_memory_equal(&back_blob, &blob, sizeof(blob));
	memset(bytes + 40, 0, 8); /* no number */
	assert_int_equal(get(JOB_SUBMIT, &back), -EPROTO);
	r.flags = 0;
	assert_int_equal(job_body_bytes(&r), 32);
	assert_int_equal(job_record_blob(&r).number, 0);
}

static void test_queue(void **state)
{
	struct job_record r = {.type = JOB_QUEUE,
	                       .queue = 1,
	                       .flags = JOB_QUEUE_PAUSED,
	                       .at_ns = 2,
	                       .config = {3, 4, 5, 6, 8, 9, 7, 10, 0, {0}},
	                       .body = {"name", 4}},
			  back;

	(void)state;
	put(&r);
	assert_int_equal(fixed_bytes, 72);
	assert_int_equal(number(0, 4), 1);
	assert_int_equal(number(4, 4), 1);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(number(8 + 8 * i, 8), 2 + i);
	assert_int_equal(number(56, 4), 8);
	assert_int_equal(number(60, 4), 9);
	assert_int_equal(number(64, 2), 4);
	assert_int_equal(number(66, 2), 0);
	assert_int_equal(number(68, 4), 10);
	assert_int_equal(get(JOB_QUEUE, &back), 0);
	assert_memory_equal(&back.config, &r.config, sizeof(r.config));
}

static void test_queue_options(void **state)
{
	struct job_record r = {.type = JOB_QUEUE,
	                       .queue = 1,
	                       .config = {.backoffs = 2, .backoff_list_ms = {1000, 60000}},
	                       .body = {"name", 4}},
			  back;

	(void)state;
	put(&r);
	assert_int_equal(fixed_bytes, 72 + 11);
	assert_int_equal(job_options_bytes(&r), 11);
	assert_int_equal(number(66, 2), 11);
	assert_memory_equal(bytes + 72, "\1\10\0\350\3\0\0\140\352\0\0name", 15);
	assert_int_equal(get(JOB_QUEUE, &back), 0);
	assert_memory_equal(&back.config, &r.config, sizeof(r.config));
	r.config = (struct job_queue_config){.dead_letter = 2,
	                                     .concurrency = 3,
	                                     .rate.count = 4,
	                                     .rate.period_ms = 5,
	                                     .rate.burst = 6,
	                                     .group_rate = {8, 9, 10},
	                                     .group_concurrency = 7};
	put(&r);
	assert_int_equal(fixed_bytes, 72 + 7 + 7 + 15 + 7 + 15);
	assert_memory_equal(bytes + 72, "\2\4\0\2\0\0\0\3\4\0\3\0\0\0", 14);
	assert_memory_equal(bytes + 86, "\4\14\0\4\0\0\0\5\0\0\0\6\0\0\0\5\4\0\7\0\0\0", 22);
	assert_int_equal(get(JOB_QUEUE, &back), 0);
	assert_memory_equal(&back.config, &r.config, sizeof(r.config));
	bytes[89] = 0; /* a rate of none */
	assert_int_equal(get(JOB_QUEUE, &back), -EPROTO);
	r.config = (struct job_queue_config){.backoffs = 2, .backoff_list_ms = {1000, 60000}};
	put(&r);
	bytes[73] = 7; /* part of a number */
	assert_int_equal(get(JOB_QUEUE, &back), -EPROTO);
	bytes[73] = 9; /* beyond the end */
	assert_int_equal(get(JOB_QUEUE, &back), -EPROTO);
	bytes[73] = 8;
	bytes[72] = 127; /* an option that is not known */
	assert_int_equal(get(JOB_QUEUE, &back), -EPROTO);
	bytes[72] = 128; /* one that may be ignored */
	assert_int_equal(get(JOB_QUEUE, &back), 0);
	assert_int_equal(back.config.backoffs, 0);
	r.config.backoffs = JOB_BACKOFFS_MAX;
	put(&r);
	assert_int_equal(get(JOB_QUEUE, &back), 0);
	/* more than there may be */
	fixed_bytes += 4;
	all_bytes += 4;
	memcpy(bytes + fixed_bytes, "name", 4);
	bytes[66] = 3 + 4 * (JOB_BACKOFFS_MAX + 1);
	bytes[73] = 4 * (JOB_BACKOFFS_MAX + 1);
	assert_int_equal(get(JOB_QUEUE, &back), -EPROTO);
}

static void test_dead(void **state)
{
	struct job_record r = {.type = JOB_DEAD,
	                       .id = 1,
	                       .at_ns = 2,
	                       .error_place = 3,
	                       .queue = 4,
	                       .attempt = 5,
	                       .reason = JOB_BY_TIMEOUT,
	                       .text = {"error", 5}},
			  back;

	(void)state;
	put(&r);
	assert_int_equal(r.type, 38);
	assert_int_equal(fixed_bytes, 40);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(number(8 * i, 8), 1 + i);
	assert_int_equal(number(24, 4), 4);
	assert_int_equal(number(28, 2), 5);
	assert_int_equal(number(30, 2), 5);
	assert_int_equal(number(32, 8), 2);
	assert_memory_equal(bytes + 40, "error", 5);
	assert_int_equal(get(JOB_DEAD, &back), 0);
	assert_true(back.queue == 4 && back.attempt == 5 && back.text.len == 5 && job_record_is_error(&back));
	bytes[33] = 1; /* zero */
	assert_int_equal(get(JOB_DEAD, &back), -EPROTO);
}

static void test_edit(void **state)
{
	struct job_record r = {.type = JOB_EDIT,
	                       .id = 1,
	                       .flags = 255,
	                       .priority = 2,
	                       .when_ms = 3,
	                       .time_to_run_ms = 4,
	                       .retention_ms = -5,
	                       .expires_ms = 6,
	                       .attempts_max = 7,
	                       .queue = 8},
			  back;
	static const struct {
		size_t at;
		int flag;
	} values[] = {{12, 1}, {16, 2}, {24, 4}, {32, 8}, {48, 16}, {40, 32}, {52, 64}};

	(void)state;
	put(&r);
	assert_int_equal(r.type, 44);
	assert_int_equal(fixed_bytes, 56);
	assert_int_equal(number(0, 8), 1);
	assert_int_equal(number(8, 4), 255);
	assert_int_equal(number(12, 4), 2);
	assert_int_equal(number(16, 8), 3);
	assert_int_equal(number(24, 8), 4);
	assert_true((int64_t)number(32, 8) == -5);
	assert_int_equal(number(40, 8), 6);
	assert_int_equal(number(48, 4), 7);
	assert_int_equal(number(52, 4), 8);
	assert_int_equal(get(JOB_EDIT, &back), 0);
	assert_true(back.flags == 255 && back.priority == 2 && back.when_ms == 3 && back.time_to_run_ms == 4);
	assert_true(back.retention_ms == -5 && back.expires_ms == 6 && back.attempts_max == 7 &&
	            back.queue == 8);
	bytes[9] = 1; /* zero */
	assert_int_equal(get(JOB_EDIT, &back), -EPROTO);
	bytes[9] = 0;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) { /* a value that it does not say */
		bytes[8] = (uint8_t)(255 & ~values[i].flag);
		assert_int_equal(get(JOB_EDIT, &back), -EPROTO);
		bytes[values[i].at] = 0;
		if (values[i].flag == 8)
			memset(bytes + 32, 0, 8);
		assert_int_equal(get(JOB_EDIT, &back), 0);
		bytes[8] = 255;
		if (values[i].flag == 64) { /* a queue that it does not name */
			assert_int_equal(get(JOB_EDIT, &back), -EPROTO);
			break;
		}
	}
	memset(bytes + 8, 0, 48); /* it says nothing */
	assert_int_equal(get(JOB_EDIT, &back), -EPROTO);
}

static void test_revive(void **state)
{
	struct job_record r = {.type = JOB_REVIVE,
	                       .id = 1,
	                       .at_ns = 2,
	                       .error_place = 3,
	                       .submit_place = 4,
	                       .queue = 5,
	                       .attempt = 6,
	                       .timeouts = 7,
	                       .reason = JOB_BY_TIMEOUT,
	                       .attempts_max = 8,
	                       .group = {"g", 1},
	                       .unique = {"u", 1},
	                       .unique_while_ms = JOB_UNIQUE_QUEUED,
	                       .text = {"error", 5}},
			  back;

	(void)state;
	put(&r);
	assert_int_equal(r.type, 51);
	assert_int_equal(fixed_bytes, 48 + 7 + 4 + 4 + 11);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(number(8 * i, 8), 1 + i);
	assert_int_equal(number(32, 4), 5);
	assert_int_equal(number(36, 2), 5);
	assert_int_equal(number(38, 2), 6);
	assert_int_equal(number(40, 2), fixed_bytes - 48);
	assert_int_equal(number(42, 2), 7);
	assert_int_equal(number(44, 4), JOB_BY_TIMEOUT);
	assert_memory_equal(bytes + fixed_bytes, "error", 5);
	assert_int_equal(get(JOB_REVIVE, &back), 0);
	assert_true(back.queue == 5 && back.attempt == 6 && back.timeouts == 7 && back.attempts_max == 8);
	assert_true(back.group.len == 1 && back.unique.len == 1 && back.unique_while_ms == JOB_UNIQUE_QUEUED);
	assert_true(back.text.len == 5 && job_record_is_error(&back));
	bytes[45] = 1; /* zero */
	assert_int_equal(get(JOB_REVIVE, &back), -EPROTO);
	r.unique_while_ms = 5; /* a key that is a length of time is not taken again */
	put(&r);
	assert_int_equal(get(JOB_REVIVE, &back), -EPROTO);
	r.unique_while_ms = 0;
	r.expires_ms = 5;
	put(&r);
	assert_int_equal(get(JOB_REVIVE, &back), -EPROTO);
}

/* What a finished job says of itself when its SUBMIT does not. */
static void test_finish_edited(void **state)
{
	struct job_record r = {.type = JOB_FINISH,
	                       .id = 1,
	                       .state = JOB_FAILED,
	                       .at_ns = 5000000,
	                       .when_ms = 1005,
	                       .edited = true,
	                       .time_to_run_ms = 2000,
	                       .attempts_max = 3,
	                       .retention_ms = 1},
			  back;

	(void)state;
	put(&r);
	assert_int_equal(fixed_bytes, 72);
	assert_int_equal(number(64, 4), 2000);
	assert_int_equal(number(68, 2), 3);
	assert_int_equal(number(70, 2), 1 | 4);
	assert_int_equal(get(JOB_FINISH, &back), 0);
	assert_true(back.edited && back.time_to_run_ms == 2000 && back.attempts_max == 3);
	assert_int_equal(back.retention_ms, 1000);
	r.time_to_run_ms = JOB_TIME_TO_RUN_MAX_MS;
	r.attempts_max = JOB_ATTEMPTS_UNLIMITED;
	r.retention_ms = 0;
	put(&r);
	assert_int_equal(number(70, 2), 1 | 2);
	assert_int_equal(get(JOB_FINISH, &back), 0);
	assert_true(back.time_to_run_ms == JOB_TIME_TO_RUN_MAX_MS &&
	            back.attempts_max == JOB_ATTEMPTS_UNLIMITED);
	assert_int_equal(back.retention_ms, 0);
	r.retention_ms = 1;
	r.at_ns = INT64_MIN;
	r.when_ms = INT64_MAX; /* longer than can be told */
	put(&r);
	assert_int_equal(get(JOB_FINISH, &back), -EPROTO);
	r.retention_ms = r.at_ns = r.when_ms = 0;
	put(&r);
	bytes[70] |= 8;
	assert_int_equal(get(JOB_FINISH, &back), -EPROTO);
	bytes[70] = 0; /* then all is */
	assert_int_equal(get(JOB_FINISH, &back), -EPROTO);
}

static void test_rate(void **state)
{
	struct job_record r = {.type = JOB_RATE, .queue = 4, .at_ns = -5}, back;

	(void)state;
	put(&r);
	assert_int_equal(r.type, 41);
	assert_int_equal(fixed_bytes, 16);
	assert_int_equal(number(0, 8), 4);
	assert_true((int64_t)number(8, 8) == -5);
	assert_int_equal(get(JOB_RATE, &back), 0);
	assert_true(back.at_ns == -5 && back.queue == 4);
	bytes[7] = 1; /* zero */
	assert_int_equal(get(JOB_RATE, &back), -EPROTO);
}

static void test_group_rate(void **state)
{
	static const uint8_t hash[16] = "0123456789abcde";
	struct job_record r = {.type = JOB_GROUP_RATE,
	                       .queue = 4,
	                       .at_ns = -5,
	                       .flags = 1,
	                       .body = {hash, 16}},
			  back;

	(void)state;
	put(&r);
	assert_int_equal(r.type, 57);
	assert_int_equal(fixed_bytes, 16);
	assert_int_equal(all_bytes, 32);
	assert_int_equal(number(0, 4), 4);
	assert_int_equal(number(4, 4), 1);
	assert_true((int64_t)number(8, 8) == -5);
	assert_memory_equal(bytes + 16, hash, 16);
	assert_int_equal(get(JOB_GROUP_RATE, &back), 0);
	assert_true(back.at_ns == -5 && back.queue == 4 && back.flags == 1 && back.body.len == 16);
	bytes[7] = 1; /* zero */
	assert_int_equal(get(JOB_GROUP_RATE, &back), -EPROTO);
	bytes[7] = 0;
	all_bytes--; /* less than a hash */
	assert_int_equal(get(JOB_GROUP_RATE, &back), -EPROTO);
}

static void test_key(void **state)
{
	uint8_t runs[2 * JOB_KEY_RUN_BYTES] = {0};
	struct job_record r = {.type = JOB_KEY,
	                       .at_ns = -7,
	                       .epoch = 3,
	                       .claim = 5,
	                       .text = {"name", 4},
	                       .headers = {"0123456789abcdef", JOB_FINGERPRINT_BYTES},
	                       .body = {runs, sizeof(runs)}},
			  back;
	uint8_t part[200];
	size_t cursor = 0;

	(void)state;
	runs[16] = 2;
	runs[JOB_KEY_RUN_BYTES + 16] = 3;
	put(&r);
	assert_int_equal(fixed_bytes, 24);
	assert_int_equal(number(0, 8), (uint64_t)-7);
	assert_int_equal(number(8, 4), 3);
	assert_int_equal(number(12, 2), 4);
	assert_int_equal(number(14, 2), 0);
	assert_int_equal(number(16, 4), 5);
	assert_int_equal(number(20, 4), 2);
	assert_memory_equal(bytes + 24, "name0123456789abcdef", 20);
	assert_memory_equal(bytes + 44, runs, sizeof(runs));
	assert_int_equal(get(JOB_KEY, &back), 0);
	assert_true(back.at_ns == -7 && back.epoch == 3 && back.claim == 5 && back.text.len == 4);
	assert_memory_equal(back.body.data, runs, sizeof(runs));
	for (size_t at = 14; at < 24; at++) { /* what does not add up */
		bytes[at] ^= 1;
		assert_int_equal(get(JOB_KEY, &back), -EPROTO);
		bytes[at] ^= 1;
	}
	all_bytes--;
	assert_int_equal(get(JOB_KEY, &back), -EPROTO);
	all_bytes++;
	for (int bit = 2; bit <= 8;
	     bit *= 2) { /* flags of a run that are not known, or are an event's without its head */
		bytes[44 + 21] = (uint8_t)bit;
		assert_int_equal(get(JOB_KEY, &back), -EPROTO);
	}
	bytes[44 + 21] = 1;
	assert_int_equal(get(JOB_KEY, &back), 0);
	bytes[44 + 22] = 1;
	assert_int_equal(get(JOB_KEY, &back), -EPROTO);
	/* in a checkpoint */
	assert_int_equal(job_part_put(&r, part), job_part_bytes(&r));
	assert_true(job_part_get(&(struct job_record){.body = {part, job_part_bytes(&r)}}, &cursor, &back));
	assert_int_equal(back.claim, 5);
	r = (struct job_record){.type = JOB_KEYS, .claim = 2, .body = {"anything", 8}};
	put(&r);
	assert_int_equal(fixed_bytes, 8);
	assert_int_equal(number(0, 4), 2);
	assert_int_equal(get(JOB_KEYS, &back), 0);
	assert_int_equal(back.body.len, 8);
	bytes[4] = 1;
	assert_int_equal(get(JOB_KEYS, &back), -EPROTO);
}

/* Events were published: where they are counted from, and a note. */
static void test_key_of_events(void **state)
{
	uint8_t runs[2 * JOB_KEY_RUN_BYTES] = {0};
	struct job_record r = {.type = JOB_KEY,
	                       .flags = JOB_KEY_EVENTS,
	                       .epoch = 3,
	                       .claim = 5,
	                       .text = {"name", 4},
	                       .headers = {"0123456789abcdef"
	                                   "FROM0000"
	                                   "ABCDEFGHIJKLMNOP",
	                                   JOB_FINGERPRINT_BYTES + JOB_KEY_EVENTS_BYTES},
	                       .body = {runs, sizeof(runs)}},
			  back;

	(void)state;
	runs[16] = 2;
	runs[21] = 2;
	runs[JOB_KEY_RUN_BYTES + 16] = 3;
	runs[JOB_KEY_RUN_BYTES + 20] = 2;
	put(&r);
	assert_int_equal(fixed_bytes, 24);
	assert_int_equal(number(14, 2), 1);
	assert_memory_equal(bytes + 24, "name0123456789abcdefFROM0000ABCDEFGHIJKLMNOP", 44);
	assert_memory_equal(bytes + 68, runs, sizeof(runs));
	assert_int_equal(all_bytes, 68 + sizeof(runs));
	assert_int_equal(get(JOB_KEY, &back), 0);
	assert_true(back.flags == JOB_KEY_EVENTS && back.headers.len == 40 && back.body.len == sizeof(runs));
	bytes[68 + 20] = 2; /* an event has no state */
	assert_int_equal(get(JOB_KEY, &back), -EPROTO);
	bytes[68 + 20] = 0;
	bytes[14] = 0; /* then the head is taken for a run */
	assert_int_equal(get(JOB_KEY, &back), -EPROTO);
}

static void test_small_ones(void **state)
{
	static const struct {
		int type;
		size_t fixed;
	} sizes[] = {{JOB_IDS, 16},     {JOB_QUEUE_GONE, 8}, {JOB_CLAIM, 32}, {JOB_EXTEND, 16},
	             {JOB_RELEASE, 24}, {JOB_RETRY, 40},     {JOB_CANCEL, 8}, {JOB_KICK, 8},
	             {JOB_PROGRESS, 8}, {JOB_BURY, 32},      {JOB_REMOVE, 8}, {JOB_BLOBS, 0},
	             {JOB_RETURN, 8},   {JOB_DEAD, 40},      {JOB_RATE, 16}};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct job_record r = {.type = (uint8_t)sizes[i].type,
		                       .id = 3,
		                       .claim = 4,
		                       .when_ms = 5,
		                       .epoch = 6,
		                       .attempt = 7,
		                       .priority = 8,
		                       .queue = 9},
				  back;

		put(&r);
		assert_int_equal(fixed_bytes, sizes[i].fixed);
		assert_int_equal(get(sizes[i].type, &back), 0);
		for (size_t cut = 0; cut < sizes[i].fixed; cut++) {
			fixed_bytes = cut;
			all_bytes = cut;
			assert_int_equal(get(sizes[i].type, &back), -EPROTO);
		}
		assert_int_equal(job_record_get(sizes[i].type, 2, (struct job_slice){bytes, sizes[i].fixed},
		                                (struct job_slice){0}, &back),
		                 -EPROTO);
	}
	assert_int_equal(get(15, &(struct job_record){0}), -EPROTO);
	assert_int_equal(get(JOB_RECORD_TYPES_END, &(struct job_record){0}), -EPROTO);
}

/* Whatever the bytes are: an answer, and slices within them. */
static void test_noise(void **state)
{
	uint64_t seed = 1;

	(void)state;
	for (int i = 0; i < 300000; i++) {
		struct job_record r;
		uint8_t *copy;
		int type;

		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
		type = 14 + (int)(seed >> 33) % 40;
		fixed_bytes = (seed >> 40) % 160;
		all_bytes = fixed_bytes + (seed >> 50) % 100;
		copy = malloc(all_bytes + 1);
		for (size_t k = 0; k < all_bytes; k++) {
			seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
			copy[k] = (seed >> 60) % 3 ? 0 : (uint8_t)(seed >> 33);
		}
		if (job_record_get(type, 1, (struct job_slice){copy, fixed_bytes},
		                   (struct job_slice){copy + fixed_bytes, all_bytes - fixed_bytes}, &r) == 0)
			assert_true(r.body.len + r.text.len + r.headers.len + r.content_type.len <=
			            all_bytes);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_submit),        cmocka_unit_test(test_event),
		cmocka_unit_test(test_finish),        cmocka_unit_test(test_blob),
		cmocka_unit_test(test_queue),         cmocka_unit_test(test_queue_options),
		cmocka_unit_test(test_after),         cmocka_unit_test(test_submit_policy),
		cmocka_unit_test(test_edit),          cmocka_unit_test(test_revive),
		cmocka_unit_test(test_finish_edited), cmocka_unit_test(test_rate),
		cmocka_unit_test(test_group_rate),    cmocka_unit_test(test_dead),
		cmocka_unit_test(test_small_ones),    cmocka_unit_test(test_noise),
		cmocka_unit_test(test_key),           cmocka_unit_test(test_key_of_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
