/* tests/conformance/test_file.c -- files and directories: every operation, its result and its errors. */
#include "conformance.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

static char directory[64];

static int make_directory(void **state)
{
	strcpy(directory, "/tmp/whilst-file-XXXXXX");
	return mkdtemp(directory) ? open_loop(state) : -1;
}

static int remove_directory(void **state)
{
	char command[128];
	close_loop(state);
	snprintf(command, sizeof command, "rm -rf %s", directory);
	return system(command);
}

#define IN_DIRECTORY(f) cmocka_unit_test_setup_teardown(f, make_directory, remove_directory)

static const char *path_of(const char *name)
{
	static char paths[4][128];
	static int next;
	char *path = paths[next++ % 4];
	snprintf(path, sizeof paths[0], "%s/%s", directory, name);
	return path;
}

static int open_new(const char *name)
{
	int fd = (int)wh_await(wh_open(loop, path_of(name), O_RDWR | O_CREAT, 0600)).n;
	assert_true(fd >= 0);
	return fd;
}

static void what_is_written_is_read(void **state)
{
	char buf[64] = {0};
	int fd = open_new("a");
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(wh_await(wh_pwrite(loop, fd, "hello world", 11, 0)).n, 11);
	assert_int_equal(wh_await(wh_pread(loop, fd, buf, sizeof buf, 0)).n, 11);
	assert_string_equal(buf, "hello world");
	assert_int_equal(wh_await(wh_pread(loop, fd, buf, 5, 6)).n, 5);
	assert_memory_equal(buf, "world", 5);
	assert_int_equal(wh_await(wh_pread(loop, fd, buf, 5, 11)).n, 0); /* end of file */
	assert_int_equal(wh_await(wh_pread(loop, fd, buf, 5, 1000)).n, 0);
	assert_int_equal(wh_await(wh_pread_all(loop, fd, buf, 64, 6)).n, 5); /* short only there */
	assert_int_equal(wh_await(wh_pread(loop, fd, buf, 0, 0)).n, 0);
	assert_int_equal(wh_await(wh_pwrite_all(loop, fd, "", 0, 0)).n, 0);
	close_fd(fd);
}

static void large_transfers_are_whole(void **state)
{
	enum { LEN = 9 * 1000 * 1000 + 7 };
	uint8_t *out = malloc(LEN), *in = calloc(1, LEN);
	int fd = open_new("big");
	for (size_t i = 0; i < LEN; i++)
		out[i] = (uint8_t)(i * 7 + i / 251);
	assert_int_equal(wh_await(wh_pwrite_all(loop, fd, out, LEN, 3)).n, LEN);
	assert_int_equal(wh_await(wh_size(loop, fd)).n, LEN + 3);
	assert_int_equal(wh_await(wh_pread_all(loop, fd, in, LEN, 3)).n, LEN);
	assert_memory_equal(in, out, LEN);
	close_fd(fd);
	free(out);
	free(in);
}

static void reads_at_depth(void **state)
{
	enum { BLOCKS = 200 };
	static char blocks[BLOCKS][512], read_back[BLOCKS][512];
	wh_future fs[BLOCKS];
	wh_res results[BLOCKS];
	int fd = open_new("blocks");
	for (int i = 0; i < BLOCKS; i++) {
		memset(blocks[i], i + 1, sizeof blocks[i]);
		fs[i] = wh_pwrite_all(loop, fd, blocks[i], 512, (uint64_t)i * 512);
	}
	assert_int_equal(wh_await(wh_all(loop, fs, BLOCKS, results)).n, 0);
	for (int i = 0; i < BLOCKS; i++)
		fs[i] = wh_pread_all(loop, fd, read_back[i], 512, (uint64_t)i * 512);
	assert_int_equal(wh_await(wh_all(loop, fs, BLOCKS, results)).n, 0);
	for (int i = 0; i < BLOCKS; i++)
		assert_int_equal(results[i].n, 512);
	assert_memory_equal(blocks, read_back, sizeof blocks);
	close_fd(fd);
}

