/* tests/conformance/test_socket.c -- sockets and readiness: results, errors, cancelling and closing. */
#define WH_TESTS_CALLS_ON_SIM
#include "conformance.h"

#include <netinet/tcp.h>
#include <signal.h>
#include <sys/stat.h>

static void bytes_go_both_ways(void **state)
{
	int fds[2];
	char buf[16];
	for (int round = 0; round < 2; round++) {
		round ? make_tcp(fds) : make_pair(fds);
		for (int i = 0; i < 50; i++) {
			wh_future received = wh_recv(loop, fds[1], buf, sizeof buf);
			assert_int_equal(wh_await(wh_send_all(loop, fds[0], "ping", 4)).n, 4);
			assert_int_equal(wh_await(received).n, 4);
			assert_memory_equal(buf, "ping", 4);
			assert_int_equal(wh_await(wh_send(loop, fds[1], "pong!", 5)).n, 5);
			assert_int_equal(wh_await(wh_recv(loop, fds[0], buf, sizeof buf)).n, 5);
		}
		close_fd(fds[0]);
		close_fd(fds[1]);
	}
}

static void made_descriptors_do_not_block_nor_leak(void **state)
{
	int fds[2], one = 0;
	socklen_t len = sizeof one;
	make_tcp(fds);
	for (int i = 0; i < 2; i++) {
		assert_true(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
		assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
		assert_int_equal(getsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, &len), 0);
		assert_true(one);
		close_fd(fds[i]);
	}
}

static void an_end_is_zero_even_right_behind_data(void **state)
{
	int fds[2];
	char buf[64];
	for (int round = 0; round < 4; round++) {
		round % 2 ? make_tcp(fds) : make_pair(fds);
		if (round >= 2) {
			/* the engine has seen the socket before */
			wh_future f = wh_recv(loop, fds[1], buf, sizeof buf);
			assert_int_equal(wh_await(wh_send_all(loop, fds[0], "x", 1)).n, 1);
			assert_int_equal(wh_await(f).n, 1);
		}
		assert_int_equal(wh_await(wh_send_all(loop, fds[0], "last", 4)).n, 4);
		assert_int_equal(wh_shutdown(loop, fds[0], SHUT_WR), 0);
		assert_int_equal(wh_await(wh_sleep(loop, WH_NS_PER_MS)).n, 0);
		assert_int_equal(wh_await(wh_recv(loop, fds[1], buf, sizeof buf)).n, 4);
		assert_int_equal(wh_await(wh_recv(loop, fds[1], buf, sizeof buf)).n, 0);
		assert_int_equal(wh_await(wh_recv(loop, fds[1], buf, sizeof buf)).n, 0); /* again */
		wh_res res = wh_await(wh_recv_buf(loop, fds[1]));
		assert_int_equal(res.n, 0);
		assert_null(res.ptr);
		/* the other direction still works */
		assert_int_equal(wh_await(wh_send_all(loop, fds[1], "back", 4)).n, 4);
		assert_int_equal(wh_await(wh_recv(loop, fds[0], buf, sizeof buf)).n, 4);
		close_fd(fds[0]);
		close_fd(fds[1]);
	}
}

static void the_end_comes_to_who_waits(void **state)
{
	int fds[2];
	char buf[64];
	make_tcp(fds);
	wh_future f = wh_recv(loop, fds[1], buf, sizeof buf);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	close_fd(fds[0]);
	assert_int_equal(wh_await(f).n, 0);
	close_fd(fds[1]);
}

