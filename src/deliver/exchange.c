/* src/deliver/exchange.c -- the request of an attempt to its backend, and the answer to the store. See delivery.c, push_inside.h.
 *
 * Request and answer move piece by piece, whatever their size, each side as fast as the slower of the two. Once it is decided how the
 * attempt ends, nothing more of the request is sent.
 */
#include "deliver/push_inside.h"

/* ---- forwarding -------------------------------------------------------------------------- */

static bool never_sent(int64_t error)
{
	switch (-error) {
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENETDOWN:
	case EADDRNOTAVAIL:
	case ENOENT:
	case EAGAIN:
	case EMFILE:
	case ENFILE:
	case WH_ENAME_UNKNOWN:
	case WH_ENAME_NO_ADDRESS:
	case WH_ENAME_SERVER:
	case WH_ETLS_CERTIFICATE: /* of the server: seen before anything is said */
		return true;
	default:
		return false;
	}
}

static bool keep_headers(struct delivery *delivery)
{
	const struct wh_http_response *response = delivery->response;
	struct wh_slice connections[MESSAGE_CONNECTIONS_MAX], type;
	const char *via = message_via(response->version);
	size_t count = 0;

	for (size_t i = 0; i < response->field_count && count < MESSAGE_CONNECTIONS_MAX; i++) {
		if (wh_slice_equal_caseless(response->fields[i].name, "Connection"))
			connections[count++] = response->fields[i].value;
	}
	for (size_t i = 0; i < response->field_count; i++) {
		const struct wh_http_field *field = &response->fields[i];
		if (message_is_end_to_end(field->name, connections, count) &&
		    !wh_slice_equal_caseless(field->name, "Content-Type"))
			message_field(&delivery->headers, field->name, field->value);
	}
	message_field(&delivery->headers, (struct wh_slice){"Via", 3}, (struct wh_slice){via, strlen(via)});
	type = wh_http_response_header(response, "Content-Type");
	if (type.data && type.len > 0) {
		delivery->content_type = strndup(type.data, type.len);
		if (!delivery->content_type)
			return false;
	}
	delivery->status = response->status;
	return !delivery->headers.failed;
}

/* What ran out, and how long that was. */
static void say_timed_out(const struct delivery *delivery, const struct wh_http_failure *failure,
                          char to[PUSH_TEXT_BYTES])
{
	const struct service *service = delivery->service;
	const char *origin = delivery->at.backend->origin, *stage = wh_http_stage_name(failure->stage);
	char duration[WH__DURATION_TEXT_BYTES];
	int64_t ns = 0;

	if (failure->total)
		ns = service->timeout_ns;
	else if (failure->stage == WH_HTTP_STAGE_RESPONSE)
		ns = service_first_byte_ns(service);
	else if (failure->stage == WH_HTTP_STAGE_CONNECT)
		ns = service->connect_timeout_ns;
	if (ns > 0)
		snprintf(to, PUSH_TEXT_BYTES, PUSH_TIMED_OUT ": no answer from %.200s within %.*s (%s)",
		         origin, (int)wh__put_duration(duration, ns), duration, stage);
	else
		snprintf(to, PUSH_TEXT_BYTES, PUSH_TIMED_OUT ": no answer from %.200s (%s)", origin, stage);
}

static void say_failed(const struct delivery *delivery, const struct wh_http_failure *failure,
                       char to[PUSH_TEXT_BYTES])
{
	snprintf(to, PUSH_TEXT_BYTES, "%.200s: %s%s%s", delivery->at.backend->origin,
	         wh_strerror(failure->error), failure->detail[0] ? ", " : "", failure->detail);
}

/* That we have no memory or descriptors is not the backend's fault. */
static bool is_ours_to_blame(int64_t error)
{
	return error == -ENOMEM || error == -EAGAIN || error == -EMFILE || error == -ENFILE ||
	       error == -ENOBUFS;
}

/* Nothing of the request has left: another backend may be asked in the same attempt, if what is to be sent is still there. */
static bool elsewhere(struct delivery *delivery)
{
	struct backend_call next = {0};

	if (!delivery->reader)
		next = push_backend(delivery->pusher->push, delivery->service, &delivery->tried);
	if (!next.backend)
		return false;
	delivery_leave(delivery);
	delivery->at = next;
	delivery->call = wh_http_call_close(delivery->call);
	delivery_forward(delivery);
	return true;
}

