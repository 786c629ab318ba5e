/* bench/peers/files_blocking.c -- the file tasks as plain system calls of one thread: the floor, at depth 1. */
#include "../files.h"

int main(int argc, char **argv)
{
	static struct files_task task;
	struct files_slot slot;
	files_open(&task, argc, argv);
	files_slot_open(&slot);
	measure_begin(&task.measure, task.seconds);
	slot.started = task.measure.began;
	do {
		files_aim(&task, &slot);
		if (task.kind == FILES_APPEND) {
			files_check(pwrite(task.fd, slot.block, FILES_BLOCK_BYTES, (off_t)slot.off));
			if (fdatasync(task.fd) != 0)
				files_die("fdatasync");
		} else {
			files_check(pread(task.fd, slot.block, FILES_BLOCK_BYTES, (off_t)slot.off));
		}
	} while (measure_goes_on(&task.measure, slot.started, &slot.started));
	measure_end(&task.measure);
	measure_print(&task.measure);
	return 0;
}
