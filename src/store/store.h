/* src/store/store.h -- the store: jobs, queues and settings that survive. The one interface of the fronts.
 *
 * Depends on: job/types.h, whilst.h.  Used by: deliver, front, cli.
 *
 * A change is an action; one call applies one or many of them as one commit: all or nothing (or, on
 * request, each for itself). The answer comes when the commit has reached its level and carries its
 * position. A read shows what is durable: it is answered when the newest record that it depends on is
 * flushed, unless it asks for STORE_ASYNC. Every wait reads the state first, so none can be missed.
 *
 * Thread: the loop that opened the store (fronts on other loops post to it; arguments are copied during the
 * call and results belong to the caller, so nothing else stands in the way of calls from any loop).
 * Memory: slices are borrowed during the call only. What a future gives (ptr) belongs to who consumes it and
 * is freed by the function named at its type; a future that is dropped or cancelled frees it itself. No
 * pointer into the store ever leaves it.
 * Errors: a future with n < 0 was not judged at all: -ECANCELED, -ENOMEM, -EIO and the like once the log has
 * failed (from then on every call), and what is said below. A refusal is in the commit: see struct store_commit.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/histogram.h"
#include "job/types.h"
#include "whilst/whilst.h"

struct store;

#define store_slice         job_slice /* one shape for both, so that nothing is converted on the way */
#define STORE_SLICE(string) ((struct store_slice){(string), sizeof(string) - 1})

enum store_level {
	STORE_DEFAULT = 0,  /* claims and extensions async, all else local */
	STORE_ASYNC,        /* written to the kernel */
	STORE_LOCAL,        /* flushed */
	STORE_REMOTE_WRITE, /* refused with JOB_ELEVEL: no standby */
	STORE_REMOTE_FLUSH,
};

struct store_position {
	uint32_t epoch;
	uint64_t lsn; /* the byte after the commit's records, at most that after its group */
};

/* ---- open and close ---------------------------------------------------------------------- */

typedef void store_failure_function(int64_t error, const char *message, void *arg);
typedef void store_progress_function(uint64_t bytes_done, uint64_t bytes_all, uint64_t jobs, void *arg);

struct store_options {                    /* zero: the default */
	const char *directory;            /* of the data; made if it is not there; copied */
	struct job_queue_config defaults; /* for queues that do not say otherwise */
	bool queues_declared;             /* unknown queues are refused instead of made */
	uint64_t payload_bytes_max;       /* 64 MiB, at most 1 GiB; for results too; beyond: JOB_ETOO_LARGE */
	uint64_t jobs_max; /* unfinished and retained jobs in all, 100 million; beyond: JOB_EMEMORY_FULL */
	uint64_t
		finished_max; /* retained finished jobs, 10 million; beyond: those closest to the end of their
					     retention go first */
	uint32_t queues_max;  /* 65,536 */
	uint64_t recent_bytes;  /* memory for payloads just written, 64 MiB */
	uint64_t segment_bytes; /* size of a log segment, the log's default */
	uint64_t
		checkpoint_bytes; /* 64 MiB; the state is written down when the log has grown by this, or by what the last
				      checkpoint took if that is more */
	uint64_t
		compact_slack; /* 2 GiB; on disk there may be twice what is needed of the log and this, before
				      compaction stops being gentle */
	uint64_t compact_rate; /* 16 MiB; bytes a second that gentle compaction writes again */
	uint64_t blob_bytes;   /* bodies larger than this get a file of their own; 1 MiB, at most that */
	uint32_t bodies_max;   /* such files that are written at once, 64 */
	uint32_t
		events_max; /* newest events that are kept for who follows, 65,536; rounded up to a power of two */
	uint64_t keys_max;         /* struct store_key that are kept, 1 million */
	int64_t keys_retention_ns; /* for how long, 24 h */
	store_failure_function
		*on_failure; /* called once, from the loop, when the log has failed: nothing will be
					       accepted any more, the process should say so and end */
	void *failure_arg;
	store_progress_function *on_progress; /* while opening, about once a second */
	void *progress_arg;
	wh_log_function *log; /* notices: what recovery found and did */
	void *log_arg;
};

/* Why store_open() failed, for people. */
struct store_problem {
	int exit_status; /* 3: durable data is damaged; 4: everything else */
	char text[1536]; /* what, where, and what to do; no newline at the end */
};

/* store_open() - lock the directory, recover, be ready. options are copied. Synchronous: outside callbacks.
 * Result 0; or, with *ret untouched and *ret_problem (may be NULL) filled in, -EBUSY: another process holds the
 * directory; -WH_EDAMAGED: durable data is damaged; -ENOTSUP: written by a newer version; else what the
 * system said. */
int store_open(wh_loop *loop, const struct store_options *options, struct store **ret,
               struct store_problem *ret_problem) WH_MUST_USE;

/* store_close() - flush what was accepted, release the directory, free. Synchronous: outside callbacks. Result 0 or
 * the error with which the log has failed. Futures that are outstanding end with their true result or
 * -ECANCELED; lots that were granted and not consumed are released. Accepts NULL. */
int store_close(struct store *store);

/* ---- changes ----------------------------------------------------------------------------- */

enum store_action_kind {
	STORE_SUBMIT = 1,
	/* with a lease */
	STORE_COMPLETE,
	STORE_FAIL,
	STORE_RELEASE,
	STORE_EXTEND,
	STORE_PROGRESS,
	STORE_BURY,
	STORE_RETURN, /* as if it had not been reserved: ready at once, no attempt and no release counted */
	/* without */
	STORE_CANCEL, /* waiting or buried: cancelled at once. running: the worker learns at its next call */
	STORE_KICK,   /* buried or delayed -> ready */
	STORE_EDIT,   /* other values for an unfinished job */
	STORE_DELETE, /* any job that is not running is forgotten, tombstone apart; with its lease a running one */
	/* queues; each of these is alone in its commit, and local at least */
	STORE_QUEUE_PUT,   /* create, or configure: the whole configuration is replaced */
	STORE_QUEUE_PAUSE, /* nothing is reserved until resumed */
	STORE_QUEUE_RESUME,
	STORE_QUEUE_PURGE, /* cancel every waiting job (delayed, ready, buried); result.count = how many */
	STORE_QUEUE_KICK, /* kick up to .count buried jobs, or if none is, delayed ones, soonest first; result.count */
	STORE_QUEUE_DELETE, /* refused with JOB_ENOT_EMPTY while it holds unfinished jobs */
	/* settings: small named values of the server (services of the gateway); local at least */
	STORE_SETTING_PUT,
	STORE_SETTING_DELETE,
	/* also of store_do_many() */
	STORE_MOVE,   /* a waiting job to another queue, in its state */
	STORE_REPLAY, /* a failed job, a buried or a dead one, ready again with none of its attempts begun; a dead one where it became dead */
};

