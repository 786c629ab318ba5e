/* src/http/link.c -- connections of the client: opened, kept, given to calls, received from, sent to, closed.
 *
 * An idle connection has a receive under way, so that a server's close is seen when it comes rather than by
 * the next request. It is in the background: a program does not go on for the sake of a connection that nobody uses.
 *
 * Thread: loop.  Memory: a connection goes when it is down and no operation is under way on it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/client.h"
#include "http/message.h"

static void take_idle(struct wh__http_link *link)
{
	struct wh__http_link **at = &link->origin->idle;

	while (*at != link)
		at = &(*at)->next_idle;
	*at = link->next_idle;
	link->is_idle = false;
	if (link->receiving) /* somebody waits for it again */
		wh__stream_background(link->origin->client->loop, link->stream, link->received, false);
	link->origin->idle_count--;
	wh__http_client_node_remove(link->origin->client, &link->node);
}

void wh__http_link_unref(struct wh__http_link *link)
{
	wh_http_client *client = link->origin->client;

	assert(link->references > 0);
	if (--link->references > 0)
		return;
	assert(link->down && !link->call);
	link->origin->down_count--;
	wh__http_chain_clear(&link->output);
	wh__http_chain_clear(&link->sending);
	free(link->problem);
	free(link);
	wh__http_client_release(client);
}

static void on_closed(wh_loop *loop, wh_res res, void *arg)
{
	wh__http_link_unref(arg);
}

void wh__http_link_drop_input(struct wh__http_link *link)
{
	link->input = wh_buf_put(link->input);
	free(link->held);
	link->held = NULL;
	link->held_len = link->held_cap = 0;
	link->scan = (struct wh__http_scan){.response = true};
}

void wh__http_link_close(struct wh__http_link *link)
{
	struct wh__http_origin *origin = link->origin;
	wh_http_client *client = origin->client;

	if (link->down)
		return;
	assert(!link->call);
	if (link->is_idle)
		take_idle(link);
	link->down = true;
	*link->list = link->next;
	if (link->next)
		link->next->list = link->list;
	client->stats.connections--;
	origin->link_count--;
	origin->down_count++;
	wh__http_link_drop_input(link);
	wh__http_chain_clear(&link->output);
	if (link->is_connecting) {
		wh_cancel(link->connecting);
	} else if (link->is_securing) {
		wh_cancel(link->connecting); /* which closes the descriptor */
	} else if (link->stream.fd >= 0) {
		link->references++;
		if (wh_then(wh__stream_close(client->loop, link->stream), on_closed, link) != 0)
			link->references--;
	}
	wh__http_link_unref(link);
	wh__http_link_serve(origin);
}

/* ---- sending ------------------------------------------------------------------------------ */

static void on_sent(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__http_link *link = arg;
	wh_http_call *call;

	link->is_sending = false;
	if (link->down || res.n < 0) {
		wh__http_chain_clear(&link->sending);
	} else {
		link->output_bytes -= link->sending_bytes;
		wh__http_chain_sent(&link->sending, link->sending_bytes);
		wh__http_link_flush(link);
	}
	call = link->down ? NULL : link->call;
	if (call) {
		call->sent_at = wh_now(loop);
		/* A server may refuse a request that it does not read to its end: its answer is worth waiting for,
		 * and if there is none the receive will tell. Not so if we had no memory to send it. */
		if (res.n < 0 && (link->eof || res.n == -ENOMEM || res.n == -ENOBUFS || res.n == -EAGAIN))
			wh__http_call_fail(call, res.n);
		else if (res.n < 0)
			wh__http_call_writable(call, res.n);
		else if (link->output_bytes <= WH__HTTP_CLIENT_OUTPUT_MAX / 2)
			wh__http_call_writable(call, 0);
		if (link->call == call && call->upgraded)
			wh__http_call_maybe_finish(call);
	}
	wh__http_link_unref(link);
}

void wh__http_link_flush(struct wh__http_link *link)
{
	wh_http_client *client = link->origin->client;
	size_t len;
	wh_future f;

	if (link->is_sending || link->down || link->is_connecting || link->is_securing)
		return;
	if (!link->sending.first)
		wh__http_chain_append(&link->sending, &link->output);
	if (!link->sending.first) {
		if (link->shut && !link->shut_done) {
			link->shut_done = true;
			wh__stream_shutdown(client->loop, link->stream);
		}
		return;
	}
	f = wh__http_chain_send(&link->sending, client->loop, link->stream, WH__HTTP_CLIENT_SEND_MAX, &len);
	link->sending_bytes = (uint32_t)len;
	link->is_sending = true;
	link->references++;
	if (link->call) {
		link->call->sent_any = true;
		link->call->sent_at = wh_now(client->loop);
	}
	if (wh_then(f, on_sent, link) != 0) {
		link->is_sending = false;
		link->references--;
		if (link->call)
			wh__http_call_fail(link->call, -ENOMEM);
	}
}