static void sizes_can_be_changed(void **state)
{
	struct statvfs vfs;
	int fd = open_new("sizes");
	assert_int_equal(wh_await(wh_size(loop, fd)).n, 0);
	assert_int_equal(wh_await(wh_truncate(loop, fd, 1000)).n, 0);
	assert_int_equal(wh_await(wh_size(loop, fd)).n, 1000);
	assert_int_equal(wh_await(wh_allocate(loop, fd, 0, 5000)).n, 0);
	assert_int_equal(wh_await(wh_size(loop, fd)).n, 5000);
	assert_int_equal(wh_await(wh_allocate(loop, fd, 0, 0)).n, -EINVAL);
	assert_int_equal(wh_await(wh_truncate(loop, fd, 10)).n, 0);
	assert_int_equal(wh_await(wh_size(loop, fd)).n, 10);
	assert_int_equal(wh_await(wh_truncate(loop, fd, UINT64_MAX)).n, -EINVAL);
	assert_int_equal(fstatvfs(fd, &vfs), 0);
	int64_t expected = (int64_t)(vfs.f_bavail * vfs.f_frsize);
	int64_t n = wh_await(wh_disk_free(loop, fd)).n;
	assert_true(n > expected / 2 && n < expected * 2 + 1);
	close_fd(fd);
}

static void syncing_counts(void **state)
{
	struct wh_stats before, after;
	int fd = open_new("s"), dir;
	wh_stats(loop, &before);
	assert_int_equal(wh_await(wh_fsync(loop, fd, true)).n, 0);
	assert_int_equal(wh_await(wh_fsync(loop, fd, false)).n, 0);
	dir = (int)wh_await(wh_open(loop, directory, O_RDONLY | O_DIRECTORY, 0)).n;
	assert_true(dir >= 0);
	assert_int_equal(wh_await(wh_fsync(loop, dir, false)).n, 0);
	assert_int_equal(wh_fsync_blocking(loop, fd, true), 0);
	wh_stats(loop, &after);
	assert_int_equal(after.file_syncs - before.file_syncs, 4);
	close_fd(dir);
	close_fd(fd);
	int pair[2];
	make_pair(pair);
	assert_int_equal(wh_await(wh_fsync(loop, pair[0], false)).n, -EINVAL);
	close_fd(pair[0]);
	close_fd(pair[1]);
}

static void a_lock_is_exclusive_and_never_waits(void **state)
{
	int fd = open_new("lock"), other = open_new("lock");
	assert_int_equal(wh_await(wh_lock(loop, fd)).n, 0);
	assert_int_equal(wh_await(wh_lock(loop, fd)).n, 0); /* it is ours */
	assert_int_equal(wh_await(wh_lock(loop, other)).n, -EAGAIN);
	close_fd(fd);
	assert_int_equal(wh_await(wh_lock(loop, other)).n, 0);
	close_fd(other);
}

