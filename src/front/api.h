/* src/front/api.h -- the HTTP interface's inside: the front itself, a request while its handler runs, and a call
 * while it waits for the store.
 *
 * A handler reads what it needs from the request, whose memory is gone when it returns, starts one operation
 * of the store and leaves a call behind: a few words for what is still to be done. A caller that waits
 * costs that, the exchange, and a wait of the store; nothing turns or polls for it.
 * Thread: the loop of the store and the server. Every path through a handler answers the exchange exactly once.
 */
#ifndef WH_FRONT_API_H
#define WH_FRONT_API_H

#include "base/text.h"
#include "deliver/ranges.h"
#include "deliver/service.h"
#include "front/front.h"
#include "front/host.h"
#include "front/namespace.h"
#include "front/prefer.h"
#include "front/problem.h"
#include "front/scheduler.h"
#include "front/target.h"
#include "front/token.h"
#include "front/topic.h"
#include "store/store.h"
#include "whilst/http.h"

struct push;
struct event_stream;
struct once;

enum {
	API_CODES = 600,
	API_CONFIG_BODY_MAX = 64 << 10, /* JSON of a configuration */
	API_IDS_BODY_MAX = 256 << 10,   /* JSON of ids of jobs, 10,000 of them */
	API_TEXT_BODY_MAX = 1 << 20,    /* error text, of which the store keeps JOB_ERROR_TEXT_MAX bytes */
};
#define API_BATCH_BODY_MAX (UINT64_C(64) << 20)
#define FRONT_STREAM_BYTES (1 << 20) /* larger bodies are received in pieces */

/* Classes of requests, for figures. */
enum answer_class {
	ANSWER_SUBMIT,
	ANSWER_WORK,
	ANSWER_READ,
	ANSWER_CALL,
	ANSWER_ADMIN,
	ANSWER_WAIT, /* asked to wait, and did */
	ANSWER_OTHER,
	ANSWER_CLASSES
};

struct api {
	wh_loop *loop;
	struct store *store;
	wh_http_server *server;
	wh_http_client *client;
	wh_http_client *outside; /* speaks to what users name: only where .ranges allow it to */
	struct ranges ranges;
	struct push *push;
	struct service_table services, targets;
	struct topic_table topics;
	struct scheduler scheduler;
	struct replay *replay;      /* the step of one that is under way; NULL: none */
	struct replay *replay_room; /* of it; free() */
	uint32_t replay_step;       /* events that it takes at most; 0: no step yet */
	uint64_t events_published, events_replayed, events_duplicate;
	struct front_options options;
	struct hosts hosts;
	struct token_table *tokens; /* NULL: nobody is asked for one */
	int64_t tokens_since;       /* wh_now() when they were read */
	int64_t refusal_told_at;    /* of a token; wh_now() */
	uint64_t refusals_untold;
	uint32_t wait_s_max;
	bool draining, server_drained, push_drained;
	struct call *
		parked; /* parked.c: calls that wait for what may take long, the one that is to end first on top */
	wh_future parked_timer;
	int64_t parked_timer_at;
	bool parked_timed;
	uint64_t parked_count, calls_count;
	struct event_stream *streams,
		**streams_last; /* event_stream.c: the one that was silent longest first */
	uint64_t streams_count, streams_dropped;
	wh_future streams_timer;
	bool streams_timed;
	wh_future drained;         /* promise, while draining */
	uint64_t codes[API_CODES]; /* answers by status */
	struct wh__histogram
		seconds[ANSWER_CLASSES]; /* ns from the first byte of a request to its answer's head */
};

