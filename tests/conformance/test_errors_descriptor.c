/* tests/conformance/test_errors_descriptor.c -- errors of what takes a descriptor, as tables: the same on every engine.
 *
 * Each operation, with each kind of descriptor that does not suit; and each that may wait for ever, ended in each way.
 */
#include "errors_tables.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

static void make_kinds(int kinds[6], int pipe_ends[2])
{
	kinds[0] = open_in("file", O_RDONLY);
	kinds[1] = open_in("file", O_WRONLY);
	kinds[2] = open_in(".", O_RDONLY | O_DIRECTORY);
	assert_int_equal(wh_pipe(loop, pipe_ends), 0);
	kinds[3] = pipe_ends[0];
	kinds[4] = pipe_ends[1];
	kinds[5] = wh_socket(loop, AF_INET, SOCK_STREAM, 0);
}

static void descriptors_that_do_not_suit(void **state)
{
	static const char *const what[] = {"read only", "write only",    "directory",
	                                   "pipe",      "pipe to write", "socket"};
	write_file("file", "some bytes");
	write_file("other", "other bytes");
	other_file = open_in("other", O_RDWR);
	int closed = a_closed_number();
	/* an address where nobody listens */
	socklen_t len = sizeof nobody;
	int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	nobody.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	nobody.sin_port = 0;
	assert_int_equal(bind(probe, (struct sockaddr *)&nobody, sizeof nobody), 0);
	assert_int_equal(getsockname(probe, (struct sockaddr *)&nobody, &len), 0);
	wrong = 0;
	for (size_t i = 0; i < ON_FD_COUNT; i++) {
		int kinds[6], ends[2];
		const int *expected = &on_fd[i].read_only;
		judge(on_fd[i].name, "negative", wh_await(on_fd[i].start(loop, -1)).n, -EBADF);
		judge(on_fd[i].name, "closed", wh_await(on_fd[i].start(loop, closed)).n, -EBADF);
		judge(on_fd[i].name, "absurd", wh_await(on_fd[i].start(loop, INT32_MAX)).n, -EBADF);
		make_kinds(kinds, ends);
		for (int k = 0; k < 6; k++)
			if (expected[k] != 0)
				judge(on_fd[i].name, what[k], wh_await(on_fd[i].start(loop, kinds[k])).n,
				      -expected[k]);
		for (int k = 0; k < 6; k++)
			close_fd(kinds[k]);
	}
	for (size_t i = 0; i < AT_ONCE_COUNT; i++) {
		int kinds[6], ends[2];
		const int *expected = &at_once[i].read_only;
		option_len = sizeof(int);
		judge(at_once[i].name, "negative", at_once[i].call(loop, -1), -EBADF);
		judge(at_once[i].name, "closed", at_once[i].call(loop, closed), -EBADF);
		make_kinds(kinds, ends);
		for (int k = 0; k < 6; k++)
			if (expected[k] != 0)
				judge(at_once[i].name, what[k], at_once[i].call(loop, kinds[k]),
				      -expected[k]);
		for (int k = 0; k < 6; k++)
			close_fd(kinds[k]);
	}
	is_now(wh_close_now(loop, -1), -EBADF);
	close(probe);
	close_fd(other_file);
	assert_int_equal(wrong, 0);
}

