/* src/log/load.c -- the reader of checkpoints: header and trailer first, then every chunk, in order.
 *
 * All of the file hangs on the hash that the manifest holds, so whatever does not fit is damage: there is no torn checkpoint.
 * Nothing of a chunk is shown to the caller before all of that chunk has been checked.
 */
#include "log/load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { READ_BYTES = 1 << 20, BUFFER_BYTES = LOG_CHUNK_BYTES_MAX + READ_BYTES };

static int bad(struct log_load *load, uint64_t offset, const char *reason)
{
	load->problem_offset = offset;
	load->reason = reason;
	return -WH_EDAMAGED;
}

/* len bytes at an offset, of which none lies behind the end that the manifest states. */
static int get(struct log_load *load, uint64_t offset, size_t len, const uint8_t **ret)
{
	uint64_t end = load->buffer_offset + load->buffer_len;
	size_t keep = offset >= load->buffer_offset && offset < end ? end - offset : 0;
	if (keep < len) {
		uint64_t left = load->name.bytes - offset;
		size_t want = keep + READ_BYTES > len ? keep + READ_BYTES : len;
		if (keep > 0)
			memmove(load->buffer, load->buffer + (offset - load->buffer_offset), keep);
		if (want > left)
			want = left;
		load->buffer_offset = offset;
		load->buffer_len = keep;
		int64_t n = load->read(load->read_arg, load->buffer + keep, want - keep, offset + keep);
		if (n < 0) {
			load->problem_offset = offset + keep;
			load->reason = "the disk gives an error instead of the bytes";
			return (int)n;
		}
		if ((uint64_t)n < want - keep)
			return bad(load, offset + keep + (uint64_t)n, "the checkpoint is too short");
		load->buffer_len = want;
	}
	*ret = load->buffer + (offset - load->buffer_offset);
	return 0;
}

/* NULL, or what is wrong with a chunk's records. *newer: they are right but of a later version. */
static const char *check_records(const struct log_load *load, const struct log_chunk *chunk,
                                 const uint8_t *bytes, bool *newer)
{
	uint32_t at = LOG_CHUNK_HEADER_BYTES, end = at + chunk->payload_len, count = 0;
	struct log_record_header header;
	while (at < end) {
		if (!log_record_head(bytes + at, end - at, &header))
			return "a record's length is impossible";
		if (!log_record_check(bytes + at, header.len, load->header.salt, chunk->offset + at))
			return "a record's check is wrong";
		bool epoch = header.type == LOG_TYPE_EPOCH && header.version == LOG_EPOCH_VERSION;
		bool segment = header.type == LOG_TYPE_SEGMENT && header.version == LOG_SEGMENT_VERSION;
		if (header.type < LOG_TYPE_USER && !epoch && !segment) {
			*newer = true;
			return "a record of unknown type or version";
		}
		if ((epoch && header.fixed_len < LOG_EPOCH_FIXED_BYTES) ||
		    (segment && header.fixed_len < LOG_SEGMENT_FIXED_BYTES))
			return "a record of the log's own is too short";
		count++;
		at += (uint32_t)log_round_up(header.len, 8);
	}
	return at == end && count == chunk->record_count ? NULL : "the records do not fill their chunk";
}

static int show(struct log_load *load, const struct log_record_header *header, const uint8_t *fixed,
                uint64_t offset)
{
	if (header->type == LOG_TYPE_EPOCH) {
		struct log_manifest_epoch epoch;
		log_epoch_get(fixed, &epoch);
		return load->on_epoch ? load->on_epoch(load->own_arg, &epoch) : 0;
	}
	if (header->type == LOG_TYPE_SEGMENT) {
		struct log_segment_record segment;
		log_segment_record_get(fixed, &segment);
		return load->on_segment ? load->on_segment(load->own_arg, &segment) : 0;
	}
	if (!load->replay)
		return 0;
	struct log_record record = {
		.type = header->type,
		.version = header->version,
		.flags = header->flags,
		.fixed_bytes = header->fixed_len,
		.payload_bytes = header->len - LOG_RECORD_HEADER_BYTES - header->fixed_len,
		.epoch = load->header.epoch,
		.group_lsn = load->header.lsn,
		.group_end = load->header.lsn,
		.wall_time = load->header.wall_time,
		.fixed = fixed,
		.payload = fixed + header->fixed_len,
		.segment = LOG_SEGMENT_NONE,
		.file_offset = offset,
		.checkpoint = true,
	};
	return load->replay(load->replay_arg, &record);
}

