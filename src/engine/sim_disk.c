/* src/engine/sim_disk.c -- descriptors of a simulated disk: opening, content, space, locks, flushes; see sim_disk.h. Names:
 * sim_tree.c. */
#include "engine/sim_tree.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

struct wh__disk_flush {
	struct wh__node *node;
	struct wh__handle *handle;
	struct wh__sim_flush *content; /* of a file */
	struct wh__attributes attributes;
	uint64_t attributes_number;
	bool data_only;
	uint64_t change_number; /* of a directory: the newest change that it covers */
};

/* ---- space -------------------------------------------------------------------------------- */

static uint64_t block_bytes(void)
{
	return (uint64_t)WH__SECTOR_BYTES * WH__SECTORS_PER_BLOCK;
}

static uint64_t free_bytes(const struct wh__disk *disk)
{
	if (disk->capacity == 0)
		return UINT64_C(1) << 50;
	uint64_t used = 0;
	for (const struct wh__node *node = disk->all; node; node = node->all_next)
		if (node->links > 0 || node->opened > 0)
			used += node->file.blocks_count * block_bytes();
	return disk->capacity > used ? disk->capacity - used : 0;
}

static bool has_space(const struct wh__disk *disk, const struct wh__node *node, uint64_t off, uint64_t len)
{
	return disk->capacity == 0 ||
	       wh__sim_file_missing_blocks(&node->file, off, len) * block_bytes() <= free_bytes(disk);
}

/* ---- open and close ----------------------------------------------------------------------- */

struct wh__handle *wh__disk_handle(const struct wh__disk *disk, int fd)
{
	if (fd < WH__SIM_FD_FIRST || (size_t)(fd - WH__SIM_FD_FIRST) >= disk->handles_count)
		return NULL;
	return disk->handles[fd - WH__SIM_FD_FIRST];
}

bool wh__disk_is_open(const struct wh__disk *disk, int fd)
{
	return wh__disk_handle(disk, fd) != NULL;
}

bool wh__disk_is_direct(const struct wh__disk *disk, int fd)
{
	const struct wh__handle *handle = wh__disk_handle(disk, fd);
	return handle && handle->flags & O_DIRECT;
}

static int64_t handle_new(struct wh__disk *disk, struct wh__node *node, int flags)
{
	size_t i = 0;
	while (i < disk->handles_count && disk->handles[i])
		i++;
	if (i == disk->handles_count) {
		struct wh__handle **handles = reallocarray(disk->handles, i + 1, sizeof *handles);
		if (!handles)
			return -ENOMEM;
		handles[i] = NULL;
		disk->handles = handles;
		disk->handles_count++;
	}
	struct wh__handle *handle = calloc(1, sizeof *handle);
	if (!handle)
		return -ENOMEM;
	handle->node = node;
	handle->flags = flags;
	/* a failure that nobody has been told of is told to who opens later (Linux 4.17) */
	handle->failures_seen =
		node->failures > 0 && !node->failure_told ? node->failures - 1 : node->failures;
	node->opened++;
	disk->handles[i] = handle;
	return WH__SIM_FD_FIRST + (int)i;
}

/* A file without a name, in the folder *ret: it is gone when it is closed, and by a power cut. */
static int64_t open_unnamed(struct wh__disk *disk, int flags, mode_t mode, struct wh__node **ret)
{
	if ((flags & O_ACCMODE) == O_RDONLY || flags & O_CREAT)
		return -EINVAL;
	if (!*ret)
		return -ENOENT;
	if (!(*ret)->is_directory)
		return -ENOTDIR;
	*ret = wh__tree_unnamed(disk, mode);
	return *ret ? 0 : -ENOMEM;
}

