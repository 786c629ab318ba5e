/* src/engine/sim_machine.c -- a simulated machine: opened, losing power, started again; its disk calls and their
 * faults. See sim.h. */
#include "engine/sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_DAY (INT64_C(1767225600) * WH_NS_PER_S) /* 2026-01-01 */
#define UPTIME    (3 * WH_NS_PER_S)                   /* of a machine when its first program runs */

/* ---- open, cut, restart, close ------------------------------------------------------------ */

static int check_options(const struct wh_sim_options *options)
{
	return options && options->fail_at_io != 0 && options->fail_error <= 0 ? -EINVAL : 0;
}

static void set_options(struct wh_sim *sim, const struct wh_sim_options *options)
{
	sim->options = *options;
	sim->random.state = wh__sim_mix(options->seed + 1);
	wh__disk_set_capacity(sim->disk, options->disk_bytes);
}

int wh_sim_open(wh_sim **ret, const struct wh_sim_options *options)
{
	static const struct wh_sim_options defaults;
	int error = check_options(options);
	if (error != 0)
		return error;
	struct wh_sim *sim = calloc(1, sizeof *sim);
	if (!sim)
		return -ENOMEM;
	sim->disk = wh__disk_new(&sim->random);
	if (!sim->disk) {
		free(sim);
		return -ENOMEM;
	}
	set_options(sim, options ? options : &defaults);
	sim->now = UPTIME;
	sim->wall_offset = FIRST_DAY - UPTIME;
	sim->has_power = true;
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

static bool changes_the_disk(const struct wh__op *op)
{
	switch (op->opcode) {
	case WH__OP_OPEN:
	case WH__OP_PWRITE:
	case WH__OP_WRITE:
	case WH__OP_TRUNCATE:
	case WH__OP_ALLOCATE:
	case WH__OP_RENAME:
	case WH__OP_UNLINK:
	case WH__OP_MKDIR:
		return true;
	default:
		return false;
	}
}

static int64_t call(struct wh_sim *sim, struct wh__op *op, uint64_t len, void **ret_ptr);

void wh_sim_power_cut(wh_sim *sim)
{
	if (!sim->has_power)
		return;
	sim->has_power = false;
	/* what was under way may have been done or not; nobody learns of it */
	for (size_t i = 0; i < sim->flights_count; i++) {
		struct wh__op *op = sim->flights[i].op;
		void *ptr = NULL;
		bool done = wh__sim_chance(&sim->random, 50);
		if (op->opcode == WH__OP_FSYNC && !done)
			wh__sim_flush_forget(sim, op);
		else if (op->opcode == WH__OP_FSYNC || (changes_the_disk(op) && done))
			(void)call(sim, op, op->len, &ptr);
	}
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
	if (damage == WH_SIM_KILLED) {
		wh__disk_close_all(sim->disk);
		sim->now += WH_NS_PER_S;
	} else {
		wh__disk_power_cut(sim->disk, damage);
		int64_t down = (int64_t)wh__sim_below(&sim->random, 60) * WH_NS_PER_S;
		sim->wall_offset += sim->now + down - UPTIME;
		sim->now = UPTIME;
	}
	sim->io_count = 0;
	sim->has_power = true;
	return 0;
}

wh_sim *wh_sim_close(wh_sim *sim)
{
	if (!sim)
		return NULL;
	assert(sim->loops_count == 0); /* a loop borrows its machine */
	wh__disk_free(sim->disk);
	free(sim->loops);
	free(sim->flights);
	free(sim);
	return NULL;
}

/* ---- disk calls --------------------------------------------------------------------------- */

static int64_t flush(struct wh_sim *sim, struct wh__op *op)
{
	struct wh__disk_flush *flush = op->engine_data;
	op->engine_data = NULL;
	if (!flush) {
		int64_t error = wh__disk_flush_begin(sim->disk, op->fd, &flush);
		if (error != 0)
			return error;
	}
	return wh__disk_flush_end(sim->disk, flush);
}

void wh__sim_flush_start(struct wh_sim *sim, struct wh__op *op)
{
	struct wh__disk_flush *flush = NULL;
	(void)wh__disk_flush_begin(sim->disk, op->fd, &flush); /* an error comes again when it ends */
	op->engine_data = flush;
}

void wh__sim_flush_forget(struct wh_sim *sim, struct wh__op *op)
{
	struct wh__disk_flush *flush = op->engine_data;
	op->engine_data = NULL;
	if (flush)
		wh__disk_flush_abandon(sim->disk, flush);
}

static int64_t call(struct wh_sim *sim, struct wh__op *op, uint64_t len, void **ret_ptr)
{
	struct wh__disk *disk = sim->disk;
	bool all = op->flags & WH__ALL;
	switch (op->opcode) {
	case WH__OP_OPEN:
		return wh__disk_open(disk, op->buf, (int)op->len);
	case WH__OP_CLOSE:
		return wh__disk_close(disk, op->fd);
	case WH__OP_PREAD:
		return wh__disk_pread(disk, op->fd, op->buf, len, op->off);
	case WH__OP_PWRITE:
		return wh__disk_pwrite(disk, op->fd, op->buf, len, op->off, all);
	case WH__OP_READ:
		return wh__disk_read(disk, op->fd, op->buf, len);
	case WH__OP_WRITE:
		return wh__disk_write(disk, op->fd, op->buf, len, all);
	case WH__OP_FSYNC:
		return flush(sim, op);
	case WH__OP_TRUNCATE:
		return wh__disk_truncate(disk, op->fd, op->len);
	case WH__OP_ALLOCATE:
		return wh__disk_allocate(disk, op->fd, op->off, op->len);
	case WH__OP_SIZE:
		return wh__disk_size(disk, op->fd);
	case WH__OP_LOCK:
		return wh__disk_lock(disk, op->fd);
	case WH__OP_RENAME:
		return wh__disk_rename(disk, op->buf, op->second);
	case WH__OP_UNLINK:
		return wh__disk_unlink(disk, op->buf);
	case WH__OP_MKDIR:
		return wh__disk_mkdir(disk, op->buf);
	case WH__OP_LIST:
		return wh__disk_list(disk, op->buf, ret_ptr);
	case WH__OP_DISK_FREE:
		return wh__disk_disk_free(disk, op->fd);
	default:
		return -ENOSYS;
	}
}

static bool transfers(const struct wh__op *op)
{
	return op->opcode == WH__OP_PREAD || op->opcode == WH__OP_PWRITE || op->opcode == WH__OP_READ ||
	       op->opcode == WH__OP_WRITE;
}

/* Some bytes of len, but not all. */
static uint64_t some(struct wh_sim *sim, const struct wh__op *op, uint64_t len)
{
	uint64_t unit = wh__disk_is_direct(sim->disk, op->fd) ? WH__SECTOR_BYTES : 1;
	return len > unit ? (1 + wh__sim_below(&sim->random, len / unit)) * unit : len;
}

/* The call fails. What a failed write has written before, nobody knows. */
static int64_t fail(struct wh_sim *sim, struct wh__op *op)
{
	int error = sim->options.fail_error;
	void *ptr = NULL;
	if (op->opcode == WH__OP_FSYNC && wh__disk_is_open(sim->disk, op->fd)) {
		if (!op->engine_data)
			wh__sim_flush_start(sim, op);
		struct wh__disk_flush *flush = op->engine_data;
		op->engine_data = NULL;
		return flush ? wh__disk_flush_fail(sim->disk, flush, error) : -ENOMEM;
	}
	if ((op->opcode == WH__OP_PWRITE || op->opcode == WH__OP_WRITE) && wh__sim_chance(&sim->random, 50))
		(void)call(sim, op, some(sim, op, op->len), &ptr);
	/* Linux frees the number even then: close(2) */
	if (op->opcode == WH__OP_CLOSE)
		(void)call(sim, op, 0, &ptr);
	return -error;
}

static bool fails_now(const struct wh_sim *sim)
{
	const struct wh_sim_options *options = &sim->options;
	if (options->fail_at_io == 0)
		return false;
	return options->fail_from_then_on ? sim->io_count >= options->fail_at_io
	                                  : sim->io_count == options->fail_at_io;
}

static void note(struct wh_sim *sim, const struct wh__op *op, int64_t n)
{
	static const char *const names[WH__OP__MAX] = {
		[WH__OP_OPEN] = "open",          [WH__OP_CLOSE] = "close",   [WH__OP_PREAD] = "pread",
		[WH__OP_PWRITE] = "pwrite",      [WH__OP_FSYNC] = "fsync",   [WH__OP_TRUNCATE] = "truncate",
		[WH__OP_ALLOCATE] = "allocate",  [WH__OP_SIZE] = "size",     [WH__OP_LOCK] = "lock",
		[WH__OP_RENAME] = "rename",      [WH__OP_UNLINK] = "unlink", [WH__OP_MKDIR] = "mkdir",
		[WH__OP_LIST] = "list",          [WH__OP_READ] = "read",     [WH__OP_WRITE] = "write",
		[WH__OP_DISK_FREE] = "disk_free"};
	const uint64_t seen[] = {op->opcode, (uint64_t)op->fd, op->len, (uint64_t)n, (uint64_t)sim->now};
	for (size_t i = 0; i < sizeof seen / sizeof *seen; i++)
		sim->trace = wh__sim_mix(sim->trace * 31 + seen[i]);
	if (!op->loop->options.log || op->opcode == WH__OP_WORK)
		return;
	bool has_path = op->fd < 0;
	wh__notice(op->loop, WH_LOG_DEBUG, "sim: %llu: %s(%s%s%s, fd %d, %llu bytes at %llu) = %lld",
	           (unsigned long long)sim->io_count, names[op->opcode],
	           has_path ? (const char *)op->buf : "", op->opcode == WH__OP_RENAME ? " -> " : "",
	           op->opcode == WH__OP_RENAME ? (const char *)op->second : "", op->fd,
	           (unsigned long long)op->len, has_path ? 0 : (unsigned long long)op->off, (long long)n);
}

int64_t wh__sim_execute(struct wh_sim *sim, struct wh__op *op, void **ret_ptr)
{
	int64_t n;
	*ret_ptr = NULL;
	if (!sim->has_power)
		return -WH_ESIM_POWER_CUT;
	if (op->opcode == WH__OP_WORK) {
		n = op->work(op->buf);
		note(sim, op, n);
		return n;
	}
	sim->io_count++;
	if (sim->io_count == sim->options.crash_at_io) {
		if (op->opcode == WH__OP_FSYNC)
			wh__sim_flush_forget(sim, op);
		wh_sim_power_cut(sim);
		n = -WH_ESIM_POWER_CUT;
	} else if (fails_now(sim)) {
		n = fail(sim, op);
	} else {
		uint64_t len = op->len;
		if (transfers(op) && !(op->flags & WH__ALL) && wh__sim_chance(&sim->random, 10))
			len = some(sim, op, len);
		n = call(sim, op, len, ret_ptr);
	}
	note(sim, op, n);
	return n;
}

/* From least to most, each doubling half as likely as the one before. */
static int64_t between(struct wh_sim *sim, int64_t least, int64_t most)
{
	int64_t ns = least;
	while (ns < most && wh__sim_chance(&sim->random, 50))
		ns *= 2;
	return ns + (int64_t)wh__sim_below(&sim->random, (uint64_t)ns);
}

int64_t wh__sim_latency(struct wh_sim *sim, const struct wh__op *op)
{
	switch (op->opcode) {
	case WH__OP_PREAD:
	case WH__OP_READ:
		return between(sim, 1000, 400 * WH_NS_PER_US);
	case WH__OP_PWRITE:
	case WH__OP_WRITE:
		return between(sim, 2000, 200 * WH_NS_PER_US);
	case WH__OP_FSYNC:
		return between(sim, 40 * WH_NS_PER_US, 40 * WH_NS_PER_MS);
	case WH__OP_WORK:
		return between(sim, 1000, 4 * WH_NS_PER_MS);
	default:
		return between(sim, 2000, WH_NS_PER_MS);
	}
}
