/* src/log/judge.c -- what the files of a folder are, and what they mean: the reader's steps 2 to 7 of docs/format-log.md.
 *
 * Nothing is changed in the folder, but that what is there is made durable, before all of it has been judged. Thread: the
 * log's loop, outside callbacks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/recover.h"

enum { READ_TRIES = 3, FILES_KEPT_OPEN_MAX = LOG_FILES_OPEN_MAX / 2 };

/* ---- 5: the segments --------------------------------------------------------------------- */

static int damaged(struct log_recovery *r, uint64_t number, uint64_t offset, const char *reason)
{
	char name[64];
	snprintf(name, sizeof(name), "seg-%016llx.log", (unsigned long long)number);
	return log_problem_damaged(r->log, r->problem, name, offset, reason);
}

static int newer(struct log_recovery *r, uint64_t number, uint64_t offset, const char *reason)
{
	char name[64];
	snprintf(name, sizeof(name), "seg-%016llx.log", (unsigned long long)number);
	return log_problem_newer(r->log, r->problem, name, offset, reason);
}

/* Is it before, 16 hexadecimal digits, after? */
bool log_name_number(const char *name, const char *before, const char *after, uint64_t *ret)
{
	uint64_t number = 0;
	size_t skip = strlen(before);
	if (strncmp(name, before, skip) != 0 || strlen(name) != skip + 16 + strlen(after) ||
	    strcmp(name + skip + 16, after) != 0)
		return false;
	for (size_t i = skip; i < skip + 16; i++) {
		const char *digits = "0123456789abcdef", *digit = strchr(digits, name[i]);
		if (!digit)
			return false;
		number = number << 4 | (uint64_t)(digit - digits);
	}
	*ret = number;
	return true;
}

/* Names sort as their numbers do. */
static int list_segments(struct log_recovery *r)
{
	struct log *log = r->log;
	wh_res res = wh_await(wh_list(log->loop, log->path));
	if (res.n < 0)
		return log_problem_io(r->problem, res.n, log->path, "cannot list the folder");
	r->names = res.ptr;
	r->found = calloc(r->names->count + 1, sizeof(*r->found));
	r->lower = calloc(r->names->count + 1, sizeof(*r->lower));
	if (!r->found || !r->lower)
		return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
	for (size_t i = 0; i < r->names->count; i++) {
		uint64_t number;
		if (!log_name_number(r->names->names[i], "seg-", ".log", &number))
			continue;
		if (number < log->manifest.first_segment) {
			r->lower[r->lower_count++] = number;
			continue;
		}
		struct log_segment *segment = log_segment_new(number);
		if (!segment)
			return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
		r->found[r->count++] = (struct log_found){.segment = segment, .direct_fd = -1};
	}
	return 0;
}

static int check_numbers(struct log_recovery *r)
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

/* Those behind what a manifest knows, and the last one that it does. */
static bool is_tail(const struct log_recovery *r, size_t index)
{
	return r->found[index].segment->number >= r->log->manifest.last_segment;
}

/* Too many are open: those that were read are not needed for a while. */
static void close_some(struct log_recovery *r)
{
	for (size_t i = 0; i < r->count && r->files_open >= FILES_KEPT_OPEN_MAX; i++) {
		struct log_segment *segment = r->found[i].segment;
		if (segment->fd < 0 || is_tail(r, i))
			continue;
		(void)log_await(wh_close(r->log->loop, segment->fd));
		segment->fd = -1;
		r->files_open--;
	}
}

int64_t log_judge_fd(struct log_recovery *r, size_t index)
{
	struct log *log = r->log;
	struct log_segment *segment = r->found[index].segment;
	if (segment->fd >= 0)
		return segment->fd;
	close_some(r);
	char *path = log_path(log, "seg-%016llx.log", (unsigned long long)segment->number);
	int64_t n = path ? log_await(wh_open(log->loop, path, log->looking ? O_RDONLY : O_RDWR, 0)) : -ENOMEM;
	if ((n == -EROFS || n == -EACCES) && log->options.borrowed)
		n = log_await(wh_open(log->loop, path, O_RDONLY, 0));
	free(path);
	if (n < 0)
		return n;
	segment->fd = (int)n;
	r->files_open++;
	return n;
}

