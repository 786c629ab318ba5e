/* tests/unit/job_model_log.h -- what the log has of the jobs of the model: records found again, jobs written again elsewhere, snapshots taken
 * in steps, and the comparison of what lived on with what reads it all back.
 *
 * Included by test_job_model.c.
 */
#ifndef WH_TESTS_JOB_MODEL_LOG_H
#define WH_TESTS_JOB_MODEL_LOG_H

#include "job_model.h"

/* ---- written again elsewhere --------------------------------------------------------------- */

static const struct stored *stored_at(const struct world *w, uint64_t place)
{
	for (size_t i = w->log_count; i-- > 0;)
		if (w->log[i].place == place)
			return &w->log[i];
	return NULL;
}

/* The record at a place, out of a WHOLE if that is what is there. */
static bool part_at(const struct world *w, uint64_t place, int type, struct job_record *ret)
{
	const struct stored *e = stored_at(w, place);

	if (!e)
		return false;
	*ret = record_of(e);
	if (ret->type == JOB_WHOLE) {
		struct job_record whole = *ret;

		return job_part_find(&whole, type, ret);
	}
	return true;
}

static void move(struct world *w)
{
	static uint8_t bytes[65536];
	struct model_job *j = any_job(w);
	struct job_record whole = {.type = JOB_WHOLE, .id = j->id}, part;
	struct job_places places;
	size_t len = 0;
	uint64_t base = j->place;
	bool finished = job_state_finished(j->state);

	if (job_places(w->m, j->id, &places) < 0) {
		assert_int_equal(j->state, JOB_NONE);
		return;
	}
	assert_int_equal(places.base, j->place);
	if (j->hidden)
		return;
	if (j->state != JOB_RUNNING)
		j->progress_place = 0;
	assert_int_equal(places.progress, j->progress_place);
	if (finished) {
		assert_true(part_at(w, j->place, JOB_FINISH, &part));
		assert_int_equal(job_needed(w->m, &part, j->place), JOB_WHOLE_RESULT);
		base = stored_at(w, j->place)->type == JOB_WHOLE ? j->place : part.submit_place;
		whole.flags = JOB_WHOLE_PAYLOAD | JOB_WHOLE_RESULT;
	} else {
		whole.flags =
			(uint8_t)below(w, 16) & (JOB_WHOLE_PAYLOAD | (j->error_place ? JOB_WHOLE_ERRORS : 0) |
		                                 (j->progress_place ? JOB_WHOLE_PROGRESS : 0));
	}
	if (whole.flags & JOB_WHOLE_PAYLOAD) {
		struct job_record at;

		assert_true(part_at(w, base, JOB_SUBMIT, &part));
		assert_int_equal(part.id, j->id);
		at = record_of(stored_at(w, base));
		assert_true(job_needed(w->m, &at, base) & (finished ? JOB_WHOLE_RESULT : JOB_WHOLE_PAYLOAD));
		len += job_part_put(&part, bytes + len);
	}
	if (finished) {
		assert_true(part_at(w, j->place, JOB_FINISH, &part));
		len += job_part_put(&part, bytes + len);
	}
	if (whole.flags & JOB_WHOLE_ERRORS) {
		part = (struct job_record){.type = JOB_RETRY, .id = j->id, .text = {"all of them", 11}};
		len += job_part_put(&part, bytes + len);
	}
	if (whole.flags & JOB_WHOLE_PROGRESS) {
		assert_true(part_at(w, j->progress_place, JOB_PROGRESS, &part));
		assert_true(job_needed(w->m, &part, j->progress_place) & JOB_WHOLE_PROGRESS);
		len += job_part_put(&part, bytes + len);
	}
	whole.body = (struct job_slice){bytes, len};
	if (whole.flags == 0)
		return;
	assert_int_equal(job_check_whole(w->m, &places, &whole), 0);
	places.base++;
	if (whole.flags & JOB_WHOLE_PAYLOAD)
		assert_int_equal(job_check_whole(w->m, &places, &whole), -EAGAIN);
	carry_out(w, &whole, 0);
	j->place = whole.flags & JOB_WHOLE_PAYLOAD ? w->place : j->place;
	if (whole.flags & JOB_WHOLE_PAYLOAD) /* which only what is flushed is */
		j->submit_hidden = false;
	j->error_place = whole.flags & JOB_WHOLE_ERRORS ? w->place : j->error_place;
	j->progress_place = whole.flags & JOB_WHOLE_PROGRESS ? w->place : j->progress_place;
	w->moved++;
}

