/* src/log/folder.c -- the folder of a log: making it, its lock, making its names durable.
 *
 * Thread: the log's loop, outside callbacks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/recover.h"

/* Who we are, for whoever finds the folder locked: the number at the start of our own line in /proc. */
static size_t own_pid(struct log *log, char *to, size_t cap)
{
	char line[32] = "";
	int64_t fd = log_await(wh_open(log->loop, "/proc/self/stat", O_RDONLY, 0));
	if (fd < 0)
		return 0;
	int64_t n = wh_pread_blocking(log->loop, (int)fd, line, sizeof(line) - 1, 0);
	(void)log_await(wh_close(log->loop, (int)fd));
	size_t digits = n > 0 ? strspn(line, "0123456789") : 0;
	return (size_t)snprintf(to, cap, "%.*s\n", (int)digits, line);
}

static int refuse_held(struct log *log, struct log_problem *problem)
{
	char line[32] = "";
	int64_t n = wh_pread_blocking(log->loop, log->lock_fd, line, sizeof(line) - 1, 0);
	size_t digits = n > 0 ? strspn(line, "0123456789") : 0;
	*problem = (struct log_problem){.kind = LOG_PROBLEM_HELD, .error = -EBUSY, .exit_status = 4};
	snprintf(problem->file, sizeof(problem->file), "%s", log->path);
	if (digits > 0)
		snprintf(problem->reason, sizeof(problem->reason),
		         "the folder is in use by another server (process %.*s)", (int)digits, line);
	else
		snprintf(problem->reason, sizeof(problem->reason), "the folder is in use by another server");
	snprintf(problem->advice, sizeof(problem->advice), "Stop that one, or use another folder");
	return -EBUSY;
}

/* The same for looking: the folder must be there, and its lock may be missing (a copy, perhaps). */
int log_folder_look(struct log *log, struct log_problem *problem)
{
	int64_t n = log_await(wh_open(log->loop, log->path, O_RDONLY | O_DIRECTORY, 0));
	if (n < 0)
		return log_problem_io(problem, n, log->path, "cannot open the folder");
	log->directory_fd = (int)n;
	char *path = log_path(log, "LOCK");
	n = path ? log_await(wh_open(log->loop, path, O_RDONLY, 0)) : -ENOMEM;
	free(path);
	if (n == -ENOENT)
		return 0;
	if (n >= 0) {
		log->lock_fd = (int)n;
		n = log_await(wh_lock(log->loop, log->lock_fd));
	}
	if (n == -EAGAIN)
		return refuse_held(log, problem);
	return n < 0 ? log_problem_io(problem, n, log->path, "cannot lock the folder") : 0;
}

int log_folder_take(struct log *log, struct log_problem *problem)
{
	char pid[32];
	int64_t n = log_await(wh_mkdir(log->loop, log->path, 0700));
	if (n < 0 && n != -EEXIST)
		return log_problem_io(problem, n, log->path, "cannot make the folder");
	n = log_await(wh_open(log->loop, log->path, O_RDONLY | O_DIRECTORY, 0));
	if (n < 0)
		return log_problem_io(problem, n, log->path, "cannot open the folder");
	log->directory_fd = (int)n;
	char *path = log_path(log, "LOCK");
	n = path ? log_await(wh_open(log->loop, path, O_RDWR | O_CREAT, 0600)) : -ENOMEM;
	free(path);
	if (n < 0)
		return log_problem_io(problem, n, log->path, "cannot open the folder's lock");
	log->lock_fd = (int)n;
	n = log_await(wh_lock(log->loop, log->lock_fd));
	if (n == -EAGAIN)
		return refuse_held(log, problem);
	if (n < 0)
		return log_problem_io(problem, n, log->path, "cannot lock the folder");
	size_t len = own_pid(log, pid, sizeof(pid));
	n = log_await(wh_truncate(log->loop, log->lock_fd, 0));
	if (n >= 0 && len > 0)
		n = wh_pwrite_blocking(log->loop, log->lock_fd, pid, len, 0);
	if (n == -ENOSPC)
		n = 0; /* only a courtesy */
	return n < 0 ? log_problem_io(problem, n, log->path, "cannot write the folder's lock") : 0;
}

int log_folder_flush(struct log *log, struct log_problem *problem)
{
	int64_t n = wh_fsync_blocking(log->loop, log->directory_fd, false);
	return n < 0 ? log_problem_io(problem, n, log->path, "cannot flush the folder") : 0;
}

/* A folder that is just being made may vanish with everything in it, until the folder that names it is flushed. Done
 * whenever there is no log yet, whoever made the folder: a start that was killed may have left it. */
int log_folder_flush_parent(struct log *log, struct log_problem *problem)
{
	char *path = log_path(log, "..");
	int64_t n = path ? log_await(wh_open(log->loop, path, O_RDONLY | O_DIRECTORY, 0)) : -ENOMEM;
	free(path);
	if (n == -EACCES) {
		log_notice(log, WH_LOG_WARNING,
		           "%s: the folder above cannot be opened, so the name of this one may not be on "
		           "disk yet",
		           log->path);
		return 0;
	}
	if (n >= 0) {
		int fd = (int)n;
		n = wh_fsync_blocking(log->loop, fd, false);
		(void)log_await(wh_close(log->loop, fd));
	}
	return n < 0 ? log_problem_io(problem, n, log->path, "cannot flush the folder above") : 0;
}
