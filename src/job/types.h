/* src/job/types.h -- words that the job machine, the stores and the fronts share: states, limits, refusals.
 *
 * Used by: job, store, deliver, front. No functions with state; nothing here allocates.
 */
#ifndef JOB_TYPES_H
#define JOB_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Bytes that belong to somebody else. */
struct job_slice {
	const void *data; /* may be NULL when len is 0 */
	size_t len;
};

/* A job's state. The numbers are on disk and in the wire formats: they never change. */
enum job_state {
	JOB_NONE = 0,      /* no such job (any more) */
	JOB_DELAYED = 1,   /* waits for its instant: asked for at submission, or the pause before a retry */
	JOB_READY = 2,     /* waits for a worker */
	JOB_RUNNING = 3,   /* leased */
	JOB_DONE = 4,      /* finished: has a result */
	JOB_FAILED = 5,    /* finished: attempts exhausted, or failed for good */
	JOB_CANCELLED = 6, /* finished */
	JOB_BURIED = 7,    /* set aside on request, until kicked, deleted or cancelled */
	JOB_AWAITING = 8,  /* waits for other jobs to end */
	JOB_STATES = 9
};

static inline bool job_state_finished(int state)
{
	return state >= JOB_DONE && state <= JOB_CANCELLED;
}

enum job_limit {
	JOB_NAME_MAX = 200,           /* bytes of a queue's name */
	JOB_CONTENT_TYPE_MAX = 255,   /* bytes */
	JOB_HEADERS_MAX = 32768,      /* bytes kept with a payload or a result */
	JOB_ERROR_TEXT_MAX = 4096,    /* bytes of one attempt's error; what is longer loses its middle */
	JOB_ERRORS_KEPT = 10,         /* errors a job remembers, the newest ones */
	JOB_PROGRESS_MAX = 4096,      /* bytes */
	JOB_ATTEMPTS_MAX = 1000,      /* what attempts may be set to */
	JOB_ACTIONS_MAX = 10000,      /* actions of one transaction, jobs of one batch */
	JOB_SETTING_KEY_MAX = 255,    /* bytes */
	JOB_SETTING_MAX = 65536,      /* bytes */
	JOB_RESERVE_MAX = 1000,       /* jobs of one reservation */
	JOB_RESERVE_QUEUES_MAX = 256, /* queues of one reservation */
	JOB_TRACE_MAX = 1024,         /* bytes of a trace context */
	JOB_BACKOFFS_MAX = 16,        /* pauses in a queue's list of them */
	JOB_KEY_MAX = 200,            /* bytes of a unique key, or of a group's */
	JOB_RATE_MAX = 1000000,       /* jobs in a rate, and of its burst */
	JOB_AFTER_MAX = 10000,        /* jobs that one job awaits */
	JOB_AFTER_ALL_MAX = 100000,   /* jobs that those of one transaction await, together */
	JOB_AWAITED_MAX = 100000,     /* jobs that await the same one */
};
#define JOB_ID_MAX             ((UINT64_C(1) << 53) - 1)
#define JOB_PRIORITY_DEFAULT   UINT32_C(1024)               /* smaller ones are urgent */
#define JOB_ATTEMPTS_UNLIMITED UINT32_MAX                   /* for a job's attempts_max */
#define JOB_TIME_TO_RUN_MAX_MS (INT64_C(4294967295) * 1000) /* of a job; of a queue 30 days */

/* job_name_skip() - a name is NAME, or NAMESPACE:NAME, and has no other colon: how many bytes stand before NAME. */
static inline size_t job_name_skip(const char *name, size_t len)
{
	const char *colon = len > 0 ? memchr(name, ':', len) : NULL;

	return colon ? (size_t)(colon - name) + 1 : 0;
}

/* What the queues of a namespace may hold together, see job_spaces_limit(). */
struct job_space_limit {
	struct job_slice name;         /* without the colon */
	uint64_t jobs_max, queues_max; /* unfinished jobs, queues; 0: no limit */
};

