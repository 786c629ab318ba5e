/* src/log/segment.c -- segments: finding them, and making the next one ahead of need.
 *
 * Making one is a chain of operations in the background: create under a temporary name, allocate, identity and zeros in
 * pieces, flush, rename, flush the folder. Its space counts from the moment it is allocated; nothing is
 * written into it before all of the chain is done. A full disk breaks the chain, which is then tried anew every
 * second; so does want of memory, which loses nothing but time.
 *
 * A commit that is flushed meanwhile waits for what the disk was given before. So a piece is short and is on the disk before the
 * next one begins: written past the page cache where the file system can, which saves a copy as well. Thread: the log's loop.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "log/inside.h"

enum {
	RETRY_MS = 1000,
	PACE_BYTES_PER_S = 100 << 20,
	PIECE_BYTES = 128 << 10,
	PIECE_CACHED_BYTES = 512 << 10
};

enum step { CREATE, ALLOCATE, IDENTITY, OPEN_DIRECT, FILL, FILL_SYNC, SYNC, RENAME, SYNC_DIRECTORY };

static const char *const step_texts[] = {
	"cannot create the next segment", "cannot allocate the next segment", "cannot write the next segment",
	"cannot open the next segment",   "cannot write the next segment",    "cannot flush the next segment",
	"cannot flush the next segment",  "cannot rename the next segment",   "cannot flush the folder",
};

struct log_segment *log_segment_new(uint64_t number)
{
	struct log_segment *segment = calloc(1, sizeof(*segment));
	if (segment)
		*segment = (struct log_segment){.number = number, .fd = -1};
	return segment;
}

struct log_segment *log_segment_free(struct log_segment *segment)
{
	free(segment);
	return NULL;
}

int log_segments_add(struct log *log, struct log_segment *segment)
{
	if (log->segments_count == log->segments_cap) {
		size_t cap = log->segments_cap ? 2 * log->segments_cap : 16;
		struct log_segment **segments = realloc(log->segments, cap * sizeof(struct log_segment *));
		if (!segments)
			return -ENOMEM;
		log->segments = segments;
		log->segments_cap = cap;
	}
	log->segments[log->segments_count++] = segment;
	return 0;
}

size_t log_segments_from(const struct log *log, uint64_t lsn)
{
	size_t low = 0, high = log->segments_count;
	if (high > 0 && log->segments[high - 1]->opening.base_lsn <= lsn)
		return high - 1; /* where what is appended stands */
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (log->segments[middle]->opening.base_lsn <= lsn)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 ? low - 1 : 0;
}

struct log_segment *log_segment_find(const struct log *log, uint64_t lsn)
{
	size_t at = log_segments_from(log, lsn);
	struct log_segment *segment = at < log->segments_count ? log->segments[at] : NULL;
	if (segment && lsn < segment->opening.base_lsn)
		return NULL;
	return segment && (segment->end_lsn == 0 || lsn < segment->end_lsn) ? segment : NULL;
}

uint64_t log_segment_end(const struct log *log, size_t index)
{
	const struct log_segment *segment = log->segments[index];
	if (segment->end_lsn > 0)
		return segment->end_lsn;
	return segment != log->append_segment ? log->append_segment->opening.base_lsn
	                                      : wh_mark_read(log->written);
}

static void on_evicted(wh_loop *loop, wh_res res, void *arg)
{
	log_op_end(arg);
}

/* Too many old segments are open: close the one that was read longest ago. */
void log_segment_evict(struct log *log)
{
	struct log_segment *oldest = NULL;
	if (log->files_open < LOG_FILES_OPEN_MAX)
		return;
	for (size_t i = 0; i + 1 < log->segments_count; i++) {
		struct log_segment *segment = log->segments[i];
		if (segment->fd >= 0 && segment->reads == 0 && (!oldest || segment->used < oldest->used))
			oldest = segment;
	}
	if (!oldest)
		return;
	log_op(log, wh_close(log->loop, oldest->fd), on_evicted);
	oldest->fd = -1;
	log->files_open--;
}

