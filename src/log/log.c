/* src/log/log.c -- open and close, failure, and the bookkeeping that the log's files share.
 *
 * Thread: the log's loop.
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/inside.h"

enum { REFUSED_MS = 5 };

/* ---- shared ------------------------------------------------------------------------------ */

static void log_free(struct log *log)
{
	for (size_t i = 0; i < log->segments_count; i++)
		log_segment_free(log->segments[i]);
	for (size_t i = 0; i < log->spares_count; i++)
		log_segment_free(log->spares[i]);
	log_segment_free(log->next);
	log_checkpoint_free(log);
	log_release_free(log);
	log_scan_free(log);
	log_buffers_free(log);
	free(log->segments);
	free(log->spares);
	free(log->epochs);
	free(log->zeros);
	free(log->making_block);
	free(log->manifest_block);
	free(log->opening_block);
	free(log->path);
	wh_mark_close(log->quiet);
	wh_mark_close(log->appended);
	wh_mark_close(log->written);
	wh_mark_close(log->flushed);
	wh_mark_close(log->room);
	free(log);
}

static void on_refused(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	wh_callback *refused[LOG_REFUSED_MAX];
	size_t count = log->refused_count;
	log_slot_hold(log, &log->refused_slot);
	memcpy(refused, log->refused, sizeof(refused));
	log->refused_count = 0;
	for (size_t i = 0; i < count; i++) /* the last one may free the log */
		refused[i](loop, (wh_res){-ENOMEM, NULL}, log);
}

void log_op(struct log *log, wh_future f, wh_callback *callback)
{
	int status = wh_then(f, callback, log);
	if (status < 0 && log->refused_count < LOG_REFUSED_MAX) {
		if (log->refused_count == 0) {
			(void)wh_drop(log->refused_slot);
			status = wh_then(wh_sleep(log->loop, REFUSED_MS * WH_NS_PER_MS), on_refused, log);
		} else {
			status = 0;
		}
		if (status == 0)
			log->refused[log->refused_count++] = callback;
	}
	if (status == 0)
		log->ops++;
	else
		log_fail(log, status, "cannot wait for an operation", log->path);
}

void log_slot_hold(struct log *log, wh_future *slot)
{
	*slot = wh_promise(log->loop, NULL, NULL);
	(void)!wh_resolve(*slot, 0, NULL);
}

bool log_op_end(struct log *log)
{
	assert(log->ops > 0);
	log->ops--;
	if (log->gone) {
		if (log->ops == 0)
			log_free(log);
		return false;
	}
	if (log->closing && log->ops == 0)
		wh_mark_raise(log->quiet, 1);
	return true;
}

void log_notice(struct log *log, int level, const char *format, ...)
{
	char line[512];
	va_list args;
	if (!log->options.notice)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	log->options.notice(level, line, log->options.notice_arg);
}

void log_fail(struct log *log, int64_t error, const char *what, const char *file)
{
	char message[640];
	if (log->failed)
		return;
	log->failed = error;
	wh_mark_fail(log->written, error);
	wh_mark_fail(log->flushed, error);
	wh_mark_fail(log->appended, error);
	wh_mark_fail(log->room, error);
	snprintf(message, sizeof(message),
	         "the log has failed and accepts nothing any more: %s: %s: %s. What was acknowledged as "
	         "flushed "
	         "is safe; start again to find out what the disk holds",
	         what, file, wh_strerror(error));
	if (log->options.on_failure && !log->closing)
		log->options.on_failure(log->options.failure_arg, error, message);
	log_checkpoint_failed(log);
}

void log_room_changed(struct log *log)
{
	wh_mark_raise(log->room, ++log->room_count);
}

int64_t log_await(wh_future f)
{
	return wh_await(f).n;
}

char *log_path(const struct log *log, const char *format, ...)
{
	char name[128], *path;
	va_list args;
	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	size_t size = strlen(log->path) + strlen(name) + 2;
	path = malloc(size);
	if (path)
		snprintf(path, size, "%s/%s", log->path, name);
	return path;
}

