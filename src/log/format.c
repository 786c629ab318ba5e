/* src/log/format.c -- the pieces of docs/format-log.md, to and from bytes.
 *
 * Offsets are written out as in the document's tables, so that the two can be compared line by line.
 */
#include "log/format.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#include "base/hash.h"

static const char identity_magic[8] = {'W', 'H', 'L', 'O', 'G', 'S', 'E', 'G'};
static const char opening_magic[8] = {'W', 'H', 'L', 'O', 'G', 'O', 'P', 'N'};
static const char manifest_magic[8] = {'W', 'H', 'L', 'O', 'G', 'M', 'A', 'N'};
static const char checkpoint_magic[8] = {'W', 'H', 'L', 'O', 'G', 'C', 'K', 'P'};
static const char trailer_magic[8] = {'W', 'H', 'L', 'O', 'G', 'C', 'K', 'E'};
static const char chunk_magic[4] = {'W', 'H', 'C', '1'};
static const char group_magic[4] = {'W', 'H', 'G', '1'};

static void put16(uint8_t *to, uint16_t value)
{
	value = htole16(value);
	memcpy(to, &value, sizeof(value));
}

static void put32(uint8_t *to, uint32_t value)
{
	value = htole32(value);
	memcpy(to, &value, sizeof(value));
}

static void put64(uint8_t *to, uint64_t value)
{
	value = htole64(value);
	memcpy(to, &value, sizeof(value));
}

static void put_hash(uint8_t *to, struct log_hash hash)
{
	put64(to, hash.low);
	put64(to + 8, hash.high);
}

static uint16_t get16(const uint8_t *from)
{
	uint16_t value;
	memcpy(&value, from, sizeof(value));
	return le16toh(value);
}

static uint32_t get32(const uint8_t *from)
{
	uint32_t value;
	memcpy(&value, from, sizeof(value));
	return le32toh(value);
}

static uint64_t get64(const uint8_t *from)
{
	uint64_t value;
	memcpy(&value, from, sizeof(value));
	return le64toh(value);
}

static struct log_hash get_hash(const uint8_t *from)
{
	return (struct log_hash){get64(from), get64(from + 8)};
}

static uint32_t check(const void *bytes, size_t len, uint64_t seed)
{
	return (uint32_t)XXH3_64bits_withSeed(bytes, len, seed);
}

static struct log_hash hash(const void *bytes, size_t len)
{
	XXH128_hash_t value = XXH3_128bits(bytes, len);
	return (struct log_hash){value.low64, value.high64};
}

bool log_is_zero(const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	return len == 0 || (at[0] == 0 && memcmp(at, at + 1, len - 1) == 0);
}

void log_identity_put(uint8_t *to, const struct log_identity *identity)
{
	memset(to, 0, LOG_BLOCK_BYTES);
	memcpy(to, identity_magic, 8);
	put32(to + 12, LOG_FORMAT);
	put_hash(to + 16, identity->cluster);
	put64(to + 32, identity->number);
	put64(to + 40, identity->salt);
	put64(to + 48, identity->bytes);
	put64(to + 56, (uint64_t)identity->made);
	put32(to + 8, check(to + 12, LOG_BLOCK_BYTES - 12, identity->salt));
}

int log_identity_get(const uint8_t *from, struct log_identity *ret)
{
	if (log_is_zero(from, LOG_BLOCK_BYTES))
		return LOG_BLANK;
	uint64_t salt = get64(from + 40);
	if (memcmp(from, identity_magic, 8) != 0 ||
	    get32(from + 8) != check(from + 12, LOG_BLOCK_BYTES - 12, salt))
		return LOG_BAD;
	if (get32(from + 12) != LOG_FORMAT)
		return LOG_NEWER;
	uint64_t bytes = get64(from + 48);
	if (bytes < LOG_SEGMENT_BYTES_MIN || bytes > LOG_SEGMENT_BYTES_MAX || bytes % LOG_BLOCK_BYTES != 0)
		return LOG_BAD;
	*ret = (struct log_identity){
		.cluster = get_hash(from + 16),
		.number = get64(from + 32),
		.salt = salt,
		.bytes = bytes,
		.made = (int64_t)get64(from + 56),
	};
	return LOG_GOOD;
}

