/* src/job/join.c -- jobs that run after others, and what the end of a job does to those that await it. See job.h, machine.h.
 *
 * A job that awaits others has a join; each job that it awaits and that has not ended is an edge. Edges are found by the id of the job awaited, so
 * that jobs which nobody awaits pay nothing. An edge leads from a job to an older one, since ids are given before they can be named and
 * rise: there is no circle, whatever is submitted, moved or edited.
 *
 * That the last one has ended well releases the job: it follows from the record of that end and is no record of its own, so that it cannot be
 * lost or happen twice. It is one step deep, since a job that is released has not ended. That one ends otherwise dooms the job: it
 * stands in a list then, from which job_advance() takes it, so many at a time, with a FINISH or BURY of its own, which may
 * doom others. So no chain of ends is walked within a call, and what one record does is bounded by JOB_AWAITED_MAX.
 */
#include <errno.h>
#include <stdio.h>
#include <xxhash.h>

#include "job/machine.h"

#define NS_PER_MS INT64_C(1000000)

static struct job_edge *edge_at(const struct job_machine *m, uint32_t edge)
{
	return job_pool_at(&m->edges, edge);
}

static struct job_awaited *awaited_at(const struct job_machine *m, uint32_t awaited)
{
	return job_pool_at(&m->awaited, awaited);
}

static uint32_t number_of(const struct job_machine *m, const struct job_join *j)
{
	return job_slot_policy(m, job_slot(m, j->slot))->join;
}

void job_joins_init(struct job_machine *m)
{
	m->joins.each = sizeof(struct job_join);
	m->edges.each = sizeof(struct job_edge);
	m->awaited.each = sizeof(struct job_awaited);
}

void job_joins_done(struct job_machine *m)
{
	job_pool_done(&m->joins);
	job_pool_done(&m->edges);
	job_pool_done(&m->awaited);
	free(m->awaited_table.chains);
}

uint64_t job_joins_bytes(const struct job_machine *m)
{
	return job_pool_bytes(&m->joins) + job_pool_bytes(&m->edges) + job_pool_bytes(&m->awaited) +
	       4 * (uint64_t)m->awaited_table.cap;
}

int job_after_room(struct job_machine *m, uint64_t jobs, uint64_t edges)
{
	if (m->edges.used + edges > m->limits.jobs_max)
		return -JOB_EMEMORY_FULL;
	if (job_policy_room(m, jobs) < 0 || job_pool_room(&m->joins, jobs) < 0 ||
	    job_pool_room(&m->edges, edges) < 0 || job_pool_room(&m->awaited, edges) < 0)
		return -ENOMEM;
	return job_table_room(&m->awaited_table, &m->awaited, edges);
}

/* ---- jobs that are awaited --------------------------------------------------------------- */

static uint32_t awaited_find(const struct job_machine *m, uint64_t id)
{
	uint32_t number;

	if (m->awaited.used == 0)
		return 0;
	number = *job_table_chain(&m->awaited_table, (uint64_t[2]){id, id});
	while (number != 0 && awaited_at(m, number)->hash[0] != id)
		number = awaited_at(m, number)->next;
	return number;
}

static uint32_t awaited_need(struct job_machine *m, uint64_t id)
{
	uint32_t number = awaited_find(m, id), *chain;

	if (number != 0)
		return number;
	number = job_pool_take(&m->awaited);
	chain = job_table_chain(&m->awaited_table, (uint64_t[2]){id, id});
	*awaited_at(m, number) = (struct job_awaited){.next = *chain, .hash = {id, id}};
	*chain = number;
	return number;
}

static void awaited_free(struct job_machine *m, uint32_t number)
{
	job_table_remove(&m->awaited_table, &m->awaited, number);
	job_pool_give(&m->awaited, number);
}

uint32_t job_awaited_by(const struct job_machine *m, uint64_t id)
{
	uint32_t number = awaited_find(m, id);

	return number ? awaited_at(m, number)->count : 0;
}

