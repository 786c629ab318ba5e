/* src/front/filter.h -- which events a subscription is for: the dialects exact, prefix, suffix, all, any and not of the CloudEvents
 * Subscriptions draft, read once and asked often.
 *
 * Comparison is of bytes, with case; an attribute that an event has not got matches nothing. Pure; any thread.
 */
#ifndef WH_FRONT_FILTER_H
#define WH_FRONT_FILTER_H

#include "front/event.h"

enum {
	FILTER_BYTES_MAX = 16 << 10, /* of JSON */
	FILTER_CONDITIONS_MAX = 256, /* an attribute and what it is to be */
	FILTER_NODES_MAX = 1024,     /* these, and what joins them */
	FILTER_DEPTH_MAX = 16,
};

struct filter;

/* filter_read() - from a JSON array of filter expressions, all of which must be true; none: every event. 0; -EINVAL with a sentence in
 * detail; -ENOMEM. */
int filter_read(struct wh_slice json, struct filter **ret, char *detail, size_t detail_len);
struct filter *filter_free(struct filter *filter); /* NULL; accepts NULL */

/* filter_matches() - filter NULL: every event. Cost: a comparison for each attribute that is named, no allocation. */
bool filter_matches(const struct filter *filter, const struct event *event);

#endif
