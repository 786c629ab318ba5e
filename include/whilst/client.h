/* whilst/client.h -- the call server from a C program: hand work over and wait for it, poll it, be called back, cancel it; or do it.
 *
 * Every request is a future of whilst.h, so that the caller decides whether to wait: wh_await(), wh_poll(), wh_then(). What the server
 * does is docs/reference/http.md; the words borrows, takes, gives and the common errors are those of whilst.h, and a request
 * may fail as one of http.h does, too. What the server refuses is a code WH_ECALL_... of whilst.h, and struct wh_problem tells it in words.
 *
 * What became of a change whose answer was lost? The server has it or not, and nobody here knows: such a request ends with
 * -WH_ECALL_UNKNOWN, never with success and never with an error that looks as if nothing had been done. Any other error of a
 * change says that nothing was done, but -ECANCELED (wh_cancel(), or the client was closed), which leaves that open. A
 * request that surely did nothing, one that only reads, and an extension are tried again for a while when the server cannot be reached
 * (retry_ns).
 * With a key (struct wh_how), under which the server does something once, the same holds of what hands over work: it is asked again until the outcome is
 * known. Without one it is not repeated behind the caller's back; one with a unique key (struct
 * wh_submit_options) may be repeated by the caller: the job is there once.
 *
 * Jobs are worked on at least once. Positions, levels and leases are values to copy. Text is UTF-8 and ends in NUL; what a
 * result points to lives as long as the result. Instants are nanoseconds since 1970, 0: none. Thread: loop, unless said
 * otherwise.
 */
#ifndef WHILST_CLIENT_H
#define WHILST_CLIENT_H

#include "http.h"
#include "whilst.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct wh_client wh_client;         /* connections to one server */
typedef struct wh_worker wh_worker;         /* leases jobs of a queue, and has a function of yours do them */
typedef struct wh_worker_job wh_worker_job; /* one of these, until it is finished */

/* ---- a server ---------------------------------------------------------------------------- */

/* All-zero means defaults. Fields may be added at the end. Strings are copied, but the files' names are borrowed for the call. */
struct wh_client_options {
	const char *
		server; /* "http://host:port", "https://host:port", "host:port" or "unix:/path"; NULL: "http://127.0.0.1:4480" */
	const char *user_agent;   /* NULL: no such field */
	uint32_t connections_max; /* for requests that are answered at once, default 64 */
	uint32_t
		waits_max; /* connections beside these for requests that wait, default 8,192: no wait stands in the way */
	uint32_t
		line_max; /* requests in line for a connection of either kind, default 65,536; beyond: -EAGAIN */
	uint64_t answer_bytes_max;  /* default 128 MiB: -WH_EHTTP_TOO_LARGE */
	int64_t connect_timeout_ns; /* default 10 s */
	int64_t answer_timeout_ns; /* from the end of a request to its answer, beyond what is waited for; default 30 s */
	int64_t timeout_ns; /* of a request in all, beyond what is waited for; default and negative: none */
	int64_t retry_ns; /* how long a server that is away is asked again, default 10 s; negative: not at all */
	const char *ca_file; /* https: authorities; NULL: what the system trusts */
	wh_tls_context *tls; /* instead: a context of a client; borrowed until the client is closed */
	bool tls_insecure;   /* https without verification */
	const char *token;   /* shown to a server that wants one (Whilst-Token); NULL or "": none. Copied */
};

/* wh_client_open() - a client without connections yet; they are made when needed, kept for a few seconds, and made anew. options may
 * be NULL. Result 0; -EINVAL (the server's address, a token of other than visible ASCII), -EPROTONOSUPPORT, those of wh_tls_context_open(), -ENOMEM. */
WH_API int wh_client_open(wh_loop *loop, const struct wh_client_options *options,
                          wh_client **ret) WH_MUST_USE;
/* wh_client_close() - ends what is under way with -ECANCELED. Close workers before. Returns NULL; accepts NULL. */
WH_API wh_client *wh_client_close(wh_client *client);

struct wh_client_stats {
	uint64_t connections, connections_opened; /* now, idle ones included; since it was opened */
	uint64_t requests;                        /* sent, repeated ones included */
	uint64_t retries;                         /* of these */
	uint64_t in_flight;                       /* futures that are not complete */
};
/* Counters, at once. */
WH_API void wh_client_stats(const wh_client *client, struct wh_client_stats *ret);

/* ---- what requests have in common -------------------------------------------------------- */

/* When a change is answered (docs/reference/http.md). A level that the server cannot give is refused: -WH_ECALL_LEVEL_UNAVAILABLE. */
enum wh_level {
	WH_LEVEL_DEFAULT = 0,  /* the server's: local; claims and extensions async */
	WH_LEVEL_ASYNC,        /* written to the kernel */
	WH_LEVEL_LOCAL,        /* on disk */
	WH_LEVEL_REMOTE_WRITE, /* and written by a standby */
	WH_LEVEL_REMOTE_FLUSH, /* and on its disk */
};

/* A place in the server's log. */
struct wh_position {
	uint32_t epoch;
	uint64_t lsn;
};

/* What was committed. */
struct wh_receipt {
	uint64_t job; /* 0: none */
	int level;    /* enum wh_level, that was reached; WH_LEVEL_DEFAULT: not told */
	struct wh_position position;
	bool duplicate; /* of a submit: another job had its unique key, which job names; of an event: it had been published before, and its topic
			   deduplicates. Nothing was done */
};

