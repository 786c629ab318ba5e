/* src/engine/sim_disk.c -- names, descriptors and locks of a simulated disk; see sim_disk.h. */
#include "engine/sim_disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "whilst/sim.h"

enum { NAME_BYTES_MAX = 255, PATH_BYTES_MAX = 4095, DIRECT_ALIGNMENT = 512 };

struct node;

struct entry {
	char *name;
	struct node *now, *disk; /* NULL: no such name */
};

struct node {
	struct node *all_next; /* every node of the disk */
	struct node *parent;   /* of a directory; the root's is itself */
	bool is_directory, reached;
	uint32_t links, opened;
	struct handle *lock;
	uint64_t failures; /* of flushes: each descriptor is told of it once */
	bool failure_told;
	struct wh__sim_file file;
	struct entry *entries;
	size_t entries_count, entries_max;
};

/* What one system call changes in directories; survives as a whole or not at all. */
struct change {
	struct {
		struct node *directory;
		char *name;
		struct node *to; /* NULL: taken away */
	} set[2];
	int count;
	struct node *touched[2]; /* files moved, made, unlinked, replaced */
	uint64_t number;         /* rising */
};

struct handle {
	struct node *node; /* NULL: free */
	int flags;
	uint64_t offset;
	uint64_t failures_seen;
};

struct wh__disk {
	struct wh__sim_random *random;
	uint64_t capacity;
	uint64_t write_number, change_number;
	struct node *root, *all;
	struct change *changes; /* that are not safe, oldest first */
	size_t changes_count, changes_max;
	struct handle **handles;
	size_t handles_count;
};

struct wh__disk_flush {
	struct node *node;
	struct handle *handle;
	struct wh__sim_flush *content; /* of a file */
	uint64_t change_number;        /* of a directory: the newest change that it covers */
};

/* ---- nodes -------------------------------------------------------------------------------- */

static struct node *node_new(struct wh__disk *disk, bool is_directory)
{
	struct node *node = calloc(1, sizeof *node);
	if (!node)
		return NULL;
	node->is_directory = is_directory;
	node->file.write_number = &disk->write_number;
	node->all_next = disk->all;
	disk->all = node;
	return node;
}

static void node_free(struct node *node)
{
	for (size_t i = 0; i < node->entries_count; i++)
		free(node->entries[i].name);
	free(node->entries);
	wh__sim_file_fini(&node->file);
	free(node);
}

static struct entry *entry_find(const struct node *directory, const char *name)
{
	for (size_t i = 0; i < directory->entries_count; i++)
		if (!strcmp(directory->entries[i].name, name))
			return &directory->entries[i];
	return NULL;
}

static struct node *child(const struct node *directory, const char *name)
{
	struct entry *entry = entry_find(directory, name);
	return entry ? entry->now : NULL;
}

static struct entry *entry_make(struct node *directory, const char *name)
{
	struct entry *entry = entry_find(directory, name);
	if (entry)
		return entry;
	if (directory->entries_count == directory->entries_max) {
		size_t max = directory->entries_max ? directory->entries_max * 2 : 8;
		struct entry *entries = reallocarray(directory->entries, max, sizeof *entries);
		if (!entries)
			return NULL;
		directory->entries = entries;
		directory->entries_max = max;
	}
	char *copy = strdup(name);
	if (!copy)
		return NULL;
	entry = &directory->entries[directory->entries_count++];
	*entry = (struct entry){.name = copy};
	return entry;
}

static bool directory_is_empty(const struct node *directory)
{
	for (size_t i = 0; i < directory->entries_count; i++)
		if (directory->entries[i].now)
			return false;
	return true;
}

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
	for (const struct node *node = disk->all; node; node = node->all_next)
		if (node->links > 0 || node->opened > 0)
			used += node->file.blocks_count * block_bytes();
	return disk->capacity > used ? disk->capacity - used : 0;
}

static bool has_space(const struct wh__disk *disk, const struct node *node, uint64_t off, uint64_t len)
{
	return disk->capacity == 0 ||
	       wh__sim_file_missing_blocks(&node->file, off, len) * block_bytes() <= free_bytes(disk);
}

/* ---- paths -------------------------------------------------------------------------------- */

