/* src/engine/engine.h -- what an engine does for a loop.
 *
 * Everything above (futures, timers, combinators, marks, inbox, worker pools) is the same on every engine.
 * An engine takes operations of the file, work and waiting kinds (runtime/op.h), and completes each exactly
 * once by wh__op_complete(), from submit() on or in wait(); never from another thread.
 *
 * Depends on: runtime/op.h.  Used by: runtime/loop.c (selection, turns), io (through loop.h).
 */
#ifndef WH_ENGINE_ENGINE_H
#define WH_ENGINE_ENGINE_H

#include "runtime/op.h"

/* The calls about sockets that never wait, of a simulated machine: as the system calls of their names, with -errno as
 * the result. src/io makes them through io/system.h. */
struct wh__sockets {
	int (*socket)(wh_loop *loop, int family, int type, int protocol);
	int (*pair)(wh_loop *loop, int type, int ret[2]);
	int (*pipe)(wh_loop *loop, int ret[2]);
	void (*close)(wh_loop *loop, int fd);
	/* of a UNIX socket: takes away the file of one that nobody listens on */
	int (*bind)(wh_loop *loop, int fd, const struct sockaddr *address, socklen_t len);
	int (*listen)(wh_loop *loop, int fd, int backlog);
	int (*name)(wh_loop *loop, int fd, bool peer, struct sockaddr_storage *ret, socklen_t *ret_len);
	int (*shutdown)(wh_loop *loop, int fd, int how);
	int (*set_option)(wh_loop *loop, int fd, int level, int name, const void *value, socklen_t len);
	int (*set_mode)(wh_loop *loop, int fd, mode_t mode); /* of a UNIX socket's file */
	int (*get_option)(wh_loop *loop, int fd, int level, int name, void *ret_value, socklen_t *ret_len);
};

struct wh__engine {
	const char *name;

	/* init() - 0 or -errno; state goes to loop->engine_state. On -ENOSYS, -EPERM, -EACCES, -EINVAL and
	 * -ENOMEM the selection of WH_AUTO goes on to the next engine with one notice that says why. */
	int (*init)(wh_loop *loop, const struct wh_loop_options *options);

	/* explain() - what init()'s error means here and what helps, for the notice. Static text. NULL: wh_strerror(). */
	const char *(*explain)(int error);

	/* submit() - take op. May complete it at once (callbacks are queued, not run). Never fails: an error is
	 * a completion. */
	void (*submit)(struct wh__op *op);

	/* cancel() - ask that op, which is pending at this engine, ends soon. It completes once, now or later,
	 * with -ECANCELED or its true result. */
	void (*cancel)(struct wh__op *op);

	/* close_fd() - op is WH__OP_CLOSE: cancel what is pending on op->fd; when the last has completed and no
	 * kernel reference by us remains, close and complete op. */
	void (*close_fd)(struct wh__op *op);

	/* wait() - one look for events: wait at most timeout_ns (0: do not wait; < 0: for ever) unless woken,
	 * complete what has ended. 0 or -errno (fatal for the loop). */
	int (*wait)(wh_loop *loop, int64_t timeout_ns);

	/* wake() - make wait() return, the present one or the next. Thread: any. Called only when the loop may be
	 * asleep (the inbox decides), so it need not be cheap. */
	void (*wake)(wh_loop *loop);

	/* returned() - a worker has run op, with this result: complete it, or go on with it. Called by the inbox on
	 * the loop's thread. NULL: wh__op_complete(). */
	void (*returned)(struct wh__op *op, int64_t n, void *ptr);

	/* fini() - all operations are complete; free. */
	void (*fini)(wh_loop *loop);

	/* stats() - fill in what the engine counts; the rest of ret is 0. NULL: nothing. */
	void (*stats)(const wh_loop *loop, struct wh_engine_stats *ret);

	/* Clock and disk of a simulated machine; NULL: the real ones. */
	int64_t (*now)(const wh_loop *loop);
	int64_t (*wall_now)(const wh_loop *loop);
	void (*random)(wh_loop *loop, void *bytes, size_t len);
	/* execute a file operation on the calling thread: for the blocking forms. NULL: wh__op_execute(). */
	int64_t (*execute)(struct wh__op *op, void **ret_ptr);
	const struct wh__sockets *sockets;
	/* its table of names: at most max addresses of host, without port, of family (AF_UNSPEC: any). How many there
	 * are, at least 1, or why none. NULL: names are asked of name servers; where execute is set, there are none. */
	int64_t (*lookup)(wh_loop *loop, const char *host, int family, struct sockaddr_storage *ret,
	                  size_t max);
	/* signal() - op waits for this signal. NULL: real ones. */
	void (*signal)(struct wh__op *op, int signal_number);
};

