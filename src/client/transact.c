/* src/client/transact.c -- several actions as one commit: POST /v1/transactions. Thread: loop. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "client/ask.h"
#include "client/members.h"

struct wh_transaction *wh_transaction_free(struct wh_transaction *transaction)
{
	free(transaction);
	return NULL;
}

static void dispose(wh_res res, void *arg)
{
	(void)arg;
	wh_transaction_free(res.ptr);
}

/* ---- the request ------------------------------------------------------------------------- */

static void put_lease(struct wh__text *text, const struct wh_lease *lease)
{
	wh__member_number(text, "job", lease->job);
	wh__text_format(text, ",\"lease\":\"%u.%llu\"", lease->epoch, (unsigned long long)lease->claim);
}

static void put_payload(struct wh__text *text, const char *name, const struct wh_payload *payload)
{
	wh__text_format(text, ",\"%s\":\"", name);
	wh__text_base64(text, payload->bytes, payload->len);
	wh__text_put(text, "\"", 1);
	if (payload->type)
		wh__member_string(text, "content_type", payload->type);
}

static void put_options(struct wh__text *text, const struct wh_submit_options *options)
{
	char instant[WH__INSTANT_TEXT_BYTES];

	if (options->priority_set)
		wh__member_number(text, "priority", options->priority);
	if (options->delay_ns > 0)
		wh__member_duration(text, "delay", options->delay_ns);
	if (options->run_at > 0) {
		instant[wh__put_instant(instant, options->run_at)] = 0;
		wh__member_string(text, "run_at", instant);
	}
	if (options->time_to_run_ns > 0)
		wh__member_duration(text, "time_to_run", options->time_to_run_ns);
	if (options->attempts > 0)
		wh__member_number(text, "attempts", options->attempts);
	if (options->retention_ns != 0)
		wh__member_duration(text, "retention", options->retention_ns > 0 ? options->retention_ns : 0);
	if (options->expires_ns > 0)
		wh__member_duration(text, "expires", options->expires_ns);
	if (options->expires_at > 0) {
		instant[wh__put_instant(instant, options->expires_at)] = 0;
		wh__member_string(text, "expires_at", instant);
	}
	if (options->unique)
		wh__member_string(text, "unique", options->unique);
	if (options->unique && options->unique_while_ns > 0)
		wh__member_duration(text, "unique_while", options->unique_while_ns);
	else if (options->unique && options->unique_while_ns < 0)
		wh__member_string(text, "unique_while", "queued");
	if (options->group)
		wh__member_string(text, "group", options->group);
	for (size_t i = 0; i < options->after_count; i++) {
		const char *before = i ? "," : ",\"after\":[";

		if (options->after[i] >> 63)
			wh__text_format(text, "%s{\"action\":%llu}", before,
			                (unsigned long long)(options->after[i] & ~WH_AFTER_ACTION(0)));
		else
			wh__text_format(text, "%s%llu", before, (unsigned long long)options->after[i]);
	}
	if (options->after_count > 0)
		wh__text_put(text, "]", 1);
	if (options->after_failure != WH_AFTER_CANCEL)
		wh__member_string(text, "after_failure", wh__after_failure(options->after_failure));
	if (options->callback)
		wh__member_string(text, "callback", options->callback);
}

void wh__put_submit(struct wh__text *text, const char *queue, const struct wh_payload *payload,
                    const struct wh_submit_options *options)
{
	wh__member_string(text, "queue", queue);
	put_payload(text, "payload_base64", payload);
	put_options(text, options);
}

static bool put_fail(struct wh__text *text, const struct wh_action *action)
{
	if (action->delay_ns < WH_RETRY_NEVER)
		return false;
	if (action->text)
		wh__member_string(text, "error", action->text);
	if (action->delay_ns == WH_RETRY_NEVER)
		wh__text_str(text, ",\"retry\":false");
	else if (action->delay_ns >= 0)
		wh__member_duration(text, "delay", action->delay_ns);
	return true;
}

static void put_first(struct wh__text *text, const char *name, const char *string)
{
	wh__text_format(text, "\"%s\":", name);
	wh__text_json(text, string, strlen(string));
}

