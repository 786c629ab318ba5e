/* tests/conformance/test_errors.c -- the errors of every operation, as tables: the same on every engine.
 *
 * Names: each operation that takes a path, with each way in which a path can be wrong. Descriptors: each operation that
 * takes one, with each that does not suit. Waits: each operation that may wait for ever, ended in each way. Refusals: each
 * operation on a loop that is full, or of another thread. Then what needs a machine of its own: other users, read-only
 * and full file systems, limits; there a forked process does it, and says what it could not try.
 */
#include "temporary.h"

#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int wrong;

/* Counts instead of ending at the first: a table is read as a whole. */
static void judge(const char *operation, const char *what, int64_t n, int64_t expected)
{
	if (n == expected)
		return;
	wrong++;
	fprintf(stderr, "%s, %s: %lld (%s), not %lld (%s)\n", operation, what, (long long)n,
	        n < 0 ? wh_strerror(n) : "", (long long)expected, expected < 0 ? wh_strerror(expected) : "");
}

/* High, so that nothing that is opened meanwhile gets it. */
static int a_closed_number(void)
{
	int fd = fcntl(0, F_DUPFD_CLOEXEC, 900);
	assert_true(fd >= 0);
	close(fd);
	return fd;
}

static char bytes[8192];
static struct wh_stat status_of;
static struct iovec vector = {bytes, 16};

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
/* these have no form with a directory */
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
	ROW(open, true, false),       ROW(create, true, true),       ROW(stat, true, false),
	ROW(access, true, false),     ROW(chmod, true, false),       ROW(chown, true, false),
	ROW(set_times, true, false),  ROW(rename_from, true, false), ROW(rename_to, true, true),
	ROW(unlink, true, false),     ROW(rmdir, true, false),       ROW(mkdir, true, true),
	ROW(link_from, true, false),  ROW(link_to, true, true),      ROW(symlink, true, true),
	ROW(readlink, true, false),   ROW(list, false, false),       ROW(realpath, false, false),
	ROW(copy_from, false, false), ROW(copy_to, false, true),
#undef ROW
};
enum { NAMED_COUNT = sizeof named / sizeof *named };

static void names_that_are_wrong(void **state)
{
	static char long_name[400], long_path[5000];
	memset(long_name, 'n', 300);
	for (size_t i = 0; i < 4998; i += 2)
		memcpy(long_path + i, "./", 2);
	write_file("spare", "");
	write_file("file", "");
	must(wh_symlink(loop, "circle", in_folder("circle")));
	int directory = open_in(".", O_RDONLY | O_DIRECTORY), file = open_in("file", O_RDONLY);
	int closed = a_closed_number();
	wrong = 0;
	for (size_t i = 0; i < NAMED_COUNT; i++) {
		const struct {
			const char *what, *path;
			int directory;
			int64_t error;
			bool everywhere; /* also of what makes the name */
		} rows[] = {
			{"not there", "none", directory, -ENOENT, false},
			{"in nothing", "none/x", directory, -ENOENT, true},
			{"empty", "", directory, -ENOENT, true},
			{"in a file", "file/x", directory, -ENOTDIR, true},
			{"in circles", "circle/x", directory, -ELOOP, true},
			{"name too long", long_name, directory, -ENAMETOOLONG, true},
			{"path too long", long_path, directory, -ENAMETOOLONG, true},
			{"no path", NULL, directory, -EINVAL, true},
			{"of a closed directory", "x", closed, -EBADF, true},
			{"of a negative directory", "x", -1, -EBADF, true},
			{"of a file as directory", "x", file, -ENOTDIR, true},
		};
		for (size_t j = 0; j < sizeof rows / sizeof *rows; j++) {
			char joined[5200];
			const char *path = rows[j].path;
			if (named[i].makes && !rows[j].everywhere)
				continue;
			if (path == long_path && named[i].start == realpath_named)
				continue; /* it goes name by name */
			if (!named[i].at) {
				if (rows[j].directory != directory)
					continue;
				if (path && path[0] && path != long_path) {
					snprintf(joined, sizeof joined, "%s/%s", folder, path);
					path = joined;
				}
			}
			judge(named[i].name, rows[j].what,
			      wh_await(named[i].start(loop, rows[j].directory, path)).n, rows[j].error);
		}
	}
	assert_int_equal(wrong, 0);
	close_fd(directory);
	close_fd(file);
}

