/* tests/conformance/conformance.h -- what the conformance tests share.
 *
 * Every file runs once for each engine, chosen by WHILST_ENGINE, and expects the same of all: nothing here or in the
 * tests asks which engine it is, except where the contract itself names one. An engine that this machine does not
 * have is a skip.
 */
#ifndef WH_TESTS_CONFORMANCE_H
#define WH_TESTS_CONFORMANCE_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/sim.h"
#include "whilst/whilst.h"

__attribute__((unused)) static wh_loop *loop;

#include "on_sim.h"

__attribute__((unused)) static int open_loop(void **state)
{
	int error = on_sim_open();
	return error != 0 ? error : on_sim_loop_open(&loop, NULL);
}

__attribute__((unused)) static int close_loop(void **state)
{
	loop = wh_loop_close(loop);
	on_sim_close();
	return 0;
}

#define ON_LOOP(f) cmocka_unit_test_setup_teardown(f, open_loop, close_loop)

/* valgrind does some of the kernel's work itself, and not all of it is as the kernel does it. */
__attribute__((unused)) static bool under_valgrind(void)
{
	return getenv("WHILST_VALGRIND") != NULL;
}

/* Of every main(): the engine is there, or the file is skipped. */
__attribute__((unused)) static void need_engine(void)
{
	wh_loop *probe = NULL;
	const char *name = getenv("WHILST_ENGINE");
	int error = on_sim_open();
	if (error == 0)
		error = on_sim_loop_open(&probe, NULL);
	if (error != 0) {
		printf("skipped: engine %s: %s\n", name, wh_strerror(error));
		exit(77);
	}
	wh_loop_close(probe);
	on_sim_close();
}

struct seen {
	int count;
	wh_res last;
	int order[64];
};

__attribute__((unused)) static void note(wh_loop *l, wh_res res, void *arg)
{
	struct seen *seen = arg;
	seen->count++;
	seen->last = res;
}

__attribute__((unused)) static void run_until(const int *count, int wanted)
{
	while (*count < wanted)
		assert_int_equal(wh_loop_turn(loop, -1), 0);
}

__attribute__((unused)) static void make_pair(int fds[2])
{
	assert_int_equal(on_sim_socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

__attribute__((unused)) static void close_fd(int fd)
{
	assert_int_equal(wh_await(wh_close(loop, fd)).n, 0);
}

__attribute__((unused)) static int listen_tcp(struct sockaddr_in *ret_address)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof address;
	int fd = wh_listen(loop, (struct sockaddr *)&address, sizeof address, NULL);
	assert_true(fd >= 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)ret_address, &len), 0);
	return fd;
}

/* Both ends of a TCP connection. */
__attribute__((unused)) static void make_tcp(int fds[2])
{
	struct sockaddr_in address;
	int listener = listen_tcp(&address);
	wh_future accepted = wh_accept(loop, listener);
	fds[0] = (int)wh_await(wh_connect(loop, (struct sockaddr *)&address, sizeof address)).n;
	fds[1] = (int)wh_await(accepted).n;
	assert_true(fds[0] >= 0 && fds[1] >= 0);
	close_fd(listener);
}

/* An unlinked temporary file with some content. */
__attribute__((unused)) static int make_file(const char *content)
{
	char path[] = "/tmp/whilst-conformance-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(write(fd, content, strlen(content)), strlen(content));
	return fd;
}

/* Files, pipes and sockets; not what an engine keeps for itself. */
__attribute__((unused)) static int open_fd_count(void)
{
	struct stat st;
	int count = 0;
	if (machine)
		return on_sim_count();
	for (int fd = 0; fd < 4096; fd++)
		count += fstat(fd, &st) == 0 &&
		         (S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode) || S_ISFIFO(st.st_mode));
	return count;
}

__attribute__((unused)) static int64_t monotonic(void)
{
	return wh_clock(loop);
}

#endif
