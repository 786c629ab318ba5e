/* src/front/target.h -- taking a request target apart: path segments, names, the query.
 *
 * Segments are split before they are decoded, so that a %2F stays inside its name. Decoding happens in the
 * caller's memory. Pure; any thread.
 */
#ifndef WH_FRONT_TARGET_H
#define WH_FRONT_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "whilst/http.h"

enum { TARGET_SEGMENTS_MAX = 6, TARGET_NAME_BYTES_MAX = 200 };

struct target {
	struct wh_slice query;   /* absent: there is no '?' */
	unsigned segments_count; /* TARGET_SEGMENTS_MAX + 1: more than there is any use for */
	struct wh_slice segments[TARGET_SEGMENTS_MAX]; /* borrow the request's memory; as sent, not decoded */
};

/* target_split() - false: not a path. */
bool target_split(struct target *target, struct wh_slice path, struct wh_slice query);

/* target_decode() - undo percent-encoding into to (room for max bytes). Length, or -1: malformed or too long.
 */
long target_decode(const char *text, size_t len, char *to, size_t max);

/* target_name() - the name of a queue or service from a path segment. NULL: good; else what is wrong with it.
 */
const char *target_name(struct wh_slice segment, char to[TARGET_NAME_BYTES_MAX], size_t *ret_len);

/* target_name_valid() - the same rule for a name that is not encoded. */
bool target_name_valid(const char *name, size_t len);

/* target_encode() - a name as a path segment: everything but A-Z a-z 0-9 - . _ percent-encoded; room for
 * 3 * len. Bytes written. */
size_t target_encode(const char *name, size_t len, char *to);

/* target_query_next() - the next name=value of the query at *at (start at 0); false: no more. Empty ones are
 * skipped. */
bool target_query_next(const struct target *target, size_t *at, struct wh_slice *ret_name,
                       struct wh_slice *ret_value);

#endif
