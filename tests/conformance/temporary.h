/* tests/conformance/temporary.h -- a folder of its own for each test. */
#ifndef WH_TESTS_TEMPORARY_H
#define WH_TESTS_TEMPORARY_H

#include "conformance.h"

static char folder[64];

static int make_folder(void **state)
{
	strcpy(folder, "/tmp/whilst-test-XXXXXX");
	return mkdtemp(folder) ? open_loop(state) : -1;
}

static int remove_folder(void **state)
{
	char command[256];
	close_loop(state);
	snprintf(command, sizeof command, "chmod -R u+rwx %s; rm -rf %s", folder, folder);
	return system(command);
}

#define IN_FOLDER(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

/* Good until the eighth call after it. */
__attribute__((unused)) static const char *in_folder(const char *name)
{
	static char paths[8][512];
	static int next;
	char *path = paths[next++ % 8];
	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

__attribute__((unused)) static int open_in(const char *name, int flags)
{
	int fd = (int)wh_await(wh_open(loop, in_folder(name), flags, 0600)).n;
	assert_true(fd >= 0);
	return fd;
}

__attribute__((unused)) static void write_file(const char *name, const char *content)
{
	int fd = open_in(name, O_WRONLY | O_CREAT | O_TRUNC);
	assert_int_equal(wh_await(wh_pwrite_all(loop, fd, content, strlen(content), 0)).n, strlen(content));
	close_fd(fd);
}

__attribute__((unused)) static void expect_content(const char *name, const char *content)
{
	char bytes[256] = {0};
	int fd = open_in(name, O_RDONLY);
	assert_int_equal(wh_await(wh_pread_all(loop, fd, bytes, sizeof bytes - 1, 0)).n, strlen(content));
	assert_string_equal(bytes, content);
	close_fd(fd);
}

#define must(f)          assert_int_equal(wh_await(f).n, 0)
#define gives(f, result) assert_int_equal(wh_await(f).n, result)
#endif
