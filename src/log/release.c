/* src/log/release.c -- segments below the checkpoint: which there are, letting them go, and pins that keep everything.
 *
 * A segment that is released is unknown at once; its file goes in the background, one at a time, when no read of it is under
 * way and no pin has it: those hold what was there when they were made, and nothing that came later. One or two files that are as long as new segments are made lose their name, durably, and
 * become the next segments (segment.c); the others are removed. Not a byte of a file changes while it has the name of a
 * segment: after a crash the name may be there again, but then so is the content. Thread: the log's loop.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/inside.h"

enum step { OPEN, RENAME, SYNC_DIRECTORY, UNLINK };

/* ---- what there is ----------------------------------------------------------------------- */

/* The index of a segment; -1: there is none of that number. */
static ptrdiff_t find_number(const struct log *log, uint64_t number)
{
	size_t low = 0, high = log->segments_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (log->segments[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < log->segments_count && log->segments[low]->number == number ? (ptrdiff_t)low : -1;
}

struct log_segment *log_segment_by_number(const struct log *log, uint64_t number)
{
	ptrdiff_t at = find_number(log, number);
	return at < 0 ? NULL : log->segments[at];
}

size_t log_segments_list(const struct log *log, struct log_segment_info *ret, size_t cap)
{
	for (size_t i = 0; i < log->segments_count && i < cap; i++) {
		const struct log_segment *segment = log->segments[i];
		ret[i] = (struct log_segment_info){.number = segment->number,
		                                   .base_lsn = segment->opening.base_lsn,
		                                   .end_lsn = log_segment_end(log, i),
		                                   .file_bytes = segment->bytes,
		                                   .below = segment->number < log->below};
	}
	return log->segments_count;
}

/* ---- letting go -------------------------------------------------------------------------- */

static void on_step(wh_loop *loop, wh_res res, void *arg);

static void start(struct log *log, int step, wh_future f)
{
	log->releasing_step = step;
	log->releasing_busy = true;
	log_op(log, f, on_step);
}

static char *name_path(struct log *log, const char *suffix)
{
	return log_path(log, "seg-%016llx.%s", (unsigned long long)log->releasing->number, suffix);
}

/* A step that needs one path or two; without memory the file stays, and the next start removes it. */
static bool start_named(struct log *log, int step)
{
	char *path = name_path(log, "log"), *temporary = name_path(log, "tmp");
	bool good = path && temporary;
	if (good && step == OPEN)
		start(log, step, wh_open(log->loop, path, O_RDWR, 0));
	else if (good && step == RENAME)
		start(log, step, wh_rename(log->loop, path, temporary));
	else if (good)
		start(log, step, wh_unlink(log->loop, log->releasing_renamed ? temporary : path));
	free(path);
	free(temporary);
	return good;
}

static void on_closed(wh_loop *loop, wh_res res, void *arg)
{
	log_op_end(arg);
}

static void close_segment(struct log *log, struct log_segment *segment)
{
	if (segment->fd < 0)
		return;
	log_op(log, wh_close(log->loop, segment->fd), on_closed);
	segment->fd = -1;
	log->files_open--;
}

/* The file is gone, or as good as. */
static void done(struct log *log)
{
	close_segment(log, log->releasing);
	log->releasing = log_segment_free(log->releasing);
	log_release_go_on(log);
}

static void remove_it(struct log *log)
{
	if (!start_named(log, UNLINK))
		done(log);
}

/* It has lost its name for good: one that need not be made. */
static void keep_for_later(struct log *log)
{
	struct log_segment *segment = log->releasing;
	log->recycled[log->recycled_count++] = segment;
	log->releasing = NULL;
	log_segment_space_came(log);
	log_release_go_on(log);
}

static bool is_wanted(const struct log *log, const struct log_segment *segment)
{
	return segment->bytes == log->options.segment_bytes && log->recycled_count < LOG_RECYCLED_MAX;
}

static void on_step(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	log->releasing_busy = false;
	struct log_segment *segment = log->releasing;
	if (log->releasing_step == OPEN && res.n >= 0) {
		segment->fd = (int)res.n;
		log->files_open++;
	}
	if (log->closing || log->failed)
		return;
	switch (log->releasing_step) {
	case OPEN:
		if (res.n < 0 || !start_named(log, RENAME))
			remove_it(log);
		break;
	case RENAME:
		log->releasing_renamed = res.n >= 0;
		if (res.n < 0)
			remove_it(log);
		else
			start(log, SYNC_DIRECTORY, wh_fsync(log->loop, log->directory_fd, false));
		break;
	case SYNC_DIRECTORY:
		if (res.n == -EAGAIN || res.n == -ENOMEM) /* never begun */
			remove_it(log);
		else if (res.n < 0)
			log_fail(log, res.n, "cannot flush the folder", log->path);
		else
			keep_for_later(log);
		break;
	default:
		if (res.n < 0)
			log_notice(log, WH_LOG_WARNING,
			           "%s: segment %llu is not needed any more, but cannot be removed: %s",
			           log->path, (unsigned long long)segment->number, wh_strerror(res.n));
		done(log);
		break;
	}
}

struct log_pin {
	struct log_pin *next;
	struct log_pin_file *files;
	size_t count;
	uint64_t lsn, checkpoint; /* 0: none */
	uint64_t last;            /* segment */
	uint8_t manifest[LOG_BLOCK_BYTES];
};

static bool is_pinned(const struct log *log, const struct log_segment *segment)
{
	for (const struct log_pin *pin = log->pins; pin; pin = pin->next)
		if (segment->number <= pin->last)
			return true;
	return false;
}

bool log_checkpoint_is_pinned(const struct log *log, uint64_t lsn)
{
	for (const struct log_pin *pin = log->pins; pin; pin = pin->next)
		if (pin->checkpoint == lsn)
			return true;
	return false;
}

uint64_t log_pinned_bytes(const struct log *log)
{
	uint64_t bytes = 0;
	for (const struct log_segment *segment = log->released; segment; segment = segment->next)
		if (is_pinned(log, segment))
			bytes += segment->bytes;
	return bytes;
}

void log_release_go_on(struct log *log)
{
	if (log->releasing || log->closing || log->failed)
		return;
	struct log_segment **at = &log->released;
	while (*at && ((*at)->reads > 0 || is_pinned(log, *at)))
		at = &(*at)->next;
	struct log_segment *segment = *at;
	if (!segment)
		return;
	*at = segment->next;
	segment->next = NULL;
	log->releasing = segment;
	log->releasing_renamed = false;
	log->disk_bytes -= segment->bytes;
	close_segment(log, segment); /* it may have been opened for reading only */
	if (is_wanted(log, segment) && start_named(log, OPEN))
		return;
	remove_it(log);
}

int log_segment_release(struct log *log, uint64_t number)
{
	ptrdiff_t at = find_number(log, number);
	if (log->failed)
		return (int)log->failed;
	if (at < 0)
		return -ENOENT;
	if (number >= log->below)
		return -EINVAL;
	struct log_segment *segment = log->segments[at];
	if (log_scan_is_of(log, segment))
		return -EBUSY;
	log->segments_count--;
	memmove(log->segments + at, log->segments + at + 1,
	        (log->segments_count - (size_t)at) * sizeof(struct log_segment *));
	/* last come, last gone: the order does not matter, and there are few */
	segment->released = true;
	segment->next = log->released;
	log->released = segment;
	log->stats.released++;
	log_release_go_on(log);
	return 0;
}

/* The log is being closed, and nothing is under way: descriptors, and files without a name that counts. */
void log_release_abandon(struct log *log)
{
	struct log_segment *lists[LOG_RECYCLED_MAX + 2] = {log->released, log->releasing};
	for (size_t i = 0; i < log->recycled_count; i++) {
		char *path = log_path(log, "seg-%016llx.tmp", (unsigned long long)log->recycled[i]->number);
		if (path && !log->failed)
			(void)log_await(wh_unlink(log->loop, path));
		free(path);
		lists[2 + i] = log->recycled[i];
	}
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		for (struct log_segment *segment = lists[i]; segment; segment = segment->next) {
			if (segment->fd >= 0)
				(void)log_await(wh_close(log->loop, segment->fd));
			segment->fd = -1;
		}
}

void log_release_free(struct log *log)
{
	while (log->released) {
		struct log_segment *segment = log->released;
		log->released = segment->next;
		log_segment_free(segment);
	}
	log->releasing = log_segment_free(log->releasing);
	while (log->recycled_count > 0)
		log_segment_free(log->recycled[--log->recycled_count]);
}

/* ---- pins -------------------------------------------------------------------------------- */

static char *add_file(struct log_pin *pin, uint64_t bytes, uint64_t file_bytes)
{
	struct log_pin_file *file = &pin->files[pin->count++];
	*file = (struct log_pin_file){.bytes = bytes, .file_bytes = file_bytes};
	return file->name;
}

int log_pin(struct log *log, struct log_pin **ret)
{
	if (log->failed)
		return (int)log->failed;
	struct log_pin *pin = calloc(1, sizeof(*pin));
	if (pin)
		pin->files = calloc(log->segments_count + 1, sizeof(*pin->files));
	if (!pin || !pin->files) {
		free(pin);
		return -ENOMEM;
	}
	const struct log_checkpoint_name *checkpoint = &log->manifest.checkpoint;
	pin->lsn = wh_mark_read(log->flushed);
	pin->checkpoint = checkpoint->lsn;
	log_manifest_fill(log, 0);
	log_manifest_put(pin->manifest, &log->manifest);
	if (checkpoint->lsn > 0)
		snprintf(add_file(pin, checkpoint->bytes, checkpoint->bytes), LOG_PIN_NAME_BYTES,
		         LOG_CHECKPOINT_NAME, (unsigned long long)checkpoint->lsn);
	for (size_t i = 0; i < log->segments_count; i++) {
		const struct log_segment *segment = log->segments[i];
		uint64_t end = log_segment_end(log, i), base = segment->opening.base_lsn;
		end = end > pin->lsn ? pin->lsn : end;
		uint64_t bytes = LOG_SEGMENT_HEAD_BYTES + (end > base ? end - base : 0);
		snprintf(add_file(pin, bytes, segment->bytes), LOG_PIN_NAME_BYTES, "seg-%016llx.log",
		         (unsigned long long)segment->number);
		pin->last = segment->number;
	}
	pin->next = log->pins;
	log->pins = pin;
	*ret = pin;
	return 0;
}

size_t log_pin_files(const struct log_pin *pin, const struct log_pin_file **ret)
{
	*ret = pin->files;
	return pin->count;
}

const void *log_pin_manifest(const struct log_pin *pin)
{
	return pin->manifest;
}

uint64_t log_pin_lsn(const struct log_pin *pin)
{
	return pin->lsn;
}

struct log_pin *log_unpin(struct log *log, struct log_pin *pin)
{
	if (!pin)
		return NULL;
	struct log_pin **at = &log->pins;
	while (*at != pin)
		at = &(*at)->next;
	*at = pin->next;
	free(pin->files);
	free(pin);
	log_checkpoint_remove_old(log);
	log_release_go_on(log);
	return NULL;
}
