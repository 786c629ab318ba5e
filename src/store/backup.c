/* src/store/backup.c -- what a backup consists of, held still while it is copied. See store.h.
 *
 * The log pins its files; the machine goes on. A copy starts as after a crash, with what was flushed when it was pinned.
 *
 * Files of bodies are numbered in the order in which they are made: those up to the newest one at that time are held, whether or not a
 * job of the copy names them. When the disk is full, a copy for which something is held has to end: it can be made again.
 */
#include "store/inside.h"

#include <stdio.h>

struct backup_blob {
	char name[sizeof(STORE_BLOBS_FOLDER) + STORE_BLOB_NAME_BYTES];
	uint64_t bytes;
};

struct store_backup {
	struct store *store;
	struct store_backup *next;
	uint64_t newest; /* file of a body */
	bool over;
	struct log_pin *pin;
	struct backup_blob *blobs;
	size_t blobs_count;
};

static void add_blob(struct store_backup *backup, uint64_t number, uint64_t bytes)
{
	struct backup_blob *blob = &backup->blobs[backup->blobs_count];
	char name[STORE_BLOB_NAME_BYTES];

	if (number == 0)
		return;
	store_blob_name(number, true, name);
	snprintf(blob->name, sizeof(blob->name), STORE_BLOBS_FOLDER "/%s", name);
	blob->bytes = bytes;
	backup->blobs_count++;
}

/* Every file that a job of the copy may name: those of jobs that are there, and of those whose end may not be in the copy. One too
 * many is removed by the first start of it. */
static int list_blobs(struct store_backup *backup)
{
	const struct store_blobs *blobs = &backup->store->blobs;
	const struct store_blob_table *table = &blobs->table;
	size_t most = 2 * table->count + blobs->gone_count;

	backup->blobs = most > 0 ? malloc(most * sizeof(backup->blobs[0])) : NULL;
	if (most > 0 && !backup->blobs)
		return -ENOMEM;
	for (size_t i = 0; i < table->cap; i++) {
		if (table->entries[i].job == 0)
			continue;
		add_blob(backup, table->entries[i].payload.number, table->entries[i].payload.bytes);
		add_blob(backup, table->entries[i].result.number, table->entries[i].result.bytes);
	}
	for (size_t i = 0; i < blobs->gone_count; i++) {
		const struct store_blob_gone *gone = &blobs->gone[blobs->gone_first + i];
		add_blob(backup, gone->number, gone->bytes);
	}
	return 0;
}

bool store_backup_holds(const struct store *store, uint64_t number)
{
	for (const struct store_backup *b = store->backups; b; b = b->next)
		if (number <= b->newest)
			return true;
	return false;
}

void store_backups_yield(struct store *store)
{
	if (store->blobs.gone_held == 0 && log_pinned_bytes(store->log) == 0)
		return;
	for (struct store_backup *b = store->backups; b; b = b->next)
		b->over = true;
}

bool store_backup_over(const struct store_backup *backup)
{
	if (log_full(backup->store->log))
		store_backups_yield(backup->store);
	return backup->over;
}

int store_backup_begin(struct store *store, struct store_backup **ret)
{
	struct store_backup *backup;
	int error;

	if (store->failed)
		return (int)store->failed;
	if (store->backups_count >= STORE_BACKUPS_MAX)
		return -JOB_EBUSY;
	backup = calloc(1, sizeof(*backup));
	if (!backup)
		return -ENOMEM;
	backup->store = store;
	error = list_blobs(backup);
	if (error == 0)
		error = log_pin(store->log, &backup->pin);
	if (error < 0) {
		free(backup->blobs);
		free(backup);
		return error;
	}
	backup->newest = (uint64_t)log_epoch(store->log) << 32 | store->blobs.sequence;
	backup->next = store->backups;
	store->backups = backup;
	store->backups_count++;
	*ret = backup;
	return 0;
}

struct store_backup *store_backup_end(struct store_backup *backup)
{
	struct store_backup **at;
	struct store *store;

	if (!backup)
		return NULL;
	store = backup->store;
	for (at = &store->backups; *at != backup;)
		at = &(*at)->next;
	*at = backup->next;
	store->backups_count--;
	log_unpin(store->log, backup->pin);
	store->blobs.gone_held = 0;
	store_blobs_flushed(store);
	free(backup->blobs);
	free(backup);
	return NULL;
}

struct store_position store_backup_position(const struct store_backup *backup)
{
	return (struct store_position){log_epoch(backup->store->log), log_pin_lsn(backup->pin)};
}

bool store_backup_file(const struct store_backup *backup, size_t index, struct store_backup_file *ret)
{
	const struct log_pin_file *files;
	size_t count = log_pin_files(backup->pin, &files);

	if (index < count) {
		*ret = (struct store_backup_file){.name = files[index].name,
		                                  .bytes = files[index].bytes,
		                                  .file_bytes = files[index].file_bytes};
		return true;
	}
	index -= count;
	if (index < backup->blobs_count) {
		const struct backup_blob *blob = &backup->blobs[index];
		*ret = (struct store_backup_file){
			.name = blob->name, .bytes = blob->bytes, .file_bytes = blob->bytes};
		return true;
	}
	if (index > backup->blobs_count)
		return false;
	/* last, since it makes a log of the others */
	*ret = (struct store_backup_file){.name = "manifest-a",
	                                  .bytes = STORE_BACKUP_MANIFEST_BYTES,
	                                  .file_bytes = STORE_BACKUP_MANIFEST_BYTES,
	                                  .content = log_pin_manifest(backup->pin)};
	return true;
}

wh_future store_backup_open(const struct store_backup *backup, const char *name)
{
	const char *directory = backup->store->directory;
	size_t size = strlen(directory) + strlen(name) + 2;
	char *path = malloc(size);
	wh_future future;

	if (!path)
		return wh_failed(backup->store->loop, -ENOMEM);
	snprintf(path, size, "%s/%s", directory, name);
	future = wh_open(backup->store->loop, path, O_RDONLY, 0);
	free(path);
	return future;
}
