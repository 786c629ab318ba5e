/* src/front/beanstalk_large.c -- bodies over 1 MiB of the beanstalkd protocol: through in pieces, never whole in memory.
 *
 * A large put is received straight into a body of the store; a large job is sent from its file as fast as its peer takes it. Meanwhile the
 * connection does nothing else, so that answers stay in order. Its memory is that of a piece or two. Thread: loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "front/beanstalk_inside.h"

/* One large body of a connection, in either direction. */
struct beanstalk_large {
	struct beanstalk_command put;
	uint64_t left; /* bytes of the body still to come, and then two for its end */
	struct store_body *body;
	/* out */
	struct store_reader *reader;
	struct store_bytes *bytes;
	struct store_leased leased; /* of a reservation */
	bool reserved, started, busy;
};

static void free_large(struct beanstalk_connection *c)
{
	struct beanstalk_large *large = c->large;

	c->large = NULL;
	store_body_free(large->body);
	store_reader_free(large->reader);
	store_bytes_unref(large->bytes);
	free(large);
}

void beanstalk_large_close(struct beanstalk_connection *c)
{
	if (c->large && !c->large->busy)
		free_large(c);
}

static void then(struct beanstalk_connection *c, wh_future future, wh_callback *callback)
{
	c->large->busy = true;
	if (wh_then(future, callback, c) == 0 ||
	    wh_then(wh_failed(c->front->loop, -ENOMEM), callback, c) == 0)
		return;
	/* nobody would ever go on: whoever looks at the connection next ends it, and gives back what it holds */
	c->large->busy = false;
	c->failed = true;
}

/* Back in a callback: false: the connection has gone. */
static bool is_open(struct beanstalk_connection *c)
{
	c->large->busy = false;
	if (!c->closed)
		return true;
	free_large(c);
	beanstalk_connection_end(c);
	return false;
}

/* ---- in ---------------------------------------------------------------------------------- */

bool beanstalk_large_put(struct beanstalk_connection *c, const struct beanstalk_command *put)
{
	int error;

	c->producer = true;
	c->large = calloc(1, sizeof(*c->large));
	if (!c->large) {
		c->failed = true;
		return false;
	}
	c->large->put = *put;
	c->large->left = (uint64_t)put->bytes + 2;
	error = store_body_open(c->front->store, put->bytes, 0, &c->large->body);
	if (error < 0) {
		c->skip = c->large->left;
		c->skip_error = error;
		c->front->commands[BEANSTALK_PUT]++;
		free_large(c);
	}
	return true;
}

static void on_whole(wh_loop *loop, wh_res res, void *arg)
{
	struct beanstalk_connection *c = arg;

	(void)loop;
	if (!is_open(c))
		return;
	if (res.n < 0) {
		c->front->commands[BEANSTALK_PUT]++;
		beanstalk_reply_failure(c, res.n);
	} else {
		beanstalk_put_body(c, &c->large->put, c->large->body);
	}
	free_large(c);
	beanstalk_resume(c);
}

static void on_taken(wh_loop *loop, wh_res res, void *arg)
{
	struct beanstalk_connection *c = arg;

	(void)loop;
	if (!is_open(c))
		return;
	if (res.n < 0) {
		/* the rest is received and forgotten */
		c->skip = c->large->left;
		c->skip_error = (int)res.n;
		c->front->commands[BEANSTALK_PUT]++;
		free_large(c);
	}
	beanstalk_resume(c);
}

static size_t take_end(struct beanstalk_connection *c, const char *data, size_t len)
{
	struct beanstalk_large *large = c->large;

	if (len < 2)
		return 0;
	large->left = 0;
	if (data[0] == '\r' && data[1] == '\n') {
		then(c, store_body_end(large->body), on_whole);
	} else {
		c->front->commands[BEANSTALK_PUT]++;
		BEANSTALK_REPLY(c, "EXPECTED_CRLF");
		free_large(c);
	}
	return 2;
}

