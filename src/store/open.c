/* src/store/open.c -- the store's life: recovery, time, failure, the end. See store.h, inside.h. */
#include "store/repair_inside.h"

#include <stdio.h>

enum { ADVANCE_BUDGET = 4096, IDS_FIRST = 65536, AGAIN_MS = 5, BODIES_MAX = 64, EVENTS = 65536 };

#define RECENT_BYTES      (UINT64_C(64) << 20)
#define PAYLOAD_BYTES     (UINT64_C(64) << 20)
#define PAYLOAD_BYTES_MAX (UINT64_C(1) << 30)
#define BLOB_BYTES        (UINT64_C(1) << 20)
#define CHECKPOINT_BYTES  (UINT64_C(64) << 20)
#define KEYS_MAX          UINT64_C(1000000)
#define COMPACT_SLACK     (UINT64_C(2) << 30)
#define COMPACT_RATE      (UINT64_C(16) << 20)

/* Stores that are open on this thread, for lots that outlive theirs. */
static _Thread_local struct store *stores_open;
static _Thread_local uintptr_t last_number;

struct store *store_by_number(uintptr_t number)
{
	struct store *store = stores_open;

	while (store && store->number != number)
		store = store->next_open;
	return store;
}

static void store_free(struct store *store)
{
	store_events_done(store);
	job_close(store->jobs);
	store_live_done(store);
	free(store->compact.scratch);
	store_settings_done(store);
	store_kept_done(store);
	store_keys_done(store);
	store_blobs_done(store);
	store_recent_done(&store->recent);
	free(store->directory);
	free(store->waits);
	free(store->after_ids);
	free(store->spans);
	free(store->written.ring);
	free(store->flushed.ring);
	free(store);
}

bool store_operation_end(struct store *store)
{
	store->operations--;
	if (!store->gone)
		return true;
	if (store->operations == 0)
		store_free(store);
	return false;
}

/* Let what is under way come to its end, release the log, free: at once, or, when the loop itself has failed, with the
 * last callback. */
static int store_end_life(struct store *store)
{
	int error = 0;

	store->closing = true;
	if (store->log) {
		store_checkpoint_stop(store);
		store_compact_stop(store);
	}
	if (store->timer_set)
		wh_cancel(store->timer);
	else
		(void)wh_drop(store->timer_slot);
	store_blobs_end(store);
	while (store->operations > 0 && wh_loop_turn(store->loop, -1) >= 0)
		;
	store_fail(store, store->failed ? store->failed : -ECANCELED);
	if (store->log)
		error = log_close(store->log);
	for (struct store **at = &stores_open; *at; at = &(*at)->next_open) {
		if (*at == store) {
			*at = store->next_open;
			break;
		}
	}
	store->gone = true;
	if (store->operations == 0)
		store_free(store);
	return error;
}

/* ---- time -------------------------------------------------------------------------------- */

/* Wall-clock time that never jumps: the monotonic clock plus an offset that follows the wall clock by at most a tenth of the
 * time that passes. A clock that is set neither ends all leases at once nor makes them last for ever. */
int64_t store_now_ns(struct store *store)
{
	return wh_now(store->loop) + store->wall_offset;
}

static void follow_wall_clock(struct store *store)
{
	int64_t now = wh_now(store->loop), passed = now - store->wall_read_at;
	int64_t off = wh_wall_now(store->loop) - (wh_clock(store->loop) + store->wall_offset);

	if (passed < STORE_NS_PER_MS)
		return;
	store->wall_read_at = now;
	if (off > passed / 10)
		off = passed / 10;
	if (off < -passed / 10)
		off = -passed / 10;
	store->wall_offset += off;
}

static void on_timer(wh_loop *loop, wh_res res, void *arg);

/* The timer's slot while there is no timer: a future that is complete already. Within on_timer() it cannot fail, since the
 * slot of the timer has just become free. */
static void hold_slot(struct store *store)
{
	store->timer_slot = wh_promise(store->loop, NULL, NULL);
	(void)!wh_resolve(store->timer_slot, 0, NULL);
}

static int64_t sooner(int64_t at, int64_t than)
{
	return at != 0 && at < than ? at : than;
}

