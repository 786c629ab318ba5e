/* tests/sim/test_sim_disk.c -- the simulated disk keeps what was promised and nothing that was not.
 *
 * Each rule of a power cut by itself, on the bare disk: no loop, no clock.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/sim_disk.h"
#include "whilst/sim.h"

enum { SEEDS = 200, BLOCK = 4096 };

static struct wh__sim_random chance;
static struct wh__disk *disk;

static int open_disk(void **state)
{
	chance.state = 1;
	disk = wh__disk_new(&chance);
	return disk ? 0 : -1;
}

static int close_disk(void **state)
{
	disk = wh__disk_free(disk);
	return 0;
}

static void again(uint64_t seed)
{
	wh__disk_free(disk);
	chance.state = seed;
	disk = wh__disk_new(&chance);
	assert_non_null(disk);
}

static int open_file(const char *path, int flags)
{
	int64_t fd = wh__disk_open(disk, path, flags);
	assert_true(fd >= WH__SIM_FD_FIRST);
	return (int)fd;
}

static int64_t sync_fd(int fd)
{
	struct wh__disk_flush *flush;
	int64_t error = wh__disk_flush_begin(disk, fd, &flush);
	return error != 0 ? error : wh__disk_flush_end(disk, flush);
}

static void sync_path(const char *path)
{
	int fd = open_file(path, O_RDONLY);
	assert_int_equal(sync_fd(fd), 0);
	wh__disk_close(disk, fd);
}

static void fill(int fd, int byte, uint64_t len, uint64_t off)
{
	char *bytes = malloc(len);
	memset(bytes, byte, len);
	assert_int_equal(wh__disk_pwrite(disk, fd, bytes, len, off, true), len);
	free(bytes);
}

/* The byte that fills a sector, -1: mixed, -2: beyond the end. */
static int sector_of(int fd, uint64_t index)
{
	unsigned char bytes[WH__SECTOR_BYTES];
	int64_t n = wh__disk_pread(disk, fd, bytes, sizeof bytes, index * sizeof bytes);
	if (n == 0)
		return -2;
	for (int64_t i = 1; i < n; i++)
		if (bytes[i] != bytes[0])
			return -1;
	return bytes[0];
}

static int64_t size_of(const char *path)
{
	int64_t fd = wh__disk_open(disk, path, O_RDONLY);
	if (fd < 0)
		return fd;
	int64_t size = wh__disk_size(disk, (int)fd);
	wh__disk_close(disk, (int)fd);
	return size;
}

/* A file with a safe name and safe content. */
static int safe_file(const char *path, int byte, uint64_t len)
{
	int fd = open_file(path, O_RDWR | O_CREAT);
	fill(fd, byte, len, 0);
	assert_int_equal(sync_fd(fd), 0);
	sync_path("/");
	return fd;
}

/* ---- system calls ------------------------------------------------------------------------- */

static void test_calls_give_the_errors_of_the_system(void **state)
{
	char byte;
	assert_int_equal(wh__disk_open(disk, "/none", O_RDONLY), -ENOENT);
	assert_int_equal(wh__disk_open(disk, "", O_RDONLY), -ENOENT);
	assert_int_equal(wh__disk_open(disk, "/none/file", O_RDWR | O_CREAT), -ENOENT);
	assert_int_equal(wh__disk_mkdir(disk, "/d"), 0);
	assert_int_equal(wh__disk_mkdir(disk, "/d"), -EEXIST);
	assert_int_equal(wh__disk_open(disk, "/d", O_RDWR), -EISDIR);
	int fd = open_file("/d/f", O_WRONLY | O_CREAT | O_EXCL);
	assert_int_equal(wh__disk_open(disk, "/d/f", O_WRONLY | O_CREAT | O_EXCL), -EEXIST);
	assert_int_equal(wh__disk_open(disk, "/d/f", O_RDONLY | O_DIRECTORY), -ENOTDIR);
	assert_int_equal(wh__disk_open(disk, "/d/f/g", O_RDONLY), -ENOTDIR);
	assert_int_equal(wh__disk_pread(disk, fd, &byte, 1, 0), -EBADF);
	int reader = open_file("d/./../d/f", O_RDONLY);
	assert_int_equal(wh__disk_pwrite(disk, reader, "x", 1, 0, true), -EBADF);
	assert_int_equal(wh__disk_truncate(disk, reader, 0), -EINVAL);
	assert_int_equal(wh__disk_close(disk, reader), 0);
	assert_int_equal(wh__disk_close(disk, reader), -EBADF);
	assert_int_equal(wh__disk_size(disk, 0), -EBADF);
	assert_int_equal(wh__disk_unlink(disk, "/d"), -EISDIR);
	assert_int_equal(wh__disk_unlink(disk, "/d/none"), -ENOENT);
	assert_int_equal(wh__disk_rename(disk, "/d", "/d/e"), -EINVAL);
	assert_int_equal(wh__disk_rename(disk, "/d/f", "/d"), -EISDIR);
	assert_int_equal(wh__disk_rename(disk, "/d/f", "/e"), 0);
	assert_int_equal(wh__disk_open(disk, "/d/f", O_RDONLY), -ENOENT);
	assert_int_equal(size_of("/e"), 0);
	char name[300];
	memset(name, 'n', sizeof name - 1);
	name[sizeof name - 1] = 0;
	assert_int_equal(wh__disk_open(disk, name, O_RDWR | O_CREAT), -ENAMETOOLONG);
}

