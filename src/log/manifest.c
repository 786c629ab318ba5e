/* src/log/manifest.c -- the two manifests: the valid one with the higher sequence counts, the other one is written next.
 *
 * No room for one of them, on a file system that writes a block elsewhere rather than over itself, is no failure: the other is there,
 * and what hangs on this one, letting a checkpoint or segments go, waits. Thread: the log's loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/inside.h"

enum { RETRY_MS = 100, FULL_RETRY_MS = 1000 };

static const char *const names[2] = {"manifest-a", "manifest-b"};

/* The present state of the log, as the next manifest will say it. */
void log_manifest_fill(struct log *log, uint32_t flags)
{
	struct log_manifest *manifest = &log->manifest;
	const struct log_segment *current = log_current(log);
	size_t count = log->epochs_count < LOG_EPOCHS_MAX ? log->epochs_count : LOG_EPOCHS_MAX;
	const struct log_epoch *epochs = log->epochs + (log->epochs_count - count);
	manifest->flags = flags;
	manifest->epoch = log->epoch;
	manifest->last_segment = current ? current->number : manifest->first_segment;
	manifest->durable_lsn = wh_mark_read(log->flushed);
	manifest->chain = (struct log_hash){0};
	manifest->wall_time = wh_wall_now(log->loop);
	manifest->epoch_count = (uint32_t)count;
	for (size_t i = 0; i < count; i++)
		manifest->epochs[i] =
			(struct log_manifest_epoch){epochs[i].epoch, epochs[i].reason, epochs[i].start};
}

/* ---- load -------------------------------------------------------------------------------- */

struct loaded {
	int verdict; /* LOG_BLANK: there is no such file */
	struct log_manifest manifest;
};

/* What is on the disk. After a flush that failed the page cache shows a manifest that is not there: whoever believed it
 * would write the next one over the only one that is. */
static int64_t read_block(struct log *log, const char *path, int fd)
{
	int64_t direct = log->looking ? -EINVAL : log_await(wh_open(log->loop, path, O_RDONLY | O_DIRECT, 0));
	int64_t n = -EINVAL;
	if (direct >= 0) {
		n = wh_pread_blocking(log->loop, (int)direct, log->manifest_block, LOG_BLOCK_BYTES, 0);
		(void)log_await(wh_close(log->loop, (int)direct));
	}
	/* file systems without O_DIRECT */
	if (direct == -EINVAL || n == -EINVAL)
		n = wh_pread_blocking(log->loop, fd, log->manifest_block, LOG_BLOCK_BYTES, 0);
	else if (direct < 0)
		n = direct;
	return n;
}

static int load_one(struct log *log, int slot, struct loaded *ret, struct log_problem *problem)
{
	char *path = log_path(log, "%s", names[slot]);
	if (!path)
		return log_problem_io(problem, -ENOMEM, log->path, "no memory");
	int64_t n = log_await(wh_open(log->loop, path, log->looking ? O_RDONLY : O_RDWR, 0));
	ret->verdict = LOG_BLANK;
	if (n >= 0) {
		log->manifest_fd[slot] = (int)n;
		n = log->looking ? 0 : wh_fsync_blocking(log->loop, (int)n, false);
		if (n >= 0)
			n = read_block(log, path, log->manifest_fd[slot]);
		if (n >= 0)
			ret->verdict = n == LOG_BLOCK_BYTES
			                       ? log_manifest_get(log->manifest_block, &ret->manifest)
			                       : LOG_BAD;
		if (n >= 0 && ret->verdict == LOG_BLANK)
			ret->verdict = LOG_BAD;
	}
	int status = n < 0 && n != -ENOENT ? log_problem_io(problem, n, path, "cannot read the manifest") : 0;
	if (ret->verdict == LOG_NEWER) {
		*problem = (struct log_problem){
			.kind = LOG_PROBLEM_VERSION, .error = -ENOTSUP, .exit_status = 4, .offset = 24};
		snprintf(problem->file, sizeof(problem->file), "%s", path);
		snprintf(problem->reason, sizeof(problem->reason),
		         "the folder is of a newer version of whilst");
		snprintf(problem->advice, sizeof(problem->advice), "Use that version, or a later one");
		status = -ENOTSUP;
	}
	free(path);
	return status;
}

