/* tests/conformance/http_served.h -- a server on a loop with a thread of its own, and handlers for whatever its tests need. The tests are plain
 * blocking clients. A file may define ON_HEAD and ON_REQUEST, which see a request first: true if it is theirs.
 */
#ifndef TESTS_HTTP_SERVED_H
#define TESTS_HTTP_SERVED_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "http_peer.h"
#include "whilst/http.h"
#include "whilst/socket.h"

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

__attribute__((unused)) static void run_on_loop(void *arg)
{
	struct on_loop *call = arg;

	call->fn(call->arg);
	pthread_mutex_lock(&fixture->lock);
	call->done = true;
	pthread_cond_broadcast(&fixture->changed);
	pthread_mutex_unlock(&fixture->lock);
}

__attribute__((unused)) static void on_loop(void (*fn)(void *arg), const void *arg)
{
	struct on_loop call = {fn, (void *)(uintptr_t)arg, false};

	assert_int_equal(wh_post(fixture->loop, run_on_loop, &call), 0);
	pthread_mutex_lock(&fixture->lock);
	while (!call.done)
		pthread_cond_wait(&fixture->changed, &fixture->lock);
	pthread_mutex_unlock(&fixture->lock);
}

__attribute__((unused)) static void count(int *counter)
{
	pthread_mutex_lock(&fixture->lock);
	(*counter)++;
	pthread_cond_broadcast(&fixture->changed);
	pthread_mutex_unlock(&fixture->lock);
}

__attribute__((unused)) static void wait_for(const int *counter, int at_least)
{
	struct timespec until;
	bool reached;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PEER_PATIENCE_S;
	pthread_mutex_lock(&fixture->lock);
	while (*counter < at_least)
		if (pthread_cond_timedwait(&fixture->changed, &fixture->lock, &until) != 0)
			break;
	reached = *counter >= at_least;
	pthread_mutex_unlock(&fixture->lock);
	assert_true(reached);
}

__attribute__((unused)) static void get_stats(void *arg)
{
	wh_http_server_stats(fixture->server, &fixture->stats);
}

/* Until the server's counter says so: polled, but only for what happens anyway. */
__attribute__((unused)) static void wait_for_connections(uint64_t wanted)
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

__attribute__((unused)) static void on_gone(void *arg)
{
	count(&fixture->closed_count);
}

__attribute__((unused)) static void on_half(void *arg)
{
	count(&fixture->half_closed_count);
}

__attribute__((unused)) static void park(wh_http_exchange *x)
{
	if (!wh_slice_equal(wh_http_query(x), "half"))
		wh_http_on_close(x, on_gone, x);
	wh_http_on_half_close(x, on_half, x);
	fixture->parked[fixture->parked_count] = x;
	count(&fixture->parked_count);
}

__attribute__((unused)) static void unpark_all(void *arg)
{
	const char *text = arg ? arg : "late";

	/* the last one first: answers must leave in the order of requests all the same */
	while (fixture->parked_count > 0) {
		wh_http_exchange *x;

		pthread_mutex_lock(&fixture->lock);
		x = fixture->parked[--fixture->parked_count];
		pthread_mutex_unlock(&fixture->lock);
		wh_http_respond(x, 200, text, strlen(text));
	}
}

struct pump {
	wh_http_exchange *x;
	uint64_t received, left;
	bool echo;
};

__attribute__((unused)) static void pump_read(struct pump *pump);

__attribute__((unused)) static void pump_written(wh_loop *loop, wh_res res, void *arg)
{
	struct pump *pump = arg;

	if (res.n < 0) {
		wh_http_abort(pump->x);
		free(pump);
	} else {
		pump_read(pump);
	}
}

__attribute__((unused)) static void pump_got(wh_loop *loop, wh_res res, void *arg)
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

__attribute__((unused)) static void pump_read(struct pump *pump)
{
	assert_int_equal(wh_then(wh_http_read(pump->x), pump_got, pump), 0);
}

__attribute__((unused)) static void begin_pump(wh_http_exchange *x, bool echo)
{
	struct pump *pump = calloc(1, sizeof(*pump));

	assert_non_null(pump);
	pump->x = x;
	pump->echo = echo;
	if (echo)
		assert_int_equal(wh_http_start(x, 200, wh_http_body_length(x)), 0);
	pump_read(pump);
}

__attribute__((unused)) static void write_more(wh_loop *loop, wh_res res, void *arg)
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

