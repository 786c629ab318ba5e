/* src/log/repair.c -- a log that does not start any more, built again out of what can be read. See repair.h.
 *
 * Segment by segment, each whole in memory. What needs no change is linked, not copied; the last one is copied in any case, since the new
 * log will be appended to it. Thread: the log's loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/repair_inside.h"

enum { PIECE_BYTES = 1 << 20 };

/* ---- what is told of --------------------------------------------------------------------- */

static void add_lost(struct log_repair *r, uint64_t from, uint64_t to)
{
	struct log_repair_result *result = &r->result;
	if (result->lost_count == r->lost_cap) {
		size_t cap = r->lost_cap ? 2 * r->lost_cap : 64;
		struct log_repair_range *lost = realloc(r->lost, cap * sizeof(*lost));
		if (!lost) {
			r->error = -ENOMEM;
			return;
		}
		r->lost = lost;
		r->lost_cap = cap;
	}
	r->lost[result->lost_count++] = (struct log_repair_range){from, to};
	result->lost = r->lost;
	result->lost_bytes += to - from;
	if (from >= r->protected && from < result->lost_from)
		result->lost_from = from;
}

static void on_lost(void *arg, uint64_t from, uint64_t to, uint64_t offset, const char *reason)
{
	struct log_repair *r = arg;
	if (from == to)
		log_repair_tell(r, r->file, offset, reason);
	else
		add_lost(r, from, to);
}

bool log_repair_is_lost(const struct log_repair *r, uint64_t lsn)
{
	for (size_t i = 0; i < r->result.lost_count; i++)
		if (lsn >= r->lost[i].from && lsn < r->lost[i].to)
			return true;
	return false;
}

/* ---- files of the new log ---------------------------------------------------------------- */

char *log_repair_path(const struct log_repair *r, const char *name)
{
	size_t size = strlen(r->folder) + strlen(name) + 2;
	char *path = malloc(size);
	if (path)
		snprintf(path, size, "%s/%s", r->folder, name);
	return path;
}

static int64_t write_bytes(struct log_repair *r, int fd, const uint8_t *bytes, uint64_t len, uint64_t offset)
{
	int64_t n = 0;
	for (uint64_t at = 0; at < len && n >= 0; at += PIECE_BYTES)
		n = wh_pwrite_blocking(r->log->loop, fd, bytes + at,
		                       len - at < PIECE_BYTES ? len - at : PIECE_BYTES, offset + at);
	return n < 0 ? n : 0;
}

static int write_file(struct log_repair *r, const char *name, const uint8_t *bytes, uint64_t len)
{
	char *path = log_repair_path(r, name);
	int64_t n =
		path ? log_await(wh_open(r->log->loop, path, O_WRONLY | O_CREAT | O_EXCL, 0600)) : -ENOMEM;
	if (n >= 0) {
		int fd = (int)n;
		n = write_bytes(r, fd, bytes, len, 0);
		if (n >= 0)
			n = wh_fsync_blocking(r->log->loop, fd, false);
		(void)log_await(wh_close(r->log->loop, fd));
	}
	free(path);
	return n < 0 ? log_problem_io(r->problem, n, name, "cannot write the repaired file") : 0;
}

/* Elsewhere: under its whole name, from the root. */
static int64_t link_from_elsewhere(struct log_repair *r, const char *name, const char *to)
{
	size_t size = strlen(r->real) + strlen(name) + 2;
	char *from = malloc(size);
	if (from)
		snprintf(from, size, "%s/%s", r->real, name);
	int64_t n = from ? log_await(wh_symlink(r->log->loop, from, to)) : -ENOMEM;
	free(from);
	return n;
}

