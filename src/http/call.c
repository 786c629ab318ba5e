/* src/http/call.c -- one request and its response at the client: begun, sent, tried again, ended.
 *
 * Thread: loop.  Memory: a call goes with its last reference: the user's (or the future's), and one for each piece of
 * output that lies in it, so that what a send borrows outlives a cancelled call.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/client.h"
#include "http/message.h"
#include "http/writes.h"

enum { COPY_MAX = 4096, REDIRECTS_OF_GET = 10 };

/* ---- life --------------------------------------------------------------------------------- */

void wh__http_call_unref(wh_http_call *call)
{
	wh_http_client *client = call->client;

	assert(call->references > 0);
	if (--call->references > 0)
		return;
	assert(!call->link && !call->writes && !call->read && !call->answered && !call->result);
	*call->list = call->next;
	if (call->next)
		call->next->list = call->list;
	wh__http_chain_clear(&call->early);
	wh_http_response_free(call->response);
	if (call->release)
		call->release(call->release_arg);
	call->origin->call_count--;
	free(call->url);
	free(call->location);
	free(call->head);
	free(call);
	wh__http_client_release(client);
}

static void unref_piece(void *arg)
{
	wh__http_call_unref(arg);
}

static void unqueue(wh_http_call *call)
{
	struct wh__http_origin *origin = call->origin;
	wh_http_call **link, *before = NULL;

	for (link = &origin->waiting_first; *link && *link != call; link = &(*link)->next_waiting)
		before = *link;
	if (!*link)
		return;
	*link = call->next_waiting;
	if (origin->waiting_last == call)
		origin->waiting_last = before;
	origin->waiting_count--;
}

static void complete_op(struct wh__op **op, int64_t n, void *ptr)
{
	struct wh__op *done = *op;

	*op = NULL;
	if (done)
		wh__op_complete(done, n, ptr);
}

/* Both halves are over, well or not: the connection is free, and nothing times out any more. */
static void finish(wh_http_call *call, bool reusable)
{
	if (call->ended)
		return;
	call->ended = true;
	wh__http_client_node_remove(call->client, &call->node);
	if (call->link)
		wh__http_link_done(call->link, reusable);
	if (call->whole)
		wh__http_call_unref(call);
}

static bool may_retry(const wh_http_call *call, int64_t error)
{
	return error != -ECANCELED && error != -ETIMEDOUT && call->link && call->link->reused &&
	       call->stage == WH__HTTP_CALL_HEAD && !call->received_any && !call->no_retry &&
	       !call->retried && call->request_done && !call->chunked_request &&
	       (call->whole || call->request_left == 0) && !call->early_bytes && !call->client->closed &&
	       (call->idempotent || !call->sent_any);
}

void wh__http_call_fail(wh_http_call *call, int64_t error)
{
	if (call->ended || call->stage == WH__HTTP_CALL_FAILED)
		return;
	if (may_retry(call, error)) {
		wh__http_call_again(call, false);
		call->retried = true;
		call->client->stats.retries++;
		wh__http_call_begin(call);
		return;
	}
	wh__http_failure_note(call, error);
	if (call->stage == WH__HTTP_CALL_WAITING)
		unqueue(call);
	if (call->stage != WH__HTTP_CALL_COMPLETE) {
		call->stage = WH__HTTP_CALL_FAILED;
		call->error = error;
		complete_op(&call->answered, error, NULL);
		complete_op(&call->read, error, NULL);
		complete_op(&call->result, error, NULL);
	}
	wh__http_call_writable(call, error);
	finish(call, false);
}

void wh__http_call_answered(wh_http_call *call)
{
	if (call->answered) {
		call->response_taken = true;
		complete_op(&call->answered, call->response->status, call->response);
	}
}

void wh__http_call_maybe_finish(wh_http_call *call)
{
	const struct wh__http_link *link = call->link;

	if (call->stage != WH__HTTP_CALL_COMPLETE || !call->request_done)
		return;
	/* the last bytes of a stream are as good as the first */
	if (call->upgraded && link && (link->is_sending || link->output.first || link->sending.first))
		return;
	finish(call, call->keep_alive && !call->withheld);
}

