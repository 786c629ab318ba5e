/* tests/conformance/test_datagram.c -- datagrams, UNIX sockets of all types, descriptors and credentials that come with
 * bytes. */
#include "conformance.h"

#include <net/if.h>

#define must(f)          assert_int_equal(wh_await(f).n, 0)
#define gives(f, result) assert_int_equal(wh_await(f).n, result)

typedef union {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
	struct sockaddr_storage storage;
} address;

static address loopback(int family)
{
	address a = {.any.sa_family = (sa_family_t)family};
	if (family == AF_INET)
		a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		a.in6.sin6_addr = in6addr_loopback;
	return a;
}

static socklen_t len_of(const address *a)
{
	return a->any.sa_family == AF_INET ? sizeof a->in : sizeof a->in6;
}

static int make_udp(int family, address *ret)
{
	socklen_t len;
	address a = loopback(family);
	int fd = wh_socket(loop, family, SOCK_DGRAM, 0);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(wh_bind(loop, fd, &a.any, len_of(&a)), 0);
	assert_int_equal(wh_local_address(loop, fd, &ret->storage, &len), 0);
	assert_int_equal(len, len_of(&a));
	return fd;
}

static void datagrams_of(int family)
{
	address a_address, b_address;
	char buf[32] = {0};
	struct wh_from from;
	int a = make_udp(family, &a_address), b = make_udp(family, &b_address);
	/* the receive waits, then the datagram comes */
	wh_future waiting = wh_recv_from(loop, b, buf, sizeof buf, &from);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	gives(wh_send_to(loop, a, "hello", 5, &b_address.any, len_of(&b_address)), 5);
	gives(waiting, 5);
	assert_memory_equal(buf, "hello", 5);
	assert_false(from.truncated);
	assert_int_equal(from.address_len, len_of(&a_address));
	assert_memory_equal(&from.address, &a_address, from.address_len);
	/* an answer to where it came from; an empty datagram is no end */
	gives(wh_send_to(loop, b, "", 0, (struct sockaddr *)&from.address, from.address_len), 0);
	gives(wh_recv_from(loop, a, buf, sizeof buf, &from), 0);
	assert_memory_equal(&from.address, &b_address, from.address_len);
	/* what does not fit is lost, and that can be seen */
	gives(wh_send_to(loop, a, "0123456789", 10, &b_address.any, len_of(&b_address)), 10);
	gives(wh_recv_from(loop, b, buf, 4, &from), 4);
	assert_true(from.truncated);
	assert_memory_equal(buf, "0123", 4);
	/* several wait at once, each for a datagram of its own */
	char each[5][8] = {{0}};
	struct wh_from froms[5];
	wh_future fs[5];
	for (int i = 0; i < 5; i++)
		fs[i] = wh_recv_from(loop, b, each[i], sizeof each[i], &froms[i]);
	wh_future sent[5];
	for (int i = 0; i < 5; i++)
		sent[i] = wh_send_to(loop, a, &"abcde"[i], 1, &b_address.any, len_of(&b_address));
	int sum = 0;
	for (int i = 0; i < 5; i++) {
		gives(sent[i], 1);
		gives(fs[i], 1);
		assert_true(each[i][0] >= 'a' && each[i][0] <= 'e');
		sum += each[i][0];
	}
	assert_int_equal(sum, 'a' + 'b' + 'c' + 'd' + 'e');
	/* too long */
	char *large = calloc(1, 70000);
	gives(wh_send_to(loop, a, large, 70000, &b_address.any, len_of(&b_address)), -EMSGSIZE);
	free(large);
	gives(wh_send_to(loop, a, "x", 1, NULL, 0), -EDESTADDRREQ);
	gives(wh_send_to(loop, a, NULL, 1, &b_address.any, len_of(&b_address)), -EINVAL);
	gives(wh_send_to(loop, a, "x", 1, &b_address.any, sizeof(struct sockaddr_storage) + 1), -EINVAL);
	gives(wh_recv_from(loop, a, buf, 1, NULL), -EINVAL);
	gives(wh_recv_from(loop, a, NULL, 1, &from), -EINVAL);
	gives(wh_recv_from(loop, -1, buf, 1, &from), -EBADF);
	/* a cancelled receive has taken nothing */
	wh_future cancelled = wh_recv_from(loop, a, buf, sizeof buf, &from);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	wh_cancel(cancelled);
	gives(cancelled, -ECANCELED);
	gives(wh_send_to(loop, b, "still", 5, &a_address.any, len_of(&a_address)), 5);
	gives(wh_recv_from(loop, a, buf, sizeof buf, &from), 5);
	gives(wh_deadline(wh_recv_from(loop, a, buf, sizeof buf, &from), wh_now(loop) + WH_NS_PER_MS),
	      -ETIMEDOUT);
	wh_future closed = wh_recv_from(loop, a, buf, sizeof buf, &from);
	close_fd(a);
	gives(closed, -ECANCELED);
	close_fd(b);
}

