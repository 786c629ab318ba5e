/* src/log/recover.c -- from a folder to a log that can go on: the reader's steps 1 to 7 of docs/format-log.md.
 *
 * Everything here happens once, before the log is there for anybody: it blocks. Nothing is changed in the folder
 * before all of it has been judged. Thread: the log's loop, outside callbacks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/inside.h"
#include "log/scan.h"

enum { READ_TRIES = 3, COPY_BYTES = 1 << 20 };

/* A segment file as it is found. */
struct found {
	struct log_segment *segment;
	int direct_fd; /* past the page cache; -1: read through .segment->fd */
	uint64_t size;
	bool unused; /* its identity is not valid, and nothing else is in it: to be made anew */
};

struct recovery {
	struct log *log;
	struct log_problem *problem;
	struct found *found;
	size_t count;
	struct log_scan scan;
	struct log_manifest as_found;
	struct wh_names *names;
	uint8_t *buffer; /* COPY_BYTES */
	int64_t told_at;
	uint64_t bytes_read;
};

int log_problem_io(struct log_problem *problem, int64_t error, const char *file, const char *reason)
{
	*problem = (struct log_problem){.kind = LOG_PROBLEM_IO, .error = error, .exit_status = 4};
	snprintf(problem->file, sizeof(problem->file), "%s", file);
	snprintf(problem->reason, sizeof(problem->reason), "%s", reason);
	return (int)error;
}

/* ---- 1: the folder and its lock ---------------------------------------------------------- */

/* Who we are, for whoever finds the folder locked: the number at the start of our own line in /proc. */
static size_t own_pid(struct log *log, char *to, size_t cap)
{
	char line[32] = "";
	int64_t fd = log_await(wh_open(log->loop, "/proc/self/stat", O_RDONLY, 0));
	if (fd < 0)
		return 0;
	int64_t n = wh_pread_blocking(log->loop, (int)fd, line, sizeof(line) - 1, 0);
	(void)log_await(wh_close(log->loop, (int)fd));
	size_t digits = n > 0 ? strspn(line, "0123456789") : 0;
	return (size_t)snprintf(to, cap, "%.*s\n", (int)digits, line);
}

static int refuse_held(struct log *log, struct log_problem *problem)
{
	char line[32] = "";
	int64_t n = wh_pread_blocking(log->loop, log->lock_fd, line, sizeof(line) - 1, 0);
	size_t digits = n > 0 ? strspn(line, "0123456789") : 0;
	*problem = (struct log_problem){.kind = LOG_PROBLEM_HELD, .error = -EBUSY, .exit_status = 4};
	snprintf(problem->file, sizeof(problem->file), "%s", log->path);
	if (digits > 0)
		snprintf(problem->reason, sizeof(problem->reason),
		         "the folder is in use by another server (process %.*s)", (int)digits, line);
	else
		snprintf(problem->reason, sizeof(problem->reason), "the folder is in use by another server");
	snprintf(problem->advice, sizeof(problem->advice), "Stop that one, or use another folder");
	return -EBUSY;
}

/* The same for looking: the folder must be there, and its lock may be missing (a copy, perhaps). */
static int look_at_folder(struct log *log, struct log_problem *problem)
{
	int64_t n = log_await(wh_open(log->loop, log->path, O_RDONLY | O_DIRECTORY, 0));
	if (n < 0)
		return log_problem_io(problem, n, log->path, "cannot open the folder");
	log->directory_fd = (int)n;
	char *path = log_path(log, "LOCK");
	n = path ? log_await(wh_open(log->loop, path, O_RDONLY, 0)) : -ENOMEM;
	free(path);
	if (n == -ENOENT)
		return 0;
	if (n >= 0) {
		log->lock_fd = (int)n;
		n = log_await(wh_lock(log->loop, log->lock_fd));
	}
	if (n == -EAGAIN)
		return refuse_held(log, problem);
	return n < 0 ? log_problem_io(problem, n, log->path, "cannot lock the folder") : 0;
}

