/* tests/sim/test_sim_calls.c -- every operation of file.h and socket.h on a simulated machine works, or says why not
 * where its header says so.
 *
 * The headers are the arguments: an operation that is declared there and not called here fails the test.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

#include "whilst/sim.h"

enum { CALLS_MAX = 400 };

static const char *headers[2], *called[CALLS_MAX];
static size_t called_count;
static wh_sim *sim;
static wh_loop *loop;

static int start(void **state)
{
	called_count = 0;
	assert_int_equal(wh_sim_open(&sim, &(struct wh_sim_options){.seed = 3}), 0);
	return wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim});
}

static int end(void **state)
{
	loop = wh_loop_close(loop);
	sim = wh_sim_close(sim);
	return 0;
}

static int64_t note(const char *name, int64_t n, int64_t wanted)
{
	assert_true(called_count < CALLS_MAX);
	called[called_count++] = name;
	if (n != wanted)
		fail_msg("%s() gives %lld, not %lld", name, (long long)n, (long long)wanted);
	return n;
}

static int64_t note_fd(const char *name, int64_t n)
{
	if (n < 0)
		fail_msg("%s() gives %lld", name, (long long)n);
	return note(name, n, n);
}

#define GIVES(wanted, name, ...)     note(#name, wh_await(name(loop, __VA_ARGS__)).n, wanted)
#define GIVES_NOW(wanted, name, ...) note(#name, name(loop, __VA_ARGS__), wanted)
#define OPENS(name, ...)             (int)note_fd(#name, wh_await(name(loop, __VA_ARGS__)).n)
#define OPENS_NOW(name, ...)         (int)note_fd(#name, name(loop, __VA_ARGS__))

static bool was_called(const char *name)
{
	for (size_t i = 0; i < called_count; i++)
		if (!strcmp(called[i], name))
			return true;
	return false;
}

/* What a header declares that takes a loop first, is called. */
static void expect_all_called(const char *header)
{
	char line[256], name[64];
	int seen = 0;
	FILE *file = fopen(header, "r");
	assert_non_null(file);
	while (fgets(line, sizeof line, file)) {
		const char *at = strstr(line, "(wh_loop *loop");
		if (strncmp(line, "WH_API", 6) != 0 || !at)
			continue;
		const char *from = at;
		while (from > line && from[-1] != ' ' && from[-1] != '*')
			from--;
		(void)snprintf(name, sizeof name, "%.*s", (int)(at - from), from);
		if (!was_called(name))
			fail_msg("%s() of %s is not called here", name, header);
		seen++;
	}
	(void)fclose(file);
	assert_true(seen > 20);
}

static void contents(int fd)
{
	char buf[64] = "0123456789";
	const struct iovec iov[] = {{buf, 4}, {buf + 4, 6}};
	GIVES(10, wh_pwrite_all, fd, buf, 10, 0);
	GIVES(10, wh_pwritev_all, fd, iov, 2, 10);
	GIVES(10, wh_append_durable, fd, buf, 10, 20);
	GIVES(1, wh_pwrite, fd, buf, 1, 30);
	GIVES(1, wh_pwritev, fd, &(struct iovec){buf, 1}, 1, 31);
	GIVES(10, wh_pread_all, fd, buf, 10, 5);
	assert_memory_equal(buf, "5678901234", 10);
	GIVES(10, wh_preadv_all, fd, iov, 2, 0);
	GIVES(1, wh_pread, fd, buf, 1, 0);
	wh_res res = wh_await(wh_pread_buf(loop, fd, 0));
	note("wh_pread_buf", res.n, 32);
	wh_buf_put(res.ptr);
	GIVES(1, wh_preadv, fd, &(struct iovec){buf, 1}, 1, 0);
	GIVES(1, wh_read, fd, buf, 1);
	GIVES(1, wh_readv, fd, &(struct iovec){buf, 1}, 1);
	GIVES(1, wh_write, fd, buf, 1);
	GIVES(2, wh_write_all, fd, buf, 2);
	GIVES(10, wh_writev_all, fd, iov, 2);
	GIVES(0, wh_fsync, fd, true);
	GIVES(32, wh_size, fd);
	GIVES(0, wh_allocate, fd, 0, 100);
	GIVES(0, wh_allocate_mode, fd, WH_ALLOCATE_KEEP_SIZE, 0, 10);
	GIVES(0, wh_truncate, fd, 32);
	GIVES(0, wh_advise, fd, 0, 0, POSIX_FADV_DONTNEED);
	GIVES(0, wh_sync_range, fd, 0, 0, SYNC_FILE_RANGE_WRITE);
	note_fd("wh_disk_free", wh_await(wh_disk_free(loop, fd)).n);
	GIVES_NOW(10, wh_pread_blocking, fd, buf, 10, 0);
	GIVES_NOW(10, wh_pwrite_blocking, fd, buf, 10, 0);
	GIVES_NOW(10, wh_pwritev_blocking, fd, iov, 2, 0);
	GIVES_NOW(0, wh_fsync_blocking, fd, false);
}

