/* src/job/check.c -- may this be done now, and what record does it? Nothing is changed here. See job.h. */
#include <assert.h>
#include <errno.h>

#include "job/machine.h"

#define NS_PER_MS INT64_C(1000000)

#define EXTEND_MAX_MS INT64_C(2592000000) /* 30 days */

/* ---- new jobs ---------------------------------------------------------------------------- */

uint64_t job_ids_left(const struct job_machine *m)
{
	return m->ids_until - m->ids_next;
}

uint64_t job_ids_next(const struct job_machine *m)
{
	return m->ids_next;
}

int job_check_ids(const struct job_machine *m, uint64_t count, bool start, struct job_record *r)
{
	uint64_t next = start ? m->ids_until : m->ids_next;
	uint64_t until = count > 0 ? m->ids_until + count : next;

	if (until > JOB_ID_MAX)
		return -JOB_EMEMORY_FULL;
	*r = (struct job_record){.type = JOB_IDS, .id = next, .claim = until};
	return 0;
}

int job_room(struct job_machine *m, uint64_t count)
{
	int error = job_slots_room(m, count);

	if (error == 0)
		error = job_ext_room(m, count);
	if (error == 0)
		error = job_directory_room(&m->directory, m->ids_next, count);
	return error;
}

static uint64_t unfinished(const struct job_queue *q)
{
	return q->jobs[JOB_DELAYED] + q->jobs[JOB_READY] + q->jobs[JOB_RUNNING] + q->jobs[JOB_BURIED] +
	       q->jobs[JOB_AWAITING];
}

/* What few jobs have. */
static int check_policy(struct job_machine *m, const struct job_queue *q, uint64_t nth, struct job_record *r)
{
	const struct job_unique *holder;
	uint64_t hash[2];

	if (r->unique.len > JOB_KEY_MAX || r->group.len > JOB_KEY_MAX || r->expires_ms < 0 ||
	    r->unique_while_ms < JOB_UNIQUE_QUEUED)
		return -JOB_EVALUE;
	r->expires_ms = job_clamp_ms(r->expires_ms);
	if (job_policy_room(m, nth + 1) < 0 || (r->unique.len > 0 && job_unique_room(m, nth + 1) < 0))
		return -ENOMEM;
	if (r->unique.len == 0 || !q)
		return 0;
	job_unique_hash(q, r->unique, hash);
	holder = job_unique_holder(m, hash, r->at_ns / NS_PER_MS);
	if (holder) {
		r->type = 0;
		r->id = holder->id;
	}
	return 0;
}

void job_pend(struct job_machine *m, uint32_t queue, bool is_new)
{
	struct job_queue *q = queue != 0 ? job_queue_at(m, queue) : NULL;

	if (!q)
		return;
	if (is_new && q->space)
		q->space->pending++;
	if (q->pending++ == 0) {
		q->next_pending = m->pending;
		m->pending = q;
	}
}

void job_pend_none(struct job_machine *m)
{
	for (; m->pending; m->pending = m->pending->next_pending) {
		m->pending->pending = 0;
		if (m->pending->space)
			m->pending->space->pending = 0;
	}
}

int job_check_submit(struct job_machine *m, const struct job_queue *q, uint64_t nth, struct job_record *r)
{
	if (q && q->config.jobs_max > 0 && unfinished(q) + q->pending >= q->config.jobs_max)
		return -JOB_EQUEUE_FULL;
	if (q && q->space && q->space->jobs_max > 0 &&
	    q->space->unfinished + q->space->pending >= q->space->jobs_max)
		return -JOB_ENAMESPACE_FULL;
	if (nth >= job_ids_left(m))
		return -JOB_EBUSY;
	if (r->content_type.len > JOB_CONTENT_TYPE_MAX || r->headers.len > JOB_HEADERS_MAX)
		return -JOB_ETOO_LARGE;
	if ((r->attempts_max > JOB_ATTEMPTS_MAX && r->attempts_max != JOB_ATTEMPTS_UNLIMITED) ||
	    r->time_to_run_ms < 0 || r->time_to_run_ms > JOB_TIME_TO_RUN_MAX_MS || r->when_ms < 0)
		return -JOB_EVALUE;
	if (r->after_count > JOB_AFTER_MAX)
		return -JOB_ETOO_LARGE;
	if (r->after_count > 0 && ((r->flags & JOB_SUBMIT_BURIED) || r->after_delay_ms < 0 ||
	                           r->after_failure >= JOB_AFTER_FAILURES))
		return -JOB_EVALUE;
	r->after_delay_ms = job_clamp_ms(r->after_delay_ms);
	r->type = JOB_SUBMIT;
	r->id = m->ids_next + nth;
	r->when_ms = job_clamp_ms(r->when_ms);
	if (r->unique.len > 0 || r->group.len > 0 || r->expires_ms != 0)
		return check_policy(m, q, nth, r);
	return 0;
}