static void arguments_that_are_wrong(void **state)
{
	int fd = open_in("file", O_RDWR | O_CREAT), fds[2];
	make_pair(fds);
	wrong = 0;
	is(wh_pread(loop, fd, NULL, 1, 0), -EINVAL);
	is(wh_pread(loop, fd, bytes, 1, UINT64_MAX), -EINVAL);
	is(wh_pwrite_all(loop, fd, bytes, 1, UINT64_C(1) << 63), -EINVAL);
	is(wh_pread_all(loop, fd, bytes, 1, UINT64_MAX), -EINVAL);
	is(wh_pread_buf(loop, fd, UINT64_MAX), -EINVAL);
	is(wh_preadv(loop, fd, &vector, 1, UINT64_MAX), -EINVAL);
	is(wh_preadv_all(loop, fd, &vector, 1, UINT64_MAX), -EINVAL);
	is(wh_pwrite(loop, fd, bytes, 1, UINT64_MAX), -EINVAL);
	is(wh_pwritev(loop, fd, &vector, 1, UINT64_MAX), -EINVAL);
	is(wh_pwritev_all(loop, fd, &vector, 1, UINT64_MAX), -EINVAL);
	is(wh_append_durable(loop, fd, bytes, 1, UINT64_MAX), -EINVAL);
	is_now(wh_pread_blocking(loop, fd, bytes, 1, UINT64_MAX), -EINVAL);
	is_now(wh_pwrite_blocking(loop, fd, bytes, 1, UINT64_MAX), -EINVAL);
	is_now(wh_pwritev_blocking(loop, fd, &vector, 1, UINT64_MAX), -EINVAL);
	is(wh_truncate(loop, fd, UINT64_MAX), -EINVAL);
	is(wh_allocate(loop, fd, 0, 0), -EINVAL);
	is(wh_allocate(loop, fd, UINT64_MAX, 1), -EINVAL);
	is(wh_allocate(loop, fd, INT64_MAX, 1), -EFBIG);
	is(wh_allocate_mode(loop, fd, 1 << 20, 0, 1), -EOPNOTSUPP);
	is(wh_recv(loop, fds[0], NULL, 1), -EINVAL);
	is(wh_sendv_all(loop, fds[0], NULL, 1), -EINVAL);
	is(wh_sendv_all(loop, fds[0], &vector, 0), -EINVAL);
	is(wh_sendv_all(loop, fds[0], &vector, 17), -EINVAL);
	is(wh_readv(loop, fds[0], &vector, 17), -EINVAL);
	is(wh_writev_all(loop, fds[0], &vector, 0), -EINVAL);
	is(wh_ready(loop, fds[0], 0), -EINVAL);
	is(wh_connect(loop, NULL, 0), -EINVAL);
	is(wh_connect(loop, (struct sockaddr *)&nobody, 1), -EINVAL);
	is(wh_connect(loop, (struct sockaddr *)&nobody, 1000), -EINVAL);
	is(wh_accept_from(loop, fds[0], &peer, NULL), -EINVAL);
	is(wh_child_wait(loop, -1), -EINVAL);
	is(wh_signal(loop, SIGKILL), -EINVAL);
	is(wh_signal(loop, 0), -EINVAL);
	is(wh_work(loop, NULL, NULL), -EINVAL);
	assert_int_equal(wrong, 0);
	close_fd(fds[0]);
	close_fd(fds[1]);
	close_fd(fd);
}

/* ---- waits ---------------------------------------------------------------------------------- */

struct place {
	int fd, other; /* -1: none */
	bool is_full;  /* nothing can be written */
};

/* false: it was full. */
static bool fill(int fd)
{
	bool is_written = false;
	int flags = fcntl(fd, F_GETFL);
	assert_int_equal(fcntl(fd, F_SETFL, flags | O_NONBLOCK), 0);
	while (write(fd, bytes, sizeof bytes) > 0 || write(fd, bytes, 1) > 0)
		is_written = true;
	assert_int_equal(fcntl(fd, F_SETFL, flags), 0);
	return is_written;
}

/* On a busy machine a kernel thread delivers what was sent, and there is room again: so until nothing is under way any more
 * (or two seconds, since what the receiver has dropped is sent again and again). */
static void fill_tcp(int fd)
{
	int64_t end = wh_clock(loop) + 2 * WH_NS_PER_S;
	while (fill(fd)) {
		int kept = 0, unsent = 0;
		do {
			assert_int_equal(ioctl(fd, SIOCOUTQ, &kept), 0);
			assert_int_equal(ioctl(fd, SIOCOUTQNSD, &unsent), 0);
		} while (kept != unsent && wh_clock(loop) < end);
	}
}

static struct place empty_pipe(void)
{
	int ends[2];
	assert_int_equal(wh_pipe(loop, ends), 0);
	return (struct place){ends[0], ends[1], false};
}

static struct place full_pipe(void)
{
	struct place place = empty_pipe();
	fill(place.other);
	return (struct place){place.other, place.fd, true};
}

static struct place empty_socket(void)
{
	int fds[2];
	make_pair(fds);
	return (struct place){fds[0], fds[1], false};
}

static struct place full_socket(void)
{
	struct place place = empty_socket();
	fill(place.fd);
	place.is_full = true;
	return place;
}

/* For sendfile(2), which before Linux 6.5 put a little more into a full UNIX socket. A peer that closes it resets it. */
static struct place full_tcp(void)
{
	int fds[2];
	make_tcp(fds);
	fill_tcp(fds[0]);
	return (struct place){fds[0], fds[1], false};
}

static struct place listener(void)
{
	struct sockaddr_in address;
	return (struct place){listen_tcp(&address), -1, false};
}

static struct place empty_datagram(void)
{
	int fds[2];
	assert_int_equal(wh_socket_pair(loop, SOCK_DGRAM, fds), 0);
	return (struct place){fds[0], fds[1], false};
}

