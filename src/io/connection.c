/* src/io/connection.c -- how connections come about: accept, connect, listen. Thread: loop. */
#include "io/start.h"
#include "io/system.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

wh_future wh_accept(wh_loop *loop, int fd)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, WH__OP_ACCEPT, fd, &f);
	if (!op)
		return f;
	op->dispose = wh__close_dropped;
	op->dispose_arg = loop;
	return wh__start(op);
}

wh_future wh_accept_from(wh_loop *loop, int fd, struct sockaddr_storage *ret_address, socklen_t *ret_len)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, WH__OP_ACCEPT, fd, &f);
	if (!op)
		return f;
	if (!ret_address || !ret_len)
		return wh__end(op, -EINVAL);
	*ret_len = sizeof *ret_address;
	op->buf = ret_address;
	op->second = ret_len;
	op->flags = WH__BORROWS;
	op->dispose = wh__close_dropped;
	op->dispose_arg = loop;
	return wh__start(op);
}

/* ---- connect -------------------------------------------------------------------------------
 *
 * The caller sees one slot, outer: fd the socket, buf the address, off its length, done the tries so far. The engine has
 * another, named by outer->len, so that a socket that does not connect is closed. A UNIX socket whose listener has a
 * full backlog says so at once, and nothing tells when that has changed: a timer takes the engine's place and it is
 * tried again. */

static void on_connected(wh_loop *loop, wh_res res, void *arg);

/* false: there is no slot. */
static bool start_inner(struct wh__op *outer, enum wh__opcode opcode, wh_callback *callback,
                        struct wh__op **ret)
{
	struct wh__op *op = wh__op_new(outer->loop, opcode);
	if (!op)
		return false;
	op->consumer = WH__CONSUMER_INTERNAL;
	op->callback = callback;
	op->arg = outer;
	outer->len = wh__op_future(op).id;
	*ret = op;
	return true;
}

static bool try_to_connect(struct wh__op *outer)
{
	struct wh__op *op;
	if (!start_inner(outer, WH__OP_CONNECT, on_connected, &op))
		return false;
	op->fd = outer->fd;
	op->buf = outer->buf;
	op->len = outer->off;
	(void)wh__start(op);
	return true;
}

/* A socket that was made for this is the result, and is closed if there is none. */
static void end_connect(struct wh__op *outer, int64_t error)
{
	bool ours = outer->dispose != NULL;
	if (error < 0 && ours)
		(void)wh_drop(wh_close(outer->loop, outer->fd));
	wh__op_complete(outer, error < 0 ? error : ours ? outer->fd : 0, NULL);
}

static void on_patience(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__op *outer = arg;
	if (res.n < 0)
		end_connect(outer, res.n);
	else if (!try_to_connect(outer))
		end_connect(outer, -EAGAIN);
}

static void on_connected(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__op *outer = arg, *timer;
	if (outer->flags & WH__CANCELLED && (res.n >= 0 || res.n == -EXFULL))
		res.n = -ECANCELED;
	if (res.n != -EXFULL) {
		end_connect(outer, res.n);
	} else if (start_inner(outer, WH__OP_TIMER, on_patience, &timer)) {
		unsigned int doubled = outer->done < 6 ? (unsigned int)outer->done++ : 6; /* to 64 ms */
		timer->at = wh_clock(loop) + (WH_NS_PER_MS << doubled);
		wh__wheel_arm(&loop->wheel, timer);
	} else {
		end_connect(outer, -EAGAIN);
	}
}

static void cancel_connect(struct wh__op *outer)
{
	outer->flags |= WH__CANCELLED;
	wh_cancel((wh_future){outer->len});
}

/* A slot with a copy of the address; NULL: refused. */
static struct wh__op *begin_connect(wh_loop *loop, const struct sockaddr *address, socklen_t len,
                                    wh_future *ret_failed)
{
	struct wh__op *outer = wh__begin(loop, WH__OP_CONNECTION, ret_failed);
	if (!outer)
		return NULL;
	int error = 0;
	if (!address || len < sizeof(sa_family_t) || len > sizeof(struct sockaddr_storage))
		error = -EINVAL;
	else if (!(outer->buf = wh__arguments_get(loop)))
		error = -ENOMEM;
	if (error != 0) {
		*ret_failed = wh__end(outer, error);
		return NULL;
	}
	memcpy(outer->buf, address, len);
	outer->flags = WH__POOLED;
	outer->off = len;
	outer->cancel_inner = cancel_connect;
	return outer;
}

