/* src/http/head.c -- requests of the client on the wire: written, and written anew for another place.
 *
 * One buffer: request line, Host, then the fields that stay the same wherever the request goes (User-Agent and the user's), then what
 * depends on the way: framing, the proxy's authorization. A redirect writes a new head around the fields of the old.
 *
 * Thread: loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/client.h"
#include "http/message.h"

enum { FIXED_BYTES = 256 /* what a head has beside target, host and fields, at most */ };

static char *put(char *at, const char *text, size_t len)
{
	if (len > 0)
		memcpy(at, text, len);
	return at + len;
}

static char *put_text(char *at, const char *text)
{
	return put(at, text, strlen(text));
}

#define PUT(at, literal) put(at, literal, sizeof(literal) - 1)

/* ---- checks ------------------------------------------------------------------------------- */

static bool is_framing(struct wh_slice name)
{
	return wh_slice_equal_caseless(name, "host") || wh_slice_equal_caseless(name, "content-length") ||
	       wh_slice_equal_caseless(name, "transfer-encoding") ||
	       wh_slice_equal_caseless(name, "connection");
}

static int check_request(const struct wh_http_request *r, const char *method, const char *target,
                         const char *host)
{
	size_t method_len = strlen(method), target_len = strlen(target);

	if (method_len == 0 || !wh__http_all(method, method_len, WH__HTTP_TOKEN) ||
	    strcmp(method, "CONNECT") == 0)
		return -EINVAL;
	if ((target[0] != '/' && strcmp(target, "*") != 0) ||
	    !wh__http_all(target, target_len, WH__HTTP_TARGET))
		return -EINVAL;
	if (host && !wh__http_host_valid(host, strlen(host)))
		return -EINVAL;
	if (r->upgrade && (!*r->upgrade || !wh__http_all(r->upgrade, strlen(r->upgrade), WH__HTTP_VALUE)))
		return -EINVAL;
	for (size_t i = 0; i < r->field_count; i++) {
		struct wh_slice name = r->fields[i].name, value = r->fields[i].value;

		if (name.len == 0 || !wh__http_all(name.data, name.len, WH__HTTP_TOKEN) ||
		    !wh__http_all(value.data, value.len, WH__HTTP_VALUE) || is_framing(name) ||
		    (r->upgrade && wh_slice_equal_caseless(name, "upgrade")))
			return -EINVAL;
	}
	return 0;
}

static bool has_field(const struct wh_http_request *r, const char *name)
{
	for (size_t i = 0; i < r->field_count; i++)
		if (wh_slice_equal_caseless(r->fields[i].name, name))
			return true;
	return false;
}

/* ---- the parts ---------------------------------------------------------------------------- */

/* The request line and Host. target NULL: the URL's. */
static char *put_start(char *at, const char *method, size_t method_len, const char *target,
                       const struct wh__http_place *place)
{
	const struct wh_http_url *url = &place->url;
	char host[WH__HTTP_ORIGIN_BYTES_MAX];
	bool absolute = place->origin->shared;

	at = PUT(put(at, method, method_len), " ");
	if (!place->host || absolute)
		wh__http_url_host(url, host);
	if (absolute)
		at = put_text(PUT(at, "http://"), host);
	if (!target) {
		if (url->path.len == 0)
			at = PUT(at, "/");
		at = put(at, url->path.data, url->path.len);
		if (url->query.data)
			at = put(PUT(at, "?"), url->query.data, url->query.len);
	} else if (!absolute || strcmp(target, "*") != 0) { /* RFC 9112 section 3.2.4 */
		at = put_text(at, target);
	}
	at = PUT(at, " HTTP/1.1\r\nHost: ");
	at = put_text(at, absolute || !place->host ? host : place->host);
	return PUT(at, "\r\n");
}

static char *put_fields(char *at, const struct wh_http_request *r, const char *agent,
                        const char *authorization)
{
	if (agent)
		at = PUT(put_text(PUT(at, "User-Agent: "), agent), "\r\n");
	if (authorization)
		at = PUT(put_text(PUT(at, "Authorization: "), authorization), "\r\n");
	for (size_t i = 0; i < r->field_count; i++) {
		at = PUT(put(at, r->fields[i].name.data, r->fields[i].name.len), ": ");
		at = PUT(put(at, r->fields[i].value.data, r->fields[i].value.len), "\r\n");
	}
	if (r->upgrade)
		at = PUT(put_text(PUT(at, "Connection: Upgrade\r\nUpgrade: "), r->upgrade), "\r\n");
	return at;
}

/* What follows the fields. */
static char *put_end(char *at, const wh_http_call *call, const struct wh__http_origin *origin)
{
	enum wh_http_method method = wh__http_method_of(call->head, call->method_len);

	if (origin->shared && origin->proxy->authorization)
		at = PUT(put_text(PUT(at, "Proxy-Authorization: "), origin->proxy->authorization), "\r\n");
	if (call->body_length < 0) {
		at = PUT(at, "Transfer-Encoding: chunked\r\n");
	} else if (call->body_length > 0 || method == WH_HTTP_POST || method == WH_HTTP_PUT ||
	           method == WH_HTTP_PATCH) {
		at = PUT(at, "Content-Length: ");
		at += wh__http_decimal((uint64_t)call->body_length, at);
		at = PUT(at, "\r\n");
	}
	if (call->expects)
		at = PUT(at, "Expect: 100-continue\r\n");
	return PUT(at, "\r\n");
}

static void learn_method(wh_http_call *call)
{
	enum wh_http_method method = wh__http_method_of(call->head, call->method_len);

	call->head_request = method == WH_HTTP_HEAD;
	call->idempotent = wh__http_is_idempotent(method);
}

