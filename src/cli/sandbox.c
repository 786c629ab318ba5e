/* src/cli/sandbox.c -- what this process may never do again. See sandbox.h.
 *
 * The numbers of Landlock are written down here: the headers of the system that builds may be older than the kernel that runs.
 * It makes its system calls itself, which nothing else of the server does: they are about the process, before there is a loop.
 */
#include "cli/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- is it for this program? ------------------------------------------------------------- */

#if defined(__has_feature)
#define BUILT_WITH(feature) __has_feature(feature)
#else
#define BUILT_WITH(feature) 0
#endif

const char *sandbox_unfit(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || BUILT_WITH(address_sanitizer) || \
	BUILT_WITH(thread_sanitizer) || BUILT_WITH(memory_sanitizer)
	return "a sanitizer reads /proc, runs its symbolizer, and traces the process when it looks for leaks";
#elif defined(WH_COVERAGE)
	return "what was run is written into the folder of the build when the program ends";
#else
	return NULL;
#endif
}

/* ---- files: Landlock --------------------------------------------------------------------- */

/* linux/landlock.h; each version of the interface knows those up to its own. */
#define RIGHT_EXECUTE        (UINT64_C(1) << 0)
#define RIGHT_WRITE_FILE     (UINT64_C(1) << 1)
#define RIGHT_READ_FILE      (UINT64_C(1) << 2)
#define RIGHT_READ_DIR       (UINT64_C(1) << 3)
#define RIGHT_REMOVE_DIR     (UINT64_C(1) << 4)
#define RIGHT_REMOVE_FILE    (UINT64_C(1) << 5)
#define RIGHT_MAKE_DIR       (UINT64_C(1) << 7)
#define RIGHT_MAKE_REG       (UINT64_C(1) << 8)
#define RIGHT_MAKE_SOCK      (UINT64_C(1) << 9)
#define RIGHT_REFER          (UINT64_C(1) << 13) /* into another folder; version 2, Linux 5.19 */
#define RIGHT_TRUNCATE       (UINT64_C(1) << 14) /* version 3, 6.2 */
#define RIGHT_IOCTL_DEV      (UINT64_C(1) << 15) /* version 5, 6.10 */
#define SCOPE_ABSTRACT_NAMES 1u                  /* version 6, 6.12 */
#define SCOPE_SIGNALS        2u

enum {
	VERSION_REFER = 2, /* before it no file can be renamed into another folder, so it is not used */
	VERSION_TRUNCATE = 3,
	VERSION_IOCTL_DEV = 5,
	VERSION_SCOPES = 6,
	ASK_VERSION = 1,
	RULE_PATH_BENEATH = 1,
	/* of every architecture */
	NR_CREATE_RULESET = 444,
	NR_ADD_RULE = 445,
	NR_RESTRICT_SELF = 446,
};

/* What an older kernel does not know of it is zero, which it accepts. */
struct ruleset {
	uint64_t files, ports, scopes;
};

struct path_rule {
	uint64_t rights;
	int32_t fd;
} __attribute__((packed));

static uint64_t rights_known(int version)
{
	uint64_t rights = (RIGHT_REFER << 1) - 1;

	if (version >= VERSION_TRUNCATE)
		rights |= RIGHT_TRUNCATE;
	if (version >= VERSION_IOCTL_DEV)
		rights |= RIGHT_IOCTL_DEV;
	return rights;
}

static uint64_t rights_of(enum sandbox_access access)
{
	switch (access) {
	case SANDBOX_READ:
		return RIGHT_READ_FILE | RIGHT_READ_DIR;
	case SANDBOX_LIST:
		return RIGHT_READ_DIR;
	case SANDBOX_SOCKET:
		return RIGHT_MAKE_SOCK | RIGHT_REMOVE_FILE;
	case SANDBOX_KEEP:
		return RIGHT_READ_FILE | RIGHT_READ_DIR | RIGHT_WRITE_FILE | RIGHT_TRUNCATE | RIGHT_MAKE_REG |
		       RIGHT_MAKE_DIR | RIGHT_REMOVE_FILE | RIGHT_REMOVE_DIR | RIGHT_REFER;
	}
	return 0;
}