/* A request while its handler runs; on the stack, borrows the exchange's memory. */
struct request {
	struct api *api;
	wh_http_exchange *x;
	const struct route *route;
	struct target target;
	struct wh_slice content_type, lease, last_event_id, idempotency_key;
	struct wh_slice accept; /* where its list begins: the first of several fields */
	struct prefer prefer;
	bool prefer_seen, if_match, if_none_match; /* there are such fields */
	bool from_elsewhere;                       /* a page of another origin has a browser send it */
	bool traced;                               /* there is a traceparent: trace_read() */
	bool streamed;                             /* the body comes in pieces: upload_start() */
	int level;                                 /* enum store_level; STORE_DEFAULT: not said */
	const char *wrong;                         /* a header field that is malformed: its name */
	struct wh_slice wrong_value;
	struct wh_slice namespace; /* of the client's token, borrowed from the table; empty: it has none */
	char name
		[TARGET_NAME_BYTES_MAX]; /* the queue, service, topic or schedule of the path, decoded, in full */
	size_t name_len, hidden;         /* hidden: how many bytes of it the client is not told */
	uint64_t job;                    /* of the path */
};

/* A request's or call's name as its client says it: two arguments for %.*s. */
#define SHOWN(r) (int)((r)->name_len - (r)->hidden), (r)->name + (r)->hidden

typedef void request_handler(struct request *request);

/* What a path's variable part is. */
enum route_variable { ROUTE_NONE, ROUTE_QUEUE, ROUTE_JOB, ROUTE_SERVICE, ROUTE_TOPIC, ROUTE_SCHEDULE };

/* Whom a route is for. Not for tokens with a namespace, unless somebody has shown that it keeps within one. */
enum route_reach {
	REACH_ALL = 0, /* it tells of all of the server, or changes it */
	REACH_WITHIN,  /* what it takes, does and tells is of the client's namespace */
	REACH_NOTHING, /* it names nothing of anybody */
};

struct route {
	enum wh_http_method method;
	const char *path; /* {} stands for one segment */
	enum route_variable variable;
	request_handler *handler;
	uint64_t body_max; /* 0: the largest payload */
	enum token_action action;
	enum route_reach reach;
	bool answers_much; /* a page of a list, a payload: what may take more room than a connection is to have */
};

/* authorize() (authorize.c) - may whoever sends this do it? false: refused and answered. path is of the request. */
bool authorize(struct api *api, wh_http_exchange *x, const struct target *target, const struct route *route);
/* authorize_namespace() - that of whoever sends this, once it is here whole; empty: it has none. false: refused and answered, since its token has
 * been taken away meanwhile. */
bool authorize_namespace(struct api *api, wh_http_exchange *x, const struct route *route,
                         struct wh_slice *ret);
/* For who judges several queues at once: authorize_who() - whose token this is; there are tokens, and on_head has let it pass.
 * authorize_allows() - is it good for that queue (its full name)? name empty: for any. authorize_refuse() - answer that it is not; members as of
 * answer_problem(). */
const struct token *authorize_who(struct api *api, wh_http_exchange *x);
bool authorize_allows(const struct token *token, enum token_action action, struct wh_slice name);
void authorize_refuse(struct api *api, wh_http_exchange *x, const struct token *token,
                      enum token_action action, struct wh_slice name, const char *members);
/* authorize_tell() - what was let pass, in the log of events. */
void authorize_tell(struct api *api, wh_http_exchange *x, const struct token *token,
                    enum token_action action);
/* authorize_is_credential() - was this field meant for us, and is not to be passed on or kept? */
bool authorize_is_credential(const struct api *api, struct wh_http_field field);

/* route_find() - NULL: no such path, or (methods not 0) other methods only, one bit 1 << enum wh_http_method each. */
const struct route *route_find(const struct target *target, enum wh_http_method method,
                               unsigned *ret_methods);

enum call_kind { CALL_POLL, CALL_RESULT, CALL_SUBMIT, CALL_RECORDED, CALL_OTHER };

/* dashboard_route() (dashboard.c) - what a request for / is answered by: NULL, by the list of what there is; or the page, which says nothing of
 * this server and which therefore nobody needs a token for. */
const struct route *dashboard_route(const struct api *api, const wh_http_exchange *x);

