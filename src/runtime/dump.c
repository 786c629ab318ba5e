/* src/runtime/dump.c -- what a loop is waiting for, line by line, for people who ask why nothing happens.
 *
 * The same lines come from the loop's thread when it asks, and from a signal handler when the program hangs. So what
 * forms a line may do nothing that a handler may not: no allocation, no locks, no stdio. The handler runs on the loop's own
 * thread, between two instructions of it; it reads plain fields and follows no pointer but those to the slots, which never move.
 * A slot that is being filled in at that moment gives an odd line, no harm.
 *
 * Thread: loop; on_signal() on any.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/object.h"
#include "runtime/task.h"

struct line {
	char text[400];
	size_t len;
	bool in_handler; /* no dladdr(3) */
};

static void put(struct line *line, const char *text)
{
	while (*text && line->len < sizeof line->text - 2)
		line->text[line->len++] = *text++;
}

static void put_unsigned(struct line *line, uint64_t value, unsigned base)
{
	char digits[24];
	size_t i = sizeof digits;
	digits[--i] = 0;
	do
		digits[--i] = "0123456789abcdef"[value % base];
	while (value /= base);
	put(line, digits + i);
}

static void put_number(struct line *line, const char *before, int64_t value, const char *after)
{
	put(line, before);
	if (value < 0)
		put(line, "-");
	put_unsigned(line, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 10);
	put(line, after);
}

/* 12.345 s */
static void put_duration(struct line *line, const char *before, int64_t ns)
{
	uint64_t ms = ns > 0 ? (uint64_t)ns / (uint64_t)WH_NS_PER_MS : 0;
	put(line, before);
	put_unsigned(line, ms / 1000, 10);
	put(line, ms % 1000 < 10 ? ".00" : ms % 1000 < 100 ? ".0" : ".");
	put_unsigned(line, ms % 1000, 10);
	put(line, " s");
}

static void put_address(struct line *line, uintptr_t address)
{
	char symbol[200];
	if (!line->in_handler) {
		wh__watch_symbol(address, symbol, sizeof symbol);
		put(line, symbol);
		return;
	}
	put(line, "0x");
	put_unsigned(line, address, 16);
}

static void put_future(struct line *line, const struct wh__op *op)
{
	put_number(line, " ", op->slot, "");
	put_number(line, ":", op->generation, "");
}

static void put_task(struct line *line, const struct wh__task *task)
{
	wh_future awaits = wh__task_awaits(task);
	put(line, " \"");
	put(line, wh__task_name(task));
	put(line, "\"");
	if (awaits.id == 0)
		return;
	put_number(line, ", awaits ", (int64_t)(awaits.id >> 32 & WH__SLOTS_MAX), "");
	put_number(line, ":", (int64_t)(uint32_t)awaits.id, "");
}

static void put_consumer(struct line *line, const struct wh__op *op)
{
	switch ((enum wh__consumer)op->consumer) {
	case WH__CONSUMER_NONE:
		put(line, ", nobody waits yet");
		break;
	case WH__CONSUMER_THEN:
		if (op->callback == wh__task_resume) {
			put(line, ", awaited by task \"");
			put(line, wh__task_name(op->arg));
			put(line, "\"");
			break;
		}
		put(line, ", then ");
		put_address(line, (uintptr_t)op->callback);
		break;
	case WH__CONSUMER_AWAIT:
		put(line, ", awaited");
		break;
	case WH__CONSUMER_PARENT:
		put(line, ", part of");
		put_future(line, op->parent);
		break;
	case WH__CONSUMER_GROUP:
		put(line, ", member of a group");
		break;
	case WH__CONSUMER_DROP:
		put(line, ", dropped");
		break;
	case WH__CONSUMER_INTERNAL:
		put(line, ", part of the library's own work");
		break;
	}
}

static const char *const object_names[] = {
	"object",
	[WH__GROUP] = "group",
	[WH__TICKER] = "ticker",
	[WH__CHANNEL] = "channel",
	[WH__SEMAPHORE] = "semaphore",
};