/* In JSON, whole. */
static bool put_whole_event(struct wh__text *text, const struct wh_event *event)
{
	char instant[WH__INSTANT_TEXT_BYTES];

	if (!event->source || event->attribute_count > WH_ATTRIBUTES_MAX)
		return false;
	wh__text_str(text, ",\"event\":{");
	put_first(text, "specversion", "1.0");
	wh__member_string(text, "id", event->id);
	wh__member_string(text, "source", event->source);
	wh__member_string(text, "type", event->type);
	if (event->subject)
		wh__member_string(text, "subject", event->subject);
	if (event->time != 0) {
		instant[wh__put_instant(instant, event->time)] = 0;
		wh__member_string(text, "time", instant);
	}
	for (size_t i = 0; i < event->attribute_count; i++) {
		if (!wh__is_attribute(event->attributes[i].name) || !event->attributes[i].value)
			return false;
		wh__member_string(text, event->attributes[i].name, event->attributes[i].value);
	}
	if (event->data.bytes) {
		wh__member_string(text, "datacontenttype",
		                  event->data.type ? event->data.type : "application/octet-stream");
		wh__text_str(text, ",\"data_base64\":\"");
		wh__text_base64(text, event->data.bytes, event->data.len);
		wh__text_put(text, "\"", 1);
	}
	wh__text_put(text, "}", 1);
	return true;
}

void wh__put_event(struct wh__text *text, const char *topic, const struct wh_event *event)
{
	wh__member_string(text, "topic", topic);
	wh__member_string(text, "type", event->type);
	wh__member_string(text, "source", event->source);
	wh__member_string(text, "subject", event->subject);
	if (event->data.bytes)
		put_payload(text, "payload_base64", &event->data);
}

static bool put_publish(struct wh__text *text, const struct wh_action *action)
{
	const struct wh_event *event = action->event;

	if (!action->queue || !*action->queue || !event || !event->type || !*event->type ||
	    event->data.release || event->data.len > UINT32_MAX)
		return false;
	if (event->id) {
		wh__member_string(text, "topic", action->queue);
		return put_whole_event(text, event);
	}
	if (event->time != 0 || event->attribute_count > 0)
		return false;
	wh__put_event(text, action->queue, event);
	return true;
}

static bool put_edit(struct wh__text *text, const struct wh_action *action)
{
	if (!action->edit)
		return false;
	wh__member_number(text, "job", action->job);
	wh__put_edit(text, action->edit);
	if (action->edit->if_match)
		wh__member_string(text, "if_match", action->edit->if_match);
	return true;
}

/* What follows the name of the action. false: it is none. */
static bool put_members(struct wh__text *text, const struct wh_action *action)
{
	struct wh_slice json = {action->text, action->text ? strlen(action->text) : 0};

	if (action->payload.release || action->payload.len > UINT32_MAX || action->status < 0)
		return false;
	if (action->kind >= WH_ACTION_COMPLETE && action->kind <= WH_ACTION_BURY)
		put_lease(text, &action->lease);
	switch (action->kind) {
	case WH_ACTION_SUBMIT:
		if (!action->queue || !*action->queue)
			return false;
		wh__put_submit(text, action->queue, &action->payload, &action->options);
		return true;
	case WH_ACTION_COMPLETE:
		if (action->status > 0)
			wh__member_number(text, "status", (uint64_t)action->status);
		put_payload(text, "result_base64", &action->payload);
		return true;
	case WH_ACTION_FAIL:
		return put_fail(text, action);
	case WH_ACTION_RELEASE:
	case WH_ACTION_BURY:
		if (action->delay_ns < 0)
			return false;
		if (action->kind == WH_ACTION_RELEASE && action->delay_ns > 0)
			wh__member_duration(text, "delay", action->delay_ns);
		if (action->kind == WH_ACTION_BURY && action->text)
			wh__member_string(text, "error", action->text);
		if (action->priority)
			wh__member_number(text, "priority", *action->priority);
		return true;
	case WH_ACTION_EXTEND:
		if (action->delay_ns > 0)
			wh__member_duration(text, "by", action->delay_ns);
		return action->delay_ns >= 0;
	case WH_ACTION_PROGRESS:
		if (!wh__json_check(json))
			return false;
		wh__text_str(text, ",\"progress\":");
		wh__text_put(text, json.data, json.len);
		return true;
	case WH_ACTION_CANCEL:
	case WH_ACTION_KICK:
		wh__member_number(text, "job", action->job);
		return true;
	case WH_ACTION_PUBLISH:
		return put_publish(text, action);
	case WH_ACTION_EDIT:
		return put_edit(text, action);
	case WH_ACTION_MOVE:
	case WH_ACTION_REPLAY:
		wh__member_number(text, "job", action->job);
		if (action->queue)
			wh__member_string(text, "to", action->queue);
		return action->queue ? *action->queue != 0 : action->kind == WH_ACTION_REPLAY;
	default:
		return false;
	}
}