#define is(f, error) judge(#f, "", wh_await(f).n, error)

static void names_of_the_wrong_kind(void **state)
{
	write_file("file", "x");
	must(wh_mkdir(loop, in_folder("dir"), 0700));
	must(wh_mkdir(loop, in_folder("full"), 0700));
	must(wh_mkdir(loop, in_folder("full/in"), 0700));
	must(wh_symlink(loop, "none", in_folder("dangling")));
	wrong = 0;
	is(wh_open(loop, in_folder("dir"), O_WRONLY, 0), -EISDIR);
	is(wh_open(loop, in_folder("file"), O_RDONLY | O_DIRECTORY, 0), -ENOTDIR);
	is(wh_open(loop, in_folder("file"), O_RDWR | O_CREAT | O_EXCL, 0600), -EEXIST);
	is(wh_open(loop, in_folder("dangling"), O_RDONLY, 0), -ENOENT);
	is(wh_open(loop, in_folder("dangling"), O_RDONLY | O_NOFOLLOW, 0), -ELOOP);
	is(wh_open(loop, in_folder("dangling"), O_WRONLY | O_CREAT | O_EXCL, 0600), -EEXIST);
	is(wh_unlink(loop, in_folder("dir")), -EISDIR);
	is(wh_rmdir(loop, in_folder("file")), -ENOTDIR);
	is(wh_rmdir(loop, in_folder("full")), -ENOTEMPTY);
	is(wh_rmdir(loop, in_folder("full/.")), -EINVAL);
	is(wh_unlink_at(loop, AT_FDCWD, in_folder("file"), 1), -EINVAL);
	is(wh_mkdir(loop, in_folder("file"), 0700), -EEXIST);
	is(wh_mkdir(loop, in_folder("dangling"), 0700), -EEXIST);
	is(wh_rename(loop, in_folder("dir"), in_folder("file")), -ENOTDIR);
	is(wh_rename(loop, in_folder("file"), in_folder("dir")), -EISDIR);
	is(wh_rename(loop, in_folder("dir"), in_folder("full")), -ENOTEMPTY);
	is(wh_rename(loop, in_folder("full"), in_folder("full/in/deeper")), -EINVAL);
	is(wh_rename(loop, in_folder("file"), "/proc/x"), -EXDEV);
	is(wh_rename_at(loop, AT_FDCWD, in_folder("file"), AT_FDCWD, in_folder("x"),
	                WH_RENAME_NO_REPLACE | WH_RENAME_EXCHANGE),
	   -EINVAL);
	is(wh_rename_at(loop, AT_FDCWD, "x", -1, "y", 0), -EBADF);
	is(wh_link(loop, in_folder("dir"), in_folder("x")), -EPERM);
	is(wh_link(loop, in_folder("file"), in_folder("dir")), -EEXIST);
	is(wh_link(loop, in_folder("file"), NULL), -EINVAL);
	is(wh_link_at(loop, AT_FDCWD, "x", -1, "y", 0), -EBADF);
	is(wh_link_at(loop, AT_FDCWD, in_folder("file"), AT_FDCWD, in_folder("x"), 1), -EINVAL);
	is(wh_symlink(loop, "x", in_folder("dangling")), -EEXIST);
	is(wh_symlink(loop, "", in_folder("x")), -ENOENT);
	is(wh_symlink(loop, NULL, in_folder("x")), -EINVAL);
	is(wh_readlink(loop, in_folder("file"), bytes, sizeof bytes), -EINVAL);
	is(wh_readlink(loop, in_folder("dangling"), NULL, 10), -EINVAL);
	is(wh_readlink(loop, in_folder("dangling"), bytes, 0), -EINVAL);
	is(wh_realpath(loop, in_folder("dangling"), bytes, sizeof bytes), -ENOENT);
	is(wh_stat(loop, in_folder("file"), NULL), -EINVAL);
	is(wh_stat_at(loop, AT_FDCWD, in_folder("file"), 1, &status_of), -EINVAL);
	is(wh_fstat(loop, -1, &status_of), -EBADF);
	is(wh_list(loop, in_folder("file")), -ENOTDIR);
	is(wh_set_times_at(loop, AT_FDCWD, in_folder("file"), 0, 0, 1), -EINVAL);
	assert_int_equal(wrong, 0);
}

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

