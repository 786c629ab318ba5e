/* whilst.h -- libwhilst: operations that a caller may wait for, poll, be called back for, or cancel.
 *
 * Every operation is a future. A future is a plain 64-bit value: it can be copied, stored and sent
 * to another thread, and needs no free. It is consumed exactly once, by wh_await(), wh_poll() that
 * returns true, wh_then(), wh_drop() or a combinator; afterwards it is stale and every use of it
 * gives -ESTALE. Starting an operation never fails visibly: bad arguments and exhausted resources
 * give a future that has already failed, so errors appear in one place, where the result is consumed.
 *
 * Words used below. borrows: the memory must stay valid and untouched until the future completes.
 * takes: the callee frees it. gives: the caller frees it, as stated. Times are nanoseconds; "at" is
 * on the clock of wh_now(). n >= 0 is a value, n < 0 is -errno, or a code of our own below -4096.
 * Thread "loop" means the thread that opened the loop; elsewhere such calls give -EPERM.
 * Common errors, not repeated below: -EINVAL (argument), -ENOMEM, -EPERM (wrong thread),
 * -ECANCELED (wh_cancel or wh_loop_close), -EAGAIN (a limit of the loop is reached), -ENOSYS (the
 * engine cannot do this).
 */
#ifndef WHILST_WHILST_H
#define WHILST_WHILST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define WH_API      __attribute__((visibility("default")))
#define WH_MUST_USE __attribute__((warn_unused_result))
#else
#define WH_API
#define WH_MUST_USE
#endif

/* Durations are nanoseconds: 20 * WH_NS_PER_MS. */
#define WH_NS_PER_US INT64_C(1000)
#define WH_NS_PER_MS INT64_C(1000000)
#define WH_NS_PER_S  INT64_C(1000000000)

/* Error codes of our own; see wh_strerror(). */
enum {
	WH_EHTTP_SYNTAX = 4097, /* malformed HTTP message */
	WH_EHTTP_TOO_LARGE,     /* a header section or body passed its limit */
	WH_EHTTP_CLOSED,        /* the peer closed within a message */
	WH_EHTTP_REDIRECT,      /* one redirect too many, or one that may not be followed */
	WH_EHTTP_PROXY,         /* the proxy refuses to connect */
	WH_ESIM_POWER_CUT,      /* the simulated machine has lost power */
	WH_EDAMAGED,            /* stored bytes do not match their checksum */
	WH_ENAME_UNKNOWN,       /* the name does not exist */
	WH_ENAME_NO_ADDRESS,    /* the name exists and has no address of the kind that is wanted */
	WH_ENAME_SERVER,        /* no name server gave an answer that can be used */
	WH_ENAME_SERVICE,       /* the service is not in services(5) */
	WH_ETLS_CERTIFICATE,    /* the peer's certificate is refused, see struct wh_tls_problem */
	WH_ETLS_REFUSED,        /* the peer refuses us: it has sent an alert */
	WH_ETLS_PROTOCOL,       /* what the peer sends is not TLS, or not in order */
	WH_ETLS_TRUNCATED,      /* the connection ended without the peer's close_notify */
	WH_ETLS_CONFIG,         /* certificates, keys or authorities cannot be used */
	WH_EUNFINISHED,         /* a task has returned before the members of a group that it opened */
	WH_EADDRESS_REFUSED,    /* the address is one that the program may not connect to */
	/* of client.h: what the call server refuses, and what is not known */
	WH_ECALL_UNKNOWN = 4224,    /* the change was sent, and no answer has come: it is done or not */
	WH_ECALL_REFUSED,           /* the request was refused; nothing was done */
	WH_ECALL_BAD_VALUE,         /* a value outside its range */
	WH_ECALL_TOO_LARGE,         /* a payload, result or batch passed the server's limit */
	WH_ECALL_UNKNOWN_QUEUE,     /* there is no such queue */
	WH_ECALL_UNKNOWN_JOB,       /* there is no such job */
	WH_ECALL_UNKNOWN_SERVICE,   /* there is no such service */
	WH_ECALL_LEASE_LOST,        /* the lease has passed, or was never given */
	WH_ECALL_NOT_READY,         /* the job is not finished */
	WH_ECALL_JOB_FINISHED,      /* the job is finished */
	WH_ECALL_JOB_CANCELLED,     /* the job is cancelled */
	WH_ECALL_JOB_FAILED,        /* the job has failed, so that there is no result */
	WH_ECALL_QUEUE_NOT_EMPTY,   /* the queue holds unfinished jobs */
	WH_ECALL_WRONG_STATE,       /* the state of the job does not allow this */
	WH_ECALL_EXPIRED,           /* the job was here, and its retention has passed */
	WH_ECALL_LOST,              /* what was committed at the position is gone */
	WH_ECALL_LEVEL_UNAVAILABLE, /* the server cannot give this commit level */
	WH_ECALL_QUEUE_FULL,        /* the queue has as many jobs as it may */
	WH_ECALL_DISK_FULL,         /* the server's disk is full */
	WH_ECALL_DRAINING,          /* the server is stopping */
	WH_ECALL_TOO_BUSY,          /* a limit of the server is reached */
	WH_ECALL_INTERNAL,          /* the server could not do this; its log says more */
	WH_ECALL_BACKEND,           /* the service behind the gateway did not answer */
	WH_ECALL_UNKNOWN_TOPIC,     /* there is no such topic, or subscription of it */
	WH_ECALL_KEY_REUSED,        /* the key was used for another request */
	WH_ECALL_CHANGED,           /* the job has changed since it was looked at */
};

