/* src/job/retain.c -- finished jobs of a queue that keeps no more than so many: those closest to their end go first. See job.h.
 *
 * A queue with a limit of its own has a heap of its finished jobs by the end of their retention. It is a help only: an entry
 * whose job has gone in the meantime is passed over, and a heap that is not known to hold all of them (the limit is new,
 * the machine has just been read back, memory was short, or too many entries are of jobs that have gone) is filled anew by a
 * pass over all jobs, so many at a time.
 */
#include <errno.h>

#include "job/machine.h"

static bool before(const struct job_kept *a, const struct job_kept *b)
{
	return a->when_ms != b->when_ms ? a->when_ms < b->when_ms : a->id < b->id;
}

static bool push(struct job_queue *q, struct job_kept kept)
{
	uint64_t i = q->kept_count;

	if (q->kept_count == q->kept_cap) {
		uint64_t cap = q->kept_cap ? q->kept_cap * 2 : 64;
		struct job_kept *all = realloc(q->kept, cap * sizeof(all[0]));

		if (!all)
			return false;
		q->kept = all;
		q->kept_cap = cap;
	}
	q->kept_count++;
	for (; i > 0 && before(&kept, &q->kept[(i - 1) / 2]); i = (i - 1) / 2)
		q->kept[i] = q->kept[(i - 1) / 2];
	q->kept[i] = kept;
	return true;
}

static struct job_kept pop(struct job_queue *q)
{
	struct job_kept first = q->kept[0], last = q->kept[--q->kept_count];
	uint64_t i = 0, child;

	while ((child = 2 * i + 1) < q->kept_count) {
		child += child + 1 < q->kept_count && before(&q->kept[child + 1], &q->kept[child]);
		if (!before(&q->kept[child], &last))
			break;
		q->kept[i] = q->kept[child];
		i = child;
	}
	q->kept[i] = last;
	return first;
}

static uint64_t finished(const struct job_queue *q)
{
	return q->jobs[JOB_DONE] + q->jobs[JOB_FAILED] + q->jobs[JOB_CANCELLED];
}

static void look_again(struct job_queue *q)
{
	q->kept_count = 0;
	q->kept_known = false;
	q->kept_scan = 1;
}

void job_kept_check(struct job_machine *m, struct job_queue *q)
{
	if (q->config.finished_max == 0 || q->over || finished(q) <= q->config.finished_max)
		return;
	q->over = true;
	q->next_over = m->over;
	m->over = q;
}

void job_kept_add(struct job_machine *m, struct job_queue *q, const struct job_slot *s)
{
	if (q->config.finished_max == 0) {
		if (q->kept_known)
			look_again(q);
		return;
	}
	/* while all are being looked for, it is found by that or put there now; twice does no harm */
	if (!push(q, (struct job_kept){job_slot_when(s), job_slot_id(s)}) ||
	    q->kept_count > 2 * finished(q) + 1024)
		look_again(q);
	job_kept_check(m, q);
}

/* Go on looking for all of them. false: not done yet. */
static bool find_all(struct job_machine *m, struct job_queue *q, uint32_t *budget, int *ret_error)
{
	if (q->kept_scan == 0)
		q->kept_scan = 1;
	/* a slot costs little: sixteen of them count as one job */
	for (uint64_t left = (uint64_t)*budget * 16; q->kept_scan < m->slots_end; q->kept_scan++, left--) {
		const struct job_slot *s = job_slot(m, q->kept_scan);

		if (left == 0) {
			*budget = 0;
			return false;
		}
		if (job_state_finished(s->state) && s->queue == q->number &&
		    !push(q, (struct job_kept){job_slot_when(s), job_slot_id(s)})) {
			*ret_error = -ENOMEM;
			return false;
		}
	}
	q->kept_known = true;
	return true;
}

/* The next one that may go; 0: there is none. */
static uint32_t next(struct job_machine *m, struct job_queue *q)
{
	while (q->kept_count > 0) {
		struct job_kept kept = pop(q);
		uint32_t slot = job_find(m, kept.id);
		const struct job_slot *s = slot ? job_slot(m, slot) : NULL;

		if (s && job_state_finished(s->state) && s->where == JOB_AT_RETAIN && s->queue == q->number &&
		    job_slot_when(s) == kept.when_ms)
			return slot;
	}
	return 0;
}

int job_kept_evict(struct job_machine *m, uint32_t *budget, job_kept_function *remove,
                   job_kept_function *flush, void *arg)
{
	int error = 0;

	while (m->over && *budget > 0 && error == 0) {
		struct job_queue *q = m->over;
		uint64_t max = q->config.finished_max,
			 over = max > 0 && finished(q) > max ? finished(q) - max : 0;
		uint32_t slot;

		if (over > 0 && !q->kept_known && !find_all(m, q, budget, &error))
			break;
		for (; over > 0 && *budget > 0 && error == 0; over--) {
			slot = next(m, q);
			if (slot == 0) {
				look_again(q); /* there are more than it knew of */
				break;
			}
			--*budget;
			error = remove(arg, slot);
		}
		if (error == 0)
			error = flush(arg, 0);
		if (m->over != q)
			continue; /* it has gone with the last of its jobs */
		if (error < 0)
			look_again(q); /* those that stay after all */
		if (*budget == 0 || error < 0)
			break;
		q->over = false;
		m->over = q->next_over;
		job_kept_check(m, q);
	}
	if (error == -ENOMEM && m->over &&
	    !m->over->kept_known) { /* when the next one finishes it is tried again */
		look_again(m->over);
		m->over->over = false;
		m->over = m->over->next_over;
	}
	return error;
}

void job_kept_forget(struct job_machine *m, struct job_queue *q)
{
	for (struct job_queue **at = &m->over; *at; at = &(*at)->next_over) {
		if (*at == q) {
			*at = q->next_over;
			break;
		}
	}
	q->over = false;
	free(q->kept);
	q->kept = NULL;
	q->kept_count = q->kept_cap = 0;
}
