/* bench/lives.c -- whole lives of jobs over HTTP: submitted, reserved and completed, one by one or in binary batches.
 *
 * Every connection goes round in a closed loop: it submits --batch jobs, reserves as many (most likely others' as well), completes
 * what it got. --level is that of submits and completions; leases are committed as the server does unasked. One thread, raw epoll, nothing of whilst in it. Prints one line of JSON: lives a second, latency of a
 * round, and the CPU time that the server --pid used for a life, all of its threads included.
 *
 *   lives --connect 127.0.0.1:4480 --level local --batch 100 --connections 4 --seconds 2 --pid 4711
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "client.h"

enum { BYTES = 1 << 20, PAYLOAD = 128, BATCH_MAX = 1000, EVENTS = 256 };
enum {
	ITEM_HEAD = 28,
	LEASE_BYTES = 24
}; /* docs/reference/batch.md: length(4), then id claim epoch attempt */
enum step { SUBMIT, RESERVE, COMPLETE };

struct connection {
	int fd;
	enum step step;
	int64_t began;
	size_t in_len, out_len, out_at;
	bool wants_out;
	uint8_t *in, *out; /* BYTES */
};

static struct sockaddr_in server;
static const char *level = "local";
static uint32_t batch = 1;
static int epoll_fd;
static struct samples rounds;
static uint64_t lives;
static bool measuring;

static void die(const char *what)
{
	fprintf(stderr, "lives: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void put32(uint8_t *at, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void flush(struct connection *c)
{
	while (c->out_at < c->out_len) {
		ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			die("send");
		c->out_at += (size_t)n;
	}
	if ((c->out_at < c->out_len) != c->wants_out) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
		c->wants_out = !c->wants_out;
		event.events |= c->wants_out ? EPOLLOUT : 0;
		if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event) != 0)
			die("epoll_ctl");
	}
}

/* A request whose body is `len` bytes that the caller appends to what is here. */
static void request(struct connection *c, const char *target, const char *fields, size_t len)
{
	c->out_at = 0;
	c->out_len = (size_t)snprintf(
		(char *)c->out, BYTES,
		"POST %s HTTP/1.1\r\nHost: localhost\r\n%s%s%s%sContent-Length: %zu\r\n\r\n", target,
		c->step == RESERVE ? "" : "Whilst-Commit: ", c->step == RESERVE ? "" : level,
		c->step == RESERVE ? "" : "\r\n", fields, len);
}

static void submit(struct connection *c)
{
	c->step = SUBMIT;
	c->began = measure_now();
	if (batch == 1) {
		request(c, "/v1/queues/lives/jobs?retention=0s", "Content-Type: application/octet-stream\r\n",
		        PAYLOAD);
	} else {
		request(c, "/v1/queues/lives/jobs?retention=0s",
		        "Content-Type: application/vnd.whilst.batch\r\n", batch * (4 + PAYLOAD));
	}
	for (uint32_t i = 0; i < batch; i++) {
		if (batch > 1) {
			put32(c->out + c->out_len, PAYLOAD);
			c->out_len += 4;
		}
		memset(c->out + c->out_len, 'x', PAYLOAD);
		c->out_len += PAYLOAD;
	}
}

static void reserve(struct connection *c)
{
	char target[64];
	c->step = RESERVE;
	snprintf(target, sizeof target,
	         batch == 1 ? "/v1/queues/lives/reserve" : "/v1/queues/lives/reserve?n=%u", batch);
	request(c, target, batch == 1 ? "" : "Accept: application/vnd.whilst.batch\r\n", 0);
}

/* The value of a field in a head, up to the end of its line. */
static const char *field(const char *head, const char *name)
{
	const char *at = strcasestr(head, name);
	return at ? at + strlen(name) : NULL;
}

static void complete_one(struct connection *c, const char *head)
{
	const char *job = field(head, "\r\nwhilst-job: "), *lease = field(head, "\r\nwhilst-lease: ");
	char target[64], fields[128];
	if (!job || !lease) {
		submit(c); /* another had it */
		return;
	}
	snprintf(target, sizeof target, "/v1/jobs/%.*s/complete", (int)strcspn(job, "\r"), job);
	snprintf(fields, sizeof fields, "Whilst-Lease: %.*s\r\n", (int)strcspn(lease, "\r"), lease);
	c->step = COMPLETE;
	request(c, target, fields, 4);
	memcpy(c->out + c->out_len, "done", 4);
	c->out_len += 4;
	lives += measuring;
}

