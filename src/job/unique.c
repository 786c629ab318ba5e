/* src/job/unique.c -- unique keys: which job has which, so that a second submit is answered with it. See machine.h.
 *
 * A key is known by 128 bits of its hash, together with the name of its queue. Keys that hold for a time outlive their job, and
 * a queue that is removed and made again; they pass by themselves, and no record says so.
 */
#include <errno.h>
#include <xxhash.h>

#include "job/machine.h"

void job_unique_hash(const struct job_queue *q, struct job_slice key, uint64_t ret[2])
{
	XXH128_hash_t hash = XXH3_128bits_withSeed(key.data, key.len, XXH3_64bits(q->name, q->name_len));

	ret[0] = hash.low64;
	ret[1] = hash.high64;
}

static int64_t until_key(const struct job_machine *m, uint32_t unique, uint32_t **ret_at)
{
	*ret_at = &job_unique(m, unique)->until_at;
	return job_unique(m, unique)->until_ms;
}

int job_unique_room(struct job_machine *m, uint64_t count)
{
	if (job_pool_room(&m->uniques, count) < 0 || job_heap_room(&m->untils, m->uniques.used + count) < 0)
		return -ENOMEM;
	return job_table_room(&m->unique_table, &m->uniques, count);
}

/* From one on in its chain, who holds the key; 0: nobody. */
static uint32_t next_holder(const struct job_machine *m, uint32_t number, const uint64_t hash[2])
{
	for (; number != 0; number = job_unique(m, number)->next) {
		const struct job_unique *u = job_unique(m, number);

		if (u->held && u->hash[0] == hash[0] && u->hash[1] == hash[1])
			return number;
	}
	return 0;
}

static uint32_t first_holder(const struct job_machine *m, const uint64_t hash[2])
{
	return m->unique_table.cap > 0 ? next_holder(m, *job_table_chain(&m->unique_table, hash), hash) : 0;
}

const struct job_unique *job_unique_holder(const struct job_machine *m, const uint64_t hash[2],
                                           int64_t now_ms)
{
	uint32_t number = first_holder(m, hash);

	for (; number != 0; number = next_holder(m, job_unique(m, number)->next, hash)) {
		const struct job_unique *u = job_unique(m, number);

		if (u->until_ms == 0 || u->until_ms > now_ms)
			return u;
	}
	return NULL;
}

/* Which job holds the key, keys that hold for a time not counted: what they do depends on the clock, and this must not. 0: none. */
static uint32_t first_of_jobs(const struct job_machine *m, const uint64_t hash[2])
{
	uint32_t number = first_holder(m, hash);

	while (number != 0 && job_unique(m, number)->until_ms != 0)
		number = next_holder(m, job_unique(m, number)->next, hash);
	return number;
}

uint32_t job_unique_add(struct job_machine *m, const struct job_unique_entry *entry, bool queued, bool held)
{
	uint32_t before = held ? first_of_jobs(m, entry->hash) : 0, number = job_pool_take(&m->uniques);
	uint32_t *chain = job_table_chain(&m->unique_table, entry->hash);
	struct job_unique *u = job_unique(m, number);

	if (before != 0 && entry->until_ms == 0)
		job_unique(m, before)->held = false; /* what ended it is lost: the log is being repaired */
	*u = (struct job_unique){.next = *chain,
	                         .hash = {entry->hash[0], entry->hash[1]},
	                         .id = entry->id,
	                         .until_ms = entry->until_ms,
	                         .queued = queued,
	                         .held = held};
	*chain = number;
	if (u->until_ms != 0) {
		job_heap_add(m, &m->untils, until_key, number);
		if (m->snapshot)
			job_snapshot_skip_unique(m, number);
	}
	return number;
}

void job_unique_remove(struct job_machine *m, uint32_t number)
{
	struct job_unique *u = job_unique(m, number);

	if (u->until_ms != 0) {
		if (m->snapshot)
			job_snapshot_keep_unique(m, number);
		job_heap_remove(m, &m->untils, until_key, number);
	}
	job_table_remove(&m->unique_table, &m->uniques, number);
	job_pool_give(&m->uniques, number);
}

void job_unique_hold(struct job_machine *m, uint32_t number, bool held)
{
	struct job_unique *u = job_unique(m, number);

	u->held = held && (u->held || first_of_jobs(m, u->hash) == 0);
}

bool job_unique_pass(struct job_machine *m, int64_t now_ms)
{
	if (m->untils.count == 0 || job_unique(m, m->untils.all[1])->until_ms > now_ms)
		return false;
	job_unique_remove(m, m->untils.all[1]);
	return true;
}

/* Those that have not passed, in no order. */
uint64_t job_uniques_fingerprint(const struct job_machine *m, int64_t now_ms)
{
	uint64_t sum = 0;

	for (uint32_t i = 1; i <= m->untils.count; i++) {
		const struct job_unique *u = job_unique(m, m->untils.all[i]);
		uint64_t words[4] = {u->hash[0], u->hash[1], u->id, (uint64_t)u->until_ms};

		if (u->until_ms > now_ms)
			sum += XXH3_64bits(words, sizeof(words));
	}
	return sum;
}

bool job_uniques_sound(const struct job_machine *m)
{
	uint64_t used = 0;

	for (uint32_t i = 0; i < m->unique_table.cap; i++) {
		for (uint32_t number = m->unique_table.chains[i]; number != 0;
		     number = job_unique(m, number)->next) {
			const struct job_unique *u = job_unique(m, number);

			used++;
			if (u->held && u->until_ms == 0 && first_of_jobs(m, u->hash) != number)
				return false;
			if (u->until_ms != 0 ? u->until_at == 0 || m->untils.all[u->until_at] != number
			                     : job_find(m, u->id) == 0)
				return false;
		}
	}
	return used == m->uniques.used;
}
