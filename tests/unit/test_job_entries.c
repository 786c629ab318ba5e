/* tests/unit/test_job_entries.c -- what checkpoints and compaction write of jobs, byte by byte as docs/format-records.md says, and
 * what is refused.
 */
#include "job_record_bytes.h"

/* A job's records in one, whole and broken in every way. */
static void test_whole(void **state)
{
	struct job_record submit = {.type = JOB_SUBMIT, .id = 5, .queue = 1, .body = {"body", 4}},
			  finish = {.type = JOB_FINISH, .id = 5, .state = JOB_DONE, .body = {"result", 6}},
			  retry = {.type = JOB_RETRY, .id = 5, .attempt = 2, .text = {"no", 2}},
			  whole = {.type = JOB_WHOLE,
	                           .id = 5,
	                           .flags = JOB_WHOLE_PAYLOAD | JOB_WHOLE_RESULT | JOB_WHOLE_ERRORS},
			  back, part;
	static uint8_t parts[4096];
	size_t len = 0, cursor = 0, submit_bytes;

	(void)state;
	len += submit_bytes = job_part_put(&submit, parts);
	assert_int_equal(len, 8 + 40 + 4);
	assert_memory_equal(parts, "\23\0\50\0\4\0\0\0\5", 9);
	len += job_part_put(&finish, parts + len);
	len += job_part_put(&retry, parts + len);
	whole.body = (struct job_slice){parts, len};
	put(&whole);
	assert_int_equal(whole.type, 33);
	assert_int_equal(fixed_bytes, 16);
	assert_int_equal(number(0, 8), 5);
	assert_int_equal(number(8, 8), 7);
	assert_memory_equal(bytes + 16, parts, len);
	assert_int_equal(get(JOB_WHOLE, &back), 0);
	assert_true(job_part_get(&back, &cursor, &part) && part.type == JOB_SUBMIT);
	assert_memory_equal(part.body.data, "body", 4);
	assert_true(job_part_get(&back, &cursor, &part) && part.type == JOB_FINISH);
	assert_true(job_part_get(&back, &cursor, &part) && part.type == JOB_RETRY && part.attempt == 2);
	assert_false(job_part_get(&back, &cursor, &part));
	assert_true(job_part_find(&back, JOB_FINISH, &part));
	assert_memory_equal(part.body.data, "result", 6);
	assert_false(job_part_find(&back, JOB_PROGRESS, &part));
	bytes[8] = 3; /* does not say what is in it */
	assert_int_equal(get(JOB_WHOLE, &back), -EPROTO);
	bytes[8] = 7;
	bytes[0] = 6; /* another job's */
	assert_int_equal(get(JOB_WHOLE, &back), -EPROTO);
	bytes[0] = 5;
	bytes[16] = JOB_CLAIM; /* no part */
	assert_int_equal(get(JOB_WHOLE, &back), -EPROTO);
	bytes[16] = JOB_SUBMIT;
	for (size_t cut = fixed_bytes; cut < fixed_bytes + len; cut++) {
		all_bytes = cut;
		assert_int_equal(get(JOB_WHOLE, &back), -EPROTO);
	}
	/* a result without its payload; twice the same */
	whole.flags = JOB_WHOLE_RESULT | JOB_WHOLE_ERRORS;
	whole.body = (struct job_slice){parts + submit_bytes, len - submit_bytes};
	put(&whole);
	assert_int_equal(get(JOB_WHOLE, &back), -EPROTO);
	memcpy(parts + submit_bytes, parts, submit_bytes);
	whole.flags = JOB_WHOLE_PAYLOAD;
	whole.body = (struct job_slice){parts, 2 * submit_bytes};
	put(&whole);
	assert_int_equal(get(JOB_WHOLE, &back), -EPROTO);
	whole.body.len = submit_bytes;
	put(&whole);
	assert_int_equal(get(JOB_WHOLE, &back), 0);
}

