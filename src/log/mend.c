/* src/log/mend.c -- one segment that is damaged, made readable again in memory. See mend.h.
 *
 * A group keeps its place and its length, so that every record that can be read keeps its own: places are what other records and
 * jobs go by. Where not even the headers are left, one group covers all up to the next one that is. Sequence and chain
 * go on over all of it.
 */
#include "log/mend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t offset_of(const struct log_mend *m, uint64_t lsn)
{
	return LOG_SEGMENT_HEAD_BYTES + (lsn - m->base_lsn);
}

static uint64_t limit_offset(const struct log_mend *m)
{
	uint64_t room = m->size - LOG_SEGMENT_HEAD_BYTES;
	return m->limit == UINT64_MAX || m->limit - m->base_lsn > room ? m->size : offset_of(m, m->limit);
}

/* ---- records ----------------------------------------------------------------------------- */

static bool is_known(const struct log_record_header *header)
{
	if (header->type >= LOG_TYPE_USER)
		return true;
	if (header->type == LOG_TYPE_EPOCH)
		return header->version == LOG_EPOCH_VERSION && header->fixed_len >= LOG_EPOCH_FIXED_BYTES;
	return header->type == LOG_TYPE_LOST && header->version == LOG_LOST_VERSION;
}

/* The record at an offset that ends before end, if there is one. */
static bool record_at(const uint8_t *bytes, uint64_t salt, uint64_t base_lsn, uint64_t offset, uint64_t end,
                      struct log_record_header *ret)
{
	uint64_t cap = end - offset < LOG_GROUP_BYTES_MAX ? end - offset : LOG_GROUP_BYTES_MAX;
	return log_record_head(bytes + offset, cap, ret) && is_known(ret) &&
	       log_record_check(bytes + offset, ret->len, salt, base_lsn + (offset - LOG_SEGMENT_HEAD_BYTES));
}

static bool records_are_whole(const struct log_mend *m, uint64_t offset, const struct log_group *group)
{
	uint64_t at = offset + LOG_GROUP_HEADER_BYTES, end = at + group->payload_len;
	struct log_record_header header;
	uint32_t count = 0;
	bool begins = false;
	while (at < end) {
		if (!record_at(m->bytes, m->salt, m->base_lsn, at, end, &header))
			return false;
		if (header.type == LOG_TYPE_EPOCH) {
			struct log_manifest_epoch epoch;
			log_epoch_get(m->bytes + at + LOG_RECORD_HEADER_BYTES, &epoch);
			if (count > 0 || epoch.epoch != group->epoch || epoch.start != group->lsn)
				return false;
			begins = true;
		}
		count++;
		at += log_round_up(header.len, 8);
	}
	return at == end && count == group->record_count && begins == (group->epoch != m->epoch) &&
	       (m->old_known || log_is_zero(m->bytes + end, offset + group->group_len - end));
}

/* ---- groups that are whole --------------------------------------------------------------- */

static bool header_fits(const struct log_mend *m, uint64_t offset, uint64_t end, struct log_group *ret)
{
	if (end - offset < LOG_BLOCK_BYTES || log_group_get(m->bytes + offset, m->salt, ret) != LOG_GOOD)
		return false;
	return ret->lsn == m->base_lsn + (offset - LOG_SEGMENT_HEAD_BYTES) &&
	       ret->group_len <= end - offset && ret->durable_lsn <= ret->lsn && ret->epoch >= m->epoch;
}

static bool is_whole(const struct log_mend *m, uint64_t offset, const struct log_group *group)
{
	if (m->old_known &&
	    !log_hash_equal(log_group_chain(m->bytes + offset, group->group_len, m->old), group->chain))
		return false;
	return records_are_whole(m, offset, group);
}

