/* src/engine/execute.c -- the blocking system call of a file or work operation. Thread: any; it touches nothing but
 * the operation's arguments. */
#include "engine/engine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int64_t result(int64_t n)
{
	return n < 0 ? -errno : n;
}

/* read(2) transfers at most this many bytes */
enum { TRANSFER_MAX = 0x7ffff000 };

static int64_t transfer(const struct wh__op *op, uint64_t done)
{
	char *at = (char *)op->buf + done;
	size_t left = op->len - done;
	if (left > TRANSFER_MAX)
		left = TRANSFER_MAX;
	switch (op->opcode) {
	case WH__OP_PREAD:
		return result(pread(op->fd, at, left, (off_t)(op->off + done)));
	case WH__OP_PWRITE:
		return result(pwrite(op->fd, at, left, (off_t)(op->off + done)));
	case WH__OP_READ:
		return result(read(op->fd, at, left));
	default:
		return result(write(op->fd, at, left));
	}
}

static int64_t transfer_all(struct wh__op *op)
{
	for (;;) {
		int64_t n = transfer(op, op->done);
		if (n == -EINTR)
			continue;
		if (n < 0)
			return op->done > 0 && !(op->flags & WH__ALL) ? (int64_t)op->done : n;
		op->done += (uint64_t)n;
		if (n == 0 || op->done >= op->len || !(op->flags & WH__ALL))
			return (int64_t)op->done;
	}
}

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

static int64_t size_of(int fd)
{
	struct stat st;
	return fstat(fd, &st) < 0 ? -errno : st.st_size;
}

static int64_t disk_free(int fd)
{
	struct statvfs vfs;
	return fstatvfs(fd, &vfs) < 0 ? -errno : (int64_t)(vfs.f_bavail * vfs.f_frsize);
}

static int64_t close_once(int fd)
{
	/* Linux frees the number even when it says EINTR, close(2): never twice */
	int64_t n = result(close(fd));
	return n == -EINTR ? 0 : n;
}

static int64_t allocate(const struct wh__op *op)
{
	return result(fallocate(op->fd, 0, (off_t)op->off, (off_t)op->len));
}

static int64_t lock(int fd)
{
	int64_t n = result(flock(fd, LOCK_EX | LOCK_NB));
	return n == -EWOULDBLOCK ? -EAGAIN : n;
}

static int64_t call(struct wh__op *op, void **ret_ptr)
{
	switch (op->opcode) {
	case WH__OP_OPEN:
		return result(open(op->buf, (int)op->len | O_CLOEXEC, (mode_t)op->off));
	case WH__OP_CLOSE:
		return close_once(op->fd);
	case WH__OP_PREAD:
	case WH__OP_PWRITE:
	case WH__OP_READ:
	case WH__OP_WRITE:
		return transfer_all(op);
	case WH__OP_FSYNC:
		return result(op->flags & WH__DATA_ONLY ? fdatasync(op->fd) : fsync(op->fd));
	case WH__OP_TRUNCATE:
		return result(ftruncate(op->fd, (off_t)op->len));
	case WH__OP_ALLOCATE:
		return allocate(op);
	case WH__OP_SIZE:
		return size_of(op->fd);
	case WH__OP_LOCK:
		return lock(op->fd);
	case WH__OP_RENAME:
		return result(rename(op->buf, op->second));
	case WH__OP_UNLINK:
		return result(unlink(op->buf));
	case WH__OP_MKDIR:
		return result(mkdir(op->buf, (mode_t)op->off));
	case WH__OP_LIST:
		return list(op->buf, ret_ptr);
	case WH__OP_DISK_FREE:
		return disk_free(op->fd);
	case WH__OP_WORK:
		return op->work(op->buf);
	default:
		return -ENOSYS;
	}
}

int64_t wh__op_execute(struct wh__op *op, void **ret_ptr)
{
	int64_t n;
	*ret_ptr = NULL;
	do
		n = call(op, ret_ptr);
	while (n == -EINTR && op->opcode != WH__OP_WORK);
	return n;
}