/* What is left of a request while the store works on it. One that waits is a good part of what a waiting caller costs. */
struct call {
	struct call *next, *previous, *child; /* parked.c */
	struct api *api;
	wh_http_exchange *x;
	wh_future waiting; /* parked: what to cancel */
	uint64_t job;
	int64_t until;                  /* wh_now() */
	struct store_position position; /* of the commit */
	void *arg;                      /* the handler's own, freed with the call by free() */
	const char *reason;             /* .error, while the rest of the answer is looked up */
	int32_t error;                  /* why it was refused */
	uint32_t action_at;             /* of a transaction that was refused: where */
	struct prefer prefer;
	int8_t level;       /* as asked; of a submit: reached */
	uint8_t kind;       /* enum call_kind */
	uint8_t action;     /* the handler's own */
	bool duplicate : 1; /* of a submit: another job has its unique key */
	bool is_parked : 1, timed_out : 1, gone : 1, read_async : 1, retained : 1;
	bool is_page : 1;              /* answer_is_page(), of a request for a body */
	bool cancel_at_end : 1;        /* of a wait in vain: the job is cancelled */
	uint8_t hidden, namespace_len; /* as of the request; the namespace stands behind the name */
	uint8_t name_len;
	char name[]; /* the queue's, in full */
};
_Static_assert(sizeof(struct call) <= 120, "with a word of the allocator's: 128 bytes");
_Static_assert(TARGET_NAME_BYTES_MAX <= UINT8_MAX, "a call knows the length of its name");

/* The queue that a call is about, in full. */
static inline struct store_slice call_queue(const struct call *call)
{
	return (struct store_slice){call->name, call->name_len};
}

static inline struct wh_slice call_namespace(const struct call *call)
{
	return (struct wh_slice){call->name + call->name_len, call->namespace_len};
}

/* ---- requests (request.c) ---------------------------------------------------------------- */

/* request_singles() - is each field that has one value given once at most (RFC 9110 5.3)? false: refused and answered. */
bool request_singles(struct api *api, wh_http_exchange *x);

/* request_read() - the exchange taken apart; false: refused and answered. */
bool request_read(struct request *request, struct api *api, wh_http_exchange *x);

/* request_level() - the commit level for a change; false: refused and answered. no_async: never asynchronous. */
bool request_level(struct request *request, bool no_async, int *ret_level);
int request_read_level(const struct request *request);

enum option_kind { OPTION_NUMBER, OPTION_DURATION, OPTION_INSTANT, OPTION_FLAG, OPTION_TEXT, OPTION_RAW };
struct option {
	const char *name;
	enum option_kind kind;
	int64_t min, max; /* NUMBER, DURATION (ns) */
	bool given;
	int64_t value; /* number, ns, 0 or 1; TEXT: bytes in .text */
	char text[JOB_CONTENT_TYPE_MAX + 1];
	struct wh_slice raw; /* RAW: as it stands in the query, of any length; borrowed from the exchange */
};

/* request_options() - the query, which may hold these and nothing else; false: refused and answered. */
bool request_options(struct request *request, struct option *options, size_t count);

/* request_unique_while() - "queued", "active" or a duration, for struct store_submit; false: none of these. */
bool request_unique_while(const char *text, size_t len, int64_t *ret);

/* request_lease() - from Whilst-Lease; false: refused and answered. */
bool request_lease(struct request *request, struct job_lease *ret);

/* request_content_type() - of the body, octets unless it says; false: refused and answered. */
bool request_content_type(struct request *request, struct store_slice *ret);
bool request_is_type(struct wh_slice content_type, const char *type); /* parameters do not matter */
/* request_names_tag() - is this entity tag, quotes included, among those of If-None-Match, however many fields that is? */
bool request_names_tag(const wh_http_exchange *x, const char *tag, size_t len);
bool request_json(struct request *request); /* is the body said to be JSON? false: refused and answered */
struct wh_slice request_body(const struct request *request);

