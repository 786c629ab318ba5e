/* tests/unit/test_ranges.c -- which addresses pushes and callbacks may lead to: every range that is not for everybody, at both its ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "deliver/ranges.h"

static bool allowed(const struct ranges *ranges, const char *text)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	bool host = ranges_allow_host(ranges, text, strlen(text)), address = false;

	if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
		address = ranges_allow(ranges, (struct sockaddr *)&in, sizeof(in));
	else if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1)
		address = ranges_allow(ranges, (struct sockaddr *)&in6, sizeof(in6));
	else
		fail_msg("%s", text);
	assert_int_equal(host, address); /* the same when it is configured and when it is connected to */
	return address;
}

static void refused(void **state)
{
	static const char *const all[] = {
		"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255",
		"127.0.0.0", "127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.169.254",
		"169.254.255.255", "172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.255", "192.0.2.0",
		"192.0.2.255", "192.88.99.1", "192.168.0.0", "192.168.255.255", "198.18.0.0",
		"198.19.255.255", "198.51.100.0", "198.51.100.255", "203.0.113.0", "203.0.113.255",
		"224.0.0.0", "239.255.255.255", "240.0.0.0", "255.255.255.255", "::", "::1", "::2",
		"::7f00:1", "100::1", "2001::1", "2001:1ff:ffff::1", "2001:db8::1", "3fff::1", "3fff:fff::1",
		"5f00::1", "fc00::", "fdff:ffff::1", "fe80::1", "febf::1", "fec0::1", "feff::1", "ff02::1",
		"ff0e::1", "8000::1", "4000::1", "1fff::1",
		/* IPv4 by another name */
		"::ffff:127.0.0.1", "::ffff:10.1.2.3", "::ffff:169.254.169.254", "::ffff:0.0.0.0",
		"64:ff9b::10.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b:1::192.168.0.1",
		"2002:7f00:1::", "2002:a00:1::1", "2002:c0a8:101::1", "::ffff:224.0.0.1", "::ffff:100.64.0.1",
		"::192.168.0.1", "::8.8.8.8"};
	struct ranges none = {0};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (allowed(&none, all[i]))
			fail_msg("%s", all[i]);
}

static void for_everybody(void **state)
{
	static const char *const all[] = {
		"1.0.0.0",         "9.255.255.255",    "11.0.0.0",        "100.63.255.255",  "100.128.0.0",
		"126.255.255.255", "128.0.0.0",        "169.253.255.255", "169.255.0.0",     "172.15.255.255",
		"172.32.0.0",      "192.0.1.0",        "192.0.3.0",       "192.167.255.255", "192.169.0.0",
		"198.17.255.255",  "198.20.0.0",       "198.51.99.255",   "198.51.101.0",    "203.0.112.255",
		"203.0.114.0",     "223.255.255.255",  "8.8.8.8",         "2000::1",         "2001:200::1",
		"2001:db7::1",     "2001:db9::1",      "2606:4700::1111", "3ffe::1",         "3fff:1000::1",
		"::ffff:8.8.8.8",  "64:ff9b::8.8.8.8", "2002:808:808::1"};
	struct ranges none = {0};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!allowed(&none, all[i]))
			fail_msg("%s", all[i]);
}

static void named_networks(void **state)
{
	struct ranges ranges = {0}, all = {0};

	assert_true(ranges_add(&ranges, "10.1.0.0/16"));
	assert_true(ranges_add(&ranges, "127.0.0.1"));
	assert_true(ranges_add(&ranges, "fd00:1::/33"));
	assert_true(allowed(&ranges, "10.1.255.255"));
	assert_true(allowed(&ranges, "::ffff:10.1.0.0"));
	assert_false(allowed(&ranges, "10.2.0.0"));
	assert_true(allowed(&ranges, "127.0.0.1"));
	assert_false(allowed(&ranges, "127.0.0.2"));
	assert_false(allowed(&ranges, "::1"));
	assert_true(allowed(&ranges, "fd00:1:7fff::1"));
	assert_false(allowed(&ranges, "fd00:1:8000::1"));
	assert_true(allowed(&ranges, "8.8.8.8"));
	assert_true(ranges_add(&all, "all"));
	assert_true(allowed(&all, "127.0.0.1") && allowed(&all, "fe80::1"));
	assert_true(ranges_add(&ranges, "0.0.0.0/0"));
	assert_true(allowed(&ranges, "192.168.1.1"));
	assert_false(allowed(&ranges, "::1"));
}

static void malformed_networks(void **state)
{
	static const char *const all[] = {"",           "10",          "10.0.0.0/33", "10.0.0.0/",
	                                  "10.0.0.0/x", "::/129",      "/8",          "private",
	                                  "10.0.0/8",   "1.2.3.4/8/8", "fd00::/-1",   "localhost"};
	struct ranges ranges = {0};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (ranges_add(&ranges, all[i]))
			fail_msg("%s", all[i]);
	for (int i = 0; i < RANGES_MAX; i++)
		assert_true(ranges_add(&ranges, "10.0.0.0/8"));
	assert_false(ranges_add(&ranges, "10.0.0.0/8"));
}

static bool host(const struct ranges *ranges, const char *text)
{
	return ranges_allow_host(ranges, text, strlen(text));
}

/* Names are judged by what they lead to, once that is known; what can lead to nothing else is refused at once. */
static void names(void **state)
{
	struct ranges ranges = {0};
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/x"};
	struct sockaddr_in shortened = {.sin_family = AF_INET};

	assert_true(host(&ranges, "example.com"));
	assert_true(host(&ranges, "notlocalhost"));
	assert_false(host(&ranges, "localhost"));
	assert_false(host(&ranges, "LocalHost."));
	assert_false(host(&ranges, "a.localhost"));
	assert_false(ranges_allow(&ranges, (struct sockaddr *)&un, sizeof(un)));
	inet_pton(AF_INET, "8.8.8.8", &shortened.sin_addr);
	assert_false(ranges_allow(&ranges, (struct sockaddr *)&shortened, 4));
	assert_true(ranges_add(&ranges, "127.0.0.0/8"));
	assert_true(host(&ranges, "localhost"));
	assert_false(ranges_allow(&ranges, (struct sockaddr *)&un, sizeof(un)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused),        cmocka_unit_test(for_everybody),
		cmocka_unit_test(named_networks), cmocka_unit_test(malformed_networks),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
