/* src/front/schedule_publish.c -- a schedule that publishes: its event, read from its JSON, and made for each due time. See scheduler.h.
 *
 * What it says is the publish of a transaction, and attributes beside it. Its id is made of the schedule's name and the due time, so that the event of a due time is the same
 * one whenever it is made, and a topic that knows it again takes it once. Like all that is published it is one commit for all subscriptions, and
 * the note that the due time is dealt with is in it. Thread: the loop of the store.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/units.h"
#include "front/api.h"
#include "front/publication.h"

/* Those that are not the schedule's to give freely; the ones that come first change with each due time. */
enum { ID, TIME, SPECVERSION, SOURCE, TYPE, SUBJECT, OWN };

/* Of all jobs of a commit; but for those of one event, which always go. */
enum { COMMIT_BYTES_MAX = 8 << 20 };

/* ---- reading ------------------------------------------------------------------------------- */

static bool refuse(struct transaction_refusal *refusal, enum problem problem, struct wh_slice name,
                   const char *how)
{
	refusal->problem = problem;
	snprintf(refusal->detail, sizeof(refusal->detail), "publish: attributes: %.*s %s",
	         (int)(name.len < 80 ? name.len : 80), name.data, how);
	return false;
}

static bool no_memory(struct transaction_refusal *refusal)
{
	refusal->problem = PROBLEM_TOO_BUSY;
	snprintf(refusal->detail, sizeof(refusal->detail), "out of memory");
	return false;
}

/* name: as it stands, in quotes. What a schedule says elsewhere, or what is its own to say. */
static bool is_own(struct wh_slice name)
{
	static const char *const names[] = {"\"id\"",     "\"time\"",           "\"specversion\"",
	                                    "\"source\"", "\"type\"",           "\"subject\"",
	                                    "\"data\"",   "\"datacontenttype\""};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (wh_slice_equal(name, names[i]))
			return true;
	return false;
}

/* The characters of a string, behind those before it. */
static struct wh_slice take_string(struct wh_slice json, char **texts)
{
	struct wh_slice text = {*texts, 0};

	if (!wh__json_string(json, *texts, &text.len))
		return (struct wh_slice){NULL, 0};
	*texts += text.len;
	return text;
}

static bool read_attribute(struct schedule_event *e, struct wh_slice name, struct wh_slice value,
                           char **texts, struct transaction_refusal *refusal)
{
	struct event_attribute *a = &e->attributes[e->count];

	if (e->count == EVENT_ATTRIBUTES_MAX)
		return refuse(refusal, PROBLEM_BAD_VALUE, name, "is one of too many");
	if (is_own(name))
		return refuse(refusal, PROBLEM_BAD_VALUE, name,
		              "is a member beside attributes, or the schedule's to say");
	a->name = take_string(name, texts);
	if (!a->name.data || !event_name_valid(a->name.data, a->name.len))
		return refuse(refusal, PROBLEM_BAD_VALUE, name,
		              "is no name of an attribute: 1 to 64 of a-z and 0-9");
	a->typed = *value.data != '"' && !wh_slice_equal(a->name, "dataschema");
	a->value = a->typed ? value : take_string(value, texts);
	if (!a->value.data || (a->typed && !event_is_typed(value)))
		return refuse(refusal, PROBLEM_BAD_VALUE, name,
		              "must have a string, true, false or a whole number of 32 bits");
	e->count++;
	return true;
}

static bool read_attributes(struct schedule_event *e, struct wh_slice json,
                            struct transaction_refusal *refusal)
{
	struct wh_slice attributes = {NULL, 0}, at = {NULL, 0}, name;
	char *texts;

