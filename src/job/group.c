/* src/job/group.c -- jobs of a queue that run in their order, and one (or so many) at a time. See machine.h.
 *
 * A group's waiting jobs, delayed ones too, are listed by their ids. The first of them are open, as many as may run beside those that
 * run, and none while the group's rate has to rest (bucket.c); only an open job stands among the ready ones of its queue. So a job that waits for its next attempt
 * keeps those behind it back, and choosing the next job knows nothing of groups. Cost: O(1), but for a job that comes back
 * out of turn (kicked), which looks for its place from both ends.
 */
#include <errno.h>

#include "job/machine.h"

static struct job_policy *policy_of(const struct job_machine *m, uint32_t slot)
{
	return job_slot_policy(m, job_slot(m, slot));
}

/* ---- the table --------------------------------------------------------------------------- */

int job_group_room(struct job_machine *m, uint64_t count)
{
	if (job_pool_room(&m->groups, count) < 0)
		return -ENOMEM;
	return job_table_room(&m->group_table, &m->groups, count);
}

uint32_t job_group_find(const struct job_machine *m, uint32_t queue, const uint64_t hash[2])
{
	return job_table_find(&m->group_table, &m->groups, queue, hash);
}

void job_group_join(struct job_machine *m, struct job_policy *p, const uint64_t hash[2])
{
	uint32_t queue = job_slot(m, p->slot)->queue, *chain = job_table_chain(&m->group_table, hash);
	uint32_t number = job_group_find(m, queue, hash);

	if (number == 0) {
		number = job_pool_take(&m->groups);
		*job_group(m, number) = (struct job_group){.next = *chain,
		                                           .queue = queue,
		                                           .hash = {hash[0], hash[1]},
		                                           .bucket = job_bucket_find(m, queue, hash)};
		*chain = number;
	}
	job_group(m, number)->members++;
	p->group = number;
}

void job_group_quit(struct job_machine *m, struct job_policy *p)
{
	struct job_group *g = job_group(m, p->group);
	uint32_t number = p->group;

	p->group = 0;
	if (--g->members > 0)
		return;
	job_table_remove(&m->group_table, &m->groups, number);
	job_pool_give(&m->groups, number);
}

/* ---- the list ---------------------------------------------------------------------------- */

/* The slot after which it belongs; 0: it is the first. */
static uint32_t place_of(const struct job_machine *m, const struct job_group *g, uint64_t id)
{
	uint32_t before = g->last, after = g->first;

	while (before != 0 && job_slot_id(job_slot(m, before)) > id) {
		if (job_slot_id(job_slot(m, after)) > id)
			return policy_of(m, after)->prev;
		before = policy_of(m, before)->prev;
		after = policy_of(m, after)->next;
	}
	return before;
}

void job_group_list(struct job_machine *m, struct job_policy *p)
{
	struct job_group *g = job_group(m, p->group);
	uint64_t id = job_slot_id(job_slot(m, p->slot));

	p->prev = place_of(m, g, id);
	p->next = p->prev ? policy_of(m, p->prev)->next : g->first;
	*(p->prev ? &policy_of(m, p->prev)->next : &g->first) = p->slot;
	*(p->next ? &policy_of(m, p->next)->prev : &g->last) = p->slot;
	job_policy_flag(p, JOB_GROUP_LISTED);
	if (g->open_last != 0 && id < job_slot_id(job_slot(m, g->open_last))) {
		job_policy_flag(p, JOB_GROUP_OPEN);
		g->open++;
	}
}

void job_group_unlist(struct job_machine *m, struct job_policy *p)
{
	struct job_group *g = job_group(m, p->group);

	if (p->flags & JOB_GROUP_OPEN)
		g->open--;
	if (g->open_last == p->slot)
		g->open_last = p->prev;
	*(p->prev ? &policy_of(m, p->prev)->next : &g->first) = p->next;
	*(p->next ? &policy_of(m, p->next)->prev : &g->last) = p->prev;
	p->next = p->prev = 0;
	job_policy_unflag(p, JOB_GROUP_LISTED | JOB_GROUP_OPEN);
}

