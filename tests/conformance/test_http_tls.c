/* tests/conformance/test_http_tls.c -- HTTP over TLS, client and server on one loop: verification, streams, cut answers, redirects between
 * schemes, tunnels through a proxy, upgrades; on the engine of WHILST_ENGINE.
 */
#include "tls_authority.h"

#include "http_echo.h"
#include "http_peer.h"
#include "whilst/http.h"

enum { MIB = 1024 * 1024 };

static wh_http_server *server, *proxy;
static wh_http_client *client;
static wh_tls_context *good, *other;
static uint16_t secure_port, other_port, plain_port, proxy_port;
static char text[8][200];

static const char *url(const char *scheme, const char *host, uint16_t port, const char *path)
{
	static int next;
	char *to = text[next++ % 8];

	snprintf(to, sizeof(text[0]), "%s://%s:%u%s", scheme, host, port, path);
	return to;
}

/* ---- the server ---------------------------------------------------------------------------- */

static void on_head(wh_http_exchange *x, void *arg)
{
	if (wh_slice_equal(wh_http_path(x), "/echo"))
		wh_http_stream(x, UINT64_MAX);
}

static void on_request(wh_http_exchange *x, void *arg)
{
	struct wh_slice path = wh_http_path(x);

	if (wh_slice_equal(path, "/echo")) {
		assert_int_equal(wh_http_start(x, 200, wh_http_body_length(x)), 0);
		echo_read(x);
	} else if (wh_slice_equal(path, "/upgrade")) {
		assert_int_equal(wh_http_upgrade(x, "echo"), 0);
		echo_read(x);
	} else if (wh_slice_equal(path, "/cut")) {
		wh_http_close_after(x);
		assert_int_equal(wh_http_start(x, 200, WH_HTTP_CHUNKED), 0);
		(void)wh_drop(wh_http_write(x, "half", 4));
		wh_http_abort(x);
	} else if (wh_slice_equal(path, "/to-plain")) {
		assert_int_equal(wh_http_set(x, "Location", url("http", "127.0.0.1", plain_port, "/here")),
		                 0);
		wh_http_respond(x, 302, NULL, 0);
	} else if (wh_slice_equal(path, "/to-secure")) {
		assert_int_equal(wh_http_set(x, "Location", url("https", "127.0.0.1", secure_port, "/here")),
		                 0);
		wh_http_respond(x, 302, NULL, 0);
	} else if (wh_slice_equal(path, "/who")) {
		char name[100] = "";

		if (wh_http_tls(x))
			wh_tls_peer_name(wh_http_tls(x), name, sizeof(name));
		wh_http_respond(x, 200, name, strlen(name));
	} else {
		wh_http_respond(x, 200, wh_http_tls(x) ? "secure" : "plain", wh_http_tls(x) ? 6 : 5);
	}
}

/* ---- a proxy, made of the same parts --------------------------------------------------------- */

struct tunnel {
	wh_http_exchange *x;
	int fd, ends;
	struct wh_buf *buf;
};

static void to_server(struct tunnel *t);
static void to_client(struct tunnel *t);
static int tunnels;

static void end_tunnel(struct tunnel *t)
{
	if (++t->ends < 2)
		return;
	wh_http_end(t->x);
	(void)wh_drop(wh_close(loop, t->fd));
	free(t);
}

static void sent_to_server(wh_loop *l, wh_res res, void *arg)
{
	struct tunnel *t = arg;

	t->buf = wh_buf_put(t->buf);
	if (res.n < 0)
		end_tunnel(t);
	else
		to_server(t);
}

static void from_client(wh_loop *l, wh_res res, void *arg)
{
	struct tunnel *t = arg;

	if (res.n > 0) {
		t->buf = res.ptr;
		assert_int_equal(wh_then(wh_send_all(l, t->fd, t->buf->data, t->buf->len), sent_to_server, t),
		                 0);
	} else {
		(void)wh_shutdown(l, t->fd, SHUT_WR);
		end_tunnel(t);
	}
}

static void to_server(struct tunnel *t)
{
	assert_int_equal(wh_then(wh_http_read(t->x), from_client, t), 0);
}

static void sent_to_client(wh_loop *l, wh_res res, void *arg)
{
	if (res.n < 0)
		end_tunnel(arg);
	else
		to_client(arg);
}

static void from_server(wh_loop *l, wh_res res, void *arg)
{
	struct tunnel *t = arg;

	if (res.n > 0) {
		assert_int_equal(wh_then(wh_http_write_buf(t->x, res.ptr), sent_to_client, t), 0);
	} else {
		wh_http_shutdown(t->x);
		end_tunnel(t);
	}
}