/* A failure in words. */
struct wh_problem {
	int64_t error;          /* as the future has it */
	int64_t cause;          /* of -WH_ECALL_UNKNOWN: what happened to the connection; else error */
	int status;             /* of the HTTP answer; 0: there was none */
	int64_t retry_after_ns; /* the server's advice; 0: none */
	uint64_t limit;         /* that was passed; 0: none */
	uint64_t job;           /* that it is about, where the answer names it; else 0 */
	char code[32];          /* of the server, "lease-lost"; of an action of a transaction: its own; "" */
	char state[16];         /* of the job, where that is the reason; "" */
	char detail[512];       /* a sentence: what was wrong, where, and what to do */
	int64_t action; /* of a transaction: the index of the action that was refused; -1: none is named */
};

/* How a request is made. NULL and all-zero mean defaults. receipt and problem are borrowed until the future is complete or dropped. */
struct wh_how {
	int level;          /* enum wh_level; of a read: WH_LEVEL_ASYNC shows what is not flushed yet */
	int64_t timeout_ns; /* in all, beyond what is waited for; 0: the client's */
	struct wh_receipt *receipt; /* filled as soon as it is known, and left alone otherwise; may be NULL */
	struct wh_problem *problem; /* filled if the request fails; may be NULL */
	/* of what hands over work (submit, run, submit_many, publish, transact, and a call that does not pass through): 1 to 255 visible ASCII characters,
	 * unique to what is to be done once, such as a UUID. Asked for again under it, by whomever and after whatever, it is not done again, and
	 * gives the answer that it gave, for as long as the server keeps it (a day unless it was told otherwise). Another request under a key that
	 * is known: -WH_ECALL_KEY_REUSED. NULL: none. Copied */
	const char *key;
	/* of what hands over work, and of publish: the W3C trace context that it belongs to, kept with each job and given to who does it. A
	 * traceparent that the server finds malformed is as if there were none; characters that no header field may have: -EINVAL. NULL: none;
	 * tracestate means nothing without the other. Copied */
	const char *traceparent, *tracestate;
};

/* Opaque bytes with their type. They are copied, unless release is given: then borrowed until release(release_arg) is called, which
 * happens exactly once, possibly before the call returns. */
struct wh_payload {
	const void *bytes;
	size_t len;
	const char *type; /* Content-Type; NULL: application/octet-stream */
	wh_function *release;
	void *release_arg;
};

#define WH_FOR_EVER INT64_MAX /* a time to wait. Waits are whole seconds, rounded up; 0: not at all */

/* ---- jobs -------------------------------------------------------------------------------- */

/* Where a job stands. */
enum wh_job_state {
	WH_JOB_DELAYED = 1,
	WH_JOB_READY,
	WH_JOB_RUNNING,
	WH_JOB_DONE,
	WH_JOB_FAILED,
	WH_JOB_CANCELLED,
	WH_JOB_BURIED,
	WH_JOB_AWAITING, /* is to run after jobs that have not ended yet */
	WH_JOB_STATES
};
/* "ready"; "" when unknown. Static text. */
WH_API const char *wh_job_state_name(int state);
WH_API bool wh_job_is_finished(int state); /* done, failed or cancelled */

/* All-zero means the queue's defaults. */
struct wh_submit_options {
	bool priority_set;      /* else 1024 */
	uint32_t priority;      /* 0 first */
	int64_t delay_ns;       /* not before this long from now; or */
	int64_t run_at;         /* not before this instant */
	int64_t time_to_run_ns; /* length of a lease */
	uint32_t attempts;      /* in all, 1 to 1000 */
	int64_t retention_ns;   /* how long it can be asked for when finished; negative: not at all */
	int64_t expires_ns;     /* it fails if it has not been begun within this long from now; or */
	int64_t expires_at;     /* by this instant */
	const char *
		unique; /* no second job of the queue while one has this key, see wh_receipt. Not of many at once */
	int64_t unique_while_ns; /* this long from now on; or WH_UNIQUE_... */
	const char *group;       /* jobs of the queue with the same one run in their order */
	/* a URL that is told of the job's end by a signed message (docs/reference/http.md); the server must have secrets for it. Of many at once it is for
	 * each, and there are at most 5,000 then; in a transaction such a submit counts as two. Not with unique (-WH_ECALL_BAD_VALUE). NULL: none */
	const char *callback;
	/* it runs after these jobs, all of which must be done: ids, at most 1,000, in a transaction 10,000; there also WH_AFTER_ACTION(i), what the i-th
	 * action, a submit before this one, makes. delay_ns counts from the end of the last one then. A job that is not there is -WH_ECALL_REFUSED, code
	 * "unknown-awaited" */
	const uint64_t *after;
	size_t after_count;
	int after_failure; /* enum wh_after_failure */
};

/* WH_AFTER_ACTION() - in a transaction: the job that the index-th action makes, counted from 0, which is a submit before this one. */
#define WH_AFTER_ACTION(index) (UINT64_C(1) << 63 | (uint64_t)(index))

/* What becomes of it when one of those does not end well: has failed or expired, is dead, cancelled or deleted. */
enum wh_after_failure {
	WH_AFTER_CANCEL = 0, /* it is cancelled */
	WH_AFTER_BURY,       /* it is buried: wh_client_kick() has it run */
	WH_AFTER_RUN,        /* it runs all the same, after all of them */
	WH_AFTER_WAIT,       /* it waits on while the other one can be called back; else it is cancelled */
};
enum {
	WH_UNIQUE_ACTIVE = 0,  /* until the job has finished, or is dead */
	WH_UNIQUE_QUEUED = -1, /* while it waits */
};

/* wh_client_submit() - hand over a job: n = its id, once it is committed; of a duplicate, that of the job that has the key. options and how may be
 * NULL, here and below. Errors -WH_ECALL_BAD_VALUE, -WH_ECALL_QUEUE_FULL, -WH_ECALL_TOO_LARGE, -WH_ECALL_LEVEL_UNAVAILABLE, -WH_ECALL_KEY_REUSED,
 * -WH_ECALL_UNKNOWN. */
