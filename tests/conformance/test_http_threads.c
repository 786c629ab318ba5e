/* tests/conformance/test_http_threads.c -- a server whose connections are on threads of their own: what is so of that alone, and all at
 * once. That it is otherwise like any server is what test_http_server and test_http_connections show, run with WH_TEST_HTTP_THREADS=2.
 */
#include <stdatomic.h>
#include <stdbool.h>

#include "whilst/http.h"

static bool on_flood(wh_http_exchange *x);
#define ON_REQUEST on_flood
#include "http_served.h"

#define H "Host: a\r\n"

enum {
	THREADS = 3,
	CLIENTS = 6,
	ROUNDS = 60,
	PIPELINED = 12,
	UPLOAD_BYTES = 200000,
	FLOODING =
		60, /* connections, with so many requests each: far more than a turn takes of all threads */
	FLOOD = 32,
	NOTES_OF_TURN = 256 /* src/http/threads.h */
};

static int start_threads(void **state)
{
	start_with((struct wh_http_server_options){.threads = THREADS});
	return 0;
}

/* ---- what it is not -------------------------------------------------------------------------- */

static void refused(void **state)
{
	struct wh_http_server_options options = {.on_request = on_request, .threads = 2, .connect = true};
	wh_http_server *server = NULL;
	wh_loop *loop;

	assert_int_equal(wh_loop_open(&loop, NULL), 0);
	assert_int_equal(wh_http_server_open(loop, &options, &server), -ENOSYS);
	options.connect = false;
	options.threads = 65;
	assert_int_equal(wh_http_server_open(loop, &options, &server), -EINVAL);
	assert_null(server);
	options.threads = 1;
	assert_int_equal(wh_http_server_open(loop, &options, &server), 0);
	assert_int_equal(wh_http_server_threads(server, NULL, 0), 0);
	wh_http_server_close(server);
	/* never listened: nothing is pending, and closing it joins its threads */
	options.threads = 2;
	assert_int_equal(wh_http_server_open(loop, &options, &server), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	wh_http_server_close(server);
	assert_int_equal(wh_loop_run(loop), 0);
	wh_loop_close(loop);
}

static int64_t turns(void *arg)
{
	struct wh_stats stats;

	wh_stats(arg, &stats);
	return (int64_t)stats.turns;
}

static void ask_loops(void *arg)
{
	wh_loop *loops[THREADS + 1];

	assert_int_equal(wh_http_server_threads(fixture->server, loops, THREADS + 1), THREADS);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(wh_detach(wh_ask(fixture->loop, loops[i], turns, loops[i])), 0);
}

static void loops(void **state)
{
	on_loop(ask_loops, NULL);
}

/* As many connections as are allowed, however they are shared out. */
static void few_connections(void **state)
{
	int fd[2];

	restart_with((struct wh_http_server_options){.threads = THREADS, .connections_max = 2});
	for (int i = 0; i < 2; i++) {
		fd[i] = peer_connect(fixture->port);
		peer_say(fd[i], "GET /livez HTTP/1.1\r\n" H "\r\n");
		peer_expect(fd[i], 200, "ok\n");
	}
	wait_for_connections(2);
	close(fd[0]);
	close(fd[1]);
	wait_for_connections(0);
}

/* A client that asks and does not read has only so much worked out for it: the rest is begun when it has read. */
static void deaf(void **state)
{
	enum { ASKED = 40 };
	int fd, begun;

	restart_with((struct wh_http_server_options){.threads = THREADS, .output_bytes_max = 100000});
	fd = peer_connect(fixture->port);
	for (int i = 0; i < ASKED; i++)
		peer_say(fd, "GET /own?4000000 HTTP/1.1\r\n" H "\r\n");
	wait_for(&fixture->handled, 1);
	/* whatever is begun later has been asked for by now */
	for (int i = 0; i < 100; i++)
		on_loop(get_stats, NULL);
	pthread_mutex_lock(&fixture->lock);
	begun = fixture->handled;
	pthread_mutex_unlock(&fixture->lock);
	assert_in_range(begun, 1, 8);
	for (int i = 0; i < ASKED; i++) {
		struct peer_answer answer = peer_read_answer(fd, true);

		assert_int_equal(answer.len, 4000000);
		free(answer.body);
	}
	pthread_mutex_lock(&fixture->lock);
	begun = fixture->handled;
	pthread_mutex_unlock(&fixture->lock);
	assert_int_equal(begun, ASKED);
	close(fd);
	wait_for_connections(0);
}

/* ---- a flood ------------------------------------------------------------------------------ */

static struct {
	atomic_int handled, handled_at_posted;
	atomic_bool told;
} flood;

static void on_posted(void *arg)
{
	flood.handled_at_posted = atomic_load(&flood.handled);
	unpark_all(NULL);
}

static void look_until(bool (*over)(void))
{
	for (int i = 0; i < PEER_PATIENCE_S * 1000 && !over(); i++)
		usleep(1000);
}

/* All is on its way to this loop, which handles the first of it. */
static bool all_is_read(void)
{
	struct wh_http_server_stats stats;

	wh_http_server_stats(fixture->server, &stats);
	return stats.exchanges == 1 + FLOODING * FLOOD;
}

static bool waiter_is_told(void)
{
	return flood.told;
}

static bool on_flood(wh_http_exchange *x)
{
	if (!wh_slice_equal(wh_http_path(x), "/flood"))
		return false;
	int handled = ++flood.handled;

	if (handled == 1) {
		look_until(all_is_read);
		assert_int_equal(wh_post(fixture->loop, on_posted, NULL), 0);
	} else if (handled == FLOODING * FLOOD) {
		look_until(waiter_is_told);
	}
	wh_http_respond(x, 200, "flooded", 7);
	return true;
}

/* Requests by the thousand that are there already keep nobody else from being told: of each thread's the loop takes so many in a turn, and
 * then what else there is. */
static void flooded(void **state)
{
	static const char request[] = "GET /flood HTTP/1.1\r\n" H "\r\n";
	static char requests[FLOOD * (sizeof(request) - 1) + 1];
	int fd[FLOODING], waiter = peer_connect(fixture->port);

	for (size_t i = 0; i < FLOOD; i++)
		memcpy(requests + i * (sizeof(request) - 1), request, sizeof(request) - 1);
	peer_say(waiter, "GET /park HTTP/1.1\r\n" H "\r\n");
	wait_for(&fixture->parked_count, 1);
	for (int i = 0; i < FLOODING; i++) {
		fd[i] = peer_connect(fixture->port);
		peer_say(fd[i], requests);
	}
	peer_expect(waiter, 200, "late");
	flood.told = true;
	for (int i = 0; i < FLOODING; i++)
		for (int k = 0; k < FLOOD; k++)
			peer_expect(fd[i], 200, "flooded");
	/* a turn that has begun, and one more: of a thread that has said more meanwhile the turn is before what was posted */
	assert_in_range(flood.handled_at_posted, 1, 2 * THREADS * NOTES_OF_TURN);
	assert_int_equal(flood.handled, FLOODING * FLOOD);
	for (int i = 0; i < FLOODING; i++)
		close(fd[i]);
	close(waiter);
	wait_for_connections(0);
}

/* ---- all at once --------------------------------------------------------------------------- */

struct client {
	pthread_t thread;
	unsigned seed;
	char upload[UPLOAD_BYTES];
};

static void ask_pipelined(int fd)
{
	for (int i = 0; i < PIPELINED; i++) {
		static const char *const requests[] = {
			"GET /livez HTTP/1.1\r\n" H "\r\n",
			"POST /echo HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\nbody",
			"GET /later HTTP/1.1\r\n" H "\r\n",
			"POST /echo HTTP/1.1\r\n" H
			"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
		};

		peer_say(fd, requests[i % 4]);
	}
	for (int i = 0; i < PIPELINED; i++) {
		if (i % 4 == 0)
			peer_expect(fd, 200, "ok\n");
		else if (i % 4 == 2)
			peer_expect(fd, 200, NULL);
		else
			peer_expect(fd, 200, "body");
	}
}

static void ask_upload(int fd, const struct client *client)
{
	struct peer_answer answer;
	char head[128];

	snprintf(head, sizeof(head), "POST /pipe HTTP/1.1\r\n" H "Content-Length: %d\r\n\r\n", UPLOAD_BYTES);
	peer_say(fd, head);
	peer_send(fd, client->upload, UPLOAD_BYTES / 2);
	peer_send(fd, client->upload + UPLOAD_BYTES / 2, UPLOAD_BYTES - UPLOAD_BYTES / 2);
	answer = peer_read_answer(fd, true);
	assert_int_equal(answer.len, UPLOAD_BYTES);
	assert_memory_equal(answer.body, client->upload, UPLOAD_BYTES);
	free(answer.body);
}

/* Gone amid something, which it is told by a byte or not at all. */
static void leave_amid(int fd, unsigned how)
{
	static const char *const requests[] = {
		"GET /bigchunked?3000000 HTTP/1.1\r\n" H "\r\n",
		"POST /pipe HTTP/1.1\r\n" H "Content-Length: 100000\r\n\r\nabc",
		"POST /hold HTTP/1.1\r\n" H "Content-Length: 100000\r\n\r\nabc",
		"GET /own?2000000 HTTP/1.1\r\n" H "\r\nGET /later HTTP/1.1\r\n" H "\r\n",
		"GET /livez HTTP/1.1\r\n" H "\r\nGET /li",
		"POST /small HTTP/1.1\r\n" H "Content-Length: 100000\r\n\r\nabc",
		"NOT HTTP\r\n\r\n",
	};
	char byte;

	peer_say(fd, requests[how % 7]);
	if (how & 8)
		(void)!recv(fd, &byte, 1, MSG_DONTWAIT);
	if (how & 16)
		peer_reset(fd);
	else
		close(fd);
}

static void *ask(void *arg)
{
	struct client *client = arg;
	int fd = -1;

	for (int i = 0; i < ROUNDS; i++) {
		unsigned what = (unsigned)rand_r(&client->seed) >> 8;

		if (fd < 0)
			fd = peer_connect(fixture->port);
		if (what % 4 == 0) {
			leave_amid(fd, what >> 2);
			fd = -1;
		} else if (what % 4 == 1) {
			ask_upload(fd, client);
		} else {
			ask_pipelined(fd);
		}
	}
	if (fd >= 0)
		close(fd);
	return NULL;
}

static void all_at_once(void **state)
{
	struct client *clients = calloc(CLIENTS, sizeof(*clients));

	assert_non_null(clients);
	for (unsigned i = 0; i < CLIENTS; i++) {
		clients[i].seed = i + 1;
		for (unsigned k = 0; k < UPLOAD_BYTES; k++)
			clients[i].upload[k] = (char)(i + k * 7);
		assert_int_equal(pthread_create(&clients[i].thread, NULL, ask, &clients[i]), 0);
	}
	for (int i = 0; i < CLIENTS; i++)
		assert_int_equal(pthread_join(clients[i].thread, NULL), 0);
	wait_for_connections(0);
	on_loop(get_stats, NULL);
	assert_int_equal(fixture->stats.exchanges, 0);
	free(clients);
}

/* Closed amid all of that: stop() waits for the threads. */
static void closed_amid(void **state)
{
	int fd[20];

	for (int i = 0; i < 20; i++) {
		fd[i] = peer_connect(fixture->port);
		peer_say(fd[i], i % 2 ? "GET /bigchunked?3000000 HTTP/1.1\r\n" H "\r\n"
		                      : "POST /pipe HTTP/1.1\r\n" H "Content-Length: 100000\r\n\r\nabc");
	}
	wait_for(&fixture->heads, 20);
	restart_with((struct wh_http_server_options){.threads = THREADS});
	for (int i = 0; i < 20; i++)
		close(fd[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused),
		cmocka_unit_test_setup_teardown(loops, start_threads, stop),
		cmocka_unit_test_setup_teardown(few_connections, start_threads, stop),
		cmocka_unit_test_setup_teardown(deaf, start_threads, stop),
		cmocka_unit_test_setup_teardown(flooded, start_threads, stop),
		cmocka_unit_test_setup_teardown(all_at_once, start_threads, stop),
		cmocka_unit_test_setup_teardown(closed_amid, start_threads, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
