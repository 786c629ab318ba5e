/* src/store/view.c -- looking at one job: a view, its payload, its result. See store.h.
 *
 * What is in memory is copied when the call is made, the rest is read from the records that the job names; records
 * never change, so the view is of that one moment. It is shown when the newest record that it depends on is durable.
 */
#include "store/inside.h"

struct look {
	struct store *store;
	struct job_info info;
	wh_future future;
	int level;
	unsigned phase; /* store_look_begin() */
	uint64_t needed;
	int stage;
	uint64_t submit_place, error_place;
	bool edited; /* finished: its SUBMIT does not say what its own values were */
	struct store_view *view;
	/* texts of the view: offsets until it is whole */
	uint8_t *bytes;
	size_t bytes_len, bytes_cap;
	struct {
		uint32_t attempt;
		int64_t at;
		size_t from, len;
	} errors[JOB_ERRORS_KEPT];
	struct {
		size_t from, len;
	} queue, content_type, result_content_type, progress, dead_from, unique, group, trace, awaits;
};

enum { STAGE_FIRST, STAGE_SUBMIT, STAGE_PROGRESS, STAGE_ERRORS, STAGE_END };

struct store_view *store_view_free(struct store_view *view)
{
	if (view)
		free(view->errors); /* which is the allocation of all texts, too */
	free(view);
	return NULL;
}

static void dispose_view(wh_res res, void *arg)
{
	(void)arg;
	store_view_free(res.ptr);
}

static void dispose_bytes(wh_res res, void *arg)
{
	(void)arg;
	store_bytes_unref(res.ptr);
}

static void fail(struct look *look, int64_t error)
{
	store_look_end(look->store, look->phase);
	wh_resolve(look->future, error, NULL);
	free(look->bytes);
	free(look->view);
	free(look);
}

/* Keep a text. false: no memory. */
static bool keep(struct look *look, struct job_slice text, size_t *ret_from, size_t *ret_len)
{
	if (look->bytes_len + text.len > look->bytes_cap) {
		size_t cap = (look->bytes_len + text.len) * 2 + 256;
		uint8_t *bytes = realloc(look->bytes, cap);

		if (!bytes)
			return false;
		look->bytes = bytes;
		look->bytes_cap = cap;
	}
	if (text.len > 0)
		memcpy(look->bytes + look->bytes_len, text.data, text.len);
	*ret_from = look->bytes_len;
	*ret_len = text.len;
	look->bytes_len += text.len;
	return true;
}

static struct store_slice slice(const uint8_t *base, size_t from, size_t len)
{
	return (struct store_slice){base + from, len};
}

static void end(struct look *look)
{
	struct store_view *v = look->view;
	size_t errors = v->errors_count * sizeof(v->errors[0]);
	uint8_t *block = malloc(errors + look->bytes_len + 1), *texts;
	struct store_answer answer;

	if (!block) {
		fail(look, -ENOMEM);
		return;
	}
	texts = block + errors;
	if (look->bytes_len > 0)
		memcpy(texts, look->bytes, look->bytes_len);
	v->errors = (struct store_error *)block;
	v->queue = slice(texts, look->queue.from, look->queue.len);
	v->content_type = slice(texts, look->content_type.from, look->content_type.len);
	v->result_content_type = slice(texts, look->result_content_type.from, look->result_content_type.len);
	v->trace = slice(texts, look->trace.from, look->trace.len);
	v->progress = slice(texts, look->progress.from, look->progress.len);
	v->dead_from = slice(texts, look->dead_from.from, look->dead_from.len);
	v->unique = slice(texts, look->unique.from, look->unique.len);
	v->group = slice(texts, look->group.from, look->group.len);
	v->awaits = slice(texts, look->awaits.from, look->awaits.len);
	for (uint32_t i = 0; i < v->errors_count; i++) {
		uint32_t newest_first = v->errors_count - 1 - i;

		v->errors[i] = (struct store_error){
			look->errors[newest_first].attempt, look->errors[newest_first].at,
			slice(texts, look->errors[newest_first].from, look->errors[newest_first].len)};
	}
	answer = (struct store_answer){.lsn = look->needed,
	                               .future = look->future,
	                               .n = v->state,
	                               .object = v,
	                               .kind = STORE_ANSWER_VIEW};
	store_look_end(look->store, look->phase);
	store_answer(look->store, look->level, answer);
	free(look->bytes);
	free(look);
}

static bool take_error(struct look *look, const struct job_record *r)
{
	uint32_t n = look->view->errors_count;

	if (n == JOB_ERRORS_KEPT)
		return true;
	if (!keep(look, r->text, &look->errors[n].from, &look->errors[n].len))
		return false;
	look->errors[n].attempt = r->attempt;
	look->errors[n].at = r->at_ns;
	look->view->errors_count++;
	return true;
}

/* A finished job's own values left memory when it finished. */
static void take_own(struct store_view *v, const struct job_record *r)
{
	if (r->time_to_run_ms != 0)
		v->time_to_run_ns = r->time_to_run_ms * STORE_NS_PER_MS;
	if (r->attempts_max != 0)
		v->attempts_max = r->attempts_max;
	if (r->retention_ms != 0)
		v->retention_ns = r->retention_ms * STORE_NS_PER_MS;
}