/* ---- edges ------------------------------------------------------------------------------- */

static void edge_add(struct job_machine *m, struct job_join *j, uint64_t id)
{
	uint32_t awaited = awaited_need(m, id), edge = job_pool_take(&m->edges);
	struct job_awaited *a = awaited_at(m, awaited);
	struct job_edge *e = edge_at(m, edge);

	*e = (struct job_edge){
		.join = number_of(m, j), .awaited = awaited, .prev = j->last, .prev_same = a->last};
	*(j->last ? &edge_at(m, j->last)->next : &j->first) = edge;
	*(a->last ? &edge_at(m, a->last)->next_same : &a->first) = edge;
	j->last = a->last = edge;
	j->open++;
	a->count++;
}

static void edge_remove(struct job_machine *m, uint32_t edge)
{
	struct job_edge *e = edge_at(m, edge);
	struct job_join *j = job_join(m, e->join);
	struct job_awaited *a = awaited_at(m, e->awaited);

	*(e->prev ? &edge_at(m, e->prev)->next : &j->first) = e->next;
	*(e->next ? &edge_at(m, e->next)->prev : &j->last) = e->prev;
	*(e->prev_same ? &edge_at(m, e->prev_same)->next_same : &a->first) = e->next_same;
	*(e->next_same ? &edge_at(m, e->next_same)->prev_same : &a->last) = e->prev_same;
	j->open--;
	if (--a->count == 0)
		awaited_free(m, e->awaited);
	job_pool_give(&m->edges, edge);
}

/* ---- lists of joins ---------------------------------------------------------------------- */

static struct job_join_list *list_of(struct job_machine *m, const struct job_join *j)
{
	return j->stage == JOB_JOIN_DOOMED ? &m->doomed : j->stage == JOB_JOIN_RELEASED ? &m->released : NULL;
}

static void enlist(struct job_machine *m, struct job_join *j, int stage)
{
	uint32_t number = number_of(m, j);
	struct job_join_list *list;

	j->stage = (uint8_t)stage;
	list = list_of(m, j);
	j->next = 0;
	j->prev = list->last;
	*(list->last ? &job_join(m, list->last)->next : &list->first) = number;
	list->last = number;
}

static void delist(struct job_machine *m, struct job_join *j)
{
	struct job_join_list *list = list_of(m, j);

	if (!list)
		return;
	*(j->prev ? &job_join(m, j->prev)->next : &list->first) = j->next;
	*(j->next ? &job_join(m, j->next)->prev : &list->last) = j->prev;
	j->next = j->prev = 0;
}

void job_join_drop(struct job_machine *m, struct job_policy *p)
{
	struct job_join *j;

	if (p->join == 0)
		return;
	j = job_join(m, p->join);
	while (j->first != 0)
		edge_remove(m, j->first);
	delist(m, j);
	job_pool_give(&m->joins, p->join);
	p->join = 0;
}

/* ---- the end of one that is awaited ------------------------------------------------------ */

/* Ready, or delayed from now on. With JOB_HIDDEN not to be leased before the record that did it is flushed, nor before its own is. */
static void release(struct job_machine *m, struct job_join *j, const struct job_end *end)
{
	uint32_t slot = j->slot;
	struct job_slot *s = job_slot(m, slot);
	int64_t at_ms = job_slot_when(s), until_ms = j->delay_ms > 0 ? end->at_ms + j->delay_ms : 0;
	bool hidden = (end->flags & JOB_HIDDEN) ||
	              ((s->flags & JOB_SLOT_UNREVEALED) && job_slot_place(s) >= m->revealed);

	if (until_ms > at_ms)
		at_ms = job_clamp_ms(until_ms);
	if (at_ms <= end->at_ms)
		at_ms = 0;
	s->changed = (uint16_t)(end->place >> 12);
	s->where = JOB_AT_NONE;
	j->place = end->place;
	enlist(m, j, JOB_JOIN_RELEASED);
	job_slot_unflag(s, JOB_SLOT_UNREVEALED);
	if (hidden && at_ms == 0) {
		job_set_state(m, s, JOB_READY);
		s->where = JOB_AT_HIDDEN;
		job_list_append(m, &m->hidden_first, &m->hidden_last, slot);
		return;
	}
	if (hidden)
		job_slot_flag(s, JOB_SLOT_UNREVEALED);
	job_wait_again(m, slot, at_ms);
}

