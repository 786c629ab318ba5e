/* src/job/scan.c -- jobs of a queue, some at a time, for who goes through many of them without keeping others waiting. See job.h. */
#include "job/machine.h"

uint32_t job_scan_some(const struct job_machine *m, const struct job_queue *q, unsigned states,
                       uint32_t look_at, uint32_t *cursor, uint64_t *ids, uint32_t max)
{
	uint32_t count = 0, slot = *cursor + 1, end = m->slots_end;

	if (end - slot > look_at && end > slot)
		end = slot + look_at;
	for (; slot < end && count < max; slot++) {
		const struct job_slot *s = job_slot(m, slot);

		if (s->state != JOB_NONE && (states >> s->state & 1) && s->queue == q->number)
			ids[count++] = job_slot_id(s);
	}
	*cursor = slot - 1;
	return count;
}

bool job_scan_ended(const struct job_machine *m, uint32_t cursor)
{
	return cursor + 1 >= m->slots_end;
}

uint32_t job_buried_some(const struct job_machine *m, const struct job_queue *q, uint64_t *ids, uint32_t max)
{
	uint32_t count = 0;

	for (uint32_t slot = q->buried_first; slot != 0 && count < max; slot = job_slot(m, slot)->next)
		ids[count++] = job_slot_id(job_slot(m, slot));
	return count;
}

uint32_t job_scan_cursor(const struct job_machine *m, uint64_t id)
{
	return job_find(m, id);
}
