/* src/log/repair_survey.c -- what of a damaged log there is: manifests, checkpoints, the heads of its segments. See repair.h.
 *
 * Nothing is taken for granted: what a file should say can often be learned from another one. Thread: the log's loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/repair_inside.h"

enum { HEAD_BYTES = 3 * LOG_BLOCK_BYTES, PIECE_BYTES = 1 << 20, SEGMENTS_MAX = 1 << 20 };

static const char *const manifest_names[2] = {"manifest-a", "manifest-b"};

void log_repair_segment_name(uint64_t number, char to[LOG_PIN_NAME_BYTES])
{
	snprintf(to, LOG_PIN_NAME_BYTES, "seg-%016llx.log", (unsigned long long)number);
}

void log_repair_tell(struct log_repair *r, const char *file, uint64_t offset, const char *reason)
{
	r->result.damages++;
	if (r->options.found)
		r->options.found(r->options.arg, file, offset, reason);
}

/* ---- files ------------------------------------------------------------------------------- */

static int64_t open_file(struct log_repair *r, const char *name)
{
	char *path = log_path(r->log, "%s", name);
	int64_t n = path ? log_await(wh_open(r->log->loop, path, O_RDONLY, 0)) : -ENOMEM;
	free(path);
	return n;
}

/* What the disk does not give is zero. */
static int64_t read_hard(struct log_repair *r, const char *name, int fd, uint8_t *to, uint64_t len,
                         uint64_t offset)
{
	uint64_t at = 0;
	while (at < len) {
		uint64_t piece = len - at < PIECE_BYTES ? len - at : PIECE_BYTES;
		int64_t n = wh_pread_blocking(r->log->loop, fd, to + at, piece, offset + at);
		if (n == 0)
			break;
		if (n < 0 && n != -EIO)
			return n;
		for (uint64_t k = 0; n == -EIO && k < piece; k += LOG_BLOCK_BYTES) {
			uint64_t some = piece - k < LOG_BLOCK_BYTES ? piece - k : LOG_BLOCK_BYTES;
			if (wh_pread_blocking(r->log->loop, fd, to + at + k, some, offset + at + k) >= 0)
				continue;
			memset(to + at + k, 0, some);
			log_repair_tell(r, name, offset + at + k,
			                "the disk gives an error instead of the bytes");
		}
		at += n == -EIO ? piece : (uint64_t)n;
	}
	return (int64_t)at;
}

int log_repair_blank(struct log_repair *r, uint64_t bytes)
{
	if (bytes > r->image_bytes) {
		free(r->image);
		r->image = aligned_alloc(LOG_BLOCK_BYTES, bytes);
		r->image_bytes = r->image ? bytes : 0;
		if (!r->image)
			return log_problem_io(r->problem, -ENOMEM, r->log->path, "no memory");
	}
	memset(r->image, 0, bytes);
	return 0;
}

static int read_whole(struct log_repair *r, const char *name, int64_t fd, uint64_t bytes)
{
	int64_t n = fd;
	if (fd >= 0) {
		n = read_hard(r, name, (int)fd, r->image, bytes, 0);
		(void)log_await(wh_close(r->log->loop, (int)fd));
	}
	return n < 0 ? log_problem_io(r->problem, n, name, "cannot read") : 0;
}

int log_repair_read(struct log_repair *r, const char *name, uint64_t bytes)
{
	int status = log_repair_blank(r, bytes);
	return status < 0 ? status : read_whole(r, name, open_file(r, name), bytes);
}

int log_repair_read_new(struct log_repair *r, const char *name, uint64_t bytes)
{
	int status = log_repair_blank(r, bytes);
	if (status < 0)
		return status;
	char *path = log_repair_path(r, name);
	int64_t fd = path ? log_await(wh_open(r->log->loop, path, O_RDONLY, 0)) : -ENOMEM;
	free(path);
	return read_whole(r, name, fd, bytes);
}

/* ---- manifests --------------------------------------------------------------------------- */