static int take_folder(struct log *log, struct log_problem *problem)
{
	char pid[32];
	int64_t n = log_await(wh_mkdir(log->loop, log->path, 0700));
	if (n < 0 && n != -EEXIST)
		return log_problem_io(problem, n, log->path, "cannot make the folder");
	n = log_await(wh_open(log->loop, log->path, O_RDONLY | O_DIRECTORY, 0));
	if (n < 0)
		return log_problem_io(problem, n, log->path, "cannot open the folder");
	log->directory_fd = (int)n;
	char *path = log_path(log, "LOCK");
	n = path ? log_await(wh_open(log->loop, path, O_RDWR | O_CREAT, 0600)) : -ENOMEM;
	free(path);
	if (n < 0)
		return log_problem_io(problem, n, log->path, "cannot open the folder's lock");
	log->lock_fd = (int)n;
	n = log_await(wh_lock(log->loop, log->lock_fd));
	if (n == -EAGAIN)
		return refuse_held(log, problem);
	if (n < 0)
		return log_problem_io(problem, n, log->path, "cannot lock the folder");
	size_t len = own_pid(log, pid, sizeof(pid));
	n = log_await(wh_truncate(log->loop, log->lock_fd, 0));
	if (n >= 0 && len > 0)
		n = wh_pwrite_blocking(log->loop, log->lock_fd, pid, len, 0);
	if (n == -ENOSPC)
		n = 0; /* only a courtesy */
	return n < 0 ? log_problem_io(problem, n, log->path, "cannot write the folder's lock") : 0;
}

static int flush_folder(struct log *log, struct log_problem *problem)
{
	int64_t n = wh_fsync_blocking(log->loop, log->directory_fd, false);
	return n < 0 ? log_problem_io(problem, n, log->path, "cannot flush the folder") : 0;
}

/* A folder that is just being made may vanish with everything in it, until the folder that names it is flushed. Done
 * whenever there is no log yet, whoever made the folder: a start that was killed may have left it. */
static int flush_parent(struct log *log, struct log_problem *problem)
{
	char *path = log_path(log, "..");
	int64_t n = path ? log_await(wh_open(log->loop, path, O_RDONLY | O_DIRECTORY, 0)) : -ENOMEM;
	free(path);
	if (n == -EACCES) {
		log_notice(log, WH_LOG_WARNING,
		           "%s: the folder above cannot be opened, so the name of this one may not be on "
		           "disk yet",
		           log->path);
		return 0;
	}
	if (n >= 0) {
		int fd = (int)n;
		n = wh_fsync_blocking(log->loop, fd, false);
		(void)log_await(wh_close(log->loop, fd));
	}
	return n < 0 ? log_problem_io(problem, n, log->path, "cannot flush the folder above") : 0;
}

/* ---- 4: the segments --------------------------------------------------------------------- */

static int damaged(struct recovery *r, uint64_t number, uint64_t offset, const char *reason)
{
	struct log_problem *problem = r->problem;
	*problem = (struct log_problem){
		.kind = LOG_PROBLEM_DAMAGED, .error = -WH_EDAMAGED, .exit_status = 3, .offset = offset};
	snprintf(problem->file, sizeof(problem->file), "%s/seg-%016llx.log", r->log->path,
	         (unsigned long long)number);
	snprintf(problem->reason, sizeof(problem->reason), "%s", reason);
	snprintf(problem->advice, sizeof(problem->advice),
	         "Data that was durable has been lost. Nothing was changed: copy the folder before trying "
	         "anything, "
	         "and restore it from a backup");
	return -WH_EDAMAGED;
}

static int newer(struct recovery *r, uint64_t number, uint64_t offset, const char *reason)
{
	struct log_problem *problem = r->problem;
	*problem = (struct log_problem){
		.kind = LOG_PROBLEM_VERSION, .error = -ENOTSUP, .exit_status = 4, .offset = offset};
	snprintf(problem->file, sizeof(problem->file), "%s/seg-%016llx.log", r->log->path,
	         (unsigned long long)number);
	snprintf(problem->reason, sizeof(problem->reason), "%s", reason);
	snprintf(problem->advice, sizeof(problem->advice),
	         "A newer version of whilst wrote it: use that version, or a later one. Nothing was changed");
	return -ENOTSUP;
}

