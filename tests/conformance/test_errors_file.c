/* tests/conformance/test_errors_file.c -- errors of names and files, as tables: the same on every engine.
 *
 * Each operation that takes a path, with each way in which a path can be wrong. Then what needs a process of its own: other
 * users, read-only and full file systems, limits; a forked child does it, and says what it could not try.
 */
#include "errors_tables.h"

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
	is(wh_open_at(loop, AT_FDCWD, in_folder("dir"), O_WRONLY, 0), -EISDIR);
	is(wh_open_at(loop, AT_FDCWD, in_folder("file"), O_RDWR | O_CREAT | O_EXCL, 0600), -EEXIST);
	is(wh_mkdir_at(loop, AT_FDCWD, in_folder("file"), 0700), -EEXIST);
	is(wh_symlink_at(loop, "x", AT_FDCWD, in_folder("dangling")), -EEXIST);
	is(wh_link(loop, "/proc/version", in_folder("x")), -EXDEV);
	is(wh_link_at(loop, AT_FDCWD, "/proc/version", AT_FDCWD, in_folder("x"), 0), -EXDEV);
	is(wh_readlink(loop, in_folder("dangling"), bytes, 4), -ENAMETOOLONG);
	is(wh_readlink_at(loop, AT_FDCWD, in_folder("dangling"), bytes, 4), -ENAMETOOLONG);
	is(wh_readlink_at(loop, AT_FDCWD, in_folder("file"), bytes, sizeof bytes), -EINVAL);
	is(wh_realpath(loop, in_folder("file"), bytes, 4), -ENAMETOOLONG);
	is(wh_copy_file(loop, in_folder("file"), in_folder("dangling"), false), -EEXIST);
	is(wh_copy_file(loop, in_folder("file"), in_folder("file"), true), -EINVAL);
	is(wh_copy_file(loop, in_folder("dir"), in_folder("x"), false), -EISDIR);
	is(wh_copy_file(loop, "/dev/null", in_folder("x"), false), -EINVAL);
	assert_int_equal(wrong, 0);
}

static int64_t temporary(const char *path, bool is_directory)
{
	char name[1024];
	snprintf(name, sizeof name, "%s", path);
	return wh_await(is_directory ? wh_make_temporary_directory(loop, name)
	                             : wh_make_temporary(loop, name, 0))
	        .n;
}

static void temporary_names(void **state)
{
	static char long_name[400];
	memset(long_name, 'n', 300);
	memcpy(long_name + 300, "XXXXXX", 7);
	write_file("file", "");
	must(wh_symlink(loop, "circle", in_folder("circle")));
	wrong = 0;
	is(wh_make_temporary(loop, NULL, 0), -EINVAL);
	is(wh_make_temporary_directory(loop, NULL), -EINVAL);
	for (int i = 0; i < 2; i++) {
		is_now(temporary(in_folder("no X in it"), i), -EINVAL);
		is_now(temporary(in_folder("none/XXXXXX"), i), -ENOENT);
		is_now(temporary(in_folder("file/XXXXXX"), i), -ENOTDIR);
		is_now(temporary(in_folder("circle/XXXXXX"), i), -ELOOP);
		is_now(temporary(in_folder(long_name), i), -ENAMETOOLONG);
	}
	assert_int_equal(wrong, 0);
}

