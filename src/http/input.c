/* src/http/input.c -- from received bytes to handlers: heads, bodies, the order of pipelined requests.
 *
 * Thread: loop.  Memory: a request that is whole in one received buffer is handled in place, without a copy; whatever
 * has to outlive the handler's call is copied out first (wh__http_exchange_keep()). So the received buffer is free
 * again whenever wh__http_input_advance() is not within a handler.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/body.h"
#include "http/message.h"
#include "http/threads.h"

bool wh__http_input_wanted(const struct wh__http_connection *c)
{
	const wh_http_exchange *x = c->reading;

	return x && !x->stream && (x->answered || x->read || x->stage == WH__HTTP_STAGE_BODY);
}

static size_t input_left(const struct wh__http_connection *c)
{
	return c->input ? c->input->len - c->input_at : 0;
}

static char *input_at(const struct wh__http_connection *c)
{
	return (char *)c->input->data + c->input_at;
}

/* Nothing refers to what has been used of the input. */
static void input_trim(struct wh__http_connection *c)
{
	if (c->input && c->input_at == c->input->len)
		c->input = wh_buf_put(c->input);
}

void wh__http_input_drop(struct wh__http_connection *c)
{
	wh_http_exchange *x = c->reading;

	c->input = wh_buf_put(c->input);
	free(c->held);
	c->held = NULL;
	c->held_len = c->held_cap = 0;
	c->reading = NULL;
	if (x)
		wh__http_exchange_reap(x);
}

/* ---- refusals ----------------------------------------------------------------------------- */

static uint64_t limit_of(const struct wh__http_connection *c, const wh_http_exchange *x, int status)
{
	switch (status) {
	case 413:
		return x->body_max ? x->body_max : c->server->options.body_bytes_max;
	case 414:
		return c->server->limits.target_bytes_max;
	case 431:
		return c->server->limits.head_bytes_max;
	default:
		return 0;
	}
}

/* x is answered by the server itself, and with that the connection ends. */
static void begin_refusal(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;

	c->server->stats.requests_refused++;
	c->no_more = true;
	c->linger = true;
	x->close_after = true;
	x->body_done = true;
	x->stage = WH__HTTP_STAGE_HANDED; /* nobody else ends it */
}

void wh__http_input_refused(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;

	begin_refusal(x);
	if (c->reading == x)
		wh__http_input_drop(c);
}

static void refuse_exchange(wh_http_exchange *x, int status, const char *reason)
{
	struct wh__http_connection *c = x->connection;

	begin_refusal(x);
	wh__http_call_once(&x->on_close, x->on_close_arg);
	x->on_half_close = NULL;
	x->fields_len = 0;
	x->fields_names = 0;
	x->date_set = false;
	wh__http_input_drop(c);
	wh__http_answer_refusal(x, status, reason, limit_of(c, x, status));
}

void wh__http_input_refuse(struct wh__http_connection *c, int status, const char *reason)
{
	wh_http_exchange *x = wh__http_exchange_new(c);

	if (x)
		refuse_exchange(x, status, reason);
	else
		c->failed = true;
}

void wh__http_input_body_failed(struct wh__http_connection *c, int status, int64_t error, const char *reason)
{
	wh_http_exchange *x = c->reading;

	if (x->stage == WH__HTTP_STAGE_BODY) {
		refuse_exchange(x, status, reason);
		return;
	}
	c->no_more = true;
	c->linger = true;
	x->close_after = true;
	x->body_done = true;
	x->read_error = (int32_t)error;
	if (x->read) {
		struct wh__op *read = x->read;

		x->read = NULL;
		wh__op_complete(read, error, NULL);
	}
	wh__http_input_drop(c);
}

/* ---- handlers ----------------------------------------------------------------------------- */

static void hand_over(wh_http_exchange *x)
{
	struct wh_http_server_options *o = &x->connection->server->options;

	x->stage = WH__HTTP_STAGE_HANDED;
	x->in_handler = true;
	o->on_request(x, o->arg);
	x->in_handler = false;
	if (!x->answered && !x->retained)
		wh__http_exchange_drop_request(x);
	wh__http_exchange_reap(x);
}

