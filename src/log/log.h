/* src/log/log.h -- the durable log: records in, positions out, and everything back after a crash.
 *
 * Depends on: whilst.h, libxxhash.  Used by: store.  Format: docs/format-log.md.
 *
 * Records are appended within a commit; the commits of one turn of the loop share a group, which is written
 * with one call at the end of the turn and is all or nothing on disk. How far the log has come is told by three
 * marks, all of them lsn values: flushed <= written <= appended. To commit at a level is to wait until the
 * mark of that level reaches the commit's lsn.
 *
 * Thread: all functions belong to the loop that opened the log; the marks are read and waited for as wh_mark
 * allows. Memory: what a caller passes is borrowed during the call only.
 * Errors: negative errno. The first write, flush, rename or read of the log's own files that fails makes the
 * log fail for good: all marks fail with that error, on_failure is called once, and every later call gives the
 * error. The only cure is a new start, which reads again what the disk really holds.
 */
#ifndef LOG_LOG_H
#define LOG_LOG_H

#include "whilst/whilst.h"

struct log;

/* The types below this are the log's own. A user's types are LOG_TYPE_USER .. 255. */
enum {
	LOG_TYPE_LOST =
		3, /* the only one of the log's own that replay shows: bytes that a repair could not read */
	LOG_TYPE_USER = 16
};

#define LOG_SEGMENT_NONE UINT64_MAX /* no segment's number; they begin at 0 */

/* ---- open and close ---------------------------------------------------------------------- */

/* A record as recovery finds it. Slices are valid during the replay callback only. */
struct log_record {
	uint8_t type;
	uint8_t version;
	uint16_t flags;         /* the user's, uninterpreted */
	uint16_t fixed_bytes;   /* the first part: fields of the type and version */
	uint32_t payload_bytes; /* the rest */
	uint32_t epoch;
	uint64_t location;  /* lsn of the record itself: what log_append() returned, for log_read() */
	uint64_t group_lsn; /* of the group that it is in */
	uint64_t group_end; /* the byte after that group */
	int64_t wall_time;  /* ns since 1970 when that group was closed */
	const uint8_t *fixed;
	const uint8_t *payload;
	uint64_t segment; /* where it lies, for messages: number of the file, and byte in it */
	uint64_t file_offset;
	bool checkpoint; /* of the checkpoint: location is 0, segment LOG_SEGMENT_NONE, group_lsn and group_end
			    the checkpoint's lsn */
	bool part; /* log_segment_scan() only: of a transaction of several groups, whether or not it ended */
};

/* Called for every record of the checkpoint, if there is one, then for those of every group behind it that is valid, in
 * order, transactions only when they are whole. 0: go on. Negative: log_open() ends with it; -ENOTSUP means "type or version unknown" and is reported as such. */
typedef int log_replay_function(void *arg, const struct log_record *record);

/* Called once, from the loop, when the log has failed: nothing that is not flushed yet will be. */
typedef void log_failure_function(void *arg, int64_t error, const char *message);

enum log_problem_kind {
	LOG_PROBLEM_DAMAGED = 1, /* bytes that were durable are not what they were; exit status 3 */
	LOG_PROBLEM_HELD,        /* another process has the folder */
	LOG_PROBLEM_VERSION,     /* written by a newer whilst: unknown format, record type or version */
	LOG_PROBLEM_IO,          /* the system refused: see error */
	LOG_PROBLEM_REPLAY,      /* the replay callback refused: see error */
	LOG_PROBLEM_OPTIONS,     /* -EINVAL: options out of range */
};

/* Why log_open() failed, for people. */
struct log_problem {
	int kind;                  /* enum log_problem_kind */
	int64_t error;             /* negative errno */
	int exit_status;           /* 3 damaged, 4 everything else */
	char file[512];            /* path, "" when none */
	uint64_t offset;           /* byte in file */
	uint64_t lsn_from, lsn_to; /* what cannot be read, 0 .. 0 when that does not apply */
	char reason[256];          /* one sentence */
	char advice[512];          /* what to do */
};

