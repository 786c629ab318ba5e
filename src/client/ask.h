/* src/client/ask.h -- the inside of the client: one request with its repetitions, as one future.
 *
 * An ask is made by a public function, gets its path, fields and body, and is started. Its answer() turns the HTTP response into the
 * result and ends the ask, or has it sent again (a wait that goes on). Refusals, lost connections and the time-outs are dealt with
 * here, once for all. Cancelling ends the future at once; the ask itself goes when the HTTP request does.
 *
 * Used by: the files of src/client.  Thread: loop.  Memory: one allocation for each ask; its texts move to the heap when long.
 */
#ifndef WH_CLIENT_ASK_H
#define WH_CLIENT_ASK_H

#include "base/json.h"
#include "base/text.h"
#include "runtime/loop.h"
#include "whilst/client.h"

enum {
	WH__ASK_FIELDS_MAX = 64, /* of the caller, beside our own */
	WH__ASK_TARGET_BYTES = 192,
	WH__ASK_FIELD_BYTES = 256,
	WH__ASK_ITEMS_MAX = 10000,
};

struct wh__ask;

struct wh_client {
	wh_loop *loop;
	wh_http_client *quick, *waits; /* two pools of connections: a wait stands in nobody's way */
	char *server;                  /* as the HTTP client wants it */
	char *token;                   /* NULL: none */
	struct wh__ask *asks;
	uint64_t requests, retries, in_flight;
	int64_t answer_timeout_ns, timeout_ns, retry_ns;
	uint32_t references; /* the user, asks, workers */
	bool closed;
};

/* Bytes on their way, which the HTTP client may need longer than the ask lives. */
struct wh__ask_body {
	uint32_t references;
	const void *bytes;
	size_t len;
	wh_function *release;
	void *release_arg;
};

/* Takes response. */
typedef void wh__ask_answer(struct wh__ask *ask, struct wh_http_response *response);

struct wh__ask {
	struct wh__ask *next, **list;
	wh_client *client;
	struct wh__op *op; /* NULL: the future is complete already */
	wh_future pending; /* the HTTP request, or the pause before the next; id 0: neither */
	wh__ask_answer *answer;
	const char *method;             /* static, or the caller's within fields */
	struct wh__text target, fields; /* fields: name NUL value NUL ... */
	struct wh__ask_body *body;
	struct wh_receipt *receipt;
	struct wh_problem *problem;
	struct wh_http_failure failure;
	int64_t wait_until;  /* of wh_now(); 0: does not wait; INT64_MAX: for ever */
	int64_t until;       /* the end of it all, beyond the wait; INT64_MAX: none */
	int64_t asked_at;    /* when the present request was sent */
	int64_t retry_until; /* 0: the server was there the last time */
	uint32_t failures;   /* in a row */
	int level;           /* enum wh_level */
	bool changes;        /* something at the server: not to be repeated once it was sent */
	bool keyed;          /* but under a key the server does it once: to be repeated all the same */
	bool was_sent;       /* keyed: an earlier one of these may have been done */
	bool passes;         /* a call of the gateway: an answer of 400 and above may be the service's */
	bool prefer_async, bare;
	bool runs;              /* n is the job, not the result's status */
	bool by_result;         /* asks for a result: not ready means to wait on, or that the time is over */
	int64_t result_wait_ns; /* once a job has been made of it */
	struct wh_http_response *accepted; /* of a call: what is given when the time is over */
	uint64_t job;
	struct wh_position position;
	struct wh__text pages; /* of a list that comes in several: what is there of it */
	char target_given[WH__ASK_TARGET_BYTES], fields_given[WH__ASK_FIELD_BYTES];
};

/* wh__ask_new() - NULL: *ret_failed says why. how may be NULL. */
struct wh__ask *wh__ask_new(wh_client *client, const char *method, const struct wh_how *how,
                            wh__ask_answer *answer, wh_future *ret_failed);
/* wh__ask_named() - about what has this name, below path, which ends with its slash. NULL: *ret_failed says why; -EINVAL without a name. */
struct wh__ask *wh__ask_named(wh_client *client, const char *method, const char *path, const char *name,
                              const struct wh_how *how, wh__ask_answer *answer, wh_future *ret_failed);
/* wh__ask_start() - send it, and give its future. */
wh_future wh__ask_start(struct wh__ask *ask);
/* wh__ask_refuse() - end what was not started. */
wh_future wh__ask_refuse(struct wh__ask *ask, int64_t error);