int log_epoch_add(struct log *log, uint32_t epoch, uint32_t reason, uint64_t start)
{
	size_t at = log->epochs_count;
	while (at > 0 && log->epochs[at - 1].epoch > epoch)
		at--;
	if (at > 0 && log->epochs[at - 1].epoch == epoch)
		return 0;
	if (log->epochs_count == log->epochs_cap) {
		size_t cap = log->epochs_cap ? 2 * log->epochs_cap : 16;
		struct log_epoch *epochs = realloc(log->epochs, cap * sizeof(*epochs));
		if (!epochs)
			return -ENOMEM;
		log->epochs = epochs;
		log->epochs_cap = cap;
	}
	memmove(log->epochs + at + 1, log->epochs + at, (log->epochs_count - at) * sizeof(*log->epochs));
	log->epochs[at] = (struct log_epoch){epoch, reason, start};
	log->epochs_count++;
	return 0;
}

/* ---- open -------------------------------------------------------------------------------- */

static int64_t or_default(int64_t value, int64_t otherwise)
{
	return value ? value : otherwise;
}

static bool options_are_right(const struct log_options *options)
{
	return options->path && *options->path && options->segment_bytes >= LOG_SEGMENT_BYTES_MIN &&
	       options->segment_bytes <= LOG_SEGMENT_BYTES_MAX &&
	       options->segment_bytes % LOG_BLOCK_BYTES == 0 && options->group_bytes >= 2 * LOG_BLOCK_BYTES &&
	       options->group_bytes <= LOG_GROUP_BYTES_MAX && options->group_bytes % LOG_BLOCK_BYTES == 0 &&
	       options->async_window_ns >= 0 && options->backpressure_ns >= 0 && options->seal_ns >= 0;
}

static struct log_options with_defaults(const struct log_options *options)
{
	struct log_options o = *options;
	o.segment_bytes = o.segment_bytes ? o.segment_bytes : UINT64_C(64) << 20;
	o.group_bytes = o.group_bytes ? o.group_bytes : LOG_GROUP_BYTES_MAX;
	if (o.group_bytes > o.segment_bytes - LOG_SEGMENT_HEAD_BYTES)
		o.group_bytes = o.segment_bytes - LOG_SEGMENT_HEAD_BYTES;
	o.async_window_ns = or_default(o.async_window_ns, 10 * WH_NS_PER_MS);
	o.async_window_bytes = o.async_window_bytes ? o.async_window_bytes : 1 << 20;
	o.backpressure_ns = or_default(o.backpressure_ns, WH_NS_PER_S);
	o.seal_ns = or_default(o.seal_ns, 5 * WH_NS_PER_MS);
	o.unwritten_bytes_max = o.unwritten_bytes_max ? o.unwritten_bytes_max : UINT64_C(64) << 20;
	return o;
}

/* A log with nothing in it but memory; NULL: no memory. */
struct log *log_new(wh_loop *loop, const struct log_options *options)
{
	struct log *log = calloc(1, sizeof(*log));
	if (!log)
		return NULL;
	log->loop = loop;
	log->options = *options;
	log->options.path = NULL;
	log->directory_fd = log->lock_fd = log->making_fd = log->making_direct_fd = -1;
	log->manifest_fd[0] = log->manifest_fd[1] = -1;
	log->group_max = (uint32_t)options->group_bytes;
	log->path = strdup(options->path);
	log->zeros = aligned_alloc(LOG_BLOCK_BYTES, LOG_FILL_BYTES);
	log->making_block = aligned_alloc(LOG_BLOCK_BYTES, LOG_BLOCK_BYTES);
	log->manifest_block = aligned_alloc(LOG_BLOCK_BYTES, LOG_BLOCK_BYTES);
	log->opening_block = aligned_alloc(LOG_BLOCK_BYTES, LOG_BLOCK_BYTES);
	if (!log->path || !log->zeros || !log->making_block || !log->manifest_block || !log->opening_block ||
	    wh_mark_open(loop, &log->quiet, 0) < 0 || wh_mark_open(loop, &log->appended, 0) < 0 ||
	    wh_mark_open(loop, &log->written, 0) < 0 || wh_mark_open(loop, &log->flushed, 0) < 0 ||
	    wh_mark_open(loop, &log->room, 0) < 0) {
		log_free(log);
		return NULL;
	}
	memset(log->zeros, 0, LOG_FILL_BYTES);
	log_slot_hold(log, &log->flush_slot);
	log_slot_hold(log, &log->pump_slot);
	log_slot_hold(log, &log->refused_slot);
	return log;
}