static bool take_finish(struct look *look, const struct job_record *r)
{
	struct store_view *v = look->view;

	v->finished_at = r->at_ns;
	v->timeouts = r->timeouts;
	look->edited = r->edited;
	if (r->edited)
		take_own(v, r);
	look->submit_place = r->submit_place;
	look->error_place = r->error_place;
	if ((r->state == JOB_FAILED || r->text.len > 0) && !take_error(look, r))
		return false;
	if (r->state != JOB_DONE)
		return true;
	v->result_status = r->status;
	v->result_bytes = job_body_bytes(r);
	return keep(look, r->content_type, &look->result_content_type.from, &look->result_content_type.len);
}

static bool take_submit(struct look *look, const struct job_record *r)
{
	struct store_view *v = look->view;

	v->created_at = r->at_ns;
	v->payload_bytes = job_body_bytes(r);
	v->unique_while_ns =
		r->unique_while_ms > 0 ? r->unique_while_ms * STORE_NS_PER_MS : r->unique_while_ms;
	if (v->releases > 0)
		v->delay_ns = look->info.delay_s * (1000 * STORE_NS_PER_MS);
	else if (r->after_delay_ms > 0)
		v->delay_ns = r->after_delay_ms * STORE_NS_PER_MS;
	else if (r->when_ms > 0)
		v->delay_ns = (r->when_ms - r->at_ns / STORE_NS_PER_MS) * STORE_NS_PER_MS;
	if (job_state_finished(v->state) && !look->edited)
		take_own(v, r);
	return keep(look, r->content_type, &look->content_type.from, &look->content_type.len) &&
	       keep(look, r->trace, &look->trace.from, &look->trace.len) &&
	       keep(look, r->unique, &look->unique.from, &look->unique.len) &&
	       keep(look, r->group, &look->group.from, &look->group.len);
}

/* An error, or all errors of a job, which end the chain. */
static bool take_errors(struct look *look, const struct job_record *r)
{
	struct job_record part;
	size_t cursor = 0;
	bool good = true;

	look->error_place = r->error_place;
	if (r->type != JOB_WHOLE)
		return take_error(look, r);
	look->error_place = 0;
	while (good && job_part_get(r, &cursor, &part))
		if (job_record_is_error(&part))
			good = take_error(look, &part);
	return good;
}

static void go_on(struct look *look);

static void on_record(void *arg, int64_t error, const struct job_record *r)
{
	struct look *look = arg;
	bool good = true;

	if (error < 0) {
		fail(look, error);
		return;
	}
	switch (look->stage) {
	case STAGE_FIRST:
		good = take_finish(look, r);
		look->stage = STAGE_SUBMIT;
		break;
	case STAGE_SUBMIT:
		good = take_submit(look, r);
		look->stage = STAGE_PROGRESS;
		break;
	case STAGE_PROGRESS:
		good = keep(look, r->body, &look->progress.from, &look->progress.len);
		look->stage = STAGE_ERRORS;
		break;
	case STAGE_ERRORS:
		good = take_errors(look, r);
		break;
	}
	if (!good)
		fail(look, -ENOMEM);
	else
		go_on(look);
}

/* The next record that the view needs. */
static void go_on(struct look *look)
{
	static const int parts[] = {[STAGE_FIRST] = JOB_FINISH,
	                            [STAGE_SUBMIT] = JOB_SUBMIT,
	                            [STAGE_PROGRESS] = JOB_PROGRESS,
	                            [STAGE_ERRORS] = 0};
	uint64_t place = 0;

	if (look->stage == STAGE_FIRST)
		place = look->info.place;
	if (look->stage == STAGE_SUBMIT)
		place = look->submit_place;
	if (look->stage == STAGE_PROGRESS) {
		place = look->info.progress_place;
		if (place == 0)
			look->stage = STAGE_ERRORS;
	}
	if (look->stage == STAGE_ERRORS)
		place = look->view->errors_count < JOB_ERRORS_KEPT ? look->error_place : 0;
	if (place == 0)
		end(look);
	else
		store_read(look->store, place, parts[look->stage], on_record, look);
}

static struct store_view *view_of(const struct job_info *info)
{
	struct store_view *v = calloc(1, sizeof(*v));
	int64_t when = info->when_ms * STORE_NS_PER_MS;

	if (!v)
		return NULL;
	*v = (struct store_view){.job = info->id,
	                         .version = info->version,
	                         .state = info->state,
	                         .cancel_requested = info->cancel_requested,
	                         .priority = info->priority,
	                         .attempts = info->attempts,
	                         .attempts_max = info->attempts_max,
	                         .timeouts = info->timeouts,
	                         .reserves = info->reserves,
	                         .releases = info->releases,
	                         .buries = info->buries,
	                         .kicks = info->kicks,
	                         .time_to_run_ns = info->time_to_run_ms * STORE_NS_PER_MS,
	                         .retention_ns = info->retention_ms * STORE_NS_PER_MS,
	                         .run_at =
	                                 info->state == JOB_DELAYED || info->state == JOB_AWAITING ? when : 0,
	                         .deadline = info->state == JOB_RUNNING ? when : 0,
	                         .expires_at = job_state_finished(info->state) ? when : 0,
	                         .begin_by = info->attempts == 0 ? info->expires_ms * STORE_NS_PER_MS : 0,
	                         .lease = info->lease};
	return v;
}

