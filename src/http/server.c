/* src/http/server.c -- listeners, drain and close; the deferred call in which connections are settled.
 *
 * Thread: loop.  Memory: a server goes when it is closed and nothing refers to it any more: operations under way,
 * connections (which wait for their exchanges), the deferred call.
 */
#include "http/server.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/message.h"
#include "http/threads.h"

#define ACCEPT_PAUSE_NS (100 * WH_NS_PER_MS)

static void accept_next(struct wh__http_listener *listener);

/* ---- options ------------------------------------------------------------------------------ */

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
static int64_t set_defaults(struct wh_http_server_options *o)
{
	int64_t shortest = 10 * WH_NS_PER_S;

	default_u32(&o->head_bytes_max, 32 * 1024);
	default_u32(&o->target_bytes_max, 8 * 1024);
	default_u32(&o->fields_max, 100);
	default_u32(&o->connections_max, 65536);
	default_u32(&o->handshakes_max, 1024);
	default_u32(&o->pipeline_max, 64);
	default_u32(&o->output_bytes_max, 256 * 1024);
	if (o->body_bytes_max == 0)
		o->body_bytes_max = 64 * 1024 * 1024;
	default_timeout(&o->head_timeout_ns, 10 * WH_NS_PER_S, &shortest);
	default_timeout(&o->body_timeout_ns, 30 * WH_NS_PER_S, &shortest);
	default_timeout(&o->idle_timeout_ns, 75 * WH_NS_PER_S, &shortest);
	default_timeout(&o->write_timeout_ns, 30 * WH_NS_PER_S, &shortest);
	return shortest;
}

static bool options_valid(const struct wh_http_server_options *o)
{
	return o && o->on_request && o->fields_max <= 100 && o->head_bytes_max <= 1 << 20 &&
	       o->target_bytes_max <= 1 << 20 && o->pipeline_max <= 1024 &&
	       o->threads <= WH__HTTP_THREADS_MAX;
}

/* The timer has ended; for a closed server without connections that was the last thing to wait for on the user's behalf. A
 * loop that closes ends it earlier: then finish_close() is still to come, and finds it ended. */
static void deadlines_idle(void *arg)
{
	wh_http_server *server = arg;

	if (server->closed && server->stats.connections == 0)
		wh__http_server_release(server);
}

static void finish_close(wh_http_server *server)
{
	if (!wh__http_deadlines_stop(&server->deadlines))
		deadlines_idle(server);
}

int wh_http_server_open(wh_loop *loop, const struct wh_http_server_options *options, wh_http_server **ret)
{
	wh_http_server *server;
	int64_t shortest;

	if (!loop || !options_valid(options))
		return -EINVAL;
	server = calloc(1, sizeof(*server));
	if (!server)
		return -ENOMEM;
	server->loop = loop;
	server->options = *options;
	shortest = set_defaults(&server->options);
	server->limits = (struct wh__http_limits){.head_bytes_max = server->options.head_bytes_max,
	                                          .target_bytes_max = server->options.target_bytes_max,
	                                          .fields_max = server->options.fields_max,
	                                          .connect = server->options.connect};
	wh__http_deadlines_init(&server->deadlines, loop, shortest, wh__http_connection_look, deadlines_idle,
	                        server);
	server->references = 1; /* the user's, until close */
	if (options->threads > 1) {
		int error = wh__http_threads_open(server);

		if (error != 0) {
			free(server);
			return error;
		}
	}
	*ret = server;
	return 0;
}

void wh__http_server_release(wh_http_server *server)
{
	struct wh__http_thread *thread = server->thread;

	assert(server->references > 0);
	if (--server->references > 0)
		return;
	assert(server->closed && !server->connections && !server->listeners);
	while (server->spare) {
		wh_http_exchange *x = server->spare;

		server->spare = x->next;
		free(x);
	}
	wh__http_known_done(&server->known);
	free(server);
	if (thread)
		wh__http_threads_server_gone(thread);
}

