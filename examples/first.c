/* first.c -- start, carry on, then wait, poll or be called back. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <whilst/whilst.h>

static void on_rung(wh_loop *loop, wh_res res, void *arg)
{
	(void)loop, (void)res;
	printf("called back: %s\n", (const char *)arg);
}

int main(void)
{
	wh_loop *loop;
	int r = wh_loop_open(&loop, NULL); /* the engine: $WHILST_ENGINE, else the best that works here */
	if (r < 0) {
		fprintf(stderr, "no loop: %s\n", wh_strerror(r));
		return 1;
	}

	wh_res file =
		wh_await(wh_open(loop, "/etc/os-release", O_RDONLY, 0)); /* wait: as simple as open(2) */
	if (file.n < 0) {
		fprintf(stderr, "no file: %s\n", wh_strerror(file.n));
		return 1;
	}

	static char text[4096];
	wh_future read = wh_pread(loop, (int)file.n, text, sizeof text, 0); /* start both, */
	wh_future bell = wh_sleep(loop, 20 * WH_NS_PER_MS);
	static char message[] = "20 ms are over";
	wh_then(bell, on_rung, message); /* be called back by one, */
	puts("started; this line did not wait for either");
	wh_res got =
		wh_await(wh_deadline(read, wh_now(loop) + WH_NS_PER_S)); /* wait for the other, 1 s at most */
	printf("%s: %" PRId64 " bytes (%s)\n", wh_engine_name(loop), got.n,
	       got.n < 0 ? wh_strerror(got.n) : "read");

	wh_loop_run(loop); /* until nothing is pending: the bell rings */
	wh_await(wh_close(loop, (int)file.n));
	wh_loop_close(loop);
	return got.n > 0 ? 0 : 1;
}
