/* tests/power/disk.h -- what the file system of powerfs.c keeps: everything twice, as programs see it and as it is safe; and what is left of
 * it when the power goes.
 *
 * Nodes have numbers, as the kernel knows them. Content is in blocks, which are the same memory twice while they are equal. Memory that
 * cannot be had ends the program.
 *
 * Thread: any, with disk_lock held; disk_flush() gives it up while it waits.
 */
#ifndef WH_TESTS_POWER_DISK_H
#define WH_TESTS_POWER_DISK_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

enum {
	DISK_BLOCK = 4096,
	DISK_SECTOR = 512,
	DISK_ROOT_INO = 1,
	DISK_FIRST_INO = 3,
	DISK_NODES_MAX = 1 << 20
};

struct block {
	uint8_t *now, *safe; /* NULL: zeros; the same pointer while equal */
	uint32_t version;    /* of now; raised by each write */
	uint32_t safe_version;
	bool failed; /* a flush of it has: now, which nothing writes any more, is not what the disk has, safe */
};

struct entry {
	char *name;
	uint64_t ino;
};

struct entries {
	struct entry *list;
	size_t count, cap;
};

struct node {
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec changed;
	/* a file */
	struct block *blocks;
	size_t blocks_count;
	off_t size, safe_size;
	uint64_t size_version, size_safe_version;
	/* a directory */
	struct entries now, safe;
};

struct disk_counts {
	uint64_t flushes, writes, cuts, failures;
};

extern pthread_mutex_t disk_lock;
extern struct node *disk_nodes[DISK_NODES_MAX]; /* the root is the caller's to make */
extern uint64_t disk_nodes_end;
extern struct disk_counts disk_counts;
extern bool disk_strict;       /* names are safe by a flush of their directory only */
extern unsigned disk_flush_us; /* that a flush of a file takes */

/* The memory itself; NULL aborts. */
void *disk_must(void *memory);

/* 0: there is no such name. */
uint64_t disk_entries_find(const struct entries *entries, const char *name);
void disk_entries_clear(struct entries *entries);
void disk_entries_copy(struct entries *to, const struct entries *from);

/* A name comes, leads elsewhere, or goes (ino 0). together: with the change behind this one, or not at all. */
void disk_change_name(uint64_t directory, const char *name, uint64_t ino, bool together);

/* Changes of one directory, or of all (0), become safe; of a rename, both halves. */
void disk_names_are_safe(uint64_t directory);
size_t disk_unsafe_names(void);

struct node *disk_node_new(mode_t mode, uid_t uid, gid_t gid, uint64_t *ret_ino);
void disk_set_size(struct node *node, off_t size);
void disk_write(struct node *node, const char *from, size_t len, off_t at);

/* The bytes read. direct: past the cache. */
size_t disk_read(const struct node *node, char *to, size_t len, off_t at, bool direct);

/* Takes what there is when it begins, and has it on the disk when it ends. Called and left with the lock held. false: it
 * failed. */
bool disk_flush(struct node *node);

/* What is written to .power: see powerfs.c. 0, or a positive errno. */
int disk_command(const char *text, size_t len);

#endif
