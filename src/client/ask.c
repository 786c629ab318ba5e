/* src/client/ask.c -- one request with its repetitions, as one future. See ask.h. */
#include "client/ask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"

/* A wait is asked for in pieces, so that no proxy or clamp of the server decides how long it may be. */
#define WAIT_PIECE_NS (60 * WH_NS_PER_S)
/* An answer that comes sooner has not waited: the server is stopping, or allows no waits. */
#define HASTY_NS     (20 * WH_NS_PER_MS)
#define PAUSE_NS     (50 * WH_NS_PER_MS)
#define PAUSE_MAX_NS WH_NS_PER_S

enum { KEY_BYTES_MAX = 255 };

static void on_answer(wh_loop *loop, wh_res res, void *arg);
static void on_paused(wh_loop *loop, wh_res res, void *arg);

/* ---- bodies -------------------------------------------------------------------------------- */

static void body_unref(void *arg)
{
	struct wh__ask_body *body = arg;

	if (--body->references > 0)
		return;
	if (body->release)
		body->release(body->release_arg);
	free(body);
}

void wh__ask_drop_body(struct wh__ask *ask)
{
	if (ask->body)
		body_unref(ask->body);
	ask->body = NULL;
}

static bool take_body(struct wh__ask *ask, const void *bytes, size_t len, wh_function *release, void *arg)
{
	struct wh__ask_body *body = malloc(sizeof(*body));

	if (!body) {
		if (release)
			release(arg);
		return false;
	}
	*body = (struct wh__ask_body){1, bytes, len, release, arg};
	ask->body = body;
	return true;
}

bool wh__ask_bytes(struct wh__ask *ask, void *bytes, size_t len)
{
	return bytes && take_body(ask, bytes, len, free, bytes);
}

bool wh__ask_payload(struct wh__ask *ask, const struct wh_payload *payload)
{
	static const char otherwise[] = "application/octet-stream";
	const char *type = payload && payload->type ? payload->type : otherwise;
	void *copy;

	wh__ask_field(ask, "Content-Type", type, strlen(type));
	if (!payload || (payload->len == 0 && !payload->release))
		return true;
	if (payload->release)
		return take_body(ask, payload->bytes, payload->len, payload->release, payload->release_arg);
	copy = malloc(payload->len);
	if (copy)
		memcpy(copy, payload->bytes, payload->len);
	return wh__ask_bytes(ask, copy, payload->len);
}

void wh__payload_release(const struct wh_payload *payload)
{
	if (payload && payload->release)
		payload->release(payload->release_arg);
}

/* ---- life ---------------------------------------------------------------------------------- */

static void free_ask(struct wh__ask *ask)
{
	wh_client *client = ask->client;

	*ask->list = ask->next;
	if (ask->next)
		ask->next->list = ask->list;
	wh__ask_drop_body(ask);
	wh_http_response_free(ask->accepted);
	wh__text_done(&ask->target);
	wh__text_done(&ask->pages);
	wh__text_done(&ask->fields);
	free(ask);
	wh__client_unref(client);
}

static void cancelled(struct wh__op *op)
{
	struct wh__ask *ask = op->buf;

	ask->op = NULL;
	ask->client->in_flight--;
	wh__op_complete(op, -ECANCELED, NULL);
	wh_cancel(ask->pending); /* its callback frees the ask */
}

/* false: it cannot be a header field. */
static bool put_field(struct wh__ask *ask, const char *name, const char *value)
{
	for (const char *at = value; *at; at++) {
		if ((*at < ' ' && *at != '\t') || *at > '~')
			return false;
	}
	wh__ask_field(ask, name, value, strlen(value));
	return true;
}

static bool put_trace(struct wh__ask *ask, const struct wh_how *how)
{
	if (!how->traceparent)
		return true;
	return put_field(ask, "traceparent", how->traceparent) &&
	       (!how->tracestate || put_field(ask, "tracestate", how->tracestate));
}

