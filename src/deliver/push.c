/* src/deliver/push.c -- delivers recorded calls. See push.h.
 *
 * A claim is flushed before its call is sent: after any crash the lease is there, so the call is known to be of
 * unknown outcome and is not sent twice by mistake. Leases found at the start belong to a server that is gone.
 */
#include "deliver/push.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "deliver/message.h"

enum { LOT_MAX = 100, TEXT_BYTES = 400 };
#define AGAIN_NS WH_NS_PER_S

struct pusher {
	struct pusher *next;
	struct push *push;
	struct service *service;
	wh_future reserving;
	bool is_reserving, recovered, forgotten;
	uint32_t under_way;
	size_t queue_len;
	char queue[];
};

struct push {
	wh_loop *loop;
	struct store *store;
	wh_http_client *client;
	struct push_options options;
	struct pusher *first;
	uint64_t under_way;  /* calls */
	uint64_t references; /* the owner's and one for each callback to come */
	bool draining, closing, has_drained;
	wh_future drained;
};

/* One attempt of one call. */
struct delivery {
	struct pusher *pusher;
	struct service *service;
	struct store_bytes *payload;
	struct wh_http_response *response;
	struct wh__text headers; /* of the answer, end to end */
	uint64_t job;
	struct job_lease lease;
	bool idempotent, no_retry;
	wh_future request;
	struct message message;
	char error[TEXT_BYTES]; /* why the attempt failed; "": it has an answer */
};

static void fill(struct pusher *pusher);
static void settle(struct delivery *delivery);

static void push_unref(struct push *push)
{
	if (--push->references > 0)
		return;
	while (push->first) {
		struct pusher *pusher = push->first;
		push->first = pusher->next;
		service_unref(pusher->service);
		free(pusher);
	}
	free(push);
}

/* future -> callback(…, arg), for which a reference is held. */
static void then(struct push *push, wh_future future, wh_callback *callback, void *arg)
{
	push->references++;
	if (wh_then(future, callback, arg) != 0)
		(void)!wh_then(wh_failed(push->loop, -ENOMEM), callback, arg);
}

static void event(struct push *push, int level, const char *name, const struct pusher *pusher, uint64_t job,
                  const char *detail)
{
	struct wh__text text;
	char given[TEXT_BYTES * 2];

	if (!push->options.event)
		return;
	wh__text_init(&text, given, sizeof(given));
	wh__text_format(&text, "service=%s", pusher->service->name);
	if (job > 0)
		wh__text_format(&text, " job=%llu", (unsigned long long)job);
	wh__text_str(&text, " error=");
	wh__text_json(&text, detail, strlen(detail));
	wh__text_put(&text, "", 1);
	if (!text.failed)
		push->options.event(level, name, text.data, push->options.event_arg);
	wh__text_done(&text);
}

static void check_drained(struct push *push)
{
	if (push->draining && push->under_way == 0 && !push->has_drained) {
		push->has_drained = true;
		wh_resolve(push->drained, 0, NULL);
	}
}

static void delivery_end(struct delivery *delivery)
{
	struct pusher *pusher = delivery->pusher;
	struct push *push = pusher->push;

	store_bytes_unref(delivery->payload);
	wh_http_response_free(delivery->response);
	wh__text_done(&delivery->headers);
	service_unref(delivery->service);
	free(delivery);
	pusher->under_way--;
	push->under_way--;
	check_drained(push);
	fill(pusher);
	push_unref(push);
}

/* ---- how an attempt ends ----------------------------------------------------------------- */

static void settle_again(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;

	if (res.n < 0)
		delivery_end(delivery);
	else
		settle(delivery);
	push_unref(push);
}

static void settled(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;
	struct store_commit *commit = res.ptr;
	int64_t error = res.n < 0 ? res.n : commit->error;

	if (res.n >= 0)
		store_commit_free(commit);
	if ((error == -ENOSPC || error == -JOB_EBUSY || error == -JOB_EMEMORY_FULL || error == -ENOMEM) &&
	    !push->closing) {
		/* the answer is here and must not be lost: its lease has a while to go */
		then(push, wh_sleep(push->loop, AGAIN_NS), settle_again, delivery);
	} else if (error == -JOB_ETOO_LARGE && !delivery->error[0]) {
		snprintf(delivery->error, sizeof(delivery->error),
		         "the answer of the backend is too large to be kept");
		delivery->no_retry = true;
		settle(delivery);
	} else {
		if (error != 0 && error != -JOB_ECANCELLED && error != -ECANCELED)
			event(push, WH_LOG_WARNING, "call-unsettled", delivery->pusher, delivery->job,
			      job_strerror(error));
		delivery_end(delivery);
	}
	push_unref(push);
}

