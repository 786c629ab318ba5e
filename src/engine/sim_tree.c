/* src/engine/sim_tree.c -- names of a simulated disk, and what a power cut makes of them; see sim_disk.h, sim_tree.h. */
#include "engine/sim_tree.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "whilst/sim.h"
#include "whilst/whilst.h"

enum { UMASK = 022 };

/* ---- nodes -------------------------------------------------------------------------------- */

int64_t wh__tree_now(const struct wh__disk *disk)
{
	return disk->clock ? disk->clock(disk->clock_arg) : 0;
}

static struct wh__node *node_new(struct wh__disk *disk, bool is_directory, mode_t mode)
{
	struct wh__node *node = calloc(1, sizeof *node);
	if (!node)
		return NULL;
	node->is_directory = is_directory;
	node->created = wh__tree_now(disk);
	node->now = (struct wh__attributes){.mode = mode & 07777 & ~(mode_t)UMASK,
	                                    .accessed = node->created,
	                                    .modified = node->created,
	                                    .changed = node->created};
	node->disk = node->now;
	node->inode = ++disk->inode_number;
	node->file.write_number = &disk->write_number;
	node->all_next = disk->all;
	disk->all = node;
	return node;
}

static void node_free(struct wh__node *node)
{
	for (size_t i = 0; i < node->entries_count; i++)
		free(node->entries[i].name);
	free(node->entries);
	free(node->target);
	wh__sim_file_fini(&node->file);
	free(node);
}

static struct wh__entry *entry_find(const struct wh__node *directory, const char *name)
{
	for (size_t i = 0; i < directory->entries_count; i++)
		if (!strcmp(directory->entries[i].name, name))
			return &directory->entries[i];
	return NULL;
}

struct wh__node *wh__tree_child(const struct wh__node *directory, const char *name)
{
	struct wh__entry *entry = entry_find(directory, name);
	return entry ? entry->now : NULL;
}

static struct wh__entry *entry_make(struct wh__node *directory, const char *name)
{
	struct wh__entry *entry = entry_find(directory, name);
	if (entry)
		return entry;
	if (directory->entries_count == directory->entries_max) {
		size_t max = directory->entries_max ? directory->entries_max * 2 : 8;
		struct wh__entry *entries = reallocarray(directory->entries, max, sizeof *entries);
		if (!entries)
			return NULL;
		directory->entries = entries;
		directory->entries_max = max;
	}
	char *copy = strdup(name);
	if (!copy)
		return NULL;
	entry = &directory->entries[directory->entries_count++];
	*entry = (struct wh__entry){.name = copy};
	return entry;
}

static bool directory_is_empty(const struct wh__node *directory)
{
	for (size_t i = 0; i < directory->entries_count; i++)
		if (directory->entries[i].now)
			return false;
	return true;
}

/* ---- paths -------------------------------------------------------------------------------- */

static int64_t start_of(const struct wh__disk *disk, int from, const char *path, struct wh__node **ret)
{
	*ret = disk->root;
	if (from == AT_FDCWD || *path == '/')
		return 0;
	const struct wh__handle *handle = wh__disk_handle(disk, from);
	if (!handle)
		return -EBADF;
	*ret = handle->node;
	return handle->node->is_directory ? 0 : -ENOTDIR;
}

/* A walk along a path, in which the targets of symbolic links are put in the place of their names. */
struct walk {
	const struct wh__disk *disk;
	struct wh__node *at;
	const char *rest;
	char texts[2][PATH_BYTES_MAX + 1]; /* rest is in one of them, once a link was met */
	int links;
};

static int64_t walk_link(struct walk *walk, const struct wh__node *link)
{
	char *text = walk->texts[walk->links % 2];
	size_t len = strlen(link->target);
	if (++walk->links > LINKS_MAX)
		return -ELOOP;
	if (len + strlen(walk->rest) + 1 > PATH_BYTES_MAX)
		return -ENAMETOOLONG;
	memcpy(text, link->target, len);
	if (*walk->rest)
		text[len++] = '/';
	memcpy(text + len, walk->rest, strlen(walk->rest) + 1);
	walk->rest = text;
	if (*text == '/')
		walk->at = walk->disk->root;
	return 0;
}

/* The walk enters name, which is not the last. */
static int64_t walk_into(struct walk *walk, const char *name)
{
	struct wh__node *node = wh__tree_child(walk->at, name);
	if (!node)
		return -ENOENT;
	if (node->target)
		return walk_link(walk, node);
	walk->at = node;
	return node->is_directory ? 0 : -ENOTDIR;
}