static void complete_many(struct connection *c, const uint8_t *body, size_t len)
{
	uint32_t count = 0;
	for (size_t at = 0; at < len; at += 4 + get32(body + at))
		count++;
	if (count == 0) {
		submit(c);
		return;
	}
	c->step = COMPLETE;
	request(c, "/v1/queues/lives/complete", "Content-Type: application/vnd.whilst.batch\r\n",
	        count * (ITEM_HEAD + 4));
	for (size_t at = 0; at < len; at += 4 + get32(body + at)) {
		uint8_t *item = c->out + c->out_len;
		put32(item, LEASE_BYTES + 4);
		memcpy(item + 4, body + at + 4, LEASE_BYTES);
		put32(item + 4 + LEASE_BYTES - 4, 0); /* in place of the attempt */
		memcpy(item + 4 + LEASE_BYTES, "done", 4);
		c->out_len += ITEM_HEAD + 4;
	}
	lives += measuring ? count : 0;
}

static void next(struct connection *c, const char *head, const uint8_t *body, size_t len)
{
	switch (c->step) {
	case SUBMIT:
		reserve(c);
		break;
	case RESERVE:
		if (batch == 1)
			complete_one(c, head);
		else
			complete_many(c, body, len);
		break;
	case COMPLETE:
		if (measuring)
			samples_add(&rounds, c->began);
		submit(c);
		break;
	}
}

static void receive(struct connection *c)
{
	char head[2048];
	ssize_t n = recv(c->fd, c->in + c->in_len, BYTES - c->in_len, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		die("the server closed a connection");
	c->in_len += (size_t)n;
	const uint8_t *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
	size_t head_len = end ? (size_t)(end - c->in) + 4 : 0;
	if (!end || head_len >= sizeof head)
		return;
	memcpy(head, c->in, head_len);
	head[head_len] = 0;
	const char *length = field(head, "\r\ncontent-length: ");
	size_t len = length ? strtoul(length, NULL, 10) : 0;
	if (c->in_len < head_len + len)
		return;
	if (head[9] != '2') {
		fprintf(stderr, "lives: %.*s\n", (int)(c->in_len < 600 ? c->in_len : 600),
		        (const char *)c->in);
		exit(1);
	}
	next(c, head, c->in + head_len, len);
	c->in_len = 0;
	flush(c);
}

static void run(double warmup, double seconds, clockid_t clock)
{
	int64_t from = measure_now() + (int64_t)(warmup * 1e9), until = from + (int64_t)(seconds * 1e9),
		cpu = 0, now;
	while ((now = measure_now()) < until) {
		struct epoll_event events[EVENTS];
		if (!measuring && now >= from) {
			measuring = true;
			from = now;
			cpu = measure_clock(clock);
		}
		int n = epoll_wait(epoll_fd, events, EVENTS, 100);
		for (int i = 0; i < n; i++) {
			if (events[i].events & EPOLLOUT)
				flush(events[i].data.ptr);
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				receive(events[i].data.ptr);
		}
	}
	cpu = measure_clock(clock) - cpu;
	double wall = (double)(measure_now() - from) / 1e9;
	samples_sort(&rounds);
	printf("{\"ops_per_s\": %.1f, \"cpu_us_per_op\": %.4f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n",
	       (double)lives / wall, lives ? (double)cpu / 1000 / (double)lives : 0, samples_at(&rounds, 0.5),
	       samples_at(&rounds, 0.99));
}

static int usage(void)
{
	fprintf(stderr,
	        "usage: lives --connect ADDRESS:PORT [--level local|async] [--batch N] [--connections N]\n"
	        "             [--seconds S] [--warmup S] --pid PID\n");
	return 2;
}

static void open_connection(void)
{
	struct connection *c = calloc(1, sizeof *c);
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
	c->in = malloc(BYTES);
	c->out = malloc(BYTES);
	c->fd = client_connect(&server);
	if (c->fd < 0)
		die("connect");
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
		die("epoll_ctl");
	submit(c);
	flush(c);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"connect", 1, 0, 'c'}, {"level", 1, 0, 'l'},
	                                      {"batch", 1, 0, 'b'},   {"connections", 1, 0, 'n'},
	                                      {"seconds", 1, 0, 's'}, {"warmup", 1, 0, 'w'},
	                                      {"pid", 1, 0, 'i'},     {0}};
	double seconds = 2, warmup = 0.5;
	uint32_t connections = 1;
	bool addressed = false;
	clockid_t clock = 0;
	for (int o; (o = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		switch (o) {
		case 'c':
			addressed = client_address(optarg, &server);
			break;
		case 'l':
			level = optarg;
			break;
		case 'b':
			batch = (uint32_t)atoi(optarg);
			break;
		case 'n':
			connections = (uint32_t)atoi(optarg);
			break;
		case 's':
			seconds = atof(optarg);
			break;
		case 'w':
			warmup = atof(optarg);
			break;
		case 'i':
			if (clock_getcpuclockid(atoi(optarg), &clock) != 0)
				return usage();
			break;
		default:
			return usage();
		}
	}
	if (!addressed || batch == 0 || batch > BATCH_MAX || connections == 0 || clock == 0)
		return usage();
	epoll_fd = epoll_create1(0);
	samples_open(&rounds);
	for (uint32_t i = 0; i < connections; i++)
		open_connection();
	run(warmup, seconds, clock);
	return lives == 0;
}
