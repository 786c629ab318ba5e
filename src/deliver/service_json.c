/* src/deliver/service_json.c -- a service as JSON: read strictly, written whole. See service.h, docs/reference/http.md. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "deliver/service.h"
#include "job/types.h"
#include "whilst/whilst.h"

#define MS_NS  (WH_NS_PER_S / 1000)
#define DAY_NS (86400 * WH_NS_PER_S)

/* ---- values ------------------------------------------------------------------------------ */

static bool set_number(const char *key, const json_t *value, uint32_t min, uint32_t max, uint32_t *ret,
                       struct service_refusal *refusal)
{
	if (!json_is_integer(value)) {
		service_refuse(refusal, true, "%s must be a whole number", key);
		return false;
	}
	if (json_integer_value(value) < min || json_integer_value(value) > max) {
		service_refuse(refusal, false, "%s must be from %u to %u", key, min, max);
		return false;
	}
	*ret = (uint32_t)json_integer_value(value);
	return true;
}

static bool set_duration(const char *key, const json_t *value, int64_t *ret, struct service_refusal *refusal)
{
	int64_t ns;

	if (!json_is_string(value) ||
	    !wh__parse_duration(json_string_value(value), json_string_length(value), &ns)) {
		service_refuse(refusal, true, "%s must be a duration with its unit, such as \"30s\"", key);
		return false;
	}
	if (ns < MS_NS || ns > DAY_NS) {
		service_refuse(refusal, false, "%s must be from 1ms to 1d", key);
		return false;
	}
	*ret = ns;
	return true;
}

static bool set_flag(const char *key, const json_t *value, bool *ret, struct service_refusal *refusal)
{
	*ret = json_is_true(value);
	if (!json_is_boolean(value))
		service_refuse(refusal, true, "%s must be true or false", key);
	return json_is_boolean(value);
}

static bool unknown(const char *where, const char *key, const char *known, struct service_refusal *refusal)
{
	service_refuse(refusal, true, "%s has no member \"%.100s\"; known: %s", where, key, known);
	return false;
}

/* ---- objects ----------------------------------------------------------------------------- */

static bool set_health(struct service *service, json_t *root, struct service_refusal *refusal)
{
	struct service_health *health = &service->health;
	const char *key, *path = json_string_value(json_object_get(root, "path"));
	json_t *value;
	bool good = true;

	if (json_is_null(root))
		return true;
	if (!path || path[0] != '/' || strlen(path) > 1000 || strpbrk(path, " \t\r\n#")) {
		service_refuse(refusal, true,
		               "health must be an object with a string \"path\" that begins with /");
		return false;
	}
	*health = (struct service_health){.path = strdup(path),
	                                  .interval_ns = 5 * WH_NS_PER_S,
	                                  .timeout_ns = 2 * WH_NS_PER_S,
	                                  .healthy = 2,
	                                  .unhealthy = 3};
	if (!health->path) {
		service_refuse(refusal, false, "%s", "");
		return false;
	}
	json_object_foreach(root, key, value)
	{
		if (strcmp(key, "interval") == 0)
			good = set_duration("health.interval", value, &health->interval_ns, refusal);
		else if (strcmp(key, "timeout") == 0)
			good = set_duration("health.timeout", value, &health->timeout_ns, refusal);
		else if (strcmp(key, "healthy") == 0)
			good = set_number("health.healthy", value, 1, 1000, &health->healthy, refusal);
		else if (strcmp(key, "unhealthy") == 0)
			good = set_number("health.unhealthy", value, 1, 1000, &health->unhealthy, refusal);
		else if (strcmp(key, "path") != 0)
			good = unknown("health", key, "path, interval, timeout, healthy, unhealthy", refusal);
		if (!good)
			return false;
	}
	return true;
}

static bool set_breaker(struct service *service, json_t *root, struct service_refusal *refusal)
{
	const char *key;
	json_t *value;
	bool good = json_is_object(root);

	if (!good)
		service_refuse(refusal, true, "breaker must be an object");
	json_object_foreach(root, key, value)
	{
		if (strcmp(key, "failures") == 0)
			good = set_number("breaker.failures", value, 0, 1000000, &service->breaker.failures,
			                  refusal);
		else if (strcmp(key, "open") == 0)
			good = set_duration("breaker.open", value, &service->breaker.open_ns, refusal);
		else
			good = unknown("breaker", key, "failures, open", refusal);
		if (!good)
			return false;
	}
	return good;
}

