/* src/log/recover.h -- what the files of a start share. Nobody else includes this.
 *
 * folder.c takes the folder, judge.c says what is in it, cut.c removes what is not to be there, look.c shows it,
 * recover.c goes through these in order. All of it happens once, before the log is there for anybody: it blocks. Thread:
 * the log's loop, outside callbacks.
 */
#ifndef LOG_RECOVER_H
#define LOG_RECOVER_H

#include "log/inside.h"
#include "log/load.h"
#include "log/scan.h"

enum { LOG_COPY_BYTES = 1 << 20 };

/* A segment file as it is found, from the first one that is scanned on. */
struct log_found {
	struct log_segment *segment;
	int direct_fd; /* past the page cache; -1: read through .segment->fd */
	uint64_t size;
	bool unused; /* its identity is not valid, and nothing else is in it: to be made anew */
};

struct log_recovery {
	struct log *log;
	struct log_problem *problem;
	struct wh_names *names;
	struct log_found *found;
	size_t count, files_open;
	struct log_scan scan;
	struct log_manifest as_found;
	/* below the checkpoint: numbers of the files that are there; the segments that it names and that are there */
	uint64_t *lower;
	size_t lower_count;
	struct log_segment **below;
	size_t below_count, below_cap;
	uint64_t missing;                        /* that it names and that are not there */
	struct log_checkpoint_header checkpoint; /* .lsn 0: there is none */
	uint64_t checkpoint_records;
	int checkpoint_fd;
	uint8_t *buffer; /* LOG_COPY_BYTES */
	int64_t told_at;
	uint64_t bytes_read, bytes_all;
};

/* ---- folder.c ---- */
int log_folder_look(struct log *log, struct log_problem *problem); /* of -EBUSY, -ENOENT */
int log_folder_take(struct log *log, struct log_problem *problem);
int log_folder_flush(struct log *log, struct log_problem *problem);
int log_folder_flush_parent(struct log *log, struct log_problem *problem);

/* ---- judge.c: steps 2 to 7; changes nothing but, unless the log only looks, what makes durable ---- */
int log_judge(struct log_recovery *r, bool *ret_found);
/* len bytes, at once or at the end of the file; errors of the disk are tried again */
int64_t log_judge_read(void *arg, size_t index, void *buf, size_t len, uint64_t offset);
int64_t log_judge_fd(struct log_recovery *r, size_t index); /* of the segment, opened if need be */
bool log_name_number(const char *name, const char *before, const char *after, uint64_t *ret);

/* ---- cut.c: step 8, and what an earlier life left ---- */
int log_cut_leftovers(struct log_recovery *r);
int log_cut_tail(struct log_recovery *r);

/* ---- look.c ---- */
int log_show(struct log_recovery *r, struct log_look *look);
int log_show_below(struct log_recovery *r); /* checks what a start does not read */

#endif
