/* tests/conformance/test_errors_socket.c -- the errors of sockets: made, bound, connected, sent to and received from.
 *
 * What needs a network that has no way, or few ports, is done in a network namespace by a forked child, which says what it
 * could not try. Packets are lost by a filter on the socket that they would arrive at.
 */
#include "errors_tables.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

struct operation {
	const char *name;
	wh_future (*start)(wh_loop *l, int fd);
};
static const struct operation receiving[] = {
	{"recv", recv_on},
	{"recv_all", recv_all_on},
	{"peek", peek_on},
	{"recvv", recvv_on},
	{"recv_buf", recv_buf_on},
	{"recv_from", recv_from_on},
	{"recv_message", recv_message_on},
};
static const struct operation sending[] = {
	{"send", send_on},       {"send_all", send_all_on},         {"sendv_all", sendv_all_on},
	{"send_to", send_to_on}, {"send_message", send_message_on}, {"send_file", send_file_on},
};
enum { RECEIVING = sizeof receiving / sizeof *receiving, SENDING = sizeof sending / sizeof *sending };

static struct sockaddr_in address_of(const char *text, uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	assert_int_equal(inet_pton(AF_INET, text, &address.sin_addr), 1);
	return address;
}

static int a_socket(int family, int type)
{
	int fd = wh_socket(loop, family, type, 0);
	assert_true(fd >= 0);
	return fd;
}

static int connected_datagram(struct sockaddr_in to)
{
	int fd = a_socket(AF_INET, SOCK_DGRAM);
	must(wh_connect_on(loop, fd, (struct sockaddr *)&to, sizeof to));
	return fd;
}

static void open_other(void)
{
	write_file("other", "other bytes");
	other_file = open_in("other", O_RDWR);
}

/* ---- made, bound, listening ------------------------------------------------------------------- */

static void making(void **state)
{
	struct sockaddr_in here = address_of("127.0.0.1", 0), elsewhere = address_of("192.0.2.1", 1);
	struct sockaddr_un path = {.sun_family = AF_UNIX};
	socklen_t len = sizeof here;
	int ends[2];
	wrong = 0;
	is_now(wh_socket(loop, 9999, SOCK_STREAM, 0), -EAFNOSUPPORT);
	is_now(wh_socket(loop, AF_INET, SOCK_STREAM, IPPROTO_UDP), -EPROTONOSUPPORT);
	is_now(wh_socket_pair(loop, 9999, ends), -EINVAL);
	int a = a_socket(AF_INET, SOCK_STREAM), b = a_socket(AF_INET, SOCK_STREAM),
	    datagram = a_socket(AF_INET, SOCK_DGRAM);
	is_now(wh_bind(loop, a, (struct sockaddr *)&elsewhere, sizeof elsewhere), -EADDRNOTAVAIL);
	is_now(wh_set_option(loop, a, WH_REUSE_ADDRESS, 1), 0);
	is_now(wh_set_option(loop, b, WH_REUSE_ADDRESS, 1), 0);
	is_now(wh_bind(loop, a, (struct sockaddr *)&here, sizeof here), 0);
	assert_int_equal(getsockname(a, (struct sockaddr *)&here, &len), 0);
	is_now(wh_bind(loop, a, (struct sockaddr *)&here, sizeof here), -EINVAL);
	is_now(wh_bind(loop, b, (struct sockaddr *)&here, sizeof here), 0);
	is_now(wh_listen_on(loop, a, 1), 0);
	is_now(wh_listen_on(loop, b, 1), -EADDRINUSE);
	is_now(wh_listen_on(loop, datagram, 1), -EOPNOTSUPP);
	close_fd(b);
	b = a_socket(AF_INET, SOCK_STREAM);
	is_now(wh_bind(loop, b, (struct sockaddr *)&here, sizeof here), -EADDRINUSE);
	is_now(wh_listen(loop, (struct sockaddr *)&here, sizeof here, NULL), -EADDRINUSE);
	is_now(wh_listen(loop, (struct sockaddr *)&elsewhere, sizeof elsewhere, NULL), -EADDRNOTAVAIL);
	is_now(wh_listen_text(loop, "192.0.2.1:1", NULL), -EADDRNOTAVAIL);
	is_now(wh_listen_text(loop, "nothing like that", NULL), -EINVAL);
	snprintf(path.sun_path, sizeof path.sun_path, "%s", in_folder("none/socket"));
	is_now(wh_listen(loop, (struct sockaddr *)&path, sizeof path, NULL), -ENOENT);
	int local = a_socket(AF_UNIX, SOCK_STREAM);
	is_now(wh_bind(loop, local, (struct sockaddr *)&path, sizeof path), -ENOENT);
	close_fd(local);
	is(wh_accept(loop, datagram), -EOPNOTSUPP);
	is(wh_accept_from(loop, datagram, &peer, &peer_len), -EOPNOTSUPP);
	assert_int_equal(wrong, 0);
	close_fd(a);
	close_fd(b);
	close_fd(datagram);
}