static void pass(struct log_mend *m, const struct log_group *group)
{
	uint32_t part = group->flags & LOG_GROUP_TX;
	if (part == LOG_GROUP_TX_BEGIN)
		m->transaction_lsn = group->lsn;
	m->in_transaction = part == LOG_GROUP_TX_BEGIN || (part == LOG_GROUP_TX_CONT && m->in_transaction);
	m->rest = m->rest && part == LOG_GROUP_TX_CONT;
	m->seq = group->seq;
	m->epoch = group->epoch;
	m->chain = group->chain;
	m->lsn = group->lsn + group->group_len;
	m->groups++;
	m->records += group->record_count;
}

/* Parts of a transaction that are not where they can be, since others are lost, are none. true: they had to be changed. */
static bool put_flags_right(const struct log_mend *m, struct log_group *group)
{
	uint32_t part = group->flags & LOG_GROUP_TX;
	bool rest = part == LOG_GROUP_TX_CONT || part == LOG_GROUP_TX_END;
	if ((part & (part - 1)) == 0 && (!rest || m->in_transaction || m->rest))
		return false;
	group->flags &= ~(uint32_t)LOG_GROUP_TX;
	return true;
}

static void keep(struct log_mend *m, uint64_t offset, struct log_group *group)
{
	bool same = !put_flags_right(m, group) && m->old_known && log_hash_equal(m->old, m->chain) &&
	            group->seq == m->seq + 1;
	m->old = group->chain;
	m->old_known = true;
	if (!same) {
		group->seq = m->seq + 1;
		log_group_put(m->bytes + offset, group, m->chain, m->salt);
		m->changed = true;
	}
	pass(m, group);
}

/* ---- groups that are not ----------------------------------------------------------------- */

static void tell_lost(struct log_mend *m, uint64_t from, uint64_t to, const char *reason)
{
	uint64_t lsn = m->base_lsn + (from - LOG_SEGMENT_HEAD_BYTES);
	m->lost_bytes += to - from;
	if (m->lost)
		m->lost(m->lost_arg, lsn, lsn + (to - from), from, reason);
}

/* A group being put together in m->group; it will stand at .offset. */
struct patch {
	uint64_t offset, end; /* of the range in the file */
	uint64_t at;          /* byte of the file up to which it is filled */
	struct log_group group;
	const char *reason;
};

static void put_lost(struct log_mend *m, struct patch *p, uint64_t to)
{
	uint64_t salt = m->salt, lsn = m->base_lsn + (p->at - LOG_SEGMENT_HEAD_BYTES);
	struct log_record_header header = {
		.len = (uint32_t)(to - p->at), .type = LOG_TYPE_LOST, .version = LOG_LOST_VERSION};
	uint8_t *record = m->group + (p->at - p->offset);
	memset(record, 0, header.len);
	log_record_put(record, &header, salt, lsn);
	tell_lost(m, p->at, to, p->reason);
	p->group.record_count++;
	p->at = to;
}

/* Where another record began, that one is lost. */
static void put_epoch(struct log_mend *m, struct patch *p)
{
	uint64_t lsn = m->base_lsn + (p->at - LOG_SEGMENT_HEAD_BYTES);
	struct log_record_header header = {.len = LOG_RECORD_HEADER_BYTES + LOG_EPOCH_FIXED_BYTES,
	                                   .type = LOG_TYPE_EPOCH,
	                                   .version = LOG_EPOCH_VERSION,
	                                   .fixed_len = LOG_EPOCH_FIXED_BYTES};
	uint8_t *record = m->group + (p->at - p->offset);
	log_epoch_put(record + LOG_RECORD_HEADER_BYTES, p->group.epoch, LOG_EPOCH_RECOVERED, p->group.lsn);
	log_record_put(record, &header, m->salt, lsn);
	tell_lost(m, p->at, p->at + header.len, p->reason);
	p->group.record_count++;
	p->at += header.len;
}

