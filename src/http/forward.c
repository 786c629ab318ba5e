/* src/http/forward.c -- the thread's side of a server with threads: requests are handed to the handlers' loop as notes, and answered
 * as its notes say. See threads.h.
 *
 * To the server of the thread these are handlers like any other, which answer later. Only how a body is to come is not known when they
 * have to say it: unless it is there with its head, it is taken for one that is read in pieces, of which nothing is read until the
 * handlers' loop has decided.
 *
 * Thread: the thread's loop.  Memory: tickets and lanes are made and freed here; a few tickets are kept.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/message.h"
#include "http/threads.h"

enum { SPARE_MAX = 256, AHEAD_BYTES_MAX = 256 * 1024 };

#define TICKET_OF(note, member) \
	((struct wh__http_ticket *)(void *)((char *)(note)-offsetof(struct wh__http_ticket, member)))

static void front_closed(void *arg);

static struct wh__http_thread *thread_of(const wh_http_exchange *x)
{
	return x->connection->server->thread;
}

static void put(struct wh__http_ticket *t, struct wh__http_note *note, enum wh__http_note_kind kind)
{
	t->sent++;
	wh__http_way_put(&t->lane->thread->in, note, kind);
}

/* ---- lanes and tickets -------------------------------------------------------------------- */

static struct wh__http_lane *lane_of(struct wh__http_connection *c)
{
	struct sockaddr_storage address;
	struct wh__http_lane *lane;
	socklen_t len = 0;
	int error;

	if (c->lane)
		return c->lane;
	error = wh_peer_address(c->server->loop, c->stream.fd, &address, &len);
	if (error != 0)
		len = 0;
	lane = malloc(sizeof(*lane) + len);
	if (!lane)
		return NULL;
	*lane = (struct wh__http_lane){.thread = c->server->thread,
	                               .connection = c,
	                               .tls = c->stream.tls,
	                               .peer_error = error,
	                               .peer_len = len};
	memcpy(lane->peer, &address, len);
	c->lane = lane;
	return lane;
}

static void check_lane(struct wh__http_lane *lane)
{
	if (!lane->connection && lane->tickets == 0)
		free(lane);
}

void wh__http_forward_connection_gone(struct wh__http_connection *c)
{
	if (!c->lane)
		return;
	c->lane->connection = NULL;
	check_lane(c->lane);
}

/* A client that sends on and on without reading has only so much of it taken. */
bool wh__http_forward_may_begin(const struct wh__http_connection *c)
{
	return !c->lane || c->lane->ahead < AHEAD_BYTES_MAX;
}

/* What is held is told apart from what is on its way by counting both at their ends. */
void wh__http_forward_settled(struct wh__http_connection *c)
{
	struct wh__http_lane *lane = c->lane;

	if (!lane || lane->taken == 0)
		return;
	atomic_store(&lane->left, (int64_t)lane->taken - (int64_t)c->output_bytes);
	if (lane->is_telling || c->output_bytes >= c->server->options.output_bytes_max ||
	    !atomic_exchange(&lane->waits, false))
		return;
	lane->is_telling = true;
	lane->tickets++;
	lane->thread->tickets++;
	wh__http_way_put(&lane->thread->in, &lane->sent, WH__HTTP_NOTE_SENT);
}

static void told(struct wh__http_lane *lane)
{
	struct wh__http_thread *thread = lane->thread;

	lane->is_telling = false;
	lane->tickets--;
	thread->tickets--;
	if (lane->connection)
		wh__http_forward_settled(lane->connection); /* it may be waited for again */
	else
		check_lane(lane);
	wh__http_threads_check_gone(thread);
}

void wh__http_ticket_free(struct wh__http_ticket *t)
{
	free(t);
}

static struct wh__http_ticket *ticket_new(wh_http_exchange *x)
{
	struct wh__http_thread *thread = thread_of(x);
	struct wh__http_lane *lane = lane_of(x->connection);
	struct wh__http_ticket *t = lane ? thread->spare : NULL;

	if (!lane)
		return NULL;
	if (t) {
		thread->spare = t->next_spare;
		thread->spare_count--;
	} else {
		t = malloc(sizeof(*t));
		if (!t)
			return NULL;
	}
	memset(t, 0, sizeof(*t));
	t->lane = lane;
	t->front = x;
	lane->tickets++;
	thread->tickets++;
	wh_http_set_arg(x, t);
	return t;
}

static void clear_reply(struct wh__http_ticket *t)
{
	free(t->reply.fields);
	t->reply.fields = NULL;
	free(t->reply.block);
	t->reply.block = NULL;
	if (t->reply.borrowed)
		wh__http_way_put(&t->lane->thread->in, &t->reply.borrowed->note, WH__HTTP_NOTE_TAKEN);
	t->reply.borrowed = NULL;
}