static void options(void **state)
{
	int stream = a_socket(AF_INET, SOCK_STREAM), datagram = a_socket(AF_INET, SOCK_DGRAM),
	    local = a_socket(AF_UNIX, SOCK_STREAM);
	struct sockaddr_in group = address_of("239.1.2.3", 0), no_group = address_of("127.0.0.1", 0);
	struct sockaddr *to = (struct sockaddr *)&group;
	int64_t value = 0;
	socklen_t len = sizeof value;
	wrong = 0;
	is_now(wh_set_option(loop, stream, 999, 1), -EINVAL);
	is_now(wh_get_option(loop, stream, 999, &value), -EINVAL);
	is_now(wh_set_option(loop, stream, WH_KEEPALIVE_PROBES, -1), -EINVAL);
	is_now(wh_set_option(loop, local, WH_NODELAY, 1), -EOPNOTSUPP);
	is_now(wh_get_option(loop, local, WH_NODELAY, &value), -EOPNOTSUPP);
	is_now(wh_set_option(loop, datagram, WH_NODELAY, 1), -ENOPROTOOPT);
	is_now(wh_get_option(loop, datagram, WH_NODELAY, &value), -EOPNOTSUPP);
	is_now(wh_set_option_raw(loop, stream, SOL_SOCKET, 9999, &value, sizeof(int)), -ENOPROTOOPT);
	is_now(wh_get_option_raw(loop, stream, SOL_SOCKET, 9999, &value, &len), -ENOPROTOOPT);
	is_now(wh_set_option_raw(loop, local, IPPROTO_TCP, TCP_NODELAY, &value, sizeof(int)), -EOPNOTSUPP);
	is_now(wh_get_option_raw(loop, local, IPPROTO_TCP, TCP_NODELAY, &value, &len), -EOPNOTSUPP);
	is_now(wh_join_group(loop, datagram, (struct sockaddr *)&no_group, sizeof no_group, 1), -EINVAL);
	is_now(wh_join_group(loop, datagram, to, sizeof group, 99999), -ENODEV);
	is_now(wh_leave_group(loop, datagram, to, sizeof group, 99999), -EADDRNOTAVAIL);
	is_now(wh_join_group(loop, datagram, to, sizeof group, if_nametoindex("lo")), 0);
	is_now(wh_join_group(loop, datagram, to, sizeof group, if_nametoindex("lo")), -EADDRINUSE);
	is_now(wh_leave_group(loop, datagram, to, sizeof group, if_nametoindex("lo")), 0);
	is_now(wh_leave_group(loop, datagram, to, sizeof group, if_nametoindex("lo")), -EADDRNOTAVAIL);
	assert_int_equal(wrong, 0);
	close_fd(stream);
	close_fd(datagram);
	close_fd(local);
}