static void a_reset_is_an_error(void **state)
{
	int fds[2];
	char buf[4] = {0};
	struct linger linger = {.l_onoff = 1};
	for (int round = 0; round < 2; round++) {
		make_tcp(fds);
		wh_future f = {0};
		if (round)
			f = wh_recv(loop, fds[1], buf, sizeof buf); /* waits already */
		assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
		assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
		close_fd(fds[0]);
		if (!round)
			f = wh_recv(loop, fds[1], buf, sizeof buf);
		assert_int_equal(wh_await(f).n, -ECONNRESET);
		int64_t n = wh_await(wh_send_all(loop, fds[1], "x", 1)).n;
		assert_true(n == -EPIPE || n == -ECONNRESET); /* and no SIGPIPE */
		close_fd(fds[1]);
	}
	make_pair(fds);
	close_fd(fds[0]);
	assert_int_equal(wh_await(wh_send_all(loop, fds[1], "x", 1)).n, -EPIPE);
	struct iovec iov = {buf, 1};
	assert_int_equal(wh_await(wh_sendv_all(loop, fds[1], &iov, 1)).n, -EPIPE);
	close_fd(fds[1]);
}

static void all_is_all(void **state)
{
	enum { LEN = 3000000 };
	static char out[LEN], in[LEN];
	int fds[2];
	for (size_t i = 0; i < LEN; i++)
		out[i] = (char)(i * 13 + i / 1000);
	for (int round = 0; round < 4; round++) {
		round % 2 ? make_tcp(fds) : make_pair(fds);
		struct iovec iov[4] = {
			{out, 1}, {out + 1, 0}, {out + 1, 1499999}, {out + 1500000, LEN - 1500000}};
		wh_future sent =
			round < 2 ? wh_send_all(loop, fds[0], out, LEN) : wh_sendv_all(loop, fds[0], iov, 4);
		memset(iov, 0, sizeof iov); /* copied */
		memset(in, 0, LEN);
		for (size_t got = 0; got < LEN;) {
			int64_t n = wh_await(wh_recv(loop, fds[1], in + got, LEN - got)).n;
			assert_true(n > 0);
			got += (size_t)n;
		}
		assert_int_equal(wh_await(sent).n, LEN);
		assert_memory_equal(in, out, LEN);
		close_fd(fds[0]);
		close_fd(fds[1]);
	}
}

static void one_of_each_at_a_time(void **state)
{
	int fds[2];
	char a[8], b[8];
	static char big[8000000];
	make_pair(fds);
	wh_future receiving = wh_recv(loop, fds[0], a, sizeof a);
	assert_int_equal(wh_await(wh_recv(loop, fds[0], b, sizeof b)).n, -EBUSY);
	assert_int_equal(wh_await(wh_recv_buf(loop, fds[0])).n, -EBUSY);
	wh_future sending =
		wh_send_all(loop, fds[0], big, sizeof big); /* a receive does not stand in its way */
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	assert_false(wh_done(sending));
	struct iovec iov = {b, 1};
	assert_int_equal(wh_await(wh_send(loop, fds[0], b, 1)).n, -EBUSY);
	assert_int_equal(wh_await(wh_sendv_all(loop, fds[0], &iov, 1)).n, -EBUSY);
	assert_int_equal(wh_await(wh_send_all(loop, fds[1], "hey", 3)).n, 3);
	assert_int_equal(wh_await(receiving).n, 3);
	assert_int_equal(wh_await(wh_deadline(wh_recv(loop, fds[0], a, 1), 0)).n,
	                 -ETIMEDOUT); /* free again */
	wh_cancel(sending);
	assert_int_equal(wh_await(sending).n, -ECANCELED);
	close_fd(fds[0]);
	close_fd(fds[1]);
}

static void cancelling(void **state)
{
	int fds[2];
	char buf[8];
	struct sockaddr_in address;
	int listener = listen_tcp(&address);
	make_pair(fds);
	for (int turned = 0; turned < 2; turned++) {
		wh_future fs[] = {wh_recv(loop, fds[0], buf, 1), wh_accept(loop, listener),
		                  wh_recv_buf(loop, fds[1]), wh_ready(loop, fds[0], POLLIN)};
		if (turned)
			assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
		for (size_t i = 0; i < 4; i++)
			wh_cancel(fs[i]);
		for (size_t i = 0; i < 4; i++)
			wh_cancel(fs[i]);
		for (size_t i = 0; i < 4; i++)
			assert_int_equal(wh_await(fs[i]).n, -ECANCELED);
	}
	/* nothing was lost by it */
	assert_int_equal(wh_await(wh_send_all(loop, fds[1], "z", 1)).n, 1);
	assert_int_equal(wh_await(wh_recv(loop, fds[0], buf, 8)).n, 1);
	assert_int_equal(buf[0], 'z');
	close_fd(fds[0]);
	close_fd(fds[1]);
	close_fd(listener);
}

