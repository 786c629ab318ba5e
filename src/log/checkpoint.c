/* src/log/checkpoint.c -- writing a checkpoint in the background while the log goes on.
 *
 * Records are copied into chunks; chunks are written one after the other by a chain of operations, which goes on by itself as
 * long as there is something to do. Each is on the disk before the next is written, so that the last flush is short and commits never
 * wait behind more than one. When everything is in the file: fsync, rename, fsync of the folder, and
 * the two manifests, in this order; only what both of them name counts for log_segment_release().
 *
 * Up to the rename nothing depends on the file, so a full disk or want of memory ends the checkpoint alone. Other errors
 * end the log. Thread: the log's loop.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "log/inside.h"

enum { CHUNK_BYTES = 256 << 10, CHUNKS_KEPT_MAX = 4 };

struct chunk {
	struct chunk *next;
	uint64_t offset;
	uint32_t used, cap; /* with the header */
	uint32_t len;       /* once closed */
	uint32_t records;
	uint8_t *bytes;
};

enum step {
	CREATE,
	HEADER,
	BODY,
	BODY_SYNC,
	WAIT,
	TRAILER,
	SYNC,
	RENAME,
	SYNC_DIRECTORY,
	NAME,
	REMOVE,
	DONE
};

static const char *const step_texts[] = {
	"cannot create the checkpoint", "cannot write the checkpoint",  "cannot write the checkpoint",
	"cannot flush the checkpoint",  "cannot flush the log",         "cannot write the checkpoint",
	"cannot flush the checkpoint",  "cannot rename the checkpoint", "cannot flush the folder",
	"cannot name the checkpoint",   "cannot remove the checkpoint", "",
};

struct log_checkpoint {
	struct log *log;
	struct log_checkpoint_header header;
	struct log_hash chain; /* of the last closed chunk */
	struct chunk *open, *queue, *queue_last, *kept;
	uint32_t kept_count;
	uint64_t offset; /* of the next closed chunk */
	uint64_t chunks, records, queued_bytes;
	uint64_t written_to, synced_to; /* of the file's bytes */
	uint8_t *block;                 /* header, then trailer */
	int fd, step;
	bool busy;             /* an operation is under way */
	bool held;             /* the owner has the handle */
	bool ending;           /* log_checkpoint_end() was called */
	bool created, renamed; /* there is a file that no manifest names; it has its name */
	int64_t error;
	struct log_checkpoint_name name;
	wh_mark *room;
	uint64_t room_count;
	wh_future end;
};

static void go_on(struct log_checkpoint *c);

/* ---- memory ------------------------------------------------------------------------------ */

static struct chunk *chunk_free(struct chunk *chunk)
{
	if (chunk)
		free(chunk->bytes);
	free(chunk);
	return NULL;
}

static struct chunk *chunk_new(struct log_checkpoint *c, uint64_t bytes)
{
	uint64_t cap = log_round_up(LOG_CHUNK_HEADER_BYTES + bytes, LOG_BLOCK_BYTES);
	struct chunk *chunk = c->kept;
	if (chunk && cap <= CHUNK_BYTES) {
		c->kept = chunk->next;
		c->kept_count--;
		*chunk = (struct chunk){.cap = chunk->cap, .bytes = chunk->bytes};
	} else {
		chunk = malloc(sizeof(*chunk));
		if (!chunk)
			return NULL;
		cap = cap < CHUNK_BYTES ? CHUNK_BYTES : cap;
		*chunk = (struct chunk){.cap = (uint32_t)cap, .bytes = aligned_alloc(LOG_BLOCK_BYTES, cap)};
		if (!chunk->bytes)
			return chunk_free(chunk);
	}
	chunk->used = LOG_CHUNK_HEADER_BYTES;
	return chunk;
}

static void chunk_done(struct log_checkpoint *c, struct chunk *chunk)
{
	if (chunk->cap != CHUNK_BYTES || c->kept_count == CHUNKS_KEPT_MAX) {
		chunk_free(chunk);
		return;
	}
	chunk->next = c->kept;
	c->kept = chunk;
	c->kept_count++;
}

static void chunks_drop(struct log_checkpoint *c)
{
	struct chunk *lists[] = {c->queue, c->kept, c->open};
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		for (struct chunk *chunk = lists[i], *next; chunk; chunk = next) {
			next = chunk->next;
			chunk_free(chunk);
		}
	c->open = c->queue = c->queue_last = c->kept = NULL;
	c->kept_count = 0;
	c->queued_bytes = 0;
}