static void test_reads_show_what_was_written(void **state)
{
	char text[32] = {0};
	int fd = open_file("/f", O_RDWR | O_CREAT);
	assert_int_equal(wh__disk_pwrite(disk, fd, "whilst", 6, 510, true), 6);
	assert_int_equal(wh__disk_size(disk, fd), 516);
	assert_int_equal(wh__disk_pread(disk, fd, text, sizeof text, 509), 7);
	assert_memory_equal(text, "\0whilst", 7);
	assert_int_equal(wh__disk_pread(disk, fd, text, sizeof text, 516), 0);
	/* what a truncation took away does not come back */
	assert_int_equal(wh__disk_truncate(disk, fd, 512), 0);
	assert_int_equal(wh__disk_truncate(disk, fd, 600), 0);
	assert_int_equal(wh__disk_pread(disk, fd, text, 8, 508), 8);
	assert_memory_equal(text, "\0\0wh\0\0\0\0", 8);
	int appender = open_file("/f", O_WRONLY | O_APPEND);
	assert_int_equal(wh__disk_write(disk, appender, "!", 1, true), 1);
	assert_int_equal(wh__disk_size(disk, fd), 601);
	int again_fd = open_file("/f", O_RDWR | O_TRUNC);
	assert_int_equal(wh__disk_size(disk, again_fd), 0);
	assert_int_equal(wh__disk_write(disk, again_fd, "abc", 3, true), 3);
	assert_int_equal(wh__disk_write(disk, again_fd, "def", 3, true), 3);
	assert_int_equal(wh__disk_pread(disk, fd, text, 8, 0), 6);
	assert_memory_equal(text, "abcdef", 6);
}

static void test_lists_are_sorted(void **state)
{
	void *ptr;
	open_file("/b", O_RDWR | O_CREAT);
	open_file("/a", O_RDWR | O_CREAT);
	open_file("/c", O_RDWR | O_CREAT);
	assert_int_equal(wh__disk_unlink(disk, "/b"), 0);
	assert_int_equal(wh__disk_list(disk, "/", &ptr), 2);
	struct wh_names *names = ptr;
	assert_string_equal(names->names[0], "a");
	assert_string_equal(names->names[1], "c");
	free(ptr);
	assert_int_equal(wh__disk_list(disk, "/a", &ptr), -ENOTDIR);
}

static void test_a_lock_is_held_until_it_is_closed(void **state)
{
	int first = open_file("/lock", O_RDWR | O_CREAT), second = open_file("/lock", O_RDWR);
	assert_int_equal(wh__disk_lock(disk, first), 0);
	assert_int_equal(wh__disk_lock(disk, first), 0);
	assert_int_equal(wh__disk_lock(disk, second), -EAGAIN);
	wh__disk_close(disk, first);
	assert_int_equal(wh__disk_lock(disk, second), 0);
	sync_path("/");
	wh__disk_power_cut(disk, WH_SIM_KEEP_OLD);
	assert_int_equal(wh__disk_lock(disk, open_file("/lock", O_RDWR)), 0);
}

