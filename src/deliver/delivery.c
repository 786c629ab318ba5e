/* src/deliver/delivery.c -- one attempt of a recorded call or a pushed job: read, sent on by exchange.c, settled. See push.h, push_inside.h.
 */
#include "deliver/push_inside.h"

void delivery_leave(struct delivery *delivery)
{
	push_backend_end(delivery->pusher->push, delivery->service, &delivery->at);
}

void delivery_end(struct delivery *delivery)
{
	struct pusher *pusher = delivery->pusher;

	delivery->settled = delivery->decided = true;
	delivery_leave(delivery);
	delivery->call = wh_http_call_close(delivery->call);
	delivery->reader = store_reader_free(delivery->reader);
	if (delivery->sending > 0)
		return; /* the last of these comes here again */
	wh_buf_put(delivery->piece);
	store_body_free(delivery->answer);
	store_bytes_unref(delivery->payload);
	free(delivery->content_type);
	wh__text_done(&delivery->made);
	wh__text_done(&delivery->head);
	wh__text_done(&delivery->headers);
	service_unref(delivery->service);
	*delivery->link = delivery->next;
	if (delivery->next)
		delivery->next->link = delivery->link;
	free(delivery);
	push_settled(pusher);
}

/* ---- how an attempt ends ----------------------------------------------------------------- */

static void settle_again(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;

	if (res.n < 0 && res.n != -ENOMEM)
		delivery_end(delivery);
	else
		delivery_settle(delivery);
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
		push_then(push, wh_sleep(push->loop, PUSH_AGAIN_NS), settle_again, delivery);
	} else if (error == -JOB_ETOO_LARGE && !delivery->error[0]) {
		snprintf(delivery->error, sizeof(delivery->error),
		         "the answer of the backend is too large to be kept");
		delivery->no_retry = true;
		delivery_settle(delivery);
	} else {
		if (error != 0 && error != -JOB_ECANCELLED && error != -ECANCELED)
			push_event(push, WH_LOG_WARNING, "call-unsettled", delivery->pusher, delivery->job,
			           job_strerror(error));
		delivery_end(delivery);
	}
	push_unref(push);
}

void delivery_settle(struct delivery *delivery)
{
	struct push *push = delivery->pusher->push;
	struct store_action action = {.job = delivery->job, .lease = delivery->lease};

	/* nobody waits for the backend any more: what is still being sent to it is not needed */
	delivery->decided = true;
	delivery_leave(delivery);
	delivery->call = wh_http_call_close(delivery->call);
	if (delivery->error[0] && delivery->service->callbacks &&
	    (delivery->no_retry || callback_delay(delivery->attempt, delivery->job) == 0)) {
		action.kind = STORE_BURY;
		action.bury.error = (struct store_slice){delivery->error, strlen(delivery->error)};
	} else if (delivery->error[0]) {
		action.kind = STORE_FAIL;
		action.fail.error = (struct store_slice){delivery->error, strlen(delivery->error)};
		action.fail.no_retry = delivery->no_retry;
		action.fail.delay_ns =
			delivery->service->callbacks
				? callback_delay(delivery->attempt, delivery->job)
				: service_backoff(delivery->service, delivery->attempt, delivery->job);
		if (delivery->delay_ns > action.fail.delay_ns)
			action.fail.delay_ns = delivery->delay_ns;
		action.fail.delay_set = action.fail.delay_ns > 0;
	} else if (delivery->put_off) {
		action.kind = STORE_RELEASE;
		action.release.delay_ns = delivery->delay_ns;
	} else if (!delivery->status) {
		action.kind = STORE_RETURN;
	} else {
		const char *type = delivery->content_type;
		action.kind = STORE_COMPLETE;
		action.complete.status = (uint32_t)delivery->status;
		action.complete.body = delivery->answer;
		action.complete.content_type = (struct store_slice){type, type ? strlen(type) : 0};
		action.complete.headers = (struct store_slice){delivery->headers.data, delivery->headers.len};
	}
	push_then(push, store_apply(push->store, &action, 1, 0, STORE_LOCAL), settled, delivery);
}

void delivery_fail(struct delivery *delivery, bool no_retry, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(delivery->error, sizeof(delivery->error), format, list);
	va_end(list);
	delivery->no_retry = no_retry;
	delivery_settle(delivery);
}

/* What waits for the backend learns of it by the end of its call; what waits for the store, when that has answered. */
void delivery_cancel(struct delivery *delivery)
{
	wh_http_call *call = delivery->call;

	delivery->cancelled = true;
	delivery->call = NULL;
	wh_http_call_close(call);
}

/* Without a backend that takes calls the job goes back as if it had not been leased: it is no attempt. */
static void send_on(struct delivery *delivery)
{
	if (!delivery->at.backend)
		delivery->at = push_backend(delivery->pusher->push, delivery->service, &delivery->tried);
	if (delivery->cancelled)
		delivery_fail(delivery, true, "cancelled");
	else if (delivery->at.backend)
		delivery_forward(delivery);
	else
		delivery_settle(delivery);
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
		delivery_fail(delivery, true, PUSH_UNKNOWN);
	else
		send_on(delivery);
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
	wh__text_init(&delivery->made, NULL, 0);
	wh__text_init(&delivery->head, NULL, 0);
	wh__text_init(&delivery->headers, NULL, 0);
	delivery->next = pusher->deliveries;
	delivery->link = &pusher->deliveries;
	if (delivery->next)
		delivery->next->link = &delivery->next;
	pusher->deliveries = delivery;
	pusher->under_way++;
	pusher->push->under_way++;
	pusher->push->references++;
	return delivery;
}

