/* file.h -- files, directories, pipes and terminals.
 *
 * Paths are copied. Short reads and writes are possible except where "all" is said. A descriptor on
 * which operations were started is closed with wh_close(), never with close(2).
 *
 * "_at" forms take the directory that a relative path starts from: a descriptor of it, or AT_FDCWD, <fcntl.h>. The
 * others start from the working directory. An operation is tied to the first descriptor it is given: wh_close() of
 * that waits for it. A second one (to_directory, from) must stay open until the operation has completed.
 *
 * Errors of all that take a path: -ENOENT, -ENOTDIR, -EACCES, -ELOOP, -ENAMETOOLONG, -EINVAL (NULL), -EIO. Of the "_at" forms:
 * -EBADF, -ENOTDIR (the directory is none). Of those that take a descriptor: -EBADF (not open, or not for this), -EIO.
 * Of those that change names, or what is known of a file: -EROFS, -EPERM. Of those that need room: -ENOSPC, -EDQUOT. They are not
 * repeated below.
 *
 * A cancelled operation that had begun may have taken effect in part or in whole. Where a worker or the kernel is at
 * it, it ends by itself and gives its true result.
 *
 * On a simulated machine programs are root's: permissions and owners are kept and refuse nothing. wh_allocate_mode()
 * knows the modes that have a name here, and there are no devices.
 *
 * The words used here and the errors that every operation may give are told at the top of whilst.h, which includes
 * this header.
 */
#ifndef WHILST_FILE_H
#define WHILST_FILE_H

#include "whilst.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- open and close ------------------------------------------------------------------------ */

/* wh_open() - n = descriptor (closed if dropped); openat(2), O_CLOEXEC added.
 * Errors: -EEXIST, -EISDIR, -EMFILE, -ENXIO, -ETXTBSY. */
WH_API wh_future wh_open(wh_loop *loop, const char *path, int flags, mode_t mode);
WH_API wh_future wh_open_at(wh_loop *loop, int directory, const char *path, int flags, mode_t mode);
/* wh_close() - first cancels every operation on fd, completes after them. Not itself cancelled. It needs no memory: without any for
 * the future, fd is closed before this returns, or when the last operation on it has ended, for which the
 * future does not wait. Errors: -EBADF, -EINPROGRESS (that: there was no memory, and operations on fd have still to end). */
WH_API wh_future wh_close(wh_loop *loop, int fd);
/* wh_close_now() - wh_close() that nobody waits for, in ways out: operations on fd are cancelled, then it is closed. A limit
 * on futures does not stand in the way of closing, nor does want of memory. 0; -EBADF (below 0), -EPERM. */
WH_API int wh_close_now(wh_loop *loop, int fd);
/* wh_make_temporary() - a new file with a name that nobody else has; mkostemp(3), O_CLOEXEC added. path ends in
 * "XXXXXX", which becomes the name; borrowed until the future completes. n = descriptor (closed if dropped; the name
 * stays). flags: O_APPEND, O_SYNC and the like. Without a name: wh_open() of a directory with O_TMPFILE. */
WH_API wh_future wh_make_temporary(wh_loop *loop, char *path, int flags);
/* wh_make_temporary_directory() - the same for a directory; mkdtemp(3). n = 0. */
WH_API wh_future wh_make_temporary_directory(wh_loop *loop, char *path);

/* ---- read and write at an offset -----------------------------------------------------------
 * For regular files and block devices. Errors at an offset: -ESPIPE (a pipe, socket or terminal), -EINVAL (offsets beyond
 * 2^63 - 1; with O_DIRECT, what is not aligned). Of reading at one: -EISDIR. Of writing at one: -EFBIG (a limit of the file system, or
 * RLIMIT_FSIZE; SIGXFSZ is the program's to ignore). Vectors: at most 1,024 entries (-EINVAL), copied;
 * what they point to is borrowed. Reading what the page cache holds costs no hop to another thread. */

