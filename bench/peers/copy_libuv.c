/* bench/peers/copy_libuv.c -- a whole file copied by uv_fs_copyfile(). Usage: copy_libuv FROM TO */
#include <uv.h>

#include "../measure.h"

static void on_copied(uv_fs_t *fs)
{
	if (fs->result < 0) {
		fprintf(stderr, "copy_libuv: %s\n", uv_strerror((int)fs->result));
		exit(1);
	}
	uv_fs_req_cleanup(fs);
}

int main(int argc, char **argv)
{
	static struct measure measure;
	uv_fs_t fs;
	int64_t now;
	if (argc < 3)
		return 2;
	measure_begin(&measure, 0);
	uv_fs_copyfile(uv_default_loop(), &fs, argv[1], argv[2], 0, on_copied);
	uv_run(uv_default_loop(), UV_RUN_DEFAULT);
	(void)measure_goes_on(&measure, measure.began, &now);
	measure_end(&measure);
	measure_print(&measure);
	return 0;
}
