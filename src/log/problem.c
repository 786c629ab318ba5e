/* src/log/problem.c -- why a log could not be opened, for people.
 *
 * Thread: any.
 */
#include <errno.h>
#include <stdio.h>

#include "log/recover.h"

int log_problem_io(struct log_problem *problem, int64_t error, const char *file, const char *reason)
{
	*problem = (struct log_problem){.kind = LOG_PROBLEM_IO, .error = error, .exit_status = 4};
	snprintf(problem->file, sizeof(problem->file), "%s", file);
	snprintf(problem->reason, sizeof(problem->reason), "%s", reason);
	return (int)error;
}

static int refuse(const struct log *log, struct log_problem *problem, int kind, int error, const char *file,
                  uint64_t offset, const char *reason, const char *advice)
{
	*problem = (struct log_problem){.kind = kind,
	                                .error = error,
	                                .exit_status = kind == LOG_PROBLEM_DAMAGED ? 3 : 4,
	                                .offset = offset};
	snprintf(problem->file, sizeof(problem->file), "%s/%s", log->path, file);
	snprintf(problem->reason, sizeof(problem->reason), "%s", reason);
	snprintf(problem->advice, sizeof(problem->advice), "%s", advice);
	return error;
}

int log_problem_damaged(const struct log *log, struct log_problem *problem, const char *file, uint64_t offset,
                        const char *reason)
{
	return refuse(log, problem, LOG_PROBLEM_DAMAGED, -WH_EDAMAGED, file, offset, reason,
	              "Data that was durable has been lost. Nothing was changed: restore the folder from a "
	              "backup, or see "
	              "what `whilst log repair` would keep of it");
}

int log_problem_newer(const struct log *log, struct log_problem *problem, const char *file, uint64_t offset,
                      const char *reason)
{
	return refuse(
		log, problem, LOG_PROBLEM_VERSION, -ENOTSUP, file, offset, reason,
		"A newer version of whilst wrote it: use that version, or a later one. Nothing was changed");
}

int log_problem_text(const struct log_problem *problem, char *to, size_t cap)
{
	char where[640] = "", range[96] = "", error[96] = "";
	if (problem->file[0] && problem->kind != LOG_PROBLEM_HELD && problem->kind != LOG_PROBLEM_IO)
		snprintf(where, sizeof(where), "%s, byte %llu: ", problem->file,
		         (unsigned long long)problem->offset);
	else if (problem->file[0])
		snprintf(where, sizeof(where), "%s: ", problem->file);
	if (problem->lsn_to > problem->lsn_from)
		snprintf(range, sizeof(range), " (lsn %llu to %llu)", (unsigned long long)problem->lsn_from,
		         (unsigned long long)problem->lsn_to);
	if (problem->kind == LOG_PROBLEM_IO || problem->kind == LOG_PROBLEM_REPLAY)
		snprintf(error, sizeof(error), ": %s", wh_strerror(problem->error));
	return snprintf(to, cap, "%s%s%s%s%s%s", where, problem->reason, range, error,
	                problem->advice[0] ? ". " : "", problem->advice);
}
