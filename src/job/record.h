/* src/job/record.h -- records: what a change looks like in the log, docs/format-records.md in C.
 *
 * A record is the outcome of a decision; applying it decides nothing anew. Slices point to memory of
 * the caller (writing) or into the bytes that were read (reading). Pure functions.
 */
#ifndef JOB_RECORD_H
#define JOB_RECORD_H

#include "job/types.h"

enum { JOB_RECORD_VERSION = 1 };

/* on disk: never change */
enum job_record_type {
	JOB_IDS = 16,
	JOB_QUEUE,
	JOB_QUEUE_GONE,
	JOB_SUBMIT,
	JOB_CLAIM,
	JOB_EXTEND,
	JOB_RELEASE,
	JOB_RETRY,
	JOB_FINISH,
	JOB_CANCEL,
	JOB_PROGRESS,
	JOB_BURY,
	JOB_KICK,
	JOB_REMOVE,
	JOB_SETTING,
	JOB_BLOBS, /* in checkpoints */
	JOB_RETURN,
	JOB_WHOLE,           /* a job's records, or some of them, written again at a new place */
	JOB_ENTRIES,         /* checkpoint: jobs that a slot alone describes */
	JOB_ENTRIES_EXT,     /* checkpoint: jobs with an extension */
	JOB_COUNTERS,        /* checkpoint */
	JOB_QUEUE_STATE,     /* checkpoint: a queue with its counters */
	JOB_DEAD,            /* a job's attempts are exhausted: to the dead-letter queue */
	JOB_ENTRIES_POLICY,  /* checkpoint: jobs with an extension and a policy */
	JOB_UNIQUES,         /* checkpoint: unique keys that hold for a time */
	JOB_RATE,            /* how full a queue's bucket is */
	JOB_KEY,             /* a client's key, and what was answered: the last record of its commit */
	JOB_KEYS,            /* checkpoint: keys */
	JOB_EDIT = 44,       /* values of an unfinished job, its queue among them, are others now */
	JOB_AFTER = 50,      /* which jobs a new one is to run after */
	JOB_REVIVE = 51,     /* a job that has failed is ready again */
	JOB_JOINS = 52,      /* checkpoint: jobs that wait for others, and for which */
	JOB_GROUP_RATE = 57, /* how full a group's bucket is */
	JOB_BUCKETS = 58,    /* checkpoint: the buckets of groups */
	JOB_RECORD_TYPES_END
};

/* job_record_checkpoint() - is it a type that stands in checkpoints only? */
static inline bool job_record_checkpoint(int type)
{
	return (type >= JOB_ENTRIES && type <= JOB_QUEUE_STATE) || type == JOB_ENTRIES_POLICY ||
	       type == JOB_UNIQUES || type == JOB_JOINS || type == JOB_BUCKETS;
}

/* on disk */
enum job_reason {
	JOB_BY_WORKER = 1,  /* RETRY, FINISH: the worker said so */
	JOB_BY_TIMEOUT = 2, /* its lease passed */
	JOB_BY_EXPIRY = 3,  /* FINISH: it was not begun in time */
	JOB_BY_AWAITED = 4, /* FINISH: a job that it was to run after did not end well */
	JOB_REMOVE_EXPIRED = 1,
	JOB_REMOVE_DELETED = 2,
	JOB_REMOVE_EVICTED = 3,
};

/* on disk */
enum job_record_flags {
	JOB_QUEUE_PAUSED = 1, /* QUEUE */
	JOB_QUEUE_IMPLICIT =
		2,             /* QUEUE: made because something named it, not because somebody asked for it */
	JOB_CLAIM_BOUND = 1,   /* CLAIM: the lease ends with the run of the server that gave it */
	JOB_BODY_IN_BLOB = 1,  /* SUBMIT, FINISH: body is a struct job_blob as on disk */
	JOB_GROUP_RESTS = 1,   /* GROUP_RATE: too little is left for another job */
	JOB_SUBMIT_BURIED = 4, /* SUBMIT: buried from the start */
	JOB_SETTING_REMOVED = 1, /* SETTING */
	JOB_KEY_EVENTS = 1,      /* KEY: there are events among the results */
	JOB_QUEUE_GONE_FLAG = 4, /* QUEUE_STATE: removed; finished jobs still name it */
	JOB_WHOLE_PAYLOAD = 1,   /* WHOLE: which of the job's records are in it */
	JOB_WHOLE_RESULT = 2,
	JOB_WHOLE_ERRORS = 4,
	JOB_WHOLE_PROGRESS = 8,
	/* EDIT: what it says; the rest is as before */
	JOB_EDIT_PRIORITY = 1,
	JOB_EDIT_RUN_AT = 2, /* waits until then, or is ready: buried ones, too */
	JOB_EDIT_TIME_TO_RUN = 4,
	JOB_EDIT_RETENTION = 8,
	JOB_EDIT_ATTEMPTS = 16,
	JOB_EDIT_EXPIRES = 32,
	JOB_EDIT_QUEUE = 64, /* it is in another one */
	JOB_EDIT_ANEW = 128, /* none of its attempts is begun */
};