static void close_fd(int *fd, wh_loop *loop)
{
	if (*fd >= 0)
		(void)log_await(wh_close(loop, *fd));
	*fd = -1;
}

/* A segment whose making was interrupted is of no use to anybody. */
static void remove_unfinished(struct log *log)
{
	if (!log->next || log->next_state == LOG_NEXT_READY)
		return;
	char *path = log_path(log, "seg-%016llx.tmp", (unsigned long long)log->making_name);
	if (path)
		(void)log_await(wh_unlink(log->loop, path));
	free(path);
}

/* Everything is over: give back what the system gave. */
void log_release(struct log *log)
{
	log->closing = true;
	log_timers_stop(log);
	log_segment_retry_stop(log);
	if (log->ops > 0)
		(void)log_await(wh_mark_wait(log->quiet, 1));
	if (log->ops == 0) {
		log_checkpoint_abandon(log);
		log_scan_abandon(log);
		log_release_abandon(log);
	}
	(void)wh_drop(log->flush_slot);
	(void)wh_drop(log->pump_slot);
	(void)wh_drop(log->refused_slot);
	for (size_t i = 0; i < log->segments_count; i++)
		close_fd(&log->segments[i]->fd, log->loop);
	for (size_t i = 0; i < log->spares_count; i++)
		close_fd(&log->spares[i]->fd, log->loop);
	if (log->next)
		close_fd(&log->next->fd, log->loop);
	close_fd(&log->making_direct_fd, log->loop);
	close_fd(&log->making_fd, log->loop);
	remove_unfinished(log);
	close_fd(&log->manifest_fd[0], log->loop);
	close_fd(&log->manifest_fd[1], log->loop);
	close_fd(&log->directory_fd, log->loop);
	close_fd(&log->lock_fd, log->loop);
	if (log->ops > 0)
		log->gone = true; /* the loop has died; its end completes them */
	else
		log_free(log);
}

/* A new log: its first segment is there before any epoch is given out. */
static int64_t wait_for_first_segment(struct log *log)
{
	int64_t status = 0;
	while (!log_current(log) && log->next_state != LOG_NEXT_READY && status == 0)
		status = log->full ? -ENOSPC : log_await(log_room_wait(log));
	return status;
}

static int64_t append_epoch(struct log *log, uint32_t reason)
{
	uint8_t fixed[LOG_EPOCH_FIXED_BYTES];
	int64_t status;
	do {
		status = log_begin(log, log_record_bytes(sizeof(fixed), 0), LOG_ESSENTIAL);
	} while (status == -EAGAIN && (status = log_await(log_room_wait(log))) == 0);
	if (status < 0)
		return status;
	log_epoch_put(fixed, log->epoch, reason, log->open->lsn);
	log_append_any(log, &(struct log_append){.type = LOG_TYPE_EPOCH,
	                                         .version = LOG_EPOCH_VERSION,
	                                         .fixed_bytes = sizeof(fixed),
	                                         .fixed = fixed});
	struct log_commit commit = log_commit(log, LOG_LOCAL);
	return log_await(wh_mark_wait(commit.mark, commit.lsn));
}

