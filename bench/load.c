/* bench/load.c -- closed-loop load for the benchmarks: one thread, raw epoll, nothing of whilst in it.
 *
 * Every connection keeps --pipeline requests outstanding and sends the next when an answer is complete.
 * The same client drives every peer, so that what differs is the server. Prints one line of JSON: requests
 * and operations per second, latency percentiles, and the CPU time that the servers named by --pid used
 * meanwhile, all of their threads included (clock_getcpuclockid(3)).
 *
 *   load --connect 127.0.0.1:4480 --protocol http --request FILE --connections 50 --seconds 3 --pid 4711
 *
 * Protocols, by how the end of an answer is found: echo (as many bytes as the request), line (a CRLF),
 * http (Content-Length; a status of 400 and above counts as an error and ends the run).
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
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum protocol { ECHO_BYTES, LINE, HTTP };
enum { READ_BYTES = 256 * 1024, PIDS_MAX = 8, BUCKETS = 64 * 64 };

struct connection {
	int fd;
	uint8_t *in; /* READ_BYTES */
	size_t in_len;
	size_t out_left; /* bytes of the request train still to send */
	uint32_t outstanding;
	uint32_t first;   /* ring of start times */
	bool wants_out;   /* registered for EPOLLOUT too */
	int64_t *started; /* pipeline entries */
};

static struct {
	enum protocol protocol;
	uint8_t *train; /* the request, pipeline times */
	size_t request_len, train_len;
	uint32_t pipeline, connections, per_request;
	uint64_t requests_max; /* the run ends after so many measured ones, too */
	double seconds, warmup;
	clockid_t clocks[PIDS_MAX];
	int clock_count;
	const char *expect; /* an answer must begin so (line protocol) */
} options;

static uint64_t requests, requests_all, errors;
static uint64_t histogram[BUCKETS];
static int64_t latency_max;
static bool measuring;
static int epoll_fd;

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t cpu_ns(clockid_t clock)
{
	struct timespec ts;
	if (clock_gettime(clock, &ts) != 0)
		return 0;
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* 64 linear steps in each power of two: 1.6 % resolution. */
static void record(int64_t ns)
{
	uint64_t v = ns > 0 ? (uint64_t)ns : 1;
	unsigned power = 63 - (unsigned)__builtin_clzll(v);
	unsigned step = power >= 6 ? (unsigned)(v >> (power - 6)) & 63 : (unsigned)(v << (6 - power)) & 63;
	histogram[power * 64 + step]++;
	if (ns > latency_max)
		latency_max = ns;
}

static double percentile_us(double p)
{
	uint64_t wanted = (uint64_t)((double)requests * p), seen = 0;
	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += histogram[i];
		if (seen > wanted)
			return (double)((UINT64_C(1) << (i / 64)) * (64 + i % 64)) / 64 / 1000;
	}
	return 0;
}

/* Length of the complete answer at the start of in, 0: not complete yet. */
static size_t answer_length(const uint8_t *in, size_t len)
{
	if (options.protocol == ECHO_BYTES)
		return len >= options.request_len ? options.request_len : 0;
	if (options.protocol == LINE) {
		const uint8_t *end = memmem(in, len, "\r\n", 2);
		if (!end)
			return 0;
		if (options.expect &&
		    strncmp((const char *)in, options.expect, strlen(options.expect)) != 0) {
			fprintf(stderr, "load: unexpected answer: %.*s\n", (int)(end - in), (const char *)in);
			errors++;
		}
		return (size_t)(end - in) + 2;
	}
	const uint8_t *end = memmem(in, len, "\r\n\r\n", 4);
	if (!end)
		return 0;
	size_t head = (size_t)(end - in) + 4, body = 0;
	const char *p = (const char *)in;
	if (head > 12 && p[9] >= '4') {
		fprintf(stderr, "load: %.*s\n", (int)(len < 600 ? len : 600), p);
		errors++;
	}
	while ((p = memchr(p, '\n', (size_t)((const char *)end + 2 - p))) != NULL) {
		p++;
		if ((*p == 'C' || *p == 'c') && strncasecmp(p, "content-length:", 15) == 0) {
			body = strtoul(p + 15, NULL, 10);
			break;
		}
	}
	return len >= head + body ? head + body : 0;
}

