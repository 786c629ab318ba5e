/* src/cli/fsync_test.c -- `whilst fsync-test`: what a durable commit costs on this disk, by each way there is to make one.
 *
 * The first way is the log's own: blocks that were written before are written again and flushed with fdatasync(2). Each way
 * writes one block and makes it durable before it writes the next, for a stated time. Thread: the loop's, which blocks.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum {
	FILE_BYTES = 16 << 20,
	BLOCK_BYTES = 4096,
	SAMPLES_MAX = 1 << 20,
	FILL_BYTES = 1 << 20,
};

/* A drive's own cache is written through in tens of microseconds at the least. */
static const int64_t too_fast_ns = 15 * WH_NS_PER_US;

enum sync { SYNC_DATA, SYNC_ALL, SYNC_WITH_WRITE };
enum space { SPACE_ZEROED, SPACE_ALLOCATED, SPACE_GROWING };

static const struct way {
	const char *name, *text;
	enum sync sync;
	enum space space;
	int flags; /* of open(2) */
} ways[] = {
	{"fdatasync", "fdatasync, blocks written before (whilst)", SYNC_DATA, SPACE_ZEROED, 0},
	{"fsync", "fsync, blocks written before", SYNC_ALL, SPACE_ZEROED, 0},
	{"o_dsync", "O_DSYNC, blocks written before", SYNC_WITH_WRITE, SPACE_ZEROED, O_DSYNC},
	{"o_direct_dsync", "O_DIRECT and O_DSYNC, blocks written before", SYNC_WITH_WRITE, SPACE_ZEROED,
         O_DIRECT | O_DSYNC},
	{"fdatasync_allocated", "fdatasync, blocks only allocated", SYNC_DATA, SPACE_ALLOCATED, 0},
	{"fdatasync_growing", "fdatasync, a file that grows", SYNC_DATA, SPACE_GROWING, 0},
};
enum { WAY_COUNT = sizeof ways / sizeof *ways };

static const char usage_text[] = "usage: whilst fsync-test [DIRECTORY] [--duration D] [--json] [--help]\n\n"
				 "Measures how long a commit takes that must survive a power cut: writes 4 "
				 "KiB to a file in DIRECTORY (default: .),\n"
				 "makes it durable, and again, by each way there is, for D each (default "
				 "2s). Whether the drive keeps what it says it\n"
				 "has written, only cutting its power can tell.\n";

struct test {
	wh_loop *loop;
	char path[4096];
	int64_t duration_ns;
	uint8_t *block; /* FILL_BYTES */
	int64_t *samples;
	size_t count;
	int64_t elapsed_ns;
};

static int64_t prepare(struct test *t, int fd, enum space space)
{
	int64_t n = 0;
	memset(t->block, 0, FILL_BYTES);
	if (space == SPACE_ALLOCATED)
		n = wh_await(wh_allocate(t->loop, fd, 0, FILE_BYTES)).n;
	for (uint64_t at = 0; space == SPACE_ZEROED && at < FILE_BYTES && n >= 0; at += FILL_BYTES)
		n = wh_pwrite_blocking(t->loop, fd, t->block, FILL_BYTES, at);
	return n < 0 ? n : wh_fsync_blocking(t->loop, fd, false);
}

static int64_t commit(struct test *t, int fd, const struct way *way, uint64_t at)
{
	int64_t n = wh_pwrite_blocking(t->loop, fd, t->block, BLOCK_BYTES, at);
	if (n < 0 || way->sync == SYNC_WITH_WRITE)
		return n;
	return wh_fsync_blocking(t->loop, fd, way->sync == SYNC_DATA);
}

static int64_t run_way(struct test *t, const struct way *way)
{
	int64_t n = wh_await(wh_open(t->loop, t->path, O_RDWR | O_CREAT | O_TRUNC, 0600)).n;
	if (n < 0)
		return n;
	int fd = (int)n;
	n = prepare(t, fd, way->space);
	(void)wh_await(wh_close(t->loop, fd));
	if (n < 0)
		return n;
	n = wh_await(wh_open(t->loop, t->path, O_RDWR | way->flags, 0)).n;
	(void)wh_await(wh_unlink(t->loop, t->path)); /* nothing is left behind, however this ends */
	if (n < 0)
		return n;
	fd = (int)n;
	memset(t->block, 'w', BLOCK_BYTES);
	int64_t began = wh_clock(t->loop), before = began;
	for (t->count = 0; t->count < SAMPLES_MAX && before - began < t->duration_ns; t->count++) {
		uint64_t at = (uint64_t)t->count * BLOCK_BYTES;
		n = commit(t, fd, way, way->space == SPACE_GROWING ? at : at % FILE_BYTES);
		if (n < 0)
			break;
		int64_t now = wh_clock(t->loop);
		t->samples[t->count] = now - before;
		before = now;
	}
	t->elapsed_ns = before - began;
	(void)wh_await(wh_close(t->loop, fd));
	return n < 0 ? n : 0;
}