static void test_a_full_disk(void **state)
{
	char *bytes = calloc(1, 4 * BLOCK);
	wh__disk_set_capacity(disk, 4 * BLOCK);
	int fd = open_file("/f", O_RDWR | O_CREAT);
	assert_int_equal(wh__disk_disk_free(disk, fd), 4 * BLOCK);
	assert_int_equal(wh__disk_allocate(disk, fd, 0, 0, 5 * BLOCK), -ENOSPC);
	assert_int_equal(wh__disk_size(disk, fd), 0);
	assert_int_equal(wh__disk_allocate(disk, fd, 0, 0, 2 * BLOCK), 0);
	assert_int_equal(wh__disk_disk_free(disk, fd), 2 * BLOCK);
	int other = open_file("/g", O_RDWR | O_CREAT);
	assert_int_equal(wh__disk_pwrite(disk, other, bytes, 3 * BLOCK, 0, false), 2 * BLOCK);
	assert_int_equal(wh__disk_pwrite(disk, other, bytes, 1, 2 * BLOCK, false), -ENOSPC);
	/* what is allocated can be written, what is written can be overwritten */
	assert_int_equal(wh__disk_pwrite(disk, fd, bytes, 2 * BLOCK, 0, true), 2 * BLOCK);
	assert_int_equal(wh__disk_pwrite(disk, fd, bytes, 2 * BLOCK, BLOCK, true), -ENOSPC);
	/* an unlinked file gives its space back with its last descriptor */
	assert_int_equal(wh__disk_unlink(disk, "/g"), 0);
	assert_int_equal(wh__disk_disk_free(disk, fd), 0);
	wh__disk_close(disk, other);
	assert_int_equal(wh__disk_disk_free(disk, fd), 2 * BLOCK);
	assert_int_equal(wh__disk_truncate(disk, fd, 1), 0);
	assert_int_equal(wh__disk_disk_free(disk, fd), 3 * BLOCK);
	free(bytes);
}

static void test_holes_give_space_back(void **state)
{
	enum { PUNCH = 3, ZERO = 16 };
	wh__disk_set_capacity(disk, 8 * BLOCK);
	int fd = open_file("/f", O_RDWR | O_CREAT);
	fill(fd, 'x', 6 * BLOCK, 0);
	assert_int_equal(wh__disk_disk_free(disk, fd), 2 * BLOCK);
	assert_int_equal(wh__disk_allocate(disk, fd, ZERO, 0, 9 * BLOCK), -ENOSPC);
	assert_int_equal(wh__disk_allocate(disk, fd, PUNCH, BLOCK, 2 * BLOCK), 0);
	assert_int_equal(wh__disk_disk_free(disk, fd), 4 * BLOCK);
	assert_int_equal(wh__disk_allocate(disk, fd, PUNCH, BLOCK, 2 * BLOCK), 0);
	assert_int_equal(wh__disk_disk_free(disk, fd), 4 * BLOCK);
	assert_int_equal(wh__disk_allocate(disk, fd, PUNCH, 3 * BLOCK + 1, BLOCK), 0); /* no whole block */
	assert_int_equal(wh__disk_disk_free(disk, fd), 4 * BLOCK);
	assert_int_equal(sector_of(fd, 8), 0);
	assert_int_equal(sector_of(fd, 23), 0);
	assert_int_equal(sector_of(fd, 40), 'x');
	fill(fd, 'y', BLOCK, 2 * BLOCK);
	assert_int_equal(wh__disk_disk_free(disk, fd), 3 * BLOCK);
	assert_int_equal(sector_of(fd, 16), 'y');
}

/* What was there may be back after a power cut, unless the hole was flushed. */
static void test_a_hole_is_a_change_of_content(void **state)
{
	enum { PUNCH = 3 };
	int back = 0, gone = 0;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		again(seed);
		int fd = safe_file("/f", 's', 4 * BLOCK);
		assert_int_equal(wh__disk_allocate(disk, fd, PUNCH, BLOCK, BLOCK), 0);
		if (seed % 2)
			assert_int_equal(sync_fd(fd), 0);
		wh__disk_power_cut(disk, seed % 4 < 2 ? WH_SIM_KEEP_OLD : WH_SIM_KEEP_NEW);
		fd = open_file("/f", O_RDONLY);
		assert_int_equal(wh__disk_size(disk, fd), 4 * BLOCK);
		for (uint64_t i = 0; i < 32; i++) {
			int sector = sector_of(fd, i);
			if (i < 8 || i >= 16)
				assert_int_equal(sector, 's');
			else if (seed % 2)
				assert_int_equal(sector, 0);
			else
				assert_int_equal(sector, seed % 4 < 2 ? 's' : 0);
			back += sector == 's' && i == 8;
			gone += sector == 0 && i == 8;
		}
	}
	assert_true(back > 0 && gone > 0);
}