static bool set_backoff(struct service *service, json_t *root, struct service_refusal *refusal)
{
	const char *key;
	json_t *value;
	bool good = json_is_object(root);

	if (json_is_null(root))
		return true;
	if (!good)
		service_refuse(refusal, true, "backoff must be an object");
	service->backoff_ns = WH_NS_PER_S;
	json_object_foreach(root, key, value)
	{
		if (strcmp(key, "initial") == 0)
			good = set_duration("backoff.initial", value, &service->backoff_ns, refusal);
		else if (strcmp(key, "max") == 0)
			good = set_duration("backoff.max", value, &service->backoff_ns_max, refusal);
		else
			good = unknown("backoff", key, "initial, max", refusal);
		if (!good)
			return false;
	}
	return good;
}

static bool set_statuses(struct service *service, json_t *root, struct service_refusal *refusal)
{
	size_t count = json_array_size(root);
	uint32_t status;

	if (!json_is_array(root) || count > SERVICE_RETRY_STATUSES_MAX) {
		service_refuse(refusal, true, "retry_statuses must be an array of at most %d statuses",
		               SERVICE_RETRY_STATUSES_MAX);
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		if (!set_number("retry_statuses", json_array_get(root, i), 400, 599, &status, refusal))
			return false;
		service->retry_statuses[service->retry_statuses_count++] = (uint16_t)status;
	}
	return true;
}

static bool set_wait_end(struct service *service, const json_t *value, struct service_refusal *refusal)
{
	const char *text = json_is_string(value) ? json_string_value(value) : "";

	service->cancel_on_wait_end = strcmp(text, "cancel") == 0;
	if (service->cancel_on_wait_end || strcmp(text, "continue") == 0)
		return true;
	service_refuse(refusal, true, "on_wait_end must be \"continue\" or \"cancel\"");
	return false;
}

/* What GET shows beyond the configuration may come back with it. */
static bool set_shown(const struct service *service, const char *key, const json_t *value,
                      struct service_refusal *refusal)
{
	if (strcmp(key, "backends") == 0) {
		if (!json_is_array(value))
			service_refuse(refusal, true,
			               "backends, if there are any, are an array, which says nothing");
		return json_is_array(value);
	}
	/* in full, or as it is said within its namespace */
	if (json_is_string(value) &&
	    (strcmp(json_string_value(value), service->name) == 0 ||
	     strcmp(json_string_value(value),
	            service->name + job_name_skip(service->name, strlen(service->name))) == 0))
		return true;
	service_refuse(refusal, true, "%s, if there is one, must be that of the path", key);
	return false;
}

/* What only calls of the gateway have. */
static bool set_of_service(struct service *service, const char *key, json_t *value,
                           struct service_refusal *refusal)
{
	if (strcmp(key, "attempts") == 0)
		return set_number(key, value, 1, 1000, &service->attempts, refusal);
	if (strcmp(key, "record") == 0)
		return set_flag(key, value, &service->record, refusal);
	if (strcmp(key, "retry_post") == 0)
		return set_flag(key, value, &service->retry_post, refusal);
	if (strcmp(key, "retry_statuses") == 0)
		return set_statuses(service, value, refusal);
	if (strcmp(key, "on_wait_end") == 0)
		return set_wait_end(service, value, refusal);
	if (strcmp(key, "backoff") == 0)
		return set_backoff(service, value, refusal);
	return unknown("a service", key,
	               "url, urls, concurrency, timeout, connect_timeout, first_byte_timeout, attempts, "
	               "backoff, retry_statuses, retry_post, record, on_wait_end, breaker, health",
	               refusal);
}

/* How many jobs are under way just now is shown, and set by nobody. */
static bool set_of_target(const char *key, const json_t *value, struct service_refusal *refusal)
{
	if (strcmp(key, "concurrency_now") != 0)
		return unknown(
			"a target", key,
			"url, urls, concurrency, timeout, connect_timeout, first_byte_timeout, breaker, "
			"health; attempts and pauses are the queue's",
			refusal);
	if (!json_is_integer(value))
		service_refuse(refusal, true,
		               "concurrency_now, if there is one, is a number, which says nothing");
	return json_is_integer(value);
}

