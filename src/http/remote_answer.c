/* src/http/remote_answer.c -- answers to requests whose connection is on another thread: whole ones, ones in pieces, room for more. See
 * threads.h.
 *
 * What an answer says is kept in .reply of its ticket until the thread takes it over; pieces are allocated for their way.
 *
 * Thread: the handlers' loop.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/remote_inside.h"
#include "http/writes.h"

enum {
	SHORT_ANSWER_MAX = 16 * 1024, /* fields and body up to here go in one piece of memory */
	COPY_MAX = 1024               /* a body up to here is copied though its owner would lend it */
};

static void take_fields(struct wh__http_ticket *t)
{
	wh_http_exchange *x = &t->x;

	t->reply.fields = x->fields;
	t->reply.fields_len = x->fields_len;
	t->reply.fields_cap = x->fields_cap;
	t->reply.fields_names = x->fields_names;
	t->reply.date_set = x->date_set;
	t->reply.lacks_field = x->lacks_field;
	x->fields = NULL;
	x->fields_len = x->fields_cap = 0;
}

/* ---- whole answers ------------------------------------------------------------------------ */

/* false: no memory, and the connection is to fail. */
static bool copy_body(struct wh__http_ticket *t, const void *body, size_t len)
{
	wh_http_exchange *x = &t->x;

	if (len == 0)
		return true;
	if (x->fields_len + len <= SHORT_ANSWER_MAX) {
		if (!wh__http_answer_reserve(x, len))
			return false;
		memcpy(x->fields + x->fields_len, body, len);
		t->reply.body = x->fields + x->fields_len;
		return true;
	}
	t->reply.block = malloc(len);
	if (!t->reply.block)
		return false;
	memcpy(t->reply.block, body, len);
	t->reply.body = t->reply.block;
	return true;
}

static bool has_body(const wh_http_exchange *x, int status)
{
	return x->method != WH_HTTP_HEAD && status != 204 && status != 304;
}

static void whole(struct wh__http_ticket *t, int status, size_t len)
{
	t->reply.status = status;
	t->reply.body_len = len;
	t->lane->posted += t->reply.body ? len : 0;
	if (t->reply.kind == WH__HTTP_ANSWER_NOTHING)
		t->reply.kind = WH__HTTP_ANSWER_WHOLE;
	t->x.started = true;
	take_fields(t);
	wh__http_remote_over(t);
}

void wh__http_remote_respond(wh_http_exchange *x, int status, const void *body, size_t len)
{
	struct wh__http_ticket *t = ticket_of(x);

	assert(!x->started && !x->answered && status >= 200 && status <= 599);
	if (!t->is_closed && has_body(x, status) && !copy_body(t, body, len))
		x->lacks_field = true;
	whole(t, status, len);
}

void wh__http_remote_respond_own(wh_http_exchange *x, int status, const void *body, size_t len,
                                 wh_function *release, void *arg)
{
	struct wh__http_ticket *t = ticket_of(x);
	struct wh__http_borrowed *borrowed = NULL;

	assert(!x->started && !x->answered && status >= 200 && status <= 599);
	if (len > COPY_MAX && !t->is_closed && has_body(x, status)) {
		borrowed = malloc(sizeof(*borrowed));
		if (!borrowed)
			x->lacks_field = true;
	}
	if (!borrowed) {
		if (len <= COPY_MAX)
			wh__http_remote_respond(x, status, body, len);
		else
			whole(t, status, len);
		if (release)
			release(arg);
		return;
	}
	*borrowed = (struct wh__http_borrowed){.thread = t->lane->thread, .release = release, .arg = arg};
	t->reply.body = body;
	t->reply.borrowed = borrowed;
	whole(t, status, len);
}

/* ---- answers in pieces -------------------------------------------------------------------- */

void wh__http_remote_fail(struct wh__http_ticket *t)
{
	if (t->has_failed || t->is_closed || t->posted_answer)
		return;
	t->has_failed = true;
	put(t, &t->fail, WH__HTTP_NOTE_FAIL);
}

int wh__http_remote_start(wh_http_exchange *x, int status, int64_t length)
{
	struct wh__http_ticket *t = ticket_of(x);

	x->started = true;
	if (t->is_closed)
		return 0;
	x->no_body = !has_body(x, status);
	x->reply_left = length;
	x->expects = false;
	if (length < 0 && x->version == 10 && !x->no_body)
		x->close_after = true;
	take_fields(t);
	t->reply.status = status;
	t->reply.length = length;
	t->reply.start_close_after = x->close_after;
	put(t, &t->start, WH__HTTP_NOTE_START);
	return 0;
}

static uint32_t unsent_max(const struct wh__http_ticket *t)
{
	return t->x.unsent_max > 0 ? t->x.unsent_max : hub_of(t)->server->options.output_bytes_max;
}

/* Bytes that the thread has not reported room behind, of t and of what goes out before it. What later answers hold back until t has ended is not
 * waited for: neither would ever go on. */
