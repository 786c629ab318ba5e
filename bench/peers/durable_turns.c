/* bench/peers/durable_turns.c -- the floor for many clients: echo on epoll that makes what a turn received durable by
 * one pwrite and one fdatasync, into a zero-filled file, before it answers any of it. One thread, level-triggered. */
#include "echo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>

enum { FILE_BYTES = 256 << 20, BLOCK_BYTES = 4096, EVENTS = 512, TURN_BYTES = EVENTS * ECHO_BUFFER_BYTES };

struct answer {
	int fd;
	size_t at, len;
};

static char turn[TURN_BYTES] __attribute__((aligned(BLOCK_BYTES)));
static struct answer answers[EVENTS];
static int file, epoll_fd;
static uint64_t file_at;

static void make_durable(size_t len)
{
	len = (len + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
	if (file_at + len > FILE_BYTES)
		file_at = 0;
	if (pwrite(file, turn, len, (off_t)file_at) != (ssize_t)len || fdatasync(file) != 0) {
		perror("durable_turns: write");
		exit(1);
	}
	file_at += len;
}

static void accept_all(int listener)
{
	struct epoll_event event = {.events = EPOLLIN};
	int fd;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		echo_no_delay(fd);
		event.data.fd = fd;
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
	}
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS], event = {.events = EPOLLIN};
	file = argc > 1 ? open(argv[1], O_CREAT | O_RDWR | O_TRUNC, 0600) : -1;
	if (file < 0) {
		fprintf(stderr, "usage: durable_turns FILE\n");
		return 2;
	}
	for (uint64_t at = 0; at < FILE_BYTES; at += 1 << 20)
		if (pwrite(file, turn, 1 << 20, (off_t)at) != 1 << 20)
			return 1;
	fsync(file);
	int listener = echo_listen(1);
	epoll_fd = epoll_create1(0);
	event.data.fd = listener;
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS, -1), count = 0;
		size_t used = 0;
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener) {
				accept_all(listener);
				continue;
			}
			ssize_t got = recv(events[i].data.fd, turn + used, ECHO_BUFFER_BYTES, 0);
			if (got > 0) {
				answers[count++] = (struct answer){events[i].data.fd, used, (size_t)got};
				used += (size_t)got;
			} else if (got == 0 || errno != EAGAIN) {
				close(events[i].data.fd);
			}
		}
		if (used > 0)
			make_durable(used);
		for (int i = 0; i < count; i++)
			if (send(answers[i].fd, turn + answers[i].at, answers[i].len, MSG_NOSIGNAL) !=
			    (ssize_t)answers[i].len)
				close(answers[i].fd);
	}
}
