/* src/store/inside.h -- the inside of the embedded store: the job machine, the log, and who waits for what.
 *
 * Used by: src/store only. Thread: the loop that opened the store. Every change goes the same way: check
 * (job.h), append to the log and carry out (store_append()), tell who waits (store_notice()), commit, and answer
 * when the mark of the commit's level has come far enough (store_answer()).
 */
#ifndef STORE_INSIDE_H
#define STORE_INSIDE_H

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "job/job.h"
#include "log/log.h"
#include "store/blob.h"
#include "store/store.h"

#define STORE_NS_PER_MS INT64_C(1000000)

/* Rounded up. */
static inline int64_t store_to_ms(int64_t ns)
{
	return ns > 0 ? (ns + STORE_NS_PER_MS - 1) / STORE_NS_PER_MS : ns / STORE_NS_PER_MS;
}

/* ---- answers that wait for a mark -------------------------------------------------------- */

enum store_answer_kind {
	STORE_ANSWER_COMMIT, /* object: struct store_commit */
	STORE_ANSWER_LOT,    /* struct store_lot_making */
	STORE_ANSWER_VIEW,   /* struct store_view */
	STORE_ANSWER_BYTES,  /* struct store_bytes */
	STORE_ANSWER_LIST,   /* struct store_list */
	STORE_ANSWER_PLAIN,  /* none */
	STORE_ANSWER_IDS,    /* none; n: ids below are safe to be told */
	STORE_ANSWER_WAKES,  /* struct store_wait_entry, a list of them; no future */
	STORE_ANSWER_REVEAL, /* none: jobs may be leased then; no future */
};

struct store_answer {
	uint64_t lsn;
	int64_t begun; /* COMMIT: wh_now() */
	wh_future future;
	int64_t n;
	void *object;
	int kind;
};

/* Answers in the order in which they were given, a ring. One wait at the log's mark stands for all of them. */
struct store_fifo {
	struct store *store;
	wh_mark *mark;
	int level; /* STORE_ASYNC, STORE_LOCAL */
	struct store_answer *ring;
	size_t cap, first, count; /* cap: a power of two */
	bool waiting;
	wh_future wait;
};

/* ---- records just written ---------------------------------------------------------------- */

struct store_recent_entry {
	uint64_t place;
	uint64_t at; /* byte in the endless ring */
	uint32_t bytes;
	uint8_t type;
	uint16_t fixed_bytes;
};

struct store_recent {
	uint8_t *bytes;
	uint64_t cap, end; /* end: the next byte of the endless ring */
	struct store_recent_entry *entries;
	uint64_t entries_cap, entries_first, entries_end; /* endless too */
	uint64_t hint;
};

/* ---- reservations ------------------------------------------------------------------------ */

struct store_waiter;

struct store_link { /* a reservation in the line of one queue */
	struct store_waiter *waiter;
	struct job_queue *queue;
	struct store_link *next, *prev;
};

struct store_line { /* job_queue.waiters */
	struct store_link *first, *last;
};

struct store_waiter {
	wh_future future;
	struct store_waiter *next, *prev; /* all of them, oldest first */
	uint64_t bytes_max;
	int64_t lease_ms;
	uint32_t jobs_max;
	uint16_t count;
	uint8_t level;
	bool bound;
	struct store_link links[];
};

/* A lot whose payloads are being read. */
struct store_lot_making {
	struct store *store;
	struct store_lot *lot;
	wh_future future;
	uint32_t reading; /* payloads that are still to come */
	bool reached;     /* its level is */
	int64_t at;       /* wall clock, ns */
	struct store_lot_read {
		struct store_lot_making *making;
	} reads[]; /* of the payload of each job */
};

/* ---- waits for jobs ---------------------------------------------------------------------- */

struct store_wait_entry {
	struct store_wait_entry *next; /* of the bucket */
	uint64_t job, seen;
	wh_future future;
	uint8_t wait_for, level; /* woken: .wait_for is the state then */
};