static void settle(struct delivery *delivery)
{
	struct push *push = delivery->pusher->push;
	struct store_action action = {.job = delivery->job, .lease = delivery->lease};

	if (delivery->error[0]) {
		action.kind = STORE_FAIL;
		action.fail.error = (struct store_slice){delivery->error, strlen(delivery->error)};
		action.fail.no_retry = delivery->no_retry;
	} else {
		struct wh_slice type = wh_http_response_header(delivery->response, "Content-Type");
		action.kind = STORE_COMPLETE;
		action.complete.status = (uint32_t)delivery->response->status;
		action.complete.bytes =
			(struct store_slice){delivery->response->body.data, delivery->response->body.len};
		action.complete.content_type = (struct store_slice){type.data, type.len};
		action.complete.headers = (struct store_slice){delivery->headers.data, delivery->headers.len};
	}
	then(push, store_apply(push->store, &action, 1, 0, STORE_LOCAL), settled, delivery);
}

static void fail(struct delivery *delivery, bool no_retry, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void fail(struct delivery *delivery, bool no_retry, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(delivery->error, sizeof(delivery->error), format, list);
	va_end(list);
	delivery->no_retry = no_retry;
	settle(delivery);
}

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
	struct wh_slice connections[8];
	size_t count = 0;

	for (size_t i = 0; i < response->field_count && count < 8; i++) {
		if (wh_slice_equal_caseless(response->fields[i].name, "Connection"))
			connections[count++] = response->fields[i].value;
	}
	for (size_t i = 0; i < response->field_count; i++) {
		const struct wh_http_field *field = &response->fields[i];
		if (message_is_end_to_end(field->name, connections, count) &&
		    !wh_slice_equal_caseless(field->name, "Content-Type"))
			message_field(&delivery->headers, field->name, field->value);
	}
	message_field(&delivery->headers, (struct wh_slice){"Via", 3},
	              (struct wh_slice){MESSAGE_VIA, sizeof(MESSAGE_VIA) - 1});
	return !delivery->headers.failed;
}

static void answered(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;
	char duration[WH__DURATION_TEXT_BYTES];
	bool sent = !never_sent(res.n);

	if (push->closing) {
		/* the lease stays: the next start finds it */
		if (res.n >= 0)
			wh_http_response_free(res.ptr);
		delivery_end(delivery);
	} else if (res.n == -ETIMEDOUT) {
		fail(delivery, !delivery->idempotent, PUSH_TIMED_OUT ": no answer from %s within %.*s",
		     delivery->service->origin,
		     (int)wh__put_duration(duration, delivery->service->timeout_ns), duration);
	} else if (res.n == -WH_EHTTP_TOO_LARGE) {
		fail(delivery, true, "the answer of the backend is too large to be kept");
	} else if (res.n < 0) {
		fail(delivery, sent && !delivery->idempotent, "%s: %s%s", delivery->service->origin,
		     wh_strerror(res.n), sent ? "" : " (nothing was sent)");
	} else {
		delivery->response = res.ptr;
		if (delivery->response->status < 200 || delivery->response->status > 599)
			fail(delivery, !delivery->idempotent, "the backend answered with status %d",
			     delivery->response->status);
		else if (!keep_headers(delivery))
			fail(delivery, !delivery->idempotent, "out of memory");
		else
			settle(delivery);
	}
	push_unref(push);
}

static void release_payload(void *arg)
{
	store_bytes_unref(arg);
}

static bool is_ours(struct wh_slice name)
{
	return wh_slice_equal_caseless(name, "Host") || wh_slice_equal_caseless(name, "Content-Length");
}

static void forward(struct delivery *delivery)
{
	struct push *push = delivery->pusher->push;
	struct message *message = &delivery->message;
	struct wh__text text;
	struct wh_http_request request = {
		.origin = delivery->service->address,
		.host = delivery->service->authority,
		.fields = message->fields,
		.first_byte_timeout_ns = delivery->service->timeout_ns,
		.response_body_max = push->options.result_bytes_max,
	};
	size_t method_at, kept = 0;

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
	if (text.failed) {
		fail(delivery, false, "out of memory (nothing was sent)");
		return;
	}
	request.target = text.data;
	request.method = text.data + method_at;
	if (message->body.len > 0) {
		request.body = message->body.data;
		request.body_len = message->body.len;
		request.release = release_payload;
		request.release_arg = store_bytes_ref(delivery->payload);
	}
	delivery->request = wh_deadline(wh_http_request(push->client, &request),
	                                wh_now(push->loop) + delivery->service->timeout_ns);
	then(push, delivery->request, answered, delivery);
	wh__text_done(&text);
}

