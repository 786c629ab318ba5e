/* src/job/advance.c -- what time does to jobs, and who is next. See job.h. */
#include <errno.h>

#include "job/machine.h"

#define NS_PER_MS INT64_C(1000000)

enum { REMOVE_AT_ONCE = 256 };

struct pass {
	struct job_machine *m;
	int64_t now_ns, now_ms;
	uint32_t budget;
	job_emit_function *emit;
	void *arg;
	uint64_t ids[REMOVE_AT_ONCE];
	size_t ids_count;
};

void job_listen(struct job_machine *m, job_ready_function *ready, job_ready_function *fewer, void *arg)
{
	m->ready = ready;
	m->fewer = fewer;
	m->ready_arg = arg;
}

void job_watch(struct job_machine *m, uint64_t id)
{
	uint32_t slot = job_find(m, id);

	if (slot != 0)
		job_slot_flag(job_slot(m, slot), JOB_SLOT_WATCHED);
}

void job_watch_all(struct job_machine *m, bool on)
{
	m->watches_all = on;
}

void job_reveal(struct job_machine *m, uint64_t until)
{
	if (until > m->revealed)
		m->revealed = until;
	while (m->hidden_first != 0) {
		uint32_t slot = m->hidden_first;
		struct job_slot *s = job_slot(m, slot);

		if (job_hidden_place(m, s) >= m->revealed)
			break;
		job_list_remove(m, &m->hidden_first, &m->hidden_last, slot);
		job_ready_stand(m, job_slot_queue(m, s), slot);
		job_join_shown(m, s);
	}
}

static void advance_delays(struct pass *p)
{
	struct job_machine *m = p->m;
	uint32_t slot;

	while (p->budget > 0 && (slot = job_wheel_due(m, &m->delays, p->now_ms)) != 0) {
		struct job_slot *s = job_slot(m, slot);
		struct job_queue *q = job_slot_queue(m, s);

		p->budget--;
		job_changes(m, slot);
		if ((s->flags & JOB_SLOT_UNREVEALED) && job_hidden_place(m, s) >= m->revealed) {
			job_slot_set_when(s, p->now_ms + 1);
			job_wheel_add(m, &m->delays, slot, JOB_AT_DELAYS);
			continue;
		}
		job_slot_unflag(s, JOB_SLOT_UNREVEALED);
		job_join_shown(m, s);
		q->jobs[JOB_DELAYED]--;
		m->totals.jobs[JOB_DELAYED]--;
		q->jobs[JOB_READY]++;
		m->totals.jobs[JOB_READY]++;
		s->state = JOB_READY;
		job_ready_stand(m, q, slot);
		if (m->ready && (m->watches_all || (s->flags & JOB_SLOT_WATCHED)))
			m->ready(m->ready_arg, job_slot_id(s));
	}
}

static int expire_record(struct pass *p, struct job_slot *s, struct job_record *r)
{
	static const char text[] = "lease expired";

	*r = (struct job_record){0};
	if (s->flags & JOB_SLOT_CANCEL) {
		job_finish_record(p->m, s, JOB_CANCELLED, p->now_ns, r);
		return 0;
	}
	r->reason = JOB_BY_TIMEOUT;
	r->text = (struct job_slice){text, sizeof(text) - 1};
	if (s->attempts >= job_attempts_max(p->m, s))
		return job_fail_record(p->m, s, p->now_ns, r);
	r->type = JOB_RETRY;
	r->id = job_slot_id(s);
	r->at_ns = p->now_ns;
	r->error_place = job_ext(p->m, s->ext)->error_place;
	r->attempt = s->attempts;
	return 0;
}

/* Jobs that should have been begun by now; unique keys whose time has passed; groups that may go on. */
static int advance_policies(struct pass *p)
{
	static const char text[] = "expired";
	struct job_machine *m = p->m;
	uint32_t slot;
	int error = 0;

	while (error == 0 && p->budget > 0 && (slot = job_policy_due(m, p->now_ms)) != 0) {
		struct job_queue *q = job_slot_queue(m, job_slot(m, slot));
		struct job_record r = {.reason = JOB_BY_EXPIRY, .text = {text, sizeof(text) - 1}};

		p->budget--;
		job_finish_record(m, job_slot(m, slot), JOB_FAILED, p->now_ns, &r);
		job_queue_wake(m, q); /* for those who found this one only */
		error = p->emit(p->arg, &r);
	}
	while (error == 0 && p->budget > 0 && job_unique_pass(m, p->now_ms))
		p->budget--;
	while (error == 0 && p->budget > 0 && job_bucket_pass(m, p->now_ms))
		p->budget--;
	return error;
}

static int advance_leases(struct pass *p)
{
	struct job_machine *m = p->m;
	uint32_t slot;

	while (p->budget > 0 && (slot = job_wheel_due(m, &m->leases, p->now_ms)) != 0) {
		struct job_record r;
		int error;

		p->budget--;
		error = expire_record(p, job_slot(m, slot), &r);
		if (error == 0)
			error = p->emit(p->arg, &r);
		if (error < 0) {
			job_wheel_add(m, &m->leases, slot, JOB_AT_LEASES);
			return error;
		}
	}
	return 0;
}

