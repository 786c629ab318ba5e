/* src/log/inside.h -- the state that the log's files share. Nobody else includes this.
 *
 * A record travels: open group -> pending groups -> written to the current segment -> flushed.
 * Thread: the log's loop. Everything that the loop still has to do for the log is counted in .ops, so that the log
 * can be closed, and freed, safely.
 */
#ifndef LOG_INSIDE_H
#define LOG_INSIDE_H

#include "log/format.h"
#include "log/log.h"

enum {
	LOG_FILES_OPEN_MAX = 128,
	LOG_BUFFERS_KEPT_MAX = 3,
	LOG_FILL_BYTES = 1 << 20,
	LOG_CHECKPOINTS_OLD_MAX = 4,
	LOG_REFUSED_MAX = 32,
	LOG_RECYCLED_MAX = 2,
};

/* Of wh_sync_range(): on the disk when it ends, but for the disk's own cache and what makes it found again. */
#define LOG_WRITE_OUT (SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER)

#define LOG_CHECKPOINT_NAME      "checkpoint-%016llx.ckp"
#define LOG_CHECKPOINT_TEMPORARY "checkpoint-%016llx.tmp"

struct log_segment {
	uint64_t number, salt, bytes;
	struct log_opening opening; /* once something of the log lies in it */
	uint64_t end_lsn;           /* the byte after its last group; of the current one: 0 */
	int fd;                     /* -1: not open */
	uint32_t reads;             /* under way, whether or not on fd */
	uint64_t used;              /* when it was last read from, in reads */
	struct log_segment *next;   /* among the released ones */
	bool released;
};

/* A group that is not written yet. Its header is filled in when it is closed. */
struct log_buffer {
	struct log_buffer *next;
	struct log_segment *segment;
	uint64_t lsn;
	uint32_t used, limit; /* with the header; limit: what the group may grow to */
	uint32_t group_len;   /* once closed */
	uint32_t record_count, local_count;
	bool has_async;
	uint8_t *bytes;
};

enum log_next_state { LOG_NEXT_NONE, LOG_NEXT_MAKING, LOG_NEXT_ALLOCATED, LOG_NEXT_READY };

struct log {
	wh_loop *loop;
	struct log_options options; /* .path is NULL: see below */
	char *path;
	int directory_fd, lock_fd;
	struct log_hash cluster;
	int64_t failed;
	bool closing; /* nothing new is started */
	bool looking; /* log_look(): nothing is changed */
	bool gone;    /* log_close() could not wait: whoever ends the last op frees */
	uint64_t ops;
	wh_mark *quiet; /* 1: closing, and ops is 0 */
	wh_mark *appended, *written, *flushed, *room;
	uint64_t room_count;

	/* segment.c */
	struct log_segment **segments; /* opened ones; the last one is written to */
	size_t segments_count, segments_cap;
	struct log_segment **spares; /* made by an earlier life and not used yet, in order */
	size_t spares_count;
	struct log_segment *next; /* the segment after the current one */
	int next_state, making_step;
	int making_fd;
	int making_direct_fd; /* the same file for zeros, past the page cache; -1: not that way */
	uint64_t making_filled;
	uint64_t making_piece; /* where the piece under way begins */
	uint64_t making_name;  /* number in its temporary name: its own, or that of the recycled file */
	uint8_t *zeros, *making_block;
	bool full;
	uint64_t files_open, reads_count;
	uint64_t disk_bytes;

	/* manifest.c */
	struct log_manifest manifest;
	struct log_manifest manifest_other; /* as it was found; of interest for looking only */
	bool manifests_valid[2];
	int manifest_fd[2];
	int manifest_slot; /* where the valid one with the highest sequence is */
	bool manifest_saving, manifest_wanted, manifest_full;
	uint64_t manifest_names[2]; /* the checkpoint that each durably names, as far as this life knows */
	uint64_t manifest_saving_checkpoint;
	uint8_t *manifest_block;

