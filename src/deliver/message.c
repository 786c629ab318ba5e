/* src/deliver/message.c -- a recorded call as bytes. See message.h. */
#include "deliver/message.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/units.h"

/* RFC 9110 7.6.1, and what each hop says of its own connection or its own framing. */
static const char *const hop_by_hop[] = {
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
	"TE",         "Trailer",    "Upgrade",          "Transfer-Encoding",  "Content-Length",
	"Expect",
};

const char *message_via(int version)
{
	return version == 10 ? "1.0 " MESSAGE_VIA_NAME : "1.1 " MESSAGE_VIA_NAME;
}

static bool same(struct wh_slice a, struct wh_slice b)
{
	return a.len == b.len && strncasecmp(a.data, b.data, a.len) == 0;
}

static bool lists(struct wh_slice list, struct wh_slice name)
{
	const char *at = list.data, *end = list.data + list.len;

	while (at < end) {
		const char *comma = memchr(at, ',', (size_t)(end - at));
		struct wh_slice one = {at, (size_t)((comma ? comma : end) - at)};
		while (one.len > 0 && (*one.data == ' ' || *one.data == '\t')) {
			one.data++;
			one.len--;
		}
		while (one.len > 0 && (one.data[one.len - 1] == ' ' || one.data[one.len - 1] == '\t'))
			one.len--;
		if (same(one, name))
			return true;
		at = comma ? comma + 1 : end;
	}
	return false;
}

bool message_is_end_to_end(struct wh_slice name, const struct wh_slice *connections, size_t count)
{
	for (size_t i = 0; i < sizeof(hop_by_hop) / sizeof(hop_by_hop[0]); i++) {
		if (wh_slice_equal_caseless(name, hop_by_hop[i]))
			return false;
	}
	for (size_t i = 0; i < count; i++) {
		if (lists(connections[i], name))
			return false;
	}
	return true;
}

bool message_is_idempotent(struct wh_slice method)
{
	static const char *const names[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (wh_slice_equal(method, names[i]))
			return true;
	}
	return false;
}

/* "Sun, 06 Nov 1994 08:49:37 GMT", the only form that is still written. */
static bool parse_date(struct wh_slice text, int64_t *ret_ns)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	const char *month = NULL;
	char instant[32];

	if (text.len != 29 || memcmp(text.data + 3, ", ", 2) != 0 || memcmp(text.data + 25, " GMT", 4) != 0)
		return false;
	for (const char *m = months; *m && !month; m += 3)
		month = memcmp(m, text.data + 8, 3) == 0 ? m : NULL;
	if (!month)
		return false;
	snprintf(instant, sizeof(instant), "%.4s-%02d-%.2sT%.8sZ", text.data + 12,
	         (int)(month - months) / 3 + 1, text.data + 5, text.data + 17);
	return wh__parse_instant(instant, strlen(instant), ret_ns);
}

int64_t message_retry_after(struct wh_slice value, int64_t wall_ns)
{
	const int64_t day_ns = 86400 * WH_NS_PER_S;
	uint64_t seconds;
	int64_t ns;

	if (value.data && wh__parse_u64(value.data, value.len, UINT64_MAX, &seconds))
		return seconds < 86400 ? (int64_t)seconds * WH_NS_PER_S : day_ns;
	if (!value.data || !parse_date(value, &ns))
		return -1;
	ns = ns > wall_ns ? ns - wall_ns : 0;
	return ns < day_ns ? ns : day_ns;
}

void message_field(struct wh__text *text, struct wh_slice name, struct wh_slice value)
{
	wh__text_put(text, name.data, name.len);
	wh__text_put(text, ": ", 2);
	wh__text_put(text, value.data, value.len);
	wh__text_put(text, "\r\n", 2);
}

/* The line at *at, without its end; *at moves behind it. */
static bool next_line(const char **at, const char *end, struct wh_slice *ret)
{
	const char *line_end = memmem(*at, (size_t)(end - *at), "\r\n", 2);

	if (!line_end)
		return false;
	*ret = (struct wh_slice){*at, (size_t)(line_end - *at)};
	*at = line_end + 2;
	return true;
}

bool message_read(struct message *message, const char *bytes, size_t len)
{
	const char *at = bytes, *end = bytes + len, *space;
	struct wh_slice line;

	message->field_count = 0;
	if (!next_line(&at, end, &line) || line.len < 9 ||
	    memcmp(line.data + line.len - 9, " HTTP/1.1", 9) != 0)
		return false;
	line.len -= 9;
	space = memchr(line.data, ' ', line.len);
	if (!space || space == line.data || space + 1 == line.data + line.len)
		return false;
	message->method = (struct wh_slice){line.data, (size_t)(space - line.data)};
	message->target = (struct wh_slice){space + 1, line.len - message->method.len - 1};
	while (next_line(&at, end, &line)) {
		const char *colon;
		if (line.len == 0) {
			message->body = (struct wh_slice){at, (size_t)(end - at)};
			return true;
		}
		colon = memchr(line.data, ':', line.len);
		if (!colon || colon + 1 >= line.data + line.len || colon[1] != ' ' ||
		    message->field_count == MESSAGE_FIELDS_MAX)
			return false;
		message->fields[message->field_count++] = (struct wh_http_field){
			{line.data, (size_t)(colon - line.data)},
			{colon + 2, (size_t)(line.data + line.len - colon - 2)},
		};
	}
	return false;
}