static const struct waits {
	const char *name;
	struct place (*make)(void);
	wh_future (*start)(wh_loop *l, int fd);
} waits[] = {
	{"read", empty_pipe, read_on},
	{"readv", empty_pipe, readv_on},
	{"read of a socket", empty_socket, read_on},
	{"write", full_pipe, write_on},
	{"write_all", full_pipe, write_all_on},
	{"writev_all", full_pipe, writev_all_on},
	{"accept", listener, accept_on},
	{"accept_from", listener, accept_from_on},
	{"recv", empty_socket, recv_on},
	{"recv_all", empty_socket, recv_all_on},
	{"peek", empty_socket, peek_on},
	{"recvv", empty_socket, recvv_on},
	{"recv_buf", empty_socket, recv_buf_on},
	{"recv_from", empty_datagram, recv_from_on},
	{"recv_message", empty_datagram, recv_message_on},
	{"send", full_socket, send_on},
	{"send_all", full_socket, send_all_on},
	{"sendv_all", full_socket, sendv_all_on},
	{"send_to", full_socket, send_to_on},
	{"send_message", full_socket, send_message_on},
	{"send_file", full_tcp, send_file_on},
	{"ready", empty_socket, ready_on},
};

static void close_place(struct place place)
{
	close_fd(place.fd);
	if (place.other >= 0)
		close_fd(place.other);
}

static wh_future start_waiting(const struct waits *w, struct place *ret)
{
	*ret = w->make();
	wh_future f = w->start(loop, ret->fd);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wh_loop_turn(loop, i == 2 ? 100 * WH_NS_PER_US : 0), 0);
	if (wh_done(f))
		judge(w->name, "does not wait", wh_await(f).n, 0);
	return f;
}

static void waits_that_end(void **state)
{
	struct place place;
	wh_future f;
	write_file("other", "other bytes");
	other_file = open_in("other", O_RDWR);
	wrong = 0;
	for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
		const struct waits *w = &waits[i];
		f = start_waiting(w, &place);
		wh_cancel(f);
		judge(w->name, "cancelled", wh_await(f).n, -ECANCELED);
		judge(w->name, "consumed twice", wh_await(f).n, -ESTALE);
		close_place(place);
		f = start_waiting(w, &place);
		judge(w->name, "too late", wh_await(wh_deadline(f, wh_now(loop))).n, -ETIMEDOUT);
		close_place(place);
		f = start_waiting(w, &place);
		close_fd(place.fd);
		judge(w->name, "closed", wh_await(f).n, -ECANCELED);
		judge(w->name, "closed before", wh_await(w->start(loop, place.fd)).n, -EBADF);
		if (place.other >= 0)
			close_fd(place.other);
		if (place.is_full) { /* the reader goes */
			f = start_waiting(w, &place);
			close_fd(place.other);
			judge(w->name, "nobody reads", wh_await(f).n, -EPIPE);
			close_fd(place.fd);
		}
		(void)start_waiting(w, &place);
		wh_loop_close(loop);
		assert_int_equal(wh_loop_open(&loop, NULL), 0);
		close(place.fd);
		close(place.other);
	}
	assert_int_equal(wrong, 0);
	close_fd(other_file);
}

static void one_at_a_time(void **state)
{
	struct place place = empty_socket();
	wrong = 0;
	wh_future f = wh_recv(loop, place.fd, bytes, 1);
	is(wh_recv(loop, place.fd, bytes, 1), -EBUSY);
	is(wh_recv_all(loop, place.fd, bytes, 1), -EBUSY);
	is(wh_recv_buf(loop, place.fd), -EBUSY);
	is(wh_peek(loop, place.fd, bytes, 1), -EBUSY);
	is(wh_recvv(loop, place.fd, &vector, 1), -EBUSY);
	wh_cancel(f);
	is(f, -ECANCELED);
	close_place(place);
	place = full_socket();
	f = wh_send(loop, place.fd, bytes, 1);
	is(wh_send(loop, place.fd, bytes, 1), -EBUSY);
	is(wh_send_all(loop, place.fd, bytes, 1), -EBUSY);
	is(wh_sendv_all(loop, place.fd, &vector, 1), -EBUSY);
	assert_int_equal(wh_drop(f), -EBUSY); /* it borrows */
	wh_cancel(f);
	is(f, -ECANCELED);
	close_place(place);
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(descriptors_that_do_not_suit),
		IN_FOLDER(arguments_that_are_wrong),
		IN_FOLDER(waits_that_end),
		IN_FOLDER(one_at_a_time),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