static void to_client(struct tunnel *t)
{
	assert_int_equal(wh_then(wh_recv_buf(loop, t->fd), from_server, t), 0);
}

static void tunnel_connected(wh_loop *l, wh_res res, void *arg)
{
	struct tunnel *t = arg;

	if (res.n < 0) {
		wh_http_problem(t->x, 502, NULL);
		free(t);
		return;
	}
	t->fd = (int)res.n;
	assert_int_equal(wh_http_upgrade(t->x, NULL), 0);
	to_server(t);
	to_client(t);
}

static void on_proxy(wh_http_exchange *x, void *arg)
{
	struct sockaddr_in address = peer_address(secure_port);
	struct tunnel *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	assert_true(wh_slice_equal(wh_http_method_token(x), "CONNECT"));
	tunnels++;
	t->x = x;
	assert_int_equal(
		wh_then(wh_connect(loop, (struct sockaddr *)&address, sizeof(address)), tunnel_connected, t),
		0);
}

/* ---- fixture ------------------------------------------------------------------------------- */

static uint16_t listen_with(wh_http_server *with, wh_tls_context *context)
{
	struct sockaddr_in address;
	int fd = listen_tcp(&address);

	assert_int_equal(wh_http_server_listen_tls(with, fd, context), 0);
	return ntohs(address.sin_port);
}

static void open_client(struct wh_http_client_options options)
{
	if (!options.tls_insecure && !options.tls)
		options.tls_ca_file = tls_path("ca.pem");
	assert_int_equal(wh_http_client_open(loop, &options, &client), 0);
}

static void reopen(struct wh_http_client_options options)
{
	wh_http_client_close(client);
	open_client(options);
}

static int start(void **state)
{
	struct wh_tls_certificate certificate = certificate_of("good");
	struct wh_tls_options options = {.server = true,
	                                 .certificates = &certificate,
	                                 .certificate_count = 1,
	                                 .alpn = "http/1.1",
	                                 .verify = WH_TLS_VERIFY_OPTIONAL,
	                                 .ca_file = tls_path("ca.pem")};

	open_loop(state);
	good = open_context(&options);
	other = server_of("other");
	assert_int_equal(wh_http_server_open(loop,
	                                     &(struct wh_http_server_options){.on_head = on_head,
	                                                                      .on_request = on_request},
	                                     &server),
	                 0);
	assert_int_equal(
		wh_http_server_open(loop,
	                            &(struct wh_http_server_options){.on_request = on_proxy, .connect = true},
	                            &proxy),
		0);
	secure_port = listen_with(server, good);
	other_port = listen_with(server, other);
	plain_port = listen_with(server, NULL);
	proxy_port = listen_with(proxy, NULL);
	open_client((struct wh_http_client_options){0});
	return 0;
}

static int stop(void **state)
{
	client = wh_http_client_close(client);
	server = wh_http_server_close(server);
	proxy = wh_http_server_close(proxy);
	close_loop(state);
	good = wh_tls_context_close(good);
	other = wh_tls_context_close(other);
	return 0;
}

static int64_t ask(struct wh_http_request request, struct wh_http_failure *failure, const char *body)
{
	wh_res res;

	*failure = (struct wh_http_failure){0};
	request.failure = failure;
	res = wh_await(wh_http_request(client, &request));
	if (res.n > 0) {
		struct wh_http_response *response = res.ptr;

		if (body)
			assert_true(wh_slice_equal(response->body, body));
		wh_http_response_free(response);
	}
	return res.n;
}

static struct wh_http_client_stats stats(void)
{
	struct wh_http_client_stats s;

	wh_http_client_stats(client, &s);
	return s;
}

/* ---- tests --------------------------------------------------------------------------------- */

