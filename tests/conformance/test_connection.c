/* tests/conformance/test_connection.c -- options, local addresses, whole and vectored receives, and how connections fail. */
#include "conformance.h"

#include <sys/resource.h>
#include <sys/wait.h>

#define must(f)          assert_int_equal(wh_await(f).n, 0)
#define gives(f, result) assert_int_equal(wh_await(f).n, result)

static void options(void **state)
{
	static const struct {
		int option;
		int64_t set, get;
	} wanted[] = {
		{WH_NODELAY, 0, 0},
		{WH_NODELAY, 1, 1},
		{WH_KEEPALIVE, 1, 1},
		{WH_KEEPALIVE_IDLE_NS, 30 * WH_NS_PER_S, 30 * WH_NS_PER_S},
		{WH_KEEPALIVE_EVERY_NS, 1, WH_NS_PER_S}, /* never sooner than asked */
		{WH_KEEPALIVE_PROBES, 4, 4},
		{WH_USER_TIMEOUT_NS, 1500 * WH_NS_PER_MS + 1, 1501 * WH_NS_PER_MS},
		{WH_LINGER_NS, 0, 0},
		{WH_LINGER_NS, WH_NS_PER_S + 1, 2 * WH_NS_PER_S},
		{WH_LINGER_NS, -1, -1},
		{WH_REUSE_ADDRESS, 1, 1},
		{WH_REUSE_PORT, 1, 1},
		{WH_SEND_BUFFER, 50000, 100000},
		{WH_RECEIVE_BUFFER, 50000, 100000},
	};
	int64_t value = 0;
	int fd = wh_socket(loop, AF_INET, SOCK_STREAM, 0), one = 1, got = 0;
	socklen_t len = sizeof got;
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
		assert_int_equal(wh_set_option(loop, fd, wanted[i].option, wanted[i].set), 0);
		assert_int_equal(wh_get_option(loop, fd, wanted[i].option, &value), 0);
		assert_int_equal(value, wanted[i].get);
	}
	assert_int_equal(wh_set_option_raw(loop, fd, SOL_SOCKET, SO_OOBINLINE, &one, sizeof one), 0);
	assert_int_equal(wh_get_option_raw(loop, fd, SOL_SOCKET, SO_OOBINLINE, &got, &len), 0);
	assert_int_equal(got, 1);
	assert_int_equal(wh_set_option(loop, fd, 999, 1), -EINVAL);
	assert_int_equal(wh_set_option(loop, fd, -1, 1), -EINVAL);
	assert_int_equal(wh_get_option(loop, fd, 999, &value), -EINVAL);
	assert_int_equal(wh_set_option(loop, fd, WH_SEND_BUFFER, INT64_MAX), -EINVAL);
	assert_int_equal(wh_set_option(loop, fd, WH_KEEPALIVE_PROBES, -1), -EINVAL);
	assert_int_equal(wh_set_option(loop, fd, WH_LINGER_NS, -2), -EINVAL);
	assert_int_equal(wh_set_option(loop, -1, WH_NODELAY, 1), -EBADF);
	assert_int_equal(wh_set_option_raw(loop, fd, SOL_SOCKET, 9999, &one, sizeof one), -ENOPROTOOPT);
	assert_int_equal(wh_get_option(loop, fd, WH_MULTICAST_INTERFACE, &value), -EOPNOTSUPP);
	close_fd(fd);
	fd = wh_socket(loop, AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(wh_set_option(loop, fd, WH_PASS_CREDENTIALS, 1), 0);
	assert_int_equal(wh_set_option(loop, fd, WH_NODELAY, 1), -EOPNOTSUPP);
	close_fd(fd);
	fd = (int)wh_await(wh_open(loop, "/dev/null", O_RDWR, 0)).n;
	assert_int_equal(wh_set_option(loop, fd, WH_KEEPALIVE, 1), -ENOTSOCK);
	assert_int_equal(wh_get_option(loop, fd, WH_MULTICAST_HOPS, &value), -ENOTSOCK);
	close_fd(fd);
	fd = wh_socket(loop, AF_INET6, SOCK_STREAM, 0);
	if (fd >= 0) {
		assert_int_equal(wh_set_option(loop, fd, WH_IPV6_ONLY, 1), 0);
		assert_int_equal(wh_get_option(loop, fd, WH_IPV6_ONLY, &value), 0);
		assert_int_equal(value, 1);
		close_fd(fd);
	}
	fd = wh_socket(loop, AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(wh_set_option(loop, fd, WH_BROADCAST, 1), 0);
	close_fd(fd);
}

static void from_a_local_address(void **state)
{
	struct sockaddr_in there, here = {.sin_family = AF_INET};
	struct sockaddr_storage seen;
	socklen_t len;
	here.sin_addr.s_addr = htonl(0x7f000005); /* 127.0.0.5 */
	int listener = listen_tcp(&there);
	int a = wh_socket(loop, AF_INET, SOCK_STREAM, 0);
	assert_int_equal(wh_bind(loop, a, (struct sockaddr *)&here, sizeof here), 0);
	wh_future accepted = wh_accept_from(loop, listener, &seen, &len);
	must(wh_connect_on(loop, a, (struct sockaddr *)&there, sizeof there));
	int b = (int)wh_await(accepted).n;
	assert_true(b >= 0);
	assert_int_equal(len, sizeof here);
	assert_int_equal(((struct sockaddr_in *)&seen)->sin_addr.s_addr, here.sin_addr.s_addr);
	assert_int_equal(wh_local_address(loop, a, (struct sockaddr_storage *)&seen, &len), 0);
	assert_int_equal(((struct sockaddr_in *)&seen)->sin_addr.s_addr, here.sin_addr.s_addr);
	gives(wh_connect_on(loop, a, (struct sockaddr *)&there, sizeof there), -EISCONN);
	/* it is still the caller's */
	gives(wh_send_all(loop, a, "x", 1), 1);
	gives(wh_accept_from(loop, listener, NULL, &len), -EINVAL);
	close_fd(a);
	close_fd(b);
	close_fd(listener);
	/* whatever happens it stays open */
	a = wh_socket(loop, AF_INET, SOCK_STREAM, 0);
	gives(wh_connect_on(loop, a, (struct sockaddr *)&there, sizeof there), -ECONNREFUSED);
	assert_true(fcntl(a, F_GETFD) >= 0);
	gives(wh_connect_on(loop, a, NULL, 0), -EINVAL);
	gives(wh_connect_on(loop, -1, (struct sockaddr *)&there, sizeof there), -EBADF);
	close_fd(a);
	here.sin_addr.s_addr = htonl(0x08080808);
	a = wh_socket(loop, AF_INET, SOCK_STREAM, 0);
	assert_int_equal(wh_bind(loop, a, (struct sockaddr *)&here, sizeof here), -EADDRNOTAVAIL);
	assert_int_equal(wh_bind(loop, a, NULL, 0), -EINVAL);
	close_fd(a);
}

static void whole_receives(void **state)
{
	int fds[2];
	char buf[64] = {0};
	make_tcp(fds);
	wh_future f = wh_recv_all(loop, fds[1], buf, 10);
	for (int i = 0; i < 10; i++) {
		assert_false(wh_done(f));
		gives(wh_send(loop, fds[0], &"0123456789"[i], 1), 1);
		assert_int_equal(wh_loop_turn(loop, i < 9 ? WH_NS_PER_MS : 0), 0);
	}
	gives(f, 10);
	assert_memory_equal(buf, "0123456789", 10);
	gives(wh_send_all(loop, fds[0], "abcdefgh", 8), 8);
	gives(wh_recv_all(loop, fds[1], buf, 3), 3); /* not more than is asked for */
	gives(wh_recv_all(loop, fds[1], buf, 0), 0);
	f = wh_recv_all(loop, fds[1], buf, 30);
	gives(wh_recv(loop, fds[1], buf + 40, 1), -EBUSY);
	assert_int_equal(wh_shutdown(loop, fds[0], SHUT_WR), 0);
	gives(f, 5); /* the end came first */
	assert_memory_equal(buf, "defgh", 5);
	gives(wh_recv_all(loop, fds[1], buf, 30), 0);
	/* the other half is still open */
	gives(wh_send_all(loop, fds[1], "back", 4), 4);
	gives(wh_recv_all(loop, fds[0], buf, 4), 4);
	gives(wh_send(loop, fds[0], "x", 1), -EPIPE);
	f = wh_recv_all(loop, fds[0], buf, 30);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	wh_cancel(f);
	gives(f, -ECANCELED);
	close_fd(fds[0]);
	close_fd(fds[1]);
}

static void large_whole_receives(void **state)
{
	enum { LEN = 8 * 1000 * 1000 };
	int fds[2];
	char *out = malloc(LEN), *in = malloc(LEN);
	make_tcp(fds);
	for (int i = 0; i < LEN; i++)
		out[i] = (char)(i * 3 + i / 999);
	wh_future receiving = wh_recv_all(loop, fds[1], in, LEN),
		  sending = wh_send_all(loop, fds[0], out, LEN);
	gives(receiving, LEN);
	gives(sending, LEN);
	assert_memory_equal(out, in, LEN);
	close_fd(fds[0]);
	close_fd(fds[1]);
	free(out);
	free(in);
}

static void vectored_receives_and_peeks(void **state)
{
	int fds[2];
	char a[3], b[8], c[8];
	struct iovec iov[] = {{a, 3}, {b, 4}, {c, 8}};
	make_tcp(fds);
	wh_future f = wh_recvv(loop, fds[1], iov, 3);
	gives(wh_recv(loop, fds[1], c, 1), -EBUSY);
	gives(wh_send_all(loop, fds[0], "abcdefghi", 9), 9);
	gives(f, 9);
	assert_memory_equal(a, "abc", 3);
	assert_memory_equal(b, "defg", 4);
	assert_memory_equal(c, "hi", 2);
	f = wh_peek(loop, fds[1], b, 8);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	gives(wh_send_all(loop, fds[0], "12345", 5), 5);
	gives(f, 5);
	gives(wh_peek(loop, fds[1], b, 8), 5);
	gives(wh_peek(loop, fds[1], b, 2), 2);
	gives(wh_recv(loop, fds[1], b, 8), 5); /* nothing was taken */
	gives(wh_recvv(loop, fds[1], iov, 0), -EINVAL);
	gives(wh_recvv(loop, fds[1], iov, 17), -EINVAL);
	gives(wh_recvv(loop, fds[1], NULL, 1), -EINVAL);
	close_fd(fds[0]);
	gives(wh_peek(loop, fds[1], b, 8), 0);
	gives(wh_recvv(loop, fds[1], iov, 3), 0);
	close_fd(fds[1]);
}

/* SO_LINGER of 0 makes a close a reset. */
static void reset_by(int fd)
{
	assert_int_equal(wh_set_option(loop, fd, WH_LINGER_NS, 0), 0);
	close_fd(fd);
}

static void resets(void **state)
{
	int fds[2];
	char buf[16];
	struct iovec iov = {buf, 16};
	struct wh_message message = {.iov = &iov, .iov_count = 1};
	wh_future (*const receive[])(wh_loop *, int, void *, size_t) = {wh_recv, wh_recv_all, wh_peek,
	                                                                wh_read};
	for (size_t i = 0; i < 4; i++) {
		make_tcp(fds);
		wh_future f = receive[i](loop, fds[1], buf, sizeof buf);
		assert_int_equal(wh_loop_turn(loop, 0), 0);
		reset_by(fds[0]);
		gives(f, -ECONNRESET);
		close_fd(fds[1]);
	}
	make_tcp(fds);
	wh_future f = wh_recv_message(loop, fds[1], &message);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	reset_by(fds[0]);
	gives(f, -ECONNRESET);
	close_fd(fds[1]);
	/* while a send waits for room */
	static char large[8 << 20];
	make_tcp(fds);
	f = wh_send_all(loop, fds[1], large, sizeof large);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	reset_by(fds[0]);
	gives(f, -ECONNRESET);
	gives(wh_send(loop, fds[1], "x", 1), -EPIPE);
	close_fd(fds[1]);
}

static void a_backlog_has_an_end(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_storage at;
	socklen_t len;
	wh_future fs[5];
	int listener = wh_listen(loop, (struct sockaddr *)&address, sizeof address,
	                         &(struct wh_listen_options){.backlog = 1});
	assert_true(listener >= 0);
	assert_int_equal(wh_local_address(loop, listener, &at, &len), 0);
	for (int i = 0; i < 5; i++)
		fs[i] = wh_connect(loop, (struct sockaddr *)&at, len);
	int64_t first = wh_await(fs[0]).n;
	assert_true(first >= 0);
	close_fd((int)first);
	/* the others wait until there is room, for which nobody cares here */
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	assert_false(wh_done(fs[4]));
	for (int i = 1; i < 5; i++)
		wh_cancel(fs[i]);
	for (int i = 1; i < 5; i++) {
		int64_t n = wh_await(fs[i]).n;
		assert_true(n >= 0 || n == -ECANCELED);
		if (n >= 0)
			close_fd((int)n);
	}
	close_fd(listener);
}

/* Connects count sockets and accepts as many; then nobody else is there, until one comes. */
static void accept_a_burst(int listener, const struct sockaddr *address, socklen_t len, int count)
{
	int fds[16];
	assert_true(count <= 16);
	for (int i = 0; i < count; i++) {
		fds[i] = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(fds[i], address, len), 0);
	}
	for (int i = 0; i < count; i++) {
		int64_t n = wh_await(wh_accept(loop, listener)).n;
		assert_true(n >= 0);
		close_fd((int)n);
		close_fd(fds[i]);
	}
	/* a cancelled accept takes none with it */
	wh_future waits = wh_accept(loop, listener), others = wh_accept(loop, listener);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	assert_false(wh_done(waits) || wh_done(others));
	wh_cancel(waits);
	gives(waits, -ECANCELED);
	int late = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(late, address, len), 0);
	int64_t n = wh_await(others).n;
	assert_true(n >= 0);
	close_fd((int)n);
	close_fd(late);
}

