/* src/io/stream.h -- a connected stream, in the clear or over TLS, behind one face.
 *
 * Used by: http, at server and client.  Thread: loop.  The operations have the rules of socket.h. With tls set, fd is the
 * connection's (for getpeername(2) and the like) and must not be used for anything else.
 */
#ifndef WH_IO_STREAM_H
#define WH_IO_STREAM_H

#include <sys/socket.h>

#include "io/tls_background.h"
#include "runtime/loop.h"
#include "whilst/tls.h"

struct wh__stream {
	wh_tls *tls; /* NULL: in the clear */
	int fd;
};

/* Of the result of wh_tls_connect() or wh_tls_accept(), and of a plain descriptor. */
static inline struct wh__stream wh__stream_tls(wh_tls *tls)
{
	struct wh__stream stream = {tls, wh_tls_fd(tls)};
	return stream;
}
static inline struct wh__stream wh__stream_plain(int fd)
{
	struct wh__stream stream = {NULL, fd};
	return stream;
}

static inline wh_future wh__stream_recv_buf(wh_loop *loop, struct wh__stream stream)
{
	return stream.tls ? wh_tls_recv_buf(stream.tls) : wh_recv_buf(loop, stream.fd);
}
static inline wh_future wh__stream_send_all(wh_loop *loop, struct wh__stream stream, const void *buf,
                                            size_t len)
{
	return stream.tls ? wh_tls_send_all(stream.tls, buf, len) : wh_send_all(loop, stream.fd, buf, len);
}
static inline wh_future wh__stream_sendv_all(wh_loop *loop, struct wh__stream stream, const struct iovec *iov,
                                             int count)
{
	return stream.tls ? wh_tls_sendv_all(stream.tls, iov, count)
	                  : wh_sendv_all(loop, stream.fd, iov, count);
}
/* The receive under way, received, does not keep wh_loop_run() running (true), or does again (false). */
static inline void wh__stream_background(wh_loop *loop, struct wh__stream stream, wh_future received,
                                         bool background)
{
	if (stream.tls)
		wh__tls_background(stream.tls, background);
	else
		wh__background(loop, received, background);
}
/* Nothing more will be sent. For when no send is under way; what becomes of it does not matter. */
static inline void wh__stream_shutdown(wh_loop *loop, struct wh__stream stream)
{
	if (stream.tls)
		(void)wh_drop(wh_tls_shutdown(stream.tls));
	else
		(void)wh_shutdown(loop, stream.fd, SHUT_WR);
}
/* stream is no longer valid. */
static inline wh_future wh__stream_close(wh_loop *loop, struct wh__stream stream)
{
	return stream.tls ? wh_tls_close(stream.tls) : wh_close(loop, stream.fd);
}

#endif
