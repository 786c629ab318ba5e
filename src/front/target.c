/* src/front/target.c -- taking a request target apart: path segments, names, the query. See target.h. */
#include "front/target.h"

#include <string.h>

bool target_split(struct target *target, struct wh_slice path, struct wh_slice query)
{
	const char *text = path.data;
	size_t len = path.len;

	target->query = query;
	target->segments_count = 0;
	if (len == 0 || text[0] != '/')
		return false;
	for (text++, len--;;) {
		const char *slash = memchr(text, '/', len);
		size_t n = slash ? (size_t)(slash - text) : len;
		if (target->segments_count == TARGET_SEGMENTS_MAX) {
			target->segments_count++;
			return true;
		}
		target->segments[target->segments_count++] = (struct wh_slice){text, n};
		if (!slash)
			return true;
		text += n + 1;
		len -= n + 1;
	}
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

long target_decode(const char *text, size_t len, char *to, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (n == max)
			return -1;
		if (c == '%') {
			int high = i + 2 < len ? hex(text[i + 1]) : -1,
			    low = i + 2 < len ? hex(text[i + 2]) : -1;
			if (high < 0 || low < 0)
				return -1;
			c = (char)(high << 4 | low);
			i += 2;
		}
		to[n++] = c;
	}
	return (long)n;
}

/* Which bytes a name may have, one bit each: A-Z a-z 0-9 - + / ; . $ _ ( ) */
static bool is_name_byte(uint8_t c)
{
	static const uint32_t allowed[8] = {0, 0x0bffeb10, 0x87fffffe, 0x07fffffe, 0, 0, 0, 0};
	return allowed[c >> 5] >> (c & 31) & 1;
}

bool target_name_valid(const char *name, size_t len)
{
	if (len == 0 || len > TARGET_NAME_BYTES_MAX || name[0] == '-')
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!is_name_byte((uint8_t)name[i]))
			return false;
	}
	return true;
}

const char *target_name(struct wh_slice segment, char to[TARGET_NAME_BYTES_MAX], size_t *ret_len)
{
	long n = target_decode(segment.data, segment.len, to, TARGET_NAME_BYTES_MAX);

	if (n < 0)
		return segment.len > TARGET_NAME_BYTES_MAX
		               ? "is longer than 200 bytes or has a malformed percent-encoding"
		               : "has a malformed percent-encoding";
	if (n == 0)
		return "is empty";
	if (to[0] == '-')
		return "starts with '-'";
	if (!target_name_valid(to, (size_t)n))
		return "has a byte that is not one of A-Z a-z 0-9 - + / ; . $ _ ( )";
	*ret_len = (size_t)n;
	return NULL;
}

size_t target_encode(const char *name, size_t len, char *to)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)name[i];
		bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		             c == '-' || c == '.' || c == '_';
		if (plain) {
			to[n++] = (char)c;
		} else {
			to[n++] = '%';
			to[n++] = digits[c >> 4];
			to[n++] = digits[c & 15];
		}
	}
	return n;
}

bool target_query_next(const struct target *target, size_t *at, struct wh_slice *ret_name,
                       struct wh_slice *ret_value)
{
	while (*at < target->query.len) {
		const char *s = target->query.data + *at, *equals;
		size_t rest = target->query.len - *at;
		const char *ampersand = memchr(s, '&', rest);
		size_t len = ampersand ? (size_t)(ampersand - s) : rest;

		*at += len + (ampersand != NULL);
		if (len == 0)
			continue;
		equals = memchr(s, '=', len);
		ret_name->data = s;
		ret_name->len = equals ? (size_t)(equals - s) : len;
		ret_value->data = equals ? equals + 1 : s + len;
		ret_value->len = equals ? len - ret_name->len - 1 : 0;
		return true;
	}
	return false;
}
