/* src/store/repair.c -- a data folder that does not start any more, made one that starts. See repair.h.
 *
 * The log is built again in a folder of its own, out of what can be read, and opened there by a store that reads leniently and does
 * nothing by itself. That store mends the jobs of which something is lost, writes its state down and closes; what it closes is checked
 * from end to end. Only then does it take the place of the old one.
 */
#include "store/repair_inside.h"

#include <stdio.h>

static int fail(struct store_problem *problem, int64_t error, const char *what)
{
	problem->exit_status = 4;
	snprintf(problem->text, sizeof(problem->text), "%s: %s", what, wh_strerror(error));
	return (int)error;
}

static int on_dropped(void *arg, const struct log_record *record)
{
	struct store_repair *repair = arg;
	struct job_record r;

	if (job_record_get(record->type, record->version,
	                   (struct job_slice){record->fixed, record->fixed_bytes},
	                   (struct job_slice){record->payload, record->payload_bytes}, &r) == 0)
		store_repair_dropped(repair, &r);
	return 0;
}

static void on_found(void *arg, const char *file, uint64_t offset, const char *reason)
{
	struct store_repair *repair = arg;
	const struct store_repair_options *o = repair->options;

	repair->result->damages++;
	if (o->found)
		o->found(o->arg, file, offset, reason);
}

/* ---- whose records are lost --------------------------------------------------------------- */

static bool is_lost(const struct store_repair *repair, uint64_t place)
{
	return place != 0 && (log_segment_number(repair->store->log, place) == LOG_SEGMENT_NONE ||
	                      log_repair_is_lost(repair->log, place));
}

/* Is any of it lost? The log's segments need not follow each other, nor be as long as what is known of a place. */
static bool overlaps(const struct store_repair *repair, uint64_t from, uint64_t until)
{
	const struct log_repair_result *result = log_repair_result(repair->log);

	for (size_t i = 0; i < result->lost_count; i++)
		if (result->lost[i].from < until && from < result->lost[i].to)
			return true;
	return log_bytes_held(repair->store->log, from, until) < until - from;
}

static int look_at_places(void *arg, uint64_t id, const struct job_queue *queue,
                          const struct job_places *places)
{
	struct store_repair *repair = arg;

	(void)queue;
	if (is_lost(repair, places->base) || is_lost(repair, places->error) ||
	    is_lost(repair, places->progress) ||
	    (places->submit_until != 0 && overlaps(repair, places->submit, places->submit_until)))
		store_repair_name(repair, id, STORE_NAMED_LOOK);
	return repair->error;
}

/* Chains lead from record to record, through places that no job names itself. */
static int look_at_record(void *arg, const struct log_record *record)
{
	struct store_repair *repair = arg;
	struct job_record r;

	if (job_record_get(record->type, record->version,
	                   (struct job_slice){record->fixed, record->fixed_bytes},
	                   (struct job_slice){record->payload, record->payload_bytes}, &r) < 0 ||
	    (!job_record_is_error(&r) && r.type != JOB_FINISH))
		return 0;
	if (is_lost(repair, r.error_place) || (r.type == JOB_FINISH && is_lost(repair, r.submit_place)))
		store_repair_name(repair, r.id, STORE_NAMED_LOOK);
	return repair->error;
}

/* Files of bodies that are missing or not what was written. Names of those that are there go into *list. */
static int look_at_blobs(struct store_repair *repair, char **list)
{
	const struct store_blob_table *t = &repair->store->blobs.table;
	char name[STORE_BLOB_NAME_BYTES], file[64], path[4400];
	size_t len = 0;

	for (size_t i = 0; i < t->cap; i++) {
		const struct job_blob *both[] = {&t->entries[i].payload, &t->entries[i].result};

		for (int k = 0; t->entries[i].job != 0 && k < 2; k++) {
			int64_t error;

			if (both[k]->number == 0)
				continue;
			store_blob_name(both[k]->number, true, name);
			snprintf(file, sizeof(file), STORE_BLOBS_FOLDER "/%s", name);
			snprintf(path, sizeof(path), "%s/%s", repair->options->directory, file);
			error = store_blob_compare(repair->store->loop, path, both[k]);
			if (error == 0)
				continue;
			if (error != -ENOENT && error != -WH_EDAMAGED && error != -EIO)
				return (int)error;
			on_found(repair, file, 0,
			         error == -ENOENT        ? "the file of a body is missing"
			         : error == -WH_EDAMAGED ? "the file of a body is not what was written"
			                                 : "the disk gives an error instead of the bytes");
			store_repair_name(repair, t->entries[i].job,
			                  STORE_NAMED_LOOK | (k ? STORE_NAMED_RESULT : STORE_NAMED_PAYLOAD));
			if (error != -ENOENT) {
				char *longer = realloc(*list, len + sizeof(name) + 2);

				if (!longer)
					return -ENOMEM;
				*list = longer;
				len += (size_t)snprintf(longer + len, sizeof(name) + 2, "%s\n", name);
			}
		}
	}
	return repair->error;
}

