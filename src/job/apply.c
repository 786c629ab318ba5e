/* src/job/apply.c -- carrying out records: every change of a job's state is here, live and in replay alike.
 *
 * Nothing here can fail or decide: memory was made ahead (job_room() and the checks), decisions are in the
 * record. See job.h.
 */
#include <errno.h>

#include "job/machine.h"

uint32_t job_find(const struct job_machine *m, uint64_t id)
{
	return job_directory_find(&m->directory, id);
}

int job_missing(const struct job_machine *m, uint64_t id)
{
	for (size_t i = m->ranges_count; i-- > 0;)
		if (id >= m->ranges[i].from && id < m->ranges[i].until)
			return -JOB_EEXPIRED;
	return -JOB_EUNKNOWN_JOB;
}

void job_set_state(struct job_machine *m, struct job_slot *s, uint32_t state)
{
	struct job_queue *q = job_slot_queue(m, s);
	uint32_t before = s->state;

	if (s->ext != 0 && job_slot_policy(m, s))
		job_policy_state(m, job_policy(m, job_ext(m, s->ext)->policy)->slot, state);
	if (s->state != JOB_NONE) {
		q->jobs[s->state]--;
		m->totals.jobs[s->state]--;
	}
	if (state != JOB_NONE) {
		q->jobs[state]++;
		m->totals.jobs[state]++;
	}
	if (q->space)
		job_space_count(q->space, before, state);
	s->state = state & 0xf;
	if (before == JOB_RUNNING && q->limited)
		job_queue_wake(m, q);
}

void job_detach(struct job_machine *m, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_queue *q = job_slot_queue(m, s);

	switch (s->where) {
	case JOB_AT_HIDDEN:
		job_list_remove(m, &m->hidden_first, &m->hidden_last, slot);
		break;
	case JOB_AT_FIFO:
	case JOB_AT_HEAP:
	case JOB_AT_OVERFLOW:
		job_ready_remove(m, q, slot);
		break;
	case JOB_AT_DELAYS:
		job_wheel_remove(m, &m->delays, slot);
		break;
	case JOB_AT_LEASES:
		job_wheel_remove(m, &m->leases, slot);
		break;
	case JOB_AT_RETAIN:
		job_wheel_remove(m, &m->retain, slot);
		break;
	case JOB_AT_BURIED:
		job_list_remove(m, &q->buried_first, &q->buried_last, slot);
		break;
	}
	s->where = JOB_AT_NONE;
}

/* Into ready or delayed, from wherever it was taken out. */
void job_wait_again(struct job_machine *m, uint32_t slot, int64_t when_ms)
{
	struct job_slot *s = job_slot(m, slot);

	if (when_ms > 0) {
		job_set_state(m, s, JOB_DELAYED);
		job_slot_set_when(s, when_ms);
		job_wheel_add(m, &m->delays, slot, JOB_AT_DELAYS);
	} else {
		job_set_state(m, s, JOB_READY);
		job_ready_stand(m, job_slot_queue(m, s), slot);
	}
}

/* To the end of the buried ones of its queue. */
void job_set_aside(struct job_machine *m, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_queue *q = job_slot_queue(m, s);

	job_set_state(m, s, JOB_BURIED);
	s->where = JOB_AT_BURIED;
	job_slot_set_when(s, (int64_t)++m->burial_last);
	job_list_append(m, &q->buried_first, &q->buried_last, slot);
}

static void mark_changed(struct job_slot *s, uint64_t place)
{
	s->changed = (uint16_t)(place >> 12);
}

static void apply_ids(struct job_machine *m, const struct job_record *r)
{
	struct job_range *last = m->ranges_count ? &m->ranges[m->ranges_count - 1] : NULL;

	m->ids_next = r->id;
	m->ids_until = r->claim;
	if (last && last->until == r->id)
		return;
	if (last && last->from == last->until) {
		last->from = last->until = r->id;
		return;
	}
	if (m->ranges_count == JOB_RANGES_MAX) {
		m->ranges[1].from = m->ranges[0].from;
		memmove(&m->ranges[0], &m->ranges[1], (JOB_RANGES_MAX - 1) * sizeof(m->ranges[0]));
		m->ranges_count--;
	}
	m->ranges[m->ranges_count++] = (struct job_range){r->id, r->id};
}

