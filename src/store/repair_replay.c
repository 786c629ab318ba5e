/* src/store/repair_replay.c -- records that are read although others before them are lost. See repair_inside.h.
 *
 * A record that does not fit the state is the trace of one that is lost. Where it says enough of what was before, that is made up
 * for; else it is left out, and its job is told of. What concerns more than a job (queues, ids) is not guessed: then the
 * repair is refused.
 */
#include "store/repair_inside.h"

#include <stdio.h>

enum { GAPS_LOOKED_AT_MAX = 64, CAP_MIN = 1024, SUBMIT_BYTES_MIN = 56, IDS_AHEAD = 65536 };

/* what may have become of them; those that have failed may be tried again */
static const unsigned may_change = 1u << JOB_DELAYED | 1u << JOB_READY | 1u << JOB_RUNNING |
                                   1u << JOB_BURIED | 1u << JOB_AWAITING | 1u << JOB_FAILED;

/* ---- jobs that are named ----------------------------------------------------------------- */

static struct store_named_job *place_of(struct store_named_job *list, size_t cap, uint64_t job)
{
	size_t at = (size_t)((job * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (cap - 1);

	while (list[at].job != 0 && list[at].job != job)
		at = (at + 1) & (cap - 1);
	return &list[at];
}

static bool grow(struct store_repair *repair)
{
	size_t cap = repair->named_cap ? repair->named_cap * 2 : CAP_MIN;
	struct store_named_job *list = calloc(cap, sizeof(list[0]));

	if (!list) {
		repair->error = -ENOMEM;
		return false;
	}
	for (size_t i = 0; i < repair->named_cap; i++)
		if (repair->named[i].job != 0)
			*place_of(list, cap, repair->named[i].job) = repair->named[i];
	free(repair->named);
	repair->named = list;
	repair->named_cap = cap;
	return true;
}

void store_repair_name(struct store_repair *repair, uint64_t job, unsigned why)
{
	struct store_named_job *named;

	if (job == 0 || ((repair->named_count + 1) * 4 > repair->named_cap * 3 && !grow(repair)))
		return;
	named = place_of(repair->named, repair->named_cap, job);
	repair->named_count += named->job == 0;
	named->job = job;
	if (why & STORE_NAMED_UNCERTAIN)
		named->why &= ~(unsigned)STORE_NAMED_SETTLED;
	named->why |= why;
}

static bool is_of_job(const struct job_record *r)
{
	return r->id != 0 && r->type != JOB_IDS && r->type != JOB_REMOVE && !job_record_checkpoint(r->type);
}

static void each_job(struct store_repair *repair, const struct job_record *r, unsigned why)
{
	if (is_of_job(r))
		store_repair_name(repair, r->id, why);
	for (size_t i = 0; r->type == JOB_REMOVE && i < r->body.len / 8; i++) {
		uint64_t id;

		memcpy(&id, (const uint8_t *)r->body.data + i * 8, 8);
		store_repair_name(repair, id, why);
	}
}

void store_repair_dropped(struct store_repair *repair, const struct job_record *r)
{
	each_job(repair, r, STORE_NAMED_DROPPED);
}

void store_repair_unfinished(struct store_repair *repair)
{
	uint32_t cursor = 0;
	uint64_t id;

	while ((id = job_scan(repair->store->jobs, NULL, may_change, &cursor)) != 0)
		store_repair_name(repair, id, STORE_NAMED_UNCERTAIN);
}

/* ---- where records are lost -------------------------------------------------------------- */

/* All jobs of a group are remembered until it ends: some of those that were written with them may be lost. */
static void note_group(struct store_repair *repair, const struct job_record *r,
                       const struct log_record *record)
{
	if (record->checkpoint)
		return;
	if (repair->group != record->group_end) {
		repair->group = record->group_end;
		repair->group_count = 0;
	}
	if (repair->gaps > 0 && repair->gap_group == record->group_end)
		each_job(repair, r, STORE_NAMED_PARTIAL);
	if (!is_of_job(r))
		return;
	if (repair->group_count == repair->group_cap) {
		size_t cap = repair->group_cap ? repair->group_cap * 2 : 256;
		uint64_t *jobs = realloc(repair->group_jobs, cap * sizeof(jobs[0]));

		if (!jobs) {
			repair->error = -ENOMEM;
			return;
		}
		repair->group_jobs = jobs;
		repair->group_cap = cap;
	}
	repair->group_jobs[repair->group_count++] = r->id;
}

void store_repair_gap(struct store_repair *repair, const struct log_record *record)
{
	if (repair->gaps > 0 && repair->gap_group == record->group_end)
		return;
	repair->gap_group = record->group_end;
	if (repair->group == record->group_end)
		for (size_t i = 0; i < repair->group_count; i++)
			store_repair_name(repair, repair->group_jobs[i], STORE_NAMED_PARTIAL);
	if (repair->ids_from == 0)
		repair->ids_from = job_ids_next(repair->store->jobs);
	if (++repair->gaps <= GAPS_LOOKED_AT_MAX)
		store_repair_unfinished(repair);
	else
		repair->uncertain_all = true;
}

static void tell_ids(struct store_repair *repair, uint64_t until)
{
	uint64_t from = repair->ids_from;

	repair->ids_from = 0;
	if (from != 0 && from < until && repair->options->ids)
		repair->options->ids(repair->options->arg, from, until);
}

int store_repair_ids(struct store_repair *repair)
{
	const struct log_repair_result *log = log_repair_result(repair->log);
	struct job_machine *jobs = repair->store->jobs;
	uint64_t next = job_ids_next(jobs), until = next + job_ids_left(jobs);
	struct job_record ids = {.type = JOB_IDS};

	if (log->lost_from == UINT64_MAX)
		return 0;
	/* more cannot have been given in as many bytes */
	until += log->gone_bytes / SUBMIT_BYTES_MIN + IDS_AHEAD;
	if (repair->ids_from == 0 && log->ends_early)
		repair->ids_from = next;
	tell_ids(repair, until);
	ids.id = ids.claim = until;
	return job_replay(jobs, &ids, 0);
}

void store_repair_fits(struct store_repair *repair, const struct job_record *r,
                       const struct log_record *record)
{
	note_group(repair, r, record);
	if (repair->gaps == 0 || !is_of_job(r))
		return;
	if (r->type == JOB_SUBMIT) {
		tell_ids(repair, r->id);
		if (repair->uncertain_all)
			store_repair_name(repair, r->id, STORE_NAMED_UNCERTAIN);
		return;
	}
	if (repair->named_cap > 0 && place_of(repair->named, repair->named_cap, r->id)->job != 0)
		store_repair_name(repair, r->id, STORE_NAMED_SETTLED);
	for (size_t i = 0; r->type == JOB_AFTER && i < r->body.len / 8; i++) {
		struct job_info info;
		uint64_t id;

		/* when it was submitted it was there */
		memcpy(&id, (const uint8_t *)r->body.data + i * 8, 8);
		if (job_look(repair->store->jobs, id, &info) < 0)
			store_repair_name(repair, r->id, STORE_NAMED_AWAITS);
	}
	/* a chain of errors that leads into what is lost, or a payload there */
	if ((r->error_place != 0 && log_repair_is_lost(repair->log, r->error_place)) ||
	    (r->type == JOB_FINISH && log_repair_is_lost(repair->log, r->submit_place)))
		store_repair_name(repair, r->id, STORE_NAMED_LOOK);
}

/* ---- what does not fit ------------------------------------------------------------------- */

static int again(struct store_repair *repair, const struct job_record *made, const struct job_record *r,
                 uint64_t place)
{
	struct job_machine *jobs = repair->store->jobs;
	int error = job_replay(jobs, made, place);

	return error < 0 ? error : job_replay(jobs, r, place);
}

static void refuse(struct store_repair *repair, const struct job_record *r, uint64_t place, const char *what)
{
	if (repair->result->refused[0] == 0)
		snprintf(repair->result->refused, sizeof(repair->result->refused),
		         "the %s record at byte %llu of the log %s", job_record_name(r->type),
		         (unsigned long long)place, what);
}

/* The ids that were reserved by a record that is lost. */
static int submit_again(struct store_repair *repair, const struct job_record *r, uint64_t place)
{
	struct job_machine *jobs = repair->store->jobs;
	struct job_record ids = {.type = JOB_IDS, .id = r->id, .claim = r->id + 1};

	if (!job_queue_at(jobs, r->queue)) {
		refuse(repair, r, place, "is of a queue of which nothing is known");
		return -EPROTO;
	}
	return r->id >= job_ids_next(jobs) ? again(repair, &ids, r, place) : -EPROTO;
}

/* A record that only a running job can have, or one that begins a run of a job which is running already. */
static int run_again(struct store_repair *repair, const struct job_record *r, uint64_t place)
{
	struct job_record made = {.type = JOB_CLAIM, .id = r->id};
	struct job_info info;

	if (job_look(repair->store->jobs, r->id, &info) < 0 || job_state_finished(info.state))
		return -EPROTO;
	if (info.state == JOB_AWAITING) { /* what released it is lost */
		made.type = JOB_KICK;
		if (r->type == JOB_CLAIM)
			return again(repair, &made, r, place);
		if (job_replay(repair->store->jobs, &made, place) < 0)
			return -EPROTO;
		made.type = JOB_CLAIM;
	}
	if (r->type == JOB_CLAIM)
		made.type = JOB_RETURN;
	else if (r->type == JOB_REVIVE ||
	         (!job_record_is_error(r) && r->type != JOB_RELEASE && r->type != JOB_RETURN))
		return -EPROTO;
	made.attempt = r->attempt ? r->attempt : info.attempts + 1;
	made.when_ms = 1;
	return again(repair, &made, r, place);
}

int store_repair_unfit(struct store_repair *repair, const struct job_record *r,
                       const struct log_record *record)
{
	int error = -EPROTO;

	note_group(repair, r, record);
	if (r->type == JOB_SUBMIT)
		tell_ids(repair, r->id);
	if (r->type == JOB_SUBMIT)
		error = submit_again(repair, r, record->location);
	else if (is_of_job(r))
		error = run_again(repair, r, record->location);
	else
		refuse(repair, r, record->location, "does not fit what is known");
	if (is_of_job(r))
		store_repair_name(repair, r->id, STORE_NAMED_UNFIT | (error == 0 ? STORE_NAMED_SETTLED : 0));
	if (error == -EPROTO) {
		repair->result->unfit++;
		return 0;
	}
	return error;
}