/* The file as it is; a copy where the file system has no second names. */
static int link_file(struct log_repair *r, const char *name)
{
	char *from = log_path(r->log, "%s", name), *to = log_repair_path(r, name);
	int64_t n = -ENOMEM;
	if (from && to && r->real)
		n = link_from_elsewhere(r, name, to);
	else if (from && to)
		n = log_await(wh_link(r->log->loop, from, to));
	if (n == -EPERM || n == -EOPNOTSUPP || n == -ENOSYS || n == -EMLINK)
		n = log_await(wh_copy_file(r->log->loop, from, to, false));
	free(from);
	free(to);
	return n < 0 ? log_problem_io(r->problem, n, name, "cannot link the file") : 0;
}

/* ---- one segment ------------------------------------------------------------------------- */

static void put_identity(struct log_repair *r, const struct log_repair_segment *s)
{
	log_identity_put(r->image, &(struct log_identity){.cluster = r->log->cluster,
	                                                  .number = s->number,
	                                                  .salt = s->salt,
	                                                  .bytes = s->bytes,
	                                                  .made = wh_wall_now(r->log->loop)});
}

/* The opening of the segment in memory says what the state was where it begins. true: it had to be changed. */
static bool put_opening(struct log_repair *r, const struct log_repair_segment *s,
                        const struct log_mend *begin)
{
	const struct log_opening *is = &s->opening;
	struct log_opening opening = {.number = s->number,
	                              .base_lsn = begin->lsn,
	                              .group_seq = begin->seq + 1,
	                              .epoch = begin->epoch,
	                              .chain = begin->chain,
	                              .wall_time = wh_wall_now(r->log->loop)};
	if (s->there && s->opening_state == LOG_GOOD && is->base_lsn == opening.base_lsn &&
	    is->group_seq == opening.group_seq && log_hash_equal(is->chain, opening.chain))
		return false;
	if (s->there && s->opening_state != LOG_GOOD)
		log_repair_tell(r, r->file, LOG_BLOCK_BYTES, "the segment's opening is damaged");
	log_opening_put(r->image + LOG_BLOCK_BYTES, &opening, s->salt);
	return true;
}

/* Zeros after the last group. true: something else was there. */
static bool clear_end(struct log_repair *r, const struct log_repair_segment *s, uint64_t end_lsn)
{
	uint64_t offset = LOG_SEGMENT_HEAD_BYTES + (end_lsn - s->base);
	if (log_is_zero(r->image + offset, s->bytes - offset))
		return false;
	memset(r->image + offset, 0, s->bytes - offset);
	return true;
}

static int read_segment(struct log_repair *r, struct log_repair_segment *s, char *name)
{
	log_repair_segment_name(s->number, name);
	r->file = name;
	if (s->there)
		return log_repair_read(r, name, s->bytes);
	log_repair_tell(r, name, 0,
	                s->file_bytes > 0 ? "nothing in the segment can be read" : "the segment is missing");
	wh_random(r->log->loop, &s->salt, sizeof(s->salt));
	return log_repair_blank(r, s->bytes);
}

static int finish_segment(struct log_repair *r, const struct log_repair_segment *s, bool changed,
                          const char *name)
{
	if (!changed && s->identified && s->file_bytes == s->bytes)
		return link_file(r, name);
	if (!s->identified)
		put_identity(r, s);
	return write_file(r, name, r->image, s->bytes);
}

static void mend_begin(struct log_repair *r, const struct log_repair_segment *s, struct log_mend *m)
{
	m->bytes = r->image;
	m->size = s->bytes;
	m->salt = s->salt;
	m->base_lsn = m->lsn = s->base;
	m->lost = on_lost;
	m->lost_arg = r;
}