struct log_options {
	const char *path;        /* the folder, made (0700) if it is not there; copied */
	uint64_t segment_bytes;  /* 64 MiB; 64 KiB .. 1 GiB, a multiple of 4,096 */
	uint64_t group_bytes;    /* largest group, 4 MiB; 8 KiB .. 4 MiB, a multiple of 4,096 */
	int64_t async_window_ns; /* 10 ms: async commits alone are flushed this long after being written */
	uint64_t async_window_bytes; /* 1 MiB: or when this many bytes are unflushed */
	int64_t backpressure_ns; /* 1 s: oldest unflushed byte older than this: async commits wait for the flush */
	int64_t seal_ns;         /* 5 ms: idle for this long after a flush: a SEAL is written */
	uint64_t unwritten_bytes_max; /* 64 MiB: beyond, log_begin() gives -EAGAIN */
	log_replay_function *replay;  /* NULL: records are checked but not shown */
	void *replay_arg;
	log_failure_function *on_failure;
	void *failure_arg;
	wh_log_function *notice; /* what recovery found and did, progress on long scans; NULL: silent */
	void *notice_arg;
	/* while opening, about once a second: bytes read, of about so many; NULL: a notice says so */
	void (*progress)(void *arg, uint64_t bytes_done, uint64_t bytes_all);
	void *progress_arg;
	bool borrowed; /* segments other than the last may be links to files that can only be read */
};

/* log_open() - create or recover the log of a folder, ready for appending in a new epoch.
 *
 * Synchronous: awaits on the loop, so it must be called outside callbacks. Holds the folder's lock until
 * log_close(). Result 0; or negative errno with *ret untouched and *ret_problem (may be NULL) filled in:
 * -WH_EDAMAGED, -EBUSY (held), -ENOTSUP (version), -EINVAL, or what the system or the callback said. On failure
 * the folder is as it was, but for what an interrupted creation left behind.
 */
int log_open(wh_loop *loop, const struct log_options *options, struct log **ret,
             struct log_problem *ret_problem) WH_MUST_USE;

/* log_problem_text() - *problem in one line (no newline) for a terminal or a journal; bytes as snprintf(). */
int log_problem_text(const struct log_problem *problem, char *to, size_t cap);

/* log_close() - write and flush what was appended, seal, mark the shutdown as clean, release the folder,
 * free. Synchronous, outside callbacks. Result 0, or the error with which the log has failed. Accepts NULL.
 * Reads that are outstanding end with -ECANCELED. The marks are closed. */
int log_close(struct log *log);

/* ---- look only --------------------------------------------------------------------------- */

struct log_look_manifest {
	bool valid;
	bool clean;
	uint32_t epoch;
	uint64_t sequence, first_segment, last_segment, durable_lsn;
	uint64_t checkpoint_lsn, checkpoint_bytes; /* 0: none */
};
struct log_look_segment {
	uint64_t number, file_bytes;
	bool opened; /* the log has rolled into it; else it was made ahead, and the next four are 0 */
	bool below;  /* a start does not read it: records in it are only pointed at */
	uint32_t epoch;
	uint64_t base_lsn, group_seq;
	uint64_t used_bytes; /* of groups, as far as the log could be read */
};
/* What a folder holds. */
struct log_look {
	struct log_look_manifest manifests[2]; /* manifest-a, manifest-b */
	struct log_epoch *epochs;
	size_t epochs_count;
	struct log_look_segment *segments;
	size_t segments_count;
	uint64_t end_lsn;        /* the end of the log, or where reading it stopped */
	uint64_t records, bytes; /* that a start reads, behind the checkpoint */
	uint64_t checkpoint_lsn, checkpoint_bytes, checkpoint_records; /* 0: there is none */
	uint64_t
		missing; /* segments below the checkpoint that were there when it was made: released, or lost */
	uint64_t
		torn_bytes; /* from the first to the last byte behind the end that is not zero; the next start cuts them off */
};

/* log_look() - read the log of a folder as log_open() would, and change nothing: not a byte, nor a file. The segments below
 * the checkpoint are checked as well, whose damage a start would not notice.
 *
 * Of options, path, replay, replay_arg, notice and notice_arg count. Synchronous, outside callbacks. Holds the folder's
 * lock meanwhile: -EBUSY when a server has it. Result as of log_open(); -ENOENT: no log is there. *ret is filled in either
 * way, with what was found before a failure; free it by log_look_fini(). */
int log_look(wh_loop *loop, const struct log_options *options, struct log_look *ret,
             struct log_problem *ret_problem) WH_MUST_USE;
void log_look_fini(struct log_look *look);

/* ---- append ------------------------------------------------------------------------------ */

enum log_level {
	LOG_ASYNC, /* written to the kernel: survives the end of this process */
	LOG_LOCAL, /* flushed: survives a power cut */
};

enum {
	LOG_ESSENTIAL =
		1, /* log_begin(): may use the space kept back for a full disk (finishing, deleting) */
};

