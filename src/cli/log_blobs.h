/* src/cli/log_blobs.h -- the files of large bodies that the jobs of a log name, compared with their records. Thread: main. */
#ifndef WH_CLI_LOG_BLOBS_H
#define WH_CLI_LOG_BLOBS_H

#include "store/blob.h"
#include "whilst/whilst.h"

/* All zero to begin with. */
struct log_blobs {
	struct store_blob_table table;
	uint64_t files, bytes, damaged;
	char problem[4400]; /* the first one that is damaged or missing */
};

/* log_blobs_record() - a record of the log, in order. 0 or -ENOMEM. */
int log_blobs_record(struct log_blobs *blobs, const struct job_record *record);
/* log_blobs_check() - read every file that a job names at the end of the log. Synchronous. 0 or -ENOMEM. */
int log_blobs_check(struct log_blobs *blobs, wh_loop *loop, const char *directory);

#endif
