/* src/engine/uring.h -- the inside of the io_uring engine, shared by its files.
 *
 * Used by: uring*.c only.  Thread: loop.
 */
#ifndef WH_ENGINE_URING_H
#define WH_ENGINE_URING_H

#include <liburing.h>

#include "engine/descriptor.h"

/* Buffers that the kernel may choose from for a receive. How many are handed to it rises with need. */
enum { WH__URING_BUFFERS_MAX = 256, WH__URING_BUFFERS_MIN = 16, WH__URING_BUFFER_GROUP = 1 };

/* An appended piece up to this is written by the loop's thread, see uring.c. */
enum { WH__URING_WRITE_BYTES_MAX = 256 * 1024 };

/* IORING_ACCEPT_POLL_FIRST, which liburing 2.3 does not know. */
enum { WH__URING_ACCEPT_POLL_FIRST = 1 << 2 };

/* op->engine_state. From HELD on the operation is linked at its descriptor, if it is of a kind that has one. */
enum wh__uring_state {
	WH__URING_NEW,
	WH__URING_BACKLOG,   /* waits for room on the ring */
	WH__URING_HELD,      /* nothing outstanding: between two steps */
	WH__URING_IN_KERNEL, /* the operation itself is on the ring */
	WH__URING_POLLING,   /* a poll is on the ring; then it is attempted */
	WH__URING_SPILLED,   /* waits in the epoll set beside the ring */
	WH__URING_STATE_MASK = 7,
	WH__URING_CANCELLED = 8,     /* must not be started again */
	WH__URING_CANCEL_SENT = 16,  /* and not answered */
	WH__URING_CANCEL_WANTED = 32 /* to be sent when the kernel takes submissions again */
};

/* user_data: a pointer to the operation, or one of these (a pointer has its top bits clear). */
#define WH__URING_INTERNAL (UINT64_C(1) << 63)
#define WH__URING_WAKE     (WH__URING_INTERNAL | UINT64_C(1) << 62)
#define WH__URING_SPILL    (WH__URING_INTERNAL | UINT64_C(1) << 61)
#define WH__URING_CANCEL   (WH__URING_INTERNAL | UINT64_C(1) << 60) /* | slot << 32 | generation */
#define WH__URING_MESSAGE  (WH__URING_INTERNAL | UINT64_C(1) << 59) /* another thread wakes the loop */

struct wh__uring_features {
	bool deferred; /* SINGLE_ISSUER | DEFER_TASKRUN and TASKRUN_FLAG: completions arrive only while we wait */
	bool multipoll; /* multishot poll */
	bool poll_first;
	bool accept_poll_first; /* and accepts tell whether the listen queue holds more */
	bool buffers;           /* a ring of provided buffers */
	bool messages;          /* any thread may put a completion into the queue */
	bool rename, unlink, mkdir, link, stat, sync_range;
};

struct wh__uring {
	wh_loop *loop;
	struct io_uring ring;
	struct wh__uring_features has;

	/* Admission: every operation on the ring is one completion to come, and may have one cancel that is another.
	 * Half of the completion queue for operations leaves the other half for cancels: it cannot overflow. */
	uint32_t in_flight, in_flight_max;
	uint32_t waiting, waiting_max; /* of them those that may wait for ever; the rest is left to files */
	struct wh__queue backlog;
	bool cancels_wanted;

	int wake_fd;
	bool wake_armed;

	struct io_uring_buf_ring *buffer_ring;
	struct wh_buf *buffers[WH__URING_BUFFERS_MAX];
	uint32_t buffers_target, buffers_given;
	uint16_t buffers_absent[WH__URING_BUFFERS_MAX]; /* stack of identifiers without a buffer */
	uint32_t buffers_absent_count;

	/* for wh_stats(); the ring's own counters have 32 bits */
	uint64_t submitted_count, completed_count, spilled_count, short_count;
	uint32_t sq_seen, cq_seen;

	int spill_fd; /* epoll set; -1 until first needed */
	bool spill_armed, spill_arm_wanted;
};

/* uring_ring.c: set up the ring and try it out. strict: only the set of features that WH_AUTO relies on. */
int wh__uring_ring_open(struct wh__uring *u, uint32_t entries, bool strict);
const char *wh__uring_explain(int error);
/* A completion with WH__URING_MESSAGE for the ring, if it has.messages. 0, or -errno: none will come. Thread: any. */
int wh__uring_send_message(const struct wh__uring *u);

/* uring_buffers.c: buffers for the kernel to choose from. */
void wh__uring_buffers_open(struct wh__uring *u); /* before anything is on the ring */
void wh__uring_buffers_fill(struct wh__uring *u);
void wh__uring_buffers_more(struct wh__uring *u); /* the kernel ran out */
struct wh_buf *wh__uring_buffers_take(struct wh__uring *u, uint32_t cqe_flags);
void wh__uring_buffers_close(struct wh__uring *u);

/* uring_spill.c: waiting operations for which the ring has no room, in an epoll set that the ring polls. */
int wh__uring_spill_add(struct wh__uring *u, struct wh__op *op); /* op is linked at its descriptor */
void wh__uring_spill_poll(struct wh__uring *u); /* have the ring watch the set, now or in the next turn */
void wh__uring_spill_ready(struct wh__uring *u);
void wh__uring_spill_forget(struct wh__uring *u, int fd); /* before fd is closed */
void wh__uring_spill_close(struct wh__uring *u);

static inline enum wh__uring_state wh__uring_state(const struct wh__op *op)
{
	return op->engine_state & WH__URING_STATE_MASK;
}

/* uring.c */
struct io_uring_sqe *wh__uring_sqe(struct wh__uring *u); /* NULL: the kernel takes none now */
void wh__uring_finish(struct wh__uring *u, struct wh__op *op, int64_t n, void *ptr);

#endif
