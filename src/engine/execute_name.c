/* src/engine/execute_name.c -- the blocking system calls of operations on names. Thread: any; it touches nothing but
 * the operation's arguments.
 *
 * op->fd is the directory that a path is relative to, or AT_FDCWD. Some operations take a descriptor instead of a
 * name: then there is no path.
 */
#include "engine/execute.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One allocation: the struct, the pointers, the texts; so that wh_names_free() is free(). */
static struct wh_names *pack_names(char **names, size_t count, size_t bytes)
{
	struct wh_names *packed = malloc(sizeof *packed + count * sizeof(char *) + bytes);
	if (!packed)
		return NULL;
	packed->count = count;
	packed->names = (const char **)(packed + 1);
	char *to = (char *)(packed->names + count);
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(names[i]) + 1;
		packed->names[i] = memcpy(to, names[i], len);
		to += len;
	}
	return packed;
}

static int64_t list(const char *path, void **ret_ptr)
{
	DIR *directory = opendir(path);
	if (!directory)
		return -errno;
	char **names = NULL;
	size_t count = 0, bytes = 0, cap = 0;
	int64_t error = 0;
	for (;;) {
		errno = 0;
		const struct dirent *entry = readdir(directory);
		if (!entry) {
			error = -errno;
			break;
		}
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (count == cap) {
			cap = cap ? cap * 2 : 64;
			char **more = reallocarray(names, cap, sizeof *names);
			if (!more) {
				error = -ENOMEM;
				break;
			}
			names = more;
		}
		if (!(names[count] = strdup(entry->d_name))) {
			error = -ENOMEM;
			break;
		}
		bytes += strlen(names[count++]) + 1;
	}
	closedir(directory);
	if (error == 0) {
		if (count > 0)
			qsort(names, count, sizeof *names, compare_names);
		*ret_ptr = pack_names(names, count, bytes);
		error = *ret_ptr ? (int64_t)count : -ENOMEM;
	}
	for (size_t i = 0; i < count; i++)
		free(names[i]);
	free(names);
	return error;
}

/* ---- a directory in pieces ------------------------------------------------------------------ */

enum { ENTRIES_BYTES = 32 * 1024 };

static int type_of(unsigned int d_type)
{
	switch (d_type) {
	case DT_REG:
		return WH_FILE_REGULAR;
	case DT_DIR:
		return WH_FILE_DIRECTORY;
	case DT_LNK:
		return WH_FILE_LINK;
	case DT_FIFO:
		return WH_FILE_PIPE;
	case DT_SOCK:
		return WH_FILE_SOCKET;
	case DT_CHR:
		return WH_FILE_CHARACTER;
	case DT_BLK:
		return WH_FILE_BLOCK;
	default:
		return WH_FILE_UNKNOWN;
	}
}

static const struct dirent64 *next_entry(const char **at, const char *end)
{
	while (*at < end) {
		const struct dirent64 *entry = (const void *)*at;
		*at += entry->d_reclen;
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			return entry;
	}
	return NULL;
}

static struct wh_entries *pack_entries(const char *raw, const char *end)
{
	size_t count = 0, bytes = 0;
	const struct dirent64 *entry;
	for (const char *at = raw; (entry = next_entry(&at, end)); count++)
		bytes += strlen(entry->d_name) + 1;
	struct wh_entries *packed = malloc(sizeof *packed + count * sizeof(struct wh_entry) + bytes);
	if (!packed)
		return NULL;
	struct wh_entry *to = (struct wh_entry *)(packed + 1);
	char *text = (char *)(to + count);
	*packed = (struct wh_entries){.count = count, .entries = to};
	for (const char *at = raw; (entry = next_entry(&at, end)); to++) {
		size_t len = strlen(entry->d_name) + 1;
		*to = (struct wh_entry){.name = memcpy(text, entry->d_name, len),
		                        .inode = entry->d_ino,
		                        .type = type_of(entry->d_type)};
		text += len;
	}
	return packed;
}