/* The new epoch: in the manifest, then in the log, both durable before anybody learns of it. */
static int begin_epoch(struct log *log, struct log_problem *problem)
{
	bool clean = log->manifest.flags & LOG_MANIFEST_CLEAN;
	uint32_t reason = log->epochs_count == 0 ? LOG_EPOCH_CREATED
	                  : clean                ? LOG_EPOCH_START
	                                         : LOG_EPOCH_RECOVERED;
	log_segment_need_next(log);
	int64_t status = wait_for_first_segment(log);
	if (status < 0)
		return log_problem_io(problem, status, log->path, "cannot make the first segment of the log");
	status = log_epoch_add(log, ++log->epoch, reason, log->append_lsn);
	if (status == 0) {
		log_manifest_fill(log, 0);
		status = log_manifest_save(log);
	}
	if (status < 0)
		return log_problem_io(problem, status, log->path,
		                      "cannot write the manifest of the new epoch");
	status = append_epoch(log, reason);
	return status < 0 ? log_problem_io(problem, status, log->path, "cannot begin the new epoch") : 0;
}

int log_look(wh_loop *loop, const struct log_options *options, struct log_look *ret,
             struct log_problem *ret_problem)
{
	struct log_problem unused;
	struct log_problem *problem = ret_problem ? ret_problem : &unused;
	struct log_options o = with_defaults(options);
	*ret = (struct log_look){0};
	struct log *log = log_new(loop, &o);
	if (!log)
		return log_problem_io(problem, -ENOMEM, o.path, "no memory");
	log->looking = true;
	int status = log_look_over(log, ret, problem);
	log_release(log);
	return status;
}

void log_look_fini(struct log_look *look)
{
	free(look->epochs);
	free(look->segments);
	*look = (struct log_look){0};
}

int log_open(wh_loop *loop, const struct log_options *options, struct log **ret,
             struct log_problem *ret_problem)
{
	struct log_problem unused;
	struct log_problem *problem = ret_problem ? ret_problem : &unused;
	struct log_options o = with_defaults(options);
	*problem = (struct log_problem){.kind = LOG_PROBLEM_OPTIONS, .error = -EINVAL, .exit_status = 4};
	if (!options_are_right(&o)) {
		snprintf(problem->reason, sizeof(problem->reason), "an option of the log is out of range");
		return -EINVAL;
	}
	struct log *log = log_new(loop, &o);
	if (!log)
		return log_problem_io(problem, -ENOMEM, o.path, "no memory");
	int status = log_recover(log, problem);
	if (status == 0)
		status = begin_epoch(log, problem);
	if (status < 0) {
		log_release(log);
		return status;
	}
	if (log->manifests_valid[0] && log->manifests_valid[1] &&
	    log->manifest_other.checkpoint.lsn != log->manifest.checkpoint.lsn)
		log_checkpoint_forget(log, log->manifest_other.checkpoint.lsn);
	log_checkpoint_named(log); /* by this life, too */
	*ret = log;
	return 0;
}

/* ---- close ------------------------------------------------------------------------------- */

/* All that was appended is flushed: say so on disk. */
static void end_cleanly(struct log *log)
{
	struct log_segment *segment = log_current(log);
	log_seal(log);
	log_write_pending(log);
	if (log->failed)
		return;
	int64_t status = wh_fsync_blocking(log->loop, segment->fd, true);
	if (status < 0) {
		log_fail(log, status, "cannot flush", log->path);
		return;
	}
	log_manifest_fill(log, LOG_MANIFEST_CLEAN);
	log->manifest.durable_lsn = log->append_lsn;
	log->manifest.chain = log->chain;
	status = log_manifest_save(log);
	if (status == -ENOSPC || status == -EDQUOT)
		log_notice(log, WH_LOG_WARNING,
		           "%s: no space to say that the log was closed in order: the next start reads it as "
		           "after a crash",
		           log->path);
	else if (status < 0)
		log_fail(log, status, "cannot write the manifest", log->path);
}