static bool put_action(struct wh__text *text, const struct wh_action *action)
{
	static const char *const names[] = {NULL,      "submit",   "complete", "fail",   "release",
	                                    "extend",  "progress", "bury",     "cancel", "kick",
	                                    "publish", "edit",     "move",     "replay"};

	if (action->kind < WH_ACTION_SUBMIT || action->kind >= (int)(sizeof(names) / sizeof(names[0])))
		return false;
	wh__text_format(text, "{\"action\":\"%s\"", names[action->kind]);
	if (!put_members(text, action))
		return false;
	wh__text_put(text, "}", 1);
	return true;
}

/* ---- the answer -------------------------------------------------------------------------- */

static bool take_acted(struct wh_slice json, struct wh_acted *ret)
{
	struct wh_slice run_at = wh__json_member(json, "run_at"),
			deadline = wh__json_member(json, "deadline");

	*ret = (struct wh_acted){.state = wh__read_state(wh__json_member(json, "state"))};
	if (!wh__json_bool(wh__json_member(json, "duplicate"), &ret->duplicate))
		ret->duplicate = false;
	if (wh__json_u64(wh__json_member(json, "jobs"), &ret->jobs)) { /* of an event, whose id is a text */
		struct wh_slice event = wh__json_member(json, "event");

		return wh__json_is_null(event) || wh__read_position(event, &ret->event);
	}
	return wh__json_u64(wh__json_member(json, "id"), &ret->job) &&
	       (!run_at.data || wh__read_instant(run_at, &ret->at)) &&
	       (!deadline.data || wh__read_instant(deadline, &ret->at));
}

static void acted(struct wh__ask *ask, struct wh_http_response *response)
{
	struct wh_slice results = wh__json_member(wh__body_json(response), "results"), at = {NULL, 0};
	struct wh_transaction *transaction;
	struct wh_acted *list;
	size_t count = 0;

	while (wh__json_next(results, &at))
		count++;
	if (response->status != 200 || count == 0 || !wh__ask_receipt(ask, response)) {
		wh__ask_garbled(ask, response);
		return;
	}
	transaction = malloc(sizeof(*transaction) + count * sizeof(*list));
	if (!transaction) {
		wh__ask_out_of_memory(ask, response);
		return;
	}
	list = (struct wh_acted *)(void *)(transaction + 1);
	*transaction = (struct wh_transaction){count, list};
	at.data = NULL;
	for (size_t i = 0; wh__json_next(results, &at); i++) {
		if (take_acted(at, &list[i]))
			continue;
		free(transaction);
		wh__ask_garbled(ask, response);
		return;
	}
	wh_http_response_free(response);
	wh__ask_end(ask, (int64_t)count, transaction, dispose);
}

wh_future wh_client_transact(wh_client *client, const struct wh_action *actions, size_t count,
                             const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = wh__ask_new(client, "POST", how, acted, &failed);
	struct wh__text body;
	bool good = count > 0 && count <= WH__ASK_ITEMS_MAX;
	size_t len;

	if (!ask)
		return failed;
	wh__text_init(&body, NULL, 0);
	wh__text_str(&body, "{\"actions\":[");
	for (size_t i = 0; i < count && good; i++) {
		if (i > 0)
			wh__text_put(&body, ",", 1);
		good = put_action(&body, &actions[i]);
	}
	wh__text_put(&body, "]}", 2);
	if (!good) {
		wh__text_done(&body);
		return wh__ask_refuse(ask, -EINVAL);
	}
	if (!wh__ask_key(ask, how)) {
		wh__text_done(&body);
		return wh__ask_refuse(ask, -EINVAL);
	}
	wh__ask_path(ask, "/v1/transactions");
	wh__ask_field(ask, "Content-Type", "application/json", 16);
	len = body.len;
	if (!wh__ask_bytes(ask, wh__text_take(&body), len))
		return wh__ask_refuse(ask, -ENOMEM);
	return wh__ask_start(ask);
}
