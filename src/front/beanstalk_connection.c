/* src/front/beanstalk_connection.c -- a connection of the beanstalkd front: from received bytes to commands, from answers to
 * sent bytes.
 *
 * Commands of a connection are serial: one begins when those before it are answered. What may go together does: a run of
 * puts, deletes or other changes of jobs that was received at once is one call of the store, and different runs of one
 * kind may be under way together, since the store does them in order; what is answered in a turn is sent at its end, in one
 * send. An idle connection holds no buffer. A peer that does not read is not read from: nothing begins while
 * BEANSTALK_OUT_MAX bytes are unsent. Thread: loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "front/beanstalk_inside.h"

enum { IN_PAUSE = 64 << 10, IN_STEP = 64 << 10 };

static void receive_next(struct beanstalk_connection *c);
static void go_on(struct beanstalk_connection *c);

/* ---- output ------------------------------------------------------------------------------- */

static void out_free(struct beanstalk *front, struct beanstalk_out *out)
{
	if (out->data && out->cap == BEANSTALK_CHUNK && front->chunks_count < BEANSTALK_CHUNKS_KEPT)
		front->chunks[front->chunks_count++] = out->data;
	else
		free(out->data);
	*out = (struct beanstalk_out){0};
}

static char *out_grow(struct beanstalk_connection *c, size_t len)
{
	struct beanstalk *front = c->front;
	size_t cap = BEANSTALK_CHUNK;
	char *data;

	while (cap < c->out.len + len)
		cap *= 2;
	if (!c->out.data && cap == BEANSTALK_CHUNK && front->chunks_count > 0)
		data = front->chunks[--front->chunks_count];
	else
		data = cap > UINT32_MAX ? NULL : realloc(c->out.data, cap);
	if (!data) {
		c->failed = true;
		return NULL;
	}
	c->out.data = data;
	c->out.cap = (uint32_t)cap;
	return data + c->out.len;
}

static void on_flush(void *arg);

static void make_dirty(struct beanstalk_connection *c)
{
	struct beanstalk *front = c->front;

	if (c->dirty)
		return;
	if (!front->flush_deferred) {
		if (wh_defer(front->loop, on_flush, front) < 0) {
			c->failed = true;
			return;
		}
		front->flush_deferred = true;
	}
	c->dirty = true;
	c->next_dirty = front->dirty;
	front->dirty = c;
}

char *beanstalk_reply_room(struct beanstalk_connection *c, size_t len)
{
	char *room =
		c->out.data && c->out.cap - c->out.len >= len ? c->out.data + c->out.len : out_grow(c, len);

	if (room) {
		c->out.len += (uint32_t)len;
		make_dirty(c);
	}
	return room;
}

void beanstalk_reply(struct beanstalk_connection *c, const char *bytes, size_t len)
{
	char *room = beanstalk_reply_room(c, len);

	if (room)
		memcpy(room, bytes, len);
}

static void maybe_free(struct beanstalk_connection *c)
{
	struct beanstalk *front = c->front;

	if (!c->closed || c->receiving || c->sending.data || c->first || c->dirty || c->large)
		return;
	*(c->prev ? &c->prev->next : &front->connections) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	front->connections_count--;
	free(c->in);
	out_free(front, &c->out);
	free(c);
	if (front->draining)
		beanstalk_check_drained(front);
	else
		beanstalk_accept(front);
}

/* Has the connection come to its end? */
static void end_if_done(struct beanstalk_connection *c)
{
	bool last = c->quit || c->half_closed || c->front->draining;

	if (c->closed)
		return;
	if (c->failed || (last && !c->first && !beanstalk_large_received(c) && c->reserves_left == 0 &&
	                  !c->sending.data && c->out.len == 0))
		beanstalk_connection_close(c);
}

static void on_sent(wh_loop *loop, wh_res res, void *arg)
{
	struct beanstalk_connection *c = arg;

	(void)loop;
	out_free(c->front, &c->sending);
	if (res.n < 0)
		c->failed = true;
	if (!c->closed && !c->failed && c->out.len > 0)
		make_dirty(c);
	if (!c->closed)
		go_on(c);
	maybe_free(c);
}

static void flush(struct beanstalk_connection *c)
{
	struct beanstalk *front = c->front;
	wh_future future;

	if (c->closed || c->sending.data || c->out.len == 0)
		return;
	c->sending = c->out;
	c->out = (struct beanstalk_out){0};
	future = wh_send_all(front->loop, c->fd, c->sending.data, c->sending.len);
	if (wh_then(future, on_sent, c) == 0)
		return;
	out_free(front, &c->sending);
	c->failed = true;
}

