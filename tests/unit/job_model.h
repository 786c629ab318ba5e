/* tests/unit/job_model.h -- the model of the job machine that is too simple to be wrong: jobs in a list, looked through from end to end.
 *
 * What is drawn, what the records of the log do to the model, and what time alone does. Included by test_job_model.c, whose
 * wishes go to both.
 */
#ifndef WH_TESTS_JOB_MODEL_H
#define WH_TESTS_JOB_MODEL_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "job/job.h"

#define NS_PER_MS INT64_C(1000000)

enum {
	QUEUES = 4,
	DEAD_FROM = 1,
	DEAD_TO = 4,
	GROUPS = 4,
	KEYS = 5,
	PASSING = 2,
	MODEL_JOBS = 6000,
	AFTER = 4,
	PLACE_STEP = 4096,
	LIVE_CELLS = 4096
};

struct model_job {
	uint64_t id;
	uint32_t queue, priority, attempts, attempts_max;
	int state;
	bool cancel, hidden;
	int64_t when_ms, time_to_run_ms, retention_ms;
	struct job_lease lease;
	uint64_t place, error_place, progress_place;
	uint32_t timeouts, reserves, releases, buries, kicks, delay_s;
	bool bound;
	uint64_t version;
	uint32_t group;          /* 0: none */
	int64_t expires_ms;      /* 0: never */
	uint32_t dead_from;      /* 0: it is not */
	uint32_t key, key_queue; /* 0: none */
	int64_t key_while;
	int64_t key_until; /* of keys that hold for a time */
	bool key_held;     /* of others */
	/* awaiting: jobs that have not ended, how many there were; what if one does not end well, and that it did not */
	uint64_t after[AFTER];
	uint32_t after_open, after_count, after_failure;
	int64_t after_delay_ms;
	bool doomed, submit_hidden;
};

struct stored {
	uint8_t type;
	uint64_t place;
	size_t fixed_len, rest_len;
	uint8_t *bytes;
};

/* A snapshot under way, or done: its records, what the machine was when it began, and how many records the log had. */
struct snapshot {
	bool under_way, done;
	uint64_t digest;
	int64_t now_ms;
	size_t log_at;
	struct stored *records;
	size_t count, cap;
};

/* How much of a rate may be taken. */
struct bucket {
	int64_t level_ns, at_ms;
	bool rests; /* of a group: was too empty when somebody looked last */
};

struct world {
	struct job_machine *m;
	struct snapshot snapshot;
	uint64_t snapshots, moved, evicted;
	int64_t live[LIVE_CELLS];
	uint64_t seed;
	int64_t now_ms;
	uint64_t place, revealed;
	struct model_job jobs[MODEL_JOBS];
	size_t count;
	bool paused[QUEUES + 1];
	int64_t pause_until[QUEUES + 1];
	struct job_queue *queues[QUEUES + 1];
	struct stored *log;
	size_t log_count, log_cap;
	uint64_t refused, done;
	uint64_t duplicates, dead, expired, held_back, edited, revived;
	struct bucket bucket, group_buckets[GROUPS + 1]; /* of c, and of the groups of d */
	struct job_limits limits;
	bool hides; /* what the newest record released is not to be leased yet */
	uint64_t released, doomed, waited_on;
};