static bool set_member(struct service *service, const char *key, json_t *value,
                       struct service_refusal *refusal)
{
	if (strcmp(key, "url") == 0 || strcmp(key, "urls") == 0)
		return true; /* seen to already */
	if (strcmp(key, service->target ? "queue" : "name") == 0 || strcmp(key, "backends") == 0)
		return set_shown(service, key, value, refusal);
	if (strcmp(key, "concurrency") == 0)
		return set_number(key, value, 1, SERVICE_CONCURRENCY_MAX, &service->concurrency, refusal);
	if (strcmp(key, "timeout") == 0)
		return set_duration(key, value, &service->timeout_ns, refusal);
	if (strcmp(key, "connect_timeout") == 0)
		return json_is_null(value) || set_duration(key, value, &service->connect_timeout_ns, refusal);
	if (strcmp(key, "first_byte_timeout") == 0)
		return json_is_null(value) ||
		       set_duration(key, value, &service->first_byte_timeout_ns, refusal);
	if (strcmp(key, "breaker") == 0)
		return set_breaker(service, value, refusal);
	if (strcmp(key, "health") == 0)
		return set_health(service, value, refusal);
	if (service->target)
		return set_of_target(key, value, refusal);
	return set_of_service(service, key, value, refusal);
}

static bool set_urls(struct service *service, const json_t *url, const json_t *urls,
                     struct service_refusal *refusal)
{
	size_t count = json_array_size(urls);

	if (json_is_string(url) && !urls)
		return service_add_url(service, json_string_value(url), refusal);
	if (url || !json_is_array(urls) || count == 0) {
		service_refuse(refusal, true,
		               "wanted: an object with a string \"url\", or \"urls\", an array of such");
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		const json_t *one = json_array_get(urls, i);

		if (!json_is_string(one)) {
			service_refuse(refusal, true, "urls must hold strings only");
			return false;
		}
		if (!service_add_url(service, json_string_value(one), refusal))
			return false;
	}
	return true;
}

struct service *service_parse(const char *name, size_t name_len, bool target, const char *json, size_t len,
                              struct service_refusal *refusal)
{
	json_error_t error;
	json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &error), *value;
	struct service *service;
	const char *key;
	bool good;

	if (!root) {
		service_refuse(refusal, true, "%s", error.text);
		refusal->line = error.line;
		refusal->column = error.column;
		return NULL;
	}
	service = service_new(name, name_len, target, refusal);
	good = service &&
	       set_urls(service, json_object_get(root, "url"), json_object_get(root, "urls"), refusal);
	json_object_foreach(root, key, value)
	{
		good = good && set_member(service, key, value, refusal);
	}
	json_decref(root);
	return good ? service : service_unref(service);
}

/* ---- writing ----------------------------------------------------------------------------- */

static void put_duration(struct wh__text *text, const char *name, int64_t ns)
{
	char duration[WH__DURATION_TEXT_BYTES];

	wh__text_format(text, "\"%s\":", name);
	if (ns > 0)
		wh__text_format(text, "\"%.*s\"", (int)wh__put_duration(duration, ns), duration);
	else
		wh__text_str(text, "null");
}

static void put_urls(struct wh__text *text, const struct service *service)
{
	if (service->backends_count == 1) {
		wh__text_str(text, ",\"url\":");
		wh__text_json(text, service->backends[0]->url, strlen(service->backends[0]->url));
		return;
	}
	for (size_t i = 0; i < service->backends_count; i++) {
		wh__text_str(text, i == 0 ? ",\"urls\":[" : ",");
		wh__text_json(text, service->backends[i]->url, strlen(service->backends[i]->url));
	}
	wh__text_put(text, "]", 1);
}

