/* src/log/format.h -- the pieces of docs/format-log.md, to and from bytes.
 *
 * Pure: no I/O, no clock, no allocation. What is read is not trusted: every _get function judges before it
 * believes. Depends on: libxxhash. Thread: any.
 */
#ifndef LOG_FORMAT_H
#define LOG_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	LOG_FORMAT = 1,
	LOG_BLOCK_BYTES = 4096,
	LOG_SEGMENT_HEAD_BYTES = 2 * LOG_BLOCK_BYTES, /* identity and opening */
	LOG_GROUP_HEADER_BYTES = 96,
	LOG_GROUP_BYTES_MAX = 4 << 20,
	LOG_RECORD_HEADER_BYTES = 16,
	LOG_SEGMENT_BYTES_MIN = 64 << 10,
	LOG_SEGMENT_BYTES_MAX = 1 << 30,
	LOG_EPOCHS_MAX = 240, /* in a manifest */
	LOG_CHUNK_HEADER_BYTES = 64,
	LOG_CHUNK_BYTES_MAX = (4 << 20) + LOG_BLOCK_BYTES,
};

/* What a piece turned out to be. */
enum log_verdict {
	LOG_GOOD = 0,
	LOG_BLANK, /* all zero: never written */
	LOG_BAD,   /* neither */
	LOG_NEWER, /* whole, but of a later version */
};

struct log_hash {
	uint64_t low, high;
};

struct log_identity {
	struct log_hash cluster;
	uint64_t number, salt, bytes;
	int64_t made;
};

struct log_opening {
	uint64_t number, base_lsn, group_seq;
	uint32_t epoch;
	struct log_hash chain;
	int64_t wall_time;
};

enum {
	LOG_GROUP_SEAL = 1,
	LOG_GROUP_TX_BEGIN = 2,
	LOG_GROUP_TX_CONT = 4,
	LOG_GROUP_TX_END = 8,
	LOG_GROUP_TX = LOG_GROUP_TX_BEGIN | LOG_GROUP_TX_CONT | LOG_GROUP_TX_END,
	LOG_GROUP_KNOWN = LOG_GROUP_SEAL | LOG_GROUP_TX,
};

struct log_group {
	uint64_t lsn, seq, durable_lsn;
	uint32_t group_len, payload_len, epoch, flags, record_count;
	int64_t wall_time;
	struct log_hash chain;
};

enum {
	LOG_TYPE_EPOCH = 1,
	LOG_EPOCH_VERSION = 1,
	LOG_EPOCH_FIXED_BYTES = 16,
	LOG_TYPE_SEGMENT = 2, /* in checkpoints */
	LOG_SEGMENT_VERSION = 1,
	LOG_SEGMENT_FIXED_BYTES = 40,
	LOG_LOST_VERSION = 1, /* LOG_TYPE_LOST is in log.h: users are shown it */
};

struct log_segment_record {
	uint64_t number, salt, bytes, base_lsn, end_lsn;
};

struct log_checkpoint_header {
	struct log_hash cluster, chain;
	uint64_t salt, lsn, seq, segment, offset;
	uint32_t epoch;
	int64_t wall_time;
};

struct log_chunk {
	uint64_t offset, sequence;
	uint32_t chunk_len, payload_len, record_count;
	struct log_hash chain;
};

struct log_checkpoint_trailer {
	uint64_t bytes, chunks, records;
	struct log_hash chain;
};

/* What a manifest says of the checkpoint that counts. */
struct log_checkpoint_name {
	uint64_t lsn; /* 0: there is none */
	uint64_t bytes;
	struct log_hash hash;
};

struct log_record_header {
	uint32_t len; /* with header, without padding */
	uint8_t type, version;
	uint16_t flags, fixed_len;
};

struct log_manifest_epoch {
	uint32_t epoch, reason;
	uint64_t start;
};

enum { LOG_MANIFEST_CLEAN = 1 };

struct log_manifest {
	uint32_t flags, epoch, epoch_count;
	uint64_t sequence, first_segment, last_segment, durable_lsn;
	struct log_hash cluster, chain;
	struct log_checkpoint_name checkpoint;
	int64_t wall_time;
	struct log_manifest_epoch epochs[LOG_EPOCHS_MAX];
};

/* Blocks: exactly LOG_BLOCK_BYTES at to and from. */
void log_identity_put(uint8_t *to, const struct log_identity *identity);
int log_identity_get(const uint8_t *from, struct log_identity *ret);
void log_opening_put(uint8_t *to, const struct log_opening *opening, uint64_t salt);
int log_opening_get(const uint8_t *from, uint64_t salt, struct log_opening *ret);
void log_manifest_put(uint8_t *to, const struct log_manifest *manifest);
int log_manifest_get(const uint8_t *from, struct log_manifest *ret);

void log_checkpoint_header_put(uint8_t *to, const struct log_checkpoint_header *header);
int log_checkpoint_header_get(const uint8_t *from, struct log_checkpoint_header *ret);
void log_checkpoint_trailer_put(uint8_t *to, const struct log_checkpoint_trailer *trailer, uint64_t salt);
int log_checkpoint_trailer_get(const uint8_t *from, uint64_t salt, struct log_checkpoint_trailer *ret);
struct log_hash log_block_hash(const uint8_t *block);

/* Chunks, as groups are handled below. */
void log_chunk_put(uint8_t *to, struct log_chunk *chunk, struct log_hash previous, uint64_t salt);
int log_chunk_get(const uint8_t *from, uint64_t salt, struct log_chunk *ret);
struct log_hash log_chunk_chain(const uint8_t *from, uint32_t chunk_len, struct log_hash previous);

/* log_group_put() - finish a group of group->group_len bytes at to, whose records and padding are in place: header,
 * chain (from previous; also into group->chain) and check. */
void log_group_put(uint8_t *to, struct log_group *group, struct log_hash previous, uint64_t salt);

/* log_group_get() - a group's header, judged by itself: magic, check, lengths that can be. LOG_GOOD, LOG_BLANK (the
 * header is all zero) or LOG_BAD. Unknown flags are left to the caller. */
int log_group_get(const uint8_t *from, uint64_t salt, struct log_group *ret);

/* log_group_chain() - the chain that the whole group at from must have after previous. */
struct log_hash log_group_chain(const uint8_t *from, uint32_t group_len, struct log_hash previous);

/* log_record_put() - the header of a record whose body (len - LOG_RECORD_HEADER_BYTES) is in place behind it. */
void log_record_put(uint8_t *to, const struct log_record_header *header, uint64_t salt, uint64_t lsn);

/* log_record_head() - the fields, if they can be right for a record that has at most cap bytes; its check is not
 * looked at. */
bool log_record_head(const uint8_t *from, uint64_t cap, struct log_record_header *ret);

/* log_record_check() - is the record (len bytes) what was written at that place? */
bool log_record_check(const uint8_t *from, uint32_t len, uint64_t salt, uint64_t lsn);

void log_epoch_put(uint8_t *to, uint32_t epoch, uint32_t reason, uint64_t start);
void log_epoch_get(const uint8_t *from, struct log_manifest_epoch *ret);
void log_segment_record_put(uint8_t *to, const struct log_segment_record *segment);
void log_segment_record_get(const uint8_t *from, struct log_segment_record *ret);

static inline uint64_t log_round_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) / to * to;
}
static inline bool log_hash_equal(struct log_hash a, struct log_hash b)
{
	return a.low == b.low && a.high == b.high;
}
bool log_is_zero(const void *bytes, size_t len);

#endif
