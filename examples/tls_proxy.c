/* tls_proxy.c -- TLS in front of a server that has none: ends the encryption and passes the bytes on.
 *
 *	tls_proxy CHAIN.pem KEY.pem HOST SERVICE [PORT]
 *
 * Listens on 127.0.0.1; PORT 0 (the default): a free one, which it prints. HOST SERVICE: "localhost 8080", a name, or
 * "unix:/path" and "".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <whilst/tls.h>
#include <whilst/whilst.h>

struct proxy {
	wh_tls_context *context;
	const char *host, *service; /* of the server behind */
	int listener;
};

/* One client and its connection to the server behind. */
struct pair {
	wh_tls *front;
	int back;
};

/* Client to server, until the client ends its side; an error ends both directions. */
static int64_t inward(void *arg)
{
	struct pair *pair = arg;
	wh_loop *loop = wh_self();
	for (;;) {
		wh_res got = wh_await(wh_tls_recv_buf(pair->front));
		if (got.n < 0)
			return got.n;
		if (got.n == 0)
			return wh_shutdown(loop, pair->back, SHUT_WR);
		struct wh_buf *buf = got.ptr;
		wh_res sent = wh_await(wh_send_all(loop, pair->back, buf->data, buf->len));
		wh_buf_put(buf);
		if (sent.n < 0)
			return sent.n;
	}
}

/* Server to client. */
static int64_t outward(void *arg)
{
	struct pair *pair = arg;
	wh_loop *loop = wh_self();
	for (;;) {
		wh_res got = wh_await(wh_recv_buf(loop, pair->back));
		if (got.n < 0)
			return got.n;
		if (got.n == 0)
			return wh_await(wh_tls_shutdown(pair->front)).n;
		struct wh_buf *buf = got.ptr;
		wh_res sent = wh_await(wh_tls_send_all(pair->front, buf->data, buf->len));
		wh_buf_put(buf);
		if (sent.n < 0)
			return sent.n;
	}
}

static int64_t pass_on(wh_loop *loop, struct pair *pair)
{
	wh_group both; /* the first error cancels the other direction */
	int r = wh_group_open(loop, &both, NULL);
	if (r == 0)
		r = wh_group_go(both, inward, pair, NULL);
	if (r == 0)
		r = wh_group_go(both, outward, pair, NULL);
	int64_t ended = wh_await(wh_group_wait(both)).n;
	return r < 0 ? r : ended;
}

struct client {
	struct proxy *proxy;
	int fd;
};

static int64_t serve(void *arg)
{
	struct client client = *(struct client *)arg;
	struct proxy *proxy = client.proxy;
	wh_loop *loop = wh_self();
	struct wh_tls_problem problem;
	free(arg);
	wh_res front = wh_await(wh_tls_accept(loop, client.fd, proxy->context, &problem));
	if (front.n < 0) {
		fprintf(stderr, "tls_proxy: handshake: %s\n", wh_strerror(front.n));
		return front.n;
	}
	wh_res back = wh_await(wh_dial(loop, proxy->host, *proxy->service ? proxy->service : NULL, NULL));
	if (back.n >= 0) {
		struct pair pair = {front.ptr, (int)back.n};
		pass_on(loop, &pair);
		wh_await(wh_close(loop, pair.back));
	} else {
		fprintf(stderr, "tls_proxy: %s: %s\n", proxy->host, wh_strerror(back.n));
	}
	wh_await(wh_tls_close(front.ptr));
	return 0;
}

static int64_t accept_all(void *arg)
{
	struct proxy *proxy = arg;
	wh_loop *loop = wh_self();
	wh_group clients;
	struct wh_group_options options = {.keep_going = true};
	int r = wh_group_open(loop, &clients, &options);
	while (r == 0) {
		wh_res res = wh_await(wh_accept(loop, proxy->listener));
		if (res.n == -ECANCELED)
			break;
		if (res.n < 0) {
			wh_await(wh_sleep(loop, 100 * WH_NS_PER_MS));
			continue;
		}
		struct client *client = malloc(sizeof *client);
		if (client)
			*client = (struct client){proxy, (int)res.n};
		if (!client || wh_group_go(clients, serve, client, NULL) != 0) {
			free(client);
			wh_await(wh_close(loop, (int)res.n));
		}
	}
	wh_shield(true);
	if (r == 0)
		wh_await(wh_group_close(clients));
	wh_await(wh_close(loop, proxy->listener));
	return r;
}

static int open_proxy(wh_loop *loop, struct proxy *proxy, char **argv, uint16_t port)
{
	struct wh_tls_certificate certificate = {.chain_file = argv[1], .key_file = argv[2]};
	struct wh_tls_options options = {
		.server = true, .certificates = &certificate, .certificate_count = 1};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_storage bound;
	socklen_t len;
	address.sin_port = htons(port);
	*proxy = (struct proxy){.host = argv[3], .service = argv[4]};
	int r = wh_tls_context_open(&options, &proxy->context);
	if (r == 0)
		r = proxy->listener = wh_listen(loop, (struct sockaddr *)&address, sizeof address, NULL);
	if (r >= 0)
		r = wh_local_address(loop, proxy->listener, &bound, &len);
	if (r == 0)
		printf("listening on 127.0.0.1:%d\n", ntohs(((struct sockaddr_in *)&bound)->sin_port));
	fflush(stdout);
	return r;
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: tls_proxy CHAIN.pem KEY.pem HOST SERVICE [PORT]\n");
		return 2;
	}
	wh_loop *loop;
	struct proxy proxy;
	int r = wh_loop_open(&loop, NULL);
	if (r == 0)
		r = open_proxy(loop, &proxy, argv, (uint16_t)(argc > 5 ? atoi(argv[5]) : 0));
	if (r < 0) {
		fprintf(stderr, "tls_proxy: %s\n", wh_strerror(r));
		return 1;
	}
	wh_future server = wh_go(loop, accept_all, &proxy);
	wh_future stop[2] = {wh_signal(loop, SIGTERM), wh_signal(loop, SIGINT)};
	wh_await(wh_any(loop, stop, 2, NULL));
	wh_cancel(server);
	r = (int)wh_await(server).n;
	wh_tls_context_close(proxy.context);
	wh_loop_close(loop);
	return r == 0 ? 0 : 1;
}