static void flush_marked(void *arg)
{
	wh_http_client *client = arg;

	client->flushing = false;
	while (client->dirty) {
		struct wh__http_link *link = client->dirty;

		client->dirty = link->next_dirty;
		link->is_dirty = false;
		wh__http_link_flush(link);
		if (!link->down && link->call)
			wh__http_reply_advance(link);
		wh__http_link_unref(link);
	}
	wh__http_client_release(client);
}

void wh__http_link_mark(struct wh__http_link *link)
{
	wh_http_client *client = link->origin->client;

	if (link->is_dirty || link->down)
		return;
	link->is_dirty = true;
	link->references++;
	link->next_dirty = client->dirty;
	client->dirty = link;
	if (client->flushing)
		return;
	client->flushing = true;
	client->references++;
	client->flush = (struct wh__message){.fn = flush_marked, .arg = client, .embedded = true};
	wh__defer(client->loop, &client->flush);
}

/* ---- receiving ---------------------------------------------------------------------------- */

/* No buffer, slot or memory: the receive is tried again when the call is looked at, a bounded time from now. */
static void look_soon(wh_http_call *call)
{
	wh__http_deadlines_move(&call->client->deadlines, &call->node.hang, 0);
}

static void on_received(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__http_link *link = arg;

	link->receiving = false;
	if (link->down) {
		wh_buf_put(res.n > 0 ? res.ptr : NULL);
	} else if (!link->call) {
		wh_buf_put(res.n > 0 ? res.ptr : NULL);
		wh__http_link_close(link); /* closed by the server, or it speaks without being asked */
	} else if (res.n > 0) {
		link->input = res.ptr;
		link->input_at = 0;
		link->call->received_any = true;
		link->call->active_at = wh_now(loop);
		wh__http_reply_advance(link);
	} else if (res.n == 0) {
		link->eof = true;
		wh__http_reply_eof(link);
	} else if (res.n == -ENOBUFS || res.n == -EAGAIN) {
		look_soon(link->call);
	} else {
		link->eof = true;
		wh__http_call_fail(link->call, res.n);
	}
	wh__http_link_unref(link);
}

void wh__http_link_receive(struct wh__http_link *link)
{
	int error;

	if (link->receiving || link->input || link->eof || link->down || link->is_connecting ||
	    link->is_securing)
		return;
	link->references++;
	link->receiving = true;
	link->received = wh__stream_recv_buf(link->origin->client->loop, link->stream);
	error = wh_then(link->received, on_received, link);
	if (error != 0) {
		link->receiving = false;
		link->references--;
	}
	if (error == -ENOMEM && link->call)
		look_soon(link->call);
}

/* ---- connecting --------------------------------------------------------------------------- */

/* The way to an origin beyond a proxy: RFC 9110 section 9.3.6. */
static void ask_proxy(struct wh__http_link *link)
{
	wh_http_call *call = link->call;

	wh__http_call_stage(call, WH__HTTP_CALL_PROXY);
	if (!wh__http_head_connect(link->origin, &link->output, &link->output_bytes)) {
		wh__http_call_fail(call, -ENOMEM);
		return;
	}
	wh__http_link_mark(link);
	wh__http_link_receive(link);
}

/* ---- TLS ---------------------------------------------------------------------------------- */

static void on_secured(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__http_link *link = arg;

	link->is_securing = false;
	if (link->down) {
		if (res.n >= 0)
			(void)wh_drop(wh_tls_close(res.ptr));
	} else if (res.n < 0) {
		link->stream.fd = -1; /* the handshake has closed it */
		wh__http_call_fail(link->call, res.n);
	} else {
		link->stream = wh__stream_tls(res.ptr);
		free(link->problem);
		link->problem = NULL;
		wh__http_call_send(link->call);
	}
	wh__http_link_unref(link);
}

/* Whose certificate it must be: the host of "https://host:port", brackets taken off. */
static void name_of(const struct wh__http_origin *origin, char *ret)
{
	const char *host = origin->name + sizeof("https://") - 1, *end = strrchr(host, ':');

	if (*host == '[') {
		host++;
		end--;
	}
	memcpy(ret, host, (size_t)(end - host));
	ret[end - host] = 0;
}

void wh__http_link_secure(struct wh__http_link *link)
{
	wh_http_client *client = link->origin->client;
	char name[WH__HTTP_ORIGIN_BYTES_MAX];
	wh_tls_context *context;
	int error;

	wh__http_call_stage(link->call, WH__HTTP_CALL_TLS);
	error = wh__http_client_tls(client, &context);
	link->problem = error == 0 ? calloc(1, sizeof(*link->problem)) : NULL;
	if (!link->problem) {
		wh__http_call_fail(link->call, error != 0 ? error : -ENOMEM);
		return;
	}
	name_of(link->origin, name);
	link->is_securing = true;
	link->references++;
	link->connecting = wh_tls_connect(client->loop, link->stream.fd, context, name, link->problem);
	if (wh_then(link->connecting, on_secured, link) != 0) {
		link->is_securing = false;
		link->references--;
		link->stream.fd = -1;
		wh__http_call_fail(link->call, -ENOMEM);
	}
}

