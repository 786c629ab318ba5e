/* src/store/compact.c -- segments of the log that hold little of what is needed: that little is written again, and they go.
 *
 * Only segments below the checkpoint, which no start reads. The estimate of live.c chooses; nothing else rests on it: before a
 * segment goes it is read from one end to the other, and whatever the job machine may need of it is
 * written again as a WHOLE, in asynchronous commits of the turn. When those are flushed, with everything that ended
 * jobs of the segment, and no reader is left that knows a place in it, it is released. See inside.h.
 *
 * Without need it is gentle: segments of which less than 30 % is needed and which are a minute old, 16 MiB a second.
 * When there is more on disk than twice what is needed and some slack, or the disk is full, it is those of less than
 * 60 %, as fast as the loop's turns allow.
 */
#include "store/inside.h"

#include <stdio.h>

enum { RATIO_PERCENT = 30, RATIO_PRESSED_PERCENT = 60 };
#define AGE_NS   (60 * WH_NS_PER_S)
#define LOOK_NS  (100 * WH_NS_PER_MS)
#define AGAIN_NS (5 * WH_NS_PER_S)

bool store_compact_scratch(struct store *store, size_t bytes)
{
	struct store_compact *c = &store->compact;
	uint8_t *scratch;

	if (bytes <= c->scratch_bytes)
		return true;
	scratch = realloc(c->scratch, bytes * 2);
	if (!scratch)
		return false;
	c->scratch = scratch;
	c->scratch_bytes = bytes * 2;
	return true;
}

int store_move(struct store *store, const struct job_places *places, struct job_record *whole)
{
	int error = job_check_whole(store->jobs, places, whole);

	if (error < 0)
		return 0; /* it has changed or is gone */
	error = store_begin(store, store_record_bytes(whole), log_full(store->log));
	if (error < 0)
		return error;
	store->compact.moved_bytes += job_record_bytes(whole);
	store->stats.moved++;
	store->stats.moved_bytes += job_record_bytes(whole);
	store_append(store, whole, 0);
	store_end(store, STORE_ASYNC);
	return 0;
}

/* ---- one record of the segment ------------------------------------------------------------ */

static void on_pause_over(wh_loop *loop, wh_res res, void *arg)
{
	struct store *store = arg;

	(void)loop;
	store->compact.pausing = false;
	if (!store_operation_end(store))
		return;
	if (store->compact.scanning && res.n < 0)
		wh_cancel(store->compact.scan); /* closing, or nothing to wait with: another time */
	else if (store->compact.scanning)
		log_segment_scan_resume(store->log);
}

/* What is being scanned waits for a future. */
static int pause_for(struct store *store, wh_future future)
{
	struct store_compact *c = &store->compact;

	c->wait = future;
	if (wh_then(future, on_pause_over, store) < 0)
		return -ENOMEM;
	c->pausing = true;
	store->operations++;
	return LOG_SCAN_PAUSE;
}

/* Parts that are at hand: all in this record. */
static int move_parts(struct store *store, const struct job_record *r, unsigned needed)
{
	struct job_record whole = {.type = JOB_WHOLE, .id = r->id}, part = *r;
	struct job_places places;
	size_t len = 0, cursor = 0;

	if (job_places(store->jobs, r->id, &places) < 0)
		return 0;
	while (r->type != JOB_WHOLE || job_part_get(r, &cursor, &part)) {
		unsigned bit = part.type == JOB_SUBMIT     ? JOB_WHOLE_PAYLOAD
		               : part.type == JOB_PROGRESS ? JOB_WHOLE_PROGRESS
		                                           : 0;

		if (needed & bit) {
			if (!store_compact_scratch(store, len + job_part_bytes(&part)))
				return -ENOMEM;
			len += job_part_put(&part, store->compact.scratch + len);
			whole.flags |= (uint8_t)bit;
		}
		if (r->type != JOB_WHOLE)
			break;
	}
	whole.body = (struct job_slice){store->compact.scratch, len};
	return store_move(store, &places, &whole);
}

static void on_gathered(struct store *store, int64_t result)
{
	struct store_compact *c = &store->compact;

	c->gathered = true;
	c->gather_result = result;
	if (!c->in_scan && c->scanning && !store->closing)
		log_segment_scan_resume(store->log);
}

