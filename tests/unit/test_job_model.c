/* tests/unit/test_job_model.c -- the job machine against a model too simple to be wrong, seed by seed.
 *
 * Random wishes go to both. They must agree on what is refused and why, on which job is next, and on every job's state;
 * and a machine that reads the records back must be in the same state as the one that lived through them. Now and then a
 * snapshot is begun, and goes on in steps of any size between the wishes: a machine that loads it must be in the
 * state of the moment at which it began, and, with the records since, in that of the one that lived on. Jobs are written again elsewhere;
 * what of the log is needed, told bit by bit, must be what a pass over all jobs says. Queue a sends its dead jobs to d, of b so many run
 * at once, of c so many are begun in a time, of d two of each group run at once, and so many are begun in a time. A third of all jobs is to run after some others.
 */
#include "job_model_log.h"

/* How the job has ended as far as it has; 0: it has not. */
static int ended(const struct model_job *j, bool *ret_for_good)
{
	*ret_for_good = j->state == JOB_DONE || j->state == JOB_CANCELLED;
	return j->state == JOB_DONE        ? JOB_AWAITED_DONE
	       : j->state == JOB_CANCELLED ? JOB_AWAITED_CANCELLED
	       : j->state == JOB_FAILED    ? JOB_AWAITED_FAILED
	       : j->dead_from != 0         ? JOB_AWAITED_DEAD
	                                   : 0;
}

/* Jobs to run after: *ids, for r. false: one of them is not there. */
static bool choose_after(struct world *w, struct job_record *r, uint64_t ids[AFTER])
{
	uint32_t count = below(w, 3) ? 1 : 1 + below(w, AFTER);
	int refused = 0, error;

	for (uint32_t i = 0; i < count; i++) {
		/* mostly the newest ones, so that chains and fans come about */
		const struct model_job *j =
			below(w, 4)
				? &w->jobs[w->count - 1 - below(w, w->count < 12 ? (uint32_t)w->count : 12)]
				: &w->jobs[below(w, (uint32_t)w->count)];

		for (int tries = 0; tries < 20 && j->state == JOB_NONE && below(w, 50); tries++)
			j = &w->jobs[below(w, (uint32_t)w->count)];
		ids[i] = j->id;
		error = job_check_after(w->m, j->id);
		assert_int_equal(error, j->state == JOB_NONE ? -JOB_EAWAITED : 0);
		refused += error < 0;
		if (error == 0)
			assert_int_equal(job_touch(w->m, j->id), -JOB_ETWICE);
	}
	for (uint32_t i = 0; i < count; i++)
		job_untouch(w->m, ids[i]);
	if (refused > 0)
		return false;
	r->after_count = count;
	r->after_failure = below(w, JOB_AFTER_FAILURES);
	r->after_delay_ms = below(w, 3) == 0 ? below(w, 3000) : 0;
	assert_int_equal(job_after_room(w->m, 1, count), 0);
	return true;
}

/* The record that follows, and what it makes of the model's job. */
static void await(struct world *w, struct model_job *j, const struct job_record *submit, uint64_t *ids,
                  unsigned flags)
{
	struct job_record r = {.type = JOB_AFTER,
	                       .id = submit->id,
	                       .at_ns = submit->at_ns,
	                       .body = {ids, submit->after_count * sizeof(ids[0])}};

	carry_out(w, &r, flags);
	j->state = JOB_AWAITING;
	j->hidden = false;
	j->submit_hidden = flags != 0;
	j->after_count = submit->after_count;
	j->after_failure = submit->after_failure;
	j->after_delay_ms = submit->after_delay_ms;
	for (uint32_t i = 0; i < submit->after_count && !j->doomed; i++) {
		bool for_good, again = false;
		int why = ended(find(w, ids[i]), &for_good);

		for (uint32_t k = 0; k < j->after_open; k++)
			again |= j->after[k] == ids[i];
		if (again)
			continue;
		if (why == 0 || (why != JOB_AWAITED_DONE && j->after_failure == JOB_AFTER_WAIT && !for_good))
			j->after[j->after_open++] = ids[i];
		else if (why != JOB_AWAITED_DONE && j->after_failure != JOB_AFTER_RUN)
			j->doomed = true;
	}
	if (j->doomed)
		j->after_open = 0;
	else if (j->after_open == 0)
		model_release(w, j);
}

