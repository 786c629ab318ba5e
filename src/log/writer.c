/* src/log/writer.c -- from records to groups, from groups to the current segment.
 *
 * The open group collects the commits of a turn, or of a whole flush when nobody gains from writing it earlier. Closed
 * groups are written in order by the pump, which runs at the end of the turn. A group whose place is in the next
 * segment waits until everything before it is flushed: that is the roll. Thread: the log's loop.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log/inside.h"

/* ---- buffers ----------------------------------------------------------------------------- */

static struct log_buffer *buffer_make(const struct log *log)
{
	struct log_buffer *buffer = malloc(sizeof(*buffer));
	if (!buffer)
		return NULL;
	buffer->bytes = aligned_alloc(LOG_BLOCK_BYTES, log->group_max);
	if (buffer->bytes)
		return buffer;
	free(buffer);
	return NULL;
}

static struct log_buffer *buffer_new(struct log *log)
{
	struct log_buffer *buffer = log->free_buffers;
	if (!buffer)
		return buffer_make(log);
	log->free_buffers = buffer->next;
	log->free_buffers_count--;
	return buffer;
}

static void buffer_drop(struct log_buffer *buffer)
{
	if (buffer)
		free(buffer->bytes);
	free(buffer);
}

static void buffer_free(struct log *log, struct log_buffer *buffer)
{
	if (log->free_buffers_count >= LOG_BUFFERS_KEPT_MAX) {
		buffer_drop(buffer);
		return;
	}
	buffer->next = log->free_buffers;
	log->free_buffers = buffer;
	log->free_buffers_count++;
}

/* So that nothing can fail within a commit. */
static int buffers_reserve(struct log *log, uint64_t count)
{
	while (log->free_buffers_count < count) {
		struct log_buffer *buffer = buffer_make(log);
		if (!buffer)
			return -ENOMEM;
		buffer->next = log->free_buffers;
		log->free_buffers = buffer;
		log->free_buffers_count++;
	}
	return 0;
}

void log_buffers_free(struct log *log)
{
	struct log_buffer *lists[] = {log->free_buffers, log->pending, log->open};
	if (log->open)
		log->open->next = NULL;
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		for (struct log_buffer *buffer = lists[i], *next; buffer; buffer = next) {
			next = buffer->next;
			buffer_drop(buffer);
		}
}

/* ---- room -------------------------------------------------------------------------------- */

static bool next_counts(const struct log *log)
{
	return log->append_segment == log_current(log) && log->next_state >= LOG_NEXT_ALLOCATED;
}

/* What is left of the segment in which the next group begins, the open one included. */
static uint64_t room_here(const struct log *log)
{
	return log->append_segment ? log->append_segment->bytes - log->append_offset : 0;
}

static uint64_t room_all(const struct log *log)
{
	uint64_t room = room_here(log);
	if (log->open)
		room -= log_round_up(log->open->used, LOG_BLOCK_BYTES);
	return room + (next_counts(log) ? log_segment_room(log->next) : 0);
}

/* What ordinary commits leave as long as it is not certain that there will be another segment. */
static uint64_t ballast(const struct log *log)
{
	if (next_counts(log))
		return 0;
	return log->append_segment ? log_segment_room(log->append_segment) / 2 : 0;
}

uint64_t log_room(const struct log *log)
{
	uint64_t room = room_all(log), kept = ballast(log);
	return log->failed || room < kept ? 0 : room - kept;
}

uint64_t log_record_max(const struct log *log)
{
	return log->group_max - LOG_GROUP_HEADER_BYTES;
}

uint64_t log_transaction_max(const struct log *log)
{
	return log->transaction_max;
}

/* ---- groups ------------------------------------------------------------------------------ */

/* The next group will be the first one of the next segment. */
static void append_to_next(struct log *log)
{
	struct log_segment *next = log->next;
	assert(log->append_segment == log_current(log) && !log->open);
	next->opening = (struct log_opening){
		.number = next->number,
		.base_lsn = log->append_lsn,
		.group_seq = log->seq + 1,
		.epoch = log->chain_epoch,
		.chain = log->chain,
	};
	log->append_segment = next;
	log->append_offset = LOG_SEGMENT_HEAD_BYTES;
}