static int64_t open_node(struct wh__disk *disk, int from, const char *path, int flags, mode_t mode,
                         struct wh__node **ret)
{
	struct wh__node *directory;
	char name[NAME_BYTES_MAX + 1];
	bool stays = flags & O_NOFOLLOW || (flags & O_CREAT && flags & O_EXCL);
	int64_t error = stays ? wh__tree_resolve(disk, from, path, &directory, name)
	                      : wh__tree_follow(disk, from, path, &directory, name);
	if (error != 0)
		return error;
	*ret = name[0] ? wh__tree_child(directory, name) : directory;
	if ((flags & O_TMPFILE) == O_TMPFILE)
		return open_unnamed(disk, flags, mode, ret);
	if (!*ret) {
		if (!(flags & O_CREAT))
			return -ENOENT;
		if (path[strlen(path) - 1] == '/' || flags & O_DIRECTORY)
			return -EISDIR;
		return wh__tree_create(disk, directory, name, false, mode, ret);
	}
	if (flags & O_CREAT && flags & O_EXCL)
		return -EEXIST;
	if ((*ret)->target)
		return flags & O_DIRECTORY ? -ENOTDIR : -ELOOP;
	if ((*ret)->is_directory)
		return (flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT ? -EISDIR : 0;
	if (flags & O_DIRECTORY || path[strlen(path) - 1] == '/')
		return -ENOTDIR;
	return 0;
}

int64_t wh__disk_open_at(struct wh__disk *disk, int from, const char *path, int flags, mode_t mode)
{
	struct wh__node *node;
	int64_t error = open_node(disk, from, path, flags, mode, &node);
	if (error != 0)
		return error;
	if (flags & O_TRUNC && (flags & O_ACCMODE) != O_RDONLY && node->file.size > 0) {
		error = wh__sim_file_truncate(&node->file, 0, disk->random);
		if (error != 0)
			return error;
		wh__tree_modified(disk, node);
	}
	return handle_new(disk, node, flags);
}

/* mkstemp(3), mkdtemp(3) */
int64_t wh__disk_temporary(struct wh__disk *disk, char *path, int flags)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
	enum { CHOSEN = 6, TRIES_MAX = 100 };
	size_t len = strlen(path);
	char *chosen = path + len - CHOSEN;
	int64_t n = -EEXIST;
	if (len < CHOSEN || strcmp(chosen, "XXXXXX") != 0)
		return -EINVAL;
	for (int tries = 0; n == -EEXIST && tries < TRIES_MAX; tries++) {
		for (int i = 0; i < CHOSEN; i++)
			chosen[i] = letters[wh__sim_below(disk->random, sizeof letters - 1)];
		n = flags & O_DIRECTORY
		            ? wh__disk_mkdir_at(disk, AT_FDCWD, path, 0700)
		            : wh__disk_open_at(disk, AT_FDCWD, path, flags | O_RDWR | O_CREAT | O_EXCL, 0600);
	}
	if (n < 0)
		memset(chosen, 'X', CHOSEN);
	return n;
}

static void unlock(struct wh__handle *handle)
{
	if (handle->node->lock == handle)
		handle->node->lock = NULL;
	if (handle->shares)
		handle->node->shared_count--;
	handle->shares = false;
}

int64_t wh__disk_close(struct wh__disk *disk, int fd)
{
	struct wh__handle *handle = wh__disk_handle(disk, fd);
	if (!handle)
		return -EBADF;
	unlock(handle);
	handle->node->opened--;
	free(handle);
	disk->handles[fd - WH__SIM_FD_FIRST] = NULL;
	return 0;
}

void wh__disk_close_all(struct wh__disk *disk)
{
	for (size_t i = 0; i < disk->handles_count; i++)
		(void)wh__disk_close(disk, WH__SIM_FD_FIRST + (int)i);
}

/* ---- read and write ----------------------------------------------------------------------- */

static int64_t file_for(const struct wh__disk *disk, int fd, bool write, struct wh__handle **ret)
{
	struct wh__handle *handle = wh__disk_handle(disk, fd);
	if (!handle)
		return -EBADF;
	int access = handle->flags & O_ACCMODE;
	if (access == (write ? O_RDONLY : O_WRONLY))
		return -EBADF;
	if (handle->node->is_directory)
		return -EISDIR;
	*ret = handle;
	return 0;
}

static bool is_aligned(const struct wh__handle *handle, const void *buf, uint64_t len, uint64_t off)
{
	return !(handle->flags & O_DIRECT) || ((uintptr_t)buf | len | off) % DIRECT_ALIGNMENT == 0;
}

/* As with the mount option relatime, which is Linux's default. */
static void accessed(const struct wh__disk *disk, struct wh__node *node)
{
	const int64_t now = wh__tree_now(disk), day = 24 * 3600 * WH_NS_PER_S;
	if (node->now.accessed <= node->now.modified || now - node->now.accessed >= day)
		node->now.accessed = now;
}