/* The parts that are needed of what stands at a place. 0: none any more. */
static int move(struct store *store, const struct job_record *r, uint64_t place, unsigned needed)
{
	struct store_compact *c = &store->compact;
	unsigned at_hand = needed & (JOB_WHOLE_PAYLOAD | JOB_WHOLE_PROGRESS);
	int64_t result;

	if (!(needed & JOB_WHOLE_RESULT) && at_hand)
		return move_parts(store, r, at_hand);
	if (!c->gathered) {
		store_gather(store, r->id, place, on_gathered);
		if (!c->gathered)
			return LOG_SCAN_PAUSE;
	}
	c->gathered = false;
	result = c->gather_result;
	if (result == 1)
		c->settled = place;
	return result < 0 ? (int)result : 0;
}

/* Is there more to be done than the rate allows by now? How long to wait. */
static int64_t too_fast(const struct store *store)
{
	const struct store_compact *c = &store->compact;
	int64_t due = c->began_at + (int64_t)(c->moved_bytes * WH_NS_PER_S / store->options.compact_rate);

	return c->pressed ? 0 : due - wh_now(store->loop);
}

static int look_at(struct store *store, const struct job_record *r, uint64_t place)
{
	struct store_compact *c = &store->compact;

	for (int tries = 0; tries < 4; tries++) {
		unsigned needed = place == c->settled ? 0 : job_needed(store->jobs, r, place);
		int64_t wait;
		int status;

		if (needed == 0) {
			c->gathered = false;
			return 0;
		}
		wait = too_fast(store);
		if (wait > WH_NS_PER_MS && !c->gathered)
			return pause_for(store, wh_sleep(store->loop, wait));
		status = move(store, r, place, needed);
		if (status == -EAGAIN)
			return pause_for(store, log_room_wait(store->log));
		if (status != 0)
			return status;
	}
	return -EBUSY; /* it cannot be moved just now */
}

static int on_scanned(void *arg, const struct log_record *record)
{
	struct store *store = arg;
	struct store_compact *c = &store->compact;
	struct job_record r;
	int status;

	if (store->failed || store->closing)
		return -ECANCELED;
	status = job_record_get(record->type, record->version,
	                        (struct job_slice){record->fixed, record->fixed_bytes},
	                        (struct job_slice){record->payload, record->payload_bytes}, &r);
	if (status < 0)
		return -WH_EDAMAGED;
	c->in_scan = true;
	status = look_at(store, &r, record->location);
	c->in_scan = false;
	return status;
}

/* ---- release ----------------------------------------------------------------------------- */

static void release(struct store *store)
{
	struct store_compact *c = &store->compact;
	int error;

	c->draining = false;
	if (store->failed || store->closing)
		return;
	error = log_segment_release(store->log, c->number);
	if (error == 0) {
		store_live_released(store, c->number);
		store->stats.segments_released++;
	}
	c->look_at = error == 0 ? 0 : wh_now(store->loop) + AGAIN_NS;
	store_later(store);
}

void store_look_end(struct store *store, unsigned phase)
{
	store->looks[phase]--;
	if (store->compact.draining && phase == store->compact.drain_phase && store->looks[phase] == 0)
		release(store);
}

/* Everything that was moved is flushed, and so is everything that ended a job before. */
static void on_flushed(wh_loop *loop, wh_res res, void *arg)
{
	struct store *store = arg;
	struct store_compact *c = &store->compact;

	(void)loop;
	c->flushing = false;
	if (!store_operation_end(store) || res.n < 0 || store->failed || store->closing)
		return;
	assert(store->looks[!store->look_phase] == 0);
	c->drain_phase = store->look_phase;
	store->look_phase = !store->look_phase;
	c->draining = true;
	if (store->looks[c->drain_phase] == 0)
		release(store);
}

/* ---- one segment -------------------------------------------------------------------------- */

/* Another time, whether or not anything else happens until then. */
static void put_off(struct store *store)
{
	store->compact.look_at = wh_now(store->loop) + AGAIN_NS;
	store_later(store);
}

static void scan_failed(struct store *store, int64_t error)
{
	struct store_compact *c = &store->compact;
	struct store_segment *segment = store_segment_at(store, c->number);
	char text[200];

	put_off(store);
	if (error != -WH_EDAMAGED && error != -ENOTSUP && error != -JOB_ETOO_LARGE && error != -EPROTO)
		return; /* want of memory or disk, say: it will pass */
	if (segment)
		segment->kept = true;
	if (error == -ENOTSUP || !store->options.log)
		return;
	snprintf(text, sizeof(text), "segment %llu of the log cannot be compacted and stays as it is: %s",
	         (unsigned long long)c->number, job_strerror(error));
	store->options.log(WH_LOG_WARNING, text, store->options.log_arg);
}