void wh__http_call_complete(wh_http_call *call)
{
	if (call->location) {
		wh__http_redirect_follow(call, call->keep_alive && call->request_done && !call->withheld);
		return;
	}
	call->stage = WH__HTTP_CALL_COMPLETE;
	complete_op(&call->read, 0, NULL);
	if (call->whole) {
		struct wh_http_response *response = call->response;

		call->response = NULL;
		if (call->result)
			complete_op(&call->result, response->status, response);
		else
			wh_http_response_free(response);
	}
	wh__http_call_maybe_finish(call);
}

/* ---- connection and time ------------------------------------------------------------------ */

void wh__http_call_stage(wh_http_call *call, enum wh__http_call_stage stage)
{
	call->stage = (uint8_t)stage;
	call->begun_at = wh_now(call->client->loop);
	wh__http_deadlines_move(&call->client->deadlines, &call->node.hang, wh__http_call_deadline(call));
}

void wh__http_call_again(wh_http_call *call, bool reusable)
{
	if (call->link)
		wh__http_link_done(call->link, reusable);
	wh__http_call_stage(call, WH__HTTP_CALL_WAITING);
	call->sent_any = call->received_any = call->retried = call->withheld = false;
	call->chunked = (struct wh__http_chunked){0};
	call->body_left = 0;
	call->skipped_bytes = 0;
	if (call->body_length == 0) {
		call->request_left = 0;
		call->chunked_request = false;
		call->request_done = true;
	}
}

void wh__http_call_begin(wh_http_call *call)
{
	struct wh__http_origin *origin = call->origin;
	wh_http_client *client = call->client;

	if (origin->idle && !call->retried) {
		wh__http_link_attach(origin->idle, call);
	} else if (origin->link_count < client->options.connections_max) {
		if (!wh__http_link_open(origin, call))
			wh__http_call_fail(call, -ENOMEM);
	} else if (origin->waiting_count >= client->options.waiting_max) {
		wh__http_call_fail(call, -EAGAIN);
	} else {
		wh__http_call_stage(call, WH__HTTP_CALL_WAITING);
		if (origin->waiting_last)
			origin->waiting_last->next_waiting = call;
		else
			origin->waiting_first = call;
		origin->waiting_last = call;
		origin->waiting_count++;
	}
}

static bool put_bytes(wh_http_call *call, const void *bytes, size_t len)
{
	struct wh__http_chain *output = &call->link->output;

	call->link->output_bytes += len;
	if (len <= COPY_MAX)
		return wh__http_chain_copy(output, call->client->loop, bytes, len);
	if (!wh__http_chain_take(output, bytes, len, unref_piece, call))
		return false;
	call->references++;
	return true;
}

/* The body, or as much of it as has been written so far. */
static void send_body(wh_http_call *call)
{
	struct wh__http_link *link = call->link;

	if (!put_bytes(call, call->body, call->body_len)) {
		wh__http_call_fail(call, -ENOMEM);
		return;
	}
	wh__http_chain_append(&link->output, &call->early);
	link->output_bytes += call->early_bytes;
	wh__http_link_mark(link);
	if (link->output_bytes < WH__HTTP_CLIENT_OUTPUT_MAX)
		wh__http_call_writable(call, 0);
}

void wh__http_call_send(wh_http_call *call)
{
	struct wh__http_link *link = call->link;

	call->stage = WH__HTTP_CALL_HEAD;
	call->sent_at = wh_now(call->client->loop);
	link->output_bytes += call->head_len;
	if (!wh__http_chain_copy(&link->output, call->client->loop, call->head, call->head_len)) {
		wh__http_call_fail(call, -ENOMEM);
		return;
	}
	call->withheld = call->expects;
	wh__http_deadlines_move(&call->client->deadlines, &call->node.hang, wh__http_call_deadline(call));
	wh__http_link_mark(link);
	wh__http_link_receive(link);
	if (!call->withheld)
		send_body(call);
}

