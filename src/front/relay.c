/* src/front/relay.c -- calls that pass through: streamed both ways, one attempt, no job.
 *
 * Each direction moves one piece at a time and asks for the next when the last has been taken, so whoever is
 * slow, client or backend, slows the other down and nothing piles up here. Nothing is answered on the backend's
 * behalf: what it breaks off is broken off for the client too. Only what a backend has got nothing of, because no connection to
 * it came about, goes to another one; the beginning of the request's body is kept for that until an answer comes.
 * Memory: a relay lives until it has ended and its last callback has come.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deliver/message.h"
#include "deliver/push.h"
#include "front/gateway.h"

enum {
	KEPT_BYTES_MAX = 64 << 10
}; /* of a body; of a longer one that has begun no other backend can get the whole */

enum upload { UPLOAD_NONE, UPLOAD_READING, UPLOAD_WRITING, UPLOAD_STALLED, UPLOAD_WHOLE };

struct relay {
	struct api *api;
	wh_http_exchange *x; /* NULL: answered */
	wh_http_call *call;
	struct service *service;
	size_t hidden; /* bytes of its name */
	struct backend_call at;
	uint64_t tried; /* of backend_choose() */
	unsigned tried_count;
	int64_t body_length;
	struct wh__text kept; /* of the request's body */
	bool kept_all;        /* that was read */
	bool anew;        /* the piece under way was for a backend that is given up: whatever becomes of it */
	uint8_t upload;   /* enum upload */
	unsigned pending; /* callbacks to come */
	bool started;     /* the head of the answer is out */
	bool head;        /* HEAD: no body follows */
	int upload_status;
};

static void read_up(struct relay *relay);
static void read_down(struct relay *relay);
static int open_call(struct relay *relay);
static void got_response(wh_loop *loop, wh_res res, void *arg);

/* Without memory for the callback it is called at once: the relay stays, as the caller holds it, but its exchange may have been answered. */
static void then(struct relay *relay, wh_future future, wh_callback *callback)
{
	wh_res res = {-ENOMEM, NULL};

	relay->pending++;
	if (wh_then(future, callback, relay) == 0)
		return;
	(void)wh_poll(future, &res);
	callback(relay->api->loop, res, relay);
}