static void test_a_file_without_a_name(void **state)
{
	wh__disk_set_capacity(disk, 4 * BLOCK);
	int fd = open_file("/", O_TMPFILE | O_RDWR), probe = open_file("/f", O_RDWR | O_CREAT);
	fill(fd, 'u', 3 * BLOCK, 0);
	assert_int_equal(sync_fd(fd), 0);
	assert_int_equal(wh__disk_disk_free(disk, probe), BLOCK);
	wh__disk_close(disk, fd);
	assert_int_equal(wh__disk_disk_free(disk, probe), 4 * BLOCK);
	fd = open_file("/", O_TMPFILE | O_RDWR);
	fill(fd, 'u', 3 * BLOCK, 0);
	assert_int_equal(sync_fd(fd), 0);
	sync_path("/");
	wh__disk_power_cut(disk, WH_SIM_KEEP_NEW);
	probe = open_file("/f", O_RDWR | O_CREAT);
	assert_int_equal(wh__disk_disk_free(disk, probe), 4 * BLOCK);
}

/* ---- content ------------------------------------------------------------------------------ */

static void test_what_was_synced_survives(void **state)
{
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		again(seed);
		int fd = safe_file("/f", 's', 8 * BLOCK);
		fill(fd, 'u', BLOCK, 2 * BLOCK); /* unsynced, between safe ones */
		wh__disk_power_cut(disk, (int)(seed % (WH_SIM_GARBAGE + 1)));
		fd = open_file("/f", O_RDONLY);
		assert_int_equal(wh__disk_size(disk, fd), 8 * BLOCK);
		for (uint64_t i = 0; i < 64; i++)
			if (i < 16 || i >= 24)
				assert_int_equal(sector_of(fd, i), 's');
	}
}

static void test_each_damage_does_what_it_says(void **state)
{
	static const int expected[] = {[WH_SIM_KEEP_NEW] = 'n', [WH_SIM_KEEP_OLD] = 'o', [WH_SIM_ZERO] = 0};
	for (int damage = WH_SIM_KEEP_NEW; damage <= WH_SIM_ZERO; damage++) {
		again(7);
		fill(safe_file("/f", 'o', BLOCK), 'n', BLOCK, 0);
		wh__disk_power_cut(disk, damage);
		int fd = open_file("/f", O_RDONLY);
		for (uint64_t i = 0; i < 8; i++)
			assert_int_equal(sector_of(fd, i), expected[damage]);
	}
	again(7);
	fill(safe_file("/f", 'o', BLOCK), 'n', BLOCK, 0);
	wh__disk_power_cut(disk, WH_SIM_GARBAGE);
	int fd = open_file("/f", O_RDONLY), mixed = 0;
	for (uint64_t i = 0; i < 8; i++)
		mixed += sector_of(fd, i) == -1;
	assert_true(mixed > 0);
}

static void test_unsynced_sectors_are_damaged_each_for_itself(void **state)
{
	int olds = 0, news = 0, zeros = 0, mixed = 0, torn = 0;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		again(seed);
		fill(safe_file("/f", 'o', BLOCK), 'n', BLOCK, 0);
		wh__disk_power_cut(disk, WH_SIM_RANDOM);
		int fd = open_file("/f", O_RDONLY), first = sector_of(fd, 0);
		bool differ = false;
		for (uint64_t i = 0; i < 8; i++) {
			int byte = sector_of(fd, i);
			olds += byte == 'o';
			news += byte == 'n';
			zeros += byte == 0;
			mixed += byte == -1;
			differ = differ || byte != first;
		}
		torn += differ;
	}
	assert_true(olds > SEEDS && news > SEEDS && zeros > SEEDS / 8 && mixed > SEEDS / 8);
	assert_true(torn > SEEDS / 4);
	assert_true(torn < SEEDS);
}

