/* src/front/api_backup.c -- GET /v1/log/backup: the files of the data folder at one moment, as a tar archive, while all goes on.
 *
 * The files are pinned until the archive has been taken, in pieces as large as the client takes them. Its length is known
 * from the start; what breaks off is cut off, so that nobody takes a part for the whole.
 * Thread: the loop of the store.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/api.h"

enum { PIECE_BYTES = 128 << 10, TAR_BLOCK = 512, TAR_END_BYTES = 2 * TAR_BLOCK };

struct backup {
	struct api *api;
	wh_http_exchange *x;
	struct store_backup *pinned;
	size_t index;
	struct store_backup_file file;
	uint64_t offset; /* in the file, its padding included */
	bool headed, ended, over;
	int fd;
	int64_t wall_s;
	uint8_t piece[PIECE_BYTES];
};

static void go_on(struct backup *b);

static void end(struct backup *b, bool whole)
{
	struct api *api = b->api;

	wh_http_on_close(b->x, NULL, NULL);
	wh_http_on_drain(b->x, NULL, NULL);
	if (whole)
		wh_http_end(b->x);
	else
		wh_http_abort(b->x);
	if (b->fd >= 0)
		(void)wh_detach(wh_close(api->loop, b->fd));
	store_backup_end(b->pinned);
	free(b);
	api->calls_count--;
	front_check_drained(api);
}

static void then(struct backup *b, wh_future future, wh_callback *callback)
{
	if (wh_then(future, callback, b) != 0)
		end(b, false);
}

static void on_written(wh_loop *loop, wh_res res, void *arg)
{
	struct backup *b = arg;

	if (res.n < 0 || b->over)
		end(b, false);
	else if (b->ended)
		end(b, true);
	else
		go_on(b);
}

static void send_piece(struct backup *b, const void *bytes, size_t len)
{
	then(b, wh_http_write(b->x, bytes, len), on_written);
}

static void on_read(wh_loop *loop, wh_res res, void *arg)
{
	struct backup *b = arg;

	if (res.n <= 0 || b->over) { /* 0: shorter than it was pinned */
		end(b, false);
		return;
	}
	b->offset += (uint64_t)res.n;
	send_piece(b, b->piece, (size_t)res.n);
}

static void on_opened(wh_loop *loop, wh_res res, void *arg)
{
	struct backup *b = arg;

	if (res.n >= 0)
		b->fd = (int)res.n;
	if (res.n < 0 || b->over)
		end(b, false);
	else
		go_on(b);
}

static uint64_t padded(uint64_t bytes)
{
	return (bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

/* POSIX.1-1988 ustar; a size beyond 8 GiB does not occur. */
static void send_header(struct backup *b)
{
	char *h = (char *)b->piece;
	unsigned sum = 0;

	memset(h, 0, TAR_BLOCK);
	snprintf(h, 100, "%s", b->file.name);
	memcpy(h + 100, "0000600", 8);
	memcpy(h + 108, "0000000", 8);
	memcpy(h + 116, "0000000", 8);
	snprintf(h + 124, 12, "%011llo", (unsigned long long)b->file.file_bytes);
	snprintf(h + 136, 12, "%011llo", (unsigned long long)b->wall_s);
	memset(h + 148, ' ', 8);
	h[156] = '0';
	memcpy(h + 257, "ustar\00000", 8);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += b->piece[i];
	snprintf(h + 148, 8, "%06o", sum);
	b->headed = true;
	b->offset = 0;
	send_piece(b, h, TAR_BLOCK);
}

static void next_file(struct backup *b)
{
	if (b->fd >= 0)
		(void)wh_detach(wh_close(b->api->loop, b->fd));
	b->fd = -1;
	b->headed = false;
	b->index++;
	go_on(b);
}

static size_t piece_of(uint64_t left)
{
	return left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
}

static void go_on(struct backup *b)
{
	uint64_t whole;

	if (!b->headed && !store_backup_file(b->pinned, b->index, &b->file)) {
		b->ended = true;
		memset(b->piece, 0, TAR_END_BYTES);
		send_piece(b, b->piece, TAR_END_BYTES);
		return;
	}
	whole = padded(b->file.file_bytes);
	if (!b->headed) {
		send_header(b);
	} else if (b->offset < b->file.bytes && b->file.content) {
		b->offset = b->file.bytes;
		send_piece(b, b->file.content, b->file.bytes);
	} else if (b->offset < b->file.bytes && b->fd < 0) {
		then(b, store_backup_open(b->pinned, b->file.name), on_opened);
	} else if (b->offset < b->file.bytes) {
		then(b,
		     wh_pread(b->api->loop, b->fd, b->piece, piece_of(b->file.bytes - b->offset), b->offset),
		     on_read);
	} else if (b->offset < whole) {
		size_t len = piece_of(whole - b->offset);

		memset(b->piece, 0, len);
		b->offset += len;
		send_piece(b, b->piece, len);
	} else {
		next_file(b);
	}
}

static void on_over(void *arg)
{
	((struct backup *)arg)->over = true; /* what is under way ends by itself, and then it ends */
}

void api_log_backup(struct request *request)
{
	struct api *api = request->api;
	struct store_position position;
	struct store_backup_file file;
	uint64_t bytes = TAR_END_BYTES;
	struct backup *b;
	int error;

	if (!request_options(request, NULL, 0))
		return;
	b = malloc(sizeof(*b));
	error = b ? store_backup_begin(api->store, &b->pinned) : -ENOMEM;
	if (error < 0) {
		free(b);
		answer_error(api, request->x, error, NULL, JOB_NONE, "log");
		return;
	}
	b->api = api;
	b->x = request->x;
	b->index = 0;
	b->headed = b->ended = b->over = false;
	b->fd = -1;
	b->wall_s = wh_wall_now(api->loop) / WH_NS_PER_S;
	for (size_t i = 0; store_backup_file(b->pinned, i, &file); i++)
		bytes += TAR_BLOCK + padded(file.file_bytes);
	position = store_backup_position(b->pinned);
	wh_http_set(b->x, "Content-Type", "application/x-tar");
	wh_http_setf(b->x, "Whilst-Position", "%u/%llu", position.epoch, (unsigned long long)position.lsn);
	wh_http_start(b->x, 200, (int64_t)bytes);
	answer_count(api, b->x, 200);
	api->calls_count++;
	wh_http_on_close(b->x, on_over, b);
	wh_http_on_drain(b->x, on_over, b);
	if (wh_http_method(b->x) == WH_HTTP_HEAD)
		end(b, true);
	else
		go_on(b);
}