static void doom(struct job_machine *m, struct job_join *j, uint64_t by, int why)
{
	while (j->first != 0)
		edge_remove(m, j->first);
	j->missing = 0;
	j->by = by;
	j->why = (uint8_t)why;
	enlist(m, j, JOB_JOIN_DOOMED);
}

/* Is it, as the end of one that the join awaits, as good as none? */
static bool waits_on(const struct job_join *j, const struct job_end *end)
{
	return j->failure == JOB_AFTER_WAIT && !end->for_good && end->why != JOB_AWAITED_DONE;
}

static void edge_end(struct job_machine *m, uint32_t edge, const struct job_end *end)
{
	struct job_join *j = job_join(m, edge_at(m, edge)->join);

	if (waits_on(j, end))
		return;
	job_changes(m, j->slot);
	job_slot(m, j->slot)->changed = (uint16_t)(end->place >> 12);
	if (end->why != JOB_AWAITED_DONE && j->failure != JOB_AFTER_RUN) {
		doom(m, j, end->id, end->why);
		return;
	}
	edge_remove(m, edge);
	if (j->open == 0 && j->missing == 0)
		release(m, j, end);
	else if (m->fewer && (job_slot(m, j->slot)->flags & JOB_SLOT_WATCHED))
		m->fewer(m->ready_arg, job_slot_id(job_slot(m, j->slot)));
}

void job_awaited_end(struct job_machine *m, const struct job_end *end)
{
	uint32_t awaited = awaited_find(m, end->id), edge, next;

	/* of one job there is one edge to another, so the next one stays whatever becomes of this one's job */
	for (edge = awaited ? awaited_at(m, awaited)->first : 0; edge != 0; edge = next) {
		next = edge_at(m, edge)->next_same;
		edge_end(m, edge, end);
	}
}

uint64_t job_released(struct job_machine *m)
{
	struct job_join *j;
	struct job_slot *s;
	struct job_policy *p;

	if (m->released.first == 0)
		return 0;
	j = job_join(m, m->released.first);
	s = job_slot(m, j->slot);
	p = job_slot_policy(m, s);
	delist(m, j);
	j->stage = JOB_JOIN_HIDDEN;
	if (s->where != JOB_AT_HIDDEN && !(s->flags & JOB_SLOT_UNREVEALED))
		job_join_drop(m, p);
	return job_slot_id(s);
}

uint64_t job_hidden_place(const struct job_machine *m, const struct job_slot *s)
{
	const struct job_join *j = job_slot_join(m, s);

	return j && j->stage >= JOB_JOIN_RELEASED ? j->place : job_slot_place(s);
}

void job_join_shown(struct job_machine *m, const struct job_slot *s)
{
	const struct job_join *j = job_slot_join(m, s);

	if (j && j->stage == JOB_JOIN_HIDDEN)
		job_join_drop(m, job_slot_policy(m, s));
}

/* ---- submit ------------------------------------------------------------------------------ */

/* How a job that is there has ended, as far as it has; 0: it has not. */
static int end_of(const struct job_machine *m, const struct job_slot *s, bool *ret_for_good)
{
	const struct job_policy *p = job_slot_policy(m, s);

	*ret_for_good = s->state == JOB_DONE || s->state == JOB_CANCELLED;
	return s->state == JOB_DONE        ? JOB_AWAITED_DONE
	       : s->state == JOB_CANCELLED ? JOB_AWAITED_CANCELLED
	       : s->state == JOB_FAILED    ? JOB_AWAITED_FAILED
	       : p && p->dead_from != 0    ? JOB_AWAITED_DEAD
	                                   : 0;
}