const char *wh__http_server_date(wh_http_server *server)
{
	int64_t second = wh_wall_now(server->loop) / WH_NS_PER_S;

	if (second != server->date_second) {
		server->date_second = second;
		memcpy(server->date, "Date: ", 6);
		wh__http_date(second, server->date + 6);
		memcpy(server->date + 6 + WH__HTTP_DATE_LEN, "\r\n", 2);
	}
	return server->date;
}

/* ---- settling ----------------------------------------------------------------------------- */

/* Everything that handlers have done in this turn takes its effect here. What that leads to (another handler that
 * answers) is settled in the same call, connection by connection. */
static void settle(void *arg)
{
	wh_http_server *server = arg;

	server->settling = false;
	while (server->dirty) {
		struct wh__http_connection *c = server->dirty;

		server->dirty = c->next_dirty;
		c->is_dirty = false;
		wh__http_connection_settle(c);
		wh__http_connection_unref(c);
	}
	wh__http_server_release(server);
}

void wh__http_server_mark(struct wh__http_connection *c)
{
	wh_http_server *server = c->server;

	if (c->is_dirty)
		return;
	c->is_dirty = true;
	c->references++;
	c->next_dirty = server->dirty;
	server->dirty = c;
	if (server->settling)
		return;
	server->settling = true;
	server->references++;
	server->settle = (struct wh__message){.fn = settle, .arg = server, .embedded = true};
	wh__defer(server->loop, &server->settle);
}

/* ---- accepting ---------------------------------------------------------------------------- */

static void listener_release(struct wh__http_listener *listener)
{
	wh_http_server *server = listener->server;
	struct wh__http_listener **link;

	if (!listener->closed || listener->accepting || listener->waiting)
		return;
	for (link = &server->listeners; *link != listener; link = &(*link)->next)
		;
	*link = listener->next;
	free(listener);
	wh__http_server_release(server);
}

static void on_pause_over(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__http_listener *listener = arg;

	listener->waiting = false;
	if (listener->closed)
		listener_release(listener);
	else
		accept_next(listener);
}

static void try_again(void *arg)
{
	struct wh__http_listener *listener = arg;

	on_pause_over(listener->server->loop, (wh_res){0, NULL}, listener);
}

/* What waits in the listen queue keeps waiting, until descriptors or memory are there again. */
static void pause_accepts(struct wh__http_listener *listener)
{
	wh_loop *loop = listener->server->loop;
	int error;

	listener->accept = wh__sleep_until(loop, wh_now(loop) + ACCEPT_PAUSE_NS);
	error = wh_then(listener->accept, on_pause_over, listener);
	listener->waiting = error == 0 || error == -ENOMEM;
	if (error == -ENOMEM) {
		listener->again = (struct wh__message){.fn = try_again, .arg = listener, .embedded = true};
		wh__defer(loop, &listener->again);
	}
}

static void on_accepted(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__http_listener *listener = arg;
	wh_http_server *server = listener->server;

	listener->accepting = false;
	if (res.n >= 0) {
		if (listener->closed)
			(void)wh_drop(wh_close(loop, (int)res.n));
		else
			wh__http_connection_open(server, (int)res.n, listener->tls);
	}
	if (listener->closed) {
		listener_release(listener);
	} else if (res.n >= 0) {
		accept_next(listener);
	} else if (res.n == -ECANCELED || res.n == -EBADF || res.n == -EINVAL || res.n == -ENOTSOCK) {
		; /* the loop closes, or fd is no listener: nothing will ever come */
	} else {
		server->stats.accept_failures++;
		pause_accepts(listener);
	}
}

static void accept_next(struct wh__http_listener *listener)
{
	wh_http_server *server = listener->server;
	int error;

	if (listener->accepting || listener->waiting || listener->closed ||
	    server->stats.connections >= server->options.connections_max ||
	    (listener->tls && server->stats.handshakes >= server->options.handshakes_max))
		return;
	listener->accept = wh_accept(server->loop, listener->fd);
	error = wh_then(listener->accept, on_accepted, listener);
	listener->accepting = error == 0;
	if (error == -ENOMEM)
		pause_accepts(listener);
}

