/* src/job/ready.c -- which ready job is next: by priority, then by id. See machine.h.
 *
 * A lane per priority: a list for jobs that come in the order of their ids, and a pairing heap for those that come
 * out of turn (returned, delayed). Priorities that find no lane (more than 64 in use, or no memory for another) share one heap
 * of the queue. All links are in the slots, so nothing here can fail. A heap's node uses next (sibling), prev (the
 * sibling before, or the parent for a first child) and when_low (first child): a ready job has no instant.
 */
#include "job/machine.h"

enum { LANES_KEPT = 8 }; /* empty lanes are dropped when there are more than this */

void job_list_append(struct job_machine *m, uint32_t *first, uint32_t *last, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);

	s->next = 0;
	s->prev = *last;
	if (*last != 0)
		job_slot(m, *last)->next = slot;
	else
		*first = slot;
	*last = slot;
}

void job_list_remove(struct job_machine *m, uint32_t *first, uint32_t *last, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);

	if (s->prev != 0)
		job_slot(m, s->prev)->next = s->next;
	else
		*first = s->next;
	if (s->next != 0)
		job_slot(m, s->next)->prev = s->prev;
	else
		*last = s->prev;
	s->next = s->prev = 0;
}

static bool before(const struct job_slot *a, const struct job_slot *b)
{
	return a->priority != b->priority ? a->priority < b->priority : job_slot_id(a) < job_slot_id(b);
}

/* ---- pairing heap ------------------------------------------------------------------------ */

static uint32_t meld(struct job_machine *m, uint32_t a, uint32_t b)
{
	struct job_slot *top, *other;

	if (a == 0 || b == 0)
		return a | b;
	if (before(job_slot(m, b), job_slot(m, a))) {
		uint32_t swap = a;
		a = b;
		b = swap;
	}
	top = job_slot(m, a);
	other = job_slot(m, b);
	other->prev = a;
	other->next = top->when_low;
	if (top->when_low != 0)
		job_slot(m, top->when_low)->prev = b;
	top->when_low = b;
	top->next = top->prev = 0;
	return a;
}

/* The heap that a list of siblings makes: pairs from the left, then all from the right. */
static uint32_t meld_siblings(struct job_machine *m, uint32_t first)
{
	uint32_t pairs = 0, root = 0;

	while (first != 0) {
		uint32_t a = first, b = job_slot(m, a)->next, pair;

		first = b != 0 ? job_slot(m, b)->next : 0;
		job_slot(m, a)->next = job_slot(m, a)->prev = 0;
		if (b != 0)
			job_slot(m, b)->next = job_slot(m, b)->prev = 0;
		pair = meld(m, a, b);
		job_slot(m, pair)->next = pairs;
		pairs = pair;
	}
	while (pairs != 0) {
		uint32_t next = job_slot(m, pairs)->next;

		job_slot(m, pairs)->next = 0;
		root = meld(m, root, pairs);
		pairs = next;
	}
	return root;
}

static void heap_add(struct job_machine *m, uint32_t *root, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);

	s->next = s->prev = s->when_low = 0;
	*root = meld(m, *root, slot);
}

static void heap_remove(struct job_machine *m, uint32_t *root, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);
	uint32_t rest = meld_siblings(m, s->when_low);

	if (slot == *root) {
		*root = rest;
	} else {
		struct job_slot *prev = job_slot(m, s->prev);

		if (prev->when_low == slot)
			prev->when_low = s->next;
		else
			prev->next = s->next;
		if (s->next != 0)
			job_slot(m, s->next)->prev = s->prev;
		*root = meld(m, *root, rest);
	}
	s->next = s->prev = s->when_low = 0;
}

/* ---- lanes ------------------------------------------------------------------------------- */

/* The index of the lane of a priority, or where it would be. */
static uint32_t lane_index(const struct job_queue *q, uint32_t priority)
{
	uint32_t low = 0, high = q->lanes_count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (q->lanes[middle].priority < priority)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool lane_empty(const struct job_lane *lane)
{
	return lane->first == 0 && lane->heap == 0;
}

static void drop_empty_lanes(struct job_queue *q)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < q->lanes_count; i++)
		if (!lane_empty(&q->lanes[i]))
			q->lanes[kept++] = q->lanes[i];
	q->lanes_count = kept;
}