/* Once a second, so that whoever waits for a start sees that it goes on. */
static void tell_progress(struct log_recovery *r, int64_t n, const char *what, uint64_t part, uint64_t parts)
{
	int64_t now = wh_clock(r->log->loop);
	r->bytes_read += n > 0 ? (uint64_t)n : 0;
	if (now - r->told_at < WH_NS_PER_S)
		return;
	r->told_at = now;
	if (r->log->options.progress) {
		r->log->options.progress(r->log->options.progress_arg, r->bytes_read,
		                         r->bytes_read > r->bytes_all ? r->bytes_read : r->bytes_all);
		return;
	}
	log_notice(r->log, WH_LOG_INFO, "%s: reading the log, %llu MiB, %s %llu of %llu", r->log->path,
	           (unsigned long long)(r->bytes_read >> 20), what, (unsigned long long)part,
	           (unsigned long long)parts);
}

static int64_t read_fd(struct log_recovery *r, int fd, void *buf, size_t len, uint64_t offset)
{
	int64_t n = 0;
	for (int i = 0; i < READ_TRIES; i++) {
		n = wh_pread_blocking(r->log->loop, fd, buf, len, offset);
		if (n != -EIO)
			break;
	}
	return n;
}

int64_t log_judge_read(void *arg, size_t index, void *buf, size_t len, uint64_t offset)
{
	struct log_recovery *r = arg;
	struct log_found *found = &r->found[index];
	int64_t n = found->direct_fd >= 0 ? found->direct_fd : log_judge_fd(r, index);
	if (n < 0)
		return n;
	n = read_fd(r, (int)n, buf, len, offset);
	tell_progress(r, n, "segment", index + 1, r->count);
	return n;
}

/* Nothing but zeros behind the identity? 1, 0, or an error. */
static int is_unused(struct log_recovery *r, size_t index)
{
	for (uint64_t at = LOG_BLOCK_BYTES;; at += LOG_COPY_BYTES) {
		int64_t n = log_judge_read(r, index, r->buffer, LOG_COPY_BYTES, at);
		if (n < 0)
			return log_problem_io(r->problem, n, r->log->path, "cannot read a segment");
		if (!log_is_zero(r->buffer, (size_t)n))
			return 0;
		if (n < LOG_COPY_BYTES)
			return 1;
	}
}