static int refuse_damaged(struct log *log, struct log_problem *problem, int slot, const char *reason)
{
	*problem = (struct log_problem){.kind = LOG_PROBLEM_DAMAGED, .error = -WH_EDAMAGED, .exit_status = 3};
	snprintf(problem->file, sizeof(problem->file), "%s/%s", log->path, names[slot]);
	snprintf(problem->reason, sizeof(problem->reason), "%s", reason);
	snprintf(problem->advice, sizeof(problem->advice),
	         "Nothing was changed. Restore the folder from a backup, or see what `whilst log repair` "
	         "would keep of "
	         "it");
	return -WH_EDAMAGED;
}

/* *ret_found: there is a manifest (now in log->manifest); false: neither of the files is there. */
int log_manifest_load(struct log *log, bool *ret_found, struct log_problem *problem)
{
	struct loaded *loaded = calloc(2, sizeof(*loaded));
	if (!loaded)
		return log_problem_io(problem, -ENOMEM, log->path, "no memory");
	int status = 0;
	for (int slot = 0; slot < 2 && status == 0; slot++)
		status = load_one(log, slot, &loaded[slot], problem);
	bool a = loaded[0].verdict == LOG_GOOD, b = loaded[1].verdict == LOG_GOOD;
	if (status == 0 && !a && !b && (loaded[0].verdict == LOG_BAD || loaded[1].verdict == LOG_BAD))
		status = refuse_damaged(log, problem, 0, "neither of the two manifests is valid");
	if (status == 0 && a && b && !log_hash_equal(loaded[0].manifest.cluster, loaded[1].manifest.cluster))
		status = refuse_damaged(log, problem, 1, "the two manifests are of different logs");
	if (status == 0 && (a || b)) {
		int slot = !a || (b && loaded[1].manifest.sequence > loaded[0].manifest.sequence);
		log->manifests_valid[0] = a;
		log->manifests_valid[1] = b;
		log->manifest_other = loaded[!slot].manifest;
		uint64_t durable = loaded[!slot].manifest.durable_lsn;
		log->manifest_slot = slot;
		log->manifest = loaded[slot].manifest;
		log->cluster = log->manifest.cluster;
		if (a && b && durable > log->manifest.durable_lsn)
			log->manifest.durable_lsn = durable;
		if (loaded[!slot].verdict == LOG_BAD)
			log_notice(log, WH_LOG_WARNING,
			           "%s/%s is not valid (torn by a power cut, perhaps); %s is used", log->path,
			           names[!slot], names[slot]);
	}
	*ret_found = a || b;
	free(loaded);
	return status;
}

/* ---- create and save --------------------------------------------------------------------- */

/* The first manifest of a new log, which gets its name only when it is whole. */
int log_manifest_create(struct log *log, struct log_problem *problem)
{
	char *temporary = log_path(log, "manifest-a.tmp"), *path = log_path(log, "manifest-a");
	int64_t n = temporary && path ? 0 : -ENOMEM;
	int fd = -1;
	wh_random(log->loop, &log->cluster, sizeof(log->cluster));
	log->manifest = (struct log_manifest){.cluster = log->cluster, .sequence = 1};
	log->manifest.wall_time = wh_wall_now(log->loop);
	log_manifest_put(log->manifest_block, &log->manifest);
	if (n >= 0)
		n = log_await(wh_open(log->loop, temporary, O_RDWR | O_CREAT | O_TRUNC, 0600));
	if (n >= 0) {
		fd = (int)n;
		log->manifest_fd[0] = fd;
		log->manifest_slot = 0;
		n = wh_pwrite_blocking(log->loop, fd, log->manifest_block, LOG_BLOCK_BYTES, 0);
	}
	if (n >= 0)
		n = wh_fsync_blocking(log->loop, fd, false);
	if (n >= 0)
		n = log_await(wh_rename(log->loop, temporary, path));
	if (n >= 0)
		n = wh_fsync_blocking(log->loop, log->directory_fd, false);
	free(temporary);
	free(path);
	return n < 0 ? log_problem_io(problem, n, log->path, "cannot create the log") : 0;
}

