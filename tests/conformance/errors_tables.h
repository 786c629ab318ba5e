/* tests/conformance/errors_tables.h -- every operation that takes a path, and every one that takes a descriptor, to be
 * started alike.
 */
#ifndef WH_TESTS_ERRORS_TABLES_H
#define WH_TESTS_ERRORS_TABLES_H

#include "errors.h"

/* ---- names ---------------------------------------------------------------------------------- */

#define NAMED(name, ...)                                                           \
	static wh_future name##_named(wh_loop *l, int directory, const char *path) \
	{                                                                          \
		return __VA_ARGS__;                                                \
	}
NAMED(open, wh_open_at(l, directory, path, O_RDONLY, 0))
NAMED(create, wh_open_at(l, directory, path, O_WRONLY | O_CREAT | O_EXCL, 0600))
NAMED(stat, wh_stat_at(l, directory, path, 0, &status_of))
NAMED(access, wh_access_at(l, directory, path, F_OK, 0))
NAMED(chmod, wh_chmod_at(l, directory, path, 0600))
NAMED(chown, wh_chown_at(l, directory, path, UINT32_MAX, UINT32_MAX, 0))
NAMED(set_times, wh_set_times_at(l, directory, path, WH_TIME_NOW, WH_TIME_NOW, 0))
NAMED(rename_from, wh_rename_at(l, directory, path, AT_FDCWD, in_folder("new"), 0))
NAMED(rename_to, wh_rename_at(l, AT_FDCWD, in_folder("spare"), directory, path, 0))
NAMED(unlink, wh_unlink_at(l, directory, path, 0))
NAMED(rmdir, wh_unlink_at(l, directory, path, AT_REMOVEDIR))
NAMED(mkdir, wh_mkdir_at(l, directory, path, 0700))
NAMED(link_from, wh_link_at(l, directory, path, AT_FDCWD, in_folder("new"), 0))
NAMED(link_to, wh_link_at(l, AT_FDCWD, in_folder("spare"), directory, path, 0))
NAMED(symlink, wh_symlink_at(l, "target", directory, path))
NAMED(readlink, wh_readlink_at(l, directory, path, bytes, sizeof bytes))
/* without a directory */
NAMED(open_plain, wh_open(l, path, O_RDONLY, 0))
NAMED(stat_plain, wh_stat(l, path, &status_of))
NAMED(lstat, wh_lstat(l, path, &status_of))
NAMED(access_plain, wh_access(l, path, F_OK))
NAMED(chmod_plain, wh_chmod(l, path, 0600))
NAMED(chown_plain, wh_chown(l, path, UINT32_MAX, UINT32_MAX))
NAMED(set_times_plain, wh_set_times(l, path, WH_TIME_NOW, WH_TIME_NOW))
NAMED(rename_from_plain, wh_rename(l, path, in_folder("new")))
NAMED(rename_to_plain, wh_rename(l, in_folder("spare"), path))
NAMED(unlink_plain, wh_unlink(l, path))
NAMED(rmdir_plain, wh_rmdir(l, path))
NAMED(mkdir_plain, wh_mkdir(l, path, 0700))
NAMED(link_from_plain, wh_link(l, path, in_folder("new")))
NAMED(link_to_plain, wh_link(l, in_folder("spare"), path))
NAMED(symlink_plain, wh_symlink(l, "target", path))
NAMED(readlink_plain, wh_readlink(l, path, bytes, sizeof bytes))
/* these have no form with one */
NAMED(list, wh_list(l, path))
NAMED(realpath, wh_realpath(l, path, bytes, sizeof bytes))
NAMED(copy_from, wh_copy_file(l, path, in_folder("new"), false))
NAMED(copy_to, wh_copy_file(l, in_folder("spare"), path, false))

static const struct named {
	const char *name;
	wh_future (*start)(wh_loop *l, int directory, const char *path);
	bool at, makes; /* takes a directory; makes the name */
} named[] = {
#define ROW(name, at, makes)                   \
	{                                      \
#name, name##_named, at, makes \
	}
	ROW(open, true, false),
	ROW(create, true, true),
	ROW(stat, true, false),
	ROW(access, true, false),
	ROW(chmod, true, false),
	ROW(chown, true, false),
	ROW(set_times, true, false),
	ROW(rename_from, true, false),
	ROW(rename_to, true, true),
	ROW(unlink, true, false),
	ROW(rmdir, true, false),
	ROW(mkdir, true, true),
	ROW(link_from, true, false),
	ROW(link_to, true, true),
	ROW(symlink, true, true),
	ROW(readlink, true, false),
	ROW(list, false, false),
	ROW(realpath, false, false),
	ROW(copy_from, false, false),
	ROW(copy_to, false, true),
	ROW(open_plain, false, false),
	ROW(stat_plain, false, false),
	ROW(lstat, false, false),
	ROW(access_plain, false, false),
	ROW(chmod_plain, false, false),
	ROW(chown_plain, false, false),
	ROW(set_times_plain, false, false),
	ROW(rename_from_plain, false, false),
	ROW(rename_to_plain, false, true),
	ROW(unlink_plain, false, false),
	ROW(rmdir_plain, false, false),
	ROW(mkdir_plain, false, true),
	ROW(link_from_plain, false, false),
	ROW(link_to_plain, false, true),
	ROW(symlink_plain, false, true),
	ROW(readlink_plain, false, false),
#undef ROW
};
enum { NAMED_COUNT = sizeof named / sizeof *named };