typedef struct wh_loop wh_loop; /* one loop = one thread */
typedef struct wh_mark wh_mark; /* a rising value that can be waited for */
typedef struct wh_sim wh_sim;   /* a simulated machine: sim.h */
/* An operation that was started: a value to copy and compare, not to look into. All-zero is none: always stale. */
typedef struct {
	uint64_t id;
} wh_future;
/* What became of it. */
typedef struct {
	int64_t n; /* >= 0: a value, as the call says; < 0: -errno or a code of our own */
	void *ptr; /* what a few calls give besides; NULL on failure */
} wh_res;

/* Bytes that somebody else owns. Not terminated by NUL. data == NULL: absent (len is 0); an empty value has data. */
struct wh_slice {
	const char *data;
	size_t len;
};

typedef void wh_callback(wh_loop *loop, wh_res res, void *arg); /* of wh_then(); what res holds is yours */
typedef void wh_function(void *arg);                            /* posted and deferred calls */
typedef int64_t wh_work_function(void *arg);                    /* blocking work; the body of a task */
typedef void wh_disposer(wh_res res, void *arg);                /* frees a result that nobody consumed */
enum wh_log_level { WH_LOG_DEBUG, WH_LOG_INFO, WH_LOG_WARNING, WH_LOG_ERROR }; /* of a notice */
/* May a connection go to this address? arg is of whoever asks. Called in the loop's thread; must not wait. */
typedef bool wh_address_function(const struct sockaddr *address, socklen_t len, void *arg);
/* A notice of the library, one line without its end. message is valid during the call. Thread: loop. */
typedef void wh_log_function(int level, const char *message, void *arg);

/* ---- loops ------------------------------------------------------------------------------- */

enum wh_engine {
	WH_AUTO = 0, /* $WHILST_ENGINE (sync, threads, epoll, uring), else uring if it works, else epoll */
	WH_SYNC, /* the loop's thread itself blocks in the call; a connection wakes every loop that shares its listener */
	WH_THREADS, /* a thread blocks and calls back */
	WH_EPOLL,   /* readiness */
	WH_URING,   /* completion */
	WH_SIM,     /* deterministic, on a simulated machine (sim.h); needs .sim */
};

