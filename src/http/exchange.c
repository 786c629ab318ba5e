/* src/http/exchange.c -- an exchange: what its request says, how long it lives, its place in line.
 *
 * Thread: loop.  Memory: the request is in the received buffer while a handler runs; wh_http_retain() copies it. An
 * exchange goes when it is answered, out of the line, and no body of its is on the way any more.
 */
#include <assert.h>
#include <errno.h>
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "http/message.h"
#include "http/remote.h"

enum { SPARE_MAX = 256 };

/* ---- life --------------------------------------------------------------------------------- */

wh_http_exchange *wh__http_exchange_new(struct wh__http_connection *c)
{
	wh_http_server *server = c->server;
	wh_http_exchange *x = server->spare;

	if (x) {
		server->spare = x->next;
		server->spare_count--;
	} else {
		x = malloc(sizeof(*x));
		if (!x)
			return NULL;
	}
	memset(x, 0, sizeof(*x));
	x->connection = c;
	x->listed = true;
	if (c->last)
		c->last->next = x;
	else
		c->first = x;
	c->last = x;
	c->exchange_count++;
	c->references++;
	server->stats.exchanges++;
	return x;
}

static void free_exchange(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;
	wh_http_server *server = c->server;

	assert(!x->listed && !x->in_handler && !x->read && !x->writes);
	wh__http_exchange_drop_request(x);
	wh__http_chain_clear(&x->output);
	free(x->fields);
	if (server->spare_count < SPARE_MAX) {
		x->next = server->spare;
		server->spare = x;
		server->spare_count++;
	} else {
		free(x);
	}
	wh__http_connection_unref(c);
}

void wh__http_exchange_reap(wh_http_exchange *x)
{
	if (!x->listed && !x->in_handler && x->connection->reading != x)
		free_exchange(x);
}

void wh__http_exchange_unlist(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;
	wh_http_exchange **link, *before = NULL;

	assert(x->listed);
	for (link = &c->first; *link != x; link = &(*link)->next)
		before = *link;
	*link = x->next;
	if (c->last == x)
		c->last = before;
	x->listed = false;
	c->exchange_count--;
	c->server->stats.exchanges--;
	wh__http_call_once(&x->on_end, x->on_end_arg);
	wh__http_exchange_reap(x);
}

struct wh__http_chain *wh__http_exchange_output(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;

	return c->first == x && !c->cut ? &c->output : &x->output;
}

void wh__http_exchange_end(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;

	assert(!x->answered);
	x->answered = true;
	x->on_close = x->on_half_close = x->on_drain = NULL;
	wh__http_answer_writable(x, 0);
	if (x->read) {
		struct wh__op *read = x->read;

		x->read = NULL;
		wh__op_complete(read, -ECANCELED, NULL);
	}
	if (!x->body_done && x->close_after && c->reading == x)
		c->reading = NULL;
	if (c->down) {
		wh__http_exchange_unlist(x);
		return;
	}
	while (c->first && c->first->answered) {
		bool closes = c->first->close_after;

		wh__http_exchange_unlist(c->first);
		if (closes)
			c->no_more = true;
		if (closes && c->first)
			c->cut = true; /* they were told that nothing more comes */
		if (c->first && !c->cut)
			wh__http_chain_append(&c->output, &c->first->output);
	}
	c->active_at = wh_now(c->server->loop);
	wh__http_server_mark(c);
}

bool wh__http_exchange_keep(wh_http_exchange *x)
{
	if (!x->head_owned && x->head) {
		size_t meta = offsetof(struct wh__http_head, fields) +
		              x->head->field_count * sizeof(x->head->fields[0]);
		char *kept = malloc(meta + (x->base_owned ? 0 : x->head_len));

		if (!kept)
			return false;
		memcpy(kept, x->head, meta);
		if (!x->base_owned) {
			memcpy(kept + meta, x->base, x->head_len);
			x->base = kept + meta;
		}
		x->head = (struct wh__http_head *)(void *)kept;
		x->head_owned = true;
	}
	if (x->body && !x->body_owned) {
		size_t len = (size_t)x->body_seen;
		char *body = malloc(len ? len : 1);

		if (!body)
			return false;
		memcpy(body, x->body, len);
		x->body = body;
		x->body_cap = len;
		x->body_owned = true;
	}
	return true;
}

void wh__http_exchange_drop_request(wh_http_exchange *x)
{
	if (x->body_owned)
		free(x->body);
	if (x->head_owned)
		free(x->head);
	if (x->base_owned)
		free((void *)(uintptr_t)x->base);
	x->head = NULL;
	x->base = x->body = NULL;
	x->body_cap = 0;
	x->body_owned = x->head_owned = x->base_owned = false;
}

/* ---- what the request says ---------------------------------------------------------------- */

static struct wh_slice slice_of(const wh_http_exchange *x, struct wh__http_span span)
{
	return (struct wh_slice){x->base + span.off, span.len};
}

