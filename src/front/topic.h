/* src/front/topic.h -- topics and their subscriptions: settings of the store, and a table in memory that publishing reads.
 *
 * A topic is a setting "topic/NAME", a subscription one "subscription/TOPIC:NAME", where TOPIC may have a namespace and so a colon of its own; their values are the JSON of docs/reference/http.md, a
 * subscription's with how far its replay has come. A topic is there when it has a setting of its own or a subscription. The table knows
 * filters in the form in which they are asked, so that publishing reads no JSON. Pure but for memory; thread: loop.
 */
#ifndef WH_FRONT_TOPIC_H
#define WH_FRONT_TOPIC_H

#include "base/text.h"
#include "front/filter.h"
#include "store/store.h"

#define TOPIC_SETTING_PREFIX        "topic/"
#define SUBSCRIPTION_SETTING_PREFIX "subscription/"
#define TOPIC_QUEUE_PREFIX          STORE_EVENTS_PREFIX

enum {
	TOPIC_NAME_BYTES_MAX = 100,
	SUBSCRIPTION_NAME_BYTES_MAX = 99, /* "TOPIC/NAME" is a queue's name */
	TOPICS_MAX = 1000,
	TOPIC_SUBSCRIPTIONS_MAX = 1000, /* of one topic */
	TOPIC_KEY_BYTES = 256,
	TOPIC_DETAIL_BYTES = 300,
};
#define TOPIC_RETENTION_MAX_NS (INT64_C(3650) * 86400 * 1000000000)

/* What a PUT of a topic says. */
struct topic_config {
	int64_t retention_ns; /* 0: it keeps no events */
	uint64_t events_max;  /* 0: no limit of its own */
	int64_t deduplicate_ns; /* for so long an event of the same source and id is the same one; 0: it never is */
};

/* Which attribute of an event is a key of its job. */
struct subscription_key {
	uint8_t len; /* 0: none is */
	char attribute[EVENT_NAME_MAX];
};

struct subscription {
	char *queue;
	struct subscription_key group, unique;
	int64_t unique_while_ns; /* JOB_UNIQUE_..., or for so long */
	struct wh_slice filters; /* as sent; absent: none */
	struct filter *filter;   /* NULL: every event */
	/* a replay hands over the kept events behind the one job, up to the other; replay_until 0: none is under way */
	uint64_t replay_after, replay_until;
	size_t name_len;
	char name[SUBSCRIPTION_NAME_BYTES_MAX + 1];
};

struct topic {
	bool declared; /* it has a setting of its own */
	struct topic_config config;
	struct subscription **subscriptions; /* by name */
	size_t count, cap;
	size_t name_len;
	char name[TOPIC_NAME_BYTES_MAX + 1];
	size_t queue_len; /* of its events */
	char queue[sizeof(TOPIC_QUEUE_PREFIX) + TOPIC_NAME_BYTES_MAX];
};

struct topic_table {
	struct topic **topics; /* by name */
	size_t count, cap;
	uint64_t subscriptions;
	uint64_t replays; /* subscriptions that one is under way of */
};

enum topic_wrong { TOPIC_GOOD, TOPIC_BAD_JSON, TOPIC_BAD_VALUE, TOPIC_NO_MEMORY };

/* What a PUT of a subscription says about a replay. */
enum topic_from { TOPIC_FROM_NOW, TOPIC_FROM_BEGINNING, TOPIC_FROM_POSITION };

/* topic_read() - a topic's own setting from JSON. detail has TOPIC_DETAIL_BYTES. */
enum topic_wrong topic_read(struct wh_slice json, const char *name, size_t name_len, struct topic_config *ret,
                            char *detail);

/* subscription_read() - from a PUT by a client of this namespace (empty: of none) or, with stored, from a setting. ret_from and ret_position of
 * a PUT. */
enum topic_wrong subscription_read(struct wh_slice json, struct wh_slice namespace,
                                   const struct wh_slice *topic, const struct wh_slice *name, bool stored,
                                   struct subscription **ret, enum topic_from *ret_from,
                                   struct store_position *ret_position, char *detail);
struct subscription *subscription_free(struct subscription *subscription); /* NULL; accepts NULL */

/* topic_write(), subscription_write() - the JSON, names included but for so many bytes of their beginning. subscription_write_setting(): as it
 * is stored. */
void topic_write(struct wh__text *text, const struct topic *topic, size_t hidden, uint64_t events);
void topic_write_setting(struct wh__text *text, const struct topic_config *config);
void subscription_write(struct wh__text *text, const struct topic *topic,
                        const struct subscription *subscription, size_t hidden, uint64_t left);
void subscription_write_setting(struct wh__text *text, const struct subscription *subscription);

struct store_slice topic_key(char key[TOPIC_KEY_BYTES], const char *topic, size_t len);
struct store_slice subscription_setting_key(char key[TOPIC_KEY_BYTES], const char *topic, size_t topic_len,
                                            const char *name, size_t name_len);

/* subscription_put_group(), subscription_put_unique() - the keys of the job that an event becomes, behind text; nothing when it has none. */
void subscription_put_group(struct wh__text *text, const struct subscription *subscription,
                            const struct event *event);
void subscription_put_unique(struct wh__text *text, const struct subscription *subscription,
                             const struct event *event);

/* topic_position() - "3/90112". */
bool topic_position(const char *text, size_t len, struct store_position *ret);

/* topic_queue_name() - "NAMESPACE:topic/NAME" of a topic's full name. */
struct store_slice topic_queue_name(char to[sizeof(TOPIC_QUEUE_PREFIX) + TOPIC_NAME_BYTES_MAX],
                                    const char *name, size_t len);

struct topic *topic_find(const struct topic_table *table, const char *name, size_t len);
/* topic_there() - the same, unless it is on its way out of the table. */
struct topic *topic_there(const struct topic_table *table, const char *name, size_t len);
/* topic_make() - the topic of that name, made if it is not there; NULL: no memory. */
struct topic *topic_make(struct topic_table *table, const char *name, size_t len);
/* topic_drop() - forget it unless it has a setting or a subscription. */
void topic_drop(struct topic_table *table, struct topic *topic);
struct subscription *subscription_find(const struct topic *topic, const char *name, size_t len);
/* subscription_put() - takes it; *ret_old: its namesake, given back, or NULL. 0 or -ENOMEM (not taken). */
int subscription_put(struct topic_table *table, struct topic *topic, struct subscription *subscription,
                     struct subscription **ret_old);
/* subscription_take() - out of the table, given back; NULL: there is none. */
struct subscription *subscription_take(struct topic_table *table, struct topic *topic, const char *name,
                                       size_t len);
/* subscription_replay() - how far its replay has come; until 0: it is over. */
void subscription_replay(struct topic_table *table, struct subscription *subscription, uint64_t after,
                         uint64_t until);
void topic_clear(struct topic_table *table);

/* topic_load() - one setting of the store. 0, -EINVAL, -ENOMEM. */
int topic_load(struct topic_table *table, const struct store_setting *setting);

/* topic_is_there() - false: it is on its way out of the table. */
static inline bool topic_is_there(const struct topic *topic)
{
	return topic->declared || topic->count > 0;
}

static inline struct store_slice topic_queue(const struct topic *topic)
{
	return (struct store_slice){topic->queue, topic->queue_len};
}

#endif
