/* src/http/answer.c -- answers: fields, whole ones, ones in pieces, the server's own refusals.
 *
 * Nothing is sent from here: bytes go to the chain of the connection, or of the exchange while it is not first in
 * line, and leave when the connection is settled.
 *
 * Thread: loop.
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/message.h"
#include "http/remote.h"
#include "http/threads.h"
#include "http/writes.h"

enum {
	FIELDS_MAX = 32 * 1024, /* a power of two: struct wh_http_exchange has 16 bits for it */
	HEAD_EXTRA = 256,       /* status line, Date, framing, Connection: what a head has beside fields */
	COPY_MAX = 1024, /* a body up to here is copied beside its head rather than sent from where it is */
	PROBLEM_MAX = 1024,
};

/* ---- fields ------------------------------------------------------------------------------- */

static bool is_framing(struct wh_slice name)
{
	switch (name.len) {
	case 10:
		return WH__HTTP_IS(name.data, 10, "connection");
	case 14:
		return WH__HTTP_IS(name.data, 14, "content-length");
	case 17:
		return WH__HTTP_IS(name.data, 17, "transfer-encoding");
	default:
		return false;
	}
}

/* Names that differ have different bits mostly, so that a field that is set for the first time is told without looking
 * at the others. */
static uint64_t name_bit(struct wh_slice name)
{
	unsigned first = (unsigned char)name.data[0] | 0x20,
		 last = (unsigned char)name.data[name.len - 1] | 0x20;

	return UINT64_C(1) << ((first * 5 + last * 3 + name.len) & 63);
}

bool wh__http_answer_reserve(wh_http_exchange *x, size_t len)
{
	size_t need = x->fields_len + len, cap = x->fields_cap ? x->fields_cap : 256;
	char *fields;

	if (need <= x->fields_cap)
		return true;
	while (cap < need)
		cap *= 2;
	fields = realloc(x->fields, cap);
	if (!fields)
		return false;
	x->fields = fields;
	x->fields_cap = (uint16_t)cap;
	return true;
}

static void remove_field(wh_http_exchange *x, struct wh_slice name)
{
	for (char *line = x->fields, *end = x->fields + x->fields_len; line < end;) {
		char *next = (char *)memchr(line, '\n', (size_t)(end - line)) + 1;
		struct wh_slice present = {line,
		                           (size_t)((char *)memchr(line, ':', (size_t)(next - line)) - line)};

		if (present.len == name.len && strncasecmp(present.data, name.data, name.len) == 0) {
			memmove(line, next, (size_t)(end - next));
			x->fields_len = (uint16_t)(x->fields_len - (next - line));
			end -= next - line;
		} else {
			line = next;
		}
	}
}

/* What is not valid must not take out the present one, what finds no room may: the answer lacks it either way, and without memory there
 * will be none. */
static int add_field(wh_http_exchange *x, struct wh_slice name, struct wh_slice value, bool replace)
{
	uint64_t bit;
	char *at;

	if (x->started || x->answered)
		return -EALREADY;
	if (name.len == 0 || !wh__http_all(name.data, name.len, WH__HTTP_TOKEN) ||
	    !wh__http_value(value.data, value.len) || is_framing(name))
		return -EINVAL;
	bit = name_bit(name);
	if (replace && (x->fields_names & bit) && x->fields_len > 0)
		remove_field(x, name);
	if (name.len + value.len + 4 > (size_t)FIELDS_MAX - x->fields_len)
		return -E2BIG;
	if (!wh__http_answer_reserve(x, name.len + value.len + 4)) {
		x->lacks_field = true;
		return -ENOMEM;
	}
	at = x->fields + x->fields_len;
	memcpy(at, name.data, name.len);
	memcpy(at + name.len, ": ", 2);
	if (value.len > 0)
		memcpy(at + name.len + 2, value.data, value.len);
	memcpy(at + name.len + 2 + value.len, "\r\n", 2);
	x->fields_len = (uint16_t)(x->fields_len + name.len + value.len + 4);
	x->fields_names |= bit;
	if (name.len == 4 && wh_slice_equal_caseless(name, "date"))
		x->date_set = true;
	return 0;
}

