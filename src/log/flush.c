/* src/log/flush.c -- when to flush, and what is known afterwards.
 *
 * At most one flush is under way; it covers what was written when it began. It begins at once when a commit waits for
 * it, else when the window of asynchronous commits closes. A short flush is made by the loop's thread itself: handing it to
 * another thread and being woken by it costs more than it takes. Thread: the log's loop.
 */
#include <stdlib.h>

#include "log/inside.h"

enum {
	LONE_FLUSH_US_MAX = 2000, /* a slower disk does not notice a thread hop */
	LONE_QUIET_MS = 100,      /* nobody has committed asynchronously for so long: nobody minds waiting */
	SHORT_FLUSH_US_MAX = 500, /* about a turn of a busy loop: who comes meanwhile does not notice */
	SHORT_FLUSH_BYTES_MAX = 256 << 10,
};

/* A group has been written. */
void log_flush_noted(struct log *log, const struct log_buffer *group)
{
	int64_t now = wh_now(log->loop);
	log->locals_written += group->local_count;
	log->async_unsent |= group->has_async;
	if (log->flushing && !log->unflushed_after)
		log->unflushed_after = now;
	else if (!log->flushing && !log->unflushed_since)
		log->unflushed_since = now;
}

static void on_seal_timer(wh_loop *loop, wh_res res, void *arg);

static void arm_seal(struct log *log)
{
	if (log->seal_armed || log->sealed || log->failed || log->closing)
		return;
	log->seal_armed = true;
	log->seal_timer = wh_sleep_until(log->loop, log->idle_since + log->options.seal_ns);
	log_op(log, log->seal_timer, on_seal_timer);
}

static int bucket_of(int64_t ns)
{
	int bucket = 0;
	while (bucket < LOG_FLUSH_BUCKETS - 1 && ns >= INT64_C(1) << (bucket + 14))
		bucket++;
	return bucket;
}

/* One that was held up counts as a slow one, no more: what the next ones will take is asked for. */
static int64_t mean_with(int64_t mean, int64_t took)
{
	if (mean == 0)
		return took;
	return (7 * mean + (took < 4 * mean ? took : 4 * mean)) / 8;
}

static void flush_ended(struct log *log, int64_t error, int64_t now)
{
	int64_t took = now - log->flush_began;
	log->flushing = false;
	if (error < 0) {
		log_fail(log, error, "cannot flush", log->path);
		return;
	}
	log->flush_ns_mean = mean_with(log->flush_ns_mean, took);
	log->stats.flushes++;
	log->stats.flush_ns += (uint64_t)took;
	log->stats.flush_buckets[bucket_of(took)]++;
	if ((uint64_t)took > log->stats.flush_ns_max)
		log->stats.flush_ns_max = (uint64_t)took;
	log->unflushed_since = log->unflushed_after;
	log->unflushed_after = 0;
	wh_mark_raise(log->flushed, log->flush_target);
	log->idle_since = now;
	arm_seal(log);
}

static void on_flushed(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	log_slot_hold(log, &log->flush_slot);
	if (!log_op_end(log))
		return;
	if (log->failed) {
		log->flushing = false;
		return;
	}
	flush_ended(log, res.n, wh_clock(log->loop));
	/* Those who are told now may commit again in this turn: their commits go into the next flush. */
	log_pump_soon(log);
}

static bool is_lone_commit(const struct log *log)
{
	return log->locals_written == 1 && log->locals_before <= 1 &&
	       log->flush_ns_mean < LONE_FLUSH_US_MAX * WH_NS_PER_US &&
	       (!log->async_at || wh_now(log->loop) - log->async_at > LONE_QUIET_MS * WH_NS_PER_MS);
}