static void test_an_overwritten_unsynced_content_may_be_what_is_left(void **state)
{
	int middles = 0;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		again(seed);
		int fd = safe_file("/f", 'o', WH__SECTOR_BYTES);
		fill(fd, 'm', WH__SECTOR_BYTES, 0);
		fill(fd, 'n', WH__SECTOR_BYTES, 0);
		wh__disk_power_cut(disk, WH_SIM_RANDOM);
		middles += sector_of(open_file("/f", O_RDONLY), 0) == 'm';
	}
	assert_true(middles > 0);
	assert_true(middles < SEEDS);
}

static void test_a_flush_covers_what_was_written_before_it_began(void **state)
{
	struct wh__disk_flush *flush;
	int fd = safe_file("/f", 'o', BLOCK);
	fill(fd, 'b', BLOCK, 0);
	assert_int_equal(wh__disk_flush_begin(disk, fd, &flush), 0);
	fill(fd, 'a', WH__SECTOR_BYTES, 0);
	fill(fd, 'a', BLOCK, BLOCK);
	assert_int_equal(wh__disk_flush_end(disk, flush), 0);
	wh__disk_power_cut(disk, WH_SIM_KEEP_OLD);
	fd = open_file("/f", O_RDONLY);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(sector_of(fd, i), 'b');
	assert_int_equal(wh__disk_size(disk, fd), BLOCK);
}

static void test_size_is_metadata(void **state)
{
	int fd = safe_file("/f", 'o', 100);
	fill(fd, 'n', BLOCK, 0);
	wh__disk_power_cut(disk, WH_SIM_KEEP_OLD);
	assert_int_equal(size_of("/f"), 100);
	fd = open_file("/f", O_RDWR);
	fill(fd, 'n', BLOCK, 0);
	assert_int_equal(sync_fd(fd), 0);
	assert_int_equal(wh__disk_truncate(disk, fd, 10), 0);
	wh__disk_power_cut(disk, WH_SIM_KEEP_OLD);
	assert_int_equal(size_of("/f"), BLOCK);
	fd = open_file("/f", O_RDWR);
	assert_int_equal(sector_of(fd, 7), 'n');
	assert_int_equal(wh__disk_truncate(disk, fd, 10), 0);
	assert_int_equal(sync_fd(fd), 0);
	assert_int_equal(wh__disk_truncate(disk, fd, BLOCK), 0);
	assert_int_equal(sync_fd(fd), 0);
	wh__disk_power_cut(disk, WH_SIM_KEEP_NEW);
	assert_int_equal(size_of("/f"), BLOCK);
	char bytes[16];
	assert_int_equal(wh__disk_pread(disk, open_file("/f", O_RDONLY), bytes, 16, 4), 16);
	assert_memory_equal(bytes, "nnnnnn\0\0\0\0\0\0\0\0\0\0", 16);
}

/* ---- a flush that fails -------------------------------------------------------------------- */

static void test_a_failed_flush_is_final(void **state)
{
	int lost = 0;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct wh__disk_flush *flush;
		again(seed);
		int fd = safe_file("/f", 'o', BLOCK);
		int direct = open_file("/f", O_RDONLY | O_DIRECT);
		fill(fd, 'n', BLOCK, 0);
		assert_int_equal(wh__disk_flush_begin(disk, fd, &flush), 0);
		assert_int_equal(wh__disk_flush_fail(disk, flush, EIO), -EIO);
		assert_int_equal(sync_fd(fd), 0); /* the next one says that all is well */
		bool differs = false;
		for (uint64_t i = 0; i < 8; i++) {
			_Alignas(512) char bytes[512];
			assert_int_equal(sector_of(fd, i), 'n'); /* what the cache shows */
			assert_int_equal(wh__disk_pread(disk, direct, bytes, 512, i * 512), 512);
			differs = differs || bytes[0] != 'n';
		}
		/* the end of the process changes nothing in that */
		wh__disk_close_all(disk);
		fd = open_file("/f", O_RDONLY);
		assert_int_equal(sector_of(fd, 0), 'n');
		wh__disk_power_cut(disk, WH_SIM_KEEP_NEW);
		fd = open_file("/f", O_RDONLY);
		bool old = false;
		for (uint64_t i = 0; i < 8; i++)
			old = old || sector_of(fd, i) == 'o';
		assert_int_equal(old, differs);
		lost += old;
	}
	assert_true(lost > SEEDS / 2);
}

