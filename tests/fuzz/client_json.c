/* tests/fuzz/client_json.c -- JSON as the client reads it.
 *
 * Properties: whatever is judged to be JSON can be walked through to its last value, each of which is JSON itself and lies in the text; a
 * string is never longer than it is written; an element or member is found whatever stands around it.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define REQUIRE(condition)        \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

static void walk(struct wh_slice value, struct wh_slice text)
{
	struct wh_slice at = {NULL, 0};
	char *string = malloc(value.len + 1);
	size_t len;
	uint64_t number;
	bool yes;

	REQUIRE(string);
	REQUIRE(value.data >= text.data && value.data + value.len <= text.data + text.len);
	REQUIRE(wh__json_check(value));
	if (wh__json_string(value, string, &len))
		REQUIRE(len + 2 <= value.len);
	free(string);
	(void)wh__json_u64(value, &number);
	(void)wh__json_bool(value, &yes);
	while (wh__json_next(value, &at))
		walk(at, text);
	at = wh__json_member(value, "a");
	if (at.data)
		walk(at, text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	/* of its own, so that a byte read beyond is seen */
	char *copy = malloc(len + (len == 0));
	struct wh_slice text = {copy, len};

	REQUIRE(copy);
	if (len > 0)
		memcpy(copy, data, len);
	if (wh__json_check(text)) {
		struct wh_slice value = text;

		while (value.len > 0 && strchr(" \t\r\n", *value.data)) {
			value.data++;
			value.len--;
		}
		walk(value, text);
	} else {
		(void)wh__json_member(text, "a"); /* gives something or not, but reads nothing beyond */
	}
	free(copy);
	return 0;
}