static void send_more(struct connection *c)
{
	while (c->out_left > 0) {
		ssize_t n = send(c->fd, options.train + options.train_len - c->out_left, c->out_left,
		                 MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			die("send");
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

static void start(struct connection *c, uint32_t count)
{
	int64_t now = now_ns();
	for (uint32_t i = 0; i < count; i++)
		c->started[(c->first + c->outstanding++) % options.pipeline] = now;
	/* the train is the same request over and over, so a rest still to send merely grows */
	c->out_left += count * options.request_len;
	send_more(c);
}

static void receive(struct connection *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_len, READ_BYTES - c->in_len, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		fprintf(stderr, "load: the server closed a connection%s%s\n", n < 0 ? ": " : "",
		        n < 0 ? strerror(errno) : "");
		exit(1);
	}
	c->in_len += (size_t)n;
	size_t used = 0, one;
	uint32_t done = 0;
	int64_t now = now_ns();
	while (c->outstanding > 0 && (one = answer_length(c->in + used, c->in_len - used)) > 0) {
		used += one;
		requests_all++;
		if (measuring) {
			requests++;
			record(now - c->started[c->first]);
		}
		c->first = (c->first + 1) % options.pipeline;
		c->outstanding--;
		done++;
	}
	memmove(c->in, c->in + used, c->in_len - used);
	c->in_len -= used;
	if (c->in_len == READ_BYTES) {
		fprintf(stderr, "load: an answer is larger than %d bytes\n", READ_BYTES);
		exit(1);
	}
	if (done > 0)
		start(c, done);
}

static int connect_to(const char *where)
{
	struct sockaddr_un local = {.sun_family = AF_UNIX};
	struct sockaddr_in inet = {.sin_family = AF_INET};
	int fd;
	if (where[0] == '/') {
		strncpy(local.sun_path, where, sizeof local.sun_path - 1);
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
		if (fd < 0 || connect(fd, (struct sockaddr *)&local, sizeof local) != 0)
			die(where);
	} else {
		char host[64];
		const char *colon = strrchr(where, ':');
		if (!colon || (size_t)(colon - where) >= sizeof host)
			exit((fprintf(stderr, "load: --connect wants ADDRESS:PORT or /PATH\n"), 2));
		memcpy(host, where, (size_t)(colon - where));
		host[colon - where] = 0;
		inet.sin_port = htons((uint16_t)atoi(colon + 1));
		inet_pton(AF_INET, host, &inet.sin_addr);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (fd < 0 || connect(fd, (struct sockaddr *)&inet, sizeof inet) != 0)
			die(where);
		int one = 1;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void read_request(const char *path, size_t echo_bytes)
{
	uint8_t *one = NULL;
	size_t len = echo_bytes;
	if (path) {
		FILE *f = fopen(path, "rb");
		if (!f)
			die(path);
		one = malloc(16 << 20);
		len = fread(one, 1, 16 << 20, f);
		fclose(f);
	} else {
		one = malloc(len);
		memset(one, 'x', len);
	}
	options.request_len = len;
	options.train_len = len * options.pipeline;
	options.train = malloc(options.train_len);
	for (uint32_t i = 0; i < options.pipeline; i++)
		memcpy(options.train + i * len, one, len);
	free(one);
}

static void run(struct connection *connections)
{
	int64_t began = now_ns(), measured_from = began + (int64_t)(options.warmup * 1e9);
	int64_t until = measured_from + (int64_t)(options.seconds * 1e9), cpu_from[PIDS_MAX] = {0}, cpu = 0,
		now;
	for (uint32_t i = 0; i < options.connections; i++)
		start(&connections[i], options.pipeline);
	while ((now = now_ns()) < until && errors == 0 && requests < options.requests_max) {
		if (!measuring && now >= measured_from) {
			measuring = true;
			measured_from = now;
			for (int i = 0; i < options.clock_count; i++)
				cpu_from[i] = cpu_ns(options.clocks[i]);
		}
		struct epoll_event events[256];
		int n = epoll_wait(epoll_fd, events, 256, 100);
		for (int i = 0; i < n; i++) {
			struct connection *c = events[i].data.ptr;
			if (events[i].events & EPOLLOUT)
				send_more(c);
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				receive(c);
		}
	}
	double seconds = (double)(now_ns() - measured_from) / 1e9;
	for (int i = 0; i < options.clock_count; i++)
		cpu += cpu_ns(options.clocks[i]) - cpu_from[i];
	double operations = (double)requests * options.per_request;
	printf("{\"requests_per_s\": %.1f, \"ops_per_s\": %.1f, \"cpu_us_per_op\": %.4f, \"p50_us\": %.1f, "
	       "\"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f, \"requests\": %llu, \"requests_all\": "
	       "%llu, "
	       "\"errors\": %llu}\n",
	       (double)requests / seconds, operations / seconds,
	       operations > 0 ? (double)cpu / 1000 / operations : 0, percentile_us(0.50), percentile_us(0.99),
	       percentile_us(0.999), (double)latency_max / 1000, (unsigned long long)requests,
	       (unsigned long long)requests_all, (unsigned long long)errors);
}

static int usage(void)
{
	fprintf(stderr,
	        "usage: load --connect ADDRESS:PORT|/PATH --protocol echo|line|http [--request FILE] "
	        "[--bytes N]\n"
	        "            [--connections N] [--pipeline N] [--seconds S] [--warmup S] [--per-request N]\n"
	        "            [--expect PREFIX] [--requests N] [--pid PID]...\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"connect", 1, 0, 'c'},
	                                      {"protocol", 1, 0, 'p'},
	                                      {"request", 1, 0, 'r'},
	                                      {"bytes", 1, 0, 'b'},
	                                      {"connections", 1, 0, 'n'},
	                                      {"pipeline", 1, 0, 'd'},
	                                      {"seconds", 1, 0, 's'},
	                                      {"warmup", 1, 0, 'w'},
	                                      {"per-request", 1, 0, 'k'},
	                                      {"expect", 1, 0, 'e'},
	                                      {"pid", 1, 0, 'i'},
	                                      {"requests", 1, 0, 'm'},
	                                      {0}};
	const char *where = NULL, *request = NULL, *protocol = "";
	size_t bytes = 128;
	options.pipeline = options.connections = options.per_request = 1;
	options.requests_max = UINT64_MAX;
	options.seconds = 2;
	options.warmup = 0.3;
	for (int o; (o = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		switch (o) {
		case 'c':
			where = optarg;
			break;
		case 'p':
			protocol = optarg;
			break;
		case 'r':
			request = optarg;
			break;
		case 'b':
			bytes = strtoul(optarg, NULL, 10);
			break;
		case 'n':
			options.connections = (uint32_t)atoi(optarg);
			break;
		case 'd':
			options.pipeline = (uint32_t)atoi(optarg);
			break;
		case 's':
			options.seconds = atof(optarg);
			break;
		case 'w':
			options.warmup = atof(optarg);
			break;
		case 'k':
			options.per_request = (uint32_t)atoi(optarg);
			break;
		case 'm':
			options.requests_max = strtoull(optarg, NULL, 10);
			break;
		case 'e':
			options.expect = optarg;
			break;
		case 'i':
			if (options.clock_count < PIDS_MAX &&
			    clock_getcpuclockid(atoi(optarg), &options.clocks[options.clock_count]) == 0)
				options.clock_count++;
			break;
		default:
			return usage();
		}
	}
	if (!strcmp(protocol, "echo"))
		options.protocol = ECHO_BYTES;
	else if (!strcmp(protocol, "line"))
		options.protocol = LINE;
	else if (!strcmp(protocol, "http"))
		options.protocol = HTTP;
	else
		return usage();
	if (!where || options.pipeline == 0 || options.connections == 0 ||
	    (!request && options.protocol != ECHO_BYTES))
		return usage();
	read_request(request, bytes);
	epoll_fd = epoll_create1(0);
	struct connection *connections = calloc(options.connections, sizeof *connections);
	for (uint32_t i = 0; i < options.connections; i++) {
		struct connection *c = &connections[i];
		c->fd = connect_to(where);
		c->in = malloc(READ_BYTES);
		c->started = calloc(options.pipeline, sizeof *c->started);
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
			die("epoll_ctl");
	}
	run(connections);
	return errors ? 1 : 0;
}
