/* tests/power/powerfs.c -- a file system (FUSE) whose power can be cut: what was not flushed is then gone, under programs
 * that know nothing of it.
 *
 *     powerfs FOLDER [--strict] [--flush-us N]    stays in the foreground until the folder is unmounted
 *
 * Everything is in memory, twice: as programs see it, and as it is safe. fsync and fdatasync make the content and the size of
 * a file safe as they were when the call began; the call itself takes N us (default 100). Names (creating, renaming, removing)
 * are kept in one list in the order they were made, as a journal keeps them: any flush makes all earlier ones safe, as on
 * ext4 and XFS. --strict is the letter of POSIX instead: only a flush of the directory does.
 *
 * Text written to the file .power at the top:
 *     cut old SEED    nothing that is not safe survives: the page cache is lost whole
 *     cut mix SEED    write-back had come to some of it: each block not safe is new, old, or torn at a sector; names as far
 *                     as some place in the list
 *     cut new SEED    all of it survives: what kill -9 leaves
 *     eio N           the next N flushes of files fail with EIO, and what they were to flush counts as flushed from then on, as in the page
 *                     cache of Linux: it can be read, a later flush says that all is well, and the disk has never seen it. Reading
 *                     with O_DIRECT shows what the disk has
 *     delay US        a flush takes so long from now on
 * The programs that use the folder must have been killed before a cut. Reading .power gives counters.
 *
 * Thread: libfuse's workers, all behind one lock; a flush waits outside it, so writes go on meanwhile.
 */
#define FUSE_USE_VERSION 35

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, SECTOR = 512, POWER_INO = 2, FIRST_INO = 3, NODES_MAX = 1 << 20 };

struct block {
	uint8_t *now, *safe; /* NULL: zeros; the same pointer while equal */
	uint32_t version;    /* of now; raised by each write */
	uint32_t safe_version;
	bool failed; /* a flush of it has: now, which nothing writes any more, is not what the disk has, safe */
};

struct entry {
	char *name;
	fuse_ino_t ino;
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

/* A change of names that is not safe yet. ino 0: the name goes. */
struct change {
	fuse_ino_t directory, ino;
	char *name;
	bool together; /* with the one behind it: a rename */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node *nodes[NODES_MAX];
static fuse_ino_t nodes_end = FIRST_INO;
static struct change *changes;
static size_t changes_count, changes_cap;
static bool strict;
static unsigned flush_us = 100;
static unsigned flushes_to_fail;
static uint64_t flushes, writes, cuts, failures, chance_state;

static void *must(void *memory)
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

static fuse_ino_t entries_find(const struct entries *entries, const char *name)
{
	for (size_t i = 0; i < entries->count; i++)
		if (strcmp(entries->list[i].name, name) == 0)
			return entries->list[i].ino;
	return 0;
}

/* ino 0: remove it */
static void entries_set(struct entries *entries, const char *name, fuse_ino_t ino)
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
			entries->list = must(realloc(entries->list, entries->cap * sizeof(*entries->list)));
		}
		entries->list[entries->count++] = (struct entry){must(strdup(name)), ino};
	}
}

static void entries_clear(struct entries *entries)
{
	for (size_t i = 0; i < entries->count; i++)
		free(entries->list[i].name);
	free(entries->list);
	*entries = (struct entries){0};
}

static void entries_copy(struct entries *to, const struct entries *from)
{
	entries_clear(to);
	for (size_t i = 0; i < from->count; i++)
		entries_set(to, from->list[i].name, from->list[i].ino);
}

static void change_name(fuse_ino_t directory, const char *name, fuse_ino_t ino, bool together)
{
	entries_set(&nodes[directory]->now, name, ino);
	clock_gettime(CLOCK_REALTIME, &nodes[directory]->changed);
	if (changes_count == changes_cap) {
		changes_cap = changes_cap ? changes_cap * 2 : 64;
		changes = must(realloc(changes, changes_cap * sizeof(*changes)));
	}
	changes[changes_count++] = (struct change){directory, ino, must(strdup(name)), together};
}

/* Changes of one directory, or of all (0), become safe; of a rename, both halves. */
static void names_are_safe(fuse_ino_t directory)
{
	size_t kept = 0;
	for (size_t i = 0; i < changes_count;) {
		size_t end = i + (changes[i].together ? 2 : 1);
		bool safe = directory == 0;
		for (size_t at = i; at < end; at++)
			safe = safe || changes[at].directory == directory;
		for (; i < end; i++) {
			if (safe) {
				entries_set(&nodes[changes[i].directory]->safe, changes[i].name,
				            changes[i].ino);
				free(changes[i].name);
			} else {
				changes[kept++] = changes[i];
			}
		}
	}
	changes_count = kept;
}

