/* tests/fault/test_https_faults.c -- every allocation of an https server and of the client that asks it fails, one at a time: ours,
 * and OpenSSL's.
 *
 * A script has both on one loop: requests that verify, keep, resume and refuse connections, streams, an upgrade, a redirect into
 * TLS, a tunnel through a proxy, certificates that are read anew. allocations.h stands before each function of ours that
 * allocates; OpenSSL allocates by functions of this file. The first allocation fails, then the second, ... until the script ends
 * without a failure. Every request must end, well or with a documented error; one after it, with memory, must go well; at the end
 * nothing of ours may be left, nor a descriptor, and sanitizers see what is left of OpenSSL's.
 *
 * All of ours fail, of OpenSSL's in the gate every STEP-th; HTTPS_FAULTS_ALL=1: every one. WHILST_FAULT=ours:n or openssl:n repeats one.
 */
#include "../conformance/tls_authority.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "../conformance/http_echo.h"
#include "allocations.h"
#include "whilst/http.h"

enum { STEP = 293 };

/* ---- OpenSSL's memory ---------------------------------------------------------------------- */

static atomic_long openssl_calls, openssl_fail_at;

static bool openssl_fails(void)
{
	long at = atomic_load(&openssl_fail_at);

	if (at == 0 || atomic_fetch_add(&openssl_calls, 1) + 1 != at)
		return false;
	atomic_store(&hit, true);
	return true;
}

static void *openssl_malloc(size_t size, const char *file, int line)
{
	return openssl_fails() ? NULL : __real_malloc(size);
}

static void *openssl_realloc(void *old, size_t size, const char *file, int line)
{
	return openssl_fails() ? NULL : __real_realloc(old, size);
}

static void openssl_free(void *memory, const char *file, int line)
{
	__real_free(memory);
}

static const char *fault_name(void)
{
	static char text[40];

	if (atomic_load(&openssl_fail_at) != 0)
		snprintf(text, sizeof(text), "openssl:%ld", atomic_load(&openssl_fail_at));
	else
		snprintf(text, sizeof(text), "ours:%d", atomic_load(&fail_at));
	return text;
}

/* ---- a proxy, of system calls alone --------------------------------------------------------- */

static pthread_mutex_t tunnels_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t tunnels_changed = PTHREAD_COND_INITIALIZER;
static int tunnels, proxy_fd;
static uint16_t proxy_port, secure_port, plain_port;

static int connect_plainly(uint16_t port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		abort();
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd); /* whoever asked has given up, and the server is gone already */
	return -1;
}

static bool read_head(int fd)
{
	char head[2000] = "";
	size_t n = 0;

	while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0)
		if (n == sizeof(head) || read(fd, head + n++, 1) != 1)
			return false;
	return true;
}

/* What one end says goes to the other, until either has ended. */
static void shuttle(int a, int b)
{
	struct pollfd polls[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
	char bytes[8192];

	for (;;) {
		if (poll(polls, 2, -1) < 0)
			continue;
		for (int i = 0; i < 2; i++) {
			ssize_t n = polls[i].revents ? recv(polls[i].fd, bytes, sizeof(bytes), 0) : -1;

			if (polls[i].revents &&
			    (n <= 0 || send(polls[!i].fd, bytes, (size_t)n, MSG_NOSIGNAL) != n))
				return;
		}
	}
}

static void *run_tunnel(void *arg)
{
	static const char answer[] = "HTTP/1.1 200 ok\r\n\r\n";
	int fd = (int)(intptr_t)arg;

	if (read_head(fd) && send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) > 0) {
		int other = connect_plainly(secure_port);

		if (other >= 0) {
			shuttle(fd, other);
			close(other);
		}
	}
	close(fd);
	pthread_mutex_lock(&tunnels_lock);
	tunnels--;
	pthread_cond_signal(&tunnels_changed);
	pthread_mutex_unlock(&tunnels_lock);
	return NULL;
}

