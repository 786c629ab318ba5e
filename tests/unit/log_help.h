/* tests/unit/log_help.h -- what the tests of the log share: a folder, records that can be recognised, a model.
 *
 * A record is made from its seed alone, so that whoever reads it back knows what it must be. As long as nothing is lost,
 * the seed of record i is i.
 */
#ifndef TESTS_LOG_HELP_H
#define TESTS_LOG_HELP_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those four first */
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log/log.h"
#include "whilst/sim.h"

enum { HELP_RECORDS_MAX = 1 << 16, HELP_PAYLOAD_MAX = 1 << 20 };

struct help_record {
	uint64_t location; /* as log_append() gave it */
	uint64_t lsn;      /* of its commit */
	uint32_t commit;
	uint32_t
		seed; /* what it is made from; never the same again, not even for one that takes the place of one lost */
	uint32_t epoch;
};

/* What was appended, and what a replay has shown. */
struct help_model {
	struct help_record *records;
	uint32_t count, commits, seeds;
	uint32_t replayed;      /* how many, in order */
	uint32_t in_checkpoint; /* so many of the first come from there */
	uint32_t payload_max;
	int refuse_type; /* this type is unknown to the replay */
	bool wrong;
};

static inline uint32_t help_mix(uint32_t x)
{
	x ^= x >> 16;
	x *= 0x7feb352dU;
	x ^= x >> 15;
	x *= 0x846ca68bU;
	return x ^ x >> 16;
}

static inline uint32_t help_payload_bytes(const struct help_model *model, uint32_t i)
{
	return help_mix(i) % (model->payload_max + 1);
}

static inline void help_payload(uint8_t *to, uint32_t bytes, uint32_t i)
{
	for (uint32_t at = 0; at < bytes; at++)
		to[at] = (uint8_t)help_mix(i * 31 + at / 64) ^ (uint8_t)at;
}

static inline void help_init(struct help_model *model, uint32_t payload_max)
{
	*model = (struct help_model){.payload_max = payload_max};
	model->records = calloc(HELP_RECORDS_MAX, sizeof(*model->records));
	assert_non_null(model->records);
}

static inline void help_fini(struct help_model *model)
{
	free(model->records);
	model->records = NULL;
}

static inline uint64_t help_record_bytes(const struct help_model *model, uint32_t i)
{
	return log_record_bytes(i % 3 == 0 ? 0 : 8, help_payload_bytes(model, i));
}

/* Record i into a commit that has been begun; in two pieces, so that gathering is seen, too. */
static inline uint64_t help_append_to(struct log *log, struct log_checkpoint *checkpoint,
                                      const struct help_model *model, uint32_t i)
{
	static uint8_t payload[HELP_PAYLOAD_MAX];
	uint32_t bytes = help_payload_bytes(model, i), half = bytes / 2;
	uint64_t fixed = i;
	help_payload(payload, bytes, i);
	struct iovec iov[2] = {{payload, half}, {payload + half, bytes - half}};
	struct log_append record = {.type = (uint8_t)(LOG_TYPE_USER + i % 5),
	                            .version = (uint8_t)(1 + i % 2),
	                            .flags = (uint16_t)i,
	                            .fixed_bytes = i % 3 == 0 ? 0 : 8,
	                            .fixed = &fixed,
	                            .payload = iov,
	                            .payload_count = 2};
	if (checkpoint)
		return (uint64_t)(int64_t)log_checkpoint_append(checkpoint, &record);
	return log_append(log, &record);
}

static inline uint64_t help_append(struct log *log, const struct help_model *model, uint32_t i)
{
	return help_append_to(log, NULL, model, i);
}