static void test_entries(void **state)
{
	struct job_entry entry = {.id = 0x11223344556677 & JOB_ID_MAX,
	                          .size = 9,
	                          .place = 0x665544332211,
	                          .changed = 0x8877,
	                          .queue = 0x030201,
	                          .state = JOB_RUNNING,
	                          .priority = 0x14131211,
	                          .when_ms = 0x0a2524232221,
	                          .attempts = 0x131,
	                          .flags = JOB_ENTRY_CANCEL,
	                          .claim = 1,
	                          .error_place = 2,
	                          .progress_place = 3,
	                          .retention_ms = -4,
	                          .time_to_run = 5,
	                          .epoch = 6,
	                          .changes = 7,
	                          .attempts_max = 8,
	                          .timeouts = 9,
	                          .ext_flags = 10,
	                          .reserves = 11,
	                          .releases = 12,
	                          .buries = 13,
	                          .kicks = 14,
	                          .delay_s = 15,
	                          .error_bytes = 16,
	                          .progress_bytes = 17},
			 back;
	uint8_t *b = bytes;

	(void)state;
	job_entry_put_ext(&entry, b);
	assert_memory_equal(b, "\x77\x66\x55\x44\x33\x22\x11\x09", 8);
	assert_memory_equal(b + 8, "\x11\x22\x33\x44\x55\x66\x77\x88", 8);
	assert_memory_equal(b + 16, "\1\2\3\3\x11\x12\x13\x14", 8);
	assert_memory_equal(b + 24, "\x21\x22\x23\x24\x25\x0a\x31\1", 8);
	assert_memory_equal(b + 32, "\0\0\0\0\1\0\0\0", 8);
	assert_int_equal(number(40, 8), 1);
	assert_int_equal(number(48, 8), 2);
	assert_int_equal(number(56, 8), 3);
	assert_true((int64_t)number(64, 8) == -4);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(number(72 + 4 * i, 4), 5 + i);
	assert_int_equal(number(84, 2), 8);
	assert_int_equal(number(86, 2), 9);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(number(88 + 4 * i, 4), 10 + i);
	memset(&back, 0, sizeof(back));
	assert_true(job_entry_get_ext(b, &back));
	assert_memory_equal(&back, &entry, sizeof(entry));
	assert_true(job_entry_get(b, &back));
	b[19] = JOB_DONE; /* has no extension */
	assert_false(job_entry_get_ext(b, &back));
	b[32] = 1;
	assert_true(job_entry_get(b, &back));
	assert_int_equal(back.submit, 1);
	b[19] = JOB_READY; /* has no SUBMIT elsewhere */
	assert_false(job_entry_get(b, &back));
	b[32] = 0;
	b[37] = 1; /* a flag of a later version */
	assert_false(job_entry_get(b, &back));
	b[37] = 0;
	b[19] = JOB_STATES;
	assert_false(job_entry_get(b, &back));
	memset(b, 0, 16);
	b[19] = JOB_READY; /* no id */
	assert_false(job_entry_get(b, &back));
}

static void test_entries_policy(void **state)
{
	struct job_entry entry = {.id = 1,
	                          .state = JOB_READY,
	                          .claim = 2,
	                          .progress_bytes = 3,
	                          .expires_ms = 0x0a1817161514,
	                          .unique = {20, 21},
	                          .group = {22, 23},
	                          .dead_from = 24,
	                          .policy_flags = 15},
			 back;
	uint8_t *b = bytes;

	(void)state;
	job_entry_put_policy(&entry, b);
	assert_memory_equal(b + 120, "\x14\x15\x16\x17\x18\x0a\0\0", 8);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(number(128 + 8 * i, 8), 20 + i);
	assert_int_equal(number(160, 4), 24);
	assert_int_equal(number(164, 4), 15);
	memset(&back, 0, sizeof(back));
	assert_true(job_entry_get_policy(b, &back));
	assert_memory_equal(&back, &entry, sizeof(entry));
	b[164] = 6; /* holds a key and has none */
	assert_false(job_entry_get_policy(b, &back));
	b[164] = 16; /* a flag of a later version */
	assert_false(job_entry_get_policy(b, &back));
	b[164] = 0;
	b[163] = 1; /* no number of a queue */
	assert_false(job_entry_get_policy(b, &back));
}