static void submit(struct world *w)
{
	uint32_t queue = 1 + below(w, QUEUES);
	struct job_record r = {.queue = queue,
	                       .priority = below(w, 3) ? below(w, 4) : below(w, 2000),
	                       .at_ns = w->now_ms * NS_PER_MS,
	                       .body = {"payload", 7}};
	struct model_job *j;
	int64_t delay = below(w, 3) == 0 ? below(w, 5000) : 0;
	bool hidden = below(w, 2), buried = below(w, 12) == 0;
	uint32_t group = 0, key = 0;
	uint64_t after[AFTER];
	int error;

	if (w->count == MODEL_JOBS)
		return;
	r.when_ms = delay ? w->now_ms + delay : 0;
	r.flags = buried ? JOB_SUBMIT_BURIED : 0;
	if (below(w, 3) == 0)
		r.attempts_max = 1 + below(w, 4);
	else if (below(w, 8) == 0)
		r.attempts_max = JOB_ATTEMPTS_UNLIMITED;
	if (below(w, 4) == 0)
		r.retention_ms = (int64_t)below(w, 4000) - 1000;
	if (below(w, 4) == 0)
		r.time_to_run_ms = 1 + below(w, 3000);
	else if (below(w, 40) == 0)
		r.time_to_run_ms = JOB_TIME_TO_RUN_MAX_MS - 1000 * (int64_t)below(w, 100);
	if (job_ids_left(w->m) == 0) {
		struct job_record ids;
		assert_int_equal(job_check_ids(w->m, 100, false, &ids), 0);
		carry_out(w, &ids, 0);
	}
	if (below(w, 3) == 0)
		group = 1 + below(w, GROUPS);
	if (group)
		r.group = (struct job_slice){&"ABCD"[group - 1], 1};
	if (below(w, 6) == 0)
		r.expires_ms = w->now_ms + 1 + below(w, 20000);
	if (below(w, 5) == 0) {
		key = 1 + below(w, KEYS);
		r.unique = (struct job_slice){&"vwxyz"[key - 1], 1};
		r.unique_while_ms = below(w, 2) ? -(int64_t)below(w, 2) : 1 + (int64_t)below(w, 20000);
	}
	if (!buried && w->count > 0 && below(w, 3) == 0 && !choose_after(w, &r, after)) {
		w->refused++;
		return;
	}
	assert_int_equal(job_room(w->m, 1), 0);
	error = job_check_submit(w->m, w->queues[queue], 0, &r);
	assert_int_equal(error, 0);
	if (key && holder(w, queue, key, 0, false)) {
		assert_int_equal(r.type, 0);
		assert_non_null(holder(w, queue, key, r.id, false));
		w->duplicates++;
		return;
	}
	assert_int_equal(r.type, JOB_SUBMIT);
	carry_out(w, &r, hidden ? JOB_HIDDEN : 0);
	j = &w->jobs[w->count++];
	*j = (struct model_job){.id = r.id,
	                        .queue = queue,
	                        .priority = r.priority,
	                        .attempts_max = r.attempts_max ? r.attempts_max : 5,
	                        .state = buried  ? JOB_BURIED
	                                 : delay ? JOB_DELAYED
	                                         : JOB_READY,
	                        .hidden = hidden && !delay && !buried,
	                        .when_ms = r.when_ms,
	                        .time_to_run_ms = r.time_to_run_ms ? r.time_to_run_ms : 60000,
	                        .retention_ms = r.retention_ms ? r.retention_ms : 3600000,
	                        .place = w->place,
	                        .group = group,
	                        .expires_ms = r.expires_ms,
	                        .key = key,
	                        .key_queue = queue,
	                        .key_while = r.unique_while_ms,
	                        .key_until = r.unique_while_ms > 0 ? w->now_ms + r.unique_while_ms : 0,
	                        .key_held = key && r.unique_while_ms <= 0};
	if (w->count > 1)
		assert_true(j->id > j[-1].id);
	if (r.after_count > 0)
		await(w, j, &r, after, hidden ? JOB_HIDDEN : 0);
}