static void put_retries(struct wh__text *text, const struct service *service)
{
	wh__text_str(text, ",\"backoff\":");
	if (service->backoff_ns > 0) {
		wh__text_put(text, "{", 1);
		put_duration(text, "initial", service->backoff_ns);
		wh__text_put(text, ",", 1);
		put_duration(text, "max", service->backoff_ns_max);
		wh__text_put(text, "}", 1);
	} else {
		wh__text_str(text, "null");
	}
	wh__text_str(text, ",\"retry_statuses\":[");
	for (size_t i = 0; i < service->retry_statuses_count; i++)
		wh__text_format(text, "%s%u", i ? "," : "", service->retry_statuses[i]);
	wh__text_format(text, "],\"retry_post\":%s", service->retry_post ? "true" : "false");
}

static void put_health(struct wh__text *text, const struct service_health *health)
{
	wh__text_str(text, ",\"health\":");
	if (!health->path) {
		wh__text_str(text, "null");
		return;
	}
	wh__text_str(text, "{\"path\":");
	wh__text_json(text, health->path, strlen(health->path));
	wh__text_put(text, ",", 1);
	put_duration(text, "interval", health->interval_ns);
	wh__text_put(text, ",", 1);
	put_duration(text, "timeout", health->timeout_ns);
	wh__text_format(text, ",\"healthy\":%u,\"unhealthy\":%u}", health->healthy, health->unhealthy);
}

static void put_members(struct wh__text *text, const struct service *service, size_t hidden)
{
	wh__text_str(text, service->target ? "{\"queue\":" : "{\"name\":");
	wh__text_json(text, service->name + hidden, strlen(service->name) - hidden);
	put_urls(text, service);
	wh__text_format(text, ",\"concurrency\":%u,", service->concurrency);
	put_duration(text, "timeout", service->timeout_ns);
	wh__text_put(text, ",", 1);
	put_duration(text, "connect_timeout", service->connect_timeout_ns);
	wh__text_put(text, ",", 1);
	put_duration(text, "first_byte_timeout", service->first_byte_timeout_ns);
	if (!service->target) {
		wh__text_format(text, ",\"attempts\":%u,\"record\":%s", service->attempts,
		                service->record ? "true" : "false");
		put_retries(text, service);
		wh__text_format(text, ",\"on_wait_end\":\"%s\"",
		                service->cancel_on_wait_end ? "cancel" : "continue");
	}
	wh__text_format(text, ",\"breaker\":{\"failures\":%u,", service->breaker.failures);
	put_duration(text, "open", service->breaker.open_ns);
	wh__text_put(text, "}", 1);
	put_health(text, &service->health);
}

void service_write(struct wh__text *text, const struct service *service, size_t hidden)
{
	put_members(text, service, hidden);
	wh__text_put(text, "}", 1);
}

static void put_backend(struct wh__text *text, const struct backend *backend, int64_t now)
{
	enum backend_state state = backend_state(backend, now);
	const char *error = backend->last_error < 0 ? wh_strerror(backend->last_error) : "";

	wh__text_str(text, "{\"url\":");
	wh__text_json(text, backend->url, strlen(backend->url));
	wh__text_format(text, ",\"state\":\"%s\",\"outstanding\":%u,\"calls\":%llu,\"failures\":%llu",
	                backend_state_name(state), backend->outstanding, (unsigned long long)backend->calls,
	                (unsigned long long)backend->failures);
	wh__text_format(text, ",\"failures_in_a_row\":%u,\"circuits_opened\":%llu,\"checks\":%llu",
	                backend->failures_row, (unsigned long long)backend->circuits_opened,
	                (unsigned long long)backend->checks);
	wh__text_format(
		text, ",\"checks_failed\":%llu,\"last_error\":", (unsigned long long)backend->checks_failed);
	if (backend->last_error > 0)
		wh__text_format(text, "\"status %d\"", (int)backend->last_error);
	else if (error[0])
		wh__text_json(text, error, strlen(error));
	else
		wh__text_str(text, "null");
	wh__text_put(text, "}", 1);
}

void service_write_state(struct wh__text *text, const struct service *service, size_t hidden, int64_t now)
{
	put_members(text, service, hidden);
	for (size_t i = 0; i < service->backends_count; i++) {
		wh__text_str(text, i == 0 ? ",\"backends\":[" : ",");
		put_backend(text, service->backends[i], now);
	}
	wh__text_str(text, "]}");
}