/* request_knows_job() - is it there, and of the client's namespace? Without one: there is no need to know. */
bool request_knows_job(const struct request *request, uint64_t job);

/* request_within() - may a client of a namespace say this option or member? false: refused and answered. */
bool request_within(struct request *request, const char *kind, struct wh_slice name);

static inline struct store_slice request_queue(const struct request *request)
{
	return (struct store_slice){request->name, request->name_len};
}

/* ---- answers (answer.c) ------------------------------------------------------------------ */

/* answer_count() - an answer of this status begins. answer_waits(): its request waits for as long as it asked to. */
void answer_count(struct api *api, wh_http_exchange *x, int status);
void answer_waits(wh_http_exchange *x);
void answer_bytes(struct api *api, wh_http_exchange *x, int status, const char *type, const void *body,
                  size_t len);
void answer_text(struct api *api, wh_http_exchange *x, int status, const char *type, struct wh__text *text);
/* answer_done() - the same of a change that has been made: without memory for what there is to say of it, status and header fields say it
 * alone, since a refusal would have it made once more. */
void answer_done(struct api *api, wh_http_exchange *x, int status, const char *type, struct wh__text *text);
void answer_problem(struct api *api, wh_http_exchange *x, enum problem problem, const char *members,
                    const char *detail, ...) __attribute__((format(printf, 5, 6)));
/* answer_error() - a refusal or failure of the store. subject: "job 17", 'queue "mail"'; reason and state may be missing. */
void answer_error(struct api *api, wh_http_exchange *x, int64_t error, const char *reason, int state,
                  const char *subject);
/* answer_limit() - a refusal because of a limit (0: not because of one after all), which it tells as "limit"; more: further members, as of
 * answer_problem(). */
void answer_limit(struct api *api, wh_http_exchange *x, enum problem problem, uint64_t limit,
                  const char *more, const char *detail, ...) __attribute__((format(printf, 6, 7)));
/* answer_refused() - the store said no to something, with the limit that was met where it was one. answer_commit_refused() - to a commit, which the
 * call gives up then. */
struct refused {
	int64_t error;
	const char *reason; /* NULL: what the error says */
	uint64_t limit;     /* where the error does not say which: as of struct store_commit */
	struct store_slice
		queue; /* its full name, where it, or its namespace, may be what is full; may be absent */
	const char *members; /* further ones, or NULL */
	const char *subject;
	bool in_action; /* of a transaction, and the reason for refusing that */
};
void answer_refused(struct api *api, wh_http_exchange *x, const struct refused *refused);
void answer_commit_refused(struct call *call, wh_res res, struct store_slice queue, const char *members,
                           const char *subject);
enum problem answer_problem_of(int64_t error); /* that tells of an error of the store */
/* answer_action() - {"id": 17, ...}: what became of a job by an action that was done. */
void answer_action(struct wh__text *text, int kind, uint64_t job, const struct store_result *result);
void answer_committed(wh_http_exchange *x, int level, struct store_position position); /* its header fields */
void answer_preference(wh_http_exchange *x, const struct prefer *prefer, bool vary);
void answer_view(struct wh__text *text, const struct store_view *view,
                 struct wh_slice namespace); /* a job as JSON, as a client of this namespace is told it */
/* answer_kept() - header fields that were kept with a body, lines "Name: value\r\n" that the server wrote itself. */
void answer_kept(wh_http_exchange *x, struct store_slice headers);
/* answer_event() - Whilst-Event: the position of the event that a payload is about, if it is about one. */
/* answer_foreign() (dashboard.c) - a body of this type that a worker or a client chose: a browser that shows it runs nothing of it, and takes it for no
 * page of this origin. */
void answer_foreign(struct call *call, struct store_slice content_type);
bool answer_is_page(const wh_http_exchange *x); /* does a browser want to show it? It accepts HTML by name */
void answer_event(wh_http_exchange *x, const struct store_bytes *payload);
const char *answer_state(int state);
const char *answer_level(int level);
struct wh_slice answer_slice(struct store_slice slice);