/* Methods that change something wait for their turn, unless the handler said that they need not: RFC 9112 section 9.3.2. */
static void hand_over_in_turn(wh_http_exchange *x)
{
	struct wh__http_connection *c = x->connection;

	if (c->first == x || x->parallel) {
		hand_over(x);
		return;
	}
	x->stage = WH__HTTP_STAGE_HELD;
	if (!wh__http_exchange_keep(x))
		c->failed = true;
}

/* The body as the handler of the head wants it. */
static void begin_body(struct wh__http_connection *c, wh_http_exchange *x)
{
	if (x->body_done) {
		hand_over_in_turn(x);
		return;
	}
	c->reading = x;
	if (x->has_length && x->body_left > x->body_max) {
		refuse_exchange(x, 413, "the body is larger than is taken here");
		return;
	}
	if (x->mode == WH__HTTP_MODE_STREAM) {
		hand_over_in_turn(x);
		return;
	}
	x->stage = WH__HTTP_STAGE_BODY;
	if (x->expects && input_left(c) == 0)
		wh__http_answer_continue(x);
	x->expects = false;
}

void wh__http_input_decided(wh_http_exchange *x, bool collect, uint64_t max)
{
	struct wh__http_connection *c = x->connection;

	x->body_max = max;
	if (!collect || x->answered)
		return;
	x->mode = WH__HTTP_MODE_COLLECT;
	if (x->read_error) { /* nothing is read before this but the end */
		refuse_exchange(x, 400, "the connection was closed within the body");
		return;
	}
	x->stage = WH__HTTP_STAGE_BODY;
	c->active_at = wh_now(c->server->loop);
	if (x->expects && input_left(c) == 0)
		wh__http_answer_continue(x);
	x->expects = false;
	wh__http_server_mark(c);
}

static void fill_exchange(wh_http_exchange *x, struct wh__http_head *head)
{
	x->head = head;
	x->method = head->method;
	x->token = head->token;
	x->version = head->version;
	x->keep_alive = head->flags & WH__HTTP_KEEP_ALIVE;
	x->chunked_body = head->flags & WH__HTTP_CHUNKED;
	x->has_length = head->flags & WH__HTTP_LENGTH;
	x->expects = head->flags & WH__HTTP_EXPECT_CONTINUE;
	x->body_left = x->length = head->content_length;
	x->body_done = !x->chunked_body && x->body_left == 0;
	x->may_upgrade = head->flags & WH__HTTP_UPGRADE;
	/* what follows a request for another protocol may be of that protocol */
	x->parallel = wh__http_is_safe((enum wh_http_method)head->method) && !x->may_upgrade;
}

/* held: base, if the request is to free it. */
static void handle_request(struct wh__http_connection *c, const char *base, size_t len, char *held,
                           struct wh__http_head *head)
{
	wh_http_server *server = c->server;
	wh_http_exchange *x = wh__http_exchange_new(c);

	if (!x) {
		c->failed = true;
		free(held);
		return;
	}
	x->base = base;
	x->head_len = (uint32_t)len;
	x->base_owned = held != NULL;
	fill_exchange(x, head);
	x->received_at = c->active_at = wh_now(server->loop);
	x->body_max = server->options.body_bytes_max;
	c->served = true;
	if (!x->keep_alive)
		c->no_more = true;
	server->stats.requests++;
	x->in_handler = true;
	if (server->options.on_head)
		server->options.on_head(x, server->options.arg);
	x->in_handler = false;
	if (!x->answered) {
		begin_body(c, x);
		return;
	}
	if (!x->body_done && !x->close_after)
		c->reading = x; /* what is left of its body is thrown away */
	wh__http_exchange_reap(x);
}

/* ---- heads -------------------------------------------------------------------------------- */