struct store_body;
enum { STORE_KEY_MAX = 1024, STORE_FINGERPRINT_BYTES = 16, STORE_NOTE_BYTES = 16 };

struct store_submit {
	struct store_slice queue;
	struct store_slice payload;
	struct store_body *body; /* not NULL: instead of payload, see store_body_open() */
	struct store_slice content_type;
	struct store_slice headers; /* opaque bytes kept with the payload and given back with it */
	uint32_t priority;          /* 0 first; JOB_PRIORITY_DEFAULT is what clients get that say nothing */
	uint32_t attempts_max;      /* 0: the queue's; or JOB_ATTEMPTS_UNLIMITED */
	int64_t delay_ns;           /* not before this long from now */
	int64_t run_at;             /* not before this wall-clock instant (ns since 1970); 0: none */
	int64_t time_to_run_ns;     /* 0: the queue's */
	int64_t retention_ns;       /* 0: the queue's; negative: forgotten as soon as it is finished */
	bool buried;                /* set aside from the start */
	int64_t expires_ns; /* failed with "expired" if it is not begun within this long from now; 0: never */
	int64_t expires_at; /* or by this wall-clock instant; 0: none. The earlier one of both counts */
	/* No second job of the queue while one has this key, at most JOB_KEY_MAX bytes: a submit is answered with that one then */
	struct store_slice unique;
	int64_t unique_while_ns; /* this long from now; JOB_UNIQUE_ACTIVE (0), JOB_UNIQUE_QUEUED */
	/* where the work comes from, for who follows it: given back with the payload; at most JOB_TRACE_MAX bytes */
	struct store_slice trace;
	/* Jobs of the queue with the same group, at most JOB_KEY_MAX bytes, run in their order and one at a time (group_concurrency) */
	struct store_slice group;
	bool done; /* done from the start, without a result: an event that is kept. Not with delay, run_at, buried */
	uint32_t
		event; /* not 0: it is about the event of that number, from 1, of this commit, which so has a position */
	struct store_position about; /* epoch not 0: it is about an earlier event, which has this position */
	/* It awaits these jobs, and delay_ns counts from the end of the last one. 8 bytes each, in any order, twice the same is once, at most JOB_AFTER_MAX:
	 * an id, or STORE_AFTER_ACTION and the index of an earlier submit of the same transaction. Not with buried, done. Refused with JOB_EAWAITED,
	 * JOB_EAWAITED_FULL: result.job is that one; JOB_ETWICE: another action names it; JOB_ETOO_LARGE: all of the transaction more than JOB_AFTER_ALL_MAX */
	struct store_slice after;
	uint8_t after_failure; /* enum job_after_failure */
};
#define STORE_AFTER_ACTION (UINT64_C(1) << 63)

/* What is edited of a job: what it says, and nothing else. */
enum store_edit_fields {
	STORE_EDIT_PRIORITY = 1,
	STORE_EDIT_RUN_AT = 2,      /* of a delayed or ready one */
	STORE_EDIT_TIME_TO_RUN = 4, /* from the next lease, or extension of the present one, on */
	STORE_EDIT_RETENTION = 8,
	STORE_EDIT_ATTEMPTS =
		16, /* at least as many as were begun, and one more of one that waits; else JOB_EVALUE */
	STORE_EDIT_EXPIRES = 32, /* of one that has not been begun */
};
enum { STORE_EDIT_VERSIONS_MAX = 8 };
struct store_edit {
	unsigned fields;
	uint32_t priority;
	uint32_t attempts_max;  /* 0: the queue's */
	int64_t delay_ns;       /* RUN_AT: from now; 0 and no run_at: ready */
	int64_t run_at;         /* or this instant, wall clock, ns */
	int64_t time_to_run_ns; /* 0: the queue's */
	int64_t retention_ns;   /* 0: the queue's; negative: none */
	int64_t expires_ns;     /* EXPIRES: from now; 0 and no expires_at: never */
	int64_t expires_at;
	/* only if its version (struct store_view) is one of these, else JOB_EVERSION */
	bool conditional;
	uint8_t versions_count;
	uint64_t versions[STORE_EDIT_VERSIONS_MAX];
};

struct store_action {
	int kind; /* enum store_action_kind */
	uint64_t job;
	struct job_lease lease; /* COMPLETE, FAIL, RELEASE, EXTEND, PROGRESS, BURY; DELETE of a running job */
	union {
		struct store_submit submit;
		struct {
			uint32_t status; /* 0: 200 */
			struct store_slice bytes, content_type, headers;
			struct store_body *body; /* not NULL: instead of bytes */
			int64_t keep_ns;         /* kept for this long at least, whatever its retention */
		} complete;
		struct {
			struct store_slice
				error; /* text; the middle of more than JOB_ERROR_TEXT_MAX bytes is left out */
			bool no_retry;  /* failed for good */
			bool delay_set; /* delay_ns instead of the backoff */
			int64_t delay_ns;
		} fail;
		struct { /* does not count as an attempt */
			int64_t delay_ns;
			bool priority_set;
			uint32_t priority;
		} release;
		struct {
			int64_t by_ns; /* from now; 0: the job's time to run */
		} extend;
		struct {
			struct store_slice bytes;
		} progress;
		struct {
			struct store_slice error;
			bool priority_set;
			uint32_t priority;
		} bury;
		struct {
			bool waiting_only; /* a running job is refused with JOB_ESTATE */
			int64_t keep_ns;   /* as above */
		} cancel;
		struct store_edit edit;
		/* MOVE, and if wanted REPLAY: another queue, made if it is not there, whose limits do not keep the job out */
		struct {
			struct store_slice to;
		} move;
		struct {
			struct store_slice name;
			/* PUT; config.dead_letter is not looked at: name of the queue, made if it is not there; empty: none */
			struct job_queue_config config;
			struct store_slice dead_letter;
			uint64_t count; /* KICK */
		} queue;
		struct {
			struct store_slice key, value;
			struct store_slice
				instead; /* PUT: only if it is still this, else JOB_EVERSION; absent: in any case */
		} setting;
	};
};

