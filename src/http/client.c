/* src/http/client.c -- the HTTP client: options, origins, time-outs, the end.
 *
 * Thread: loop.  Memory: a client goes when it is closed, its connections are closed, and its calls are.
 */
#include "http/client.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

/* ---- origins ------------------------------------------------------------------------------ */

static bool parse_port(const char *text, uint16_t *ret)
{
	unsigned port = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		port = port * 10 + (unsigned)(*text - '0');
		if (port > 65535)
			return false;
	}
	*ret = htons((uint16_t)port);
	return port > 0;
}

static int unix_address(const char *path, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_un *address = (struct sockaddr_un *)ret;
	size_t len = strlen(path);

	if (len == 0 || len >= sizeof(address->sun_path))
		return -EINVAL;
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, len + 1);
	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	return 0;
}

static int ip_address(const char *host, const char *port, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_in *four = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)ret;
	uint16_t number = htons(80);

	if (port && !parse_port(port, &number))
		return -EINVAL;
	if (inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = number;
		*ret_len = sizeof(*four);
		return 0;
	}
	if (inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
		six->sin6_family = AF_INET6;
		six->sin6_port = number;
		*ret_len = sizeof(*six);
		return 0;
	}
	return -EADDRNOTAVAIL; /* a name */
}

static int parse_origin(const char *name, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	char host[256];
	const char *rest;
	size_t len;

	memset(ret, 0, sizeof(*ret));
	if (strncmp(name, "unix:", 5) == 0)
		return unix_address(name + 5, ret, ret_len);
	if (name[0] == '[') {
		rest = strchr(name, ']');
		if (!rest)
			return -EINVAL;
		name++;
		len = (size_t)(rest - name);
		rest++;
	} else {
		len = strcspn(name, ":");
		rest = name + len;
	}
	if (len == 0 || len >= sizeof(host) || (*rest && *rest != ':'))
		return -EINVAL;
	memcpy(host, name, len);
	host[len] = 0;
	return ip_address(host, *rest ? rest + 1 : NULL, ret, ret_len);
}

int wh__http_origin_find(wh_http_client *client, const char *name, struct wh__http_origin **ret)
{
	struct wh__http_origin *origin, **link;
	struct sockaddr_storage address;
	socklen_t address_len;
	int error;

	for (link = &client->origins; *link; link = &(*link)->next) {
		if (strcmp((*link)->name, name) != 0)
			continue;
		origin = *link; /* to the front: a client usually talks to few */
		*link = origin->next;
		origin->next = client->origins;
		client->origins = origin;
		*ret = origin;
		return 0;
	}
	error = parse_origin(name, &address, &address_len);
	if (error != 0)
		return error;
	origin = calloc(1, sizeof(*origin) + strlen(name) + 1);
	if (!origin)
		return -ENOMEM;
	memcpy(origin->name, name, strlen(name) + 1);
	origin->client = client;
	origin->address = address;
	origin->address_len = address_len;
	origin->next = client->origins;
	client->origins = origin;
	*ret = origin;
	return 0;
}

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
		if (at <= now)
			wh__http_call_fail(call, -ETIMEDOUT);
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
	while (client->origins) {
		struct wh__http_origin *origin = client->origins;

		client->origins = origin->next;
		free(origin);
	}
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

int wh_http_client_open(wh_loop *loop, const struct wh_http_client_options *options, wh_http_client **ret)
{
	wh_http_client *client = calloc(1, sizeof(*client));
	struct wh_http_client_options *o;
	int64_t shortest = 10 * WH_NS_PER_S;

	if (!client)
		return -ENOMEM;
	client->loop = loop;
	o = &client->options;
	if (options)
		*o = *options;
	if (o->user_agent) {
		client->user_agent = strdup(o->user_agent);
		if (!client->user_agent) {
			free(client);
			return -ENOMEM;
		}
	}
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
	client->limits = (struct wh__http_limits){
		.head_bytes_max = o->head_bytes_max, .target_bytes_max = 8192, .fields_max = o->fields_max};
	wh__http_deadlines_init(&client->deadlines, loop, shortest, look, timer_ended, client);
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