static void test_each_descriptor_is_told_once(void **state)
{
	struct wh__disk_flush *flush;
	int fd = safe_file("/f", 'o', BLOCK), other = open_file("/f", O_RDWR);
	assert_int_equal(wh__disk_flush_begin(disk, fd, &flush), 0);
	assert_int_equal(wh__disk_flush_fail(disk, flush, EIO), -EIO);
	assert_int_equal(sync_fd(fd), 0);
	assert_int_equal(sync_fd(other), -EIO);
	assert_int_equal(sync_fd(other), 0);
	assert_int_equal(sync_fd(open_file("/f", O_RDWR)), 0);
}

static void test_writing_again_mends_a_failed_flush(void **state)
{
	struct wh__disk_flush *flush;
	int fd = safe_file("/f", 'o', BLOCK);
	fill(fd, 'n', BLOCK, 0);
	assert_int_equal(wh__disk_flush_begin(disk, fd, &flush), 0);
	assert_int_equal(wh__disk_flush_fail(disk, flush, EIO), -EIO);
	fill(fd, 'n', BLOCK, 0);
	assert_int_equal(sync_fd(fd), 0);
	wh__disk_power_cut(disk, WH_SIM_KEEP_OLD);
	fd = open_file("/f", O_RDONLY);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(sector_of(fd, i), 'n');
}

/* ---- names -------------------------------------------------------------------------------- */

static void test_a_synced_file_may_vanish_with_its_name(void **state)
{
	int there = 0;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		again(seed);
		int fd = open_file("/f", O_RDWR | O_CREAT);
		fill(fd, 's', BLOCK, 0);
		assert_int_equal(sync_fd(fd), 0);
		wh__disk_power_cut(disk, WH_SIM_RANDOM);
		int64_t size = size_of("/f");
		assert_true(size == BLOCK || size == -ENOENT);
		there += size == BLOCK;
	}
	assert_true(there > SEEDS / 4);
	assert_true(there < SEEDS * 3 / 4);
}

static void test_a_name_without_content(void **state)
{
	open_file("/f", O_RDWR | O_CREAT);
	int fd = open_file("/f", O_RDWR);
	fill(fd, 'u', BLOCK, 0);
	sync_path("/");
	wh__disk_power_cut(disk, WH_SIM_KEEP_OLD);
	assert_int_equal(size_of("/f"), 0);
}

static void test_a_rename_is_all_or_nothing(void **state)
{
	int done = 0;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		again(seed);
		safe_file("/old", 'o', BLOCK);
		safe_file("/new", 'n', BLOCK);
		assert_int_equal(wh__disk_rename(disk, "/new", "/old"), 0);
		wh__disk_power_cut(disk, (int)(seed % (WH_SIM_GARBAGE + 1)));
		int byte = sector_of(open_file("/old", O_RDONLY), 0);
		if (byte == 'n')
			assert_int_equal(size_of("/new"), -ENOENT);
		else
			assert_int_equal(size_of("/new"), BLOCK);
		done += byte == 'n';
		assert_true(byte == 'n' || byte == 'o');
	}
	assert_true(done > 0);
	assert_true(done < SEEDS);
}

static void test_a_synced_directory_keeps_its_names(void **state)
{
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		again(seed);
		assert_int_equal(wh__disk_mkdir(disk, "/d"), 0);
		int fd = open_file("/d/tmp", O_RDWR | O_CREAT);
		fill(fd, 's', BLOCK, 0);
		assert_int_equal(sync_fd(fd), 0);
		assert_int_equal(wh__disk_rename(disk, "/d/tmp", "/d/f"), 0);
		sync_path("/d");
		sync_path("/");
		assert_int_equal(wh__disk_unlink(disk, "/d/f"), 0);
		wh__disk_power_cut(disk, WH_SIM_KEEP_OLD);
		assert_int_equal(size_of("/d/f"), BLOCK);
		assert_int_equal(size_of("/d/tmp"), -ENOENT);
	}
}

static void test_changes_of_names_that_build_on_each_other_keep_their_order(void **state)
{
	int states[4] = {0};
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		again(seed);
		sync_fd(open_file("/a", O_RDWR | O_CREAT));
		assert_int_equal(wh__disk_rename(disk, "/a", "/b"), 0);
		assert_int_equal(wh__disk_rename(disk, "/b", "/c"), 0);
		wh__disk_power_cut(disk, WH_SIM_RANDOM);
		int count = (size_of("/a") == 0) + (size_of("/b") == 0) + (size_of("/c") == 0);
		assert_true(count <= 1);
		states[count == 0 ? 0 : size_of("/a") == 0 ? 1 : size_of("/b") == 0 ? 2 : 3]++;
	}
	for (int i = 0; i < 4; i++)
		assert_true(states[i] > 0);
}