enum {
	LOG_RECORD_BYTES = 16, /* header of a record */
	LOG_TRANSACTION_BYTES_MAX = 64 << 20,
};

/* log_record_bytes() - what a record takes in a group. */
static inline uint64_t log_record_bytes(uint64_t fixed_bytes, uint64_t payload_bytes)
{
	return (LOG_RECORD_BYTES + fixed_bytes + payload_bytes + 7) & ~UINT64_C(7);
}

/* log_record_max() - the largest log_record_bytes() that one record may have (nearly 4 MiB with segments of the
 * default size). */
uint64_t log_record_max(const struct log *log);

/* log_transaction_max() - the largest sum of them in one commit: half a segment, at most LOG_TRANSACTION_BYTES_MAX. */
uint64_t log_transaction_max(const struct log *log);

/* log_begin() - start a commit whose records take at most bytes_max (the sum of log_record_bytes(); an upper
 * bound will do). Everything appended until log_commit() is one commit: all of it survives, or none. There is
 * no way back: check first, then begin. Commits do not nest and no callback runs in between.
 *
 * -ENOSPC: the disk is full: refuse the caller; tried again every second, space that returns is noticed.
 * -EAGAIN: the log cannot take it just now (unwritten_bytes_max, or the next segment is being made): wait for
 * log_room_wait(), try again.
 * -EMSGSIZE: more than log_transaction_max(). Or the error with which the log has failed. */
int log_begin(struct log *log, uint64_t bytes_max, unsigned flags) WH_MUST_USE;

struct log_append {
	uint8_t type; /* LOG_TYPE_USER .. */
	uint8_t version;
	uint16_t flags;
	uint16_t fixed_bytes;
	const void *fixed;
	const struct iovec *payload; /* gathered */
	int payload_count;
};

/* log_append() - copy a record into the commit. Returns its location (never 0). It is a programmer's error to
 * append outside a commit, more than was announced, or a record larger than log_record_max(). */
uint64_t log_append(struct log *log, const struct log_append *record);

/* What to wait for. The position to tell a client is log_epoch()/lsn. */
struct log_commit {
	uint64_t lsn;  /* the byte after the commit's last record, never more than the byte after its group */
	wh_mark *mark; /* wh_mark_wait(mark, lsn); the level's mark, or flushed under back-pressure */
};

/* log_commit() - end the commit. Cost: no system call; the group is written at the end of the loop's turn. */
struct log_commit log_commit(struct log *log, int level);

/* The marks. appended also rises when a group is closed, over its padding. */
wh_mark *log_appended(const struct log *log);
wh_mark *log_written(const struct log *log);
wh_mark *log_flushed(const struct log *log);

/* log_room() - bytes of records that an ordinary commit may take now; 0 when the disk is full. */
uint64_t log_room(const struct log *log);

/* log_room_wait() - n = 0 when a log_begin() that gave -EAGAIN is worth another try. Thread: loop. */
wh_future log_room_wait(struct log *log);

/* log_full() - is the disk full, so that only LOG_ESSENTIAL commits are accepted? */
bool log_full(const struct log *log);

/* log_waits_for_space() - is a manifest to be written for which there is no room? Then a checkpoint takes as long to count as that lasts. */
bool log_waits_for_space(const struct log *log);

/* log_failed() - 0, or the error with which the log has failed. */
int64_t log_failed(const struct log *log);

/* ---- read back --------------------------------------------------------------------------- */

/* A record read back, freed by log_data_free(). */
struct log_data {
	uint8_t type;
	uint8_t version;
	uint16_t flags;
	uint16_t fixed_bytes;
	uint32_t payload_bytes;
	const uint8_t *fixed;
	const uint8_t *payload;
};
struct log_data *log_data_free(struct log_data *data);

/* log_read() - the record at location, its check verified again. record_bytes: log_record_bytes() of it if
 * known (one read then), 0 if not. n = payload bytes, ptr = struct log_data *. -WH_EDAMAGED: what is on disk is not
 * what was written; -ENOENT: no such location. Cancel it freely. */
wh_future log_read(struct log *log, uint64_t location, uint64_t record_bytes);

/* log_peek() - the same without waiting or copying when the record is still in memory (its group is not
 * written yet): true, and *ret points into the log until the callback in which this is called returns. */
bool log_peek(const struct log *log, uint64_t location, struct log_data *ret);

/* log_segment_number() - of the segment that holds a location; LOG_SEGMENT_NONE: none does (any more, or yet). */
uint64_t log_segment_number(const struct log *log, uint64_t location);