WH_API wh_future wh_client_submit(wh_client *client, const char *queue, const struct wh_payload *payload,
                                  const struct wh_submit_options *options, const struct wh_how *how);

struct wh_ids {
	size_t count;
	const uint64_t *ids; /* in the order of the payloads */
};
/* Returns NULL, accepts NULL. */
WH_API struct wh_ids *wh_ids_free(struct wh_ids *ids);

/* wh_client_submit_many() - hand over at most 10,000 payloads (5,000 with a callback), all or none, as one commit: n = how many, ptr = struct wh_ids *,
 * given. Payloads are copied; type and options hold for all. Errors as of wh_client_submit(). */
WH_API wh_future wh_client_submit_many(wh_client *client, const char *queue, const struct iovec *payloads,
                                       size_t count, const char *type,
                                       const struct wh_submit_options *options, const struct wh_how *how);

/* An attempt that failed. */
struct wh_job_error {
	uint32_t attempt;
	int64_t at;
	const char *message;
};

/* How a job stands. */
struct wh_job {
	uint64_t id;
	const char *queue;
	int state; /* enum wh_job_state */
	uint32_t priority, attempts, attempts_max /* 0: no limit */;
	int64_t created_at, run_at, deadline, finished_at;
	int64_t time_to_run_ns, retention_ns;
	const char *type; /* of the payload */
	uint64_t payload_bytes;
	uint32_t awaits_open,
		awaits_count; /* awaiting: so many of so many jobs have not ended; .json tells which */
	const char *progress; /* JSON as the worker gave it; NULL: none */
	bool cancel_requested;
	size_t error_count;
	const struct wh_job_error *errors; /* newest last */
	int result_status;                 /* 0: there is none */
	const char *result_type;
	uint64_t result_bytes;
	const char *json; /* all of it, as the server says it */
	const char *etag; /* other whenever anything of this is: for struct wh_edit */
};
/* Returns NULL, accepts NULL. */
WH_API struct wh_job *wh_job_free(struct wh_job *job);

/* wh_client_look() - how a job stands now: n = its state, ptr = struct wh_job *, given. Errors -WH_ECALL_UNKNOWN_JOB, -WH_ECALL_EXPIRED. */
WH_API wh_future wh_client_look(wh_client *client, uint64_t job, const struct wh_how *how);
/* wh_client_wait() - the same once it is finished, or, not finished, when wait_ns are over. A restart of the server is sat out (retry_ns,
 * from the last answer on). It cannot miss the end: it reads the state first. Errors -WH_ECALL_UNKNOWN_JOB, -WH_ECALL_EXPIRED. */
WH_API wh_future wh_client_wait(wh_client *client, uint64_t job, int64_t wait_ns, const struct wh_how *how);

/* The result of a job, the answer of a service, or a payload. */
struct wh_result {
	uint64_t job;  /* 0: none, a call that has passed through */
	bool accepted; /* there is no answer yet: ask for that of the job */
	int status;    /* as the worker or the service gave it */
	struct wh_slice type, body;
	size_t field_count;
	const struct wh_http_field *fields; /* in the order sent */
};
/* Returns NULL, accepts NULL. */
WH_API struct wh_result *wh_result_free(struct wh_result *result);

/* wh_client_result() - the result of a job, waiting at most wait_ns for its end: n = its status, ptr = struct wh_result *, given. Errors
 * -WH_ECALL_NOT_READY, -WH_ECALL_JOB_FAILED, -WH_ECALL_JOB_CANCELLED, -WH_ECALL_EXPIRED, -WH_ECALL_UNKNOWN_JOB. */
WH_API wh_future wh_client_result(wh_client *client, uint64_t job, int64_t wait_ns, const struct wh_how *how);
/* wh_client_run() - submit, and wait for the result: n = the job's id, ptr = struct wh_result *, given; NULL: it is not finished after
 * wait_ns. Errors -WH_ECALL_JOB_FAILED, and those of wh_client_submit() and wh_client_result(); once the receipt names the job, it has been
 * committed. */
WH_API wh_future wh_client_run(wh_client *client, const char *queue, const struct wh_payload *payload,
                               const struct wh_submit_options *options, int64_t wait_ns,
                               const struct wh_how *how);
/* wh_client_payload() - what was submitted: n = its bytes, ptr = struct wh_result *, given. Errors -WH_ECALL_UNKNOWN_JOB, -WH_ECALL_EXPIRED. */
WH_API wh_future wh_client_payload(wh_client *client, uint64_t job, const struct wh_how *how);

/* wh_client_cancel() - n = the state: WH_JOB_CANCELLED, or WH_JOB_RUNNING: its worker will be told. Errors -WH_ECALL_JOB_FINISHED,
 * -WH_ECALL_UNKNOWN_JOB, -WH_ECALL_EXPIRED. (wh_cancel() of a future of this file gives up asking, not the job.) */
WH_API wh_future wh_client_cancel(wh_client *client, uint64_t job, const struct wh_how *how);
/* wh_client_kick() - a buried or delayed job becomes ready: n = its state. Errors -WH_ECALL_WRONG_STATE, -WH_ECALL_UNKNOWN_JOB, -WH_ECALL_EXPIRED. */
WH_API wh_future wh_client_kick(wh_client *client, uint64_t job, const struct wh_how *how);