static bool segment_number(const char *name, uint64_t *ret)
{
	uint64_t number = 0;
	if (strlen(name) != 24 || memcmp(name, "seg-", 4) != 0 || strcmp(name + 20, ".log") != 0)
		return false;
	for (int i = 4; i < 20; i++) {
		const char *digits = "0123456789abcdef", *digit = strchr(digits, name[i]);
		if (!digit || name[i] == '\0')
			return false;
		number = number << 4 | (uint64_t)(digit - digits);
	}
	*ret = number;
	return true;
}

/* Names sort as their numbers do. Gives the segments that count: lower numbers than the first are left-overs. */
static int list_segments(struct recovery *r)
{
	struct log *log = r->log;
	wh_res res = wh_await(wh_list(log->loop, log->path));
	if (res.n < 0)
		return log_problem_io(r->problem, res.n, log->path, "cannot list the folder");
	r->names = res.ptr;
	r->found = calloc(r->names->count + 1, sizeof(*r->found));
	if (!r->found)
		return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
	for (size_t i = 0; i < r->names->count; i++) {
		uint64_t number;
		if (!segment_number(r->names->names[i], &number))
			continue;
		struct log_segment *segment = log_segment_new(number);
		if (!segment)
			return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
		r->found[r->count++] = (struct found){.segment = segment, .direct_fd = -1};
	}
	return 0;
}

static int check_numbers(struct recovery *r)
{
	const struct log_manifest *manifest = &r->log->manifest;
	uint64_t expected = manifest->first_segment;
	for (size_t i = 0; i < r->count; i++, expected++)
		if (r->found[i].segment->number != expected)
			return damaged(r, expected, 0, "the segment is missing");
	if (manifest->epoch > 0 && expected <= manifest->last_segment)
		return damaged(r, expected, 0, "the segment is missing");
	return 0;
}

/* len bytes, at once or at the end of the file; errors of the disk are tried again. */
static int64_t read_segment(void *arg, size_t index, void *buf, size_t len, uint64_t offset)
{
	struct recovery *r = arg;
	struct found *found = &r->found[index];
	int fd = found->direct_fd >= 0 ? found->direct_fd : found->segment->fd;
	int64_t n = 0, now;
	for (int i = 0; i < READ_TRIES; i++) {
		n = wh_pread_blocking(r->log->loop, fd, buf, len, offset);
		if (n != -EIO)
			break;
	}
	r->bytes_read += n > 0 ? (uint64_t)n : 0;
	now = wh_clock(r->log->loop);
	if (now - r->told_at >= WH_NS_PER_S) {
		r->told_at = now;
		log_notice(r->log, WH_LOG_INFO, "%s: reading the log, %llu MiB, segment %llu of %llu",
		           r->log->path, (unsigned long long)(r->bytes_read >> 20),
		           (unsigned long long)index + 1, (unsigned long long)r->count);
	}
	return n;
}

/* Nothing but zeros behind the identity? 1, 0, or an error. */
static int is_unused(struct recovery *r, size_t index)
{
	for (uint64_t at = LOG_BLOCK_BYTES;; at += COPY_BYTES) {
		int64_t n = read_segment(r, index, r->buffer, COPY_BYTES, at);
		if (n < 0)
			return log_problem_io(r->problem, n, r->log->path, "cannot read a segment");
		if (!log_is_zero(r->buffer, (size_t)n))
			return 0;
		if (n < COPY_BYTES)
			return 1;
	}
}

static int judge_identity(struct recovery *r, size_t index, int verdict, const struct log_identity *identity)
{
	struct found *found = &r->found[index];
	uint64_t number = found->segment->number;
	if (verdict == LOG_NEWER)
		return newer(r, number, 12, "a segment of a later format");
	if (verdict == LOG_GOOD &&
	    (identity->number != number || !log_hash_equal(identity->cluster, r->log->cluster)))
		return damaged(r, number, 16, "the segment belongs to another log or place");
	if (verdict == LOG_GOOD && found->size < identity->bytes)
		return damaged(r, number, found->size, "the segment is shorter than it was made");
	if (verdict == LOG_GOOD)
		return 0;
	/* A file that lost its end as well could have held anything. */
	bool later = number > r->log->manifest.last_segment || r->log->manifest.epoch == 0;
	bool sized = found->size == r->log->options.segment_bytes ||
	             (index > 0 && found->size == r->found[index - 1].segment->bytes);
	bool may_be_unused = later && sized && index + 1 == r->count;
	int unused = may_be_unused ? is_unused(r, index) : 0;
	if (unused < 0)
		return unused;
	if (unused == 0)
		return damaged(r, number, 0, "the segment's identity is damaged");
	found->unused = true;
	return 0;
}