struct store_wakes { /* the one that has waited longest first, for each job */
	struct store_wait_entry *first, **end;
};

/* ---- what of the log is needed, checkpoints, compaction ----------------------------------- */

struct store_segment {
	int64_t live;    /* bytes of records that are needed, about */
	int64_t seen_at; /* when it was first found below the checkpoint; 0: it is not */
	bool kept;       /* cannot be compacted: damaged, or what is in it would not fit into a commit */
};

struct store_segments { /* by number of the segment, from first on */
	struct store_segment *list;
	uint64_t first;
	size_t count, cap;
	int64_t live; /* of all */
};

struct store_checkpoint {
	struct log_checkpoint *log; /* being written; NULL: none */
	uint64_t lsn, due;          /* of the last one; bytes of the log after which the next one is due */
	uint64_t lsn_next;          /* of the one being written */
	uint64_t bytes, written;    /* of the one being written: handed to the log; of the last one */
	int64_t began_at, not_before;
	bool keys; /* the jobs are with the log: now the keys are walked */
	bool stepping, ending,
		waiting; /* jobs are being walked; the log makes it count; a callback is to come */
	bool by_hand;    /* store_close() drives it */
	wh_future wait;
};

struct store_gather;
struct store_compact {
	bool scanning, pausing, flushing, draining; /* what the segment is at */
	bool in_scan, gathered;
	bool pressed;     /* more on disk than there may be, or the disk is full */
	uint64_t number;  /* of the segment being scanned */
	uint64_t settled; /* place of the record that was found not to be needed after all */
	int64_t gather_result;
	uint64_t moved_bytes; /* out of this segment */
	int64_t began_at, look_at;
	int64_t wake_at; /* instant of wh_now() for another look, should nothing else happen; 0: none */
	wh_future wait, scan;
	struct store_gather *gather;
	uint8_t *scratch;
	size_t scratch_bytes;
	unsigned drain_phase;
};

/* ---- events that are kept (kept.c) ------------------------------------------------------ */

struct store_kept {
	uint64_t job;
	uint64_t
		lsn; /* of its position, whose epoch is that of this run; 0: it is of an earlier one, and its record knows */
};

struct store_kept_line {          /* of one queue */
	struct store_kept *ring;  /* by job, oldest first */
	size_t cap, first, count; /* cap: a power of two */
	wh_mark *mark;            /* the newest job */
	struct store_kept gone;   /* the last that was found to be gone; .job 0: none in this run */
	size_t name_len;
	char name[JOB_NAME_MAX];
};

struct store_kept_lines {
	struct store_kept_line **lines; /* by name */
	size_t count, cap;
};

/* ---- the store --------------------------------------------------------------------------- */

/* ---- bodies in files --------------------------------------------------------------------- */

enum { STORE_READERS_MAX = 256 };

struct store_key_entry;
struct store_keys {
	struct store_key_entry **buckets; /* NULL: none yet */
	size_t mask;
	uint64_t seed;
	struct store_key_entry *first, *last; /* oldest first */
	uint64_t count, bytes;
	struct store_key_entry *spare; /* memory of the next one */
	size_t spare_bytes;
	struct store_key_entry *save_next,
		*save_last; /* of the checkpoint being written; NULL: nothing is left */
};

struct store_blob_gone { /* removed once the record at place is flushed */
	uint64_t number, bytes, place;
};

struct store_blobs {
	struct store_blob_table table;
	char *path;
	int folder;        /* descriptor; -1: not open */
	uint32_t sequence; /* of the last file made in this run */
	struct store_body *bodies;
	uint32_t writing; /* of them those that have a file and are not whole */
	struct store_reader *readers;
	uint32_t readers_count;
	struct store_blob_gone *gone; /* a queue */
	size_t gone_first, gone_count, gone_cap;
	size_t gone_held; /* so many of the first are of backups */
	bool removing;
};