static void handle_head(struct wh__http_connection *c, const char *base, size_t len, char *held)
{
	wh_http_server *server = c->server;
	const char *reason = NULL;
	int status = wh__http_parse_request(base, len, &server->limits, &server->scratch, &reason);

	if (status == 0) {
		wh__http_known_learn(&server->known, base, len, &server->scratch);
		handle_request(c, base, len, held, &server->scratch);
	} else {
		free(held);
		wh__http_input_refuse(c, status, reason);
	}
}

/* The request that begins here says what another has said before, and all of its head is here. */
static bool handle_known(struct wh__http_connection *c)
{
	const char *data = input_at(c);
	size_t len;
	struct wh__http_head *head =
		c->scan.start_bytes > 0 ? NULL
					: wh__http_known_find(&c->server->known, data, input_left(c), &len);

	if (!head)
		return false;
	c->input_at += (uint32_t)len;
	handle_request(c, data, len, NULL, head);
	return true;
}

static bool hold(struct wh__http_connection *c, const char *data, size_t len)
{
	if (len == 0)
		return true;
	if (c->held_len + len > c->held_cap) {
		size_t cap = (c->held_len + len) * 2;
		char *held = realloc(c->held, cap);

		if (!held)
			return false;
		c->held = held;
		c->held_cap = (uint32_t)cap;
	}
	memcpy(c->held + c->held_len, data, len);
	c->held_len += (uint32_t)len;
	return true;
}

static bool may_begin(const struct wh__http_connection *c)
{
	return !c->no_more && (!c->last || c->last->parallel) &&
	       c->exchange_count < c->server->options.pipeline_max &&
	       (c->output_bytes < c->server->options.output_bytes_max || c->output_bytes == 0) &&
	       (!c->server->thread || wh__http_forward_may_begin(c));
}

/* true: another step may be possible. */
static bool read_head(struct wh__http_connection *c)
{
	const char *data, *reason = NULL;
	size_t consumed, skipped;
	bool end;
	int status;

	if (!c->input || !may_begin(c))
		return false;
	data = input_at(c);
	if (c->held_len == 0)
		c->active_at = wh_now(c->server->loop);
	if (handle_known(c))
		return true;
	status = wh__http_scan(&c->scan, &c->server->limits, data, input_left(c), &consumed, &skipped, &end,
	                       &reason);
	if (status) {
		wh__http_input_refuse(c, status, reason);
		return false;
	}
	c->input_at += (uint32_t)consumed;
	if (skipped > 0)
		c->held_len = 0;
	data += skipped;
	consumed -= skipped;
	if (end && c->held_len == 0) {
		handle_head(c, data, consumed, NULL);
	} else if (!hold(c, data, consumed)) {
		c->failed = true;
	} else if (end) {
		char *held = c->held;
		size_t len = c->held_len;

		c->held = NULL;
		c->held_len = c->held_cap = 0;
		handle_head(c, held, len, held);
	}
	return true;
}

/* ---- bodies ------------------------------------------------------------------------------- */

static void body_over(struct wh__http_connection *c, wh_http_exchange *x)
{
	x->body_done = true;
	c->reading = NULL;
	c->active_at = wh_now(c->server->loop);
}

/* The next bytes of the body, decoded in place; they are used up. 0, or a refusal. */
static int take_content(struct wh__http_connection *c, wh_http_exchange *x, char **ret_data, size_t *ret_len,
                        const char **ret_reason)
{
	size_t len = input_left(c), consumed = len;
	int status;

	*ret_data = input_at(c);
	c->active_at = wh_now(c->server->loop);
	if (x->chunked_body) {
		status = wh__http_chunked(&x->chunked, *ret_data, len, &consumed, ret_len, ret_reason);
		if (status > 1)
			return status;
		if (status == 1)
			body_over(c, x);
	} else {
		*ret_len = consumed = len < x->body_left ? len : (size_t)x->body_left;
		x->body_left -= consumed;
		if (x->body_left == 0)
			body_over(c, x);
	}
	c->input_at += (uint32_t)consumed;
	x->body_seen += *ret_len;
	if (x->body_seen > x->body_max && !x->answered) {
		*ret_reason = "the body is larger than is taken here";
		return 413;
	}
	return 0;
}