static int open_segment(struct recovery *r, size_t index)
{
	struct log *log = r->log;
	struct found *found = &r->found[index];
	struct log_scan_segment *scan = &r->scan.segments[index];
	uint64_t number = found->segment->number;
	bool tail = number >= log->manifest.last_segment && !(log->manifest.flags & LOG_MANIFEST_CLEAN);
	char *path = log_path(log, "seg-%016llx.log", (unsigned long long)number);
	struct log_identity identity = {0};
	if (!path)
		return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
	int64_t n = log_await(wh_open(log->loop, path, log->looking ? O_RDONLY : O_RDWR, 0));
	if (n >= 0) {
		found->segment->fd = (int)n;
		n = tail && !log->looking ? wh_fsync_blocking(log->loop, found->segment->fd, false) : 0;
	}
	if (n >= 0 && tail)
		found->direct_fd = (int)log_await(wh_open(log->loop, path, O_RDONLY | O_DIRECT, 0));
	if (n >= 0)
		n = log_await(wh_size(log->loop, found->segment->fd));
	free(path);
	if (n < 0)
		return log_problem_io(r->problem, n, log->path, "cannot open a segment");
	found->size = (uint64_t)n;
	memset(r->buffer, 0, LOG_SEGMENT_HEAD_BYTES);
	n = read_segment(r, index, r->buffer, LOG_SEGMENT_HEAD_BYTES, 0);
	if (n == -EINVAL && found->direct_fd >= 0) {
		/* A file system that opens but does not read so. */
		(void)log_await(wh_close(log->loop, found->direct_fd));
		found->direct_fd = -1;
		n = read_segment(r, index, r->buffer, LOG_SEGMENT_HEAD_BYTES, 0);
	}
	if (n < 0)
		return log_problem_io(r->problem, n, log->path, "cannot read a segment");
	int verdict = log_identity_get(r->buffer, &identity);
	struct log_opening opening = {0};
	scan->opening_state = log_opening_get(r->buffer + LOG_BLOCK_BYTES, identity.salt, &opening);
	int status = judge_identity(r, index, verdict, &identity);
	if (status < 0)
		return status;
	if (scan->opening_state == LOG_NEWER)
		return newer(r, number, LOG_BLOCK_BYTES + 12, "a segment of a later format");
	if (scan->opening_state == LOG_GOOD && opening.number != number)
		scan->opening_state = LOG_BAD;
	scan->number = number;
	scan->salt = found->segment->salt = identity.salt;
	scan->bytes = found->segment->bytes = identity.bytes;
	scan->opening = found->segment->opening = opening;
	return 0;
}

static int open_segments(struct recovery *r)
{
	r->scan.segments = calloc(r->count + 1, sizeof(*r->scan.segments));
	if (!r->scan.segments)
		return log_problem_io(r->problem, -ENOMEM, r->log->path, "no memory");
	for (size_t i = 0; i < r->count; i++) {
		int status = open_segment(r, i);
		if (status < 0)
			return status;
	}
	return 0;
}

/* ---- 5 and 6: scan ----------------------------------------------------------------------- */

static int on_epoch(void *arg, const struct log_manifest_epoch *epoch)
{
	struct recovery *r = arg;
	return log_epoch_add(r->log, epoch->epoch, epoch->reason, epoch->start);
}