static void locks_and_copies(int fd)
{
	char buf[32];
	int other = OPENS(wh_open_at, AT_FDCWD, "/f", O_RDWR, 0);
	GIVES_NOW(0, wh_close_now, OPENS(wh_open_at, AT_FDCWD, "/f", O_RDWR, 0));
	GIVES(0, wh_lock_shared, fd);
	GIVES(0, wh_lock_shared, other);
	GIVES(-EAGAIN, wh_lock, fd); /* and what fd held is gone */
	GIVES(0, wh_lock, other);
	GIVES(-EAGAIN, wh_lock_shared, fd);
	GIVES(0, wh_unlock, other);
	GIVES(0, wh_lock_shared, fd);
	GIVES(0, wh_close, fd);
	GIVES(0, wh_lock, other);
	GIVES(-EINVAL, wh_copy_range, other, 5, other, 0, 10);
	GIVES(10, wh_copy_range, other, 100, other, 0, 10);
	GIVES(110, wh_copy_file, "/f", "/copy", false);
	GIVES(-EEXIST, wh_copy_file, "/f", "/copy", false);
	GIVES(-EINVAL, wh_copy_file, "/f", "/f", true);
	GIVES(110, wh_copy_file, "/f", "/copy", true);
	GIVES(0, wh_close, other);
	int copy = OPENS(wh_open, "/copy", O_RDONLY, 0);
	GIVES(10, wh_pread_all, copy, buf, 10, 100);
	GIVES(0, wh_close, copy);
}

static void names(int directory)
{
	struct wh_stat a, b;
	GIVES(0, wh_mkdir_at, directory, "sub", 0700);
	GIVES(0, wh_link, "/f", "/d/g");
	GIVES(-EPERM, wh_link, "/d", "/e");
	GIVES(-EEXIST, wh_link_at, AT_FDCWD, "/f", directory, "g", 0);
	GIVES(0, wh_stat, "/f", &a);
	GIVES(0, wh_stat_at, directory, "g", 0, &b);
	assert_int_equal(a.inode, b.inode);
	assert_int_equal(a.links, 2);
	assert_int_equal(a.size, 110);
	GIVES(-EEXIST, wh_rename_at, directory, "g", AT_FDCWD, "copy", WH_RENAME_NO_REPLACE);
	GIVES(0, wh_rename_at, directory, "g", AT_FDCWD, "copy", WH_RENAME_EXCHANGE);
	GIVES(0, wh_lstat, "/copy", &b);
	assert_int_equal(a.inode, b.inode);
	GIVES(-EINVAL, wh_rename_at, AT_FDCWD, "/d", directory, "sub", WH_RENAME_EXCHANGE);
	GIVES(0, wh_rename, "/copy", "/d/sub/h");
	GIVES(-ENOTEMPTY, wh_rmdir, "/d/sub");
	GIVES(0, wh_unlink, "/d/sub/h");
	GIVES(-EISDIR, wh_unlink_at, directory, "sub", 0);
	int sub = OPENS(wh_open_at, directory, "sub", O_RDONLY | O_DIRECTORY, 0);
	GIVES(0, wh_unlink_at, directory, "sub", AT_REMOVEDIR);
	GIVES(-ENOENT, wh_open_at, sub, "late", O_CREAT | O_WRONLY, 0600); /* it is gone, and open */
	GIVES(0, wh_fstat, sub, &b);
	assert_int_equal(b.type, WH_FILE_DIRECTORY);
	wh_res res = wh_await(wh_list_next(loop, directory));
	struct wh_entries *entries = res.ptr;
	note("wh_list_next", res.n, 1);
	assert_string_equal(entries->entries[0].name, "g");
	wh_entries_free(entries);
	res = wh_await(wh_list_next(loop, directory));
	assert_int_equal(res.n, 0);
	wh_entries_free(res.ptr);
	res = wh_await(wh_list(loop, "/d"));
	note("wh_list", res.n, 1);
	wh_names_free(res.ptr);
}