static int result(long returned)
{
	return returned < 0 ? -errno : (int)returned;
}

static int landlock_version(void)
{
	int version = result(syscall(NR_CREATE_RULESET, NULL, (size_t)0, ASK_VERSION));

	return version >= 0 && version < VERSION_REFER ? -ENOSYS : version;
}

static bool is_in_proc(const char *path)
{
	static const char proc[] = "/proc/";

	for (size_t i = 0; i < sizeof(proc) - 1; i++)
		if (path[i] != proc[i])
			return false;
	return true;
}

static int open_path(const char *path, bool *ret_folder)
{
	int fd = open(path, O_PATH | O_CLOEXEC | O_DIRECTORY);

	*ret_folder = fd >= 0;
	if (fd < 0 && errno == ENOTDIR)
		fd = open(path, O_PATH | O_CLOEXEC);
	return fd;
}

static int add_rule(int ruleset, const struct sandbox_rule *rule, uint64_t known)
{
	struct path_rule to = {.rights = rights_of(rule->access) & known};
	bool folder;
	int fd = open_path(rule->path, &folder), error;

	if (fd < 0)
		return errno == ENOENT || errno == EACCES || errno == ENOTDIR ? 0 : -errno;
	if (!folder)
		to.rights &= RIGHT_READ_FILE | RIGHT_WRITE_FILE | RIGHT_TRUNCATE;
	to.fd = fd;
	error = to.rights ? result(syscall(NR_ADD_RULE, ruleset, RULE_PATH_BENEATH, &to, 0)) : 0;
	/* A rule is about an inode. Those below /proc are made anew once nobody holds them. */
	if (error < 0 || !is_in_proc(rule->path))
		close(fd);
	return error;
}

static int restrict_files(const struct sandbox_options *options)
{
	int version = landlock_version(), ruleset, error = 0;
	struct ruleset handled;

	if (version < 0)
		return version;
	handled = (struct ruleset){.files = rights_known(version)};
	if (version >= VERSION_SCOPES)
		handled.scopes = SCOPE_SIGNALS | (options->abstract_names ? 0 : SCOPE_ABSTRACT_NAMES);
	ruleset = result(syscall(NR_CREATE_RULESET, &handled, sizeof(handled), 0));
	if (ruleset < 0)
		return ruleset;
	for (size_t i = 0; error == 0 && i < options->rules_count; i++)
		error = add_rule(ruleset, &options->rules[i], handled.files);
	if (error == 0)
		error = result(syscall(NR_RESTRICT_SELF, ruleset, 0));
	close(ruleset);
	return error < 0 ? error : version;
}

/* ---- calls: seccomp ---------------------------------------------------------------------- */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCHITECTURE AUDIT_ARCH_RISCV64
#endif

#ifdef ARCHITECTURE
/* Newer than some headers; numbers from 424 on are the same everywhere. */
enum {
	NR_MOUNT_SETATTR = 442,
	NR_QUOTACTL_FD = 443,
	NR_FCHMODAT2 = 452,
	NR_SETXATTRAT = 463,
	NR_REMOVEXATTRAT = 466,
	NR_OPEN_TREE_ATTR = 467,
	NR_FILE_SETATTR = 469
};