	while (wh__json_each(json, &at, &name)) {
		if (!wh_slice_equal(name, "\"attributes\""))
			continue;
		if (attributes.data || *at.data != '{') {
			snprintf(refusal->detail, sizeof(refusal->detail),
			         "publish: attributes must be there once, an object such as "
			         "{\"partitionkey\":\"a\"}");
			return false;
		}
		attributes = at;
	}
	if (!attributes.data)
		return true;
	texts = e->texts =
		malloc(attributes.len); /* a character takes no more bytes than it is written with */
	if (!texts)
		return no_memory(refusal);
	at.data = NULL;
	while (wh__json_each(attributes, &at, &name))
		if (!read_attribute(e, name, at, &texts, refusal))
			return false;
	return true;
}

static void set(struct schedule_event *e, int which, const char *name, struct wh_slice value)
{
	e->attributes[which] = (struct event_attribute){{name, strlen(name)}, value, false};
}

/* As a whole, with an id and a time as it will have them. */
static bool is_good(struct schedule_event *e, const struct schedule *schedule,
                    struct transaction_refusal *refusal)
{
	struct event_refusal why = {0, ""};
	char id[SCHEDULE_EVENT_ID_BYTES];
	struct wh__text kept;
	struct event event;
	enum event_wrong wrong = schedule_event_make(
		e, (struct wh_slice){id, schedule_event_id(id, schedule, 0)}, 0, &event, &why);

	wh__text_init(&kept, NULL, 0);
	if (wrong == EVENT_GOOD)
		event_put_kept(&kept, &event);
	if (kept.failed) {
		wh__text_done(&kept);
		return no_memory(refusal);
	}
	if (wrong == EVENT_GOOD && kept.len > EVENT_HEADERS_MAX) {
		wrong = EVENT_TOO_LARGE;
		why.limit = EVENT_HEADERS_MAX;
		snprintf(why.detail, sizeof(why.detail), "the attributes take more than %d bytes",
		         EVENT_HEADERS_MAX);
	}
	e->bytes = kept.len + e->transaction.events[0].data.len;
	wh__text_done(&kept);
	if (wrong == EVENT_GOOD)
		return true;
	refusal->problem = wrong == EVENT_TOO_LARGE ? PROBLEM_TOO_LARGE : PROBLEM_BAD_VALUE;
	refusal->limit = why.limit;
	snprintf(refusal->detail, sizeof(refusal->detail), "publish: %.280s", why.detail);
	return false;
}

bool schedule_event_read(struct schedule_event *e, const struct schedule *schedule, uint64_t item_bytes_max,
                         struct transaction_refusal *refusal)
{
	struct wh_slice name = namespace_plain((struct wh_slice){schedule->name, schedule->name_len});
	size_t len = sizeof("/v1/schedules/") - 1;
	const struct transaction_event *said;

	e->texts = NULL;
	e->count = OWN;
	if (!schedule_read_action(&e->transaction, schedule, "publish", schedule->publish, "publish",
	                          "\"attributes\"", item_bytes_max, refusal))
		return false;
	said = &e->transaction.events[0];
	memcpy(e->source, "/v1/schedules/", len);
	len += target_encode(name.data, name.len, e->source + len);
	set(e, SPECVERSION, "specversion", (struct wh_slice){"1.0", 3});
	set(e, SOURCE, "source", said->source.data ? said->source : (struct wh_slice){e->source, len});
	set(e, TYPE, "type", said->type.data ? said->type : (struct wh_slice){"whilst.schedule", 15});
	set(e, SUBJECT, "subject", said->subject);
	return read_attributes(e, schedule->publish, refusal) && is_good(e, schedule, refusal);
}

void schedule_event_done(struct schedule_event *e)
{
	transaction_done(&e->transaction);
	free(e->texts);
}

struct store_slice schedule_event_topic(const struct schedule_event *e)
{
	return e->transaction.events[0].topic;
}

/* ---- made ---------------------------------------------------------------------------------- */

enum event_wrong schedule_event_make(struct schedule_event *e, struct wh_slice id, int64_t at_ns,
                                     struct event *ret, struct event_refusal *refusal)
{
	const struct transaction_event *said = &e->transaction.events[0];