static void files_that_are_in_use(void **state)
{
	if (under_valgrind())
		skip(); /* it knows no pidfd_open(2) */
	const char *argv[] = {in_folder("program"), "60", NULL};
	struct wh_spawn_options options = {.argv = argv, .null_in = true, .kill_on_close = SIGKILL};
	struct wh_child child;
	gives(wh_stat(loop, "/bin/sleep", &status_of), 0);
	gives(wh_copy_file(loop, "/bin/sleep", in_folder("program"), false), (int64_t)status_of.size);
	must(wh_chmod(loop, in_folder("program"), 0700));
	assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
	int one = open_in("file", O_RDWR | O_CREAT), two = open_in("file", O_RDWR);
	assert_int_equal(wh_spawn(loop, &options, &child), 0);
	wrong = 0;
	is(wh_open(loop, in_folder("program"), O_WRONLY, 0), -ETXTBSY);
	is(wh_open_at(loop, AT_FDCWD, in_folder("program"), O_WRONLY, 0), -ETXTBSY);
	is(wh_open(loop, in_folder("pipe"), O_WRONLY | O_NONBLOCK, 0), -ENXIO);
	is(wh_open_at(loop, AT_FDCWD, in_folder("pipe"), O_WRONLY | O_NONBLOCK, 0), -ENXIO);
	must(wh_lock(loop, one));
	is(wh_lock(loop, two), -EAGAIN);
	is(wh_lock_shared(loop, two), -EAGAIN);
	is(wh_copy_range(loop, one, 1, one, 0, 4), 0); /* nothing is there */
	gives(wh_pwrite_all(loop, one, "12345678", 8, 0), 8);
	is(wh_copy_range(loop, one, 1, one, 0, 4), -EINVAL);
	is(wh_advise(loop, one, 0, 0, 99), -EINVAL);
	is(wh_sync_range(loop, one, 0, 0, 99), -EINVAL);
	is_now(wh_child_kill(loop, child.pid, SIGKILL), 0);
	assert_true(wh_await(wh_child_wait(loop, child.pid)).n >= 0);
	int strange = (int)wh_await(wh_open(loop, "/proc/self/comm", O_RDWR, 0)).n;
	assert_true(strange >= 0);
	is(wh_allocate(loop, strange, 0, 1), -EOPNOTSUPP);
	assert_int_equal(wrong, 0);
	close_fd(strange);
	close_fd(one);
	close_fd(two);
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
	is_now(temporary("closed/XXXXXX", false), -EACCES);
	is_now(temporary("closed/XXXXXX", true), -EACCES);
	is(wh_access_at(loop, AT_FDCWD, "mine", R_OK, 0), -EACCES);
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
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
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
	if (mkdir(in_folder("mounted/folder"), 0700) != 0 ||
	    mount("/dev/null", in_folder("covered"), "none", MS_BIND, NULL) != 0)
		return errno;
	return mount("none", mounted, "none", MS_REMOUNT | MS_RDONLY, NULL) != 0 ? errno : 0;
}

