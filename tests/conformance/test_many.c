/* tests/conformance/test_many.c -- a thousand connections at once, each echoing. */
#include "conformance.h"

#include <sys/resource.h>

enum { CONNECTIONS = 1000, MESSAGES = 20 };

struct peer {
	int fd, messages;
	char out[64], in[64];
	bool is_server;
};

static struct peer servers[CONNECTIONS], clients[CONNECTIONS];
static int finished_count, accepted_count, failed_count, listener;

static void on_received(wh_loop *l, wh_res res, void *arg);

static void on_sent(wh_loop *l, wh_res res, void *arg)
{
	struct peer *peer = arg;
	if (res.n != 64)
		failed_count++;
	if (peer->is_server)
		wh_then(wh_recv(l, peer->fd, peer->in, 64), on_received, peer);
}

static void send_next(wh_loop *l, struct peer *client)
{
	memset(client->out, 'a' + client->messages, sizeof client->out);
	wh_then(wh_send_all(l, client->fd, client->out, 64), on_sent, client);
	wh_then(wh_recv(l, client->fd, client->in, 64), on_received, client);
}

static void on_received(wh_loop *l, wh_res res, void *arg)
{
	struct peer *peer = arg;
	if (peer->is_server) {
		if (res.n == 64) {
			memcpy(peer->out, peer->in, 64);
			wh_then(wh_send_all(l, peer->fd, peer->out, 64), on_sent, peer);
			return;
		}
		failed_count += res.n != 0;
		finished_count++;
		wh_drop(wh_close(l, peer->fd));
		return;
	}
	failed_count += res.n != 64 || memcmp(peer->in, peer->out, 64) != 0;
	if (++peer->messages < MESSAGES) {
		send_next(l, peer);
		return;
	}
	finished_count++;
	wh_drop(wh_close(l, peer->fd));
}

static void on_accepted(wh_loop *l, wh_res res, void *arg)
{
	struct peer *peer = &servers[accepted_count++];
	if (res.n < 0) {
		failed_count++;
		return;
	}
	*peer = (struct peer){.fd = (int)res.n, .is_server = true};
	wh_then(wh_recv(l, peer->fd, peer->in, 64), on_received, peer);
	if (accepted_count < CONNECTIONS)
		wh_then(wh_accept(l, listener), on_accepted, NULL);
}

static void on_connected(wh_loop *l, wh_res res, void *arg)
{
	struct peer *client = arg;
	if (res.n < 0) {
		failed_count++;
		return;
	}
	client->fd = (int)res.n;
	send_next(l, client);
}

static int open_wide_loop(void **state)
{
	/* blocked operations of the threads engine are threads, and both sides live here */
	struct wh_loop_options options = {.socket_threads_max = 4 * CONNECTIONS};
	return wh_loop_open(&loop, &options);
}

static void a_thousand_connections_echo(void **state)
{
	struct sockaddr_in address;
	struct rlimit files;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
	files.rlim_cur = files.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < 2 * CONNECTIONS + 100)
		skip();
	listener = listen_tcp(&address);
	wh_then(wh_accept(loop, listener), on_accepted, NULL);
	for (int i = 0; i < CONNECTIONS; i++)
		wh_then(wh_connect(loop, (struct sockaddr *)&address, sizeof address), on_connected,
		        &clients[i]);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(failed_count, 0);
	assert_int_equal(finished_count, 2 * CONNECTIONS);
	close_fd(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_thousand_connections_echo, open_wide_loop, close_loop),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