static void reserve(struct world *w)
{
	struct job_queue *queues[QUEUES];
	const struct model_job *best = NULL;
	struct job_record r;
	struct job_info info;
	struct model_job *j;
	size_t count = 0;
	uint64_t id;
	bool bound = below(w, 3) == 0, allows[QUEUES + 1];
	int error;

	for (uint32_t q = 1; q <= QUEUES; q++) {
		allows[q] = queue_allows(w, q);
		if (below(w, 2))
			queues[count++] = w->queues[q];
	}
	for (size_t i = 0; i < w->count; i++) {
		bool watched = false;

		j = &w->jobs[i];
		for (size_t k = 0; k < count; k++)
			watched |= queues[k]->number == j->queue && !w->paused[j->queue] &&
			           w->pause_until[j->queue] == 0;
		if (watched && j->state == JOB_READY && !j->hidden &&
		    (!best || j->priority < best->priority ||
		     (j->priority == best->priority && j->id < best->id))) {
			if (allows[j->queue] && group_allows(w, j))
				best = j;
			else
				w->held_back++;
		}
	}
	id = job_pick(w->m, queues, count, w->now_ms * NS_PER_MS);
	assert_int_equal(id, best ? best->id : 0);
	if (!best)
		return;
	error = job_check_claim(w->m, id, w->now_ms * NS_PER_MS, 0, 7, bound, &r);
	if (best->attempts == 0 && best->expires_ms > 0 && best->expires_ms <= w->now_ms) {
		assert_int_equal(error, -JOB_EBUSY);
		return;
	}
	assert_int_equal(error, 0);
	carry_out(w, &r, 0);
	j = find(w, id);
	assert_int_equal(job_check_rate(w->m, j->queue, w->now_ms * NS_PER_MS, &r), 0);
	assert_int_equal(r.type, j->queue == RATE_QUEUE ? JOB_RATE : 0);
	if (r.type != 0)
		carry_out(w, &r, 0);
	assert_int_equal(job_check_group_rate(w->m, id, w->now_ms * NS_PER_MS, &r), 0);
	assert_int_equal(r.type, bucket_of_group(w, j) ? JOB_GROUP_RATE : 0);
	if (r.type != 0)
		carry_out(w, &r, 0);
	model_take(w, j);
	model_key(w, j, false);
	j->state = JOB_RUNNING;
	j->bound = bound;
	j->progress_place = 0; /* of this attempt */
	j->reserves++;
	j->attempts++;
	assert_int_equal(job_look(w->m, id, &info), 0);
	assert_true(info.lease.claim > j->lease.claim);
	j->lease = (struct job_lease){7, info.lease.claim};
	j->when_ms = w->now_ms + j->time_to_run_ms;
}

/* What any call with a lease must be answered. */
static int lease_answer(const struct world *w, const struct model_job *j, struct job_lease lease)
{
	if (j->state == JOB_NONE)
		return missing(j);
	if (j->state != JOB_RUNNING || lease.claim != j->lease.claim || lease.epoch != j->lease.epoch ||
	    j->when_ms <= w->now_ms)
		return -JOB_ELEASE_LOST;
	return j->cancel ? -JOB_ECANCELLED : 0;
}

