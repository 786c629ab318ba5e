/* bench/runtime/echo_whilst.c -- echo on libwhilst, with callbacks: receive into a connection's buffer, send all, again.
 *
 * usage: echo_whilst [ENGINE [pooled]]    prints "PORT n"
 * pooled: receive into the loop's pooled buffers, so that an idle connection holds none.
 */
#include "../peers/echo.h"

#include <string.h>

#include "whilst/whilst.h"

struct connection {
	int fd;
	char buffer[ECHO_BUFFER_BYTES];
};

struct pooled {
	int fd;
	struct wh_buf *buf;
};

static int listener;
static bool pooled;

static void on_received(wh_loop *loop, wh_res res, void *arg);

static void on_sent(wh_loop *loop, wh_res res, void *arg)
{
	struct connection *c = arg;
	if (res.n >= 0)
		wh_then(wh_recv(loop, c->fd, c->buffer, sizeof c->buffer), on_received, c);
	else
		on_received(loop, res, c);
}

static void on_received(wh_loop *loop, wh_res res, void *arg)
{
	struct connection *c = arg;
	if (res.n > 0) {
		wh_then(wh_send_all(loop, c->fd, c->buffer, (size_t)res.n), on_sent, c);
		return;
	}
	wh_drop(wh_close(loop, c->fd));
	free(c);
}

static void on_pooled_received(wh_loop *loop, wh_res res, void *arg);

static void on_pooled_sent(wh_loop *loop, wh_res res, void *arg)
{
	struct pooled *c = arg;
	c->buf = wh_buf_put(c->buf);
	if (res.n >= 0)
		wh_then(wh_recv_buf(loop, c->fd), on_pooled_received, c);
	else
		on_pooled_received(loop, res, c);
}

static void on_pooled_received(wh_loop *loop, wh_res res, void *arg)
{
	struct pooled *c = arg;
	if (res.n > 0) {
		c->buf = res.ptr;
		wh_then(wh_send_all(loop, c->fd, c->buf->data, (size_t)res.n), on_pooled_sent, c);
		return;
	}
	wh_drop(wh_close(loop, c->fd));
	free(c);
}

static void on_accepted(wh_loop *loop, wh_res res, void *arg)
{
	(void)arg;
	if (res.n >= 0 && pooled) {
		struct pooled *c = malloc(sizeof *c);
		*c = (struct pooled){.fd = (int)res.n};
		wh_then(wh_recv_buf(loop, c->fd), on_pooled_received, c);
	} else if (res.n >= 0) {
		struct connection *c = malloc(sizeof *c);
		c->fd = (int)res.n;
		wh_then(wh_recv(loop, c->fd, c->buffer, sizeof c->buffer), on_received, c);
	}
	wh_then(wh_accept(loop, listener), on_accepted, NULL);
}

int main(int argc, char **argv)
{
	wh_loop *loop;
	if (argc > 1)
		setenv("WHILST_ENGINE", argv[1], 1);
	int error = wh_loop_open(&loop, NULL);
	if (error) {
		fprintf(stderr, "echo_whilst: %s\n", wh_strerror(error));
		return 1;
	}
	pooled = argc > 2 && !strcmp(argv[2], "pooled");
	listener = echo_listen(1);
	wh_then(wh_accept(loop, listener), on_accepted, NULL);
	wh_loop_run(loop);
	wh_loop_close(loop);
	return 0;
}