/* ---- with a lease ------------------------------------------------------------------------ */

/* Of those that have a policy: its group's turn, and its time. */
static int check_turn(const struct job_machine *m, const struct job_slot *s, int64_t now_ms)
{
	const struct job_policy *p = job_slot_policy(m, s);

	if (!p)
		return 0;
	if (p->expiry_at != 0 && p->expires_ms <= now_ms)
		return -JOB_EBUSY;
	return job_group_allows(m, s) ? 0 : -JOB_ESTATE;
}

int job_check_claim(struct job_machine *m, uint64_t id, int64_t now_ns, int64_t lease_ms, uint32_t epoch,
                    bool bound, struct job_record *r)
{
	uint32_t slot = job_find(m, id);
	int64_t now_ms = now_ns / NS_PER_MS;
	struct job_queue *q;
	struct job_slot *s;
	int error;

	if (slot == 0)
		return job_missing(m, id);
	s = job_slot(m, slot);
	if (s->state != JOB_READY && s->state != JOB_DELAYED && s->state != JOB_BURIED)
		return -JOB_ESTATE;
	q = job_slot_queue(m, s);
	if (q->limited && !job_limit_allows(m, q, now_ns))
		return -JOB_ESTATE;
	error = check_turn(m, s, now_ms);
	if (error < 0)
		return error;
	if (job_ext_room(m, 1) < 0 || (q->config.group_rate.count > 0 && job_bucket_room(m, 1) < 0))
		return -ENOMEM;
	*r = (struct job_record){
		.type = JOB_CLAIM,
		.flags = bound ? JOB_CLAIM_BOUND : 0,
		.id = id,
		.at_ns = now_ms * 1000000, /* not on disk: for job_run_ms() */
		.claim = m->claim_last + 1,
		.epoch = epoch,
		.attempt = s->attempts < 2047u ? s->attempts + 1u : 2047u,
		.when_ms = job_clamp_ms(now_ms + (lease_ms > 0 ? lease_ms : job_time_to_run_ms(m, s)))};
	return 0;
}

/* The job that the caller holds the lease of. */
static int leased(struct job_machine *m, uint64_t id, struct job_lease lease, int64_t now_ms,
                  struct job_slot **ret)
{
	uint32_t slot = job_find(m, id);
	struct job_slot *s;
	struct job_ext *e;

	if (slot == 0) {
		int missing = job_missing(m, id);
		assert(missing < 0);
		return missing;
	}
	s = job_slot(m, slot);
	if (s->state != JOB_RUNNING)
		return -JOB_ELEASE_LOST;
	e = job_ext(m, s->ext);
	if (e->claim != lease.claim || e->epoch != lease.epoch || now_ms >= job_slot_when(s))
		return -JOB_ELEASE_LOST;
	if (s->flags & JOB_SLOT_CANCEL)
		return -JOB_ECANCELLED;
	*ret = s;
	return 0;
}

int job_check_complete(struct job_machine *m, uint64_t id, struct job_lease lease, int64_t now_ns,
                       struct job_record *r)
{
	struct job_slot *s;
	int error = leased(m, id, lease, now_ns / NS_PER_MS, &s);

	if (error < 0)
		return error;
	if (r->content_type.len > JOB_CONTENT_TYPE_MAX || r->headers.len > JOB_HEADERS_MAX)
		return -JOB_ETOO_LARGE;
	r->reason = 0;
	job_finish_record(m, s, JOB_DONE, now_ns, r);
	return 0;
}