static void with_lease(struct world *w)
{
	struct model_job *j = any_job(w);
	struct job_lease lease = j->lease;
	struct job_record r = {0};
	int64_t now_ns = w->now_ms * NS_PER_MS, delay = below(w, 2) ? below(w, 3000) : 0;
	uint32_t priority = below(w, 5), kind = below(w, 7);
	bool retry = below(w, 4) != 0;
	int expected, got = 0;

	if (below(w, 10) == 0)
		lease.claim--;
	if (below(w, 20) == 0)
		lease.epoch--;
	expected = lease_answer(w, j, lease);
	switch (kind) {
	case 0:
		r.body = (struct job_slice){"result", 6};
		got = job_check_complete(w->m, j->id, lease, now_ns, &r);
		break;
	case 1:
		r.text = (struct job_slice){"broken", 6};
		got = job_check_fail(w->m, j->id, lease, now_ns, retry, delay, random_next(w), &r);
		break;
	case 2:
		got = job_check_release(w->m, j->id, lease, w->now_ms, delay, &priority, &r);
		break;
	case 3:
		got = job_check_extend(w->m, j->id, lease, w->now_ms, 1 + delay, &r);
		break;
	case 4:
		r.body = (struct job_slice){"50", 2};
		got = job_check_progress(w->m, j->id, lease, w->now_ms, &r);
		break;
	case 5:
		got = job_check_bury(w->m, j->id, lease, now_ns, &priority, &r);
		break;
	case 6:
		got = job_check_return(w->m, j->id, lease, w->now_ms, &r);
		break;
	}
	assert_int_equal(got, expected);
	if (got == -JOB_ECANCELLED) {
		assert_int_equal(job_check_acknowledge(w->m, j->id, now_ns, &r), 0);
		carry_out(w, &r, 0);
		model_finish(w, j, JOB_CANCELLED, w->now_ms);
	}
	if (got < 0) {
		w->refused++;
		return;
	}
	carry_out(w, &r, 0);
	if (kind == 0) {
		model_finish(w, j, JOB_DONE, w->now_ms);
	} else if (kind == 1 && (!retry || j->attempts >= j->attempts_max)) {
		assert_int_equal(r.type, j->queue == DEAD_FROM ? JOB_DEAD : JOB_FINISH);
		if (j->queue == DEAD_FROM)
			model_dead(w, j);
		else
			model_finish(w, j, JOB_FAILED, w->now_ms);
	} else if (kind == 1 || kind == 2) {
		if (kind == 1)
			j->error_place = w->place;
		j->state = delay ? JOB_DELAYED : JOB_READY;
		j->when_ms = delay ? w->now_ms + delay : 0;
		j->priority = kind == 2 ? priority : j->priority;
		j->attempts -= kind == 2;
		j->releases += kind == 2;
		if (kind == 2)
			j->delay_s = (uint32_t)((delay + 999) / 1000);
		model_key(w, j, true);
	} else if (kind == 4) {
		struct job_info info;

		assert_int_equal(job_look(w->m, j->id, &info), 0);
		assert_true(info.version != j->version);
		assert_int_equal(info.progress_place, w->place);
		j->progress_place = w->place;
		j->version = info.version;
	} else if (kind == 3) {
		j->when_ms = w->now_ms + 1 + delay;
	} else if (kind == 5) {
		j->state = JOB_BURIED;
		j->priority = priority;
		j->buries++;
		model_key(w, j, true);
	} else if (kind == 6) {
		model_give_back(w, j);
		model_key(w, j, true);
		j->state = JOB_READY;
		j->when_ms = 0;
		j->attempts--;
	}
}

static void without_lease(struct world *w)
{
	struct model_job *j = any_job(w);
	struct job_record r = {0};
	uint32_t kind = below(w, 3);
	int expected = 0, got;

	if (kind == 0) {
		expected = j->state == JOB_NONE           ? missing(j)
		           : job_state_finished(j->state) ? -JOB_EFINISHED
		                                          : 0;
		got = job_check_cancel(w->m, j->id, w->now_ms * NS_PER_MS, &r);
	} else if (kind == 1) {
		expected = j->state == JOB_NONE ? missing(j)
		           : j->state == JOB_DELAYED || j->state == JOB_BURIED || j->state == JOB_AWAITING
		                   ? 0
		                   : -JOB_ESTATE;
		got = job_check_kick(w->m, j->id, &r);
	} else {
		if (below(w, 4))
			return;
		expected = j->state == JOB_NONE ? missing(j) : j->state == JOB_RUNNING ? -JOB_ESTATE : 0;
		got = job_check_delete(w->m, j->id, NULL, w->now_ms, &r);
	}
	assert_int_equal(got, expected);
	if (got < 0) {
		w->refused++;
		return;
	}
	if (r.type == 0)
		return;
	carry_out(w, &r, 0);
	if (kind == 0 && j->state == JOB_RUNNING)
		j->cancel = true;
	else if (kind == 0)
		model_finish(w, j, JOB_CANCELLED, w->now_ms);
	else if (kind == 1)
		j->state = JOB_READY, j->kicks++, j->doomed = false, model_key(w, j, true);
	else
		j->state = JOB_NONE, j->key_held = false, model_end(w, j->id, JOB_AWAITED_GONE, true);
}

