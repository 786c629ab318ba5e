/* src/http/remote.c -- an exchange whose connection is on another thread: what its handlers see and do. See threads.h.
 *
 * It does what exchange.c, answer.c and input.c do for a connection of the same loop: hands requests over in the order that they
 * may be worked on, keeps handlers from being called within one another, tells of ends. Bytes and time-outs are the thread's.
 *
 * Thread: the handlers' loop.  Memory: tickets and lanes are the thread's, lent from NOTE_REQUEST until .released.
 */
#include "http/remote_inside.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/writes.h"

#define TICKET_OF(note, member) \
	((struct wh__http_ticket *)(void *)((char *)(note)-offsetof(struct wh__http_ticket, member)))

wh_http_server *wh__http_remote_server(const wh_http_exchange *x)
{
	return hub_of(const_ticket_of(x))->server;
}

/* ---- settling ----------------------------------------------------------------------------- */

static void mark(struct wh__http_lane *lane)
{
	struct wh__http_hub *hub = lane->thread->hub;

	if (lane->is_dirty || !lane->first)
		return;
	lane->is_dirty = true;
	lane->next_dirty = hub->dirty;
	lane->dirty_link = &hub->dirty;
	if (lane->next_dirty)
		lane->next_dirty->dirty_link = &lane->next_dirty;
	hub->dirty = lane;
	if (hub->settling)
		return;
	hub->settling = true;
	wh__inbox_push(hub->server->loop, &hub->settle);
}

static void unmark(struct wh__http_lane *lane)
{
	if (!lane->is_dirty)
		return;
	lane->is_dirty = false;
	*lane->dirty_link = lane->next_dirty;
	if (lane->next_dirty)
		lane->next_dirty->dirty_link = lane->dirty_link;
}

/* ---- the end of a ticket ------------------------------------------------------------------ */

/* The request. */
static void drop_memory(struct wh__http_ticket *t)
{
	wh__http_exchange_drop_request(&t->x);
	free(t->memory);
	t->memory = NULL;
}

/* Nothing of the ticket is touched any more, but for notes that are still on the way here. */
static void let_go(struct wh__http_ticket *t)
{
	assert(!t->x.listed && !t->x.in_handler && !t->x.read && !t->x.writes);
	drop_memory(t);
	t->early = wh_buf_put(t->early);
	*t->all_link = t->all_next;
	if (t->all_next)
		t->all_next->all_link = t->all_link;
	t->received_at_release = t->received;
	t->released = true;
}

static void send_answer(struct wh__http_ticket *t)
{
	wh_http_exchange *x = &t->x;

	t->answer_due = false;
	t->posted_answer = true;
	if (!t->is_closed && t->has_failed)
		t->reply.kind = WH__HTTP_ANSWER_ABORT;
	t->reply.close_after = x->close_after;
	/* nobody asks after them any more */
	t->acknowledged = t->posted;
	t->reply.releases = !x->listed;
	if (t->reply.releases)
		let_go(t);
	put(t, &t->answer, WH__HTTP_NOTE_ANSWER);
}

/* After whatever may have been the last that held it. */
static void reap(struct wh__http_ticket *t)
{
	if (t->x.in_handler || !t->x.answered)
		return;
	if (t->answer_due) {
		send_answer(t);
	} else if (t->posted_answer && !t->x.listed && !t->released) {
		let_go(t);
		put(t, &t->release, WH__HTTP_NOTE_RELEASE);
	}
}

static void unlist(struct wh__http_ticket *t)
{
	struct wh__http_lane *lane = t->lane;
	struct wh__http_ticket *before = NULL;
	wh_http_exchange *x = &t->x;

	assert(x->listed);
	for (struct wh__http_ticket *at = lane->first; at != t; at = ticket_of(at->x.next))
		before = at;
	if (before)
		before->x.next = x->next;
	else
		lane->first = x->next ? ticket_of(x->next) : NULL;
	if (lane->last == t)
		lane->last = before;
	x->listed = false;
	if (!lane->first)
		unmark(lane);
	wh__http_call_once(&x->on_end, x->on_end_arg);
}

/* Whoever is first in line and answered is over. keep: reaped by the caller, after all else, so the lane is there until then. */
static void over(struct wh__http_lane *lane, const struct wh__http_ticket *keep)
{
	while (lane->first && lane->first->x.answered) {
		struct wh__http_ticket *first = lane->first;

		lane->cut |= first->x.close_after;
		unlist(first);
		if (first != keep)
			reap(first);
	}
}

