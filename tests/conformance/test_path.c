/* tests/conformance/test_path.c -- operations on names: links, renames, what a file is, directories in pieces. Their errors:
 * test_errors_file.c. */
#include "temporary.h"

#include <sys/sysmacros.h>

static void names_relative_to_a_directory(void **state)
{
	struct wh_stat st;
	must(wh_mkdir(loop, in_folder("a"), 0700));
	must(wh_mkdir(loop, in_folder("b"), 0700));
	int a = open_in("a", O_RDONLY | O_DIRECTORY), b = open_in("b", O_RDONLY | O_DIRECTORY);
	int fd = (int)wh_await(wh_open_at(loop, a, "file", O_WRONLY | O_CREAT, 0640)).n;
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close_fd(fd);
	must(wh_stat_at(loop, a, "file", 0, &st));
	must(wh_access_at(loop, a, "file", R_OK | W_OK, 0));
	must(wh_chmod_at(loop, a, "file", 0600));
	must(wh_chown_at(loop, a, "file", UINT32_MAX, UINT32_MAX, 0));
	must(wh_set_times_at(loop, a, "file", WH_TIME_NOW, WH_TIME_NOW, 0));
	must(wh_rename_at(loop, a, "file", b, "moved", 0));
	must(wh_link_at(loop, b, "moved", a, "linked", 0));
	must(wh_symlink_at(loop, "linked", a, "symbolic"));
	char text[16] = {0};
	gives(wh_readlink_at(loop, a, "symbolic", text, sizeof text), 6);
	assert_string_equal(text, "linked");
	must(wh_mkdir_at(loop, a, "deeper", 0700));
	must(wh_unlink_at(loop, a, "deeper", AT_REMOVEDIR));
	must(wh_unlink_at(loop, a, "linked", 0));
	gives(wh_stat_at(loop, a, "linked", 0, &st), -ENOENT);
	must(wh_stat_at(loop, b, "moved", 0, &st));
	/* an absolute path does not ask where it starts */
	must(wh_stat_at(loop, a, in_folder("b"), 0, &st));
	assert_int_equal(st.type, WH_FILE_DIRECTORY);
	/* a close waits for what starts from the directory */
	wh_future late[8];
	for (int i = 0; i < 8; i++)
		late[i] = wh_mkdir_at(loop, a, (char[]){(char)('0' + i), 0}, 0700);
	wh_future closing = wh_close(loop, a);
	must(closing);
	for (int i = 0; i < 8; i++) {
		assert_true(wh_done(late[i]));
		int64_t n = wh_await(late[i]).n;
		assert_true(n == 0 || n == -ECANCELED);
	}
	close_fd(b);
}

static void what_a_file_is(void **state)
{
	struct wh_stat st, other;
	struct stat real;
	write_file("file", "hello");
	must(wh_chmod(loop, in_folder("file"), 04750));
	must(wh_set_times(loop, in_folder("file"), 1500000000123456789, 1600000000987654321));
	must(wh_stat(loop, in_folder("file"), &st));
	assert_int_equal(stat(in_folder("file"), &real), 0);
	assert_int_equal(st.type, WH_FILE_REGULAR);
	assert_int_equal(st.mode, 04750);
	assert_int_equal(st.size, 5);
	assert_int_equal(st.links, 1);
	assert_int_equal(st.user, real.st_uid);
	assert_int_equal(st.group, real.st_gid);
	assert_int_equal(st.inode, real.st_ino);
	assert_int_equal(st.device, real.st_dev);
	assert_int_equal(st.allocated_bytes, real.st_blocks * 512);
	assert_int_equal(st.block_bytes, real.st_blksize);
	assert_int_equal(st.accessed_ns, 1500000000123456789);
	assert_int_equal(st.modified_ns, 1600000000987654321);
	assert_int_equal(st.changed_ns, real.st_ctim.tv_sec * WH_NS_PER_S + real.st_ctim.tv_nsec);
	int fd = open_in("file", O_RDWR);
	must(wh_fstat(loop, fd, &other));
	assert_memory_equal(&st, &other, sizeof st);
	must(wh_fset_times(loop, fd, WH_TIME_KEEP, -1)); /* a nanosecond before 1970 */
	must(wh_fchmod(loop, fd, 0600));
	must(wh_fchown(loop, fd, st.user, st.group));
	must(wh_chown(loop, in_folder("file"), st.user, UINT32_MAX));
	must(wh_fstat(loop, fd, &other));
	assert_int_equal(other.accessed_ns, st.accessed_ns);
	assert_int_equal(other.modified_ns, -1);
	assert_int_equal(other.mode, 0600);
	must(wh_fset_times(loop, fd, WH_TIME_NOW, WH_TIME_KEEP));
	must(wh_fstat(loop, fd, &other));
	assert_true(llabs(other.accessed_ns - wh_wall_now(loop)) < 3600 * WH_NS_PER_S);
	assert_int_equal(other.modified_ns, -1);
	close_fd(fd);
}

