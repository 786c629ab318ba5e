/* src/front/prefer.c -- the Prefer header field (RFC 7240). See prefer.h. */
#include "front/prefer.h"

#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "base/units.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* End of the list element that starts at s: its comma, or the end. Commas within quotes do not count. */
static size_t element_length(const char *s, size_t len)
{
	bool quoted = false;

	for (size_t i = 0; i < len; i++) {
		if (quoted && s[i] == '\\')
			i++;
		else if (s[i] == '"')
			quoted = !quoted;
		else if (s[i] == ',' && !quoted)
			return i;
	}
	return len;
}

static void trim(const char **s, size_t *len)
{
	while (*len > 0 && is_blank(**s)) {
		(*s)++;
		(*len)--;
	}
	while (*len > 0 && is_blank((*s)[*len - 1]))
		(*len)--;
}

/* preference = token [ BWS "=" BWS word ] *( OWS ";" [ OWS parameter ] ) */
static void add_one(struct prefer *prefer, const char *s, size_t len)
{
	const char *end = memchr(s, ';', len), *equals, *value = "";
	size_t name_len, value_len = 0;

	if (end)
		len = (size_t)(end - s);
	equals = memchr(s, '=', len);
	name_len = equals ? (size_t)(equals - s) : len;
	if (equals) {
		value = equals + 1;
		value_len = len - name_len - 1;
		trim(&value, &value_len);
		if (value_len >= 2 && value[0] == '"' && value[value_len - 1] == '"') {
			value++;
			value_len -= 2;
		}
	}
	trim(&s, &name_len);
	if (name_len == 13 && strncasecmp(s, "respond-async", 13) == 0 && value_len == 0) {
		prefer->respond_async = true;
	} else if (name_len == 4 && strncasecmp(s, "wait", 4) == 0 && !prefer->wait_seen) {
		uint64_t seconds;
		prefer->wait_seen = true;
		prefer->wait = wh__parse_u64(value, value_len, UINT64_MAX, &seconds);
		if (prefer->wait)
			prefer->wait_s = seconds > UINT32_MAX ? UINT32_MAX : (uint32_t)seconds;
	}
}

void prefer_add(struct prefer *prefer, const char *value, size_t len)
{
	while (len > 0) {
		size_t element = element_length(value, len);
		const char *s = value;
		size_t n = element;

		trim(&s, &n);
		if (n > 0)
			add_one(prefer, s, n);
		if (element == len)
			break;
		value += element + 1;
		len -= element + 1;
	}
}

size_t prefer_applied(const struct prefer *prefer, char *to)
{
	size_t len = 0;

	if (prefer->respond_async) {
		memcpy(to, "respond-async", 13);
		len = 13;
	}
	if (prefer->wait) {
		if (len > 0) {
			memcpy(to + len, ", ", 2);
			len += 2;
		}
		memcpy(to + len, "wait=", 5);
		len += 5;
		len += wh__put_u64(to + len, prefer->wait_s);
	}
	return len;
}