enum wh_edit_fields {
	WH_EDIT_PRIORITY = 1,
	WH_EDIT_RUN_AT = 2, /* of a delayed or ready job */
	WH_EDIT_TIME_TO_RUN = 4,
	WH_EDIT_ATTEMPTS = 8,
	WH_EDIT_RETENTION = 16,
	WH_EDIT_EXPIRES = 32, /* of one that has not been begun */
};
/* What is to be other of a job: the fields that are set. */
struct wh_edit {
	unsigned fields; /* enum wh_edit_fields */
	uint32_t priority;
	uint32_t attempts;      /* in all, more than were begun; 0: the queue's */
	int64_t delay_ns;       /* RUN_AT: this long from now; or */
	int64_t run_at;         /* this instant; both 0: ready now */
	int64_t time_to_run_ns; /* 0: the queue's */
	int64_t retention_ns;   /* 0: the queue's; negative: not at all */
	int64_t expires_ns;     /* EXPIRES: this long from now; or */
	int64_t expires_at;     /* this instant; both 0: never */
	const char *
		if_match; /* only if it is still what was looked at, struct wh_job.etag: else -WH_ECALL_CHANGED; NULL: anyhow */
};
/* wh_client_edit() - other values for a job that is not finished: n = its state, ptr = struct wh_job *, given, as it is then. Errors
 * -WH_ECALL_WRONG_STATE, -WH_ECALL_JOB_FINISHED, -WH_ECALL_BAD_VALUE, -WH_ECALL_CHANGED, -WH_ECALL_UNKNOWN_JOB, -WH_ECALL_EXPIRED. */
WH_API wh_future wh_client_edit(wh_client *client, uint64_t job, const struct wh_edit *edit,
                                const struct wh_how *how);

/* ---- services behind the gateway --------------------------------------------------------- */

/* Everything here is borrowed for the call only, but for a body with release. */
struct wh_service_call {
	const char *service, *path; /* path: below the service's URL, with its query; percent-encoded */
	const char *method;         /* NULL: GET, or POST with a body */
	/* those of the service; Whilst-Callback is the server's own: a URL that is told of the end of a call that does not pass through */
	const struct wh_http_field *fields;
	size_t field_count;     /* at most 64 */
	struct wh_payload body; /* bytes NULL: none */
	bool respond_async;     /* do not wait: the call becomes a job, and the answer its result */
	int64_t wait_ns; /* or wait that long for the answer; 0 and not respond_async: the call passes through */
};
/* wh_client_call() - n = status, ptr = struct wh_result *, given. A call that waits, or not, is committed and survives the server's
 * crash; one that passes through is not. accepted: no answer yet, and job is what to ask for. Errors -WH_ECALL_UNKNOWN_SERVICE,
 * -WH_ECALL_BACKEND (a call that passes through has no answer), -WH_ECALL_JOB_FAILED. */
WH_API wh_future wh_client_call(wh_client *client, const struct wh_service_call *call,
                                const struct wh_how *how);

/* All-zero means the server's defaults. */
struct wh_service_settings {
	const char *url;
	uint32_t concurrency, attempts;
	int64_t timeout_ns;
	bool record;
};
/* wh_client_service_put() - create (n = 1) or replace (n = 0). Errors -WH_ECALL_BAD_VALUE. */
WH_API wh_future wh_client_service_put(wh_client *client, const char *name,
                                       const struct wh_service_settings *settings, const struct wh_how *how);
/* n = 0. Errors -WH_ECALL_UNKNOWN_SERVICE. */
WH_API wh_future wh_client_service_delete(wh_client *client, const char *name, const struct wh_how *how);

/* ---- topics ------------------------------------------------------------------------------ */

enum {
	WH_ATTRIBUTES_MAX = 32, /* of an event, beside those that have a field */
};

struct wh_event_attribute {
	const char *name; /* a-z, 0-9 */
	const char *value;
};
/* What has happened: a CloudEvent 1.0. Everything here is borrowed for the call only, but for data with release. */
struct wh_event {
	const char *type; /* "order.placed" */
	const char *
		id; /* unique for its source, and the same when it is published again; NULL: the server makes one, and says when; then there are
			   no time and no further attributes */
	const char *source;  /* who says so, a URI reference; may be NULL without an id: the topic */
	const char *subject; /* NULL: none */
	int64_t time;
	size_t attribute_count; /* further ones, at most WH_ATTRIBUTES_MAX */
	const struct wh_event_attribute *attributes;
	struct wh_payload data; /* bytes NULL: none */
};
/* wh_client_publish() - n = how many jobs it became, one for each subscription that wants it, all in one commit. Errors -EINVAL,
 * -WH_ECALL_UNKNOWN_TOPIC, -WH_ECALL_QUEUE_FULL (of one of them), -WH_ECALL_TOO_LARGE (1 MiB), -WH_ECALL_REFUSED (what CloudEvents forbids). */
WH_API wh_future wh_client_publish(wh_client *client, const char *topic, const struct wh_event *event,
                                   const struct wh_how *how);

/* All-zero means the server's defaults. */
struct wh_subscription {
	const char *queue;   /* that gets the events; NULL: "TOPIC/NAME" */
	const char *filters; /* JSON: an array of filters, see docs/reference/http.md; NULL: every event */
	const char *
		from; /* "beginning" or a position, "3/90112": hand over what the topic has kept; NULL: what comes from now on */
	const char *
		group; /* an attribute, "subject": events in which it is the same are done in their order, one at a time; NULL: in no groups */
	const char
		*unique; /* an attribute: no second job while one has the same; NULL: each event is a job */
	int64_t unique_while_ns; /* as of struct wh_submit_options */
};
/* wh_client_subscribe() - create (n = 1) or replace (n = 0) a subscription; jobs of its queue are the events. The topic is made if need be.
 * Errors -WH_ECALL_BAD_VALUE. */
