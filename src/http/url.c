/* src/http/url.c -- URLs of http and https: RFC 3986, RFC 9110 section 4.2. See url.h and whilst/http.h.
 *
 * Nothing is decoded or encoded on the way: what a URL says in a path or query is what the server gets, byte for byte. Names
 * beyond ASCII are refused: turning them into what DNS knows (IDNA) is the caller's.
 */
#include "http/url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/message.h"

static struct wh_slice slice(const char *from, const char *to)
{
	return (struct wh_slice){from, (size_t)(to - from)};
}

/* The first byte from at on that is one of stops. */
static const char *until(const char *at, const char *end, const char *stops)
{
	while (at < end && (*at == 0 || !strchr(stops, *at)))
		at++;
	return at;
}

static bool percent_encoding_valid(struct wh_slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] == '%' &&
		    (text.len - i < 3 || !wh__http_all(text.data + i + 1, 2, WH__HTTP_HEX)))
			return false;
	return true;
}

static bool is_beyond_ascii(struct wh_slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.data[i] >= 0x80)
			return true;
	return false;
}

/* ---- the parts of a URL ------------------------------------------------------------------- */

static int take_port(const char *at, const char *end, uint16_t *ret)
{
	unsigned port = 0;

	if (at == end)
		return 0; /* "host:" is "host": RFC 3986 section 3.2.3 */
	for (; at < end; at++) {
		if (*at < '0' || *at > '9')
			return -EINVAL;
		port = port * 10 + (unsigned)(*at - '0');
		if (port > 65535)
			return -EINVAL;
	}
	if (port == 0)
		return -EINVAL;
	*ret = (uint16_t)port;
	return 0;
}

static int take_ipv6(const char *at, const char *end, struct wh_http_url *url, const char **ret_rest)
{
	const char *close = memchr(at, ']', (size_t)(end - at));
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;
	size_t len;

	if (!close)
		return -EINVAL;
	len = (size_t)(close - at - 1);
	if (len >= sizeof(text))
		return -EINVAL;
	memcpy(text, at + 1, len);
	text[len] = 0;
	if (strlen(text) != len || inet_pton(AF_INET6, text, &address) != 1)
		return -EINVAL; /* zones too: they mean nothing on another machine */
	url->host = slice(at + 1, close);
	url->is_ipv6 = true;
	*ret_rest = close + 1;
	return 0;
}

static int take_name(const char *at, const char *end, struct wh_http_url *url, const char **ret_rest)
{
	const char *rest = until(at, end, ":");

	url->host = slice(at, rest);
	if (is_beyond_ascii(url->host))
		return -EILSEQ;
	if (url->host.len == 0 || url->host.len > WH__HTTP_HOST_BYTES_MAX ||
	    !wh__http_all(at, url->host.len, WH__HTTP_HOST) || memchr(at, '%', url->host.len))
		return -EINVAL;
	*ret_rest = rest;
	return 0;
}

/* [userinfo@]host[:port] */
static int take_authority(const char *at, const char *end, struct wh_http_url *url)
{
	const char *mark = memrchr(at, '@', (size_t)(end - at)), *rest;
	int error;

	if (mark) {
		url->userinfo = slice(at, mark);
		/* a second '@', or what is no user information, is how a URL hides where it leads */
		if (until(at, mark, "@\\\"<>^`{|}[]") != mark ||
		    !wh__http_all(at, url->userinfo.len, WH__HTTP_TARGET) ||
		    !percent_encoding_valid(url->userinfo))
			return -EINVAL;
		at = mark + 1;
	}
	if (at < end && *at == '[')
		error = take_ipv6(at, end, url, &rest);
	else
		error = take_name(at, end, url, &rest);
	if (error != 0)
		return error;
	if (rest == end)
		return 0;
	return *rest == ':' ? take_port(rest + 1, end, &url->port) : -EINVAL;
}

