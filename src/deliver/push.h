/* src/deliver/push.h -- delivers recorded calls: leases the jobs of call/{service}, forwards them, stores the answers. Pushes the jobs
 * of queues that have a target likewise.
 *
 * Each service has a pusher that keeps up to its concurrency of calls under way. An answer, whatever its status,
 * is a result; none is an attempt that failed. What may have reached the backend is sent again only if its method
 * is idempotent. A pushed job is sent at least once, and done when its target answers with 200 to 299. Thread: the loop of the store.
 */
#ifndef WH_DELIVER_PUSH_H
#define WH_DELIVER_PUSH_H

#include "deliver/service.h"
#include "deliver/sign.h"
#include "store/store.h"
#include "whilst/http.h"

/* How the text of an attempt begins that ended because the time-out of its service passed. */
#define PUSH_TIMED_OUT "timed out"
/* The text of an attempt that was under way when a server ended. */
#define PUSH_UNKNOWN "outcome-unknown"
/* A lease outlasts the time-out by this. */
#define PUSH_LEASE_MARGIN_NS (30 * WH_NS_PER_S)

struct push;

struct push_options {
	uint64_t result_bytes_max;
	void (*event)(int level, const char *event, const char *members, void *arg);
	void *event_arg;
};

/* push_open() - store and clients are borrowed until push_close() and the loop's next turns. outside: speaks to what users name. 0 or
 * -errno. */
int push_open(wh_loop *loop, struct store *store, wh_http_client *client, wh_http_client *outside,
              const struct push_options *options, struct push **ret);

/* push_prepare() - what push_service() needs for this service: after 0 it cannot fail. To be had before the service is made known to anybody, and
 * given up with it. 0 or -ENOMEM. */
int push_prepare(struct service *service);
/* push_service() - deliver the calls of this service, or the jobs of the queue of this target, from now on, in place of its namesake; takes a
 * reference. The service is a prepared one. */
void push_service(struct push *push, struct service *service);

/* push_forget() - deliver none of it any more; what is under way goes on to its end. */
void push_forget(struct push *push, const struct service *service);

/* push_limit() - how many jobs a target is given at once just now. */
uint32_t push_limit(const struct push *push, const struct service *service);

/* ---- callbacks (callback.c) --------------------------------------------------------------
 *
 * Who submits a job may name a URL that is told when the job has finished. For that a second job is submitted in the same commit, to
 * CALLBACKS_PENDING: its id is the one after the job's, its payload the URL. When the job has finished, another commit takes it out and
 * submits what is to be sent to CALLBACKS, whose jobs are sent until somebody takes them; those that nobody took are buried there. */

enum { CALLBACK_URL_BYTES_MAX = 1000 };

/* push_callbacks_open() - look for those that were pending when a server ended, and send what there is. Synchronous: outside callbacks. */
int push_callbacks_open(struct push *push);
/* push_use_secrets() - sign with these from now on; copied. NULL: nobody can ask for a callback, and those that are due wait. 0 or -errno.
 * Synchronous, or in a task: the queues are made. */
int push_use_secrets(struct push *push, const struct secrets *secrets);
bool push_has_secrets(const struct push *push);
/* push_callback() - the commit that made job and its pending callback has been answered. */
void push_callback(struct push *push, uint64_t job, uint64_t pending_id);
/* push_callbacks_pending() - how many wait for their job's end now. */
uint64_t push_callbacks_pending(const struct push *push);

/* push_drain() - begin no further call. n = 0 once none is under way, or at the instant until (wh_now()). */
wh_future push_drain(struct push *push, int64_t until);

/* push_close() - end at once; calls under way stay leased and are found by the next start. The memory goes when the last
 * callback has come. Returns NULL; accepts NULL. */
struct push *push_close(struct push *push);

/* push_cancelled() - the cancellation of this call of the queue is asked for: if it is under way, it is broken off at its backend. */
void push_cancelled(struct push *push, struct store_slice queue, uint64_t job);

/* push_backend() - the backend that the next call of a service goes to, begun; .backend NULL: none takes one now. tried: of
 * backend_choose(), in which the chosen one is marked. push_backend_end() - that call is over, one way or the other. */
struct backend_call push_backend(struct push *push, struct service *service, uint64_t *tried);
void push_backend_end(struct push *push, const struct service *service, struct backend_call *call);

uint64_t push_under_way(const struct push *push);

#endif
