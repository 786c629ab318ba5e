/* src/front/api_backup.c -- GET /v1/log/backup: the files of the data folder at one moment, as a tar archive, while all goes on.
 *
 * The files are pinned until the archive has been taken, in pieces as large as the client takes them. Its length is known
 * from the start; what breaks off is cut off, so that nobody takes a part for the whole.
 *
 * A client must not pin them for ever: it is cut off when it takes nothing for as long as any client may, less than SLOW_BYTES in SLOW_NS, or
 * when the disk is full and would not be without it.
 * Thread: the loop of the store.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/api.h"

enum { PIECE_BYTES = 128 << 10, TAR_BLOCK = 512, TAR_END_BYTES = 2 * TAR_BLOCK, SLOW_BYTES = 1 << 20 };

#define SLOW_NS (60 * WH_NS_PER_S)
#define LOOK_NS WH_NS_PER_S

struct backup {
	struct api *api;
	wh_http_exchange *x;
	struct store_backup *pinned;
	size_t index;
	struct store_backup_file file;
	uint64_t offset; /* in the file, its padding included */
	bool headed, ended, over;
	bool writing, timed; /* .pending, .timer are under way */
	wh_future pending, timer;
	uint64_t sent, slow_from; /* bytes of the archive; as they were at .slow_at */
	int64_t slow_at;
	const char *why; /* it breaks off; NULL: the client has gone */
	int fd;
	int64_t wall_s;
	uint8_t piece[PIECE_BYTES];
};

static void go_on(struct backup *b);

/* Worth a line: a copy that somebody counts on is not made. */
static void tell(const struct backup *b, bool whole)
{
	struct api *api = b->api;
	struct store_position position = store_backup_position(b->pinned);
	char members[200];

	if (!api->options.event || wh_http_method(b->x) == WH_HTTP_HEAD)
		return;
	snprintf(members, sizeof(members), "position=%u/%llu bytes=%llu whole=%s%s%s%s", position.epoch,
	         (unsigned long long)position.lsn, (unsigned long long)b->sent, whole ? "yes" : "no",
	         whole ? "" : " reason=\"",
	         whole    ? ""
	         : b->why ? b->why
	                  : "the client has gone",
	         whole ? "" : "\"");
	api->options.event(whole ? WH_LOG_INFO : WH_LOG_WARNING, "backup", members, api->options.event_arg);
}

static void end(struct backup *b, bool whole)
{
	struct api *api = b->api;

	wh_http_on_close(b->x, NULL, NULL);
	wh_http_on_drain(b->x, NULL, NULL);
	tell(b, whole);
	if (whole)
		wh_http_end(b->x);
	else
		wh_http_abort(b->x);
	b->x = NULL;
	if (b->fd >= 0)
		(void)wh_detach(wh_close(api->loop, b->fd));
	store_backup_end(b->pinned);
	if (b->timed)
		wh_cancel(b->timer); /* and it is freed there */
	else
		free(b);
	api->calls_count--;
	front_check_drained(api);
}

static void then(struct backup *b, wh_future future, wh_callback *callback)
{
	b->pending = future;
	if (wh_then(future, callback, b) == 0)
		return;
	b->why = "out of memory";
	end(b, false);
}

static void on_written(wh_loop *loop, wh_res res, void *arg)
{
	struct backup *b = arg;

	b->writing = false;
	if (res.n < 0 || b->over)
		end(b, false);
	else if (b->ended)
		end(b, true);
	else
		go_on(b);
}

static void send_piece(struct backup *b, const void *bytes, size_t len)
{
	b->sent += len;
	b->writing = true;
	then(b, wh_http_write(b->x, bytes, len), on_written);
}

static void on_read(wh_loop *loop, wh_res res, void *arg)
{
	struct backup *b = arg;

	if (res.n <= 0 || b->over) {
		if (!b->over)
			b->why = res.n < 0 ? wh_strerror(res.n) : "a file is shorter than it was";
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
	else
		b->why = wh_strerror(res.n);
	if (res.n < 0 || b->over)
		end(b, false);
	else
		go_on(b);
}

/* Now, if it waits for the client; else when what is under way has ended. */
static void break_off(struct backup *b, const char *why)
{
	b->over = true;
	b->why = why;
	if (b->writing)
		wh_cancel(b->pending);
}

static void on_look(wh_loop *loop, wh_res res, void *arg);

static void look_later(struct backup *b)
{
	b->timer = wh_sleep(b->api->loop, LOOK_NS);
	b->timed = wh_then(b->timer, on_look, b) == 0;
	if (!b->timed)
		break_off(b, "out of memory");
}

static void on_look(wh_loop *loop, wh_res res, void *arg)
{
	struct backup *b = arg;
	int64_t now = wh_now(loop);

	b->timed = false;
	if (!b->x) {
		free(b);
		return;
	}
	if (store_backup_over(b->pinned)) {
		break_off(b, "the disk is full, and files that are not needed any more are held for it");
		return;
	}
	if (now - b->slow_at >= SLOW_NS) {
		if (b->sent - b->slow_from < SLOW_BYTES) {
			break_off(b, "the client takes less than 1 MiB in a minute");
			return;
		}
		b->slow_at = now;
		b->slow_from = b->sent;
	}
	look_later(b);
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

/* What is under way ends by itself, and then it ends. */
static void on_gone(void *arg)
{
	((struct backup *)arg)->over = true;
}

static void on_drain(void *arg)
{
	((struct backup *)arg)->why = "the server stops";
	on_gone(arg);
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
	if (b)
		memset(b, 0, offsetof(struct backup, piece));
	error = b ? store_backup_begin(api->store, &b->pinned) : -ENOMEM;
	if (error < 0) {
		free(b);
		if (error == -JOB_EBUSY)
			answer_limit(api, request->x, PROBLEM_TOO_BUSY, STORE_BACKUPS_MAX, NULL,
			             "%d backups are being taken, more are not at once", STORE_BACKUPS_MAX);
		else
			answer_error(api, request->x, error, NULL, JOB_NONE, "log");
		return;
	}
	b->api = api;
	b->x = request->x;
	b->fd = -1;
	b->slow_at = wh_now(api->loop);
	b->wall_s = wh_wall_now(api->loop) / WH_NS_PER_S;
	for (size_t i = 0; store_backup_file(b->pinned, i, &file); i++)
		bytes += TAR_BLOCK + padded(file.file_bytes);
	position = store_backup_position(b->pinned);
	wh_http_set(b->x, "Content-Type", "application/x-tar");
	wh_http_setf(b->x, "Whilst-Position", "%u/%llu", position.epoch, (unsigned long long)position.lsn);
	wh_http_start(b->x, 200, (int64_t)bytes);
	answer_count(api, b->x, 200);
	api->calls_count++;
	wh_http_on_close(b->x, on_gone, b);
	wh_http_on_drain(b->x, on_drain, b);
	if (wh_http_method(b->x) == WH_HTTP_HEAD) {
		end(b, true);
		return;
	}
	look_later(b);
	go_on(b);
}
