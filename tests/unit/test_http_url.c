/* tests/unit/test_http_url.c -- URLs: taken apart, resolved against a base, refused; which of them go through a proxy. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/proxy.h"
#include "http/url.h"

static struct wh_slice slice(const char *text)
{
	return (struct wh_slice){text, strlen(text)};
}

static void assert_slice(struct wh_slice got, const char *wanted)
{
	if (!wanted) {
		assert_null(got.data);
		return;
	}
	assert_non_null(got.data);
	if (got.len != strlen(wanted) || memcmp(got.data, wanted, got.len) != 0)
		fail_msg("got %.*s, wanted %s", (int)got.len, got.data, wanted);
}

static struct wh_http_url parse(const char *text)
{
	struct wh_http_url url = {0};
	int error = wh_http_url_parse(slice(text), &url);

	if (error != 0)
		fail_msg("%s: %d", text, error);
	return url;
}

static void parts(void **state)
{
	static const struct {
		const char *text, *userinfo, *host, *path, *query, *fragment;
		uint16_t port;
		bool https, is_ipv6;
	} cases[] = {
		{"http://a", NULL, "a", "", NULL, NULL, 80, false, false},
		{"HTTPS://Example.COM/", NULL, "Example.COM", "/", NULL, NULL, 443, true, false},
		{"http://a:8080/b/c?d=e#f", NULL, "a", "/b/c", "d=e", "f", 8080, false, false},
		{"http://a:/", NULL, "a", "/", NULL, NULL, 80, false, false},
		{"http://a?q", NULL, "a", "", "q", NULL, 80, false, false},
		{"http://a#f", NULL, "a", "", NULL, "f", 80, false, false},
		{"http://a/?", NULL, "a", "/", "", NULL, 80, false, false},
		{"http://u:p%40@a/", "u:p%40", "a", "/", NULL, NULL, 80, false, false},
		{"http://@a/", "", "a", "/", NULL, NULL, 80, false, false},
		{"http://[::1]:81/x", NULL, "::1", "/x", NULL, NULL, 81, false, true},
		{"https://[fe80::1:2]", NULL, "fe80::1:2", "", NULL, NULL, 443, true, true},
		{"http://127.0.0.1:1/%2e%2E/;a=b", NULL, "127.0.0.1", "/%2e%2E/;a=b", NULL, NULL, 1, false,
	         false},
		{"http://xn--bcher-kva.example/", NULL, "xn--bcher-kva.example", "/", NULL, NULL, 80, false,
	         false},
		{"http://a/b@c", NULL, "a", "/b@c", NULL, NULL, 80, false, false},
		{"http://a/?b@c:d", NULL, "a", "/", "b@c:d", NULL, 80, false, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct wh_http_url url = parse(cases[i].text);

		assert_slice(url.userinfo, cases[i].userinfo);
		assert_slice(url.host, cases[i].host);
		assert_slice(url.path, cases[i].path);
		assert_slice(url.query, cases[i].query);
		assert_slice(url.fragment, cases[i].fragment);
		assert_int_equal(url.port, cases[i].port);
		assert_int_equal(url.https, cases[i].https);
		assert_int_equal(url.is_ipv6, cases[i].is_ipv6);
	}
}

static void refused(void **state)
{
	static const struct {
		const char *text;
		int error;
	} cases[] = {
		{"", -EINVAL},
		{"a", -EINVAL},
		{"/a", -EINVAL},
		{"http:/a", -EINVAL},
		{"http:a", -EINVAL},
		{"http://", -EINVAL},
		{"http:///a", -EINVAL},
		{"http://:80/", -EINVAL},
		{"http://a:0/", -EINVAL},
		{"http://a:65536/", -EINVAL},
		{"http://a:-1/", -EINVAL},
		{"http://a:80a/", -EINVAL},
		{"http://a b/", -EINVAL},
		{"http://a%41/", -EINVAL},
		{"http://a/b c", -EINVAL},
		{"http://a/\r\nX: y", -EINVAL},
		{"http://a\r\nX: y/", -EINVAL},
		{"http://u@v@a/", -EINVAL},
		{"http://u\\@a/", -EINVAL},
		{"http://good\\@evil/", -EINVAL},
		{"http://u%4/@a", -EINVAL}, /* the path begins at the slash: a port that is none */
		{"http://u%zz@a/", -EINVAL},
		{"http://[::1", -EINVAL},
		{"http://[::1]x/", -EINVAL},
		{"http://[fe80::1%25eth0]/", -EINVAL},
		{"http://[1.2.3.4]/", -EINVAL},
		{"http://[]/", -EINVAL},
		{"http://b\xc3\xbc"
	         "cher.example/",
	         -EILSEQ},
		{"http://a/\xc3\xbc", -EILSEQ},
		{"http://a/?\xff", -EILSEQ},
		{"ftp://a/", -EPROTONOSUPPORT},
		{"unix:/a", -EPROTONOSUPPORT},
		{"mailto:a@b", -EPROTONOSUPPORT},
		{"javascript:alert(1)", -EPROTONOSUPPORT},
	};
	struct wh_http_url url;
	char *longest = malloc(70000);

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int error = wh_http_url_parse(slice(cases[i].text), &url);

		if (error != cases[i].error)
			fail_msg("%s: got %d, wanted %d", cases[i].text, error, cases[i].error);
	}
	assert_int_equal(wh_http_url_parse((struct wh_slice){0}, &url), -EINVAL);
	assert_int_equal(wh_http_url_parse((struct wh_slice){"http://a\0b/", 11}, &url), -EINVAL);
	assert_int_equal(wh_http_url_parse((struct wh_slice){"http://a/\0b", 11}, &url), -EINVAL);
	assert_non_null(longest);
	memset(longest, 'a', 70000);
	memcpy(longest, "http://", 7);
	assert_int_equal(wh_http_url_parse((struct wh_slice){longest, 70000}, &url), -EINVAL);
	assert_int_equal(wh_http_url_parse((struct wh_slice){longest, 7 + 256}, &url), -EINVAL);
	assert_int_equal(wh_http_url_parse((struct wh_slice){longest, 7 + 255}, &url), 0);
	free(longest);
}

