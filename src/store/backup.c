/* src/store/backup.c -- what a backup consists of, held still while it is copied. See store.h.
 *
 * The log pins its files; the machine goes on. A copy starts as after a crash, with what was flushed when it was pinned.
 */
#include "store/inside.h"

#include <stdio.h>

struct store_backup {
	struct store *store;
	struct log_pin *pin;
};

int store_backup_begin(struct store *store, struct store_backup **ret)
{
	struct store_backup *backup;
	int error;

	if (store->failed)
		return (int)store->failed;
	backup = malloc(sizeof(*backup));
	if (!backup)
		return -ENOMEM;
	*backup = (struct store_backup){.store = store};
	error = log_pin(store->log, &backup->pin);
	if (error < 0) {
		free(backup);
		return error;
	}
	*ret = backup;
	return 0;
}

struct store_backup *store_backup_end(struct store_backup *backup)
{
	if (backup) {
		log_unpin(backup->store->log, backup->pin);
		free(backup);
	}
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

	if (index > count)
		return false;
	if (index == count) /* last, since it makes a log of the others */
		*ret = (struct store_backup_file){.name = "manifest-a",
		                                  .bytes = STORE_BACKUP_MANIFEST_BYTES,
		                                  .file_bytes = STORE_BACKUP_MANIFEST_BYTES,
		                                  .content = log_pin_manifest(backup->pin)};
	else
		*ret = (struct store_backup_file){.name = files[index].name,
		                                  .bytes = files[index].bytes,
		                                  .file_bytes = files[index].file_bytes};
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
