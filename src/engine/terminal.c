/* src/engine/terminal.c -- terminals that block, read and written without blocking.
 *
 * A terminal that has room takes a write, and may then wait for its reader in the midst of it; one that has a line may give it
 * to another program first. O_NONBLOCK would help, but the description is shared with whoever else has the terminal, and is not
 * ours to change. So the loop opens the same terminal once more for itself. Where that cannot be done (no /proc, no right to
 * open it) the given descriptor is used, with care: see attempt.c.
 *
 * Thread: loop. Memory: a descriptor for each terminal used, until wh_close() of that or the end of the loop.
 */
#include "engine/descriptor.h"
#include "engine/execute.h"
#include "runtime/standard.h"

#include <stdio.h>
#include <sys/stat.h>
#include <termios.h>

static bool is_same(int a, int b)
{
	struct stat one, other;
	return fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_rdev == other.st_rdev &&
	       one.st_ino == other.st_ino && one.st_dev == other.st_dev;
}

static int open_again(int fd, int flags)
{
	char path[32];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int twin = wh__above_standard(open(path, (flags & O_ACCMODE) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
	/* of /dev/tty and /dev/ptmx another opening may be another thing */
	if (twin >= 0 && !is_same(fd, twin)) {
		close(twin);
		twin = -1;
	}
	return twin;
}

int wh__terminal_twin(wh_loop *loop, int fd, int flags)
{
	struct termios settings;
	struct wh__descriptor *descriptor = wh__descriptor_look(loop, fd);
	if (tcgetattr(fd, &settings) < 0 || !descriptor)
		return -1;
	if (descriptor->twin > 0 && !is_same(fd, descriptor->twin)) {
		/* somebody has put another terminal in its place */
		close(descriptor->twin);
		descriptor->twin = 0;
	}
	if (descriptor->twin == 0)
		descriptor->twin = open_again(fd, flags);
	return descriptor->twin;
}
