/* src/deliver/push.h -- delivers recorded calls: leases the jobs of call/{service}, forwards them, stores the answers.
 *
 * Each service has a pusher that keeps up to its concurrency of calls under way. An answer, whatever its status,
 * is a result; none is an attempt that failed. What may have reached the backend is sent again only if its method
 * is idempotent. Thread: the loop of the store.
 */
#ifndef WH_DELIVER_PUSH_H
#define WH_DELIVER_PUSH_H

#include "deliver/service.h"
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

/* push_open() - store and client are borrowed until push_close() and the loop's next turns. 0 or -errno. */
int push_open(wh_loop *loop, struct store *store, wh_http_client *client, const struct push_options *options,
              struct push **ret);

/* push_service() - deliver the calls of this service from now on, in place of its namesake; takes a reference. */
void push_service(struct push *push, struct service *service);

/* push_forget() - deliver none of it any more; calls under way go on to their end. */
void push_forget(struct push *push, const char *name, size_t len);

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
