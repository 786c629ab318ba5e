/* src/store/blob_write.c -- a body taken piece by piece: in memory while it is small, then into a file of its own.
 *
 * A body walks through one disk call at a time: make the file, write, write, ..., fsync, close, rename, fsync of the
 * folder. One piece is filled while another is written, and who brings the pieces waits for that: memory is two pieces, whatever
 * the size. What ends before a record names it is taken back: the file goes. See store.h, inside.h.
 *
 * A file whose fsync failed may have lost pages that the kernel calls clean: it is removed, the caller refused, and nothing else
 * concerned, since no record names it. When the fsync of the folder fails, nobody can say which names the disk holds, those of
 * bodies acknowledged later included: the store fails as it does with its log.
 */
#include "store/inside.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/hash.h"

enum { PIECE = STORE_PIECE_MAX, FILL_BYTES = 2 * PIECE };

enum step {
	STEP_OPEN,
	STEP_WRITE,
	STEP_SYNC,
	STEP_CLOSE,
	STEP_RENAME,
	STEP_FOLDER,
	STEP_GIVE_UP,
	STEP_UNLINK
};

struct store_body {
	struct store_body *next, *prev; /* of the store */
	struct store *store;            /* NULL: closed */
	uint32_t references;
	int fd;
	int64_t announced; /* -1: not known */
	uint64_t length, written;
	uint64_t number;
	int64_t error;
	uint8_t step;
	bool busy;  /* a disk call is under way */
	bool file;  /* too large for memory */
	bool slot;  /* one of those that may write at once */
	bool waits; /* for a slot, instead of being refused */
	bool made;  /* the file is there */
	bool synced, renamed, ending, ended, named;
	XXH3_state_t *hash, *marked; /* of all; of what came since store_body_mark(), or NULL */
	uint8_t *fill, *out;         /* being filled; being written */
	size_t fill_len, fill_cap, out_len, out_cap;
	bool room_wanted, end_wanted;
	wh_future room, end;
	uint8_t reference[JOB_BLOB_BYTES];
};

static void go_on(struct store_body *body);

/* ---- life -------------------------------------------------------------------------------- */

static void detach(struct store_body *body)
{
	struct store *store = body->store;

	if (!store)
		return;
	*(body->prev ? &body->prev->next : &store->blobs.bodies) = body->next;
	if (body->next)
		body->next->prev = body->prev;
	body->store = NULL;
}

static void dispose(struct store_body *body)
{
	detach(body);
	XXH3_freeState(body->hash);
	XXH3_freeState(body->marked);
	free(body->fill);
	free(body->out);
	free(body);
}

static void tell(struct store_body *body)
{
	if (body->room_wanted && (body->error < 0 || body->fill_len < PIECE)) {
		body->room_wanted = false;
		wh_resolve(body->room, body->error, NULL);
	}
	if (body->end_wanted && (body->error < 0 || body->ended)) {
		body->end_wanted = false;
		wh_resolve(body->end, body->error < 0 ? body->error : (int64_t)body->length, NULL);
	}
}

static void fail(struct store_body *body, int64_t error)
{
	if (body->error == 0)
		body->error = error;
	if ((error == -ENOSPC || error == -EDQUOT) && body->store)
		store_backups_yield(body->store);
	tell(body);
}

/* A file that no record names is not left behind. */
static bool is_lost(const struct store_body *body)
{
	return body->error < 0 || (body->references == 0 && !body->named);
}

static void give_slot(struct store_body *body)
{
	struct store *store = body->store;

	if (!body->slot || !store)
		return;
	body->slot = false;
	store->blobs.writing--;
	for (struct store_body *other = store->blobs.bodies; other; other = other->next) {
		if (other->file && other->waits && !other->slot && !other->ended && !is_lost(other)) {
			go_on(other);
			return;
		}
	}
}

/* ---- one disk call after the other ------------------------------------------------------- */