/* What was recorded is known. */
static void got_message(struct delivery *delivery)
{
	struct push *push = delivery->pusher->push;

	delivery->idempotent = delivery->service->retry_post || delivery->service->target ||
	                       message_is_idempotent(delivery->message.method);
	if (delivery->lost)
		delivery_fail(delivery, !delivery->idempotent, PUSH_UNKNOWN);
	else if (delivery->attempt > 1 && !delivery->idempotent)
		push_then(push, store_get(push->store, delivery->job, STORE_ASYNC), checked, delivery);
	else
		send_on(delivery);
}

static void no_message(struct delivery *delivery, int64_t error)
{
	const char *what = delivery->service->target ? "payload" : "recorded call";
	char name[STORE_FILE_NAME_BYTES];

	if (delivery->pusher->push->closing) {
		delivery_end(delivery);
	} else if (delivery->lost) {
		delivery_fail(delivery, true, PUSH_UNKNOWN);
	} else if (error == 0) {
		delivery_fail(delivery, true, "what is recorded is not a call");
	} else if (error == -WH_EDAMAGED && delivery->payload) {
		store_file_name(delivery->payload, name);
		delivery_fail(delivery, true, "the %s cannot be read: %s is missing, or not what was written",
		              what, name);
	} else {
		delivery_fail(delivery, false, "the %s cannot be read: %s", what, job_strerror(error));
	}
}

/* The first piece of a recorded call in a file: its message up to the body is copied, as the piece does not stay. */
static void got_first(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;
	const char *end = res.n > 0 ? memmem(res.ptr, (size_t)res.n, "\r\n\r\n", 4) : NULL;

	if (end) {
		wh__text_put(&delivery->head, res.ptr, (size_t)(end + 4 - (const char *)res.ptr));
		delivery->rest = (const uint8_t *)end + 4;
		delivery->rest_len = (size_t)res.n - delivery->head.len;
	}
	if (res.n < 0 || push->closing || delivery->head.failed)
		no_message(delivery, res.n < 0 ? res.n : -ENOMEM);
	else if (!end || !message_read(&delivery->message, delivery->head.data, delivery->head.len))
		no_message(delivery, 0);
	else
		got_message(delivery);
	push_unref(push);
}

static void compared(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;

	if (res.n < 0 || push->closing)
		no_message(delivery, res.n);
	else if (delivery->service->target)
		got_message(delivery);
	else
		push_then(push, store_reader_next(delivery->reader), got_first, delivery);
	push_unref(push);
}

static void read_message(struct delivery *delivery);

static void read_again(wh_loop *loop, wh_res res, void *arg)
{
	struct delivery *delivery = arg;
	struct push *push = delivery->pusher->push;

	if ((res.n < 0 && res.n != -ENOMEM) || push->closing)
		delivery_end(delivery);
	else
		read_message(delivery);
	push_unref(push);
}

static void read_message(struct delivery *delivery)
{
	struct push *push = delivery->pusher->push;
	const struct store_bytes *payload = delivery->payload;
	int error;

	if (delivery->service->callbacks) {
		if (callback_message(delivery))
			got_message(delivery);
		return;
	}
	if (delivery->service->target && !target_message(delivery)) {
		no_message(delivery, -ENOMEM);
		return;
	}
	if (payload->blob.number == 0) {
		if (delivery->service->target ||
		    message_read(&delivery->message, payload->body.data, payload->body.len))
			got_message(delivery);
		else
			no_message(delivery, 0);
		return;
	}
	error = store_reader_open(push->store, delivery->payload, &delivery->reader);
	if (error == 0)
		push_then(push, store_reader_check(delivery->reader), compared, delivery);
	else if (error == -JOB_EBUSY) /* nothing is lost: its lease has a while to go */
		push_then(push, wh_sleep(push->loop, PUSH_AGAIN_NS), read_again, delivery);
	else
		no_message(delivery, error);
}

void delivery_begin(struct pusher *pusher, struct store_leased *leased)
{
	struct delivery *delivery = delivery_new(pusher, leased);

	if (!delivery) {
		push_event(pusher->push, WH_LOG_WARNING, "call-postponed", pusher, leased->job,
		           "out of memory");
		return;
	}
	delivery->attempt = leased->attempt;
	delivery->attempts_max = leased->attempts_max;
	delivery->payload = leased->payload;
	leased->payload = NULL;
	if (delivery->payload)
		read_message(delivery);
	else
		no_message(delivery, leased->error);
}

void delivery_trace(struct delivery *delivery)
{
	const struct store_bytes *payload = delivery->payload;
	struct message *message = &delivery->message;
	struct wh_slice state;

	if (!trace_onward(delivery->pusher->push->loop, payload->trace.data, payload->trace.len,
	                  delivery->parent, &state))
		return;
	message->fields[message->field_count++] =
		(struct wh_http_field){{"traceparent", 11}, {delivery->parent, sizeof(delivery->parent)}};
	if (state.data)
		message->fields[message->field_count++] = (struct wh_http_field){{"tracestate", 10}, state};
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
		delivery->lost = true;
		read_message(delivery);
	}
	push_unref(push);
}

void delivery_lost(struct pusher *pusher, const struct store_leased *leased)
{
	struct delivery *delivery = delivery_new(pusher, leased);
	struct push *push = pusher->push;

	if (delivery)
		push_then(push, store_payload(push->store, delivery->job, STORE_ASYNC), lost_payload,
		          delivery);
}
