/* bench/beanstalk_load.c -- closed-loop load for servers of the beanstalkd protocol: one thread, raw epoll, nothing of whilst.
 *
 * Every connection goes through rounds. A round of --mode put hands over --pipeline jobs in one send and waits for all
 * answers; a round of --mode life goes on with as many reserves, and then deletes what it has got, one send each. A job is an
 * operation; its latency is that of its round. Prints one line of JSON like load.c: operations per second,
 * percentiles, and the CPU time of the servers named by --pid.
 *
 *   beanstalk_load --connect 127.0.0.1:11300 --mode life --bytes 128 --connections 50 --pipeline 64 --seconds 3 --pid 4711
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 512 * 1024, PIDS_MAX = 8, SAMPLES_MAX = 1 << 22 };
enum phase { PUT, RESERVE, DELETE };

struct connection {
	int fd;
	int phase;
	uint32_t answers; /* of the phase, still to come */
	char *in;
	size_t in_len;
	const char *out;
	size_t out_left;
	char *deletes;
	size_t deletes_len;
	int64_t started;
	bool wants_out;
};

static struct {
	bool life;
	uint32_t pipeline, connections, bytes;
	double seconds, warmup;
	clockid_t clocks[PIDS_MAX];
	int clock_count;
	char *puts, *reserves;
	size_t puts_len, reserves_len;
} options = {.pipeline = 1, .connections = 1, .bytes = 128, .seconds = 3, .warmup = 0.5};

static int epoll_fd;
static bool measuring;
static uint64_t operations;
static float *samples; /* microseconds of rounds */
static size_t samples_count;

static void die(const char *what)
{
	fprintf(stderr, "beanstalk_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t clock_ns(clockid_t clock)
{
	struct timespec ts;
	if (clock_gettime(clock, &ts) != 0)
		return 0;
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void send_more(struct connection *c)
{
	while (c->out_left > 0) {
		ssize_t n = send(c->fd, c->out, c->out_left, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			die("send");
		c->out += n;
		c->out_left -= (size_t)n;
	}
	if ((c->out_left > 0) != c->wants_out) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
		c->wants_out = c->out_left > 0;
		if (c->wants_out)
			event.events |= EPOLLOUT;
		if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event) != 0)
			die("epoll_ctl");
	}
}

static void begin(struct connection *c, int phase)
{
	c->phase = phase;
	c->answers = options.pipeline;
	c->out = phase == PUT ? options.puts : phase == RESERVE ? options.reserves : c->deletes;
	c->out_left = phase == PUT       ? options.puts_len
	              : phase == RESERVE ? options.reserves_len
	                                 : c->deletes_len;
	if (phase == PUT)
		c->started = clock_ns(CLOCK_MONOTONIC);
	if (phase == RESERVE)
		c->deletes_len = 0;
	send_more(c);
}

static void end_round(struct connection *c)
{
	if (measuring) {
		operations += options.pipeline;
		if (samples_count < SAMPLES_MAX)
			samples[samples_count++] = (float)(clock_ns(CLOCK_MONOTONIC) - c->started) / 1000;
	}
	begin(c, PUT);
}

static void unexpected(const char *in, size_t len)
{
	fprintf(stderr, "beanstalk_load: unexpected answer: %.*s\n", (int)(len < 80 ? len : 80), in);
	exit(1);
}

/* Bytes of the complete answer at the start of in, 0: not complete yet. */
static size_t answer(struct connection *c, const char *in, size_t len)
{
	static const char *const words[] = {"INSERTED ", "RESERVED ", "DELETED\r\n"};
	const char *end = memchr(in, '\n', len);
	size_t line = end ? (size_t)(end - in) + 1 : 0;

	if (line == 0)
		return 0;
	if (strncmp(in, words[c->phase], 9) != 0)
		unexpected(in, len);
	if (c->phase == RESERVE) {
		const char *space = memchr(in + 9, ' ', line - 9);
		size_t id = (size_t)(space - in) - 9;

		line += strtoul(space, NULL, 10) + 2;
		if (len < line)
			return 0;
		memcpy(c->deletes + c->deletes_len, "delete ", 7);
		memcpy(c->deletes + c->deletes_len + 7, in + 9, id);
		memcpy(c->deletes + c->deletes_len + 7 + id, "\r\n", 2);
		c->deletes_len += 9 + id;
	}
	return line;
}

static void receive(struct connection *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, READ_BYTES - c->in_len, 0);
	size_t used = 0, one;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		die("the server closed a connection");
	c->in_len += (size_t)n;
	while (c->answers > 0 && (one = answer(c, c->in + used, c->in_len - used)) > 0) {
		used += one;
		c->answers--;
	}
	memmove(c->in, c->in + used, c->in_len - used);
	c->in_len -= used;
	if (c->answers > 0)
		return;
	if (!options.life || c->phase == DELETE)
		end_round(c);
	else
		begin(c, c->phase + 1);
}

