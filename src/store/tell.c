/* src/store/tell.c -- lists and figures: queues, leases, the log's positions, counters. See store.h. */
#include "store/inside.h"

static void dispose_plain(wh_res res, void *arg)
{
	(void)arg;
	free(res.ptr);
}

static void dispose_lot(wh_res res, void *arg)
{
	(void)arg;
	store_lot_free(res.ptr);
}

static wh_future given(struct store *store, wh_disposer *disposer, int64_t n, void *object)
{
	wh_future future = wh_promise(store->loop, disposer, NULL);

	if (wh_resolve(future, n, object) < 0)
		disposer((wh_res){n, object}, NULL);
	return future;
}

/* ---- queues ------------------------------------------------------------------------------ */

struct store_queues *store_queues_free(struct store_queues *queues)
{
	free(queues);
	return NULL;
}

static int in_order(struct job_slice a, struct job_slice b)
{
	int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

	return order ? order : a.len < b.len ? -1 : a.len > b.len;
}

static struct job_slice name_of(const struct job_queue *q)
{
	return (struct job_slice){q->name, q->name_len};
}

static int by_name(const void *a, const void *b)
{
	return in_order(name_of(*(const struct job_queue *const *)a),
	                name_of(*(const struct job_queue *const *)b));
}

/* Where its dead jobs go; NULL: nowhere. */
static const struct job_queue *dead_letter_of(struct store *store, const struct job_queue *q)
{
	return q->config.dead_letter ? job_queue_at(store->jobs, q->config.dead_letter) : NULL;
}

static void show_queue(struct store *store, const struct job_queue *q, const char *name,
                       struct store_queue_view *ret)
{
	const struct job_queue *dead = dead_letter_of(store, q);

	int64_t left_ms = q->pause_until_ms - store_now_ns(store) / STORE_NS_PER_MS;

	*ret = (struct store_queue_view){.name = {name, q->name_len},
	                                 .paused = q->paused,
	                                 .urgent = q->urgent,
	                                 .implicit = q->implicit,
	                                 .pause_ns = q->pause_ms * STORE_NS_PER_MS,
	                                 .pause_left_ns = q->pause_until_ms == 0 ? 0
	                                                  : left_ms > 0          ? left_ms * STORE_NS_PER_MS
	                                                                         : 0,
	                                 .pauses = q->pauses,
	                                 .waiting = q->waiters_count,
	                                 .submitted = q->submitted,
	                                 .attempts = q->attempts,
	                                 .completed = q->completed,
	                                 .failed = q->failed,
	                                 .cancelled = q->cancelled,
	                                 .timeouts = q->timeouts,
	                                 .retries = q->retries,
	                                 .dead = q->dead,
	                                 .dead_letter = {dead ? dead->name : "", dead ? dead->name_len : 0},
	                                 .config = q->config};
	memcpy(ret->jobs, q->jobs, sizeof(ret->jobs));
}

/* Of its own, since the queue that has it may go. */
static void keep_name(struct store_slice *name, char **to)
{
	if (name->len > 0)
		memcpy(*to, name->data, name->len);
	name->data = *to;
	*to += name->len;
}

/* These, in this order. */
static wh_future show_queues(struct store *store, struct job_queue *const *some, size_t count, bool more)
{
	size_t names = 0;
	struct store_queues *all;
	char *name;

	for (size_t i = 0; i < count; i++) {
		names += some[i]->name_len;
		names += dead_letter_of(store, some[i]) ? dead_letter_of(store, some[i])->name_len : 0;
	}
	all = malloc(sizeof(*all) + count * sizeof(all->queues[0]) + names);
	if (!all)
		return wh_failed(store->loop, -ENOMEM);
	*all = (struct store_queues){
		.count = count, .more = more, .queues = (struct store_queue_view *)(all + 1)};
	name = (char *)(all->queues + count);
	for (size_t i = 0; i < count; i++) {
		memcpy(name, some[i]->name, some[i]->name_len);
		show_queue(store, some[i], name, &all->queues[i]);
		name += some[i]->name_len;
		keep_name(&all->queues[i].dead_letter, &name);
	}
	return given(store, dispose_plain, (int64_t)count, all);
}