/* All-zero means defaults. Fields may be added at the end. */
struct wh_loop_options {
	int engine;                  /* enum wh_engine */
	uint32_t futures_max;        /* live futures, default and maximum 4,194,303; beyond: -EAGAIN */
	uint32_t file_workers_max;   /* threads for file calls that would block, default 8 */
	uint32_t work_workers_max;   /* threads for wh_work(), default 8 */
	uint32_t sync_workers_max;   /* threads for wh_fsync(), default 2 */
	uint32_t socket_threads_max; /* WH_THREADS: blocked socket operations, default 1,024 */
	uint32_t buffer_bytes;       /* size of a pooled buffer, default 16,384 */
	uint32_t buffers_max;        /* pooled buffers, default 65,536; beyond: -ENOBUFS */
	uint32_t
		ring_entries; /* WH_URING: submission entries, 32 to 32,768, default 1,024 (shrinks to fit) */
	const char *name;     /* borrowed for the call; for messages and thread names */
	wh_sim *sim;          /* WH_SIM: the machine this loop runs on; borrowed */
	/* notices: engine fall-back, slow callbacks; NULL: silent. With stuck_ns also called from another thread, without locks:
	 * it may open and close loops, but closing the loop waits for it. */
	wh_log_function *log;
	void *log_arg;
	int64_t slow_ns;  /* name in the log each callback that runs longer, one line a second; 0: off */
	int64_t stuck_ns; /* name in the log, while it lasts, a callback or turn that has run longer; 0: off */
	bool measure; /* take the time of every operation, for wh_stats() and wh_dump(): two looks at the clock */
	/* of a task, default 65,536, at least 16,384; beyond 1 GiB: -EINVAL at wh_go() */
	uint32_t stack_bytes;
	bool stacks_measured; /* know how deep tasks' stacks are used; each then costs its whole size */
};

/* wh_loop_open() - open a loop on the calling thread, which owns it from now on.
 *
 * options may be NULL. Result 0, or with *ret untouched: -EMFILE (descriptors, or 1,023 loops), -ENOMEM, -EINVAL (options, or
 * an engine that $WHILST_ENGINE names and nobody knows); of WH_URING asked for by name, what the kernel says: -ENOSYS, -EPERM. Cost: no
 * thread is started until an operation needs one.
 */
WH_API int wh_loop_open(wh_loop **ret, const struct wh_loop_options *options) WH_MUST_USE;

/* wh_loop_run() - run until wh_loop_stop(), or until nothing is pending.
 *
 * Pending are unfinished operations (promises and marks' waits included), due callbacks and posted
 * calls; not what the library keeps in the background, idle connections of HTTP clients and the timer of
 * their time-outs. Result 0 (nothing pending), 1 (stopped), or -errno from the engine (-WH_ESIM_POWER_CUT).
 * Thread: loop, outside callbacks (-EDEADLK inside).
 */
WH_API int wh_loop_run(wh_loop *loop);

/* wh_loop_turn() - one turn: run what is due; if nothing was, wait at most wait_ns for events (0: do not wait,
 * negative: for ever) and run what that made due. Result 0, 1 (stopped), -errno. Thread as wh_loop_run(). */
WH_API int wh_loop_turn(wh_loop *loop, int64_t wait_ns);

/* wh_loop_stop() - make the running (or next) wh_loop_run() return 1. Thread: any. */
WH_API void wh_loop_stop(wh_loop *loop);

/* wh_loop_close() - cancel everything, wait until no memory of the caller is in use any more, run
 * the callbacks that this completes, join all threads, free. Returns NULL; accepts NULL. Other loops of the same thread are not
 * turned meanwhile: a shielded task (wh_shield()) that waits for a future of one of them would keep it for ever.
 * Thread: loop, outside callbacks; for a loop from wh_loop_start(), any other thread. */
WH_API wh_loop *wh_loop_close(wh_loop *loop);

/* wh_loop_start() - open a loop on a new thread, which runs until wh_loop_stop() or
 * wh_loop_close() (it does not end when nothing is pending). Under WH_SIM no thread is made: all
 * loops of one wh_sim are turned together by the thread that runs any of them. */
WH_API int wh_loop_start(wh_loop **ret, const struct wh_loop_options *options) WH_MUST_USE;

/* wh_post() - have the loop's thread call fn(arg). Thread: any; never waits. Posts from one thread
 * run in order. Result 0, -ENOMEM, or -EPERM (in a forked child nobody turns the loop). */
WH_API int wh_post(wh_loop *loop, wh_function *fn, void *arg) WH_MUST_USE;