/* borrows buf; n = bytes, 0 = end of file */
WH_API wh_future wh_pread(wh_loop *loop, int fd, void *buf, size_t len, uint64_t off);
/* borrows buf; n = bytes */
WH_API wh_future wh_pwrite(wh_loop *loop, int fd, const void *buf, size_t len, uint64_t off);
/* n < len only at end of file */
WH_API wh_future wh_pread_all(wh_loop *loop, int fd, void *buf, size_t len, uint64_t off);
/* n = len or an error */
WH_API wh_future wh_pwrite_all(wh_loop *loop, int fd, const void *buf, size_t len, uint64_t off);
/* ptr = a pooled buffer with n bytes, as many as it holds (buffer_bytes), given: wh_buf_put(). At the end n = 0 and ptr = NULL.
 * -ENOBUFS at buffers_max. */
WH_API wh_future wh_pread_buf(wh_loop *loop, int fd, uint64_t off);
/* preadv(2), pwritev(2); as the forms without v */
WH_API wh_future wh_preadv(wh_loop *loop, int fd, const struct iovec *iov, int count, uint64_t off);
WH_API wh_future wh_pwritev(wh_loop *loop, int fd, const struct iovec *iov, int count, uint64_t off);
WH_API wh_future wh_preadv_all(wh_loop *loop, int fd, const struct iovec *iov, int count, uint64_t off);
WH_API wh_future wh_pwritev_all(wh_loop *loop, int fd, const struct iovec *iov, int count, uint64_t off);

/* wh_append_durable() - write all of buf at off, and complete when it would survive a power cut.
 *
 * borrows buf. n = len, or an error: then any part may have been written, and none of it may be durable. The name of a
 * new file becomes durable by wh_fsync() of its directory. A sync that has failed is not tried again, because the
 * kernel may have dropped what it could not write: close the file and recover from what can be read.
 * Cost: one hop to a worker; on WH_URING the page cache is written to at once, by the loop's thread, and the sync is
 * the ring's. pwrite(2), fdatasync(2).
 */
WH_API wh_future wh_append_durable(wh_loop *loop, int fd, const void *buf, size_t len, uint64_t off);

/* ---- read and write in order: pipes, terminals, files at their own offset ---------------------
 * Standard input, output and error may be anything, and O_NONBLOCK is not set on them: a terminal is shared with other
 * programs. No operation blocks the loop all the same: a terminal is opened once more for that (/proc/self/fd), and of what is
 * not one the kernel is asked to try. A terminal that has hung up ends what is read, and gives -EIO to what is written. n = bytes; reading: 0 = end. A pipe that nobody reads is -EPIPE; no SIGPIPE is raised. Vectors: at most 16
 * entries (-EINVAL), copied; what they point to is borrowed. At most one read and one write at a time, or their order is
 * undefined. Of a file without an end, as a socket or pipe is, a cancelled read has taken nothing; a cancelled write may
 * have written a part. */

/* borrows buf, or what iov points to; n = bytes, 0 = end; may be short. -EISDIR; of a socket the errors of wh_recv(). */
WH_API wh_future wh_read(wh_loop *loop, int fd, void *buf, size_t len);
WH_API wh_future wh_readv(wh_loop *loop, int fd, const struct iovec *iov, int count);
/* borrows buf, or what iov points to; n = bytes, "all": len or an error. -EPIPE, -EFBIG; of a socket the errors of wh_send(). */
WH_API wh_future wh_write(wh_loop *loop, int fd, const void *buf, size_t len);
WH_API wh_future wh_write_all(wh_loop *loop, int fd, const void *buf, size_t len);
WH_API wh_future wh_writev_all(wh_loop *loop, int fd, const struct iovec *iov, int count);
/* wh_pipe() - ret[0] is read from what is written to ret[1]; both non-blocking and close-on-exec; pipe2(2). 0, or
 * -EMFILE, -ENFILE. */
WH_API int wh_pipe(wh_loop *loop, int ret[2]) WH_MUST_USE;

/* ---- the content of a file ------------------------------------------------------------------- */