/* The other side has let it go. */
static void recycle(struct wh__http_ticket *t)
{
	struct wh__http_thread *thread = t->lane->thread;
	struct wh__http_lane *lane = t->lane;

	if (!t->is_ours || t->asking || t->reading || t->front)
		return;
	clear_reply(t);
	free(t->given.body);
	wh_buf_put(t->given.piece);
	lane->tickets--;
	check_lane(lane);
	if (thread->spare_count < SPARE_MAX) {
		t->next_spare = thread->spare;
		thread->spare = t;
		thread->spare_count++;
	} else {
		wh__http_ticket_free(t);
	}
	thread->tickets--;
	wh__http_threads_check_gone(thread);
}

/* It is ours once no note of ours is on the way any more. */
static void released(struct wh__http_ticket *t)
{
	if (t->received_at_release != t->sent) {
		put(t, &t->last, WH__HTTP_NOTE_LAST);
		return;
	}
	t->is_ours = true;
	recycle(t);
}

/* ---- to the handlers ---------------------------------------------------------------------- */

static void front_half_closed(void *arg)
{
	struct wh__http_ticket *t = arg;

	put(t, &t->half_closed, WH__HTTP_NOTE_HALF_CLOSED);
}

/* The exchange is over, or is to be ended here: from now on the ticket has none. */
static wh_http_exchange *take_front(struct wh__http_ticket *t)
{
	wh_http_exchange *x = t->front;

	t->front = NULL;
	t->lane->ahead -= t->weight;
	t->weight = 0;
	wh_http_on_close(x, NULL, NULL);
	wh_http_on_half_close(x, NULL, NULL);
	wh_http_on_end(x, NULL, NULL);
	return x;
}

/* What the handlers still answer goes nowhere. */
static void front_closed(void *arg)
{
	struct wh__http_ticket *t = arg;
	wh_http_exchange *x = take_front(t);

	put(t, &t->closed, WH__HTTP_NOTE_CLOSED);
	wh_http_abort(x);
}

/* The connection went amid a body that was collected, and the server has ended the exchange. */
static void front_ended(void *arg)
{
	struct wh__http_ticket *t = arg;

	t->front = NULL;
	t->lane->ahead -= t->weight;
	t->weight = 0;
	put(t, &t->closed, WH__HTTP_NOTE_CLOSED);
}

/* Head and, if it is there, body in memory of their own. */
static bool copy_request(struct wh__http_ticket *t, const wh_http_exchange *x)
{
	size_t meta =
		offsetof(struct wh__http_head, fields) + x->head->field_count * sizeof(x->head->fields[0]);
	size_t body_len = x->body ? (size_t)x->body_seen : 0;
	char *kept = malloc(meta + x->head_len + body_len);

	if (!kept)
		return false;
	memcpy(kept, x->head, meta);
	memcpy(kept + meta, x->base, x->head_len);
	if (body_len > 0) {
		memcpy(kept + meta + x->head_len, x->body, body_len);
		t->x.body = kept + meta + x->head_len;
		t->x.body_seen = t->x.body_cap = body_len;
	}
	t->memory = kept;
	t->x.head = (struct wh__http_head *)(void *)kept;
	t->x.base = kept + meta;
	t->x.head_len = x->head_len;
	t->weight = meta + x->head_len + body_len;
	t->lane->ahead += t->weight;
	return true;
}

static void copy_meaning(wh_http_exchange *to, const wh_http_exchange *x)
{
	to->method = x->method;
	to->token = x->token;
	to->version = x->version;
	to->keep_alive = x->keep_alive;
	to->chunked_body = x->chunked_body;
	to->has_length = x->has_length;
	to->expects = x->expects;
	to->length = x->length;
	to->received_at = x->received_at;
	to->may_upgrade = x->may_upgrade;
	to->parallel = wh__http_is_safe((enum wh_http_method)x->method) && !x->may_upgrade;
}

void wh__http_forward_head(wh_http_exchange *x, void *arg)
{
	const struct wh__http_connection *c = x->connection;
	size_t there = c->input ? c->input->len - c->input_at : 0;

	/* their order is kept on the other side */
	wh_http_parallel(x);
	if (x->body_done || (x->has_length && x->body_left <= there))
		wh_http_collect(x, UINT64_MAX);
	else
		wh_http_stream(x, UINT64_MAX);
}

