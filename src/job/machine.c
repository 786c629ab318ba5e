/* src/job/machine.c -- opening, closing and looking into the job machine. See job.h. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <xxhash.h>

#include "job/machine.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S  INT64_C(1000000000)

static void set_defaults(struct job_limits *l)
{
	struct job_queue_config *d = &l->defaults;

	d->time_to_run_ns = d->time_to_run_ns ? d->time_to_run_ns : 60 * NS_PER_S;
	d->retention_ns = d->retention_ns ? d->retention_ns : 3600 * NS_PER_S;
	d->backoff_ns = d->backoff_ns ? d->backoff_ns : NS_PER_S;
	d->backoff_max_ns = d->backoff_max_ns ? d->backoff_max_ns : 3600 * NS_PER_S;
	d->backoff_jitter = d->backoff_jitter ? d->backoff_jitter : 25;
	d->attempts_max = d->attempts_max ? d->attempts_max : 5;
	l->jobs_max = l->jobs_max ? l->jobs_max : 100000000;
	if (l->jobs_max > UINT32_MAX - 65537u)
		l->jobs_max = UINT32_MAX - 65537u;
	l->finished_max = l->finished_max ? l->finished_max : 10000000;
	l->queues_max = l->queues_max ? l->queues_max : 65536;
}

int job_open(struct job_machine **ret, const struct job_limits *limits, int64_t now_ms)
{
	struct job_machine *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->limits = *limits;
	set_defaults(&m->limits);
	m->queues_end = 1;
	m->ids_next = m->ids_until = 1;
	m->pauses_end_ms = m->rates_end_ms = INT64_MAX;
	job_policies_init(m);
	job_wheel_init(&m->delays, now_ms);
	job_wheel_init(&m->leases, now_ms);
	job_wheel_init(&m->retain, now_ms);
	if (job_slots_room(m, 1) < 0 || job_ext_room(m, 1) < 0) {
		job_close(m);
		return -ENOMEM;
	}
	*ret = m;
	return 0;
}

struct job_machine *job_close(struct job_machine *m)
{
	if (!m)
		return NULL;
	job_snapshot_cancel(m);
	job_load_done(m);
	job_queues_done(m);
	job_directory_done(&m->directory);
	job_policies_done(m);
	job_slots_done(m);
	free(m);
	return NULL;
}

int64_t job_run_ms(const struct job_machine *m, uint64_t id, int64_t now_ms)
{
	uint32_t slot = job_find(m, id);
	const struct job_ext *e = slot ? job_slot_ext(m, job_slot(m, slot)) : NULL;

	if (!e || job_slot(m, slot)->state != JOB_RUNNING || e->claimed_ms == 0)
		return -1;
	return (uint32_t)((uint32_t)now_ms - e->claimed_ms);
}

int job_look(const struct job_machine *m, uint64_t id, struct job_info *ret)
{
	uint32_t slot = job_find(m, id);
	const struct job_slot *s;
	const struct job_ext *e;
	const struct job_policy *p;

	if (slot == 0) {
		int missing = job_missing(m, id);
		assert(missing < 0);
		return missing;
	}
	s = job_slot(m, slot);
	e = job_slot_ext(m, s);
	p = e && e->policy ? job_policy(m, e->policy) : NULL;
	*ret = (struct job_info){
		.id = id,
		.state = s->state,
		.cancel_requested = (s->flags & JOB_SLOT_CANCEL) != 0,
		.queue = job_slot_queue(m, s),
		.priority = s->priority,
		.attempts = s->attempts,
		.attempts_max = job_attempts_max(m, s),
		.timeouts = e ? e->timeouts : 0,
		.reserves = e ? e->reserves : 0,
		.releases = e ? e->releases : 0,
		.buries = e ? e->buries : 0,
		.kicks = e ? e->kicks : 0,
		.delay_s = e ? e->delay_s : 0,
		.bound = e && (e->flags & JOB_EXT_BOUND) && s->state == JOB_RUNNING,
		.when_ms = s->state == JOB_READY || s->state == JOB_BURIED ? 0 : job_slot_when(s),
		.time_to_run_ms = job_time_to_run_ms(m, s),
		.retention_ms = job_retention_ms(m, s),
		.expires_ms = p ? p->expires_ms : 0,
		.dead_from = p && p->dead_from ? m->queues[p->dead_from] : NULL,
		.lease = e && s->state == JOB_RUNNING ? (struct job_lease){e->epoch, e->claim}
	                                              : (struct job_lease){0},
		.place = job_slot_place(s),
		.error_place = e ? e->error_place : 0,
		.progress_place = e ? e->progress_place : 0,
		.changed = s->changed,
	};
	ret->version = (uint64_t)s->changed << 48 | (uint64_t)(s->attempts & 0x7ff) << 37 |
	               (uint64_t)(s->state & 0xf) << 33 | (uint64_t)ret->cancel_requested << 32 |
	               (e ? (e->flags / JOB_EXT_EDIT & 0xfff) << 20 |
	                                ((s->state == JOB_AWAITING ? job_slot_join(m, s)->open : e->changes) &
	                                 0xfffff)
	                  : 0);
	return 0;
}

void job_totals(const struct job_machine *m, struct job_totals *ret)
{
	*ret = m->totals;
	ret->queues = m->queues_live;
	ret->memory_bytes = (uint64_t)m->slots_end * sizeof(struct job_slot) +
	                    (uint64_t)m->ext_end * sizeof(struct job_ext) + m->directory.bytes + sizeof(*m) +
	                    job_policies_bytes(m);
}

uint64_t job_buried_first(const struct job_machine *m, const struct job_queue *q)
{
	return q->buried_first ? job_slot_id(job_slot(m, q->buried_first)) : 0;
}

uint64_t job_scan(const struct job_machine *m, const struct job_queue *q, unsigned states, uint32_t *cursor)
{
	for (uint32_t slot = *cursor + 1; slot < m->slots_end; slot++) {
		const struct job_slot *s = job_slot(m, slot);

		if (s->state != JOB_NONE && (states >> s->state & 1) && (!q || s->queue == q->number)) {
			*cursor = slot;
			return job_slot_id(s);
		}
	}
	*cursor = m->slots_end;
	return 0;
}

/* ---- scrubbing --------------------------------------------------------------------------- */