WH_API wh_future wh_client_subscribe(wh_client *client, const char *topic, const char *name,
                                     const struct wh_subscription *subscription, const struct wh_how *how);
/* n = 0. Errors -WH_ECALL_UNKNOWN_TOPIC (or there is no such subscription). */
WH_API wh_future wh_client_unsubscribe(wh_client *client, const char *topic, const char *name,
                                       const struct wh_how *how);
/* All-zero means the server's defaults. */
struct wh_topic_settings {
	int64_t retention_ns; /* events are kept for so long; 0: not at all */
	uint64_t events_max;  /* of these the newest; 0: no limit of its own */
	int64_t deduplicate_ns; /* for so long, retention_ns at most, an event of the same source and id is the same one; 0: it never is */
};
/* wh_client_topic_put() - make (n = 1) or configure (n = 0) a topic; settings may be NULL. Errors -WH_ECALL_BAD_VALUE. */
WH_API wh_future wh_client_topic_put(wh_client *client, const char *topic,
                                     const struct wh_topic_settings *settings, const struct wh_how *how);

/* ---- schedules --------------------------------------------------------------------------- */

/* What becomes of due times at which the server did not run. */
enum wh_missed {
	WH_MISSED_ONCE = 0, /* one job or event, for the newest of them */
	WH_MISSED_SKIP,     /* none */
	WH_MISSED_ALL,      /* one for each of the newest missed_max */
};
/* A header field. */
struct wh_schedule_field {
	const char *name, *value;
};
/* When a job is submitted, and which; or with topic an event published. Everything is borrowed for the call only. */
struct wh_schedule_settings {
	const char *cron;      /* "30 4 * * mon-fri", see docs/reference/http.md; or */
	int64_t every_ns;      /* this often, 1 s to 366 days */
	const char *time_zone; /* of cron: "Europe/Berlin"; NULL: UTC */
	int missed;            /* enum wh_missed */
	uint32_t missed_max;   /* 0: 100 */
	bool paused;           /* it runs when it is resumed */
	const char *queue;
	struct wh_payload payload; /* without release; 60 KiB as JSON, in which it takes a third more */
	struct wh_submit_options options; /* without run_at, expires_at, after */
	size_t field_count;               /* header fields that its jobs are given out with, at most 32 */
	const struct wh_schedule_field *fields;
	const char *
		topic; /* instead of queue and all that goes with it: an event, whose id is "NAME/DUE" and whose time is the due time */
	const struct wh_event *
		event; /* the rest of it, without id, time and release; type and source NULL: "whilst.schedule", the schedule's path. NULL: nothing */
};
struct wh_schedule {
	const char *name, *cron, *time_zone; /* cron NULL: by every_ns */
	int64_t every_ns;
	int missed;
	uint32_t missed_max;
	bool paused;
	const char *queue;
	size_t next_count; /* when it is due next; none while it is paused */
	int64_t next[5];
	int64_t last_due, last_at; /* its newest run: for when, and when; 0: none */
	uint64_t last_job;         /* of that; 0: not known, the server has started since */
	uint64_t runs;
	const char *error; /* why its job or event is refused at present; NULL: it is not */
	const char *topic; /* it publishes there; NULL: it makes jobs of queue, which is NULL else */
	struct wh_position
		last_event; /* of its newest run; epoch 0: nobody wanted it, it had been published before, or it is not known */
	uint64_t last_jobs;  /* that this became */
	bool last_duplicate; /* it had been published before, and nothing was done */
};
struct wh_schedules {
	size_t count;
	const struct wh_schedule *schedules;
	const char *json; /* all of it, as the server says it */
};
/* Returns NULL, accepts NULL. */
WH_API struct wh_schedules *wh_schedules_free(struct wh_schedules *schedules);

/* wh_client_schedule_put() - make (n = 1) or replace (n = 0) a schedule. Errors -EINVAL, -WH_ECALL_BAD_VALUE, -WH_ECALL_REFUSED (it does not say when, or
 * has options that it may not have), -WH_ECALL_UNKNOWN_TOPIC. */
WH_API wh_future wh_client_schedule_put(wh_client *client, const char *name,
                                        const struct wh_schedule_settings *settings,
                                        const struct wh_how *how);
/* wh_client_schedules() - n = how many, ptr = struct wh_schedules *, given. name NULL: all. Errors -WH_ECALL_REFUSED (there is none of
 * that name: code "unknown-schedule"; so below). */
WH_API wh_future wh_client_schedules(wh_client *client, const char *name, const struct wh_how *how);
/* n = 0; its jobs stay. Errors -WH_ECALL_REFUSED */
WH_API wh_future wh_client_schedule_delete(wh_client *client, const char *name, const struct wh_how *how);
/* wh_client_schedule_pause() - n = 0: nothing is due until it is resumed, nor made up for then; all else of it stays as it is. Errors
 * -WH_ECALL_REFUSED */
WH_API wh_future wh_client_schedule_pause(wh_client *client, const char *name, const struct wh_how *how);
/* n = 0. Errors -WH_ECALL_REFUSED */
WH_API wh_future wh_client_schedule_resume(wh_client *client, const char *name, const struct wh_how *how);

/* ---- working on jobs --------------------------------------------------------------------- */

