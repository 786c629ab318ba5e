/* src/job/job.h -- the job machine: every state a job can be in and every way from one to the next.
 *
 * Pure: no I/O, no clock, no randomness; instants, random numbers and lease epochs are arguments. A change has
 * two halves. job_check_*() judges a wish against the present state and says what record would carry it out, or
 * refuses; nothing is changed. job_apply() carries out a record; it cannot fail. Between the two the caller
 * makes the record durable (or at least part of the log), so that the log alone tells what happened: reading
 * it back through job_replay() gives the same state, counters included.
 *
 * A check holds until the next job_apply(). Depends on: types.h, record.h. Used by: stores.
 * Thread: one at a time. Memory: everything belongs to the machine; slices are borrowed during a call.
 */
#ifndef JOB_JOB_H
#define JOB_JOB_H

#include "job/record.h"
#include "job/types.h"

struct job_machine;

struct job_limits { /* zero: the default */
	struct job_queue_config defaults;
	uint64_t jobs_max;     /* 100 million, at most 2^32 - 65,537 */
	uint64_t finished_max; /* 10 million */
	uint32_t queues_max;   /* 65,536 */
	uint32_t
		place_shift; /* how exactly it is remembered where the payload of a finished job is: to 2^this bytes; 21 */
};

struct job_lane;
struct job_kept;

/* A queue. The store reads the first part; the rest is the machine's. */
/* A namespace: those of its queues together. space.c */
struct job_space {
	struct job_space *next; /* in its bucket */
	uint64_t unfinished, queues;
	uint64_t jobs_max, queues_max; /* 0: no limit */
	uint64_t pending;              /* jobs that the transaction being checked will add */
	uint32_t named;                /* queues whose name is in it, those that are gone among them */
	bool listed;                   /* of job_spaces_limit() */
	uint32_t name_len;
	char name[];
};

struct job_queue {
	uint32_t number;
	bool paused;
	bool gone;     /* removed; kept while finished jobs name it */
	bool implicit; /* made because something named it */
	int64_t created_ns;
	struct job_queue_config own;    /* as configured: 0 means default */
	struct job_queue_config config; /* with the defaults filled in */
	uint64_t jobs[JOB_STATES];
	uint64_t submitted, attempts, completed, failed, cancelled, timeouts, retries;
	uint64_t dead;   /* jobs that went to its dead-letter queue */
	uint64_t urgent; /* ready jobs, revealed, with a priority below JOB_PRIORITY_DEFAULT */
	/* a pause for a time, which no record holds: it ends with the process */
	int64_t pause_ms, pause_until_ms; /* 0: none */
	uint64_t pauses;                  /* asked for in this run */
	/* the store's */
	void *waiters;
	uint32_t waiters_count; /* more than 0: the queue is told of by job_woken() when it gets ready jobs */
	uint32_t pending;       /* jobs that the transaction being checked will add: job_pend() */
	struct job_queue *next_pending;
	/* the machine's */
	bool limited;            /* by concurrency or rate */
	bool rate_waits;         /* job_limits_end() is to look at it */
	int64_t rate_full_ns;    /* limit.c: when the bucket of its rate is full again */
	struct job_space *space; /* NULL: its name has no namespace */
	uint64_t dead_alive;     /* unfinished jobs that failed here and are elsewhere: they name it */
	bool woken;
	struct job_queue *next_woken;
	uint32_t buried_first, buried_last;
	uint32_t lanes_count, lanes_cap;
	struct job_lane *lanes; /* sorted by priority */
	uint32_t overflow;      /* root of the heap for priorities that have no lane */
	struct job_kept *kept;  /* retain.c: heap of finished jobs, when only so many of them are kept */
	uint64_t kept_count, kept_cap;
	uint32_t kept_scan; /* as far as the slots have been looked at */
	bool kept_known;    /* all of them have */
	bool over;          /* more finished ones than are to be kept, perhaps */
	struct job_queue *next_over;
	uint32_t name_len;
	char name[];
};

/* ---- open and close ---------------------------------------------------------------------- */

int job_open(struct job_machine **ret, const struct job_limits *limits, int64_t now_ms);
struct job_machine *job_close(struct job_machine *machine); /* NULL; accepts NULL */