static bool where_fits(const struct job_slot *s)
{
	switch (s->state) {
	case JOB_DELAYED:
		return s->where == JOB_AT_DELAYS;
	case JOB_READY:
		return s->where == JOB_AT_HIDDEN || s->where == JOB_AT_FIFO || s->where == JOB_AT_HEAP ||
		       s->where == JOB_AT_OVERFLOW || s->where == JOB_AT_GROUP;
	case JOB_RUNNING:
		return s->where == JOB_AT_LEASES && s->ext != 0;
	case JOB_BURIED:
		return s->where == JOB_AT_BURIED;
	case JOB_AWAITING:
		return s->where == JOB_AT_JOIN;
	default:
		return s->where == JOB_AT_RETAIN;
	}
}

/* A walk over a heap without a stack: down, then along, then back up. */
static uint64_t heap_size(const struct job_machine *m, uint32_t slot)
{
	uint64_t size = 0;

	while (slot != 0) {
		const struct job_slot *s = job_slot(m, slot);

		size++;
		if (s->when_low != 0) {
			slot = s->when_low;
			continue;
		}
		while (slot != 0 && job_slot(m, slot)->next == 0) {
			uint32_t child = slot;

			/* to the first sibling, whose prev is the parent */
			while (job_slot(m, child)->prev != 0 &&
			       job_slot(m, job_slot(m, child)->prev)->when_low != child)
				child = job_slot(m, child)->prev;
			slot = job_slot(m, child)->prev;
		}
		slot = slot ? job_slot(m, slot)->next : 0;
	}
	return size;
}

/* Jobs that are to be found by job_pick(). */
static uint64_t reachable(const struct job_machine *m, const struct job_queue *q)
{
	uint64_t size = heap_size(m, q->overflow);

	for (uint32_t i = 0; i < q->lanes_count; i++) {
		for (uint32_t slot = q->lanes[i].first; slot != 0; slot = job_slot(m, slot)->next)
			size++;
		size += heap_size(m, q->lanes[i].heap);
	}
	return size;
}

struct tally {
	uint64_t jobs[JOB_STATES];
	uint64_t standing, urgent;
};