/* The end of a turn: what all connections have to say goes out. */
static void on_flush(void *arg)
{
	struct beanstalk *front = arg;
	struct beanstalk_connection *c;

	front->flush_deferred = false;
	while ((c = front->dirty) != NULL) {
		front->dirty = c->next_dirty;
		c->dirty = false;
		flush(c);
		end_if_done(c);
		maybe_free(c);
	}
	beanstalk_check_drained(front);
}

/* ---- operations --------------------------------------------------------------------------- */

struct beanstalk_op *beanstalk_op_new(struct beanstalk_connection *c, int kind, uint32_t count)
{
	struct beanstalk_op *op = malloc(sizeof(*op) + (size_t)count * sizeof(op->ids[0]));

	if (!op) {
		c->failed = true;
		return NULL;
	}
	*op = (struct beanstalk_op){
		.connection = c, .kind = (uint8_t)kind, .count = count, .until = INT64_MAX};
	return op;
}

void beanstalk_op_abandon(struct beanstalk_op *op)
{
	free(op);
}

/* Answer those whose turn has come. */
static void answer_done(struct beanstalk_connection *c)
{
	struct beanstalk_op *op;

	while ((op = c->first) != NULL && op->done && !(c->large && !c->closed)) {
		c->first = op->next;
		if (!c->first)
			c->last = NULL;
		c->ops_count--;
		if (c->closed)
			beanstalk_answer_nobody(c->front, op);
		else
			beanstalk_answer(c, op);
		free(op);
	}
}

static void on_op(wh_loop *loop, wh_res res, void *arg)
{
	struct beanstalk_op *op = arg;
	struct beanstalk_connection *c = op->connection;

	(void)loop;
	if (op->waits)
		c->front->waiting--;
	op->res = res;
	op->done = true;
	answer_done(c);
	if (!c->closed)
		go_on(c);
	maybe_free(c);
}

void beanstalk_op_start(struct beanstalk_op *op, wh_future future)
{
	struct beanstalk_connection *c = op->connection;

	*(c->last ? &c->last->next : &c->first) = op;
	c->last = op;
	c->ops_count++;
	op->future = future;
	if (op->waits)
		c->front->waiting++;
	if (wh_then(future, on_op, op) < 0) {
		/* the future is lost, and with it whatever it would have brought */
		c->front->waiting -= op->waits;
		op->waits = false;
		op->res = (wh_res){.n = -ENOMEM};
		op->done = true;
		c->failed = true;
	}
}

/* ---- commands out of bytes ---------------------------------------------------------------- */

static bool gathers(int kind)
{
	return kind == BEANSTALK_PUT || kind == BEANSTALK_DELETE || kind == BEANSTALK_RELEASE ||
	       kind == BEANSTALK_BURY || kind == BEANSTALK_TOUCH || kind == BEANSTALK_KICK_JOB;
}

static bool may_start(const struct beanstalk_connection *c, int kind)
{
	if (c->ops_count == 0)
		return true;
	return gathers(kind) && c->last->kind == kind && c->ops_count < BEANSTALK_OPS_MAX;
}

static bool same_put(const struct beanstalk_command *a, const struct beanstalk_command *b)
{
	return a->priority == b->priority && a->delay_s == b->delay_s && a->ttr_s == b->ttr_s;
}

/* A put that is refused. Bytes used; 0: not now. */
static size_t refuse_put(struct beanstalk_connection *c, const struct beanstalk_command *put, size_t line,
                         const char *body)
{
	if (c->ops_count > 0)
		return 0;
	if (put->bytes > c->front->options.job_bytes_max) {
		c->front->commands[BEANSTALK_PUT]++;
		c->skip = (uint64_t)put->bytes + 2;
		c->skip_error = -JOB_ETOO_LARGE;
		return line;
	}
	if (!put->garbage && put->bytes > BEANSTALK_LARGE_BYTES) {
		c->front->commands[BEANSTALK_PUT]++;
		c->producer = true;
		c->skip = (uint64_t)put->bytes + 2;
		c->skip_error = -ECANCELED;
		return line;
	}
	if (put->garbage) {
		c->front->commands[BEANSTALK_PUT]++;
		BEANSTALK_REPLY(c, "BAD_FORMAT");
		return line;
	}
	c->front->commands[BEANSTALK_PUT]++;
	c->producer = true;
	if (body[put->bytes] != '\r' || body[put->bytes + 1] != '\n')
		BEANSTALK_REPLY(c, "EXPECTED_CRLF");
	else
		BEANSTALK_REPLY(c, "DRAINING");
	return line + put->bytes + 2;
}