/* job_spaces_limit() - what namespaces may hold, in place of what was said before; What is beyond a limit stays, and no more comes:
 * -JOB_ENAMESPACE_FULL of submits and of new queues; jobs that are moved, replayed or dead come in any case. 0, -ENOMEM: as before.
 * job_space_find() - by its name, job_space_of() - by the full name of a queue; NULL: it has neither queues nor limits. */
int job_spaces_limit(struct job_machine *machine, const struct job_space_limit *limits, size_t count);
const struct job_space *job_space_find(struct job_machine *machine, struct job_slice name);
const struct job_space *job_space_of(struct job_machine *machine, struct job_slice queue);

/* ---- apply ------------------------------------------------------------------------------- */

enum {
	JOB_HIDDEN = 1
}; /* a new job, or those that are released by this: not to be leased before job_reveal() passes the place */

/* job_apply() - carry out a record that job_check_*() gave; place is where it stands in the log. */
void job_apply(struct job_machine *machine, const struct job_record *record, uint64_t place, unsigned flags);

/* job_replay() - carry out a record that was read back. 0, -ENOMEM, or -EPROTO: it does not fit the state. */
int job_replay(struct job_machine *machine, const struct job_record *record, uint64_t place);

/* job_lose_result() - a job that is done is a failed one from now on: its result cannot be read any more. No record says so: for a
 * repair, whose checkpoint does. */
void job_lose_result(struct job_machine *machine, uint64_t id);

/* job_released() - a job that awaited others and does not any more, by the record that was carried out last: ready now, or delayed. 0: there are no
 * more. They can be asked for until the next record is carried out. */
uint64_t job_released(struct job_machine *machine);

/* job_lose_awaited() - jobs of whose AFTER nothing is known are ended as if one that they await were forgotten: for a repair, which is told of each. */
void job_lose_awaited(struct job_machine *machine, void (*each)(void *arg, uint64_t id), void *arg);

/* job_reveal() - everything submitted, or released, at a place below until may be leased. */
void job_reveal(struct job_machine *machine, uint64_t until);

/* job_watch() - have the listener told when the job becomes ready by time alone; and when one that it awaits has ended, but not the last one (fewer,
 * while a record is carried out). job_listen(): who that is. job_watch_all(): of every job,
 * from now on, or not. */
typedef void job_ready_function(void *arg, uint64_t id);
void job_listen(struct job_machine *machine, job_ready_function *ready, job_ready_function *fewer_or_null,
                void *arg);
void job_watch(struct job_machine *machine, uint64_t id);
void job_watch_all(struct job_machine *machine, bool on);

/* job_queue_wake() - have job_woken() give a queue with waiters again. job_queue_free_if_gone(): its last waiter has
 * left. */
void job_queue_wake(struct job_machine *machine, struct job_queue *queue);
void job_queue_free_if_gone(struct job_machine *machine, struct job_queue *queue);

/* job_woken_any() - would job_woken() give one? */
bool job_woken_any(const struct job_machine *machine);

/* job_woken() - a queue with waiters that got a ready job or was resumed since it was last given; NULL: none. */
struct job_queue *job_woken(struct job_machine *machine);

/* ---- check: each fills *r and gives 0, or refuses with a negative code ----------------------- */

/* Ids come from reserved ranges: job_ids_left() are reserved and not given yet. job_check_ids() reserves count
 * more; at the start of a run it leaves out what an earlier one reserved; with count 0 it gives back what is left, at a
 * clean end. */
uint64_t job_ids_left(const struct job_machine *machine);
uint64_t job_ids_next(const struct job_machine *machine);
int job_check_ids(const struct job_machine *machine, uint64_t count, bool start, struct job_record *r);

/* job_room() - make memory for count more jobs, so that as many checked SUBMITs can be applied.
 * -JOB_EMEMORY_FULL, -ENOMEM. */
int job_room(struct job_machine *machine, uint64_t count);

/* job_check_submit() - *r has queue, priority, at_ns, when_ms, the options and slices; queue_or_null is NULL for a
 * queue that will be created before. nth is how many submits of the same transaction come before it.
 * Needs job_room() and a reserved id. Fills in type and id. r->type 0: a job has its unique key already, r->id (which may have
 * been forgotten when its key holds for a time); nothing is to be carried out. */
