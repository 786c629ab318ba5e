/* src/job/queue.c -- queues: names, numbers, configuration. See job.h. */
#include <errno.h>
#include <xxhash.h>

#include "job/machine.h"

#define NS_PER_S INT64_C(1000000000)

enum { QUEUE_NUMBER_MAX = (1 << 24) - 1 };

bool job_name_valid(struct job_slice name)
{
	const unsigned char *s = name.data;
	size_t skip = job_name_skip(name.data, name.len);

	/* its namespace, if it has one, is not empty, and neither is what follows */
	if (name.len == 0 || name.len > JOB_NAME_MAX || s[0] == '-' || skip == 1 || skip == name.len ||
	    s[skip] == '-')
		return false;
	for (size_t i = 0; i < name.len; i++) {
		bool letter = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
		              (s[i] >= '0' && s[i] <= '9');
		if (!letter && i + 1 != skip && (s[i] == 0 || !strchr("-+/;.$_()", s[i])))
			return false;
	}
	return true;
}

/* ---- names ------------------------------------------------------------------------------- */

static struct job_queue **name_at(const struct job_machine *m, const void *name, size_t len)
{
	uint32_t mask = m->names_cap - 1;

	for (uint32_t i = (uint32_t)XXH3_64bits(name, len) & mask;; i = (i + 1) & mask) {
		struct job_queue *q = m->names[i];
		if (!q || (q->name_len == len && memcmp(q->name, name, len) == 0))
			return &m->names[i];
	}
}

struct job_queue *job_queue_find(const struct job_machine *m, struct job_slice name)
{
	return m->names_cap == 0 || name.len == 0 ? NULL : *name_at(m, name.data, name.len);
}

static void name_remove(struct job_machine *m, struct job_queue *q)
{
	uint32_t mask = m->names_cap - 1, hole = (uint32_t)(name_at(m, q->name, q->name_len) - m->names);

	for (uint32_t i = (hole + 1) & mask; m->names[i]; i = (i + 1) & mask) {
		uint32_t home = (uint32_t)XXH3_64bits(m->names[i]->name, m->names[i]->name_len) & mask;
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			m->names[hole] = m->names[i];
			hole = i;
		}
	}
	m->names[hole] = NULL;
}

/* ---- room -------------------------------------------------------------------------------- */

int job_queue_room(struct job_machine *m, uint32_t number)
{
	if (!m->queue_spare)
		m->queue_spare = calloc(1, sizeof(*m->queue_spare) + JOB_NAME_MAX + 1);
	if (!m->queue_spare || job_space_room(m) < 0)
		return -ENOMEM;
	if (number >= m->queues_cap) {
		uint32_t cap = m->queues_cap ? m->queues_cap : 16;
		struct job_queue **queues;

		while (cap <= number)
			cap *= 2;
		queues = realloc(m->queues, cap * sizeof(queues[0]));
		if (!queues)
			return -ENOMEM;
		memset(queues + m->queues_cap, 0, (cap - m->queues_cap) * sizeof(queues[0]));
		m->queues = queues;
		m->queues_cap = cap;
	}
	if ((m->queues_live + 2) * 2 > m->names_cap) {
		uint32_t before = m->names_cap, cap = before ? before * 2 : 32;
		struct job_queue **old = m->names, **names = calloc(cap, sizeof(names[0]));

		if (!names)
			return -ENOMEM;
		m->names = names;
		m->names_cap = cap;
		for (uint32_t i = 0; i < before; i++)
			if (old[i])
				*name_at(m, old[i]->name, old[i]->name_len) = old[i];
		free(old);
	}
	return 0;
}

/* The lowest number that is not in use. */
static uint32_t free_number(const struct job_machine *m)
{
	if (m->queues_free > 0)
		for (uint32_t i = 1; i < m->queues_end; i++)
			if (!m->queues[i])
				return i;
	return m->queues_end;
}

struct job_queue *job_queue_at(const struct job_machine *m, uint32_t number)
{
	return number < m->queues_end ? m->queues[number] : NULL;
}

uint32_t job_queues_end(const struct job_machine *m)
{
	return m->queues_end;
}

/* ---- check ------------------------------------------------------------------------------- */

static bool config_valid(const struct job_queue_config *c)
{
	int64_t day = 86400 * NS_PER_S;

	return (c->time_to_run_ns == 0 || (c->time_to_run_ns >= 1000000 && c->time_to_run_ns <= 30 * day)) &&
	       c->retention_ns <= 3660 * day && c->backoff_ns >= 0 && c->backoff_ns <= 366 * day &&
	       c->backoff_max_ns >= 0 && c->backoff_max_ns <= 366 * day &&
	       (c->backoff_jitter <= 100 || c->backoff_jitter == JOB_NO_JITTER) &&
	       c->attempts_max <= JOB_ATTEMPTS_MAX && c->finished_max <= UINT32_MAX &&
	       c->backoffs <= JOB_BACKOFFS_MAX && job_rate_valid(&c->rate) && job_rate_valid(&c->group_rate);
}

