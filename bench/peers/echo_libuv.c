/* bench/peers/echo_libuv.c -- echo on libuv. "write": as its guide shows, a request and a buffer for each
 * message; "try": uv_try_write() first, which needs no request. */
#include "echo.h"

#include <string.h>
#include <uv.h>

static int try_first;

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	static char shared[64 * 1024];
	(void)handle;
	if (try_first)
		*buf = uv_buf_init(shared, sizeof shared);
	else
		*buf = uv_buf_init(malloc(suggested), (unsigned)suggested);
}

static void on_close(uv_handle_t *handle)
{
	free(handle);
}

static void on_written(uv_write_t *request, int status)
{
	(void)status;
	free(request->data);
	free(request);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	if (n > 0 && try_first) {
		uv_buf_t out = uv_buf_init(buf->base, (unsigned)n);
		if (uv_try_write(stream, &out, 1) != n)
			uv_close((uv_handle_t *)stream, on_close);
		return;
	}
	if (n > 0) {
		uv_write_t *request = malloc(sizeof *request);
		uv_buf_t out = uv_buf_init(buf->base, (unsigned)n);
		request->data = buf->base;
		uv_write(request, stream, &out, 1, on_written);
		return;
	}
	if (!try_first)
		free(buf->base);
	if (n < 0)
		uv_close((uv_handle_t *)stream, on_close);
}

static void on_connection(uv_stream_t *server, int status)
{
	if (status < 0)
		return;
	uv_tcp_t *client = malloc(sizeof *client);
	uv_tcp_init(server->loop, client);
	if (uv_accept(server, (uv_stream_t *)client) == 0) {
		uv_tcp_nodelay(client, 1);
		uv_read_start((uv_stream_t *)client, on_alloc, on_read);
	} else {
		uv_close((uv_handle_t *)client, on_close);
	}
}

int main(int argc, char **argv)
{
	uv_tcp_t server;
	try_first = argc > 1 && !strcmp(argv[1], "try");
	uv_tcp_init(uv_default_loop(), &server);
	uv_tcp_open(&server, echo_listen(1));
	uv_listen((uv_stream_t *)&server, 4096, on_connection);
	return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