/* What it waits for. */
static bool take_awaits(struct look *look)
{
	uint64_t ids[STORE_AWAITS_MAX];
	struct job_awaits awaits;
	size_t count = job_awaits(look->store->jobs, look->info.id, ids, STORE_AWAITS_MAX, &awaits);

	look->view->awaits_open = awaits.open;
	look->view->awaits_count = awaits.count;
	look->view->after_failure = awaits.failure;
	return keep(look, (struct job_slice){ids, count * sizeof(ids[0])}, &look->awaits.from,
	            &look->awaits.len);
}

/* What every call here begins with. */
static int64_t begin(struct store *store, uint64_t job, int *level, struct job_info *info)
{
	int64_t error = store_level(*level, STORE_LOCAL, level);

	if (store->failed)
		return store->failed;
	return error < 0 ? error : job_look(store->jobs, job, info);
}

wh_future store_get(struct store *store, uint64_t job, int level)
{
	struct look *look;
	struct job_info info;
	wh_future future;
	int64_t error = begin(store, job, &level, &info);

	if (error < 0)
		return wh_failed(store->loop, error);
	look = calloc(1, sizeof(*look));
	if (!look)
		return wh_failed(store->loop, -ENOMEM);
	future = wh_promise(store->loop, dispose_view, NULL);
	look->store = store;
	look->phase = store_look_begin(store);
	look->info = info;
	look->future = future;
	look->level = level;
	look->needed = store_needed(store, &info, level);
	look->stage = job_state_finished(info.state) ? STAGE_FIRST : STAGE_SUBMIT;
	look->submit_place = info.place;
	look->error_place = info.error_place;
	look->view = view_of(&info);
	if (!look->view || !take_awaits(look) ||
	    !keep(look, (struct job_slice){info.queue->name, info.queue->name_len}, &look->queue.from,
	          &look->queue.len) ||
	    (info.dead_from && !keep(look, (struct job_slice){info.dead_from->name, info.dead_from->name_len},
	                             &look->dead_from.from, &look->dead_from.len)))
		fail(look, -ENOMEM);
	else
		go_on(look);
	return future;
}

/* ---- bodies ------------------------------------------------------------------------------ */

struct body_look {
	struct store *store;
	wh_future future;
	int level;
	uint64_t needed;
	unsigned phase;
};

static void on_bytes(void *arg, int64_t error, struct store_bytes *bytes)
{
	struct body_look *look = arg;

	store_look_end(look->store, look->phase);
	if (error < 0)
		wh_resolve(look->future, error, NULL);
	else
		store_answer(look->store, look->level,
		             (struct store_answer){.lsn = look->needed,
		                                   .future = look->future,
		                                   .n = (int64_t)bytes->bytes,
		                                   .object = bytes,
		                                   .kind = STORE_ANSWER_BYTES});
	free(look);
}

static void on_finish_of_payload(void *arg, int64_t error, const struct job_record *r)
{
	struct body_look *look = arg;

	if (error == 0 && r->type != JOB_FINISH)
		error = -WH_EDAMAGED;
	if (error < 0)
		on_bytes(look, error, NULL);
	else
		store_read_bytes(look->store, r->submit_place, false, on_bytes, look);
}

static struct body_look *body_begin(struct store *store, const struct job_info *info, int level)
{
	struct body_look *look = malloc(sizeof(*look));

	if (look)
		*look = (struct body_look){store, wh_promise(store->loop, dispose_bytes, NULL), level,
		                           store_needed(store, info, level), store_look_begin(store)};
	return look;
}

wh_future store_payload(struct store *store, uint64_t job, int level)
{
	struct body_look *look;
	struct job_info info;
	wh_future future;
	int64_t error = begin(store, job, &level, &info);

	if (error < 0)
		return wh_failed(store->loop, error);
	look = body_begin(store, &info, level);
	if (!look)
		return wh_failed(store->loop, -ENOMEM);
	future = look->future;
	if (job_state_finished(info.state))
		store_read(store, info.place, JOB_FINISH, on_finish_of_payload, look);
	else
		store_read_bytes(store, info.place, false, on_bytes, look);
	return future;
}

wh_future store_result(struct store *store, uint64_t job, int level)
{
	struct body_look *look;
	struct job_info info;
	wh_future future;
	int64_t error = begin(store, job, &level, &info);

	if (error == 0 && info.state != JOB_DONE)
		error = job_state_finished(info.state) ? -JOB_ENO_RESULT : -JOB_ENOT_READY;
	if (error < 0)
		return wh_failed(store->loop, error);
	look = body_begin(store, &info, level);
	if (!look)
		return wh_failed(store->loop, -ENOMEM);
	future = look->future;
	store_read_bytes(store, info.place, true, on_bytes, look);
	return future;
}