static void connect_to(struct connection *c, const char *where)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	const char *colon = strrchr(where, ':');
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
	char host[64];
	int one = 1;

	if (!colon || (size_t)(colon - where) >= sizeof host)
		die("--connect wants ADDRESS:PORT");
	snprintf(host, sizeof host, "%.*s", (int)(colon - where), where);
	address.sin_port = htons((uint16_t)atoi(colon + 1));
	inet_pton(AF_INET, host, &address.sin_addr);
	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0)
		die(where);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	c->in = malloc(READ_BYTES);
	c->deletes = malloc((size_t)options.pipeline * 32);
	if (!c->in || !c->deletes || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
		die("a connection");
}

static void prepare(void)
{
	size_t one = options.bytes + 64, at = 0;

	samples = malloc(SAMPLES_MAX * sizeof samples[0]);
	options.puts = malloc(one * options.pipeline);
	options.reserves = malloc(32 * (size_t)options.pipeline);
	if (!samples || !options.puts || !options.reserves)
		die("memory");
	for (uint32_t i = 0; i < options.pipeline; i++) {
		at += (size_t)sprintf(options.puts + at, "put 0 0 60 %u\r\n", options.bytes);
		memset(options.puts + at, 'x', options.bytes);
		memcpy(options.puts + at + options.bytes, "\r\n", 2);
		at += options.bytes + 2;
		memcpy(options.reserves + 9 * (size_t)i, "reserve\r\n", 9);
	}
	options.puts_len = at;
	options.reserves_len = 9 * (size_t)options.pipeline;
}

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

static double percentile(double p)
{
	return samples_count ? (double)samples[(size_t)((double)(samples_count - 1) * p)] : 0;
}

static void run(struct connection *connections)
{
	int64_t from = clock_ns(CLOCK_MONOTONIC) + (int64_t)(options.warmup * 1e9), now, cpu = 0;
	int64_t until = from + (int64_t)(options.seconds * 1e9), cpu_from[PIDS_MAX] = {0};
	double seconds;

	for (uint32_t i = 0; i < options.connections; i++)
		begin(&connections[i], PUT);
	while ((now = clock_ns(CLOCK_MONOTONIC)) < until) {
		struct epoll_event events[256];
		int n;

		if (!measuring && now >= from) {
			measuring = true;
			from = now;
			for (int i = 0; i < options.clock_count; i++)
				cpu_from[i] = clock_ns(options.clocks[i]);
		}
		n = epoll_wait(epoll_fd, events, 256, 100);
		for (int i = 0; i < n; i++) {
			struct connection *c = events[i].data.ptr;

			if (events[i].events & EPOLLOUT)
				send_more(c);
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				receive(c);
		}
	}
	seconds = (double)(clock_ns(CLOCK_MONOTONIC) - from) / 1e9;
	for (int i = 0; i < options.clock_count; i++)
		cpu += clock_ns(options.clocks[i]) - cpu_from[i];
	qsort(samples, samples_count, sizeof samples[0], by_value);
	printf("{\"ops_per_s\": %.1f, \"cpu_us_per_op\": %.4f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
	       "\"operations\": %llu}\n",
	       (double)operations / seconds, operations ? (double)cpu / 1000 / (double)operations : 0,
	       percentile(0.5), percentile(0.99), (unsigned long long)operations);
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{"connect", 1, 0, 'c'},     {"mode", 1, 0, 'm'},     {"bytes", 1, 0, 'b'},
		{"connections", 1, 0, 'n'}, {"pipeline", 1, 0, 'p'}, {"seconds", 1, 0, 's'},
		{"warmup", 1, 0, 'w'},      {"pid", 1, 0, 'i'},      {0}};
	struct connection *connections;
	const char *where = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'c':
			where = optarg;
			break;
		case 'm':
			options.life = strcmp(optarg, "life") == 0;
			break;
		case 'b':
			options.bytes = (uint32_t)atoi(optarg);
			break;
		case 'n':
			options.connections = (uint32_t)atoi(optarg);
			break;
		case 'p':
			options.pipeline = (uint32_t)atoi(optarg);
			break;
		case 's':
			options.seconds = atof(optarg);
			break;
		case 'w':
			options.warmup = atof(optarg);
			break;
		case 'i':
			if (options.clock_count == PIDS_MAX ||
			    clock_getcpuclockid(atoi(optarg), &options.clocks[options.clock_count++]) != 0)
				die(optarg);
			break;
		default:
			return 2;
		}
	}
	if (!where || options.pipeline == 0 || options.connections == 0) {
		fprintf(stderr, "usage: beanstalk_load --connect ADDRESS:PORT [--mode put|life] [--bytes N] "
		                "[--connections N] [--pipeline N]\n       [--seconds S] [--warmup S] [--pid "
		                "PID]...\n");
		return 2;
	}
	prepare();
	epoll_fd = epoll_create1(0);
	connections = calloc(options.connections, sizeof *connections);
	if (!connections)
		die("memory");
	for (uint32_t i = 0; i < options.connections; i++)
		connect_to(&connections[i], where);
	run(connections);
	return 0;
}
