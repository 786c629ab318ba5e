/* src/deliver/push_inside.h -- what push.c, which leases jobs, and delivery.c, which carries out one attempt, share.
 *
 * Used by: src/deliver only. Thread: the loop of the store. A push lives until its last callback has come, a delivery until the store has
 * been told how it ended and nothing of its request is under way.
 */
#ifndef WH_DELIVER_PUSH_INSIDE_H
#define WH_DELIVER_PUSH_INSIDE_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "deliver/adaptive.h"
#include "deliver/message.h"
#include "deliver/push.h"
#include "deliver/trace.h"

enum { PUSH_TEXT_BYTES = 400, PUSH_LATE_MAX = 256 };
#define PUSH_AGAIN_NS WH_NS_PER_S

struct pusher {
	struct pusher *next;
	struct push *push;
	struct service *service;
	wh_future reserving;
	bool is_reserving, recovered, forgotten;
	bool is_waiting;  /* for a backend, until a circuit may be tried */
	wh_future waking; /* .is_waiting */
	wh_http_client *client;
	struct adaptive adaptive; /* of a target: how many jobs it is given at once */
	int64_t held_until;       /* wh_now(): a target has asked for nothing before */
	struct health *health;
	struct delivery *deliveries;
	uint32_t under_way;
	size_t queue_len;
	char queue[];
};

struct push {
	wh_loop *loop;
	struct store *store;
	wh_http_client *client, *outside;
	struct push_options options;
	struct pusher *first;
	uint64_t under_way; /* calls */
	struct secrets secrets;
	struct service *callbacks; /* NULL: none can be sent */
	struct pending *pending;   /* callbacks that wait for their job's end */
	uint64_t pending_count;
	uint64_t references; /* the owner's and one for each callback to come */
	bool draining, closing, has_drained;
	wh_future drained;
	/* what could not be waited for, not even to say so: told by the timer, which is there beforehand */
	struct push_late {
		wh_callback *callback;
		void *arg;
	} late[PUSH_LATE_MAX];
	unsigned late_count;
	struct push_missed {
		uint64_t job, id;
	} missed[PUSH_LATE_MAX]; /* callbacks for which there was no memory */
	unsigned missed_count;
	wh_future rouse;
	bool roused; /* it is to go off soon */
};

/* One attempt of one call. */
struct delivery {
	struct delivery *next, **link; /* of the pusher */
	struct pusher *pusher;
	struct service *service;
	struct backend_call at; /* where it is */
	uint64_t tried;         /* of backend_choose() */
	struct store_bytes *payload;
	struct store_reader *reader; /* of a payload in a file */
	struct wh_buf *piece;        /* of the answer, being stored */
	wh_http_call *call;
	const struct wh_http_response *response; /* the call's */
	struct store_body *answer;
	struct wh__text made;    /* of a target: what its request says beside what was submitted */
	struct wh__text head;    /* the message of a payload in a file, up to its body */
	struct wh__text headers; /* of the answer, end to end */
	char *content_type;      /* of the answer */
	int status;
	uint32_t sending;    /* callbacks of the request's body to come */
	bool decided;        /* how the attempt ends */
	bool settled;        /* and the store has been told */
	bool lost;           /* was under way when a server ended */
	int64_t broken;      /* the request's body could not be read to its end */
	int64_t until;       /* wh_now() at which the service's time-out passes */
	int64_t delay_ns;    /* asked for by the backend, before the next attempt; 0: not */
	const uint8_t *rest; /* of the piece of the request's body in hand */
	size_t rest_len;
	uint64_t job;
	struct job_lease lease;
	uint32_t attempt, attempts_max;
	bool idempotent; /* or as good as that */
	bool cancelled;
	bool put_off;    /* the target cannot take it now, which is no failed attempt */
	int64_t sent_at; /* wh_now() */
	bool no_retry;
	struct message message;
	char parent[TRACE_PARENT_BYTES]; /* of a target and a callback: the message's traceparent */
	char error[PUSH_TEXT_BYTES];     /* why the attempt failed; "": it has an answer */
};

