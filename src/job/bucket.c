/* src/job/bucket.c -- how many jobs of a group are begun in which time. See machine.h, limit.c.
 *
 * A bucket is one instant, as a queue's is: that at which it would be full again. It outlives the group, which is gone with its last job,
 * until then; so who hands over one job after another of the same group gets no second burst. While it is too empty for a job, it rests: its
 * group has no open job (group.c). It is a record of its own after each claim; that it is full, or full enough, again is a matter of time
 * that no record tells.
 *
 * After a start each rests until job_advance() has looked at the clock.
 */
#include <errno.h>
#include <xxhash.h>

#include "job/machine.h"

#define NS_PER_MS INT64_C(1000000)

static const struct job_rate *rate_of(const struct job_machine *m, const struct job_bucket *b)
{
	return &m->queues[b->queue]->config.group_rate;
}

/* From when on is there enough for one more? */
static int64_t enough_ns(const struct job_rate *rate, int64_t full_ns)
{
	return full_ns + job_rate_one(rate) - job_rate_burst(rate);
}

static int64_t ceil_ms(int64_t ns)
{
	return ns <= 0 ? 0 : job_clamp_ms((ns + NS_PER_MS - 1) / NS_PER_MS);
}

static int64_t wake_key(const struct job_machine *m, uint32_t number, uint32_t **ret_at)
{
	struct job_bucket *b = job_bucket(m, number);

	*ret_at = &b->wake_at;
	return b->wake_ms;
}

/* ---- the table --------------------------------------------------------------------------- */

int job_bucket_room(struct job_machine *m, uint64_t count)
{
	if (job_pool_room(&m->buckets, count) < 0 || job_heap_room(&m->wakes, m->buckets.used + count) < 0)
		return -ENOMEM;
	return job_table_room(&m->bucket_table, &m->buckets, count);
}

uint32_t job_bucket_find(const struct job_machine *m, uint32_t queue, const uint64_t hash[2])
{
	return job_table_find(&m->bucket_table, &m->buckets, queue, hash);
}

static uint32_t add(struct job_machine *m, uint32_t queue, const uint64_t hash[2])
{
	uint32_t *chain = job_table_chain(&m->bucket_table, hash), number = job_pool_take(&m->buckets);
	uint32_t group = job_group_find(m, queue, hash);

	*job_bucket(m, number) =
		(struct job_bucket){.next = *chain, .queue = queue, .hash = {hash[0], hash[1]}};
	*chain = number;
	if (group != 0)
		job_group(m, group)->bucket = number;
	if (m->snapshot)
		job_snapshot_skip_bucket(m, number);
	return number;
}

static void drop(struct job_machine *m, uint32_t number)
{
	struct job_bucket *b = job_bucket(m, number);
	uint32_t group = job_group_find(m, b->queue, b->hash);

	if (m->snapshot)
		job_snapshot_keep_bucket(m, number);
	job_heap_remove(m, &m->wakes, wake_key, number);
	job_table_remove(&m->bucket_table, &m->buckets, number);
	job_pool_give(&m->buckets, number);
	if (group == 0)
		return;
	job_group(m, group)->bucket = 0;
	job_group_settle(m, group);
}

/* It is full at full_ns, and rests or does not. */
static void set(struct job_machine *m, uint32_t number, int64_t full_ns, bool rests)
{
	struct job_bucket *b = job_bucket(m, number);
	uint32_t group = job_group_find(m, b->queue, b->hash);

	if (b->wake_at != 0) {
		if (m->snapshot)
			job_snapshot_keep_bucket(m, number);
		job_heap_remove(m, &m->wakes, wake_key, number);
	}
	b->full_ns = full_ns;
	b->rests = rests;
	b->wake_ms = ceil_ms(rests ? enough_ns(rate_of(m, b), full_ns) : full_ns);
	job_heap_add(m, &m->wakes, wake_key, number);
	if (group != 0)
		job_group_settle(m, group);
}

void job_buckets_drop(struct job_machine *m, const struct job_queue *q)
{
	for (uint32_t number = 1; number < m->buckets.end; number++)
		if (job_bucket(m, number)->wake_at != 0 && job_bucket(m, number)->queue == q->number)
			drop(m, number);
}

/* ---- what jobs take ---------------------------------------------------------------------- */

int job_check_group_rate(const struct job_machine *m, uint64_t id, int64_t now_ns, struct job_record *r)
{
	uint32_t slot = job_find(m, id);
	const struct job_policy *p = slot ? job_slot_policy(m, job_slot(m, slot)) : NULL;
	const struct job_group *g = p && p->group != 0 ? job_group(m, p->group) : NULL;
	const struct job_rate *rate = g ? &m->queues[g->queue]->config.group_rate : NULL;
	int64_t full_ns = now_ns;

	*r = (struct job_record){0};
	if (!rate || rate->count == 0)
		return 0;
	if (g->bucket != 0 && job_bucket(m, g->bucket)->full_ns > now_ns)
		full_ns = job_bucket(m, g->bucket)->full_ns;
	full_ns += job_rate_one(rate);
	*r = (struct job_record){.type = JOB_GROUP_RATE,
	                         .flags = enough_ns(rate, full_ns) > now_ns ? JOB_GROUP_RESTS : 0,
	                         .queue = g->queue,
	                         .at_ns = full_ns,
	                         .body = {g->hash, sizeof(g->hash)}};
	return 0;
}