wh_future store_queues_page(struct store *store, struct store_slice within, struct store_slice after,
                            size_t max)
{
	struct job_queue **some = malloc((job_queues_end(store->jobs) + 1) * sizeof(some[0]));
	size_t count = 0;
	wh_future shown;

	if (!some)
		return wh_failed(store->loop, -ENOMEM);
	for (uint32_t i = 1; i < job_queues_end(store->jobs); i++) {
		struct job_queue *q = job_queue_at(store->jobs, i);

		if (q && !q->gone && q->name_len >= within.len &&
		    (within.len == 0 || memcmp(q->name, within.data, within.len) == 0) &&
		    (after.len == 0 || in_order(name_of(q), after) > 0))
			some[count++] = q;
	}
	if (count > 0)
		qsort(some, count, sizeof(some[0]), by_name);
	shown = show_queues(store, some, count < max ? count : max, count > max);
	free(some);
	return shown;
}

wh_future store_queues(struct store *store)
{
	return store_queues_page(store, (struct store_slice){0}, (struct store_slice){0}, SIZE_MAX);
}

wh_future store_queue(struct store *store, struct store_slice name)
{
	struct job_queue *q = job_queue_find(store->jobs, name);

	return q ? show_queues(store, &q, 1, false) : wh_failed(store->loop, -JOB_EUNKNOWN_QUEUE);
}

int store_queue_now(struct store *store, struct store_slice name, struct store_queue_view *ret)
{
	struct job_queue *q = job_queue_find(store->jobs, name);

	if (!q)
		return -JOB_EUNKNOWN_QUEUE;
	show_queue(store, q, name.data, ret);
	return 0;
}

int store_queue_config(struct store *store, struct store_slice name, struct job_queue_config *ret)
{
	const struct job_queue *q = job_queue_find(store->jobs, name);

	if (!q)
		return -JOB_EUNKNOWN_QUEUE;
	*ret = q->config;
	return 0;
}

int store_pause(struct store *store, struct store_slice name, int64_t for_ns)
{
	int64_t for_ms = for_ns / STORE_NS_PER_MS, now_ms = store_now_ns(store) / STORE_NS_PER_MS;
	int error = 0;

	if (for_ns < 0)
		return -JOB_EVALUE;
	if (!job_queue_find(store->jobs, name))
		error = job_name_valid(name) ? store_queue_make(store, name) : -JOB_EVALUE;
	if (error == -EAGAIN) {
		store_wait_for_room(store);
		error = -JOB_EBUSY;
	}
	if (error < 0)
		return error;
	job_queue_pause(store->jobs, job_queue_find(store->jobs, name), for_ms > 0 ? now_ms + for_ms : 0,
	                for_ms);
	store_later(store);
	return 0;
}

uint64_t store_next_in(const struct store *store, struct store_slice name, int state, uint32_t *cursor)
{
	const struct job_queue *q = job_queue_find(store->jobs, name);

	return q ? job_scan(store->jobs, q, 1u << state, cursor) : 0;
}

uint64_t store_first(struct store *store, struct store_slice name, int state)
{
	struct job_queue *q = job_queue_find(store->jobs, name);

	if (!q)
		return 0;
	switch (state) {
	case JOB_READY:
		return job_ready_id(store->jobs, q);
	case JOB_DELAYED:
		return job_delayed_first(store->jobs, q);
	case JOB_BURIED:
		return job_buried_first(store->jobs, q);
	default:
		return 0;
	}
}

bool store_lease_holds(struct store *store, uint64_t job, struct job_lease lease)
{
	struct job_record r = {0};

	return job_check_complete(store->jobs, job, lease, store_now_ns(store), &r) == 0;
}

int store_state(const struct store *store, uint64_t job)
{
	struct job_info info;

	return job_look(store->jobs, job, &info) < 0 ? JOB_NONE : info.state;
}

