/* tests/conformance/test_dial.c -- connecting by name: the order of attempts, who wins, what is left over. */
#include "name_server.h"

static struct name_server dns;

static struct wh_dial_options options_now(void)
{
	return (struct wh_dial_options){.servers = dns.servers};
}

static const char *port_text(uint16_t port)
{
	static char text[8];
	snprintf(text, sizeof text, "%u", port);
	return text;
}

/* A listener of family on port (0: any) of loopback. */
static int listen_on(int family, uint16_t *port, int backlog)
{
	struct sockaddr_in6 in6 = {
		.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = htons(*port)};
	struct sockaddr_in in = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(*port)};
	bool is_six = family == AF_INET6;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
	if (is_six)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, is_six ? (struct sockaddr *)&in6 : (struct sockaddr *)&in,
	         is_six ? sizeof in6 : sizeof in) < 0 ||
	    listen(fd, backlog) < 0) {
		close(fd);
		return -1;
	}
	struct sockaddr_storage bound;
	socklen_t len = sizeof bound;
	assert_int_equal(getsockname(fd, (struct sockaddr *)&bound, &len), 0);
	*port = ntohs(((struct sockaddr_in *)&bound)->sin_port);
	return fd;
}

/* Listeners of both families on one port. */
static void listen_on_both(int fds[2], uint16_t *port, int backlog_six)
{
	for (int tries = 0; tries < 100; tries++) {
		*port = 0;
		fds[0] = listen_on(AF_INET6, port, backlog_six);
		assert_true(fds[0] >= 0);
		fds[1] = listen_on(AF_INET, port, 16);
		if (fds[1] >= 0)
			return;
		close(fds[0]);
	}
	fail_msg("no port is free for both");
}

static int family_of(int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof peer;
	assert_int_equal(getpeername(fd, (struct sockaddr *)&peer, &len), 0);
	return peer.ss_family;
}

/* No connection to a listener of backlog 0 is answered once one waits there, tcp(7). */
static int fill(int family, uint16_t port)
{
	struct sockaddr_in6 in6 = {
		.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = htons(port)};
	struct sockaddr_in in = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, family == AF_INET6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in,
	                         family == AF_INET6 ? sizeof in6 : sizeof in),
	                 0);
	return fd;
}

static void connects_by_name(void **state)
{
	uint16_t port = 0;
	struct wh_dial_options options = options_now();
	int listener = listen_on(AF_INET, &port, 16);
	static const char *const hosts[] = {"four.test", "both.test", "localhost", "127.0.0.1", "alias.test"};
	for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
		wh_res res = wh_await(wh_dial(loop, hosts[i], port_text(port), &options));
		assert_true(res.n >= 0);
		assert_int_equal(family_of((int)res.n), AF_INET);
		close_fd((int)res.n);
	}
	assert_int_equal(wh_loop_run(loop), 0);
	close(listener);
}

static void ipv6_comes_first(void **state)
{
	uint16_t port;
	int listeners[2], before = open_fd_count();
	struct wh_dial_options options = options_now();
	listen_on_both(listeners, &port, 16);
	wh_res res = wh_await(wh_dial(loop, "both.test", port_text(port), &options));
	assert_true(res.n >= 0);
	assert_int_equal(family_of((int)res.n), AF_INET6);
	close_fd((int)res.n);
	options.family = AF_INET;
	res = wh_await(wh_dial(loop, "both.test", port_text(port), &options));
	assert_true(res.n >= 0);
	assert_int_equal(family_of((int)res.n), AF_INET);
	close_fd((int)res.n);
	close(listeners[0]);
	close(listeners[1]);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before);
}

static void a_slow_address_is_overtaken(void **state)
{
	uint16_t port;
	int listeners[2], before = open_fd_count();
	struct wh_dial_options options = options_now();
	listen_on_both(listeners, &port, 0);
	int waiting = fill(AF_INET6, port);
	options.attempt_delay_ns = 20 * WH_NS_PER_MS;
	int64_t begin = monotonic();
	wh_res res = wh_await(wh_dial(loop, "both.test", port_text(port), &options));
	assert_true(res.n >= 0);
	assert_true(monotonic() - begin >= 20 * WH_NS_PER_MS);
	assert_int_equal(family_of((int)res.n), AF_INET);
	close_fd((int)res.n);
	close(waiting);
	close(listeners[0]);
	close(listeners[1]);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before); /* the loser is closed */
}

