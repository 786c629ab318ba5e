/* src/engine/sim_status.c -- what a simulated disk tells of files besides their content: modes, owners, times, where links lead.
 * See sim_disk.h, sim_tree.h. Modes and owners are kept and shown, and refuse nothing: the programs are root's.
 */
#include "engine/sim_tree.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t node_of(const struct wh__disk *disk, int from, const char *path, bool follow,
                       struct wh__node **ret)
{
	if (path)
		return wh__tree_find(disk, from, path, follow, ret);
	const struct wh__handle *handle = wh__disk_handle(disk, from);
	if (!handle)
		return -EBADF;
	*ret = handle->node;
	return 0;
}

int64_t wh__disk_status(const struct wh__disk *disk, int from, const char *path, bool follow,
                        struct wh_stat *ret)
{
	const uint32_t block = WH__SECTOR_BYTES * WH__SECTORS_PER_BLOCK;
	struct wh__node *node;
	int64_t error = node_of(disk, from, path, follow, &node);
	if (error != 0)
		return error;
	*ret = (struct wh_stat){.type = node->is_directory ? WH_FILE_DIRECTORY
	                                : node->target     ? WH_FILE_LINK
	                                                   : WH_FILE_REGULAR,
	                        .mode = node->now.mode,
	                        .links = node->is_directory ? 2 : node->links,
	                        .user = node->now.user,
	                        .group = node->now.group,
	                        .block_bytes = block,
	                        .size = node->is_directory ? block
	                                : node->target     ? strlen(node->target)
	                                                   : node->file.size,
	                        .allocated_bytes = node->file.blocks_count * block,
	                        .inode = node->inode,
	                        .device = 1,
	                        .accessed_ns = node->now.accessed,
	                        .modified_ns = node->now.modified,
	                        .changed_ns = node->now.changed,
	                        .created_ns = node->created};
	return 0;
}

int64_t wh__disk_access(const struct wh__disk *disk, int from, const char *path, int mode, bool follow)
{
	struct wh__node *node;
	if (mode & ~(R_OK | W_OK | X_OK))
		return -EINVAL;
	int64_t error = node_of(disk, from, path, follow, &node);
	if (error != 0)
		return error;
	/* even root runs only what somebody may run */
	return mode & X_OK && !node->is_directory && !(node->now.mode & 0111) ? -EACCES : 0;
}

/* The attributes are about to be set, which a flush has to make safe. */
static struct wh__attributes *set(struct wh__disk *disk, struct wh__node *node)
{
	node->attributes_number = ++disk->change_number;
	node->now.changed = wh__tree_now(disk);
	return &node->now;
}

int64_t wh__disk_chmod(struct wh__disk *disk, int from, const char *path, mode_t mode)
{
	struct wh__node *node;
	int64_t error = node_of(disk, from, path, true, &node);
	if (error == 0)
		set(disk, node)->mode = mode & 07777;
	return error;
}

int64_t wh__disk_chown(struct wh__disk *disk, int from, const char *path, uint32_t user, uint32_t group,
                       bool follow)
{
	struct wh__node *node;
	int64_t error = node_of(disk, from, path, follow, &node);
	if (error != 0)
		return error;
	struct wh__attributes *attributes = set(disk, node);
	if (user != UINT32_MAX)
		attributes->user = user;
	if (group != UINT32_MAX)
		attributes->group = group;
	return 0;
}

static void set_time(int64_t *time, const struct timespec *to, int64_t now)
{
	if (to->tv_nsec == UTIME_NOW)
		*time = now;
	else if (to->tv_nsec != UTIME_OMIT)
		*time = (int64_t)to->tv_sec * WH_NS_PER_S + to->tv_nsec;
}

int64_t wh__disk_set_times(struct wh__disk *disk, int from, const char *path, const struct timespec times[2],
                           bool follow)
{
	struct wh__node *node;
	int64_t error = node_of(disk, from, path, follow, &node);
	if (error != 0 || (times[0].tv_nsec == UTIME_OMIT && times[1].tv_nsec == UTIME_OMIT))
		return error;
	struct wh__attributes *attributes = set(disk, node);
	set_time(&attributes->accessed, &times[0], attributes->changed);
	set_time(&attributes->modified, &times[1], attributes->changed);
	return 0;
}

/* ---- where links lead --------------------------------------------------------------------- */

int64_t wh__disk_readlink(const struct wh__disk *disk, int from, const char *path, char *buf, uint64_t len)
{
	struct wh__node *node;
	int64_t error = wh__tree_find(disk, from, path, false, &node);
	if (error != 0)
		return error;
	if (!node->target)
		return -EINVAL;
	size_t bytes = strlen(node->target);
	if (bytes >= len)
		return -ENAMETOOLONG;
	memcpy(buf, node->target, bytes);
	return (int64_t)bytes;
}

static const char *name_in(const struct wh__node *directory, const struct wh__node *child)
{
	for (size_t i = 0; i < directory->entries_count; i++)
		if (directory->entries[i].now == child)
			return directory->entries[i].name;
	return ""; /* it was removed while open */
}

/* Puts "/name" before *at. false: there is no room. */
static bool put_before(char **at, const char *start, const char *name)
{
	size_t len = strlen(name);
	if ((size_t)(*at - start) < len + 1)
		return false;
	*at -= len;
	memcpy(*at, name, len);
	*--*at = '/';
	return true;
}

int64_t wh__disk_realpath(const struct wh__disk *disk, const char *path, char *buf, uint64_t len)
{
	char text[PATH_BYTES_MAX + 1], name[NAME_BYTES_MAX + 1], *at = text + sizeof text;
	struct wh__node *directory, *node;
	int64_t error = wh__tree_find(disk, AT_FDCWD, path, true, &node);
	if (error == 0)
		error = wh__tree_follow(disk, AT_FDCWD, path, &directory, name);
	if (error != 0)
		return error;
	bool fits = !name[0] || put_before(&at, text, name);
	for (; fits && directory != disk->root; directory = directory->parent)
		fits = put_before(&at, text, name_in(directory->parent, directory));
	if (at == text + sizeof text)
		*--at = '/';
	size_t bytes = (size_t)(text + sizeof text - at);
	if (!fits || bytes >= len)
		return -ENAMETOOLONG;
	memcpy(buf, at, bytes);
	buf[bytes] = 0;
	return (int64_t)bytes;
}
