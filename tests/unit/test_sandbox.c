/* tests/unit/test_sandbox.c -- what a process that has entered the sandbox can no longer do, and what it still can; on each engine.
 *
 * What is entered is never left, so each test is a child of its own; it tells by its exit status the line that was wrong. On a
 * machine that has but a part of it, what holds is tested, and that the rest is told. WHILST_ENGINE names the engine.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/sandbox.h"
#include "whilst/file.h"
#include "whilst/process.h"
#include "whilst/whilst.h"

static char root[64]; /* with data/, read/ and other/ in it */
static struct sandbox_state has;

static const char *at(const char *name)
{
	static char paths[16][256];
	static int next;
	char *path = paths[next++ % 16];

	snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
	return path;
}

/* ---- in the child ------------------------------------------------------------------------ */

static void report(int line)
{
	dprintf(STDERR_FILENO, "line %d is not as it should be; errno %d (%s)\n", line, errno,
	        strerror(errno));
	_exit(1);
}
#define CHECK(condition)                  \
	do {                              \
		errno = 0;                \
		if (!(condition))         \
			report(__LINE__); \
	} while (0)
#define FAILS(call, error) CHECK((call) < 0 && errno == (error))

static void enter(bool rings)
{
	struct sandbox_rule rules[] = {{at("data"), SANDBOX_KEEP},     {at("read"), SANDBOX_READ},
	                               {at("list"), SANDBOX_LIST},     {at("sockets"), SANDBOX_SOCKET},
	                               {"/proc/self", SANDBOX_READ},   {"/dev/null", SANDBOX_READ},
	                               {at("not-there"), SANDBOX_KEEP}};
	struct sandbox_options options = {
		.rules = rules, .rules_count = sizeof(rules) / sizeof(rules[0]), .rings = rings};
	struct sandbox_state state;

	sandbox_enter(&options, &state);
	CHECK(state.files == has.files);
	CHECK(state.calls == has.calls);
}

static int write_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	bool good = fd >= 0 && write(fd, "x", 1) == 1;

	if (fd >= 0)
		close(fd);
	return good ? 0 : -1;
}

static int read_file(const char *path)
{
	int fd = open(path, O_RDONLY);
	char c;
	bool good = fd >= 0 && read(fd, &c, 1) >= 0;

	if (fd >= 0)
		close(fd);
	return good ? 0 : -1;
}

static int try_open(const char *path, int flags)
{
	int fd = open(path, flags);

	return fd >= 0 ? close(fd) : -1;
}

static int list(const char *path)
{
	return try_open(path, O_RDONLY | O_DIRECTORY);
}

static void in_child(void (*body)(void))
{
	int status = 0;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- files ------------------------------------------------------------------------------- */

static void try_files(void)
{
	struct stat st;

	enter(true);
	if (has.files < 0)
		return;
	/* what is kept */
	CHECK(write_file(at("data/new")) == 0);
	CHECK(read_file(at("data/new")) == 0);
	CHECK(mkdir(at("data/folder"), 0700) == 0);
	CHECK(rename(at("data/new"), at("data/folder/new")) == 0);
	CHECK(truncate(at("data/folder/new"), 0) == 0);
	CHECK(link(at("data/folder/new"), at("data/second")) == 0);
	CHECK(unlink(at("data/folder/new")) == 0);
	CHECK(unlink(at("data/second")) == 0);
	CHECK(rmdir(at("data/folder")) == 0);
	CHECK(list(at("data")) == 0);
	/* what is read, and what takes its place */
	CHECK(read_file(at("read/file")) == 0);
	CHECK(list(at("read")) == 0);
	FAILS(write_file(at("read/file")), EACCES);
	FAILS(write_file(at("read/new")), EACCES);
	FAILS(unlink(at("read/file")), EACCES);
	FAILS(rename(at("read/file"), at("data/file")), EACCES);
	/* names alone */
	CHECK(list(at("list")) == 0);
	FAILS(read_file(at("list/file")), EACCES);
	FAILS(write_file(at("list/file")), EACCES);
	/* all else */
	FAILS(read_file(at("other/file")), EACCES);
	FAILS(list(at("other")), EACCES);
	FAILS(write_file(at("other/file")), EACCES);
	FAILS(write_file(at("other/new")), EACCES);
	FAILS(mkdir(at("other/new"), 0700), EACCES);
	FAILS(symlink("x", at("other/new")), EACCES);
	FAILS(unlink(at("other/file")), EACCES);
	/* into another folder: whichever of the two errors the kernel finds first */
	CHECK(rename(at("other/file"), at("data/file")) < 0 && (errno == EACCES || errno == EXDEV));
	CHECK(link(at("other/file"), at("data/file")) < 0 && (errno == EACCES || errno == EXDEV));
	FAILS(try_open("/etc/passwd", O_WRONLY), EACCES);
	FAILS(try_open("/etc/passwd", O_RDONLY), EACCES);
	FAILS(try_open("/proc/self/mem", O_WRONLY), EACCES);
	CHECK(stat("/etc/passwd", &st) == 0); /* what is where is no secret */
	CHECK(read_file("/proc/self/stat") == 0);
	CHECK(read_file("/dev/null") == 0);
	FAILS(try_open("/proc/1/environ", O_RDONLY), EACCES);
	if (has.files >= 3)
		FAILS(truncate(at("other/file"), 0), EACCES);
}

static void files_outside_are_out_of_reach(void **state)
{
	in_child(try_files);
}

static void *in_thread(void *arg)
{
	*(bool *)arg = try_open(at("other/file"), O_RDONLY) < 0 && errno == EACCES;
	return NULL;
}

static void try_threads(void)
{
	pthread_t thread;
	bool refused = false;

	enter(true);
	CHECK(pthread_create(&thread, NULL, in_thread, &refused) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(refused == (has.files > 0));
}

static void threads_begin_and_are_no_freer(void **state)
{
	in_child(try_threads);
}

static int name_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), error;

	if (fd < 0)
		return -1;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	error = bind(fd, (struct sockaddr *)&address, sizeof(address));
	close(fd);
	return error;
}

