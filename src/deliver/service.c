/* src/deliver/service.c -- services: the HTTP backends that the gateway stands in front of. See service.h. */
#include "deliver/service.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/units.h"

#define NS_PER_S INT64_C(1000000000)

static void refuse(struct service_refusal *refusal, bool json, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void refuse(struct service_refusal *refusal, bool json, const char *format, ...)
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
		free(service->url);
		free(service->base);
		free(service->authority);
		free(service->origin);
		free(service);
	}
	return NULL;
}

static bool is_url_byte(char c)
{
	return c > ' ' && c < 0x7f && !strchr("\"<>\\^`{|}", c);
}

/* host or host:port or [v6] or [v6]:port */
static bool good_authority(const char *s, size_t len)
{
	const char *port = NULL;
	uint64_t number;

	if (len > 0 && s[0] == '[') {
		const char *end = memchr(s, ']', len);
		if (!end || end == s + 1 ||
		    strspn(s + 1, "0123456789abcdefABCDEF:.") != (size_t)(end - s - 1))
			return false;
		if (end + 1 == s + len)
			return true;
		if (end[1] != ':')
			return false;
		port = end + 1;
	} else {
		port = memchr(s, ':', len);
		if (len == 0 || port == s || memchr(s, '@', len))
			return false;
	}
	return !port || (wh__parse_u64(port + 1, len - (size_t)(port + 1 - s), 65535, &number) && number > 0);
}

static bool set_url(struct service *service, const char *url, struct service_refusal *refusal)
{
	bool secure = strncasecmp(url, "https://", 8) == 0;
	const char *authority = url + (secure ? 8 : 7), *path;
	size_t path_len;

	if (!secure && strncasecmp(url, "http://", 7) != 0) {
		refuse(refusal, false, "url must begin with http:// or https:// (%.200s)", url);
		return false;
	}
	for (const char *s = url; *s; s++) {
		if (!is_url_byte(*s) || *s == '?' || *s == '#') {
			refuse(refusal, false,
			       "url has a byte that is not for it at %zu: no blanks, query or fragment",
			       (size_t)(s - url));
			return false;
		}
	}
	path = authority + strcspn(authority, "/");
	if (strlen(url) > SERVICE_URL_BYTES_MAX || !good_authority(authority, (size_t)(path - authority))) {
		refuse(refusal, false, "url needs a host, and a port from 1 to 65535 if any (%.200s)", url);
		return false;
	}
	path_len = strlen(path);
	if (path_len > 0 && path[path_len - 1] == '/')
		path_len--;
	service->url = strdup(url);
	service->base = strndup(path, path_len);
	service->authority = strndup(authority, (size_t)(path - authority));
	service->origin = strndup(url, (size_t)(path - url));
	service->address = secure ? service->origin : service->authority;
	return true;
}

static struct service *make(const char *name, size_t name_len, const char *url,
                            struct service_refusal *refusal)
{
	struct service *service;

	if (name_len > SERVICE_NAME_BYTES_MAX) {
		refuse(refusal, false, "the name of a service has at most %d bytes", SERVICE_NAME_BYTES_MAX);
		return NULL;
	}
	refuse(refusal, false, "%s", "");
	service = calloc(1, sizeof(*service));
	if (!service)
		return NULL;
	*service = (struct service){
		.references = 1, .concurrency = 16, .attempts = 3, .timeout_ns = 60 * NS_PER_S};
	service->name = strndup(name, name_len);
	if (!set_url(service, url, refusal) || !service->name || !service->url || !service->base ||
	    !service->authority || !service->origin)
		return service_unref(service);
	return service;
}

struct service *service_from_url(const char *name, size_t name_len, const char *url,
                                 struct service_refusal *refusal)
{
	return make(name, name_len, url, refusal);
}

static bool set_number(const char *key, const json_t *value, uint32_t max, uint32_t *ret,
                       struct service_refusal *refusal)
{
	if (!json_is_integer(value)) {
		refuse(refusal, true, "%s must be a whole number", key);
		return false;
	}
	if (json_integer_value(value) < 1 || json_integer_value(value) > max) {
		refuse(refusal, false, "%s must be from 1 to %u", key, max);
		return false;
	}
	*ret = (uint32_t)json_integer_value(value);
	return true;
}

static bool set_timeout(const json_t *value, int64_t *ret, struct service_refusal *refusal)
{
	int64_t ns;

	if (!json_is_string(value) ||
	    !wh__parse_duration(json_string_value(value), json_string_length(value), &ns)) {
		refuse(refusal, true, "timeout must be a duration with its unit, such as \"30s\"");
		return false;
	}
	if (ns < NS_PER_S / 1000 || ns > 86400 * NS_PER_S) {
		refuse(refusal, false, "timeout must be from 1ms to 1d");
		return false;
	}
	*ret = ns;
	return true;
}

static bool set_member(struct service *service, const char *key, json_t *value,
                       struct service_refusal *refusal)
{
	if (strcmp(key, "url") == 0)
		return true; /* seen to already */
	if (strcmp(key, "name") == 0) {
		if (json_is_string(value) && strcmp(json_string_value(value), service->name) == 0)
			return true;
		refuse(refusal, true, "name, if there is one, must be that of the path");
		return false;
	}
	if (strcmp(key, "concurrency") == 0)
		return set_number(key, value, SERVICE_CONCURRENCY_MAX, &service->concurrency, refusal);
	if (strcmp(key, "attempts") == 0)
		return set_number(key, value, 1000, &service->attempts, refusal);
	if (strcmp(key, "timeout") == 0)
		return set_timeout(value, &service->timeout_ns, refusal);
	if (strcmp(key, "record") == 0) {
		service->record = json_is_true(value);
		if (json_is_boolean(value))
			return true;
		refuse(refusal, true, "record must be true or false");
		return false;
	}
	refuse(refusal, true,
	       "there is no member \"%.100s\"; known: url, concurrency, timeout, attempts, record", key);
	return false;
}

struct service *service_parse(const char *name, size_t name_len, const char *json, size_t len,
                              struct service_refusal *refusal)
{
	json_error_t error;
	json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &error), *value;
	struct service *service = NULL;
	const char *key;

	if (!root) {
		refuse(refusal, true, "%s", error.text);
		refusal->line = error.line;
		refusal->column = error.column;
		return NULL;
	}
	value = json_object_get(root, "url");
	if (!json_is_object(root) || !json_is_string(value)) {
		refuse(refusal, true, "wanted: an object with a string \"url\"");
	} else {
		service = make(name, name_len, json_string_value(value), refusal);
		if (service) {
			json_object_foreach(root, key, value)
			{
				if (!set_member(service, key, value, refusal)) {
					service = service_unref(service);
					break;
				}
			}
		}
	}
	json_decref(root);
	return service;
}

void service_write(struct wh__text *text, const struct service *service)
{
	char timeout[WH__DURATION_TEXT_BYTES];

	wh__text_str(text, "{\"name\":");
	wh__text_json(text, service->name, strlen(service->name));
	wh__text_str(text, ",\"url\":");
	wh__text_json(text, service->url, strlen(service->url));
	wh__text_format(text, ",\"concurrency\":%u,\"timeout\":\"%.*s\",\"attempts\":%u,\"record\":%s}",
	                service->concurrency, (int)wh__put_duration(timeout, service->timeout_ns), timeout,
	                service->attempts, service->record ? "true" : "false");
}

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

void service_put(struct service_table *table, struct service *service)
{
	struct service **at = &table->first;

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