/* One record of any type; which fields count is in the format. */
struct job_record {
	uint8_t type;   /* enum job_record_type */
	uint8_t state;  /* FINISH */
	uint8_t reason; /* enum job_reason */
	uint8_t flags;
	bool edited; /* FINISH: attempts_max, time_to_run_ms and, unless 0, retention_ms are the job's own, whatever its SUBMIT says */
	uint32_t queue;
	uint32_t priority;
	uint32_t attempt; /* FINISH: attempts begun */
	uint64_t id;      /* IDS: next */
	int64_t at_ns;    /* SUBMIT, QUEUE: created; RATE, GROUP_RATE: full again; REMOVE, AFTER: now */
	int64_t when_ms;  /* run_at, deadline or expires; 0: none */
	/* SUBMIT options; 0: not given */
	int64_t time_to_run_ms, retention_ms;
	uint32_t attempts_max;
	uint32_t epoch;          /* CLAIM, KEY */
	int64_t expires_ms;      /* not begun by then: it fails */
	int64_t unique_while_ms; /* JOB_UNIQUE_..., or a length of time */
	uint64_t claim;          /* CLAIM; IDS: until; KEY: results; KEYS: keys */
	uint64_t event_lsn;      /* SUBMIT: position of the event that it is about */
	uint32_t event_epoch;    /* 0: about none */
	uint64_t submit_place, error_place;
	uint32_t status, timeouts;
	uint32_t delay_s;                             /* RELEASE: for how long it goes back */
	struct job_slice content_type, headers, body; /* body: payload, result, progress, QUEUE: name, REMOVE:
							 ids as on disk, SETTING: value, WHOLE: parts,
							 checkpoint: entries, KEY: runs, GROUP_RATE: hash of the group. headers: QUEUE_STATE:
							 counters, KEY: fingerprint */
	struct job_slice text;                        /* an attempt's error; SETTING, KEY: key */
	struct job_slice unique, group;               /* SUBMIT: keys */
	struct job_slice trace;                       /* SUBMIT: trace context */
	/* SUBMIT: it awaits so many jobs, which an AFTER tells; from their end on it is delayed for so long */
	uint32_t after_count, after_failure; /* enum job_after_failure */
	int64_t after_delay_ms;
	struct job_queue_config config; /* QUEUE, QUEUE_STATE */
};

enum {
	JOB_RECORD_FIXED_MAX = 4096, /* bytes of a fixed part, options included */
	JOB_RECORD_SMALL_MAX = 128,  /* of any but QUEUE, texts among the options of a SUBMIT apart */
	JOB_OPTIONS_MAX = 3072,      /* bytes of a record's options */
	JOB_RECORD_SLICES_MAX = 4,
	JOB_LOG_HEADER_BYTES = 16, /* what the log puts before a record */
	JOB_KEY_BYTES = 24,        /* fixed part of a KEY */
	JOB_KEY_RUN_BYTES = 24,    /* results of a KEY that follow from one another */
	JOB_KEY_NAME_MAX = 1024,
	JOB_FINGERPRINT_BYTES = 16,
	JOB_KEY_EVENTS_BYTES = 24, /* what a KEY of events has behind it */
	JOB_BLOB_BYTES = 32,       /* a reference to a blob, on disk */
	JOB_BLOBS_ENTRY_BYTES = 8 + 2 * JOB_BLOB_BYTES,
};

