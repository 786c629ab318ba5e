/* src/front/publication.c -- events on their way into a commit. See publication.h. */
#include "front/publication.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "front/api.h"
#include "front/once.h"

enum { ID_BYTES = STORE_NOTE_BYTES };

/* Of a plan whose queue is none of a topic's subscriptions: the topic's own; that of a submit, named alone; none. */
enum { OF_TOPIC = UINT16_MAX, OF_SUBMIT = UINT16_MAX - 1, OF_NOTHING = UINT16_MAX - 2 };

/* Whose queue an action is for; and where in the kept lines, which may still move, its headers are. */
struct publication_plan {
	uint32_t names;
	uint16_t queue; /* which one of its topic's names */
	uint32_t kept_len;
	size_t kept;
	uint32_t group, unique; /* bytes among the keys, one behind the other */
	size_t keys;
};

/* What the answer says of an event. */
struct publication_event {
	size_t id; /* in the ids */
	uint32_t id_len;
	bool made;    /* from the note, which of a request that was done before is that of then */
	bool named;   /* it has a topic */
	size_t names; /* which is the first there */
	struct store_position known; /* of one that was published before */
};

void publication_open(struct publication *p, wh_loop *loop)
{
	*p = (struct publication){.loop = loop};
	wh__text_init(&p->kept, NULL, 0);
	wh__text_init(&p->ids, NULL, 0);
	wh__text_init(&p->names, NULL, 0);
	wh__text_init(&p->keys, NULL, 0);
}

void publication_done(struct publication *p)
{
	for (size_t i = 0; i < p->count; i++)
		free(p->memories[i]);
	free(p->memories);
	free(p->events);
	free(p->actions);
	free(p->asked);
	free(p->plans);
	wh__text_done(&p->kept);
	wh__text_done(&p->ids);
	wh__text_done(&p->names);
	wh__text_done(&p->keys);
}

/* ---- putting together ---------------------------------------------------------------------- */

static bool grow(void **list, size_t count, size_t *cap, size_t bytes)
{
	size_t more = *cap ? *cap * 2 : 16;
	void *larger;

	if (count < *cap)
		return true;
	larger = realloc(*list, more * bytes);
	if (!larger)
		return false;
	*list = larger;
	*cap = more;
	return true;
}

static bool grow_actions(struct publication *p)
{
	return grow((void **)&p->plans, p->actions_count, &p->plans_cap, sizeof(p->plans[0])) &&
	       grow((void **)&p->actions, p->actions_count, &p->actions_cap, sizeof(p->actions[0]));
}

static bool grow_events(struct publication *p)
{
	return grow((void **)&p->memories, p->count, &p->memories_cap, sizeof(p->memories[0])) &&
	       grow((void **)&p->events, p->count, &p->cap, sizeof(p->events[0])) &&
	       grow((void **)&p->asked, p->asked_count, &p->asked_cap, sizeof(p->asked[0]));
}

static enum event_wrong too_many(struct event_refusal *refusal)
{
	refusal->limit = JOB_ACTIONS_MAX;
	snprintf(refusal->detail, sizeof(refusal->detail),
	         "these are more than %d jobs, one for each subscription that an event matches and one for "
	         "each event that is kept: send "
	         "fewer events at once",
	         JOB_ACTIONS_MAX);
	return EVENT_TOO_LARGE;
}

/* Where the name of a submit's queue is among the names; what follows each other is often for the same one. */
static uint32_t put_queue(struct publication *p, struct store_slice queue)
{
	const struct publication_plan *last = p->actions_count > 0 ? &p->plans[p->actions_count - 1] : NULL;
	const char *name = last && last->queue == OF_SUBMIT ? p->names.data + last->names : NULL;
	size_t at = p->names.len;

	if (name && strlen(name) == queue.len && memcmp(name, queue.data, queue.len) == 0)
		return last->names;
	wh__text_put(&p->names, queue.data, queue.len);
	wh__text_put(&p->names, "", 1);
	return (uint32_t)at;
}

bool publication_action(struct publication *p, const struct store_action *action)
{
	struct publication_plan plan = {.queue = OF_NOTHING};

	if (p->actions_count >= JOB_ACTIONS_MAX || !grow_actions(p) ||
	    !grow((void **)&p->asked, p->asked_count, &p->asked_cap, sizeof(p->asked[0])))
		return false;
	if (action->kind == STORE_SUBMIT) {
		plan.queue = OF_SUBMIT;
		plan.names = put_queue(p, action->submit.queue);
	}
	p->plans[p->actions_count] = plan;
	p->actions[p->actions_count++] = *action;
	p->asked[p->asked_count++] = (struct store_asked){.actions = 1};
	return !p->names.failed;
}