/* ---- connected -------------------------------------------------------------------------------- */

/* Nothing arrives at fd any more. */
static void drop_all(int fd)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog program = {1, &drop};
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), 0);
}

static void connecting(void **state)
{
	struct sockaddr_in there, closed;
	struct sockaddr_un path = {.sun_family = AF_UNIX}, datagrams = {.sun_family = AF_UNIX};
	struct sockaddr strange = {.sa_family = 9999};
	int listener = listen_tcp(&there), gone = listen_tcp(&closed), deaf = listen_tcp(&nobody);
	snprintf(path.sun_path, sizeof path.sun_path, "%s", in_folder("none"));
	snprintf(datagrams.sun_path, sizeof datagrams.sun_path, "%s", in_folder("datagrams"));
	int receiver = a_socket(AF_UNIX, SOCK_DGRAM);
	assert_int_equal(bind(receiver, (struct sockaddr *)&datagrams, sizeof datagrams), 0);
	close_fd(gone);
	drop_all(deaf);
	wrong = 0;
	is(wh_connect(loop, (struct sockaddr *)&closed, sizeof closed), -ECONNREFUSED);
	is(wh_connect(loop, (struct sockaddr *)&path, sizeof path), -ENOENT);
	is(wh_connect(loop, &strange, sizeof strange), -EAFNOSUPPORT);
	int fd = a_socket(AF_INET, SOCK_STREAM);
	must(wh_connect_on(loop, fd, (struct sockaddr *)&there, sizeof there));
	is(wh_connect_on(loop, fd, (struct sockaddr *)&there, sizeof there), -EISCONN);
	close_fd(fd);
	fd = a_socket(AF_UNIX, SOCK_STREAM);
	is(wh_connect_on(loop, fd, (struct sockaddr *)&datagrams, sizeof datagrams), -EPROTOTYPE);
	close_fd(fd);
	fd = a_socket(AF_INET, SOCK_STREAM);
	wh_future first = wh_connect_on(loop, fd, (struct sockaddr *)&nobody, sizeof nobody);
	for (int i = 0; i < 3; i++) /* until it has begun */
		assert_int_equal(wh_loop_turn(loop, i == 2 ? WH_NS_PER_MS : 0), 0);
	wh_cancel(first); /* the socket goes on all the same */
	is(first, -ECANCELED);
	is(wh_connect_on(loop, fd, (struct sockaddr *)&nobody, sizeof nobody), -EALREADY);
	close_fd(fd);
	fd = a_socket(AF_INET, SOCK_STREAM);
	is_now(wh_set_option(loop, fd, WH_USER_TIMEOUT_NS, WH_NS_PER_MS), 0);
	is(wh_connect_on(loop, fd, (struct sockaddr *)&nobody, sizeof nobody), -ETIMEDOUT);
	assert_int_equal(wrong, 0);
	close_fd(fd);
	close_fd(receiver);
	close_fd(listener);
	close_fd(deaf);
}

/* Each operation on a socket of its own, which has gone through what make does to it. */
static void each(const struct operation *operations, size_t count, int (*make)(void), const char *what,
                 int64_t error)
{
	for (size_t i = 0; i < count; i++) {
		int fd = make();
		judge(operations[i].name, what, wh_await(operations[i].start(loop, fd)).n, error);
		close_fd(fd);
	}
}

static int reset_by_peer(void)
{
	int fds[2];
	make_tcp(fds);
	assert_int_equal(wh_set_option(loop, fds[1], WH_LINGER_NS, 0), 0);
	close_fd(fds[1]);
	return fds[0];
}

static int refused_datagram(void)
{
	int fd = connected_datagram(
		nobody); /* bound by a stream socket, so that no datagram socket has it by chance */
	assert_int_equal(send(fd, "x", 1, 0), 1);
	return fd;
}

static int without_address(void)
{
	return a_socket(AF_INET, SOCK_DGRAM);
}