static void verified(void **state)
{
	struct wh_http_failure failure;
	struct wh_http_server_stats server_stats;
	wh_tls_context *context;

	for (int i = 0; i < 3; i++)
		assert_int_equal(
			ask((struct wh_http_request){.url = url("https", "127.0.0.1", secure_port, "/")},
		            &failure, "secure"),
			200);
	assert_int_equal(stats().connections_opened, 1);
	assert_int_equal(ask((struct wh_http_request){.url = url("http", "127.0.0.1", plain_port, "/")},
	                     &failure, "plain"),
	                 200);
	/* another's certificate */
	assert_int_equal(ask((struct wh_http_request){.url = url("https", "127.0.0.1", other_port, "/")},
	                     &failure, NULL),
	                 -WH_ETLS_CERTIFICATE);
	assert_int_equal(failure.stage, WH_HTTP_STAGE_TLS);
	assert_true(strlen(failure.detail) > 5);
	reopen((struct wh_http_client_options){.tls_insecure = true});
	assert_int_equal(ask((struct wh_http_request){.url = url("https", "127.0.0.1", other_port, "/")},
	                     &failure, "secure"),
	                 200);
	/* what the system trusts does not include this authority */
	wh_http_client_close(client);
	assert_int_equal(wh_http_client_open(loop, NULL, &client), 0);
	assert_int_equal(ask((struct wh_http_request){.url = url("https", "127.0.0.1", secure_port, "/")},
	                     &failure, NULL),
	                 -WH_ETLS_CERTIFICATE);
	/* a context of one's own; a certificate of one's own */
	context = client_of_ca();
	reopen((struct wh_http_client_options){.tls = context});
	assert_int_equal(ask((struct wh_http_request){.url = url("https", "127.0.0.1", secure_port, "/who")},
	                     &failure, ""),
	                 200);
	reopen((struct wh_http_client_options){.tls_certificate_file = tls_path("client.pem"),
	                                       .tls_key_file = tls_path("client.key")});
	assert_int_equal(ask((struct wh_http_request){.url = url("https", "127.0.0.1", secure_port, "/who")},
	                     &failure, "CN = client"),
	                 200);
	wh_tls_context_close(context);
	/* somebody who does not speak TLS */
	assert_true(ask((struct wh_http_request){.url = url("http", "127.0.0.1", secure_port, "/")}, &failure,
	                NULL) < 0);
	assert_true(ask((struct wh_http_request){.url = url("https", "127.0.0.1", plain_port, "/")}, &failure,
	                NULL) < 0);
	assert_int_equal(failure.stage, WH_HTTP_STAGE_TLS);
	wh_http_server_stats(server, &server_stats);
	assert_true(server_stats.handshakes_failed >= 2);
	wh_http_client_close(client);
	assert_int_equal(wh_http_client_open(
				 loop, &(struct wh_http_client_options){.tls_ca_file = "/nowhere"}, &client),
	                 -ENOENT);
	/* a key alone would be left out in silence */
	assert_int_equal(
		wh_http_client_open(loop,
	                            &(struct wh_http_client_options){.tls_key_file = tls_path("client.key")},
	                            &client),
		-EINVAL);
	open_client((struct wh_http_client_options){0});
}

static void silent_peers(void **state)
{
	struct wh_http_failure failure;
	int listener = peer_listen(), fd;

	reopen((struct wh_http_client_options){.tls_timeout_ns = 50 * WH_NS_PER_MS});
	assert_int_equal(
		ask((struct wh_http_request){.url = url("https", "127.0.0.1", peer_port(listener), "/")},
	            &failure, NULL),
		-ETIMEDOUT);
	assert_int_equal(failure.stage, WH_HTTP_STAGE_TLS);
	assert_string_equal(failure.text, "timed out in the TLS handshake");
	close(listener);
	/* the server is closed while a client is silent */
	fd = peer_connect(secure_port);
	for (int i = 0; i < 10; i++)
		wh_loop_turn(loop, WH_NS_PER_MS);
	server = wh_http_server_close(server);
	for (int i = 0; i < 10; i++)
		wh_loop_turn(loop, WH_NS_PER_MS);
	peer_expect_end(fd);
	close(fd);
}

/* Handshakes that are never ended hold up others at the limit, and no memory beyond it. */
static void handshakes_wait_in_line(void **state)
{
	struct wh_http_failure failure = {0};
	struct wh_http_server_stats now;
	wh_http_server *narrow;
	int silent[2];

	assert_int_equal(wh_http_server_open(loop,
	                                     &(struct wh_http_server_options){.on_head = on_head,
	                                                                      .on_request = on_request,
	                                                                      .handshakes_max = 2},
	                                     &narrow),
	                 0);
	uint16_t port = listen_with(narrow, good);
	for (int i = 0; i < 2; i++)
		silent[i] = peer_connect(port);
	do {
		assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
		wh_http_server_stats(narrow, &now);
	} while (now.handshakes < 2);
	const struct wh_http_request request = {.url = url("https", "127.0.0.1", port, "/"),
	                                        .failure = &failure};
	wh_future waiting = wh_http_request(client, &request);
	for (int i = 0; i < 20; i++)
		assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	wh_http_server_stats(narrow, &now);
	assert_int_equal(now.handshakes, 2);
	assert_int_equal(now.connections_accepted, 2);
	assert_false(wh_done(waiting));
	close(silent[0]);
	wh_res res = wh_await(waiting);
	assert_int_equal(res.n, 200);
	wh_http_response_free(res.ptr);
	wh_http_server_stats(narrow, &now);
	assert_int_equal(now.handshakes, 1);
	assert_int_equal(now.handshakes_failed, 1);
	wh_http_server_close(narrow);
	close(silent[1]);
}