void job_bucket_apply(struct job_machine *m, const struct job_record *r)
{
	uint64_t hash[2];
	uint32_t number;

	if (m->queues[r->queue]->config.group_rate.count == 0)
		return; /* the record that says otherwise is lost: the log is being repaired */
	memcpy(hash, r->body.data, sizeof(hash));
	number = job_bucket_find(m, r->queue, hash);
	if (number == 0)
		number = add(m, r->queue, hash);
	set(m, number, r->at_ns, (r->flags & JOB_GROUP_RESTS) != 0);
}

void job_bucket_give_back(struct job_machine *m, const struct job_slot *s)
{
	const struct job_policy *p = job_slot_policy(m, s);
	uint32_t number = p && p->group != 0 ? job_group(m, p->group)->bucket : 0;
	const struct job_bucket *b = number ? job_bucket(m, number) : NULL;

	if (b)
		set(m, number, b->full_ns - job_rate_one(rate_of(m, b)), b->rests);
}

/* ---- time -------------------------------------------------------------------------------- */

/* No emptier than empty, when the clock was a later one before. */
static void empty(struct job_machine *m, int64_t now_ms)
{
	for (uint32_t number = 1; number < m->buckets.end; number++) {
		struct job_bucket *b = job_bucket(m, number);
		int64_t latest_ns;

		if (b->wake_at == 0)
			continue;
		latest_ns = now_ms * NS_PER_MS + job_rate_burst(rate_of(m, b));
		if (b->full_ns > latest_ns)
			set(m, number, latest_ns, true);
	}
}

bool job_bucket_pass(struct job_machine *m, int64_t now_ms)
{
	uint32_t number;

	if (now_ms < m->buckets_now_ms)
		empty(m, now_ms);
	m->buckets_now_ms = now_ms;
	number = m->wakes.count > 0 ? m->wakes.all[1] : 0;
	if (number == 0 || job_bucket_next(m) > now_ms)
		return false;
	if (job_bucket(m, number)->rests)
		set(m, number, job_bucket(m, number)->full_ns, false);
	else
		drop(m, number);
	return true;
}

int64_t job_bucket_next(const struct job_machine *m)
{
	return m->wakes.count > 0 ? job_bucket(m, m->wakes.all[1])->wake_ms : INT64_MAX;
}

/* ---- checkpoints ------------------------------------------------------------------------- */

void job_bucket_save(const struct job_machine *m, uint32_t number, struct job_bucket_entry *entry)
{
	const struct job_bucket *b = job_bucket(m, number);

	*entry = (struct job_bucket_entry){
		.hash = {b->hash[0], b->hash[1]}, .full_ns = b->full_ns, .queue = b->queue};
}

int job_bucket_load(struct job_machine *m, const struct job_bucket_entry *entry)
{
	const struct job_queue *q = job_queue_at(m, entry->queue);

	if (!q || q->gone || q->config.group_rate.count == 0 ||
	    job_bucket_find(m, entry->queue, entry->hash) != 0)
		return -EPROTO;
	if (job_bucket_room(m, 1) < 0)
		return -ENOMEM;
	set(m, add(m, entry->queue, entry->hash), entry->full_ns, true);
	return 0;
}

/* Those that are not full, in no order. */
uint64_t job_buckets_fingerprint(const struct job_machine *m, int64_t now_ms)
{
	uint64_t sum = 0;

	for (uint32_t i = 1; i <= m->wakes.count; i++) {
		const struct job_bucket *b = job_bucket(m, m->wakes.all[i]);
		uint64_t words[4] = {b->hash[0], b->hash[1], b->queue, (uint64_t)b->full_ns};

		if (b->full_ns > now_ms * NS_PER_MS)
			sum += XXH3_64bits(words, sizeof(words));
	}
	return sum;
}

/* ---- scrubbing --------------------------------------------------------------------------- */

bool job_buckets_sound(const struct job_machine *m)
{
	uint64_t used = 0;

	for (uint32_t i = 0; i < m->bucket_table.cap; i++) {
		for (uint32_t number = m->bucket_table.chains[i]; number != 0;
		     number = job_bucket(m, number)->next) {
			const struct job_bucket *b = job_bucket(m, number);
			uint32_t group = job_group_find(m, b->queue, b->hash);

			used++;
			if (b->wake_at == 0 || m->wakes.all[b->wake_at] != number ||
			    !job_queue_at(m, b->queue) || rate_of(m, b)->count == 0 ||
			    (group != 0 && job_group(m, group)->bucket != number))
				return false;
		}
	}
	return used == m->buckets.used && used == m->wakes.count;
}