int log_group_open(struct log *log, struct log_segment *segment)
{
	struct log_buffer *buffer = buffer_new(log);
	uint64_t room = room_here(log);
	if (!buffer)
		return -ENOMEM;
	uint8_t *bytes = buffer->bytes;
	*buffer = (struct log_buffer){
		.segment = segment,
		.lsn = log->append_lsn,
		.used = LOG_GROUP_HEADER_BYTES,
		.limit = room < log->group_max ? (uint32_t)room : log->group_max,
		.bytes = bytes,
	};
	log->open = buffer;
	return 0;
}

/* Into pending, with its header, padding and chain. */
void log_group_close(struct log *log, uint32_t flags)
{
	struct log_buffer *buffer = log->open;
	struct log_group group = {
		.lsn = buffer->lsn,
		.seq = log->seq + 1,
		.durable_lsn = wh_mark_read(log->flushed),
		.group_len = (uint32_t)log_round_up(buffer->used, LOG_BLOCK_BYTES),
		.payload_len = buffer->used - LOG_GROUP_HEADER_BYTES,
		.epoch = log->epoch,
		.flags = flags,
		.record_count = buffer->record_count,
		.wall_time = wh_wall_now(log->loop),
	};
	memset(buffer->bytes + buffer->used, 0, group.group_len - buffer->used);
	log_group_put(buffer->bytes, &group, log->chain, buffer->segment->salt);
	buffer->group_len = group.group_len;
	log->seq = group.seq;
	log->chain = group.chain;
	log->chain_epoch = group.epoch;
	log->append_lsn += group.group_len;
	log->append_offset += group.group_len;
	log->pending_bytes += group.group_len;
	log->stats.groups++;
	log->stats.group_bytes += group.group_len;
	log->stats.padding_bytes += group.group_len - buffer->used;
	if (log->pending_last)
		log->pending_last->next = buffer;
	else
		log->pending = buffer;
	log->pending_last = buffer;
	log->open = NULL;
	log->sealed = flags & LOG_GROUP_SEAL;
	wh_mark_raise(log->appended, log->append_lsn);
}

/* ---- commits ----------------------------------------------------------------------------- */

/* Groups that a transaction of so many bytes may need: two that follow each other hold more than one is large. */
static uint64_t groups_for(const struct log *log, uint64_t bytes)
{
	return 2 * bytes / (log->group_max - LOG_GROUP_HEADER_BYTES) + 2;
}

/* The largest commits: as many groups as it takes, the first one is opened by the first record. */
static int begin_large(struct log *log, uint64_t bytes)
{
	uint64_t groups = groups_for(log, bytes);
	uint64_t need = bytes + groups * (LOG_GROUP_HEADER_BYTES + LOG_BLOCK_BYTES - 1);
	bool fits = room_here(log) >= need || (next_counts(log) && log_segment_room(log->next) >= need);
	if (!fits)
		return log->full ? -ENOSPC : -EAGAIN;
	return buffers_reserve(log, groups);
}

static int begin_group(struct log *log, uint64_t bytes)
{
	uint64_t need = log_round_up(LOG_GROUP_HEADER_BYTES + bytes, LOG_BLOCK_BYTES);
	if (!log->append_segment || room_here(log) < need) {
		if (!next_counts(log) || log_segment_room(log->next) < need)
			return log->full ? -ENOSPC : -EAGAIN;
		append_to_next(log);
	}
	return log_group_open(log, log->append_segment);
}