	/* epochs: all that are known, the last one is the present one */
	struct log_epoch *epochs;
	size_t epochs_count, epochs_cap;
	uint32_t epoch;

	/* writer.c: where the next group goes, and what it continues */
	struct log_segment *append_segment;
	uint64_t append_offset, append_lsn, seq;
	uint32_t chain_epoch; /* of the last closed group */
	struct log_hash chain;
	uint32_t group_max;
	uint64_t transaction_max;
	struct log_buffer *open, *pending, *pending_last, *free_buffers;
	uint32_t free_buffers_count;
	uint64_t pending_bytes;
	bool in_commit, pump_due;
	uint64_t commit_left;
	uint32_t commit_groups; /* closed within the present commit */
	uint8_t *opening_block;

	/* checkpoint.c */
	struct log_checkpoint *checkpoint;                 /* under way */
	uint64_t checkpoints_old[LOG_CHECKPOINTS_OLD_MAX]; /* that go when both manifests name a later one */
	size_t checkpoints_old_count;

	/* release.c */
	struct log_pin *pins;                           /* their files stay */
	uint64_t below;                                 /* lower numbers may be released */
	struct log_segment *released, *releasing;       /* whose files are to go; whose is going */
	struct log_segment *recycled[LOG_RECYCLED_MAX]; /* named seg-NUMBER.tmp, open */
	size_t recycled_count;
	int releasing_step;
	bool releasing_busy, releasing_renamed;

	struct log_segment_scan *scan; /* segment_scan.c */

	/* flush.c */
	bool flushing, roll_wanted, draining, sealed;
	uint64_t flush_target, local_target, seal_target;
	uint32_t locals_written, locals_before;
	int64_t flush_began, flush_ns_mean, async_at;
	int64_t unflushed_since,
		unflushed_after; /* 0: none; the second for what was written during a flush */
	int64_t idle_since;
	bool async_unsent; /* something asynchronous was written in this turn */
	wh_future window_timer, seal_timer, retry_timer, turn_timer, pace_timer;
	bool window_armed, seal_armed, retry_armed, turn_armed, pace_armed;
	/* held for what must not fail for want of memory: see log_slot_hold() */
	wh_future flush_slot, pump_slot, refused_slot;
	wh_callback *refused[LOG_REFUSED_MAX]; /* operations that could not be begun: their callbacks */
	size_t refused_count;

	struct log_stats stats;
};

/* ---- log.c ------------------------------------------------------------------------------- */

/* log_op() - callback(loop, res, log) when f completes, or soon with -ENOMEM; the log stays until then. */
void log_op(struct log *log, wh_future f, wh_callback *callback);
/* log_op_end() - first thing in every such callback: false: the log is gone, touch nothing. */
bool log_op_end(struct log *log);
/* log_slot_hold() - keep an operation's place: a future that is complete already. Dropped just before an operation begins,
 * it leaves its place to it; taken anew first thing in that operation's callback, when a place has become free. */
