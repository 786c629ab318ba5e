/* src/deliver/message.h -- a recorded call as bytes: the request as an HTTP/1.1 message (application/http), the
 * end-to-end fields of an answer as lines.
 *
 * Written and read by the gateway alone, so reading is strict. Pure; any thread.
 */
#ifndef WH_DELIVER_MESSAGE_H
#define WH_DELIVER_MESSAGE_H

#include "base/text.h"
#include "whilst/http.h"

enum {
	MESSAGE_FIELDS_MAX = 110,
	MESSAGE_CONNECTIONS_MAX = 200, /* as many fields as there may be */
};

/* message_via() - what we add to Via, for a message that came in this version, 10 or 11 (RFC 9110 7.6.3). */
#define MESSAGE_VIA_NAME "whilst"
const char *message_via(int version);

/* message_is_end_to_end() - may this field be passed on? Not: hop-by-hop fields, those that a Connection field names, and
 * framing, which each hop makes anew. connection: values of the Connection fields. */
bool message_is_end_to_end(struct wh_slice name, const struct wh_slice *connections, size_t count);

/* message_is_idempotent() - RFC 9110 9.2.2. */
bool message_is_idempotent(struct wh_slice method);

/* message_retry_after() - the value of a Retry-After field (RFC 9110 10.2.3), seconds or a date, as ns from the instant wall_ns on; at most
 * a day. -1: it says nothing that can be understood. */
int64_t message_retry_after(struct wh_slice value, int64_t wall_ns);

void message_field(struct wh__text *text, struct wh_slice name, struct wh_slice value);

/* A message read back; slices borrow the bytes. */
struct message {
	struct wh_slice method, target, body;
	size_t field_count;
	struct wh_http_field fields[MESSAGE_FIELDS_MAX];
};

bool message_read(struct message *message, const char *bytes, size_t len);

#endif
