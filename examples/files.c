/* files.c -- an HTTP server for the files of a folder: each goes out in pieces, as fast as its reader takes them.
 *
 *	files FOLDER [PORT]	on 127.0.0.1; 0 (the default): a free port, which it prints
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <whilst/http.h>

/* A file on its way to a client. */
struct transfer {
	wh_loop *loop;
	wh_http_exchange *x;
	int fd; /* -1: not open */
	uint64_t at, size;
	bool started;       /* the head of the answer is out */
	struct wh_buf *buf; /* borrowed by the read that is under way */
};

static const char *folder;

/* ---- one file ---- */

static void read_piece(struct transfer *t);

/* Every transfer ends here: an exchange is answered exactly once, whatever went wrong, even when the client has gone. */
static void finish(struct transfer *t, int64_t error)
{
	if (error == 0)
		wh_http_end(t->x);
	else if (t->started)
		wh_http_abort(t->x); /* too late for a status: nobody may take what was sent for the whole */
	else if (error == -ENOENT || error == -ENOTDIR || error == -EISDIR)
		wh_http_problem(t->x, 404, NULL);
	else if (error == -EACCES)
		wh_http_problem(t->x, 403, NULL);
	else
		wh_http_problem(t->x, 503, wh_strerror(error));
	if (t->fd >= 0)
		wh_drop(wh_close(t->loop, t->fd));
	wh_buf_put(t->buf);
	free(t);
}

/* The server has room for more: it is out, or little of it is left. A slow client's file is read slowly. */
static void on_room(wh_loop *loop, wh_res res, void *arg)
{
	struct transfer *t = arg;
	(void)loop;
	if (res.n < 0 || t->at == t->size)
		finish(t, res.n);
	else
		read_piece(t);
}

static void on_piece(wh_loop *loop, wh_res res, void *arg)
{
	struct transfer *t = arg;
	if (res.n <= 0) { /* 0: somebody shortened the file */
		finish(t, res.n < 0 ? res.n : -EIO);
		return;
	}
	struct wh_buf *buf = t->buf;
	t->buf = NULL;
	t->at += (uint64_t)res.n;
	buf->len = (uint32_t)res.n;
	if (!t->started)
		wh_http_start(t->x, 200, (int64_t)t->size);
	t->started = true;
	wh_then(wh_http_write_buf(t->x, buf), on_room, t); /* takes buf */
	(void)loop;
}

static void read_piece(struct transfer *t)
{
	uint64_t left = t->size - t->at;
	t->buf = wh_buf_get(t->loop);
	if (!t->buf) {
		finish(t, -ENOBUFS);
		return;
	}
	size_t len = left < t->buf->cap ? (size_t)left : t->buf->cap;
	wh_then(wh_pread(t->loop, t->fd, t->buf->data, len, t->at), on_piece, t);
}

static void on_size(wh_loop *loop, wh_res res, void *arg)
{
	struct transfer *t = arg;
	(void)loop;
	if (res.n < 0) {
		finish(t, res.n);
		return;
	}
	t->size = (uint64_t)res.n;
	if (t->size > 0 && wh_http_method(t->x) == WH_HTTP_GET) {
		read_piece(t); /* the first piece before the head: what cannot be read gets a status */
		return;
	}
	wh_http_start(t->x, 200, res.n);
	t->started = true;
	finish(t, 0);
}

static void on_open(wh_loop *loop, wh_res res, void *arg)
{
	struct transfer *t = arg;
	if (res.n < 0) {
		finish(t, res.n);
		return;
	}
	t->fd = (int)res.n;
	wh_then(wh_size(loop, t->fd), on_size, t);
}

/* ---- requests ---- */

