/* src/log/scan.c -- the reader: all groups in order, and what the place where they end means.
 *
 * A group counts only when everything about it is right; the first one that does not is never skipped, it is
 * judged. Nothing is shown to the caller of a group before all of that group has been checked.
 */
#include "log/scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { READ_BYTES = 1 << 20 };

/* The part of a segment that is in memory. It begins at a multiple of a block, in the file and in memory. */
struct log_scan_window {
	size_t segment;
	uint64_t offset;
	size_t len, cap;
	uint8_t *bytes;
};

/* A group of a transaction whose end has not been seen. */
struct log_scan_held {
	struct log_scan_held *next;
	struct log_group group;
	size_t segment;
	uint64_t offset;
	uint8_t bytes[];
};

/* One place in the log. */
struct place {
	size_t segment;
	uint64_t offset;
};

static int window_open(struct log_scan *scan)
{
	struct log_scan_window *window = malloc(sizeof(*window));
	if (!window)
		return -ENOMEM;
	uint64_t cap = 0;
	for (size_t i = 0; i < scan->count; i++)
		if (scan->segments[i].bytes > cap)
			cap = scan->segments[i].bytes;
	if (cap > LOG_GROUP_BYTES_MAX + READ_BYTES)
		cap = LOG_GROUP_BYTES_MAX + READ_BYTES;
	*window = (struct log_scan_window){.cap = cap, .bytes = aligned_alloc(LOG_BLOCK_BYTES, cap)};
	if (!window->bytes) {
		free(window);
		return -ENOMEM;
	}
	scan->window = window;
	return 0;
}

static void window_close(struct log_scan *scan)
{
	free(scan->window->bytes);
	free(scan->window);
	scan->window = NULL;
}

/* len bytes at a place that lie within the segment; what the file is short of is zero. */
static int window_get(struct log_scan *scan, struct place place, size_t len, const uint8_t **ret)
{
	struct log_scan_window *window = scan->window;
	uint64_t end = window->offset + window->len;
	bool within =
		window->segment == place.segment && place.offset >= window->offset && place.offset < end;
	size_t keep = within ? end - place.offset : 0;
	if (keep < len) {
		if (keep > 0)
			memmove(window->bytes, window->bytes + (place.offset - window->offset), keep);
		size_t want = keep + READ_BYTES > len ? keep + READ_BYTES : len;
		if (want > window->cap)
			want = window->cap;
		uint64_t left = scan->segments[place.segment].bytes - place.offset;
		if (want > left)
			want = left;
		window->segment = place.segment;
		window->offset = place.offset;
		window->len = keep;
		int64_t n = scan->read(scan->read_arg, place.segment, window->bytes + keep, want - keep,
		                       place.offset + keep);
		if (n < 0) {
			scan->reason = "the disk gives an error instead of the bytes";
			return (int)n;
		}
		memset(window->bytes + keep + n, 0, want - keep - (size_t)n);
		window->len = want;
	}
	*ret = window->bytes + (place.offset - window->offset);
	return 0;
}

static void held_drop(struct log_scan *scan)
{
	while (scan->held) {
		struct log_scan_held *held = scan->held;
		scan->held = held->next;
		free(held);
	}
	scan->held_last = NULL;
	scan->held_bytes = 0;
}

static int held_add(struct log_scan *scan, const struct log_group *group, struct place place,
                    const uint8_t *bytes)
{
	struct log_scan_held *held = malloc(sizeof(*held) + group->group_len);
	if (!held)
		return -ENOMEM;
	*held = (struct log_scan_held){.group = *group, .segment = place.segment, .offset = place.offset};
	memcpy(held->bytes, bytes, group->group_len);
	if (scan->held_last)
		scan->held_last->next = held;
	else
		scan->held = held;
	scan->held_last = held;
	scan->held_bytes += group->group_len;
	return 0;
}

