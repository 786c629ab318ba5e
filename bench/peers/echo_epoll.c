/* bench/peers/echo_epoll.c -- the leanest echo server on epoll: level-triggered, one static buffer, answers
 * inline. */
#include "echo.h"

#include <errno.h>
#include <sys/epoll.h>

int main(void)
{
	static char buffer[ECHO_BUFFER_BYTES];
	struct epoll_event events[512], event = {.events = EPOLLIN};
	int listener = echo_listen(1), epoll_fd = epoll_create1(0);
	event.data.fd = listener;
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, 512, -1);
		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;
			if (fd == listener) {
				while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
					echo_no_delay(fd);
					event.data.fd = fd;
					epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
				}
				continue;
			}
			ssize_t got = recv(fd, buffer, sizeof buffer, 0);
			if (got <= 0 && errno != EAGAIN)
				close(fd);
			else if (got > 0 && send(fd, buffer, (size_t)got, MSG_NOSIGNAL) != got)
				close(fd); /* messages of the benchmark fit the socket buffer */
		}
	}
}