/* The answer is there, of which .reply says what it is. */
void wh__http_remote_over(struct wh__http_ticket *t)
{
	struct wh__http_lane *lane = t->lane;
	wh_http_exchange *x = &t->x;

	assert(!x->answered);
	x->answered = true;
	x->on_close = x->on_half_close = x->on_drain = NULL;
	wh__http_writes_end(&x->writes, 0);
	if (x->read) {
		struct wh__op *read = x->read;

		x->read = NULL;
		wh__op_complete(read, -ECANCELED, NULL);
	}
	t->answer_due = true;
	if (t->is_closed) {
		t->reply.kind = WH__HTTP_ANSWER_NOTHING;
		unlist(t);
	}
	over(lane, t);
	mark(lane);
	reap(t);
}

/* ---- refusals ------------------------------------------------------------------------------ */

/* The server itself answers, and the connection ends. */
static void refuse(struct wh__http_ticket *t, int status, const char *reason, uint64_t limit)
{
	wh_http_exchange *x = &t->x;

	x->close_after = true;
	x->body_done = true;
	x->stage = WH__HTTP_STAGE_HANDED; /* nobody else ends it */
	wh__http_call_once(&x->on_close, x->on_close_arg);
	x->on_half_close = NULL;
	x->fields_len = 0;
	x->fields_names = 0;
	x->date_set = false;
	if (x->answered)
		return;
	wh__http_answer_refusal(x, status, reason, limit);
}

/* ---- the request -------------------------------------------------------------------------- */

const wh_http_exchange *wh__http_remote_first(const wh_http_exchange *x)
{
	const struct wh__http_lane *lane = const_ticket_of(x)->lane;

	return lane->first ? &lane->first->x : NULL;
}

bool wh__http_remote_is_closed(const wh_http_exchange *x)
{
	return const_ticket_of(x)->is_closed || const_ticket_of(x)->has_failed;
}

const wh_tls *wh__http_remote_tls(const wh_http_exchange *x)
{
	return const_ticket_of(x)->is_closed ? NULL : const_ticket_of(x)->lane->tls;
}

int wh__http_remote_peer(const wh_http_exchange *x, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	const struct wh__http_lane *lane = const_ticket_of(x)->lane;

	if (const_ticket_of(x)->is_closed)
		return -ENOTCONN;
	if (lane->peer_error != 0)
		return lane->peer_error;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret, lane->peer, lane->peer_len);
	*ret_len = lane->peer_len;
	return 0;
}

bool wh__http_remote_is_half_closed(const wh_http_exchange *x)
{
	return const_ticket_of(x)->is_half_closed || const_ticket_of(x)->is_closed;
}

void wh__http_remote_mark(wh_http_exchange *x)
{
	mark(ticket_of(x)->lane);
}

/* ---- its body ----------------------------------------------------------------------------- */

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

static bool body_is_left(const struct wh__http_ticket *t)
{
	return t->complete && t->x.body && t->body_at < t->x.body_seen;
}

/* Of a body that came with its head. */
static struct wh_buf *next_piece(struct wh__http_ticket *t)
{
	struct wh_buf *buf = wh_buf_get(loop_of(t));
	size_t len = (size_t)t->x.body_seen - t->body_at;

	if (!buf)
		return NULL;
	len = len < buf->cap ? len : buf->cap;
	memcpy(buf->data, t->x.body + t->body_at, len);
	buf->len = (uint32_t)len;
	t->body_at += len;
	if (!body_is_left(t) && !t->x.head)
		drop_memory(t);
	return buf;
}

static void read_more(struct wh__http_ticket *t)
{
	if (t->is_reading)
		return;
	t->is_reading = true;
	put(t, &t->read, WH__HTTP_NOTE_READ);
}

