/* src/deliver/callback_send.c -- a callback on its way: signed, sent, tried again. See push_inside.h; Standard Webhooks 1.0.
 *
 * The id of a message is that of its job in the queue of callbacks, so it is the same at every attempt; the time, and with it the signature, is
 * that of the attempt.
 */
#include "deliver/push_inside.h"

/* Before the second attempt, the third ...: a receiver that is away for a day or two is told when it is back. */
static const int64_t delays_s[] = {5,         5 * 60,    30 * 60,   2 * 3600, 5 * 3600,
                                   10 * 3600, 14 * 3600, 20 * 3600, 24 * 3600};

int64_t callback_delay(uint32_t attempt, uint64_t salt)
{
	int64_t ns;

	if (attempt == 0 || attempt > sizeof(delays_s) / sizeof(delays_s[0]))
		return 0;
	ns = delays_s[attempt - 1] * WH_NS_PER_S;
	salt = (salt + attempt) * UINT64_C(0x9e3779b97f4a7c15);
	return ns + ns / 4 * (int64_t)(salt >> 54) / 1024;
}

/* "Whilst-Callback: URL", which is all that is kept with it. */
static bool find_url(const struct store_bytes *payload, struct wh_slice *ret)
{
	static const char name[] = "Whilst-Callback: ";
	const size_t n = sizeof(name) - 1;
	const char *at = payload->headers.data;

	if (payload->headers.len < n + 2 || memcmp(at, name, n) != 0)
		return false;
	*ret = (struct wh_slice){at + n, payload->headers.len - n - 2};
	return true;
}

/* The host of the URL as a backend, and what it is asked for. -EINVAL: it is no URL that can be asked; -ENOMEM. */
static int set_place(struct delivery *delivery, struct wh_slice url)
{
	struct wh__text *made = &delivery->made;
	struct wh_http_url parts;
	struct backend *backend;
	char origin[CALLBACK_URL_BYTES_MAX + 1], detail[300];
	size_t origin_len;

	if (url.len > CALLBACK_URL_BYTES_MAX || wh_http_url_parse(url, &parts) != 0 || parts.userinfo.data)
		return -EINVAL;
	origin_len = parts.path.len > 0    ? (size_t)(parts.path.data - url.data)
	             : parts.query.data    ? (size_t)(parts.query.data - 1 - url.data)
	             : parts.fragment.data ? (size_t)(parts.fragment.data - 1 - url.data)
	                                   : url.len;
	memcpy(origin, url.data, origin_len);
	origin[origin_len] = 0;
	backend = backend_new(origin, detail, sizeof(detail));
	if (!backend)
		return detail[0] ? -EINVAL : -ENOMEM;
	backend_begin(&delivery->at, backend);
	backend_unref(backend);
	if (parts.path.len > 0)
		wh__text_put(made, parts.path.data, parts.path.len);
	else
		wh__text_put(made, "/", 1);
	if (parts.query.data) {
		wh__text_put(made, "?", 1);
		wh__text_put(made, parts.query.data, parts.query.len);
	}
	return 0;
}

enum { TARGET, ID, TIMESTAMP, SIGNATURE, PIECES };

/* Pieces of .made, each ended by a NUL; the message refers to them when all are there, as they may move before. */
static void put_message(struct delivery *delivery, const size_t at[PIECES + 1])
{
	static const char *const names[PIECES] = {
		[ID] = "webhook-id", [TIMESTAMP] = "webhook-timestamp", [SIGNATURE] = "webhook-signature"};
	const struct store_bytes *payload = delivery->payload;
	struct message *message = &delivery->message;
	const char *made = delivery->made.data;

	*message = (struct message){
		.method = {"POST", 4},
		.target = {made, at[ID] - 1},
		.body = {payload->body.data, payload->body.len},
		.field_count = 2,
		.fields = {{{"Content-Type", 12}, {"application/json", 16}},
	                   {{"User-Agent", 10}, {"whilst/" WH_VERSION, sizeof("whilst/" WH_VERSION) - 1}}}};
	for (int i = ID; i < PIECES; i++)
		message->fields[message->field_count++] = (struct wh_http_field){
			{names[i], strlen(names[i])}, {made + at[i], at[i + 1] - at[i] - 1}};
	delivery_trace(delivery);
}

/* Its attempt does not count. */
static bool put_off(struct delivery *delivery, int64_t delay_ns)
{
	delivery->put_off = true;
	delivery->delay_ns = delay_ns;
	delivery_settle(delivery);
	return false;
}

bool callback_message(struct delivery *delivery)
{
	struct push *push = delivery->pusher->push;
	const struct store_bytes *payload = delivery->payload;
	int64_t now_s = wh_wall_now(push->loop) / WH_NS_PER_S;
	struct wh__text *made = &delivery->made;
	size_t at[PIECES + 1] = {0};
	struct wh_slice url;
	char id[40];
	int error = -EINVAL;

	if (push->secrets.count == 0) /* taken away meanwhile: it can wait */
		return put_off(delivery, 60 * WH_NS_PER_S);
	if (payload->blob.number == 0 && find_url(payload, &url))
		error = set_place(delivery, url);
	if (error == -ENOMEM) /* which says nothing of the URL */
		return put_off(delivery, WH_NS_PER_S);
	if (error != 0) {
		delivery_fail(delivery, true, "it names no URL that can be asked");
		return false;
	}
	snprintf(id, sizeof(id), "job_%llu", (unsigned long long)delivery->job);
	wh__text_put(made, "", 1);
	at[ID] = made->len;
	wh__text_put(made, id, strlen(id) + 1);
	at[TIMESTAMP] = made->len;
	wh__text_format(made, "%lld", (long long)now_s);
	wh__text_put(made, "", 1);
	at[SIGNATURE] = made->len;
	error = sign(&push->secrets, id, now_s, payload->body.data, payload->body.len, made);
	wh__text_put(made, "", 1);
	at[PIECES] = made->len;
	if (error != 0 || made->failed) {
		delivery_fail(delivery, false, "it cannot be signed: %s",
		              wh_strerror(error != 0 ? error : -ENOMEM));
		return false;
	}
	put_message(delivery, at);
	return true;
}

bool callback_judge(struct delivery *delivery)
{
	const struct wh_http_response *response = delivery->response;
	int64_t after_ns = message_retry_after(wh_http_response_header(response, "Retry-After"),
	                                       wh_wall_now(delivery->pusher->push->loop));

	if (response->status >= 200 && response->status <= 299) {
		delivery->status = response->status; /* what else it says is of no interest to anybody */
		delivery_settle(delivery);
		return false;
	}
	delivery->delay_ns = after_ns > 0 ? after_ns : 0;
	delivery_fail(delivery, response->status == 410, "%s answered with status %d",
	              delivery->at.backend->origin, response->status);
	return false;
}
