/* bench/store.c -- what the store itself can do, without HTTP: submits and whole lives at each commit level.
 *
 * Usage: store [DIRECTORY [SECONDS]]. One thread, its loop driven by callbacks as the server's is. "closed" keeps so many
 * commits outstanding; a batch is one commit of 100 jobs. A whole life is submit, reserve, complete. Beside the
 * closed loops of one stands the bare pwrite and fdatasync of a zero-filled file, one after the other.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/store.h"

enum { PAYLOAD = 128, BATCH = 100, IN_FLIGHT_MAX = 64 };

struct run {
	wh_loop *loop;
	struct store *store;
	int level;
	size_t batch;
	bool whole;
	int outstanding;
	bool stopping;
	uint64_t jobs;
	int64_t until;
	int failed;
};

static uint8_t payload[PAYLOAD];
static struct store_slice payloads[BATCH];
static struct store_slice backlog = {"backlog", 7}, life = {"life", 4};

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void start(struct run *r);

static void again(struct run *r)
{
	if (wh_clock(r->loop) >= r->until) {
		if (--r->outstanding == 0)
			wh_loop_stop(r->loop);
	} else {
		start(r);
	}
}

static void on_completed(wh_loop *loop, wh_res res, void *arg)
{
	struct run *r = arg;
	struct store_commit *commit = res.ptr;

	(void)loop;
	if (res.n < 0 || commit->error < 0)
		r->failed++;
	else
		r->jobs += commit->count;
	if (res.n >= 0)
		store_commit_free(commit);
	again(r);
}

static void on_reserved(wh_loop *loop, wh_res res, void *arg)
{
	static struct store_action actions[BATCH];
	struct run *r = arg;
	struct store_lot *lot = res.ptr;

	(void)loop;
	if (res.n <= 0) {
		again(r);
		return;
	}
	memset(actions, 0, sizeof(actions));
	for (size_t i = 0; i < lot->count; i++)
		actions[i] = (struct store_action){.kind = STORE_COMPLETE,
		                                   .job = lot->jobs[i].job,
		                                   .lease = lot->jobs[i].lease,
		                                   .complete = {.bytes = {"done", 4}}};
	wh_then(store_apply(r->store, actions, lot->count, STORE_EACH, r->level), on_completed, r);
	store_lot_free(lot);
}

static void on_submitted(wh_loop *loop, wh_res res, void *arg)
{
	struct run *r = arg;
	struct store_commit *commit = res.ptr;
	struct store_reserve reserve = {
		.queues = &life, .queues_count = 1, .jobs_max = (uint32_t)r->batch, .wait = true};

	(void)loop;
	if (res.n < 0 || commit->error < 0)
		r->failed++;
	else if (!r->whole)
		r->jobs += commit->count;
	if (res.n >= 0)
		store_commit_free(commit);
	if (r->whole && !r->failed)
		wh_then(store_reserve(r->store, &reserve), on_reserved, r);
	else
		again(r);
}

static void start(struct run *r)
{
	struct store_submit submit = {.queue = r->whole ? life : backlog,
	                              .payload = {payload, PAYLOAD},
	                              .priority = JOB_PRIORITY_DEFAULT,
	                              .retention_ns = r->whole ? -1 : 0};

	if (r->batch == 1)
		wh_then(store_submit(r->store, &submit, r->level), on_submitted, r);
	else
		wh_then(store_submit_many(r->store, &submit, payloads, r->batch, r->level), on_submitted, r);
}

static void measure(struct run *r, const char *name, int outstanding, size_t batch, int level, bool whole,
                    double seconds)
{
	struct store_stats before, after;
	double cpu = cpu_seconds(), wall;
	int64_t began = wh_clock(r->loop);

	store_stats(r->store, &before);
	r->level = level;
	r->batch = batch;
	r->whole = whole;
	r->jobs = 0;
	r->outstanding = outstanding;
	r->until = began + (int64_t)(seconds * 1e9);
	for (int i = 0; i < outstanding; i++)
		start(r);
	wh_loop_run(r->loop);
	wall = (double)(wh_clock(r->loop) - began) / 1e9;
	cpu = cpu_seconds() - cpu;
	store_stats(r->store, &after);
	printf("%-34s %-6s %10.0f jobs/s %7.0f ns CPU/job %9.1f jobs/flush%s\n", name,
	       level == STORE_ASYNC ? "async" : "local", (double)r->jobs / wall,
	       cpu * 1e9 / (double)(r->jobs ? r->jobs : 1),
	       (double)r->jobs /
	               (double)(after.flushes - before.flushes ? after.flushes - before.flushes : 1),
	       r->failed ? "  (some failed)" : "");
	fflush(stdout);
	r->failed = 0;
}

static void bare(wh_loop *loop, const char *directory, double seconds)
{
	static uint8_t block[4096], zeros[1 << 20];
	char path[4096];
	uint64_t size = 64 << 20, at = 0, count = 0;
	int64_t until;
	int fd;

	snprintf(path, sizeof(path), "%s/bare", directory);
	fd = (int)wh_await(wh_open(loop, path, 0102 /* O_RDWR | O_CREAT */, 0600)).n;
	for (uint64_t i = 0; i < size; i += sizeof(zeros))
		wh_pwrite_blocking(loop, fd, zeros, sizeof(zeros), i);
	wh_fsync_blocking(loop, fd, false);
	until = wh_clock(loop) + (int64_t)(seconds * 1e9);
	while (wh_clock(loop) < until) {
		wh_pwrite_blocking(loop, fd, block, sizeof(block), at);
		wh_fsync_blocking(loop, fd, true);
		at = (at + sizeof(block)) % size;
		count++;
	}
	printf("%-34s %-6s %10.0f /s\n", "bare pwrite + fdatasync", "", (double)count / seconds);
	wh_await(wh_close(loop, fd));
	wh_await(wh_unlink(loop, path));
}