static void names(void **state)
{
	assert_int_equal(wh_await(wh_mkdir(loop, path_of("d"), 0700)).n, 0);
	assert_int_equal(wh_await(wh_mkdir(loop, path_of("d"), 0700)).n, -EEXIST);
	assert_int_equal(wh_await(wh_mkdir(loop, path_of("x/y"), 0700)).n, -ENOENT);
	const char *const made[] = {"d/zeta", "d/alpha", "d/Alpha", "d/\xc3\xa4", "d/.hidden"};
	for (size_t i = 0; i < 5; i++)
		close_fd(open_new(made[i]));
	assert_int_equal(wh_await(wh_rename(loop, path_of("d/zeta"), path_of("d/beta"))).n, 0);
	assert_int_equal(wh_await(wh_rename(loop, path_of("d/zeta"), path_of("d/beta"))).n, -ENOENT);
	wh_res res = wh_await(wh_list(loop, path_of("d")));
	struct wh_names *list = res.ptr;
	const char *const sorted[] = {".hidden", "Alpha", "alpha", "beta", "\xc3\xa4"};
	assert_int_equal(res.n, 5);
	assert_int_equal(list->count, 5);
	for (size_t i = 0; i < 5; i++)
		assert_string_equal(list->names[i], sorted[i]);
	assert_null(wh_names_free(list));
	assert_null(wh_names_free(NULL));
	assert_int_equal(wh_await(wh_unlink(loop, path_of("d/beta"))).n, 0);
	assert_int_equal(wh_await(wh_unlink(loop, path_of("d/beta"))).n, -ENOENT);
	assert_int_equal(wh_await(wh_list(loop, path_of("none"))).n, -ENOENT);
	assert_int_equal(wh_await(wh_list(loop, path_of("d/alpha"))).n, -ENOTDIR);
	assert_int_equal(wh_await(wh_mkdir(loop, path_of("empty"), 0700)).n, 0);
	res = wh_await(wh_list(loop, path_of("empty")));
	assert_int_equal(res.n, 0);
	assert_non_null(res.ptr);
	wh_names_free(res.ptr);
	/* a list that nobody takes is freed (the leak checker looks) */
	wh_future f = wh_list(loop, path_of("d"));
	while (!wh_done(f))
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	assert_int_equal(wh_drop(f), 0);
}

static void paths_are_copied(void **state)
{
	char path[128];
	snprintf(path, sizeof path, "%s/copied", directory);
	wh_future f = wh_open(loop, path, O_RDWR | O_CREAT, 0600);
	memset(path, 'x', sizeof path - 1);
	int fd = (int)wh_await(f).n;
	assert_true(fd >= 0);
	close_fd(fd);
	assert_int_equal(wh_await(wh_unlink(loop, path_of("copied"))).n, 0);
}

static void errors_of_files(void **state)
{
	char byte = 0;
	assert_int_equal(wh_await(wh_open(loop, path_of("none"), O_RDONLY, 0)).n, -ENOENT);
	assert_int_equal(wh_await(wh_open(loop, NULL, O_RDONLY, 0)).n, -EINVAL);
	assert_int_equal(wh_await(wh_rename(loop, NULL, "x")).n, -EINVAL);
	assert_int_equal(wh_await(wh_open(loop, directory, O_RDWR, 0)).n, -EISDIR);
	int fd = (int)wh_await(wh_open(loop, path_of("ro"), O_RDONLY | O_CREAT, 0600)).n;
	assert_true(fd >= 0);
	assert_int_equal(wh_await(wh_pwrite(loop, fd, "x", 1, 0)).n, -EBADF);
	assert_int_equal(wh_await(wh_pwrite_all(loop, fd, "x", 1, 0)).n, -EBADF);
	assert_int_equal(wh_await(wh_truncate(loop, fd, 1)).n, -EINVAL);
	assert_int_equal(wh_await(wh_pread(loop, fd, NULL, 1, 0)).n, -EINVAL);
	assert_int_equal(wh_await(wh_pread(loop, fd, &byte, 1, UINT64_MAX)).n, -EINVAL);
	close_fd(fd);
	const wh_future bad[] = {
		wh_pread(loop, -1, &byte, 1, 0), wh_pwrite(loop, -1, &byte, 1, 0), wh_fsync(loop, -1, true),
		wh_size(loop, -1), wh_truncate(loop, -1, 0), wh_allocate(loop, -1, 0, 1), wh_lock(loop, -1),
		wh_disk_free(loop, -1), wh_close(loop, -1), wh_read(loop, -1, &byte, 1),
		wh_write_all(loop, -1, &byte, 1),
		/* numbers that are not open */
		wh_pread(loop, fd, &byte, 1, 0), wh_pwrite(loop, fd, &byte, 1, 0), wh_fsync(loop, fd, true),
		wh_size(loop, fd), wh_truncate(loop, fd, 0), wh_allocate(loop, fd, 0, 1), wh_lock(loop, fd),
		wh_disk_free(loop, fd), wh_read(loop, fd, &byte, 1), wh_write_all(loop, fd, &byte, 1),
		wh_close(loop, 99999999)};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_equal(wh_await(bad[i]).n, -EBADF);
	assert_int_equal(wh_await(wh_close(loop, fd)).n, -EBADF);
	int dir = (int)wh_await(wh_open(loop, directory, O_RDONLY, 0)).n;
	assert_int_equal(wh_await(wh_pread(loop, dir, &byte, 1, 0)).n, -EISDIR);
	close_fd(dir);
}

