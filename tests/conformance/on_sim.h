/* tests/conformance/on_sim.h -- the conformance tests on a simulated machine.
 *
 * WHILST_ENGINE=sim opens every loop of a test on one machine, and the system calls that the tests make by themselves
 * (writing to a socket behind a loop's back, asking for its name) go to that machine, so that the same files run: those
 * that define WH_TESTS_CALLS_ON_SIM. On other engines they are the system's. Included by conformance.h only.
 */
#ifndef WH_TESTS_ON_SIM_H
#define WH_TESTS_ON_SIM_H

__attribute__((unused)) static wh_sim *machine; /* NULL: a real one */

__attribute__((unused)) static int on_sim_open(void)
{
	const char *name = getenv("WHILST_ENGINE"), *seed = getenv("WHILST_SIM_SEED");
	wh_sim_world *world;
	if (!name || strcmp(name, "sim") != 0)
		return 0;
	/* the tests know how much a transfer moves, and that what is started first is tried first; with a seed not all
	 * of that holds, which tests/sim lives with */
	const struct wh_sim_world_options options = {.seed = seed ? strtoull(seed, NULL, 10) : 0,
	                                             .order = seed ? WH_SIM_BY_SEED : WH_SIM_FIFO,
	                                             .short_percent = -1};
	int error = wh_sim_world_open(&world, &options);
	if (error != 0)
		return error;
	error = wh_sim_open(&machine, &(struct wh_sim_options){.seed = options.seed, .world = world});
	if (error == 0)
		error = (int)wh__disk_mkdir(machine->disk, "/tmp");
	return error;
}

__attribute__((unused)) static void on_sim_close(void)
{
	wh_sim_world *world = machine ? wh_sim_world_of(machine) : NULL;
	machine = wh_sim_close(machine);
	wh_sim_world_close(world);
}

__attribute__((unused)) static int on_sim_loop_open(wh_loop **ret, const struct wh_loop_options *options)
{
	struct wh_loop_options changed = {0};
	if (options)
		changed = *options;
	if (machine && changed.engine == WH_AUTO) {
		changed.engine = WH_SIM;
		changed.sim = machine;
	}
	return wh_loop_open(ret, &changed);
}

__attribute__((unused)) static ssize_t on_sim_result(int64_t n)
{
	if (n >= 0)
		return (ssize_t)n;
	errno = (int)-n;
	return -1;
}

/* One try, at once. */
__attribute__((unused)) static ssize_t on_sim_try(enum wh__opcode opcode, int fd, void *buf, size_t len)
{
	struct wh__op op = {.opcode = (uint8_t)opcode, .fd = fd, .buf = buf, .len = len, .loop = loop};
	void *ptr = NULL;
	if (!machine)
		return opcode == WH__OP_READ ? read(fd, buf, len) : write(fd, buf, len);
	if (wh__socket_is_number(fd))
		return on_sim_result(wh__socket_attempt(&op, &ptr));
	return on_sim_result(opcode == WH__OP_READ ? wh__disk_read(machine->disk, fd, buf, len)
	                                           : wh__disk_write(machine->disk, fd, buf, len, true));
}

__attribute__((unused)) static int on_sim_shut(int fd)
{
	if (!machine)
		return close(fd);
	return (int)on_sim_result(wh__socket_is_number(fd) ? wh__socket_close(machine, fd)
	                                                   : wh__disk_close(machine->disk, fd));
}

__attribute__((unused)) static int on_sim_socket(int family, int type, int protocol)
{
	if (!machine)
		return socket(family, type, protocol);
	return (int)on_sim_result(wh__sim_sockets.socket(loop, family, type, protocol));
}

__attribute__((unused)) static int on_sim_socketpair(int family, int type, int protocol, int fds[2])
{
	if (!machine)
		return socketpair(family, type, protocol, fds);
	struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (type & SOCK_DGRAM && !(type & SOCK_STREAM)) {
		/* UDP has no pairs: two that are bound and connected */
		struct sockaddr_storage names[2];
		socklen_t len;
		for (int i = 0; i < 2; i++) {
			fds[i] = wh__sim_sockets.socket(loop, AF_INET, SOCK_DGRAM, 0);
			wh__sim_sockets.bind(loop, fds[i], (struct sockaddr *)&local, sizeof local);
			wh__sim_sockets.name(loop, fds[i], false, &names[i], &len);
		}
		for (int i = 0; i < 2; i++)
			(void)on_sim_try(WH__OP_CONNECT, fds[i], &names[1 - i], len);
		return 0;
	}
	return (int)on_sim_result(wh__sim_sockets.pair(loop, SOCK_STREAM, fds));
}

__attribute__((unused)) static int on_sim_getsockname(int fd, struct sockaddr *address, socklen_t *len)
{
	struct sockaddr_storage name;
	if (!machine)
		return getsockname(fd, address, len);
	socklen_t room = *len;
	int error = wh__sim_sockets.name(loop, fd, false, &name, len);
	if (error == 0)
		memcpy(address, &name, room < *len ? room : *len);
	return (int)on_sim_result(error);
}

