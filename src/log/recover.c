/* src/log/recover.c -- from a folder to a log that can go on: docs/format-log.md, "Reading".
 *
 * Everything here happens once, before the log is there for anybody: it blocks. Nothing is changed in the folder
 * before all of it has been judged. Thread: the log's loop, outside callbacks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log/recover.h"

/* What the scan found becomes the state of the log. */
static int take_over(struct log_recovery *r)
{
	struct log *log = r->log;
	const struct log_scan *scan = &r->scan;
	log->spares = calloc(r->count + 1, sizeof(struct log_segment *));
	if (!log->spares)
		return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
	for (size_t i = 0; i < r->below_count; i++) {
		if (log_segments_add(log, r->below[i]) < 0)
			return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
		log->disk_bytes += r->below[i]->bytes;
		r->below[i] = NULL;
	}
	for (size_t i = 0; i < scan->count; i++) {
		struct log_segment *segment = r->found[i].segment;
		if (i < scan->opened && log_segments_add(log, segment) < 0)
			return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
		if (i + 1 < scan->opened)
			segment->end_lsn = scan->segments[i + 1].opening.base_lsn;
		if (i >= scan->opened)
			log->spares[log->spares_count++] = segment;
		r->found[i].segment = NULL;
		log->files_open += segment->fd >= 0;
		log->disk_bytes += segment->bytes;
		if (i + 1 >= scan->opened && segment->bytes - LOG_SEGMENT_HEAD_BYTES < log->group_max)
			log->group_max = (uint32_t)(segment->bytes - LOG_SEGMENT_HEAD_BYTES);
	}
	for (uint32_t i = 0; i < r->as_found.epoch_count; i++) {
		const struct log_manifest_epoch *epoch = &r->as_found.epochs[i];
		if (log_epoch_add(log, epoch->epoch, epoch->reason, epoch->start) < 0)
			return log_problem_io(r->problem, -ENOMEM, log->path, "no memory");
	}
	log->epoch = log->manifest.epoch > scan->epoch ? log->manifest.epoch : scan->epoch;
	log->append_segment = log_current(log);
	log->append_offset = scan->opened > 0 ? scan->end_offset : LOG_SEGMENT_HEAD_BYTES;
	log->append_lsn = scan->end_lsn;
	log->seq = scan->seq;
	log->chain = scan->chain;
	log->chain_epoch = scan->epoch;
	log->transaction_max = log->options.segment_bytes / 2;
	if (log->transaction_max > LOG_TRANSACTION_BYTES_MAX)
		log->transaction_max = LOG_TRANSACTION_BYTES_MAX;
	if (log->transaction_max < log_record_max(log))
		log->transaction_max = log_record_max(log);
	log->stats.replayed_records = scan->records;
	log->stats.replayed_bytes = scan->bytes;
	wh_mark_raise(log->appended, scan->end_lsn);
	wh_mark_raise(log->written, scan->end_lsn);
	wh_mark_raise(log->flushed, scan->end_lsn);
	return 0;
}

static int recover(struct log_recovery *r)
{
	bool found = false;
	int status = log_judge(r, &found);
	if (status == 0)
		status = log_cut_leftovers(r);
	if (status == 0)
		status = log_cut_tail(r);
	if (status == 0)
		status = take_over(r);
	return status;
}

static int look_over(struct log_recovery *r, struct log_look *look)
{
	bool found = false;
	int status = log_judge(r, &found), shown = found ? log_show(r, look) : 0;
	status = status < 0 ? status : shown;
	return status < 0 ? status : log_show_below(r);
}

/* ---- enter ------------------------------------------------------------------------------- */

static int with_recovery(struct log *log, struct log_look *look, struct log_problem *problem)
{
	struct log_recovery *r = calloc(1, sizeof(*r));
	int status = -ENOMEM;
	if (r) {
		r->log = log;
		r->problem = problem;
		r->checkpoint_fd = -1;
		r->told_at = wh_clock(log->loop);
		r->buffer = aligned_alloc(LOG_BLOCK_BYTES, LOG_COPY_BYTES);
	}
	if (!r || !r->buffer)
		log_problem_io(problem, status, log->path, "no memory");
	else if (!look)
		status = recover(r);
	else
		status = look_over(r, look);
	for (size_t i = 0; r && i < r->count; i++) {
		if (r->found[i].direct_fd >= 0)
			(void)log_await(wh_close(log->loop, r->found[i].direct_fd));
		if (r->found[i].segment && r->found[i].segment->fd >= 0)
			(void)log_await(wh_close(log->loop, r->found[i].segment->fd));
		log_segment_free(r->found[i].segment);
	}
	for (size_t i = 0; r && i < r->below_count; i++)
		log_segment_free(r->below[i]);
	if (r && r->checkpoint_fd >= 0)
		(void)log_await(wh_close(log->loop, r->checkpoint_fd));
	if (r) {
		free(r->found);
		free(r->lower);
		free(r->below);
		free(r->scan.segments);
		wh_names_free(r->names);
		free(r->buffer);
	}
	free(r);
	return status;
}

int log_recover(struct log *log, struct log_problem *problem)
{
	return with_recovery(log, NULL, problem);
}

int log_look_over(struct log *log, struct log_look *look, struct log_problem *problem)
{
	return with_recovery(log, look, problem);
}