static int explain_scan(struct recovery *r, int status)
{
	struct log_scan *scan = &r->scan;
	uint64_t number = scan->segments[scan->problem_segment].number;
	const char *reason = scan->reason ? scan->reason : "cannot read the log";
	if (status == -WH_EDAMAGED) {
		damaged(r, number, scan->problem_offset, reason);
		r->problem->lsn_from = scan->problem_lsn;
		r->problem->lsn_to = scan->evidence_lsn;
	} else if (status == -ENOTSUP) {
		newer(r, number, scan->problem_offset, reason);
	} else {
		damaged(r, number, scan->problem_offset, reason);
		r->problem->kind = status == -EIO ? LOG_PROBLEM_IO : LOG_PROBLEM_REPLAY;
		r->problem->exit_status = 4;
		r->problem->error = status;
		r->problem->advice[0] = '\0';
	}
	return status;
}

static int scan_segments(struct recovery *r)
{
	struct log *log = r->log;
	size_t usable = r->count - (r->count > 0 && r->found[r->count - 1].unused);
	r->scan.count = usable;
	r->scan.cluster = log->cluster;
	r->scan.durable_lsn = log->manifest.durable_lsn;
	r->scan.clean = log->manifest.flags & LOG_MANIFEST_CLEAN;
	r->scan.read = read_segment;
	r->scan.read_arg = r;
	r->scan.replay = log->options.replay;
	r->scan.replay_arg = log->options.replay_arg;
	r->scan.on_epoch = on_epoch;
	r->scan.epoch_arg = r;
	if (usable == 0) {
		r->scan.chain = log->cluster;
		return log->manifest.durable_lsn > 0
		               ? damaged(r, log->manifest.first_segment, 0, "the segment is missing")
		               : 0;
	}
	int status = log_scan_run(&r->scan);
	return status < 0 ? explain_scan(r, status) : 0;
}

/* ---- 7: what is behind the end ----------------------------------------------------------- */

/* The name under which the bytes behind the end are kept; one that is there already is not touched. */
static char *torn_path(struct recovery *r)
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

static int64_t copy_torn(struct recovery *r, int fd, uint64_t *ret_bytes)
{
	for (size_t i = 0; i < r->scan.count; i++) {
		const struct log_scan_segment *segment = &r->scan.segments[i];
		for (uint64_t at = segment->dirty_from; at < segment->dirty_to; at += COPY_BYTES) {
			uint64_t len =
				segment->dirty_to - at < COPY_BYTES ? segment->dirty_to - at : COPY_BYTES;
			int64_t n = read_segment(r, i, r->buffer, len, at);
			if (n > 0)
				n = wh_pwrite_blocking(r->log->loop, fd, r->buffer, (size_t)n, *ret_bytes);
			if (n < 0)
				return n;
			*ret_bytes += (uint64_t)n;
		}
	}
	return 0;
}

static int64_t keep_torn(struct recovery *r)
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

static int64_t write_zeros(struct recovery *r, int fd, uint64_t from, uint64_t to)
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
static int cut_off(struct recovery *r)
{
	int64_t n = r->scan.torn ? keep_torn(r) : 0;
	size_t first = r->scan.opened > 0 ? r->scan.opened - 1 : 0;
	for (size_t i = first; i < r->scan.count && n >= 0; i++) {
		const struct log_scan_segment *segment = &r->scan.segments[i];
		int fd = r->found[i].segment->fd;
		if (segment->dirty_from >= segment->dirty_to)
			continue;
		n = write_zeros(r, fd, segment->dirty_from, segment->dirty_to);
		if (n >= 0)
			n = wh_fsync_blocking(r->log->loop, fd, false);
	}
	return n < 0 ? log_problem_io(r->problem, n, r->log->path, "cannot cut off the torn tail") : 0;
}

