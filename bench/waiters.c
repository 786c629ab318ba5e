/* bench/waiters.c -- many callers that wait for jobs: what an idle one costs, and how soon each learns of the end.
 *
 * Opens --connections of them, from as many addresses of 127.0.0.0/8 as their ports need. Each waits for one of --jobs jobs
 * of its own or in common, by a long poll or, with --stream, an event stream; more come only when the server says that those
 * before wait, so that no listen queue overflows. Then the resident memory that the server --pid has gained is divided by
 * their number, its CPU time over a second in which nothing happens is taken, and jobs are cancelled one after the other: a
 * latency is from the moment before a cancel is sent to a waiter's answer. Plain epoll, nothing of whilst in it; one line of
 * JSON.
 *
 *   waiters --connect 127.0.0.1:4480 --pid 4711 --connections 10000 --jobs 10000 --cancels 1000
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PORTS = 20000, EVENTS = 512, BYTES = 8192, METRICS_BYTES = 1 << 20, BATCH = 1000, TOLD_S = 120 };

struct waiter {
	int fd;
	uint32_t job; /* index */
	bool answered;
};

static struct sockaddr_in server;
static int epoll_fd, control;
static struct waiter *waiters;
static uint64_t *ids;
static uint32_t connections = 1000, jobs = 1000, cancels = 100, wait_s = 300;
static bool stream;
static float *latencies;
static size_t latencies_count;

