/* src/cli/import_jobs.h -- `whilst import jobs`, for import.c. */
#ifndef CLI_IMPORT_JOBS_H
#define CLI_IMPORT_JOBS_H

#include <stdbool.h>

/* The lines of `whilst log export` in path, into the data folder. An exit status, said. */
int cli_import_jobs(const char *path, const char *data, bool dry_run);

#endif
