/* src/client/call.c -- services behind the gateway: called in the three moods, declared, removed. Thread: loop. */
#include <errno.h>
#include <string.h>

#include "client/ask.h"

/* Committed, and not answered yet. */
static void accepted(struct wh__ask *ask, struct wh_http_response *response)
{
	if (!wh__json_u64(wh__json_member(wh__body_json(response), "id"), &ask->job) ||
	    !wh__ask_receipt(ask, response)) {
		wh__ask_garbled(ask, response);
		return;
	}
	ask->accepted = response;
	if (ask->result_wait_ns > 0)
		wh__ask_become_result(ask);
	else
		wh__result_not_ready(ask);
}

static void answered(struct wh__ask *ask, struct wh_http_response *response)
{
	struct wh_result *result;

	if (ask->prefer_async) {
		if (response->status == 202)
			accepted(ask, response);
		else
			wh__ask_garbled(ask, response);
		return;
	}
	if (wh__read_header_u64(response, "Whilst-Job", &ask->job) && ask->receipt)
		ask->receipt->job = ask->job; /* the service records its calls */
	result = wh__result_new(response);
	if (!result)
		wh__ask_out_of_memory(ask, response);
	else
		wh__ask_end(ask, result->status, result, wh__result_dispose);
}

static bool is_one_of(const char *method, const char *const *methods)
{
	while (*methods && strcmp(*methods, method) != 0)
		methods++;
	return *methods;
}

/* The method is kept by the ask, which may be sent again: one of these, or among the fields that are. */
static const char *keep_method(const char *method)
{
	static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", NULL};

	for (const char *const *at = known; *at; at++) {
		if (strcmp(*at, method) == 0)
			return *at;
	}
	return NULL;
}

static bool put_request(struct wh__ask *ask, const struct wh_service_call *call)
{
	wh__ask_path(ask, "/call/");
	wh__ask_segment(ask, call->service);
	if (!call->path || *call->path != '/')
		wh__ask_path(ask, "/");
	wh__ask_path(ask, call->path ? call->path : "");
	for (size_t i = 0; i < call->field_count; i++) {
		const struct wh_http_field *field = &call->fields[i];

		if (memchr(field->name.data, 0, field->name.len) ||
		    memchr(field->value.data, 0, field->value.len))
			return false;
		wh__text_put(&ask->fields, field->name.data, field->name.len);
		wh__text_put(&ask->fields, "", 1);
		wh__text_put(&ask->fields, field->value.data, field->value.len);
		wh__text_put(&ask->fields, "", 1);
	}
	return true;
}

wh_future wh_client_call(wh_client *client, const struct wh_service_call *call, const struct wh_how *how)
{
	static const char *const safe[] = {"GET", "HEAD", "OPTIONS", NULL};
	const char *method = keep_method(call->method ? call->method : call->body.bytes ? "POST" : "GET");
	bool committed = call->respond_async || call->wait_ns > 0;
	wh_future failed;
	struct wh__ask *ask = wh__ask_new(client, method ? method : "", how, answered, &failed);

	if (!ask) {
		wh__payload_release(&call->body);
		return failed;
	}
	if (call->body.bytes || call->body.release) {
		if (!wh__ask_payload(ask, &call->body))
			return wh__ask_refuse(ask, -ENOMEM);
	}
	if (!method || !call->service || !*call->service || call->field_count > WH__ASK_FIELDS_MAX ||
	    !put_request(ask, call) || (committed && !wh__ask_key(ask, how)))
		return wh__ask_refuse(ask, -EINVAL);
	ask->changes = committed || !is_one_of(method, safe);
	ask->passes = true;
	ask->prefer_async = committed;
	ask->result_wait_ns = call->respond_async ? 0 : call->wait_ns;
	return wh__ask_start(ask);
}

/* ---- which there are ----------------------------------------------------------------------- */

wh_future wh_client_service_put(wh_client *client, const char *name,
                                const struct wh_service_settings *settings, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask =
		wh__ask_named(client, "PUT", "/v1/services/", name, how, wh__answer_created, &failed);
	struct wh__text json;
	size_t len;

	if (!ask)
		return failed;
	if (!settings || !settings->url)
		return wh__ask_refuse(ask, -EINVAL);
	wh__text_init(&json, NULL, 0);
	wh__text_str(&json, "{\"url\":");
	wh__text_json(&json, settings->url, strlen(settings->url));
	if (settings->concurrency > 0)
		wh__text_format(&json, ",\"concurrency\":%u", settings->concurrency);
	if (settings->attempts > 0)
		wh__text_format(&json, ",\"attempts\":%u", settings->attempts);
	if (settings->timeout_ns > 0)
		wh__text_format(&json, ",\"timeout\":\"%lldms\"",
		                (long long)((settings->timeout_ns + WH_NS_PER_MS - 1) / WH_NS_PER_MS));
	wh__text_str(&json, settings->record ? ",\"record\":true}" : "}");
	wh__ask_field(ask, "Content-Type", "application/json", 16);
	len = json.len;
	if (!wh__ask_bytes(ask, wh__text_take(&json), len))
		return wh__ask_refuse(ask, -ENOMEM);
	return wh__ask_start(ask);
}

wh_future wh_client_service_delete(wh_client *client, const char *name, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask =
		wh__ask_named(client, "DELETE", "/v1/services/", name, how, wh__answer_zero, &failed);

	return ask ? wh__ask_start(ask) : failed;
}
