/* src/engine/uring.c -- the io_uring engine: the kernel does the operation and calls back.
 *
 * One system call a turn: what the callbacks of a turn started is submitted by the same call that waits for the next
 * completion. An operation completes at its own completion entry and nowhere else, cancelled or not, because until
 * then the kernel may touch its memory.
 *
 * Thread: loop, but for wake(). Memory: user_data is the operation, which stays pending until its completion entry;
 * a cancel names slot and generation, because its answer may come when the slot serves another operation.
 */
#include "config.h"

#include <errno.h>

#include "engine/engine.h"
#include "runtime/loop.h"

#if WH_HAVE_URING

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/execute.h"
#include "engine/message.h"
#include "engine/uring.h"
#include "runtime/standard.h"

/* ---- submitting ---- */

struct io_uring_sqe *wh__uring_sqe(struct wh__uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	if (!sqe) {
		(void)io_uring_submit(&u->ring);
		sqe = io_uring_get_sqe(&u->ring);
	}
	return sqe;
}

static uint32_t at_most_1g(uint64_t len)
{
	return len > 1 << 30 ? 1 << 30 : (uint32_t)len;
}

/* What is not written yet is written with its own sync; what is, is synced. */
static void prepare_append(struct wh__op *op, struct io_uring_sqe *sqe)
{
	if (op->done < op->len) {
		io_uring_prep_write(sqe, op->fd, (char *)op->buf + op->done, at_most_1g(op->len - op->done),
		                    op->off + op->done);
		sqe->rw_flags = RWF_DSYNC;
	} else {
		io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
	}
}

/* Operations on names, and those with more arguments than a transfer. */
static void prepare_file(struct wh__op *op, struct io_uring_sqe *sqe)
{
	struct wh__stat_arguments *status = op->buf;
	switch (op->opcode) {
	case WH__OP_OPEN:
		io_uring_prep_openat(sqe, op->fd, op->buf, (int)op->len | O_CLOEXEC, (mode_t)op->off);
		break;
	case WH__OP_CLOSE:
		io_uring_prep_close(sqe, op->fd);
		break;
	case WH__OP_ALLOCATE:
		io_uring_prep_fallocate(sqe, op->fd, (int)op->done, (off_t)op->off, (off_t)op->len);
		break;
	case WH__OP_SYNC_RANGE:
		io_uring_prep_sync_file_range(sqe, op->fd, (uint32_t)op->len, op->off, (int)op->done);
		break;
	case WH__OP_STAT:
		io_uring_prep_statx(sqe, op->fd, status->path, (int)op->len, STATX_BASIC_STATS | STATX_BTIME,
		                    &status->raw);
		break;
	case WH__OP_RENAME:
		io_uring_prep_renameat(sqe, op->fd, op->buf, (int)(op->len >> 32), op->second,
		                       (unsigned int)op->len);
		break;
	case WH__OP_UNLINK:
		io_uring_prep_unlinkat(sqe, op->fd, op->buf, (int)op->len);
		break;
	case WH__OP_MKDIR:
		io_uring_prep_mkdirat(sqe, op->fd, op->buf, (mode_t)op->off);
		break;
	case WH__OP_LINK:
		io_uring_prep_linkat(sqe, op->fd, op->buf, (int)(op->len >> 32), op->second, (int)op->len);
		break;
	case WH__OP_SYMLINK:
		io_uring_prep_symlinkat(sqe, op->second, op->fd, op->buf);
		break;
	default:
		assert(!"an operation that the ring does not do");
	}
}

