/* tests/conformance/test_name.c -- lookups of names and addresses, against a real name server and some bad ones. */
#include "name_server.h"

static struct name_server dns;

static const struct wh_lookup_options *asks(int family)
{
	static struct wh_lookup_options options;
	options = (struct wh_lookup_options){.family = family, .servers = dns.servers};
	return &options;
}

static int64_t lookup_error(const char *host, const struct wh_lookup_options *options)
{
	wh_res res = wh_await(wh_lookup(loop, host, NULL, options));
	if (res.n >= 0)
		wh_addresses_free(res.ptr);
	return res.n;
}

/* "127.0.0.1 ::1", in the order given */
static const char *texts_of(wh_future f)
{
	static char text[8192];
	wh_res res = wh_await(f);
	if (res.n < 0) {
		snprintf(text, sizeof text, "%s", wh_strerror(res.n));
		return text;
	}
	struct wh_addresses *found = res.ptr;
	assert_int_equal(res.n, found->count);
	size_t len = 0;
	for (size_t i = 0; i < found->count; i++) {
		const struct sockaddr *address = (const struct sockaddr *)&found->addresses[i].address;
		char one[INET6_ADDRSTRLEN];
		const void *bytes = address->sa_family == AF_INET6
		                            ? (const void *)&((const struct sockaddr_in6 *)address)->sin6_addr
		                            : &((const struct sockaddr_in *)address)->sin_addr;
		assert_int_equal(found->addresses[i].len, address->sa_family == AF_INET6
		                                                  ? sizeof(struct sockaddr_in6)
		                                                  : sizeof(struct sockaddr_in));
		assert_non_null(inet_ntop(address->sa_family, bytes, one, sizeof one));
		len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", i ? " " : "", one);
	}
	assert_null(wh_addresses_free(found));
	return text;
}

static int port_of(const char *host, const char *service)
{
	wh_res res = wh_await(wh_lookup(loop, host, service, asks(AF_INET)));
	if (res.n < 0)
		return (int)res.n;
	const struct wh_addresses *found = res.ptr;
	int port = ntohs(((const struct sockaddr_in *)&found->addresses[0].address)->sin_port);
	wh_addresses_free(res.ptr);
	return port;
}

/* ---- without asking ------------------------------------------------------------------------ */

static const struct wh_lookup_options no_server = {.servers = "127.0.0.1:9"};

static void numeric_addresses_need_no_server(void **state)
{
	struct wh_lookup_options six = {.family = AF_INET6};
	assert_string_equal(texts_of(wh_lookup(loop, "192.0.2.7", "80", &no_server)), "192.0.2.7");
	assert_string_equal(texts_of(wh_lookup(loop, "2001:db8::7", "80", &no_server)), "2001:db8::7");
	assert_int_equal(lookup_error("192.0.2.7", &six), -WH_ENAME_NO_ADDRESS);
	wh_res res = wh_await(wh_lookup(loop, "fe80::1%lo", "80", NULL));
	assert_int_equal(res.n, 1);
	const struct wh_addresses *found = res.ptr;
	assert_true(((const struct sockaddr_in6 *)&found->addresses[0].address)->sin6_scope_id > 0);
	assert_string_equal(found->name, "fe80::1%lo");
	wh_addresses_free(res.ptr);
	assert_int_equal(lookup_error("fe80::1%nosuch", NULL), -EINVAL);
}

static void localhost_is_this_machine(void **state)
{
	struct wh_lookup_options four = {.family = AF_INET, .servers = "127.0.0.1:9"};
	assert_string_equal(texts_of(wh_lookup(loop, "localhost", NULL, &no_server)), "::1 127.0.0.1");
	assert_string_equal(texts_of(wh_lookup(loop, "LocalHost.", NULL, &no_server)), "::1 127.0.0.1");
	assert_string_equal(texts_of(wh_lookup(loop, "a.b.localhost", NULL, &four)), "127.0.0.1");
}

