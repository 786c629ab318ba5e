/* src/cli/binlog.h -- the binlog of beanstalkd, read: what jobs does it leave?
 *
 * Formats 7 (since 1.5) and 5 (1.4.x) of x86-64 and other 64-bit little-endian machines. The files have no checksums, so only
 * what cannot be is noticed; nothing is guessed. Pure: bytes are the caller's and must stay; no I/O.
 */
#ifndef WH_CLI_BINLOG_H
#define WH_CLI_BINLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum binlog_state { BINLOG_READY = 1, BINLOG_RESERVED = 2, BINLOG_BURIED = 3, BINLOG_DELAYED = 4 };

struct binlog_job {
	uint64_t id;
	const char *tube, *body; /* body without its CR LF */
	uint32_t tube_len, body_len;
	uint32_t priority;
	int state; /* enum binlog_state; reserved ones count as ready; 0: deleted */
	int64_t ttr_ns;
	int64_t deadline_ns; /* delayed: wall clock at which it is ready */
};

/* A place where a file is not what it should be. */
struct binlog_problem {
	bool torn; /* the last file ends within a record: what a crash leaves */
	size_t offset;
	char text[160];
};

struct binlog {
	struct binlog_job *jobs; /* in the order in which they were first seen */
	size_t count, cap, alive;
	uint32_t *index; /* by id: place in jobs + 1 */
	size_t index_cap;
	uint64_t records;
};

/* binlog_read() - take over the records of one file, oldest file first; last: there is no later one. 0; -ENOMEM; or
 * -EPROTO with *ret_problem: what stands before it has been taken over, the rest of the file was not looked at. */
int binlog_read(struct binlog *binlog, const uint8_t *bytes, size_t len, bool last,
                struct binlog_problem *ret_problem);

/* binlog_sort() - jobs by id, deleted ones left out; nothing can be read after it. */
void binlog_sort(struct binlog *binlog);
void binlog_done(struct binlog *binlog);

#endif