static struct node *node_new(mode_t mode, fuse_req_t req, fuse_ino_t *ret_ino)
{
	struct node *node = must(calloc(1, sizeof(*node)));
	if (nodes_end == NODES_MAX)
		abort();
	node->mode = mode;
	node->uid = req ? fuse_req_ctx(req)->uid : 0;
	node->gid = req ? fuse_req_ctx(req)->gid : 0;
	clock_gettime(CLOCK_REALTIME, &node->changed);
	*ret_ino = nodes_end++;
	nodes[*ret_ino] = node;
	return node;
}

static void fill_attr(fuse_ino_t ino, struct stat *ret)
{
	*ret = (struct stat){.st_ino = ino, .st_nlink = 1, .st_blksize = BLOCK};
	if (ino == POWER_INO) {
		ret->st_mode = S_IFREG | 0600;
		return;
	}
	const struct node *node = nodes[ino];
	ret->st_mode = node->mode;
	ret->st_uid = node->uid;
	ret->st_gid = node->gid;
	ret->st_size = node->size;
	ret->st_blocks = (node->size + SECTOR - 1) / SECTOR;
	ret->st_mtim = ret->st_ctim = ret->st_atim = node->changed;
}

static struct fuse_entry_param entry_of(fuse_ino_t ino)
{
	struct fuse_entry_param e = {.ino = ino, .generation = 1};
	fill_attr(ino, &e.attr);
	return e;
}

/* ---- content ----------------------------------------------------------------------------- */

