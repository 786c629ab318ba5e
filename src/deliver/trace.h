/* src/deliver/trace.h -- the trace context of a request (W3C Trace Context, level 1 and version 00), kept with the job it becomes.
 *
 * One text: the traceparent, and behind a blank the tracestate if there is one, so that the store keeps one. What is malformed is as if it had not been
 * sent; of a later version what version 00 knows is kept. No I/O; any thread.
 */
#ifndef WH_DELIVER_TRACE_H
#define WH_DELIVER_TRACE_H

#include <stdbool.h>
#include <stddef.h>

#include "whilst/http.h"
#include "whilst/whilst.h"

enum {
	TRACE_PARENT_BYTES = 55,
	TRACE_STATE_MAX = 512, /* longer: left out, as section 3.3.1.5 allows */
	TRACE_BYTES_MAX = TRACE_PARENT_BYTES + 1 + TRACE_STATE_MAX
};

struct trace {
	size_t len; /* 0: none */
	char text[TRACE_BYTES_MAX];
};

/* trace_parent() - value as a traceparent of version 00. false: it is none. */
bool trace_parent(const char *value, size_t len, char ret[TRACE_PARENT_BYTES]);

/* trace_is_state() - value as a tracestate: members of a list, each key=value in printable characters (section 3.3). */
bool trace_is_state(struct wh_slice value);

/* trace_read() - of a request: its fields while they are there. */
void trace_read(const wh_http_exchange *x, struct trace *ret);

/* trace_set() - the fields of an answer for what was kept; kept by the exchange as all fields are. */
void trace_set(wh_http_exchange *x, const void *text, size_t len);

/* trace_split() - the two texts of what was kept; .data NULL: it is not there. */
void trace_split(const void *text, size_t len, struct wh_slice *ret_parent, struct wh_slice *ret_state);

/* trace_onward() - what was kept, as what the server itself sends on says it (section 4.3): the trace and its flags are those of who asked, the parent
 * is this one request, by an id of its own; the state is passed on as it is, a slice of text. false: nothing was kept. */
bool trace_onward(wh_loop *loop, const void *text, size_t len, char ret_parent[TRACE_PARENT_BYTES],
                  struct wh_slice *ret_state);

#endif
