/* echo_task.c -- the echo server again, written as if it blocked: a task for each connection.
 *
 *	echo_task [ADDRESS]	"127.0.0.1:7", "[::1]:7", "unix:/path"; without: a free port on 127.0.0.1, which it prints
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <whilst/whilst.h>

/* One client. Each wh_await() parks this task, and the loop goes on with others. */
static int64_t serve(void *arg)
{
	wh_loop *loop = wh_self();
	int fd = (int)(intptr_t)arg;
	char bytes[4096]; /* on the task's own stack, which stays while it waits */
	wh_res got;
	while ((got = wh_await(wh_recv(loop, fd, bytes, sizeof bytes))).n > 0)
		if (wh_await(wh_send_all(loop, fd, bytes, (size_t)got.n)).n < 0)
			break;
	wh_await(wh_close(loop, fd));
	return 0;
}

/* The server: everything that it starts is in its group, and ends before it does. */
static int64_t accept_all(void *arg)
{
	wh_loop *loop = wh_self();
	int listener = *(int *)arg;
	wh_group clients;
	struct wh_group_options options = {.keep_going = true}; /* one client's trouble is not another's */
	int r = wh_group_open(loop, &clients, &options);
	while (r == 0) {
		wh_res res = wh_await(wh_accept(loop, listener));
		if (res.n == -ECANCELED)
			break;
		if (res.n < 0) /* out of descriptors: those who are served will end */
			wh_await(wh_sleep(loop, 100 * WH_NS_PER_MS));
		else if (wh_group_go(clients, serve, (void *)(intptr_t)res.n, NULL) != 0)
			wh_await(wh_close(loop, (int)res.n));
	}
	wh_shield(true); /* this task is cancelled, and its farewell waits all the same */
	if (r == 0)
		wh_await(wh_group_close(
			clients)); /* cancels each; its wait ends with -ECANCELED, and serve() returns */
	wh_await(wh_close(loop, listener));
	return r;
}

int main(int argc, char **argv)
{
	wh_loop *loop;
	int listener = -1, r = wh_loop_open(&loop, NULL);
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
		fprintf(stderr, "echo_task: %s\n", wh_strerror(r));
		return 1;
	}
	printf("listening on %s\n", text);
	fflush(stdout);

	wh_future server = wh_go(loop, accept_all, &listener);
	wh_future stop[2] = {wh_signal(loop, SIGTERM), wh_signal(loop, SIGINT)};
	wh_await(wh_any(loop, stop, 2, NULL));
	wh_cancel(server);
	r = (int)wh_await(server).n;
	wh_loop_close(loop);
	return r == 0 ? 0 : 1;
}