static void a_full_file_says_so(void **state)
{
	struct rlimit before, small;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
	char bytes[2000] = {0};
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = 1000;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	int fd = open_new("full");
	wh_res some = wh_await(wh_pwrite(loop, fd, bytes, 2000, 0)),
	       all = wh_await(wh_pwrite_all(loop, fd, bytes, 2000, 0)),
	       none = wh_await(wh_pwrite(loop, fd, bytes, 1, 1000));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, handler);
	assert_int_equal(some.n, 1000); /* as far as it got */
	assert_int_equal(all.n, -EFBIG);
	assert_int_equal(none.n, -EFBIG);
	close_fd(fd);
}

static void plain_files_at_their_offset(void **state)
{
	char buf[32] = {0};
	int fd = open_new("stream");
	assert_int_equal(wh_await(wh_write_all(loop, fd, "one ", 4)).n, 4);
	assert_int_equal(wh_await(wh_write_all(loop, fd, "two", 3)).n, 3);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(wh_await(wh_read(loop, fd, buf, 4)).n, 4);
	assert_int_equal(wh_await(wh_read(loop, fd, buf + 4, 20)).n, 3);
	assert_string_equal(buf, "one two");
	assert_int_equal(wh_await(wh_read(loop, fd, buf, 20)).n, 0);
	close_fd(fd);
	int null = (int)wh_await(wh_open(loop, "/dev/null", O_RDWR, 0)).n;
	assert_int_equal(wh_await(wh_read(loop, null, buf, 20)).n, 0);
	assert_int_equal(wh_await(wh_write_all(loop, null, buf, 20)).n, 20);
	close_fd(null);
	int zero = (int)wh_await(wh_open(loop, "/dev/zero", O_RDONLY, 0)).n;
	assert_int_equal(wh_await(wh_read(loop, zero, buf, 20)).n, 20);
	close_fd(zero);
}

static void pipes_wait(void **state, int flags)
{
	int fds[2];
	static char in[300000], out[300000];
	struct seen seen = {0};
	assert_int_equal(pipe2(fds, O_CLOEXEC | flags), 0);
	assert_int_equal(wh_then(wh_read(loop, fds[0], in, sizeof in), note, &seen), 0);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	assert_int_equal(seen.count, 0);
	assert_int_equal(wh_await(wh_write_all(loop, fds[1], "abc", 3)).n, 3);
	run_until(&seen.count, 1);
	assert_int_equal(seen.last.n, 3);
	assert_memory_equal(in, "abc", 3);
	/* more than a pipe holds */
	for (size_t i = 0; i < sizeof out; i++)
		out[i] = (char)(i * 31);
	wh_future written = wh_write_all(loop, fds[1], out, sizeof out);
	for (size_t got = 0; got < sizeof in;) {
		int64_t n = wh_await(wh_read(loop, fds[0], in + got, sizeof in - got)).n;
		assert_true(n > 0);
		got += (size_t)n;
	}
	assert_int_equal(wh_await(written).n, sizeof out);
	assert_memory_equal(in, out, sizeof in);
	/* the end, and nobody left to read */
	wh_future end = wh_read(loop, fds[0], in, 1);
	close_fd(fds[1]);
	assert_int_equal(wh_await(end).n, 0);
	close_fd(fds[0]);
	assert_int_equal(pipe2(fds, O_CLOEXEC | flags), 0);
	wh_future stuck = wh_write_all(loop, fds[1], out, sizeof out);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	close_fd(fds[0]);
	assert_int_equal(wh_await(stuck).n, -EPIPE); /* and no SIGPIPE */
	close_fd(fds[1]);
}