/* Fills sqe for the operation itself, going on where it stopped. */
static void prepare(struct wh__uring *u, struct wh__op *op, struct io_uring_sqe *sqe)
{
	struct wh__arguments *arguments = op->buf;
	char *bytes = op->buf ? (char *)op->buf + op->done : NULL;
	uint32_t len = at_most_1g(op->len - op->done);
	switch (op->opcode) {
	case WH__OP_PREAD:
		io_uring_prep_read(sqe, op->fd, bytes, len, op->off + op->done);
		break;
	case WH__OP_PWRITE:
		io_uring_prep_write(sqe, op->fd, bytes, len, op->off + op->done);
		break;
	case WH__OP_FSYNC:
		io_uring_prep_fsync(sqe, op->fd, op->flags & WH__DATA_ONLY ? IORING_FSYNC_DATASYNC : 0);
		break;
	case WH__OP_PREADV:
		io_uring_prep_readv(sqe, op->fd, op->buf, (unsigned int)op->len, op->off + op->done);
		break;
	case WH__OP_PWRITEV:
		io_uring_prep_writev(sqe, op->fd, op->buf, (unsigned int)op->len, op->off + op->done);
		break;
	case WH__OP_APPEND:
		prepare_append(op, sqe);
		break;
	case WH__OP_ACCEPT:
		io_uring_prep_accept(sqe, op->fd, op->buf, op->second, SOCK_NONBLOCK | SOCK_CLOEXEC);
		/* To try in vain costs a file and a socket made and freed. */
		if (u->has.accept_poll_first && wh__descriptor_look(u->loop, op->fd)->known_empty)
			sqe->ioprio |= WH__URING_ACCEPT_POLL_FIRST;
		break;
	case WH__OP_RECV_MESSAGE:
	case WH__OP_RECV_FROM:
		io_uring_prep_recvmsg(sqe, op->fd, &arguments->message, MSG_CMSG_CLOEXEC);
		break;
	case WH__OP_SEND:
		io_uring_prep_send(sqe, op->fd, bytes, len, MSG_NOSIGNAL);
		break;
	case WH__OP_RECV:
	case WH__OP_RECV_BUF:
		if (op->opcode == WH__OP_RECV) {
			io_uring_prep_recv(sqe, op->fd, bytes, len, (int)op->off);
		} else {
			io_uring_prep_recv(sqe, op->fd, NULL, 0, 0);
			sqe->flags |= IOSQE_BUFFER_SELECT;
			sqe->buf_group = WH__URING_BUFFER_GROUP;
		}
		if (u->has.poll_first && wh__descriptor_look(u->loop, op->fd)->known_empty)
			sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
		break;
	default:
		prepare_file(op, sqe);
	}
}

static void to_backlog(struct wh__uring *u, struct wh__op *op)
{
	op->engine_state = WH__URING_BACKLOG;
	op->next = NULL;
	op->prev = u->backlog.last;
	*(op->prev ? &op->prev->next : &u->backlog.first) = op;
	u->backlog.last = op;
}

static void from_backlog(struct wh__uring *u, struct wh__op *op)
{
	*(op->prev ? &op->prev->next : &u->backlog.first) = op->next;
	*(op->next ? &op->next->prev : &u->backlog.last) = op->prev;
	op->next = op->prev = NULL;
	op->engine_state = WH__URING_NEW;
}

static bool has_room(const struct wh__uring *u, const struct wh__op *op)
{
	return u->in_flight < u->in_flight_max &&
	       (!wh__opcode_waits(op->opcode) || u->waiting < u->waiting_max);
}

/* Puts op, linked at its descriptor if it has one, on the ring. false: there is no room. */
static bool to_ring(struct wh__uring *u, struct wh__op *op, enum wh__uring_state state)
{
	struct io_uring_sqe *sqe = has_room(u, op) ? wh__uring_sqe(u) : NULL;
	if (!sqe)
		return false;
	if (state == WH__URING_POLLING)
		io_uring_prep_poll_add(sqe, op->fd, (unsigned int)wh__op_events(op));
	else
		prepare(u, op, sqe);
	sqe->user_data = (uint64_t)(uintptr_t)op;
	op->engine_state = state;
	u->in_flight++;
	u->waiting += wh__opcode_waits(op->opcode);
	return true;
}

