/* src/deliver/service.h -- services: the HTTP backends that the gateway stands in front of.
 *
 * A service is a setting of the store under "service/NAME", whose value is the JSON of docs/reference/http.md, and
 * a row of a table in memory that gateway and deliveries read. Thread: loop.
 */
#ifndef WH_DELIVER_SERVICE_H
#define WH_DELIVER_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/text.h"

#define SERVICE_SETTING_PREFIX "service/"
#define SERVICE_QUEUE_PREFIX   "call/"

/* A queue is named after its service with "call/" before it, and JOB_NAME_MAX is 200. */
enum {
	SERVICE_NAME_BYTES_MAX = 195,
	SERVICE_URL_BYTES_MAX = 2000,
	SERVICE_CONCURRENCY_MAX = 10000,
	SERVICES_MAX = 1000
};

struct service {
	struct service *next; /* in the table, by name */
	uint32_t references;  /* calls under way hold one: a changed service is a new struct */
	char *name;           /* NUL-terminated, like the next */
	char *url;            /* as configured */
	char *base;           /* path that calls are appended to: "" or "/base" */
	char *authority;      /* "host:port" as it goes into Host */
	char *origin;         /* "http://host:port", "https://host:port" */
	const char *address; /* for the client: authority in the clear, which it finds fastest, else origin */
	uint32_t concurrency;
	uint32_t attempts;
	int64_t timeout_ns;
	bool record;
};

struct service_table {
	struct service *first;
	size_t count;
};

/* What is wrong with a service that was sent. */
struct service_refusal {
	bool json;        /* not the JSON that is wanted; else a value outside its range */
	int line, column; /* json: where known, else 0 */
	char detail[300];
};

/* service_parse() - from the JSON of a PUT or of a setting. Gives a service with one reference, or NULL and *refusal
 * (detail "" : no memory). */
struct service *service_parse(const char *name, size_t name_len, const char *json, size_t len,
                              struct service_refusal *refusal);
struct service *service_from_url(const char *name, size_t name_len, const char *url,
                                 struct service_refusal *refusal);
struct service *service_ref(struct service *service);
struct service *service_unref(struct service *service); /* NULL; accepts NULL */

/* service_write() - its JSON, name included. */
void service_write(struct wh__text *text, const struct service *service);

struct service *service_find(const struct service_table *table, const char *name,
                             size_t len); /* no reference added */
void service_put(struct service_table *table,
                 struct service *service); /* takes the reference; replaces its namesake */
bool service_remove(struct service_table *table, const char *name, size_t len);
void service_clear(struct service_table *table);

#endif
