/* file.h -- files and directories.
 *
 * Paths are copied. Short reads and writes are possible except where "all" is said. A descriptor on
 * which operations were started is closed with wh_close(), never with close(2).
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

/* n = descriptor; openat(2), O_CLOEXEC added */
WH_API wh_future wh_open(wh_loop *loop, const char *path, int flags, mode_t mode);
/* first cancels every operation on fd, completes after them */
WH_API wh_future wh_close(wh_loop *loop, int fd);
/* borrows buf; n = bytes, 0 = end of file */
WH_API wh_future wh_pread(wh_loop *loop, int fd, void *buf, size_t len, uint64_t off);
/* borrows buf; n = bytes */
WH_API wh_future wh_pwrite(wh_loop *loop, int fd, const void *buf, size_t len, uint64_t off);
/* n < len only at end of file */
WH_API wh_future wh_pread_all(wh_loop *loop, int fd, void *buf, size_t len, uint64_t off);
/* n = len or an error */
WH_API wh_future wh_pwrite_all(wh_loop *loop, int fd, const void *buf, size_t len, uint64_t off);
/* For pipes, terminals, and files at their offset; buf is borrowed. wh_read(): n = bytes, 0 = end; may be short.
 * wh_write_all(): n = len or an error. */
WH_API wh_future wh_read(wh_loop *loop, int fd, void *buf, size_t len);
WH_API wh_future wh_write_all(wh_loop *loop, int fd, const void *buf, size_t len);
/* fsync(2), fdatasync(2); directories too */
WH_API wh_future wh_fsync(wh_loop *loop, int fd, bool data_only);
WH_API wh_future wh_truncate(wh_loop *loop, int fd, uint64_t len);               /* ftruncate(2) */
WH_API wh_future wh_allocate(wh_loop *loop, int fd, uint64_t off, uint64_t len); /* fallocate(2), mode 0 */
WH_API wh_future wh_size(wh_loop *loop, int fd);                                 /* n = bytes of the file */
/* whole file, exclusive, never waits: -EAGAIN when held; flock(2) */
WH_API wh_future wh_lock(wh_loop *loop, int fd);
/* rename(2), unlink(2), mkdir(2): n = 0. What they did is durable after wh_fsync() of the directory. */
WH_API wh_future wh_rename(wh_loop *loop, const char *from, const char *to);
WH_API wh_future wh_unlink(wh_loop *loop, const char *path);
WH_API wh_future wh_mkdir(wh_loop *loop, const char *path, mode_t mode);
/* n = names; ptr = struct wh_names *, given: wh_names_free() */
WH_API wh_future wh_list(wh_loop *loop, const char *path);
/* n = bytes an unprivileged user may still write; fstatvfs(3) */
WH_API wh_future wh_disk_free(wh_loop *loop, int fd);

struct wh_names {
	size_t count;
	const char **names; /* sorted bytewise; "." and ".." left out */
};
WH_API struct wh_names *wh_names_free(struct wh_names *names); /* returns NULL, accepts NULL. Thread: any. */

/* Blocking forms: the calling thread itself does it, at once, on every engine. For a loop whose job is
 * that file. Thread: loop, callbacks included. Result bytes or 0, or -errno. -EINTR is retried. */
WH_API int64_t wh_pread_blocking(wh_loop *loop, int fd, void *buf, size_t len, uint64_t off);
WH_API int64_t wh_pwrite_blocking(wh_loop *loop, int fd, const void *buf, size_t len, uint64_t off);
WH_API int64_t wh_pwritev_blocking(wh_loop *loop, int fd, const struct iovec *iov, int count, uint64_t off);
WH_API int64_t wh_fsync_blocking(wh_loop *loop, int fd, bool data_only);

#ifdef __cplusplus
}
#endif
#endif