bool publication_called_back(struct publication *p, const struct store_action *action, struct wh_slice url)
{
	size_t at = p->actions_count;

	if (at + 2 > JOB_ACTIONS_MAX || !publication_action(p, action) || !grow_actions(p))
		return false;
	p->plans[p->actions_count++] = (struct publication_plan){.queue = OF_NOTHING};
	p->asked[p->asked_count - 1].actions = 2;
	callback_fill(&p->actions[at], 1, url);
	return true;
}

/* Names of the queues that a refusal may have to name: the topic's own, and then the subscriptions', each with its NUL. */
static void put_names(struct publication *p, const struct topic *topic)
{
	if (p->named == topic)
		return;
	p->named = topic;
	p->named_at = p->names.len;
	wh__text_put(&p->names, topic->queue, topic->queue_len + 1);
	for (size_t i = 0; i < topic->count; i++)
		wh__text_put(&p->names, topic->subscriptions[i]->queue,
		             strlen(topic->subscriptions[i]->queue) + 1);
}

/* A job about the event; where its kept lines stand is known at the end. */
static enum event_wrong add_action(struct publication *p, const struct event *event, struct store_slice queue,
                                   uint16_t queue_number, struct event_refusal *refusal)
{
	struct store_action *a;

	if (p->actions_count >= JOB_ACTIONS_MAX)
		return too_many(refusal);
	if (!grow_actions(p))
		return EVENT_NO_MEMORY;
	p->plans[p->actions_count] =
		(struct publication_plan){.names = (uint32_t)p->named_at, .queue = queue_number};
	a = &p->actions[p->actions_count++];
	*a = (struct store_action){.kind = STORE_SUBMIT};
	a->submit.queue = queue;
	a->submit.payload = (struct store_slice){event->data.data, event->data.len};
	a->submit.content_type = (struct store_slice){event->content_type.data, event->content_type.len};
	a->submit.priority = JOB_PRIORITY_DEFAULT;
	a->submit.event = p->numbers + 1;
	return EVENT_GOOD;
}

/* What keeps others out, or behind it, of the last action. */
static void add_keys(struct publication *p, const struct topic *topic, const struct subscription *s,
                     const struct event *event)
{
	struct publication_plan *plan = &p->plans[p->actions_count - 1];
	struct store_submit *submit = &p->actions[p->actions_count - 1].submit;

	plan->keys = p->keys.len;
	if (s)
		subscription_put_group(&p->keys, s, event);
	plan->group = (uint32_t)(p->keys.len - plan->keys);
	if (s)
		subscription_put_unique(&p->keys, s, event);
	else if (topic->config.deduplicate_ns > 0)
		event_put_identity(&p->keys, event);
	plan->unique = (uint32_t)(p->keys.len - plan->keys) - plan->group;
	if (plan->unique > 0)
		submit->unique_while_ns = s ? s->unique_while_ns : topic->config.deduplicate_ns;
}

static enum event_wrong add_actions(struct publication *p, const struct topic *topic,
                                    const struct event *event, struct event_refusal *refusal)
{
	enum event_wrong wrong = EVENT_GOOD;

	put_names(p, topic);
	if (topic->config.retention_ns > 0) {
		wrong = add_action(p, event, topic_queue(topic), OF_TOPIC, refusal);
		if (wrong == EVENT_GOOD) {
			p->actions[p->actions_count - 1].submit.done = true;
			p->actions[p->actions_count - 1].submit.retention_ns = topic->config.retention_ns;
			add_keys(p, topic, NULL, event);
		}
	}
	for (size_t i = 0; i < topic->count && wrong == EVENT_GOOD; i++) {
		const struct subscription *s = topic->subscriptions[i];

		if (!filter_matches(s->filter, event))
			continue;
		wrong = add_action(p, event, (struct store_slice){s->queue, strlen(s->queue)}, (uint16_t)i,
		                   refusal);
		if (wrong == EVENT_GOOD)
			add_keys(p, topic, s, event);
	}
	return wrong;
}

/* What is kept of an event with each of its jobs, those from first on. */
static enum event_wrong add_kept(struct publication *p, const struct event *event, size_t first,
                                 struct event_refusal *refusal)
{
	size_t kept = p->kept.len;
	struct wh_slice id = event_get(event, "id", 2);

	wh__text_put(&p->ids, id.data, id.len);
	event_put_kept(&p->kept, event);
	if (p->kept.failed || p->ids.failed || p->names.failed || p->keys.failed)
		return EVENT_NO_MEMORY;
	if (p->kept.len - kept > EVENT_HEADERS_MAX) {
		snprintf(refusal->detail, sizeof(refusal->detail),
		         "the attributes of an event take more than %d bytes", EVENT_HEADERS_MAX);
		refusal->limit = EVENT_HEADERS_MAX;
		return EVENT_TOO_LARGE;
	}
	for (size_t i = first; i < p->actions_count; i++) {
		p->plans[i].kept = kept;
		p->plans[i].kept_len = (uint32_t)(p->kept.len - kept);
	}
	return EVENT_GOOD;
}

