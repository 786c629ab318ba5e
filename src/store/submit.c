/* src/store/submit.c -- new jobs: their record, and the fast path of those that nothing can refuse any more. See store.h, inside.h. */
#include "store/inside.h"

/* What few jobs have. */
static void submit_policy(const struct store_submit *s, int64_t now_ns, struct job_record *r)
{
	int64_t expires =
		s->expires_ns > 0 && s->expires_ns < INT64_MAX - now_ns ? now_ns + s->expires_ns : 0;

	if (s->expires_at > 0 && (expires == 0 || s->expires_at < expires))
		expires = s->expires_at;
	r->expires_ms = store_to_ms(expires);
	r->unique = s->unique;
	r->unique_while_ms = s->unique.len == 0       ? 0
	                     : s->unique_while_ns > 0 ? store_to_ms(s->unique_while_ns)
	                                              : s->unique_while_ns;
	r->group = s->group;
}

/* A delay counts when those that it awaits have ended. */
static int submit_after(const struct store_submit *s, struct job_record *r)
{
	if (s->after.len % sizeof(uint64_t) != 0 || s->done)
		return -JOB_EVALUE;
	if (s->after.len / sizeof(uint64_t) > JOB_AFTER_MAX)
		return -JOB_ETOO_LARGE;
	r->after_count = (uint32_t)(s->after.len / sizeof(uint64_t));
	r->after_failure = s->after_failure;
	r->after_delay_ms = store_to_ms(s->delay_ns);
	return 0;
}

int store_submit_record(struct store *store, const struct store_submit *s, int64_t now_ns,
                        struct job_queue **ret_queue, struct job_record *r)
{
	struct job_queue *q = job_queue_find(store->jobs, s->queue);
	int error;

	if (!q)
		return -JOB_EUNKNOWN_QUEUE;
	if (s->payload.len > store->options.payload_bytes_max)
		return -JOB_ETOO_LARGE;
	if (s->delay_ns < 0 || s->run_at < 0 || s->time_to_run_ns < 0 || s->expires_ns < 0 ||
	    s->expires_at < 0 || (s->done && (s->delay_ns > 0 || s->run_at > 0 || s->buried)))
		return -JOB_EVALUE;
	*r = (struct job_record){.flags = s->buried ? JOB_SUBMIT_BURIED : 0,
	                         .queue = q->number,
	                         .priority = s->priority,
	                         .at_ns = now_ns,
	                         .attempts_max = s->attempts_max,
	                         .time_to_run_ms = store_to_ms(s->time_to_run_ns),
	                         .retention_ms = s->retention_ns < 0 ? -1 : store_to_ms(s->retention_ns),
	                         .content_type = s->content_type,
	                         .headers = s->headers,
	                         .body = s->payload,
	                         .trace = s->trace};
	if (s->trace.len > JOB_TRACE_MAX)
		return -JOB_EVALUE;
	r->event_epoch = s->about.epoch;
	r->event_lsn = s->about.lsn;
	if (s->body && (error = store_body_use(s->body, r)) < 0)
		return error;
	if (s->after.len > 0 && (error = submit_after(s, r)) < 0)
		return error;
	if (s->delay_ns > 0 && s->after.len == 0)
		r->when_ms = store_to_ms(s->delay_ns < INT64_MAX - now_ns ? now_ns + s->delay_ns : INT64_MAX);
	if (s->run_at > now_ns && store_to_ms(s->run_at) > r->when_ms)
		r->when_ms = store_to_ms(s->run_at);
	if (s->unique.len > 0 || s->group.len > 0 || s->expires_ns > 0 || s->expires_at > 0)
		submit_policy(s, now_ns, r);
	*ret_queue = q;
	return 0;
}

/* ---- the calls --------------------------------------------------------------------------- */

wh_future store_submit(struct store *store, const struct store_submit *submit, int level)
{
	if (submit->body) {
		struct store_action action = {.kind = STORE_SUBMIT, .submit = *submit};

		return store_apply(store, &action, 1, 0, level);
	}
	return store_submit_many(store, submit, &submit->payload, 1, level);
}