/* RFC 3986 sections 5.4.1 and 5.4.2, but for what has no host in http. */
static void references(void **state)
{
	static const struct {
		const char *reference, *wanted; /* below the base's origin, or whole */
	} cases[] = {
		{"http://g:8/h", "http://g:8/h"},
		{"g", "/b/c/g"},
		{"./g", "/b/c/g"},
		{"g/", "/b/c/g/"},
		{"/g", "/g"},
		{"//g", "http://g"},
		{"?y", "/b/c/d;p?y"},
		{"g?y", "/b/c/g?y"},
		{"#s", "/b/c/d;p?q"},
		{"g#s", "/b/c/g"},
		{"g?y#s", "/b/c/g?y"},
		{";x", "/b/c/;x"},
		{"g;x", "/b/c/g;x"},
		{"", "/b/c/d;p?q"},
		{".", "/b/c/"},
		{"./", "/b/c/"},
		{"..", "/b/"},
		{"../", "/b/"},
		{"../g", "/b/g"},
		{"../..", "/"},
		{"../../", "/"},
		{"../../g", "/g"},
		{"../../../g", "/g"},
		{"../../../../g", "/g"},
		{"/./g", "/g"},
		{"/../g", "/g"},
		{"g.", "/b/c/g."},
		{".g", "/b/c/.g"},
		{"g..", "/b/c/g.."},
		{"..g", "/b/c/..g"},
		{"./../g", "/b/g"},
		{"./g/.", "/b/c/g/"},
		{"g/./h", "/b/c/g/h"},
		{"g/../h", "/b/c/h"},
		{"g;x=1/./y", "/b/c/g;x=1/y"},
		{"g;x=1/../y", "/b/c/y"},
		{"g?y/./x", "/b/c/g?y/./x"},
		{"g?y/../x", "/b/c/g?y/../x"},
		{"g:80", NULL}, /* a scheme */
		{"/a b", NULL},
		{"/\xc3\xbc", NULL},
	};
	struct wh_http_url base = parse("http://a/b/c/d;p?q"), bare = parse("https://A:1?x");
	char wanted[100], *got;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int error = wh__http_url_resolve(&base, slice(cases[i].reference), &got);

		if (!cases[i].wanted) {
			assert_true(error < 0);
			continue;
		}
		assert_int_equal(error, 0);
		snprintf(wanted, sizeof(wanted), "%s%s", cases[i].wanted[0] == '/' ? "http://a:80" : "",
		         cases[i].wanted);
		if (strcmp(got, wanted) != 0)
			fail_msg("%s: got %s, wanted %s", cases[i].reference, got, wanted);
		free(got);
	}
	assert_int_equal(wh__http_url_resolve(&bare, slice("g"), &got), 0);
	assert_string_equal(got, "https://a:1/g");
	free(got);
	assert_int_equal(wh__http_url_resolve(&bare, slice("//[::1]:2/g"), &got), 0);
	assert_string_equal(got, "https://[::1]:2/g");
	free(got);
}