static void what_is_no_name_is_refused(void **state)
{
	char label[66], name[300];
	memset(label, 'a', 64);
	label[64] = 0;
	memset(name, 'a', sizeof name);
	for (size_t i = 60; i < sizeof name; i += 60)
		name[i] = '.';
	name[254] = 0;
	const char *const bad[] = {"",    ".",    "a..b",        ".a",  "a b", "a/b", "[::1]",
	                           "a@b", "a:80", "caf\xc3\xa9", "a\n", label, name,  "a%b"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(lookup_error(bad[i], &no_server), -EINVAL);
	assert_int_equal(lookup_error(NULL, &no_server), -EINVAL);
	struct wh_lookup_options wrong = {.family = AF_UNIX};
	assert_int_equal(lookup_error("a", &wrong), -EINVAL);
	wrong = (struct wh_lookup_options){.servers = "nonsense"};
	assert_int_equal(lookup_error("a.test", &wrong), -EINVAL);
}

static void hosts_are_read(void **state)
{
	char path[] = "/tmp/whilst-hosts-XXXXXX";
	int fd = mkstemp(path);
	static const char text[] = "192.0.2.55 named.example other.example\n2001:db8::55 named.example\n";
	assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
	close(fd);
	setenv("CARES_HOSTS", path, 1);
	assert_string_equal(
		texts_of(wh_lookup(loop, "named.example", "80",
	                           &(struct wh_lookup_options){.family = AF_INET, .servers = "127.0.0.1:9"})),
		"192.0.2.55");
	unsetenv("CARES_HOSTS");
	unlink(path);
}

/* ---- against a real server ----------------------------------------------------------------- */

static void addresses_of_a_name(void **state)
{
	assert_string_equal(texts_of(wh_lookup(loop, "four.test", "80", asks(AF_UNSPEC))), "127.0.0.1");
	assert_string_equal(texts_of(wh_lookup(loop, "FOUR.Test.", "80", asks(AF_INET))), "127.0.0.1");
	assert_string_equal(texts_of(wh_lookup(loop, "six.test", "80", asks(AF_UNSPEC))), "::1");
	assert_string_equal(texts_of(wh_lookup(loop, "both.test", "80", asks(AF_INET6))), "::1");
	/* RFC 6724: of equal scope, IPv6 is preferred; so says the table of section 2.1 */
	assert_string_equal(texts_of(wh_lookup(loop, "both.test", "80", asks(AF_UNSPEC))), "::1 127.0.0.1");
	wh_res res = wh_await(wh_lookup(loop, "alias.test", NULL, asks(AF_INET)));
	assert_int_equal(res.n, 1);
	assert_string_equal(((struct wh_addresses *)res.ptr)->name, "four.test");
	wh_addresses_free(res.ptr);
}

static void errors_say_what_is_wrong(void **state)
{
	assert_int_equal(lookup_error("nosuch.test", asks(AF_UNSPEC)), -WH_ENAME_UNKNOWN);
	assert_int_equal(lookup_error("nosuch.test", asks(AF_INET)), -WH_ENAME_UNKNOWN);
	assert_int_equal(lookup_error("four.test", asks(AF_INET6)), -WH_ENAME_NO_ADDRESS);
	assert_int_equal(lookup_error("four.test", &no_server), -WH_ENAME_SERVER);
	assert_string_equal(wh_strerror(-WH_ENAME_UNKNOWN), "the name does not exist");
	assert_string_equal(wh_strerror(-WH_ENAME_NO_ADDRESS), "the name has no address of that kind");
	assert_string_equal(wh_strerror(-WH_ENAME_SERVER), "no usable answer from a name server");
	assert_string_equal(wh_strerror(-WH_ENAME_SERVICE), "the service is not known");
}

static void services_and_ports(void **state)
{
	assert_int_equal(port_of("four.test", "https"), 443);
	assert_int_equal(port_of("four.test", "65535"), 65535);
	assert_int_equal(port_of("four.test", NULL), 0);
	assert_int_equal(port_of("127.0.0.1", "8080"), 8080);
	assert_int_equal(port_of("four.test", "65536"), -EINVAL);
	assert_int_equal(port_of("four.test", "80x"), -EINVAL);
	assert_int_equal(port_of("four.test", "no-such-service"), -WH_ENAME_SERVICE);
}

static void a_large_answer_comes_over_tcp(void **state)
{
	wh_res res = wh_await(wh_lookup(loop, "many.test", "80", asks(AF_INET)));
	assert_int_equal(res.n, 200);
	wh_addresses_free(res.ptr);
}

static void names_of_an_address(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	inet_pton(AF_INET, "192.0.2.1", &address.sin_addr);
	wh_res res =
		wh_await(wh_lookup_name(loop, (struct sockaddr *)&address, sizeof address, asks(AF_UNSPEC)));
	assert_int_equal(res.n, 1);
	struct wh_names *names = res.ptr;
	assert_int_equal(names->count, 1);
	assert_string_equal(names->names[0], "far.test");
	wh_names_free(names);
	inet_pton(AF_INET, "192.0.2.2", &address.sin_addr);
	res = wh_await(wh_lookup_name(loop, (struct sockaddr *)&address, sizeof address, asks(AF_UNSPEC)));
	assert_true(res.n == -WH_ENAME_UNKNOWN ||
	            res.n == -WH_ENAME_SERVER); /* dnsmasq refuses what is not its own */
	assert_int_equal(wh_await(wh_lookup_name(loop, (struct sockaddr *)&address, 4, NULL)).n, -EINVAL);
	address.sin_family = AF_UNIX;
	assert_int_equal(wh_await(wh_lookup_name(loop, (struct sockaddr *)&address, sizeof address, NULL)).n,
	                 -EINVAL);
}

static void a_changed_configuration_is_read(void **state)
{
	char path[] = "/tmp/whilst-resolv-XXXXXX";
	int fd = mkstemp(path);
	struct wh_lookup_options options = {
		.family = AF_INET, .servers = dns.servers, .resolv_conf_path = path};
	assert_true(dprintf(fd, "search alpha.test\n") > 0);
	assert_string_equal(texts_of(wh_lookup(loop, "short", "80", &options)), "127.0.0.2");
	wh_future hangs = wh_lookup(loop, "slow.hole.test", "80", &options); /* keeps what it began with */
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_true(dprintf(fd, "search beta.test\n#\n") > 0);
	assert_string_equal(texts_of(wh_lookup(loop, "short", "80", &options)), "127.0.0.3");
	wh_cancel(hangs);
	assert_int_equal(wh_await(hangs).n, -ECANCELED);
	close(fd);
	unlink(path);
}

/* ---- servers that do not answer, or not well ------------------------------------------------ */

static const struct wh_lookup_options *hole(int64_t timeout_ns)
{
	static struct wh_lookup_options options;
	options = (struct wh_lookup_options){.servers = dns.hole_servers, .timeout_ns = timeout_ns};
	return &options;
}

static void a_silent_server_times_out(void **state)
{
	int64_t begin = monotonic();
	assert_int_equal(lookup_error("a.test", hole(60 * WH_NS_PER_MS)), -ETIMEDOUT);
	assert_true(monotonic() - begin >= 60 * WH_NS_PER_MS);
	assert_int_equal(wh_loop_run(loop), 0); /* nothing goes on behind it */
	/* a limit from outside is as good */
	wh_future f = wh_lookup(loop, "a.test", NULL, hole(0));
	assert_int_equal(wh_await(wh_deadline(f, monotonic() + 30 * WH_NS_PER_MS)).n, -ETIMEDOUT);
}

static void cancelling_ends_it_at_once(void **state)
{
	int before = open_fd_count();
	wh_future a = wh_lookup(loop, "a.test", NULL, hole(0)), b = wh_lookup(loop, "b.test", NULL, hole(0));
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	wh_cancel(a);
	assert_true(wh_done(a));
	assert_int_equal(wh_await(a).n, -ECANCELED);
	assert_false(wh_done(b));
	assert_int_equal(wh_drop(b), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before); /* sockets are kept only while something is asked */
	/* the one that answers wins, the other is cancelled within its completion */
	wh_future either[2] = {wh_lookup(loop, "c.hole.test", NULL, asks(AF_INET)),
	                       wh_lookup(loop, "four.test", NULL, asks(AF_INET))};
	assert_int_equal(wh_await(wh_any(loop, either, 2, NULL)).n, 1);
	assert_int_equal(wh_loop_run(loop), 0);
}

static void a_dropped_answer_is_freed(void **state)
{
	assert_int_equal(wh_drop(wh_lookup(loop, "127.0.0.1", NULL, NULL)), 0);
	wh_future f = wh_lookup(loop, "four.test", NULL, asks(AF_INET));
	while (!wh_done(f))
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	assert_int_equal(wh_drop(f), 0);
	assert_int_equal(wh_drop(wh_lookup(loop, "four.test", NULL, asks(AF_INET))), 0);
}

static void closing_the_loop_ends_lookups(void **state)
{
	struct seen seen = {0};
	wh_then(wh_lookup(loop, "a.test", NULL, hole(0)), note, &seen);
	(void)wh_lookup(loop, "b.test", NULL, hole(0));
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	loop = wh_loop_close(loop);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.last.n, -ECANCELED);
	assert_int_equal(wh_loop_open(&loop, NULL), 0);
}