void wh__http_call_proceed(wh_http_call *call)
{
	call->withheld = false;
	call->sent_at = wh_now(call->client->loop);
	wh__http_deadlines_move(&call->client->deadlines, &call->node.hang, wh__http_call_deadline(call));
	send_body(call);
}

static int64_t after(int64_t at, int64_t timeout_ns)
{
	return timeout_ns < 0 ? INT64_MAX : at + timeout_ns;
}

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t stage_deadline(const wh_http_call *call)
{
	const struct wh_http_client_options *o = &call->client->options;
	int64_t at = INT64_MAX;

	switch ((enum wh__http_call_stage)call->stage) {
	case WH__HTTP_CALL_WAITING:
		return after(call->begun_at, o->waiting_timeout_ns);
	case WH__HTTP_CALL_CONNECTING:
		return after(call->begun_at, call->connect_ns);
	case WH__HTTP_CALL_PROXY:
		return after(call->begun_at, o->proxy_timeout_ns);
	case WH__HTTP_CALL_TLS:
		return after(call->begun_at, o->tls_timeout_ns);
	case WH__HTTP_CALL_HEAD:
		if (call->link->is_sending)
			return after(call->sent_at, o->send_timeout_ns);
		if (call->withheld)
			return after(call->sent_at, o->continue_timeout_ns);
		return call->request_done ? after(call->sent_at, call->first_byte_ns) : INT64_MAX;
	case WH__HTTP_CALL_BODY:
		if (call->link->is_sending)
			at = after(call->sent_at, o->send_timeout_ns);
		if ((call->whole || call->read || call->location) && !call->upgraded)
			at = sooner(at, after(call->active_at, o->read_timeout_ns));
		return at;
	default:
		return INT64_MAX;
	}
}

int64_t wh__http_call_deadline(const wh_http_call *call)
{
	int64_t at = stage_deadline(call);

	/* the total is over once the answer is; a stream has no end to wait for */
	if (call->total_ns <= 0 || call->stage >= WH__HTTP_CALL_COMPLETE || call->upgraded)
		return at;
	return sooner(at, call->started_at + call->total_ns);
}

/* ---- the request -------------------------------------------------------------------------- */

/* What the request says, but for its head. */
static void take_settings(wh_http_call *call, const struct wh_http_request *r, int64_t body_length)
{
	const struct wh_http_client_options *o = &call->client->options;

	call->body_length = call->request_left = body_length;
	call->chunked_request = body_length < 0;
	call->request_done = body_length == 0;
	call->expects = r->expect_continue && body_length != 0;
	call->upgrade = r->upgrade;
	call->no_retry = r->no_retry;
	call->redirects_max = r->redirects_max;
	call->redirect_insecure = r->redirect_insecure;
	call->first_byte_ns = r->first_byte_timeout_ns ? r->first_byte_timeout_ns : o->first_byte_timeout_ns;
	call->connect_ns = r->connect_timeout_ns ? r->connect_timeout_ns : o->connect_timeout_ns;
	call->total_ns = r->total_timeout_ns ? r->total_timeout_ns : o->total_timeout_ns;
	call->body_max = r->response_body_max ? r->response_body_max : o->body_bytes_max;
	call->started_at = call->begun_at = wh_now(call->client->loop);
	call->ret_failure = r->failure;
}

