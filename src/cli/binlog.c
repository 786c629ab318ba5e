/* src/cli/binlog.c -- the binlog of beanstalkd, read. See binlog.h.
 *
 * A file is a version (4 bytes), then records: length of the tube's name, name, the job's fixed part, and, if there is a name, the body
 * with its CR LF. A record without a name changes a job that a record with one has brought; when there was none the job was
 * in a file that is deleted, and so is the job. Files are made full of zeros: a record whose id is 0 is the end.
 *
 * format 7: length 4 bytes; id 8, pri 4, pad 4, delay 8, ttr 8, body_size 4, pad 4, created_at 8, deadline_at 8, five counters of
 *           4, state 1, pad 3; times in ns.
 * format 5: length 8 bytes; the same up to the state, without the last pad; times in us.
 */
#include "cli/binlog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/beanstalk_parse.h"

enum { FIXED_7 = 80, FIXED_5 = 77, AT_BODY_SIZE = 32, AT_DEADLINE = 48, AT_STATE = 76, BODY_MAX = 1 << 30 };
enum { DELETED = 0 };

struct reader {
	struct binlog *binlog;
	const uint8_t *bytes;
	size_t len, at;
	int version;
	struct binlog_problem *problem;
};

struct record {
	const uint8_t *name, *fixed, *body;
	size_t name_len;
	uint64_t id;
	int32_t body_size;
	int state;
};

static uint64_t get(const uint8_t *from, size_t bytes)
{
	uint64_t value = 0;

	memcpy(&value, from, bytes);
	return value;
}

static int bad(struct reader *r, const char *text)
{
	r->problem->torn = false;
	r->problem->offset = r->at;
	snprintf(r->problem->text, sizeof(r->problem->text), "%s", text);
	return -EPROTO;
}

static int bad_number(struct reader *r, const char *before, uint64_t number, const char *after)
{
	bad(r, "");
	snprintf(r->problem->text, sizeof(r->problem->text), "%s %llu%s", before, (unsigned long long)number,
	         after);
	return -EPROTO;
}

static int cut(struct reader *r, const char *what)
{
	bad(r, "");
	snprintf(r->problem->text, sizeof(r->problem->text), "the file ends within %s", what);
	r->problem->torn = true;
	return -EPROTO;
}

/* ---- jobs by id ---------------------------------------------------------------------------- */

static uint32_t *place_of(struct binlog *b, uint64_t id)
{
	size_t mask = b->index_cap - 1;

	for (size_t i = (size_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 20) & mask;; i = (i + 1) & mask)
		if (b->index[i] == 0 || b->jobs[b->index[i] - 1].id == id)
			return &b->index[i];
}

static int room(struct binlog *b)
{
	size_t cap = b->index_cap ? b->index_cap * 2 : 1024;
	struct binlog_job *jobs;
	uint32_t *index;

	if (b->count < b->cap)
		return 0;
	if (b->count >= UINT32_MAX / 4)
		return -ENOMEM;
	jobs = realloc(b->jobs, cap / 2 * sizeof(jobs[0]));
	if (!jobs)
		return -ENOMEM;
	b->jobs = jobs;
	b->cap = cap / 2;
	index = calloc(cap, sizeof(index[0]));
	if (!index)
		return -ENOMEM;
	free(b->index);
	b->index = index;
	b->index_cap = cap;
	for (size_t i = 0; i < b->count; i++)
		*place_of(b, b->jobs[i].id) = (uint32_t)i + 1;
	return 0;
}

/* ---- records ------------------------------------------------------------------------------- */

/* What stands at r->at. 1: *record; 0: the end of what was written; negative: see binlog_read(). */
static int read_record(struct reader *r, struct record *record)
{
	size_t length_bytes = r->version == 7 ? 4 : 8, fixed = r->version == 7 ? FIXED_7 : FIXED_5;
	size_t left = r->len - r->at;
	const uint8_t *at = r->bytes + r->at;
	uint64_t name_len;

	*record = (struct record){0};
	if (left == 0)
		return 0;
	if (left < length_bytes)
		return cut(r, "the length of a tube's name");
	name_len = get(at, length_bytes);
	if (name_len > 200)
		return bad_number(r, "a tube\'s name of", name_len, " bytes");
	if (left < length_bytes + name_len + fixed)
		return cut(r, "a job's header");
	record->name = at + length_bytes;
	record->name_len = (size_t)name_len;
	record->fixed = record->name + name_len;
	record->id = get(record->fixed, 8);
	record->body_size = (int32_t)get(record->fixed + AT_BODY_SIZE, 4);
	record->state = record->fixed[AT_STATE];
	if (record->id == 0) {
		for (size_t i = 0; i < left; i++)
			if (at[i] != 0)
				return bad(r, "a job with the id 0");
		r->at = r->len;
		return 0;
	}
	if (record->state > BINLOG_DELAYED)
		return bad_number(r, "a job in state", (uint64_t)record->state, ", which there is not");
	left -= length_bytes + name_len + fixed;
	if (name_len > 0) {
		if (!beanstalk_tube_valid((const char *)record->name, record->name_len))
			return bad(r, "a name that no tube can have");
		if (record->body_size < 2 || record->body_size > BODY_MAX)
			return bad_number(r, "a body of", (uint32_t)record->body_size, " bytes");
		if (left < (size_t)record->body_size)
			return cut(r, "a job's body");
		record->body = record->fixed + fixed;
		if (memcmp(record->body + record->body_size - 2, "\r\n", 2) != 0)
			return bad_number(r, "the body of job", record->id, " does not end where it should");
	}
	r->at += length_bytes + name_len + fixed + (name_len > 0 ? (size_t)record->body_size : 0);
	return 1;
}