/* ---- connecting --------------------------------------------------------------------------- */

static wh_future connect_to(const struct wh__http_origin *origin)
{
	const struct wh_http_client_options *options = &origin->client->options;
	wh_loop *loop = origin->client->loop;
	char port[24];

	if (origin->address_len > 0 && options->address_allowed &&
	    !options->address_allowed((const struct sockaddr *)&origin->address, origin->address_len,
	                              options->address_arg))
		return wh_failed(loop, -WH_EADDRESS_REFUSED);
	if (origin->address_len > 0)
		return wh_connect(loop, (const struct sockaddr *)&origin->address, origin->address_len);
	port[wh__http_decimal(origin->port, port)] = 0;
	return wh_dial(
		loop, origin->host, port,
		&(struct wh_dial_options){.timeout_ns = INT64_MAX / 2, /* the call's own time-out ends it */
	                                  .servers = options->name_servers,
	                                  .resolv_conf_path = options->resolv_conf_path,
	                                  .allowed = options->address_allowed,
	                                  .allowed_arg = options->address_arg});
}

static void on_connected(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__http_link *link = arg;
	wh_http_call *call = link->call;

	link->is_connecting = false;
	if (link->down) {
		if (res.n >= 0)
			(void)wh_drop(wh_close(loop, (int)res.n));
	} else if (res.n < 0) {
		/* the error may be of this connection only; others of the origin keep waiting */
		wh__http_call_fail(call, res.n);
	} else {
		link->stream = wh__stream_plain((int)res.n);
		link->origin->client->stats.connections_opened++;
		if (!link->origin->tls)
			wh__http_call_send(call);
		else if (link->origin->proxy)
			ask_proxy(link);
		else
			wh__http_link_secure(link);
	}
	wh__http_link_unref(link);
}

struct wh__http_link *wh__http_link_open(struct wh__http_origin *origin, wh_http_call *call)
{
	wh_http_client *client = origin->client;
	struct wh__http_link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	link->origin = origin;
	link->stream.fd = -1;
	link->scan.response = true;
	link->connecting = connect_to(origin);
	if (wh_then(link->connecting, on_connected, link) != 0) {
		free(link);
		return NULL;
	}
	link->is_connecting = true;
	link->references = 2; /* until it is down; the connect */
	link->next = client->links;
	link->list = &client->links;
	if (link->next)
		link->next->list = &link->next;
	client->links = link;
	client->references++;
	client->stats.connections++;
	origin->link_count++;
	link->call = call;
	call->link = link;
	wh__http_call_stage(call, WH__HTTP_CALL_CONNECTING);
	return link;
}

/* ---- the pool ----------------------------------------------------------------------------- */

void wh__http_link_attach(struct wh__http_link *link, wh_http_call *call)
{
	take_idle(link);
	link->call = call;
	call->link = link;
	link->origin->client->stats.connections_reused++;
	wh__http_call_send(call);
}

void wh__http_link_done(struct wh__http_link *link, bool reusable)
{
	struct wh__http_origin *origin = link->origin;
	wh_http_client *client = origin->client;

	link->call->link = NULL;
	link->call = NULL;
	if (link->input && link->input_at == link->input->len)
		link->input = wh_buf_put(link->input);
	if (!reusable || link->eof || client->closed || link->input || link->is_sending ||
	    link->output.first || link->sending.first || origin->idle_count >= client->options.idle_max) {
		wh__http_link_close(link);
		return;
	}
	link->reused = true;
	link->is_idle = true;
	link->idle_since = wh_now(client->loop);
	link->next_idle = origin->idle;
	origin->idle = link;
	origin->idle_count++;
	link->node.is_call = false;
	wh__http_deadlines_add(&client->deadlines, &link->node.hang);
	wh__http_link_receive(link);
	if (link->receiving)
		wh__stream_background(client->loop, link->stream, link->received, true);
	wh__http_link_serve(origin);
}

void wh__http_link_serve(struct wh__http_origin *origin)
{
	wh_http_client *client = origin->client;

	while (origin->waiting_first && !client->closed) {
		wh_http_call *call = origin->waiting_first;

		if (!origin->idle && origin->link_count >= client->options.connections_max)
			return;
		origin->waiting_first = call->next_waiting;
		if (!origin->waiting_first)
			origin->waiting_last = NULL;
		origin->waiting_count--;
		call->next_waiting = NULL;
		if (origin->idle && !call->retried)
			wh__http_link_attach(origin->idle, call);
		else if (!wh__http_link_open(origin, call))
			wh__http_call_fail(call, -ENOMEM);
	}
}
