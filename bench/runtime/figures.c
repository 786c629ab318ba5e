/* bench/runtime/figures.c -- what small things cost on libwhilst, as one line of JSON; nanoseconds of wall time each.
 *
 * usage: runtime_figures [ENGINE]
 */
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "whilst/whilst.h"

enum { TIMERS = 100000 };

static int64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static double since(int64_t began, int count)
{
	return (double)(now_ns() - began) / count;
}

static double future_life(wh_loop *loop)
{
	enum { ROUNDS = 5000000 };
	wh_res res;
	int64_t began = now_ns();
	for (int i = 0; i < ROUNDS; i++) {
		wh_future f = wh_promise(loop, NULL, NULL);
		wh_resolve(f, i, NULL);
		if (!wh_poll(f, &res) || res.n != i)
			abort();
	}
	return since(began, ROUNDS);
}

/* Steady state, so that memory that is kept does not count: bytes in use may not grow. */
static double future_mallocs(wh_loop *loop)
{
	size_t before = mallinfo2().uordblks;
	(void)future_life(loop);
	return (double)(mallinfo2().uordblks - before);
}

static double cached_read(wh_loop *loop)
{
	enum { ROUNDS = 200000 };
	static char page[4096];
	char path[] = "/tmp/whilst-bench-XXXXXX";
	int fd = mkstemp(path);
	if (fd < 0 || write(fd, page, sizeof page) != (ssize_t)sizeof page)
		abort();
	unlink(path);
	int64_t began = now_ns();
	for (int i = 0; i < ROUNDS; i++)
		if (wh_await(wh_pread(loop, fd, page, sizeof page, 0)).n != (int64_t)sizeof page)
			abort();
	double ns = since(began, ROUNDS);
	(void)wh_await(wh_close(loop, fd));
	return ns;
}

static int64_t nothing(void *arg)
{
	(void)arg;
	return 0;
}

static double work_round_trip(wh_loop *loop)
{
	enum { ROUNDS = 20000 };
	int64_t began = now_ns();
	for (int i = 0; i < ROUNDS; i++)
		if (wh_await(wh_work(loop, nothing, NULL)).n != 0)
			abort();
	return since(began, ROUNDS);
}

static void timers(wh_loop *loop, double *ret_arm, double *ret_cancel)
{
	static wh_future fs[TIMERS];
	unsigned seed = 1;
	int64_t base = wh_clock(loop) + 1000 * WH_NS_PER_S, began = now_ns();
	for (int i = 0; i < TIMERS; i++)
		fs[i] = wh_sleep_until(loop, base + (int64_t)(rand_r(&seed) % 60000) * WH_NS_PER_MS);
	*ret_arm = since(began, TIMERS);
	began = now_ns();
	for (int i = 0; i < TIMERS; i++) {
		wh_cancel(fs[i]);
		(void)wh_poll(fs[i], NULL);
	}
	*ret_cancel = since(began, TIMERS);
}

static double open_close(int engine)
{
	enum { ROUNDS = 200 };
	int64_t began = now_ns();
	for (int i = 0; i < ROUNDS; i++) {
		wh_loop *loop;
		if (wh_loop_open(&loop, &(struct wh_loop_options){.engine = engine}) != 0)
			abort();
		wh_loop_close(loop);
	}
	return since(began, ROUNDS);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int engine;
	} engines[] = {{"sync", WH_SYNC}, {"threads", WH_THREADS}, {"epoll", WH_EPOLL}, {"uring", WH_URING}};
	printf("{");
	for (size_t i = 0; i < sizeof engines / sizeof *engines; i++) {
		wh_loop *loop;
		double arm, cancel;
		struct wh_loop_options options = {.engine = engines[i].engine};
		const char *name = engines[i].name;
		if ((argc > 1 && strcmp(argv[1], name) != 0) || wh_loop_open(&loop, &options) != 0)
			continue;
		if (engines[i].engine == WH_EPOLL) {
			printf("\"future life\": %.1f, ", future_life(loop));
			printf("\"future life, bytes allocated\": %.0f, ", future_mallocs(loop));
			timers(loop, &arm, &cancel);
			printf("\"timer arm, 100,000 armed\": %.1f, \"timer cancel\": %.1f, ", arm, cancel);
		}
		printf("\"cached 4 KiB read, %s\": %.0f, ", name, cached_read(loop));
		printf("\"blocking work round trip, %s\": %.0f, ", name, work_round_trip(loop));
		wh_loop_close(loop);
		printf("\"open and close a loop, %s\": %.0f%s", name, open_close(engines[i].engine),
		       i + 1 < sizeof engines / sizeof *engines ? ", " : "");
	}
	printf("}\n");
	return 0;
}
