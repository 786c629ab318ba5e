/* src/store/checkpoint.c -- the state written down now and then, so that a start need not read the whole history and what is
 * before can go. See inside.h; how a moment is held fast is in src/job/snapshot.c, how it becomes a file in src/log.
 *
 * Due when the log has grown by what the last checkpoint took, 64 MiB at least. One step a turn, each well under a
 * millisecond, and at most so many bytes a second: commits do not wait for it. One that fails for want of memory or disk is
 * given up and tried again later.
 */
#include "store/inside.h"

#include <stdio.h>

#define CHECKPOINT_BYTES (UINT64_C(64) << 20)
/* What a start reads beside the checkpoint is not worth another; more of it, if somebody will want to go on behind what it was told. */
#define CLOSE_BYTES          (UINT64_C(1) << 20)
#define CLOSE_FOLLOWED_BYTES (UINT64_C(16) << 20)
#define AGAIN_NS             (5 * WH_NS_PER_S)

enum { STEP_JOBS = 2048, UNWRITTEN_MAX = 4 << 20, BYTES_PER_S = 64 << 20 };

static void notice(struct store *store, int level, const char *text)
{
	if (store->options.log)
		store->options.log(level, text, store->options.log_arg);
}

static uint64_t bytes_since(const struct store *store)
{
	return wh_mark_read(log_appended(store->log)) - store->checkpoint.lsn;
}

/* ---- records ----------------------------------------------------------------------------- */

static int append(struct store *store, const struct job_record *r)
{
	struct job_slice rest[JOB_RECORD_SLICES_MAX];
	uint8_t fixed[JOB_RECORD_FIXED_MAX];
	struct iovec iov[JOB_RECORD_SLICES_MAX];
	int count = job_record_rest(r, rest);
	struct log_append append = {.type = r->type,
	                            .version = JOB_RECORD_VERSION,
	                            .fixed_bytes = (uint16_t)job_record_fixed(r, fixed),
	                            .fixed = fixed,
	                            .payload = iov,
	                            .payload_count = count};

	for (int i = 0; i < count; i++)
		iov[i] = (struct iovec){(void *)(uintptr_t)rest[i].data, rest[i].len};
	store->checkpoint.bytes += job_record_bytes(r);
	return log_checkpoint_append(store->checkpoint.log, &append);
}

static int on_record(void *arg, const struct job_record *r)
{
	return append(arg, r);
}

/* All at once: they are few. */
static int append_settings(struct store *store)
{
	int error = 0;

	for (size_t i = 0; i < store->settings_count && error == 0; i++) {
		const struct store_setting *s = &store->settings[i];
		struct job_record r = {.type = JOB_SETTING, .text = s->key, .body = s->value};

		error = append(store, &r);
	}
	return error;
}

/* ---- its life ---------------------------------------------------------------------------- */

static void given_up(struct store *store, int64_t error)
{
	char text[160];

	job_snapshot_cancel(store->jobs);
	store_keys_save_end(store);
	store->checkpoint.log = NULL;
	store->checkpoint.stepping = store->checkpoint.ending = false;
	store->checkpoint.not_before = wh_now(store->loop) + AGAIN_NS;
	if (store->failed || error == -ECANCELED)
		return;
	store->stats.checkpoints_failed++;
	if (error == -ENOSPC || error == -EDQUOT)
		store_backups_yield(store);
	snprintf(text, sizeof(text), "no checkpoint: %s; the next one will be tried in %d s",
	         wh_strerror(error), (int)(AGAIN_NS / WH_NS_PER_S));
	notice(store, WH_LOG_WARNING, text);
}

static void cancel(struct store *store, int64_t error)
{
	log_checkpoint_cancel(store->checkpoint.log);
	given_up(store, error);
}

static int begin(struct store *store)
{
	struct store_checkpoint *c = &store->checkpoint;
	int error = log_checkpoint_begin(store->log, &c->log);

	if (error < 0)
		return error;
	c->bytes = 0;
	c->keys = false;
	c->began_at = wh_now(store->loop);
	c->lsn_next = log_checkpoint_lsn(c->log);
	error = job_snapshot_begin(store->jobs);
	c->stepping = error == 0;
	store_keys_save_begin(store);
	if (error == 0)
		error = append_settings(store);
	if (error == 0)
		error = store_blobs_save(store, on_record, store);
	if (error < 0)
		cancel(store, error);
	return error;
}

/* 1: more to come; 0: everything is with the log; or it has been given up. */
static int step(struct store *store)
{
	/* the jobs, then the keys: a snapshot that has ended is not asked again */
	int more = store->checkpoint.keys ? store_keys_save_step(store, on_record, store)
	                                  : job_snapshot_step(store->jobs, STEP_JOBS, on_record, store);

	if (more == 0 && !store->checkpoint.keys) {
		store->checkpoint.keys = true;
		return 1;
	}
	if (more < 0)
		cancel(store, more);
	if (more == 0)
		store->checkpoint.stepping = false;
	return more;
}