/* All records of the model so far as a checkpoint. 0, or what begin, append or end said. */
static inline int help_checkpoint(struct log *log, struct help_model *model)
{
	struct log_checkpoint *checkpoint = NULL;
	uint32_t count = model->count;
	int status = log_checkpoint_begin(log, &checkpoint);
	if (status < 0)
		return status;
	for (uint32_t i = 0; i < count && status == 0; i++) {
		status = (int)(int64_t)help_append_to(log, checkpoint, model, model->records[i].seed);
		if (status == 0 && log_checkpoint_unwritten(checkpoint) > 1 << 20)
			status = (int)wh_await(log_checkpoint_room(checkpoint)).n;
	}
	int ended = (int)wh_await(log_checkpoint_end(checkpoint)).n;
	assert_true(status == 0 || ended == status);
	if (ended == 0)
		model->in_checkpoint = count;
	return ended;
}

static inline bool help_same(const struct help_model *model, uint32_t i, uint8_t type, uint8_t version,
                             uint16_t flags, const uint8_t *fixed, uint32_t fixed_bytes,
                             const uint8_t *payload, uint32_t payload_bytes)
{
	static uint8_t expected[HELP_PAYLOAD_MAX];
	uint64_t number = i;
	help_payload(expected, help_payload_bytes(model, i), i);
	return type == LOG_TYPE_USER + i % 5 && version == 1 + i % 2 && flags == (uint16_t)i &&
	       fixed_bytes == (i % 3 == 0 ? 0 : 8) && (fixed_bytes == 0 || memcmp(fixed, &number, 8) == 0) &&
	       payload_bytes == help_payload_bytes(model, i) && memcmp(payload, expected, payload_bytes) == 0;
}

/* Commit the next count records of the model. -EAGAIN is waited for (outside callbacks). Result as log_begin(). */
static inline int help_commit(struct log *log, struct help_model *model, uint32_t count, int level,
                              struct log_commit *ret)
{
	uint64_t bytes = 0;
	int status;
	for (uint32_t i = 0; i < count; i++)
		bytes += help_record_bytes(model, model->seeds + i);
	while ((status = log_begin(log, bytes, 0)) == -EAGAIN) {
		int64_t n = wh_await(log_room_wait(log)).n;
		if (n < 0)
			return (int)n;
	}
	if (status < 0)
		return status;
	uint32_t first = model->count;
	for (uint32_t i = 0; i < count; i++, model->seeds++)
		model->records[model->count++] =
			(struct help_record){.location = help_append(log, model, model->seeds),
		                             .commit = model->commits,
		                             .seed = model->seeds,
		                             .epoch = log_epoch(log)};
	*ret = log_commit(log, level);
	for (uint32_t i = first; i < model->count; i++)
		model->records[i].lsn = ret->lsn;
	model->commits++;
	return 0;
}

/* The replay callback: the records of the model, from the first one on, nothing else. */
static inline int help_replay(void *arg, const struct log_record *record)
{
	struct help_model *model = arg;
	if (model->refuse_type && record->type == model->refuse_type)
		return -ENOTSUP;
	uint32_t i = model->replayed;
	bool placed = !record->checkpoint && i >= model->in_checkpoint && i < model->count &&
	              record->location == model->records[i].location &&
	              model->records[i].lsn <= record->group_end + (UINT64_C(64) << 20) &&
	              record->epoch == model->records[i].epoch;
	bool saved = record->checkpoint && i < model->in_checkpoint && record->location == 0;
	if ((!placed && !saved) ||
	    !help_same(model, model->records[i].seed, record->type, record->version, record->flags,
	               record->fixed, record->fixed_bytes, record->payload, record->payload_bytes))
		model->wrong = true;
	model->replayed++;
	return 0;
}

static inline void help_notice(int level, const char *message, void *arg)
{
	if (getenv("LOG_TEST_VERBOSE"))
		fprintf(stderr, "notice %d: %s\n", level, message);
}

static inline struct log_options help_options(const char *path, struct help_model *model)
{
	model->replayed = 0;
	model->wrong = false;
	return (struct log_options){
		.path = path,
		.segment_bytes = 64 << 10,
		.replay = help_replay,
		.replay_arg = model,
		.notice = help_notice,
	};
}

/* ---- the loop, and steps that cannot fail ---- */

static wh_loop *loop;

static inline int open_loop(void **state)
{
	return wh_loop_open(&loop, NULL);
}