/* The right to finish a job. An older one is refused: -WH_ECALL_LEASE_LOST. */
struct wh_lease {
	uint64_t job;
	uint64_t claim;
	uint32_t epoch;
};
struct wh_leased {
	struct wh_lease lease;
	uint32_t attempt;
	int64_t time_to_run_ns; /* 0: not told, see wh_client_reserve_bare() */
	const char *type;       /* of the payload; NULL: not told */
	struct wh_slice payload;
	/* The header fields that it came with: those that were kept with it, of an event its attributes (ce-type), and its position, Whilst-Event; leased alone
	 * (jobs_max 1) also those of the answer. None by wh_client_reserve_bare() */
	size_t field_count;
	const struct wh_http_field *fields;
	const char *traceparent, *tracestate; /* of who submitted it; NULL: none */
};
/* Jobs that were leased together. */
struct wh_leases {
	size_t count;
	const struct wh_leased *jobs;
};
/* Returns NULL, accepts NULL. */
WH_API struct wh_leases *wh_leases_free(struct wh_leases *leases);

/* wh_client_reserve() - lease up to jobs_max jobs (1 to 1,000), waiting at most wait_ns for the first: n = how many, ptr = struct wh_leases
 * *, given; none in time: n = 0, ptr = NULL. What was leased by a request whose answer is lost (-WH_ECALL_UNKNOWN), that
 * was cancelled, or whose result is dropped comes back when its time to run is over. wh_client_reserve_bare(): in the binary
 * form, without types, fields and times to run: a third less to send. Errors -WH_ECALL_BAD_VALUE (the queue's name). */
WH_API wh_future wh_client_reserve(wh_client *client, const char *queue, uint32_t jobs_max, int64_t wait_ns,
                                   const struct wh_how *how);
WH_API wh_future wh_client_reserve_bare(wh_client *client, const char *queue, uint32_t jobs_max,
                                        int64_t wait_ns, const struct wh_how *how);

enum {
	WH_RETRY_BACKOFF = -1, /* after the queue's backoff */
	WH_RETRY_NEVER = -2,   /* the job has failed for good */
};

/* wh_client_complete() - n = 0: the job is done, with this result; status 200 to 599, 0: 200; result NULL: empty. Errors
 * -WH_ECALL_LEASE_LOST, -WH_ECALL_JOB_CANCELLED, -WH_ECALL_TOO_LARGE, -WH_ECALL_BAD_VALUE. */
WH_API wh_future wh_client_complete(wh_client *client, struct wh_lease lease, int status,
                                    const struct wh_payload *result, const struct wh_how *how);
/* wh_client_fail() - the attempt has failed: n = the job's state. delay_ns: of the next one, or WH_RETRY_... Errors -WH_ECALL_LEASE_LOST,
 * -WH_ECALL_JOB_CANCELLED. */
WH_API wh_future wh_client_fail(wh_client *client, struct wh_lease lease, const char *text, int64_t delay_ns,
                                const struct wh_how *how);
/* wh_client_release() - give it back, which does not count as an attempt: n = its state. priority NULL: as it was. Errors -WH_ECALL_LEASE_LOST,
 * -WH_ECALL_JOB_CANCELLED. */
WH_API wh_future wh_client_release(wh_client *client, struct wh_lease lease, int64_t delay_ns,
                                   const uint32_t *priority, const struct wh_how *how);
/* wh_client_extend() - the lease lasts by_ns from now (0: its time to run): n = the instant when it ends. Errors -WH_ECALL_LEASE_LOST,
 * -WH_ECALL_JOB_CANCELLED. */
WH_API wh_future wh_client_extend(wh_client *client, struct wh_lease lease, int64_t by_ns,
                                  const struct wh_how *how);
/* wh_client_progress() - JSON, at most 4 KiB, for those who look: n = 0. Errors -WH_ECALL_REFUSED (no JSON), -WH_ECALL_TOO_LARGE,
 * -WH_ECALL_LEASE_LOST, -WH_ECALL_JOB_CANCELLED. */
WH_API wh_future wh_client_progress(wh_client *client, struct wh_lease lease, const char *json,
                                    const struct wh_how *how);
/* wh_client_bury() - put aside until it is kicked: n = its state. Errors -WH_ECALL_LEASE_LOST, -WH_ECALL_JOB_CANCELLED. */
WH_API wh_future wh_client_bury(wh_client *client, struct wh_lease lease, const char *text,
                                const uint32_t *priority, const struct wh_how *how);

struct wh_completion {
	struct wh_lease lease;
	const void *bytes; /* the result */
	size_t len;
};
struct wh_outcomes {
	size_t count;
	const int64_t *
		errors; /* 0, or -WH_ECALL_LEASE_LOST (also of a cancelled job), -WH_ECALL_UNKNOWN_JOB, ... */
};
/* Returns NULL, accepts NULL. */
WH_API struct wh_outcomes *wh_outcomes_free(struct wh_outcomes *outcomes);

/* wh_client_complete_many() - at most 10,000 completions as one commit, each for itself: n = how many are done, ptr = struct
 * wh_outcomes *, given. Results are copied; type holds for all. */
WH_API wh_future wh_client_complete_many(wh_client *client, const char *queue,
                                         const struct wh_completion *completions, size_t count,
                                         const char *type, const struct wh_how *how);

/* -- several at once. A transaction is one commit: all of its actions are checked first, and all are done or none is. So a job that is completed in
 * the same transaction as its successors are submitted has them exactly once, whatever dies when. */