static int judge_identity(struct log_recovery *r, size_t index, int verdict,
                          const struct log_identity *identity)
{
	struct log_found *found = &r->found[index];
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

/* Its descriptors and its size. */
static int open_file(struct log_recovery *r, size_t index)
{
	struct log *log = r->log;
	struct log_found *found = &r->found[index];
	bool tail = is_tail(r, index) && !(log->manifest.flags & LOG_MANIFEST_CLEAN);
	int64_t n = log_judge_fd(r, index);
	if (n >= 0 && tail && !log->looking)
		n = wh_fsync_blocking(log->loop, found->segment->fd, false);
	if (n >= 0 && tail) {
		char *path = log_path(log, "seg-%016llx.log", (unsigned long long)found->segment->number);
		n = path ? 0 : -ENOMEM;
		if (path)
			found->direct_fd = (int)log_await(wh_open(log->loop, path, O_RDONLY | O_DIRECT, 0));
		free(path);
	}
	if (n >= 0)
		n = log_await(wh_size(log->loop, found->segment->fd));
	if (n < 0)
		return log_problem_io(r->problem, n, log->path, "cannot open a segment");
	found->size = (uint64_t)n;
	r->bytes_all += found->size;
	return 0;
}

static int open_segment(struct log_recovery *r, size_t index)
{
	struct log *log = r->log;
	struct log_found *found = &r->found[index];
	struct log_scan_segment *scan = &r->scan.segments[index];
	uint64_t number = found->segment->number;
	struct log_identity identity = {0};
	int status = open_file(r, index);
	if (status < 0)
		return status;
	memset(r->buffer, 0, LOG_SEGMENT_HEAD_BYTES);
	int64_t n = log_judge_read(r, index, r->buffer, LOG_SEGMENT_HEAD_BYTES, 0);
	if (n == -EINVAL && found->direct_fd >= 0) {
		/* A file system that opens but does not read so. */
		(void)log_await(wh_close(log->loop, found->direct_fd));
		found->direct_fd = -1;
		n = log_judge_read(r, index, r->buffer, LOG_SEGMENT_HEAD_BYTES, 0);
	}
	if (n < 0)
		return log_problem_io(r->problem, n, log->path, "cannot read a segment");
	int verdict = log_identity_get(r->buffer, &identity);
	struct log_opening opening = {0};
	scan->opening_state = log_opening_get(r->buffer + LOG_BLOCK_BYTES, identity.salt, &opening);
	status = judge_identity(r, index, verdict, &identity);
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

static int open_segments(struct log_recovery *r)
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

/* ---- 3: the checkpoint ------------------------------------------------------------------- */

static int on_epoch(void *arg, const struct log_manifest_epoch *epoch)
{
	struct log_recovery *r = arg;
	return log_epoch_add(r->log, epoch->epoch, epoch->reason, epoch->start);
}

static bool is_there(const struct log_recovery *r, uint64_t number)
{
	size_t low = 0, high = r->lower_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (r->lower[middle] < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < r->lower_count && r->lower[low] == number;
}

/* A lower segment that was there when the checkpoint was begun. */
static int on_segment(void *arg, const struct log_segment_record *record)
{
	struct log_recovery *r = arg;
	const struct log_segment *last = r->below_count > 0 ? r->below[r->below_count - 1] : NULL;
	if (record->number >= r->log->manifest.first_segment || (last && record->number <= last->number) ||
	    record->end_lsn < record->base_lsn || (last && record->base_lsn < last->end_lsn))
		return -WH_EDAMAGED;
	if (!is_there(r, record->number)) {
		r->missing++;
		return 0;
	}
	if (r->below_count == r->below_cap) {
		size_t cap = r->below_cap ? 2 * r->below_cap : 16;
		struct log_segment **below = realloc(r->below, cap * sizeof(struct log_segment *));
		if (!below)
			return -ENOMEM;
		r->below = below;
		r->below_cap = cap;
	}
	struct log_segment *segment = log_segment_new(record->number);
	if (!segment)
		return -ENOMEM;
	segment->salt = record->salt;
	segment->bytes = record->bytes;
	segment->end_lsn = record->end_lsn;
	segment->opening = (struct log_opening){.number = record->number, .base_lsn = record->base_lsn};
	r->below[r->below_count++] = segment;
	return 0;
}

static int64_t read_checkpoint(void *arg, void *buf, size_t len, uint64_t offset)
{
	struct log_recovery *r = arg;
	int64_t n = read_fd(r, r->checkpoint_fd, buf, len, offset);
	tell_progress(r, n, "byte of the checkpoint", offset, r->log->manifest.checkpoint.bytes);
	return n;
}

static int explain_load(struct log_recovery *r, const struct log_load *load, const char *name, int status)
{
	const char *reason = load->reason ? load->reason : "cannot read the checkpoint";
	if (status == -WH_EDAMAGED)
		return log_problem_damaged(r->log, r->problem, name, load->problem_offset, reason);
	if (status == -ENOTSUP)
		return log_problem_newer(r->log, r->problem, name, load->problem_offset, reason);
	log_problem_damaged(r->log, r->problem, name, load->problem_offset, reason);
	r->problem->kind = status == -EIO ? LOG_PROBLEM_IO : LOG_PROBLEM_REPLAY;
	r->problem->exit_status = 4;
	r->problem->error = status;
	r->problem->advice[0] = '\0';
	return status;
}

static int load_checkpoint(struct log_recovery *r)
{
	struct log *log = r->log;
	char name[64];
	struct log_load load = {.cluster = log->cluster,
	                        .name = log->manifest.checkpoint,
	                        .read = read_checkpoint,
	                        .read_arg = r,
	                        .replay = log->options.replay,
	                        .replay_arg = log->options.replay_arg,
	                        .on_epoch = on_epoch,
	                        .on_segment = on_segment,
	                        .own_arg = r};
	if (load.name.lsn == 0)
		return 0;
	snprintf(name, sizeof(name), LOG_CHECKPOINT_NAME, (unsigned long long)load.name.lsn);
	char *path = log_path(log, "%s", name);
	int64_t n = path ? log_await(wh_open(log->loop, path, O_RDONLY, 0)) : -ENOMEM;
	free(path);
	if (n == -ENOENT)
		return log_problem_damaged(log, r->problem, name, 0, "the checkpoint is missing");
	if (n < 0)
		return log_problem_io(r->problem, n, log->path, "cannot open the checkpoint");
	r->checkpoint_fd = (int)n;
	n = log_await(wh_size(log->loop, r->checkpoint_fd));
	if (n < 0)
		return log_problem_io(r->problem, n, log->path, "cannot open the checkpoint");
	if ((uint64_t)n != load.name.bytes)
		return log_problem_damaged(log, r->problem, name, (uint64_t)n,
		                           "the checkpoint is not as long as it was made");
	int status = log_load_run(&load);
	if (status < 0)
		return explain_load(r, &load, name, status);
	if (load.header.segment != log->manifest.first_segment)
		return log_problem_damaged(log, r->problem, name, 80,
		                           "the checkpoint and the manifest name different segments");
	r->checkpoint = load.header;
	r->checkpoint_records = load.records;
	log->stats.loaded_records = load.records;
	log->stats.loaded_bytes = load.name.bytes;
	return 0;
}

/* ---- 6 and 7: scan ----------------------------------------------------------------------- */

static int explain_scan(struct log_recovery *r, int status)
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

static int scan_segments(struct log_recovery *r)
{
	struct log *log = r->log;
	size_t usable = r->count - (r->count > 0 && r->found[r->count - 1].unused);
	r->scan.count = usable;
	r->scan.cluster = log->cluster;
	r->scan.durable_lsn = log->manifest.durable_lsn;
	r->scan.clean = log->manifest.flags & LOG_MANIFEST_CLEAN;
	r->scan.read = log_judge_read;
	r->scan.read_arg = r;
	r->scan.replay = log->options.replay;
	r->scan.replay_arg = log->options.replay_arg;
	r->scan.on_epoch = on_epoch;
	r->scan.epoch_arg = r;
	if (r->checkpoint.lsn > 0)
		r->scan.checkpoint = &r->checkpoint;
	if (usable == 0) {
		r->scan.chain = log->cluster;
		return log->manifest.durable_lsn > 0 || r->checkpoint.lsn > 0
		               ? damaged(r, log->manifest.first_segment, 0, "the segment is missing")
		               : 0;
	}
	int status = log_scan_run(&r->scan);
	return status < 0 ? explain_scan(r, status) : 0;
}

/* ---- all of it --------------------------------------------------------------------------- */

int log_judge(struct log_recovery *r, bool *ret_found)
{
	struct log *log = r->log;
	int status = log->looking ? log_folder_look(log, r->problem) : log_folder_take(log, r->problem);
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
		status = log_folder_flush(log, r->problem);
	if (status == 0 && !*ret_found)
		status = log_folder_flush_parent(log, r->problem);
	if (status == 0 && !*ret_found)
		status = log_manifest_create(log, r->problem);
	if (status == 0)
		status = check_numbers(r);
	r->as_found = log->manifest;
	r->bytes_all = log->manifest.checkpoint.bytes;
	if (status == 0)
		status = open_segments(r);
	if (status == 0)
		status = load_checkpoint(r);
	if (status == 0)
		status = scan_segments(r);
	return status;
}
