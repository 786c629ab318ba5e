/* src/store/repair.h -- a data folder that does not start any more, or lacks bodies: made one that starts. See log/repair.h for the log's part.
 *
 * Depends on: job, log.  Used by: cli. Thread: the loop's, outside callbacks.
 */
#ifndef STORE_REPAIR_H
#define STORE_REPAIR_H

#include "store/store.h"

enum store_repair_how {
	STORE_REPAIR_SKIP, /* what cannot be read is left out, what is behind it stays */
	STORE_REPAIR_CUT,  /* the log ends where it cannot be read */
};

struct store_repair_result;
struct store_repair_options {
	const char *directory;
	int how;    /* enum store_repair_how */
	bool apply; /* false: find out what it would come to, and change nothing */
	/* not .apply: where the directory cannot be written this folder, which is made and removed again, serves to work in; NULL: it fails then */
	const char *scratch;
	/* each damage that was found: file in the folder, byte in it */
	void (*found)(void *arg, const char *file, uint64_t offset, const char *reason);
	/* each job that is not certain to be as it was: what has become of it. queue may be empty: not known */
	void (*job)(void *arg, uint64_t job, struct store_slice queue, const char *what);
	/* jobs with these ids, until excluded, may have been submitted in what is lost, and nothing else is left of them */
	void (*ids)(void *arg, uint64_t from, uint64_t until);
	/* not .apply: the store as it would be after the repair, to be looked at; what it returns is in .opened */
	int (*open)(void *arg, struct store *store, const struct store_repair_result *result);
	void *arg;
	wh_log_function *log; /* notices */
	void *log_arg;
};

struct store_repair_result {
	uint64_t damages, jobs; /* told to .found, to .job */
	uint64_t lost_bytes;    /* of the log, that cannot be read */
	uint64_t
		lost_from; /* positions from here on of epochs before are answered 410 lost; UINT64_MAX: none */
	uint64_t end_lsn; /* of what is kept */
	uint64_t cut_groups, cut_records,
		cut_to;     /* STORE_REPAIR_CUT: what is cut off and can be read; an lsn */
	uint64_t unfit;     /* records that say something of jobs whose records before were lost: left out */
	uint64_t jobs_kept; /* that are there afterwards */
	bool nothing;       /* there is nothing to be repaired */
	bool resumed; /* an earlier repair was broken off near its end: it has been finished, or would be */
	char refused[256]; /* not empty: it would not be consistent, and is not done; why */
	char kept[64];     /* name of the folder, in the directory, with the files that were replaced */
	uint32_t epoch;    /* of the repair */
	int opened;        /* what .open said */
};

/* store_repair() - 0, with *ret filled in; or negative errno and why in *ret_problem (as store_open()). */
int store_repair(wh_loop *loop, const struct store_repair_options *options, struct store_repair_result *ret,
                 struct store_problem *ret_problem) WH_MUST_USE;

#endif
