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

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"

enum { PIDS_MAX = 8 };

const char payload[PAYLOAD_BYTES + 1] = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
					"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
static const struct protocol *const protocols[] = {&protocol_whilst, &protocol_redis, &protocol_beanstalk,
                                                   &protocol_nats};
static const struct protocol *protocol;
static struct sockaddr_in server;
static clockid_t clocks[PIDS_MAX];
static int clocks_count;
static struct samples latencies;
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
	p->began = measure_now();
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
			if (measuring)
				samples_add(&latencies, p->began);
			begin(p);
		}
	}
	flush(p);
}

static void open_peer(struct peer *p, int epoll_fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
	p->fd = client_connect(&server);
	if (p->fd < 0)
		die("connect");
	if (protocol->open)
		protocol->open(p);
	fcntl(p->fd, F_SETFL, O_NONBLOCK);
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, p->fd, &event) != 0)
		die("epoll_ctl");
}

static int64_t cpu_ns(void)
{
	int64_t sum = 0;
	for (int i = 0; i < clocks_count; i++)
		sum += measure_clock(clocks[i]);
	return sum;
}

static void run(struct peer *peers, uint32_t count, int epoll_fd, double warmup, double seconds)
{
	int64_t began = measure_now(), from = began + (int64_t)(warmup * 1e9);
	int64_t until = from + (int64_t)(seconds * 1e9), cpu = 0, now;
	for (uint32_t i = 0; i < count; i++) {
		begin(&peers[i]);
		flush(&peers[i]);
	}
	while ((now = measure_now()) < until) {
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
	double wall = (double)(measure_now() - from) / 1e9, each = (double)latencies.count;
	samples_sort(&latencies);
	printf("{\"ops_per_s\": %.1f, \"cpu_us_per_op\": %.3f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
	       "\"max_us\": %.1f}\n",
	       each / wall, each > 0 ? (double)cpu / 1000 / each : 0, samples_at(&latencies, 0.5),
	       samples_at(&latencies, 0.99), samples_at(&latencies, 1));
}

static int usage(void)
{
	fprintf(stderr, "usage: turnaround --connect ADDRESS:PORT --protocol whilst|redis|beanstalk|nats "
	                "[--callers N]\n"
	                "                  [--workers N] [--seconds S] [--warmup S] [--pid PID]...\n");
	return 2;
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
			addressed = client_address(optarg, &server);
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
	samples_open(&latencies);
	for (uint32_t i = 0; i < callers + workers; i++) {
		peers[i].worker = i < workers;
		peers[i].number = i < workers ? i : i - workers;
		open_peer(&peers[i], epoll_fd);
	}
	run(peers, callers + workers, epoll_fd, warmup, seconds);
	return latencies.count == 0;
}
