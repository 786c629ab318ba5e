/* src/store/repair_inside.h -- what the files of a repair share. Nobody else includes this. See repair.h.
 *
 * repair.c goes from one end to the other, repair_replay.c reads records that may not fit, repair_job.c mends a job whose bodies are lost.
 */
#ifndef STORE_REPAIR_INSIDE_H
#define STORE_REPAIR_INSIDE_H

#include "log/repair.h"
#include "store/inside.h"
#include "store/repair.h"

enum store_named { /* why a job is not certain to be as it was */
	           STORE_NAMED_UNCERTAIN =
	                   1, /* it was unfinished where records are lost, which may have been its */
	           STORE_NAMED_SETTLED = 2,  /* ... but a later one says how it stands */
	           STORE_NAMED_UNFIT = 4,    /* a record of it does not fit what is known of it */
	           STORE_NAMED_PARTIAL = 8,  /* it was written together with what is lost */
	           STORE_NAMED_DROPPED = 16, /* a record of it is behind the cut */
	           STORE_NAMED_LOOK = 32,    /* something that belongs to it may be lost */
	           STORE_NAMED_PAYLOAD = 64, /* the file with its payload is */
	           STORE_NAMED_RESULT = 128, /* the file with its result is */
	           STORE_NAMED_AWAITS = 256, /* a job that it awaits is lost */
};

struct store_named_job {
	uint64_t job; /* 0: the place is free */
	unsigned why;
};

struct store_repair {
	const struct store_repair_options *options;
	struct store_repair_result *result;
	struct log_repair *log;
	struct store *store;
	struct store_named_job *named; /* open addressing */
	size_t named_cap, named_count; /* cap: a power of two */
	int error;                     /* of what cannot say so itself */
	uint64_t gaps, gap_group;      /* groups with LOST records; the last of them */
	uint64_t *group_jobs;          /* named by the records of the present group */
	size_t group_count, group_cap;
	uint64_t group;
	uint64_t ids_from;  /* behind the last gap, as long as no job was submitted there; 0: none */
	bool uncertain_all; /* too many gaps to look at each: what is submitted from now on is uncertain */
	/* repair_job.c */
	uint8_t *parts;
	size_t parts_len, parts_cap;
};

void store_repair_name(struct store_repair *repair, uint64_t job, unsigned why);
/* open.c calls these: a record that was carried out; one that does not fit (0: it does now, or is left out); bytes that are lost. */
void store_repair_fits(struct store_repair *repair, const struct job_record *r,
                       const struct log_record *record);
int store_repair_unfit(struct store_repair *repair, const struct job_record *r,
                       const struct log_record *record);
void store_repair_gap(struct store_repair *repair, const struct log_record *record);
void store_repair_dropped(struct store_repair *repair, const struct job_record *r);
/* At the end of what is read: no id that may have been given in what is lost is given again. */
int store_repair_ids(struct store_repair *repair);
/* Jobs that are unfinished, or have failed, are not certain to be so. */
void store_repair_unfinished(struct store_repair *repair);

/* repair_job.c: what is lost of it is replaced by words. *ret_what: what has become of it, NULL: nothing was lost. */
int store_repair_job(struct store_repair *repair, uint64_t job, unsigned why, const char **ret_what);
/* Set a running job aside, whose end may be lost. */
int store_repair_bury(struct store_repair *repair, uint64_t job);

/* open.c: the store as it is opened for a repair: lenient, and nothing happens by itself. */
int store_open_repair(wh_loop *loop, const struct store_options *options, struct store_repair *repair,
                      struct store **ret, struct store_problem *ret_problem);

#endif