/* A call that is not idempotent comes a second time only if nothing was sent; a lease that passed meanwhile says that
 * nobody knows. */
static void checked(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;
	struct store_view *view = res.ptr;

	if (res.n < 0 || push->closing)
		delivery_end(delivery);
	else if (view->timeouts > 0)
		fail(delivery, true, PUSH_UNKNOWN);
	else
		forward(delivery);
	if (res.n >= 0)
		store_view_free(view);
	push_unref(push);
}

static struct delivery *delivery_new(struct pusher *pusher, const struct store_leased *leased)
{
	struct delivery *delivery = calloc(1, sizeof(*delivery));

	if (!delivery)
		return NULL;
	delivery->pusher = pusher;
	delivery->service = service_ref(pusher->service);
	delivery->job = leased->job;
	delivery->lease = leased->lease;
	wh__text_init(&delivery->headers, NULL, 0);
	pusher->under_way++;
	pusher->push->under_way++;
	pusher->push->references++;
	return delivery;
}

static void deliver(struct pusher *pusher, struct store_leased *leased)
{
	struct delivery *delivery = delivery_new(pusher, leased);
	struct push *push = pusher->push;

	if (!delivery) {
		event(push, WH_LOG_WARNING, "call-postponed", pusher, leased->job, "out of memory");
		return;
	}
	delivery->payload = leased->payload;
	leased->payload = NULL;
	if (!delivery->payload) {
		fail(delivery, false, "the recorded call cannot be read: %s", job_strerror(leased->error));
		return;
	}
	if (!message_read(&delivery->message, delivery->payload->body.data, delivery->payload->body.len)) {
		fail(delivery, true, "what is recorded is not a call");
		return;
	}
	delivery->idempotent = message_is_idempotent(delivery->message.method);
	if (leased->attempt > 1 && !delivery->idempotent)
		then(push, store_get(push->store, delivery->job, STORE_ASYNC), checked, delivery);
	else
		forward(delivery);
}

/* ---- leasing ----------------------------------------------------------------------------- */

static void fill_later(wh_loop *loop, wh_res res, void *arg)
{
	struct pusher *pusher = arg;
	struct push *push = pusher->push;

	pusher->is_reserving = false;
	if (res.n >= 0)
		fill(pusher);
	push_unref(push);
}

static void queue_made(wh_loop *loop, wh_res res, void *arg)
{
	if (res.n >= 0)
		store_commit_free(res.ptr);
	fill_later(loop, res, arg);
}

static void reserved(wh_loop *loop, wh_res res, void *arg)
{
	struct pusher *pusher = arg;
	struct push *push = pusher->push;
	struct store_lot *lot = res.ptr;

	pusher->is_reserving = false;
	if (res.n == -JOB_EUNKNOWN_QUEUE && !push->draining && !push->closing) {
		struct store_action action = {.kind = STORE_QUEUE_PUT,
		                              .queue.name = {pusher->queue, pusher->queue_len}};
		pusher->is_reserving = true;
		then(push, store_apply(push->store, &action, 1, 0, STORE_LOCAL), queue_made, pusher);
	} else if (res.n < 0 && res.n != -ECANCELED && !push->closing) {
		pusher->is_reserving = true;
		then(push, wh_sleep(push->loop, AGAIN_NS), fill_later, pusher);
	} else if (res.n > 0 && (push->draining || push->closing || pusher->forgotten)) {
		store_lot_return(push->store, lot);
	} else if (res.n > 0) {
		for (size_t i = 0; i < lot->count; i++)
			deliver(pusher, &lot->jobs[i]);
		store_lot_free(lot);
		fill(pusher);
	} else if (!push->draining) {
		fill(pusher);
	}
	push_unref(push);
}

static void fill(struct pusher *pusher)
{
	struct push *push = pusher->push;
	struct store_slice queue = {pusher->queue, pusher->queue_len};
	struct store_reserve reserve = {
		.queues = &queue, .queues_count = 1, .wait = true, .level = STORE_LOCAL};
	uint32_t room;

	if (push->draining || push->closing || pusher->forgotten || pusher->is_reserving ||
	    !pusher->recovered || pusher->under_way >= pusher->service->concurrency)
		return;
	room = pusher->service->concurrency - pusher->under_way;
	reserve.jobs_max = room < LOT_MAX ? room : LOT_MAX;
	reserve.lease_ns = pusher->service->timeout_ns + PUSH_LEASE_MARGIN_NS;
	pusher->is_reserving = true;
	pusher->reserving = store_reserve(push->store, &reserve);
	then(push, pusher->reserving, reserved, pusher);
}