/* What is not asked for stays in the listen queue: another loop's, another process's, or reset by the close. */
static void accepts_come_one_by_one(void **state)
{
	static const int bursts[] = {1, 1, 3, 1, 16, 1, 2};
	struct sockaddr_in address;
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	char byte;
	int listener = listen_tcp(&address), unnamed = wh_socket(loop, AF_UNIX, SOCK_STREAM, 0);
	/* an abstract name that the kernel chooses */
	struct sockaddr_storage chosen;
	socklen_t len = sizeof chosen;
	assert_int_equal(bind(unnamed, (struct sockaddr *)&name, sizeof name.sun_family), 0);
	assert_int_equal(getsockname(unnamed, (struct sockaddr *)&chosen, &len), 0);
	assert_int_equal(wh_listen_on(loop, unnamed, 64), 0);
	for (size_t i = 0; i < sizeof bursts / sizeof *bursts; i++) {
		accept_a_burst(listener, (struct sockaddr *)&address, sizeof address, bursts[i]);
		accept_a_burst(unnamed, (struct sockaddr *)&chosen, len, bursts[i]);
	}
	close_fd(unnamed);

	/* two come, one is asked for: the other is there for whoever asks */
	int a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
	    b = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	wh_future f = wh_accept(loop, listener);
	assert_int_equal(connect(a, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(connect(b, (struct sockaddr *)&address, sizeof address), 0);
	int64_t mine = wh_await(f).n;
	assert_true(mine >= 0);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	int other = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(other >= 0);
	close_fd((int)mine);
	close_fd(other);
	close_fd(a);
	close_fd(b);

	/* a close ends the accept that waits, and resets what was not accepted */
	a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(a, (struct sockaddr *)&address, sizeof address), 0);
	close_fd(listener);
	assert_int_equal(read(a, &byte, 1), -1);
	assert_int_equal(errno, ECONNRESET);
	close_fd(a);
	listener = listen_tcp(&address);
	accept_a_burst(listener, (struct sockaddr *)&address, sizeof address, 1);
	f = wh_accept(loop, listener);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	close_fd(listener);
	gives(f, -ECANCELED);
}

/* Connections are spread over listeners that share a port, and none of them takes those of the other. */
static void listeners_that_share_a_port(void **state)
{
	enum { COUNT = 32 };
	struct wh_listen_options options = {.reuse_port = true};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof address;
	wh_future fs[2];
	int clients[COUNT], listeners[2], counts[2] = {0, 0};
	for (int i = 0; i < 2; i++) {
		listeners[i] = wh_listen(loop, (struct sockaddr *)&address, sizeof address, &options);
		assert_true(listeners[i] >= 0);
		assert_int_equal(getsockname(listeners[i], (struct sockaddr *)&address, &len), 0);
		fs[i] = wh_accept(loop, listeners[i]);
	}
	for (int i = 0; i < COUNT; i++) {
		clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(clients[i], (struct sockaddr *)&address, sizeof address), 0);
	}
	while (counts[0] + counts[1] < COUNT) {
		assert_int_equal(wh_loop_turn(loop, WH_NS_PER_S), 0);
		for (int i = 0; i < 2; i++) {
			if (!wh_done(fs[i]))
				continue;
			int64_t n = wh_await(fs[i]).n;
			assert_true(n >= 0);
			close_fd((int)n);
			counts[i]++;
			fs[i] = wh_accept(loop, listeners[i]);
		}
	}
	for (int i = 0; i < COUNT; i++)
		close_fd(clients[i]);
	for (int i = 0; i < 2; i++) {
		wh_cancel(fs[i]);
		gives(fs[i], -ECANCELED);
		close_fd(listeners[i]);
	}
}

