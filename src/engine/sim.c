/* src/engine/sim.c -- the engine of a simulated machine: what is under way, time, and all loops on one thread.
 *
 * An operation ends a while after it was started, which chance decides, and so the order in which several end. Nothing
 * waits: when nothing is due, the clock is set to when something is. A loop that waits turns the other loops of its
 * machine meanwhile, so that they run as if they had threads of their own.
 *
 * Thread: the machine's only one.
 */
#include "engine/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_NS = 25 /* time passes while programs look at the clock, or they might look for ever */ };

static struct wh_sim *machine_of(const wh_loop *loop)
{
	return loop->engine_state;
}

/* ---- operations under way ----------------------------------------------------------------- */

static bool ends_before(const struct wh__flight *a, const struct wh__flight *b)
{
	return a->due != b->due ? a->due < b->due : a->tie < b->tie;
}

static int take_off(struct wh_sim *sim, struct wh__op *op, int64_t due)
{
	if (sim->flights_count == sim->flights_max) {
		size_t max = sim->flights_max ? sim->flights_max * 2 : 64;
		struct wh__flight *flights = reallocarray(sim->flights, max, sizeof *flights);
		if (!flights)
			return -ENOMEM;
		sim->flights = flights;
		sim->flights_max = max;
	}
	struct wh__flight flight = {.op = op, .due = due, .tie = wh__sim_next(&sim->random)};
	size_t at = sim->flights_count++;
	for (; at > 0 && ends_before(&sim->flights[at - 1], &flight); at--)
		sim->flights[at] = sim->flights[at - 1];
	sim->flights[at] = flight;
	return 0;
}

static void take_out(struct wh_sim *sim, size_t at)
{
	sim->flights_count--;
	memmove(sim->flights + at, sim->flights + at + 1, (sim->flights_count - at) * sizeof *sim->flights);
}

static void submit(struct wh__op *op)
{
	struct wh_sim *sim = machine_of(op->loop);
	int64_t error = 0;
	if (!sim->has_power)
		error = -WH_ESIM_POWER_CUT;
	else if (wh__opcode_waits(op->opcode) && op->opcode != WH__OP_READ && op->opcode != WH__OP_WRITE)
		error = -ENOSYS;
	else
		error = take_off(sim, op, sim->now + wh__sim_latency(sim, op));
	if (error != 0)
		wh__op_complete(op, error, NULL);
	else if (op->opcode == WH__OP_FSYNC)
		wh__sim_flush_start(sim, op);
}

static void cancel(struct wh__op *op)
{
	struct wh_sim *sim = machine_of(op->loop);
	size_t at = 0;
	while (at < sim->flights_count && sim->flights[at].op != op)
		at++;
	/* it may be too late for that; a descriptor is not left open */
	if (at == sim->flights_count || op->opcode == WH__OP_CLOSE || wh__sim_chance(&sim->random, 50))
		return;
	take_out(sim, at);
	if (op->opcode == WH__OP_FSYNC)
		wh__sim_flush_forget(sim, op);
	wh__op_complete(op, -ECANCELED, NULL);
}

static void close_fd(struct wh__op *op)
{
	struct wh_sim *sim = machine_of(op->loop);
	int64_t due = sim->now;
	int error = sim->has_power ? 0 : -WH_ESIM_POWER_CUT;
	if (error == 0) {
		for (size_t i = sim->flights_count; i-- > 0;)
			if (sim->flights[i].op->fd == op->fd)
				cancel(sim->flights[i].op);
		for (size_t i = 0; i < sim->flights_count; i++)
			if (sim->flights[i].op->fd == op->fd && sim->flights[i].due > due)
				due = sim->flights[i].due;
		error = take_off(sim, op, due + wh__sim_latency(sim, op));
	}
	if (error != 0)
		wh__op_complete(op, error, NULL);
}

/* What of loop's is due ends. */
static bool complete_due(struct wh_sim *sim, wh_loop *loop)
{
	bool any = false;
	for (size_t at = sim->flights_count;
	     sim->has_power && at-- > 0 && sim->flights[at].due <= sim->now;) {
		struct wh__op *op = sim->flights[at].op;
		void *ptr;
		if (op->loop != loop)
			continue;
		take_out(sim, at);
		int64_t n = wh__sim_execute(sim, op, &ptr);
		wh__op_complete(op, n, ptr);
		any = true;
		at = sim->flights_count; /* work may have started or cancelled others */
	}
	return any;
}

static int end_without_power(struct wh_sim *sim, wh_loop *loop)
{
	for (size_t at = sim->flights_count; at-- > 0;) {
		struct wh__op *op = sim->flights[at].op;
		if (op->loop != loop)
			continue;
		take_out(sim, at);
		wh__op_complete(op, -WH_ESIM_POWER_CUT, NULL);
		at = sim->flights_count;
	}
	return -WH_ESIM_POWER_CUT;
}

/* ---- loops and time ----------------------------------------------------------------------- */

static bool has_due(struct wh_sim *sim, wh_loop *loop)
{
	if (loop->ready.first || loop->deferred || !wh__inbox_is_empty(loop) ||
	    wh__wheel_wait(&loop->wheel, sim->now) == 0)
		return true;
	for (size_t at = sim->flights_count; at-- > 0 && sim->flights[at].due <= sim->now;)
		if (sim->flights[at].op->loop == loop)
			return true;
	return false;
}