static void links(int directory)
{
	char text[64];
	struct wh_stat st;
	GIVES(0, wh_symlink, "d/../f", "/l");
	GIVES(-EEXIST, wh_symlink, "/f", "/l");
	GIVES(0, wh_symlink_at, "../l", directory, "m");
	GIVES(6, wh_readlink, "/l", text, sizeof text);
	assert_memory_equal(text, "d/../f", 6);
	GIVES(-ENAMETOOLONG, wh_readlink, "/l", text, 6);
	GIVES(-EINVAL, wh_readlink, "/f", text, sizeof text);
	GIVES(4, wh_readlink_at, directory, "m", text, sizeof text);
	GIVES(2, wh_realpath, "/d/m", text, sizeof text);
	assert_string_equal(text, "/f");
	GIVES(2, wh_realpath, "d/.//../d", text, sizeof text);
	assert_string_equal(text, "/d");
	GIVES(-ENAMETOOLONG, wh_realpath, "/f", text, 2);
	GIVES(0, wh_stat, "/d/m", &st);
	assert_int_equal(st.type, WH_FILE_REGULAR);
	GIVES(0, wh_lstat, "/d/m", &st);
	assert_int_equal(st.type, WH_FILE_LINK);
	assert_int_equal(st.size, 4);
	GIVES(-ELOOP, wh_open, "/d/m", O_RDONLY | O_NOFOLLOW, 0);
	assert_int_equal(wh_close_now(loop, OPENS(wh_open, "/d/m", O_RDWR, 0)), 0);
	/* one that leads nowhere is made there; a circle leads nowhere at all */
	GIVES(0, wh_symlink, "/d/late", "/n");
	GIVES(-ENOENT, wh_open, "/n", O_RDONLY, 0);
	GIVES(-EEXIST, wh_open, "/n", O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_int_equal(wh_close_now(loop, OPENS(wh_open, "/n", O_RDWR | O_CREAT, 0600)), 0);
	GIVES(0, wh_unlink_at, directory, "late", 0);
	GIVES(0, wh_symlink, "c2", "/c1");
	GIVES(0, wh_symlink, "c1", "/c2");
	GIVES(-ELOOP, wh_stat, "/c1/x", &st);
	GIVES(0, wh_unlink, "/c1");
	GIVES(0, wh_unlink, "/d/m");
	/* through a directory */
	GIVES(0, wh_symlink, "/d", "/e");
	GIVES(0, wh_mkdir, "/e/in", 0755);
	GIVES(0, wh_rmdir, "/d/in");
	GIVES(-ENOTDIR, wh_rmdir, "/e");
	GIVES(0, wh_unlink, "/e");
}

static void what_files_are(int directory)
{
	struct wh_stat st, after;
	int fd = OPENS(wh_open, "/f", O_RDWR, 0);
	GIVES(0, wh_access, "/f", R_OK | W_OK);
	GIVES(-EACCES, wh_access, "/f", X_OK);
	GIVES(-ENOENT, wh_access_at, directory, "nothing", F_OK, 0);
	GIVES(0, wh_chmod, "/f", 04711);
	GIVES(0, wh_access, "/f", X_OK);
	GIVES(0, wh_chown, "/f", 1, 2);
	GIVES(0, wh_chown_at, AT_FDCWD, "/f", 7, UINT32_MAX, AT_SYMLINK_NOFOLLOW);
	GIVES(0, wh_fstat, fd, &st);
	assert_int_equal(st.mode, 04711);
	assert_int_equal(st.user, 7);
	assert_int_equal(st.group, 2);
	assert_true(st.created_ns > 0 && st.changed_ns > st.modified_ns && st.modified_ns > st.created_ns);
	GIVES(0, wh_fchmod, fd, 0600);
	GIVES(0, wh_chmod_at, AT_FDCWD, "/f", 0640);
	GIVES(0, wh_fchown, fd, 0, 0);
	GIVES(0, wh_set_times, "/f", 5, WH_TIME_KEEP);
	GIVES(0, wh_fset_times, fd, WH_TIME_KEEP, -5);
	GIVES(0, wh_fstat, fd, &after);
	assert_int_equal(after.accessed_ns, 5);
	assert_int_equal(after.modified_ns, -5);
	assert_true(after.changed_ns > st.changed_ns);
	GIVES(0, wh_set_times_at, directory, "../f", WH_TIME_NOW, WH_TIME_NOW, 0);
	GIVES(0, wh_fstat, fd, &st);
	assert_true(st.modified_ns > after.changed_ns && st.accessed_ns == st.modified_ns);
	GIVES(1, wh_pwrite_all, fd, "x", 1, 0);
	GIVES(0, wh_fstat, fd, &after);
	assert_true(after.modified_ns > st.modified_ns && after.accessed_ns == st.accessed_ns);
	assert_int_equal(wh_close_now(loop, fd), 0);
}

static void temporary_files(void)
{
	char file[] = "/d/t-XXXXXX", other[] = "/d/t-XXXXXX", folder[] = "/d/XXXXXX", bad[] = "/d/x";
	struct wh_stat st;
	int fd = OPENS(wh_make_temporary, file, 0);
	assert_int_equal(wh_close_now(loop, OPENS(wh_make_temporary, other, O_APPEND)), 0);
	assert_string_not_equal(file, other);
	GIVES(2, wh_write_all, fd, "ab", 2);
	GIVES(0, wh_stat, file, &st);
	assert_int_equal(st.mode, 0600);
	assert_int_equal(st.size, 2);
	assert_int_equal(wh_close_now(loop, fd), 0);
	GIVES(0, wh_make_temporary_directory, folder);
	GIVES(0, wh_stat, folder, &st);
	assert_int_equal(st.mode, 0700);
	GIVES(-EINVAL, wh_make_temporary, bad, 0);
}

/* Room beyond the end, holes, zeros; a file that no folder knows. */
static void holes(void)
{
	char buf[32];
	struct wh_stat st;
	int fd = OPENS(wh_open, "/d", O_TMPFILE | O_RDWR, 0600);
	GIVES(-EINVAL, wh_open, "/d", O_TMPFILE | O_RDONLY, 0600);
	GIVES(-ENOTDIR, wh_open, "/f", O_TMPFILE | O_RDWR, 0600);
	GIVES(-ENOENT, wh_open, "/d/none", O_TMPFILE | O_RDWR, 0600);
	GIVES(0, wh_fstat, fd, &st);
	assert_int_equal(st.links, 0);
	assert_int_equal(st.mode, 0600);
	memset(buf, 'x', sizeof buf);
	for (uint64_t off = 0; off < 16384; off += sizeof buf)
		assert_int_equal(wh_await(wh_pwrite_all(loop, fd, buf, sizeof buf, off)).n, sizeof buf);
	GIVES(0, wh_fstat, fd, &st);
	uint64_t whole = st.allocated_bytes;
	GIVES(0, wh_allocate_mode, fd, WH_ALLOCATE_KEEP_SIZE, 16384, 8192);
	GIVES(16384, wh_size, fd);
	GIVES(0, wh_fstat, fd, &st);
	assert_int_equal(st.allocated_bytes, whole + 8192);
	/* from within one block to within another: those between are given back */
	GIVES(0, wh_allocate_mode, fd, WH_ALLOCATE_PUNCH_HOLE, 4000, 8298);
	GIVES(0, wh_fstat, fd, &st);
	assert_int_equal(st.allocated_bytes, whole);
	GIVES(16384, wh_size, fd);
	GIVES(20, wh_pread_all, fd, buf, 20, 3990);
	assert_memory_equal(buf, "xxxxxxxxxx\0\0\0\0\0\0\0\0\0\0", 20);
	GIVES(20, wh_pread_all, fd, buf, 20, 12288);
	assert_memory_equal(buf, "\0\0\0\0\0\0\0\0\0\0xxxxxxxxxx", 20);
	GIVES(0, wh_allocate_mode, fd, WH_ALLOCATE_PUNCH_HOLE, 20000,
	      100000); /* beyond the end there is room alone */
	GIVES(0, wh_allocate_mode, fd, WH_ALLOCATE_ZERO_RANGE, 16380, 10);
	GIVES(16390, wh_size, fd);
	GIVES(10, wh_pread_all, fd, buf, 20, 16380);
	assert_memory_equal(buf, "\0\0\0\0\0\0\0\0\0\0", 10);
	GIVES(0, wh_allocate_mode, fd, WH_ALLOCATE_ZERO_RANGE | WH_ALLOCATE_KEEP_SIZE, 16390, 10);
	GIVES(16390, wh_size, fd);
	GIVES(-EINVAL, wh_allocate_mode, fd, WH_ALLOCATE_ZERO_RANGE, 0, 0);
	GIVES(-EFBIG, wh_allocate_mode, fd, WH_ALLOCATE_KEEP_SIZE, INT64_MAX, 1);
	GIVES(-EOPNOTSUPP, wh_allocate_mode, fd, 2, 0, 1);       /* a hole that does not keep the size */
	GIVES(-EOPNOTSUPP, wh_allocate_mode, fd, 8, 0, 4096);    /* a range that collapses */
	GIVES(-EOPNOTSUPP, wh_allocate_mode, fd, 1 << 20, 0, 1); /* nothing at all */
	GIVES(0, wh_close, fd);
}

static void pipes(void)
{
	char in[8], other[8];
	int ends[2], more[2];
	struct wh_stat st;
	GIVES_NOW(0, wh_pipe, ends);
	GIVES(0, wh_fstat, ends[0], &st);
	assert_int_equal(st.type, WH_FILE_PIPE);
	wh_future waits = wh_read(loop, ends[0], in, sizeof in);
	assert_int_equal(wh_loop_turn(loop, 0), 0);
	GIVES(3, wh_write_all, ends[1], "abc", 3);
	wh_res res = wh_await(waits);
	assert_int_equal(res.n, 3);
	assert_memory_equal(in, "abc", 3);
	char first[] = "de", second[] = "f";
	const struct iovec out[] = {{first, 2}, {second, 1}}, into[] = {{in, 1}, {other, 7}};
	GIVES(3, wh_writev_all, ends[1], out, 2);
	GIVES(POLLIN, wh_ready, ends[0], POLLIN);
	GIVES(3, wh_readv, ends[0], into, 2);
	assert_memory_equal(other, "ef", 2);
	GIVES(-EBADF, wh_read, ends[1], in, 1);
	GIVES(-EBADF, wh_write, ends[0], in, 1);
	GIVES(-ESPIPE, wh_pread, ends[0], in, 1, 0);
	GIVES(-EINVAL, wh_fsync, ends[1], false);
	assert_int_equal(wh_await(wh_recv(loop, ends[0], in, 1)).n, -ENOTSOCK);
	assert_int_equal(wh_shutdown(loop, ends[1], SHUT_WR), -ENOTSOCK);
	/* what was written before the end comes before it; and nobody reads */
	GIVES(1, wh_write, ends[1], "z", 1);
	GIVES(0, wh_close, ends[1]);
	GIVES(1, wh_read, ends[0], in, sizeof in);
	GIVES(0, wh_read, ends[0], in, sizeof in);
	GIVES(0, wh_close, ends[0]);
	GIVES_NOW(0, wh_pipe, more);
	GIVES(1, wh_write, more[1], "z", 1);
	GIVES(0, wh_close, more[0]);
	GIVES(-EPIPE, wh_write, more[1], "z", 1);
	GIVES(0, wh_close, more[1]);
	/* one that is full waits for its reader */
	static char much[1 << 20], back[1 << 20];
	memset(much, 'm', sizeof much);
	GIVES_NOW(0, wh_pipe, ends);
	waits = wh_write_all(loop, ends[1], much, sizeof much);
	for (size_t done = 0; done < sizeof back; done += (size_t)res.n) {
		res = wh_await(wh_read(loop, ends[0], back + done, sizeof back - done));
		assert_true(res.n > 0);
	}
	assert_int_equal(wh_await(waits).n, sizeof much);
	assert_memory_equal(much, back, sizeof back);
	/* a cancelled read has taken nothing */
	waits = wh_read(loop, ends[0], in, 1);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_S), 0);
	wh_cancel(waits);
	assert_int_equal(wh_await(waits).n, -ECANCELED);
	GIVES(0, wh_close, ends[0]);
	GIVES(0, wh_close, ends[1]);
}

