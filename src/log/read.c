/* src/log/read.c -- records read back by their location.
 *
 * What is not written yet is copied from memory; the rest comes from the segment's file, whose descriptor is opened when
 * it is needed. Whatever comes is believed only after its check, which is bound to its place. Thread: the log's loop.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "log/inside.h"

enum { GUESS_BYTES = 4096 };

/* A read under way; it ends as the result: .data is what the caller gets and frees. */
struct reading {
	struct log_data data;
	struct log *log;
	struct log_segment *segment;
	wh_future promise;
	uint64_t location;
	uint32_t wanted, cap;
	int fd;
	bool own_fd; /* not the segment's: others were quicker to open it */
	uint8_t bytes[];
};

struct log_data *log_data_free(struct log_data *data)
{
	free(data); /* the first member of its reading */
	return NULL;
}

static void dispose(wh_res res, void *arg)
{
	log_data_free(res.ptr);
}

static void fill(struct log_data *data, const struct log_record_header *header, const uint8_t *record)
{
	*data = (struct log_data){
		.type = header->type,
		.version = header->version,
		.flags = header->flags,
		.fixed_bytes = header->fixed_len,
		.payload_bytes = header->len - LOG_RECORD_HEADER_BYTES - header->fixed_len,
		.fixed = record + LOG_RECORD_HEADER_BYTES,
		.payload = record + LOG_RECORD_HEADER_BYTES + header->fixed_len,
	};
}

/* ---- from memory ------------------------------------------------------------------------- */

static const uint8_t *find_in_memory(const struct log *log, uint64_t location, struct log_record_header *ret)
{
	const struct log_buffer *buffer = log->open;
	if (!buffer || location < buffer->lsn)
		for (buffer = log->pending; buffer && location >= buffer->lsn + buffer->used;)
			buffer = buffer->next;
	if (!buffer || location < buffer->lsn + LOG_GROUP_HEADER_BYTES ||
	    location >= buffer->lsn + buffer->used)
		return NULL;
	const uint8_t *record = buffer->bytes + (location - buffer->lsn);
	uint64_t cap = buffer->used - (location - buffer->lsn);
	if (location % 8 != 0 || !log_record_head(record, cap, ret) ||
	    !log_record_check(record, ret->len, buffer->segment->salt, location))
		return NULL;
	return record;
}

bool log_peek(const struct log *log, uint64_t location, struct log_data *ret)
{
	struct log_record_header header;
	const uint8_t *record = find_in_memory(log, location, &header);
	if (record)
		fill(ret, &header, record);
	return record;
}

/* ---- from disk --------------------------------------------------------------------------- */

static void on_own_closed(wh_loop *loop, wh_res res, void *arg)
{
	log_op_end(arg);
}

static void finish(struct reading *reading, int64_t n)
{
	struct log *log = reading->log;
	wh_future promise = reading->promise;
	struct log_segment *segment = reading->segment;
	if (reading->own_fd)
		log_op(log, wh_close(log->loop, reading->fd), on_own_closed);
	if (segment && --segment->reads == 0 && segment->released)
		log_release_go_on(log);
	if (n < 0) {
		free(reading);
		(void)wh_resolve(promise, n, NULL);
	} else if (wh_resolve(promise, n, &reading->data) < 0) {
		free(reading); /* cancelled in the meantime */
	}
}

static void on_read(wh_loop *loop, wh_res res, void *arg);

static void start_read(struct reading *reading)
{
	struct log *log = reading->log;
	uint64_t offset = LOG_SEGMENT_HEAD_BYTES + reading->location - reading->segment->opening.base_lsn;
	uint64_t left = reading->segment->bytes - offset;
	if (reading->wanted > left)
		reading->wanted = (uint32_t)left;
	/* The reading is the argument, and counts as an operation of the log. */
	int status = wh_then(wh_pread_all(log->loop, reading->fd, reading->bytes, reading->wanted, offset),
	                     on_read, reading);
	if (status == 0)
		log->ops++;
	else
		finish(reading, status);
}

/* More than was guessed: once more, with room for all of it. NULL: no memory. */
static struct reading *grow(struct reading *reading, uint32_t len)
{
	struct reading *larger = malloc(sizeof(*larger) + len);
	if (!larger)
		return NULL;
	*larger = *reading;
	larger->wanted = larger->cap = len;
	free(reading);
	return larger;
}