int job_check_submit(struct job_machine *machine, const struct job_queue *queue_or_null, uint64_t nth,
                     struct job_record *r);

/* job_check_after() - may a new job be made to run after this one? 0, -JOB_EAWAITED: it is not there; -JOB_EAWAITED_FULL; -JOB_ETWICE: the transaction being
 * checked names it. Marks it until job_untouch(). The SUBMIT, which has after_count, is followed by an AFTER at once, whose body is the ids.
 * job_after_room(): memory for so many jobs, and for so many that they await, in one transaction. */
int job_check_after(struct job_machine *machine, uint64_t id);
int job_after_room(struct job_machine *machine, uint64_t jobs, uint64_t edges);

/* job_check_claim() - -JOB_ESTATE: also what its queue's limits or its group keep back. -JOB_EBUSY: its time to be begun has passed, which
 * job_advance() has not seen yet. job_check_rate(), after the claim: what it takes of its queue's rate; r->type 0: it has
 * none. */
int job_check_claim(struct job_machine *machine, uint64_t id, int64_t now_ns, int64_t lease_ms,
                    uint32_t epoch, bool bound, struct job_record *r);
int job_check_rate(const struct job_machine *machine, uint32_t queue, int64_t now_ns, struct job_record *r);
/* job_check_group_rate() - likewise, after the claim of a job: what it takes of its group's rate. */
int job_check_group_rate(const struct job_machine *machine, uint64_t id, int64_t now_ns,
                         struct job_record *r);

/* With a lease. -JOB_ECANCELLED: the caller carries out job_check_acknowledge() then. r->text (error), r->body, ...
 * are given; the rest is filled in. */
int job_check_complete(struct job_machine *machine, uint64_t id, struct job_lease lease, int64_t now_ns,
                       struct job_record *r);
int job_check_fail(struct job_machine *machine, uint64_t id, struct job_lease lease, int64_t now_ns,
                   bool retry, int64_t delay_ms_or_negative, uint64_t random, struct job_record *r);
int job_check_release(struct job_machine *machine, uint64_t id, struct job_lease lease, int64_t now_ms,
                      int64_t delay_ms, const uint32_t *priority_or_null, struct job_record *r);
int job_check_extend(struct job_machine *machine, uint64_t id, struct job_lease lease, int64_t now_ms,
                     int64_t by_ms, struct job_record *r);
int job_check_progress(struct job_machine *machine, uint64_t id, struct job_lease lease, int64_t now_ms,
                       struct job_record *r);
int job_check_bury(struct job_machine *machine, uint64_t id, struct job_lease lease, int64_t now_ns,
                   const uint32_t *priority_or_null, struct job_record *r);
/* The job goes back as if it had not been leased: ready, no attempt, no release counted. */
int job_check_return(struct job_machine *machine, uint64_t id, struct job_lease lease, int64_t now_ms,
                     struct job_record *r);
/* A running job whose cancellation was asked for becomes cancelled. */
int job_check_acknowledge(struct job_machine *machine, uint64_t id, int64_t now_ns, struct job_record *r);

/* Without. r->type 0: nothing is left to do, the wish is fulfilled already. */
/* job_check_done() - a job that was submitted in this commit is done, without a result: kept for who looks at it. */
int job_check_done(struct job_machine *machine, uint64_t id, int64_t now_ns, struct job_record *ret);
int job_check_cancel(struct job_machine *machine, uint64_t id, int64_t now_ns, struct job_record *r);
int job_check_kick(struct job_machine *machine, uint64_t id, struct job_record *r);
int job_check_delete(struct job_machine *machine, uint64_t id, const struct job_lease *lease_or_null,
                     int64_t now_ms, struct job_record *r);

