/* src/store/apply.c -- changes: judged, then done, all or nothing. See store.h, inside.h.
 *
 * A transaction is judged twice. The first pass changes nothing: every action is checked against the present state,
 * which is sound because no two of them may concern the same job. If none is refused, the second pass checks each again, to get
 * its record, and carries it out; it cannot be refused any more.
 */
#include "store/inside.h"

/* ---- commits as answers ------------------------------------------------------------------ */

struct store_commit *store_commit_new(struct store *store, size_t count)
{
	struct store_commit *commit = calloc(1, sizeof(*commit) + count * sizeof(commit->results[0]));

	(void)store;
	if (commit)
		commit->count = count;
	return commit;
}

struct store_commit *store_commit_free(struct store_commit *commit)
{
	free(commit);
	return NULL;
}

void store_answer_commit(struct store *store, const struct store_wish *wish, struct store_commit *commit)
{
	store_answer(store, wish->level,
	             (struct store_answer){.lsn = commit->position.lsn,
	                                   .begun = wh_now(store->loop),
	                                   .future = wish->future,
	                                   .object = commit,
	                                   .kind = STORE_ANSWER_COMMIT});
}

static struct store_position position_now(struct store *store)
{
	return (struct store_position){log_epoch(store->log), wh_mark_read(log_appended(store->log))};
}

/* Nothing was done. What the refusal reveals of the state is shown when it is durable, like everything. */
static void refuse(struct store *store, struct store_wish *wish, struct store_commit *commit, size_t index,
                   int error)
{
	if (commit->results[index].error == 0)
		commit->results[index].error = error;
	for (size_t i = 0; i < commit->count; i++)
		if (i != index)
			commit->results[i] = (struct store_result){.error = -JOB_EIN_GROUP};
	commit->error = error;
	commit->failed = (uint32_t)index;
	commit->reason = job_strerror(error);
	commit->limit = error == -JOB_ETOO_LARGE ? store_size_limit(store, wish, index) : 0;
	commit->position = position_now(store);
	if (wish->level != STORE_ASYNC)
		wish->level = STORE_LOCAL;
	store_answer_commit(store, wish, commit);
}

/* ---- one action -------------------------------------------------------------------------- */

