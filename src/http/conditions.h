/* src/http/conditions.h -- conditional and range requests for one representation: RFC 9110 sections 13 and 14.
 *
 * Depends on: message.h.  Used by: file.  Thread: any.  Memory: none. Pure.
 */
#ifndef WH_HTTP_CONDITIONS_H
#define WH_HTTP_CONDITIONS_H

#include "whilst/http.h"

enum { WH__HTTP_ETAG_BYTES_MAX = 64 };

struct wh__http_representation {
	uint64_t bytes;
	int64_t modified_at; /* unix seconds */
	bool is_fresh; /* may have changed again within the second of its date: no strong validator yet */
	char etag[WH__HTTP_ETAG_BYTES_MAX]; /* quoted, W/ where weak */
};

/* Values of the request's fields; absent: data NULL. */
struct wh__http_conditions {
	struct wh_slice if_match, if_none_match, if_modified_since, if_unmodified_since, if_range, range;
};

/* wh__http_conditions_check() - 200, 206 (*ret_first and *ret_bytes say what of it), 304, 412 or 416, for GET and HEAD. Several
 * ranges in one request, and ranges of other units, count as none (section 14.2 allows that): 200. */
int wh__http_conditions_check(const struct wh__http_conditions *conditions,
                              const struct wh__http_representation *of, bool head, uint64_t *ret_first,
                              uint64_t *ret_bytes);

#endif