static uint64_t unsent(const struct wh__http_ticket *t)
{
	uint64_t bytes = t->posted - t->acknowledged;

	for (const struct wh__http_ticket *u = t->lane->first; u && u != t;
	     u = u->x.next ? ticket_of(u->x.next) : NULL)
		bytes += u->posted - u->acknowledged;
	return bytes;
}

static void ask(struct wh__http_ticket *t)
{
	if (t->is_asking || t->is_closed || t->has_failed || t->posted_answer)
		return;
	t->is_asking = true;
	t->ask_unsent_max = t->x.unsent_max;
	put(t, &t->ask, WH__HTTP_NOTE_ASK);
}

/* 0: len bytes may go out as they are; 1: nothing is to be sent; or -errno. */
static int check_write(struct wh__http_ticket *t, size_t len)
{
	wh_http_exchange *x = &t->x;

	if (!x->started || x->answered)
		return -EINVAL;
	if (t->is_closed || t->has_failed)
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

static struct wh__http_part *make_part(struct wh__http_ticket *t, size_t len)
{
	struct wh__http_part *part = malloc(sizeof(*part) + len);

	if (part) {
		part->ticket = t;
		part->status = 0;
		part->len = len;
	}
	return part;
}

wh_future wh__http_remote_write(wh_http_exchange *x, const void *bytes, size_t len)
{
	struct wh__http_ticket *t = ticket_of(x);
	int error = check_write(t, len);
	uint64_t held;

	if (error < 0)
		return wh_failed(loop_of(t), error);
	if (error == 0) {
		struct wh__http_part *part = make_part(t, len);

		if (!part) {
			wh__http_remote_fail(t);
			return wh_failed(loop_of(t), -ENOMEM);
		}
		memcpy(part->bytes, bytes, len);
		t->posted += len;
		t->lane->posted += len;
		put(t, &part->note, WH__HTTP_NOTE_PART);
	}
	held = unsent(t);
	if (held >= unsent_max(t) / 4)
		ask(t);
	return wh__http_writes_wait(loop_of(t), &x->writes, held < unsent_max(t));
}

wh_future wh__http_remote_write_buf(wh_http_exchange *x, struct wh_buf *buf)
{
	wh_future f = wh__http_remote_write(x, buf->data, buf->len);

	wh_buf_put(buf);
	return f;
}

void wh__http_remote_end(wh_http_exchange *x)
{
	struct wh__http_ticket *t = ticket_of(x);

	assert(x->started);
	if (!t->is_closed && !x->no_body && x->reply_left > 0) {
		wh__http_remote_abort(x);
		return;
	}
	t->reply.kind = WH__HTTP_ANSWER_END;
	wh__http_remote_over(t);
}

void wh__http_remote_abort(wh_http_exchange *x)
{
	struct wh__http_ticket *t = ticket_of(x);

	x->close_after = true;
	t->reply.kind = WH__HTTP_ANSWER_ABORT;
	wh__http_remote_over(t);
}

int wh__http_remote_inform(wh_http_exchange *x, int status, const struct wh_http_field *fields, size_t count)
{
	struct wh__http_ticket *t = ticket_of(x);
	struct wh__http_part *part;
	size_t len = 0;
	char *at;

	if (t->is_closed || t->has_failed)
		return -EPIPE;
	if (x->version == 10)
		return 0;
	for (size_t i = 0; i < count; i++)
		len += fields[i].name.len + fields[i].value.len + 4;
	part = make_part(t, len);
	if (!part)
		return -ENOMEM;
	part->status = status;
	at = part->bytes;
	for (size_t i = 0; i < count; i++) {
		at = mempcpy(at, fields[i].name.data, fields[i].name.len);
		at = mempcpy(at, ": ", 2);
		if (fields[i].value.len > 0)
			at = mempcpy(at, fields[i].value.data, fields[i].value.len);
		at = mempcpy(at, "\r\n", 2);
	}
	put(t, &part->note, WH__HTTP_NOTE_PART);
	return 0;
}

/* Writes wait for their connection, all but half of what it may hold. */
static void wake_writers(struct wh__http_lane *lane)
{
	bool waits = false;

	for (struct wh__http_ticket *t = lane->first; t; t = t->x.next ? ticket_of(t->x.next) : NULL) {
		if (t->x.writes && unsent(t) <= unsent_max(t) / 2)
			wh__http_writes_end(&t->x.writes, 0);
		waits |= t->x.writes != NULL;
	}
	/* what was posted since the last question is reported by the next */
	for (struct wh__http_ticket *t = lane->first; waits && t; t = t->x.next ? ticket_of(t->x.next) : NULL)
		if (t->posted > t->acknowledged)
			ask(t);
}

void wh__http_remote_take_room(struct wh__http_ticket *t)
{
	t->is_asking = false;
	if (t->x.answered)
		return;
	t->acknowledged = t->room_seen;
	if (t->room_error < 0)
		wh__http_writes_end(&t->x.writes, t->room_error);
	wake_writers(t->lane);
}