static void test_unrelated_changes_of_names_may_survive_out_of_order(void **state)
{
	int second_only = 0;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		again(seed);
		open_file("/first", O_RDWR | O_CREAT);
		open_file("/second", O_RDWR | O_CREAT);
		wh__disk_power_cut(disk, WH_SIM_RANDOM);
		second_only += size_of("/first") == -ENOENT && size_of("/second") == 0;
	}
	assert_true(second_only > 0);
}

static void test_a_failed_flush_of_a_directory_saves_nothing(void **state)
{
	struct wh__disk_flush *flush;
	open_file("/f", O_RDWR | O_CREAT);
	int fd = open_file("/", O_RDONLY);
	assert_int_equal(wh__disk_flush_begin(disk, fd, &flush), 0);
	assert_int_equal(wh__disk_flush_fail(disk, flush, EIO), -EIO);
	assert_int_equal(size_of("/f"), 0);
	wh__disk_power_cut(disk, WH_SIM_KEEP_OLD);
	assert_int_equal(size_of("/f"), -ENOENT);
}

static void test_the_end_of_the_process_loses_nothing_and_saves_nothing(void **state)
{
	int fd = safe_file("/f", 'o', BLOCK);
	fill(fd, 'n', BLOCK, 0);
	open_file("/g", O_RDWR | O_CREAT);
	wh__disk_close_all(disk);
	assert_false(wh__disk_is_open(disk, fd));
	assert_int_equal(sector_of(open_file("/f", O_RDONLY), 0), 'n');
	assert_int_equal(size_of("/g"), 0);
	wh__disk_power_cut(disk, WH_SIM_KEEP_OLD);
	assert_int_equal(sector_of(open_file("/f", O_RDONLY), 0), 'o');
	assert_int_equal(size_of("/g"), -ENOENT);
}

static void test_a_cut_twice_is_a_cut_once(void **state)
{
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		again(seed);
		fill(safe_file("/f", 'o', 3 * BLOCK), 'n', 4 * BLOCK, 0);
		assert_int_equal(wh__disk_rename(disk, "/f", "/g"), 0);
		wh__disk_power_cut(disk, WH_SIM_RANDOM);
		uint64_t digest = wh__disk_digest(disk);
		wh__disk_power_cut(disk, WH_SIM_RANDOM);
		assert_true(wh__disk_digest(disk) == digest);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_disk, close_disk)

static void test_what_left_a_directory_is_not_lost_with_it(void **state)
{
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		again(seed);
		assert_int_equal(wh__disk_mkdir(disk, "/d"), 0);
		assert_true(wh__disk_close(disk, open_file("/d/f", O_CREAT | O_WRONLY)) == 0);
		sync_path("/d");
		sync_path("/");
		assert_int_equal(wh__disk_rename(disk, "/d/f", "/f"), 0);
		assert_int_equal(wh__disk_link(disk, AT_FDCWD, "/f", AT_FDCWD, "/g", false), 0);
		assert_int_equal(wh__disk_rmdir(disk, AT_FDCWD, "/d"), 0);
		wh__disk_power_cut(disk, WH_SIM_RANDOM);
		struct wh_stat there;
		bool old = wh__disk_stat(disk, AT_FDCWD, "/d/f", &there) == 0;
		assert_int_equal(wh__disk_stat(disk, AT_FDCWD, "/f", &there), old ? -ENOENT : 0);
		if (old)
			continue;
		struct wh_stat other;
		bool linked = wh__disk_stat(disk, AT_FDCWD, "/g", &other) == 0;
		assert_int_equal(there.links, linked ? 2 : 1);
	}
}