/* fsync(2), fdatasync(2); directories too. -EINVAL: this has nothing to sync. Errors of what was written before come here. Not tried again when it has failed. */
WH_API wh_future wh_fsync(wh_loop *loop, int fd, bool data_only);
WH_API wh_future wh_truncate(wh_loop *loop, int fd, uint64_t len); /* ftruncate(2); -EFBIG, -EINVAL */
/* wh_allocate() - room for len bytes at off, so that writing there later cannot fail for want of it; fallocate(2).
 * -EFBIG; -EINVAL (len is 0); -EOPNOTSUPP: the file system cannot; -ENODEV: no regular file; -ESPIPE: a pipe. */
WH_API wh_future wh_allocate(wh_loop *loop, int fd, uint64_t off, uint64_t len);
enum wh_allocate_mode {
	WH_ALLOCATE_KEEP_SIZE = 1,  /* the file does not become longer */
	WH_ALLOCATE_PUNCH_HOLE = 3, /* gives room back; it reads as zeros; the size stays */
	WH_ALLOCATE_ZERO_RANGE = 16 /* reads as zeros, by metadata where the file system can */
};
/* the same with a mode: one of the above, or any of fallocate(2). Errors of wh_allocate(). */
WH_API wh_future wh_allocate_mode(wh_loop *loop, int fd, int mode, uint64_t off, uint64_t len);
WH_API wh_future wh_size(wh_loop *loop, int fd); /* n = bytes of the file */
/* how it will be used, POSIX_FADV_*; len 0: to the end; posix_fadvise(2). -EINVAL, -ESPIPE */
WH_API wh_future wh_advise(wh_loop *loop, int fd, uint64_t off, uint64_t len, int advice);
/* have the kernel begin to write, SYNC_FILE_RANGE_*; makes nothing durable; sync_file_range(2). -EINVAL, -ESPIPE */
WH_API wh_future wh_sync_range(wh_loop *loop, int fd, uint64_t off, uint64_t len, int flags);

/* The whole file, until fd is closed; never waits: -EAGAIN when another holds it. Asking for the other kind changes the
 * one that is held, with a moment between. flock(2) */
WH_API wh_future wh_lock(wh_loop *loop, int fd);        /* exclusive. -EAGAIN */
WH_API wh_future wh_lock_shared(wh_loop *loop, int fd); /* beside other shared ones. -EAGAIN */
WH_API wh_future wh_unlock(wh_loop *loop, int fd);      /* gives either back; none held is no error */

/* wh_copy_range() - copy len bytes between files, by the file system where it can (copy_file_range(2)), else by hand.
 * n = bytes, fewer only at the end of from. -EINVAL: the ranges overlap in one file; -EFBIG, -EISDIR, -ESPIPE. Is not
 * cancelled once begun. */
WH_API wh_future wh_copy_range(wh_loop *loop, int to, uint64_t to_off, int from, uint64_t from_off,
                               uint64_t len);
/* wh_copy_file() - a whole file to a new one with the permissions of the old (less the umask). n = bytes. -EEXIST: to is
 * there, unless replace, which truncates and overwrites it. -EINVAL: both are one file, or from is not a regular one; -EISDIR. A
 * copy that fails or is cancelled leaves what it has written so far. Not durable: wh_fsync(). */
WH_API wh_future wh_copy_file(wh_loop *loop, const char *from, const char *to, bool replace);

/* ---- names ------------------------------------------------------------------------------------
 * A change of names is durable after wh_fsync() of the directory. */

/* rename(2). -EISDIR, -ENOTEMPTY, -EEXIST, -EXDEV, -EBUSY, -EINVAL (into itself) */
WH_API wh_future wh_rename(wh_loop *loop, const char *from, const char *to);
enum wh_rename_flags {
	WH_RENAME_NO_REPLACE = 1, /* -EEXIST when to is there */
	WH_RENAME_EXCHANGE = 2    /* both exist and swap their names */
};
/* renameat2(2). -EINVAL: the file system does not know the flags. Errors of wh_rename(). */
WH_API wh_future wh_rename_at(wh_loop *loop, int from_directory, const char *from, int to_directory,
                              const char *to, unsigned int flags);
