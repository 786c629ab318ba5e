/* src/cli/events.h -- server-sent events out of the bytes of a stream (WHATWG HTML, section 9.2.6). Pure; any thread. */
#ifndef CLI_EVENTS_H
#define CLI_EVENTS_H

#include "cli/cli.h"

struct cli_event {
	const char *name, *data; /* name: "message" if it has none */
	const char *last_id;     /* the newest id by then; "": none */
};

/* false: no more of this is wanted. */
typedef bool cli_event_function(const struct cli_event *event, void *arg);

struct cli_events {
	struct cli_text line, name, data, id;
	bool after_return; /* the line ended with CR: an LF that follows belongs to it */
};

/* cli_events_feed() - whole events are given to function as they come. false: function wanted no more. */
bool cli_events_feed(struct cli_events *events, const char *bytes, size_t len, cli_event_function *function,
                     void *arg);
/* cli_events_cut() - the connection was lost: what is not whole never came. The id stays. */
void cli_events_cut(struct cli_events *events);
void cli_events_done(struct cli_events *events);

#endif