/* A piece may be nothing but "." and "..": that is not the end. */
static int64_t read_entries(int fd, void **ret_ptr)
{
	char *raw = malloc(ENTRIES_BYTES);
	if (!raw)
		return -ENOMEM;
	int64_t n;
	do {
		n = wh__result(getdents64(fd, raw, ENTRIES_BYTES));
		if (n < 0)
			break;
		struct wh_entries *entries = pack_entries(raw, raw + n);
		if (!entries) {
			n = -ENOMEM;
		} else if (n > 0 && entries->count == 0) {
			free(entries);
			continue;
		} else {
			*ret_ptr = entries;
			n = (int64_t)entries->count;
		}
		break;
	} while (true);
	free(raw);
	return n;
}

/* ---- arguments ------------------------------------------------------------------------------ */

void *wh__stat_arguments(const char *path)
{
	size_t len = strlen(path) + 1;
	struct wh__stat_arguments *arguments = malloc(sizeof *arguments + len);
	if (arguments)
		memcpy(arguments->path, path, len);
	return arguments;
}

static struct timespec time_of(int64_t ns)
{
	if (ns == WH_TIME_KEEP || ns == WH_TIME_NOW)
		return (struct timespec){.tv_nsec = ns == WH_TIME_NOW ? UTIME_NOW : UTIME_OMIT};
	int64_t rest = ns % WH_NS_PER_S; /* before 1970: below 0, which tv_nsec never is */
	int64_t below = rest < 0;
	return (struct timespec){.tv_sec = ns / WH_NS_PER_S - below, .tv_nsec = rest + below * WH_NS_PER_S};
}

void *wh__times_arguments(const char *path, const int64_t times_ns[2])
{
	size_t len = strlen(path) + 1;
	struct wh__times_arguments *arguments = malloc(sizeof *arguments + len);
	if (arguments) {
		for (int i = 0; i < 2; i++)
			arguments->times[i] = time_of(times_ns[i]);
		memcpy(arguments->path, path, len);
	}
	return arguments;
}

/* ---- what a file is ------------------------------------------------------------------------- */

int64_t wh__ns_of(int64_t s, int64_t ns)
{
	int64_t all;
	if (__builtin_mul_overflow(s, WH_NS_PER_S, &all) || __builtin_add_overflow(all, ns, &all))
		return s < 0 ? INT64_MIN + 1 : INT64_MAX; /* INT64_MIN is WH_TIME_UNKNOWN */
	return all;
}

static int64_t ns_of(const struct statx_timestamp *time)
{
	return wh__ns_of(time->tv_sec, time->tv_nsec);
}

void wh__stat_from_raw(const struct statx *raw, struct wh_stat *ret)
{
	*ret = (struct wh_stat){
		.type = type_of((raw->stx_mode & S_IFMT) >> 12), /* the same numbers, readdir(3) */
		.mode = raw->stx_mode & 07777,
		.links = raw->stx_nlink,
		.user = raw->stx_uid,
		.group = raw->stx_gid,
		.block_bytes = raw->stx_blksize,
		.size = raw->stx_size,
		.allocated_bytes = raw->stx_blocks * 512,
		.inode = raw->stx_ino,
		.device = makedev(raw->stx_dev_major, raw->stx_dev_minor),
		.represents = makedev(raw->stx_rdev_major, raw->stx_rdev_minor),
		.accessed_ns = ns_of(&raw->stx_atime),
		.modified_ns = ns_of(&raw->stx_mtime),
		.changed_ns = ns_of(&raw->stx_ctime),
		.created_ns = raw->stx_mask & STATX_BTIME ? ns_of(&raw->stx_btime) : WH_TIME_UNKNOWN,
	};
}