static int new_job(struct binlog *b, const struct record *record, struct binlog_job **ret)
{
	int error = room(b);

	if (error < 0)
		return error;
	b->jobs[b->count] = (struct binlog_job){.id = record->id};
	*ret = &b->jobs[b->count++];
	*place_of(b, record->id) = (uint32_t)b->count;
	b->alive++;
	return 0;
}

static int take(struct reader *r, const struct record *record)
{
	struct binlog *b = r->binlog;
	uint32_t place = b->index_cap ? *place_of(b, record->id) : 0;
	struct binlog_job *job = place ? &b->jobs[place - 1] : NULL;
	int64_t unit = r->version == 7 ? 1 : 1000;
	int error;

	b->records++;
	if (record->state == DELETED) {
		if (job && job->state != DELETED) {
			job->state = DELETED;
			b->alive--;
		}
		return 0;
	}
	if (!job && record->name_len == 0)
		return 0;
	if (job && job->state == DELETED) {
		if (record->name_len == 0)
			return 0;
		b->alive++; /* beanstalkd gives ids anew once its log is empty */
	}
	if (!job) {
		error = new_job(b, record, &job);
		if (error < 0)
			return error;
	} else if (record->name_len > 0 && job->state != DELETED &&
	           job->body_len != (uint32_t)record->body_size - 2) {
		return bad_number(r, "the body of job", record->id, " has another size than before");
	}
	if (record->name_len > 0) {
		job->tube = (const char *)record->name;
		job->tube_len = (uint32_t)record->name_len;
		job->body = (const char *)record->body;
		job->body_len = (uint32_t)record->body_size - 2;
	}
	job->priority = (uint32_t)get(record->fixed + 8, 4);
	job->ttr_ns = (int64_t)get(record->fixed + 24, 8) * unit;
	job->deadline_ns = (int64_t)get(record->fixed + AT_DEADLINE, 8) * unit;
	job->state = record->state == BINLOG_RESERVED ? BINLOG_READY : record->state;
	return 0;
}

static int read_version(struct reader *r, bool last)
{
	if (r->len == 0 && last)
		return 0;
	if (r->len < 4)
		return cut(r, "its version");
	r->version = (int)(int32_t)get(r->bytes, 4);
	for (size_t i = 0; r->version == 0 && i < r->len; i++)
		if (r->bytes[i] != 0)
			return bad(r, "version 0, and something after it");
	if (r->version == 0) /* made, and never written to */
		return last ? 0 : bad(r, "nothing but zeros, and a later file");
	if (r->version != 7 && r->version != 5)
		return bad_number(r, "version", (uint32_t)r->version, "; 5 and 7 are known");
	r->at = 4;
	return 1;
}

int binlog_read(struct binlog *b, const uint8_t *bytes, size_t len, bool last, struct binlog_problem *problem)
{
	struct reader r = {.binlog = b, .bytes = bytes, .len = len, .problem = problem};
	struct record record;
	int n;

	*problem = (struct binlog_problem){0};
	n = read_version(&r, last);
	while (n > 0) {
		n = read_record(&r, &record);
		if (n > 0) {
			int error = take(&r, &record);

			n = error < 0 ? error : 1;
		}
	}
	if (!last)
		problem->torn = false;
	return n;
}

static int by_id(const void *a, const void *b)
{
	const struct binlog_job *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

void binlog_sort(struct binlog *b)
{
	size_t kept = 0;

	for (size_t i = 0; i < b->count; i++)
		if (b->jobs[i].state != DELETED)
			b->jobs[kept++] = b->jobs[i];
	b->count = kept;
	if (kept > 0)
		qsort(b->jobs, kept, sizeof(b->jobs[0]), by_id);
}

void binlog_done(struct binlog *b)
{
	free(b->jobs);
	free(b->index);
	*b = (struct binlog){0};
}