static uint64_t random_next(struct world *w)
{
	uint64_t z = (w->seed += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint32_t below(struct world *w, uint32_t n)
{
	return (uint32_t)(random_next(w) % n);
}

static struct model_job *find(struct world *w, uint64_t id)
{
	for (size_t i = 0; i < w->count; i++)
		if (w->jobs[i].id == id && w->jobs[i].state != JOB_NONE)
			return &w->jobs[i];
	return NULL;
}

static struct stored bytes_of(const struct job_record *r, uint64_t place)
{
	struct job_slice slices[JOB_RECORD_SLICES_MAX];
	uint8_t fixed[JOB_RECORD_FIXED_MAX];
	int count = job_record_rest(r, slices);
	struct stored e = {.type = r->type, .place = place, .fixed_len = job_record_fixed(r, fixed)};

	for (int i = 0; i < count; i++)
		e.rest_len += slices[i].len;
	e.bytes = malloc(e.fixed_len + e.rest_len);
	memcpy(e.bytes, fixed, e.fixed_len);
	for (size_t at = e.fixed_len, i = 0; i < (size_t)count; at += slices[i++].len)
		memcpy(e.bytes + at, slices[i].data, slices[i].len);
	return e;
}

static struct job_record record_of(const struct stored *e)
{
	struct job_record r;

	assert_int_equal(job_record_get(e->type, JOB_RECORD_VERSION,
	                                (struct job_slice){e->bytes, e->fixed_len},
	                                (struct job_slice){e->bytes + e->fixed_len, e->rest_len}, &r),
	                 0);
	return r;
}

static void store_record(struct world *w, const struct job_record *r)
{
	if (w->log_count == w->log_cap) {
		w->log_cap = w->log_cap ? w->log_cap * 2 : 1024;
		w->log = realloc(w->log, w->log_cap * sizeof(w->log[0]));
	}
	w->log[w->log_count++] = bytes_of(r, w->place);
}

static void carry_out(struct world *w, const struct job_record *r, unsigned flags)
{
	w->place += PLACE_STEP;
	store_record(w, r);
	if (r->type == JOB_FINISH || r->type == JOB_DEAD || r->type == JOB_REMOVE)
		flags = below(w, 2) ? JOB_HIDDEN : 0;
	w->hides = flags & JOB_HIDDEN;
	job_apply(w->m, r, w->place, flags);
	w->done++;
}

/* The rate of c, and of the groups of d. */
enum { RATE_QUEUE = 3, GROUP_RATE_QUEUE = 4 };
static const struct job_rate rate = {40, 1000, 6}, group_rate = {50, 1000, 2};

static int64_t one(const struct job_rate *r)
{
	return r->period_ms * NS_PER_MS / r->count;
}

/* Fills with time, and by so much more. */
static void fill_bucket(struct world *w, struct bucket *b, const struct job_rate *r, int64_t more_ns)
{
	b->level_ns += (w->now_ms - b->at_ms) * NS_PER_MS;
	b->at_ms = w->now_ms;
	if (b->level_ns > r->burst * one(r))
		b->level_ns = r->burst * one(r);
	b->level_ns += more_ns;
	if (b->level_ns > r->burst * one(r))
		b->level_ns = r->burst * one(r);
}

static struct bucket *bucket_of_group(struct world *w, const struct model_job *j)
{
	bool limited = j->group != 0 && j->queue == GROUP_RATE_QUEUE &&
	               w->queues[GROUP_RATE_QUEUE]->own.group_rate.count > 0;

	return limited ? &w->group_buckets[j->group] : NULL;
}

/* A job was begun. */
static void model_take(struct world *w, const struct model_job *j)
{
	struct bucket *b = bucket_of_group(w, j);

	if (j->queue == RATE_QUEUE)
		fill_bucket(w, &w->bucket, &rate, -one(&rate));
	if (!b)
		return;
	fill_bucket(w, b, &group_rate, -one(&group_rate));
	b->rests = b->level_ns < one(&group_rate);
}

static void model_give_back(struct world *w, const struct model_job *j)
{
	struct bucket *b = bucket_of_group(w, j);

	if (j->queue == RATE_QUEUE)
		fill_bucket(w, &w->bucket, &rate, one(&rate));
	if (b)
		fill_bucket(w, b, &group_rate, one(&group_rate));
}

/* All groups have a full one. */
static void model_groups_anew(struct world *w)
{
	for (int i = 0; i <= GROUPS; i++)
		w->group_buckets[i] = (struct bucket){group_rate.burst * one(&group_rate), w->now_ms, false};
}

/* Do the limits of its queue let another job begin? */
static bool queue_allows(struct world *w, uint32_t queue)
{
	const struct job_queue_config *c = &w->queues[queue]->own;
	uint32_t running = 0;

	fill_bucket(w, &w->bucket, &rate, 0);
	for (size_t i = 0; i < w->count; i++)
		running += w->jobs[i].queue == queue && w->jobs[i].state == JOB_RUNNING;
	return (c->concurrency == 0 || running < c->concurrency) &&
	       (queue != RATE_QUEUE || w->bucket.level_ns >= one(&rate));
}

/* Is it one of those of its group that come next? */
static bool group_allows(struct world *w, const struct model_job *j)
{
	uint32_t before = 0, max = w->queues[j->queue]->own.group_concurrency;

	if (bucket_of_group(w, j) && bucket_of_group(w, j)->rests)
		return false;
	for (size_t i = 0; i < w->count && j->group != 0; i++) {
		const struct model_job *other = &w->jobs[i];

		if (other->queue == j->queue && other->group == j->group && other != j)
			before += other->state == JOB_RUNNING ||
			          ((other->state == JOB_READY || other->state == JOB_DELAYED) &&
			           other->id < j->id);
	}
	return j->group == 0 || before < (max ? max : 1);
}

/* The job that has a unique key of a queue, of several any; NULL: none. */
static const struct model_job *holder(const struct world *w, uint32_t queue, uint32_t key, uint64_t id,
                                      bool jobs)
{
	for (size_t i = 0; i < w->count; i++) {
		const struct model_job *j = &w->jobs[i];

		if (j->key == key && j->key_queue == queue && (id == 0 || j->id == id) &&
		    ((!jobs && j->key_while > 0) ? j->key_until > w->now_ms : j->key_held))
			return j;
	}
	return NULL;
}

/* What a queued key does as its job begins, or goes back. */
static void model_key(struct world *w, struct model_job *j, bool waits)
{
	if (j->key == 0 || j->key_while != JOB_UNIQUE_QUEUED)
		return;
	j->key_held = waits && (j->key_held || !holder(w, j->key_queue, j->key, 0, true));
}

static void model_release(struct world *w, struct model_job *j)
{
	int64_t until_ms = j->after_delay_ms > 0 ? w->now_ms + j->after_delay_ms : 0;

	j->when_ms = until_ms > j->when_ms ? until_ms : j->when_ms;
	j->state = j->when_ms > w->now_ms ? JOB_DELAYED : JOB_READY;
	j->hidden = j->state == JOB_READY && (w->hides || (j->submit_hidden && j->place >= w->revealed));
	model_key(w, j, true);
	w->released++;
}

/* A job that others await has ended, or has become dead. */
static void model_end(struct world *w, uint64_t id, int why, bool for_good)
{
	for (size_t i = 0; i < w->count; i++) {
		struct model_job *j = &w->jobs[i];
		uint32_t at = 0;

		if (j->state != JOB_AWAITING || j->doomed)
			continue;
		while (at < j->after_open && j->after[at] != id)
			at++;
		if (at == j->after_open)
			continue;
		if (why != JOB_AWAITED_DONE && j->after_failure == JOB_AFTER_WAIT && !for_good) {
			w->waited_on++;
			continue;
		}
		if (why != JOB_AWAITED_DONE && j->after_failure != JOB_AFTER_RUN) {
			j->doomed = true;
			j->after_open = 0;
			continue;
		}
		memmove(&j->after[at], &j->after[at + 1], (--j->after_open - at) * sizeof(j->after[0]));
		if (j->after_open == 0)
			model_release(w, j);
	}
}

static void model_dead(struct world *w, struct model_job *j)
{
	j->dead_from = j->dead_from ? j->dead_from : j->queue;
	j->queue = DEAD_TO;
	j->attempts = 0;
	j->expires_ms = 0;
	j->key_held = false;
	if (j->key_while <= 0)
		j->key = 0; /* for good */
	j->state = JOB_READY;
	j->when_ms = 0;
	j->error_place = w->place;
	w->dead++;
	model_end(w, j->id, JOB_AWAITED_DEAD, false);
}

static void model_finish(struct world *w, struct model_job *j, int state, int64_t now_ms)
{
	j->state = state;
	j->cancel = j->hidden = j->key_held = false;
	j->dead_from = 0;
	j->lease = (struct job_lease){0};
	j->reserves = j->releases = j->buries = j->kicks = j->delay_s =
		0; /* what is finished does not tell */
	j->when_ms = now_ms + j->retention_ms;
	j->place = w->place;
	j->doomed = false;
	if (j->retention_ms <= 0)
		j->state = JOB_NONE;
	model_end(w, j->id,
	          state == JOB_DONE     ? JOB_AWAITED_DONE
	          : state == JOB_FAILED ? JOB_AWAITED_FAILED
	                                : JOB_AWAITED_CANCELLED,
	          state != JOB_FAILED || j->state == JOB_NONE);
}

/* Where a queue keeps only so many, those closest to their end go. */
static void check_evicted(struct world *w, const struct job_record *r)
{
	int64_t latest = 0;

	if (r->reason != JOB_REMOVE_EVICTED || w->limits.finished_max > 0)
		return;
	for (size_t i = 0; i < r->body.len / 8; i++) {
		uint64_t id;

		memcpy(&id, (const uint8_t *)r->body.data + 8 * i, 8);
		for (size_t k = 0; k < w->count; k++)
			if (w->jobs[k].id == id) {
				assert_int_equal(w->jobs[k].queue, 3);
				latest = w->jobs[k].when_ms > latest ? w->jobs[k].when_ms : latest;
			}
	}
	for (size_t k = 0; k < w->count; k++)
		if (w->jobs[k].queue == 3 && job_state_finished(w->jobs[k].state))
			assert_true(w->jobs[k].when_ms >= latest);
}

static int on_emit(void *arg, const struct job_record *r)
{
	struct world *w = arg;

	carry_out(w, r, 0);
	if (r->type == JOB_REMOVE) {
		for (size_t i = 0; i < r->body.len / 8; i++) {
			uint64_t id;
			struct model_job *j;

			memcpy(&id, (const uint8_t *)r->body.data + 8 * i, 8);
			j = find(w, id);
			assert_non_null(j);
			assert_true(job_state_finished(j->state));
			assert_true(r->reason == JOB_REMOVE_EVICTED || j->when_ms <= w->now_ms);
			j->state = JOB_NONE;
			model_end(w, id, JOB_AWAITED_GONE, true);
			w->evicted += r->reason == JOB_REMOVE_EVICTED;
		}
		check_evicted(w, r);
	} else {
		struct model_job *j = find(w, r->id);

		assert_non_null(j);
		if (r->type == JOB_FINISH && r->reason == JOB_BY_EXPIRY) {
			assert_true(j->state == JOB_READY || j->state == JOB_DELAYED ||
			            j->state == JOB_BURIED || j->state == JOB_AWAITING);
			assert_true(j->attempts == 0 && j->expires_ms > 0 && j->expires_ms <= w->now_ms);
			assert_memory_equal(r->text.data, "expired", 7);
			model_finish(w, j, JOB_FAILED, w->now_ms);
			w->expired++;
			return 0;
		}
		if (j->state == JOB_AWAITING) {
			assert_true(j->doomed);
			assert_true(r->text.len > 20 && memcmp(r->text.data, "job ", 4) == 0);
			w->doomed++;
			if (j->after_failure != JOB_AFTER_BURY) {
				assert_true(r->type == JOB_FINISH && r->state == JOB_CANCELLED &&
				            r->reason == JOB_BY_AWAITED);
				model_finish(w, j, JOB_CANCELLED, w->now_ms);
				return 0;
			}
			assert_int_equal(r->type, JOB_BURY);
			j->state = JOB_BURIED;
			j->doomed = false;
			j->buries++;
			j->error_place = w->place;
			return 0;
		}
		assert_int_equal(j->state, JOB_RUNNING);
		assert_true(j->when_ms <= w->now_ms);
		if (j->cancel) {
			assert_int_equal(r->state, JOB_CANCELLED);
			model_finish(w, j, JOB_CANCELLED, w->now_ms);
		} else if (j->attempts >= j->attempts_max && j->queue == DEAD_FROM) {
			assert_int_equal(r->type, JOB_DEAD);
			j->timeouts++;
			model_dead(w, j);
		} else if (j->attempts >= j->attempts_max) {
			assert_int_equal(r->state, JOB_FAILED);
			model_finish(w, j, JOB_FAILED, w->now_ms);
		} else {
			assert_int_equal(r->type, JOB_RETRY);
			j->error_place = w->place;
			j->timeouts++;
			j->state = JOB_READY;
			j->when_ms = 0;
			model_key(w, j, true);
		}
	}
	return 0;
}

static void pass_time(struct world *w)
{
	w->now_ms += below(w, 4) == 0 ? below(w, 100000) : below(w, 40);
	if (below(w, 200) == 0)
		w->now_ms += 400000000;
	w->revealed = w->place + 1;
	job_reveal(w->m, w->revealed);
	for (size_t i = 0; i < w->count; i++)
		w->jobs[i].hidden = false;
	while (job_advance(w->m, w->now_ms * NS_PER_MS, 7, on_emit, w) == 1)
		;
	for (uint32_t q = 1; q <= QUEUES; q++)
		if (w->pause_until[q] <= w->now_ms)
			w->pause_until[q] = 0;
	for (int i = 1; i <= GROUPS; i++) {
		fill_bucket(w, &w->group_buckets[i], &group_rate, 0);
		w->group_buckets[i].rests = w->group_buckets[i].level_ns < one(&group_rate);
	}
	for (size_t i = 0; i < w->count; i++) {
		struct model_job *j = &w->jobs[i];

		if (j->state == JOB_DELAYED && j->when_ms <= w->now_ms)
			j->state = JOB_READY;
		assert_false(j->state == JOB_RUNNING && j->when_ms <= w->now_ms);
		assert_false(job_state_finished(j->state) && j->when_ms <= w->now_ms);
		assert_false(j->state == JOB_AWAITING && j->doomed);
		assert_false((j->state == JOB_READY || j->state == JOB_DELAYED || j->state == JOB_BURIED ||
		              j->state == JOB_AWAITING) &&
		             j->attempts == 0 && j->expires_ms > 0 && j->expires_ms <= w->now_ms);
	}
	assert_true(job_next_due(w->m) > w->now_ms);
	if (w->queues[3]->config.finished_max > 0)
		assert_true(w->queues[3]->jobs[JOB_DONE] + w->queues[3]->jobs[JOB_FAILED] +
		                    w->queues[3]->jobs[JOB_CANCELLED] <=
		            w->queues[3]->config.finished_max);
}

/* Time alone, before anybody has noticed: a lease that has passed is lost all the same. */
static void pass_unnoticed(struct world *w)
{
	w->now_ms += below(w, 2000);
}

static struct model_job *any_job(struct world *w)
{
	static struct model_job none;

	none = (struct model_job){.id = UINT64_C(1) << 40};
	if (w->count == 0 || below(w, 50) == 0)
		return &none;
	if (below(w, 2)) /* one that is alive, if a few tries find one */
		for (int i = 0; i < 20; i++) {
			struct model_job *j = &w->jobs[below(w, (uint32_t)w->count)];
			if (j->state == JOB_RUNNING)
				return j;
		}
	return &w->jobs[below(w, (uint32_t)w->count)];
}

static int missing(const struct model_job *j)
{
	return j->id == UINT64_C(1) << 40 ? -JOB_EUNKNOWN_JOB : -JOB_EEXPIRED;
}

#endif
