/* src/engine/sim_pair.c -- pairs of a simulated machine: connected UNIX sockets, and pipes, which are such a pair that goes one
 * way; and what calls of files give on either. Results and errors are Linux's. Thread: the world's only one.
 */
#include "engine/execute.h"
#include "engine/sim.h"

#include <errno.h>
#include <poll.h>

/* ---- made ----------------------------------------------------------------------------------- */

static void join(struct wh__socket *s, const struct wh__socket *peer)
{
	s->peer_id = peer->id;
	s->window = s->machine->world->options.socket_bytes;
	s->state = WH__CONNECTED;
}

static struct wh__socket *end_new(wh_sim *sim)
{
	struct wh__socket *s = wh__socket_new(sim, AF_UNIX, SOCK_STREAM);
	if (s && wh__socket_give_fd(s) < 0) {
		wh__socket_gone(s);
		return NULL;
	}
	return s;
}

static int make_pair(wh_loop *loop, bool is_pipe, int ret[2])
{
	wh_sim *sim = wh__sim_of(loop);
	struct wh__socket *ends[2];
	if (!sim->has_power)
		return -WH_ESIM_POWER_CUT;
	int error = wh__sim_fault(sim, WH_SIM_LISTENS, NULL);
	if (error != 0)
		return -error;
	ends[0] = end_new(sim);
	ends[1] = ends[0] ? end_new(sim) : NULL;
	if (!ends[1]) {
		if (ends[0])
			wh__socket_gone(ends[0]);
		return -ENOMEM;
	}
	for (int i = 0; i < 2; i++) {
		join(ends[i], ends[1 - i]);
		ends[i]->is_pipe = is_pipe;
		ends[i]->writes = i == 1;
		ret[i] = ends[i]->fd;
	}
	return 0;
}

int wh__socket_pair(wh_loop *loop, int type, int ret[2])
{
	return type == SOCK_STREAM ? make_pair(loop, false, ret) : -EPROTONOSUPPORT;
}

int wh__socket_pipe(wh_loop *loop, int ret[2])
{
	return make_pair(loop, true, ret);
}

/* ---- pipes ---------------------------------------------------------------------------------- */

static bool is_left(const struct wh__socket *s)
{
	return s->peer_ended || s->peer_gone || s->state == WH__DEAD;
}

int64_t wh__pipe_receive(struct wh__socket *s, void *buf, size_t len)
{
	if (s->in.len > 0)
		return wh__stream_receive(s, buf, len < s->in.len ? len : s->in.len);
	return is_left(s) ? 0 : -EAGAIN;
}

int64_t wh__pipe_send(struct wh__socket *s, const void *buf, size_t len)
{
	s->error = 0; /* that the reader went with bytes unread is no other end */
	return is_left(s) ? -EPIPE : wh__stream_send(s, buf, len);
}

int wh__pipe_ready(const struct wh__socket *s)
{
	if (s->writes)
		return is_left(s) ? POLLOUT | POLLERR : wh__stream_room(s) > 0 ? POLLOUT : 0;
	return (s->in.len > 0 ? POLLIN : 0) | (is_left(s) ? POLLHUP : 0);
}

int wh__pipe_takes(const struct wh__socket *s, const struct wh__op *op)
{
	if (op->opcode == WH__OP_READY)
		return 0;
	if (!wh__opcode_streams(op->opcode))
		return -ENOTSOCK;
	return wh__opcode_sends(op->opcode) == s->writes ? 0 : -EBADF;
}

/* ---- calls of files ------------------------------------------------------------------------- */

static int64_t status(const struct wh__socket *s, const struct wh__op *op)
{
	const struct wh__stat_arguments *arguments = op->buf;
	struct wh_stat *ret = op->second;
	if (arguments->path[0])
		return -ENOTDIR;
	*ret = (struct wh_stat){.type = s->is_pipe ? WH_FILE_PIPE : WH_FILE_SOCKET,
	                        .mode = s->is_pipe ? 0600 : 0777,
	                        .links = 1,
	                        .block_bytes = 4096,
	                        .inode = s->id,
	                        .device = 2};
	ret->accessed_ns = ret->modified_ns = ret->changed_ns = ret->created_ns = WH_TIME_UNKNOWN;
	return 0;
}

int64_t wh__socket_call(wh_sim *sim, struct wh__op *op)
{
	const struct wh__socket *s = wh__socket_of(sim, op->fd);
	if (!s)
		return -EBADF;
	switch (op->opcode) {
	case WH__OP_CLOSE:
		return wh__socket_close(sim, op->fd);
	case WH__OP_SEND_FILE:
		return wh__socket_send_file(sim, op);
	case WH__OP_STAT:
		return status(s, op);
	case WH__OP_SIZE:
	case WH__OP_LOCK:
		return 0;
	case WH__OP_PREAD:
	case WH__OP_PWRITE:
	case WH__OP_PREADV:
	case WH__OP_PWRITEV:
	case WH__OP_APPEND:
	case WH__OP_ADVISE:
	case WH__OP_SYNC_RANGE:
		return -ESPIPE;
	case WH__OP_ALLOCATE:
		return s->is_pipe ? -ESPIPE : -ENODEV;
	case WH__OP_ENTRIES:
	case WH__OP_OPEN: /* beneath it */
	case WH__OP_ACCESS:
	case WH__OP_RENAME:
	case WH__OP_UNLINK:
	case WH__OP_MKDIR:
	case WH__OP_LINK:
	case WH__OP_SYMLINK:
	case WH__OP_READLINK:
		return -ENOTDIR;
	default:
		return -EINVAL; /* there is nothing to sync, cut or copy */
	}
}
