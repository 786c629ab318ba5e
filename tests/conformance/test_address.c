/* tests/conformance/test_address.c -- addresses as text, and listening by them. */
#define WH_TESTS_CALLS_ON_SIM
#include "conformance.h"

#include <arpa/inet.h>

static void text_and_address(void **state)
{
	static const struct {
		const char *text, *back; /* NULL: the same */
		int family;
	} cases[] = {
		{"127.0.0.1:0", NULL, AF_INET},
		{"255.255.255.255:65535", NULL, AF_INET},
		{"localhost:80", "127.0.0.1:80", AF_INET},
		{"*:8080", "0.0.0.0:8080", AF_INET},
		{"[::1]:443", NULL, AF_INET6},
		{"[::]:0", NULL, AF_INET6},
		{"[2001:db8:0:0:0:0:0:1]:1", "[2001:db8::1]:1", AF_INET6},
		{"[fe80::1%7]:80", NULL, AF_INET6},
		{"[fe80::1%lo]:80", "[fe80::1%1]:80", AF_INET6},
		{"[::ffff:1.2.3.4]:5", NULL, AF_INET6},
		{"unix:/run/a.socket", NULL, AF_UNIX},
		{"unix:relative", NULL, AF_UNIX},
		{"unix:@abstract", NULL, AF_UNIX},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct wh_address address;
		char text[WH_ADDRESS_TEXT_MAX];
		const char *back = cases[i].back ? cases[i].back : cases[i].text;
		assert_int_equal(wh_parse_address(cases[i].text, &address), 0);
		assert_int_equal(address.address.ss_family, cases[i].family);
		const struct sockaddr *any = (const struct sockaddr *)&address.address;
		assert_int_equal(wh_format_address(any, address.len, text, sizeof text), strlen(back));
		assert_string_equal(text, back);
		/* the room is known, to the byte */
		memset(text, 'x', sizeof text);
		assert_int_equal(wh_format_address(any, address.len, text, strlen(back) + 1), strlen(back));
		assert_int_equal(wh_format_address(any, address.len, text, strlen(back)), -ENOSPC);
		assert_string_equal(text, back); /* untouched */
	}
}

static void what_is_no_address(void **state)
{
	static const char *const wrong[] = {"",
	                                    ":",
	                                    ":80",
	                                    "80",
	                                    "127.0.0.1",
	                                    "127.0.0.1:",
	                                    "127.0.0.1:65536",
	                                    "127.0.0.1:-1",
	                                    "127.0.0.1:8o",
	                                    "127.0.0.1: 80",
	                                    "127.0.0:80",
	                                    "example.org:80",
	                                    "::1:80",
	                                    "[::1]",
	                                    "[::1]80",
	                                    "[]:80",
	                                    "[::1:80",
	                                    "[127.0.0.1]:80",
	                                    "[fe80::1%]:80",
	                                    "[fe80::1%none]:80",
	                                    "unix:",
	                                    "[::1%1%2]:80"};
	struct wh_address address;
	char text[WH_ADDRESS_TEXT_MAX], longest[300];
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_int_equal(wh_parse_address(wrong[i], &address), -EINVAL);
	assert_int_equal(wh_parse_address(NULL, &address), -EINVAL);
	snprintf(longest, sizeof longest, "unix:/%0106d", 0);
	assert_int_equal(wh_parse_address(longest, &address), 0);
	assert_true(wh_format_address((struct sockaddr *)&address.address, address.len, text, sizeof text) >
	            0);
	assert_string_equal(text, longest);
	snprintf(longest, sizeof longest, "unix:/%0107d", 0);
	assert_int_equal(wh_parse_address(longest, &address), -ENAMETOOLONG);
	snprintf(longest, sizeof longest, "%0200d:1", 0);
	assert_int_equal(wh_parse_address(longest, &address), -EINVAL);
	struct sockaddr other = {.sa_family = AF_NETLINK};
	assert_int_equal(wh_format_address(&other, sizeof other, text, sizeof text), -EAFNOSUPPORT);
	assert_int_equal(wh_format_address(NULL, 0, text, sizeof text), -EINVAL);
	assert_int_equal(wh_format_address(&other, 1, text, sizeof text), -EINVAL);
	assert_int_equal(wh_format_address(&other, 1000, text, sizeof text), -EINVAL);
	other.sa_family = AF_INET6; /* and too short for it */
	assert_int_equal(wh_format_address(&other, sizeof other, text, sizeof text), -EAFNOSUPPORT);
	other.sa_family = AF_UNIX; /* a socket without a name */
	assert_int_equal(wh_format_address(&other, sizeof(sa_family_t), text, sizeof text), 5);
	assert_string_equal(text, "unix:");
}