static void ended(struct store *store, int64_t error)
{
	struct store_checkpoint *c = &store->checkpoint;

	c->ending = false;
	c->log = NULL;
	if (error < 0) {
		given_up(store, error);
		return;
	}
	c->lsn = c->lsn_next;
	c->written = c->bytes;
	c->due = c->bytes > store->options.checkpoint_bytes ? c->bytes : store->options.checkpoint_bytes;
	store->stats.checkpoints++;
	store->stats.checkpoint_ns = (uint64_t)(wh_now(store->loop) - c->began_at);
	store->stats.checkpoint_bytes = c->bytes;
	store->compact.look_at = 0;
	store_compact_look(store);
}

static void go_on(struct store *store);

static void on_wait(wh_loop *loop, wh_res res, void *arg)
{
	struct store *store = arg;
	struct store_checkpoint *c = &store->checkpoint;

	(void)loop;
	c->waiting = false;
	if (!store_operation_end(store) || c->by_hand)
		return;
	if (c->ending)
		ended(store, res.n);
	else if (res.n < 0 && c->log)
		cancel(store, res.n);
	else if (!store->failed && !store->closing && c->log)
		go_on(store);
}

static void wait_for(struct store *store, wh_future future)
{
	struct store_checkpoint *c = &store->checkpoint;

	c->wait = future;
	if (wh_then(future, on_wait, store) == 0) {
		c->waiting = true;
		store->operations++;
	} else if (c->ending) {
		ended(store, -ENOMEM); /* it may count all the same: then the next one is early */
	} else {
		cancel(store, -ENOMEM);
	}
}

static void go_on(struct store *store)
{
	struct store_checkpoint *c = &store->checkpoint;
	uint64_t before = c->bytes;
	int more = step(store);

	if (more < 0)
		return;
	if (more == 0) {
		c->ending = true;
		wait_for(store, log_checkpoint_end(c->log));
	} else if (log_checkpoint_unwritten(c->log) > UNWRITTEN_MAX) {
		wait_for(store, log_checkpoint_room(c->log));
	} else {
		/* when the log grows by more than is due meanwhile, there is no time to lose */
		bool hurry = store->compact.pressed ||
		             wh_mark_read(log_appended(store->log)) - c->lsn_next > c->due;

		wait_for(store,
		         wh_sleep(store->loop,
		                  hurry ? 0 : (int64_t)((c->bytes - before) * WH_NS_PER_S / BYTES_PER_S)));
	}
}

void store_checkpoint_look(struct store *store)
{
	struct store_checkpoint *c = &store->checkpoint;
	int error;

	if (c->log || c->ending || c->waiting || store->failed || store->closing ||
	    bytes_since(store) < c->due || wh_now(store->loop) < c->not_before)
		return;
	error = begin(store);
	if (error == 0)
		wait_for(store, wh_sleep(store->loop, 0));
	else if (error == -EBUSY || error == -ENOMEM)
		c->not_before = wh_now(store->loop) + AGAIN_NS;
	else if (error == -EALREADY)
		c->not_before = 0;
}

int64_t store_checkpoint_again(const struct store *store)
{
	const struct store_checkpoint *c = &store->checkpoint;

	return c->log || c->ending || c->waiting || bytes_since(store) < c->due ? 0 : c->not_before;
}

/* ---- the end of the store ---------------------------------------------------------------- */

void store_checkpoint_stop(struct store *store)
{
	struct store_checkpoint *c = &store->checkpoint;

	if (c->waiting && !c->ending)
		wh_cancel(c->wait);
	if (c->log && !c->ending)
		cancel(store, -ECANCELED);
	job_snapshot_cancel(store->jobs);
}

/* Make it count, unless there is no room for a manifest: that may last as long as it likes, and the log has all that is in it. */
static int64_t end_by_hand(struct store *store)
{
	wh_future end = log_checkpoint_end(store->checkpoint.log);

	while (!wh_done(end) && !log_waits_for_space(store->log) && wh_loop_turn(store->loop, -1) >= 0)
		;
	if (wh_done(end))
		return wh_await(end).n;
	(void)wh_drop(end);
	return -ENOSPC;
}

/* What is under way to its end, or a new one. */
static int finish(struct store *store)
{
	struct store_checkpoint *c = &store->checkpoint;
	int64_t error = 0;
	int more = c->stepping;

	while (more == 1 && (more = step(store)) == 1) {
		while (error >= 0 && log_checkpoint_unwritten(c->log) > UNWRITTEN_MAX)
			error = wh_await(log_checkpoint_room(c->log)).n;
		if (error < 0) {
			cancel(store, error);
			return (int)error;
		}
	}
	if (more < 0)
		return more;
	error = end_by_hand(store);
	ended(store, error);
	return error < 0 ? (int)error : 0;
}

/* So that the next start reads little. Want of memory or disk is no reason not to close. */
int store_checkpoint_at_close(struct store *store)
{
	struct store_checkpoint *c = &store->checkpoint;
	uint64_t enough = store_events_followed(store) ? CLOSE_FOLLOWED_BYTES : CLOSE_BYTES;
	int error = 0;

	while (c->ending && c->waiting && !store->failed && !log_waits_for_space(store->log) &&
	       wh_loop_turn(store->loop, -1) >= 0)
		;
	c->by_hand = true;
	if (c->waiting)
		wh_cancel(c->wait);
	if (c->ending)
		return -ENOSPC;
	if (c->log && !store->failed)
		error = finish(store);
	if (error == 0 && !store->failed && (store->repair || bytes_since(store) > enough) &&
	    begin(store) == 0)
		error = finish(store);
	return error;
}