static int by_time(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

static double percentile_us(const struct test *t, double p)
{
	size_t index = (size_t)((double)(t->count - 1) * p);
	return (double)t->samples[index] / 1000;
}

/* What the way that whilst uses came to; 0: it failed. */
static double report(const struct test *t, const struct way *way, int64_t error, json_t *list)
{
	double per_s = t->count ? (double)t->count * 1e9 / (double)t->elapsed_ns : 0;
	if (error < 0 || t->count == 0) {
		if (list)
			json_array_append_new(
				list, json_pack("{s:s, s:s}", "way", way->name, "error", wh_strerror(error)));
		else
			printf("%-46s %s\n", way->text, wh_strerror(error));
		return 0;
	}
	if (list)
		json_array_append_new(list, json_pack("{s:s, s:I, s:f, s:f, s:f, s:f}", "way", way->name,
		                                      "commits", (json_int_t)t->count, "commits_per_s", per_s,
		                                      "p50_us", percentile_us(t, 0.5), "p99_us",
		                                      percentile_us(t, 0.99), "max_us", percentile_us(t, 1)));
	else
		printf("%-46s %10.0f %10.1f %10.1f %10.1f\n", way->text, per_s, percentile_us(t, 0.5),
		       percentile_us(t, 0.99), percentile_us(t, 1));
	fflush(stdout);
	return per_s;
}

static void conclude(double per_s, double p50_us, json_t *list, const char *type)
{
	bool suspicious = per_s > 0 && p50_us * 1000 < (double)too_fast_ns;
	if (list || per_s <= 0)
		return;
	if (type)
		printf("\nThis is %s: whether a flush reaches a disk is up to another machine or process.\n",
		       type);
	printf("\nExpect about %.0f commits a second from clients that come one after the other; those that "
	       "come "
	       "at the same\ntime share a flush.\n",
	       per_s);
	if (suspicious)
		printf("A flush within %.1f us is faster than drives are: this file system or device may not "
		       "make "
		       "anything durable\n(tmpfs, a mount without barriers, a virtual disk that ignores "
		       "flushes).\n",
		       p50_us);
}

static int run(struct test *t, bool json)
{
	json_t *list = json ? json_array() : NULL;
	double ours = 0, ours_p50_us = 0;
	int status = CLI_DONE;
	if (!json)
		printf("%-46s %10s %10s %10s %10s\n", "4 KiB, one commit after the other", "commits/s",
		       "p50 us", "p99 us", "max us");
	for (size_t i = 0; i < WAY_COUNT && status == CLI_DONE; i++) {
		int64_t error = run_way(t, &ways[i]);
		if (t->count > 0)
			qsort(t->samples, t->count, sizeof *t->samples, by_time);
		if (i == 0 && error < 0) { /* the others would tell the same */
			status = cli_error(CLI_FAILED, "%s: %s", t->path, wh_strerror(error));
			break;
		}
		double per_s = report(t, &ways[i], error, list);
		if (i == 0) {
			ours = per_s;
			ours_p50_us = per_s > 0 ? percentile_us(t, 0.5) : 0;
		}
		t->count = 0;
	}
	if (list && status == CLI_DONE) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	*strrchr(t->path, '/') = 0; /* the folder */
	conclude(ours, ours_p50_us, list, cli_network_file_system(t->path));
	json_decref(list);
	return status;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct test *t, bool *ret_json)
{
	static const struct option longs[] = {
		{"duration", 1, 0, 'd'}, {"json", 0, 0, 'j'}, {"help", 0, 0, 'h'}, {0}};
	for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
		switch (c) {
		case 'd':
			if (!cli_parse_duration("--duration", optarg, &t->duration_ns))
				return CLI_USAGE;
			break;
		case 'j':
			*ret_json = true;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return CLI_DONE;
		default:
			fputs(usage_text, stderr);
			return CLI_USAGE;
		}
	}
	if (argc - optind > 1 || t->duration_ns <= 0) {
		fputs(usage_text, stderr);
		return CLI_USAGE;
	}
	const char *directory = optind < argc ? argv[optind] : ".";
	if (snprintf(t->path, sizeof t->path, "%s/whilst-fsync-test.tmp", directory) >= (int)sizeof t->path)
		return cli_error(CLI_USAGE, "the name of the directory is too long");
	return -1;
}

int cli_fsync_test(int argc, char **argv)
{
	struct test t = {.duration_ns = 2 * WH_NS_PER_S};
	bool json = false;
	int status = parse(argc, argv, &t, &json);
	if (status >= 0)
		return status;
	t.block = aligned_alloc(BLOCK_BYTES, FILL_BYTES);
	t.samples = malloc(SAMPLES_MAX * sizeof *t.samples);
	int64_t error = t.block && t.samples
	                        ? wh_loop_open(&t.loop, &(struct wh_loop_options){.engine = WH_SYNC})
	                        : -ENOMEM;
	status = error < 0 ? cli_error(CLI_FAILED, "%s", wh_strerror(error)) : run(&t, json);
	wh_loop_close(t.loop);
	free(t.block);
	free(t.samples);
	return status;
}