/* The records of from .. to (bytes of the file) that can be read, and LOST ones between. */
static void fill(struct log_mend *m, struct patch *p, uint64_t to)
{
	struct log_record_header header;
	for (uint64_t at = p->at; at + LOG_RECORD_HEADER_BYTES <= to; at += 8) {
		bool first = at == p->offset + LOG_GROUP_HEADER_BYTES;
		if (at < p->at || !record_at(m->bytes, m->salt, m->base_lsn, at, to, &header))
			continue;
		uint64_t len = log_round_up(header.len, 8), gap = at - p->at;
		if (at + len > to || (gap > 0 && gap < LOG_RECORD_HEADER_BYTES) ||
		    header.type == LOG_TYPE_LOST)
			continue;
		if (header.type == LOG_TYPE_EPOCH) {
			struct log_manifest_epoch epoch;
			log_epoch_get(m->bytes + at + LOG_RECORD_HEADER_BYTES, &epoch);
			/* those of groups that are not there any more are made again where they are needed */
			if (!first || epoch.epoch != p->group.epoch || epoch.start != p->group.lsn ||
			    epoch.epoch == m->epoch)
				continue;
		}
		if (gap > 0)
			put_lost(m, p, at);
		memcpy(m->group + (at - p->offset), m->bytes + at, header.len);
		p->group.record_count++;
		p->at = at + len;
		at += len - 8;
	}
	if (to - p->at >= LOG_RECORD_HEADER_BYTES)
		put_lost(m, p, to);
}

static bool begins_with_epoch(const struct log_mend *m, uint64_t offset, uint32_t epoch)
{
	struct log_record_header header;
	struct log_manifest_epoch found;
	uint64_t at = offset + LOG_GROUP_HEADER_BYTES;
	if (!record_at(m->bytes, m->salt, m->base_lsn, at, m->size, &header) || header.type != LOG_TYPE_EPOCH)
		return false;
	log_epoch_get(m->bytes + at + LOG_RECORD_HEADER_BYTES, &found);
	return found.epoch == epoch && found.start == m->base_lsn + (offset - LOG_SEGMENT_HEAD_BYTES);
}

/* The group is finished and stands in the file's bytes. */
static void put_group(struct log_mend *m, struct patch *p)
{
	struct log_group *group = &p->group;
	group->payload_len = (uint32_t)(p->at - p->offset - LOG_GROUP_HEADER_BYTES);
	group->seq = m->seq + 1;
	log_group_put(m->group, group, m->chain, m->salt);
	memcpy(m->bytes + p->offset, m->group, group->group_len);
	m->changed = true;
	m->old_known = false;
	pass(m, group);
}

/* A group whose header is right and whose rest is not. */
static void mend_group(struct log_mend *m, uint64_t offset, const struct log_group *found)
{
	struct patch p = {.offset = offset,
	                  .end = offset + found->group_len,
	                  .at = offset + LOG_GROUP_HEADER_BYTES,
	                  .group = *found,
	                  .reason = "a group's bytes do not match its chain"};
	struct log_hash chain = found->chain;
	uint64_t to = p.at + found->payload_len;
	memset(m->group, 0, found->group_len);
	p.group.record_count = 0;
	(void)put_flags_right(m, &p.group);
	if (found->epoch != m->epoch && !begins_with_epoch(m, offset, found->epoch) &&
	    to - p.at >= LOG_RECORD_HEADER_BYTES + LOG_EPOCH_FIXED_BYTES)
		put_epoch(m, &p);
	fill(m, &p, to);
	put_group(m, &p);
	m->old = chain; /* its header says what the next one follows */
	m->old_known = true;
}

static uint32_t part_of(bool before, bool after, bool first, bool last)
{
	if (!before && !after)
		return 0;
	if (first && !before)
		return LOG_GROUP_TX_BEGIN;
	return last && !after ? LOG_GROUP_TX_END : LOG_GROUP_TX_CONT;
}

static bool continues(const struct log_mend_after *after)
{
	return after->known && (after->flags & (LOG_GROUP_TX_CONT | LOG_GROUP_TX_END));
}