static void done(struct store_body *body, int64_t n)
{
	if (body->step >= STEP_GIVE_UP) { /* as well as it could be done; a start removes what is left */
		body->fd = body->step == STEP_GIVE_UP ? -1 : body->fd;
		body->made = body->made && body->step != STEP_UNLINK;
		return;
	}
	if (n < 0) {
		fail(body, n);
		if (body->step == STEP_CLOSE)
			body->fd = -1;
		if (body->step == STEP_FOLDER)
			store_blobs_fail(body->store, n);
		return;
	}
	switch (body->step) {
	case STEP_OPEN:
		body->fd = (int)n;
		body->made = true;
		break;
	case STEP_WRITE:
		body->written += body->out_len;
		body->out_len = 0;
		break;
	case STEP_SYNC:
		body->synced = true;
		break;
	case STEP_CLOSE:
		body->fd = -1;
		break;
	case STEP_RENAME:
		body->renamed = true;
		break;
	default:
		body->ended = true;
		free(body->fill);
		free(body->out);
		body->fill = body->out = NULL;
		body->fill_len = 0;
		store_blobs_told(body->store, body->length);
	}
}

static void on_step(wh_loop *loop, wh_res res, void *arg)
{
	struct store_body *body = arg;
	struct store *store = body->store;

	(void)loop;
	body->busy = false;
	done(body, res.n);
	if (body->ended || body->error < 0)
		give_slot(body);
	tell(body);
	if (!store_operation_end(store)) {
		/* the store went while the loop had failed: nothing more can be done. Others may still be in its list */
		detach(body);
		body->error = body->error ? body->error : -ECANCELED;
		if (body->references == 0)
			dispose(body);
		return;
	}
	go_on(body);
}

static void start(struct store_body *body, int step, wh_future future)
{
	struct store *store = body->store;

	body->step = (uint8_t)step;
	if (wh_then(future, on_step, body) == 0) {
		body->busy = true;
		store->operations++;
		return;
	}
	/* not begun for want of memory */
	done(body, -ENOMEM);
	if (step < STEP_GIVE_UP)
		give_slot(body);
	go_on(body);
}

