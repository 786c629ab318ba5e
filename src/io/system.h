/* src/io/system.h -- the calls about sockets that src/io makes directly, because they never wait.
 *
 * One place, so that a simulated machine can take them: every such call of this folder goes through here.
 * Each is the system call of its name, but gives -errno. Thread: loop.
 */
#ifndef WH_IO_SYSTEM_H
#define WH_IO_SYSTEM_H

#include <errno.h>
#include <unistd.h>

#include "runtime/loop.h"

/* close-on-exec and non-blocking */
static inline int wh__system_socket(wh_loop *loop, int family, int type, int protocol)
{
	if (loop->engine->sockets)
		return loop->engine->sockets->socket(loop, family, type, protocol);
	int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		return -errno;
	wh__descriptor_given(loop, fd);
	return fd;
}

/* of a descriptor that no operation was started on */
static inline void wh__system_close(wh_loop *loop, int fd)
{
	if (loop->engine->sockets)
		loop->engine->sockets->close(loop, fd);
	else
		(void)close(fd);
}

static inline int wh__system_bind(wh_loop *loop, int fd, const struct sockaddr *address, socklen_t len)
{
	if (loop->engine->sockets)
		return loop->engine->sockets->bind(loop, fd, address, len);
	return bind(fd, address, len) < 0 ? -errno : 0;
}

static inline int wh__system_listen(wh_loop *loop, int fd, int backlog)
{
	if (loop->engine->sockets)
		return loop->engine->sockets->listen(loop, fd, backlog);
	return listen(fd, backlog) < 0 ? -errno : 0;
}

/* peer: getpeername(2), else getsockname(2). ret is untouched on failure. */
static inline int wh__system_name(wh_loop *loop, int fd, bool peer, struct sockaddr_storage *ret,
                                  socklen_t *ret_len)
{
	if (loop->engine->sockets)
		return loop->engine->sockets->name(loop, fd, peer, ret, ret_len);
	struct sockaddr_storage address;
	socklen_t len = sizeof address;
	int error = peer ? getpeername(fd, (struct sockaddr *)&address, &len)
	                 : getsockname(fd, (struct sockaddr *)&address, &len);
	if (error < 0)
		return -errno;
	*ret = address;
	*ret_len = len;
	return 0;
}

static inline int wh__system_shutdown(wh_loop *loop, int fd, int how)
{
	if (loop->engine->sockets)
		return loop->engine->sockets->shutdown(loop, fd, how);
	return shutdown(fd, how) < 0 ? -errno : 0;
}

static inline int wh__system_set_option(wh_loop *loop, int fd, int level, int name, const void *value,
                                        socklen_t len)
{
	if (loop->engine->sockets)
		return loop->engine->sockets->set_option(loop, fd, level, name, value, len);
	return setsockopt(fd, level, name, value, len) < 0 ? -errno : 0;
}

static inline int wh__system_get_option(wh_loop *loop, int fd, int level, int name, void *ret_value,
                                        socklen_t *ret_len)
{
	if (loop->engine->sockets)
		return loop->engine->sockets->get_option(loop, fd, level, name, ret_value, ret_len);
	return getsockopt(fd, level, name, ret_value, ret_len) < 0 ? -errno : 0;
}

#endif