/* Is there a record in it that can be read? */
static bool holds_any(const struct log_mend *m, uint64_t offset, uint64_t end)
{
	struct log_record_header header;
	for (uint64_t at = offset; at + LOG_RECORD_HEADER_BYTES <= end; at += 8)
		if (record_at(m->bytes, m->salt, m->base_lsn, at, end, &header))
			return true;
	return false;
}

/* Blocks without any header, up to the next one. */
static void mend_blocks(struct log_mend *m, uint64_t offset, uint64_t end, const struct log_mend_after *after)
{
	bool before = m->in_transaction;
	uint32_t epoch =
		after->known && !after->begins_epoch && after->epoch > m->epoch ? after->epoch : m->epoch;
	if (epoch == 0)
		epoch = 1;
	for (uint64_t at = offset; at < end;) {
		uint64_t len = end - at < LOG_GROUP_BYTES_MAX ? end - at : LOG_GROUP_BYTES_MAX;
		struct patch p = {.offset = at,
		                  .end = at + len,
		                  .at = at + LOG_GROUP_HEADER_BYTES,
		                  .reason = "a group's header is damaged"};
		p.group =
			(struct log_group){.lsn = m->lsn, .durable_lsn = m->lsn, .group_len = (uint32_t)len};
		p.group.epoch = epoch;
		p.group.flags = part_of(before, continues(after), at == offset, at + len == end);
		memset(m->group, 0, len);
		if (at > offset) /* where the header of a group too large for one has to stand */
			tell_lost(m, at, p.at, p.reason);
		if (epoch != m->epoch)
			put_epoch(m, &p);
		fill(m, &p, at + len);
		put_group(m, &p);
		at += len;
	}
}

/* ---- the way through --------------------------------------------------------------------- */

static struct log_mend_after look_at(const struct log_mend *m, uint64_t offset, const struct log_group *group)
{
	return (struct log_mend_after){true, begins_with_epoch(m, offset, group->epoch), group->epoch,
	                               group->flags};
}

/* Was what stands here never durable, as far as anything says? Then the log ends, and what is behind is a torn tail. */
static bool is_end(struct log_mend *m, uint64_t offset)
{
	if (m->limit != UINT64_MAX)
		return false;
	for (uint64_t at = offset; at + LOG_BLOCK_BYTES <= m->size; at += LOG_BLOCK_BYTES) {
		struct log_group group;
		if (log_group_get(m->bytes + at, m->salt, &group) == LOG_GOOD &&
		    group.durable_lsn <= group.lsn && group.durable_lsn > m->evidence)
			m->evidence = group.durable_lsn;
	}
	return m->evidence <= m->lsn;
}

/* From a block that is no group to the next one that is. false: there is nothing to be kept up to the end. */
static bool mend_gap(struct log_mend *m, uint64_t offset, uint64_t end)
{
	struct log_group group;
	struct log_mend_after after = m->after;
	uint64_t next = offset + LOG_BLOCK_BYTES;
	while (next < end && !header_fits(m, next, end, &group))
		next += LOG_BLOCK_BYTES;
	if (next < end) {
		after = look_at(m, next, &group);
	} else if (m->limit == UINT64_MAX) {
		next = m->evidence - m->base_lsn > m->size - LOG_SEGMENT_HEAD_BYTES
		               ? m->size
		               : offset_of(m, m->evidence);
		if (!holds_any(m, offset, next))
			return false;
	}
	mend_blocks(m, offset, next, &after);
	return true;
}

/* What stands at an offset is not whole. false: the log ends there, or is to. */
static bool mend_here(struct log_mend *m, uint64_t offset, uint64_t end,
                      const struct log_group *group_or_null)
{
	if (is_end(m, offset))
		return false;
	if (m->lost)
		m->lost(m->lost_arg, m->lsn, m->lsn, offset,
		        group_or_null ? "a group's bytes do not match its chain"
		                      : "a group's header is damaged");
	m->stopped = m->stop;
	if (m->stop)
		return false;
	if (!group_or_null)
		return mend_gap(m, offset, end);
	mend_group(m, offset, group_or_null);
	return true;
}

