/* src/deliver/service.h -- services: the HTTP backends that the gateway stands in front of; targets, to which queues are pushed.
 *
 * A service is a setting of the store under "service/NAME", whose value is the JSON of docs/reference/http.md, and
 * a row of a table in memory that gateway and deliveries read. A target of a queue is likewise one under "target/QUEUE": a service that
 * nobody calls. Thread: loop.
 */
#ifndef WH_DELIVER_SERVICE_H
#define WH_DELIVER_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/text.h"
#include "deliver/backend.h"

#define SERVICE_SETTING_PREFIX "service/"
#define SERVICE_QUEUE_PREFIX   "call/"
#define TARGET_SETTING_PREFIX  "target/"
#define CALLBACKS              "callbacks"
#define CALLBACKS_PENDING      "callbacks/pending"

/* A queue is named after its service with "call/" before it, behind its namespace if it has one, and JOB_NAME_MAX is 200. */
enum {
	SERVICE_NAME_BYTES_MAX = 195,
	SERVICE_CONCURRENCY_MAX = 10000,
	SERVICE_RETRY_STATUSES_MAX = 16,
	SERVICES_MAX = 1000
};

/* How a service's health is asked for; path NULL: it is not. */
struct service_health {
	char *path;
	int64_t interval_ns, timeout_ns;
	uint32_t healthy, unhealthy; /* checks in a row that change what is thought of a backend */
};

struct health;
struct pusher;

struct service {
	struct service *next; /* in the table, by name */
	uint32_t references;  /* calls under way hold one: a changed service is a new struct */
	char *name;           /* NUL-terminated; of a target that of its queue */
	char *queue;          /* NUL-terminated */
	bool target;
	bool callbacks;                         /* a target that each job names for itself */
	struct backend *backends[BACKENDS_MAX]; /* one at least; the paths of their URLs are the same */
	size_t backends_count;
	uint32_t turn; /* of backend_choose() */
	uint32_t concurrency;
	uint32_t attempts;
	int64_t timeout_ns;
	int64_t connect_timeout_ns;    /* 0: the client's */
	int64_t first_byte_timeout_ns; /* 0: timeout_ns */
	int64_t backoff_ns;            /* before the second attempt, doubling with each; 0: the queue's */
	int64_t backoff_ns_max;
	uint16_t retry_statuses[SERVICE_RETRY_STATUSES_MAX]; /* answers that are attempts that failed */
	size_t retry_statuses_count;
	bool record;
	bool retry_post;         /* what may have reached a backend is sent again, whatever the method */
	bool cancel_on_wait_end; /* a call whose caller has waited in vain is cancelled */
	struct breaker breaker;
	struct service_health health;
	/* of push_prepare(), until push_service() has taken them */
	struct pusher *pusher;
	struct health *checks;
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

/* service_new() - one with defaults and no backend yet, and service_add_url(), for service_parse() and others like it. */
struct service *service_new(const char *name, size_t name_len, bool target, struct service_refusal *refusal);
bool service_add_url(struct service *service, const char *url, struct service_refusal *refusal);
void service_refuse(struct service_refusal *refusal, bool json, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* service_parse() - from the JSON of a PUT or of a setting. Gives a service with one reference, or NULL and *refusal
 * (detail "" : no memory). */
struct service *service_parse(const char *name, size_t name_len, bool target, const char *json, size_t len,
                              struct service_refusal *refusal);
struct service *service_from_url(const char *name, size_t name_len, const char *url,
                                 struct service_refusal *refusal);
struct service *service_ref(struct service *service);
struct service *service_unref(struct service *service); /* NULL; accepts NULL */

/* service_write() - its JSON, name included but for so many bytes of its beginning. service_write_state() - the same with how its backends do at
 * the instant now. */
void service_write(struct wh__text *text, const struct service *service, size_t hidden);
void service_write_state(struct wh__text *text, const struct service *service, size_t hidden, int64_t now);

bool service_retries(const struct service *service, int status); /* is this answer a failed attempt? */
/* service_counts_against() - does this answer count against the backend that gave it? */
bool service_counts_against(const struct service *service, int status);
/* service_owns_queue() - is a queue of this name the server's own: the gateway's, of kept events, or of callbacks? */
bool service_owns_queue(const char *name, size_t len);
int64_t service_first_byte_ns(const struct service *service);
/* service_backoff() - how long after a failed attempt (1: the first) the next one begins, with jitter by salt; 0: as the queue says. */
int64_t service_backoff(const struct service *service, uint32_t attempt, uint64_t salt);

struct service *service_find(const struct service_table *table, const char *name,
                             size_t len); /* no reference added */
void service_put(
	struct service_table *table,
	struct service *service); /* takes the reference; replaces its namesake, whose backends go on */
bool service_remove(struct service_table *table, const char *name, size_t len);
void service_clear(struct service_table *table);

#endif