static int not_connected(void)
{
	return a_socket(AF_UNIX, SOCK_STREAM);
}

static void connections_that_end(void **state)
{
	struct sockaddr_in unused;
	int listener = listen_tcp(&unused);
	nobody = unused;
	open_other();
	wrong = 0;
	each(receiving, RECEIVING, reset_by_peer, "reset", -ECONNRESET);
	each(sending, SENDING, reset_by_peer, "reset", -ECONNRESET);
	each(receiving, RECEIVING, refused_datagram, "refused", -ECONNREFUSED);
	each(sending, SENDING, refused_datagram, "refused", -ECONNREFUSED);
	each(sending, SENDING, without_address, "without address", -EDESTADDRREQ);
	each(sending, SENDING, not_connected, "not connected", -ENOTCONN);
	assert_int_equal(wrong, 0);
	close_fd(listener);
	close_fd(other_file);
}

/* What was sent is never acknowledged. */
static void peers_that_fall_silent(void **state)
{
	int fds[RECEIVING + SENDING], others[RECEIVING + SENDING];
	wh_future fs[RECEIVING];
	open_other();
	wrong = 0;
	for (int i = 0; i < RECEIVING + SENDING; i++) {
		int pair[2];
		make_tcp(pair);
		fds[i] = pair[0];
		others[i] = pair[1];
		assert_int_equal(wh_set_option(loop, fds[i], WH_USER_TIMEOUT_NS, 100 * WH_NS_PER_MS), 0);
		drop_all(others[i]);
		assert_int_equal(send(fds[i], "x", 1, 0), 1);
		if (i < RECEIVING)
			fs[i] = receiving[i].start(loop, fds[i]);
	}
	for (int i = 0; i < RECEIVING; i++)
		judge(receiving[i].name, "silence", wh_await(fs[i]).n, -ETIMEDOUT);
	for (int i = 0; i < SENDING; i++) {
		int fd = fds[RECEIVING + i];
		assert_true(wh_await(wh_ready(loop, fd, POLLIN)).n > 0);
		judge(sending[i].name, "silence", wh_await(sending[i].start(loop, fd)).n, -ETIMEDOUT);
	}
	assert_int_equal(wrong, 0);
	for (int i = 0; i < RECEIVING + SENDING; i++) {
		close_fd(fds[i]);
		close_fd(others[i]);
	}
	close_fd(other_file);
}

/* ---- messages --------------------------------------------------------------------------------- */

static void messages(void **state)
{
	static char large[70000];
	struct iovec whole = {large, sizeof large};
	struct sockaddr_in there = address_of("127.0.0.1", 9);
	struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "/none"};
	int closed = a_closed_number(), pair[2], fd = connected_datagram(there), ends[2];
	struct wh_message too_long = {.iov = &whole, .iov_count = 1}, with = {.iov = &vector, .iov_count = 1};
	open_other();
	make_pair(pair);
	assert_int_equal(wh_pipe(loop, ends), 0);
	wrong = 0;
	is(wh_send(loop, fd, large, sizeof large), -EMSGSIZE);
	is(wh_send_all(loop, fd, large, sizeof large), -EMSGSIZE);
	is(wh_sendv_all(loop, fd, &whole, 1), -EMSGSIZE);
	is(wh_send_to(loop, fd, large, sizeof large, NULL, 0), -EMSGSIZE);
	is(wh_send_message(loop, fd, &too_long), -EMSGSIZE);
	is(wh_send_to(loop, pair[0], "x", 1, (struct sockaddr *)&path, sizeof path), -EISCONN);
	memcpy(&with.address, &path, sizeof path);
	with.address_len = sizeof path;
	is(wh_send_message(loop, pair[0], &with), -EISCONN);
	with.address_len = 0;
	with.descriptors = &closed;
	with.descriptor_count = 1;
	is(wh_send_message(loop, pair[0], &with), -EBADF);
	with.descriptor_count = 17;
	is(wh_send_message(loop, pair[0], &with), -EINVAL);
	is(wh_recv_message(loop, pair[0], &with), -EINVAL);
	with.descriptor_count = 0;
	with.iov_count = 17;
	is(wh_send_message(loop, pair[0], &with), -EINVAL);
	is(wh_recv_message(loop, pair[0], &with), -EINVAL);
	is(wh_recvv(loop, pair[0], &vector, 17), -EINVAL);
	is(wh_send_file(loop, pair[0], ends[0], 0, 1), -ESPIPE);
	is(wh_send_file(loop, pair[0], closed, 0, 1), -EBADF);
	is_now(wh_peer_address(loop, fd, &peer, &peer_len), 0);
	assert_int_equal(wrong, 0);
	close_fd(fd);
	close_fd(pair[0]);
	close_fd(pair[1]);
	close_fd(ends[0]);
	close_fd(ends[1]);
	close_fd(other_file);
}