/* One timer, at the nearest instant at which something is due. */
static void set_timer(struct store *store)
{
	int64_t due_ms = store->failed || store->stalled ? INT64_MAX : job_next_due(store->jobs),
		at = INT64_MAX;

	if (due_ms != INT64_MAX)
		at = due_ms * STORE_NS_PER_MS - store->wall_offset;
	at = sooner(store->again_at, at);
	if (!store->failed && !store->repair)
		at = sooner(store->compact.wake_at, sooner(store_checkpoint_again(store), at));
	if (at == INT64_MAX || store->closing)
		return;
	if (store->timer_set) {
		/* a later one: it will look again when it comes; one that has passed: its callback is on the way */
		if (at < store->timer_at && wh_rearm(store->timer, at) == 0)
			store->timer_at = at;
		return;
	}
	(void)wh_drop(store->timer_slot);
	store->timer = wh_sleep_until(store->loop, at);
	if (wh_then(store->timer, on_timer, store) == 0) {
		store->timer_set = true;
		store->timer_at = at;
		store->operations++;
	}
}

bool store_lacks_memory(const struct store *store, int64_t error)
{
	return (error == -ENOMEM || error == -EAGAIN) && log_failed(store->log) == 0;
}

void store_again(struct store *store)
{
	if (store->again_at == 0)
		store->again_at = wh_now(store->loop) + AGAIN_MS * STORE_NS_PER_MS;
	set_timer(store);
}

static int on_due(void *arg, const struct job_record *due)
{
	struct store *store = arg;
	struct job_record r = *due;
	int error = store_begin(store, store_record_bytes(&r), true);

	if (error < 0)
		return error;
	store_append(store, &r, JOB_HIDDEN);
	store_end(store, STORE_ASYNC);
	return 0;
}

void store_advance(struct store *store)
{
	int more;

	if (store->failed || store->closing || store->repair)
		return;
	follow_wall_clock(store);
	more = job_advance(store->jobs, store_now_ns(store), ADVANCE_BUDGET, on_due, store);
	store->stalled = more < 0;
	if (more == -EAGAIN)
		store_wait_for_room(store);
	else if (more < 0)
		store->again_at = wh_now(store->loop) + AGAIN_MS * STORE_NS_PER_MS;
	store_later(store);
}

/* What has been put off to the end of a turn. */
static void settle(struct store *store)
{
	if (store->failed)
		store_fail(store, store->failed);
	if (store->failed || store->closing || store->repair)
		return;
	follow_wall_clock(store);
	if (job_woken_any(store->jobs))
		store_match(store);
	store_checkpoint_look(store);
	store_compact_look(store);
	store_blobs_flushed(store);
	set_timer(store);
}

/* What was refused for want of memory. */
static void try_again(struct store *store)
{
	store->again_at = 0;
	store_fifo_wait(&store->written);
	store_fifo_wait(&store->flushed);
	store_wake(store);
	if (!store->room_waiting)
		store_parked_run(store);
}

static void on_timer(wh_loop *loop, wh_res res, void *arg)
{
	struct store *store = arg;

	(void)loop;
	(void)res;
	store->timer_set = false;
	hold_slot(store);
	if (store->closing)
		(void)wh_drop(store->timer_slot);
	if (!store_operation_end(store))
		return;
	if (store->again_at != 0 && store->again_at <= wh_now(store->loop))
		try_again(store);
	store_advance(store);
	if (!store->deferred)
		settle(store);
}

static void at_end_of_turn(void *arg)
{
	struct store *store = arg;

	store->deferred = false;
	if (store_operation_end(store))
		settle(store);
}

void store_later(struct store *store)
{
	if (store->deferred || store->closing)
		return;
	if (wh_defer(store->loop, at_end_of_turn, store) == 0) {
		store->deferred = true;
		store->operations++;
	} else {
		store_again(store);
	}
}

/* ---- failure ----------------------------------------------------------------------------- */

void store_fail(struct store *store, int64_t error)
{
	if (store->failed == 0)
		store->failed = error;
	store_parked_fail(store, error);
	store_waiters_fail(store, error);
	store_waits_fail(store, error);
	store_bulks_fail(store, error);
	store_events_fail(store, error);
	store_fifo_fail(store, &store->written, error);
	store_fifo_fail(store, &store->flushed, error);
	store_wakes_end(store);
}