/* Other values for a job that is not finished. */
static void edit(struct world *w)
{
	struct model_job *j = any_job(w);
	struct job_record r = {.flags = (uint8_t)below(w, 64)};
	bool waits = j->state == JOB_DELAYED || j->state == JOB_READY || j->state == JOB_AWAITING;
	int expected = 0, got;

	r.flags &= (uint8_t)below(w, 64) | (below(w, 4) ? 0 : JOB_EDIT_RUN_AT);
	if (r.flags & JOB_EDIT_PRIORITY)
		r.priority = below(w, 3) ? below(w, 4) : below(w, 2000);
	if ((r.flags & JOB_EDIT_RUN_AT) && below(w, 2))
		r.when_ms = w->now_ms + 1 + below(w, 5000);
	if ((r.flags & JOB_EDIT_TIME_TO_RUN) && below(w, 3))
		r.time_to_run_ms = below(w, 20) ? 1 + below(w, 3000) : JOB_TIME_TO_RUN_MAX_MS - 1000;
	if ((r.flags & JOB_EDIT_RETENTION) && below(w, 3))
		r.retention_ms = (int64_t)below(w, 4000) - 1000;
	if (r.flags & JOB_EDIT_ATTEMPTS)
		r.attempts_max = below(w, 10) ? below(w, 5) : JOB_ATTEMPTS_UNLIMITED;
	if ((r.flags & JOB_EDIT_EXPIRES) && below(w, 3))
		r.expires_ms = w->now_ms + 1 + below(w, 20000);
	if (j->state == JOB_NONE)
		expected = missing(j);
	else if (job_state_finished(j->state))
		expected = -JOB_EFINISHED;
	else if (((r.flags & JOB_EDIT_RUN_AT) && !waits) ||
	         ((r.flags & JOB_EDIT_EXPIRES) && (j->attempts > 0 || j->state == JOB_RUNNING)))
		expected = -JOB_ESTATE;
	else if ((r.flags & JOB_EDIT_ATTEMPTS) && r.attempts_max != 0 &&
	         r.attempts_max < j->attempts + (j->state != JOB_RUNNING))
		expected = -JOB_EVALUE;
	got = job_check_edit(w->m, j->id, &r);
	assert_int_equal(got, expected);
	if (got < 0 || r.type == 0) {
		w->refused += got < 0;
		return;
	}
	carry_out(w, &r, 0);
	w->edited++;
	if (r.flags & JOB_EDIT_PRIORITY)
		j->priority = r.priority;
	if (r.flags & JOB_EDIT_TIME_TO_RUN)
		j->time_to_run_ms = r.time_to_run_ms ? r.time_to_run_ms : 60000;
	if (r.flags & JOB_EDIT_RETENTION)
		j->retention_ms = r.retention_ms ? r.retention_ms : 3600000;
	if (r.flags & JOB_EDIT_ATTEMPTS)
		j->attempts_max = r.attempts_max ? r.attempts_max : 5;
	if (r.flags & JOB_EDIT_EXPIRES)
		j->expires_ms = r.expires_ms;
	if (!(r.flags & JOB_EDIT_RUN_AT))
		return;
	if (j->state == JOB_AWAITING) {
		j->when_ms = r.when_ms;
		j->after_delay_ms = 0;
		return;
	}
	j->hidden = j->hidden && r.when_ms == 0;
	j->state = r.when_ms ? JOB_DELAYED : JOB_READY;
	j->when_ms = r.when_ms;
	model_key(w, j, true);
}

/* A waiting job to another queue, or anew where it is. */
static void change_queue(struct world *w)
{
	struct model_job *j = any_job(w);
	uint32_t queue = below(w, QUEUES + 1);
	bool anew = queue == 0 || below(w, 2);
	struct job_record r;
	int expected = 0, got;

	if (j->state == JOB_NONE)
		expected = missing(j);
	else if (job_state_finished(j->state))
		expected = -JOB_EFINISHED;
	else if (j->state == JOB_RUNNING || queue == j->queue || (anew && j->state == JOB_AWAITING))
		expected = -JOB_ESTATE;
	got = job_check_move(w->m, j->id, queue, anew, &r);
	assert_int_equal(got, expected);
	if (got < 0) {
		w->refused++;
		return;
	}
	carry_out(w, &r, 0);
	w->edited++;
	if (queue != 0) {
		j->queue = queue;
		j->dead_from = j->dead_from == queue ? 0 : j->dead_from;
		j->key_held = false;
		if (j->key_while <= 0)
			j->key = 0;
	}
	if (anew) {
		j->kicks += j->state == JOB_BURIED;
		j->attempts = 0;
		j->when_ms = 0;
		j->state = JOB_READY;
		model_key(w, j, true);
	}
}

