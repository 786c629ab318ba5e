/* src/front/topic.c -- topics and their subscriptions: JSON, settings, the table. See topic.h. */
#include "front/topic.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/units.h"
#include "deliver/service.h"
#include "front/api.h"
#include "front/namespace.h"

static enum topic_wrong refuse(char *detail, enum topic_wrong wrong, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static enum topic_wrong refuse(char *detail, enum topic_wrong wrong, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(detail, TOPIC_DETAIL_BYTES, format, list);
	va_end(list);
	return wrong;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* A short string without escapes to look out for; absent: it is none, or long. */
static struct wh_slice short_string(struct wh_slice value, char room[TARGET_NAME_BYTES_MAX])
{
	struct wh_slice text = {room, 0};

	if (value.len > TARGET_NAME_BYTES_MAX || !wh__json_string(value, room, &text.len))
		return (struct wh_slice){NULL, 0};
	return text;
}

static bool same(struct wh_slice a, struct wh_slice b)
{
	return a.data && a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* The name of the path, in full or as it is said within its namespace. */
static bool is_name(struct wh_slice said, struct wh_slice name)
{
	return same(said, name) || same(said, namespace_plain(name));
}

static bool is_object(struct wh_slice *json)
{
	while (json->len > 0 && strchr(" \t\r\n", *json->data)) {
		json->data++;
		json->len--;
	}
	return wh__json_check(*json) && *json->data == '{';
}

/* 0s: none. */
static enum topic_wrong read_time(const char *name, struct wh_slice value, int64_t *ret, char *detail)
{
	char room[TARGET_NAME_BYTES_MAX];
	struct wh_slice text = short_string(value, room);
	int64_t ns;

	if (!text.data || !wh__parse_duration(text.data, text.len, &ns))
		return refuse(detail, TOPIC_BAD_JSON, "%s must be a duration with its unit, such as \"24h\"",
		              name);
	if (ns > TOPIC_RETENTION_MAX_NS || (ns > 0 && ns < 1000000))
		return refuse(detail, TOPIC_BAD_VALUE, "%s must be 0s or from 1ms to 3650d", name);
	*ret = ns;
	return TOPIC_GOOD;
}

static enum topic_wrong read_topic_member(struct wh_slice member, struct wh_slice value, struct wh_slice name,
                                          struct topic_config *ret, char *detail)
{
	char room[TARGET_NAME_BYTES_MAX];

	if (wh_slice_equal(member, "\"retention\""))
		return read_time("retention", value, &ret->retention_ns, detail);
	if (wh_slice_equal(member, "\"deduplicate\""))
		return read_time("deduplicate", value, &ret->deduplicate_ns, detail);
	if (wh_slice_equal(member, "\"events_max\"")) {
		if (wh__json_is_null(value) || (wh__json_u64(value, &ret->events_max) &&
		                                ret->events_max >= 1 && ret->events_max <= UINT32_MAX))
			return TOPIC_GOOD;
		return refuse(detail, TOPIC_BAD_VALUE, "events_max must be from 1 to 4294967295, or null");
	}
	if (!wh_slice_equal(member, "\"name\""))
		return refuse(detail, TOPIC_BAD_JSON,
		              "there is no member %.*s; known: retention, events_max, deduplicate",
		              (int)(member.len < 100 ? member.len : 100), member.data);
	return is_name(short_string(value, room), name)
	               ? TOPIC_GOOD
	               : refuse(detail, TOPIC_BAD_JSON, "name, if there is one, must be that of the path");
}

enum topic_wrong topic_read(struct wh_slice json, const char *name, size_t name_len, struct topic_config *ret,
                            char *detail)
{
	struct wh_slice at = {NULL, 0}, member;
	enum topic_wrong wrong = TOPIC_GOOD;
	struct topic_config config = {0};

	if (!is_object(&json))
		return refuse(detail, TOPIC_BAD_JSON, "wanted: an object such as {\"retention\":\"24h\"}");
	while (wrong == TOPIC_GOOD && wh__json_each(json, &at, &member))
		wrong = read_topic_member(member, at, (struct wh_slice){name, name_len}, &config, detail);
	/* what is kept is what is known of, and where the position of an event is found again */
	if (wrong == TOPIC_GOOD && config.deduplicate_ns > config.retention_ns)
		wrong = refuse(
			detail, TOPIC_BAD_VALUE,
			"deduplicate must be at most the retention: an event is known by what is kept");
	if (wrong == TOPIC_GOOD)
		*ret = config;
	return wrong;
}

/* text: its full name */
static enum topic_wrong set_queue(struct subscription *s, struct wh_slice text, struct wh_slice topic,
                                  char *detail)
{
	if (!namespace_full_valid(text.data, text.len))
		return refuse(detail, TOPIC_BAD_VALUE, "queue is not the name of one");
	if (!namespace_same(text, topic))
		return refuse(detail, TOPIC_BAD_VALUE, "queue is not of the topic's namespace");
	if (service_owns_queue(text.data, text.len))
		return refuse(
			detail, TOPIC_BAD_VALUE,
			"queue '%.*s': callbacks, and names that begin with topic/, call/ or callbacks/, are "
			"the server's own; name another \"queue\"",
			(int)namespace_plain(text).len, namespace_plain(text).data);
	free(s->queue);
	s->queue = strndup(text.data, text.len);
	return s->queue ? TOPIC_GOOD : TOPIC_NO_MEMORY;
}

static enum topic_wrong read_queue(struct subscription *s, struct wh_slice said, struct wh_slice namespace,
                                   struct wh_slice topic, char *detail)
{
	char name[TARGET_NAME_BYTES_MAX];
	size_t len;

	if (!said.data || namespace_name(namespace, said, name, &len))
		return refuse(detail, TOPIC_BAD_VALUE, "queue is not the name of one");
	return set_queue(s, (struct wh_slice){name, len}, topic, detail);
}

static enum topic_wrong read_filters(struct subscription *s, struct wh_slice value, char *detail)
{
	char *copy;
	int error;

	if (s->filters.data)
		return refuse(detail, TOPIC_BAD_JSON, "filters is given twice");
	error = filter_read(value, &s->filter, detail, TOPIC_DETAIL_BYTES);
	if (error < 0)
		return error == -ENOMEM ? TOPIC_NO_MEMORY : TOPIC_BAD_VALUE;
	copy = malloc(value.len);
	if (!copy)
		return TOPIC_NO_MEMORY;
	memcpy(copy, value.data, value.len);
	s->filters.data = copy;
	s->filters.len = value.len;
	return TOPIC_GOOD;
}

/* null: none. */
static enum topic_wrong read_key(const char *name, struct wh_slice value, struct subscription_key *ret,
                                 char *detail)
{
	char room[TARGET_NAME_BYTES_MAX];
	struct wh_slice text = short_string(value, room);

	ret->len = 0;
	if (wh__json_is_null(value))
		return TOPIC_GOOD;
	if (!text.data || !event_name_valid(text.data, text.len))
		return refuse(detail, TOPIC_BAD_VALUE,
		              "%s must be the name of an attribute, such as \"subject\", or null", name);
	memcpy(ret->attribute, text.data, text.len);
	ret->len = (uint8_t)text.len;
	return TOPIC_GOOD;
}

static enum topic_wrong read_unique_while(struct subscription *s, struct wh_slice value, char *detail)
{
	char room[TARGET_NAME_BYTES_MAX];
	struct wh_slice text = short_string(value, room);

	if (wh__json_is_null(value)) { /* as if it had not been said */
		s->unique_while_ns = JOB_UNIQUE_ACTIVE;
		return TOPIC_GOOD;
	}
	if (text.data && request_unique_while(text.data, text.len, &s->unique_while_ns))
		return TOPIC_GOOD;
	return refuse(detail, TOPIC_BAD_VALUE,
	              "unique_while must be \"queued\", \"active\" or a duration from 1ms to 3650d");
}

static enum topic_wrong read_from(struct wh_slice value, enum topic_from *ret_from,
                                  struct store_position *ret_position, char *detail)
{
	char room[TARGET_NAME_BYTES_MAX];
	struct wh_slice text = short_string(value, room);

	if (wh_slice_equal(text, "beginning"))
		*ret_from = TOPIC_FROM_BEGINNING;
	else if (wh_slice_equal(text, "now"))
		*ret_from = TOPIC_FROM_NOW;
	else if (text.data && topic_position(text.data, text.len, ret_position))
		*ret_from = TOPIC_FROM_POSITION;
	else
		return refuse(detail, TOPIC_BAD_VALUE,
		              "from must be \"now\", \"beginning\" or a position such as \"3/90112\"");
	return TOPIC_GOOD;
}

struct reading {
	struct subscription *s;
	struct wh_slice namespace;
	const struct wh_slice *topic, *name;
	bool stored;
	bool scope; /* unique_while is there */
	enum topic_from *from;
	struct store_position *position;
	char *detail;
};

static enum topic_wrong read_member(struct reading *r, struct wh_slice member, struct wh_slice value)
{
	char room[TARGET_NAME_BYTES_MAX];
	bool topic = wh_slice_equal(member, "\"topic\"");

	if (wh_slice_equal(member, "\"queue\""))
		return read_queue(r->s, short_string(value, room), r->namespace, *r->topic, r->detail);
	if (wh_slice_equal(member, "\"filters\""))
		return read_filters(r->s, value, r->detail);
	if (wh_slice_equal(member, "\"group\""))
		return read_key("group", value, &r->s->group, r->detail);
	if (wh_slice_equal(member, "\"unique\""))
		return read_key("unique", value, &r->s->unique, r->detail);
	if (wh_slice_equal(member, "\"unique_while\"")) {
		r->scope = !wh__json_is_null(value);
		return read_unique_while(r->s, value, r->detail);
	}
	if (topic || wh_slice_equal(member, "\"name\""))
		return is_name(short_string(value, room), topic ? *r->topic : *r->name)
		               ? TOPIC_GOOD
		               : refuse(r->detail, TOPIC_BAD_JSON,
		                        "topic and name, if they are there, must be those of the path");
	if (!r->stored && wh_slice_equal(member, "\"from\""))
		return read_from(value, r->from, r->position, r->detail);
	if (r->stored && wh_slice_equal(member, "\"replay_after\"") &&
	    wh__json_u64(value, &r->s->replay_after))
		return TOPIC_GOOD;
	if (r->stored && wh_slice_equal(member, "\"replay_until\"") &&
	    wh__json_u64(value, &r->s->replay_until))
		return TOPIC_GOOD;
	return refuse(r->detail, TOPIC_BAD_JSON,
	              "there is no member %.*s; known: queue, filters, group, unique, unique_while, from",
	              (int)(member.len < 100 ? member.len : 100), member.data);
}

enum topic_wrong subscription_read(struct wh_slice json, struct wh_slice namespace,
                                   const struct wh_slice *topic, const struct wh_slice *name, bool stored,
                                   struct subscription **ret, enum topic_from *ret_from,
                                   struct store_position *ret_position, char *detail)
{
	struct subscription *s = calloc(1, sizeof(*s));
	struct reading r = {.s = s,
	                    .namespace = namespace,
	                    .topic = topic,
	                    .name = name,
	                    .stored = stored,
	                    .from = ret_from,
	                    .position = ret_position,
	                    .detail = detail};
	struct wh_slice at = {NULL, 0}, member;
	enum topic_wrong wrong = TOPIC_GOOD;

	if (!s)
		return TOPIC_NO_MEMORY;
	memcpy(s->name, name->data, name->len);
	s->name_len = name->len;
	if (json.len > 0 && !is_object(&json))
		wrong = refuse(detail, TOPIC_BAD_JSON,
		               "wanted: an object such as {\"filters\":[{\"exact\":{\"type\":\"a\"}}]}");
	while (wrong == TOPIC_GOOD && json.len > 0 && wh__json_each(json, &at, &member))
		wrong = read_member(&r, member, at);
	if (wrong == TOPIC_GOOD && r.scope && s->unique.len == 0)
		wrong = refuse(detail, TOPIC_BAD_JSON, "unique_while says nothing without unique");
	if (wrong == TOPIC_GOOD && !s->queue) {
		char queue[TOPIC_NAME_BYTES_MAX + SUBSCRIPTION_NAME_BYTES_MAX + 2];
		int n = snprintf(queue, sizeof(queue), "%.*s/%.*s", (int)topic->len, topic->data,
		                 (int)name->len, name->data);

		wrong = set_queue(s, (struct wh_slice){queue, (size_t)n}, *topic, detail);
	}
	if (wrong == TOPIC_GOOD)
		*ret = s;
	else
		subscription_free(s);
	return wrong;
}

struct subscription *subscription_free(struct subscription *s)
{
	if (!s)
		return NULL;
	free(s->queue);
	free((void *)(uintptr_t)s->filters.data);
	filter_free(s->filter);
	free(s);
	return NULL;
}

bool topic_position(const char *text, size_t len, struct store_position *ret)
{
	const char *slash = memchr(text, '/', len);
	uint64_t epoch, lsn;

	if (!slash || !wh__parse_u64(text, (size_t)(slash - text), UINT32_MAX, &epoch) || epoch == 0 ||
	    !wh__parse_u64(slash + 1, (size_t)(text + len - slash - 1), UINT64_MAX, &lsn))
		return false;
	*ret = (struct store_position){(uint32_t)epoch, lsn};
	return true;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void write_config(struct wh__text *text, const struct topic_config *config)
{
	char duration[WH__DURATION_TEXT_BYTES];

	wh__text_format(text, "\"retention\":\"%.*s\",\"events_max\":",
	                (int)wh__put_duration(duration, config->retention_ns), duration);
	if (config->events_max > 0)
		wh__text_u64(text, config->events_max);
	else
		wh__text_str(text, "null");
	if (config->deduplicate_ns > 0)
		wh__text_format(text, ",\"deduplicate\":\"%.*s\"",
		                (int)wh__put_duration(duration, config->deduplicate_ns), duration);
}

void topic_write(struct wh__text *text, const struct topic *topic, size_t hidden, uint64_t events)
{
	wh__text_str(text, "{\"name\":");
	wh__text_json(text, topic->name + hidden, topic->name_len - hidden);
	wh__text_put(text, ",", 1);
	write_config(text, &topic->config);
	wh__text_str(text, ",\"events\":");
	wh__text_u64(text, events);
	wh__text_str(text, ",\"subscriptions\":[");
	for (size_t i = 0; i < topic->count; i++) {
		if (i > 0)
			wh__text_put(text, ",", 1);
		wh__text_json(text, topic->subscriptions[i]->name, topic->subscriptions[i]->name_len);
	}
	wh__text_put(text, "]}", 2);
}

void topic_write_setting(struct wh__text *text, const struct topic_config *config)
{
	wh__text_put(text, "{", 1);
	write_config(text, config);
	wh__text_put(text, "}", 1);
}

/* What there is none of is not told: an attribute's name has no character that JSON escapes. */
static void write_key(struct wh__text *text, const char *name, const struct subscription_key *key)
{
	if (key->len > 0)
		wh__text_format(text, ",\"%s\":\"%.*s\"", name, (int)key->len, key->attribute);
}

static void write_unique_while(struct wh__text *text, int64_t while_ns)
{
	char duration[WH__DURATION_TEXT_BYTES];

	if (while_ns > 0)
		wh__text_format(text, ",\"unique_while\":\"%.*s\"", (int)wh__put_duration(duration, while_ns),
		                duration);
	else
		wh__text_format(text, ",\"unique_while\":\"%s\"",
		                while_ns == JOB_UNIQUE_QUEUED ? "queued" : "active");
}

static void write_what(struct wh__text *text, const struct subscription *s, size_t hidden)
{
	wh__text_str(text, "\"queue\":");
	wh__text_json(text, s->queue + hidden, strlen(s->queue) - hidden); /* of the topic's namespace */
	wh__text_str(text, ",\"filters\":");
	if (s->filters.data)
		wh__text_put(text, s->filters.data, s->filters.len);
	else
		wh__text_put(text, "[]", 2);
	write_key(text, "group", &s->group);
	write_key(text, "unique", &s->unique);
	if (s->unique.len > 0)
		write_unique_while(text, s->unique_while_ns);
}

void subscription_write(struct wh__text *text, const struct topic *topic, const struct subscription *s,
                        size_t hidden, uint64_t left)
{
	wh__text_str(text, "{\"topic\":");
	wh__text_json(text, topic->name + hidden, topic->name_len - hidden);
	wh__text_str(text, ",\"name\":");
	wh__text_json(text, s->name, s->name_len);
	wh__text_put(text, ",", 1);
	write_what(text, s, hidden);
	if (s->replay_until > 0)
		wh__text_format(text, ",\"replay\":{\"left\":%llu}}", (unsigned long long)left);
	else
		wh__text_str(text, ",\"replay\":null}");
}

void subscription_write_setting(struct wh__text *text, const struct subscription *s)
{
	wh__text_put(text, "{", 1);
	write_what(text, s, 0);
	if (s->replay_until > 0)
		wh__text_format(text, ",\"replay_after\":%llu,\"replay_until\":%llu",
		                (unsigned long long)s->replay_after, (unsigned long long)s->replay_until);
	wh__text_put(text, "}", 1);
}

/* ---- keys of jobs ---------------------------------------------------------------------------- */

static void put_key(struct wh__text *text, const struct subscription_key *key, const struct event *event)
{
	if (key->len > 0)
		event_put_key(text, event_get(event, key->attribute, key->len));
}

void subscription_put_group(struct wh__text *text, const struct subscription *s, const struct event *event)
{
	put_key(text, &s->group, event);
}

void subscription_put_unique(struct wh__text *text, const struct subscription *s, const struct event *event)
{
	put_key(text, &s->unique, event);
}

/* ---- keys of settings ------------------------------------------------------------------------ */

struct store_slice topic_key(char key[TOPIC_KEY_BYTES], const char *topic, size_t len)
{
	size_t prefix = sizeof(TOPIC_SETTING_PREFIX) - 1;

	memcpy(key, TOPIC_SETTING_PREFIX, prefix);
	memcpy(key + prefix, topic, len);
	return (struct store_slice){key, prefix + len};
}

/* The last colon is ours: the name of a subscription has none, that of a topic one at most. */
struct store_slice subscription_setting_key(char key[TOPIC_KEY_BYTES], const char *topic, size_t topic_len,
                                            const char *name, size_t name_len)
{
	size_t len = sizeof(SUBSCRIPTION_SETTING_PREFIX) - 1;

	memcpy(key, SUBSCRIPTION_SETTING_PREFIX, len);
	memcpy(key + len, topic, topic_len);
	len += topic_len;
	key[len++] = ':';
	memcpy(key + len, name, name_len);
	return (struct store_slice){key, len + name_len};
}

struct store_slice topic_queue_name(char to[sizeof(TOPIC_QUEUE_PREFIX) + TOPIC_NAME_BYTES_MAX],
                                    const char *name, size_t len)
{
	size_t prefix = sizeof(TOPIC_QUEUE_PREFIX) - 1, skip = job_name_skip(name, len);

	memcpy(to, name, skip);
	memcpy(to + skip, TOPIC_QUEUE_PREFIX, prefix);
	memcpy(to + skip + prefix, name + skip, len - skip);
	to[len + prefix] = 0;
	return (struct store_slice){to, len + prefix};
}

/* ---- the table ------------------------------------------------------------------------------- */

static int order(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int n = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return n ? n : a_len < b_len ? -1 : a_len > b_len;
}

/* Room for one more pointer in a list. */
static bool make_room(void ***list, size_t count, size_t *cap)
{
	size_t more = *cap ? *cap * 2 : 8;
	void **larger;

	if (count < *cap)
		return true;
	larger = realloc(*list, more * sizeof(**list));
	if (!larger)
		return false;
	*list = larger;
	*cap = more;
	return true;
}

static size_t find_topic(const struct topic_table *table, const char *name, size_t len, bool *ret_there)
{
	size_t low = 0, high = table->count;

	*ret_there = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int n = order(table->topics[middle]->name, table->topics[middle]->name_len, name, len);

		if (n == 0) {
			*ret_there = true;
			return middle;
		}
		if (n < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct topic *topic_find(const struct topic_table *table, const char *name, size_t len)
{
	bool there;
	size_t at = find_topic(table, name, len, &there);

	return there ? table->topics[at] : NULL;
}

struct topic *topic_there(const struct topic_table *table, const char *name, size_t len)
{
	struct topic *topic = topic_find(table, name, len);

	return topic && topic_is_there(topic) ? topic : NULL;
}

struct topic *topic_make(struct topic_table *table, const char *name, size_t len)
{
	struct topic *topic;
	bool there;
	size_t at = find_topic(table, name, len, &there);

	if (there)
		return table->topics[at];
	if (len > TOPIC_NAME_BYTES_MAX || !make_room((void ***)&table->topics, table->count, &table->cap))
		return NULL;
	topic = calloc(1, sizeof(*topic));
	if (!topic)
		return NULL;
	memcpy(topic->name, name, len);
	topic->name_len = len;
	topic->queue_len = topic_queue_name(topic->queue, name, len).len;
	memmove(&table->topics[at + 1], &table->topics[at], (table->count - at) * sizeof(table->topics[0]));
	table->topics[at] = topic;
	table->count++;
	return topic;
}

static void topic_free(struct topic_table *table, struct topic *topic)
{
	for (size_t i = 0; i < topic->count; i++) {
		subscription_replay(table, topic->subscriptions[i], 0, 0);
		subscription_free(topic->subscriptions[i]);
	}
	free(topic->subscriptions);
	free(topic);
}

void topic_drop(struct topic_table *table, struct topic *topic)
{
	bool there;
	size_t at;

	if (topic->declared || topic->count > 0)
		return;
	at = find_topic(table, topic->name, topic->name_len, &there);
	table->count--;
	memmove(&table->topics[at], &table->topics[at + 1], (table->count - at) * sizeof(table->topics[0]));
	topic_free(table, topic);
}

static size_t find_subscription(const struct topic *topic, const char *name, size_t len, bool *ret_there)
{
	size_t at = 0;
	int n = 1;

	while (at < topic->count &&
	       (n = order(topic->subscriptions[at]->name, topic->subscriptions[at]->name_len, name, len)) < 0)
		at++;
	*ret_there = at < topic->count && n == 0;
	return at;
}

struct subscription *subscription_find(const struct topic *topic, const char *name, size_t len)
{
	bool there;
	size_t at = find_subscription(topic, name, len, &there);

	return there ? topic->subscriptions[at] : NULL;
}

int subscription_put(struct topic_table *table, struct topic *topic, struct subscription *s,
                     struct subscription **ret_old)
{
	bool there;
	size_t at = find_subscription(topic, s->name, s->name_len, &there);

	*ret_old = NULL;
	if (there) {
		*ret_old = topic->subscriptions[at];
		table->replays -= (*ret_old)->replay_until > 0;
	} else {
		if (!make_room((void ***)&topic->subscriptions, topic->count, &topic->cap))
			return -ENOMEM;
		memmove(&topic->subscriptions[at + 1], &topic->subscriptions[at],
		        (topic->count - at) * sizeof(topic->subscriptions[0]));
		topic->count++;
		table->subscriptions++;
	}
	topic->subscriptions[at] = s;
	table->replays += s->replay_until > 0;
	return 0;
}

struct subscription *subscription_take(struct topic_table *table, struct topic *topic, const char *name,
                                       size_t len)
{
	struct subscription *s;
	bool there;
	size_t at = find_subscription(topic, name, len, &there);

	if (!there)
		return NULL;
	s = topic->subscriptions[at];
	topic->count--;
	table->subscriptions--;
	table->replays -= s->replay_until > 0;
	memmove(&topic->subscriptions[at], &topic->subscriptions[at + 1],
	        (topic->count - at) * sizeof(topic->subscriptions[0]));
	return s;
}

void subscription_replay(struct topic_table *table, struct subscription *s, uint64_t after, uint64_t until)
{
	table->replays -= s->replay_until > 0;
	table->replays += until > 0;
	s->replay_after = until > 0 ? after : 0;
	s->replay_until = until;
}

void topic_clear(struct topic_table *table)
{
	for (size_t i = 0; i < table->count; i++)
		topic_free(table, table->topics[i]);
	free(table->topics);
	*table = (struct topic_table){0};
}

/* ---- from the store -------------------------------------------------------------------------- */

static int load_subscription(struct topic_table *table, struct wh_slice key, struct wh_slice value)
{
	const char *colon = memrchr(key.data, ':', key.len);
	struct wh_slice topic_name, name;
	char detail[TOPIC_DETAIL_BYTES];
	struct subscription *s, *old;
	struct topic *topic;
	enum topic_wrong wrong;

	if (!colon)
		return -EINVAL;
	topic_name = (struct wh_slice){key.data, (size_t)(colon - key.data)};
	name = (struct wh_slice){colon + 1, key.len - topic_name.len - 1};
	if (topic_name.len > TOPIC_NAME_BYTES_MAX || name.len > SUBSCRIPTION_NAME_BYTES_MAX)
		return -EINVAL;
	wrong = subscription_read(value, (struct wh_slice){NULL, 0}, &topic_name, &name, true, &s, NULL, NULL,
	                          detail);
	if (wrong != TOPIC_GOOD)
		return wrong == TOPIC_NO_MEMORY ? -ENOMEM : -EINVAL;
	topic = topic_make(table, topic_name.data, topic_name.len);
	if (!topic || subscription_put(table, topic, s, &old) < 0) {
		subscription_free(s);
		return -ENOMEM;
	}
	subscription_free(old);
	return 0;
}

int topic_load(struct topic_table *table, const struct store_setting *setting)
{
	struct wh_slice key = {setting->key.data, setting->key.len},
			value = {setting->value.data, setting->value.len};
	size_t prefix = sizeof(SUBSCRIPTION_SETTING_PREFIX) - 1;
	char detail[TOPIC_DETAIL_BYTES];
	struct topic_config config;
	struct topic *topic;

	if (key.len > prefix && memcmp(key.data, SUBSCRIPTION_SETTING_PREFIX, prefix) == 0)
		return load_subscription(table, (struct wh_slice){key.data + prefix, key.len - prefix},
		                         value);
	prefix = sizeof(TOPIC_SETTING_PREFIX) - 1;
	if (key.len <= prefix ||
	    topic_read(value, key.data + prefix, key.len - prefix, &config, detail) != TOPIC_GOOD)
		return -EINVAL;
	topic = topic_make(table, key.data + prefix, key.len - prefix);
	if (!topic)
		return -ENOMEM;
	topic->declared = true;
	topic->config = config;
	return 0;
}