/* The state before a segment of which only itself can say it. last: an epoch that comes behind, in it; 0: not known. */
static void begin_alone(const struct log_repair_segment *s, uint32_t last, struct log_mend *m)
{
	struct log_group group;
	uint64_t base;
	m->rest = true;
	if (s->there && s->opening_state == LOG_GOOD) {
		m->seq = s->opening.group_seq - 1;
		m->epoch = s->opening.epoch;
		m->chain = m->old = s->opening.chain;
		m->old_known = true;
	} else if (log_mend_first(m->bytes, m->size, m->salt, LOG_SEGMENT_HEAD_BYTES, &group, &base)) {
		m->seq = group.seq - 1;
		m->epoch = group.epoch - log_mend_begins_epoch(m, group.lsn);
	} else {
		m->epoch =
			last > 0 ? last : 1; /* nothing in it can be read: as long as no group begins one */
	}
	if (last > 0 && m->epoch > last)
		m->epoch = last; /* what can be read first is behind that */
}

static int mend_below(struct log_repair *r, struct log_repair_segment *s)
{
	char name[LOG_PIN_NAME_BYTES];
	struct log_mend m = {.limit = s->end}, begin;
	if (!s->there)
		return 0; /* released since, or lost: whoever needs something in it finds out */
	int status = read_segment(r, s, name);
	if (status < 0)
		return status;
	if (s->opening_state == LOG_GOOD && s->opening.base_lsn != s->base)
		s->opening_state = LOG_BAD;
	mend_begin(r, s, &m);
	begin_alone(s, 0, &m);
	begin = m;
	status = log_mend_run(&m);
	if (status < 0)
		return log_problem_io(r->problem, status, name, "cannot mend the segment");
	if (m.lsn != s->end)
		return log_problem_damaged(
			r->log, r->problem, name, 0,
			"the checkpoint says that the segment held more than fits into it");
	bool changed = m.changed;
	changed |= put_opening(r, s, &begin);
	changed |= clear_end(r, s, s->end);
	return finish_segment(r, s, changed, name);
}

/* ---- all behind the checkpoint ----------------------------------------------------------- */

struct walk {
	struct log_repair *r;
	struct log_mend m;             /* the state of the log as far as it has come */
	struct log_mend at_checkpoint; /* ... as it was at C */
	size_t at;
	bool cut, rechained;
};

/* How large a segment that is not there must have been. */
static uint64_t bytes_of(const struct log_repair *r, size_t index)
{
	const struct log_repair_segment *s = &r->segments[index];
	if (s->there)
		return s->bytes;
	for (size_t i = index; i-- > 0;)
		if (r->segments[i].there)
			return r->segments[i].bytes;
	for (size_t i = index; i < r->segments_count; i++)
		if (r->segments[i].there)
			return r->segments[i].bytes;
	return UINT64_C(64) << 20;
}

static bool next_base(const struct log_repair *r, size_t index, uint64_t *ret, struct log_mend_after *after)
{
	if (index + 1 >= r->segments_count || !r->segments[index + 1].base_known)
		return false;
	*ret = r->segments[index + 1].base;
	*after = r->segments[index + 1].first;
	return true;
}

/* In the segment of the checkpoint: up to C, where the state is known, and may have to be made known anew. */
static int mend_to_checkpoint(struct walk *w, const struct log_repair_segment *s)
{
	struct log_repair *r = w->r;
	const struct log_checkpoint_header *c = &r->checkpoint;
	struct log_mend *m = &w->m;
	m->limit = c->lsn;
	m->after = (struct log_mend_after){.known = true, .epoch = c->epoch};
	int status = log_mend_run(m);
	if (status < 0)
		return log_problem_io(r->problem, status, r->file, "cannot mend the segment");
	if (m->lsn != c->lsn)
		return log_problem_damaged(r->log, r->problem, r->file, 0,
		                           "a segment does not agree with the checkpoint");
	w->at_checkpoint = *m;
	w->rechained = m->seq != c->seq || !log_hash_equal(m->chain, c->chain);
	m->epoch = c->epoch;
	m->old = c->chain;
	m->old_known = true;
	m->in_transaction = false;
	(void)s;
	return 0;
}

