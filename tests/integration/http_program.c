/* tests/integration/http_program.c -- the HTTP server and client of the library as programs, for tests against those of others.
 *
 *   http_program serve FOLDER [CERTIFICATE KEY]    prints "PORT [TLS-PORT]"; until standard input ends, then drains
 *   http_program fetch [--proxy URL] [--environment] [--ca FILE] [--redirects N] [--method M] [--body BYTES] [--expect] URL...
 *                                                  prints for each "STATUS LENGTH HASH FINAL-URL", or "ERROR STAGE TEXT"
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "whilst/http.h"

static wh_loop *loop;

static int fail(const char *what, int64_t error)
{
	fprintf(stderr, "%s: %s\n", what, wh_strerror(error));
	return 1;
}

/* ---- serve --------------------------------------------------------------------------------- */

static int folder;

struct upload {
	wh_http_exchange *x;
	uint64_t bytes;
};

static void upload_got(wh_loop *l, wh_res res, void *arg)
{
	struct upload *upload = arg;

	if (res.n > 0) {
		upload->bytes += (uint64_t)res.n;
		wh_buf_put(res.ptr);
		(void)wh_then(wh_http_read(upload->x), upload_got, upload);
		return;
	}
	if (res.n == 0) {
		char text[32];
		int n = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)upload->bytes);

		wh_http_respond(upload->x, 200, text, (size_t)n);
	} else {
		wh_http_abort(upload->x);
	}
	free(upload);
}

static void echo_got(wh_loop *l, wh_res res, void *arg);

static void echo_written(wh_loop *l, wh_res res, void *arg)
{
	if (res.n < 0)
		wh_http_abort(arg);
	else
		(void)wh_then(wh_http_read(arg), echo_got, arg);
}

static void echo_got(wh_loop *l, wh_res res, void *arg)
{
	if (res.n > 0)
		(void)wh_then(wh_http_write_buf(arg, res.ptr), echo_written, arg);
	else if (res.n == 0)
		wh_http_end(arg);
	else
		wh_http_abort(arg);
}

static void on_head(wh_http_exchange *x, void *arg)
{
	if (wh_slice_equal(wh_http_path(x), "/upload") || wh_slice_equal(wh_http_path(x), "/echo"))
		wh_http_stream(x, UINT64_MAX);
}

static void on_request(wh_http_exchange *x, void *arg)
{
	static const struct wh_http_file_options options = {.index = "index.html"};
	struct wh_slice path = wh_http_path(x);

	if (wh_slice_equal(path, "/upload")) {
		struct upload *upload = calloc(1, sizeof(*upload));

		if (!upload) {
			wh_http_abort(x);
			return;
		}
		upload->x = x;
		(void)wh_then(wh_http_read(x), upload_got, upload);
	} else if (wh_slice_equal(path, "/echo")) {
		(void)wh_http_start(x, 200, WH_HTTP_CHUNKED);
		(void)wh_then(wh_http_read(x), echo_got, x);
	} else if (wh_slice_equal(path, "/raw") && wh_http_upgrade(x, "raw") == 0) {
		(void)wh_then(wh_http_read(x), echo_got, x);
	} else {
		wh_http_respond_file(x, folder, path, &options);
	}
}

static int listen_on(wh_http_server *server, wh_tls_context *context)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_storage bound;
	socklen_t len;
	int fd = wh_listen(loop, (struct sockaddr *)&address, sizeof(address), NULL);

	if (fd < 0 || wh_local_address(loop, fd, &bound, &len) < 0 ||
	    wh_http_server_listen_tls(server, fd, context) < 0)
		return -1;
	return ntohs(((struct sockaddr_in *)&bound)->sin_port);
}