static void a_silent_family_does_not_hold_up_the_other(void **state)
{
	uint16_t port = 0;
	struct odd_server odd;
	int listener = listen_on(AF_INET, &port, 16);
	start_odd_server(&odd, ONLY_IPV4);
	struct wh_dial_options options = {.servers = odd.servers};
	int64_t begin = monotonic();
	wh_res res = wh_await(wh_dial(loop, "any.test", port_text(port), &options));
	assert_true(res.n >= 0);
	assert_true(monotonic() - begin >= 50 * WH_NS_PER_MS);  /* RFC 8305 section 3 */
	assert_true(monotonic() - begin < 1900 * WH_NS_PER_MS); /* before AAAA would be asked again */
	close_fd((int)res.n);
	stop_odd_server(&odd);
	close(listener);
}

static void errors_of_dialling(void **state)
{
	uint16_t port;
	struct wh_dial_options options = options_now();
	int free_port = bind_udp(&port); /* nobody listens there with TCP */
	assert_int_equal(wh_await(wh_dial(loop, "both.test", port_text(port), &options)).n, -ECONNREFUSED);
	assert_int_equal(wh_await(wh_dial(loop, "nosuch.test", "80", &options)).n, -WH_ENAME_UNKNOWN);
	assert_int_equal(wh_await(wh_dial(loop, "both.test", "no-such-service", &options)).n,
	                 -WH_ENAME_SERVICE);
	assert_int_equal(wh_await(wh_dial(loop, "both.test", NULL, &options)).n, -EINVAL);
	assert_int_equal(wh_await(wh_dial(loop, NULL, "80", &options)).n, -EINVAL);
	assert_int_equal(wh_await(wh_dial(loop, "a b", "80", &options)).n, -EINVAL);
	options.family = AF_INET6;
	assert_int_equal(wh_await(wh_dial(loop, "four.test", "80", &options)).n, -WH_ENAME_NO_ADDRESS);
	options.family = AF_UNIX;
	assert_int_equal(wh_await(wh_dial(loop, "four.test", "80", &options)).n, -EINVAL);
	options = (struct wh_dial_options){.servers = "127.0.0.1:9"};
	assert_int_equal(wh_await(wh_dial(loop, "four.test", "80", &options)).n, -WH_ENAME_SERVER);
	close(free_port);
}

/* Refuses one family, or both (AF_UNSPEC), and counts how often it was asked. */
struct judge {
	int refused, asked_count;
};

static bool judge(const struct sockaddr *address, socklen_t len, void *arg)
{
	struct judge *judge = arg;
	judge->asked_count++;
	assert_true(len > 0);
	return judge->refused != AF_UNSPEC && address->sa_family != judge->refused;
}

static void addresses_may_be_refused(void **state)
{
	int listeners[2];
	uint16_t port;
	struct judge judged = {AF_INET6, 0};
	struct wh_dial_options options = options_now();
	options.allowed = judge;
	options.allowed_arg = &judged;
	listen_on_both(listeners, &port, 16);
	wh_res res = wh_await(wh_dial(loop, "both.test", port_text(port), &options));
	assert_true(res.n >= 0);
	assert_int_equal(family_of((int)res.n), AF_INET);
	close_fd((int)res.n);
	judged = (struct judge){AF_INET, 0};
	res = wh_await(wh_dial(loop, "both.test", port_text(port), &options));
	assert_true(res.n >= 0);
	assert_int_equal(family_of((int)res.n), AF_INET6);
	close_fd((int)res.n);
	/* a number is judged like what a name leads to */
	res = wh_await(wh_dial(loop, "127.0.0.1", port_text(port), &options));
	assert_int_equal(res.n, -WH_EADDRESS_REFUSED);
	judged = (struct judge){AF_UNSPEC, 0};
	assert_int_equal(wh_await(wh_dial(loop, "both.test", port_text(port), &options)).n,
	                 -WH_EADDRESS_REFUSED);
	assert_int_equal(judged.asked_count, 2);
	assert_string_equal(wh_strerror(-WH_EADDRESS_REFUSED),
	                    "the address is one that may not be connected to");
	/* why one that was tried failed says more */
	close(listeners[0]);
	close(listeners[1]);
	judged = (struct judge){AF_INET6, 0};
	assert_int_equal(wh_await(wh_dial(loop, "both.test", port_text(port), &options)).n, -ECONNREFUSED);
}

