/* src/job/edit.c -- a job that is told to be another: its values edited, moved to another queue, called back from its failure. See job.h.
 *
 * Checked and carried out here, since both ask the same: what stands where in which state.
 */
#include <errno.h>

#include "job/machine.h"

/* Where about a finished job's SUBMIT is, and its class of size. */
#define ABOUT_MASK ((UINT32_C(1) << JOB_SUBMIT_BITS) - 1)

static bool waits(const struct job_slot *s)
{
	return s->state == JOB_DELAYED || s->state == JOB_READY || s->state == JOB_AWAITING;
}

int job_edit_room(struct job_machine *m, uint64_t count)
{
	if (job_ext_room(m, count) < 0 || job_policy_room(m, count) < 0)
		return -ENOMEM;
	return job_unique_room(m, count);
}

/* ---- check ------------------------------------------------------------------------------- */

int job_check_edit(struct job_machine *m, uint64_t id, struct job_record *r)
{
	uint32_t slot = job_find(m, id), least;
	const struct job_slot *s;

	if (slot == 0)
		return job_missing(m, id);
	s = job_slot(m, slot);
	if (job_state_finished(s->state))
		return -JOB_EFINISHED;
	if (((r->flags & JOB_EDIT_RUN_AT) && !waits(s)) ||
	    ((r->flags & JOB_EDIT_EXPIRES) && (s->attempts > 0 || s->state == JOB_RUNNING)))
		return -JOB_ESTATE;
	least = s->attempts + (s->state != JOB_RUNNING ? 1u : 0u);
	if ((r->flags & JOB_EDIT_ATTEMPTS) && r->attempts_max != 0 &&
	    (r->attempts_max < least ||
	     (r->attempts_max > JOB_ATTEMPTS_MAX && r->attempts_max != JOB_ATTEMPTS_UNLIMITED)))
		return -JOB_EVALUE;
	if (r->time_to_run_ms < 0 || r->time_to_run_ms > JOB_TIME_TO_RUN_MAX_MS || r->when_ms < 0 ||
	    r->expires_ms < 0)
		return -JOB_EVALUE;
	if (job_edit_room(m, 1) < 0)
		return -ENOMEM;
	r->id = id;
	r->type = r->flags ? JOB_EDIT : 0;
	r->when_ms = job_clamp_ms(r->when_ms);
	r->expires_ms = job_clamp_ms(r->expires_ms);
	return 0;
}

/* Is there such a queue, for new jobs? */
static bool takes_jobs(const struct job_machine *m, uint32_t queue)
{
	return job_queue_at(m, queue) && !m->queues[queue]->gone;
}

int job_check_move(struct job_machine *m, uint64_t id, uint32_t queue, bool anew, struct job_record *r)
{
	uint32_t slot = job_find(m, id);
	const struct job_slot *s;

	if (slot == 0)
		return job_missing(m, id);
	s = job_slot(m, slot);
	if (job_state_finished(s->state))
		return -JOB_EFINISHED;
	if (s->state == JOB_RUNNING || (queue != 0 && queue == s->queue) ||
	    (anew && s->state == JOB_AWAITING))
		return -JOB_ESTATE;
	if (queue != 0 && !takes_jobs(m, queue))
		return -JOB_EUNKNOWN_QUEUE;
	if (job_edit_room(m, 1) < 0)
		return -ENOMEM;
	*r = (struct job_record){.type = JOB_EDIT,
	                         .id = id,
	                         .flags = (uint8_t)((queue ? JOB_EDIT_QUEUE : 0) |
	                                            (anew ? JOB_EDIT_ANEW | JOB_EDIT_RUN_AT : 0)),
	                         .queue = queue};
	return 0;
}

int job_check_revive(struct job_machine *m, uint64_t id, uint32_t queue, struct job_record *r)
{
	uint32_t slot = job_find(m, id);

	if (slot == 0)
		return job_missing(m, id);
	if (!takes_jobs(m, queue))
		return -JOB_EUNKNOWN_QUEUE;
	r->type = JOB_REVIVE;
	r->id = id;
	r->queue = queue;
	r->when_ms = r->expires_ms = r->after_delay_ms = 0;
	r->after_count = r->after_failure = 0;
	if (!job_revive_fits(m, job_slot(m, slot), r))
		return -JOB_ESTATE;
	return job_edit_room(m, 1);
}

