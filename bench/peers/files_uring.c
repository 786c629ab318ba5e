/* bench/peers/files_uring.c -- the file tasks on a raw ring: SINGLE_ISSUER, DEFER_TASKRUN, a registered ring; reads batched
 * by submit-and-wait. Appending is the quickest of the ways that liburing offers: pwrite(2) inline, fdatasync on the ring. */
#include "../files.h"

#include <liburing.h>

static struct files_task task;
static struct files_slot slots[FILES_DEPTH_MAX];
static struct io_uring ring;

static void start(struct files_slot *slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
	files_aim(&task, slot);
	if (task.kind == FILES_APPEND) {
		files_check(pwrite(task.fd, slot->block, FILES_BLOCK_BYTES, (off_t)slot->off));
		io_uring_prep_fsync(sqe, task.fd, IORING_FSYNC_DATASYNC);
	} else {
		io_uring_prep_read(sqe, task.fd, slot->block, FILES_BLOCK_BYTES, slot->off);
	}
	io_uring_sqe_set_data(sqe, slot);
}

int main(int argc, char **argv)
{
	struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
	                                          IORING_SETUP_SUBMIT_ALL};
	unsigned left;
	files_open(&task, argc, argv);
	if (io_uring_queue_init_params(FILES_DEPTH_MAX, &ring, &params) != 0)
		files_die("io_uring");
	io_uring_register_ring_fd(&ring);
	measure_begin(&task.measure, task.seconds);
	for (unsigned i = 0; i < task.depth; i++) {
		files_slot_open(&slots[i]);
		slots[i].started = measure_now();
		start(&slots[i]);
	}
	for (left = task.depth; left > 0;) {
		struct io_uring_cqe *cqe;
		unsigned head, seen = 0;
		io_uring_submit_and_wait(&ring, 1);
		io_uring_for_each_cqe(&ring, head, cqe)
		{
			struct files_slot *slot = io_uring_cqe_get_data(cqe);
			seen++;
			files_check(task.kind == FILES_APPEND && cqe->res == 0 ? FILES_BLOCK_BYTES
			                                                       : cqe->res);
			if (measure_goes_on(&task.measure, slot->started, &slot->started))
				start(slot);
			else
				left--;
		}
		io_uring_cq_advance(&ring, seen);
	}
	measure_end(&task.measure);
	measure_print(&task.measure);
	return 0;
}
