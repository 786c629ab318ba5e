/* src/deliver/target.c -- jobs that are pushed: what the request says, and what the answer means. See push_inside.h, docs/reference/http.md.
 *
 * A target is an ordinary HTTP server that somebody runs instead of workers that ask for jobs. It gets the payload as it was submitted, and
 * says by its status what is to become of the job.
 */
#include "deliver/push_inside.h"

enum { HOLD_S_MAX = 60 };

static void add(struct message *message, const char *name, struct wh_slice value)
{
	if (message->field_count < MESSAGE_FIELDS_MAX)
		message->fields[message->field_count++] = (struct wh_http_field){{name, strlen(name)}, value};
}

static bool is_trace(struct wh_slice name)
{
	return wh_slice_equal_caseless(name, "traceparent") || wh_slice_equal_caseless(name, "tracestate");
}

/* What was kept with the payload: lines "Name: value". Ours, and those of a connection, are not for others to say. */
static void add_kept(struct message *message, struct store_slice lines)
{
	const char *at = lines.data, *end = at + lines.len;

	while (at < end) {
		const char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
		const char *colon = line_end ? memchr(at, ':', (size_t)(line_end - at)) : NULL;
		struct wh_slice name;

		if (!colon || colon + 2 > line_end)
			return;
		name = (struct wh_slice){at, (size_t)(colon - at)};
		if (message->field_count < MESSAGE_FIELDS_MAX - 8 && message_is_end_to_end(name, NULL, 0) &&
		    !wh_slice_equal_caseless(name, "Content-Type") && !is_trace(name) &&
		    !(name.len >= 7 && strncasecmp(name.data, "whilst-", 7) == 0))
			message->fields[message->field_count++] =
				(struct wh_http_field){name, {colon + 2, (size_t)(line_end - colon - 2)}};
		at = line_end + 2;
	}
}

bool target_message(struct delivery *delivery)
{
	const struct store_bytes *payload = delivery->payload;
	struct message *message = &delivery->message;
	const char *base = delivery->service->backends[0]->base;
	struct wh__text *made = &delivery->made;
	size_t job_len, skip = job_name_skip(delivery->pusher->queue, delivery->pusher->queue_len);

	*message = (struct message){.method = {"POST", 4},
	                            .target = {base[0] ? base : "/", base[0] ? strlen(base) : 1},
	                            .body = {payload->body.data, payload->body.len}};
	if (made->len == 0) {
		wh__text_u64(made, delivery->job);
		wh__text_put(made, " ", 1);
		wh__text_u64(made, delivery->attempt);
	}
	if (made->failed)
		return false;
	job_len = (size_t)((const char *)memchr(made->data, ' ', made->len) - made->data);
	if (payload->content_type.len > 0)
		add(message, "Content-Type",
		    (struct wh_slice){payload->content_type.data, payload->content_type.len});
	add_kept(message, payload->headers);
	/* as its namespace calls it */
	add(message, "Whilst-Queue",
	    (struct wh_slice){delivery->pusher->queue + skip, delivery->pusher->queue_len - skip});
	add(message, "Whilst-Job", (struct wh_slice){made->data, job_len});
	add(message, "Whilst-Attempt", (struct wh_slice){made->data + job_len + 1, made->len - job_len - 1});
	delivery_trace(delivery);
	return true;
}

bool target_judge(struct delivery *delivery)
{
	struct push *push = delivery->pusher->push;
	const struct wh_http_response *response = delivery->response;
	int status = response->status;
	bool busy = status == 429 || status == 503;
	int64_t after_ns = message_retry_after(wh_http_response_header(response, "Retry-After"),
	                                       wh_wall_now(push->loop)),
		hold_ns = after_ns;

	if (hold_ns > HOLD_S_MAX * WH_NS_PER_S)
		hold_ns = HOLD_S_MAX * WH_NS_PER_S;
	push_told(delivery->pusher,
	          busy                             ? ADAPTIVE_TOO_MUCH
	          : status >= 200 && status <= 299 ? ADAPTIVE_GOOD
	                                           : ADAPTIVE_NEITHER,
	          delivery->sent_at, busy && hold_ns > 0 ? hold_ns : 0);
	if (status >= 200 && status <= 299)
		return true;
	/* that it cannot take the job now says nothing of the job */
	delivery->put_off = status == 429 || (status == 503 && after_ns >= 0);
	delivery->delay_ns = after_ns > 0 ? after_ns : WH_NS_PER_S;
	if (delivery->put_off) {
		delivery_settle(delivery);
	} else {
		delivery->delay_ns = after_ns > 0 ? after_ns : 0;
		delivery_fail(delivery, status == 410, "%s answered with status %d",
		              delivery->at.backend->origin, status);
	}
	return false;
}
