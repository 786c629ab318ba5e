/* tests/fuzz/http_url.c -- URLs, references and lists of exceptions from proxies. Input: two texts with a line feed between them.
 *
 * Properties: parts lie in their text and hold no byte that could break a head; a URL that was put together again means the same;
 * what a reference resolves to is a URL, and resolving it again changes nothing.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/message.h"
#include "http/proxy.h"
#include "http/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define REQUIRE(condition)        \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

static void lies_in(struct wh_slice part, struct wh_slice text, unsigned class)
{
	if (!part.data)
		return;
	REQUIRE(part.data >= text.data && part.data + part.len <= text.data + text.len);
	REQUIRE(wh__http_all(part.data, part.len, class));
}

static void resolve(const struct wh_http_url *base, struct wh_slice reference)
{
	struct wh_http_url url;
	char *text, *again;

	if (wh__http_url_resolve(base, reference, &text) != 0)
		return;
	REQUIRE(wh_http_url_parse((struct wh_slice){text, strlen(text)}, &url) == 0);
	REQUIRE(!url.fragment.data);
	REQUIRE(wh__http_url_resolve(base, (struct wh_slice){text, strlen(text)}, &again) == 0);
	REQUIRE(strcmp(text, again) == 0);
	free(text);
	free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const uint8_t *mark = len ? memchr(data, '\n', len) : NULL;
	struct wh_slice text = {(const char *)data, mark ? (size_t)(mark - data) : len};
	struct wh_slice rest = {mark ? (const char *)mark + 1 : "", mark ? len - text.len - 1 : 0};
	char origin[WH__HTTP_ORIGIN_BYTES_MAX], host[WH__HTTP_ORIGIN_BYTES_MAX], *list, *basic;
	struct wh_http_url url, same;

	if (len == 0 || wh_http_url_parse(text, &url) != 0)
		return 0;
	lies_in(url.host, text, WH__HTTP_HOST | WH__HTTP_TARGET);
	lies_in(url.path, text, WH__HTTP_TARGET);
	lies_in(url.query, text, WH__HTTP_TARGET);
	lies_in(url.userinfo, text, WH__HTTP_TARGET);
	REQUIRE(url.host.len > 0 && url.port > 0);
	REQUIRE(wh__http_url_origin(&url, origin) == strlen(origin));
	REQUIRE(wh_http_url_parse((struct wh_slice){origin, strlen(origin)}, &same) == 0);
	REQUIRE(wh__http_url_same_origin(&url, &same));
	wh__http_url_host(&url, host);
	REQUIRE(wh__http_host_valid(host, strlen(host)));
	if (url.userinfo.data) {
		basic = wh__http_basic(url.userinfo);
		REQUIRE(basic && strlen(basic) >= 6);
		free(basic);
	}
	resolve(&url, rest);
	list = strndup(rest.data, rest.len);
	REQUIRE(list);
	(void)wh__http_proxy_excepted(list, &url);
	free(list);
	return 0;
}
