/* bench/runtime/copy_whilst.c -- a whole file copied by wh_copy_file(). Usage: copy_whilst FROM TO [ENGINE] */
#include "../measure.h"

#include "whilst/whilst.h"

int main(int argc, char **argv)
{
	static struct measure measure;
	wh_loop *loop;
	int64_t now;
	if (argc < 3)
		return 2;
	if (argc > 3)
		setenv("WHILST_ENGINE", argv[3], 1);
	if (wh_loop_open(&loop, NULL) != 0)
		return 1;
	measure_begin(&measure, 0);
	wh_res res = wh_await(wh_copy_file(loop, argv[1], argv[2], false));
	(void)measure_goes_on(&measure, measure.began, &now);
	measure_end(&measure);
	wh_loop_close(loop);
	if (res.n < 0) {
		fprintf(stderr, "copy_whilst: %s\n", wh_strerror(res.n));
		return 1;
	}
	measure_print(&measure);
	return 0;
}
