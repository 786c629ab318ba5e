/* src/job/part.c -- records as parts of a WHOLE, docs/format-records.md. See record.h. */
#include "job/bytes.h"
#include "job/record.h"

enum { PART_FRAME_BYTES = 8 };

size_t job_part_bytes(const struct job_record *r)
{
	return PART_FRAME_BYTES + (size_t)job_record_bytes(r) - JOB_LOG_HEADER_BYTES;
}

size_t job_part_put(const struct job_record *r, uint8_t *to)
{
	struct job_slice rest[JOB_RECORD_SLICES_MAX];
	int count = job_record_rest(r, rest);
	size_t fixed = job_record_fixed(r, to + PART_FRAME_BYTES), bytes = 0;

	for (int i = 0; i < count; i++) {
		memcpy(to + PART_FRAME_BYTES + fixed + bytes, rest[i].data, rest[i].len);
		bytes += rest[i].len;
	}
	to[0] = r->type;
	to[1] = 0;
	put16(to + 2, fixed);
	put32(to + 4, bytes);
	return PART_FRAME_BYTES + fixed + bytes;
}

static bool may_be_part(int type)
{
	return type == JOB_SUBMIT || type == JOB_FINISH || type == JOB_RETRY || type == JOB_BURY ||
	       type == JOB_DEAD || type == JOB_REVIVE || type == JOB_PROGRESS ||
	       type == JOB_QUEUE_STATE /* in the memory of a snapshot */ || type == JOB_KEY; /* in KEYS */
}

bool job_part_get(const struct job_record *whole, size_t *cursor, struct job_record *ret)
{
	const uint8_t *at = (const uint8_t *)whole->body.data + *cursor;
	size_t left = whole->body.len - *cursor, fixed, rest;

	if (left < PART_FRAME_BYTES)
		return false;
	fixed = get16(at + 2);
	rest = get32(at + 4);
	if (!may_be_part(at[0]) || at[1] != 0 || left - PART_FRAME_BYTES < fixed ||
	    left - PART_FRAME_BYTES - fixed < rest ||
	    job_record_get(at[0], JOB_RECORD_VERSION, (struct job_slice){at + PART_FRAME_BYTES, fixed},
	                   (struct job_slice){at + PART_FRAME_BYTES + fixed, rest}, ret) < 0)
		return false;
	*cursor += PART_FRAME_BYTES + fixed + rest;
	return true;
}

bool job_part_find(const struct job_record *whole, int type, struct job_record *ret)
{
	size_t cursor = 0;

	while (job_part_get(whole, &cursor, ret))
		if (ret->type == type)
			return true;
	return false;
}