enum event_wrong publication_event(struct publication *p, const struct topic *topic, struct event *event,
                                   struct event_refusal *refusal)
{
	size_t first = p->actions_count, id = p->ids.len;
	enum event_wrong wrong = EVENT_NO_MEMORY;

	if (p->asked_count >= JOB_ACTIONS_MAX)
		wrong = too_many(refusal);
	else if (grow_events(p))
		wrong = topic ? add_actions(p, topic, event, refusal) : EVENT_GOOD;
	if (wrong == EVENT_GOOD)
		wrong = add_kept(p, event, first, refusal);
	if (wrong != EVENT_GOOD) {
		event_done(event);
		return wrong;
	}
	p->memories[p->count] = event->memory; /* goes with the publication */
	p->events[p->count++] = (struct publication_event){.id = id,
	                                                   .id_len = (uint32_t)(p->ids.len - id),
	                                                   .named = topic != NULL,
	                                                   .names = p->named_at};
	p->asked[p->asked_count++] =
		(struct store_asked){.actions = (uint32_t)(p->actions_count - first), .event = true};
	p->numbers += p->actions_count > first;
	p->vanished |= !topic;
	return EVENT_GOOD;
}

/* The id of the index-th event, in hexadecimal digits and a NUL. */
static void make_id(const uint8_t note[STORE_NOTE_BYTES], size_t index, char id[2 * ID_BYTES + 1])
{
	for (size_t i = 0; i < ID_BYTES; i++) {
		size_t shift = 8 * (ID_BYTES - 1 - i);
		uint8_t of_index = shift < 32 ? (uint8_t)(index >> shift) : 0;

		snprintf(id + 2 * i, 3, "%02x", note[i] ^ of_index);
	}
}

/* source: of one that says none. All is borrowed as long as the event is used. */
static enum event_wrong make_bare(struct event *event, const struct publication_bare *bare,
                                  struct wh_slice id, struct wh_slice source, struct wh_slice time,
                                  struct event_refusal *refusal)
{
	const struct event_attribute attributes[] = {
		{{"specversion", 11}, {"1.0", 3}, false},
		{{"id", 2}, id, false},
		{{"source", 6}, bare->source.data ? bare->source : source, false},
		{{"type", 4}, bare->type.data ? bare->type : (struct wh_slice){"whilst.event", 12}, false},
		{{"time", 4}, time, false},
		{{"subject", 7}, bare->subject, false}};

	return event_make(event, attributes, sizeof(attributes) / sizeof(attributes[0]), bare->content_type,
	                  bare->data, refusal);
}

enum event_wrong publication_bare(struct publication *p, const struct topic *topic,
                                  const struct publication_bare *bare, struct event_refusal *refusal)
{
	struct wh_slice name = {topic ? topic->name : "", topic ? topic->name_len : 0};
	char id[2 * ID_BYTES + 1], source[sizeof("/v1/topics/") + 3 * TOPIC_NAME_BYTES_MAX];
	char time[WH__INSTANT_TEXT_BYTES];
	size_t len = sizeof("/v1/topics/") - 1;
	enum event_wrong wrong;
	struct event event;

	if (!p->noted)
		wh_random(p->loop, p->note, sizeof(p->note));
	p->noted = true;
	make_id(p->note, p->count, id);
	memcpy(source, "/v1/topics/", len);
	name = namespace_plain(name); /* as who is subscribed calls it */
	len += target_encode(name.data, name.len, source + len);
	wrong = make_bare(&event, bare, (struct wh_slice){id, 2 * (size_t)ID_BYTES},
	                  (struct wh_slice){source, len},
	                  (struct wh_slice){time, wh__put_instant(time, wh_wall_now(p->loop))}, refusal);
	if (wrong == EVENT_GOOD)
		wrong = publication_event(p, topic, &event, refusal);
	if (wrong == EVENT_GOOD)
		p->events[p->count - 1].made = true;
	return wrong;
}

/* At what has come to its place. */
static void point(const struct publication *p, const struct publication_plan *plan,
                  struct store_submit *submit)
{
	submit->headers = (struct store_slice){p->kept.data + plan->kept, plan->kept_len};
	if (plan->group > 0)
		submit->group = (struct store_slice){p->keys.data + plan->keys, plan->group};
	if (plan->unique > 0)
		submit->unique = (struct store_slice){p->keys.data + plan->keys + plan->group, plan->unique};
}