int wh_http_add_slice(wh_http_exchange *x, struct wh_slice name, struct wh_slice value)
{
	return add_field(x, name, value, false);
}

int wh_http_set_slice(wh_http_exchange *x, struct wh_slice name, struct wh_slice value)
{
	return add_field(x, name, value, true);
}

int wh_http_set(wh_http_exchange *x, const char *name, const char *value)
{
	return wh_http_set_slice(x, (struct wh_slice){name, strlen(name)},
	                         (struct wh_slice){value, strlen(value)});
}

int wh_http_add(wh_http_exchange *x, const char *name, const char *value)
{
	return wh_http_add_slice(x, (struct wh_slice){name, strlen(name)},
	                         (struct wh_slice){value, strlen(value)});
}

int wh_http_setf(wh_http_exchange *x, const char *name, const char *format, ...)
{
	char text[1024], *value = text;
	va_list list;
	int len, result;

	va_start(list, format);
	len = vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	if (len < 0)
		return -EINVAL;
	if ((size_t)len >= sizeof(text)) {
		value = malloc((size_t)len + 1);
		if (!value) {
			x->lacks_field = true;
			return -ENOMEM;
		}
		va_start(list, format);
		(void)vsnprintf(value, (size_t)len + 1, format, list);
		va_end(list);
	}
	result = wh_http_set_slice(x, (struct wh_slice){name, strlen(name)},
	                           (struct wh_slice){value, (size_t)len});
	if (value != text)
		free(value);
	return result;
}

void wh_http_close_after(wh_http_exchange *x)
{
	x->close_after = true;
}

/* ---- heads -------------------------------------------------------------------------------- */

static char *put(char *at, const char *text, size_t len)
{
	memcpy(at, text, len);
	return at + len;
}

#define PUT(at, literal) put(at, literal, sizeof(literal) - 1)

/* The rest of a body that nobody has read: short enough to be read over, or the connection must end. */
static void decide_unread(wh_http_exchange *x)
{
	if (x->body_done)
		return;
	if (!x->chunked_body && !x->expects && x->body_left <= WH__HTTP_DISCARD_MAX)
		return;
	x->close_after = true;
	x->connection->linger = true;
}

static void decide_close(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;

	if (!x->keep_alive || (c->server->draining && c->last == x))
		x->close_after = true;
	if (x->close_after && c->last == x)
		c->no_more = true;
	if (x->close_after && !x->body_done)
		c->linger = true; /* closing on unread bytes would take the answer from the client */
}

static char *put_status(char *at, int status)
{
	const char *reason = wh_http_reason(status);

	if (status == 200)
		return PUT(at, "HTTP/1.1 200 OK\r\n");
	at = PUT(at, "HTTP/1.1 ");
	at += wh__http_decimal((uint64_t)status, at);
	*at++ = ' ';
	at = put(at, reason, strlen(reason));
	return PUT(at, "\r\n");
}

static char *put_framing(wh_http_exchange *x, char *at, int status, int64_t length)
{
	if (status == 204 || status == 304) {
		; /* RFC 9110 section 8.6 */
	} else if (length >= 0) {
		at = PUT(at, "Content-Length: ");
		at += wh__http_decimal((uint64_t)length, at);
		at = PUT(at, "\r\n");
	} else if (x->chunk_reply) {
		at = PUT(at, "Transfer-Encoding: chunked\r\n");
	}
	if (x->close_after)
		at = PUT(at, "Connection: close\r\n");
	else if (x->version == 10)
		at = PUT(at, "Connection: keep-alive\r\n");
	return at;
}

