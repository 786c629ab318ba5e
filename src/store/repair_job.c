/* src/store/repair_job.c -- a job of which something is lost: words in its place. See repair_inside.h.
 *
 * What can be read is written again as a WHOLE, with words for what cannot: an unfinished job without its payload fails, a result
 * that is lost makes a done job a failed one, errors and progress are said to be lost. None of these records is ever replayed: the checkpoint of
 * the repair comes after them.
 */
#include "store/repair_inside.h"

#define RETENTION_NS (7 * 86400 * WH_NS_PER_S) /* a job that fails here can be asked for as long, at least */

static const char lost_type[] = "application/problem+json";
static const char lost_body[] =
	"{\"title\":\"the payload was lost: the log was damaged and has been repaired\"}";
static const char lost_payload[] =
	"the payload was lost: the log or its file was damaged and has been repaired";
static const char lost_result[] =
	"the result was lost: the log or its file was damaged and has been repaired";
static const char lost_errors[] =
	"errors before this one were lost: the log was damaged and has been repaired";
static const char lost_progress[] = "lost: the log was damaged and has been repaired";
static const char lost_end[] =
	"records of the log were lost, among them perhaps the end of this job: kick it to have it run again";

static struct job_slice words(const char *text)
{
	return (struct job_slice){text, strlen(text)};
}

/* ---- records read, one after the other --------------------------------------------------- */

/* What of a record is needed once its bytes are gone; the record itself is among the parts. */
struct seen {
	struct store_repair *repair;
	bool done;
	int64_t error;
	unsigned why;
	int wanted; /* job_record_type */
	uint8_t type;
	uint64_t error_place, submit_place;
	uint32_t errors; /* taken out of a WHOLE */
};

static int add(struct store_repair *repair, const struct job_record *part)
{
	size_t need = repair->parts_len + job_part_bytes(part);

	if (need > repair->parts_cap) {
		uint8_t *parts = realloc(repair->parts, need * 2);

		if (!parts)
			return -ENOMEM;
		repair->parts = parts;
		repair->parts_cap = need * 2;
	}
	repair->parts_len += job_part_put(part, repair->parts + repair->parts_len);
	return 0;
}

static int add_submit(struct store_repair *repair, const struct job_record *r, unsigned why)
{
	struct job_record submit = *r;

	if (why & STORE_NAMED_PAYLOAD) {
		submit.flags &= (uint8_t)~JOB_BODY_IN_BLOB;
		submit.content_type = words(lost_type);
		submit.headers = (struct job_slice){0};
		submit.body = words(lost_body);
	}
	return add(repair, &submit);
}

static int add_finish(struct store_repair *repair, const struct job_record *r, unsigned why)
{
	struct job_record finish = *r;

	if (why & STORE_NAMED_RESULT) {
		finish.flags = 0;
		finish.state = r->state == JOB_DONE ? JOB_FAILED : r->state;
		finish.content_type = finish.headers = finish.body = (struct job_slice){0};
		finish.text = words(lost_result);
	}
	return add(repair, &finish);
}

static void on_record(void *arg, int64_t error, const struct job_record *r)
{
	struct seen *seen = arg;
	struct job_record part;
	size_t cursor = 0;

	seen->done = true;
	seen->error = error;
	if (error < 0)
		return;
	seen->type = r->type;
	seen->error_place = r->error_place;
	seen->submit_place = r->submit_place;
	if (seen->wanted == JOB_SUBMIT && r->type == JOB_SUBMIT)
		seen->error = add_submit(seen->repair, r, seen->why);
	else if (seen->wanted == JOB_FINISH && r->type == JOB_FINISH)
		seen->error = add_finish(seen->repair, r, seen->why);
	else if (seen->wanted == JOB_PROGRESS && r->type == JOB_PROGRESS)
		seen->error = add(seen->repair, r);
	else if (seen->wanted == JOB_RETRY && job_record_is_error(r))
		seen->error = add(seen->repair, r), seen->errors = 1;
	else if (seen->wanted == JOB_RETRY && r->type == JOB_WHOLE)
		while (seen->error == 0 && job_part_get(r, &cursor, &part)) {
			if (!job_record_is_error(&part))
				continue;
			seen->error = add(seen->repair, &part);
			seen->errors++;
		}
	else
		seen->error = -WH_EDAMAGED;
	if (seen->wanted == JOB_RETRY && r->type == JOB_WHOLE)
		seen->error_place = 0;
}

