/* src/front/event_json.c -- CloudEvents 1.0: an event as a JSON object, read and written. See event.h.
 *
 * What the data is follows from datacontenttype (JSON format 3.1): a JSON value goes through byte for byte, so that no number loses a
 * digit; a text is a string; all else is base64. What says that it is JSON or text and is not is base64 as well.
 */
#include "front/event_inside.h"

#include <strings.h>

#include "base/json.h"

/* Does it declare JSON? Its subtype is json or ends in +json. */
static bool is_json_type(struct wh_slice type)
{
	const char *slash = memchr(type.data, '/', type.len), *end;
	size_t len;

	if (!slash)
		return false;
	for (end = slash + 1; end < type.data + type.len && !strchr("; \t", *end);)
		end++;
	len = (size_t)(end - slash - 1);
	return (len == 4 && strncasecmp(slash + 1, "json", 4) == 0) ||
	       (len > 5 && strncasecmp(end - 5, "+json", 5) == 0);
}

/* Does it declare text whose bytes are UTF-8? */
static bool is_text_type(struct wh_slice type)
{
	static const char *const others[] = {"application/xml", "application/x-www-form-urlencoded"};
	char lower[EVENT_CONTENT_TYPE_MAX + 1];
	const char *charset;
	size_t len = type.len < sizeof(lower) - 1 ? type.len : sizeof(lower) - 1;

	for (size_t i = 0; i < len; i++)
		lower[i] = type.data[i] >= 'A' && type.data[i] <= 'Z' ? (char)(type.data[i] | 0x20)
		                                                      : type.data[i];
	lower[len] = 0;
	charset = strstr(lower, "charset=");
	if (charset) {
		charset += 8 + (charset[8] == '"');
		if (strncmp(charset, "utf-8", 5) != 0 && strncmp(charset, "us-ascii", 8) != 0)
			return false;
	}
	len = strcspn(lower, "; \t");
	if (strncmp(lower, "text/", 5) == 0 || (len > 4 && memcmp(lower + len - 4, "+xml", 4) == 0))
		return true;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		if (strlen(others[i]) == len && memcmp(others[i], lower, len) == 0)
			return true;
	}
	return false;
}

static bool is_utf8(struct wh_slice text)
{
	for (size_t i = 0, n; i < text.len; i += n) {
		n = wh__utf8_bytes(text.data + i, text.len - i);
		if (n == 0)
			return false;
	}
	return true;
}

/* ---- writing ----------------------------------------------------------------------------- */

static void put_name(struct wh__text *text, struct wh_slice name)
{
	wh__text_put(text, ",\"", 2);
	wh__text_put(text, name.data, name.len); /* a-z, 0-9 */
	wh__text_put(text, "\":", 2);
}

static void put_member(struct wh__text *text, struct wh_slice name, struct wh_slice value)
{
	put_name(text, name);
	wh__text_json(text, value.data, value.len);
}

void event_put_json(struct wh__text *text, const struct event *event, const char *more,
                    const char *more_prefix)
{
	size_t prefix = more ? strlen(more_prefix) : 0;
	struct wh_slice type = event->content_type, data = event->data;

	wh__text_str(text, "{\"specversion\":\"1.0\"");
	for (size_t i = 0; i < event->count; i++) {
		const struct event_attribute *a = &event->attributes[i];

		if (wh_slice_equal(a->name, "specversion") ||
		    (more && a->name.len >= prefix && memcmp(a->name.data, more_prefix, prefix) == 0))
			continue;
		if (!a->typed) {
			put_member(text, a->name, a->value);
			continue;
		}
		put_name(text, a->name);
		wh__text_put(text, a->value.data, a->value.len);
	}
	if (type.data)
		put_member(text, (struct wh_slice){"datacontenttype", 15}, type);
	if (more)
		wh__text_str(text, more);
	if (data.len > 0 && type.data && is_json_type(type) && wh__json_check_inside(data, 1)) {
		wh__text_str(text, ",\"data\":");
		wh__text_put(text, data.data, data.len);
	} else if (data.len > 0 && type.data && is_text_type(type) && is_utf8(data)) {
		put_member(text, (struct wh_slice){"data", 4}, data);
	} else if (data.len > 0) {
		wh__text_str(text, ",\"data_base64\":\"");
		wh__text_base64(text, (const uint8_t *)data.data, data.len);
		wh__text_put(text, "\"", 1);
	}
	wh__text_put(text, "}", 1);
}

/* ---- reading ----------------------------------------------------------------------------- */

/* A JSON string's characters, in memory of the event. */
static struct wh_slice take_string(struct event *event, struct wh_slice value)
{
	struct wh_slice text = {event->spare, 0};

	if (!wh__json_string(value, event->spare, &text.len))
		return (struct wh_slice){NULL, 0};
	event->spare += text.len;
	return text;
}

