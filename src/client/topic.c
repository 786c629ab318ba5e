/* src/client/topic.c -- topics: publish an event, subscribe a queue. Thread: loop. */
#include <errno.h>
#include <string.h>

#include "base/units.h"
#include "client/ask.h"
#include "client/members.h"

enum { NAME_BYTES_MAX = 64 };

/* ---- publish ----------------------------------------------------------------------------- */

static void published(struct wh__ask *ask, struct wh_http_response *response)
{
	struct wh_slice json = wh__body_json(response);
	bool duplicate = false;
	uint64_t jobs;

	if (response->status != 202 || !wh__json_u64(wh__json_member(json, "jobs"), &jobs) ||
	    !wh__ask_receipt(ask, response)) {
		wh__ask_garbled(ask, response);
		return;
	}
	if (ask->receipt)
		ask->receipt->duplicate =
			wh__json_bool(wh__json_member(json, "duplicate"), &duplicate) && duplicate;
	wh_http_response_free(response);
	wh__ask_end(ask, (int64_t)jobs, NULL, NULL);
}

/* An attribute as a header field: what HTTP does not carry is percent-encoded (CloudEvents HTTP binding 3.1.3.2). */
static void put_attribute(struct wh__ask *ask, const char *name, const char *value)
{
	static const char digits[] = "0123456789ABCDEF";
	char given[256], field[NAME_BYTES_MAX + 4] = "ce-";
	struct wh__text text;

	wh__text_init(&text, given, sizeof(given));
	for (; *value; value++) {
		uint8_t c = (uint8_t)*value;

		if (c > ' ' && c < 0x7f && c != '"' && c != '%')
			wh__text_put(&text, value, 1);
		else
			wh__text_put(&text, (char[3]){'%', digits[c >> 4], digits[c & 15]}, 3);
	}
	memcpy(field + 3, name, strlen(name) + 1);
	if (text.failed)
		ask->fields.failed = true;
	else
		wh__ask_field(ask, field, text.data ? text.data : "", text.len);
	wh__text_done(&text);
}

static void put_query(struct wh__ask *ask, const char *name, const char *value)
{
	if (!value)
		return;
	wh__ask_query(ask, name);
	wh__ask_segment(ask, value);
}

bool wh__is_attribute(const char *name)
{
	return name && *name && strlen(name) <= NAME_BYTES_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789") == strlen(name);
}

/* Without an id the server makes one, and says where and when, unless that is said. false: what cannot be. */
static bool put_event(struct wh__ask *ask, const struct wh_event *event)
{
	char instant[WH__INSTANT_TEXT_BYTES];

	if (!event->type || !*event->type)
		return false;
	if (!event->id) {
		if (event->time != 0 || event->attribute_count > 0)
			return false;
		put_query(ask, "type", event->type);
		put_query(ask, "source", event->source);
		put_query(ask, "subject", event->subject);
		return true;
	}
	if (!event->source || event->attribute_count > WH_ATTRIBUTES_MAX)
		return false;
	put_attribute(ask, "specversion", "1.0");
	put_attribute(ask, "id", event->id);
	put_attribute(ask, "source", event->source);
	put_attribute(ask, "type", event->type);
	if (event->subject)
		put_attribute(ask, "subject", event->subject);
	if (event->time != 0) {
		instant[wh__put_instant(instant, event->time)] = 0;
		put_attribute(ask, "time", instant);
	}
	for (size_t i = 0; i < event->attribute_count; i++) {
		if (!wh__is_attribute(event->attributes[i].name) || !event->attributes[i].value)
			return false;
		put_attribute(ask, event->attributes[i].name, event->attributes[i].value);
	}
	return true;
}

