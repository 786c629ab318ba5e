/* src/log/look.c -- what has been judged, shown; and the segments below the checkpoint, which a start does not read, checked.
 *
 * Thread: the log's loop, outside callbacks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/recover.h"

static struct log_look_manifest show_manifest(const struct log_manifest *manifest)
{
	return (struct log_look_manifest){.valid = true,
	                                  .clean = manifest->flags & LOG_MANIFEST_CLEAN,
	                                  .epoch = manifest->epoch,
	                                  .sequence = manifest->sequence,
	                                  .first_segment = manifest->first_segment,
	                                  .last_segment = manifest->last_segment,
	                                  .durable_lsn = manifest->durable_lsn,
	                                  .checkpoint_lsn = manifest->checkpoint.lsn,
	                                  .checkpoint_bytes = manifest->checkpoint.bytes};
}

static void show_segments(const struct log_recovery *r, struct log_look *look)
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

int log_show(struct log_recovery *r, struct log_look *look)
{
	struct log *log = r->log;
	look->segments = calloc(r->below_count + r->count + 1, sizeof(*look->segments));
	look->epochs = calloc(log->epochs_count + r->as_found.epoch_count + 1, sizeof(*look->epochs));
	if (!look->segments || !look->epochs)
		return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
	int slot = log->manifest_slot;
	if (log->manifests_valid[slot])
		look->manifests[slot] = show_manifest(&r->as_found);
	if (log->manifests_valid[!slot])
		look->manifests[!slot] = show_manifest(&log->manifest_other);
	for (size_t i = 0; i < r->below_count; i++) {
		const struct log_segment *from = r->below[i];
		look->segments[look->segments_count++] =
			(struct log_look_segment){.number = from->number,
		                                  .file_bytes = from->bytes,
		                                  .opened = true,
		                                  .below = true,
		                                  .base_lsn = from->opening.base_lsn,
		                                  .used_bytes = from->end_lsn - from->opening.base_lsn};
	}
	show_segments(r, look);
	for (uint32_t i = 0; i < r->as_found.epoch_count; i++) {
		const struct log_manifest_epoch *epoch = &r->as_found.epochs[i];
		if (log_epoch_add(log, epoch->epoch, epoch->reason, epoch->start) < 0)
			return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
	}
	if (log->epochs_count > 0) /* where nothing could be read there are none */
		memcpy(look->epochs, log->epochs, log->epochs_count * sizeof(*look->epochs));
	look->epochs_count = log->epochs_count;
	look->end_lsn = r->scan.end_lsn;
	look->records = r->scan.records;
	look->bytes = r->scan.bytes;
	look->missing = r->missing;
	if (r->checkpoint.lsn > 0) {
		look->checkpoint_lsn = r->checkpoint.lsn;
		look->checkpoint_bytes = log->manifest.checkpoint.bytes;
		look->checkpoint_records = r->checkpoint_records;
	}
	return 0;
}

/* ---- below the checkpoint ---------------------------------------------------------------- */

struct below {
	struct log_recovery *r;
	int fd;
};

static int64_t read_below(void *arg, size_t index, void *buf, size_t len, uint64_t offset)
{
	struct below *below = arg;
	return wh_pread_blocking(below->r->log->loop, below->fd, buf, len, offset);
}

/* What is wrong with its head, or NULL. */
static const char *check_head(struct log_recovery *r, const struct log_segment *segment,
                              struct log_scan_segment *ret, uint64_t *ret_offset)
{
	struct log_identity identity;
	*ret_offset = 0;
	if (log_identity_get(r->buffer, &identity) != LOG_GOOD)
		return "the segment's identity is damaged";
	*ret_offset = 16;
	if (identity.number != segment->number || identity.salt != segment->salt ||
	    identity.bytes != segment->bytes || !log_hash_equal(identity.cluster, r->log->cluster))
		return "the segment belongs to another log or place";
	*ret_offset = LOG_BLOCK_BYTES;
	*ret = (struct log_scan_segment){
		.number = segment->number, .salt = segment->salt, .bytes = segment->bytes};
	ret->opening_state = log_opening_get(r->buffer + LOG_BLOCK_BYTES, segment->salt, &ret->opening);
	if (ret->opening_state != LOG_GOOD || ret->opening.number != segment->number ||
	    ret->opening.base_lsn != segment->opening.base_lsn)
		return "the segment's opening is damaged";
	return NULL;
}

static int refuse_below(struct log_recovery *r, const struct log_segment *segment, uint64_t offset,
                        const char *reason)
{
	char name[64];
	snprintf(name, sizeof(name), "seg-%016llx.log", (unsigned long long)segment->number);
	return log_problem_damaged(r->log, r->problem, name, offset, reason);
}

static int check_below(struct log_recovery *r, const struct log_segment *segment, int fd)
{
	struct below below = {r, fd};
	struct log_scan_segment one;
	uint64_t offset = 0;
	memset(r->buffer, 0, LOG_SEGMENT_HEAD_BYTES);
	int64_t n = wh_pread_blocking(r->log->loop, fd, r->buffer, LOG_SEGMENT_HEAD_BYTES, 0);
	if (n < 0)
		return log_problem_io(r->problem, n, r->log->path, "cannot read a segment");
	const char *reason = check_head(r, segment, &one, &offset);
	if (reason)
		return refuse_below(r, segment, offset, reason);
	struct log_scan scan = {.segments = &one,
	                        .count = 1,
	                        .cluster = r->log->cluster,
	                        .durable_lsn = segment->end_lsn,
	                        .from_opening = true,
	                        .read = read_below,
	                        .read_arg = &below};
	int status = log_scan_run(&scan);
	if (status < 0 && status != -WH_EDAMAGED && status != -ENOTSUP)
		return log_problem_io(r->problem, status, r->log->path, "cannot read a segment");
	if (status < 0)
		return refuse_below(r, segment, scan.problem_offset, scan.reason);
	if (scan.end_lsn != segment->end_lsn || scan.torn)
		return refuse_below(r, segment, scan.end_offset,
		                    "the segment holds more than the checkpoint says");
	return 0;
}

int log_show_below(struct log_recovery *r)
{
	struct log *log = r->log;
	for (size_t i = 0; i < r->below_count; i++) {
		char *path = log_path(log, "seg-%016llx.log", (unsigned long long)r->below[i]->number);
		int64_t n = path ? log_await(wh_open(log->loop, path, O_RDONLY, 0)) : -ENOMEM;
		free(path);
		if (n < 0)
			return log_problem_io(r->problem, n, log->path, "cannot open a segment");
		int fd = (int)n, status = check_below(r, r->below[i], fd);
		(void)log_await(wh_close(log->loop, fd));
		if (status < 0)
			return status;
	}
	return 0;
}
