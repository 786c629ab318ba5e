/* src/log/repair_swap.c -- the folder in which a log is built again, and how it takes the place of the old one. See repair.h.
 *
 * The swap is a row of steps of which each can be done again: the manifests go first, so that nothing in between starts, and come
 * last. A file that is replaced gets its second name in DIR/repaired-EPOCH before its first one is another's. Thread: the log's loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/repair_inside.h"

#define KEPT_PREFIX  "repaired-"
#define READY_SUFFIX ".new"

enum { KEPT_BYTES = 64, LINE_BYTES = 128 };

static const char blobs_list[] = "blobs.txt", files_list[] = "files.txt", report_name[] = "report.txt";

struct swap {
	struct log *log;
	char kept[KEPT_BYTES], ready[KEPT_BYTES + sizeof(READY_SUFFIX)]; /* names in the folder */
};

static char *path_in(const struct log *log, const char *folder, const char *name)
{
	return log_path(log, "%s/%s", folder, name);
}

static int64_t flush_folder(struct log *log, const char *folder)
{
	char *path = log_path(log, "%s", folder);
	int64_t n = path ? log_await(wh_open(log->loop, path, O_RDONLY | O_DIRECTORY, 0)) : -ENOMEM;
	free(path);
	if (n < 0)
		return n;
	int fd = (int)n;
	n = wh_fsync_blocking(log->loop, fd, false);
	(void)log_await(wh_close(log->loop, fd));
	return n;
}

/* All that is in it, and in its one folder of bodies, which is empty but for what a start makes. */
static int64_t remove_folder(struct log *log, const char *path)
{
	wh_res res = wh_await(wh_list(log->loop, path));
	struct wh_names *names = res.n >= 0 ? res.ptr : NULL;
	int64_t n = res.n == -ENOENT ? 0 : res.n < 0 ? res.n : 0;
	for (size_t i = 0; names && i < names->count && n >= 0; i++) {
		size_t size = strlen(path) + strlen(names->names[i]) + 2;
		char *file = malloc(size);
		if (file)
			snprintf(file, size, "%s/%s", path, names->names[i]);
		n = file ? log_await(wh_unlink(log->loop, file)) : -ENOMEM;
		if (n == -EISDIR || n == -EPERM)
			n = log_await(wh_rmdir(log->loop, file));
		free(file);
	}
	if (names && n >= 0)
		n = log_await(wh_rmdir(log->loop, path));
	wh_names_free(names);
	return n;
}

static bool is_forbidden(int64_t error)
{
	return error == -EROFS || error == -EACCES || error == -EPERM;
}

int log_repair_take(struct log_repair *r)
{
	struct log *log = r->log;
	int status = log_folder_take(log, r->problem);
	if (!r->options.scratch || !is_forbidden(status))
		return status;
	/* nobody can write there: a lock for reading will do */
	if (log->directory_fd >= 0)
		(void)log_await(wh_close(log->loop, log->directory_fd));
	if (log->lock_fd >= 0)
		(void)log_await(wh_close(log->loop, log->lock_fd));
	log->directory_fd = log->lock_fd = -1;
	return log_folder_look(log, r->problem);
}

/* Where the folder cannot be written. */
static int64_t make_elsewhere(struct log_repair *r)
{
	char *folder = strdup(r->options.scratch);
	r->real = malloc(PATH_MAX);
	if (!folder || !r->real) {
		free(folder);
		return -ENOMEM;
	}
	free(r->folder);
	r->result.folder = r->folder = folder;
	int64_t n = log_await(wh_realpath(r->log->loop, r->log->path, r->real, PATH_MAX));
	return n < 0 ? n : log_await(wh_mkdir(r->log->loop, r->folder, 0700));
}

int log_repair_folder_make(struct log_repair *r)
{
	int64_t n = remove_folder(r->log, r->folder);
	if (n >= 0)
		n = log_await(wh_mkdir(r->log->loop, r->folder, 0700));
	if (r->options.scratch && is_forbidden(n))
		n = make_elsewhere(r);
	r->made = n >= 0;
	return n < 0 ? log_problem_io(r->problem, n, r->folder, "cannot make the folder of the repair") : 0;
}

static bool is_ready(const char *name)
{
	size_t len = strlen(name), prefix = sizeof(KEPT_PREFIX) - 1, suffix = sizeof(READY_SUFFIX) - 1;
	return len > prefix + suffix && len < KEPT_BYTES && strncmp(name, KEPT_PREFIX, prefix) == 0 &&
	       strcmp(name + len - suffix, READY_SUFFIX) == 0;
}