/* ---- who may go -------------------------------------------------------------------------- */

static uint32_t run_max(const struct job_machine *m, const struct job_group *g)
{
	uint32_t max = m->queues[g->queue]->config.group_concurrency;

	return max > 0 ? max : 1;
}

static uint32_t open_max(const struct job_machine *m, const struct job_group *g)
{
	uint32_t max = run_max(m, g);

	if (g->bucket != 0 && job_bucket(m, g->bucket)->rests)
		return 0;
	return g->running < max ? max - g->running : 0;
}

void job_group_settle(struct job_machine *m, uint32_t group)
{
	struct job_group *g = job_group(m, group);
	struct job_queue *q = m->queues[g->queue];
	uint32_t max = open_max(m, g), slot;

	while (g->open < max && (slot = g->open_last ? policy_of(m, g->open_last)->next : g->first) != 0) {
		job_policy_flag(policy_of(m, slot), JOB_GROUP_OPEN);
		g->open_last = slot;
		g->open++;
		if (job_slot(m, slot)->where == JOB_AT_GROUP)
			job_ready_add(m, q, slot);
	}
	while (g->open > max) {
		slot = g->open_last;
		job_policy_unflag(policy_of(m, slot), JOB_GROUP_OPEN);
		g->open_last = policy_of(m, slot)->prev;
		g->open--;
		if (job_slot(m, slot)->state == JOB_READY && job_slot(m, slot)->where != JOB_AT_HIDDEN &&
		    job_slot(m, slot)->where != JOB_AT_NONE) {
			job_ready_remove(m, q, slot);
			job_slot(m, slot)->where = JOB_AT_GROUP;
		}
	}
}

void job_groups_settle(struct job_machine *m, const struct job_queue *q)
{
	for (uint32_t number = 1; number < m->groups.end; number++) {
		const struct job_group *g = job_group(m, number);

		if (g->members > 0 && g->queue == q->number)
			job_group_settle(m, number);
	}
}

bool job_group_allows(const struct job_machine *m, const struct job_slot *s)
{
	const struct job_policy *p = job_slot_policy(m, s);

	if (!p || p->group == 0)
		return true;
	if (p->flags & JOB_GROUP_LISTED)
		return (p->flags & JOB_GROUP_OPEN) != 0;
	return open_max(m, job_group(m, p->group)) > 0; /* buried */
}

/* ---- scrubbing --------------------------------------------------------------------------- */

static bool group_sound(const struct job_machine *m, uint32_t number)
{
	const struct job_group *g = job_group(m, number);
	uint32_t open = 0, waiting = 0, before = 0, max = open_max(m, g);

	for (uint32_t slot = g->first; slot != 0; slot = policy_of(m, slot)->next) {
		const struct job_slot *s = job_slot(m, slot);
		const struct job_policy *p = policy_of(m, slot);
		bool is_open = (p->flags & JOB_GROUP_OPEN) != 0;

		if (p->group != number || p->prev != before || s->queue != g->queue ||
		    is_open != (open < max) ||
		    (before && job_slot_id(job_slot(m, before)) >= job_slot_id(s)) ||
		    (s->where == JOB_AT_GROUP && is_open) ||
		    (s->state != JOB_READY && s->state != JOB_DELAYED) ||
		    (s->state == JOB_READY && !is_open && s->where != JOB_AT_GROUP &&
		     s->where != JOB_AT_HIDDEN))
			return false;
		open += is_open;
		if (is_open && open == g->open && g->open_last != slot)
			return false;
		before = slot;
		waiting++;
	}
	return open == g->open && before == g->last && waiting + g->running <= g->members &&
	       (open > 0 || g->open_last == 0);
}

bool job_groups_sound(const struct job_machine *m)
{
	uint64_t used = 0;

	for (uint32_t number = 1; number < m->groups.end; number++) {
		if (job_group(m, number)->members == 0)
			continue;
		used++;
		if (!group_sound(m, number))
			return false;
	}
	return used == m->groups.used;
}
