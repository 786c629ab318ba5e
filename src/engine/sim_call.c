/* src/engine/sim_call.c -- calls of a simulated machine: disk calls, work, how long each takes, and their faults. See sim.h. */
#include "engine/execute.h"
#include "engine/sim.h"
#include "runtime/arguments.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

/* ---- faults that were asked for ----------------------------------------------------------- */

uint32_t wh__sim_kind(const struct wh__op *op)
{
	switch (op->opcode) {
	case WH__OP_OPEN:
		return WH_SIM_OPENS;
	case WH__OP_PREAD:
	case WH__OP_READ:
	case WH__OP_PREADV:
	case WH__OP_READV:
		return WH_SIM_READS;
	case WH__OP_PWRITE:
	case WH__OP_WRITE:
	case WH__OP_PWRITEV:
	case WH__OP_WRITEV:
	case WH__OP_TRUNCATE:
	case WH__OP_ALLOCATE:
	case WH__OP_COPY_RANGE:
		return WH_SIM_WRITES;
	case WH__OP_FSYNC:
		return WH_SIM_FSYNCS;
	case WH__OP_ACCEPT:
		return WH_SIM_ACCEPTS;
	case WH__OP_CONNECT:
		return WH_SIM_CONNECTS;
	case WH__OP_RECV:
	case WH__OP_RECV_BUF:
	case WH__OP_RECV_MESSAGE:
	case WH__OP_RECV_FROM:
		return WH_SIM_RECEIVES;
	case WH__OP_SEND:
	case WH__OP_SENDV:
	case WH__OP_SEND_MESSAGE:
	case WH__OP_SEND_FILE:
		return WH_SIM_SENDS;
	case WH__OP_WORK:
		return WH_SIM_WORKS;
	case WH__OP_CLOSE:
	case WH__OP_READY:
		return 0;
	default:
		return WH_SIM_NAMES;
	}
}

int wh__sim_fault(wh_sim *sim, uint32_t kind, int64_t *ret_late)
{
	for (size_t i = 0; i < sim->faults_count; i++) {
		const struct wh_sim_fault *fault = &sim->faults[i].fault;
		if (!(fault->kinds & kind))
			continue;
		uint64_t number = sim->faults[i].seen++;
		if (number < fault->skip_count ||
		    (fault->count > 0 && number >= fault->skip_count + fault->count) ||
		    (fault->percent > 0 && !wh__sim_chance(&sim->random, fault->percent)))
			continue;
		if (ret_late)
			*ret_late = fault->late_ns;
		return fault->error;
	}
	return 0;
}

int wh_sim_add_fault(wh_sim *sim, const struct wh_sim_fault *fault)
{
	if (!fault || fault->kinds == 0 || fault->kinds & ~(uint32_t)WH_SIM_EVERYTHING ||
	    fault->percent > 100 || fault->error < 0 || fault->error > WH__SIM_ERROR || fault->late_ns < 0)
		return -EINVAL;
	if (sim->faults_count == WH__SIM_FAULTS_MAX)
		return -ENOSPC;
	sim->faults[sim->faults_count].fault = *fault;
	sim->faults[sim->faults_count++].seen = 0;
	return 0;
}

void wh_sim_clear_faults(wh_sim *sim)
{
	sim->faults_count = 0;
}

/* ---- disk calls --------------------------------------------------------------------------- */

bool wh__sim_changes_the_disk(const struct wh__op *op)
{
	switch (op->opcode) {
	case WH__OP_OPEN:
	case WH__OP_PWRITE:
	case WH__OP_WRITE:
	case WH__OP_PWRITEV:
	case WH__OP_WRITEV:
	case WH__OP_TRUNCATE:
	case WH__OP_ALLOCATE:
	case WH__OP_COPY_RANGE:
	case WH__OP_RENAME:
	case WH__OP_LINK:
	case WH__OP_UNLINK:
	case WH__OP_MKDIR:
	case WH__OP_SYMLINK:
	case WH__OP_TEMPORARY:
	case WH__OP_CHMOD:
	case WH__OP_CHOWN:
	case WH__OP_TIMES:
		return true;
	default:
		return false;
	}
}

static int64_t flush(struct wh__op *op)
{
	wh_sim *sim = wh__sim_of(op->loop);
	struct wh__disk_flush *flush = op->engine_data;
	op->engine_data = NULL;
	if (!flush) {
		int64_t error = wh__disk_flush_begin(sim->disk, op->fd, &flush);
		if (error != 0)
			return error;
		if (op->flags & WH__DATA_ONLY)
			wh__disk_flush_data_only(flush);
	}
	return wh__disk_flush_end(sim->disk, flush);
}

