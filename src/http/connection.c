/* src/http/connection.c -- a connection of the server: opened, received from, sent to, timed out, taken down.
 *
 * Thread: loop.  Memory: a connection goes when it is down and nothing refers to it: operations under way, exchanges
 * that are still to be answered, the list of those to be settled.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "http/threads.h"

static void receive_more(struct wh__http_connection *c);

void wh__http_connection_unref(struct wh__http_connection *c)
{
	wh_http_server *server = c->server;

	assert(c->references > 0);
	if (--c->references > 0)
		return;
	assert(c->down && !c->first && !c->reading && !c->input && !c->held);
	if (server->thread)
		wh__http_forward_connection_gone(c);
	else
		free(c->peer);
	free(c);
	wh__http_server_release(server);
}

static void on_secured(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__http_connection *c = arg;

	c->securing = false;
	wh__http_server_handshake_over(c->server);
	if (c->down) {
		if (res.n >= 0)
			(void)wh_drop(wh_tls_close(res.ptr));
	} else if (res.n < 0) {
		c->stream.fd = -1; /* the handshake has closed it */
		c->failed = true;
		c->server->stats.handshakes_failed++;
		wh__http_connection_settle(c);
	} else {
		c->stream = wh__stream_tls(res.ptr);
		c->active_at = wh_now(loop);
		wh__http_connection_settle(c);
	}
	wh__http_connection_unref(c);
}

static void secure(struct wh__http_connection *c, wh_tls_context *tls)
{
	c->securing = true;
	c->server->stats.handshakes++;
	c->references++;
	c->handshake = wh_tls_accept(c->server->loop, c->stream.fd, tls, NULL);
	if (wh_then(c->handshake, on_secured, c) != 0) {
		c->references--;
		c->securing = false;
		c->server->stats.handshakes--;
		c->stream.fd = -1;
		wh__http_connection_fail(c, false);
	}
}

void wh__http_connection_open(wh_http_server *server, int fd, wh_tls_context *tls)
{
	struct wh__http_connection *c = calloc(1, sizeof(*c));

	if (!c) {
		server->stats.accept_failures++;
		(void)wh_drop(wh_close(server->loop, fd));
		return;
	}
	c->server = server;
	c->stream = wh__stream_plain(fd);
	c->active_at = wh_now(server->loop);
	c->references = 1; /* until it is down */
	c->next = server->connections;
	c->link = &server->connections;
	if (c->next)
		c->next->link = &c->next;
	server->connections = c;
	server->references++;
	server->stats.connections++;
	server->stats.connections_accepted++;
	wh__http_deadlines_add(&server->deadlines, &c->deadline);
	if (server->thread)
		wh__http_threads_changed(server->thread);
	if (tls)
		secure(c, tls);
	else
		receive_more(c);
}

/* ---- going down --------------------------------------------------------------------------- */

void wh__http_connection_fail(struct wh__http_connection *c, bool reset)
{
	if (c->down)
		return;
	c->failed = true;
	c->reset |= reset;
	wh__http_server_mark(c);
}

static void on_closed(wh_loop *loop, wh_res res, void *arg)
{
	wh__http_connection_unref(arg);
}

/* Tell every exchange of a connection that is down, and end those that no handler owns. What is left is answered
 * into the void. A handler may answer any exchange from here, so that only the first in line is sure to be there. */
static void tell_closed(struct wh__http_connection *c)
{
	for (;;) {
		wh_http_exchange *x = c->first;

		while (x && !x->on_close && !x->on_half_close && x->stage == WH__HTTP_STAGE_HANDED &&
		       !x->answered)
			x = x->next;
		if (!x)
			break;
		if (x->on_close) {
			x->on_half_close = NULL; /* told once */
			wh__http_call_once(&x->on_close, x->on_close_arg);
		} else if (x->on_half_close) {
			wh__http_call_once(&x->on_half_close, x->on_half_close_arg);
		} else {
			wh__http_exchange_unlist(x);
		}
	}
}

static void end_operations(struct wh__http_connection *c)
{
	for (wh_http_exchange *x = c->first; x; x = x->next) {
		struct wh__op *read = x->read;

		x->read = NULL;
		if (read)
			wh__op_complete(read, -ECONNRESET, NULL);
		wh__http_answer_writable(x, -EPIPE);
		wh__http_chain_clear(&x->output);
	}
	c->output_bytes = 0;
}