void store_failed(struct store *store, int64_t error, const char *message)
{
	if (store->failure_told)
		return;
	store->failure_told = true;
	store->failed = error;
	store_later(store); /* not here: a commit may be half made */
	if (store->options.on_failure)
		store->options.on_failure(error, message, store->options.failure_arg);
}

static void on_log_failure(void *arg, int64_t error, const char *message)
{
	store_failed(arg, error, message);
}

/* ---- open -------------------------------------------------------------------------------- */

static int on_replay(void *arg, const struct log_record *record)
{
	struct store *store = arg;
	struct job_record r;
	int error;

	if (record->type == LOG_TYPE_LOST) {
		if (store->repair)
			store_repair_gap(store->repair, record);
		if (store->events)
			store_events_lost(store, record->group_end);
		return 0;
	}
	error = job_record_get(record->type, record->version,
	                       (struct job_slice){record->fixed, record->fixed_bytes},
	                       (struct job_slice){record->payload, record->payload_bytes}, &r);
	if (error < 0)
		return record->type >= JOB_RECORD_TYPES_END || record->version != JOB_RECORD_VERSION
		               ? -ENOTSUP
		               : error;
	if (store->loading && !record->checkpoint) {
		store->loading = false;
		error = job_load_end(store->jobs);
		if (error < 0)
			return error;
	}
	if (r.type == JOB_SETTING) {
		error = store_setting_room(store, &r);
		if (error == 0)
			error = store_setting_apply(store, &r);
		if (error != -EPROTO || !store->repair)
			return error;
		store->repair->result->unfit++; /* the end of one whose beginning is lost */
		return 0;
	}
	if (r.type == JOB_KEY)
		return record->checkpoint ? -EPROTO : store_keys_replay(store, &r, record->location);
	if (r.type == JOB_KEYS)
		return record->checkpoint ? store_keys_load(store, &r) : -EPROTO;
	if (r.type == JOB_BLOBS)
		return record->checkpoint ? store_blobs_load(store, &r) : -EPROTO;
	if (record->checkpoint) {
		store->loading = true;
		return job_load(store->jobs, &r);
	}
	if ((r.type == JOB_SUBMIT || r.type == JOB_FINISH) && (r.flags & JOB_BODY_IN_BLOB))
		error = store_blob_table_room(&store->blobs.table, 1);
	if (store->events) {
		store_events_replay(store, record);
		store_events_before(store, &r, record->location);
	}
	if (error == 0)
		error = job_replay(store->jobs, &r, record->location);
	if (error == 0 && store->events) {
		uint64_t job;

		store_events_after(store, &r, record->location);
		while ((job = job_released(store->jobs)) != 0)
			store_events_released(store, job, record->location);
	}
	if (error == 0 && store->repair)
		store_repair_fits(store->repair, &r, record);
	if (error == -EPROTO && store->repair)
		error = store_repair_unfit(store->repair, &r, record);
	if (error == 0)
		store_blobs_apply(store, &r, record->location);
	return error;
}

static void set_defaults(struct store *store)
{
	struct store_options *o = &store->options;

	o->directory = NULL; /* the caller's; .directory is our own */
	o->payload_bytes_max = o->payload_bytes_max ? o->payload_bytes_max : PAYLOAD_BYTES;
	if (o->payload_bytes_max > PAYLOAD_BYTES_MAX)
		o->payload_bytes_max = PAYLOAD_BYTES_MAX;
	if (o->blob_bytes == 0 || o->blob_bytes > BLOB_BYTES)
		o->blob_bytes = BLOB_BYTES;
	o->keys_max = o->keys_max ? o->keys_max : KEYS_MAX;
	o->keys_retention_ns = o->keys_retention_ns ? o->keys_retention_ns : 86400 * WH_NS_PER_S;
	o->bodies_max = o->bodies_max ? o->bodies_max : BODIES_MAX;
	o->events_max = o->events_max ? o->events_max : EVENTS;
	if (o->recent_bytes == 0)
		o->recent_bytes = RECENT_BYTES;
	if (o->checkpoint_bytes == 0)
		o->checkpoint_bytes = CHECKPOINT_BYTES;
	if (o->compact_slack == 0)
		o->compact_slack = COMPACT_SLACK;
	if (o->compact_rate == 0)
		o->compact_rate = COMPACT_RATE;
}