/* A collected body that the other side has waited for. */
static void forward_body(struct wh__http_ticket *t, wh_http_exchange *x)
{
	size_t len = (size_t)x->body_seen;

	wh_http_on_end(x, NULL, NULL);
	if (!x->body_owned && len > 0) {
		char *body = malloc(len);

		if (!body) {
			front_closed(t);
			return;
		}
		memcpy(body, x->body, len);
		t->given.body = body;
	} else if (x->body_owned) {
		t->given.body = x->body;
		x->body_owned = false;
	}
	t->given.len = len;
	t->weight += len;
	t->lane->ahead += len;
	x->body = NULL;
	put(t, &t->request, WH__HTTP_NOTE_BODY);
	wh_http_on_close(x, front_closed, t);
}

void wh__http_forward_request(wh_http_exchange *x, void *arg)
{
	struct wh__http_ticket *t = wh_http_arg(x);

	if (t) {
		forward_body(t, x);
		return;
	}
	t = ticket_new(x);
	if (!t || !copy_request(t, x)) {
		if (t) {
			t->front = NULL;
			t->is_ours = true;
			recycle(t);
		}
		wh_http_abort(x);
		return;
	}
	copy_meaning(&t->x, x);
	t->given.complete = x->body_done;
	put(t, &t->request, WH__HTTP_NOTE_REQUEST);
	wh_http_on_close(x, front_closed, t);
	wh_http_on_half_close(x, front_half_closed, t);
}

/* The server refuses x, whose answer the handlers' loop words. */
void wh__http_forward_refusal(wh_http_exchange *x, int status, const char *reason, uint64_t limit)
{
	struct wh__http_ticket *t = wh_http_arg(x);
	bool known = t != NULL;

	if (!known)
		t = ticket_new(x);
	if (!t) {
		wh_http_abort(x);
		return;
	}
	if (!known)
		copy_meaning(&t->x, x);
	t->given.status = status;
	t->given.reason = reason;
	t->given.limit = limit;
	put(t, &t->request, known ? WH__HTTP_NOTE_BODY : WH__HTTP_NOTE_REQUEST);
	wh_http_on_end(x, NULL, NULL);
	wh_http_on_close(x, front_closed, t);
}

/* ---- bodies and room ---------------------------------------------------------------------- */

static void got_piece(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__http_ticket *t = arg;

	t->reading = false;
	if (!t->front) {
		wh_buf_put(res.n > 0 ? res.ptr : NULL);
		recycle(t);
		return;
	}
	t->given.n = res.n;
	t->given.piece = res.n > 0 ? res.ptr : NULL;
	put(t, &t->request, WH__HTTP_NOTE_PIECE);
}

static void read_piece(struct wh__http_ticket *t)
{
	t->given.piece = wh_buf_put(t->given.piece);
	if (!t->front)
		return;
	t->reading = true;
	if (wh_then(wh_http_read(t->front), got_piece, t) == 0)
		return;
	t->reading = false;
	t->given.n = -ENOMEM;
	put(t, &t->request, WH__HTTP_NOTE_PIECE);
}

static void say_room(struct wh__http_ticket *t, int64_t error)
{
	t->room_seen = t->seen;
	t->room_error = error;
	put(t, &t->room, WH__HTTP_NOTE_ROOM);
}

static void got_room(wh_loop *loop, wh_res res, void *arg)
{
	struct wh__http_ticket *t = arg;

	t->asking = false;
	if (t->front)
		say_room(t, res.n < 0 ? res.n : 0);
	else
		recycle(t);
}

/* The answer comes once the connection has sent most of what it holds. */
static void look_for_room(struct wh__http_ticket *t)
{
	if (!t->front)
		return;
	wh_http_set_unsent_max(t->front, t->ask_unsent_max);
	t->asking = true;
	if (wh_then(wh_http_write(t->front, "", 0), got_room, t) == 0)
		return;
	t->asking = false;
	say_room(t, 0);
}

/* ---- answers ------------------------------------------------------------------------------ */

static void set_fields(struct wh__http_ticket *t, wh_http_exchange *x)
{
	free(x->fields);
	x->fields = t->reply.fields;
	x->fields_len = t->reply.fields_len;
	x->fields_cap = t->reply.fields_cap;
	x->fields_names = t->reply.fields_names;
	x->date_set = t->reply.date_set;
	x->lacks_field = t->reply.lacks_field;
	t->reply.fields = NULL;
}

static void begin_answer(struct wh__http_ticket *t)
{
	wh_http_exchange *x = t->front;

	if (!x)
		return;
	set_fields(t, x);
	x->close_after |= t->reply.start_close_after;
	(void)wh_http_start(x, t->reply.status, t->reply.length);
}

