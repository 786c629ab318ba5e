/* tests/fault/shim/shim.c -- system calls that fail, are cut short or take long, below a program that knows nothing of it.
 *
 * Loaded by LD_PRELOAD before the C library. The file that $WHILST_SHIM names says what is to happen; it may change while the
 * program runs, and is read again when it does (write it under another name and rename it). One rule a line:
 *
 *     CALL [path=PATTERN] [nth=N] [count=N] [error=NAME|NUMBER] [delay=MS] [short=BYTES] [exit=STATUS] [hang=1]
 *         [type=NUMBER]
 *
 * CALL is a name below (the plain one: pwrite, not pwrite64; open_direct: open with O_DIRECT), or a pattern of names (open*, *). path: of the file or the
 * descriptor's, as fnmatch(3); calls on sockets have none. Of the calls that match, counted since the rule was first read, the
 * nth (1) and those after it, count (1; 0: for ever) in all, are hit: delayed first, then they fail with error, or move at most
 * short bytes, or end the process, or (statfs) tell of a file system of that type, or go on. The first rule that hits decides.
 * A rule whose text stays keeps its count when
 * the file is read again. Each hit is a line, "CALL PATH NUMBER-OF-RULE", in $WHILST_SHIM.hits.
 *
 * What passes the C library by (io_uring, raw syscalls) is not seen. Thread: any.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { RULES_MAX = 32, LINE_MAX_BYTES = 256, FILE_BYTES = RULES_MAX * LINE_MAX_BYTES };

struct rule {
	char text[LINE_MAX_BYTES];
	char call[32], path[128];
	long nth, count, error, delay_ms, cut, exit_status, hang, type;
	long seen;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rule rules[RULES_MAX];
static size_t rules_count;
static struct timespec read_at; /* the file as it was read */
static ino_t read_inode;

/* Everything here must go past the functions below: raw system calls. */
static long raw_open(const char *path, int flags)
{
	return syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
}

static const struct {
	const char *name;
	int error;
} errors[] = {
	{"EIO", EIO},
	{"ENOSPC", ENOSPC},
	{"EINTR", EINTR},
	{"EAGAIN", EAGAIN},
	{"ENOMEM", ENOMEM},
	{"EACCES", EACCES},
	{"EROFS", EROFS},
	{"EMFILE", EMFILE},
	{"EDQUOT", EDQUOT},
	{"ENOENT", ENOENT},
	{"EOPNOTSUPP", EOPNOTSUPP},
	{"ECONNRESET", ECONNRESET},
	{"ECONNREFUSED", ECONNREFUSED},
	{"EPIPE", EPIPE},
	{"ETIMEDOUT", ETIMEDOUT},
};

static long error_of(const char *text)
{
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (strcmp(errors[i].name, text) == 0)
			return errors[i].error;
	return strtol(text, NULL, 10);
}

static bool parse(const char *line, struct rule *ret)
{
	char copy[LINE_MAX_BYTES], *save = NULL, *word;

	*ret = (struct rule){.nth = 1, .count = 1, .cut = -1, .exit_status = -1};
	snprintf(ret->text, sizeof(ret->text), "%s", line);
	snprintf(copy, sizeof(copy), "%s", line);
	word = strtok_r(copy, " \t", &save);
	if (!word || word[0] == '#')
		return false;
	snprintf(ret->call, sizeof(ret->call), "%s", word);
	while ((word = strtok_r(NULL, " \t", &save)) != NULL) {
		char *value = strchr(word, '=');

		if (!value) {
			fprintf(stderr, "shim: '%s' in '%s' is not name=value\n", word, line);
			abort();
		}
		*value++ = 0;
		if (strcmp(word, "path") == 0)
			snprintf(ret->path, sizeof(ret->path), "%s", value);
		else if (strcmp(word, "nth") == 0)
			ret->nth = strtol(value, NULL, 10);
		else if (strcmp(word, "count") == 0)
			ret->count = strtol(value, NULL, 10);
		else if (strcmp(word, "error") == 0)
			ret->error = error_of(value);
		else if (strcmp(word, "delay") == 0)
			ret->delay_ms = strtol(value, NULL, 10);
		else if (strcmp(word, "short") == 0)
			ret->cut = strtol(value, NULL, 10);
		else if (strcmp(word, "exit") == 0)
			ret->exit_status = strtol(value, NULL, 10);
		else if (strcmp(word, "type") == 0)
			ret->type = strtol(value, NULL, 0);
		else if (strcmp(word, "hang") == 0)
			ret->hang = strtol(value, NULL, 10);
		else {
			fprintf(stderr, "shim: '%s' in '%s' is unknown\n", word, line);
			abort();
		}
	}
	return true;
}