static void dialling_times_out(void **state)
{
	uint16_t port = 0;
	int before = open_fd_count();
	struct wh_dial_options options = options_now();
	/* while it asks */
	options.timeout_ns = 40 * WH_NS_PER_MS;
	assert_int_equal(wh_await(wh_dial(loop, "a.hole.test", "80", &options)).n, -ETIMEDOUT);
	/* while it connects */
	int listener = listen_on(AF_INET, &port, 0), waiting = fill(AF_INET, port);
	assert_int_equal(wh_await(wh_dial(loop, "four.test", port_text(port), &options)).n, -ETIMEDOUT);
	/* cancelled in both */
	options.timeout_ns = 0;
	wh_future f = wh_dial(loop, "a.hole.test", "80", &options);
	wh_future g = wh_dial(loop, "127.0.0.1", port_text(port), NULL);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	wh_cancel(f);
	wh_cancel(g);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	assert_int_equal(wh_await(g).n, -ECANCELED);
	assert_int_equal(wh_drop(wh_dial(loop, "127.0.0.1", port_text(port), NULL)), 0);
	close(waiting);
	close(listener);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before);
}

static void a_dropped_connection_is_closed(void **state)
{
	uint16_t port = 0;
	int listener = listen_on(AF_INET, &port, 16), before = open_fd_count();
	wh_future f = wh_dial(loop, "127.0.0.1", port_text(port), NULL);
	while (!wh_done(f))
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	assert_int_equal(wh_drop(f), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before);
	close(listener);
}

static void unix_sockets_are_dialled_by_path(void **state)
{
	char path[64], host[80];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(path, sizeof path, "/tmp/whilst-dial-%d", (int)getpid());
	snprintf(host, sizeof host, "unix:%s", path);
	assert_int_equal(wh_await(wh_dial(loop, host, NULL, NULL)).n, -ENOENT);
	memcpy(address.sun_path, path, strlen(path) + 1);
	int listener = wh_listen(loop, (struct sockaddr *)&address, sizeof address, NULL);
	assert_true(listener >= 0);
	int64_t fd = wh_await(wh_dial(loop, host, NULL, NULL)).n;
	assert_true(fd >= 0);
	close_fd((int)fd);
	close_fd(listener);
	unlink(path);
	/* an abstract one */
	int len = snprintf(address.sun_path + 1, 60, "whilst-dial-%d", (int)getpid());
	address.sun_path[0] = 0;
	listener = wh_listen(loop, (struct sockaddr *)&address,
	                     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len), NULL);
	assert_true(listener >= 0);
	snprintf(host, sizeof host, "unix:@whilst-dial-%d", (int)getpid());
	fd = wh_await(wh_dial(loop, host, NULL, NULL)).n;
	assert_true(fd >= 0);
	close_fd((int)fd);
	close_fd(listener);
	assert_int_equal(wh_await(wh_dial(loop, "unix:", NULL, NULL)).n, -EINVAL);
	assert_int_equal(wh_await(wh_dial(loop, "unix:/tmp/a", "80", NULL)).n, -EINVAL);
}

static void closing_the_loop_ends_dialling(void **state)
{
	struct seen seen = {0};
	uint16_t port = 0;
	int before = open_fd_count();
	int listener = listen_on(AF_INET, &port, 0), waiting = fill(AF_INET, port);
	struct wh_dial_options options = options_now();
	wh_then(wh_dial(loop, "a.hole.test", "80", &options), note, &seen);
	wh_then(wh_dial(loop, "four.test", port_text(port), &options), note, &seen);
	wh_then(wh_dial(loop, "127.0.0.1", port_text(port), &options), note, &seen);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wh_loop_turn(loop, 5 * WH_NS_PER_MS), 0);
	loop = wh_loop_close(loop);
	assert_int_equal(seen.count, 3);
	assert_int_equal(seen.last.n, -ECANCELED);
	close(waiting);
	close(listener);
	assert_int_equal(open_fd_count(), before);
	assert_int_equal(wh_loop_open(&loop, NULL), 0);
}

int main(void)
{
	need_engine();
	const struct CMUnitTest tests[] = {
		ON_LOOP(connects_by_name),
		ON_LOOP(ipv6_comes_first),
		ON_LOOP(a_slow_address_is_overtaken),
		ON_LOOP(a_silent_family_does_not_hold_up_the_other),
		ON_LOOP(errors_of_dialling),
		ON_LOOP(addresses_may_be_refused),
		ON_LOOP(dialling_times_out),
		ON_LOOP(a_dropped_connection_is_closed),
		ON_LOOP(unix_sockets_are_dialled_by_path),
		ON_LOOP(closing_the_loop_ends_dialling),
	};
	if (!start_name_server(&dns)) {
		printf("skipped: dnsmasq does not start\n");
		return 77;
	}
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	stop_name_server(&dns);
	return failed;
}