wh_future wh__http_remote_read(wh_http_exchange *x)
{
	struct wh__http_ticket *t = ticket_of(x);
	struct wh__op *op;
	wh_future f;

	if (x->mode != WH__HTTP_MODE_STREAM || x->answered)
		return wh_failed(loop_of(t), -EINVAL);
	if (x->read)
		return wh_failed(loop_of(t), -EBUSY);
	if (!t->early && !body_is_left(t) && (x->read_error || (t->is_closed && !x->body_done)))
		return wh_failed(loop_of(t), x->read_error ? x->read_error : -ECONNRESET);
	op = wh__op_new(loop_of(t), WH__OP_HTTP);
	if (!op)
		return wh_failed(loop_of(t), -EAGAIN);
	op->buf = x;
	op->cancel_inner = read_cancelled;
	op->dispose = put_piece;
	f = wh__op_future(op);
	if (t->early || body_is_left(t)) {
		struct wh_buf *buf = t->early ? t->early : next_piece(t);

		t->early = NULL;
		wh__op_complete(op, buf ? (int64_t)buf->len : -ENOBUFS, buf);
	} else if (x->body_done) {
		wh__op_complete(op, 0, NULL);
	} else {
		x->read = op;
		if (x->stage != WH__HTTP_STAGE_HEAD)
			read_more(t);
	}
	return f;
}

/* The buffer is of the other loop's pool: it goes back with the next note. */
static void take_piece(struct wh__http_ticket *t)
{
	wh_http_exchange *x = &t->x;
	struct wh__op *read = x->read;
	int64_t n = t->given.n;
	struct wh_buf *buf = NULL;

	t->is_reading = false;
	if (x->answered || t->is_closed)
		return;
	if (n > 0) {
		buf = wh_buf_get(loop_of(t));
		if (buf && buf->cap >= (size_t)n) {
			memcpy(buf->data, t->given.piece->data, (size_t)n);
			buf->len = (uint32_t)n;
		} else {
			buf = wh_buf_put(buf);
			n = -ENOBUFS;
			wh__http_remote_fail(t); /* bytes are lost */
		}
	}
	if (n == 0)
		x->body_done = true;
	else if (n < 0)
		x->read_error = (int32_t)n;
	x->read = NULL;
	if (read)
		wh__op_complete(read, n, buf);
	else
		t->early = buf;
}

/* ---- handing over ------------------------------------------------------------------------- */

static void drop_request(struct wh__http_ticket *t)
{
	if (t->x.mode == WH__HTTP_MODE_STREAM && body_is_left(t)) {
		t->x.head = NULL; /* the body stays until it is read */
		t->x.base = NULL;
	} else {
		drop_memory(t);
	}
}

static void hand_over(struct wh__http_ticket *t)
{
	struct wh_http_server_options *o = &hub_of(t)->server->options;
	wh_http_exchange *x = &t->x;

	x->stage = WH__HTTP_STAGE_HANDED;
	x->in_handler = true;
	o->on_request(x, o->arg);
	x->in_handler = false;
	if (!x->answered && !x->retained)
		drop_request(t);
	reap(t);
}

/* Methods that change something wait for their turn, unless the handler said that they need not: RFC 9112 section 9.3.2. */
static void hand_over_in_turn(struct wh__http_ticket *t)
{
	if (t->lane->first == t || t->x.parallel)
		hand_over(t);
	else
		t->x.stage = WH__HTTP_STAGE_HELD;
}

static void begin_body(struct wh__http_ticket *t)
{
	wh_http_exchange *x = &t->x;

	if (x->has_length && x->length > 0 && x->length > x->body_max) {
		t->reply.kind = WH__HTTP_ANSWER_REFUSAL;
		refuse(t, 413, "the body is larger than is taken here",
		       x->body_max ? x->body_max : hub_of(t)->server->options.body_bytes_max);
		return;
	}
	if (t->complete) {
		hand_over_in_turn(t);
		return;
	}
	t->decided_collect = x->mode == WH__HTTP_MODE_COLLECT;
	t->decided_max = x->body_max;
	put(t, &t->decided, WH__HTTP_NOTE_DECIDED);
	x->stage = WH__HTTP_STAGE_BODY;
	if (t->decided_collect)
		return;
	if (x->read)
		read_more(t);
	hand_over_in_turn(t);
}

static void begin(struct wh__http_ticket *t)
{
	struct wh_http_server_options *o = &hub_of(t)->server->options;
	wh_http_exchange *x = &t->x;

	t->begun = true;
	x->in_handler = true;
	if (o->on_head)
		o->on_head(x, o->arg);
	x->in_handler = false;
	if (x->answered)
		reap(t);
	else
		begin_body(t);
}