static struct wh_slice optional(const wh_http_exchange *x, struct wh__http_span span)
{
	return span.off ? slice_of(x, span) : (struct wh_slice){0};
}

enum wh_http_method wh_http_method(const wh_http_exchange *x)
{
	return (enum wh_http_method)x->method;
}

struct wh_slice wh_http_method_token(const wh_http_exchange *x)
{
	const char *name;

	if (x->method != WH_HTTP_OTHER)
		return wh__http_method_name((enum wh_http_method)x->method);
	name = llhttp_method_name((llhttp_method_t)x->token);
	return (struct wh_slice){name, strlen(name)};
}

int wh_http_version(const wh_http_exchange *x)
{
	return x->version;
}

struct wh_slice wh_http_target(const wh_http_exchange *x)
{
	return x->head ? optional(x, x->head->target) : (struct wh_slice){0};
}

struct wh_slice wh_http_path(const wh_http_exchange *x)
{
	static const struct wh_slice root = {"/", 1}, all = {"*", 1};

	if (!x->head)
		return (struct wh_slice){0};
	if (x->head->path.len == 0) /* http://host, or OPTIONS http://host: RFC 9112 section 3.2.4 */
		return x->method == WH_HTTP_OPTIONS && !x->head->query.off ? all : root;
	return slice_of(x, x->head->path);
}

struct wh_slice wh_http_query(const wh_http_exchange *x)
{
	return x->head ? optional(x, x->head->query) : (struct wh_slice){0};
}

struct wh_slice wh_http_host(const wh_http_exchange *x)
{
	return x->head ? optional(x, x->head->host) : (struct wh_slice){0};
}

static bool same_name(const char *a, const char *b, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char x = (unsigned char)a[i], y = (unsigned char)b[i];

		if (x == y)
			continue;
		if (x >= 'A' && x <= 'Z')
			x |= 0x20;
		if (y >= 'A' && y <= 'Z')
			y |= 0x20;
		if (x != y)
			return false;
	}
	return true;
}

struct wh_slice wh_http_header(const wh_http_exchange *x, const char *name)
{
	size_t len = strlen(name), n = x->head ? x->head->field_count : 0;

	for (size_t i = 0; i < n; i++) {
		const struct wh__http_field_span *field = &x->head->fields[i];

		if (field->name.len == len && same_name(x->base + field->name.off, name, len))
			return slice_of(x, field->value);
	}
	return (struct wh_slice){0};
}

size_t wh_http_header_count(const wh_http_exchange *x, const char *name)
{
	size_t len = strlen(name), n = x->head ? x->head->field_count : 0, count = 0;

	for (size_t i = 0; i < n; i++) {
		const struct wh__http_field_span *field = &x->head->fields[i];

		count += field->name.len == len && same_name(x->base + field->name.off, name, len);
	}
	return count;
}

size_t wh_http_field_count(const wh_http_exchange *x)
{
	return x->head ? x->head->field_count : 0;
}

struct wh_http_field wh_http_field(const wh_http_exchange *x, size_t index)
{
	if (index >= wh_http_field_count(x))
		return (struct wh_http_field){0};
	return (struct wh_http_field){slice_of(x, x->head->fields[index].name),
	                              slice_of(x, x->head->fields[index].value)};
}

int64_t wh_http_body_length(const wh_http_exchange *x)
{
	if (x->chunked_body)
		return WH_HTTP_CHUNKED;
	return x->has_length ? (int64_t)x->length : 0;
}

struct wh_slice wh_http_body(const wh_http_exchange *x)
{
	if (x->mode == WH__HTTP_MODE_STREAM || x->stage < WH__HTTP_STAGE_HELD || !x->head)
		return (struct wh_slice){0};
	return x->body ? (struct wh_slice){x->body, (size_t)x->body_seen} : (struct wh_slice){"", 0};
}

int64_t wh_http_received_at(const wh_http_exchange *x)
{
	return x->received_at;
}

int wh_http_peer(const wh_http_exchange *x, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct wh__http_connection *c = x->connection;
	int error;

	if (wh__http_is_remote(x))
		return wh__http_remote_peer(x, ret, ret_len);
	if (c->down)
		return -ENOTCONN;
	if (c->peer) {
		*ret = c->peer->address;
		*ret_len = c->peer->len;
		return 0;
	}
	error = wh_peer_address(c->server->loop, c->stream.fd, ret, ret_len);
	if (error == 0 && (c->peer = malloc(sizeof(*c->peer))) != NULL) /* else it is asked for again */
		*c->peer = (struct wh__http_peer){*ret, *ret_len};
	return error;
}

const wh_tls *wh_http_tls(const wh_http_exchange *x)
{
	if (wh__http_is_remote(x))
		return wh__http_remote_tls(x);
	return x->connection->down ? NULL : x->connection->stream.tls;
}

wh_loop *wh_http_loop(const wh_http_exchange *x)
{
	return wh_http_exchange_server(x)->loop;
}

