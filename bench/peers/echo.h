/* bench/peers/echo.h -- what the echo servers of the benchmark share: the listening socket and its
 * announcement. */
#ifndef BENCH_PEERS_ECHO_H
#define BENCH_PEERS_ECHO_H

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ECHO_BUFFER_BYTES = 16 * 1024, ECHO_CONNECTIONS_MAX = 20000 };

/* A socket listening on a port of loopback that the kernel chooses; prints "PORT n" for the script. */
static inline int echo_listen(int nonblocking)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof address;
	int fd = socket(AF_INET, SOCK_STREAM | (nonblocking ? SOCK_NONBLOCK : 0), 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
		perror("echo: listen");
		exit(1);
	}
	printf("PORT %d\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

static inline void echo_no_delay(int fd)
{
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

#endif
