/* src/front/relay.c -- calls that pass through: streamed both ways, one attempt, no job.
 *
 * Each direction moves one piece at a time and asks for the next when the last has been taken, so whoever is
 * slow, client or backend, slows the other down and nothing piles up here. Nothing is answered on the backend's
 * behalf: what it breaks off is broken off for the client too.
 * Memory: a relay lives until it has ended and its last callback has come.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "deliver/message.h"
#include "front/gateway.h"

struct relay {
	struct api *api;
	wh_http_exchange *x; /* NULL: answered */
	wh_http_call *call;
	struct service *service;
	unsigned pending;   /* callbacks to come */
	bool started;       /* the head of the answer is out */
	bool head;          /* HEAD: no body follows */
	bool upload_broken; /* the client's body ended badly */
	int upload_status;
};

static void read_up(struct relay *relay);
static void read_down(struct relay *relay);

static void then(struct relay *relay, wh_future future, wh_callback *callback)
{
	relay->pending++;
	if (wh_then(future, callback, relay) != 0)
		(void)!wh_then(wh_failed(relay->api->loop, -ENOMEM), callback, relay);
}

/* Free when nothing is to come; the exchange must have been answered. */
static void unref(struct relay *relay)
{
	struct api *api = relay->api;

	if (--relay->pending > 0 || relay->x)
		return;
	wh_http_call_close(relay->call);
	service_unref(relay->service);
	free(relay);
	api->calls_count--;
	front_check_drained(api);
}

/* The exchange has had its answer: what is still under way at the backend ends. */
static void end(struct relay *relay)
{
	relay->x = NULL;
	relay->call = wh_http_call_close(relay->call);
}

static void refuse(struct relay *relay, int64_t error)
{
	char duration[WH__DURATION_TEXT_BYTES];
	const char *name = relay->service->name, *origin = relay->service->origin;
	wh_http_exchange *x = relay->x;

	if (relay->upload_broken)
		answer_problem(relay->api, x,
		               relay->upload_status == 408 ? PROBLEM_REQUEST_TIMEOUT : PROBLEM_BAD_REQUEST,
		               NULL, "the body of the request did not arrive whole");
	else if (error == -ETIMEDOUT)
		answer_problem(relay->api, x, PROBLEM_BACKEND_TIMEOUT, NULL,
		               "service '%s': no answer from %s within %.*s", name, origin,
		               (int)wh__put_duration(duration, relay->service->timeout_ns), duration);
	else if (error == -ECONNREFUSED || error == -EHOSTUNREACH || error == -ENETUNREACH ||
	         error == -EADDRNOTAVAIL || error == -ENOENT || error == -EMFILE || error == -EAGAIN ||
	         error == -WH_ENAME_UNKNOWN || error == -WH_ENAME_NO_ADDRESS || error == -WH_ENAME_SERVER)
		answer_problem(relay->api, x, PROBLEM_BACKEND_UNREACHABLE, NULL, "service '%s': %s: %s", name,
		               origin, wh_strerror(error));
	else
		answer_problem(relay->api, x, PROBLEM_BACKEND_ERROR, NULL, "service '%s': %s: %s", name,
		               origin, wh_strerror(error));
	end(relay);
}

static void client_left(void *arg)
{
	struct relay *relay = arg;

	if (!relay->x)
		return;
	relay->pending++;
	wh_http_abort(relay->x);
	end(relay);
	unref(relay);
}

/* ---- to the backend ---------------------------------------------------------------------- */

static void written_up(wh_loop *loop, wh_res res, void *arg)
{
	struct relay *relay = arg;

	/* a write that fails says nothing new: the backend may have answered early, which comes by its response */
	if (relay->x && res.n >= 0)
		read_up(relay);
	unref(relay);
}

static void got_up(wh_loop *loop, wh_res res, void *arg)
{
	struct relay *relay = arg;

	if (!relay->x) {
		if (res.n > 0)
			wh_buf_put(res.ptr);
	} else if (res.n > 0) {
		then(relay, wh_http_call_write_buf(relay->call, res.ptr), written_up);
	} else if (res.n == 0) {
		wh_http_call_end(relay->call);
	} else if (relay->started) {
		wh_http_abort(relay->x);
		end(relay);
	} else {
		relay->upload_broken = true;
		relay->upload_status = res.n == -ETIMEDOUT ? 408 : 400;
		refuse(relay, res.n);
	}
	unref(relay);
}

static void read_up(struct relay *relay)
{
	then(relay, wh_http_read(relay->x), got_up);
}