static void on_live(void *arg, uint64_t place, int64_t bytes)
{
	int64_t *live = arg;

	live[(place >> 21) % LIVE_CELLS] += bytes;
}

static void compare_live(struct world *w)
{
	static int64_t live[LIVE_CELLS];

	memset(live, 0, sizeof(live));
	job_live_each(w->m, on_live, live);
	assert_memory_equal(live, w->live, sizeof(live));
}

/* ---- snapshots ---------------------------------------------------------------------------- */

static int on_snapshot(void *arg, const struct job_record *r)
{
	struct snapshot *s = arg;

	assert_true(job_record_checkpoint(r->type));
	if (s->count == s->cap) {
		s->cap = s->cap ? s->cap * 2 : 16;
		s->records = realloc(s->records, s->cap * sizeof(s->records[0]));
	}
	s->records[s->count++] = bytes_of(r, 0);
	return 0;
}

static void forget_snapshot(struct world *w)
{
	for (size_t i = 0; i < w->snapshot.count; i++)
		free(w->snapshot.records[i].bytes);
	free(w->snapshot.records);
	w->snapshot = (struct snapshot){0};
}

static struct job_machine *load_snapshot(struct world *w)
{
	struct job_machine *loaded;
	char what[200] = "";

	assert_int_equal(job_open(&loaded, &w->limits, w->snapshot.now_ms), 0);
	for (size_t i = 0; i < w->snapshot.count; i++) {
		struct job_record r = record_of(&w->snapshot.records[i]);

		assert_int_equal(job_load(loaded, &r), 0);
	}
	assert_int_equal(job_load_end(loaded), 0);
	if (job_recount(loaded, what, sizeof(what)) < 0)
		fail_msg("loaded: %s", what);
	return loaded;
}

/* As it was when the snapshot began; and with what followed as it is now. */
static void check_snapshot(struct world *w)
{
	struct job_machine *loaded = load_snapshot(w);
	char what[200] = "";

	assert_int_equal(job_digest(loaded, w->snapshot.now_ms), w->snapshot.digest);
	job_close(loaded);
	loaded = load_snapshot(w);
	for (size_t i = w->snapshot.log_at; i < w->log_count; i++) {
		struct job_record r = record_of(&w->log[i]);

		assert_int_equal(job_replay(loaded, &r, w->log[i].place), 0);
	}
	assert_int_equal(job_digest(loaded, w->now_ms), job_digest(w->m, w->now_ms));
	if (job_recount(loaded, what, sizeof(what)) < 0)
		fail_msg("loaded and replayed: %s", what);
	job_close(loaded);
	w->snapshots++;
}