static void begin_walk(struct walk *w)
{
	struct log_repair *r = w->r;
	struct log_repair_segment *s = &r->segments[0];
	const struct log_checkpoint_header *c = &r->checkpoint;
	uint64_t base = c->lsn > 0 ? c->lsn - (c->offset - LOG_SEGMENT_HEAD_BYTES) : 0;
	if (s->base_known && s->base != base)
		s->opening_state = LOG_BAD;
	s->base = base;
	s->base_known = true;
	if (c->lsn == 0) {
		w->m.chain = w->m.old = r->log->cluster;
		w->m.old_known = true;
	} else if (c->lsn == base) {
		w->m.seq = c->seq;
		w->m.epoch = c->epoch;
		w->m.chain = w->m.old = c->chain;
		w->m.old_known = true;
	}
}

static int on_dropped(void *arg, const struct log_record *record)
{
	struct log_repair *r = arg;
	r->result.dropped_records++;
	if (record->group_end > r->result.dropped_to)
		r->result.dropped_to = record->group_end;
	return r->options.dropped ? r->options.dropped(r->options.arg, record) : 0;
}

/* What is behind the cut, a transaction that it cuts through included. */
static int tell_dropped(struct walk *w)
{
	struct log_repair *r = w->r;
	uint64_t from = w->m.in_transaction ? w->m.transaction_lsn : w->m.lsn;
	int status = 0;
	for (size_t i = 0; i < r->segments_count && status == 0; i++) {
		const struct log_repair_segment *s = &r->segments[i];
		char name[LOG_PIN_NAME_BYTES];
		if (!s->there || !s->base_known || (i < w->at && r->segments[i + 1].base <= from))
			continue;
		log_repair_segment_name(s->number, name);
		uint64_t skip = from > s->base ? from - s->base : 0;
		status = log_repair_read(r, name, s->bytes);
		if (status == 0)
			status = log_mend_records(r->image, s->bytes, s->salt, s->number, s->base,
			                          LOG_SEGMENT_HEAD_BYTES + skip, on_dropped, r,
			                          &r->result.dropped_groups);
	}
	return status;
}

static void end_walk(struct walk *w, const struct log_repair_segment *s)
{
	struct log_repair *r = w->r;
	uint64_t end = w->m.lsn;
	r->result.end_lsn = end;
	r->result.segment_bytes = s->bytes;
	w->cut = w->m.stopped;
	if (r->tail_lost && r->evidence <= end)
		r->evidence = end + LOG_BLOCK_BYTES; /* so much at least */
	r->result.ends_early = w->cut || r->evidence > end;
	if (w->cut)
		r->result.gone_bytes = r->evidence > end ? r->evidence - end : 0;
	if (w->cut && end < r->result.lost_from)
		r->result.lost_from = w->m.in_transaction ? w->m.transaction_lsn : end;
	if (r->evidence <= end || w->cut)
		return;
	log_repair_tell(r, r->file, LOG_SEGMENT_HEAD_BYTES + (end - s->base),
	                "the log ends before what was durable");
	add_lost(r, end, r->evidence);
}