struct store_channel; /* follow.c */
struct store_events;
struct store_repair;
struct store_bulk;    /* bulk.h: what is done to many jobs, step by step */
struct store_request; /* parked.c: a change that waits for room in the log */

struct store_span { /* a commit of several groups: as long as not all of it is flushed, none of it is */
	uint64_t from, end;
};

struct store {
	wh_loop *loop;
	struct log *log;
	struct job_machine *jobs;
	struct store_options options;
	char *directory;
	uintptr_t number; /* of this store among all of its thread, never given twice */
	struct store *next_open;
	int64_t failed;
	bool closing, in_commit, failure_told;
	uint64_t opening_bytes; /* of how many on_progress() was told last; 0: it was not called */
	bool gone;              /* closed; freed with the last of its operations */
	struct store_fifo written, flushed;
	struct store_recent recent;
	struct store_span *spans;
	size_t spans_cap, spans_first, spans_count;
	uint64_t span_bytes;  /* commits larger than this may take several groups */
	uint64_t commit_from; /* place of the first record of the commit being made; 0: none yet */
	/* ids */
	uint64_t ids_safe;   /* below: their range is flushed */
	uint64_t ids_told;   /* the commit being made reserves up to this; 0: nothing */
	uint64_t *after_ids; /* after.c: of the job being submitted */
	size_t after_cap;
	bool hides; /* it has released jobs that are not to be leased before it is flushed */
	/* time */
	int64_t wall_offset, wall_read_at;
	wh_future timer,
		timer_slot; /* timer_slot: held while there is no timer, so that there can always be one */
	bool timer_set, deferred;
	int64_t timer_at; /* instant of wh_now() */
	int64_t again_at; /* the same; 0: nothing was refused for want of memory */
	uint64_t random;
	/* reservations and waits */
	struct store_waiter *waiters_first, *waiters_last;
	uint64_t waiters_count, waiters_sweep_at;
	struct store_wait_entry **waits;
	struct store_wakes
		woken[2]; /* by the commit being made: asked at STORE_ASYNC, asked at another level */
	struct store_wakes waking; /* their level is reached */
	bool wake_set;             /* the next turn goes on with them */
	size_t waits_cap;
	uint64_t waits_count, waits_sweep_at;
	uint64_t flush_actions;      /* answered in this look at the mark */
	struct store_events *events; /* NULL: nobody has followed yet, and the past has been forgotten */
	uint64_t operations;         /* callbacks that are still to come: reads, room */
	/* requests that the log had no room for */
	struct store_request *parked_first, *parked_last;
	uint64_t parked_bytes;
	bool room_waiting;
	bool stalled; /* what is due could not be written: the time for it comes with room, or with again_at */
	struct store_request *preparing; /* whose bodies are being written */
	struct store_blobs blobs;
	struct store_backup *backups; /* backup.c */
	uint32_t backups_count;
	struct store_kept_lines kept;
	/* settings, sorted by key */
	struct store_setting *settings;
	size_t settings_count, settings_cap;
	/* memory of those that are checked and not carried out yet; see settings.c */
	struct store_setting_spare {
		uint8_t *memory;
		size_t bytes;
		bool claimed;
	} * setting_spares;
	size_t setting_spares_count, setting_spares_cap;
	struct store_keys keys;
	struct store_bulk *bulks;
	struct store_stats stats;
	struct job_totals at_open;
	/* checkpoints and compaction */
	struct store_segments segments;
	struct store_checkpoint checkpoint;
	struct store_compact compact;
	unsigned look_phase;
	uint64_t looks[2];
	bool loading;                /* the records of a checkpoint are being replayed */
	struct store_repair *repair; /* repair.h; NULL but for one */
};

static inline unsigned store_look_begin(struct store *store)
{
	store->looks[store->look_phase]++;
	return store->look_phase;
}

/* open.c */
struct store *store_by_number(uintptr_t number); /* NULL: closed */
int64_t store_now_ns(struct store *store);
void store_later(struct store *store); /* at the end of this turn: match, set the timer; never fails */
void store_again(
	struct store *store); /* something was refused for want of memory: all that waits tries again soon */