/* The jobs in ids[] were taken out of the wheel; they go back if the record is not carried out. */
static int emit_remove(struct pass *p, uint8_t reason)
{
	struct job_record r = {
		.type = JOB_REMOVE, .reason = reason, .at_ns = p->now_ns, .body = {p->ids, p->ids_count * 8}};
	int error;

	if (p->ids_count == 0)
		return 0;
	error = p->emit(p->arg, &r);
	for (size_t i = 0; error < 0 && i < p->ids_count; i++)
		job_wheel_add(p->m, &p->m->retain, job_find(p->m, p->ids[i]), JOB_AT_RETAIN);
	p->ids_count = 0;
	return error;
}

static int advance_retention(struct pass *p)
{
	struct job_machine *m = p->m;
	uint32_t slot;
	int error = 0;

	while (error == 0 && p->budget > 0 && (slot = job_wheel_due(m, &m->retain, p->now_ms)) != 0) {
		p->budget--;
		p->ids[p->ids_count++] = job_slot_id(job_slot(m, slot));
		if (p->ids_count == REMOVE_AT_ONCE)
			error = emit_remove(p, JOB_REMOVE_EXPIRED);
	}
	return error < 0 ? error : emit_remove(p, JOB_REMOVE_EXPIRED);
}

/* Jobs that await one which did not end well. Others may be doomed by the end of these, and follow. */
static int advance_doomed(struct pass *p)
{
	uint32_t slot;
	int error = 0;

	while (error == 0 && p->budget > 0 && (slot = job_doomed(p->m)) != 0) {
		struct job_record r;
		char text[128];

		p->budget--;
		job_doomed_record(p->m, slot, p->now_ns, &r, text, sizeof(text));
		error = p->emit(p->arg, &r);
	}
	return error;
}

static uint64_t finished(const struct job_machine *m)
{
	return m->totals.jobs[JOB_DONE] + m->totals.jobs[JOB_FAILED] + m->totals.jobs[JOB_CANCELLED];
}

static int evict(struct pass *p)
{
	struct job_machine *m = p->m;
	uint64_t over = finished(m) > m->limits.finished_max ? finished(m) - m->limits.finished_max : 0;
	int error = 0;

	for (; error == 0 && p->budget > 0 && over > 0; over--) {
		uint32_t slot = job_wheel_earliest(m, &m->retain);

		p->budget--;
		p->ids[p->ids_count++] = job_slot_id(job_slot(m, slot));
		job_wheel_remove(m, &m->retain, slot);
		if (p->ids_count == REMOVE_AT_ONCE)
			error = emit_remove(p, JOB_REMOVE_EVICTED);
	}
	return error < 0 ? error : emit_remove(p, JOB_REMOVE_EVICTED);
}

static int evict_one(void *arg, uint32_t slot)
{
	struct pass *p = arg;

	p->ids[p->ids_count++] = job_slot_id(job_slot(p->m, slot));
	job_wheel_remove(p->m, &p->m->retain, slot);
	return p->ids_count == REMOVE_AT_ONCE ? emit_remove(p, JOB_REMOVE_EVICTED) : 0;
}

static int evict_rest(void *arg, uint32_t slot)
{
	(void)slot;
	return emit_remove(arg, JOB_REMOVE_EVICTED);
}

static void end_pauses(struct job_machine *m, int64_t now_ms)
{
	int64_t next = INT64_MAX;

	for (uint32_t i = 1; i < m->queues_end; i++) {
		struct job_queue *q = m->queues[i];

		if (!q || q->pause_until_ms == 0)
			continue;
		if (q->pause_until_ms <= now_ms) {
			q->pause_until_ms = q->pause_ms = 0;
			job_queue_wake(m, q);
		} else if (q->pause_until_ms < next) {
			next = q->pause_until_ms;
		}
	}
	m->pauses_end_ms = next;
}

int job_advance(struct job_machine *m, int64_t now_ns, uint32_t budget, job_emit_function *emit, void *arg)
{
	struct pass p = {.m = m,
	                 .now_ns = now_ns,
	                 .now_ms = now_ns / NS_PER_MS,
	                 .budget = budget,
	                 .emit = emit,
	                 .arg = arg};
	int error;

	if (p.now_ms >= m->pauses_end_ms)
		end_pauses(m, p.now_ms);
	if (p.now_ms >= m->rates_end_ms)
		job_limits_end(m, p.now_ms);
	advance_delays(&p);
	error = advance_leases(&p);
	if (error == 0)
		error = advance_policies(&p);
	if (error == 0)
		error = advance_retention(&p);
	if (error == 0)
		error = advance_doomed(&p);
	if (error == 0)
		error = evict(&p);
	if (error == 0)
		error = job_kept_evict(m, &p.budget, evict_one, evict_rest, &p);
	return error < 0 ? error : p.budget == 0 || job_doomed(m) != 0;
}