/* ---- making the next one ----------------------------------------------------------------- */

static void on_step(wh_loop *loop, wh_res res, void *arg);
static void lack_memory(struct log *log, int64_t error);

/* -EAGAIN: the loop has as many operations under way as it may have. */
static bool is_lack_of_memory(int64_t error)
{
	return error == -ENOMEM || error == -EAGAIN;
}

/* Shares of the next segment that are filled with zeros, and of the present one that are used up. */
static double share_filled(const struct log *log)
{
	return (double)log->making_filled / (double)log->next->bytes;
}

static double share_used(const struct log *log)
{
	const struct log_segment *current = log_current(log);
	return current && log->append_segment == current ? (double)log->append_offset / (double)current->bytes
	                                                 : 1;
}

/* Short, so that a commit does not wait long behind it; long, when commits would have to wait for the segment. */
static uint64_t piece_bytes(const struct log *log)
{
	uint64_t most = log->making_direct_fd >= 0 ? PIECE_BYTES : PIECE_CACHED_BYTES;
	uint64_t left = log->next->bytes - log->making_filled;
	if (share_filled(log) < share_used(log))
		most = LOG_FILL_BYTES;
	most -= log->making_filled % most;
	return left < most ? left : most;
}

static void start_step(struct log *log, int step)
{
	struct log_segment *segment = log->next;
	bool named = step == CREATE || step == OPEN_DIRECT || step == RENAME;
	bool direct = log->making_direct_fd >= 0;
	char *path = NULL, *to = NULL;
	wh_future f;
	log->making_step = step;
	if (named) {
		path = log_path(log, "seg-%016llx.tmp", (unsigned long long)log->making_name);
		to = log_path(log, "seg-%016llx.log", (unsigned long long)segment->number);
	}
	if (named && (!path || !to)) {
		free(path);
		free(to);
		lack_memory(log, -ENOMEM);
		return;
	}
	switch (step) {
	case CREATE:
		f = wh_open(log->loop, path, O_RDWR | O_CREAT | O_TRUNC, 0600);
		break;
	case ALLOCATE:
		f = wh_allocate(log->loop, log->making_fd, 0, segment->bytes);
		break;
	case IDENTITY:
		log_identity_put(log->making_block, &(struct log_identity){
							    .cluster = log->cluster,
							    .number = segment->number,
							    .salt = segment->salt,
							    .bytes = segment->bytes,
							    .made = wh_wall_now(log->loop),
						    });
		f = wh_pwrite_all(log->loop, log->making_fd, log->making_block, LOG_BLOCK_BYTES, 0);
		break;
	case OPEN_DIRECT:
		f = wh_open(log->loop, path, O_WRONLY | O_DIRECT, 0);
		break;
	case FILL:
		f = wh_pwrite_all(log->loop, direct ? log->making_direct_fd : log->making_fd, log->zeros,
		                  piece_bytes(log), log->making_filled);
		break;
	case FILL_SYNC:
		f = wh_sync_range(log->loop, log->making_fd, log->making_piece,
		                  log->making_filled - log->making_piece, LOG_WRITE_OUT);
		break;
	case SYNC:
		f = wh_fsync(log->loop, log->making_fd, false);
		break;
	case RENAME:
		f = wh_rename(log->loop, path, to);
		break;
	default:
		f = wh_fsync(log->loop, log->directory_fd, false);
		break;
	}
	free(path);
	free(to);
	log_op(log, f, on_step);
}

static void on_retry(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	log->retry_armed = false;
	if (log->closing || log->failed)
		return;
	if (log->next)
		start_step(log, log->making_step);
	else
		log_segment_need_next(log);
}

static void retry_later(struct log *log)
{
	log->retry_timer = wh_sleep(log->loop, RETRY_MS * WH_NS_PER_MS);
	log->retry_armed = true;
	log_op(log, log->retry_timer, on_retry);
}