int job_recount(const struct job_machine *m, char *what, size_t cap)
{
	struct tally *tally = calloc(m->queues_end, sizeof(*tally));
	uint64_t used = 0, exts = 0, policies = 0, sums[JOB_STATES] = {0};
	int error = 0;

	if (!tally)
		return -ENOMEM;
	for (uint32_t slot = 1; slot < m->slots_end && error == 0; slot++) {
		const struct job_slot *s = job_slot(m, slot);

		if (s->state == JOB_NONE)
			continue;
		used++;
		exts += job_slot_ext(m, s) != NULL;
		policies += job_slot_policy(m, s) != NULL;
		if (job_find(m, job_slot_id(s)) != slot || !where_fits(s) || !job_queue_at(m, s->queue) ||
		    !job_policy_sound(m, s) || !job_join_sound(m, s)) {
			snprintf(what, cap, "job %llu, state %u, stands at %u",
			         (unsigned long long)job_slot_id(s), s->state, s->where);
			error = -EPROTO;
			break;
		}
		tally[s->queue].jobs[s->state]++;
		sums[s->state]++;
		if (s->state == JOB_READY && s->where != JOB_AT_HIDDEN && s->where != JOB_AT_GROUP) {
			tally[s->queue].standing++;
			tally[s->queue].urgent += s->priority < JOB_PRIORITY_DEFAULT;
		}
	}
	for (uint32_t i = 1; i < m->queues_end && error == 0; i++) {
		const struct job_queue *q = m->queues[i];

		if (q && (memcmp(q->jobs, tally[i].jobs, sizeof(q->jobs)) != 0 ||
		          reachable(m, q) != tally[i].standing || q->urgent != tally[i].urgent)) {
			snprintf(what, cap, "queue %s: counters differ from its jobs", q->name);
			error = -EPROTO;
		}
	}
	if (error == 0 && (policies != m->policies.used || !job_groups_sound(m) || !job_uniques_sound(m) ||
	                   !job_buckets_sound(m) || !job_joins_sound(m) || !job_spaces_sound(m))) {
		snprintf(what, cap,
		         "groups, unique keys, namespaces or what is awaited differ from the jobs");
		error = -EPROTO;
	}
	if (error == 0 && (used != m->slots_used || exts != m->ext_used ||
	                   memcmp(sums, m->totals.jobs, sizeof(sums)) != 0)) {
		snprintf(what, cap, "%llu jobs, %llu counted", (unsigned long long)used,
		         (unsigned long long)m->slots_used);
		error = -EPROTO;
	}
	free(tally);
	return error;
}

/* What of a job is the same whichever way it came there. */
static uint64_t job_fingerprint(const struct job_machine *m, const struct job_slot *s, int64_t now_ms)
{
	struct job_info info;
	uint64_t words[19];

	if (job_look(m, job_slot_id(s), &info) < 0)
		return 1;
	if (info.state == JOB_DELAYED && info.when_ms <= now_ms) {
		info.state = JOB_READY;
		info.when_ms = 0;
	}
	words[0] = info.id;
	words[1] = info.state;
	words[2] = info.cancel_requested;
	words[3] = info.queue->number;
	words[4] = (uint64_t)info.priority << 32 | info.attempts;
	words[5] = (uint64_t)info.attempts_max << 32 | info.timeouts;
	words[6] = (uint64_t)info.when_ms;
	words[7] = (uint64_t)info.time_to_run_ms;
	words[8] = (uint64_t)info.retention_ms;
	words[9] = info.lease.claim << 16 ^ info.lease.epoch;
	words[10] = info.place;
	words[11] = info.error_place;
	words[12] = info.progress_place;
	words[13] = info.changed;
	words[14] = (uint64_t)info.reserves << 32 | info.releases;
	words[15] = (uint64_t)info.buries << 32 | info.kicks;
	words[16] = (uint64_t)info.delay_s << 1 | info.bound;
	words[17] = job_policy_fingerprint(m, job_slot_policy(m, s));
	words[18] = job_join_fingerprint(m, s);
	return XXH3_64bits(words, sizeof(words));
}

uint64_t job_digest(const struct job_machine *m, int64_t now_ms)
{
	uint64_t sum = XXH3_64bits(m->ranges, m->ranges_count * sizeof(m->ranges[0])) + m->ids_next * 3 +
	               m->ids_until * 5 + m->claim_last * 7 + m->totals.expired * 11 + m->totals.dead * 13 +
	               job_uniques_fingerprint(m, now_ms) + job_buckets_fingerprint(m, now_ms);

	for (uint32_t slot = 1; slot < m->slots_end; slot++)
		if (job_slot(m, slot)->state != JOB_NONE)
			sum += job_fingerprint(m, job_slot(m, slot), now_ms);
	for (uint32_t i = 1; i < m->queues_end; i++) {
		const struct job_queue *q = m->queues[i];
		uint64_t words[15], order = 0;

		if (!q)
			continue;
		for (uint32_t slot = q->buried_first; slot != 0; slot = job_slot(m, slot)->next)
			order = (order ^ job_slot_id(job_slot(m, slot))) * UINT64_C(0x100000001b3) + 1;
		words[0] = q->number;
		words[1] = (uint64_t)q->paused | (uint64_t)q->gone << 1 | (uint64_t)q->implicit << 2;
		words[2] = q->submitted;
		words[3] = q->attempts;
		words[4] = q->completed;
		words[5] = q->failed;
		words[6] = q->cancelled;
		words[7] = q->timeouts;
		words[8] = q->retries;
		words[9] = XXH3_64bits(q->name, q->name_len);
		words[10] = XXH3_64bits(&q->own, sizeof(q->own));
		words[11] = (uint64_t)q->created_ns;
		words[12] = order;
		words[13] = q->dead;
		words[14] = (uint64_t)q->rate_full_ns;
		sum += XXH3_64bits(words, sizeof(words));
	}
	return sum;
}
