/* tests/conformance/test_http_upgrade.c -- what leaves HTTP, and what comes before an answer: upgrades (WebSocket's handshake), CONNECT,
 * interim answers, draining with streams, several loops on one port; on the engine of WHILST_ENGINE.
 */
#define WH_TESTS_HTTP_ON_SIM

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

struct wh_http_exchange;
static bool serve_upgrade(struct wh_http_exchange *x);
#define ON_REQUEST(x) serve_upgrade(x)

#include "http_served.h"

#define H             "Host: a\r\n"
#define ASK(protocol) H "Connection: keep-alive, Upgrade\r\nUpgrade: " protocol "\r\n"

/* ---- handlers ------------------------------------------------------------------------------ */

static wh_http_exchange *streaming;
static int upgrade_result, drain_told, ended;

static void echo_read(wh_http_exchange *x);

static void echo_written(wh_loop *loop, wh_res res, void *arg)
{
	if (res.n < 0) {
		wh_http_abort(arg);
		count(&ended);
	} else {
		echo_read(arg);
	}
}

static void echo_got(wh_loop *loop, wh_res res, void *arg)
{
	wh_http_exchange *x = arg;

	if (res.n > 0) {
		assert_int_equal(wh_then(wh_http_write_buf(x, res.ptr), echo_written, x), 0);
		return;
	}
	if (res.n == 0) {
		(void)wh_drop(wh_http_write(x, "bye", 3));
		wh_http_end(x);
	} else {
		wh_http_abort(x);
	}
	count(&ended);
}

static void echo_read(wh_http_exchange *x)
{
	assert_int_equal(wh_then(wh_http_read(x), echo_got, x), 0);
}

static void on_drain(void *arg)
{
	count(&drain_told);
	(void)wh_drop(wh_http_write(arg, "draining", 8));
	wh_http_shutdown(arg); /* the client is to end its side, too */
}