/* A waiting operation, held: on the ring, or beside it when that is full. */
static void wait_for(struct wh__uring *u, struct wh__op *op, enum wh__uring_state state)
{
	int error = op->engine_state & WH__URING_CANCELLED ? -ECANCELED : 0;
	if (!error && !to_ring(u, op, state))
		error = wh__uring_spill_add(u, op);
	if (error)
		wh__uring_finish(u, op, error, NULL);
}

/* Tries op, held, and waits for readiness while it cannot be done. */
static void attempt(struct wh__uring *u, struct wh__op *op)
{
	void *ptr = NULL;
	int64_t n = wh__op_attempt(op, &ptr);
	if (op->opcode == WH__OP_RECV_BUF)
		wh__descriptor_look(u->loop, op->fd)->known_empty = ptr && n < ((struct wh_buf *)ptr)->cap;
	if (n == -EAGAIN)
		wait_for(u, op, WH__URING_POLLING);
	else
		wh__uring_finish(u, op, n, ptr);
}

/* The ring does what is one transfer of bytes, or one accept; the rest is attempted when its poll says so. */
static bool ring_does_waiting(const struct wh__uring *u, const struct wh__op *op)
{
	switch (op->opcode) {
	case WH__OP_ACCEPT:
	case WH__OP_SEND:
	case WH__OP_RECV:
	case WH__OP_RECV_MESSAGE:
	case WH__OP_RECV_FROM:
		return true;
	case WH__OP_RECV_BUF:
		return u->has.buffers;
	default:
		return false;
	}
}

static void start_waiting(struct wh__uring *u, struct wh__op *op)
{
	struct wh__descriptor *descriptor;
	int error = wh__descriptor_get(u->loop, op->fd, &descriptor);
	if (!error)
		error = wh__descriptor_enter(descriptor, op);
	if (error) {
		wh__op_complete(op, error, NULL);
		return;
	}
	wh__descriptor_link(descriptor, op);
	op->engine_state = WH__URING_HELD;
	if (op->opcode == WH__OP_RECV_BUF && u->has.buffers)
		wh__uring_buffers_fill(u);
	if (ring_does_waiting(u, op))
		wait_for(u, op, WH__URING_IN_KERNEL);
	else if (op->opcode == WH__OP_RECV_BUF && descriptor->known_empty)
		wait_for(u, op, WH__URING_POLLING);
	else
		attempt(u, op);
}

static bool ring_does_file(const struct wh__uring *u, const struct wh__op *op)
{
	switch (op->opcode) {
	case WH__OP_OPEN:
	case WH__OP_CLOSE:
	case WH__OP_PREAD:
	case WH__OP_PWRITE:
	case WH__OP_PREADV:
	case WH__OP_PWRITEV:
	case WH__OP_APPEND:
	case WH__OP_FSYNC:
	case WH__OP_ALLOCATE:
		return true;
	case WH__OP_SYNC_RANGE:
		return u->has.sync_range && op->len <= UINT32_MAX; /* its field for the length */
	case WH__OP_STAT:
		return u->has.stat;
	case WH__OP_LINK:
	case WH__OP_SYMLINK:
		return u->has.link;
	case WH__OP_RENAME:
		return u->has.rename;
	case WH__OP_UNLINK:
		return u->has.unlink;
	case WH__OP_MKDIR:
		return u->has.mkdir;
	default:
		return false;
	}
}

/* A ring reads and writes a pipe or socket whatever the offset says, and may wait for it. 0, or -errno. */
static int check_offsets(const struct wh__op *op, struct wh__descriptor *descriptor)
{
	switch (op->opcode) {
	case WH__OP_PREAD:
	case WH__OP_PWRITE:
	case WH__OP_PREADV:
	case WH__OP_PWRITEV:
	case WH__OP_APPEND:
		if (!descriptor->known_seekable && lseek(op->fd, 0, SEEK_CUR) < 0)
			return -errno;
		descriptor->known_seekable = true;
		return 0;
	default:
		return 0;
	}
}