/* log_bytes_held() - how many of the bytes from .. until of the log lie in segments that are there. */
uint64_t log_bytes_held(const struct log *log, uint64_t from, uint64_t until);

/* ---- checkpoints ------------------------------------------------------------------------- */

/* A checkpoint is the state of the log's user at an lsn C, as records of the user's types. Once it is there, a start shows
 * its records, then those of the log from C on, and needs nothing else of what is before C; segments there may be released.
 *
 *     log_checkpoint_begin()      the state is the one at this moment: the caller's to hold fast
 *     log_checkpoint_append() ... while the log goes on, in as many turns as it likes; above some MiB of
 *                                 log_checkpoint_unwritten() it waits for log_checkpoint_room()
 *     log_checkpoint_end()        and the handle is gone
 *
 * A full disk, or want of memory, ends a checkpoint and not the log: what there was of it is removed at once, every later
 * call on it gives the error, and another can be begun. Any other error of the disk is a failure of the log.
 */
struct log_checkpoint;

/* log_checkpoint_begin() - at the end of everything that was committed so far. Not within a commit. -EBUSY: one is under
 * way (or being removed: log_checkpoint_end() of it waits for that, log_checkpoint_cancel() does not); -EALREADY: the log
 * has not grown since the last one; -ENOMEM; or the error with which the log has failed. Writes in the background. */
int log_checkpoint_begin(struct log *log, struct log_checkpoint **ret) WH_MUST_USE;

/* log_checkpoint_lsn() - C. */
uint64_t log_checkpoint_lsn(const struct log_checkpoint *checkpoint);

/* log_checkpoint_append() - copy a record into it; at most log_record_max() bytes. Never waits. 0, or the error by which the
 * checkpoint has ended: -ENOSPC, -ENOMEM, that of the log. */
int log_checkpoint_append(struct log_checkpoint *checkpoint, const struct log_append *record) WH_MUST_USE;

/* log_checkpoint_unwritten() - bytes that it holds in memory. */
uint64_t log_checkpoint_unwritten(const struct log_checkpoint *checkpoint);

/* log_checkpoint_room() - n = 0 when there are fewer than now, and at once when there are none; or as
 * log_checkpoint_append(). */
wh_future log_checkpoint_room(struct log_checkpoint *checkpoint);

/* log_checkpoint_end() - make it count. n = 0 when both manifests name it: from now on segments below C can be released. Or as
 * log_checkpoint_append(); -ECANCELED: the log was closed first. Dropping the future does not stop it. */
wh_future log_checkpoint_end(struct log_checkpoint *checkpoint);

/* log_checkpoint_cancel() - give it up; the handle is gone. Accepts NULL. */
void log_checkpoint_cancel(struct log_checkpoint *checkpoint);

/* ---- segments below the checkpoint ------------------------------------------------------- */

struct log_segment_info {
	uint64_t number, base_lsn, end_lsn; /* of the current one: what is written */
	uint64_t file_bytes;
	bool below; /* log_segment_release() would take it */
};

/* log_segments_list() - the opened segments that are not released, in order, at most cap of them to ret. Returns how many
 * there are. */
size_t log_segments_list(const struct log *log, struct log_segment_info *ret, size_t cap);

/* log_segment_scan() - read a segment in the background and hand its records to each(), in order, each group after all of it
 * has been checked (header, chain, records). Any segment but the current one.
 *
 * Reads at most 256 KiB at a time, and calls each() for at most as much of records, or a millisecond, in one callback of the
 * loop. each() returns 0; negative: the scan ends with that; LOG_SCAN_PAUSE: the same record is handed over again after
 * log_segment_scan_resume(). It may commit, but neither release nor scan.
 * n = records handed over. -WH_EDAMAGED: a notice says file and byte; -ENOENT: no such segment; -EBUSY: a scan is under
 * way; -ENOMEM; errors of the disk; -ECANCELED: the log was closed. Cancel it freely: each() is not called afterwards. */
enum { LOG_SCAN_PAUSE = 1 };
wh_future log_segment_scan(struct log *log, uint64_t number, log_replay_function *each, void *arg);
void log_segment_scan_resume(struct log *log);

/* log_segment_release() - no record in it is needed any more: its file is removed, or becomes a new segment, in the
 * background, once reads under way have ended. The caller knows that what ended or moved the last such record is flushed.
 *
 * 0: locations in it are unknown from now on. -ENOENT: no such segment. -EINVAL: it is not below a checkpoint that both manifests
 * name, or C lies in it. -EBUSY: it is being scanned. Or the error with which the log has failed. */
