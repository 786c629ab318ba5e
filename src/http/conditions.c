/* src/http/conditions.c -- conditional and range requests. See conditions.h. Pure. */
#include "http/conditions.h"

#include <string.h>

#include "http/message.h"

static struct wh_slice trim(struct wh_slice text)
{
	while (text.len > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
		text.data++;
		text.len--;
	}
	while (text.len > 0 && (text.data[text.len - 1] == ' ' || text.data[text.len - 1] == '\t'))
		text.len--;
	return text;
}

static bool is_weak(struct wh_slice tag)
{
	return tag.len >= 2 && tag.data[0] == 'W' && tag.data[1] == '/';
}

static struct wh_slice opaque(struct wh_slice tag)
{
	return is_weak(tag) ? (struct wh_slice){tag.data + 2, tag.len - 2} : tag;
}

/* RFC 9110 section 8.8.3.2 */
static bool same_tag(struct wh_slice a, const char *etag, bool strong)
{
	struct wh_slice b = {etag, strlen(etag)}, x = opaque(a), y = opaque(b);

	if (strong && (is_weak(a) || is_weak(b)))
		return false;
	return x.len == y.len && memcmp(x.data, y.data, x.len) == 0;
}

/* The tag at the start of a list; commas may stand within quotes. false: the list is over, or malformed. */
static bool next_tag(struct wh_slice *rest, struct wh_slice *ret)
{
	const char *at, *end, *quote, *close;

	while (rest->len > 0 && (*rest->data == ',' || *rest->data == ' ' || *rest->data == '\t')) {
		rest->data++;
		rest->len--;
	}
	at = rest->data;
	end = at + rest->len;
	quote = is_weak(*rest) ? at + 2 : at;
	if (quote >= end || *quote != '"')
		return false;
	close = memchr(quote + 1, '"', (size_t)(end - quote - 1));
	if (!close)
		return false;
	*ret = (struct wh_slice){at, (size_t)(close + 1 - at)};
	*rest = (struct wh_slice){close + 1, (size_t)(end - close - 1)};
	return true;
}

static bool list_matches(struct wh_slice list, const char *etag, bool strong)
{
	struct wh_slice tag;

	list = trim(list);
	if (wh_slice_equal(list, "*"))
		return true;
	while (next_tag(&list, &tag))
		if (same_tag(tag, etag, strong))
			return true;
	return false;
}

/* Section 13.2.2, steps 1 to 4; 200: goes on. */
static int preconditions(const struct wh__http_conditions *c, const struct wh__http_representation *of)
{
	int64_t date;

	if (c->if_match.data) {
		if (!list_matches(c->if_match, of->etag, true))
			return 412;
	} else if (c->if_unmodified_since.data && wh__http_date_parse(c->if_unmodified_since, &date) &&
	           of->modified_at > date) {
		return 412;
	}
	if (c->if_none_match.data)
		return list_matches(c->if_none_match, of->etag, false) ? 304 : 200;
	if (c->if_modified_since.data && wh__http_date_parse(c->if_modified_since, &date) &&
	    of->modified_at <= date)
		return 304;
	return 200;
}

/* Section 13.1.5: only strong validators will do. */
static bool range_applies(const struct wh__http_conditions *c, const struct wh__http_representation *of)
{
	struct wh_slice value = trim(c->if_range);
	int64_t date;

	if (!c->if_range.data)
		return true;
	if (value.len > 0 && (value.data[0] == '"' || value.data[0] == 'W'))
		return same_tag(value, of->etag, true);
	return wh__http_date_parse(value, &date) && date == of->modified_at && !of->is_fresh;
}

/* Digits of a position; one too large to be told is as large as can be. */
static bool take_position(struct wh_slice *text, uint64_t *ret)
{
	size_t n = 0;
	uint64_t value = 0;

	for (; n < text->len && text->data[n] >= '0' && text->data[n] <= '9'; n++) {
		unsigned digit = (unsigned)(text->data[n] - '0');

		value = value > (UINT64_MAX - digit) / 10 ? UINT64_MAX : value * 10 + digit;
	}
	text->data += n;
	text->len -= n;
	*ret = value;
	return n > 0;
}

/* Section 14.1.2: "bytes=0-99", "bytes=100-", "bytes=-100". 206, 416, or 200: not a range that is served. */
static int take_range(struct wh_slice text, uint64_t bytes, uint64_t *ret_first, uint64_t *ret_bytes)
{
	uint64_t first = 0, last = 0;
	bool has_first, has_last;

	text = trim(text);
	if (text.len < 6 || !WH__HTTP_IS(text.data, 6, "bytes="))
		return 200;
	text = trim((struct wh_slice){text.data + 6, text.len - 6});
	has_first = take_position(&text, &first);
	if (text.len == 0 || *text.data != '-')
		return 200;
	text.data++;
	text.len--;
	has_last = take_position(&text, &last);
	if (text.len > 0 || (!has_first && !has_last) || (has_first && has_last && last < first))
		return 200;
	if (!has_first) {
		if (last == 0 || bytes == 0)
			return 416;
		*ret_bytes = last < bytes ? last : bytes;
		*ret_first = bytes - *ret_bytes;
		return 206;
	}
	if (first >= bytes)
		return 416;
	if (!has_last || last >= bytes)
		last = bytes - 1;
	*ret_first = first;
	*ret_bytes = last - first + 1;
	return 206;
}

int wh__http_conditions_check(const struct wh__http_conditions *conditions,
                              const struct wh__http_representation *of, bool head, uint64_t *ret_first,
                              uint64_t *ret_bytes)
{
	int status = preconditions(conditions, of);

	*ret_first = 0;
	*ret_bytes = of->bytes;
	/* a range is for GET only: section 14.2 */
	if (status != 200 || head || !conditions->range.data || !range_applies(conditions, of))
		return status;
	return take_range(conditions->range, of->bytes, ret_first, ret_bytes);
}