static struct job_lane *lane_get(struct job_queue *q, uint32_t priority)
{
	uint32_t i = lane_index(q, priority);

	if (i < q->lanes_count && q->lanes[i].priority == priority)
		return &q->lanes[i];
	if (q->lanes_count >= LANES_KEPT) {
		drop_empty_lanes(q);
		i = lane_index(q, priority);
	}
	if (q->lanes_count == q->lanes_cap) {
		uint32_t cap = q->lanes_cap ? q->lanes_cap * 2 : 1;
		struct job_lane *lanes;

		if (cap > JOB_LANES_MAX)
			return NULL;
		lanes = realloc(q->lanes, cap * sizeof(lanes[0]));
		if (!lanes)
			return NULL;
		q->lanes = lanes;
		q->lanes_cap = cap;
	}
	memmove(&q->lanes[i + 1], &q->lanes[i], (q->lanes_count - i) * sizeof(q->lanes[0]));
	q->lanes[i] = (struct job_lane){.priority = priority};
	q->lanes_count++;
	return &q->lanes[i];
}

void job_queue_wake(struct job_machine *m, struct job_queue *q)
{
	if (q->waiters_count == 0 || q->woken || q->paused || q->pause_until_ms > 0)
		return;
	q->woken = true;
	q->next_woken = m->woken;
	m->woken = q;
}

void job_ready_add(struct job_machine *m, struct job_queue *q, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_lane *lane = lane_get(q, s->priority);

	s->when_high = 0;
	s->when_low = 0;
	q->urgent += s->priority < JOB_PRIORITY_DEFAULT;
	m->totals.urgent += s->priority < JOB_PRIORITY_DEFAULT;
	if (!lane) {
		s->where = JOB_AT_OVERFLOW;
		heap_add(m, &q->overflow, slot);
	} else if (lane->last == 0 || job_slot_id(job_slot(m, lane->last)) < job_slot_id(s)) {
		s->where = JOB_AT_FIFO;
		job_list_append(m, &lane->first, &lane->last, slot);
	} else {
		s->where = JOB_AT_HEAP;
		heap_add(m, &lane->heap, slot);
	}
	job_queue_wake(m, q);
}

void job_ready_stand(struct job_machine *m, struct job_queue *q, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);
	const struct job_policy *p = s->ext != 0 ? job_slot_policy(m, s) : NULL;

	if (!p || p->group == 0 || (p->flags & JOB_GROUP_OPEN)) {
		job_ready_add(m, q, slot);
		return;
	}
	s->when_high = 0;
	s->when_low = 0;
	s->where = JOB_AT_GROUP;
}

void job_ready_remove(struct job_machine *m, struct job_queue *q, uint32_t slot)
{
	struct job_slot *s = job_slot(m, slot);

	q->urgent -= s->priority < JOB_PRIORITY_DEFAULT;
	m->totals.urgent -= s->priority < JOB_PRIORITY_DEFAULT;
	if (s->where == JOB_AT_OVERFLOW) {
		heap_remove(m, &q->overflow, slot);
	} else {
		struct job_lane *lane = &q->lanes[lane_index(q, s->priority)];

		if (s->where == JOB_AT_FIFO)
			job_list_remove(m, &lane->first, &lane->last, slot);
		else
			heap_remove(m, &lane->heap, slot);
	}
	s->where = JOB_AT_NONE;
}

uint32_t job_ready_first(struct job_machine *m, struct job_queue *q)
{
	uint32_t best = 0;

	for (uint32_t i = 0; i < q->lanes_count && best == 0; i++) {
		const struct job_lane *lane = &q->lanes[i];

		best = lane->first;
		if (best == 0 || (lane->heap != 0 && before(job_slot(m, lane->heap), job_slot(m, best))))
			best = lane->heap ? lane->heap : best;
	}
	if (q->overflow != 0 && (best == 0 || before(job_slot(m, q->overflow), job_slot(m, best))))
		best = q->overflow;
	return best;
}