/* As in a server without threads, no request is begun while the connection holds as much as it may. If it is to wait, the thread
 * tells when it holds less: it looks at .waits after it has said what it holds, and here it is the other way round. */
static bool has_room(struct wh__http_lane *lane)
{
	int64_t max = lane->thread->hub->server->options.output_bytes_max;

	if ((int64_t)lane->posted < max || (int64_t)lane->posted - atomic_load(&lane->left) < max)
		return true;
	if (!lane->is_waiting) {
		lane->is_waiting = true;
		atomic_store(&lane->waits, true);
	}
	if ((int64_t)lane->posted - atomic_load(&lane->left) >= max)
		return false;
	if (atomic_exchange(&lane->waits, false)) /* else its note is on the way, and is waited for */
		lane->is_waiting = false;
	return true;
}

/* What of a lane may go on now. After each call of a handler everything may be different, but for the lane: its last ticket is only
 * let go when it is listed no more, and then this is over. */
static bool advance_once(struct wh__http_lane *lane)
{
	struct wh__http_ticket *before = NULL;

	for (struct wh__http_ticket *t = lane->first; t; t = t->x.next ? ticket_of(t->x.next) : NULL) {
		if (!t->begun) {
			if (lane->cut || (before && !before->x.parallel) || !has_room(lane))
				return false;
			begin(t);
			return true;
		}
		if (t->x.stage == WH__HTTP_STAGE_HELD && !t->x.answered && !before) {
			hand_over(t);
			return true;
		}
		before = t;
	}
	return false;
}

/* true: there was something to tell. Who has asked for both learns of the end alone. */
static bool tell(struct wh__http_ticket *t)
{
	wh_http_exchange *x = &t->x;

	if (t->is_closed && x->on_close) {
		x->on_half_close = NULL;
		wh__http_call_once(&x->on_close, x->on_close_arg);
	} else if ((t->is_closed || t->is_half_closed) && x->on_half_close) {
		wh__http_call_once(&x->on_half_close, x->on_half_close_arg);
	} else if (hub_of(t)->server->draining && x->on_drain) {
		wh__http_call_once(&x->on_drain, x->on_drain_arg);
	} else {
		return false;
	}
	return true;
}

static bool tell_once(struct wh__http_lane *lane)
{
	for (struct wh__http_ticket *t = lane->first; t; t = t->x.next ? ticket_of(t->x.next) : NULL)
		if (tell(t))
			return true;
	return false;
}

/* One step for a lane, which may be gone afterwards: what is left of it is done when its turn comes again. */
static bool settle_once(struct wh__http_lane *lane)
{
	return advance_once(lane) || tell_once(lane);
}

static void settle_lane(void *arg)
{
	struct wh__http_lane *lane = arg;

	/* it stays marked meanwhile: who lets the last of it go takes the mark away, and the lane is not touched after that */
	while (lane->thread->hub->dirty == lane) {
		struct wh__http_hub *hub = lane->thread->hub;

		if (!settle_once(lane)) {
			unmark(lane);
			return;
		}
		if (hub->dirty != lane)
			return;
	}
}

void wh__http_remote_settle(void *arg)
{
	struct wh__http_hub *hub = arg;

	wh__callbacks_begin(hub->server->loop);
	while (hub->dirty)
		wh__call(hub->server->loop, settle_lane, hub->dirty);
	hub->settling = false;
	wh__callbacks_end(hub->server->loop);
}

void wh__http_remote_drained(struct wh__http_hub *hub)
{
	for (struct wh__http_ticket *t = hub->tickets; t; t = t->all_next)
		mark(t->lane);
}

/* ---- notes from the thread ---------------------------------------------------------------- */

static void take_request(struct wh__http_ticket *t)
{
	struct wh__http_lane *lane = t->lane;
	struct wh__http_ticket *before = lane->last;
	struct wh__http_hub *hub = hub_of(t);
	wh_http_exchange *x = &t->x;
	int64_t now = wh_now(hub->server->loop);

	x->received_at = x->received_at < now ? x->received_at : now;
	x->body_max = hub->server->options.body_bytes_max;
	x->listed = true;
	t->complete = t->given.complete;
	x->body_done = t->complete;
	t->all_next = hub->tickets;
	t->all_link = &hub->tickets;
	if (t->all_next)
		t->all_next->all_link = &t->all_next;
	hub->tickets = t;
	if (before)
		before->x.next = x;
	else
		lane->first = t;
	lane->last = t;
	if (t->given.status > 0) {
		t->begun = true;
		refuse(t, t->given.status, t->given.reason, t->given.limit);
		return;
	}
	/* else once what is before it lets it */
	if (!lane->cut && (!before || (before->begun && before->x.parallel)) && has_room(lane))
		begin(t);
}