static void on_full_disk(void)
{
	static char large[128 * 1024];
	struct iovec iov = {large, sizeof large};
	int fd = (int)wh_await(wh_open(loop, in_folder("mounted/a"), O_RDWR | O_CREAT, 0600)).n,
	    other = (int)wh_await(wh_open(loop, in_folder("mounted/b"), O_RDWR | O_CREAT, 0600)).n;
	is(wh_pwrite_all(loop, fd, large, sizeof large, 0), -ENOSPC);
	is(wh_pwrite(loop, other, large, 4096, 0), -ENOSPC);
	is(wh_pwritev(loop, other, &iov, 1, 0), -ENOSPC);
	is(wh_write(loop, other, large, 4096), -ENOSPC);
	is(wh_writev_all(loop, other, &iov, 1), -ENOSPC);
	is(wh_allocate_mode(loop, other, WH_ALLOCATE_KEEP_SIZE, 0, 1 << 20), -ENOSPC);
	is_now(wh_pwrite_blocking(loop, other, large, 4096, 0), -ENOSPC);
	is_now(wh_pwritev_blocking(loop, other, &iov, 1, 0), -ENOSPC);
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
	is(wh_open_at(loop, AT_FDCWD, in_folder("mounted/d"), O_RDWR | O_CREAT, 0600), -ENOSPC);
	is(wh_mkdir_at(loop, AT_FDCWD, in_folder("mounted/d"), 0700), -ENOSPC);
	is(wh_symlink_at(loop, "x", AT_FDCWD, in_folder("mounted/d")), -ENOSPC);
	is(wh_link(loop, in_folder("mounted/a"), in_folder("mounted/d")), -ENOSPC);
	is(wh_link_at(loop, AT_FDCWD, in_folder("mounted/a"), AT_FDCWD, in_folder("mounted/d"), 0), -ENOSPC);
	is_now(temporary(in_folder("mounted/XXXXXX"), false), -ENOSPC);
	is_now(temporary(in_folder("mounted/XXXXXX"), true), -ENOSPC);
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
	is(wh_open_at(loop, AT_FDCWD, in_folder("mounted/there"), O_RDWR, 0), -EROFS);
	is(wh_access_at(loop, AT_FDCWD, in_folder("mounted/there"), W_OK, 0), -EROFS);
	is(wh_chmod_at(loop, AT_FDCWD, in_folder("mounted/there"), 0700), -EROFS);
	is(wh_chown_at(loop, AT_FDCWD, in_folder("mounted/there"), 0, 0, 0), -EROFS);
	is(wh_set_times_at(loop, AT_FDCWD, in_folder("mounted/there"), 0, 0, 0), -EROFS);
	is(wh_rename_at(loop, AT_FDCWD, in_folder("mounted/there"), AT_FDCWD, in_folder("mounted/new"), 0),
	   -EROFS);
	is(wh_unlink_at(loop, AT_FDCWD, in_folder("mounted/there"), 0), -EROFS);
	is(wh_rmdir(loop, in_folder("mounted/folder")), -EROFS);
	is(wh_mkdir_at(loop, AT_FDCWD, in_folder("mounted/new"), 0700), -EROFS);
	is(wh_link_at(loop, AT_FDCWD, in_folder("mounted/there"), AT_FDCWD, in_folder("mounted/new"), 0),
	   -EROFS);
	is(wh_symlink_at(loop, "x", AT_FDCWD, in_folder("mounted/new")), -EROFS);
	is_now(temporary(in_folder("mounted/XXXXXX"), false), -EROFS);
	is_now(temporary(in_folder("mounted/XXXXXX"), true), -EROFS);
	int fd = (int)wh_await(wh_open(loop, in_folder("mounted/there"), O_RDONLY, 0)).n;
	is(wh_fchmod(loop, fd, 0700), -EROFS);
	is(wh_fchown(loop, fd, 0, 0), -EROFS);
	is(wh_fset_times(loop, fd, 0, 0), -EROFS);
	close_fd(fd);
	is(wh_unlink(loop, in_folder("covered")), -EBUSY);
	is(wh_rmdir(loop, mounted), -EBUSY);
	is(wh_rename(loop, mounted, in_folder("moved")), -EBUSY);
}

static void read_only_disks(void **state)
{
	write_file("covered", "");
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
	is(wh_write_all(loop, fd, bytes, 2000), -EFBIG); /* and now it is at its end */
	is(wh_write(loop, fd, bytes, 1), -EFBIG);
	is(wh_writev_all(loop, fd, &vector, 1), -EFBIG);
	is(wh_pwritev(loop, fd, &vector, 1, 1000), -EFBIG);
	is_now(wh_pwrite_blocking(loop, fd, bytes, 1, 1000), -EFBIG);
	is_now(wh_pwritev_blocking(loop, fd, &vector, 1, 1000), -EFBIG);
	is(wh_allocate_mode(loop, fd, 0, 0, 1001), -EFBIG);
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
		IN_FOLDER(names_that_are_wrong), IN_FOLDER(names_of_the_wrong_kind),
		IN_FOLDER(temporary_names),      IN_FOLDER(files_that_are_in_use),
		IN_FOLDER(without_permission),   IN_FOLDER(full_disks),
		IN_FOLDER(read_only_disks),      IN_FOLDER(files_that_may_not_grow),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
