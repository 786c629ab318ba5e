/* src/store/blob_table.c -- which job has bodies in which files. See blob.h.
 *
 * Jobs with such bodies are few: each of them has a MiB and more on the disk, so some seventy bytes here do not count.
 */
#include "store/blob.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CAP_MIN = 64 };

void store_blob_name(uint64_t number, bool whole, char to[STORE_BLOB_NAME_BYTES])
{
	snprintf(to, STORE_BLOB_NAME_BYTES, "%08x-%08x.%s", (unsigned)(number >> 32), (unsigned)number,
	         whole ? "blob" : "tmp");
}

uint64_t store_blob_number(const char *name, bool *ret_whole)
{
	char again[STORE_BLOB_NAME_BYTES];
	unsigned epoch, sequence;
	uint64_t number;

	if (sscanf(name, "%8x-%8x", &epoch, &sequence) != 2)
		return 0;
	number = (uint64_t)epoch << 32 | sequence;
	for (int whole = 0; whole < 2; whole++) {
		store_blob_name(number, whole, again);
		if (strcmp(name, again) == 0) {
			*ret_whole = whole;
			return number;
		}
	}
	return 0;
}

static size_t home(const struct store_blob_table *t, uint64_t job)
{
	return (size_t)((job * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (t->cap - 1);
}

/* Where job is, or would be. */
static size_t place_of(const struct store_blob_table *t, uint64_t job)
{
	size_t at = home(t, job);

	while (t->entries[at].job != 0 && t->entries[at].job != job)
		at = (at + 1) & (t->cap - 1);
	return at;
}

int store_blob_table_room(struct store_blob_table *t, size_t count)
{
	struct store_blob_table grown = *t;

	if ((t->count + count) * 4 <= t->cap * 3)
		return 0;
	grown.cap = t->cap ? t->cap : CAP_MIN;
	while ((t->count + count) * 4 > grown.cap * 3)
		grown.cap *= 2;
	grown.entries = calloc(grown.cap, sizeof(grown.entries[0]));
	if (!grown.entries)
		return -ENOMEM;
	for (size_t i = 0; i < t->cap; i++)
		if (t->entries[i].job != 0)
			grown.entries[place_of(&grown, t->entries[i].job)] = t->entries[i];
	free(t->entries);
	*t = grown;
	return 0;
}

void store_blob_table_done(struct store_blob_table *t)
{
	free(t->entries);
	*t = (struct store_blob_table){0};
}

const struct store_blob_entry *store_blob_table_find(const struct store_blob_table *t, uint64_t job)
{
	size_t at = t->count > 0 ? place_of(t, job) : 0;

	return t->count > 0 && t->entries[at].job == job ? &t->entries[at] : NULL;
}

/* The entry of a job, made if it is not there. */
static struct store_blob_entry *need(struct store_blob_table *t, uint64_t job)
{
	struct store_blob_entry *e = &t->entries[place_of(t, job)];

	if (e->job == 0) {
		*e = (struct store_blob_entry){.job = job};
		t->count++;
	}
	return e;
}

static void put(struct store_blob_table *t, struct job_blob *to, struct job_blob blob)
{
	t->files += (uint64_t)(blob.number != 0) - (uint64_t)(to->number != 0);
	t->bytes += blob.bytes - to->bytes;
	*to = blob;
}

/* Take an entry out; those behind it that would not be found any more move up. */
static void take_out(struct store_blob_table *t, size_t at)
{
	size_t mask = t->cap - 1;

	t->count--;
	for (size_t next = (at + 1) & mask; t->entries[next].job != 0; next = (next + 1) & mask) {
		if (((next - home(t, t->entries[next].job)) & mask) < ((next - at) & mask))
			continue;
		t->entries[at] = t->entries[next];
		at = next;
	}
	t->entries[at] = (struct store_blob_entry){0};
}

static void forget(struct store_blob_table *t, uint64_t job, uint64_t place, store_blob_gone_function *gone,
                   void *arg)
{
	struct store_blob_entry *e = t->count > 0 ? &t->entries[place_of(t, job)] : NULL;

	if (!e || e->job == 0)
		return;
	if (gone && e->payload.number != 0)
		gone(arg, &e->payload, place);
	if (gone && e->result.number != 0)
		gone(arg, &e->result, place);
	put(t, &e->payload, (struct job_blob){0});
	put(t, &e->result, (struct job_blob){0});
	take_out(t, (size_t)(e - t->entries));
}

void store_blob_table_lose(struct store_blob_table *t, uint64_t job, bool payload, bool result)
{
	struct store_blob_entry *e = t->count > 0 ? &t->entries[place_of(t, job)] : NULL;

	if (!e || e->job == 0)
		return;
	if (payload)
		put(t, &e->payload, (struct job_blob){0});
	if (result)
		put(t, &e->result, (struct job_blob){0});
	if (e->payload.number == 0 && e->result.number == 0)
		take_out(t, (size_t)(e - t->entries));
}

static void add_all(struct store_blob_table *t, struct job_slice entries)
{
	for (size_t at = 0; at < entries.len; at += JOB_BLOBS_ENTRY_BYTES) {
		const uint8_t *from = (const uint8_t *)entries.data + at;
		struct store_blob_entry *e;
		uint64_t job;

		memcpy(&job, from, sizeof(job));
		if (job == 0)
			continue;
		e = need(t, job);
		put(t, &e->payload, job_blob_get(from + 8));
		put(t, &e->result, job_blob_get(from + 8 + JOB_BLOB_BYTES));
	}
}

void store_blob_table_apply(struct store_blob_table *t, const struct job_record *r, uint64_t place,
                            store_blob_gone_function *gone, void *arg)
{
	switch (r->type) {
	case JOB_SUBMIT:
		if (r->flags & JOB_BODY_IN_BLOB)
			put(t, &need(t, r->id)->payload, job_record_blob(r));
		break;
	case JOB_FINISH:
		if (r->flags & JOB_BODY_IN_BLOB)
			put(t, &need(t, r->id)->result, job_record_blob(r));
		if (r->when_ms == 0)
			forget(t, r->id, place, gone, arg);
		break;
	case JOB_REMOVE:
		for (size_t i = 0; t->count > 0 && i < r->body.len / 8; i++) {
			uint64_t id;

			memcpy(&id, (const uint8_t *)r->body.data + i * 8, 8);
			forget(t, id, place, gone, arg);
		}
		break;
	case JOB_BLOBS:
		add_all(t, r->body);
		break;
	default:
		break;
	}
}