/* The next name of the path, empty at its end. */
static int64_t walk_name(struct walk *walk, char ret_name[static NAME_BYTES_MAX + 1])
{
	walk->rest += strspn(walk->rest, "/");
	size_t len = strcspn(walk->rest, "/");
	if (len > NAME_BYTES_MAX)
		return -ENAMETOOLONG;
	memcpy(ret_name, walk->rest, len);
	ret_name[len] = 0;
	walk->rest += len;
	if (!strcmp(ret_name, ".."))
		walk->at = walk->at->parent;
	return 0;
}

static bool is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

static int64_t walk_path(struct walk *walk, bool follow, char ret_name[static NAME_BYTES_MAX + 1])
{
	int64_t error = 0;
	ret_name[0] = 0;
	while (error == 0) {
		const char *rest = walk->rest + strspn(walk->rest, "/");
		if (*rest && ret_name[0]) {
			/* more comes: what was the last name is a directory, or leads to one */
			error = walk_into(walk, ret_name);
			ret_name[0] = 0;
			continue;
		}
		if (!*rest) {
			const struct wh__node *last = ret_name[0] ? wh__tree_child(walk->at, ret_name) : NULL;
			if (!last || !last->target || !follow)
				return 0;
			error = walk_link(walk, last);
			ret_name[0] = 0;
			continue;
		}
		error = walk_name(walk, ret_name);
		if (error == 0 && is_dots(ret_name))
			ret_name[0] = 0;
	}
	return error;
}

static int64_t resolve(const struct wh__disk *disk, int from, const char *path, bool follow,
                       struct wh__node **ret_directory, char ret_name[static NAME_BYTES_MAX + 1])
{
	struct walk walk = {.disk = disk, .rest = path};
	ret_name[0] = 0;
	if (!*path)
		return -ENOENT;
	int64_t error = start_of(disk, from, path, &walk.at);
	if (error != 0)
		return error;
	size_t len = strlen(path);
	if (len > PATH_BYTES_MAX)
		return -ENAMETOOLONG;
	/* a slash at the end asks for the directory, not for a link to it */
	error = walk_path(&walk, follow || path[len - 1] == '/', ret_name);
	if (error == 0)
		*ret_directory = walk.at;
	return error;
}

int64_t wh__tree_resolve(const struct wh__disk *disk, int from, const char *path,
                         struct wh__node **ret_directory, char ret_name[static NAME_BYTES_MAX + 1])
{
	return resolve(disk, from, path, false, ret_directory, ret_name);
}

int64_t wh__tree_follow(const struct wh__disk *disk, int from, const char *path,
                        struct wh__node **ret_directory, char ret_name[static NAME_BYTES_MAX + 1])
{
	return resolve(disk, from, path, true, ret_directory, ret_name);
}

int64_t wh__tree_find(const struct wh__disk *disk, int from, const char *path, bool follow,
                      struct wh__node **ret)
{
	struct wh__node *directory;
	char name[NAME_BYTES_MAX + 1];
	int64_t error = resolve(disk, from, path, follow, &directory, name);
	if (error != 0)
		return error;
	*ret = name[0] ? wh__tree_child(directory, name) : directory;
	if (*ret && !(*ret)->is_directory && path[strlen(path) - 1] == '/')
		return -ENOTDIR;
	return *ret ? 0 : -ENOENT;
}

int wh__disk_can_make(const struct wh__disk *disk, const char *path)
{
	const int from = AT_FDCWD;
	struct wh__node *directory;
	char name[NAME_BYTES_MAX + 1];
	int64_t error = wh__tree_resolve(disk, from, path, &directory, name);
	if (error != 0)
		return (int)error;
	return name[0] == 0 || wh__tree_child(directory, name) ? -EADDRINUSE : 0;
}

/* ---- changes of names --------------------------------------------------------------------- */

void wh__tree_change_fini(struct wh__change *change)
{
	for (int i = 0; i < change->count; i++)
		free(change->set[i].name);
}

static int change_add(struct wh__change *change, struct wh__node *directory, const char *name,
                      struct wh__node *to)
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
static int change_do(struct wh__disk *disk, struct wh__change *change)
{
	if (disk->changes_count == disk->changes_max) {
		size_t max = disk->changes_max ? disk->changes_max * 2 : 16;
		struct wh__change *changes = reallocarray(disk->changes, max, sizeof *changes);
		if (!changes) {
			wh__tree_change_fini(change);
			return -ENOMEM;
		}
		disk->changes = changes;
		disk->changes_max = max;
	}
	for (int i = 0; i < change->count; i++) {
		struct wh__entry *entry = entry_find(change->set[i].directory, change->set[i].name);
		if (entry->now)
			entry->now->links--;
		entry->now = change->set[i].to;
		if (entry->now)
			entry->now->links++;
		wh__tree_modified(disk, change->set[i].directory);
	}
	for (int i = 0; i < 2; i++)
		if (change->touched[i])
			change->touched[i]->now.changed = wh__tree_now(disk);
	change->number = ++disk->change_number;
	disk->changes[disk->changes_count++] = *change;
	return 0;
}