/* RFC 6455 section 1.3, but for the hash: its value for the key of the RFC. */
static bool serve_upgrade(wh_http_exchange *x)
{
	struct wh_slice path = wh_http_path(x);

	if (wh_slice_equal(path, "/socket")) {
		if (!wh_http_asks_upgrade(x, "websocket")) {
			upgrade_result = wh_http_upgrade(x, "websocket");
			assert_int_equal(wh_http_set(x, "Upgrade", "websocket"), 0);
			wh_http_problem(x, 426, NULL);
			return true;
		}
		assert_true(
			wh_slice_equal(wh_http_header(x, "Sec-WebSocket-Key"), "dGhlIHNhbXBsZSBub25jZQ=="));
		assert_int_equal(wh_http_set(x, "Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), 0);
		assert_int_equal(wh_http_upgrade(x, "other\r\n"), -EINVAL);
		assert_int_equal(wh_http_upgrade(x, NULL), -EINVAL);
		assert_int_equal(wh_http_upgrade(x, "websocket"), 0);
		assert_int_equal(wh_http_upgrade(x, "websocket"), -EALREADY);
		wh_http_on_drain(x, on_drain, x);
		wh_http_on_close(x, on_gone, x);
		streaming = x;
		echo_read(x);
		return true;
	}
	if (wh_slice_equal(path, "tunnel.example:443")) {
		assert_int_equal(wh_http_upgrade(x, "x"), -EINVAL);
		assert_int_equal(wh_http_upgrade(x, NULL), 0);
		echo_read(x);
		return true;
	}
	if (wh_slice_equal(path, "/unread-upgrade")) {
		assert_true(wh_http_asks_upgrade(x, "echo"));
		wh_http_respond(x, 200, "stays", 5);
		return true;
	}
	if (wh_slice_equal(path, "/hints")) {
		struct wh_http_field link = {{"Link", 4}, {"</a.css>; rel=preload", 21}},
				     bad = {{"A", 1}, {"b\r\n", 3}},
				     framing = {{"Content-Length", 14}, {"1", 1}};

		assert_int_equal(wh_http_inform(x, 100, NULL, 0), -EINVAL);
		assert_int_equal(wh_http_inform(x, 101, NULL, 0), -EINVAL);
		assert_int_equal(wh_http_inform(x, 200, NULL, 0), -EINVAL);
		assert_int_equal(wh_http_inform(x, 103, &bad, 1), -EINVAL);
		assert_int_equal(wh_http_inform(x, 103, &framing, 1), -EINVAL);
		assert_int_equal(wh_http_inform(x, 103, &link, 1), 0);
		assert_int_equal(wh_http_inform(x, 102, NULL, 0), 0);
		assert_int_equal(wh_http_start(x, 200, 2), 0);
		assert_int_equal(wh_http_inform(x, 103, &link, 1), -EALREADY);
		(void)wh_drop(wh_http_write(x, "ok", 2));
		wh_http_end(x);
		return true;
	}
	return false;
}

/* ---- tests --------------------------------------------------------------------------------- */

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

static int open_socket(const char *more)
{
	int fd = peer_connect(fixture->port);
	char head[1000];

	snprintf(head, sizeof(head), "GET /socket HTTP/1.1\r\n" ASK("websocket") KEY "\r\n%s", more);
	peer_say(fd, head);
	peer_read_head(fd, head, sizeof(head));
	assert_int_equal(strncmp(head, "HTTP/1.1 101 Switching Protocols\r\n", 34), 0);
	assert_non_null(strstr(head, "\r\nConnection: Upgrade\r\n"));
	assert_non_null(strstr(head, "\r\nUpgrade: websocket\r\n"));
	assert_non_null(strstr(head, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
	assert_null(strstr(head, "Content-Length"));
	assert_null(strstr(head, "Transfer-Encoding"));
	return fd;
}

static void expect_bytes(int fd, const char *text)
{
	char got[200];

	peer_read(fd, got, strlen(text));
	assert_memory_equal(got, text, strlen(text));
}

/* What came with the request belongs to the stream, even if it looks like a request. */
static void websocket(void **state)
{
	int fd = open_socket("GET /livez HTTP/1.1\r\n\r\n");

	ended = 0;
	expect_bytes(fd, "GET /livez HTTP/1.1\r\n\r\n");
	peer_say(fd, "hello");
	expect_bytes(fd, "hello");
	shutdown(fd, SHUT_WR);
	expect_bytes(fd, "bye");
	peer_expect_end(fd);
	close(fd);
	wait_for(&ended, 1);
	assert_int_equal(fixture->handled, 0);
	/* the client vanishes */
	fd = open_socket("");
	peer_say(fd, "x");
	expect_bytes(fd, "x");
	peer_reset(fd);
	wait_for(&ended, 2);
	wait_for(&fixture->closed_count, 1);
	wait_for_connections(0);
}

/* Much, in both directions at once, with back-pressure: nothing is lost and nothing doubled. */
static void *pour(void *arg)
{
	int fd = *(int *)arg;
	char *bytes = malloc(MIB);

	for (int i = 0; i < 20; i++) {
		memset(bytes, 'a' + i, MIB);
		peer_send(fd, bytes, MIB);
	}
	shutdown(fd, SHUT_WR);
	free(bytes);
	return NULL;
}

static void long_stream(void **state)
{
	int fd = open_socket("");
	pthread_t thread;
	size_t len;
	char *got;

	assert_int_equal(pthread_create(&thread, NULL, pour, &fd), 0);
	got = peer_read_all(fd, &len);
	pthread_join(thread, NULL);
	assert_int_equal(len, 20 * MIB + 3);
	for (size_t i = 0; i < 20 * MIB; i++)
		if (got[i] != 'a' + (char)(i / MIB))
			fail_msg("byte %zu", i);
	free(got);
	close(fd);
}

static void not_upgraded(void **state)
{
	int fd = peer_connect(fixture->port);

	/* not asked for: HTTP/1.0, no Connection, another protocol; a body; the connection stays */
	peer_say(fd, "GET /socket HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n");
	peer_expect(fd, 426, NULL);
	assert_int_equal(upgrade_result, -EINVAL);
	peer_say(fd, "GET /socket HTTP/1.1\r\n" ASK("h2c, other/1") "\r\n");
	peer_expect(fd, 426, NULL);
	/* asked for and not given; a request behind it, sent on trust, is one after all */
	peer_say(fd, "GET /unread-upgrade HTTP/1.1\r\n" ASK("h2c, echo/2 , x") "\r\nGET /livez HTTP/1.1\r\n" H
	                                                                       "\r\n");
	peer_expect(fd, 200, "stays");
	peer_expect(fd, 200, "ok\n");
	close(fd);
	fd = peer_connect(fixture->port);
	peer_say(fd, "GET /socket HTTP/1.0\r\n" ASK("websocket") KEY "\r\n");
	peer_expect(fd, 426, NULL);
	close(fd);
	/* behind an answer that is still due: it waits for its turn */
	fd = peer_connect(fixture->port);
	peer_say(fd,
	         "GET /park HTTP/1.1\r\n" H "\r\nGET /socket HTTP/1.1\r\n" ASK("websocket") KEY "\r\nahead");
	wait_for(&fixture->parked_count, 1);
	on_loop(unpark_all, "first");
	peer_expect(fd, 200, "first");
	peer_read_head(fd, (char[1000]){0}, 1000);
	expect_bytes(fd, "ahead");
	close(fd);
}

static void connect_method(void **state)
{
	static const char *const bad[] = {"/path",
	                                  "tunnel.example",
	                                  "tunnel.example:",
	                                  ":443",
	                                  "tunnel.example:44a",
	                                  "u@h:1",
	                                  "http://tunnel.example:443/",
	                                  "tunnel.example:99999"};
	int fd = peer_connect(fixture->port);
	char head[1000];

	peer_say(fd, "CONNECT tunnel.example:443 HTTP/1.1\r\nHost: tunnel.example:443\r\n\r\n");
	peer_expect(fd, 501, NULL);
	close(fd);
	restart_with((struct wh_http_server_options){.connect = true});
	fd = peer_connect(fixture->port);
	peer_say(fd, "CONNECT tunnel.example:443 HTTP/1.1\r\nHost: tunnel.example:443\r\n\r\nearly");
	peer_read_head(fd, head, sizeof(head));
	assert_int_equal(strncmp(head, "HTTP/1.1 200 OK\r\n", 17), 0);
	assert_null(strstr(head, "Content-Length"));
	expect_bytes(fd, "early");
	shutdown(fd, SHUT_WR);
	expect_bytes(fd, "bye");
	peer_expect_end(fd);
	close(fd);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		fd = peer_connect(fixture->port);
		snprintf(head, sizeof(head), "CONNECT %s HTTP/1.1\r\n" H "\r\n", bad[i]);
		peer_say(fd, head);
		peer_expect(fd, 400, NULL);
		close(fd);
	}
	fd = peer_connect(fixture->port);
	peer_say(fd, "CONNECT tunnel.example:443 HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc");
	peer_expect(fd, 400, NULL);
	close(fd);
}

static void interim(void **state)
{
	int fd = peer_connect(fixture->port);
	char head[1000];

	peer_say(fd, "GET /hints HTTP/1.1\r\n" H "\r\n");
	peer_read_head(fd, head, sizeof(head));
	assert_string_equal(head, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
	peer_read_head(fd, head, sizeof(head));
	assert_string_equal(head, "HTTP/1.1 102 Processing\r\n\r\n");
	peer_expect(fd, 200, "ok");
	close(fd);
	fd = peer_connect(fixture->port);
	peer_say(fd, "GET /hints HTTP/1.0\r\n\r\n"); /* nothing of the kind for these */
	peer_read_head(fd, head, sizeof(head));
	assert_int_equal(strncmp(head, "HTTP/1.1 200 OK\r\n", 17), 0);
	close(fd);
}

/* ---- draining -------------------------------------------------------------------------------- */

static int drain_over;

static void drained(wh_loop *loop, wh_res res, void *arg)
{
	assert_int_equal(res.n, 0);
	count(&drain_over);
}

static void begin_drain(void *arg)
{
	assert_int_equal(wh_then(wh_http_server_drain(fixture->server), drained, NULL), 0);
}

static void drain_streams(void **state)
{
	int fd = open_socket("");

	drain_told = drain_over = 0;
	on_loop(begin_drain, NULL);
	wait_for(&drain_told, 1);
	expect_bytes(fd, "draining");
	peer_expect_end(fd); /* our side is shut; theirs is still read */
	assert_int_equal(drain_over, 0);
	peer_say(fd, "last words");
	close(fd);
	wait_for(&drain_over, 1);
}

static void closed_with_streams(void **state)
{
	int fd = open_socket("");

	peer_say(fd, "x");
	expect_bytes(fd, "x");
	/* the server is closed by stop(): the stream is told, and ended by its handler */
	stop(NULL);
	start(NULL);
	close(fd);
}

/* ---- several loops on one port ------------------------------------------------------------------ */

enum { LOOPS = 3 };

struct one_of_many {
	wh_loop *loop;
	wh_http_server *server;
	uint16_t port;
	atomic_int requests, ready;
};

static void answer_one(wh_http_exchange *x, void *arg)
{
	struct one_of_many *one = arg;

	atomic_fetch_add(&one->requests, 1);
	wh_http_respond(x, 200, "ok", 2);
}

static void open_one(void *arg)
{
	struct one_of_many *one = arg;
	struct wh_http_server_options options = {.on_request = answer_one, .arg = one};
	struct wh_listen_options listen_options = {.reuse_port = true};
	struct sockaddr_in address = peer_address(one->port);
	int fd = wh_listen(one->loop, (struct sockaddr *)&address, sizeof(address), &listen_options);

	assert_true(fd >= 0);
	one->port = peer_port(fd);
	assert_int_equal(wh_http_server_open(one->loop, &options, &one->server), 0);
	assert_int_equal(wh_http_server_listen(one->server, fd), 0);
	atomic_store(&one->ready, 1);
}

static void close_one(void *arg)
{
	struct one_of_many *one = arg;

	one->server = wh_http_server_close(one->server);
}

static void many_loops(void **state)
{
	static struct one_of_many all[LOOPS];
	int served = 0;

	memset(all, 0, sizeof(all));
	for (int i = 0; i < LOOPS; i++) {
		all[i].port = i ? all[0].port : 0;
		assert_int_equal(wh_loop_start(&all[i].loop, NULL), 0);
		assert_int_equal(wh_post(all[i].loop, open_one, &all[i]), 0);
		while (!atomic_load(&all[i].ready))
			sched_yield();
	}
	for (int i = 0; i < 200; i++) {
		int fd = peer_connect(all[0].port);

		peer_say(fd, "GET / HTTP/1.1\r\n" H "\r\n");
		peer_expect(fd, 200, "ok");
		close(fd);
	}
	for (int i = 0; i < LOOPS; i++) {
		served += atomic_load(&all[i].requests);
		assert_true(atomic_load(&all[i].requests) >
		            0); /* the kernel spreads them: 200 into one is (2/3)^200 */
		assert_int_equal(wh_post(all[i].loop, close_one, &all[i]), 0);
		all[i].loop = wh_loop_close(all[i].loop);
	}
	assert_int_equal(served, 200);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(websocket), TEST(long_stream),   TEST(not_upgraded),        TEST(connect_method),
		TEST(interim),   TEST(drain_streams), TEST(closed_with_streams), TEST(many_loops),
	};

	if (argc > 1 && strcmp(argv[1], "quick") == 0)
		cmocka_set_skip_filter("long_*");
	return on_sim_end(cmocka_run_group_tests_name("http upgrade", tests, NULL, NULL));
}