static wh_future call(struct store_body *body, int step)
{
	struct store *store = body->store;
	char name[STORE_BLOB_NAME_BYTES], whole[STORE_BLOB_NAME_BYTES];
	int folder = store->blobs.folder;

	store_blob_name(body->number, false, name);
	store_blob_name(body->number, true, whole);
	switch (step) {
	case STEP_OPEN:
		return wh_open_at(store->loop, folder, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
	case STEP_WRITE:
		return wh_pwrite_all(store->loop, body->fd, body->out, body->out_len, body->written);
	case STEP_SYNC:
		return wh_fsync(store->loop, body->fd, false);
	case STEP_RENAME:
		return wh_rename_at(store->loop, folder, name, folder, whole, 0);
	case STEP_FOLDER:
		return wh_fsync(store->loop, folder, false);
	case STEP_UNLINK:
		return wh_unlink_at(store->loop, folder, body->renamed ? whole : name, 0);
	default:
		return wh_close(store->loop, body->fd);
	}
}

/* May it write? Taken if so; the rest is refused or waits in line. */
static bool take_slot(struct store_body *body)
{
	struct store_blobs *blobs = &body->store->blobs;

	if (body->slot)
		return true;
	if (blobs->writing < body->store->options.bodies_max) {
		blobs->writing++;
		body->slot = true;
		body->number = (uint64_t)log_epoch(body->store->log) << 32 | ++blobs->sequence;
		return true;
	}
	if (!body->waits) {
		body->store->stats.blobs_refused++;
		fail(body, -JOB_EBUSY);
	}
	return false;
}

/* The piece being filled is written next, if it is full or the last. */
static void turn(struct store_body *body)
{
	uint8_t *spare = body->out;
	size_t spare_cap = body->out_cap;

	if (body->out_len > 0 || body->fill_len == 0 || (body->fill_len < PIECE && !body->ending))
		return;
	body->out = body->fill;
	body->out_len = body->fill_len;
	body->out_cap = body->fill_cap;
	/* what was gathered in memory has another size than a piece */
	if (spare_cap != FILL_BYTES) {
		free(spare);
		spare = NULL;
	}
	if (!spare && !body->ending)
		spare = malloc(FILL_BYTES);
	body->fill = spare;
	body->fill_cap = spare ? FILL_BYTES : 0;
	body->fill_len = 0;
	if (!spare && !body->ending)
		fail(body, -ENOMEM);
	tell(body);
}

static void next_step(struct store_body *body)
{
	turn(body);
	if (body->error < 0)
		return;
	if (body->fd < 0 && !body->made)
		start(body, STEP_OPEN, call(body, STEP_OPEN));
	else if (body->out_len > 0)
		start(body, STEP_WRITE, call(body, STEP_WRITE));
	else if (!body->ending)
		return;
	else if (!body->synced)
		start(body, STEP_SYNC, call(body, STEP_SYNC));
	else if (body->fd >= 0)
		start(body, STEP_CLOSE, call(body, STEP_CLOSE));
	else if (!body->renamed)
		start(body, STEP_RENAME, call(body, STEP_RENAME));
	else
		start(body, STEP_FOLDER, call(body, STEP_FOLDER));
}

static void go_on(struct store_body *body)
{
	if (body->busy || !body->store)
		return;
	if (body->file && !body->ended && !is_lost(body) && take_slot(body))
		next_step(body);
	if (body->busy || !body->store)
		return;
	if (is_lost(body)) {
		give_slot(body);
		if (body->fd >= 0)
			start(body, STEP_GIVE_UP, call(body, STEP_GIVE_UP));
		else if (body->made)
			start(body, STEP_UNLINK, call(body, STEP_UNLINK));
		else if (body->references == 0)
			dispose(body);
	} else if (body->references == 0) {
		dispose(body);
	}
}

/* ---- the calls --------------------------------------------------------------------------- */

int store_body_open(struct store *store, int64_t length, unsigned flags, struct store_body **ret)
{
	struct store_body *body;

	if (store->failed)
		return (int)store->failed;
	if (store->closing)
		return -ECANCELED;
	if (length > 0 && (uint64_t)length > store->options.payload_bytes_max)
		return -JOB_ETOO_LARGE;
	if (!(flags & STORE_BODY_RESULT) && log_full(store->log))
		return -ENOSPC;
	if (length > (int64_t)store->options.blob_bytes && !(flags & STORE_BODY_WAITS) &&
	    store->blobs.writing >= store->options.bodies_max) {
		store->stats.blobs_refused++;
		return -JOB_EBUSY;
	}
	body = calloc(1, sizeof(*body));
	if (!body)
		return -ENOMEM;
	*body = (struct store_body){.store = store,
	                            .references = 1,
	                            .fd = -1,
	                            .announced = length,
	                            .waits = flags & STORE_BODY_WAITS,
	                            .next = store->blobs.bodies};
	body->hash = XXH3_createState();
	if (!body->hash) {
		free(body);
		return -ENOMEM;
	}
	XXH3_128bits_reset(body->hash);
	if (body->next)
		body->next->prev = body;
	store->blobs.bodies = body;
	*ret = body;
	return 0;
}

static wh_future at_once(const struct store_body *body, int64_t n)
{
	wh_future future = wh_promise(body->store->loop, NULL, NULL);

	wh_resolve(future, n, NULL);
	return future;
}

/* Room for len more in the piece that is being filled. */
static int make_room(struct store_body *body, size_t len)
{
	size_t need = body->fill_len + len, cap = body->file       ? FILL_BYTES
	                                          : body->fill_cap ? body->fill_cap
	                                                           : 4096;
	uint8_t *fill;

	if (need <= body->fill_cap)
		return 0;
	if (!body->file && body->announced > 0)
		cap = (size_t)body->announced;
	while (cap < need)
		cap = body->file ? need : cap * 2;
	fill = realloc(body->fill, cap);
	if (!fill)
		return -ENOMEM;
	body->fill = fill;
	body->fill_cap = cap;
	return 0;
}

static int64_t add(struct store_body *body, const void *bytes, size_t len)
{
	struct store *store = body->store;

	if (len > PIECE || body->ending || body->ended || body->room_wanted)
		return -EINVAL;
	if (body->length + len > store->options.payload_bytes_max)
		return -JOB_ETOO_LARGE;
	if (body->announced >= 0 && body->length + len > (uint64_t)body->announced)
		return -EMSGSIZE;
	if (len == 0)
		return 0;
	body->file = body->file || body->length + len > store->options.blob_bytes ||
	             body->announced > (int64_t)store->options.blob_bytes;
	if (make_room(body, len) < 0)
		return -ENOMEM;
	memcpy(body->fill + body->fill_len, bytes, len);
	body->fill_len += len;
	body->length += len;
	XXH3_128bits_update(body->hash, bytes, len);
	if (body->marked)
		XXH3_128bits_update(body->marked, bytes, len);
	return 0;
}

wh_future store_body_write(struct store_body *body, const void *bytes, size_t len)
{
	int64_t error = body->error;

	if (!body->store)
		return (wh_future){0};
	if (error == 0)
		error = add(body, bytes, len);
	if (error < 0)
		fail(body, error);
	go_on(body);
	if (body->error < 0)
		return wh_failed(body->store->loop, body->error);
	if (!body->file || body->fill_len < PIECE)
		return at_once(body, 0);
	body->room_wanted = true;
	return body->room = wh_promise(body->store->loop, NULL, NULL);
}

wh_future store_body_end(struct store_body *body)
{
	struct job_blob blob;
	XXH128_hash_t hash;

	if (!body->store)
		return (wh_future){0};
	if (body->error == 0 && (body->ending || body->room_wanted))
		fail(body, -EINVAL);
	if (body->error == 0 && body->announced >= 0 && body->length != (uint64_t)body->announced)
		fail(body, -EMSGSIZE);
	if (body->error < 0) {
		int64_t error = body->error;

		go_on(body);
		return wh_failed(body->store->loop, error);
	}
	body->ending = true;
	if (!body->file) {
		body->ended = true;
		return at_once(body, (int64_t)body->length);
	}
	body->end_wanted = true;
	body->end = wh_promise(body->store->loop, NULL, NULL);
	go_on(body); /* it has its number now, unless it waits in line: then the reference is made when asked for */
	hash = XXH3_128bits_digest(body->hash);
	blob = (struct job_blob){.bytes = body->length};
	memcpy(blob.hash, &hash.low64, 8);
	memcpy(blob.hash + 8, &hash.high64, 8);
	job_blob_put(&blob, body->reference);
	return body->end;
}

int store_body_mark(struct store_body *body)
{
	if (!body->marked)
		body->marked = XXH3_createState();
	if (!body->marked)
		return -ENOMEM;
	XXH3_128bits_reset(body->marked);
	return 0;
}

void store_key_mix_body(uint8_t fingerprint[STORE_FINGERPRINT_BYTES], const struct store_body *body)
{
	XXH128_canonical_t hash;

	XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(body->marked ? body->marked : body->hash));
	store_key_mix_hash(fingerprint, hash.digest);
}