__attribute__((unused)) static int on_sim_setsockopt(int fd, int level, int name, const void *value,
                                                     socklen_t len)
{
	if (!machine)
		return setsockopt(fd, level, name, value, len);
	return (int)on_sim_result(wh__sim_sockets.set_option(loop, fd, level, name, value, len));
}

__attribute__((unused)) static int on_sim_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	if (!machine)
		return getsockopt(fd, level, name, value, len);
	return (int)on_sim_result(wh__sim_sockets.get_option(loop, fd, level, name, value, len));
}

__attribute__((unused)) static int on_sim_bind(int fd, const struct sockaddr *address, socklen_t len)
{
	if (!machine)
		return bind(fd, address, len);
	return (int)on_sim_result(wh__sim_sockets.bind(loop, fd, address, len));
}

__attribute__((unused)) static int on_sim_listen(int fd, int backlog)
{
	if (!machine)
		return listen(fd, backlog);
	return (int)on_sim_result(wh__sim_sockets.listen(loop, fd, backlog));
}

__attribute__((unused)) static int on_sim_flags(int fd, int command)
{
	if (!machine)
		return fcntl(fd, command);
	bool is_open = wh__socket_of(machine, fd) || wh__disk_is_open(machine->disk, fd);
	/* a simulated machine has neither blocking descriptors nor exec */
	return (int)on_sim_result(!is_open ? -EBADF : command == F_GETFL ? O_NONBLOCK : FD_CLOEXEC);
}

__attribute__((unused)) static int on_sim_stat(const char *path, struct stat *ret)
{
	if (!machine)
		return stat(path, ret);
	memset(ret, 0, sizeof *ret);
	return (int)on_sim_result(wh__socket_has_name(machine, path, &ret->st_mode) ? 0 : -ENOENT);
}

__attribute__((unused)) static int on_sim_unlink(const char *path)
{
	if (!machine)
		return unlink(path);
	return (int)on_sim_result(
		wh__socket_unlink_name(machine, path) ? 0 : wh__disk_unlink(machine->disk, path));
}

__attribute__((unused)) static char *on_sim_mkdtemp(char *template)
{
	if (!machine)
		return mkdtemp(template);
	return wh__disk_mkdir(machine->disk, template) == 0 ? template : NULL;
}

__attribute__((unused)) static int on_sim_open_file(const char *path, int flags, mode_t mode)
{
	if (!machine)
		return open(path, flags, mode);
	return (int)on_sim_result(wh__disk_open(machine->disk, path, flags & ~O_CLOEXEC));
}

__attribute__((unused)) static int on_sim_mkostemp(char *template, int flags)
{
	if (!machine)
		return mkostemp(template, flags);
	return on_sim_open_file(template, O_RDWR | O_CREAT | O_EXCL, 0600);
}

__attribute__((unused)) static int on_sim_rmdir(const char *path)
{
	return machine ? 0 : rmdir(path); /* its disk goes with it */
}

__attribute__((unused)) static int on_sim_count(void)
{
	int count = 0;
	for (size_t i = 0; i < machine->host.by_fd_count; i++)
		count += machine->host.by_fd[i] != NULL;
	for (int fd = WH__SIM_FD_FIRST; fd < WH__SIM_FD_FIRST + 1000; fd++)
		count += wh__disk_is_open(machine->disk, fd);
	return count;
}

#ifdef WH_TESTS_CALLS_ON_SIM
#define wh_loop_open(ret, options)              on_sim_loop_open(ret, options)
#define read(fd, buf, len)                      on_sim_try(WH__OP_READ, fd, buf, len)
#define write(fd, buf, len)                     on_sim_try(WH__OP_WRITE, fd, (void *)(uintptr_t)(buf), len)
#define close(fd)                               on_sim_shut(fd)
#define socket(family, type, protocol)          on_sim_socket(family, type, protocol)
#define socketpair(family, type, protocol, fds) on_sim_socketpair(family, type, protocol, fds)
#define getsockname(fd, address, len)           on_sim_getsockname(fd, address, len)
#define setsockopt(fd, level, name, value, len) on_sim_setsockopt(fd, level, name, value, len)
#define getsockopt(fd, level, name, value, len) on_sim_getsockopt(fd, level, name, value, len)
#define bind(fd, address, len)                  on_sim_bind(fd, address, len)
#define listen(fd, backlog)                     on_sim_listen(fd, backlog)
#define fcntl(fd, command)                      on_sim_flags(fd, command)
#define stat(path, ret)                         on_sim_stat(path, ret)
#define unlink(path)                            on_sim_unlink(path)
#define rmdir(path)                             on_sim_rmdir(path)
#define mkdtemp(template)                       on_sim_mkdtemp(template)
#define mkostemp(template, flags)               on_sim_mkostemp(template, flags)
#define open(path, flags, mode)                 on_sim_open_file(path, flags, mode)

#endif

#endif
