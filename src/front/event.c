/* src/front/event.c -- CloudEvents 1.0: attributes, and the forms in which they are header fields. See event.h; JSON: event_json.c. */
#include "front/event.h"

#include <stdlib.h>

#include "front/event_inside.h"

void event_done(struct event *event)
{
	free(event->memory);
	event->memory = event->spare = NULL;
}

enum event_wrong event_refuse(struct event_refusal *refusal, enum event_wrong wrong, const char *format, ...)
{
	va_list list;

	refusal->limit = 0;
	va_start(list, format);
	vsnprintf(refusal->detail, sizeof(refusal->detail), format, list);
	va_end(list);
	return wrong;
}

enum event_wrong event_refuse_size(struct event_refusal *refusal, const char *what, uint64_t limit)
{
	event_refuse(refusal, EVENT_TOO_LARGE, "%s: more than %llu bytes", what, (unsigned long long)limit);
	refusal->limit = limit;
	return EVENT_TOO_LARGE;
}

/* ---- values ------------------------------------------------------------------------------ */

static bool is_lower(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alphanumeric(char c)
{
	return is_lower(c) || (c >= 'A' && c <= 'Z');
}

bool event_name_valid(const char *name, size_t len)
{
	if (len == 0 || len > EVENT_NAME_MAX || (len == 4 && memcmp(name, "data", 4) == 0))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_lower(name[i]))
			return false;
	}
	return true;
}

static uint32_t code_point(const uint8_t *s, size_t len)
{
	if (len == 1)
		return s[0];
	if (len == 2)
		return (uint32_t)(s[0] & 0x1f) << 6 | (s[1] & 0x3f);
	if (len == 3)
		return (uint32_t)(s[0] & 0xf) << 12 | (uint32_t)(s[1] & 0x3f) << 6 | (s[2] & 0x3f);
	return (uint32_t)(s[0] & 7) << 18 | (uint32_t)(s[1] & 0x3f) << 12 | (uint32_t)(s[2] & 0x3f) << 6 |
	       (s[3] & 0x3f);
}

bool event_text_valid(struct wh_slice text)
{
	for (size_t i = 0; i < text.len;) {
		size_t len = wh__utf8_bytes(text.data + i, text.len - i);
		uint32_t c;

		if (len == 0)
			return false;
		c = code_point((const uint8_t *)text.data + i, len);
		if (c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0xfdd0 && c <= 0xfdef) ||
		    (c & 0xfffe) == 0xfffe)
			return false;
		i += len;
	}
	return true;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Where the scheme of a URI ends, its colon; 0: it has none. */
static size_t scheme_length(struct wh_slice uri)
{
	for (size_t i = 0; i < uri.len; i++) {
		char c = uri.data[i];
		if (c == ':')
			return i;
		if (c == '/' || c == '?' || c == '#')
			break;
	}
	return 0;
}

/* RFC 3986: 4.1, or with absolute 4.3. */
static bool is_uri(struct wh_slice uri, bool absolute)
{
	size_t scheme = scheme_length(uri), hashes = 0;

	if (uri.len == 0 || uri.data[0] == ':' || (absolute && scheme == 0))
		return false;
	for (size_t i = 0; i < scheme; i++) {
		char c = uri.data[i];
		if (!is_alphanumeric(c) && (i == 0 || !strchr("+-.", c)))
			return false;
	}
	if (scheme > 0 && uri.data[0] <= '9')
		return false;
	for (size_t i = 0; i < uri.len; i++) {
		char c = uri.data[i];
		if (c == '%') {
			if (i + 2 >= uri.len || hex(uri.data[i + 1]) < 0 || hex(uri.data[i + 2]) < 0)
				return false;
		} else if (c == 0 || (!is_alphanumeric(c) && !strchr("-._~:/?#[]@!$&'()*+,;=", c))) {
			return false;
		}
		hashes += c == '#';
	}
	return hashes <= (absolute ? 0u : 1u);
}

/* RFC 3339, of any year: 400 years later the calendar is the same. */
static bool is_instant(struct wh_slice text)
{
	char copy[64];
	uint64_t year;
	int64_t ns;

	if (text.len < 20 || text.len >= sizeof(copy) || !wh__parse_u64(text.data, 4, 9999, &year))
		return false;
	memcpy(copy, text.data, text.len);
	year = 1800 + (year + 2200) % 400;
	for (int i = 3; i >= 0; i--, year /= 10)
		copy[i] = (char)('0' + year % 10);
	return wh__parse_instant(copy, text.len, &ns);
}

