/* src/job/load.c -- a snapshot back into a machine. See job.h, snapshot.c.
 *
 * Entries come in any order. Jobs are counted as they come; those that are ready or buried are put into their lists at
 * the end, in the order of their ids or burials, so that the lists are as if nothing had been saved. What the counters
 * of the moment say must be what has come.
 */
#include <errno.h>

#include "job/machine.h"

struct buried {
	uint64_t burial;
	uint32_t slot;
};

struct job_load {
	uint64_t counters[JOB_COUNTERS_END];
	uint64_t queues;
	uint64_t (*jobs)[JOB_STATES - 1]; /* by number of the queue, as they must be */
	uint32_t jobs_cap;
	/* job_load_end() */
	struct job_machine *m;
	struct buried *buried;
	size_t buried_count;
	bool broken; /* a job awaits something that is not told, or nothing */
};

void job_load_done(struct job_machine *m)
{
	if (!m->load)
		return;
	free(m->load->jobs);
	free(m->load->buried);
	free(m->load);
	m->load = NULL;
}

static int load_counters(struct job_machine *m, const struct job_record *r)
{
	size_t ranges = (r->body.len - sizeof(m->load->counters)) / sizeof(m->ranges[0]);
	struct job_load *load;
	const uint64_t *c;

	if (m->load || m->slots_used > 0 || m->ranges_count > 0 || ranges > JOB_RANGES_MAX)
		return -EPROTO;
	load = m->load = calloc(1, sizeof(*load));
	if (!load)
		return -ENOMEM;
	c = load->counters;
	memcpy(load->counters, r->body.data, sizeof(load->counters));
	memcpy(m->ranges, (const uint8_t *)r->body.data + sizeof(load->counters),
	       ranges * sizeof(m->ranges[0]));
	m->ranges_count = ranges;
	m->ids_next = c[JOB_COUNT_IDS_NEXT];
	m->ids_until = c[JOB_COUNT_IDS_UNTIL];
	m->claim_last = c[JOB_COUNT_CLAIM_LAST];
	m->burial_last = c[JOB_COUNT_BURIAL_LAST];
	m->totals.submitted = c[JOB_COUNT_SUBMITTED];
	m->totals.attempts = c[JOB_COUNT_ATTEMPTS];
	m->totals.completed = c[JOB_COUNT_COMPLETED];
	m->totals.failed = c[JOB_COUNT_FAILED];
	m->totals.cancelled = c[JOB_COUNT_CANCELLED];
	m->totals.timeouts = c[JOB_COUNT_TIMEOUTS];
	m->totals.retries = c[JOB_COUNT_RETRIES];
	m->totals.expired = c[JOB_COUNT_EXPIRED];
	m->totals.dead = c[JOB_COUNT_DEAD];
	return m->ids_next > m->ids_until || m->ids_until > JOB_ID_MAX + 1 ? -EPROTO : 0;
}

static int load_queue(struct job_machine *m, const struct job_record *r)
{
	struct job_load *load = m->load;
	uint64_t c[JOB_QUEUE_COUNTERS_END];
	struct job_queue *q;
	int error = job_queue_load(m, r, &q);

	if (error < 0)
		return error;
	if (q->number >= load->jobs_cap) {
		uint32_t cap = m->queues_cap; /* which has room for it */
		void *jobs = realloc(load->jobs, cap * sizeof(load->jobs[0]));

		if (!jobs)
			return -ENOMEM;
		load->jobs = jobs;
		load->jobs_cap = cap;
	}
	memcpy(c, r->headers.data, sizeof(c));
	q->submitted = c[JOB_QUEUE_SUBMITTED];
	q->attempts = c[JOB_QUEUE_ATTEMPTS];
	q->completed = c[JOB_QUEUE_COMPLETED];
	q->failed = c[JOB_QUEUE_FAILED];
	q->cancelled = c[JOB_QUEUE_CANCELLED];
	q->timeouts = c[JOB_QUEUE_TIMEOUTS];
	q->retries = c[JOB_QUEUE_RETRIES];
	q->dead = c[JOB_QUEUE_DEAD];
	q->rate_full_ns = (int64_t)c[JOB_QUEUE_RATE_FULL];
	memcpy(load->jobs[q->number], c + JOB_QUEUE_JOBS, sizeof(load->jobs[0]));
	load->queues++;
	return 0;
}

/* ---- jobs -------------------------------------------------------------------------------- */

