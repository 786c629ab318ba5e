/* tests/kernels/which_engine.c -- prints what WH_AUTO and a forced ring give on the running kernel, for scripts/test-kernels.
 *
 *   which_engine WANTED    exit status 1 when WH_AUTO gives another engine, or does not say why it is not the best one
 */
#include <stdio.h>
#include <string.h>

#include "whilst/whilst.h"

struct notices {
	int count;
	char last[512];
};

static void on_notice(int level, const char *message, void *arg)
{
	struct notices *notices = arg;
	notices->count++;
	snprintf(notices->last, sizeof notices->last, "%s", message);
}

static int64_t answer(void *arg)
{
	return 42;
}

int main(int argc, char **argv)
{
	struct notices notices = {0};
	struct wh_loop_options options = {.log = on_notice, .log_arg = &notices};
	wh_loop *loop = NULL;
	int error = wh_loop_open(&loop, &options);
	if (error != 0) {
		printf("auto: %s\n", wh_strerror(error));
		return 1;
	}
	bool is_wanted = argc < 2 || strcmp(wh_engine_name(loop), argv[1]) == 0;
	bool says_why = notices.count == (strcmp(wh_engine_name(loop), "epoll") == 0);
	bool works = wh_await(wh_work(loop, answer, NULL)).n == 42 && wh_await(wh_sleep(loop, 1000)).n == 0;
	printf("auto: %s%s%s\n", wh_engine_name(loop), notices.count ? "; " : "", notices.last);
	wh_loop_close(loop);

	options.engine = WH_URING;
	error = wh_loop_open(&loop, &options);
	printf("uring by name: %s\n", error == 0 ? "works" : wh_strerror(error));
	if (error == 0)
		wh_loop_close(loop);
	return is_wanted && says_why && works ? 0 : 1;
}
