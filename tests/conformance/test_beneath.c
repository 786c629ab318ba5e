/* tests/conformance/test_beneath.c -- files below a folder: what the kernel says (openat2(2) with RESOLVE_BENEATH) is what the walk says
 * that takes its place. The kernel's answers are found out here, then a filter refuses the call, in a child, and each is asked for
 * again.
 */
#include "conformance.h"

#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "io/beneath.h"

enum { DEEP = 300, CHAIN = 45 };

static char folder[64], deep_path[2 * DEEP + 10], longest[4097 + 10], too_long_name[300];
static int folder_fd = -1;

/* NULL: left out */
static const char *const links[][2] = {
	{"link", "file"},
	{"to-sub", "sub"},
	{"sub/up", ".."},
	{"sub/up-file", "../file"},
	{"sub/across", "../sub/../to-sub/inner"},
	{"up", ".."},
	{"far-up", "sub/../../outside"},
	{"sub/out", "../../outside"},
	{"out", "/etc/passwd"},
	{"root", "/"},
	{"self", "self"},
	{"ping", "pong"},
	{"pong", "ping"},
	{"dangling", "nowhere"},
	{"dangling-in", "sub/nowhere/x"},
	{"slash", "sub/"},
	{"file-slash", "file/"},
	{"dots", "./././file"},
	{"here", "."},
	{"slashes", "sub//inner"},
};

static const char *const paths[] = {"",
                                    ".",
                                    "./",
                                    "..",
                                    "../",
                                    "file",
                                    "./file",
                                    "file/",
                                    "file/.",
                                    "file/..",
                                    "file/x",
                                    "none",
                                    "none/x",
                                    "none/..",
                                    "sub",
                                    "sub/",
                                    "sub//inner",
                                    "sub/./inner",
                                    "sub/../file",
                                    "sub/../sub/../sub/inner",
                                    "sub/../../outside",
                                    "sub/../..",
                                    "sub/../../..",
                                    "../outside",
                                    "/etc/passwd",
                                    "//file",
                                    "link",
                                    "link/",
                                    "link/x",
                                    "to-sub",
                                    "to-sub/",
                                    "to-sub/inner",
                                    "to-sub/../file",
                                    "sub/up",
                                    "sub/up/file",
                                    "sub/up/sub/up/sub/inner",
                                    "sub/up/..",
                                    "sub/up-file",
                                    "sub/across",
                                    "up",
                                    "up/",
                                    "up/outside",
                                    "far-up",
                                    "sub/out",
                                    "out",
                                    "root",
                                    "root/etc/passwd",
                                    "self",
                                    "self/x",
                                    "ping",
                                    "dangling",
                                    "dangling/x",
                                    "dangling-in",
                                    "slash",
                                    "slash/inner",
                                    "file-slash",
                                    "dots",
                                    "here",
                                    "here/here/./here/file",
                                    "slashes",
                                    "chain-0",
                                    "chain-4",
                                    "chain-5",
                                    "chain-6",
                                    "fifo",
                                    "socket",
                                    "no-way/x",
                                    "no-way",
                                    deep_path,
                                    longest,
                                    too_long_name};
enum { PATHS = sizeof paths / sizeof *paths };

static void put(int at, const char *name, const char *content)
{
	int fd = openat(at, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), strlen(content));
	close(fd);
}

/* d/d/d/...: a file at the end */
static void make_deep(void)
{
	int at = dup(folder_fd);
	for (size_t i = 0; i < DEEP; i++) {
		assert_int_equal(mkdirat(at, "d", 0755), 0);
		int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(at);
		at = next;
		memcpy(deep_path + 2 * i, "d/", 3);
	}
	put(at, "x", "deep");
	memcpy(deep_path + (size_t)2 * DEEP, "x", 2);
	close(at);
}

static void remove_deep(void)
{
	char path[2 * DEEP + 10];
	memcpy(path, deep_path, sizeof path);
	(void)unlinkat(folder_fd, path, 0);
	for (char *slash; (slash = strrchr(path, '/'));) {
		*slash = 0;
		(void)unlinkat(folder_fd, path, AT_REMOVEDIR);
	}
	deep_path[0] = 0;
}