static int try_socket(int family, int type)
{
	int fd = socket(family, type, 0);

	return fd >= 0 ? close(fd) : -1;
}

static void try_sockets(void)
{
	enter(true);
	if (has.files > 0) {
		CHECK(name_socket(at("sockets/new")) == 0);
		CHECK(unlink(at("sockets/new")) == 0);
		FAILS(name_socket(at("other/new")), EACCES);
		FAILS(write_file(at("sockets/file")), EACCES);
	}
	CHECK(try_socket(AF_INET, SOCK_STREAM) == 0);
	if (has.calls > 0) {
		FAILS(try_socket(AF_PACKET, SOCK_RAW), EAFNOSUPPORT);
		FAILS(try_socket(AF_ALG, SOCK_SEQPACKET), EAFNOSUPPORT);
		FAILS(try_socket(AF_VSOCK, SOCK_STREAM), EAFNOSUPPORT);
	}
}

static void sockets_are_named_where_they_may_be(void **state)
{
	in_child(try_sockets);
}

static void try_others(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1);
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "%s", root);
	len += (socklen_t)strlen(root);
	CHECK(fd >= 0);
	enter(true);
	CHECK(kill(getpid(), 0) == 0);
	if (has.files >= 6) {
		FAILS(kill(getppid(), 0), EPERM);
		FAILS(connect(fd, (struct sockaddr *)&address, len), EPERM);
	}
}

static void other_processes_are_out_of_reach(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(root));
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "%s", root);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	in_child(try_others);
	close(fd);
}

/* ---- calls ------------------------------------------------------------------------------- */

static void try_calls(void)
{
	/* arguments with which each would succeed, or fail otherwise: by root, too */
	static const struct {
		long number, arguments[4];
	} calls[] = {{SYS_ptrace, {PTRACE_TRACEME}},
	             {SYS_process_vm_readv, {0}},
	             {SYS_setuid, {0}},
	             {SYS_setresgid, {-1, -1, -1}},
	             {SYS_setgroups, {-1}},
	             {SYS_capset, {0}},
	             {SYS_unshare, {0}},
	             {SYS_setns, {-1}},
	             {SYS_chroot, {0}},
	             {SYS_mount, {0}},
	             {SYS_umount2, {0}},
	             {SYS_open_tree, {-1}},
	             {SYS_bpf, {-1}},
	             {SYS_perf_event_open, {0}},
	             {SYS_userfaultfd, {-1}},
	             {SYS_init_module, {0}},
	             {SYS_finit_module, {-1}},
	             {SYS_kexec_load, {0, 100000}},
	             {SYS_keyctl, {KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 1}},
	             {SYS_add_key, {0}},
	             {SYS_personality, {0xffffffff}},
	             {SYS_reboot, {0}},
	             {SYS_sethostname, {0, -1}},
	             {SYS_clock_settime, {-1}},
	             {SYS_open_by_handle_at, {-1}},
	             {SYS_fchmod, {-1}},
	             {SYS_fchown, {-1}},
	             {SYS_setxattr, {0}},
	             {SYS_mknodat, {-1}}};
	char *const arguments[] = {(char *)"true", NULL};
	enum { COUNT = sizeof(calls) / sizeof(calls[0]) };
	int null = open("/dev/null", O_RDONLY);

	enter(false);
	for (size_t i = 0; i < COUNT && has.calls > 0; i++) {
		const long *a = calls[i].arguments;
		errno = 0;
		if (syscall((long)calls[i].number, a[0], a[1], a[2], a[3]) >= 0 || errno != EPERM) {
			dprintf(STDERR_FILENO, "call %ld is not refused\n", calls[i].number);
			report(__LINE__);
		}
	}
	if (has.calls < 0)
		_exit(0);
	FAILS(execv("/bin/true", arguments), EPERM);
	FAILS(syscall(SYS_execveat, null, "", arguments, NULL, AT_EMPTY_PATH), EPERM);
	FAILS(fork(), EPERM);
	FAILS(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0), EPERM);
	FAILS(syscall(SYS_clone3, 0, 0), ENOSYS);
	FAILS(ioctl(null, TIOCSTI, "x"), EPERM);
	FAILS(ioctl(null, TIOCLINUX, "x"), EPERM);
	FAILS(ioctl(null, FIOCLEX | 0x100000), ENOTTY); /* the others are the kernel's to judge */
	FAILS(syscall(SYS_io_uring_setup, 0, 0), EPERM);
	CHECK(system("true") != 0);
}