/* "Name: value\r\n" each, as remote.c has put them together. */
static void inform(wh_http_exchange *x, const struct wh__http_part *part)
{
	struct wh_http_field fields[WH__HTTP_FIELDS_MAX];
	const char *at = part->bytes, *end = at + part->len;
	size_t count = 0;

	while (at < end && count < WH__HTTP_FIELDS_MAX) {
		const char *colon = memchr(at, ':', (size_t)(end - at));
		const char *stop = memchr(at, '\r', (size_t)(end - at));

		fields[count++] = (struct wh_http_field){{at, (size_t)(colon - at)},
		                                         {colon + 2, (size_t)(stop - colon - 2)}};
		at = stop + 2;
	}
	(void)wh_http_inform(x, part->status, fields, count);
}

static void take_part(struct wh__http_part *part)
{
	struct wh__http_ticket *t = part->ticket;

	if (part->status > 0) {
		if (t->front)
			inform(t->front, part);
	} else {
		t->seen += part->len;
		t->lane->taken += part->len;
		if (t->front) /* who waits asks */
			(void)wh_drop(wh_http_write(t->front, part->bytes, part->len));
	}
	free(part);
}

static void body_sent(void *arg)
{
	struct wh__http_borrowed *borrowed = arg;

	wh__http_way_put(&borrowed->thread->in, &borrowed->note, WH__HTTP_NOTE_TAKEN);
}

static void respond(struct wh__http_ticket *t, wh_http_exchange *x)
{
	struct wh__http_borrowed *borrowed = t->reply.borrowed;
	char *block = t->reply.block;

	set_fields(t, x);
	t->lane->taken += t->reply.body ? t->reply.body_len : 0;
	x->close_after |= t->reply.close_after;
	t->reply.borrowed = NULL;
	t->reply.block = NULL;
	if (borrowed)
		wh_http_respond_own(x, t->reply.status, t->reply.body, t->reply.body_len, body_sent,
		                    borrowed);
	else if (block)
		wh_http_respond_own(x, t->reply.status, block, t->reply.body_len, free, block);
	else
		wh_http_respond(x, t->reply.status, t->reply.body, t->reply.body_len);
}

static void take_answer(struct wh__http_ticket *t)
{
	if (t->front) {
		wh_http_exchange *x = take_front(t);

		switch (t->reply.kind) {
		case WH__HTTP_ANSWER_REFUSAL:
			wh__http_input_refused(x);
			respond(t, x);
			break;
		case WH__HTTP_ANSWER_WHOLE:
			respond(t, x);
			break;
		case WH__HTTP_ANSWER_END:
			x->close_after |= t->reply.close_after;
			wh_http_end(x);
			break;
		default:
			wh_http_abort(x);
			break;
		}
	}
	if (t->reply.releases)
		released(t);
}

static void take_decision(struct wh__http_ticket *t)
{
	wh_http_exchange *x = t->front;

	if (!x)
		return;
	if (t->decided_collect) {
		wh_http_on_close(x, NULL, NULL);
		wh_http_on_end(x, front_ended, t);
	}
	wh__http_input_decided(x, t->decided_collect, t->decided_max);
}

void wh__http_forward_take(struct wh__http_thread *thread, struct wh__http_note *note)
{
	struct wh__http_ticket *t;

	switch (note->kind) {
	case WH__HTTP_NOTE_DECIDED:
		take_decision(TICKET_OF(note, decided));
		break;
	case WH__HTTP_NOTE_READ:
		read_piece(TICKET_OF(note, read));
		break;
	case WH__HTTP_NOTE_START:
		begin_answer(TICKET_OF(note, start));
		break;
	case WH__HTTP_NOTE_PART:
		take_part((struct wh__http_part *)(void *)note);
		break;
	case WH__HTTP_NOTE_ASK:
		look_for_room(TICKET_OF(note, ask));
		break;
	case WH__HTTP_NOTE_FAIL:
		t = TICKET_OF(note, fail);
		if (t->front)
			wh__http_connection_fail(t->front->connection, true);
		break;
	case WH__HTTP_NOTE_ANSWER:
		take_answer(TICKET_OF(note, answer));
		break;
	case WH__HTTP_NOTE_RELEASE:
		released(TICKET_OF(note, release));
		break;
	case WH__HTTP_NOTE_FREE:
		t = TICKET_OF(note, release);
		t->is_ours = true;
		recycle(t);
		break;
	case WH__HTTP_NOTE_SEEN:
		told((struct wh__http_lane *)(void *)((char *)note - offsetof(struct wh__http_lane, sent)));
		break;
	default:
		break;
	}
}