static int make_folder(void **state)
{
	char name[80], target[80];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strcpy(folder, "/tmp/whilst-beneath-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(name, sizeof name, "%s/within", folder);
	assert_int_equal(mkdir(name, 0755), 0);
	folder_fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(folder_fd >= 0);
	put(folder_fd, "../outside", "outside");
	put(folder_fd, "file", "file");
	assert_int_equal(mkdirat(folder_fd, "sub", 0755), 0);
	put(folder_fd, "sub/inner", "inner");
	assert_int_equal(mkdirat(folder_fd, "no-way", 0), 0);
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		assert_int_equal(symlinkat(links[i][1], folder_fd, links[i][0]), 0);
	/* chain-0 -> chain-1 -> ... -> file: the kernel follows 40 */
	for (int i = 0; i < CHAIN; i++) {
		snprintf(name, sizeof name, "chain-%d", i);
		snprintf(target, sizeof target, i == CHAIN - 1 ? "file" : "chain-%d", i + 1);
		assert_int_equal(symlinkat(target, folder_fd, name), 0);
	}
	assert_int_equal(mkfifoat(folder_fd, "fifo", 0644), 0);
	snprintf(address.sun_path, sizeof address.sun_path, "%s/within/socket", folder);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	close(fd);
	make_deep();
	memset(longest, 'a', sizeof longest - 1);
	for (size_t i = 100; i < sizeof longest - 1; i += 100)
		longest[i] = '/';
	memset(too_long_name, 'n', sizeof too_long_name - 1);
	return 0;
}

static int remove_folder(void **state)
{
	char name[80];
	remove_deep();
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		(void)unlinkat(folder_fd, links[i][0], 0);
	for (int i = 0; i < CHAIN; i++) {
		snprintf(name, sizeof name, "chain-%d", i);
		(void)unlinkat(folder_fd, name, 0);
	}
	(void)unlinkat(folder_fd, "fifo", 0);
	(void)unlinkat(folder_fd, "socket", 0);
	(void)unlinkat(folder_fd, "sub/inner", 0);
	(void)unlinkat(folder_fd, "file", 0);
	(void)unlinkat(folder_fd, "sub", AT_REMOVEDIR);
	(void)unlinkat(folder_fd, "no-way", AT_REMOVEDIR);
	(void)unlinkat(folder_fd, "../outside", 0);
	close(folder_fd);
	snprintf(name, sizeof name, "%s/within", folder);
	(void)rmdir(name);
	return rmdir(folder);
}

/* ---- answers --------------------------------------------------------------------------------- */

struct answer {
	int64_t error; /* 0: opened */
	ino_t inode;
	int type;
	uint64_t size;
};

static struct answer ask(const char *path)
{
	struct wh_stat st = {0};
	struct stat real;
	int64_t fd = wh__open_beneath(NULL, folder_fd, path, &st);
	struct answer answer = {.error = fd};
	if (fd < 0)
		return answer;
	if (fstat((int)fd, &real) != 0 || real.st_ino != st.inode ||
	    !(fcntl((int)fd, F_GETFD) & FD_CLOEXEC) || fcntl((int)fd, F_GETFL) & O_PATH)
		abort();
	close((int)fd);
	return (struct answer){.inode = real.st_ino, .type = st.type, .size = st.size};
}

/* What the kernel itself says, without the library. */
static int64_t ask_kernel(const char *path)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
	                       .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	int fd = (int)syscall(SYS_openat2, folder_fd, *path ? path : ".", &how, sizeof how);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static void forbid_openat2(int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		_exit(77);
	if (ask_kernel("file") != -error)
		_exit(78); /* it is refused now */
}

static int open_descriptors(void)
{
	int count = 0;
	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* In the child: how many answers are others. */
static int compare(const struct answer *kernel)
{
	int wrong = 0, before = open_descriptors();
	for (int i = 0; i < PATHS; i++) {
		struct answer walked = ask(paths[i]);
		if (walked.error != kernel[i].error || walked.inode != kernel[i].inode ||
		    walked.type != kernel[i].type || walked.size != kernel[i].size) {
			print_error("\"%.60s\": %lld, and the kernel says %lld\n", paths[i],
			            (long long)walked.error, (long long)kernel[i].error);
			wrong++;
		}
	}
	return wrong + (open_descriptors() != before);
}

static void refused_with(int error)
{
	struct answer kernel[PATHS];
	int status, opened = 0;
	if (ask_kernel("file") != 0)
		skip(); /* it is refused here already, or older than Linux 5.6 */
	for (int i = 0; i < PATHS; i++) {
		kernel[i] = ask(paths[i]);
		assert_int_equal(kernel[i].error, ask_kernel(paths[i]));
		opened += kernel[i].error == 0;
	}
	assert_true(opened > 20);
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		forbid_openat2(error);
		_exit(compare(kernel) == 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void refused_as_unknown(void **state)
{
	refused_with(ENOSYS);
}

static void refused_as_forbidden(void **state)
{
	refused_with(EPERM);
}

/* ---- while others rename --------------------------------------------------------------------- */

static atomic_bool over;

/* A folder goes out of the served one and back, and a link takes its place and gives it back. */
static void *rename_about(void *arg)
{
	while (!atomic_load(&over)) {
		(void)renameat(folder_fd, "moving", folder_fd, "../moving");
		(void)symlinkat("../..", folder_fd, "moving");
		(void)unlinkat(folder_fd, "moving", 0);
		(void)renameat(folder_fd, "../moving", folder_fd, "moving");
	}
	return NULL;
}

/* Whatever moves, nothing from outside is opened. */
static void nothing_leads_out_by_a_race(void **state)
{
	enum { ROUNDS = 3000 };
	static const char *const racing[] = {"moving/in/../../outside", "moving/in/../x",
	                                     "moving/in/../../file", "moving/outside", "moving/../outside"};
	struct stat outside;
	int status;
	assert_int_equal(fstatat(folder_fd, "../outside", &outside, 0), 0);
	assert_int_equal(mkdirat(folder_fd, "moving", 0755), 0);
	assert_int_equal(mkdirat(folder_fd, "moving/in", 0755), 0);
	put(folder_fd, "moving/x", "x");
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		pthread_t mover;
		bool led_out = false;
		forbid_openat2(ENOSYS);
		if (pthread_create(&mover, NULL, rename_about, NULL) != 0)
			_exit(2);
		for (int i = 0; i < ROUNDS; i++) {
			struct answer answer = ask(racing[i % 5]);
			led_out |= answer.error == 0 && answer.inode == outside.st_ino;
		}
		atomic_store(&over, true);
		pthread_join(mover, NULL);
		_exit(led_out ? 1 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	(void)unlinkat(folder_fd, "moving/x", 0);
	(void)unlinkat(folder_fd, "moving/in", AT_REMOVEDIR);
	(void)unlinkat(folder_fd, "moving", AT_REMOVEDIR);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(refused_as_unknown),
		TEST(refused_as_forbidden),
		TEST(nothing_leads_out_by_a_race),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