static wh_future start_connect(struct wh__op *outer)
{
	wh_future f = wh__op_future(outer);
	if (!try_to_connect(outer))
		end_connect(outer, -EAGAIN);
	return f;
}

wh_future wh_connect(wh_loop *loop, const struct sockaddr *address, socklen_t len)
{
	wh_future f;
	struct wh__op *outer = begin_connect(loop, address, len, &f);
	if (!outer)
		return f;
	outer->fd = wh__system_socket(loop, address->sa_family, SOCK_STREAM, 0);
	if (outer->fd < 0)
		return wh__end(outer, outer->fd);
	int one = 1; /* not of UNIX sockets */
	(void)wh__system_set_option(loop, outer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	outer->dispose = wh__close_dropped;
	outer->dispose_arg = loop;
	return start_connect(outer);
}

wh_future wh_connect_on(wh_loop *loop, int fd, const struct sockaddr *address, socklen_t len)
{
	wh_future f;
	struct wh__op *outer = begin_connect(loop, address, len, &f);
	if (!outer)
		return f;
	if (fd < 0)
		return wh__end(outer, -EBADF);
	outer->fd = fd;
	return start_connect(outer);
}

int wh_shutdown(wh_loop *loop, int fd, int how)
{
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	if (fd < 0)
		return -EBADF;
	return wh__system_shutdown(loop, fd, how);
}

/* ---- listen ------------------------------------------------------------------------------- */

/* A socket file stays when its server has died. It is taken away only if nobody answers on it. */
static int replace_stale(const struct sockaddr *address, socklen_t len)
{
	const struct sockaddr_un *local = (const struct sockaddr_un *)address;
	struct stat st;
	if (local->sun_path[0] == 0 || lstat(local->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return -EADDRINUSE;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int error = connect(fd, address, len) < 0 ? errno : 0;
	close(fd);
	if (error != ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(local->sun_path) < 0 ? -errno : 0;
}

static int bind_socket(wh_loop *loop, int fd, const struct sockaddr *address, socklen_t len)
{
	int error = wh__system_bind(loop, fd, address, len);
	if (error != -EADDRINUSE || address->sa_family != AF_UNIX || loop->engine->sockets)
		return error;
	error = replace_stale(address, len);
	return error == 0 ? wh__system_bind(loop, fd, address, len) : error;
}

/* Before anybody can connect: bind(2) gives the file the mode of the socket. */
static int set_modes(wh_loop *loop, int fd, const struct wh_listen_options *options)
{
	mode_t mode = options->unix_mode ? options->unix_mode : 0600;
	if (loop->engine->sockets)
		return loop->engine->sockets->set_mode(loop, fd, mode);
	return fchmod(fd, mode) < 0 ? -errno : 0;
}

/* The umask may have taken something away. */
static int widen_modes(wh_loop *loop, const struct sockaddr_un *local,
                       const struct wh_listen_options *options)
{
	if (loop->engine->sockets || local->sun_path[0] == 0 || !options->unix_mode)
		return 0;
	return chmod(local->sun_path, options->unix_mode) < 0 ? -errno : 0;
}

int wh_listen(wh_loop *loop, const struct sockaddr *address, socklen_t len,
              const struct wh_listen_options *options)
{
	static const struct wh_listen_options defaults;
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	if (!address || len < sizeof(sa_family_t))
		return -EINVAL;
	if (!options)
		options = &defaults;
	bool is_unix = address->sa_family == AF_UNIX;
	int fd = wh__system_socket(loop, address->sa_family, SOCK_STREAM, 0), one = 1, error = 0;
	if (fd < 0)
		return fd;
	if (is_unix)
		error = set_modes(loop, fd, options);
	else
		error = wh__system_set_option(loop, fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (error == 0 && options->reuse_port)
		error = wh__system_set_option(loop, fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	if (error == 0)
		error = bind_socket(loop, fd, address, len);
	if (error == 0 && is_unix)
		error = widen_modes(loop, (const struct sockaddr_un *)address, options);
	if (error == 0)
		error = wh__system_listen(loop, fd, options->backlog > 0 ? options->backlog : 4096);
	if (error != 0) {
		wh__system_close(loop, fd);
		return error;
	}
	return fd;
}

int wh_listen_on(wh_loop *loop, int fd, int backlog)
{
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	if (fd < 0)
		return -EBADF;
	return wh__system_listen(loop, fd, backlog > 0 ? backlog : 4096);
}
