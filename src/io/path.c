/* src/io/path.c -- operations on names: files, links, directories. Thread: loop.
 *
 * Paths are copied, two of them into one allocation, which the slot owns.
 */
#include "io/start.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* ---- one path, or two ----------------------------------------------------------------------- */

/* A slot with copies of path and, if it is not NULL, second; NULL: refused, and *ret_failed says why. */
static struct wh__op *begin(wh_loop *loop, enum wh__opcode opcode, int directory, const char *path,
                            const char *second, wh_future *ret_failed)
{
	struct wh__op *op = wh__begin(loop, opcode, ret_failed);
	if (!op)
		return NULL;
	op->fd = directory;
	size_t len = path ? strlen(path) + 1 : 0, second_len = second ? strlen(second) + 1 : 0;
	int error = !path ? -EINVAL : directory < 0 && directory != AT_FDCWD ? -EBADF : 0;
	char *copy = error == 0 ? malloc(len + second_len) : NULL;
	if (error == 0 && !copy)
		error = -ENOMEM;
	if (error != 0) {
		*ret_failed = wh__end(op, error);
		return NULL;
	}
	op->buf = memcpy(copy, path, len);
	if (second)
		op->second = memcpy(copy + len, second, second_len);
	op->flags = WH__OWNS_BUF;
	return op;
}

static wh_future start(wh_loop *loop, enum wh__opcode opcode, int directory, const char *path, uint64_t len,
                       uint64_t off)
{
	wh_future f;
	struct wh__op *op = begin(loop, opcode, directory, path, NULL, &f);
	if (!op)
		return f;
	op->len = len;
	op->off = off;
	return wh__start(op);
}

/* The result is a text in the caller's memory. */
static wh_future start_text(wh_loop *loop, enum wh__opcode opcode, int directory, const char *path, char *buf,
                            size_t len)
{
	wh_future f;
	struct wh__op *op = begin(loop, opcode, directory, path, NULL, &f);
	if (!op)
		return f;
	if (!buf || len == 0)
		return wh__end(op, -EINVAL);
	op->second = buf;
	op->len = len;
	op->flags |= WH__BORROWS;
	return wh__start(op);
}

wh_future wh_open_at(wh_loop *loop, int directory, const char *path, int flags, mode_t mode)
{
	wh_future f;
	struct wh__op *op = begin(loop, WH__OP_OPEN, directory, path, NULL, &f);
	if (!op)
		return f;
	op->len = (uint32_t)flags;
	op->off = mode;
	op->dispose = wh__close_dropped;
	op->dispose_arg = loop;
	return wh__start(op);
}

wh_future wh_open(wh_loop *loop, const char *path, int flags, mode_t mode)
{
	return wh_open_at(loop, AT_FDCWD, path, flags, mode);
}

static wh_future make_temporary(wh_loop *loop, char *path, int flags, wh_disposer *dispose)
{
	wh_future f;
	struct wh__op *op = wh__begin(loop, WH__OP_TEMPORARY, &f);
	if (!op)
		return f;
	if (!path)
		return wh__end(op, -EINVAL);
	op->second = path;
	op->len = (uint32_t)flags;
	op->flags = WH__BORROWS;
	op->dispose = dispose;
	op->dispose_arg = loop;
	return wh__start(op);
}

wh_future wh_make_temporary(wh_loop *loop, char *path, int flags)
{
	return make_temporary(loop, path, flags & ~O_DIRECTORY, wh__close_dropped);
}

wh_future wh_make_temporary_directory(wh_loop *loop, char *path)
{
	return make_temporary(loop, path, O_DIRECTORY, NULL);
}

wh_future wh_rename_at(wh_loop *loop, int from_directory, const char *from, int to_directory, const char *to,
                       unsigned int flags)
{
	wh_future f;
	struct wh__op *op = begin(loop, WH__OP_RENAME, from_directory, to ? from : NULL, to, &f);
	if (!op)
		return f;
	if (to_directory < 0 && to_directory != AT_FDCWD)
		return wh__end(op, -EBADF);
	op->len = (uint64_t)(uint32_t)to_directory << 32 | flags;
	return wh__start(op);
}