static bool starts(struct wh_slice text, const char *lower, size_t len)
{
	return text.len >= len && wh__http_is(text.data, len, lower, len);
}

int wh_http_url_parse(struct wh_slice text, struct wh_http_url *ret)
{
	struct wh_http_url url = {.port = 80};
	const char *end, *authority, *path, *query, *fragment;
	int error;

	if (!text.data || text.len > WH__HTTP_URL_BYTES_MAX)
		return -EINVAL;
	end = text.data + text.len;
	if (starts(text, "http://", 7)) {
		authority = text.data + 7;
	} else if (starts(text, "https://", 8)) {
		authority = text.data + 8;
		url.https = true;
		url.port = 443;
	} else {
		const char *colon = memchr(text.data, ':', text.len);

		return colon && colon - text.data > 0 &&
		                       (size_t)(until(text.data, end, "/?#:") - text.data) ==
		                               (size_t)(colon - text.data) &&
		                       !starts(text, "http:", 5) && !starts(text, "https:", 6)
		               ? -EPROTONOSUPPORT
		               : -EINVAL;
	}
	path = until(authority, end, "/?#");
	error = take_authority(authority, path, &url);
	if (error != 0)
		return error;
	fragment = until(path, end, "#");
	query = until(path, fragment, "?");
	url.path = slice(path, query);
	if (query < fragment)
		url.query = slice(query + 1, fragment);
	if (fragment < end)
		url.fragment = slice(fragment + 1, end);
	if (is_beyond_ascii(url.path) || is_beyond_ascii(url.query))
		return -EILSEQ;
	if (!wh__http_all(path, (size_t)(fragment - path), WH__HTTP_TARGET))
		return -EINVAL;
	*ret = url;
	return 0;
}

/* ---- what goes on the wire ---------------------------------------------------------------- */

static size_t put_host(const struct wh_http_url *url, char *to)
{
	size_t n = 0;

	if (url->is_ipv6)
		to[n++] = '[';
	for (size_t i = 0; i < url->host.len; i++) {
		char c = url->host.data[i];

		to[n++] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
	}
	if (url->is_ipv6)
		to[n++] = ']';
	return n;
}

static size_t put_port(const struct wh_http_url *url, char *to)
{
	to[0] = ':';
	return 1 + wh__http_decimal(url->port, to + 1);
}

size_t wh__http_url_origin(const struct wh_http_url *url, char ret[WH__HTTP_ORIGIN_BYTES_MAX])
{
	size_t n = url->https ? 8 : 7;

	memcpy(ret, url->https ? "https://" : "http://", n);
	n += put_host(url, ret + n);
	n += put_port(url, ret + n);
	ret[n] = 0;
	return n;
}

size_t wh__http_url_host(const struct wh_http_url *url, char ret[WH__HTTP_ORIGIN_BYTES_MAX])
{
	size_t n = put_host(url, ret);

	if (url->port != (url->https ? 443 : 80))
		n += put_port(url, ret + n);
	ret[n] = 0;
	return n;
}

bool wh__http_url_same_origin(const struct wh_http_url *a, const struct wh_http_url *b)
{
	return a->https == b->https && a->port == b->port && a->is_ipv6 == b->is_ipv6 &&
	       a->host.len == b->host.len && strncasecmp(a->host.data, b->host.data, a->host.len) == 0;
}

/* ---- references --------------------------------------------------------------------------- */

/* RFC 3986 section 5.2.4, in place; the new length. */
static size_t remove_dots(char *path, size_t len)
{
	size_t in = 0, out = 0;

	while (in < len) {
		const char *slash = memchr(path + in + 1, '/', len - in - 1);
		size_t next = slash ? (size_t)(slash - path) : len, segment = next - in;
		bool dot = segment == 2 && path[in + 1] == '.';
		bool dots = segment == 3 && path[in + 1] == '.' && path[in + 2] == '.';

		if (dots)
			while (out > 0 && path[--out] != '/')
				;
		if (!dot && !dots) {
			memmove(path + out, path + in, segment);
			out += segment;
		} else if (next == len) {
			path[out++] = '/'; /* a last one leaves its slash */
		}
		in = next;
	}
	return out;
}

