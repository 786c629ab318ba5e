/* src/http/reply.c -- responses at the client: heads, bodies, their end.
 *
 * Thread: loop.  Memory: a response is one allocation with its head, and one for a collected body.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/body.h"
#include "http/client.h"

enum { SKIP_BYTES_MAX = 64 * 1024 };

static size_t input_left(const struct wh__http_link *link)
{
	return link->input->len - link->input_at;
}

static char *input_at(const struct wh__http_link *link)
{
	return (char *)link->input->data + link->input_at;
}

/* ---- heads -------------------------------------------------------------------------------- */

static struct wh_http_response *make_response(const wh_http_call *call, const struct wh__http_head *head,
                                              const char *bytes, size_t len)
{
	size_t count = head->field_count, url_len = call->url ? strlen(call->url) : 0;
	struct wh_http_response *response =
		malloc(sizeof(*response) + count * sizeof(struct wh_http_field) + len + url_len);
	struct wh_http_field *fields;
	char *copy;

	if (!response)
		return NULL;
	fields = (struct wh_http_field *)(response + 1);
	copy = (char *)(fields + count);
	memcpy(copy, bytes, len);
	for (size_t i = 0; i < count; i++) {
		const struct wh__http_field_span *span = &head->fields[i];

		fields[i].name = (struct wh_slice){copy + span->name.off, span->name.len};
		fields[i].value = (struct wh_slice){copy + span->value.off, span->value.len};
	}
	*response = (struct wh_http_response){
		.status = head->status,
		.version = head->version,
		.reason = {copy + head->reason.off, head->reason.len},
		.field_count = count,
		.fields = fields,
		.body = {"", 0},
		.body_length = head->flags & (WH__HTTP_CHUNKED | WH__HTTP_UNTIL_CLOSE)
	                               ? WH_HTTP_CHUNKED
	                               : (int64_t)head->content_length,
		.redirects = call->redirects,
	};
	if (call->url) {
		memcpy(copy + len, call->url, url_len);
		response->url = (struct wh_slice){copy + len, url_len};
	}
	return response;
}

struct wh_http_response *wh_http_response_free(struct wh_http_response *response)
{
	if (response && response->body.len > 0)
		free((void *)(uintptr_t)response->body.data);
	free(response);
	return NULL;
}

struct wh_slice wh_http_response_header(const struct wh_http_response *response, const char *name)
{
	for (size_t i = 0; i < response->field_count; i++)
		if (wh_slice_equal_caseless(response->fields[i].name, name))
			return response->fields[i].value;
	return (struct wh_slice){0};
}

static bool has_no_body(const wh_http_call *call, int status)
{
	return call->head_request || status == 204 || status == 304;
}

/* A proxy's answer to CONNECT. */
static void take_proxy_head(struct wh__http_link *link, int status)
{
	wh_http_call *call = link->call;

	if (status < 200)
		return; /* interim */
	call->proxy_status = status;
	if (status > 299)
		wh__http_call_fail(call, -WH_EHTTP_PROXY);
	else if (link->input_at < link->input->len)
		wh__http_call_fail(call, -WH_EHTTP_SYNTAX); /* nobody has been spoken to beyond it yet */
	else
		link->secure_next = true; /* once the buffer is let go */
}

static void take_interim_head(wh_http_call *call, int status)
{
	if (status == 100 && call->withheld)
		wh__http_call_proceed(call);
}

/* 417: the server does not do that. RFC 9110 section 10.1.1: once more, without. */
static bool send_unasked(wh_http_call *call)
{
	if (call->response->status != 417 || !call->withheld)
		return false;
	call->expects = false;
	if (wh__http_head_rewrite(call, NULL, false, false) != 0) {
		wh__http_call_fail(call, -ENOMEM);
		return true;
	}
	call->response = wh_http_response_free(call->response);
	wh__http_call_again(call, false);
	wh__http_call_begin(call);
	return true;
}

static bool is_empty(const wh_http_call *call)
{
	return !call->chunked_body && !call->until_close && call->body_left == 0;
}

/* true: the response is not for the user; the request goes elsewhere, or has failed. */
static bool redirected(wh_http_call *call)
{
	int result = wh__http_redirect_begin(call);

	if (result < 0)
		wh__http_call_fail(call, result);
	else if (result > 0 && (call->until_close || call->body_left > SKIP_BYTES_MAX))
		wh__http_redirect_follow(call, false);
	else if (result > 0 && is_empty(call))
		wh__http_call_complete(call);
	return result != 0;
}