wh_http_server *wh_http_exchange_server(const wh_http_exchange *x)
{
	return wh__http_is_remote(x) ? wh__http_remote_server(x) : x->connection->server;
}

void wh_http_set_arg(wh_http_exchange *x, void *arg)
{
	x->arg = arg;
}

void *wh_http_arg(const wh_http_exchange *x)
{
	return x->arg;
}

int wh_http_retain(wh_http_exchange *x)
{
	/* a remote one's is in memory of its own */
	if (!x->head || (!wh__http_is_remote(x) && !wh__http_exchange_keep(x)))
		return -ENOMEM;
	x->retained = true;
	return 0;
}

void wh_http_parallel(wh_http_exchange *x)
{
	x->parallel = !x->may_upgrade;
}

void wh_http_in_turn(wh_http_exchange *x)
{
	x->parallel = false;
}

unsigned wh_http_pipelined(const wh_http_exchange *x)
{
	const wh_http_exchange *at = wh__http_is_remote(x) ? wh__http_remote_first(x) : x->connection->first;
	unsigned count = 0;

	for (; at && at != x; at = at->next)
		count++;
	return count;
}

static bool is_down(const wh_http_exchange *x)
{
	return wh__http_is_remote(x) ? wh__http_remote_is_closed(x) : x->connection->down;
}

static bool is_half_closed(const wh_http_exchange *x)
{
	return wh__http_is_remote(x) ? wh__http_remote_is_half_closed(x) : x->connection->eof;
}

static void mark(wh_http_exchange *x)
{
	if (wh__http_is_remote(x))
		wh__http_remote_mark(x);
	else
		wh__http_server_mark(x->connection);
}

void wh_http_on_close(wh_http_exchange *x, wh_function *fn, void *arg)
{
	x->on_close = fn;
	x->on_close_arg = arg;
	if (fn && is_down(x))
		mark(x); /* it has happened already: told when settled */
}

void wh_http_on_half_close(wh_http_exchange *x, wh_function *fn, void *arg)
{
	x->on_half_close = fn;
	x->on_half_close_arg = arg;
	if (fn && (is_down(x) || is_half_closed(x)))
		mark(x); /* as above */
}

void wh_http_on_drain(wh_http_exchange *x, wh_function *fn, void *arg)
{
	x->on_drain = fn;
	x->on_drain_arg = arg;
	if (fn && wh_http_exchange_server(x)->draining)
		mark(x); /* as above */
}

void wh_http_on_end(wh_http_exchange *x, wh_function *fn, void *arg)
{
	x->on_end = fn;
	x->on_end_arg = arg;
}

bool wh_http_is_closed(const wh_http_exchange *x)
{
	return wh__http_is_remote(x) ? wh__http_remote_is_closed(x)
	                             : x->connection->down || x->connection->failed;
}

/* ---- its body ----------------------------------------------------------------------------- */

void wh_http_collect(wh_http_exchange *x, uint64_t max)
{
	assert(x->stage == WH__HTTP_STAGE_HEAD);
	x->mode = WH__HTTP_MODE_COLLECT;
	x->body_max = max ? max : wh_http_exchange_server(x)->options.body_bytes_max;
}

void wh_http_stream(wh_http_exchange *x, uint64_t max)
{
	assert(x->stage == WH__HTTP_STAGE_HEAD);
	x->mode = WH__HTTP_MODE_STREAM;
	x->body_max = max ? max : wh_http_exchange_server(x)->options.body_bytes_max;
}

static void read_cancelled(struct wh__op *op)
{
	wh_http_exchange *x = op->buf;

	x->read = NULL;
	wh__op_complete(op, -ECANCELED, NULL);
}

static void put_piece(wh_res res, void *arg)
{
	wh_buf_put(res.ptr);
}

wh_future wh_http_read(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;
	struct wh__op *op;
	wh_future f;

	if (wh__http_is_remote(x))
		return wh__http_remote_read(x);
	if (x->mode != WH__HTTP_MODE_STREAM || x->answered)
		return wh_failed(c->server->loop, -EINVAL);
	if (x->read)
		return wh_failed(c->server->loop, -EBUSY);
	if (x->read_error || (c->down && !x->body_done))
		return wh_failed(c->server->loop, x->read_error ? x->read_error : -ECONNRESET);
	op = wh__op_new(c->server->loop, WH__OP_HTTP);
	if (!op)
		return wh_failed(c->server->loop, -EAGAIN);
	op->buf = x;
	op->cancel_inner = read_cancelled;
	op->dispose = put_piece;
	f = wh__op_future(op);
	if (x->body_done) {
		wh__op_complete(op, 0, NULL);
		return f;
	}
	x->read = op;
	c->active_at = wh_now(c->server->loop);
	/* amid an answer it would be part of it */
	if (x->expects && !x->started && (!c->input || c->input_at == c->input->len))
		wh__http_answer_continue(x);
	x->expects = false;
	wh__http_server_mark(c);
	return f;
}