/* The path of a reference that has none of its own host: from its own root, or beside the base's last segment. */
static char *put_path(const struct wh_http_url *base, struct wh_slice path, char *to)
{
	char *start = to;

	if (path.len == 0 || path.data[0] != '/') {
		size_t keep = base->path.len;

		if (path.len > 0)
			while (keep > 0 && base->path.data[keep - 1] != '/')
				keep--;
		if (keep == 0)
			*to++ = '/';
		if (keep > 0)
			memcpy(to, base->path.data, keep);
		to += keep;
	}
	if (path.len > 0)
		memcpy(to, path.data, path.len);
	to += path.len;
	return start + remove_dots(start, (size_t)(to - start));
}

static bool has_scheme(struct wh_slice text)
{
	size_t i = 0;

	while (i < text.len && ((wh__http_characters[(unsigned char)text.data[i]] & WH__HTTP_TOKEN) != 0) &&
	       !strchr("!#$%&'*^_`|~", text.data[i]))
		i++;
	return i > 0 && i < text.len && text.data[i] == ':';
}

int wh__http_url_resolve(const struct wh_http_url *base, struct wh_slice reference, char **ret)
{
	const char *end = reference.data + reference.len, *fragment = until(reference.data, end, "#");
	const char *query = until(reference.data, fragment, "?");
	struct wh_slice path = slice(reference.data, query), absolute = slice(reference.data, fragment);
	struct wh_http_url check;
	size_t room = reference.len + base->path.len + base->query.len + WH__HTTP_ORIGIN_BYTES_MAX + 16;
	char *text, *at;
	int error;

	if (reference.len > WH__HTTP_URL_BYTES_MAX)
		return -EINVAL;
	text = at = calloc(1, room);
	if (!text)
		return -ENOMEM;
	if (has_scheme(reference)) {
		memcpy(at, absolute.data, absolute.len);
		at += absolute.len;
	} else if (path.len >= 2 && memcmp(path.data, "//", 2) == 0) {
		at = stpcpy(at, base->https ? "https:" : "http:");
		memcpy(at, absolute.data, absolute.len);
		at += absolute.len;
	} else {
		at += wh__http_url_origin(base, at);
		at = put_path(base, path, at);
		if (query < fragment) {
			memcpy(at, query, (size_t)(fragment - query));
			at += fragment - query;
		} else if (path.len == 0 && base->query.data) {
			*at++ = '?';
			memcpy(at, base->query.data, base->query.len);
			at += base->query.len;
		}
	}
	*at = 0;
	error = wh_http_url_parse(slice(text, at), &check);
	if (error != 0) {
		free(text);
		return error;
	}
	*ret = text;
	return 0;
}

/* ---- user information --------------------------------------------------------------------- */

static int hex(char c)
{
	return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

char *wh__http_basic(struct wh_slice userinfo)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = malloc(8 + userinfo.len * 4 / 3 + 8), *to;
	uint32_t bits = 0;
	unsigned count = 0;

	if (!text)
		return NULL;
	to = stpcpy(text, "Basic ");
	for (size_t i = 0; i < userinfo.len; i++) {
		unsigned char byte = (unsigned char)userinfo.data[i];

		if (byte == '%') {
			byte = (unsigned char)(hex(userinfo.data[i + 1]) << 4 | hex(userinfo.data[i + 2]));
			i += 2;
		}
		bits = bits << 8 | byte;
		for (count += 8; count >= 6; count -= 6)
			*to++ = digits[bits >> (count - 6) & 63];
	}
	if (count > 0)
		*to++ = digits[bits << (6 - count) & 63];
	while ((to - text - 6) % 4 != 0)
		*to++ = '=';
	*to = 0;
	return text;
}
