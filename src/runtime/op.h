/* src/runtime/op.h -- a slot: the operation behind a future.
 *
 * Depends on: whilst.h.  Used by: runtime, engines, io.
 * Thread: loop, except where a worker is said to own the slot.
 * Memory: slots live in chunks owned by the loop and never move; 128 bytes, two cache lines.
 *
 * Life: FREE -> PENDING -> DONE -> FREE. The generation rises when a slot is freed, so that a stale
 * future is told by comparing. A slot whose generation would wrap is retired.
 */
#ifndef WH_RUNTIME_OP_H
#define WH_RUNTIME_OP_H

#include "whilst/whilst.h"

/* A promise's claim word has the highest bit for itself. */
#define WH__GENERATION_MAX UINT32_C(0x7fffffff)

enum wh__state { WH__FREE, WH__PENDING, WH__DONE };

/* Who learns of the completion. */
enum wh__consumer {
	WH__CONSUMER_NONE,    /* nobody yet: the result stays in the slot */
	WH__CONSUMER_THEN,    /* callback(loop, res, arg), queued in completion order */
	WH__CONSUMER_AWAIT,   /* a wh_await() of the loop's thread or of another: arg is its waiter */
	WH__CONSUMER_PARENT,  /* a combinator: parent, index */
	WH__CONSUMER_DROP,    /* dispose of the result, free the slot */
	WH__CONSUMER_GROUP,   /* a task group: arg is its member */
	WH__CONSUMER_INTERNAL /* callback is called at once, inline: runtime and engines only, no user code */
};

enum wh__opcode {
	/* no engine: */
	WH__OP_PROMISE,
	WH__OP_TIMER,
	WH__OP_MARK_WAIT,
	WH__OP_ALL,
	WH__OP_ALL_SETTLED,
	WH__OP_ANY,
	WH__OP_DEADLINE,
	WH__OP_TICK,
	WH__OP_TASK,   /* a coroutine; engine_data: its struct wh__task */
	WH__OP_OBJECT, /* no operation, but a place for a group, channel, ...: see object.h */
	/* composed operations, completed by the code that made them; wh__opcode_is_inner() */
	WH__OP_INNER,
	WH__OP_ASK,        /* a call on another loop's thread */
	WH__OP_CONNECTION, /* wh_connect(), wh_dial() */
	WH__OP_LOOKUP,
	WH__OP_WAIT, /* at a group, a channel, ..., or for a future of another loop */
	WH__OP_COPY_FILE,
	WH__OP_FILE_TO_SOCKET, /* wh_send_file(), over WH__OP_SEND_FILE */
	WH__OP_SIGNAL,
	WH__OP_CHILD,
	WH__OP_CALL, /* a request of the call server's client */
	WH__OP_HTTP,
	/* files: wh__op_execute() can run each on any thread */
	WH__OP__FILE_FIRST,
	WH__OP_OPEN = WH__OP__FILE_FIRST,
	WH__OP_CLOSE,
	WH__OP_PREAD,
	WH__OP_PWRITE,
	WH__OP_PREADV,
	WH__OP_PWRITEV,
	WH__OP_APPEND, /* pwrite, then fdatasync */
	WH__OP_FSYNC,
	WH__OP_TRUNCATE,
	WH__OP_ALLOCATE,
	WH__OP_ADVISE,
	WH__OP_SYNC_RANGE,
	WH__OP_COPY_RANGE,
	WH__OP_SEND_FILE, /* one piece, as much as the socket takes now; -EAGAIN: none */
	WH__OP_SIZE,
	WH__OP_LOCK,
	WH__OP_DISK_FREE,
	WH__OP_ENTRIES,
	WH__OP_STAT,
	WH__OP_ACCESS,
	WH__OP_CHMOD,
	WH__OP_CHOWN,
	WH__OP_TIMES,
	WH__OP_RENAME,
	WH__OP_UNLINK,
	WH__OP_MKDIR,
	WH__OP_LINK,
	WH__OP_SYMLINK,
	WH__OP_READLINK,
	WH__OP_REALPATH,
	WH__OP_TEMPORARY,
	WH__OP_LIST,
	WH__OP_WORK,
	/* what may wait for ever: tried without blocking, then parked until ready */
	WH__OP__WAITING_FIRST,
	WH__OP_READ = WH__OP__WAITING_FIRST,
	WH__OP_WRITE,
	WH__OP_READV,
	WH__OP_WRITEV,
	WH__OP_ACCEPT,
	WH__OP_CONNECT,
	WH__OP_RECV,
	WH__OP_RECV_BUF,
	WH__OP_SEND,
	WH__OP_SENDV,
	WH__OP_RECV_MESSAGE, /* second: struct wh_message, or NULL for the bytes alone */
	WH__OP_RECV_FROM,    /* second: struct wh_from */
	WH__OP_SEND_MESSAGE,
	WH__OP_READY,
	WH__OP__MAX
};