/* ---- descriptors ---------------------------------------------------------------------------- */

static int other_file; /* open for both, for what takes two */

#define ON_FD(name, ...)                               \
	static wh_future name##_on(wh_loop *l, int fd) \
	{                                              \
		return __VA_ARGS__;                    \
	}
static struct wh_from from;
static struct wh_message message = {.iov = &vector, .iov_count = 1};
static struct sockaddr_storage peer;
static socklen_t peer_len;
static struct sockaddr_in nobody = {.sin_family = AF_INET};
ON_FD(pread, wh_pread(l, fd, bytes, 1, 0))
ON_FD(pread_all, wh_pread_all(l, fd, bytes, 1, 0))
ON_FD(preadv, wh_preadv(l, fd, &vector, 1, 0))
ON_FD(preadv_all, wh_preadv_all(l, fd, &vector, 1, 0))
ON_FD(pread_buf, wh_pread_buf(l, fd, 0))
ON_FD(pwrite, wh_pwrite(l, fd, bytes, 1, 0))
ON_FD(pwrite_all, wh_pwrite_all(l, fd, bytes, 1, 0))
ON_FD(pwritev, wh_pwritev(l, fd, &vector, 1, 0))
ON_FD(pwritev_all, wh_pwritev_all(l, fd, &vector, 1, 0))
ON_FD(append, wh_append_durable(l, fd, bytes, 1, 0))
ON_FD(read, wh_read(l, fd, bytes, 1))
ON_FD(readv, wh_readv(l, fd, &vector, 1))
ON_FD(write, wh_write(l, fd, bytes, 1))
ON_FD(write_all, wh_write_all(l, fd, bytes, 1))
ON_FD(writev_all, wh_writev_all(l, fd, &vector, 1))
ON_FD(fsync, wh_fsync(l, fd, false))
ON_FD(fdatasync, wh_fsync(l, fd, true))
ON_FD(truncate, wh_truncate(l, fd, 1))
ON_FD(allocate, wh_allocate(l, fd, 0, 1))
ON_FD(allocate_mode, wh_allocate_mode(l, fd, WH_ALLOCATE_KEEP_SIZE, 0, 1))
ON_FD(advise, wh_advise(l, fd, 0, 0, POSIX_FADV_NORMAL))
ON_FD(sync_range, wh_sync_range(l, fd, 0, 0, SYNC_FILE_RANGE_WRITE))
ON_FD(size, wh_size(l, fd))
ON_FD(lock, wh_lock(l, fd))
ON_FD(lock_shared, wh_lock_shared(l, fd))
ON_FD(unlock, wh_unlock(l, fd))
ON_FD(disk_free, wh_disk_free(l, fd))
ON_FD(fstat, wh_fstat(l, fd, &status_of))
ON_FD(fchmod, wh_fchmod(l, fd, 0600))
ON_FD(fchown, wh_fchown(l, fd, UINT32_MAX, UINT32_MAX))
ON_FD(fset_times, wh_fset_times(l, fd, WH_TIME_NOW, WH_TIME_NOW))
ON_FD(list_next, wh_list_next(l, fd))
ON_FD(copy_to, wh_copy_range(l, fd, 0, other_file, 0, 1))
ON_FD(copy_from, wh_copy_range(l, other_file, 0, fd, 0, 1))
ON_FD(send_file, wh_send_file(l, fd, other_file, 0, 1))
ON_FD(accept, wh_accept(l, fd))
ON_FD(accept_from, wh_accept_from(l, fd, &peer, &peer_len))
ON_FD(connect_on, wh_connect_on(l, fd, (struct sockaddr *)&nobody, sizeof nobody))
ON_FD(recv, wh_recv(l, fd, bytes, 1))
ON_FD(recv_all, wh_recv_all(l, fd, bytes, 1))
ON_FD(peek, wh_peek(l, fd, bytes, 1))
ON_FD(recvv, wh_recvv(l, fd, &vector, 1))
ON_FD(recv_buf, wh_recv_buf(l, fd))
ON_FD(recv_from, wh_recv_from(l, fd, bytes, 1, &from))
ON_FD(recv_message, wh_recv_message(l, fd, &message))
ON_FD(send, wh_send(l, fd, bytes, 1))
ON_FD(send_all, wh_send_all(l, fd, bytes, 1))
ON_FD(sendv_all, wh_sendv_all(l, fd, &vector, 1))
ON_FD(send_to, wh_send_to(l, fd, bytes, 1, NULL, 0))
ON_FD(send_message, wh_send_message(l, fd, &message))
ON_FD(ready, wh_ready(l, fd, POLLIN))
ON_FD(close, wh_close(l, fd))