/* Free when nothing is to come; the exchange must have been answered. */
static void unref(struct relay *relay)
{
	struct api *api = relay->api;

	if (--relay->pending > 0 || relay->x)
		return;
	wh_http_call_close(relay->call);
	push_backend_end(api->push, relay->service, &relay->at);
	wh__text_done(&relay->kept);
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

/* What went wrong where, as further members of a problem. */
static void put_members(char to[100], const struct relay *relay, const struct wh_http_failure *failure)
{
	static const char *const stages[] = {
		[WH_HTTP_STAGE_NONE] = "begin",        [WH_HTTP_STAGE_LINE] = "line",
		[WH_HTTP_STAGE_CONNECT] = "connect",   [WH_HTTP_STAGE_PROXY] = "connect",
		[WH_HTTP_STAGE_TLS] = "tls",           [WH_HTTP_STAGE_SEND] = "send",
		[WH_HTTP_STAGE_RESPONSE] = "response", [WH_HTTP_STAGE_BODY] = "body",
	};

	snprintf(to, 100, ",\"stage\":\"%s\",\"backends\":%zu,\"tried\":%u", stages[failure->stage],
	         relay->service->backends_count, relay->tried_count);
}

static void refuse_upload(struct relay *relay)
{
	answer_problem(relay->api, relay->x,
	               relay->upload_status == 408 ? PROBLEM_REQUEST_TIMEOUT : PROBLEM_BAD_REQUEST, NULL,
	               "the body of the request did not arrive whole");
	end(relay);
}

static void refuse(struct relay *relay, int64_t error, const struct wh_http_failure *failure)
{
	const char *name = relay->service->name + relay->hidden, *origin = relay->at.backend->origin;
	const char *stage = wh_http_stage_name(failure->stage);
	enum problem problem = PROBLEM_BACKEND_ERROR;
	char members[100];

	put_members(members, relay, failure);
	if (failure->stage <= WH_HTTP_STAGE_TLS)
		problem = PROBLEM_BACKEND_UNREACHABLE;
	if (error == -ETIMEDOUT)
		answer_problem(relay->api, relay->x, PROBLEM_BACKEND_TIMEOUT, members,
		               "service '%s': no answer from %s in time, %s (%u of %zu backends asked)", name,
		               origin, stage, relay->tried_count, relay->service->backends_count);
	else
		answer_problem(relay->api, relay->x, problem, members,
		               "service '%s': %s: %s%s%s, %s (%u of %zu backends asked)", name, origin,
		               wh_strerror(error), failure->detail[0] ? ": " : "", failure->detail, stage,
		               relay->tried_count, relay->service->backends_count);
	end(relay);
}

/* No backend takes calls now: which of them, and when it may be worth while to come again. */
static void refuse_unavailable(struct relay *relay)
{
	const struct service *service = relay->service;
	int64_t now = wh_now(relay->api->loop), at, seconds = 1;
	size_t down = 0;
	char members[100];

	for (size_t i = 0; i < service->backends_count; i++)
		down += backend_state(service->backends[i], now) == BACKEND_DOWN;
	(void)backend_room(service->backends, service->backends_count, now, &at);
	if (at < INT64_MAX && at > now)
		seconds = (at - now + WH_NS_PER_S - 1) / WH_NS_PER_S;
	else if (down == service->backends_count)
		seconds = (service->health.interval_ns + WH_NS_PER_S - 1) / WH_NS_PER_S;
	wh_http_setf(relay->x, "Retry-After", "%lld", (long long)seconds);
	snprintf(members, sizeof(members), ",\"backends\":%zu,\"down\":%zu,\"open\":%zu",
	         service->backends_count, down, service->backends_count - down);
	answer_problem(
		relay->api, relay->x, PROBLEM_BACKEND_UNAVAILABLE, members,
		"service '%s': none of its %zu backends takes calls: %zu down by health check, %zu with an "
		"open circuit",
		service->name + relay->hidden, service->backends_count, down, service->backends_count - down);
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
	relay->upload = UPLOAD_STALLED;
	if (relay->x && (res.n >= 0 || relay->anew))
		read_up(relay);
	relay->anew = false;
	unref(relay);
}

/* For another backend, should this one not be reached. */
static void keep(struct relay *relay, const struct wh_buf *piece)
{
	if (!relay->kept_all)
		return;
	relay->kept_all = !relay->started && relay->kept.len + piece->len <= KEPT_BYTES_MAX;
	if (relay->kept_all)
		wh__text_put(&relay->kept, piece->data, piece->len);
	relay->kept_all = relay->kept_all && !relay->kept.failed;
	if (!relay->kept_all)
		wh__text_done(&relay->kept);
}

static void got_up(wh_loop *loop, wh_res res, void *arg)
{
	struct relay *relay = arg;

	if (!relay->x) {
		if (res.n > 0)
			wh_buf_put(res.ptr);
	} else if (res.n > 0) {
		keep(relay, res.ptr);
		relay->upload = UPLOAD_WRITING;
		then(relay, wh_http_call_write_buf(relay->call, res.ptr), written_up);
	} else if (res.n == 0) {
		relay->upload = UPLOAD_WHOLE;
		wh_http_call_end(relay->call);
	} else if (relay->started) {
		wh_http_abort(relay->x);
		end(relay);
	} else {
		relay->upload_status = res.n == -ETIMEDOUT ? 408 : 400;
		refuse_upload(relay);
	}
	unref(relay);
}

static void read_up(struct relay *relay)
{
	relay->upload = UPLOAD_READING;
	then(relay, wh_http_read(relay->x), got_up);
}

/* Nothing of the request has left for the last backend: have another one do it. */
static bool elsewhere(struct relay *relay)
{
	struct api *api = relay->api;
	struct backend_call next = {0};

	if (relay->kept_all)
		next = push_backend(api->push, relay->service, &relay->tried);
	if (!next.backend)
		return false;
	push_backend_end(api->push, relay->service, &relay->at);
	relay->at = next;
	relay->call = wh_http_call_close(relay->call);
	if (open_call(relay) != 0)
		return false;
	then(relay, wh_http_call_response(relay->call), got_response);
	if (!relay->x)
		return true;
	if (relay->kept.len > 0)
		(void)wh_drop(wh_http_call_write(relay->call, relay->kept.data, relay->kept.len));
	if (relay->upload == UPLOAD_WHOLE)
		wh_http_call_end(relay->call);
	else if (relay->upload == UPLOAD_STALLED)
		read_up(relay);
	relay->anew = relay->upload == UPLOAD_WRITING;
	return true;
}

/* ---- to the client ----------------------------------------------------------------------- */

/* That we have no memory or descriptors is not the backend's fault. error: or a status. */
static void blame(struct relay *relay, int64_t error)
{
	if (error != -ENOMEM && error != -EAGAIN && error != -EMFILE && error != -ENFILE && error != -ENOBUFS)
		backend_failed(&relay->at, &relay->service->breaker, error, wh_now(relay->api->loop));
}

/* The answer has ended, or was broken off with an error. */
static void down_ended(struct relay *relay, int64_t result)
{
	if (result == 0) {
		wh_http_end(relay->x);
	} else {
		blame(relay, result);
		wh_http_abort(relay->x);
	}
	end(relay);
}

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
		down_ended(relay, res.n);
	}
	unref(relay);
}

