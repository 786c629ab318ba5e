/* src/engine/sim.c -- the engine of a simulated machine: operations are started, cancelled, and end.
 *
 * What needs no one else ends a while after it was started. What waits for a peer is tried after a while, and parked at
 * its socket until something has changed there. Thread: the world's only one.
 */
#include "engine/sim.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_NS = 25 /* time passes while programs look at the clock, or they might look for ever */ };

static bool is_on_socket(const struct wh__op *op)
{
	return wh__socket_is_number(op->fd) && wh__opcode_waits(op->opcode);
}

static void end(struct wh__op *op, int64_t n, void *ptr)
{
	wh__socket_leave(op);
	wh__sim_note(op, n);
	wh__op_complete(op, n, ptr);
}

/* What cannot be done with a number that is no socket's; 0: it can. */
static int64_t check(const wh_sim *sim, const struct wh__op *op)
{
	if (!wh__opcode_waits(op->opcode))
		return 0;
	if (wh__opcode_streams(op->opcode) || op->opcode == WH__OP_READY)
		return 0;
	return wh__disk_is_open(sim->disk, op->fd) ? -ENOTSOCK : -EBADF;
}

static void submit(struct wh__op *op)
{
	wh_sim *sim = wh__sim_of(op->loop);
	int64_t error;
	if (!sim->has_power)
		error = -WH_ESIM_POWER_CUT;
	else if (is_on_socket(op))
		error = wh__socket_enter(op);
	else
		error = check(sim, op);
	if (error == 0)
		error = wh__sim_take_off(op, sim->world->now + wh__sim_start(op));
	if (error != 0)
		end(op, error, NULL);
	else if (op->opcode == WH__OP_FSYNC)
		wh__sim_flush_start(op);
}

static void cancel(struct wh__op *op)
{
	wh_sim *sim = wh__sim_of(op->loop);
	if (op->engine_state & WH__SIM_PARKED) {
		wh__socket_unpark(op);
		end(op, -ECANCELED, NULL);
		return;
	}
	op->flags |= WH__CANCELLED;
	/* it may be too late for that; a descriptor is not left open */
	if (op->opcode == WH__OP_CLOSE || wh__sim_chance(&sim->world->random, 50) || !wh__sim_take_out(op))
		return;
	if (op->opcode == WH__OP_FSYNC)
		wh__sim_flush_forget(op);
	end(op, -ECANCELED, NULL);
}

/* Cancel what is on the descriptor; when the last of it ends. */
static int64_t end_all_on(struct wh_sim_world *world, const struct wh__op *closing)
{
	int64_t due = world->now;
	for (size_t i = world->flights_count; i-- > 0;) {
		struct wh__op *op = world->flights[i].op;
		if (op->fd == closing->fd && wh__sim_of(op->loop) == wh__sim_of(closing->loop))
			cancel(op);
		if (i > world->flights_count)
			i = world->flights_count;
	}
	for (size_t i = 0; i < world->flights_count; i++) {
		const struct wh__flight *flight = &world->flights[i];
		if (flight->op->fd == closing->fd &&
		    wh__sim_of(flight->op->loop) == wh__sim_of(closing->loop) && flight->due > due)
			due = flight->due;
	}
	return due;
}

static void close_fd(struct wh__op *op)
{
	wh_sim *sim = wh__sim_of(op->loop);
	int64_t error = sim->has_power ? 0 : -WH_ESIM_POWER_CUT;
	if (error == 0 && wh__socket_is_number(op->fd))
		error = wh__socket_begin_close(sim, op->fd);
	if (error == 0)
		error = wh__sim_take_off(op, end_all_on(sim->world, op) + wh__sim_start(op));
	if (error != 0)
		wh__op_complete(op, error, NULL);
}

static void land_on_socket(struct wh__op *op)
{
	struct wh__socket *s = wh__socket_of(wh__sim_of(op->loop), op->fd);
	void *ptr = NULL;
	int64_t n = -(int64_t)(op->engine_state & WH__SIM_ERROR);
	if (n == 0)
		n = wh__socket_attempt(op, &ptr);
	if (n == -EAGAIN && s && !s->closing && !(op->flags & WH__CANCELLED)) {
		wh__socket_park(op);
		return;
	}
	end(op, n == -EAGAIN ? -ECANCELED : n, ptr);
}