int log_segment_release(struct log *log, uint64_t number) WH_MUST_USE;

/* ---- pins -------------------------------------------------------------------------------- */

/* What the log consists of at one moment, for a backup while it goes on. As long as it is pinned none of its files is removed,
 * changed below what is to be copied, or becomes another: their release takes place afterwards. What comes later is not held, so that a
 * pin costs no more space than its files have.
 *
 * A copy is a folder with the files that log_pin_files() names, of each the first .bytes bytes and zeros up to .file_bytes
 * (truncate(2) will do), and with log_pin_manifest() as manifest-a, all of them flushed. It holds what was flushed when it was
 * pinned, and starts as after a crash. */
struct log_pin;

enum { LOG_PIN_NAME_BYTES = 40 };
struct log_pin_file {
	char name[LOG_PIN_NAME_BYTES]; /* in the log's folder */
	uint64_t bytes, file_bytes;
};

/* log_pin() - -ENOMEM, or the error with which the log has failed. Several are allowed. */
int log_pin(struct log *log, struct log_pin **ret) WH_MUST_USE;
size_t log_pin_files(const struct log_pin *pin,
                     const struct log_pin_file **ret);   /* borrowed until log_unpin() */
const void *log_pin_manifest(const struct log_pin *pin); /* 4,096 bytes */
uint64_t log_pin_lsn(const struct log_pin *pin);         /* where the copy will end */
/* log_pinned_bytes() - of segments that were released and are there only because they are pinned. */
uint64_t log_pinned_bytes(const struct log *log);
/* log_unpin() - returns NULL, accepts it. Before log_close(). */
struct log_pin *log_unpin(struct log *log, struct log_pin *pin);

/* ---- epochs ------------------------------------------------------------------------------ */

struct log_epoch {
	uint32_t epoch;
	uint32_t reason; /* enum log_epoch_reason */
	uint64_t start;  /* lsn; the epoch before it ended here */
};
enum log_epoch_reason { LOG_EPOCH_CREATED = 1, LOG_EPOCH_START, LOG_EPOCH_RECOVERED };

/* log_epoch() - the present one. */
uint32_t log_epoch(const struct log *log);

/* log_epochs() - all that are known, oldest first, the present one last. Borrowed until log_close(). */
size_t log_epochs(const struct log *log, const struct log_epoch **ret);

/* log_epochs_lost() - of earlier epochs everything from an lsn on is not certain: they end there at the latest. For a repair; the next
 * checkpoint makes it durable. */
void log_epochs_lost(struct log *log, uint64_t from);

/* log_epoch_end() - where an earlier epoch ended: a commit (epoch, p) survived if and only if p <= end.
 * -EINPROGRESS: it is the present one. -ENOENT: later than the present one, or 0. */
int log_epoch_end(const struct log *log, uint32_t epoch, uint64_t *ret);

/* ---- to see inside ----------------------------------------------------------------------- */

enum { LOG_FLUSH_BUCKETS = 20 };

struct log_stats { /* since opening, but for what says now */
	uint64_t records, commits_async, commits_local;
	uint64_t groups, group_bytes, padding_bytes; /* written */
	uint64_t flushes, flushes_inline;
	uint64_t flush_ns, flush_ns_max;
	uint64_t
		flush_buckets[LOG_FLUSH_BUCKETS]; /* [i]: flushes that took less than 2^(i + 14) ns and do not
						      fit into [i - 1]; the last: all that took longer */
	uint64_t seals, rolls;
	uint64_t segments, disk_bytes;                          /* now */
	uint64_t segment_oldest, segment_newest, segment_bytes; /* numbers, and size of a new one; now */
	uint64_t unwritten_bytes;                               /* now */
	uint64_t replayed_records, replayed_bytes, torn_bytes;  /* at the start, of the log itself */
	uint64_t loaded_records, loaded_bytes;                  /* at the start, of the checkpoint */
	uint64_t checkpoints, checkpoint_written_bytes;         /* finished; of all that were begun */
	uint64_t checkpoint_lsn, checkpoint_bytes;              /* the one that counts, 0: none; now */
	uint64_t released, recycled;                            /* segments */
	uint64_t scanned_bytes;                                 /* of groups, by log_segment_scan() */
	int64_t unflushed_ns; /* how long ago the oldest byte that is not flushed was written; 0: there is none; now */
	bool full;
};
void log_stats(const struct log *log, struct log_stats *ret);

#endif