wh_future wh_rename(wh_loop *loop, const char *from, const char *to)
{
	return wh_rename_at(loop, AT_FDCWD, from, AT_FDCWD, to, 0);
}

wh_future wh_unlink_at(wh_loop *loop, int directory, const char *path, int flags)
{
	return start(loop, WH__OP_UNLINK, directory, path, (uint32_t)flags, 0);
}

wh_future wh_unlink(wh_loop *loop, const char *path)
{
	return wh_unlink_at(loop, AT_FDCWD, path, 0);
}

wh_future wh_rmdir(wh_loop *loop, const char *path)
{
	return wh_unlink_at(loop, AT_FDCWD, path, AT_REMOVEDIR);
}

wh_future wh_mkdir_at(wh_loop *loop, int directory, const char *path, mode_t mode)
{
	return start(loop, WH__OP_MKDIR, directory, path, 0, mode);
}

wh_future wh_mkdir(wh_loop *loop, const char *path, mode_t mode)
{
	return wh_mkdir_at(loop, AT_FDCWD, path, mode);
}

wh_future wh_link_at(wh_loop *loop, int from_directory, const char *from, int to_directory, const char *to,
                     int flags)
{
	wh_future f;
	struct wh__op *op = begin(loop, WH__OP_LINK, from_directory, to ? from : NULL, to, &f);
	if (!op)
		return f;
	if (to_directory < 0 && to_directory != AT_FDCWD)
		return wh__end(op, -EBADF);
	op->len = (uint64_t)(uint32_t)to_directory << 32 | (uint32_t)flags;
	return wh__start(op);
}

wh_future wh_link(wh_loop *loop, const char *from, const char *to)
{
	return wh_link_at(loop, AT_FDCWD, from, AT_FDCWD, to, 0);
}

wh_future wh_symlink_at(wh_loop *loop, const char *target, int directory, const char *path)
{
	wh_future f;
	struct wh__op *op = begin(loop, WH__OP_SYMLINK, directory, target ? path : NULL, target, &f);
	return op ? wh__start(op) : f;
}

wh_future wh_symlink(wh_loop *loop, const char *target, const char *path)
{
	return wh_symlink_at(loop, target, AT_FDCWD, path);
}

wh_future wh_readlink_at(wh_loop *loop, int directory, const char *path, char *buf, size_t len)
{
	return start_text(loop, WH__OP_READLINK, directory, path, buf, len);
}

wh_future wh_readlink(wh_loop *loop, const char *path, char *buf, size_t len)
{
	return wh_readlink_at(loop, AT_FDCWD, path, buf, len);
}

wh_future wh_realpath(wh_loop *loop, const char *path, char *buf, size_t len)
{
	return start_text(loop, WH__OP_REALPATH, AT_FDCWD, path, buf, len);
}

/* ---- what a file is ------------------------------------------------------------------------- */

static wh_future start_stat(wh_loop *loop, int directory, const char *path, int flags, struct wh_stat *ret)
{
	wh_future f;
	struct wh__op *op = wh__begin(loop, WH__OP_STAT, &f);
	if (!op)
		return f;
	if (directory < 0 && directory != AT_FDCWD)
		return wh__end(op, -EBADF);
	if (!path || !ret)
		return wh__end(op, -EINVAL);
	op->fd = directory;
	op->buf = wh__stat_arguments(path);
	if (!op->buf)
		return wh__end(op, -ENOMEM);
	op->second = ret;
	op->len = (uint32_t)flags;
	op->flags = WH__OWNS_BUF | WH__BORROWS;
	return wh__start(op);
}

wh_future wh_stat_at(wh_loop *loop, int directory, const char *path, int flags, struct wh_stat *ret)
{
	return start_stat(loop, directory, path, flags, ret);
}

wh_future wh_stat(wh_loop *loop, const char *path, struct wh_stat *ret)
{
	return start_stat(loop, AT_FDCWD, path, 0, ret);
}

wh_future wh_lstat(wh_loop *loop, const char *path, struct wh_stat *ret)
{
	return start_stat(loop, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, ret);
}

wh_future wh_fstat(wh_loop *loop, int fd, struct wh_stat *ret)
{
	return start_stat(loop, fd < 0 ? -1 : fd, "", AT_EMPTY_PATH, ret);
}

