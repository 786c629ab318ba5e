/* bench/log.c -- the log alone: commits a second in closed loops, beside a bare loop of pwrite and fdatasync.
 *
 * usage: log [FOLDER [ROUNDS [SECONDS]]]    default: a folder under TMPDIR, 5 rounds of 1 s
 *
 * Both write to files of the same folder that were filled with zeros. Rounds are interleaved and medians are printed, since the
 * machine is shared; "of bare" compares flushes with flushes at one client, which is what the log can lose.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log/log.h"

enum { BARE_BYTES = 256 << 20, FIXED_BYTES = 40, PAYLOAD_BYTES = 128, ROUNDS_MAX = 31 };

struct setting {
	const char *name;
	int outstanding, records, level;
};

static const struct setting settings[] = {
	{"local, 1 outstanding", 1, 1, LOG_LOCAL},
	{"local, 16 outstanding", 16, 1, LOG_LOCAL},
	{"local, 64 outstanding", 64, 1, LOG_LOCAL},
	{"local, 256 outstanding", 256, 1, LOG_LOCAL},
	{"local, batches of 100, 4 outstanding", 4, 100, LOG_LOCAL},
	{"async, 1 outstanding", 1, 1, LOG_ASYNC},
	{"async, 64 outstanding", 64, 1, LOG_ASYNC},
	{"async, batches of 100, 4 outstanding", 4, 100, LOG_ASYNC},
};
enum { SETTINGS = sizeof(settings) / sizeof(*settings) };

struct figures {
	double commits, flushes, per_flush, cpu_us;
};

static double clock_s(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static double cpu_s(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void die(const char *what, int64_t error)
{
	fprintf(stderr, "log: %s: %s\n", what, wh_strerror(error));
	exit(1);
}

/* ---- bare -------------------------------------------------------------------------------- */

static int bare_open(const char *folder)
{
	char path[4096];
	static char zeros[1 << 20];
	snprintf(path, sizeof(path), "%s/bare", folder);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	for (off_t at = 0; fd >= 0 && at < BARE_BYTES; at += (off_t)sizeof(zeros))
		if (pwrite(fd, zeros, sizeof(zeros), at) < 0)
			die(path, -errno);
	if (fd < 0 || fsync(fd) < 0)
		die(path, -errno);
	return fd;
}

static struct figures bare(int fd, double seconds)
{
	static char block[4096];
	static off_t at;
	uint64_t count = 0;
	double begin = clock_s(), cpu = cpu_s(), now;
	memset(block, 'x', sizeof(block));
	do {
		if (pwrite(fd, block, sizeof(block), at) < 0 || fdatasync(fd) < 0)
			die("bare", -errno);
		at = (at + (off_t)sizeof(block)) % BARE_BYTES;
		count++;
		now = clock_s();
	} while (now - begin < seconds);
	return (struct figures){(double)count / (now - begin), (double)count / (now - begin), 1,
	                        1e6 * (cpu_s() - cpu) / (double)count};
}

/* ---- the log ----------------------------------------------------------------------------- */

struct run {
	struct log *log;
	const struct setting *setting;
	uint64_t commits;
	int active;
	double end;
};

static void commit(wh_loop *loop, struct run *run);

static void on_committed(wh_loop *loop, wh_res res, void *arg)
{
	struct run *run = arg;
	if (res.n < 0)
		die("commit", res.n);
	run->commits++;
	run->active--;
	if (1e-9 * (double)wh_now(loop) < run->end)
		commit(loop, run);
	else if (run->active == 0)
		wh_loop_stop(loop);
}

static void commit(wh_loop *loop, struct run *run)
{
	static const char payload[PAYLOAD_BYTES], fixed[FIXED_BYTES];
	static const struct iovec iov = {(void *)(uintptr_t)payload, PAYLOAD_BYTES};
	const struct log_append record = {.type = LOG_TYPE_USER,
	                                  .version = 1,
	                                  .fixed_bytes = FIXED_BYTES,
	                                  .fixed = fixed,
	                                  .payload = &iov,
	                                  .payload_count = 1};
	int n = run->setting->records;
	int status = log_begin(run->log, (uint64_t)n * log_record_bytes(FIXED_BYTES, PAYLOAD_BYTES), 0);
	run->active++;
	if (status == -EAGAIN) {
		run->commits--;
		wh_then(log_room_wait(run->log), on_committed, run);
		return;
	}
	if (status < 0)
		die("begin", status);
	for (int i = 0; i < n; i++)
		log_append(run->log, &record);
	struct log_commit done = log_commit(run->log, run->setting->level);
	wh_then(wh_mark_wait(done.mark, done.lsn), on_committed, run);
}

