/* src/runtime/stats.c -- what a loop counts, and times when asked to.
 *
 * Operations are counted by opcode, which costs the hot path as much as counting them all together; classes are summed
 * up when somebody looks. Times need the clock twice for each operation, so they are an option; the instant of the start is
 * beside the slots, not in them, because a slot is two full cache lines.
 *
 * Thread: loop.
 */
#include <stdlib.h>

#include "runtime/task.h"

const char *const wh__opcode_names[WH__OP__MAX] = {
	[WH__OP_PROMISE] = "promise",
	[WH__OP_TIMER] = "timer",
	[WH__OP_MARK_WAIT] = "mark wait",
	[WH__OP_ALL] = "all",
	[WH__OP_ALL_SETTLED] = "all settled",
	[WH__OP_ANY] = "any",
	[WH__OP_DEADLINE] = "deadline",
	[WH__OP_TICK] = "tick",
	[WH__OP_TASK] = "task",
	[WH__OP_OBJECT] = "object",
	[WH__OP_INNER] = "composed",
	[WH__OP_ASK] = "ask",
	[WH__OP_WAIT] = "wait",
	[WH__OP_CONNECTION] = "connection",
	[WH__OP_LOOKUP] = "lookup",
	[WH__OP_COPY_FILE] = "copy file",
	[WH__OP_FILE_TO_SOCKET] = "file to socket",
	[WH__OP_SIGNAL] = "signal",
	[WH__OP_CHILD] = "child",
	[WH__OP_CALL] = "call",
	[WH__OP_HTTP] = "http",
	[WH__OP_OPEN] = "open",
	[WH__OP_CLOSE] = "close",
	[WH__OP_PREAD] = "pread",
	[WH__OP_PWRITE] = "pwrite",
	[WH__OP_PREADV] = "preadv",
	[WH__OP_PWRITEV] = "pwritev",
	[WH__OP_APPEND] = "append",
	[WH__OP_FSYNC] = "fsync",
	[WH__OP_TRUNCATE] = "truncate",
	[WH__OP_ALLOCATE] = "allocate",
	[WH__OP_ADVISE] = "advise",
	[WH__OP_SYNC_RANGE] = "sync range",
	[WH__OP_COPY_RANGE] = "copy range",
	[WH__OP_SEND_FILE] = "send file",
	[WH__OP_SIZE] = "size",
	[WH__OP_LOCK] = "lock",
	[WH__OP_ENTRIES] = "entries",
	[WH__OP_STAT] = "stat",
	[WH__OP_ACCESS] = "access",
	[WH__OP_CHMOD] = "chmod",
	[WH__OP_CHOWN] = "chown",
	[WH__OP_TIMES] = "times",
	[WH__OP_RENAME] = "rename",
	[WH__OP_UNLINK] = "unlink",
	[WH__OP_MKDIR] = "mkdir",
	[WH__OP_LINK] = "link",
	[WH__OP_SYMLINK] = "symlink",
	[WH__OP_READLINK] = "readlink",
	[WH__OP_REALPATH] = "realpath",
	[WH__OP_TEMPORARY] = "temporary",
	[WH__OP_LIST] = "list",
	[WH__OP_DISK_FREE] = "disk free",
	[WH__OP_WORK] = "work",
	[WH__OP_READ] = "read",
	[WH__OP_WRITE] = "write",
	[WH__OP_READV] = "readv",
	[WH__OP_WRITEV] = "writev",
	[WH__OP_ACCEPT] = "accept",
	[WH__OP_CONNECT] = "connect",
	[WH__OP_RECV] = "recv",
	[WH__OP_RECV_BUF] = "recv buf",
	[WH__OP_SEND] = "send",
	[WH__OP_SENDV] = "sendv",
	[WH__OP_RECV_MESSAGE] = "recv message",
	[WH__OP_RECV_FROM] = "recv from",
	[WH__OP_SEND_MESSAGE] = "send message",
	[WH__OP_READY] = "ready",
};

enum wh_class wh__opcode_class(unsigned opcode)
{
	switch (opcode) {
	case WH__OP_PROMISE:
		return WH_CLASS_PROMISE;
	case WH__OP_TIMER:
	case WH__OP_TICK:
		return WH_CLASS_TIMER;
	case WH__OP_MARK_WAIT:
		return WH_CLASS_MARK;
	case WH__OP_ALL:
	case WH__OP_ALL_SETTLED:
	case WH__OP_ANY:
	case WH__OP_DEADLINE:
		return WH_CLASS_COMBINATOR;
	case WH__OP_TASK:
	case WH__OP_WAIT:
		return WH_CLASS_TASK;
	case WH__OP_CONNECTION:
	case WH__OP_FILE_TO_SOCKET:
		return WH_CLASS_SOCKET;
	case WH__OP_INNER:
	case WH__OP_OBJECT:
	case WH__OP_CONNECT: /* parts of those two: that of the caller is the one to count */
	case WH__OP_SEND_FILE:
		return WH_CLASS_OTHER;
	case WH__OP_LOOKUP:
		return WH_CLASS_NAME;
	case WH__OP_SIGNAL:
	case WH__OP_CHILD:
		return WH_CLASS_PROCESS;
	case WH__OP_CALL:
	case WH__OP_HTTP:
		return WH_CLASS_HTTP;
	case WH__OP_ASK:
	case WH__OP_WORK:
		return WH_CLASS_WORK;
	default:
		return wh__opcode_waits(opcode) ? WH_CLASS_SOCKET : WH_CLASS_FILE;
	}
}

