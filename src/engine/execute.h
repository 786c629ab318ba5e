/* src/engine/execute.h -- the parts of execute.c. Used by: execute*.c, uring.c. Thread: any. */
#ifndef WH_ENGINE_EXECUTE_H
#define WH_ENGINE_EXECUTE_H

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "engine/engine.h"

/* op->buf of an operation that has more than a path. */
struct wh__stat_arguments {
	struct statx raw; /* as the kernel tells it */
	char path[];
};
struct wh__times_arguments {
	struct timespec times[2];
	char path[];
};

static inline int64_t wh__result(int64_t n)
{
	return n < 0 ? -errno : n;
}

int64_t wh__execute_on_name(struct wh__op *op, void **ret_ptr); /* execute_name.c */
int64_t wh__execute_copy(struct wh__op *op);                    /* execute_copy.c */
int64_t wh__execute_send_file(struct wh__op *op);

/* WH__OP_STAT: what the kernel has written becomes what the caller sees. */
void wh__stat_from_raw(const struct statx *raw, struct wh_stat *ret);

/* WH__OP_APPEND: the write, from op->done on. 0, or -errno. */
int64_t wh__op_write_all(struct wh__op *op);

/* terminal.c: the same terminal as fd, opened once more, non-blocking; -1: fd, whose status flags are flags, is none, or it
 * cannot be had. Stays the loop's. Thread: loop. */
int wh__terminal_twin(wh_loop *loop, int fd, int flags);

/* write(2) and sendfile(2) have no MSG_NOSIGNAL. Writing to what nobody reads is -EPIPE and no SIGPIPE: the signal goes
 * to the calling thread, which holds it off meanwhile and takes it back. n: the result, or -errno. */
void wh__sigpipe_hold(sigset_t *ret_before);
void wh__sigpipe_release(const sigset_t *before, int64_t n);

#endif
