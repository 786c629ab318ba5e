/* src/deliver/push.c -- delivers recorded calls: leases the jobs of a service up to its concurrency. See push.h, push_inside.h.
 *
 * A claim is flushed before its call is sent: after any crash the lease is there, so the call is known to be of
 * unknown outcome and is not sent twice by mistake. Leases found at the start belong to a server that is gone.
 */
#include "deliver/push_inside.h"

#include <assert.h>

enum { LOT_MAX = 100 };

static void fill(struct pusher *pusher);

void push_unref(struct push *push)
{
	if (--push->references > 0)
		return;
	while (push->first) {
		struct pusher *pusher = push->first;
		push->first = pusher->next;
		service_unref(pusher->service);
		free(pusher);
	}
	service_unref(push->callbacks);
	free(push);
}

/* ---- without memory ---------------------------------------------------------------------- */

#define ROUSE_IDLE_NS (INT64_C(3600) * WH_NS_PER_S)
#define ROUSE_NS      (100 * WH_NS_PER_MS)

static void roused(wh_loop *loop, wh_res res, void *arg);

/* The timer is there before it is needed, and moving it takes no memory. Its own slot is free again when it has gone off. */
static int keep_rouse(struct push *push)
{
	push->rouse = wh_sleep(push->loop, ROUSE_IDLE_NS);
	push->roused = false;
	return wh_then(push->rouse, roused, push);
}

static void roused(wh_loop *loop, wh_res res, void *arg)
{
	struct push *push = arg;
	struct push_late late[PUSH_LATE_MAX];
	unsigned count = push->late_count;
	bool kept = !push->closing && keep_rouse(push) == 0;

	(void)res;
	memcpy(late, push->late, count * sizeof(late[0]));
	push->late_count = 0;
	for (unsigned i = 0; i < count; i++)
		late[i].callback(loop, (wh_res){push->closing ? -ECANCELED : -ENOMEM, NULL}, late[i].arg);
	if (!push->closing)
		callbacks_rouse(push);
	if (!kept)
		push_unref(push);
}

void push_rouse(struct push *push)
{
	int64_t at = wh_now(push->loop) + ROUSE_NS;

	if (push->roused || push->closing)
		return;
	push->roused = wh_rearm(push->rouse, at) == 0;
	if (!push->roused && keep_rouse(push) == 0) {
		push->references++;
		push->roused = wh_rearm(push->rouse, at) == 0;
	}
}

void push_then(struct push *push, wh_future future, wh_callback *callback, void *arg)
{
	push->references++;
	if (wh_then(future, callback, arg) == 0 ||
	    wh_then(wh_failed(push->loop, -ENOMEM), callback, arg) == 0)
		return;
	if (push->late_count < PUSH_LATE_MAX) {
		push->late[push->late_count++] = (struct push_late){callback, arg};
		push_rouse(push);
	} else {
		push_event(push, WH_LOG_WARNING, "call-postponed", NULL, 0, "out of memory");
	}
}

void push_event(struct push *push, int level, const char *name, const struct pusher *pusher, uint64_t job,
                const char *detail)
{
	struct wh__text text;
	char given[PUSH_TEXT_BYTES * 2];

	if (!push->options.event)
		return;
	wh__text_init(&text, given, sizeof(given));
	wh__text_format(&text, "%s=%s", !pusher || pusher->service->target ? "queue" : "service",
	                pusher ? pusher->service->name : CALLBACKS_PENDING);
	if (job > 0)
		wh__text_format(&text, " job=%llu", (unsigned long long)job);
	wh__text_str(&text, " error=");
	wh__text_json(&text, detail, strlen(detail));
	wh__text_put(&text, "", 1);
	if (!text.failed)
		push->options.event(level, name, text.data, push->options.event_arg);
	wh__text_done(&text);
}

static void check_drained(struct push *push)
{
	if (push->draining && push->under_way == 0 && !push->has_drained) {
		push->has_drained = true;
		wh_resolve(push->drained, 0, NULL);
	}
}