/* The copy into the page cache takes a microsecond, and a ring would hand it to a thread: only the sync is worth one. Not
 * when it is no copy (O_DIRECT), nor when it is a long one. 0, or -errno. */
static int write_at_once(struct wh__op *op)
{
	if (op->len - op->done > WH__URING_WRITE_BYTES_MAX || fcntl(op->fd, F_GETFL) & O_DIRECT)
		return 0;
	return (int)wh__op_write_all(op);
}

/* File operations end by themselves and soon, so those that find no room wait in a queue. */
static void start_file(struct wh__uring *u, struct wh__op *op)
{
	struct wh__descriptor *descriptor = NULL;
	int error = wh__descriptor_used(op) ? wh__descriptor_get(u->loop, op->fd, &descriptor) : 0;
	if (!error && descriptor && descriptor->closing)
		error = -EBADF;
	if (!error && descriptor)
		error = check_offsets(op, descriptor);
	if (error)
		wh__op_complete(op, error, NULL);
	else if (op->opcode == WH__OP_APPEND && (error = write_at_once(op)) != 0)
		wh__op_complete(op, error, NULL);
	else if (!to_ring(u, op, WH__URING_IN_KERNEL))
		to_backlog(u, op);
	else if (descriptor)
		wh__descriptor_link(descriptor, op);
}

static void uring_submit(struct wh__op *op)
{
	struct wh__uring *u = op->loop->engine_state;
	if (wh__offload_is_plain_file(op) || !(wh__opcode_waits(op->opcode) || ring_does_file(u, op)))
		wh__offload(op);
	else if (wh__opcode_waits(op->opcode))
		start_waiting(u, op);
	else if (u->backlog.first)
		to_backlog(u, op);
	else
		start_file(u, op);
}

/* ---- ending ---- */

void wh__uring_finish(struct wh__uring *u, struct wh__op *op, int64_t n, void *ptr)
{
	struct wh__op *close = NULL;
	int fd = op->fd;
	if (wh__descriptor_used(op)) {
		struct wh__descriptor *descriptor = wh__descriptor_look(u->loop, op->fd);
		wh__descriptor_unlink(descriptor, op);
		wh__descriptor_leave(descriptor, op, n);
		if (!descriptor->first) {
			close = descriptor->closing;
			descriptor->closing = NULL;
		}
	}
	wh__op_complete(op, n, ptr);
	if (close)
		wh__descriptor_close(u->loop, fd, close);
}

/* Back on the ring for the rest; a file operation is still linked. */
static void go_on(struct wh__uring *u, struct wh__op *op)
{
	if (wh__opcode_waits(op->opcode)) {
		wait_for(u, op, WH__URING_IN_KERNEL);
	} else if (op->engine_state & WH__URING_CANCELLED) {
		wh__uring_finish(u, op, -ECANCELED, NULL);
	} else if (!to_ring(u, op, WH__URING_IN_KERNEL)) {
		if (wh__descriptor_used(op))
			wh__descriptor_unlink(wh__descriptor_look(u->loop, op->fd), op);
		to_backlog(u, op);
	}
}

/* The kernel would not do it without blocking, and did not block: a worker does. */
static void go_to_worker(struct wh__uring *u, struct wh__op *op)
{
	if (wh__descriptor_used(op))
		wh__descriptor_unlink(wh__descriptor_look(u->loop, op->fd), op);
	op->engine_state = WH__URING_NEW;
	wh__offload(op);
}