/* The last len bytes of what has been seen, behind the others. */
static bool append_body(wh_http_exchange *x, const char *data, size_t len)
{
	size_t seen = (size_t)x->body_seen;

	if (len == 0)
		return true;
	if (seen > x->body_cap) {
		size_t cap = x->body_cap * 2, whole = seen + (size_t)x->body_left;
		char *body;

		cap = cap < 64 * 1024 ? 64 * 1024 : cap;
		cap = !x->chunked_body && cap > whole ? whole : cap < seen ? seen : cap;
		body = realloc(x->body, cap);
		if (!body)
			return false;
		x->body = body;
		x->body_cap = cap;
		x->body_owned = true;
	}
	memcpy(x->body + seen - len, data, len);
	return true;
}

static bool collect(struct wh__http_connection *c, wh_http_exchange *x)
{
	const char *reason = NULL;
	char *data;
	size_t len;
	bool first = x->body_seen == 0;
	int status = take_content(c, x, &data, &len, &reason);

	if (status) {
		c->reading = x; /* the body may have ended with the fault */
		refuse_exchange(x, status, reason);
		return false;
	}
	if (first && x->body_done) {
		x->body = data;
	} else if (!wh__http_exchange_keep(x) || !append_body(x, data, len)) {
		c->failed = true;
		return false;
	}
	if (x->body_done)
		hand_over_in_turn(x);
	return true;
}

static bool stream(struct wh__http_connection *c, wh_http_exchange *x)
{
	const char *reason = NULL;
	struct wh__op *read = x->read;
	struct wh_buf *buf;
	char *data;
	size_t len;
	int status = take_content(c, x, &data, &len, &reason);

	if (status) {
		c->reading = x;
		wh__http_input_body_failed(c, status, status == 413 ? -WH_EHTTP_TOO_LARGE : -WH_EHTTP_SYNTAX,
		                           reason);
		return false;
	}
	if (len == 0 && !x->body_done)
		return true;
	x->read = NULL;
	if (len == 0) {
		wh__op_complete(read, 0, NULL);
		return true;
	}
	buf = wh__http_body_piece(c->server->loop, &c->input, c->input_at, data, len);
	if (buf) {
		wh__op_complete(read, (int64_t)len, buf);
		return true;
	}
	wh__op_complete(read, -ENOBUFS, NULL);
	c->failed = true; /* bytes are lost */
	return false;
}

static bool discard(struct wh__http_connection *c, wh_http_exchange *x)
{
	const char *reason;
	char *data;
	size_t len;

	if (take_content(c, x, &data, &len, &reason)) {
		c->reading = x;
		wh__http_input_body_failed(c, 400, -WH_EHTTP_SYNTAX, reason);
		return false;
	}
	if (x->body_done)
		wh__http_exchange_reap(x);
	return true;
}

/* true: another step may be possible. */
static bool read_body(struct wh__http_connection *c, wh_http_exchange *x)
{
	if (!c->input)
		return false;
	if (x->answered)
		return discard(c, x);
	if (x->mode == WH__HTTP_MODE_COLLECT)
		return collect(c, x);
	return x->read && stream(c, x);
}

void wh__http_input_advance(struct wh__http_connection *c)
{
	bool more = true;

	while (more && !c->failed && !c->down) {
		wh_http_exchange *last = c->last, *reading = c->reading;

		/* a request whose body is still to come outlives the buffer that its head came in */
		if (reading && reading->stage == WH__HTTP_STAGE_BODY && input_left(c) == 0 &&
		    !wh__http_exchange_keep(reading)) {
			c->failed = true;
			return;
		}
		input_trim(c);
		if (last && last->stage == WH__HTTP_STAGE_HELD && !last->answered) {
			more = c->first == last;
			if (more)
				hand_over(last);
		} else if (c->reading) {
			more = read_body(c, c->reading);
		} else {
			more = read_head(c);
		}
	}
}