	set(e, ID, "id", id);
	set(e, TIME, "time", (struct wh_slice){e->instant, wh__put_instant(e->instant, at_ns)});
	return event_make(ret, e->attributes, e->count, said->content_type, said->data, refusal);
}

enum event_wrong schedule_event_add(struct schedule_event *e, struct publication *p,
                                    const struct topic *topic, struct wh_slice id, int64_t at_ns,
                                    struct event_refusal *refusal)
{
	struct event event;
	enum event_wrong wrong = schedule_event_make(e, id, at_ns, &event, refusal);

	return wrong == EVENT_GOOD ? publication_event(p, topic, &event, refusal) : wrong;
}

static int64_t error_of(enum event_wrong wrong)
{
	return wrong == EVENT_NO_MEMORY ? -ENOMEM : wrong == EVENT_TOO_LARGE ? -JOB_ETOO_LARGE : -JOB_EVALUE;
}

/* As many as there is room for in one commit, one at least. 0, or why not. */
static int64_t add_events(struct publication *p, struct schedule_event *e, const struct schedule *s,
                          const struct topic *topic, const int64_t *due, size_t count, size_t *ret_count)
{
	size_t jobs_max = topic->count + 2; /* of one, with the one that keeps it, and the note */
	struct event_refusal refusal;

	for (*ret_count = 0; *ret_count < count; ++*ret_count) {
		char id[SCHEDULE_EVENT_ID_BYTES];
		size_t len = schedule_event_id(id, s, due[*ret_count]);
		enum event_wrong wrong;

		if (*ret_count > 0 && (p->actions_count + jobs_max > JOB_ACTIONS_MAX ||
		                       (p->actions_count + jobs_max) * e->bytes > COMMIT_BYTES_MAX))
			return 0;
		wrong = schedule_event_add(e, p, topic, (struct wh_slice){id, len}, due[*ret_count],
		                           &refusal);
		if (wrong != EVENT_GOOD)
			return error_of(wrong);
	}
	return 0;
}

static int64_t add_note(struct publication *p, const struct schedule *s, int64_t through_ns, int64_t now_ns,
                        size_t count, struct wh__text *state, char key[SCHEDULE_KEY_BYTES])
{
	struct store_action action = {.kind = STORE_SETTING_PUT};

	schedule_write_state(state, through_ns, now_ns, s->runs + count);
	action.setting.key =
		(struct store_slice){key, schedule_key(key, SCHEDULED_SETTING_PREFIX, s->name, s->name_len)};
	action.setting.value = (struct store_slice){state->data, state->len};
	return state->failed || !publication_action(p, &action) ? -ENOMEM : 0;
}

wh_future schedule_event_commit(struct api *api, const struct schedule *s, const int64_t *due, size_t count,
                                int64_t now_ns, size_t *ret_count)
{
	struct transaction_refusal refusal;
	char key[SCHEDULE_KEY_BYTES];
	const struct topic *topic;
	struct store_slice name;
	struct schedule_event e;
	struct publication p;
	struct wh__text state;
	wh_future future;
	int64_t error = 0;

	publication_open(&p, api->loop);
	wh__text_init(&state, NULL, 0);
	if (!schedule_event_read(&e, s, api->options.payload_bytes_max, &refusal)) {
		/* what max-payload has become too small for since it was put */
		error = refusal.problem == PROBLEM_TOO_LARGE ? -JOB_ETOO_LARGE : -ENOMEM;
	} else {
		name = schedule_event_topic(&e);
		topic = topic_there(&api->topics, name.data, name.len);
		error = topic ? add_events(&p, &e, s, topic, due, count, ret_count) : -JOB_EUNKNOWN_SETTING;
	}
	if (error == 0)
		error = add_note(&p, s, due[*ret_count - 1], now_ns, *ret_count, &state, key);
	future = error ? wh_failed(api->loop, error)
	               : publication_apply(&p, api->store, (struct store_slice){NULL, 0}, STORE_LOCAL, NULL);
	wh__text_done(&state);
	schedule_event_done(&e);
	publication_done(&p);
	return future;
}