static void make_kinds(int kinds[6], int pipe_ends[2])
{
	kinds[0] = open_in("file", O_RDONLY);
	kinds[1] = open_in("file", O_WRONLY);
	kinds[2] = open_in(".", O_RDONLY | O_DIRECTORY);
	assert_int_equal(wh_pipe(loop, pipe_ends), 0);
	kinds[3] = pipe_ends[0];
	kinds[4] = pipe_ends[1];
	kinds[5] = wh_socket(loop, AF_INET, SOCK_STREAM, 0);
}

static void descriptors_that_do_not_suit(void **state)
{
	static const char *const what[] = {"read only", "write only",    "directory",
	                                   "pipe",      "pipe to write", "socket"};
	write_file("file", "some bytes");
	write_file("other", "other bytes");
	other_file = open_in("other", O_RDWR);
	int closed = a_closed_number();
	/* an address where nobody listens */
	socklen_t len = sizeof nobody;
	int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	nobody.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	nobody.sin_port = 0;
	assert_int_equal(bind(probe, (struct sockaddr *)&nobody, sizeof nobody), 0);
	assert_int_equal(getsockname(probe, (struct sockaddr *)&nobody, &len), 0);
	wrong = 0;
	for (size_t i = 0; i < ON_FD_COUNT; i++) {
		int kinds[6], ends[2];
		const int *expected = &on_fd[i].read_only;
		judge(on_fd[i].name, "negative", wh_await(on_fd[i].start(loop, -1)).n, -EBADF);
		judge(on_fd[i].name, "closed", wh_await(on_fd[i].start(loop, closed)).n, -EBADF);
		judge(on_fd[i].name, "absurd", wh_await(on_fd[i].start(loop, INT32_MAX)).n, -EBADF);
		make_kinds(kinds, ends);
		for (int k = 0; k < 6; k++)
			if (expected[k] != 0)
				judge(on_fd[i].name, what[k], wh_await(on_fd[i].start(loop, kinds[k])).n,
				      -expected[k]);
		for (int k = 0; k < 6; k++)
			close_fd(kinds[k]);
	}
	close(probe);
	close_fd(other_file);
	assert_int_equal(wrong, 0);
}

static void arguments_that_are_wrong(void **state)
{
	int fd = open_in("file", O_RDWR | O_CREAT), fds[2];
	make_pair(fds);
	wrong = 0;
	is(wh_pread(loop, fd, NULL, 1, 0), -EINVAL);
	is(wh_pread(loop, fd, bytes, 1, UINT64_MAX), -EINVAL);
	is(wh_pwrite_all(loop, fd, bytes, 1, UINT64_C(1) << 63), -EINVAL);
	is(wh_truncate(loop, fd, UINT64_MAX), -EINVAL);
	is(wh_allocate(loop, fd, 0, 0), -EINVAL);
	is(wh_allocate(loop, fd, UINT64_MAX, 1), -EINVAL);
	is(wh_allocate(loop, fd, INT64_MAX, 1), -EFBIG);
	is(wh_allocate_mode(loop, fd, 1 << 20, 0, 1), -EOPNOTSUPP);
	is(wh_recv(loop, fds[0], NULL, 1), -EINVAL);
	is(wh_sendv_all(loop, fds[0], NULL, 1), -EINVAL);
	is(wh_sendv_all(loop, fds[0], &vector, 0), -EINVAL);
	is(wh_sendv_all(loop, fds[0], &vector, 17), -EINVAL);
	is(wh_readv(loop, fds[0], &vector, 17), -EINVAL);
	is(wh_writev_all(loop, fds[0], &vector, 0), -EINVAL);
	is(wh_ready(loop, fds[0], 0), -EINVAL);
	is(wh_connect(loop, NULL, 0), -EINVAL);
	is(wh_connect(loop, (struct sockaddr *)&nobody, 1), -EINVAL);
	is(wh_connect(loop, (struct sockaddr *)&nobody, 1000), -EINVAL);
	is(wh_accept_from(loop, fds[0], &peer, NULL), -EINVAL);
	is(wh_child_wait(loop, -1), -EINVAL);
	is(wh_signal(loop, SIGKILL), -EINVAL);
	is(wh_signal(loop, 0), -EINVAL);
	is(wh_work(loop, NULL, NULL), -EINVAL);
	assert_int_equal(wrong, 0);
	close_fd(fds[0]);
	close_fd(fds[1]);
	close_fd(fd);
}

