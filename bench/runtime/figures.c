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

#include "runtime/context.h"
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

/* The bare switch, one way. */
static struct wh__context here, there;

static void switch_back(void *arg)
{
	(void)arg;
	for (;;)
		wh__context_switch(&there, &here);
}

static double context_switch(void)
{
	enum { ROUNDS = 5000000, STACK_BYTES = 65536 };
	static _Alignas(64) char stack[STACK_BYTES];
	wh__context_init(&there, stack, sizeof stack, switch_back, NULL);
	int64_t began = now_ns();
	for (int i = 0; i < ROUNDS; i++)
		wh__context_switch(&here, &there);
	return since(began, 2 * ROUNDS);
}

/* Tasks that yield in turn: a switch to the loop, the queue, and a switch to the next task. So many that the loop's looks at
 * its engine do not count. */
static int64_t yield_often(void *arg)
{
	for (int i = *(int *)arg; i > 0; i--)
		(void)wh_yield();
	return 0;
}

static double task_yield(wh_loop *loop)
{
	enum { TASKS = 50 };
	int rounds = 100000;
	wh_future fs[TASKS];
	for (int i = 0; i < TASKS; i++)
		fs[i] = wh_go(loop, yield_often, &rounds);
	int64_t began = now_ns();
	if (wh_await(wh_all(loop, fs, TASKS, NULL)).n != 0)
		abort();
	return since(began, TASKS * rounds);
}

static int64_t begin_and_join(void *arg)
{
	for (int i = *(int *)arg; i > 0; i--)
		if (wh_await(wh_go(wh_self(), nothing, NULL)).n != 0)
			abort();
	return 0;
}

static double task_life(wh_loop *loop)
{
	int rounds = 1000000;
	int64_t began = now_ns();
	if (wh_await(wh_go(loop, begin_and_join, &rounds)).n != 0)
		abort();
	return since(began, rounds);
}

/* One task awaits what another resolves, and the other way round. */
struct ball {
	wh_future here, there;
	int rounds;
};

static int64_t ping(void *arg)
{
	struct ball *ball = arg;
	for (int i = ball->rounds; i > 0; i--) {
		wh_future back = ball->there = wh_promise(wh_self(), NULL, NULL);
		(void)wh_resolve(ball->here, i, NULL);
		if (wh_await(back).n != i)
			abort();
	}
	return 0;
}

static int64_t pong(void *arg)
{
	struct ball *ball = arg;
	for (int i = ball->rounds; i > 0; i--) {
		int64_t n = wh_await(ball->here).n;
		ball->here = wh_promise(wh_self(), NULL, NULL);
		(void)wh_resolve(ball->there, n, NULL);
	}
	return wh_drop(ball->here);
}

static double await_round_trip(wh_loop *loop)
{
	struct ball ball = {.here = wh_promise(loop, NULL, NULL), .rounds = 1000000};
	wh_future fs[] = {wh_go(loop, pong, &ball), wh_go(loop, ping, &ball)};
	int64_t began = now_ns();
	if (wh_await(wh_all(loop, fs, 2, NULL)).n != 0)
		abort();
	return since(began, ball.rounds);
}

/* Tasks that are begun, wait, and are ended: what each takes while it waits. */
static int64_t wait_until(void *arg)
{
	return wh_await(wh_sleep_until(wh_self(), *(int64_t *)arg)).n;
}

static double resident_bytes(void)
{
	size_t total, resident;
	FILE *file = fopen("/proc/self/statm", "r");
	if (!file || fscanf(file, "%zu %zu", &total, &resident) != 2)
		abort();
	fclose(file);
	return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static double bytes_of_a_task(wh_loop *loop)
{
	enum { COUNT = 100000 };
	static wh_future fs[COUNT];
	int64_t at = wh_clock(loop) + 3600 * WH_NS_PER_S;
	memset(fs, 1, sizeof fs);
	double before = resident_bytes();
	for (int i = 0; i < COUNT; i++)
		fs[i] = wh_go(loop, wait_until, &at);
	(void)wh_loop_turn(loop, 0);
	double bytes = (resident_bytes() - before) / COUNT;
	for (int i = 0; i < COUNT; i++)
		(void)wh_drop(fs[i]);
	(void)wh_loop_run(loop);
	return bytes;
}

static double tasks_mallocs(wh_loop *loop)
{
	size_t before = mallinfo2().uordblks;
	(void)task_life(loop);
	(void)await_round_trip(loop);
	return (double)(mallinfo2().uordblks - before);
}

static double timer_rearm(wh_loop *loop)
{
	enum { ROUNDS = 1000000 };
	static wh_future fs[1000];
	unsigned seed = 1;
	int64_t base = wh_clock(loop) + 1000 * WH_NS_PER_S;
	for (int i = 0; i < 1000; i++)
		fs[i] = wh_sleep_until(loop, base);
	int64_t began = now_ns();
	for (int i = 0; i < ROUNDS; i++)
		(void)wh_rearm(fs[i % 1000], base + (int64_t)(rand_r(&seed) % 60000) * WH_NS_PER_MS);
	double ns = since(began, ROUNDS);
	for (int i = 0; i < 1000; i++)
		(void)wh_drop(fs[i]);
	return ns;
}

static void tasks(wh_loop *loop)
{
	printf("\"coroutine switch\": %.1f, ", context_switch());
	printf("\"task yields to the next\": %.1f, ", task_yield(loop));
	printf("\"task, begun and joined\": %.1f, ", task_life(loop));
	printf("\"await round trip of two tasks\": %.1f, ", await_round_trip(loop));
	printf("\"tasks, bytes allocated\": %.0f, ", tasks_mallocs(loop));
	printf("\"bytes of a task that waits, of 100,000\": %.0f, ", bytes_of_a_task(loop));
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
			printf("\"timer moved\": %.1f, ", timer_rearm(loop));
			tasks(loop);
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
