/* bench/turnaround/turnaround.c -- how long until a caller knows: job handed over, taken by a worker, done, told.
 *
 * --callers connections each keep one job under way, --workers connections take the jobs and answer at once. What is measured is
 * the servers' share: one thread, raw epoll, the same for every protocol, nothing of whilst in it. Prints one line of JSON:
 * turnarounds a second, latency percentiles, and the CPU time of the processes named by --pid for each.
 *
 *   turnaround --connect 127.0.0.1:4480 --protocol whilst --callers 10 --workers 4 --seconds 2 --pid 4711
 *
 * Protocols: whilst (HTTP; the submit waits for the result), beanstalk (the outcome is a job of a tube of the
 * caller's own), redis (a stream with a group of consumers; the outcome is pushed to a list that the caller blocks on), nats
 * (a JetStream of one consumer; the outcome is published to the caller's inbox).
 */
#include "turnaround.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIDS_MAX = 8, LATENCIES_MAX = 4 << 20 };

const char payload[PAYLOAD_BYTES + 1] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
					"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
static const struct protocol *const protocols[] = {&protocol_whilst, &protocol_redis, &protocol_beanstalk,
                                                   &protocol_nats};
static const struct protocol *protocol;
static struct sockaddr_in server = {.sin_family = AF_INET};
static clockid_t clocks[PIDS_MAX];
static int clocks_count;
static float *latencies; /* µs, of LATENCIES_MAX */
static size_t latencies_count;
static bool measuring;

static void die(const char *what)
{
	fprintf(stderr, "turnaround: %s: %s\n", what, strerror(errno));
	exit(1);
}

void unexpected(const struct peer *p, const char *what)
{
	fprintf(stderr, "turnaround: %s %u, step %d: %s: %.*s\n", p->worker ? "worker" : "caller", p->number,
	        p->step, what, (int)(p->in_len < 400 ? p->in_len : 400), (const char *)p->in);
	exit(1);
}

static int64_t now_ns(clockid_t clock)
{
	struct timespec ts;
	if (clock_gettime(clock, &ts) != 0)
		return 0;
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

size_t line_length(const uint8_t *at, size_t len)
{
	const uint8_t *end = memmem(at, len, "\r\n", 2);
	return end ? (size_t)(end - at) + 2 : 0;
}

void say(struct peer *p, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int n = vsnprintf((char *)p->out + p->out_len, OUT_BYTES - p->out_len, format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= OUT_BYTES - p->out_len)
		unexpected(p, "more to send than is kept");
	p->out_len += (size_t)n;
}

/* What is sent is a few hundred bytes and the peer reads: the socket takes it whole. */
static void flush(struct peer *p)
{
	size_t sent = 0;
	while (sent < p->out_len) {
		ssize_t n = send(p->fd, p->out + sent, p->out_len - sent, MSG_NOSIGNAL);
		if (n < 0)
			die("send");
		sent += (size_t)n;
	}
	p->out_len = 0;
}

static bool receive(struct peer *p)
{
	if (p->in_len == IN_BYTES)
		unexpected(p, "an answer is longer than is kept");
	ssize_t n = recv(p->fd, p->in + p->in_len, IN_BYTES - p->in_len, 0);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n < 0)
		die("recv");
	if (n == 0)
		unexpected(p, "the server closed the connection");
	p->in_len += (size_t)n;
	return true;
}

void settle(struct peer *p, const char *end)
{
	flush(p);
	while (!memmem(p->in, p->in_len, end, strlen(end)))
		receive(p);
	p->in_len = 0;
}

static void begin(struct peer *p)
{
	p->began = now_ns(CLOCK_MONOTONIC);
	protocol->begin(p);
}

static void turn(struct peer *p)
{
	size_t used = 0, one;
	if (!receive(p))
		return;
	while (p->in_len > 0) {
		bool done = false;
		one = protocol->take(p, &done);
		if (one == 0)
			break;
		used = p->in_len - one;
		memmove(p->in, p->in + one, used);
		p->in_len = used;
		if (done) {
			if (measuring && latencies_count < LATENCIES_MAX)
				latencies[latencies_count++] =
					(float)(now_ns(CLOCK_MONOTONIC) - p->began) / 1000;
			begin(p);
		}
	}
	flush(p);
}