/* Locked. */
static void read_rules(const char *file)
{
	static char text[FILE_BYTES + 1];
	static struct rule fresh[RULES_MAX];
	size_t count = 0;
	struct stat st;
	char *save = NULL;
	ssize_t n;
	int fd;

	if (stat(file, &st) < 0) {
		rules_count = 0;
		return;
	}
	if (st.st_ino == read_inode && st.st_mtim.tv_sec == read_at.tv_sec &&
	    st.st_mtim.tv_nsec == read_at.tv_nsec)
		return;
	fd = (int)raw_open(file, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : syscall(SYS_read, fd, text, FILE_BYTES);
	if (fd >= 0)
		syscall(SYS_close, fd);
	if (n < 0)
		return;
	text[n] = 0;
	for (char *line = strtok_r(text, "\n", &save); line && count < RULES_MAX;
	     line = strtok_r(NULL, "\n", &save)) {
		if (!parse(line, &fresh[count]))
			continue;
		for (size_t i = 0; i < rules_count; i++)
			if (strcmp(rules[i].text, fresh[count].text) == 0)
				fresh[count].seen = rules[i].seen;
		count++;
	}
	memcpy(rules, fresh, count * sizeof(rules[0]));
	rules_count = count;
	read_at = st.st_mtim;
	read_inode = st.st_ino;
}

static void tell(const char *file, const char *call, const char *path, size_t number)
{
	char name[512], line[512];
	int n = snprintf(line, sizeof(line), "%s %.400s %zu\n", call, path[0] ? path : "-", number + 1), fd;

	snprintf(name, sizeof(name), "%s.hits", file);
	fd = (int)raw_open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC);
	if (fd >= 0) {
		syscall(SYS_write, fd, line, (size_t)n);
		syscall(SYS_close, fd);
	}
}

struct verdict {
	long error; /* 0: none */
	long cut;   /* at most so many bytes; -1: all */
	long type;  /* 0: as it is */
};

/* What becomes of this call. path NULL: fd's. */
static struct verdict judge(const char *call, int fd, const char *path)
{
	const char *file = getenv("WHILST_SHIM");
	char of_fd[512] = "", link[64];
	struct rule hit = {.cut = -1, .exit_status = -1};
	bool found = false, named = false;
	sigset_t all, before;
	size_t number = 0;

	if (!file)
		return (struct verdict){0, -1, 0};
	/* a signal handler may write, and come here again on the thread that it interrupts */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	pthread_mutex_lock(&lock);
	read_rules(file);
	for (size_t i = 0; i < rules_count && !found; i++) {
		struct rule *r = &rules[i];

		if (fnmatch(r->call, call, 0) != 0)
			continue;
		if (!path && !named) {
			ssize_t n;

			snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
			n = fd < 0 ? -1 : readlink(link, of_fd, sizeof(of_fd) - 1);
			of_fd[n > 0 ? n : 0] = 0;
			named = true;
		}
		if (r->path[0] && fnmatch(r->path, path ? path : of_fd, 0) != 0)
			continue;
		r->seen++;
		found = r->seen >= r->nth && (r->count == 0 || r->seen < r->nth + r->count);
		if (found) {
			hit = *r;
			number = i;
		}
	}
	pthread_mutex_unlock(&lock);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!found)
		return (struct verdict){0, -1, 0};
	tell(file, call, path ? path : of_fd, number);
	if (hit.delay_ms > 0) {
		struct timespec left = {hit.delay_ms / 1000, hit.delay_ms % 1000 * 1000000};

		while (syscall(SYS_nanosleep, &left, &left) < 0 && errno == EINTR)
			;
	}
	if (hit.hang)
		syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
	if (hit.exit_status >= 0)
		syscall(SYS_exit_group, hit.exit_status);
	return (struct verdict){hit.error, hit.cut, hit.type};
}

/* ---- the functions ------------------------------------------------------------------------- */