/* What became of one action. */
struct store_result {
	uint64_t job; /* SUBMIT: its id */
	int64_t at; /* wall clock, ns: FAIL, RELEASE, SUBMIT, EDIT: when it runs next (0: now); EXTEND: the deadline */
	uint64_t count; /* PURGE, KICK; of an event: jobs that were made of it */
	int32_t error;  /* 0, or why it was refused: negative errno or -enum job_error */
	uint8_t state;  /* enum job_state after it */
	bool duplicate; /* SUBMIT: .job has the unique key already; nothing was submitted. .state: its own, JOB_NONE: forgotten */
	bool dead;    /* FAIL: it went to the dead-letter queue */
	bool created; /* QUEUE_PUT, SETTING_PUT: was not there before */
	bool event; /* of several actions, see struct store_asked: .job is the number of the event in its commit, 0: nobody has it. .duplicate: it
		       was published before, nothing was done, and .job is the one that keeps it, or has kept it */
};

/* The answer to a change, freed by store_commit_free(). */
struct store_commit {
	int32_t error;      /* 0; else the first refusal, and without STORE_EACH nothing was done */
	uint32_t failed;    /* error: the index of the action that was refused */
	const char *reason; /* error: one sentence, static */
	uint64_t limit;     /* error JOB_ETOO_LARGE: how large it may be, where that is known; else 0 */
	int level;          /* reached: enum store_level, STORE_ASYNC or more */
	struct store_position position;
	uint64_t events_from; /* lsn: the n-th event of the commit has the position of this and n */
	bool replayed; /* it was done before, under the same key: these are the results, the position, events_from and note of then */
	uint8_t note[STORE_NOTE_BYTES]; /* of struct store_asking */
	size_t count;
	struct store_result results[];
};
struct store_commit *store_commit_free(struct store_commit *commit);

enum {
	STORE_EACH = 1
}; /* one commit, but each action stands for itself: refused ones keep no other from it */

/* store_apply() - do all of actions or none. New jobs get ids that follow one another, in the order of the actions. n = 0, ptr = struct store_commit *: judged, see there. At most
 * JOB_ACTIONS_MAX. A job may be named once per call. */
wh_future store_apply(struct store *store, const struct store_action *actions, size_t count, unsigned flags,
                      int level);

/* A key under which something is done once, so that whoever lost the answer may ask again. */
struct store_key {
	struct store_slice name; /* whose, for what, and the client's word; 1 to STORE_KEY_MAX bytes */
	uint8_t fingerprint
		[STORE_FINGERPRINT_BYTES]; /* of the request; zero, then store_key_mix() each part of it */
};
/* store_keys_each() - what is kept under keys, oldest first, .name and results borrowed until each() returns; not 0: it ends with
 * that. A result's .count is how many follow one another: the n-th is of .job + n. Of events .job is a number, 0 of all that nobody has, and .at /
 * WH_NS_PER_MS how many jobs each has made. */
struct store_kept_key {
	struct store_key key;
	int64_t at; /* wall clock, ns */
	struct store_position position;
	size_t count; /* of runs */
	const struct store_result *runs;
	bool events; /* there are some: these two are as of struct store_commit */
	uint64_t events_from;
	uint8_t note[STORE_NOTE_BYTES];
};
typedef int store_keys_function(void *arg, const struct store_kept_key *kept);
int store_keys_each(struct store *store, store_keys_function *each, void *arg);
/* store_key_mix() - a part of the request, of any length. store_key_mix_body(): one that has ended (store_body_end()); the same
 * bytes give the same. */
void store_key_mix(uint8_t fingerprint[STORE_FINGERPRINT_BYTES], const void *bytes, size_t len);
void store_key_mix_body(uint8_t fingerprint[STORE_FINGERPRINT_BYTES], const struct store_body *body);

/* store_apply_once() - as store_apply() without flags, unless what was asked for under this key has been done less than keys_retention_ns ago:
 * then its results again, .replayed, once its commit has reached this level. Key and change are one commit. What was refused is
 * not kept: it is judged anew. Refused with JOB_EKEY (another fingerprint), JOB_EKEYS_FULL (keys_max). */
wh_future store_apply_once(struct store *store, const struct store_action *actions, size_t count, int level,
                           const struct store_key *key);

/* What a client asked for may take several actions, or none: an event has one for each subscription. Then it has one result. */
struct store_asked {
	uint32_t actions; /* how many, next to one another */
	bool event; /* it is an event, and they are submits of it; else its result is that of the first, and there is one. The first one of an event may be .done
		       and have a unique key: when that is taken the event was published before, and none of them is done */
};
struct store_asking {
	const struct store_asked *items; /* all actions, in order */
	size_t count;                    /* at most JOB_ACTIONS_MAX */
	uint8_t note[STORE_NOTE_BYTES];  /* given back with the commit, and kept with a key that has events */
	bool known; /* only the answer of then: refused with JOB_EBUSY if the key is not known any more */
};
/* store_key_known() - is there an answer of then? It may be another request's. */
bool store_key_known(struct store *store, const struct store_key *key);
/* store_apply_asked() - as store_apply_once() (key NULL: as store_apply()), with a result for each item instead of each action; .failed is that of an
 * action all the same. There may be no action at all: then nothing but the key is done. */
wh_future store_apply_asked(struct store *store, const struct store_action *actions, size_t count,
                            const struct store_asking *asking, int level, const struct store_key *key);

/* store_submit() - the fast path of one STORE_SUBMIT; the answer is the same. */
wh_future store_submit(struct store *store, const struct store_submit *submit, int level);

