/* bench/peers/echo_uring.c -- the leanest echo server on a raw ring: one-shot receive and send, one buffer
 * for each connection, one submit-and-wait a turn, SINGLE_ISSUER and DEFER_TASKRUN. */
#include "echo.h"

#include <liburing.h>
#include <stdint.h>
#include <string.h>

enum { ACCEPT, RECEIVE, SEND };

static char *buffers[ECHO_CONNECTIONS_MAX];
static struct io_uring ring;

static struct io_uring_sqe *get_sqe(int kind, int fd)
{
	struct io_uring_sqe *sqe;
	while (!(sqe = io_uring_get_sqe(&ring)))
		io_uring_submit(&ring);
	(void)kind;
	(void)fd;
	return sqe;
}

static void receive(int fd)
{
	struct io_uring_sqe *sqe = get_sqe(RECEIVE, fd);
	io_uring_prep_recv(sqe, fd, buffers[fd], ECHO_BUFFER_BYTES, 0);
	sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
	io_uring_sqe_set_data64(sqe, (uint64_t)RECEIVE << 32 | (uint32_t)fd);
}

int main(void)
{
	struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
	                                          IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
	                                 .cq_entries = 8192};
	int listener = echo_listen(0), error = io_uring_queue_init_params(2048, &ring, &params);
	if (error) {
		fprintf(stderr, "echo_uring: %s\n", strerror(-error));
		return 1;
	}
	struct io_uring_sqe *sqe = get_sqe(ACCEPT, listener);
	io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, 0);
	io_uring_sqe_set_data64(sqe, (uint64_t)ACCEPT << 32);
	for (;;) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;
		io_uring_submit_and_wait(&ring, 1);
		io_uring_for_each_cqe(&ring, head, cqe)
		{
			int fd = (int)(uint32_t)cqe->user_data, kind = (int)(cqe->user_data >> 32);
			seen++;
			if (kind == ACCEPT) {
				fd = cqe->res;
				if (fd < 0 || fd >= ECHO_CONNECTIONS_MAX)
					continue;
				echo_no_delay(fd);
				if (!buffers[fd])
					buffers[fd] = malloc(ECHO_BUFFER_BYTES);
				receive(fd);
			} else if (cqe->res <= 0) {
				close(fd);
			} else if (kind == RECEIVE) {
				sqe = get_sqe(SEND, fd);
				io_uring_prep_send(sqe, fd, buffers[fd], (size_t)cqe->res, MSG_NOSIGNAL);
				io_uring_sqe_set_data64(sqe, (uint64_t)SEND << 32 | (uint32_t)fd);
			} else {
				receive(fd);
			}
		}
		io_uring_cq_advance(&ring, seen);
	}
}
