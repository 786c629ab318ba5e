/* src/engine/uring_ring.c -- setting up a ring that works, or saying why there is none.
 *
 * Version numbers tell little: features are back-ported, filtered and switched off. So the ring is built by trial, from
 * the newest set of flags down and from the wanted size down, and then has to prove itself with real operations.
 *
 * Source: io_uring_setup(2); the sizes are what RLIMIT_MEMLOCK of 64 KiB to 8 MiB leaves room for.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/uring.h"

enum {
	ENTRIES_MIN = 32,
	ENTRIES_MAX = 32768,
	COMPLETIONS_PER_ENTRY = 8,
	COMPLETIONS_MIN = 64,
	COMPLETIONS_MAX = 8192
};

/* IORING_REGISTER_SEND_MSG_RING, which liburing 2.3 does not know. */
enum { REGISTER_SEND_MSG_RING = 31 };

static const unsigned int ladder[] = {
	/* 6.1. One thread submits: a forked child or a stray thread gets an error instead of our completions. */
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
		IORING_SETUP_SUBMIT_ALL,
	/* 5.19 */
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
	/* 5.10 */
	0,
};

const char *wh__uring_explain(int error)
{
	switch (error < 0 ? -error : error) {
	case ENOSYS:
		return "the kernel has no io_uring, or a seccomp filter hides it";
	case EPERM:
	case EACCES:
		return "io_uring is forbidden: see sysctl kernel.io_uring_disabled, or the seccomp filter of "
		       "the container";
	case ENOMEM:
		return "not enough locked memory even for the smallest ring: raise ulimit -l "
		       "(RLIMIT_MEMLOCK)";
	case EMFILE:
	case ENFILE:
		return "no descriptor left for a ring: raise ulimit -n (RLIMIT_NOFILE)";
	case EINVAL:
	case EOPNOTSUPP:
		return "the kernel lacks io_uring features of Linux 6.1";
	default:
		return strerror(error < 0 ? -error : error);
	}
}

/* The ring's own number, like all of ours, is none of 0 to 2. */
static int leave_standard(struct wh__uring *u)
{
	if (u->ring.ring_fd > STDERR_FILENO)
		return 0;
	int above = fcntl(u->ring.ring_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (above < 0) {
		int error = -errno;
		io_uring_queue_exit(&u->ring);
		return error;
	}
	close(u->ring.ring_fd);
	u->ring.ring_fd = u->ring.enter_ring_fd = above;
	return 0;
}

/* One rung: the largest ring there is locked memory for. */
static int open_sized(struct wh__uring *u, uint32_t entries, unsigned int flags)
{
	/* Fewer would not do for trying it out; more than the kernel's own limit it takes as that. */
	if (entries < ENTRIES_MIN)
		entries = ENTRIES_MIN;
	if (entries > ENTRIES_MAX)
		entries = ENTRIES_MAX;
	for (;;) {
		uint32_t completions = entries * COMPLETIONS_PER_ENTRY;
		if (completions > COMPLETIONS_MAX)
			completions = COMPLETIONS_MAX;
		if (completions < COMPLETIONS_MIN || entries == ENTRIES_MIN)
			completions = COMPLETIONS_MIN;
		if (completions < entries)
			completions = entries;
		struct io_uring_params params = {.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
		                                 .cq_entries = completions};
		int error = io_uring_queue_init_params(entries, &u->ring, &params);
		if (error != -ENOMEM || entries == ENTRIES_MIN) {
			u->in_flight_max = params.cq_entries / 2;
			return error ? error : leave_standard(u);
		}
		entries = entries / 4 > ENTRIES_MIN ? entries / 4 : ENTRIES_MIN;
	}
}

/* A filter may let a ring be made and not be used; a linked pair must run in order. */
static int try_nops(struct wh__uring *u)
{
	for (uint64_t i = 1; i <= 3; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
		io_uring_prep_nop(sqe);
		sqe->user_data = i;
		if (i == 2)
			sqe->flags |= IOSQE_IO_LINK;
	}
	int submitted = io_uring_submit_and_wait(&u->ring, 3);
	if (submitted != 3)
		return submitted < 0 ? submitted : -EINVAL;
	for (uint64_t i = 1; i <= 3; i++) {
		struct io_uring_cqe *cqe;
		int error = io_uring_wait_cqe(&u->ring, &cqe);
		if (!error && (cqe->user_data != i || cqe->res != 0))
			error = -EINVAL;
		if (error)
			return error;
		io_uring_cqe_seen(&u->ring, cqe);
	}
	return 0;
}

/* A poll that stays armed: one completion with more to come, and a cancel that ends it. */
static int try_poll(struct wh__uring *u)
{
	int ends[2];
	if (pipe(ends) != 0)
		return -errno;
	int error = -EINVAL;
	if (write(ends[1], "x", 1) == 1) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
		io_uring_prep_poll_multishot(sqe, ends[0], POLLIN);
		sqe->user_data = 1;
		error = io_uring_submit_and_wait(&u->ring, 1);
		struct io_uring_cqe *cqe;
		if (error == 1 && io_uring_peek_cqe(&u->ring, &cqe) == 0) {
			u->has.multipoll = cqe->res > 0 && (cqe->flags & IORING_CQE_F_MORE);
			io_uring_cqe_seen(&u->ring, cqe);
		}
		error = 0;
		/* End the poll, and take both completions. */
		if (u->has.multipoll) {
			sqe = io_uring_get_sqe(&u->ring);
			io_uring_prep_cancel64(sqe, 1, 0);
			sqe->user_data = 2;
			error = io_uring_submit_and_wait(&u->ring, 2);
			error = error < 0 ? error : 0;
			while (io_uring_peek_cqe(&u->ring, &cqe) == 0)
				io_uring_cqe_seen(&u->ring, cqe);
		}
	}
	close(ends[0]);
	close(ends[1]);
	return error;
}