/* Let what an earlier run has left to do be done: its flush, its seal, the next segment. */
static void settle(struct log *log)
{
	struct log_stats stats;
	for (log_stats(log, &stats); stats.segments <= stats.rolls; log_stats(log, &stats))
		if (wh_await(log_room_wait(log)).n < 0)
			die("settle", log_failed(log));
	wh_await(wh_mark_wait(log_flushed(log), wh_mark_read(log_written(log))));
}

static struct figures closed_loop(wh_loop *loop, struct log *log, const struct setting *setting,
                                  double seconds)
{
	struct log_stats before, after;
	struct run run = {.log = log, .setting = setting};
	settle(log);
	double begin = clock_s(), cpu = cpu_s();
	run.end = begin + seconds;
	log_stats(log, &before);
	wh_loop_turn(loop, 0);
	for (int i = 0; i < setting->outstanding; i++)
		commit(loop, &run);
	wh_loop_run(loop);
	double took = clock_s() - begin, done = (double)run.commits;
	log_stats(log, &after);
	double flushes = (double)(after.flushes - before.flushes);
	return (struct figures){done / took, flushes / took, flushes > 0 ? done / flushes : 0,
	                        1e6 * (cpu_s() - cpu) / done};
}

/* ---- the table --------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median(const struct figures *figures, int rounds, size_t member)
{
	double values[ROUNDS_MAX] = {0};
	for (int i = 0; i < rounds; i++)
		memcpy(&values[i], (const char *)&figures[i] + member, sizeof(double));
	qsort(values, (size_t)rounds, sizeof(double), by_value);
	return values[rounds / 2];
}

static void print_line(const char *name, const struct figures *figures, int rounds, double bare_commits)
{
	double commits = median(figures, rounds, offsetof(struct figures, commits));
	printf("%-40s %12.0f %10.0f %14.1f %10.2f", name, commits,
	       median(figures, rounds, offsetof(struct figures, flushes)),
	       median(figures, rounds, offsetof(struct figures, per_flush)),
	       median(figures, rounds, offsetof(struct figures, cpu_us)));
	if (bare_commits > 0)
		printf(" %9.2f", commits / bare_commits);
	printf("\n");
}

int main(int argc, char **argv)
{
	static struct figures figures[SETTINGS + 1][ROUNDS_MAX];
	char made[4096];
	const char *folder = argc > 1 ? argv[1] : NULL;
	int rounds = argc > 2 ? atoi(argv[2]) : 5;
	double seconds = argc > 3 ? atof(argv[3]) : 1;
	wh_loop *loop = NULL;
	struct log *log = NULL;
	struct log_problem problem;
	if (!folder) {
		snprintf(made, sizeof(made), "%s/whilst-bench-log-XXXXXX",
		         getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
		folder = mkdtemp(made);
	}
	if (!folder || (mkdir(folder, 0700) < 0 && errno != EEXIST))
		die("folder", -errno);
	rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
	int fd = bare_open(folder);
	char path[4200];
	snprintf(path, sizeof(path), "%s/log", folder);
	int status = wh_loop_open(&loop, NULL);
	if (status == 0)
		status = log_open(loop, &(struct log_options){.path = path}, &log, &problem);
	if (status < 0)
		die("open", status);

	for (int round = 0; round < rounds; round++) {
		settle(log);
		figures[SETTINGS][round] = bare(fd, seconds);
		for (size_t i = 0; i < SETTINGS; i++)
			figures[i][round] = closed_loop(loop, log, &settings[i], seconds);
	}
	printf("%-40s %12s %10s %14s %10s %9s\n", "", "commits/s", "flushes/s", "commits/flush", "CPU us",
	       "of bare");
	print_line("bare pwrite + fdatasync of 4 KiB", figures[SETTINGS], rounds, 0);
	double bare_commits = median(figures[SETTINGS], rounds, offsetof(struct figures, commits));
	for (size_t i = 0; i < SETTINGS; i++)
		print_line(settings[i].name, figures[i], rounds,
		           settings[i].level == LOG_LOCAL ? bare_commits : 0);
	struct log_stats stats;
	log_stats(log, &stats);
	printf("engine %s; %llu segments made, %llu MiB; longest flush %.1f ms\n", wh_engine_name(loop),
	       (unsigned long long)stats.segments, (unsigned long long)(stats.disk_bytes >> 20),
	       1e-6 * (double)stats.flush_ns_max);
	status = log_close(log);
	wh_loop_close(loop);
	return status < 0;
}