enum wh_action_kind {
	WH_ACTION_SUBMIT = 1, /* queue, payload, options */
	WH_ACTION_COMPLETE,   /* lease, payload: the result; status */
	WH_ACTION_FAIL,       /* lease, text, delay_ns: of the next attempt, or WH_RETRY_... */
	WH_ACTION_RELEASE,    /* lease, delay_ns, priority */
	WH_ACTION_EXTEND,     /* lease, delay_ns: from now; 0: its time to run */
	WH_ACTION_PROGRESS,   /* lease, text: JSON */
	WH_ACTION_BURY,       /* lease, text, priority */
	WH_ACTION_CANCEL,     /* job */
	WH_ACTION_KICK,       /* job */
	WH_ACTION_PUBLISH,    /* queue: the topic; event */
	WH_ACTION_EDIT,       /* job, edit */
	WH_ACTION_MOVE,       /* job, queue: the one that it goes to; of a job that waits */
	/* job; of one that has failed, is buried, or is dead and waits: ready again, with none of its attempts begun, where it was or became dead; or in queue, if
	 * that is not NULL */
	WH_ACTION_REPLAY,
};
/* One of a transaction; what its kind does not name is ignored. A job may be named once. Everything is borrowed for the call only. */
struct wh_action {
	int kind; /* enum wh_action_kind */
	struct wh_lease lease;
	uint64_t job;
	const char *queue;
	struct wh_payload payload; /* without release */
	struct wh_submit_options options;
	int status; /* 0: 200 */
	const char *text;
	int64_t delay_ns;
	const uint32_t *priority;     /* NULL: as it was */
	const struct wh_event *event; /* its data without release */
	const struct wh_edit *edit;
};
/* What became of it. */
struct wh_acted {
	uint64_t job;
	int state;     /* enum wh_job_state; 0: not told (EXTEND, PROGRESS) */
	int64_t at;    /* EXTEND: when the lease ends; FAIL: when the job runs next, 0: it does not wait */
	uint64_t jobs; /* PUBLISH: how many were made of the event */
	struct wh_position event; /* PUBLISH: its position; all-zero: nobody wanted it */
	bool duplicate;           /* SUBMIT, PUBLISH: as of struct wh_receipt */
};
struct wh_transaction {
	size_t count;
	const struct wh_acted *results; /* in the order of the actions */
};
/* Returns NULL, accepts NULL. */
WH_API struct wh_transaction *wh_transaction_free(struct wh_transaction *transaction);

/* wh_client_transact() - do 1 to 10,000 actions, all or none, as one commit: n = count, ptr = struct wh_transaction *, given. At most 16 MiB as JSON, in
 * which payloads take a third more. Errors those of the single calls, with the action in the problem: -WH_ECALL_LEASE_LOST, -WH_ECALL_REFUSED ...;
 * -EINVAL: an action that is none. */
WH_API wh_future wh_client_transact(wh_client *client, const struct wh_action *actions, size_t count,
                                    const struct wh_how *how);

/* -- a worker. It leases jobs, up to jobs_max in flight, calls a function of yours for each, extends the leases for as long as jobs
 * are unfinished, and sits out restarts of the server. Each job is finished by exactly one of wh_worker_complete(), wh_worker_fail(),
 * wh_worker_release(), wh_worker_bury() and wh_worker_transact(), then or later, also when its lease is lost; the job's memory ends with that call. */

/* Does a job, or begins it. Never called for a worker that was closed. */
typedef void wh_worker_function(wh_worker_job *job, const struct wh_leased *leased, void *arg);
/* What went wrong beside the jobs. */
typedef void wh_worker_trouble(wh_worker *worker, const struct wh_problem *problem, void *arg);

struct wh_worker_options {
	const char *queue;          /* copied */
	uint32_t jobs_max;          /* in flight, 1 to 1,000; default 1 */
	wh_worker_function *on_job; /* does a job, or begins it */
	void *arg;                  /* of all functions */
	bool task; /* on_job runs as a task, so that it can wait; one that returns with its job unfinished has failed */
	uint32_t stack_bytes; /* of these; 0: the loop's */
	/* the lease is lost or the job cancelled: nobody wants its result any more. May be NULL; see wh_worker_lost() */
	wh_worker_function *on_lost;
	wh_worker_trouble
		*on_trouble; /* no lease could be had; it is tried again, after up to 10 s. May be NULL */
	struct wh_how how;   /* level and timeout_ns of finishing a job */
};

/* wh_worker_open() - begin to lease. Result 0; -EINVAL, -ENOMEM. */
WH_API int wh_worker_open(wh_client *client, const struct wh_worker_options *options,
                          wh_worker **ret) WH_MUST_USE;
/* wh_worker_drain() - lease no more: n = 0 once every job is finished and the server has answered that. A second gives -EALREADY. */
WH_API wh_future wh_worker_drain(wh_worker *worker);
/* wh_worker_close() - lease no more. Jobs that are unfinished are still to be finished; their leases are not extended any more. Before the
 * client is closed. Returns NULL; accepts NULL. */
WH_API wh_worker *wh_worker_close(wh_worker *worker);
WH_API uint32_t wh_worker_in_flight(const wh_worker *worker); /* jobs that are unfinished */

/* As wh_client_complete() and the others, with the job's lease; the future may be left to wh_detach(). A result that is too large
 * fails the job for good. If the lease is lost: -WH_ECALL_LEASE_LOST without asking. */
WH_API wh_future wh_worker_complete(wh_worker_job *job, int status, const struct wh_payload *result);
WH_API wh_future wh_worker_fail(wh_worker_job *job, const char *text, int64_t delay_ns);
WH_API wh_future wh_worker_release(wh_worker_job *job, int64_t delay_ns);
WH_API wh_future wh_worker_bury(wh_worker_job *job, const char *text);
/* wh_worker_transact() - the same by a transaction of which one action finishes the job, with the lease of wh_worker_leased(): n = count. One that is
 * refused leaves the job to whoever leases it next, when its time to run is over. */
WH_API wh_future wh_worker_transact(wh_worker_job *job, const struct wh_action *actions, size_t count);
WH_API bool wh_worker_lost(const wh_worker_job *job);                      /* has its lease been lost? */
WH_API const struct wh_leased *wh_worker_leased(const wh_worker_job *job); /* what on_job was given */