/* The records of a group that is whole: to the caller. */
static int deliver(struct log_scan *scan, const struct log_group *group, struct place place,
                   const uint8_t *bytes)
{
	uint32_t at = LOG_GROUP_HEADER_BYTES;
	struct log_record_header header;
	for (uint32_t i = 0; i < group->record_count; i++) {
		log_record_head(bytes + at, group->group_len - at, &header);
		const uint8_t *fixed = bytes + at + LOG_RECORD_HEADER_BYTES;
		int status = 0;
		if (header.type == LOG_TYPE_EPOCH) {
			struct log_manifest_epoch epoch;
			log_epoch_get(fixed, &epoch);
			if (scan->on_epoch)
				status = scan->on_epoch(scan->epoch_arg, &epoch);
		} else if (scan->replay) {
			struct log_record record = {
				.type = header.type,
				.version = header.version,
				.flags = header.flags,
				.fixed_bytes = header.fixed_len,
				.payload_bytes = header.len - LOG_RECORD_HEADER_BYTES - header.fixed_len,
				.epoch = group->epoch,
				.location = group->lsn + at,
				.group_lsn = group->lsn,
				.group_end = group->lsn + group->group_len,
				.wall_time = group->wall_time,
				.fixed = fixed,
				.payload = fixed + header.fixed_len,
				.segment = scan->segments[place.segment].number,
				.file_offset = place.offset + at,
			};
			status = scan->replay(scan->replay_arg, &record);
		}
		if (status < 0) {
			scan->problem_segment = place.segment;
			scan->problem_offset = place.offset + at;
			scan->problem_lsn = group->lsn + at;
			scan->reason = status == -ENOTSUP ? "a record of unknown type or version"
			                                  : "a record that its reader refuses";
			return status;
		}
		scan->records++;
		at += (uint32_t)log_round_up(header.len, 8);
	}
	scan->bytes += group->group_len;
	return 0;
}

static int deliver_held(struct log_scan *scan)
{
	for (struct log_scan_held *held = scan->held; held; held = held->next) {
		struct place place = {held->segment, held->offset};
		int status = deliver(scan, &held->group, place, held->bytes);
		if (status < 0)
			return status;
	}
	held_drop(scan);
	return 0;
}

/* NULL, or what is wrong with a group's records. *newer: they are right but of a later version. */
static const char *check_records(const struct log_scan *scan, const struct log_group *group, uint64_t salt,
                                 const uint8_t *bytes, bool *newer)
{
	uint32_t at = LOG_GROUP_HEADER_BYTES, end = at + group->payload_len, count = 0;
	struct log_record_header header;
	bool epoch_seen = false;
	while (at < end) {
		if (!log_record_head(bytes + at, end - at, &header))
			return "a record's length is impossible";
		if (!log_record_check(bytes + at, header.len, salt, group->lsn + at))
			return "a record's check is wrong";
		if (header.type < LOG_TYPE_USER &&
		    (header.type != LOG_TYPE_LOST || header.version != LOG_LOST_VERSION)) {
			if (header.type != LOG_TYPE_EPOCH || header.version != LOG_EPOCH_VERSION) {
				*newer = true;
				return "a record of unknown type or version";
			}
			struct log_manifest_epoch epoch;
			if (header.fixed_len < LOG_EPOCH_FIXED_BYTES)
				return "an EPOCH record is too short";
			log_epoch_get(bytes + at + LOG_RECORD_HEADER_BYTES, &epoch);
			if (count != 0 || epoch.epoch != group->epoch || epoch.start != group->lsn)
				return "an EPOCH record is out of place";
			epoch_seen = true;
		}
		count++;
		at += (uint32_t)log_round_up(header.len, 8);
	}
	if (at != end || count != group->record_count)
		return "the records do not fill their group";
	if (epoch_seen != (group->epoch != scan->epoch))
		return "an epoch does not begin with its EPOCH record";
	return NULL;
}

/* NULL, or what is wrong with a header that is right in itself, at the end of what has been read. */
static const char *check_header(const struct log_scan *scan, const struct log_group *group, uint64_t room)
{
	if (group->lsn != scan->end_lsn)
		return "a group that belongs elsewhere";
	if (group->group_len > room)
		return "a group that passes the end of its segment";
	if (group->seq != scan->seq + 1)
		return "a group out of sequence";
	if (group->epoch < scan->epoch)
		return "a group of an earlier epoch";
	if (group->durable_lsn > group->lsn)
		return "a group that claims that itself is durable";
	return NULL;
}

static const char *check_transaction(const struct log_scan *scan, const struct log_group *group)
{
	uint32_t part = group->flags & LOG_GROUP_TX;
	if (part & (part - 1))
		return "a group that is two parts of a transaction";
	if ((part == LOG_GROUP_TX_CONT || part == LOG_GROUP_TX_END) && !scan->held && !scan->rest)
		return "the rest of a transaction that has not begun";
	if (part && scan->held_bytes + group->group_len > 2 * (uint64_t)LOG_TRANSACTION_BYTES_MAX)
		return "a transaction larger than allowed";
	return NULL;
}