static void cancelled_or_whole(void **state)
{
	/* data and cancel at the same time: one completion, and no byte is lost */
	int fds[2];
	char byte, next = 0;
	int received = 0, cancelled = 0;
	make_pair(fds);
	for (int i = 0; i < 200; i++) {
		char out = (char)i;
		wh_future f = wh_recv(loop, fds[0], &byte, 1);
		if (i % 3 == 0)
			assert_int_equal(wh_loop_turn(loop, 0), 0);
		assert_int_equal(write(fds[1], &out, 1), 1);
		if (i % 3 == 1)
			assert_int_equal(wh_loop_turn(loop, 0), 0);
		wh_cancel(f);
		int64_t n = wh_await(f).n;
		if (n == -ECANCELED) {
			cancelled++;
			n = wh_await(wh_recv(loop, fds[0], &byte, 1)).n;
		} else {
			received++;
		}
		assert_int_equal(n, 1);
		assert_int_equal(byte, next++);
	}
	assert_int_equal(received + cancelled, 200);
	close_fd(fds[0]);
	close_fd(fds[1]);
}

static void closing_cancels_what_is_on_the_descriptor(void **state)
{
	int fds[2];
	char buf[8];
	static char big[8000000];
	struct sockaddr_in address;
	for (int turned = 0; turned < 2; turned++) {
		int listener = listen_tcp(&address);
		struct seen closed = {0};
		struct stat before, after;
		make_pair(fds);
		bool known = fstat(fds[0], &before) == 0; /* not by the simulated machine's number */
		wh_future fs[] = {wh_recv(loop, fds[0], buf, 1), wh_send_all(loop, fds[0], big, sizeof big),
		                  wh_ready(loop, fds[0], POLLIN), wh_accept(loop, listener),
		                  wh_accept(loop, listener)};
		if (turned)
			assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
		assert_int_equal(wh_then(wh_close(loop, fds[0]), note, &closed), 0);
		assert_int_equal(wh_then(wh_close(loop, listener), note, &closed), 0);
		wh_future late = wh_recv(loop, fds[0], buf, 1), twice = wh_close(loop, fds[0]);
		run_until(&closed.count, 2);
		for (size_t i = 0; i < 5; i++) {
			assert_true(wh_done(fs[i])); /* before the close */
			assert_int_equal(wh_await(fs[i]).n, -ECANCELED);
		}
		assert_int_equal(closed.last.n, 0);
		assert_int_equal(wh_await(late).n, -EBADF);
		assert_int_equal(wh_await(twice).n, -EBADF);
		/* closed; the number may be the engine's by now */
		assert_true(!known || fstat(fds[0], &after) < 0 || after.st_ino != before.st_ino ||
		            after.st_dev != before.st_dev);
		assert_int_equal(wh_await(wh_recv(loop, fds[1], big, sizeof big)).n >= 0, 1);
		close_fd(fds[1]);
	}
}

static void numbers_are_used_again(void **state)
{
	/* a closed number comes back as another socket at once: nothing of the old one sticks */
	char buf[8];
	for (int i = 0; i < 100; i++) {
		int fds[2];
		i % 2 ? make_tcp(fds) : make_pair(fds);
		wh_future f = wh_recv(loop, fds[0], buf, sizeof buf);
		if (i % 3 == 0) {
			assert_int_equal(wh_await(wh_send_all(loop, fds[1], "abc", 3)).n, 3);
			assert_int_equal(wh_await(f).n, 3);
			f = wh_recv(loop, fds[0], buf, sizeof buf);
		}
		assert_int_equal(wh_loop_turn(loop, 0), 0);
		close_fd(fds[i % 2]);
		int64_t n = wh_await(f).n;
		assert_int_equal(n, i % 2 ? 0 : -ECANCELED);
		close_fd(fds[1 - i % 2]);
	}
}