static void on_given_up(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log) || log->closing || log->failed)
		return;
	retry_later(log);
}

static void on_descriptor_closed(wh_loop *loop, wh_res res, void *arg)
{
	log_op_end(arg);
}

static void close_making(struct log *log, int *fd)
{
	if (*fd >= 0)
		log_op(log, wh_close(log->loop, *fd), on_descriptor_closed);
	*fd = -1;
}

/* Give back what there is of it, and try again later: with the same number, so that what cannot be removed for want
 * of memory is cut off then. */
static void give_up(struct log *log)
{
	char *path = log_path(log, "seg-%016llx.tmp", (unsigned long long)log->making_name);
	log->next_state = LOG_NEXT_NONE;
	log->next = log_segment_free(log->next);
	close_making(log, &log->making_direct_fd);
	close_making(log, &log->making_fd);
	log_room_changed(log);
	if (path)
		log_op(log, wh_unlink(log->loop, path), on_given_up);
	else
		retry_later(log);
	free(path);
}

static void lack_space(struct log *log)
{
	if (!log->full)
		log_notice(log, WH_LOG_WARNING,
		           "%s: no space for another segment of the log; only what ends work is accepted "
		           "until there is",
		           log->path);
	log->full = true;
	give_up(log);
}

/* The making stopped at .making_step for want of memory. What an fsync has told cannot be asked again: with groups that
 * have their places here already, the log ends. A log that is being opened has nobody to wait for it. */
static void lack_memory(struct log *log, int64_t error)
{
	int step = log->making_step;
	bool placed = log->append_segment == log->next;
	if (!log_current(log) ||
	    (placed && step != IDENTITY && step != OPEN_DIRECT && step != FILL && step != RENAME)) {
		log_fail(log, error, step_texts[step], log->path);
		return;
	}
	log_notice(log, WH_LOG_WARNING, "%s: %s: no memory; tried again in a second", log->path,
	           step_texts[step]);
	if (placed)
		retry_later(log);
	else
		give_up(log);
}

static void next_is_ready(struct log *log)
{
	log->next->fd = log->making_fd;
	log->making_fd = -1;
	log->files_open++;
	log->disk_bytes += log->next->bytes;
	log->next_state = LOG_NEXT_READY;
	if (log->full)
		log_notice(log, WH_LOG_INFO, "%s: there is space again", log->path);
	log->full = false;
	log_room_changed(log);
	log_pump_soon(log);
}

static void on_pace(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	log->pace_armed = false;
	if (!log->closing && !log->failed)
		start_step(log, FILL);
}

/* Is there time? The zeros keep well ahead of what is being used up in the present segment. */
static bool may_rest(const struct log *log)
{
	return share_filled(log) > 2 * share_used(log) + 0.125;
}

/* The last piece is on the disk. The next one: at once, or after a rest that leaves the disk to those who wait for it. */
static void fill_on(struct log *log)
{
	uint64_t bytes = log->making_filled - log->making_piece;
	log->making_piece = log->making_filled;
	if (log->making_filled == log->next->bytes) {
		close_making(log, &log->making_direct_fd);
		start_step(log, SYNC);
	} else if (!may_rest(log)) {
		start_step(log, FILL);
	} else {
		log->pace_timer = wh_sleep(log->loop, (int64_t)(bytes * WH_NS_PER_S / PACE_BYTES_PER_S));
		log->pace_armed = true;
		log_op(log, log->pace_timer, on_pace);
	}
}

/* Not past the page cache, then: the file system cannot, or wants other bounds. */
static void fill_cached(struct log *log)
{
	close_making(log, &log->making_direct_fd);
	start_step(log, FILL);
}