/* store_submit_many() - count jobs that differ in their payload only, one commit. options->payload is ignored. */
wh_future store_submit_many(struct store *store, const struct store_submit *options,
                            const struct store_slice *payloads, size_t count, int level);

/* ---- large bodies, going in --------------------------------------------------------------
 *
 * A body that is not, or should not be, in memory whole is taken piece by piece: it is gathered in memory while it is small and
 * written to a file from blob_bytes on, which is flushed, name and all, when store_body_end() has completed. It can be named by one
 * change then; the commit needs no further byte of it. Whole bodies that are too large for records (payload, bytes) are written in the same
 * way by the store itself, from a copy. */

enum { STORE_PIECE_MAX = 128 << 10 };
enum store_body_flags {
	STORE_BODY_RESULT = 1, /* of a complete: taken when the disk is full as well */
	STORE_BODY_WAITS = 2,  /* bodies_max: waits for its turn instead of being refused */
};

/* store_body_open() - length: known beforehand, or -1. 0; -JOB_ETOO_LARGE; -JOB_EBUSY: as many as may be are written just now; -ENOSPC;
 * -ENOMEM. store_body_free() whatever happens then. */
int store_body_open(struct store *store, int64_t length, unsigned flags, struct store_body **ret) WH_MUST_USE;
/* store_body_write() - a piece of at most STORE_PIECE_MAX bytes, copied. n = 0 when the next one may come; one at a time. An error is the body's
 * end, and its file is gone: -JOB_ETOO_LARGE, -JOB_EBUSY, -ENOSPC, -EIO, -EMSGSIZE (more than the length that was told). */
wh_future store_body_write(struct store_body *body, const void *bytes, size_t len);
/* store_body_end() - n = length: it is whole and on the disk. Errors as above, -EMSGSIZE for too few bytes too. */
wh_future store_body_end(struct store_body *body);
uint64_t store_body_bytes(const struct store_body *body); /* so far */
/* store_body_mark() - store_key_mix_body() takes what is written from now on. -ENOMEM. */
int store_body_mark(struct store_body *body) WH_MUST_USE;
/* store_body_free() - done with it. What no commit has named is removed from the disk. At any time, also after store_close(). NULL; accepts
 * NULL. */
struct store_body *store_body_free(struct store_body *body);

/* ---- reserve ----------------------------------------------------------------------------- */

/* Bytes with what they are; counted, read-only. */
struct store_bytes {
	uint32_t references;
	uint32_t status; /* of a result; 0: a payload */
	struct store_slice content_type, headers, body;
	uint64_t bytes; /* of the body */
	uint64_t job;
	struct store_position event; /* of a payload: of the event that it is about; epoch 0: about none */
	struct store_slice trace;    /* of a payload */
	int64_t since;               /* of a payload: when the job was to run; wall clock, ns */
	struct job_blob blob; /* number not 0: body is empty, and read from a file by store_reader_open() */
};
struct store_bytes *store_bytes_ref(struct store_bytes *bytes);
struct store_bytes *store_bytes_unref(struct store_bytes *bytes); /* NULL; accepts NULL */

struct store_leased {
	uint64_t job;
	struct job_lease lease;
	uint32_t attempt; /* 1: the first */
	uint32_t attempts_max;
	uint32_t priority;
	int64_t time_to_run_ns;
	int64_t deadline;            /* wall clock, ns */
	struct store_slice queue;    /* its name */
	struct store_bytes *payload; /* NULL: could not be read; .error says why */
	int32_t error;
};

/* Reserved jobs, freed by store_lot_free(). */
struct store_lot {
	int level;
	struct store_position position; /* of the claims */
	size_t count;
	struct store_leased jobs[];
};
struct store_lot *store_lot_free(struct store_lot *lot); /* the leases stay with the caller */
/* store_lot_return() - for a lot that cannot be delivered: release every job of it at once, as if it had not been
 * reserved, and free it. NULL. */
struct store_lot *store_lot_return(struct store *store, struct store_lot *lot);

struct store_reserve {
	const struct store_slice *queues; /* lowest priority number, then lowest id, over all of them */
	size_t queues_count;              /* at most JOB_RESERVE_QUEUES_MAX */
	uint32_t jobs_max;                /* 0: 1; at most JOB_RESERVE_MAX */
	uint64_t bytes_max; /* stop before the payloads pass this, one job at least; 0: 64 MiB */
	bool wait;          /* park until there is one; else n = 0 at once when there is none */
	int level;          /* STORE_DEFAULT: async */
	int64_t lease_ns;   /* 0: each job's time to run */
	uint64_t job;       /* not 0: this job whatever its queue (ready, delayed or buried); never waits */
	bool bound;         /* the leases end with this run of the server: a start returns the jobs */
};

/* store_reserve() - lease jobs. n = how many and ptr = struct store_lot *; n = 0 and ptr = NULL: nothing there.
 * Waiting reservations are served first come first served per queue. wh_cancel() (wh_deadline() for a limit
 * in time) gives -ECANCELED and takes no job; a lot that was granted but not consumed is released by itself.
 * -JOB_EUNKNOWN_QUEUE (declared queues), -JOB_EUNKNOWN_JOB, -JOB_EEXPIRED, -JOB_ESTATE (.job), -JOB_EVALUE,
 * -JOB_ELEVEL. */
wh_future store_reserve(struct store *store, const struct store_reserve *reserve);
/* store_is_last_in_line() - of the future that the latest store_reserve() gave: does it wait for jobs? false: it has them,
 * there are none, or it was refused, and says so when it completes. */
bool store_is_last_in_line(const struct store *store, wh_future reserved);

/* ---- look -------------------------------------------------------------------------------- */

struct store_error {
	uint32_t attempt;
	int64_t at; /* wall clock, ns */
	struct store_slice text;
};