static void on_progress(void *arg, uint64_t bytes_done, uint64_t bytes_all)
{
	struct store *store = arg;
	struct job_totals totals;
	uint64_t jobs = 0;

	job_totals(store->jobs, &totals);
	for (int state = JOB_DELAYED; state < JOB_STATES; state++)
		jobs += totals.jobs[state];
	store->opening_bytes = bytes_all;
	store->options.on_progress(bytes_done, bytes_all, jobs, store->options.progress_arg);
}

static int open_log(struct store *store, const char *directory, struct store_problem *ret_problem)
{
	struct log_problem problem = {0};
	struct log_options options = {.path = directory,
	                              .segment_bytes = store->options.segment_bytes,
	                              .replay = on_replay,
	                              .replay_arg = store,
	                              .progress = store->options.on_progress ? on_progress : NULL,
	                              .progress_arg = store,
	                              .borrowed = store->repair != NULL,
	                              .on_failure = on_log_failure,
	                              .failure_arg = store,
	                              .notice = store->options.log,
	                              .notice_arg = store->options.log_arg};
	int error = log_open(store->loop, &options, &store->log, &problem);

	if (error < 0 && ret_problem) {
		ret_problem->exit_status = problem.exit_status;
		log_problem_text(&problem, ret_problem->text, sizeof(ret_problem->text));
	}
	return error;
}

/* Ids for this run, flushed before the first is given. */
static int reserve_ids(struct store *store)
{
	struct job_record r;
	struct store_position position;
	wh_res res;
	int error = job_check_ids(store->jobs, IDS_FIRST, true, &r);

	if (error < 0)
		return error;
	/* the current segment may be full and the next one in the making */
	while ((error = store_begin(store, store_ids_bytes(), true)) == -EAGAIN) {
		res = wh_await(log_room_wait(store->log));
		if (res.n < 0)
			return (int)res.n;
	}
	if (error < 0)
		return error;
	store_append(store, &r, 0);
	position = store_end(store, STORE_LOCAL);
	res = wh_await(wh_mark_wait(log_flushed(store->log), position.lsn));
	store->ids_safe = r.claim;
	return (int)res.n;
}

/* Who held a bound lease went with the process that gave it: the jobs go back. */
static int return_bound(struct store *store)
{
	struct job_totals totals;
	uint32_t cursor = 0;
	uint64_t id;

	job_totals(store->jobs, &totals);
	if (totals.jobs[JOB_RUNNING] == 0)
		return 0;
	while ((id = job_scan(store->jobs, NULL, 1u << JOB_RUNNING, &cursor)) != 0) {
		struct job_record r = {.type = JOB_RETURN, .id = id};
		struct job_info info;
		int error;

		if (job_look(store->jobs, id, &info) < 0 || !info.bound)
			continue;
		if (info.cancel_requested &&
		    job_check_acknowledge(store->jobs, id, store_now_ns(store), &r) < 0)
			continue;
		while ((error = store_begin(store, store_record_bytes(&r), true)) == -EAGAIN) {
			wh_res res = wh_await(log_room_wait(store->log));
			if (res.n < 0)
				return (int)res.n;
		}
		if (error < 0)
			return error;
		store_append(store, &r, 0);
		store_end(store, STORE_ASYNC);
	}
	return 0;
}

/* What a checkpoint held is complete; where the log stands, and what of it is needed. */
static int loaded(struct store *store, struct store_problem *ret_problem)
{
	struct log_stats stats;
	int error = store->loading ? job_load_end(store->jobs) : 0;

	store->loading = false;
	if (error < 0)
		return error;
	log_stats(store->log, &stats);
	store->checkpoint.lsn = stats.checkpoint_lsn;
	store->checkpoint.due = stats.checkpoint_bytes > store->options.checkpoint_bytes
	                                ? stats.checkpoint_bytes
	                                : store->options.checkpoint_bytes;
	/* what follows looks at each job once more */
	if (store->opening_bytes > 0)
		on_progress(store, store->opening_bytes, store->opening_bytes);
	if (store->events)
		store_events_opened(store, stats.checkpoint_lsn);
	return store->repair ? 0 : store_live_open(store, ret_problem);
}

