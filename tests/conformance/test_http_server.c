/* tests/conformance/test_http_server.c -- the HTTP server over real sockets, on the engine of WHILST_ENGINE.
 *
 * The server runs on a loop with a thread of its own; the tests are plain blocking clients.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "http_peer.h"
#include "whilst/http.h"

enum { MIB = 1024 * 1024 };

struct fixture {
	wh_loop *loop;
	wh_http_server *server;
	struct wh_http_server_options options;
	struct wh_http_server_stats stats;
	uint16_t port;
	int error;
	/* guarded by lock */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	wh_http_exchange *parked[128];
	int parked_count, closed_count, half_closed_count, heads, handled, drained, released;
	bool asked;
	char order[256];
};

static struct fixture *fixture;

/* ---- calls on the loop's thread, from the test's ------------------------------------------- */

struct on_loop {
	void (*fn)(void *arg);
	void *arg;
	bool done;
};

static void run_on_loop(void *arg)
{
	struct on_loop *call = arg;

	call->fn(call->arg);
	pthread_mutex_lock(&fixture->lock);
	call->done = true;
	pthread_cond_broadcast(&fixture->changed);
	pthread_mutex_unlock(&fixture->lock);
}

static void on_loop(void (*fn)(void *arg), const void *arg)
{
	struct on_loop call = {fn, (void *)(uintptr_t)arg, false};

	assert_int_equal(wh_post(fixture->loop, run_on_loop, &call), 0);
	pthread_mutex_lock(&fixture->lock);
	while (!call.done)
		pthread_cond_wait(&fixture->changed, &fixture->lock);
	pthread_mutex_unlock(&fixture->lock);
}

static void count(int *counter)
{
	pthread_mutex_lock(&fixture->lock);
	(*counter)++;
	pthread_cond_broadcast(&fixture->changed);
	pthread_mutex_unlock(&fixture->lock);
}

static void wait_for(const int *counter, int at_least)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PEER_PATIENCE_S;
	pthread_mutex_lock(&fixture->lock);
	while (*counter < at_least)
		if (pthread_cond_timedwait(&fixture->changed, &fixture->lock, &until) != 0)
			break;
	pthread_mutex_unlock(&fixture->lock);
	assert_true(*counter >= at_least);
}

static void get_stats(void *arg)
{
	wh_http_server_stats(fixture->server, &fixture->stats);
}

/* Until the server's counter says so: polled, but only for what happens anyway. */
static void wait_for_connections(uint64_t wanted)
{
	for (int i = 0; i < PEER_PATIENCE_S * 1000; i++) {
		on_loop(get_stats, NULL);
		if (fixture->stats.connections == wanted)
			return;
		usleep(1000);
	}
	fail_msg("%llu connections, wanted %llu", (unsigned long long)fixture->stats.connections,
	         (unsigned long long)wanted);
}

/* ---- handlers ------------------------------------------------------------------------------ */

static void on_gone(void *arg)
{
	count(&fixture->closed_count);
}

static void on_half(void *arg)
{
	count(&fixture->half_closed_count);
}

static void park(wh_http_exchange *x)
{
	wh_http_on_close(x, on_gone, x);
	wh_http_on_half_close(x, on_half, x);
	fixture->parked[fixture->parked_count] = x;
	count(&fixture->parked_count);
}

static void unpark_all(void *arg)
{
	const char *text = arg ? arg : "late";

	/* the last one first: answers must leave in the order of requests all the same */
	while (fixture->parked_count > 0) {
		wh_http_exchange *x = fixture->parked[--fixture->parked_count];

		wh_http_respond(x, 200, text, strlen(text));
	}
}

struct pump {
	wh_http_exchange *x;
	uint64_t received, left;
	bool echo;
};

static void pump_read(struct pump *pump);

static void pump_written(wh_loop *loop, wh_res res, void *arg)
{
	struct pump *pump = arg;

	if (res.n < 0) {
		wh_http_abort(pump->x);
		free(pump);
	} else {
		pump_read(pump);
	}
}

static void pump_got(wh_loop *loop, wh_res res, void *arg)
{
	struct pump *pump = arg;
	wh_http_exchange *x = pump->x;

	if (res.n > 0) {
		pump->received += (uint64_t)res.n;
		if (pump->echo) {
			assert_int_equal(wh_then(wh_http_write_buf(x, res.ptr), pump_written, pump), 0);
		} else {
			wh_buf_put(res.ptr);
			pump_read(pump);
		}
		return;
	}
	if (res.n == 0 && pump->echo) {
		wh_http_end(x);
	} else if (res.n == 0) {
		char text[32];

		snprintf(text, sizeof(text), "%llu", (unsigned long long)pump->received);
		wh_http_respond(x, 200, text, strlen(text));
	} else if (pump->echo) {
		wh_http_abort(x);
	} else {
		wh_http_problem(x,
		                res.n == -WH_EHTTP_TOO_LARGE ? 413
		                : res.n == -ETIMEDOUT        ? 408
		                                             : 400,
		                wh_strerror(res.n));
	}
	free(pump);
}

