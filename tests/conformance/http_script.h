/* tests/conformance/http_script.h -- the HTTP client's tests: a loop and a client on the test's thread, and scripted servers of plain
 * blocking sockets on threads.
 */
#ifndef TESTS_HTTP_SCRIPT_H
#define TESTS_HTTP_SCRIPT_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/un.h>

#include <cmocka.h>

#include "http_peer.h"
#include "whilst/http.h"

enum { MIB = 1024 * 1024 };

static wh_loop *loop;
static wh_http_client *client;

__attribute__((unused)) static int open_with(const struct wh_http_client_options *options)
{
	assert_int_equal(wh_loop_open(&loop, NULL), 0);
	assert_int_equal(wh_http_client_open(loop, options, &client), 0);
	return 0;
}

__attribute__((unused)) static int start(void **state)
{
	return open_with(NULL);
}

__attribute__((unused)) static int stop(void **state)
{
	client = wh_http_client_close(client);
	assert_int_equal(wh_loop_run(loop), 0);
	loop = wh_loop_close(loop);
	return 0;
}

__attribute__((unused)) static struct wh_http_client_stats stats(void)
{
	struct wh_http_client_stats s;

	wh_http_client_stats(client, &s);
	return s;
}

/* ---- a scripted server ---------------------------------------------------------------------- */

/* For each connection in turn: for each step, read a request head (and its body of `body` bytes), say `say`. Then end. */
struct step {
	const char *say; /* NULL: end of this connection's steps */
	size_t body;
	bool no_request; /* do not wait for one */
	bool reset;      /* end with RST */
	bool keep;       /* leave the connection open */
};

struct script {
	const struct step *steps; /* of all connections, each ended by a step that says NULL; then one more */
	int fd;
	uint16_t port;
	pthread_t thread;
	char origin[64];
	char last_head[8192];
	int requests;
	int kept[8], kept_count;
};

static void *play(void *arg)
{
	struct script *script = arg;
	const struct step *step = script->steps;

	while (step->say) {
		int fd = accept(script->fd, NULL, NULL);
		const struct step *end;

		assert_true(fd >= 0);
		peer_be_patient(fd);
		for (; step->say; step++) {
			char *body = malloc(step->body + 1);

			if (!step->no_request) {
				peer_read_head(fd, script->last_head, sizeof(script->last_head));
				script->requests++;
			}
			peer_read(fd, body, step->body);
			free(body);
			/* the client may have left meanwhile: that is then what is tested */
			if (send(fd, step->say, strlen(step->say), MSG_NOSIGNAL) < 0)
				break;
		}
		while (step->say)
			step++;
		end = step++;
		if (end->reset)
			peer_reset(fd);
		else if (end->keep)
			script->kept[script->kept_count++] = fd;
		else
			close(fd);
	}
	return NULL;
}

__attribute__((unused)) static struct script *script_start(const struct step *steps)
{
	struct script *script = calloc(1, sizeof(*script));

	assert_non_null(script);
	script->steps = steps;
	script->fd = peer_listen();
	script->port = peer_port(script->fd);
	snprintf(script->origin, sizeof(script->origin), "127.0.0.1:%u", script->port);
	assert_int_equal(pthread_create(&script->thread, NULL, play, script), 0);
	return script;
}

__attribute__((unused)) static void script_end(struct script *script)
{
	pthread_join(script->thread, NULL);
	for (int i = 0; i < script->kept_count; i++)
		close(script->kept[i]);
	close(script->fd);
	free(script);
}

__attribute__((unused)) static wh_res ask(const char *origin, const char *method, const char *target)
{
	struct wh_http_request request = {.origin = origin, .method = method, .target = target};

	return wh_await(wh_http_request(client, &request));
}

__attribute__((unused)) static void expect_answer(wh_res res, int status, const char *body)
{
	struct wh_http_response *response = res.ptr;

	if (res.n != status)
		fail_msg("wanted %d, got %lld (%s)", status, (long long)res.n,
		         res.n < 0 ? wh_strerror(res.n) : "");
	assert_int_equal(response->status, status);
	if (body) {
		assert_int_equal(response->body.len, strlen(body));
		assert_memory_equal(response->body.data, body, strlen(body));
	}
	wh_http_response_free(response);
}

#define END                 \
	{                   \
		.say = NULL \
	}

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

#endif