static void datagrams(void **state)
{
	datagrams_of(AF_INET);
}

static bool have_ipv6(void)
{
	address a = loopback(AF_INET6);
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool have = fd >= 0 && bind(fd, &a.any, sizeof a.in6) == 0;
	if (fd >= 0)
		close(fd);
	return have;
}

static void datagrams_of_ipv6(void **state)
{
	if (!have_ipv6())
		skip();
	datagrams_of(AF_INET6);
}

static void datagrams_with_one_peer(void **state)
{
	address a_address, b_address, seen;
	socklen_t len;
	char buf[16];
	int a = make_udp(AF_INET, &a_address), b = make_udp(AF_INET, &b_address);
	assert_int_equal(wh_peer_address(loop, a, &seen.storage, &len), -ENOTCONN);
	must(wh_connect_on(loop, a, &b_address.any, sizeof b_address.in));
	assert_int_equal(wh_peer_address(loop, a, &seen.storage, &len), 0);
	assert_memory_equal(&seen, &b_address, len);
	gives(wh_send(loop, a, "to b", 4), 4);
	gives(wh_recv(loop, b, buf, sizeof buf), 4);
	gives(wh_send_to(loop, a, "to b", 4, NULL, 0), 4);
	gives(wh_peek(loop, b, buf, sizeof buf), 4);
	gives(wh_recv(loop, b, buf, sizeof buf), 4);
	/* others are not heard */
	int c = make_udp(AF_INET, &seen);
	gives(wh_send_to(loop, c, "from c", 6, &a_address.any, sizeof a_address.in), 6);
	gives(wh_send_to(loop, b, "from b", 6, &a_address.any, sizeof a_address.in), 6);
	gives(wh_recv(loop, a, buf, sizeof buf), 6);
	assert_memory_equal(buf, "from b", 6);
	/* nobody is there any more: an answer to an earlier datagram tells */
	close_fd(b);
	gives(wh_send(loop, a, "gone", 4), 4);
	gives(wh_recv(loop, a, buf, sizeof buf), -ECONNREFUSED);
	close_fd(a);
	close_fd(c);
}