/* ---- leases of a server that is gone ----------------------------------------------------- */

static void lost_payload(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;

	if (push->closing || res.n < 0) {
		if (res.n >= 0)
			store_bytes_unref(res.ptr);
		delivery_end(delivery);
	} else {
		delivery->payload = res.ptr;
		delivery->idempotent = message_read(&delivery->message, delivery->payload->body.data,
		                                    delivery->payload->body.len) &&
		                       message_is_idempotent(delivery->message.method);
		fail(delivery, !delivery->idempotent, PUSH_UNKNOWN);
	}
	push_unref(push);
}

static void found_leases(wh_loop *loop, wh_res res, void *arg)
{
	struct pusher *pusher = arg;
	struct push *push = pusher->push;
	struct store_lot *lot = res.ptr;

	pusher->recovered = true;
	if (res.n > 0 && !push->closing) {
		for (size_t i = 0; i < lot->count; i++) {
			struct delivery *delivery = delivery_new(pusher, &lot->jobs[i]);
			if (delivery)
				then(push, store_payload(push->store, delivery->job, STORE_ASYNC),
				     lost_payload, delivery);
		}
	}
	if (res.n >= 0)
		store_lot_free(lot);
	fill(pusher);
	push_unref(push);
}

/* ---- open, close, change ----------------------------------------------------------------- */

int push_open(wh_loop *loop, struct store *store, wh_http_client *client, const struct push_options *options,
              struct push **ret)
{
	struct push *push = calloc(1, sizeof(*push));

	if (!push)
		return -ENOMEM;
	push->loop = loop;
	push->store = store;
	push->client = client;
	push->options = *options;
	push->references = 1;
	*ret = push;
	return 0;
}

static struct pusher *find(struct push *push, const char *name, size_t len)
{
	for (struct pusher *pusher = push->first; pusher; pusher = pusher->next) {
		size_t prefix = sizeof(SERVICE_QUEUE_PREFIX) - 1;
		if (pusher->queue_len == prefix + len && memcmp(pusher->queue + prefix, name, len) == 0)
			return pusher;
	}
	return NULL;
}

void push_service(struct push *push, struct service *service)
{
	struct pusher *pusher = find(push, service->name, strlen(service->name));
	size_t prefix = sizeof(SERVICE_QUEUE_PREFIX) - 1;

	if (pusher) {
		service_unref(pusher->service);
		pusher->service = service_ref(service);
		pusher->forgotten = false;
		/* a reservation that waits asks for as many as there was room: ask anew */
		if (pusher->is_reserving)
			wh_cancel(pusher->reserving);
		fill(pusher);
		return;
	}
	pusher = calloc(1, sizeof(*pusher) + prefix + strlen(service->name));
	if (!pusher)
		return;
	pusher->push = push;
	pusher->service = service_ref(service);
	pusher->queue_len = prefix + strlen(service->name);
	memcpy(pusher->queue, SERVICE_QUEUE_PREFIX, prefix);
	memcpy(pusher->queue + prefix, service->name, strlen(service->name));
	pusher->next = push->first;
	push->first = pusher;
	then(push, store_leases(push->store, (struct store_slice){pusher->queue, pusher->queue_len}),
	     found_leases, pusher);
}

void push_forget(struct push *push, const char *name, size_t len)
{
	struct pusher *pusher = find(push, name, len);

	if (!pusher)
		return;
	/* kept in the list: it is small, and calls may be under way */
	pusher->forgotten = true;
	if (pusher->is_reserving)
		wh_cancel(pusher->reserving);
}

static void stop_reserving(struct push *push)
{
	for (struct pusher *pusher = push->first; pusher; pusher = pusher->next) {
		if (pusher->is_reserving)
			wh_cancel(pusher->reserving);
	}
}

wh_future push_drain(struct push *push, int64_t until)
{
	push->draining = true;
	push->drained = wh_promise(push->loop, NULL, NULL);
	stop_reserving(push);
	check_drained(push);
	return wh_deadline(push->drained, until);
}

struct push *push_close(struct push *push)
{
	if (!push)
		return NULL;
	push->closing = true;
	stop_reserving(push);
	push_unref(push);
	return NULL;
}

uint64_t push_under_way(const struct push *push)
{
	return push->under_way;
}
