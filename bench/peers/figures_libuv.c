/* bench/peers/figures_libuv.c -- the same small things on libuv, as one line of JSON; nanoseconds of wall time each. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum { TIMERS = 100000, READS = 20000, WORKS = 20000 };

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

static int left, file;
static char page[4096];
static uv_fs_t read_request;
static uv_work_t work_request;

static void on_read(uv_fs_t *request)
{
	uv_buf_t buf = uv_buf_init(page, sizeof page);
	if (request->result != (ssize_t)sizeof page)
		abort();
	uv_fs_req_cleanup(request);
	if (--left > 0)
		uv_fs_read(uv_default_loop(), &read_request, file, &buf, 1, 0, on_read);
}

static void work(uv_work_t *request)
{
	(void)request;
}

static void on_worked(uv_work_t *request, int status)
{
	(void)status;
	if (--left > 0)
		uv_queue_work(uv_default_loop(), request, work, on_worked);
}

static void on_timer(uv_timer_t *timer)
{
	(void)timer;
}

int main(void)
{
	static uv_timer_t timers[TIMERS];
	uv_loop_t *loop = uv_default_loop();
	uv_buf_t buf = uv_buf_init(page, sizeof page);
	char path[] = "/tmp/whilst-bench-XXXXXX";
	unsigned seed = 1;
	file = mkstemp(path);
	if (file < 0 || write(file, page, sizeof page) != (ssize_t)sizeof page)
		return 1;
	unlink(path);
	for (int i = 0; i < TIMERS; i++)
		uv_timer_init(loop, &timers[i]);
	int64_t began = now_ns();
	for (int i = 0; i < TIMERS; i++)
		uv_timer_start(&timers[i], on_timer, 1000000 + (uint64_t)(rand_r(&seed) % 60000), 0);
	printf("{\"timer arm, 100,000 armed, libuv\": %.1f, ", since(began, TIMERS));
	began = now_ns();
	for (int i = 0; i < TIMERS; i++)
		uv_timer_stop(&timers[i]);
	printf("\"timer cancel, libuv\": %.1f, ", since(began, TIMERS));
	left = READS;
	began = now_ns();
	uv_fs_read(loop, &read_request, file, &buf, 1, 0, on_read);
	uv_run(loop, UV_RUN_DEFAULT);
	printf("\"cached 4 KiB read, libuv\": %.0f, ", since(began, READS));
	left = WORKS;
	began = now_ns();
	uv_queue_work(loop, &work_request, work, on_worked);
	uv_run(loop, UV_RUN_DEFAULT);
	printf("\"blocking work round trip, libuv\": %.0f}\n", since(began, WORKS));
	return 0;
}
