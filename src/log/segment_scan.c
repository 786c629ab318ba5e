/* src/log/segment_scan.c -- one segment's records, read in the background in small pieces, for whoever sorts them out.
 *
 * A window over the file is filled by reads of at most 256 KiB; a group is believed when its header, place, sequence and chain
 * are right; its records are handed over a millisecond at a time. So neither the disk nor the loop is held for long, whatever
 * the size of a group. One scan at a time. Thread: the log's loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "log/inside.h"

enum { PIECE_BYTES = 256 << 10, TURN_NS = 1000000, RECORDS_PER_LOOK = 16 };

struct log_segment_scan {
	struct log *log;
	struct log_segment *segment;
	log_replay_function *each;
	void *arg;
	wh_future promise;
	int fd;
	bool busy, paused;
	/* the window */
	uint8_t *bytes;
	uint64_t offset; /* of it in the file */
	size_t len, cap;
	/* where it stands */
	bool opened;  /* the opening block has been checked */
	uint64_t at;  /* the group's byte in the file */
	uint64_t end; /* the byte after the last group */
	uint64_t seq; /* of the group before */
	uint32_t epoch;
	struct log_hash chain;
	struct log_group group; /* .group_len 0: none */
	uint32_t record;        /* byte of the next one in the group */
	int64_t count;
	/* what may be done in one callback */
	int64_t turn_until;
	uint64_t turn_bytes;
	uint32_t turn_records;
};

static void go_on(struct log_segment_scan *scan);

/* ---- the end ----------------------------------------------------------------------------- */

static void scan_free(struct log_segment_scan *scan)
{
	if (scan)
		free(scan->bytes);
	free(scan);
}

static void on_closed(wh_loop *loop, wh_res res, void *arg)
{
	log_op_end(arg);
}

static void finish(struct log_segment_scan *scan, int64_t n)
{
	struct log *log = scan->log;
	wh_future promise = scan->promise;
	if (scan->fd >= 0)
		log_op(log, wh_close(log->loop, scan->fd), on_closed);
	log->scan = NULL;
	scan_free(scan);
	(void)wh_resolve(promise, n, NULL);
}

static void damaged(struct log_segment_scan *scan, uint64_t offset, const char *reason)
{
	log_notice(scan->log, WH_LOG_ERROR, "%s/seg-%016llx.log, byte %llu: %s", scan->log->path,
	           (unsigned long long)scan->segment->number, (unsigned long long)offset, reason);
	finish(scan, -WH_EDAMAGED);
}

/* Nobody has an operation under way for it any more. */
void log_scan_abandon(struct log *log)
{
	struct log_segment_scan *scan = log->scan;
	if (!scan)
		return;
	if (scan->fd >= 0)
		(void)log_await(wh_close(log->loop, scan->fd));
	log->scan = NULL;
	(void)wh_resolve(scan->promise, -ECANCELED, NULL);
	scan_free(scan);
}

void log_scan_free(struct log *log)
{
	scan_free(log->scan);
	log->scan = NULL;
}

/* ---- the window -------------------------------------------------------------------------- */

static void on_read(wh_loop *loop, wh_res res, void *arg);

static void start(struct log_segment_scan *scan, wh_future f, wh_callback *callback)
{
	scan->busy = true;
	log_op(scan->log, f, callback);
}

/* len bytes at offset, or NULL: they are being read, or the scan has ended. */
static const uint8_t *get(struct log_segment_scan *scan, uint64_t offset, size_t len)
{
	size_t skip = offset - scan->offset;
	if (skip + len <= scan->len)
		return scan->bytes + skip;
	memmove(scan->bytes, scan->bytes + skip, scan->len - skip);
	scan->offset = offset;
	scan->len -= skip;
	if (scan->cap < len + PIECE_BYTES) {
		uint8_t *bytes = realloc(scan->bytes, len + PIECE_BYTES);
		if (!bytes) {
			finish(scan, -ENOMEM);
			return NULL;
		}
		scan->bytes = bytes;
		scan->cap = len + PIECE_BYTES;
	}
	uint64_t from = scan->offset + scan->len, left = scan->end - from;
	size_t want = left < PIECE_BYTES ? left : PIECE_BYTES;
	start(scan, wh_pread_all(scan->log->loop, scan->fd, scan->bytes + scan->len, want, from), on_read);
	return NULL;
}