#define REAL(name) ((__typeof__(&(name)))real(&real_##name, #name))
static void *real(_Atomic(void *) *to, const char *name)
{
	if (!atomic_load(to))
		atomic_store(to, dlsym(RTLD_NEXT, name));
	return atomic_load(to);
}

#define VISIBLE __attribute__((visibility("default")))

/* A call that only fails. */
#define PLAIN(type, name, call, fd, path, parameters, arguments) \
	static _Atomic(void *) real_##name;                      \
	VISIBLE type name parameters                             \
	{                                                        \
		struct verdict v = judge(call, fd, path);        \
                                                                 \
		if (v.error) {                                   \
			errno = (int)v.error;                    \
			return (type)-1;                         \
		}                                                \
		return REAL(name) arguments;                     \
	}

/* One that moves bytes: len may become less. */
#define BYTES(name, call, parameters, arguments)          \
	static _Atomic(void *) real_##name;               \
	VISIBLE ssize_t name parameters                   \
	{                                                 \
		struct verdict v = judge(call, fd, NULL); \
                                                          \
		if (v.error) {                            \
			errno = (int)v.error;             \
			return -1;                        \
		}                                         \
		if (v.cut >= 0 && (size_t)v.cut < len)    \
			len = (size_t)v.cut;              \
		return REAL(name) arguments;              \
	}

/* The same of several buffers. */
static int cut_vector(const struct iovec *from, int count, long bytes, struct iovec to[8])
{
	int n = 0;

	for (; n < count && n < 8 && bytes > 0; n++) {
		to[n] = from[n];
		if (to[n].iov_len > (size_t)bytes)
			to[n].iov_len = (size_t)bytes;
		bytes -= (long)to[n].iov_len;
	}
	return n;
}

#define VECTOR(name, call, parameters, arguments)                    \
	static _Atomic(void *) real_##name;                          \
	VISIBLE ssize_t name parameters                              \
	{                                                            \
		struct verdict v = judge(call, fd, NULL);            \
		struct iovec less[8];                                \
                                                                     \
		if (v.error) {                                       \
			errno = (int)v.error;                        \
			return -1;                                   \
		}                                                    \
		if (v.cut >= 0) {                                    \
			count = cut_vector(iov, count, v.cut, less); \
			iov = less;                                  \
		}                                                    \
		return REAL(name) arguments;                         \
	}

#define PARAMETERS_AT    (int fd, void *buf, size_t len, off64_t off)
#define PARAMETERS_OUT   (int fd, const void *buf, size_t len, off64_t off)
#define PARAMETERS_IOV   (int fd, const struct iovec *iov, int count, off64_t off)
#define PARAMETERS_IOV_2 (int fd, const struct iovec *iov, int count, off64_t off, int flags)

BYTES(read, "read", (int fd, void *buf, size_t len), (fd, buf, len))
BYTES(write, "write", (int fd, const void *buf, size_t len), (fd, buf, len))
BYTES(pread, "pread", PARAMETERS_AT, (fd, buf, len, off))
BYTES(pread64, "pread", PARAMETERS_AT, (fd, buf, len, off))
BYTES(pwrite, "pwrite", PARAMETERS_OUT, (fd, buf, len, off))
BYTES(pwrite64, "pwrite", PARAMETERS_OUT, (fd, buf, len, off))
VECTOR(readv, "readv", (int fd, const struct iovec *iov, int count), (fd, iov, count))
VECTOR(writev, "writev", (int fd, const struct iovec *iov, int count), (fd, iov, count))
VECTOR(preadv, "preadv", PARAMETERS_IOV, (fd, iov, count, off))
VECTOR(preadv64, "preadv", PARAMETERS_IOV, (fd, iov, count, off))
VECTOR(preadv2, "preadv", PARAMETERS_IOV_2, (fd, iov, count, off, flags))
VECTOR(preadv64v2, "preadv", PARAMETERS_IOV_2, (fd, iov, count, off, flags))
VECTOR(pwritev, "pwritev", PARAMETERS_IOV, (fd, iov, count, off))
VECTOR(pwritev64, "pwritev", PARAMETERS_IOV, (fd, iov, count, off))
VECTOR(pwritev2, "pwritev", PARAMETERS_IOV_2, (fd, iov, count, off, flags))
VECTOR(pwritev64v2, "pwritev", PARAMETERS_IOV_2, (fd, iov, count, off, flags))
BYTES(send, "send", (int fd, const void *buf, size_t len, int flags), (fd, buf, len, flags))
BYTES(recv, "recv", (int fd, void *buf, size_t len, int flags), (fd, buf, len, flags))