int64_t wh__disk_pread(struct wh__disk *disk, int fd, void *buf, uint64_t len, uint64_t off)
{
	struct wh__handle *handle;
	int64_t error = file_for(disk, fd, false, &handle);
	if (error != 0)
		return error;
	if (off > INT64_MAX || len > INT64_MAX - off || !is_aligned(handle, buf, len, off))
		return -EINVAL;
	if (!(handle->flags & O_NOATIME))
		accessed(disk, handle->node);
	return (int64_t)wh__sim_file_read(&handle->node->file, buf, len, off, handle->flags & O_DIRECT);
}

/* How many of len bytes there is space for. */
static uint64_t that_fit(const struct wh__disk *disk, const struct wh__node *node, uint64_t len, uint64_t off)
{
	if (has_space(disk, node, off, len))
		return len;
	uint64_t fit = 0;
	while (fit < len && has_space(disk, node, off, fit + 1)) {
		uint64_t step = block_bytes() - (off + fit) % block_bytes();
		fit = fit + step < len ? fit + step : len;
	}
	return fit;
}

int64_t wh__disk_pwrite(struct wh__disk *disk, int fd, const void *buf, uint64_t len, uint64_t off, bool all)
{
	struct wh__handle *handle;
	int64_t error = file_for(disk, fd, true, &handle);
	if (error != 0)
		return error;
	struct wh__sim_file *file = &handle->node->file;
	if (off > INT64_MAX || len > INT64_MAX - off || !is_aligned(handle, buf, len, off))
		return -EINVAL;
	if (handle->flags & O_APPEND)
		off = file->size; /* Linux appends whatever the offset is */
	if (off + len > (UINT64_C(1) << 40))
		return -EFBIG;
	uint64_t fit = that_fit(disk, handle->node, len, off);
	if (fit > 0 && wh__sim_file_write(file, buf, fit, off, disk->random) != 0)
		return -ENOMEM;
	if (fit > 0)
		wh__tree_modified(disk, handle->node);
	if (fit < len && (all || fit == 0))
		return -ENOSPC;
	if (handle->flags & (O_SYNC | O_DSYNC)) {
		struct wh__sim_flush *flush = wh__sim_file_flush_begin(file);
		if (!flush)
			return -ENOMEM;
		wh__sim_file_flush_end(file, flush);
	}
	return (int64_t)fit;
}

int64_t wh__disk_read(struct wh__disk *disk, int fd, void *buf, uint64_t len)
{
	struct wh__handle *handle = wh__disk_handle(disk, fd);
	int64_t n = handle ? wh__disk_pread(disk, fd, buf, len, handle->offset) : -EBADF;
	if (n > 0)
		handle->offset += (uint64_t)n;
	return n;
}

int64_t wh__disk_write(struct wh__disk *disk, int fd, const void *buf, uint64_t len, bool all)
{
	struct wh__handle *handle = wh__disk_handle(disk, fd);
	int64_t n = handle ? wh__disk_pwrite(disk, fd, buf, len, handle->offset, all) : -EBADF;
	if (n > 0)
		handle->offset =
			handle->flags & O_APPEND ? handle->node->file.size : handle->offset + (uint64_t)n;
	return n;
}

int64_t wh__disk_truncate(struct wh__disk *disk, int fd, uint64_t len)
{
	struct wh__handle *handle;
	int64_t error = file_for(disk, fd, true, &handle);
	if (error != 0)
		return error == -EBADF && wh__disk_handle(disk, fd) ? -EINVAL : error;
	if (len > (UINT64_C(1) << 40))
		return -EFBIG;
	wh__tree_modified(disk, handle->node);
	return wh__sim_file_truncate(&handle->node->file, len, disk->random);
}