static void on_the_wire(void **state)
{
	struct wh_http_url url = parse("https://EXAMPLE.com:443"), other = parse("https://example.COM/x"),
			   third = parse("http://example.com:443");
	char text[WH__HTTP_ORIGIN_BYTES_MAX], *basic;

	assert_int_equal(wh__http_url_origin(&url, text), strlen("https://example.com:443"));
	assert_string_equal(text, "https://example.com:443");
	wh__http_url_host(&url, text);
	assert_string_equal(text, "example.com");
	wh__http_url_host(&third, text);
	assert_string_equal(text, "example.com:443");
	assert_true(wh__http_url_same_origin(&url, &other));
	assert_false(wh__http_url_same_origin(&url, &third));
	basic = wh__http_basic(slice("Aladdin:open%20sesame"));
	assert_string_equal(basic, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
	free(basic);
	basic = wh__http_basic(slice("a:b"));
	assert_string_equal(basic, "Basic YTpi");
	free(basic);
	basic = wh__http_basic(slice("a:bc"));
	assert_string_equal(basic, "Basic YTpiYw==");
	free(basic);
	basic = wh__http_basic(slice("%C3%bc"));
	assert_string_equal(basic, "Basic w7w=");
	free(basic);
}

static void exceptions(void **state)
{
	static const struct {
		const char *list, *url;
		bool excepted;
	} cases[] = {
		{"", "http://a/", false},
		{"*", "http://a/", true},
		{"b, *", "http://a/", true},
		{"*.a", "http://b.a/", false}, /* no patterns */
		{"example.com", "http://example.com/", true},
		{"example.com", "http://EXAMPLE.com/", true},
		{"Example.COM", "http://www.example.com/", true},
		{".example.com", "http://www.example.com/", true},
		{".example.com", "http://example.com/", true},
		{"example.com.", "http://example.com/", true},
		{"example.com", "http://example.com./", true},
		{"example.com", "http://notexample.com/", false},
		{"example.com", "http://example.com.evil/", false},
		{"a,b", "http://b/", true},
		{"a b", "http://b/", true},
		{",, ,b,", "http://b/", true},
		{"a:80", "http://a/", true},
		{"a:80", "https://a/", false},
		{"a:443", "https://a/", true},
		{"a:8080", "http://x.a:8080/", true},
		{"a:", "http://a/", false},
		{"*:81", "http://a:81/", true},
		{"*:81", "http://a/", false},
		{"10.0.0.1", "http://10.0.0.1/", true},
		{"10.0.0.1:81", "http://10.0.0.1/", false},
		{"10.0.0.1:81", "http://10.0.0.1:81/", true},
		{"0.0.1", "http://10.0.0.1/", false}, /* addresses have no suffixes */
		{"10.0.0.0/8", "http://10.255.0.1/", true},
		{"10.0.0.0/8", "http://11.0.0.1/", false},
		{"10.0.0.0/8:80", "http://10.0.0.1/", true},
		{"10.0.0.0/9", "http://10.128.0.1/", false},
		{"10.0.0.0/0", "http://1.2.3.4/", true},
		{"10.0.0.0/33", "http://10.0.0.0/", false},
		{"10.0.0.0/", "http://10.0.0.0/", false},
		{"10.0.0.0/8", "http://ten.example/", false},
		{"::1", "http://[::1]/", true},
		{"[::1]", "http://[::1]/", true},
		{"[::1]:80", "http://[::1]/", true},
		{"[::1]:81", "http://[::1]/", false},
		{"[::1", "http://[::1]/", false},
		{"0:0::1", "http://[::1]/", true},
		{"fd00::/8", "http://[fdab::1]/", true},
		{"fd00::/8", "http://[fe00::1]/", false},
		{"fd00::/8", "http://10.0.0.1/", false},
		{"0.0.0.0/0", "http://[::1]/", false},
		{"localhost", "http://localhost:9/", true},
		{".", "http://a/", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct wh_http_url url = parse(cases[i].url);

		if (wh__http_proxy_excepted(cases[i].list, &url) != cases[i].excepted)
			fail_msg("'%s' for %s", cases[i].list, cases[i].url);
	}
}

static void no_variables(void)
{
	static const char *const names[] = {"http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY",
	                                    "all_proxy",  "ALL_PROXY",  "no_proxy",    "NO_PROXY"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		unsetenv(names[i]);
}

static void environment(void **state)
{
	struct wh__http_proxies proxies = {0};
	struct wh_http_url http = parse("http://a/"), https = parse("https://a/"), local = parse("http://b/");

	no_variables();
	assert_int_equal(wh__http_proxies_from_environment(&proxies), 0);
	assert_null(wh__http_proxy_for(&proxies, &http));
	setenv("HTTP_PROXY", "http://evil:1", 1); /* httpoxy */
	setenv("HTTPS_PROXY", "http://u:p%20w@secure:2", 1);
	setenv("NO_PROXY", "b", 1);
	assert_int_equal(wh__http_proxies_from_environment(&proxies), 0);
	assert_null(wh__http_proxy_for(&proxies, &http));
	assert_slice(wh__http_proxy_for(&proxies, &https)->url.host, "secure");
	assert_string_equal(wh__http_proxy_for(&proxies, &https)->authorization, "Basic dTpwIHc=");
	wh__http_proxies_clear(&proxies);
	setenv("all_proxy", "any:3", 1);
	setenv("https_proxy", "http://lower:4", 1);
	assert_int_equal(wh__http_proxies_from_environment(&proxies), 0);
	assert_slice(wh__http_proxy_for(&proxies, &http)->url.host, "any");
	assert_int_equal(wh__http_proxy_for(&proxies, &http)->url.port, 3);
	assert_slice(wh__http_proxy_for(&proxies, &https)->url.host, "lower");
	assert_null(wh__http_proxy_for(&proxies, &local));
	wh__http_proxies_clear(&proxies);
	setenv("http_proxy", "socks5://a:1", 1);
	assert_int_equal(wh__http_proxies_from_environment(&proxies), -EPROTONOSUPPORT);
	wh__http_proxies_clear(&proxies);
	setenv("http_proxy", "https://a:1", 1);
	assert_int_equal(wh__http_proxies_from_environment(&proxies), -EPROTONOSUPPORT);
	wh__http_proxies_clear(&proxies);
	setenv("http_proxy", "http://a:x", 1);
	assert_int_equal(wh__http_proxies_from_environment(&proxies), -EINVAL);
	wh__http_proxies_clear(&proxies);
	no_variables();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parts),       cmocka_unit_test(refused),    cmocka_unit_test(references),
		cmocka_unit_test(on_the_wire), cmocka_unit_test(exceptions), cmocka_unit_test(environment),
	};

	return cmocka_run_group_tests_name("http url", tests, NULL, NULL);
}