static void failed(struct wh__uring *u, struct wh__op *op, int error)
{
	bool cancelled = op->engine_state & WH__URING_CANCELLED;
	if (error == -EINTR && op->opcode == WH__OP_CLOSE)
		wh__uring_finish(u, op, 0, NULL); /* the descriptor is gone all the same */
	else if (error == -EINTR && !cancelled)
		go_on(u, op);
	else if (error == -EAGAIN && wh__opcode_waits(op->opcode))
		wait_for(u, op, WH__URING_POLLING);
	else if (error == -EAGAIN && !cancelled)
		go_to_worker(u, op);
	else if (error == -ENOBUFS && op->opcode == WH__OP_RECV_BUF) {
		u->short_count++;
		wh__uring_buffers_more(u);
		wait_for(u, op, WH__URING_POLLING);
	} else
		wh__uring_finish(u, op, error == -EINTR ? -ECANCELED : error, NULL);
}

static void received(struct wh__uring *u, struct wh__op *op, int n, uint32_t cqe_flags)
{
	struct wh_buf *buf = cqe_flags & IORING_CQE_F_BUFFER ? wh__uring_buffers_take(u, cqe_flags) : NULL;
	wh__descriptor_look(u->loop, op->fd)->known_empty =
		n >= 0 && op->off == 0 &&
		!(cqe_flags & IORING_CQE_F_SOCK_NONEMPTY); /* a peek has taken nothing */
	if (buf && n <= 0)
		buf = wh_buf_put(buf);
	if (buf)
		buf->len = (uint32_t)n;
	if (n < 0)
		failed(u, op, n);
	else if (n > 0 && (op->flags & WH__ALL) && wh__op_advance(op, (uint64_t)n) > 0)
		go_on(u, op);
	else
		wh__uring_finish(u, op, op->flags & WH__ALL ? (int64_t)op->done : n, buf);
}

/* A transfer that goes on until it is whole. */
static void transferred(struct wh__uring *u, struct wh__op *op, int n)
{
	bool was_sync = op->opcode == WH__OP_APPEND && op->done == op->len;
	uint64_t left = was_sync ? 0 : wh__op_advance(op, (uint64_t)n);
	if (left > 0 && n > 0)
		go_on(u, op);
	else if (left > 0 && op->opcode != WH__OP_PREAD && op->opcode != WH__OP_PREADV)
		wh__uring_finish(u, op, -EIO, NULL);
	else
		wh__uring_finish(u, op, (int64_t)op->done, NULL);
}

/* What the kernel has written elsewhere goes to the caller. */
static void hand_on(struct wh__op *op)
{
	if (op->opcode == WH__OP_RECV_MESSAGE || op->opcode == WH__OP_RECV_FROM)
		wh__message_received(op);
	else if (op->opcode == WH__OP_STAT)
		wh__stat_from_raw(&((struct wh__stat_arguments *)op->buf)->raw, op->second);
}

/* The completion entry of op has come: the kernel holds nothing of it any more. */
static void completed(struct wh__uring *u, struct wh__op *op, int n, uint32_t cqe_flags)
{
	enum wh__uring_state state = wh__uring_state(op);
	assert(state == WH__URING_IN_KERNEL || state == WH__URING_POLLING);
	u->in_flight--;
	u->waiting -= wh__opcode_waits(op->opcode);
	op->engine_state = WH__URING_HELD | (op->engine_state & WH__URING_CANCELLED);
	if (state == WH__URING_POLLING) {
		if (n < 0)
			wh__uring_finish(u, op, n, NULL);
		else
			attempt(u, op);
		return;
	}
	if (op->opcode == WH__OP_ACCEPT) {
		wh__descriptor_look(u->loop, op->fd)->known_empty =
			n >= 0 && !(cqe_flags & IORING_CQE_F_SOCK_NONEMPTY);
		n = (int)wh__op_accepted(n);
		if ((n == -ECANCELED || n == -EINTR) && op->engine_state & WH__URING_CANCELLED)
			n = (int)wh__op_accept_last(op);
	}
	if (n == -EINVAL)
		n = (int)wh__op_invalid(op);
	if (op->opcode == WH__OP_RECV || op->opcode == WH__OP_RECV_BUF) {
		received(u, op, n, cqe_flags);
	} else if (n < 0) {
		failed(u, op, n);
	} else if (op->flags & WH__ALL) {
		transferred(u, op, n);
	} else {
		hand_on(op);
		wh__uring_finish(u, op, n, NULL);
	}
}