struct wh__ask *wh__ask_new(wh_client *client, const char *method, const struct wh_how *how,
                            wh__ask_answer *answer, wh_future *ret_failed)
{
	static const struct wh_how defaults;
	struct wh__ask *ask;
	int64_t timeout_ns;

	if (!how)
		how = &defaults;
	if (how->level < WH_LEVEL_DEFAULT || how->level > WH_LEVEL_REMOTE_FLUSH) {
		*ret_failed = wh_failed(client->loop, -EINVAL);
		return NULL;
	}
	if (client->closed) {
		*ret_failed = wh_failed(client->loop, -ECANCELED);
		return NULL;
	}
	ask = calloc(1, sizeof(*ask));
	if (!ask) {
		*ret_failed = wh_failed(client->loop, -ENOMEM);
		return NULL;
	}
	ask->op = wh__begin(client->loop, WH__OP_CALL, ret_failed);
	if (!ask->op) {
		free(ask);
		return NULL;
	}
	ask->op->buf = ask;
	ask->op->cancel_inner = cancelled;
	ask->client = client;
	client->references++;
	client->in_flight++;
	ask->next = client->asks;
	ask->list = &client->asks;
	if (ask->next)
		ask->next->list = &ask->next;
	client->asks = ask;
	ask->method = method;
	ask->answer = answer;
	ask->changes = strcmp(method, "GET") != 0;
	ask->level = how->level;
	ask->receipt = how->receipt;
	ask->problem = how->problem;
	timeout_ns = how->timeout_ns != 0 ? how->timeout_ns : client->timeout_ns;
	ask->until =
		timeout_ns > 0 && timeout_ns < INT64_MAX / 2 ? wh_now(client->loop) + timeout_ns : INT64_MAX;
	wh__text_init(&ask->target, ask->target_given, sizeof(ask->target_given));
	wh__text_init(&ask->pages, NULL, 0);
	wh__text_init(&ask->fields, ask->fields_given, sizeof(ask->fields_given));
	if (put_trace(ask, how))
		return ask;
	*ret_failed = wh__ask_refuse(ask, -EINVAL);
	return NULL;
}

/* ---- the request --------------------------------------------------------------------------- */

void wh__ask_path(struct wh__ask *ask, const char *text)
{
	wh__text_str(&ask->target, text);
}

void wh__ask_segment(struct wh__ask *ask, const char *segment)
{
	static const char digits[] = "0123456789ABCDEF";

	for (; *segment; segment++) {
		uint8_t c = (uint8_t)*segment;
		bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		             c == '-' || c == '.' || c == '_';
		char coded[3] = {'%', digits[c >> 4], digits[c & 15]};

		wh__text_put(&ask->target, plain ? segment : coded, plain ? 1 : 3);
	}
}

struct wh__ask *wh__ask_named(wh_client *client, const char *method, const char *path, const char *name,
                              const struct wh_how *how, wh__ask_answer *answer, wh_future *ret_failed)
{
	struct wh__ask *ask = wh__ask_new(client, method, how, answer, ret_failed);

	if (!ask)
		return NULL;
	if (!name || !*name) {
		*ret_failed = wh__ask_refuse(ask, -EINVAL);
		return NULL;
	}
	wh__ask_path(ask, path);
	wh__ask_segment(ask, name);
	return ask;
}

void wh__ask_number(struct wh__ask *ask, uint64_t number)
{
	wh__text_u64(&ask->target, number);
}

void wh__ask_query(struct wh__ask *ask, const char *name)
{
	bool more = ask->target.data && memchr(ask->target.data, '?', ask->target.len);

	wh__text_put(&ask->target, more ? "&" : "?", 1);
	wh__text_str(&ask->target, name);
	wh__text_put(&ask->target, "=", 1);
}

/* Milliseconds, rounded up: the server counts in them, and shorter than asked for would be wrong. */
void wh__ask_duration(struct wh__ask *ask, int64_t ns)
{
	wh__text_u64(&ask->target, (uint64_t)((ns + WH_NS_PER_MS - 1) / WH_NS_PER_MS));
	wh__text_str(&ask->target, "ms");
}

void wh__ask_field(struct wh__ask *ask, const char *name, const char *value, size_t value_len)
{
	wh__text_put(&ask->fields, name, strlen(name) + 1);
	wh__text_put(&ask->fields, value, value_len);
	wh__text_put(&ask->fields, "", 1);
}

bool wh__ask_key(struct wh__ask *ask, const struct wh_how *how)
{
	const char *key = how ? how->key : NULL;
	size_t len = key ? strlen(key) : 0;
	struct wh__text *fields = &ask->fields;

	if (!key)
		return true;
	if (len == 0 || len > KEY_BYTES_MAX)
		return false;
	wh__text_put(fields, "Idempotency-Key", sizeof("Idempotency-Key"));
	wh__text_put(fields, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		if (key[i] <= ' ' || key[i] > '~')
			return false;
		if (key[i] == '"' || key[i] == '\\')
			wh__text_put(fields, "\\", 1);
		wh__text_put(fields, &key[i], 1);
	}
	wh__text_put(fields, "\"", 2); /* and the NUL */
	ask->keyed = true;
	return true;
}