static int serve(int argc, char **argv)
{
	struct wh_http_server_options options = {
		.on_head = on_head, .on_request = on_request, .server_name = "program"};
	wh_tls_context *context = NULL;
	wh_http_server *server;
	char byte;
	int error;

	if (argc < 1)
		return 2;
	folder = open(argv[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	error = wh_http_server_open(loop, &options, &server);
	if (error < 0 || folder < 0)
		return fail("server", error);
	printf("%d", listen_on(server, NULL));
	if (argc == 3) {
		struct wh_tls_certificate certificate = {.chain_file = argv[1], .key_file = argv[2]};
		struct wh_tls_options tls = {.server = true,
		                             .certificates = &certificate,
		                             .certificate_count = 1,
		                             .alpn = "http/1.1"};

		error = wh_tls_context_open(&tls, &context);
		if (error < 0)
			return fail("certificate", error);
		printf(" %d", listen_on(server, context));
	}
	printf("\n");
	fflush(stdout);
	while (wh_await(wh_read(loop, 0, &byte, 1)).n > 0)
		;
	(void)wh_await(wh_http_server_drain(server));
	wh_http_server_close(server);
	wh_tls_context_close(context);
	return 0;
}

/* ---- fetch --------------------------------------------------------------------------------- */

static uint64_t hash_of(struct wh_slice bytes)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

	for (size_t i = 0; i < bytes.len; i++)
		hash = (hash ^ (unsigned char)bytes.data[i]) * UINT64_C(0x100000001b3);
	return hash;
}

static void fetch_one(wh_http_client *client, struct wh_http_request request)
{
	struct wh_http_failure failure = {0};
	struct wh_http_response *response;
	wh_res res;

	request.failure = &failure;
	res = wh_await(wh_http_request(client, &request));
	if (res.n < 0) {
		printf("%lld %s: %s %s\n", (long long)res.n, wh_http_stage_name(failure.stage),
		       failure.text ? failure.text : wh_strerror(res.n), failure.detail);
		return;
	}
	response = res.ptr;
	printf("%d %zu %016llx %.*s\n", response->status, response->body.len,
	       (unsigned long long)hash_of(response->body), (int)response->url.len, response->url.data);
	wh_http_response_free(response);
}

static int fetch(int argc, char **argv)
{
	struct wh_http_client_options options = {.user_agent = "program"};
	struct wh_http_request request = {0};
	wh_http_client *client;
	char *body = NULL;
	int error;

	for (; argc > 0 && strncmp(argv[0], "--", 2) == 0; argc--, argv++) {
		const char *value = argc > 1 ? argv[1] : "";

		if (strcmp(argv[0], "--environment") == 0 || strcmp(argv[0], "--expect") == 0) {
			options.proxy_from_environment |= argv[0][3] == 'n';
			request.expect_continue |= argv[0][3] == 'x';
			continue;
		}
		if (strcmp(argv[0], "--proxy") == 0)
			options.proxy = value;
		else if (strcmp(argv[0], "--ca") == 0)
			options.tls_ca_file = value;
		else if (strcmp(argv[0], "--redirects") == 0)
			request.redirects_max = (uint32_t)atoi(value);
		else if (strcmp(argv[0], "--method") == 0)
			request.method = value;
		else if (strcmp(argv[0], "--body") == 0)
			request.body_len = strtoul(value, NULL, 10);
		else
			return 2;
		argc--, argv++;
	}
	if (request.body_len > 0) {
		request.body = body = malloc(request.body_len);
		if (!body)
			return 1;
		memset(body, 'b', request.body_len);
	}
	error = wh_http_client_open(loop, &options, &client);
	if (error < 0)
		return fail("client", error);
	for (int i = 0; i < argc; i++) {
		request.url = argv[i];
		fetch_one(client, request);
	}
	wh_http_client_close(client);
	free(body);
	return 0;
}

int main(int argc, char **argv)
{
	int status = 2, error = wh_loop_open(&loop, NULL);

	if (error < 0)
		return fail("no loop", error);
	if (argc > 2 && strcmp(argv[1], "serve") == 0)
		status = serve(argc - 2, argv + 2);
	else if (argc > 2 && strcmp(argv[1], "fetch") == 0)
		status = fetch(argc - 2, argv + 2);
	wh_loop_close(loop);
	return status;
}