/* false: no memory; the connection fails. */
static bool put_head(wh_http_exchange *x, int status, int64_t length)
{
	struct wh__http_connection *c = x->connection;
	struct wh__http_chain *chain = wh__http_exchange_output(x);
	wh_http_server *server = c->server;
	size_t name_len = server->options.server_name ? strlen(server->options.server_name) : 0;
	size_t room = HEAD_EXTRA + x->fields_len + name_len;
	char *start, *at;

	assert(!x->started && !x->answered && status >= 200 && status <= 599);
	x->started = true;
	x->reply_left = length;
	x->no_body = x->method == WH_HTTP_HEAD || status == 204 || status == 304;
	x->chunk_reply = length < 0 && x->version != 10;
	x->until_close = length < 0 && x->version == 10 && !x->no_body;
	x->close_after |= x->until_close;
	decide_close(x);
	start = at = x->lacks_field ? NULL : wh__http_chain_room(chain, server->loop, room);
	if (!at) {
		wh__http_connection_fail(c, true);
		return false;
	}
	at = put_status(at, status);
	if (!x->date_set)
		at = put(at, wh__http_server_date(server), WH__HTTP_DATE_LINE);
	if (name_len > 0) {
		at = PUT(at, "Server: ");
		at = put(at, server->options.server_name, name_len);
		at = PUT(at, "\r\n");
	}
	if (x->fields_len > 0)
		at = put(at, x->fields, x->fields_len);
	at = put_framing(x, at, status, length);
	at = PUT(at, "\r\n");
	wh__http_chain_trim(chain, room - (size_t)(at - start));
	c->output_bytes += (size_t)(at - start);
	return true;
}

static bool is_gone(const wh_http_exchange *x)
{
	return x->connection->down;
}

/* ---- whole answers ------------------------------------------------------------------------ */

void wh_http_respond(wh_http_exchange *x, int status, const void *body, size_t len)
{
	struct wh__http_connection *c = x->connection;

	if (wh__http_is_remote(x)) {
		wh__http_remote_respond(x, status, body, len);
		return;
	}
	if (!is_gone(x)) {
		decide_unread(x);
		if (put_head(x, status, (int64_t)len) && !x->no_body) {
			c->output_bytes += len;
			if (!wh__http_chain_copy(wh__http_exchange_output(x), c->server->loop, body, len))
				wh__http_connection_fail(c, true);
		}
	}
	wh__http_exchange_end(x);
}

void wh_http_respond_own(wh_http_exchange *x, int status, const void *body, size_t len, wh_function *release,
                         void *arg)
{
	struct wh__http_connection *c = x->connection;
	bool sent = false;

	if (wh__http_is_remote(x)) {
		wh__http_remote_respond_own(x, status, body, len, release, arg);
		return;
	}
	if (len <= COPY_MAX || is_gone(x)) {
		wh_http_respond(x, status, body, len);
	} else {
		decide_unread(x);
		if (put_head(x, status, (int64_t)len) && !x->no_body) {
			c->output_bytes += len;
			sent = wh__http_chain_take(wh__http_exchange_output(x), body, len, release, arg);
			if (!sent)
				wh__http_connection_fail(c, true);
		}
		wh__http_exchange_end(x);
	}
	if (!sent && release)
		release(arg);
}

/* ---- answers in pieces -------------------------------------------------------------------- */

int wh_http_start(wh_http_exchange *x, int status, int64_t length)
{
	if (x->started || x->answered)
		return -EALREADY;
	if (status < 200 || status > 599 || length < WH_HTTP_CHUNKED)
		return -EINVAL;
	if (wh__http_is_remote(x))
		return wh__http_remote_start(x, status, length);
	if (is_gone(x)) {
		x->started = true;
		return 0;
	}
	/* whoever begins a good answer before it has read the body still wants that */
	if (x->expects && status < 300 && x->mode == WH__HTTP_MODE_STREAM) {
		wh__http_answer_continue(x);
		x->expects = false;
	}
	if (put_head(x, status, length))
		wh__http_server_mark(x->connection);
	/* they are sent; what is begun here may last for hours */
	free(x->fields);
	x->fields = NULL;
	x->fields_len = x->fields_cap = 0;
	return 0;
}