static void pump_read(struct pump *pump)
{
	assert_int_equal(wh_then(wh_http_read(pump->x), pump_got, pump), 0);
}

static void begin_pump(wh_http_exchange *x, bool echo)
{
	struct pump *pump = calloc(1, sizeof(*pump));

	assert_non_null(pump);
	pump->x = x;
	pump->echo = echo;
	if (echo)
		assert_int_equal(wh_http_start(x, 200, wh_http_body_length(x)), 0);
	pump_read(pump);
}

static void write_more(wh_loop *loop, wh_res res, void *arg)
{
	struct pump *pump = arg;
	char piece[10000];
	size_t len = pump->left < sizeof(piece) ? (size_t)pump->left : sizeof(piece);

	if (res.n < 0) {
		wh_http_abort(pump->x);
		free(pump);
		return;
	}
	if (len == 0) {
		wh_http_end(pump->x);
		free(pump);
		return;
	}
	memset(piece, 'z', len);
	pump->left -= len;
	assert_int_equal(wh_then(wh_http_write(pump->x, piece, len), write_more, pump), 0);
}

static void begin_big(wh_http_exchange *x, uint64_t len, bool chunked)
{
	struct pump *pump = calloc(1, sizeof(*pump));

	assert_non_null(pump);
	pump->x = x;
	pump->left = len;
	assert_int_equal(wh_http_start(x, 200, chunked ? WH_HTTP_CHUNKED : (int64_t)len), 0);
	write_more(wh_http_loop(x), (wh_res){0, NULL}, pump);
}

static void on_release(void *arg)
{
	free(arg);
	count(&fixture->released);
}

static void answer_later(wh_loop *loop, wh_res res, void *arg)
{
	wh_http_exchange *x = arg;
	struct wh_slice name = wh_http_header(x, "X-Name"), body = wh_http_body(x);
	char text[256];

	snprintf(text, sizeof(text), "%.*s %.*s %.*s", (int)wh_http_path(x).len, wh_http_path(x).data,
	         (int)name.len, name.data, (int)body.len, body.data);
	wh_http_respond(x, 200, text, strlen(text));
}

static uint64_t query_number(wh_http_exchange *x)
{
	struct wh_slice query = wh_http_query(x);

	return query.data ? strtoull(query.data, NULL, 10) : 0; /* a blank follows in the request line */
}

static void on_head(wh_http_exchange *x, void *arg)
{
	struct wh_slice path = wh_http_path(x);

	count(&fixture->heads);
	if (wh_slice_equal(path, "/refuse"))
		wh_http_problem(x, 404, "no \"such\" thing");
	else if (wh_slice_equal(path, "/stream") || wh_slice_equal(path, "/pipe") ||
	         wh_slice_equal(path, "/unread"))
		wh_http_stream(x, query_number(x) ? query_number(x) : UINT64_MAX);
	else if (wh_slice_equal(path, "/small"))
		wh_http_collect(x, 10);
	else if (wh_slice_equal(path, "/hold"))
		wh_http_on_close(x, on_gone, NULL); /* collected; ended by the server if that fails */
	else if (wh_slice_equal(path, "/submit"))
		wh_http_parallel(x);
}

static void on_request(wh_http_exchange *x, void *arg)
{
	struct wh_slice path = wh_http_path(x), body = wh_http_body(x);
	size_t len = strlen(fixture->order);

	count(&fixture->handled);
	if (len + path.len + 2 < sizeof(fixture->order))
		snprintf(fixture->order + len, sizeof(fixture->order) - len, "%.*s ", (int)path.len,
		         path.data);
	if (wh_slice_equal(path, "/livez")) {
		wh_http_respond(x, 200, "ok\n", 3);
	} else if (wh_slice_equal(path, "/echo")) {
		assert_int_equal(wh_http_set(x, "Content-Type", "application/octet-stream"), 0);
		wh_http_respond(x, 200, body.data, body.len);
	} else if (wh_slice_equal(path, "/park") || wh_slice_equal(path, "/submit")) {
		park(x);
	} else if (wh_slice_equal(path, "/later")) {
		assert_int_equal(wh_http_retain(x), 0);
		assert_int_equal(wh_then(wh_sleep(wh_http_loop(x), WH_NS_PER_MS), answer_later, x), 0);
	} else if (wh_slice_equal(path, "/stream")) {
		begin_pump(x, false);
	} else if (wh_slice_equal(path, "/pipe")) {
		begin_pump(x, true);
	} else if (wh_slice_equal(path, "/unread")) {
		wh_http_respond(x, 200, "unread", 6);
	} else if (wh_slice_equal(path, "/big")) {
		begin_big(x, query_number(x), false);
	} else if (wh_slice_equal(path, "/bigchunked")) {
		begin_big(x, query_number(x), true);
	} else if (wh_slice_equal(path, "/own")) {
		size_t n = (size_t)query_number(x);
		char *bytes = malloc(n + 1);

		assert_non_null(bytes);
		memset(bytes, 'o', n);
		wh_http_respond_own(x, 200, bytes, n, on_release, bytes);
	} else if (wh_slice_equal(path, "/nothing")) {
		wh_http_respond(x, 204, "ignored", 7);
	} else if (wh_slice_equal(path, "/abort")) {
		assert_int_equal(wh_http_start(x, 200, 100), 0);
		wh_drop(wh_http_write(x, "part", 4));
		wh_http_abort(x);
	} else if (wh_slice_equal(path, "/short")) {
		assert_int_equal(wh_http_start(x, 200, 100), 0);
		wh_drop(wh_http_write(x, "part", 4));
		wh_http_end(x);
	} else if (wh_slice_equal(path, "/close")) {
		wh_http_close_after(x);
		wh_http_respond(x, 200, "bye", 3);
	} else if (wh_slice_equal(path, "/fields")) {
		assert_int_equal(wh_http_set(x, "A", "1"), 0);
		assert_int_equal(wh_http_add(x, "a", "2"), 0);
		assert_int_equal(wh_http_set(x, "B", "x"), 0);
		assert_int_equal(wh_http_setf(x, "b", "%d", 3), 0);
		assert_int_equal(wh_http_set(x, "C", "evil\r\nD: e"), -EINVAL);
		assert_int_equal(wh_http_set(x, "C c", "v"), -EINVAL);
		assert_int_equal(wh_http_set(x, "content-length", "5"), -EINVAL);
		wh_http_respond(x, 200, "", 0);
	} else {
		wh_http_problem(x, 404, NULL);
	}
}