bool store_lacks_memory(const struct store *store, int64_t error);
void store_fail(struct store *store, int64_t error);
void store_failed(struct store *store, int64_t error,
                  const char *message);        /* for good: on_failure is told, once */
bool store_operation_end(struct store *store); /* false: the store is closed, and may be freed now */
void store_advance(struct store *store);

/* commit.c */
uint64_t store_record_bytes(const struct job_record *record); /* upper bound, in the log */
int store_begin(struct store *store, uint64_t bytes_max, bool essential);
void store_append(struct store *store, struct job_record *record, unsigned flags); /* and carries it out */
struct store_position store_end(struct store *store, int level);
int store_level(int asked, int otherwise, int *ret); /* 0 or -JOB_ELEVEL */
int store_answers_room(struct store *store);         /* for a few more answers; before a commit begins */
void store_answer(struct store *store, int level, struct store_answer answer);
uint64_t store_reached(const struct store *store, int level);     /* lsn up to which everything is whole */
uint64_t store_whole_at(const struct store *store, uint64_t lsn); /* what the mark must reach for that */
uint64_t store_needed(const struct store *store, const struct job_info *info, int level);
void store_fifo_init(struct store *store, struct store_fifo *fifo, wh_mark *mark, int level);
void store_fifo_fail(struct store *store, struct store_fifo *fifo, int64_t error);
void store_fifo_wait(struct store_fifo *fifo); /* unless it waits, or has nothing to wait for */
void store_commit_dispose(wh_res res, void *arg);

/* ids.c, in commit.c: enough reserved for count more; part of the commit being made */
uint64_t store_ids_bytes(void);
int store_ids_room(struct store *store, uint64_t count);

/* recent.c */
int store_recent_init(struct store_recent *recent, uint64_t bytes);
void store_recent_done(struct store_recent *recent);
void store_recent_add(struct store_recent *recent, uint64_t place, int type, const uint8_t *fixed,
                      size_t fixed_bytes, const struct job_slice *rest, int count);
bool store_recent_find(struct store_recent *recent, uint64_t place, struct job_record *ret);
/* Of the record there: bytes of what varies in length, the body above all. false: it is not there. */
bool store_recent_bytes(struct store_recent *recent, uint64_t place, uint64_t *ret);

/* read.c: one record, from memory or disk. done(arg, error, record) comes at once or later, exactly once. part: which record of
 * the job is wanted (SUBMIT, FINISH, PROGRESS), should a WHOLE be there; 0: whatever is there. */
typedef void store_read_function(void *arg, int64_t error, const struct job_record *record);
void store_read(struct store *store, uint64_t place, int part, store_read_function *done, void *arg);
/* The body (where it is in a file: which one), headers and type of a SUBMIT (result false) or FINISH at place. */
typedef void store_bytes_function(void *arg, int64_t error, struct store_bytes *bytes);
void store_read_bytes(struct store *store, uint64_t place, bool result, store_bytes_function *done,
                      void *arg);

/* live.c */
int store_live_open(struct store *store, struct store_problem *ret_problem); /* after the replay */
int store_live_recount(const struct store *store, char *ret_what, size_t cap);
void store_live_released(struct store *store, uint64_t number);
struct store_segment *store_segment_at(struct store *store, uint64_t number); /* NULL: no memory for it */
void store_live_done(struct store *store);

/* checkpoint.c */
void store_checkpoint_look(struct store *store);           /* is one due? */
int64_t store_checkpoint_again(const struct store *store); /* when one that failed is due anew; 0: none */
void store_checkpoint_stop(struct store *store);
int store_checkpoint_at_close(struct store *store);

