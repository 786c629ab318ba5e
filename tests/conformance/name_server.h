/* tests/conformance/name_server.h -- Debian's dnsmasq on a port of loopback, and name servers that misbehave.
 *
 * The real one answers for the domain "test". What is below "hole.test" it asks of a socket that nobody reads: questions that
 * are never answered.
 */
#ifndef WH_TESTS_NAME_SERVER_H
#define WH_TESTS_NAME_SERVER_H

#include <arpa/inet.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "conformance.h"

struct name_server {
	pid_t pid;
	int hole; /* the socket that nobody reads */
	char servers[64], hole_servers[64];
};

/* A UDP socket bound to a port that is free for TCP as well. */
__attribute__((unused)) static int bind_udp(uint16_t *ret_port)
{
	for (int tries = 0; tries < 100; tries++) {
		struct sockaddr_in address = {.sin_family = AF_INET,
		                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		socklen_t len = sizeof address;
		int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_true(udp >= 0 && tcp >= 0);
		assert_int_equal(bind(udp, (struct sockaddr *)&address, sizeof address), 0);
		assert_int_equal(getsockname(udp, (struct sockaddr *)&address, &len), 0);
		bool good = bind(tcp, (struct sockaddr *)&address, sizeof address) == 0;
		close(tcp);
		if (good) {
			*ret_port = ntohs(address.sin_port);
			return udp;
		}
		close(udp);
	}
	fail_msg("no port is free");
	return -1;
}

/* false: dnsmasq is not installed. extra: arguments, NULL at the end. */
__attribute__((unused)) static bool start_name_server(struct name_server *server)
{
	uint16_t port, hole_port;
	char listen[32], hole[64];
	server->hole = bind_udp(&hole_port);
	int probe = bind_udp(&port);
	close(probe);
	snprintf(listen, sizeof listen, "--port=%u", port);
	snprintf(hole, sizeof hole, "--server=/hole.test/127.0.0.1#%u", hole_port);
	snprintf(server->servers, sizeof server->servers, "127.0.0.1:%u", port);
	snprintf(server->hole_servers, sizeof server->hole_servers, "127.0.0.1:%u", hole_port);
	static char many[200][48];
	const char *argv[260] = {"dnsmasq",
	                         "--keep-in-foreground",
	                         "--conf-file=/dev/null",
	                         "--no-resolv",
	                         "--no-hosts",
	                         "--no-daemon",
	                         "--log-facility=/dev/null",
	                         "--pid-file=",
	                         "--user=",
	                         "--bind-interfaces",
	                         "--listen-address=127.0.0.1",
	                         "--local=/test/",
	                         "--cache-size=0",
	                         "--host-record=both.test,127.0.0.1,::1",
	                         "--host-record=four.test,127.0.0.1",
	                         "--host-record=six.test,::1",
	                         "--host-record=short.alpha.test,127.0.0.2",
	                         "--host-record=short.beta.test,127.0.0.3",
	                         "--host-record=far.test,192.0.2.1",
	                         "--ptr-record=1.2.0.192.in-addr.arpa,far.test",
	                         "--cname=alias.test,four.test",
	                         listen,
	                         hole};
	size_t argc = 0;
	while (argv[argc])
		argc++;
	for (int i = 0; i < 200; i++) { /* too much for a datagram */
		snprintf(many[i], sizeof many[i], "--host-record=many.test,127.1.%d.1", i);
		argv[argc++] = many[i];
	}
	const char *path = access("/usr/sbin/dnsmasq", X_OK) == 0 ? "/usr/sbin/dnsmasq" : "dnsmasq";
	pid_t parent = getpid();
	server->pid = fork();
	if (server->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		dup2(null, 2);
		if (getppid() == parent)
			execvp(path, (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	assert_true(server->pid > 0);
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
	for (;;) { /* until it listens */
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), status;
		bool up = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
		close(fd);
		if (up)
			return true;
		if (waitpid(server->pid, &status, WNOHANG) == server->pid) {
			server->pid = 0;
			return false;
		}
		poll(NULL, 0, 2);
	}
}

__attribute__((unused)) static void stop_name_server(struct name_server *server)
{
	if (server->pid > 0) {
		kill(server->pid, SIGKILL);
		waitpid(server->pid, NULL, 0);
	}
	server->pid = 0;
	if (server->hole >= 0)
		close(server->hole);
	server->hole = -1;
}

/* ---- servers that misbehave, on a thread --------------------------------------------------- */

enum misbehaviour {
	ONLY_IPV4, /* answers for A, never for AAAA */
	GARBAGE,   /* random bytes */
	SERVFAIL,
	REFUSED
};

struct odd_server {
	pthread_t thread;
	int fd;
	enum misbehaviour how;
	char servers[64];
	atomic_int questions;
};

/* The address of every name: 127.0.0.1. */
__attribute__((unused)) static size_t odd_answer(enum misbehaviour how, uint8_t *message, size_t len)
{
	static const uint8_t answer[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1};
	if (len < 12)
		return 0;
	switch (how) {
	case ONLY_IPV4:
		if (message[len - 3] != 1)
			return 0; /* AAAA */
		message[2] = 0x85;
		message[3] = 0x80;
		message[7] = 1;
		memcpy(message + len, answer, sizeof answer);
		return len + sizeof answer;
	case GARBAGE:
		memset(message + 2, 0xff, len - 2);
		return len;
	case SERVFAIL:
	case REFUSED:
		message[2] = 0x81;
		message[3] = how == SERVFAIL ? 0x82 : 0x85;
		return len;
	}
	return 0;
}

__attribute__((unused)) static void *odd_main(void *arg)
{
	struct odd_server *server = arg;
	for (;;) {
		uint8_t message[600];
		struct sockaddr_in from;
		socklen_t from_len = sizeof from;
		ssize_t n = recvfrom(server->fd, message, 512, 0, (struct sockaddr *)&from, &from_len);
		if (n == 1)
			return NULL; /* the end */
		atomic_fetch_add(&server->questions, 1);
		size_t len = n > 0 ? odd_answer(server->how, message, (size_t)n) : 0;
		if (len > 0)
			sendto(server->fd, message, len, 0, (struct sockaddr *)&from, from_len);
	}
}

__attribute__((unused)) static void start_odd_server(struct odd_server *server, enum misbehaviour how)
{
	uint16_t port;
	*server = (struct odd_server){.how = how};
	server->fd = bind_udp(&port);
	snprintf(server->servers, sizeof server->servers, "127.0.0.1:%u", port);
	assert_int_equal(pthread_create(&server->thread, NULL, odd_main, server), 0);
}

__attribute__((unused)) static void stop_odd_server(struct odd_server *server)
{
	struct sockaddr_in address;
	socklen_t len = sizeof address;
	getsockname(server->fd, (struct sockaddr *)&address, &len);
	assert_int_equal(sendto(server->fd, "", 1, 0, (struct sockaddr *)&address, len), 1);
	pthread_join(server->thread, NULL);
	close(server->fd);
}

#endif