int64_t wh__disk_allocate(struct wh__disk *disk, int fd, int mode, uint64_t off, uint64_t len)
{
	struct wh__handle *handle;
	bool keep_size = mode & FALLOC_FL_KEEP_SIZE, punch = mode & FALLOC_FL_PUNCH_HOLE;
	int64_t error = file_for(disk, fd, true, &handle);
	if (error != 0)
		return error;
	if (len == 0 || off > INT64_MAX)
		return -EINVAL;
	if (len > INT64_MAX - off)
		return -EFBIG;
	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
	case FALLOC_FL_ZERO_RANGE:
		break;
	case FALLOC_FL_PUNCH_HOLE:
		if (keep_size)
			break;
		__attribute__((fallthrough));
	default:
		return -EOPNOTSUPP;
	}
	if (off + len > (UINT64_C(1) << 40))
		return -EFBIG;
	if (!punch && !has_space(disk, handle->node, off, len))
		return -ENOSPC;
	wh__tree_modified(disk, handle->node);
	error = punch ? 0 : wh__sim_file_allocate(&handle->node->file, off, len, keep_size);
	if (error == 0 && mode & ~FALLOC_FL_KEEP_SIZE)
		error = wh__sim_file_zero(&handle->node->file, off, len, punch, disk->random);
	return error;
}

int64_t wh__disk_size(struct wh__disk *disk, int fd)
{
	struct wh__handle *handle = wh__disk_handle(disk, fd);
	if (!handle)
		return -EBADF;
	return handle->node->is_directory ? (int64_t)block_bytes() : (int64_t)handle->node->file.size;
}

/* flock(2): what is held goes before the other kind is asked for, and stays gone when that is refused. */
int64_t wh__disk_flock(struct wh__disk *disk, int fd, int how)
{
	struct wh__handle *handle = wh__disk_handle(disk, fd);
	if (!handle)
		return -EBADF;
	struct wh__node *node = handle->node;
	unlock(handle);
	if (how == LOCK_UN)
		return 0;
	if (node->lock || (how == LOCK_EX && node->shared_count > 0))
		return -EAGAIN;
	if (how == LOCK_EX) {
		node->lock = handle;
	} else {
		handle->shares = true;
		node->shared_count++;
	}
	return 0;
}

int64_t wh__disk_copy(struct wh__disk *disk, int to, uint64_t to_off, int from, uint64_t from_off,
                      uint64_t len)
{
	uint8_t bytes[4096];
	uint64_t done = 0;
	struct wh__handle *source, *target;
	int64_t n = file_for(disk, from, false, &source);
	if (n == 0)
		n = file_for(disk, to, true, &target);
	if (n != 0)
		return n;
	if (source->node == target->node && from_off < to_off + len && to_off < from_off + len)
		return -EINVAL;
	while (done < len) {
		uint64_t left = len - done;
		n = wh__disk_pread(disk, from, bytes, left < sizeof bytes ? left : sizeof bytes,
		                   from_off + done);
		if (n > 0)
			n = wh__disk_pwrite(disk, to, bytes, (uint64_t)n, to_off + done, true);
		if (n <= 0)
			break;
		done += (uint64_t)n;
	}
	return n < 0 ? n : (int64_t)done;
}

/* ---- what is told of files ---------------------------------------------------------------- */

/* What is in a piece of at most this many: small, so that tests see more than one. */
enum { ENTRIES_MAX = 32 };

int64_t wh__disk_entries(struct wh__disk *disk, int fd, void **ret_entries)
{
	struct wh__handle *handle = wh__disk_handle(disk, fd);
	if (!handle)
		return -EBADF;
	const struct wh__node *directory = handle->node;
	if (!directory->is_directory)
		return -ENOTDIR;
	size_t bytes = sizeof(struct wh_entries), count = 0, end = handle->offset;
	for (; end < directory->entries_count && count < ENTRIES_MAX; end++) {
		if (directory->entries[end].now) {
			bytes += sizeof(struct wh_entry) + strlen(directory->entries[end].name) + 1;
			count++;
		}
	}
	struct wh_entries *packed = malloc(bytes);
	if (!packed)
		return -ENOMEM;
	struct wh_entry *to = (struct wh_entry *)(packed + 1);
	char *text = (char *)(to + count);
	*packed = (struct wh_entries){.count = count, .entries = to};
	for (size_t i = handle->offset; i < end; i++) {
		const struct wh__entry *entry = &directory->entries[i];
		if (!entry->now)
			continue;
		*to++ = (struct wh_entry){.name = text,
		                          .inode = entry->now->inode,
		                          .type = entry->now->is_directory ? WH_FILE_DIRECTORY
		                                  : entry->now->target     ? WH_FILE_LINK
		                                                           : WH_FILE_REGULAR};
		text = stpcpy(text, entry->name) + 1;
	}
	handle->offset = end;
	*ret_entries = packed;
	return (int64_t)count;
}