int log_repair_unfinished(struct log_repair *r)
{
	for (size_t i = 0; i < r->names->count; i++)
		if (is_ready(r->names->names[i]))
			return log_problem_io(
				r->problem, -EINPROGRESS, r->log->path,
				"an earlier repair was broken off when its files took the place of "
				"the old ones");
	return 0;
}

/* ---- the swap ---------------------------------------------------------------------------- */

static bool same_file(struct log *log, const char *a, const char *b)
{
	struct wh_stat x, y;
	return log_await(wh_stat(log->loop, a, &x)) == 0 && log_await(wh_stat(log->loop, b, &y)) == 0 &&
	       x.inode == y.inode && x.device == y.device;
}

/* The file has a name among what is kept. */
static int64_t keep_aside(struct swap *s, const char *name)
{
	char *from = log_path(s->log, "%s", name), *to = path_in(s->log, s->kept, name);
	int64_t n = from && to ? log_await(wh_link(s->log->loop, from, to)) : -ENOMEM;
	if (n == -EPERM || n == -EOPNOTSUPP || n == -ENOSYS || n == -EMLINK)
		n = log_await(wh_copy_file(s->log->loop, from, to, false));
	free(from);
	free(to);
	return n == -EEXIST || n == -ENOENT ? 0 : n;
}

static int64_t take_away(struct swap *s, const char *name)
{
	int64_t n = keep_aside(s, name);
	char *path = log_path(s->log, "%s", name);
	if (n >= 0)
		n = path ? log_await(wh_unlink(s->log->loop, path)) : -ENOMEM;
	free(path);
	return n == -ENOENT ? 0 : n;
}

static int64_t move_in(struct swap *s, const char *name)
{
	char *from = path_in(s->log, s->ready, name), *to = log_path(s->log, "%s", name);
	int64_t n = -ENOMEM;
	if (from && to && same_file(s->log, from, to))
		n = log_await(wh_unlink(s->log->loop, from));
	else if (from && to && (n = keep_aside(s, name)) >= 0)
		n = log_await(wh_rename(s->log->loop, from, to));
	free(from);
	free(to);
	return n == -ENOENT ? 0 : n;
}

static bool is_of_log(const char *name)
{
	uint64_t number;
	return log_name_number(name, "seg-", ".log", &number) ||
	       log_name_number(name, "checkpoint-", ".ckp", &number);
}

/* A line of a list in the folder of the new log. 1: there it is; 0: no more. */
static int64_t read_line(struct swap *s, int fd, uint64_t *at, char line[LINE_BYTES])
{
	int64_t n = wh_pread_blocking(s->log->loop, fd, line, LINE_BYTES - 1, *at);
	if (n <= 0)
		return n;
	line[n] = 0;
	line[strcspn(line, "\n")] = 0;
	*at += strlen(line) + 1;
	return 1;
}

static int64_t open_list(struct swap *s, const char *name)
{
	char *path = path_in(s->log, s->ready, name);
	int64_t fd = path ? log_await(wh_open(s->log->loop, path, O_RDONLY, 0)) : -ENOMEM;
	free(path);
	return fd;
}

/* Bodies that nobody needs any more would be removed at the next start: these are kept. */
static int64_t move_blobs(struct swap *s)
{
	char line[LINE_BYTES];
	uint64_t at = 0;
	int64_t fd = open_list(s, blobs_list), n;
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	while ((n = read_line(s, (int)fd, &at, line)) == 1) {
		char *folder = path_in(s->log, s->kept, "blobs"), *from = path_in(s->log, "blobs", line);
		char *to = log_path(s->log, "%s/blobs/%s", s->kept, line);
		n = folder && from && to ? log_await(wh_mkdir(s->log->loop, folder, 0700)) : -ENOMEM;
		if (n >= 0 || n == -EEXIST)
			n = log_await(wh_rename(s->log->loop, from, to));
		free(folder);
		free(from);
		free(to);
		if (n < 0 && n != -ENOENT)
			break;
	}
	(void)log_await(wh_close(s->log->loop, (int)fd));
	return n;
}

/* Is the name in the list of the new log's files? 1, 0, or an error. */
static int64_t is_listed(struct swap *s, int list, const char *name)
{
	char line[LINE_BYTES];
	uint64_t at = 0;
	int64_t n;
	while ((n = read_line(s, list, &at, line)) == 1)
		if (strcmp(line, name) == 0)
			return 1;
	return n;
}

