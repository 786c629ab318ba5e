/* service.c -- one of the small services that a registration is made of: does its step for a user, whoever asks.
 *
 *   registration_service SERVER NAME LEDGER
 *
 * The same step in two ways: as an ordinary HTTP service behind the gateway of SERVER, which answers when the step is done; and as a
 * subscriber of the topic "registration", a worker for the queue of its subscription. Each step that is done is a line of the file LEDGER. Runs until SIGTERM.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <whilst/client.h>

#define STEP_NS (10 * WH_NS_PER_MS) /* what a step takes */

struct service {
	wh_loop *loop;
	wh_client *client;
	wh_worker *worker;
	wh_http_server *http;
	FILE *ledger;
};

/* The step itself. Whoever is told that it is done can rely on the line; written twice it counts once. */
static void note(struct service *s, struct wh_slice user)
{
	fprintf(s->ledger, "%.*s\n", (int)user.len, user.data);
	fflush(s->ledger);
}

/* ---- asked, with the caller waiting -------------------------------------------------------- */

static void on_step_done(wh_loop *loop, wh_res res, void *arg)
{
	wh_http_exchange *x = arg;

	(void)loop;
	if (res.n < 0) {
		wh_http_problem(x, 503, "the service ends");
		return;
	}
	note(wh_http_arg(x), wh_http_body(x));
	wh_http_respond(x, 200, "done\n", 5);
}

static void on_request(wh_http_exchange *x, void *arg)
{
	struct service *s = arg;

	wh_http_set_arg(x, s);
	if (wh_http_retain(x) < 0 || wh_then(wh_sleep(s->loop, STEP_NS), on_step_done, x) < 0)
		wh_http_problem(x, 503, NULL);
}

static int serve(struct service *s, const char *name)
{
	struct wh_http_server_options options = {0};
	struct wh_service_settings settings = {0};
	struct sockaddr_in address = {0};
	socklen_t len = sizeof(address);
	char url[64];
	int fd, error;

	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	options.on_request = on_request;
	options.arg = s;
	fd = wh_listen(s->loop, (struct sockaddr *)&address, sizeof(address), NULL);
	if (fd < 0)
		return fd;
	if (getsockname(fd, (struct sockaddr *)&address, &len) < 0)
		return -1;
	error = wh_http_server_open(s->loop, &options, &s->http);
	if (error == 0)
		error = wh_http_server_listen(s->http, fd);
	if (error < 0)
		return error;
	snprintf(url, sizeof(url), "http://127.0.0.1:%u", ntohs(address.sin_port));
	settings.url = url;
	error = (int)wh_await(wh_client_service_put(s->client, name, &settings, NULL)).n;
	return error < 0 ? error : 0;
}

/* ---- reacting to an event ------------------------------------------------------------------ */

static void on_event(wh_worker_job *job, const struct wh_leased *leased, void *arg)
{
	struct service *s = arg;

	if (wh_await(wh_sleep(s->loop, STEP_NS)).n < 0) {
		wh_await(wh_worker_release(job, 0));
		return;
	}
	note(s, leased->payload);
	wh_await(wh_worker_complete(job, 200, NULL));
}

static int react(struct service *s, const char *name)
{
	struct wh_subscription subscription = {0};
	struct wh_worker_options options = {0};
	char queue[128];
	int64_t error;

	/* It says itself what it wants to know. A service that is started again finds its subscription, and what came meanwhile. */
	snprintf(queue, sizeof(queue), "registration/%s", name);
	subscription.queue = queue;
	subscription.filters = "[{\"exact\":{\"type\":\"user.registered\"}}]";
	error = wh_await(wh_client_subscribe(s->client, "registration", name, &subscription, NULL)).n;
	if (error < 0)
		return (int)error;
	options.queue = queue;
	options.jobs_max = 4;
	options.on_job = on_event;
	options.arg = s;
	options.task = true;
	return wh_worker_open(s->client, &options, &s->worker);
}

int main(int argc, char **argv)
{
	struct wh_client_options options = {0};
	struct service s = {0};
	int error;

	if (argc != 4) {
		fprintf(stderr, "usage: registration_service SERVER NAME LEDGER\n");
		return 2;
	}
	s.ledger = fopen(argv[3], "a");
	if (!s.ledger) {
		perror(argv[3]);
		return 1;
	}
	options.server = argv[1];
	error = wh_loop_open(&s.loop, NULL);
	if (error == 0)
		error = wh_client_open(s.loop, &options, &s.client);
	if (error == 0)
		error = serve(&s, argv[2]);
	if (error == 0)
		error = react(&s, argv[2]);
	if (error == 0) {
		printf("ready\n");
		fflush(stdout);
		wh_await(wh_signal(s.loop, SIGTERM));
		wh_await(wh_worker_drain(s.worker));
	} else {
		fprintf(stderr, "%s: %s\n", argv[2], wh_strerror(error));
	}
	wh_worker_close(s.worker);
	wh_http_server_close(s.http);
	wh_client_close(s.client);
	wh_loop_close(s.loop);
	fclose(s.ledger);
	return error < 0;
}