int64_t wh__disk_disk_free(struct wh__disk *disk, int fd)
{
	return wh__disk_handle(disk, fd) ? (int64_t)free_bytes(disk) : -EBADF;
}

void wh__disk_set_capacity(struct wh__disk *disk, uint64_t bytes)
{
	disk->capacity = bytes;
}

void wh__disk_set_clock(struct wh__disk *disk, int64_t (*clock)(void *arg), void *arg)
{
	disk->clock = clock;
	disk->clock_arg = arg;
}

/* ---- flush -------------------------------------------------------------------------------- */

int64_t wh__disk_flush_begin(struct wh__disk *disk, int fd, struct wh__disk_flush **ret)
{
	struct wh__handle *handle = wh__disk_handle(disk, fd);
	if (!handle)
		return -EBADF;
	struct wh__node *node = handle->node;
	struct wh__disk_flush *flush = calloc(1, sizeof *flush);
	if (!flush)
		return -ENOMEM;
	flush->node = node;
	flush->handle = handle;
	flush->attributes = node->now;
	flush->attributes_number = node->attributes_number;
	if (node->is_directory) {
		flush->change_number = disk->change_number;
	} else {
		flush->content = wh__sim_file_flush_begin(&node->file);
		if (!flush->content) {
			free(flush);
			return -ENOMEM;
		}
	}
	*ret = flush;
	return 0;
}

void wh__disk_flush_data_only(struct wh__disk_flush *flush)
{
	flush->data_only = true;
}

static void flush_attributes(const struct wh__disk_flush *flush)
{
	struct wh__node *node = flush->node;
	if (flush->data_only)
		return;
	node->disk = flush->attributes;
	if (node->attributes_number == flush->attributes_number)
		node->attributes_number = 0;
}

static void flush_directory(struct wh__disk *disk, const struct wh__disk_flush *flush)
{
	size_t count = 0;
	while (count < disk->changes_count && disk->changes[count].number <= flush->change_number)
		count++;
	bool *chosen = calloc(count ? count : 1, sizeof *chosen);
	assert(chosen); /* a simulation without memory has nothing to say */
	wh__tree_choose(disk, count, flush->node, chosen);
	size_t kept = 0;
	for (size_t i = 0; i < disk->changes_count; i++) {
		struct wh__change *change = &disk->changes[i];
		if (i < count && chosen[i]) {
			wh__tree_make_safe(change);
			wh__tree_change_fini(change);
		} else {
			disk->changes[kept++] = *change;
		}
	}
	disk->changes_count = kept;
	free(chosen);
}

static void tell_failure(struct wh__disk_flush *flush)
{
	flush->handle->failures_seen = flush->node->failures;
	flush->node->failure_told = true;
}

int64_t wh__disk_flush_end(struct wh__disk *disk, struct wh__disk_flush *flush)
{
	int64_t n = 0;
	flush_attributes(flush);
	if (flush->node->is_directory)
		flush_directory(disk, flush);
	else
		wh__sim_file_flush_end(&flush->node->file, flush->content);
	if (flush->handle->failures_seen != flush->node->failures) {
		tell_failure(flush);
		n = -EIO;
	}
	free(flush);
	return n;
}

int64_t wh__disk_flush_fail(struct wh__disk *disk, struct wh__disk_flush *flush, int error)
{
	/* names stay unsafe, and a later flush may save them: a file system with a journal that cannot write it goes
	 * on refusing, and does not forget */
	if (!flush->node->is_directory)
		wh__sim_file_flush_fail(&flush->node->file, flush->content, disk->random);
	flush->node->failures++;
	tell_failure(flush);
	free(flush);
	return -error;
}

void wh__disk_flush_abandon(struct wh__disk *disk, struct wh__disk_flush *flush)
{
	if (flush->content)
		wh__sim_file_flush_abandon(&flush->node->file, flush->content);
	free(flush);
}
