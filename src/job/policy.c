/* src/job/policy.c -- what few jobs have: a group, a unique key, an instant to be begun by, a queue that they come from. See machine.h.
 *
 * Everything follows from the job's state, which apply.c changes in one place: job_policy_state() is told there.
 */
#include <errno.h>
#include <xxhash.h>

#include "job/machine.h"

static int64_t expiry_key(const struct job_machine *m, uint32_t policy, uint32_t **ret_at)
{
	*ret_at = &job_policy(m, policy)->expiry_at;
	return job_policy(m, policy)->expires_ms;
}

void job_policies_init(struct job_machine *m)
{
	m->policies.each = sizeof(struct job_policy);
	m->groups.each = sizeof(struct job_group);
	m->uniques.each = sizeof(struct job_unique);
	m->buckets.each = sizeof(struct job_bucket);
	m->buckets_now_ms = INT64_MAX;
	job_joins_init(m);
}

void job_policies_done(struct job_machine *m)
{
	job_pool_done(&m->policies);
	job_pool_done(&m->groups);
	job_pool_done(&m->uniques);
	job_pool_done(&m->buckets);
	job_joins_done(m);
	free(m->group_table.chains);
	free(m->unique_table.chains);
	free(m->bucket_table.chains);
	free(m->expiries.all);
	free(m->untils.all);
	free(m->wakes.all);
}

uint64_t job_policies_bytes(const struct job_machine *m)
{
	return job_pool_bytes(&m->policies) + job_pool_bytes(&m->groups) + job_pool_bytes(&m->uniques) +
	       job_pool_bytes(&m->buckets) + job_joins_bytes(m) +
	       4 * ((uint64_t)m->group_table.cap + m->unique_table.cap + m->bucket_table.cap +
	            m->expiries.cap + m->untils.cap + m->wakes.cap);
}

int job_policy_room(struct job_machine *m, uint64_t count)
{
	if (job_pool_room(&m->policies, count) < 0 || job_heap_room(&m->expiries, m->expiring + count) < 0)
		return -ENOMEM;
	return job_group_room(m, count);
}

struct job_policy *job_policy_need(struct job_machine *m, uint32_t slot)
{
	struct job_ext *e = job_ext_need(m, job_slot(m, slot));

	if (e->policy == 0) {
		e->policy = job_pool_take(&m->policies);
		job_policy(m, e->policy)->slot = slot;
	}
	return job_policy(m, e->policy);
}

static void set_expiry(struct job_machine *m, struct job_policy *p, int64_t expires_ms)
{
	m->expiring += expires_ms != 0;
	m->expiring -= p->expires_ms != 0;
	p->expires_ms = expires_ms;
}

/* Should it stand among those that are to be begun in time? */
static void watch_expiry(struct job_machine *m, struct job_policy *p, uint32_t state)
{
	const struct job_slot *s = job_slot(m, p->slot);
	bool waits =
		p->expires_ms != 0 && s->attempts == 0 &&
		(state == JOB_READY || state == JOB_DELAYED || state == JOB_BURIED || state == JOB_AWAITING);

	if (waits == (p->expiry_at != 0))
		return;
	if (waits)
		job_heap_add(m, &m->expiries, expiry_key, job_ext(m, s->ext)->policy);
	else
		job_heap_remove(m, &m->expiries, expiry_key, job_ext(m, s->ext)->policy);
}

/* ---- the life of a job ------------------------------------------------------------------- */

void job_policy_submit(struct job_machine *m, uint32_t slot, const struct job_record *r)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_unique_entry key = {.id = r->id};

	if (r->expires_ms != 0)
		set_expiry(m, job_policy_need(m, slot), job_clamp_ms(r->expires_ms));
	if (r->group.len > 0) {
		XXH128_hash_t hash = XXH3_128bits(r->group.data, r->group.len);

		job_group_join(m, job_policy_need(m, slot), (uint64_t[2]){hash.low64, hash.high64});
	}
	if (r->unique.len == 0)
		return;
	job_unique_hash(job_slot_queue(m, s), r->unique, key.hash);
	if (r->unique_while_ms > 0) {
		key.until_ms = job_clamp_ms(r->at_ns / 1000000 + r->unique_while_ms);
		job_unique_add(m, &key, false, true);
	} else {
		/* a job that comes back from its end has its key again, unless another one has it now */
		uint32_t number = job_unique_add(m, &key, r->unique_while_ms == JOB_UNIQUE_QUEUED,
		                                 r->type == JOB_SUBMIT);

		job_unique_hold(m, number, true);
		job_policy_need(m, slot)->unique = number;
	}
}