/* The parts: before the start. A failure to allocate comes out there. */
void wh__ask_path(struct wh__ask *ask, const char *text);
void wh__ask_segment(struct wh__ask *ask, const char *segment); /* percent-encoded */
void wh__ask_number(struct wh__ask *ask, uint64_t number);
void wh__ask_query(struct wh__ask *ask, const char *name); /* "?name=" or "&name=" */
void wh__ask_duration(struct wh__ask *ask, int64_t ns);
void wh__ask_field(struct wh__ask *ask, const char *name, const char *value, size_t value_len);
/* wh__ask_key() - of how, which may be NULL or have none. false: it is none. */
bool wh__ask_key(struct wh__ask *ask, const struct wh_how *how);
void wh__ask_wait(struct wh__ask *ask, int64_t wait_ns);
bool wh__ask_is_waiting(const struct wh__ask *ask); /* has it time left to wait? */
/* wh__ask_payload() - body and its type; NULL: empty. false: no memory; release has been called then. */
bool wh__ask_payload(struct wh__ask *ask, const struct wh_payload *payload);
/* wh__ask_bytes() - the same of our own making: takes bytes (malloc'ed, or NULL: no memory). */
bool wh__ask_bytes(struct wh__ask *ask, void *bytes, size_t len);
void wh__ask_drop_body(struct wh__ask *ask);
/* wh__ask_become_result() - the job is committed: from now on the ask waits for its result. The answer to a waiting submit would tell
 * the same in one request less; but if the server is killed before it, nobody would know whether there is a job. */
void wh__ask_become_result(struct wh__ask *ask);
/* wh__ask_page() - the answer is one page of several: the next is asked for, by the target that has been put together anew. */
void wh__ask_page(struct wh__ask *ask);
void wh__payload_release(const struct wh_payload *payload);

/* The ends: after each of these the ask may be gone. */
void wh__ask_end(struct wh__ask *ask, int64_t n, void *ptr, wh_disposer *dispose);
/* wh__ask_again() - the answer does not end the wait. */
void wh__ask_again(struct wh__ask *ask);
/* wh__ask_next() - the answer is followed by another request, which has been made of this one. */
void wh__ask_next(struct wh__ask *ask);
/* wh__ask_garbled() - takes response: it is not what this server says. */
void wh__ask_garbled(struct wh__ask *ask, struct wh_http_response *response);
/* wh__ask_out_of_memory() - takes response, which is good but cannot be kept. */
void wh__ask_out_of_memory(struct wh__ask *ask, struct wh_http_response *response);
/* wh__ask_fail() - with an error, where no answer says more. */
void wh__ask_fail(struct wh__ask *ask, int64_t error, int64_t cause);
/* wh__ask_refused() - takes response: 400 and above. */
void wh__ask_refused(struct wh__ask *ask, struct wh_http_response *response);

/* problem.c: what a refusal means. response->status is 400 or above. */
int64_t wh__problem_read(const struct wh_http_response *response, struct wh_problem *ret);
bool wh__problem_is_ours(const struct wh_http_response *response);

/* Common answers. */
bool wh__ask_receipt(struct wh__ask *ask,
                     const struct wh_http_response *response); /* from the header fields */
bool wh__read_header_u64(const struct wh_http_response *response, const char *name, uint64_t *ret);
bool wh__read_position(struct wh_slice text, struct wh_position *ret); /* "3/4096", with quotes or without */
bool wh__read_lease(struct wh_slice text, struct wh_lease *ret);       /* "3.42" */
int wh__read_state(struct wh_slice value);                             /* 0: none */
bool wh__read_duration(struct wh_slice value, int64_t *ret);
bool wh__read_instant(struct wh_slice value, int64_t *ret);                      /* null: 0 */
struct wh_slice wh__body_json(const struct wh_http_response *response);          /* absent: it is no JSON */
void wh__answer_state(struct wh__ask *ask, struct wh_http_response *response);   /* n = the state it tells */
void wh__answer_zero(struct wh__ask *ask, struct wh_http_response *response);    /* n = 0 */
void wh__answer_created(struct wh__ask *ask, struct wh_http_response *response); /* n = 1: 201, 0: 200 */

/* result.c: a response as a result. Takes response on success; NULL: no memory. */
struct wh_result *wh__result_new(struct wh_http_response *response);
void wh__answer_result(struct wh__ask *ask, struct wh_http_response *response);
void wh__result_not_ready(struct wh__ask *ask); /* the time is over */
void wh__result_dispose(wh_res res, void *arg);

/* submit.c */
const char *wh__after_failure(int failure); /* "cancel", ... */
/* wh__put_edit() - the members of an edit; a comma before the first unless it is the first byte but one. */
void wh__put_edit(struct wh__text *json, const struct wh_edit *edit);
void wh__ask_options(struct wh__ask *ask, const struct wh_submit_options *options);

/* transact.c: the members of a submit, a comma before the first. */
void wh__put_submit(struct wh__text *text, const char *queue, const struct wh_payload *payload,
                    const struct wh_submit_options *options);

/* transact.c: the members of a publish whose event is yet to be made, behind what is there. */
void wh__put_event(struct wh__text *text, const char *topic, const struct wh_event *event);

/* topic.c: may an attribute of an event have this name? */
bool wh__is_attribute(const char *name);

/* batch.c: little-endian numbers of the binary form */
uint32_t wh__batch_u32(const void *from);
uint64_t wh__batch_u64(const void *from);

void wh__client_unref(wh_client *client);

#endif