static void apply_submit(struct job_machine *m, const struct job_record *r, uint64_t place, unsigned flags)
{
	uint32_t slot = job_slot_take(m);
	struct job_slot *s = job_slot(m, slot);
	struct job_queue *q = m->queues[r->queue];

	s->id_low = (uint32_t)r->id;
	s->id_high = (uint32_t)(r->id >> 32) & 0x1fffff;
	s->priority = r->priority;
	s->queue = r->queue & 0xffffff;
	job_slot_set_place(s, place);
	job_slot_set_size(s, job_size_class(job_record_bytes(r)));
	mark_changed(s, place);
	job_live_at(m, place, (int64_t)job_class_bytes(job_slot_size(s)));
	if (m->snapshot) {
		job_snapshot_skip(m, slot);
		job_snapshot_keep_queue(m, q);
	}
	job_directory_add(&m->directory, r->id, slot);
	m->ids_next = r->id + 1;
	m->ranges[m->ranges_count - 1].until = r->id + 1;
	if (r->time_to_run_ms != 0 || r->retention_ms != 0 || r->attempts_max != 0) {
		struct job_ext *e = job_ext_need(m, s);

		job_own_time_to_run(e, r->time_to_run_ms);
		job_own_retention(e, r->retention_ms);
		job_own_attempts(e, r->attempts_max);
	}
	if (r->unique.len > 0 || r->group.len > 0 || r->expires_ms != 0)
		job_policy_submit(m, slot, r);
	q->submitted++;
	m->totals.submitted++;
	if (r->after_count > 0) {
		if (flags & JOB_HIDDEN)
			job_slot_flag(s, JOB_SLOT_UNREVEALED);
		job_join_submit(m, slot, r);
		return;
	}
	if (r->flags & JOB_SUBMIT_BURIED) {
		job_set_aside(m, slot);
		return;
	}
	if ((flags & JOB_HIDDEN) && r->when_ms == 0) {
		job_set_state(m, s, JOB_READY);
		s->where = JOB_AT_HIDDEN;
		job_list_append(m, &m->hidden_first, &m->hidden_last, slot);
		return;
	}
	if (flags & JOB_HIDDEN)
		job_slot_flag(s, JOB_SLOT_UNREVEALED);
	job_wait_again(m, slot, r->when_ms);
}

static void apply_claim(struct job_machine *m, uint32_t slot, const struct job_record *r)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_ext *e = job_ext_need(m, s);

	job_detach(m, slot);
	if (e->policy != 0)
		job_join_drop(m, job_policy(m, e->policy));
	e->claim = r->claim;
	e->epoch = r->epoch;
	e->claimed_ms = (uint32_t)(r->at_ns / 1000000);
	e->changes = 0;
	e->reserves++;
	e->flags &= ~(uint32_t)JOB_EXT_BOUND;
	if (r->flags & JOB_CLAIM_BOUND)
		e->flags |= JOB_EXT_BOUND;
	if (r->claim > m->claim_last)
		m->claim_last = r->claim;
	s->attempts = r->attempt & 0x7ff;
	job_slot_unflag(s, JOB_SLOT_UNREVEALED | JOB_SLOT_CANCEL);
	job_set_state(m, s, JOB_RUNNING);
	job_slot_queue(m, s)->attempts++;
	m->totals.attempts++;
	job_slot_set_when(s, r->when_ms);
	job_wheel_add(m, &m->leases, slot, JOB_AT_LEASES);
}

static void count_timeout(struct job_machine *m, struct job_slot *s, const struct job_record *r)
{
	if (r->reason == JOB_BY_TIMEOUT) {
		job_slot_queue(m, s)->timeouts++;
		m->totals.timeouts++;
	}
}

void job_set_error(struct job_machine *m, struct job_ext *e, const struct job_record *r, uint64_t place)
{
	job_live_at(m, e->error_place, -(int64_t)e->error_bytes);
	e->error_place = place;
	e->error_bytes = (uint32_t)job_record_bytes(r);
	job_live_at(m, place, e->error_bytes);
}