/* compact.c, gather.c */
void store_compact_look(struct store *store); /* is there a segment worth it? */
void store_compact_stop(struct store *store);
bool store_compact_scratch(struct store *store, size_t bytes);
/* All records of a job, or its errors, written again. done: 1: the record at place is not among them; 0: done, or the job has
 * changed: look again; negative: it cannot be. Comes later or at once. */
typedef void store_gather_function(struct store *store, int64_t result);
void store_gather(struct store *store, uint64_t job, uint64_t place, store_gather_function *done);
/* A WHOLE into the log; its parts are bytes of a scratch. 0, -EAGAIN: no room now, or as store_begin(). */
int store_move(struct store *store, const struct job_places *places, struct job_record *whole);

/* Readers that go from one record to the next by places that they have read. A segment goes when those have ended that
 * began before its last record was moved. */
void store_look_end(struct store *store, unsigned phase);

struct store_wish;
/* after.c: check: of an action whose SUBMIT may be, before those behind it are; checked: the marks that this made go. room: for all of the wish. */
size_t store_after_count(const struct store_action *action);
int store_after_check(struct store *store, const struct store_wish *wish, size_t index,
                      struct store_commit *commit);
void store_after_checked(struct store *store, const struct store_wish *wish, size_t index,
                         const struct store_commit *commit);
int store_after_room(struct store *store, const struct store_wish *wish, uint64_t submits, size_t *ret_index);
void store_after_append(struct store *store, const struct store_action *action,
                        const struct job_record *submit, const struct store_commit *commit, unsigned flags);

/* kept.c: open: after the replay. room: before a commit. add: a job whose SUBMIT has been appended is done at once. */
struct store_wish;
int store_kept_open(struct store *store);
void store_kept_done(struct store *store);
int store_kept_room(struct store *store, const struct store_wish *wish);
void store_kept_add(struct store *store, struct store_slice queue, const struct job_record *submit);

/* reserve.c */
void store_match(struct store *store);
void store_waiters_fail(struct store *store, int64_t error);
int64_t store_release_lot(struct store *store, const struct store_lot *lot);
void store_lot_finish(struct store_lot_making *making);

/* wait.c */
void store_notice(struct store *store, const struct job_record *record);
void store_notice_awaiting(void *arg, uint64_t job); /* arg: the store. One that it awaited has ended */
void store_notice_ready(void *arg, uint64_t job);    /* arg: the store */
void store_waits_fail(struct store *store, int64_t error);

/* follow.c: what is told to followers of a record, before and after it is carried out; of a job that became ready by time; and, with the
 * commit, when. */
void store_events_released(struct store *store, uint64_t job, uint64_t place);
void store_events_before(struct store *store, const struct job_record *record, uint64_t place);
void store_events_after(struct store *store, const struct job_record *record, uint64_t place);
void store_events_due(struct store *store, uint64_t job);
void store_events_end(struct store *store, uint64_t lsn);
void store_events_fail(struct store *store, int64_t error);
/* The start: store_events_open() before the log is read (without memory there are none); store_events_replay() before a record of it is shown as new
 * ones are; store_events_lost(): what was before an lsn cannot be read; store_events_opened() when all has been read that came after the checkpoint (0: none). */
void store_events_open(struct store *store);
void store_events_replay(struct store *store, const struct log_record *record);
void store_events_lost(struct store *store, uint64_t end);
void store_events_opened(struct store *store, uint64_t checkpoint);
bool store_events_followed(const struct store *store); /* by anybody, in this run */
void store_events_done(struct store *store);

/* wake.c */
void store_wakes_init(struct store *store);
void store_wakes_empty(struct store_wakes *wakes);
void store_wakes_add(struct store_wakes *wakes, struct store_wait_entry *entry);
void store_wakes_commit(struct store *store, uint64_t lsn); /* those of the commit that has been made */
/* A list whose level is reached (error 0), or never will be. */
void store_wakes_deliver(struct store *store, struct store_wait_entry *list, int64_t error);
void store_wake(struct store *store);      /* some of them */
void store_wakes_end(struct store *store); /* all of them: there may be no next turn */