WH_API wh_future wh_unlink(wh_loop *loop, const char *path); /* unlink(2); -EISDIR, -EBUSY */
/* flags: 0, or AT_REMOVEDIR for a directory; unlinkat(2). Errors of wh_unlink(), wh_rmdir(). */
WH_API wh_future wh_unlink_at(wh_loop *loop, int directory, const char *path, int flags);
WH_API wh_future wh_rmdir(wh_loop *loop, const char *path); /* rmdir(2); -ENOTEMPTY, -EBUSY, -EINVAL (".") */
/* mkdir(2); -EEXIST, -EMLINK */
WH_API wh_future wh_mkdir(wh_loop *loop, const char *path, mode_t mode);
WH_API wh_future wh_mkdir_at(wh_loop *loop, int directory, const char *path, mode_t mode);
/* a second name for a file; link(2). -EEXIST, -EXDEV, -EMLINK, -EPERM (a directory) */
WH_API wh_future wh_link(wh_loop *loop, const char *from, const char *to);
/* flags: 0, AT_SYMLINK_FOLLOW; linkat(2). Errors of wh_link(). */
WH_API wh_future wh_link_at(wh_loop *loop, int from_directory, const char *from, int to_directory,
                            const char *to, int flags);
/* path becomes a symbolic link to target, which need not exist; symlink(2). -EEXIST */
WH_API wh_future wh_symlink(wh_loop *loop, const char *target, const char *path);
WH_API wh_future wh_symlink_at(wh_loop *loop, const char *target, int directory, const char *path);
/* wh_readlink() - where a symbolic link points. borrows buf; n = bytes, no zero byte is added. -ENAMETOOLONG: len is not
 * more than that. -EINVAL: not a link. readlink(2) */
WH_API wh_future wh_readlink(wh_loop *loop, const char *path, char *buf, size_t len);
WH_API wh_future wh_readlink_at(wh_loop *loop, int directory, const char *path, char *buf, size_t len);
/* wh_realpath() - the absolute path without links, "." and "..". borrows buf; n = bytes, a zero byte follows them.
 * -ENAMETOOLONG: len is not more than that. realpath(3) */
WH_API wh_future wh_realpath(wh_loop *loop, const char *path, char *buf, size_t len);

/* ---- what a file is -------------------------------------------------------------------------- */

enum wh_file_type {
	WH_FILE_UNKNOWN, /* of a list: the file system does not say; ask wh_lstat() */
	WH_FILE_REGULAR,
	WH_FILE_DIRECTORY,
	WH_FILE_LINK,
	WH_FILE_PIPE,
	WH_FILE_SOCKET,
	WH_FILE_CHARACTER, /* device */
	WH_FILE_BLOCK      /* device */
};

#define WH_TIME_UNKNOWN INT64_MIN       /* of wh_stat: the file system does not keep it */
#define WH_TIME_KEEP    INT64_MIN       /* of wh_set_times(): as it is */
#define WH_TIME_NOW     (INT64_MIN + 1) /* of wh_set_times() */

struct wh_stat {
	int type;      /* enum wh_file_type */
	uint32_t mode; /* permissions, 07777 */
	uint32_t links, user, group;
	uint32_t block_bytes; /* good size of a transfer */
	uint64_t size;        /* bytes */
	uint64_t allocated_bytes;
	uint64_t inode, device; /* together they name the file */
	uint64_t represents;    /* the device that a device file is */
	int64_t accessed_ns, modified_ns, changed_ns,
		created_ns; /* since 1970; before 1678 and after 2261: the least, the most */
};
/* wh_stat() - *ret, borrowed, is what path names; n = 0. wh_lstat(): a symbolic link itself. wh_fstat(): an open file.
 * wh_stat_at(): flags AT_SYMLINK_NOFOLLOW, AT_NO_AUTOMOUNT. statx(2) */
