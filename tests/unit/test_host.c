/* tests/unit/test_host.c -- which names a request may say the server has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "front/host.h"

static struct wh_slice slice(const char *text)
{
	return (struct wh_slice){text, strlen(text)};
}

static void ours(void **state)
{
	static const char *const good[] = {
		"",
		"127.0.0.1",
		"127.0.0.1:4480",
		"0.0.0.0:1",
		"255.255.255.255",
		"[::1]",
		"[::1]:4480",
		"[fe80::1%25eth0]:1",
		"localhost",
		"LocalHost:4480",
		"localhost.",
		"localhost.:4480",
		"a.localhost",
		"a.b.LOCALHOST",
		"a.localhost.:80",
		"10.1.2.3",
		"192.168.0.1:8080",
		":4480",
	};
	/* names that somebody may have lead anywhere, however they look */
	static const char *const bad[] = {
		"evil.example",
		"evil.example:4480",
		"localhost.evil.example",
		"127.0.0.1.evil.example",
		"xlocalhost",
		".localhost",
		"localhost..",
		"local",
		"127.0.0",
		"127.0.0.1.2",
		"127.0.0.256",
		"127.0.0.-1",
		"127.0.0.1x",
		"127..0.1",
		".127.0.0.1",
		"127.0.0.1..",
		"1",
		"2130706433",
		"0x7f.0.0.1",
		"a:127.0.0.1:80",
		"*",
		"localhost:x:1",
		"127.0.0.",
		"%6cocalhost",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!host_is_ours(slice(good[i])))
			fail_msg("'%s' is ours", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (host_is_ours(slice(bad[i])))
			fail_msg("'%s' is not ours", bad[i]);
	assert_true(host_is_ours((struct wh_slice){NULL, 0})); /* HTTP/1.0 has none */
}

static void named(void **state)
{
	static const char *const names[] = {"jobs.example.com", "*.inside.example", "Box"};
	const struct hosts hosts = {names, 3}, none = {NULL, 0};
	static const char *const any_name[] = {"*"};
	const struct hosts any = {any_name, 1};

	(void)state;
	assert_true(host_is_named(&hosts, slice("jobs.example.com")));
	assert_true(host_is_named(&hosts, slice("JOBS.example.COM.:443")));
	assert_true(host_is_named(&hosts, slice("a.inside.example:1")));
	assert_true(host_is_named(&hosts, slice("a.b.inside.example")));
	assert_true(host_is_named(&hosts, slice("box")));
	assert_false(host_is_named(&hosts, slice("inside.example")));
	assert_false(host_is_named(&hosts, slice(".inside.example")));
	assert_false(host_is_named(&hosts, slice("evilinside.example")));
	assert_false(host_is_named(&hosts, slice("jobs.example.com.evil.example")));
	assert_false(host_is_named(&hosts, slice("xjobs.example.com")));
	assert_false(host_is_named(&hosts, slice("bo")));
	assert_false(host_is_named(&hosts, slice("")));
	assert_false(host_is_named(&none, slice("x")));
	assert_true(host_is_named(&any, slice("x")));
	assert_true(host_is_named(&any, slice("")));
}

static void valid(void **state)
{
	static const char *const good[] = {"*", "a", "a.b", "*.a", "*.a.example", "x_y-z.example", "A9"};
	static const char *const bad[] = {
		"",      ".",   "a.",  ".a", "a..b",        "*a",  "**",  "*.",    "a.*.b",  "a:80",
		"[::1]", "a b", "a/b", "ä",  "http://host", "*.*", "a,b", "a\n.b", "a@b.cd", "*.."};
	char label[66] = "", name[300] = "";

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!host_valid(good[i]))
			fail_msg("'%s' is a name", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (host_valid(bad[i]))
			fail_msg("'%s' is no name", bad[i]);
	memset(label, 'a', 63);
	assert_true(host_valid(label));
	memset(label, 'a', 64);
	assert_false(host_valid(label));
	for (size_t i = 0; i < 126; i++)
		memcpy(name + 2 * i, "a.", 2);
	name[252] = 'a';
	assert_true(host_valid(name));
	memcpy(name + 253, ".a", 3);
	assert_false(host_valid(name));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(ours),
		cmocka_unit_test(named),
		cmocka_unit_test(valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
