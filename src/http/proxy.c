/* src/http/proxy.c -- which requests go through a proxy. See proxy.h. */
#include "http/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/message.h"

/* ---- exceptions --------------------------------------------------------------------------- */

/* An address in 16 bytes, IPv4 as ::ffff:a.b.c.d; how many bits of it are not that prefix: 0 is no address. */
static unsigned parse_address(struct wh_slice text, uint8_t ret[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	char copy[INET6_ADDRSTRLEN];

	if (text.len >= sizeof(copy) || memchr(text.data, 0, text.len))
		return 0;
	memcpy(copy, text.data, text.len);
	copy[text.len] = 0;
	memcpy(ret, mapped, sizeof(mapped));
	if (inet_pton(AF_INET, copy, ret + 12) == 1)
		return 32;
	return inet_pton(AF_INET6, copy, ret) == 1 ? 128 : 0;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned bytes = bits / 8, rest = bits % 8;

	if (memcmp(a, b, bytes) != 0)
		return false;
	return rest == 0 || ((a[bytes] ^ b[bytes]) >> (8 - rest)) == 0;
}

static bool parse_number(struct wh_slice text, unsigned max, unsigned *ret)
{
	unsigned number = 0;

	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		number = number * 10 + (unsigned)(text.data[i] - '0');
		if (number > max)
			return false;
	}
	*ret = number;
	return text.len > 0;
}

/* address or address/bits, brackets taken off */
static bool address_matches(struct wh_slice element, const uint8_t host[16], unsigned family)
{
	const char *slash = memchr(element.data, '/', element.len);
	struct wh_slice address = {element.data, slash ? (size_t)(slash - element.data) : element.len};
	uint8_t network[16];
	unsigned bits, width = parse_address(address, network);

	if (width == 0 || width != family)
		return false;
	bits = width;
	if (slash && !parse_number((struct wh_slice){slash + 1, element.len - address.len - 1}, width, &bits))
		return false;
	return same_bits(network, host, 128 - width + bits);
}

static bool name_matches(struct wh_slice element, struct wh_slice host)
{
	if (element.len > 0 && element.data[0] == '.') {
		element.data++;
		element.len--;
	}
	if (element.len > 0 && element.data[element.len - 1] == '.')
		element.len--;
	if (element.len == 0 || element.len > host.len)
		return false;
	if (strncasecmp(element.data, host.data + host.len - element.len, element.len) != 0)
		return false;
	return element.len == host.len || host.data[host.len - element.len - 1] == '.';
}

/* Takes ":port" off; false: it is for another port, or none at all. */
static bool take_port(struct wh_slice *element, uint16_t wanted)
{
	const char *end = element->data + element->len, *colon = memrchr(element->data, ':', element->len);
	unsigned port;

	if (element->data[0] == '[') {
		const char *close = memchr(element->data, ']', element->len);

		if (!close)
			return false;
		element->data++;
		element->len = (size_t)(close - element->data);
		if (close + 1 == end)
			return true;
		if (close[1] == '/') { /* [fd00::]/8 is not written by anybody; fd00::/8 is */
			return false;
		}
		colon = close + 1;
	} else if (!colon || memchr(element->data, ':', (size_t)(colon - element->data))) {
		return true; /* no port, or an IPv6 address without brackets */
	} else {
		element->len = (size_t)(colon - element->data);
	}
	return *colon == ':' &&
	       parse_number((struct wh_slice){colon + 1, (size_t)(end - colon - 1)}, 65535, &port) &&
	       port == wanted;
}

static bool element_matches(struct wh_slice element, const struct wh_http_url *url, const uint8_t address[16],
                            unsigned family)
{
	struct wh_slice host = url->host;

	if (element.len == 1 && element.data[0] == '*')
		return true;
	if (!take_port(&element, url->port) || element.len == 0)
		return false;
	if (element.len == 1 && element.data[0] == '*')
		return true;
	if (family != 0)
		return address_matches(element, address, family);
	if (host.len > 1 && host.data[host.len - 1] == '.')
		host.len--;
	return name_matches(element, host);
}

bool wh__http_proxy_excepted(const char *list, const struct wh_http_url *url)
{
	uint8_t address[16];
	unsigned family = parse_address(url->host, address);

	while (*list) {
		size_t len = strcspn(list, ", \t");

		if (len > 0 && element_matches((struct wh_slice){list, len}, url, address, family))
			return true;
		list += len + (list[len] != 0);
	}
	return false;
}

/* ---- settings ----------------------------------------------------------------------------- */

int wh__http_proxy_set(struct wh__http_proxy *proxy, const char *text)
{
	size_t len = strlen(text);
	char *copy = malloc(len + sizeof("http://"));
	int error;

	if (!copy)
		return -ENOMEM;
	(void)stpcpy(stpcpy(copy, strstr(text, "://") ? "" : "http://"), text);
	error = wh_http_url_parse((struct wh_slice){copy, strlen(copy)}, &proxy->url);
	if (error == 0 && proxy->url.https)
		error = -EPROTONOSUPPORT; /* TLS within TLS */
	if (error == 0 && proxy->url.userinfo.data) {
		proxy->authorization = wh__http_basic(proxy->url.userinfo);
		if (!proxy->authorization)
			error = -ENOMEM;
	}
	if (error != 0) {
		free(copy);
		return error;
	}
	proxy->text = copy;
	return 0;
}

static const char *variable(const char *lower, const char *upper)
{
	const char *value = getenv(lower);

	if ((!value || !*value) && upper)
		value = getenv(upper);
	return value && *value ? value : NULL;
}

static int set_from(struct wh__http_proxy *proxy, const char *own, const char *all)
{
	const char *text = own ? own : all;

	return proxy->text || !text ? 0 : wh__http_proxy_set(proxy, text);
}

int wh__http_proxies_from_environment(struct wh__http_proxies *proxies)
{
	const char *all = variable("all_proxy", "ALL_PROXY"), *exceptions = variable("no_proxy", "NO_PROXY");
	int error = set_from(&proxies->http, variable("http_proxy", NULL), all);

	if (error == 0)
		error = set_from(&proxies->https, variable("https_proxy", "HTTPS_PROXY"), all);
	if (error == 0 && exceptions && !proxies->exceptions) {
		proxies->exceptions = strdup(exceptions);
		if (!proxies->exceptions)
			error = -ENOMEM;
	}
	return error;
}

static void clear(struct wh__http_proxy *proxy)
{
	free(proxy->text);
	free(proxy->authorization);
	*proxy = (struct wh__http_proxy){0};
}

void wh__http_proxies_clear(struct wh__http_proxies *proxies)
{
	clear(&proxies->http);
	clear(&proxies->https);
	free(proxies->exceptions);
	proxies->exceptions = NULL;
}

const struct wh__http_proxy *wh__http_proxy_for(const struct wh__http_proxies *proxies,
                                                const struct wh_http_url *url)
{
	const struct wh__http_proxy *proxy = url->https ? &proxies->https : &proxies->http;

	if (!proxy->text || (proxies->exceptions && wh__http_proxy_excepted(proxies->exceptions, url)))
		return NULL;
	return proxy;
}