static size_t token_length(const char *at, size_t len)
{
	size_t n = 0;

	while (n < len && (is_alphanumeric(at[n]) || (at[n] != 0 && strchr("!#$%&'*+-.^_`|~", at[n]))))
		n++;
	return n;
}

/* RFC 2046: type "/" subtype, and parameters. */
bool event_is_media_type(struct wh_slice text)
{
	size_t type = token_length(text.data, text.len), subtype, at;

	if (type == 0 || type == text.len || text.data[type] != '/')
		return false;
	subtype = token_length(text.data + type + 1, text.len - type - 1);
	if (subtype == 0)
		return false;
	for (at = type + 1 + subtype; at < text.len && (text.data[at] == ' ' || text.data[at] == '\t');)
		at++;
	if (at < text.len && text.data[at] != ';')
		return false;
	for (; at < text.len; at++) {
		if ((uint8_t)text.data[at] < ' ' && text.data[at] != '\t')
			return false;
	}
	return true;
}

/* ---- attributes -------------------------------------------------------------------------- */

static bool same(struct wh_slice a, const char *name, size_t len)
{
	return a.len == len && memcmp(a.data, name, len) == 0;
}

struct wh_slice event_get(const struct event *event, const char *name, size_t len)
{
	if (same((struct wh_slice){"datacontenttype", 15}, name, len))
		return event->content_type;
	for (size_t i = 0; i < event->count; i++) {
		if (same(event->attributes[i].name, name, len))
			return event->attributes[i].value;
	}
	return (struct wh_slice){NULL, 0};
}

bool event_set(struct event *event, const char *name, struct wh_slice value)
{
	if (event->count == EVENT_ATTRIBUTES_MAX)
		return false;
	event->attributes[event->count++] = (struct event_attribute){{name, strlen(name)}, value};
	return true;
}

enum event_wrong event_add(struct event *event, struct wh_slice name, struct wh_slice value,
                           struct event_refusal *refusal)
{
	if (!event_name_valid(name.data, name.len))
		return event_refuse(refusal, EVENT_BAD,
		                    "attribute '%.*s': a name is 1 to %d of a-z and 0-9, and not data",
		                    (int)(name.len < 80 ? name.len : 80), name.data, EVENT_NAME_MAX);
	if (event_get(event, name.data, name.len).data)
		return event_refuse(refusal, EVENT_BAD, "attribute '%.*s' is given twice", (int)name.len,
		                    name.data);
	if (!event_text_valid(value))
		return event_refuse(
			refusal, EVENT_BAD,
			"attribute '%.*s' has a character that is not UTF-8, or that no attribute may have",
			(int)name.len, name.data);
	if (event->count == EVENT_ATTRIBUTES_MAX)
		return event_refuse(refusal, EVENT_BAD, "more than %d attributes", EVENT_ATTRIBUTES_MAX);
	event->attributes[event->count++] = (struct event_attribute){name, value};
	return EVENT_GOOD;
}

enum event_wrong event_check(const struct event *event, struct event_refusal *refusal)
{
	static const char *const required[] = {"specversion", "id", "source", "type"};
	struct wh_slice version, subject, time, schema;

	for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
		if (event_get(event, required[i], strlen(required[i])).len == 0)
			return event_refuse(refusal, EVENT_BAD,
			                    "attribute '%s' is missing or empty: an event has specversion, "
			                    "id, source and type",
			                    required[i]);
	}
	version = event_get(event, "specversion", 11);
	if (!same(version, "1.0", 3))
		return event_refuse(refusal, EVENT_BAD, "specversion is '%.*s': only 1.0 is known here",
		                    (int)(version.len < 40 ? version.len : 40), version.data);
	if (!is_uri(event_get(event, "source", 6), false))
		return event_refuse(refusal, EVENT_BAD, "source is not a URI reference (RFC 3986)");
	schema = event_get(event, "dataschema", 10);
	if (schema.data && !is_uri(schema, true))
		return event_refuse(refusal, EVENT_BAD, "dataschema is not an absolute URI (RFC 3986)");
	subject = event_get(event, "subject", 7);
	if (subject.data && subject.len == 0)
		return event_refuse(refusal, EVENT_BAD, "subject is empty: leave it out");
	time = event_get(event, "time", 4);
	if (time.data && !is_instant(time))
		return event_refuse(refusal, EVENT_BAD, "time is not an instant as in RFC 3339");
	if (event->content_type.len > EVENT_CONTENT_TYPE_MAX)
		return event_refuse_size(refusal, "datacontenttype", EVENT_CONTENT_TYPE_MAX);
	if (event->content_type.data &&
	    (!event_is_media_type(event->content_type) || !event_text_valid(event->content_type)))
		return event_refuse(refusal, EVENT_BAD, "datacontenttype is not a media type (RFC 2046)");
	if (event->data.len > EVENT_DATA_MAX)
		return event_refuse_size(refusal, "the data of an event", EVENT_DATA_MAX);
	return EVENT_GOOD;
}