wh_future wh_client_publish(wh_client *client, const char *topic, const struct wh_event *event,
                            const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = wh__ask_new(client, "POST", how, published, &failed);

	if (!ask) {
		wh__payload_release(event ? &event->data : NULL);
		return failed;
	}
	if (event && !wh__ask_payload(ask, &event->data))
		return wh__ask_refuse(ask, -ENOMEM);
	if (!topic || !*topic || !event)
		return wh__ask_refuse(ask, -EINVAL);
	wh__ask_path(ask, "/v1/topics/");
	wh__ask_segment(ask, topic);
	wh__ask_path(ask, "/events");
	if (!put_event(ask, event) || !wh__ask_key(ask, how))
		return wh__ask_refuse(ask, -EINVAL);
	ask->changes = true;
	return wh__ask_start(ask);
}

/* ---- topics and subscriptions ------------------------------------------------------------ */

/* name NULL: the topic itself. */
static struct wh__ask *ask_topic(wh_client *client, const char *method, const char *topic, const char *name,
                                 bool named, const struct wh_how *how, wh__ask_answer *answer,
                                 wh_future *ret_failed)
{
	struct wh__ask *ask = wh__ask_new(client, method, how, answer, ret_failed);

	if (!ask)
		return NULL;
	if (!topic || !*topic || (named && (!name || !*name))) {
		*ret_failed = wh__ask_refuse(ask, -EINVAL);
		return NULL;
	}
	wh__ask_path(ask, "/v1/topics/");
	wh__ask_segment(ask, topic);
	if (named) {
		wh__ask_path(ask, "/subscriptions/");
		wh__ask_segment(ask, name);
	}
	return ask;
}

/* Takes the text. */
static wh_future start_with(struct wh__ask *ask, struct wh__text *json)
{
	size_t len = json->len;

	wh__ask_field(ask, "Content-Type", "application/json", 16);
	if (!wh__ask_bytes(ask, wh__text_take(json), len))
		return wh__ask_refuse(ask, -ENOMEM);
	return wh__ask_start(ask);
}

wh_future wh_client_topic_put(wh_client *client, const char *topic, const struct wh_topic_settings *settings,
                              const struct wh_how *how)
{
	static const struct wh_topic_settings defaults;
	wh_future failed;
	struct wh__ask *ask = ask_topic(client, "PUT", topic, NULL, false, how, wh__answer_created, &failed);
	struct wh__text json;

	if (!ask)
		return failed;
	if (!settings)
		settings = &defaults;
	wh__text_init(&json, NULL, 0);
	wh__text_put(&json, "{", 1);
	wh__member_duration(&json, "retention", settings->retention_ns);
	if (settings->events_max > 0) {
		wh__member(&json, "events_max");
		wh__text_u64(&json, settings->events_max);
	}
	if (settings->deduplicate_ns > 0)
		wh__member_duration(&json, "deduplicate", settings->deduplicate_ns);
	wh__text_put(&json, "}", 1);
	return start_with(ask, &json);
}

wh_future wh_client_subscribe(wh_client *client, const char *topic, const char *name,
                              const struct wh_subscription *subscription, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_topic(client, "PUT", topic, name, true, how, wh__answer_created, &failed);
	static const struct wh_subscription defaults;
	struct wh__text json;

	if (!ask)
		return failed;
	if (!subscription)
		subscription = &defaults;
	wh__text_init(&json, NULL, 0);
	wh__text_put(&json, "{", 1);
	wh__member_string(&json, "queue", subscription->queue);
	if (subscription->filters) {
		wh__member(&json, "filters");
		wh__text_str(&json, subscription->filters);
	}
	wh__member_string(&json, "from", subscription->from);
	wh__member_string(&json, "group", subscription->group);
	wh__member_string(&json, "unique", subscription->unique);
	if (subscription->unique && subscription->unique_while_ns > 0)
		wh__member_duration(&json, "unique_while", subscription->unique_while_ns);
	else if (subscription->unique && subscription->unique_while_ns < 0)
		wh__member_string(&json, "unique_while", "queued");
	wh__text_put(&json, "}", 1);
	return start_with(ask, &json);
}

wh_future wh_client_unsubscribe(wh_client *client, const char *topic, const char *name,
                                const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_topic(client, "DELETE", topic, name, true, how, wh__answer_zero, &failed);

	return ask ? wh__ask_start(ask) : failed;
}
