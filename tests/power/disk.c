/* tests/power/disk.c -- see disk.h for the contract. */
#include "disk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A change of names that is not safe yet. ino 0: the name goes. */
struct change {
	uint64_t directory, ino;
	char *name;
	bool together; /* with the one behind it: a rename */
};

pthread_mutex_t disk_lock = PTHREAD_MUTEX_INITIALIZER;
struct node *disk_nodes[DISK_NODES_MAX];
uint64_t disk_nodes_end = DISK_FIRST_INO;
static struct change *changes;
static size_t changes_count, changes_cap;
bool disk_strict;
unsigned disk_flush_us = 100;
static unsigned flushes_to_fail;
struct disk_counts disk_counts;
static uint64_t chance_state;

void *disk_must(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

static uint64_t chance(uint64_t below)
{
	chance_state += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t z = chance_state;
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (z ^ (z >> 31)) % below;
}

/* ---- names ------------------------------------------------------------------------------- */

uint64_t disk_entries_find(const struct entries *entries, const char *name)
{
	for (size_t i = 0; i < entries->count; i++)
		if (strcmp(entries->list[i].name, name) == 0)
			return entries->list[i].ino;
	return 0;
}

/* ino 0: remove it */
static void entries_set(struct entries *entries, const char *name, uint64_t ino)
{
	size_t i = 0;
	while (i < entries->count && strcmp(entries->list[i].name, name) != 0)
		i++;
	if (i < entries->count && ino != 0) {
		entries->list[i].ino = ino;
	} else if (i < entries->count) {
		free(entries->list[i].name);
		entries->list[i] = entries->list[--entries->count];
	} else if (ino != 0) {
		if (entries->count == entries->cap) {
			entries->cap = entries->cap ? entries->cap * 2 : 8;
			entries->list =
				disk_must(realloc(entries->list, entries->cap * sizeof(*entries->list)));
		}
		entries->list[entries->count++] = (struct entry){disk_must(strdup(name)), ino};
	}
}

void disk_entries_clear(struct entries *entries)
{
	for (size_t i = 0; i < entries->count; i++)
		free(entries->list[i].name);
	free(entries->list);
	*entries = (struct entries){0};
}

void disk_entries_copy(struct entries *to, const struct entries *from)
{
	disk_entries_clear(to);
	for (size_t i = 0; i < from->count; i++)
		entries_set(to, from->list[i].name, from->list[i].ino);
}

void disk_change_name(uint64_t directory, const char *name, uint64_t ino, bool together)
{
	entries_set(&disk_nodes[directory]->now, name, ino);
	clock_gettime(CLOCK_REALTIME, &disk_nodes[directory]->changed);
	if (changes_count == changes_cap) {
		changes_cap = changes_cap ? changes_cap * 2 : 64;
		changes = disk_must(realloc(changes, changes_cap * sizeof(*changes)));
	}
	changes[changes_count++] = (struct change){directory, ino, disk_must(strdup(name)), together};
}

void disk_names_are_safe(uint64_t directory)
{
	size_t kept = 0;
	for (size_t i = 0; i < changes_count;) {
		size_t end = i + (changes[i].together ? 2 : 1);
		bool safe = directory == 0;
		for (size_t at = i; at < end; at++)
			safe = safe || changes[at].directory == directory;
		for (; i < end; i++) {
			if (safe) {
				entries_set(&disk_nodes[changes[i].directory]->safe, changes[i].name,
				            changes[i].ino);
				free(changes[i].name);
			} else {
				changes[kept++] = changes[i];
			}
		}
	}
	changes_count = kept;
}

struct node *disk_node_new(mode_t mode, uid_t uid, gid_t gid, uint64_t *ret_ino)
{
	struct node *node = disk_must(calloc(1, sizeof(*node)));
	if (disk_nodes_end == DISK_NODES_MAX)
		abort();
	node->mode = mode;
	node->uid = uid;
	node->gid = gid;
	clock_gettime(CLOCK_REALTIME, &node->changed);
	*ret_ino = disk_nodes_end++;
	disk_nodes[*ret_ino] = node;
	return node;
}

size_t disk_unsafe_names(void)
{
	return changes_count;
}

/* ---- content ----------------------------------------------------------------------------- */

static struct block *block_at(struct node *node, size_t i)
{
	if (i >= node->blocks_count) {
		size_t count = node->blocks_count * 2 > i + 1 ? node->blocks_count * 2 : i + 1;
		node->blocks = disk_must(realloc(node->blocks, count * sizeof(*node->blocks)));
		memset(node->blocks + node->blocks_count, 0,
		       (count - node->blocks_count) * sizeof(*node->blocks));
		node->blocks_count = count;
	}
	return &node->blocks[i];
}

/* The block to write into: no longer shared with what is safe. */
static uint8_t *block_change(struct node *node, size_t i)
{
	struct block *block = block_at(node, i);
	if (block->now == NULL || block->now == block->safe) {
		uint8_t *copy = disk_must(calloc(1, DISK_BLOCK));
		if (block->now)
			memcpy(copy, block->now, DISK_BLOCK);
		block->now = copy;
	}
	block->version++;
	return block->now;
}

static void block_set_now(struct block *block, uint8_t *now)
{
	if (block->now != block->safe)
		free(block->now);
	block->now = now;
}

void disk_set_size(struct node *node, off_t size)
{
	if (size < node->size) {
		size_t first = ((size_t)size + DISK_BLOCK - 1) / DISK_BLOCK;
		if (size % DISK_BLOCK != 0 && first - 1 < node->blocks_count && node->blocks[first - 1].now)
			memset(block_change(node, first - 1) + size % DISK_BLOCK, 0,
			       (size_t)(DISK_BLOCK - size % DISK_BLOCK));
		for (size_t i = first; i < node->blocks_count; i++) {
			if (!node->blocks[i].now)
				continue;
			block_set_now(&node->blocks[i], NULL);
			node->blocks[i].version++;
		}
	}
	if (size != node->size)
		node->size_version++;
	node->size = size;
}

void disk_write(struct node *node, const char *from, size_t len, off_t at)
{
	while (len > 0) {
		size_t within = (size_t)at % DISK_BLOCK,
		       n = DISK_BLOCK - within < len ? DISK_BLOCK - within : len;
		memcpy(block_change(node, (size_t)at / DISK_BLOCK) + within, from, n);
		from += n;
		len -= n;
		at += (off_t)n;
	}
	if (at > node->size)
		disk_set_size(node, at);
	clock_gettime(CLOCK_REALTIME, &node->changed);
	disk_counts.writes++;
}

/* What nothing will write is in the cache alone. */
static bool is_in_cache_alone(const struct block *block)
{
	return block->failed && block->version == block->safe_version;
}

size_t disk_read(const struct node *node, char *to, size_t len, off_t at, bool direct)
{
	size_t done = 0;
	if (at >= node->size)
		return 0;
	if ((off_t)len > node->size - at)
		len = (size_t)(node->size - at);
	while (done < len) {
		size_t i = (size_t)at / DISK_BLOCK, within = (size_t)at % DISK_BLOCK;
		size_t n = DISK_BLOCK - within < len - done ? DISK_BLOCK - within : len - done;
		const struct block *block = i < node->blocks_count ? &node->blocks[i] : NULL;
		const uint8_t *from = !block                               ? NULL
		                      : direct && is_in_cache_alone(block) ? block->safe
		                                                           : block->now;
		if (from)
			memcpy(to + done, from + within, n);
		else
			memset(to + done, 0, n);
		done += n;
		at += (off_t)n;
	}
	return done;
}

static void block_is_safe(struct block *block, uint8_t *content, uint32_t version)
{
	if (block->safe != block->now)
		free(block->safe);
	if (version == block->version) {
		if (content != block->now)
			free(content);
		block->safe = block->now;
	} else {
		block->safe = content;
	}
	block->safe_version = version;
	block->failed = false;
}

/* What was to be flushed is told once that it was not, and forgotten. */
static void fail_flush(struct node *node)
{
	for (size_t i = 0; i < node->blocks_count; i++) {
		struct block *block = &node->blocks[i];
		if (block->version == block->safe_version)
			continue;
		block->safe_version = block->version;
		block->failed = true;
	}
	disk_counts.failures++;
}

bool disk_flush(struct node *node)
{
	struct taken {
		size_t at;
		uint8_t *content;
		uint32_t version;
	} *taken = NULL;
	size_t count = 0, cap = 0;
	if (flushes_to_fail > 0) {
		flushes_to_fail--;
		fail_flush(node);
		return false;
	}
	for (size_t i = 0; i < node->blocks_count; i++) {
		const struct block *block = &node->blocks[i];
		if (block->version == block->safe_version)
			continue;
		if (count == cap) {
			cap = cap ? cap * 2 : 16;
			taken = disk_must(realloc(taken, cap * sizeof(*taken)));
		}
		taken[count] = (struct taken){i, NULL, block->version};
		if (block->now)
			taken[count].content = memcpy(disk_must(malloc(DISK_BLOCK)), block->now, DISK_BLOCK);
		count++;
	}
	off_t size = node->size;
	uint64_t size_version = node->size_version, cuts_before = disk_counts.cuts;
	pthread_mutex_unlock(&disk_lock);
	if (disk_flush_us > 0)
		usleep(disk_flush_us);
	pthread_mutex_lock(&disk_lock);
	for (size_t i = 0; i < count; i++) {
		struct block *block = taken[i].at < node->blocks_count ? &node->blocks[taken[i].at] : NULL;
		if (disk_counts.cuts == cuts_before && block && taken[i].version > block->safe_version)
			block_is_safe(block, taken[i].content, taken[i].version);
		else
			free(taken[i].content);
	}
	free(taken);
	if (disk_counts.cuts == cuts_before && size_version >= node->size_safe_version) {
		node->safe_size = size;
		node->size_safe_version = size_version;
	}
	disk_counts.flushes++;
	return true;
}

/* ---- power ------------------------------------------------------------------------------- */

enum mood { OLD, MIX, NEW };

/* What the disk holds of a block that was on its way there. */
static void block_after_cut(struct block *block, enum mood mood, unsigned percent_new)
{
	bool is_new = mood == NEW || (mood == MIX && chance(100) < percent_new);
	if (mood == NEW && is_in_cache_alone(block))
		return; /* and stays there */
	if (is_in_cache_alone(block))
		block_set_now(block, block->safe);
	block->failed = false;
	if (block->version != block->safe_version && mood == MIX && chance(16) == 0) {
		uint8_t *torn = disk_must(calloc(1, DISK_BLOCK));
		for (size_t at = 0; at < DISK_BLOCK; at += DISK_SECTOR) {
			const uint8_t *from = chance(2) ? block->now : block->safe;
			if (from)
				memcpy(torn + at, from + at, DISK_SECTOR);
		}
		block_set_now(block, torn);
	} else if (block->version != block->safe_version && !is_new) {
		block_set_now(block, block->safe);
	}
	if (block->now != block->safe)
		free(block->safe);
	block->safe = block->now;
	block->version = block->safe_version = 0;
}

/* Grown files keep as many of their new blocks as had been written in order: the size follows the data. */
static void file_after_cut(struct node *node, enum mood mood)
{
	unsigned percent_new = (unsigned)(chance(4) * 33);
	off_t size = mood == OLD ? node->safe_size : node->size;
	if (mood == MIX && node->size != node->safe_size) {
		off_t from = node->safe_size < node->size ? node->safe_size : node->size;
		off_t to = node->safe_size < node->size ? node->size : node->safe_size;
		size = node->size < node->safe_size ? (chance(2) ? node->size : node->safe_size)
		                                    : from + (off_t)chance((uint64_t)(to - from) + 1);
	}
	/* the block in which the old end lies belongs to what was appended */
	off_t appended =
		node->size > node->safe_size ? node->safe_size / DISK_BLOCK * DISK_BLOCK : node->size;
	for (size_t i = 0; i < node->blocks_count; i++)
		block_after_cut(&node->blocks[i],
		                mood == MIX && (off_t)(i * DISK_BLOCK) >= appended ? NEW : mood, percent_new);
	node->size = node->size > size ? node->size : size;
	disk_set_size(node, size);
	for (size_t i = 0; i < node->blocks_count; i++) {
		struct block *block = &node->blocks[i];
		if (block->failed)
			continue;
		if (block->now != block->safe)
			free(block->safe);
		block->safe = block->now;
		block->version = block->safe_version = 0;
	}
	node->safe_size = size;
	node->size_version = node->size_safe_version = 0;
}

static void mark_reachable(uint64_t directory, bool *reached)
{
	const struct entries *entries = &disk_nodes[directory]->safe;
	for (size_t i = 0; i < entries->count; i++) {
		uint64_t ino = entries->list[i].ino;
		if (reached[ino])
			continue;
		reached[ino] = true;
		if (S_ISDIR(disk_nodes[ino]->mode))
			mark_reachable(ino, reached);
	}
}

static void forget_content(struct node *node)
{
	for (size_t i = 0; i < node->blocks_count; i++) {
		if (node->blocks[i].safe != node->blocks[i].now)
			free(node->blocks[i].safe);
		free(node->blocks[i].now);
	}
	free(node->blocks);
	node->blocks = NULL;
	node->blocks_count = 0;
	node->size = node->safe_size = 0;
}

static void cut(enum mood mood)
{
	size_t kept = mood == OLD ? 0 : mood == NEW ? changes_count : chance(changes_count + 1);
	if (kept > 0 && kept < changes_count && changes[kept - 1].together)
		kept--;
	for (size_t i = 0; i < changes_count; i++) {
		if (i < kept)
			entries_set(&disk_nodes[changes[i].directory]->safe, changes[i].name, changes[i].ino);
		free(changes[i].name);
	}
	changes_count = 0;
	bool *reached = disk_must(calloc(DISK_NODES_MAX, sizeof(*reached)));
	reached[DISK_ROOT_INO] = true;
	mark_reachable(DISK_ROOT_INO, reached);
	for (uint64_t ino = 1; ino < disk_nodes_end; ino++) {
		struct node *node = disk_nodes[ino];
		if (!node)
			continue;
		if (S_ISDIR(node->mode))
			disk_entries_copy(&node->now, &node->safe);
		else if (reached[ino])
			file_after_cut(node, mood);
		else
			forget_content(node);
	}
	free(reached);
	disk_counts.cuts++;
}

int disk_command(const char *text, size_t len)
{
	char copy[64] = "", mood[16] = "";
	uint64_t seed = 0;
	memcpy(copy, text, len < sizeof(copy) - 1 ? len : sizeof(copy) - 1);
	if (sscanf(copy, "eio %u", &flushes_to_fail) == 1 || sscanf(copy, "delay %u", &disk_flush_us) == 1)
		return 0;
	if (sscanf(copy, "cut %15s %" SCNu64, mood, &seed) != 2)
		return EINVAL;
	chance_state = seed;
	if (strcmp(mood, "old") == 0)
		cut(OLD);
	else if (strcmp(mood, "mix") == 0)
		cut(MIX);
	else if (strcmp(mood, "new") == 0)
		cut(NEW);
	else
		return EINVAL;
	return 0;
}