static void kinds_of_files(void **state)
{
	struct wh_stat st;
	must(wh_mkdir(loop, in_folder("dir"), 0700));
	must(wh_symlink(loop, "dir", in_folder("link")));
	assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
	must(wh_stat(loop, in_folder("dir"), &st));
	assert_int_equal(st.type, WH_FILE_DIRECTORY);
	must(wh_stat(loop, in_folder("link"), &st));
	assert_int_equal(st.type, WH_FILE_DIRECTORY);
	must(wh_lstat(loop, in_folder("link"), &st));
	assert_int_equal(st.type, WH_FILE_LINK);
	must(wh_stat(loop, in_folder("pipe"), &st));
	assert_int_equal(st.type, WH_FILE_PIPE);
	must(wh_stat(loop, "/dev/null", &st));
	assert_int_equal(st.type, WH_FILE_CHARACTER);
	assert_int_equal(st.represents, makedev(1, 3));
	int pair[2];
	make_pair(pair);
	must(wh_fstat(loop, pair[0], &st));
	assert_int_equal(st.type, WH_FILE_SOCKET);
	close_fd(pair[0]);
	close_fd(pair[1]);
}

static void links(void **state)
{
	char text[64];
	struct wh_stat st;
	write_file("file", "content");
	must(wh_link(loop, in_folder("file"), in_folder("second")));
	must(wh_stat(loop, in_folder("second"), &st));
	assert_int_equal(st.links, 2);
	must(wh_symlink(loop, "second", in_folder("link")));
	memset(text, 'x', sizeof text);
	gives(wh_readlink(loop, in_folder("link"), text, sizeof text), 6);
	assert_memory_equal(text, "secondx", 7); /* no zero byte is added */
	gives(wh_readlink(loop, in_folder("link"), text, 7), 6);
	gives(wh_readlink(loop, in_folder("link"), text, 6), -ENAMETOOLONG);
	/* of a link to a link: itself, or what it points to */
	must(wh_link(loop, in_folder("link"), in_folder("same link")));
	must(wh_lstat(loop, in_folder("same link"), &st));
	assert_int_equal(st.type, WH_FILE_LINK);
	must(wh_link_at(loop, AT_FDCWD, in_folder("link"), AT_FDCWD, in_folder("third"), AT_SYMLINK_FOLLOW));
	must(wh_lstat(loop, in_folder("third"), &st));
	assert_int_equal(st.type, WH_FILE_REGULAR);
	assert_int_equal(st.links, 3);
	expect_content("third", "content");
	char real[256], expected[256];
	assert_non_null(realpath(in_folder("second"), expected));
	char winding[300];
	snprintf(winding, sizeof winding, "%s/./../%s/link", folder, strrchr(folder, '/') + 1);
	gives(wh_realpath(loop, winding, real, sizeof real), strlen(expected));
	assert_string_equal(real, expected);
	gives(wh_realpath(loop, winding, real, strlen(expected) + 1), strlen(expected));
	gives(wh_realpath(loop, winding, real, strlen(expected)), -ENAMETOOLONG);
}

