/* bench/files.h -- the tasks of the file benchmarks, the same for every program that does them.
 *
 * usage: PROGRAM FILE TASK DEPTH SECONDS [VARIANT]
 *   cached   4 KiB reads at random places of a file that is in the page cache, DEPTH under way at a time
 *   direct   the same with O_DIRECT
 *   append   4 KiB appended to a zero-filled file, each durable (fdatasync) before the next; DEPTH is 1
 */
#ifndef BENCH_FILES_H
#define BENCH_FILES_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "measure.h"

enum { FILES_BLOCK_BYTES = 4096, FILES_DEPTH_MAX = 256 };
enum files_kind { FILES_CACHED, FILES_DIRECT, FILES_APPEND };

struct files_task {
	enum files_kind kind;
	int fd;
	uint64_t blocks; /* of the file */
	uint64_t next;   /* append: the block */
	uint64_t random;
	unsigned depth;
	double seconds;
	const char *variant;
	struct measure measure;
};

struct files_slot {
	char *block; /* aligned for O_DIRECT */
	uint64_t off;
	int64_t started;
};

static inline void files_die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

static inline void files_open(struct files_task *task, int argc, char **argv)
{
	struct stat st;
	int flags = O_RDONLY;
	if (argc < 5) {
		fprintf(stderr, "usage: %s FILE cached|direct|append DEPTH SECONDS [VARIANT]\n", argv[0]);
		exit(2);
	}
	task->kind = !strcmp(argv[2], "direct")   ? FILES_DIRECT
	             : !strcmp(argv[2], "append") ? FILES_APPEND
	                                          : FILES_CACHED;
	if (task->kind == FILES_DIRECT)
		flags |= O_DIRECT;
	if (task->kind == FILES_APPEND)
		flags = O_RDWR;
	task->depth = task->kind == FILES_APPEND ? 1 : (unsigned)atoi(argv[3]);
	task->seconds = atof(argv[4]);
	task->variant = argc > 5 ? argv[5] : "";
	task->fd = open(argv[1], flags | O_CLOEXEC);
	if (task->fd < 0 || fstat(task->fd, &st) != 0)
		files_die(argv[1]);
	task->blocks = (uint64_t)st.st_size / FILES_BLOCK_BYTES;
	if (task->depth == 0 || task->depth > FILES_DEPTH_MAX || task->blocks == 0)
		exit((fprintf(stderr, "%s: no such depth, or an empty file\n", argv[0]), 2));
}

static inline void files_slot_open(struct files_slot *slot)
{
	if (posix_memalign((void **)&slot->block, FILES_BLOCK_BYTES, FILES_BLOCK_BYTES) != 0)
		exit(1);
	memset(slot->block, 'w', FILES_BLOCK_BYTES);
}

/* Where the next operation goes. */
static inline void files_aim(struct files_task *task, struct files_slot *slot)
{
	uint64_t block = task->kind == FILES_APPEND ? task->next++ % task->blocks
	                                            : measure_random(&task->random) % task->blocks;
	slot->off = block * FILES_BLOCK_BYTES;
}

static inline void files_check(int64_t n)
{
	if (n == FILES_BLOCK_BYTES)
		return;
	fprintf(stderr, "an operation gave %lld\n", (long long)n);
	exit(1);
}

#endif