static struct log_checkpoint *checkpoint_new(struct log *log)
{
	struct log_checkpoint *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->log = log;
	c->fd = -1;
	c->block = aligned_alloc(LOG_BLOCK_BYTES, LOG_BLOCK_BYTES);
	if (c->block && wh_mark_open(log->loop, &c->room, 0) == 0)
		return c;
	free(c->block);
	free(c);
	return NULL;
}

static void checkpoint_free(struct log_checkpoint *c)
{
	chunks_drop(c);
	wh_mark_close(c->room);
	free(c->block);
	free(c);
}

void log_checkpoint_free(struct log *log)
{
	if (log->checkpoint)
		checkpoint_free(log->checkpoint);
	log->checkpoint = NULL;
}

/* ---- the end of one ---------------------------------------------------------------------- */

/* Nothing is under way for it any more, and its file is what it is to be. */
static void finish(struct log_checkpoint *c)
{
	struct log *log = c->log;
	c->step = DONE;
	if (c->ending)
		(void)wh_resolve(c->end, c->error, NULL);
	if (!c->held)
		log_checkpoint_free(log);
}

static void on_closed(wh_loop *loop, wh_res res, void *arg)
{
	log_op_end(arg);
}

static void close_file(struct log_checkpoint *c)
{
	if (c->fd >= 0)
		log_op(c->log, wh_close(c->log->loop, c->fd), on_closed);
	c->fd = -1;
}

/* From here on it is only removed. */
static void set_error(struct log_checkpoint *c, int64_t error)
{
	if (c->error)
		return;
	c->error = error;
	wh_mark_fail(c->room, error);
}

void log_checkpoint_failed(struct log *log)
{
	struct log_checkpoint *c = log->checkpoint;
	if (!c || c->step == DONE)
		return;
	set_error(c, log->failed);
	if (!c->busy)
		go_on(c);
}

void log_checkpoint_abandon(struct log *log)
{
	struct log_checkpoint *c = log->checkpoint;
	if (!c)
		return;
	set_error(c, log->failed ? log->failed : -ECANCELED);
	if (c->fd >= 0)
		(void)log_await(wh_close(log->loop, c->fd));
	c->fd = -1;
	if (c->created && !c->renamed && !log->failed) {
		char *path = log_path(log, LOG_CHECKPOINT_TEMPORARY, (unsigned long long)c->header.lsn);
		if (path)
			(void)log_await(wh_unlink(log->loop, path));
		free(path);
	}
	c->held = false;
	finish(c);
}

/* ---- earlier ones ------------------------------------------------------------------------ */

void log_checkpoint_forget(struct log *log, uint64_t lsn)
{
	/* one too many: the next start removes it */
	if (lsn > 0 && log->checkpoints_old_count < LOG_CHECKPOINTS_OLD_MAX)
		log->checkpoints_old[log->checkpoints_old_count++] = lsn;
}

void log_checkpoint_remove_old(struct log *log)
{
	size_t kept = 0;
	for (size_t i = 0; i < log->checkpoints_old_count; i++) {
		uint64_t lsn = log->checkpoints_old[i];
		char *path = lsn < log_manifest_checkpoint(log) && !log_checkpoint_is_pinned(log, lsn)
		                     ? log_path(log, LOG_CHECKPOINT_NAME, (unsigned long long)lsn)
		                     : NULL;
		if (path)
			log_op(log, wh_unlink(log->loop, path), on_closed);
		else
			log->checkpoints_old[kept++] = lsn;
		free(path);
	}
	log->checkpoints_old_count = kept;
}

/* ---- the chain of operations ------------------------------------------------------------- */

static void on_step(wh_loop *loop, wh_res res, void *arg);

static void start(struct log_checkpoint *c, int step, wh_future f)
{
	c->step = step;
	c->busy = true;
	log_op(c->log, f, on_step);
	if (c->log->failed) { /* just now: nobody will come back from it */
		c->busy = false;
		go_on(c);
	}
}