static void multicast(void **state)
{
	address group = {.in = {.sin_family = AF_INET}}, any = {.in = {.sin_family = AF_INET}};
	unsigned int lo = if_nametoindex("lo");
	int64_t value = 0;
	socklen_t len;
	char buf[16];
	struct wh_from from;
	group.in.sin_addr.s_addr = htonl(0xefff0102); /* 239.255.1.2: of this organisation */
	int member = wh_socket(loop, AF_INET, SOCK_DGRAM, 0),
	    sender = wh_socket(loop, AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(wh_set_option(loop, member, WH_REUSE_ADDRESS, 1), 0);
	assert_int_equal(wh_bind(loop, member, &any.any, sizeof any.in), 0);
	assert_int_equal(wh_local_address(loop, member, &any.storage, &len), 0);
	assert_int_equal(wh_join_group(loop, member, &group.any, sizeof group.in, lo), 0);
	assert_int_equal(wh_join_group(loop, member, &group.any, sizeof group.in, lo), -EADDRINUSE);
	assert_int_equal(wh_set_option(loop, sender, WH_MULTICAST_INTERFACE, lo), 0);
	assert_int_equal(wh_set_option(loop, sender, WH_MULTICAST_HOPS, 3), 0);
	assert_int_equal(wh_get_option(loop, sender, WH_MULTICAST_HOPS, &value), 0);
	assert_int_equal(value, 3);
	assert_int_equal(wh_set_option(loop, sender, WH_MULTICAST_LOOP, 1), 0);
	group.in.sin_port = any.in.sin_port;
	gives(wh_send_to(loop, sender, "to all", 6, &group.any, sizeof group.in), 6);
	gives(wh_recv_from(loop, member, buf, sizeof buf, &from), 6);
	assert_int_equal(wh_leave_group(loop, member, &group.any, sizeof group.in, lo), 0);
	assert_int_equal(wh_leave_group(loop, member, &group.any, sizeof group.in, lo), -EADDRNOTAVAIL);
	assert_int_equal(wh_join_group(loop, member, &group.any, sizeof group.in, 9999), -ENODEV);
	assert_int_equal(wh_join_group(loop, member, NULL, 0, 0), -EINVAL);
	close_fd(member);
	close_fd(sender);
	if (!have_ipv6())
		return;
	address group6 = {.in6 = {.sin6_family = AF_INET6}};
	group6.in6.sin6_addr.s6_addr[0] = 0xff;
	group6.in6.sin6_addr.s6_addr[1] = 0x01; /* of this interface */
	group6.in6.sin6_addr.s6_addr[15] = 0x77;
	int six = wh_socket(loop, AF_INET6, SOCK_DGRAM, 0);
	assert_int_equal(wh_join_group(loop, six, &group6.any, sizeof group6.in6, lo), 0);
	assert_int_equal(wh_set_option(loop, six, WH_MULTICAST_HOPS, 2), 0);
	assert_int_equal(wh_set_option(loop, six, WH_MULTICAST_INTERFACE, lo), 0);
	assert_int_equal(wh_get_option(loop, six, WH_MULTICAST_INTERFACE, &value), 0);
	assert_int_equal(value, lo);
	assert_int_equal(wh_leave_group(loop, six, &group6.any, sizeof group6.in6, lo), 0);
	close_fd(six);
}

/* ---- UNIX sockets --------------------------------------------------------------------------- */

static socklen_t abstract(address *a, const char *name)
{
	*a = (address){.un.sun_family = AF_UNIX};
	snprintf(a->un.sun_path + 1, sizeof a->un.sun_path - 1, "whilst-test-%d-%s", (int)getpid(), name);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(a->un.sun_path + 1));
}

