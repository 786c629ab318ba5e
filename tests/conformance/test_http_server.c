/* tests/conformance/test_http_server.c -- requests and answers of the HTTP server, on the engine of WHILST_ENGINE. */
#define WH_TESTS_HTTP_ON_SIM

#include "http_served.h"

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
	/* and a safe one that is to be answered in its turn: behind what is before it, and before what is behind it */
	fixture->order[0] = 0;
	peer_say(fd, "GET /park HTTP/1.1\r\n" H "\r\nGET /turn HTTP/1.1\r\n" H "\r\nGET /turn HTTP/1.1\r\n" H
	             "\r\nGET /livez HTTP/1.1\r\n" H "\r\n");
	wait_for(&fixture->parked_count, 1);
	on_loop(get_stats, NULL);
	on_loop(get_stats, NULL);
	assert_string_equal(fixture->order, "/park ");
	for (int i = 0; i < 3; i++) {
		on_loop(unpark_all, "turn");
		peer_expect(fd, 200, "turn");
		if (i == 2)
			break;
		wait_for(&fixture->parked_count, 1);
		on_loop(get_stats, NULL);
		on_loop(get_stats, NULL);
		assert_string_equal(fixture->order, i == 0 ? "/park /turn " : "/park /turn /turn ");
	}
	peer_expect(fd, 200, "ok\n");
	assert_string_equal(fixture->order, "/park /turn /turn /livez ");
	/* or two side by side, and the third in its turn */
	fixture->order[0] = 0;
	peer_say(fd, "GET /few HTTP/1.1\r\n" H "\r\nGET /few HTTP/1.1\r\n" H "\r\nGET /few HTTP/1.1\r\n" H
	             "\r\nGET /few HTTP/1.1\r\n" H "\r\n");
	wait_for(&fixture->parked_count, 2);
	on_loop(get_stats, NULL);
	on_loop(get_stats, NULL);
	assert_string_equal(fixture->order, "/few /few ");
	on_loop(unpark_all, "two");
	peer_expect(fd, 200, "two");
	peer_expect(fd, 200, "two");
	wait_for(&fixture->parked_count, 1);
	on_loop(get_stats, NULL);
	on_loop(get_stats, NULL);
	assert_string_equal(fixture->order, "/few /few /few ");
	on_loop(unpark_all, "three");
	peer_expect(fd, 200, "three");
	wait_for(&fixture->parked_count, 1);
	on_loop(unpark_all, "four");
	peer_expect(fd, 200, "four");
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
	/* an answer that begins before the body is read: the interim one is before it, not amid it */
	peer_say(fd, "POST /pipe HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
	peer_read_head(fd, head, sizeof(head));
	assert_string_equal(head, "HTTP/1.1 100 Continue\r\n\r\n");
	peer_say(fd, "abc");
	peer_expect(fd, 200, "abc");
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

/* Several answers in pieces at once: the later ones may hold what they may, and the first goes on all the same. */
static void answers_side_by_side(void **state)
{
	enum { REQUESTS = 4, BYTES = 3000000 };
	int fd = peer_connect(fixture->port);

	for (int i = 0; i < REQUESTS; i++) {
		char head[100];

		snprintf(head, sizeof(head), "GET /big?%d HTTP/1.1\r\n" H "\r\n", BYTES + i);
		peer_say(fd, head);
	}
	for (int i = 0; i < REQUESTS; i++) {
		struct peer_answer answer = peer_read_answer(fd, true);

		assert_int_equal(answer.len, BYTES + i);
		free(answer.body);
	}
	close(fd);
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

static void peer_is_known(void **state)
{
	int fd = peer_connect(fixture->port);
	char wanted[32];

	snprintf(wanted, sizeof(wanted), "127.0.0.1:%u", peer_port(fd));
	peer_say(fd, "GET /peer HTTP/1.1\r\n" H "\r\n");
	peer_expect(fd, 200, wanted);
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
		while ((n = peer_recv(fd, byte, sizeof(byte))) > 0)
			total += n;
		assert_int_equal(n, -1);
		assert_int_equal(errno, ECONNRESET);
		assert_true(total < 300);
		close(fd);
	}
}

/* Usage: [quick], which leaves out what is long. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(keep_alive),       TEST(heads_of_answers), TEST(pipelining),
		TEST(split_everywhere), TEST(order_of_answers), TEST(retained),
		TEST(expect_continue),  TEST(refusals),         TEST(limits),
		TEST(unread_bodies),    TEST(bodies),           TEST(chunked_answers),
		TEST(cut_off),          TEST(peer_is_known),    TEST(answers_side_by_side),
	};

	if (argc > 1 && strcmp(argv[1], "quick") == 0)
		cmocka_set_skip_filter("long_*");
	return on_sim_end(cmocka_run_group_tests_name("http server", tests, NULL, NULL));
}