/* The directory that path ends in, and the last name (NULL: path names a directory as such, "/" or "a/.."). */
static int64_t resolve(const struct wh__disk *disk, const char *path, struct node **ret_directory,
                       char ret_name[static NAME_BYTES_MAX + 1])
{
	struct node *at = disk->root;
	ret_name[0] = 0;
	if (!*path)
		return -ENOENT;
	if (strlen(path) > PATH_BYTES_MAX)
		return -ENAMETOOLONG;
	for (;;) {
		path += strspn(path, "/");
		size_t len = strcspn(path, "/");
		if (len == 0)
			break;
		if (len > NAME_BYTES_MAX)
			return -ENAMETOOLONG;
		if (ret_name[0]) {
			at = child(at, ret_name);
			if (!at)
				return -ENOENT;
			if (!at->is_directory)
				return -ENOTDIR;
		}
		memcpy(ret_name, path, len);
		ret_name[len] = 0;
		path += len;
		if (!strcmp(ret_name, ".") || !strcmp(ret_name, "..")) {
			if (ret_name[1])
				at = at->parent;
			ret_name[0] = 0;
		}
	}
	*ret_directory = at;
	return 0;
}

static int64_t find(const struct wh__disk *disk, const char *path, struct node **ret)
{
	struct node *directory;
	char name[NAME_BYTES_MAX + 1];
	int64_t error = resolve(disk, path, &directory, name);
	if (error != 0)
		return error;
	*ret = name[0] ? child(directory, name) : directory;
	if (*ret && !(*ret)->is_directory && path[strlen(path) - 1] == '/')
		return -ENOTDIR;
	return *ret ? 0 : -ENOENT;
}

int wh__disk_can_make(const struct wh__disk *disk, const char *path)
{
	struct node *directory;
	char name[NAME_BYTES_MAX + 1];
	int64_t error = resolve(disk, path, &directory, name);
	if (error != 0)
		return (int)error;
	return name[0] == 0 || child(directory, name) ? -EADDRINUSE : 0;
}

/* ---- changes of names --------------------------------------------------------------------- */

static void change_fini(struct change *change)
{
	for (int i = 0; i < change->count; i++)
		free(change->set[i].name);
}

static int change_add(struct change *change, struct node *directory, const char *name, struct node *to)
{
	char *copy = strdup(name);
	if (!copy || !entry_make(directory, name)) {
		free(copy);
		return -ENOMEM;
	}
	change->set[change->count].directory = directory;
	change->set[change->count].name = copy;
	change->set[change->count].to = to;
	change->count++;
	return 0;
}

/* Make the change visible, and remember that it is not safe. Takes change. */
static int change_do(struct wh__disk *disk, struct change *change)
{
	if (disk->changes_count == disk->changes_max) {
		size_t max = disk->changes_max ? disk->changes_max * 2 : 16;
		struct change *changes = reallocarray(disk->changes, max, sizeof *changes);
		if (!changes) {
			change_fini(change);
			return -ENOMEM;
		}
		disk->changes = changes;
		disk->changes_max = max;
	}
	for (int i = 0; i < change->count; i++) {
		struct entry *entry = entry_find(change->set[i].directory, change->set[i].name);
		if (entry->now)
			entry->now->links--;
		entry->now = change->set[i].to;
		if (entry->now)
			entry->now->links++;
	}
	change->number = ++disk->change_number;
	disk->changes[disk->changes_count++] = *change;
	return 0;
}

static bool related(const struct change *a, const struct change *b)
{
	for (int i = 0; i < 2; i++)
		for (int j = 0; j < 2; j++)
			if (a->touched[i] && a->touched[i] == b->touched[j])
				return true;
	for (int i = 0; i < a->count; i++)
		for (int j = 0; j < b->count; j++)
			if (a->set[i].directory == b->set[j].directory &&
			    !strcmp(a->set[i].name, b->set[j].name))
				return true;
	return false;
}

static void change_make_safe(const struct change *change)
{
	for (int i = 0; i < change->count; i++)
		entry_find(change->set[i].directory, change->set[i].name)->disk = change->set[i].to;
}

static bool change_is_in(const struct change *change, const struct node *directory)
{
	for (int i = 0; i < change->count; i++)
		if (change->set[i].directory == directory)
			return true;
	return false;
}

/* ---- open and close ----------------------------------------------------------------------- */

static struct handle *handle_of(const struct wh__disk *disk, int fd)
{
	if (fd < WH__SIM_FD_FIRST || (size_t)(fd - WH__SIM_FD_FIRST) >= disk->handles_count)
		return NULL;
	return disk->handles[fd - WH__SIM_FD_FIRST];
}

