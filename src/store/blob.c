/* src/store/blob.c -- the folder of bodies in files: opened, swept at a start, files removed that no job needs. See inside.h.
 *
 * Between a record that forgets a job and the removal of its files stands the flush of that record, so that no start finds a job
 * without its bodies. Files that are left behind (the process or the power went) are found at the next start.
 */
#include "store/inside.h"

#include <fcntl.h>
#include <stdio.h>

void store_file_name(const struct store_bytes *bytes, char to[STORE_FILE_NAME_BYTES])
{
	char name[STORE_BLOB_NAME_BYTES];

	store_blob_name(bytes->blob.number, true, name);
	snprintf(to, STORE_FILE_NAME_BYTES, bytes->blob.number ? STORE_BLOBS_FOLDER "/%s" : "the log", name);
}

static void notice(struct store *store, int level, const char *format, const char *name, uint64_t job)
{
	char message[200];

	if (!store->options.log)
		return;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(message, sizeof(message), format, name, (unsigned long long)job);
#pragma GCC diagnostic pop
	store->options.log(level, message, store->options.log_arg);
}

/* ---- open -------------------------------------------------------------------------------- */

int store_blobs_open(struct store *store, const char *directory)
{
	size_t len = strlen(directory) + sizeof("/" STORE_BLOBS_FOLDER);

	store->blobs.folder = -1;
	store->blobs.path = malloc(len);
	if (!store->blobs.path)
		return -ENOMEM;
	snprintf(store->blobs.path, len, "%s/" STORE_BLOBS_FOLDER, directory);
	return 0;
}

/* The folder's own name must be on the disk before that of any file in it is promised. */
static int make_folder(struct store *store)
{
	struct store_blobs *blobs = &store->blobs;
	size_t len = strlen(blobs->path) - (sizeof("/" STORE_BLOBS_FOLDER) - 1);
	char *parent = strndup(blobs->path, len);
	int64_t fd, error;

	if (!parent)
		return -ENOMEM;
	error = wh_await(wh_mkdir(store->loop, blobs->path, 0700)).n;
	fd = error == 0 || error == -EEXIST
	             ? wh_await(wh_open(store->loop, parent[0] ? parent : "/", O_RDONLY | O_DIRECTORY, 0)).n
	             : error;
	free(parent);
	if (fd < 0)
		return (int)fd;
	error = wh_await(wh_fsync(store->loop, (int)fd, false)).n;
	wh_await(wh_close(store->loop, (int)fd));
	return (int)error;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Numbers of all files that jobs name, sorted. */
static uint64_t *numbers_of(const struct store_blob_table *t, size_t *ret_count)
{
	uint64_t *numbers = malloc((t->count * 2 + 1) * sizeof(numbers[0]));
	size_t count = 0;

	for (size_t i = 0; numbers && i < t->cap; i++) {
		const struct store_blob_entry *e = &t->entries[i];

		if (e->job != 0 && e->payload.number != 0)
			numbers[count++] = e->payload.number;
		if (e->job != 0 && e->result.number != 0)
			numbers[count++] = e->result.number;
	}
	if (numbers)
		qsort(numbers, count, sizeof(numbers[0]), by_number);
	*ret_count = count;
	return numbers;
}

static bool there(const struct wh_names *names, uint64_t number)
{
	char name[STORE_BLOB_NAME_BYTES];
	size_t low = 0, high = names->count;

	store_blob_name(number, true, name);
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(names->names[middle], name);

		if (order == 0)
			return true;
		*(order < 0 ? &low : &high) = order < 0 ? middle + 1 : middle;
	}
	return false;
}