/* The URL that is asked, if the answer is to tell it or to be followed. */
static int take_url(wh_http_call *call, const struct wh_http_request *r, const struct wh__http_place *place)
{
	const char *target = r->target ? r->target : "/";
	char origin[WH__HTTP_ORIGIN_BYTES_MAX];

	if (r->url) {
		const struct wh_http_url *url = &place->url;
		size_t fragment = url->fragment.data ? url->fragment.len + 1 : 0;

		call->url = strndup(r->url, strlen(r->url) - fragment);
		if (call->url &&
		    url->userinfo.data) { /* a secret: answers tell their URL, and URLs are logged */
			char *at = call->url + (url->userinfo.data - r->url),
			     *host = at + url->userinfo.len + 1;

			memmove(at, host, strlen(host) + 1);
		}
	} else if (place->has_url && r->redirects_max > 0) {
		size_t n = wh__http_url_origin(&place->url, origin);

		call->url = malloc(n + strlen(target) + 1);
		if (call->url)
			(void)stpcpy(stpcpy(call->url, origin), strcmp(target, "*") == 0 ? "" : target);
	} else {
		return 0;
	}
	return call->url ? 0 : -ENOMEM;
}

static int call_new(wh_http_client *client, const struct wh_http_request *r, int64_t body_length,
                    wh_http_call **ret)
{
	struct wh__http_place place;
	wh_http_call *call;
	int error;

	if (!r || body_length < WH_HTTP_CHUNKED || (r->upgrade && body_length != 0))
		return -EINVAL;
	if (client->closed)
		return -ECANCELED;
	call = calloc(1, sizeof(*call));
	if (!call)
		return -ENOMEM;
	call->client = client;
	take_settings(call, r, body_length);
	error = wh__http_place_find(client, r, &place);
	if (error == 0)
		error = wh__http_head_write(call, r, &place);
	if (error == 0)
		error = take_url(call, r, &place);
	if (error != 0) {
		free(call->url);
		free(call->head);
		free(call);
		return error;
	}
	call->origin = place.origin;
	call->origin->call_count++;
	call->node.is_call = true;
	call->references = 1;
	call->next = client->calls;
	call->list = &client->calls;
	if (call->next)
		call->next->list = &call->next;
	client->calls = call;
	client->references++;
	client->stats.requests++;
	*ret = call;
	return 0;
}

/* ---- whole -------------------------------------------------------------------------------- */

static int take_body(wh_http_call *call, const struct wh_http_request *r)
{
	char *copy;

	call->body_len = r->body_len;
	call->body = r->body;
	if (r->release) {
		call->release = r->release;
		call->release_arg = r->release_arg;
		return 0;
	}
	if (r->body_len == 0)
		return 0;
	copy = malloc(r->body_len);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, r->body, r->body_len);
	call->body = copy;
	call->release = free;
	call->release_arg = copy;
	return 0;
}

static void result_cancelled(struct wh__op *op)
{
	wh__http_call_fail(op->buf, -ECANCELED);
}

static void free_result(wh_res res, void *arg)
{
	wh_http_response_free(res.ptr);
}

wh_future wh_http_request(wh_http_client *client, const struct wh_http_request *request)
{
	struct wh__op *op;
	wh_http_call *call;
	wh_future f;
	int error = request && request->upgrade
	                    ? -EINVAL
	                    : call_new(client, request, request ? (int64_t)request->body_len : 0, &call);

	if (error != 0) {
		if (request && request->release)
			request->release(request->release_arg);
		return wh_failed(client->loop, error);
	}
	call->whole = true;
	call->request_done = true;
	error = take_body(call, request);
	op = error == 0 ? wh__op_new(client->loop, WH__OP_HTTP) : NULL;
	if (!op) {
		call->ended = true;
		wh__http_call_unref(call);
		return wh_failed(client->loop, error != 0 ? error : -EAGAIN);
	}
	op->buf = call;
	op->cancel_inner = result_cancelled;
	op->dispose = free_result;
	f = wh__op_future(op);
	call->result = op;
	wh__http_deadlines_add(&client->deadlines, &call->node.hang);
	wh__http_call_begin(call);
	return f;
}

wh_future wh_http_get(wh_http_client *client, const char *url, uint64_t body_max)
{
	struct wh_http_request request = {
		.url = url, .redirects_max = REDIRECTS_OF_GET, .response_body_max = body_max};

	return wh_http_request(client, &request);
}

/* ---- in pieces ---------------------------------------------------------------------------- */