void log_slot_hold(struct log *log, wh_future *slot);
void log_fail(struct log *log, int64_t error, const char *what, const char *file);
void log_notice(struct log *log, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));
void log_room_changed(struct log *log);
int64_t log_await(wh_future f);
char *log_path(const struct log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct log *log_new(wh_loop *loop, const struct log_options *options);
void log_release(struct log *log); /* descriptors and memory */
int log_epoch_add(struct log *log, uint32_t epoch, uint32_t reason, uint64_t start);

static inline struct log_segment *log_current(const struct log *log)
{
	return log->segments_count > 0 ? log->segments[log->segments_count - 1] : NULL;
}
static inline uint64_t log_segment_room(const struct log_segment *segment)
{
	return segment->bytes - LOG_SEGMENT_HEAD_BYTES;
}

/* ---- segment.c --------------------------------------------------------------------------- */

struct log_segment *log_segment_new(uint64_t number);
struct log_segment *log_segment_free(struct log_segment *segment); /* its descriptor is closed already */
int log_segments_add(struct log *log, struct log_segment *segment);
void log_segment_need_next(struct log *log);
void log_segment_retry_stop(struct log *log);
void log_segment_hurry(struct log *log);      /* somebody waits for the next one */
void log_segment_space_came(struct log *log); /* whoever waits to try again need not */
/* log_segments_from() - the index of the last segment that begins at an lsn or before it; 0: none does. */
size_t log_segments_from(const struct log *log, uint64_t lsn);
struct log_segment *log_segment_find(const struct log *log, uint64_t lsn);
uint64_t log_segment_end(const struct log *log, size_t index); /* lsn; of the current one: what is written */
void log_segment_evict(struct log *log);

/* ---- manifest.c -------------------------------------------------------------------------- */

void log_manifest_fill(struct log *log, uint32_t flags);
int log_manifest_load(struct log *log, bool *ret_found, struct log_problem *problem);
int log_manifest_create(struct log *log, struct log_problem *problem);
int64_t log_manifest_save(struct log *log); /* now */
uint64_t log_manifest_checkpoint(const struct log *log);
void log_manifest_save_later(struct log *log);

/* ---- recover.c, look.c -------------------------------------------------------------------- */

int log_recover(struct log *log, struct log_problem *problem);
/* log_look_over() - of log_recover() only what changes nothing; log->looking is set. *look is filled in as far as it came. */
int log_look_over(struct log *log, struct log_look *look, struct log_problem *problem);

/* ---- problem.c: each fills in *problem and returns its error; file is a name within the folder, but for _io ---- */

int log_problem_io(struct log_problem *problem, int64_t error, const char *file, const char *reason);
int log_problem_damaged(const struct log *log, struct log_problem *problem, const char *file, uint64_t offset,
                        const char *reason);
int log_problem_newer(const struct log *log, struct log_problem *problem, const char *file, uint64_t offset,
                      const char *reason);

/* ---- checkpoint.c ------------------------------------------------------------------------ */

void log_checkpoint_named(struct log *log);   /* a manifest has been saved */
void log_checkpoint_failed(struct log *log);  /* the log has */
void log_checkpoint_abandon(struct log *log); /* the log is being closed, and nothing is under way any more */
void log_checkpoint_free(struct log *log);
void log_checkpoint_remove_old(struct log *log);
void log_checkpoint_forget(struct log *log, uint64_t lsn); /* it goes when both manifests name a later one */

/* ---- writer.c ---------------------------------------------------------------------------- */

uint64_t log_record_size(const struct log_append *record);
/* to has room for log_record_size(record) */
void log_record_gather(uint8_t *to, const struct log_append *record, uint64_t salt, uint64_t place);
uint64_t log_append_any(struct log *log, const struct log_append *record);
void log_pump_soon(struct log *log);
void log_group_close(struct log *log, uint32_t flags); /* of the open group, into pending */
int log_group_open(struct log *log, struct log_segment *segment);
void log_write_pending(struct log *log);
void log_buffers_free(struct log *log);

/* ---- release.c, segment_scan.c ----------------------------------------------------------- */

struct log_segment *log_segment_by_number(const struct log *log, uint64_t number);
void log_release_go_on(struct log *log); /* a read or a pin has ended */
void log_release_abandon(struct log *log);
void log_release_free(struct log *log);
bool log_checkpoint_is_pinned(const struct log *log, uint64_t lsn);
bool log_scan_is_of(struct log *log, const struct log_segment *segment);
void log_scan_abandon(struct log *log);
void log_scan_free(struct log *log);

/* ---- flush.c ----------------------------------------------------------------------------- */

void log_flush_if_due(struct log *log);
void log_flush_noted(struct log *log, const struct log_buffer *group); /* it has been written */
void log_seal(struct log *log);
void log_timers_stop(struct log *log);

#endif