int job_check_after(struct job_machine *m, uint64_t id)
{
	uint32_t slot = job_find(m, id);
	struct job_slot *s;

	if (slot == 0)
		return -JOB_EAWAITED;
	s = job_slot(m, slot);
	if (s->flags & JOB_SLOT_TOUCHED)
		return -JOB_ETWICE;
	if (job_awaited_by(m, id) >= JOB_AWAITED_MAX)
		return -JOB_EAWAITED_FULL;
	job_slot_flag(s, JOB_SLOT_AWAITED);
	return 0;
}

void job_join_submit(struct job_machine *m, uint32_t slot, const struct job_record *r)
{
	struct job_slot *s = job_slot(m, slot);
	struct job_policy *p = job_policy_need(m, slot);

	p->join = job_pool_take(&m->joins);
	*job_join(m, p->join) = (struct job_join){.slot = slot,
	                                          .missing = r->after_count,
	                                          .count = r->after_count,
	                                          .delay_ms = job_clamp_ms(r->after_delay_ms),
	                                          .failure = (uint8_t)r->after_failure};
	job_set_state(m, s, JOB_AWAITING);
	s->where = JOB_AT_JOIN;
	job_slot_set_when(s, r->when_ms);
}

bool job_after_fits(const struct job_machine *m, const struct job_slot *s, const struct job_record *r)
{
	const struct job_join *j = s->state == JOB_AWAITING ? job_slot_join(m, s) : NULL;

	if (!j || j->missing != r->body.len / 8)
		return false;
	for (size_t i = 0; i < r->body.len / 8; i++) {
		uint64_t id;

		memcpy(&id, (const uint8_t *)r->body.data + i * 8, 8);
		if (id >= r->id) /* 0: one that was refused in the same transaction */
			return false;
	}
	return true;
}

/* Twice the same one? */
static bool has_edge(const struct job_machine *m, const struct job_join *j, uint64_t id)
{
	uint32_t awaited = awaited_find(m, id);

	return awaited != 0 && awaited_at(m, awaited)->last != 0 &&
	       edge_at(m, awaited_at(m, awaited)->last)->join == number_of(m, j);
}

void job_apply_after(struct job_machine *m, uint32_t slot, const struct job_record *r, uint64_t place,
                     unsigned flags)
{
	struct job_join *j = job_slot_join(m, job_slot(m, slot));
	struct job_end end = {.at_ms = r->at_ns / NS_PER_MS, .place = place, .flags = flags};

	for (size_t i = 0; i < r->body.len / 8 && j->missing > 0; i++) {
		uint32_t other;

		memcpy(&end.id, (const uint8_t *)r->body.data + i * 8, 8);
		other = job_find(m, end.id);
		j->missing--;
		end.why = JOB_AWAITED_GONE; /* of which nothing is known any more, as after a repair */
		end.for_good = true;
		if (other != 0)
			end.why = end_of(m, job_slot(m, other), &end.for_good);
		if (has_edge(m, j, end.id))
			continue;
		if (end.why == 0 || waits_on(j, &end))
			edge_add(m, j, end.id);
		else if (end.why != JOB_AWAITED_DONE && j->failure != JOB_AFTER_RUN)
			doom(m, j, end.id, end.why);
	}
	if (j->stage == JOB_JOIN_WAITS && j->open == 0)
		release(m, j, &end);
}

/* ---- those that are doomed --------------------------------------------------------------- */

uint32_t job_doomed(const struct job_machine *m)
{
	return m->doomed.first ? job_join(m, m->doomed.first)->slot : 0;
}