wh_future publication_apply(struct publication *p, struct store *store, struct store_slice trace, int level,
                            struct once *once)
{
	struct store_asking asking = {.items = p->asked, .count = p->asked_count, .known = p->vanished};

	memcpy(asking.note, p->note, sizeof(asking.note));
	for (size_t i = 0; i < p->actions_count; i++) {
		if (p->plans[i].queue != OF_NOTHING && p->plans[i].queue != OF_SUBMIT)
			point(p, &p->plans[i], &p->actions[i].submit);
		if (p->actions[i].kind == STORE_SUBMIT)
			p->actions[i].submit.trace = trace;
	}
	return store_apply_asked(store, p->actions, p->actions_count, &asking, level,
	                         once && once->given ? once_key(once) : NULL);
}

/* ---- the receipt --------------------------------------------------------------------------- */

static const void *copy(char **to, const void *from, size_t len)
{
	const void *at = *to;

	if (len > 0)
		memcpy(*to, from, len);
	*to += len;
	return at;
}

struct receipt *publication_receipt(const struct publication *p, size_t extra_bytes)
{
	size_t events = p->count * sizeof(p->events[0]), plans = p->actions_count * sizeof(p->plans[0]);
	struct receipt *r = malloc(sizeof(*r) + extra_bytes + events + plans + p->ids.len + p->names.len);
	char *to;

	if (!r)
		return NULL;
	*r = (struct receipt){.count = p->count, .actions = p->actions_count, .extra = r + 1};
	to = (char *)(r + 1) + extra_bytes;
	r->events = (struct publication_event *)(uintptr_t)copy(&to, p->events, events);
	r->plans = copy(&to, p->plans, plans);
	r->ids = copy(&to, p->ids.data, p->ids.len);
	r->names = copy(&to, p->names.data, p->names.len);
	return r;
}

bool receipt_resolve(struct receipt *r, struct store *store, wh_future *ret)
{
	for (; r->resolved < r->commit->count && r->resolved_events < r->count; r->resolved++) {
		const struct store_result *result = &r->commit->results[r->resolved];
		struct publication_event *event = &r->events[r->resolved_events];
		const char *queue = event->named ? r->names + event->names : "";

		if (!result->event)
			continue;
		if (result->duplicate &&
		    !store_kept_position(store, (struct store_slice){queue, strlen(queue)}, result->job,
		                         &event->known)) {
			*ret = store_payload(store, result->job, STORE_ASYNC);
			return true;
		}
		r->resolved_events++;
	}
	return false;
}

/* What is not kept any more has no position that could be told. */
int64_t receipt_resolved(struct receipt *r, wh_res res)
{
	struct store_bytes *bytes = res.n >= 0 ? res.ptr : NULL;

	if (!bytes && res.n != -JOB_EEXPIRED && res.n != -JOB_EUNKNOWN_JOB && res.n != -WH_EDAMAGED)
		return res.n;
	if (bytes)
		r->events[r->resolved_events].known = bytes->event;
	store_bytes_unref(bytes);
	r->resolved++;
	r->resolved_events++;
	return 0;
}

size_t receipt_duplicates(const struct store_commit *commit)
{
	size_t count = 0;

	for (size_t i = 0; i < commit->count; i++)
		count += commit->results[i].event && commit->results[i].duplicate;
	return count;
}

void receipt_put(const struct receipt *r, size_t index, const struct store_commit *commit,
                 const struct store_result *result, struct wh__text *text)
{
	const struct publication_event *event = &r->events[index];
	struct store_position position = {0, 0};
	char id[2 * ID_BYTES + 1];

	if (result->duplicate)
		position = event->known;
	else if (result->job > 0)
		position = (struct store_position){commit->position.epoch, commit->events_from + result->job};
	wh__text_str(text, "\"id\":");
	if (event->made)
		make_id(commit->note, index, id);
	wh__text_json(text, event->made ? id : r->ids + event->id, event->id_len);
	if (position.epoch > 0)
		wh__text_format(text, ",\"event\":\"%u/%llu\"", position.epoch,
		                (unsigned long long)position.lsn);
	else
		wh__text_str(text, ",\"event\":null");
	wh__text_format(text, ",\"jobs\":%llu", (unsigned long long)result->count);
	if (result->duplicate)
		wh__text_str(text, ",\"duplicate\":true");
}

const char *receipt_queue(const struct receipt *r, uint32_t action)
{
	const char *name;

	if (action >= r->actions || r->plans[action].queue == OF_NOTHING)
		return NULL;
	name = r->names + r->plans[action].names;
	if (r->plans[action].queue == OF_TOPIC || r->plans[action].queue == OF_SUBMIT)
		return name;
	for (unsigned i = r->plans[action].queue + 1u; i > 0; i--)
		name += strlen(name) + 1;
	return name;
}