static void on_scan_end(wh_loop *loop, wh_res res, void *arg)
{
	struct store *store = arg;
	struct store_compact *c = &store->compact;
	wh_future flush;

	(void)loop;
	c->scanning = false;
	if (!store_operation_end(store) || store->failed || store->closing)
		return;
	store->stats.segments_scanned++;
	if (res.n < 0) {
		scan_failed(store, res.n);
		return;
	}
	flush = wh_mark_wait(log_flushed(store->log), wh_mark_read(log_appended(store->log)));
	c->wait = flush;
	if (wh_then(flush, on_flushed, store) < 0) {
		put_off(store);
		return;
	}
	c->flushing = true;
	store->operations++;
}

static void begin(struct store *store, uint64_t number)
{
	struct store_compact *c = &store->compact;

	c->number = number;
	c->settled = 0;
	c->gathered = false;
	c->moved_bytes = 0;
	c->began_at = wh_now(store->loop);
	job_reveal(store->jobs, store_reached(store, STORE_LOCAL));
	c->scan = log_segment_scan(store->log, number, on_scanned, store);
	if (wh_then(c->scan, on_scan_end, store) < 0) {
		put_off(store);
		return;
	}
	c->scanning = true;
	store->operations++;
}

/* ---- which ------------------------------------------------------------------------------- */

/* How much it is worth, as in log-structured file systems: what is gained for what it costs, old ones first since
 * what has stayed is likely to stay. Negative: nothing; one that is too young is looked at again when it is not, though nothing else may
 * happen until then. */
static double worth(struct store *store, const struct log_segment_info *info, uint64_t end)
{
	struct store_compact *c = &store->compact;
	struct store_segment *segment = store_segment_at(store, info->number);
	double bytes = (double)(info->end_lsn - info->base_lsn), live, used;
	int64_t now = wh_now(store->loop);

	if (!segment || segment->kept || !info->below)
		return -1;
	if (segment->seen_at == 0)
		segment->seen_at = now;
	live = segment->live > 0 ? (double)segment->live : 0;
	if (live <= 0 || bytes <= 0)
		return 1e300;
	used = live / bytes;
	if (used * 100 >= (c->pressed ? RATIO_PRESSED_PERCENT : RATIO_PERCENT))
		return -1;
	if (!c->pressed && now - segment->seen_at < AGE_NS) {
		if (c->wake_at == 0 || segment->seen_at + AGE_NS < c->wake_at)
			c->wake_at = segment->seen_at + AGE_NS;
		return -1;
	}
	return (1 - used) / (1 + used) * (double)(end - info->base_lsn);
}

/* The best one; false: none is worth it. */
static bool choose(struct store *store, uint64_t *ret)
{
	size_t cap = log_segments_list(store->log, NULL, 0), count;
	struct log_segment_info *all = malloc((cap + 1) * sizeof(all[0]));
	uint64_t end = wh_mark_read(log_appended(store->log));
	double best = -1;

	if (!all) {
		store->compact.wake_at = wh_now(store->loop) + AGAIN_NS;
		return false;
	}
	count = log_segments_list(store->log, all, cap);
	for (size_t i = 0; i < count && i < cap && best < 1e299; i++) {
		double this = worth(store, &all[i], end);

		if (this > best) {
			best = this;
			*ret = all[i].number;
		}
	}
	free(all);
	return best > 0;
}

static bool pressed(const struct store *store)
{
	struct log_stats stats;
	uint64_t live = store->segments.live > 0 ? (uint64_t)store->segments.live : 0;

	log_stats(store->log, &stats);
	/* what backups hold goes with them */
	return stats.full ||
	       stats.disk_bytes - log_pinned_bytes(store->log) > 2 * live + store->options.compact_slack;
}

void store_compact_look(struct store *store)
{
	struct store_compact *c = &store->compact;
	uint64_t number = 0;

	c->wake_at = 0;
	if (c->scanning || c->flushing || c->draining || store->failed || store->closing ||
	    store->checkpoint.by_hand || store->checkpoint.lsn == 0)
		return;
	if (wh_now(store->loop) < c->look_at) {
		c->wake_at = c->look_at;
		return;
	}
	c->look_at = wh_now(store->loop) + LOOK_NS;
	c->pressed = pressed(store);
	if (choose(store, &number))
		begin(store, number);
}

void store_compact_stop(struct store *store)
{
	struct store_compact *c = &store->compact;

	if (c->scanning)
		wh_cancel(c->scan);
	if (c->pausing || c->flushing)
		wh_cancel(c->wait);
	c->draining = false;
}