/* The group at the end of what has been read. 0: it is good and has been taken; 1: it is not, .reason says why. */
static int take_group(struct log_scan *scan, struct place place, uint64_t room)
{
	const struct log_scan_segment *segment = &scan->segments[place.segment];
	const uint8_t *bytes = NULL;
	struct log_group group;
	scan->reason = "no room for a group";
	if (room < LOG_BLOCK_BYTES)
		return 1;
	int status = window_get(scan, place, LOG_BLOCK_BYTES, &bytes);
	if (status < 0)
		return status;
	int verdict = log_group_get(bytes, segment->salt, &group);
	scan->reason = verdict == LOG_BLANK ? "no group" : "a group's header is damaged";
	if (verdict != LOG_GOOD || (scan->reason = check_header(scan, &group, room)))
		return 1;
	status = window_get(scan, place, group.group_len, &bytes);
	if (status < 0)
		return status;
	scan->reason = "a group's bytes do not match its chain";
	if (!log_hash_equal(group.chain, log_group_chain(bytes, group.group_len, scan->chain)))
		return 1;
	scan->reason = "a group with unknown flags";
	if (group.flags & ~(uint32_t)LOG_GROUP_KNOWN)
		return -ENOTSUP;
	bool newer = false;
	if ((scan->reason = check_records(scan, &group, segment->salt, bytes, &newer)))
		return newer ? -ENOTSUP : 1;
	if ((scan->reason = check_transaction(scan, &group)))
		return 1;

	uint32_t part = group.flags & LOG_GROUP_TX;
	if (part != LOG_GROUP_TX_CONT && part != LOG_GROUP_TX_END)
		held_drop(scan);
	scan->rest = scan->rest && (part == LOG_GROUP_TX_CONT || part == LOG_GROUP_TX_END);
	status = part && !scan->rest ? held_add(scan, &group, place, bytes)
	                             : deliver(scan, &group, place, bytes);
	scan->rest = scan->rest && part == LOG_GROUP_TX_CONT;
	if (status == 0 && part == LOG_GROUP_TX_END)
		status = deliver_held(scan);
	if (status < 0)
		return status;
	scan->end_lsn += group.group_len;
	scan->end_offset += group.group_len;
	scan->seq = group.seq;
	scan->epoch = group.epoch;
	scan->chain = group.chain;
	return 0;
}

/* Go on in a segment whose opening is good and begins where the one before ended. 0, or 1: it does not fit. */
static int enter_segment(struct log_scan *scan, size_t segment)
{
	const struct log_opening *opening = &scan->segments[segment].opening;
	if (opening->group_seq != scan->seq + 1 || opening->epoch < scan->epoch ||
	    !log_hash_equal(opening->chain, scan->chain)) {
		scan->problem_segment = segment;
		scan->problem_offset = LOG_BLOCK_BYTES;
		scan->problem_lsn = opening->base_lsn;
		scan->reason = "a segment's opening does not continue the segment before it";
		return 1;
	}
	scan->opened = segment + 1;
	scan->end_offset = LOG_SEGMENT_HEAD_BYTES;
	return 0;
}

static void raise_evidence(struct log_scan *scan, uint64_t lsn)
{
	if (lsn > scan->evidence_lsn)
		scan->evidence_lsn = lsn;
}

/* What the blocks from offset to the end of a segment say about what was durable, and which of them are not zero. */
static int look_behind(struct log_scan *scan, size_t index, uint64_t offset)
{
	struct log_scan_segment *segment = &scan->segments[index];
	uint64_t first = offset;
	segment->dirty_from = segment->dirty_to = offset;
	for (; offset < segment->bytes; offset += LOG_BLOCK_BYTES) {
		const uint8_t *bytes = NULL;
		struct log_group group;
		int status = window_get(scan, (struct place){index, offset}, LOG_BLOCK_BYTES, &bytes);
		if (status < 0) {
			scan->problem_segment = index;
			scan->problem_offset = offset;
			return status;
		}
		if (log_is_zero(bytes, LOG_BLOCK_BYTES))
			continue;
		scan->torn = true;
		if (segment->dirty_to == first)
			segment->dirty_from = offset;
		segment->dirty_to = offset + LOG_BLOCK_BYTES;
		if (offset < LOG_SEGMENT_HEAD_BYTES ||
		    log_group_get(bytes, segment->salt, &group) != LOG_GOOD)
			continue;
		/* It need not stand where it belongs: what it says was true when it was written. */
		if (group.durable_lsn <= group.lsn)
			raise_evidence(scan, group.durable_lsn);
	}
	return 0;
}

