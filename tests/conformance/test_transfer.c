/* tests/conformance/test_transfer.c -- vectors, durable appends, room in files, copies, files to sockets. */
#include "temporary.h"

#include <sys/file.h>

static void vectors_at_an_offset(void **state)
{
	char a[4] = {0}, b[8] = {0}, c[16] = {0};
	int fd = open_in("v", O_RDWR | O_CREAT);
	const struct iovec out[] = {{(void *)"abc", 3}, {(void *)"", 0}, {(void *)"defgh", 5}};
	struct iovec in[] = {{a, 2}, {b, 0}, {b, 4}, {c, sizeof c}};
	gives(wh_pwritev(loop, fd, out, 3, 10), 8);
	gives(wh_pwritev_all(loop, fd, out, 3, 18), 8);
	gives(wh_preadv(loop, fd, in, 4, 10), 16);
	assert_memory_equal(a, "ab", 2);
	assert_memory_equal(b, "cdef", 4);
	assert_memory_equal(c, "ghabcdefgh", 10);
	gives(wh_preadv_all(loop, fd, in, 4, 20), 6);
	gives(wh_preadv_all(loop, fd, in, 4, 26), 0);
	gives(wh_preadv(loop, fd, in, 0, 0), -EINVAL);
	gives(wh_preadv(loop, fd, in, 1025, 0), -EINVAL);
	gives(wh_preadv(loop, fd, NULL, 1, 0), -EINVAL);
	gives(wh_preadv(loop, fd, in, 1, UINT64_MAX), -EINVAL);
	gives(wh_pwritev(loop, -1, out, 1, 0), -EBADF);
	close_fd(fd);
}

static void long_vectors(void **state)
{
	enum { COUNT = 1024, EACH = 3001 };
	struct iovec *iov = calloc(COUNT, sizeof *iov);
	uint8_t *out = malloc(COUNT * EACH), *in = calloc(COUNT, EACH);
	int fd = open_in("v", O_RDWR | O_CREAT);
	for (size_t i = 0; i < COUNT * EACH; i++)
		out[i] = (uint8_t)(i * 13 + i / 509);
	for (size_t i = 0; i < COUNT; i++)
		iov[i] = (struct iovec){out + i * EACH, EACH};
	wh_future f = wh_pwritev_all(loop, fd, iov, COUNT, 7);
	memset(iov, 0, COUNT * sizeof *iov); /* it was copied */
	gives(f, COUNT * EACH);
	for (size_t i = 0; i < COUNT; i++)
		iov[i] = (struct iovec){in + i * EACH, EACH};
	gives(wh_preadv_all(loop, fd, iov, COUNT, 7), COUNT * EACH);
	assert_memory_equal(out, in, COUNT * EACH);
	close_fd(fd);
	free(iov);
	free(out);
	free(in);
}

static void appends_are_whole_and_synced(void **state)
{
	enum { LARGE = 700 * 1000 };
	char *large = malloc(LARGE), *back = malloc(LARGE);
	struct wh_stats before, after;
	int fd = open_in("log", O_RDWR | O_CREAT);
	for (int i = 0; i < LARGE; i++)
		large[i] = (char)(i * 7 + i / 1001);
	wh_stats(loop, &before);
	gives(wh_append_durable(loop, fd, "first", 5, 0), 5);
	gives(wh_append_durable(loop, fd, "", 0, 5), 0);
	gives(wh_append_durable(loop, fd, large, LARGE, 5), LARGE);
	wh_stats(loop, &after);
	assert_int_equal(after.file_syncs - before.file_syncs, 3);
	gives(wh_pread_all(loop, fd, back, LARGE, 5), LARGE);
	assert_memory_equal(large, back, LARGE);
	/* several at once */
	wh_future fs[20];
	for (int i = 0; i < 20; i++)
		fs[i] = wh_append_durable(loop, fd, large + i * 100, 100, LARGE + 5 + (uint64_t)i * 100);
	wh_res results[20];
	must(wh_all(loop, fs, 20, results));
	for (int i = 0; i < 20; i++)
		assert_int_equal(results[i].n, 100);
	gives(wh_pread_all(loop, fd, back, 2000, LARGE + 5), 2000);
	assert_memory_equal(large, back, 2000);
	gives(wh_append_durable(loop, fd, NULL, 1, 0), -EINVAL);
	gives(wh_append_durable(loop, fd, "x", 1, UINT64_MAX), -EINVAL);
	gives(wh_append_durable(loop, -1, "x", 1, 0), -EBADF);
	close_fd(fd);
	gives(wh_append_durable(loop, fd, "x", 1, 0), -EBADF);
	fd = open_in("log", O_RDONLY);
	gives(wh_append_durable(loop, fd, "x", 1, 0), -EBADF);
	close_fd(fd);
	/* a pipe has no offsets */
	int ends[2];
	assert_int_equal(wh_pipe(loop, ends), 0);
	gives(wh_append_durable(loop, ends[1], "x", 1, 0), -ESPIPE);
	close_fd(ends[0]);
	close_fd(ends[1]);
	free(large);
	free(back);
}

