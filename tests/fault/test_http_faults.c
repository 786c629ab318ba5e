/* tests/fault/test_http_faults.c -- every allocation of the HTTP client and server fails, one at a time.
 *
 * allocations.h stands before each function that allocates. A script has a client and a server on one loop do one of
 * everything; the first allocation fails, then the second, ... until the script ends without a failure; then again with two, and ten,
 * in a row. Every request must end, well or with a documented error, and not by a time-out: what there was no memory for has ended, or is
 * tried again. A request after it, with memory, must go well; at the end nothing may be left: allocations and frees are counted
 * here, and sanitizers see the rest.
 *
 * WHILST_FAULT=n repeats one; WHILST_FAULTS_IN_A_ROW=m: with those behind it, m in all.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../conformance/http_echo.h"
#include "allocations.h"
#include "whilst/http.h"

/* ---- the server ---------------------------------------------------------------------------- */

static wh_loop *loop;
static wh_http_server *server;
static wh_http_client *client, *through;
static int folder;
static uint16_t port;

static void later(wh_loop *l, wh_res res, void *arg)
{
	struct wh_slice target = wh_http_target(arg);

	wh_http_respond(arg, 200, target.data, target.len);
}

static void on_head(wh_http_exchange *x, void *arg)
{
	if (wh_slice_equal(wh_http_path(x), "/stream"))
		wh_http_stream(x, 0);
}

static void release(void *arg)
{
	free(arg);
}

static void respond_own(wh_http_exchange *x)
{
	char *body = malloc(5000);

	if (!body) {
		wh_http_problem(x, 503, "no memory");
		return;
	}
	memset(body, 'o', 5000);
	wh_http_respond_own(x, 200, body, 5000, release, body);
}