/* A run of puts that differ in their bodies only: one call of the store. Bytes used. */
static size_t gather_puts(struct beanstalk_connection *c, const char *data, size_t len)
{
	struct beanstalk_command first = {0}, put;
	struct beanstalk *front = c->front;
	uint32_t count = 0;
	size_t used = 0;

	while (count < BEANSTALK_BATCH) {
		size_t line = beanstalk_line(data + used, len - used), whole;
		const char *body = data + used + line;

		if (line == 0 || line > BEANSTALK_LINE_MAX)
			break;
		beanstalk_parse(data + used, line - 2, &put);
		if (put.kind != BEANSTALK_PUT || (count > 0 && !same_put(&first, &put)))
			break;
		if (put.bytes > BEANSTALK_LARGE_BYTES && put.bytes <= front->options.job_bytes_max &&
		    !put.garbage) {
			if (count > 0 || c->ops_count > 0)
				break;
			if (front->refusing)
				return refuse_put(c, &put, line, body);
			return beanstalk_large_put(c, &put) ? line : 0;
		}
		whole = line + put.bytes + 2;
		if (put.bytes <= front->options.job_bytes_max && !put.garbage && len - used < whole) {
			c->wanted = whole;
			break;
		}
		if (put.bytes > front->options.job_bytes_max || put.garbage || front->refusing ||
		    body[put.bytes] != '\r' || body[put.bytes + 1] != '\n') {
			if (count == 0)
				used = refuse_put(c, &put, line, body);
			break;
		}
		if (count == 0)
			first = put;
		front->payloads[count++] = (struct store_slice){body, put.bytes};
		used += whole;
	}
	if (count > 0)
		beanstalk_put(c, &first, count);
	return used;
}

static bool named_before(const struct beanstalk *front, uint32_t count, uint64_t job)
{
	for (uint32_t i = 0; i < count; i++)
		if (front->actions[i].job == job)
			return true;
	return false;
}

/* A run of one kind of change of jobs, each job once. Bytes used. */
static size_t gather_actions(struct beanstalk_connection *c, int kind, const char *data, size_t len)
{
	struct beanstalk_command command;
	uint32_t count = 0;
	size_t used = 0;

	while (count < BEANSTALK_BATCH / 4) {
		size_t line = beanstalk_line(data + used, len - used);

		if (line == 0 || line > BEANSTALK_LINE_MAX)
			break;
		beanstalk_parse(data + used, line - 2, &command);
		if (command.kind != kind || named_before(c->front, count, command.id))
			break;
		beanstalk_action(c, &command, count++);
		used += line;
	}
	beanstalk_apply(c, kind, count);
	return used;
}

/* A run of the same reservation. Bytes used. */
static size_t gather_reserves(struct beanstalk_connection *c, const struct beanstalk_command *first,
                              const char *data, size_t len)
{
	struct beanstalk_command command;
	size_t used = 0;

	c->reserves_kind = (uint8_t)first->kind;
	c->reserves_s = first->delay_s;
	while (c->reserves_left < BEANSTALK_BATCH) {
		size_t line = beanstalk_line(data + used, len - used);

		if (line == 0 || line > BEANSTALK_LINE_MAX)
			break;
		beanstalk_parse(data + used, line - 2, &command);
		if (command.kind != first->kind || command.delay_s != first->delay_s)
			break;
		c->front->commands[command.kind]++;
		c->reserves_left++;
		used += line;
	}
	c->worker = true;
	return used;
}

/* A line that was too long: up to its end, however it is cut into pieces. */
static size_t discard(struct beanstalk_connection *c, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (c->discarding_cr && data[i] == '\n') {
			c->discarding = c->discarding_cr = false;
			BEANSTALK_REPLY(c, "BAD_FORMAT");
			return i + 1;
		}
		c->discarding_cr = data[i] == '\r';
	}
	return len;
}

static size_t skip_body(struct beanstalk_connection *c, size_t len)
{
	size_t n = len < c->skip ? len : (size_t)c->skip;

	c->skip -= n;
	if (c->skip == 0 && c->skip_error == -ECANCELED)
		BEANSTALK_REPLY(c, "DRAINING");
	else if (c->skip == 0)
		beanstalk_reply_failure(c, c->skip_error);
	return n;
}

