/* tests/conformance/test_http_client.c -- the HTTP client over real sockets, on the engine of WHILST_ENGINE.
 *
 * The client runs on the test's thread; its peers are scripts of plain blocking sockets on a thread, or our server.
 */
#define WH_TESTS_HTTP_ON_SIM

#include "http_script.h"

/* ---- whole requests -------------------------------------------------------------------------- */

static void whole(void **state)
{
	static const struct step steps[] = {
		{.say = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: 1\r\n\r\nhello"},
		{.say = "HTTP/1.1 201 Created\r\nTransfer-Encoding: "
	                "chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: v\r\n\r\n",
	         .body = 4},
		{.say = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 "
	                "204 No Content\r\n\r\n"},
		{.say = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"},
		{.say = "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"},
		{.say = "HTTP/1.0 200 OK\r\n\r\nuntil close"},
		END,
		END,
	};
	struct script *script = script_start(steps);
	struct wh_http_field field = {{"X-B", 3}, {"2", 1}};
	struct wh_http_request request = {.origin = script->origin,
	                                  .method = "POST",
	                                  .target = "/p?q",
	                                  .body = "data",
	                                  .body_len = 4,
	                                  .fields = &field,
	                                  .field_count = 1};
	struct wh_http_response *response;
	wh_res res = ask(script->origin, "GET", "/");
	char wanted[256];

	assert_int_equal(res.n, 200);
	response = res.ptr;
	assert_true(wh_slice_equal(wh_http_response_header(response, "x-a"), "1"));
	assert_null(wh_http_response_header(response, "x-none").data);
	assert_true(wh_slice_equal(response->body, "hello"));
	assert_true(wh_slice_equal(response->reason, "OK"));
	assert_int_equal(response->body_length, 5);
	wh_http_response_free(response);
	expect_answer(wh_await(wh_http_request(client, &request)), 201, "abcde");
	snprintf(wanted, sizeof(wanted),
	         "POST /p?q HTTP/1.1\r\nHost: %s\r\nX-B: 2\r\nContent-Length: 4\r\n\r\n", script->origin);
	assert_string_equal(script->last_head, wanted);
	expect_answer(ask(script->origin, "GET", NULL), 204, "");
	expect_answer(ask(script->origin, "HEAD", NULL), 200, "");
	expect_answer(ask(script->origin, "GET", NULL), 304, "");
	expect_answer(ask(script->origin, NULL, NULL), 200, "until close");
	assert_int_equal(stats().connections_opened, 1);
	assert_int_equal(stats().connections_reused, 5);
	assert_int_equal(stats().connections, 0);
	script_end(script);
}

static void unfit_requests(void **state)
{
	struct wh_http_field bad = {{"X", 1}, {"a\r\nb", 4}}, framing = {{"Content-Length", 14}, {"1", 1}};
	struct wh_http_request cases[] = {
		{.origin = NULL},
		{.origin = "127.0.0.1:0"},
		{.origin = "127.0.0.1:99999"},
		{.origin = "127.0.0.1:80", .method = "GE T"},
		{.origin = "127.0.0.1:80", .target = "/a b"},
		{.origin = "127.0.0.1:80", .target = "x"},
		{.origin = "127.0.0.1:80", .host = "a\r\nb"},
		{.origin = "127.0.0.1:80", .fields = &bad, .field_count = 1},
		{.origin = "127.0.0.1:80", .fields = &framing, .field_count = 1},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		assert_int_equal(wh_await(wh_http_request(client, &cases[i])).n, -EINVAL);
	assert_int_equal(ask("unix:/nowhere/at/all", NULL, NULL).n, -ENOENT);
}

/* Names go by wh_dial(), with the name servers of the options; "localhost" needs none. */
static void names(void **state)
{
	static const struct step steps[] = {{.say = OK}, END, END};
	struct wh_http_client_options options = {.name_servers = "127.0.0.1:1"};
	struct script *script = script_start(steps);
	struct wh_http_failure failure;
	struct wh_http_request request = {.origin = "name.example:80", .failure = &failure};
	char origin[32];

	stop(NULL);
	open_with(&options);
	/* a simulated world has a table, and no name servers */
	assert_int_equal(wh_await(wh_http_request(client, &request)).n,
	                 is_on_sim() ? -WH_ENAME_UNKNOWN : -WH_ENAME_SERVER);
	assert_int_equal(failure.stage, WH_HTTP_STAGE_CONNECT);
	if (is_on_sim())
		assert_int_equal(wh_sim_add_name(machine, "localhost", "127.0.0.1"), 0);
	snprintf(origin, sizeof(origin), "LocalHost:%u", script->port);
	expect_answer(ask(origin, NULL, NULL), 200, "ok");
	script_end(script);
}

static bool not_ipv4(const struct sockaddr *address, socklen_t len, void *arg)
{
	++*(int *)arg;
	return address->sa_family != AF_INET && address->sa_family != AF_UNIX;
}

/* Numbers, names and paths are judged alike, by where they lead. */
static void refused_addresses(void **state)
{
	int asked_count = 0;
	struct wh_http_client_options options = {.address_allowed = not_ipv4, .address_arg = &asked_count};
	struct wh_http_failure failure;
	struct wh_http_request request = {.origin = "127.0.0.1:9", .failure = &failure};

	stop(NULL);
	open_with(&options);
	assert_int_equal(wh_await(wh_http_request(client, &request)).n, -WH_EADDRESS_REFUSED);
	assert_int_equal(failure.stage, WH_HTTP_STAGE_CONNECT);
	assert_int_equal(asked_count, 1);
	assert_int_equal(ask("unix:/nowhere/at/all", NULL, NULL).n, -WH_EADDRESS_REFUSED);
	assert_int_equal(asked_count, 2);
	/* nobody listens at the other family's: that one was tried */
	assert_int_equal(ask("[::1]:9", NULL, NULL).n, -ECONNREFUSED);
}

static void bad_responses(void **state)
{
	static const struct step steps[] = {
		{.say = "HTTP/2.0 200 OK\r\n\r\n"},
		END,
		{.say = "nonsense"},
		END,
		{.say = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
		END,
		{.say = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nab"},
		END,
		{.say = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz"},
		END,
		{.say = "HTTP/1.1 101 Switching Protocols\r\n\r\n"},
		END,
		{.say = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"},
		END,
		{.say = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"},
		END,
		{.say = "HTTP/1.1 200"},
		END,
		{.say = ""},
		END,
		{.say = "HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n"},
		END,
		{.say = "HTTP/1.1 200 OK\r\nTransfer-Encoding: "
	                "chunked\r\n\r\n15\r\n012345678901234567890\r\n0\r\n\r\n"},
		END,
		END,
	};
	static const int64_t wanted[] = {
		-WH_EHTTP_SYNTAX, -WH_EHTTP_SYNTAX, -WH_EHTTP_SYNTAX,    -WH_EHTTP_SYNTAX,
		-WH_EHTTP_SYNTAX, -WH_EHTTP_SYNTAX, -WH_EHTTP_CLOSED,    -WH_EHTTP_CLOSED,
		-WH_EHTTP_CLOSED, -WH_EHTTP_CLOSED, -WH_EHTTP_TOO_LARGE, -WH_EHTTP_TOO_LARGE,
	};
	struct script *script = script_start(steps);

	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		struct wh_http_request request = {.origin = script->origin, .response_body_max = 20};
		wh_res res = wh_await(wh_http_request(client, &request));

		if (res.n != wanted[i])
			fail_msg("case %zu: wanted %lld, got %lld", i, (long long)wanted[i],
			         (long long)res.n);
	}
	script_end(script);
	assert_int_equal(stats().connections, 0);
}

/* ---- the pool -------------------------------------------------------------------------------- */

static void stale_connection(void **state)
{
	/* Each kept connection is ended by the server; how, and what the client makes of it, differs. */
	static const struct step steps[] = {
		{.say = OK},
		END, /* closed when idle: seen at once */
		{.say = OK},
		{.say = ""},
		END, /* closed on the second request: tried again */
		{.say = OK},
		{.say = ""},
		{.reset = true}, /* the same with RST */
		{.say = OK},
		{.say = "", .body = 1},
		END, /* POST: not tried again */
		{.say = OK},
		{.say = "HTTP"},
		END, /* something came: not tried again */
		END,
	};
	struct script *script = script_start(steps);
	struct wh_http_request post = {
		.origin = script->origin, .method = "POST", .body = "x", .body_len = 1};

	expect_answer(ask(script->origin, NULL, NULL), 200, "ok");
	/* the end of the idle connection comes without being asked for */
	while (stats().connections > 0)
		assert_int_equal(wh_loop_turn(loop, WH_NS_PER_S), 0);
	expect_answer(ask(script->origin, NULL, NULL), 200, "ok");
	assert_int_equal(stats().retries, 0);
	expect_answer(ask(script->origin, NULL, NULL), 200, "ok"); /* retried on the third connection */
	assert_int_equal(stats().retries, 1);
	expect_answer(ask(script->origin, NULL, NULL), 200, "ok");
	assert_int_equal(stats().retries, 2);
	assert_int_equal(wh_await(wh_http_request(client, &post)).n, -WH_EHTTP_CLOSED);
	assert_int_equal(stats().retries, 2);
	expect_answer(ask(script->origin, NULL, NULL), 200, "ok");
	assert_int_equal(ask(script->origin, NULL, NULL).n, -WH_EHTTP_CLOSED);
	assert_int_equal(stats().retries, 2);
	script_end(script);
}

static void connections_max(void **state)
{
	static const struct step steps[] = {{.say = OK}, {.say = OK},    {.say = OK},
	                                    {.say = OK}, {.keep = true}, END};
	struct wh_http_client_options options = {.connections_max = 1, .waiting_max = 3};
	struct script *script;
	struct wh_http_request request;
	wh_future f[5];
	wh_res res[5];

	stop(NULL);
	open_with(&options);
	script = script_start(steps);
	request = (struct wh_http_request){.origin = script->origin};
	for (int i = 0; i < 5; i++)
		f[i] = wh_http_request(client, &request);
	assert_int_equal(wh_await(f[4]).n, -EAGAIN);
	assert_int_equal(wh_await(wh_all(loop, f, 4, res)).n, 0);
	for (int i = 0; i < 4; i++)
		expect_answer(res[i], 200, "ok");
	assert_int_equal(stats().connections_opened, 1);
	script_end(script);
}

static void idle_limits(void **state)
{
	static const struct step steps[] = {{.say = OK}, {.keep = true}, {.say = OK}, {.keep = true}, END};
	struct wh_http_client_options options = {.idle_timeout_ns = 50 * WH_NS_PER_MS};
	struct script *script;

	stop(NULL);
	open_with(&options);
	script = script_start(steps);
	expect_answer(ask(script->origin, NULL, NULL), 200, "ok");
	assert_int_equal(stats().connections, 1);
	while (stats().connections > 0)
		assert_int_equal(wh_loop_turn(loop, WH_NS_PER_S), 0);
	expect_answer(ask(script->origin, NULL, NULL), 200, "ok");
	assert_int_equal(stats().connections_opened, 2);
	script_end(script);
}

static void note_answer(wh_loop *l, wh_res res, void *arg)
{
	*(wh_res *)arg = res;
}

/* A connection that is kept is no reason to go on; a call on it is. */
static void idle_in_background(void **state)
{
	static const struct step steps[] = {{.say = OK}, {.say = OK}, {.keep = true}, END};
	struct wh_http_client_options options = {.idle_timeout_ns = 3600 * WH_NS_PER_S};
	struct script *script;

	stop(NULL);
	open_with(&options);
	script = script_start(steps);
	for (int i = 0; i < 2; i++) {
		struct wh_http_request request = {.origin = script->origin};
		wh_res res = {0, NULL};

		assert_int_equal(wh_then(wh_http_request(client, &request), note_answer, &res), 0);
		assert_int_equal(wh_loop_run(loop), 0);
		expect_answer(res, 200, "ok");
		assert_int_equal(stats().connections, 1);
		assert_int_equal(stats().connections_reused, i);
	}
	/* its end still counts: nothing of the client is left when the loop has run */
	client = wh_http_client_close(client);
	assert_int_equal(wh_loop_run(loop), 0);
	struct wh_stats counts;
	wh_stats(loop, &counts);
	assert_int_equal(counts.in_flight, 0);
	assert_int_equal(wh_http_client_open(loop, NULL, &client), 0);
	script_end(script);
}

/* ---- time and cancelling ----------------------------------------------------------------------- */

static void time_outs(void **state)
{
	static const struct step steps[] = {
		{.say = ""},
		{.keep = true},
		{.say = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"},
		{.keep = true},
		{.say = "", .no_request = true},
		{.keep = true},
		END,
	};
	struct wh_http_client_options options = {.first_byte_timeout_ns = 50 * WH_NS_PER_MS,
	                                         .read_timeout_ns = 50 * WH_NS_PER_MS,
	                                         .send_timeout_ns = 50 * WH_NS_PER_MS};
	struct script *script;
	static char body[32 * MIB];
	struct wh_http_request request;

	stop(NULL);
	open_with(&options);
	script = script_start(steps);
	assert_int_equal(ask(script->origin, NULL, NULL).n, -ETIMEDOUT);
	assert_int_equal(ask(script->origin, NULL, NULL).n, -ETIMEDOUT);
	request = (struct wh_http_request){
		.origin = script->origin, .method = "PUT", .body = body, .body_len = sizeof(body)};
	assert_int_equal(wh_await(wh_http_request(client, &request)).n, -ETIMEDOUT);
	script_end(script);
	assert_int_equal(stats().connections, 0);
}

/* What has come is handed out at once, what has not is waited for, once at a time. */
static void reads(void **state)
{
	static const struct step steps[] = {
		{.say = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"},
		{.keep = true},
		END,
	};
	struct script *script = script_start(steps);
	struct wh_http_request request = {.origin = script->origin};
	wh_http_call *call;
	wh_future f;
	wh_res res;

	assert_int_equal(wh_http_call_open(client, &request, 0, &call), 0);
	assert_int_equal(wh_await(wh_http_call_read(call)).n, -EINVAL);
	assert_int_equal(wh_await(wh_http_call_response(call)).n, 200);
	/* the head and these two bytes were one send, and so most likely one receive */
	res = wh_await(wh_http_call_read(call));
	assert_int_equal(res.n, 2);
	assert_memory_equal(((struct wh_buf *)res.ptr)->data, "ab", 2);
	wh_buf_put(res.ptr);
	f = wh_http_call_read(call);
	assert_false(wh_done(f));
	assert_int_equal(wh_await(wh_http_call_read(call)).n, -EBUSY);
	wh_http_call_close(call);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	script_end(script);
}

static int releases;

static void released(void *arg)
{
	releases++;
}

/* At each stage: just begun, sent, amid the response, while a large body is being sent; and dropped. */
static void cancelling(void **state)
{
	static char body[32 * MIB];
	char origin[32];

	for (int i = 0; i < 4; i++) {
		/* each its own: a connection that was cancelled may have come about, and waits to be accepted */
		int listener = peer_listen();
		struct wh_http_request request = {.origin = origin, .release = released};
		int fd = -1;
		wh_future f;

		snprintf(origin, sizeof(origin), "127.0.0.1:%u", peer_port(listener));
		releases = 0;
		if (i == 3) {
			request.method = "PUT";
			request.body = body;
			request.body_len = sizeof(body);
		}
		f = wh_http_request(client, &request);
		if (i > 0) {
			while (stats().connections_opened < (uint64_t)i)
				assert_int_equal(wh_loop_turn(loop, WH_NS_PER_S), 0);
			fd = accept(listener, NULL, NULL);
			assert_true(fd >= 0);
			if (i == 2)
				peer_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab");
			for (int turns = 0; turns < 10; turns++)
				wh_loop_turn(loop, WH_NS_PER_MS);
		}
		assert_false(wh_done(f));
		wh_cancel(f);
		assert_int_equal(wh_await(f).n, -ECANCELED);
		while (releases == 0)
			assert_int_equal(wh_loop_turn(loop, WH_NS_PER_S), 0);
		assert_int_equal(releases, 1);
		assert_int_equal(stats().connections, 0);
		if (fd >= 0)
			close(fd);
		close(listener);
	}
	assert_int_equal(wh_drop(wh_http_request(client, &(struct wh_http_request){.origin = origin})), 0);
}

/* ---- in pieces, against our own server ---------------------------------------------------------- */

static wh_loop *server_loop;
static wh_http_server *server;
static uint16_t server_port;
static int server_fd;

static void pipe_next(wh_loop *at, wh_res res, void *arg);

static void pipe_got(wh_loop *at, wh_res res, void *arg)
{
	wh_http_exchange *x = arg;

	if (res.n < 0)
		wh_http_abort(x);
	else if (res.n == 0)
		wh_http_end(x);
	else
		wh_then(wh_http_write_buf(x, res.ptr), pipe_next, x);
}

static void pipe_next(wh_loop *at, wh_res res, void *arg)
{
	if (res.n < 0)
		wh_http_abort(arg);
	else
		wh_then(wh_http_read(arg), pipe_got, arg);
}

static void on_head(wh_http_exchange *x, void *arg)
{
	wh_http_stream(x, UINT64_MAX);
}

static void on_request(wh_http_exchange *x, void *arg)
{
	if (wh_slice_equal(wh_http_path(x), "/refuse")) {
		wh_http_respond(x, 413, "no", 2);
		return;
	}
	wh_http_start(x, 200, wh_http_body_length(x));
	pipe_next(wh_http_loop(x), (wh_res){0, NULL}, x);
}

static void server_open(void *arg)
{
	struct wh_http_server_options options = {.on_head = on_head, .on_request = on_request};

	assert_int_equal(wh_http_server_open(server_loop, &options, &server), 0);
	assert_int_equal(wh_http_server_listen(server, server_fd), 0);
}

static void server_shut(void *arg)
{
	server = wh_http_server_close(server);
}

static int start_with_server(void **state)
{
	server_fd = peer_listen();
	server_port = peer_port(server_fd);
	assert_int_equal(wh_loop_start(&server_loop, NULL), 0);
	assert_int_equal(wh_post(server_loop, server_open, NULL), 0);
	return start(state);
}

static int stop_with_server(void **state)
{
	stop(state);
	assert_int_equal(wh_post(server_loop, server_shut, NULL), 0);
	server_loop = wh_loop_close(server_loop);
	return 0;
}

struct transfer {
	wh_http_call *call;
	uint64_t left, received;
	uint64_t sum_sent, sum_received;
	bool written, read;
	char piece[50000];
};

static void transfer_write(wh_loop *at, wh_res res, void *arg)
{
	struct transfer *t = arg;
	size_t n = t->left < sizeof(t->piece) ? (size_t)t->left : sizeof(t->piece);

	assert_int_equal(res.n, 0);
	if (n == 0) {
		wh_http_call_end(t->call);
		t->written = true;
		return;
	}
	for (size_t i = 0; i < n; i++) {
		t->piece[i] = (char)((t->left - i) * 31 >> 3);
		t->sum_sent = t->sum_sent * 31 + (uint8_t)t->piece[i];
	}
	t->left -= n;
	assert_int_equal(wh_then(wh_http_call_write(t->call, t->piece, n), transfer_write, t), 0);
}

static void transfer_read(wh_loop *at, wh_res res, void *arg)
{
	struct transfer *t = arg;
	struct wh_buf *buf = res.ptr;

	assert_true(res.n >= 0);
	if (res.n == 0) {
		t->read = true;
		return;
	}
	for (uint32_t i = 0; i < buf->len; i++)
		t->sum_received = t->sum_received * 31 + buf->data[i];
	t->received += buf->len;
	wh_buf_put(buf);
	assert_int_equal(wh_then(wh_http_call_read(t->call), transfer_read, t), 0);
}

static void transfers(const uint64_t *sizes, size_t count)
{
	char origin[32];
	struct wh_http_request request = {.origin = origin, .method = "POST"};

	snprintf(origin, sizeof(origin), "localhost:%u", server_port);
	for (size_t i = 0; i < count; i++) {
		for (int chunked = 0; chunked < 2; chunked++) {
			struct transfer *t = calloc(1, sizeof(*t));
			const struct wh_http_response *response;
			wh_res res;

			assert_non_null(t);
			t->left = sizes[i];
			assert_int_equal(wh_http_call_open(client, &request,
			                                   chunked ? WH_HTTP_CHUNKED : (int64_t)sizes[i],
			                                   &t->call),
			                 0);
			transfer_write(loop, (wh_res){0, NULL}, t);
			res = wh_await(wh_http_call_response(t->call));
			assert_int_equal(res.n, 200);
			response = res.ptr;
			assert_int_equal(response->body_length,
			                 chunked ? WH_HTTP_CHUNKED : (int64_t)sizes[i]);
			assert_int_equal(wh_await(wh_http_call_response(t->call)).n, -EALREADY);
			assert_int_equal(wh_then(wh_http_call_read(t->call), transfer_read, t), 0);
			while (!t->read || !t->written)
				assert_int_equal(wh_loop_turn(loop, WH_NS_PER_S), 0);
			assert_int_equal(t->received, sizes[i]);
			assert_int_equal(t->sum_sent, t->sum_received);
			assert_int_equal(wh_await(wh_http_call_read(t->call)).n, 0);
			assert_null(wh_http_call_close(t->call));
			free(t);
		}
	}
	assert_int_equal(stats().connections_opened, 1);
	assert_int_equal(stats().connections_reused, 2 * count - 1);
}

static void in_pieces(void **state)
{
	static const uint64_t sizes[] = {0, 1, 16383, 16384, 16385, MIB};

	transfers(sizes, sizeof(sizes) / sizeof(*sizes));
}

static void long_transfers(void **state)
{
	static const uint64_t sizes[] = {100 * MIB};

	transfers(sizes, 1);
}

static void early_answer(void **state)
{
	char origin[32], *piece = calloc(1, MIB);
	struct wh_http_request request = {.origin = origin, .method = "PUT", .target = "/refuse"};
	wh_http_call *call;
	wh_res res;

	assert_non_null(piece);
	snprintf(origin, sizeof(origin), "127.0.0.1:%u", server_port);
	assert_int_equal(wh_http_call_open(client, &request, 100 * MIB, &call), 0);
	(void)wh_drop(wh_http_call_write(call, piece, MIB));
	res = wh_await(wh_http_call_response(call));
	assert_int_equal(res.n, 413);
	wh_http_call_close(call);
	assert_int_equal(stats().connections, 0);
	/* lengths are kept */
	assert_int_equal(wh_http_call_open(client, &request, 5, &call), 0);
	assert_int_equal(wh_await(wh_http_call_write(call, "abcdef", 6)).n, -EMSGSIZE);
	assert_int_equal(wh_await(wh_http_call_write(call, "abc", 3)).n, 0);
	wh_http_call_end(call);
	assert_int_equal(wh_await(wh_http_call_response(call)).n, -EMSGSIZE);
	assert_int_equal(wh_await(wh_http_call_read(call)).n, -EMSGSIZE);
	wh_http_call_close(call);
	free(piece);
}

static void close_calls(void **state)
{
	char origin[32];
	int listener = peer_listen(); /* never answers */
	struct wh_http_request request = {.origin = origin, .method = "POST"};
	wh_http_call *call;
	wh_future f;

	snprintf(origin, sizeof(origin), "127.0.0.1:%u", peer_port(listener));
	/* at once; while its response is awaited; with the client closed first */
	assert_int_equal(wh_http_call_open(client, &request, 10, &call), 0);
	wh_http_call_close(call);
	assert_int_equal(wh_http_call_open(client, &request, 10, &call), 0);
	f = wh_http_call_response(call);
	for (int i = 0; i < 5; i++)
		wh_loop_turn(loop, WH_NS_PER_MS);
	wh_http_call_close(call);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	assert_int_equal(wh_http_call_open(client, &request, 10, &call), 0);
	f = wh_http_call_response(call);
	for (int i = 0; i < 5; i++)
		wh_loop_turn(loop, WH_NS_PER_MS);
	wh_http_client_close(client);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	wh_http_call_close(call);
	assert_int_equal(wh_http_client_open(loop, NULL, &client), 0);
	close(listener);
}

static void over_unix(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char origin[128], directory[] = "/tmp/whilst-http-XXXXXX";
	struct wh_http_server_options options = {.on_head = on_head, .on_request = on_request};
	struct wh_http_request request = {.origin = origin, .method = "POST", .body = "abc", .body_len = 3};
	wh_http_server *here;
	int fd;

	assert_non_null(mkdtemp(directory));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", directory);
	snprintf(origin, sizeof(origin), "unix:%s", address.sun_path);
	fd = wh_listen(loop, (struct sockaddr *)&address, sizeof(address), NULL);
	assert_true(fd >= 0);
	assert_int_equal(wh_http_server_open(loop, &options, &here), 0);
	assert_int_equal(wh_http_server_listen(here, fd), 0);
	expect_answer(wh_await(wh_http_request(client, &request)), 200, "abc");
	assert_null(wh_http_server_close(here));
	unlink(address.sun_path);
	rmdir(directory);
}

#define SERVER_TEST(name) cmocka_unit_test_setup_teardown(name, start_with_server, stop_with_server)

/* Usage: [quick], which leaves out what is long. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(whole),
		TEST(unfit_requests),
		TEST(names),
		TEST(refused_addresses),
		TEST(bad_responses),
		TEST(stale_connection),
		TEST(connections_max),
		TEST(idle_limits),
		TEST(idle_in_background),
		TEST(time_outs),
		TEST(reads),
		TEST(cancelling),
		SERVER_TEST(in_pieces),
		SERVER_TEST(long_transfers),
		SERVER_TEST(early_answer),
		TEST(close_calls),
		TEST(over_unix),
	};

	if (argc > 1 && strcmp(argv[1], "quick") == 0)
		cmocka_set_skip_filter("long_*");
	return on_sim_end(cmocka_run_group_tests_name("http client", tests, NULL, NULL));
}
