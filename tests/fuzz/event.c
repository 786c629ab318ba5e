/* tests/fuzz/event.c -- CloudEvents and filters, as anybody may send them.
 *
 * The first byte says what the rest is: header lines and a body, an event in JSON, or filters, which are asked about an event.
 * Properties: an event that is accepted comes back the same, attribute for attribute and byte for byte, through the kept form and through
 * JSON; its kept form is visible ASCII; a filter answers, and its negation answers the contrary.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "front/event.h"
#include "front/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define REQUIRE(condition)        \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

static bool equal(struct wh_slice a, struct wh_slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static void require_same(const struct event *a, const struct event *b)
{
	REQUIRE(a->count == b->count);
	for (size_t i = 0; i < a->count; i++)
		REQUIRE(equal(event_get(b, a->attributes[i].name.data, a->attributes[i].name.len),
		              a->attributes[i].value));
	REQUIRE(equal(a->content_type, b->content_type));
	REQUIRE(equal(a->data, b->data));
}

static void carry(const struct event *event)
{
	struct event_refusal refusal;
	struct event other;
	struct wh__text text;

	wh__text_init(&text, NULL, 0);
	event_put_kept(&text, event);
	REQUIRE(!text.failed);
	for (size_t i = 0; i < text.len; i++)
		REQUIRE((text.data[i] >= ' ' && text.data[i] < 0x7f) || text.data[i] == '\r' ||
		        text.data[i] == '\n');
	REQUIRE(event_read_kept(&other, (struct wh_slice){text.data, text.len}, event->content_type,
	                        event->data) == EVENT_GOOD);
	require_same(event, &other);
	event_done(&other);
	wh__text_done(&text);
	wh__text_init(&text, NULL, 0);
	event_put_json(&text, event, NULL, NULL);
	REQUIRE(!text.failed);
	REQUIRE(event_read_json(&other, (struct wh_slice){text.data, text.len}, &refusal) == EVENT_GOOD);
	require_same(event, &other);
	event_done(&other);
	wh__text_done(&text);
}

/* Lines up to an empty one, then the body; the first without "ce-" is the content type. */
static void read_fields(struct wh_slice text)
{
	struct wh_http_field fields[100];
	struct wh_slice type = {NULL, 0};
	struct event_refusal refusal;
	struct event event;
	size_t count = 0;

	while (text.len > 0 && count < 100) {
		const char *end = memchr(text.data, '\n', text.len), *colon;
		size_t n = end ? (size_t)(end - text.data) : text.len;

		colon = memchr(text.data, ':', n);
		if (colon)
			fields[count++] =
				(struct wh_http_field){{text.data, (size_t)(colon - text.data)},
			                               {colon + 1, n - (size_t)(colon + 1 - text.data)}};
		else if (n > 0)
			type = (struct wh_slice){text.data, n};
		n += end != NULL;
		text.data += n;
		text.len -= n;
		if (!colon && n <= 1)
			break;
	}
	if (event_read_fields(&event, fields, count, type, text, &refusal) == EVENT_GOOD) {
		carry(&event);
		event_done(&event);
	}
}

static void read_filters(struct wh_slice text)
{
	static const struct wh_http_field fields[] = {{{"ce-specversion", 14}, {"1.0", 3}},
	                                              {{"ce-id", 5}, {"1", 1}},
	                                              {{"ce-source", 9}, {"/a", 2}},
	                                              {{"ce-type", 7}, {"com.example", 11}}};
	struct filter *filter = NULL, *not = NULL;
	struct event_refusal refusal;
	struct event event;
	struct wh__text negated;
	char detail[200];

	if (filter_read(text, &filter, detail, sizeof(detail)) != 0)
		return;
	REQUIRE(event_read_fields(&event, fields, 4, (struct wh_slice){NULL, 0}, (struct wh_slice){NULL, 0},
	                          &refusal) == EVENT_GOOD);
	wh__text_init(&negated, NULL, 0);
	wh__text_str(&negated, "[{\"not\":{\"all\":");
	wh__text_put(&negated, text.data, text.len);
	wh__text_str(&negated, "}}]");
	if (filter_read((struct wh_slice){negated.data, negated.len}, &not, detail, sizeof(detail)) == 0)
		REQUIRE(filter_matches(not, &event) != filter_matches(filter, &event));
	wh__text_done(&negated);
	filter_free(not );
	filter_free(filter);
	event_done(&event);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	/* of its own, so that a byte read beyond is seen */
	char *copy = malloc(len + 1);
	struct wh_slice text = {copy, len > 0 ? len - 1 : 0};

	REQUIRE(copy);
	if (len > 1)
		memcpy(copy, data + 1, len - 1);
	text.data = realloc(copy, text.len + (text.len == 0));
	REQUIRE(text.data);
	if (len > 0 && data[0] == 'b') {
		read_fields(text);
	} else if (len > 0 && data[0] == 'f') {
		read_filters(text);
	} else if (len > 0) {
		struct event_refusal refusal;
		struct event event;

		if (event_read_json(&event, text, &refusal) == EVENT_GOOD) {
			carry(&event);
			event_done(&event);
		}
	}
	free((void *)(uintptr_t)text.data);
	return 0;
}