static void set_progress(struct job_machine *m, struct job_ext *e, const struct job_record *r, uint64_t place)
{
	job_live_at(m, e->progress_place, -(int64_t)e->progress_bytes);
	e->progress_place = place;
	e->progress_bytes = (uint32_t)job_record_bytes(r);
	job_live_at(m, place, e->progress_bytes);
}

static void apply_retry(struct job_machine *m, uint32_t slot, const struct job_record *r, uint64_t place)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_ext *e = job_ext(m, s->ext);

	job_detach(m, slot);
	job_set_error(m, e, r, place);
	if (r->reason == JOB_BY_TIMEOUT && e->timeouts < UINT16_MAX)
		e->timeouts++;
	count_timeout(m, s, r);
	job_slot_queue(m, s)->retries++;
	m->totals.retries++;
	job_ext_trim(m, s);
	job_wait_again(m, slot, r->when_ms);
}

static void give_ext(struct job_machine *m, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);

	if (s->ext != 0 && job_slot_policy(m, s))
		job_policy_end(m, slot);
	job_ext_give(m, s);
}

/* What those that await the job are told. */
static void tell_end(struct job_machine *m, const struct job_record *r, int why, bool for_good,
                     uint64_t place, unsigned flags)
{
	if (m->awaited.used > 0)
		job_awaited_end(m, &(struct job_end){.id = r->id,
		                                     .why = why,
		                                     .for_good = for_good,
		                                     .at_ms = r->at_ns / 1000000,
		                                     .place = place,
		                                     .flags = flags});
}

/* Out of everything; the slot is free then. */
static void forget(struct job_machine *m, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_queue *q = job_slot_queue(m, s);

	job_detach(m, slot);
	if (m->live)
		job_live_tell(m, s, -1);
	give_ext(m, slot);
	job_set_state(m, s, JOB_NONE);
	job_directory_remove(&m->directory, job_slot_id(s));
	job_slot_give(m, slot);
	job_queue_free_if_gone(m, q);
}

static void apply_finish(struct job_machine *m, uint32_t slot, const struct job_record *r, uint64_t place,
                         unsigned flags)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_queue *q = job_slot_queue(m, s);
	uint32_t submit = job_submit_about(s);

	job_detach(m, slot);
	if (m->live)
		job_live_tell(m, s, -1);
	give_ext(m, slot);
	job_slot_unflag(s, JOB_SLOT_CANCEL | JOB_SLOT_UNREVEALED);
	job_set_state(m, s, r->state);
	s->ext = submit;
	job_slot_set_place(s, place);
	job_slot_set_size(s, job_size_class(job_record_bytes(r)));
	if (m->live)
		job_live_tell(m, s, 1);
	count_timeout(m, s, r);
	if (r->state == JOB_DONE) {
		q->completed++;
		m->totals.completed++;
		tell_end(m, r, JOB_AWAITED_DONE, true, place, flags);
	} else if (r->state == JOB_FAILED) {
		q->failed++;
		m->totals.failed++;
		tell_end(m, r, JOB_AWAITED_FAILED, r->when_ms == 0, place, flags);
	} else {
		q->cancelled++;
		m->totals.cancelled++;
		tell_end(m, r, JOB_AWAITED_CANCELLED, true, place, flags);
	}
	if (r->when_ms == 0) {
		forget(m, slot);
		return;
	}
	job_slot_set_when(s, r->when_ms);
	job_wheel_add(m, &m->retain, slot, JOB_AT_RETAIN);
	if (q->config.finished_max > 0 || q->kept_known)
		job_kept_add(m, q, s);
}

/* To another queue, ready there: a job with the same id, payload and errors, which has not been begun yet. */
static void apply_dead(struct job_machine *m, uint32_t slot, const struct job_record *r, uint64_t place,
                       unsigned flags)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_queue *from = job_slot_queue(m, s), *to = m->queues[r->queue];
	struct job_ext *e = job_ext(m, s->ext);
	uint64_t group[2];

	if (m->snapshot)
		job_snapshot_keep_queue(m, to);
	job_detach(m, slot);
	job_set_error(m, e, r, place);
	if (r->reason == JOB_BY_TIMEOUT && e->timeouts < UINT16_MAX)
		e->timeouts++;
	count_timeout(m, s, r);
	from->dead++;
	m->totals.dead++;
	job_policy_leave(m, slot, true, group);
	job_set_state(m, s, JOB_NONE);
	s->queue = to->number & 0xffffff;
	s->attempts = 0;
	job_policy_arrive(m, slot, group);
	job_ext_trim(m, s);
	job_wait_again(m, slot, 0);
	tell_end(m, r, JOB_AWAITED_DEAD, false, place, flags);
}