static void take_framing(wh_http_call *call, const struct wh__http_head *head)
{
	call->keep_alive = head->flags & WH__HTTP_KEEP_ALIVE;
	call->chunked_body = head->flags & WH__HTTP_CHUNKED;
	call->until_close = head->flags & WH__HTTP_UNTIL_CLOSE;
	call->body_left = head->content_length;
	if (head->status == 101) {
		call->keep_alive = call->chunked_body = false;
		call->until_close = true;
		wh__http_call_upgrade(call);
	} else if (has_no_body(call, head->status)) {
		call->body_left = 0;
		call->chunked_body = call->until_close = false;
	}
}

static void take_head(struct wh__http_link *link, const char *bytes, size_t len)
{
	wh_http_call *call = link->call;
	wh_http_client *client = call->client;
	struct wh__http_head *head = &client->scratch;
	bool asked = call->stage == WH__HTTP_CALL_PROXY;
	const char *reason;
	int status = wh__http_parse_response(bytes, len, &client->limits, call->head_request || asked, head,
	                                     &reason);

	if (status != 0 || (head->status == 101 && (asked || !call->upgrade))) {
		wh__http_call_fail(call, status == 431 ? -WH_EHTTP_TOO_LARGE : -WH_EHTTP_SYNTAX);
		return;
	}
	if (asked) {
		take_proxy_head(link, head->status);
		return;
	}
	if (head->status < 200 && head->status != 101) {
		take_interim_head(call, head->status);
		return; /* the next head follows */
	}
	call->response = make_response(call, head, bytes, len);
	if (!call->response) {
		wh__http_call_fail(call, -ENOMEM);
		return;
	}
	if (send_unasked(call))
		return;
	take_framing(call, head);
	call->stage = WH__HTTP_CALL_BODY;
	if (redirected(call))
		return;
	if (call->whole && call->body_left > call->body_max) {
		wh__http_call_fail(call, -WH_EHTTP_TOO_LARGE);
		return;
	}
	wh__http_call_answered(call);
	if (is_empty(call))
		wh__http_call_complete(call);
}

static bool hold(struct wh__http_link *link, const char *data, size_t len)
{
	if (link->held_len + len > link->held_cap) {
		size_t cap = (link->held_len + len) * 2;
		char *held = realloc(link->held, cap);

		if (!held)
			return false;
		link->held = held;
		link->held_cap = (uint32_t)cap;
	}
	memcpy(link->held + link->held_len, data, len);
	link->held_len += (uint32_t)len;
	return true;
}

static void read_head(struct wh__http_link *link)
{
	wh_http_call *call = link->call;
	const char *data = input_at(link), *reason;
	size_t consumed, skipped;
	bool end;
	int status = wh__http_scan(&link->scan, &call->client->limits, data, input_left(link), &consumed,
	                           &skipped, &end, &reason);

	if (status != 0) {
		wh__http_call_fail(call,
		                   status == 431 || status == 414 ? -WH_EHTTP_TOO_LARGE : -WH_EHTTP_SYNTAX);
		return;
	}
	link->input_at += (uint32_t)consumed;
	if (skipped > 0)
		link->held_len = 0;
	data += skipped;
	consumed -= skipped;
	if (end && link->held_len == 0) {
		take_head(link, data, consumed);
	} else if (!hold(link, data, consumed)) {
		wh__http_call_fail(call, -ENOMEM);
	} else if (end) {
		char *held = link->held;
		size_t len = link->held_len;

		link->held = NULL;
		link->held_len = link->held_cap = 0;
		take_head(link, held, len);
		free(held);
	}
}

/* ---- bodies ------------------------------------------------------------------------------- */

/* The next bytes of the body, decoded in place and used up. 0 goes on, 1 was the last, or -errno. */
static int take_content(struct wh__http_link *link, char **ret_data, size_t *ret_len)
{
	wh_http_call *call = link->call;
	size_t len = input_left(link), consumed = len;
	const char *reason;
	int status = 0;

	*ret_data = input_at(link);
	*ret_len = len;
	if (call->chunked_body) {
		status = wh__http_chunked(&call->chunked, *ret_data, len, &consumed, ret_len, &reason);
		if (status > 1)
			return -WH_EHTTP_SYNTAX;
	} else if (!call->until_close) {
		*ret_len = consumed = len < call->body_left ? len : (size_t)call->body_left;
		call->body_left -= consumed;
		status = call->body_left == 0;
	}
	link->input_at += (uint32_t)consumed;
	return status;
}