static bool may_turn(const wh_loop *loop)
{
	return !loop->running && !loop->in_callback && !loop->closing &&
	       !atomic_load_explicit(&loop->stop, memory_order_relaxed);
}

static bool is_open(const struct wh_sim *sim, const wh_loop *loop)
{
	for (size_t i = 0; i < sim->loops_count; i++)
		if (sim->loops[i] == loop)
			return true;
	return false;
}

static bool turn_others(struct wh_sim *sim, size_t first)
{
	/* callbacks may open and close loops */
	wh_loop *others[64];
	size_t count = sim->loops_count < 64 ? sim->loops_count : 64;
	bool any = false;
	for (size_t i = 0; i < count; i++)
		others[i] = sim->loops[(i + first) % sim->loops_count];
	sim->turns_others = true;
	for (size_t i = 0; i < count && sim->has_power; i++) {
		if (is_open(sim, others[i]) && may_turn(others[i]) && has_due(sim, others[i])) {
			(void)wh_loop_turn(others[i], 0);
			any = true;
		}
	}
	sim->turns_others = false;
	return any;
}

/* When something is due next on this machine. */
static int64_t next_event(const struct wh_sim *sim, int64_t until)
{
	if (sim->flights_count > 0 && sim->flights[sim->flights_count - 1].due < until)
		until = sim->flights[sim->flights_count - 1].due;
	for (size_t i = 0; i < sim->loops_count; i++) {
		if (!may_turn(sim->loops[i]))
			continue;
		int64_t ns = wh__wheel_wait(&sim->loops[i]->wheel, sim->now);
		if (ns >= 0 && sim->now + ns < until)
			until = sim->now + ns;
	}
	return until;
}

static int wait(wh_loop *loop, int64_t timeout_ns)
{
	struct wh_sim *sim = machine_of(loop);
	int64_t until = INT64_MAX;
	if (timeout_ns >= 0 && timeout_ns < INT64_MAX - sim->now)
		until = sim->now + timeout_ns;
	if (sim->turns_others) {
		(void)complete_due(sim, loop);
		return sim->has_power ? 0 : -WH_ESIM_POWER_CUT;
	}
	sim->now += (int64_t)(100 + wh__sim_below(&sim->random, 1000));
	for (;;) {
		bool any = sim->has_power && complete_due(sim, loop);
		if (sim->loops_count > 1 && sim->has_power)
			any |= turn_others(sim, wh__sim_below(&sim->random, sim->loops_count));
		if (!sim->has_power)
			return end_without_power(sim, loop);
		if (any || sim->now >= until || !wh__inbox_is_empty(loop) ||
		    atomic_load_explicit(&loop->stop, memory_order_relaxed))
			return 0;
		int64_t next = next_event(sim, until);
		if (next == INT64_MAX)
			return -EDEADLK; /* for ever: nothing will ever happen again */
		if (next > sim->now)
			sim->now = next;
	}
}

static void wake(wh_loop *loop)
{
	/* wait() looks at the inboxes of all loops by itself */
}

static int init(wh_loop *loop, const struct wh_loop_options *options)
{
	struct wh_sim *sim = options->sim;
	if (!sim)
		return -EINVAL;
	if (!sim->has_power)
		return -WH_ESIM_POWER_CUT;
	wh_loop **loops = reallocarray(sim->loops, sim->loops_count + 1, sizeof *loops);
	if (!loops)
		return -ENOMEM;
	sim->loops = loops;
	sim->loops[sim->loops_count++] = loop;
	loop->engine_state = sim;
	return 0;
}

static void fini(wh_loop *loop)
{
	struct wh_sim *sim = machine_of(loop);
	size_t at = 0;
	while (sim->loops[at] != loop)
		at++;
	sim->loops_count--;
	memmove(sim->loops + at, sim->loops + at + 1, (sim->loops_count - at) * sizeof(wh_loop *));
}

static int64_t now(const wh_loop *loop)
{
	struct wh_sim *sim = machine_of(loop);
	sim->now += LOOK_NS;
	return sim->now;
}

static int64_t wall_now(const wh_loop *loop)
{
	return now(loop) + machine_of(loop)->wall_offset;
}

static void random_bytes(wh_loop *loop, void *bytes, size_t len)
{
	struct wh_sim *sim = machine_of(loop);
	for (size_t i = 0; i < len; i++)
		((uint8_t *)bytes)[i] = (uint8_t)wh__sim_next(&sim->random);
}

/* The caller's thread does it: time passes, and nothing else happens meanwhile. */
static int64_t execute(struct wh__op *op, void **ret_ptr)
{
	struct wh_sim *sim = machine_of(op->loop);
	sim->now += wh__sim_latency(sim, op);
	return wh__sim_execute(sim, op, ret_ptr);
}

static int no_socket(wh_loop *loop, int family, int type, int protocol)
{
	return -ENOSYS; /* a simulated machine has no network */
}

static const struct wh__sockets sockets = {.socket = no_socket};

const struct wh__engine wh__engine_sim = {
	.name = "sim",
	.init = init,
	.submit = submit,
	.cancel = cancel,
	.close_fd = close_fd,
	.wait = wait,
	.wake = wake,
	.fini = fini,
	.now = now,
	.wall_now = wall_now,
	.random = random_bytes,
	.execute = execute,
	.sockets = &sockets,
};