void wh__http_answer_writable(wh_http_exchange *x, int64_t result)
{
	wh__http_writes_end(&x->writes, result);
}

uint32_t wh__http_answer_unsent_max(const wh_http_exchange *x)
{
	return x->unsent_max > 0 ? x->unsent_max : x->connection->server->options.output_bytes_max;
}

size_t wh__http_answer_unsent(const wh_http_exchange *x)
{
	size_t bytes = x->connection->output_bytes;

	for (const wh_http_exchange *later = x->next; later && bytes > 0; later = later->next) {
		size_t held = wh__http_chain_bytes(&later->output);

		bytes -= held < bytes ? held : bytes;
	}
	return bytes;
}

void wh_http_set_unsent_max(wh_http_exchange *x, uint32_t bytes)
{
	x->unsent_max = bytes;
}

/* The future of a write whose bytes are in the chain. */
static wh_future written(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;

	wh__http_server_mark(c);
	return wh__http_writes_wait(c->server->loop, &x->writes,
	                            wh__http_answer_unsent(x) < wh__http_answer_unsent_max(x));
}

/* 0: len bytes may go out as they are; 1: nothing is to be sent; or -errno. */
static int check_write(wh_http_exchange *x, size_t len)
{
	if (!x->started || x->answered)
		return -EINVAL;
	if (is_gone(x) || x->connection->failed || x->shut)
		return -EPIPE;
	if (x->no_body || len == 0)
		return 1;
	if (x->reply_left >= 0) {
		if (len > (uint64_t)x->reply_left)
			return -EMSGSIZE;
		x->reply_left -= (int64_t)len;
	}
	return 0;
}

/* Framing before and after a chunk of len bytes. */
static bool put_chunk_start(wh_http_exchange *x, size_t len)
{
	struct wh__http_connection *c = x->connection;
	char line[24];
	int n;

	if (!x->chunk_reply)
		return true;
	n = snprintf(line, sizeof(line), "%zx\r\n", len);
	c->output_bytes += (size_t)n;
	return wh__http_chain_copy(wh__http_exchange_output(x), c->server->loop, line, (size_t)n);
}

static bool put_chunk_end(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;

	if (!x->chunk_reply)
		return true;
	c->output_bytes += 2;
	return wh__http_chain_copy(wh__http_exchange_output(x), c->server->loop, "\r\n", 2);
}

static wh_future write_failed(wh_http_exchange *x)
{
	wh__http_connection_fail(x->connection, true);
	return wh_failed(x->connection->server->loop, -ENOMEM);
}

wh_future wh_http_write(wh_http_exchange *x, const void *bytes, size_t len)
{
	struct wh__http_connection *c = x->connection;
	int error;

	if (wh__http_is_remote(x))
		return wh__http_remote_write(x, bytes, len);
	error = check_write(x, len);
	if (error < 0)
		return wh_failed(c->server->loop, error);
	if (error == 0) {
		if (!put_chunk_start(x, len) ||
		    !wh__http_chain_copy(wh__http_exchange_output(x), c->server->loop, bytes, len) ||
		    !put_chunk_end(x))
			return write_failed(x);
		c->output_bytes += len;
	}
	return written(x);
}

/* A few bytes join what is there, which is cheaper than a piece of their own. */
static bool put_buf(struct wh__http_chain *chain, wh_loop *loop, struct wh_buf *buf)
{
	bool put;

	if (buf->len > COPY_MAX)
		return wh__http_chain_take_buf(chain, buf);
	put = wh__http_chain_copy(chain, loop, buf->data, buf->len);
	wh_buf_put(buf);
	return put;
}

wh_future wh_http_write_buf(wh_http_exchange *x, struct wh_buf *buf)
{
	struct wh__http_connection *c = x->connection;
	size_t len = buf->len;
	int error;

	if (wh__http_is_remote(x))
		return wh__http_remote_write_buf(x, buf);
	error = check_write(x, len);
	if (error != 0)
		wh_buf_put(buf);
	if (error < 0)
		return wh_failed(c->server->loop, error);
	if (error == 0) {
		if (!put_chunk_start(x, len)) {
			wh_buf_put(buf);
			return write_failed(x);
		}
		if (!put_buf(wh__http_exchange_output(x), c->server->loop, buf) || !put_chunk_end(x))
			return write_failed(x);
		c->output_bytes += len;
	}
	return written(x);
}