void log_opening_put(uint8_t *to, const struct log_opening *opening, uint64_t salt)
{
	memset(to, 0, LOG_BLOCK_BYTES);
	memcpy(to, opening_magic, 8);
	put32(to + 12, LOG_FORMAT);
	put64(to + 16, opening->number);
	put64(to + 24, opening->base_lsn);
	put64(to + 32, opening->group_seq);
	put32(to + 40, opening->epoch);
	put_hash(to + 48, opening->chain);
	put64(to + 64, (uint64_t)opening->wall_time);
	put32(to + 8, check(to + 12, LOG_BLOCK_BYTES - 12, salt));
}

int log_opening_get(const uint8_t *from, uint64_t salt, struct log_opening *ret)
{
	if (log_is_zero(from, LOG_BLOCK_BYTES))
		return LOG_BLANK;
	if (memcmp(from, opening_magic, 8) != 0 ||
	    get32(from + 8) != check(from + 12, LOG_BLOCK_BYTES - 12, salt))
		return LOG_BAD;
	if (get32(from + 12) != LOG_FORMAT)
		return LOG_NEWER;
	*ret = (struct log_opening){
		.number = get64(from + 16),
		.base_lsn = get64(from + 24),
		.group_seq = get64(from + 32),
		.epoch = get32(from + 40),
		.chain = get_hash(from + 48),
		.wall_time = (int64_t)get64(from + 64),
	};
	return ret->base_lsn % LOG_BLOCK_BYTES == 0 ? LOG_GOOD : LOG_BAD;
}

/* H128(previous chain, header from byte 8 to the chain, H128(what follows the header)). */
struct log_hash log_group_chain(const uint8_t *from, uint32_t group_len, struct log_hash previous)
{
	uint8_t link[16 + 72 + 16];
	put_hash(link, previous);
	memcpy(link + 16, from + 8, 72);
	put_hash(link + 88, hash(from + LOG_GROUP_HEADER_BYTES, group_len - LOG_GROUP_HEADER_BYTES));
	return hash(link, sizeof(link));
}

void log_group_put(uint8_t *to, struct log_group *group, struct log_hash previous, uint64_t salt)
{
	assert(group->group_len % LOG_BLOCK_BYTES == 0 && group->group_len <= LOG_GROUP_BYTES_MAX);
	assert(group->payload_len + LOG_GROUP_HEADER_BYTES <= group->group_len);
	memset(to, 0, LOG_GROUP_HEADER_BYTES);
	memcpy(to, group_magic, 4);
	put64(to + 8, group->lsn);
	put32(to + 16, group->group_len);
	put32(to + 20, group->payload_len);
	put32(to + 24, group->epoch);
	put32(to + 28, group->flags);
	put64(to + 32, group->seq);
	put64(to + 40, group->durable_lsn);
	put64(to + 48, (uint64_t)group->wall_time);
	put32(to + 56, group->record_count);
	group->chain = log_group_chain(to, group->group_len, previous);
	put_hash(to + 80, group->chain);
	put32(to + 4, check(to + 8, LOG_GROUP_HEADER_BYTES - 8, salt));
}

