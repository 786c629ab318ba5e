/* tests/conformance/http_on_sim.h -- the HTTP tests on a simulated machine: its loops, and the plain blocking calls that the tests
 * make as the other end.
 *
 * With WHILST_ENGINE=sim all loops are of one machine, whose thread is the only one. A call that blocks is one on a loop of its
 * own, awaited, which lets the rest of the world go on; a thread is a task there; and who waits for a condition lets
 * time pass. Elsewhere the calls are the system's. Included by http_peer.h, of files that define WH_TESTS_HTTP_ON_SIM.
 */
#ifndef TESTS_HTTP_ON_SIM_H
#define TESTS_HTTP_ON_SIM_H

#include <pthread.h>
#include <sched.h>

#include "engine/sim.h"
#include "whilst/task.h"

enum { TASKS_MAX = 256, TASK_STACK_BYTES = 1 << 20 };

static wh_sim *machine; /* NULL: a real one */
static wh_loop *others; /* of what blocks */

struct on_sim_task {
	void *(*run)(void *arg);
	void *arg;
	wh_future future;
};

__attribute__((unused)) static bool is_on_sim(void)
{
	const char *name = getenv("WHILST_ENGINE"), *seed = getenv("WHILST_SIM_SEED");
	wh_sim_world *world;

	if (machine || !name || strcmp(name, "sim") != 0)
		return machine != NULL;
	const struct wh_sim_world_options options = {.seed = seed ? strtoull(seed, NULL, 10) : 1};
	assert_int_equal(wh_sim_world_open(&world, &options), 0);
	assert_int_equal(
		wh_sim_open(&machine, &(struct wh_sim_options){.seed = options.seed, .world = world}), 0);
	assert_int_equal(wh__disk_mkdir(machine->disk, "/tmp"), 0);
	const struct wh_loop_options loop_options = {
		.engine = WH_SIM, .sim = machine, .stack_bytes = TASK_STACK_BYTES};
	assert_int_equal(wh_loop_open(&others, &loop_options), 0);
	return true;
}

/* The end of main(). */
__attribute__((unused)) static int on_sim_end(int result)
{
	if (machine) {
		wh_sim_world *world = wh_sim_world_of(machine);
		wh_loop_close(others);
		wh_sim_close(machine);
		wh_sim_world_close(world);
	}
	return result;
}

__attribute__((unused)) static int on_sim_loop(wh_loop **ret, const struct wh_loop_options *options,
                                               int (*open)(wh_loop **, const struct wh_loop_options *))
{
	struct wh_loop_options changed = {0};

	if (options)
		changed = *options;
	if (is_on_sim() && changed.engine == WH_AUTO) {
		changed.engine = WH_SIM;
		changed.sim = machine;
	}
	return open(ret, &changed);
}

/* ---- blocking calls ------------------------------------------------------------------------- */

__attribute__((unused)) static ssize_t on_sim_result(int64_t n)
{
	if (n >= 0)
		return (ssize_t)n;
	errno = (int)-n;
	return -1;
}

__attribute__((unused)) static int on_sim_socket(int family, int type, int protocol)
{
	if (!is_on_sim())
		return socket(family, type, protocol);
	return (int)on_sim_result(
		wh_socket(others, family, type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK), protocol));
}

__attribute__((unused)) static int on_sim_bind(int fd, const struct sockaddr *address, socklen_t len)
{
	return machine ? (int)on_sim_result(wh_bind(others, fd, address, len)) : bind(fd, address, len);
}

__attribute__((unused)) static int on_sim_listen(int fd, int backlog)
{
	return machine ? (int)on_sim_result(wh__sim_sockets.listen(others, fd, backlog))
	               : listen(fd, backlog);
}

__attribute__((unused)) static int on_sim_accept(int fd, struct sockaddr *address, socklen_t *len)
{
	if (!machine)
		return accept(fd, address, len);
	assert_null(address);
	return (int)on_sim_result(wh_await(wh_accept(others, fd)).n);
}

__attribute__((unused)) static int on_sim_connect(int fd, const struct sockaddr *address, socklen_t len)
{
	if (!machine)
		return connect(fd, address, len);
	int64_t n = wh_await(wh_connect_on(others, fd, address, len)).n;
	return (int)on_sim_result(n < 0 ? n : 0);
}