/* ---- waits ---------------------------------------------------------------------------------- */

struct place {
	int fd, other; /* -1: none */
	bool is_full;  /* nothing can be written */
};

static void fill(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	assert_int_equal(fcntl(fd, F_SETFL, flags | O_NONBLOCK), 0);
	while (write(fd, bytes, sizeof bytes) > 0 || write(fd, bytes, 1) > 0) {
	}
	assert_int_equal(fcntl(fd, F_SETFL, flags), 0);
}

static struct place empty_pipe(void)
{
	int ends[2];
	assert_int_equal(wh_pipe(loop, ends), 0);
	return (struct place){ends[0], ends[1], false};
}

static struct place full_pipe(void)
{
	struct place place = empty_pipe();
	fill(place.other);
	return (struct place){place.other, place.fd, true};
}

static struct place empty_socket(void)
{
	int fds[2];
	make_pair(fds);
	return (struct place){fds[0], fds[1], false};
}

static struct place full_socket(void)
{
	struct place place = empty_socket();
	fill(place.fd);
	place.is_full = true;
	return place;
}

static struct place listener(void)
{
	struct sockaddr_in address;
	return (struct place){listen_tcp(&address), -1, false};
}

static struct place empty_datagram(void)
{
	int fds[2];
	assert_int_equal(wh_socket_pair(loop, SOCK_DGRAM, fds), 0);
	return (struct place){fds[0], fds[1], false};
}

static const struct waits {
	const char *name;
	struct place (*make)(void);
	wh_future (*start)(wh_loop *l, int fd);
} waits[] = {
	{"read", empty_pipe, read_on},
	{"readv", empty_pipe, readv_on},
	{"read of a socket", empty_socket, read_on},
	{"write", full_pipe, write_on},
	{"write_all", full_pipe, write_all_on},
	{"writev_all", full_pipe, writev_all_on},
	{"accept", listener, accept_on},
	{"accept_from", listener, accept_from_on},
	{"recv", empty_socket, recv_on},
	{"recv_all", empty_socket, recv_all_on},
	{"peek", empty_socket, peek_on},
	{"recvv", empty_socket, recvv_on},
	{"recv_buf", empty_socket, recv_buf_on},
	{"recv_from", empty_datagram, recv_from_on},
	{"recv_message", empty_datagram, recv_message_on},
	{"send", full_socket, send_on},
	{"send_all", full_socket, send_all_on},
	{"sendv_all", full_socket, sendv_all_on},
	{"send_to", full_socket, send_to_on},
	{"send_message", full_socket, send_message_on},
	{"send_file", full_socket, send_file_on},
	{"ready", empty_socket, ready_on},
};

static void close_place(struct place place)
{
	close_fd(place.fd);
	if (place.other >= 0)
		close_fd(place.other);
}

static wh_future start_waiting(const struct waits *w, struct place *ret)
{
	*ret = w->make();
	wh_future f = w->start(loop, ret->fd);
	for (int i = 0; i < 3; i++)
		assert_int_equal(wh_loop_turn(loop, i == 2 ? 100 * WH_NS_PER_US : 0), 0);
	if (wh_done(f))
		judge(w->name, "does not wait", wh_await(f).n, 0);
	return f;
}

static void waits_that_end(void **state)
{
	struct place place;
	wh_future f;
	write_file("other", "other bytes");
	other_file = open_in("other", O_RDWR);
	wrong = 0;
	for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
		const struct waits *w = &waits[i];
		f = start_waiting(w, &place);
		wh_cancel(f);
		judge(w->name, "cancelled", wh_await(f).n, -ECANCELED);
		judge(w->name, "consumed twice", wh_await(f).n, -ESTALE);
		close_place(place);
		f = start_waiting(w, &place);
		judge(w->name, "too late", wh_await(wh_deadline(f, wh_now(loop))).n, -ETIMEDOUT);
		close_place(place);
		f = start_waiting(w, &place);
		close_fd(place.fd);
		judge(w->name, "closed", wh_await(f).n, -ECANCELED);
		judge(w->name, "closed before", wh_await(w->start(loop, place.fd)).n, -EBADF);
		if (place.other >= 0)
			close_fd(place.other);
		if (place.is_full) { /* the reader goes */
			f = start_waiting(w, &place);
			close_fd(place.other);
			judge(w->name, "nobody reads", wh_await(f).n, -EPIPE);
			close_fd(place.fd);
		}
		(void)start_waiting(w, &place);
		wh_loop_close(loop);
		assert_int_equal(wh_loop_open(&loop, NULL), 0);
		close(place.fd);
		close(place.other);
	}
	assert_int_equal(wrong, 0);
	close_fd(other_file);
}