/* One command, or one run of them. Bytes used; 0: nothing can begin. */
static size_t begin(struct beanstalk_connection *c, const char *data, size_t len)
{
	struct beanstalk_command command;
	size_t line;

	if (c->large)
		return beanstalk_large_take(c, data, len);
	if (c->skip > 0)
		return skip_body(c, len);
	if (c->discarding)
		return discard(c, data, len);
	if (c->out.len + c->sending.len > BEANSTALK_OUT_MAX)
		return 0;
	line = beanstalk_line(data, len);
	if (line == 0)
		return 0;
	if (line > BEANSTALK_LINE_MAX) {
		if (c->ops_count > 0)
			return 0;
		c->discarding = true;
		return discard(c, data, BEANSTALK_LINE_MAX);
	}
	beanstalk_parse(data, line - 2, &command);
	if (!may_start(c, command.kind))
		return 0;
	if (command.kind == BEANSTALK_PUT)
		return gather_puts(c, data, len);
	if (gathers(command.kind))
		return gather_actions(c, command.kind, data, len);
	if (command.kind == BEANSTALK_RESERVE || command.kind == BEANSTALK_RESERVE_TIMEOUT)
		return gather_reserves(c, &command, data, len);
	beanstalk_command(c, &command);
	return line;
}

/* As many commands as can begin now. Bytes used. */
static size_t advance(struct beanstalk_connection *c, const char *data, size_t len)
{
	size_t at = 0;

	c->wanted = 0;
	while (!c->quit && !c->failed && !c->front->draining) {
		size_t used;

		if (c->reserves_left > 0) {
			if (c->ops_count > 0)
				break;
			beanstalk_reserve(c);
			continue;
		}
		if (at == len)
			break;
		used = begin(c, data + at, len - at);
		if (used == 0)
			break;
		at += used;
	}
	return at;
}

/* ---- input -------------------------------------------------------------------------------- */

static size_t in_left(const struct beanstalk_connection *c)
{
	return c->in_len - c->in_at;
}

/* Room for more bytes behind what is left. */
static bool in_room(struct beanstalk_connection *c, size_t more)
{
	size_t left = in_left(c);

	if (c->in_at > 0) {
		memmove(c->in, c->in + c->in_at, left);
		c->in_at = 0;
		c->in_len = left;
	}
	if (left + more > c->in_cap) {
		size_t cap = left + more;
		char *in = realloc(c->in, cap);

		if (!in) {
			c->failed = true;
			return false;
		}
		c->in = in;
		c->in_cap = cap;
	}
	return true;
}

static void use_in(struct beanstalk_connection *c)
{
	c->in_at += advance(c, c->in ? c->in + c->in_at : "", in_left(c));
	if (in_left(c) == 0 && c->in && !c->receiving) {
		free(c->in);
		c->in = NULL;
		c->in_at = c->in_len = c->in_cap = 0;
	}
}

/* After whatever has changed: begin what can begin, end what is at its end, receive more. */
static void go_on(struct beanstalk_connection *c)
{
	beanstalk_large_go_on(c);
	answer_done(c);
	use_in(c);
	end_if_done(c);
	if (!c->closed)
		receive_next(c);
}

void beanstalk_resume(struct beanstalk_connection *c)
{
	if (!c->closed)
		go_on(c);
	maybe_free(c);
}

static void on_end(struct beanstalk_connection *c)
{
	c->half_closed = true;
	/* beanstalkd's way: a waiting reservation of a peer that will say nothing more times out */
	if (c->first && c->first->waits)
		wh_cancel(c->first->future);
	go_on(c);
}

static void on_buffer(wh_loop *loop, wh_res res, void *arg)
{
	struct beanstalk_connection *c = arg;
	struct wh_buf *buf = res.n > 0 ? res.ptr : NULL;

	(void)loop;
	c->receiving = false;
	if (c->closed) {
		wh_buf_put(buf);
		maybe_free(c);
		return;
	}
	if (res.n > 0) {
		const char *data = (const char *)buf->data;
		size_t len = buf->len, used = in_left(c) == 0 ? advance(c, data, len) : 0;

		if (used < len && !c->quit && !c->failed && in_room(c, len - used)) {
			memcpy(c->in + c->in_len, data + used, len - used);
			c->in_len += len - used;
		}
		wh_buf_put(buf);
		if (used > 0) {
			end_if_done(c);
			if (!c->closed)
				receive_next(c);
		} else {
			go_on(c);
		}
	} else if (res.n == 0) {
		on_end(c);
	} else {
		c->failed = true;
		end_if_done(c);
	}
	maybe_free(c);
}

