/* tests/conformance/test_http_connections.c -- connections of the HTTP server: slow, large, half closed, reset, too many, drained; on the
 * engine of WHILST_ENGINE.
 */
#define WH_TESTS_HTTP_ON_SIM

#include <stdbool.h>

typedef struct wh_http_exchange wh_http_exchange;
static bool count_end(wh_http_exchange *x);
#define ON_HEAD count_end

#include "http_served.h"

static int ended;

static void on_over(void *arg)
{
	assert_ptr_equal(arg, &ended);
	count(&ended);
}

static int ended_so_far(void)
{
	pthread_mutex_lock(&fixture->lock);
	int n = ended;
	pthread_mutex_unlock(&fixture->lock);
	return n;
}

static bool count_end(wh_http_exchange *x)
{
	wh_http_on_end(x, on_over, &ended);
	return false;
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

/* ---- how much is held for who does not read -------------------------------------------------- */

static struct {
	wh_future last;
	int written;
} bounded;

/* Pieces of 1 KiB until a write waits: nothing leaves within the turn. */
static void write_until_it_waits(void *arg)
{
	static const char piece[1024] = {'b'};

	do {
		if (bounded.written > 0)
			wh_drop(bounded.last);
		bounded.last = wh_http_write(fixture->parked[0], piece, sizeof(piece));
		bounded.written++;
		assert_true(bounded.written < 1000);
	} while (wh_done(bounded.last));
}

static void begin_bounded(void *arg)
{
	bounded.written = 0;
	assert_int_equal(wh_http_start(fixture->parked[0], 200, WH_HTTP_CHUNKED), 0);
	wh_http_set_unsent_max(fixture->parked[0], *(const uint32_t *)arg);
	write_until_it_waits(NULL);
}

static void end_bounded(void *arg)
{
	fixture->parked_count = 0;
	wh_drop(bounded.last);
	wh_http_end(fixture->parked[0]);
}

static void not_waiting(wh_loop *loop, wh_res res, void *arg)
{
	assert_int_equal(res.n, 0);
	count(arg);
}

static void wait_for_room(void *arg)
{
	assert_int_equal(wh_then(bounded.last, not_waiting, arg), 0);
	bounded.written = 0;
}

/* A bound of an exchange holds for it alone, and what waits goes on when the client has read. */
static void unsent_max(void **state)
{
	const uint32_t bounds[] = {4096, 64 << 10, 0, 1};
	static char piece[65536];
	int woken = 0;

	for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
		uint32_t bytes = bounds[i] > 0 ? bounds[i] : 256 << 10; /* the default of output_bytes_max */
		int wanted = (int)((bytes + 1023) / 1024);

		int fd = peer_connect(fixture->port);

		peer_say(fd, "GET /park HTTP/1.0\r\n" H "\r\n");
		wait_for(&fixture->parked_count, 1);
		on_loop(begin_bounded, &bounds[i]);
		/* the head counts, too */
		assert_true(bounded.written <= wanted && bounded.written >= wanted - 1);
		on_loop(wait_for_room, &woken);
		wait_for(&woken, (int)i + 1);
		on_loop(write_until_it_waits, NULL);
		assert_true(bounded.written <= wanted && bounded.written >= 1);
		on_loop(end_bounded, NULL);
		while (peer_recv(fd, piece, sizeof(piece)) > 0)
			;
		close(fd);
	}
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
		int heads, closed, half_closed;
	} stages[] = {
		{"", 0, 0, 0},
		{"GET /li", 0, 0, 0},
		{"GET /park HTTP/1.1\r\n" H "\r\n", 1, 1, 0},
		{"GET /park?half HTTP/1.1\r\n" H "\r\n", 1, 0, 1},
		{"POST /hold HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc", 1, 1, 0},
		{"POST /stream HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc", 1, 0, 0},
		{"POST /pipe HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 1, 0, 0},
		{"GET /big?100000000 HTTP/1.1\r\n" H "\r\n", 1, 0, 0},
		{"GET /own?100000000 HTTP/1.1\r\n" H "\r\n", 1, 0, 0},
		{"GET /park HTTP/1.1\r\n" H "\r\nGET /park?half HTTP/1.1\r\n" H
	         "\r\nGET /livez HTTP/1.1\r\n" H "\r\n",
	         3, 1, 1},
	};

	for (size_t i = 0; i < sizeof(stages) / sizeof(*stages); i++) {
		int fd = peer_connect(fixture->port);

		fixture->heads = fixture->closed_count = fixture->half_closed_count = 0;
		peer_say(fd, stages[i].bytes);
		wait_for(&fixture->heads, stages[i].heads);
		wait_for_connections(1);
		peer_reset(fd);
		wait_for_connections(0);
		wait_for(&fixture->closed_count, stages[i].closed);
		wait_for(&fixture->half_closed_count, stages[i].half_closed);
		assert_int_equal(fixture->closed_count, stages[i].closed);
		assert_int_equal(fixture->half_closed_count, stages[i].half_closed);
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

/* Usage: [quick], which leaves out what is long. */
/* Whatever becomes of an exchange, it is told once that it is over, and not before. */
static void ends(void **state)
{
	int fd = peer_connect(fixture->port), again;

	ended = 0;
	peer_say(fd, "GET /livez HTTP/1.1\r\n" H "\r\nGET /refuse HTTP/1.1\r\n" H "\r\n");
	peer_expect(fd, 200, "ok\n");
	peer_expect(fd, 404, NULL);
	wait_for(&ended, 2);
	/* a streamed body, and an answer in pieces */
	peer_say(fd, "POST /pipe HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nbody");
	peer_expect(fd, 200, "body");
	wait_for(&ended, 3);
	/* an early answer is over when its turn has come */
	peer_say(fd, "GET /park HTTP/1.1\r\n" H "\r\nGET /livez HTTP/1.1\r\n" H "\r\n");
	wait_for(&fixture->handled, 4);
	assert_int_equal(ended_so_far(), 3);
	on_loop(unpark_all, NULL);
	peer_expect(fd, 200, "late");
	peer_expect(fd, 200, "ok\n");
	wait_for(&ended, 5);
	/* a client that goes: its exchange is the handler's to answer */
	peer_say(fd, "GET /park HTTP/1.1\r\n" H "\r\n");
	wait_for(&fixture->parked_count, 1);
	close(fd);
	wait_for(&fixture->half_closed_count, 1);
	assert_int_equal(ended_so_far(), 5);
	on_loop(unpark_all, NULL);
	wait_for(&ended, 6);
	/* a collected body that breaks off is the server's to end */
	again = peer_connect(fixture->port);
	peer_say(again, "POST /hold HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\nabc");
	wait_for(&fixture->heads, 7);
	assert_int_equal(ended_so_far(), 6);
	close(again);
	wait_for(&ended, 7);
	for (int i = 0; i < 2; i++) {
		again = peer_connect(fixture->port);
		peer_say(again,
		         i == 0 ? "GET /abort HTTP/1.1\r\n" H "\r\n" : "GET /short HTTP/1.1\r\n" H "\r\n");
		wait_for(&ended, 8 + i);
		close(again);
	}
	/* of a server that is closed, too */
	fd = peer_connect(fixture->port);
	peer_say(fd, "GET /park HTTP/1.1\r\n" H "\r\n");
	wait_for(&fixture->parked_count, 1);
	restart_with((struct wh_http_server_options){0});
	assert_int_equal(ended_so_far(), 10);
	close(fd);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(time_outs), TEST(long_streams),     TEST(unsent_max), TEST(half_close),
		TEST(resets),    TEST(connection_limit), TEST(drain),      TEST(close_with_parked),
		TEST(ends),
	};

	if (argc > 1 && strcmp(argv[1], "quick") == 0)
		cmocka_set_skip_filter("long_*");
	return on_sim_end(cmocka_run_group_tests_name("http connections", tests, NULL, NULL));
}