/* ---- fixture ------------------------------------------------------------------------------- */

static void open_server(void *arg)
{
	struct sockaddr_in address = peer_address(0);
	int fd = wh_listen(fixture->loop, (struct sockaddr *)&address, sizeof(address), NULL);

	fixture->error =
		fd < 0 ? fd : wh_http_server_open(fixture->loop, &fixture->options, &fixture->server);
	if (fixture->error == 0) {
		fixture->port = peer_port(fd);
		fixture->error = wh_http_server_listen(fixture->server, fd);
	}
}

static void start_with(struct wh_http_server_options options)
{
	fixture = calloc(1, sizeof(*fixture));
	assert_non_null(fixture);
	pthread_mutex_init(&fixture->lock, NULL);
	pthread_cond_init(&fixture->changed, NULL);
	options.on_head = on_head;
	options.on_request = on_request;
	fixture->options = options;
	assert_int_equal(wh_loop_start(&fixture->loop, NULL), 0);
	on_loop(open_server, NULL);
	assert_int_equal(fixture->error, 0);
}

static void close_server(void *arg)
{
	unpark_all(NULL);
	fixture->server = wh_http_server_close(fixture->server);
}

static int start(void **state)
{
	start_with((struct wh_http_server_options){0});
	return 0;
}

static int stop(void **state)
{
	on_loop(close_server, NULL);
	wh_loop_close(fixture->loop);
	pthread_mutex_destroy(&fixture->lock);
	pthread_cond_destroy(&fixture->changed);
	free(fixture);
	fixture = NULL;
	return 0;
}

static void restart_with(struct wh_http_server_options options)
{
	stop(NULL);
	start_with(options);
}

#define H "Host: a\r\n"

/* ---- tests --------------------------------------------------------------------------------- */