/* ---- cancelling, closing ---- */

static void send_cancel(struct wh__uring *u, struct wh__op *op)
{
	op->engine_state |= WH__URING_CANCELLED;
	if (op->engine_state & WH__URING_CANCEL_SENT)
		return;
	struct io_uring_sqe *sqe = wh__uring_sqe(u);
	if (!sqe) {
		op->engine_state |= WH__URING_CANCEL_WANTED;
		u->cancels_wanted = true;
		return;
	}
	io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)op, 0);
	sqe->user_data = WH__URING_CANCEL | (uint64_t)op->slot << 32 | op->generation;
	op->engine_state = (op->engine_state & ~(uint32_t)WH__URING_CANCEL_WANTED) | WH__URING_CANCEL_SENT;
}

static bool is_on_ring(const struct wh__op *op)
{
	return op->state == WH__PENDING &&
	       (wh__uring_state(op) == WH__URING_IN_KERNEL || wh__uring_state(op) == WH__URING_POLLING);
}

/* A cancel can miss an operation that is just being woken and then goes back to sleep: ask again. What runs in the
 * kernel's own workers cannot be cancelled and ends by itself. */
static void cancel_answered(struct wh__uring *u, uint64_t user_data, int n)
{
	struct wh__op *op = wh__op_at(u->loop, (uint32_t)(user_data >> 32) & WH__SLOTS_MAX);
	if (op->generation != (uint32_t)user_data || !is_on_ring(op))
		return;
	op->engine_state &= ~(uint32_t)WH__URING_CANCEL_SENT;
	if (n < 0 && wh__opcode_waits(op->opcode) && (op->engine_state & WH__URING_CANCELLED))
		send_cancel(u, op);
}

static void send_wanted_cancels(struct wh__uring *u)
{
	u->cancels_wanted = false;
	for (uint32_t slot = 0; slot < u->loop->slots_made; slot++) {
		struct wh__op *op = wh__op_at(u->loop, slot);
		if (is_on_ring(op) && (op->engine_state & WH__URING_CANCEL_WANTED))
			send_cancel(u, op);
	}
}

static void uring_cancel(struct wh__op *op)
{
	struct wh__uring *u = op->loop->engine_state;
	if (op->opcode == WH__OP_CLOSE)
		return; /* it ends soon, and half a close is none */
	if (op->flags & WH__AT_WORKER) {
		(void)wh__offload_cancel(op);
		return;
	}
	switch (wh__uring_state(op)) {
	case WH__URING_BACKLOG:
		from_backlog(u, op);
		wh__op_complete(op, -ECANCELED, NULL);
		break;
	case WH__URING_SPILLED:
		wh__uring_finish(u, op, -ECANCELED, NULL);
		break;
	case WH__URING_IN_KERNEL:
	case WH__URING_POLLING:
		send_cancel(u, op);
		break;
	default:
		break;
	}
}

static struct wh__op *next_to_cancel(struct wh__uring *u, int fd)
{
	for (struct wh__op *op = u->backlog.first; op; op = op->next)
		if (wh__descriptor_used(op) && op->fd == fd)
			return op;
	struct wh__descriptor *descriptor = wh__descriptor_look(u->loop, fd);
	for (struct wh__op *op = descriptor ? descriptor->first : NULL; op; op = op->next)
		if (!(op->engine_state & WH__URING_CANCELLED))
			return op;
	return NULL;
}