int store_limit_spaces(struct store *store, const struct job_space_limit *limits, size_t count)
{
	return job_spaces_limit(store->jobs, limits, count);
}

struct store_space store_space(const struct store *store, struct store_slice name)
{
	const struct job_space *space = job_space_find(store->jobs, name);

	return space ? (struct store_space){space->unfinished, space->queues, space->jobs_max,
	                                    space->queues_max}
	             : (struct store_space){0};
}

bool store_makes_queues(const struct store *store)
{
	return !store->options.queues_declared;
}

uint32_t store_bodies_max(const struct store *store)
{
	return store->options.bodies_max;
}

static uint64_t memory_limit(const struct store *store, const char **ret_name)
{
	enum { QUEUES_DEFAULT = 65536 }; /* of the machine */
	struct job_totals totals;
	uint64_t queues;

	job_totals(store->jobs, &totals);
	queues = store->options.queues_max ? store->options.queues_max : QUEUES_DEFAULT;
	*ret_name = totals.queues >= queues ? "the number of queues" : "the number of jobs";
	return totals.queues >= queues ? queues : store->options.jobs_max;
}

static uint64_t space_limit(const struct store *store, struct store_slice queue, const char **ret_name)
{
	const struct job_space *space = job_space_of(store->jobs, queue);

	bool makes_one = !job_queue_find(store->jobs, queue); /* which comes before the job */

	if (!space)
		return 0;
	if (!(makes_one && space->queues_max > 0 && space->queues >= space->queues_max) &&
	    space->jobs_max > 0 && space->unfinished >= space->jobs_max) {
		*ret_name = "its jobs";
		return space->jobs_max;
	}
	*ret_name = "its queues";
	return space->queues_max;
}

uint64_t store_limit(const struct store *store, int64_t error, struct store_slice queue,
                     const char **ret_name)
{
	const struct job_queue *q;

	*ret_name = "";
	switch (-error) {
	case JOB_EKEYS_FULL:
		*ret_name = "idempotency-keys";
		return store->options.keys_max;
	case JOB_EMEMORY_FULL:
		return memory_limit(store, ret_name);
	case JOB_EAWAITED_FULL:
		*ret_name = "the number of jobs after one";
		return JOB_AWAITED_MAX;
	case JOB_EQUEUE_FULL:
		q = queue.len > 0 ? job_queue_find(store->jobs, queue) : NULL;
		*ret_name = "its jobs_max";
		return q ? q->config.jobs_max : 0;
	case JOB_ENAMESPACE_FULL:
		return space_limit(store, queue, ret_name);
	default:
		return 0;
	}
}

uint64_t store_size_limit(const struct store *store, const struct store_wish *wish, size_t index)
{
	const struct store_action *a = &wish->actions[index];
	bool submits = a->kind == STORE_SUBMIT;
	size_t edges = 0;
	uint64_t bytes = submits                     ? a->submit.payload.len
	                 : a->kind == STORE_COMPLETE ? a->complete.bytes.len
	                                             : 0;

	for (size_t i = 0; i < wish->count; i++)
		edges += store_after_count(&wish->actions[i]);
	if (edges > JOB_AFTER_ALL_MAX)
		return JOB_AFTER_ALL_MAX;
	if (bytes > store->options.payload_bytes_max)
		return store->options.payload_bytes_max;
	if ((submits && a->submit.headers.len > JOB_HEADERS_MAX) ||
	    (a->kind == STORE_COMPLETE && a->complete.headers.len > JOB_HEADERS_MAX))
		return JOB_HEADERS_MAX;
	if (a->kind == STORE_PROGRESS)
		return JOB_PROGRESS_MAX;
	return a->kind == STORE_SETTING_PUT ? (uint64_t)JOB_SETTING_MAX : log_transaction_max(store->log);
}