/* Once in a while; the steps are so small that much happens in between. */
static void snapshot(struct world *w)
{
	struct snapshot *s = &w->snapshot;
	int more;

	if (!s->under_way) {
		if (below(w, 40) > 0)
			return;
		forget_snapshot(w);
		/* what is hidden is not shown by a load: only what is durable is loaded */
		job_reveal(w->m, w->revealed = w->place + 1);
		for (size_t i = 0; i < w->count; i++)
			w->jobs[i].hidden = false;
		*s = (struct snapshot){.under_way = true,
		                       .digest = job_digest(w->m, w->now_ms),
		                       .now_ms = w->now_ms,
		                       .log_at = w->log_count};
		assert_int_equal(job_snapshot_begin(w->m), 0);
		assert_int_equal(job_snapshot_begin(w->m), -EBUSY);
		return;
	}
	if (below(w, 400) == 0) { /* given up */
		job_snapshot_cancel(w->m);
		forget_snapshot(w);
		return;
	}
	more = job_snapshot_step(w->m, 1 + below(w, 60), on_snapshot, s);
	assert_true(more == 0 || more == 1);
	assert_int_equal(more == 1, job_snapshot_bytes(w->m) > 0);
	if (more == 0) {
		s->under_way = false;
		s->done = true;
		check_snapshot(w);
	}
}

static void compare(struct world *w)
{
	struct job_machine *again;
	char what[200] = "";
	uint64_t alive = 0, states[JOB_STATES] = {0};
	struct job_totals totals;

	for (size_t i = 0; i < w->count; i++) {
		const struct model_job *j = &w->jobs[i];
		struct job_info info;
		int error = job_look(w->m, j->id, &info);

		if (j->state == JOB_NONE) {
			assert_int_equal(error, -JOB_EEXPIRED);
			continue;
		}
		assert_int_equal(error, 0);
		assert_int_equal(info.state, j->state);
		assert_int_equal(info.priority, j->priority);
		assert_int_equal(info.attempts, j->attempts);
		assert_int_equal(info.cancel_requested, j->cancel);
		assert_int_equal(info.place, j->place);
		if (!job_state_finished(j->state)) {
			assert_int_equal(info.error_place, j->error_place);
			assert_int_equal(info.timeouts, j->timeouts);
			assert_int_equal(info.reserves, j->reserves);
			assert_int_equal(info.releases, j->releases);
			assert_int_equal(info.buries, j->buries);
			assert_int_equal(info.kicks, j->kicks);
			assert_int_equal(info.delay_s, j->delay_s);
			assert_int_equal(info.bound, j->bound && j->state == JOB_RUNNING);
			assert_int_equal(info.time_to_run_ms, j->time_to_run_ms);
			assert_int_equal(info.expires_ms, j->expires_ms);
			assert_int_equal(info.dead_from ? info.dead_from->number : 0, j->dead_from);
			assert_int_equal(info.queue->number, j->queue);
		}
		if (j->state == JOB_AWAITING) {
			struct job_awaits awaits;
			uint64_t ids[AFTER];

			assert_int_equal(job_awaits(w->m, j->id, ids, AFTER, &awaits), j->after_open);
			assert_memory_equal(ids, j->after, j->after_open * sizeof(ids[0]));
			assert_int_equal(awaits.open, j->after_open);
			assert_int_equal(awaits.count, j->after_count);
			assert_int_equal(awaits.failure, j->after_failure);
		}
		if (j->state == JOB_RUNNING || j->state == JOB_DELAYED || j->state == JOB_AWAITING ||
		    job_state_finished(j->state))
			assert_int_equal(info.when_ms, j->when_ms);
		alive++;
		states[j->state]++;
	}
	job_totals(w->m, &totals);
	assert_memory_equal(states, totals.jobs, sizeof(states));
	if (job_recount(w->m, what, sizeof(what)) < 0)
		fail_msg("%s", what);
	assert_int_equal(job_open(&again, &w->limits, w->now_ms), 0);
	for (size_t i = 0; i < w->log_count; i++) {
		struct job_record r = record_of(&w->log[i]);

		assert_int_equal(job_replay(again, &r, w->log[i].place), 0);
	}
	compare_live(w);
	if (w->snapshot.done)
		check_snapshot(w);
	assert_int_equal(job_digest(w->m, w->now_ms), job_digest(again, w->now_ms));
	if (job_recount(again, what, sizeof(what)) < 0)
		fail_msg("replayed: %s", what);
	(void)alive;
	job_close(again);
}

#endif