/* job_check_edit() - another priority, instant, ... for an unfinished job. *r has what is to be: flags (JOB_EDIT_...) and the values of
 * those; without JOB_EDIT_QUEUE. -JOB_ESTATE: an instant to run at, of one that is neither delayed nor ready; an expiry, of one that has been
 * begun. -JOB_EVALUE: fewer attempts than were begun, or as many for one that waits. No flags: r->type 0.
 *
 * job_check_move() - a waiting job to another queue, as it is; anew: ready there, and none of its attempts begun. It keeps its group, and a
 * unique key that is a length of time; no limit of the other queue keeps it out. queue 0: it stays where it is, anew only.
 *
 * job_check_revive() - one that has failed is ready again, in the same queue or another, none of its attempts begun. *r has what is known of
 * it from its records: submit_place, error_place, and of its last error at_ns, attempt, reason and text; the options of its SUBMIT. -JOB_ESTATE: it is not failed,
 * or not by these.
 *
 * job_edit_room(): memory for count of these, of kicks, failures and submits of one transaction, all together. */
int job_check_edit(struct job_machine *machine, uint64_t id, struct job_record *r);
int job_check_move(struct job_machine *machine, uint64_t id, uint32_t queue, bool anew, struct job_record *r);
int job_check_revive(struct job_machine *machine, uint64_t id, uint32_t queue, struct job_record *r);
int job_edit_room(struct job_machine *machine, uint64_t count);

/* job_touch() - mark a job as named by the transaction being checked; -JOB_ETWICE: it is already, or a submit of it is to run after it. */
int job_touch(struct job_machine *machine, uint64_t id);
void job_untouch(struct job_machine *machine, uint64_t id);

/* job_pend() - the transaction being checked will add a job to this queue, which counts for its limit, and if it is new also for that of its namespace. job_pend_none() - it has been checked. */
void job_pend(struct job_machine *machine, uint32_t queue, bool is_new);
void job_pend_none(struct job_machine *machine);

/* Queues. */
bool job_name_valid(struct job_slice name);
struct job_queue *job_queue_find(const struct job_machine *machine, struct job_slice name);
struct job_queue *job_queue_at(const struct job_machine *machine, uint32_t number); /* NULL: none */
uint32_t job_queues_end(const struct job_machine *machine); /* one more than the highest number in use */
int job_check_queue_put(struct job_machine *machine, struct job_slice name,
                        const struct job_queue_config *config, bool implicit, int64_t now_ns,
                        struct job_record *r); /* creates or configures */
int job_check_queue_pause(struct job_machine *machine, struct job_queue *queue, bool paused,
                          struct job_record *r);
int job_check_queue_gone(struct job_machine *machine, struct job_queue *queue, struct job_record *r);

/* ---- choose ------------------------------------------------------------------------------ */

/* job_pick() - the id of the job to be leased next from these queues: lowest priority number, then lowest
 * id; 0: none. Queues that are paused, or have as many jobs running or begun as they may, are passed over; job_woken() gives them when
 * that is over. */
uint64_t job_pick(struct job_machine *machine, struct job_queue *const *queues, size_t count, int64_t now_ns);

/* job_rate_valid() - can it be kept? */
bool job_rate_valid(const struct job_rate *rate);

/* job_queue_pause() - pass over the queue until an instant (0: not any more); asked for as a pause of pause_ms. No
 * record: for this run only, beside what QUEUE says. */
void job_queue_pause(struct job_machine *machine, struct job_queue *queue, int64_t until_ms,
                     int64_t pause_ms);

/* job_ready_id() - what job_pick() would give for the queue alone, paused or not. job_delayed_first() - the delayed job
 * that is due first (then by id). Cost: a pass over the delayed jobs of all queues due up to then. 0: none. */
uint64_t job_ready_id(struct job_machine *machine, struct job_queue *queue);
uint64_t job_delayed_first(const struct job_machine *machine, const struct job_queue *queue);

/* job_delayed_soonest() - up to max ids of delayed jobs of the queue, soonest first. How many; -ENOMEM. Cost as of
 * job_delayed_first(), up to the last of them, or rather up to the end of the wheel's list that it is in: 256 ms when it is due within
 * a minute, 65 s within four hours, four hours within 49 days. */
int64_t job_delayed_soonest(const struct job_machine *machine, const struct job_queue *queue, uint64_t *ids,
                            uint64_t max);

/* job_buried_first() - the id of the job that was buried first; 0: none. */
uint64_t job_buried_first(const struct job_machine *machine, const struct job_queue *queue);