/* ---- times -------------------------------------------------------------------------------- */

struct time_sums {
	uint64_t ns_total, ns_max;
};

struct wh__measure {
	int64_t *started[WH__CHUNKS_MAX]; /* as the chunks of slots */
	struct time_sums of[WH__OP__MAX];
};

int wh__measure_open(wh_loop *loop)
{
	if (!loop->options.measure)
		return 0;
	loop->measure = calloc(1, sizeof *loop->measure);
	return loop->measure ? 0 : -ENOMEM;
}

int wh__measure_chunk(wh_loop *loop, uint32_t chunk)
{
	int64_t **started = &loop->measure->started[chunk];
	if (!*started)
		*started = calloc(WH__CHUNK_SLOTS, sizeof **started);
	return *started ? 0 : -ENOMEM;
}

static int64_t *started_of(const struct wh__op *op)
{
	return &op->loop->measure->started[op->slot / WH__CHUNK_SLOTS][op->slot % WH__CHUNK_SLOTS];
}

void wh__measure_start(struct wh__op *op)
{
	*started_of(op) = wh_clock(op->loop);
}

void wh__measure_end(struct wh__op *op)
{
	struct time_sums *sums = &op->loop->measure->of[op->opcode];
	uint64_t ns = (uint64_t)(wh_clock(op->loop) - *started_of(op));
	sums->ns_total += ns;
	if (ns > sums->ns_max)
		sums->ns_max = ns;
}

int64_t wh__measure_started(const struct wh__op *op)
{
	return op->loop->measure ? *started_of(op) : -1;
}

void wh__measure_close(wh_loop *loop)
{
	for (uint32_t i = 0; loop->measure && i < WH__CHUNKS_MAX; i++)
		free(loop->measure->started[i]);
	free(loop->measure);
	loop->measure = NULL;
}

/* ---- looking ------------------------------------------------------------------------------ */

static const char *const class_names[WH_CLASS_COUNT] = {
	[WH_CLASS_PROMISE] = "promise", [WH_CLASS_TIMER] = "timer",
	[WH_CLASS_MARK] = "mark",       [WH_CLASS_COMBINATOR] = "combinator",
	[WH_CLASS_FILE] = "file",       [WH_CLASS_WORK] = "work",
	[WH_CLASS_SOCKET] = "socket",   [WH_CLASS_NAME] = "name",
	[WH_CLASS_PROCESS] = "process", [WH_CLASS_HTTP] = "http",
	[WH_CLASS_TASK] = "task",       [WH_CLASS_OTHER] = "other",
};

static void add_opcode(const wh_loop *loop, unsigned opcode, struct wh_stats *stats)
{
	const struct wh__counts *counts = &loop->counts[opcode];
	struct wh_class_stats *class = &stats->classes[wh__opcode_class(opcode)];
	stats->started += counts->started;
	stats->failed += counts->failed;
	stats->cancelled += counts->cancelled;
	class->started += counts->started;
	class->completed += counts->completed;
	class->failed += counts->failed;
	class->cancelled += counts->cancelled;
	class->in_flight += counts->started - counts->completed;
	if (loop->measure) {
		class->ns_total += loop->measure->of[opcode].ns_total;
		if (loop->measure->of[opcode].ns_max > class->ns_max)
			class->ns_max = loop->measure->of[opcode].ns_max;
	}
}

static void add_workers(const wh_loop *loop, int class, struct wh_stats *stats)
{
	const struct wh__workers *workers = loop->workers[class];
	struct wh_worker_stats *ret = &stats->workers[class];
	ret->name = wh__worker_class_names[class];
	ret->threads_max = loop->workers_max[class];
	if (!workers)
		return;
	ret->threads = wh__workers_thread_count(workers);
	ret->queued = wh__workers_queued_count(workers);
	stats->threads += ret->threads;
}

void wh_stats(const wh_loop *loop, struct wh_stats *ret)
{
	struct wh_stats stats = {.completed = loop->completed_count,
	                         .in_flight = loop->pending_count,
	                         .turns = loop->turn_count,
	                         .turn_ns_max = loop->turn_ns_max,
	                         .file_syncs = loop->file_sync_count,
	                         .wakes = atomic_load_explicit(&loop->wake_count, memory_order_relaxed)};
	_Static_assert(sizeof stats.classes / sizeof stats.classes[0] >= WH_CLASS_COUNT,
	               "every class has a place");
	_Static_assert(sizeof stats.workers / sizeof stats.workers[0] >= WH__WORKERS__MAX,
	               "every class of workers has a place");
	for (int i = 0; i < WH_CLASS_COUNT; i++)
		stats.classes[i].name = class_names[i];
	for (unsigned i = 0; i < WH__OP__MAX; i++)
		add_opcode(loop, i, &stats);
	for (int i = 0; i < WH__WORKERS__MAX; i++)
		add_workers(loop, i, &stats);
	if (loop->watch)
		wh__watch_stats(loop->watch, &stats);
	wh__tasks_stats(loop, &stats);
	stats.engine.waits = loop->wait_count;
	if (loop->engine->stats)
		loop->engine->stats(loop, &stats.engine);
	*ret = stats;
}
