/* tests/conformance/http_peer.h -- the other end of HTTP tests: plain blocking sockets, nothing of whilst in it (but on a simulated
 * machine, http_on_sim.h). */
#ifndef TESTS_HTTP_PEER_H
#define TESTS_HTTP_PEER_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#ifdef WH_TESTS_HTTP_ON_SIM
#include "http_on_sim.h"
#endif

enum { PEER_PATIENCE_S = 20 };

static inline struct sockaddr_in peer_address(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static inline uint16_t peer_port(int fd)
{
	struct sockaddr_in address;
	socklen_t len = sizeof(address);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	return ntohs(address.sin_port);
}

static inline void peer_be_patient(int fd)
{
	struct timeval patience = {.tv_sec = PEER_PATIENCE_S};
	int one = 1;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* Before Linux 5.11 a ring interrupts a call of its thread, and a call that is patient for so long only is not begun again; the socket goes on
 * with it. */
static inline int peer_connect(uint16_t port)
{
	struct sockaddr_in address = peer_address(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), error;
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	socklen_t len = sizeof(error);

	assert_true(fd >= 0);
	peer_be_patient(fd);
	error = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
	if (error == EINTR) {
		while (poll(&p, 1, 30000) < 0)
			assert_int_equal(errno, EINTR);
		assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	}
	assert_int_equal(error, 0);
	return fd;
}

static inline int peer_listen(void)
{
	struct sockaddr_in address = peer_address(0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 64), 0);
	return fd;
}

/* A ring of this thread may interrupt a call that has a time-out: then it is made again. */
static inline ssize_t peer_recv(int fd, void *to, size_t len)
{
	ssize_t n;

	do
		n = recv(fd, to, len, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

static inline void peer_send(int fd, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len > 0) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			fail_msg("send: %s", strerror(errno));
		at += n;
		len -= (size_t)n;
	}
}

static inline void peer_say(int fd, const char *text)
{
	peer_send(fd, text, strlen(text));
}

/* Exactly len bytes. */
static inline void peer_read(int fd, void *to, size_t len)
{
	char *at = to;

	while (len > 0) {
		ssize_t n = peer_recv(fd, at, len);

		if (n <= 0)
			fail_msg("recv: %s", n == 0 ? "end of stream" : strerror(errno));
		at += n;
		len -= (size_t)n;
	}
}

/* Until the end of stream; what came, terminated; free() it. */
static inline char *peer_read_all(int fd, size_t *ret_len)
{
	size_t cap = 4096, len = 0;
	char *text = malloc(cap);

	for (;;) {
		ssize_t n;

		if (len + 1 == cap)
			text = realloc(text, cap *= 2);
		assert_non_null(text);
		n = peer_recv(fd, text + len, cap - len - 1);
		if (n < 0)
			fail_msg("recv: %s after %zu bytes", strerror(errno), len);
		if (n == 0)
			break;
		len += (size_t)n;
	}
	text[len] = 0;
	if (ret_len)
		*ret_len = len;
	return text;
}

/* A head up to and including its empty line; the bytes after it stay in the socket. */
static inline void peer_read_head(int fd, char *to, size_t max)
{
	size_t len = 0;

	while (len < 4 || memcmp(to + len - 4, "\r\n\r\n", 4) != 0) {
		assert_true(len + 1 < max);
		peer_read(fd, to + len, 1);
		len++;
	}
	to[len] = 0;
}

struct peer_answer {
	int status;
	char head[4096];
	char *body; /* terminated */
	size_t len;
};

static inline size_t peer_content_length(const char *head)
{
	const char *at = strstr(head, "Content-Length: ");

	assert_non_null(at);
	return strtoul(at + 16, NULL, 10);
}

/* An answer with a Content-Length; has_body false for HEAD. free(body). */
static inline struct peer_answer peer_read_answer(int fd, bool has_body)
{
	struct peer_answer answer = {0};

	peer_read_head(fd, answer.head, sizeof(answer.head));
	assert_int_equal(sscanf(answer.head, "HTTP/1.1 %d ", &answer.status), 1);
	if (has_body && answer.status != 204 && answer.status != 304)
		answer.len = peer_content_length(answer.head);
	answer.body = malloc(answer.len + 1);
	assert_non_null(answer.body);
	peer_read(fd, answer.body, answer.len);
	answer.body[answer.len] = 0;
	return answer;
}

static inline void peer_expect(int fd, int status, const char *body)
{
	struct peer_answer answer = peer_read_answer(fd, true);

	if (answer.status != status)
		fail_msg("wanted %d, got %s%s", status, answer.head, answer.body);
	if (body)
		assert_string_equal(answer.body, body);
	free(answer.body);
}

/* The peer has closed in an orderly way, with nothing more to say. */
static inline void peer_expect_end(int fd)
{
	char byte;
	ssize_t n = peer_recv(fd, &byte, 1);

	if (n != 0)
		fail_msg("wanted the end of the stream, got %s", n > 0 ? "bytes" : strerror(errno));
}

static inline void peer_reset(int fd)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

#endif