static void keep_alive(void **state)
{
	int fd = peer_connect(fixture->port);

	for (int i = 0; i < 3; i++) {
		peer_say(fd, "GET /livez HTTP/1.1\r\n" H "\r\n");
		peer_expect(fd, 200, "ok\n");
	}
	peer_say(fd, "GET /livez HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
	peer_expect(fd, 200, "ok\n");
	peer_expect_end(fd);
	close(fd);
	fd = peer_connect(fixture->port);
	peer_say(fd, "GET /livez HTTP/1.0\r\n\r\n");
	peer_expect(fd, 200, "ok\n");
	peer_expect_end(fd);
	close(fd);
	fd = peer_connect(fixture->port);
	for (int i = 0; i < 2; i++) {
		struct peer_answer answer;

		peer_say(fd, "GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
		answer = peer_read_answer(fd, true);
		assert_non_null(strstr(answer.head, "Connection: keep-alive\r\n"));
		free(answer.body);
	}
	peer_say(fd, "GET /close HTTP/1.1\r\n" H "\r\n");
	peer_expect(fd, 200, "bye");
	peer_expect_end(fd);
	close(fd);
	wait_for_connections(0);
	on_loop(get_stats, NULL);
	assert_int_equal(fixture->stats.requests, 8);
	assert_int_equal(fixture->stats.connections_accepted, 3);
}

static void heads_of_answers(void **state)
{
	int fd = peer_connect(fixture->port);
	struct peer_answer answer;

	peer_say(fd, "GET /fields HTTP/1.1\r\n" H "\r\n");
	answer = peer_read_answer(fd, true);
	assert_non_null(strstr(answer.head, "\r\nA: 1\r\na: 2\r\nb: 3\r\n"));
	assert_null(strstr(answer.head, "B: x"));
	assert_null(strstr(answer.head, "evil"));
	assert_non_null(strstr(answer.head, "\r\nDate: "));
	assert_non_null(strstr(answer.head, " GMT\r\n"));
	free(answer.body);
	peer_say(fd, "HEAD /livez HTTP/1.1\r\n" H "\r\nHEAD /bigchunked?50 HTTP/1.1\r\n" H "\r\n"
	             "HEAD /big?50 HTTP/1.1\r\n" H "\r\nGET /nothing HTTP/1.1\r\n" H "\r\n");
	answer = peer_read_answer(fd, false);
	assert_non_null(strstr(answer.head, "Content-Length: 3\r\n"));
	free(answer.body);
	answer = peer_read_answer(fd, false);
	assert_non_null(strstr(answer.head, "Transfer-Encoding: chunked\r\n"));
	free(answer.body);
	answer = peer_read_answer(fd, false);
	assert_non_null(strstr(answer.head, "Content-Length: 50\r\n"));
	free(answer.body);
	answer = peer_read_answer(fd, true);
	assert_int_equal(answer.status, 204);
	assert_null(strstr(answer.head, "Content-Length"));
	free(answer.body);
	peer_say(fd, "GET /livez HTTP/1.1\r\n" H "\r\n");
	peer_expect(fd, 200, "ok\n");
	close(fd);
}

/* n requests in one packet, and the same bytes one by one. */
static void pipelining(void **state)
{
	static const char one[] =
		"POST /echo HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n%02d"
		"POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\n%02d\r\n0\r\n\r\n";
	static const int sizes[] = {1, 2, 100};
	char *bytes = malloc(100 * sizeof(one));

	assert_non_null(bytes);
	for (int s = 0; s < 3; s++) {
		size_t len = 0;

		for (int i = 0; i < sizes[s]; i++)
			len += (size_t)sprintf(bytes + len, one, i, i);
		for (int by_byte = 0; by_byte < 2; by_byte++) {
			int fd = peer_connect(fixture->port);

			if (by_byte)
				for (size_t i = 0; i < len && i < 2000; i++)
					peer_send(fd, bytes + i, 1);
			if (!by_byte || len > 2000)
				peer_send(fd, bytes + (by_byte ? 2000 : 0), len - (by_byte ? 2000 : 0));
			for (int i = 0; i < 2 * sizes[s]; i++) {
				char wanted[16];

				snprintf(wanted, sizeof(wanted), "%02d", i / 2);
				peer_expect(fd, 200, wanted);
			}
			close(fd);
		}
	}
	free(bytes);
}

/* A request split in two packets at every byte. */
static void split_everywhere(void **state)
{
	static const char request[] =
		"\r\nPOST /echo?q HTTP/1.1\r\n" H "X: y\r\nTransfer-Encoding: chunked\r\n\r\n"
		"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n";
	int fd = peer_connect(fixture->port);

	for (size_t i = 1; i < sizeof(request) - 1; i++) {
		int before = fixture->heads;

		peer_send(fd, request, i);
		if (i % 8 == 0) {
			/* a turn of the server at least between the two */
			on_loop(get_stats, NULL);
			on_loop(get_stats, NULL);
		}
		peer_send(fd, request + i, sizeof(request) - 1 - i);
		peer_expect(fd, 200, "abcde");
		assert_int_equal(fixture->heads, before + 1);
	}
	close(fd);
}

static void order_of_answers(void **state)
{
	int fd = peer_connect(fixture->port);
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	/* safe methods are worked out side by side; answers keep the order */
	peer_say(fd, "GET /park HTTP/1.1\r\n" H "\r\nGET /park HTTP/1.1\r\n" H "\r\nGET /livez HTTP/1.1\r\n" H
	             "\r\n");
	wait_for(&fixture->handled, 3);
	assert_int_equal(poll(&poll_fd, 1, 50), 0);
	on_loop(unpark_all, "parked");
	peer_expect(fd, 200, "parked");
	peer_expect(fd, 200, "parked");
	peer_expect(fd, 200, "ok\n");
	/* what changes something waits for its turn */
	fixture->order[0] = 0;
	peer_say(fd, "GET /park HTTP/1.1\r\n" H "\r\nPOST /echo HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc"
	             "GET /livez HTTP/1.1\r\n" H "\r\n");
	wait_for(&fixture->parked_count, 1);
	wait_for(&fixture->heads, 5);
	assert_string_equal(fixture->order, "/park ");
	on_loop(unpark_all, "first");
	peer_expect(fd, 200, "first");
	peer_expect(fd, 200, "abc");
	peer_expect(fd, 200, "ok\n");
	assert_string_equal(fixture->order, "/park /echo /livez ");
	/* unless it is said to be in order already */
	peer_say(fd, "POST /submit HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n"
	             "POST /submit HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n");
	wait_for(&fixture->parked_count, 2);
	on_loop(unpark_all, "both");
	peer_expect(fd, 200, "both");
	peer_expect(fd, 200, "both");
	close(fd);
}

static void retained(void **state)
{
	int fd = peer_connect(fixture->port);

	peer_say(fd,
	         "POST /later HTTP/1.1\r\n" H "X-Name: n1\r\nContent-Length: 2\r\n\r\nb1"
	         "POST /later HTTP/1.1\r\n" H "X-Name: n2\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nb\r\n");
	peer_expect(fd, 200, "/later n1 b1");
	peer_say(fd, "1\r\n2\r\n0\r\n\r\n");
	peer_expect(fd, 200, "/later n2 b2");
	close(fd);
}

static void expect_continue(void **state)
{
	int fd = peer_connect(fixture->port);
	char head[512];

	peer_say(fd, "POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
	peer_read_head(fd, head, sizeof(head));
	assert_string_equal(head, "HTTP/1.1 100 Continue\r\n\r\n");
	peer_say(fd, "abc");
	peer_expect(fd, 200, "abc");
	peer_say(fd,
	         "POST /stream HTTP/1.1\r\n" H "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
	peer_read_head(fd, head, sizeof(head));
	assert_string_equal(head, "HTTP/1.1 100 Continue\r\n\r\n");
	peer_say(fd, "3\r\nabc\r\n0\r\n\r\n");
	peer_expect(fd, 200, "3");
	/* the body came at once: no interim answer is needed */
	peer_say(fd, "POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc");
	peer_expect(fd, 200, "abc");
	/* a refusal comes without it, and the connection ends since the body may or may not follow */
	peer_say(fd, "POST /refuse HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
	peer_expect(fd, 404, NULL);
	shutdown(fd, SHUT_WR);
	peer_expect_end(fd);
	close(fd);
	fd = peer_connect(fixture->port);
	peer_say(fd, "POST /echo HTTP/1.1\r\n" H "Expect: the-unexpected\r\nContent-Length: 3\r\n\r\n");
	peer_expect(fd, 417, NULL);
	close(fd);
}

static void refusals(void **state)
{
	static const struct {
		const char *request;
		int status;
	} cases[] = {
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "A: b\r\n c\r\n\r\n", 400},
		{"GET / HTTP/1.1\n" H "\n\n", 400},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		{"BREW / HTTP/1.1\r\n" H "\r\n", 501},
		{"CONNECT a:1 HTTP/1.1\r\n" H "\r\n", 501},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	         400},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 2\r\n\r\nabc", 400},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
		{"POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
		{"POST /stream HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n",
	         400},
		{"POST /small HTTP/1.1\r\n" H "Content-Length: 11\r\n\r\n", 413},
		{"POST /small HTTP/1.1\r\n" H
	         "Transfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n",
	         413},
		{"POST /stream?3 HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	         413},
		{"POST /stream?3 HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nhell", 413},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int fd = peer_connect(fixture->port);
		struct peer_answer answer;

		/* what was pipelined before is answered first */
		peer_say(fd, "GET /livez HTTP/1.1\r\n" H "\r\n");
		peer_say(fd, cases[i].request);
		peer_expect(fd, 200, "ok\n");
		answer = peer_read_answer(fd, true);
		if (answer.status != cases[i].status)
			fail_msg("wanted %d, got %d for %s", cases[i].status, answer.status,
			         cases[i].request);
		assert_non_null(strstr(answer.head, "Content-Type: application/problem+json\r\n"));
		assert_true(strstr(answer.head, "Connection: close\r\n") ||
		            strstr(cases[i].request, "/stream"));
		assert_non_null(strstr(answer.body, "\"status\":"));
		free(answer.body);
		shutdown(fd, SHUT_WR);
		peer_expect_end(fd);
		close(fd);
	}
	wait_for_connections(0);
}

static void limits(void **state)
{
	char *bytes = malloc(64 * 1024);
	int fd, n;

	assert_non_null(bytes);
	restart_with((struct wh_http_server_options){.fields_max = 3, .body_bytes_max = 5});
	fd = peer_connect(fixture->port);
	n = sprintf(bytes, "GET /%09000d HTTP/1.1\r\n" H "\r\n", 0);
	peer_send(fd, bytes, (size_t)n);
	peer_expect(fd, 414, NULL);
	close(fd);
	fd = peer_connect(fixture->port);
	n = sprintf(bytes, "GET / HTTP/1.1\r\n" H "A: %040000d\r\n\r\n", 0);
	peer_send(fd, bytes, (size_t)n);
	peer_expect(fd, 431, NULL);
	close(fd);
	fd = peer_connect(fixture->port);
	/* a head longer than a buffer, but within the limit */
	n = sprintf(bytes, "GET /livez HTTP/1.1\r\n" H "A: %030000d\r\n\r\n", 0);
	peer_send(fd, bytes, (size_t)n);
	peer_expect(fd, 200, "ok\n");
	peer_say(fd, "GET / HTTP/1.1\r\n" H "A: 1\r\nB: 2\r\nC: 3\r\n\r\n");
	peer_expect(fd, 431, NULL);
	close(fd);
	fd = peer_connect(fixture->port);
	peer_say(fd, "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nabcde");
	peer_expect(fd, 200, "abcde");
	peer_say(fd, "POST /echo HTTP/1.1\r\n" H "Content-Length: 6\r\n\r\nabcdef");
	peer_expect(fd, 413, NULL);
	close(fd);
	free(bytes);
}

static void unread_bodies(void **state)
{
	static const char *const paths[] = {"/refuse", "/unread"};
	char *bytes = malloc(MIB);

	assert_non_null(bytes);
	memset(bytes, 'b', MIB);
	for (int i = 0; i < 2; i++) {
		int fd = peer_connect(fixture->port);
		char head[256];
		int status = i == 0 ? 404 : 200;

		/* short: read over, the connection goes on */
		snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\n" H "Content-Length: 20000\r\n\r\n",
		         paths[i]);
		peer_say(fd, head);
		peer_send(fd, bytes, 20000);
		peer_expect(fd, status, NULL);
		peer_say(fd, "GET /livez HTTP/1.1\r\n" H "\r\n");
		peer_expect(fd, 200, "ok\n");
		/* long: the answer arrives although the client is still sending, and then the connection ends */
		snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n", paths[i],
		         MIB);
		peer_say(fd, head);
		peer_send(fd, bytes, MIB / 2);
		peer_expect(fd, status, NULL);
		shutdown(fd, SHUT_WR);
		peer_expect_end(fd);
		close(fd);
	}
	free(bytes);
}

static void bodies(void **state)
{
	static const size_t sizes[] = {0, 1, 16383, 16384, 16385, MIB};
	char *bytes = malloc(MIB), *back = malloc(MIB);
	int fd = peer_connect(fixture->port);

	assert_non_null(bytes);
	assert_non_null(back);
	for (size_t i = 0; i < MIB; i++)
		bytes[i] = (char)('a' + i % 23);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		char head[256];
		struct peer_answer answer;

		snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\n" H "Content-Length: %zu\r\n\r\n",
		         sizes[i]);
		peer_say(fd, head);
		peer_send(fd, bytes, sizes[i]);
		answer = peer_read_answer(fd, true);
		assert_int_equal(answer.len, sizes[i]);
		assert_memory_equal(answer.body, bytes, sizes[i]);
		free(answer.body);
		peer_say(fd, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n");
		for (size_t at = 0; at < sizes[i];) {
			size_t n = sizes[i] - at < 5000 ? sizes[i] - at : 5000;

			snprintf(head, sizeof(head), "%zX\r\n", n);
			peer_say(fd, head);
			peer_send(fd, bytes + at, n);
			peer_say(fd, "\r\n");
			at += n;
		}
		peer_say(fd, "0\r\n\r\n");
		answer = peer_read_answer(fd, true);
		assert_int_equal(answer.len, sizes[i]);
		assert_memory_equal(answer.body, bytes, sizes[i]);
		free(answer.body);
		snprintf(head, sizeof(head), "GET /own?%zu HTTP/1.1\r\n" H "\r\n", sizes[i]);
		peer_say(fd, head);
		answer = peer_read_answer(fd, true);
		assert_int_equal(answer.len, sizes[i]);
		wait_for(&fixture->released, (int)i + 1);
		free(answer.body);
		snprintf(head, sizeof(head), "GET /big?%zu HTTP/1.1\r\n" H "\r\n", sizes[i]);
		peer_say(fd, head);
		answer = peer_read_answer(fd, true);
		assert_int_equal(answer.len, sizes[i]);
		free(answer.body);
	}
	close(fd);
	free(bytes);
	free(back);
}

static void chunked_answers(void **state)
{
	int fd = peer_connect(fixture->port);
	char head[512], byte[2];
	size_t total = 0, n;
	char line[32], *text;

	peer_say(fd, "GET /bigchunked?100000 HTTP/1.1\r\n" H "\r\n");
	peer_read_head(fd, head, sizeof(head));
	assert_non_null(strstr(head, "Transfer-Encoding: chunked\r\n"));
	do {
		size_t i = 0;
		char piece[20000];

		do
			peer_read(fd, &line[i], 1);
		while (line[i++] != '\n');
		line[i] = 0;
		n = strtoul(line, NULL, 16);
		assert_true(n <= sizeof(piece));
		peer_read(fd, piece, n);
		peer_read(fd, byte, 2);
		assert_memory_equal(byte, "\r\n", 2);
		total += n;
	} while (n > 0);
	assert_int_equal(total, 100000);
	close(fd);
	/* HTTP/1.0 knows no chunks: the end of the connection is the end of the body */
	fd = peer_connect(fixture->port);
	peer_say(fd, "GET /bigchunked?1000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	text = peer_read_all(fd, &total);
	assert_null(strstr(text, "chunked"));
	assert_non_null(strstr(text, "Connection: close\r\n"));
	assert_int_equal(strlen(strstr(text, "\r\n\r\n") + 4), 1000);
	free(text);
	close(fd);
}

static void cut_off(void **state)
{
	static const char *const paths[] = {"/abort", "/short"};

	for (int i = 0; i < 2; i++) {
		int fd = peer_connect(fixture->port);
		char request[64], byte[512];
		ssize_t n, total = 0;

		snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" H "\r\n", paths[i]);
		peer_say(fd, request);
		while ((n = recv(fd, byte, sizeof(byte), 0)) > 0)
			total += n;
		assert_int_equal(n, -1);
		assert_int_equal(errno, ECONNRESET);
		assert_true(total < 300);
		close(fd);
	}
}

static void time_outs(void **state)
{
	int fd[6];
	char byte[600];

	restart_with((struct wh_http_server_options){.head_timeout_ns = 100 * WH_NS_PER_MS,
	                                             .body_timeout_ns = 100 * WH_NS_PER_MS,
	                                             .idle_timeout_ns = 100 * WH_NS_PER_MS,
	                                             .write_timeout_ns = 200 * WH_NS_PER_MS});
	for (int i = 0; i < 6; i++)
		fd[i] = peer_connect(fixture->port);
	peer_say(fd[1], "GET /livez HTT");
	peer_say(fd[2], "GET /livez HTTP/1.1\r\n" H "\r\n");
	peer_say(fd[3], "POST /echo HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc");
	peer_say(fd[4], "POST /stream HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc");
	peer_say(fd[5], "GET /park HTTP/1.1\r\n" H "\r\n");
	peer_expect_end(fd[0]);
	peer_expect(fd[1], 408, NULL);
	peer_expect(fd[2], 200, "ok\n");
	peer_expect_end(fd[2]);
	peer_expect(fd[3], 408, NULL);
	peer_expect(fd[4], 408, NULL);
	/* a handler may think as long as it likes */
	assert_int_equal(recv(fd[5], byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	on_loop(unpark_all, "at last");
	peer_expect(fd[5], 200, "at last");
	for (int i = 0; i < 6; i++)
		close(fd[i]);
	/* a client that takes nothing */
	fd[0] = peer_connect(fixture->port);
	peer_say(fd[0], "GET /big?100000000 HTTP/1.1\r\n" H "\r\n");
	wait_for_connections(0);
	close(fd[0]);
}

/* 100 MiB in, and out again, through one connection whose server side holds a bounded part. */
static void *push_body(void *arg)
{
	int fd = *(int *)arg;
	static char piece[65536];

	memset(piece, 'p', sizeof(piece));
	for (int i = 0; i < 1600; i++)
		peer_send(fd, piece, sizeof(piece));
	return NULL;
}

static void long_streams(void **state)
{
	int fd = peer_connect(fixture->port);
	struct wh_http_server_options options = fixture->options;
	char head[512], *piece = malloc(MIB);
	size_t total = 0;
	pthread_t pusher;
	struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};

	assert_non_null(piece);
	memset(piece, 'p', MIB);
	snprintf(head, sizeof(head), "POST /pipe HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n", 100 * MIB);
	peer_say(fd, head);
	/* Nobody reads the answer: the server must stop taking in the request, far from its end. */
	for (;;) {
		ssize_t n;

		if (poll(&poll_fd, 1, 300) == 0)
			break;
		n = send(fd, piece, MIB, MSG_DONTWAIT | MSG_NOSIGNAL);
		assert_true(n > 0);
		total += (size_t)n;
	}
	assert_true(total < 40 * MIB);
	on_loop(get_stats, NULL);
	assert_true(fixture->stats.bytes_received - fixture->stats.bytes_sent <
	            4 * options.output_bytes_max + MIB);
	close(fd);
	wait_for_connections(0);
	fd = peer_connect(fixture->port);
	peer_say(fd, head);
	assert_int_equal(pthread_create(&pusher, NULL, push_body, &fd), 0);
	peer_read_head(fd, head, sizeof(head));
	assert_int_equal(peer_content_length(head), 100 * MIB);
	for (int i = 0; i < 100; i++) {
		peer_read(fd, piece, MIB);
		assert_int_equal(piece[0], 'p');
	}
	pthread_join(pusher, NULL);
	close(fd);
	free(piece);
}

static void half_close(void **state)
{
	int fd = peer_connect(fixture->port);

	peer_say(fd, "GET /park HTTP/1.1\r\n" H "\r\n");
	wait_for(&fixture->parked_count, 1);
	shutdown(fd, SHUT_WR);
	wait_for(&fixture->half_closed_count, 1);
	assert_int_equal(fixture->closed_count, 0);
	on_loop(unpark_all, "still here");
	peer_expect(fd, 200, "still here");
	peer_expect_end(fd);
	close(fd);
	/* within a body: what was sent is not a request */
	fd = peer_connect(fixture->port);
	peer_say(fd, "POST /hold HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc");
	wait_for(&fixture->heads, 2);
	shutdown(fd, SHUT_WR);
	peer_expect(fd, 400, NULL);
	assert_int_equal(fixture->closed_count, 1);
	close(fd);
	fd = peer_connect(fixture->port);
	peer_say(fd, "POST /stream HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc");
	shutdown(fd, SHUT_WR);
	peer_expect(fd, 400, NULL);
	close(fd);
	/* within a head: nothing to answer */
	fd = peer_connect(fixture->port);
	peer_say(fd, "GET /livez HTTP/1.1\r\nHos");
	shutdown(fd, SHUT_WR);
	peer_expect_end(fd);
	close(fd);
	wait_for_connections(0);
}

static void resets(void **state)
{
	static const struct {
		const char *bytes;
		int heads, closed;
	} stages[] = {
		{"", 0, 0},
		{"GET /li", 0, 0},
		{"GET /park HTTP/1.1\r\n" H "\r\n", 1, 1},
		{"POST /hold HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc", 1, 1},
		{"POST /stream HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc", 1, 0},
		{"POST /pipe HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 1, 0},
		{"GET /big?100000000 HTTP/1.1\r\n" H "\r\n", 1, 0},
		{"GET /own?100000000 HTTP/1.1\r\n" H "\r\n", 1, 0},
		{"GET /park HTTP/1.1\r\n" H "\r\nGET /park HTTP/1.1\r\n" H "\r\nGET /livez HTTP/1.1\r\n" H
	         "\r\n",
	         3, 2},
	};

	for (size_t i = 0; i < sizeof(stages) / sizeof(*stages); i++) {
		int fd = peer_connect(fixture->port);

		fixture->heads = fixture->closed_count = 0;
		peer_say(fd, stages[i].bytes);
		wait_for(&fixture->heads, stages[i].heads);
		wait_for_connections(1);
		peer_reset(fd);
		wait_for_connections(0);
		assert_int_equal(fixture->closed_count, stages[i].closed);
		on_loop(unpark_all, "into the void");
	}
	on_loop(get_stats, NULL);
	assert_int_equal(fixture->stats.exchanges, 0);
}

static void connection_limit(void **state)
{
	struct pollfd poll_fd;
	int a, b, c;

	restart_with((struct wh_http_server_options){.connections_max = 2});
	a = peer_connect(fixture->port);
	b = peer_connect(fixture->port);
	c = peer_connect(fixture->port); /* waits in the listen queue */
	peer_say(a, "GET /livez HTTP/1.1\r\n" H "\r\n");
	peer_expect(a, 200, "ok\n");
	peer_say(b, "GET /livez HTTP/1.1\r\n" H "\r\n");
	peer_expect(b, 200, "ok\n");
	peer_say(c, "GET /livez HTTP/1.1\r\n" H "\r\n");
	poll_fd = (struct pollfd){.fd = c, .events = POLLIN};
	assert_int_equal(poll(&poll_fd, 1, 100), 0);
	close(a);
	peer_expect(c, 200, "ok\n");
	close(b);
	close(c);
}

static void drained(wh_loop *loop, wh_res res, void *arg)
{
	assert_int_equal(res.n, 0);
	count(&fixture->drained);
}

static void begin_drain(void *arg)
{
	assert_int_equal(wh_then(wh_http_server_drain(fixture->server), drained, NULL), 0);
}

static void drain(void **state)
{
	int idle = peer_connect(fixture->port), busy = peer_connect(fixture->port), late;
	bool refused = false;
	struct peer_answer answer;
	struct sockaddr_in address = peer_address(fixture->port);

	peer_say(idle, "GET /livez HTTP/1.1\r\n" H "\r\n");
	peer_expect(idle, 200, "ok\n");
	peer_say(busy, "GET /park HTTP/1.1\r\n" H "\r\n");
	wait_for(&fixture->parked_count, 1);
	on_loop(begin_drain, NULL);
	peer_expect_end(idle);
	/* an engine may close the listener a little later; until then a connection is reset rather than refused */
	for (int i = 0; i < PEER_PATIENCE_S * 1000; i++) {
		late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_true(late >= 0);
		refused = connect(late, (struct sockaddr *)&address, sizeof(address)) < 0 &&
		          errno == ECONNREFUSED;
		close(late);
		if (refused)
			break;
		usleep(1000);
	}
	assert_true(refused);
	assert_int_equal(fixture->drained, 0);
	on_loop(unpark_all, "done");
	answer = peer_read_answer(busy, true);
	assert_non_null(strstr(answer.head, "Connection: close\r\n"));
	free(answer.body);
	peer_expect_end(busy);
	wait_for(&fixture->drained, 1);
	close(idle);
	close(busy);
}

/* The server is closed with exchanges in hand; they are answered afterwards. */
static void close_first(void *arg)
{
	fixture->server = wh_http_server_close(fixture->server);
}

static void close_with_parked(void **state)
{
	int fd = peer_connect(fixture->port);

	peer_say(fd, "GET /park HTTP/1.1\r\n" H "\r\n");
	wait_for(&fixture->parked_count, 1);
	on_loop(close_first, NULL);
	wait_for(&fixture->closed_count, 1);
	peer_expect_end(fd);
	on_loop(unpark_all, "nobody listens");
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

/* Usage: [quick], which leaves out what is long. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(keep_alive),
		TEST(heads_of_answers),
		TEST(pipelining),
		TEST(split_everywhere),
		TEST(order_of_answers),
		TEST(retained),
		TEST(expect_continue),
		TEST(refusals),
		TEST(limits),
		TEST(unread_bodies),
		TEST(bodies),
		TEST(chunked_answers),
		TEST(cut_off),
		TEST(time_outs),
		TEST(long_streams),
		TEST(half_close),
		TEST(resets),
		TEST(connection_limit),
		TEST(drain),
		TEST(close_with_parked),
	};

	if (argc > 1 && strcmp(argv[1], "quick") == 0)
		cmocka_set_skip_filter("long_*");
	return cmocka_run_group_tests_name("http server", tests, NULL, NULL);
}