/* The backend gives no answer, or breaks off. */
static void no_answer(struct delivery *delivery, int64_t error)
{
	struct push *push = delivery->pusher->push;
	struct wh_http_failure failure = {.error = error};
	char text[PUSH_TEXT_BYTES];
	bool sent;

	if (push->closing) {
		delivery_end(delivery); /* the lease stays: the next start finds it */
		return;
	}
	if (delivery->cancelled || delivery->broken < 0) {
		delivery_fail(delivery, true, "%s%s",
		              delivery->cancelled ? "cancelled" : "the recorded call cannot be read: ",
		              delivery->cancelled ? "" : job_strerror(delivery->broken));
		return;
	}
	if (delivery->call && wh_http_call_failure(delivery->call, &failure))
		sent = delivery->status > 0 || failure.stage > WH_HTTP_STAGE_TLS;
	else
		sent = delivery->status > 0 || !never_sent(error);
	if (!is_ours_to_blame(error))
		backend_failed(&delivery->at, &delivery->service->breaker, error, wh_now(push->loop));
	if (error == -ETIMEDOUT && delivery->service->target && !delivery->service->callbacks)
		push_told(delivery->pusher, ADAPTIVE_TOO_MUCH, delivery->sent_at, 0);
	if (error == -ETIMEDOUT)
		say_timed_out(delivery, &failure, text);
	else
		say_failed(delivery, &failure, text);
	if (sent || !elsewhere(delivery))
		delivery_fail(delivery, sent && !delivery->idempotent, "%s%s", text,
		              sent ? "" : " (nothing was sent)");
}

/* The answer cannot be kept. */
static void not_kept(struct delivery *delivery, int64_t error)
{
	if (delivery->pusher->push->closing)
		delivery_end(delivery);
	else if (error == -JOB_ETOO_LARGE)
		delivery_fail(delivery, true, "the answer of the backend is too large to be kept");
	else
		delivery_fail(delivery, !delivery->idempotent, "the answer of the backend cannot be kept: %s",
		              job_strerror(error));
}

/* ---- the answer -------------------------------------------------------------------------- */

static void read_answer(struct delivery *delivery);

static void kept_whole(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;

	if (res.n < 0)
		not_kept(delivery, res.n);
	else
		delivery_settle(delivery);
	push_unref(push);
}

static void kept_piece(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;

	delivery->piece = wh_buf_put(delivery->piece);
	if (res.n < 0)
		not_kept(delivery, res.n);
	else
		read_answer(delivery);
	push_unref(push);
}

static void got_piece(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;

	if (res.n < 0) {
		no_answer(delivery, res.n);
	} else if (res.n == 0) {
		push_then(push, store_body_end(delivery->answer), kept_whole, delivery);
	} else {
		delivery->piece = res.ptr;
		push_then(push,
		          store_body_write(delivery->answer, delivery->piece->data, delivery->piece->len),
		          kept_piece, delivery);
	}
	push_unref(push);
}

static void read_answer(struct delivery *delivery)
{
	struct push *push = delivery->pusher->push;

	if (!delivery->call) {
		no_answer(delivery, -ECANCELED);
		return;
	}
	push_then(push, wh_http_call_read(delivery->call), got_piece, delivery);
}

/* An answer that the service counts as a failed attempt, while there is another attempt to come. */
static bool is_to_be_retried(struct delivery *delivery)
{
	struct push *push = delivery->pusher->push;
	const struct wh_http_response *response = delivery->response;
	int64_t after_ns;

	if (!service_retries(delivery->service, response->status) || !delivery->idempotent ||
	    delivery->attempt >= delivery->attempts_max)
		return false;
	after_ns = message_retry_after(wh_http_response_header(response, "Retry-After"),
	                               wh_wall_now(push->loop));
	delivery->delay_ns = after_ns > 0 ? after_ns : 0;
	return true;
}

/* What the answer says of the backend that gave it. */
static void judge_backend(struct delivery *delivery)
{
	struct push *push = delivery->pusher->push;

	if (service_counts_against(delivery->service, delivery->response->status))
		backend_failed(&delivery->at, &delivery->service->breaker, delivery->response->status,
		               wh_now(push->loop));
	else
		backend_answered(&delivery->at);
}

static void got_response(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;
	const struct wh_http_response *response = res.ptr;
	bool no_body = wh_slice_equal(delivery->message.method, "HEAD");
	int64_t length;
	int error;

	if (res.n < 0 || push->closing) {
		no_answer(delivery, res.n);
		push_unref(push);
		return;
	}
	delivery->response = response;
	judge_backend(delivery);
	if (delivery->service->target &&
	    !(delivery->service->callbacks ? callback_judge : target_judge)(delivery)) {
		push_unref(push);
		return;
	}
	length = no_body || response->status == 204 || response->status == 304 ? -1 : response->body_length;
	if (response->status < 200 || response->status > 599) {
		delivery_fail(delivery, !delivery->idempotent, "the backend answered with status %d",
		              response->status);
	} else if (is_to_be_retried(delivery)) {
		delivery_fail(delivery, false, "%s answered with status %d", delivery->at.backend->origin,
		              response->status);
	} else if (!keep_headers(delivery)) {
		delivery_fail(delivery, !delivery->idempotent, "out of memory");
	} else {
		error = store_body_open(push->store, length < 0 ? -1 : length,
		                        STORE_BODY_RESULT | STORE_BODY_WAITS, &delivery->answer);
		if (error < 0)
			not_kept(delivery, error);
		else
			read_answer(delivery);
	}
	push_unref(push);
}