int store_queue_of(const struct store *store, uint64_t job, struct store_slice *ret)
{
	struct job_info info;
	int error = job_look(store->jobs, job, &info);

	if (error == 0)
		*ret = (struct store_slice){info.queue->name, info.queue->name_len};
	return error;
}

uint64_t store_segment(const struct store *store, uint64_t job)
{
	struct job_info info;
	uint64_t number = LOG_SEGMENT_NONE;

	if (job_look(store->jobs, job, &info) == 0)
		number = log_segment_number(store->log, info.place);
	return number == LOG_SEGMENT_NONE ? 0 : number;
}

wh_future store_leases(struct store *store, struct store_slice name)
{
	struct job_queue *q = job_queue_find(store->jobs, name);
	struct store_lot *lot;
	uint32_t cursor = 0;
	uint64_t id;

	if (!q)
		return wh_failed(store->loop, -JOB_EUNKNOWN_QUEUE);
	if (q->jobs[JOB_RUNNING] == 0)
		return given(store, dispose_lot, 0, NULL);
	lot = calloc(1, sizeof(*lot) + q->jobs[JOB_RUNNING] * sizeof(lot->jobs[0]));
	if (!lot)
		return wh_failed(store->loop, -ENOMEM);
	while (lot->count < q->jobs[JOB_RUNNING] &&
	       (id = job_scan(store->jobs, q, 1u << JOB_RUNNING, &cursor)) != 0) {
		struct job_info info;

		if (job_look(store->jobs, id, &info) < 0)
			continue;
		lot->jobs[lot->count++] =
			(struct store_leased){.job = id,
		                              .lease = info.lease,
		                              .attempt = info.attempts,
		                              .attempts_max = info.attempts_max,
		                              .priority = info.priority,
		                              .time_to_run_ns = info.time_to_run_ms * STORE_NS_PER_MS,
		                              .deadline = info.when_ms * STORE_NS_PER_MS};
	}
	lot->position =
		(struct store_position){log_epoch(store->log), wh_mark_read(log_appended(store->log))};
	return given(store, dispose_lot, (int64_t)lot->count, lot);
}

/* ---- the log ----------------------------------------------------------------------------- */

struct store_log *store_log_free(struct store_log *log)
{
	free(log);
	return NULL;
}

wh_future store_log(struct store *store)
{
	const struct log_epoch *epochs;
	size_t count = log_epochs(store->log, &epochs);
	struct store_log *log = malloc(sizeof(*log) + count * sizeof(log->epochs[0]));

	if (!log)
		return wh_failed(store->loop, -ENOMEM);
	*log = (struct store_log){.epoch = log_epoch(store->log),
	                          .appended = wh_mark_read(log_appended(store->log)),
	                          .written = wh_mark_read(log_written(store->log)),
	                          .flushed = wh_mark_read(log_flushed(store->log))};
	for (size_t i = 0; i < count; i++) {
		uint64_t end;

		if (log_epoch_end(store->log, epochs[i].epoch, &end) == 0)
			log->epochs[log->epochs_count++] = (struct store_epoch){epochs[i].epoch, end};
	}
	return given(store, dispose_plain, 0, log);
}

void store_marks(const struct store *store, struct store_marks *ret)
{
	*ret = (struct store_marks){.epoch = log_epoch(store->log),
	                            .appended = wh_mark_read(log_appended(store->log)),
	                            .written = store_reached(store, STORE_ASYNC),
	                            .flushed = store_reached(store, STORE_LOCAL)};
}

wh_future store_moved(struct store *store, uint64_t lsn, int level)
{
	wh_mark *mark;
	int error = store_level(level, STORE_LOCAL, &level);

	if (error == 0 && store->failed)
		error = (int)store->failed;
	if (error < 0)
		return wh_failed(store->loop, error);
	mark = level == STORE_ASYNC ? log_written(store->log) : log_flushed(store->log);
	if (lsn < wh_mark_read(mark)) /* part of a commit of several groups: the next one tells more */
		lsn = wh_mark_read(mark);
	return wh_mark_wait(mark, lsn + 1);
}