static void take_body(struct wh__http_ticket *t)
{
	wh_http_exchange *x = &t->x;

	if (t->given.status > 0) {
		if (!x->answered)
			refuse(t, t->given.status, t->given.reason, t->given.limit);
		return;
	}
	if (x->answered) /* what has come is freed with the ticket */
		return;
	x->body = t->given.body;
	x->body_seen = x->body_cap = t->given.len;
	x->body_owned = true;
	t->given.body = NULL;
	x->body_done = true;
	hand_over_in_turn(t);
}

/* As tell_closed() in connection.c. */
static void take_closed(struct wh__http_ticket *t)
{
	wh_http_exchange *x = &t->x;

	t->is_closed = true;
	if (x->read) {
		struct wh__op *read = x->read;

		x->read = NULL;
		wh__op_complete(read, -ECONNRESET, NULL);
	}
	wh__http_writes_end(&x->writes, -EPIPE);
	if (x->answered) {
		if (x->listed)
			unlist(t);
		over(t->lane, t);
		mark(t->lane);
		reap(t);
		return;
	}
	x->in_handler = true; /* it must not go before what follows */
	if (x->on_close || x->on_half_close)
		(void)tell(t);
	x->in_handler = false;
	if (!x->answered && x->stage != WH__HTTP_STAGE_HANDED)
		wh__http_remote_over(t);
	else
		reap(t);
}

static void take_half_closed(struct wh__http_ticket *t)
{
	t->is_half_closed = true;
	if (t->x.on_half_close)
		(void)tell(t);
}

static void take_ticket(struct wh__http_ticket *t, uint8_t kind)
{
	if (t->released) {
		if (kind == WH__HTTP_NOTE_LAST)
			put(t, &t->release, WH__HTTP_NOTE_FREE);
		return;
	}
	t->received++;
	switch (kind) {
	case WH__HTTP_NOTE_REQUEST:
		take_request(t);
		break;
	case WH__HTTP_NOTE_BODY:
		take_body(t);
		break;
	case WH__HTTP_NOTE_PIECE:
		take_piece(t);
		break;
	case WH__HTTP_NOTE_ROOM:
		wh__http_remote_take_room(t);
		break;
	case WH__HTTP_NOTE_HALF_CLOSED:
		take_half_closed(t);
		break;
	case WH__HTTP_NOTE_CLOSED:
		take_closed(t);
		break;
	default:
		break;
	}
}

void wh__http_remote_take(struct wh__http_thread *thread, struct wh__http_note *note)
{
	struct wh__http_borrowed *borrowed;
	struct wh__http_lane *lane;

	switch (note->kind) {
	case WH__HTTP_NOTE_REQUEST:
	case WH__HTTP_NOTE_BODY:
	case WH__HTTP_NOTE_PIECE:
		take_ticket(TICKET_OF(note, request), note->kind);
		break;
	case WH__HTTP_NOTE_ROOM:
		take_ticket(TICKET_OF(note, room), note->kind);
		break;
	case WH__HTTP_NOTE_HALF_CLOSED:
		take_ticket(TICKET_OF(note, half_closed), note->kind);
		break;
	case WH__HTTP_NOTE_CLOSED:
		take_ticket(TICKET_OF(note, closed), note->kind);
		break;
	case WH__HTTP_NOTE_LAST:
		take_ticket(TICKET_OF(note, last), note->kind);
		break;
	case WH__HTTP_NOTE_SENT:
		lane = (struct wh__http_lane *)(void *)((char *)note - offsetof(struct wh__http_lane, sent));
		lane->is_waiting = false;
		mark(lane);
		wh__http_way_put(&thread->out, note, WH__HTTP_NOTE_SEEN);
		break;
	case WH__HTTP_NOTE_TAKEN:
		borrowed = (struct wh__http_borrowed *)(void *)note;
		if (borrowed->release)
			borrowed->release(borrowed->arg);
		free(borrowed);
		break;
	default:
		break;
	}
}