/* ---- as somebody else ------------------------------------------------------------------------- */

static int with_few_descriptors(void)
{
	struct rlimit few = {64, 64};
	if (setrlimit(RLIMIT_NOFILE, &few) != 0)
		return errno;
	return become_nobody();
}

/* Descriptors that are on their way count for the user who sent them. */
static void sockets_of_nobody(void)
{
	struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "closed/x"};
	struct wh_message with = {.iov = &vector, .iov_count = 1, .descriptor_count = 1};
	int pair[2], fd = a_socket(AF_UNIX, SOCK_STREAM);
	is(wh_connect(loop, (struct sockaddr *)&path, sizeof path), -EACCES);
	is(wh_connect_on(loop, fd, (struct sockaddr *)&path, sizeof path), -EACCES);
	is_now(wh_bind(loop, fd, (struct sockaddr *)&path, sizeof path), -EACCES);
	is_now(wh_listen(loop, (struct sockaddr *)&path, sizeof path, NULL), -EACCES);
	is_now(wh_listen_text(loop, "unix:closed/x", NULL), -EACCES);
	make_pair(pair);
	with.descriptors = &fd;
	int64_t n = 1;
	for (int i = 0; i < 1000 && n > 0; i++)
		n = wh_await(wh_send_message(loop, pair[0], &with)).n;
	judge("send_message", "too many on their way", n, -ETOOMANYREFS);
	close_fd(pair[0]);
	close_fd(pair[1]);
	close_fd(fd);
}

static void without_permission(void **state)
{
	must(wh_mkdir(loop, in_folder("closed"), 0700));
	assert_int_equal(chmod(folder, 0755), 0);
	in_another_process(with_few_descriptors, sockets_of_nobody);
}

