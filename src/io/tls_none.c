/* src/io/tls_none.c -- in place of tls.c and tls_context.c when the library is built without OpenSSL: there are no contexts, and
 * so no connections. Thread: loop. */
#include "io/tls_background.h"
#include "runtime/loop.h"

#include <errno.h>

#include "whilst/tls.h"

int wh_tls_context_open(const struct wh_tls_options *options, wh_tls_context **ret)
{
	return -ENOSYS;
}

int wh_tls_context_reload(wh_tls_context *context)
{
	return -ENOSYS;
}

wh_tls_context *wh_tls_context_close(wh_tls_context *context)
{
	return NULL;
}

static wh_future refuse(wh_loop *loop, int fd)
{
	if (fd >= 0 && wh__loop_is_mine(loop))
		(void)wh_drop(wh_close(loop, fd));
	return wh_failed(loop, -ENOSYS);
}

wh_future wh_tls_connect(wh_loop *loop, int fd, wh_tls_context *context, const char *name,
                         struct wh_tls_problem *ret_problem)
{
	return refuse(loop, fd);
}

wh_future wh_tls_accept(wh_loop *loop, int fd, wh_tls_context *context, struct wh_tls_problem *ret_problem)
{
	return refuse(loop, fd);
}

/* No connection ever exists to call these with. */
static wh_future no_connection(void)
{
	return (wh_future){0};
}

wh_future wh_tls_recv(wh_tls *tls, void *buf, size_t len)
{
	return no_connection();
}

wh_future wh_tls_recv_buf(wh_tls *tls)
{
	return no_connection();
}

wh_future wh_tls_send_all(wh_tls *tls, const void *buf, size_t len)
{
	return no_connection();
}

wh_future wh_tls_sendv_all(wh_tls *tls, const struct iovec *iov, int count)
{
	return no_connection();
}

wh_future wh_tls_shutdown(wh_tls *tls)
{
	return no_connection();
}

wh_future wh_tls_close(wh_tls *tls)
{
	return no_connection();
}

int wh_tls_fd(const wh_tls *tls)
{
	return -1;
}

const char *wh_tls_version(const wh_tls *tls)
{
	return "";
}

const char *wh_tls_cipher(const wh_tls *tls)
{
	return "";
}

const char *wh_tls_alpn(const wh_tls *tls)
{
	return "";
}

const char *wh_tls_server_name(const wh_tls *tls)
{
	return "";
}

bool wh_tls_resumed(const wh_tls *tls)
{
	return false;
}

size_t wh_tls_peer_name(const wh_tls *tls, char *to, size_t max)
{
	if (max > 0)
		*to = 0;
	return 0;
}

void wh__tls_background(wh_tls *tls, bool background)
{
}