static int64_t is_waiting(struct swap *s, const char *name)
{
	struct wh_stat stat;
	char *path = path_in(s->log, s->ready, name);
	int64_t n = path ? log_await(wh_stat(s->log->loop, path, &stat)) : -ENOMEM;
	free(path);
	return n == -ENOENT ? 0 : n < 0 ? n : 1;
}

/* Files of the log that was, but for those that have the name of a new one. */
static int64_t take_away_rest(struct swap *s, int list)
{
	wh_res res = wh_await(wh_list(s->log->loop, s->log->path));
	struct wh_names *old = res.n >= 0 ? res.ptr : NULL;
	int64_t n = res.n < 0 ? res.n : 0;
	for (size_t i = 0; old && i < old->count && n >= 0; i++) {
		if (!is_of_log(old->names[i]))
			continue;
		n = is_listed(s, list, old->names[i]);
		if (n == 0)
			n = take_away(s, old->names[i]);
	}
	wh_names_free(old);
	return n;
}

static int64_t swap_files(struct swap *s, int list)
{
	struct log *log = s->log;
	char line[LINE_BYTES];
	uint64_t at = 0;
	/* the manifest that comes last is still to come: what is here is not the new log yet */
	int64_t n = is_waiting(s, "manifest-a");
	bool waiting = n == 1;
	if (waiting && (n = take_away(s, "manifest-a")) >= 0)
		n = take_away(s, "manifest-b");
	if (n >= 0)
		n = flush_folder(log, s->kept);
	if (n >= 0)
		n = wh_fsync_blocking(log->loop, log->directory_fd, false);
	while (n >= 0 && waiting && (n = read_line(s, list, &at, line)) == 1)
		if (is_of_log(line))
			n = move_in(s, line);
	if (n >= 0 && waiting)
		n = take_away_rest(s, list);
	if (n >= 0)
		n = move_blobs(s);
	if (n >= 0)
		n = wh_fsync_blocking(log->loop, log->directory_fd, false);
	if (n >= 0 && waiting && (n = move_in(s, "manifest-b")) >= 0)
		n = move_in(s, "manifest-a");
	if (n >= 0)
		n = wh_fsync_blocking(log->loop, log->directory_fd, false);
	return n;
}

static int64_t swap_all(struct swap *s)
{
	struct log *log = s->log;
	char *kept = log_path(log, "%s", s->kept), *report = path_in(log, s->ready, report_name);
	char *report_to = path_in(log, s->kept, report_name), *ready = log_path(log, "%s", s->ready);
	int64_t n =
		kept && report && report_to && ready ? log_await(wh_mkdir(log->loop, kept, 0700)) : -ENOMEM;
	int64_t list = n >= 0 || n == -EEXIST ? open_list(s, files_list) : n;
	n = list;
	if (list >= 0) {
		n = swap_files(s, (int)list);
		(void)log_await(wh_close(log->loop, (int)list));
	}
	if (n >= 0)
		n = log_await(wh_rename(log->loop, report, report_to));
	n = n == -ENOENT ? 0 : n;
	if (n >= 0)
		n = flush_folder(log, s->kept);
	if (n >= 0)
		n = remove_folder(log, ready);
	if (n >= 0)
		n = wh_fsync_blocking(log->loop, log->directory_fd, false);
	free(kept);
	free(report);
	free(report_to);
	free(ready);
	return n;
}

/* ---- begin ------------------------------------------------------------------------------- */

static int64_t write_text(struct log_repair *r, const char *name, const char *text)
{
	char *path = log_repair_path(r, name);
	int64_t n =
		path ? log_await(wh_open(r->log->loop, path, O_WRONLY | O_CREAT | O_TRUNC, 0600)) : -ENOMEM;
	free(path);
	if (n < 0)
		return n;
	int fd = (int)n;
	n = log_await(wh_pwrite_all(r->log->loop, fd, text, strlen(text), 0));
	if (n >= 0)
		n = wh_fsync_blocking(r->log->loop, fd, false);
	(void)log_await(wh_close(r->log->loop, fd));
	return n;
}

