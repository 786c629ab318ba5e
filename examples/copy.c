/* copy.c -- copy a file: as a blocking program would, and with several pieces under way at once.
 *
 *	copy [--overlapped] FROM TO
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <whilst/whilst.h>

enum { PIECE_BYTES = 256 * 1024, SLOT_COUNT = 8 };

static int64_t must(const char *what, wh_res res)
{
	if (res.n < 0) {
		fprintf(stderr, "copy: %s: %s\n", what, wh_strerror(res.n));
		exit(1);
	}
	return res.n;
}

/* One piece after another: each wh_await() stands where read(2) or write(2) would. */
static uint64_t copy_waiting(wh_loop *loop, int from, int to)
{
	static char piece[PIECE_BYTES];
	uint64_t at = 0;
	for (;;) {
		int64_t n = must("read", wh_await(wh_pread(loop, from, piece, sizeof piece, at)));
		if (n == 0)
			return at;
		must("write", wh_await(wh_pwrite_all(loop, to, piece, (size_t)n, at)));
		at += (uint64_t)n;
	}
}

/* A copy with pieces in several places at once. Everything happens on the loop's thread: no locks. */
struct copy {
	int from, to;
	uint64_t size, next; /* next: where the next piece begins */
	int64_t error;       /* the first; no piece is begun after it */
};

/* One piece under way: read, then written, then the next. */
struct slot {
	struct copy *copy;
	uint64_t at;
	char piece[PIECE_BYTES]; /* borrowed by one operation at a time */
};

static void begin_piece(wh_loop *loop, struct slot *slot);

static void on_written(wh_loop *loop, wh_res res, void *arg)
{
	struct slot *slot = arg;
	if (res.n < 0 && !slot->copy->error)
		slot->copy->error = res.n;
	begin_piece(loop, slot);
}

static void on_read(wh_loop *loop, wh_res res, void *arg)
{
	struct slot *slot = arg;
	if (res.n > 0)
		wh_then(wh_pwrite_all(loop, slot->copy->to, slot->piece, (size_t)res.n, slot->at), on_written,
		        slot);
	else
		on_written(loop, res, slot); /* an error, or somebody shortened the file meanwhile */
}

static void begin_piece(wh_loop *loop, struct slot *slot)
{
	struct copy *copy = slot->copy;
	if (copy->error || copy->next == copy->size)
		return; /* nothing more is started: when all slots come here the loop has nothing to do */
	uint64_t left = copy->size - copy->next;
	size_t len = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
	slot->at = copy->next;
	copy->next += len;
	wh_then(wh_pread_all(loop, copy->from, slot->piece, len, slot->at), on_read, slot);
}

static uint64_t copy_overlapped(wh_loop *loop, int from, int to)
{
	static struct slot slots[SLOT_COUNT];
	struct copy copy = {.from = from, .to = to};
	copy.size = (uint64_t)must("size", wh_await(wh_size(loop, from)));
	for (int i = 0; i < SLOT_COUNT; i++) {
		slots[i].copy = &copy;
		begin_piece(loop, &slots[i]);
	}
	wh_loop_run(loop); /* returns when nothing is pending */
	must("copy", (wh_res){copy.error, NULL});
	return copy.size;
}

int main(int argc, char **argv)
{
	bool overlapped = argc == 4 && strcmp(argv[1], "--overlapped") == 0;
	if (argc != 3 && !overlapped) {
		fprintf(stderr, "usage: copy [--overlapped] FROM TO\n");
		return 2;
	}
	wh_loop *loop;
	must("loop", (wh_res){wh_loop_open(&loop, NULL), NULL});

	int from = (int)must(argv[argc - 2], wh_await(wh_open(loop, argv[argc - 2], O_RDONLY, 0)));
	int to = (int)must(argv[argc - 1],
	                   wh_await(wh_open(loop, argv[argc - 1], O_WRONLY | O_CREAT | O_TRUNC, 0666)));
	uint64_t bytes = overlapped ? copy_overlapped(loop, from, to) : copy_waiting(loop, from, to);
	must("sync", wh_await(wh_fsync(loop, to, false)));
	must("close", wh_await(wh_close(loop, to)));
	must("close", wh_await(wh_close(loop, from)));
	printf("%" PRIu64 " bytes, engine %s\n", bytes, wh_engine_name(loop));
	wh_loop_close(loop);
	return 0;
}
