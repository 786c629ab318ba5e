/* src/engine/sim_world.c -- a simulated world: its time, and whose turn it is.
 *
 * An operation ends a while after it was started, which chance decides, and so the order in which several end. Nothing
 * waits: when nothing is due, the clock is set to when something is. A loop that waits turns the other loops of its
 * world meanwhile, so that they run as if they had threads and machines of their own.
 *
 * Thread: the world's only one.
 */
#include "engine/sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SOCKET_BYTES = 262144, SHORT_PERCENT = 10 };

/* ---- open and close ----------------------------------------------------------------------- */

int wh_sim_world_open(wh_sim_world **ret, const struct wh_sim_world_options *options)
{
	static const struct wh_sim_world_options defaults;
	if (!options)
		options = &defaults;
	if (options->order < WH_SIM_BY_SEED || options->order > WH_SIM_FIFO || options->short_percent > 100)
		return -EINVAL;
	wh_sim_world *world = calloc(1, sizeof *world);
	if (!world)
		return -ENOMEM;
	world->options = *options;
	if (options->socket_bytes == 0)
		world->options.socket_bytes = SOCKET_BYTES;
	if (options->short_percent == 0)
		world->options.short_percent = SHORT_PERCENT;
	world->random.state = wh__sim_mix(options->seed + 1);
	wh__net_init(world);
	*ret = world;
	return 0;
}

wh_sim_world *wh_sim_world_close(wh_sim_world *world)
{
	if (!world)
		return NULL;
	assert(world->machines_count == 0); /* a machine borrows its world */
	wh__net_fini(world);
	for (size_t i = 0; i < world->names_count; i++)
		free(world->names[i].name);
	free(world->names);
	free(world->machines);
	free(world->loops);
	free(world->turning);
	free(world->flights);
	free(world);
	return NULL;
}

int64_t wh_sim_world_now(const wh_sim_world *world)
{
	return world->now;
}

uint64_t wh_sim_world_trace(const wh_sim_world *world)
{
	return world->trace;
}

uint64_t wh_sim_world_draw(wh_sim_world *world, uint64_t n)
{
	return wh__sim_below(&world->random, n);
}

int wh__sim_join(struct wh_sim_world *world, wh_sim *sim)
{
	wh_sim **machines = reallocarray(world->machines, world->machines_count + 1, sizeof *machines);
	if (!machines)
		return -ENOMEM;
	world->machines = machines;
	int error = wh__net_join(world, sim, sim->options.address);
	if (error != 0)
		return error;
	machines[world->machines_count++] = sim;
	return 0;
}

void wh__sim_leave(wh_sim *sim)
{
	struct wh_sim_world *world = sim->world;
	size_t at = 0;
	wh__net_leave(world, sim);
	while (world->machines[at] != sim)
		at++;
	world->machines_count--;
	memmove(world->machines + at, world->machines + at + 1,
	        (world->machines_count - at) * sizeof *world->machines);
}

int wh__sim_add_loop(wh_loop *loop)
{
	struct wh_sim_world *world = wh__sim_of(loop)->world;
	wh_loop **loops = reallocarray(world->loops, world->loops_count + 1, sizeof *loops);
	if (!loops)
		return -ENOMEM;
	world->loops = loops;
	if (!world->turns_others) { /* else it is walked through, and the next to be added will do */
		wh_loop **turning = reallocarray(world->turning, world->loops_count + 1, sizeof *turning);
		if (!turning)
			return -ENOMEM;
		world->turning = turning;
		world->turning_max = world->loops_count + 1;
	}
	world->loops[world->loops_count++] = loop;
	wh__sim_of(loop)->loops_count++;
	return 0;
}

void wh__sim_remove_loop(wh_loop *loop)
{
	struct wh_sim_world *world = wh__sim_of(loop)->world;
	size_t at = 0;
	while (world->loops[at] != loop)
		at++;
	world->loops_count--;
	memmove(world->loops + at, world->loops + at + 1, (world->loops_count - at) * sizeof *world->loops);
	wh__sim_of(loop)->loops_count--;
}