static void apply_bury(struct job_machine *m, uint32_t slot, const struct job_record *r, uint64_t place)
{
	struct job_slot *s = job_slot(m, slot);

	job_detach(m, slot);
	if (job_slot_policy(m, s))
		job_join_drop(m, job_slot_policy(m, s));
	if (r->text.len > 0)
		job_set_error(m, job_ext(m, s->ext), r, place);
	job_ext(m, s->ext)->buries++;
	job_ext_trim(m, s);
	s->priority = r->priority;
	job_set_aside(m, slot);
}

static void apply_release(struct job_machine *m, uint32_t slot, const struct job_record *r)
{
	struct job_slot *s = job_slot(m, slot);

	job_detach(m, slot);
	if (r->type == JOB_RELEASE) {
		job_ext(m, s->ext)->releases++;
		job_ext(m, s->ext)->delay_s = r->delay_s;
		s->priority = r->priority;
	}
	if (s->attempts > 0)
		s->attempts = (s->attempts - 1u) & 0x7ff;
	if (r->type == JOB_RETURN) {
		job_limit_give_back(job_slot_queue(m, s));
		job_bucket_give_back(m, s);
	}
	job_ext_trim(m, s);
	job_wait_again(m, slot, r->when_ms);
}

static void apply_extend(struct job_machine *m, uint32_t slot, const struct job_record *r)
{
	struct job_slot *s = job_slot(m, slot);

	job_detach(m, slot);
	job_ext(m, s->ext)->changes++;
	job_slot_set_when(s, r->when_ms);
	job_wheel_add(m, &m->leases, slot, JOB_AT_LEASES);
}

static void apply_remove(struct job_machine *m, const struct job_record *r, uint64_t place, unsigned flags)
{
	struct job_record of = {.at_ns = r->at_ns};

	for (size_t i = 0; i < r->body.len / 8; i++) {
		uint32_t slot;

		memcpy(&of.id, (const uint8_t *)r->body.data + i * 8, 8);
		slot = job_find(m, of.id);
		if (slot == 0)
			continue;
		job_changes(m, slot);
		if (r->reason != JOB_REMOVE_DELETED)
			m->totals.expired++;
		tell_end(m, &of, JOB_AWAITED_GONE, true, place, flags);
		forget(m, slot);
	}
}

/* Written again elsewhere: places move, nothing else changes. */
static void apply_whole(struct job_machine *m, uint32_t slot, const struct job_record *r, uint64_t place)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_ext *e = job_slot_ext(m, s);
	uint64_t bytes = job_record_bytes(r);

	if (m->live)
		job_live_tell(m, s, -1);
	if (r->flags & JOB_WHOLE_PAYLOAD) {
		/* its SUBMIT is flushed; what released it may not be */
		if (job_hidden_place(m, s) == job_slot_place(s))
			job_slot_unflag(s, JOB_SLOT_UNREVEALED);
		job_slot_set_place(s, place);
		job_slot_set_size(s, job_size_class(bytes));
	}
	if (r->flags & JOB_WHOLE_RESULT) {
		s->ext = 0;
	} else {
		/* of several parts in one record the first is told with all of its bytes */
		if (r->flags & JOB_WHOLE_ERRORS) {
			e->error_place = place;
			e->error_bytes = r->flags & JOB_WHOLE_PAYLOAD ? 0 : (uint32_t)bytes;
		}
		if (r->flags & JOB_WHOLE_PROGRESS) {
			e->progress_place = place;
			e->progress_bytes =
				r->flags & (JOB_WHOLE_PAYLOAD | JOB_WHOLE_ERRORS) ? 0 : (uint32_t)bytes;
		}
	}
	if (m->live)
		job_live_tell(m, s, 1);
}

static void apply_kick(struct job_machine *m, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);

	job_detach(m, slot);
	if (job_slot_policy(m, s))
		job_join_drop(m, job_slot_policy(m, s));
	job_slot_unflag(s, JOB_SLOT_UNREVEALED);
	job_ext_need(m, s)->kicks++;
	job_wait_again(m, slot, 0);
}

