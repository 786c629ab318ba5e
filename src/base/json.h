/* src/base/json.h -- read JSON where it stands: members by name, values by kind.
 *
 * For texts that are small, or of which little is wanted: nothing is built, a value is the bytes that it stands in, and a member is looked
 * for anew each time. What is a number of somebody else's stays the digits that he wrote. The text is judged as a whole first (wh__json_check()); what follows may trust its form. Pure. Thread: any.
 */
#ifndef WH_BASE_JSON_H
#define WH_BASE_JSON_H

#include <stdbool.h>

#include "whilst/whilst.h"

enum { WH__JSON_DEPTH_MAX = 128 };

/* wh__json_check() - one value of RFC 8259, and nothing but blanks around it; in strings, escapes and UTF-8 are right. Nested at most
 * WH__JSON_DEPTH_MAX deep. */
bool wh__json_check(struct wh_slice text);
/* wh__json_check_inside() - as a value that stands depth deep in another. */
bool wh__json_check_inside(struct wh_slice text, int depth);

/* wh__json_member() - the value of an object's first member of that name; absent: there is none, or no object. Names with
 * escapes are not found. */
struct wh_slice wh__json_member(struct wh_slice object, const char *name);
/* wh__json_next() - the elements of an array, one after the other: *at is absent at first. false: there are no more. */
bool wh__json_next(struct wh_slice array, struct wh_slice *at);
/* wh__json_each() - the members of an object, likewise; the name as it stands, quotes included. */
bool wh__json_each(struct wh_slice object, struct wh_slice *at, struct wh_slice *ret_name);

/* By kind; false, with *ret untouched: the value is absent or of another kind or range. */
bool wh__json_u64(struct wh_slice value, uint64_t *ret);
bool wh__json_bool(struct wh_slice value, bool *ret);
/* wh__json_string() - the characters, at to, which has room for value.len bytes (they are never more), and their number; no NUL is
 * added. to may be where the value stands. */
bool wh__json_string(struct wh_slice value, char *to, size_t *ret_len);
bool wh__json_is_null(struct wh_slice value);

#endif