static const char *const ends[] = {[JOB_AWAITED_DONE] = "is done",
                                   [JOB_AWAITED_FAILED] = "has failed",
                                   [JOB_AWAITED_CANCELLED] = "was cancelled",
                                   [JOB_AWAITED_DEAD] = "is dead",
                                   [JOB_AWAITED_GONE] = "is forgotten"};

void job_doomed_record(struct job_machine *m, uint32_t slot, int64_t now_ns, struct job_record *r, char *text,
                       size_t cap)
{
	const struct job_slot *s = job_slot(m, slot);
	const struct job_join *j = job_slot_join(m, s);
	int len = snprintf(text, cap, "job %llu, which it was to run after, %s", (unsigned long long)j->by,
	                   ends[j->why]);

	*r = (struct job_record){.text = {text, (size_t)len}};
	if (j->failure != JOB_AFTER_BURY) {
		r->reason = JOB_BY_AWAITED;
		job_finish_record(m, s, JOB_CANCELLED, now_ns, r);
		return;
	}
	r->type = JOB_BURY;
	r->id = job_slot_id(s);
	r->at_ns = now_ns;
	r->priority = s->priority;
	r->error_place = job_slot_ext(m, s)->error_place;
	r->attempt = s->attempts;
}

void job_lose_awaited(struct job_machine *m, void (*each)(void *arg, uint64_t id), void *arg)
{
	for (uint32_t slot = 1; slot < m->slots_end; slot++) {
		const struct job_slot *s = job_slot(m, slot);
		struct job_join *j = s->state == JOB_AWAITING ? job_slot_join(m, s) : NULL;

		if (!j || j->stage != JOB_JOIN_WAITS || j->missing == 0)
			continue;
		each(arg, job_slot_id(s));
		doom(m, j, 0, JOB_AWAITED_GONE);
	}
}

/* ---- look -------------------------------------------------------------------------------- */

size_t job_awaits(const struct job_machine *m, uint64_t id, uint64_t *ids, size_t max, struct job_awaits *ret)
{
	uint32_t slot = job_find(m, id);
	const struct job_slot *s = slot ? job_slot(m, slot) : NULL;
	const struct job_join *j = s && s->state == JOB_AWAITING ? job_slot_join(m, s) : NULL;
	size_t n = 0;

	*ret = (struct job_awaits){.awaited_by = s ? job_awaited_by(m, id) : 0};
	if (!j)
		return 0;
	ret->open = j->open;
	ret->count = j->count;
	ret->failure = j->failure;
	ret->delay_ms = j->delay_ms;
	for (uint32_t edge = j->first; edge != 0 && n < max; edge = edge_at(m, edge)->next)
		ids[n++] = awaited_at(m, edge_at(m, edge)->awaited)->hash[0];
	return n;
}

/* ---- checkpoints ------------------------------------------------------------------------- */

void job_join_save(const struct job_machine *m, const struct job_slot *s, job_join_save_function *save,
                   void *arg)
{
	const struct job_join *j = job_slot_join(m, s);
	uint64_t id = job_slot_id(s);

	save(arg, &(struct job_join_entry){.id = id,
	                                   .kind = JOB_JOIN_JOB,
	                                   .other = j->by,
	                                   .why = j->why,
	                                   .delay_ms = j->delay_ms,
	                                   .count = j->count,
	                                   .failure = j->failure});
	for (uint32_t edge = j->first; edge != 0; edge = edge_at(m, edge)->next)
		save(arg,
		     &(struct job_join_entry){.id = id,
		                              .kind = JOB_JOIN_EDGE,
		                              .other = awaited_at(m, edge_at(m, edge)->awaited)->hash[0]});
}