static struct block *block_at(struct node *node, size_t i)
{
	if (i >= node->blocks_count) {
		size_t count = node->blocks_count * 2 > i + 1 ? node->blocks_count * 2 : i + 1;
		node->blocks = must(realloc(node->blocks, count * sizeof(*node->blocks)));
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
		uint8_t *copy = must(calloc(1, BLOCK));
		if (block->now)
			memcpy(copy, block->now, BLOCK);
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

static void set_size(struct node *node, off_t size)
{
	if (size < node->size) {
		size_t first = ((size_t)size + BLOCK - 1) / BLOCK;
		if (size % BLOCK != 0 && first - 1 < node->blocks_count && node->blocks[first - 1].now)
			memset(block_change(node, first - 1) + size % BLOCK, 0,
			       (size_t)(BLOCK - size % BLOCK));
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

static void write_some(struct node *node, const char *from, size_t len, off_t at)
{
	while (len > 0) {
		size_t within = (size_t)at % BLOCK, n = BLOCK - within < len ? BLOCK - within : len;
		memcpy(block_change(node, (size_t)at / BLOCK) + within, from, n);
		from += n;
		len -= n;
		at += (off_t)n;
	}
	if (at > node->size)
		set_size(node, at);
	clock_gettime(CLOCK_REALTIME, &node->changed);
	writes++;
}

/* What nothing will write is in the cache alone. */
static bool is_in_cache_alone(const struct block *block)
{
	return block->failed && block->version == block->safe_version;
}

/* direct: past the cache. */
static size_t read_some(const struct node *node, char *to, size_t len, off_t at, bool direct)
{
	size_t done = 0;
	if (at >= node->size)
		return 0;
	if ((off_t)len > node->size - at)
		len = (size_t)(node->size - at);
	while (done < len) {
		size_t i = (size_t)at / BLOCK, within = (size_t)at % BLOCK;
		size_t n = BLOCK - within < len - done ? BLOCK - within : len - done;
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
	failures++;
}

/* A flush: takes what there is when it begins, and has it on the disk when it ends. Called and left with the lock held. false: it
 * failed. */
static bool flush_file(struct node *node)
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
			taken = must(realloc(taken, cap * sizeof(*taken)));
		}
		taken[count] = (struct taken){i, NULL, block->version};
		if (block->now)
			taken[count].content = memcpy(must(malloc(BLOCK)), block->now, BLOCK);
		count++;
	}
	off_t size = node->size;
	uint64_t size_version = node->size_version, cuts_before = cuts;
	pthread_mutex_unlock(&lock);
	if (flush_us > 0)
		usleep(flush_us);
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < count; i++) {
		struct block *block = taken[i].at < node->blocks_count ? &node->blocks[taken[i].at] : NULL;
		if (cuts == cuts_before && block && taken[i].version > block->safe_version)
			block_is_safe(block, taken[i].content, taken[i].version);
		else
			free(taken[i].content);
	}
	free(taken);
	if (cuts == cuts_before && size_version >= node->size_safe_version) {
		node->safe_size = size;
		node->size_safe_version = size_version;
	}
	flushes++;
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
		uint8_t *torn = must(calloc(1, BLOCK));
		for (size_t at = 0; at < BLOCK; at += SECTOR) {
			const uint8_t *from = chance(2) ? block->now : block->safe;
			if (from)
				memcpy(torn + at, from + at, SECTOR);
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
	off_t appended = node->size > node->safe_size ? node->safe_size / BLOCK * BLOCK : node->size;
	for (size_t i = 0; i < node->blocks_count; i++)
		block_after_cut(&node->blocks[i], mood == MIX && (off_t)(i * BLOCK) >= appended ? NEW : mood,
		                percent_new);
	node->size = node->size > size ? node->size : size;
	set_size(node, size);
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

static void mark_reachable(fuse_ino_t directory, bool *reached)
{
	const struct entries *entries = &nodes[directory]->safe;
	for (size_t i = 0; i < entries->count; i++) {
		fuse_ino_t ino = entries->list[i].ino;
		if (reached[ino])
			continue;
		reached[ino] = true;
		if (S_ISDIR(nodes[ino]->mode))
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
			entries_set(&nodes[changes[i].directory]->safe, changes[i].name, changes[i].ino);
		free(changes[i].name);
	}
	changes_count = 0;
	bool *reached = must(calloc(NODES_MAX, sizeof(*reached)));
	reached[FUSE_ROOT_ID] = true;
	mark_reachable(FUSE_ROOT_ID, reached);
	for (fuse_ino_t ino = 1; ino < nodes_end; ino++) {
		struct node *node = nodes[ino];
		if (!node)
			continue;
		if (S_ISDIR(node->mode))
			entries_copy(&node->now, &node->safe);
		else if (reached[ino])
			file_after_cut(node, mood);
		else
			forget_content(node);
	}
	free(reached);
	cuts++;
}

/* 0, or a positive errno. */
static int command(const char *text, size_t len)
{
	char copy[64] = "", mood[16] = "";
	uint64_t seed = 0;
	memcpy(copy, text, len < sizeof(copy) - 1 ? len : sizeof(copy) - 1);
	if (sscanf(copy, "eio %u", &flushes_to_fail) == 1 || sscanf(copy, "delay %u", &flush_us) == 1)
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

/* ---- what the kernel asks ----------------------------------------------------------------- */

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	pthread_mutex_lock(&lock);
	bool is_power = parent == FUSE_ROOT_ID && strcmp(name, ".power") == 0;
	fuse_ino_t ino = is_power ? POWER_INO : entries_find(&nodes[parent]->now, name);
	struct fuse_entry_param e = {0};
	if (ino != 0)
		e = entry_of(ino);
	pthread_mutex_unlock(&lock);
	if (ino != 0)
		fuse_reply_entry(req, &e);
	else
		fuse_reply_err(req, ENOENT);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat attr;
	pthread_mutex_lock(&lock);
	fill_attr(ino, &attr);
	pthread_mutex_unlock(&lock);
	fuse_reply_attr(req, &attr, 0);
}

static void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
                       struct fuse_file_info *fi)
{
	struct stat result;
	pthread_mutex_lock(&lock);
	struct node *node = nodes[ino];
	if (node && to_set & FUSE_SET_ATTR_SIZE)
		set_size(node, attr->st_size);
	if (node && to_set & FUSE_SET_ATTR_MODE)
		node->mode = (node->mode & S_IFMT) | (attr->st_mode & 07777);
	if (node && to_set & FUSE_SET_ATTR_UID)
		node->uid = attr->st_uid;
	if (node && to_set & FUSE_SET_ATTR_GID)
		node->gid = attr->st_gid;
	if (node && to_set & FUSE_SET_ATTR_MTIME)
		node->changed = attr->st_mtim;
	fill_attr(ino, &result);
	pthread_mutex_unlock(&lock);
	fuse_reply_attr(req, &result, 0);
}

/* The new node's number, 0: the name is taken. The lock is held. */
static fuse_ino_t make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	fuse_ino_t ino = 0;
	if (entries_find(&nodes[parent]->now, name) != 0)
		return 0;
	(void)node_new(mode, req, &ino);
	change_name(parent, name, ino, false);
	return ino;
}

static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fuse_entry_param e = {0};
	pthread_mutex_lock(&lock);
	fuse_ino_t ino = make(req, parent, name, S_IFDIR | (mode & 07777));
	if (ino != 0)
		e = entry_of(ino);
	pthread_mutex_unlock(&lock);
	if (ino != 0)
		fuse_reply_entry(req, &e);
	else
		fuse_reply_err(req, EEXIST);
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
	struct fuse_entry_param e = {0};
	pthread_mutex_lock(&lock);
	fuse_ino_t ino = make(req, parent, name, mode);
	if (ino != 0)
		e = entry_of(ino);
	pthread_mutex_unlock(&lock);
	if (ino != 0)
		fuse_reply_entry(req, &e);
	else
		fuse_reply_err(req, EEXIST);
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi)
{
	struct fuse_entry_param e = {0};
	pthread_mutex_lock(&lock);
	fuse_ino_t ino = make(req, parent, name, S_IFREG | (mode & 07777));
	if (ino != 0)
		e = entry_of(ino);
	pthread_mutex_unlock(&lock);
	if (ino != 0)
		fuse_reply_create(req, &e, fi);
	else
		fuse_reply_err(req, EEXIST);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	pthread_mutex_lock(&lock);
	fuse_ino_t ino = entries_find(&nodes[parent]->now, name);
	int error = ino == 0                                                 ? ENOENT
	            : S_ISDIR(nodes[ino]->mode) && nodes[ino]->now.count > 0 ? ENOTEMPTY
	                                                                     : 0;
	if (error == 0)
		change_name(parent, name, 0, false);
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, error);
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned flags)
{
	pthread_mutex_lock(&lock);
	fuse_ino_t ino = entries_find(&nodes[parent]->now, name);
	int error = ino == 0 ? ENOENT : 0;
	if (flags & ~(unsigned)RENAME_NOREPLACE)
		error = EINVAL;
	else if (flags && entries_find(&nodes[new_parent]->now, new_name) != 0)
		error = EEXIST;
	if (error == 0) {
		change_name(new_parent, new_name, ino, true);
		change_name(parent, name, 0, false);
	}
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, error);
}

