/* src/base/json.c -- read JSON where it stands. See json.h. Pure. */
#include "base/json.h"

#include <string.h>

#include "base/text.h"
#include "base/units.h"

/* ---- judge -------------------------------------------------------------------------------- */

static const char *skip_blanks(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
		at++;
	return at;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four digits at `at`; -1: they are none. */
static int32_t unit_at(const char *at, const char *end)
{
	int32_t unit = 0;

	if (end - at < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		int digit = hex(at[i]);
		if (digit < 0)
			return -1;
		unit = unit << 4 | digit;
	}
	return unit;
}

/* Past the escape whose backslash stands at `at`; NULL: it is wrong. */
static const char *skip_escape(const char *at, const char *end)
{
	int32_t unit;

	if (end - at < 2)
		return NULL;
	if (at[1] != 'u')
		return memchr("\"\\/bfnrt", at[1], 8) ? at + 2 : NULL;
	unit = unit_at(at + 2, end);
	if (unit < 0 || (unit >= 0xdc00 && unit <= 0xdfff))
		return NULL;
	if (unit < 0xd800 || unit > 0xdbff)
		return at + 6;
	if (end - at < 12 || at[6] != '\\' || at[7] != 'u')
		return NULL;
	unit = unit_at(at + 8, end);
	return unit >= 0xdc00 && unit <= 0xdfff ? at + 12 : NULL;
}

static const char *skip_string(const char *at, const char *end)
{
	at++;
	while (at && at < end && *at != '"') {
		if (*at == '\\') {
			at = skip_escape(at, end);
		} else {
			size_t len = (uint8_t)*at < 0x20 ? 0 : wh__utf8_bytes(at, (size_t)(end - at));
			at = len > 0 ? at + len : NULL;
		}
	}
	return at && at < end ? at + 1 : NULL;
}

static const char *skip_digits(const char *at, const char *end)
{
	const char *begin = at;

	while (at < end && *at >= '0' && *at <= '9')
		at++;
	return at > begin ? at : NULL;
}

static const char *skip_number(const char *at, const char *end)
{
	if (*at == '-')
		at++;
	if (at < end && *at == '0')
		at++;
	else
		at = skip_digits(at, end);
	if (at && at < end && *at == '.')
		at = skip_digits(at + 1, end);
	if (at && at < end && (*at | 0x20) == 'e') {
		at++;
		if (at < end && (*at == '+' || *at == '-'))
			at++;
		at = skip_digits(at, end);
	}
	return at;
}

static const char *skip_word(const char *at, const char *end, const char *word)
{
	size_t len = strlen(word);

	return (size_t)(end - at) >= len && memcmp(at, word, len) == 0 ? at + len : NULL;
}

static const char *skip_value(const char *at, const char *end, int depth);

static const char *skip_members(const char *at, const char *end, int depth)
{
	char close = *at == '{' ? '}' : ']';

	at = skip_blanks(at + 1, end);
	if (at < end && *at == close)
		return at + 1;
	while (at < end) {
		if (close == '}') {
			at = *at == '"' ? skip_string(at, end) : NULL;
			at = at ? skip_blanks(at, end) : end;
			if (at == end || *at != ':')
				return NULL;
			at = skip_blanks(at + 1, end);
		}
		at = skip_value(at, end, depth + 1);
		if (!at)
			return NULL;
		at = skip_blanks(at, end);
		if (at < end && *at == close)
			return at + 1;
		if (at == end || *at != ',')
			return NULL;
		at = skip_blanks(at + 1, end);
	}
	return NULL;
}

/* Past the value at `at`; NULL: it is none. */
static const char *skip_value(const char *at, const char *end, int depth)
{
	if (at == end || depth > WH__JSON_DEPTH_MAX)
		return NULL;
	switch (*at) {
	case '{':
	case '[':
		return skip_members(at, end, depth);
	case '"':
		return skip_string(at, end);
	case 't':
		return skip_word(at, end, "true");
	case 'f':
		return skip_word(at, end, "false");
	case 'n':
		return skip_word(at, end, "null");
	default:
		return *at == '-' || (*at >= '0' && *at <= '9') ? skip_number(at, end) : NULL;
	}
}

bool wh__json_check_inside(struct wh_slice text, int depth)
{
	const char *end, *at;

	if (!text.data)
		return false;
	end = text.data + text.len;
	at = skip_value(skip_blanks(text.data, end), end, depth);
	return at && skip_blanks(at, end) == end;
}

bool wh__json_check(struct wh_slice text)
{
	return wh__json_check_inside(text, 0);
}

/* ---- look --------------------------------------------------------------------------------- */

struct wh_slice wh__json_member(struct wh_slice object, const char *name)
{
	const char *at, *end;
	size_t len = strlen(name);

	if (!object.data)
		return (struct wh_slice){NULL, 0};
	end = object.data + object.len;
	at = skip_blanks(object.data, end);
	if (at == end || *at != '{')
		return (struct wh_slice){NULL, 0};
	at = skip_blanks(at + 1, end);
	while (at && at < end && *at == '"') {
		const char *key = at + 1, *value, *after = skip_string(at, end);
		bool found = after && (size_t)(after - 1 - key) == len && memcmp(key, name, len) == 0;

		value = after ? skip_blanks(after, end) : end;
		value = value < end ? skip_blanks(value + 1, end) : end;
		after = skip_value(value, end, 0);
		if (found && after)
			return (struct wh_slice){value, (size_t)(after - value)};
		at = after ? skip_blanks(after, end) : NULL;
		if (at && at < end && *at == ',')
			at = skip_blanks(at + 1, end);
	}
	return (struct wh_slice){NULL, 0};
}

bool wh__json_next(struct wh_slice array, struct wh_slice *at)
{
	const char *end, *from, *after;

	if (!array.data)
		return false;
	end = array.data + array.len;
	from = skip_blanks(at->data ? at->data + at->len : array.data, end);
	if (from == end || *from != (at->data ? ',' : '['))
		return false;
	from = skip_blanks(from + 1, end);
	after = skip_value(from, end, 0);
	if (!after)
		return false;
	*at = (struct wh_slice){from, (size_t)(after - from)};
	return true;
}

bool wh__json_each(struct wh_slice object, struct wh_slice *at, struct wh_slice *ret_name)
{
	const char *end, *name, *name_end, *value, *after;

	if (!object.data)
		return false;
	end = object.data + object.len;
	name = skip_blanks(at->data ? at->data + at->len : object.data, end);
	if (name == end || *name != (at->data ? ',' : '{'))
		return false;
	name = skip_blanks(name + 1, end);
	name_end = name < end && *name == '"' ? skip_string(name, end) : NULL;
	value = name_end ? skip_blanks(name_end, end) : end;
	if (value == end || *value != ':')
		return false;
	value = skip_blanks(value + 1, end);
	after = skip_value(value, end, 0);
	if (!after)
		return false;
	*at = (struct wh_slice){value, (size_t)(after - value)};
	*ret_name = (struct wh_slice){name, (size_t)(name_end - name)};
	return true;
}

static bool is(struct wh_slice value, const char *word)
{
	return value.len == strlen(word) && memcmp(value.data, word, value.len) == 0;
}

bool wh__json_u64(struct wh_slice value, uint64_t *ret)
{
	return value.data && wh__parse_u64(value.data, value.len, UINT64_MAX, ret);
}

bool wh__json_bool(struct wh_slice value, bool *ret)
{
	bool yes = is(value, "true");

	if (!yes && !is(value, "false"))
		return false;
	*ret = yes;
	return true;
}

bool wh__json_is_null(struct wh_slice value)
{
	return is(value, "null");
}

static char *put_character(char *to, uint32_t c)
{
	if (c < 0x80) {
		*to++ = (char)c;
		return to;
	}
	if (c < 0x800) {
		*to++ = (char)(0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			*to++ = (char)(0xe0 | c >> 12);
		} else {
			*to++ = (char)(0xf0 | c >> 18);
			*to++ = (char)(0x80 | (c >> 12 & 0x3f));
		}
		*to++ = (char)(0x80 | (c >> 6 & 0x3f));
	}
	*to++ = (char)(0x80 | (c & 0x3f));
	return to;
}

bool wh__json_string(struct wh_slice value, char *to, size_t *ret_len)
{
	static const char letters[] = "bfnrt", meant[] = "\b\f\n\r\t";
	const char *at, *end;
	char *out = to;

	if (!value.data || value.len < 2 || *value.data != '"')
		return false;
	end = value.data + value.len - 1;
	for (at = value.data + 1; at < end;) {
		const char *letter;

		if (*at != '\\') {
			*out++ = *at++;
			continue;
		}
		if (at[1] != 'u') {
			letter = strchr(letters, at[1]);
			*out++ = letter ? meant[letter - letters] : at[1];
			at += 2;
			continue;
		}
		uint32_t c = (uint32_t)unit_at(at + 2, end);
		at += 6;
		if (c >= 0xd800 && c <= 0xdbff) {
			c = 0x10000 + ((c - 0xd800) << 10) + ((uint32_t)unit_at(at + 2, end) - 0xdc00);
			at += 6;
		}
		out = put_character(out, c);
	}
	*ret_len = (size_t)(out - to);
	return true;
}