/* job_scan() - pass over all jobs: the next one in one of the states (bit 1 << state) and, unless NULL, of that
 * queue. *cursor starts at 0. 0: no more. Jobs may be changed and removed in between. */
uint64_t job_scan(const struct job_machine *machine, const struct job_queue *queue_or_null, unsigned states,
                  uint32_t *cursor);

/* job_scan_some() - the same for one queue, in pieces: looks at look_at jobs of all queues at most and gives up to max ids. How many;
 * job_scan_ended(): that was all. job_scan_cursor(): where the scan goes on behind a job that it has given. */
uint32_t job_scan_some(const struct job_machine *machine, const struct job_queue *queue, unsigned states,
                       uint32_t look_at, uint32_t *cursor, uint64_t *ids, uint32_t max);
bool job_scan_ended(const struct job_machine *machine, uint32_t cursor);
uint32_t job_scan_cursor(const struct job_machine *machine, uint64_t id);
/* job_buried_some() - up to max ids of buried jobs, in the order of their burials. How many. */
uint32_t job_buried_some(const struct job_machine *machine, const struct job_queue *queue, uint64_t *ids,
                         uint32_t max);

/* ---- time -------------------------------------------------------------------------------- */

typedef int job_emit_function(void *arg, const struct job_record *record);

/* job_advance() - what is due at now: delayed jobs become ready, leases end, retentions pass, finished jobs beyond
 * the limit go. Records (RETRY, FINISH, REMOVE) are given to emit one by one, which persists and applies
 * them and says 0 or a negative error, which ends the pass. At most budget jobs; 1: more is due, 0: all done. */
int job_advance(struct job_machine *machine, int64_t now_ns, uint32_t budget, job_emit_function *emit,
                void *arg);

/* job_late() - has the time passed by which a job was to be begun? job_advance() will fail it. */
bool job_late(const struct job_machine *machine, int64_t now_ms);

/* job_next_due() - when job_advance() has something to do, at the earliest (ms); INT64_MAX: never. */
int64_t job_next_due(const struct job_machine *machine);

/* ---- checkpoints ------------------------------------------------------------------------- */

/* job_snapshot_begin() - the state as it is now is to be written down while the machine goes on: what changes is copied
 * before. -EBUSY: another one is under way; -ENOMEM. Cost: a bit per job.
 *
 * job_snapshot_step() - go on, about as far as budget jobs: records (COUNTERS, QUEUE_STATE, ENTRIES, ENTRIES_EXT)
 * are given to emit, which says 0 or a negative error. 1: there is more; 0: that was all, the snapshot has ended;
 * negative: it has ended without success (-ENOMEM: a change could not be copied).
 *
 * job_snapshot_bytes() - what is held in memory. job_snapshot_cancel(): end it; nothing when there is none. */
int job_snapshot_begin(struct job_machine *machine);
int job_snapshot_step(struct job_machine *machine, uint32_t budget, job_emit_function *emit, void *arg);
uint64_t job_snapshot_bytes(const struct job_machine *machine);
void job_snapshot_cancel(struct job_machine *machine);

/* job_load() - take in a record of a snapshot, in the order in which they were given, into a machine that was just
 * opened. job_load_end() - that was all: check it against its counters, put the jobs in order. 0, -ENOMEM, -JOB_EMEMORY_FULL,
 * or -EPROTO: it does not fit. */
int job_load(struct job_machine *machine, const struct job_record *record);
int job_load_end(struct job_machine *machine);

/* ---- what of the log is needed ----------------------------------------------------------- */

/* job_live() - have it told when bytes at a place of the log begin (positive) or cease (negative) to be needed: the newest
 * record of each kind, sizes about right (within a quarter). job_live_each() - the same for all that is needed now. */
typedef void job_live_function(void *arg, uint64_t place, int64_t bytes);
void job_live(struct job_machine *machine, job_live_function *live, void *arg);
void job_live_each(const struct job_machine *machine, job_live_function *live, void *arg);

/* job_needed() - may a record at a place be needed? Which parts of the job (enum job_record_flags, JOB_WHOLE_…) must be
 * written elsewhere before it may go; with JOB_WHOLE_RESULT all of it. 0: surely not. For errors, and for the payload of a finished
 * job, only their chain tells for certain. */