int log_group_get(const uint8_t *from, uint64_t salt, struct log_group *ret)
{
	if (memcmp(from, group_magic, 4) != 0)
		return log_is_zero(from, LOG_GROUP_HEADER_BYTES) ? LOG_BLANK : LOG_BAD;
	if (get32(from + 4) != check(from + 8, LOG_GROUP_HEADER_BYTES - 8, salt))
		return LOG_BAD;
	struct log_group group = {
		.lsn = get64(from + 8),
		.group_len = get32(from + 16),
		.payload_len = get32(from + 20),
		.epoch = get32(from + 24),
		.flags = get32(from + 28),
		.seq = get64(from + 32),
		.durable_lsn = get64(from + 40),
		.wall_time = (int64_t)get64(from + 48),
		.record_count = get32(from + 56),
		.chain = get_hash(from + 80),
	};
	if (group.group_len == 0 || group.group_len % LOG_BLOCK_BYTES != 0 ||
	    group.group_len > LOG_GROUP_BYTES_MAX ||
	    group.payload_len > group.group_len - LOG_GROUP_HEADER_BYTES || group.payload_len % 8 != 0 ||
	    group.lsn % LOG_BLOCK_BYTES != 0)
		return LOG_BAD;
	*ret = group;
	return LOG_GOOD;
}

void log_record_put(uint8_t *to, const struct log_record_header *header, uint64_t salt, uint64_t lsn)
{
	put32(to + 4, header->len);
	to[8] = header->type;
	to[9] = header->version;
	put16(to + 10, header->flags);
	put16(to + 12, header->fixed_len);
	put16(to + 14, 0);
	put32(to, check(to + 4, header->len - 4, salt + lsn));
}

bool log_record_head(const uint8_t *from, uint64_t cap, struct log_record_header *ret)
{
	if (cap < LOG_RECORD_HEADER_BYTES)
		return false;
	struct log_record_header header = {
		.len = get32(from + 4),
		.type = from[8],
		.version = from[9],
		.flags = get16(from + 10),
		.fixed_len = get16(from + 12),
	};
	if (header.len < LOG_RECORD_HEADER_BYTES + (uint32_t)header.fixed_len || header.len > cap)
		return false;
	*ret = header;
	return true;
}

bool log_record_check(const uint8_t *from, uint32_t len, uint64_t salt, uint64_t lsn)
{
	return get32(from) == check(from + 4, len - 4, salt + lsn);
}

void log_epoch_put(uint8_t *to, uint32_t epoch, uint32_t reason, uint64_t start)
{
	put32(to, epoch);
	put32(to + 4, reason);
	put64(to + 8, start);
}

void log_epoch_get(const uint8_t *from, struct log_manifest_epoch *ret)
{
	*ret = (struct log_manifest_epoch){get32(from), get32(from + 4), get64(from + 8)};
}

void log_segment_record_put(uint8_t *to, const struct log_segment_record *segment)
{
	put64(to, segment->number);
	put64(to + 8, segment->salt);
	put64(to + 16, segment->bytes);
	put64(to + 24, segment->base_lsn);
	put64(to + 32, segment->end_lsn);
}

void log_segment_record_get(const uint8_t *from, struct log_segment_record *ret)
{
	*ret = (struct log_segment_record){get64(from), get64(from + 8), get64(from + 16), get64(from + 24),
	                                   get64(from + 32)};
}

/* ---- checkpoints ------------------------------------------------------------------------- */

void log_checkpoint_header_put(uint8_t *to, const struct log_checkpoint_header *header)
{
	memset(to, 0, LOG_BLOCK_BYTES);
	memcpy(to, checkpoint_magic, 8);
	put32(to + 12, LOG_FORMAT);
	put_hash(to + 16, header->cluster);
	put64(to + 32, header->salt);
	put64(to + 40, header->lsn);
	put64(to + 48, header->seq);
	put32(to + 56, header->epoch);
	put_hash(to + 64, header->chain);
	put64(to + 80, header->segment);
	put64(to + 88, header->offset);
	put64(to + 96, (uint64_t)header->wall_time);
	put32(to + 8, check(to + 12, LOG_BLOCK_BYTES - 12, header->salt));
}