enum event_wrong event_make(struct event *event, const struct event_attribute *attributes, size_t count,
                            struct wh_slice content_type, struct wh_slice data, struct event_refusal *refusal)
{
	enum event_wrong wrong = EVENT_GOOD;

	event->count = 0;
	event->memory = event->spare = NULL;
	event->content_type = content_type.len > 0 ? content_type : (struct wh_slice){NULL, 0};
	event->data = data;
	for (size_t i = 0; i < count && wrong == EVENT_GOOD; i++) {
		if (!attributes[i].value.data)
			continue;
		wrong = event_add(event, attributes[i].name, attributes[i].value, refusal);
		if (wrong == EVENT_GOOD)
			event->attributes[event->count - 1].typed = attributes[i].typed;
	}
	return wrong == EVENT_GOOD ? event_check(event, refusal) : wrong;
}

/* ---- header fields ----------------------------------------------------------------------- */

void event_put_value(struct wh__text *text, struct wh_slice value)
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < value.len; i++) {
		uint8_t c = (uint8_t)value.data[i];
		if (c > ' ' && c < 0x7f && c != '"' && c != '%')
			wh__text_put(text, &value.data[i], 1);
		else
			wh__text_put(text, (char[3]){'%', digits[c >> 4], digits[c & 15]}, 3);
	}
}

/* One byte of a field's value: quotes first, then one round of percent-decoding. -1: malformed; -2: a quote, no byte. */
static int next_byte(struct wh_slice value, size_t *at, bool *quoted)
{
	char c = value.data[(*at)++];

	if (c == '"') {
		*quoted = !*quoted;
		return -2;
	}
	if (c == '\\' && *quoted) {
		if (*at == value.len)
			return -1;
		c = value.data[(*at)++];
	}
	return (uint8_t)c;
}

/* The value of a field, decoded, into event->spare. */
static bool decode(struct event *event, struct wh_slice value, struct wh_slice *ret)
{
	char *plain = event->spare, *to = plain;
	bool quoted = false;
	size_t len = 0;

	for (size_t i = 0; i < value.len;) {
		int c = next_byte(value, &i, &quoted);
		if (c == -1)
			return false;
		if (c >= 0)
			plain[len++] = (char)c;
	}
	if (quoted)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = plain[i];
		if (c == '%') {
			int high = i + 2 < len ? hex(plain[i + 1]) : -1,
			    low = i + 2 < len ? hex(plain[i + 2]) : -1;
			if (high < 0 || low < 0)
				return false;
			c = (char)(high << 4 | low);
			i += 2;
		}
		*to++ = c;
	}
	*ret = (struct wh_slice){plain, (size_t)(to - plain)};
	event->spare = to;
	return true;
}

bool event_is_attribute(struct wh_slice name)
{
	return name.len >= 3 && (name.data[0] | 0x20) == 'c' && (name.data[1] | 0x20) == 'e' &&
	       name.data[2] == '-';
}

static struct wh_slice lower_case(struct event *event, struct wh_slice name)
{
	char *to = event->spare;

	for (size_t i = 0; i < name.len; i++) {
		char c = name.data[i];
		to[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
	}
	event->spare += name.len;
	return (struct wh_slice){to, name.len};
}

bool event_memory(struct event *event, size_t bytes)
{
	event->memory = event->spare = malloc(bytes + 1);
	return event->memory != NULL;
}

static enum event_wrong read_field(struct event *event, struct wh_http_field field,
                                   struct event_refusal *refusal)
{
	struct wh_slice name, value;

