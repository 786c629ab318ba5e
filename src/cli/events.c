/* src/cli/events.c -- server-sent events out of the bytes of a stream. See events.h. */
#include "cli/events.h"

#include <string.h>

static void empty(struct cli_text *text)
{
	text->len = 0;
	if (text->bytes)
		text->bytes[0] = 0;
}

static const char *string(const struct cli_text *text)
{
	return text->bytes ? text->bytes : "";
}

void cli_events_cut(struct cli_events *events)
{
	empty(&events->line);
	empty(&events->name);
	empty(&events->data);
	events->after_return = false;
}

void cli_events_done(struct cli_events *events)
{
	cli_text_free(&events->line);
	cli_text_free(&events->name);
	cli_text_free(&events->data);
	cli_text_free(&events->id);
}

/* The empty line: what has been gathered is an event, if there is any data. */
static bool dispatch(struct cli_events *events, cli_event_function *function, void *arg)
{
	struct cli_event event = {events->name.len > 0 ? string(&events->name) : "message",
	                          string(&events->data), string(&events->id)};
	bool more = true;

	if (events->data.len > 0) {
		events->data.bytes[--events->data.len] = 0; /* the last line's end */
		more = function(&event, arg);
	}
	empty(&events->name);
	empty(&events->data);
	return more;
}

static void take_field(struct cli_events *events)
{
	const char *line = string(&events->line), *colon = memchr(line, ':', events->line.len);
	size_t name_len = colon ? (size_t)(colon - line) : events->line.len;
	const char *value = colon ? colon + 1 : line + events->line.len;
	size_t len = events->line.len - (size_t)(value - line);

	if (len > 0 && *value == ' ') {
		value++;
		len--;
	}
	if (name_len == 5 && memcmp(line, "event", 5) == 0) {
		empty(&events->name);
		cli_text_add(&events->name, value, len);
	} else if (name_len == 4 && memcmp(line, "data", 4) == 0) {
		cli_text_add(&events->data, value, len);
		cli_text_add(&events->data, "\n", 1);
	} else if (name_len == 2 && memcmp(line, "id", 2) == 0 && !memchr(value, 0, len)) {
		empty(&events->id);
		cli_text_add(&events->id, value, len);
	}
}

bool cli_events_feed(struct cli_events *events, const char *bytes, size_t len, cli_event_function *function,
                     void *arg)
{
	bool more = true;

	while (more && len > 0) {
		size_t n = 0;

		if (events->after_return && *bytes == '\n')
			n = 1;
		events->after_return = false;
		bytes += n;
		len -= n;
		for (n = 0; n < len && bytes[n] != '\n' && bytes[n] != '\r'; n++)
			;
		if (n > 0)
			cli_text_add(&events->line, bytes, n);
		if (n == len)
			break;
		events->after_return = bytes[n] == '\r';
		bytes += n + 1;
		len -= n + 1;
		if (events->line.len == 0)
			more = dispatch(events, function, arg);
		else
			take_field(events);
		empty(&events->line);
	}
	return more;
}