static void prepare_reset(struct wh__http_connection *c)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	(void)!wh_set_option_raw(c->server->loop, c->stream.fd, SOL_SOCKET, SO_LINGER, &now,
	                         sizeof(now)); /* without it: a plain end */
	/* no close_notify, which would say that all has been said */
	if (c->stream.tls)
		(void)wh_shutdown(c->server->loop, c->stream.fd, SHUT_WR);
}

static void take_down(struct wh__http_connection *c)
{
	wh_http_server *server = c->server;
	wh_future closing;

	c->down = true;
	c->no_more = true;
	if (c->reset && !c->securing && c->stream.fd >= 0)
		prepare_reset(c);
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	wh__http_deadlines_remove(&server->deadlines, &c->deadline);
	if (c->securing) {
		wh_cancel(c->handshake); /* which closes it */
	} else if (c->stream.fd >= 0) {
		closing = wh__stream_close(server->loop, c->stream);
		c->references++;
		if (wh_then(closing, on_closed, c) != 0)
			c->references--;
	}
	wh__http_input_drop(c);
	wh__http_chain_clear(&c->output);
	end_operations(c);
	tell_closed(c);
	wh__http_server_connection_gone(server);
	wh__http_connection_unref(c);
}

/* ---- receiving ---------------------------------------------------------------------------- */

static void half_closed(struct wh__http_connection *c)
{
	wh_http_exchange *x = c->reading;

	c->eof = true;
	c->no_more = true;
	if (x && x->stream)
		wh__http_stream_over(x);
	else if (x && !x->body_done)
		wh__http_input_body_failed(c, 400, -WH_EHTTP_CLOSED,
		                           "the connection was closed within the body");
}

static void tell_half_closed(struct wh__http_connection *c)
{
	for (wh_http_exchange *x = c->first; x;) {
		if (x->on_half_close) {
			wh__http_call_once(&x->on_half_close, x->on_half_close_arg);
			x = c->first; /* anything may have been answered */
		} else {
			x = x->next;
		}
	}
}

static void tell_drained(struct wh__http_connection *c)
{
	for (wh_http_exchange *x = c->first; x;) {
		if (x->on_drain) {
			wh__http_call_once(&x->on_drain, x->on_drain_arg);
			x = c->first;
		} else {
			x = x->next;
		}
	}
}

/* No buffer, slot or memory: the receive is tried again when the connection is looked at, a bounded time from now. */
static void look_soon(struct wh__http_connection *c)
{
	wh__http_deadlines_move(&c->server->deadlines, &c->deadline, 0);
}

static void on_received(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__http_connection *c = arg;

	c->receiving = false;
	if (c->down) {
		wh_buf_put(res.n > 0 ? res.ptr : NULL);
	} else if (res.n > 0) {
		assert(!c->input);
		c->server->stats.bytes_received += (uint64_t)res.n;
		c->input = res.ptr;
		c->input_at = 0;
		wh__http_connection_settle(c);
	} else if (res.n == 0) {
		half_closed(c);
		wh__http_connection_settle(c);
	} else if (res.n == -ENOBUFS || res.n == -EAGAIN) {
		look_soon(c);
	} else {
		c->failed = true;
		wh__http_connection_settle(c);
	}
	wh__http_connection_unref(c);
}

static void receive_more(struct wh__http_connection *c)
{
	wh_future f;
	int error;

	if (c->receiving || c->input || c->eof || c->down || c->failed || c->securing)
		return;
	f = wh__stream_recv_buf(c->server->loop, c->stream);
	c->references++;
	c->receiving = true;
	error = wh_then(f, on_received, c);
	if (error != 0) {
		c->receiving = false;
		c->references--;
	}
	if (error == -ENOMEM)
		look_soon(c);
}

/* ---- sending ------------------------------------------------------------------------------ */

static void on_sent(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__http_connection *c = arg;

	c->is_sending = false;
	if (res.n > 0 && !c->down) {
		c->server->stats.bytes_sent += c->sending_bytes;
		c->output_bytes -= c->sending_bytes;
		wh__http_chain_sent(&c->sending, c->sending_bytes);
		wh__http_connection_settle(c);
	} else {
		wh__http_chain_clear(&c->sending);
		if (!c->down) {
			c->failed = true;
			wh__http_connection_settle(c);
		}
	}
	wh__http_connection_unref(c);
}

static void send_more(struct wh__http_connection *c)
{
	size_t len;
	wh_future f;

	if (c->is_sending || c->down)
		return;
	if (!c->sending.first)
		wh__http_chain_append(&c->sending, &c->output);
	if (!c->sending.first)
		return;
	f = wh__http_chain_send(&c->sending, c->server->loop, c->stream, WH__HTTP_SEND_MAX, &len);
	c->sending_bytes = (uint32_t)len;
	c->sent_at = wh_now(c->server->loop);
	c->is_sending = true;
	c->references++;
	if (wh_then(f, on_sent, c) != 0) {
		c->is_sending = false;
		c->references--;
		c->failed = true;
	}
}