static void files_do_not_wait_for_names(void **state)
{
	enum { LOOKUPS = 64 };
	wh_future lookups[LOOKUPS];
	char name[32], bytes[6];
	int fd = make_file("whilst");
	for (int i = 0; i < LOOKUPS; i++) {
		snprintf(name, sizeof name, "slow%d.hole.test", i);
		lookups[i] = wh_lookup(loop, name, NULL, i % 2 ? hole(0) : asks(AF_UNSPEC));
	}
	for (int i = 0; i < 100; i++)
		assert_int_equal(wh_await(wh_pread(loop, fd, bytes, 6, 0)).n, 6);
	struct wh_stats stats;
	wh_stats(loop, &stats);
	for (int i = 0; i < LOOKUPS; i++) {
		assert_false(wh_done(lookups[i]));
		wh_cancel(lookups[i]);
		assert_int_equal(wh_await(lookups[i]).n, -ECANCELED);
	}
	/* and no thread of the loop's is at it, but those that block in place of the caller */
	if (strcmp(wh_engine_name(loop), "threads") != 0)
		assert_true(stats.threads <= 1);
	close_fd(fd);
}

static void failures_of_servers(void **state)
{
	static const enum misbehaviour kinds[] = {SERVFAIL, REFUSED, GARBAGE};
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		struct odd_server odd;
		start_odd_server(&odd, kinds[i]);
		/* what is no answer may be waited for to the end */
		int64_t timeout_ns = kinds[i] == GARBAGE ? 100 * WH_NS_PER_MS : 30 * WH_NS_PER_S;
		struct wh_lookup_options options = {
			.family = AF_INET, .servers = odd.servers, .timeout_ns = timeout_ns};
		int64_t error = lookup_error("a.test", &options);
		assert_true(error == -WH_ENAME_SERVER || (kinds[i] == GARBAGE && error == -ETIMEDOUT));
		assert_true(atomic_load(&odd.questions) >= 1);
		stop_odd_server(&odd);
	}
}

