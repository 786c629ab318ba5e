/* src/log/cut.c -- what is not to be there: a torn tail, and what an earlier life left behind.
 *
 * The reader's step 8 of docs/format-log.md. Repeating it after a crash within it gives the same log. Thread: the log's
 * loop, outside callbacks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/recover.h"

/* The name under which the bytes behind the end are kept; one that is there already is not touched. */
static char *torn_path(struct log_recovery *r)
{
	char name[64];
	for (unsigned n = 1;; n++) {
		bool taken = false;
		snprintf(name, sizeof(name), "torn-%llu-%u.bin", (unsigned long long)r->scan.end_lsn, n);
		for (size_t i = 0; i < r->names->count; i++)
			taken |= strcmp(r->names->names[i], name) == 0;
		if (!taken)
			return log_path(r->log, "%s", name);
	}
}

static int64_t copy_torn(struct log_recovery *r, int fd, uint64_t *ret_bytes)
{
	for (size_t i = 0; i < r->scan.count; i++) {
		const struct log_scan_segment *segment = &r->scan.segments[i];
		for (uint64_t at = segment->dirty_from; at < segment->dirty_to; at += LOG_COPY_BYTES) {
			uint64_t len = segment->dirty_to - at < LOG_COPY_BYTES ? segment->dirty_to - at
			                                                       : LOG_COPY_BYTES;
			int64_t n = log_judge_read(r, i, r->buffer, len, at);
			if (n > 0)
				n = wh_pwrite_blocking(r->log->loop, fd, r->buffer, (size_t)n, *ret_bytes);
			if (n < 0)
				return n;
			*ret_bytes += (uint64_t)n;
		}
	}
	return 0;
}

static int64_t keep_torn(struct log_recovery *r)
{
	struct log *log = r->log;
	char *temporary = log_path(log, "torn.tmp"), *path = torn_path(r);
	uint64_t bytes = 0;
	int64_t n = temporary && path ? 0 : -ENOMEM;
	if (n == 0)
		n = log_await(wh_open(log->loop, temporary, O_RDWR | O_CREAT | O_TRUNC, 0600));
	if (n >= 0) {
		int fd = (int)n;
		n = copy_torn(r, fd, &bytes);
		if (n >= 0)
			n = wh_fsync_blocking(log->loop, fd, false);
		(void)log_await(wh_close(log->loop, fd));
	}
	if (n >= 0)
		n = log_await(wh_rename(log->loop, temporary, path));
	if (n >= 0)
		n = wh_fsync_blocking(log->loop, log->directory_fd, false);
	if (n >= 0)
		log_notice(log, WH_LOG_WARNING,
		           "%s: the log ended in a torn tail at lsn %llu (%s): %llu bytes that were never "
		           "acknowledged as "
		           "flushed are kept in %s",
		           log->path, (unsigned long long)r->scan.end_lsn, r->scan.reason,
		           (unsigned long long)bytes, path);
	else if (n == -ENOSPC)
		log_notice(log, WH_LOG_WARNING,
		           "%s: a torn tail at lsn %llu is cut off; the disk has no room to keep a copy",
		           log->path, (unsigned long long)r->scan.end_lsn);
	free(temporary);
	free(path);
	log->stats.torn_bytes = bytes;
	return n == -ENOSPC ? 0 : n;
}

static int64_t write_zeros(struct log_recovery *r, int fd, uint64_t from, uint64_t to)
{
	int64_t n = 0;
	while (from < to && n >= 0) {
		uint64_t len = to - from < LOG_FILL_BYTES ? to - from : LOG_FILL_BYTES;
		n = wh_pwrite_blocking(r->log->loop, fd, r->log->zeros, len, from);
		from += len;
	}
	return n < 0 ? n : 0;
}

/* Zeros from the end of the log on, wherever there is something else. */
int log_cut_tail(struct log_recovery *r)
{
	int64_t n = r->scan.torn ? keep_torn(r) : 0;
	size_t first = r->scan.opened > 0 ? r->scan.opened - 1 : 0;
	for (size_t i = first; i < r->scan.count && n >= 0; i++) {
		const struct log_scan_segment *segment = &r->scan.segments[i];
		if (segment->dirty_from >= segment->dirty_to)
			continue;
		n = log_judge_fd(r, i);
		int fd = (int)n;
		if (n >= 0)
			n = write_zeros(r, fd, segment->dirty_from, segment->dirty_to);
		if (n >= 0)
			n = wh_fsync_blocking(r->log->loop, fd, false);
	}
	return n < 0 ? log_problem_io(r->problem, n, r->log->path, "cannot cut off the torn tail") : 0;
}

static bool is_unfinished(const char *name)
{
	static const char *const ours[] = {"seg-", "manifest-", "torn", "checkpoint-"};
	size_t len = strlen(name);
	bool found = false;
	for (size_t i = 0; i < sizeof(ours) / sizeof(*ours); i++)
		found |= strncmp(name, ours[i], strlen(ours[i])) == 0;
	return found && len > 4 && strcmp(name + len - 4, ".tmp") == 0;
}

/* A checkpoint of which neither manifest speaks: never finished, or replaced. */
static bool is_unnamed(const struct log_recovery *r, const char *name)
{
	const struct log *log = r->log;
	uint64_t lsn;
	bool both = log->manifests_valid[0] && log->manifests_valid[1];
	return log_name_number(name, "checkpoint-", ".ckp", &lsn) && lsn != log->manifest.checkpoint.lsn &&
	       !(both && lsn == log->manifest_other.checkpoint.lsn);
}

/* A lower segment of which the checkpoint does not speak. */
static bool is_released(const struct log_recovery *r, const char *name)
{
	uint64_t number;
	if (!log_name_number(name, "seg-", ".log", &number) || number >= r->log->manifest.first_segment)
		return false;
	size_t low = 0, high = r->below_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (r->below[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low == r->below_count || r->below[low]->number != number;
}

int log_cut_leftovers(struct log_recovery *r)
{
	struct log *log = r->log;
	int64_t n = 0;
	for (size_t i = 0; i < r->names->count && n >= 0; i++) {
		const char *name = r->names->names[i];
		if (!is_unfinished(name) && !is_unnamed(r, name) && !is_released(r, name))
			continue;
		char *path = log_path(log, "%s", name);
		n = path ? log_await(wh_unlink(log->loop, path)) : -ENOMEM;
		n = n == -ENOENT ? 0 : n;
		free(path);
	}
	if (n >= 0 && r->count > 0 && r->found[r->count - 1].unused) {
		uint64_t number = r->found[r->count - 1].segment->number;
		char *path = log_path(log, "seg-%016llx.log", (unsigned long long)number);
		n = path ? log_await(wh_unlink(log->loop, path)) : -ENOMEM;
		free(path);
		log_notice(log, WH_LOG_WARNING,
		           "%s: segment %llu was damaged before its first use and is made anew", log->path,
		           (unsigned long long)number);
	}
	return n < 0 ? log_problem_io(r->problem, n, log->path, "cannot remove what an earlier start left")
	             : 0;
}