size_t beanstalk_large_take(struct beanstalk_connection *c, const char *data, size_t len)
{
	struct beanstalk_large *large = c->large;
	uint64_t body = large->left - 2;

	if (large->busy || !large->body)
		return 0;
	if (body == 0)
		return take_end(c, data, len);
	if (len > body)
		len = (size_t)body;
	if (len > STORE_PIECE_MAX)
		len = STORE_PIECE_MAX;
	large->left -= len;
	then(c, store_body_write(large->body, data, len), on_taken);
	return len;
}

bool beanstalk_large_received(const struct beanstalk_connection *c)
{
	return c->large && (!c->large->body || c->large->left == 0);
}

/* ---- out --------------------------------------------------------------------------------- */

static void done(struct beanstalk_connection *c)
{
	free_large(c);
	beanstalk_resume(c);
}

static void on_buried(wh_loop *loop, wh_res res, void *arg)
{
	(void)loop, (void)arg;
	if (res.n >= 0)
		store_commit_free(res.ptr);
}

/* The job cannot be had. What is damaged is set aside, else it would be the next to be reserved again, for ever. */
static void unreadable(struct beanstalk_connection *c, int64_t error)
{
	static const char text[] = "the payload is damaged: what is on the disk is not what was written";
	struct beanstalk_large *large = c->large;
	struct store_action action = {.kind = error == -WH_EDAMAGED ? STORE_BURY : STORE_RETURN,
	                              .job = large->leased.job,
	                              .lease = large->leased.lease};

	if (large->reserved) {
		if (error == -WH_EDAMAGED)
			action.bury.error = (struct store_slice){text, sizeof(text) - 1};
		/* not even begun: the connection still holds it, and gives it back at its end */
		if (wh_then(store_apply(c->front->store, &action, 1, 0, STORE_LOCAL), on_buried, NULL) == 0)
			beanstalk_hold_remove(beanstalk_hold_find(c, large->leased.job));
	}
	beanstalk_reply_failure(c, error);
	free_large(c);
}

static void on_piece(wh_loop *loop, wh_res res, void *arg)
{
	struct beanstalk_connection *c = arg;

	(void)loop;
	if (!is_open(c))
		return;
	if (res.n > 0) {
		beanstalk_reply(c, res.ptr, (size_t)res.n);
		beanstalk_resume(c); /* and comes back here when there is room for more */
	} else if (res.n == 0) {
		beanstalk_reply(c, "\r\n", 2);
		done(c);
	} else {
		c->failed =
			true; /* its length has been told: only the end of the connection says that it is not whole */
		done(c);
	}
}

static void on_checked(wh_loop *loop, wh_res res, void *arg)
{
	struct beanstalk_connection *c = arg;
	char line[64];
	size_t len;

	(void)loop;
	if (!is_open(c))
		return;
	if (res.n < 0) {
		unreadable(c, res.n);
		beanstalk_resume(c);
		return;
	}
	len = c->large->reserved ? 9 : 6;
	memcpy(line, c->large->reserved ? "RESERVED " : "FOUND ", len);
	len += wh__put_u64(line + len, c->large->bytes->job);
	line[len++] = ' ';
	len += wh__put_u64(line + len, c->large->bytes->bytes);
	memcpy(line + len, "\r\n", 2);
	beanstalk_reply(c, line, len + 2);
	c->large->started = true;
	beanstalk_resume(c);
}

void beanstalk_large_reply(struct beanstalk_connection *c, struct store_bytes *bytes,
                           const struct store_leased *leased)
{
	int error;

	c->large = calloc(1, sizeof(*c->large));
	if (!c->large) {
		c->failed = true;
		return;
	}
	c->large->bytes = store_bytes_ref(bytes);
	c->large->reserved = leased != NULL;
	if (leased)
		c->large->leased = (struct store_leased){.job = leased->job, .lease = leased->lease};
	error = store_reader_open(c->front->store, bytes, &c->large->reader);
	if (error < 0)
		unreadable(c, error);
	else
		then(c, store_reader_check(c->large->reader), on_checked);
}

void beanstalk_large_go_on(struct beanstalk_connection *c)
{
	struct beanstalk_large *large = c->large;

	if (large && large->started && !large->busy && c->out.len + c->sending.len <= BEANSTALK_LARGE_OUT)
		then(c, store_reader_next(large->reader), on_piece);
}
