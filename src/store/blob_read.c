/* src/store/blob_read.c -- a body in a file, handed out piece by piece. See store.h, inside.h.
 *
 * The file is read twice: once to compare it with what its record says, before anybody is given a byte of it, and once to hand
 * it out; then the page cache has it. The second pass is compared as well, before its last piece is given, so that a body that changes in between
 * cannot be taken for whole.
 */
#include "store/inside.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/hash.h"

enum { PIECE = STORE_PIECE_MAX };

struct store_reader {
	struct store_reader *next, *prev; /* of the store */
	struct store *store;              /* NULL: closed */
	struct store_bytes *bytes;
	int fd;
	bool busy, checking, checked, freed;
	uint64_t at;
	int64_t error;
	XXH3_state_t *hash;
	bool wanted;
	wh_future promise; /* of whoever waits */
	uint8_t piece[PIECE + 1];
};

static void detach(struct store_reader *reader)
{
	struct store *store = reader->store;

	if (!store)
		return;
	*(reader->prev ? &reader->prev->next : &store->blobs.readers) = reader->next;
	if (reader->next)
		reader->next->prev = reader->prev;
	store->blobs.readers_count--;
	reader->store = NULL;
}

static void dispose(struct store_reader *reader)
{
	if (reader->store && reader->fd >= 0)
		(void)wh_drop(wh_close(reader->store->loop, reader->fd));
	detach(reader);
	store_bytes_unref(reader->bytes);
	XXH3_freeState(reader->hash);
	free(reader);
}

static void tell(struct store_reader *reader, int64_t n)
{
	if (n < 0)
		reader->error = n;
	if (!reader->wanted)
		return;
	reader->wanted = false;
	wh_resolve(reader->promise, n, n > 0 && !reader->checking ? reader->piece : NULL);
}

static bool is_right(const struct store_reader *reader)
{
	XXH128_hash_t hash = XXH3_128bits_digest(reader->hash);
	const uint8_t *wanted = reader->bytes->blob.hash;

	return memcmp(wanted, &hash.low64, 8) == 0 && memcmp(wanted + 8, &hash.high64, 8) == 0;
}

/* The file is not what was written, or not there at all. */
static int64_t damaged(struct store_reader *reader, bool missing)
{
	struct store *store = reader->store;
	const struct store_blob_entry *e = store_blob_table_find(&store->blobs.table, reader->bytes->job);
	uint64_t number = reader->bytes->blob.number;
	char name[STORE_BLOB_NAME_BYTES], message[160];

	if (missing && (!e || (e->payload.number != number && e->result.number != number)))
		return -JOB_EEXPIRED; /* forgotten in the meantime */
	store_blob_name(number, true, name);
	snprintf(message, sizeof(message), "%s of job %llu: the file " STORE_BLOBS_FOLDER "/%s %s",
	         reader->bytes->status ? "result" : "payload", (unsigned long long)reader->bytes->job, name,
	         missing ? "is missing" : "is not what was written");
	if (store->options.log)
		store->options.log(WH_LOG_ERROR, message, store->options.log_arg);
	store->stats.blobs_damaged++;
	return -WH_EDAMAGED;
}

static void go_on(struct store_reader *reader);

/* A piece of n bytes has come. */
static int64_t take(struct store_reader *reader, int64_t n)
{
	uint64_t left = reader->bytes->blob.bytes - reader->at;
	uint64_t wanted = left < PIECE ? left : PIECE;

	/* the last read asks for a byte more: a file that has become longer is not it either */
	if ((uint64_t)n != wanted)
		return damaged(reader, false);
	XXH3_128bits_update(reader->hash, reader->piece, (size_t)n);
	reader->at += (uint64_t)n;
	if (reader->at == reader->bytes->blob.bytes && !is_right(reader))
		return damaged(reader, false);
	return n;
}

