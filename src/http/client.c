/* src/http/client.c -- the HTTP client: options, time-outs, the end.
 *
 * Thread: loop.  Memory: a client goes when it is closed, its connections are closed, and its calls are.
 */
#include "http/client.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/message.h"

/* ---- time --------------------------------------------------------------------------------- */

void wh__http_client_node_remove(wh_http_client *client, struct wh__http_client_node *node)
{
	wh__http_deadlines_remove(&client->deadlines, &node->hang);
}

static int64_t look(struct wh__http_deadline *hang, int64_t now)
{
	struct wh__http_client_node *node = (struct wh__http_client_node *)(void *)hang;
	int64_t at;

	if (node->is_call) {
		wh_http_call *call = (wh_http_call *)(void *)node;

		at = wh__http_call_deadline(call);
		if (call->link)
			wh__http_link_receive(call->link);
		if (at <= now && call->withheld &&
		    (call->total_ns <= 0 || call->started_at + call->total_ns > now)) {
			call->references++; /* without memory it fails, and would be gone */
			wh__http_call_proceed(call);
			at = call->ended ? INT64_MAX : wh__http_call_deadline(call);
			wh__http_call_unref(call);
		} else if (at <= now) {
			wh__http_call_fail(call, -ETIMEDOUT);
		}
	} else {
		struct wh__http_link *link = (struct wh__http_link *)(void *)node;
		int64_t idle_ns = link->origin->client->options.idle_timeout_ns;

		at = idle_ns < 0 ? INT64_MAX : link->idle_since + idle_ns;
		if (at <= now)
			wh__http_link_close(link);
	}
	return at > now ? at : INT64_MAX;
}

/* ---- open and close ----------------------------------------------------------------------- */

static void free_client(wh_http_client *client)
{
	assert(!client->links && !client->calls);
	wh__http_origins_free(client);
	wh__http_proxies_clear(&client->proxies);
	if (client->owns_tls)
		wh_tls_context_close(client->tls);
	free(client->user_agent);
	free(client);
}

static void timer_ended(void *arg)
{
	wh_http_client *client = arg;

	if (client->closed && client->references == 0)
		free_client(client);
}

void wh__http_client_release(wh_http_client *client)
{
	assert(client->references > 0);
	if (--client->references > 0)
		return;
	assert(client->closed);
	if (!wh__http_deadlines_stop(&client->deadlines))
		free_client(client);
}

static void default_u32(uint32_t *value, uint32_t otherwise)
{
	if (*value == 0)
		*value = otherwise;
}

static void default_timeout(int64_t *value, int64_t otherwise, int64_t *shortest)
{
	if (*value == 0)
		*value = otherwise;
	if (*value > 0 && *value < *shortest)
		*shortest = *value;
}

/* The shortest time-out is the result. */
static int64_t set_defaults(struct wh_http_client_options *o)
{
	int64_t shortest = 10 * WH_NS_PER_S;

	default_u32(&o->connections_max, 256);
	default_u32(&o->waiting_max, 16384);
	default_u32(&o->idle_max, 64);
	default_u32(&o->head_bytes_max, 64 * 1024);
	default_u32(&o->fields_max, WH__HTTP_FIELDS_MAX);
	if (o->body_bytes_max == 0)
		o->body_bytes_max = 64 * 1024 * 1024;
	default_timeout(&o->connect_timeout_ns, 10 * WH_NS_PER_S, &shortest);
	default_timeout(&o->send_timeout_ns, 30 * WH_NS_PER_S, &shortest);
	default_timeout(&o->first_byte_timeout_ns, 60 * WH_NS_PER_S, &shortest);
	default_timeout(&o->read_timeout_ns, 30 * WH_NS_PER_S, &shortest);
	default_timeout(&o->idle_timeout_ns, 4 * WH_NS_PER_S, &shortest);
	default_timeout(&o->waiting_timeout_ns, 10 * WH_NS_PER_S, &shortest);
	default_timeout(&o->tls_timeout_ns, 10 * WH_NS_PER_S, &shortest);
	default_timeout(&o->proxy_timeout_ns, 10 * WH_NS_PER_S, &shortest);
	default_timeout(&o->total_timeout_ns, -1, &shortest);
	if (o->continue_timeout_ns == 0)
		o->continue_timeout_ns =
			WH_NS_PER_S; /* announced when it begins, so the ring need not turn faster */
	return shortest;
}