int log_checkpoint_header_get(const uint8_t *from, struct log_checkpoint_header *ret)
{
	uint64_t salt = get64(from + 32);
	if (memcmp(from, checkpoint_magic, 8) != 0 ||
	    get32(from + 8) != check(from + 12, LOG_BLOCK_BYTES - 12, salt))
		return LOG_BAD;
	if (get32(from + 12) != LOG_FORMAT)
		return LOG_NEWER;
	struct log_checkpoint_header header = {
		.cluster = get_hash(from + 16),
		.salt = salt,
		.lsn = get64(from + 40),
		.seq = get64(from + 48),
		.epoch = get32(from + 56),
		.chain = get_hash(from + 64),
		.segment = get64(from + 80),
		.offset = get64(from + 88),
		.wall_time = (int64_t)get64(from + 96),
	};
	if (header.lsn == 0 || header.lsn % LOG_BLOCK_BYTES != 0 || header.offset % LOG_BLOCK_BYTES != 0 ||
	    header.offset < LOG_SEGMENT_HEAD_BYTES || header.offset > LOG_SEGMENT_BYTES_MAX ||
	    header.lsn < header.offset - LOG_SEGMENT_HEAD_BYTES)
		return LOG_BAD;
	*ret = header;
	return LOG_GOOD;
}

void log_checkpoint_trailer_put(uint8_t *to, const struct log_checkpoint_trailer *trailer, uint64_t salt)
{
	memset(to, 0, LOG_BLOCK_BYTES);
	memcpy(to, trailer_magic, 8);
	put64(to + 16, trailer->bytes);
	put64(to + 24, trailer->chunks);
	put64(to + 32, trailer->records);
	put_hash(to + 40, trailer->chain);
	put32(to + 8, check(to + 12, LOG_BLOCK_BYTES - 12, salt));
}

int log_checkpoint_trailer_get(const uint8_t *from, uint64_t salt, struct log_checkpoint_trailer *ret)
{
	if (memcmp(from, trailer_magic, 8) != 0 ||
	    get32(from + 8) != check(from + 12, LOG_BLOCK_BYTES - 12, salt))
		return LOG_BAD;
	*ret = (struct log_checkpoint_trailer){
		.bytes = get64(from + 16),
		.chunks = get64(from + 24),
		.records = get64(from + 32),
		.chain = get_hash(from + 40),
	};
	return LOG_GOOD;
}

struct log_hash log_block_hash(const uint8_t *block)
{
	return hash(block, LOG_BLOCK_BYTES);
}

/* H128(previous chain, header from byte 8 to the chain, H128(what follows the header)). */
struct log_hash log_chunk_chain(const uint8_t *from, uint32_t chunk_len, struct log_hash previous)
{
	uint8_t link[16 + 40 + 16];
	put_hash(link, previous);
	memcpy(link + 16, from + 8, 40);
	put_hash(link + 56, hash(from + LOG_CHUNK_HEADER_BYTES, chunk_len - LOG_CHUNK_HEADER_BYTES));
	return hash(link, sizeof(link));
}

void log_chunk_put(uint8_t *to, struct log_chunk *chunk, struct log_hash previous, uint64_t salt)
{
	assert(chunk->chunk_len % LOG_BLOCK_BYTES == 0 && chunk->chunk_len <= LOG_CHUNK_BYTES_MAX);
	assert(chunk->payload_len + LOG_CHUNK_HEADER_BYTES <= chunk->chunk_len);
	memset(to, 0, LOG_CHUNK_HEADER_BYTES);
	memcpy(to, chunk_magic, 4);
	put64(to + 8, chunk->offset);
	put32(to + 16, chunk->chunk_len);
	put32(to + 20, chunk->payload_len);
	put32(to + 24, chunk->record_count);
	put64(to + 32, chunk->sequence);
	chunk->chain = log_chunk_chain(to, chunk->chunk_len, previous);
	put_hash(to + 48, chunk->chain);
	put32(to + 4, check(to + 8, LOG_CHUNK_HEADER_BYTES - 8, salt));
}

