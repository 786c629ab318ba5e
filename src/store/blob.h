/* src/store/blob.h -- bodies in files of their own: which job names which file, and the files themselves.
 *
 * Used by: src/store, and by cli for looking at a folder. Format: docs/format-records.md. Thread: the loop of the store.
 * The table is pure: records in, files that nobody names any more out.
 */
#ifndef STORE_BLOB_H
#define STORE_BLOB_H

#include "job/record.h"
#include "whilst/whilst.h"

#define STORE_BLOBS_FOLDER "blobs"
enum { STORE_BLOB_NAME_BYTES = 32 };

/* store_blob_name() - "EEEEEEEE-SSSSSSSS.blob", or ".tmp" while it is written. */
void store_blob_name(uint64_t number, bool whole, char to[STORE_BLOB_NAME_BYTES]);
/* store_blob_number() - of a name; 0: it is none. */
uint64_t store_blob_number(const char *name, bool *ret_whole);

struct store_blob_entry {
	uint64_t job; /* 0: the place is free */
	struct job_blob payload, result;
};

/* By job, open addressing. All zero: empty. */
struct store_blob_table {
	struct store_blob_entry *entries;
	size_t cap, count;     /* cap: a power of two */
	uint64_t files, bytes; /* that they name, in all */
};

/* store_blob_compare() - is the file at path what was written? 0; -WH_EDAMAGED; or what the system said, -ENOENT among it. Awaits: outside
 * callbacks. */
int64_t store_blob_compare(wh_loop *loop, const char *path, const struct job_blob *blob);

/* A file that is not needed any more once the record at place is flushed. */
typedef void store_blob_gone_function(void *arg, const struct job_blob *blob, uint64_t place);

/* store_blob_table_room() - for count more jobs, so that records can be applied. 0 or -ENOMEM. */
int store_blob_table_room(struct store_blob_table *table, size_t count);
/* store_blob_table_apply() - needs room for one (BLOBS: for its entries); gone is told of the files of jobs that are forgotten. */
void store_blob_table_apply(struct store_blob_table *table, const struct job_record *record, uint64_t place,
                            store_blob_gone_function *gone, void *arg);
/* store_blob_table_lose() - a job's bodies are not in files any more. */
void store_blob_table_lose(struct store_blob_table *table, uint64_t job, bool payload, bool result);
const struct store_blob_entry *store_blob_table_find(const struct store_blob_table *table, uint64_t job);
void store_blob_table_done(struct store_blob_table *table);

#endif