static void direct_writes(void **state)
{
	char *blocks = NULL;
	assert_int_equal(posix_memalign((void **)&blocks, 4096, 4 * 4096), 0);
	int64_t fd = wh_await(wh_open(loop, in_folder("direct"), O_RDWR | O_CREAT | O_DIRECT, 0600)).n;
	if (fd == -EINVAL) { /* not every file system can */
		free(blocks);
		skip();
	}
	assert_true(fd >= 0);
	for (int i = 0; i < 4; i++)
		memset(blocks + i * 4096, 'a' + i, 4096);
	const struct iovec iov[] = {{blocks, 4096}, {blocks + 8192, 8192}};
	gives(wh_append_durable(loop, (int)fd, blocks, 8192, 0), 8192);
	gives(wh_pwritev_all(loop, (int)fd, iov, 2, 8192), 12288);
	gives(wh_pwrite_all(loop, (int)fd, blocks, 4096, 20480), 4096);
	memset(blocks, 0, 4 * 4096);
	gives(wh_pread_all(loop, (int)fd, blocks, 8192, 4096), 8192);
	assert_int_equal(blocks[0], 'b');
	assert_int_equal(blocks[4096], 'a');
	gives(wh_preadv_all(loop, (int)fd, iov, 2, 12288), 12288);
	assert_int_equal(blocks[0], 'c');
	assert_int_equal(blocks[8192], 'd');
	assert_int_equal(blocks[12288], 'a');
	close_fd((int)fd);
	free(blocks);
}