int log_begin(struct log *log, uint64_t bytes_max, unsigned flags)
{
	assert(!log->in_commit);
	if (log->failed)
		return (int)log->failed;
	if (bytes_max > log->transaction_max)
		return -EMSGSIZE;
	if (log->pending_bytes > log->options.unwritten_bytes_max)
		return -EAGAIN;
	if (!(flags & LOG_ESSENTIAL) && log_room(log) < bytes_max + LOG_BLOCK_BYTES)
		return log->full ? -ENOSPC : -EAGAIN;
	bool large = LOG_GROUP_HEADER_BYTES + bytes_max > log->group_max;
	if (!log->open || large || log->open->used + bytes_max > log->open->limit) {
		if (log->open && log->open->record_count > 0) {
			log_group_close(log, 0);
			log_pump_soon(log);
		} else if (log->open) {
			buffer_free(log, log->open);
			log->open = NULL;
		}
		int status = large ? begin_large(log, bytes_max) : begin_group(log, bytes_max);
		if (status < 0)
			return status;
	}
	log->in_commit = true;
	log->commit_left = bytes_max;
	log->commit_groups = 0;
	return 0;
}

/* A record of a large commit does not fit any more: go on in another group. */
static void next_group(struct log *log, uint64_t bytes)
{
	if (log->open) {
		log_group_close(log, log->commit_groups == 0 ? LOG_GROUP_TX_BEGIN : LOG_GROUP_TX_CONT);
		log->commit_groups++;
	}
	if (!log->append_segment ||
	    room_here(log) < log_round_up(LOG_GROUP_HEADER_BYTES + bytes, LOG_BLOCK_BYTES))
		append_to_next(log);
	int status = log_group_open(log, log->append_segment);
	assert(status == 0); /* reserved */
	(void)status;
}

uint64_t log_record_size(const struct log_append *record)
{
	uint64_t payload = 0;
	for (int i = 0; i < record->payload_count; i++)
		payload += record->payload[i].iov_len;
	return log_record_bytes(record->fixed_bytes, payload);
}

void log_record_gather(uint8_t *to, const struct log_append *record, uint64_t salt, uint64_t place)
{
	uint8_t *at = to + LOG_RECORD_HEADER_BYTES;
	if (record->fixed_bytes > 0)
		memcpy(at, record->fixed, record->fixed_bytes);
	at += record->fixed_bytes;
	for (int i = 0; i < record->payload_count; i++) {
		if (record->payload[i].iov_len > 0)
			memcpy(at, record->payload[i].iov_base, record->payload[i].iov_len);
		at += record->payload[i].iov_len;
	}
	struct log_record_header header = {
		.len = (uint32_t)(at - to),
		.type = record->type,
		.version = record->version,
		.flags = record->flags,
		.fixed_len = record->fixed_bytes,
	};
	memset(at, 0, (size_t)(-header.len & 7));
	log_record_put(to, &header, salt, place);
}

/* log_append() for all types. */
uint64_t log_append_any(struct log *log, const struct log_append *record)
{
	uint64_t bytes = log_record_size(record);
	assert(log->in_commit && bytes <= log->commit_left && bytes <= log_record_max(log));
	log->commit_left -= bytes;
	if (!log->open || log->open->used + bytes > log->open->limit)
		next_group(log, bytes);
	struct log_buffer *buffer = log->open;
	uint64_t location = buffer->lsn + buffer->used;
	log_record_gather(buffer->bytes + buffer->used, record, buffer->segment->salt, location);
	buffer->used += (uint32_t)bytes;
	buffer->record_count++;
	log->stats.records++;
	return location;
}

uint64_t log_append(struct log *log, const struct log_append *record)
{
	assert(record->type >= LOG_TYPE_USER);
	return log_append_any(log, record);
}

struct log_commit log_commit(struct log *log, int level)
{
	struct log_buffer *buffer = log->open;
	struct log_commit commit = {log->append_lsn, level == LOG_ASYNC ? log->written : log->flushed};
	assert(log->in_commit);
	log->in_commit = false;
	if (!buffer || buffer->record_count == 0)
		return commit; /* nothing was appended: what came before is what there is */
	int64_t now = wh_now(log->loop);
	if (level == LOG_ASYNC && log->unflushed_since &&
	    now - log->unflushed_since > log->options.backpressure_ns) {
		level = LOG_LOCAL;
		commit.mark = log->flushed;
	}
	commit.lsn = buffer->lsn + buffer->used;
	wh_mark_raise(log->appended, commit.lsn);
	if (level == LOG_ASYNC) {
		buffer->has_async = true;
		log->async_at = now;
		log->stats.commits_async++;
	} else {
		buffer->local_count++;
		log->local_target = commit.lsn;
		log->stats.commits_local++;
	}
	if (log->commit_groups > 0)
		log_group_close(log, LOG_GROUP_TX_END);
	log_pump_soon(log);
	return commit;
}

