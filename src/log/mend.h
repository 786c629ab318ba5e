/* src/log/mend.h -- one segment that is damaged, made readable again in memory.
 *
 * What is whole stays where it is, byte for byte but for sequence and chain. Of what is not, those records stay that carry a right
 * check, at their places; LOST records fill the rest. Pure: no I/O. Thread: the caller's; memory: that of a group.
 */
#ifndef LOG_MEND_H
#define LOG_MEND_H

#include "log/format.h"
#include "log/log.h"

/* What stands behind the range that is mended, as far as it can be read. */
struct log_mend_after {
	bool known;
	bool begins_epoch; /* its first record is an EPOCH */
	uint32_t epoch, flags;
};

/* Bytes from .. to of the log cannot be read; offset is where in the file. from = to: something was wrong here, and what of it is lost is
 * told next, if anything is. */
typedef void log_mend_lost(void *arg, uint64_t from, uint64_t to, uint64_t offset, const char *reason);

struct log_mend {
	/* in */
	uint8_t *bytes; /* of the file, all of it; changed in place */
	uint64_t size, salt, base_lsn;
	uint64_t limit;    /* lsn at which these groups end for certain; UINT64_MAX: where they cease, ... */
	uint64_t evidence; /* ... but everything below this was there once */
	bool stop;         /* at the first byte that cannot be read: leave the rest as it is */
	struct log_mend_after after;
	log_mend_lost *lost;
	void *lost_arg;

	/* in, and out: the state of the log where it begins, and where it ends */
	uint64_t lsn;
	uint64_t seq;
	uint32_t epoch;
	struct log_hash chain; /* as it is from now on */
	struct log_hash old;   /* as the file has it; with .old_known only */
	bool old_known;
	bool in_transaction;
	uint64_t transaction_lsn; /* where it began */
	bool rest;                /* it may begin with the rest of one that began before */

	/* out */
	bool changed;
	bool stopped;             /* with .stop */
	uint64_t groups, records; /* kept */
	uint64_t lost_bytes;

	uint8_t *group; /* private */
};

/* log_mend_run() - from .lsn on. 0; -ENOMEM; -ENOTSUP: a group of a later version. */
int log_mend_run(struct log_mend *mend);

/* log_mend_first() - the first group header at or behind a byte of the file that is right in itself and stands where it says,
 * base_lsn being what it makes it (*ret_base). false: there is none. */
bool log_mend_first(const uint8_t *bytes, uint64_t size, uint64_t salt, uint64_t offset,
                    struct log_group *ret, uint64_t *ret_base);

/* log_mend_begins_epoch() - does the group with this lsn begin with an EPOCH record that can be read? */
bool log_mend_begins_epoch(const struct log_mend *mend, uint64_t lsn);

/* log_mend_records() - each record that can be read in a segment from a byte of the file on, wherever it stands; each() ends it
 * by a negative result. number is for each() only. */
int log_mend_records(const uint8_t *bytes, uint64_t size, uint64_t salt, uint64_t number, uint64_t base_lsn,
                     uint64_t offset, log_replay_function *each, void *arg, uint64_t *ret_groups);

#endif