/* ---- the request ------------------------------------------------------------------------- */

static void send_rest(struct delivery *delivery);

/* A callback of the request's body; false: the attempt is over, and perhaps the delivery. */
static bool goes_on(struct delivery *delivery)
{
	delivery->sending--;
	if (!delivery->decided)
		return delivery->call != NULL;
	if (delivery->settled && delivery->sending == 0)
		delivery_end(delivery);
	return false;
}

static void then_sending(struct delivery *delivery, wh_future future, wh_callback *callback)
{
	delivery->sending++;
	push_then(delivery->pusher->push, future, callback, delivery);
}

/* What the backend has got is not whole: it learns so by the end of the connection. */
static wh_http_call *break_off(struct delivery *delivery, int64_t error)
{
	delivery->broken = error;
	return wh_http_call_close(delivery->call);
}

static void got_body(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;

	if (goes_on(delivery)) {
		delivery->rest = res.ptr;
		delivery->rest_len = res.n > 0 ? (size_t)res.n : 0;
		if (res.n > 0)
			send_rest(delivery);
		else if (res.n == 0)
			wh_http_call_end(delivery->call);
		else
			delivery->call = break_off(delivery, res.n);
	}
	push_unref(push);
}

static void sent_piece(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;

	/* a write that fails says nothing new: the backend may have answered early, which comes by its response */
	if (goes_on(delivery) && res.n >= 0) {
		if (delivery->reader)
			then_sending(delivery, store_reader_next(delivery->reader), got_body);
		else
			wh_http_call_end(delivery->call);
	}
	push_unref(push);
}

static void send_rest(struct delivery *delivery)
{
	then_sending(delivery, wh_http_call_write(delivery->call, delivery->rest, delivery->rest_len),
	             sent_piece);
}

static bool is_ours(struct wh_slice name)
{
	return wh_slice_equal_caseless(name, "Host") || wh_slice_equal_caseless(name, "Content-Length");
}

void delivery_forward(struct delivery *delivery)
{
	struct push *push = delivery->pusher->push;
	struct message *message = &delivery->message;
	uint64_t body = message->body.len;
	struct wh__text text;
	struct wh_http_request request = {
		.origin = delivery->at.backend->address,
		.host = delivery->at.backend->authority,
		.fields = message->fields,
		.connect_timeout_ns = delivery->service->connect_timeout_ns,
		.first_byte_timeout_ns = service_first_byte_ns(delivery->service),
	};
	size_t method_at, kept = 0;
	int error = -ENOMEM;

	delivery->sent_at = wh_now(push->loop);
	if (delivery->until == 0)
		delivery->until = wh_now(push->loop) + delivery->service->timeout_ns;
	request.total_timeout_ns = delivery->until - wh_now(push->loop);
	if (request.total_timeout_ns < WH_NS_PER_MS)
		request.total_timeout_ns = WH_NS_PER_MS;
	if (delivery->reader)
		body = delivery->payload->bytes - delivery->head.len;
	for (size_t i = 0; i < message->field_count; i++) {
		if (!is_ours(message->fields[i].name))
			message->fields[kept++] = message->fields[i];
	}
	request.field_count = kept;
	wh__text_init(&text, NULL, 0);
	wh__text_put(&text, message->target.data, message->target.len);
	wh__text_put(&text, "", 1);
	method_at = text.len;
	wh__text_put(&text, message->method.data, message->method.len);
	wh__text_put(&text, "", 1);
	if (!text.failed) {
		request.target = text.data;
		request.method = text.data + method_at;
		error = wh_http_call_open(delivery->pusher->client, &request, (int64_t)body, &delivery->call);
	}
	wh__text_done(&text);
	if (error < 0) {
		no_answer(delivery, error == -ENOMEM ? -EAGAIN : error);
		return;
	}
	push_then(push, wh_http_call_response(delivery->call), got_response, delivery);
	if (!delivery->reader) {
		delivery->rest = (const uint8_t *)message->body.data;
		delivery->rest_len = message->body.len;
	}
	if (delivery->rest_len > 0)
		send_rest(delivery);
	else if (body > 0)
		then_sending(delivery, store_reader_next(delivery->reader), got_body);
}