/* ---- writing ----------------------------------------------------------------------------- */

/* Go over to the next segment with the group that is its first. -EAGAIN: not yet. */
static int64_t roll(struct log *log, struct log_buffer *group)
{
	struct log_segment *next = log->next;
	assert(group->segment == next);
	if (log->flushing || wh_mark_read(log->flushed) < wh_mark_read(log->written)) {
		log->roll_wanted = true;
		return -EAGAIN;
	}
	if (log->next_state != LOG_NEXT_READY) {
		log_segment_hurry(log);
		return -EAGAIN;
	}
	next->opening.wall_time = wh_wall_now(log->loop);
	log_opening_put(log->opening_block, &next->opening, next->salt);
	struct iovec iov[2] = {{log->opening_block, LOG_BLOCK_BYTES}, {group->bytes, group->group_len}};
	int64_t n = wh_pwritev_blocking(log->loop, next->fd, iov, 2, LOG_BLOCK_BYTES);
	if (n < 0)
		return n;
	if (log_current(log))
		log_current(log)->end_lsn = next->opening.base_lsn;
	int status = log_segments_add(log, next);
	if (status < 0)
		return status;
	log->roll_wanted = false;
	log->next = NULL;
	log->next_state = LOG_NEXT_NONE;
	log->stats.rolls++;
	log_segment_evict(log);
	log_segment_need_next(log);
	if (log->segments_count > 1)
		log_manifest_save_later(log);
	return 0;
}

static int64_t write_group(struct log *log, struct log_buffer *group)
{
	struct log_segment *current = log_current(log);
	if (group->segment != current)
		return roll(log, group);
	return wh_pwrite_blocking(log->loop, current->fd, group->bytes, group->group_len,
	                          LOG_SEGMENT_HEAD_BYTES + group->lsn - current->opening.base_lsn);
}

/* Everything that may be written now, in order. */
void log_write_pending(struct log *log)
{
	while (log->pending && !log->failed) {
		struct log_buffer *group = log->pending;
		int64_t n = write_group(log, group);
		if (n == -EAGAIN)
			return;
		if (n < 0) {
			log_fail(log, n, "cannot write", log->path);
			return;
		}
		log->pending = group->next;
		if (!log->pending)
			log->pending_last = NULL;
		log->pending_bytes -= group->group_len;
		wh_mark_raise(log->written, group->lsn + group->group_len);
		log_flush_noted(log, group);
		buffer_free(log, group);
		log_room_changed(log);
	}
}

/* Is it better to write the open group now than to let more commits join it? */
static bool open_is_due(const struct log *log)
{
	if (!log->open || log->open->record_count == 0 || log->pending)
		return false;
	return !log->flushing || log->open->has_async || log->draining;
}

static void pump(void *arg)
{
	struct log *log = arg;
	log->pump_due = false;
	if (!log_op_end(log) || log->failed || log->closing)
		return;
	log_write_pending(log);
	if (open_is_due(log)) {
		log_group_close(log, 0);
		log_write_pending(log);
	}
	log_flush_if_due(log);
}

static void on_pump_timer(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	log_slot_hold(log, &log->pump_slot);
	pump(log);
}

/* At the end of the turn, when everything that is ready has had its say; without memory for that, in the next one. */
void log_pump_soon(struct log *log)
{
	if (log->pump_due || log->failed)
		return;
	log->pump_due = true;
	if (wh_defer(log->loop, pump, log) == 0) {
		log->ops++;
		return;
	}
	(void)wh_drop(log->pump_slot);
	log_op(log, wh_sleep(log->loop, 0), on_pump_timer);
}