static void test_uniques(void **state)
{
	struct job_unique_entry entry = {.hash = {1, 2}, .id = 3, .until_ms = 4}, back;
	uint8_t b[JOB_UNIQUE_BYTES];
	struct job_record r = {.type = JOB_UNIQUES, .body = {b, sizeof(b)}}, back_record;

	(void)state;
	job_unique_put(&entry, b);
	put(&r);
	assert_int_equal(r.type, 40);
	assert_int_equal(fixed_bytes, 8);
	assert_int_equal(number(0, 8), 1);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(number(8 + 8 * i, 8), 1 + i);
	assert_int_equal(get(JOB_UNIQUES, &back_record), 0);
	assert_true(job_unique_get(b, &back));
	assert_memory_equal(&back, &entry, sizeof(entry));
	b[24] = 0; /* it never holds */
	assert_false(job_unique_get(b, &back));
	b[24] = 1;
	b[16] = 0; /* no job */
	assert_false(job_unique_get(b, &back));
	all_bytes--;
	assert_int_equal(get(JOB_UNIQUES, &back_record), -EPROTO);
}

static void test_buckets(void **state)
{
	struct job_bucket_entry entry = {.hash = {1, 2}, .full_ns = -3, .queue = 4}, back;
	uint8_t b[JOB_BUCKET_BYTES];
	struct job_record r = {.type = JOB_BUCKETS, .body = {b, sizeof(b)}}, back_record;

	(void)state;
	job_bucket_put(&entry, b);
	put(&r);
	assert_int_equal(r.type, 58);
	assert_int_equal(fixed_bytes, 8);
	assert_int_equal(number(0, 8), 1);
	assert_true(number(8, 8) == 1 && number(16, 8) == 2 && (int64_t)number(24, 8) == -3);
	assert_int_equal(number(32, 8), 4);
	assert_int_equal(get(JOB_BUCKETS, &back_record), 0);
	assert_true(job_bucket_get(b, &back));
	assert_true(back.hash[0] == 1 && back.hash[1] == 2 && back.full_ns == -3 && back.queue == 4);
	b[28] = 1; /* zero */
	assert_false(job_bucket_get(b, &back));
	b[28] = b[24] = 0; /* no queue */
	assert_false(job_bucket_get(b, &back));
	all_bytes--;
	assert_int_equal(get(JOB_BUCKETS, &back_record), -EPROTO);
}

static void test_joins(void **state)
{
	struct job_join_entry job = {.id = 0x99,
	                             .other = 3,
	                             .delay_ms = 5,
	                             .count = 7,
	                             .kind = JOB_JOIN_JOB,
	                             .failure = JOB_AFTER_BURY,
	                             .why = JOB_AWAITED_DEAD},
			      edge = {.id = 0x99, .other = 4, .kind = JOB_JOIN_EDGE}, back;
	uint8_t b[2 * JOB_JOIN_BYTES];
	struct job_record r = {.type = JOB_JOINS, .body = {b, sizeof(b)}}, back_record;

	(void)state;
	job_join_put(&job, b);
	job_join_put(&edge, b + JOB_JOIN_BYTES);
	put(&r);
	assert_int_equal(r.type, 52);
	assert_int_equal(fixed_bytes, 8);
	assert_int_equal(number(0, 8), 2);
	assert_int_equal(number(8, 8), 0x99);
	assert_int_equal(number(16, 8), 3);
	assert_int_equal(number(24, 8), 5);
	assert_int_equal(number(32, 4), 7);
	assert_int_equal(number(36, 4), 0x040101);
	assert_int_equal(number(40, 8), 0x99);
	assert_int_equal(number(48, 8), 4);
	assert_int_equal(number(56, 8), 0);
	assert_int_equal(number(64, 8), UINT64_C(2) << 32);
	assert_int_equal(get(JOB_JOINS, &back_record), 0);
	assert_true(job_join_get(b, &back) && back.id == job.id && back.other == job.other &&
	            back.delay_ms == job.delay_ms && back.count == job.count && back.failure == job.failure &&
	            back.why == job.why && back.kind == job.kind);
	assert_true(job_join_get(b + JOB_JOIN_BYTES, &back) && back.other == 4 && back.kind == JOB_JOIN_EDGE);
	for (size_t i = 28; i < 32; i++) { /* a kind, a policy, an end that are not known; not zero */
		uint8_t was = b[i];

		b[i] = 77;
		assert_false(job_join_get(b, &back));
		b[i] = was;
	}
	b[8] = 0x99; /* itself, or a younger one */
	assert_false(job_join_get(b, &back));
	b[JOB_JOIN_BYTES + 8] = 0; /* no job */
	assert_false(job_join_get(b + JOB_JOIN_BYTES, &back));
	all_bytes--;
	assert_int_equal(get(JOB_JOINS, &back_record), -EPROTO);
}