static void a_number_closed_behind_our_back(void **state)
{
	/* not allowed for what operations were started on, but foreign descriptors come and go */
	char buf[8];
	for (int i = 0; i < 20; i++) {
		int fds[2];
		make_pair(fds);
		wh_future f = wh_ready(loop, fds[0], POLLIN);
		assert_int_equal(wh_loop_turn(loop, 0), 0);
		assert_false(wh_done(f));
		assert_int_equal(write(fds[1], "x", 1), 1);
		assert_int_equal(wh_await(f).n, POLLIN);
		assert_int_equal(read(fds[0], buf, 1), 1);
		close(fds[0]);
		close(fds[1]);
	}
	for (int i = 0; i < 20; i++) {
		/* and numbers that we hand out ourselves start afresh */
		struct sockaddr_in address;
		int listener = listen_tcp(&address);
		wh_future accepted = wh_accept(loop, listener);
		int a = (int)wh_await(wh_connect(loop, (struct sockaddr *)&address, sizeof address)).n;
		int b = (int)wh_await(accepted).n;
		wh_future f = wh_recv(loop, b, buf, sizeof buf);
		assert_int_equal(wh_await(wh_send_all(loop, a, "y", 1)).n, 1);
		assert_int_equal(wh_await(f).n, 1);
		close(a);
		close(b);
		close(listener);
	}
}

static void accepting(void **state)
{
	enum { CONNECTIONS = 20 };
	struct sockaddr_in address;
	int listener = listen_tcp(&address), before = open_fd_count();
	wh_future accepts[CONNECTIONS], connects[CONNECTIONS];
	for (int i = 0; i < CONNECTIONS; i++)
		accepts[i] = wh_accept(loop, listener);
	for (int i = 0; i < CONNECTIONS; i++)
		connects[i] = wh_connect(loop, (struct sockaddr *)&address, sizeof address);
	for (int i = 0; i < CONNECTIONS; i++) {
		wh_res a = wh_await(accepts[i]), c = wh_await(connects[i]);
		assert_true(a.n >= 0 && c.n >= 0);
		close_fd((int)a.n);
		close_fd((int)c.n);
	}
	/* one that nobody takes is closed */
	wh_future accepted = wh_accept(loop, listener);
	wh_future connected = wh_connect(loop, (struct sockaddr *)&address, sizeof address);
	while (!wh_done(accepted) || !wh_done(connected))
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	assert_int_equal(wh_drop(accepted), 0);
	assert_int_equal(wh_drop(connected), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before);
	assert_int_equal(wh_drop(wh_accept(loop, listener)), 0); /* pending: cancelled */
	assert_int_equal(wh_loop_run(loop), 0);
	close_fd(listener);
	int file = make_file("not a socket");
	assert_int_equal(wh_await(wh_accept(loop, file)).n, -ENOTSOCK);
	close_fd(file);
}

static void a_listener_that_blocks(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(listener, 16), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	for (int i = 0; i < 3; i++) {
		wh_future accepted = wh_accept(loop, listener);
		assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
		int a = (int)wh_await(wh_connect(loop, (struct sockaddr *)&address, sizeof address)).n;
		int b = (int)wh_await(accepted).n;
		assert_true(a >= 0 && b >= 0);
		close_fd(a);
		close_fd(b);
	}
	close_fd(listener);
}

