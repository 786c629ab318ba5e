/* tests/unit/test_job_memory.c -- what a job costs in memory and in a checkpoint, and that it is given back. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "job/job.h"

enum { JOBS = 1000000, BYTES_PER_JOB_MAX = 50, BYTES_PER_JOB_SAVED_MAX = 41 };

static size_t heap_bytes(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static void carry_out(struct job_machine *m, struct job_record *r, uint64_t place)
{
	job_apply(m, r, place, 0);
}

struct saved {
	uint64_t bytes;
	struct job_machine *again;
	uint32_t steps;
};

static int load(void *arg, const struct job_record *r)
{
	struct saved *saved = arg;

	saved->bytes += job_record_bytes(r);
	assert_int_equal(job_load(saved->again, r), 0);
	return 0;
}

/* Into a checkpoint and back: bytes there, bytes in memory then. */
static void check_saved(struct job_machine *m)
{
	struct job_limits limits = {0};
	struct saved saved = {0};
	uint64_t held = 0;
	size_t before;
	int more;

	assert_int_equal(job_open(&saved.again, &limits, 1), 0);
	before = heap_bytes();
	assert_int_equal(job_snapshot_begin(m), 0);
	while ((more = job_snapshot_step(m, 4096, load, &saved)) == 1) {
		held = job_snapshot_bytes(m) > held ? job_snapshot_bytes(m) : held;
		saved.steps++;
	}
	assert_int_equal(more, 0);
	assert_int_equal(job_load_end(saved.again), 0);
	print_message("%.1f bytes per job in a checkpoint, %.1f in memory after its load\n",
	              (double)saved.bytes / JOBS, (double)(heap_bytes() - before) / JOBS);
	assert_true(saved.bytes <= (uint64_t)BYTES_PER_JOB_SAVED_MAX * JOBS);
	assert_true(saved.steps >= JOBS / 4096);
	assert_true(held < (1 << 20)); /* as long as nothing changes what is seen goes out at once */
#ifndef __SANITIZE_ADDRESS__
	assert_true(heap_bytes() - before <= (size_t)BYTES_PER_JOB_MAX * JOBS);
#endif
	assert_int_equal(job_digest(saved.again, 1), job_digest(m, 1));
	job_close(saved.again);
}

static void test_waiting_jobs(void **state)
{
	struct job_limits limits = {0};
	struct job_queue_config config = {0};
	struct job_machine *m;
	struct job_record r;
	struct job_queue *q;
	struct job_totals totals;
	size_t before;

	(void)state;
	assert_int_equal(job_open(&m, &limits, 1), 0);
	assert_int_equal(job_check_queue_put(m, (struct job_slice){"q", 1}, &config, false, 1, &r), 0);
	carry_out(m, &r, 1);
	q = job_queue_find(m, (struct job_slice){"q", 1});
	assert_int_equal(job_check_ids(m, 2 * JOBS, false, &r), 0);
	carry_out(m, &r, 2);
	before = heap_bytes();
	for (uint64_t i = 0; i < JOBS; i++) {
		r = (struct job_record){.queue = q->number, .priority = 1024};
		assert_int_equal(job_room(m, 1), 0);
		assert_int_equal(job_check_submit(m, q, 0, &r), 0);
		carry_out(m, &r, 100 + i * 200);
	}
	job_totals(m, &totals);
	print_message("%.1f bytes per waiting job of %d, %.1f as the allocator counts\n",
	              (double)totals.memory_bytes / JOBS, JOBS, (double)(heap_bytes() - before) / JOBS);
#ifndef __SANITIZE_ADDRESS__
	assert_true(heap_bytes() - before <= (size_t)BYTES_PER_JOB_MAX * JOBS);
#endif
	assert_true(totals.memory_bytes <= (uint64_t)BYTES_PER_JOB_MAX * JOBS);
	check_saved(m);
	/* all but every hundredth go: the directory shrinks, and slots are used again */
	for (uint64_t id = 1; id <= JOBS; id++) {
		if (id % 100 == 0)
			continue;
		assert_int_equal(job_check_delete(m, id, NULL, 1, &r), 0);
		carry_out(m, &r, 1 << 30);
	}
	before = heap_bytes();
	for (uint64_t i = 0; i < JOBS / 2; i++) {
		r = (struct job_record){.queue = q->number, .priority = 1024};
		assert_int_equal(job_room(m, 1), 0);
		assert_int_equal(job_check_submit(m, q, 0, &r), 0);
		carry_out(m, &r, (1 << 30) + i * 200);
	}
	assert_true(heap_bytes() - before <= 6 * (size_t)JOBS / 2 + 65536 * 8);
	for (uint64_t id = 100; id <= JOBS; id += 100) {
		struct job_info info;
		assert_int_equal(job_look(m, id, &info), 0);
		assert_int_equal(job_pick(m, &q, 1, 1), id);
		assert_int_equal(job_check_delete(m, id, NULL, 1, &r), 0);
		carry_out(m, &r, 1 << 30);
		assert_int_equal(job_look(m, id, &info), -JOB_EEXPIRED);
	}
	job_close(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_waiting_jobs)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
