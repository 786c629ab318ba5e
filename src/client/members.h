/* src/client/members.h -- members of JSON objects, as requests write them and answers are read; lists of things by their names.
 *
 * A member is put behind what stands there: with a comma, unless an object has just begun or nothing stands there yet. Strings of an
 * answer are copied to where there is room for them: none is longer with its NUL than it is in JSON.
 * Used by: the files of this folder that write or read JSON.  Thread: loop.
 */
#ifndef WH_CLIENT_MEMBERS_H
#define WH_CLIENT_MEMBERS_H

#include <string.h>

#include "base/json.h"
#include "base/text.h"
#include "whilst/whilst.h"

static inline void wh__member(struct wh__text *json, const char *name)
{
	bool first = json->len == 0 || json->data[json->len - 1] == '{';

	wh__text_str(json, first ? "\"" : ",\"");
	wh__text_str(json, name);
	wh__text_str(json, "\":");
}

/* NULL: nothing. */
static inline void wh__member_string(struct wh__text *json, const char *name, const char *string)
{
	if (!string)
		return;
	wh__member(json, name);
	wh__text_json(json, string, strlen(string));
}

static inline void wh__member_number(struct wh__text *json, const char *name, uint64_t number)
{
	wh__member(json, name);
	wh__text_u64(json, number);
}

/* Milliseconds, rounded up, as wh__ask_duration(); less than none is none. */
static inline void wh__member_duration(struct wh__text *json, const char *name, int64_t ns)
{
	wh__member(json, name);
	wh__text_format(json, "\"%lldms\"", (long long)(ns > 0 ? (ns + WH_NS_PER_MS - 1) / WH_NS_PER_MS : 0));
}

/* At *strings, which moves behind it; all there is zero. NULL: it is not there, or null. */
static inline const char *wh__take_string(struct wh_slice object, const char *name, char **strings)
{
	const char *string = *strings;
	size_t len;

	if (!wh__json_string(wh__json_member(object, name), *strings, &len))
		return NULL;
	*strings += len + 1;
	return string;
}

/* wh__read_list() - one piece of memory, to be freed by free(): head_bytes that are the caller's, each thing of the list as take() reads it, the JSON with a NUL,
 * and room for the strings of all. list: absent if json is one thing. 0, -ENOMEM, or -WH_EHTTP_SYNTAX: take() has found something else. */
struct wh__list {
	void *head, *things;
	char *json;
	size_t count;
};
typedef bool wh__take(struct wh_slice json, void *thing, char **strings);
int64_t wh__read_list(struct wh_slice json, struct wh_slice list, size_t head_bytes, size_t thing_bytes,
                      wh__take *take, struct wh__list *ret);

#endif
