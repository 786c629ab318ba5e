/* bench/client.h -- what the clients of bench/lives.c and bench/turnaround share: a connection to a server, and what they measure of it. */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "measure.h"

enum { SAMPLES_MAX = 4 << 20 };

/* Latencies in µs; those beyond SAMPLES_MAX are not kept. */
struct samples {
	float *us;
	size_t count;
};

static inline void samples_open(struct samples *s)
{
	s->us = malloc(SAMPLES_MAX * sizeof *s->us);
	if (!s->us)
		exit(1);
}

static inline void samples_add(struct samples *s, int64_t began)
{
	if (s->count < SAMPLES_MAX)
		s->us[s->count++] = (float)(measure_now() - began) / 1000;
}

static inline int samples_by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

static inline void samples_sort(struct samples *s)
{
	qsort(s->us, s->count, sizeof *s->us, samples_by_size);
}

/* Of sorted ones: p from 0 to 1. */
static inline double samples_at(const struct samples *s, double p)
{
	return s->count ? (double)s->us[(size_t)((double)(s->count - 1) * p)] : 0;
}

/* ADDRESS:PORT, of IPv4. */
static inline bool client_address(const char *where, struct sockaddr_in *ret)
{
	char host[64];
	const char *colon = strrchr(where, ':');
	if (!colon || (size_t)(colon - where) >= sizeof host)
		return false;
	memcpy(host, where, (size_t)(colon - where));
	host[colon - where] = 0;
	*ret = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
	return inet_pton(AF_INET, host, &ret->sin_addr) == 1;
}

/* Blocking as yet; -1: see errno. */
static inline int client_connect(const struct sockaddr_in *server)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	if (fd < 0 || connect(fd, (const struct sockaddr *)server, sizeof *server) != 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

#endif