static void on_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {0};
	pthread_mutex_lock(&lock);
	bool is_taken = entries_find(&nodes[parent]->now, name) != 0;
	if (!is_taken) {
		change_name(parent, name, ino, false);
		e = entry_of(ino);
	}
	pthread_mutex_unlock(&lock);
	if (is_taken)
		fuse_reply_err(req, EEXIST);
	else
		fuse_reply_entry(req, &e);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->direct_io = ino == POWER_INO;
	fuse_reply_open(req, fi);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
	char *buf = must(malloc(size + 256));
	pthread_mutex_lock(&lock);
	size_t len;
	if (ino == POWER_INO)
		len = at > 0 ? 0
		             : (size_t)snprintf(buf, 256,
		                                "writes %" PRIu64 " flushes %" PRIu64 " cuts %" PRIu64
		                                " unsafe names %zu failures %" PRIu64 "\n",
		                                writes, flushes, cuts, changes_count, failures);
	else
		len = read_some(nodes[ino], buf, size, at, fi->flags & O_DIRECT);
	pthread_mutex_unlock(&lock);
	fuse_reply_buf(req, buf, len < size ? len : size);
	free(buf);
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t at,
                     struct fuse_file_info *fi)
{
	int error = 0;
	pthread_mutex_lock(&lock);
	if (ino == POWER_INO)
		error = command(buf, size);
	else
		write_some(nodes[ino], buf, size, at);
	pthread_mutex_unlock(&lock);
	if (error != 0)
		fuse_reply_err(req, error);
	else
		fuse_reply_write(req, size);
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int only_data, struct fuse_file_info *fi)
{
	bool good = true;
	pthread_mutex_lock(&lock);
	if (ino != POWER_INO && !S_ISDIR(nodes[ino]->mode))
		good = flush_file(nodes[ino]);
	if (!strict && good)
		names_are_safe(0);
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, good ? 0 : EIO);
}