static void pipes_that_do_not_block(void **state)
{
	pipes_wait(state, O_NONBLOCK);
}

static void pipes_that_block(void **state)
{
	pipes_wait(state, 0);
}

static void reads_of_pipes_are_cancelled(void **state)
{
	int fds[2];
	char byte;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	wh_future f = wh_read(loop, fds[0], &byte, 1);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	f = wh_read(loop, fds[0], &byte, 1);
	close_fd(fds[0]);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	close_fd(fds[1]);
}

static void closing_waits_for_what_is_on_the_descriptor(void **state)
{
	enum { LEN = 1 << 20 };
	char *bytes = calloc(1, LEN);
	for (int round = 0; round < 10; round++) {
		int fd = open_new("close");
		wh_future fs[8];
		struct seen closed = {0};
		for (int i = 0; i < 8; i++)
			fs[i] = wh_pwrite_all(loop, fd, bytes, LEN, (uint64_t)i * LEN);
		wh_future closing = wh_close(loop, fd), late = wh_pwrite(loop, fd, bytes, 1, 0),
			  twice = wh_close(loop, fd);
		assert_int_equal(wh_then(closing, note, &closed), 0);
		run_until(&closed.count, 1);
		assert_int_equal(closed.last.n, 0);
		for (int i = 0; i < 8; i++) {
			assert_true(wh_done(fs[i])); /* before the close */
			int64_t n = wh_await(fs[i]).n;
			assert_true(n == LEN || n == -ECANCELED);
		}
		assert_int_equal(wh_await(late).n, -EBADF);
		assert_int_equal(wh_await(twice).n, -EBADF);
		assert_int_equal(fcntl(fd, F_GETFD), -1);
	}
	free(bytes);
}

static void blocking_forms(void **state)
{
	char buf[16] = {0};
	struct iovec iov[] = {{(void *)"ab", 2}, {(void *)"", 0}, {(void *)"cdef", 4}};
	int fd = open_new("blocking");
	assert_int_equal(wh_pwrite_blocking(loop, fd, "12345", 5, 0), 5);
	assert_int_equal(wh_pwritev_blocking(loop, fd, iov, 3, 5), 6);
	assert_int_equal(wh_pread_blocking(loop, fd, buf, sizeof buf, 0), 11);
	assert_string_equal(buf, "12345abcdef");
	assert_int_equal(wh_fsync_blocking(loop, fd, false), 0);
	assert_int_equal(wh_pread_blocking(loop, -1, buf, 1, 0), -EBADF);
	assert_int_equal(wh_pwrite_blocking(loop, -1, buf, 1, 0), -EBADF);
	assert_int_equal(wh_pwritev_blocking(loop, -1, iov, 3, 0), -EBADF);
	assert_int_equal(wh_fsync_blocking(loop, -1, true), -EBADF);
	assert_int_equal(wh_pwritev_blocking(loop, fd, iov, 0, 0), 0);
	close_fd(fd);
}