static void files_do_what_the_header_says(void **state)
{
	int fd = OPENS(wh_open, "/f", O_RDWR | O_CREAT, 0600);
	GIVES(0, wh_mkdir, "/d", 0700);
	int directory = OPENS(wh_open, "/d", O_RDONLY | O_DIRECTORY, 0);
	contents(fd);
	locks_and_copies(fd);
	names(directory);
	links(directory);
	what_files_are(directory);
	temporary_files();
	holes();
	pipes();
	expect_all_called(headers[0]);
}

/* One end sends, the other receives. */
static void streams(int a, int b)
{
	char buf[16] = "0123456789", in[16];
	const struct iovec iov = {buf, 10}, room = {in, 1};
	int file = (int)wh_await(wh_open(loop, "/f", O_RDWR | O_CREAT, 0600)).n;
	assert_int_equal(wh_await(wh_pwrite_all(loop, file, buf, 10, 0)).n, 10);
	GIVES(10, wh_send_all, a, buf, 10);
	GIVES(10, wh_sendv_all, a, &iov, 1);
	GIVES(10, wh_send_file, a, file, 0, 100);
	GIVES(1, wh_send, a, buf, 1);
	GIVES(POLLIN, wh_ready, b, POLLIN);
	GIVES(1, wh_peek, b, in, 1);
	GIVES(1, wh_recv, b, in, 1);
	GIVES(1, wh_recvv, b, &room, 1);
	GIVES(10, wh_recv_all, b, in, 10);
	assert_memory_equal(in, "2345678901", 10);
	wh_res res = wh_await(wh_recv_buf(loop, b));
	note_fd("wh_recv_buf", res.n);
	wh_buf_put(res.ptr);
	GIVES_NOW(0, wh_shutdown, a, SHUT_WR);
}