/* One that has failed is ready again, in its queue or another. */
static void revive(struct world *w)
{
	struct model_job *j = any_job(w);
	struct job_record r = {.reason = JOB_BY_WORKER, .text = {"it had failed", 13}}, finish, submit;
	uint32_t queue = below(w, 3) ? j->queue : 1 + below(w, QUEUES);
	bool whole;

	for (int i = 0; i < 30 && j->state != JOB_FAILED; i++)
		j = any_job(w);
	if (j->state != JOB_FAILED) {
		int expected = j->state == JOB_NONE ? missing(j) : -JOB_ESTATE;

		assert_int_equal(job_check_revive(w->m, j->id, 1, &r), expected);
		return;
	}
	if (queue == 0 || queue > QUEUES)
		queue = 1;
	assert_true(part_at(w, j->place, JOB_FINISH, &finish));
	whole = stored_at(w, j->place)->type == JOB_WHOLE;
	r.submit_place = whole ? j->place : finish.submit_place;
	assert_true(part_at(w, r.submit_place, JOB_SUBMIT, &submit));
	if (!finish.edited)
		finish = submit;
	r.error_place = w->place;
	r.timeouts = j->timeouts;
	r.time_to_run_ms = finish.time_to_run_ms;
	r.retention_ms = finish.retention_ms;
	r.attempts_max = finish.attempts_max;
	r.group = submit.group;
	if (submit.queue == queue && submit.unique_while_ms <= 0) {
		r.unique = submit.unique;
		r.unique_while_ms = submit.unique_while_ms;
	}
	r.submit_place += UINT64_C(1) << 40;
	assert_int_equal(job_check_revive(w->m, j->id, queue, &r), -JOB_ESTATE);
	r.submit_place -= UINT64_C(1) << 40;
	assert_int_equal(job_check_revive(w->m, j->id, QUEUES + 20, &r), -JOB_EUNKNOWN_QUEUE);
	assert_int_equal(job_check_revive(w->m, j->id, queue, &r), 0);
	assert_int_equal(r.type, JOB_REVIVE);
	carry_out(w, &r, 0);
	w->revived++;
	j->queue = queue;
	j->state = JOB_READY;
	j->attempts = 0;
	j->when_ms = j->expires_ms = 0;
	j->place = r.submit_place;
	j->error_place = w->place;
	j->progress_place = 0;
	if (j->key_while <= 0) { /* it has its key again, unless another one has it */
		j->key = r.unique.len > 0 ? (uint32_t)(*(const char *)r.unique.data - 'v') + 1 : 0;
		j->key_queue = queue;
		j->key_held = j->key && !holder(w, queue, j->key, 0, true);
	}
}

/* Who is next in each state, whatever pauses the queue. */
static void look_ahead(struct world *w)
{
	uint32_t number = 1 + below(w, QUEUES);
	struct job_queue *q = w->queues[number];
	const struct model_job *ready = NULL, *delayed = NULL;
	uint64_t urgent = 0, soonest[8], all = 0;
	int64_t n;

	for (size_t i = 0; i < w->count; i++) {
		const struct model_job *j = &w->jobs[i];

		if (j->queue != number)
			continue;
		if (j->state == JOB_READY && !j->hidden && group_allows(w, j)) {
			urgent += j->priority < JOB_PRIORITY_DEFAULT;
			if (!ready || j->priority < ready->priority ||
			    (j->priority == ready->priority && j->id < ready->id))
				ready = j;
		}
		if (j->state == JOB_DELAYED) {
			all++;
			if (!delayed || j->when_ms < delayed->when_ms ||
			    (j->when_ms == delayed->when_ms && j->id < delayed->id))
				delayed = j;
		}
	}
	assert_int_equal(job_ready_id(w->m, q), ready ? ready->id : 0);
	assert_int_equal(job_delayed_first(w->m, q), delayed ? delayed->id : 0);
	assert_int_equal(q->urgent, urgent);
	n = job_delayed_soonest(w->m, q, soonest, 8);
	assert_int_equal(n, all < 8 ? all : 8);
	if (delayed)
		assert_int_equal(soonest[0], delayed->id);
	for (int64_t i = 1; i < n; i++) {
		const struct model_job *a = find(w, soonest[i - 1]), *b = find(w, soonest[i]);

		assert_true(a->when_ms < b->when_ms || (a->when_ms == b->when_ms && a->id < b->id));
	}
}