void push_settled(struct pusher *pusher)
{
	struct push *push = pusher->push;

	pusher->under_way--;
	push->under_way--;
	check_drained(push);
	fill(pusher);
	push_unref(push);
}

/* ---- leasing ----------------------------------------------------------------------------- */

static void fill_later(wh_loop *loop, wh_res res, void *arg)
{
	struct pusher *pusher = arg;
	struct push *push = pusher->push;

	pusher->is_reserving = false;
	if (res.n >= 0 || res.n == -ENOMEM)
		fill(pusher);
	push_unref(push);
}

static void queue_made(wh_loop *loop, wh_res res, void *arg)
{
	struct pusher *pusher = arg;
	struct push *push = pusher->push;

	if (res.n >= 0)
		store_commit_free(res.ptr);
	if (res.n == -ENOMEM && !push->closing) {
		push_then(push, wh_sleep(push->loop, PUSH_AGAIN_NS), fill_later, pusher);
		push_unref(push);
	} else {
		fill_later(loop, res, arg);
	}
}

static void reserved(wh_loop *loop, wh_res res, void *arg)
{
	struct pusher *pusher = arg;
	struct push *push = pusher->push;
	struct store_lot *lot = res.ptr;

	pusher->is_reserving = false;
	if (res.n == -JOB_EUNKNOWN_QUEUE && !push->draining && !push->closing) {
		struct store_action action = {.kind = STORE_QUEUE_PUT,
		                              .queue.name = {pusher->queue, pusher->queue_len}};
		pusher->is_reserving = true;
		push_then(push, store_apply(push->store, &action, 1, 0, STORE_LOCAL), queue_made, pusher);
	} else if (res.n < 0 && res.n != -ECANCELED && !push->closing) {
		pusher->is_reserving = true;
		push_then(push, wh_sleep(push->loop, PUSH_AGAIN_NS), fill_later, pusher);
	} else if (res.n > 0 && (push->draining || push->closing || pusher->forgotten)) {
		store_lot_return(push->store, lot);
	} else if (res.n > 0) {
		for (size_t i = 0; i < lot->count; i++)
			delivery_begin(pusher, &lot->jobs[i]);
		store_lot_free(lot);
		fill(pusher);
	} else if (!push->draining) {
		fill(pusher);
	}
	push_unref(push);
}

static void woken(wh_loop *loop, wh_res res, void *arg)
{
	struct pusher *pusher = arg;
	struct push *push = pusher->push;

	pusher->is_waiting = false;
	if (res.n >= 0 || res.n == -ECANCELED || res.n == -ENOMEM)
		fill(pusher);
	push_unref(push);
}

static uint32_t most_of(const struct pusher *pusher)
{
	return pusher->service->target && !pusher->service->callbacks ? adaptive_limit(&pusher->adaptive)
	                                                              : pusher->service->concurrency;
}

/* How many the backends take now. *ret_at: without any, when to look again. */
static uint32_t room_at(const struct pusher *pusher, int64_t *ret_at)
{
	const struct service *service = pusher->service;
	int64_t now = wh_now(pusher->push->loop);

	*ret_at = pusher->held_until;
	if (service->callbacks)
		return UINT32_MAX;
	return now < pusher->held_until
	               ? 0
	               : backend_room(service->backends, service->backends_count, now, ret_at);
}

/* How many calls may be begun; with none, it is looked again when that may have changed. */
static uint32_t room_of(struct pusher *pusher)
{
	struct push *push = pusher->push;
	uint32_t most = most_of(pusher), room;
	int64_t at;

	if (pusher->under_way >= most)
		return 0;
	room = room_at(pusher, &at);
	if (room == 0 && at < INT64_MAX && !pusher->is_waiting) {
		pusher->is_waiting = true;
		pusher->waking = wh_sleep_until(push->loop, at);
		push_then(push, pusher->waking, woken, pusher);
	}
	if (room > most - pusher->under_way)
		room = most - pusher->under_way;
	return room < LOT_MAX ? room : LOT_MAX;
}