/* A job as it was at one moment, freed by store_view_free(). */
enum { STORE_AWAITS_MAX = 100 };
struct store_view {
	uint64_t job;
	uint64_t version; /* differs whenever anything shown here differs: for ETag and store_wait() */
	uint8_t state;    /* enum job_state */
	bool cancel_requested;
	uint32_t priority;
	uint32_t attempts; /* begun so far */
	uint32_t attempts_max;
	uint32_t timeouts;                          /* leases that passed */
	uint32_t reserves, releases, buries, kicks; /* unfinished: how often */
	int64_t delay_ns; /* unfinished: asked for at its last release, or else when it was submitted. Awaiting: from when it does not any more */
	int64_t time_to_run_ns; /* the queue's or its own */
	int64_t retention_ns;
	int64_t created_at;  /* wall clock, ns; so are all that follow; 0: not so */
	int64_t run_at;      /* delayed; awaiting: not before this either */
	int64_t deadline;    /* running */
	int64_t finished_at; /* finished */
	int64_t expires_at;  /* finished: end of its retention */
	int64_t begin_by;    /* unfinished: it fails if it has not been begun by then */
	struct store_slice
		dead_from; /* unfinished: the queue in which its attempts were exhausted first; empty: it is not dead */
	struct store_slice unique, group;
	/* awaiting: how many of how many jobs have not ended yet, the first STORE_AWAITS_MAX of them (ids, 8 bytes each), and what if one
	 * does not end well */
	uint32_t awaits_open, awaits_count;
	struct store_slice awaits;
	uint8_t after_failure;  /* enum job_after_failure */
	struct job_lease lease; /* running */
	struct store_slice queue;
	struct store_slice content_type; /* of the payload */
	struct store_slice trace;
	uint64_t payload_bytes;
	uint32_t result_status; /* done */
	struct store_slice result_content_type;
	uint64_t result_bytes;
	struct store_slice progress;
	uint32_t errors_count; /* newest last */
	struct store_error *errors;
	int64_t unique_while_ns; /* as it was submitted: from .created_at on, JOB_UNIQUE_ACTIVE or JOB_UNIQUE_QUEUED */
};
struct store_view *store_view_free(struct store_view *view);

/* store_get() - n = state, ptr = struct store_view *. -JOB_EUNKNOWN_JOB, -JOB_EEXPIRED. */
wh_future store_get(struct store *store, uint64_t job, int level);

/* store_waited_for() - does a store_wait() wait for the job now? */
bool store_waited_for(const struct store *store, uint64_t job);

/* store_state() - enum job_state at once, durable or not; JOB_NONE: not here. */
int store_state(const struct store *store, uint64_t job);
/* store_lease_holds() - would a completion with it be accepted now? Once it would not, it never will be. */
bool store_lease_holds(struct store *store, uint64_t job, struct job_lease lease);

/* store_scan() - the next of the jobs in one of the states (bits 1 << enum job_state; 0: any) and of a queue (its name; empty: any), in no
 * order. *cursor begins at 0. 0: no more. */
uint64_t store_scan(const struct store *store, struct store_slice name, unsigned states, uint32_t *cursor);

/* store_segment() - the number of the log segment that holds an unfinished job's SUBMIT; 0: no such job. */
uint64_t store_segment(const struct store *store, uint64_t job);

enum store_wait_for {
	STORE_WAIT_FINISHED, /* done, failed, cancelled, or gone */
	STORE_WAIT_CHANGE,   /* or its version is no longer what was seen */
};
/* store_wait() - n = the state once it is so (JOB_NONE: gone in the meantime); at once if it is already.
 * About 170 bytes each while it waits. Cancel it freely. Errors as store_get(). */
wh_future store_wait(struct store *store, uint64_t job, int wait_for, uint64_t seen_version, int level);

/* store_payload(), store_result() - n = bytes of the body, ptr = struct store_bytes *. Errors as store_get();
 * store_result() also -JOB_ENOT_READY, -JOB_ENO_RESULT (failed or cancelled: look at the view).
 * -WH_EDAMAGED: what is on disk does not match its checksum. */
wh_future store_payload(struct store *store, uint64_t job, int level);
wh_future store_result(struct store *store, uint64_t job, int level);

/* ---- large bodies, coming out ------------------------------------------------------------ */

struct store_reader;

/* store_reader_open() - read the body of bytes (->blob.number not 0), which is held meanwhile. 0; -JOB_EBUSY: too many at once; -ENOMEM. */
int store_reader_open(struct store *store, struct store_bytes *bytes, struct store_reader **ret) WH_MUST_USE;
/* store_reader_check() - n = its length: the whole file was compared with its record. First, and once. -WH_EDAMAGED: it is missing, or not
 * what was written (a notice names it); -JOB_EEXPIRED: its job was forgotten in the meantime. */
wh_future store_reader_check(struct store_reader *reader);
/* store_reader_next() - n bytes at ptr, which stay until the next call; n = 0: the end. -WH_EDAMAGED: the file changed since it was
 * compared; of the last piece nothing is given then. One at a time. */
wh_future store_reader_next(struct store_reader *reader);
struct store_reader *store_reader_free(struct store_reader *reader); /* at any time; NULL; accepts NULL */

enum { STORE_FILE_NAME_BYTES = 40 };
/* store_file_name() - "blobs/00000001-00000002.blob", for messages; "the log" where the body is in no file. */
void store_file_name(const struct store_bytes *bytes, char to[STORE_FILE_NAME_BYTES]);

/* Leases of a queue, without payloads: for who served them before a restart and cannot go on.
 * n = how many, ptr = struct store_lot * (.payload NULL), NULL when none. */
wh_future store_leases(struct store *store, struct store_slice name);

struct store_queue_view {
	struct store_slice name;
	bool paused;
	uint64_t jobs[JOB_STATES];       /* how many are in each state now */
	uint64_t urgent;                 /* ready ones with a priority below JOB_PRIORITY_DEFAULT */
	uint64_t waiting;                /* reservations that wait on it */
	bool implicit;                   /* made because something named it, never configured */
	int64_t pause_ns, pause_left_ns; /* of store_pause(); 0: none */
	uint64_t pauses;                 /* store_pause() in this run */
	uint64_t submitted, attempts, completed, failed, cancelled, timeouts, retries; /* since it was made */
	uint64_t dead;                  /* jobs that went to its dead-letter queue */
	struct job_queue_config config; /* with the defaults filled in */
	struct store_slice dead_letter; /* name; empty: none */
};
struct store_queues { /* sorted by name; freed by store_queues_free() */
	size_t count;
	bool more; /* there are more behind the last one */
	struct store_queue_view *queues;
};
struct store_queues *store_queues_free(struct store_queues *queues);
/* store_queues() - all of them. n = how many, ptr = struct store_queues *. store_queues_page(): at most max of those whose names begin with within and
 * stand behind after in the order of their bytes. Cost of either: a look at all, and sorting them.
 * store_queue() - one of them, likewise; -JOB_EUNKNOWN_QUEUE. */