static void die(const char *what)
{
	fprintf(stderr, "waiters: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(clockid_t clock)
{
	struct timespec ts;
	if (clock_gettime(clock, &ts) != 0)
		die("clock_gettime");
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static uint64_t resident_bytes(int pid)
{
	char path[64];
	unsigned long long size = 0, resident = 0;
	snprintf(path, sizeof path, "/proc/%d/statm", pid);
	FILE *file = fopen(path, "r");
	if (!file || fscanf(file, "%llu %llu", &size, &resident) != 2)
		die(path);
	fclose(file);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int dial(uint32_t number)
{
	struct sockaddr_in from = {.sin_family = AF_INET,
	                           .sin_addr.s_addr = htonl(0x7f000002 + number / PORTS)};
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0 ||
	    connect(fd, (struct sockaddr *)&server, sizeof server) != 0)
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

static void say(int fd, const char *bytes, size_t len)
{
	if (send(fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len)
		die("send");
}

/* One request on the control connection, its answer in text. */
static void ask(const char *request, char *text, size_t max)
{
	size_t len = 0, body = 0;
	char *end = NULL;
	say(control, request, strlen(request));
	while (!end || len < (size_t)(end - text) + 4 + body) {
		ssize_t n = recv(control, text + len, max - 1 - len, 0);
		if (n <= 0)
			die("recv");
		len += (size_t)n;
		text[len] = 0;
		end = strstr(text, "\r\n\r\n");
		char *length = end ? strcasestr(text, "\r\ncontent-length:") : NULL;
		if (length && length < end)
			body = strtoul(length + 17, NULL, 10);
	}
	if (text[9] >= '4') {
		fprintf(stderr, "waiters: %s\n", text);
		exit(1);
	}
}

static void submit_jobs(void)
{
	static char text[BYTES];
	for (uint32_t i = 0; i < jobs; i++) {
		ask("POST /v1/queues/waiters/jobs HTTP/1.1\r\nHost: localhost\r\nWhilst-Commit: async\r\n"
		    "Content-Length: 1\r\n\r\nx",
		    text, sizeof text);
		const char *id = strstr(text, "{\"id\":");
		if (!id)
			die("no id");
		ids[i] = strtoull(id + 6, NULL, 10);
	}
}

/* Reads what has come within timeout_ms. Of a stream the first answer is the present state. How many were told the end. */
static uint32_t receive(int timeout_ms, int64_t since)
{
	static char text[BYTES];
	struct epoll_event events[EVENTS];
	uint32_t told = 0;
	int n = epoll_wait(epoll_fd, events, EVENTS, timeout_ms);
	for (int i = 0; i < n; i++) {
		struct waiter *waiter = events[i].data.ptr;
		ssize_t len = recv(waiter->fd, text, sizeof text - 1, MSG_DONTWAIT);
		if (len <= 0) {
			if (!waiter->answered)
				die("a waiter's connection ended");
			epoll_ctl(epoll_fd, EPOLL_CTL_DEL, waiter->fd, NULL);
			continue;
		}
		text[len] = 0;
		if (strncmp(text, "HTTP/1.1 ", 9) == 0 && text[9] != '2') {
			fprintf(stderr, "waiters: %s\n", text);
			exit(1);
		}
		if (waiter->answered || !strstr(text, "\"cancelled\""))
			continue;
		waiter->answered = true;
		told++;
		if (since > 0)
			latencies[latencies_count++] = (float)(now_ns(CLOCK_MONOTONIC) - since) / 1000;
	}
	return told;
}

/* Until the server says that so many wait, be it as long as it may: what it has not read yet takes none of its memory. */
static void see_waiting(uint32_t count)
{
	static char text[METRICS_BYTES];
	const char *name = stream ? "\nwhilst_http_streams " : "\nwhilst_http_parked ", *found;
	do {
		receive(stream ? 10 : 0, 0);
		ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", text, sizeof text);
		found = strstr(text, name);
		if (!found)
			die("no such metric");
	} while (strtoul(found + strlen(name), NULL, 10) < count);
}

static void wait_for_jobs(void)
{
	char request[256];
	for (uint32_t i = 0; i < connections; i++) {
		struct waiter *waiter = &waiters[i];
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = waiter};
		*waiter = (struct waiter){.fd = dial(i), .job = i % jobs};
		int len = snprintf(request, sizeof request,
		                   "GET /v1/jobs/%llu HTTP/1.1\r\nHost: localhost\r\n%s%u\r\n\r\n",
		                   (unsigned long long)ids[waiter->job],
		                   stream ? "Accept: text/event-stream\r\nBench: " : "Prefer: wait=", wait_s);
		say(waiter->fd, request, (size_t)len);
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, waiter->fd, &event) != 0)
			die("epoll_ctl");
		if ((i + 1) % BATCH == 0 || i + 1 == connections)
			see_waiting(i + 1);
		if ((i + 1) % (10 * BATCH) == 0)
			fprintf(stderr, "waiters: %u wait\n", i + 1);
	}
}

static int by_size(const void *a, const void *b)
{
	float left = *(const float *)a, right = *(const float *)b;
	return (left > right) - (left < right);
}

static double percentile(double p)
{
	size_t at = (size_t)((double)latencies_count * p);
	return latencies_count == 0 ? 0 : latencies[at < latencies_count ? at : latencies_count - 1];
}

static void cancel_jobs(void)
{
	static char text[BYTES];
	char request[160];
	for (uint32_t i = 0; i < cancels && i < jobs; i++) {
		uint32_t left = connections / jobs + (i < connections % jobs);
		snprintf(request, sizeof request, "DELETE /v1/jobs/%llu HTTP/1.1\r\nHost: localhost\r\n\r\n",
		         (unsigned long long)ids[i]);
		int64_t since = now_ns(CLOCK_MONOTONIC);
		say(control, request, strlen(request));
		while (left > 0) {
			uint32_t told = receive(10000, since);
			if (told == 0 && now_ns(CLOCK_MONOTONIC) - since > TOLD_S * INT64_C(1000000000))
				die("a waiter was not told");
			left -= told;
		}
		if (recv(control, text, sizeof text, 0) <= 0)
			die("recv");
	}
}

int main(int argc, char **argv)
{
	static const struct option known[] = {{"connect", 1, NULL, 'c'},     {"pid", 1, NULL, 'p'},
	                                      {"connections", 1, NULL, 'n'}, {"jobs", 1, NULL, 'j'},
	                                      {"cancels", 1, NULL, 'x'},     {"stream", 0, NULL, 's'},
	                                      {"wait", 1, NULL, 'w'},        {NULL, 0, NULL, 0}};
	struct rlimit files;
	clockid_t clock;
	int option, pid = 0;
	server = (struct sockaddr_in){.sin_family = AF_INET};
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		char *colon = option == 'c' ? strrchr(optarg, ':') : NULL;
		if (colon) {
			*colon = 0;
			inet_pton(AF_INET, optarg, &server.sin_addr);
			server.sin_port = htons((uint16_t)atoi(colon + 1));
		} else if (option == 'p') {
			pid = atoi(optarg);
		} else if (option == 'n') {
			connections = (uint32_t)atoi(optarg);
		} else if (option == 'j') {
			jobs = (uint32_t)atoi(optarg);
		} else if (option == 'x') {
			cancels = (uint32_t)atoi(optarg);
		} else if (option == 'w') {
			wait_s = (uint32_t)atoi(optarg);
		} else if (option == 's') {
			stream = true;
		} else {
			fprintf(stderr, "usage: waiters --connect ADDRESS:PORT --pid PID [--connections N] "
			                "[--jobs N] "
			                "[--cancels N] [--stream] [--wait SECONDS]\n");
			return 2;
		}
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (pid == 0 || clock_getcpuclockid(pid, &clock) != 0 || jobs == 0)
		die("--pid");
	waiters = calloc(connections, sizeof *waiters);
	ids = calloc(jobs, sizeof *ids);
	latencies = calloc(connections, sizeof *latencies);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (!waiters || !ids || !latencies || epoll_fd < 0)
		die("memory");
	control = dial(0);
	submit_jobs();
	see_waiting(0); /* what that takes is not the waiters' */
	uint64_t before = resident_bytes(pid);
	wait_for_jobs();
	usleep(500000);
	while (receive(100, 0) > 0 || epoll_wait(epoll_fd, &(struct epoll_event){0}, 1, 0) > 0)
		continue;
	uint64_t after = resident_bytes(pid);
	int64_t cpu = now_ns(clock);
	sleep(1);
	cpu = now_ns(clock) - cpu;
	cancel_jobs();
	qsort(latencies, latencies_count, sizeof *latencies, by_size);
	printf("{\"waiters\": %u, \"bytes_each\": %.0f, \"idle_cpu_us_per_s\": %.0f, \"told\": %zu, "
	       "\"p50_us\": %.1f, \"p99_us\": "
	       "%.1f, \"max_us\": %.1f}\n",
	       connections, ((double)after - (double)before) / connections, (double)cpu / 1000,
	       latencies_count, percentile(0.5), percentile(0.99), percentile(1));
	return 0;
}