static void on_fsyncdir(fuse_req_t req, fuse_ino_t ino, int only_data, struct fuse_file_info *fi)
{
	pthread_mutex_lock(&lock);
	names_are_safe(strict ? ino : 0);
	flushes++;
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, 0);
}

static void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t at, off_t len,
                         struct fuse_file_info *fi)
{
	if (mode != 0) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	pthread_mutex_lock(&lock);
	if (at + len > nodes[ino]->size)
		set_size(nodes[ino], at + len);
	pthread_mutex_unlock(&lock);
	fuse_reply_err(req, 0);
}

static void on_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct entries *copy = must(calloc(1, sizeof(*copy)));
	pthread_mutex_lock(&lock);
	entries_copy(copy, &nodes[ino]->now);
	pthread_mutex_unlock(&lock);
	fi->fh = (uintptr_t)copy;
	fuse_reply_open(req, fi);
}

static void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t at, struct fuse_file_info *fi)
{
	const struct entries *entries = (const struct entries *)(uintptr_t)fi->fh;
	char *buf = must(malloc(size));
	size_t len = 0;
	pthread_mutex_lock(&lock);
	for (size_t i = (size_t)at; i < entries->count + 2; i++) {
		struct stat attr = {.st_ino = ino, .st_mode = S_IFDIR};
		const char *name = i == 0 ? "." : "..";
		if (i >= 2) {
			name = entries->list[i - 2].name;
			fill_attr(entries->list[i - 2].ino, &attr);
		}
		size_t n = fuse_add_direntry(req, buf + len, size - len, name, &attr, (off_t)i + 1);
		if (n > size - len)
			break;
		len += n;
	}
	pthread_mutex_unlock(&lock);
	fuse_reply_buf(req, buf, len);
	free(buf);
}

static void on_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct entries *entries = (struct entries *)(uintptr_t)fi->fh;
	entries_clear(entries);
	free(entries);
	fuse_reply_err(req, 0);
}

static void on_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st = {.f_bsize = BLOCK,
	                     .f_frsize = BLOCK,
	                     .f_blocks = 1 << 22,
	                     .f_bfree = 1 << 21,
	                     .f_bavail = 1 << 21,
	                     .f_files = NODES_MAX,
	                     .f_ffree = NODES_MAX - nodes_end,
	                     .f_namemax = 255};
	fuse_reply_statfs(req, &st);
}

static const struct fuse_lowlevel_ops operations = {
	.lookup = on_lookup,
	.getattr = on_getattr,
	.setattr = on_setattr,
	.mkdir = on_mkdir,
	.mknod = on_mknod,
	.create = on_create,
	.unlink = on_unlink,
	.rmdir = on_unlink,
	.rename = on_rename,
	.link = on_link,
	.open = on_open,
	.read = on_read,
	.write = on_write,
	.fsync = on_fsync,
	.fsyncdir = on_fsyncdir,
	.fallocate = on_fallocate,
	.opendir = on_opendir,
	.readdir = on_readdir,
	.releasedir = on_releasedir,
	.statfs = on_statfs,
};

int main(int argc, char **argv)
{
	char options[] = "-oallow_other,default_permissions,fsname=powerfs";
	char *mount_argv[] = {argv[0], options};
	struct fuse_args args = FUSE_ARGS_INIT(2, mount_argv);
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--strict") == 0)
			strict = true;
		else if (strcmp(argv[i], "--flush-us") == 0 && i + 1 < argc)
			flush_us = (unsigned)strtoul(argv[++i], NULL, 10);
		else
			argc = 0;
	}
	if (argc < 2) {
		fprintf(stderr, "usage: powerfs FOLDER [--strict] [--flush-us N]\n");
		return 2;
	}
	nodes[FUSE_ROOT_ID] = must(calloc(1, sizeof(struct node)));
	nodes[FUSE_ROOT_ID]->mode = S_IFDIR | 0777;
	struct fuse_session *session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (!session || fuse_session_mount(session, argv[1]) != 0) {
		fuse_session_destroy(session);
		return 77; /* no FUSE here */
	}
	(void)fuse_set_signal_handlers(session);
	printf("ready\n");
	fflush(stdout);
	struct fuse_loop_config config = {.clone_fd = 0, .max_idle_threads = 4};
	int status = fuse_session_loop_mt(session, &config);
	fuse_session_unmount(session);
	fuse_remove_signal_handlers(session);
	fuse_session_destroy(session);
	return status != 0;
}
