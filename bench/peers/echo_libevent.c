/* bench/peers/echo_libevent.c -- echo on libevent's bufferevents, as its book shows. */
#include "echo.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

static void on_read(struct bufferevent *bev, void *arg)
{
	(void)arg;
	evbuffer_add_buffer(bufferevent_get_output(bev), bufferevent_get_input(bev));
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	(void)arg;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		bufferevent_free(bev);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int len,
                      void *arg)
{
	(void)address;
	(void)len;
	(void)arg;
	struct bufferevent *bev =
		bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
	echo_no_delay(fd);
	bufferevent_setcb(bev, on_read, NULL, on_event, NULL);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
}

int main(void)
{
	struct event_base *base = event_base_new();
	if (!evconnlistener_new(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE, 0, echo_listen(1)))
		return 1;
	return event_base_dispatch(base);
}