/* One of the steps that need a path; want of memory ends the checkpoint. */
static void start_named(struct log_checkpoint *c, int step)
{
	struct log *log = c->log;
	unsigned long long lsn = c->header.lsn;
	char *temporary = log_path(log, LOG_CHECKPOINT_TEMPORARY, lsn),
	     *path = log_path(log, LOG_CHECKPOINT_NAME, lsn);
	if (!temporary || !path) {
		/* what cannot be removed is removed at the next start */
		c->created = false;
		set_error(c, -ENOMEM);
		free(temporary);
		free(path);
		go_on(c);
		return;
	}
	if (step == CREATE)
		start(c, step, wh_open(log->loop, temporary, O_RDWR | O_CREAT | O_TRUNC, 0600));
	else if (step == RENAME)
		start(c, step, wh_rename(log->loop, temporary, path));
	else
		start(c, step, wh_unlink(log->loop, c->renamed ? path : temporary));
	free(temporary);
	free(path);
}

static void write_trailer(struct log_checkpoint *c)
{
	struct log_checkpoint_trailer trailer = {.bytes = c->offset + LOG_BLOCK_BYTES,
	                                         .chunks = c->chunks,
	                                         .records = c->records,
	                                         .chain = c->chain};
	log_checkpoint_trailer_put(c->block, &trailer, c->header.salt);
	c->name = (struct log_checkpoint_name){c->header.lsn, trailer.bytes, log_block_hash(c->block)};
	start(c, TRAILER, wh_pwrite_all(c->log->loop, c->fd, c->block, LOG_BLOCK_BYTES, c->offset));
}

/* The body: what is queued, each piece on the disk before the next, so that commits wait for none for long; and when nothing more
 * is to come, the rest. */
static void go_on_writing(struct log_checkpoint *c)
{
	struct log *log = c->log;
	struct chunk *chunk = c->queue;
	if (c->written_to > c->synced_to)
		start(c, BODY_SYNC,
		      wh_sync_range(log->loop, c->fd, c->synced_to, c->written_to - c->synced_to,
		                    LOG_WRITE_OUT));
	else if (chunk)
		start(c, BODY, wh_pwrite_all(log->loop, c->fd, chunk->bytes, chunk->len, chunk->offset));
	else if (c->ending)
		start(c, WAIT, wh_mark_wait(log->flushed, c->header.lsn));
}

/* Its file has its name: the manifests are told, one after the other. */
static void name_it(struct log_checkpoint *c)
{
	struct log *log = c->log;
	c->step = NAME;
	c->created = false;
	log_checkpoint_forget(log, log->manifest.checkpoint.lsn);
	log->manifest.checkpoint = c->name;
	log->manifest.first_segment = c->header.segment;
	log_manifest_save_later(log);
}

void log_checkpoint_named(struct log *log)
{
	struct log_checkpoint *c = log->checkpoint;
	if (log->failed || log->closing)
		return;
	if (log_manifest_checkpoint(log) < log->manifest.checkpoint.lsn) {
		log_manifest_save_later(log);
		return;
	}
	log->below = log->manifest.first_segment;
	log_checkpoint_remove_old(log);
	if (!c || c->step != NAME)
		return;
	log->stats.checkpoints++;
	finish(c);
}

static void give_up(struct log_checkpoint *c)
{
	chunks_drop(c);
	close_file(c);
	if (c->created && !c->log->failed)
		start_named(c, REMOVE);
	else
		finish(c);
}

/* Whatever is next, unless something is under way. */
static void go_on(struct log_checkpoint *c)
{
	if (c->busy || c->step == DONE || c->log->closing)
		return;
	if (c->error) {
		give_up(c);
		return;
	}
	switch (c->step) {
	case CREATE:
		if (c->fd < 0)
			start_named(c, CREATE);
		else
			start(c, HEADER, wh_pwrite_all(c->log->loop, c->fd, c->block, LOG_BLOCK_BYTES, 0));
		break;
	case HEADER:
	case BODY:
	case BODY_SYNC:
		go_on_writing(c);
		break;
	case WAIT:
		write_trailer(c);
		break;
	case TRAILER:
		start(c, SYNC, wh_fsync(c->log->loop, c->fd, false));
		break;
	case SYNC:
		close_file(c);
		start_named(c, RENAME);
		break;
	case RENAME:
		c->renamed = true;
		start(c, SYNC_DIRECTORY, wh_fsync(c->log->loop, c->log->directory_fd, false));
		break;
	case SYNC_DIRECTORY:
		name_it(c);
		break;
	default:
		break; /* NAME: the manifest goes on */
	}
}