/* ---- calls (call.c) ---------------------------------------------------------------------- */

/* call_new() - for the request's exchange; NULL: refused and answered. */
struct call *call_new(struct request *request, enum call_kind kind);
/* call_then() - have callback(…, call) consume future; without memory for that it is called at once, so nothing of call is touched behind this. */
void call_then(struct call *call, wh_future future, wh_callback *callback);
/* call_park() - the same for a wait that the client set a limit for, or that its leaving ends; callback begins with parked_remove(). */
void call_park(struct call *call, wh_future future, wh_callback *callback);
/* call_refuse() - answer that the store refused this about the job, with the job's state where that is the reason; end. */
void call_refuse(struct call *call, int64_t code, const char *reason);
void call_end(struct call *call); /* answered: free it */
/* call_watch() - learn of the client's leaving; half_close: or that it sends no more, which over TCP is all that there is to see of a close(2). */
void call_watch(struct call *call, bool half_close);
void call_watch_wait(
	struct call *call); /* the same for a wait from which nothing is lost: as half-close says */
void call_finish(struct call *call,
                 int state);                /* no wait (any more): answer by kind, reading the state anew */
void call_wait_finished(struct call *call); /* wait for the job's end, until .until; then call_finish() */
void call_accepted(struct call *call, int state); /* answer 202; the call is still to be ended */
void call_set_wait(struct call *call, const struct request *request); /* prefer and until */

/* ---- waits with an end (parked.c) --------------------------------------------------------- */

/* parked_add() - .waiting is cancelled at .until, if not before; parked_remove() - it has ended, or call ends: n, or -ETIMEDOUT in place of
 * -ECANCELED when it was for the time. */
void parked_add(struct call *call);
int64_t parked_remove(struct call *call, int64_t n);
void parked_end_all(struct api *api); /* now, because the server stops */

/* ---- callbacks (callback.c) -------------------------------------------------------------- */

bool callback_asked(wh_http_exchange *x); /* by Whilst-Callback? */
/* callback_read() - the URL that is to be told, from Whilst-Callback or this option of the query; *ret absent: none. false: refused and
 * answered. */
bool callback_read(struct request *request, struct wh_slice option, struct wh_slice *ret);
/* callback_wrong() - why nobody may be told at this URL, and what kind of problem that is; NULL: it is well. */
const char *callback_wrong(const struct api *api, struct wh_slice url, enum problem *ret);
/* callback_submit() - once_apply() of the job and, if there is a url, of what waits for its end. callback_fill() - of count jobs: behind each action, which is a
 * submit, there is room for what waits for its end. callback_begin() - with the commit of one or the other, in which nothing was refused; of a single
 * submit without a callback: nothing. */
/* callback_read_lines() - whom the end of each job of a batch is told: at the URL that its line says as its member of this name (NULL: none does), or else
 * at that of all. of_all is given, and has been judged. false: refused and answered; callback_urls_done() in any case. */
struct callback_urls {
	struct wh_slice of_all;
	struct wh_slice *each; /* NULL: as of_all */
	size_t count;          /* items that have one */
	char *text;
};
bool callback_read_lines(struct request *request, const struct store_slice *lines, size_t count,
                         const char *member, struct callback_urls *urls);
void callback_urls_done(struct callback_urls *urls);
static inline struct wh_slice callback_url(const struct callback_urls *urls, size_t nth)
{
	return urls->each ? urls->each[nth] : urls->of_all;
}
wh_future callback_submit(struct store *store, const struct store_submit *submit, struct wh_slice url,
                          int level, struct once *once);
void callback_fill(struct store_action *actions, size_t count, struct wh_slice url);
void callback_begin(struct api *api, const struct store_commit *commit);

/* ---- large bodies (upload.c, download.c) ------------------------------------------------- */