/* wh_defer() - call fn(arg) once, in this turn, after everything that is ready now has run and
 * before the loop waits: the place to act once for what many callbacks gathered.
 * Thread: loop. Result 0, or -ENOMEM. */
WH_API int wh_defer(wh_loop *loop, wh_function *fn, void *arg) WH_MUST_USE;

WH_API int64_t wh_now(const wh_loop *loop);      /* CLOCK_MONOTONIC when this batch of callbacks began */
WH_API int64_t wh_clock(const wh_loop *loop);    /* CLOCK_MONOTONIC, read anew */
WH_API int64_t wh_wall_now(const wh_loop *loop); /* CLOCK_REALTIME, ns since 1970 */
WH_API void wh_random(wh_loop *loop, void *ret_bytes, size_t len); /* getrandom(2); seeded in WH_SIM */
WH_API const char *wh_engine_name(const wh_loop *loop); /* "uring", as in $WHILST_ENGINE; static text */
WH_API const char *wh_strerror(int64_t error);          /* error or -error; static text */
WH_API const char *wh_version(void);                    /* "0.1.0", of the library that runs; static text */

/* ---- futures: consume (exactly one of these) --------------------------------------------- */

/* wh_await() - wait for f and take its result.
 * In a task it parks the task, whichever loop f is of (that loop must be turned by somebody). On the loop's thread
 * outside callbacks it turns the loop; on another thread it blocks. In a callback on a pending future, or in a task
 * on its own future or one that waits for it (through tasks, combinators and groups, 10,000 at most): -EDEADLK, and f is not
 * consumed. Stale: -ESTALE. Thread: any. */
WH_API wh_res wh_await(wh_future f);

/* wh_poll() - true: f was complete (or stale: -ESTALE) and is consumed. Never waits; does not turn the
 * loop. Thread: loop. ret may be NULL, then the result is disposed of. */
WH_API bool wh_poll(wh_future f, wh_res *ret);

/* wh_then() - call callback(loop, res, arg) once from the loop when f completes; never inline, not
 * even when f is complete already. Thread: loop. Result 0, -ESTALE, -EPERM; -ENOMEM: only for
 * a failure that has no slot (the loop is at futures_max, and malloc(3) fails as well). f is not consumed then, and complete:
 * wh_poll() gives its error. What has begun always has room for its callback. */
WH_API int wh_then(wh_future f, wh_callback *callback, void *arg);

/* wh_drop() - cancel f and forget it; a result that still comes is disposed of. Thread: loop.
 * Result 0; -EBUSY (nothing done) when f is pending and borrows the caller's memory; -ESTALE. */
WH_API int wh_drop(wh_future f);

/* wh_detach() - forget f, which goes on; its result is disposed of. What f borrows must stay until it has ended. Thread:
 * loop. Result 0; -ESTALE. */
WH_API int wh_detach(wh_future f);

/* ---- futures: look and ask --------------------------------------------------------------- */

WH_API bool wh_done(wh_future f); /* complete (or stale)? Thread: loop. */
/* a request; f still completes exactly once, with its true result or -ECANCELED. Thread: loop. Harmless when
 * stale. */
WH_API void wh_cancel(wh_future f);

/* ---- futures: combine --------------------------------------------------------------------
 * Combinators consume their inputs and complete only when every input has. fs is copied. ret, n
 * results in the order of fs, is borrowed until completion; NULL disposes of the results. A stale input
 * counts as -ESTALE. One that cannot be made (-EAGAIN, -ENOMEM, -EPERM, -EINVAL) consumes none; but wh_deadline() then cancels f
 * and gives it back, since without its timer it could last for ever. */

/* n = 0, or the first error (the rest is cancelled) */
WH_API wh_future wh_all(wh_loop *loop, const wh_future *fs, size_t n, wh_res *ret);
/* n = how many succeeded; nothing is cancelled */
WH_API wh_future wh_all_settled(wh_loop *loop, const wh_future *fs, size_t n, wh_res *ret);
/* n = index of the first to succeed (the rest is cancelled), or the last error */
WH_API wh_future wh_any(wh_loop *loop, const wh_future *fs, size_t n, wh_res *ret);
/* f's true result if there is one; -ETIMEDOUT when f was cancelled because at passed */
WH_API wh_future wh_deadline(wh_future f, int64_t at);