static void without_descriptors(void **state)
{
	if (under_valgrind())
		skip(); /* its limit of descriptors takes what was accepted, and then closes it */
	struct rlimit before, none;
	struct sockaddr_in there;
	int listener = listen_tcp(&there), ends[2];
	/* what the engine itself needs is there before */
	wh_future warm = wh_accept(loop, listener), signal_before = wh_signal(loop, SIGUSR1);
	int a = (int)wh_await(wh_connect(loop, (struct sockaddr *)&there, sizeof there)).n;
	int b = (int)wh_await(warm).n;
	int waiting = a_socket(AF_INET, SOCK_STREAM);
	must(wh_connect_on(loop, waiting, (struct sockaddr *)&there, sizeof there));
	wh_cancel(signal_before);
	is(signal_before, -ECANCELED);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3; /* what is open stays open */
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	wrong = 0;
	is(wh_accept(loop, listener), -EMFILE);
	is(wh_accept_from(loop, listener, &peer, &peer_len), -EMFILE);
	is(wh_connect(loop, (struct sockaddr *)&there, sizeof there), -EMFILE);
	is_now(wh_socket(loop, AF_INET, SOCK_STREAM, 0), -EMFILE);
	is_now(wh_socket_pair(loop, SOCK_STREAM, ends), -EMFILE);
	is_now(wh_listen(loop, (struct sockaddr *)&there, sizeof there, NULL), -EMFILE);
	is_now(wh_listen_text(loop, "127.0.0.1:0", NULL), -EMFILE);
	is_now(wh_pipe(loop, ends), -EMFILE);
	is(wh_open(loop, "/dev/null", O_RDONLY, 0), -EMFILE);
	is(wh_open_at(loop, AT_FDCWD, "/dev/null", O_RDONLY, 0), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(wrong, 0);
	close_fd(a);
	close_fd(b);
	close_fd(waiting);
	close_fd(listener);
}

/* ---- a network of our own --------------------------------------------------------------------- */

static int write_setting(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	int error = write(fd, value, strlen(value)) < 0 ? errno : 0;
	close(fd);
	return error;
}

static int new_network(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
		return errno;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int error = ioctl(fd, SIOCGIFFLAGS, &request) != 0 ? errno : 0;
	request.ifr_flags |= IFF_UP;
	if (error == 0 && ioctl(fd, SIOCSIFFLAGS, &request) != 0)
		error = errno;
	close(fd);
	if (error == 0)
		error = write_setting("/proc/sys/net/ipv4/tcp_syn_retries", "1");
	return error;
}

/* message: RTM_NEWROUTE, RTM_DELROUTE; to text/24, by the loopback interface if type is RTN_UNICAST; rtnetlink(7). */
static void change_route(int message_type, int type, const char *text)
{
	struct {
		struct nlmsghdr header;
		struct rtmsg route;
		struct rtattr to_head;
		struct in_addr to;
		struct rtattr by_head;
		uint32_t by;
	} request = {
		.header = {.nlmsg_len = sizeof request,
	                   .nlmsg_type = (uint16_t)message_type,
	                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK |
	                                  (message_type == RTM_NEWROUTE ? NLM_F_CREATE | NLM_F_REPLACE : 0)},
		.route = {.rtm_family = AF_INET,
	                  .rtm_dst_len = 24,
	                  .rtm_table = RT_TABLE_MAIN,
	                  .rtm_protocol = RTPROT_STATIC,
	                  .rtm_scope = type == RTN_UNICAST ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
	                  .rtm_type = (unsigned char)type},
		.to_head = {RTA_LENGTH(4), RTA_DST},
		.by_head = {RTA_LENGTH(4), RTA_OIF},
		.by = if_nametoindex("lo"),
	};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char more[512];
	} answer;
	if (type != RTN_UNICAST)
		request.header.nlmsg_len -= (uint32_t)(sizeof request.by_head + sizeof request.by);
	assert_int_equal(inet_pton(AF_INET, text, &request.to), 1);
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	assert_true(fd >= 0);
	assert_int_equal(send(fd, &request, request.header.nlmsg_len, 0), request.header.nlmsg_len);
	assert_true(recv(fd, &answer, sizeof answer, 0) > 0);
	judge("route", text, answer.error.error, 0);
	close(fd);
}

static void unreachable(const char *what, int64_t error)
{
	struct sockaddr_in there = address_of("192.0.2.1", 9);
	struct wh_message to = {.iov = &vector, .iov_count = 1, .address_len = sizeof there};
	int stream = a_socket(AF_INET, SOCK_STREAM), datagram = a_socket(AF_INET, SOCK_DGRAM);
	memcpy(&to.address, &there, sizeof there);
	judge("connect", what, wh_await(wh_connect(loop, (struct sockaddr *)&there, sizeof there)).n, error);
	judge("connect_on", what,
	      wh_await(wh_connect_on(loop, stream, (struct sockaddr *)&there, sizeof there)).n, error);
	judge("send_to", what,
	      wh_await(wh_send_to(loop, datagram, "x", 1, (struct sockaddr *)&there, sizeof there)).n, error);
	judge("send_message", what, wh_await(wh_send_message(loop, datagram, &to)).n, error);
	close_fd(stream);
	close_fd(datagram);
}