int log_mend_run(struct log_mend *m)
{
	uint64_t end = limit_offset(m);
	int status = 0;
	m->group = aligned_alloc(LOG_BLOCK_BYTES, LOG_GROUP_BYTES_MAX);
	if (!m->group)
		return -ENOMEM;
	for (bool more = true; more;) {
		uint64_t offset = offset_of(m, m->lsn);
		struct log_group group;
		if (offset >= end || end - offset < LOG_BLOCK_BYTES)
			break;
		if (!header_fits(m, offset, end, &group)) {
			more = mend_here(m, offset, end, NULL);
		} else if (group.flags & ~(uint32_t)LOG_GROUP_KNOWN) {
			status = -ENOTSUP;
			more = false;
		} else if (is_whole(m, offset, &group)) {
			keep(m, offset, &group);
		} else {
			more = mend_here(m, offset, end, &group);
		}
	}
	free(m->group);
	m->group = NULL;
	return status;
}

bool log_mend_begins_epoch(const struct log_mend *m, uint64_t lsn)
{
	struct log_group group;
	uint64_t offset = offset_of(m, lsn);
	return log_group_get(m->bytes + offset, m->salt, &group) == LOG_GOOD &&
	       begins_with_epoch(m, offset, group.epoch);
}

bool log_mend_first(const uint8_t *bytes, uint64_t size, uint64_t salt, uint64_t offset,
                    struct log_group *ret, uint64_t *ret_base)
{
	for (; offset + LOG_BLOCK_BYTES <= size; offset += LOG_BLOCK_BYTES) {
		if (log_group_get(bytes + offset, salt, ret) != LOG_GOOD ||
		    ret->lsn < offset - LOG_SEGMENT_HEAD_BYTES)
			continue;
		*ret_base = ret->lsn - (offset - LOG_SEGMENT_HEAD_BYTES);
		return true;
	}
	return false;
}

int log_mend_records(const uint8_t *bytes, uint64_t size, uint64_t salt, uint64_t number, uint64_t base_lsn,
                     uint64_t offset, log_replay_function *each, void *arg, uint64_t *ret_groups)
{
	struct log_record_header header;
	struct log_group group = {0};
	for (uint64_t at = offset; at + LOG_RECORD_HEADER_BYTES <= size; at += 8) {
		uint64_t lsn = base_lsn + (at - LOG_SEGMENT_HEAD_BYTES);
		struct log_group found;
		if (at % LOG_BLOCK_BYTES == 0 && at + LOG_BLOCK_BYTES <= size &&
		    log_group_get(bytes + at, salt, &found) == LOG_GOOD && found.lsn == lsn) {
			group = found;
			++*ret_groups;
			at += LOG_GROUP_HEADER_BYTES - 8;
			continue;
		}
		if (!record_at(bytes, salt, base_lsn, at, size, &header))
			continue;
		const uint8_t *fixed = bytes + at + LOG_RECORD_HEADER_BYTES;
		struct log_record record = {
			.type = header.type,
			.version = header.version,
			.flags = header.flags,
			.fixed_bytes = header.fixed_len,
			.payload_bytes = header.len - LOG_RECORD_HEADER_BYTES - header.fixed_len,
			.epoch = group.epoch,
			.location = lsn,
			.group_lsn = group.lsn,
			.group_end = group.lsn + group.group_len,
			.wall_time = group.wall_time,
			.fixed = fixed,
			.payload = fixed + header.fixed_len,
			.segment = number,
			.file_offset = at,
		};
		int status = header.type < LOG_TYPE_USER ? 0 : each(arg, &record);
		if (status < 0)
			return status;
		at += log_round_up(header.len, 8) - 8;
	}
	return 0;
}
