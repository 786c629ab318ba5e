/* chat.c -- a chat room: what one says, all others get; who reads slowly costs the room no memory without bound.
 *
 *	chat [ADDRESS]		"127.0.0.1:7", "[::1]:7", "unix:/path"; without: a free port on 127.0.0.1, which it prints
 *
 * Two rules make that so. Back-pressure: while anybody has more than CALM_BYTES unsent, nobody is listened to; the
 * talkers' own connections fill up and they have to wait. And patience: who takes nothing for PATIENCE_NS is dropped.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <whilst/whilst.h>

#define PATIENCE_NS (2 * WH_NS_PER_S)
/* A queue never holds more than what is calm and one message, which is at most a pooled buffer. */
enum { CALM_BYTES = 64 * 1024, MESSAGE_BYTES = 16 * 1024, QUEUE_BYTES = CALM_BYTES + MESSAGE_BYTES };

struct client {
	struct client *next;
	struct room *room;
	int fd, number;
	int pending; /* operations that have not called back: the memory is kept until there are none */
	bool gone, listening;
	struct wh_buf *held; /* said while the room was not calm */
	/* Bytes for it: queue[sending] is borrowed by the send that is under way, the other one gathers. */
	char *queue[2];
	size_t queued[2];
	int sending;
	bool send_pending;
};

struct room {
	wh_loop *loop;
	int listener, numbers;
	int behind; /* clients with more than CALM_BYTES unsent */
	struct client *clients;
};

static void carry_on(struct room *room);

/* All changes of what is unsent go through here, so that the room knows at once whether it is calm. */
static void set_queued(struct client *c, int which, size_t len)
{
	bool before = c->queued[0] + c->queued[1] > CALM_BYTES;
	c->queued[which] = len;
	bool after = c->queued[0] + c->queued[1] > CALM_BYTES;
	c->room->behind += after - before;
}

/* The client leaves. Its memory goes when the last operation on it has called back: until then the kernel may use it. */
static void leave(struct client *c, const char *why)
{
	if (c->gone)
		return;
	c->gone = true;
	set_queued(c, 0, 0);
	set_queued(c, 1, 0);
	c->held = wh_buf_put(c->held);
	printf("%d left: %s\n", c->number, why);
	fflush(stdout);
	wh_close_now(c->room->loop, c->fd); /* ends what is pending on it */
}

static void release_if_gone(struct client *c)
{
	if (!c->gone || c->pending > 0)
		return;
	struct client **link = &c->room->clients;
	while (*link != c)
		link = &(*link)->next;
	*link = c->next;
	free(c->queue[0]);
	free(c->queue[1]);
	free(c);
}

/* ---- telling ---- */

static void send_queue(struct client *c);

static void on_told(wh_loop *loop, wh_res res, void *arg)
{
	struct client *c = arg;
	struct room *room = c->room;
	(void)loop;
	c->pending--;
	c->send_pending = false;
	set_queued(c, c->sending, 0);
	if (res.n < 0)
		leave(c, res.n == -ETIMEDOUT ? "too slow" : wh_strerror(res.n));
	send_queue(c);
	release_if_gone(c);
	carry_on(room); /* it may be calm again */
}

static void send_queue(struct client *c)
{
	if (c->gone || c->send_pending || c->queued[!c->sending] == 0)
		return;
	c->sending = !c->sending;
	c->send_pending = true;
	c->pending++;
	wh_future send = wh_send_all(c->room->loop, c->fd, c->queue[c->sending], c->queued[c->sending]);
	wh_then(wh_deadline(send, wh_now(c->room->loop) + PATIENCE_NS), on_told, c);
}

static void tell(struct client *c, const struct wh_buf *message)
{
	int gathering = !c->sending;
	if (c->gone)
		return;
	memcpy(c->queue[gathering] + c->queued[gathering], message->data, message->len);
	set_queued(c, gathering, c->queued[gathering] + message->len);
	send_queue(c);
}

/* ---- listening ---- */

static void on_said(wh_loop *loop, wh_res res, void *arg)
{
	struct client *c = arg;
	struct room *room = c->room;
	(void)loop;
	c->pending--;
	c->listening = false;
	if (res.n > 0)
		c->held = res.ptr;
	else
		leave(c, res.n == 0 ? "said goodbye" : wh_strerror(res.n));
	if (c->gone)
		c->held = wh_buf_put(c->held);
	release_if_gone(c);
	carry_on(room);
}

/* Pass on what was said and listen again, as long as everybody keeps up. */
static void carry_on(struct room *room)
{
	for (struct client *c = room->clients; c && room->behind == 0; c = c->next) {
		if (c->held) {
			for (struct client *other = room->clients; other; other = other->next)
				if (other != c)
					tell(other, c->held);
			c->held = wh_buf_put(c->held);
		}
		if (c->gone || c->listening)
			continue;
		c->listening = true;
		c->pending++;
		wh_then(wh_recv_buf(room->loop, c->fd), on_said, c);
	}
}

/* ---- coming and going ---- */

static void on_come(wh_loop *loop, wh_res res, void *arg);

static void accept_next(wh_loop *loop, wh_res res, void *arg)
{
	struct room *room = arg;
	if (res.n != -ECANCELED)
		wh_then(wh_accept(loop, room->listener), on_come, room);
}

static void on_come(wh_loop *loop, wh_res res, void *arg)
{
	struct room *room = arg;
	if (res.n < 0) { /* closed; or out of descriptors, then a pause and not a tight loop */
		if (res.n != -ECANCELED)
			wh_then(wh_sleep(loop, 100 * WH_NS_PER_MS), accept_next, room);
		return;
	}
	struct client *c = calloc(1, sizeof *c);
	char *queues[2] = {malloc(QUEUE_BYTES), malloc(QUEUE_BYTES)};
	if (!c || !queues[0] || !queues[1]) {
		wh_close_now(loop, (int)res.n);
		free(queues[0]);
		free(queues[1]);
		free(c);
	} else {
		*c = (struct client){.next = room->clients, .room = room, .fd = (int)res.n};
		c->number = ++room->numbers;
		memcpy(c->queue, queues, sizeof queues);
		room->clients = c;
		printf("%d came\n", c->number);
		fflush(stdout);
	}
	carry_on(room);
	accept_next(loop, res, room);
}

static void on_signal(wh_loop *loop, wh_res res, void *arg)
{
	(void)res, (void)arg;
	wh_loop_stop(loop);
}

int main(int argc, char **argv)
{
	struct room room = {0};
	int r = wh_loop_open(&room.loop, NULL);
	if (r == 0)
		r = room.listener = wh_listen_text(room.loop, argc > 1 ? argv[1] : "127.0.0.1:0", NULL);
	struct sockaddr_storage bound;
	socklen_t len;
	char text[WH_ADDRESS_TEXT_MAX];
	if (r >= 0)
		r = wh_local_address(room.loop, room.listener, &bound, &len);
	if (r == 0)
		r = wh_format_address((struct sockaddr *)&bound, len, text, sizeof text);
	if (r < 0) {
		fprintf(stderr, "chat: %s\n", wh_strerror(r));
		return 1;
	}
	printf("listening on %s\n", text);
	fflush(stdout);

	accept_next(room.loop, (wh_res){0, NULL}, &room);
	wh_then(wh_signal(room.loop, SIGTERM), on_signal, NULL);
	wh_then(wh_signal(room.loop, SIGINT), on_signal, NULL);
	wh_loop_run(room.loop);
	wh_close_now(room.loop, room.listener);
	wh_loop_close(room.loop);
	return 0;
}