static int64_t write_list(struct log_repair *r)
{
	wh_res res = wh_await(wh_list(r->log->loop, r->folder));
	struct wh_names *names = res.n >= 0 ? res.ptr : NULL;
	size_t cap = 1, len = 0;
	int64_t n = res.n;
	for (size_t i = 0; names && i < names->count; i++)
		cap += strlen(names->names[i]) + 1;
	char *text = names ? malloc(cap) : NULL;
	for (size_t i = 0; text && i < names->count; i++)
		len += (size_t)snprintf(text + len, cap - len, "%s\n", names->names[i]);
	if (names)
		n = text ? write_text(r, files_list, text) : -ENOMEM;
	free(text);
	wh_names_free(names);
	return n;
}

/* A name that is not taken: an earlier repair may have ended in the same epoch. */
static void choose_name(const struct log_repair *r, uint32_t epoch, struct swap *s)
{
	for (unsigned i = 1;; i++) {
		bool taken = false;
		if (i == 1)
			snprintf(s->kept, sizeof(s->kept), KEPT_PREFIX "%u", epoch);
		else
			snprintf(s->kept, sizeof(s->kept), KEPT_PREFIX "%u-%u", epoch, i);
		for (size_t k = 0; k < r->names->count; k++)
			taken |= strcmp(r->names->names[k], s->kept) == 0;
		if (!taken)
			break;
	}
	snprintf(s->ready, sizeof(s->ready), "%s" READY_SUFFIX, s->kept);
}

int log_repair_swap(struct log_repair *r, uint32_t epoch, const char *blobs, const char *report,
                    char *ret_kept, size_t cap)
{
	struct swap s = {.log = r->log};
	choose_name(r, epoch, &s);
	char *ready = log_path(r->log, "%s", s.ready);
	int64_t n = ready ? write_list(r) : -ENOMEM;
	if (n >= 0 && blobs && *blobs)
		n = write_text(r, blobs_list, blobs);
	if (n >= 0)
		n = write_text(r, report_name, report);
	if (n >= 0)
		n = flush_folder(r->log, LOG_REPAIR_FOLDER);
	if (n >= 0)
		n = log_await(wh_rename(r->log->loop, r->folder, ready));
	if (n >= 0)
		n = wh_fsync_blocking(r->log->loop, r->log->directory_fd, false);
	if (n >= 0)
		n = swap_all(&s);
	free(ready);
	snprintf(ret_kept, cap, "%s", s.kept);
	log_repair_free(r);
	return n < 0 ? (int)n : 0;
}

int log_repair_resume(wh_loop *loop, const char *path, char *ret_kept, size_t cap,
                      struct log_problem *ret_problem)
{
	struct log_options o = {
		.path = path, .segment_bytes = LOG_SEGMENT_BYTES_MIN, .group_bytes = LOG_GROUP_BYTES_MAX};
	struct log *log = log_new(loop, &o);
	if (!log)
		return log_problem_io(ret_problem, -ENOMEM, path, "no memory");
	log->looking = true;
	struct swap s = {.log = log};
	int status = log_folder_take(log, ret_problem);
	wh_res res = status == 0 ? wh_await(wh_list(loop, path)) : (wh_res){status, NULL};
	struct wh_names *names = res.n >= 0 ? res.ptr : NULL;
	for (size_t i = 0; names && i < names->count && !s.ready[0]; i++)
		if (is_ready(names->names[i])) {
			snprintf(s.ready, sizeof(s.ready), "%s", names->names[i]);
			snprintf(s.kept, sizeof(s.kept), "%.*s",
			         (int)(strlen(s.ready) - sizeof(READY_SUFFIX) + 1), s.ready);
		}
	if (status == 0) {
		int64_t n = !names ? res.n : s.ready[0] ? swap_all(&s) : -ENOENT;
		status = n < 0 ? log_problem_io(ret_problem, n, path, "cannot finish the repair") : 0;
	}
	snprintf(ret_kept, cap, "%s", s.kept);
	wh_names_free(names);
	log_release(log);
	return status;
}

/* ---- the end ----------------------------------------------------------------------------- */

void log_repair_free(struct log_repair *r)
{
	if (!r)
		return;
	if (r->log)
		log_release(r->log);
	wh_names_free(r->names);
	free(r->folder);
	free(r->real);
	free(r->manifests);
	free(r->below);
	free(r->segments);
	free(r->lost);
	free(r->image);
	free(r);
}

struct log_repair *log_repair_discard(struct log_repair *r)
{
	if (r && r->made)
		(void)remove_folder(r->log, r->folder);
	log_repair_free(r);
	return NULL;
}