static bool waits(uint32_t state)
{
	return state == JOB_READY || state == JOB_DELAYED;
}

void job_policy_state(struct job_machine *m, uint32_t slot, uint32_t state)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_policy *p = job_slot_policy(m, s);

	if (p->unique != 0 && job_unique(m, p->unique)->queued)
		job_unique_hold(m, p->unique, state != JOB_RUNNING);
	watch_expiry(m, p, state);
	if (p->group == 0)
		return;
	if ((p->flags & JOB_GROUP_LISTED) && !waits(state))
		job_group_unlist(m, p);
	job_group(m, p->group)->running += state == JOB_RUNNING;
	job_group(m, p->group)->running -= s->state == JOB_RUNNING;
	if (!(p->flags & JOB_GROUP_LISTED) && waits(state))
		job_group_list(m, p);
	job_group_settle(m, p->group);
}

/* Out of its group, whatever it is doing there. */
static void quit_group(struct job_machine *m, struct job_policy *p)
{
	uint32_t group = p->group;

	if (group == 0)
		return;
	if (p->flags & JOB_GROUP_LISTED)
		job_group_unlist(m, p);
	job_group(m, group)->running -= job_slot(m, p->slot)->state == JOB_RUNNING;
	if (job_group(m, group)->members > 1)
		job_group_settle(m, group);
	job_group_quit(m, p);
}

void job_policy_end(struct job_machine *m, uint32_t slot)
{
	struct job_ext *e = job_slot_ext(m, job_slot(m, slot));
	struct job_policy *p = job_policy(m, e->policy);
	struct job_queue *from = p->dead_from ? m->queues[p->dead_from] : NULL;

	if (from && m->snapshot)
		job_snapshot_keep_queue(m, from);
	job_join_drop(m, p);
	set_expiry(m, p, 0);
	watch_expiry(m, p, JOB_NONE);
	if (p->unique != 0)
		job_unique_remove(m, p->unique);
	quit_group(m, p);
	job_pool_give(&m->policies, e->policy);
	e->policy = 0;
	if (from) {
		from->dead_alive--;
		job_queue_free_if_gone(m, from);
	}
}

void job_policy_leave(struct job_machine *m, uint32_t slot, bool dead, uint64_t group[2])
{
	struct job_policy *p = job_policy_need(m, slot);

	group[0] = group[1] = 0;
	if (dead)
		set_expiry(m, p, 0);
	if (p->unique != 0)
		job_unique_remove(m, p->unique);
	p->unique = 0;
	if (p->group != 0)
		memcpy(group, job_group(m, p->group)->hash, sizeof(job_group(m, p->group)->hash));
	quit_group(m, p);
	if (dead && p->dead_from == 0) { /* where it failed first */
		p->dead_from = job_slot(m, slot)->queue & 0xffffff;
		m->queues[p->dead_from]->dead_alive++;
	}
}

void job_policy_arrive(struct job_machine *m, uint32_t slot, const uint64_t group[2])
{
	struct job_policy *p = job_policy_need(m, slot);
	struct job_queue *q = job_slot_queue(m, job_slot(m, slot));

	if (group[0] != 0 || group[1] != 0)
		job_group_join(m, p, group);
	if (p->dead_from == q->number) { /* back where it came from */
		p->dead_from = 0;
		q->dead_alive--;
	}
}

void job_policy_expire(struct job_machine *m, uint32_t slot, int64_t expires_ms)
{
	struct job_policy *p = job_slot_policy(m, job_slot(m, slot));

	if (!p && expires_ms == 0)
		return;
	p = job_policy_need(m, slot);
	if (p->expiry_at != 0)
		job_heap_remove(m, &m->expiries, expiry_key, job_ext(m, job_slot(m, slot)->ext)->policy);
	set_expiry(m, p, job_clamp_ms(expires_ms));
	watch_expiry(m, p, job_slot(m, slot)->state);
}

/* ---- time -------------------------------------------------------------------------------- */

