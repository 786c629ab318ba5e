/* loops.c -- an echo server on several cores: a loop, and so a thread, for each, and nothing shared between them.
 *
 *	loops [ADDRESS [LOOPS]]	"127.0.0.1:7", "[::1]:7"; without: a free port on 127.0.0.1, which it prints; 2 loops
 *
 * Every loop has a listening socket of its own on the same port (SO_REUSEPORT), so the kernel spreads connections. Threads
 * talk by posting: a posted function runs on the loop's thread, where everything of that loop may be touched.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <whilst/whilst.h>

enum { LOOPS_MAX = 64 };

/* Belongs to its loop's thread, once that is started. */
struct worker {
	wh_loop *loop;
	int listener;
	uint64_t connections, bytes;
};

struct connection {
	struct worker *worker;
	int fd;
	struct wh_buf *buf;
};

static void on_received(wh_loop *loop, wh_res res, void *arg);

static void hang_up(wh_loop *loop, struct connection *c)
{
	wh_close_now(loop, c->fd);
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
	c->worker->bytes += (uint64_t)res.n;
	c->buf = wh_buf_put(c->buf);
	wh_then(wh_recv_buf(loop, c->fd), on_received, c);
}

static void on_received(wh_loop *loop, wh_res res, void *arg)
{
	struct connection *c = arg;
	if (res.n <= 0) {
		hang_up(loop, c);
		return;
	}
	c->buf = res.ptr;
	wh_then(wh_send_all(loop, c->fd, c->buf->data, (size_t)res.n), on_sent, c);
}

static void on_accepted(wh_loop *loop, wh_res res, void *arg)
{
	struct worker *worker = arg;
	if (res.n < 0) /* the loop is being closed; a real server would pause and go on (examples/echo.c) */
		return;
	struct connection *c = calloc(1, sizeof *c);
	if (c) {
		*c = (struct connection){worker, (int)res.n, NULL};
		worker->connections++;
		wh_then(wh_recv_buf(loop, c->fd), on_received, c);
	} else {
		wh_close_now(loop, (int)res.n);
	}
	wh_then(wh_accept(loop, worker->listener), on_accepted, worker);
}

/* On the worker's thread: the first thing that its loop does. */
static void begin(void *arg)
{
	struct worker *worker = arg;
	wh_then(wh_accept(worker->loop, worker->listener), on_accepted, worker);
}

/* The listener is made by the main loop, before the worker runs; descriptors belong to no thread. */
static int start_worker(wh_loop *main_loop, struct worker *worker, char address[WH_ADDRESS_TEXT_MAX])
{
	struct wh_listen_options options = {.reuse_port = true};
	struct sockaddr_storage bound;
	socklen_t len;
	int r = worker->listener = wh_listen_text(main_loop, address, &options);
	if (r >= 0)
		r = wh_local_address(main_loop, worker->listener, &bound, &len);
	if (r == 0) /* with the port that was chosen: the others take the same */
		r = wh_format_address((struct sockaddr *)&bound, len, address, WH_ADDRESS_TEXT_MAX);
	if (r < 0)
		return r;
	r = wh_loop_start(&worker->loop, NULL);
	return r < 0 ? r : wh_post(worker->loop, begin, worker);
}

int main(int argc, char **argv)
{
	static struct worker workers[LOOPS_MAX];
	int count = argc > 2 ? atoi(argv[2]) : 2;
	char address[WH_ADDRESS_TEXT_MAX];
	snprintf(address, sizeof address, "%s", argc > 1 ? argv[1] : "127.0.0.1:0");
	if (count < 1 || count > LOOPS_MAX) {
		fprintf(stderr, "usage: loops [ADDRESS [LOOPS]], at most %d\n", LOOPS_MAX);
		return 2;
	}

	wh_loop *loop; /* the main thread's own: it waits for signals */
	int r = wh_loop_open(&loop, NULL);
	for (int i = 0; r == 0 && i < count; i++)
		r = start_worker(loop, &workers[i], address);
	if (r < 0) {
		fprintf(stderr, "loops: %s\n", wh_strerror(r));
		return 1;
	}
	printf("listening on %s\n", address);
	fflush(stdout);
	wh_future stop[2] = {wh_signal(loop, SIGTERM), wh_signal(loop, SIGINT)};
	wh_await(wh_any(loop, stop, 2, NULL));

	for (int i = 0; i < count; i++) {
		wh_loop_close(
			workers[i].loop); /* from here on its thread has ended: its numbers can be read */
		wh_await(wh_close(loop, workers[i].listener));
		printf("loop %d: %" PRIu64 " connections, %" PRIu64 " bytes\n", i, workers[i].connections,
		       workers[i].bytes);
	}
	wh_loop_close(loop);
	return 0;
}