__attribute__((unused)) static void begin_big(wh_http_exchange *x, uint64_t len, bool chunked)
{
	struct pump *pump = calloc(1, sizeof(*pump));

	assert_non_null(pump);
	pump->x = x;
	pump->left = len;
	assert_int_equal(wh_http_start(x, 200, chunked ? WH_HTTP_CHUNKED : (int64_t)len), 0);
	write_more(wh_http_loop(x), (wh_res){0, NULL}, pump);
}

__attribute__((unused)) static void on_release(void *arg)
{
	free(arg);
	count(&fixture->released);
}

__attribute__((unused)) static void answer_later(wh_loop *loop, wh_res res, void *arg)
{
	wh_http_exchange *x = arg;
	struct wh_slice name = wh_http_header(x, "X-Name"), body = wh_http_body(x);
	char text[256];

	snprintf(text, sizeof(text), "%.*s %.*s %.*s", (int)wh_http_path(x).len, wh_http_path(x).data,
	         (int)name.len, name.data, (int)body.len, body.data);
	wh_http_respond(x, 200, text, strlen(text));
}

__attribute__((unused)) static uint64_t query_number(wh_http_exchange *x)
{
	struct wh_slice query = wh_http_query(x);

	return query.data ? strtoull(query.data, NULL, 10) : 0; /* a blank follows in the request line */
}

__attribute__((unused)) static void on_head(wh_http_exchange *x, void *arg)
{
	struct wh_slice path = wh_http_path(x);

#ifdef ON_HEAD
	if (ON_HEAD(x))
		return;
#endif
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
	else if (wh_slice_equal(path, "/turn"))
		wh_http_in_turn(x);
	else if (wh_slice_equal(path, "/few") && wh_http_pipelined(x) >= 2)
		wh_http_in_turn(x);
}

__attribute__((unused)) static void on_request(wh_http_exchange *x, void *arg)
{
	struct wh_slice path = wh_http_path(x), body = wh_http_body(x);
	size_t len = strlen(fixture->order);

#ifdef ON_REQUEST
	if (ON_REQUEST(x))
		return;
#endif
	count(&fixture->handled);
	if (len + path.len + 2 < sizeof(fixture->order))
		snprintf(fixture->order + len, sizeof(fixture->order) - len, "%.*s ", (int)path.len,
		         path.data);
	if (wh_slice_equal(path, "/livez")) {
		wh_http_respond(x, 200, "ok\n", 3);
	} else if (wh_slice_equal(path, "/peer")) {
		struct sockaddr_storage from;
		socklen_t from_len;
		char text[WH_ADDRESS_TEXT_MAX];

		assert_int_equal(wh_http_peer(x, &from, &from_len), 0);
		assert_true(wh_format_address((struct sockaddr *)&from, from_len, text, sizeof(text)) >= 0);
		wh_http_respond(x, 200, text, strlen(text));
	} else if (wh_slice_equal(path, "/echo")) {
		assert_int_equal(wh_http_set(x, "Content-Type", "application/octet-stream"), 0);
		wh_http_respond(x, 200, body.data, body.len);
	} else if (wh_slice_equal(path, "/park") || wh_slice_equal(path, "/submit") ||
	           wh_slice_equal(path, "/turn") || wh_slice_equal(path, "/few")) {
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

__attribute__((unused)) static void open_server(void *arg)
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

__attribute__((unused)) static void start_with(struct wh_http_server_options options)
{
	fixture = calloc(1, sizeof(*fixture));
	assert_non_null(fixture);
	pthread_mutex_init(&fixture->lock, NULL);
	pthread_cond_init(&fixture->changed, NULL);
	options.on_head = on_head;
	options.on_request = on_request;
	if (getenv("WH_TEST_HTTP_THREADS")) /* the same must hold with threads that speak HTTP */
		options.threads = (uint32_t)atoi(getenv("WH_TEST_HTTP_THREADS"));
	fixture->options = options;
	assert_int_equal(wh_loop_start(&fixture->loop, NULL), 0);
	on_loop(open_server, NULL);
	assert_int_equal(fixture->error, 0);
}

__attribute__((unused)) static void close_server(void *arg)
{
	unpark_all(NULL);
	fixture->server = wh_http_server_close(fixture->server);
}

__attribute__((unused)) static int start(void **state)
{
	start_with((struct wh_http_server_options){0});
	return 0;
}

__attribute__((unused)) static int stop(void **state)
{
	on_loop(close_server, NULL);
	wh_loop_close(fixture->loop);
	pthread_mutex_destroy(&fixture->lock);
	pthread_cond_destroy(&fixture->changed);
	free(fixture);
	fixture = NULL;
	return 0;
}

__attribute__((unused)) static void restart_with(struct wh_http_server_options options)
{
	stop(NULL);
	start_with(options);
}

#define H "Host: a\r\n"

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

#endif