static void put_op(struct line *line, const struct wh__op *op, int64_t now)
{
	put(line, "  ");
	if (op->opcode == WH__OP_OBJECT && op->len < sizeof object_names / sizeof *object_names)
		put(line, object_names[op->len]);
	else
		put(line, op->opcode < WH__OP__MAX ? wh__opcode_names[op->opcode] : "?");
	put_future(line, op);
	if (op->opcode == WH__OP_OBJECT)
		return; /* a group, a channel, ...: nobody waits for it to end */
	if (op->opcode == WH__OP_TASK && op->state == WH__PENDING && op->engine_data)
		put_task(line, op->engine_data);
	if (op->state == WH__DONE) {
		put_number(line, ", done: ", op->n, op->consumer == WH__CONSUMER_NONE ? ", not taken" : "");
		if (op->consumer != WH__CONSUMER_NONE)
			put_consumer(line, op);
		return;
	}
	if (op->fd >= 0)
		put_number(line, ", fd ", op->fd, "");
	if (op->opcode == WH__OP_TIMER)
		put_duration(line, ", due in ", op->at - now);
	int64_t started = wh__measure_started(op);
	if (started >= 0)
		put_duration(line, ", age ", now - started);
	if (op->flags & WH__AT_WORKER)
		put(line, ", at a worker");
	if (op->flags & WH__CANCELLED)
		put(line, ", cancelled");
	put_consumer(line, op);
}

static void put_loop(struct line *line, const wh_loop *loop, int64_t now)
{
	int64_t since = 0;
	uintptr_t function = loop->watch ? wh__watch_running(loop->watch, &since) : 0;
	put_number(line, "loop ", loop->number, " \"");
	put(line, loop->name);
	put(line, "\", engine ");
	put(line, loop->engine->name);
	put_number(line, ": ", (int64_t)loop->pending_count, " pending");
	put_number(line, ", ", (int64_t)loop->live_count, " futures");
	put_number(line, ", ", (int64_t)loop->turn_count, " turns");
	put(line, loop->closing ? ", closing" : "");
	if (function) {
		put(line, ", for ");
		put_duration(line, "", now - since);
		put(line, " in ");
		put_address(line, function);
	} else if (loop->in_callback) {
		put(line, ", in a callback");
	}
}

/* Calls emit(line, arg) for each line. Anything in it that a handler may do, this may do in a handler. */
static int for_each_line(const wh_loop *loop, bool in_handler, void (*emit)(struct line *line, void *arg),
                         void *arg)
{
	int64_t now = loop->engine->now && in_handler ? loop->now : wh_clock(loop);
	int count = 0;
	struct line line = {.in_handler = in_handler};
	put_loop(&line, loop, now);
	emit(&line, arg);
	for (uint32_t slot = 0; slot < loop->slots_made; slot++) {
		const struct wh__op *op = wh__op_at(loop, slot);
		if (op->state == WH__FREE)
			continue;
		line.len = 0;
		put_op(&line, op, now);
		emit(&line, arg);
		count++;
	}
	return count;
}

struct writer {
	wh_dump_function *write_line;
	void *arg;
};

static void to_function(struct line *line, void *arg)
{
	const struct writer *writer = arg;
	line->text[line->len] = 0;
	writer->write_line(line->text, writer->arg);
}

int wh_dump(wh_loop *loop, wh_dump_function *write_line, void *arg)
{
	struct writer writer = {write_line, arg};
	if (!wh__loop_is_mine(loop))
		return -EPERM;
	if (!write_line)
		return -EINVAL;
	return for_each_line(loop, false, to_function, &writer);
}

/* ---- on a signal -------------------------------------------------------------------------- */

static atomic_int dump_fd = -1;

static void to_fd(struct line *line, void *arg)
{
	const int *fd = arg;
	line->text[line->len++] = '\n';
	for (size_t done = 0; done < line->len;) {
		ssize_t n = write(*fd, line->text + done, line->len - done);
		if (n < 0 && errno != EINTR)
			return; /* a full pipe: what a hanging program cannot tell is lost */
		done += n > 0 ? (size_t)n : 0;
	}
}

/* The first that the signal comes to asks the threads of the other loops, by the same signal. */
static void on_signal(int signal_number, siginfo_t *info, void *context)
{
	int saved = errno, fd = atomic_load(&dump_fd);
	bool is_first = info->si_code != SI_TKILL || info->si_pid != getpid();
	for (uint32_t number = 1; number < WH__LOOPS_MAX; number++) {
		int error = 0;
		wh_loop *loop = wh__registry_enter(number, &error); /* it is not freed meanwhile */
		if (!loop)
			continue;
		bool is_open = loop->engine; /* else it is just being opened */
		if (is_open && loop->owner_tid == gettid())
			(void)for_each_line(loop, true, to_fd, &fd);
		else if (is_open && is_first)
			(void)tgkill(getpid(), loop->owner_tid, signal_number);
		wh__registry_leave(number);
	}
	errno = saved;
}

int wh_dump_on_signal(int signal_number, int fd)
{
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
	if (fd < 0)
		return -EBADF;
	sigfillset(&action.sa_mask);
	atomic_store(&dump_fd, fd);
	return sigaction(signal_number, &action, NULL) < 0 ? -errno : 0;
}
