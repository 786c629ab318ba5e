/* bench/runtime/echo_coroutine.c -- the same echo as echo_whilst.c, written as a sequence: a task for each connection.
 *
 * usage: echo_coroutine [ENGINE]    prints "PORT n"
 */
#include "../peers/echo.h"

#include <errno.h>

#include "whilst/whilst.h"

/* The buffer lies on the task's stack, as it would in a thread. */
static int64_t serve(void *arg)
{
	wh_loop *loop = wh_self();
	int fd = (int)(intptr_t)arg;
	char buffer[ECHO_BUFFER_BYTES];
	int64_t n;
	while ((n = wh_await(wh_recv(loop, fd, buffer, sizeof buffer)).n) > 0) {
		n = wh_await(wh_send_all(loop, fd, buffer, (size_t)n)).n;
		if (n < 0)
			break;
	}
	return wh_await(wh_close(loop, fd)).n;
}

static int64_t accept_all(void *arg)
{
	wh_loop *loop = wh_self();
	int listener = *(int *)arg;
	for (;;) {
		int64_t fd = wh_await(wh_accept(loop, listener)).n;
		if (fd >= 0)
			wh_detach(wh_go(loop, serve, (void *)(intptr_t)fd));
		else if (fd == -ECANCELED)
			return fd;
	}
}

int main(int argc, char **argv)
{
	wh_loop *loop;
	if (argc > 1)
		setenv("WHILST_ENGINE", argv[1], 1);
	int error = wh_loop_open(&loop, NULL);
	if (error) {
		fprintf(stderr, "echo_coroutine: %s\n", wh_strerror(error));
		return 1;
	}
	int listener = echo_listen(1);
	wh_detach(wh_go(loop, accept_all, &listener));
	wh_loop_run(loop);
	wh_loop_close(loop);
	return 0;
}