void wh__ask_wait(struct wh__ask *ask, int64_t wait_ns)
{
	int64_t now = wh_now(ask->client->loop);

	if (wait_ns <= 0)
		return;
	ask->wait_until = wait_ns < INT64_MAX / 2 ? now + wait_ns : INT64_MAX;
	if (ask->until == INT64_MAX)
		return;
	ask->until = wait_ns < INT64_MAX / 2 ? ask->until + wait_ns : INT64_MAX;
}

bool wh__ask_is_waiting(const struct wh__ask *ask)
{
	return ask->wait_until > wh_now(ask->client->loop);
}

static size_t gather_fields(struct wh__ask *ask, struct wh_http_field *to, char *prefer, size_t prefer_size,
                            int64_t *ret_wait_ns)
{
	static const char *const levels[] = {NULL, "async", "local", "remote-write", "remote-flush"};
	const char *at = ask->fields.data, *end = at + ask->fields.len;
	int64_t seconds = 0;
	size_t n = 0;

	while (at < end) {
		size_t name_len = strlen(at), value_len = strlen(at + name_len + 1);
		to[n].name = (struct wh_slice){at, name_len};
		to[n++].value = (struct wh_slice){at + name_len + 1, value_len};
		at += name_len + value_len + 2;
	}
	if (ask->level != WH_LEVEL_DEFAULT) {
		const char *level = levels[ask->level];
		to[n].name = (struct wh_slice){"Whilst-Commit", 13};
		to[n++].value = (struct wh_slice){level, strlen(level)};
	}
	if (wh__ask_is_waiting(ask)) {
		int64_t ns = ask->wait_until - wh_now(ask->client->loop);
		if (ns > WAIT_PIECE_NS)
			ns = WAIT_PIECE_NS;
		seconds = (ns + WH_NS_PER_S - 1) / WH_NS_PER_S;
	}
	if (seconds > 0 || ask->prefer_async) {
		struct wh__text text;
		wh__text_init(&text, prefer, prefer_size);
		if (seconds > 0) {
			wh__text_str(&text, "wait=");
			wh__text_u64(&text, (uint64_t)seconds);
		} else {
			wh__text_str(&text, "respond-async");
		}
		to[n].name = (struct wh_slice){"Prefer", 6};
		to[n++].value = (struct wh_slice){prefer, text.len};
	}
	*ret_wait_ns = seconds * WH_NS_PER_S;
	return n;
}

static void pend(struct wh__ask *ask, wh_future f, wh_callback *callback)
{
	ask->pending = f;
	if (wh_then(f, callback, ask) == 0)
		return;
	/* a failure that has no slot, and no memory to tell it later */
	ask->pending.id = 0;
	wh__ask_fail(ask, -ENOMEM, -ENOMEM);
}

static void send_request(struct wh__ask *ask)
{
	struct wh_http_field fields[WH__ASK_FIELDS_MAX + 8];
	char prefer[32];
	int64_t wait_ns, now = wh_now(ask->client->loop);
	struct wh_http_request request = {
		.origin = ask->client->server,
		.method = ask->method,
		.target = ask->target.data,
		.fields = fields,
		.no_retry = ask->changes &&
	                    !ask->keyed, /* also of DELETE: the second would find the job cancelled */
		.failure = &ask->failure,
	};

	request.field_count = gather_fields(ask, fields, prefer, sizeof(prefer), &wait_ns);
	if (ask->client->token)
		fields[request.field_count++] = (struct wh_http_field){
			{"Whilst-Token", 12}, {ask->client->token, strlen(ask->client->token)}};
	request.first_byte_timeout_ns =
		ask->client->answer_timeout_ns > 0 ? ask->client->answer_timeout_ns + wait_ns : -1;
	if (ask->until != INT64_MAX)
		request.total_timeout_ns = ask->until > now ? ask->until - now : 1;
	if (ask->body) {
		ask->body->references++;
		request.body = ask->body->bytes;
		request.body_len = ask->body->len;
		request.release = body_unref;
		request.release_arg = ask->body;
	}
	ask->failure = (struct wh_http_failure){0};
	ask->asked_at = now;
	ask->client->requests++;
	pend(ask, wh_http_request(wait_ns > 0 ? ask->client->waits : ask->client->quick, &request),
	     on_answer);
}