static int make_tls(wh_http_client *client)
{
	const struct wh_http_client_options *o = &client->options;
	struct wh_tls_certificate own = {.chain_file = o->tls_certificate_file, .key_file = o->tls_key_file};
	struct wh_tls_options options = {
		.verify = o->tls_insecure ? WH_TLS_VERIFY_NONE : WH_TLS_VERIFY_REQUIRED,
		.ca_file = o->tls_ca_file,
		.ca_dir = o->tls_ca_dir,
		.certificates = &own,
		.certificate_count = o->tls_certificate_file != NULL,
		.alpn = "http/1.1",
		/* the client's own time-out of the stage ends it */
		.handshake_timeout_ns = INT64_MAX / 4,
	};
	int error = wh_tls_context_open(&options, &client->tls);

	client->owns_tls = error == 0;
	return error;
}

/* Files are read when the client is opened, if there are any to be read; what the system trusts at the first need. */
static int set_tls(wh_http_client *client)
{
	const struct wh_http_client_options *o = &client->options;

	client->tls = o->tls;
	if (!o->tls && o->tls_key_file && !o->tls_certificate_file)
		return -EINVAL; /* of what? it would be left out in silence */
	if (o->tls || (!o->tls_ca_file && !o->tls_ca_dir && !o->tls_certificate_file && !o->tls_insecure))
		return 0;
	return make_tls(client);
}

int wh__http_client_tls(wh_http_client *client, wh_tls_context **ret)
{
	int error = client->tls ? 0 : make_tls(client);

	if (error == 0)
		*ret = client->tls;
	return error;
}

static int set_proxies(struct wh__http_proxies *proxies, const struct wh_http_client_options *o)
{
	int error = 0;

	if (o->proxy) {
		error = wh__http_proxy_set(&proxies->http, o->proxy);
		if (error == 0)
			error = wh__http_proxy_set(&proxies->https, o->proxy);
	}
	if (error == 0 && o->no_proxy) {
		proxies->exceptions = strdup(o->no_proxy);
		if (!proxies->exceptions)
			error = -ENOMEM;
	}
	if (error == 0 && o->proxy_from_environment)
		error = wh__http_proxies_from_environment(proxies);
	return error;
}

int wh_http_client_open(wh_loop *loop, const struct wh_http_client_options *options, wh_http_client **ret)
{
	wh_http_client *client = calloc(1, sizeof(*client));
	struct wh_http_client_options *o;
	int64_t shortest;
	int error;

	if (!client)
		return -ENOMEM;
	client->loop = loop;
	if (options && options->user_agent &&
	    !wh__http_all(options->user_agent, strlen(options->user_agent), WH__HTTP_VALUE)) {
		free(client);
		return -EINVAL;
	}
	o = &client->options;
	if (options)
		*o = *options;
	if (o->user_agent)
		client->user_agent = strdup(o->user_agent);
	error = o->user_agent && !client->user_agent ? -ENOMEM : set_proxies(&client->proxies, o);
	if (error == 0)
		error = set_tls(client);
	if (error != 0) {
		wh__http_proxies_clear(&client->proxies);
		free(client->user_agent);
		free(client);
		return error;
	}
	o->user_agent = o->proxy = o->no_proxy = NULL; /* the copies are what counts */
	o->tls_ca_file = o->tls_ca_dir = o->tls_certificate_file = o->tls_key_file = NULL;
	shortest = set_defaults(o);
	client->limits = (struct wh__http_limits){
		.head_bytes_max = o->head_bytes_max, .target_bytes_max = 8192, .fields_max = o->fields_max};
	wh__http_deadlines_init(&client->deadlines, loop, shortest, look, timer_ended, client);
	client->deadlines.background = true; /* whoever waits for a call is what keeps the loop running */
	client->references = 1;
	*ret = client;
	return 0;
}

wh_http_client *wh_http_client_close(wh_http_client *client)
{
	if (!client)
		return NULL;
	assert(!client->closed);
	client->closed = true;
	for (wh_http_call *call = client->calls, *next; call; call = next) {
		next = call->next;
		wh__http_call_fail(call, -ECANCELED);
	}
	for (struct wh__http_link *link = client->links, *next; link; link = next) {
		next = link->next;
		wh__http_link_close(link);
	}
	wh__http_client_release(client);
	return NULL;
}

void wh_http_client_stats(const wh_http_client *client, struct wh_http_client_stats *ret)
{
	*ret = client->stats;
}