static void one_at_a_time(void **state)
{
	struct place place = empty_socket();
	wrong = 0;
	wh_future f = wh_recv(loop, place.fd, bytes, 1);
	is(wh_recv(loop, place.fd, bytes, 1), -EBUSY);
	is(wh_recv_all(loop, place.fd, bytes, 1), -EBUSY);
	is(wh_recv_buf(loop, place.fd), -EBUSY);
	is(wh_peek(loop, place.fd, bytes, 1), -EBUSY);
	is(wh_recvv(loop, place.fd, &vector, 1), -EBUSY);
	wh_cancel(f);
	is(f, -ECANCELED);
	close_place(place);
	place = full_socket();
	f = wh_send(loop, place.fd, bytes, 1);
	is(wh_send(loop, place.fd, bytes, 1), -EBUSY);
	is(wh_send_all(loop, place.fd, bytes, 1), -EBUSY);
	is(wh_sendv_all(loop, place.fd, &vector, 1), -EBUSY);
	assert_int_equal(wh_drop(f), -EBUSY); /* it borrows */
	wh_cancel(f);
	is(f, -ECANCELED);
	close_place(place);
	assert_int_equal(wrong, 0);
}

/* ---- refusals ------------------------------------------------------------------------------- */

static void on_full_loop(void **state)
{
	wh_loop *small = NULL;
	struct wh_loop_options options = {.futures_max = 1};
	assert_int_equal(wh_loop_open(&small, &options), 0);
	wh_future only = wh_promise(small, NULL, NULL);
	wrong = 0;
	for (size_t i = 0; i < NAMED_COUNT; i++)
		judge(named[i].name, "no slot", wh_await(named[i].start(small, AT_FDCWD, "/tmp")).n, -EAGAIN);
	for (size_t i = 0; i < ON_FD_COUNT; i++)
		if (strcmp(on_fd[i].name, "close") != 0)
			judge(on_fd[i].name, "no slot", wh_await(on_fd[i].start(small, 0)).n, -EAGAIN);
	/* a descriptor that cannot be given back would be lost: this one needs no slot */
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	judge("close", "no slot", wh_await(wh_close(small, fd)).n, 0);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(wrong, 0);
	assert_int_equal(wh_drop(only), 0);
	wh_loop_close(small);
}

/* Futures without a slot carry their error to any thread. */
static void *elsewhere(void *arg)
{
	struct sockaddr_storage address;
	socklen_t len;
	int64_t value;
	int ends[2];
	for (size_t i = 0; i < NAMED_COUNT; i++)
		judge(named[i].name, "elsewhere", wh_await(named[i].start(loop, AT_FDCWD, "/tmp")).n, -EPERM);
	for (size_t i = 0; i < ON_FD_COUNT; i++)
		judge(on_fd[i].name, "elsewhere", wh_await(on_fd[i].start(loop, 0)).n, -EPERM);
	is(wh_make_temporary(loop, bytes, 0), -EPERM);
	judge("socket", "elsewhere", wh_socket(loop, AF_INET, SOCK_STREAM, 0), -EPERM);
	judge("socket_pair", "elsewhere", wh_socket_pair(loop, SOCK_STREAM, ends), -EPERM);
	judge("pipe", "elsewhere", wh_pipe(loop, ends), -EPERM);
	judge("bind", "elsewhere", wh_bind(loop, 0, (struct sockaddr *)&nobody, sizeof nobody), -EPERM);
	judge("listen", "elsewhere", wh_listen(loop, (struct sockaddr *)&nobody, sizeof nobody, NULL),
	      -EPERM);
	judge("listen_on", "elsewhere", wh_listen_on(loop, 0, 1), -EPERM);
	judge("shutdown", "elsewhere", wh_shutdown(loop, 0, SHUT_RD), -EPERM);
	judge("set_option", "elsewhere", wh_set_option(loop, 0, WH_NODELAY, 1), -EPERM);
	judge("get_option", "elsewhere", wh_get_option(loop, 0, WH_NODELAY, &value), -EPERM);
	judge("local_address", "elsewhere", wh_local_address(loop, 0, &address, &len), -EPERM);
	judge("peer_address", "elsewhere", wh_peer_address(loop, 0, &address, &len), -EPERM);
	return NULL;
}