static void on_step(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	int step = log->making_step;
	if (step == CREATE && res.n >= 0)
		log->making_fd = (int)res.n;
	if (step == OPEN_DIRECT && res.n >= 0)
		log->making_direct_fd = (int)res.n;
	if (log->closing || log->failed)
		return; /* what is unfinished is removed at the next start */
	if (step == OPEN_DIRECT || (step == FILL && res.n == -EINVAL && log->making_direct_fd >= 0)) {
		if (res.n < 0)
			fill_cached(log);
		else
			start_step(log, FILL);
		return;
	}
	if (step == FILL_SYNC && res.n == -ENOSYS) {
		fill_on(log); /* then it is written out when all of it is */
		return;
	}
	if (step == ALLOCATE && (res.n == -EOPNOTSUPP || res.n == -ENOSYS)) {
		start_step(log, IDENTITY); /* then the space counts when the zeros are there */
		return;
	}
	/* once its space was allocated, groups have their places in it: then it is too late to do without */
	if ((res.n == -ENOSPC || res.n == -EDQUOT) && log->append_segment != log->next) {
		lack_space(log);
		return;
	}
	if (is_lack_of_memory(res.n)) {
		lack_memory(log, res.n);
		return;
	}
	if (res.n < 0) {
		log_fail(log, res.n, step_texts[step], log->path);
		return;
	}
	switch (step) {
	case CREATE:
		start_step(log, ALLOCATE);
		break;
	case ALLOCATE:
		log->next_state = LOG_NEXT_ALLOCATED;
		log_room_changed(log);
		start_step(log, IDENTITY);
		break;
	case IDENTITY:
		log->making_piece = log->making_filled = LOG_BLOCK_BYTES;
		start_step(log, OPEN_DIRECT);
		break;
	case FILL:
		log->making_filled += (uint64_t)res.n;
		if (log->making_direct_fd >= 0)
			fill_on(log);
		else
			start_step(log, FILL_SYNC);
		break;
	case FILL_SYNC:
		fill_on(log);
		break;
	case SYNC_DIRECTORY:
		next_is_ready(log);
		break;
	default:
		start_step(log, step + 1);
		break;
	}
}

/* Of a segment that is not needed any more: its blocks are there, and written, so that flushing into them changes no metadata.
 * They are filled with zeros all the same: docs/design/log.md says why. */
static void take_recycled(struct log *log)
{
	struct log_segment *old = log->recycled[--log->recycled_count];
	log->making_name = old->number;
	log->making_fd = old->fd;
	log->files_open--;
	log_segment_free(old);
	log->stats.recycled++;
	log->next_state = LOG_NEXT_ALLOCATED;
	log_room_changed(log);
	start_step(log, IDENTITY);
}

/* There is no next segment: take one that is left from an earlier life, or begin making one. */
void log_segment_need_next(struct log *log)
{
	assert(log->next_state == LOG_NEXT_NONE && !log->next);
	if (log->spares_count > 0) {
		log->next = log->spares[0];
		log->spares_count--;
		memmove(log->spares, log->spares + 1, log->spares_count * sizeof(struct log_segment *));
		log->next_state = LOG_NEXT_READY;
		log_room_changed(log);
		return;
	}
	struct log_segment *last = log_current(log);
	log->next = log_segment_new(last ? last->number + 1 : log->manifest.first_segment);
	if (!log->next) {
		if (last)
			retry_later(log);
		else
			log_fail(log, -ENOMEM, step_texts[CREATE], log->path);
		return;
	}
	log->next->bytes = log->options.segment_bytes;
	wh_random(log->loop, &log->next->salt, sizeof(log->next->salt));
	log->next_state = LOG_NEXT_MAKING;
	log->making_filled = 0;
	log->making_name = log->next->number;
	if (log->recycled_count > 0)
		take_recycled(log);
	else
		start_step(log, CREATE);
}

void log_segment_hurry(struct log *log)
{
	if (log->pace_armed)
		wh_cancel(log->pace_timer);
}

void log_segment_space_came(struct log *log)
{
	if (!log->next && log->retry_armed)
		wh_cancel(log->retry_timer);
}

void log_segment_retry_stop(struct log *log)
{
	if (log->retry_armed)
		wh_cancel(log->retry_timer);
	if (log->pace_armed)
		wh_cancel(log->pace_timer);
}