/* ---- queues ------------------------------------------------------------------------------ */

/* All-zero means the server's defaults. */
struct wh_queue_settings {
	int64_t time_to_run_ns;
	uint32_t attempts;
	int64_t retention_ns; /* negative: finished jobs are not kept */
	uint64_t jobs_max;    /* 0: no limit */
	int64_t backoff_ns;   /* before the second attempt, doubling with each up to */
	int64_t backoff_max_ns;
	uint32_t backoff_count; /* or as many pauses, at most 16, the last of them for all that follow */
	int64_t backoffs_ns[16];
	int backoff_jitter;         /* percent by which a pause is longer or shorter; negative: none */
	const char *dead_letter;    /* queue to which jobs go whose attempts are exhausted; NULL: they fail */
	uint32_t concurrency;       /* jobs of it that run at once; 0: no limit */
	const char *rate;           /* jobs begun in a time, "100/s", "10/m", "3/250ms"; NULL: no limit */
	uint32_t rate_burst;        /* begun at once after a rest; 0: as many as in the rate */
	uint32_t group_concurrency; /* jobs of one group that run at once; 0: one */
	const char *group_rate;     /* jobs of one group begun in a time, like rate; NULL: no limit */
	uint32_t group_rate_burst;  /* begun at once after a rest; 0: as many as in the rate */
};
struct wh_queue {
	const char *name;
	bool paused;
	uint64_t jobs[WH_JOB_STATES]; /* by enum wh_job_state */
	uint64_t submitted;
	struct wh_queue_settings settings;
};
struct wh_queues {
	size_t count;
	const struct wh_queue *queues;
	const char *json; /* all of it, as the server says it */
};
/* Returns NULL, accepts NULL. */
WH_API struct wh_queues *wh_queues_free(struct wh_queues *queues);

/* wh_client_queue_put() - create (n = 1) or replace the settings (n = 0); settings may be NULL. Errors -WH_ECALL_BAD_VALUE. */
WH_API wh_future wh_client_queue_put(wh_client *client, const char *queue,
                                     const struct wh_queue_settings *settings, const struct wh_how *how);
/* n = 0. Errors -WH_ECALL_UNKNOWN_QUEUE, -WH_ECALL_QUEUE_NOT_EMPTY */
WH_API wh_future wh_client_queue_delete(wh_client *client, const char *queue, const struct wh_how *how);
/* n = 0. Errors -WH_ECALL_UNKNOWN_QUEUE */
WH_API wh_future wh_client_queue_pause(wh_client *client, const char *queue, const struct wh_how *how);
WH_API wh_future wh_client_queue_resume(wh_client *client, const char *queue, const struct wh_how *how);
/* What is done to many jobs of a queue. */
enum wh_many_verb {
	WH_MANY_PURGE = 1, /* waiting ones are cancelled, finished ones forgotten */
	WH_MANY_KICK,      /* buried or delayed ones are ready */
	WH_MANY_REPLAY, /* failed, buried and dead ones are ready, none of their attempts begun; dead ones where they became dead */
	WH_MANY_MOVE, /* waiting ones are in another queue */
};
/* To which. All-zero: to all that the verb is for. */
struct wh_many {
	const char *state;    /* states, with commas; NULL: as docs/reference/http.md says for each verb */
	const char *to;       /* MOVE, and if wanted REPLAY: the other queue */
	uint64_t from, until; /* the lowest and the highest id */
	uint64_t count;       /* at most so many */
	bool dead;            /* only those whose attempts were exhausted in another queue */
	const char *error;    /* a part of the text of its newest error */
	int64_t older_ns,
		newer_ns;    /* its end, or newest error, or submit was so long ago or longer; or less */
	const uint64_t *ids; /* these, at most 10,000 */
	size_t id_count;
};
/* wh_client_many() - n = how many. many may be NULL. What a lost answer leaves undone is done by asking again. Errors -WH_ECALL_UNKNOWN_QUEUE,
 * -WH_ECALL_BAD_VALUE. */
WH_API wh_future wh_client_many(wh_client *client, const char *queue, int verb, const struct wh_many *many,
                                const struct wh_how *how);

/* n = how many, ptr = struct wh_queues *, given. queue NULL: all, by name, in as many requests as they take. Errors -WH_ECALL_UNKNOWN_QUEUE */
WH_API wh_future wh_client_queues(wh_client *client, const char *queue, const struct wh_how *how);

/* ---- the log ----------------------------------------------------------------------------- */

struct wh_log_epoch {
	uint32_t epoch;
	uint64_t end; /* what was committed up to here has survived */
};
struct wh_log_state {
	uint32_t epoch; /* the present one */
	uint64_t appended, written, flushed;
	size_t epoch_count;
	const struct wh_log_epoch *epochs; /* those that have ended */
};
/* Returns NULL, accepts NULL. */
WH_API struct wh_log_state *wh_log_state_free(struct wh_log_state *log);

/* wh_client_log() - how far the log has come: n = epoch, ptr = struct wh_log_state *, given. */
WH_API wh_future wh_client_log(wh_client *client, const struct wh_how *how);
/* wh_client_reached() - n = 1 once position is committed at a level, n = 0 if it is not when wait_ns are over. -WH_ECALL_LOST: the server
 * has ended before that, and what was committed there is gone. For what was submitted WH_LEVEL_ASYNC. Errors -WH_ECALL_BAD_VALUE (a position
 * that was never given). */
WH_API wh_future wh_client_reached(wh_client *client, struct wh_position position, int level, int64_t wait_ns,
                                   const struct wh_how *how);

#ifdef __cplusplus
}
#endif
#endif