static void written(struct log_checkpoint *c)
{
	struct chunk *chunk = c->queue;
	c->queue = chunk->next;
	if (!c->queue)
		c->queue_last = NULL;
	c->queued_bytes -= chunk->len;
	c->written_to = chunk->offset + chunk->len;
	c->log->stats.checkpoint_written_bytes += chunk->len;
	chunk_done(c, chunk);
	wh_mark_raise(c->room, ++c->room_count);
}

/* Nothing depends on the file yet, and the next try may find what was lacking. -EAGAIN: the loop is full of operations. */
static bool ends_the_checkpoint_alone(const struct log_checkpoint *c, int64_t error)
{
	bool lack = error == -ENOSPC || error == -EDQUOT || error == -ENOMEM || error == -EAGAIN;
	bool never_begun = error == -ENOMEM || error == -EAGAIN;
	return lack && c->step != WAIT && (c->step <= RENAME || (c->step == SYNC_DIRECTORY && never_begun));
}

static void on_step(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	struct log_checkpoint *c = log->checkpoint;
	c->busy = false;
	if (c->step == CREATE && res.n >= 0) {
		c->fd = (int)res.n;
		c->created = true;
	}
	if (log->closing)
		return;
	if (c->step == REMOVE) {
		finish(c);
		return;
	}
	if (c->step == BODY_SYNC && res.n == -ENOSYS)
		res.n = 0; /* then it is written out when all of it is */
	if (res.n < 0 && ends_the_checkpoint_alone(c, res.n)) {
		if (!c->error)
			log_notice(log, WH_LOG_WARNING, "%s: %s: %s; it is given up", log->path,
			           step_texts[c->step], wh_strerror(res.n));
		set_error(c, res.n);
	} else if (res.n < 0 && c->step != WAIT && !log->failed) {
		log_fail(log, res.n, step_texts[c->step], log->path);
		return; /* which has ended it */
	} else if (res.n < 0) {
		set_error(c, log->failed ? log->failed : res.n);
	} else if (c->step == BODY) {
		written(c);
	} else if (c->step == BODY_SYNC) {
		c->synced_to = c->written_to;
	}
	go_on(c);
}

/* ---- for its owner ----------------------------------------------------------------------- */

/* The open chunk is whole: into the queue. */
static void close_chunk(struct log_checkpoint *c)
{
	struct chunk *chunk = c->open;
	struct log_chunk header = {
		.offset = c->offset,
		.sequence = c->chunks,
		.chunk_len = (uint32_t)log_round_up(chunk->used, LOG_BLOCK_BYTES),
		.payload_len = chunk->used - LOG_CHUNK_HEADER_BYTES,
		.record_count = chunk->records,
	};
	memset(chunk->bytes + chunk->used, 0, header.chunk_len - chunk->used);
	log_chunk_put(chunk->bytes, &header, c->chain, c->header.salt);
	chunk->offset = c->offset;
	chunk->len = header.chunk_len;
	c->chain = header.chain;
	c->offset += header.chunk_len;
	c->queued_bytes += header.chunk_len;
	c->chunks++;
	if (c->queue_last)
		c->queue_last->next = chunk;
	else
		c->queue = chunk;
	c->queue_last = chunk;
	c->open = NULL;
}

/* false: no memory. */
static bool append(struct log_checkpoint *c, const struct log_append *record)
{
	uint64_t bytes = log_record_size(record);
	assert(bytes <= LOG_CHUNK_BYTES_MAX - LOG_CHUNK_HEADER_BYTES);
	if (c->open && c->open->used + bytes > c->open->cap)
		close_chunk(c);
	if (!c->open)
		c->open = chunk_new(c, bytes);
	struct chunk *chunk = c->open;
	if (!chunk)
		return false;
	log_record_gather(chunk->bytes + chunk->used, record, c->header.salt, c->offset + chunk->used);
	chunk->used += (uint32_t)bytes;
	chunk->records++;
	c->records++;
	return true;
}