/* What each gives on: a file that is open for reading only, one for writing only, a directory, a pipe to read from, a
 * pipe to write to, a socket that is not connected. 0: it works, or it would wait. */
static const struct on_fd {
	const char *name;
	wh_future (*start)(wh_loop *l, int fd);
	int read_only, write_only, directory, pipe_out, pipe_in, socket;
} on_fd[] = {
#define ROW(name, ...)                        \
	{                                     \
#name, name##_on, __VA_ARGS__ \
	}
	ROW(pread, 0, EBADF, EISDIR, ESPIPE, ESPIPE, ESPIPE),
	ROW(pread_all, 0, EBADF, EISDIR, ESPIPE, ESPIPE, ESPIPE),
	ROW(preadv, 0, EBADF, EISDIR, ESPIPE, ESPIPE, ESPIPE),
	ROW(preadv_all, 0, EBADF, EISDIR, ESPIPE, ESPIPE, ESPIPE),
	ROW(pread_buf, 0, EBADF, EISDIR, ESPIPE, ESPIPE, ESPIPE),
	ROW(pwrite, EBADF, 0, EBADF, ESPIPE, ESPIPE, ESPIPE),
	ROW(pwrite_all, EBADF, 0, EBADF, ESPIPE, ESPIPE, ESPIPE),
	ROW(pwritev, EBADF, 0, EBADF, ESPIPE, ESPIPE, ESPIPE),
	ROW(pwritev_all, EBADF, 0, EBADF, ESPIPE, ESPIPE, ESPIPE),
	ROW(append, EBADF, 0, EBADF, ESPIPE, ESPIPE, ESPIPE),
	ROW(read, 0, EBADF, EISDIR, 0, EBADF, ENOTCONN),
	ROW(readv, 0, EBADF, EISDIR, 0, EBADF, ENOTCONN),
	ROW(write, EBADF, 0, EBADF, EBADF, 0, EPIPE),
	ROW(write_all, EBADF, 0, EBADF, EBADF, 0, EPIPE),
	ROW(writev_all, EBADF, 0, EBADF, EBADF, 0, EPIPE),
	ROW(fsync, 0, 0, 0, EINVAL, EINVAL, EINVAL),
	ROW(fdatasync, 0, 0, 0, EINVAL, EINVAL, EINVAL),
	ROW(truncate, EINVAL, 0, EINVAL, EINVAL, EINVAL, EINVAL),
	ROW(allocate, EBADF, 0, EBADF, EBADF, ESPIPE, ENODEV),
	ROW(allocate_mode, EBADF, 0, EBADF, EBADF, ESPIPE, ENODEV),
	ROW(advise, 0, 0, 0, ESPIPE, ESPIPE, 0),
	ROW(sync_range, 0, 0, 0, ESPIPE, ESPIPE, ESPIPE),
	ROW(size, 0, 0, 0, 0, 0, 0),
	ROW(lock, 0, 0, 0, 0, 0, 0),
	ROW(lock_shared, 0, 0, 0, 0, 0, 0),
	ROW(unlock, 0, 0, 0, 0, 0, 0),
	ROW(disk_free, 0, 0, 0, 0, 0, 0),
	ROW(fstat, 0, 0, 0, 0, 0, 0),
	ROW(fchmod, 0, 0, 0, 0, 0, 0),
	ROW(fchown, 0, 0, 0, 0, 0, 0),
	ROW(fset_times, 0, 0, 0, 0, 0, 0),
	ROW(list_next, ENOTDIR, ENOTDIR, 0, ENOTDIR, ENOTDIR, ENOTDIR),
	ROW(copy_to, EBADF, 0, EISDIR, ESPIPE, ESPIPE, ESPIPE),
	ROW(copy_from, 0, EBADF, EISDIR, ESPIPE, ESPIPE, ESPIPE),
	ROW(send_file, ENOTSOCK, ENOTSOCK, ENOTSOCK, EBADF, 0, EPIPE),
	ROW(accept, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, EINVAL),
	ROW(accept_from, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, EINVAL),
	ROW(connect_on, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ECONNREFUSED),
	ROW(recv, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTCONN),
	ROW(recv_all, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTCONN),
	ROW(peek, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTCONN),
	ROW(recvv, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTCONN),
	ROW(recv_buf, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTCONN),
	ROW(recv_from, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTCONN),
	ROW(recv_message, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTCONN),
	ROW(send, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, EPIPE),
	ROW(send_all, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, EPIPE),
	ROW(sendv_all, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, EPIPE),
	ROW(send_to, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, EPIPE),
	ROW(send_message, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, EPIPE),
	ROW(ready, 0, 0, 0, 0, 0, 0),
	ROW(close, 0, 0, 0, 0, 0, 0),
#undef ROW
};
enum { ON_FD_COUNT = sizeof on_fd / sizeof *on_fd };

