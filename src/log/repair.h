/* src/log/repair.h -- a log that does not start any more, built again beside itself out of what can be read.
 *
 *     log_repair_build()    a folder DIR/repairing.tmp (or elsewhere, to look at one that cannot be written) with a log that starts: files that are whole are linked, others made anew
 *     ...                   whoever knows what the records mean opens it, puts it in order, writes a checkpoint, closes it
 *     log_repair_swap()     it takes the place of the old one, whose replaced files go to DIR/repaired-EPOCH
 *  or log_repair_discard()  nothing has happened
 *
 * Nothing of DIR changes before the swap. A crash within the swap leaves a folder that does not start, until the next repair goes on with
 * it. The folder is locked in the meantime. Used by: store. Thread: the loop's, outside callbacks; memory: that of a segment.
 */
#ifndef LOG_REPAIR_H
#define LOG_REPAIR_H

#include "log/log.h"

typedef void log_repair_found(void *arg, const char *file, uint64_t offset, const char *reason);

struct log_repair_options {
	const char *path;
	bool cut; /* end the log at the first byte behind the checkpoint that cannot be read; else go on behind it */
	const char *
		scratch; /* not NULL: it is only to be looked at, never swapped; where the folder cannot be written, the new log is built
				in this one, which is made, and its files that need no change are symbolic links */
	log_repair_found *found;      /* each damage, once */
	log_replay_function *dropped; /* .cut: each record that can be read behind the cut */
	void *arg;
	wh_log_function *notice;
	void *notice_arg;
};

struct log_repair_range {
	uint64_t from, to; /* lsn */
};

struct log_repair; /* the work */

struct log_repair_result {
	const char *folder;     /* of the new log */
	uint64_t damages;       /* told to .found */
	uint64_t segment_bytes; /* of a segment of it */
	uint64_t end_lsn;       /* of the new log */
	uint64_t lost_from; /* what was promised from here on is not certain; UINT64_MAX: nothing is lost */
	const struct log_repair_range *lost; /* that cannot be read, in the order in which they were found */
	size_t lost_count;
	uint64_t lost_bytes;
	bool ends_early; /* something behind the end is lost */
	uint64_t
		gone_bytes; /* of the log that was, and is not in the new one: .lost_bytes, and what is cut off */
	uint64_t dropped_groups, dropped_records, dropped_to; /* .cut; the last one an lsn */
};

/* log_repair_build() - 0; -WH_EDAMAGED: it cannot be built, *ret_problem says why; -EINPROGRESS: an earlier swap was broken off, and
 * log_repair_resume() is to be called; or as log_open(). */
int log_repair_build(wh_loop *loop, const struct log_repair_options *options, struct log_repair **ret,
                     struct log_problem *ret_problem) WH_MUST_USE;
const struct log_repair_result *log_repair_result(const struct log_repair *repair);
bool log_repair_is_lost(const struct log_repair *repair, uint64_t lsn);

/* log_repair_records() - every record of the segments in the new folder. */
int log_repair_records(struct log_repair *repair, log_replay_function *each, void *arg);

/* log_repair_swap() - blobs: names in DIR/blobs that go aside as well, a line each; report: what becomes report.txt there. kept: the name of
 * the folder with what was replaced. The work is gone. */
int log_repair_swap(struct log_repair *repair, uint32_t epoch, const char *blobs, const char *report,
                    char *ret_kept, size_t cap);
struct log_repair *log_repair_discard(struct log_repair *repair); /* NULL; accepts NULL */

/* log_repair_resume() - finish the swap that was broken off. */
int log_repair_resume(wh_loop *loop, const char *path, char *ret_kept, size_t cap,
                      struct log_problem *ret_problem);

#endif