static int try_operations(struct wh__uring *u, bool strict)
{
	static const uint8_t needed[] = {
		IORING_OP_NOP,          IORING_OP_READ,      IORING_OP_WRITE,   IORING_OP_FSYNC,
		IORING_OP_OPENAT,       IORING_OP_CLOSE,     IORING_OP_SEND,    IORING_OP_RECV,
		IORING_OP_ACCEPT,       IORING_OP_CONNECT,   IORING_OP_SENDMSG, IORING_OP_POLL_ADD,
		IORING_OP_ASYNC_CANCEL, IORING_OP_FALLOCATE, IORING_OP_READV,   IORING_OP_WRITEV,
		IORING_OP_RECVMSG,
	};
	/* Not io_uring_get_probe_ring(), which does not say why it fails. */
	struct io_uring_probe *probe = calloc(1, sizeof *probe + 256 * sizeof probe->ops[0]);
	if (!probe)
		return -ENOMEM;
	int error = io_uring_register_probe(&u->ring, probe, 256);
	if (error) {
		free(probe);
		return error;
	}
	for (size_t i = 0; i < sizeof needed; i++)
		if (!io_uring_opcode_supported(probe, needed[i]))
			error = -EOPNOTSUPP;
	u->has.rename = io_uring_opcode_supported(probe, IORING_OP_RENAMEAT);
	u->has.unlink = io_uring_opcode_supported(probe, IORING_OP_UNLINKAT);
	u->has.link = io_uring_opcode_supported(probe, IORING_OP_LINKAT) &&
	              io_uring_opcode_supported(probe, IORING_OP_SYMLINKAT);
	u->has.stat = io_uring_opcode_supported(probe, IORING_OP_STATX);
	u->has.sync_range = io_uring_opcode_supported(probe, IORING_OP_SYNC_FILE_RANGE);
	u->has.mkdir = io_uring_opcode_supported(probe, IORING_OP_MKDIRAT);
	/* No probe tells of poll first; it came in the same release (5.19) as this opcode. */
	u->has.poll_first = io_uring_opcode_supported(probe, IORING_OP_SOCKET);
	free(probe);
	if (strict && !(u->has.rename && u->has.unlink && u->has.mkdir && u->has.poll_first))
		error = -EOPNOTSUPP;
	return error;
}