static void open_peer(struct peer *p, int epoll_fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
	int one = 1;
	p->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (p->fd < 0 || connect(p->fd, (struct sockaddr *)&server, sizeof server) != 0)
		die("connect");
	setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (protocol->open)
		protocol->open(p);
	fcntl(p->fd, F_SETFL, O_NONBLOCK);
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, p->fd, &event) != 0)
		die("epoll_ctl");
}

static int by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return (x > y) - (x < y);
}

static double percentile(double p)
{
	return latencies_count ? (double)latencies[(size_t)((double)(latencies_count - 1) * p)] : 0;
}

static int64_t cpu_ns(void)
{
	int64_t sum = 0;
	for (int i = 0; i < clocks_count; i++)
		sum += now_ns(clocks[i]);
	return sum;
}

static void run(struct peer *peers, uint32_t count, int epoll_fd, double warmup, double seconds)
{
	int64_t began = now_ns(CLOCK_MONOTONIC), from = began + (int64_t)(warmup * 1e9);
	int64_t until = from + (int64_t)(seconds * 1e9), cpu = 0, now;
	for (uint32_t i = 0; i < count; i++) {
		begin(&peers[i]);
		flush(&peers[i]);
	}
	while ((now = now_ns(CLOCK_MONOTONIC)) < until) {
		struct epoll_event events[256];
		if (!measuring && now >= from) {
			measuring = true;
			from = now;
			cpu = cpu_ns();
		}
		int n = epoll_wait(epoll_fd, events, 256, 100);
		for (int i = 0; i < n; i++)
			turn(events[i].data.ptr);
	}
	cpu = cpu_ns() - cpu;
	double wall = (double)(now_ns(CLOCK_MONOTONIC) - from) / 1e9, each = (double)latencies_count;
	qsort(latencies, latencies_count, sizeof *latencies, by_size);
	printf("{\"ops_per_s\": %.1f, \"cpu_us_per_op\": %.3f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
	       "\"max_us\": %.1f}\n",
	       each / wall, each > 0 ? (double)cpu / 1000 / each : 0, percentile(0.5), percentile(0.99),
	       percentile(1));
}

static int usage(void)
{
	fprintf(stderr, "usage: turnaround --connect ADDRESS:PORT --protocol whilst|redis|beanstalk|nats "
	                "[--callers N]\n"
	                "                  [--workers N] [--seconds S] [--warmup S] [--pid PID]...\n");
	return 2;
}

static bool parse_address(const char *where)
{
	char host[64];
	const char *colon = strrchr(where, ':');
	if (!colon || (size_t)(colon - where) >= sizeof host)
		return false;
	memcpy(host, where, (size_t)(colon - where));
	host[colon - where] = 0;
	server.sin_port = htons((uint16_t)atoi(colon + 1));
	return inet_pton(AF_INET, host, &server.sin_addr) == 1;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"connect", 1, 0, 'c'}, {"protocol", 1, 0, 'p'},
	                                      {"callers", 1, 0, 'n'}, {"workers", 1, 0, 'k'},
	                                      {"seconds", 1, 0, 's'}, {"warmup", 1, 0, 'w'},
	                                      {"pid", 1, 0, 'i'},     {0}};
	uint32_t callers = 1, workers = 1;
	double seconds = 2, warmup = 0.5;
	bool addressed = false;
	for (int o; (o = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		switch (o) {
		case 'c':
			addressed = parse_address(optarg);
			break;
		case 'p':
			for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
				if (!strcmp(optarg, protocols[i]->name))
					protocol = protocols[i];
			break;
		case 'n':
			callers = (uint32_t)atoi(optarg);
			break;
		case 'k':
			workers = (uint32_t)atoi(optarg);
			break;
		case 's':
			seconds = atof(optarg);
			break;
		case 'w':
			warmup = atof(optarg);
			break;
		case 'i':
			if (clocks_count < PIDS_MAX &&
			    clock_getcpuclockid(atoi(optarg), &clocks[clocks_count]) == 0)
				clocks_count++;
			break;
		default:
			return usage();
		}
	}
	if (!addressed || !protocol || callers == 0 || workers == 0)
		return usage();
	int epoll_fd = epoll_create1(0);
	struct peer *peers = calloc(callers + workers, sizeof *peers);
	latencies = malloc(LATENCIES_MAX * sizeof *latencies);
	for (uint32_t i = 0; i < callers + workers; i++) {
		peers[i].worker = i < workers;
		peers[i].number = i < workers ? i : i - workers;
		open_peer(&peers[i], epoll_fd);
	}
	run(peers, callers + workers, epoll_fd, warmup, seconds);
	return latencies_count == 0;
}
