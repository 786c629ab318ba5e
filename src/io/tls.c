/* src/io/tls.c -- TLS connections: OpenSSL between the operations of the caller and those of a socket.
 *
 * OpenSSL never sees the descriptor. It reads what a pooled buffer holds and writes into memory of the connection (the BIO below),
 * so that the same code runs on every engine and nothing blocks. advance() is the machine: whatever has happened, it
 * lets OpenSSL go on for the operations that wait, sends what that produced, and receives if somebody waits for more.
 *
 * What an idle connection holds: SSL, which frees its buffers (SSL_MODE_RELEASE_BUFFERS), and this struct; neither a pooled
 * buffer nor output. docs/design/tls.md has the figures.
 *
 * Thread: loop. Memory: a connection is counted: the caller, and its operations under way on the socket. It goes when both
 * have ended.
 */
#include "io/tls.h"
#include "io/inner.h"
#include "io/tls_background.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509.h>

/* More than OUTPUT_MAX is never the caller's: they are answers that a peer asks for (KeyUpdate) and does not take. */
enum {
	RECORD_BYTES = 16384,
	OUTPUT_ENOUGH = 4 * RECORD_BYTES,
	OUTPUT_MAX = 2 * OUTPUT_ENOUGH,
	VECTOR_MAX = 16
};

struct wh_tls {
	wh_loop *loop;
	SSL *ssl;
	wh_tls_context *context;
	int fd;
	uint32_t references;

	/* operations of the caller, each a slot: the arguments are in it */
	struct wh__op *handshake, *receive, *send;
	struct wh__op *timer; /* of the handshake */
	struct wh_tls_problem *ret_problem;

	/* from the socket */
	struct wh_buf *input;
	uint32_t input_at;
	wh_future receiving;
	/* to the socket: being sent, and behind it */
	uint8_t *sending, *output;
	size_t output_len, output_cap;

	char *alpn; /* NULL: none was agreed */

	int64_t error;     /* of the stream: all that follows fails with it */
	bool is_receiving; /* receiving is under way */
	bool background;   /* wh__tls_background() */
	bool eof;          /* of the socket */
	bool no_memory;    /* the BIO has run out of it */
	bool ended;        /* the peer has said that it sends no more */
	bool said_end;     /* we have */
	bool closed, advancing, again;
};

/* ---- the BIO ------------------------------------------------------------------------------ */

static int bio_read(BIO *bio, char *to, size_t max, size_t *ret_len)
{
	wh_tls *tls = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (!tls->input) {
		if (!tls->eof)
			BIO_set_retry_read(bio);
		return 0;
	}
	size_t left = tls->input->len - tls->input_at, len = max < left ? max : left;
	memcpy(to, tls->input->data + tls->input_at, len);
	tls->input_at += (uint32_t)len;
	if (tls->input_at == tls->input->len) {
		tls->input = wh_buf_put(tls->input);
		tls->input_at = 0;
	}
	*ret_len = len;
	return 1;
}

static int bio_write(BIO *bio, const char *from, size_t len, size_t *ret_len)
{
	wh_tls *tls = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (tls->output_cap - tls->output_len < len) {
		size_t cap = tls->output_cap * 2 > tls->output_len + len ? tls->output_cap * 2
		                                                         : tls->output_len + len;
		uint8_t *more = realloc(tls->output, cap);
		if (!more) {
			tls->no_memory = true;
			return 0;
		}
		tls->output = more;
		tls->output_cap = cap;
	}
	memcpy(tls->output + tls->output_len, from, len);
	tls->output_len += len;
	*ret_len = len;
	return 1;
}

static long bio_control(BIO *bio, int what, long number, void *ptr)
{
	const wh_tls *tls = BIO_get_data(bio);
	if (what == BIO_CTRL_EOF)
		return tls->eof && !tls->input;
	return what == BIO_CTRL_FLUSH; /* sent when OpenSSL has returned */
}

static BIO_METHOD *bio_method;
static void make_bio_method(void)
{
	bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "whilst");
	if (bio_method && (BIO_meth_set_read_ex(bio_method, bio_read) != 1 ||
	                   BIO_meth_set_write_ex(bio_method, bio_write) != 1 ||
	                   BIO_meth_set_ctrl(bio_method, bio_control) != 1)) {
		BIO_meth_free(bio_method);
		bio_method = NULL;
	}
}