/* The groups end here: is that an end, or damage? Fills in the extents that are not zero. */
static int judge(struct log_scan *scan)
{
	const char *reason = scan->reason;
	size_t later = scan->opened;
	scan->problem_segment = later > 0 ? later - 1 : 0;
	scan->problem_offset = later > 0 ? scan->end_offset : LOG_BLOCK_BYTES;
	scan->problem_lsn = scan->end_lsn;
	struct place end = {scan->problem_segment, scan->problem_offset};

	bool spare = true;
	for (size_t i = later; i < scan->count; i++)
		if (scan->segments[i].opening_state != LOG_BLANK)
			spare = false;
	if (scan->clean && spare && scan->end_lsn == scan->durable_lsn) {
		const uint8_t *bytes = NULL;
		if (later == 0 || end.offset >= scan->segments[end.segment].bytes)
			return 0;
		int status = window_get(scan, end, LOG_BLOCK_BYTES, &bytes);
		if (status < 0)
			return status;
		if (log_is_zero(bytes, LOG_BLOCK_BYTES))
			return 0;
	}
	if (later > 0) {
		int status = look_behind(scan, end.segment, end.offset);
		if (status < 0)
			return status;
	}
	for (size_t i = later; i < scan->count; i++) {
		if (scan->segments[i].opening_state == LOG_GOOD)
			raise_evidence(scan, scan->segments[i].opening.base_lsn);
		int status = look_behind(scan, i, LOG_BLOCK_BYTES);
		if (status < 0)
			return status;
	}
	scan->reason = reason;
	return scan->end_lsn < scan->evidence_lsn ? -WH_EDAMAGED : 0;
}

static int scan_groups(struct log_scan *scan)
{
	for (;;) {
		size_t next = scan->opened;
		uint64_t limit = UINT64_MAX;
		if (next < scan->count && scan->segments[next].opening_state == LOG_GOOD) {
			limit = scan->segments[next].opening.base_lsn;
			if (limit == scan->end_lsn) {
				if (enter_segment(scan, next))
					return -WH_EDAMAGED;
				continue;
			}
			if (limit < scan->end_lsn) {
				scan->problem_segment = next;
				scan->problem_offset = LOG_BLOCK_BYTES;
				scan->problem_lsn = limit;
				scan->evidence_lsn = scan->end_lsn;
				scan->reason = "a segment opens before the segment before it ends";
				return -WH_EDAMAGED;
			}
		}
		if (scan->opened == 0) {
			scan->reason = "the log's first segment has no opening";
			return judge(scan);
		}
		struct place place = {scan->opened - 1, scan->end_offset};
		uint64_t room = scan->segments[place.segment].bytes - place.offset;
		if (room > limit - scan->end_lsn)
			room = limit - scan->end_lsn;
		scan->problem_segment = place.segment;
		scan->problem_offset = place.offset;
		scan->problem_lsn = scan->end_lsn;
		int status = take_group(scan, place, room);
		if (status == 1)
			return judge(scan);
		if (status < 0)
			return status;
	}
}

static int bad_start(struct log_scan *scan, uint64_t lsn, const char *reason)
{
	scan->problem_offset = LOG_BLOCK_BYTES;
	scan->problem_lsn = lsn;
	scan->reason = reason;
	return -WH_EDAMAGED;
}

/* Where the log begins for whoever reads it, and what stood before. */
static int find_start(struct log_scan *scan)
{
	const struct log_scan_segment *first = &scan->segments[0];
	const struct log_checkpoint_header *checkpoint = scan->checkpoint;
	const struct log_opening *opening = &first->opening;
	scan->chain = scan->cluster;
	scan->rest = scan->from_opening;
	if (!scan->from_opening && !checkpoint)
		return 0;
	uint64_t lsn = checkpoint ? checkpoint->lsn : opening->base_lsn;
	raise_evidence(scan, lsn);
	if (first->opening_state != LOG_GOOD)
		return bad_start(scan, lsn, "the first segment has no opening");
	if (!checkpoint) {
		/* it says itself where the log stood */
		scan->end_lsn = lsn;
		scan->seq = opening->group_seq - 1;
		scan->chain = opening->chain;
		scan->epoch = opening->epoch;
		return 0;
	}
	if (first->number != checkpoint->segment || checkpoint->offset > first->bytes ||
	    lsn - opening->base_lsn != checkpoint->offset - LOG_SEGMENT_HEAD_BYTES)
		return bad_start(scan, lsn, "a segment's opening does not agree with the checkpoint");
	scan->opened = 1;
	scan->end_offset = checkpoint->offset;
	scan->end_lsn = lsn;
	scan->seq = checkpoint->seq;
	scan->chain = checkpoint->chain;
	scan->epoch = checkpoint->epoch;
	return 0;
}

int log_scan_run(struct log_scan *scan)
{
	if (scan->count == 0)
		return -EINVAL;
	scan->evidence_lsn = scan->durable_lsn;
	int status = find_start(scan);
	if (status < 0)
		return status;
	status = window_open(scan);
	if (status < 0)
		return status;
	status = scan_groups(scan);
	held_drop(scan);
	window_close(scan);
	return status;
}