static int read_manifests(struct log_repair *r)
{
	struct log *log = r->log;
	for (int slot = 0; slot < 2; slot++) {
		int64_t fd = open_file(r, manifest_names[slot]);
		if (fd == -ENOENT)
			continue;
		if (fd < 0)
			return log_problem_io(r->problem, fd, manifest_names[slot],
			                      "cannot open the manifest");
		memset(log->manifest_block, 0, LOG_BLOCK_BYTES);
		int64_t n =
			read_hard(r, manifest_names[slot], (int)fd, log->manifest_block, LOG_BLOCK_BYTES, 0);
		(void)log_await(wh_close(log->loop, (int)fd));
		if (n < 0)
			return log_problem_io(r->problem, n, manifest_names[slot],
			                      "cannot read the manifest");
		int verdict = log_manifest_get(log->manifest_block, &r->manifests[slot]);
		if (verdict == LOG_NEWER)
			return log_problem_newer(log, r->problem, manifest_names[slot], 24,
			                         "the folder is of a newer version of whilst");
		r->manifests_there[slot] = true;
		r->manifests_good[slot] = verdict == LOG_GOOD;
		if (verdict != LOG_GOOD)
			log_repair_tell(r, manifest_names[slot], 0, "the manifest is not valid");
	}
	return 0;
}

/* Whose log is this? What most files say. */
static int choose_cluster(struct log_repair *r)
{
	struct log *log = r->log;
	struct log_hash best = {0};
	size_t most = 0;
	for (size_t i = 0; i < r->names->count; i++) {
		struct log_identity identity, other;
		uint64_t number;
		size_t count = 0;
		if (!log_name_number(r->names->names[i], "seg-", ".log", &number))
			continue;
		int status = log_repair_read(r, r->names->names[i], LOG_BLOCK_BYTES);
		if (status < 0)
			return status;
		if (log_identity_get(r->image, &identity) != LOG_GOOD)
			continue;
		if (most > 0 && log_hash_equal(identity.cluster, best)) {
			most++;
			continue;
		}
		for (size_t k = 0; k < r->names->count && most > 0; k++) {
			if (!log_name_number(r->names->names[k], "seg-", ".log", &number) ||
			    log_repair_read(r, r->names->names[k], LOG_BLOCK_BYTES) < 0)
				continue;
			count += log_identity_get(r->image, &other) == LOG_GOOD &&
			         log_hash_equal(other.cluster, identity.cluster);
		}
		if (most == 0 || count > most) {
			most = most == 0 ? 1 : count;
			best = identity.cluster;
		}
	}
	for (int slot = 0; slot < 2 && most == 0; slot++)
		if (r->manifests_good[slot]) {
			best = r->manifests[slot].cluster;
			most = 1;
		}
	if (most == 0)
		return log_problem_damaged(log, r->problem, "", 0,
		                           "neither a manifest nor a segment can be read");
	log->cluster = best;
	for (int slot = 0; slot < 2; slot++)
		if (r->manifests_good[slot] && !log_hash_equal(r->manifests[slot].cluster, best)) {
			log_repair_tell(r, manifest_names[slot], 40, "the manifest is of another log");
			r->manifests_good[slot] = false;
		}
	if (!r->manifests_good[0] && !r->manifests_good[1] && !r->manifests_there[0] &&
	    !r->manifests_there[1])
		log_repair_tell(r, manifest_names[0], 0, "both manifests are missing");
	return 0;
}

/* ---- the checkpoint ---------------------------------------------------------------------- */

struct loading {
	struct log_repair *r;
	int fd;
};

static int64_t read_checkpoint(void *arg, void *buf, size_t len, uint64_t offset)
{
	struct loading *loading = arg;
	return wh_pread_blocking(loading->r->log->loop, loading->fd, buf, len, offset);
}

static int on_segment(void *arg, const struct log_segment_record *record)
{
	struct log_repair *r = ((struct loading *)arg)->r;
	if (r->below_count == r->below_cap) {
		size_t cap = r->below_cap ? 2 * r->below_cap : 64;
		struct log_repair_segment *below = realloc(r->below, cap * sizeof(*below));
		if (!below)
			return -ENOMEM;
		r->below = below;
		r->below_cap = cap;
	}
	r->below[r->below_count++] = (struct log_repair_segment){.number = record->number,
	                                                         .salt = record->salt,
	                                                         .bytes = record->bytes,
	                                                         .base = record->base_lsn,
	                                                         .base_known = true,
	                                                         .opened = true,
	                                                         .end = record->end_lsn,
	                                                         .below = true};
	return 0;
}