static int attach_bio(wh_tls *tls)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	pthread_mutex_lock(&lock);
	if (!bio_method)
		make_bio_method(); /* tried again if there was no memory for it */
	pthread_mutex_unlock(&lock);
	BIO *bio = bio_method ? BIO_new(bio_method) : NULL;
	if (!bio)
		return -ENOMEM;
	BIO_set_data(bio, tls);
	BIO_set_init(bio, 1);
	SSL_set_bio(tls->ssl, bio, bio); /* takes it, once for both */
	return 0;
}

/* ---- life --------------------------------------------------------------------------------- */

static void advance(wh_tls *tls);

static void unref(wh_tls *tls)
{
	if (--tls->references > 0)
		return;
	assert(!tls->handshake && !tls->receive && !tls->send && !tls->timer);
	wh__tls_free(tls->ssl);
	wh__tls_context_unref(tls->context);
	wh_buf_put(tls->input);
	free(tls->sending);
	free(tls->output);
	free(tls->alpn);
	free(tls);
}

/* The slot is no longer the connection's; its completion may run code of ours that closes the connection. */
static void end_op(struct wh__op **slot, int64_t n, void *ptr)
{
	struct wh__op *op = *slot;
	*slot = NULL;
	if (op)
		wh__op_complete(op, n, ptr);
}

/* What is left to say goes out if that needs no waiting, and not at all otherwise. */
static void say_last(wh_tls *tls)
{
	if (tls->sending || tls->output_len == 0)
		return;
	ssize_t ignored = send(tls->fd, tls->output, tls->output_len, MSG_DONTWAIT | MSG_NOSIGNAL);
	(void)ignored;
	tls->output_len = 0;
}

/* The end of the connection for its owner. Gives the closing of the descriptor. */
static wh_future take_down(wh_tls *tls, int64_t error)
{
	tls->closed = true;
	tls->timer = wh__inner_timer_stop(tls->timer);
	say_last(tls);
	end_op(&tls->handshake, error, NULL);
	end_op(&tls->receive, error, NULL);
	end_op(&tls->send, error, NULL);
	wh_future f = wh_close(tls->loop, tls->fd); /* ends what is under way on it */
	unref(tls);
	return f;
}

static void close_dropped(wh_res res, void *arg)
{
	(void)wh_drop(wh_tls_close(res.ptr));
}

/* ---- what OpenSSL says -------------------------------------------------------------------- */

enum outcome { DONE, WAITS, END, FAILED };

