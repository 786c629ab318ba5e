/* src/log/scan.h -- the reader: all groups in order, and what the place where they end means.
 *
 * Follows "Reading", steps 6 and 7, of docs/format-log.md. Reads through a callback, so that it works on files and
 * on images in memory alike; changes nothing. Thread: the caller's; memory: up to 5 MiB while it runs, and what an
 * unfinished transaction holds.
 */
#ifndef LOG_SCAN_H
#define LOG_SCAN_H

#include "log/format.h"
#include "log/log.h"

struct log_scan_segment {
	/* in: of an identity that is good */
	uint64_t number, salt, bytes;
	int opening_state; /* enum log_verdict; whoever fills this in has compared its number */
	struct log_opening opening;
	/* out: bytes behind the end of the log that are not zero, in whole blocks; equal: none, or not looked for */
	uint64_t dirty_from, dirty_to;
};

/* len bytes of the segment (an index) at offset, both multiples of a block, to a buffer aligned to a block. n < len only
 * at the end of the file; negative errno. */
typedef int64_t log_scan_read(void *arg, size_t segment, void *buf, size_t len, uint64_t offset);
typedef int log_scan_epoch(void *arg, const struct log_manifest_epoch *epoch);

struct log_scan {
	/* in */
	struct log_scan_segment *segments;
	size_t count;
	struct log_hash cluster;
	uint64_t durable_lsn; /* what the manifests say */
	bool clean;           /* the manifest says that the log ends there: a blank end is believed */
	/* where to begin: at the log's beginning, at a checkpoint (not NULL), or at what the first segment's opening says */
	const struct log_checkpoint_header *checkpoint;
	bool from_opening;
	log_scan_read *read;
	void *read_arg;
	log_replay_function *replay; /* may be NULL */
	void *replay_arg;
	log_scan_epoch *on_epoch; /* may be NULL; 0 or an error that ends the scan */
	void *epoch_arg;

	/* out, of the end */
	size_t opened; /* segments in use: the end is in the last one of these; 0: an empty log */
	uint64_t end_lsn;
	uint64_t end_offset; /* in that segment */
	uint64_t seq;        /* of the last group, 0: none */
	uint32_t epoch;      /* of the last group */
	struct log_hash chain;
	uint64_t records, bytes; /* seen */
	bool torn;               /* something was behind the end */

	/* out, when it failed: where and why; E is known for damage only */
	size_t problem_segment;
	uint64_t problem_offset, problem_lsn, evidence_lsn;
	const char *reason;

	struct log_scan_window *window; /* private */
	bool rest; /* .from_opening: what came so far is the rest of a transaction that began before */
	struct log_scan_held *held, *held_last;
	uint64_t held_bytes;
};

/* log_scan_run() - 0; -WH_EDAMAGED, -ENOTSUP (newer), -ENOMEM, what read said, or what replay or on_epoch said. */
int log_scan_run(struct log_scan *scan);

#endif
