/* src/base/text.c -- a growing piece of text, and writing JSON into it. See text.h. */
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void wh__text_done(struct wh__text *text)
{
	if (text->data != text->given)
		free(text->data);
	*text = (struct wh__text){0};
}

char *wh__text_take(struct wh__text *text)
{
	char *data = NULL;

	if (text->failed) {
		wh__text_done(text);
		return NULL;
	}
	if (text->data && text->data != text->given) {
		data = text->data;
	} else {
		data = malloc(text->len > 0 ? text->len : 1);
		if (data && text->data)
			memcpy(data, text->data, text->len);
	}
	*text = (struct wh__text){0};
	return data;
}

char *wh__text_room_slow(struct wh__text *text, size_t len)
{
	size_t cap = text->cap < 256 ? 256 : text->cap;
	char *data;

	if (text->failed)
		return NULL;
	if (text->data && text->cap - text->len >= len)
		return text->data + text->len;
	while (cap - text->len < len) {
		if (cap > SIZE_MAX / 2) {
			text->failed = true;
			return NULL;
		}
		cap *= 2;
	}
	data = text->data == text->given ? malloc(cap) : realloc(text->data, cap);
	if (!data) {
		text->failed = true;
		return NULL;
	}
	if (text->data && text->data == text->given)
		memcpy(data, text->data, text->len);
	text->data = data;
	text->cap = cap;
	return data + text->len;
}

size_t wh__put_u64(char *to, uint64_t value)
{
	static const char pairs[] =
		"00010203040506070809101112131415161718192021222324252627282930313233343536373839"
		"40414243444546474849505152535455565758596061626364656667686970717273747576777879"
		"8081828384858687888990919293949596979899";
	char digits[20];
	size_t at = sizeof(digits);

	while (value >= 100) {
		unsigned pair = (unsigned)(value % 100) * 2;
		value /= 100;
		digits[--at] = pairs[pair + 1];
		digits[--at] = pairs[pair];
	}
	if (value >= 10) {
		digits[--at] = pairs[value * 2 + 1];
		digits[--at] = pairs[value * 2];
	} else {
		digits[--at] = (char)('0' + value);
	}
	memcpy(to, digits + at, sizeof(digits) - at);
	return sizeof(digits) - at;
}

void wh__text_u64(struct wh__text *text, uint64_t value)
{
	char *room = wh__text_room(text, 20);

	if (room)
		text->len += wh__put_u64(room, value);
}

void wh__text_format(struct wh__text *text, const char *format, ...)
{
	va_list list, again;
	char *room = wh__text_room(text, 128);
	int n;

	if (!room)
		return;
	va_start(list, format);
	va_copy(again, list);
	n = vsnprintf(room, text->cap - text->len, format, list);
	va_end(list);
	if (n < 0) {
		text->failed = true;
	} else if ((size_t)n < text->cap - text->len) {
		text->len += (size_t)n;
	} else {
		room = wh__text_room(text, (size_t)n + 1);
		if (room) {
			vsnprintf(room, (size_t)n + 1, format, again);
			text->len += (size_t)n;
		}
	}
	va_end(again);
}

size_t wh__utf8_bytes(const char *at, size_t len)
{
	const uint8_t *s = (const uint8_t *)at;
	uint8_t low = 0x80, high = 0xbf;
	size_t n;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf) {
		n = 2;
	} else if ((s[0] & 0xf0) == 0xe0) {
		n = 3;
		low = s[0] == 0xe0 ? 0xa0 : 0x80;
		high = s[0] == 0xed ? 0x9f : 0xbf;
	} else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
		n = 4;
		low = s[0] == 0xf0 ? 0x90 : 0x80;
		high = s[0] == 0xf4 ? 0x8f : 0xbf;
	} else {
		return 0;
	}
	if (len < n || s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	return n;
}

static void json_escape(struct wh__text *text, uint8_t c)
{
	switch (c) {
	case '"':
		wh__text_put(text, "\\\"", 2);
		break;
	case '\\':
		wh__text_put(text, "\\\\", 2);
		break;
	case '\n':
		wh__text_put(text, "\\n", 2);
		break;
	case '\r':
		wh__text_put(text, "\\r", 2);
		break;
	case '\t':
		wh__text_put(text, "\\t", 2);
		break;
	default:
		wh__text_format(text, "\\u%04x", c);
	}
}

void wh__text_json(struct wh__text *text, const char *bytes, size_t len)
{
	const uint8_t *s = (const uint8_t *)bytes;
	size_t plain = 0, i = 0;

	wh__text_put(text, "\"", 1);
	while (i < len) {
		size_t n = wh__utf8_bytes((const char *)s + i, len - i);
		if (n > 0 && s[i] >= 0x20 && s[i] != '"' && s[i] != '\\' && s[i] != 0x7f) {
			i += n;
			continue;
		}
		wh__text_put(text, s + plain, i - plain);
		if (n == 0)
			wh__text_str(text, "\xef\xbf\xbd");
		else
			json_escape(text, s[i]);
		plain = ++i;
	}
	wh__text_put(text, s + plain, i - plain);
	wh__text_put(text, "\"", 1);
}

void wh__text_base64(struct wh__text *text, const uint8_t *bytes, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *to = wh__text_room(text, (len + 2) / 3 * 4);

	if (!to)
		return;
	for (size_t i = 0; i < len; i += 3) {
		uint32_t n = (uint32_t)bytes[i] << 16;
		if (i + 1 < len)
			n |= (uint32_t)bytes[i + 1] << 8;
		if (i + 2 < len)
			n |= bytes[i + 2];
		*to++ = digits[n >> 18];
		*to++ = digits[n >> 12 & 63];
		*to++ = i + 1 < len ? digits[n >> 6 & 63] : '=';
		*to++ = i + 2 < len ? digits[n & 63] : '=';
	}
	text->len += (len + 2) / 3 * 4;
}

static int digit_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool wh__unbase64(char *bytes, size_t len, size_t *ret_len)
{
	size_t out = 0;

	if (len % 4 != 0)
		return false;
	for (size_t i = 0; i < len; i += 4) {
		bool last = i + 4 == len;
		int padding = last ? (bytes[i + 3] == '=') + (bytes[i + 3] == '=' && bytes[i + 2] == '=') : 0;
		uint32_t four = 0;

		for (size_t k = 0; k < 4; k++) {
			int digit = k + (size_t)padding >= 4 ? 0 : digit_of(bytes[i + k]);

			if (digit < 0)
				return false;
			four = four << 6 | (uint32_t)digit;
		}
		for (int k = 0; k < 3 - padding; k++)
			bytes[out++] = (char)(four >> (16 - 8 * k));
	}
	*ret_len = out;
	return true;
}