bool job_edit_fits(const struct job_machine *m, const struct job_slot *s, const struct job_record *r)
{
	if (job_state_finished(s->state))
		return false;
	if (s->state == JOB_RUNNING && (r->flags & (JOB_EDIT_RUN_AT | JOB_EDIT_QUEUE | JOB_EDIT_ANEW)))
		return false;
	if (s->state == JOB_AWAITING && (r->flags & JOB_EDIT_ANEW))
		return false;
	return !(r->flags & JOB_EDIT_QUEUE) || (takes_jobs(m, r->queue) && r->queue != s->queue);
}

bool job_revive_fits(const struct job_machine *m, const struct job_slot *s, const struct job_record *r)
{
	uint32_t about = (uint32_t)(r->submit_place >> JOB_SUBMIT_SHIFT) & ABOUT_MASK;

	if (s->state != JOB_FAILED || !takes_jobs(m, r->queue))
		return false;
	return s->ext == 0 ? r->submit_place == job_slot_place(s) : about == (s->ext & ABOUT_MASK);
}

/* ---- apply ------------------------------------------------------------------------------- */

void job_own_time_to_run(struct job_ext *e, int64_t ms)
{
	bool seconds = ms > UINT32_MAX;

	e->time_to_run = (uint32_t)(seconds ? (ms + 999) / 1000 : ms);
	e->flags = (e->flags & ~(uint32_t)JOB_EXT_SECONDS) | (seconds ? JOB_EXT_SECONDS : 0u);
}

void job_own_retention(struct job_ext *e, int64_t ms)
{
	e->retention_ms = ms;
	e->flags = (e->flags & ~(uint32_t)JOB_EXT_RETENTION) | (ms != 0 ? JOB_EXT_RETENTION : 0u);
}

void job_own_attempts(struct job_ext *e, uint32_t attempts_max)
{
	e->attempts_max =
		attempts_max == JOB_ATTEMPTS_UNLIMITED ? (uint16_t)JOB_EXT_UNLIMITED : (uint16_t)attempts_max;
}

static void edit_own(struct job_ext *e, const struct job_record *r)
{
	if (r->flags & JOB_EDIT_TIME_TO_RUN)
		job_own_time_to_run(e, r->time_to_run_ms);
	if (r->flags & JOB_EDIT_RETENTION)
		job_own_retention(e, r->retention_ms);
	if (r->flags & JOB_EDIT_ATTEMPTS)
		job_own_attempts(e, r->attempts_max);
	if (r->flags & (JOB_EDIT_TIME_TO_RUN | JOB_EDIT_RETENTION | JOB_EDIT_ATTEMPTS))
		e->flags |= JOB_EXT_EDITED;
}

/* Out of one queue and into another; taken out of its structures before, and in none yet. */
static void change_queue(struct job_machine *m, uint32_t slot, uint32_t queue)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_queue *from = job_slot_queue(m, s);
	uint32_t state = s->state;
	uint64_t group[2];
	bool policy = job_slot_policy(m, s) != NULL;

	if (m->snapshot)
		job_snapshot_keep_queue(m, m->queues[queue]);
	if (policy)
		job_policy_leave(m, slot, false, group);
	job_set_state(m, s, JOB_NONE);
	s->queue = queue & 0xffffff;
	if (policy)
		job_policy_arrive(m, slot, group);
	job_set_state(m, s, state);
	job_queue_free_if_gone(m, from);
}

static void stand_again(struct job_machine *m, uint32_t slot, uint32_t state, int64_t when_ms)
{
	if (state == JOB_BURIED)
		job_set_aside(m, slot);
	else
		job_wait_again(m, slot, when_ms);
}