PLAIN(ssize_t, sendmsg, "sendmsg", fd, NULL, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
PLAIN(ssize_t, recvmsg, "recvmsg", fd, NULL, (int fd, struct msghdr *m, int flags), (fd, m, flags))
PLAIN(int, connect, "connect", fd, NULL, (int fd, const struct sockaddr *a, socklen_t len), (fd, a, len))
PLAIN(int, accept4, "accept", fd, NULL, (int fd, struct sockaddr *a, socklen_t *len, int flags),
      (fd, a, len, flags))
PLAIN(int, fsync, "fsync", fd, NULL, (int fd), (fd))
PLAIN(int, fdatasync, "fdatasync", fd, NULL, (int fd), (fd))
PLAIN(int, sync_file_range, "sync_file_range", fd, NULL, (int fd, off64_t off, off64_t len, unsigned flags),
      (fd, off, len, flags))
PLAIN(int, fallocate, "fallocate", fd, NULL, (int fd, int mode, off64_t off, off64_t len),
      (fd, mode, off, len))
PLAIN(int, fallocate64, "fallocate", fd, NULL, (int fd, int mode, off64_t off, off64_t len),
      (fd, mode, off, len))
PLAIN(int, ftruncate, "ftruncate", fd, NULL, (int fd, off64_t len), (fd, len))
PLAIN(int, ftruncate64, "ftruncate", fd, NULL, (int fd, off64_t len), (fd, len))
PLAIN(ssize_t, copy_file_range, "copy_file_range", fd, NULL,
      (int from, off64_t *from_off, int fd, off64_t *off, size_t len, unsigned flags),
      (from, from_off, fd, off, len, flags))
PLAIN(int, fstatvfs, "fstatvfs", fd, NULL, (int fd, struct statvfs *vfs), (fd, vfs))
PLAIN(int, rename, "rename", -1, to, (const char *from, const char *to), (from, to))
PLAIN(int, renameat, "rename", -1, to, (int a, const char *from, int b, const char *to), (a, from, b, to))
PLAIN(int, renameat2, "rename", -1, to, (int a, const char *from, int b, const char *to, unsigned flags),
      (a, from, b, to, flags))
PLAIN(int, unlink, "unlink", -1, path, (const char *path), (path))
PLAIN(int, unlinkat, "unlink", -1, path, (int at, const char *path, int flags), (at, path, flags))
PLAIN(int, mkdir, "mkdir", -1, path, (const char *path, mode_t mode), (path, mode))
PLAIN(int, mkdirat, "mkdir", -1, path, (int at, const char *path, mode_t mode), (at, path, mode))

static _Atomic(void *) real_statfs;
VISIBLE int statfs(const char *path, struct statfs *fs)
{
	struct verdict v = judge("statfs", -1, path);
	int n = v.error ? -1 : REAL(statfs)(path, fs);

	if (v.error)
		errno = (int)v.error;
	else if (n == 0 && v.type)
		fs->f_type = v.type;
	return n;
}

static _Atomic(void *) real_statfs64;
VISIBLE int statfs64(const char *path, struct statfs64 *fs)
{
	struct verdict v = judge("statfs", -1, path);
	int n = v.error ? -1 : REAL(statfs64)(path, fs);

	if (v.error)
		errno = (int)v.error;
	else if (n == 0 && v.type)
		fs->f_type = v.type;
	return n;
}

/* With a mode only when a file may be made. */
#define OPEN(name, parameters, arguments)                                                      \
	static _Atomic(void *) real_##name;                                                    \
	VISIBLE int name parameters                                                            \
	{                                                                                      \
		struct verdict v = judge(flags & O_DIRECT ? "open_direct" : "open", -1, path); \
		mode_t mode = 0;                                                               \
		va_list args;                                                                  \
                                                                                               \
		if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {                          \
			va_start(args, flags);                                                 \
			mode = (mode_t)va_arg(args, unsigned);                                 \
			va_end(args);                                                          \
		}                                                                              \
		if (v.error) {                                                                 \
			errno = (int)v.error;                                                  \
			return -1;                                                             \
		}                                                                              \
		return REAL(name) arguments;                                                   \
	}

OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode))