bool wh__disk_is_open(const struct wh__disk *disk, int fd)
{
	return handle_of(disk, fd) != NULL;
}

bool wh__disk_is_direct(const struct wh__disk *disk, int fd)
{
	const struct handle *handle = handle_of(disk, fd);
	return handle && handle->flags & O_DIRECT;
}

static int64_t handle_new(struct wh__disk *disk, struct node *node, int flags)
{
	size_t i = 0;
	while (i < disk->handles_count && disk->handles[i])
		i++;
	if (i == disk->handles_count) {
		struct handle **handles = reallocarray(disk->handles, i + 1, sizeof *handles);
		if (!handles)
			return -ENOMEM;
		handles[i] = NULL;
		disk->handles = handles;
		disk->handles_count++;
	}
	struct handle *handle = calloc(1, sizeof *handle);
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

static int64_t create(struct wh__disk *disk, struct node *directory, const char *name, bool is_directory,
                      struct node **ret)
{
	struct change change = {0};
	struct node *node = node_new(disk, is_directory);
	if (!node || change_add(&change, directory, name, node) != 0)
		return -ENOMEM; /* an unreachable node goes with the next power cut */
	node->parent = directory;
	change.touched[0] = node;
	*ret = node;
	return change_do(disk, &change);
}

static int64_t open_node(struct wh__disk *disk, const char *path, int flags, struct node **ret)
{
	struct node *directory;
	char name[NAME_BYTES_MAX + 1];
	int64_t error = resolve(disk, path, &directory, name);
	if (error != 0)
		return error;
	*ret = name[0] ? child(directory, name) : directory;
	if (!*ret) {
		if (!(flags & O_CREAT))
			return -ENOENT;
		if (path[strlen(path) - 1] == '/' || flags & O_DIRECTORY)
			return -EISDIR;
		return create(disk, directory, name, false, ret);
	}
	if (flags & O_CREAT && flags & O_EXCL)
		return -EEXIST;
	if ((*ret)->is_directory)
		return (flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT ? -EISDIR : 0;
	if (flags & O_DIRECTORY || path[strlen(path) - 1] == '/')
		return -ENOTDIR;
	return 0;
}

int64_t wh__disk_open(struct wh__disk *disk, const char *path, int flags)
{
	struct node *node;
	int64_t error = open_node(disk, path, flags, &node);
	if (error != 0)
		return error;
	if (flags & O_TRUNC && (flags & O_ACCMODE) != O_RDONLY && node->file.size > 0) {
		error = wh__sim_file_truncate(&node->file, 0, disk->random);
		if (error != 0)
			return error;
	}
	return handle_new(disk, node, flags);
}

int64_t wh__disk_close(struct wh__disk *disk, int fd)
{
	struct handle *handle = handle_of(disk, fd);
	if (!handle)
		return -EBADF;
	if (handle->node->lock == handle)
		handle->node->lock = NULL;
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

static int64_t file_for(const struct wh__disk *disk, int fd, bool write, struct handle **ret)
{
	struct handle *handle = handle_of(disk, fd);
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

static bool is_aligned(const struct handle *handle, const void *buf, uint64_t len, uint64_t off)
{
	return !(handle->flags & O_DIRECT) || ((uintptr_t)buf | len | off) % DIRECT_ALIGNMENT == 0;
}

int64_t wh__disk_pread(struct wh__disk *disk, int fd, void *buf, uint64_t len, uint64_t off)
{
	struct handle *handle;
	int64_t error = file_for(disk, fd, false, &handle);
	if (error != 0)
		return error;
	if (off > INT64_MAX || len > INT64_MAX - off || !is_aligned(handle, buf, len, off))
		return -EINVAL;
	return (int64_t)wh__sim_file_read(&handle->node->file, buf, len, off, handle->flags & O_DIRECT);
}

/* How many of len bytes there is space for. */
static uint64_t that_fit(const struct wh__disk *disk, const struct node *node, uint64_t len, uint64_t off)
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
	struct handle *handle;
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
	struct handle *handle = handle_of(disk, fd);
	int64_t n = handle ? wh__disk_pread(disk, fd, buf, len, handle->offset) : -EBADF;
	if (n > 0)
		handle->offset += (uint64_t)n;
	return n;
}

int64_t wh__disk_write(struct wh__disk *disk, int fd, const void *buf, uint64_t len, bool all)
{
	struct handle *handle = handle_of(disk, fd);
	int64_t n = handle ? wh__disk_pwrite(disk, fd, buf, len, handle->offset, all) : -EBADF;
	if (n > 0)
		handle->offset =
			handle->flags & O_APPEND ? handle->node->file.size : handle->offset + (uint64_t)n;
	return n;
}

int64_t wh__disk_truncate(struct wh__disk *disk, int fd, uint64_t len)
{
	struct handle *handle;
	int64_t error = file_for(disk, fd, true, &handle);
	if (error != 0)
		return error == -EBADF && handle_of(disk, fd) ? -EINVAL : error;
	if (len > (UINT64_C(1) << 40))
		return -EFBIG;
	return wh__sim_file_truncate(&handle->node->file, len, disk->random);
}

int64_t wh__disk_allocate(struct wh__disk *disk, int fd, uint64_t off, uint64_t len)
{
	struct handle *handle;
	int64_t error = file_for(disk, fd, true, &handle);
	if (error != 0)
		return error;
	if (len == 0 || off > INT64_MAX || len > INT64_MAX - off)
		return -EINVAL;
	if (off + len > (UINT64_C(1) << 40))
		return -EFBIG;
	if (!has_space(disk, handle->node, off, len))
		return -ENOSPC;
	return wh__sim_file_allocate(&handle->node->file, off, len);
}

int64_t wh__disk_size(struct wh__disk *disk, int fd)
{
	struct handle *handle = handle_of(disk, fd);
	if (!handle)
		return -EBADF;
	return handle->node->is_directory ? (int64_t)block_bytes() : (int64_t)handle->node->file.size;
}

int64_t wh__disk_lock(struct wh__disk *disk, int fd)
{
	struct handle *handle = handle_of(disk, fd);
	if (!handle)
		return -EBADF;
	if (handle->node->lock && handle->node->lock != handle)
		return -EAGAIN;
	handle->node->lock = handle;
	return 0;
}

int64_t wh__disk_disk_free(struct wh__disk *disk, int fd)
{
	return handle_of(disk, fd) ? (int64_t)free_bytes(disk) : -EBADF;
}

void wh__disk_set_capacity(struct wh__disk *disk, uint64_t bytes)
{
	disk->capacity = bytes;
}

/* ---- names -------------------------------------------------------------------------------- */

static bool is_within(const struct node *node, const struct node *directory)
{
	for (; node->parent != node; node = node->parent)
		if (node == directory)
			return true;
	return node == directory;
}

/* May moved be put in the place of target? */
static int64_t check_target(const struct node *moved, const struct node *target)
{
	if (!target)
		return 0;
	if (moved->is_directory && !target->is_directory)
		return -ENOTDIR;
	if (!moved->is_directory && target->is_directory)
		return -EISDIR;
	return target->is_directory && !directory_is_empty(target) ? -ENOTEMPTY : 0;
}

int64_t wh__disk_rename(struct wh__disk *disk, const char *from, const char *to)
{
	struct node *from_directory, *to_directory;
	char from_name[NAME_BYTES_MAX + 1], to_name[NAME_BYTES_MAX + 1];
	int64_t error = resolve(disk, from, &from_directory, from_name);
	if (error == 0)
		error = resolve(disk, to, &to_directory, to_name);
	if (error != 0)
		return error;
	if (!from_name[0] || !to_name[0])
		return -EBUSY;
	struct node *moved = child(from_directory, from_name), *target = child(to_directory, to_name);
	if (!moved)
		return -ENOENT;
	if (moved == target)
		return 0;
	if (moved->is_directory && is_within(to_directory, moved))
		return -EINVAL;
	error = check_target(moved, target);
	if (error != 0)
		return error;
	struct change change = {.touched = {moved, target}};
	if (change_add(&change, to_directory, to_name, moved) != 0 ||
	    change_add(&change, from_directory, from_name, NULL) != 0) {
		change_fini(&change);
		return -ENOMEM;
	}
	if (moved->is_directory)
		moved->parent = to_directory;
	return change_do(disk, &change);
}

int64_t wh__disk_unlink(struct wh__disk *disk, const char *path)
{
	struct node *directory;
	char name[NAME_BYTES_MAX + 1];
	int64_t error = resolve(disk, path, &directory, name);
	if (error != 0)
		return error;
	struct node *node = name[0] ? child(directory, name) : directory;
	if (!node)
		return -ENOENT;
	if (node->is_directory)
		return -EISDIR;
	struct change change = {.touched = {node}};
	if (change_add(&change, directory, name, NULL) != 0)
		return -ENOMEM;
	return change_do(disk, &change);
}

int64_t wh__disk_mkdir(struct wh__disk *disk, const char *path)
{
	struct node *directory, *made;
	char name[NAME_BYTES_MAX + 1];
	int64_t error = resolve(disk, path, &directory, name);
	if (error != 0)
		return error;
	if (!name[0] || child(directory, name))
		return -EEXIST;
	return create(disk, directory, name, true, &made);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int64_t wh__disk_list(struct wh__disk *disk, const char *path, void **ret_names)
{
	struct node *directory;
	int64_t error = find(disk, path, &directory);
	if (error != 0)
		return error;
	if (!directory->is_directory)
		return -ENOTDIR;
	size_t bytes = sizeof(struct wh_names), count = 0;
	for (size_t i = 0; i < directory->entries_count; i++) {
		if (directory->entries[i].now) {
			bytes += sizeof(char *) + strlen(directory->entries[i].name) + 1;
			count++;
		}
	}
	struct wh_names *names = malloc(bytes);
	if (!names)
		return -ENOMEM;
	names->count = 0;
	names->names = (const char **)(names + 1);
	char *to = (char *)(names->names + count);
	for (size_t i = 0; i < directory->entries_count; i++) {
		if (directory->entries[i].now) {
			names->names[names->count++] = to;
			to = stpcpy(to, directory->entries[i].name) + 1;
		}
	}
	if (count > 0)
		qsort(names->names, count, sizeof *names->names, compare_names);
	*ret_names = names;
	return (int64_t)count;
}

/* ---- flush -------------------------------------------------------------------------------- */

int64_t wh__disk_flush_begin(struct wh__disk *disk, int fd, struct wh__disk_flush **ret)
{
	struct handle *handle = handle_of(disk, fd);
	if (!handle)
		return -EBADF;
	struct node *node = handle->node;
	struct wh__disk_flush *flush = calloc(1, sizeof *flush);
	if (!flush)
		return -ENOMEM;
	flush->node = node;
	flush->handle = handle;
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

/* Those of the oldest count changes that are in directory, and the earlier ones that they build on. */
static void choose(const struct wh__disk *disk, size_t count, const struct node *directory, bool *chosen)
{
	for (size_t i = count; i-- > 0;) {
		const struct change *change = &disk->changes[i];
		chosen[i] = chosen[i] || change_is_in(change, directory);
		for (size_t j = 0; chosen[i] && j < i; j++)
			chosen[j] = chosen[j] || related(&disk->changes[j], change);
	}
}

static void flush_directory(struct wh__disk *disk, const struct wh__disk_flush *flush)
{
	size_t count = 0;
	while (count < disk->changes_count && disk->changes[count].number <= flush->change_number)
		count++;
	bool *chosen = calloc(count ? count : 1, sizeof *chosen);
	assert(chosen); /* a simulation without memory has nothing to say */
	choose(disk, count, flush->node, chosen);
	size_t kept = 0;
	for (size_t i = 0; i < disk->changes_count; i++) {
		struct change *change = &disk->changes[i];
		if (i < count && chosen[i]) {
			change_make_safe(change);
			change_fini(change);
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

/* ---- power cut ---------------------------------------------------------------------------- */

/* Some cuts tear everything apart, some leave most of it: both find mistakes that the other does not. */
static struct wh__sim_damage draw_damage(const struct wh__disk *disk, int kind)
{
	struct wh__sim_random *random = disk->random;
	struct wh__sim_damage damage = {.kind = kind,
	                                .keep_metadata = kind == WH_SIM_KEEP_NEW,
	                                .metadata_random =
	                                        kind != WH_SIM_KEEP_NEW && kind != WH_SIM_KEEP_OLD};
	switch (wh__sim_below(random, 5)) {
	case 0:
		damage.keep_new = 90, damage.keep_old = 6;
		break;
	case 1:
		damage.keep_new = 6, damage.keep_old = 90;
		break;
	case 2:
		damage.keep_new = 50, damage.keep_old = 50;
		break;
	default:
		damage.keep_new = 30, damage.keep_old = 30;
		break;
	}
	if (disk->write_number > 0 && wh__sim_chance(random, 40)) {
		/* near the end, where the unsafe writes are */
		uint64_t back = wh__sim_below(random, disk->write_number < 24 ? disk->write_number : 24);
		damage.turning = disk->write_number - back;
		damage.later_survive = wh__sim_chance(random, 25);
	}
	return damage;
}

/* Which changes of names have got through. */
static void decide_names(struct wh__disk *disk, const struct wh__sim_damage *damage)
{
	bool ordered = wh__sim_chance(disk->random, 50);
	size_t prefix = wh__sim_below(disk->random, disk->changes_count + 1);
	if (!damage->metadata_random) {
		ordered = true;
		prefix = damage->keep_metadata ? disk->changes_count : 0;
	}
	bool *fails = calloc(disk->changes_count + 1, sizeof *fails);
	assert(fails);
	for (size_t i = 0; i < disk->changes_count; i++) {
		fails[i] = ordered ? i >= prefix : wh__sim_chance(disk->random, 50);
		for (size_t j = 0; j < i && !fails[i]; j++)
			fails[i] = fails[j] && related(&disk->changes[j], &disk->changes[i]);
		if (!fails[i])
			change_make_safe(&disk->changes[i]);
	}
	/* not before: later ones are compared with earlier ones */
	for (size_t i = 0; i < disk->changes_count; i++)
		change_fini(&disk->changes[i]);
	disk->changes_count = 0;
	free(fails);
}

/* What is safe is what there is. */
static void load_directory(struct node *directory, struct node *parent)
{
	size_t kept = 0;
	directory->parent = parent;
	directory->reached = true;
	for (size_t i = 0; i < directory->entries_count; i++) {
		struct entry *entry = &directory->entries[i];
		entry->now = entry->disk;
		if (!entry->now) {
			free(entry->name);
			continue;
		}
		entry->now->links++;
		if (entry->now->is_directory)
			load_directory(entry->now, directory);
		else
			entry->now->reached = true;
		directory->entries[kept++] = *entry;
	}
	directory->entries_count = kept;
}

void wh__disk_power_cut(struct wh__disk *disk, int kind)
{
	struct wh__sim_damage damage = draw_damage(disk, kind);
	wh__disk_close_all(disk);
	decide_names(disk, &damage);
	for (struct node *node = disk->all; node; node = node->all_next) {
		node->reached = false;
		node->links = 0;
		node->failures = 0;
		node->failure_told = false;
	}
	load_directory(disk->root, disk->root);
	for (struct node **at = &disk->all, *node; (node = *at);) {
		if (!node->reached) {
			*at = node->all_next;
			node_free(node);
			continue;
		}
		wh__sim_file_power_cut(&node->file, &damage, disk->random);
		at = &node->all_next;
	}
}

/* ---- the whole ---------------------------------------------------------------------------- */

struct wh__disk *wh__disk_new(struct wh__sim_random *random)
{
	struct wh__disk *disk = calloc(1, sizeof *disk);
	if (!disk)
		return NULL;
	disk->random = random;
	disk->root = node_new(disk, true);
	if (!disk->root) {
		free(disk);
		return NULL;
	}
	disk->root->parent = disk->root;
	return disk;
}

struct wh__disk *wh__disk_free(struct wh__disk *disk)
{
	if (!disk)
		return NULL;
	wh__disk_close_all(disk);
	for (size_t i = 0; i < disk->changes_count; i++)
		change_fini(&disk->changes[i]);
	for (struct node *node = disk->all, *next; node; node = next) {
		next = node->all_next;
		node_free(node);
	}
	free(disk->changes);
	free(disk->handles);
	free(disk);
	return NULL;
}

static uint64_t digest_bytes(uint64_t digest, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	for (size_t i = 0; i < len; i++)
		digest = (digest ^ at[i]) * UINT64_C(0x100000001b3);
	return wh__sim_mix(digest);
}

static uint64_t digest_node(const struct node *node)
{
	uint64_t digest = node->file.size;
	uint8_t bytes[WH__SECTOR_BYTES];
	for (uint64_t off = 0; off < node->file.size; off += sizeof bytes)
		digest = digest_bytes(digest, bytes,
		                      wh__sim_file_read(&node->file, bytes, sizeof bytes, off, false));
	for (size_t i = 0; i < node->entries_count; i++) {
		const struct entry *entry = &node->entries[i];
		/* a sum: the order of entries says nothing */
		if (entry->now)
			digest += digest_bytes(digest_node(entry->now), entry->name, strlen(entry->name));
	}
	return wh__sim_mix(digest);
}

uint64_t wh__disk_digest(const struct wh__disk *disk)
{
	return digest_node(disk->root);
}
