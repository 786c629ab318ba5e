/* src/engine/sim_tree.h -- the inside of a simulated disk: names, what they stand for, and which changes of them are safe.
 *
 * Used by: sim_tree.c (names, power cuts), sim_disk.c (descriptors, content, flushes). Interface: sim_disk.h.
 */
#ifndef WH_ENGINE_SIM_TREE_H
#define WH_ENGINE_SIM_TREE_H

#include "engine/sim_disk.h"

enum { NAME_BYTES_MAX = 255, PATH_BYTES_MAX = 4095, LINKS_MAX = 40, DIRECT_ALIGNMENT = 512 };

struct wh__node;

struct wh__entry {
	char *name;
	struct wh__node *now, *disk; /* NULL: no such name */
};

struct wh__attributes {
	uint32_t mode, user, group;
	int64_t accessed, modified, changed; /* wall time */
};

struct wh__node {
	struct wh__node *all_next; /* every node of the disk */
	struct wh__node *parent;   /* of a directory; the root's is itself */
	uint64_t inode;
	bool is_directory, reached;
	char *target; /* of a symbolic link; NULL: it is none */
	struct wh__attributes now, disk;
	uint64_t attributes_number; /* rises when somebody sets them; 0: now is safe */
	int64_t created;
	uint32_t links, opened;
	struct wh__handle *lock; /* exclusive */
	uint32_t shared_count;   /* of shared locks */
	uint64_t failures;       /* of flushes: each descriptor is told of it once */
	bool failure_told;
	struct wh__sim_file file;
	struct wh__entry *entries;
	size_t entries_count, entries_max;
};

/* What one system call changes in directories; survives as a whole or not at all. */
struct wh__change {
	struct {
		struct wh__node *directory;
		char *name;
		struct wh__node *to; /* NULL: taken away */
	} set[2];
	int count;
	struct wh__node *touched[2]; /* files moved, made, unlinked, replaced */
	struct wh__node *removed;    /* a directory that goes: what left it before must have left it */
	uint64_t number;             /* rising */
};

struct wh__handle {
	struct wh__node *node; /* NULL: free */
	int flags;
	bool shares;     /* holds a shared lock */
	uint64_t offset; /* of a directory: entries seen */
	uint64_t failures_seen;
};

struct wh__disk {
	struct wh__sim_random *random;
	uint64_t capacity;
	uint64_t write_number, change_number, inode_number;
	struct wh__node *root, *all;
	struct wh__change *changes; /* that are not safe, oldest first */
	size_t changes_count, changes_max;
	struct wh__handle **handles;
	size_t handles_count;
	bool (*choose)(void *arg); /* what survives the next power cut; NULL: chance does */
	void *choose_arg;
	int64_t (*clock)(void *arg); /* NULL: it is always 1970 */
	void *clock_arg;
};

/* What is called name now; NULL: nothing. */
struct wh__node *wh__tree_child(const struct wh__node *directory, const char *name);
/* The directory that path ends in, and the last name (empty: path names a directory as such, "/" or "a/.."). from: a
 * descriptor of where a relative path starts, or AT_FDCWD, which is the root. */
int64_t wh__tree_resolve(const struct wh__disk *disk, int from, const char *path,
                         struct wh__node **ret_directory, char ret_name[static NAME_BYTES_MAX + 1]);
/* The same, but when that name is a symbolic link: where it leads. -ELOOP. */
int64_t wh__tree_follow(const struct wh__disk *disk, int from, const char *path,
                        struct wh__node **ret_directory, char ret_name[static NAME_BYTES_MAX + 1]);
/* What is called path, likewise; follow: or what a link there leads to. */
int64_t wh__tree_find(const struct wh__disk *disk, int from, const char *path, bool follow,
                      struct wh__node **ret);
/* NULL: not open. */
struct wh__handle *wh__disk_handle(const struct wh__disk *disk, int fd);
void wh__tree_change_fini(struct wh__change *change);
/* A power cut undoes it no more. */
void wh__tree_make_safe(const struct wh__change *change);
/* Which of the changes up to count go with those in directory (NULL: those chosen already), as they must keep their order. */
void wh__tree_choose(const struct wh__disk *disk, size_t count, const struct wh__node *directory,
                     bool *chosen);
/* A new file that no directory knows; NULL: no memory. */
struct wh__node *wh__tree_unnamed(struct wh__disk *disk, mode_t mode);
/* A new file or directory. mode: less the umask, 022. */
int64_t wh__tree_create(struct wh__disk *disk, struct wh__node *directory, const char *name,
                        bool is_directory, mode_t mode, struct wh__node **ret);
int64_t wh__tree_now(const struct wh__disk *disk);
/* Its content has changed. */
static inline void wh__tree_modified(const struct wh__disk *disk, struct wh__node *node)
{
	node->now.modified = node->now.changed = wh__tree_now(disk);
}

#endif