static bool change_is_in(const struct wh__change *change, const struct wh__node *directory)
{
	for (int i = 0; i < change->count; i++)
		if (change->set[i].directory == directory)
			return true;
	return false;
}

/* a was before b. */
static bool related(const struct wh__change *a, const struct wh__change *b)
{
	if (b->removed && change_is_in(a, b->removed))
		return true;
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

void wh__tree_make_safe(const struct wh__change *change)
{
	for (int i = 0; i < change->count; i++)
		entry_find(change->set[i].directory, change->set[i].name)->disk = change->set[i].to;
}

/* Those of the oldest count changes that are in directory, and the earlier ones that they build on. */
void wh__tree_choose(const struct wh__disk *disk, size_t count, const struct wh__node *directory,
                     bool *chosen)
{
	for (size_t i = count; i-- > 0;) {
		const struct wh__change *change = &disk->changes[i];
		chosen[i] = chosen[i] || change_is_in(change, directory);
		for (size_t j = 0; chosen[i] && j < i; j++)
			chosen[j] = chosen[j] || related(&disk->changes[j], change);
	}
}

/* ---- names -------------------------------------------------------------------------------- */

/* A directory that was removed while it was open: nothing is made in it any more. */
static bool is_gone(const struct wh__disk *disk, const struct wh__node *directory)
{
	return directory != disk->root && directory->links == 0;
}

struct wh__node *wh__tree_unnamed(struct wh__disk *disk, mode_t mode)
{
	return node_new(disk, false, mode);
}

int64_t wh__tree_create(struct wh__disk *disk, struct wh__node *directory, const char *name,
                        bool is_directory, mode_t mode, struct wh__node **ret)
{
	struct wh__change change = {0};
	if (is_gone(disk, directory))
		return -ENOENT;
	struct wh__node *node = node_new(disk, is_directory, mode);
	if (!node || change_add(&change, directory, name, node) != 0)
		return -ENOMEM; /* an unreachable node goes with the next power cut */
	node->parent = directory;
	change.touched[0] = node;
	*ret = node;
	return change_do(disk, &change);
}

int64_t wh__disk_symlink(struct wh__disk *disk, const char *target, int from, const char *path)
{
	struct wh__node *directory, *link;
	struct wh__change change = {0};
	char name[NAME_BYTES_MAX + 1];
	size_t len = strlen(target);
	int64_t error = len == 0 ? -ENOENT : len > PATH_BYTES_MAX ? -ENAMETOOLONG : 0;
	if (error == 0)
		error = wh__tree_resolve(disk, from, path, &directory, name);
	if (error != 0)
		return error;
	if (!name[0] || wh__tree_child(directory, name))
		return -EEXIST;
	if (is_gone(disk, directory) || path[strlen(path) - 1] == '/')
		return -ENOENT;
	link = node_new(disk, false, 0777);
	if (!link || !(link->target = strdup(target)) || change_add(&change, directory, name, link) != 0)
		return -ENOMEM;                  /* as wh__tree_create() */
	link->now.mode = link->disk.mode = 0777; /* whatever the umask */
	change.touched[0] = link;
	return change_do(disk, &change);
}

static bool is_within(const struct wh__node *node, const struct wh__node *directory)
{
	for (; node->parent != node; node = node->parent)
		if (node == directory)
			return true;
	return node == directory;
}

/* May moved be put in the place of target? */
static int64_t check_target(const struct wh__node *moved, const struct wh__node *target)
{
	if (!target)
		return 0;
	if (moved->is_directory && !target->is_directory)
		return -ENOTDIR;
	if (!moved->is_directory && target->is_directory)
		return -EISDIR;
	return target->is_directory && !directory_is_empty(target) ? -ENOTEMPTY : 0;
}

/* May moved be called as target is, and target, when they are exchanged, as moved is? */
static int64_t check_rename(const struct wh__node *moved, const struct wh__node *from_directory,
                            const struct wh__node *target, const struct wh__node *to_directory,
                            unsigned int flags)
{
	if (!moved || (flags == WH_RENAME_EXCHANGE && !target))
		return -ENOENT;
	if (flags == WH_RENAME_NO_REPLACE && target)
		return -EEXIST;
	if (moved->is_directory && is_within(to_directory, moved))
		return -EINVAL;
	if (flags != WH_RENAME_EXCHANGE)
		return moved == target ? 0 : check_target(moved, target);
	return target->is_directory && is_within(from_directory, target) ? -EINVAL : 0;
}

int64_t wh__disk_rename_at(struct wh__disk *disk, int from_at, const char *from, int to_at, const char *to,
                           unsigned int flags)
{
	struct wh__node *from_directory, *to_directory;
	char from_name[NAME_BYTES_MAX + 1], to_name[NAME_BYTES_MAX + 1];
	if (flags > WH_RENAME_EXCHANGE)
		return -EINVAL;
	int64_t error = wh__tree_resolve(disk, from_at, from, &from_directory, from_name);
	if (error == 0)
		error = wh__tree_resolve(disk, to_at, to, &to_directory, to_name);
	if (error != 0)
		return error;
	if (!from_name[0] || !to_name[0])
		return -EBUSY;
	struct wh__node *moved = wh__tree_child(from_directory, from_name),
			*target = wh__tree_child(to_directory, to_name);
	error = is_gone(disk, to_directory)
	                ? -ENOENT
	                : check_rename(moved, from_directory, target, to_directory, flags);
	if (error != 0 || moved == target)
		return error;
	bool exchange = flags == WH_RENAME_EXCHANGE;
	struct wh__change change = {.touched = {moved, target},
	                            .removed = target && target->is_directory && !exchange ? target : NULL};
	if (change_add(&change, to_directory, to_name, moved) != 0 ||
	    change_add(&change, from_directory, from_name, exchange ? target : NULL) != 0) {
		wh__tree_change_fini(&change);
		return -ENOMEM;
	}
	if (moved->is_directory)
		moved->parent = to_directory;
	if (exchange && target->is_directory)
		target->parent = from_directory;
	return change_do(disk, &change);
}

int64_t wh__disk_link(struct wh__disk *disk, int from_at, const char *from, int to_at, const char *to,
                      bool follow)
{
	struct wh__node *node, *directory;
	char name[NAME_BYTES_MAX + 1];
	int64_t error = wh__tree_find(disk, from_at, from, follow, &node);
	if (error == 0)
		error = wh__tree_resolve(disk, to_at, to, &directory, name);
	if (error != 0)
		return error;
	if (!name[0] || wh__tree_child(directory, name))
		return -EEXIST;
	if (is_gone(disk, directory) || to[strlen(to) - 1] == '/')
		return -ENOENT;
	if (node->is_directory)
		return -EPERM;
	struct wh__change change = {.touched = {node}};
	if (change_add(&change, directory, name, node) != 0)
		return -ENOMEM;
	return change_do(disk, &change);
}

int64_t wh__disk_rmdir(struct wh__disk *disk, int from, const char *path)
{
	struct wh__node *directory;
	char name[NAME_BYTES_MAX + 1];
	int64_t error = wh__tree_resolve(disk, from, path, &directory, name);
	if (error != 0)
		return error;
	if (!name[0]) {
		const char *last = path + strlen(path) - 1;
		if (*last != '.')
			return -EBUSY; /* the root */
		return last > path && last[-1] == '.' ? -ENOTEMPTY : -EINVAL;
	}
	struct wh__node *node = wh__tree_child(directory, name);
	if (!node)
		return -ENOENT;
	if (!node->is_directory)
		return -ENOTDIR;
	if (!directory_is_empty(node))
		return -ENOTEMPTY;
	struct wh__change change = {.touched = {node}, .removed = node};
	if (change_add(&change, directory, name, NULL) != 0)
		return -ENOMEM;
	return change_do(disk, &change);
}

int64_t wh__disk_unlink_at(struct wh__disk *disk, int from, const char *path)
{
	struct wh__node *directory;
	char name[NAME_BYTES_MAX + 1];
	int64_t error = wh__tree_resolve(disk, from, path, &directory, name);
	if (error != 0)
		return error;
	struct wh__node *node = name[0] ? wh__tree_child(directory, name) : directory;
	if (!node)
		return -ENOENT;
	if (node->is_directory)
		return -EISDIR;
	struct wh__change change = {.touched = {node}};
	if (change_add(&change, directory, name, NULL) != 0)
		return -ENOMEM;
	return change_do(disk, &change);
}

int64_t wh__disk_mkdir_at(struct wh__disk *disk, int from, const char *path, mode_t mode)
{
	struct wh__node *directory, *made;
	char name[NAME_BYTES_MAX + 1];
	int64_t error = wh__tree_resolve(disk, from, path, &directory, name);
	if (error != 0)
		return error;
	if (!name[0] || wh__tree_child(directory, name))
		return -EEXIST;
	return wh__tree_create(disk, directory, name, true, mode, &made);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int64_t wh__disk_list(struct wh__disk *disk, const char *path, void **ret_names)
{
	struct wh__node *directory;
	int64_t error = wh__tree_find(disk, AT_FDCWD, path, true, &directory);
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

/* ---- power cut ---------------------------------------------------------------------------- */

/* Some cuts tear everything apart, some leave most of it: both find mistakes that the other does not. */
static struct wh__sim_damage draw_damage(const struct wh__disk *disk, int kind)
{
	struct wh__sim_random *random = disk->random;
	struct wh__sim_damage damage = {.kind = kind,
	                                .keep_metadata = kind == WH_SIM_KEEP_NEW,
	                                .metadata_random = kind != WH_SIM_KEEP_NEW && kind != WH_SIM_KEEP_OLD,
	                                .choose = disk->choose,
	                                .choose_arg = disk->choose_arg};
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
	if (!damage->metadata_random || damage->choose) {
		ordered = true;
		prefix = damage->keep_metadata || damage->choose ? disk->changes_count : 0;
	}
	bool *fails = calloc(disk->changes_count + 1, sizeof *fails);
	assert(fails);
	for (size_t i = 0; i < disk->changes_count; i++) {
		fails[i] = ordered ? i >= prefix : wh__sim_chance(disk->random, 50);
		for (size_t j = 0; j < i && !fails[i]; j++)
			fails[i] = fails[j] && related(&disk->changes[j], &disk->changes[i]);
		if (damage->choose && !fails[i])
			fails[i] = !damage->choose(damage->choose_arg);
		if (!fails[i])
			wh__tree_make_safe(&disk->changes[i]);
	}
	/* not before: later ones are compared with earlier ones */
	for (size_t i = 0; i < disk->changes_count; i++)
		wh__tree_change_fini(&disk->changes[i]);
	disk->changes_count = 0;
	free(fails);
}

/* What is safe is what there is. */
static void load_directory(struct wh__node *directory, struct wh__node *parent)
{
	size_t kept = 0;
	directory->parent = parent;
	directory->reached = true;
	for (size_t i = 0; i < directory->entries_count; i++) {
		struct wh__entry *entry = &directory->entries[i];
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

void wh__disk_choose(struct wh__disk *disk, bool (*choose)(void *arg), void *arg)
{
	disk->choose = choose;
	disk->choose_arg = arg;
}

bool wh__disk_is_chosen(const struct wh__disk *disk)
{
	return disk->choose;
}

/* Modes, owners and times that were set go together; times that writing changes are as they were seen. */
static void decide_attributes(const struct wh__disk *disk, struct wh__node *node,
                              const struct wh__sim_damage *damage)
{
	bool kept =
		node->attributes_number == 0 || (damage->choose ? damage->choose(damage->choose_arg)
	                                         : damage->metadata_random ? wh__sim_chance(disk->random, 50)
	                                                                   : damage->keep_metadata);
	if (!kept)
		node->now = node->disk;
	node->disk = node->now;
	node->attributes_number = 0;
}

void wh__disk_power_cut(struct wh__disk *disk, int kind)
{
	struct wh__sim_damage damage = draw_damage(disk, kind);
	wh__disk_close_all(disk);
	decide_names(disk, &damage);
	for (struct wh__node *node = disk->all; node; node = node->all_next) {
		node->reached = false;
		node->links = 0;
		node->failures = 0;
		node->failure_told = false;
	}
	load_directory(disk->root, disk->root);
	for (struct wh__node **at = &disk->all, *node; (node = *at);) {
		if (!node->reached) {
			*at = node->all_next;
			node_free(node);
			continue;
		}
		decide_attributes(disk, node, &damage);
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
	disk->root = node_new(disk, true, 0755);
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
		wh__tree_change_fini(&disk->changes[i]);
	for (struct wh__node *node = disk->all, *next; node; node = next) {
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

static uint64_t digest_node(const struct wh__node *node)
{
	uint64_t digest = node->file.size;
	uint8_t bytes[WH__SECTOR_BYTES];
	if (node->target)
		return digest_bytes(digest, node->target, strlen(node->target));
	for (uint64_t off = 0; off < node->file.size; off += sizeof bytes)
		digest = digest_bytes(digest, bytes,
		                      wh__sim_file_read(&node->file, bytes, sizeof bytes, off, false));
	for (size_t i = 0; i < node->entries_count; i++) {
		const struct wh__entry *entry = &node->entries[i];
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