static void connections(void)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct sockaddr *address = (struct sockaddr *)&here;
	struct sockaddr_storage from;
	struct wh_credentials credentials;
	socklen_t len = sizeof from;
	int64_t value;
	int flag = 1, listener = OPENS_NOW(wh_listen, address, sizeof here, NULL);
	GIVES_NOW(0, wh_local_address, listener, &from, &len);
	memcpy(&here, &from, sizeof here);
	wh_future accepted = wh_accept(loop, listener);
	int a = OPENS(wh_connect, address, sizeof here), b = (int)note_fd("wh_accept", wh_await(accepted).n);
	GIVES_NOW(0, wh_peer_address, a, &from, &len);
	note("wh_peer_credentials", wh_peer_credentials(loop, a, &credentials) < 0, 1);
	GIVES_NOW(0, wh_set_option, a, WH_NODELAY, 1);
	GIVES_NOW(0, wh_get_option, a, WH_NODELAY, &value);
	len = sizeof flag;
	GIVES_NOW(0, wh_set_option_raw, a, SOL_SOCKET, SO_KEEPALIVE, &flag, len);
	GIVES_NOW(0, wh_get_option_raw, a, SOL_SOCKET, SO_KEEPALIVE, &flag, &len);
	streams(a, b);
	accepted = wh_accept_from(loop, listener, &from, &len);
	int own = OPENS_NOW(wh_socket, AF_INET, SOCK_STREAM, 0);
	GIVES(0, wh_connect_on, own, address, sizeof here);
	note_fd("wh_accept_from", wh_await(accepted).n);
	assert_int_equal(from.ss_family, AF_INET);
}

