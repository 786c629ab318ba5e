/* bench/peers/ring_ways.c -- what the ways that io_uring has of doing the same cost: accepts and receives asked for one by
 * one or once for all, buffers of one's own or chosen by the kernel, plain descriptors or registered ones.
 *
 * usage: ring_ways SECONDS accept one|first|multishot|tried BURST
 *        ring_ways SECONDS echo own|chosen|multishot|registered CONNECTIONS
 *
 * A child is the client, so that the CPU time measured is the server's: of an accept and a close, or of an echo of 128 bytes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../measure.h"

enum { MESSAGE_BYTES = 128, BUFFER_BYTES = 4096, BUFFERS = 1024, CONNECTIONS_MAX = 2048 };
enum { ACCEPT, RECEIVE, SEND };
enum {
	ACCEPT_POLL_FIRST = 1 << 2
}; /* IORING_ACCEPT_POLL_FIRST of Linux 6.10, which liburing 2.3 does not know */

static struct measure measure;
static struct io_uring ring;
static struct io_uring_buf_ring *chosen_from;
static char *buffers, *own[CONNECTIONS_MAX];
static struct sockaddr_in address = {.sin_family = AF_INET};
static int listener;
static int by_trying, by_polling_first, by_multishot, by_choice, by_registration;

static void check(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		_exit(1);
	}
}