static int deliver(struct log_load *load, const struct log_chunk *chunk, const uint8_t *bytes)
{
	uint32_t at = LOG_CHUNK_HEADER_BYTES;
	struct log_record_header header;
	for (uint32_t i = 0; i < chunk->record_count; i++) {
		log_record_head(bytes + at, chunk->chunk_len - at, &header);
		int status = show(load, &header, bytes + at + LOG_RECORD_HEADER_BYTES, chunk->offset + at);
		if (status < 0) {
			load->problem_offset = chunk->offset + at;
			load->reason = status == -ENOTSUP ? "a record of unknown type or version"
			                                  : "a record that its reader refuses";
			return status;
		}
		load->records++;
		at += (uint32_t)log_round_up(header.len, 8);
	}
	return 0;
}

/* The chunk that stands at chunk->offset, after chunk->sequence others with the chain chunk->chain. *chunk becomes it. */
static int take_chunk(struct log_load *load, uint64_t end, struct log_chunk *chunk)
{
	const uint8_t *bytes = NULL;
	struct log_chunk found;
	uint64_t offset = chunk->offset;
	int status = get(load, offset, LOG_BLOCK_BYTES, &bytes);
	if (status < 0)
		return status;
	if (log_chunk_get(bytes, load->header.salt, &found) != LOG_GOOD)
		return bad(load, offset, "a chunk's header is damaged");
	if (found.offset != offset || found.sequence != chunk->sequence || found.chunk_len > end - offset)
		return bad(load, offset, "a chunk that belongs elsewhere");
	status = get(load, offset, found.chunk_len, &bytes);
	if (status < 0)
		return status;
	if (!log_hash_equal(found.chain, log_chunk_chain(bytes, found.chunk_len, chunk->chain)))
		return bad(load, offset, "a chunk's bytes do not match its chain");
	bool newer = false;
	const char *reason = check_records(load, &found, bytes, &newer);
	if (reason) {
		status = bad(load, offset, reason);
		return newer ? -ENOTSUP : status;
	}
	*chunk = found;
	return deliver(load, &found, bytes);
}

static int take_chunks(struct log_load *load, struct log_hash first,
                       const struct log_checkpoint_trailer *trailer)
{
	uint64_t end = load->name.bytes - LOG_BLOCK_BYTES, count = 0;
	struct log_chunk chunk = {.offset = LOG_BLOCK_BYTES, .chain = first};
	while (chunk.offset < end) {
		chunk.sequence = count++;
		int status = take_chunk(load, end, &chunk);
		if (status < 0)
			return status;
		chunk.offset += chunk.chunk_len;
	}
	if (count != trailer->chunks || load->records != trailer->records ||
	    !log_hash_equal(chunk.chain, trailer->chain))
		return bad(load, end, "the chunks are not those that were written");
	return 0;
}

static int run(struct log_load *load)
{
	const struct log_checkpoint_name *name = &load->name;
	struct log_checkpoint_trailer trailer;
	const uint8_t *bytes = NULL;
	if (name->bytes < 2 * LOG_BLOCK_BYTES || name->bytes % LOG_BLOCK_BYTES != 0)
		return bad(load, 0, "the manifest states an impossible size of the checkpoint");
	int status = get(load, 0, LOG_BLOCK_BYTES, &bytes);
	if (status < 0)
		return status;
	int verdict = log_checkpoint_header_get(bytes, &load->header);
	if (verdict == LOG_NEWER) {
		(void)bad(load, 12, "a checkpoint of a later format");
		return -ENOTSUP;
	}
	if (verdict != LOG_GOOD)
		return bad(load, 0, "the checkpoint's header is damaged");
	if (!log_hash_equal(load->header.cluster, load->cluster) || load->header.lsn != name->lsn)
		return bad(load, 16, "the checkpoint belongs to another log or place");
	struct log_hash first = log_block_hash(bytes);
	uint64_t at = name->bytes - LOG_BLOCK_BYTES;
	status = get(load, at, LOG_BLOCK_BYTES, &bytes);
	if (status < 0)
		return status;
	if (!log_hash_equal(log_block_hash(bytes), name->hash) ||
	    log_checkpoint_trailer_get(bytes, load->header.salt, &trailer) != LOG_GOOD ||
	    trailer.bytes != name->bytes)
		return bad(load, at, "the checkpoint does not end as the manifest says");
	return take_chunks(load, first, &trailer);
}

int log_load_run(struct log_load *load)
{
	load->buffer = aligned_alloc(LOG_BLOCK_BYTES, BUFFER_BYTES);
	if (!load->buffer)
		return -ENOMEM;
	load->buffer_offset = load->buffer_len = 0;
	int status = run(load);
	free(load->buffer);
	load->buffer = NULL;
	return status;
}
