/* program.c -- a program of somebody else, built against the installed library through pkg-config alone. It uses a
 * timer and a worker thread on the default engine, and prints the version of the library that it runs with. */
#include <stdio.h>
#include <whilst/whilst.h>

static int64_t on_worker(void *arg)
{
	return *(int *)arg + 1;
}

int main(void)
{
	wh_loop *loop;
	int r = wh_loop_open(&loop, NULL);
	if (r < 0) {
		fprintf(stderr, "cannot open a loop: %s\n", wh_strerror(r));
		return 1;
	}
	int number = 41;
	wh_future work = wh_work(loop, on_worker, &number);
	wh_res nap = wh_await(wh_sleep(loop, WH_NS_PER_MS));
	wh_res done = wh_await(work);
	wh_loop_close(loop);
	if (nap.n != 0 || done.n != 42) {
		fprintf(stderr, "sleep gave %lld, work gave %lld\n", (long long)nap.n, (long long)done.n);
		return 1;
	}
	puts(wh_version());
	return 0;
}
