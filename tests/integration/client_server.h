/* tests/integration/client_server.h -- `whilst serve`, started by a test program of the C client: on a TCP port and a UNIX socket.
 *
 * The binary is $WHILST_BINARY, its engine that of the test ($WHILST_ENGINE). A server that was started again has the same addresses.
 */
#ifndef WH_TESTS_CLIENT_SERVER_H
#define WH_TESTS_CLIENT_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct served {
	pid_t pid;
	char folder[40], tcp[64], local[80];
	const char *more[4]; /* further arguments */
};

/* Every file of a connection is one, here and there. */
__attribute__((unused)) static void need_descriptors(rlim_t count)
{
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur >= count)
		return;
	if (limit.rlim_max < count) {
		printf("skipped: %llu descriptors are wanted\n", (unsigned long long)count);
		exit(77);
	}
	limit.rlim_cur = count;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

__attribute__((unused)) static void exec_server(const struct served *s, int out)
{
	const char *binary = getenv("WHILST_BINARY"), *listen = s->tcp[0] ? s->tcp + 7 : "127.0.0.1:0";
	const char *arguments[16] = {binary, "serve",    "--data", s->folder,     "--listen",
	                             listen, "--listen", s->local, "--log-level", "error"};
	size_t n = 10;

	for (size_t i = 0; i < 4 && s->more[i]; i++)
		arguments[n++] = s->more[i];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(out, 1);
	execv(binary, (char *const *)(uintptr_t)arguments);
	_exit(127);
}

__attribute__((unused)) static void server_start(struct served *s)
{
	char line[512];
	int fds[2];
	FILE *out;

	if (!s->folder[0]) {
		strcpy(s->folder, "/tmp/whilst-client-XXXXXX");
		assert_non_null(mkdtemp(s->folder));
		snprintf(s->local, sizeof(s->local), "unix:%s/socket", s->folder);
	}
	assert_int_equal(pipe(fds), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0)
		exec_server(s, fds[1]);
	close(fds[1]);
	out = fdopen(fds[0], "r");
	assert_non_null(out);
	if (!fgets(line, sizeof(line), out))
		fail_msg("the server does not start");
	fclose(out);
	if (!s->tcp[0]) {
		char *at = strstr(line, "http://127.0.0.1:");
		assert_non_null(at);
		snprintf(s->tcp, sizeof(s->tcp), "%.*s", (int)strcspn(at, " ,"), at);
	}
}

__attribute__((unused)) static bool answers(const struct sockaddr *address, socklen_t len)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes = connect(fd, address, len) == 0;

	close(fd);
	return yes;
}

__attribute__((unused)) static bool listens(const struct served *s)
{
	struct sockaddr_in tcp = {.sin_family = AF_INET,
	                          .sin_port = htons((uint16_t)atoi(strrchr(s->tcp, ':') + 1)),
	                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un local = {.sun_family = AF_UNIX};

	snprintf(local.sun_path, sizeof(local.sun_path), "%s", s->local + 5);
	return answers((struct sockaddr *)&tcp, sizeof(tcp)) ||
	       answers((struct sockaddr *)&local, sizeof(local));
}

__attribute__((unused)) static int server_end(struct served *s, int signal_number)
{
	int status = 0;

	assert_true(s->pid > 0);
	assert_int_equal(kill(s->pid, signal_number), 0);
	assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
	s->pid = 0;
	/* a ring lets go of the listening socket a little later than its process ends */
	for (int i = 0; listens(s); i++) {
		if (i == 20000)
			fail_msg("the server has ended, and its sockets listen on");
		poll(NULL, 0, 1);
	}
	return status;
}

__attribute__((unused)) static void server_remove(struct served *s)
{
	char command[80];

	if (s->pid > 0)
		assert_int_equal(server_end(s, SIGTERM), 0);
	snprintf(command, sizeof(command), "rm -rf %s", s->folder);
	assert_int_equal(system(command), 0);
}

#endif
