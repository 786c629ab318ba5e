/* src/log/load.h -- the reader of checkpoints.
 *
 * Follows "Reading", step 3, of docs/format-log.md. Reads through a callback, so that it works on files and on images in
 * memory alike; changes nothing. Thread: the caller's; memory: up to 5 MiB while it runs.
 */
#ifndef LOG_LOAD_H
#define LOG_LOAD_H

#include "log/format.h"
#include "log/log.h"

/* len bytes at offset, both multiples of a block. n < len only at the end of the file; negative errno. */
typedef int64_t log_load_read(void *arg, void *buf, size_t len, uint64_t offset);

struct log_load {
	/* in */
	struct log_hash cluster;
	struct log_checkpoint_name name; /* what the manifest says */
	log_load_read *read;
	void *read_arg;
	log_replay_function *replay; /* may be NULL */
	void *replay_arg;
	/* the log's own records; 0 or an error that ends the loading; may be NULL */
	int (*on_epoch)(void *arg, const struct log_manifest_epoch *epoch);
	int (*on_segment)(void *arg, const struct log_segment_record *segment);
	void *own_arg;

	/* out */
	struct log_checkpoint_header header;
	uint64_t records; /* seen, the log's own included */

	/* out, when it failed */
	uint64_t problem_offset;
	const char *reason;

	uint8_t *buffer; /* private */
	uint64_t buffer_offset;
	size_t buffer_len;
};

/* log_load_run() - 0; -WH_EDAMAGED, -ENOTSUP (newer), -ENOMEM, what read said, or what a callback said. */
int log_load_run(struct log_load *load);

#endif