/* A job whose body is gone is told of, and the start goes on: it is that body alone. */
static void report_missing(struct store *store, const struct wh_names *names)
{
	const struct store_blob_table *t = &store->blobs.table;
	char name[STORE_BLOB_NAME_BYTES];

	for (size_t i = 0; i < t->cap; i++) {
		const struct job_blob *both[] = {&t->entries[i].payload, &t->entries[i].result};

		for (int k = 0; t->entries[i].job != 0 && k < 2; k++) {
			if (both[k]->number == 0 || there(names, both[k]->number))
				continue;
			store_blob_name(both[k]->number, true, name);
			notice(store, WH_LOG_ERROR,
			       k ? "the file " STORE_BLOBS_FOLDER "/%s with the result of job %llu is missing"
			         : "the file " STORE_BLOBS_FOLDER
			           "/%s with the payload of job %llu is missing",
			       name, t->entries[i].job);
		}
	}
}

int store_blobs_sweep(struct store *store)
{
	struct store_blobs *blobs = &store->blobs;
	wh_res res = wh_await(wh_list(store->loop, blobs->path));
	struct wh_names *names = res.n >= 0 ? res.ptr : NULL;
	uint64_t *numbers;
	size_t count;
	int64_t error = res.n == -ENOENT ? make_folder(store) : res.n;

	if (error >= 0)
		error = wh_await(wh_open(store->loop, blobs->path, O_RDONLY | O_DIRECTORY, 0)).n;
	if (error < 0) {
		wh_names_free(names);
		return (int)error;
	}
	blobs->folder = (int)error;
	numbers = numbers_of(&blobs->table, &count);
	if (!numbers) {
		wh_names_free(names);
		return -ENOMEM;
	}
	for (size_t i = 0; names && i < names->count; i++) {
		bool whole;
		uint64_t number = store_blob_number(names->names[i], &whole);

		if (number == 0 || (whole && bsearch(&number, numbers, count, sizeof(numbers[0]), by_number)))
			continue;
		error = wh_await(wh_unlink_at(store->loop, blobs->folder, names->names[i], 0)).n;
		if (error < 0)
			notice(store, WH_LOG_WARNING,
			       "cannot remove " STORE_BLOBS_FOLDER "/%s, which no job needs", names->names[i],
			       0);
		else
			store->stats.blobs_removed++;
	}
	free(numbers);
	if (!store->repair)
		report_missing(store, names ? names : &(struct wh_names){0});
	wh_names_free(names);
	return 0;
}

/* ---- files that are not needed any more -------------------------------------------------- */

static void on_gone(void *arg, const struct job_blob *blob, uint64_t place)
{
	struct store *store = arg;
	struct store_blobs *blobs = &store->blobs;

	if (blobs->gone_first + blobs->gone_count == blobs->gone_cap) {
		size_t cap = blobs->gone_cap && blobs->gone_count * 2 > blobs->gone_cap ? blobs->gone_cap * 2
		             : blobs->gone_cap                                          ? blobs->gone_cap
		                                                                        : 64;
		struct store_blob_gone *gone = malloc(cap * sizeof(gone[0]));

		if (!gone)
			return; /* the next start finds it */
		if (blobs->gone_count > 0)
			memcpy(gone, blobs->gone + blobs->gone_first, blobs->gone_count * sizeof(gone[0]));
		free(blobs->gone);
		blobs->gone = gone;
		blobs->gone_cap = cap;
		blobs->gone_first = 0;
	}
	blobs->gone[blobs->gone_first + blobs->gone_count++] =
		(struct store_blob_gone){blob->number, blob->bytes, place};
}

void store_blobs_apply(struct store *store, const struct job_record *r, uint64_t place)
{
	struct store_blobs *blobs = &store->blobs;
	size_t before = blobs->gone_count;

	if (blobs->table.count == 0 && (r->flags & JOB_BODY_IN_BLOB) == 0 && r->type != JOB_BLOBS)
		return;
	/* in replay nothing is removed: the sweep does it */
	store_blob_table_apply(&blobs->table, r, place, blobs->folder >= 0 ? on_gone : NULL, store);
	if (blobs->gone_count > before)
		store_later(store);
}