/* A pause for a time ends by itself. */
static void pause_for_a_time(struct world *w)
{
	uint32_t number = 1 + below(w, QUEUES);
	int64_t until = w->now_ms + 1 + below(w, 3000);

	if (below(w, 3) == 0)
		until = 0;
	job_queue_pause(w->m, w->queues[number], until, until ? until - w->now_ms : 0);
	w->pause_until[number] = until;
}

static void pause_queue(struct world *w)
{
	uint32_t q = 1 + below(w, QUEUES);
	struct job_record r = {0};

	if (below(w, 2)) { /* anything else of it */
		struct job_slice name = {w->queues[q]->name, w->queues[q]->name_len};
		struct job_queue_config config = w->queues[q]->own;

		config.finished_max = q == 3 ? below(w, 3) * 4 : 0;
		config.concurrency = q == 2 ? below(w, 4) * 3 : 0;
		config.group_concurrency = q == 4 ? below(w, 4) : 0;
		if (q == GROUP_RATE_QUEUE && below(w, 2)) {
			config.group_rate = config.group_rate.count ? (struct job_rate){0} : group_rate;
			model_groups_anew(w);
		}
		assert_int_equal(job_check_queue_put(w->m, name, &config, below(w, 2), w->now_ms, &r), 0);
		carry_out(w, &r, 0);
		return;
	}
	w->paused[q] = !w->paused[q];
	assert_int_equal(job_check_queue_pause(w->m, w->queues[q], w->paused[q], &r), 0);
	carry_out(w, &r, 0);
}

/* Queues that come and go, and are named by finished jobs after that. */
static void pass_through(struct world *w)
{
	struct job_slice name = {&"xy"[below(w, PASSING)], 1};
	struct job_queue *q = job_queue_find(w->m, name);
	struct job_queue_config config = {.retention_ns = (1 + (int64_t)below(w, 3000)) * NS_PER_MS};
	struct job_record r;

	if (!q) {
		assert_int_equal(job_check_queue_put(w->m, name, &config, false, w->now_ms, &r), 0);
		carry_out(w, &r, 0);
		return;
	}
	if (job_ids_left(w->m) > 0 && below(w, 3) > 0) {
		r = (struct job_record){.queue = q->number, .priority = below(w, 3)};
		assert_int_equal(job_room(w->m, 1), 0);
		assert_int_equal(job_check_submit(w->m, q, 0, &r), 0);
		carry_out(w, &r, 0);
		w->jobs[w->count++] = (struct model_job){.id = r.id,
		                                         .queue = q->number,
		                                         .priority = r.priority,
		                                         .state = JOB_READY,
		                                         .retention_ms = q->own.retention_ns / NS_PER_MS,
		                                         .place = w->place};
		assert_int_equal(job_check_cancel(w->m, r.id, w->now_ms * NS_PER_MS, &r), 0);
		carry_out(w, &r, 0);
		model_finish(w, &w->jobs[w->count - 1], JOB_CANCELLED, w->now_ms);
		return;
	}
	assert_int_equal(job_check_queue_gone(w->m, q, &r), 0);
	carry_out(w, &r, 0);
}

/* From a to d, and by no way back. */
static void send_dead(struct world *w)
{
	struct job_slice a = {"a", 1}, d = {"d", 1};
	struct job_queue_config config = {.dead_letter = DEAD_TO};
	struct job_record r;

	assert_int_equal(job_check_queue_put(w->m, a, &config, false, w->now_ms, &r), 0);
	carry_out(w, &r, 0);
	config.dead_letter = DEAD_FROM;
	assert_int_equal(job_check_queue_put(w->m, a, &config, false, w->now_ms, &r), -JOB_EDEAD_LOOP);
	assert_int_equal(job_check_queue_put(w->m, d, &config, false, w->now_ms, &r), -JOB_EDEAD_LOOP);
	config.dead_letter = 77;
	assert_int_equal(job_check_queue_put(w->m, a, &config, false, w->now_ms, &r), -JOB_EUNKNOWN_QUEUE);
	assert_int_equal(job_check_queue_gone(w->m, w->queues[DEAD_TO], &r), -JOB_EIN_USE);
}

