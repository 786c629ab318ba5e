/* src/store/recent.c -- records just written, in memory, so that short-lived jobs never cause a read.
 *
 * A ring of bytes and a ring of entries in the order of places, both of a power of two: every job comes by here, and a division takes longer
 * than the copy of a small one. Who takes jobs in order finds the next entry next to
 * the last one found; others search by halves. See inside.h.
 */
#include "store/inside.h"

enum { BYTES_PER_ENTRY = 128 };

int store_recent_init(struct store_recent *r, uint64_t bytes)
{
	*r = (struct store_recent){.cap = 0};
	if (bytes < 4096)
		return 0;
	r->cap = UINT64_C(1) << (63 - __builtin_clzll(bytes));
	r->entries_cap = r->cap / BYTES_PER_ENTRY;
	r->bytes = malloc(r->cap);
	r->entries = malloc(r->entries_cap * sizeof(r->entries[0]));
	return r->bytes && r->entries ? 0 : -ENOMEM;
}

void store_recent_done(struct store_recent *r)
{
	free(r->bytes);
	free(r->entries);
}

static uint64_t offset(const struct store_recent *r, uint64_t at)
{
	return at & (r->cap - 1);
}

static struct store_recent_entry *entry(const struct store_recent *r, uint64_t number)
{
	return &r->entries[number & (r->entries_cap - 1)];
}

void store_recent_add(struct store_recent *r, uint64_t place, int type, const uint8_t *fixed,
                      size_t fixed_bytes, const struct job_slice *rest, int count)
{
	uint64_t bytes = fixed_bytes, left, at;
	uint8_t *to;

	for (int i = 0; i < count; i++)
		bytes += rest[i].len;
	if (bytes > r->cap / 8)
		return;
	left = r->cap - offset(r, r->end);
	if (left < bytes)
		r->end += left; /* never split */
	at = r->end;
	r->end += bytes;
	while (r->entries_first < r->entries_end && (entry(r, r->entries_first)->at + r->cap < r->end ||
	                                             r->entries_end - r->entries_first == r->entries_cap))
		r->entries_first++;
	*entry(r, r->entries_end++) = (struct store_recent_entry){.place = place,
	                                                          .at = at,
	                                                          .bytes = (uint32_t)bytes,
	                                                          .type = (uint8_t)type,
	                                                          .fixed_bytes = (uint16_t)fixed_bytes};
	to = r->bytes + offset(r, at);
	memcpy(to, fixed, fixed_bytes);
	to += fixed_bytes;
	for (int i = 0; i < count; i++) {
		memcpy(to, rest[i].data, rest[i].len);
		to += rest[i].len;
	}
}

static const struct store_recent_entry *find(struct store_recent *r, uint64_t place)
{
	uint64_t low = r->entries_first, high = r->entries_end;

	for (uint64_t i = r->hint; i < r->hint + 2; i++)
		if (i >= low && i < high && entry(r, i)->place == place) {
			r->hint = i + 1;
			return entry(r, i);
		}
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		if (entry(r, middle)->place < place)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == r->entries_end || entry(r, low)->place != place)
		return NULL;
	r->hint = low + 1;
	return entry(r, low);
}

bool store_recent_bytes(struct store_recent *r, uint64_t place, uint64_t *ret)
{
	const struct store_recent_entry *e = r->entries_cap ? find(r, place) : NULL;

	if (e)
		*ret = e->bytes - e->fixed_bytes;
	return e != NULL;
}

bool store_recent_find(struct store_recent *r, uint64_t place, struct job_record *ret)
{
	const struct store_recent_entry *e = r->entries_cap ? find(r, place) : NULL;
	const uint8_t *bytes;

	if (!e)
		return false;
	bytes = r->bytes + offset(r, e->at);
	return job_record_get(e->type, JOB_RECORD_VERSION, (struct job_slice){bytes, e->fixed_bytes},
	                      (struct job_slice){bytes + e->fixed_bytes, e->bytes - e->fixed_bytes},
	                      ret) == 0;
}