static void renames_with_care(void **state)
{
	write_file("one", "1");
	write_file("two", "2");
	gives(wh_rename_at(loop, AT_FDCWD, in_folder("one"), AT_FDCWD, in_folder("two"),
	                   WH_RENAME_NO_REPLACE),
	      -EEXIST);
	must(wh_rename_at(loop, AT_FDCWD, in_folder("one"), AT_FDCWD, in_folder("new"),
	                  WH_RENAME_NO_REPLACE));
	must(wh_rename_at(loop, AT_FDCWD, in_folder("new"), AT_FDCWD, in_folder("two"), WH_RENAME_EXCHANGE));
	expect_content("two", "1");
	expect_content("new", "2");
	gives(wh_rename_at(loop, AT_FDCWD, in_folder("new"), AT_FDCWD, in_folder("no"), WH_RENAME_EXCHANGE),
	      -ENOENT);
	must(wh_mkdir(loop, in_folder("dir"), 0700));
	must(wh_rmdir(loop, in_folder("dir")));
	must(wh_rename(loop, in_folder("new"), in_folder("two")));
	expect_content("two", "2");
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void directories_in_pieces(void **state)
{
	enum { FILES = 3000 };
	char *seen[FILES] = {0}, name[40];
	size_t count = 0, pieces = 0;
	must(wh_mkdir(loop, in_folder("large"), 0700));
	int directory = open_in("large", O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof name, "%s %08d", i % 3 ? "file" : "directory", i);
		if (i % 3 == 0)
			assert_int_equal(mkdirat(directory, name, 0700), 0);
		else
			assert_int_equal(mknodat(directory, name, S_IFREG | 0600, 0), 0);
	}
	for (;; pieces++) {
		wh_res res = wh_await(wh_list_next(loop, directory));
		struct wh_entries *entries = res.ptr;
		assert_true(res.n >= 0);
		assert_int_equal(entries->count, res.n);
		for (size_t i = 0; i < entries->count; i++) {
			const struct wh_entry *entry = &entries->entries[i];
			if (entry->type != WH_FILE_UNKNOWN)
				assert_int_equal(entry->type,
				                 entry->name[0] == 'd' ? WH_FILE_DIRECTORY : WH_FILE_REGULAR);
			assert_true(entry->inode != 0);
			assert_true(count < FILES);
			seen[count++] = strdup(entry->name);
		}
		assert_null(wh_entries_free(entries));
		if (res.n == 0)
			break;
	}
	assert_int_equal(count, FILES);
	assert_true(pieces > 1);
	qsort(seen, count, sizeof *seen, compare);
	for (size_t i = 1; i < count; i++)
		assert_true(strcmp(seen[i - 1], seen[i]) < 0); /* each once */
	for (size_t i = 0; i < count; i++)
		free(seen[i]);
	/* from the start again, and an empty one */
	assert_int_equal(lseek(directory, 0, SEEK_SET), 0);
	wh_future dropped = wh_list_next(loop, directory);
	while (!wh_done(dropped))
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	assert_int_equal(wh_drop(dropped), 0);
	close_fd(directory);
	must(wh_mkdir(loop, in_folder("empty"), 0700));
	directory = open_in("empty", O_RDONLY | O_DIRECTORY);
	wh_res res = wh_await(wh_list_next(loop, directory));
	assert_int_equal(res.n, 0);
	wh_entries_free(res.ptr);
	close_fd(directory);
	assert_null(wh_entries_free(NULL));
}

static void temporary_files(void **state)
{
	char first[128] = {0}, second[sizeof first];
	struct wh_stat st;
	snprintf(first, sizeof first, "%s/t-XXXXXX", folder);
	memcpy(second, first, sizeof second);
	int a = (int)wh_await(wh_make_temporary(loop, first, 0)).n,
	    b = (int)wh_await(wh_make_temporary(loop, second, O_APPEND)).n;
	assert_true(a >= 0 && b >= 0);
	assert_string_not_equal(first, second);
	assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(b, F_GETFL) & O_APPEND);
	must(wh_stat(loop, first, &st));
	assert_int_equal(st.mode, 0600);
	close_fd(a);
	close_fd(b);
	snprintf(first, sizeof first, "%s/d-XXXXXX", folder);
	must(wh_make_temporary_directory(loop, first));
	must(wh_stat(loop, first, &st));
	assert_int_equal(st.type, WH_FILE_DIRECTORY);
	assert_int_equal(st.mode, 0700);
	gives(wh_make_temporary(loop, first, 0), -EINVAL); /* not the six letters */
	gives(wh_make_temporary(loop, NULL, 0), -EINVAL);
	gives(wh_make_temporary_directory(loop, NULL), -EINVAL);
	/* without a name, and then with one */
	int64_t fd = wh_await(wh_open(loop, folder, O_TMPFILE | O_RDWR, 0600)).n;
	if (fd != -EOPNOTSUPP) {
		assert_true(fd >= 0);
		close_fd((int)fd);
	}
	int before = open_fd_count();
	snprintf(first, sizeof first, "%s/t-XXXXXX", folder);
	wh_future dropped = wh_make_temporary(loop, first, 0);
	while (!wh_done(dropped))
		assert_int_equal(wh_loop_turn(loop, -1), 0);
	assert_int_equal(wh_drop(dropped), 0);
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(open_fd_count(), before);
}

static void what_may_be_done(void **state)
{
	write_file("plain", "");
	must(wh_access(loop, in_folder("plain"), F_OK));
	must(wh_access(loop, in_folder("plain"), R_OK | W_OK));
	gives(wh_access(loop, in_folder("plain"), X_OK), -EACCES); /* of root, too */
	gives(wh_access_at(loop, AT_FDCWD, in_folder("plain"), X_OK, AT_EACCESS), -EACCES);
	gives(wh_access(loop, in_folder("none"), F_OK), -ENOENT);
	gives(wh_access(loop, in_folder("plain"), 0777), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_FOLDER(names_relative_to_a_directory),
		IN_FOLDER(what_a_file_is),
		IN_FOLDER(kinds_of_files),
		IN_FOLDER(links),
		IN_FOLDER(renames_with_care),
		IN_FOLDER(directories_in_pieces),
		IN_FOLDER(temporary_files),
		IN_FOLDER(what_may_be_done),
	};
	need_engine();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