static size_t authorization_bytes(const struct wh__http_origin *origin)
{
	return origin->proxy && origin->proxy->authorization ? strlen(origin->proxy->authorization) : 0;
}

/* ---- whole heads -------------------------------------------------------------------------- */

static size_t fields_room(const struct wh_http_request *r, const char *agent, const char *authorization)
{
	size_t room = agent ? strlen(agent) : 0;

	room += authorization ? strlen(authorization) : 0;
	room += r->upgrade ? strlen(r->upgrade) : 0;
	for (size_t i = 0; i < r->field_count; i++)
		room += r->fields[i].name.len + r->fields[i].value.len + 4;
	return room;
}

int wh__http_head_write(wh_http_call *call, const struct wh_http_request *r,
                        const struct wh__http_place *place)
{
	const char *method = r->method ? r->method : "GET";
	const char *target = r->url ? NULL : r->target ? r->target : "/";
	const char *agent = has_field(r, "user-agent") ? NULL : call->client->user_agent;
	char *authorization = NULL, *at;
	int error = check_request(r, method, target ? target : "/", place->host);
	size_t room;

	if (error != 0)
		return error;
	if (place->url.userinfo.data && !has_field(r, "authorization")) {
		authorization = wh__http_basic(place->url.userinfo);
		if (!authorization)
			return -ENOMEM;
	}
	room = FIXED_BYTES + 2 * WH__HTTP_ORIGIN_BYTES_MAX + strlen(method) +
	       (target ? strlen(target) : place->url.path.len + place->url.query.len) +
	       (place->host ? strlen(place->host) : 0) + fields_room(r, agent, authorization) +
	       authorization_bytes(place->origin);
	call->head = at = malloc(room);
	if (!at) {
		free(authorization);
		return -ENOMEM;
	}
	call->method_len = (uint32_t)strlen(method);
	at = put_start(at, method, call->method_len, target, place);
	call->fields_at = (uint32_t)(at - call->head);
	at = put_fields(at, r, agent, authorization);
	call->fields_len = (uint32_t)(at - call->head) - call->fields_at;
	at = put_end(at, call, place->origin);
	call->head_len = (size_t)(at - call->head);
	free(authorization);
	learn_method(call);
	return 0;
}

/* ---- once more ---------------------------------------------------------------------------- */

static bool is_named(const char *line, size_t name_len, const char *const *names)
{
	struct wh_slice name = {line, name_len};

	for (; *names; names++)
		if (wh_slice_equal_caseless(name, *names))
			return true;
	return false;
}

/* The fields of the old head, without those that must not go along. */
static char *put_old_fields(char *at, const wh_http_call *call, bool get, bool foreign)
{
	static const char *const secret[] = {"authorization", "cookie", "proxy-authorization", NULL};
	static const char *const of_content[] = {"content-type",     "content-encoding", "content-language",
	                                         "content-location", "content-md5",      "digest",
	                                         "content-digest",   "repr-digest",      "last-modified",
	                                         "content-range",    "trailer",          NULL};
	const char *line = call->head + call->fields_at, *end = line + call->fields_len;

	while (line < end) {
		const char *next = (const char *)memchr(line, '\n', (size_t)(end - line)) + 1;
		size_t name = (size_t)((const char *)memchr(line, ':', (size_t)(next - line)) - line);

		if (!(foreign && is_named(line, name, secret)) && !(get && is_named(line, name, of_content)))
			at = put(at, line, (size_t)(next - line));
		line = next;
	}
	return at;
}

int wh__http_head_rewrite(wh_http_call *call, const struct wh__http_place *place, bool get, bool foreign)
{
	const char *method = get ? "GET" : call->head;
	size_t method_len = get ? 3 : call->method_len, start_len = call->fields_at;
	size_t room = FIXED_BYTES + 2 * WH__HTTP_ORIGIN_BYTES_MAX + call->head_len +
	              (place ? place->url.path.len + place->url.query.len : 0) +
	              authorization_bytes(place ? place->origin : call->origin);
	char *head = malloc(room), *at, *fields;

	if (!head)
		return -ENOMEM;
	if (place)
		at = put_start(head, method, method_len, NULL, place);
	else
		at = put(head, call->head, start_len);
	fields = at;
	at = put_old_fields(at, call, get, foreign);
	free(call->head);
	call->head = head;
	call->method_len = (uint32_t)method_len;
	call->fields_at = (uint32_t)(fields - head);
	call->fields_len = (uint32_t)(at - fields);
	if (get) {
		call->body_length = 0;
		call->expects = false;
	}
	at = put_end(at, call, place ? place->origin : call->origin);
	call->head_len = (size_t)(at - call->head);
	learn_method(call);
	return 0;
}

bool wh__http_head_connect(const struct wh__http_origin *origin, struct wh__http_chain *ret_chain,
                           size_t *ret_len)
{
	const char *authority = origin->name + sizeof("https://") - 1;
	size_t room = FIXED_BYTES + 2 * strlen(authority) + authorization_bytes(origin);
	char *start = wh__http_chain_room(ret_chain, origin->client->loop, room), *at = start;

	if (!at)
		return false;
	at = put_text(PUT(at, "CONNECT "), authority);
	at = put_text(PUT(at, " HTTP/1.1\r\nHost: "), authority);
	at = PUT(at, "\r\n");
	if (origin->proxy->authorization)
		at = PUT(put_text(PUT(at, "Proxy-Authorization: "), origin->proxy->authorization), "\r\n");
	at = PUT(at, "\r\n");
	wh__http_chain_trim(ret_chain, room - (size_t)(at - start));
	*ret_len += (size_t)(at - start);
	return true;
}