int store_blobs_load(struct store *store, const struct job_record *r)
{
	int error = store_blob_table_room(&store->blobs.table, r->body.len / JOB_BLOBS_ENTRY_BYTES);

	if (error == 0)
		store_blob_table_apply(&store->blobs.table, r, 0, NULL, NULL);
	return error;
}

int store_blobs_save(const struct store *store, job_emit_function *emit, void *arg)
{
	const struct store_blob_table *t = &store->blobs.table;
	struct job_record r = {.type = JOB_BLOBS};
	uint8_t entries[256 * JOB_BLOBS_ENTRY_BYTES];
	size_t len = 0, left = t->count;
	int error = 0;

	for (size_t i = 0; left > 0 && error == 0; i++) {
		const struct store_blob_entry *e = &t->entries[i];

		if (e->job == 0)
			continue;
		memcpy(entries + len, &e->job, 8);
		job_blob_put(&e->payload, entries + len + 8);
		job_blob_put(&e->result, entries + len + 8 + JOB_BLOB_BYTES);
		len += JOB_BLOBS_ENTRY_BYTES;
		if (--left > 0 && len < sizeof(entries))
			continue;
		r.body = (struct job_slice){entries, len};
		error = emit(arg, &r);
		len = 0;
	}
	return error;
}

static void on_flushed(wh_loop *loop, wh_res res, void *arg)
{
	struct store *store = arg;

	(void)loop;
	store->blobs.removing = false;
	if (store_operation_end(store) && res.n >= 0)
		store_blobs_flushed(store);
}

static void on_removed(wh_loop *loop, wh_res res, void *arg)
{
	struct store *store = arg;

	store->stats.blobs_removed += res.n >= 0;
	on_flushed(loop, (wh_res){0}, arg);
}

/* One after the other: removing a large file is work for the file system, and nobody waits for it. */
void store_blobs_flushed(struct store *store)
{
	struct store_blobs *blobs = &store->blobs;
	const struct store_blob_gone *gone;
	char name[STORE_BLOB_NAME_BYTES];
	bool flushed;

	if (blobs->removing || store->failed || store->closing)
		return;
	while (blobs->gone_held < blobs->gone_count &&
	       store_backup_holds(store, blobs->gone[blobs->gone_first + blobs->gone_held].number))
		blobs->gone_held++;
	if (blobs->gone_held == blobs->gone_count)
		return;
	gone = &blobs->gone[blobs->gone_first + blobs->gone_held];
	flushed = store_reached(store, STORE_LOCAL) > gone->place;
	if (flushed) {
		store_blob_name(gone->number, true, name);
		/* the first of those that are held takes its place */
		blobs->gone[blobs->gone_first + blobs->gone_held] = blobs->gone[blobs->gone_first];
		blobs->gone_first++;
		blobs->gone_count--;
		blobs->removing =
			wh_then(wh_unlink_at(store->loop, blobs->folder, name, 0), on_removed, store) == 0;
	} else {
		blobs->removing = wh_then(wh_mark_wait(log_flushed(store->log), gone->place + 1), on_flushed,
		                          store) == 0;
	}
	store->operations += blobs->removing;
}

void store_blobs_told(struct store *store, uint64_t bytes)
{
	(void)bytes;
	store->stats.blobs_written++;
}

/* ---- the end ----------------------------------------------------------------------------- */

void store_blobs_fail(struct store *store, int64_t error)
{
	char message[200];

	snprintf(message, sizeof(message), "%s: fsync: %s; what the folder holds on the disk is not known",
	         store->blobs.path, wh_strerror(error));
	store_failed(store, error, message);
}

void store_blobs_end(struct store *store)
{
	store_bodies_end(store);
	store_readers_end(store);
}

void store_blobs_done(struct store *store)
{
	struct store_blobs *blobs = &store->blobs;

	store_bodies_detach(store);
	store_readers_detach(store);
	if (blobs->folder >= 0)
		(void)wh_drop(wh_close(store->loop, blobs->folder));
	store_blob_table_done(&blobs->table);
	free(blobs->gone);
	free(blobs->path);
}