int job_join_load(struct job_machine *m, const struct job_join_entry *entry)
{
	uint32_t slot = job_find(m, entry->id);
	struct job_slot *s = slot ? job_slot(m, slot) : NULL;
	struct job_policy *p = s ? job_slot_policy(m, s) : NULL;
	struct job_join *j;

	if (!p || s->state != JOB_AWAITING || (entry->kind == JOB_JOIN_JOB) != (p->join == 0))
		return -EPROTO;
	if (job_after_room(m, 1, 1) < 0)
		return -ENOMEM;
	if (entry->kind == JOB_JOIN_EDGE) {
		j = job_join(m, p->join);
		if (j->stage != JOB_JOIN_WAITS || has_edge(m, j, entry->other))
			return -EPROTO;
		edge_add(m, j, entry->other);
		return 0;
	}
	p->join = job_pool_take(&m->joins);
	j = job_join(m, p->join);
	*j = (struct job_join){.slot = slot,
	                       .count = entry->count,
	                       .delay_ms = entry->delay_ms,
	                       .failure = entry->failure,
	                       .by = entry->other,
	                       .why = entry->why};
	if (entry->why != 0)
		enlist(m, j, JOB_JOIN_DOOMED);
	return 0;
}

/* ---- scrubbing --------------------------------------------------------------------------- */

bool job_join_sound(const struct job_machine *m, const struct job_slot *s)
{
	const struct job_policy *p = job_slot_policy(m, s);
	const struct job_join *j = job_slot_join(m, s);
	uint32_t open = 0, before = 0;

	if (!j || s->state != JOB_AWAITING)
		return s->state != JOB_AWAITING && (!j || j->stage >= JOB_JOIN_RELEASED);
	if (job_slot(m, j->slot) != s || j->stage > JOB_JOIN_DOOMED ||
	    (j->stage == JOB_JOIN_WAITS) != (j->open + j->missing > 0))
		return false;
	for (uint32_t edge = j->first; edge != 0; edge = edge_at(m, edge)->next) {
		const struct job_edge *e = edge_at(m, edge);

		if (e->prev != before || e->join != p->join ||
		    awaited_find(m, awaited_at(m, e->awaited)->hash[0]) != e->awaited ||
		    awaited_at(m, e->awaited)->hash[0] >= job_slot_id(s) ||
		    job_find(m, awaited_at(m, e->awaited)->hash[0]) == 0)
			return false;
		before = edge;
		open++;
	}
	return open == j->open && j->last == before;
}

bool job_joins_sound(const struct job_machine *m)
{
	uint64_t awaited = 0, edges = 0;

	for (uint32_t i = 0; i < m->awaited_table.cap; i++) {
		for (uint32_t number = m->awaited_table.chains[i]; number != 0;
		     number = awaited_at(m, number)->next) {
			const struct job_awaited *a = awaited_at(m, number);
			uint32_t count = 0, before = 0;

			for (uint32_t edge = a->first; edge != 0; edge = edge_at(m, edge)->next_same) {
				if (edge_at(m, edge)->prev_same != before ||
				    edge_at(m, edge)->awaited != number)
					return false;
				before = edge;
				count++;
			}
			if (count == 0 || count != a->count || a->last != before)
				return false;
			awaited++;
			edges += count;
		}
	}
	return awaited == m->awaited.used && edges == m->edges.used;
}

uint64_t job_join_fingerprint(const struct job_machine *m, const struct job_slot *s)
{
	const struct job_join *j = s->state == JOB_AWAITING ? job_slot_join(m, s) : NULL;
	uint64_t words[6], sum = 0;

	if (!j)
		return 0;
	for (uint32_t edge = j->first; edge != 0; edge = edge_at(m, edge)->next)
		sum = XXH3_64bits_withSeed(&awaited_at(m, edge_at(m, edge)->awaited)->hash, 16, sum);
	words[0] = sum;
	words[1] = (uint64_t)j->open << 32 | j->count;
	words[2] = (uint64_t)j->delay_ms;
	words[3] = j->by;
	words[4] = (uint64_t)j->stage << 16 | (uint64_t)j->failure << 8 | j->why;
	words[5] = j->missing;
	return XXH3_64bits(words, sizeof(words));
}