static void abstract_names(void **state)
{
	address name, other;
	socklen_t len = abstract(&name, "stream"), other_len;
	char buf[8];
	int listener = wh_listen(loop, &name.any, len, NULL);
	assert_true(listener >= 0);
	assert_int_equal(wh_listen(loop, &name.any, len, NULL), -EADDRINUSE);
	wh_future accepted = wh_accept_from(loop, listener, &other.storage, &other_len);
	int a = (int)wh_await(wh_connect(loop, &name.any, len)).n, b = (int)wh_await(accepted).n;
	assert_true(a >= 0 && b >= 0);
	assert_int_equal(other.any.sa_family, AF_UNIX);
	assert_int_equal(other_len, sizeof(sa_family_t)); /* it has no name */
	assert_int_equal(wh_peer_address(loop, a, &other.storage, &other_len), 0);
	assert_int_equal(other_len, len);
	assert_memory_equal(&other, &name, len);
	gives(wh_send_all(loop, a, "abc", 3), 3);
	gives(wh_recv(loop, b, buf, sizeof buf), 3);
	struct wh_credentials peer;
	assert_int_equal(wh_peer_credentials(loop, b, &peer), 0);
	assert_int_equal(peer.pid, getpid());
	assert_int_equal(peer.user, geteuid());
	assert_int_equal(peer.group, getegid());
	close_fd(a);
	close_fd(b);
	close_fd(listener);
	gives(wh_connect(loop, &name.any, len), -ECONNREFUSED);
	int udp = wh_socket(loop, AF_INET, SOCK_DGRAM, 0);
	int64_t error = wh_peer_credentials(loop, udp, &peer);
	assert_true(error < 0);
	close_fd(udp);
	int lonely = wh_socket(loop, AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(wh_peer_credentials(loop, lonely, &peer), -ENOTCONN);
	close_fd(lonely);
}

static void messages_that_stay_apart(void **state)
{
	address name;
	socklen_t len = abstract(&name, "seqpacket");
	char buf[8];
	struct wh_from from;
	int listener = wh_socket(loop, AF_UNIX, SOCK_SEQPACKET, 0);
	assert_int_equal(wh_bind(loop, listener, &name.any, len), 0);
	assert_int_equal(wh_bind(loop, listener, &name.any, len), -EINVAL); /* it has a name */
	assert_int_equal(wh_listen_on(loop, listener, 0), 0);
	wh_future accepted = wh_accept(loop, listener);
	int a = wh_socket(loop, AF_UNIX, SOCK_SEQPACKET, 0);
	must(wh_connect_on(loop, a, &name.any, len));
	int b = (int)wh_await(accepted).n;
	assert_true(b >= 0);
	gives(wh_send(loop, a, "one", 3), 3);
	gives(wh_send(loop, a, "seventeen", 9), 9);
	gives(wh_recv(loop, b, buf, sizeof buf), 3);
	gives(wh_recv_from(loop, b, buf, sizeof buf, &from), 8);
	assert_true(from.truncated);
	close_fd(a);
	gives(wh_recv(loop, b, buf, sizeof buf), 0);
	close_fd(b);
	close_fd(listener);
	/* datagrams of UNIX sockets come with the name of the sender */
	address mine;
	socklen_t mine_len = abstract(&mine, "datagram");
	int pair[2] = {wh_socket(loop, AF_UNIX, SOCK_DGRAM, 0), wh_socket(loop, AF_UNIX, SOCK_DGRAM, 0)};
	assert_int_equal(wh_bind(loop, pair[0], &name.any, len), 0);
	assert_int_equal(wh_bind(loop, pair[1], &mine.any, mine_len), 0);
	gives(wh_send_to(loop, pair[1], "from me", 7, &name.any, len), 7);
	gives(wh_recv_from(loop, pair[0], buf, sizeof buf, &from), 7);
	assert_int_equal(from.address_len, mine_len);
	assert_memory_equal(&from.address, &mine, mine_len);
	close_fd(pair[0]);
	gives(wh_send_to(loop, pair[1], "nobody", 6, &name.any, len), -ECONNREFUSED);
	close_fd(pair[1]);
}

static void pairs(void **state)
{
	int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}, fds[2] = {-1, -1};
	char buf[8];
	for (int i = 0; i < 3; i++) {
		assert_int_equal(wh_socket_pair(loop, types[i], fds), 0);
		gives(wh_send(loop, fds[1], "pair", 4), 4);
		gives(wh_recv(loop, fds[0], buf, sizeof buf), 4);
		close_fd(fds[0]);
		close_fd(fds[1]);
	}
	assert_true(wh_socket_pair(loop, 99, fds) < 0);
	assert_int_equal(wh_socket(loop, 999, SOCK_STREAM, 0), -EAFNOSUPPORT);
}

static void full_datagram_sockets_wait(void **state)
{
	int fds[2], sent = 0;
	char buf[1000] = {0};
	wh_future f;
	assert_int_equal(wh_socket_pair(loop, SOCK_DGRAM, fds), 0);
	for (;; sent++) {
		f = wh_send_to(loop, fds[0], buf, sizeof buf, NULL, 0);
		for (int i = 0; i < 3 && !wh_done(f); i++)
			assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
		if (!wh_done(f))
			break;
		gives(f, 1000);
		assert_true(sent < 100000);
	}
	for (int i = 0; i <= sent; i++)
		gives(wh_recv(loop, fds[1], buf, sizeof buf), 1000);
	gives(f, 1000);
	close_fd(fds[0]);
	close_fd(fds[1]);
}