/* What has come already goes out in one send with the head, or with what came before it. */
static void read_down(struct relay *relay)
{
	wh_res res;

	for (;;) {
		wh_future f = wh_http_call_read(relay->call);

		if (!wh_poll(f, &res)) {
			then(relay, f, got_down);
			return;
		}
		if (res.n <= 0) {
			down_ended(relay, res.n);
			return;
		}
		f = wh_http_write_buf(relay->x, res.ptr);
		if (!wh_poll(f, &res)) {
			then(relay, f, written_down);
			return;
		}
		if (!relay->x) /* a failed write may have taken the client away */
			return;
		if (res.n < 0) {
			wh_http_abort(relay->x);
			end(relay);
			return;
		}
	}
}

static void copy_fields(struct relay *relay, const struct wh_http_response *response)
{
	struct wh_slice connections[MESSAGE_CONNECTIONS_MAX];
	size_t count = 0;

	for (size_t i = 0; i < response->field_count && count < MESSAGE_CONNECTIONS_MAX; i++) {
		if (wh_slice_equal_caseless(response->fields[i].name, "Connection"))
			connections[count++] = response->fields[i].value;
	}
	for (size_t i = 0; i < response->field_count; i++) {
		const struct wh_http_field *field = &response->fields[i];
		if (message_is_end_to_end(field->name, connections, count))
			wh_http_add_slice(relay->x, field->name, field->value);
	}
	wh_http_add(relay->x, "Via", message_via(response->version));
}

/* There is no answer: by another backend if this one got nothing, or the client is told. */
static void no_answer(struct relay *relay, int64_t error)
{
	struct wh_http_failure failure = {.error = error};

	if (!wh_http_call_failure(relay->call, &failure))
		failure.stage = WH_HTTP_STAGE_RESPONSE; /* it speaks no HTTP that we know */
	blame(relay, error);
	if (failure.stage > WH_HTTP_STAGE_TLS || !elsewhere(relay))
		refuse(relay, error, &failure);
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
		no_answer(relay, res.n < 0 ? res.n : -WH_EHTTP_SYNTAX);
		unref(relay);
		return;
	}
	if (service_counts_against(relay->service, status))
		blame(relay, status);
	else
		backend_answered(&relay->at);
	wh__text_done(&relay->kept);
	relay->kept_all = false;
	copy_fields(relay, response);
	answer_count(relay->api, relay->x, status);
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

static int open_call(struct relay *relay)
{
	struct wh_http_exchange *x = relay->x;
	struct wh_slice method = wh_http_method_token(x);
	struct gateway_fields fields;
	struct wh__text text;
	char given[1024];
	int error = -ENOMEM;

	relay->tried_count++;
	wh__text_init(&text, given, sizeof(given));
	wh__text_put(&text, method.data, method.len);
	wh__text_put(&text, "", 1);
	gateway_target(&text, x, relay->service);
	wh__text_put(&text, "", 1);
	if (gateway_fields(&fields, relay->api, x) && !text.failed) {
		struct wh_http_request request = {
			.origin = relay->at.backend->address,
			.host = relay->at.backend->authority,
			.method = text.data,
			.target = text.data + method.len + 1,
			.fields = fields.fields,
			.field_count = fields.count,
			.connect_timeout_ns = relay->service->connect_timeout_ns,
			.first_byte_timeout_ns = service_first_byte_ns(relay->service),
			.no_retry = relay->body_length != 0,
		};
		error = wh_http_call_open(relay->api->client, &request, relay->body_length, &relay->call);
	}
	gateway_fields_done(&fields);
	wh__text_done(&text);
	return error;
}

void relay_start(struct api *api, wh_http_exchange *x, struct service *service, size_t hidden)
{
	struct relay *relay = calloc(1, sizeof(*relay));
	int error;

	if (!relay) {
		answer_problem(api, x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		return;
	}
	relay->api = api;
	relay->x = x;
	relay->service = service_ref(service);
	relay->hidden = hidden;
	relay->head = wh_http_method(x) == WH_HTTP_HEAD;
	relay->body_length = wh_http_body_length(x);
	/* what was said in the head is needed once more for another backend */
	relay->kept_all = service->backends_count > 1 && wh_http_retain(x) == 0;
	wh__text_init(&relay->kept, NULL, 0);
	relay->pending = 1;
	api->calls_count++;
	relay->at = push_backend(api->push, service, &relay->tried);
	if (!relay->at.backend) {
		refuse_unavailable(relay);
	} else if ((error = open_call(relay)) != 0) {
		refuse(relay, error, &(struct wh_http_failure){.error = error});
	} else {
		wh_http_on_close(x, client_left, relay);
		then(relay, wh_http_call_response(relay->call), got_response);
		if (relay->x && relay->body_length != 0)
			read_up(relay);
	}
	unref(relay);
}