struct transfer {
	wh_http_call *call;
	size_t left, got;
	bool over;
};

static char piece[100000];

static void write_next(wh_loop *l, wh_res res, void *arg)
{
	struct transfer *t = arg;
	size_t n = t->left < sizeof(piece) ? t->left : sizeof(piece);

	assert_int_equal(res.n, 0);
	if (n == 0) {
		wh_http_call_end(t->call);
		return;
	}
	t->left -= n;
	assert_int_equal(wh_then(wh_http_call_write(t->call, piece, n), write_next, t), 0);
}

static void read_next(wh_loop *l, wh_res res, void *arg)
{
	struct transfer *t = arg;

	assert_true(res.n >= 0);
	t->got += (size_t)res.n;
	wh_buf_put(res.ptr);
	t->over = res.n == 0;
	if (!t->over)
		assert_int_equal(wh_then(wh_http_call_read(t->call), read_next, t), 0);
}

static void move(struct wh_http_request request, int64_t body_length, int status, size_t bytes)
{
	struct transfer t = {.left = bytes};

	assert_int_equal(wh_http_call_open(client, &request, body_length, &t.call), 0);
	if (status == 200)
		write_next(loop, (wh_res){0, NULL}, &t);
	assert_int_equal(wh_await(wh_http_call_response(t.call)).n, status);
	if (status == 101)
		write_next(loop, (wh_res){0, NULL}, &t);
	assert_int_equal(wh_then(wh_http_call_read(t.call), read_next, &t), 0);
	while (!t.over)
		assert_int_equal(wh_loop_turn(loop, WH_NS_PER_S), 0);
	assert_int_equal(t.got, bytes);
	wh_http_call_close(t.call);
}

static void streams(void **state)
{
	struct wh_http_request request = {.url = url("https", "127.0.0.1", secure_port, "/echo"),
	                                  .method = "POST"};

	move(request, WH_HTTP_CHUNKED, 200, 5 * MIB);
	move(request, 5 * MIB, 200, 5 * MIB);
	request.url = url("https", "127.0.0.1", secure_port, "/upgrade");
	request.method = NULL;
	request.upgrade = "echo";
	move(request, 0, 101, 3 * MIB);
}

/* An answer that is cut off must not look whole, whatever it is framed by. */
static void cut_off(void **state)
{
	struct wh_http_failure failure;
	int64_t n = ask((struct wh_http_request){.url = url("https", "127.0.0.1", secure_port, "/cut")},
	                &failure, NULL);

	assert_true(n == -WH_ETLS_TRUNCATED || n == -ECONNRESET || n == -WH_EHTTP_CLOSED);
}

static void between_schemes(void **state)
{
	struct wh_http_failure failure;
	struct wh_http_request request = {.url = url("https", "127.0.0.1", secure_port, "/to-plain"),
	                                  .redirects_max = 2};

	assert_int_equal(ask(request, &failure, NULL), -WH_EHTTP_REDIRECT);
	request.redirect_insecure = true;
	assert_int_equal(ask(request, &failure, "plain"), 200);
	request.redirect_insecure = false;
	request.url = url("http", "127.0.0.1", plain_port, "/to-secure");
	assert_int_equal(ask(request, &failure, "secure"), 200);
}

static void through_proxy(void **state)
{
	struct wh_http_failure failure;
	struct wh_http_request request = {.method = "POST"};

	tunnels = 0;
	reopen((struct wh_http_client_options){.proxy = url("http", "127.0.0.1", proxy_port, "")});
	/* the name is for the proxy to find, and the certificate is still to be for it */
	for (int i = 0; i < 3; i++)
		assert_int_equal(
			ask((struct wh_http_request){.url = "https://good.test/"}, &failure, "secure"), 200);
	assert_int_equal(tunnels, 1);
	assert_int_equal(ask((struct wh_http_request){.url = "https://bad.test/"}, &failure, NULL),
	                 -WH_ETLS_CERTIFICATE);
	request.url = "https://[::1]/echo";
	move(request, WH_HTTP_CHUNKED, 200, 3 * MIB);
	assert_int_equal(tunnels, 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(verified), TEST(silent_peers),    TEST(handshakes_wait_in_line), TEST(streams),
		TEST(cut_off),  TEST(between_schemes), TEST(through_proxy),
	};
	int failed;

	need_engine();
	make_authority();
	failed = cmocka_run_group_tests_name("http tls", tests, NULL, NULL);
	remove_authority();
	return failed;
}