/* The rest of a large body, straight to where it belongs. */
static void on_bytes(wh_loop *loop, wh_res res, void *arg)
{
	struct beanstalk_connection *c = arg;

	(void)loop;
	c->receiving = false;
	if (!c->closed && res.n > 0) {
		c->in_len += (size_t)res.n;
		if (in_left(c) < c->wanted)
			receive_next(c);
		else
			go_on(c);
	} else if (!c->closed && res.n == 0) {
		on_end(c);
	} else if (!c->closed) {
		c->failed = true;
		end_if_done(c);
	}
	maybe_free(c);
}

static void receive_next(struct beanstalk_connection *c)
{
	struct beanstalk *front = c->front;
	size_t left = in_left(c), more = c->wanted > left ? (size_t)(c->wanted - left) : 0;
	bool straight = left > 0 && more > 0 && c->wanted > IN_STEP / 4;
	wh_future future;

	if (c->receiving || c->half_closed || c->quit || c->failed || front->draining)
		return;
	if (left >= IN_PAUSE && more == 0)
		return;
	if (straight) {
		if (more > IN_STEP && more > left)
			more = left > IN_STEP
			               ? left
			               : IN_STEP; /* grows with what has come, not with what was promised */
		if (c->in_cap - c->in_len < more && !in_room(c, more)) {
			end_if_done(c);
			return;
		}
		future = wh_recv(front->loop, c->fd, c->in + c->in_len, c->in_cap - c->in_len);
	} else {
		future = wh_recv_buf(front->loop, c->fd);
	}
	if (wh_then(future, straight ? on_bytes : on_buffer, c) < 0) {
		c->failed = true;
		end_if_done(c);
		return;
	}
	c->receiving = true;
}

/* ---- life --------------------------------------------------------------------------------- */

void beanstalk_connection_new(struct beanstalk *front, int fd)
{
	struct beanstalk_connection *c = calloc(1, sizeof(*c));

	if (!c) {
		(void)wh_drop(wh_close(front->loop, fd));
		return;
	}
	c->front = front;
	c->fd = fd;
	c->deadline_min = INT64_MAX;
	c->use = front->tube_default;
	c->use->using ++;
	c->watch = &c->watch_one;
	c->watch_cap = 1;
	c->watch[c->watch_count++] = front->tube_default;
	front->tube_default->watching++;
	c->next = front->connections;
	if (c->next)
		c->next->prev = c;
	front->connections = c;
	front->connections_count++;
	front->connections_total++;
	receive_next(c);
	maybe_free(c);
}

static void on_returned(wh_loop *loop, wh_res res, void *arg)
{
	(void)loop, (void)arg;
	if (res.n >= 0)
		store_commit_free(res.ptr);
}

/* What it had reserved is ready again, at once. */
static void return_holds(struct beanstalk_connection *c)
{
	struct beanstalk *front = c->front;

	while (c->holds_first) {
		uint32_t count = 0;

		while (c->holds_first && count < BEANSTALK_BATCH) {
			front->actions[count++] = (struct store_action){.kind = STORE_RETURN,
			                                                .job = c->holds_first->job,
			                                                .lease = c->holds_first->lease};
			beanstalk_hold_remove(c->holds_first);
		}
		/* not dropped: a change that waits for room in the log is not made for nobody */
		(void)!wh_then(store_apply(front->store, front->actions, count, STORE_EACH, STORE_ASYNC),
		               on_returned, NULL);
	}
}

void beanstalk_connection_close(struct beanstalk_connection *c)
{
	struct beanstalk *front = c->front;

	if (c->closed)
		return;
	c->closed = true;
	(void)wh_drop(wh_close(front->loop, c->fd)); /* ends the receive and the send */
	for (struct beanstalk_op *op = c->first; op; op = op->next)
		if (op->waits && !op->done)
			wh_cancel(op->future);
	answer_done(c);
	beanstalk_large_close(c);
	return_holds(c);
	c->use->using --;
	beanstalk_tube_release(front, c->use);
	for (uint32_t i = 0; i < c->watch_count; i++) {
		c->watch[i]->watching--;
		beanstalk_tube_release(front, c->watch[i]);
	}
	if (c->watch != &c->watch_one)
		free(c->watch);
	c->watch = NULL;
	c->watch_count = 0;
	/* freed by whoever has the last of its operations in hand */
}

void beanstalk_connection_end(struct beanstalk_connection *c)
{
	beanstalk_connection_close(c);
	maybe_free(c);
}
