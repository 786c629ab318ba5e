/* src/front/schedule_fields.c -- header fields that a schedule gives its jobs: the member "headers" of its job. See scheduler.h.
 *
 * They are kept with the payload and told to whoever takes the job, among fields of ours and of HTTP: what these mean is not for a schedule to
 * say. Judged when the schedule is put, and read again for each run. Pure.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "deliver/message.h"
#include "front/scheduler.h"

enum { FIELDS_MAX = 32, NAME_MAX_BYTES = 64, VALUE_MAX_BYTES = 1024 };

/* The server's, those of an event, and those that say what a message is or where it goes. */
static bool is_reserved(struct wh_slice name)
{
	static const char *const prefixes[] = {"whilst-", "ce-", "content-", "proxy-", "preference-"};
	static const char *const names[] = {"host",        "date",       "server",   "via",
	                                    "vary",        "expect",     "location", "retry-after",
	                                    "traceparent", "tracestate", "prefer",   "set-cookie"};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t len = strlen(prefixes[i]);

		if (name.len >= len && strncasecmp(name.data, prefixes[i], len) == 0)
			return true;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (wh_slice_equal_caseless(name, names[i]))
			return true;
	return !message_is_end_to_end(name, NULL, 0);
}

static bool is_name(struct wh_slice name)
{
	static const char others[] =
		"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	for (size_t i = 0; i < name.len; i++)
		if (name.data[i] == 0 || !strchr(others, name.data[i]))
			return false;
	return name.len > 0 && name.len <= NAME_MAX_BYTES;
}

static bool is_value(struct wh_slice value)
{
	for (size_t i = 0; i < value.len; i++)
		if (value.data[i] < ' ' || value.data[i] > '~')
			return false;
	return value.len == 0 || (value.data[0] != ' ' && value.data[value.len - 1] != ' ');
}

/* A string of at most so many characters, each of which JSON may write with six. */
static struct wh_slice text_of(struct wh_slice json, char room[6 * VALUE_MAX_BYTES + 2], size_t max)
{
	struct wh_slice text = {room, 0};

	if (json.len > 6 * max + 2 || !wh__json_string(json, room, &text.len) || text.len > max)
		return (struct wh_slice){NULL, 0};
	return text;
}

static const char *put_field(struct wh__text *lines, struct wh_slice member, struct wh_slice value)
{
	char room[6 * VALUE_MAX_BYTES + 2];
	struct wh_slice text = text_of(member, room, NAME_MAX_BYTES);

	if (!text.data || !is_name(text))
		return "is no name of a header field of at most 64 characters";
	if (is_reserved(text))
		return "is not for a schedule to say";
	wh__text_put(lines, text.data, text.len);
	wh__text_str(lines, ": ");
	text = text_of(value, room, VALUE_MAX_BYTES);
	if (!text.data || !is_value(text))
		return "must have a string of at most 1024 visible ASCII characters, blanks within them";
	wh__text_put(lines, text.data, text.len);
	wh__text_put(lines, "\r\n", 2);
	return NULL;
}

bool schedule_put_fields(struct wh__text *lines, const struct schedule *schedule,
                         struct transaction_refusal *refusal)
{
	struct wh_slice headers = wh__json_member(schedule->job, "headers"), at = {NULL, 0}, member;
	size_t count = 0;

	if (!headers.data)
		return true;
	if (*headers.data != '{') {
		snprintf(refusal->detail, sizeof(refusal->detail),
		         "job: headers must be an object such as {\"X-Report\":\"daily\"}");
		return false;
	}
	while (wh__json_each(headers, &at, &member)) {
		const char *wrong =
			++count > FIELDS_MAX ? "is one of more than 32" : put_field(lines, member, at);

		if (!wrong)
			continue;
		refusal->problem = PROBLEM_BAD_VALUE;
		snprintf(refusal->detail, sizeof(refusal->detail), "job: headers: %.*s %s",
		         (int)(member.len < 80 ? member.len : 80), member.data, wrong);
		return false;
	}
	return true;
}