/* folder + path, with %41 decoded; false for what leads out of the folder or nowhere. */
static bool file_name(struct wh_slice path, char *ret, size_t max)
{
	size_t len = (size_t)snprintf(ret, max, "%s", folder);
	if (len == 0 || len >= max)
		return false;
	for (size_t i = 0; i < path.len; i++) {
		char c = path.data[i];
		if (c == '%' && i + 2 < path.len && isxdigit((unsigned char)path.data[i + 1]) &&
		    isxdigit((unsigned char)path.data[i + 2])) {
			char digits[3] = {path.data[i + 1], path.data[i + 2], 0};
			c = (char)strtol(digits, NULL, 16);
			i += 2;
		}
		if (c == 0 || len + 2 > max)
			return false;
		ret[len++] = c;
		ret[len] = 0;
	}
	if (ret[len - 1] == '/')
		snprintf(ret + len, max - len, "index.html");
	return path.len > 0 && path.data[0] == '/' && !strstr(ret + strlen(folder), "/..");
}

static const char *content_type(const char *name)
{
	static const char *const types[][2] = {
		{".html", "text/html; charset=utf-8"},
		{".txt", "text/plain; charset=utf-8"},
		{".css", "text/css"},
		{".js", "text/javascript"},
		{".json", "application/json"},
		{".png", "image/png"},
	};
	const char *dot = strrchr(name, '.');
	for (size_t i = 0; dot && i < sizeof types / sizeof types[0]; i++)
		if (strcmp(dot, types[i][0]) == 0)
			return types[i][1];
	return "application/octet-stream";
}

static void on_request(wh_http_exchange *x, void *arg)
{
	char name[4096];
	enum wh_http_method method = wh_http_method(x);
	(void)arg;
	if (method != WH_HTTP_GET && method != WH_HTTP_HEAD) {
		wh_http_set(x, "Allow", "GET, HEAD");
		wh_http_problem(x, 405, NULL);
		return;
	}
	struct transfer *t = calloc(1, sizeof *t);
	if (!t || !file_name(wh_http_path(x), name, sizeof name)) {
		wh_http_problem(x, t ? 404 : 503, NULL);
		free(t);
		return;
	}
	*t = (struct transfer){.loop = wh_http_loop(x), .x = x, .fd = -1};
	wh_http_set(x, "Content-Type", content_type(name));
	wh_then(wh_open(t->loop, name, O_RDONLY, 0), on_open, t);
}

static int listen_on(wh_loop *loop, wh_http_server *server, uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	address.sin_port = htons(port);
	int fd = wh_listen(loop, (struct sockaddr *)&address, sizeof address, NULL);
	struct sockaddr_storage bound;
	socklen_t len;
	int r = fd < 0 ? fd : wh_local_address(loop, fd, &bound, &len);
	if (r == 0)
		r = wh_http_server_listen(server, fd);
	if (r == 0)
		printf("listening on http://127.0.0.1:%d/\n",
		       ntohs(((struct sockaddr_in *)&bound)->sin_port));
	fflush(stdout);
	return r;
}

int main(int argc, char **argv)
{
	wh_loop *loop = NULL;
	wh_http_server *server = NULL;
	struct wh_http_server_options options = {.on_request = on_request, .server_name = "files"};
	folder = argc > 1 ? argv[1] : ".";
	int r = wh_loop_open(&loop, NULL);
	if (r == 0)
		r = wh_http_server_open(loop, &options, &server);
	if (r == 0)
		r = listen_on(loop, server, (uint16_t)(argc > 2 ? atoi(argv[2]) : 0));
	if (r < 0) {
		fprintf(stderr, "files: %s\n", wh_strerror(r));
		return 1;
	}
	wh_future stop[2] = {wh_signal(loop, SIGTERM), wh_signal(loop, SIGINT)};
	wh_await(wh_any(loop, stop, 2, NULL));
	/* Who is being served gets the rest, within 10 s; new ones are not taken. */
	wh_await(wh_deadline(wh_http_server_drain(server), wh_now(loop) + 10 * WH_NS_PER_S));
	wh_http_server_close(server);
	wh_loop_close(loop);
	return 0;
}
