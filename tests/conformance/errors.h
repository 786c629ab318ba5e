/* tests/conformance/errors.h -- what the tests of errors share: tables are read as a whole, and some rows need a process of
 * their own.
 *
 * Every error that a header promises is produced on every engine: errors_seen.py compares. The tables of operations are
 * errors_tables.h.
 */
#ifndef WH_TESTS_ERRORS_H
#define WH_TESTS_ERRORS_H

#include "temporary.h"

#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int wrong;

/* Counts instead of ending at the first: a table is read as a whole. */
__attribute__((unused)) static void judge(const char *operation, const char *what, int64_t n,
                                          int64_t expected)
{
	if (n == expected)
		return;
	wrong++;
	fprintf(stderr, "%s, %s: %lld (%s), not %lld (%s)\n", operation, what, (long long)n,
	        n < 0 ? wh_strerror(n) : "", (long long)expected, expected < 0 ? wh_strerror(expected) : "");
}

/* High, so that nothing that is opened meanwhile gets it. */
__attribute__((unused)) static int a_closed_number(void)
{
	int fd = fcntl(0, F_DUPFD_CLOEXEC, 900);
	assert_true(fd >= 0);
	close(fd);
	return fd;
}

__attribute__((unused)) static char bytes[8192];
__attribute__((unused)) static struct wh_stat status_of;
__attribute__((unused)) static struct iovec vector = {bytes, 16};

#define is(f, error)        judge(#f, "", wh_await(f).n, error)
#define is_now(call, error) judge(#call, "", call, error)

/* ---- other users, other file systems ---------------------------------------------------------- */

enum { COULD_NOT_TRY = 77 };

/* body runs in a process of its own with a loop of its own; prepare before that loop exists: 0, or what it could not do. */
__attribute__((unused)) static void in_another_process(int (*prepare)(void), void (*body)(void))
{
	int status;
	if (under_valgrind())
		skip(); /* what threads held that are not there in the other process is lost to it */
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
__attribute__((unused)) static int become_nobody(void)
{
	if (chdir(folder) != 0 || setgroups(0, NULL) != 0 || setresgid(65534, 65534, 65534) != 0 ||
	    setresuid(65534, 65534, 65534) != 0)
		return errno;
	return 0;
}

#endif
