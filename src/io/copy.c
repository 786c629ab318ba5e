/* src/io/copy.c -- from a file to a file, from a file to a socket. Thread: loop.
 *
 * A whole copy is composed of parts, each an operation of its own, so that it can be cancelled between them. The
 * caller sees one slot, outer.
 */
#include "io/inner.h"
#include "io/start.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 8 * 1024 * 1024 };

static wh_future start_copy(wh_loop *loop, int to, uint64_t to_off, int from, uint64_t from_off, uint64_t len)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, WH__OP_COPY_RANGE, to, &f);
	if (!op)
		return f;
	if (from < 0)
		return wh__end(op, -EBADF);
	if (to_off > INT64_MAX || from_off > INT64_MAX || len > INT64_MAX)
		return wh__end(op, -EINVAL);
	struct wh__arguments *arguments = wh__arguments_get(loop);
	if (!arguments)
		return wh__end(op, -ENOMEM);
	arguments->source.fd = from;
	arguments->source.off = from_off;
	op->buf = arguments;
	op->flags = WH__POOLED;
	op->off = to_off;
	op->len = len;
	return wh__start(op);
}

wh_future wh_copy_range(wh_loop *loop, int to, uint64_t to_off, int from, uint64_t from_off, uint64_t len)
{
	return start_copy(loop, to, to_off, from, from_off, len);
}

/* ---- a whole file --------------------------------------------------------------------------- */

struct copy {
	struct wh__op *outer; /* owns this as its buf */
	uint64_t current;     /* the future of the part that is under way */
	int from, to;         /* -1: not open */
	bool replace;
	uint64_t done;
	struct wh_stat status, to_status;
	const char *to_path;
	char paths[];
};

static void end(struct copy *copy, int64_t n)
{
	struct wh__op *outer = copy->outer;
	if (copy->from >= 0)
		(void)wh_drop(wh_close(outer->loop, copy->from));
	if (copy->to >= 0)
		(void)wh_drop(wh_close(outer->loop, copy->to));
	wh__op_complete(outer, n, NULL);
}

/* true: the copy ends here. */
static bool ended(struct copy *copy, wh_res res)
{
	if (res.n >= 0 && !(copy->outer->flags & WH__CANCELLED))
		return false;
	end(copy, res.n < 0 ? res.n : -ECANCELED);
	return true;
}

static void on_closed(wh_loop *loop, wh_res res, void *arg)
{
	struct copy *copy = arg;
	end(copy, res.n < 0 ? res.n : (int64_t)copy->done); /* some file systems tell here that it was full */
}

static void on_piece(wh_loop *loop, wh_res res, void *arg)
{
	struct copy *copy = arg;
	if (ended(copy, res))
		return;
	copy->done += (uint64_t)res.n;
	if (res.n == PIECE_BYTES) {
		wh__inner_step(loop,
		               start_copy(loop, copy->to, copy->done, copy->from, copy->done, PIECE_BYTES),
		               on_piece, copy, &copy->current);
		return;
	}
	int to = copy->to;
	copy->to = -1;
	wh__inner_step(loop, wh_close(loop, to), on_closed, copy, &copy->current);
}

static void on_emptied(wh_loop *loop, wh_res res, void *arg)
{
	struct copy *copy = arg;
	if (!ended(copy, res))
		wh__inner_step(loop, start_copy(loop, copy->to, 0, copy->from, 0, PIECE_BYTES), on_piece,
		               copy, &copy->current);
}

static void on_to_status(wh_loop *loop, wh_res res, void *arg)
{
	struct copy *copy = arg;
	if (ended(copy, res))
		return;
	if (copy->status.inode == copy->to_status.inode && copy->status.device == copy->to_status.device)
		end(copy, -EINVAL); /* it would be emptied before it is read */
	else
		wh__inner_step(loop, wh_truncate(loop, copy->to, 0), on_emptied, copy, &copy->current);
}

static void on_to_opened(wh_loop *loop, wh_res res, void *arg)
{
	struct copy *copy = arg;
	if (res.n >= 0)
		copy->to = (int)res.n;
	if (ended(copy, res))
		return;
	if (copy->replace)
		wh__inner_step(loop, wh_fstat(loop, copy->to, &copy->to_status), on_to_status, copy,
		               &copy->current);
	else
		on_emptied(loop, res, copy);
}

static void on_from_status(wh_loop *loop, wh_res res, void *arg)
{
	struct copy *copy = arg;
	int flags = O_WRONLY | O_CREAT | (copy->replace ? 0 : O_EXCL);
	if (res.n >= 0 && copy->status.type != WH_FILE_REGULAR)
		res.n = copy->status.type == WH_FILE_DIRECTORY ? -EISDIR : -EINVAL;
	if (!ended(copy, res))
		wh__inner_step(loop, wh_open(loop, copy->to_path, flags, copy->status.mode & 0777),
		               on_to_opened, copy, &copy->current);
}

