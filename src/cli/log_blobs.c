/* src/cli/log_blobs.c -- `whilst log verify` and `inspect`: the files of large bodies that the jobs of a log name. See log_blobs.h. */
#include "cli/log_blobs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

enum { PIECE = 256 << 10 };

int log_blobs_record(struct log_blobs *blobs, const struct job_record *record)
{
	size_t count = record->type == JOB_BLOBS ? record->body.len / JOB_BLOBS_ENTRY_BYTES : 1;
	int error = store_blob_table_room(&blobs->table, count);

	if (error == 0)
		store_blob_table_apply(&blobs->table, record, 0, NULL, NULL);
	return error;
}

/* Is the file what its record says? 0, -ENOENT, -WH_EDAMAGED, or what the system said. */
static int64_t compare(wh_loop *loop, int fd, const struct job_blob *blob, uint8_t *piece, XXH3_state_t *hash)
{
	XXH128_hash_t sum;
	uint64_t at = 0;
	int64_t n;

	XXH3_128bits_reset(hash);
	while ((n = wh_await(wh_pread_all(loop, fd, piece, PIECE, at)).n) > 0) {
		XXH3_128bits_update(hash, piece, (size_t)n);
		at += (uint64_t)n;
	}
	if (n < 0)
		return n;
	sum = XXH3_128bits_digest(hash);
	return at == blob->bytes && memcmp(blob->hash, &sum.low64, 8) == 0 &&
	                       memcmp(blob->hash + 8, &sum.high64, 8) == 0
	               ? 0
	               : -WH_EDAMAGED;
}

static void check(struct log_blobs *blobs, wh_loop *loop, const char *directory, uint64_t job,
                  const char *what, const struct job_blob *blob, uint8_t *piece, XXH3_state_t *hash)
{
	char name[STORE_BLOB_NAME_BYTES], path[4200];
	int64_t fd, error;

	if (blob->number == 0)
		return;
	store_blob_name(blob->number, true, name);
	snprintf(path, sizeof(path), "%s/" STORE_BLOBS_FOLDER "/%s", directory, name);
	fd = wh_await(wh_open(loop, path, O_RDONLY, 0)).n;
	error = fd < 0 ? fd : compare(loop, (int)fd, blob, piece, hash);
	if (fd >= 0)
		wh_await(wh_close(loop, (int)fd));
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
	uint8_t *piece = malloc(PIECE);
	XXH3_state_t *hash = XXH3_createState();

	for (size_t i = 0; piece && hash && i < blobs->table.cap; i++) {
		const struct store_blob_entry *e = &blobs->table.entries[i];

		check(blobs, loop, directory, e->job, "payload", &e->payload, piece, hash);
		check(blobs, loop, directory, e->job, "result", &e->result, piece, hash);
	}
	free(piece);
	XXH3_freeState(hash);
	return piece && hash ? 0 : -ENOMEM;
}
