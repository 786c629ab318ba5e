/* bench/peers/wake_raw.c -- two threads that wake each other by an eventfd in an epoll set, by a message from ring to ring, or by
 * one that needs no ring to send it (Linux 6.13).
 *
 * usage: wake_raw SECONDS eventfd|msg_ring|msg_call
 */
#include <liburing.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../measure.h"

static struct measure measure;
static int event_fds[2], epoll_fds[2];
static struct io_uring rings[2];
static pthread_barrier_t both;
static int by_ring, by_call;

enum { REGISTER_SEND_MSG_RING = 31 }; /* liburing 2.3 does not know it */

/* A ring belongs to the thread that makes it. */
static void make(int side)
{
	struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
	struct epoll_event event = {.events = EPOLLIN};
	if (by_ring) {
		if (io_uring_queue_init_params(64, &rings[side], &params) != 0)
			exit(1);
	} else {
		event_fds[side] = eventfd(0, EFD_NONBLOCK);
		epoll_fds[side] = epoll_create1(0);
		epoll_ctl(epoll_fds[side], EPOLL_CTL_ADD, event_fds[side], &event);
	}
	pthread_barrier_wait(&both);
}

static void tell(int from, int to)
{
	uint64_t one = 1;
	if (!by_ring) {
		if (write(event_fds[to], &one, sizeof one) != sizeof one)
			exit(1);
		return;
	}
	if (by_call) {
		struct io_uring_sqe message = {0};
		io_uring_prep_msg_ring(&message, rings[to].ring_fd, 0, 1, 0);
		if (syscall(SYS_io_uring_register, -1, REGISTER_SEND_MSG_RING, &message, 1) != 0)
			exit(1);
		return;
	}
	struct io_uring_sqe *sqe = io_uring_get_sqe(&rings[from]);
	io_uring_prep_msg_ring(sqe, rings[to].ring_fd, 0, 1, 0);
	io_uring_sqe_set_data64(sqe, 0);
	io_uring_submit(&rings[from]);
}

static void hear(int side)
{
	uint64_t count;
	struct epoll_event event;
	if (!by_ring) {
		while (epoll_wait(epoll_fds[side], &event, 1, -1) != 1)
			;
		if (read(event_fds[side], &count, sizeof count) != sizeof count)
			exit(1);
		return;
	}
	for (int heard = 0; !heard;) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;
		io_uring_submit_and_wait(&rings[side], 1);
		io_uring_for_each_cqe(&rings[side], head, cqe)
		{
			seen++;
			heard |= cqe->user_data == 1;
		}
		io_uring_cq_advance(&rings[side], seen);
	}
}

static void *thread(void *arg)
{
	(void)arg;
	make(1);
	for (;;) {
		hear(1);
		tell(1, 0);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t id;
	int64_t started;
	by_call = argc > 2 && !strcmp(argv[2], "msg_call");
	by_ring = by_call || (argc > 2 && !strcmp(argv[2], "msg_ring"));
	pthread_barrier_init(&both, NULL, 2);
	pthread_create(&id, NULL, thread, NULL);
	make(0);
	measure_begin(&measure, argc > 1 ? atof(argv[1]) : 1);
	started = measure.began;
	do {
		tell(0, 1);
		hear(0);
	} while (measure_goes_on(&measure, started, &started));
	measure_end(&measure);
	measure_print(&measure);
	exit(0); /* the other thread waits for ever */
}