static int walk_segment(struct walk *w, bool *ret_end)
{
	struct log_repair *r = w->r;
	struct log_repair_segment *s = &r->segments[w->at];
	struct log_mend *m = &w->m, begin;
	char name[LOG_PIN_NAME_BYTES];
	if (!s->there)
		s->bytes = bytes_of(r, w->at);
	int status = read_segment(r, s, name);
	if (status < 0)
		return status;
	if (w->at > 0 && s->base_known && s->base != m->lsn)
		return log_problem_damaged(r->log, r->problem, name, LOG_BLOCK_BYTES,
		                           "the segments do not follow each other");
	if (w->at > 0)
		s->base = m->lsn;
	s->base_known = true;
	m->bytes = r->image;
	m->size = s->bytes;
	m->salt = s->salt;
	m->base_lsn = m->lsn = s->base;
	m->changed = false;
	m->evidence = r->evidence;
	if (w->at == 0 && r->checkpoint.lsn > s->base)
		begin_alone(s, r->checkpoint.epoch, m);
	begin = *m;
	if (w->at == 0 && r->checkpoint.lsn > s->base)
		status = mend_to_checkpoint(w, s);
	if (status < 0)
		return status;
	m->limit = UINT64_MAX;
	m->after = (struct log_mend_after){0};
	m->stop = r->options.cut;
	(void)next_base(r, w->at, &m->limit, &m->after);
	status = log_mend_run(m);
	if (status < 0)
		return log_problem_io(r->problem, status, name, "cannot mend the segment");
	*ret_end = m->stopped || w->at + 1 == r->segments_count;
	if (*ret_end)
		end_walk(w, s);
	bool changed = m->changed || *ret_end;
	changed |= put_opening(r, s, &begin);
	changed |= clear_end(r, s, m->lsn);
	status = finish_segment(r, s, changed, name);
	return status < 0 || !w->cut ? status : tell_dropped(w);
}

/* ---- checkpoint and manifest ------------------------------------------------------------- */

/* The same checkpoint after another chain. Every chunk hangs on the header, and the name on the trailer. */
static int copy_chunks(struct log_repair *r, int from, int to, struct log_checkpoint_trailer *trailer)
{
	struct log_hash chain = log_block_hash(r->image);
	uint64_t at = LOG_BLOCK_BYTES;
	int64_t n = 0;
	while (at + LOG_BLOCK_BYTES < r->checkpoint_name.bytes) {
		struct log_chunk chunk;
		n = wh_pread_blocking(r->log->loop, from, r->image, LOG_BLOCK_BYTES, at);
		if (n < LOG_BLOCK_BYTES || log_chunk_get(r->image, r->checkpoint.salt, &chunk) != LOG_GOOD)
			return n < 0 ? (int)n : -EIO;
		n = wh_pread_blocking(r->log->loop, from, r->image, chunk.chunk_len, at);
		if (n < (int64_t)chunk.chunk_len)
			return n < 0 ? (int)n : -EIO;
		log_chunk_put(r->image, &chunk, chain, r->checkpoint.salt);
		chain = chunk.chain;
		n = write_bytes(r, to, r->image, chunk.chunk_len, at);
		if (n < 0)
			return (int)n;
		at += chunk.chunk_len;
	}
	n = wh_pread_blocking(r->log->loop, from, r->image, LOG_BLOCK_BYTES, at);
	if (n < LOG_BLOCK_BYTES ||
	    log_checkpoint_trailer_get(r->image, r->checkpoint.salt, trailer) != LOG_GOOD)
		return n < 0 ? (int)n : -EIO;
	trailer->chain = chain;
	log_checkpoint_trailer_put(r->image, trailer, r->checkpoint.salt);
	r->checkpoint_name.hash = log_block_hash(r->image);
	return (int)write_bytes(r, to, r->image, LOG_BLOCK_BYTES, at);
}

static int rechain_checkpoint(struct log_repair *r, const char *name, const struct log_mend *m)
{
	char *source = log_path(r->log, "%s", name), *path = log_repair_path(r, name);
	struct log_checkpoint_trailer trailer;
	int64_t from = source ? log_await(wh_open(r->log->loop, source, O_RDONLY, 0)) : -ENOMEM, to = -1;
	int64_t n = from;
	if (n >= 0)
		n = to = path ? log_await(wh_open(r->log->loop, path, O_WRONLY | O_CREAT | O_EXCL, 0600))
		              : -ENOMEM;
	if (n >= 0 && r->image_bytes < LOG_CHUNK_BYTES_MAX)
		n = log_repair_read(r, name, LOG_CHUNK_BYTES_MAX);
	if (n >= 0) {
		r->checkpoint.seq = m->seq;
		r->checkpoint.chain = m->chain;
		log_checkpoint_header_put(r->image, &r->checkpoint);
		n = write_bytes(r, (int)to, r->image, LOG_BLOCK_BYTES, 0);
	}
	if (n >= 0)
		n = copy_chunks(r, (int)from, (int)to, &trailer);
	if (n >= 0)
		n = wh_fsync_blocking(r->log->loop, (int)to, false);
	if (from >= 0)
		(void)log_await(wh_close(r->log->loop, (int)from));
	if (to >= 0)
		(void)log_await(wh_close(r->log->loop, (int)to));
	free(source);
	free(path);
	return n < 0 ? log_problem_io(r->problem, n, name, "cannot write the checkpoint again") : 0;
}