/* -2147483648 to 2147483647, digits only. */
static bool is_integer(struct wh_slice value)
{
	bool minus = value.len > 0 && value.data[0] == '-';
	uint64_t n;

	return value.len > minus &&
	       wh__parse_u64(value.data + minus, value.len - minus, UINT64_C(2147483647) + minus, &n);
}

bool event_is_typed(struct wh_slice value)
{
	return wh_slice_equal(value, "true") || wh_slice_equal(value, "false") || is_integer(value);
}

static bool is_core(struct wh_slice name)
{
	static const char *const names[] = {"specversion", "id",   "source",          "type",
	                                    "subject",     "time", "datacontenttype", "dataschema"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (wh_slice_equal(name, names[i]))
			return true;
	}
	return false;
}

struct reading {
	struct event *event;
	struct event_refusal *refusal;
	struct wh_slice data, base64; /* as they stand */
};

static enum event_wrong read_member(struct reading *r, struct wh_slice name, struct wh_slice value)
{
	struct event *event = r->event;
	struct wh_slice *data = wh_slice_equal(name, "data")          ? &r->data
	                        : wh_slice_equal(name, "data_base64") ? &r->base64
	                                                              : NULL;
	bool typed = value.data[0] != '"';
	struct wh_slice text = value;
	enum event_wrong wrong;

	if (data && data->data)
		return event_refuse(r->refusal, EVENT_BAD, "'%.*s' is given twice", (int)name.len, name.data);
	if (data) {
		*data = value;
		return EVENT_GOOD;
	}
	if (wh__json_is_null(value)) /* unset: JSON format 2.2 */
		return EVENT_GOOD;
	if (!typed)
		text = take_string(event, value);
	else if (is_core(name) || !event_is_typed(value))
		return event_refuse(r->refusal, EVENT_BAD,
		                    "attribute '%.*s': an attribute is a string, and an extension may be "
		                    "true, false or a "
		                    "whole number of 32 bits",
		                    (int)(name.len < 80 ? name.len : 80), name.data);
	if (!wh_slice_equal(name, "datacontenttype")) {
		wrong = event_add(event, name, text, r->refusal);
		if (wrong == EVENT_GOOD)
			event->attributes[event->count - 1].typed = typed;
		return wrong;
	}
	if (event->content_type.data)
		return event_refuse(r->refusal, EVENT_BAD, "datacontenttype is given twice");
	if (!event_text_valid(text) || text.len == 0)
		return event_refuse(r->refusal, EVENT_BAD, "datacontenttype is not a media type (RFC 2046)");
	event->content_type = text;
	return EVENT_GOOD;
}

/* Which bytes the data are. JSON format 3.1.2. */
static enum event_wrong read_data(struct reading *r)
{
	struct event *event = r->event;
	size_t len;

	if (r->data.data && r->base64.data && !wh__json_is_null(r->base64))
		return event_refuse(r->refusal, EVENT_BAD, "data and data_base64 exclude each other");
	if (r->base64.data && !wh__json_is_null(r->base64)) {
		struct wh_slice text = take_string(event, r->base64);
		if (!text.data || !wh__unbase64((char *)(uintptr_t)text.data, text.len, &len))
			return event_refuse(r->refusal, EVENT_BAD,
			                    "data_base64 is not a string of base64 (RFC 4648)");
		event->data = (struct wh_slice){text.data, len};
	} else if (r->data.data && (!event->content_type.data || is_json_type(event->content_type))) {
		if (!event->content_type.data)
			event->content_type = (struct wh_slice){"application/json", 16};
		event->data = r->data;
	} else if (r->data.data) {
		event->data = take_string(event, r->data);
		if (!event->data.data)
			return event_refuse(
				r->refusal, EVENT_BAD,
				"data is no string, and datacontenttype does not say that it is JSON");
	}
	return EVENT_GOOD;
}

enum event_wrong event_read_json(struct event *event, struct wh_slice json, struct event_refusal *refusal)
{
	struct reading r = {.event = event, .refusal = refusal};
	struct wh_slice at = {NULL, 0}, name;
	enum event_wrong wrong = EVENT_GOOD;

	event->count = 0;
	event->memory = event->spare = NULL;
	event->content_type = event->data = (struct wh_slice){NULL, 0};
	while (json.len > 0 && strchr(" \t\r\n", *json.data)) {
		json.data++;
		json.len--;
	}
	if (!wh__json_check(json) || *json.data != '{')
		return event_refuse(refusal, EVENT_BAD_JSON,
		                    "an event is one JSON object, nested at most %d deep",
		                    WH__JSON_DEPTH_MAX);
	/* a character takes no more bytes than it is written with */
	if (!event_memory(event, json.len))
		return EVENT_NO_MEMORY;
	while (wrong == EVENT_GOOD && wh__json_each(json, &at, &name))
		wrong = read_member(&r, take_string(event, name), at);
	if (wrong == EVENT_GOOD)
		wrong = read_data(&r);
	if (wrong == EVENT_GOOD)
		wrong = event_check(event, refusal);
	if (wrong != EVENT_GOOD)
		event_done(event);
	return wrong;
}