static void fill(struct pusher *pusher)
{
	struct push *push = pusher->push;
	struct store_slice queue = {pusher->queue, pusher->queue_len};
	struct store_reserve reserve = {
		.queues = &queue, .queues_count = 1, .wait = true, .level = STORE_LOCAL};

	if (push->draining || push->closing || pusher->forgotten || pusher->is_reserving ||
	    !pusher->recovered)
		return;
	reserve.jobs_max = room_of(pusher);
	if (reserve.jobs_max == 0)
		return;
	reserve.lease_ns = pusher->service->timeout_ns + PUSH_LEASE_MARGIN_NS;
	if (pusher->service
	            ->target) { /* sent at least once: what a crash interrupts comes again, and loses no attempt */
		reserve.level = STORE_ASYNC;
		reserve.bound = true;
	}
	pusher->is_reserving = true;
	pusher->reserving = store_reserve(push->store, &reserve);
	push_then(push, pusher->reserving, reserved, pusher);
}

void push_refill(struct pusher *pusher)
{
	int64_t at;

	if (pusher->is_waiting)
		wh_cancel(pusher->waking);
	/* what would come cannot be sent on */
	if (pusher->is_reserving && room_at(pusher, &at) == 0)
		wh_cancel(pusher->reserving);
	fill(pusher);
}

void push_told(struct pusher *pusher, enum adaptive_answer answer, int64_t begun_at, int64_t hold_ns)
{
	int64_t now = wh_now(pusher->push->loop);

	adaptive_told(&pusher->adaptive, answer, begun_at, now);
	if (hold_ns > 0 && now + hold_ns > pusher->held_until) {
		pusher->held_until = now + hold_ns;
		push_refill(pusher);
	}
}

/* ---- leases of a server that is gone ----------------------------------------------------- */

static void find_leases(struct pusher *pusher);

static void find_again(wh_loop *loop, wh_res res, void *arg)
{
	struct pusher *pusher = arg;
	struct push *push = pusher->push;

	(void)loop;
	if ((res.n >= 0 || res.n == -ENOMEM) && !push->closing)
		find_leases(pusher);
	push_unref(push);
}

static void found_leases(wh_loop *loop, wh_res res, void *arg)
{
	struct pusher *pusher = arg;
	struct push *push = pusher->push;
	struct store_lot *lot = res.ptr;

	if (res.n == -ENOMEM && !push->closing) {
		push_then(push, wh_sleep(push->loop, PUSH_AGAIN_NS), find_again, pusher);
		push_unref(push);
		return;
	}
	pusher->recovered = true;
	if (res.n > 0 && !push->closing) {
		for (size_t i = 0; i < lot->count; i++)
			delivery_lost(pusher, &lot->jobs[i]);
	}
	if (res.n >= 0)
		store_lot_free(lot);
	fill(pusher);
	push_unref(push);
}

static void find_leases(struct pusher *pusher)
{
	struct push *push = pusher->push;

	push_then(push, store_leases(push->store, (struct store_slice){pusher->queue, pusher->queue_len}),
	          found_leases, pusher);
}

/* ---- backends ---------------------------------------------------------------------------- */

static struct pusher *find(const struct push *push, const char *queue)
{
	struct pusher *pusher = push->first;

	while (pusher && strcmp(pusher->queue, queue) != 0)
		pusher = pusher->next;
	return pusher;
}

struct backend_call push_backend(struct push *push, struct service *service, uint64_t *tried)
{
	struct backend_call call = {0};
	int at = backend_choose(service->backends, service->backends_count, *tried, &service->turn,
	                        wh_now(push->loop));

	if (at >= 0) {
		*tried |= UINT64_C(1) << at;
		backend_begin(&call, service->backends[at]);
	}
	return call;
}

void push_backend_end(struct push *push, const struct service *service, struct backend_call *call)
{
	bool was_trial = call->was_trial;
	struct pusher *pusher;

	backend_end(call);
	/* there is one trial at a time: that it is over lets another begin, or all others */
	pusher = was_trial && !push->closing ? find(push, service->queue) : NULL;
	if (pusher)
		push_refill(pusher);
}