unsigned job_needed(const struct job_machine *machine, const struct job_record *record, uint64_t place);

/* job_check_whole() - may this WHOLE be carried out, when the job's places were these as its parts were read? -EAGAIN:
 * they are others now; -JOB_EUNKNOWN_JOB, -JOB_EEXPIRED: it is not needed any more. */
struct job_places {
	uint64_t base, error, progress; /* 0: none */
	uint64_t submit,
		submit_until; /* finished, and its SUBMIT is elsewhere: where about; until 0: it is not */
	uint8_t state;
};
int job_check_whole(const struct job_machine *machine, const struct job_places *places,
                    const struct job_record *r);

/* job_places() - of an unfinished job where its SUBMIT, its newest error and its progress are, of a finished one its FINISH. 0, or
 * as job_look(). job_places_each() - all of them; a negative result of each ends it. */
int job_places(const struct job_machine *machine, uint64_t id, struct job_places *ret);
typedef int job_places_function(void *arg, uint64_t id, const struct job_queue *queue,
                                const struct job_places *places);
int job_places_each(const struct job_machine *machine, job_places_function *each, void *arg);

/* ---- look -------------------------------------------------------------------------------- */

struct job_info {
	uint64_t id;
	uint64_t version;
	uint8_t state;
	bool cancel_requested, own_retention;
	bool bound; /* running: the lease ends with this run */
	const struct job_queue *queue;
	uint32_t priority, attempts, attempts_max, timeouts;
	uint32_t reserves, releases, buries, kicks; /* unfinished: how often */
	uint32_t delay_s;                           /* releases > 0: of the last one */
	int64_t when_ms; /* delayed: run at; running: deadline; finished: end of retention */
	int64_t time_to_run_ms, retention_ms;
	int64_t expires_ms; /* it fails if it has not been begun by then; 0: never */
	const struct job_queue
		*dead_from; /* the queue in which its attempts were exhausted first; NULL: it is not dead */
	struct job_lease lease;  /* running */
	uint64_t place;          /* of the SUBMIT; finished: of the FINISH */
	uint64_t error_place;    /* unfinished: the newest error */
	uint64_t progress_place; /* the newest PROGRESS */
	uint16_t changed;        /* bits 12 to 27 of the place of its newest record */
};

/* job_look() - 0, -JOB_EUNKNOWN_JOB, -JOB_EEXPIRED. */
int job_look(const struct job_machine *machine, uint64_t id, struct job_info *ret);

/* job_awaits() - what an awaiting job waits for: up to max ids of jobs that have not ended. How many. ret.awaited_by is filled in for any job. */
struct job_awaits {
	uint32_t open, count; /* not ended yet; in all */
	uint32_t awaited_by;  /* jobs that await it */
	uint8_t failure;      /* enum job_after_failure */
	int64_t delay_ms;     /* after the last one has ended */
};
uint32_t job_awaited_by(const struct job_machine *machine, uint64_t id); /* how many jobs await it */
size_t job_awaits(const struct job_machine *machine, uint64_t id, uint64_t *ids, size_t max,
                  struct job_awaits *ret);

/* job_run_ms() - for how long the job has had its present lease; -1: it has none, or an earlier run gave it. Right for 49 days. */
int64_t job_run_ms(const struct job_machine *machine, uint64_t id, int64_t now_ms);

struct job_totals {
	uint64_t jobs[JOB_STATES];
	uint64_t submitted, attempts, completed, failed, cancelled, timeouts, retries, expired;
	uint64_t dead;
	uint64_t urgent; /* now */
	uint64_t queues;
	uint64_t memory_bytes;
};
void job_totals(const struct job_machine *machine, struct job_totals *ret);

/* job_recount() - walk everything and compare with counters and structures: 0, or -EPROTO and what differs. */
int job_recount(const struct job_machine *machine, char *ret_what, size_t cap);

/* job_digest() - a number that is the same for machines in the same state, whatever way led there (memory layout,
 * order of insertion and hiding left out; delayed jobs whose time has come count as ready). For tests. */
uint64_t job_digest(const struct job_machine *machine, int64_t now_ms);

#endif