static int open_store(struct run *r, const char *directory, const char *name)
{
	char path[4096];
	struct store_options options = {.directory = path};
	struct store_problem problem;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	if (store_open(r->loop, &options, &r->store, &problem) < 0) {
		fprintf(stderr, "%s\n", problem.text);
		return -1;
	}
	return 0;
}

static void measure_submits(struct run *r, double seconds)
{
	measure(r, "submit, closed 1", 1, 1, STORE_LOCAL, false, seconds);
	measure(r, "submit, closed 50", 50, 1, STORE_LOCAL, false, seconds);
	measure(r, "submit, closed 50", 50, 1, STORE_ASYNC, false, seconds);
	measure(r, "submit, batches of 100, closed 4", 4, BATCH, STORE_LOCAL, false, seconds);
	measure(r, "submit, batches of 100, closed 4", 4, BATCH, STORE_ASYNC, false, seconds);
}

static void measure_lives(struct run *r, double seconds)
{
	measure(r, "whole life, closed 50", 50, 1, STORE_LOCAL, true, seconds);
	measure(r, "whole life, batches of 100, 4", 4, BATCH, STORE_LOCAL, true, seconds);
	measure(r, "whole life, batches of 100, 4", 4, BATCH, STORE_ASYNC, true, seconds);
}

int main(int argc, char **argv)
{
	const char *directory = argc > 1 ? argv[1] : "/tmp/whilst-bench-store";
	double seconds = argc > 2 ? atof(argv[2]) : 1.0;
	struct run r = {0};

	for (size_t i = 0; i < BATCH; i++)
		payloads[i] = (struct store_slice){payload, PAYLOAD};
	if (wh_loop_open(&r.loop, NULL) < 0)
		return 1;
	/* a store for each: the millions that the submits leave are written to checkpoints for as long as they wait */
	if (open_store(&r, directory, "submits") < 0)
		return 1;
	bare(r.loop, directory, seconds);
	measure_submits(&r, seconds);
	store_close(r.store);
	if (open_store(&r, directory, "lives") < 0)
		return 1;
	measure_lives(&r, seconds);
	store_close(r.store);
	wh_loop_close(r.loop);
	return 0;
}
