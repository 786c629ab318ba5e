/* src/deliver/trace.c -- the trace context of a request. See trace.h. */
#include "deliver/trace.h"

#include <string.h>

/* version(2) - trace-id(32) - parent-id(16) - trace-flags(2), lower case (section 3.2). */
enum { AT_TRACE = 3, AT_PARENT = 36, AT_FLAGS = 53, TRACE_DIGITS = 32, PARENT_DIGITS = 16 };

static bool is_hex(const char *at, size_t digits, bool *ret_zero)
{
	*ret_zero = true;
	for (size_t i = 0; i < digits; i++) {
		if (!((at[i] >= '0' && at[i] <= '9') || (at[i] >= 'a' && at[i] <= 'f')))
			return false;
		*ret_zero = *ret_zero && at[i] == '0';
	}
	return true;
}

static int digit(char c)
{
	return c <= '9' ? c - '0' : c - 'a' + 10;
}

bool trace_parent(const char *value, size_t len, char ret[TRACE_PARENT_BYTES])
{
	bool zero, no_trace, no_parent;

	if (len < TRACE_PARENT_BYTES || !is_hex(value, 2, &zero) || memcmp(value, "ff", 2) == 0 ||
	    value[AT_TRACE - 1] != '-' || !is_hex(value + AT_TRACE, TRACE_DIGITS, &no_trace) || no_trace ||
	    value[AT_PARENT - 1] != '-' || !is_hex(value + AT_PARENT, PARENT_DIGITS, &no_parent) ||
	    no_parent || value[AT_FLAGS - 1] != '-' || !is_hex(value + AT_FLAGS, 2, &no_trace))
		return false;
	/* a later version may have more, behind a dash; we know no more of it than of 00, and pass on as much (section 4.3) */
	if (len > TRACE_PARENT_BYTES && (zero || value[TRACE_PARENT_BYTES] != '-'))
		return false;
	memcpy(ret, value, TRACE_PARENT_BYTES);
	if (zero)
		return true;
	memcpy(ret, "00", 2);
	ret[AT_FLAGS] = '0';
	ret[AT_FLAGS + 1] = (char)('0' + (digit(value[AT_FLAGS + 1]) & 1)); /* sampled */
	return true;
}

bool trace_is_state(struct wh_slice value)
{
	bool equals = false, any = false;

	for (size_t i = 0; i < value.len; i++) {
		char c = value.data[i];

		if ((c < ' ' && c != '\t') || c > '~')
			return false;
		if (c == ',') {
			if (any && !equals)
				return false;
			equals = any = false;
		} else if (c != ' ' && c != '\t') {
			any = true;
		}
		if (c == '=')
			equals = true;
	}
	return !any || equals;
}

void trace_read(const wh_http_exchange *x, struct trace *ret)
{
	size_t count = wh_http_field_count(x), parents = 0, len = 0;
	bool state = true;

	ret->len = 0;
	for (size_t i = 0; i < count; i++) {
		struct wh_http_field field = wh_http_field(x, i);

		if (wh_slice_equal_caseless(field.name, "traceparent")) {
			if (++parents == 1 && trace_parent(field.value.data, field.value.len, ret->text))
				len = TRACE_PARENT_BYTES;
		}
	}
	if (parents != 1 || len == 0)
		return; /* without it the state means nothing */
	ret->len = len;
	for (size_t i = 0; i < count && state; i++) {
		struct wh_http_field field = wh_http_field(x, i);

		if (!wh_slice_equal_caseless(field.name, "tracestate") || field.value.len == 0)
			continue;
		state = trace_is_state(field.value) && len + 1 + field.value.len <= TRACE_BYTES_MAX;
		if (!state)
			break;
		ret->text[len] = len == TRACE_PARENT_BYTES ? ' ' : ',';
		memcpy(ret->text + len + 1, field.value.data, field.value.len);
		len += 1 + field.value.len;
	}
	if (state)
		ret->len = len;
}

void trace_split(const void *text, size_t len, struct wh_slice *ret_parent, struct wh_slice *ret_state)
{
	*ret_parent = *ret_state = (struct wh_slice){NULL, 0};
	if (len < TRACE_PARENT_BYTES)
		return;
	*ret_parent = (struct wh_slice){text, TRACE_PARENT_BYTES};
	if (len > TRACE_PARENT_BYTES + 1)
		*ret_state = (struct wh_slice){(const char *)text + TRACE_PARENT_BYTES + 1,
		                               len - TRACE_PARENT_BYTES - 1};
}

void trace_set(wh_http_exchange *x, const void *text, size_t len)
{
	struct wh_slice parent, state;

	trace_split(text, len, &parent, &state);
	if (parent.data)
		wh_http_set_slice(x, (struct wh_slice){"traceparent", 11}, parent);
	if (state.data)
		wh_http_set_slice(x, (struct wh_slice){"tracestate", 10}, state);
}

bool trace_onward(wh_loop *loop, const void *text, size_t len, char ret_parent[TRACE_PARENT_BYTES],
                  struct wh_slice *ret_state)
{
	static const char digits[] = "0123456789abcdef";
	struct wh_slice parent;
	uint8_t id[PARENT_DIGITS / 2];
	bool zero = true;

	trace_split(text, len, &parent, ret_state);
	if (!parent.data)
		return false;
	memcpy(ret_parent, parent.data, TRACE_PARENT_BYTES);
	while (zero) { /* an id of zeros is none */
		wh_random(loop, id, sizeof(id));
		for (size_t i = 0; i < sizeof(id); i++)
			zero = zero && id[i] == 0;
	}
	for (size_t i = 0; i < sizeof(id); i++) {
		ret_parent[AT_PARENT + 2 * i] = digits[id[i] >> 4];
		ret_parent[AT_PARENT + 2 * i + 1] = digits[id[i] & 15];
	}
	return true;
}