static void reading_into_a_pooled_buffer(void **state)
{
	const struct wh_loop_options few = {.buffers_max = 2, .buffer_bytes = 4096};
	loop = wh_loop_close(loop);
	assert_int_equal(wh_loop_open(&loop, &few), 0);
	int fd = make_file("0123456789");
	wh_res res = wh_await(wh_pread_buf(loop, fd, 3));
	struct wh_buf *buf = res.ptr;
	assert_int_equal(res.n, 7);
	assert_int_equal(buf->len, 7);
	assert_memory_equal(buf->data, "3456789", 7);
	/* no more than one holds, and no more than there are */
	assert_int_equal(wh_await(wh_truncate(loop, fd, 10000)).n, 0);
	wh_res second = wh_await(wh_pread_buf(loop, fd, 0));
	assert_int_equal(second.n, 4096);
	assert_int_equal(wh_await(wh_pread_buf(loop, fd, 0)).n, -ENOBUFS);
	wh_buf_put(second.ptr);
	wh_buf_put(buf);
	/* without bytes there is no buffer */
	res = wh_await(wh_pread_buf(loop, fd, 10000));
	assert_int_equal(res.n, 0);
	assert_null(res.ptr);
	res = wh_await(wh_pread_buf(loop, -1, 0));
	assert_int_equal(res.n, -EBADF);
	assert_null(res.ptr);
	int ends[2];
	assert_int_equal(wh_pipe(loop, ends), 0);
	assert_int_equal(wh_await(wh_pread_buf(loop, ends[0], 0)).n, -ESPIPE);
	/* what nobody takes goes back: dropped under way, and when it has come */
	for (int i = 0; i < 5; i++) {
		assert_int_equal(wh_drop(wh_pread_buf(loop, fd, 0)), 0);
		assert_int_equal(wh_loop_run(loop), 0);
		wh_future f = wh_pread_buf(loop, fd, 0);
		assert_int_equal(wh_loop_run(loop), 0);
		assert_int_equal(wh_drop(f), 0);
		f = wh_pread_buf(loop, fd, 0);
		wh_cancel(f);
		res = wh_await(f);
		assert_true(res.n == 4096 || (res.n == -ECANCELED && !res.ptr));
		wh_buf_put(res.ptr);
	}
	struct wh_buf *all[2] = {wh_buf_get(loop), wh_buf_get(loop)};
	assert_true(all[0] && all[1]);
	wh_buf_put(all[0]);
	wh_buf_put(all[1]);
	close_fd(ends[0]);
	close_fd(ends[1]);
	close_fd(fd);
}

static void a_dropped_descriptor_is_closed(void **state)
{
	int before = open_fd_count();
	for (int i = 0; i < 20; i++) {
		wh_future f = wh_open(loop, path_of("dropped"), O_RDWR | O_CREAT, 0600);
		if (i % 2)
			while (!wh_done(f))
				assert_int_equal(wh_loop_turn(loop, -1), 0);
		assert_int_equal(wh_drop(f), 0);
	}
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before);
}

static void direct_reads(void **state)
{
	void *block = NULL;
	assert_int_equal(posix_memalign(&block, 4096, 8192), 0);
	memset(block, 'd', 8192);
	int fd = open_new("direct");
	assert_int_equal(wh_await(wh_pwrite_all(loop, fd, block, 8192, 0)).n, 8192);
	assert_int_equal(wh_await(wh_fsync(loop, fd, false)).n, 0);
	close_fd(fd);
	fd = (int)wh_await(wh_open(loop, path_of("direct"), O_RDWR | O_DIRECT, 0)).n;
	if (fd >= 0) { /* not every file system can */
		memset(block, 0, 8192);
		assert_int_equal(wh_await(wh_pread_all(loop, fd, block, 8192, 0)).n, 8192);
		assert_int_equal(((char *)block)[8191], 'd');
		close_fd(fd);
	}
	free(block);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIRECTORY(what_is_written_is_read),
		IN_DIRECTORY(large_transfers_are_whole),
		IN_DIRECTORY(reads_at_depth),
		IN_DIRECTORY(sizes_can_be_changed),
		IN_DIRECTORY(syncing_counts),
		IN_DIRECTORY(a_lock_is_exclusive_and_never_waits),
		IN_DIRECTORY(names),
		IN_DIRECTORY(paths_are_copied),
		IN_DIRECTORY(errors_of_files),
		IN_DIRECTORY(a_full_file_says_so),
		IN_DIRECTORY(plain_files_at_their_offset),
		IN_DIRECTORY(pipes_that_do_not_block),
		IN_DIRECTORY(pipes_that_block),
		IN_DIRECTORY(reads_of_pipes_are_cancelled),
		IN_DIRECTORY(closing_waits_for_what_is_on_the_descriptor),
		IN_DIRECTORY(blocking_forms),
		IN_DIRECTORY(reading_into_a_pooled_buffer),
		IN_DIRECTORY(a_dropped_descriptor_is_closed),
		IN_DIRECTORY(direct_reads),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