static bool append_body(wh_http_call *call, const char *data, size_t len)
{
	struct wh_http_response *response = call->response;
	size_t have = response->body.len;
	char *body = have > 0 ? (char *)(uintptr_t)response->body.data : NULL;

	if (len == 0)
		return true;
	if (have + len > call->body_cap) {
		size_t cap = call->body_cap * 2, whole = have + len + (size_t)call->body_left;

		cap = cap < 4096 ? 4096 : cap;
		cap = cap < have + len ? have + len : cap;
		if (!call->chunked_body && !call->until_close && cap > whole)
			cap = whole;
		char *larger = realloc(body, cap);
		if (!larger)
			return false;
		body = larger;
		call->body_cap = cap;
	}
	memcpy(body + have, data, len);
	response->body = (struct wh_slice){body, have + len};
	return true;
}

static void collect(struct wh__http_link *link)
{
	wh_http_call *call = link->call;
	char *data;
	size_t len;
	int status = take_content(link, &data, &len);

	if (status < 0)
		wh__http_call_fail(call, status);
	else if (call->response->body.len + len > call->body_max)
		wh__http_call_fail(call, -WH_EHTTP_TOO_LARGE);
	else if (!append_body(call, data, len))
		wh__http_call_fail(call, -ENOMEM);
	else if (status == 1)
		wh__http_call_complete(call);
}

static void stream(struct wh__http_link *link)
{
	wh_http_call *call = link->call;
	struct wh__op *read = call->read;
	struct wh_buf *buf;
	char *data;
	size_t len;
	int status = take_content(link, &data, &len);

	if (status < 0) {
		wh__http_call_fail(call, status);
		return;
	}
	if (len > 0) {
		buf = wh__http_body_piece(call->client->loop, &link->input, link->input_at, data, len);
		if (!buf) {
			wh__http_call_fail(call, -ENOBUFS);
			return;
		}
		call->read = NULL;
		wh__op_complete(read, (int64_t)len, buf);
	}
	if (status == 1)
		wh__http_call_complete(call);
}

/* The content of a redirect is read over, so that the connection can be used again, if there is not too much of it. */
static void skip(struct wh__http_link *link)
{
	wh_http_call *call = link->call;
	char *data;
	size_t len;
	int status = take_content(link, &data, &len);

	call->skipped_bytes += (uint32_t)len;
	if (status < 0 || call->skipped_bytes > SKIP_BYTES_MAX)
		wh__http_redirect_follow(call, false);
	else if (status == 1)
		wh__http_call_complete(call);
}

/* Is what has come of use now? */
static bool is_wanted(const wh_http_call *call)
{
	return call->stage == WH__HTTP_CALL_PROXY || call->stage == WH__HTTP_CALL_HEAD ||
	       (call->stage == WH__HTTP_CALL_BODY && (call->whole || call->read || call->location));
}

void wh__http_reply_advance(struct wh__http_link *link)
{
	while (link->call && !link->down) {
		wh_http_call *call = link->call;

		if (link->input && link->input_at == link->input->len)
			link->input = wh_buf_put(link->input);
		if (link->secure_next && !link->input) {
			link->secure_next = false;
			call->received_any = false;
			wh__http_link_secure(link);
			return;
		}
		if (!link->input || !is_wanted(call))
			break;
		if (call->stage != WH__HTTP_CALL_BODY)
			read_head(link);
		else if (call->location)
			skip(link);
		else if (call->whole)
			collect(link);
		else
			stream(link);
	}
	if (link->call)
		wh__http_link_receive(link);
}

void wh__http_reply_eof(struct wh__http_link *link)
{
	wh_http_call *call = link->call;

	if (call->stage == WH__HTTP_CALL_BODY && call->until_close)
		wh__http_call_complete(call);
	else if (call->stage == WH__HTTP_CALL_BODY && call->location)
		wh__http_redirect_follow(call, false);
	else if (call->stage <= WH__HTTP_CALL_BODY)
		wh__http_call_fail(call, -WH_EHTTP_CLOSED);
}