static uint64_t next_random(struct store *store)
{
	uint64_t z = (store->random += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* The most that is kept of a text: its beginning and its end, where the causes tend to be. */
static struct job_slice shorten(struct job_slice text, char *to)
{
	static const char gap[] = "\n[...]\n";
	size_t head = (JOB_ERROR_TEXT_MAX - sizeof(gap)) / 2, tail = JOB_ERROR_TEXT_MAX - sizeof(gap) - head;

	if (text.len <= JOB_ERROR_TEXT_MAX)
		return text;
	memcpy(to, text.data, head);
	memcpy(to + head, gap, sizeof(gap) - 1);
	memcpy(to + head + sizeof(gap) - 1, (const char *)text.data + text.len - tail, tail);
	return (struct job_slice){to, head + sizeof(gap) - 1 + tail};
}

static bool is_value(const struct store *store, struct store_slice key, struct store_slice value)
{
	const struct store_setting *setting = store_setting_find(store, key);

	return setting && setting->value.len == value.len &&
	       memcmp(setting->value.data, value.data, value.len) == 0;
}

static int check_setting(struct store *store, const struct store_action *a, struct job_record *r)
{
	bool remove = a->kind == STORE_SETTING_DELETE;

	if (a->setting.key.len == 0 || a->setting.key.len > JOB_SETTING_KEY_MAX)
		return -JOB_EVALUE;
	if (a->setting.value.len > JOB_SETTING_MAX)
		return -JOB_ETOO_LARGE;
	if (remove && !store_setting_find(store, a->setting.key))
		return -JOB_EUNKNOWN_SETTING;
	if (a->setting.instead.data && !is_value(store, a->setting.key, a->setting.instead))
		return -JOB_EVERSION;
	*r = (struct job_record){.type = JOB_SETTING,
	                         .flags = remove ? JOB_SETTING_REMOVED : 0,
	                         .text = a->setting.key,
	                         .body = remove ? (struct job_slice){0} : a->setting.value};
	return store_setting_room(store, r);
}

static int check_queue(struct store *store, const struct store_action *a, int64_t now_ns,
                       struct job_record *r)
{
	struct job_queue *q = job_queue_find(store->jobs, a->queue.name);

	if (a->kind == STORE_QUEUE_PUT) {
		struct job_queue_config config = a->queue.config;
		struct job_queue *dead = job_queue_find(store->jobs, a->queue.dead_letter);

		if (a->queue.dead_letter.len > 0 && !dead)
			return -JOB_EUNKNOWN_QUEUE;
		config.dead_letter = dead ? dead->number : 0;
		return job_check_queue_put(store->jobs, a->queue.name, &config, false, now_ns, r);
	}
	if (!q)
		return -JOB_EUNKNOWN_QUEUE;
	if (a->kind == STORE_QUEUE_DELETE)
		return job_check_queue_gone(store->jobs, q, r);
	return job_check_queue_pause(store->jobs, q, a->kind == STORE_QUEUE_PAUSE, r);
}

/* A job that finishes is kept for this long at least. error: of the check that gave the record. */
static int keep(int error, int64_t keep_ns, int64_t now_ns, struct job_record *r)
{
	int64_t until_ms = keep_ns > 0 && keep_ns < INT64_MAX - now_ns ? store_to_ms(now_ns + keep_ns) : 0;

	if (error == 0 && r->type == JOB_FINISH && r->when_ms < until_ms)
		r->when_ms = until_ms;
	return error;
}

static int check_leased(struct store *store, const struct store_action *a, int64_t now_ns, char *text,
                        struct job_record *r)
{
	struct job_machine *m = store->jobs;
	int64_t now_ms = now_ns / STORE_NS_PER_MS;
	int error;

	switch (a->kind) {
	case STORE_COMPLETE:
		if (a->complete.bytes.len > store->options.payload_bytes_max)
			return -JOB_ETOO_LARGE;
		r->status = a->complete.status ? a->complete.status : 200;
		r->content_type = a->complete.content_type;
		r->headers = a->complete.headers;
		r->body = a->complete.bytes;
		error = a->complete.body ? store_body_use(a->complete.body, r) : 0;
		if (error < 0)
			return error;
		return keep(job_check_complete(m, a->job, a->lease, now_ns, r), a->complete.keep_ns, now_ns,
		            r);
	case STORE_FAIL:
		r->text = shorten(a->fail.error, text);
		return job_check_fail(
			m, a->job, a->lease, now_ns, !a->fail.no_retry,
			a->fail.delay_set ? store_to_ms(a->fail.delay_ns > 0 ? a->fail.delay_ns : 0) : -1,
			next_random(store), r);
	case STORE_RELEASE:
		return job_check_release(m, a->job, a->lease, now_ms, store_to_ms(a->release.delay_ns),
		                         a->release.priority_set ? &a->release.priority : NULL, r);
	case STORE_EXTEND:
		return job_check_extend(m, a->job, a->lease, now_ms, store_to_ms(a->extend.by_ns), r);
	case STORE_PROGRESS:
		r->body = a->progress.bytes;
		return job_check_progress(m, a->job, a->lease, now_ms, r);
	case STORE_RETURN:
		return job_check_return(m, a->job, a->lease, now_ms, r);
	default:
		r->text = shorten(a->bury.error, text);
		return job_check_bury(m, a->job, a->lease, now_ns,
		                      a->bury.priority_set ? &a->bury.priority : NULL, r);
	}
}

/* What record would do it? text: JOB_ERROR_TEXT_MAX bytes of the caller's. nth: submits before it. */
static int check(struct store *store, const struct store_wish *wish, size_t index, uint64_t nth,
                 int64_t now_ns, char *text, struct job_record *r)
{
	const struct store_action *a = &wish->actions[index];
	struct job_machine *m = store->jobs;
	struct job_queue *q;
	int error;

	*r = (struct job_record){0};
	switch (a->kind) {
	case STORE_SUBMIT:
		error = store_submit_record(store, &a->submit, now_ns, &q, r);
		return error < 0 ? error : job_check_submit(m, q, nth, r);
	case STORE_COMPLETE:
	case STORE_FAIL:
	case STORE_RELEASE:
	case STORE_EXTEND:
	case STORE_PROGRESS:
	case STORE_BURY:
	case STORE_RETURN:
		return check_leased(store, a, now_ns, text, r);
	case STORE_CANCEL:
		error = keep(job_check_cancel(m, a->job, now_ns, r), a->cancel.keep_ns, now_ns, r);
		return error == 0 && a->cancel.waiting_only && r->type != JOB_FINISH ? -JOB_ESTATE : error;
	case STORE_KICK:
		return job_check_kick(m, a->job, r);
	case STORE_EDIT:
		return store_check_edit(store, a, now_ns, r);
	case STORE_MOVE:
		return store_check_move(store, a, r);
	case STORE_REPLAY:
		return store_check_replay(store, wish, a, r);
	case STORE_DELETE:
		return job_check_delete(m, a->job, a->lease.claim ? &a->lease : NULL,
		                        now_ns / STORE_NS_PER_MS, r);
	case STORE_QUEUE_PUT:
	case STORE_QUEUE_PAUSE:
	case STORE_QUEUE_RESUME:
	case STORE_QUEUE_DELETE:
		return check_queue(store, a, now_ns, r);
	case STORE_SETTING_PUT:
	case STORE_SETTING_DELETE:
		return check_setting(store, a, r);
	default:
		return -JOB_EVALUE;
	}
}

/* How long an attempt took that ends now. */
static void count_run(struct store *store, uint64_t job)
{
	int64_t ms = job_run_ms(store->jobs, job, store_now_ns(store) / STORE_NS_PER_MS);

	if (ms >= 0)
		wh__histogram_add(&store->stats.run, ms * STORE_NS_PER_MS, STORE_JOB_SHIFT);
}

/* Carry out what was checked. */
static void carry_out(struct store *store, const struct store_action *a, struct job_record *r, int *level,
                      size_t index, struct store_commit *commit)
{
	struct store_result *result = &commit->results[index];
	struct job_info info;

	result->job = a->kind == STORE_SUBMIT ? r->id : a->job;
	result->duplicate = a->kind == STORE_SUBMIT && r->type == 0;
	result->dead = r->type == JOB_DEAD;
	result->at = a->kind == STORE_SUBMIT || a->kind == STORE_FAIL || a->kind == STORE_RELEASE ||
	                             a->kind == STORE_EXTEND || a->kind == STORE_EDIT
	                     ? r->when_ms * STORE_NS_PER_MS
	                     : 0;
	if (result->duplicate)
		result->at = 0;
	if (a->kind == STORE_QUEUE_PUT)
		result->created = job_queue_find(store->jobs, a->queue.name) == NULL;
	if (a->kind == STORE_SETTING_PUT)
		result->created = store_setting_find(store, a->setting.key) == NULL;
	if (a->kind == STORE_SUBMIT && r->id >= store->ids_safe)
		*level =
			STORE_LOCAL; /* nobody is told of an id that could be given again after a power cut */
	if (a->kind == STORE_COMPLETE || a->kind == STORE_FAIL)
		count_run(store, a->job);
	if (r->type != 0)
		store_append(store, r, *level != STORE_ASYNC ? JOB_HIDDEN : 0);
	if (a->kind == STORE_SUBMIT && a->submit.done && r->type != 0)
		store_kept_add(store, a->submit.queue, r);
	if (r->type != 0 && store_after_count(a) > 0)
		store_after_append(store, a, r, commit, *level != STORE_ASYNC ? JOB_HIDDEN : 0);
	if (store_body_of(a) && !result->duplicate)
		store_body_named(store_body_of(a));
	if (a->kind == STORE_QUEUE_DELETE)
		store_queue_removed(store, r->queue);
	if (result->job != 0 && job_look(store->jobs, result->job, &info) == 0)
		result->state = info.state;
	else if (r->type == JOB_FINISH)
		result->state = r->state;
	if (store_after_count(a) > 0 && result->state == JOB_DELAYED)
		result->at = info.when_ms * STORE_NS_PER_MS;
	if (result->state == JOB_FAILED || result->state == JOB_DONE)
		result->at = 0;
}

static uint64_t bytes_of(const struct store_wish *wish, size_t index)
{
	const struct store_action *a = &wish->actions[index];
	struct store_body *body = store_body_of(a);
	struct job_record r = {0}, of_body = {0};

	switch (a->kind) {
	case STORE_SUBMIT:
		r.content_type = a->submit.content_type;
		r.headers = a->submit.headers;
		r.body = a->submit.payload;
		r.unique = a->submit.unique;
		r.group = a->submit.group;
		r.trace = a->submit.trace;
		break;
	case STORE_COMPLETE:
		r.content_type = a->complete.content_type;
		r.headers = a->complete.headers;
		r.body = a->complete.bytes;
		break;
	case STORE_FAIL:
	case STORE_BURY:
		r.text.len = JOB_ERROR_TEXT_MAX;
		break;
	case STORE_PROGRESS:
		r.body = a->progress.bytes;
		break;
	case STORE_REPLAY:
		r.text.len = store_revival_bytes(wish, a);
		break;
	case STORE_QUEUE_PUT:
	case STORE_QUEUE_PAUSE:
	case STORE_QUEUE_RESUME:
		r.body.len = JOB_NAME_MAX + JOB_OPTIONS_MAX;
		break;
	case STORE_SETTING_PUT:
	case STORE_SETTING_DELETE:
		r.body = a->setting.value;
		r.text = a->setting.key;
		break;
	}
	if (body && store_body_use(body, &of_body) == 0)
		r.body = of_body.body;
	if (a->kind == STORE_SUBMIT && a->submit.done)
		return store_record_bytes(&r) + store_record_bytes(&(struct job_record){0});
	if (store_after_count(a) > 0)
		return store_record_bytes(&r) + 32 +
		       store_record_bytes(&(struct job_record){.body = a->submit.after});
	return store_record_bytes(&r);
}

/* ---- queues ------------------------------------------------------------------------------ */

int store_queue_make(struct store *store, struct store_slice name)
{
	struct job_queue_config config = {0};
	struct job_record r;
	int error;

	if (store->options.queues_declared)
		return -JOB_EUNKNOWN_QUEUE;
	error = job_check_queue_put(store->jobs, name, &config, true, store_now_ns(store), &r);
	if (error == 0)
		error = store_begin(store, store_record_bytes(&r), false);
	if (error < 0)
		return error;
	store_append(store, &r, 0);
	store_end(store, STORE_ASYNC);
	return 0;
}

/* ---- transactions ------------------------------------------------------------------------ */

static bool names_job(int kind)
{
	return (kind >= STORE_COMPLETE && kind <= STORE_DELETE) || kind == STORE_MOVE || kind == STORE_REPLAY;
}

static bool stands_alone(int kind)
{
	return kind >= STORE_QUEUE_PUT && kind <= STORE_QUEUE_DELETE;
}

/* Ends what a pass over the first count actions left behind. */
static void untouch(struct store *store, const struct store_wish *wish, size_t count,
                    const struct store_commit *commit)
{
	for (size_t i = 0; i < count; i++) {
		const struct store_action *a = &wish->actions[i];

		if (store_after_count(a) > 0)
			store_after_checked(store, wish, i, commit);
		if (wish->count == 1)
			break;
		if (names_job(a->kind))
			job_untouch(store->jobs, a->job);
	}
	job_pend_none(store->jobs);
}

/* The number of the queue that a record adds a job to; 0: to none. */
static uint32_t arrives_at(const struct store_action *a, const struct job_record *r)
{
	bool adds = a->kind == STORE_SUBMIT || a->kind == STORE_MOVE || a->kind == STORE_REPLAY ||
	            r->type == JOB_DEAD;

	return adds && r->type != 0 ? r->queue : 0;
}

/* The first pass. Result 0, or the refusal and its index. */
static int judge(struct store *store, struct store_wish *wish, int64_t now_ns, struct store_commit *commit,
                 size_t *ret_index, bool *ret_any)
{
	char text[JOB_ERROR_TEXT_MAX];
	struct store_asked_walk walk = {0};
	uint64_t submits = 0;
	size_t i;
	int error = 0;

	*ret_any = false;
	store_setting_anew(store);
	for (i = 0; i < wish->count; i++) {
		const struct store_action *a = &wish->actions[i];
		struct job_record r;

		error = 0;
		store_asked_step(wish, &walk, i);
		if (walk.known != 0)
			continue;
		if (wish->count > 1 && stands_alone(a->kind))
			error = -JOB_ETWICE;
		if (error == 0 && wish->count > 1 && names_job(a->kind))
			error = job_touch(store->jobs, a->job);
		if (error == -JOB_ETWICE) {
			untouch(store, wish, i, commit);
			*ret_index = i;
			return error;
		}
		error = check(store, wish, i, submits, now_ns, text, &r);
		if (error == 0 && a->kind == STORE_SUBMIT && r.type == 0) {
			commit->results[i].job = r.id; /* for those that are to run after it */
			walk.known = a->submit.done ? r.id : 0;
		}
		if (error == 0 && r.type != 0 && store_after_count(a) > 0)
			error = store_after_check(store, wish, i, commit);
		if (error == 0) {
			*ret_any = true;
			submits += a->kind == STORE_SUBMIT && r.type != 0;
			if (wish->count > 1)
				job_pend(store->jobs, arrives_at(a, &r), a->kind == STORE_SUBMIT);
		} else if (wish->flags & STORE_EACH) {
			commit->results[i].error = error;
			if (error == -JOB_ECANCELLED)
				*ret_any = true;
		} else {
			break;
		}
	}
	untouch(store, wish, i < wish->count ? i + 1 : i, commit);
	*ret_index = i;
	return wish->flags & STORE_EACH ? 0 : error;
}

/* The worker has learnt of the cancellation: that ends it. */
static void acknowledge(struct store *store, uint64_t job, int64_t now_ns)
{
	struct job_record r;

	if (job_check_acknowledge(store->jobs, job, now_ns, &r) == 0 &&
	    store_begin(store, store_record_bytes(&r), true) == 0) {
		store_append(store, &r, JOB_HIDDEN);
		store_end(store, STORE_LOCAL);
	}
}

static uint64_t count_kind(const struct store_wish *wish, int kind)
{
	uint64_t n = 0;

	for (size_t i = 0; i < wish->count; i++)
		n += wish->actions[i].kind == kind;
	return n;
}

/* What takes memory of the machine when it is carried out, beside submits. */
static uint64_t count_others(const struct store_wish *wish)
{
	return count_kind(wish, STORE_KICK) + count_kind(wish, STORE_FAIL) + count_kind(wish, STORE_EDIT) +
	       count_kind(wish, STORE_MOVE) + count_kind(wish, STORE_REPLAY);
}

/* What was refused leaves no queue behind: those that were made for it, which are empty, go again. Without room in the log they stay. */
static void unmake_queues(struct store *store, const uint32_t *made, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct job_queue *q = job_queue_at(store->jobs, made[i]);
		struct job_record r;

		if (!q || job_check_queue_gone(store->jobs, q, &r) < 0 ||
		    store_begin(store, store_record_bytes(&r), true) < 0)
			continue;
		store_append(store, &r, 0);
		store_queue_removed(store, r.queue);
		store_end(store, STORE_ASYNC);
	}
}

static bool same(struct store_slice a, struct store_slice b)
{
	return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* The queue that an action needs, made if it is not there: *ret is its number then. */
static int prepare_queue(struct store *store, const struct store_action *a, uint32_t *ret)
{
	bool moves = (a->kind == STORE_MOVE || a->kind == STORE_REPLAY) && a->move.to.len > 0;
	struct store_slice name = a->kind == STORE_SUBMIT ? a->submit.queue
	                          : moves                 ? a->move.to
	                                                  : a->queue.dead_letter;
	int error;

	if (a->kind != STORE_SUBMIT && a->kind != STORE_QUEUE_PUT && !moves)
		return 0;
	if (a->kind == STORE_QUEUE_PUT && (name.len == 0 || !job_name_valid(a->queue.name)))
		return 0;
	if (a->kind == STORE_QUEUE_PUT && same(name, a->queue.name))
		return -JOB_EDEAD_LOOP;
	if (job_queue_find(store->jobs, name))
		return 0;
	error = job_name_valid(name) ? store_queue_make(store, name) : -JOB_EVALUE;
	if (error == 0)
		*ret = job_queue_find(store->jobs, name)->number;
	return error;
}

static int submits_room(struct store *store, const struct store_wish *wish, uint64_t submits,
                        size_t *ret_index)
{
	int error = store_after_room(store, wish, submits, ret_index);

	return error < 0 ? error : job_room(store->jobs, submits);
}

/* Queues that are not there yet, and memory for new jobs. made: numbers of these queues, freed by the caller. */
static int prepare(struct store *store, struct store_wish *wish, uint64_t submits, size_t *ret_index,
                   uint32_t **made, size_t *made_count)
{
	uint64_t others = wish->count > 1 ? count_others(wish) : 0;

	*ret_index = 0;
	for (size_t i = 0; i < wish->count; i++) {
		const struct store_action *a = &wish->actions[i];
		uint32_t number = 0;
		int error = prepare_queue(store, a, &number);

		if (error < 0 && !((wish->flags & STORE_EACH) && error != -EAGAIN)) {
			*ret_index = i;
			return error;
		}
		if (number != 0 && !*made)
			*made = malloc(wish->count * sizeof(**made));
		if (number != 0 && *made)
			(*made)[(*made_count)++] = number;
	}
	*ret_index = 0;
	if (others > 0 && job_edit_room(store->jobs, others + submits) < 0)
		return -ENOMEM;
	return submits > 0 ? submits_room(store, wish, submits, ret_index) : 0;
}

static int level_of(struct store_wish *wish)
{
	bool extends = wish->count > 0, never_async = false;
	int error;

	for (size_t i = 0; i < wish->count; i++) {
		int kind = wish->actions[i].kind;

		extends = extends && (kind == STORE_EXTEND || kind == STORE_RETURN);
		never_async = never_async || (kind >= STORE_DELETE && kind < STORE_MOVE);
	}
	error = store_level(wish->level, extends ? STORE_ASYNC : STORE_LOCAL, &wish->level);
	if (error == 0 && never_async)
		wish->level = STORE_LOCAL;
	return error;
}

/* An earlier action has ended what the job awaited: it is ready, and needs no kick. */
static bool is_done_already(const struct store_action *a, int error)
{
	return a->kind == STORE_KICK && error == -JOB_ESTATE;
}

/* Checked again, for its record, and done; or not, as the first pass has found. */
static void carry_out_checked(struct store *store, const struct store_wish *wish, size_t index,
                              int64_t now_ns, struct store_asked_walk *walk, int *level,
                              struct store_commit *commit)
{
	const struct store_action *a = &wish->actions[index];
	struct store_result *result = &commit->results[index];
	char text[JOB_ERROR_TEXT_MAX];
	struct job_record r;

	if (result->error == -JOB_ECANCELLED) {
		if (job_check_acknowledge(store->jobs, a->job, now_ns, &r) == 0)
			store_append(store, &r, JOB_HIDDEN);
		return;
	}
	if (result->error < 0)
		return;
	store_asked_step(wish, walk, index);
	if (walk->known != 0) {
		result->duplicate = true;
		return;
	}
	result->error = check(store, wish, index, 0, now_ns, text, &r);
	if (is_done_already(a, result->error)) {
		result->error = 0;
		r = (struct job_record){0};
	}
	assert(result->error == 0 || (wish->flags & STORE_EACH));
	if (result->error < 0)
		return;
	if (a->kind == STORE_SUBMIT && a->submit.event != 0) {
		r.event_epoch = log_epoch(store->log);
		r.event_lsn = commit->events_from + a->submit.event;
	}
	carry_out(store, a, &r, level, index, commit);
	if (a->kind == STORE_SUBMIT && a->submit.done && r.type == 0)
		walk->known = r.id;
}

/* The second pass. */
static int carry_out_all(struct store *store, struct store_wish *wish, int64_t now_ns, uint64_t submits,
                         struct store_commit *commit)
{
	uint64_t bytes = submits > 0 ? store_ids_bytes() : 0;
	struct store_asked_walk walk = {0};
	bool essential = submits == 0;
	int level = wish->level, error;
	size_t bodies = 0;

	if (wish->key.name.len > 0)
		bytes += store_keys_record_bytes(&wish->key, store_results_of(wish));
	for (size_t i = 0; i < wish->count; i++) {
		int kind = wish->actions[i].kind;

		bytes += bytes_of(wish, i);
		bodies += store_body_of(&wish->actions[i]) != NULL;
		essential = essential && kind != STORE_QUEUE_PUT && kind != STORE_SETTING_PUT;
	}
	error = store_blob_table_room(&store->blobs.table, bodies);
	if (error == 0)
		error = store_kept_room(store, wish);
	if (error == 0)
		error = store_begin(store, bytes, essential);
	if (error < 0)
		return error;
	commit->events_from = wh_mark_read(log_appended(store->log));
	store_setting_again(store);
	if (submits > 0)
		error = store_ids_room(store, submits);
	for (size_t i = 0; i < wish->count && error == 0; i++)
		carry_out_checked(store, wish, i, now_ns, &walk, &level, commit);
	store_asked_fold(wish, commit);
	if (error == 0 && wish->key.name.len > 0) {
		struct job_record r;

		store_keys_record(store, &wish->key, now_ns, commit, &r);
		store_append(store, &r, 0);
	}
	wish->level = level;
	commit->position = store_end(store, level);
	return error;
}

int store_grant_wish(struct store *store, struct store_wish *wish)
{
	struct store_commit *commit = store_commit_new(store, wish->count + wish->asking.count);
	int64_t now_ns = store_now_ns(store);
	uint64_t submits = count_kind(wish, STORE_SUBMIT);
	size_t index = 0, made_count = 0;
	uint32_t *made = NULL;
	bool any = false;
	int error = commit ? 0 : -ENOMEM;

	if (store->failed)
		error = (int)store->failed;
	if (error < 0) {
		store_commit_free(commit);
		wh_resolve(wish->future, error, NULL);
		return 0;
	}
	commit->count = wish->count;
	memcpy(commit->note, wish->asking.note, sizeof(commit->note));
	error = store_results_of(wish) == 0 || wish->count > JOB_ACTIONS_MAX ? -JOB_EVALUE : level_of(wish);
	if (error < 0) {
		wish->level = STORE_ASYNC;
		wish->count = wish->count ? wish->count : 1;
		if (commit->count == 0) {
			store_commit_free(commit);
			wh_resolve(wish->future, error, NULL);
			return 0;
		}
	} else if (wish->count == 1 && (wish->actions[0].kind == STORE_QUEUE_PURGE ||
	                                wish->actions[0].kind == STORE_QUEUE_KICK)) {
		if (job_queue_find(store->jobs, wish->actions[0].queue.name)) {
			store_commit_free(commit);
			store_bulk_grant(store, wish);
			return 0;
		}
		error = -JOB_EUNKNOWN_QUEUE;
	}
	if (error == 0 && wish->key.name.len > 0)
		error = store_keys_judge(store, &wish->key, now_ns, store_results_of(wish), commit);
	if (error == 0 && wish->asking.known)
		error = -JOB_EBUSY;
	if (error > 0) {
		store_answer_commit(store, wish, commit);
		return 0;
	}
	if (error == 0)
		error = prepare(store, wish, submits, &index, &made, &made_count);
	if (error == 0)
		error = judge(store, wish, now_ns, commit, &index, &any);
	if (error == 0 && (any || (wish->asking.items && wish->key.name.len > 0))) {
		index = 0;
		error = carry_out_all(store, wish, now_ns, submits, commit);
	} else if (error == 0) {
		commit->position = position_now(store);
		store_asked_fold(wish, commit);
	}
	if (error < 0 && error != -EAGAIN)
		unmake_queues(store, made, made_count);
	free(made);
	if (error == -EAGAIN) {
		store_commit_free(commit);
		return -EAGAIN;
	}
	if (error < 0) {
		if (error == -JOB_ECANCELLED)
			acknowledge(store, wish->actions[index].job, now_ns);
		refuse(store, wish, commit, index, error);
		return 0;
	}
	for (size_t i = wish->count; i-- > 0;) {
		if (commit->results[i].error < 0) {
			commit->error = commit->results[i].error;
			commit->failed = (uint32_t)i;
			commit->reason = job_strerror(commit->error);
		}
	}
	store_answer_commit(store, wish, commit);
	return 0;
}

/* ---- the calls --------------------------------------------------------------------------- */

void store_grant_or_park(struct store *store, const struct store_wish *given)
{
	struct store_wish wish = *given;
	int error = store->parked_first ? -EAGAIN : store_grant_wish(store, &wish);

	if (error == -EAGAIN)
		error = store_park(store, &wish);
	if (error < 0)
		wh_resolve(wish.future, error, NULL);
}

/* wish->future has been made: no change is judged that cannot be answered. */
wh_future store_grant_later(struct store *store, struct store_wish *wish)
{
	int error;

	if (!store_needs_preparing(store, wish) ||
	    (wish->key.name.len > 0 && store_key_known(store, &wish->key))) {
		store_grant_or_park(store, wish);
		return wish->future;
	}
	error = store_prepare(store, wish);
	if (error < 0)
		wh_resolve(wish->future, error, NULL);
	return wish->future;
}

wh_future store_apply(struct store *store, const struct store_action *actions, size_t count, unsigned flags,
                      int level)
{
	struct store_wish wish = {.actions = actions, .count = count, .flags = flags, .level = level};

	wish.future = wh_promise(store->loop, store_commit_dispose, NULL);
	return wh_done(wish.future) ? wish.future : store_grant_later(store, &wish);
}

wh_future store_apply_once(struct store *store, const struct store_action *actions, size_t count, int level,
                           const struct store_key *key)
{
	struct store_wish wish = {.actions = actions, .count = count, .level = level, .key = *key};

	if (key->name.len == 0 || key->name.len > STORE_KEY_MAX)
		return wh_failed(store->loop, -JOB_EVALUE);
	wish.future = wh_promise(store->loop, store_commit_dispose, NULL);
	return wh_done(wish.future) ? wish.future : store_grant_later(store, &wish);
}