static int start(struct store *store, const char *directory, struct store_problem *ret_problem)
{
	struct job_limits limits = {.defaults = store->options.defaults,
	                            .jobs_max = store->options.jobs_max,
	                            .finished_max = store->options.finished_max,
	                            .queues_max = store->options.queues_max};
	int error = job_open(&store->jobs, &limits, wh_wall_now(store->loop) / STORE_NS_PER_MS);

	if (error == 0)
		error = store_recent_init(&store->recent, store->options.recent_bytes);
	if (error == 0)
		error = store_blobs_open(store, directory);
	if (error == 0 && !store->repair)
		store_events_open(store);
	if (error == 0)
		error = open_log(store, directory, ret_problem);
	if (error == 0)
		error = loaded(store, ret_problem);
	if (error == 0)
		error = store_blobs_sweep(store);
	if (error == 0)
		error = store_kept_open(store);
	if (error < 0)
		return error;
	store_fifo_init(store, &store->written, log_written(store->log), STORE_ASYNC);
	store_fifo_init(store, &store->flushed, log_flushed(store->log), STORE_LOCAL);
	store->span_bytes = log_record_max(store->log) / 2;
	job_totals(store->jobs, &store->at_open);
	job_listen(store->jobs, store_notice_ready, store_notice_awaiting, store);
	error = store->repair ? store_repair_ids(store->repair) : return_bound(store);
	return error < 0 ? error : reserve_ids(store);
}

int store_open_repair(wh_loop *loop, const struct store_options *options, struct store_repair *repair,
                      struct store **ret, struct store_problem *ret_problem)
{
	struct store_problem own = {.exit_status = 4};
	struct store *store = calloc(1, sizeof(*store));
	int error;

	if (!store)
		return -ENOMEM;
	store->loop = loop;
	store->repair = repair;
	if (repair)
		repair->store = store;
	store->blobs.folder = -1;
	store_wakes_init(store);
	store->options = *options;
	set_defaults(store);
	store->wall_read_at = wh_clock(loop);
	store->wall_offset = wh_wall_now(loop) - store->wall_read_at;
	wh_random(loop, &store->random, sizeof(store->random));
	hold_slot(store);
	store->number = ++last_number;
	store->next_open = stores_open;
	stores_open = store;
	store->directory = strdup(options->directory);
	error = store->directory ? start(store, options->directory, &own) : -ENOMEM;
	if (error < 0) {
		if (own.text[0] == 0)
			snprintf(own.text, sizeof(own.text), "cannot open the store in %s: %s",
			         options->directory, wh_strerror(error));
		if (ret_problem)
			*ret_problem = own;
		store_end_life(store);
		return error;
	}
	store_advance(store);
	*ret = store;
	return 0;
}

int store_open(wh_loop *loop, const struct store_options *options, struct store **ret,
               struct store_problem *ret_problem)
{
	return store_open_repair(loop, options, NULL, ret, ret_problem);
}

/* ---- close ------------------------------------------------------------------------------- */

/* The ids that were reserved and not given can be given by the next run. */
static void give_back_ids(struct store *store)
{
	struct job_record r;

	if (job_check_ids(store->jobs, 0, false, &r) == 0 &&
	    store_begin(store, store_ids_bytes(), true) == 0) {
		store_append(store, &r, 0);
		store_end(store, STORE_LOCAL);
	}
}

int store_close(struct store *store)
{
	if (!store)
		return 0;
	if (!store->failed) {
		store_waiters_fail(store, -ECANCELED);
		store_waits_fail(store, -ECANCELED);
		store_bulks_fail(store, -ECANCELED);
		store_events_fail(store, -ECANCELED);
		store_parked_fail(store, -ECANCELED);
		give_back_ids(store);
		store_checkpoint_at_close(store);
		wh_await(wh_mark_wait(log_flushed(store->log), wh_mark_read(log_appended(store->log))));
	}
	return store_end_life(store);
}

int store_recount(const struct store *store)
{
	char what[256] = "";
	int error = job_recount(store->jobs, what, sizeof(what));

	if (error == 0)
		error = store_live_recount(store, what, sizeof(what));

	if (error < 0 && store->options.log)
		store->options.log(WH_LOG_ERROR, what, store->options.log_arg);
	return error;
}
