/* bench/peers/files_libuv.c -- the file tasks on libuv: uv_fs_* on its pool of threads. VARIANT: how many threads. */
#include "../files.h"

#include <uv.h>

struct request {
	uv_fs_t fs;
	struct files_slot slot;
};

static struct files_task task;
static struct request requests[FILES_DEPTH_MAX];

static void start(struct request *r);

static void goes_on(struct request *r)
{
	if (measure_goes_on(&task.measure, r->slot.started, &r->slot.started))
		start(r);
}

static void on_synced(uv_fs_t *fs)
{
	if (fs->result != 0)
		exit(1);
	uv_fs_req_cleanup(fs);
	goes_on((struct request *)fs);
}

static void on_block(uv_fs_t *fs)
{
	files_check(fs->result);
	uv_fs_req_cleanup(fs);
	if (task.kind == FILES_APPEND)
		uv_fs_fdatasync(uv_default_loop(), fs, task.fd, on_synced);
	else
		goes_on((struct request *)fs);
}

static void start(struct request *r)
{
	uv_buf_t buf = uv_buf_init(r->slot.block, FILES_BLOCK_BYTES);
	files_aim(&task, &r->slot);
	if (task.kind == FILES_APPEND)
		uv_fs_write(uv_default_loop(), &r->fs, task.fd, &buf, 1, (int64_t)r->slot.off, on_block);
	else
		uv_fs_read(uv_default_loop(), &r->fs, task.fd, &buf, 1, (int64_t)r->slot.off, on_block);
}

int main(int argc, char **argv)
{
	files_open(&task, argc, argv);
	if (task.variant[0])
		setenv("UV_THREADPOOL_SIZE", task.variant, 1);
	for (unsigned i = 0; i < task.depth; i++)
		files_slot_open(&requests[i].slot);
	measure_begin(&task.measure, task.seconds);
	for (unsigned i = 0; i < task.depth; i++) {
		requests[i].slot.started = measure_now();
		start(&requests[i]);
	}
	uv_run(uv_default_loop(), UV_RUN_DEFAULT);
	measure_end(&task.measure);
	measure_print(&task.measure);
	return 0;
}
