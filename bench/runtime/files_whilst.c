/* bench/runtime/files_whilst.c -- the file tasks on libwhilst: callbacks, or awaited one at a time.
 *
 * usage: files_whilst FILE TASK DEPTH SECONDS [ENGINE]; see bench/files.h. DEPTH 1 is awaited.
 */
#include "../files.h"

#include "whilst/whilst.h"

static struct files_task task;
static struct files_slot slots[FILES_DEPTH_MAX];

static void start(wh_loop *loop, struct files_slot *slot);

static void on_read(wh_loop *loop, wh_res res, void *arg)
{
	struct files_slot *slot = arg;
	files_check(res.n);
	if (measure_goes_on(&task.measure, slot->started, &slot->started))
		start(loop, slot);
}

static void start(wh_loop *loop, struct files_slot *slot)
{
	files_aim(&task, slot);
	wh_then(wh_pread(loop, task.fd, slot->block, FILES_BLOCK_BYTES, slot->off), on_read, slot);
}

static int64_t one(wh_loop *loop, struct files_slot *slot)
{
	files_aim(&task, slot);
	if (task.kind != FILES_APPEND)
		return wh_await(wh_pread(loop, task.fd, slot->block, FILES_BLOCK_BYTES, slot->off)).n;
	int64_t n = wh_await(wh_pwrite_all(loop, task.fd, slot->block, FILES_BLOCK_BYTES, slot->off)).n;
	int64_t error = wh_await(wh_fsync(loop, task.fd, true)).n;
	return error ? error : n;
}

int main(int argc, char **argv)
{
	wh_loop *loop;
	files_open(&task, argc, argv);
	if (task.variant[0])
		setenv("WHILST_ENGINE", task.variant, 1);
	if (wh_loop_open(&loop, NULL) != 0)
		return 1;
	for (unsigned i = 0; i < task.depth; i++)
		files_slot_open(&slots[i]);
	measure_begin(&task.measure, task.seconds);
	if (task.depth == 1) {
		slots->started = task.measure.began;
		do
			files_check(one(loop, slots));
		while (measure_goes_on(&task.measure, slots->started, &slots->started));
	} else {
		for (unsigned i = 0; i < task.depth; i++) {
			slots[i].started = measure_now();
			start(loop, &slots[i]);
		}
		wh_loop_run(loop);
	}
	measure_end(&task.measure);
	measure_print(&task.measure);
	wh_loop_close(loop);
	return 0;
}