/* Dead jobs must not come back to the queue, whichever way they take. */
static int check_dead_letter(const struct job_machine *m, uint32_t number, uint32_t dead_letter)
{
	while (dead_letter != 0) {
		const struct job_queue *to = job_queue_at(m, dead_letter);

		if (dead_letter == number)
			return -JOB_EDEAD_LOOP;
		if (!to || to->gone)
			return -JOB_EUNKNOWN_QUEUE;
		dead_letter = to->own.dead_letter;
	}
	return 0;
}

int job_check_queue_put(struct job_machine *m, struct job_slice name, const struct job_queue_config *config,
                        bool implicit, int64_t now_ns, struct job_record *r)
{
	struct job_queue *q = job_queue_find(m, name);
	uint32_t number = q ? q->number : free_number(m);
	const struct job_space *space;
	int error = check_dead_letter(m, number, config->dead_letter);

	if (!job_name_valid(name) || !config_valid(config))
		return -JOB_EVALUE;
	if (error < 0)
		return error;
	if (!q && (m->queues_live >= m->limits.queues_max || number > QUEUE_NUMBER_MAX))
		return -JOB_EMEMORY_FULL;
	space = q ? NULL : job_space_of(m, name);
	if (space && space->queues_max > 0 && space->queues >= space->queues_max)
		return -JOB_ENAMESPACE_FULL;
	if (job_queue_room(m, number) < 0)
		return -ENOMEM;
	*r = (struct job_record){.type = JOB_QUEUE,
	                         .queue = number,
	                         .flags = (uint8_t)((q && q->paused ? JOB_QUEUE_PAUSED : 0) |
	                                            (implicit ? JOB_QUEUE_IMPLICIT : 0)),
	                         .at_ns = q ? q->created_ns : now_ns,
	                         .config = *config,
	                         .body = name};
	return job_options_bytes(r) > JOB_OPTIONS_MAX ? -JOB_ETOO_LARGE : 0;
}

int job_check_queue_pause(struct job_machine *m, struct job_queue *q, bool paused, struct job_record *r)
{
	(void)m;
	if (q->gone)
		return -JOB_EUNKNOWN_QUEUE;
	*r = (struct job_record){
		.type = q->paused == paused ? 0 : JOB_QUEUE,
		.queue = q->number,
		.flags = (uint8_t)((paused ? JOB_QUEUE_PAUSED : 0) | (q->implicit ? JOB_QUEUE_IMPLICIT : 0)),
		.at_ns = q->created_ns,
		.config = q->own,
		.body = {q->name, q->name_len}};
	return 0;
}

static uint64_t unfinished(const struct job_queue *q)
{
	return q->jobs[JOB_DELAYED] + q->jobs[JOB_READY] + q->jobs[JOB_RUNNING] + q->jobs[JOB_BURIED] +
	       q->jobs[JOB_AWAITING];
}

static uint64_t finished(const struct job_queue *q)
{
	return q->jobs[JOB_DONE] + q->jobs[JOB_FAILED] + q->jobs[JOB_CANCELLED];
}

int job_check_queue_gone(struct job_machine *m, struct job_queue *q, struct job_record *r)
{
	if (q->gone)
		return -JOB_EUNKNOWN_QUEUE;
	if (unfinished(q) > 0)
		return -JOB_ENOT_EMPTY;
	for (uint32_t i = 1; i < m->queues_end; i++)
		if (m->queues[i] && !m->queues[i]->gone && m->queues[i]->own.dead_letter == q->number)
			return -JOB_EIN_USE;
	*r = (struct job_record){.type = JOB_QUEUE_GONE, .queue = q->number};
	return 0;
}

/* ---- apply ------------------------------------------------------------------------------- */

static void configure(struct job_machine *m, struct job_queue *q, const struct job_record *r)
{
	const struct job_queue_config *d = &m->limits.defaults;
	struct job_queue_config *c = &q->config;
	uint32_t group_concurrency = c->group_concurrency;
	struct job_rate group_rate = c->group_rate;

	q->own = *c = r->config;
	if (c->backoffs == 0 && c->backoff_ns == 0 && c->backoff_max_ns == 0) {
		c->backoffs = d->backoffs;
		memcpy(c->backoff_list_ms, d->backoff_list_ms, sizeof(c->backoff_list_ms));
	}
	c->time_to_run_ns = c->time_to_run_ns ? c->time_to_run_ns : d->time_to_run_ns;
	c->retention_ns = c->retention_ns ? c->retention_ns : d->retention_ns;
	c->backoff_ns = c->backoff_ns ? c->backoff_ns : d->backoff_ns;
	c->backoff_max_ns = c->backoff_max_ns ? c->backoff_max_ns : d->backoff_max_ns;
	c->backoff_jitter = c->backoff_jitter ? c->backoff_jitter : d->backoff_jitter;
	c->attempts_max = c->attempts_max ? c->attempts_max : d->attempts_max;
	c->jobs_max = c->jobs_max ? c->jobs_max : d->jobs_max;
	c->finished_max = c->finished_max ? c->finished_max : d->finished_max;
	q->paused = (r->flags & JOB_QUEUE_PAUSED) != 0;
	q->implicit = (r->flags & JOB_QUEUE_IMPLICIT) != 0;
	if (!q->paused)
		job_queue_wake(m, q);
	job_kept_check(m, q);
	job_limit_configure(m, q);
	if (memcmp(&c->group_rate, &group_rate, sizeof(group_rate)) != 0)
		job_buckets_drop(m, q);
	if (c->group_concurrency != group_concurrency)
		job_groups_settle(m, q);
}