static void connecting_fails(void **state)
{
	struct sockaddr_in address;
	int before = open_fd_count();
	int listener = listen_tcp(&address);
	close_fd(listener); /* nobody listens there now */
	assert_int_equal(wh_await(wh_connect(loop, (struct sockaddr *)&address, sizeof address)).n,
	                 -ECONNREFUSED);
	struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/tmp/whilst-nobody-listens-here"};
	assert_int_equal(wh_await(wh_connect(loop, (struct sockaddr *)&local, sizeof local)).n, -ENOENT);
	assert_int_equal(wh_await(wh_connect(loop, NULL, 5)).n, -EINVAL);
	assert_int_equal(wh_await(wh_connect(loop, (struct sockaddr *)&local, 1)).n, -EINVAL);
	assert_int_equal(wh_await(wh_connect(loop, (struct sockaddr *)&local, 100000)).n, -EINVAL);
	/* a full backlog does not answer: cancelled, and timed out */
	struct wh_listen_options options = {.backlog = 1};
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof address;
	listener = wh_listen(loop, (struct sockaddr *)&any, sizeof any, &options);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	wh_future fs[6];
	for (int i = 0; i < 6; i++)
		fs[i] = wh_connect(loop, (struct sockaddr *)&address, sizeof address);
	assert_int_equal(wh_loop_turn(loop, 5 * WH_NS_PER_MS), 0);
	wh_future limited = wh_deadline(wh_connect(loop, (struct sockaddr *)&address, sizeof address),
	                                wh_clock(loop) + 2 * WH_NS_PER_MS);
	assert_int_equal(wh_await(limited).n, -ETIMEDOUT);
	wh_future unanswered = wh_connect(loop, (struct sockaddr *)&address, sizeof address);
	wh_cancel(unanswered);
	assert_int_equal(wh_await(unanswered).n, -ECANCELED);
	for (int i = 0; i < 6; i++) {
		wh_cancel(fs[i]);
		int64_t n = wh_await(fs[i]).n;
		if (n >= 0)
			close_fd((int)n);
		else
			assert_int_equal(n, -ECANCELED);
	}
	close_fd(listener);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before);
}