static void accept_again(wh_http_server *server)
{
	for (struct wh__http_listener *l = server->listeners; l; l = l->next)
		accept_next(l);
}

void wh__http_server_handshake_over(wh_http_server *server)
{
	if (server->stats.handshakes-- == server->options.handshakes_max)
		accept_again(server);
}

void wh__http_server_connection_gone(wh_http_server *server)
{
	server->stats.connections--;
	if (server->thread)
		wh__http_threads_changed(server->thread);
	accept_again(server);
	if (server->draining && server->stats.connections == 0 && server->drained) {
		struct wh__op *drained = server->drained;

		server->drained = NULL;
		wh__op_complete(drained, 0, NULL);
	}
	if (server->thread && server->draining && server->stats.connections == 0)
		wh__http_threads_drained(server->thread);
	if (server->closed && server->stats.connections == 0)
		finish_close(server);
}

void wh__http_server_add(wh_http_server *server, struct wh__http_listener *listener)
{
	listener->server = server;
	listener->next = server->listeners;
	server->listeners = listener;
	server->references++;
	accept_next(listener);
}

int wh_http_server_listen(wh_http_server *server, int fd)
{
	return wh_http_server_listen_tls(server, fd, NULL);
}

int wh_http_server_listen_tls(wh_http_server *server, int fd, wh_tls_context *context)
{
	struct wh__http_listener *listener;

	if (fd < 0)
		return -EBADF;
	if (server->draining || server->closed)
		return -ESHUTDOWN;
	if (server->hub)
		return wh__http_threads_listen(server, fd, context);
	listener = calloc(1, sizeof(*listener));
	if (!listener)
		return -ENOMEM;
	listener->fd = fd;
	listener->tls = context;
	wh__http_server_add(server, listener);
	return 0;
}

static void stop_listening(wh_http_server *server)
{
	for (struct wh__http_listener *l = server->listeners, *next; l; l = next) {
		next = l->next;
		if (l->closed)
			continue;
		l->closed = true;
		if (l->waiting)
			wh_cancel(l->accept);
		(void)wh_drop(wh_close(server->loop, l->fd)); /* ends the accept */
		listener_release(l);
	}
}

/* ---- drain and close ---------------------------------------------------------------------- */

static void drain_cancelled(struct wh__op *op)
{
	wh_http_server *server = op->buf;

	server->drained = NULL;
	wh__op_complete(op, -ECANCELED, NULL);
}

void wh__http_server_begin_drain(wh_http_server *server)
{
	server->draining = true;
	stop_listening(server);
	for (struct wh__http_connection *c = server->connections; c; c = c->next)
		wh__http_server_mark(c);
	if (server->thread && server->stats.connections == 0)
		wh__http_threads_drained(server->thread);
}

wh_future wh_http_server_drain(wh_http_server *server)
{
	struct wh__op *op;
	wh_future f;

	if (server->draining || server->closed)
		return wh_failed(server->loop, -EALREADY);
	op = wh__op_new(server->loop, WH__OP_HTTP);
	if (!op)
		return wh_failed(server->loop, -EAGAIN);
	op->buf = server;
	op->cancel_inner = drain_cancelled;
	f = wh__op_future(op);
	wh__http_server_begin_drain(server);
	if (server->hub)
		wh__http_threads_drain(server);
	if (!server->hub && server->stats.connections == 0)
		wh__op_complete(op, 0, NULL);
	else
		server->drained = op;
	return f;
}

wh_http_server *wh_http_server_close(wh_http_server *server)
{
	if (!server)
		return NULL;
	assert(!server->closed);
	server->closed = true;
	if (server->hub) {
		wh__http_threads_close(server);
		return NULL;
	}
	stop_listening(server);
	for (struct wh__http_connection *c = server->connections; c; c = c->next)
		wh__http_connection_fail(c, false);
	if (server->stats.connections == 0)
		finish_close(server);
	return NULL;
}

void wh_http_server_stats(const wh_http_server *server, struct wh_http_server_stats *ret)
{
	if (server->hub)
		wh__http_threads_stats(server, ret);
	else
		*ret = server->stats;
}