/* Needs job_queue_room(). It has no name yet that it could be found by. */
static struct job_queue *queue_new(struct job_machine *m, const struct job_record *r)
{
	struct job_queue *q = m->queue_spare;

	assert(q);
	m->queue_spare = NULL;
	q->number = r->queue;
	q->created_ns = r->at_ns;
	q->name_len = (uint32_t)r->body.len;
	memcpy(q->name, r->body.data, r->body.len);
	job_space_enter(m, q);
	m->queues[r->queue] = q;
	if (r->queue >= m->queues_end) {
		m->queues_free += r->queue - m->queues_end;
		m->queues_end = r->queue + 1;
	} else {
		m->queues_free--;
	}
	return q;
}

static void queue_name(struct job_machine *m, struct job_queue *q)
{
	*name_at(m, q->name, q->name_len) = q;
	m->queues_live++;
	if (q->space)
		q->space->queues++;
}

/* Needs job_queue_room(). */
void job_queue_apply(struct job_machine *m, const struct job_record *r)
{
	struct job_queue *q = job_queue_at(m, r->queue);

	if (!q) {
		q = queue_new(m, r);
		queue_name(m, q);
		if (m->snapshot)
			job_snapshot_skip_queue(m, q->number);
	} else if (m->snapshot) {
		job_snapshot_keep_queue(m, q);
	}
	configure(m, q, r);
}

int job_queue_load(struct job_machine *m, const struct job_record *r, struct job_queue **ret)
{
	bool gone = (r->flags & JOB_QUEUE_GONE_FLAG) != 0;
	struct job_queue *q;

	if (job_queue_at(m, r->queue) || (!gone && job_queue_find(m, r->body)))
		return -EPROTO;
	if (job_queue_room(m, r->queue) < 0)
		return -ENOMEM;
	q = queue_new(m, r);
	if (!gone)
		queue_name(m, q);
	configure(m, q, r);
	q->gone = gone;
	*ret = q;
	return 0;
}

void job_queue_woken_forget(struct job_machine *m, struct job_queue *q)
{
	for (struct job_queue **at = &m->woken; *at; at = &(*at)->next_woken) {
		if (*at == q) {
			*at = q->next_woken;
			break;
		}
	}
	q->woken = false;
}

static void queue_free(struct job_machine *m, struct job_queue *q)
{
	job_queue_woken_forget(m, q);
	job_kept_forget(m, q);
	job_space_leave(m, q);
	m->queues[q->number] = NULL;
	m->queues_free++;
	free(q->lanes);
	free(q);
}

void job_queue_free_if_gone(struct job_machine *m, struct job_queue *q)
{
	if (q->gone && q->waiters_count == 0 && finished(q) == 0 && unfinished(q) == 0 && q->dead_alive == 0)
		queue_free(m, q);
}

void job_queue_apply_gone(struct job_machine *m, const struct job_record *r)
{
	struct job_queue *q = m->queues[r->queue];

	if (m->snapshot)
		job_snapshot_keep_queue(m, q);
	q->gone = true;
	job_buckets_drop(m, q);
	name_remove(m, q);
	m->queues_live--;
	if (q->space)
		q->space->queues--;
	job_queue_free_if_gone(m, q);
}

void job_queue_pause(struct job_machine *m, struct job_queue *q, int64_t until_ms, int64_t pause_ms)
{
	q->pause_until_ms = until_ms;
	q->pause_ms = pause_ms;
	q->pauses++;
	if (until_ms > 0 && until_ms < m->pauses_end_ms)
		m->pauses_end_ms = until_ms;
	if (until_ms == 0)
		job_queue_wake(m, q);
}

bool job_woken_any(const struct job_machine *m)
{
	return m->woken != NULL;
}

struct job_queue *job_woken(struct job_machine *m)
{
	struct job_queue *q = m->woken;

	if (q) {
		m->woken = q->next_woken;
		q->woken = false;
	}
	return q;
}

void job_queues_done(struct job_machine *m)
{
	for (uint32_t i = 1; i < m->queues_end; i++) {
		if (m->queues[i]) {
			free(m->queues[i]->lanes);
			free(m->queues[i]->kept);
		}
		free(m->queues[i]);
	}
	free(m->queues);
	free(m->names);
	free(m->queue_spare);
	job_spaces_done(m);
}