/* It would be told that it may write, and told again when it tries. */
static void sends_without_port(const struct sockaddr_in *to)
{
	struct wh_message addressed = {.iov = &vector, .iov_count = 1, .address_len = sizeof *to};
	int fd = a_socket(AF_INET, SOCK_DGRAM);
	memcpy(&addressed.address, to, sizeof *to);
	is(wh_send_to(loop, fd, "x", 1, (const struct sockaddr *)to, sizeof *to), -EADDRNOTAVAIL);
	is(wh_send_message(loop, fd, &addressed), -EADDRNOTAVAIL);
	close_fd(fd);
}

static void in_a_network_without_ways(void)
{
	static const struct {
		int type; /* of a route; 0: there is none */
		const char *what;
		int64_t error;
	} rows[] = {
		{0, "no route", -ENETUNREACH},
		{RTN_UNREACHABLE, "unreachable", -EHOSTUNREACH},
		{RTN_PROHIBIT, "prohibited", -EACCES},
	};
	struct sockaddr_in there = address_of("192.0.2.1", 9), listening;
	int deaf = listen_tcp(&nobody), listener = listen_tcp(&listening), clients[4], count = 0;
	open_other();
	drop_all(deaf);
	wh_future silent = wh_connect(loop, (struct sockaddr *)&nobody, sizeof nobody);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int fds[SENDING];
		change_route(RTM_NEWROUTE, RTN_UNICAST, "192.0.2.0");
		for (int j = 0; j < SENDING; j++)
			fds[j] = connected_datagram(there);
		change_route(RTM_DELROUTE, RTN_UNICAST, "192.0.2.0");
		if (rows[i].type != 0)
			change_route(RTM_NEWROUTE, rows[i].type, "192.0.2.0");
		for (int j = 0; j < SENDING; j++) {
			judge(sending[j].name, rows[i].what, wh_await(sending[j].start(loop, fds[j])).n,
			      rows[i].error);
			close_fd(fds[j]);
		}
		unreachable(rows[i].what, rows[i].error);
		if (rows[i].type != 0)
			change_route(RTM_DELROUTE, rows[i].type, "192.0.2.0");
	}
	is(silent, -ETIMEDOUT);
	/* two ports are all that there are */
	is_now(write_setting("/proc/sys/net/ipv4/ip_local_port_range", "50000 50001"), 0);
	int64_t n = 0;
	while (count < 4 && n >= 0) {
		n = wh_await(wh_connect(loop, (struct sockaddr *)&listening, sizeof listening)).n;
		if (n >= 0)
			clients[count++] = (int)n;
	}
	judge("connect", "no port is left", n, -EADDRNOTAVAIL);
	while (count > 0)
		close_fd(clients[--count]);
	for (n = 0; count < 4 && n >= 0;) {
		clients[count++] = a_socket(AF_INET, SOCK_DGRAM);
		n = wh_await(wh_connect_on(loop, clients[count - 1], (struct sockaddr *)&listening,
		                           sizeof listening))
		            .n;
	}
	judge("connect_on", "no port is left for datagrams", n, -EADDRNOTAVAIL);
	sends_without_port(&listening);
	while (count > 0)
		close_fd(clients[--count]);
	close_fd(deaf);
	close_fd(listener);
	close_fd(other_file);
}

static void without_ways(void **state)
{
	in_another_process(new_network, in_a_network_without_ways);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(making),
		IN_FOLDER(options),
		IN_FOLDER(connecting),
		IN_FOLDER(connections_that_end),
		IN_FOLDER(peers_that_fall_silent),
		IN_FOLDER(messages),
		IN_FOLDER(without_permission),
		IN_FOLDER(without_descriptors),
		IN_FOLDER(without_ways),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
