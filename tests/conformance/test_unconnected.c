/* tests/conformance/test_unconnected.c -- transfers on sockets that nobody is connected to: they end at once, and none waits for
 * what cannot come.
 *
 * Such a socket never gets ready to read (one that listens), or always (any other), so an engine that waits before it
 * tries would wait for ever.
 */
#define WH_TESTS_CALLS_ON_SIM
#include "conformance.h"

enum { PATIENCE_S = 30 };

static char bytes[16];
static const struct iovec vector = {.iov_base = bytes, .iov_len = sizeof bytes};
static struct wh_from from;
static struct wh_message message = {.iov = &vector, .iov_count = 1};
static int file;

#define ON(name, ...)                                  \
	static wh_future name##_on(wh_loop *l, int fd) \
	{                                              \
		return __VA_ARGS__;                    \
	}
ON(recv, wh_recv(l, fd, bytes, sizeof bytes))
ON(recv_all, wh_recv_all(l, fd, bytes, sizeof bytes))
ON(peek, wh_peek(l, fd, bytes, sizeof bytes))
ON(recvv, wh_recvv(l, fd, &vector, 1))
ON(recv_buf, wh_recv_buf(l, fd))
ON(recv_from, wh_recv_from(l, fd, bytes, sizeof bytes, &from))
ON(recv_message, wh_recv_message(l, fd, &message))
ON(read, wh_read(l, fd, bytes, sizeof bytes))
ON(readv, wh_readv(l, fd, &vector, 1))
ON(send, wh_send(l, fd, bytes, sizeof bytes))
ON(send_all, wh_send_all(l, fd, bytes, sizeof bytes))
ON(sendv_all, wh_sendv_all(l, fd, &vector, 1))
ON(send_to, wh_send_to(l, fd, bytes, sizeof bytes, NULL, 0))
ON(send_message, wh_send_message(l, fd, &message))
ON(write, wh_write(l, fd, bytes, sizeof bytes))
ON(write_all, wh_write_all(l, fd, bytes, sizeof bytes))
ON(writev_all, wh_writev_all(l, fd, &vector, 1))
ON(send_file, wh_send_file(l, fd, file, 0, 4))

static const struct transfer {
	const char *name;
	wh_future (*start)(wh_loop *l, int fd);
	bool sends;
} transfers[] = {
#define ROW(name, sends)                \
	{                               \
#name, name##_on, sends \
	}
	ROW(recv, false),      ROW(recv_all, false),    ROW(peek, false),         ROW(recvv, false),
	ROW(recv_buf, false),  ROW(recv_from, false),   ROW(recv_message, false), ROW(read, false),
	ROW(readv, false),     ROW(send, true),         ROW(send_all, true),      ROW(sendv_all, true),
	ROW(send_to, true),    ROW(send_message, true), ROW(write, true),         ROW(write_all, true),
	ROW(writev_all, true), ROW(send_file, true),
#undef ROW
};
enum { TRANSFERS = sizeof transfers / sizeof *transfers };

static int wrong;

static void expect(const struct transfer *t, const char *kind, int fd, int64_t wanted)
{
	wh_res res = wh_await(wh_deadline(t->start(loop, fd), wh_now(loop) + PATIENCE_S * WH_NS_PER_S));
	if (res.n != wanted) {
		print_error("%s, %s: %lld (%s)\n", t->name, kind, (long long)res.n,
		            res.n < 0 ? wh_strerror((int)res.n) : "");
		wrong++;
	}
}

/* Each transfer on a socket of its own, and then all on one. On TCP Linux says that what was never connected is broken. */
static void expect_all(const char *kind, int (*make)(void), bool is_tcp, bool listens)
{
	int one = make();
	if (one < 0)
		return; /* a simulated machine has no such sockets */
	for (int i = 0; i < 2 * TRANSFERS; i++) {
		const struct transfer *t = &transfers[i % TRANSFERS];
		bool is_broken = is_tcp && t->sends && (!listens || t->start == send_file_on);
		int fd = i < TRANSFERS ? make() : one;
		expect(t, kind, fd, is_broken ? -EPIPE : -ENOTCONN);
		if (fd != one)
			close_fd(fd);
	}
	close_fd(one);
}

/* ---- sockets -------------------------------------------------------------------------------- */

static int tcp(void)
{
	int fd = wh_socket(loop, AF_INET, SOCK_STREAM, 0);
	assert_true(fd >= 0);
	return fd;
}

static int tcp_that_listens(void)
{
	struct sockaddr_in address;
	return listen_tcp(&address);
}

/* It has accepted, and nobody is left in line. */
static int tcp_that_has_accepted(void)
{
	struct sockaddr_in address;
	int fd = listen_tcp(&address);
	wh_future accepted = wh_accept(loop, fd);
	close_fd((int)wh_await(wh_connect(loop, (struct sockaddr *)&address, sizeof address)).n);
	close_fd((int)wh_await(accepted).n);
	return fd;
}