static inline int close_loop(void **state)
{
	loop = wh_loop_close(loop);
	return 0;
}

static inline struct log *must_open(const char *folder, struct help_model *model)
{
	struct log_options options = help_options(folder, model);
	struct log_problem problem;
	struct log *log = NULL;
	char text[1024];
	int status = log_open(loop, &options, &log, &problem);
	if (status < 0) {
		log_problem_text(&problem, text, sizeof(text));
		fail_msg("log_open: %d: %s", status, text);
	}
	return log;
}

static inline void must_commit(struct log *log, struct help_model *model, uint32_t count, int level)
{
	struct log_commit commit = {0};
	assert_int_equal(help_commit(log, model, count, level, &commit), 0);
	assert_int_equal(wh_await(wh_mark_wait(commit.mark, commit.lsn)).n, 0);
}

static inline void assert_all_replayed(const struct help_model *model)
{
	assert_false(model->wrong);
	assert_int_equal(model->replayed, model->count);
}

/* ---- files ------------------------------------------------------------------------------- */

static inline char *help_folder(void)
{
	const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
	char *path = malloc(strlen(base) + 32);
	assert_non_null(path);
	sprintf(path, "%s/whilst-log-XXXXXX", base);
	assert_non_null(mkdtemp(path));
	return path;
}

static inline int help_remove_one(const char *path, const struct stat *status, int kind, struct FTW *where)
{
	return remove(path);
}

static inline void help_remove(char *path)
{
	nftw(path, help_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(path);
}

static inline char *help_path(const char *folder, const char *name)
{
	char *path = malloc(strlen(folder) + strlen(name) + 2);
	assert_non_null(path);
	sprintf(path, "%s/%s", folder, name);
	return path;
}

static inline uint8_t *help_load(const char *folder, const char *name, size_t *ret_bytes)
{
	char *path = help_path(folder, name);
	FILE *file = fopen(path, "rb");
	assert_non_null(file);
	fseek(file, 0, SEEK_END);
	*ret_bytes = (size_t)ftell(file);
	rewind(file);
	uint8_t *bytes = malloc(*ret_bytes + 1);
	assert_non_null(bytes);
	assert_int_equal(fread(bytes, 1, *ret_bytes, file), *ret_bytes);
	fclose(file);
	free(path);
	return bytes;
}

static inline void help_save(const char *folder, const char *name, const void *bytes, size_t len)
{
	char *path = help_path(folder, name);
	FILE *file = fopen(path, "wb");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, len, file), len);
	fclose(file);
	free(path);
}

static inline void help_write_at(const char *folder, const char *name, const void *bytes, size_t len,
                                 uint64_t at)
{
	char *path = help_path(folder, name);
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, len, (off_t)at), len);
	close(fd);
	free(path);
}

/* The folder as it is now, under another name: what a killed process would leave. */
static inline char *help_copy(const char *folder, const char *const *names)
{
	char *copy = help_folder();
	for (; *names; names++) {
		char *path = help_path(folder, *names);
		if (access(path, F_OK) == 0) {
			size_t len;
			uint8_t *bytes = help_load(folder, *names, &len);
			help_save(copy, *names, bytes, len);
			free(bytes);
		}
		free(path);
	}
	return copy;
}

/* ... all of it. What is renamed or removed meanwhile is in the copy or is not. */
static inline char *help_copy_all(const char *folder)
{
	char *copy = help_folder();
	DIR *directory = opendir(folder);
	assert_non_null(directory);
	for (struct dirent *entry; (entry = readdir(directory));) {
		char *path = help_path(folder, entry->d_name);
		struct stat status;
		if (stat(path, &status) == 0 && S_ISREG(status.st_mode) &&
		    strcmp(entry->d_name, "LOCK") != 0) {
			size_t len;
			uint8_t *bytes = help_load(folder, entry->d_name, &len);
			help_save(copy, entry->d_name, bytes, len);
			free(bytes);
		}
		free(path);
	}
	closedir(directory);
	return copy;
}

#endif