void wh__sim_land(struct wh__op *op)
{
	if (is_on_socket(op)) {
		land_on_socket(op);
		return;
	}
	void *ptr;
	int64_t n = wh__sim_execute(op, &ptr);
	wh__op_complete(op, n, ptr);
}

/* ---- signals ------------------------------------------------------------------------------ */

static void unlink_wait(wh_sim *sim, struct wh__op *op)
{
	*(op->prev ? &op->prev->next : &sim->signal_waits) = op->next;
	if (op->next)
		op->next->prev = op->prev;
	op->next = op->prev = NULL;
}

static void cancel_signal(struct wh__op *op)
{
	unlink_wait(wh__sim_of(op->loop), op);
	wh__op_complete(op, -ECANCELED, NULL);
}

static void wait_for_signal(struct wh__op *op, int signal_number)
{
	wh_sim *sim = wh__sim_of(op->loop);
	uint64_t bit = UINT64_C(1) << (signal_number - 1);
	if (!sim->has_power) {
		wh__op_complete(op, -WH_ESIM_POWER_CUT, NULL);
		return;
	}
	sim->signals_watched |= bit;
	if (sim->signals_pending & bit) {
		sim->signals_pending &= ~bit;
		wh__op_complete(op, signal_number, NULL);
		return;
	}
	op->len = (uint64_t)signal_number;
	op->cancel_inner = cancel_signal;
	op->next = sim->signal_waits;
	if (op->next)
		op->next->prev = op;
	sim->signal_waits = op;
}

int wh_sim_signal(wh_sim *sim, int signal_number)
{
	if (signal_number <= 0 || signal_number >= NSIG || signal_number > 64)
		return -EINVAL;
	uint64_t bit = UINT64_C(1) << (signal_number - 1);
	if (!(sim->signals_watched & bit))
		return -ENOENT;
	bool told = false;
	struct wh__op *next;
	for (struct wh__op *op = sim->signal_waits; op; op = next) {
		next = op->next;
		if (op->len != (uint64_t)signal_number)
			continue;
		unlink_wait(sim, op);
		wh__op_complete(op, signal_number, NULL);
		told = true;
	}
	if (!told)
		sim->signals_pending |= bit;
	wh__sim_trace(sim->world, bit);
	return 0;
}

/* ---- the rest of an engine ---------------------------------------------------------------- */

static void wake(wh_loop *loop)
{
	/* wh__sim_wait() looks at the inboxes of all loops by itself */
}

static int init(wh_loop *loop, const struct wh_loop_options *options)
{
	wh_sim *sim = options->sim;
	if (!sim)
		return -EINVAL;
	if (!sim->has_power)
		return -WH_ESIM_POWER_CUT;
	loop->engine_state = sim;
	return wh__sim_add_loop(loop);
}

static int64_t now(const wh_loop *loop)
{
	wh_sim *sim = wh__sim_of(loop);
	sim->world->now += LOOK_NS;
	return wh__sim_clock(sim);
}

static int64_t wall_now(const wh_loop *loop)
{
	(void)now(loop);
	return wh__sim_of(loop)->world->now + WH__SIM_FIRST_DAY;
}

static void random_bytes(wh_loop *loop, void *bytes, size_t len)
{
	struct wh_sim_world *world = wh__sim_of(loop)->world;
	for (size_t i = 0; i < len; i++)
		((uint8_t *)bytes)[i] = (uint8_t)wh__sim_next(&world->random);
}

/* The caller's thread does it: time passes, and nothing else happens meanwhile. */
static int64_t execute(struct wh__op *op, void **ret_ptr)
{
	wh__sim_of(op->loop)->world->now += wh__sim_start(op);
	return wh__sim_execute(op, ret_ptr);
}

const struct wh__engine wh__engine_sim = {
	.name = "sim",
	.init = init,
	.submit = submit,
	.cancel = cancel,
	.close_fd = close_fd,
	.wait = wh__sim_wait,
	.wake = wake,
	.fini = wh__sim_remove_loop,
	.now = now,
	.wall_now = wall_now,
	.random = random_bytes,
	.execute = execute,
	.sockets = &wh__sim_sockets,
	.lookup = wh__sim_lookup,
	.signal = wait_for_signal,
};