int64_t job_next_due(const struct job_machine *m)
{
	int64_t next = job_wheel_next(&m->delays), other = job_wheel_next(&m->leases);

	if (finished(m) > m->limits.finished_max || m->over || job_doomed(m) != 0)
		return 0;
	next = other < next ? other : next;
	next = m->pauses_end_ms < next ? m->pauses_end_ms : next;
	next = m->rates_end_ms < next ? m->rates_end_ms : next;
	other = job_policies_next(m);
	next = other < next ? other : next;
	other = job_wheel_next(&m->retain);
	return other < next ? other : next;
}

uint64_t job_pick(struct job_machine *m, struct job_queue *const *queues, size_t count, int64_t now_ns)
{
	const struct job_slot *best = NULL;

	for (size_t i = 0; i < count; i++) {
		bool paused = queues[i]->paused || queues[i]->pause_until_ms > 0;
		uint32_t slot = paused ? 0 : job_ready_first(m, queues[i]);
		const struct job_slot *s = slot ? job_slot(m, slot) : NULL;

		if (s && queues[i]->limited && !job_limit_allows(m, queues[i], now_ns))
			continue;

		if (s && (!best || s->priority < best->priority ||
		          (s->priority == best->priority && job_slot_id(s) < job_slot_id(best))))
			best = s;
	}
	return best ? job_slot_id(best) : 0;
}

uint64_t job_ready_id(struct job_machine *m, struct job_queue *q)
{
	uint32_t slot = job_ready_first(m, q);

	return slot ? job_slot_id(job_slot(m, slot)) : 0;
}

/* ---- delayed jobs of one queue ------------------------------------------------------------ */

struct soon {
	int64_t when_ms;
	uint64_t id;
};

static bool sooner(const struct soon *a, const struct soon *b)
{
	return a->when_ms != b->when_ms ? a->when_ms < b->when_ms : a->id < b->id;
}

static int by_soonness(const void *a, const void *b)
{
	return sooner(a, b) ? -1 : sooner(b, a) ? 1 : 0;
}

/* Can the list hold what is due up to when? */
static bool may_hold(const struct job_wheel *w, const struct job_wheel_turn *turn, int64_t when_ms)
{
	return turn->at <= (uint64_t)when_ms || turn->at <= w->base + 1;
}

uint64_t job_delayed_first(const struct job_machine *m, const struct job_queue *q)
{
	struct job_wheel_turn turns[JOB_WHEEL_LEVELS * JOB_WHEEL_LISTS];
	uint32_t lists = q->jobs[JOB_DELAYED] > 0 ? job_wheel_turns(&m->delays, turns) : 0;
	struct soon best = {INT64_MAX, 0};

	for (uint32_t i = 0; i < lists && may_hold(&m->delays, &turns[i], best.when_ms); i++) {
		for (uint32_t slot = m->delays.first[turns[i].list]; slot != 0;) {
			const struct job_slot *s = job_slot(m, slot);
			struct soon this = {job_slot_when(s), job_slot_id(s)};

			slot = s->next;
			if (s->queue == q->number && (best.id == 0 || sooner(&this, &best)))
				best = this;
		}
	}
	return best.id;
}

static int gather_soon(struct soon **soon, uint64_t *cap, uint64_t count, struct soon one)
{
	uint64_t more = *cap ? *cap * 2 : 64;
	struct soon *grown;

	if (count == *cap) {
		grown = realloc(*soon, more * sizeof(one));
		if (!grown)
			return -ENOMEM;
		*soon = grown;
		*cap = more;
	}
	(*soon)[count] = one;
	return 0;
}

int64_t job_delayed_soonest(const struct job_machine *m, const struct job_queue *q, uint64_t *ids,
                            uint64_t max)
{
	struct job_wheel_turn turns[JOB_WHEEL_LEVELS * JOB_WHEEL_LISTS];
	uint32_t lists = q->jobs[JOB_DELAYED] > 0 && max > 0 ? job_wheel_turns(&m->delays, turns) : 0;
	uint64_t count = 0, cap = 0;
	int64_t last_ms = 0; /* of those gathered */
	struct soon *soon = NULL;

	for (uint32_t i = 0; i < lists && (count < max || may_hold(&m->delays, &turns[i], last_ms)); i++) {
		for (uint32_t slot = m->delays.first[turns[i].list]; slot != 0;
		     slot = job_slot(m, slot)->next) {
			const struct job_slot *s = job_slot(m, slot);
			struct soon one = {job_slot_when(s), job_slot_id(s)};

			if (s->queue != q->number)
				continue;
			if (gather_soon(&soon, &cap, count, one) < 0) {
				free(soon);
				return -ENOMEM;
			}
			count++;
			if (one.when_ms > last_ms)
				last_ms = one.when_ms;
		}
	}
	if (count > 0)
		qsort(soon, count, sizeof(soon[0]), by_soonness);
	if (count > max)
		count = max;
	for (uint64_t i = 0; i < count; i++)
		ids[i] = soon[i].id;
	free(soon);
	return (int64_t)count;
}