/* Of a call that gave ret. FAILED: tls->error says why. */
static enum outcome judge(wh_tls *tls, int ret)
{
	if (ret > 0)
		return DONE;
	switch (SSL_get_error(tls->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
		return WAITS;
	case SSL_ERROR_ZERO_RETURN:
		return END;
	default:
		break;
	}
	struct wh_tls_problem problem;
	tls->error = wh__tls_error(tls->ssl, &problem);
	if (tls->no_memory)
		problem = (struct wh_tls_problem){.error = tls->error = -ENOMEM};
	else if (tls->eof && !tls->input && tls->error == -WH_ETLS_PROTOCOL)
		problem = (struct wh_tls_problem){.error = tls->error = -WH_ETLS_TRUNCATED};
	if (tls->handshake && tls->ret_problem) {
		if (problem.text[0] == 0)
			snprintf(problem.text, sizeof problem.text, "%s", wh_strerror(problem.error));
		*tls->ret_problem = problem;
	}
	return FAILED;
}

static void fail(wh_tls *tls, int64_t error)
{
	tls->error = error;
	if (tls->handshake && tls->ret_problem) {
		*tls->ret_problem = (struct wh_tls_problem){.error = error};
		snprintf(tls->ret_problem->text, sizeof tls->ret_problem->text, "%s", wh_strerror(error));
	}
}

/* ---- the operations of the caller, as far as they get -------------------------------------- */

/* A text of our own: OpenSSL's has no end. */
static bool keep_alpn(wh_tls *tls)
{
	const unsigned char *name = NULL;
	unsigned int len = 0;
	SSL_get0_alpn_selected(tls->ssl, &name, &len);
	if (len == 0)
		return true;
	tls->alpn = strndup((const char *)name, len);
	return tls->alpn;
}

static void advance_handshake(wh_tls *tls)
{
	ERR_clear_error();
	enum outcome outcome = judge(tls, SSL_do_handshake(tls->ssl));
	if (outcome == WAITS)
		return;
	if (outcome == END)
		fail(tls, -WH_ETLS_TRUNCATED);
	else if (outcome == DONE && !keep_alpn(tls))
		fail(tls, -ENOMEM);
	if (tls->error != 0)
		return; /* step() takes it down */
	tls->timer = wh__inner_timer_stop(tls->timer);
	tls->ret_problem = NULL;
	end_op(&tls->handshake, 0, tls);
}

/* Decrypts into at most len bytes: what there is, of several records. Bytes; 0: nothing yet, or the end (tls->ended), or an error. */
static size_t decrypt(wh_tls *tls, void *buf, size_t len)
{
	size_t done = 0;
	while (done < len && tls->error == 0 && !tls->ended) {
		size_t n = 0;
		ERR_clear_error();
		enum outcome outcome = judge(tls, SSL_read_ex(tls->ssl, (char *)buf + done, len - done, &n));
		if (outcome == END)
			tls->ended = true;
		if (outcome != DONE)
			break;
		done += n;
		if (!tls->input && !SSL_has_pending(tls->ssl))
			break;
	}
	return done;
}

static void advance_receive(wh_tls *tls)
{
	struct wh__op *op = tls->receive;
	struct wh_buf *buf = NULL;
	if (tls->ended) {
		end_op(&tls->receive, 0, NULL);
		return;
	}
	if (!tls->input && !tls->eof && !SSL_has_pending(tls->ssl))
		return;
	if (op->fd == 0) { /* into a pooled buffer */
		buf = wh_buf_get(tls->loop);
		if (!buf) {
			end_op(&tls->receive, -ENOBUFS, NULL);
			return;
		}
	}
	size_t n = decrypt(tls, buf ? buf->data : op->buf, buf ? buf->cap : op->len);
	if (n > 0 && buf) {
		buf->len = (uint32_t)n;
		end_op(&tls->receive, (int64_t)n, buf);
		return;
	}
	wh_buf_put(buf);
	if (n > 0 || tls->ended)
		end_op(&tls->receive, (int64_t)n, NULL);
}

/* The piece of a send that comes next: of a vector, several small ones in one, or each would be a record. */
static const void *next_piece(struct wh__op *op, struct wh_buf *scratch, size_t *ret_len)
{
	const struct iovec *iov = op->buf;
	size_t skip = op->done, gathered = 0;
	for (uint64_t i = 0; i < op->len; i++) {
		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		const char *from = (const char *)iov[i].iov_base + skip;
		size_t len = iov[i].iov_len - skip;
		skip = 0;
		if (gathered == 0 && (!scratch || len >= scratch->cap)) {
			*ret_len = len;
			return from;
		}
		if (len > scratch->cap - gathered)
			len = scratch->cap - gathered;
		memcpy(scratch->data + gathered, from, len);
		gathered += len;
		if (gathered == scratch->cap)
			break;
	}
	*ret_len = gathered;
	return scratch ? scratch->data : NULL;
}

/* op->second: all bytes of a vector; op->done: those that OpenSSL has taken. */
static void encrypt(wh_tls *tls)
{
	struct wh__op *op = tls->send;
	bool is_vector = op->flags & WH__OWNS_BUF;
	uint64_t all = is_vector ? op->off : op->len;
	struct wh_buf *scratch = is_vector && op->len > 1 ? wh_buf_get(tls->loop) : NULL;
	while (op->done < all && tls->output_len < OUTPUT_ENOUGH) {
		size_t len = all - op->done, taken = 0;
		const void *from = (const char *)op->buf + op->done;
		if (is_vector)
			from = next_piece(op, scratch, &len);
		ERR_clear_error();
		if (judge(tls, SSL_write_ex(tls->ssl, from, len, &taken)) != DONE)
			break; /* nothing is waited for in writing: an error */
		op->done += taken;
	}
	wh_buf_put(scratch);
	if (op->done < all || tls->error != 0 || tls->output_len > 0 || tls->sending)
		return;
	end_op(&tls->send, (int64_t)all, NULL); /* all is with the kernel */
}

static void advance_send(wh_tls *tls)
{
	if (tls->send->fd == SHUT_WR) {
		if (!tls->said_end) {
			tls->said_end = true;
			ERR_clear_error();
			int n = SSL_shutdown(tls->ssl);
			if (n < 0 && judge(tls, n) == FAILED)
				return;
		}
		if (tls->output_len == 0 && !tls->sending)
			end_op(&tls->send, 0, NULL);
		return;
	}
	encrypt(tls);
}

/* ---- the socket --------------------------------------------------------------------------- */

static void on_received(wh_loop *loop, wh_res res, void *arg)
{
	wh_tls *tls = arg;
	tls->is_receiving = false;
	if (tls->closed) {
		wh_buf_put(res.n > 0 ? res.ptr : NULL);
	} else if (res.n > 0) {
		assert(!tls->input);
		tls->input = res.ptr;
		tls->input_at = 0;
	} else if (res.n == 0) {
		tls->eof = true;
	} else if (res.n == -ENOBUFS || res.n == -EAGAIN || res.n == -ENOMEM) {
		if (tls->handshake)
			fail(tls, res.n);
		else
			end_op(&tls->receive, res.n, NULL); /* another try may find room */
	} else if (res.n != -ECANCELED || tls->loop->closing) {
		fail(tls, res.n);
	}
	if (!tls->closed)
		advance(tls);
	unref(tls);
}

static void on_sent(wh_loop *loop, wh_res res, void *arg)
{
	wh_tls *tls = arg;
	free(tls->sending);
	tls->sending = NULL;
	if (!tls->closed) {
		if (res.n < 0)
			fail(tls, res.n);
		advance(tls);
	}
	unref(tls);
}

static void send_more(wh_tls *tls)
{
	if (tls->sending || tls->output_len == 0)
		return;
	size_t len = tls->output_len;
	tls->sending = tls->output;
	tls->output = NULL;
	tls->output_len = tls->output_cap = 0;
	tls->references++;
	wh__inner_then(tls->loop, wh_send_all(tls->loop, tls->fd, tls->sending, len), on_sent, tls);
}

/* Somebody waits for bytes of the peer: receive. Nobody does: do not keep the loop running. */
static void receive_more(wh_tls *tls)
{
	bool wanted = tls->handshake || tls->receive;
	if (wanted && tls->output_len >= OUTPUT_MAX)
		return; /* goes on when that has been sent */
	if (wanted && !tls->is_receiving && !tls->input && !tls->eof) {
		tls->is_receiving = true;
		tls->references++;
		wh_future f = wh_recv_buf(tls->loop, tls->fd);
		tls->receiving = f;
		wh__background(tls->loop, f, tls->background);
		wh__inner_then(tls->loop, f, on_received, tls);
	} else if (!wanted && tls->is_receiving) {
		wh_cancel(tls->receiving);
	}
}

/* ---- the machine -------------------------------------------------------------------------- */

/* One round. The connection may be closed afterwards: it is held by advance(). */
static void step(wh_tls *tls)
{
	if (tls->handshake && tls->error == 0)
		advance_handshake(tls);
	if (!tls->closed && tls->receive && tls->error == 0)
		advance_receive(tls);
	if (!tls->closed && tls->send && tls->error == 0)
		advance_send(tls);
	if (tls->closed)
		return;
	if (tls->error == 0) {
		send_more(tls);
		if (!tls->closed)
			receive_more(tls);
	} else if (tls->handshake) {
		(void)wh_drop(take_down(tls, tls->error));
	} else {
		say_last(tls); /* an alert */
		end_op(&tls->receive, tls->error, NULL);
		if (!tls->closed)
			end_op(&tls->send, tls->error, NULL);
	}
}

static void advance(wh_tls *tls)
{
	tls->again = true;
	if (tls->advancing)
		return;
	tls->advancing = true;
	tls->references++;
	while (tls->again && !tls->closed) {
		tls->again = false;
		step(tls);
	}
	tls->advancing = false;
	unref(tls);
}

/* ---- handshakes --------------------------------------------------------------------------- */

static void cancel_handshake(struct wh__op *op)
{
	wh_tls *tls = op->second;
	(void)wh_drop(take_down(tls, -ECANCELED));
}

static void on_timeout(wh_loop *loop, wh_res res, void *arg)
{
	wh_tls *tls = arg;
	int64_t error = res.n < 0 ? res.n : -ETIMEDOUT;
	tls->timer = NULL;
	fail(tls, error);
	(void)wh_drop(take_down(tls, error));
}

static int make(wh_loop *loop, int fd, wh_tls_context *context, bool server, const char *name, wh_tls **ret)
{
	wh_tls *tls = calloc(1, sizeof *tls);
	int64_t now = wh_clock(loop), timeout_ns;
	if (!tls)
		return -ENOMEM;
	*tls = (wh_tls){.loop = loop, .fd = fd, .references = 1};
	int error = wh__tls_new(context, server, name, &tls->ssl);
	if (error == 0) {
		tls->context = context;
		error = attach_bio(tls);
	}
	if (error == 0) {
		timeout_ns = wh__tls_handshake_timeout(context);
		int64_t at = timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
		tls->timer = wh__inner_timer(loop, at, on_timeout, tls);
		error = tls->timer ? 0 : -EAGAIN;
	}
	if (error != 0) {
		unref(tls);
		return error;
	}
	*ret = tls;
	return 0;
}

static wh_future start(wh_loop *loop, int fd, wh_tls_context *context, bool server, const char *name,
                       struct wh_tls_problem *ret_problem)
{
	wh_future f;
	wh_tls *tls = NULL;
	struct wh__op *op = wh__begin(loop, WH__OP_INNER, &f);
	if (!op) {
		if (fd >= 0 && wh__loop_is_mine(loop))
			(void)wh_drop(wh_close(loop, fd)); /* it was given to us */
		return f;
	}
	if (fd < 0)
		return wh__end(op, -EBADF);
	int error = loop->engine->execute ? -ENOSYS : make(loop, fd, context, server, name, &tls);
	if (error != 0) {
		(void)wh_drop(wh_close(loop, fd));
		if (ret_problem) {
			*ret_problem = (struct wh_tls_problem){.error = error};
			snprintf(ret_problem->text, sizeof ret_problem->text, "%s", wh_strerror(error));
		}
		return wh__end(op, error);
	}
	f = wh__op_future(op);
	op->second = tls;
	op->cancel_inner = cancel_handshake;
	op->dispose = close_dropped;
	tls->handshake = op;
	tls->ret_problem = ret_problem;
	if (ret_problem)
		op->flags |= WH__BORROWS;
	advance(tls);
	return f;
}

wh_future wh_tls_connect(wh_loop *loop, int fd, wh_tls_context *context, const char *name,
                         struct wh_tls_problem *ret_problem)
{
	return start(loop, fd, context, false, name, ret_problem);
}

wh_future wh_tls_accept(wh_loop *loop, int fd, wh_tls_context *context, struct wh_tls_problem *ret_problem)
{
	return start(loop, fd, context, true, NULL, ret_problem);
}

/* ---- receiving ---------------------------------------------------------------------------- */

static void put_dropped(wh_res res, void *arg)
{
	wh_buf_put(res.ptr);
}

static void cancel_receive(struct wh__op *op)
{
	wh_tls *tls = op->second;
	tls->references++;
	end_op(&tls->receive, -ECANCELED, NULL);
	if (!tls->closed)
		advance(tls);
	unref(tls);
}

/* A slot for an operation of tls; busy: there is one of its kind. */
static struct wh__op *begin(wh_tls *tls, const struct wh__op *busy, wh_future *ret_failed)
{
	struct wh__op *op = wh__begin(tls->loop, WH__OP_INNER, ret_failed);
	if (!op)
		return NULL;
	op->second = tls;
	if (!busy && tls->error == 0)
		return op;
	*ret_failed = wh__end(op, busy ? -EBUSY : tls->error);
	return NULL;
}

static wh_future start_receive(wh_tls *tls, struct wh__op *op)
{
	wh_future f = wh__op_future(op);
	op->cancel_inner = cancel_receive;
	tls->receive = op;
	wh__op_background(op, tls->background);
	advance(tls);
	return f;
}

wh_future wh_tls_recv(wh_tls *tls, void *buf, size_t len)
{
	wh_future f;
	struct wh__op *op = begin(tls, tls->receive, &f);
	if (!op)
		return f;
	if (!buf || len == 0)
		return wh__end(op, len == 0 ? 0 : -EINVAL);
	op->buf = buf;
	op->len = len;
	op->flags = WH__BORROWS;
	return start_receive(tls, op);
}

wh_future wh_tls_recv_buf(wh_tls *tls)
{
	wh_future f;
	struct wh__op *op = begin(tls, tls->receive, &f);
	if (!op)
		return f;
	op->fd = 0; /* no buffer of the caller's */
	op->dispose = put_dropped;
	return start_receive(tls, op);
}

/* ---- sending ------------------------------------------------------------------------------ */

void wh__tls_background(wh_tls *tls, bool background)
{
	tls->background = background;
	if (tls->receive)
		wh__op_background(tls->receive, background);
	if (tls->is_receiving)
		wh__background(tls->loop, tls->receiving, background);
}

static void cancel_send(struct wh__op *op)
{
	wh_tls *tls = op->dispose_arg;
	/* what is encrypted goes out all the same: a record must not be missing */
	end_op(&tls->send, -ECANCELED, NULL);
}

static wh_future start_send(wh_tls *tls, struct wh__op *op)
{
	wh_future f = wh__op_future(op);
	if (tls->said_end)
		return wh__end(op, -EPIPE);
	op->cancel_inner = cancel_send;
	op->dispose_arg = tls;
	tls->send = op;
	advance(tls);
	return f;
}

wh_future wh_tls_send_all(wh_tls *tls, const void *buf, size_t len)
{
	wh_future f;
	struct wh__op *op = begin(tls, tls->send, &f);
	if (!op)
		return f;
	if (!buf && len > 0)
		return wh__end(op, -EINVAL);
	op->buf = (void *)(uintptr_t)buf;
	op->len = len;
	op->flags = WH__BORROWS;
	return start_send(tls, op);
}

wh_future wh_tls_sendv_all(wh_tls *tls, const struct iovec *iov, int count)
{
	wh_future f;
	struct wh__op *op = begin(tls, tls->send, &f);
	if (!op)
		return f;
	if (!iov || count <= 0 || count > VECTOR_MAX)
		return wh__end(op, -EINVAL);
	op->buf = malloc((size_t)count * sizeof *iov);
	if (!op->buf)
		return wh__end(op, -ENOMEM);
	memcpy(op->buf, iov, (size_t)count * sizeof *iov);
	op->len = (uint64_t)count;
	op->off = 0; /* all bytes */
	for (int i = 0; i < count; i++)
		op->off += iov[i].iov_len;
	op->flags = WH__OWNS_BUF | WH__BORROWS;
	return start_send(tls, op);
}

wh_future wh_tls_shutdown(wh_tls *tls)
{
	wh_future f;
	struct wh__op *op = begin(tls, tls->send, &f);
	if (!op)
		return f;
	op->fd = SHUT_WR;
	return start_send(tls, op);
}

wh_future wh_tls_close(wh_tls *tls)
{
	if (!wh__loop_is_mine(tls->loop))
		return wh__fail(tls->loop, -EPERM);
	assert(!tls->closed);
	if (tls->error == 0 && !tls->said_end && !tls->send) {
		ERR_clear_error();
		(void)SSL_shutdown(tls->ssl);
		ERR_clear_error();
	}
	return take_down(tls, -ECANCELED);
}

/* ---- what was agreed ---------------------------------------------------------------------- */

int wh_tls_fd(const wh_tls *tls)
{
	return tls->fd;
}

const char *wh_tls_version(const wh_tls *tls)
{
	return SSL_get_version(tls->ssl);
}

const char *wh_tls_cipher(const wh_tls *tls)
{
	return SSL_get_cipher_name(tls->ssl);
}

const char *wh_tls_alpn(const wh_tls *tls)
{
	return tls->alpn ? tls->alpn : "";
}

const char *wh_tls_server_name(const wh_tls *tls)
{
	const char *name = SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name);
	return name ? name : "";
}

bool wh_tls_resumed(const wh_tls *tls)
{
	return SSL_session_reused(tls->ssl) == 1;
}

size_t wh_tls_peer_name(const wh_tls *tls, char *to, size_t max)
{
	X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
	BIO *bio = certificate ? BIO_new(BIO_s_mem()) : NULL;
	char *text = NULL;
	long len = 0;
	if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0,
	                              XN_FLAG_RFC2253 | XN_FLAG_SPC_EQ) >= 0)
		len = BIO_get_mem_data(bio, &text);
	size_t used = len > 0 ? (size_t)len : 0;
	if (max > 0) {
		if (used >= max)
			used = max - 1;
		if (used > 0)
			memcpy(to, text, used);
		to[used] = 0;
	}
	BIO_free(bio);
	ERR_clear_error();
	return used;
}