/* job_options_bytes() - what the options of a SUBMIT or QUEUE take; more than JOB_OPTIONS_MAX: it cannot be written. */
size_t job_options_bytes(const struct job_record *record);

/* job_record_fixed() - write the fixed part; its bytes. */
size_t job_record_fixed(const struct job_record *record, uint8_t to[JOB_RECORD_FIXED_MAX]);

/* job_record_rest() - what follows it, as slices of the record, empty ones left out; how many. */
int job_record_rest(const struct job_record *record, struct job_slice ret[JOB_RECORD_SLICES_MAX]);

/* job_record_get() - read a record. Slices of *ret point into bytes. 0, or -EPROTO: not a record of this version. */
int job_record_get(int type, int version, struct job_slice fixed, struct job_slice bytes,
                   struct job_record *ret);

/* job_record_bytes() - what the record takes in the log, about: header, fixed part and slices. */
uint64_t job_record_bytes(const struct job_record *record);

/* ---- whole jobs -------------------------------------------------------------------------- */

/* job_part_bytes() - of a record as a part of a WHOLE. job_part_put() - write it there; its bytes. */
size_t job_part_bytes(const struct job_record *r);
size_t job_part_put(const struct job_record *r, uint8_t *to);

/* job_part_get() - the next part of a WHOLE that job_record_get() gave; *cursor starts at 0. false: no more. */
bool job_part_get(const struct job_record *whole, size_t *cursor, struct job_record *ret);

/* job_part_find() - the part of a type. false: it is not in it. */
bool job_part_find(const struct job_record *whole, int type, struct job_record *ret);

/* ---- checkpoints ------------------------------------------------------------------------- */

/* job_record_is_error() - one of those that the chain of a job's errors consists of? */
static inline bool job_record_is_error(const struct job_record *record)
{
	return record->type == JOB_RETRY || record->type == JOB_BURY || record->type == JOB_DEAD ||
	       record->type == JOB_REVIVE;
}

/* A job as a checkpoint tells it. */
struct job_entry {
	uint64_t id, place;
	int64_t when_ms; /* buried: which burial it was */
	uint32_t queue, priority;
	uint32_t submit; /* finished: where about its SUBMIT is, and how large; see machine.h */
	uint16_t changed, attempts;
	uint8_t state, size, flags;
	/* the rest counts in ENTRIES_EXT only */
	uint64_t claim, error_place, progress_place;
	int64_t retention_ms;
	uint32_t time_to_run, epoch, changes, ext_flags;
	uint32_t reserves, releases, buries, kicks, delay_s;
	uint32_t error_bytes, progress_bytes;
	uint16_t attempts_max, timeouts;
	/* and this in ENTRIES_POLICY only */
	uint64_t unique[2], group[2]; /* hashes of the keys */
	int64_t expires_ms;
	uint32_t dead_from; /* queue */
	uint32_t policy_flags;
};
enum { JOB_ENTRY_BYTES = 40, JOB_ENTRY_EXT_BYTES = 120, JOB_ENTRY_POLICY_BYTES = 168 };
enum { JOB_ENTRY_CANCEL = 1 };
enum job_policy_flags { /* on disk */
	                JOB_POLICY_UNIQUE = 1,
	                JOB_POLICY_UNIQUE_QUEUED = 2, /* holds it while it waits */
	                JOB_POLICY_UNIQUE_HELD = 4,   /* nobody else has taken it meanwhile */
	                JOB_POLICY_GROUP = 8,
	                JOB_POLICY_FLAGS_ALL = 15
};

/* A unique key that holds for a time, as a checkpoint tells it. */
struct job_unique_entry {
	uint64_t hash[2];
	uint64_t id;
	int64_t until_ms;
};
enum { JOB_UNIQUE_BYTES = 32 };

/* What a group has taken of its rate, as a checkpoint tells it. */
struct job_bucket_entry {
	uint64_t hash[2];
	int64_t full_ns;
	uint32_t queue;
};
enum { JOB_BUCKET_BYTES = 32 };

