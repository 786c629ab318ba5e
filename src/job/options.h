/* src/job/options.h -- the options of SUBMIT and QUEUE records: what most of them do not say. Used by: src/job only.
 *
 * A new option is a tag, a line in job_options_put() and one in the reader, both in options.c.
 */
#ifndef JOB_OPTIONS_H
#define JOB_OPTIONS_H

#include "job/record.h"

/* job_options_put() - write them; to NULL: only count. Their bytes; 0 for other types of records. */
size_t job_options_put(const struct job_record *r, uint8_t *to);

/* job_options_get() - false: not options of this version. r->type decides whose they are. */
bool job_options_get(const uint8_t *at, size_t len, struct job_record *r);

#endif
