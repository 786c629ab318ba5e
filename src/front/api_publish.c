/* src/front/api_publish.c -- POST /v1/topics/{topic}/events: CloudEvents in, a job for each subscription that an event matches out.
 *
 * All jobs of all events of a request are one commit, and so are the events that the topic keeps. An event of the request is read, judged by
 * the filters, and what is kept of it put together; the bytes of its data stay where they came from until the store has them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/units.h"
#include "deliver/message.h"
#include "deliver/trace.h"
#include "front/api.h"
#include "front/publish.h"

enum { ID_BYTES = 16, NO_QUEUE = UINT16_MAX };

/* What the answer says of an event. */
struct published {
	uint32_t number; /* of it in the commit; 0: nobody wanted it */
	uint32_t jobs;
	size_t id, id_len; /* in the ids */
};

/* The answer's part of a publication; one allocation, the call's. */
struct receipt {
	bool batch;
	size_t count, actions;
	const struct published *events;
	const uint16_t *queues; /* which one each action is for */
	const char *ids,
		*names; /* names: of the topic's queue and then of the subscriptions', each with its NUL */
};

/* What is not said yet by an action: whose queue it is for, and where in the kept lines, which may still move, its headers are. */
struct plan {
	uint16_t queue;
	size_t kept, kept_len;
};

/* A publication while the request is taken apart. */
struct publication {
	struct request *request;
	struct topic *topic;
	bool batch;
	struct store_action *actions;
	struct plan *plans; /* of each */
	size_t actions_count, actions_cap;
	struct published *events;
	size_t count, cap;
	char **memories; /* of the events read so far, by count */
	struct wh__text kept, ids;
	uint32_t numbers; /* events that somebody wants */
};

uint64_t publish_body_max(struct wh_slice type)
{
	/* in JSON, base64 of the data and the attributes beside it */
	return type.data && request_is_type(type, EVENT_BATCH_TYPE)
	               ? API_BATCH_BODY_MAX
	               : 2 * (uint64_t)EVENT_DATA_MAX + EVENT_HEADERS_MAX;
}

/* ---- refusals ------------------------------------------------------------------------------ */

