/* socket.h -- sockets, and readiness of foreign descriptors.
 *
 * At most one receive and one send may be outstanding per descriptor (else -EBUSY). End of stream is
 * n = 0; a reset is -ECONNRESET; SIGPIPE is never raised. Descriptors made here are non-blocking and
 * close-on-exec.
 *
 * The words used here and the errors that every operation may give are told at the top of whilst.h, which includes
 * this header.
 */
#ifndef WHILST_SOCKET_H
#define WHILST_SOCKET_H

#include "whilst.h"

#ifdef __cplusplus
extern "C" {
#endif

struct wh_listen_options {
	int backlog;      /* default 4,096 */
	bool reuse_port;  /* SO_REUSEPORT */
	mode_t unix_mode; /* UNIX sockets: permissions, default 0600 */
};
/* descriptor or -errno; never waits. A UNIX socket file that nobody listens on is replaced. */
WH_API int wh_listen(wh_loop *loop, const struct sockaddr *address, socklen_t len,
                     const struct wh_listen_options *options) WH_MUST_USE;
/* wh_local_address() - where a socket is bound: the port that was chosen for 0. 0 or -errno; getsockname(2). */
WH_API int wh_local_address(wh_loop *loop, int fd, struct sockaddr_storage *ret,
                            socklen_t *ret_len) WH_MUST_USE;
WH_API wh_future wh_accept(wh_loop *loop, int fd); /* n = descriptor (closed if dropped) */
/* n = descriptor of a new stream socket (closed if dropped); address is copied */
WH_API wh_future wh_connect(wh_loop *loop, const struct sockaddr *address, socklen_t len);
WH_API wh_future wh_recv(wh_loop *loop, int fd, void *buf, size_t len); /* borrows buf */
/* ptr = a pooled buffer with n bytes, given: wh_buf_put(); at the end n = 0 and ptr = NULL. An idle connection
 * holds none. */
WH_API wh_future wh_recv_buf(wh_loop *loop, int fd);
/* borrows; may be short */
WH_API wh_future wh_send(wh_loop *loop, int fd, const void *buf, size_t len);
/* borrows; n = len or an error */
WH_API wh_future wh_send_all(wh_loop *loop, int fd, const void *buf, size_t len);
/* borrows bytes, copies iov (<= 16) */
WH_API wh_future wh_sendv_all(wh_loop *loop, int fd, const struct iovec *iov, int count);
WH_API int wh_shutdown(wh_loop *loop, int fd, int how); /* shutdown(2), at once; 0 or -errno */
/* events: POLLIN, POLLOUT; n = those that are ready. For foreign descriptors (libpq, c-ares). */
WH_API wh_future wh_ready(wh_loop *loop, int fd, int events);

#ifdef __cplusplus
}
#endif
#endif