wh_future store_queues(struct store *store);
wh_future store_queues_page(struct store *store, struct store_slice within, struct store_slice after,
                            size_t max);
wh_future store_queue(struct store *store, struct store_slice name);

/* store_queue_now() - what store_queue() shows, at once; ret->name is the argument. 0, or -JOB_EUNKNOWN_QUEUE. */
int store_queue_now(struct store *store, struct store_slice name, struct store_queue_view *ret);

/* store_queue_config() - how it was configured, at once: fields that are 0 mean the default. 0, or -JOB_EUNKNOWN_QUEUE. */
int store_queue_config(struct store *store, struct store_slice name, struct job_queue_config *ret);

/* store_pause() - reserve nothing from a queue for a time; 0: go on at once. Not in the log: a restart ends it, and it stands
 * beside the pause that STORE_QUEUE_PAUSE begins. The queue is made if it is not there. 0, -JOB_EUNKNOWN_QUEUE,
 * -JOB_EBUSY (try again soon) or what making it says. */
int store_pause(struct store *store, struct store_slice name, int64_t for_ns);

/* ---- many jobs of a queue ---- */

enum { STORE_MANY_IDS_MAX = 10000 };

/* What is done to which jobs. Few are dealt with at once; many step by step, in as many commits, so that nobody waits for it. */
struct store_many {
	int kind; /* STORE_CANCEL, MOVE: waiting ones; KICK: delayed and buried ones; DELETE: waiting and finished ones; REPLAY: failed and waiting ones,
		     of delayed and ready ones those that are dead */
	struct store_slice queue;
	struct store_slice
		to; /* MOVE, and if wanted REPLAY: another queue, made if it is not there, whose limits keep nobody out */
	unsigned
		states; /* bits 1 << state; MOVE, REPLAY, 0: all that it is for; KICK, 0: buried ones, in the order of their burials, or if there are none delayed ones, soonest first */
	uint64_t id_min, id_max; /* 0: all that there are now */
	uint64_t count_max;      /* 0: no limit */
	bool dead;               /* only those whose attempts were exhausted elsewhere */
	const uint64_t *ids;     /* these, at most STORE_MANY_IDS_MAX; not of a list */
	size_t ids_count;        /* 0: any */
	/* These are read from the records of each job, so that it takes longer. Time is counted from the end of a finished job, else from its newest
	 * error, or if it has none from its submit. What cannot be read is left out */
	struct store_slice error;   /* bytes in the text of its newest error; empty: any */
	int64_t older_ns, newer_ns; /* so long ago or longer; or shorter; 0: any */
};
/* store_do_many() - n = 0, ptr = struct store_commit * with how many in results[0].count, once all of it is flushed. A crash, or a future that is
 * cancelled, leaves what was done; done again, it does the rest. -JOB_EUNKNOWN_QUEUE, -JOB_EVALUE, -JOB_EBUSY: the other queue cannot be made just now. */
wh_future store_do_many(struct store *store, const struct store_many *many);

struct store_listed {
	uint64_t job;
	int64_t at; /* wall clock, ns: delayed: when it runs; running: deadline; finished: end of its retention */
	uint32_t priority, attempts, attempts_max;
	uint8_t state;
	bool cancel_requested;
	bool dead; /* its attempts were exhausted, here or in another queue, and it is not finished */
};
struct store_list { /* freed by store_list_free() */
	size_t count;
	uint32_t next; /* for after; 0: that was all */
	struct store_listed jobs[];
};
struct store_list *store_list_free(struct store_list *list);
/* store_list() - up to max (1 to 1,000) jobs of a queue in states (bits), in no order that means anything but that it stays: after (0: from the
 * beginning) goes on where another list ended, in this run of the server. n = how many, ptr = struct store_list *, once what it shows is flushed.
 * Step by step, too. -JOB_EUNKNOWN_QUEUE, -JOB_EVALUE. */
wh_future store_list(struct store *store, struct store_slice queue, unsigned states, uint32_t after,
                     uint32_t max);
/* store_list_some() - the same of those that which means; its kind, to and count_max do not count. */
wh_future store_list_some(struct store *store, const struct store_many *which, uint32_t after, uint32_t max);

/* store_limit() - of what an error of the store says that there are as many as may be: how many, and the name of the limit, static. queue: whose
 * limit, or that of its namespace, it may be, by its full name; may be absent. 0: it is about none, or the limit is another one by now. */
uint64_t store_limit(const struct store *store, int64_t error, struct store_slice queue,
                     const char **ret_name);
/* store_bodies_max() - how many large bodies are received at once. */
uint32_t store_bodies_max(const struct store *store);

/* store_makes_queues() - is an unknown queue made by who submits to it? */
bool store_makes_queues(const struct store *store);

/* store_limit_spaces() - what namespaces may hold, in place of what was said before; no record holds it. 0, -ENOMEM: as before.
 * store_space() - what one holds, and its limits; all 0: nothing. */
struct store_space {
	uint64_t unfinished, queues, jobs_max, queues_max;
};
int store_limit_spaces(struct store *store, const struct job_space_limit *limits, size_t count);
struct store_space store_space(const struct store *store, struct store_slice name);

/* store_queue_of() - the queue of a job, at once; *ret is borrowed until the callback in which this is called returns. 0,
 * -JOB_EUNKNOWN_JOB, -JOB_EEXPIRED. */
int store_queue_of(const struct store *store, uint64_t job, struct store_slice *ret);

/* store_first() - the job of a queue that is next in a state: ready, whatever pauses the queue; delayed: due first; buried:
 * buried first. 0: none. Cost: as of job_delayed_first() for delayed ones. */
uint64_t store_first(struct store *store, struct store_slice name, int state);

/* store_next_in() - pass over the jobs of a queue in a state, in no order: *cursor starts at 0. 0: no more. Jobs may be changed in between.
 * Cost: all of a pass together that of looking at every job of the store once. */