/* The record at a place becomes a part. 0; 1: it is lost; or an error. */
static int take(struct store_repair *repair, uint64_t place, int wanted, unsigned why, struct seen *seen)
{
	*seen = (struct seen){.repair = repair, .why = why, .wanted = wanted};
	store_read(repair->store, place, wanted == JOB_RETRY ? 0 : wanted, on_record, seen);
	while (!seen->done)
		if (wh_loop_turn(repair->store->loop, -1) < 0)
			return -ECANCELED;
	if (seen->error == -WH_EDAMAGED || seen->error == -ENOENT || seen->error == -EPROTO)
		return 1;
	return seen->error < 0 ? (int)seen->error : 0;
}

/* All errors from a place on that can be read; *lost: some cannot. How many, or an error. */
static int take_errors(struct store_repair *repair, uint64_t job, uint64_t place, bool *lost)
{
	uint32_t count = 0;
	struct seen seen;

	while (place != 0 && count < JOB_ERRORS_KEPT) {
		int error = take(repair, place, JOB_RETRY, 0, &seen);

		if (error < 0)
			return error;
		if (error > 0) {
			struct job_record note = {.type = JOB_RETRY,
			                          .id = job,
			                          .reason = JOB_BY_WORKER,
			                          .text = words(lost_errors)};

			*lost = true;
			error = add(repair, &note);
			return error < 0 ? error : (int)count + 1;
		}
		count += seen.errors;
		place = seen.error_place;
	}
	return (int)count;
}

/* ---- records written --------------------------------------------------------------------- */

static int begin(struct store *store, uint64_t bytes)
{
	int error;

	while ((error = store_begin(store, bytes, true)) == -EAGAIN) {
		wh_res res = wh_await(log_room_wait(store->log));

		if (res.n < 0)
			return (int)res.n;
	}
	return error;
}

static int write_one(struct store *store, struct job_record *r)
{
	int error = begin(store, store_record_bytes(r));

	if (error < 0)
		return error;
	store_append(store, r, 0);
	store_end(store, STORE_ASYNC);
	return 0;
}

static int write_whole(struct store_repair *repair, uint64_t job, unsigned flags)
{
	struct job_record whole = {.type = JOB_WHOLE,
	                           .id = job,
	                           .flags = (uint8_t)flags,
	                           .body = {repair->parts, repair->parts_len}};

	return write_one(repair->store, &whole);
}

static struct job_record stub_submit(const struct job_info *info, int64_t now_ns)
{
	return (struct job_record){.type = JOB_SUBMIT,
	                           .id = info->id,
	                           .queue = info->queue->number,
	                           .priority = info->priority,
	                           .at_ns = now_ns};
}

static struct job_record stub_finish(const struct job_info *info, int64_t now_ns, const char *text)
{
	struct job_record r = {.type = JOB_FINISH,
	                       .id = info->id,
	                       .at_ns = now_ns,
	                       .when_ms = info->when_ms,
	                       .state = JOB_FAILED,
	                       .reason = JOB_BY_WORKER,
	                       .attempt = info->attempts,
	                       .timeouts = info->timeouts,
	                       .text = words(text)};

	if (!job_state_finished(info->state)) {
		int64_t keep_ms = info->retention_ms > RETENTION_NS / STORE_NS_PER_MS
		                          ? info->retention_ms
		                          : RETENTION_NS / STORE_NS_PER_MS;

		r.when_ms = now_ns / STORE_NS_PER_MS + keep_ms;
	}
	return r;
}

/* ---- jobs -------------------------------------------------------------------------------- */

int store_repair_bury(struct store_repair *repair, uint64_t job)
{
	struct store *store = repair->store;
	struct job_info info;
	struct job_record r = {.type = JOB_BURY, .id = job, .at_ns = store_now_ns(store)};

	if (job_look(store->jobs, job, &info) < 0 || info.state != JOB_RUNNING)
		return 0;
	r.priority = info.priority;
	r.attempt = info.attempts;
	r.error_place = info.error_place;
	r.text = words(lost_end);
	return write_one(store, &r);
}

/* Without its payload it cannot run. */
static int fail(struct store_repair *repair, const struct job_info *info, const struct job_places *places)
{
	struct store *store = repair->store;
	int64_t now = store_now_ns(store);
	struct job_record finish = stub_finish(info, now, lost_payload), submit = stub_submit(info, now);
	bool lost = false;
	int count, error;

	repair->parts_len = 0;
	finish.submit_place = places->base;
	error = add_submit(repair, &submit, STORE_NAMED_PAYLOAD);
	if (error == 0)
		error = add(repair, &finish);
	count = error == 0 ? take_errors(repair, info->id, places->error, &lost) : error;
	if (count < 0)
		return count;
	error = write_one(store, &finish);
	return error < 0 ? error
	                 : write_whole(repair, info->id,
	                               JOB_WHOLE_PAYLOAD | JOB_WHOLE_RESULT |
	                                       (count > 0 ? (unsigned)JOB_WHOLE_ERRORS : 0));
}