void wh__sim_flush_start(struct wh__op *op)
{
	struct wh__disk_flush *flush = NULL;
	(void)wh__disk_flush_begin(wh__sim_of(op->loop)->disk, op->fd,
	                           &flush); /* an error comes again when it ends */
	if (flush && op->flags & WH__DATA_ONLY)
		wh__disk_flush_data_only(flush);
	op->engine_data = flush;
}

void wh__sim_flush_forget(struct wh__op *op)
{
	struct wh__disk_flush *flush = op->engine_data;
	op->engine_data = NULL;
	if (flush)
		wh__disk_flush_abandon(wh__sim_of(op->loop)->disk, flush);
}

static int64_t status(wh_sim *sim, const struct wh__op *op)
{
	const struct wh__stat_arguments *arguments = op->buf;
	const char *path = arguments->path;
	struct wh_stat *ret = op->second;
	mode_t mode;
	if (op->len & ~(uint64_t)(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH))
		return -EINVAL;
	if (wh__socket_has_name(sim, path, &mode)) {
		*ret = (struct wh_stat){.type = WH_FILE_SOCKET, .mode = mode & 07777, .links = 1};
		ret->accessed_ns = ret->modified_ns = ret->changed_ns = ret->created_ns = WH_TIME_UNKNOWN;
		return 0;
	}
	return wh__disk_status(sim->disk, op->fd, !*path && op->len & AT_EMPTY_PATH ? NULL : path,
	                       !(op->len & AT_SYMLINK_NOFOLLOW), ret);
}