WH_API wh_future wh_stat(wh_loop *loop, const char *path, struct wh_stat *ret);
WH_API wh_future wh_lstat(wh_loop *loop, const char *path, struct wh_stat *ret);
WH_API wh_future wh_fstat(wh_loop *loop, int fd, struct wh_stat *ret);
WH_API wh_future wh_stat_at(wh_loop *loop, int directory, const char *path, int flags, struct wh_stat *ret);
/* n = 0: this process may do mode, a sum of R_OK, W_OK, X_OK, or F_OK (is there). access(2): by the real user, and only
 * for now; flags AT_EACCESS (the effective user), AT_SYMLINK_NOFOLLOW. -EACCES; -EROFS (to write, and it may not be) */
WH_API wh_future wh_access(wh_loop *loop, const char *path, int mode);
WH_API wh_future wh_access_at(wh_loop *loop, int directory, const char *path, int mode, int flags);
/* chmod(2), of what a link points to */
WH_API wh_future wh_chmod(wh_loop *loop, const char *path, mode_t mode);
WH_API wh_future wh_fchmod(wh_loop *loop, int fd, mode_t mode);
WH_API wh_future wh_chmod_at(wh_loop *loop, int directory, const char *path, mode_t mode);
/* UINT32_MAX: as it is; flags AT_SYMLINK_NOFOLLOW; fchownat(2) */
WH_API wh_future wh_chown(wh_loop *loop, const char *path, uint32_t user, uint32_t group);
WH_API wh_future wh_fchown(wh_loop *loop, int fd, uint32_t user, uint32_t group);
WH_API wh_future wh_chown_at(wh_loop *loop, int directory, const char *path, uint32_t user, uint32_t group,
                             int flags);
/* of the last access and of the last change; since 1970, or WH_TIME_*; flags AT_SYMLINK_NOFOLLOW; utimensat(2) */
WH_API wh_future wh_set_times(wh_loop *loop, const char *path, int64_t accessed_ns, int64_t modified_ns);
WH_API wh_future wh_fset_times(wh_loop *loop, int fd, int64_t accessed_ns, int64_t modified_ns);
WH_API wh_future wh_set_times_at(wh_loop *loop, int directory, const char *path, int64_t accessed_ns,
                                 int64_t modified_ns, int flags);
/* n = bytes an unprivileged user may still write; fstatvfs(3) */
WH_API wh_future wh_disk_free(wh_loop *loop, int fd);

/* ---- directories ------------------------------------------------------------------------------ */

struct wh_names {
	size_t count;
	const char **names; /* sorted bytewise; "." and ".." left out */
};
/* wh_list() - the whole directory. n = names; ptr = struct wh_names *, given: wh_names_free() */
WH_API wh_future wh_list(wh_loop *loop, const char *path);
WH_API struct wh_names *wh_names_free(struct wh_names *names); /* returns NULL, accepts NULL. Thread: any. */

struct wh_entry {
	const char *name;
	uint64_t inode;
	int type; /* enum wh_file_type */
};
struct wh_entries {
	size_t count;
	const struct wh_entry *entries; /* in the order of the file system; "." and ".." left out */
};
/* wh_list_next() - the next piece of a directory that may be large: some hundreds of entries. fd: from wh_open() with
 * O_DIRECTORY, whose offset it moves; one at a time. n = entries, 0 = the end; ptr = struct wh_entries *, given, at the
 * end too: wh_entries_free(). -ENOTDIR. getdents64(2) */
WH_API wh_future wh_list_next(wh_loop *loop, int fd);
WH_API struct wh_entries *wh_entries_free(struct wh_entries *entries); /* likewise */

/* ---- blocking forms ------------------------------------------------------------------------ */

/* Blocking forms: the calling thread itself does it, at once, on every engine. For a loop whose job is
 * that file. Thread: loop, callbacks included. Result bytes or 0, or -errno. Interrupted calls are made again. */
WH_API int64_t wh_pread_blocking(wh_loop *loop, int fd, void *buf, size_t len, uint64_t off);
WH_API int64_t wh_pwrite_blocking(wh_loop *loop, int fd, const void *buf, size_t len, uint64_t off);
WH_API int64_t wh_pwritev_blocking(wh_loop *loop, int fd, const struct iovec *iov, int count, uint64_t off);
WH_API int64_t wh_fsync_blocking(wh_loop *loop, int fd, bool data_only);

#ifdef __cplusplus
}
#endif
#endif