void store_queue_removed(struct store *store, uint32_t number); /* reserve.c: nobody waits on it any more */

/* blob.c */
int store_blobs_open(struct store *store, const char *directory); /* before the log is */
int store_blobs_sweep(struct store *store); /* after the replay: what no job names goes */
void store_blobs_apply(struct store *store, const struct job_record *record, uint64_t place);
/* store_blobs_save() - BLOBS records of the present, for a checkpoint that begins now: emit takes them one by one. */
int store_blobs_save(const struct store *store, job_emit_function *emit, void *arg);
int store_blobs_load(struct store *store, const struct job_record *record);
void store_blobs_flushed(struct store *store);              /* begin to remove what may go */
void store_blobs_told(struct store *store, uint64_t bytes); /* for the figures: one more was written */
void store_blobs_fail(struct store *store, int64_t error);  /* nobody knows what the folder holds */
void store_blobs_end(struct store *store);                  /* nothing new is begun; what is under way ends */
void store_blobs_done(struct store *store);

/* backup.c */
bool store_backup_holds(const struct store *store, uint64_t number); /* this file of a body */
void store_backups_yield(
	struct store *store); /* the disk is full: those for which something is held are to end */

/* blob_write.c */
struct store_body *store_body_ref(struct store_body *body);
/* The body of a SUBMIT or FINISH; 0, or why it cannot be. store_body_named(): a record has it now. */
int store_body_use(struct store_body *body, struct job_record *r);
void store_body_named(struct store_body *body);
/* The body that an action brings apart from itself; NULL: none. */
static inline struct store_body *store_body_of(const struct store_action *a)
{
	return a->kind == STORE_SUBMIT ? a->submit.body : a->kind == STORE_COMPLETE ? a->complete.body : NULL;
}
void store_bodies_end(struct store *store);
void store_bodies_detach(struct store *store);

/* blob_read.c */
void store_readers_end(struct store *store);
void store_readers_detach(struct store *store);

/* apply.c: a change, with its arguments borrowed or copied */
struct store_wish {
	const struct store_action *actions;
	size_t count;
	unsigned flags;
	int level;
	wh_future future;
	struct store_key key;       /* name empty: none */
	struct store_asking asking; /* items NULL: none */
	struct store_revival
		*revival; /* what was read of failed jobs that are to be replayed; NULL: nothing was */
};
/* Judge it, do it, answer its future. -EAGAIN: nothing was done for want of room in the log; else 0. */
int store_grant_wish(struct store *store, struct store_wish *wish);
/* asked.c: how many results there will be; each of what was asked for, in the place of those of the actions. A commit has room for both. */
size_t store_results_of(const struct store_wish *wish);
/* An event that was published before, as a pass over the actions finds out. */
struct store_asked_walk {
	size_t item, behind; /* the next one; actions of those before it */
	uint64_t known; /* not 0: the job that keeps the event of the present actions, of an earlier submit */
};
void store_asked_step(const struct store_wish *wish, struct store_asked_walk *walk, size_t index);
void store_asked_fold(const struct store_wish *wish, struct store_commit *commit);
/* store_grant_later(): or park it, or prepare its bodies first; its future. store_answer_commit(): when it has reached its level. */
wh_future store_grant_later(struct store *store, struct store_wish *wish);
void store_answer_commit(struct store *store, const struct store_wish *wish, struct store_commit *commit);
/* store_size_limit() - of what is too large in this action, or in all of them together: how large it may be (tell.c). */
uint64_t store_size_limit(const struct store *store, const struct store_wish *wish, size_t index);
/* edit.c: what record edits a job so? */
int store_check_edit(struct store *store, const struct store_action *a, int64_t now_ns, struct job_record *r);
/* revive.c: jobs that are moved, or called back from their failure, by actions. store_revival_needed(): has something to be read for that first?
 * store_revival_new(): 0 or -ENOMEM. store_revival_read(): n = 0 once some of it has been read, or could not be, which is told when it is judged; until
 * store_revival_ended(). Counted; ref and unref accept NULL. store_check_move(), store_check_replay(): what record does it? store_revival_bytes(): of
 * the text and the keys in that. */
