/* tests/fuzz/log_load.c -- the reader of checkpoints on any bytes at all, in memory.
 *
 * Input: a byte of flags, then the file. Flag 1: checks, chains, trailer and the name in the manifest are made right first, as far as
 * the bytes can be taken for a checkpoint; without it hardly anything would get past them. Flag 2: only the name is.
 *
 * What must hold: no crash; records lie within their bytes; what is refused has a reason and a place in the file; reading it twice
 * shows the same.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log/load.h"

enum { FILE_MAX = 64 * LOG_BLOCK_BYTES };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t image[FILE_MAX];
static uint64_t image_bytes;
static const struct log_hash cluster = {1, 2};

struct seen {
	uint64_t records, sum;
};

static int64_t read_image(void *arg, void *buf, size_t len, uint64_t offset)
{
	(void)arg;
	if (offset > image_bytes || offset % LOG_BLOCK_BYTES != 0)
		abort();
	size_t n = image_bytes - offset < len ? image_bytes - offset : len;
	memcpy(buf, image + offset, n);
	return (int64_t)n;
}

static int replay(void *arg, const struct log_record *record)
{
	struct seen *seen = arg;
	for (uint32_t i = 0; i < record->fixed_bytes; i++)
		seen->sum = seen->sum * 31 + record->fixed[i];
	for (uint32_t i = 0; i < record->payload_bytes; i++)
		seen->sum = seen->sum * 31 + record->payload[i];
	seen->sum += record->file_offset + record->type;
	seen->records++;
	if (!record->checkpoint || record->location != 0 || record->type < LOG_TYPE_USER)
		abort();
	return record->type == 255 ? -ENOTSUP : 0;
}

static int on_epoch(void *arg, const struct log_manifest_epoch *epoch)
{
	((struct seen *)arg)->sum += epoch->start * 31 + epoch->epoch;
	return 0;
}

static int on_segment(void *arg, const struct log_segment_record *segment)
{
	((struct seen *)arg)->sum += segment->base_lsn * 31 + segment->number;
	return 0;
}

static uint32_t get32(const uint8_t *from)
{
	uint32_t value;
	memcpy(&value, from, sizeof(value));
	return value;
}

static uint64_t get64(const uint8_t *from)
{
	uint64_t value;
	memcpy(&value, from, sizeof(value));
	return value;
}

/* Make the checks of what looks like a chunk right, and its chain. Its length, 0: it does not. */
static uint32_t repair_chunk(uint64_t at, uint64_t room, uint64_t salt, struct log_hash *chain,
                             uint64_t *records)
{
	uint8_t *bytes = image + at;
	struct log_chunk chunk = {.offset = get64(bytes + 8),
	                          .chunk_len = get32(bytes + 16),
	                          .payload_len = get32(bytes + 20),
	                          .record_count = get32(bytes + 24),
	                          .sequence = get64(bytes + 32)};
	struct log_record_header header;
	if (memcmp(bytes, "WHC1", 4) != 0 || chunk.chunk_len == 0 || chunk.chunk_len > room ||
	    chunk.chunk_len % LOG_BLOCK_BYTES != 0 ||
	    chunk.payload_len > chunk.chunk_len - LOG_CHUNK_HEADER_BYTES)
		return 0;
	for (uint32_t pos = LOG_CHUNK_HEADER_BYTES, end = pos + chunk.payload_len; pos < end;) {
		if (!log_record_head(bytes + pos, end - pos, &header))
			break;
		log_record_put(bytes + pos, &header, salt, at + pos);
		pos += (uint32_t)log_round_up(header.len, 8);
	}
	log_chunk_put(bytes, &chunk, *chain, salt);
	*chain = chunk.chain;
	*records += chunk.record_count;
	return chunk.chunk_len;
}

static void repair(void)
{
	struct log_checkpoint_header header = {.cluster = cluster,
	                                       .salt = get64(image + 32),
	                                       .lsn = get64(image + 40),
	                                       .seq = get64(image + 48),
	                                       .epoch = get32(image + 56),
	                                       .segment = get64(image + 80),
	                                       .offset = get64(image + 88)};
	struct log_checkpoint_trailer trailer = {.bytes = image_bytes};
	uint64_t at = LOG_BLOCK_BYTES, end = image_bytes - LOG_BLOCK_BYTES;
	log_checkpoint_header_put(image, &header);
	struct log_hash chain = log_block_hash(image);
	while (at < end) {
		uint32_t len = repair_chunk(at, end - at, header.salt, &chain, &trailer.records);
		if (len == 0)
			break;
		trailer.chunks++;
		at += len;
	}
	trailer.chain = chain;
	log_checkpoint_trailer_put(image + end, &trailer, header.salt);
}

static int load(struct log_load *load, struct seen *seen)
{
	*seen = (struct seen){0};
	*load = (struct log_load){.cluster = cluster,
	                          .name = {.lsn = get64(image + 40), .bytes = image_bytes},
	                          .read = read_image,
	                          .replay = replay,
	                          .replay_arg = seen,
	                          .on_epoch = on_epoch,
	                          .on_segment = on_segment,
	                          .own_arg = seen};
	if (image_bytes >= LOG_BLOCK_BYTES)
		load->name.hash = log_block_hash(image + image_bytes - LOG_BLOCK_BYTES);
	return log_load_run(load);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct log_load first, second;
	struct seen seen, again;
	if (size < 1)
		return 0;
	image_bytes = size - 1 < FILE_MAX ? size - 1 : FILE_MAX;
	memset(image, 0, sizeof(image));
	memcpy(image, data + 1, image_bytes);
	if (data[0] & 3)
		image_bytes = log_round_up(image_bytes, LOG_BLOCK_BYTES);
	if (image_bytes > FILE_MAX)
		image_bytes = FILE_MAX;
	if ((data[0] & 1) && image_bytes >= 2 * LOG_BLOCK_BYTES)
		repair();
	int status = load(&first, &seen);
	if (status != 0 && status != -WH_EDAMAGED && status != -ENOTSUP)
		abort();
	if (status != 0 && (!first.reason || first.problem_offset > image_bytes))
		abort();
	if (load(&second, &again) != status || seen.records != again.records || seen.sum != again.sum)
		abort();
	return 0;
}