/* One that awaits others goes on awaiting them: the instant counts when they have ended. */
static void edit_awaiting(struct job_machine *m, uint32_t slot, const struct job_record *r)
{
	struct job_slot *s = job_slot(m, slot);

	if (r->flags & JOB_EDIT_PRIORITY)
		s->priority = r->priority;
	if (r->flags & JOB_EDIT_RUN_AT) {
		job_slot_set_when(s, r->when_ms);
		job_slot_join(m, s)->delay_ms = 0;
	}
	if (r->flags & JOB_EDIT_QUEUE)
		change_queue(m, slot, r->queue);
}

static void edit_waiting(struct job_machine *m, uint32_t slot, const struct job_record *r)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_ext *e = job_ext_need(m, s);
	bool instant = r->flags & JOB_EDIT_RUN_AT, moves = r->flags & JOB_EDIT_QUEUE;
	/* what is not to be leased yet stays in the list of those, where it is found by its place */
	bool hidden = s->where == JOB_AT_HIDDEN && r->when_ms == 0;
	bool again = !hidden && (instant || moves);
	bool in_line = !hidden && !again && s->state == JOB_READY;
	uint32_t state = instant ? JOB_READY : s->state;
	int64_t when_ms = instant ? r->when_ms : s->state == JOB_DELAYED ? job_slot_when(s) : 0;

	if (s->where == JOB_AT_HIDDEN && !hidden) /* its time must not reveal it either */
		job_slot_flag(s, JOB_SLOT_UNREVEALED);
	e->kicks += instant && s->state == JOB_BURIED;
	if (again || in_line)
		job_detach(m, slot);
	if (r->flags & JOB_EDIT_PRIORITY)
		s->priority = r->priority;
	if (r->flags & JOB_EDIT_ANEW)
		s->attempts = 0;
	if (moves)
		change_queue(m, slot, r->queue);
	if (instant && r->when_ms == 0 && s->state != JOB_READY)
		job_slot_unflag(s, JOB_SLOT_UNREVEALED);
	if (again)
		stand_again(m, slot, state, when_ms);
	else if (
		in_line) /* no change of its state: when read back it may be a delayed one whose time has come */
		job_ready_stand(m, job_slot_queue(m, s), slot);
}

void job_apply_edit(struct job_machine *m, uint32_t slot, const struct job_record *r)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_ext *e = job_ext_need(m, s);

	e->flags += JOB_EXT_EDIT;
	edit_own(e, r);
	if (s->state == JOB_AWAITING)
		edit_awaiting(m, slot, r);
	else
		edit_waiting(m, slot, r);
	if ((r->flags & JOB_EDIT_EXPIRES) || job_slot_policy(m, s))
		job_policy_expire(m, slot,
		                  r->flags & JOB_EDIT_EXPIRES ? r->expires_ms
		                                              : job_slot_policy(m, s)->expires_ms);
}

void job_apply_revive(struct job_machine *m, uint32_t slot, const struct job_record *r, uint64_t place)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_queue *from = job_slot_queue(m, s);
	uint32_t size = s->ext != 0 ? s->ext >> JOB_SUBMIT_BITS : job_slot_size(s);
	struct job_ext *e;

	if (m->snapshot)
		job_snapshot_keep_queue(m, m->queues[r->queue]);
	job_detach(m, slot);
	if (m->live)
		job_live_tell(m, s, -1);
	job_set_state(m, s, JOB_NONE);
	s->ext = 0;
	s->queue = r->queue & 0xffffff;
	s->attempts = 0;
	job_slot_set_place(s, r->submit_place);
	job_slot_set_size(s, size);
	job_live_at(m, job_slot_place(s), (int64_t)job_class_bytes(size));
	e = job_ext_need(m, s);
	e->timeouts = (uint16_t)r->timeouts;
	e->flags = JOB_EXT_EDIT | JOB_EXT_EDITED;
	job_own_time_to_run(e, r->time_to_run_ms);
	job_own_retention(e, r->retention_ms);
	job_own_attempts(e, r->attempts_max);
	job_set_error(m, e, r, place);
	if (r->unique.len > 0 || r->group.len > 0)
		job_policy_submit(m, slot, r);
	job_wait_again(m, slot, 0);
	job_queue_free_if_gone(m, from);
}
