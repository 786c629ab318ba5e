/* src/http/stream.c -- exchanges that leave HTTP: upgraded, or tunnels; and interim answers.
 *
 * An upgraded exchange keeps all that it had: its place on the connection, its reads and writes with their back-pressure, its
 * calls when the client goes. Its body is simply what comes, without an end but the client's.
 *
 * Thread: loop.
 */
#include <assert.h>
#include <errno.h>
#include <llhttp.h>
#include <string.h>

#include "http/message.h"
#include "http/remote.h"

enum { STATUS_LINE = 64 };

static char *put(char *at, const char *text, size_t len)
{
	if (len > 0)
		memcpy(at, text, len);
	return at + len;
}

#define PUT(at, literal) put(at, literal, sizeof(literal) - 1)

/* ---- interim answers ---------------------------------------------------------------------- */

static bool field_valid(struct wh_http_field field)
{
	return field.name.len > 0 && wh__http_all(field.name.data, field.name.len, WH__HTTP_TOKEN) &&
	       wh__http_all(field.value.data, field.value.len, WH__HTTP_VALUE) &&
	       !wh_slice_equal_caseless(field.name, "content-length") &&
	       !wh_slice_equal_caseless(field.name, "transfer-encoding");
}

int wh_http_inform(wh_http_exchange *x, int status, const struct wh_http_field *fields, size_t count)
{
	struct wh__http_connection *c = x->connection;
	const char *reason = wh_http_reason(status);
	size_t room = STATUS_LINE + strlen(reason);
	struct wh__http_chain *chain;
	char *start, *at;

	if (x->started || x->answered)
		return -EALREADY;
	if (status < 102 || status > 199)
		return -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (!field_valid(fields[i]))
			return -EINVAL;
		room += fields[i].name.len + fields[i].value.len + 4;
	}
	if (wh__http_is_remote(x))
		return wh__http_remote_inform(x, status, fields, count);
	if (c->down || c->failed)
		return -EPIPE;
	if (x->version == 10)
		return 0; /* RFC 9110 section 15.2 */
	chain = wh__http_exchange_output(x);
	start = at = wh__http_chain_room(chain, c->server->loop, room);
	if (!at)
		return -ENOMEM;
	at = PUT(at, "HTTP/1.1 ");
	at += wh__http_decimal((uint64_t)status, at);
	at = PUT(at, " ");
	at = PUT(put(at, reason, strlen(reason)), "\r\n");
	for (size_t i = 0; i < count; i++) {
		at = PUT(put(at, fields[i].name.data, fields[i].name.len), ": ");
		at = PUT(put(at, fields[i].value.data, fields[i].value.len), "\r\n");
	}
	at = PUT(at, "\r\n");
	wh__http_chain_trim(chain, room - (size_t)(at - start));
	c->output_bytes += (size_t)(at - start);
	wh__http_server_mark(c);
	return 0;
}

/* ---- upgrades ----------------------------------------------------------------------------- */

static bool is_connect(const wh_http_exchange *x)
{
	return x->token == HTTP_CONNECT;
}

/* "websocket/13" names "websocket". */
static bool names(struct wh_slice element, const char *protocol)
{
	size_t len = strlen(protocol);

	if (element.len > len && element.data[len] == '/')
		element.len = len;
	return wh_slice_equal_caseless(element, protocol);
}

static bool list_names(struct wh_slice list, const char *protocol)
{
	const char *at = list.data, *end = list.data + list.len;

	while (at < end) {
		const char *comma = memchr(at, ',', (size_t)(end - at)), *stop = comma ? comma : end;

		while (at < stop && (*at == ' ' || *at == '\t'))
			at++;
		while (stop > at && (stop[-1] == ' ' || stop[-1] == '\t'))
			stop--;
		if (names((struct wh_slice){at, (size_t)(stop - at)}, protocol))
			return true;
		at = comma ? comma + 1 : end;
	}
	return false;
}

bool wh_http_asks_upgrade(const wh_http_exchange *x, const char *protocol)
{
	if (wh__http_is_remote(x))
		return -ENOSYS;
	if (!x->may_upgrade || is_connect(x))
		return false;
	for (size_t i = 0; i < wh_http_field_count(x); i++) {
		struct wh_http_field field = wh_http_field(x, i);

		if (wh_slice_equal_caseless(field.name, "upgrade") && list_names(field.value, protocol))
			return true;
	}
	return false;
}

static bool put_head(wh_http_exchange *x, const char *protocol)
{
	struct wh__http_connection *c = x->connection;
	size_t protocol_len = protocol ? strlen(protocol) : 0;
	size_t room = 4 * STATUS_LINE + x->fields_len + protocol_len;
	char *start = wh__http_chain_room(&c->output, c->server->loop, room), *at = start;

	if (!at)
		return false;
	if (protocol) {
		at = PUT(at, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ");
		at = PUT(put(at, protocol, protocol_len), "\r\n");
	} else {
		at = PUT(at, "HTTP/1.1 200 OK\r\n");
	}
	if (!x->date_set)
		at = put(at, wh__http_server_date(c->server), WH__HTTP_DATE_LINE);
	at = PUT(put(at, x->fields, x->fields_len), "\r\n");
	wh__http_chain_trim(&c->output, room - (size_t)(at - start));
	c->output_bytes += (size_t)(at - start);
	return true;
}

int wh_http_upgrade(wh_http_exchange *x, const char *protocol)
{
	struct wh__http_connection *c = x->connection;

	if (x->started || x->answered)
		return -EALREADY;
	if (!x->may_upgrade || !x->body_done || x->stage != WH__HTTP_STAGE_HANDED ||
	    is_connect(x) != !protocol ||
	    (protocol && !wh__http_all(protocol, strlen(protocol), WH__HTTP_VALUE)))
		return -EINVAL;
	if (protocol && x->head && !wh_http_asks_upgrade(x, protocol))
		return -EINVAL; /* RFC 9110 section 7.8: only to what the client named */
	if (c->down || c->failed)
		return -EPIPE;
	assert(c->first == x && c->last == x && !c->reading); /* nothing is read behind it */
	if (!put_head(x, protocol))
		return -ENOMEM;
	x->started = true;
	x->stream = true;
	x->reply_left = WH_HTTP_CHUNKED;
	x->mode = WH__HTTP_MODE_STREAM;
	x->chunked_body = false;
	x->body_left = x->body_max = UINT64_MAX;
	x->body_seen = 0;
	x->body_done = c->eof && !c->input;
	c->no_more = true;
	if (!x->body_done)
		c->reading = x;
	wh__http_server_mark(c);
	return 0;
}

void wh_http_shutdown(wh_http_exchange *x)
{
	if (wh__http_is_remote(x) || !x->stream || x->answered || x->connection->down)
		return;
	x->shut = true;
	wh__http_server_mark(x->connection);
}

void wh__http_stream_over(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;
	struct wh__op *read = x->read;

	x->body_done = true;
	x->read = NULL;
	c->reading = NULL;
	if (read)
		wh__op_complete(read, 0, NULL);
	wh__http_exchange_reap(x);
}