int log_chunk_get(const uint8_t *from, uint64_t salt, struct log_chunk *ret)
{
	if (memcmp(from, chunk_magic, 4) != 0 ||
	    get32(from + 4) != check(from + 8, LOG_CHUNK_HEADER_BYTES - 8, salt))
		return LOG_BAD;
	struct log_chunk chunk = {
		.offset = get64(from + 8),
		.chunk_len = get32(from + 16),
		.payload_len = get32(from + 20),
		.record_count = get32(from + 24),
		.sequence = get64(from + 32),
		.chain = get_hash(from + 48),
	};
	if (chunk.chunk_len == 0 || chunk.chunk_len % LOG_BLOCK_BYTES != 0 ||
	    chunk.chunk_len > LOG_CHUNK_BYTES_MAX ||
	    chunk.payload_len > chunk.chunk_len - LOG_CHUNK_HEADER_BYTES || chunk.payload_len % 8 != 0)
		return LOG_BAD;
	*ret = chunk;
	return LOG_GOOD;
}

/* ---- manifests --------------------------------------------------------------------------- */

void log_manifest_put(uint8_t *to, const struct log_manifest *manifest)
{
	assert(manifest->epoch_count <= LOG_EPOCHS_MAX);
	memset(to, 0, LOG_BLOCK_BYTES);
	memcpy(to, manifest_magic, 8);
	put32(to + 24, LOG_FORMAT);
	put32(to + 28, manifest->flags);
	put64(to + 32, manifest->sequence);
	put_hash(to + 40, manifest->cluster);
	put64(to + 56, manifest->first_segment);
	put64(to + 64, manifest->last_segment);
	put64(to + 72, manifest->durable_lsn);
	put32(to + 80, manifest->epoch);
	put32(to + 84, manifest->epoch_count);
	put_hash(to + 88, manifest->chain);
	put64(to + 104, (uint64_t)manifest->wall_time);
	put64(to + 112, manifest->checkpoint.lsn);
	put64(to + 120, manifest->checkpoint.bytes);
	put_hash(to + 128, manifest->checkpoint.hash);
	for (uint32_t i = 0; i < manifest->epoch_count; i++)
		log_epoch_put(to + 256 + (size_t)16 * i, manifest->epochs[i].epoch,
		              manifest->epochs[i].reason, manifest->epochs[i].start);
	put_hash(to + 8, hash(to + 24, LOG_BLOCK_BYTES - 24));
}

int log_manifest_get(const uint8_t *from, struct log_manifest *ret)
{
	if (log_is_zero(from, LOG_BLOCK_BYTES))
		return LOG_BLANK;
	if (memcmp(from, manifest_magic, 8) != 0 ||
	    !log_hash_equal(get_hash(from + 8), hash(from + 24, LOG_BLOCK_BYTES - 24)))
		return LOG_BAD;
	if (get32(from + 24) != LOG_FORMAT || (get32(from + 28) & ~(uint32_t)LOG_MANIFEST_CLEAN) != 0)
		return LOG_NEWER;
	uint32_t count = get32(from + 84);
	if (count > LOG_EPOCHS_MAX)
		return LOG_BAD;
	*ret = (struct log_manifest){
		.flags = get32(from + 28),
		.sequence = get64(from + 32),
		.cluster = get_hash(from + 40),
		.first_segment = get64(from + 56),
		.last_segment = get64(from + 64),
		.durable_lsn = get64(from + 72),
		.epoch = get32(from + 80),
		.epoch_count = count,
		.chain = get_hash(from + 88),
		.wall_time = (int64_t)get64(from + 104),
		.checkpoint = {get64(from + 112), get64(from + 120), get_hash(from + 128)},
	};
	for (uint32_t i = 0; i < count; i++)
		log_epoch_get(from + 256 + (size_t)16 * i, &ret->epochs[i]);
	return LOG_GOOD;
}