static void what_no_server_does_is_refused(void **state)
{
	in_child(try_calls);
}

static void try_status(void)
{
	char text[8192];
	int fd;
	ssize_t n;

	enter(true);
	fd = open("/proc/self/status", O_RDONLY);
	n = read(fd, text, sizeof(text) - 1);
	CHECK(n > 0);
	text[n] = 0;
	CHECK(strstr(text, "NoNewPrivs:\t1") != NULL);
	CHECK(has.calls < 0 || strstr(text, "Seccomp:\t2"));
}

static void the_kernel_says_so_too(void **state)
{
	in_child(try_status);
}

/* ---- through an engine ------------------------------------------------------------------- */

static int64_t done(wh_future future)
{
	return wh_await(future).n;
}

static void try_engine(void)
{
	const char *name = getenv("WHILST_ENGINE");
	const char *const program[] = {"true", NULL};
	struct wh_spawn_options child = {.argv = program};
	struct wh_stat st;
	char byte = 'x';
	wh_loop *loop;
	int64_t fd;

	enter(!name || !*name || strcmp(name, "uring") == 0 || strcmp(name, "auto") == 0);
	CHECK(wh_loop_open(&loop, NULL) == 0);
	fd = done(wh_open(loop, at("data/new"), O_RDWR | O_CREAT, 0600));
	CHECK(fd >= 0);
	CHECK(done(wh_pwrite(loop, (int)fd, &byte, 1, 0)) == 1);
	CHECK(done(wh_fsync(loop, (int)fd, false)) == 0);
	CHECK(done(wh_close(loop, (int)fd)) == 0);
	CHECK(done(wh_rename(loop, at("data/new"), at("data/renamed"))) == 0);
	CHECK(done(wh_stat(loop, at("other/file"), &st)) == 0);
	if (has.files > 0) {
		CHECK(done(wh_open(loop, at("other/file"), O_RDONLY, 0)) == -EACCES);
		CHECK(done(wh_open(loop, at("other/file"), O_WRONLY, 0)) == -EACCES);
		CHECK(done(wh_open(loop, at("other/new"), O_WRONLY | O_CREAT, 0600)) == -EACCES);
		CHECK(done(wh_open(loop, "/etc/passwd", O_WRONLY, 0)) == -EACCES);
		CHECK(done(wh_mkdir(loop, at("other/new"), 0700)) == -EACCES);
		CHECK(done(wh_unlink(loop, at("other/file"))) == -EACCES);
		CHECK(done(wh_rename(loop, at("data/renamed"), at("other/new"))) < 0);
		CHECK(done(wh_link(loop, at("data/renamed"), at("other/new"))) < 0);
		/* many at once: on rings, the kernel's workers do them */
		wh_future all[64];
		for (int i = 0; i < 64; i++)
			all[i] = wh_open(loop, at("other/file"), O_RDONLY, 0);
		for (int i = 0; i < 64; i++)
			CHECK(done(all[i]) == -EACCES);
	}
	CHECK(done(wh_unlink(loop, at("data/renamed"))) == 0);
	if (has.calls > 0) {
		struct wh_child spawned;
		CHECK(wh_spawn(loop, &child, &spawned) < 0);
	}
	wh_loop_close(loop);
}

static void no_engine_is_freer(void **state)
{
	in_child(try_engine);
}

/* ---- all of it --------------------------------------------------------------------------- */

static int make(void **state)
{
	static const char *const folders[] = {"data", "read", "list", "sockets", "other"};
	static const char *const files[] = {"read/file", "list/file", "other/file"};

	has = sandbox_look();
	printf("Landlock %d, seccomp %d\n", has.files, has.calls);
	strcpy(root, "/tmp/whilst-test-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		if (mkdir(at(folders[i]), 0700) != 0)
			return -1;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (write_file(at(files[i])) != 0)
			return -1;
	return 0;
}

static int clear(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_outside_are_out_of_reach),
		cmocka_unit_test(threads_begin_and_are_no_freer),
		cmocka_unit_test(sockets_are_named_where_they_may_be),
		cmocka_unit_test(other_processes_are_out_of_reach),
		cmocka_unit_test(what_no_server_does_is_refused),
		cmocka_unit_test(the_kernel_says_so_too),
		cmocka_unit_test(no_engine_is_freer),
	};

	return cmocka_run_group_tests(tests, make, clear);
}