/* ---- futures: make ----------------------------------------------------------------------- */

/* wh_promise() - a future that somebody resolves. dispose may be NULL. Thread: loop. */
WH_API wh_future wh_promise(wh_loop *loop, wh_disposer *dispose, void *arg);
/* wh_resolve() - complete a promise. Thread: any. Result 0, -EALREADY, -ESTALE; on failure the caller
 * keeps ptr. wh_cancel() on a promise completes it with -ECANCELED. */
WH_API int wh_resolve(wh_future f, int64_t n, void *ptr);
/* wh_failed() - a future that has failed with error (negative errno). */
WH_API wh_future wh_failed(wh_loop *loop, int64_t error);

/* wh_work() - run fn(arg) on a worker thread (bounded, started on demand, apart from those for files);
 * n = its result. Cancelled only while queued. arg is borrowed. */
WH_API wh_future wh_work(wh_loop *loop, wh_work_function *fn, void *arg);

/* wh_ask() - run fn(arg) on the thread of another loop, as a posted call; n = its result. The future is of loop.
 *
 * Asks and posts from one thread to one loop run in order. arg is borrowed. Cancelled only while it has not begun. to must stay
 * open until then; closing it still runs what it has been asked. fn may do all that a callback on to may.
 * Thread: of loop. Cost: one allocation, and waking the other thread if it sleeps. */
WH_API wh_future wh_ask(wh_loop *loop, wh_loop *to, wh_work_function *fn, void *arg);

/* wh_sleep() - n = 0 after ns nanoseconds, never early. wh_sleep_until(): at an instant of wh_now(). */
WH_API wh_future wh_sleep(wh_loop *loop, int64_t ns);
WH_API wh_future wh_sleep_until(wh_loop *loop, int64_t at);

/* wh_rearm() - move the instant of a wh_sleep(), wh_sleep_until() or wh_deadline() that is pending, consumed or not.
 * Thread: loop. Cost: constant, no allocation. Result 0; -EALREADY (it has passed); -EINVAL (no timer); -ESTALE. */
WH_API int wh_rearm(wh_future f, int64_t at);

/* ---- marks: a rising 64-bit value with any number of waiters ------------------------------ */

/* wh_mark_open() - a mark that stands at value. Close it before its loop. Result 0 or -errno. Thread: loop. */
WH_API int wh_mark_open(wh_loop *loop, wh_mark **ret, uint64_t value) WH_MUST_USE;
WH_API void wh_mark_raise(wh_mark *mark, uint64_t value); /* any thread; lower values are ignored */
WH_API uint64_t wh_mark_read(const wh_mark *mark);        /* any thread */
/* n = 0 once value is reached; complete already if it is. Thread: loop. */
WH_API wh_future wh_mark_wait(wh_mark *mark, uint64_t value);
WH_API void wh_mark_fail(wh_mark *mark, int64_t error); /* all waits, present and to come, fail */
WH_API wh_mark *wh_mark_close(wh_mark *mark);           /* waits end with -ECANCELED; NULL */

/* ---- pooled buffers ---------------------------------------------------------------------- */

struct wh_buf {
	uint8_t *data; /* first byte of content */
	uint32_t len;  /* bytes of content */
	uint32_t cap;  /* bytes from data on */
};
WH_API struct wh_buf *wh_buf_get(wh_loop *loop);      /* NULL at buffers_max: back-pressure */
WH_API struct wh_buf *wh_buf_put(struct wh_buf *buf); /* returns NULL, accepts NULL. Thread: loop. */

/* ---- to see inside ----------------------------------------------------------------------- */

