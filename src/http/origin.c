/* src/http/origin.c -- where requests go: from a URL or an address to a pool of connections.
 *
 * Thread: loop.  Memory: an origin that nobody uses goes when there are many.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "http/client.h"
#include "http/message.h"

enum { ORIGINS_MAX = 1024 /* that are kept unused */ };

/* ---- addresses ---------------------------------------------------------------------------- */

static int unix_address(const char *path, struct wh__http_origin *origin)
{
	struct sockaddr_un *address = (struct sockaddr_un *)&origin->address;
	size_t len = strlen(path);

	if (len == 0 || len >= sizeof(address->sun_path))
		return -EINVAL;
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, len + 1);
	origin->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
	return 0;
}

/* Nothing to look up: address_len says whether. */
static void numeric_address(struct wh__http_origin *origin)
{
	struct sockaddr_in *four = (struct sockaddr_in *)&origin->address;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&origin->address;

	if (inet_pton(AF_INET, origin->host, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons(origin->port);
		origin->address_len = sizeof(*four);
	} else if (inet_pton(AF_INET6, origin->host, &six->sin6_addr) == 1) {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(origin->port);
		origin->address_len = sizeof(*six);
	}
}

/* ---- the list ----------------------------------------------------------------------------- */

static void free_origin(struct wh__http_origin *origin)
{
	free(origin->alias);
	free(origin->host);
	free(origin);
}

void wh__http_origins_free(wh_http_client *client)
{
	while (client->origins) {
		struct wh__http_origin *origin = client->origins;

		client->origins = origin->next;
		free_origin(origin);
	}
}

/* The one that was used longest ago of those that nothing refers to. */
static void drop_unused(wh_http_client *client)
{
	struct wh__http_origin **unused = NULL;

	for (struct wh__http_origin **link = &client->origins; *link; link = &(*link)->next)
		if ((*link)->link_count == 0 && (*link)->call_count == 0 && (*link)->down_count == 0)
			unused = link;
	if (unused) {
		struct wh__http_origin *origin = *unused;

		*unused = origin->next;
		client->origin_count--;
		free_origin(origin);
	}
}

static struct wh__http_origin *to_front(wh_http_client *client, struct wh__http_origin **link)
{
	struct wh__http_origin *origin = *link;

	*link = origin->next;
	origin->next = client->origins;
	client->origins = origin;
	return origin;
}

static struct wh__http_origin *find(wh_http_client *client, const char *name)
{
	for (struct wh__http_origin **link = &client->origins; *link; link = &(*link)->next)
		if (strcmp((*link)->name, name) == 0)
			return to_front(client, link);
	return NULL;
}

static struct wh__http_origin *find_alias(wh_http_client *client, const char *alias)
{
	for (struct wh__http_origin **link = &client->origins; *link; link = &(*link)->next)
		if ((*link)->alias && strcmp((*link)->alias, alias) == 0)
			return to_front(client, link);
	return NULL;
}

static struct wh__http_origin *add(wh_http_client *client, const char *name, struct wh_slice host)
{
	struct wh__http_origin *origin = calloc(1, sizeof(*origin) + strlen(name) + 1);

	if (!origin)
		return NULL;
	memcpy(origin->name, name, strlen(name) + 1);
	origin->host = strndup(host.data, host.len);
	if (!origin->host) {
		free(origin);
		return NULL;
	}
	origin->client = client;
	if (client->origin_count >= ORIGINS_MAX)
		drop_unused(client);
	origin->next = client->origins;
	client->origins = origin;
	client->origin_count++;
	return origin;
}

static int find_unix(wh_http_client *client, const char *name, struct wh__http_origin **ret)
{
	struct wh__http_origin *origin = find(client, name), check = {0};
	int error;

	if (!origin) {
		error = unix_address(name + 5, &check);
		if (error != 0)
			return error;
		origin = add(client, name, (struct wh_slice){"localhost", 9});
		if (!origin)
			return -ENOMEM;
		origin->address = check.address;
		origin->address_len = check.address_len;
	}
	*ret = origin;
	return 0;
}

static int find_url(wh_http_client *client, const struct wh_http_url *url, struct wh__http_origin **ret)
{
	const struct wh__http_proxy *proxy = wh__http_proxy_for(&client->proxies, url);
	const struct wh_http_url *to = proxy ? &proxy->url : url;
	struct wh__http_origin *origin;
	char name[WH__HTTP_ORIGIN_BYTES_MAX];

	if (proxy && !url->https)
		memcpy(name, "proxy", sizeof("proxy"));
	else
		wh__http_url_origin(url, name);
	origin = find(client, name);
	if (!origin) {
		origin = add(client, name, to->host);
		if (!origin)
			return -ENOMEM;
		origin->port = to->port;
		origin->proxy = proxy;
		origin->tls = url->https;
		origin->shared = proxy && !url->https;
		numeric_address(origin);
	}
	*ret = origin;
	return 0;
}

/* ---- places ------------------------------------------------------------------------------- */

/* "host:port", "[v6]:port", "http://host:port" with nothing behind it */
static int parse_origin(const char *text, struct wh_http_url *ret)
{
	struct wh_http_url url;
	char copy[WH__HTTP_ORIGIN_BYTES_MAX];
	size_t len = strlen(text);
	int error;

	if (strstr(text, "://")) {
		error = wh_http_url_parse((struct wh_slice){text, len}, &url);
	} else {
		if (len + 8 > sizeof(copy))
			return -EINVAL;
		memcpy(copy, "http://", 7);
		memcpy(copy + 7, text, len + 1);
		error = wh_http_url_parse((struct wh_slice){copy, len + 7}, &url);
		if (error == 0)
			url.host.data = text + (url.host.data - copy - 7);
	}
	if (error != 0)
		return error;
	if (url.path.len > 0 || url.query.data || url.fragment.data || url.userinfo.data)
		return -EINVAL;
	url.path = (struct wh_slice){"", 0};
	*ret = url;
	return 0;
}

/* The user's own name for it, so that the next request need not be taken apart. */
static void keep_alias(struct wh__http_origin *origin, const char *name)
{
	if (!origin->alias && !origin->shared && !strstr(name, "://"))
		origin->alias = strdup(name); /* without memory: slower */
}

int wh__http_place_of_url(wh_http_client *client, const char *url, struct wh__http_place *ret)
{
	struct wh__http_place place = {.has_url = true};
	int error = wh_http_url_parse((struct wh_slice){url, strlen(url)}, &place.url);

	if (error == 0)
		error = find_url(client, &place.url, &place.origin);
	if (error == 0)
		*ret = place;
	return error;
}

int wh__http_place_find(wh_http_client *client, const struct wh_http_request *r, struct wh__http_place *ret)
{
	struct wh__http_place place = {.host = r->host};
	int error;

	if (r->url) {
		if (r->origin || r->target)
			return -EINVAL;
		error = wh__http_place_of_url(client, r->url, ret);
		if (error == 0)
			ret->host = r->host;
		return error;
	}
	if (!r->origin)
		return -EINVAL;
	if (strncmp(r->origin, "unix:", 5) == 0) {
		if (!place.host)
			place.host = "localhost";
		error = find_unix(client, r->origin, &place.origin);
	} else if (r->redirects_max == 0 && (place.origin = find_alias(client, r->origin)) != NULL) {
		error = 0;
	} else {
		place.has_url = true;
		error = parse_origin(r->origin, &place.url);
		if (error == 0)
			error = find_url(client, &place.url, &place.origin);
		if (error == 0)
			keep_alias(place.origin, r->origin);
	}
	if (error != 0)
		return error;
	if (!place.host && !strstr(r->origin, "://"))
		place.host = r->origin;
	*ret = place;
	return 0;
}