static void uring_close_fd(struct wh__op *op)
{
	struct wh__uring *u = op->loop->engine_state;
	int fd = op->fd;
	struct wh__descriptor *descriptor = wh__descriptor_look(u->loop, fd);
	if (descriptor && descriptor->closing) {
		wh__op_complete(op, -EBADF, NULL);
		return;
	}
	/* From here on nothing new starts on it, and the last to end comes back here. */
	if (descriptor)
		descriptor->closing = op;
	struct wh__op *other;
	while ((other = next_to_cancel(u, fd)))
		uring_cancel(other);
	if (descriptor) {
		descriptor = wh__descriptor_look(u->loop, fd);
		if (descriptor->closing != op)
			return; /* the last one ended at once, and op is on its way or done */
		if (descriptor->first)
			return;
		descriptor->closing = NULL;
		if (wh__offload_holds_close(op))
			return;
		wh__descriptor_closed(u->loop, fd);
		wh__uring_spill_forget(u, fd);
	}
	void *ptr = NULL;
	if (op->flags & WH__NO_SLOT)
		wh__op_complete(op, wh__op_execute(op, &ptr), NULL);
	else
		start_file(u, op);
}

/* ---- turning ---- */

/* The descriptor is never read: a poll that stays armed reports every write to it anew. */
static void arm_wake(struct wh__uring *u)
{
	struct io_uring_sqe *sqe = wh__uring_sqe(u);
	if (!sqe)
		return; /* the next turn does it */
	if (u->has.multipoll)
		io_uring_prep_poll_multishot(sqe, u->wake_fd, POLLIN);
	else
		io_uring_prep_poll_add(sqe, u->wake_fd, POLLIN);
	sqe->user_data = WH__URING_WAKE;
	u->wake_armed = true;
}

static void woken(struct wh__uring *u, uint32_t cqe_flags)
{
	uint64_t count;
	if (cqe_flags & IORING_CQE_F_MORE)
		return;
	u->wake_armed = false;
	if (!u->has.multipoll)
		(void)!read(u->wake_fd, &count, sizeof count);
}

/* A message goes straight into the completion queue, where a write to the descriptor starts a poll first. */
static void uring_wake(wh_loop *loop)
{
	struct wh__uring *u = loop->engine_state;
	uint64_t one = 1;
	if (u->has.messages && wh__uring_send_message(u) == 0)
		return;
	(void)!write(u->wake_fd, &one, sizeof one); /* fails only when it has been written to already */
}

static void reap(struct wh__uring *u)
{
	struct io_uring_cqe *cqe;
	unsigned int head;
	io_uring_for_each_cqe(&u->ring, head, cqe)
	{
		uint64_t user_data = cqe->user_data;
		int n = cqe->res;
		uint32_t flags = cqe->flags;
		/* Given back at once: what completes may start something, which counts on the place. */
		io_uring_cq_advance(&u->ring, 1);
		if (!(user_data & WH__URING_INTERNAL))
			completed(u, (struct wh__op *)(uintptr_t)user_data, n, flags);
		else if (user_data == WH__URING_MESSAGE || user_data == LIBURING_UDATA_TIMEOUT)
			continue; /* it has ended the wait; before 5.11 so does an entry for its time limit */
		else if (user_data == WH__URING_WAKE)
			woken(u, flags);
		else if (user_data == WH__URING_SPILL)
			wh__uring_spill_ready(u);
		else
			cancel_answered(u, user_data, n);
	}
	assert(*u->ring.cq.koverflow == 0);
}

/* The ring counts with 32 bits, which a turn cannot exceed. */
static void count(struct wh__uring *u)
{
	uint32_t sq = u->ring.sq.sqe_tail, cq = *u->ring.cq.khead;
	u->submitted_count += sq - u->sq_seen;
	u->completed_count += cq - u->cq_seen;
	u->sq_seen = sq;
	u->cq_seen = cq;
}