static void reach(const char *listening)
{
	struct sockaddr_storage bound;
	struct wh_address again;
	socklen_t len;
	char text[WH_ADDRESS_TEXT_MAX], byte;
	int listener = wh_listen_text(loop, listening, NULL);
	if (listener == -EAFNOSUPPORT || listener == -EADDRNOTAVAIL)
		return; /* a machine without IPv6 */
	assert_true(listener >= 0);
	assert_int_equal(wh_local_address(loop, listener, &bound, &len), 0);
	assert_true(wh_format_address((struct sockaddr *)&bound, len, text, sizeof text) > 0);
	assert_int_equal(wh_parse_address(text, &again), 0);
	wh_future accepted = wh_accept(loop, listener);
	int here = (int)wh_await(wh_connect(loop, (struct sockaddr *)&again.address, again.len)).n;
	int there = (int)wh_await(accepted).n;
	assert_true(here >= 0 && there >= 0);
	assert_int_equal(wh_await(wh_send_all(loop, here, "x", 1)).n, 1);
	assert_int_equal(wh_await(wh_recv(loop, there, &byte, 1)).n, 1);
	/* nobody waits for these, and what is on them ends */
	wh_future never = wh_recv(loop, there, &byte, 1);
	assert_int_equal(wh_close_now(loop, there), 0);
	assert_int_equal(wh_await(never).n, -ECANCELED);
	assert_int_equal(wh_close_now(loop, here), 0);
	assert_int_equal(wh_close_now(loop, listener), 0);
	assert_int_equal(wh_loop_run(loop), 0);
}

static void listening_by_text(void **state)
{
	int before = open_fd_count();
	reach("127.0.0.1:0");
	reach("localhost:0");
	reach("[::1]:0");
	reach("*:0");
	reach("unix:@whilst-test-address");
	assert_int_equal(open_fd_count(), before);
	assert_int_equal(wh_listen_text(loop, "nowhere", NULL), -EINVAL);
	assert_int_equal(wh_listen_text(loop, "192.0.2.1:80", NULL), -EADDRNOTAVAIL);
}

/* Closing is what makes room: no limit keeps it off. */
static void closing_without_room(void **state)
{
	const struct wh_loop_options narrow = {.futures_max = 4};
	int before, listeners[8];
	loop = wh_loop_close(loop);
	assert_int_equal(wh_loop_open(&loop, &narrow), 0);
	before = open_fd_count();
	for (int i = 0; i < 8; i++)
		assert_true((listeners[i] = wh_listen_text(loop, "127.0.0.1:0", NULL)) >= 0);
	for (int i = 0; i < 4; i++)
		assert_false(wh_done(wh_accept(loop, listeners[i])));
	assert_int_equal(wh_await(wh_accept(loop, listeners[4])).n, -EAGAIN);
	for (int i = 0; i < 8; i++)
		assert_int_equal(wh_close_now(loop, listeners[i]), 0);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	assert_int_equal(wh_close_now(loop, -1), -EBADF);
	loop = wh_loop_close(loop);
	assert_int_equal(on_sim_loop_open(&loop, NULL), 0);
	assert_int_equal(open_fd_count(), machine ? open_fd_count() : before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_and_address),
		cmocka_unit_test(what_is_no_address),
		ON_LOOP(listening_by_text),
		ON_LOOP(closing_without_room),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
