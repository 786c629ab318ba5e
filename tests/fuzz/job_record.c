/* tests/fuzz/job_record.c -- the reader of the store's records, and what it does with them, on any bytes at all.
 *
 * Input: records one after the other: type (1 byte), length of the fixed part (1), of the rest (2, little-endian), the bytes.
 *
 * What must hold: no crash; slices lie within the bytes; what is read and written again reads the same; and a machine that takes in what
 * fits, whatever the order, counts right.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job/job.h"
#include "job/record.h"

enum { REST_MAX = 1 << 17 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(struct job_slice slice, const uint8_t *from, size_t len)
{
	const uint8_t *at = slice.data;
	if (slice.len > 0 && (at < from || at + slice.len > from + len))
		abort();
}

static size_t gather(const struct job_record *r, uint8_t *to)
{
	struct job_slice rest[JOB_RECORD_SLICES_MAX];
	size_t len = 0;
	int count = job_record_rest(r, rest);
	for (int i = 0; i < count; i++) {
		memcpy(to + len, rest[i].data, rest[i].len);
		len += rest[i].len;
	}
	return len;
}

/* Once written, it is the same however often it is read and written. */
static void check_again(const struct job_record *r)
{
	static uint8_t rest[REST_MAX], rest_again[REST_MAX];
	uint8_t fixed[JOB_RECORD_FIXED_MAX], fixed_again[JOB_RECORD_FIXED_MAX];
	size_t fixed_len = job_record_fixed(r, fixed), rest_len = gather(r, rest);
	struct job_record again;
	if (job_record_get(r->type, JOB_RECORD_VERSION, (struct job_slice){fixed, fixed_len},
	                   (struct job_slice){rest, rest_len}, &again) != 0)
		abort();
	size_t fixed_len_again = job_record_fixed(&again, fixed_again),
	       rest_len_again = gather(&again, rest_again);
	if (fixed_len != fixed_len_again || rest_len != rest_len_again ||
	    memcmp(fixed, fixed_again, fixed_len) != 0 || memcmp(rest, rest_again, rest_len) != 0)
		abort();
}

static void check_parts(const struct job_record *whole)
{
	struct job_record part;
	size_t cursor = 0;
	while (whole->type == JOB_WHOLE && job_part_get(whole, &cursor, &part)) {
		within(part.body, whole->body.data, whole->body.len);
		within(part.text, whole->body.data, whole->body.len);
		within(part.headers, whole->body.data, whole->body.len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct job_machine *machine = NULL;
	struct job_limits limits = {.queues_max = 1000, .jobs_max = 10000};
	char what[200] = "";
	uint64_t place = 8192;
	bool loading = false;
	if (job_open(&machine, &limits, 1000) != 0)
		abort();
	while (size >= 4) {
		struct job_record r;
		uint8_t type = data[0];
		size_t fixed = data[1], rest = (size_t)data[2] | (size_t)data[3] << 8;
		data += 4;
		size -= 4;
		fixed = fixed < size ? fixed : size;
		rest = rest < size - fixed ? rest : size - fixed;
		if (job_record_get(type, JOB_RECORD_VERSION, (struct job_slice){data, fixed},
		                   (struct job_slice){data + fixed, rest}, &r) == 0) {
			within(r.body, data, fixed + rest);
			within(r.text, data, fixed + rest);
			within(r.headers, data, fixed + rest);
			within(r.content_type, data, fixed + rest);
			check_again(&r);
			check_parts(&r);
			bool of_checkpoint = job_record_checkpoint(r.type);
			if (of_checkpoint) {
				loading = true;
				if (job_load(machine, &r) < 0)
					break;
			} else if (loading) {
				loading = false;
				if (job_load_end(machine) < 0)
					break;
			}
			if (!of_checkpoint)
				(void)!job_replay(machine, &r, place);
		}
		place += (16 + fixed + rest + 7) & ~(size_t)7;
		data += fixed + rest;
		size -= fixed + rest;
	}
	if (size < 4 && !loading && job_recount(machine, what, sizeof(what)) != 0) {
		fprintf(stderr, "%s\n", what);
		abort();
	}
	job_close(machine);
	return 0;
}
