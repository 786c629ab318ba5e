/* src/engine/descriptor.h -- what an engine knows of a file descriptor: the operations on it, and a close that waits.
 *
 * Used by: engines that hand operations to the kernel or to workers (threads, epoll, uring), offload.c.
 * Thread: loop. Memory: one table for each loop, indexed by descriptor, grown on demand, freed by
 * wh__descriptors_fini().
 */
#ifndef WH_ENGINE_DESCRIPTOR_H
#define WH_ENGINE_DESCRIPTOR_H

#include "runtime/loop.h"

struct wh__descriptor {
	struct wh__op *first;   /* operations on it that the engine holds, through next and prev */
	struct wh__op *closing; /* WH__OP_CLOSE, waits until nothing is pending: see wh__descriptor_close() */
	uint32_t at_worker_count; /* operations on it at workers */
	bool receiving, sending;  /* there is one of the kind: see wh__descriptor_enter() */
	bool known_empty;         /* the last receive, or accept, took all there was */
	bool known_seekable;      /* of uring.c: has offsets */
	bool known_socket;        /* what is no socket might never get ready, nor say why */
	bool known_peer;      /* does not listen: what does never gets ready for a transfer, nor says why */
	bool known_listener;  /* an accept on it has succeeded */
	uint8_t epoll_flags;  /* of epoll.c; 0: not registered */
	uint8_t accept_count; /* of epoll.c: connections that were taken, by which turns are counted */
	int twin; /* of terminal.c: the same terminal, non-blocking; 0: not looked for; -1: there is none */
	uint32_t poll_index;   /* of sync.c: its place in the poll; 0: none */
	uint32_t registration; /* of epoll.c: rises when the descriptor is closed, tells late events */
};

/* Is op tied to its descriptor: must a close wait for it? Not WH__OP_CLOSE itself, whose number may name another file
 * before its completion is seen. */
bool wh__descriptor_used(const struct wh__op *op);

/* 0, -EBADF when fd is not open, -ENOMEM. The pointer is good until the next call. */
int wh__descriptor_get(wh_loop *loop, int fd, struct wh__descriptor **ret);

/* The entry if there is one, else NULL. */
struct wh__descriptor *wh__descriptor_look(wh_loop *loop, int fd);

/* fd is closed now, or about to be with nothing under way: what was known of it no longer holds. */
void wh__descriptor_closed(wh_loop *loop, int fd);

void wh__descriptor_link(struct wh__descriptor *descriptor, struct wh__op *op);
void wh__descriptor_unlink(struct wh__descriptor *descriptor, struct wh__op *op);

/* One receive and one send at a time, and nothing once it is being closed: 0, -EBUSY or -EBADF. What has entered
 * must leave when it ends. */
int wh__descriptor_enter(struct wh__descriptor *descriptor, const struct wh__op *op);
/* with n: what fails is looked at anew the next time, since a socket that is not connected may yet listen. */
void wh__descriptor_leave(struct wh__descriptor *descriptor, const struct wh__op *op, int64_t n);

/* op would accept, and nobody is there. An accept in vain costs a socket and a file, made and freed, and after each connection
 * there usually is no other: a look is a fifth of that. Only of what is known to listen, since the rest is to hear that it does
 * not. */
bool wh__descriptor_accepts_none(const struct wh__descriptor *descriptor, const struct wh__op *op);

/* wh__descriptor_close() - nothing is on fd any more, and close was its .closing: now is its time. */
void wh__descriptor_close(wh_loop *loop, int fd, struct wh__op *close);

void wh__descriptors_fini(wh_loop *loop);

#endif
