/* echo.c -- an echo server by callbacks: a few bytes of memory for each connection, no thread, no lock.
 *
 *	echo [ADDRESS]		"127.0.0.1:7", "[::1]:7", "unix:/path"; without: a free port on 127.0.0.1, which it prints
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <whilst/whilst.h>

struct connection {
	int fd;
	struct wh_buf *buf; /* what is being sent back; NULL while it waits for bytes */
};

static int listener;

static void on_received(wh_loop *loop, wh_res res, void *arg);
static void on_accepted(wh_loop *loop, wh_res res, void *arg);

static void hang_up(wh_loop *loop, struct connection *c)
{
	wh_close_now(loop, c->fd); /* nobody waits for it to be closed */
	wh_buf_put(c->buf);
	free(c);
}

static void on_sent(wh_loop *loop, wh_res res, void *arg)
{
	struct connection *c = arg;
	if (res.n < 0) {
		hang_up(loop, c);
		return;
	}
	c->buf = wh_buf_put(c->buf);
	wh_then(wh_recv_buf(loop, c->fd), on_received, c);
}

/* The buffer comes from the loop's pool when bytes are there: an idle connection holds none. */
static void on_received(wh_loop *loop, wh_res res, void *arg)
{
	struct connection *c = arg;
	if (res.n <= 0) { /* 0: the end; else a reset, or -ECANCELED because the loop is being closed */
		hang_up(loop, c);
		return;
	}
	c->buf = res.ptr;
	wh_then(wh_send_all(loop, c->fd, c->buf->data, (size_t)res.n), on_sent, c);
}

static void accept_next(wh_loop *loop, wh_res res, void *arg)
{
	(void)res;
	wh_then(wh_accept(loop, listener), on_accepted, arg);
}

static void on_accepted(wh_loop *loop, wh_res res, void *arg)
{
	if (res.n == -ECANCELED)
		return;
	struct connection *c = res.n >= 0 ? calloc(1, sizeof *c) : NULL;
	if (!c) { /* out of descriptors or memory: those who are served will end; until then it waits */
		if (res.n >= 0)
			wh_close_now(loop, (int)res.n);
		wh_then(wh_sleep(loop, 100 * WH_NS_PER_MS), accept_next, arg);
		return;
	}
	c->fd = (int)res.n;
	wh_then(wh_recv_buf(loop, c->fd), on_received, c);
	accept_next(loop, res, arg);
}

static void on_signal(wh_loop *loop, wh_res res, void *arg)
{
	(void)res, (void)arg;
	wh_loop_stop(loop);
}

int main(int argc, char **argv)
{
	wh_loop *loop;
	int r = wh_loop_open(&loop, NULL);
	if (r == 0)
		r = listener = wh_listen_text(loop, argc > 1 ? argv[1] : "127.0.0.1:0", NULL);
	struct sockaddr_storage bound;
	socklen_t len;
	char text[WH_ADDRESS_TEXT_MAX];
	if (r >= 0)
		r = wh_local_address(loop, listener, &bound, &len);
	if (r == 0)
		r = wh_format_address((struct sockaddr *)&bound, len, text, sizeof text);
	if (r < 0) {
		fprintf(stderr, "echo: %s\n", wh_strerror(r));
		return 1;
	}
	printf("listening on %s\n", text);
	fflush(stdout);

	accept_next(loop, (wh_res){0, NULL}, NULL);
	wh_then(wh_signal(loop, SIGTERM), on_signal, NULL);
	wh_then(wh_signal(loop, SIGINT), on_signal, NULL);
	wh_loop_run(loop);
	wh_close_now(loop, listener);
	wh_loop_close(loop); /* every callback that is still to come gets -ECANCELED and frees what it has */
	return 0;
}