static int remove_leftovers(struct recovery *r)
{
	struct log *log = r->log;
	int64_t n = 0;
	for (size_t i = 0; i < r->names->count && n >= 0; i++) {
		const char *name = r->names->names[i];
		size_t len = strlen(name);
		bool ours = strncmp(name, "seg-", 4) == 0 || strncmp(name, "manifest-", 9) == 0 ||
		            strncmp(name, "torn", 4) == 0;
		if (len < 4 || strcmp(name + len - 4, ".tmp") != 0 || !ours)
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

/* ---- hand over --------------------------------------------------------------------------- */

/* What the scan found becomes the state of the log. */
static int take_over(struct recovery *r)
{
	struct log *log = r->log;
	const struct log_scan *scan = &r->scan;
	log->spares = calloc(r->count + 1, sizeof(struct log_segment *));
	if (!log->spares)
		return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
	for (size_t i = 0; i < scan->count; i++) {
		struct log_segment *segment = r->found[i].segment;
		if (i < scan->opened && log_segments_add(log, segment) < 0)
			return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
		if (i >= scan->opened)
			log->spares[log->spares_count++] = segment;
		r->found[i].segment = NULL;
		log->files_open++;
		log->disk_bytes += segment->bytes;
		if (i + 1 >= scan->opened && segment->bytes - LOG_SEGMENT_HEAD_BYTES < log->group_max)
			log->group_max = (uint32_t)(segment->bytes - LOG_SEGMENT_HEAD_BYTES);
	}
	for (uint32_t i = 0; i < r->as_found.epoch_count; i++) {
		const struct log_manifest_epoch *epoch = &r->as_found.epochs[i];
		if (log_epoch_add(log, epoch->epoch, epoch->reason, epoch->start) < 0)
			return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
	}
	log->epoch = log->manifest.epoch > scan->epoch ? log->manifest.epoch : scan->epoch;
	log->append_segment = log_current(log);
	log->append_offset = scan->opened > 0 ? scan->end_offset : LOG_SEGMENT_HEAD_BYTES;
	log->append_lsn = scan->end_lsn;
	log->seq = scan->seq;
	log->chain = scan->chain;
	log->chain_epoch = scan->epoch;
	log->transaction_max = log->options.segment_bytes / 2;
	if (log->transaction_max > LOG_TRANSACTION_BYTES_MAX)
		log->transaction_max = LOG_TRANSACTION_BYTES_MAX;
	if (log->transaction_max < log_record_max(log))
		log->transaction_max = log_record_max(log);
	log->stats.replayed_records = scan->records;
	log->stats.replayed_bytes = scan->bytes;
	wh_mark_raise(log->appended, scan->end_lsn);
	wh_mark_raise(log->written, scan->end_lsn);
	wh_mark_raise(log->flushed, scan->end_lsn);
	return 0;
}

/* Steps 1 to 6: what is there, and what it means. Changes nothing but, unless it only looks, what makes durable. */
static int judge(struct recovery *r, bool *ret_found)
{
	struct log *log = r->log;
	int status = log->looking ? look_at_folder(log, r->problem) : take_folder(log, r->problem);
	if (status == 0)
		status = log_manifest_load(log, ret_found, r->problem);
	if (status == 0)
		status = list_segments(r);
	if (status == 0 && !*ret_found && r->count > 0)
		status = damaged(r, r->found[0].segment->number, 0,
		                 "there are segments, but both manifests are missing");
	if (status == 0 && !*ret_found && log->looking)
		status = log_problem_io(r->problem, -ENOENT, log->path, "there is no log in this folder");
	if (status == 0 && !log->looking)
		status = flush_folder(log, r->problem);
	if (status == 0 && !*ret_found)
		status = flush_parent(log, r->problem);
	if (status == 0 && !*ret_found)
		status = log_manifest_create(log, r->problem);
	if (status == 0)
		status = check_numbers(r);
	r->as_found = log->manifest;
	if (status == 0)
		status = open_segments(r);
	if (status == 0)
		status = scan_segments(r);
	return status;
}

static int recover(struct recovery *r)
{
	bool found = false;
	int status = judge(r, &found);
	if (status == 0)
		status = remove_leftovers(r);
	if (status == 0)
		status = cut_off(r);
	if (status == 0)
		status = take_over(r);
	return status;
}

/* ---- look -------------------------------------------------------------------------------- */

static struct log_look_manifest show_manifest(const struct log_manifest *manifest)
{
	return (struct log_look_manifest){.valid = true,
	                                  .clean = manifest->flags & LOG_MANIFEST_CLEAN,
	                                  .epoch = manifest->epoch,
	                                  .sequence = manifest->sequence,
	                                  .first_segment = manifest->first_segment,
	                                  .last_segment = manifest->last_segment,
	                                  .durable_lsn = manifest->durable_lsn};
}

static void show_segments(const struct recovery *r, struct log_look *look)
{
	const struct log_scan *scan = &r->scan;
	for (size_t i = 0; i < r->count && scan->segments; i++) {
		const struct log_scan_segment *from = &scan->segments[i];
		struct log_look_segment *to = &look->segments[look->segments_count++];
		*to = (struct log_look_segment){.number = r->found[i].segment->number,
		                                .file_bytes = r->found[i].size,
		                                .opened = from->opening_state == LOG_GOOD};
		if (to->opened) {
			to->epoch = from->opening.epoch;
			to->base_lsn = from->opening.base_lsn;
			to->group_seq = from->opening.group_seq;
		}
		/* up to the next opening, or to where reading ended */
		bool rolled = i + 1 < r->count && scan->segments[i + 1].opening_state == LOG_GOOD;
		uint64_t to_lsn = rolled ? scan->segments[i + 1].opening.base_lsn : scan->end_lsn;
		if (to->opened && to_lsn > to->base_lsn)
			to->used_bytes = to_lsn - to->base_lsn;
		look->torn_bytes += from->dirty_to - from->dirty_from;
	}
}

static int show(const struct recovery *r, struct log_look *look)
{
	struct log *log = r->log;
	look->segments = calloc(r->count + 1, sizeof(*look->segments));
	look->epochs = calloc(log->epochs_count + r->as_found.epoch_count + 1, sizeof(*look->epochs));
	if (!look->segments || !look->epochs)
		return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
	int slot = log->manifest_slot;
	if (log->manifests_valid[slot])
		look->manifests[slot] = show_manifest(&r->as_found);
	if (log->manifests_valid[!slot])
		look->manifests[!slot] = show_manifest(&log->manifest_other);
	show_segments(r, look);
	for (uint32_t i = 0; i < r->as_found.epoch_count; i++) {
		const struct log_manifest_epoch *epoch = &r->as_found.epochs[i];
		if (log_epoch_add(log, epoch->epoch, epoch->reason, epoch->start) < 0)
			return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
	}
	memcpy(look->epochs, log->epochs, log->epochs_count * sizeof(*look->epochs));
	look->epochs_count = log->epochs_count;
	look->end_lsn = r->scan.end_lsn;
	look->records = r->scan.records;
	look->bytes = r->scan.bytes;
	return 0;
}

static int look_over(struct recovery *r, struct log_look *look)
{
	bool found = false;
	int status = judge(r, &found), shown = found ? show(r, look) : 0;
	return status < 0 ? status : shown;
}

/* ---- enter ------------------------------------------------------------------------------- */

static int with_recovery(struct log *log, struct log_look *look, struct log_problem *problem)
{
	struct recovery *r = calloc(1, sizeof(*r));
	int status = -ENOMEM;
	if (r) {
		r->log = log;
		r->problem = problem;
		r->told_at = wh_clock(log->loop);
		r->buffer = aligned_alloc(LOG_BLOCK_BYTES, COPY_BYTES);
	}
	if (!r || !r->buffer)
		log_problem_io(problem, status, log->path, "no memory");
	else if (!look)
		status = recover(r);
	else
		status = look_over(r, look);
	for (size_t i = 0; r && i < r->count; i++) {
		if (r->found[i].direct_fd >= 0)
			(void)log_await(wh_close(log->loop, r->found[i].direct_fd));
		if (r->found[i].segment && r->found[i].segment->fd >= 0)
			(void)log_await(wh_close(log->loop, r->found[i].segment->fd));
		log_segment_free(r->found[i].segment);
	}
	if (r) {
		free(r->found);
		free(r->scan.segments);
		wh_names_free(r->names);
		free(r->buffer);
	}
	free(r);
	return status;
}

int log_recover(struct log *log, struct log_problem *problem)
{
	return with_recovery(log, NULL, problem);
}

int log_judge(struct log *log, struct log_look *look, struct log_problem *problem)
{
	return with_recovery(log, look, problem);
}