static void apply_to_job(struct job_machine *m, const struct job_record *r, uint64_t place, unsigned flags)
{
	uint32_t slot = job_find(m, r->id);
	struct job_slot *s = job_slot(m, slot);

	assert(slot != 0);
	job_changes(m, slot);
	if (r->type != JOB_WHOLE)
		mark_changed(s, place);
	switch (r->type) {
	case JOB_CLAIM:
		apply_claim(m, slot, r);
		break;
	case JOB_EXTEND:
		apply_extend(m, slot, r);
		break;
	case JOB_RELEASE:
	case JOB_RETURN:
		apply_release(m, slot, r);
		break;
	case JOB_RETRY:
		apply_retry(m, slot, r, place);
		break;
	case JOB_FINISH:
		apply_finish(m, slot, r, place, flags);
		break;
	case JOB_CANCEL:
		job_slot_flag(s, JOB_SLOT_CANCEL);
		break;
	case JOB_PROGRESS:
		set_progress(m, job_ext(m, s->ext), r, place);
		job_ext(m, s->ext)->changes++;
		break;
	case JOB_WHOLE:
		apply_whole(m, slot, r, place);
		break;
	case JOB_BURY:
		apply_bury(m, slot, r, place);
		break;
	case JOB_DEAD:
		apply_dead(m, slot, r, place, flags);
		break;
	case JOB_EDIT:
		job_apply_edit(m, slot, r);
		break;
	case JOB_REVIVE:
		job_apply_revive(m, slot, r, place);
		break;
	case JOB_KICK:
		apply_kick(m, slot);
		break;
	case JOB_AFTER:
		job_apply_after(m, slot, r, place, flags);
		break;
	}
}

void job_lose_result(struct job_machine *m, uint64_t id)
{
	uint32_t slot = job_find(m, id);
	struct job_slot *s = job_slot(m, slot);
	struct job_queue *q = job_slot_queue(m, s);

	if (slot == 0 || s->state != JOB_DONE)
		return;
	job_set_state(m, s, JOB_FAILED);
	q->completed -= q->completed > 0;
	m->totals.completed -= m->totals.completed > 0;
	q->failed++;
	m->totals.failed++;
}

void job_apply(struct job_machine *m, const struct job_record *r, uint64_t place, unsigned flags)
{
	while (m->released.first != 0) /* whoever wanted to know of those has asked */
		(void)job_released(m);
	switch (r->type) {
	case JOB_IDS:
		apply_ids(m, r);
		break;
	case JOB_QUEUE:
		job_queue_apply(m, r);
		break;
	case JOB_QUEUE_GONE:
		job_queue_apply_gone(m, r);
		break;
	case JOB_SUBMIT:
		apply_submit(m, r, place, flags);
		break;
	case JOB_REMOVE:
		apply_remove(m, r, place, flags);
		break;
	case JOB_RATE:
		job_limit_apply(m, r);
		break;
	case JOB_GROUP_RATE:
		job_bucket_apply(m, r);
		break;
	case JOB_SETTING:
	case JOB_BLOBS:
	case JOB_KEY:
	case JOB_KEYS:
		break; /* the store's */
	default:
		apply_to_job(m, r, place, flags);
	}
}

/* ---- replay ------------------------------------------------------------------------------ */

static bool whole_fits(const struct job_machine *m, const struct job_slot *s, const struct job_record *r)
{
	const struct job_ext *e = job_slot_ext(m, s);

	if (job_state_finished(s->state) || (r->flags & JOB_WHOLE_RESULT))
		return job_state_finished(s->state) && (r->flags & JOB_WHOLE_RESULT);
	return (!(r->flags & JOB_WHOLE_ERRORS) || (e && e->error_place != 0)) &&
	       (!(r->flags & JOB_WHOLE_PROGRESS) || (e && e->progress_place != 0));
}