wh_future wh_access_at(wh_loop *loop, int directory, const char *path, int mode, int flags)
{
	return start(loop, WH__OP_ACCESS, directory, path, (uint32_t)flags, (uint32_t)mode);
}

wh_future wh_access(wh_loop *loop, const char *path, int mode)
{
	return wh_access_at(loop, AT_FDCWD, path, mode, 0);
}

wh_future wh_chmod_at(wh_loop *loop, int directory, const char *path, mode_t mode)
{
	return start(loop, WH__OP_CHMOD, directory, path, 0, mode);
}

wh_future wh_chmod(wh_loop *loop, const char *path, mode_t mode)
{
	return wh_chmod_at(loop, AT_FDCWD, path, mode);
}

wh_future wh_fchmod(wh_loop *loop, int fd, mode_t mode)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, WH__OP_CHMOD, fd, &f);
	if (!op)
		return f;
	op->off = mode;
	return wh__start(op);
}

wh_future wh_chown_at(wh_loop *loop, int directory, const char *path, uint32_t user, uint32_t group,
                      int flags)
{
	return start(loop, WH__OP_CHOWN, directory, path, (uint32_t)flags, (uint64_t)user << 32 | group);
}

wh_future wh_chown(wh_loop *loop, const char *path, uint32_t user, uint32_t group)
{
	return wh_chown_at(loop, AT_FDCWD, path, user, group, 0);
}

wh_future wh_fchown(wh_loop *loop, int fd, uint32_t user, uint32_t group)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, WH__OP_CHOWN, fd, &f);
	if (!op)
		return f;
	op->off = (uint64_t)user << 32 | group;
	return wh__start(op);
}

static wh_future start_times(wh_loop *loop, int directory, const char *path, const int64_t times_ns[2],
                             int flags)
{
	wh_future f;
	struct wh__op *op = wh__begin(loop, WH__OP_TIMES, &f);
	if (!op)
		return f;
	if (directory < 0 && directory != AT_FDCWD)
		return wh__end(op, -EBADF);
	if (!path)
		return wh__end(op, -EINVAL);
	op->fd = directory;
	op->buf = wh__times_arguments(path, times_ns);
	if (!op->buf)
		return wh__end(op, -ENOMEM);
	op->len = (uint32_t)flags;
	op->flags = WH__OWNS_BUF;
	return wh__start(op);
}

wh_future wh_set_times_at(wh_loop *loop, int directory, const char *path, int64_t accessed_ns,
                          int64_t modified_ns, int flags)
{
	return start_times(loop, directory, path, (int64_t[]){accessed_ns, modified_ns},
	                   flags & ~AT_EMPTY_PATH);
}

wh_future wh_set_times(wh_loop *loop, const char *path, int64_t accessed_ns, int64_t modified_ns)
{
	return wh_set_times_at(loop, AT_FDCWD, path, accessed_ns, modified_ns, 0);
}

wh_future wh_fset_times(wh_loop *loop, int fd, int64_t accessed_ns, int64_t modified_ns)
{
	return start_times(loop, fd < 0 ? -1 : fd, "", (int64_t[]){accessed_ns, modified_ns}, AT_EMPTY_PATH);
}

/* ---- directories ---------------------------------------------------------------------------- */

static void free_result(wh_res res, void *arg)
{
	free(res.ptr); /* names and entries are one allocation each: engine/execute_name.c */
}

wh_future wh_list(wh_loop *loop, const char *path)
{
	wh_future f;
	struct wh__op *op = begin(loop, WH__OP_LIST, AT_FDCWD, path, NULL, &f);
	if (!op)
		return f;
	op->dispose = free_result;
	return wh__start(op);
}

struct wh_names *wh_names_free(struct wh_names *names)
{
	free(names);
	return NULL;
}

wh_future wh_list_next(wh_loop *loop, int fd)
{
	wh_future f;
	struct wh__op *op = wh__begin_on(loop, WH__OP_ENTRIES, fd, &f);
	if (!op)
		return f;
	op->dispose = free_result;
	return wh__start(op);
}

struct wh_entries *wh_entries_free(struct wh_entries *entries)
{
	free(entries);
	return NULL;
}