/* What would have to wait is taken back: as soon as the socket has been looked at, which takes a moment. */
__attribute__((unused)) static ssize_t on_sim_now(wh_future f)
{
	int64_t n = wh_await(wh_deadline(f, wh_clock(others) + WH_NS_PER_MS)).n;
	return on_sim_result(n == -ETIMEDOUT ? -EAGAIN : n);
}

__attribute__((unused)) static ssize_t on_sim_send(int fd, const void *bytes, size_t len, int flags)
{
	if (!machine)
		return send(fd, bytes, len, flags);
	assert_int_equal(flags & ~(MSG_NOSIGNAL | MSG_DONTWAIT), 0);
	if (flags & MSG_DONTWAIT)
		return on_sim_now(wh_send(others, fd, bytes, len));
	return on_sim_result(wh_await(wh_send_all(others, fd, bytes, len)).n);
}

__attribute__((unused)) static ssize_t on_sim_recv(int fd, void *bytes, size_t len, int flags)
{
	if (!machine)
		return recv(fd, bytes, len, flags);
	assert_int_equal(flags & ~(MSG_PEEK | MSG_DONTWAIT), 0);
	if (flags & MSG_DONTWAIT)
		return on_sim_now(wh_recv(others, fd, bytes, len));
	return on_sim_result(
		wh_await(flags ? wh_peek(others, fd, bytes, len) : wh_recv(others, fd, bytes, len)).n);
}

__attribute__((unused)) static int on_sim_shutdown(int fd, int how)
{
	return machine ? (int)on_sim_result(wh_shutdown(others, fd, how)) : shutdown(fd, how);
}

__attribute__((unused)) static int on_sim_close(int fd)
{
	return machine ? (int)on_sim_result(wh_await(wh_close(others, fd)).n) : close(fd);
}

__attribute__((unused)) static int on_sim_setsockopt(int fd, int level, int name, const void *value,
                                                     socklen_t len)
{
	if (!machine)
		return setsockopt(fd, level, name, value, len);
	/* patience is endless here: a wait for what never comes ends as -EDEADLK */
	if (level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO))
		return 0;
	return (int)on_sim_result(wh_set_option_raw(others, fd, level, name, value, len));
}

__attribute__((unused)) static int on_sim_getsockname(int fd, struct sockaddr *address, socklen_t *len)
{
	struct sockaddr_storage name;
	socklen_t room = *len;

	if (!machine)
		return getsockname(fd, address, len);
	int error = wh_local_address(others, fd, &name, len);
	if (error == 0)
		memcpy(address, &name, room < *len ? room : *len);
	return (int)on_sim_result(error);
}

/* of one descriptor, or of none: a sleep */
__attribute__((unused)) static int on_sim_poll(struct pollfd *polls, nfds_t count, int ms)
{
	if (!machine)
		return poll(polls, count, ms);
	assert_true(count <= 1);
	if (count == 0)
		return (int)on_sim_result(wh_await(wh_sleep(others, ms * WH_NS_PER_MS)).n);
	wh_future ready = wh_ready(others, polls->fd, polls->events);
	if (ms >= 0)
		ready = wh_deadline(ready, wh_clock(others) + ms * WH_NS_PER_MS);
	int64_t n = wh_await(ready).n;
	polls->revents = (short)(n > 0 ? n : 0);
	return n > 0 ? 1 : n == -ETIMEDOUT ? 0 : (int)on_sim_result(n);
}

__attribute__((unused)) static int on_sim_usleep(useconds_t us)
{
	return machine ? (int)wh_await(wh_sleep(others, (int64_t)us * WH_NS_PER_US)).n : usleep(us);
}

__attribute__((unused)) static int on_sim_yield(void)
{
	return machine ? (int)wh_await(wh_sleep(others, WH_NS_PER_US)).n : sched_yield();
}

/* ---- the names of UNIX sockets ---- */

__attribute__((unused)) static char *on_sim_mkdtemp(char *template)
{
	if (!is_on_sim())
		return mkdtemp(template);
	return wh_await(wh_make_temporary_directory(others, template)).n == 0 ? template : NULL;
}

