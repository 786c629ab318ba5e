/* src/front/json_words.h -- what jansson finds wrong, in words that do not speak of its interface.
 *
 * Depends on: jansson.  Used by: whoever parses a request with it. Pure; any thread.
 */
#ifndef WH_FRONT_JSON_WORDS_H
#define WH_FRONT_JSON_WORDS_H

#include <jansson.h>

static inline const char *json_words(const json_error_t *error)
{
	return json_error_code(error) == json_error_null_character ? "\\u0000 is not taken here"
	                                                           : error->text;
}

#endif