/* ---- groups ------------------------------------------------------------------------------ */

/* false: it has ended, or waits. */
static bool take_opening(struct log_segment_scan *scan)
{
	struct log_opening opening;
	const uint8_t *bytes = get(scan, LOG_BLOCK_BYTES, LOG_BLOCK_BYTES);
	if (!bytes)
		return false;
	if (log_opening_get(bytes, scan->segment->salt, &opening) != LOG_GOOD ||
	    opening.number != scan->segment->number || opening.base_lsn != scan->segment->opening.base_lsn) {
		damaged(scan, LOG_BLOCK_BYTES, "the segment's opening is damaged");
		return false;
	}
	scan->seq = opening.group_seq - 1;
	scan->epoch = opening.epoch;
	scan->chain = opening.chain;
	scan->at = LOG_SEGMENT_HEAD_BYTES;
	scan->opened = true;
	return true;
}

static bool take_group(struct log_segment_scan *scan)
{
	struct log_group group;
	const uint8_t *bytes = get(scan, scan->at, LOG_BLOCK_BYTES);
	if (!bytes)
		return false;
	uint64_t lsn = scan->segment->opening.base_lsn + scan->at - LOG_SEGMENT_HEAD_BYTES;
	if (log_group_get(bytes, scan->segment->salt, &group) != LOG_GOOD || group.lsn != lsn ||
	    group.seq != scan->seq + 1 || group.epoch < scan->epoch ||
	    group.group_len > scan->end - scan->at) {
		damaged(scan, scan->at, "a group's header is damaged");
		return false;
	}
	bytes = get(scan, scan->at, group.group_len);
	if (!bytes)
		return false;
	if (!log_hash_equal(group.chain, log_group_chain(bytes, group.group_len, scan->chain))) {
		damaged(scan, scan->at, "a group's bytes do not match its chain");
		return false;
	}
	scan->group = group;
	scan->record = LOG_GROUP_HEADER_BYTES;
	return true;
}

/* One record: 0, LOG_SCAN_PAUSE, or the scan has ended. */
static int hand_over(struct log_segment_scan *scan, const uint8_t *bytes)
{
	const struct log_group *group = &scan->group;
	uint32_t at = scan->record, end = LOG_GROUP_HEADER_BYTES + group->payload_len;
	struct log_record_header header;
	if (!log_record_head(bytes + at, end - at, &header) ||
	    !log_record_check(bytes + at, header.len, scan->segment->salt, group->lsn + at)) {
		damaged(scan, scan->at + at, "a record is damaged");
		return -WH_EDAMAGED;
	}
	if (header.type >= LOG_TYPE_USER) {
		const uint8_t *fixed = bytes + at + LOG_RECORD_HEADER_BYTES;
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
			.segment = scan->segment->number,
			.file_offset = scan->at + at,
			.part = group->flags & LOG_GROUP_TX,
		};
		int status = scan->each(scan->arg, &record);
		if (status > 0)
			return LOG_SCAN_PAUSE;
		if (status < 0) {
			finish(scan, status);
			return status;
		}
		scan->count++;
	}
	scan->record += (uint32_t)log_round_up(header.len, 8);
	return 0;
}

static void on_turn(wh_loop *loop, wh_res res, void *arg);

/* false: enough for this callback; the rest comes in the next turn of the loop. */
static bool may_go_on(struct log_segment_scan *scan)
{
	bool look = ++scan->turn_records % RECORDS_PER_LOOK == 0;
	if (scan->turn_bytes < PIECE_BYTES && !(look && wh_clock(scan->log->loop) >= scan->turn_until))
		return true;
	start(scan, wh_sleep(scan->log->loop, 0), on_turn);
	return false;
}