static int enter(struct wh__uring *u, int64_t timeout_ns)
{
	if (timeout_ns == 0 || io_uring_cq_ready(&u->ring) > 0) {
		unsigned int flags = IO_URING_READ_ONCE(*u->ring.sq.kflags);
		if (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW))
			return io_uring_submit_and_get_events(&u->ring);
		return io_uring_sq_ready(&u->ring) ? io_uring_submit(&u->ring) : 0;
	}
	if (timeout_ns < 0)
		return io_uring_submit_and_wait(&u->ring, 1);
	struct __kernel_timespec timeout = {.tv_sec = timeout_ns / WH_NS_PER_S,
	                                    .tv_nsec = timeout_ns % WH_NS_PER_S};
	struct io_uring_cqe *cqe;
	return io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &timeout, NULL);
}

static int uring_wait(wh_loop *loop, int64_t timeout_ns)
{
	struct wh__uring *u = loop->engine_state;
	if (!u->wake_armed)
		arm_wake(u);
	if (u->spill_arm_wanted)
		wh__uring_spill_poll(u);
	if (u->cancels_wanted)
		send_wanted_cancels(u);
	int error = enter(u, timeout_ns);
	if (error < 0 && error != -ETIME && error != -EINTR && error != -EAGAIN && error != -EBUSY)
		return error;
	reap(u);
	count(u);
	while (u->backlog.first && has_room(u, u->backlog.first)) {
		struct wh__op *op = u->backlog.first;
		from_backlog(u, op);
		start_file(u, op);
		if (wh__uring_state(op) == WH__URING_BACKLOG)
			break;
	}
	return 0;
}

/* ---- opening and closing ---- */

static int uring_init(wh_loop *loop, const struct wh_loop_options *options)
{
	struct wh__uring *u = calloc(1, sizeof *u);
	if (!u)
		return -ENOMEM;
	u->loop = loop;
	u->spill_fd = -1;
	u->wake_fd = wh__above_standard(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	int error = u->wake_fd < 0 ? -errno : 0;
	if (!error)
		error = wh__uring_ring_open(u, options->ring_entries, loop->choosing);
	if (error) {
		if (u->wake_fd >= 0)
			close(u->wake_fd);
		free(u);
		return error;
	}
	u->sq_seen = u->ring.sq.sqe_tail; /* what tried the ring out does not count */
	u->cq_seen = *u->ring.cq.khead;
	/* A few places are for our own polls; a quarter of the rest stays free for what is not waiting. */
	u->in_flight_max -= 4;
	u->waiting_max = u->in_flight_max - u->in_flight_max / 4;
	loop->engine_state = u;
	return 0;
}

static void uring_fini(wh_loop *loop)
{
	struct wh__uring *u = loop->engine_state;
	assert(u->in_flight == 0 && !u->backlog.first);
	wh__uring_spill_close(u);
	io_uring_queue_exit(&u->ring);
	wh__uring_buffers_close(u);
	close(u->wake_fd);
	wh__descriptors_fini(loop);
	free(u);
	loop->engine_state = NULL;
}

static void uring_stats(const wh_loop *loop, struct wh_engine_stats *ret)
{
	const struct wh__uring *u = loop->engine_state;
	ret->events = u->completed_count;
	ret->submissions = u->submitted_count;
	ret->spilled = u->spilled_count;
	for (const struct wh__op *op = u->backlog.first; op; op = op->next)
		ret->queued++;
	ret->buffers = u->buffers_given;
	ret->buffers_short = u->short_count;
	ret->overflows = *u->ring.cq.koverflow;
}

const struct wh__engine wh__engine_uring = {
	.name = "uring",
	.init = uring_init,
	.explain = wh__uring_explain,
	.submit = uring_submit,
	.cancel = uring_cancel,
	.close_fd = uring_close_fd,
	.wait = uring_wait,
	.wake = uring_wake,
	.returned = wh__offload_returned,
	.fini = uring_fini,
	.stats = uring_stats,
};

#else

static int uring_init(wh_loop *loop, const struct wh_loop_options *options)
{
	return -ENOSYS;
}

static const char *uring_explain(int error)
{
	return "built without liburing";
}

const struct wh__engine wh__engine_uring = {.name = "uring", .init = uring_init, .explain = uring_explain};

#endif
