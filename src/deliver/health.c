/* src/deliver/health.c -- health checks: each backend of a service is asked, again and again, whether it is well. See push_inside.h.
 *
 * A check is well if it is answered with a status of 200 to 299 in time. Each backend has at most one check under way, so a slow one is
 * asked less often, not more. Thread: the loop of the store. Memory: a health lives until it is stopped and its last callback has come.
 */
#include "deliver/push_inside.h"

#include <assert.h>

struct health {
	struct pusher *pusher; /* NULL: stopped */
	struct push *push;
	struct service *service;
	wh_future sleeping;
	uint32_t references; /* the pusher's, the timer's, one for each check */
};

struct check {
	struct health *health;
	struct backend *backend;
};

static void ask_all(struct health *health);

static void health_unref(struct health *health)
{
	if (--health->references > 0)
		return;
	service_unref(health->service);
	free(health);
}

static void slept(wh_loop *loop, wh_res res, void *arg)
{
	struct health *health = arg;
	struct push *push = health->push;

	if ((res.n >= 0 || res.n == -ENOMEM) && health->pusher && !push->closing)
		ask_all(health);
	health_unref(health);
	push_unref(push);
}

static void tell(const struct health *health, const struct backend *backend)
{
	char detail[PUSH_TEXT_BYTES];

	snprintf(detail, sizeof(detail), "%.300s is %s, says its health check", backend->url,
	         backend->down ? "down" : "up again");
	push_event(health->push, backend->down ? WH_LOG_WARNING : WH_LOG_INFO, "backend-health",
	           health->pusher, 0, detail);
}

static void checked(wh_loop *loop, wh_res res, void *arg)
{
	struct check *check = arg;
	struct health *health = check->health;
	struct push *push = health->push;
	const struct service_health *how = &health->service->health;
	bool good = res.n >= 200 && res.n <= 299;

	check->backend->checking = false;
	if (res.n >= 0)
		wh_http_response_free(res.ptr);
	if (health->pusher && !push->closing && res.n != -ECANCELED &&
	    backend_checked(check->backend, good, how->healthy, how->unhealthy)) {
		tell(health, check->backend);
		push_refill(health->pusher);
	}
	backend_unref(check->backend);
	free(check);
	health_unref(health);
	push_unref(push);
}

static void ask(struct health *health, struct backend *backend)
{
	struct check *check = malloc(sizeof(*check));
	const struct service_health *how = &health->service->health;
	struct wh_http_request request = {
		.origin = backend->address,
		.host = backend->authority,
		.target = how->path,
		.total_timeout_ns = how->timeout_ns,
		.response_body_max = 1 << 20,
	};

	if (!check)
		return; /* at the next turn */
	*check = (struct check){.health = health, .backend = backend_ref(backend)};
	backend->checking = true;
	health->references++;
	push_then(health->push, wh_http_request(health->pusher->client, &request), checked, check);
}

static void ask_all(struct health *health)
{
	const struct service *service = health->service;

	for (size_t i = 0; i < service->backends_count; i++)
		if (!service->backends[i]->checking)
			ask(health, service->backends[i]);
	health->references++;
	health->sleeping = wh_sleep(health->push->loop, service->health.interval_ns);
	push_then(health->push, health->sleeping, slept, health);
}

int health_prepare(struct service *service)
{
	if (service->health.path && !service->checks)
		service->checks = malloc(sizeof(*service->checks));
	return service->health.path && !service->checks ? -ENOMEM : 0;
}

void health_start(struct pusher *pusher)
{
	struct health *health = pusher->service->checks;

	health_stop(pusher);
	if (!pusher->service->health.path)
		return;
	assert(health);
	pusher->service->checks = NULL;
	*health = (struct health){.pusher = pusher,
	                          .push = pusher->push,
	                          .service = service_ref(pusher->service),
	                          .references = 1};
	pusher->health = health;
	ask_all(health);
}

void health_stop(struct pusher *pusher)
{
	struct health *health = pusher->health;

	if (!health)
		return;
	pusher->health = NULL;
	health->pusher = NULL;
	wh_cancel(health->sleeping);
	health_unref(health);
}