/* As far as the last ones tell. */
static bool is_short(const struct log *log)
{
	return log->locals_written > 0 && log->stats.flushes > 0 &&
	       log->flush_ns_mean < SHORT_FLUSH_US_MAX * WH_NS_PER_US &&
	       wh_mark_read(log->written) - wh_mark_read(log->flushed) <= SHORT_FLUSH_BYTES_MAX;
}

static bool is_inline(const struct log *log)
{
	return !log->pending && !log->draining && (is_lone_commit(log) || is_short(log));
}

static void on_turn(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	log->turn_armed = false;
	log->async_unsent = false;
	if (!log->closing && !log->failed)
		log_pump_soon(log);
}

static void flush_start(struct log *log)
{
	int fd = log_current(log)->fd;
	bool here = is_inline(log);
	log->async_unsent = false;
	log->locals_before = log->locals_written;
	log->locals_written = 0;
	log->flush_target = wh_mark_read(log->written);
	log->flush_began = wh_clock(log->loop);
	log->flushing = true;
	if (here) {
		int64_t error = wh_fsync_blocking(log->loop, fd, true);
		log->stats.flushes_inline++;
		flush_ended(log, error, wh_clock(log->loop));
	} else {
		(void)wh_drop(log->flush_slot);
		log_op(log, wh_fsync(log->loop, fd, true), on_flushed);
	}
}

static void on_window(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	log->window_armed = false;
	if (log->closing || log->failed)
		return;
	if (res.n == 0 || log->flushing || wh_mark_read(log->written) == wh_mark_read(log->flushed))
		log_flush_if_due(log);
	else
		flush_start(log); /* nothing to wait with */
}

void log_flush_if_due(struct log *log)
{
	uint64_t written = wh_mark_read(log->written), flushed = wh_mark_read(log->flushed);
	if (log->failed || log->flushing || log->turn_armed || written == flushed)
		return;
	int64_t end = log->unflushed_since + log->options.async_window_ns;
	if (log->local_target > flushed || log->seal_target > flushed || log->roll_wanted || log->draining ||
	    written - flushed >= log->options.async_window_bytes || wh_now(log->loop) >= end) {
		if (log->async_unsent && is_inline(log)) {
			/* Answers to asynchronous commits do not wait for a flush: this turn sends them, the next one flushes. */
			log->turn_armed = true;
			log->turn_timer = wh_sleep(log->loop, 0);
			log_op(log, log->turn_timer, on_turn);
		} else {
			flush_start(log);
		}
	} else if (!log->window_armed) {
		log->window_armed = true;
		log->window_timer = wh_sleep_until(log->loop, end);
		log_op(log, log->window_timer, on_window);
	}
}

/* ---- seals ------------------------------------------------------------------------------- */

/* Write down, in the log itself, how far it is durable. Only when everything is; no room: not needed that much. */
void log_seal(struct log *log)
{
	struct log_segment *current = log_current(log);
	if (log->open && log->open->record_count > 0)
		return;
	if (log->pending || log->sealed || log->append_segment != current ||
	    current->bytes - log->append_offset < LOG_BLOCK_BYTES)
		return;
	if (!log->open && log_group_open(log, current) < 0)
		return;
	log_group_close(log, LOG_GROUP_SEAL);
	log->seal_target = log->append_lsn;
	log->stats.seals++;
}

static void on_seal_timer(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	log->seal_armed = false;
	if (log->closing || log->failed || res.n < 0)
		return;
	bool busy = log->flushing || log->pending || wh_mark_read(log->flushed) < wh_mark_read(log->appended);
	if (busy)
		return; /* the flush that follows arms it again */
	if (wh_now(log->loop) < log->idle_since + log->options.seal_ns) {
		arm_seal(log);
		return;
	}
	log_seal(log);
	log_pump_soon(log);
}

void log_timers_stop(struct log *log)
{
	if (log->window_armed)
		wh_cancel(log->window_timer);
	if (log->seal_armed)
		wh_cancel(log->seal_timer);
	if (log->turn_armed)
		wh_cancel(log->turn_timer);
}
