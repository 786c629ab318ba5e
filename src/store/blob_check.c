/* src/store/blob_check.c -- is a file of a body what was written? For those who look at a folder. See blob.h. */
#include "store/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

enum { PIECE = 256 << 10 };

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

int64_t store_blob_compare(wh_loop *loop, const char *path, const struct job_blob *blob)
{
	uint8_t *piece = malloc(PIECE);
	XXH3_state_t *hash = XXH3_createState();
	int64_t fd = piece && hash ? wh_await(wh_open(loop, path, O_RDONLY, 0)).n : -ENOMEM;
	int64_t error = fd < 0 ? fd : compare(loop, (int)fd, blob, piece, hash);

	if (fd >= 0)
		wh_await(wh_close(loop, (int)fd));
	free(piece);
	XXH3_freeState(hash);
	return error;
}
