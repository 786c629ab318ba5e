/* bench/http_hello.c -- the least an HTTP server can do: GET /livez, 100 bytes, no more. Usage: http_hello [PORT [ENGINE]] */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "whilst/http.h"

static char body[101];
static uint64_t last_requests;
static double last_cpu;

static void on_request(wh_http_exchange *x, void *arg)
{
	if (wh_slice_equal(wh_http_path(x), "/livez"))
		wh_http_respond(x, 200, body, 100);
	else
		wh_http_problem(x, 404, NULL);
}

static void report(wh_loop *loop, wh_res res, void *arg)
{
	struct wh_http_server_stats stats;
	struct rusage use;
	double cpu;

	getrusage(RUSAGE_SELF, &use);
	cpu = (double)use.ru_utime.tv_sec + (double)use.ru_stime.tv_sec +
	      1e-6 * (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
	wh_http_server_stats(arg, &stats);
	if (stats.requests > last_requests)
		fprintf(stderr, "%s: %llu requests/s, %.2f us CPU each\n", wh_engine_name(loop),
		        (unsigned long long)(stats.requests - last_requests),
		        1e6 * (cpu - last_cpu) / (double)(stats.requests - last_requests));
	last_requests = stats.requests;
	last_cpu = cpu;
	wh_then(wh_sleep(loop, WH_NS_PER_S), report, arg);
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct wh_http_server_options options = {.on_request = on_request};
	wh_http_server *server;
	wh_loop *loop;
	int fd;

	if (argc > 1)
		address.sin_port = htons((uint16_t)atoi(argv[1]));
	if (argc > 2)
		setenv("WHILST_ENGINE", argv[2], 1);
	memset(body, 'x', 100);
	if (wh_loop_open(&loop, NULL) < 0)
		return 1;
	fd = wh_listen(loop, (struct sockaddr *)&address, sizeof(address), NULL);
	if (fd < 0 || wh_http_server_open(loop, &options, &server) < 0 ||
	    wh_http_server_listen(server, fd) < 0) {
		fprintf(stderr, "http_hello: %s\n", wh_strerror(fd));
		return 1;
	}
	wh_then(wh_sleep(loop, WH_NS_PER_S), report, server);
	wh_loop_run(loop);
	return 0;
}