/* engine/execute_name.c: op->buf of WH__OP_STAT and WH__OP_TIMES, with a copy of path; malloc'ed, NULL: no memory.
 * times_ns: of the last access and of the last change, as wh_set_times() takes them. */
void *wh__stat_arguments(const char *path);
void *wh__times_arguments(const char *path, const int64_t times_ns[2]);

/* s seconds and ns since 1970 in ns; what is before 1678 or after 2261: the least or the most. */
int64_t wh__ns_of(int64_t s, int64_t ns);

/* engine/execute.c. Has op a vector in op->buf, of op->len entries? */
bool wh__op_has_vector(const struct wh__op *op);
/* n more bytes of a transfer are done: how many are left. */
uint64_t wh__op_advance(struct wh__op *op, uint64_t n);

extern const struct wh__engine wh__engine_sync, wh__engine_threads, wh__engine_epoll, wh__engine_uring,
	wh__engine_sim;

/* How a struct wh_sim begins. By it a loop finds the engine of simulated machines, which programs without any need not link. */
struct wh__simulated {
	const struct wh__engine *engine;
};

/* engine/execute.c: the blocking system call of a file or work operation; result n, and the payload in *ret_ptr.
 * Retries -EINTR; honours WH__ALL. Touches nothing but *op's arguments. Thread: any. */
int64_t wh__op_execute(struct wh__op *op, void **ret_ptr);

/* engine/offload.c, for engines whose loop thread must not block: a file or work operation goes to its class of
 * workers; reads of cached pages are done at once.
 * .returned is wh__offload_returned(), or calls it for operations that were offloaded: it completes op.
 * .close_fd asks wh__offload_holds_close() once nothing else is pending on the descriptor: true: a worker is still at
 * it, and close_fd(op) will be called again when none is.  .fini calls wh__descriptors_fini() (descriptor.h). */
void wh__offload(struct wh__op *op);
/* WH__OP_READ or _WRITE of a plain file, which is to be offloaded as well. */
bool wh__offload_is_plain_file(const struct wh__op *op);
/* true: it was queued and has been completed with -ECANCELED. */
bool wh__offload_cancel(struct wh__op *op);
void wh__offload_returned(struct wh__op *op, int64_t n, void *ptr);
bool wh__offload_holds_close(struct wh__op *op);
/* Closes op->fd, on which nothing is under way any more, and completes op: files on a worker, others at once. */
void wh__offload_close(struct wh__op *op);
/* A read that the page cache can serve, without waiting: bytes (op->done counts them), an error, or -EAGAIN. */
int64_t wh__offload_read_cached(struct wh__op *op);

/* engine/descriptor.c: fd is a new descriptor. What was noted of an older one of that number, which was closed behind
 * our back, no longer holds. Called for each that the library makes. */
void wh__descriptor_given(wh_loop *loop, int fd);

/* wh__close_without_slot() - as close_fd(), for want of a slot: a descriptor is closed whatever else fails. What is on it is told to
 * end; 0, -EBADF, or -EINPROGRESS: something still is, and the last to end closes it. Not on simulated machines. */
int64_t wh__close_without_slot(wh_loop *loop, int fd);

/* engine/attempt.c: one non-blocking try of a waiting operation; -EAGAIN: park it until wh__op_events() are ready.
 * Advances op->done for WH__ALL. *ret_ptr: the payload (a pooled buffer). Thread: loop, or the blocked
 * thread of the threads engine (which hands in the pooled buffer beforehand). */
int64_t wh__op_attempt(struct wh__op *op, void **ret_ptr);
/* What accept(2) gave, made ready for use. -EINTR: once more; the error was of the connection, and there may be another. */
int64_t wh__op_accepted(int64_t n);
/* Of an accept that ends without a connection: one may have woken it, and nobody else of all that wait. So it looks once more: a
 * descriptor, or -ECANCELED. */
int64_t wh__op_accept_last(struct wh__op *op);
/* What the kernel calls an invalid argument: of a receive from a UNIX stream that is not connected, -ENOTCONN as of all others. */
int64_t wh__op_invalid(const struct wh__op *op);
int wh__op_events(const struct wh__op *op); /* POLLIN or POLLOUT, or what WH__OP_READY asks */

#endif