/* An accept on it has been waited for, in vain. */
static int tcp_that_has_waited(void)
{
	struct sockaddr_in address;
	int fd = listen_tcp(&address);
	wh_future accepted = wh_accept(loop, fd);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	wh_cancel(accepted);
	assert_int_equal(wh_await(accepted).n, -ECANCELED);
	return fd;
}

/* It was used before it listened: what was found out then does not hold any more. */
static int tcp_that_listens_later(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = tcp();
	assert_int_equal(wh_await(wh_recv(loop, fd, bytes, 1)).n, -ENOTCONN);
	assert_int_equal(wh_await(wh_send(loop, fd, bytes, 1)).n, -EPIPE);
	assert_int_equal(wh_bind(loop, fd, (struct sockaddr *)&any, sizeof any), 0);
	assert_int_equal(wh_listen_on(loop, fd, 16), 0);
	return fd;
}

static int unix_stream(void)
{
	return wh_socket(loop, AF_UNIX, SOCK_STREAM, 0);
}

static int unix_packets(void)
{
	return wh_socket(loop, AF_UNIX, SOCK_SEQPACKET, 0);
}

static int listen_unix(int type)
{
	static unsigned int count;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = wh_socket(loop, AF_UNIX, type, 0);
	if (fd < 0)
		return fd;
	/* an abstract name: no file is left */
	int len = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "whilst-unconnected-%d-%u",
	                   (int)getpid(), count++);
	assert_int_equal(wh_bind(loop, fd, (struct sockaddr *)&address,
	                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)),
	                 0);
	assert_int_equal(wh_listen_on(loop, fd, 16), 0);
	return fd;
}

static int unix_stream_that_listens(void)
{
	return listen_unix(SOCK_STREAM);
}

static int unix_packets_that_listen(void)
{
	return listen_unix(SOCK_SEQPACKET);
}

/* ---- tests ---------------------------------------------------------------------------------- */

static int begin(void **state)
{
	int error = open_loop(state);
	wrong = 0;
	file = make_file("content");
	return error;
}

static int end(void **state)
{
	close_fd(file);
	return close_loop(state);
}

static void nobody_is_connected(void **state)
{
	expect_all("TCP", tcp, true, false);
	expect_all("UNIX stream", unix_stream, false, false);
	expect_all("UNIX packets", unix_packets, false, false);
	assert_int_equal(wrong, 0);
}

static void a_listener_transfers_nothing(void **state)
{
	expect_all("TCP that listens", tcp_that_listens, true, true);
	expect_all("TCP that has accepted", tcp_that_has_accepted, true, true);
	expect_all("TCP that has waited", tcp_that_has_waited, true, true);
	expect_all("TCP that listens later", tcp_that_listens_later, true, true);
	expect_all("UNIX stream that listens", unix_stream_that_listens, false, true);
	expect_all("UNIX packets that listen", unix_packets_that_listen, false, true);
	assert_int_equal(wrong, 0);
}

/* And it does not mind: connections come as before. */
static void a_listener_goes_on(void **state)
{
	struct sockaddr_in address;
	int fd = listen_tcp(&address);
	for (int i = 0; i < 3; i++) {
		wh_future accepted = wh_accept(loop, fd);
		assert_int_equal(wh_await(wh_recv(loop, fd, bytes, 1)).n, -ENOTCONN);
		assert_int_equal(wh_await(wh_send(loop, fd, bytes, 1)).n, -ENOTCONN);
		int64_t a = wh_await(wh_connect(loop, (struct sockaddr *)&address, sizeof address)).n;
		int64_t b = wh_await(wh_deadline(accepted, wh_now(loop) + PATIENCE_S * WH_NS_PER_S)).n;
		assert_true(a >= 0 && b >= 0);
		assert_int_equal(wh_await(wh_send_all(loop, (int)a, "ping", 4)).n, 4);
		assert_int_equal(wh_await(wh_recv(loop, (int)b, bytes, 4)).n, 4);
		close_fd((int)a);
		close_fd((int)b);
	}
	close_fd(fd);
}

/* A socket that is being connected is no such one: what is started on it waits. */
static void one_that_gets_connected(void **state)
{
	struct sockaddr_in address;
	int listener = listen_tcp(&address), fd = tcp();
	assert_int_equal(wh_await(wh_recv(loop, fd, bytes, 1)).n, -ENOTCONN);
	wh_future accepted = wh_accept(loop, listener);
	assert_int_equal(wh_await(wh_connect_on(loop, fd, (struct sockaddr *)&address, sizeof address)).n, 0);
	int64_t other = wh_await(accepted).n;
	assert_true(other >= 0);
	wh_future received = wh_recv(loop, fd, bytes, sizeof bytes);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	assert_false(wh_done(received));
	assert_int_equal(wh_await(wh_send_all(loop, (int)other, "pong", 4)).n, 4);
	assert_int_equal(wh_await(received).n, 4);
	close_fd(fd);
	close_fd((int)other);
	close_fd(listener);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nobody_is_connected),
		TEST(a_listener_transfers_nothing),
		TEST(a_listener_goes_on),
		TEST(one_that_gets_connected),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