	name = lower_case(event, (struct wh_slice){field.name.data + 3, field.name.len - 3});
	if (same(name, "datacontenttype", 15))
		return event_refuse(
			refusal, EVENT_BAD,
			"ce-datacontenttype must not be sent: Content-Type says it (HTTP binding 3.1.1)");
	if (!decode(event, field.value, &value))
		return event_refuse(refusal, EVENT_BAD, "ce-%.*s: malformed quotes or percent-encoding",
		                    (int)(name.len < 80 ? name.len : 80), name.data);
	return event_add(event, name, value, refusal);
}

enum event_wrong event_read_fields(struct event *event, const struct wh_http_field *fields, size_t count,
                                   struct wh_slice content_type, struct wh_slice body,
                                   struct event_refusal *refusal)
{
	enum event_wrong wrong = EVENT_GOOD;
	size_t bytes = 0;
	bool any = false;

	event->count = 0;
	event->memory = event->spare = NULL;
	event->content_type = content_type.len > 0 ? content_type : (struct wh_slice){NULL, 0};
	event->data = body;
	for (size_t i = 0; i < count; i++) {
		any = any || event_is_attribute(fields[i].name);
		if (event_is_attribute(fields[i].name))
			bytes += fields[i].name.len + fields[i].value.len;
	}
	if (!any)
		return EVENT_BARE;
	if (!event_memory(event, bytes))
		return EVENT_NO_MEMORY;
	for (size_t i = 0; i < count && wrong == EVENT_GOOD; i++) {
		if (event_is_attribute(fields[i].name))
			wrong = read_field(event, fields[i], refusal);
	}
	if (wrong == EVENT_GOOD)
		wrong = event_check(event, refusal);
	if (wrong != EVENT_GOOD)
		event_done(event);
	return wrong;
}

/* Which attributes are no strings: "a b". What they are follows from their values. */
static void put_typed(struct wh__text *text, const struct event *event)
{
	bool any = false;

	for (size_t i = 0; i < event->count; i++) {
		const struct event_attribute *a = &event->attributes[i];

		if (!a->typed)
			continue;
		wh__text_str(text, any ? " " : EVENT_TYPED ": ");
		wh__text_put(text, a->name.data, a->name.len);
		any = true;
	}
	if (any)
		wh__text_put(text, "\r\n", 2);
}

static void take_typed(struct event *event, struct wh_slice names)
{
	const char *at = names.data, *end = names.data + names.len;

	while (at < end) {
		const char *blank = memchr(at, ' ', (size_t)(end - at));
		size_t len = (size_t)((blank ? blank : end) - at);

		for (size_t i = 0; i < event->count; i++) {
			struct event_attribute *a = &event->attributes[i];

			if (a->name.len == len && memcmp(a->name.data, at, len) == 0)
				a->typed = event_is_typed(a->value);
		}
		at += len + 1;
	}
}

void event_put_kept(struct wh__text *text, const struct event *event)
{
	for (size_t i = 0; i < event->count; i++) {
		const struct event_attribute *a = &event->attributes[i];

		wh__text_put(text, "ce-", 3);
		wh__text_put(text, a->name.data, a->name.len);
		wh__text_put(text, ": ", 2);
		event_put_value(text, a->value);
		wh__text_put(text, "\r\n", 2);
	}
	put_typed(text, event);
}

enum event_wrong event_read_kept(struct event *event, struct wh_slice lines, struct wh_slice content_type,
                                 struct wh_slice body)
{
	const char *at = lines.data, *end = lines.data + lines.len;
	struct event_refusal refusal;

	event->count = 0;
	event->memory = event->spare = NULL;
	event->content_type = content_type.len > 0 ? content_type : (struct wh_slice){NULL, 0};
	event->data = body;
	if (lines.len == 0)
		return EVENT_BARE;
	if (!event_memory(event, lines.len))
		return EVENT_NO_MEMORY;
	while (at < end) {
		const char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
		const char *colon = line_end ? memchr(at, ':', (size_t)(line_end - at)) : NULL;
		struct wh_http_field field;

		if (!colon || colon + 2 > line_end)
			break;
		field = (struct wh_http_field){{at, (size_t)(colon - at)},
		                               {colon + 2, (size_t)(line_end - colon - 2)}};
		at = line_end + 2;
		if (event_is_attribute(field.name) && read_field(event, field, &refusal) != EVENT_GOOD)
			break;
		if (wh_slice_equal_caseless(field.name, EVENT_TYPED))
			take_typed(event, field.value); /* the last line */
	}
	if (at == end && event->count > 0)
		return EVENT_GOOD;
	event_done(event);
	return at == end ? EVENT_BARE : EVENT_BAD;
}
