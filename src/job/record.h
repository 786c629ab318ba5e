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
	JOB_PART,
	JOB_RETURN,
	JOB_RECORD_TYPES_END
};

/* on disk */
enum job_reason {
	JOB_BY_WORKER = 1,  /* RETRY, FINISH: the worker said so */
	JOB_BY_TIMEOUT = 2, /* its lease passed */
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
	JOB_BODY_IN_PARTS = 2, /* SUBMIT, FINISH: body is its length and the places of its PART records */
	JOB_SUBMIT_BURIED = 4, /* SUBMIT: buried from the start */
	JOB_SETTING_REMOVED = 1, /* SETTING */
};

/* One record of any type; which fields count is in the format. */
struct job_record {
	uint8_t type;   /* enum job_record_type */
	uint8_t state;  /* FINISH */
	uint8_t reason; /* enum job_reason */
	uint8_t flags;
	uint32_t queue;
	uint32_t priority;
	uint32_t attempt; /* FINISH: attempts begun */
	uint64_t id;      /* IDS: next */
	int64_t at_ns;    /* SUBMIT, QUEUE: created */
	int64_t when_ms;  /* run_at, deadline or expires; 0: none */
	/* SUBMIT options; 0: not given */
	int64_t time_to_run_ms, retention_ms;
	uint32_t attempts_max;
	uint32_t epoch; /* CLAIM */
	uint64_t claim; /* CLAIM; IDS: until */
	uint64_t submit_place, error_place;
	uint32_t status, timeouts;
	uint32_t delay_s; /* RELEASE: for how long it goes back */
	struct job_slice content_type, headers,
		body;                   /* body: payload, result, progress, QUEUE: name, REMOVE: ids as on
							 disk, SETTING: value */
	struct job_slice text;          /* an attempt's error; SETTING: key */
	struct job_queue_config config; /* QUEUE */
};

enum {
	JOB_RECORD_FIXED_MAX = 128, /* bytes of a fixed part */
	JOB_RECORD_SLICES_MAX = 4,
	JOB_PART_BYTES = 1 << 20,
};

/* job_record_fixed() - write the fixed part; its bytes. */
size_t job_record_fixed(const struct job_record *record, uint8_t to[JOB_RECORD_FIXED_MAX]);

/* job_record_rest() - what follows it, as slices of the record, empty ones left out; how many. */
int job_record_rest(const struct job_record *record, struct job_slice ret[JOB_RECORD_SLICES_MAX]);

/* job_record_get() - read a record. Slices of *ret point into bytes. 0, or -EPROTO: not a record of this version. */
int job_record_get(int type, int version, struct job_slice fixed, struct job_slice bytes,
                   struct job_record *ret);

/* job_body_bytes() - of a SUBMIT or FINISH: bytes of the body, in parts or not. */
uint64_t job_body_bytes(const struct job_record *record);

const char *job_record_name(int type);

#endif