/* ---- the jobs that are named -------------------------------------------------------------- */

static const char *what_of(const struct store_repair *repair, unsigned why, int state)
{
	if (state == JOB_NONE)
		return why & STORE_NAMED_DROPPED ? "it was submitted, or forgotten, behind the cut"
		                                 : "its submission is lost, or it was forgotten";
	if (why & STORE_NAMED_AWAITS)
		return "a job that it was to run after is lost: what was asked for if that fails becomes of "
		       "it";
	if (why & STORE_NAMED_DROPPED)
		return "it is what it was at the cut";
	if (why & STORE_NAMED_UNFIT)
		return "records of it are lost; it is as the ones that are left say";
	if (why & STORE_NAMED_SETTLED)
		return "records of it may be lost; later ones say how it stands";
	if ((why & STORE_NAMED_UNCERTAIN) && state == JOB_FAILED)
		return "it may have been tried again in records that are lost";
	if (why & STORE_NAMED_UNCERTAIN)
		return repair->options->how == STORE_REPAIR_CUT
		               ? "what became of it behind the cut is not known; it is what it was there"
		               : "it may have changed, or ended, in records that are lost";
	return why & STORE_NAMED_PARTIAL ? "jobs that were written in the same transaction may be lost"
	                                 : NULL;
}

static void tell(struct store_repair *repair, uint64_t job, const char *what)
{
	const struct store_repair_options *o = repair->options;
	struct store_slice queue = {"", 0};

	if (store_queue_of(repair->store, job, &queue) < 0)
		queue = (struct store_slice){"", 0};
	repair->result->jobs++;
	if (o->job)
		o->job(o->arg, job, queue, what);
}

static int by_job(const void *a, const void *b)
{
	const struct store_named_job *x = a, *y = b;

	return x->job < y->job ? -1 : x->job > y->job;
}

static int mend_jobs(struct store_repair *repair)
{
	struct store_named_job *list = repair->named;
	size_t count = 0;
	int error = repair->error;

	for (size_t i = 0; i < repair->named_cap; i++)
		if (list[i].job != 0)
			list[count++] = list[i];
	repair->named_cap = 0; /* a list from now on */
	if (count > 0)
		qsort(list, count, sizeof(list[0]), by_job);
	for (size_t i = 0; i < count && error >= 0; i++) {
		unsigned why = list[i].why;
		bool open = (why & STORE_NAMED_UNCERTAIN) && !(why & STORE_NAMED_SETTLED);
		int state = store_state(repair->store, list[i].job);
		const char *what = NULL;

		if (why & (STORE_NAMED_LOOK | STORE_NAMED_UNFIT))
			error = store_repair_job(repair, list[i].job, why, &what);
		if (error == 0 && !what && open && state == JOB_RUNNING) {
			error = store_repair_bury(repair, list[i].job);
			what = "it was running where records are lost, and may have ended: it is buried";
		}
		if (!what)
			what = what_of(repair, why, state);
		if (error == 0 && what)
			tell(repair, list[i].job, what);
	}
	return error;
}

/* ---- all of it ---------------------------------------------------------------------------- */

/* Of the folder's beginning, for log_repair_swap(). */
static char *report_text(const struct store_repair *repair)
{
	const struct store_repair_result *r = repair->result;
	char *text = malloc(1024);

	if (text)
		snprintf(text, 1024,
		         "These files were replaced when the log was repaired (%s), in epoch %u.\n"
		         "%llu damages, %llu bytes of the log unreadable, %llu groups and %llu records cut "
		         "off, %llu records left out, "
		         "%llu jobs concerned.\n",
		         repair->options->how == STORE_REPAIR_CUT ? "cut" : "skip", r->epoch,
		         (unsigned long long)r->damages, (unsigned long long)r->lost_bytes,
		         (unsigned long long)r->cut_groups, (unsigned long long)r->cut_records,
		         (unsigned long long)r->unfit, (unsigned long long)r->jobs);
	return text;
}

/* What was written must read from end to end as a start would read it. */
static int check(struct store_repair *repair, wh_loop *loop, struct store_problem *problem)
{
	struct log_options options = {.path = log_repair_result(repair->log)->folder};
	struct log_problem found = {0};
	struct log_look look;
	int error = log_look(loop, &options, &look, &found);

	if (error < 0) {
		problem->exit_status = found.exit_status;
		log_problem_text(&found, problem->text, sizeof(problem->text));
	} else if (look.checkpoint_lsn <= log_repair_result(repair->log)->end_lsn) {
		error = fail(problem, -EIO, "the repaired state could not be written down");
	}
	log_look_fini(&look);
	return error;
}

static void on_awaits(void *arg, uint64_t id)
{
	store_repair_name(arg, id, STORE_NAMED_AWAITS);
}