/* Records of the group, as many as may be in one go. true: the group is done. */
static bool hand_over_some(struct log_segment_scan *scan)
{
	const uint8_t *bytes = scan->bytes + (scan->at - scan->offset);
	uint32_t end = LOG_GROUP_HEADER_BYTES + scan->group.payload_len;
	while (scan->record < end) {
		uint32_t before = scan->record;
		int status = hand_over(scan, bytes);
		if (status < 0)
			return false;
		scan->paused = status == LOG_SCAN_PAUSE;
		if (scan->paused)
			return false;
		scan->turn_bytes += scan->record - before;
		if (!may_go_on(scan))
			return false;
	}
	scan->at += scan->group.group_len;
	scan->log->stats.scanned_bytes += scan->group.group_len;
	scan->seq = scan->group.seq;
	scan->epoch = scan->group.epoch;
	scan->chain = scan->group.chain;
	scan->group.group_len = 0;
	return true;
}

static void go_on(struct log_segment_scan *scan)
{
	if (wh_done(scan->promise)) {
		finish(scan, -ECANCELED);
		return;
	}
	scan->turn_until = wh_clock(scan->log->loop) + TURN_NS;
	scan->turn_bytes = 0;
	scan->turn_records = 0;
	if (!scan->opened && !take_opening(scan))
		return;
	do {
		if (scan->group.group_len == 0 && scan->at == scan->end) {
			finish(scan, scan->count);
			return;
		}
		if (scan->group.group_len == 0 && !take_group(scan))
			return;
	} while (hand_over_some(scan));
}

static void on_turn(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	log->scan->busy = false;
	if (!log->closing)
		go_on(log->scan);
}

static void on_read(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	struct log_segment_scan *scan = log->scan;
	scan->busy = false;
	if (log->closing)
		return;
	if (res.n < 0)
		finish(scan, res.n);
	else if (res.n == 0)
		damaged(scan, scan->offset + scan->len, "the segment is too short");
	else {
		scan->len += (size_t)res.n;
		go_on(scan);
	}
}

static void on_opened(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	log->scan->busy = false;
	if (res.n >= 0)
		log->scan->fd = (int)res.n;
	if (log->closing)
		return;
	if (res.n == -ENOENT)
		damaged(log->scan, 0, "the segment is missing");
	else if (res.n < 0)
		finish(log->scan, res.n);
	else
		go_on(log->scan);
}

/* ---- for its owner ----------------------------------------------------------------------- */

/* One that nobody waits for any more, and that would not find out because it is paused. */
static void reap(struct log *log)
{
	if (log->scan && log->scan->paused && wh_done(log->scan->promise))
		finish(log->scan, -ECANCELED);
}

bool log_scan_is_of(struct log *log, const struct log_segment *segment)
{
	reap(log);
	return log->scan && log->scan->segment == segment;
}

wh_future log_segment_scan(struct log *log, uint64_t number, log_replay_function *each, void *arg)
{
	struct log_segment *segment = log_segment_by_number(log, number);
	reap(log);
	if (log->failed || !segment || segment->end_lsn == 0 || log->scan)
		return wh_failed(log->loop, log->failed ? log->failed : log->scan ? -EBUSY : -ENOENT);
	char *path = log_path(log, "seg-%016llx.log", (unsigned long long)number);
	struct log_segment_scan *scan = calloc(1, sizeof(*scan));
	if (scan)
		scan->bytes = malloc(2 * PIECE_BYTES);
	if (!path || !scan || !scan->bytes) {
		free(path);
		scan_free(scan);
		return wh_failed(log->loop, -ENOMEM);
	}
	*scan = (struct log_segment_scan){
		.log = log,
		.segment = segment,
		.each = each,
		.arg = arg,
		.promise = wh_promise(log->loop, NULL, NULL),
		.fd = -1,
		.bytes = scan->bytes,
		.cap = 2 * PIECE_BYTES,
		.offset = LOG_BLOCK_BYTES,
		.end = LOG_SEGMENT_HEAD_BYTES + segment->end_lsn - segment->opening.base_lsn,
	};
	wh_future promise = scan->promise;
	log->scan = scan;
	start(scan, wh_open(log->loop, path, O_RDONLY, 0), on_opened);
	free(path);
	return promise;
}

void log_segment_scan_resume(struct log *log)
{
	struct log_segment_scan *scan = log->scan;
	if (!scan || !scan->paused || scan->busy || log->closing)
		return;
	scan->paused = false;
	start(scan, wh_sleep(log->loop, 0), on_turn);
}