static int on_epoch(void *arg, const struct log_manifest_epoch *epoch)
{
	return log_epoch_add(((struct loading *)arg)->r->log, epoch->epoch, epoch->reason, epoch->start);
}

/* Is this one whole? Its own trailer stands in for a manifest that says nothing of it. 1: yes. */
static int try_checkpoint(struct log_repair *r, const char *name, uint64_t lsn)
{
	struct loading loading = {r, -1};
	struct log_load load = {.cluster = r->log->cluster,
	                        .name = {.lsn = lsn},
	                        .read = read_checkpoint,
	                        .read_arg = &loading,
	                        .on_epoch = on_epoch,
	                        .on_segment = on_segment,
	                        .own_arg = &loading};
	int64_t fd = open_file(r, name);
	if (fd < 0)
		return fd == -ENOENT ? 0 : log_problem_io(r->problem, fd, name, "cannot open the checkpoint");
	loading.fd = (int)fd;
	int64_t n = log_await(wh_size(r->log->loop, loading.fd));
	load.name.bytes = n > 0 ? (uint64_t)n : 0;
	memset(r->log->manifest_block, 0, LOG_BLOCK_BYTES);
	if (n >= 2 * LOG_BLOCK_BYTES) /* what cannot be read is found out below */
		(void)wh_pread_blocking(r->log->loop, loading.fd, r->log->manifest_block, LOG_BLOCK_BYTES,
		                        (uint64_t)n - LOG_BLOCK_BYTES);
	load.name.hash = log_block_hash(r->log->manifest_block);
	r->below_count = r->log->epochs_count = 0;
	int status = log_load_run(&load);
	(void)log_await(wh_close(r->log->loop, loading.fd));
	if (status == -ENOTSUP)
		return log_problem_newer(r->log, r->problem, name, load.problem_offset, load.reason);
	if (status < 0 && status != -WH_EDAMAGED && status != -EIO)
		return log_problem_io(r->problem, status, name, "cannot read the checkpoint");
	if (status < 0) {
		log_repair_tell(r, name, load.problem_offset, load.reason);
		r->below_count = r->log->epochs_count = 0;
		return 0;
	}
	r->checkpoint = load.header;
	r->checkpoint_name = load.name;
	return 1;
}

/* The newest one that is whole. Names are sorted. */
static int choose_checkpoint(struct log_repair *r)
{
	uint64_t wanted = 0, lsn;
	for (int slot = 0; slot < 2; slot++)
		if (r->manifests_good[slot] && r->manifests[slot].checkpoint.lsn > wanted)
			wanted = r->manifests[slot].checkpoint.lsn;
	bool seen = false;
	for (size_t i = r->names->count; i-- > 0 && r->checkpoint.lsn == 0;) {
		const char *name = r->names->names[i];
		if (!log_name_number(name, "checkpoint-", ".ckp", &lsn))
			continue;
		seen |= lsn == wanted;
		int status = try_checkpoint(r, name, lsn);
		if (status < 0)
			return status;
	}
	if (wanted > 0 && !seen) {
		char name[LOG_PIN_NAME_BYTES];
		snprintf(name, sizeof(name), LOG_CHECKPOINT_NAME, (unsigned long long)wanted);
		log_repair_tell(r, name, 0, "the checkpoint is missing");
	}
	r->evidence = wanted > r->checkpoint.lsn ? wanted : r->checkpoint.lsn;
	r->protected = r->checkpoint.lsn;
	return 0;
}

/* ---- heads of segments ------------------------------------------------------------------- */

static struct log_mend_after first_group(const uint8_t *head, uint64_t salt, uint64_t base)
{
	struct log_group group;
	struct log_record_header header;
	const uint8_t *record = head + LOG_SEGMENT_HEAD_BYTES + LOG_GROUP_HEADER_BYTES;
	if (log_group_get(head + LOG_SEGMENT_HEAD_BYTES, salt, &group) != LOG_GOOD || group.lsn != base)
		return (struct log_mend_after){0};
	bool begins = log_record_head(record, LOG_BLOCK_BYTES - LOG_GROUP_HEADER_BYTES, &header) &&
	              header.type == LOG_TYPE_EPOCH;
	return (struct log_mend_after){true, begins, group.epoch, group.flags};
}