int log_close(struct log *log)
{
	if (!log)
		return 0;
	assert(!log->in_commit);
	log->draining = true;
	log_pump_soon(log);
	if (!log->failed) {
		/* A turn, so that what is open gets closed: then appended is the end of a group. */
		if (log->open && log->open->record_count > 0)
			log_group_close(log, 0);
		(void)log_await(wh_mark_wait(log->flushed, wh_mark_read(log->appended)));
	}
	log->closing = true;
	log_timers_stop(log);
	log_segment_retry_stop(log);
	if (log->ops > 0)
		(void)log_await(wh_mark_wait(log->quiet, 1));
	if (log->ops == 0)
		log_checkpoint_abandon(log);
	if (!log->failed && log->ops == 0)
		end_cleanly(log);
	int status = (int)log->failed;
	log_release(log);
	return status;
}

/* ---- small ------------------------------------------------------------------------------- */

wh_mark *log_appended(const struct log *log)
{
	return log->appended;
}

wh_mark *log_written(const struct log *log)
{
	return log->written;
}

wh_mark *log_flushed(const struct log *log)
{
	return log->flushed;
}

bool log_full(const struct log *log)
{
	return log->full;
}

bool log_waits_for_space(const struct log *log)
{
	return log->manifest_full;
}

int64_t log_failed(const struct log *log)
{
	return log->failed;
}

wh_future log_room_wait(struct log *log)
{
	return wh_mark_wait(log->room, log->room_count + 1);
}

uint32_t log_epoch(const struct log *log)
{
	return log->epoch;
}

size_t log_epochs(const struct log *log, const struct log_epoch **ret)
{
	*ret = log->epochs;
	return log->epochs_count;
}

void log_epochs_lost(struct log *log, uint64_t from)
{
	for (size_t i = 0; i < log->epochs_count; i++)
		if (log->epochs[i].start > from)
			log->epochs[i].start = from;
}

int log_epoch_end(const struct log *log, uint32_t epoch, uint64_t *ret)
{
	if (epoch == 0 || epoch > log->epoch)
		return -ENOENT;
	if (epoch == log->epoch)
		return -EINPROGRESS;
	size_t at = log->epochs_count - 1;
	while (at > 0 && log->epochs[at - 1].epoch > epoch)
		at--;
	*ret = log->epochs[at].start;
	return 0;
}

uint64_t log_segment_number(const struct log *log, uint64_t location)
{
	const struct log_segment *segment = log_segment_find(log, location);

	return segment ? segment->number : LOG_SEGMENT_NONE;
}

uint64_t log_bytes_held(const struct log *log, uint64_t from, uint64_t until)
{
	uint64_t held = 0;

	for (size_t i = log_segments_from(log, from); i < log->segments_count; i++) {
		uint64_t base = log->segments[i]->opening.base_lsn, end = log_segment_end(log, i);

		if (base >= until)
			break;
		base = base > from ? base : from;
		end = end < until ? end : until;
		held += end > base ? end - base : 0;
	}
	return held;
}

void log_stats(const struct log *log, struct log_stats *ret)
{
	*ret = log->stats;
	ret->segments = log->segments_count + log->spares_count + (log->next_state == LOG_NEXT_READY);
	ret->disk_bytes = log->disk_bytes;
	ret->unwritten_bytes = log->pending_bytes + (log->open ? log->open->used : 0);
	ret->unflushed_ns = log->unflushed_since ? wh_clock(log->loop) - log->unflushed_since : 0;
	ret->full = log->full;
	if (log->segments_count > 0) {
		ret->segment_oldest = log->segments[0]->number;
		ret->segment_newest = log_current(log)->number;
	}
	ret->segment_bytes = log->options.segment_bytes;
	ret->checkpoint_lsn = log->manifest.checkpoint.lsn;
	ret->checkpoint_bytes = log->manifest.checkpoint.bytes;
}