static void on_request(wh_http_exchange *x, void *arg)
{
	struct wh_slice path = wh_http_path(x), body = wh_http_body(x);
	char big[4000];

	memset(big, 'b', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	if (wh_slice_equal(path, "/stream") || wh_slice_equal(path, "/upgrade")) {
		int error = wh_slice_equal(path, "/stream") ? wh_http_start(x, 200, WH_HTTP_CHUNKED)
		                                            : wh_http_upgrade(x, "echo");

		if (error == 0)
			echo_read(x);
		else
			wh_http_problem(x, 500, NULL);
	} else if (wh_slice_equal(path, "/later")) {
		if (wh_http_retain(x) != 0 || wh_then(wh_sleep(wh_http_loop(x), WH_NS_PER_MS), later, x) != 0)
			wh_http_problem(x, 503, NULL);
	} else if (wh_slice_equal(path, "/own")) {
		respond_own(x);
	} else if (wh_slice_equal(path, "/file")) {
		wh_http_respond_file(x, folder, path,
		                     &(struct wh_http_file_options){.cache_control = "no-cache"});
	} else if (wh_slice_equal(path, "/to")) {
		(void)wh_http_set(x, "Location", "/echo?x"); /* without memory there is no answer */
		wh_http_respond(x, 302, "over there", 10);
	} else if (wh_slice_equal(path, "/fields")) {
		struct wh_http_field link = {{"Link", 4}, {"<a>", 3}};

		(void)wh_http_inform(x, 103, &link, 1);
		(void)wh_http_set(x, "A", big);
		(void)wh_http_setf(x, "B", "%s", big);
		wh_http_respond(x, 200, body.data, body.len);
	} else {
		wh_http_respond(x, 200, body.data, body.len);
	}
}

static int open_all(void)
{
	struct wh_http_server_options server_options = {.on_head = on_head, .on_request = on_request};
	struct wh_http_client_options options = {
		.user_agent = "fault",
		.connect_timeout_ns = 30 * WH_NS_PER_S,
		.send_timeout_ns = 30 * WH_NS_PER_S,
		.first_byte_timeout_ns = 30 * WH_NS_PER_S,
		.read_timeout_ns = 30 * WH_NS_PER_S,
		.proxy_timeout_ns = 30 * WH_NS_PER_S,
		.waiting_timeout_ns = 30 * WH_NS_PER_S,
	};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	char proxy[64];
	int fd, error = wh_loop_open(&loop, NULL);

	if (getenv("WH_TEST_HTTP_THREADS"))
		server_options.threads = (uint32_t)atoi(getenv("WH_TEST_HTTP_THREADS"));

	if (error != 0)
		return error;
	fd = wh_listen(loop, (struct sockaddr *)&address, sizeof(address), NULL);
	if (fd < 0)
		return fd;
	if (getsockname(fd, (struct sockaddr *)&address, &len) != 0)
		abort();
	port = ntohs(address.sin_port);
	error = wh_http_server_open(loop, &server_options, &server);
	if (error == 0)
		error = wh_http_server_listen(server, fd);
	if (error != 0) {
		close(fd);
		return error;
	}
	error = wh_http_client_open(loop, &options, &client);
	if (error != 0)
		return error;
	snprintf(proxy, sizeof(proxy), "http://u:p@127.0.0.1:%u", port);
	options.proxy = proxy;
	options.no_proxy = "10.0.0.0/8";
	return wh_http_client_open(loop, &options, &through);
}

static void close_all(void)
{
	client = wh_http_client_close(client);
	through = wh_http_client_close(through);
	server = wh_http_server_close(server);
	loop = wh_loop_close(loop);
}

/* ---- the script ---------------------------------------------------------------------------- */

static int problems;

static bool is_documented(int64_t n)
{
	return n == -ENOMEM || n == -EAGAIN || n == -ENOBUFS || n == -ECONNRESET || n == -EPIPE ||
	       n == -WH_EHTTP_CLOSED;
}

static void expect(const char *what, int64_t n, int64_t wanted)
{
	if (n == wanted)
		return;
	problems++;
	if (n < 0 ? is_documented(n) : n == 500 || n == 503)
		return;
	fprintf(stderr, "WHILST_FAULT=%d: %s gives %lld, %s\n", atomic_load(&fail_at), what, (long long)n,
	        n < 0 ? wh_strerror(n) : "");
	abort();
}

static const char *url_of(const char *path)
{
	static char text[200];

	snprintf(text, sizeof(text), "http://127.0.0.1:%u%s", port, path);
	return text;
}

/* Those of /fields. */
static bool has_fields(const struct wh_http_response *response)
{
	return wh_http_response_header(response, "A").len > 0 &&
	       wh_http_response_header(response, "B").len > 0;
}

static void ask(wh_http_client *with, struct wh_http_request request, int64_t wanted)
{
	struct wh_http_failure failure;
	wh_res res;

	request.failure = &failure;
	res = wh_await(wh_http_request(with, &request));
	expect(request.url, res.n, wanted);
	if (res.n == 200 && strstr(request.url, "/fields") && !has_fields(res.ptr)) {
		fprintf(stderr, "WHILST_FAULT=%d: an answer lacks a field that was set\n",
		        atomic_load(&fail_at));
		abort();
	}
	if (res.n > 0)
		wh_http_response_free(res.ptr);
}

static void ask_url(const char *path)
{
	ask(client, (struct wh_http_request){.url = url_of(path), .redirects_max = 3}, 200);
}

static void in_pieces(const char *path, const char *upgrade, int64_t wanted)
{
	struct wh_http_request request = {
		.url = url_of(path), .method = upgrade ? "GET" : "POST", .upgrade = upgrade};
	wh_http_call *call;
	wh_res res;
	int error = wh_http_call_open(client, &request, upgrade ? 0 : WH_HTTP_CHUNKED, &call);

	if (error != 0) {
		expect("call_open", error, 0);
		return;
	}
	if (!upgrade)
		(void)wh_await(wh_http_call_write(call, "abc", 3));
	res = wh_await(wh_http_call_response(call));
	expect("response", res.n, wanted);
	if (res.n == wanted) {
		expect("write", wh_await(wh_http_call_write(call, "def", 3)).n, 0);
		res = wh_await(wh_http_call_read(call));
		if (res.n > 0)
			wh_buf_put(res.ptr);
		else
			problems++;
		wh_http_call_end(call);
	}
	wh_http_call_close(call);
}

static void use_everything(void)
{
	static const char body[10000] = "x";
	struct wh_http_field field = {{"X-A", 3}, {"1", 1}};
	wh_future fs[3];
	wh_res res[3] = {{0}};
	int64_t all;

	ask_url("/echo");
	ask(client,
	    (struct wh_http_request){.url = url_of("/echo"),
	                             .method = "POST",
	                             .body = body,
	                             .body_len = 5000,
	                             .fields = &field,
	                             .field_count = 1},
	    200);
	ask(client,
	    (struct wh_http_request){.url = url_of("/fields"),
	                             .method = "POST",
	                             .body = body,
	                             .body_len = sizeof(body),
	                             .expect_continue = true},
	    200);
	ask_url("/to");
	ask_url("/later");
	ask_url("/own");
	ask_url("/file");
	in_pieces("/stream", NULL, 200);
	if (!getenv("WH_TEST_HTTP_THREADS"))
		in_pieces("/upgrade", "echo", 101);
	ask(through, (struct wh_http_request){.url = "http://a.example/echo"}, 200);
	ask(through, (struct wh_http_request){.url = "https://a.example/"}, -WH_EHTTP_PROXY);
	for (int i = 0; i < 3; i++)
		fs[i] = wh_http_get(client, url_of("/later"), 0);
	all = wh_await(wh_all_settled(loop, fs, 3, res)).n;
	if (all < 0)
		expect("all_settled", all, 3);
	for (int i = 0; all >= 0 && i < 3; i++) {
		expect("one of three", res[i].n, 200);
		if (res[i].n > 0)
			wh_http_response_free(res[i].ptr);
	}
}

/* The n-th allocation fails, and those behind it up to in_a_row. true: something failed. */
static bool run(int n, int in_a_row)
{
	long before = atomic_load(&live);

	problems = 0;
	atomic_store(&calls, 0);
	atomic_store(&hit, false);
	atomic_store(&fail_each, in_a_row > 1);
	atomic_store(&fail_end, n + in_a_row);
	atomic_store(&fail_at, n);
	if (open_all() == 0) {
		use_everything();
		/* whatever happened, with memory it goes on */
		atomic_store(&fail_at, 0);
		problems = 0;
		ask_url("/echo");
		if (problems) {
			fprintf(stderr, "WHILST_FAULT=%d: the next request fails too\n", n);
			abort();
		}
	}
	atomic_store(&fail_at, 0);
	close_all();
	if (atomic_load(&live) != before) {
		fprintf(stderr, "WHILST_FAULT=%d: %ld allocations are left\n", n,
		        atomic_load(&live) - before);
		abort();
	}
	return atomic_load(&hit);
}

int main(void)
{
	static const int in_a_row[] = {1, 2, 10};
	static char path[] = "/tmp/whilst-http-fault-XXXXXX";
	const char *only = getenv("WHILST_FAULT");
	const char *count = getenv("WHILST_FAULTS_IN_A_ROW");
	int fd;

	alarm(100);
	if (wh_loop_open(&loop, NULL) != 0) {
		printf("skipped: no such engine here\n");
		return 77;
	}
	loop = wh_loop_close(loop);
	if (!mkdtemp(path) || (folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return 1;
	fd = openat(folder, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "content", 7) != 7 || close(fd) != 0)
		return 1;
	(void)run(0, 1); /* what is kept for the life of the process is made now */
	if (problems) {
		fprintf(stderr, "%d things fail without a fault\n", problems);
		return 1;
	}
	if (only)
		(void)run(atoi(only), count ? atoi(count) : 1);
	for (size_t i = 0; !only && i < sizeof(in_a_row) / sizeof(in_a_row[0]); i++) {
		int n = 1;

		while (run(n, in_a_row[i]))
			n++;
		printf("%d allocations failed, %d at a time\n", n - 1, in_a_row[i]);
	}
	unlinkat(folder, "file", 0);
	rmdir(path);
	return 0;
}