/* A salt that the damaged identity may still hold, if something else in the file bears it out. */
static bool find_salt(struct log_repair_segment *s, const uint8_t *head)
{
	struct log_opening opening;
	struct log_group group;
	uint64_t salt;
	memcpy(&salt, head + 40, sizeof(salt));
	if (log_opening_get(head + LOG_BLOCK_BYTES, salt, &opening) != LOG_GOOD &&
	    log_group_get(head + LOG_SEGMENT_HEAD_BYTES, salt, &group) != LOG_GOOD)
		return false;
	s->salt = salt;
	return true;
}

static int judge_head(struct log_repair *r, struct log_repair_segment *s, const char *name)
{
	struct log_identity identity = {0};
	const uint8_t *head = r->image;
	int verdict = log_identity_get(head, &identity);
	if (verdict == LOG_NEWER)
		return log_problem_newer(r->log, r->problem, name, 12, "a segment of a later format");
	s->identified = verdict == LOG_GOOD && identity.number == s->number &&
	                log_hash_equal(identity.cluster, r->log->cluster) &&
	                (!s->below || identity.salt == s->salt);
	if (s->identified) {
		s->salt = identity.salt;
		s->bytes = identity.bytes;
	} else {
		log_repair_tell(r, name, 0,
		                verdict == LOG_GOOD ? "the segment belongs to another log or place"
		                                    : "the segment's identity is damaged");
		if (!s->below && !find_salt(s, head))
			return 0; /* nothing in it can be told from anything else */
	}
	if (s->bytes == 0)
		s->bytes = log_round_up(s->file_bytes < LOG_SEGMENT_BYTES_MIN ? LOG_SEGMENT_BYTES_MIN
		                                                              : s->file_bytes,
		                        LOG_BLOCK_BYTES);
	s->there = true;
	if (s->file_bytes < s->bytes)
		log_repair_tell(r, name, s->file_bytes, "the segment is shorter than it was made");
	s->opening_state = log_opening_get(head + LOG_BLOCK_BYTES, s->salt, &s->opening);
	if (s->opening_state == LOG_NEWER)
		return log_problem_newer(r->log, r->problem, name, LOG_BLOCK_BYTES + 12,
		                         "a segment of a later format");
	if (s->opening_state == LOG_GOOD && s->opening.number != s->number)
		s->opening_state = LOG_BAD;
	return 0;
}

static int look_at_head(struct log_repair *r, struct log_repair_segment *s)
{
	char name[LOG_PIN_NAME_BYTES];
	log_repair_segment_name(s->number, name);
	int64_t fd = open_file(r, name), n = fd;
	if (fd == -ENOENT)
		return 0;
	if (fd >= 0) {
		n = log_await(wh_size(r->log->loop, (int)fd));
		(void)log_await(wh_close(r->log->loop, (int)fd));
	}
	if (n < 0)
		return log_problem_io(r->problem, n, name, "cannot open a segment");
	s->file_bytes = (uint64_t)n;
	int status = log_repair_read(r, name, HEAD_BYTES);
	if (status == 0)
		status = judge_head(r, s, name);
	if (status < 0 || !s->there || s->below)
		return status;
	if (s->opening_state == LOG_GOOD) {
		s->opened = s->base_known = true;
		s->base = s->opening.base_lsn;
	} else {
		struct log_group group;
		status = log_repair_read(r, name, s->bytes);
		if (status < 0)
			return status;
		s->opened = s->base_known =
			log_mend_first(r->image, s->bytes, s->salt, LOG_SEGMENT_HEAD_BYTES, &group, &s->base);
	}
	if (s->opened)
		s->first = first_group(r->image, s->salt, s->base);
	if (s->opened && s->opening_state == LOG_GOOD && s->base > r->evidence)
		r->evidence = s->base;
	return 0;
}