/* The pause before the attempt after s->attempts. */
static int64_t backoff_ms(const struct job_queue_config *c, uint32_t attempts, uint64_t random)
{
	int64_t ns = c->backoff_ns,
		max = c->backoff_max_ns > c->backoff_ns ? c->backoff_max_ns : c->backoff_ns;
	int64_t jitter = c->backoff_jitter == JOB_NO_JITTER ? 0 : c->backoff_jitter;

	if (c->backoffs > 0)
		max = ns =
			NS_PER_MS * c->backoff_list_ms[(attempts < c->backoffs ? attempts : c->backoffs) - 1];
	for (uint32_t i = 1; i < attempts && ns < max; i++)
		ns = ns > max / 2 ? max : ns * 2;
	/* between -jitter and +jitter percent, in thousandths */
	ns += ns / 100000 * (jitter * (int64_t)(random % 2001) - jitter * 1000);
	return (ns + NS_PER_MS - 1) / NS_PER_MS;
}

int job_check_fail(struct job_machine *m, uint64_t id, struct job_lease lease, int64_t now_ns, bool retry,
                   int64_t delay_ms, uint64_t random, struct job_record *r)
{
	struct job_slot *s;
	int error = leased(m, id, lease, now_ns / NS_PER_MS, &s);

	if (error < 0)
		return error;
	r->reason = JOB_BY_WORKER;
	if (!retry || s->attempts >= job_attempts_max(m, s))
		return job_fail_record(m, s, now_ns, r);
	if (delay_ms < 0)
		delay_ms = backoff_ms(&job_slot_queue(m, s)->config, s->attempts, random);
	r->type = JOB_RETRY;
	r->id = id;
	r->at_ns = now_ns;
	r->when_ms = delay_ms > 0 ? job_clamp_ms(now_ns / NS_PER_MS + delay_ms) : 0;
	r->error_place = job_ext(m, s->ext)->error_place;
	r->attempt = s->attempts;
	return 0;
}

int job_check_release(struct job_machine *m, uint64_t id, struct job_lease lease, int64_t now_ms,
                      int64_t delay_ms, const uint32_t *priority, struct job_record *r)
{
	struct job_slot *s;
	int error = leased(m, id, lease, now_ms, &s);

	if (error < 0)
		return error;
	if (delay_ms < 0)
		return -JOB_EVALUE;
	*r = (struct job_record){.type = JOB_RELEASE,
	                         .id = id,
	                         .when_ms = delay_ms > 0 ? job_clamp_ms(now_ms + delay_ms) : 0,
	                         .delay_s = (uint32_t)(delay_ms < INT64_C(4294967295) * 1000
	                                                       ? (delay_ms + 999) / 1000
	                                                       : UINT32_MAX),
	                         .priority = priority ? *priority : s->priority};
	return 0;
}

int job_check_return(struct job_machine *m, uint64_t id, struct job_lease lease, int64_t now_ms,
                     struct job_record *r)
{
	struct job_slot *s;
	int error = leased(m, id, lease, now_ms, &s);

	if (error == 0)
		*r = (struct job_record){.type = JOB_RETURN, .id = id};
	return error;
}

int job_check_extend(struct job_machine *m, uint64_t id, struct job_lease lease, int64_t now_ms,
                     int64_t by_ms, struct job_record *r)
{
	struct job_slot *s;
	int error = leased(m, id, lease, now_ms, &s);

	if (error < 0)
		return error;
	if (by_ms < 0 || by_ms > EXTEND_MAX_MS)
		return -JOB_EVALUE;
	*r = (struct job_record){
		.type = JOB_EXTEND,
		.id = id,
		.when_ms = job_clamp_ms(now_ms + (by_ms > 0 ? by_ms : job_time_to_run_ms(m, s)))};
	return 0;
}

int job_check_progress(struct job_machine *m, uint64_t id, struct job_lease lease, int64_t now_ms,
                       struct job_record *r)
{
	struct job_slot *s;
	int error = leased(m, id, lease, now_ms, &s);

	if (error < 0)
		return error;
	if (r->body.len > JOB_PROGRESS_MAX)
		return -JOB_ETOO_LARGE;
	r->type = JOB_PROGRESS;
	r->id = id;
	return 0;
}