/* Writes wait for the connection to have sent what it holds, all but half of what it may hold. */
static void wake_writers(struct wh__http_connection *c)
{
	for (wh_http_exchange *x = c->first; x; x = x->next)
		if (x->writes && wh__http_answer_unsent(x) <= wh__http_answer_unsent_max(x) / 2)
			wh__http_answer_writable(x, 0);
}

/* ---- settling ----------------------------------------------------------------------------- */

static void begin_linger(struct wh__http_connection *c)
{
	c->lingering = true;
	c->linger_left = WH__HTTP_LINGER_MAX;
	c->active_at = wh_now(c->server->loop);
	wh__stream_shutdown(c->server->loop, c->stream);
	wh__http_deadlines_move(&c->server->deadlines, &c->deadline, c->active_at + WH__HTTP_LINGER_NS);
	wh__http_input_drop(c);
}

/* wh_http_shutdown(): all that was written has gone. */
static void shut_stream(struct wh__http_connection *c)
{
	if (!c->first || !c->first->shut || c->shut || c->is_sending || c->sending.first || c->output.first)
		return;
	c->shut = true;
	wh__stream_shutdown(c->server->loop, c->stream);
}

/* true: it is over, all that was to be said has been sent. */
static bool is_over(const struct wh__http_connection *c)
{
	bool idle = (!c->first && !c->reading) || c->cut;

	if (!idle || c->is_sending || c->sending.first || c->output.first)
		return false;
	return c->no_more || (c->server->draining && c->held_len == 0 && !c->input);
}

void wh__http_connection_settle(struct wh__http_connection *c)
{
	if (c->server->thread)
		wh__http_threads_changed(c->server->thread);
	if (c->down) {
		tell_closed(c);
		return;
	}
	if (c->lingering && c->input) {
		c->linger_left -= c->input->len < c->linger_left ? c->input->len : c->linger_left;
		c->input = wh_buf_put(c->input);
		if (c->linger_left == 0)
			c->failed = true;
	}
	if (!c->failed && !c->lingering)
		wh__http_input_advance(c);
	if (c->eof)
		tell_half_closed(c);
	if (c->server->draining)
		tell_drained(c);
	if (!c->failed) {
		send_more(c);
		wake_writers(c);
		shut_stream(c);
		if (c->server->thread)
			wh__http_forward_settled(c);
	}
	if (!c->failed && is_over(c)) {
		if (c->eof || c->reset || !(c->linger || c->input))
			c->failed = true;
		else if (!c->lingering)
			begin_linger(c);
	}
	if (c->failed)
		take_down(c);
	else
		receive_more(c);
}

/* ---- time --------------------------------------------------------------------------------- */

static int64_t sooner(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t after(int64_t at, int64_t timeout_ns)
{
	return timeout_ns < 0 ? INT64_MAX : at + timeout_ns;
}

/* When the connection has waited long enough for the client, as things stand. */
static int64_t deadline_of(const struct wh__http_connection *c)
{
	const struct wh_http_server_options *o = &c->server->options;
	int64_t at = c->is_sending ? after(c->sent_at, o->write_timeout_ns) : INT64_MAX;

	if (c->lingering)
		return c->active_at + WH__HTTP_LINGER_NS;
	if (c->held_len > 0)
		return sooner(at, after(c->active_at, o->head_timeout_ns));
	if (wh__http_input_wanted(c))
		return sooner(at, after(c->active_at, o->body_timeout_ns));
	if (!c->first && !c->is_sending)
		return after(c->active_at, c->served ? o->idle_timeout_ns : o->head_timeout_ns);
	return at;
}

int64_t wh__http_connection_look(struct wh__http_deadline *node, int64_t now)
{
	struct wh__http_connection *c = (struct wh__http_connection *)(void *)node;
	int64_t at = deadline_of(c);

	receive_more(c);
	if (at > now)
		return at;
	if (!c->is_sending && !c->lingering && c->held_len > 0)
		wh__http_input_refuse(c, 408, "the header section took too long");
	else if (!c->is_sending && !c->lingering && wh__http_input_wanted(c))
		wh__http_input_body_failed(c, 408, -ETIMEDOUT, "the body took too long");
	else
		c->failed = true;
	/* not settled here: that would call handlers amid the round of looks */
	wh__http_server_mark(c);
	return INT64_MAX;
}