wh_future store_wait_position(struct store *store, struct store_position position, int level)
{
	uint64_t end;
	wh_future future;
	int error = store_level(level, STORE_LOCAL, &level);

	if (error == 0 && store->failed)
		error = (int)store->failed;
	if (error < 0)
		return wh_failed(store->loop, error);
	error = log_epoch_end(store->log, position.epoch, &end);
	if (error == 0)
		return position.lsn <= end ? given(store, dispose_plain, 0, NULL)
		                           : wh_failed(store->loop, -JOB_ELOST);
	if (error != -EINPROGRESS || position.lsn > wh_mark_read(log_appended(store->log)))
		return wh_failed(store->loop, -JOB_EVALUE);
	future = wh_promise(store->loop, NULL, NULL);
	store_answer(
		store, level,
		(struct store_answer){.lsn = position.lsn, .future = future, .kind = STORE_ANSWER_PLAIN});
	return future;
}

/* ---- figures ----------------------------------------------------------------------------- */

void store_stats(const struct store *store, struct store_stats *ret)
{
	struct job_totals totals;
	struct log_stats log;

	job_totals(store->jobs, &totals);
	log_stats(store->log, &log);
	*ret = store->stats;
	memcpy(ret->jobs, totals.jobs, sizeof(ret->jobs));
	ret->urgent = totals.urgent;
	ret->queues = totals.queues;
	ret->reservations_waiting = store->waiters_count;
	ret->waits_waiting = store->waits_count;
	/* totals count from the first day on; what was there when the store was opened is taken off */
	ret->submitted = totals.submitted - store->at_open.submitted;
	ret->completed = totals.completed - store->at_open.completed;
	ret->failed = totals.failed - store->at_open.failed;
	ret->failed_attempts =
		totals.retries + totals.failed - store->at_open.retries - store->at_open.failed;
	ret->cancelled = totals.cancelled - store->at_open.cancelled;
	ret->timeouts = totals.timeouts - store->at_open.timeouts;
	ret->retries = totals.retries - store->at_open.retries;
	ret->expired = totals.expired - store->at_open.expired;
	ret->dead = totals.dead - store->at_open.dead;
	ret->groups = log.groups;
	ret->flushes = log.flushes;
	ret->log_bytes = log.disk_bytes;
	ret->segment_oldest = log.segment_oldest;
	ret->segment_newest = log.segment_newest;
	ret->segment_bytes = log.segment_bytes;
	ret->log_written_bytes = log.group_bytes;
	ret->log_unflushed_bytes =
		wh_mark_read(log_appended(store->log)) - wh_mark_read(log_flushed(store->log));
	ret->log_unflushed_ns = log.unflushed_ns;
	ret->log_segments = log.segments;
	ret->scanned_bytes = log.scanned_bytes;
	ret->disk_full = log.full;
	ret->flush_ns = log.flush_ns;
	static_assert((int)STORE_FLUSH_BUCKETS == (int)LOG_FLUSH_BUCKETS, "one scale");
	memcpy(ret->flush_buckets, log.flush_buckets, sizeof(ret->flush_buckets));
	ret->keys = store->keys.count;
	ret->key_bytes = store->keys.bytes;
	ret->blobs = store->blobs.table.files;
	ret->blob_bytes = store->blobs.table.bytes;
	ret->job_memory_bytes = totals.memory_bytes;
	ret->log_since_checkpoint = wh_mark_read(log_appended(store->log)) - store->checkpoint.lsn;
	ret->live_bytes = store->segments.live > 0 ? (uint64_t)store->segments.live : 0;
}

uint64_t store_scan(const struct store *store, struct store_slice name, unsigned states, uint32_t *cursor)
{
	const struct job_queue *queue = name.len > 0 ? job_queue_find(store->jobs, name) : NULL;
	const unsigned all = (1u << JOB_STATES) - 2;

	return name.len > 0 && !queue ? 0 : job_scan(store->jobs, queue, states ? states : all, cursor);
}
