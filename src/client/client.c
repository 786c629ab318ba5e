/* src/client/client.c -- a client of the call server: options, two pools of connections, the end.
 *
 * Requests that wait have connections of their own, so that thousands of them keep no submit in line.
 * Thread: loop.  Memory: a client goes when it is closed and its last ask is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"

enum { WAITS_MAX = 8192, CONNECTIONS_MAX = 64, LINE_MAX_DEFAULT = 65536 };

static const char default_server[] = "http://127.0.0.1:4480";

static int64_t or_default(int64_t value, int64_t otherwise)
{
	return value != 0 ? value : otherwise;
}

static uint32_t or_default_u32(uint32_t value, uint32_t otherwise)
{
	return value != 0 ? value : otherwise;
}

/* The origin: without a slash at its end. */
static int take_server(wh_client *client, const char *server)
{
	struct wh_http_url url;
	size_t len;

	if (!server)
		server = default_server;
	len = strlen(server);
	if (strncmp(server, "unix:", 5) == 0) {
		if (len == 5)
			return -EINVAL;
	} else {
		if (len > 0 && server[len - 1] == '/')
			len--;
		if (strstr(server, "://")) {
			int error = wh_http_url_parse((struct wh_slice){server, len}, &url);
			if (error != 0)
				return error;
			if (url.userinfo.data || url.path.len > 0 || url.query.data || url.fragment.data)
				return -EINVAL;
		} else if (len == 0 || memchr(server, '/', len)) {
			return -EINVAL;
		}
	}
	client->server = strndup(server, len);
	return client->server ? 0 : -ENOMEM;
}

/* As a field can carry it. */
static int take_token(wh_client *client, const char *token)
{
	for (const char *c = token; *c; c++)
		if (*c <= ' ' || *c > '~')
			return -EINVAL;
	client->token = *token ? strdup(token) : NULL;
	return client->token || !*token ? 0 : -ENOMEM;
}

static int open_pools(wh_client *client, const struct wh_client_options *o)
{
	struct wh_http_client_options http = {
		.user_agent = o->user_agent,
		.connections_max = or_default_u32(o->connections_max, CONNECTIONS_MAX),
		.waiting_max = or_default_u32(o->line_max, LINE_MAX_DEFAULT),
		.body_bytes_max = o->answer_bytes_max ? o->answer_bytes_max : UINT64_C(128) << 20,
		.connect_timeout_ns = o->connect_timeout_ns,
		.waiting_timeout_ns =
			-1, /* a line moves on with the answers, each of which has its time-out */
		.first_byte_timeout_ns = client->answer_timeout_ns,
		.tls_ca_file = o->ca_file,
		.tls = o->tls,
		.tls_insecure = o->tls_insecure,
	};
	int error = wh_http_client_open(client->loop, &http, &client->quick);

	if (error != 0)
		return error;
	http.connections_max = or_default_u32(o->waits_max, WAITS_MAX);
	return wh_http_client_open(client->loop, &http, &client->waits);
}

int wh_client_open(wh_loop *loop, const struct wh_client_options *options, wh_client **ret)
{
	static const struct wh_client_options defaults;
	wh_client *client = calloc(1, sizeof(*client));
	int error;

	if (!client)
		return -ENOMEM;
	if (!options)
		options = &defaults;
	client->loop = loop;
	client->references = 1;
	client->answer_timeout_ns = or_default(options->answer_timeout_ns, 30 * WH_NS_PER_S);
	client->timeout_ns = options->timeout_ns;
	client->retry_ns = or_default(options->retry_ns, 10 * WH_NS_PER_S);
	error = take_server(client, options->server);
	if (error == 0 && options->token)
		error = take_token(client, options->token);
	if (error == 0)
		error = open_pools(client, options);
	if (error != 0) {
		wh_client_close(client);
		return error;
	}
	*ret = client;
	return 0;
}

void wh__client_unref(wh_client *client)
{
	if (--client->references > 0)
		return;
	free(client->server);
	if (client->token)
		explicit_bzero(client->token, strlen(client->token));
	free(client->token);
	free(client);
}

wh_client *wh_client_close(wh_client *client)
{
	if (!client)
		return NULL;
	assert(!client->closed);
	client->closed = true;
	for (struct wh__ask *ask = client->asks; ask; ask = ask->next) {
		struct wh__op *op = ask->op;

		ask->op = NULL; /* what is pending ends, and the ask with it, once the loop turns */
		wh_cancel(ask->pending);
		if (op) {
			client->in_flight--;
			wh__op_complete(op, -ECANCELED, NULL);
		}
	}
	client->quick = wh_http_client_close(client->quick);
	client->waits = wh_http_client_close(client->waits);
	wh__client_unref(client);
	return NULL;
}

void wh_client_stats(const wh_client *client, struct wh_client_stats *ret)
{
	struct wh_http_client_stats quick, waits;

	wh_http_client_stats(client->quick, &quick);
	wh_http_client_stats(client->waits, &waits);
	*ret = (struct wh_client_stats){
		.connections = quick.connections + waits.connections,
		.connections_opened = quick.connections_opened + waits.connections_opened,
		.requests = client->requests,
		.retries = client->retries,
		.in_flight = client->in_flight,
	};
}