static void load_ext(struct job_machine *m, struct job_slot *s, const struct job_entry *entry)
{
	struct job_ext *e = job_ext_need(m, s);

	*e = (struct job_ext){.claim = entry->claim,
	                      .error_place = entry->error_place,
	                      .progress_place = entry->progress_place,
	                      .retention_ms = entry->retention_ms,
	                      .time_to_run = entry->time_to_run,
	                      .epoch = entry->epoch,
	                      .changes = entry->changes,
	                      .attempts_max = entry->attempts_max,
	                      .timeouts = entry->timeouts,
	                      .flags = entry->ext_flags,
	                      .reserves = entry->reserves,
	                      .releases = entry->releases,
	                      .buries = entry->buries,
	                      .kicks = entry->kicks,
	                      .delay_s = entry->delay_s,
	                      .error_bytes = entry->error_bytes,
	                      .progress_bytes = entry->progress_bytes};
}

/* Into the structure of its state, unless that is put together at the end. */
static void stand(struct job_machine *m, uint32_t slot)
{
	switch (job_slot(m, slot)->state) {
	case JOB_DELAYED:
		job_wheel_add(m, &m->delays, slot, JOB_AT_DELAYS);
		break;
	case JOB_RUNNING:
		job_wheel_add(m, &m->leases, slot, JOB_AT_LEASES);
		break;
	case JOB_AWAITING:
		job_slot(m, slot)->where = JOB_AT_JOIN;
		break;
	case JOB_DONE:
	case JOB_FAILED:
	case JOB_CANCELLED:
		job_wheel_add(m, &m->retain, slot, JOB_AT_RETAIN);
		break;
	}
}

/* Is there what a job with a policy names, and does nobody else have its key? */
static int policy_room(struct job_machine *m, const struct job_entry *entry)
{
	if ((entry->dead_from != 0 && !job_queue_at(m, entry->dead_from)) ||
	    ((entry->policy_flags & JOB_POLICY_UNIQUE_HELD) && job_unique_holder(m, entry->unique, 0)))
		return -EPROTO;
	return job_policy_room(m, 1) < 0 || job_unique_room(m, 1) < 0 ? -ENOMEM : 0;
}

static int load_entry(struct job_machine *m, const struct job_entry *entry, int type)
{
	bool ext = type != JOB_ENTRIES;
	struct job_queue *q = job_queue_at(m, entry->queue);
	struct job_slot *s;
	uint32_t slot;
	int error;

	if (!q || job_find(m, entry->id) != 0 || entry->id >= m->ids_until ||
	    (entry->state == JOB_RUNNING && !ext) ||
	    (entry->state == JOB_AWAITING && type != JOB_ENTRIES_POLICY) ||
	    (q->gone && !job_state_finished(entry->state)))
		return -EPROTO;
	error = job_slots_room(m, 1);
	if (error == 0 && ext)
		error = job_ext_room(m, 1);
	if (error == 0 && type == JOB_ENTRIES_POLICY)
		error = policy_room(m, entry);
	if (error < 0)
		return error;
	slot = job_slot_take(m);
	if (job_directory_put(&m->directory, entry->id, slot) < 0) {
		job_slot_give(m, slot);
		return -ENOMEM;
	}
	s = job_slot(m, slot);
	s->id_low = (uint32_t)entry->id;
	s->id_high = (uint32_t)(entry->id >> 32) & 0x1fffff;
	s->attempts = entry->attempts & 0x7ffu;
	s->changed = entry->changed;
	s->priority = entry->priority;
	s->queue = entry->queue & 0xffffff;
	s->state = entry->state & 0xfu;
	s->ext = entry->submit;
	job_slot_set_place(s, entry->place);
	job_slot_set_size(s, entry->size);
	job_slot_set_when(s, entry->when_ms);
	if (entry->flags & JOB_ENTRY_CANCEL)
		job_slot_flag(s, JOB_SLOT_CANCEL);
	if (ext)
		load_ext(m, s, entry);
	if (type == JOB_ENTRIES_POLICY)
		job_policy_load(m, slot, entry);
	q->jobs[s->state]++;
	if (q->space)
		job_space_count(q->space, JOB_NONE, s->state);
	m->totals.jobs[s->state]++;
	stand(m, slot);
	return 0;
}

static int load_entries(struct job_machine *m, const struct job_record *r)
{
	size_t each = r->type == JOB_ENTRIES       ? JOB_ENTRY_BYTES
	              : r->type == JOB_ENTRIES_EXT ? JOB_ENTRY_EXT_BYTES
	                                           : JOB_ENTRY_POLICY_BYTES;
	const uint8_t *at = r->body.data;
	int error = 0;

	for (size_t i = 0; i < r->body.len / each && error == 0; i++, at += each) {
		struct job_entry entry;
		bool good = r->type == JOB_ENTRIES       ? job_entry_get(at, &entry)
		            : r->type == JOB_ENTRIES_EXT ? job_entry_get_ext(at, &entry)
		                                         : job_entry_get_policy(at, &entry);

		if (!good)
			return -EPROTO;
		error = load_entry(m, &entry, r->type);
	}
	return error;
}