static int dial(void)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
	/* a server that is quick enough resets it before connect() returns */
	check(fd >= 0 &&
	              (connect(fd, (struct sockaddr *)&address, sizeof address) == 0 || errno == ECONNRESET),
	      "connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

/* Connects in bursts, and waits until the server has closed each. */
static void storm(int burst)
{
	int fds[CONNECTIONS_MAX];
	char byte;
	for (;;) {
		for (int i = 0; i < burst; i++)
			fds[i] = dial();
		for (int i = 0; i < burst; i++) {
			(void)!read(fds[i], &byte, 1);
			close(fds[i]);
		}
	}
}

static void talk(int connections)
{
	static char message[MESSAGE_BYTES];
	struct epoll_event events[256], event = {.events = EPOLLIN};
	int set = epoll_create1(0);
	for (int i = 0; i < connections; i++) {
		event.data.fd = dial();
		epoll_ctl(set, EPOLL_CTL_ADD, event.data.fd, &event);
		check(write(event.data.fd, message, sizeof message) == sizeof message, "write");
	}
	for (;;) {
		int n = epoll_wait(set, events, 256, -1);
		for (int i = 0; i < n; i++)
			if (read(events[i].data.fd, message, sizeof message) != sizeof message ||
			    write(events[i].data.fd, message, sizeof message) != sizeof message)
				_exit(0);
	}
}

static struct io_uring_sqe *get_sqe(void)
{
	struct io_uring_sqe *sqe;
	while (!(sqe = io_uring_get_sqe(&ring)))
		io_uring_submit(&ring);
	return sqe;
}

static void tag(struct io_uring_sqe *sqe, int kind, int fd, int buffer)
{
	io_uring_sqe_set_data64(sqe, (uint64_t)kind << 60 | (uint64_t)buffer << 32 | (uint32_t)fd);
	if (by_registration && kind != ACCEPT)
		sqe->flags |= IOSQE_FIXED_FILE;
}

static void start_accept(uint32_t cqe_flags)
{
	struct io_uring_sqe *sqe = get_sqe();
	if (by_trying)
		io_uring_prep_poll_add(sqe, listener, POLLIN | EPOLLEXCLUSIVE);
	else if (by_multishot)
		io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	else
		io_uring_prep_accept(sqe, listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (by_polling_first && !(cqe_flags & IORING_CQE_F_SOCK_NONEMPTY))
		sqe->ioprio |= ACCEPT_POLL_FIRST;
	tag(sqe, ACCEPT, listener, 0);
}

static void start_receive(int fd)
{
	struct io_uring_sqe *sqe = get_sqe();
	if (by_multishot)
		io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
	else
		io_uring_prep_recv(sqe, fd, by_choice ? NULL : own[fd], by_choice ? 0 : BUFFER_BYTES, 0);
	tag(sqe, RECEIVE, fd, 0);
	if (by_choice) {
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = 1;
	}
	sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
}

static void start_send(int fd, int buffer, int len)
{
	struct io_uring_sqe *sqe = get_sqe();
	io_uring_prep_send(sqe, fd, by_choice ? buffers + (size_t)buffer * BUFFER_BYTES : own[fd],
	                   (size_t)len, MSG_NOSIGNAL);
	tag(sqe, SEND, fd, buffer);
}

static void give_buffer(int buffer)
{
	io_uring_buf_ring_add(chosen_from, buffers + (size_t)buffer * BUFFER_BYTES, BUFFER_BYTES,
	                      (unsigned short)buffer, io_uring_buf_ring_mask(BUFFERS), 0);
	io_uring_buf_ring_advance(chosen_from, 1);
}

static void open_buffers(void)
{
	struct io_uring_buf_reg registration = {.ring_entries = BUFFERS, .bgid = 1};
	buffers = aligned_alloc(4096, (size_t)BUFFERS * BUFFER_BYTES);
	chosen_from = aligned_alloc(4096, BUFFERS * sizeof(struct io_uring_buf));
	registration.ring_addr = (uintptr_t)chosen_from;
	check(io_uring_register_buf_ring(&ring, &registration, 0) == 0, "io_uring_register_buf_ring");
	io_uring_buf_ring_init(chosen_from);
	for (int i = 0; i < BUFFERS; i++)
		give_buffer(i);
}

/* One completion of the echo. */
static int echo(const struct io_uring_cqe *cqe)
{
	int kind = (int)(cqe->user_data >> 60), fd = (int)(uint32_t)cqe->user_data;
	int buffer = (int)(cqe->user_data >> 32 & 0xffff);
	int64_t now;
	if (kind == SEND) {
		check(cqe->res == MESSAGE_BYTES, "send");
		if (by_choice)
			give_buffer(buffer);
		if (!by_multishot)
			start_receive(fd);
		return measure_goes_on(&measure, measure.began, &now);
	}
	if (by_multishot && !(cqe->flags & IORING_CQE_F_MORE))
		start_receive(fd);
	check(cqe->res == MESSAGE_BYTES || (by_multishot && cqe->res == -ENOBUFS), "receive");
	if (cqe->res > 0)
		start_send(fd, (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT), cqe->res);
	return 1;
}

/* Readiness tells when to try; what nobody has asked for stays in the listen queue, as it does one by one. */
static int ready(void)
{
	int64_t now;
	int fd, goes_on = 1;
	while (goes_on && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		close(fd);
		goes_on = measure_goes_on(&measure, measure.began, &now);
	}
	if (goes_on)
		start_accept(0);
	return goes_on;
}

static int accepted(const struct io_uring_cqe *cqe)
{
	int64_t now;
	if (by_trying)
		return ready();
	check(cqe->res >= 0, "accept");
	close(cqe->res);
	if (!by_multishot || !(cqe->flags & IORING_CQE_F_MORE))
		start_accept(cqe->flags);
	return measure_goes_on(&measure, measure.began, &now);
}

static void turn_until_over(int (*completed)(const struct io_uring_cqe *))
{
	for (int goes_on = 1; goes_on;) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;
		io_uring_submit_and_wait(&ring, 1);
		io_uring_for_each_cqe(&ring, head, cqe)
		{
			goes_on &= completed(cqe);
			seen++;
		}
		io_uring_cq_advance(&ring, seen);
	}
}

static void take_connections(int count)
{
	int one = 1;
	if (by_registration)
		check(io_uring_register_files_sparse(&ring, CONNECTIONS_MAX) == 0,
		      "io_uring_register_files_sparse");
	for (int i = 0; i < count; i++) {
		int fd = accept(listener, NULL, NULL);
		check(fd >= 0 && fd < CONNECTIONS_MAX, "accept");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		own[fd] = malloc(BUFFER_BYTES);
		if (by_registration)
			check(io_uring_register_files_update(&ring, (unsigned)fd, &fd, 1) == 1,
			      "io_uring_register_files_update");
		start_receive(fd);
	}
}

int main(int argc, char **argv)
{
	struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
	                                          IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
	                                 .cq_entries = 8192};
	struct linger at_once = {
		.l_onoff = 1}; /* inherited: a close resets, and no port waits for two minutes */
	socklen_t len = sizeof address;
	if (argc < 5)
		return 2;
	int many = atoi(argv[4]), accepts = !strcmp(argv[2], "accept");
	by_polling_first = !strcmp(argv[3], "first");
	by_trying = !strcmp(argv[3], "tried");
	by_multishot = !strcmp(argv[3], "multishot");
	by_choice = !accepts && (by_multishot || !strcmp(argv[3], "chosen"));
	by_registration = !strcmp(argv[3], "registered");
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listener = socket(AF_INET, SOCK_STREAM | (by_trying ? SOCK_NONBLOCK : 0), 0);
	setsockopt(listener, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	check(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 &&
	              listen(listener, 4096) == 0 &&
	              getsockname(listener, (struct sockaddr *)&address, &len) == 0,
	      "listen");
	pid_t client = fork();
	if (client == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		accepts ? storm(many) : talk(many);
	}
	check(io_uring_queue_init_params(2048, &ring, &params) == 0, "io_uring_queue_init_params");
	io_uring_register_ring_fd(&ring);
	if (by_choice)
		open_buffers();
	if (accepts)
		start_accept(0);
	else
		take_connections(many);
	measure_begin(&measure, atof(argv[1]));
	turn_until_over(accepts ? accepted : echo);
	measure_end(&measure);
	printf("{\"cpu_us_per_op\": %.4f, \"ops_per_s\": %.1f}\n",
	       (double)(measure.cpu_ended - measure.cpu_began) / 1000 / (double)measure.count,
	       (double)measure.count * 1e9 / (double)(measure.ended - measure.began));
	kill(client, SIGKILL);
	waitpid(client, NULL, 0);
	return 0;
}