/* ---- to the client ----------------------------------------------------------------------- */

static void written_down(wh_loop *loop, wh_res res, void *arg)
{
	struct relay *relay = arg;

	if (relay->x && res.n >= 0) {
		read_down(relay);
	} else if (relay->x) {
		wh_http_abort(relay->x);
		end(relay);
	}
	unref(relay);
}

static void got_down(wh_loop *loop, wh_res res, void *arg)
{
	struct relay *relay = arg;

	if (!relay->x) {
		if (res.n > 0)
			wh_buf_put(res.ptr);
	} else if (res.n > 0) {
		then(relay, wh_http_write_buf(relay->x, res.ptr), written_down);
	} else {
		if (res.n == 0)
			wh_http_end(relay->x);
		else
			wh_http_abort(relay->x);
		end(relay);
	}
	unref(relay);
}

static void read_down(struct relay *relay)
{
	then(relay, wh_http_call_read(relay->call), got_down);
}

static void copy_fields(struct relay *relay, const struct wh_http_response *response)
{
	struct wh_slice connections[8];
	size_t count = 0;

	for (size_t i = 0; i < response->field_count && count < 8; i++) {
		if (wh_slice_equal_caseless(response->fields[i].name, "Connection"))
			connections[count++] = response->fields[i].value;
	}
	for (size_t i = 0; i < response->field_count; i++) {
		const struct wh_http_field *field = &response->fields[i];
		if (message_is_end_to_end(field->name, connections, count))
			wh_http_add_slice(relay->x, field->name, field->value);
	}
	wh_http_add(relay->x, "Via", MESSAGE_VIA);
}

static void got_response(wh_loop *loop, wh_res res, void *arg)
{
	struct relay *relay = arg;
	const struct wh_http_response *response = res.ptr;
	int status = (int)res.n;
	bool no_body;

	if (!relay->x) {
		unref(relay);
		return;
	}
	if (res.n < 0 || status < 200 || status > 599) {
		refuse(relay, res.n < 0 ? res.n : -WH_EHTTP_SYNTAX);
		unref(relay);
		return;
	}
	copy_fields(relay, response);
	relay->api->codes[status]++;
	relay->started = true;
	no_body = status == 204 || status == 304;
	if (no_body) {
		wh_http_respond(relay->x, status, NULL, 0);
		end(relay);
	} else if (wh_http_start(relay->x, status, response->body_length) != 0) {
		wh_http_abort(relay->x);
		end(relay);
	} else if (relay->head) {
		wh_http_end(relay->x);
		end(relay);
	} else {
		read_down(relay);
	}
	unref(relay);
}

/* ---- begin ------------------------------------------------------------------------------- */

static int open_call(struct relay *relay, int64_t body_length)
{
	struct wh_http_exchange *x = relay->x;
	struct wh_slice method = wh_http_method_token(x);
	struct gateway_fields fields;
	struct wh__text text;
	char given[1024];
	int error = -ENOMEM;

	wh__text_init(&text, given, sizeof(given));
	wh__text_put(&text, method.data, method.len);
	wh__text_put(&text, "", 1);
	gateway_target(&text, x, relay->service);
	wh__text_put(&text, "", 1);
	if (gateway_fields(&fields, relay->api, x) && !text.failed) {
		struct wh_http_request request = {
			.origin = relay->service->address,
			.host = relay->service->authority,
			.method = text.data,
			.target = text.data + method.len + 1,
			.fields = fields.fields,
			.field_count = fields.count,
			.first_byte_timeout_ns = relay->service->timeout_ns,
			.no_retry = body_length != 0,
		};
		error = wh_http_call_open(relay->api->client, &request, body_length, &relay->call);
	}
	gateway_fields_done(&fields);
	wh__text_done(&text);
	return error;
}

void relay_start(struct api *api, wh_http_exchange *x, struct service *service)
{
	struct relay *relay = calloc(1, sizeof(*relay));
	int64_t body_length = wh_http_body_length(x);
	int error;

	if (!relay) {
		answer_problem(api, x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		return;
	}
	relay->api = api;
	relay->x = x;
	relay->service = service_ref(service);
	relay->head = wh_http_method(x) == WH_HTTP_HEAD;
	relay->pending = 1;
	api->calls_count++;
	error = open_call(relay, body_length);
	if (error != 0) {
		refuse(relay, error);
	} else {
		wh_http_on_close(x, client_left, relay);
		then(relay, wh_http_call_response(relay->call), got_response);
		if (body_length != 0)
			read_up(relay);
	}
	unref(relay);
}
