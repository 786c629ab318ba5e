/* tests/unit/job_record_bytes.h -- a record as bytes, for the tests that compare them one by one. */
#ifndef WH_TESTS_JOB_RECORD_BYTES_H
#define WH_TESTS_JOB_RECORD_BYTES_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "job/record.h"

static uint8_t bytes[8192];
static size_t fixed_bytes, all_bytes;

static void put(const struct job_record *r)
{
	struct job_slice rest[JOB_RECORD_SLICES_MAX];
	int count = job_record_rest(r, rest);

	fixed_bytes = all_bytes = job_record_fixed(r, bytes);
	for (int i = 0; i < count; i++) {
		memcpy(bytes + all_bytes, rest[i].data, rest[i].len);
		all_bytes += rest[i].len;
	}
}

static int get(int type, struct job_record *r)
{
	return job_record_get(type, JOB_RECORD_VERSION, (struct job_slice){bytes, fixed_bytes},
	                      (struct job_slice){bytes + fixed_bytes, all_bytes - fixed_bytes}, r);
}

static uint64_t number(size_t at, size_t len)
{
	uint64_t value = 0;

	for (size_t i = 0; i < len; i++)
		value |= (uint64_t)bytes[at + i] << (8 * i);
	return value;
}

#endif