enum wh__op_flags {
	WH__BORROWS = 1 << 0,   /* buf is the caller's memory: wh_drop() refuses while pending */
	WH__ALL = 1 << 1,       /* go on until len bytes, end of file or an error; done counts */
	WH__CANCELLED = 1 << 2, /* wh_cancel() was called */
	WH__DATA_ONLY = 1 << 3, /* WH__OP_FSYNC: fdatasync */
	WH__OWNS_BUF = 1 << 4,  /* buf (path, iovec copy) was malloc'ed by the runtime; freed at completion */
	WH__AT_WORKER = 1 << 5, /* queued at or owned by a worker pool */
	WH__POOLED = 1 << 6,    /* buf is a struct wh__arguments, which goes back to the loop at completion */
	WH__NO_SLOT = 1 << 7,   /* a close for which there was no slot: see wh__close_without_slot() */
};

struct wh__op {
	uint32_t generation;
	uint8_t state;          /* enum wh__state */
	uint8_t consumer : 7;   /* enum wh__consumer */
	uint8_t background : 1; /* wh__background() */
	uint8_t opcode;         /* enum wh__opcode */
	uint8_t flags;          /* enum wh__op_flags */
	uint32_t slot;          /* own index */
	int32_t fd;             /* with a path: the directory it is relative to, or AT_FDCWD */
	/* arguments; after completion: result */
	union {
		void *buf; /* bytes, path (of an operation on a name), struct sockaddr, struct iovec */
		void *ptr; /* result */
	};
	uint64_t len; /* bytes; entries of a vector; flags of an operation on a name */
	union {
		uint64_t off; /* file offset; mode of open; timer: instant */
		void *second; /* second path; where else a result goes; arguments beside buf */
		int64_t at;
		void *returned_ptr; /* result on its way from another thread; arguments stay as they are */
	};
	union {
		uint64_t done; /* bytes so far while WH__ALL goes on; mode of ALLOCATE, advice, flags of
				  SYNC_RANGE */
		int64_t n;     /* result */
	};
	/* links: of the engine while pending, of the ready queue when done */
	struct wh__op *next;
	union {
		struct wh__op *prev;
		int64_t returned_n;
	};
	/* consumer */
	union {
		wh_callback *callback;
		struct wh__op *parent;
	};
	union {
		void *arg;
		uint64_t index;
	};
	wh_disposer *dispose; /* of a successful result that is dropped; NULL: nothing to free */
	void *dispose_arg;
	wh_loop *loop; /* constant for the life of the chunk */
	union {
		void *engine_data; /* the engine's own while pending */
		int64_t (*work)(void *);
		void (*cancel_inner)(struct wh__op *op); /* composed operations */
	};
	uint32_t engine_state; /* the engine's own while pending; zero at the start */
	/* promises: the generation that may be resolved, see future.c; any thread. Others: 0. */
	_Atomic uint32_t claim;
	/* what a worker is to do; NULL once one does it. Under the class's lock. */
	void (*run)(struct wh__op *op);
};

_Static_assert(sizeof(struct wh__op) <= 128, "a slot is two cache lines");

/* wh__op_new() - a pending slot with loop, slot and opcode set and the rest zero; NULL: at the limit or no memory.
 * For what the runtime needs itself; wh__begin() (loop.h) for what a caller starts. */
struct wh__op *wh__op_new(wh_loop *loop, enum wh__opcode opcode);

/* wh__op_new_beyond() - the same beyond the limit: for what makes room. Closing does, and time-outs of the library's own do. */
struct wh__op *wh__op_new_beyond(wh_loop *loop, enum wh__opcode opcode);

/* wh__op_complete() - the one terminal event. The engine must not touch op afterwards. Frees what WH__OWNS_BUF
 * says, stores the result, tells the consumer (callbacks are queued, never called here). Thread: loop. */
void wh__op_complete(struct wh__op *op, int64_t n, void *ptr);

/* wh__op_background() - a pending slot does not keep wh_loop_run() running (true), or does again (false). Once it is complete
 * its callback counts as any. For what the library keeps under way for itself, with nobody waiting: see wh__background(). */
void wh__op_background(struct wh__op *op, bool background);

/* wh__op_dispose() - free the result of a DONE slot that nobody will consume. */
void wh__op_dispose(struct wh__op *op);

/* wh__op_complete_from_worker() - the same from a worker thread: the result travels through the inbox and the
 * loop is woken; arguments and flags are as they were. The worker must not touch op afterwards. Thread: any. */
void wh__op_complete_from_worker(struct wh__op *op, int64_t n, void *ptr);

/* wh__op_complete_from_afar() - the same from a thread that does not end before the loop does, as workers do. */
void wh__op_complete_from_afar(struct wh__op *op, int64_t n, void *ptr);

#endif