static void without_descriptors(void **state)
{
	if (under_valgrind())
		skip(); /* its limit of descriptors takes what was accepted, and then closes it */
	struct rlimit before, none;
	struct sockaddr_in address;
	int listener = listen_tcp(&address);
	int a = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(a, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3; /* what is open stays open */
	/* what the engine itself needs is there already */
	wh_future warm = wh_accept(loop, listener);
	int first = (int)wh_await(warm).n;
	assert_true(first >= 0);
	int b = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(b, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	int64_t accepted[3], opened, connected, made;
	int ends[2];
	for (int i = 0; i < 3; i++)
		accepted[i] = wh_await(wh_accept(loop, listener)).n;
	opened = wh_await(wh_open(loop, "/dev/null", O_RDONLY, 0)).n;
	connected = wh_await(wh_connect(loop, (struct sockaddr *)&address, sizeof address)).n;
	made = wh_socket(loop, AF_INET, SOCK_STREAM, 0);
	int piped = wh_pipe(loop, ends), paired = wh_socket_pair(loop, SOCK_STREAM, ends);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(accepted[i], -EMFILE);
	assert_int_equal(opened, -EMFILE);
	assert_int_equal(connected, -EMFILE);
	assert_int_equal(made, -EMFILE);
	assert_int_equal(piped, -EMFILE);
	assert_int_equal(paired, -EMFILE);
	/* the connection has waited meanwhile */
	int64_t second = wh_await(wh_accept(loop, listener)).n;
	assert_true(second >= 0);
	close_fd((int)second);
	close_fd(first);
	close_fd(listener);
	close_fd(a);
	close_fd(b);
}

static void half_closed_early(void **state)
{
	int fds[2];
	char buf[8];
	make_tcp(fds);
	gives(wh_send_all(loop, fds[0], "last", 4), 4);
	assert_int_equal(wh_shutdown(loop, fds[0], SHUT_RDWR), 0);
	gives(wh_recv(loop, fds[1], buf, 8), 4);
	gives(wh_recv(loop, fds[1], buf, 8), 0);
	gives(wh_recv(loop, fds[1], buf, 8), 0);
	gives(wh_recv(loop, fds[0], buf, 8), 0);
	gives(wh_send(loop, fds[0], "x", 1), -EPIPE);
	close_fd(fds[0]);
	close_fd(fds[1]);
	int lonely = wh_socket(loop, AF_INET, SOCK_STREAM, 0);
	assert_int_equal(wh_shutdown(loop, lonely, SHUT_WR), -ENOTCONN);
	gives(wh_recv(loop, lonely, buf, 8), -ENOTCONN);
	gives(wh_recv_all(loop, lonely, buf, 8), -ENOTCONN);
	gives(wh_send(loop, lonely, buf, 8), -EPIPE);
	gives(wh_accept(loop, lonely), -EINVAL);
	close_fd(lonely);
	lonely = wh_socket(loop, AF_INET, SOCK_DGRAM, 0);
	gives(wh_accept(loop, lonely), -EOPNOTSUPP);
	assert_int_equal(wh_listen_on(loop, lonely, 1), -EOPNOTSUPP);
	close_fd(lonely);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(options),
		ON_LOOP(from_a_local_address),
		ON_LOOP(whole_receives),
		ON_LOOP(large_whole_receives),
		ON_LOOP(vectored_receives_and_peeks),
		ON_LOOP(resets),
		ON_LOOP(a_backlog_has_an_end),
		ON_LOOP(accepts_come_one_by_one),
		ON_LOOP(listeners_that_share_a_port),
		ON_LOOP(without_descriptors),
		ON_LOOP(half_closed_early),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