static void on_read(wh_loop *loop, wh_res res, void *arg)
{
	struct store_reader *reader = arg;
	struct store *store = reader->store;

	(void)loop;
	reader->busy = false;
	if (res.n >= 0 && reader->fd < 0) {
		reader->fd = (int)res.n;
	} else if (res.n < 0) {
		tell(reader, res.n == -ENOENT ? damaged(reader, true) : res.n);
	} else {
		int64_t n = take(reader, res.n);

		if (n < 0 || !reader->checking) {
			tell(reader, n);
			reader->checking = false;
		} else if (reader->at == reader->bytes->blob.bytes) {
			tell(reader, (int64_t)reader->at);
			reader->checking = false;
			reader->checked = true;
			reader->at = 0;
			XXH3_128bits_reset(reader->hash);
		}
	}
	if (!store_operation_end(store)) {
		reader->store = NULL;
		if (reader->freed)
			dispose(reader);
		return;
	}
	go_on(reader);
}

static void start(struct store_reader *reader, wh_future future)
{
	if (wh_then(future, on_read, reader) == 0) {
		reader->busy = true;
		reader->store->operations++;
		return;
	}
	tell(reader, -ENOMEM);
}

static void go_on(struct store_reader *reader)
{
	struct store *store = reader->store;
	uint64_t left = reader->bytes->blob.bytes - reader->at;
	char name[STORE_BLOB_NAME_BYTES];

	if (reader->busy)
		return;
	if (reader->freed) {
		dispose(reader);
		return;
	}
	if (reader->error < 0 || !reader->wanted || !store)
		return;
	if (reader->fd >= 0) {
		start(reader, wh_pread_all(store->loop, reader->fd, reader->piece,
		                           left < PIECE ? (size_t)left + 1 : PIECE, reader->at));
		return;
	}
	store_blob_name(reader->bytes->blob.number, true, name);
	start(reader, wh_open_at(store->loop, store->blobs.folder, name, O_RDONLY, 0));
}

int store_reader_open(struct store *store, struct store_bytes *bytes, struct store_reader **ret)
{
	struct store_reader *reader;

	if (store->failed)
		return (int)store->failed;
	if (store->closing)
		return -ECANCELED;
	if (store->blobs.readers_count >= STORE_READERS_MAX)
		return -JOB_EBUSY;
	reader = malloc(sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	memset(reader, 0, offsetof(struct store_reader, piece));
	reader->hash = XXH3_createState();
	if (!reader->hash) {
		free(reader);
		return -ENOMEM;
	}
	XXH3_128bits_reset(reader->hash);
	reader->store = store;
	reader->bytes = store_bytes_ref(bytes);
	reader->fd = -1;
	reader->next = store->blobs.readers;
	if (reader->next)
		reader->next->prev = reader;
	store->blobs.readers = reader;
	store->blobs.readers_count++;
	*ret = reader;
	return 0;
}

static wh_future want(struct store_reader *reader)
{
	if (!reader->store)
		return (wh_future){0};
	if (reader->error < 0 || reader->wanted)
		return wh_failed(reader->store->loop, reader->error ? reader->error : -EBUSY);
	reader->wanted = true;
	return reader->promise = wh_promise(reader->store->loop, NULL, NULL);
}

wh_future store_reader_check(struct store_reader *reader)
{
	wh_future future = want(reader);

	reader->checking = true;
	if (reader->store)
		go_on(reader);
	return future;
}

wh_future store_reader_next(struct store_reader *reader)
{
	wh_future future = want(reader);

	if (!reader->store || !reader->wanted)
		return future;
	if (!reader->checked)
		tell(reader, -EINVAL);
	else if (reader->at == reader->bytes->blob.bytes)
		tell(reader, 0);
	else
		go_on(reader);
	return future;
}

struct store_reader *store_reader_free(struct store_reader *reader)
{
	if (!reader)
		return NULL;
	reader->freed = true;
	if (!reader->busy)
		dispose(reader);
	return NULL;
}

void store_readers_end(struct store *store)
{
	for (struct store_reader *reader = store->blobs.readers; reader; reader = reader->next)
		tell(reader, -ECANCELED);
}

void store_readers_detach(struct store *store)
{
	while (store->blobs.readers) {
		struct store_reader *reader = store->blobs.readers;

		if (reader->fd >= 0 && !reader->busy)
			(void)wh_drop(wh_close(store->loop, reader->fd));
		reader->error = -ECANCELED;
		detach(reader);
	}
}