static void descriptors_are_passed(void **state)
{
	int fds[2], pipes[3][2], got[3] = {-1, -1, -1};
	char buf[8] = {0};
	struct iovec iov = {(void *)"take", 4}, in[2] = {{buf, 2}, {buf + 2, 6}};
	assert_int_equal(wh_socket_pair(loop, SOCK_STREAM, fds), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wh_pipe(loop, pipes[i]), 0);
	int passed[3] = {pipes[0][1], pipes[1][1], pipes[2][1]};
	struct wh_message out = {.iov = &iov, .iov_count = 1, .descriptors = passed, .descriptor_count = 3};
	struct wh_message message = {.iov = in, .iov_count = 2, .descriptors = got, .descriptor_count = 3};
	wh_future receiving = wh_recv_message(loop, fds[1], &message);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	gives(wh_send_message(loop, fds[0], &out), 4);
	gives(receiving, 4);
	assert_memory_equal(buf, "take", 4);
	assert_int_equal(message.descriptor_count, 3);
	assert_false(message.descriptors_lost);
	assert_false(message.truncated);
	for (int i = 0; i < 3; i++) {
		assert_true(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
		assert_true(got[i] != passed[i]);
		close_fd(passed[i]);
		gives(wh_write_all(loop, got[i], "x", 1), 1);
		gives(wh_read(loop, pipes[i][0], buf, 8), 1);
		close_fd(got[i]);
	}
	/* without enough room for them the rest is closed, not leaked */
	int before = open_fd_count();
	passed[0] = pipes[0][0], passed[1] = pipes[1][0], passed[2] = pipes[2][0];
	gives(wh_send_message(loop, fds[0], &out), 4);
	message.descriptor_count = 1;
	gives(wh_recv_message(loop, fds[1], &message), 4);
	assert_int_equal(message.descriptor_count, 1);
	assert_true(message.descriptors_lost);
	assert_int_equal(open_fd_count(), before + 1);
	close_fd(got[0]);
	gives(wh_send_message(loop, fds[0], &out), 4);
	message.descriptors = NULL;
	gives(wh_recv_message(loop, fds[1], &message), 4);
	assert_int_equal(message.descriptor_count, 0);
	assert_true(message.descriptors_lost);
	gives(wh_send_message(loop, fds[0], &out), 4);
	gives(wh_recv(loop, fds[1], buf, 8), 4); /* a receive of bytes alone takes none */
	assert_int_equal(open_fd_count(), before);
	out.descriptor_count = 17;
	gives(wh_send_message(loop, fds[0], &out), -EINVAL);
	out.descriptor_count = -1;
	gives(wh_send_message(loop, fds[0], &out), -EINVAL);
	out.descriptor_count = 1;
	passed[0] = 99999;
	gives(wh_send_message(loop, fds[0], &out), -EBADF);
	gives(wh_send_message(loop, fds[0], NULL), -EINVAL);
	gives(wh_recv_message(loop, fds[0], NULL), -EINVAL);
	message.iov_count = 17;
	gives(wh_recv_message(loop, fds[0], &message), -EINVAL);
	for (int i = 0; i < 3; i++)
		close_fd(pipes[i][0]);
	close_fd(fds[0]);
	out.descriptor_count = 0;
	gives(wh_send_message(loop, fds[1], &out), -EPIPE);
	close_fd(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(datagrams),
		ON_LOOP(datagrams_of_ipv6),
		ON_LOOP(datagrams_with_one_peer),
		ON_LOOP(multicast),
		ON_LOOP(abstract_names),
		ON_LOOP(messages_that_stay_apart),
		ON_LOOP(pairs),
		ON_LOOP(full_datagram_sockets_wait),
		ON_LOOP(descriptors_are_passed),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