/* ---- calls that do not wait ------------------------------------------------------------------- */

#define AT_ONCE(name, ...)                                \
	static int64_t name##_at_once(wh_loop *l, int fd) \
	{                                                 \
		return __VA_ARGS__;                       \
	}
static int64_t option_value;
static socklen_t option_len;
static struct wh_credentials credentials;
static struct sockaddr_in group_address = {.sin_family = AF_INET};
AT_ONCE(bind, wh_bind(l, fd, (struct sockaddr *)&nobody, sizeof nobody))
AT_ONCE(listen_on, wh_listen_on(l, fd, 1))
AT_ONCE(local_address, wh_local_address(l, fd, &peer, &peer_len))
AT_ONCE(peer_address, wh_peer_address(l, fd, &peer, &peer_len))
AT_ONCE(peer_credentials, wh_peer_credentials(l, fd, &credentials))
AT_ONCE(set_option, wh_set_option(l, fd, WH_KEEPALIVE, 1))
AT_ONCE(get_option, wh_get_option(l, fd, WH_KEEPALIVE, &option_value))
AT_ONCE(set_option_raw, wh_set_option_raw(l, fd, SOL_SOCKET, SO_KEEPALIVE, &(int){1}, sizeof(int)))
AT_ONCE(get_option_raw, wh_get_option_raw(l, fd, SOL_SOCKET, SO_KEEPALIVE, &option_value, &option_len))
AT_ONCE(join_group, wh_join_group(l, fd, (struct sockaddr *)&group_address, sizeof group_address, 0))
AT_ONCE(leave_group, wh_leave_group(l, fd, (struct sockaddr *)&group_address, sizeof group_address, 0))
AT_ONCE(shutdown, wh_shutdown(l, fd, SHUT_WR))
AT_ONCE(pread_blocking, wh_pread_blocking(l, fd, bytes, 1, 0))
AT_ONCE(pwrite_blocking, wh_pwrite_blocking(l, fd, bytes, 1, 0))
AT_ONCE(pwritev_blocking, wh_pwritev_blocking(l, fd, &vector, 1, 0))
AT_ONCE(fsync_blocking, wh_fsync_blocking(l, fd, false))

/* The same columns as above; a call that is no socket's business gives what it likes for a socket. */
static const struct at_once {
	const char *name;
	int64_t (*call)(wh_loop *l, int fd);
	int read_only, write_only, directory, pipe_out, pipe_in, socket;
} at_once[] = {
#define ROW(name, ...)                             \
	{                                          \
#name, name##_at_once, __VA_ARGS__ \
	}
#define OF_SOCKETS ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK, ENOTSOCK
	ROW(bind, OF_SOCKETS, 0),
	ROW(listen_on, OF_SOCKETS, 0),
	ROW(local_address, OF_SOCKETS, 0),
	ROW(peer_address, OF_SOCKETS, ENOTCONN),
	ROW(peer_credentials, OF_SOCKETS, ENOTCONN),
	ROW(set_option, OF_SOCKETS, 0),
	ROW(get_option, OF_SOCKETS, 0),
	ROW(set_option_raw, OF_SOCKETS, 0),
	ROW(get_option_raw, OF_SOCKETS, 0),
	ROW(join_group, OF_SOCKETS, EINVAL),
	ROW(leave_group, OF_SOCKETS, EADDRNOTAVAIL),
	ROW(shutdown, OF_SOCKETS, ENOTCONN),
	ROW(pread_blocking, 0, EBADF, EISDIR, ESPIPE, ESPIPE, ESPIPE),
	ROW(pwrite_blocking, EBADF, 0, EBADF, ESPIPE, ESPIPE, ESPIPE),
	ROW(pwritev_blocking, EBADF, 0, EBADF, ESPIPE, ESPIPE, ESPIPE),
	ROW(fsync_blocking, 0, 0, 0, EINVAL, EINVAL, EINVAL),
#undef ROW
};
enum { AT_ONCE_COUNT = sizeof at_once / sizeof *at_once };

#endif
