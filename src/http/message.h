/* src/http/message.h -- words of HTTP: characters, methods, statuses, dates.
 *
 * Depends on: whilst/http.h.  Used by: everything in http.
 * Thread: any.  Memory: none.
 */
#ifndef WH_HTTP_MESSAGE_H
#define WH_HTTP_MESSAGE_H

#include "whilst/http.h"

enum wh__http_character {
	WH__HTTP_TOKEN = 1 << 0,  /* tchar: names, methods */
	WH__HTTP_TARGET = 1 << 1, /* may stand in a request target */
	WH__HTTP_VALUE = 1 << 2,  /* may stand in a field value: HTAB, SP, VCHAR, obs-text */
	WH__HTTP_HOST = 1 << 3,   /* registered names: unreserved, sub-delims, '%' */
	WH__HTTP_HEX = 1 << 4,
	WH__HTTP_DIGIT = 1 << 5,
};

extern const uint8_t wh__http_characters[256];

/* All len bytes are of the class; true for none. */
static inline bool wh__http_all(const char *data, size_t len, unsigned class)
{
	for (size_t i = 0; i < len; i++)
		if (!(wh__http_characters[(unsigned char)data[i]] & class))
			return false;
	return true;
}

/* How many of the first bytes stand for themselves in a line: neither controls (HTAB is one) nor DEL. */
size_t wh__http_plain(const char *data, size_t len);

/* May it be a field's value? All bytes are WH__HTTP_VALUE. */
bool wh__http_value(const char *data, size_t len);

/* The same text but for the case of ASCII letters; lower is lower case. */
bool wh__http_is(const char *data, size_t len, const char *lower, size_t lower_len);
#define WH__HTTP_IS(data, len, literal) wh__http_is(data, len, literal, sizeof(literal) - 1)

enum wh_http_method wh__http_method_of(const char *token, size_t len);
struct wh_slice wh__http_method_name(enum wh_http_method method);
bool wh__http_is_safe(enum wh_http_method method);       /* RFC 9110 section 9.2.1 */
bool wh__http_is_idempotent(enum wh_http_method method); /* section 9.2.2 */

/* host[:port] as Host and authorities have it; no user information. */
bool wh__http_host_valid(const char *data, size_t len);

enum { WH__HTTP_DATE_LEN = 29 };
/* "Sun, 06 Nov 1994 08:49:37 GMT", not terminated. */
void wh__http_date(int64_t unix_seconds, char *ret);

/* wh__http_date_parse() - in any of the three forms: date.c. Not a date: false. */
bool wh__http_date_parse(struct wh_slice text, int64_t *ret_unix_seconds);

/* Decimal digits of value, not terminated; how many. ret: 20 bytes. */
size_t wh__http_decimal(uint64_t value, char *ret);

#endif