wh_future wh__ask_start(struct wh__ask *ask)
{
	wh_future f = wh__op_future(ask->op);

	wh__text_put(&ask->target, "", 1);
	if (ask->target.failed || ask->fields.failed)
		return wh__ask_refuse(ask, -ENOMEM);
	send_request(ask);
	return f;
}

wh_future wh__ask_refuse(struct wh__ask *ask, int64_t error)
{
	wh_future f = wh__op_future(ask->op);

	wh__ask_fail(ask, error, error);
	return f;
}

void wh__ask_become_result(struct wh__ask *ask)
{
	ask->method = "GET";
	ask->changes = ask->keyed = ask->was_sent = ask->passes = ask->prefer_async = false;
	ask->by_result = true;
	ask->answer = wh__answer_result;
	wh__ask_drop_body(ask);
	ask->fields.len = 0;
	ask->target.len = 0;
	wh__text_str(&ask->target, "/v1/jobs/");
	wh__text_u64(&ask->target, ask->job);
	wh__text_put(&ask->target, "/result", sizeof("/result"));
	if (ask->target.failed) { /* unlikely: it is shorter than what it was */
		wh__ask_fail(ask, -ENOMEM, -ENOMEM);
		return;
	}
	wh__ask_wait(ask, ask->result_wait_ns);
	send_request(ask);
}

void wh__ask_page(struct wh__ask *ask)
{
	wh__text_put(&ask->target, "", 1);
	if (ask->target.failed)
		wh__ask_fail(ask, -ENOMEM, -ENOMEM);
	else
		send_request(ask);
}

/* ---- the ends ------------------------------------------------------------------------------ */

void wh__ask_end(struct wh__ask *ask, int64_t n, void *ptr, wh_disposer *dispose)
{
	struct wh__op *op = ask->op;

	ask->op = NULL;
	ask->client->in_flight--;
	op->dispose = dispose;
	wh__op_complete(op, n, ptr);
	free_ask(ask);
}

void wh__ask_fail(struct wh__ask *ask, int64_t error, int64_t cause)
{
	if (ask->problem) {
		const char *stage = ask->failure.error == cause && cause != 0 ? ask->failure.text : NULL;
		struct wh__text text;

		*ask->problem =
			(struct wh_problem){.error = error, .cause = cause, .job = ask->job, .action = -1};
		wh__text_init(&text, ask->problem->detail, sizeof(ask->problem->detail) - 1);
		if (error == -WH_ECALL_UNKNOWN) {
			wh__text_str(&text, wh_strerror(error));
			wh__text_str(&text, ": ");
		}
		wh__text_str(&text, stage ? stage : wh_strerror(cause));
		if (stage && ask->failure.error != -ETIMEDOUT) {
			wh__text_str(&text, ", ");
			wh__text_str(&text, wh_http_stage_name(ask->failure.stage));
		}
		if (stage && ask->failure.detail[0]) {
			wh__text_str(&text, ": ");
			wh__text_str(&text, ask->failure.detail);
		}
		if (text.data != ask->problem->detail)
			ask->problem->detail[0] = 0;
		wh__text_done(&text);
	}
	wh__ask_end(ask, error, NULL, NULL);
}

static void pause_then_send(struct wh__ask *ask, int64_t pause_ns)
{
	uint16_t jitter;

	wh_random(ask->client->loop, &jitter, sizeof(jitter));
	pause_ns = pause_ns / 2 + pause_ns / 2 * jitter / UINT16_MAX;
	pend(ask, wh_sleep(ask->client->loop, pause_ns), on_paused);
}

static int64_t pause_of(const struct wh__ask *ask)
{
	return ask->failures < 5 ? PAUSE_NS << ask->failures : PAUSE_MAX_NS;
}

void wh__ask_again(struct wh__ask *ask)
{
	int64_t took_ns = wh_now(ask->client->loop) - ask->asked_at;

	if (took_ns < HASTY_NS)
		pause_then_send(ask, 2 * PAUSE_NS);
	else
		send_request(ask);
}

void wh__ask_next(struct wh__ask *ask)
{
	send_request(ask);
}

/* The server is away: is there time to ask once more? */
static bool try_later(struct wh__ask *ask)
{
	int64_t now = wh_now(ask->client->loop), pause_ns = pause_of(ask);

	if (ask->client->retry_ns < 0 || ask->client->closed)
		return false;
	if (ask->retry_until == 0)
		ask->retry_until =
			ask->client->retry_ns < INT64_MAX / 2 ? now + ask->client->retry_ns : INT64_MAX;
	if (now + pause_ns > ask->retry_until || now + pause_ns > ask->until)
		return false;
	ask->failures++;
	ask->client->retries++;
	pause_then_send(ask, pause_ns);
	return true;
}