/* The store of the new log is open: put its jobs in order, and close it. */
static int put_in_order(struct store_repair *repair, char **blobs)
{
	const struct log_repair_result *log = log_repair_result(repair->log);
	struct store_repair_result *result = repair->result;
	struct store *store = repair->store;
	struct job_totals totals;
	int error = repair->error;

	/* all that was unfinished at the end may have changed in what cannot be read behind it */
	if (error == 0 && (repair->options->how == STORE_REPAIR_CUT || log->ends_early) &&
	    log->lost_from != UINT64_MAX)
		store_repair_unfinished(repair);
	if (error == 0)
		job_lose_awaited(store->jobs, on_awaits, repair);
	if (error == 0)
		error = job_places_each(store->jobs, look_at_places, repair);
	if (error == 0)
		error = log_repair_records(repair->log, look_at_record, repair);
	if (error == 0)
		error = look_at_blobs(repair, blobs);
	if (error == 0)
		error = mend_jobs(repair);
	if (log->lost_from != UINT64_MAX)
		log_epochs_lost(store->log, log->lost_from);
	job_totals(store->jobs, &totals);
	for (int state = JOB_DELAYED; state < JOB_STATES; state++)
		result->jobs_kept += totals.jobs[state];
	result->epoch = log_epoch(store->log);
	return error;
}

static int open_and_order(struct store_repair *repair, wh_loop *loop, char **blobs,
                          struct store_problem *problem)
{
	const struct log_repair_result *log = log_repair_result(repair->log);
	struct store_options options = {.directory = log->folder,
	                                .segment_bytes = log->segment_bytes,
	                                .log = repair->options->log,
	                                .log_arg = repair->options->log_arg};
	struct store *store = NULL;
	int error = store_open_repair(loop, &options, repair, &store, problem), closed;

	if (error < 0)
		return error;
	error = put_in_order(repair, blobs);
	if (error == 0 && repair->options->open && !repair->options->apply)
		repair->result->opened = repair->options->open(repair->options->arg, store, repair->result);
	closed = store_close(store);
	error = error < 0 ? error : closed;
	return error < 0 ? fail(problem, error, "cannot put the repaired log in order")
	                 : check(repair, loop, problem);
}

static int resume(const struct store_repair_options *o, wh_loop *loop, struct store_repair_result *ret,
                  struct store_problem *problem)
{
	struct log_problem found = {0};
	int error = 0;

	ret->resumed = true;
	if (o->apply)
		error = log_repair_resume(loop, o->directory, ret->kept, sizeof(ret->kept), &found);
	if (error < 0) {
		problem->exit_status = found.exit_status;
		log_problem_text(&found, problem->text, sizeof(problem->text));
	}
	return error;
}

static void take_over(struct store_repair *repair)
{
	const struct log_repair_result *log = log_repair_result(repair->log);
	struct store_repair_result *ret = repair->result;

	ret->lost_bytes = log->lost_bytes;
	ret->lost_from = log->lost_from;
	ret->end_lsn = log->end_lsn;
	ret->cut_groups = log->dropped_groups;
	ret->cut_records = log->dropped_records;
	ret->cut_to = log->dropped_to;
}

static int run(struct store_repair *repair, wh_loop *loop, struct store_problem *problem)
{
	const struct store_repair_options *o = repair->options;
	struct store_repair_result *ret = repair->result;
	char *blobs = NULL, *report = NULL;
	int error;

	take_over(repair);
	error = open_and_order(repair, loop, &blobs, problem);
	ret->nothing = error == 0 && ret->damages == 0 && ret->jobs == 0;
	if (error == 0 && ret->refused[0] == 0 && !ret->nothing && o->apply) {
		report = report_text(repair);
		error = report ? log_repair_swap(repair->log, ret->epoch, blobs, report, ret->kept,
		                                 sizeof(ret->kept))
		               : -ENOMEM;
		if (report)
			repair->log = NULL;
		if (error < 0)
			fail(problem, error,
			     "the repaired log could not take the place of the old one; repair it again to "
			     "go on");
	}
	free(blobs);
	free(report);
	return error;
}

int store_repair(wh_loop *loop, const struct store_repair_options *o, struct store_repair_result *ret,
                 struct store_problem *ret_problem)
{
	struct store_repair repair = {.options = o, .result = ret};
	struct log_problem found = {0};
	struct log_repair_options options = {.path = o->directory,
	                                     .cut = o->how == STORE_REPAIR_CUT,
	                                     .scratch = o->apply ? NULL : o->scratch,
	                                     .found = on_found,
	                                     .dropped = on_dropped,
	                                     .arg = &repair,
	                                     .notice = o->log,
	                                     .notice_arg = o->log_arg};
	int error;

	*ret = (struct store_repair_result){.lost_from = UINT64_MAX};
	*ret_problem = (struct store_problem){.exit_status = 4};
	error = log_repair_build(loop, &options, &repair.log, &found);
	if (error == -EINPROGRESS)
		return resume(o, loop, ret, ret_problem);
	if (error < 0) {
		ret_problem->exit_status = found.exit_status;
		log_problem_text(&found, ret_problem->text, sizeof(ret_problem->text));
		return error;
	}
	error = run(&repair, loop, ret_problem);
	log_repair_discard(repair.log);
	free(repair.named);
	free(repair.group_jobs);
	free(repair.parts);
	return error;
}