static void test_checkpoint(void **state)
{
	uint64_t counters[JOB_COUNTERS_END + 2] = {1}, of_queue[JOB_QUEUE_COUNTERS_END] = {3};
	struct job_record r = {.type = JOB_COUNTERS, .body = {counters, sizeof(counters)}}, back;
	uint8_t entries[3 * JOB_ENTRY_BYTES] = {7};

	(void)state;
	put(&r);
	assert_int_equal(r.type, 36);
	assert_int_equal(fixed_bytes, 8);
	assert_int_equal(number(0, 8), 1); /* ranges */
	assert_int_equal(all_bytes, 8 + 22 * 8 + 16);
	assert_int_equal(get(JOB_COUNTERS, &back), 0);
	all_bytes -= 8;
	assert_int_equal(get(JOB_COUNTERS, &back), -EPROTO);
	r = (struct job_record){.type = JOB_ENTRIES, .body = {entries, sizeof(entries)}};
	put(&r);
	assert_int_equal(r.type, 34);
	assert_int_equal(number(0, 8), 3);
	assert_int_equal(all_bytes, 8 + 3 * 40);
	assert_int_equal(get(JOB_ENTRIES, &back), 0);
	all_bytes--;
	assert_int_equal(get(JOB_ENTRIES, &back), -EPROTO);
	r = (struct job_record){.type = JOB_ENTRIES_EXT, .body = {entries, 120}};
	put(&r);
	assert_int_equal(r.type, 35);
	assert_int_equal(number(0, 8), 1);
	assert_int_equal(get(JOB_ENTRIES_EXT, &back), 0);
	r = (struct job_record){.type = JOB_QUEUE_STATE,
	                        .queue = 2,
	                        .flags = JOB_QUEUE_GONE_FLAG,
	                        .config = {.finished_max = 9},
	                        .headers = {of_queue, sizeof(of_queue)},
	                        .body = {"name", 4}};
	put(&r);
	assert_int_equal(r.type, 37);
	assert_int_equal(fixed_bytes, 72);
	assert_int_equal(number(4, 4), 4);
	assert_int_equal(number(72, 8), 3);
	assert_int_equal(all_bytes, 72 + 17 * 8 + 4);
	assert_memory_equal(bytes + 72 + 17 * 8, "name", 4);
	assert_int_equal(get(JOB_QUEUE_STATE, &back), 0);
	assert_int_equal(back.config.finished_max, 9);
	r.type = JOB_QUEUE; /* is not written for what is gone */
	r.headers.len = 0;
	put(&r);
	assert_int_equal(get(JOB_QUEUE, &back), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),          cmocka_unit_test(test_entries),
		cmocka_unit_test(test_entries_policy), cmocka_unit_test(test_uniques),
		cmocka_unit_test(test_buckets),        cmocka_unit_test(test_joins),
		cmocka_unit_test(test_checkpoint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