/* Accepting with a poll first (Linux 6.10), on what is ready and no socket: whoever does not know the flag refuses that
 * (-EINVAL) before it learns what the descriptor is (-ENOTSOCK). The descriptor is a good one, since 5.10 looks it up first of all. */
static int try_accept(struct wh__uring *u)
{
	struct io_uring_cqe *cqe;
	int ready = eventfd(1, EFD_CLOEXEC);
	if (ready < 0)
		return -errno;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	io_uring_prep_accept(sqe, ready, NULL, NULL, 0);
	sqe->ioprio |= WH__URING_ACCEPT_POLL_FIRST;
	sqe->user_data = 1;
	int error = io_uring_submit_and_wait(&u->ring, 1);
	if (error >= 0)
		error = io_uring_wait_cqe(&u->ring, &cqe);
	close(ready);
	if (error < 0)
		return error;
	u->has.accept_poll_first = cqe->res == -ENOTSOCK;
	io_uring_cqe_seen(&u->ring, cqe);
	return 0;
}

int wh__uring_send_message(const struct wh__uring *u)
{
	struct io_uring_sqe message = {0};
	io_uring_prep_msg_ring(&message, u->ring.ring_fd, 0, WH__URING_MESSAGE, 0);
	return syscall(SYS_io_uring_register, -1, REGISTER_SEND_MSG_RING, &message, 1) == 0 ? 0 : -errno;
}

/* Messages that need no ring to send them (Linux 6.13): whoever does not know them misses the ring. One that was taken is
 * there at once, so nothing waits for it. */
static int try_message(struct wh__uring *u)
{
	struct io_uring_cqe *cqe;
	if (wh__uring_send_message(u) != 0)
		return 0;
	int error = io_uring_submit_and_get_events(&u->ring);
	if (error < 0)
		return error;
	if (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		u->has.messages = cqe->user_data == WH__URING_MESSAGE;
		io_uring_cqe_seen(&u->ring, cqe);
	}
	return 0;
}

static int try_out(struct wh__uring *u, bool strict)
{
	int error = try_nops(u);
	if (!error)
		error = try_operations(u, strict);
	if (!error)
		error = try_poll(u);
	if (!error)
		error = try_accept(u);
	if (!error)
		error = try_message(u);
	if (!error && strict && !u->has.multipoll)
		error = -EOPNOTSUPP;
	return error;
}

int wh__uring_ring_open(struct wh__uring *u, uint32_t entries, bool strict)
{
	int error = -EINVAL;
	size_t rungs = strict ? 1 : sizeof ladder / sizeof ladder[0];
	for (size_t rung = 0; rung < rungs; rung++) {
		error = open_sized(u, entries, ladder[rung]);
		if (error == -EINVAL)
			continue;
		if (error)
			return error;
		u->has = (struct wh__uring_features){.deferred = rung == 0};
		error = try_out(u, strict);
		if (!error)
			break;
		io_uring_queue_exit(&u->ring);
	}
	if (error)
		return error;
	/* All that is registered is so now, while the ring is idle: a kernel before 2023 that does not know what it is asked
	 * for first waits until all that is on the ring has ended, and the poll for wake-ups never does. */
	wh__uring_buffers_open(u);
	/* Saves the look-up of the descriptor at every call; not essential. */
	(void)io_uring_register_ring_fd(&u->ring);
	/* Without a limit, a burst of writes or syncs makes hundreds of kernel threads. */
	unsigned int workers[2] = {u->loop->workers_max[WH__WORKERS_FILES],
	                           u->loop->workers_max[WH__WORKERS_FILES]};
	(void)io_uring_register_iowq_max_workers(&u->ring, workers);
	return 0;
}