static int64_t status(struct wh__op *op)
{
	struct wh__stat_arguments *arguments = op->buf;
	int64_t n = wh__result(statx(op->fd, arguments->path, (int)op->len, STATX_BASIC_STATS | STATX_BTIME,
	                             &arguments->raw));
	if (n == 0)
		wh__stat_from_raw(&arguments->raw, op->second);
	return n;
}

static int64_t change_mode(const struct wh__op *op)
{
	mode_t mode = (mode_t)op->off;
	return wh__result(op->buf ? fchmodat(op->fd, op->buf, mode, 0) : fchmod(op->fd, mode));
}

static int64_t change_owner(const struct wh__op *op)
{
	uid_t user = (uid_t)(op->off >> 32);
	gid_t group = (gid_t)op->off;
	return wh__result(op->buf ? fchownat(op->fd, op->buf, user, group, (int)op->len)
	                          : fchown(op->fd, user, group));
}

static int64_t change_times(const struct wh__op *op)
{
	const struct wh__times_arguments *arguments = op->buf;
	if (op->len & AT_EMPTY_PATH)
		return wh__result(futimens(op->fd, arguments->times));
	return wh__result(utimensat(op->fd, arguments->path, arguments->times, (int)op->len));
}

/* ---- names ---------------------------------------------------------------------------------- */

/* The result goes to the caller's memory, whole or not at all. */
static int64_t read_link(const struct wh__op *op)
{
	int64_t n = wh__result(readlinkat(op->fd, op->buf, op->second, op->len));
	return n == (int64_t)op->len ? -ENAMETOOLONG : n; /* perhaps more was there */
}

static int64_t real_path(const struct wh__op *op)
{
	char *path = realpath(op->buf, NULL);
	if (!path)
		return -errno;
	size_t len = strlen(path);
	if (len < op->len)
		memcpy(op->second, path, len + 1);
	free(path);
	return len < op->len ? (int64_t)len : -ENAMETOOLONG;
}

/* The name that is made is known only afterwards: the caller's memory holds it. */
static int64_t make_temporary(const struct wh__op *op)
{
	if (op->len & O_DIRECTORY)
		return mkdtemp(op->second) ? 0 : -errno;
	return wh__result(mkostemp(op->second, (int)op->len | O_CLOEXEC));
}

static int64_t move(const struct wh__op *op)
{
	return wh__result(
		renameat2(op->fd, op->buf, (int)(op->len >> 32), op->second, (unsigned int)op->len));
}

int64_t wh__execute_on_name(struct wh__op *op, void **ret_ptr)
{
	switch (op->opcode) {
	case WH__OP_OPEN:
		return wh__result(openat(op->fd, op->buf, (int)op->len | O_CLOEXEC, (mode_t)op->off));
	case WH__OP_ENTRIES:
		return read_entries(op->fd, ret_ptr);
	case WH__OP_STAT:
		return status(op);
	case WH__OP_ACCESS:
		return wh__result(faccessat(op->fd, op->buf, (int)op->off, (int)op->len));
	case WH__OP_CHMOD:
		return change_mode(op);
	case WH__OP_CHOWN:
		return change_owner(op);
	case WH__OP_TIMES:
		return change_times(op);
	case WH__OP_RENAME:
		return move(op);
	case WH__OP_UNLINK:
		return wh__result(unlinkat(op->fd, op->buf, (int)op->len));
	case WH__OP_MKDIR:
		return wh__result(mkdirat(op->fd, op->buf, (mode_t)op->off));
	case WH__OP_LINK:
		return wh__result(linkat(op->fd, op->buf, (int)(op->len >> 32), op->second, (int)op->len));
	case WH__OP_SYMLINK:
		return wh__result(symlinkat(op->second, op->fd, op->buf));
	case WH__OP_READLINK:
		return read_link(op);
	case WH__OP_REALPATH:
		return real_path(op);
	case WH__OP_TEMPORARY:
		return make_temporary(op);
	case WH__OP_LIST:
		return list(op->buf, ret_ptr);
	default:
		return -ENOSYS;
	}
}