static void room_in_files(void **state)
{
	char bytes[8192], zeros[4096] = {0};
	struct wh_stat st;
	int fd = open_in("room", O_RDWR | O_CREAT);
	memset(bytes, 'x', sizeof bytes);
	must(wh_allocate_mode(loop, fd, WH_ALLOCATE_KEEP_SIZE, 0, 1 << 20));
	must(wh_fstat(loop, fd, &st));
	assert_int_equal(st.size, 0);
	assert_true(st.allocated_bytes >= 1 << 20);
	must(wh_allocate(loop, fd, 0, 1 << 16));
	gives(wh_size(loop, fd), 1 << 16);
	gives(wh_pwrite_all(loop, fd, bytes, sizeof bytes, 0), sizeof bytes);
	must(wh_allocate_mode(loop, fd, WH_ALLOCATE_PUNCH_HOLE, 0, 4096));
	gives(wh_pread_all(loop, fd, bytes, 8192, 0), 8192);
	assert_memory_equal(bytes, zeros, 4096);
	assert_int_equal(bytes[4096], 'x');
	int64_t n = wh_await(wh_allocate_mode(loop, fd, WH_ALLOCATE_ZERO_RANGE, 4096, 4096)).n;
	if (n != -EOPNOTSUPP) {
		assert_int_equal(n, 0);
		gives(wh_pread_all(loop, fd, bytes, 4096, 4096), 4096);
		assert_memory_equal(bytes, zeros, 4096);
	}
	must(wh_advise(loop, fd, 0, 0, POSIX_FADV_SEQUENTIAL));
	must(wh_advise(loop, fd, 0, 4096, POSIX_FADV_DONTNEED));
	gives(wh_advise(loop, fd, 0, 0, 99), -EINVAL);
	must(wh_sync_range(loop, fd, 0, 4096, SYNC_FILE_RANGE_WRITE));
	must(wh_sync_range(loop, fd, 0, UINT64_C(1) << 33,
	                   SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
	gives(wh_sync_range(loop, fd, 0, 1, 1 << 20), -EINVAL);
	gives(wh_allocate_mode(loop, fd, WH_ALLOCATE_PUNCH_HOLE, 0, 0), -EINVAL);
	gives(wh_advise(loop, -1, 0, 0, 0), -EBADF);
	gives(wh_sync_range(loop, -1, 0, 0, 0), -EBADF);
	close_fd(fd);
}

static void locks_shared_and_given_back(void **state)
{
	int a = open_in("lock", O_RDWR | O_CREAT), b = open_in("lock", O_RDWR), c = open_in("lock", O_RDONLY);
	must(wh_lock_shared(loop, a));
	must(wh_lock_shared(loop, b));
	gives(wh_lock(loop, c), -EAGAIN);
	must(wh_unlock(loop, a));
	must(wh_unlock(loop, b));
	must(wh_lock(loop, c));
	gives(wh_lock_shared(loop, a), -EAGAIN);
	must(wh_unlock(loop, c));
	must(wh_unlock(loop, c)); /* nothing to give back is no error */
	must(wh_lock_shared(loop, a));
	close_fd(a);
	close_fd(b);
	close_fd(c);
	gives(wh_unlock(loop, c), -EBADF);
}

static void copies_of_ranges(void **state)
{
	enum { LEN = 3 * 1000 * 1000 };
	char *bytes = malloc(LEN), *back = malloc(LEN);
	for (int i = 0; i < LEN; i++)
		bytes[i] = (char)(i * 11 + i / 77);
	int from = open_in("from", O_RDWR | O_CREAT), to = open_in("to", O_RDWR | O_CREAT);
	gives(wh_pwrite_all(loop, from, bytes, LEN, 0), LEN);
	gives(wh_copy_range(loop, to, 100, from, 50, LEN), LEN - 50); /* to the end */
	gives(wh_pread_all(loop, to, back, LEN, 100), LEN - 50);
	assert_memory_equal(back, bytes + 50, LEN - 50);
	gives(wh_copy_range(loop, to, 0, from, LEN, 10), 0);
	gives(wh_copy_range(loop, to, 0, from, 0, 0), 0);
	/* within one file */
	gives(wh_copy_range(loop, from, LEN, from, 0, 1000), 1000);
	gives(wh_copy_range(loop, from, 500, from, 0, 1000), -EINVAL);
	/* by hand: of a file without a size, and to one that is always appended to */
	int version = (int)wh_await(wh_open(loop, "/proc/version", O_RDONLY, 0)).n;
	int64_t n = wh_await(wh_copy_range(loop, to, 0, version, 0, LEN)).n;
	assert_true(n > 0);
	assert_int_equal(pread(version, bytes, LEN, 0), n);
	gives(wh_pread_all(loop, to, back, (size_t)n, 0), n);
	assert_memory_equal(bytes, back, (size_t)n);
	close_fd(version);
	int ends[2];
	assert_int_equal(wh_pipe(loop, ends), 0);
	gives(wh_copy_range(loop, to, 0, ends[0], 0, 10), -ESPIPE);
	close_fd(ends[0]);
	close_fd(ends[1]);
	gives(wh_copy_range(loop, to, 0, -1, 0, 10), -EBADF);
	gives(wh_copy_range(loop, -1, 0, from, 0, 10), -EBADF);
	gives(wh_copy_range(loop, to, UINT64_MAX, from, 0, 10), -EINVAL);
	int only_read = open_in("from", O_RDONLY);
	gives(wh_copy_range(loop, only_read, 0, to, 0, 10), -EBADF);
	close_fd(only_read);
	close_fd(from);
	close_fd(to);
	free(bytes);
	free(back);
}

static void copies_of_files(void **state)
{
	enum { LEN = 20 * 1000 * 1000 };
	struct wh_stat st;
	write_file("small", "few bytes");
	must(wh_chmod(loop, in_folder("small"), 0640));
	gives(wh_copy_file(loop, in_folder("small"), in_folder("copy"), false), 9);
	expect_content("copy", "few bytes");
	must(wh_stat(loop, in_folder("copy"), &st));
	assert_int_equal(st.mode, 0640);
	gives(wh_copy_file(loop, in_folder("small"), in_folder("copy"), false), -EEXIST);
	write_file("other", "something that is longer");
	gives(wh_copy_file(loop, in_folder("small"), in_folder("other"), true), 9);
	expect_content("other", "few bytes");
	gives(wh_copy_file(loop, in_folder("small"), in_folder("small"), true), -EINVAL);
	expect_content("small", "few bytes"); /* not emptied */
	gives(wh_copy_file(loop, in_folder("none"), in_folder("x"), true), -ENOENT);
	gives(wh_copy_file(loop, folder, in_folder("x"), true), -EISDIR);
	gives(wh_copy_file(loop, in_folder("small"), in_folder("no/x"), true), -ENOENT);
	gives(wh_copy_file(loop, in_folder("small"), folder, true), -EISDIR);
	gives(wh_copy_file(loop, "/dev/zero", in_folder("x"), true), -EINVAL);
	assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
	gives(wh_copy_file(loop, in_folder("pipe"), in_folder("x"), true), -EINVAL); /* and does not wait */
	gives(wh_copy_file(loop, NULL, "x", true), -EINVAL);
	gives(wh_copy_file(loop, "x", NULL, true), -EINVAL);
	int large = open_in("large", O_RDWR | O_CREAT);
	gives(wh_pwrite_all(loop, large, "end", 3, LEN - 3), 3);
	gives(wh_copy_file(loop, in_folder("large"), in_folder("large copy"), false), LEN);
	int copy = open_in("large copy", O_RDONLY);
	char end[4] = {0};
	gives(wh_pread_all(loop, copy, end, 3, LEN - 3), 3);
	assert_string_equal(end, "end");
	close_fd(copy);
	close_fd(large);
	assert_int_equal(wh_loop_run(loop), 0); /* descriptors of the copies before are closed */
	int before = open_fd_count();
	wh_future f = wh_copy_file(loop, in_folder("large"), in_folder("third"), false);
	wh_cancel(f);
	int64_t n = wh_await(f).n;
	assert_true(n == -ECANCELED || n == LEN);
	assert_int_equal(wh_drop(wh_copy_file(loop, in_folder("large"), in_folder("fourth"), false)), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before);
}

/* ---- to sockets ----------------------------------------------------------------------------- */

enum { FILE_LEN = 5 * 1000 * 1000 + 17 };

static int make_large_file(char *bytes)
{
	int fd = open_in("send", O_RDWR | O_CREAT);
	for (int i = 0; i < FILE_LEN; i++)
		bytes[i] = (char)(i * 17 + i / 253);
	gives(wh_pwrite_all(loop, fd, bytes, FILE_LEN, 0), FILE_LEN);
	return fd;
}

static void receive_file(int fd, const char *expected, size_t len)
{
	char *got = malloc(len);
	gives(wh_recv_all(loop, fd, got, len), len);
	assert_memory_equal(got, expected, len);
	free(got);
}

static void send_over(int fds[2], int flags)
{
	char *bytes = malloc(FILE_LEN);
	int file = make_large_file(bytes);
	assert_int_equal(fcntl(fds[0], F_SETFL, flags), 0);
	wh_future sent = wh_send_file(loop, fds[0], file, 0, UINT32_MAX);
	receive_file(fds[1], bytes, FILE_LEN);
	gives(sent, FILE_LEN); /* less than asked for: the end of the file */
	sent = wh_send_file(loop, fds[0], file, 1000, 2000000);
	receive_file(fds[1], bytes + 1000, 2000000);
	gives(sent, 2000000);
	gives(wh_send_file(loop, fds[0], file, FILE_LEN, 10), 0);
	gives(wh_send_file(loop, fds[0], file, 0, 0), 0);
	close_fd(file);
	close_fd(fds[0]);
	close_fd(fds[1]);
	free(bytes);
}

static void files_to_sockets(void **state)
{
	int fds[2];
	make_tcp(fds);
	send_over(fds, O_NONBLOCK);
}

static void files_to_sockets_that_block(void **state)
{
	int fds[2];
	make_tcp(fds);
	send_over(fds, 0);
	make_pair(fds);
	send_over(fds, 0);
}

static void files_to_sockets_that_end(void **state)
{
	char *bytes = malloc(FILE_LEN);
	int file = make_large_file(bytes), fds[2];
	/* cancelled while the socket is full */
	make_pair(fds);
	wh_future f = wh_send_file(loop, fds[0], file, 0, FILE_LEN);
	for (int i = 0; i < 20 && !wh_done(f); i++)
		assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	assert_false(wh_done(f));
	wh_cancel(f);
	gives(f, -ECANCELED);
	/* its socket is closed meanwhile */
	f = wh_send_file(loop, fds[0], file, 0, FILE_LEN);
	close_fd(fds[0]);
	assert_true(wh_done(f));
	gives(f, -ECANCELED);
	close_fd(fds[1]);
	/* nobody reads any more, and no SIGPIPE */
	make_pair(fds);
	f = wh_send_file(loop, fds[0], file, 0, FILE_LEN);
	assert_int_equal(wh_loop_turn(loop, WH_NS_PER_MS), 0);
	close_fd(fds[1]);
	gives(f, -EPIPE);
	gives(wh_send_file(loop, fds[0], file, 0, 10), -EPIPE);
	gives(wh_send_file(loop, fds[0], -1, 0, 10), -EBADF);
	gives(wh_send_file(loop, -1, file, 0, 10), -EBADF);
	gives(wh_send_file(loop, fds[0], file, UINT64_MAX, 10), -EINVAL);
	gives(wh_send_file(loop, fds[0], fds[0], 0, 10), -ESPIPE);
	close_fd(fds[0]);
	gives(wh_send_file(loop, fds[0], file, 0, 10), -EBADF);
	close_fd(file);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(vectors_at_an_offset),
		IN_FOLDER(long_vectors),
		IN_FOLDER(appends_are_whole_and_synced),
		IN_FOLDER(direct_writes),
		IN_FOLDER(room_in_files),
		IN_FOLDER(locks_shared_and_given_back),
		IN_FOLDER(copies_of_ranges),
		IN_FOLDER(copies_of_files),
		IN_FOLDER(files_to_sockets),
		IN_FOLDER(files_to_sockets_that_block),
		IN_FOLDER(files_to_sockets_that_end),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
