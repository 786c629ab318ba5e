/* src/http/output.c -- bytes on their way to a socket. See output.h. Thread: loop. */
#include "http/output.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { VECTOR_MAX = 16, PIECE_MIN = 4096 };

static void push(struct wh__http_chain *chain, struct wh__http_piece *piece)
{
	piece->next = NULL;
	if (chain->last)
		chain->last->next = piece;
	else
		chain->first = piece;
	chain->last = piece;
}

/* A new last piece with room for len bytes. */
static struct wh__http_piece *add_piece(struct wh__http_chain *chain, wh_loop *loop, size_t len)
{
	struct wh__http_piece *piece = NULL;
	struct wh_buf *buf = wh_buf_get(loop);

	if (buf && buf->cap >= sizeof(*piece) + len) {
		piece = (struct wh__http_piece *)(void *)buf->data;
		*piece = (struct wh__http_piece){.data = (char *)(piece + 1), .buf = buf, .embedded = true};
		piece->room = (uint32_t)(buf->cap - sizeof(*piece));
	} else {
		size_t room = len < PIECE_MIN ? PIECE_MIN : len;

		wh_buf_put(buf);
		if (room > UINT32_MAX)
			return NULL;
		piece = malloc(sizeof(*piece) + room);
		if (!piece)
			return NULL;
		*piece = (struct wh__http_piece){.data = (char *)(piece + 1), .room = (uint32_t)room};
	}
	push(chain, piece);
	return piece;
}

char *wh__http_chain_room(struct wh__http_chain *chain, wh_loop *loop, size_t len)
{
	struct wh__http_piece *piece = chain->last;
	char *at;

	if (!piece || piece->room < len)
		piece = add_piece(chain, loop, len);
	if (!piece)
		return NULL;
	at = (char *)(uintptr_t)piece->data + piece->len;
	piece->len += len;
	piece->room -= (uint32_t)len;
	return at;
}

size_t wh__http_chain_bytes(const struct wh__http_chain *chain)
{
	size_t bytes = 0;

	for (const struct wh__http_piece *piece = chain->first; piece; piece = piece->next)
		bytes += piece->len;
	return bytes;
}

void wh__http_chain_trim(struct wh__http_chain *chain, size_t n)
{
	chain->last->len -= n;
	chain->last->room += (uint32_t)n;
}

static void fill(struct wh__http_piece *piece, const char *bytes, size_t len)
{
	memcpy((char *)(uintptr_t)piece->data + piece->len, bytes, len);
	piece->len += len;
	piece->room -= (uint32_t)len;
}

bool wh__http_chain_copy(struct wh__http_chain *chain, wh_loop *loop, const void *bytes, size_t len)
{
	struct wh__http_piece *piece = chain->last, *more = NULL;
	size_t fits = !piece ? 0 : piece->room < len ? piece->room : len;

	/* the rest first, so that nothing is appended when there is no memory for it */
	if (fits < len) {
		more = add_piece(chain, loop, len - fits);
		if (!more)
			return false;
		fill(more, (const char *)bytes + fits, len - fits);
	}
	if (fits > 0)
		fill(piece, bytes, fits);
	return true;
}

bool wh__http_chain_take(struct wh__http_chain *chain, const void *bytes, size_t len, wh_function *release,
                         void *arg)
{
	struct wh__http_piece *piece = malloc(sizeof(*piece));

	if (!piece)
		return false;
	*piece = (struct wh__http_piece){.data = bytes, .len = len, .release = release, .arg = arg};
	push(chain, piece);
	return true;
}

bool wh__http_chain_take_buf(struct wh__http_chain *chain, struct wh_buf *buf)
{
	struct wh__http_piece *piece = malloc(sizeof(*piece));

	if (!piece) {
		wh_buf_put(buf);
		return false;
	}
	*piece = (struct wh__http_piece){.data = (const char *)buf->data, .len = buf->len, .buf = buf};
	push(chain, piece);
	return true;
}

void wh__http_chain_append(struct wh__http_chain *chain, struct wh__http_chain *more)
{
	if (!more->first)
		return;
	if (chain->last)
		chain->last->next = more->first;
	else
		chain->first = more->first;
	chain->last = more->last;
	*more = (struct wh__http_chain){0};
}

static void free_piece(struct wh__http_piece *piece)
{
	struct wh_buf *buf = piece->buf;

	if (piece->release)
		piece->release(piece->arg);
	if (!piece->embedded)
		free(piece);
	wh_buf_put(buf);
}

static void drop_first(struct wh__http_chain *chain)
{
	struct wh__http_piece *piece = chain->first;

	chain->first = piece->next;
	if (!chain->first)
		chain->last = NULL;
	free_piece(piece);
}

void wh__http_chain_sent(struct wh__http_chain *chain, size_t n)
{
	while (chain->first && n >= chain->first->len) {
		n -= chain->first->len;
		drop_first(chain);
	}
	if (n > 0) {
		assert(chain->first);
		chain->first->data += n;
		chain->first->len -= n;
	}
}

void wh__http_chain_clear(struct wh__http_chain *chain)
{
	while (chain->first)
		drop_first(chain);
}

wh_future wh__http_chain_send(const struct wh__http_chain *chain, wh_loop *loop, struct wh__stream stream,
                              size_t max, size_t *ret_len)
{
	const struct wh__http_piece *piece = chain->first;
	struct iovec iov[VECTOR_MAX];
	size_t total = 0;
	int n = 0;

	for (; piece && n < VECTOR_MAX && total < max; piece = piece->next) {
		size_t len = piece->len < max - total ? piece->len : max - total;

		if (len == 0)
			continue;
		iov[n++] = (struct iovec){.iov_base = (void *)(uintptr_t)piece->data, .iov_len = len};
		total += len;
	}
	*ret_len = total;
	if (n == 1)
		return wh__stream_send_all(loop, stream, iov[0].iov_base, iov[0].iov_len);
	return wh__stream_sendv_all(loop, stream, iov, n);
}