static void *run_proxy(void *arg)
{
	pthread_t thread;
	int fd;

	while ((fd = accept4(proxy_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		pthread_mutex_lock(&tunnels_lock);
		tunnels++;
		pthread_mutex_unlock(&tunnels_lock);
		if (pthread_create(&thread, NULL, run_tunnel, (void *)(intptr_t)fd) != 0 ||
		    pthread_detach(thread) != 0)
			abort();
	}
	return NULL;
}

static void wait_for_tunnels(void)
{
	pthread_mutex_lock(&tunnels_lock);
	while (tunnels > 0)
		pthread_cond_wait(&tunnels_changed, &tunnels_lock);
	pthread_mutex_unlock(&tunnels_lock);
}

/* ---- the server ---------------------------------------------------------------------------- */

static wh_http_server *server;
static wh_tls_context *server_context;
static wh_http_client *client, *stranger, *through;
static int folder;

static void on_head(wh_http_exchange *x, void *arg)
{
	if (wh_slice_equal(wh_http_path(x), "/stream"))
		wh_http_stream(x, 0);
}

static const char *url(const char *scheme, uint16_t port, const char *path)
{
	static char text[4][100];
	static int which;

	which = (which + 1) % 4;
	snprintf(text[which], sizeof(text[which]), "%s://127.0.0.1:%u%s", scheme, port, path);
	return text[which];
}

static void on_request(wh_http_exchange *x, void *arg)
{
	struct wh_slice path = wh_http_path(x), body = wh_http_body(x);

	if (wh_slice_equal(path, "/stream") || wh_slice_equal(path, "/upgrade")) {
		int error = wh_slice_equal(path, "/stream") ? wh_http_start(x, 200, WH_HTTP_CHUNKED)
		                                            : wh_http_upgrade(x, "echo");

		if (error == 0)
			echo_read(x);
		else
			wh_http_problem(x, 500, NULL);
	} else if (wh_slice_equal(path, "/file")) {
		wh_http_respond_file(x, folder, path, NULL);
	} else if (wh_slice_equal(path, "/to")) {
		(void)wh_http_set(x, "Location", url("https", secure_port, "/echo"));
		wh_http_respond(x, 302, NULL, 0);
	} else {
		if (wh_slice_equal(path, "/last"))
			wh_http_close_after(x);
		wh_http_respond(x, 200, body.data, body.len);
	}
}

static uint16_t listen_with(wh_tls_context *context, int *ret_error)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int fd = wh_listen(loop, (struct sockaddr *)&address, sizeof(address), NULL);

	if (fd < 0 || getsockname(fd, (struct sockaddr *)&address, &len) != 0)
		abort();
	*ret_error =
		context ? wh_http_server_listen_tls(server, fd, context) : wh_http_server_listen(server, fd);
	if (*ret_error != 0)
		close(fd);
	return ntohs(address.sin_port);
}

static int open_server(void)
{
	struct wh_http_server_options options = {.on_head = on_head, .on_request = on_request};
	struct wh_tls_certificate certificate = certificate_of("good");
	struct wh_tls_options tls = {
		.server = true, .certificates = &certificate, .certificate_count = 1, .alpn = "http/1.1"};
	int error;

	if (getenv("WH_TEST_HTTP_THREADS"))
		options.threads = (uint32_t)atoi(getenv("WH_TEST_HTTP_THREADS"));
	error = wh_tls_context_open(&tls, &server_context);
	if (error == 0)
		error = wh_http_server_open(loop, &options, &server);
	if (error == 0)
		plain_port = listen_with(NULL, &error);
	if (error == 0)
		secure_port = listen_with(server_context, &error);
	return error;
}

static int open_client(const char *ca, const char *proxy, int64_t timeout_ns, wh_http_client **ret)
{
	const struct wh_http_client_options options = {
		.user_agent = "fault",
		.tls_ca_file = tls_path(ca),
		.proxy = proxy,
		.connect_timeout_ns = timeout_ns,
		.tls_timeout_ns = timeout_ns,
		.send_timeout_ns = timeout_ns,
		.first_byte_timeout_ns = timeout_ns,
		.read_timeout_ns = timeout_ns,
		.proxy_timeout_ns = timeout_ns,
		.waiting_timeout_ns = timeout_ns,
	};

	return wh_http_client_open(loop, &options, ret);
}

/* Of what is lost for want of memory nobody tells; so little time only where that is so. */
static int open_all(void)
{
	int64_t patience = 500 * WH_NS_PER_MS;
	int error = wh_loop_open(&loop, NULL);

	if (error == 0)
		error = open_server();
	if (error == 0)
		error = open_client("ca.pem", NULL, patience, &client);
	if (error == 0)
		error = open_client("foreign_ca.pem", NULL, patience, &stranger);
	if (error == 0)
		error = open_client("ca.pem", url("http", proxy_port, ""), patience, &through);
	return error;
}

static void close_all(void)
{
	client = wh_http_client_close(client);
	stranger = wh_http_client_close(stranger);
	through = wh_http_client_close(through);
	server = wh_http_server_close(server);
	loop = wh_loop_close(loop);
	server_context = wh_tls_context_close(server_context);
	wait_for_tunnels();
}

/* ---- the script ---------------------------------------------------------------------------- */

static int problems;
static bool is_strict; /* everything must be as when nothing fails */

static bool is_documented(int64_t n)
{
	switch (n) {
	case -ENOMEM:
	case -EAGAIN:
	case -ENOBUFS:
	case -ECONNRESET:
	case -EPIPE:
	case -ETIMEDOUT:
	case -WH_EHTTP_CLOSED:
	case -WH_EHTTP_PROXY:
	case -WH_ETLS_REFUSED:   /* the other end had no memory, and said so */
	case -WH_ETLS_TRUNCATED: /* or could not */
	case -WH_ETLS_CONFIG:    /* OpenSSL does not always say that it was memory */
	case -WH_ETLS_PROTOCOL:  /* likewise */
		return true;
	default:
		return false;
	}
}

static void wrong(const char *what, int64_t n)
{
	fprintf(stderr, "WHILST_FAULT=%s: %s gives %lld, %s\n", fault_name(), what, (long long)n,
	        n < 0 ? wh_strerror((int)n) : "");
	abort();
}

/* n is wanted, or what want of memory may give. */
static bool expect(const char *what, int64_t n, int64_t wanted)
{
	if (n == wanted)
		return true;
	problems++;
	if (is_strict || !(n < 0 ? is_documented(n) : n == 500 || n == 503))
		wrong(what, n);
	return false;
}

static void ask(wh_http_client *with, struct wh_http_request request, int64_t wanted)
{
	struct wh_http_failure failure;
	wh_res res;

	request.failure = &failure;
	res = wh_await(wh_http_request(with, &request));
	if (expect(request.url, res.n, wanted) && res.n > 0) {
		const struct wh_http_response *response = res.ptr;

		if (response->body.len != (request.body                   ? request.body_len
		                           : strstr(request.url, "/file") ? 7
		                                                          : 0))
			wrong(request.url, (int64_t)response->body.len);
	}
	if (res.n > 0)
		wh_http_response_free(res.ptr);
}

static void ask_url(wh_http_client *with, const char *at, int64_t wanted)
{
	ask(with, (struct wh_http_request){.url = at, .redirects_max = 3}, wanted);
}

static void in_pieces(const char *path, const char *upgrade, int64_t wanted)
{
	struct wh_http_request request = {.url = url("https", secure_port, path),
	                                  .method = upgrade ? "GET" : "POST",
	                                  .upgrade = upgrade};
	wh_http_call *call;
	wh_res res;
	int error = wh_http_call_open(client, &request, upgrade ? 0 : WH_HTTP_CHUNKED, &call);

	if (!expect("call_open", error, 0))
		return;
	if (!upgrade)
		(void)wh_await(wh_http_call_write(call, "abc", 3));
	res = wh_await(wh_http_call_response(call));
	if (expect("response", res.n, wanted)) {
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
	static const char body[5000] = "x";

	ask_url(client, url("https", secure_port, "/echo"), 200);
	ask(client,
	    (struct wh_http_request){.url = url("https", secure_port, "/echo"),
	                             .method = "POST",
	                             .body = body,
	                             .body_len = sizeof(body)},
	    200);
	ask_url(client, url("https", secure_port, "/last"), 200);
	ask_url(client, url("https", secure_port, "/file"), 200); /* resumed */
	in_pieces("/stream", NULL, 200);
	if (!getenv("WH_TEST_HTTP_THREADS"))
		in_pieces("/upgrade", "echo", 101);
	expect("reload", wh_tls_context_reload(server_context), 0);
	ask_url(client, url("http", plain_port, "/to"), 200);
	ask_url(stranger, url("https", secure_port, "/echo"), -WH_ETLS_CERTIFICATE);
	ask_url(through, "https://good.test/echo", 200);
}

/* With memory again it goes on, whatever happened; and now there is time. */
static void go_on(void)
{
	wh_http_client *patient = NULL;
	int error;

	is_strict = true;
	error = open_client("ca.pem", NULL, 60 * WH_NS_PER_S, &patient);
	if (error != 0)
		wrong("a client with memory", error);
	ask_url(patient, url("https", secure_port, "/echo"), 200);
	wh_http_client_close(patient);
	is_strict = false;
}

static void fail_nothing(void)
{
	atomic_store(&fail_at, 0);
	atomic_store(&openssl_fail_at, 0);
}

/* One of the two is not 0, or nothing fails. true: something did. */
static bool run(int ours, long openssl)
{
	long before = atomic_load(&live), left;
	int descriptors = open_fd_count(), error;
	char name[40];

	problems = 0;
	atomic_store(&calls, 0);
	atomic_store(&openssl_calls, 0);
	atomic_store(&hit, false);
	atomic_store(&fail_at, ours);
	atomic_store(&openssl_fail_at, openssl);
	snprintf(name, sizeof(name), "%s", fault_name());
	error = open_all();
	if (error == 0)
		use_everything();
	else
		expect("opening", error, 0);
	fail_nothing();
	if (error == 0)
		go_on();
	close_all();
	ERR_clear_error();
	left = atomic_load(&live) - before;
	if (left != 0 || open_fd_count() != descriptors || (problems && !atomic_load(&hit))) {
		fprintf(stderr, "WHILST_FAULT=%s: %ld allocations and %d descriptors are left, %d problems\n",
		        name, left, open_fd_count() - descriptors, problems);
		abort();
	}
	return atomic_load(&hit);
}

static void repeat_one(const char *text)
{
	long n = strchr(text, ':') ? atol(strchr(text, ':') + 1) : 0;

	if (strncmp(text, "ours:", 5) == 0)
		(void)run((int)n, 0);
	else
		(void)run(0, n);
}

static void run_all(void)
{
	long openssl = 1, step = getenv("HTTPS_FAULTS_ALL") ? 1 : STEP;
	int ours = 1;

	while (run(ours, 0))
		ours++;
	while (run(0, openssl))
		openssl += step;
	printf("%d allocations of ours and %ld of OpenSSL's, of which each %ld-th, failed, one at a time\n",
	       ours - 1, openssl - 1, step);
	if (ours < 200 || openssl < 2000)
		abort();
}

static void open_proxy(pthread_t *ret)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);

	proxy_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (proxy_fd < 0 || bind(proxy_fd, (struct sockaddr *)&address, len) != 0 ||
	    listen(proxy_fd, 64) != 0 || getsockname(proxy_fd, (struct sockaddr *)&address, &len) != 0 ||
	    pthread_create(ret, NULL, run_proxy, NULL) != 0)
		abort();
	proxy_port = ntohs(address.sin_port);
}

int main(void)
{
	const char *only = getenv("WHILST_FAULT");
	pthread_t proxy;
	int fd;

	if (CRYPTO_set_mem_functions(openssl_malloc, openssl_realloc, openssl_free) != 1)
		abort();
	need_engine();
	make_authority();
	folder = open(tls_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = openat(folder, "file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "content", 7) != 7 || close(fd) != 0)
		abort();
	open_proxy(&proxy);
	alarm(getenv("HTTPS_FAULTS_ALL") ? 0 : 200);
	(void)run(0, 0); /* what is kept for the life of the process is made now */
	if (only)
		repeat_one(only);
	else
		run_all();
	shutdown(proxy_fd, SHUT_RDWR);
	pthread_join(proxy, NULL);
	close(proxy_fd);
	unlinkat(folder, "file", 0);
	close(folder);
	remove_authority();
	return 0;
}