static int write_manifest(struct log_repair *r, const struct walk *w)
{
	struct log_manifest manifest = {.epoch = w->m.epoch,
	                                .sequence = 1,
	                                .first_segment = r->first,
	                                .last_segment = r->segments[w->at].number,
	                                .durable_lsn = r->result.end_lsn,
	                                .cluster = r->log->cluster,
	                                .checkpoint = r->checkpoint_name,
	                                .wall_time = wh_wall_now(r->log->loop)};
	struct log *log = r->log;
	bool known = r->manifests_good[0] || r->manifests_good[1];
	if (r->checkpoint.epoch > manifest.epoch)
		manifest.epoch = r->checkpoint.epoch;
	for (int slot = 0; slot < 2; slot++) {
		const struct log_manifest *m = &r->manifests[slot];
		for (uint32_t i = 0; r->manifests_good[slot] && i < m->epoch_count; i++)
			if (log_epoch_add(log, m->epochs[i].epoch, m->epochs[i].reason, m->epochs[i].start) <
			    0)
				return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
		if (r->manifests_good[slot] && m->epoch > manifest.epoch)
			manifest.epoch = m->epoch;
	}
	manifest.epoch += !known; /* the one that was given out last may have left nothing else */
	size_t count = log->epochs_count < LOG_EPOCHS_MAX ? log->epochs_count : LOG_EPOCHS_MAX;
	for (size_t i = 0; i < count; i++) {
		const struct log_epoch *epoch = &log->epochs[log->epochs_count - count + i];
		manifest.epochs[i] = (struct log_manifest_epoch){epoch->epoch, epoch->reason, epoch->start};
		if (manifest.epochs[i].start > r->result.end_lsn)
			manifest.epochs[i].start = r->result.end_lsn;
	}
	manifest.epoch_count = (uint32_t)count;
	log_manifest_put(log->manifest_block, &manifest);
	return write_file(r, "manifest-a", log->manifest_block, LOG_BLOCK_BYTES);
}

/* ---- all of it --------------------------------------------------------------------------- */

static int build(struct log_repair *r)
{
	struct walk w = {.r = r};
	char name[LOG_PIN_NAME_BYTES];
	bool end = r->segments_count == 0;
	uint64_t last = 0; /* what can have been there behind a cut, at most */
	int status = 0;
	w.m.lost = on_lost;
	w.m.lost_arg = r;
	if (!end && r->segments[r->segments_count - 1].base_known)
		last = r->segments[r->segments_count - 1].base + r->segments[r->segments_count - 1].bytes;
	r->result.lost_from = UINT64_MAX;
	if (end)
		return log_problem_damaged(r->log, r->problem, "", 0,
		                           "there is nothing of the log behind the checkpoint");
	for (size_t i = 0; i < r->below_count && status == 0; i++)
		status = mend_below(r, &r->below[i]);
	begin_walk(&w);
	while (status == 0 && !end) {
		status = walk_segment(&w, &end);
		if (status == 0 && w.at == 0 && r->checkpoint.lsn > 0) {
			snprintf(name, sizeof(name), LOG_CHECKPOINT_NAME,
			         (unsigned long long)r->checkpoint.lsn);
			status = w.rechained ? rechain_checkpoint(r, name, &w.at_checkpoint)
			                     : link_file(r, name);
		}
		w.at += status == 0 && !end;
	}
	if (w.cut && last > r->result.end_lsn + r->result.gone_bytes)
		r->result.gone_bytes = last - r->result.end_lsn;
	r->result.gone_bytes += r->result.lost_bytes;
	if (status == 0)
		status = write_manifest(r, &w);
	if (status == 0 && r->error < 0)
		status = log_problem_io(r->problem, r->error, r->log->path, "no memory");
	return status;
}