/* ---- operations under way ----------------------------------------------------------------- */

static bool ends_before(const struct wh__flight *a, const struct wh__flight *b)
{
	return a->due != b->due ? a->due < b->due : a->tie < b->tie;
}

int wh__sim_take_off(struct wh__op *op, int64_t due)
{
	struct wh_sim_world *world = wh__sim_of(op->loop)->world;
	if (world->flights_count == world->flights_max) {
		size_t max = world->flights_max ? world->flights_max * 2 : 64;
		struct wh__flight *flights = reallocarray(world->flights, max, sizeof *flights);
		if (!flights)
			return -ENOMEM;
		world->flights = flights;
		world->flights_max = max;
	}
	bool fifo = world->options.order == WH_SIM_FIFO;
	struct wh__flight flight = {
		.op = op, .due = due, .tie = fifo ? world->sequence++ : wh__sim_next(&world->random)};
	size_t at = world->flights_count++;
	for (; at > 0 && ends_before(&world->flights[at - 1], &flight); at--)
		world->flights[at] = world->flights[at - 1];
	world->flights[at] = flight;
	return 0;
}

static void take_out(struct wh_sim_world *world, size_t at)
{
	world->flights_count--;
	memmove(world->flights + at, world->flights + at + 1,
	        (world->flights_count - at) * sizeof *world->flights);
}

bool wh__sim_take_out(struct wh__op *op)
{
	struct wh_sim_world *world = wh__sim_of(op->loop)->world;
	size_t at = 0;
	while (at < world->flights_count && world->flights[at].op != op)
		at++;
	if (at == world->flights_count)
		return false;
	take_out(world, at);
	return true;
}

/* What of loop's is due ends. */
static bool land_due(wh_loop *loop)
{
	wh_sim *sim = wh__sim_of(loop);
	struct wh_sim_world *world = sim->world;
	bool any = false;
	for (size_t at = world->flights_count;
	     sim->has_power && at-- > 0 && world->flights[at].due <= world->now;) {
		struct wh__op *op = world->flights[at].op;
		if (op->loop != loop)
			continue;
		take_out(world, at);
		wh__sim_land(op);
		any = true;
		at = world->flights_count; /* work may have started or cancelled others */
	}
	return any;
}

static int end_without_power(wh_loop *loop)
{
	wh_sim *sim = wh__sim_of(loop);
	struct wh_sim_world *world = sim->world;
	for (size_t at = world->flights_count; at-- > 0;) {
		struct wh__op *op = world->flights[at].op;
		if (op->loop != loop)
			continue;
		take_out(world, at);
		wh__op_complete(op, -WH_ESIM_POWER_CUT, NULL);
		at = world->flights_count;
	}
	wh__socket_end_parked(sim, loop, -WH_ESIM_POWER_CUT);
	return -WH_ESIM_POWER_CUT;
}

/* ---- turns and time ----------------------------------------------------------------------- */

static bool is_paused(const wh_sim *sim)
{
	return sim->paused_until > sim->world->now;
}

static bool has_due(const wh_loop *loop)
{
	const struct wh_sim_world *world = wh__sim_of(loop)->world;
	if (loop->ready.first || loop->deferred || !wh__inbox_is_empty(loop) ||
	    wh__wheel_wait(&loop->wheel, wh__sim_clock(wh__sim_of(loop))) == 0)
		return true;
	for (size_t at = world->flights_count; at-- > 0 && world->flights[at].due <= world->now;)
		if (world->flights[at].op->loop == loop)
			return true;
	return false;
}

/* It is not being run by somebody, and its machine goes. */
static bool may_turn(const wh_loop *loop)
{
	return wh__sim_of(loop)->has_power && !loop->running && !loop->in_callback && !loop->closing &&
	       !atomic_load_explicit(&loop->stop, memory_order_relaxed);
}

static bool is_open(const struct wh_sim_world *world, const wh_loop *loop)
{
	for (size_t i = 0; i < world->loops_count; i++)
		if (world->loops[i] == loop)
			return true;
	return false;
}