/* A job that waits for others, or one that it waits for, as a checkpoint tells them. */
struct job_join_entry {
	uint64_t id;
	uint64_t other; /* the job that it awaits; else the one that did not end well, 0: none */
	int64_t delay_ms;
	uint32_t count;  /* how many it was to run after */
	uint8_t kind;    /* enum job_join_kind */
	uint8_t failure; /* enum job_after_failure */
	uint8_t why;     /* enum job_awaited_end */
};
enum { JOB_JOIN_BYTES = 32 };
enum job_join_kind { JOB_JOIN_JOB = 1, JOB_JOIN_EDGE = 2 }; /* on disk */
enum job_awaited_end {                                      /* on disk */
	               JOB_AWAITED_DONE = 1,
	               JOB_AWAITED_FAILED = 2,
	               JOB_AWAITED_CANCELLED = 3,
	               JOB_AWAITED_DEAD = 4,
	               JOB_AWAITED_GONE = 5,
	               JOB_AWAITED_ENDS
};

void job_entry_put(const struct job_entry *entry, uint8_t to[JOB_ENTRY_BYTES]);
void job_entry_put_ext(const struct job_entry *entry, uint8_t to[JOB_ENTRY_EXT_BYTES]);
/* false: not an entry of this version. */
bool job_entry_get(const uint8_t from[JOB_ENTRY_BYTES], struct job_entry *ret);
bool job_entry_get_ext(const uint8_t from[JOB_ENTRY_EXT_BYTES], struct job_entry *ret);
void job_entry_put_policy(const struct job_entry *entry, uint8_t to[JOB_ENTRY_POLICY_BYTES]);
bool job_entry_get_policy(const uint8_t from[JOB_ENTRY_POLICY_BYTES], struct job_entry *ret);
void job_unique_put(const struct job_unique_entry *entry, uint8_t to[JOB_UNIQUE_BYTES]);
bool job_unique_get(const uint8_t from[JOB_UNIQUE_BYTES], struct job_unique_entry *ret);
void job_bucket_put(const struct job_bucket_entry *entry, uint8_t to[JOB_BUCKET_BYTES]);
bool job_bucket_get(const uint8_t from[JOB_BUCKET_BYTES], struct job_bucket_entry *ret);
void job_join_put(const struct job_join_entry *entry, uint8_t to[JOB_JOIN_BYTES]);
bool job_join_get(const uint8_t from[JOB_JOIN_BYTES], struct job_join_entry *ret);

/* COUNTERS: numbers of 8 bytes each, then a from and an until for each range of ids. */
enum job_counter {
	JOB_COUNT_IDS_NEXT,
	JOB_COUNT_IDS_UNTIL,
	JOB_COUNT_CLAIM_LAST,
	JOB_COUNT_BURIAL_LAST,
	JOB_COUNT_SUBMITTED,
	JOB_COUNT_ATTEMPTS,
	JOB_COUNT_COMPLETED,
	JOB_COUNT_FAILED,
	JOB_COUNT_CANCELLED,
	JOB_COUNT_TIMEOUTS,
	JOB_COUNT_RETRIES,
	JOB_COUNT_EXPIRED,
	JOB_COUNT_DEAD,
	JOB_COUNT_QUEUES,
	JOB_COUNT_JOBS, /* those in state 1, 2, ... */
	JOB_COUNTERS_END = JOB_COUNT_JOBS + JOB_STATES - 1
};

/* QUEUE_STATE: likewise, of the queue. */
enum job_queue_counter {
	JOB_QUEUE_SUBMITTED,
	JOB_QUEUE_ATTEMPTS,
	JOB_QUEUE_COMPLETED,
	JOB_QUEUE_FAILED,
	JOB_QUEUE_CANCELLED,
	JOB_QUEUE_TIMEOUTS,
	JOB_QUEUE_RETRIES,
	JOB_QUEUE_DEAD,
	JOB_QUEUE_RATE_FULL, /* signed */
	JOB_QUEUE_JOBS,
	JOB_QUEUE_COUNTERS_END = JOB_QUEUE_JOBS + JOB_STATES - 1
};

void job_blob_put(const struct job_blob *blob, uint8_t to[JOB_BLOB_BYTES]);
struct job_blob job_blob_get(const uint8_t from[JOB_BLOB_BYTES]);

/* job_record_blob() - of a SUBMIT or FINISH: the file that its body is in; number 0: it is in the record. */
struct job_blob job_record_blob(const struct job_record *record);

/* job_body_bytes() - of a SUBMIT or FINISH: bytes of the body, wherever it is. */
uint64_t job_body_bytes(const struct job_record *record);

const char *job_record_name(int type);

#endif