uint64_t store_body_bytes(const struct store_body *body)
{
	return body->length;
}

struct store_body *store_body_free(struct store_body *body)
{
	if (!body || --body->references > 0)
		return NULL;
	if (body->store)
		go_on(body);
	else if (!body->busy)
		dispose(body);
	return NULL;
}

/* ---- for the store ----------------------------------------------------------------------- */

struct store_body *store_body_ref(struct store_body *body)
{
	if (body)
		body->references++;
	return body;
}

int store_body_use(struct store_body *body, struct job_record *r)
{
	if (!body->ended || body->error < 0 || body->named)
		return body->error < 0 ? (int)body->error : -JOB_EVALUE;
	if (!body->file) {
		r->body = (struct job_slice){body->fill, body->length};
		return 0;
	}
	memcpy(body->reference, &body->number, sizeof(body->number));
	r->flags |= JOB_BODY_IN_BLOB;
	r->body = (struct job_slice){body->reference, sizeof(body->reference)};
	return 0;
}

void store_body_named(struct store_body *body)
{
	body->named = true;
}

void store_bodies_end(struct store *store)
{
	struct store_body *next;

	for (struct store_body *body = store->blobs.bodies; body; body = next) {
		next = body->next;
		if (body->named || (body->ended && !body->file))
			continue;
		body->references++; /* so that next stays */
		fail(body, -ECANCELED);
		body->waits = false;
		go_on(body);
		store_body_free(body);
	}
}

void store_bodies_detach(struct store *store)
{
	while (store->blobs.bodies) {
		struct store_body *body = store->blobs.bodies;

		if (body->error == 0 && !body->named)
			body->error = -ECANCELED;
		detach(body);
	}
}