static bool turn_others(struct wh_sim_world *world)
{
	/* callbacks may open and close loops: walk through a copy */
	size_t count = world->loops_count < world->turning_max ? world->loops_count : world->turning_max;
	bool fifo = world->options.order == WH_SIM_FIFO, any = false;
	size_t first = count > 1 && !fifo ? wh__sim_below(&world->random, count) : 0;
	for (size_t i = 0; i < count; i++)
		world->turning[i] = world->loops[(i + first) % count];
	world->turns_others = true;
	for (size_t i = 0; i < count; i++) {
		wh_loop *loop = world->turning[i];
		if (is_open(world, loop) && may_turn(loop) && !is_paused(wh__sim_of(loop)) && has_due(loop)) {
			(void)wh_loop_turn(loop, 0);
			any = true;
		}
	}
	world->turns_others = false;
	return any;
}

/* When something is due next that somebody sees: waiting, or a loop that may be turned; at most until. */
static int64_t next_event(const struct wh_sim_world *world, const wh_loop *waiting, int64_t until)
{
	if (wh__net_next(world) < until)
		until = wh__net_next(world);
	for (size_t at = world->flights_count; at-- > 0 && world->flights[at].due < until;) {
		const wh_loop *loop = world->flights[at].op->loop;
		bool is_waiting = waiting && loop == waiting;
		if (!is_paused(wh__sim_of(loop)) && (is_waiting || may_turn(loop)))
			until = world->flights[at].due;
	}
	for (size_t i = 0; i < world->loops_count; i++) {
		const wh_loop *loop = world->loops[i];
		const wh_sim *sim = wh__sim_of(loop);
		if (is_paused(sim) && sim->has_power && sim->paused_until < until)
			until = sim->paused_until;
		if (!may_turn(loop) || is_paused(sim))
			continue;
		int64_t ns = wh__wheel_wait(&loop->wheel, wh__sim_clock(sim));
		if (ns >= 0 && world->now + ns < until)
			until = world->now + ns;
	}
	return until;
}

int wh__sim_wait(wh_loop *loop, int64_t timeout_ns)
{
	wh_sim *sim = wh__sim_of(loop);
	struct wh_sim_world *world = sim->world;
	int64_t until = INT64_MAX;
	if (timeout_ns >= 0 && timeout_ns < INT64_MAX - world->now)
		until = world->now + timeout_ns;
	if (world->turns_others) {
		(void)land_due(loop);
		return sim->has_power ? 0 : end_without_power(loop);
	}
	world->now += (int64_t)(100 + wh__sim_below(&world->random, 1000));
	for (;;) {
		bool any = wh__net_run(world);
		bool paused = is_paused(sim);
		if (!paused && sim->has_power)
			any |= land_due(loop);
		if (world->loops_count > 1 && sim->has_power)
			any |= turn_others(world);
		if (!sim->has_power)
			return end_without_power(loop);
		if (!paused && (any || world->now >= until || !wh__inbox_is_empty(loop) ||
		                atomic_load_explicit(&loop->stop, memory_order_relaxed)))
			return 0;
		int64_t next = next_event(world, loop, paused ? sim->paused_until : until);
		if (next == INT64_MAX)
			return -EDEADLK; /* for ever: nothing will ever happen again */
		if (next > world->now)
			world->now = next;
	}
}

int wh_sim_world_run(wh_sim_world *world, int64_t ns)
{
	if (ns < 0)
		return -EINVAL;
	if (wh__thread.in_callback || world->turns_others)
		return -EDEADLK;
	for (int64_t until = world->now + ns;;) {
		bool any = wh__net_run(world);
		any |= turn_others(world);
		if (world->now >= until)
			return 0;
		int64_t next = next_event(world, NULL, until);
		if (any)
			world->now += (int64_t)(100 + wh__sim_below(&world->random, 1000));
		else if (next > world->now)
			world->now = next;
	}
}