int job_check_whole(const struct job_machine *m, const struct job_places *places, const struct job_record *r)
{
	struct job_places now;
	int error = job_places(m, r->id, &now);

	if (error < 0)
		return error;
	if (now.state != places->state && job_state_finished(now.state) != job_state_finished(places->state))
		return -EAGAIN;
	if (((r->flags & JOB_WHOLE_PAYLOAD) && now.base != places->base) ||
	    ((r->flags & JOB_WHOLE_ERRORS) && now.error != places->error) ||
	    ((r->flags & JOB_WHOLE_PROGRESS) && now.progress != places->progress))
		return -EAGAIN;
	return whole_fits(m, job_slot(m, job_find(m, r->id)), r) ? 0 : -EAGAIN;
}

/* Does a record about a job fit the state that the job is in? */
static bool fits(const struct job_machine *m, const struct job_slot *s, const struct job_record *r)
{
	switch (r->type) {
	case JOB_CLAIM:
		return s->state == JOB_READY || s->state == JOB_DELAYED || s->state == JOB_BURIED;
	case JOB_FINISH:
		return !job_state_finished(s->state);
	case JOB_WHOLE:
		return whole_fits(m, s, r);
	case JOB_KICK:
		/* a delayed job may have become ready by itself in the meantime */
		return s->state == JOB_DELAYED || s->state == JOB_BURIED || s->state == JOB_AWAITING;
	case JOB_BURY:
		return s->state == JOB_RUNNING || (s->state == JOB_AWAITING && s->ext != 0);
	case JOB_AFTER:
		return job_after_fits(m, s, r);
	case JOB_DEAD:
		return s->state == JOB_RUNNING && job_queue_at(m, r->queue) && !m->queues[r->queue]->gone &&
		       r->queue != s->queue;
	case JOB_EDIT:
		return job_edit_fits(m, s, r);
	case JOB_REVIVE:
		return job_revive_fits(m, s, r);
	default:
		return s->state == JOB_RUNNING;
	}
}

/* Room for what the job has. */
static int room_of_submit(struct job_machine *m, const struct job_record *r)
{
	int error = job_room(m, 1);

	if (error == 0 && (r->unique.len > 0 || r->group.len > 0 || r->expires_ms != 0))
		error = job_policy_room(m, 1);
	if (error == 0 && r->after_count > 0)
		error = job_after_room(m, 1, 0);
	return error < 0 || r->unique.len == 0 ? error : job_unique_room(m, 1);
}

int job_replay(struct job_machine *m, const struct job_record *r, uint64_t place)
{
	uint32_t slot;
	int error = 0;

	switch (r->type) {
	case JOB_IDS:
		if (r->id < m->ids_next)
			return -EPROTO;
		break;
	case JOB_QUEUE:
		error = job_queue_room(m, r->queue);
		if (!job_queue_at(m, r->queue) ? job_queue_find(m, r->body) != NULL
		                               : m->queues[r->queue]->gone)
			return -EPROTO;
		break;
	case JOB_QUEUE_GONE:
		if (!job_queue_at(m, r->queue) || m->queues[r->queue]->gone)
			return -EPROTO;
		break;
	case JOB_SUBMIT:
		if (!job_queue_at(m, r->queue) || r->id < m->ids_next || r->id >= m->ids_until)
			return -EPROTO;
		m->ids_next = r->id;
		error = room_of_submit(m, r);
		break;
	case JOB_RATE:
	case JOB_GROUP_RATE:
		if (!job_queue_at(m, r->queue))
			return -EPROTO;
		error = r->type == JOB_GROUP_RATE ? job_bucket_room(m, 1) : 0;
		break;
	case JOB_REMOVE:
	case JOB_SETTING:
	case JOB_BLOBS:
	case JOB_KEY:
	case JOB_KEYS:
		break;
	default:
		if (job_record_checkpoint(r->type))
			return -EPROTO;
		slot = job_find(m, r->id);
		if (slot == 0 || !fits(m, job_slot(m, slot), r))
			return -EPROTO;
		if (r->type == JOB_CLAIM || r->type == JOB_KICK)
			error = job_ext_room(m, 1);
		else if (r->type == JOB_DEAD)
			error = job_policy_room(m, 1);
		else if (r->type == JOB_AFTER)
			error = job_after_room(m, 0, r->body.len / 8);
		else if (r->type == JOB_EDIT || r->type == JOB_REVIVE)
			error = job_edit_room(m, 1);
	}
	if (error < 0)
		return error;
	job_apply(m, r, place, 0);
	return 0;
}