static void on_from_opened(wh_loop *loop, wh_res res, void *arg)
{
	struct copy *copy = arg;
	if (res.n >= 0)
		copy->from = (int)res.n;
	if (!ended(copy, res))
		wh__inner_step(loop, wh_fstat(loop, copy->from, &copy->status), on_from_status, copy,
		               &copy->current);
}

static void cancel_copy(struct wh__op *outer)
{
	const struct copy *copy = outer->buf;
	outer->flags |= WH__CANCELLED;
	wh_cancel((wh_future){copy->current});
}

wh_future wh_copy_file(wh_loop *loop, const char *from, const char *to, bool replace)
{
	wh_future f;
	struct wh__op *outer = wh__begin(loop, WH__OP_COPY_FILE, &f);
	if (!outer)
		return f;
	if (!from || !to)
		return wh__end(outer, -EINVAL);
	size_t from_len = strlen(from) + 1, to_len = strlen(to) + 1;
	struct copy *copy = malloc(sizeof *copy + from_len + to_len);
	if (!copy)
		return wh__end(outer, -ENOMEM);
	*copy = (struct copy){.outer = outer, .from = -1, .to = -1, .replace = replace};
	memcpy(copy->paths, from, from_len);
	copy->to_path = memcpy(copy->paths + from_len, to, to_len);
	outer->buf = copy;
	outer->flags = WH__OWNS_BUF;
	outer->cancel_inner = cancel_copy;
	f = wh__op_future(outer);
	/* O_NONBLOCK: a pipe of that name would be waited for, and is refused below */
	wh__inner_step(loop, wh_open(loop, copy->paths, O_RDONLY | O_NONBLOCK, 0), on_from_opened, copy,
	               &copy->current);
	return f;
}

/* ---- to a socket ----------------------------------------------------------------------------
 *
 * A worker sends what the socket takes, and may wait for the disk meanwhile; the loop waits for the socket. outer: fd
 * the socket, len what is wanted, done what has gone, off the future of the part; its arguments are lent to the part. */

static void send_piece(struct wh__op *outer);

static void on_room(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__op *outer = arg;
	if (res.n < 0 || outer->flags & WH__CANCELLED)
		wh__op_complete(outer, res.n < 0 ? res.n : -ECANCELED, NULL);
	else
		send_piece(outer);
}

static void on_sent(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__op *outer = arg;
	struct wh__arguments *arguments = outer->buf;
	if (res.n > 0) {
		arguments->source.off += (uint64_t)res.n;
		outer->done += (uint64_t)res.n;
	}
	if (res.n < 0 && res.n != -EAGAIN)
		wh__op_complete(outer, res.n, NULL);
	else if (res.n == 0 || outer->done == outer->len)
		wh__op_complete(outer, (int64_t)outer->done, NULL);
	else if (outer->flags & WH__CANCELLED) /* while a worker was at it, which cannot be cancelled */
		wh__op_complete(outer, -ECANCELED, NULL);
	else
		wh__inner_step(loop, wh_ready(loop, outer->fd, POLLOUT), on_room, outer, &outer->off);
}

static void send_piece(struct wh__op *outer)
{
	wh_future f;
	uint64_t left = outer->len - outer->done;
	struct wh__op *op = wh__begin_on(outer->loop, WH__OP_SEND_FILE, outer->fd, &f);
	if (op) {
		op->buf = outer->buf;
		op->len = left < PIECE_BYTES ? left : PIECE_BYTES;
		f = wh__start(op);
	}
	wh__inner_step(outer->loop, f, on_sent, outer, &outer->off);
}

static void cancel_send(struct wh__op *outer)
{
	outer->flags |= WH__CANCELLED;
	wh_cancel((wh_future){outer->off});
}

wh_future wh_send_file(wh_loop *loop, int fd, int file, uint64_t off, uint64_t len)
{
	wh_future f;
	struct wh__op *outer = wh__begin_on(loop, WH__OP_FILE_TO_SOCKET, fd, &f);
	if (!outer)
		return f;
	if (file < 0)
		return wh__end(outer, -EBADF);
	if (off > INT64_MAX || len > INT64_MAX)
		return wh__end(outer, -EINVAL);
	struct wh__arguments *arguments = wh__arguments_get(loop);
	if (!arguments)
		return wh__end(outer, -ENOMEM);
	arguments->source.fd = file;
	arguments->source.off = off;
	outer->buf = arguments;
	outer->flags = WH__POOLED;
	outer->len = len;
	outer->cancel_inner = cancel_send;
	f = wh__op_future(outer);
	send_piece(outer);
	return f;
}