static int64_t set_times(struct wh__disk *disk, const struct wh__op *op)
{
	const struct wh__times_arguments *arguments = op->buf;
	if (op->len & ~(uint64_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	return wh__disk_set_times(disk, op->fd, op->len & AT_EMPTY_PATH ? NULL : arguments->path,
	                          arguments->times, !(op->len & AT_SYMLINK_NOFOLLOW));
}

static int64_t set_owner(struct wh__disk *disk, const struct wh__op *op)
{
	if (op->buf && op->len & ~(uint64_t)AT_SYMLINK_NOFOLLOW)
		return -EINVAL;
	return wh__disk_chown(disk, op->fd, op->buf, (uint32_t)(op->off >> 32), (uint32_t)op->off,
	                      !(op->len & AT_SYMLINK_NOFOLLOW));
}

static int64_t may_access(const struct wh__disk *disk, const struct wh__op *op)
{
	if (op->len & ~(uint64_t)(AT_SYMLINK_NOFOLLOW | AT_EACCESS))
		return -EINVAL;
	return wh__disk_access(disk, op->fd, op->buf, (int)op->off, !(op->len & AT_SYMLINK_NOFOLLOW));
}

static int64_t copy_range(struct wh__disk *disk, const struct wh__op *op)
{
	const struct wh__arguments *arguments = op->buf;
	return wh__disk_copy(disk, op->fd, op->off, arguments->source.fd, arguments->source.off, op->len);
}

static int64_t call_on_name(wh_sim *sim, const struct wh__op *op, void **ret_ptr)
{
	struct wh__disk *disk = sim->disk;
	int to_directory = (int)(op->len >> 32);
	switch (op->opcode) {
	case WH__OP_OPEN:
		return wh__socket_has_name(sim, op->buf, NULL)
		               ? -ENXIO
		               : wh__disk_open_at(disk, op->fd, op->buf, (int)op->len, (mode_t)op->off);
	case WH__OP_STAT:
		return status(sim, op);
	case WH__OP_RENAME:
		return wh__disk_rename_at(disk, op->fd, op->buf, to_directory, op->second,
		                          (unsigned int)op->len);
	case WH__OP_LINK:
		return (uint32_t)op->len & ~(uint32_t)AT_SYMLINK_FOLLOW
		               ? -EINVAL
		               : wh__disk_link(disk, op->fd, op->buf, to_directory, op->second,
		                               (uint32_t)op->len & AT_SYMLINK_FOLLOW);
	case WH__OP_UNLINK:
		if (op->len == AT_REMOVEDIR)
			return wh__disk_rmdir(disk, op->fd, op->buf);
		if (op->len != 0)
			return -EINVAL;
		return wh__socket_unlink_name(sim, op->buf) ? 0 : wh__disk_unlink_at(disk, op->fd, op->buf);
	case WH__OP_MKDIR:
		return wh__disk_mkdir_at(disk, op->fd, op->buf, (mode_t)op->off);
	case WH__OP_SYMLINK:
		return wh__disk_symlink(disk, op->second, op->fd, op->buf);
	case WH__OP_READLINK:
		return wh__disk_readlink(disk, op->fd, op->buf, op->second, op->len);
	case WH__OP_REALPATH:
		return wh__disk_realpath(disk, op->buf, op->second, op->len);
	case WH__OP_TEMPORARY:
		return wh__disk_temporary(disk, op->second, (int)op->len);
	case WH__OP_ACCESS:
		return may_access(disk, op);
	case WH__OP_CHMOD:
		return wh__disk_chmod(disk, op->fd, op->buf, (mode_t)op->off);
	case WH__OP_CHOWN:
		return set_owner(disk, op);
	case WH__OP_TIMES:
		return set_times(disk, op);
	case WH__OP_LIST:
		return wh__disk_list(disk, op->buf, ret_ptr);
	default:
		return -ENOSYS;
	}
}

/* Each part as if it were the only one; a short one ends it. */
static int64_t call_vector(struct wh__disk *disk, struct wh__op *op, uint64_t len)
{
	const struct iovec *iov = op->buf;
	bool all = op->flags & WH__ALL;
	int64_t n = 0, total = 0;
	for (uint64_t i = 0; i < op->len && len > 0; i++) {
		uint64_t part = iov[i].iov_len < len ? iov[i].iov_len : len;
		uint64_t off = op->off + (uint64_t)total;
		if (op->opcode == WH__OP_PREADV)
			n = wh__disk_pread(disk, op->fd, iov[i].iov_base, part, off);
		else if (op->opcode == WH__OP_PWRITEV)
			n = wh__disk_pwrite(disk, op->fd, iov[i].iov_base, part, off, all);
		else if (op->opcode == WH__OP_READV)
			n = wh__disk_read(disk, op->fd, iov[i].iov_base, part);
		else
			n = wh__disk_write(disk, op->fd, iov[i].iov_base, part, all);
		if (n < 0)
			return total > 0 && !all ? total : n;
		total += n;
		len -= part;
		if ((uint64_t)n < part)
			break;
	}
	return total;
}

int64_t wh__sim_call(struct wh__op *op, uint64_t len, void **ret_ptr)
{
	wh_sim *sim = wh__sim_of(op->loop);
	struct wh__disk *disk = sim->disk;
	bool all = op->flags & WH__ALL;
	if (wh__socket_is_number(op->fd))
		return wh__socket_call(sim, op);
	switch (op->opcode) {
	case WH__OP_PREADV:
	case WH__OP_PWRITEV:
	case WH__OP_READV:
	case WH__OP_WRITEV:
		return call_vector(disk, op, len);
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
		return flush(op);
	case WH__OP_TRUNCATE:
		return wh__disk_truncate(disk, op->fd, op->len);
	case WH__OP_ALLOCATE:
		return wh__disk_allocate(disk, op->fd, (int)op->done, op->off, op->len);
	case WH__OP_SIZE:
		return wh__disk_size(disk, op->fd);
	case WH__OP_LOCK:
		return wh__disk_flock(disk, op->fd, (int)op->len);
	case WH__OP_COPY_RANGE:
		return copy_range(disk, op);
	case WH__OP_ENTRIES:
		return wh__disk_entries(disk, op->fd, ret_ptr);
	case WH__OP_DISK_FREE:
		return wh__disk_disk_free(disk, op->fd);
	case WH__OP_ADVISE:
	case WH__OP_SYNC_RANGE:
		return wh__disk_is_open(disk, op->fd) ? 0 : -EBADF; /* both are hints */
	case WH__OP_SEND_FILE:
		return wh__socket_send_file(sim, op);
	case WH__OP_READY:
		return wh__disk_is_open(disk, op->fd) ? (int64_t)(op->len & (POLLIN | POLLOUT)) : -EBADF;
	default:
		return call_on_name(sim, op, ret_ptr);
	}
}

static bool transfers(const struct wh__op *op)
{
	return op->opcode == WH__OP_PREAD || op->opcode == WH__OP_PWRITE || op->opcode == WH__OP_READ ||
	       op->opcode == WH__OP_WRITE || wh__op_has_vector(op);
}

static bool writes(const struct wh__op *op)
{
	return op->opcode == WH__OP_PWRITE || op->opcode == WH__OP_WRITE || op->opcode == WH__OP_PWRITEV ||
	       op->opcode == WH__OP_WRITEV;
}

static uint64_t bytes_of(const struct wh__op *op)
{
	return wh__op_has_vector(op) ? wh__vector_bytes(op->buf, op->len) : op->len;
}

/* Some bytes of len, but not all. */
static uint64_t some(wh_sim *sim, const struct wh__op *op, uint64_t len)
{
	uint64_t unit = wh__disk_is_direct(sim->disk, op->fd) ? WH__SECTOR_BYTES : 1;
	return len > unit ? (1 + wh__sim_below(&sim->random, len / unit)) * unit : len;
}

/* The call fails. What a failed write has written before, nobody knows. */
static int64_t fail(struct wh__op *op, int error)
{
	wh_sim *sim = wh__sim_of(op->loop);
	void *ptr = NULL;
	if (op->opcode == WH__OP_FSYNC && wh__disk_is_open(sim->disk, op->fd)) {
		if (!op->engine_data)
			wh__sim_flush_start(op);
		struct wh__disk_flush *flush = op->engine_data;
		op->engine_data = NULL;
		return flush ? wh__disk_flush_fail(sim->disk, flush, error) : -ENOMEM;
	}
	if (writes(op) && wh__sim_chance(&sim->random, 50))
		(void)wh__sim_call(op, some(sim, op, bytes_of(op)), &ptr);
	/* Linux frees the number even then: close(2) */
	if (op->opcode == WH__OP_CLOSE)
		(void)wh__sim_call(op, 0, &ptr);
	return -error;
}

static bool fails_now(const wh_sim *sim)
{
	const struct wh_sim_options *options = &sim->options;
	if (options->fail_at_io == 0)
		return false;
	return options->fail_from_then_on ? sim->io_count >= options->fail_at_io
	                                  : sim->io_count == options->fail_at_io;
}

static const char *name_of(const struct wh__op *op)
{
	static const char *const names[WH__OP__MAX] = {
		[WH__OP_OPEN] = "open",         [WH__OP_CLOSE] = "close",
		[WH__OP_PREAD] = "pread",       [WH__OP_PWRITE] = "pwrite",
		[WH__OP_FSYNC] = "fsync",       [WH__OP_TRUNCATE] = "truncate",
		[WH__OP_ALLOCATE] = "allocate", [WH__OP_SIZE] = "size",
		[WH__OP_LOCK] = "lock",         [WH__OP_RENAME] = "rename",
		[WH__OP_UNLINK] = "unlink",     [WH__OP_MKDIR] = "mkdir",
		[WH__OP_LIST] = "list",         [WH__OP_READ] = "read",
		[WH__OP_WRITE] = "write",       [WH__OP_DISK_FREE] = "disk_free",
		[WH__OP_ACCEPT] = "accept",     [WH__OP_CONNECT] = "connect",
		[WH__OP_RECV] = "recv",         [WH__OP_RECV_BUF] = "recv_buf",
		[WH__OP_SEND] = "send",         [WH__OP_SENDV] = "sendv",
		[WH__OP_READY] = "ready",       [WH__OP_WORK] = "work",
		[WH__OP_PREADV] = "preadv",     [WH__OP_PWRITEV] = "pwritev",
		[WH__OP_READV] = "readv",       [WH__OP_WRITEV] = "writev",
		[WH__OP_LINK] = "link",         [WH__OP_STAT] = "stat",
		[WH__OP_ENTRIES] = "entries",   [WH__OP_COPY_RANGE] = "copy_range",
		[WH__OP_SYMLINK] = "symlink",   [WH__OP_READLINK] = "readlink",
		[WH__OP_REALPATH] = "realpath", [WH__OP_TEMPORARY] = "temporary",
		[WH__OP_ACCESS] = "access",     [WH__OP_CHMOD] = "chmod",
		[WH__OP_CHOWN] = "chown",       [WH__OP_TIMES] = "set_times"};
	return names[op->opcode] ? names[op->opcode] : "operation";
}

static bool has_path(const struct wh__op *op)
{
	return op->opcode == WH__OP_OPEN || op->opcode == WH__OP_RENAME || op->opcode == WH__OP_UNLINK ||
	       op->opcode == WH__OP_MKDIR || op->opcode == WH__OP_LIST || op->opcode == WH__OP_LINK;
}

void wh__sim_note(const struct wh__op *op, int64_t n)
{
	wh_sim *sim = wh__sim_of(op->loop);
	const uint64_t seen[] = {sim->host.number, op->opcode,  (uint64_t)op->fd,
	                         op->len,          (uint64_t)n, (uint64_t)sim->world->now};
	for (size_t i = 0; i < sizeof seen / sizeof *seen; i++)
		wh__sim_trace(sim->world, seen[i]);
	if (!op->loop->options.log || op->opcode == WH__OP_WORK)
		return;
	bool path = has_path(op);
	wh__notice(op->loop, WH_LOG_DEBUG, "sim: %llu: %s(%s%s%s, fd %d, %llu bytes at %llu) = %lld",
	           (unsigned long long)sim->io_count, name_of(op), path ? (const char *)op->buf : "",
	           op->opcode == WH__OP_RENAME ? " -> " : "",
	           op->opcode == WH__OP_RENAME ? (const char *)op->second : "", op->fd,
	           (unsigned long long)op->len, path ? 0 : (unsigned long long)op->off, (long long)n);
}

int64_t wh__sim_execute(struct wh__op *op, void **ret_ptr)
{
	wh_sim *sim = wh__sim_of(op->loop);
	int64_t n;
	*ret_ptr = NULL;
	if (!sim->has_power)
		return -WH_ESIM_POWER_CUT;
	int error = (int)(op->engine_state & WH__SIM_ERROR);
	if (op->opcode == WH__OP_WORK) {
		/* user code, which on other engines runs on another thread: nothing of the loop is its own */
		wh__registry_disown(op->loop);
		n = error != 0 ? -error : op->work(op->buf);
		wh__registry_reown(op->loop);
		wh__sim_note(op, n);
		return n;
	}
	if (wh__socket_is_number(op->fd)) {
		n = error != 0 ? -error : wh__sim_call(op, op->len, ret_ptr);
		wh__sim_note(op, n);
		return n;
	}
	sim->io_count++;
	if (sim->io_count == sim->options.crash_at_io) {
		if (op->opcode == WH__OP_FSYNC)
			wh__sim_flush_forget(op);
		wh_sim_power_cut(sim);
		n = -WH_ESIM_POWER_CUT;
	} else if (fails_now(sim)) {
		n = fail(op, sim->options.fail_error);
	} else if (error != 0) {
		n = fail(op, error);
	} else {
		uint64_t len = bytes_of(op);
		if (transfers(op) && wh__sim_is_short(sim->world, op))
			len = some(sim, op, len);
		n = wh__sim_call(op, len, ret_ptr);
	}
	wh__sim_note(op, n);
	return n;
}

bool wh__sim_is_short(struct wh_sim_world *world, const struct wh__op *op)
{
	return !(op->flags & WH__ALL) && world->options.short_percent > 0 &&
	       wh__sim_chance(&world->random, (unsigned)world->options.short_percent);
}

/* ---- how long it takes -------------------------------------------------------------------- */

/* From least to most, each doubling half as likely as the one before. */
static int64_t between(struct wh_sim_world *world, int64_t least, int64_t most)
{
	int64_t ns = least;
	if (world->options.order == WH_SIM_FIFO)
		return least;
	while (ns < most && wh__sim_chance(&world->random, 50))
		ns *= 2;
	return ns + (int64_t)wh__sim_below(&world->random, (uint64_t)ns);
}

int64_t wh__sim_latency(struct wh__op *op)
{
	struct wh_sim_world *world = wh__sim_of(op->loop)->world;
	if (wh__socket_is_number(op->fd))
		return between(world, 500, 50 * WH_NS_PER_US);
	switch (op->opcode) {
	case WH__OP_PREAD:
	case WH__OP_READ:
	case WH__OP_PREADV:
	case WH__OP_READV:
		return between(world, 1000, 400 * WH_NS_PER_US);
	case WH__OP_PWRITE:
	case WH__OP_WRITE:
	case WH__OP_PWRITEV:
	case WH__OP_WRITEV:
		return between(world, 2000, 200 * WH_NS_PER_US);
	case WH__OP_FSYNC:
		return between(world, 40 * WH_NS_PER_US, 40 * WH_NS_PER_MS);
	case WH__OP_WORK:
		return between(world, 1000, 4 * WH_NS_PER_MS);
	default:
		return between(world, 2000, WH_NS_PER_MS);
	}
}

int64_t wh__sim_start(struct wh__op *op)
{
	wh_sim *sim = wh__sim_of(op->loop);
	int64_t late = 0, error = 0;
	if (sim->faults_count > 0 && wh__sim_kind(op) != 0)
		error = wh__sim_fault(sim, wh__sim_kind(op), &late);
	op->engine_state |= (uint32_t)error;
	return late + wh__sim_latency(op);
}
