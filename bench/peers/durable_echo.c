/* bench/peers/durable_echo.c -- the floor for one client: echo that does pwrite and fdatasync before it
 * answers, into a zero-filled file, on one blocking thread. */
#include "echo.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>

enum { FILE_BYTES = 256 << 20, BLOCK_BYTES = 4096 };

int main(int argc, char **argv)
{
	static char block[1 << 20], buffer[BLOCK_BYTES];
	int file = argc > 1 ? open(argv[1], O_CREAT | O_RDWR | O_TRUNC, 0600) : -1;
	if (file < 0) {
		fprintf(stderr, "usage: durable_echo FILE\n");
		return 2;
	}
	for (uint64_t at = 0; at < FILE_BYTES; at += sizeof block)
		if (pwrite(file, block, sizeof block, (off_t)at) != (ssize_t)sizeof block)
			return 1;
	fsync(file);
	int listener = echo_listen(0), fd;
	uint64_t at = 0;
	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		ssize_t n;
		echo_no_delay(fd);
		while ((n = recv(fd, buffer, sizeof buffer, 0)) > 0) {
			if (pwrite(file, buffer, BLOCK_BYTES, (off_t)at) != BLOCK_BYTES ||
			    fdatasync(file) != 0)
				return 1;
			at = (at + BLOCK_BYTES) % FILE_BYTES;
			if (send(fd, buffer, (size_t)n, MSG_NOSIGNAL) != n)
				break;
		}
		close(fd);
	}
	return 0;
}