/* Classes of operations, indices of wh_stats.classes. */
enum wh_class {
	WH_CLASS_PROMISE,
	WH_CLASS_TIMER,
	WH_CLASS_MARK,       /* waits for marks */
	WH_CLASS_COMBINATOR, /* wh_all(), wh_all_settled(), wh_any(), wh_deadline() */
	WH_CLASS_FILE,       /* paths included; wh_fsync() and wh_close() too */
	WH_CLASS_WORK,       /* wh_ask() too */
	WH_CLASS_SOCKET,     /* pipes and other streams included; wh_ready() too */
	WH_CLASS_NAME,
	WH_CLASS_PROCESS, /* children and signals */
	WH_CLASS_HTTP,
	WH_CLASS_TASK,
	WH_CLASS_OTHER, /* parts of composed operations */
	WH_CLASS_COUNT
};
struct wh_class_stats {
	const char *name;                               /* "file": static text; NULL: no such class */
	uint64_t started, completed, failed, cancelled; /* completed includes failed and cancelled */
	uint64_t in_flight;
	uint64_t ns_total, ns_max; /* from start to completion, of those completed; 0 unless .measure */
};
/* Classes of worker threads: file, work, sync, sock (of WH_THREADS: one blocked operation each). */
struct wh_worker_stats {
	const char *name;              /* static text; NULL: no such class */
	uint64_t threads, threads_max; /* now; the limit */
	uint64_t queued;               /* operations that wait for a thread */
};
/* What an engine counts; what it has none of stays 0. */
struct wh_engine_stats {
	uint64_t waits;         /* looks for events */
	uint64_t events;        /* what they brought: completions, ready descriptors */
	uint64_t submissions;   /* uring: entries submitted, the engine's own polls and cancels included */
	uint64_t spilled;       /* uring: operations that waited beside the ring, for want of room */
	uint64_t queued;        /* uring: file operations that wait for room on the ring now */
	uint64_t buffers;       /* uring: pooled buffers that the kernel may choose from now */
	uint64_t buffers_short; /* uring: receives that found none, and were done after a poll */
	uint64_t overflows;     /* uring: completions lost; always 0 */
	uint64_t blocked;       /* threads: operations that wait in a thread of their own now */
};
struct wh_stats {
	uint64_t started, completed, failed, cancelled; /* operations since the loop was opened */
	uint64_t in_flight;
	uint64_t turns, turn_ns_max;
	uint64_t threads; /* worker threads now */
	uint64_t file_syncs;
	uint64_t wakes;                    /* times another thread woke the loop from its wait */
	uint64_t slow_callbacks;           /* that ran longer than .slow_ns */
	uint64_t callback_ns_max;          /* 0 unless .slow_ns or .stuck_ns */
	struct wh_class_stats classes[16]; /* by enum wh_class; those without a name are room for more */
	struct wh_worker_stats workers[8];
	struct wh_engine_stats engine;
	uint64_t tasks, tasks_started, task_switches; /* live now; since the loop was opened */
	uint64_t stacks_mapped_bytes;                 /* address space; what is touched of it is resident */
	/* bytes, the deepest of the tasks that have ended; 0 unless .stacks_measured */
	uint64_t stack_used_max;
};
/* wh_stats() - what the loop has done and is doing. Counting costs the hot path nothing measurable, so it is always
 * on. Cost: some hundred instructions. Thread: loop. */
WH_API void wh_stats(const wh_loop *loop, struct wh_stats *ret);

/* One line of a dump, without newline; valid during the call. */
typedef void wh_dump_function(const char *line, void *arg);
/* wh_dump() - tell write_line of the loop and of every pending operation, and every result that nobody has taken, one
 * line each: kind, descriptor, age (with .measure), who will learn of the completion.
 *
 * The form of the lines is for people and may change. Thread: loop.
 * Result: number of operations told of; -EPERM. */
WH_API int wh_dump(wh_loop *loop, wh_dump_function *write_line, void *arg);

/* wh_dump_on_signal() - from now on signal_number makes every loop of the process write its wh_dump() to fd, whatever it
 * does at the moment: also one that is stuck in a callback.
 *
 * Each loop's own thread writes, from the handler; fd is borrowed for ever. For a program that hangs:
 * kill -USR1 PID. Result 0 or -errno; sigaction(2). Thread: any. */
WH_API int wh_dump_on_signal(int signal_number, int fd) WH_MUST_USE;

#ifdef __cplusplus
}
#endif

/* What operations there are, by subject. */
#include "file.h"
#include "name.h"
#include "process.h"
#include "socket.h"
#include "task.h"

#endif
