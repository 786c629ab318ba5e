/* src/job/values.c -- what holds for a job: its own values where it has some, else its queue's. */
#include <errno.h>

#include "job/machine.h"

#define NS_PER_MS INT64_C(1000000)

int64_t job_time_to_run_ms(const struct job_machine *m, const struct job_slot *s)
{
	const struct job_ext *e = job_slot_ext(m, s);

	if (e && e->time_to_run != 0)
		return e->flags & JOB_EXT_SECONDS ? (int64_t)e->time_to_run * 1000 : e->time_to_run;
	return (job_slot_queue(m, s)->config.time_to_run_ns + NS_PER_MS - 1) / NS_PER_MS;
}

int64_t job_retention_ms(const struct job_machine *m, const struct job_slot *s)
{
	const struct job_ext *e = job_slot_ext(m, s);

	if (e && (e->flags & JOB_EXT_RETENTION))
		return e->retention_ms;
	return job_slot_queue(m, s)->config.retention_ns / NS_PER_MS;
}

uint32_t job_attempts_max(const struct job_machine *m, const struct job_slot *s)
{
	const struct job_ext *e = job_slot_ext(m, s);
	uint32_t own = e ? e->attempts_max : 0;

	if (own == JOB_EXT_UNLIMITED)
		return JOB_ATTEMPTS_UNLIMITED;
	return own ? own : job_slot_queue(m, s)->config.attempts_max;
}

void job_finish_record(const struct job_machine *m, const struct job_slot *s, int state, int64_t now_ns,
                       struct job_record *r)
{
	const struct job_ext *e = job_slot_ext(m, s);
	int64_t retention_ms = job_retention_ms(m, s);

	r->type = JOB_FINISH;
	r->state = (uint8_t)state;
	r->id = job_slot_id(s);
	r->at_ns = now_ns;
	r->when_ms = retention_ms > 0 ? job_clamp_ms(now_ns / NS_PER_MS + retention_ms) : 0;
	r->submit_place = job_slot_place(s);
	r->error_place = e ? e->error_place : 0;
	r->attempt = s->attempts;
	r->timeouts = e ? e->timeouts : 0;
	r->edited = e && (e->flags & JOB_EXT_EDITED);
	if (r->edited) {
		r->time_to_run_ms = e->time_to_run * (e->flags & JOB_EXT_SECONDS ? INT64_C(1000) : 1);
		r->retention_ms = e->flags & JOB_EXT_RETENTION ? e->retention_ms : 0;
		r->attempts_max =
			e->attempts_max == JOB_EXT_UNLIMITED ? JOB_ATTEMPTS_UNLIMITED : e->attempts_max;
	}
}

int job_fail_record(struct job_machine *m, const struct job_slot *s, int64_t now_ns, struct job_record *r)
{
	uint32_t dead_letter = job_slot_queue(m, s)->config.dead_letter;
	const struct job_queue *to = dead_letter ? job_queue_at(m, dead_letter) : NULL;

	if (!to || to->gone) {
		job_finish_record(m, s, JOB_FAILED, now_ns, r);
		r->timeouts += r->reason == JOB_BY_TIMEOUT;
		return 0;
	}
	if (job_policy_room(m, 1) < 0)
		return -ENOMEM;
	r->type = JOB_DEAD;
	r->id = job_slot_id(s);
	r->at_ns = now_ns;
	r->queue = dead_letter;
	r->error_place = job_ext(m, s->ext)->error_place;
	r->attempt = s->attempts;
	return 0;
}