static void unix_sockets(void **state)
{
	char directory[] = "/tmp/whilst-unix-XXXXXX";
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;
	char buf[4];
	assert_non_null(mkdtemp(directory));
	snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", directory);
	const struct sockaddr *generic = (const struct sockaddr *)&address;
	int listener = wh_listen(loop, generic, sizeof address, NULL);
	assert_true(listener >= 0);
	assert_int_equal(stat(address.sun_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(wh_listen(loop, generic, sizeof address, NULL), -EADDRINUSE);
	close_fd((int)wh_await(wh_accept(loop, listener)).n); /* that was a look whether somebody listens */
	wh_future accepted = wh_accept(loop, listener);
	int a = (int)wh_await(wh_connect(loop, generic, sizeof address)).n, b = (int)wh_await(accepted).n;
	assert_int_equal(wh_await(wh_send_all(loop, a, "u", 1)).n, 1);
	assert_int_equal(wh_await(wh_recv(loop, b, buf, 4)).n, 1);
	close_fd(a);
	close_fd(b);
	close_fd(listener);
	/* the file is still there, and nobody listens: replaced */
	struct wh_listen_options options = {.unix_mode = 0660};
	assert_int_equal(wh_await(wh_connect(loop, generic, sizeof address)).n, -ECONNREFUSED);
	listener = wh_listen(loop, generic, sizeof address, &options);
	assert_true(listener >= 0);
	assert_int_equal(stat(address.sun_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	close_fd(listener);
	/* anything else is not */
	unlink(address.sun_path);
	close(open(address.sun_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_int_equal(wh_listen(loop, generic, sizeof address, NULL), -EADDRINUSE);
	unlink(address.sun_path);
	rmdir(directory);
	/* more connections at once than the backlog holds: they wait their turn */
	strcpy(address.sun_path, "");
	address.sun_path[1] = 'w'; /* abstract */
	snprintf(address.sun_path + 2, sizeof address.sun_path - 2, "%d", (int)getpid());
	options = (struct wh_listen_options){.backlog = 2};
	listener = wh_listen(loop, generic, sizeof address, &options);
	assert_true(listener >= 0);
	wh_future connects[30];
	for (int i = 0; i < 30; i++)
		connects[i] = wh_connect(loop, generic, sizeof address);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	for (int i = 0; i < 30; i++)
		close_fd((int)wh_await(wh_accept(loop, listener)).n);
	for (int i = 0; i < 30; i++)
		close_fd((int)wh_await(connects[i]).n);
	/* given up while it waits */
	for (int i = 0; i < 5; i++)
		connects[i] = wh_connect(loop, generic, sizeof address);
	assert_int_equal(wh_loop_turn(loop, 2 * WH_NS_PER_MS), 0);
	wh_cancel(connects[4]);
	assert_int_equal(wh_await(connects[4]).n, -ECANCELED);
	for (int i = 0; i < 4; i++)
		assert_int_equal(wh_drop(connects[i]), 0);
	close_fd(listener);
}

static void listening_fails(void **state)
{
	struct sockaddr_in address;
	int fd = listen_tcp(&address);
	assert_int_equal(wh_listen(loop, (struct sockaddr *)&address, sizeof address, NULL), -EADDRINUSE);
	assert_int_equal(wh_listen(loop, NULL, 0, NULL), -EINVAL);
	struct wh_listen_options options = {.reuse_port = true};
	address.sin_port = 0;
	socklen_t len = sizeof address;
	int first = wh_listen(loop, (struct sockaddr *)&address, sizeof address, &options);
	assert_int_equal(getsockname(first, (struct sockaddr *)&address, &len), 0);
	int second = wh_listen(loop, (struct sockaddr *)&address, sizeof address, &options);
	assert_true(first >= 0 && second >= 0);
	close_fd(fd);
	close_fd(first);
	close_fd(second);
}

static void pooled_buffers(void **state)
{
	struct wh_loop_options options = {.buffer_bytes = 100, .buffers_max = 2};
	int fds[2];
	wh_loop *common = loop;
	assert_int_equal(wh_loop_open(&loop, &options), 0);
	make_pair(fds);
	struct wh_buf *a = wh_buf_get(loop);
	assert_non_null(a);
	assert_int_equal(a->len, 0);
	assert_int_equal(a->cap, 100);
	/* the content may be cut by its user */
	a->data += 10;
	a->cap -= 10;
	a->len = 5;
	assert_null(wh_buf_put(a));
	assert_null(wh_buf_put(NULL));
	char bytes[250];
	memset(bytes, 'b', sizeof bytes);
	assert_int_equal(wh_await(wh_send_all(loop, fds[0], bytes, sizeof bytes)).n, 250);
	wh_res first = wh_await(wh_recv_buf(loop, fds[1])), second = wh_await(wh_recv_buf(loop, fds[1]));
	struct wh_buf *buf = first.ptr;
	assert_int_equal(first.n, 100);
	assert_int_equal(second.n, 100);
	assert_int_equal(buf->len, 100);
	assert_int_equal(buf->data[99], 'b');
	assert_null(wh_buf_get(loop)); /* both are out */
	assert_int_equal(wh_await(wh_recv_buf(loop, fds[1])).n, -ENOBUFS);
	wh_buf_put(first.ptr);
	wh_res third = wh_await(wh_recv_buf(loop, fds[1]));
	assert_int_equal(third.n, 50);
	/* an idle connection holds none */
	wh_buf_put(second.ptr);
	wh_buf_put(third.ptr);
	wh_future idle = wh_recv_buf(loop, fds[1]);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	a = wh_buf_get(loop);
	assert_non_null(a);
	wh_buf_put(a);
	assert_int_equal(wh_drop(idle), 0);
	assert_int_equal(wh_loop_run(loop), 0); /* it has ended: there may be another */
	/* dropped with data in it: the buffer comes back */
	for (int i = 0; i < 5; i++) {
		wh_future f = wh_recv_buf(loop, fds[1]);
		assert_int_equal(write(fds[0], "c", 1), 1);
		while (!wh_done(f))
			assert_int_equal(wh_loop_turn(loop, -1), 0);
		assert_int_equal(wh_drop(f), 0);
	}
	wh_future reset = wh_recv_buf(loop, fds[1]);
	close_fd(fds[1]);
	wh_res res = wh_await(reset);
	assert_int_equal(res.n, -ECANCELED);
	assert_null(res.ptr);
	close_fd(fds[0]);
	struct wh_buf *outlives = wh_buf_get(loop);
	wh_loop_close(loop);
	wh_buf_put(outlives);
	loop = common;
}

static void readiness(void **state)
{
	int fds[2];
	char buf[8];
	make_pair(fds);
	assert_int_equal(wh_await(wh_ready(loop, fds[0], POLLOUT)).n, POLLOUT);
	assert_int_equal(wh_await(wh_ready(loop, fds[0], POLLIN | POLLOUT)).n, POLLOUT);
	wh_future both = wh_ready(loop, fds[0], POLLIN), again = wh_ready(loop, fds[0], POLLIN);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	assert_false(wh_done(both) || wh_done(again));
	assert_int_equal(wh_await(wh_send_all(loop, fds[1], "x", 1)).n, 1);
	assert_int_equal(wh_await(both).n, POLLIN);
	assert_int_equal(wh_await(again).n, POLLIN);
	assert_int_equal(wh_await(wh_ready(loop, fds[0], POLLIN)).n, POLLIN); /* level: it still is */
	assert_int_equal(read(fds[0], buf, 8), 1);
	/* read by somebody else, in part: what is left is seen */
	wh_future f = wh_ready(loop, fds[0], POLLIN);
	assert_int_equal(write(fds[1], "abc", 3), 3);
	assert_int_equal(wh_await(f).n, POLLIN);
	assert_int_equal(read(fds[0], buf, 1), 1);
	assert_int_equal(wh_await(wh_ready(loop, fds[0], POLLIN)).n, POLLIN);
	assert_int_equal(wh_await(wh_recv(loop, fds[0], buf, 8)).n, 2);
	close_fd(fds[1]);
	assert_true(wh_await(wh_ready(loop, fds[0], POLLIN)).n & POLLHUP);
	assert_int_equal(wh_await(wh_ready(loop, fds[0], 0)).n, -EINVAL);
	close_fd(fds[0]);
	assert_int_equal(wh_await(wh_ready(loop, fds[0], POLLIN)).n, -EBADF);
	int file = make_file("always ready");
	assert_true(wh_await(wh_ready(loop, file, POLLIN)).n & POLLIN);
	close_fd(file);
}

static void errors_of_sockets(void **state)
{
	char byte = 0;
	struct iovec iov[17] = {{&byte, 1}};
	int file = make_file("file"), fds[2];
	make_pair(fds);
	const wh_future bad[] = {wh_recv(loop, -1, &byte, 1),          wh_recv_buf(loop, -1),
	                         wh_send(loop, -1, &byte, 1),          wh_send_all(loop, -1, &byte, 1),
	                         wh_sendv_all(loop, -1, iov, 1),       wh_accept(loop, -1),
	                         wh_ready(loop, -1, POLLIN),           wh_recv(loop, 9999999, &byte, 1),
	                         wh_send_all(loop, 9999999, &byte, 1), wh_accept(loop, 9999999)};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(wh_await(bad[i]).n, -EBADF);
	assert_int_equal(wh_await(wh_recv(loop, file, &byte, 1)).n, -ENOTSOCK);
	assert_int_equal(wh_await(wh_recv_buf(loop, file)).n, -ENOTSOCK);
	assert_int_equal(wh_await(wh_send_all(loop, file, &byte, 1)).n, -ENOTSOCK);
	assert_int_equal(wh_await(wh_sendv_all(loop, file, iov, 1)).n, -ENOTSOCK);
	assert_int_equal(wh_await(wh_recv(loop, fds[0], NULL, 1)).n, -EINVAL);
	assert_int_equal(wh_await(wh_send_all(loop, fds[0], NULL, 1)).n, -EINVAL);
	assert_int_equal(wh_await(wh_sendv_all(loop, fds[0], NULL, 1)).n, -EINVAL);
	assert_int_equal(wh_await(wh_sendv_all(loop, fds[0], iov, 0)).n, -EINVAL);
	assert_int_equal(wh_await(wh_sendv_all(loop, fds[0], iov, 17)).n, -EINVAL);
	assert_int_equal(wh_await(wh_accept(loop, fds[0])).n, -EINVAL);
	assert_int_equal(wh_shutdown(loop, -1, SHUT_WR), -EBADF);
	int idle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(wh_await(wh_recv(loop, idle, &byte, 1)).n, -ENOTCONN);
	close_fd(idle);
	close_fd(file);
	close_fd(fds[0]);
	close_fd(fds[1]);
}

static void sockets_that_block(void **state)
{
	int fds[2];
	char buf[8];
	static char big[4000000], in[4000000];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	wh_future f = wh_recv(loop, fds[0], buf, sizeof buf);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	assert_false(wh_done(f));
	assert_int_equal(wh_await(wh_send_all(loop, fds[1], "q", 1)).n, 1);
	assert_int_equal(wh_await(f).n, 1);
	wh_future sending = wh_send_all(loop, fds[1], big, sizeof big);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	assert_false(wh_done(sending));
	for (size_t got = 0; got < sizeof in;)
		got += (size_t)wh_await(wh_recv(loop, fds[0], in, sizeof in)).n;
	assert_int_equal(wh_await(sending).n, sizeof big);
	close_fd(fds[0]);
	close_fd(fds[1]);
}

static void datagrams_keep_their_bounds(void **state)
{
	int fds[2];
	char buf[16];
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	wh_future f = wh_recv(loop, fds[0], buf, sizeof buf);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wh_await(wh_send(loop, fds[1], "abcdef", (size_t)i + 1)).n, i + 1);
	assert_int_equal(wh_await(f).n, 1);
	assert_int_equal(wh_await(wh_recv(loop, fds[0], buf, sizeof buf)).n,
	                 2); /* a short one says nothing */
	assert_int_equal(wh_await(wh_recv(loop, fds[0], buf, sizeof buf)).n, 3);
	close_fd(fds[0]);
	close_fd(fds[1]);
}

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
	signals++;
}

static void interruptions_are_not_seen(void **state)
{
	struct sigaction action = {.sa_handler = count_signal}, before; /* no SA_RESTART */
	int fds[2];
	char byte;
	assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
	make_pair(fds);
	wh_future f = wh_recv(loop, fds[0], &byte, 1);
	ualarm(2000, 2000);
	signals = 0;
	while (signals < 5)
		assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	assert_int_equal(wh_await(wh_sleep(loop, 5 * WH_NS_PER_MS)).n, 0);
	assert_false(wh_done(f));
	assert_int_equal(wh_await(wh_send_all(loop, fds[1], "k", 1)).n, 1);
	assert_int_equal(wh_await(f).n, 1);
	ualarm(0, 0);
	sigaction(SIGALRM, &before, NULL);
	close_fd(fds[0]);
	close_fd(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_LOOP(bytes_go_both_ways),
		ON_LOOP(made_descriptors_do_not_block_nor_leak),
		ON_LOOP(an_end_is_zero_even_right_behind_data),
		ON_LOOP(the_end_comes_to_who_waits),
		ON_LOOP(a_reset_is_an_error),
		ON_LOOP(all_is_all),
		ON_LOOP(one_of_each_at_a_time),
		ON_LOOP(cancelling),
		ON_LOOP(cancelled_or_whole),
		ON_LOOP(closing_cancels_what_is_on_the_descriptor),
		ON_LOOP(numbers_are_used_again),
		ON_LOOP(a_number_closed_behind_our_back),
		ON_LOOP(accepting),
		ON_LOOP(a_listener_that_blocks),
		ON_LOOP(connecting_fails),
		ON_LOOP(unix_sockets),
		ON_LOOP(listening_fails),
		ON_LOOP(pooled_buffers),
		ON_LOOP(readiness),
		ON_LOOP(errors_of_sockets),
		ON_LOOP(sockets_that_block),
		ON_LOOP(datagrams_keep_their_bounds),
		ON_LOOP(interruptions_are_not_seen),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