static void refuse(struct publication *p, enum event_wrong wrong, const struct event_refusal *refusal)
{
	struct api *api = p->request->api;
	char members[80] = "", where[32] = "";
	size_t len = 0;

	if (wrong == EVENT_TOO_LARGE)
		len = (size_t)snprintf(members, sizeof(members), ",\"limit\":%llu",
		                       (unsigned long long)refusal->limit);
	if (p->batch) {
		snprintf(members + len, sizeof(members) - len, ",\"event\":%zu", p->count);
		snprintf(where, sizeof(where), "event %zu: ", p->count);
	}
	if (wrong == EVENT_NO_MEMORY)
		answer_problem(api, p->request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	else
		answer_problem(api, p->request->x,
		               wrong == EVENT_TOO_LARGE  ? PROBLEM_TOO_LARGE
		               : wrong == EVENT_BAD_JSON ? PROBLEM_BAD_JSON
		                                         : PROBLEM_BAD_REQUEST,
		               members, "%s%s", where, refusal->detail);
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
	size_t cap = p->actions_cap;

	if (!grow((void **)&p->plans, p->actions_count, &cap, sizeof(p->plans[0])))
		return false;
	return grow((void **)&p->actions, p->actions_count, &p->actions_cap, sizeof(p->actions[0]));
}

static bool grow_events(struct publication *p)
{
	size_t cap = p->cap;

	if (!grow((void **)&p->memories, p->count, &cap, sizeof(p->memories[0])))
		return false;
	return grow((void **)&p->events, p->count, &p->cap, sizeof(p->events[0]));
}

/* A job about the event; where its kept lines stand is known at the end. */
static enum event_wrong add_action(struct publication *p, const struct event *event, struct store_slice queue,
                                   uint16_t queue_number, struct event_refusal *refusal)
{
	struct store_action *a;

	if (p->actions_count == JOB_ACTIONS_MAX)
		return too_many(refusal);
	if (!grow_actions(p))
		return EVENT_NO_MEMORY;
	p->plans[p->actions_count] = (struct plan){queue_number, 0, 0};
	a = &p->actions[p->actions_count++];
	*a = (struct store_action){.kind = STORE_SUBMIT};
	a->submit.queue = queue;
	a->submit.payload = (struct store_slice){event->data.data, event->data.len};
	a->submit.content_type = (struct store_slice){event->content_type.data, event->content_type.len};
	a->submit.priority = JOB_PRIORITY_DEFAULT;
	a->submit.event = p->numbers + 1;
	return EVENT_GOOD;
}

static enum event_wrong add_actions(struct publication *p, const struct event *event,
                                    struct event_refusal *refusal, uint32_t *ret_jobs)
{
	enum event_wrong wrong = EVENT_GOOD;

	*ret_jobs = 0;
	if (p->topic->retention_ns > 0) {
		wrong = add_action(p, event, topic_queue(p->topic), NO_QUEUE, refusal);
		if (wrong == EVENT_GOOD) {
			p->actions[p->actions_count - 1].submit.done = true;
			p->actions[p->actions_count - 1].submit.retention_ns = p->topic->retention_ns;
		}
	}
	for (size_t i = 0; i < p->topic->count && wrong == EVENT_GOOD; i++) {
		const struct subscription *s = p->topic->subscriptions[i];

		if (!filter_matches(s->filter, event))
			continue;
		wrong = add_action(p, event, (struct store_slice){s->queue, strlen(s->queue)}, (uint16_t)i,
		                   refusal);
		++*ret_jobs;
	}
	return wrong;
}

/* An event has been read: its memory goes with the publication. */
static enum event_wrong add_event(struct publication *p, struct event *event, struct event_refusal *refusal)
{
	size_t first = p->actions_count, kept = p->kept.len;
	struct wh_slice id = event_get(event, "id", 2);
	struct published *published;
	enum event_wrong wrong;

	if (!grow_events(p)) {
		event_done(event);
		return EVENT_NO_MEMORY;
	}
	p->memories[p->count] = event->memory;
	published = &p->events[p->count];
	*published = (struct published){.id = p->ids.len, .id_len = id.len};
	wrong = add_actions(p, event, refusal, &published->jobs);
	if (wrong != EVENT_GOOD) {
		event_done(event);
		return wrong;
	}
	wh__text_put(&p->ids, id.data, id.len);
	event_put_kept(&p->kept, event);
	if (p->kept.failed || p->ids.failed) {
		event_done(event);
		return EVENT_NO_MEMORY;
	}
	if (p->kept.len - kept > EVENT_HEADERS_MAX) {
		snprintf(refusal->detail, sizeof(refusal->detail),
		         "the attributes of an event take more than %d bytes", EVENT_HEADERS_MAX);
		refusal->limit = EVENT_HEADERS_MAX;
		event_done(event);
		return EVENT_TOO_LARGE;
	}
	for (size_t i = first; i < p->actions_count; i++) {
		p->plans[i].kept = kept;
		p->plans[i].kept_len = p->kept.len - kept;
	}
	if (p->actions_count > first)
		published->number = ++p->numbers;
	p->count++;
	return EVENT_GOOD;
}

/* ---- reading ------------------------------------------------------------------------------- */

enum { TYPE, SOURCE, SUBJECT, OPTIONS };

/* What an ordinary body lacks to be an event. */
struct made {
	char id[2 * ID_BYTES + 1], source[sizeof("/v1/topics/") + 3 * TOPIC_NAME_BYTES_MAX],
		time[WH__INSTANT_TEXT_BYTES];
};

static enum event_wrong make_event(struct publication *p, struct event *event,
                                   const struct option options[OPTIONS], struct made *made,
                                   struct event_refusal *refusal)
{
	wh_loop *loop = p->request->api->loop;
	unsigned char random[ID_BYTES];
	struct wh_slice topic = namespace_plain((struct wh_slice){p->topic->name, p->topic->name_len});
	size_t len = sizeof("/v1/topics/") - 1;
	struct wh_http_field fields[7] = {{{"ce-specversion", 14}, {"1.0", 3}}};
	size_t count = 1;

	wh_random(loop, random, sizeof(random));
	for (size_t i = 0; i < ID_BYTES; i++)
		snprintf(made->id + 2 * i, 3, "%02x", random[i]);
	memcpy(made->source, "/v1/topics/", len);
	len += target_encode(topic.data, topic.len, made->source + len); /* as who is subscribed calls it */
	fields[count++] = (struct wh_http_field){{"ce-id", 5}, {made->id, 2 * (size_t)ID_BYTES}};
	fields[count++] = (struct wh_http_field){
		{"ce-source", 9},
		options[SOURCE].given ? (struct wh_slice){options[SOURCE].text, strlen(options[SOURCE].text)}
				      : (struct wh_slice){made->source, len}};
	fields[count++] = (struct wh_http_field){
		{"ce-type", 7},
		options[TYPE].given ? (struct wh_slice){options[TYPE].text, strlen(options[TYPE].text)}
				    : (struct wh_slice){"whilst.event", 12}};
	fields[count++] = (struct wh_http_field){
		{"ce-time", 7}, {made->time, wh__put_instant(made->time, wh_wall_now(loop))}};
	if (options[SUBJECT].given)
		fields[count++] = (struct wh_http_field){
			{"ce-subject", 10}, {options[SUBJECT].text, strlen(options[SUBJECT].text)}};
	return event_read_fields(event, fields, count, event->content_type, event->data, refusal);
}

static enum event_wrong read_one(struct publication *p, const struct option options[OPTIONS], bool structured,
                                 struct event_refusal *refusal)
{
	struct request *request = p->request;
	struct wh_http_field fields[MESSAGE_FIELDS_MAX];
	size_t count = wh_http_field_count(request->x);
	bool given = options[TYPE].given || options[SOURCE].given || options[SUBJECT].given;
	struct made made;
	struct event event;
	enum event_wrong wrong;

	if (structured) {
		wrong = event_read_json(&event, request_body(request), refusal);
	} else {
		if (count > MESSAGE_FIELDS_MAX)
			count = MESSAGE_FIELDS_MAX;
		for (size_t i = 0; i < count; i++)
			fields[i] = wh_http_field(request->x, i);
		wrong = event_read_fields(&event, fields, count, request->content_type, request_body(request),
		                          refusal);
		if (wrong == EVENT_BARE)
			wrong = make_event(p, &event, options, &made, refusal);
		else if (wrong == EVENT_GOOD && given) {
			event_done(&event);
			snprintf(refusal->detail, sizeof(refusal->detail),
			         "query: type, source and subject are for bodies without ce- fields");
			return EVENT_BAD;
		}
	}
	return wrong == EVENT_GOOD ? add_event(p, &event, refusal) : wrong;
}

static enum event_wrong read_batch(struct publication *p, struct event_refusal *refusal)
{
	struct wh_slice json = request_body(p->request), at = {NULL, 0};
	enum event_wrong wrong = EVENT_GOOD;
	struct event event;

	while (json.len > 0 && strchr(" \t\r\n", *json.data)) {
		json.data++;
		json.len--;
	}
	if (!wh__json_check(json) || *json.data != '[') {
		snprintf(refusal->detail, sizeof(refusal->detail), "a batch is one JSON array of events");
		return EVENT_BAD_JSON;
	}
	while (wrong == EVENT_GOOD && wh__json_next(json, &at)) {
		if (p->count == JOB_ACTIONS_MAX)
			return too_many(refusal);
		wrong = event_read_json(&event, at, refusal);
		if (wrong == EVENT_GOOD)
			wrong = add_event(p, &event, refusal);
	}
	return wrong;
}

/* ---- answering ----------------------------------------------------------------------------- */

static void put_event(struct wh__text *text, const struct receipt *r, const struct published *event,
                      struct store_position position, uint64_t from)
{
	uint64_t lsn = from + event->number;

	wh__text_str(text, "\"id\":");
	wh__text_json(text, r->ids + event->id, event->id_len);
	if (event->number > 0)
		wh__text_format(text, ",\"event\":\"%u/%llu\"", position.epoch, (unsigned long long)lsn);
	else
		wh__text_str(text, ",\"event\":null");
	wh__text_format(text, ",\"jobs\":%u", event->jobs);
}

static void answer(struct call *call, int level, struct store_position position, uint64_t from)
{
	const struct receipt *r = call->arg;
	char given[1024];
	struct wh__text text;

	wh__text_init(&text, given, sizeof(given));
	wh__text_str(&text, "{\"topic\":");
	wh__text_json(&text, call->name + call->hidden, call->name_len - call->hidden);
	wh__text_put(&text, ",", 1);
	if (r->batch)
		wh__text_str(&text, "\"events\":[");
	for (size_t i = 0; i < r->count; i++) {
		if (r->batch)
			wh__text_str(&text, i > 0 ? ",{" : "{");
		put_event(&text, r, &r->events[i], position, from);
		if (r->batch)
			wh__text_put(&text, "}", 1);
		call->api->events_published++;
	}
	if (r->batch)
		wh__text_put(&text, "]", 1);
	wh__text_format(&text, ",\"level\":\"%s\",\"position\":\"%u/%llu\"}\n", answer_level(level),
	                position.epoch, (unsigned long long)position.lsn);
	answer_committed(call->x, level, position);
	answer_done(call->api, call->x, 202, "application/json", &text);
	call_end(call);
}

/* The queue that the refused action was for. */
static const char *queue_name(const struct receipt *r, uint32_t action)
{
	const char *name = r->names;

	for (unsigned i = r->queues[action] == NO_QUEUE ? 0u : r->queues[action] + 1u; i > 0; i--)
		name += strlen(name) + 1;
	return name;
}

static void committed(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	const struct receipt *r = call->arg;
	int64_t error = res.n < 0 ? res.n : commit->error;
	char subject[2 * TARGET_NAME_BYTES_MAX + 40];

	if (error == 0) {
		publish_replay(call->api); /* if one has come to a halt for want of memory */
		answer(call, commit->level, commit->position, commit->events_from);
		store_commit_free(commit);
		return;
	}
	if (res.n >= 0 && commit->failed < r->actions)
		snprintf(subject, sizeof(subject), "topic '%.*s', queue '%s' of a subscription", SHOWN(call),
		         queue_name(r, commit->failed) + call->hidden);
	else
		snprintf(subject, sizeof(subject), "topic '%.*s'", SHOWN(call));
	answer_error(call->api, call->x, error, res.n < 0 ? NULL : commit->reason, JOB_NONE, subject);
	if (res.n >= 0)
		store_commit_free(commit);
	call_end(call);
}

/* Nobody wanted any of them: nothing is committed, and the answer is that of where the log stood. */
static void reached(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;

	if (res.n < 0) {
		answer_error(call->api, call->x, res.n, NULL, JOB_NONE, "topic");
		call_end(call);
		return;
	}
	answer(call, call->level, call->position, 0);
}

/* ---- the call ------------------------------------------------------------------------------ */

static size_t names_bytes(const struct topic *topic)
{
	size_t bytes = topic->queue_len + 1;

	for (size_t i = 0; i < topic->count; i++)
		bytes += strlen(topic->subscriptions[i]->queue) + 1;
	return bytes;
}

static struct receipt *make_receipt(const struct publication *p)
{
	size_t names = names_bytes(p->topic);
	size_t events = p->count * sizeof(p->events[0]), queues = p->actions_count * sizeof(uint16_t);
	struct receipt *r = malloc(sizeof(*r) + events + queues + p->ids.len + names);
	char *to;

	if (!r)
		return NULL;
	to = (char *)(r + 1);
	*r = (struct receipt){.batch = p->batch, .count = p->count, .actions = p->actions_count};
	r->events = (struct published *)(void *)to;
	if (events > 0)
		memcpy(to, p->events, events);
	to += events;
	r->queues = (uint16_t *)(void *)to;
	for (size_t i = 0; i < p->actions_count; i++)
		((uint16_t *)(void *)to)[i] = p->plans[i].queue;
	to += queues;
	r->ids = to;
	if (p->ids.len > 0)
		memcpy(to, p->ids.data, p->ids.len);
	to += p->ids.len;
	r->names = to;
	memcpy(to, p->topic->queue, p->topic->queue_len + 1);
	to += p->topic->queue_len + 1;
	for (size_t i = 0; i < p->topic->count; i++) {
		size_t len = strlen(p->topic->subscriptions[i]->queue) + 1;

		memcpy(to, p->topic->subscriptions[i]->queue, len);
		to += len;
	}
	return r;
}

static void commit(struct publication *p, int level)
{
	struct store *store = p->request->api->store;
	struct call *call = call_new(p->request, CALL_OTHER);
	struct store_marks marks;
	struct trace trace = {0};

	if (!call)
		return;
	call->arg = make_receipt(p);
	if (!call->arg) {
		answer_problem(call->api, call->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		call_end(call);
		return;
	}
	if (p->request->traced)
		trace_read(p->request->x, &trace);
	for (size_t i = 0; i < p->actions_count; i++) {
		p->actions[i].submit.headers =
			(struct store_slice){p->kept.data + p->plans[i].kept, p->plans[i].kept_len};
		p->actions[i].submit.trace = (struct store_slice){trace.text, trace.len};
	}
	if (p->actions_count > 0) {
		call_then(call, store_apply(store, p->actions, p->actions_count, 0, level), committed);
		return;
	}
	store_marks(store, &marks);
	call->level = level == STORE_DEFAULT ? STORE_LOCAL : level;
	call->position = (struct store_position){marks.epoch, marks.appended};
	call_then(call, store_wait_position(store, call->position, call->level), reached);
}

static void publication_done(struct publication *p)
{
	for (size_t i = 0; i < p->count; i++)
		free(p->memories[i]);
	free(p->memories);
	free(p->events);
	free(p->actions);
	free(p->plans);
	wh__text_done(&p->kept);
	wh__text_done(&p->ids);
}

/* What the content type says of the mode; false: refused and answered. HTTP binding 3. */
static bool read_mode(struct request *request, bool *ret_structured, bool *ret_batch)
{
	static const char prefix[] = "application/cloudevents";
	struct wh_slice type = request->content_type;

	*ret_batch = type.data && request_is_type(type, EVENT_BATCH_TYPE);
	*ret_structured = type.data && request_is_type(type, EVENT_TYPE);
	if (*ret_batch || *ret_structured || type.len < sizeof(prefix) - 1 ||
	    strncasecmp(type.data, prefix, sizeof(prefix) - 1) != 0)
		return true;
	answer_problem(request->api, request->x, PROBLEM_WRONG_CONTENT_TYPE, NULL,
	               "Content-Type: '%.*s' is a format of events that is not known here; known: " EVENT_TYPE
	               ", " EVENT_BATCH_TYPE ", and any other type with ce- fields",
	               (int)(type.len < 100 ? type.len : 100), type.data);
	return false;
}

void api_publish(struct request *request)
{
	struct option options[OPTIONS] = {[TYPE] = {"type", OPTION_TEXT, 0, 0, false, 0, ""},
	                                  [SOURCE] = {"source", OPTION_TEXT, 0, 0, false, 0, ""},
	                                  [SUBJECT] = {"subject", OPTION_TEXT, 0, 0, false, 0, ""}};
	struct publication p = {.request = request};
	struct event_refusal refusal = {0, ""};
	enum event_wrong wrong;
	bool structured;
	int level;

	if (!request_level(request, false, &level) || !read_mode(request, &structured, &p.batch) ||
	    !request_options(request, options, structured || p.batch ? 0 : (size_t)OPTIONS) ||
	    !(p.topic = request_topic(request)))
		return;
	wh__text_init(&p.kept, NULL, 0);
	wh__text_init(&p.ids, NULL, 0);
	wrong = p.batch ? read_batch(&p, &refusal) : read_one(&p, options, structured, &refusal);
	if (wrong == EVENT_GOOD)
		commit(&p, level);
	else
		refuse(&p, wrong, &refusal);
	publication_done(&p);
}