static void datagrams(void)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in group = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xe0000101)};
	char buf[8] = "abc", in[8];
	const struct iovec iov = {buf, 3}, room = {in, 8};
	struct sockaddr_storage bound;
	struct wh_from from;
	socklen_t len = sizeof bound;
	int descriptor = 0, fd = OPENS_NOW(wh_socket, AF_INET, SOCK_DGRAM, 0);
	GIVES_NOW(0, wh_bind, fd, (struct sockaddr *)&here, sizeof here);
	assert_int_equal(wh_local_address(loop, fd, &bound, &len), 0);
	GIVES_NOW(-EOPNOTSUPP, wh_listen_on, fd, 5);
	int by_text = OPENS_NOW(wh_listen_text, "127.0.0.1:0", NULL);
	assert_int_equal(wh_close_now(loop, by_text), 0);
	GIVES(3, wh_send_to, fd, buf, 3, (struct sockaddr *)&bound, len);
	GIVES(3, wh_recv_from, fd, in, 8, &from);
	assert_memory_equal(&from.address, &bound, len);
	struct wh_message message = {.iov = &iov, .iov_count = 1, .address = bound, .address_len = len};
	GIVES(3, wh_send_message, fd, &message);
	message.iov = &room;
	GIVES(3, wh_recv_message, fd, &message);
	assert_memory_equal(in, "abc", 3);
	message = (struct wh_message){.iov = &iov,
	                              .iov_count = 1,
	                              .address = bound,
	                              .address_len = len,
	                              .descriptors = &descriptor,
	                              .descriptor_count = 1};
	GIVES(-EOPNOTSUPP, wh_send_message, fd, &message);
	GIVES_NOW(-ENOPROTOOPT, wh_join_group, fd, (struct sockaddr *)&group, sizeof group, 0);
	GIVES_NOW(-ENOPROTOOPT, wh_leave_group, fd, (struct sockaddr *)&group, sizeof group, 0);
}

static void sockets_do_what_the_header_says(void **state)
{
	int ends[2];
	connections();
	datagrams();
	GIVES_NOW(-EPROTONOSUPPORT, wh_socket_pair, SOCK_DGRAM, ends);
	GIVES_NOW(0, wh_socket_pair, SOCK_STREAM, ends);
	streams(ends[0], ends[1]);
	expect_all_called(headers[1]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(files_do_what_the_header_says, start, end),
		cmocka_unit_test_setup_teardown(sockets_do_what_the_header_says, start, end),
	};
	if (argc != 3) {
		(void)fprintf(stderr, "usage: %s FILE.H SOCKET.H\n", argv[0]);
		return 2;
	}
	headers[0] = argv[1];
	headers[1] = argv[2];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