/* What no server does: -EPERM. Not here is what a C library, OpenSSL or a debugger of the process itself might begin to use. */
static const int denied[] = {
	/* other programs */
	SYS_execve,
	SYS_execveat,
#ifdef SYS_fork
	SYS_fork,
	SYS_vfork,
#endif
	/* into other processes */
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_pidfd_getfd,
	SYS_kcmp,
	SYS_process_madvise,
	/* other rights */
	SYS_setuid,
	SYS_setgid,
	SYS_setreuid,
	SYS_setregid,
	SYS_setresuid,
	SYS_setresgid,
	SYS_setfsuid,
	SYS_setfsgid,
	SYS_setgroups,
	SYS_capset,
	/* other roots and namespaces */
	SYS_unshare,
	SYS_setns,
	SYS_chroot,
	SYS_pivot_root,
	SYS_mount,
	SYS_umount2,
	NR_MOUNT_SETATTR,
	SYS_move_mount,
	SYS_open_tree,
	NR_OPEN_TREE_ATTR,
	SYS_fsopen,
	SYS_fsconfig,
	SYS_fsmount,
	SYS_fspick,
	SYS_swapon,
	SYS_swapoff,
	SYS_quotactl,
	NR_QUOTACTL_FD,
	SYS_open_by_handle_at,
	/* into the kernel */
	SYS_bpf,
	SYS_perf_event_open,
	SYS_userfaultfd,
	SYS_kexec_load,
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_keyctl,
	SYS_add_key,
	SYS_request_key,
	SYS_fanotify_init,
#ifdef SYS_kexec_file_load
	SYS_kexec_file_load,
#endif
#ifdef SYS_modify_ldt
	SYS_modify_ldt,
#endif
#ifdef SYS_iopl
	SYS_iopl,
	SYS_ioperm,
#endif
	SYS_personality,
	/* the machine */
	SYS_reboot,
	SYS_sethostname,
	SYS_setdomainname,
	SYS_acct,
	SYS_syslog,
	SYS_vhangup,
	SYS_settimeofday,
	SYS_clock_settime,
	SYS_clock_adjtime,
	SYS_adjtimex,
	/* what files are, which Landlock does not judge */
	SYS_fchmodat,
	NR_FCHMODAT2,
	SYS_fchown,
	SYS_fchownat,
	SYS_setxattr,
	SYS_lsetxattr,
	SYS_fsetxattr,
	SYS_removexattr,
	SYS_lremovexattr,
	SYS_fremovexattr,
	NR_SETXATTRAT,
	NR_REMOVEXATTRAT,
	NR_FILE_SETATTR,
	SYS_mknodat,
#ifdef SYS_chmod
	SYS_chmod,
	SYS_chown,
	SYS_lchown,
	SYS_mknod,
#endif
};
enum {
	DENIED = sizeof(denied) / sizeof(denied[0]),
	X32_BIT = 0x40000000,
	FILTER_MAX = 64 + 2 * DENIED,
};

struct filter {
	unsigned short count;
	struct sock_filter all[FILTER_MAX];
};

static void put(struct filter *filter, unsigned short code, uint32_t value, uint8_t if_true, uint8_t if_false)
{
	filter->all[filter->count++] = (struct sock_filter){code, if_true, if_false, value};
}

