/* src/job/directory.c -- from a job's id to its slot. See machine.h.
 *
 * Ids rise, so the newest shards are full and dense: 4 bytes an id. When fewer than an eighth of a shard's jobs are
 * left it becomes a small table of 6 bytes an entry, and goes when none is left. A shard that cannot be made smaller
 * for want of memory stays as it is.
 */
#include <errno.h>

#include "job/machine.h"

enum { SHARD_BITS = 16, SHARD_IDS = 1 << SHARD_BITS };

static size_t hash_number(uint64_t number)
{
	return (size_t)((number * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

static struct job_shard **shard_at(const struct job_directory *d, uint64_t number)
{
	size_t mask = d->cap - 1;

	for (size_t i = hash_number(number) & mask;; i = (i + 1) & mask)
		if (!d->table[i] || d->table[i]->number == number)
			return &d->table[i];
}

static struct job_shard *find_shard(const struct job_directory *d, uint64_t number)
{
	if (d->newest && d->newest->number == number)
		return d->newest;
	return d->cap > 0 ? *shard_at(d, number) : NULL;
}

static int grow(struct job_directory *d)
{
	struct job_directory bigger = *d;

	if ((d->count + 2) * 2 <= d->cap)
		return 0;
	bigger.cap = d->cap ? d->cap * 2 : 16;
	bigger.table = calloc(bigger.cap, sizeof(bigger.table[0]));
	if (!bigger.table)
		return -ENOMEM;
	for (size_t i = 0; i < d->cap; i++)
		if (d->table[i])
			*shard_at(&bigger, d->table[i]->number) = d->table[i];
	free(d->table);
	bigger.bytes += (bigger.cap - d->cap) * sizeof(bigger.table[0]);
	*d = bigger;
	return 0;
}

static struct job_shard *new_shard(struct job_directory *d, uint64_t number)
{
	struct job_shard *shard = calloc(1, sizeof(*shard));

	if (!shard)
		return NULL;
	shard->slots = calloc(SHARD_IDS, sizeof(shard->slots[0]));
	if (!shard->slots) {
		free(shard);
		return NULL;
	}
	shard->number = number;
	d->bytes += sizeof(*shard) + SHARD_IDS * sizeof(shard->slots[0]);
	return shard;
}

int job_directory_room(struct job_directory *d, uint64_t first_id, uint64_t count)
{
	for (uint64_t number = first_id >> SHARD_BITS; number <= (first_id + count) >> SHARD_BITS; number++) {
		struct job_shard *shard = find_shard(d, number);

		if (shard && shard->cap == 0)
			continue;
		if (shard) { /* a table: room for all that may come, rare (ids given long after their like) */
			uint32_t *dense = calloc(SHARD_IDS, sizeof(dense[0]));
			if (!dense)
				return -ENOMEM;
			for (uint32_t i = 0; i < shard->cap; i++)
				if (shard->slots[i] != 0)
					dense[shard->keys[i]] = shard->slots[i];
			d->bytes += SHARD_IDS * sizeof(dense[0]) -
			            shard->cap * (sizeof(shard->slots[0]) + sizeof(shard->keys[0]));
			free(shard->slots);
			free(shard->keys);
			shard->slots = dense;
			shard->keys = NULL;
			shard->cap = 0;
			continue;
		}
		if (grow(d) < 0)
			return -ENOMEM;
		shard = new_shard(d, number);
		if (!shard)
			return -ENOMEM;
		*shard_at(d, number) = shard;
		d->count++;
	}
	return 0;
}

static uint32_t key_at(const struct job_shard *shard, uint16_t key)
{
	uint32_t mask = shard->cap - 1;

	for (uint32_t i = (key * 40503u >> 4) & mask;; i = (i + 1) & mask)
		if (shard->slots[i] == 0 || shard->keys[i] == key)
			return i;
}

uint32_t job_directory_find(const struct job_directory *d, uint64_t id)
{
	const struct job_shard *shard = find_shard(d, id >> SHARD_BITS);
	uint16_t key = (uint16_t)(id & (SHARD_IDS - 1));

	if (!shard)
		return 0;
	return shard->slots[shard->cap ? key_at(shard, key) : key];
}

/* Move what is left into a table of at least twice as many places. */
static void shrink(struct job_directory *d, struct job_shard *shard)
{
	struct job_shard small = {.number = shard->number, .live = shard->live, .cap = 16};
	uint32_t end = shard->cap ? shard->cap : SHARD_IDS;

	while (small.cap < shard->live * 2)
		small.cap *= 2;
	small.slots = calloc(small.cap, sizeof(small.slots[0]));
	small.keys = calloc(small.cap, sizeof(small.keys[0]));
	if (!small.slots || !small.keys) {
		free(small.slots);
		free(small.keys);
		return;
	}
	for (uint32_t i = 0; i < end; i++) {
		uint16_t key = shard->cap ? shard->keys[i] : (uint16_t)i;
		uint32_t at;

		if (shard->slots[i] == 0)
			continue;
		at = key_at(&small, key);
		small.slots[at] = shard->slots[i];
		small.keys[at] = key;
	}
	d->bytes -= shard->cap ? shard->cap * 6u : SHARD_IDS * 4u;
	d->bytes += (size_t)small.cap * 6;
	free(shard->slots);
	free(shard->keys);
	*shard = small;
}

static void drop_shard(struct job_directory *d, struct job_shard *shard)
{
	size_t mask = d->cap - 1, hole = (size_t)(shard_at(d, shard->number) - d->table);

	/* close the gap, so that probing never meets a hole within a run */
	for (size_t i = (hole + 1) & mask; d->table[i]; i = (i + 1) & mask) {
		size_t home = hash_number(d->table[i]->number) & mask;
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			d->table[hole] = d->table[i];
			hole = i;
		}
	}
	d->table[hole] = NULL;
	d->count--;
	d->bytes -= sizeof(*shard) + (shard->cap ? shard->cap * 6u : SHARD_IDS * 4u);
	free(shard->slots);
	free(shard->keys);
	free(shard);
}

/* After jobs have left: as small as what is in it. */
static void tidy(struct job_directory *d, struct job_shard *shard)
{
	if (shard->live == 0)
		drop_shard(d, shard);
	else if (shard->cap == 0 ? shard->live < SHARD_IDS / 8
	                         : shard->cap > 16 && shard->live < shard->cap / 8)
		shrink(d, shard);
}

void job_directory_add(struct job_directory *d, uint64_t id, uint32_t slot)
{
	struct job_shard *shard = find_shard(d, id >> SHARD_BITS);

	assert(shard && shard->cap == 0 && shard->slots[id & (SHARD_IDS - 1)] == 0);
	shard->slots[id & (SHARD_IDS - 1)] = slot;
	shard->live++;
	if (!d->newest || d->newest->number < shard->number) {
		struct job_shard *before = d->newest;

		d->newest = shard;
		if (before)
			tidy(d, before);
	}
}

/* Twice as many places in a table, or all of them when a table would not be smaller. */
static int widen(struct job_directory *d, struct job_shard *shard)
{
	struct job_shard wide = {.number = shard->number, .live = shard->live, .cap = shard->cap * 2};
	uint32_t size = wide.cap * 6 >= SHARD_IDS * 4u ? SHARD_IDS : wide.cap;

	if (size == SHARD_IDS)
		wide.cap = 0;
	wide.slots = calloc(size, sizeof(wide.slots[0]));
	wide.keys = wide.cap ? calloc(size, sizeof(wide.keys[0])) : NULL;
	if (!wide.slots || (wide.cap && !wide.keys)) {
		free(wide.slots);
		free(wide.keys);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < shard->cap; i++) {
		uint32_t at;

		if (shard->slots[i] == 0)
			continue;
		at = wide.cap ? key_at(&wide, shard->keys[i]) : shard->keys[i];
		wide.slots[at] = shard->slots[i];
		if (wide.cap)
			wide.keys[at] = shard->keys[i];
	}
	d->bytes += (wide.cap ? wide.cap * 6u : SHARD_IDS * 4u) - (size_t)shard->cap * 6;
	free(shard->slots);
	free(shard->keys);
	*shard = wide;
	return 0;
}

static struct job_shard *new_table(struct job_directory *d, uint64_t number)
{
	struct job_shard *shard = grow(d) < 0 ? NULL : calloc(1, sizeof(*shard));

	if (!shard)
		return NULL;
	*shard = (struct job_shard){.number = number,
	                            .cap = 16,
	                            .slots = calloc(16, sizeof(shard->slots[0])),
	                            .keys = calloc(16, sizeof(shard->keys[0]))};
	if (!shard->slots || !shard->keys) {
		free(shard->slots);
		free(shard->keys);
		free(shard);
		return NULL;
	}
	d->bytes += sizeof(*shard) + 16 * 6;
	*shard_at(d, number) = shard;
	d->count++;
	return shard;
}

int job_directory_put(struct job_directory *d, uint64_t id, uint32_t slot)
{
	uint16_t key = (uint16_t)(id & (SHARD_IDS - 1));
	struct job_shard *shard = find_shard(d, id >> SHARD_BITS);
	uint32_t at;

	if (!shard)
		shard = new_table(d, id >> SHARD_BITS);
	if (!shard || (shard->cap > 0 && shard->live * 2 >= shard->cap && widen(d, shard) < 0))
		return -ENOMEM;
	if (shard->cap > 0) {
		at = key_at(shard, key);
		shard->keys[at] = key;
	} else {
		at = key;
	}
	shard->slots[at] = slot;
	shard->live++;
	d->newest = shard; /* so that it is found at once: ids near each other come together */
	return 0;
}

static int by_number(const void *a, const void *b)
{
	const struct job_shard *const *x = a, *const *y = b;

	return (*x)->number < (*y)->number ? -1 : (*x)->number > (*y)->number;
}

struct key_slot {
	uint16_t key;
	uint32_t slot;
};

static int by_key(const void *a, const void *b)
{
	return (int)((const struct key_slot *)a)->key - (int)((const struct key_slot *)b)->key;
}

static int each_of_table(const struct job_shard *shard, void (*each)(void *arg, uint32_t slot), void *arg)
{
	struct key_slot *all = malloc(shard->live * sizeof(all[0]));
	uint32_t count = 0;

	if (!all)
		return -ENOMEM;
	for (uint32_t i = 0; i < shard->cap; i++)
		if (shard->slots[i] != 0)
			all[count++] = (struct key_slot){shard->keys[i], shard->slots[i]};
	qsort(all, count, sizeof(all[0]), by_key);
	for (uint32_t i = 0; i < count; i++)
		each(arg, all[i].slot);
	free(all);
	return 0;
}

int job_directory_each(struct job_directory *d, uint64_t next, void (*each)(void *arg, uint32_t slot),
                       void *arg)
{
	struct job_shard **shards = malloc((d->count + 1) * sizeof(shards[0]));
	size_t count = 0;
	int error = 0;

	if (!shards)
		return -ENOMEM;
	for (size_t i = 0; i < d->cap; i++)
		if (d->table[i])
			shards[count++] = d->table[i];
	qsort(shards, count, sizeof(shards[0]), by_number);
	for (size_t i = 0; i < count && error == 0; i++) {
		if (shards[i]->cap > 0) {
			error = each_of_table(shards[i], each, arg);
			continue;
		}
		for (uint32_t k = 0; k < SHARD_IDS; k++)
			if (shards[i]->slots[k] != 0)
				each(arg, shards[i]->slots[k]);
	}
	/* the newest one may be any: job_directory_add() goes by its number */
	d->newest = count > 0 && shards[count - 1]->number <= next >> SHARD_BITS ? shards[count - 1] : NULL;
	free(shards);
	return error;
}

void job_directory_remove(struct job_directory *d, uint64_t id)
{
	struct job_shard *shard = find_shard(d, id >> SHARD_BITS);
	uint16_t key = (uint16_t)(id & (SHARD_IDS - 1));

	assert(shard && shard->live > 0);
	shard->live--;
	if (shard->cap == 0) {
		shard->slots[key] = 0;
	} else {
		uint32_t mask = shard->cap - 1, hole = key_at(shard, key);

		for (uint32_t i = (hole + 1) & mask; shard->slots[i] != 0; i = (i + 1) & mask) {
			uint32_t home = (shard->keys[i] * 40503u >> 4) & mask;
			if (((i - home) & mask) >= ((i - hole) & mask)) {
				shard->slots[hole] = shard->slots[i];
				shard->keys[hole] = shard->keys[i];
				hole = i;
			}
		}
		shard->slots[hole] = 0;
	}
	if (shard != d->newest) /* which will be filled further */
		tidy(d, shard);
}

void job_directory_done(struct job_directory *d)
{
	for (size_t i = 0; i < d->cap; i++) {
		if (!d->table[i])
			continue;
		free(d->table[i]->slots);
		free(d->table[i]->keys);
		free(d->table[i]);
	}
	free(d->table);
	*d = (struct job_directory){0};
}