/* The mode that a file made with 0600 and changed to 0640 has after a cut. data_only: how it was flushed; -1: not at all. */
static uint32_t mode_after(int data_only, int damage)
{
	struct wh_stat st;
	struct wh__disk_flush *flush;
	int fd = open_file("/f", O_CREAT | O_WRONLY);
	assert_int_equal(sync_fd(fd), 0);
	sync_path("/");
	assert_int_equal(wh__disk_chmod(disk, AT_FDCWD, "/f", 0640), 0);
	assert_int_equal(wh__disk_chown(disk, fd, NULL, 3, 4, true), 0);
	if (data_only >= 0) {
		assert_int_equal(wh__disk_flush_begin(disk, fd, &flush), 0);
		if (data_only)
			wh__disk_flush_data_only(flush);
		assert_int_equal(wh__disk_chown(disk, fd, NULL, 9, 9, true), 0); /* too late for it */
		assert_int_equal(wh__disk_flush_end(disk, flush), 0);
	}
	wh__disk_power_cut(disk, damage);
	assert_int_equal(wh__disk_stat(disk, AT_FDCWD, "/f", &st), 0);
	if (st.mode == 0640 && damage != WH_SIM_KEEP_NEW)
		assert_true(st.user == 3 || st.user == 9);
	return st.mode;
}

static void test_what_a_file_is_is_metadata(void **state)
{
	int old = 0, new = 0;
	again(1);
	assert_int_equal(mode_after(-1, WH_SIM_KEEP_NEW), 0640);
	again(1);
	assert_int_equal(mode_after(-1, WH_SIM_KEEP_OLD), 0600);
	again(1);
	assert_int_equal(mode_after(true, WH_SIM_KEEP_OLD), 0600);
	again(1);
	assert_int_equal(mode_after(false, WH_SIM_KEEP_OLD), 0640);
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		again(seed);
		*(mode_after(-1, WH_SIM_RANDOM) == 0600 ? &old : &new) += 1;
	}
	assert_true(old > SEEDS / 4 && new > SEEDS / 4);
}

static void test_a_link_is_a_name_with_where_it_leads(void **state)
{
	char text[16];
	int there = 0;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		again(seed);
		assert_int_equal(wh__disk_symlink(disk, "/safe", AT_FDCWD, "/a"), 0);
		sync_path("/");
		assert_int_equal(wh__disk_symlink(disk, "/not", AT_FDCWD, "/b"), 0);
		wh__disk_power_cut(disk, WH_SIM_RANDOM);
		assert_int_equal(wh__disk_readlink(disk, AT_FDCWD, "/a", text, sizeof text), 5);
		assert_memory_equal(text, "/safe", 5);
		int64_t n = wh__disk_readlink(disk, AT_FDCWD, "/b", text, sizeof text);
		assert_true(n == -ENOENT || (n == 4 && memcmp(text, "/not", 4) == 0));
		there += n > 0;
	}
	assert_true(there > SEEDS / 4 && there < SEEDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_left_a_directory_is_not_lost_with_it),
		TEST(test_what_a_file_is_is_metadata),
		TEST(test_a_link_is_a_name_with_where_it_leads),
		TEST(test_calls_give_the_errors_of_the_system),
		TEST(test_reads_show_what_was_written),
		TEST(test_lists_are_sorted),
		TEST(test_a_lock_is_held_until_it_is_closed),
		TEST(test_a_full_disk),
		TEST(test_holes_give_space_back),
		TEST(test_a_hole_is_a_change_of_content),
		TEST(test_a_file_without_a_name),
		TEST(test_what_was_synced_survives),
		TEST(test_each_damage_does_what_it_says),
		TEST(test_unsynced_sectors_are_damaged_each_for_itself),
		TEST(test_an_overwritten_unsynced_content_may_be_what_is_left),
		TEST(test_a_flush_covers_what_was_written_before_it_began),
		TEST(test_size_is_metadata),
		TEST(test_a_failed_flush_is_final),
		TEST(test_each_descriptor_is_told_once),
		TEST(test_writing_again_mends_a_failed_flush),
		TEST(test_a_synced_file_may_vanish_with_its_name),
		TEST(test_a_name_without_content),
		TEST(test_a_rename_is_all_or_nothing),
		TEST(test_a_synced_directory_keeps_its_names),
		TEST(test_changes_of_names_that_build_on_each_other_keep_their_order),
		TEST(test_unrelated_changes_of_names_may_survive_out_of_order),
		TEST(test_a_failed_flush_of_a_directory_saves_nothing),
		TEST(test_the_end_of_the_process_loses_nothing_and_saves_nothing),
		TEST(test_a_cut_twice_is_a_cut_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