uint32_t job_policy_due(const struct job_machine *m, int64_t now_ms)
{
	const struct job_policy *p = m->expiries.count > 0 ? job_policy(m, m->expiries.all[1]) : NULL;

	return p && p->expires_ms <= now_ms ? p->slot : 0;
}

bool job_late(const struct job_machine *m, int64_t now_ms)
{
	return job_policy_due(m, now_ms) != 0;
}

int64_t job_policies_next(const struct job_machine *m)
{
	int64_t next = m->expiries.count > 0 ? job_policy(m, m->expiries.all[1])->expires_ms : INT64_MAX;
	int64_t until = m->untils.count > 0 ? job_unique(m, m->untils.all[1])->until_ms : INT64_MAX;
	int64_t bucket = job_bucket_next(m);

	next = until < next ? until : next;
	return bucket < next ? bucket : next;
}

/* ---- checkpoints ------------------------------------------------------------------------- */

void job_policy_save(const struct job_machine *m, const struct job_policy *p, struct job_entry *entry)
{
	entry->expires_ms = p->expires_ms;
	entry->dead_from = p->dead_from;
	if (p->unique != 0) {
		const struct job_unique *u = job_unique(m, p->unique);

		memcpy(entry->unique, u->hash, sizeof(entry->unique));
		entry->policy_flags |= JOB_POLICY_UNIQUE | (u->queued ? JOB_POLICY_UNIQUE_QUEUED : 0u) |
		                       (u->held ? JOB_POLICY_UNIQUE_HELD : 0u);
	}
	if (p->group != 0) {
		memcpy(entry->group, job_group(m, p->group)->hash, sizeof(entry->group));
		entry->policy_flags |= JOB_POLICY_GROUP;
	}
}

void job_policy_load(struct job_machine *m, uint32_t slot, const struct job_entry *entry)
{
	struct job_policy *p = job_policy_need(m, slot);
	struct job_unique_entry key = {.hash = {entry->unique[0], entry->unique[1]}, .id = entry->id};

	set_expiry(m, p, entry->expires_ms);
	watch_expiry(m, p, entry->state);
	p->dead_from = entry->dead_from & 0xffffff;
	if (p->dead_from != 0)
		m->queues[p->dead_from]->dead_alive++;
	if (entry->policy_flags & JOB_POLICY_UNIQUE)
		p->unique = job_unique_add(m, &key, entry->policy_flags & JOB_POLICY_UNIQUE_QUEUED,
		                           entry->policy_flags & JOB_POLICY_UNIQUE_HELD);
	if (entry->policy_flags & JOB_POLICY_GROUP)
		job_group_join(m, p, entry->group);
}

/* ---- scrubbing --------------------------------------------------------------------------- */

bool job_policy_sound(const struct job_machine *m, const struct job_slot *s)
{
	const struct job_policy *p = job_slot_policy(m, s);
	bool waiting = s->state != JOB_RUNNING && s->attempts == 0;

	if (!p)
		return s->where != JOB_AT_GROUP;
	return job_slot(m, p->slot) == s && (p->expiry_at != 0) == (p->expires_ms != 0 && waiting) &&
	       (p->expiry_at == 0 || m->expiries.all[p->expiry_at] == job_ext(m, s->ext)->policy) &&
	       (p->unique == 0 || (job_unique(m, p->unique)->id == job_slot_id(s) &&
	                           job_unique(m, p->unique)->until_ms == 0)) &&
	       (p->group == 0 || ((p->flags & JOB_GROUP_LISTED) != 0) == waits(s->state)) &&
	       (p->group != 0 || s->where != JOB_AT_GROUP);
}

uint64_t job_policy_fingerprint(const struct job_machine *m, const struct job_policy *p)
{
	struct job_entry entry = {0};
	uint64_t words[7];

	if (!p)
		return 0;
	job_policy_save(m, p, &entry);
	words[0] = entry.unique[0];
	words[1] = entry.unique[1];
	words[2] = entry.group[0];
	words[3] = entry.group[1];
	words[4] = (uint64_t)entry.expires_ms;
	words[5] = entry.dead_from;
	words[6] = entry.policy_flags | (p->group ? (uint64_t)job_group(m, p->group)->running << 32 : 0);
	return XXH3_64bits(words, sizeof(words));
}