static int run(struct log_repair *r)
{
	struct log *log = r->log;
	struct wh_stat stat;
	int64_t n = log_await(wh_stat(log->loop, log->path, &stat));
	if (n < 0)
		return log_problem_io(r->problem, n, log->path, "cannot open the folder");
	int status = log_repair_take(r);
	if (status < 0)
		return status;
	wh_res res = wh_await(wh_list(log->loop, log->path));
	if (res.n < 0)
		return log_problem_io(r->problem, res.n, log->path, "cannot list the folder");
	r->names = res.ptr;
	status = log_repair_unfinished(r);
	if (status == 0)
		status = log_repair_folder_make(r);
	if (status == 0)
		status = log_repair_survey(r);
	return status < 0 ? status : build(r);
}

int log_repair_build(wh_loop *loop, const struct log_repair_options *options, struct log_repair **ret,
                     struct log_problem *ret_problem)
{
	struct log_options o = {.path = options->path,
	                        .segment_bytes = LOG_SEGMENT_BYTES_MIN,
	                        .group_bytes = LOG_GROUP_BYTES_MAX,
	                        .notice = options->notice,
	                        .notice_arg = options->notice_arg};
	struct log_repair *r = calloc(1, sizeof(*r));
	int status = -ENOMEM;
	if (r) {
		r->options = *options;
		r->problem = ret_problem;
		r->manifests = calloc(2, sizeof(*r->manifests));
		r->log = log_new(loop, &o);
	}
	if (!r || !r->manifests || !r->log) {
		log_problem_io(ret_problem, -ENOMEM, options->path, "no memory");
	} else {
		r->log->looking = true;
		r->folder = log_path(r->log, LOG_REPAIR_FOLDER);
		r->result.folder = r->folder;
		status =
			r->folder ? run(r) : log_problem_io(ret_problem, -ENOMEM, options->path, "no memory");
	}
	if (status == -WH_EDAMAGED) /* what damage else is met with is this */
		snprintf(ret_problem->advice, sizeof(ret_problem->advice),
		         "It cannot be repaired, and nothing was changed: restore the folder from a backup");
	if (status < 0) {
		log_repair_discard(r);
		return status;
	}
	*ret = r;
	return 0;
}

const struct log_repair_result *log_repair_result(const struct log_repair *r)
{
	return &r->result;
}

int log_repair_records(struct log_repair *r, log_replay_function *each, void *arg)
{
	int status = 0;
	for (size_t i = 0; i < r->below_count + r->segments_count && status == 0; i++) {
		const struct log_repair_segment *s =
			i < r->below_count ? &r->below[i] : &r->segments[i - r->below_count];
		char name[LOG_PIN_NAME_BYTES];
		uint64_t groups = 0;
		struct wh_stat stat;
		if (!s->base_known || (s->below && !s->there))
			continue;
		log_repair_segment_name(s->number, name);
		char *path = log_repair_path(r, name);
		int64_t n = path ? log_await(wh_stat(r->log->loop, path, &stat)) : -ENOMEM;
		free(path);
		if (n == -ENOENT)
			continue;
		status = n < 0 ? (int)n : log_repair_read_new(r, name, s->bytes);
		if (status == 0)
			status = log_mend_records(r->image, s->bytes, s->salt, s->number, s->base,
			                          LOG_SEGMENT_HEAD_BYTES, each, arg, &groups);
	}
	return status;
}