static uint64_t evicted, duplicates, dead, expired, held_back, edited, revived, released, doomed, waited_on;

static void live_through(uint64_t seed, int steps)
{
	static struct world w;
	struct job_record r;

	w = (struct world){.seed = seed,
	                   .now_ms = INT64_C(1700000000000),
	                   .limits = {.finished_max = seed % 3 ? 0 : 50}};
	assert_int_equal(job_open(&w.m, &w.limits, w.now_ms), 0);
	job_live(w.m, on_live, w.live);
	for (uint32_t q = 1; q <= QUEUES; q++) {
		struct job_slice name = {&"abcd"[q - 1], 1};
		struct job_queue_config config = {.concurrency = q == 2 ? 3 : 0,
		                                  .group_concurrency = q == 4 ? 2 : 0};

		if (q == RATE_QUEUE)
			config.rate = rate;
		if (q == GROUP_RATE_QUEUE)
			config.group_rate = group_rate;
		assert_int_equal(job_check_queue_put(w.m, name, &config, q == 2, w.now_ms * NS_PER_MS, &r),
		                 0);
		carry_out(&w, &r, 0);
		w.queues[q] = job_queue_find(w.m, name);
		assert_int_equal(w.queues[q]->number, q);
	}
	w.bucket = (struct bucket){rate.burst * one(&rate), w.now_ms, false};
	model_groups_anew(&w);
	send_dead(&w);
	for (int i = 0; i < steps; i++) {
		switch (below(&w, 16)) {
		case 0:
		case 1:
		case 2:
		case 3:
			submit(&w);
			break;
		case 4:
		case 5:
		case 6:
		case 7:
			reserve(&w);
			break;
		case 8:
		case 9:
		case 10:
		case 11:
			with_lease(&w);
			break;
		case 12:
		case 13:
			switch (below(&w, 6)) {
			case 0:
				edit(&w);
				break;
			case 1:
				if (below(&w, 2))
					change_queue(&w);
				else
					revive(&w);
				break;
			default:
				without_lease(&w);
			}
			break;
		case 14:
			if (below(&w, 3) == 0)
				pass_unnoticed(&w);
			else
				pass_time(&w);
			break;
		case 15:
			if (below(&w, 20) == 0)
				pause_queue(&w);
			else if (below(&w, 20) == 0)
				pause_for_a_time(&w);
			else if (below(&w, 10) == 0)
				pass_through(&w);
			else if (below(&w, 3) == 0)
				move(&w);
			else
				look_ahead(&w);
			break;
		}
		if (below(&w, 2))
			snapshot(&w);
		if (i % 512 == 511) {
			pass_time(&w);
			compare(&w);
		}
	}
	pass_time(&w);
	compare(&w);
	assert_true(w.refused > 0 && w.done > 100 && w.snapshots > 0 && w.moved > 0);
	duplicates += w.duplicates;
	dead += w.dead;
	expired += w.expired;
	held_back += w.held_back;
	edited += w.edited;
	revived += w.revived;
	released += w.released;
	doomed += w.doomed;
	waited_on += w.waited_on;
	evicted += w.limits.finished_max > 0 ? 0 : w.evicted;
	forget_snapshot(&w);
	for (size_t i = 0; i < w.log_count; i++)
		free(w.log[i].bytes);
	free(w.log);
	job_close(w.m);
}

static void test_against_model(void **state)
{
	const char *more = getenv("WHILST_TEST_SEEDS");
	uint64_t seeds = more ? strtoull(more, NULL, 10) : 60;

	(void)state;
	for (uint64_t seed = 1; seed <= seeds; seed++)
		live_through(seed, 3000);
	assert_true(evicted > seeds);
	assert_true(edited > 8 * seeds && revived > seeds);
	assert_true(released > 10 * seeds && doomed > 20 * seeds && waited_on > seeds);
	assert_true(duplicates > seeds && dead > seeds && expired > seeds && held_back > seeds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_model)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