/* Too large, refused or without room: the long way knows what to say. */
static wh_future submit_slowly(struct store *store, const struct store_submit *options,
                               const struct store_slice *payloads, size_t count, int level, wh_future future)
{
	struct store_action *actions = calloc(count ? count : 1, sizeof(*actions));
	struct store_wish wish = {.actions = actions, .count = count, .level = level, .future = future};

	if (!actions) {
		wh_resolve(future, -ENOMEM, NULL);
		return future;
	}
	for (size_t i = 0; i < count; i++) {
		actions[i].kind = STORE_SUBMIT;
		actions[i].submit = *options;
		actions[i].submit.payload = payloads[i];
	}
	(void)store_grant_later(store, &wish);
	free(actions);
	return future;
}

/* The short way: nothing can be refused any more but for want of room in the log. 0 or a negative error. */
static int submit_quickly(struct store *store, struct job_queue *q, struct job_record *r,
                          const struct store_slice *payloads, struct store_commit *commit, int *level)
{
	uint64_t bytes = store_ids_bytes(), limit = store->options.payload_bytes_max;
	size_t count = commit->count;
	uint8_t options_flags = r->flags;
	int error;

	r->body.len = 0;
	bytes += count * store_record_bytes(r);
	for (size_t i = 0; i < count; i++) {
		if (payloads[i].len > limit || payloads[i].len > store->options.blob_bytes)
			return -JOB_ETOO_LARGE;
		bytes += payloads[i].len;
	}
	bytes += count * (LOG_RECORD_BYTES + 16);
	error = store_begin(store, bytes, false);
	if (error == 0)
		error = store_ids_room(store, count);
	if (error < 0)
		return error;
	if (job_ids_next(store->jobs) + count > store->ids_safe)
		*level = STORE_LOCAL;
	for (size_t i = 0; i < count; i++) {
		struct store_result *result = &commit->results[i];

		r->body = payloads[i];
		r->flags = options_flags;
		error = job_check_submit(store->jobs, q, 0, r);
		assert(error == 0);
		store_append(store, r, *level != STORE_ASYNC ? JOB_HIDDEN : 0);
		result->job = r->id;
		result->at = r->when_ms * STORE_NS_PER_MS;
		result->state = options_flags & JOB_SUBMIT_BURIED ? JOB_BURIED
		                : r->when_ms                      ? JOB_DELAYED
		                                                  : JOB_READY;
	}
	commit->position = store_end(store, *level);
	return 0;
}

wh_future store_submit_many(struct store *store, const struct store_submit *options,
                            const struct store_slice *payloads, size_t count, int level)
{
	struct store_wish wish = {.count = count, .level = level};
	struct store_commit *commit;
	struct job_queue *q = NULL;
	struct job_record r;

	wish.future = wh_promise(store->loop, store_commit_dispose, NULL);
	if (wh_done(wish.future))
		return wish.future;
	if (store->failed || store->parked_first || count == 0 || count > JOB_ACTIONS_MAX ||
	    options->unique.len > 0 || options->after.len > 0 || options->done || options->event != 0 ||
	    store_level(level, STORE_LOCAL, &wish.level) < 0 ||
	    store_submit_record(store, options, store_now_ns(store), &q, &r) < 0 ||
	    job_room(store->jobs, count) < 0 ||
	    job_check_submit(store->jobs, q, r.group.len > 0 || r.expires_ms > 0 ? count - 1 : 0, &r) < 0 ||
	    q->config.jobs_max > 0 || (q->space && q->space->jobs_max > 0))
		return submit_slowly(store, options, payloads, count, level, wish.future);
	commit = store_commit_new(store, count);
	if (!commit || submit_quickly(store, q, &r, payloads, commit, &wish.level) < 0) {
		store_commit_free(commit);
		return submit_slowly(store, options, payloads, count, level, wish.future);
	}
	store_answer_commit(store, &wish, commit);
	return wish.future;
}