int wh_http_call_open(wh_http_client *client, const struct wh_http_request *request, int64_t body_length,
                      wh_http_call **ret)
{
	wh_http_call *call;
	int error;

	if (!request || request->body)
		return -EINVAL;
	error = call_new(client, request, body_length, &call);
	if (error != 0)
		return error;
	wh__http_deadlines_add(&client->deadlines, &call->node.hang);
	*ret = call;
	wh__http_call_begin(call);
	return 0;
}

void wh__http_call_writable(wh_http_call *call, int64_t result)
{
	wh__http_writes_end(&call->writes, result);
}

static struct wh__http_chain *output_of(wh_http_call *call)
{
	return call->link && call->stage >= WH__HTTP_CALL_HEAD && !call->withheld ? &call->link->output
	                                                                          : &call->early;
}

static void count_output(wh_http_call *call, size_t len)
{
	if (output_of(call) == &call->early)
		call->early_bytes += len;
	else
		call->link->output_bytes += len;
}

static struct wh__op *new_op(wh_http_call *call, void (*cancelled)(struct wh__op *op))
{
	struct wh__op *op = wh__op_new(call->client->loop, WH__OP_HTTP);

	if (op) {
		op->buf = call;
		op->cancel_inner = cancelled;
	}
	return op;
}

static wh_future written(wh_http_call *call)
{
	bool early = output_of(call) == &call->early;
	size_t unsent = early ? call->early_bytes : call->link->output_bytes;

	if (!early)
		wh__http_link_mark(call->link);
	return wh__http_writes_wait(call->client->loop, &call->writes, unsent < WH__HTTP_CLIENT_OUTPUT_MAX);
}

/* 0: the bytes may go; 1: nothing to send; or -errno. */
static int64_t check_write(wh_http_call *call, size_t len)
{
	if (call->stage == WH__HTTP_CALL_FAILED)
		return call->error;
	if (call->ended)
		return -EPIPE; /* the server has answered and does not want the rest */
	if (call->request_done)
		return len > 0 ? -EMSGSIZE : 1;
	if (len == 0)
		return 1;
	if (!call->chunked_request) {
		if (len > (uint64_t)call->request_left)
			return -EMSGSIZE;
		call->request_left -= (int64_t)len;
	}
	return 0;
}

static bool put_framing(wh_http_call *call, const char *format, size_t len)
{
	char line[24];
	int n;

	if (!call->chunked_request)
		return true;
	n = snprintf(line, sizeof(line), "%zx\r\n", len);
	if (!format)
		memcpy(line, "\r\n", (size_t)(n = 2));
	count_output(call, (size_t)n);
	return wh__http_chain_copy(output_of(call), call->client->loop, line, (size_t)n);
}

static void request_over(wh_http_call *call)
{
	call->request_done = true;
	call->sent_at = wh_now(call->client->loop);
	if (call->link) {
		wh__http_link_mark(call->link);
		wh__http_deadlines_move(&call->client->deadlines, &call->node.hang,
		                        wh__http_call_deadline(call));
	}
	wh__http_call_maybe_finish(call);
}

static wh_future write_bytes(wh_http_call *call, const void *bytes, struct wh_buf *buf, size_t len)
{
	wh_loop *loop = call->client->loop;
	bool ok = put_framing(call, "%zx", len);
	wh_future f;

	if (buf && ok)
		ok = wh__http_chain_take_buf(output_of(call), buf);
	else if (buf)
		wh_buf_put(buf);
	else if (ok)
		ok = wh__http_chain_copy(output_of(call), loop, bytes, len);
	if (!ok || !put_framing(call, NULL, 0)) {
		wh__http_call_fail(call, -ENOMEM);
		return wh_failed(loop, -ENOMEM);
	}
	count_output(call, len);
	f = written(call);
	if (call->request_left == 0)
		request_over(call);
	return f;
}