__attribute__((unused)) static int on_sim_unlink(const char *path)
{
	return machine ? (int)on_sim_result(wh_await(wh_unlink(others, path)).n) : unlink(path);
}

__attribute__((unused)) static int on_sim_rmdir(const char *path)
{
	return machine ? (int)on_sim_result(wh_await(wh_rmdir(others, path)).n) : rmdir(path);
}

/* ---- threads -------------------------------------------------------------------------------- */

__attribute__((unused)) static int64_t on_sim_run(void *arg)
{
	const struct on_sim_task *task = arg;

	(void)task->run(task->arg);
	return 0;
}

__attribute__((unused)) static int on_sim_thread(pthread_t *ret, const pthread_attr_t *attributes,
                                                 void *(*run)(void *arg), void *arg)
{
	static struct on_sim_task tasks[TASKS_MAX];
	static unsigned int count;
	struct on_sim_task *task = &tasks[count++ % TASKS_MAX];

	if (!is_on_sim())
		return pthread_create(ret, attributes, run, arg);
	*task = (struct on_sim_task){.run = run, .arg = arg};
	task->future = wh_go(others, on_sim_run, task);
	*ret = (pthread_t)(uintptr_t)task;
	return 0;
}

__attribute__((unused)) static int on_sim_join(pthread_t thread)
{
	if (!machine)
		return pthread_join(thread, NULL);
	return (int)-wh_await(((const struct on_sim_task *)(uintptr_t)thread)->future).n;
}

__attribute__((unused)) static int on_sim_lock(pthread_mutex_t *lock)
{
	return machine ? 0 : pthread_mutex_lock(lock);
}

__attribute__((unused)) static int on_sim_unlock(pthread_mutex_t *lock)
{
	return machine ? 0 : pthread_mutex_unlock(lock);
}

/* Whoever waits for a change looks again a little later. */
__attribute__((unused)) static int on_sim_wait(pthread_cond_t *changed, pthread_mutex_t *lock,
                                               const struct timespec *until)
{
	static int64_t looks;

	if (!machine)
		return until ? pthread_cond_timedwait(changed, lock, until)
		             : pthread_cond_wait(changed, lock);
	(void)wh_await(wh_sleep(others, WH_NS_PER_MS));
	return until && ++looks % (60 * 1000) == 0 ? ETIMEDOUT : 0;
}

#define wh_loop_open(ret, options)                  on_sim_loop(ret, options, wh_loop_open)
#define wh_loop_start(ret, options)                 on_sim_loop(ret, options, wh_loop_start)
#define socket(family, type, protocol)              on_sim_socket(family, type, protocol)
#define bind(fd, address, len)                      on_sim_bind(fd, address, len)
#define listen(fd, backlog)                         on_sim_listen(fd, backlog)
#define accept(fd, address, len)                    on_sim_accept(fd, address, len)
#define connect(fd, address, len)                   on_sim_connect(fd, address, len)
#define send(fd, bytes, len, flags)                 on_sim_send(fd, bytes, len, flags)
#define recv(fd, bytes, len, flags)                 on_sim_recv(fd, bytes, len, flags)
#define shutdown(fd, how)                           on_sim_shutdown(fd, how)
#define close(fd)                                   on_sim_close(fd)
#define setsockopt(fd, level, name, value, len)     on_sim_setsockopt(fd, level, name, value, len)
#define getsockname(fd, address, len)               on_sim_getsockname(fd, address, len)
#define poll(polls, count, ms)                      on_sim_poll(polls, count, ms)
#define usleep(us)                                  on_sim_usleep(us)
#define sched_yield()                               on_sim_yield()
#define mkdtemp(template)                           on_sim_mkdtemp(template)
#define unlink(path)                                on_sim_unlink(path)
#define rmdir(path)                                 on_sim_rmdir(path)
#define pthread_create(ret, attributes, run, arg)   on_sim_thread(ret, attributes, run, arg)
#define pthread_join(thread, ret)                   on_sim_join(thread)
#define pthread_mutex_lock(lock)                    on_sim_lock(lock)
#define pthread_mutex_unlock(lock)                  on_sim_unlock(lock)
#define pthread_cond_wait(changed, lock)            on_sim_wait(changed, lock, NULL)
#define pthread_cond_timedwait(changed, lock, when) on_sim_wait(changed, lock, when)

#endif
