/* src/cli/log_blobs.c -- `whilst log verify` and `inspect`: the files of large bodies that the jobs of a log name. See log_blobs.h. */
#include "cli/log_blobs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

int log_blobs_record(struct log_blobs *blobs, const struct job_record *record)
{
	size_t count = record->type == JOB_BLOBS ? record->body.len / JOB_BLOBS_ENTRY_BYTES : 1;
	int error = store_blob_table_room(&blobs->table, count);

	if (error == 0)
		store_blob_table_apply(&blobs->table, record, 0, NULL, NULL);
	return error;
}

static void check(struct log_blobs *blobs, wh_loop *loop, const char *directory, uint64_t job,
                  const char *what, const struct job_blob *blob)
{
	char name[STORE_BLOB_NAME_BYTES], path[4200];
	int64_t error;

	if (blob->number == 0)
		return;
	store_blob_name(blob->number, true, name);
	snprintf(path, sizeof(path), "%s/" STORE_BLOBS_FOLDER "/%s", directory, name);
	error = store_blob_compare(loop, path, blob);
	blobs->files++;
	blobs->bytes += blob->bytes;
	if (error == 0)
		return;
	if (blobs->damaged++ == 0)
		snprintf(blobs->problem, sizeof(blobs->problem), "%s of job %" PRIu64 ": %s: %s", what, job,
		         path,
		         error == -ENOENT        ? "the file is missing"
		         : error == -WH_EDAMAGED ? "the file is not what was written"
		                                 : wh_strerror(error));
}

int log_blobs_check(struct log_blobs *blobs, wh_loop *loop, const char *directory)
{
	for (size_t i = 0; i < blobs->table.cap; i++) {
		const struct store_blob_entry *e = &blobs->table.entries[i];

		check(blobs, loop, directory, e->job, "payload", &e->payload);
		check(blobs, loop, directory, e->job, "result", &e->result);
	}
	return 0;
}