wh_future wh_http_call_write(wh_http_call *call, const void *bytes, size_t len)
{
	int64_t error = check_write(call, len);

	if (error < 0)
		return wh_failed(call->client->loop, error);
	return error == 1 ? written(call) : write_bytes(call, bytes, NULL, len);
}

wh_future wh_http_call_write_buf(wh_http_call *call, struct wh_buf *buf)
{
	int64_t error = check_write(call, buf->len);

	if (error == 0)
		return write_bytes(call, NULL, buf, buf->len);
	wh_buf_put(buf);
	return error < 0 ? wh_failed(call->client->loop, error) : written(call);
}

void wh_http_call_end(wh_http_call *call)
{
	if (call->request_done || call->ended)
		return;
	if (call->upgraded) {
		call->link->shut = true;
		request_over(call);
		return;
	}
	if (!call->chunked_request) {
		wh__http_call_fail(call, -EMSGSIZE);
		return;
	}
	count_output(call, 5);
	if (!wh__http_chain_copy(output_of(call), call->client->loop, "0\r\n\r\n", 5))
		wh__http_call_fail(call, -ENOMEM);
	else
		request_over(call);
}

static void response_cancelled(struct wh__op *op)
{
	wh_http_call *call = op->buf;

	call->answered = NULL;
	wh__op_complete(op, -ECANCELED, NULL);
}

wh_future wh_http_call_response(wh_http_call *call)
{
	struct wh__op *op;
	wh_future f;

	if (call->response_taken || call->answered)
		return wh_failed(call->client->loop, -EALREADY);
	if (call->stage == WH__HTTP_CALL_FAILED && !call->response)
		return wh_failed(call->client->loop, call->error);
	op = new_op(call, response_cancelled);
	if (!op)
		return wh_failed(call->client->loop, -EAGAIN);
	f = wh__op_future(op);
	call->answered = op;
	if (call->response)
		wh__http_call_answered(call);
	return f;
}

static void read_cancelled(struct wh__op *op)
{
	wh_http_call *call = op->buf;

	call->read = NULL;
	wh__op_complete(op, -ECANCELED, NULL);
}

static void put_piece(wh_res res, void *arg)
{
	wh_buf_put(res.ptr);
}

wh_future wh_http_call_read(wh_http_call *call)
{
	struct wh__http_link *link = call->link;
	wh_loop *loop = call->client->loop;
	struct wh__op *op;
	wh_future f;

	if (call->read)
		return wh_failed(loop, -EBUSY);
	if (call->stage == WH__HTTP_CALL_FAILED)
		return wh_failed(loop, call->error);
	if (!call->response)
		return wh_failed(loop, -EINVAL);
	op = new_op(call, read_cancelled);
	if (!op)
		return wh_failed(loop, -EAGAIN);
	op->dispose = put_piece;
	f = wh__op_future(op);
	if (call->stage == WH__HTTP_CALL_COMPLETE) {
		wh__op_complete(op, 0, NULL);
		return f;
	}
	call->read = op;
	call->active_at = wh_now(loop);
	if (link->input && link->input_at < link->input->len) { /* no need to wait for what is here */
		link->references++;
		wh__http_reply_advance(link);
		wh__http_link_unref(link);
	} else {
		wh__http_link_mark(link);
	}
	return f;
}

void wh__http_call_upgrade(wh_http_call *call)
{
	call->upgraded = true;
	call->request_done = false;
	call->request_left = INT64_MAX;
}

bool wh_http_call_upgraded(const wh_http_call *call)
{
	return call->upgraded;
}

wh_http_call *wh_http_call_close(wh_http_call *call)
{
	if (!call)
		return NULL;
	assert(!call->closed && !call->whole);
	call->closed = true;
	call->no_retry = true;
	wh__http_call_fail(call, -ECANCELED);
	complete_op(&call->read, -ECANCELED, NULL);
	complete_op(&call->answered, -ECANCELED, NULL);
	wh__http_call_writable(call, -ECANCELED);
	wh__http_call_unref(call);
	return NULL;
}