int job_check_bury(struct job_machine *m, uint64_t id, struct job_lease lease, int64_t now_ns,
                   const uint32_t *priority, struct job_record *r)
{
	struct job_slot *s;
	int error = leased(m, id, lease, now_ns / NS_PER_MS, &s);

	if (error < 0)
		return error;
	r->type = JOB_BURY;
	r->id = id;
	r->at_ns = now_ns;
	r->priority = priority ? *priority : s->priority;
	r->error_place = job_ext(m, s->ext)->error_place;
	r->attempt = s->attempts;
	return 0;
}

int job_check_acknowledge(struct job_machine *m, uint64_t id, int64_t now_ns, struct job_record *r)
{
	uint32_t slot = job_find(m, id);
	struct job_slot *s;

	if (slot == 0)
		return job_missing(m, id);
	s = job_slot(m, slot);
	if (s->state != JOB_RUNNING || !(s->flags & JOB_SLOT_CANCEL))
		return -JOB_ESTATE;
	*r = (struct job_record){0};
	job_finish_record(m, s, JOB_CANCELLED, now_ns, r);
	return 0;
}

/* ---- without ----------------------------------------------------------------------------- */

int job_check_done(struct job_machine *m, uint64_t id, int64_t now_ns, struct job_record *r)
{
	uint32_t slot = job_find(m, id);

	if (slot == 0)
		return job_missing(m, id);
	if (job_slot(m, slot)->state != JOB_READY)
		return -JOB_ESTATE;
	*r = (struct job_record){.status = 200};
	job_finish_record(m, job_slot(m, slot), JOB_DONE, now_ns, r);
	return 0;
}

int job_check_cancel(struct job_machine *m, uint64_t id, int64_t now_ns, struct job_record *r)
{
	uint32_t slot = job_find(m, id);
	struct job_slot *s;

	if (slot == 0)
		return job_missing(m, id);
	s = job_slot(m, slot);
	*r = (struct job_record){0};
	if (job_state_finished(s->state))
		return -JOB_EFINISHED;
	if (s->state != JOB_RUNNING)
		job_finish_record(m, s, JOB_CANCELLED, now_ns, r);
	else if (!(s->flags & JOB_SLOT_CANCEL))
		*r = (struct job_record){.type = JOB_CANCEL, .id = id};
	return 0;
}

int job_check_kick(struct job_machine *m, uint64_t id, struct job_record *r)
{
	uint32_t slot = job_find(m, id);
	struct job_slot *s;

	if (slot == 0)
		return job_missing(m, id);
	s = job_slot(m, slot);
	if (s->state != JOB_DELAYED && s->state != JOB_BURIED && s->state != JOB_AWAITING)
		return -JOB_ESTATE;
	if (job_ext_room(m, 1) < 0)
		return -ENOMEM;
	*r = (struct job_record){.type = JOB_KICK, .id = id};
	return 0;
}

int job_check_delete(struct job_machine *m, uint64_t id, const struct job_lease *lease, int64_t now_ms,
                     struct job_record *r)
{
	uint32_t slot = job_find(m, id);

	if (slot == 0)
		return job_missing(m, id);
	if (job_slot(m, slot)->state == JOB_RUNNING) {
		struct job_slot *s;
		int error = lease ? leased(m, id, *lease, now_ms, &s) : -JOB_ESTATE;

		if (error < 0 && error != -JOB_ECANCELLED)
			return error;
	}
	*r = (struct job_record){
		.type = JOB_REMOVE, .reason = JOB_REMOVE_DELETED, .id = id, .at_ns = now_ms * NS_PER_MS};
	r->body = (struct job_slice){&r->id, sizeof(r->id)};
	return 0;
}

/* ---- transactions ------------------------------------------------------------------------ */

int job_touch(struct job_machine *m, uint64_t id)
{
	uint32_t slot = job_find(m, id);

	if (slot == 0)
		return 0;
	if (job_slot(m, slot)->flags & (JOB_SLOT_TOUCHED | JOB_SLOT_AWAITED))
		return -JOB_ETWICE;
	job_slot_flag(job_slot(m, slot), JOB_SLOT_TOUCHED);
	return 0;
}

void job_untouch(struct job_machine *m, uint64_t id)
{
	uint32_t slot = job_find(m, id);

	if (slot != 0)
		job_slot_unflag(job_slot(m, slot), JOB_SLOT_TOUCHED | JOB_SLOT_AWAITED);
}