bool store_revival_needed(const struct store *store, const struct store_wish *wish);
int store_revival_new(struct store *store, const struct store_wish *wish, struct store_revival **ret);
wh_future store_revival_read(struct store_revival *revival);
bool store_revival_ended(const struct store_revival *revival);
struct store_revival *store_revival_ref(struct store_revival *revival);
struct store_revival *store_revival_unref(struct store_revival *revival);
int store_check_move(struct store *store, const struct store_action *a, struct job_record *r);
int store_check_replay(struct store *store, const struct store_wish *wish, const struct store_action *a,
                       struct job_record *r);
uint64_t store_revival_bytes(const struct store_wish *wish, const struct store_action *a);
/* submit.c: the record of a new job, but for what its check fills in; and its queue. */
int store_submit_record(struct store *store, const struct store_submit *submit, int64_t now_ns,
                        struct job_queue **ret_queue, struct job_record *r);
int store_queue_make(struct store *store, struct store_slice name); /* unless queues are declared */
struct store_commit *store_commit_new(struct store *store, size_t count);
void store_grant_or_park(struct store *store,
                         const struct store_wish *given); /* answers the future one way or the other */

/* parked.c */
int store_park(struct store *store, const struct store_wish *wish); /* copies it */
/* store_prepare() - copies it too, writes its bodies that are too large for records into files, and grants it then. */
bool store_needs_preparing(const struct store *store, const struct store_wish *wish);
int store_prepare(struct store *store, const struct store_wish *wish);
void store_parked_run(struct store *store);
void store_parked_fail(struct store *store, int64_t error);
void store_wait_for_room(struct store *store);

/* bulk.c: a QUEUE_PURGE or QUEUE_KICK, of a queue that is there; answers the wish's future */
void store_bulk_grant(struct store *store, const struct store_wish *wish);
void store_bulks_fail(struct store *store, int64_t error);

/* keys.c */
/* store_keys_judge() - 1: it was done, and commit has the results of then; 0: it may be done, and there is memory for its key; or it is
 * refused. commit has room for count results, which is how many there will be. */
int store_keys_judge(struct store *store, const struct store_key *key, int64_t now_ns, size_t count,
                     struct store_commit *commit);
uint64_t store_keys_record_bytes(const struct store_key *key, size_t count);
/* store_keys_record() - the last record of its commit, after a judgement of 0. */
void store_keys_record(struct store *store, const struct store_key *key, int64_t now_ns,
                       const struct store_commit *commit, struct job_record *r);
void store_keys_apply(struct store *store, const struct job_record *r, uint64_t place);
int store_keys_replay(struct store *store, const struct job_record *r, uint64_t place);
/* For a checkpoint: those of the moment when it begins. step: 1: there are more; 0: that was all; or an error. */
void store_keys_save_begin(struct store *store);
int store_keys_save_step(struct store *store, job_emit_function *emit, void *arg);
void store_keys_save_end(struct store *store);
int store_keys_load(struct store *store, const struct job_record *all);
void store_keys_done(struct store *store);
void store_key_mix_hash(uint8_t fingerprint[STORE_FINGERPRINT_BYTES],
                        const uint8_t hash[STORE_FINGERPRINT_BYTES]);

/* settings.c */
/* Memory for what a SETTING does: what is checked, in whatever number, is carried out without asking for more when it is checked again behind
 * store_setting_again(). store_setting_anew(): what is checked from now on is another change. */
int store_setting_room(struct store *store, const struct job_record *record);
void store_setting_again(struct store *store);
void store_setting_anew(struct store *store);
int store_setting_apply(struct store *store, const struct job_record *record);
const struct store_setting *store_setting_find(const struct store *store, struct store_slice key);
void store_settings_done(struct store *store);

#endif