static int load_uniques(struct job_machine *m, const struct job_record *r)
{
	const uint8_t *at = r->body.data;

	for (size_t i = 0; i < r->body.len / JOB_UNIQUE_BYTES; i++, at += JOB_UNIQUE_BYTES) {
		struct job_unique_entry entry;

		if (!job_unique_get(at, &entry) || entry.id >= m->ids_until)
			return -EPROTO;
		if (job_unique_room(m, 1) < 0)
			return -ENOMEM;
		job_unique_add(m, &entry, false, true);
	}
	return 0;
}

static int load_buckets(struct job_machine *m, const struct job_record *r)
{
	const uint8_t *at = r->body.data;
	int error = 0;

	for (size_t i = 0; i < r->body.len / JOB_BUCKET_BYTES && error == 0; i++, at += JOB_BUCKET_BYTES) {
		struct job_bucket_entry entry;

		error = job_bucket_get(at, &entry) ? job_bucket_load(m, &entry) : -EPROTO;
	}
	return error;
}

static int load_joins(struct job_machine *m, const struct job_record *r)
{
	const uint8_t *at = r->body.data;
	int error = 0;

	for (size_t i = 0; i < r->body.len / JOB_JOIN_BYTES && error == 0; i++, at += JOB_JOIN_BYTES) {
		struct job_join_entry entry;

		error = job_join_get(at, &entry) ? job_join_load(m, &entry) : -EPROTO;
	}
	return error;
}

int job_load(struct job_machine *m, const struct job_record *r)
{
	if (r->type == JOB_COUNTERS)
		return load_counters(m, r);
	if (!m->load)
		return -EPROTO;
	if (r->type == JOB_QUEUE_STATE)
		return load_queue(m, r);
	if (r->type == JOB_UNIQUES)
		return load_uniques(m, r);
	if (r->type == JOB_BUCKETS)
		return load_buckets(m, r);
	if (r->type == JOB_JOINS)
		return load_joins(m, r);
	return job_record_checkpoint(r->type) ? load_entries(m, r) : -EPROTO;
}

/* ---- the end ----------------------------------------------------------------------------- */

static void put_in_order(void *arg, uint32_t slot)
{
	struct job_load *load = arg;
	struct job_machine *m = load->m;
	struct job_slot *s = job_slot(m, slot);
	struct job_policy *p = job_slot_policy(m, s);

	if (s->state == JOB_AWAITING && !job_join_sound(m, s))
		load->broken = true;
	if (p && p->group != 0) {
		if (s->state == JOB_RUNNING)
			job_group(m, p->group)->running++;
		else if (s->state != JOB_BURIED && s->state != JOB_AWAITING)
			job_group_list(m, p);
		job_group_settle(m, p->group);
	}
	if (s->state == JOB_READY)
		job_ready_stand(m, job_slot_queue(m, s), slot);
	else if (s->state == JOB_BURIED)
		load->buried[load->buried_count++] = (struct buried){(uint64_t)job_slot_when(s), slot};
}

static int by_burial(const void *a, const void *b)
{
	const struct buried *x = a, *y = b;

	return x->burial < y->burial ? -1 : x->burial > y->burial;
}

static bool counts_agree(const struct job_machine *m)
{
	const struct job_load *load = m->load;

	if (memcmp(load->counters + JOB_COUNT_JOBS, m->totals.jobs + 1, sizeof(load->jobs[0])) != 0 ||
	    load->counters[JOB_COUNT_QUEUES] != load->queues)
		return false;
	for (uint32_t i = 1; i < m->queues_end; i++)
		if (m->queues[i] && memcmp(load->jobs[i], m->queues[i]->jobs + 1, sizeof(load->jobs[0])) != 0)
			return false;
	return true;
}

int job_load_end(struct job_machine *m)
{
	struct job_load *load = m->load;

	if (!load || !counts_agree(m))
		return -EPROTO;
	load->m = m;
	load->buried = malloc((m->totals.jobs[JOB_BURIED] + 1) * sizeof(load->buried[0]));
	if (!load->buried || job_directory_each(&m->directory, m->ids_next, put_in_order, load) < 0)
		return -ENOMEM;
	if (load->broken)
		return -EPROTO;
	qsort(load->buried, load->buried_count, sizeof(load->buried[0]), by_burial);
	for (size_t i = 0; i < load->buried_count; i++) {
		uint32_t slot = load->buried[i].slot;
		struct job_slot *s = job_slot(m, slot);
		struct job_queue *q = job_slot_queue(m, s);

		s->where = JOB_AT_BURIED;
		job_list_append(m, &q->buried_first, &q->buried_last, slot);
	}
	for (uint32_t i = 1; i < m->queues_end; i++)
		if (m->queues[i]) {
			job_kept_check(m, m->queues[i]);
			job_queue_free_if_gone(m, m->queues[i]);
		}
	job_load_done(m);
	return 0;
}