void push_cancelled(struct push *push, struct store_slice queue, uint64_t job)
{
	for (struct pusher *pusher = push->first; pusher; pusher = pusher->next) {
		if (pusher->queue_len != queue.len || memcmp(pusher->queue, queue.data, queue.len) != 0)
			continue;
		for (struct delivery *delivery = pusher->deliveries; delivery; delivery = delivery->next) {
			if (delivery->job == job) {
				delivery_cancel(delivery);
				return;
			}
		}
	}
}

/* ---- open, close, change ----------------------------------------------------------------- */

int push_open(wh_loop *loop, struct store *store, wh_http_client *client, wh_http_client *outside,
              const struct push_options *options, struct push **ret)
{
	struct push *push = calloc(1, sizeof(*push));

	if (!push)
		return -ENOMEM;
	push->loop = loop;
	push->store = store;
	push->client = client;
	push->outside = outside;
	push->options = *options;
	push->references = 2; /* the caller's, and that of the timer */
	if (keep_rouse(push) != 0) {
		free(push);
		return -ENOMEM;
	}
	*ret = push;
	return 0;
}

/* The service, or target, that a pusher has from now on. */
static void take_service(struct pusher *pusher, struct service *service)
{
	struct push *push = pusher->push;

	service_unref(pusher->service);
	pusher->service = service_ref(service);
	pusher->client = service->target ? push->outside : push->client;
	pusher->forgotten = false;
	adaptive_bound(&pusher->adaptive, service->concurrency);
	health_start(pusher);
}

int push_prepare(struct service *service)
{
	if (!service->pusher)
		service->pusher = calloc(1, sizeof(*service->pusher) + strlen(service->queue) + 1);
	return service->pusher ? health_prepare(service) : -ENOMEM;
}

void push_service(struct push *push, struct service *service)
{
	struct pusher *pusher = find(push, service->queue);

	if (pusher) {
		take_service(pusher, service);
		/* a reservation that waits asks for as many as there was room: ask anew */
		if (pusher->is_reserving)
			wh_cancel(pusher->reserving);
		push_refill(pusher);
		return;
	}
	pusher = service->pusher;
	assert(pusher);
	service->pusher = NULL;
	pusher->push = push;
	pusher->queue_len = strlen(service->queue);
	memcpy(pusher->queue, service->queue, pusher->queue_len + 1);
	pusher->next = push->first;
	push->first = pusher;
	take_service(pusher, service);
	pusher->recovered = service->target; /* its leases have ended with the server that had them */
	if (pusher->recovered)
		fill(pusher);
	else
		find_leases(pusher);
}

void push_forget(struct push *push, const struct service *service)
{
	struct pusher *pusher = find(push, service->queue);

	if (!pusher)
		return;
	/* kept in the list: it is small, and calls may be under way */
	pusher->forgotten = true;
	health_stop(pusher);
	if (pusher->is_reserving)
		wh_cancel(pusher->reserving);
}

uint32_t push_limit(const struct push *push, const struct service *service)
{
	const struct pusher *pusher = find(push, service->queue);

	return pusher ? adaptive_limit(&pusher->adaptive) : 0;
}

static void stop_reserving(struct push *push)
{
	for (struct pusher *pusher = push->first; pusher; pusher = pusher->next) {
		if (pusher->is_reserving)
			wh_cancel(pusher->reserving);
		if (pusher->is_waiting)
			wh_cancel(pusher->waking);
		health_stop(pusher);
	}
}

wh_future push_drain(struct push *push, int64_t until)
{
	push->draining = true;
	push->drained = wh_promise(push->loop, NULL, NULL);
	stop_reserving(push);
	check_drained(push);
	return wh_deadline(push->drained, until);
}

struct push *push_close(struct push *push)
{
	if (!push)
		return NULL;
	push->closing = true;
	stop_reserving(push);
	callbacks_close(push);
	wh_cancel(push->rouse);
	push_unref(push);
	return NULL;
}

uint64_t push_under_way(const struct push *push)
{
	return push->under_way;
}