/* All from .first to the last one that holds something of the log, or should. */
static int look_at_heads(struct log_repair *r)
{
	uint64_t number, last = r->first, named = 0;
	for (size_t i = 0; i < r->names->count; i++)
		if (log_name_number(r->names->names[i], "seg-", ".log", &number) && number > last)
			last = number;
	for (int slot = 0; slot < 2; slot++)
		if (r->manifests_good[slot] && r->manifests[slot].epoch > 0) {
			if (r->manifests[slot].last_segment > named)
				named = r->manifests[slot].last_segment;
			if (r->manifests[slot].durable_lsn > r->evidence)
				r->evidence = r->manifests[slot].durable_lsn;
		}
	if ((last > named ? last : named) - r->first > SEGMENTS_MAX)
		return log_problem_damaged(r->log, r->problem, "", 0, "too many segments are missing");
	r->segments_count = (last > named ? last : named) - r->first + 1;
	r->segments = calloc(r->segments_count, sizeof(*r->segments));
	if (!r->segments)
		return log_problem_io(r->problem, -ENOMEM, r->log->path, "no memory");
	for (size_t i = 0; i < r->segments_count; i++) {
		r->segments[i].number = r->first + i;
		int status = look_at_head(r, &r->segments[i]);
		if (status < 0)
			return status;
	}
	while (r->segments_count > 0 && !r->segments[r->segments_count - 1].opened) {
		const struct log_repair_segment *s = &r->segments[r->segments_count - 1];
		char name[LOG_PIN_NAME_BYTES];
		log_repair_segment_name(s->number, name);
		if (!s->there && s->file_bytes == 0 && s->number <= named)
			log_repair_tell(r, name, 0, "the segment is missing");
		/* one that is cut short may have held something: it cannot be told from one that was made ahead */
		r->tail_lost |= s->there ? s->file_bytes < s->bytes : s->file_bytes > 0 || s->number <= named;
		r->segments_count--;
	}
	if (r->segments_count > 0) {
		const struct log_repair_segment *s = &r->segments[r->segments_count - 1];
		r->tail_lost |= s->there && s->file_bytes < s->bytes;
	}
	for (int slot = 0; slot < 2; slot++) /* ... unless the end is known */
		if (r->manifests_good[slot] && (r->manifests[slot].flags & LOG_MANIFEST_CLEAN) &&
		    r->manifests[slot].durable_lsn == r->evidence)
			r->tail_lost = false;
	return 0;
}

/* Without the checkpoint that was the newest one, all of the log since the one that is left is needed: what has been released meanwhile
 * said which jobs had ended. */
static int check_history(struct log_repair *r)
{
	bool newest = false, known = false;
	uint64_t wanted = 0;
	for (int slot = 0; slot < 2; slot++)
		if (r->manifests_good[slot]) {
			known = true;
			if (r->manifests[slot].checkpoint.lsn > wanted)
				wanted = r->manifests[slot].checkpoint.lsn;
		}
	newest = known ? r->checkpoint.lsn >= wanted : r->checkpoint.lsn > 0;
	size_t missing = 0;
	while (missing < r->segments_count && r->segments[missing].there)
		missing++;
	if (newest || (missing > 0 && missing == r->segments_count))
		return 0;
	char name[LOG_PIN_NAME_BYTES], reason[256];
	snprintf(name, sizeof(name), LOG_CHECKPOINT_NAME, (unsigned long long)wanted);
	snprintf(reason, sizeof(reason),
	         "the checkpoint cannot be read, and the log, out of which the state could be made again, is "
	         "not "
	         "all there: seg-%016llx.log is the first that is gone, and what it said of jobs that have "
	         "ended "
	         "with it",
	         (unsigned long long)r->first + (unsigned long long)missing);
	return log_problem_damaged(r->log, r->problem, wanted > 0 ? name : "", 0, reason);
}

int log_repair_survey(struct log_repair *r)
{
	int status = read_manifests(r);
	if (status == 0)
		status = choose_cluster(r);
	if (status == 0)
		status = choose_checkpoint(r);
	if (status < 0)
		return status;
	r->first = r->checkpoint.segment;
	status = look_at_heads(r);
	for (size_t i = 0; i < r->below_count && status == 0; i++)
		status = look_at_head(r, &r->below[i]);
	if (status < 0)
		return status;
	return check_history(r);
}