static void on_another_thread(void **state)
{
	pthread_t thread;
	wrong = 0;
	assert_int_equal(pthread_create(&thread, NULL, elsewhere, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(wrong, 0);
}

/* ---- other users, other file systems ---------------------------------------------------------- */

enum { COULD_NOT_TRY = 77 };

/* body runs in a process of its own with a loop of its own; prepare before that loop exists: 0, or what it could not do. */
static void in_another_process(int (*prepare)(void), void (*body)(void))
{
	int status;
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int error = prepare();
		if (error != 0) {
			fprintf(stderr, "not tried: %s\n", strerror(error));
			_exit(COULD_NOT_TRY);
		}
		wrong = 0;
		loop = NULL;
		if (wh_loop_open(&loop, NULL) != 0)
			_exit(2);
		body();
		loop = wh_loop_close(loop);
		_exit(wrong == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == COULD_NOT_TRY)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* From within the folder, because the way to it may be closed to others. */
static int become_nobody(void)
{
	if (chdir(folder) != 0 || setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 ||
	    setresuid(65534, 65534, 65534) != 0)
		return errno;
	return 0;
}

static void as_nobody(void)
{
	for (size_t i = 0; i < NAMED_COUNT; i++)
		if (strcmp(named[i].name, "rename_to") != 0 && strcmp(named[i].name, "link_to") != 0)
			judge(named[i].name, "as nobody",
			      wh_await(named[i].start(loop, AT_FDCWD, "closed/x")).n, -EACCES);
	is(wh_open(loop, "mine", O_RDONLY, 0), -EACCES);
	is(wh_access(loop, "mine", R_OK), -EACCES);
	is(wh_chmod(loop, "mine", 0777), -EPERM);
	is(wh_chown(loop, "mine", 65534, 65534), -EPERM);
	is(wh_set_times(loop, "mine", 0, 0), -EPERM);
	is(wh_unlink(loop, "mine"), -EACCES);
	is(wh_rename(loop, "mine", "x"), -EACCES);
}

static void without_permission(void **state)
{
	write_file("mine", "");
	write_file("spare", "");
	must(wh_chmod(loop, in_folder("mine"), 0600));
	must(wh_mkdir(loop, in_folder("closed"), 0700));
	assert_int_equal(chmod(folder, 0755), 0);
	in_another_process(become_nobody, as_nobody);
}

static char mounted[512];

static int mount_small(void)
{
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("tmpfs", mounted, "tmpfs", 0, "size=64k,nr_inodes=4") != 0)
		return errno;
	return 0;
}

static int mount_read_only(void)
{
	int error = mount_small();
	if (error != 0)
		return error;
	int fd = open(in_folder("mounted/there"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno;
	close(fd);
	return mount(NULL, mounted, NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0 ? errno : 0;
}

static void on_full_disk(void)
{
	static char large[128 * 1024];
	struct iovec iov = {large, sizeof large};
	int fd = (int)wh_await(wh_open(loop, in_folder("mounted/a"), O_RDWR | O_CREAT, 0600)).n,
	    other = (int)wh_await(wh_open(loop, in_folder("mounted/b"), O_RDWR | O_CREAT, 0600)).n;
	is(wh_pwrite_all(loop, fd, large, sizeof large, 0), -ENOSPC);
	is(wh_pwrite(loop, other, large, 4096, 0), -ENOSPC);
	is(wh_pwritev_all(loop, other, &iov, 1, 0), -ENOSPC);
	is(wh_append_durable(loop, other, large, 4096, 0), -ENOSPC);
	is(wh_write_all(loop, other, large, 4096), -ENOSPC);
	is(wh_allocate(loop, other, 0, 1 << 20), -ENOSPC);
	is(wh_copy_range(loop, other, 0, fd, 0, 4096), -ENOSPC);
	is(wh_copy_file(loop, in_folder("mounted/a"), in_folder("mounted/b"), true), -ENOSPC);
	must(wh_mkdir(loop, in_folder("mounted/c"), 0700));
	is(wh_mkdir(loop, in_folder("mounted/d"), 0700), -ENOSPC);
	is(wh_open(loop, in_folder("mounted/d"), O_RDWR | O_CREAT, 0600), -ENOSPC);
	is(wh_symlink(loop, "x", in_folder("mounted/d")), -ENOSPC);
	close_fd(fd);
	close_fd(other);
}

static void full_disks(void **state)
{
	must(wh_mkdir(loop, in_folder("mounted"), 0700));
	snprintf(mounted, sizeof mounted, "%s", in_folder("mounted"));
	in_another_process(mount_small, on_full_disk);
}

static void on_read_only_disk(void)
{
	is(wh_open(loop, in_folder("mounted/there"), O_RDWR, 0), -EROFS);
	is(wh_open(loop, in_folder("mounted/new"), O_RDWR | O_CREAT, 0600), -EROFS);
	is(wh_access(loop, in_folder("mounted/there"), W_OK), -EROFS);
	is(wh_chmod(loop, in_folder("mounted/there"), 0700), -EROFS);
	is(wh_chown(loop, in_folder("mounted/there"), 0, 0), -EROFS);
	is(wh_set_times(loop, in_folder("mounted/there"), 0, 0), -EROFS);
	is(wh_rename(loop, in_folder("mounted/there"), in_folder("mounted/new")), -EROFS);
	is(wh_unlink(loop, in_folder("mounted/there")), -EROFS);
	is(wh_mkdir(loop, in_folder("mounted/new"), 0700), -EROFS);
	is(wh_link(loop, in_folder("mounted/there"), in_folder("mounted/new")), -EROFS);
	is(wh_symlink(loop, "x", in_folder("mounted/new")), -EROFS);
	is(wh_copy_file(loop, "/proc/version", in_folder("mounted/new"), true), -EROFS);
	char path[600];
	snprintf(path, sizeof path, "%s/XXXXXX", mounted);
	is(wh_make_temporary(loop, path, 0), -EROFS);
	snprintf(path, sizeof path, "%s/XXXXXX", mounted);
	is(wh_make_temporary_directory(loop, path), -EROFS);
	is(wh_rmdir(loop, mounted), -EBUSY);
	is(wh_rename(loop, mounted, in_folder("moved")), -EBUSY);
}

static void read_only_disks(void **state)
{
	must(wh_mkdir(loop, in_folder("mounted"), 0700));
	snprintf(mounted, sizeof mounted, "%s", in_folder("mounted"));
	in_another_process(mount_read_only, on_read_only_disk);
}

static void files_that_may_not_grow(void **state)
{
	struct rlimit before, small;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
	int fd = open_in("file", O_RDWR | O_CREAT), other = open_in("other", O_RDWR | O_CREAT);
	gives(wh_pwrite_all(loop, other, bytes, 4000, 0), 4000);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = 1000;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	wrong = 0;
	is(wh_pwrite(loop, fd, bytes, 1, 1000), -EFBIG);
	is(wh_pwrite_all(loop, fd, bytes, 2000, 0), -EFBIG);
	is(wh_pwritev_all(loop, fd, &(struct iovec){bytes, 2000}, 1, 0), -EFBIG);
	is(wh_append_durable(loop, fd, bytes, 1, 1000), -EFBIG);
	is(wh_append_durable(loop, fd, bytes, 2000, 0), -EFBIG);
	is(wh_write_all(loop, fd, bytes, 2000), -EFBIG);
	is(wh_truncate(loop, fd, 1001), -EFBIG);
	is(wh_allocate(loop, fd, 0, 1001), -EFBIG);
	is(wh_copy_range(loop, fd, 0, other, 0, 4000), -EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, handler);
	assert_int_equal(wrong, 0);
	close_fd(fd);
	close_fd(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(names_that_are_wrong),
		IN_FOLDER(names_of_the_wrong_kind),
		IN_FOLDER(descriptors_that_do_not_suit),
		IN_FOLDER(arguments_that_are_wrong),
		IN_FOLDER(waits_that_end),
		IN_FOLDER(one_at_a_time),
		IN_FOLDER(on_full_loop),
		IN_FOLDER(on_another_thread),
		IN_FOLDER(without_permission),
		IN_FOLDER(full_disks),
		IN_FOLDER(read_only_disks),
		IN_FOLDER(files_that_may_not_grow),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