static void load(struct filter *filter, size_t offset)
{
	put(filter, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void fail_with(struct filter *filter, uint32_t error)
{
	put(filter, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error, 0, 0);
}

/* The next instructions, so many, are for a loaded value that is this one. */
static void when(struct filter *filter, uint32_t value, uint8_t instructions)
{
	put(filter, BPF_JMP | BPF_JEQ | BPF_K, value, 0, instructions);
}

static void deny(struct filter *filter, int number, uint32_t error)
{
	when(filter, (uint32_t)number, 1);
	fail_with(filter, error);
}

static void allow(struct filter *filter)
{
	put(filter, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

/* The low half of an argument; all of what is looked at is an int, or flags below bit 32. */
static size_t argument(unsigned index)
{
	return offsetof(struct seccomp_data, args) + index * sizeof(uint64_t);
}

static void begin(struct filter *filter)
{
	/* calls in the manner of another architecture have other numbers */
	load(filter, offsetof(struct seccomp_data, arch));
	put(filter, BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
	fail_with(filter, EPERM);
	load(filter, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
	put(filter, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
	fail_with(filter, EPERM);
#endif
}

/* Its flags are in memory, which no filter sees. Told that there is no such call, the C library takes clone(): with each thread, so it
 * is not logged as the others are, and is a filter of its own. */
static void build_quiet(struct filter *filter)
{
	begin(filter);
	deny(filter, SYS_clone3, ENOSYS);
	allow(filter);
}

static void build(struct filter *filter, const struct sandbox_options *options)
{
	static const uint32_t families[] = {AF_UNIX, AF_INET, AF_INET6,
	                                    AF_NETLINK /* interfaces, addresses */};
	enum { FAMILIES = sizeof(families) / sizeof(families[0]) };
	const uint32_t namespaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
	                            CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

	begin(filter);
	for (size_t i = 0; i < DENIED; i++)
		deny(filter, denied[i], EPERM);
	if (!options->modes)
		deny(filter, SYS_fchmod, EPERM);
	if (!options->rings) {
		deny(filter, SYS_io_uring_setup, EPERM);
		deny(filter, SYS_io_uring_enter, EPERM);
		deny(filter, SYS_io_uring_register, EPERM);
	}
	/* threads, but no processes */
	when(filter, SYS_clone, 5);
	load(filter, argument(0));
	put(filter, BPF_JMP | BPF_JSET | BPF_K, namespaces, 1, 0);
	put(filter, BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0);
	fail_with(filter, EPERM);
	allow(filter);
	when(filter, SYS_socket, FAMILIES + 3);
	load(filter, argument(0));
	for (unsigned i = 0; i < FAMILIES; i++)
		put(filter, BPF_JMP | BPF_JEQ | BPF_K, families[i], (uint8_t)(FAMILIES - i), 0);
	fail_with(filter, EAFNOSUPPORT);
	allow(filter);
	/* as if it were typed at the terminal that the server was started from */
	when(filter, SYS_ioctl, 5);
	load(filter, argument(1));
	put(filter, BPF_JMP | BPF_JEQ | BPF_K, TIOCSTI, 1, 0);
	put(filter, BPF_JMP | BPF_JEQ | BPF_K, TIOCLINUX, 0, 1);
	fail_with(filter, EPERM);
	allow(filter);
	allow(filter);
}

static int filter_available(void)
{
	uint32_t action = SECCOMP_RET_ERRNO;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0 ? -errno : 1;
}

static int install(struct filter *filter, unsigned flags)
{
	struct sock_fprog program = {filter->count, filter->all};
	int error = result(
		syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC | flags, &program));

	/* positive: a thread that has a filter of its own */
	return error > 0 ? -EBUSY : error;
}

static int filter_calls(const struct sandbox_options *options)
{
	struct filter quiet = {0}, logged = {0};
	int error;

	build_quiet(&quiet);
	build(&logged, options);
	error = install(&quiet, 0);
	if (error == 0)
		error = install(&logged, SECCOMP_FILTER_FLAG_LOG);
	return error == 0 ? 1 : error;
}
#else
static int filter_available(void)
{
	return -ENOSYS;
}

static int filter_calls(const struct sandbox_options *options)
{
	(void)options;
	return -ENOSYS;
}
#endif

/* ---- both -------------------------------------------------------------------------------- */

struct sandbox_state sandbox_look(void)
{
	return (struct sandbox_state){.files = landlock_version(), .calls = filter_available()};
}

void sandbox_enter(const struct sandbox_options *options, struct sandbox_state *ret)
{
	struct sandbox_state state = sandbox_look();

	/* else a program that is run could get rights back; the kernel wants it for both */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
		state.files = state.files < 0 ? state.files : -errno;
		state.calls = state.calls < 0 ? state.calls : -errno;
	}
	if (state.files > 0)
		state.files = restrict_files(options);
	if (state.calls > 0)
		state.calls = filter_calls(options);
	*ret = state;
}