static void on_read(wh_loop *loop, wh_res res, void *arg)
{
	struct reading *reading = arg;
	struct log_record_header header;
	struct log *log = reading->log;
	if (!log_op_end(log)) {
		(void)wh_resolve(reading->promise, -ECANCELED, NULL);
		free(reading);
		return;
	}
	if (res.n < 0 || log->closing) {
		finish(reading, log->closing ? -ECANCELED : res.n);
		return;
	}
	if (res.n < LOG_RECORD_HEADER_BYTES ||
	    !log_record_head(reading->bytes, LOG_GROUP_BYTES_MAX, &header)) {
		finish(reading, -WH_EDAMAGED);
		return;
	}
	if (header.len > (uint64_t)res.n && header.len > reading->cap) {
		struct reading *larger = grow(reading, header.len);
		if (larger)
			start_read(larger);
		else
			finish(reading, -ENOMEM);
		return;
	}
	if (header.len > (uint64_t)res.n || header.type < LOG_TYPE_USER ||
	    !log_record_check(reading->bytes, header.len, reading->segment->salt, reading->location)) {
		finish(reading, -WH_EDAMAGED);
		return;
	}
	fill(&reading->data, &header, reading->bytes);
	finish(reading, reading->data.payload_bytes);
}

static void on_opened(wh_loop *loop, wh_res res, void *arg)
{
	struct reading *reading = arg;
	struct log *log = reading->log;
	if (!log_op_end(log)) {
		(void)wh_resolve(reading->promise, -ECANCELED, NULL);
		free(reading);
		return;
	}
	if (res.n < 0) {
		finish(reading, res.n);
		return;
	}
	reading->fd = (int)res.n;
	if (reading->segment->fd < 0 && !reading->segment->released && !log->closing) {
		log_segment_evict(log);
		reading->segment->fd = reading->fd;
		log->files_open++;
	} else {
		reading->own_fd = true;
	}
	if (log->closing)
		finish(reading, -ECANCELED);
	else
		start_read(reading);
}

static void start(struct reading *reading)
{
	struct log *log = reading->log;
	struct log_segment *segment = reading->segment;
	segment->used = ++log->reads_count;
	segment->reads++;
	if (segment->fd >= 0) {
		reading->fd = segment->fd;
		start_read(reading);
		return;
	}
	char *path = log_path(log, "seg-%016llx.log", (unsigned long long)segment->number);
	/* the last one is written to by the same descriptor */
	int how = log->options.borrowed && segment != log_current(log) ? O_RDONLY : O_RDWR;
	int status = path ? wh_then(wh_open(log->loop, path, how, 0), on_opened, reading) : -ENOMEM;
	free(path);
	if (status == 0)
		log->ops++;
	else
		finish(reading, status);
}

wh_future log_read(struct log *log, uint64_t location, uint64_t record_bytes)
{
	struct log_record_header header = {0};
	const uint8_t *record = find_in_memory(log, location, &header);
	uint64_t written = wh_mark_read(log->written);
	struct log_segment *segment = record ? NULL : log_segment_find(log, location);
	uint64_t cap = record ? header.len : record_bytes ? record_bytes : GUESS_BYTES;
	if (!record && (!segment || location % 8 != 0 || location + LOG_RECORD_HEADER_BYTES > written ||
	                cap > LOG_GROUP_BYTES_MAX))
		return wh_failed(log->loop, -ENOENT);
	struct reading *reading = malloc(sizeof(*reading) + cap);
	if (!reading)
		return wh_failed(log->loop, -ENOMEM);
	*reading = (struct reading){.log = log,
	                            .segment = segment,
	                            .promise = wh_promise(log->loop, dispose, NULL),
	                            .location = location,
	                            .wanted = (uint32_t)cap,
	                            .cap = (uint32_t)cap,
	                            .fd = -1};
	wh_future promise = reading->promise;
	if (record) {
		memcpy(reading->bytes, record, header.len);
		fill(&reading->data, &header, reading->bytes);
		finish(reading, reading->data.payload_bytes);
	} else {
		start(reading);
	}
	return promise;
}