uint64_t store_next_in(const struct store *store, struct store_slice name, int state, uint32_t *cursor);

struct store_setting {
	struct store_slice key, value;
};
struct store_settings { /* sorted by key; freed by store_settings_free() */
	size_t count;
	struct store_setting *settings;
};
struct store_settings *store_settings_free(struct store_settings *settings);
/* store_settings() - all whose key begins with prefix. n = how many, ptr = struct store_settings *. */
wh_future store_settings(struct store *store, struct store_slice prefix);
/* store_setting_now() - the value of a setting with all that has been asked for so far, flushed or not; borrowed until the next call. false: there is
 * none. */
bool store_setting_now(const struct store *store, struct store_slice key, struct store_slice *ret);

/* ---- follow ------------------------------------------------------------------------------ */

enum store_change {
	STORE_CHANGE_OTHER,
	STORE_CHANGE_SUBMIT,
	STORE_CHANGE_DUE, /* a delayed job's time has come, or an awaiting one's: the jobs that it was to run after have ended */
	STORE_CHANGE_RESERVE,
	STORE_CHANGE_PROGRESS,
	STORE_CHANGE_RETRY, /* an attempt failed, or its lease passed, and there will be another one */
	STORE_CHANGE_RELEASE,
	STORE_CHANGE_RETURN, /* given back as if it had not been reserved */
	STORE_CHANGE_BURY,
	STORE_CHANGE_KICK,
	STORE_CHANGE_CANCEL, /* of a running job: asked for */
	STORE_CHANGE_FINISH,
	STORE_CHANGE_EDIT,       /* values of it are others now */
	STORE_CHANGE_MOVE,       /* it has come from another queue */
	STORE_CHANGE_REPLAY,     /* it waits again, none of its attempts begun */
	STORE_CHANGE_FORGET,     /* retention, deletion */
	STORE_CHANGE_QUEUE,      /* made, configured, paused or resumed; job 0 */
	STORE_CHANGE_QUEUE_GONE, /* removed; job 0 */
};

/* What happened to a job. */
struct store_event {
	uint64_t job;
	struct store_slice queue; /* borrowed until the next call of the store */
	int64_t at;               /* wall clock, ns */
	int64_t run_at;           /* delayed: the same */
	struct store_position
		position; /* for store_follow(); lsn 0: time alone did it, which no record says: a later position may bring it again */
	uint32_t attempts;
	uint8_t change; /* enum store_change */
	uint8_t state;  /* enum job_state after it; JOB_NONE: forgotten, or of a queue */
	bool cancel_requested;
	bool paused; /* QUEUE */
};

struct store_follow;

/* store_follow() - what happens to the jobs of a queue (of all, when it has no name) from now on; or, last not NULL, behind that
 * position, which is that of an event, of store_follow_position() or of store_follow_reached(), of this run or an earlier one. *ret_reset: what came
 * after it is not all known any more: the newest events_max of all queues are, from the checkpoint on with which this run has started, and for as
 * long as somebody follows, or not more than events_max came since; it begins with now then. What time alone did between two runs is not told. 0,
 * -JOB_EUNKNOWN_QUEUE, -JOB_ELEVEL, -ENOMEM, or the error with which the log has failed. */
int store_follow(struct store *store, struct store_slice queue, const struct store_position *last, int level,
                 struct store_follow **ret, bool *ret_reset) WH_MUST_USE;
/* store_follow_next() - 1: *ret is the next event that has reached the level; 0: there is none; -JOB_ELOST: events were pushed out
 * before they were asked for: it goes on with what comes from now on. */
int store_follow_next(struct store_follow *follow, struct store_event *ret);
/* store_follow_wait() - n = 0 once store_follow_next() may have something. One at a time; cancel it freely. */
wh_future store_follow_wait(struct store_follow *follow);
struct store_position store_follow_position(const struct store_follow *follow); /* up to where it was told */
/* store_follow_reached() - the same when nothing happens for long: as far as the level has come there is nothing to tell. */
struct store_position store_follow_reached(struct store_follow *follow);
/* store_follow_free() - also after store_close(). NULL; accepts NULL. */
struct store_follow *store_follow_free(struct store_follow *follow);
/* ---- events that are kept --------------------------------------------------------------------
 *
 * Jobs that were done from the start (store_submit.done), in the order of their commits, which is that of their ids and of their
 * positions. Of a queue whose name, behind its namespace, begins with STORE_EVENTS_PREFIX they are found again after a start. They go as finished jobs
 * do: by their retention, by finished_max of their queue, by that of the store. */

#define STORE_EVENTS_PREFIX "topic/"

/* store_kept_next() - the first one behind the job `after`; 0: none. store_kept_last() - the newest one, kept or gone; 0: none since
 * opening. store_kept_gone() - the newest one that was seen to have gone; 0: none since opening. store_kept_count() - how many are
 * behind `after`. Durable or not: what a look at the job waits for. */
uint64_t store_kept_next(struct store *store, struct store_slice queue, uint64_t after);
uint64_t store_kept_last(struct store *store, struct store_slice queue);
uint64_t store_kept_gone(struct store *store, struct store_slice queue);
uint64_t store_kept_count(struct store *store, struct store_slice queue, uint64_t after);

/* store_kept_position() - of the event that a job keeps, at once; false: it is of an earlier run, or gone, and store_payload() may know. */
bool store_kept_position(struct store *store, struct store_slice queue, uint64_t job,
                         struct store_position *ret);

/* store_kept_wait() - n = 0 once there is one behind `after`. Cancel it freely. */
wh_future store_kept_wait(struct store *store, struct store_slice queue, uint64_t after);

/* store_kept_find() - where events go on behind a position: n = the job behind which they stand (0: before all that are kept), ptr not
 * NULL: some of those behind it may be gone already (do not free it). -JOB_EVALUE: it is yet to come. Reads about 20 records when the position is
 * of an earlier run. */
wh_future store_kept_find(struct store *store, struct store_slice queue, struct store_position position);

/* ---- the log ----------------------------------------------------------------------------- */