void wh__ask_garbled(struct wh__ask *ask, struct wh_http_response *response)
{
	int64_t error = ask->changes ? -WH_ECALL_UNKNOWN : -WH_EHTTP_SYNTAX;

	wh_http_response_free(response);
	wh__ask_fail(ask, error, -WH_EHTTP_SYNTAX);
}

void wh__ask_out_of_memory(struct wh__ask *ask, struct wh_http_response *response)
{
	wh_http_response_free(response);
	wh__ask_fail(ask, ask->changes ? -WH_ECALL_UNKNOWN : -ENOMEM, -ENOMEM);
}

void wh__ask_refused(struct wh__ask *ask, struct wh_http_response *response)
{
	struct wh_problem problem;
	int64_t error = wh__problem_read(response, &problem);

	wh_http_response_free(response);
	if (error == -WH_ECALL_DRAINING && try_later(ask))
		return;
	if (error == -WH_ECALL_NOT_READY && ask->by_result) {
		if (wh__ask_is_waiting(ask)) {
			wh__ask_again(ask);
			return;
		}
		if (ask->result_wait_ns > 0) {
			wh__result_not_ready(ask);
			return;
		}
	}
	/* what the server could not do it may have begun; and what stands in between knows nothing of that */
	if (ask->changes && problem.status >= 500 &&
	    (error == -WH_ECALL_INTERNAL || error == -WH_ECALL_REFUSED))
		error = -WH_ECALL_UNKNOWN;
	/* refused before anybody looked for the key, under which an earlier one may have been done */
	if (ask->was_sent && (problem.status >= 500 || problem.status == 401 || problem.status == 403 ||
	                      problem.status == 408))
		error = -WH_ECALL_UNKNOWN;
	problem.error = error;
	if (problem.job == 0)
		problem.job = ask->job;
	if (ask->problem)
		*ask->problem = problem;
	if (ask->receipt && problem.job > 0)
		ask->receipt->job = problem.job;
	wh__ask_end(ask, error, NULL, NULL);
}

/* ---- what comes back ----------------------------------------------------------------------- */

/* Nothing came back that could be from a server that is there, and the next moment may bring one. */
static bool is_passing(int64_t error)
{
	switch (-error) {
	case ECONNREFUSED:
	case ECONNRESET:
	case ECONNABORTED:
	case EPIPE:
	case ENOENT: /* a UNIX socket that is not there yet */
	case ENETUNREACH:
	case EHOSTUNREACH:
	case ENETDOWN:
	case EAGAIN: /* a UNIX socket whose queue is full */
	case WH_EHTTP_CLOSED:
	case WH_ETLS_TRUNCATED:
		return true;
	default:
		return false;
	}
}

static void no_answer(struct wh__ask *ask, int64_t error)
{
	bool sent = ask->failure.stage >= WH_HTTP_STAGE_SEND;

	if (error == -ECANCELED) {
		wh__ask_fail(ask, error, error);
		return;
	}
	ask->was_sent = ask->was_sent || (sent && ask->changes);
	/* a full line is no absent server */
	if ((!sent || !ask->changes || ask->keyed) && ask->failure.stage >= WH_HTTP_STAGE_CONNECT &&
	    is_passing(error) && try_later(ask))
		return;
	wh__ask_fail(ask, ask->was_sent ? -WH_ECALL_UNKNOWN : error, error);
}

static void on_answer(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__ask *ask = arg;
	struct wh_http_response *response = res.ptr;

	(void)loop;
	ask->pending.id = 0;
	if (!ask->op) {
		wh_http_response_free(response);
		free_ask(ask);
		return;
	}
	if (res.n < 0) {
		no_answer(ask, res.n);
		return;
	}
	if (response->status != 503) { /* it is there, and does not say that it is about to go */
		ask->retry_until = 0;
		ask->failures = 0;
	}
	if (response->status >= 400 && !wh_http_response_header(response, "Whilst-Job").data &&
	    (!ask->passes || wh__problem_is_ours(response)))
		wh__ask_refused(ask, response);
	else
		ask->answer(ask, response);
}

static void on_paused(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__ask *ask = arg;

	(void)loop;
	ask->pending.id = 0;
	if (!ask->op)
		free_ask(ask);
	else if (res.n < 0)
		wh__ask_fail(ask, res.n, res.n);
	else
		send_request(ask);
}