static void a_server_that_dies(void **state)
{
	struct name_server mortal = {0};
	assert_true(start_name_server(&mortal));
	struct wh_lookup_options options = {.family = AF_INET, .servers = mortal.servers};
	wh_future f = wh_lookup(loop, "a.hole.test", NULL, &options);
	assert_string_equal(texts_of(wh_lookup(loop, "four.test", NULL, &options)), "127.0.0.1");
	stop_name_server(&mortal);
	int64_t begin = monotonic(), error = wh_await(f).n; /* when it is asked again, after 2 s */
	assert_true(error == -WH_ENAME_SERVER || error == -ETIMEDOUT);
	assert_true(monotonic() - begin < 8 * WH_NS_PER_S);
	assert_int_equal(lookup_error("four.test", &options), -WH_ENAME_SERVER);
}

static void a_second_server_is_asked(void **state)
{
	char servers[160];
	snprintf(servers, sizeof servers, "127.0.0.1:9,%s", dns.servers);
	struct wh_lookup_options options = {.family = AF_INET, .servers = servers};
	assert_string_equal(texts_of(wh_lookup(loop, "four.test", NULL, &options)), "127.0.0.1");
}

static void many_configurations(void **state)
{
	char servers[160];
	for (int i = 0; i < 40; i++) {
		snprintf(servers, sizeof servers, "%s,127.0.0.1:%d", dns.servers, 1000 + i);
		struct wh_lookup_options options = {.family = AF_INET, .servers = servers};
		assert_string_equal(texts_of(wh_lookup(loop, "four.test", NULL, &options)), "127.0.0.1");
	}
}

int main(void)
{
	need_engine();
	const struct CMUnitTest tests[] = {
		ON_LOOP(numeric_addresses_need_no_server),
		ON_LOOP(localhost_is_this_machine),
		ON_LOOP(what_is_no_name_is_refused),
		ON_LOOP(hosts_are_read),
		ON_LOOP(addresses_of_a_name),
		ON_LOOP(errors_say_what_is_wrong),
		ON_LOOP(services_and_ports),
		ON_LOOP(a_large_answer_comes_over_tcp),
		ON_LOOP(names_of_an_address),
		ON_LOOP(a_changed_configuration_is_read),
		ON_LOOP(a_silent_server_times_out),
		ON_LOOP(cancelling_ends_it_at_once),
		ON_LOOP(a_dropped_answer_is_freed),
		ON_LOOP(closing_the_loop_ends_lookups),
		ON_LOOP(files_do_not_wait_for_names),
		ON_LOOP(failures_of_servers),
		ON_LOOP(a_server_that_dies),
		ON_LOOP(a_second_server_is_asked),
		ON_LOOP(many_configurations),
	};
	if (!start_name_server(&dns)) {
		printf("skipped: dnsmasq does not start\n");
		return 77;
	}
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	stop_name_server(&dns);
	return failed;
}