/* The other slot becomes the one that counts. Its file is made when it is first needed: there is a valid one. */
static int64_t open_other(struct log *log, int slot)
{
	if (log->manifest_fd[slot] >= 0)
		return 0;
	char *path = log_path(log, "%s", names[slot]);
	if (!path)
		return -ENOMEM;
	int64_t n = log_await(wh_open(log->loop, path, O_RDWR | O_CREAT, 0600));
	free(path);
	if (n < 0)
		return n;
	log->manifest_fd[slot] = (int)n;
	return wh_fsync_blocking(log->loop, log->directory_fd, false);
}

int64_t log_manifest_save(struct log *log)
{
	int slot = !log->manifest_slot;
	log->manifest.sequence++;
	log_manifest_put(log->manifest_block, &log->manifest);
	int64_t n = open_other(log, slot);
	if (n >= 0)
		n = wh_pwrite_blocking(log->loop, log->manifest_fd[slot], log->manifest_block,
		                       LOG_BLOCK_BYTES, 0);
	if (n >= 0)
		n = wh_fsync_blocking(log->loop, log->manifest_fd[slot], false);
	if (n < 0)
		return n;
	log->manifest_slot = slot;
	log->manifest_names[slot] = log->manifest.checkpoint.lsn;
	return 0;
}

/* Both say it, and durably, as this life knows: what an earlier life has written may be in the page cache only. */
uint64_t log_manifest_checkpoint(const struct log *log)
{
	const uint64_t *named = log->manifest_names;
	return named[0] < named[1] ? named[0] : named[1];
}

static bool is_full(int64_t error)
{
	return error == -ENOSPC || error == -EDQUOT;
}

static void on_pause(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	log->manifest_saving = false;
	if (!log->closing && !log->failed)
		log_manifest_save_later(log);
}

/* From the block in memory on, so that it does not matter what a failed flush has left of it. */
static void wait_for_space(struct log *log)
{
	if (!log->manifest_full)
		log_notice(log, WH_LOG_WARNING,
		           "%s: no space to write the manifest; tried again every second", log->path);
	log->manifest_full = true;
	log_op(log, wh_sleep(log->loop, FULL_RETRY_MS * WH_NS_PER_MS), on_pause);
}

static void on_synced(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	if (is_full(res.n) && !log->closing && !log->failed) {
		wait_for_space(log);
		return;
	}
	log->manifest_saving = false;
	if (log->closing || log->failed)
		return;
	if (res.n < 0) {
		log_fail(log, res.n, "cannot flush the manifest", log->path);
		return;
	}
	log->manifest_full = false;
	log->manifest_slot = !log->manifest_slot;
	log->manifest_names[log->manifest_slot] = log->manifest_saving_checkpoint;
	if (log->manifest_wanted)
		log_manifest_save_later(log);
	log_checkpoint_named(log);
}

static void on_written(wh_loop *loop, wh_res res, void *arg)
{
	struct log *log = arg;
	if (!log_op_end(log))
		return;
	if ((res.n == -ENOMEM || res.n == -EAGAIN) && !log->closing && !log->failed) {
		log_op(log, wh_sleep(log->loop, RETRY_MS * WH_NS_PER_MS), on_pause);
		return;
	}
	if (is_full(res.n) && !log->closing && !log->failed) {
		wait_for_space(log);
		return;
	}
	if (log->closing || log->failed || res.n < 0) {
		log->manifest_saving = false;
		if (res.n < 0 && !log->closing)
			log_fail(log, res.n, "cannot write the manifest", log->path);
		return;
	}
	log_op(log, wh_fsync(log->loop, log->manifest_fd[!log->manifest_slot], false), on_synced);
}

/* In the background: nobody waits for it. */
void log_manifest_save_later(struct log *log)
{
	log->manifest_wanted = log->manifest_saving;
	if (log->manifest_saving)
		return;
	log->manifest_saving = true;
	log_manifest_fill(log, 0);
	log->manifest.sequence++;
	log->manifest_saving_checkpoint = log->manifest.checkpoint.lsn;
	log_manifest_put(log->manifest_block, &log->manifest);
	log_op(log,
	       wh_pwrite_all(log->loop, log->manifest_fd[!log->manifest_slot], log->manifest_block,
	                     LOG_BLOCK_BYTES, 0),
	       on_written);
}
