/* src/deliver/service.c -- services: the HTTP backends that the gateway stands in front of. See service.h. */
#include "deliver/service.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"

#define NS_PER_S INT64_C(1000000000)

void service_refuse(struct service_refusal *refusal, bool json, const char *format, ...)
{
	va_list list;

	*refusal = (struct service_refusal){.json = json};
	va_start(list, format);
	vsnprintf(refusal->detail, sizeof(refusal->detail), format, list);
	va_end(list);
}

struct service *service_ref(struct service *service)
{
	service->references++;
	return service;
}

struct service *service_unref(struct service *service)
{
	if (service && --service->references == 0) {
		free(service->name);
		free(service->queue);
		for (size_t i = 0; i < service->backends_count; i++)
			backend_unref(service->backends[i]);
		free(service->health.path);
		free(service->pusher);
		free(service->checks);
		free(service);
	}
	return NULL;
}

static char *queue_of(const char *name, bool target)
{
	size_t len = strlen(name) + sizeof(SERVICE_QUEUE_PREFIX), skip = job_name_skip(name, strlen(name));
	char *queue = malloc(len);

	if (queue)
		snprintf(queue, len, "%.*s%s%s", (int)skip, name, target ? "" : SERVICE_QUEUE_PREFIX,
		         name + skip);
	return queue;
}

struct service *service_new(const char *name, size_t name_len, bool target, struct service_refusal *refusal)
{
	struct service *service;

	if (!target && name_len > SERVICE_NAME_BYTES_MAX) {
		service_refuse(refusal, false, "the name of a service has at most %d bytes",
		               SERVICE_NAME_BYTES_MAX);
		return NULL;
	}
	service_refuse(refusal, false, "%s", "");
	service = calloc(1, sizeof(*service));
	if (!service)
		return NULL;
	*service = (struct service){.references = 1,
	                            .target = target,
	                            .concurrency = 16,
	                            .attempts = 3,
	                            .timeout_ns = 60 * NS_PER_S,
	                            .backoff_ns_max = 3600 * NS_PER_S,
	                            .breaker = {.failures = 5, .open_ns = 5 * NS_PER_S}};
	service->name = strndup(name, name_len);
	service->queue = service->name ? queue_of(service->name, target) : NULL;
	return service->queue ? service : service_unref(service);
}

/* A recorded call names its whole path, and goes to whichever backend is free. */
bool service_add_url(struct service *service, const char *url, struct service_refusal *refusal)
{
	struct backend *backend;

	if (service->backends_count == BACKENDS_MAX) {
		service_refuse(refusal, false, "a service has at most %d backends", BACKENDS_MAX);
		return false;
	}
	service_refuse(refusal, false, "%s", "");
	backend = backend_new(url, refusal->detail, sizeof(refusal->detail));
	if (!backend)
		return false;
	for (size_t i = 0; i < service->backends_count; i++) {
		if (strcmp(service->backends[i]->url, url) == 0)
			service_refuse(refusal, false, "%.200s is named twice", url);
		else if (strcmp(service->backends[i]->base, backend->base) != 0)
			service_refuse(refusal, false,
			               "the urls of a service must have the same path (%.200s has not)", url);
		else
			continue;
		backend_unref(backend);
		return false;
	}
	service->backends[service->backends_count++] = backend;
	return true;
}

struct service *service_from_url(const char *name, size_t name_len, const char *url,
                                 struct service_refusal *refusal)
{
	struct service *service = service_new(name, name_len, false, refusal);

	if (service && !service_add_url(service, url, refusal))
		return service_unref(service);
	return service;
}

/* ---- what it says of calls --------------------------------------------------------------- */

bool service_retries(const struct service *service, int status)
{
	for (size_t i = 0; i < service->retry_statuses_count; i++) {
		if (service->retry_statuses[i] == status)
			return true;
	}
	return false;
}

bool service_owns_queue(const char *name, size_t len)
{
	const size_t prefix = sizeof(SERVICE_QUEUE_PREFIX) - 1, callbacks = sizeof(CALLBACKS) - 1,
		     events = sizeof(STORE_EVENTS_PREFIX) - 1, skip = job_name_skip(name, len);

	name += skip; /* in each namespace the same */
	len -= skip;
	if ((len >= prefix && memcmp(name, SERVICE_QUEUE_PREFIX, prefix) == 0) ||
	    (len >= events && memcmp(name, STORE_EVENTS_PREFIX, events) == 0))
		return true;
	return len >= callbacks && memcmp(name, CALLBACKS, callbacks) == 0 &&
	       (len == callbacks || name[callbacks] == '/');
}

bool service_counts_against(const struct service *service, int status)
{
	return status >= 500 && service_retries(service, status);
}

int64_t service_first_byte_ns(const struct service *service)
{
	return service->first_byte_timeout_ns > 0 ? service->first_byte_timeout_ns : service->timeout_ns;
}

int64_t service_backoff(const struct service *service, uint32_t attempt, uint64_t salt)
{
	int64_t ns = service->backoff_ns;

	for (uint32_t i = 1; i < attempt && ns < service->backoff_ns_max; i++)
		ns *= 2;
	if (ns > service->backoff_ns_max)
		ns = service->backoff_ns_max;
	salt = (salt + attempt) * UINT64_C(0x9e3779b97f4a7c15);
	/* up to a quarter more, so that what failed together does not come back together */
	return ns + ns / 4 * (int64_t)(salt >> 54) / 1024;
}

/* ---- the table --------------------------------------------------------------------------- */

struct service *service_find(const struct service_table *table, const char *name, size_t len)
{
	for (struct service *service = table->first; service; service = service->next) {
		if (strlen(service->name) == len && memcmp(service->name, name, len) == 0)
			return service;
	}
	return NULL;
}

bool service_remove(struct service_table *table, const char *name, size_t len)
{
	struct service *service = service_find(table, name, len);
	struct service **at = &table->first;

	if (!service)
		return false;
	while (*at != service)
		at = &(*at)->next;
	*at = service->next;
	table->count--;
	service_unref(service);
	return true;
}

/* A backend that was there before is the same one: its calls under way, its circuit and its counters go on. */
static void keep_backends(struct service *service, const struct service *before)
{
	for (size_t i = 0; i < service->backends_count; i++) {
		for (size_t k = 0; k < before->backends_count; k++) {
			if (strcmp(service->backends[i]->url, before->backends[k]->url) != 0)
				continue;
			backend_unref(service->backends[i]);
			service->backends[i] = backend_ref(before->backends[k]);
			break;
		}
		if (!service->health.path) /* nobody would ever find it up again */
			service->backends[i]->down = false;
		if (service->breaker.failures == 0)
			service->backends[i]->open = false;
	}
}

void service_put(struct service_table *table, struct service *service)
{
	const struct service *before = service_find(table, service->name, strlen(service->name));
	struct service **at = &table->first;

	if (before && before != service)
		keep_backends(service, before);

	service_remove(table, service->name, strlen(service->name));
	while (*at && strcmp((*at)->name, service->name) < 0)
		at = &(*at)->next;
	service->next = *at;
	*at = service;
	table->count++;
}

void service_clear(struct service_table *table)
{
	while (table->first)
		service_remove(table, table->first->name, strlen(table->first->name));
}
