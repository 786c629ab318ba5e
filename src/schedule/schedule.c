/* src/schedule/schedule.c -- schedules: JSON, when they are due, the table. See schedule.h. */
#include "schedule/schedule.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/units.h"

#define NS_PER_S        INT64_C(1000000000)
#define NS_PER_MS       INT64_C(1000000)
#define LATE_NS         (60 * NS_PER_S)       /* a run that is later than this is missed */
#define CLOCK_ASTRAY_NS (3 * 3600 * NS_PER_S) /* see schedule_set_back() */

enum { NEXT_SHOWN = 5 };

static enum schedule_wrong refuse(char *detail, enum schedule_wrong wrong, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static enum schedule_wrong refuse(char *detail, enum schedule_wrong wrong, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(detail, SCHEDULE_DETAIL_BYTES, format, list);
	va_end(list);
	return wrong;
}

/* ---- reading ----------------------------------------------------------------------------- */

struct reading {
	struct schedule *s;
	bool stored;
	unsigned seen; /* a bit for each member */
	char *detail;
};

/* A string of at most max characters, at to, with a NUL. */
static bool read_text(struct wh_slice value, char *to, size_t max, size_t *ret_len)
{
	char room[512];
	size_t len = 0;

	if (value.len > sizeof(room) || !wh__json_string(value, room, &len) || len > max ||
	    memchr(room, 0, len))
		return false;
	memcpy(to, room, len);
	to[len] = 0;
	*ret_len = len;
	return true;
}

static enum schedule_wrong read_cron(struct reading *r, struct wh_slice value)
{
	struct schedule *s = r->s;
	char wrong[CRON_WRONG_BYTES];

	if (!read_text(value, s->cron_text, CRON_BYTES_MAX, &s->cron_len))
		return refuse(r->detail, SCHEDULE_BAD_VALUE,
		              "cron must be a string of at most %d characters, such as \"30 4 * * mon-fri\"",
		              CRON_BYTES_MAX);
	if (!cron_read(s->cron_text, s->cron_len, &s->cron, wrong))
		return refuse(r->detail, SCHEDULE_BAD_VALUE, "cron: %s", wrong);
	s->by_cron = true;
	return SCHEDULE_GOOD;
}

static enum schedule_wrong read_every(struct reading *r, struct wh_slice value)
{
	char text[64];
	size_t len;

	if (!read_text(value, text, sizeof(text) - 1, &len) ||
	    !wh__parse_duration(text, len, &r->s->every_ns))
		return refuse(r->detail, SCHEDULE_BAD_JSON,
		              "every must be a duration with its unit, such as \"15m\"");
	if (r->s->every_ns < SCHEDULE_EVERY_MIN_NS || r->s->every_ns > SCHEDULE_EVERY_MAX_NS ||
	    r->s->every_ns % NS_PER_MS != 0)
		return refuse(r->detail, SCHEDULE_BAD_VALUE,
		              "every must be from 1s to 366d, in whole milliseconds");
	return SCHEDULE_GOOD;
}

static enum schedule_wrong read_zone(struct reading *r, struct wh_slice value)
{
	size_t len;

	if (!read_text(value, r->s->zone_name, ZONE_NAME_BYTES_MAX, &len) ||
	    !zone_name_is_good(r->s->zone_name, len))
		return refuse(r->detail, SCHEDULE_BAD_VALUE,
		              "time_zone must be a name of the tz database, such as \"Europe/Berlin\"");
	return SCHEDULE_GOOD;
}

static const char *const missed_names[] = {
	[SCHEDULE_ONCE] = "once", [SCHEDULE_SKIP] = "skip", [SCHEDULE_ALL] = "all"};

static enum schedule_wrong read_missed(struct reading *r, struct wh_slice value)
{
	char text[16];
	size_t len;

	if (read_text(value, text, sizeof(text) - 1, &len)) {
		for (int i = SCHEDULE_ONCE; i <= SCHEDULE_ALL; i++) {
			if (strcmp(text, missed_names[i]) == 0) {
				r->s->missed = (enum schedule_missed)i;
				return SCHEDULE_GOOD;
			}
		}
	}
	return refuse(r->detail, SCHEDULE_BAD_VALUE, "missed must be \"once\", \"skip\" or \"all\"");
}

static enum schedule_wrong read_missed_max(struct reading *r, struct wh_slice value)
{
	uint64_t n;

	if (!wh__json_u64(value, &n) || n < 1 || n > SCHEDULE_MISSED_MAX)
		return refuse(r->detail, SCHEDULE_BAD_VALUE, "missed_max must be from 1 to %d",
		              SCHEDULE_MISSED_MAX);
	r->s->missed_max = (uint32_t)n;
	return SCHEDULE_GOOD;
}

static enum schedule_wrong read_paused(struct reading *r, struct wh_slice value)
{
	return wh__json_bool(value, &r->s->paused)
	               ? SCHEDULE_GOOD
	               : refuse(r->detail, SCHEDULE_BAD_JSON, "paused must be true or false");
}

/* What it does. */
static enum schedule_wrong read_what(struct reading *r, const char *name, struct wh_slice value,
                                     const char *example, struct wh_slice *ret)
{
	char *copy;

	if (*value.data != '{')
		return refuse(r->detail, SCHEDULE_BAD_JSON, "%s must be an object such as %s", name, example);
	if (value.len > SCHEDULE_JOB_BYTES_MAX)
		return refuse(r->detail, SCHEDULE_BAD_VALUE, "%s has more than %d bytes", name,
		              SCHEDULE_JOB_BYTES_MAX);
	copy = malloc(value.len);
	if (!copy)
		return SCHEDULE_NO_MEMORY;
	memcpy(copy, value.data, value.len);
	ret->data = copy;
	ret->len = value.len;
	return SCHEDULE_GOOD;
}

static enum schedule_wrong read_job(struct reading *r, struct wh_slice value)
{
	return read_what(r, "job", value, "{\"queue\":\"mail\",\"payload\":\"hello\"}", &r->s->job);
}

static enum schedule_wrong read_publish(struct reading *r, struct wh_slice value)
{
	return read_what(r, "publish", value, "{\"topic\":\"reports\",\"type\":\"report.due\"}",
	                 &r->s->publish);
}

static enum schedule_wrong read_name(struct reading *r, struct wh_slice value)
{
	char text[SCHEDULE_NAME_BYTES_MAX + 1];
	size_t len;

	const char *colon = memchr(r->s->name, ':', r->s->name_len);
	size_t skip = colon ? (size_t)(colon + 1 - r->s->name) : 0;

	/* in full, or as it is said within its namespace */
	if (read_text(value, text, SCHEDULE_NAME_BYTES_MAX, &len) &&
	    ((len == r->s->name_len && memcmp(text, r->s->name, len) == 0) ||
	     (len + skip == r->s->name_len && memcmp(text, r->s->name + skip, len) == 0)))
		return SCHEDULE_GOOD;
	return refuse(r->detail, SCHEDULE_BAD_JSON, "name, if there is one, must be that of the path");
}

static enum schedule_wrong read_instant(struct reading *r, struct wh_slice value, int64_t *ret)
{
	uint64_t n;

	if (!wh__json_u64(value, &n) || n > INT64_MAX)
		return refuse(r->detail, SCHEDULE_BAD_JSON, "not an instant");
	*ret = (int64_t)n;
	return SCHEDULE_GOOD;
}

static enum schedule_wrong read_since(struct reading *r, struct wh_slice value)
{
	return read_instant(r, value, &r->s->since_ns);
}

static enum schedule_wrong read_anchor(struct reading *r, struct wh_slice value)
{
	return read_instant(r, value, &r->s->anchor_ns);
}

typedef enum schedule_wrong reader(struct reading *r, struct wh_slice value);

static const struct member {
	const char *name; /* as it stands, in quotes */
	reader *read;     /* NULL: what GET shows may be sent back, and says nothing */
	enum { SENT = 1, STORED = 2 } where;
} members[] = {
	{"\"cron\"", read_cron, SENT | STORED},
	{"\"every\"", read_every, SENT | STORED},
	{"\"time_zone\"", read_zone, SENT | STORED},
	{"\"missed\"", read_missed, SENT | STORED},
	{"\"missed_max\"", read_missed_max, SENT | STORED},
	{"\"paused\"", read_paused, SENT | STORED},
	{"\"job\"", read_job, SENT | STORED},
	{"\"publish\"", read_publish, SENT | STORED},
	{"\"name\"", read_name, SENT},
	{"\"next\"", NULL, SENT},
	{"\"last\"", NULL, SENT},
	{"\"runs\"", NULL, SENT},
	{"\"error\"", NULL, SENT},
	{"\"since\"", read_since, STORED},
	{"\"anchor\"", read_anchor, STORED},
};
enum { MEMBERS = sizeof(members) / sizeof(members[0]) };

static bool is(struct wh_slice name, const char *wanted)
{
	return name.len == strlen(wanted) && memcmp(name.data, wanted, name.len) == 0;
}

static enum schedule_wrong read_member(struct reading *r, struct wh_slice name, struct wh_slice value)
{
	for (unsigned i = 0; i < MEMBERS; i++) {
		if (!(members[i].where & (r->stored ? STORED : SENT)) || !is(name, members[i].name))
			continue;
		if (r->seen >> i & 1)
			return refuse(r->detail, SCHEDULE_BAD_JSON, "%s is given twice", members[i].name);
		r->seen |= 1u << i;
		return members[i].read ? members[i].read(r, value) : SCHEDULE_GOOD;
	}
	return refuse(
		r->detail, SCHEDULE_BAD_JSON,
		"there is no member %.*s; known: cron, every, time_zone, missed, missed_max, paused, job, "
		"publish",
		(int)(name.len < 100 ? name.len : 100), name.data);
}

/* What must be there, and what must not be beside it. */
static enum schedule_wrong judge(const struct schedule *s, char *detail)
{
	if (!s->by_cron && s->every_ns == 0)
		return refuse(detail, SCHEDULE_BAD_JSON,
		              "when? Wanted is \"cron\", such as \"0 3 * * *\", or \"every\", such as "
		              "\"15m\"");
	if (s->by_cron && s->every_ns != 0)
		return refuse(detail, SCHEDULE_BAD_JSON,
		              "cron and every are two ways to say when: give one of them");
	if (s->zone_name[0] && !s->by_cron)
		return refuse(detail, SCHEDULE_BAD_JSON, "time_zone says nothing without cron");
	if (s->job.data && s->publish.data)
		return refuse(detail, SCHEDULE_BAD_JSON,
		              "job and publish are two things to do: a schedule does one of them");
	if (!s->job.data && !s->publish.data)
		return refuse(
			detail, SCHEDULE_BAD_JSON,
			"what? Wanted is a \"job\", such as {\"queue\":\"mail\",\"payload\":\"hello\"}, or "
			"\"publish\", such as {\"topic\":\"reports\",\"type\":\"report.due\"}");
	return SCHEDULE_GOOD;
}

enum schedule_wrong schedule_read(struct wh_slice json, const char *name, size_t name_len, bool stored,
                                  struct schedule **ret, char *detail)
{
	struct schedule *s = calloc(1, sizeof(*s));
	struct reading r = {.s = s, .stored = stored, .detail = detail};
	enum schedule_wrong wrong = SCHEDULE_GOOD;
	struct wh_slice at = {NULL, 0}, member;

	if (!s)
		return SCHEDULE_NO_MEMORY;
	memcpy(s->name, name, name_len);
	s->name_len = name_len;
	s->missed_max = SCHEDULE_MISSED_DEFAULT;
	while (json.len > 0 && strchr(" \t\r\n", *json.data)) {
		json.data++;
		json.len--;
	}
	if (!wh__json_check(json) || *json.data != '{')
		wrong = refuse(
			detail, SCHEDULE_BAD_JSON,
			"wanted: an object such as {\"cron\":\"0 3 * * *\",\"job\":{\"queue\":\"mail\"}}");
	while (wrong == SCHEDULE_GOOD && wh__json_each(json, &at, &member))
		wrong = read_member(&r, member, at);
	if (wrong == SCHEDULE_GOOD)
		wrong = judge(s, detail);
	if (wrong == SCHEDULE_GOOD && s->by_cron && !s->zone_name[0])
		memcpy(s->zone_name, "UTC", sizeof("UTC"));
	s->through_ns = s->since_ns;
	if (wrong == SCHEDULE_GOOD)
		*ret = s;
	else
		schedule_free(s);
	return wrong;
}

struct schedule *schedule_free(struct schedule *s)
{
	if (!s)
		return NULL;
	free((void *)(uintptr_t)s->job.data);
	free((void *)(uintptr_t)s->publish.data);
	zone_free(s->zone);
	free(s);
	return NULL;
}

/* ---- when -------------------------------------------------------------------------------- */

static int64_t to_seconds(int64_t ns)
{
	return ns / NS_PER_S - (ns % NS_PER_S < 0);
}

static int64_t from_seconds(int64_t seconds)
{
	return seconds > INT64_MAX / NS_PER_S ? INT64_MAX : seconds * NS_PER_S;
}

int64_t schedule_next(const struct schedule *s, int64_t after_ns)
{
	int64_t n;

	if (s->by_cron && !s->zone)
		return INT64_MAX;
	if (s->by_cron)
		return from_seconds(cron_next(&s->cron, s->zone, to_seconds(after_ns)));
	n = after_ns < s->anchor_ns ? 1 : (after_ns - s->anchor_ns) / s->every_ns + 1;
	return n > (INT64_MAX - s->anchor_ns) / s->every_ns ? INT64_MAX : s->anchor_ns + n * s->every_ns;
}

int64_t schedule_first(struct schedule *s)
{
	if (s->next_of_ns != s->through_ns || s->next_ns == 0) {
		s->next_ns = schedule_next(s, s->through_ns);
		s->next_of_ns = s->through_ns;
	}
	return s->next_ns;
}

void schedule_set_zone(struct schedule *s, struct zone *zone)
{
	zone_free(s->zone);
	s->zone = zone;
	s->next_ns = 0;
}

int64_t schedule_last(const struct schedule *s, int64_t after_ns, int64_t until_ns)
{
	int64_t at;

	if (s->by_cron && !s->zone)
		return INT64_MIN;
	if (s->by_cron) {
		at = cron_last(&s->cron, s->zone, to_seconds(after_ns), to_seconds(until_ns));
		return at == INT64_MIN ? at : from_seconds(at);
	}
	if (until_ns < s->anchor_ns || (until_ns - s->anchor_ns) / s->every_ns == 0)
		return INT64_MIN;
	at = until_ns - (until_ns - s->anchor_ns) % s->every_ns;
	return at > after_ns ? at : INT64_MIN;
}

size_t schedule_due(const struct schedule *s, int64_t now_ns, int64_t *ret, size_t max, int64_t *ret_through)
{
	int64_t newest = schedule_last(s, s->through_ns, now_ns), at = newest;
	size_t count = 0, kept = 0;

	*ret_through = newest == INT64_MIN ? s->through_ns : newest;
	if (newest == INT64_MIN || (s->missed == SCHEDULE_SKIP && now_ns - newest > LATE_NS))
		return 0;
	if (s->missed != SCHEDULE_ALL) {
		ret[0] = newest;
		return 1;
	}
	/* from the newest back, so that the oldest of those that count is known; then the other way round */
	for (; at != INT64_MIN && count < s->missed_max && count < max; count++) {
		ret[count] = at;
		at = schedule_last(s, s->through_ns, at - 1);
	}
	for (; kept < count / 2; kept++) {
		int64_t other = ret[kept];

		ret[kept] = ret[count - 1 - kept];
		ret[count - 1 - kept] = other;
	}
	return count;
}

static bool same_times(const struct schedule *a, const struct schedule *b)
{
	if (a->by_cron != b->by_cron)
		return false;
	if (!a->by_cron)
		return a->every_ns == b->every_ns;
	return strcmp(a->cron_text, b->cron_text) == 0 && strcmp(a->zone_name, b->zone_name) == 0;
}

void schedule_begin(struct schedule *s, const struct schedule *old, int64_t now_ns)
{
	bool same = old && same_times(s, old);

	s->since_ns = same && !old->paused ? old->through_ns : now_ns;
	s->anchor_ns = s->by_cron ? 0 : same ? old->anchor_ns : now_ns;
	s->through_ns = s->since_ns;
}

void schedule_take_over(struct schedule *s, const struct schedule *old)
{
	s->last_due_ns = old->last_due_ns;
	s->last_at_ns = old->last_at_ns;
	if (!s->publish.data == !old->publish.data) { /* else it did another thing */
		s->last_job = old->last_job;
		s->last_event = old->last_event;
	}
	s->runs = old->runs;
	s->serial = old->serial;
	s->running = old->running;
	if (old->through_ns > s->through_ns && old->through_ns - s->through_ns <= CLOCK_ASTRAY_NS)
		s->through_ns = old->through_ns;
}

void schedule_pause(struct schedule *s, bool paused, int64_t now_ns)
{
	if (s->paused && !paused)
		s->since_ns = s->through_ns = now_ns;
	s->paused = paused;
}

void schedule_keep_zone(struct schedule *s, struct schedule *old)
{
	if (!s->by_cron || s->zone || !old->by_cron || strcmp(s->zone_name, old->zone_name) != 0)
		return;
	s->zone = old->zone;
	old->zone = NULL;
}

bool schedule_set_back(struct schedule *s, int64_t now_ns)
{
	if (s->through_ns <= now_ns || s->through_ns - now_ns <= CLOCK_ASTRAY_NS)
		return false;
	s->through_ns = now_ns;
	return true;
}

/* ---- writing ----------------------------------------------------------------------------- */

static void put_instant(struct wh__text *text, int64_t ns)
{
	char instant[WH__INSTANT_TEXT_BYTES];

	wh__text_format(text, "\"%.*s\"", (int)wh__put_instant(instant, ns), instant);
}

static void put_what(struct wh__text *text, const struct schedule *s)
{
	char duration[WH__DURATION_TEXT_BYTES];

	if (s->by_cron) {
		wh__text_str(text, "\"cron\":");
		wh__text_json(text, s->cron_text, s->cron_len);
		wh__text_format(text, ",\"time_zone\":\"%s\"", s->zone_name);
	} else {
		wh__text_format(text, "\"every\":\"%.*s\"", (int)wh__put_duration(duration, s->every_ns),
		                duration);
	}
	wh__text_format(text,
	                ",\"missed\":\"%s\",\"missed_max\":%u,\"paused\":%s,\"%s\":", missed_names[s->missed],
	                s->missed_max, s->paused ? "true" : "false", s->publish.data ? "publish" : "job");
	if (s->publish.data)
		wh__text_put(text, s->publish.data, s->publish.len);
	else
		wh__text_put(text, s->job.data, s->job.len);
}

size_t schedule_event_id(char id[SCHEDULE_EVENT_ID_BYTES], const struct schedule *s, int64_t due_ns)
{
	const char *colon = memchr(s->name, ':', s->name_len);
	size_t skip = colon ? (size_t)(colon + 1 - s->name) : 0, len = s->name_len - skip;

	memcpy(id, s->name + skip, len);
	id[len++] = '/';
	return len + wh__put_instant(id + len, due_ns);
}

static void put_last_event(struct wh__text *text, const struct schedule *s)
{
	const struct schedule_published *event = &s->last_event;
	char id[SCHEDULE_EVENT_ID_BYTES];

	if (!event->known) {
		wh__text_str(text, ",\"id\":null,\"event\":null,\"jobs\":null");
		return;
	}
	wh__text_str(text, ",\"id\":");
	wh__text_json(text, id, schedule_event_id(id, s, s->last_due_ns));
	if (event->epoch > 0)
		wh__text_format(text, ",\"event\":\"%u/%llu\"", event->epoch, (unsigned long long)event->lsn);
	else
		wh__text_str(text, ",\"event\":null");
	wh__text_format(text, ",\"jobs\":%llu", (unsigned long long)event->jobs);
	if (event->duplicate)
		wh__text_str(text, ",\"duplicate\":true");
}

static void put_last(struct wh__text *text, const struct schedule *s)
{
	wh__text_str(text, "{\"due\":");
	put_instant(text, s->last_due_ns);
	wh__text_str(text, ",\"at\":");
	put_instant(text, s->last_at_ns);
	if (s->publish.data)
		put_last_event(text, s);
	else if (s->last_job > 0)
		wh__text_format(text, ",\"job\":%llu", (unsigned long long)s->last_job);
	else
		wh__text_str(text, ",\"job\":null");
	wh__text_put(text, "}", 1);
}

void schedule_write(struct wh__text *text, const struct schedule *s, size_t hidden, int64_t now_ns,
                    const char *error)
{
	int64_t at = s->through_ns > now_ns ? s->through_ns : now_ns;

	wh__text_str(text, "{\"name\":");
	wh__text_json(text, s->name + hidden, s->name_len - hidden);
	wh__text_put(text, ",", 1);
	put_what(text, s);
	wh__text_str(text, ",\"next\":[");
	for (int i = 0; i < NEXT_SHOWN && !s->paused && (at = schedule_next(s, at)) != INT64_MAX; i++) {
		if (i > 0)
			wh__text_put(text, ",", 1);
		put_instant(text, at);
	}
	wh__text_str(text, "],\"last\":");
	if (s->last_at_ns > 0)
		put_last(text, s);
	else
		wh__text_str(text, "null");
	wh__text_format(text, ",\"runs\":%llu,\"error\":", (unsigned long long)s->runs);
	if (error)
		wh__text_json(text, error, strlen(error));
	else
		wh__text_str(text, "null");
	wh__text_put(text, "}", 1);
}

void schedule_write_setting(struct wh__text *text, const struct schedule *s)
{
	wh__text_put(text, "{", 1);
	put_what(text, s);
	wh__text_format(text, ",\"since\":%lld,\"anchor\":%lld}", (long long)s->since_ns,
	                (long long)s->anchor_ns);
}

void schedule_write_state(struct wh__text *text, int64_t through_ns, int64_t at_ns, uint64_t runs)
{
	wh__text_format(text, "{\"through\":%lld,\"at\":%lld,\"runs\":%llu}", (long long)through_ns,
	                (long long)at_ns, (unsigned long long)runs);
}

size_t schedule_key(char key[SCHEDULE_KEY_BYTES], const char *prefix, const char *name, size_t len)
{
	size_t prefix_len = strlen(prefix);

	memcpy(key, prefix, prefix_len);
	memcpy(key + prefix_len, name, len);
	return prefix_len + len;
}

/* ---- the table --------------------------------------------------------------------------- */

static size_t find(const struct schedule_table *table, const char *name, size_t len, bool *ret_there)
{
	size_t low = 0, high = table->count;

	*ret_there = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct schedule *s = table->all[middle];
		int n = memcmp(s->name, name, s->name_len < len ? s->name_len : len);

		if (n == 0)
			n = s->name_len < len ? -1 : s->name_len > len;
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

struct schedule *schedule_find(const struct schedule_table *table, const char *name, size_t len)
{
	bool there;
	size_t at = find(table, name, len, &there);

	return there ? table->all[at] : NULL;
}

int schedule_put(struct schedule_table *table, struct schedule *s)
{
	bool there;
	size_t at = find(table, s->name, s->name_len, &there);

	if (there) {
		schedule_free(table->all[at]);
		table->all[at] = s;
		return 0;
	}
	if (table->count == table->cap) {
		size_t cap = table->cap ? table->cap * 2 : 8;
		struct schedule **all = realloc(table->all, cap * sizeof(struct schedule *));

		if (!all)
			return -ENOMEM;
		table->all = all;
		table->cap = cap;
	}
	memmove(&table->all[at + 1], &table->all[at], (table->count - at) * sizeof(struct schedule *));
	table->all[at] = s;
	table->count++;
	s->serial = ++table->serial;
	return 0;
}

void schedule_remove(struct schedule_table *table, const char *name, size_t len)
{
	bool there;
	size_t at = find(table, name, len, &there);

	if (!there)
		return;
	schedule_free(table->all[at]);
	table->count--;
	memmove(&table->all[at], &table->all[at + 1], (table->count - at) * sizeof(struct schedule *));
}

void schedule_clear(struct schedule_table *table)
{
	for (size_t i = 0; i < table->count; i++)
		schedule_free(table->all[i]);
	free(table->all);
	*table = (struct schedule_table){0};
}

/* ---- from the store ---------------------------------------------------------------------- */

static int load_state(struct schedule_table *table, struct wh_slice name, struct wh_slice value)
{
	struct schedule *s = schedule_find(table, name.data, name.len);
	uint64_t through, at, runs;

	if (!wh__json_check(value) || !wh__json_u64(wh__json_member(value, "through"), &through) ||
	    !wh__json_u64(wh__json_member(value, "at"), &at) ||
	    !wh__json_u64(wh__json_member(value, "runs"), &runs) || through > INT64_MAX || at > INT64_MAX)
		return -EINVAL;
	if (!s) /* it was removed while its last run was on its way */
		return 0;
	s->last_due_ns = (int64_t)through;
	s->last_at_ns = (int64_t)at;
	s->runs = runs;
	if (s->through_ns < (int64_t)through)
		s->through_ns = (int64_t)through;
	return 0;
}

int schedule_load(struct schedule_table *table, struct wh_slice key, struct wh_slice value)
{
	size_t prefix = sizeof(SCHEDULED_SETTING_PREFIX) - 1;
	char detail[SCHEDULE_DETAIL_BYTES];
	enum schedule_wrong wrong;
	struct schedule *s;
	int error;

	if (key.len > prefix && memcmp(key.data, SCHEDULED_SETTING_PREFIX, prefix) == 0)
		return load_state(table, (struct wh_slice){key.data + prefix, key.len - prefix}, value);
	prefix = sizeof(SCHEDULE_SETTING_PREFIX) - 1;
	if (key.len <= prefix || key.len - prefix > SCHEDULE_NAME_BYTES_MAX)
		return -EINVAL;
	wrong = schedule_read(value, key.data + prefix, key.len - prefix, true, &s, detail);
	if (wrong != SCHEDULE_GOOD)
		return wrong == SCHEDULE_NO_MEMORY ? -ENOMEM : -EINVAL;
	error = schedule_put(table, s);
	if (error < 0)
		schedule_free(s);
	return error;
}