void wh_http_end(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;

	if (wh__http_is_remote(x)) {
		wh__http_remote_end(x);
		return;
	}
	assert(x->started);
	if (!is_gone(x)) {
		if (!x->no_body && x->reply_left > 0) {
			wh_http_abort(x);
			return;
		}
		if (x->chunk_reply && !x->no_body) {
			c->output_bytes += 5;
			if (!wh__http_chain_copy(wh__http_exchange_output(x), c->server->loop, "0\r\n\r\n",
			                         5))
				wh__http_connection_fail(c, true);
		}
		decide_unread(x);
	}
	wh__http_exchange_end(x);
}

void wh_http_abort(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;
	bool unsent;

	if (wh__http_is_remote(x)) {
		wh__http_remote_abort(x);
		return;
	}
	unsent = c->is_sending || c->sending.first || c->output.first;
	if (c->first == x && unsent && !c->failed && !c->down) {
		/* what was written so far is the client's: it goes out before the reset */
		c->cut = true;
		c->no_more = true;
		c->reset = true;
		wh__http_server_mark(c);
	} else {
		wh__http_connection_fail(c, true);
	}
	x->close_after = true;
	wh__http_exchange_end(x);
}

/* ---- the server's own --------------------------------------------------------------------- */

void wh__http_answer_continue(wh_http_exchange *x)
{
	static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct wh__http_connection *c = x->connection;

	c->output_bytes += sizeof(line) - 1;
	if (!wh__http_chain_copy(wh__http_exchange_output(x), c->server->loop, line, sizeof(line) - 1))
		wh__http_connection_fail(c, true);
	wh__http_server_mark(c);
}

static size_t escape(char *to, size_t room, const char *text)
{
	size_t n = 0;

	for (; *text && n + 7 < room; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\') {
			to[n++] = '\\';
			to[n++] = (char)c;
		} else if (c < 0x20) {
			n += (size_t)snprintf(to + n, 7, "\\u%04x", c);
		} else {
			to[n++] = (char)c;
		}
	}
	/* not amid a character of several bytes */
	if (*text)
		while (n > 0 && ((unsigned char)to[n - 1] & 0x80))
			n--;
	return n;
}

static size_t write_problem(int status, const char *detail, char *to, size_t max)
{
	const char *title = wh_http_reason(status);
	size_t n = (size_t)snprintf(to, max, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d",
	                            title, status);

	if (detail) {
		n += (size_t)snprintf(to + n, max - n, ",\"detail\":\"");
		n += escape(to + n, max - n - 3, detail);
		to[n++] = '"';
	}
	to[n++] = '}';
	to[n++] = '\n';
	return n;
}

static void respond_problem(wh_http_exchange *x, int status, const char *body, size_t len)
{
	(void)wh_http_set(x, "Content-Type", "application/problem+json"); /* without memory: without type */
	wh_http_respond(x, status, body, len);
}

void wh_http_problem(wh_http_exchange *x, int status, const char *detail)
{
	char body[PROBLEM_MAX];

	respond_problem(x, status, body, write_problem(status, detail, body, sizeof(body)));
}

void wh__http_answer_refusal(wh_http_exchange *x, int status, const char *detail, uint64_t limit)
{
	const wh_http_server *server = wh_http_exchange_server(x);
	const struct wh_http_server_options *o = &server->options;
	char body[PROBLEM_MAX];
	size_t len;

	if (server->thread) {
		wh__http_forward_refusal(x, status, detail, limit);
		return;
	}
	len = o->problem ? o->problem(status, detail, limit, body, sizeof(body), o->arg)
	                 : write_problem(status, detail, body, sizeof(body));
	respond_problem(x, status, body, len);
}