/* Refusals: negative errno where the field has one, these codes where not. Text: job_strerror(). */
enum job_error {
	JOB_EUNKNOWN_JOB = 8193, /* never given, or deleted with its tombstone */
	JOB_EEXPIRED,            /* was here; its retention has passed, or it was deleted */
	JOB_EUNKNOWN_QUEUE,
	JOB_EUNKNOWN_SETTING,
	JOB_ELEASE_LOST,  /* unknown or older lease token, or the lease has passed */
	JOB_ECANCELLED,   /* its cancellation was asked for; it is cancelled now */
	JOB_EFINISHED,    /* done, failed or cancelled already */
	JOB_ESTATE,       /* not possible in the state it is in */
	JOB_ENOT_READY,   /* no result yet */
	JOB_ENO_RESULT,   /* finished without one: failed or cancelled */
	JOB_EQUEUE_FULL,  /* jobs_max of the queue */
	JOB_ENOT_EMPTY,   /* the queue holds unfinished jobs */
	JOB_ETOO_LARGE,   /* a payload, result, text or name beyond its limit */
	JOB_EVALUE,       /* a value outside its range; the reason names it */
	JOB_ETWICE,       /* a transaction that names a job twice, or a queue's settings with other actions */
	JOB_EMEMORY_FULL, /* jobs_max or queues_max of the store */
	JOB_ELEVEL,       /* a commit level that the configuration cannot give */
	JOB_ELOST,        /* the position was beyond the end of its earlier epoch */
	JOB_EBUSY,        /* too much is under way: try again soon */
	JOB_EIN_GROUP,    /* not done because another action of the transaction was refused */
	JOB_EIN_USE,      /* the queue is where another one's dead jobs go */
	JOB_EDEAD_LOOP,   /* dead jobs would come back to the queue that they come from */
	JOB_EKEY,         /* the key was used for another request */
	JOB_EKEYS_FULL,   /* as many keys are kept as may be */
	JOB_EVERSION,     /* the job is not any more what it was when it was looked at */
	JOB_EAWAITED,     /* a job that it is to run after was never there, or is forgotten */
	JOB_EAWAITED_FULL,   /* JOB_AWAITED_MAX await one that it is to run after */
	JOB_ENAMESPACE_FULL, /* jobs_max or queues_max of the queue's namespace */
};

/* job_is_full() - is it a limit of a queue or of its namespace, so that fewer may have room, and later all? */
static inline bool job_is_full(int64_t error)
{
	return error == -JOB_EQUEUE_FULL || error == -JOB_ENAMESPACE_FULL;
}

/* job_strerror() - one short sentence for any of the above or any errno, positive or negative. Static text. */
const char *job_strerror(int64_t error);

/* Jobs begun at most: so many in so much time, after a burst. */
struct job_rate {
	uint32_t count; /* 0: no limit */
	uint32_t period_ms;
	uint32_t burst; /* 0: count */
};

/* What a queue does with jobs that do not say otherwise. A field that is 0 in a configuration that a client
 * sends means the default written here; jobs look at their queue's values when they are needed, so a change
 * holds for jobs that wait already. */
struct job_queue_config {
	int64_t time_to_run_ns; /* length of a lease; default 60 s, at least 1 ms, at most 30 days */
	int64_t retention_ns; /* how long a finished job can be asked for; default 1 h; negative: not at all */
	int64_t backoff_ns;   /* before the second attempt, doubling with each; default 1 s */
	int64_t backoff_max_ns;  /* what doubling ends at; default 1 h; equal to backoff_ns: fixed */
	uint32_t backoff_jitter; /* percent, 0 to 100, by which a pause is made longer or shorter at random;
				      default 25; JOB_NO_JITTER: none */
	uint32_t attempts_max;   /* in all; default 5 */
	uint64_t jobs_max;       /* unfinished jobs; default 0: no limit of its own */
	uint64_t
		finished_max; /* finished jobs, below 2^32: beyond, those that finished first go; default 0: no
				    limit of its own */
	/* a pause for each attempt that failed, the last one for all that follow, instead of doubling; with jitter as above */
	uint32_t backoffs; /* how many; 0: backoff_ns and backoff_max_ns count */
	uint32_t backoff_list_ms[JOB_BACKOFFS_MAX];
	uint32_t
		dead_letter; /* number of the queue to which jobs go whose attempts are exhausted; 0: they fail */
	uint32_t concurrency;       /* jobs of it that run at once; 0: no limit */
	struct job_rate rate;       /* of all its jobs */
	struct job_rate group_rate; /* of those of one group */
	uint32_t group_concurrency; /* jobs of one group that run at once; 0: 1 */
};
#define JOB_NO_JITTER UINT32_MAX

/* For how long a unique key keeps others out, when it is no length of time (which counts from the submit on). */
#define JOB_UNIQUE_ACTIVE INT64_C(0)  /* until the job has finished, or is dead */
#define JOB_UNIQUE_QUEUED INT64_C(-1) /* while the job waits: not while it runs */

/* What becomes of a job when one that it is to run after does not end well: fails (its time to be begun passed, say), becomes dead, is cancelled
 * or deleted. On disk. */
enum job_after_failure {
	JOB_AFTER_CANCEL = 0, /* it is cancelled */
	JOB_AFTER_BURY = 1,   /* it is buried */
	JOB_AFTER_RUN = 2,    /* it runs all the same, after all of them */
	JOB_AFTER_WAIT = 3,   /* it waits on while the other one can still come back; else it is cancelled */
	JOB_AFTER_FAILURES
};

/* A body in a file of its own. */
struct job_blob {
	uint64_t number; /* 0: none */
	uint64_t bytes;
	uint8_t hash[16];
};

/* A lease: what a worker holds while it runs a job. Printed as "epoch.claim". Both rise, so a later lease of a
 * job is always greater and an older one is told by comparing. */
struct job_lease {
	uint32_t epoch;
	uint64_t claim;
};

#endif