/* ---- push.c ------------------------------------------------------------------------------ */

void push_unref(struct push *push);
/* push_then() - future -> callback(…, arg), for which a reference is held until push_unref(). Without memory for that callback gets -ENOMEM a little
 * later; where the future was a pause, this is as good as its end. push_rouse(): the timer goes off soon, and callbacks_rouse() is called. */
void push_rouse(struct push *push);
void push_then(struct push *push, wh_future future, wh_callback *callback, void *arg);
void push_event(struct push *push, int level, const char *name, const struct pusher *pusher, uint64_t job,
                const char *detail);
/* push_settled() - a delivery of the pusher has ended: others may begin. */
void push_settled(struct pusher *pusher);

/* push_refill() - of a backend of the pusher something has changed: calls may begin. */
void push_refill(struct pusher *pusher);
/* push_told() - how a target has answered. hold_ns: it wants nothing for so long; 0: it does not say so. */
void push_told(struct pusher *pusher, enum adaptive_answer answer, int64_t begun_at, int64_t hold_ns);

/* ---- health.c ---------------------------------------------------------------------------- */

/* health_prepare() - what health_start() needs for this service; 0 or -ENOMEM. health_start() - ask for the health of the pusher's service, a
 * prepared one, as it says, instead of what was asked before. health_stop(): no more. */
int health_prepare(struct service *service);
void health_start(struct pusher *pusher);
void health_stop(struct pusher *pusher);

/* ---- delivery.c -------------------------------------------------------------------------- */

/* delivery_begin() - carry out the attempt of a leased job; takes its payload. delivery_lost() - of one that was under way when a server ended. */
void delivery_begin(struct pusher *pusher, struct store_leased *leased);
void delivery_lost(struct pusher *pusher, const struct store_leased *leased);
/* delivery_cancel() - break off: the job is cancelled as soon as its attempt has ended. */
void delivery_cancel(struct delivery *delivery);

/* How an attempt ends: with .error, .put_off or an answer. delivery_fail() says what went wrong. delivery_end(): without the store, which finds
 * the lease when it starts. delivery_leave(): the backend is done with it. */
void delivery_settle(struct delivery *delivery);
void delivery_fail(struct delivery *delivery, bool no_retry, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void delivery_end(struct delivery *delivery);
void delivery_leave(struct delivery *delivery);
/* delivery_trace() - add the payload's trace context to the message, which has room for two fields more. */
void delivery_trace(struct delivery *delivery);

/* ---- exchange.c -------------------------------------------------------------------------- */

/* delivery_forward() - send .message to the backend .at, and see to it until it has ended one way or the other. */
void delivery_forward(struct delivery *delivery);

/* ---- callback.c -------------------------------------------------------------------------- */

/* callbacks_close() - no further waiting: the next start finds them. */
void callbacks_close(struct push *push);
/* callbacks_rouse() - go on with those that came to a halt for want of memory. */
void callbacks_rouse(struct push *push);

/* ---- callback_send.c --------------------------------------------------------------------- */

/* callback_message() - .message and .at of a job of CALLBACKS, signed as of now; false: the attempt is settled. */
bool callback_message(struct delivery *delivery);
/* callback_judge() - as target_judge(). callback_delay(): after the attempt-th failure; 0: it was the last. */
bool callback_judge(struct delivery *delivery);
int64_t callback_delay(uint32_t attempt, uint64_t salt);

/* ---- target.c ---------------------------------------------------------------------------- */

/* target_message() - .message from the job that is to be pushed; its body is the payload. false: no memory. */
bool target_message(struct delivery *delivery);
/* target_judge() - the head of the answer is there: true: it is a result, and is to be kept; else the attempt is settled. */
bool target_judge(struct delivery *delivery);

#endif
