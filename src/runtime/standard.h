/* src/runtime/standard.h -- descriptors that the library keeps for itself are never 0, 1 or 2.
 *
 * A program may have closed its standard descriptors; what takes their numbers would get what other code prints, and be
 * read from as its input. Thread: any.
 */
#ifndef WH_RUNTIME_STANDARD_H
#define WH_RUNTIME_STANDARD_H

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* wh__above_standard() - takes fd, just made, and gives the same under a number above 2: fd itself, as a rule. Negative: no
 * descriptor, errno says why. */
static inline int wh__above_standard(int fd)
{
	if (fd < 0 || fd > STDERR_FILENO)
		return fd;
	int above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	int error = errno;
	close(fd);
	errno = error;
	return above;
}

#endif
