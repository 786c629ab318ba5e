/* src/engine/sim_machine.c -- a simulated machine: opened, losing power, started again, stopped for a while; the names that
 * it resolves. See sim.h. */
#include "engine/sim.h"
#include "engine/sim_choose.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define UPTIME (3 * WH_NS_PER_S) /* of a machine when its first program runs */

/* ---- open, cut, restart, close ------------------------------------------------------------ */

static int check_options(const struct wh_sim_options *options)
{
	return options && options->fail_at_io != 0 && options->fail_error <= 0 ? -EINVAL : 0;
}

static int64_t wall_clock(void *arg)
{
	const wh_sim *sim = arg;
	return sim->world->now + WH__SIM_FIRST_DAY;
}

static void set_options(wh_sim *sim, const struct wh_sim_options *options)
{
	sim->options = *options;
	sim->random.state = wh__sim_mix(options->seed + 1);
	if (sim->owns_world)
		sim->world->random.state = wh__sim_mix(options->seed + 2);
	wh__disk_set_capacity(sim->disk, options->disk_bytes);
	wh__disk_set_clock(sim->disk, wall_clock, sim);
}

static void boot(wh_sim *sim)
{
	sim->clock_offset = UPTIME - sim->world->now;
	sim->paused_until = 0;
	sim->faults_count = 0;
	sim->signals_watched = sim->signals_pending = 0;
	sim->io_count = 0;
	sim->has_power = true;
}

int wh_sim_open(wh_sim **ret, const struct wh_sim_options *options)
{
	static const struct wh_sim_options defaults;
	if (!options)
		options = &defaults;
	int error = check_options(options);
	if (error != 0)
		return error;
	wh_sim *sim = calloc(1, sizeof *sim);
	if (!sim)
		return -ENOMEM;
	sim->simulated.engine = &wh__engine_sim;
	sim->world = options->world;
	sim->owns_world = !sim->world;
	sim->disk = wh__disk_new(&sim->random);
	error = sim->disk ? 0 : -ENOMEM;
	if (error == 0 && sim->owns_world)
		error = wh_sim_world_open(&sim->world, NULL);
	if (error == 0) {
		set_options(sim, options);
		error = wh__sim_join(sim->world, sim);
	}
	if (error != 0) {
		if (sim->owns_world)
			wh_sim_world_close(sim->world);
		wh__disk_free(sim->disk);
		free(sim);
		return error;
	}
	sim->options.world = NULL;
	sim->options.address = NULL; /* borrowed for the call */
	boot(sim);
	*ret = sim;
	return 0;
}

bool wh_sim_has_power(const wh_sim *sim)
{
	return sim->has_power;
}

uint64_t wh_sim_io_count(const wh_sim *sim)
{
	return sim->io_count;
}

const char *wh_sim_address(const wh_sim *sim)
{
	return sim->host.text;
}

wh_sim_world *wh_sim_world_of(wh_sim *sim)
{
	return sim->world;
}

void wh_sim_pause(wh_sim *sim, int64_t ns)
{
	if (ns > 0)
		sim->paused_until = sim->world->now + ns;
}

void wh_sim_power_cut(wh_sim *sim)
{
	struct wh_sim_world *world = sim->world;
	if (!sim->has_power)
		return;
	sim->has_power = false;
	/* what was under way may have been done or not; nobody learns of it */
	for (size_t i = 0; i < world->flights_count; i++) {
		struct wh__op *op = world->flights[i].op;
		void *ptr = NULL;
		if (wh__sim_of(op->loop) != sim || wh__socket_is_number(op->fd))
			continue;
		/* of a write that was done, nothing may survive, so that one which was not need not be tried */
		bool done = wh__disk_is_chosen(sim->disk) ? op->opcode != WH__OP_FSYNC
		                                          : wh__sim_chance(&sim->random, 50);
		if (op->opcode == WH__OP_FSYNC && !done)
			wh__sim_flush_forget(op);
		else if (op->opcode == WH__OP_FSYNC || (wh__sim_changes_the_disk(op) && done))
			(void)wh__sim_call(op, op->len, &ptr);
	}
}

void wh__sim_choose(wh_sim *sim, bool (*choose)(void *arg), void *arg)
{
	wh__disk_choose(sim->disk, choose, arg);
}

int wh_sim_restart(wh_sim *sim, const struct wh_sim_options *options, int damage)
{
	int error = check_options(options);
	if (error != 0 || damage < WH_SIM_RANDOM || damage > WH_SIM_KILLED)
		return -EINVAL;
	if (sim->loops_count > 0)
		return -EBUSY;
	wh_sim_power_cut(sim);
	if (options) {
		set_options(sim, options);
	} else {
		sim->options.crash_at_io = 0;
		sim->options.fail_at_io = 0;
	}
	int64_t clock = wh__sim_clock(sim);
	sim->has_power = true;
	if (damage == WH_SIM_KILLED) {
		wh__disk_close_all(sim->disk);
		wh__socket_close_all(sim);
	} else {
		wh__disk_power_cut(sim->disk, damage);
		wh__socket_forget_all(sim);
	}
	/* others do not wait for it */
	if (sim->owns_world)
		sim->world->now += damage == WH_SIM_KILLED
		                           ? WH_NS_PER_S
		                           : (int64_t)wh__sim_below(&sim->random, 60) * WH_NS_PER_S;
	boot(sim);
	if (damage == WH_SIM_KILLED)
		sim->clock_offset = clock + (sim->owns_world ? WH_NS_PER_S : 0) - sim->world->now;
	return 0;
}

wh_sim *wh_sim_close(wh_sim *sim)
{
	if (!sim)
		return NULL;
	assert(sim->loops_count == 0); /* a loop borrows its machine */
	wh__sim_leave(sim);
	if (sim->owns_world)
		wh_sim_world_close(sim->world);
	wh__disk_free(sim->disk);
	free(sim);
	return NULL;
}

int wh_sim_add_name(wh_sim *sim, const char *name, const char *address)
{
	struct wh_sim_world *world = sim->world;
	struct wh__sim_name added;
	if (!name || !address || !wh__address_parse(&added.address, address))
		return -EINVAL;
	struct wh__sim_name *names = reallocarray(world->names, world->names_count + 1, sizeof *names);
	if (!names)
		return -ENOMEM;
	world->names = names;
	added.name = strdup(name);
	if (!added.name)
		return -ENOMEM;
	names[world->names_count++] = added;
	return 0;
}

int64_t wh__sim_lookup(wh_loop *loop, const char *host, int family, struct sockaddr_storage *ret, size_t max)
{
	const struct wh_sim_world *world = wh__sim_of(loop)->world;
	int64_t count = 0;
	bool exists = false;
	for (size_t i = 0; i < world->names_count; i++) {
		const struct wh__sim_name *name = &world->names[i];
		socklen_t len;
		if (strcasecmp(name->name, host) != 0)
			continue;
		exists = true;
		if (family != AF_UNSPEC && family != name->address.family)
			continue;
		if ((size_t)count < max)
			wh__address_write(&name->address, &ret[count], &len);
		count++;
	}
	if (count > 0)
		return count;
	return exists ? -WH_ENAME_NO_ADDRESS : -WH_ENAME_UNKNOWN;
}
