/* tests/fuzz/log_scan.c -- the log's reader on any bytes at all, in memory.
 *
 * Input: a byte of flags, then pieces: block (1 byte, of two segments of 16 blocks), bytes that follow (2, little-endian),
 * the bytes. What is not mentioned is zero. Flag 1: checks and chains are made right first, as far as the
 * bytes can be taken for a log; without it hardly anything would get past them. Flag 2: the manifest says CLEAN.
 *
 * What must hold: no crash; records lie within their bytes; and when what the reader found behind the end has been cleared
 * as recovery does it, reading again ends at the same place, with the same records, and finds nothing behind it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/scan.h"

enum { SEGMENTS = 2, SEGMENT_BYTES = 16 * LOG_BLOCK_BYTES, SALT = 0x5a17 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t image[SEGMENTS][SEGMENT_BYTES];
static const struct log_hash cluster = {1, 2};

struct seen {
	uint64_t records, sum;
};

static int64_t read_image(void *arg, size_t segment, void *buf, size_t len, uint64_t offset)
{
	if (segment >= SEGMENTS || offset > SEGMENT_BYTES)
		abort();
	size_t n = SEGMENT_BYTES - offset < len ? SEGMENT_BYTES - offset : len;
	memcpy(buf, image[segment] + offset, n);
	return (int64_t)n;
}

static int replay(void *arg, const struct log_record *record)
{
	struct seen *seen = arg;
	for (uint32_t i = 0; i < record->fixed_bytes; i++)
		seen->sum = seen->sum * 31 + record->fixed[i];
	for (uint32_t i = 0; i < record->payload_bytes; i++)
		seen->sum = seen->sum * 31 + record->payload[i];
	seen->sum += record->location + record->type;
	seen->records++;
	return record->type == 255 ? -ENOTSUP : 0;
}

static void place(const uint8_t *data, size_t size)
{
	memset(image, 0, sizeof(image));
	while (size >= 3) {
		size_t at = (size_t)data[0] % (SEGMENTS * 16) * LOG_BLOCK_BYTES;
		size_t len = (size_t)data[1] | (size_t)data[2] << 8, room = sizeof(image) - at;
		data += 3;
		size -= 3;
		len = len > size ? size : len;
		len = len > room ? room : len;
		memcpy(&image[0][0] + at, data, len);
		data += len;
		size -= len;
	}
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

static void repair_records(uint8_t *group, uint32_t len, uint64_t salt, uint64_t lsn)
{
	struct log_record_header header;
	for (uint32_t at = LOG_GROUP_HEADER_BYTES; at < len;) {
		if (!log_record_head(group + at, len - at, &header))
			return;
		log_record_put(group + at, &header, salt, lsn + at);
		at += (uint32_t)log_round_up(header.len, 8);
	}
}

/* Make the checks of what looks like a group right, and its chain. Its length in the image, 0: it does not. */
static uint32_t repair_group(uint8_t *at, size_t room, uint64_t salt, struct log_hash *chain)
{
	struct log_group group = {
		.lsn = get64(at + 8),
		.group_len = get32(at + 16),
		.payload_len = get32(at + 20),
		.epoch = get32(at + 24),
		.flags = get32(at + 28),
		.seq = get64(at + 32),
		.durable_lsn = get64(at + 40),
		.wall_time = (int64_t)get64(at + 48),
		.record_count = get32(at + 56),
	};
	if (memcmp(at, "WHG1", 4) != 0 || group.group_len == 0 || group.group_len > room ||
	    group.group_len % LOG_BLOCK_BYTES != 0 ||
	    group.payload_len > group.group_len - LOG_GROUP_HEADER_BYTES)
		return 0;
	repair_records(at, LOG_GROUP_HEADER_BYTES + group.payload_len, salt, group.lsn);
	log_group_put(at, &group, *chain, salt);
	*chain = group.chain;
	return group.group_len;
}

static void repair(void)
{
	struct log_hash chain = cluster;
	for (int i = 0; i < SEGMENTS; i++) {
		uint8_t *opening = image[i] + LOG_BLOCK_BYTES;
		if (memcmp(opening, "WHLOGOPN", 8) == 0)
			log_opening_put(opening,
			                &(struct log_opening){.number = (uint64_t)i,
			                                      .base_lsn = get64(opening + 24),
			                                      .group_seq = get64(opening + 32),
			                                      .epoch = get32(opening + 40),
			                                      .chain = chain},
			                SALT + (uint64_t)i);
		for (size_t at = LOG_SEGMENT_HEAD_BYTES; at < SEGMENT_BYTES;) {
			uint32_t len =
				repair_group(image[i] + at, SEGMENT_BYTES - at, SALT + (uint64_t)i, &chain);
			at += len > 0 ? len : LOG_BLOCK_BYTES;
		}
	}
}

static int scan_image(struct log_scan *scan, struct log_scan_segment *segments, bool clean, struct seen *seen)
{
	for (uint64_t i = 0; i < SEGMENTS; i++) {
		segments[i] =
			(struct log_scan_segment){.number = i, .salt = SALT + i, .bytes = SEGMENT_BYTES};
		segments[i].opening_state =
			log_opening_get(image[i] + LOG_BLOCK_BYTES, SALT + i, &segments[i].opening);
	}
	*seen = (struct seen){0};
	*scan = (struct log_scan){.segments = segments,
	                          .count = SEGMENTS,
	                          .cluster = cluster,
	                          .clean = clean,
	                          .read = read_image,
	                          .replay = replay,
	                          .replay_arg = seen};
	return log_scan_run(scan);
}

static void clear_behind(const struct log_scan_segment *segments)
{
	for (int i = 0; i < SEGMENTS; i++) {
		if (segments[i].dirty_to > SEGMENT_BYTES || segments[i].dirty_from > segments[i].dirty_to)
			abort();
		memset(image[i] + segments[i].dirty_from, 0, segments[i].dirty_to - segments[i].dirty_from);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct log_scan scan;
	struct log_scan_segment segments[SEGMENTS];
	struct seen first, second;
	if (size < 1)
		return 0;
	place(data + 1, size - 1);
	if (data[0] & 1)
		repair();
	int status = scan_image(&scan, segments, data[0] & 2, &first);
	if (status != 0 && status != -WH_EDAMAGED && status != -ENOTSUP)
		abort();
	if (status != 0) {
		if (!scan.reason || scan.problem_segment >= SEGMENTS || scan.problem_offset > SEGMENT_BYTES)
			abort();
		return 0;
	}
	uint64_t end = scan.end_lsn;
	clear_behind(segments);
	status = scan_image(&scan, segments, data[0] & 2, &second);
	if (status != 0 || scan.end_lsn != end || scan.torn || first.records != second.records ||
	    first.sum != second.sum)
		abort();
	if (getenv("LOG_FUZZ_VERBOSE") != NULL)
		fprintf(stderr, "end %llu, %llu records\n", (unsigned long long)end,
		        (unsigned long long)first.records);
	return 0;
}