/* upload_needed() - is the body of this request received in pieces? Known by its header section. */
bool upload_needed(const wh_http_exchange *x);
/* upload_start() - receive the streamed body, put before in front of it (NULL: nothing), and apply the SUBMIT or COMPLETE; then callback(…,
 * call) gets the commit. url: of a SUBMIT, to be called back; or absent. once: NULL, or the request's key, to which the body
 * (without before) is added; copied. Answers and ends the call itself when the body cannot be had. The action's queue is the call's. */
void upload_start(struct call *call, const struct store_action *action, const struct wh__text *before,
                  struct wh_slice url, int level, const struct once *once, wh_callback *callback);

/* download_bytes() - answer with these bytes if they are in a file, and end the call; takes them then. false: they are not. */
bool download_bytes(struct call *call, int status, struct store_bytes *bytes);

/* An answer of several bodies with text between them: download_text() is appended to, download_add() puts bytes behind what stands there by then;
 * a download has at most parts_max of these. NULL: no memory. */
struct download;
struct download *download_new(struct call *call, int status, size_t parts_max);
struct wh__text *download_text(struct download *download);
void download_add(struct download *download, struct store_bytes *bytes);
/* download_start() - send it and end the call. base64: the bodies are sent so. lot: goes back if nothing can be sent; taken. */
void download_start(struct download *download, bool base64, struct store_lot *lot);

/* answer_unreadable() - the problem for a body that cannot be read. reserve_give_back() - a lot that cannot be delivered for the sake of
 * one of its jobs: that one is buried if it is damaged, so that others come to their turn; takes the lot. */
void answer_unreadable(struct call *call, uint64_t job, const struct store_bytes *bytes, int64_t error);
void reserve_give_back(struct call *call, struct store_lot *lot, size_t bad, int64_t error);

void front_check_drained(struct api *api);

/* api_log_stream() - answer by events until .position is reached, or (epoch 0) for ever; .arg: a struct store_position that the
 * client was told last, or NULL. */
void api_log_stream(struct call *call);
bool api_parse_position(const char *text, size_t len, struct store_position *ret); /* "epoch/lsn" */
bool api_parse_version(const char *text, size_t len, uint64_t *ret); /* of an ETag, without its quotes */
/* api_edit_match() - only if the job is still what one of these entity tags says ("*", or absent: anyhow). NULL, or what is wrong with them. */
const char *api_edit_match(struct wh_slice tags, struct store_edit *edit);
extern const char api_edit_states[],
	api_edit_attempts[]; /* why it was refused: by its state; by attempts_max */
/* api_job_stream(), api_queue_stream() - answer by events: of a job until its end, of a queue (of all when the call has no name). last:
 * Last-Event-ID, may be empty. */
void api_job_stream(struct call *call, struct wh_slice last);
void api_queue_stream(struct call *call, struct wh_slice last);

/* ---- handlers ---------------------------------------------------------------------------- */

request_handler api_submit, api_transaction, api_job_get, api_job_result, api_job_payload, api_job_cancel,
	api_job_edit, api_job_kick, api_reserve, api_complete, api_fail, api_release, api_extend,
	api_progress, api_bury, api_complete_many, api_queue_purge, api_queue_kick, api_queue_replay,
	api_queue_move, api_queue_jobs, api_queue_list, api_queue_get, api_queue_put, api_queue_delete,
	api_queue_pause, api_queue_resume, api_service_list, api_service_get, api_service_put,
	api_service_delete, api_target_get, api_target_put, api_target_delete, api_log_get, api_log_backup,
	api_live, api_ready, api_index, api_openapi, api_metrics;
request_handler api_queue_events;
request_handler api_schedule_list, api_schedule_get, api_schedule_put, api_schedule_delete, api_schedule_run,
	api_schedule_pause, api_schedule_resume;
request_handler api_publish, api_topic_stream, api_topic_list, api_topic_get, api_topic_put, api_topic_delete,
	api_subscription_get, api_subscription_put, api_subscription_delete, api_subscription_replay;
wh_http_handler gateway_head, gateway_request;

#endif
