/* tests/fuzz/log_mend.c -- a segment of any bytes at all, mended: it reads from end to end then, and mending it again changes nothing.
 *
 * Input: a byte of flags; where (3 bytes, little-endian) and with what (1) a byte of the segment is damaged; the segment from its first group on.
 * Flag 8: before it is damaged, checks and chains are made right, as far as the bytes can be taken for groups. Flag 1: the log goes on in another segment, so all of this one is to be
 * accounted for. Flag 2: all of it was durable. Flag 4: stop at the first byte that cannot be read.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/mend.h"
#include "log/scan.h"

enum { SEGMENT_BYTES = 24 * LOG_BLOCK_BYTES, SALT = 0x5a17 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t image[SEGMENT_BYTES], again[SEGMENT_BYTES];
static const struct log_hash cluster = {1, 2};
static uint64_t lost_bytes;

static void on_lost(void *arg, uint64_t from, uint64_t to, uint64_t offset, const char *reason)
{
	(void)arg;
	if (to < from || offset < LOG_SEGMENT_HEAD_BYTES || offset + (to - from) > SEGMENT_BYTES || !reason)
		abort();
	lost_bytes += to - from;
}

static int64_t read_image(void *arg, size_t segment, void *buf, size_t len, uint64_t offset)
{
	(void)arg;
	if (segment != 0 || offset > SEGMENT_BYTES)
		abort();
	size_t n = SEGMENT_BYTES - offset < len ? SEGMENT_BYTES - offset : len;
	memcpy(buf, image + offset, n);
	return (int64_t)n;
}

static struct log_mend mend(uint8_t flags)
{
	struct log_mend m = {.bytes = image,
	                     .size = SEGMENT_BYTES,
	                     .salt = SALT,
	                     .limit = flags & 1 ? SEGMENT_BYTES - LOG_SEGMENT_HEAD_BYTES : UINT64_MAX,
	                     .evidence = flags & 2 ? SEGMENT_BYTES - LOG_SEGMENT_HEAD_BYTES : 0,
	                     .stop = flags & 4,
	                     .lost = on_lost,
	                     .chain = cluster,
	                     .old = cluster,
	                     .old_known = true};
	int status = log_mend_run(&m);
	if (status == -ENOTSUP)
		m.size = 0;
	else if (status != 0)
		abort();
	return m;
}

/* Up to where it was mended it must be a log. */
static void check(const struct log_mend *m, bool limited)
{
	struct log_scan_segment segment = {.salt = SALT, .bytes = SEGMENT_BYTES, .opening_state = LOG_GOOD};
	uint64_t end = LOG_SEGMENT_HEAD_BYTES + m->lsn;
	if (end > SEGMENT_BYTES || (limited && !m->stopped && end != SEGMENT_BYTES))
		abort();
	memset(image + end, 0, SEGMENT_BYTES - end);
	segment.opening = (struct log_opening){.group_seq = 1, .chain = cluster};
	struct log_scan scan = {.segments = &segment,
	                        .count = 1,
	                        .cluster = cluster,
	                        .durable_lsn = m->lsn,
	                        .read = read_image};
	if (log_scan_run(&scan) == 0 && scan.end_lsn == m->lsn && scan.seq == m->seq &&
	    log_hash_equal(scan.chain, m->chain))
		return;
	fprintf(stderr, "mended up to %llu, read up to %llu: %s\n", (unsigned long long)m->lsn,
	        (unsigned long long)scan.end_lsn, scan.reason);
	abort();
}

static uint32_t get32(const uint8_t *from)
{
	uint32_t value;
	memcpy(&value, from, sizeof(value));
	return value;
}

/* What looks like groups becomes a log. */
static void make_right(void)
{
	struct log_hash chain = cluster;
	uint64_t seq = 0;
	uint32_t epoch = 0;
	for (uint64_t at = LOG_SEGMENT_HEAD_BYTES; at + LOG_BLOCK_BYTES <= SEGMENT_BYTES;) {
		uint8_t *bytes = image + at;
		struct log_group group = {.lsn = at - LOG_SEGMENT_HEAD_BYTES,
		                          .group_len = get32(bytes + 16),
		                          .payload_len = get32(bytes + 20),
		                          .flags = get32(bytes + 28) & LOG_GROUP_KNOWN};
		struct log_record_header header;
		uint32_t pos = LOG_GROUP_HEADER_BYTES;
		if (memcmp(bytes, "WHG1", 4) != 0 || group.group_len == 0 ||
		    group.group_len > SEGMENT_BYTES - at || group.group_len % LOG_BLOCK_BYTES != 0 ||
		    group.payload_len % 8 != 0 ||
		    group.payload_len > group.group_len - LOG_GROUP_HEADER_BYTES)
			return;
		for (uint32_t end = pos + group.payload_len;
		     pos < end && log_record_head(bytes + pos, end - pos, &header);
		     pos += (uint32_t)log_round_up(header.len, 8)) {
			if (header.type == LOG_TYPE_EPOCH && header.fixed_len >= LOG_EPOCH_FIXED_BYTES)
				log_epoch_put(bytes + pos + LOG_RECORD_HEADER_BYTES, ++epoch, 1, group.lsn);
			log_record_put(bytes + pos, &header, SALT, group.lsn + pos);
			group.record_count++;
		}
		group.seq = ++seq;
		group.epoch = epoch;
		group.durable_lsn = group.lsn;
		log_group_put(bytes, &group, chain, SALT);
		chain = group.chain;
		at += group.group_len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 5)
		return 0;
	uint8_t flags = data[0], damage = data[4];
	uint32_t where = data[1] | (uint32_t)data[2] << 8 | (uint32_t)data[3] << 16;
	data += 4;
	size -= 4;
	size_t len = size - 1 < SEGMENT_BYTES - LOG_SEGMENT_HEAD_BYTES
	                     ? size - 1
	                     : SEGMENT_BYTES - LOG_SEGMENT_HEAD_BYTES;
	memset(image, 0, sizeof(image));
	memcpy(image + LOG_SEGMENT_HEAD_BYTES, data + 1, len);
	if (flags & 8)
		make_right();
	image[LOG_SEGMENT_HEAD_BYTES + where % (SEGMENT_BYTES - LOG_SEGMENT_HEAD_BYTES)] ^= damage;
	lost_bytes = 0;
	struct log_mend m = mend(flags);
	if (m.size == 0)
		return 0;
	if (m.lost_bytes != lost_bytes)
		abort();
	check(&m, flags & 1);
	memcpy(again, image, sizeof(image));
	lost_bytes = 0;
	struct log_mend second = mend(flags & 1 && !m.stopped ? 1 : 0);
	if (second.size == 0 || second.lsn != m.lsn || second.changed || lost_bytes != 0 ||
	    memcmp(again, image, sizeof(image)) != 0)
		abort();
	return 0;
}