/* The log's own records: all epochs, and the segments below. */
static bool append_own(struct log_checkpoint *c)
{
	struct log *log = c->log;
	uint8_t fixed[LOG_SEGMENT_FIXED_BYTES];
	struct log_append record = {.type = LOG_TYPE_EPOCH,
	                            .version = LOG_EPOCH_VERSION,
	                            .fixed_bytes = LOG_EPOCH_FIXED_BYTES,
	                            .fixed = fixed};
	for (size_t i = 0; i < log->epochs_count; i++) {
		const struct log_epoch *epoch = &log->epochs[i];
		log_epoch_put(fixed, epoch->epoch, epoch->reason, epoch->start);
		if (!append(c, &record))
			return false;
	}
	record.type = LOG_TYPE_SEGMENT;
	record.version = LOG_SEGMENT_VERSION;
	record.fixed_bytes = LOG_SEGMENT_FIXED_BYTES;
	for (size_t i = 0; i < log->segments_count && log->segments[i]->number < c->header.segment; i++) {
		const struct log_segment *segment = log->segments[i];
		struct log_segment_record own = {segment->number, segment->salt, segment->bytes,
		                                 segment->opening.base_lsn, log_segment_end(log, i)};
		log_segment_record_put(fixed, &own);
		if (!append(c, &record))
			return false;
	}
	return true;
}

/* Where in which segment the end of the log is. The next segment counts once something has its place there: before, it
 * may never be opened. */
static void find_place(struct log *log, struct log_checkpoint_header *ret)
{
	const struct log_segment *segment = log->append_segment, *current = log_current(log);
	ret->segment = segment->number;
	ret->offset = log->append_offset;
	if (segment != current && log->append_offset == LOG_SEGMENT_HEAD_BYTES) {
		ret->segment = current->number;
		ret->offset = LOG_SEGMENT_HEAD_BYTES + log->append_lsn - current->opening.base_lsn;
	}
}

int log_checkpoint_begin(struct log *log, struct log_checkpoint **ret)
{
	assert(!log->in_commit);
	if (log->failed)
		return (int)log->failed;
	if (log->checkpoint)
		return -EBUSY;
	if (log->open && log->open->record_count > 0) {
		log_group_close(log, 0);
		log_pump_soon(log);
	}
	if (log->append_lsn == log->manifest.checkpoint.lsn)
		return -EALREADY;
	struct log_checkpoint *c = checkpoint_new(log);
	if (!c)
		return -ENOMEM;
	c->header = (struct log_checkpoint_header){
		.cluster = log->cluster,
		.chain = log->chain,
		.lsn = log->append_lsn,
		.seq = log->seq,
		.epoch = log->chain_epoch,
		.wall_time = wh_wall_now(log->loop),
	};
	wh_random(log->loop, &c->header.salt, sizeof(c->header.salt));
	find_place(log, &c->header);
	log_checkpoint_header_put(c->block, &c->header);
	c->chain = log_block_hash(c->block);
	c->offset = LOG_BLOCK_BYTES;
	if (!append_own(c)) {
		checkpoint_free(c);
		return -ENOMEM;
	}
	c->held = true;
	c->step = CREATE;
	log->checkpoint = c;
	go_on(c);
	*ret = c;
	return 0;
}

uint64_t log_checkpoint_lsn(const struct log_checkpoint *checkpoint)
{
	return checkpoint->header.lsn;
}

int log_checkpoint_append(struct log_checkpoint *c, const struct log_append *record)
{
	assert(record->type >= LOG_TYPE_USER && !c->ending);
	if (c->error)
		return (int)c->error;
	uint64_t before = c->chunks;
	if (!append(c, record))
		set_error(c, -ENOMEM);
	if (c->chunks != before || c->error)
		go_on(c);
	return (int)c->error;
}

uint64_t log_checkpoint_unwritten(const struct log_checkpoint *c)
{
	return c->queued_bytes + (c->open ? c->open->used : 0);
}

wh_future log_checkpoint_room(struct log_checkpoint *c)
{
	return wh_mark_wait(c->room, c->room_count + (c->queue && !c->error));
}

wh_future log_checkpoint_end(struct log_checkpoint *c)
{
	struct log *log = c->log;
	wh_future end = wh_promise(log->loop, NULL, NULL);
	c->ending = true;
	c->held = false;
	c->end = end;
	if (c->step == DONE) {
		finish(c);
		return end;
	}
	if (c->open && !c->error)
		close_chunk(c);
	go_on(c);
	return end;
}

void log_checkpoint_cancel(struct log_checkpoint *c)
{
	if (!c)
		return;
	c->held = false;
	set_error(c, -ECANCELED);
	if (c->step == DONE)
		finish(c);
	else
		go_on(c);
}