struct store_epoch {
	uint32_t epoch;
	uint64_t
		end; /* lsn where it ended: an asynchronous commit (epoch, p) survived if and only if p <= end */
};
struct store_log { /* freed by store_log_free() */
	uint32_t epoch;
	uint64_t appended, written, flushed;
	size_t epochs_count; /* earlier epochs, oldest first */
	struct store_epoch epochs[];
};
struct store_log *store_log_free(struct store_log *log);
/* store_log() - n = 0, ptr = struct store_log *. */
wh_future store_log(struct store *store);

struct store_marks {
	uint32_t epoch;
	uint64_t appended, written, flushed; /* commits of several groups count when they are whole */
};
/* store_marks() - how far the log has come, at once. */
void store_marks(const struct store *store, struct store_marks *ret);

/* store_moved() - n = 0 once the mark of level has passed lsn: a hint to look at store_marks() again. -JOB_ELEVEL; the error with
 * which the log has failed. Cancel it freely. */
wh_future store_moved(struct store *store, uint64_t lsn, int level);

/* store_wait_position() - n = 0 once level has reached position (at once if it has). -JOB_ELOST: beyond the end of
 * its earlier epoch. -JOB_EVALUE: beyond what was ever appended. -JOB_ELEVEL. */
wh_future store_wait_position(struct store *store, struct store_position position, int level);

/* ---- backup ------------------------------------------------------------------------------ */

/* What a copy of the data folder consists of, held still while it is made: files, of each the first .bytes bytes and zeros up to
 * .file_bytes. A start with a folder of these, flushed, has everything up to store_backup_position(), as after a crash. */
struct store_backup;
enum { STORE_BACKUP_MANIFEST_BYTES = 4096, STORE_BACKUPS_MAX = 2 };
struct store_backup_file {
	const char *name; /* borrowed until store_backup_end() */
	uint64_t bytes, file_bytes;
	const void *content; /* NULL: in the file of that name */
};
/* store_backup_begin() - 0; -JOB_EBUSY: STORE_BACKUPS_MAX are under way; -ENOMEM, or the error with which the log has failed. Ended before
 * store_close(). Its files are not removed meanwhile: so it costs at most as much space as they have, and what is made after it comes and
 * goes as ever. */
int store_backup_begin(struct store *store, struct store_backup **ret) WH_MUST_USE;
struct store_position store_backup_position(const struct store_backup *backup);
/* store_backup_file() - the index-th; false: there are no more. */
bool store_backup_file(const struct store_backup *backup, size_t index, struct store_backup_file *ret);
/* store_backup_open() - for reading: as wh_open(). */
wh_future store_backup_open(const struct store_backup *backup, const char *name);
/* store_backup_over() - is it to be ended, since the disk is full and space is held back for it? Look at it from time to time. */
bool store_backup_over(const struct store_backup *backup);
struct store_backup *store_backup_end(struct store_backup *backup); /* NULL; accepts NULL */

/* ---- figures ----------------------------------------------------------------------------- */

enum {
	STORE_FLUSH_BUCKETS = 20,
	STORE_COMMIT_SHIFT = 14, /* of the histograms below: 16 us */
	STORE_JOB_SHIFT = 20,    /* 1 ms */
};

struct store_stats {                                          /* since opening, but for what says now */
	uint64_t jobs[JOB_STATES];                            /* now, over all queues */
	uint64_t urgent;                                      /* now */
	uint64_t queues, reservations_waiting, waits_waiting; /* now */
	uint64_t submitted, reserved, completed, failed_attempts, failed, cancelled, timeouts, retries,
		expired, dead;
	uint64_t commits_async, commits_local; /* answered */
	uint64_t refused;                      /* commits refused */
	uint64_t records, record_bytes;        /* appended */
	uint64_t groups, flushes;              /* of the log */
	uint64_t log_bytes;                    /* on disk, now */
	uint64_t job_memory_bytes;             /* of the job machine, now */
	uint64_t payload_reads_memory, payload_reads_disk;
	uint64_t log_written_bytes;   /* to the log */
	uint64_t log_unflushed_bytes; /* appended and not flushed yet, now */
	uint64_t segment_oldest, segment_newest,
		segment_bytes;    /* of the log: numbers, and size of one, now */
	uint64_t keys, key_bytes; /* of struct store_key, in memory, now */
	uint64_t keys_replayed, keys_misused, keys_refused;
	uint64_t blobs, blob_bytes; /* files of large bodies that jobs name, now */
	uint64_t blobs_written, blobs_removed, blobs_damaged, blobs_refused;
	bool disk_full;                              /* now: only what finishes or removes jobs is accepted */
	uint64_t flush_ns;                           /* all flushes together */
	uint64_t flush_buckets[STORE_FLUSH_BUCKETS]; /* [i]: flushes that took less than 2^(i + 14) ns and do
							not fit into [i - 1]; the last: all that took longer */
	uint64_t checkpoints, checkpoints_failed;
	uint64_t checkpoint_ns, checkpoint_bytes;     /* of the last one */
	uint64_t log_since_checkpoint, live_bytes;    /* now; the second: of the log, what is needed of it */
	uint64_t segments_scanned, segments_released; /* by compaction */
	uint64_t log_segments;                        /* now */
	uint64_t scanned_bytes;                       /* of the log, read by compaction */
	int64_t log_unflushed_ns; /* how long ago the oldest byte that is not flushed was written; 0: there is none; now */
	struct wh__histogram commit_async,
		commit_local; /* ns from the turn of the loop that carried a change out to its answer */
	struct wh__histogram
		flush_actions; /* actions that were answered by one look at what is flushed, less one; shift 0 */
	struct wh__histogram wait; /* ns that jobs waited for their first lease since they were to run */
	struct wh__histogram
		run; /* ns from a lease to its completion or failure; leases of an earlier run are left out */
	uint64_t moved, moved_bytes; /* jobs, or parts of jobs, written again by it */
};
/* store_stats() - fills *ret at once. Jobs per flush = submitted / flushes. */
void store_stats(const struct store *store, struct store_stats *ret);

/* store_recount() - count everything anew and compare with the running counters: 0, or -EPROTO with a notice
 * for what differs. For tests and scrubbing; costs a pass over all jobs. */
int store_recount(const struct store *store);

#endif