static int mend_unfinished(struct store_repair *repair, const struct job_info *info,
                           const struct job_places *places, unsigned why, const char **ret_what)
{
	bool errors_lost = false, progress_lost = false;
	unsigned flags = 0;
	struct seen seen;
	int status = take(repair, places->base, JOB_SUBMIT, why, &seen), count;

	if (status < 0)
		return status;
	if (status > 0 || (why & STORE_NAMED_PAYLOAD)) {
		*ret_what = "its payload is lost: it has failed";
		return fail(repair, info, places);
	}
	repair->parts_len = 0;
	count = take_errors(repair, info->id, places->error, &errors_lost);
	if (count < 0)
		return count;
	if (errors_lost)
		flags |= JOB_WHOLE_ERRORS;
	else
		repair->parts_len = 0;
	status = places->progress ? take(repair, places->progress, JOB_PROGRESS, 0, &seen) : 0;
	if (status < 0)
		return status;
	progress_lost = status > 0;
	if (progress_lost) {
		struct job_record note = {.type = JOB_PROGRESS, .id = info->id, .body = words(lost_progress)};

		status = add(repair, &note);
	}
	if (progress_lost || (places->progress && flags))
		flags |= JOB_WHOLE_PROGRESS;
	if (!errors_lost && !progress_lost)
		return 0;
	*ret_what = errors_lost ? "errors of it are lost" : "what it said of its progress is lost";
	return status < 0 ? status : write_whole(repair, info->id, flags);
}

static int mend_finished(struct store_repair *repair, const struct job_info *info,
                         const struct job_places *places, unsigned why, const char **ret_what)
{
	int64_t now = store_now_ns(repair->store);
	struct job_record submit = stub_submit(info, now), finish = stub_finish(info, now, lost_result);
	bool errors_lost = false, payload_lost = why & STORE_NAMED_PAYLOAD,
	     result_lost = why & STORE_NAMED_RESULT;
	unsigned flags = JOB_WHOLE_PAYLOAD | JOB_WHOLE_RESULT;
	struct seen base, seen;
	int status = take(repair, places->base, JOB_FINISH, why, &base), count = 0;

	if (status < 0)
		return status;
	if (status > 0) {
		result_lost = payload_lost = true;
		finish.state = info->state == JOB_DONE ? JOB_FAILED : info->state;
		status = add(repair, &finish);
		base.submit_place = base.error_place = 0;
	}
	if (status == 0)
		status = base.submit_place ? take(repair, base.submit_place, JOB_SUBMIT, why, &seen) : 1;
	if (status > 0) {
		payload_lost = true;
		status = add_submit(repair, &submit, STORE_NAMED_PAYLOAD);
	}
	if (status == 0)
		count = take_errors(repair, info->id, base.error_place, &errors_lost);
	if (status < 0 || count < 0)
		return status < 0 ? status : count;
	if (!payload_lost && !result_lost && !errors_lost)
		return 0;
	*ret_what = result_lost    ? "its result is lost: it counts as failed"
	            : payload_lost ? "its payload is lost; its result is there"
	                           : "errors of it are lost";
	status = write_whole(repair, info->id, flags | (count > 0 ? (unsigned)JOB_WHOLE_ERRORS : 0));
	if (status == 0 && result_lost)
		job_lose_result(repair->store->jobs, info->id);
	return status;
}

int store_repair_job(struct store_repair *repair, uint64_t job, unsigned why, const char **ret_what)
{
	struct store *store = repair->store;
	struct job_places places;
	struct job_info info;
	int status;

	*ret_what = NULL;
	if (job_look(store->jobs, job, &info) < 0 || job_places(store->jobs, job, &places) < 0)
		return 0;
	repair->parts_len = 0;
	status = job_state_finished(info.state) ? mend_finished(repair, &info, &places, why, ret_what)
	                                        : mend_unfinished(repair, &info, &places, why, ret_what);
	if (status == 0)
		store_blob_table_lose(&store->blobs.table, job, why & STORE_NAMED_PAYLOAD,
		                      why & STORE_NAMED_RESULT);
	return status;
}
