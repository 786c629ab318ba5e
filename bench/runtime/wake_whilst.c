/* bench/runtime/wake_whilst.c -- two loops on two threads that post to each other: a round trip is two wake-ups.
 *
 * usage: wake_whilst SECONDS [ENGINE]
 */
#include <stdlib.h>

#include "../measure.h"
#include "whilst/whilst.h"

static struct measure measure;
static wh_loop *here, *there;
static int64_t started;

static void pong(void *arg);

static void ping(void *arg)
{
	(void)arg;
	if (wh_post(here, pong, NULL) != 0)
		abort();
}

static void pong(void *arg)
{
	(void)arg;
	if (!measure_goes_on(&measure, started, &started))
		wh_loop_stop(here);
	else if (wh_post(there, ping, NULL) != 0)
		abort();
}

int main(int argc, char **argv)
{
	if (argc > 2)
		setenv("WHILST_ENGINE", argv[2], 1);
	if (wh_loop_open(&here, NULL) != 0 || wh_loop_start(&there, NULL) != 0)
		return 1;
	/* what keeps the loop up while it waits for a post */
	wh_future forever = wh_sleep(here, 1000 * WH_NS_PER_S);
	measure_begin(&measure, argc > 1 ? atof(argv[1]) : 1);
	started = measure.began;
	if (wh_post(there, ping, NULL) != 0)
		return 1;
	wh_loop_run(here);
	measure_end(&measure);
	measure_print(&measure);
	wh_drop(forever);
	wh_loop_close(there);
	wh_loop_close(here);
	return 0;
}
