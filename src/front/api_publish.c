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
#include "front/once.h"
#include "front/publication.h"
#include "front/publish.h"

/* A publication while the request is taken apart. */
struct publishing {
	struct request *request;
	const struct topic *topic;
	bool batch, structured;
	struct publication all;
};

uint64_t publish_body_max(struct wh_slice type)
{
	/* in JSON, base64 of the data and the attributes beside it */
	return type.data && request_is_type(type, EVENT_BATCH_TYPE)
	               ? API_BATCH_BODY_MAX
	               : 2 * (uint64_t)EVENT_DATA_MAX + EVENT_HEADERS_MAX;
}

/* ---- refusals ------------------------------------------------------------------------------ */

static void refuse(struct publishing *p, enum event_wrong wrong, const struct event_refusal *refusal)
{
	struct api *api = p->request->api;
	char members[80] = "", where[32] = "";

	if (p->batch) {
		snprintf(members, sizeof(members), ",\"event\":%zu", p->all.count);
		snprintf(where, sizeof(where), "event %zu: ", p->all.count);
	}
	if (wrong == EVENT_NO_MEMORY)
		answer_problem(api, p->request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	else
		answer_limit(api, p->request->x,
		             wrong == EVENT_TOO_LARGE  ? PROBLEM_TOO_LARGE
		             : wrong == EVENT_BAD_JSON ? PROBLEM_BAD_JSON
		                                       : PROBLEM_BAD_REQUEST,
		             wrong == EVENT_TOO_LARGE ? refusal->limit : 0, members, "%s%s", where,
		             refusal->detail);
}

/* ---- reading ------------------------------------------------------------------------------- */

enum { TYPE, SOURCE, SUBJECT, OPTIONS };
enum { PUBLISHED_ONE, PUBLISHED_BATCH };

static struct wh_slice option_text(const struct option *option)
{
	return option->given ? (struct wh_slice){option->text, (size_t)option->value}
	                     : (struct wh_slice){NULL, 0};
}

static enum event_wrong read_fields(struct publishing *p, const struct option options[OPTIONS],
                                    struct event_refusal *refusal)
{
	struct request *request = p->request;
	struct publication_bare bare = {option_text(&options[TYPE]), option_text(&options[SOURCE]),
	                                option_text(&options[SUBJECT]), request->content_type,
	                                request_body(request)};
	struct wh_http_field fields[MESSAGE_FIELDS_MAX];
	size_t count = wh_http_field_count(request->x);
	struct event event;
	enum event_wrong wrong;

	if (count > MESSAGE_FIELDS_MAX)
		count = MESSAGE_FIELDS_MAX;
	for (size_t i = 0; i < count; i++)
		fields[i] = wh_http_field(request->x, i);
	wrong = event_read_fields(&event, fields, count, request->content_type, request_body(request),
	                          refusal);
	if (wrong == EVENT_BARE)
		return publication_bare(&p->all, p->topic, &bare, refusal);
	if (wrong == EVENT_GOOD && (bare.type.data || bare.source.data || bare.subject.data)) {
		event_done(&event);
		snprintf(refusal->detail, sizeof(refusal->detail),
		         "query: type, source and subject are for bodies without ce- fields");
		return EVENT_BAD;
	}
	return wrong == EVENT_GOOD ? publication_event(&p->all, p->topic, &event, refusal) : wrong;
}

static enum event_wrong read_one(struct publishing *p, const struct option options[OPTIONS],
                                 struct event_refusal *refusal)
{
	struct event event;
	enum event_wrong wrong;

	if (!p->structured)
		return read_fields(p, options, refusal);
	wrong = event_read_json(&event, request_body(p->request), refusal);
	return wrong == EVENT_GOOD ? publication_event(&p->all, p->topic, &event, refusal) : wrong;
}

static enum event_wrong read_batch(struct publishing *p, struct event_refusal *refusal)
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
		wrong = event_read_json(&event, at, refusal);
		if (wrong == EVENT_GOOD)
			wrong = publication_event(&p->all, p->topic, &event, refusal);
	}
	return wrong;
}

/* ---- answering ----------------------------------------------------------------------------- */

/* Those that were published before are counted apart. */
static void count(struct api *api, const struct receipt *r, const struct store_commit *commit)
{
	size_t duplicates = receipt_duplicates(commit);

	api->events_published += r->count - duplicates;
	api->events_duplicate += duplicates;
}

static void answer(struct call *call, const struct store_commit *commit)
{
	const struct receipt *r = call->arg;
	bool batch = call->action == PUBLISHED_BATCH;
	char given[1024];
	struct wh__text text;

	wh__text_init(&text, given, sizeof(given));
	wh__text_str(&text, "{\"topic\":");
	wh__text_json(&text, call->name + call->hidden, call->name_len - call->hidden);
	wh__text_put(&text, ",", 1);
	if (batch)
		wh__text_str(&text, "\"events\":[");
	for (size_t i = 0; i < r->count; i++) {
		if (batch)
			wh__text_str(&text, i > 0 ? ",{" : "{");
		receipt_put(r, i, commit, &commit->results[i], &text);
		if (batch)
			wh__text_put(&text, "}", 1);
	}
	if (batch)
		wh__text_put(&text, "]", 1);
	wh__text_format(&text, ",\"level\":\"%s\",\"position\":\"%u/%llu\"}\n", answer_level(commit->level),
	                commit->position.epoch, (unsigned long long)commit->position.lsn);
	if (!commit->replayed)
		count(call->api, r, commit);
	once_told(call->x, commit);
	answer_committed(call->x, commit->level, commit->position);
	answer_done(call->api, call->x, 202, "application/json", &text);
	call_end(call);
}

static void resolve(struct call *call);

static void resolved(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct receipt *receipt = call->arg;
	int64_t error = receipt_resolved(receipt, res);

	(void)loop;
	if (error == 0) {
		resolve(call);
		return;
	}
	store_commit_free(receipt->commit);
	answer_error(call->api, call->x, error, NULL, JOB_NONE, receipt->subject);
	call_end(call);
}

/* Of events that were published before the positions are read. */
static void resolve(struct call *call)
{
	struct receipt *receipt = call->arg;
	struct store_commit *commit = receipt->commit;
	wh_future future;

	if (receipt_resolve(receipt, call->api->store, &future)) {
		call_then(call, future, resolved);
		return;
	}
	receipt->tell(call, commit);
	store_commit_free(commit);
}

void publish_tell(struct call *call, struct store_commit *commit, const char *subject,
                  void (*tell)(struct call *call, const struct store_commit *commit))
{
	struct receipt *receipt = call->arg;

	receipt->commit = commit;
	receipt->subject = subject;
	receipt->tell = tell;
	resolve(call);
}

static void committed(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	int64_t error = res.n < 0 ? res.n : commit->error;
	const char *queue = res.n < 0 ? NULL : receipt_queue(call->arg, commit->failed);
	char subject[2 * TARGET_NAME_BYTES_MAX + 40];

	if (error == 0) {
		publish_replay(call->api); /* if one has come to a halt for want of memory */
		publish_tell(call, commit, "topic", answer);
		return;
	}
	if (queue)
		snprintf(subject, sizeof(subject), "topic '%.*s', queue '%s' of a subscription", SHOWN(call),
		         queue + call->hidden);
	else
		snprintf(subject, sizeof(subject), "topic '%.*s'", SHOWN(call));
	answer_commit_refused(call, res, (struct store_slice){queue, queue ? strlen(queue) : 0}, NULL,
	                      subject);
	if (res.n >= 0)
		store_commit_free(commit);
	call_end(call);
}

/* An empty batch: nothing is committed, and the answer is that of where the log stood. */
static void reached(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit commit = {.level = call->level, .position = call->position};

	if (res.n < 0) {
		answer_error(call->api, call->x, res.n, NULL, JOB_NONE, "topic");
		call_end(call);
		return;
	}
	answer(call, &commit);
}

/* ---- the call ------------------------------------------------------------------------------ */

void publish_commit(struct request *request, struct publication *p, bool batch, int level, struct once *once)
{
	struct store *store = request->api->store;
	struct call *call = call_new(request, CALL_OTHER);
	struct store_marks marks;
	struct trace trace = {0};

	if (!call)
		return;
	call->action = batch ? PUBLISHED_BATCH : PUBLISHED_ONE;
	call->arg = publication_receipt(p, 0);
	if (!call->arg) {
		answer_problem(call->api, call->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		call_end(call);
		return;
	}
	if (request->traced)
		trace_read(request->x, &trace);
	if (p->count > 0) {
		call_then(
			call,
			publication_apply(p, store, (struct store_slice){trace.text, trace.len}, level, once),
			committed);
		return;
	}
	store_marks(store, &marks);
	call->level = (int8_t)(level == STORE_DEFAULT ? STORE_LOCAL : level);
	call->position = (struct store_position){marks.epoch, marks.appended};
	call_then(call, store_wait_position(store, call->position, call->level), reached);
}

/* What of the request is the same when it is the same: in binary mode the attributes, in whatever order their fields come. */
static bool read_key(struct request *request, bool binary, struct once *once)
{
	uint8_t all[STORE_FINGERPRINT_BYTES] = {0};
	size_t count = binary ? wh_http_field_count(request->x) : 0;

	if (!once_read(request, 'e', (struct wh_slice){request->name, request->name_len}, once))
		return false;
	if (!once->given)
		return true;
	for (size_t i = 0; i < count; i++) {
		struct wh_http_field field = wh_http_field(request->x, i);
		uint8_t one[STORE_FINGERPRINT_BYTES] = {0};
		char name[EVENT_NAME_MAX + 3];

		if (!event_is_attribute(field.name) || field.name.len > sizeof(name))
			continue;
		for (size_t k = 0; k < field.name.len; k++)
			name[k] = (char)(field.name.data[k] | 0x20);
		store_key_mix(one, name, field.name.len);
		store_key_mix(one, field.value.data, field.value.len);
		for (size_t k = 0; k < sizeof(all); k++)
			all[k] ^= one[k];
	}
	once_mix(once, request->target.query);
	once_mix(once, request->content_type);
	once_mix(once, (struct wh_slice){(const char *)all, sizeof(all)});
	once_mix(once, request_body(request));
	return true;
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
	struct publishing p = {.request = request};
	struct event_refusal refusal = {0, ""};
	enum event_wrong wrong;
	struct once once;
	int level;

	if (!request_level(request, false, &level) || !read_mode(request, &p.structured, &p.batch) ||
	    !request_options(request, options, p.structured || p.batch ? 0 : (size_t)OPTIONS) ||
	    !read_key(request, !p.structured && !p.batch, &once))
		return;
	publication_open(&p.all, request->api->loop);
	p.topic = topic_there(&request->api->topics, request->name, request->name_len);
	p.all.known = !p.topic && once.given && store_key_known(request->api->store, once_key(&once));
	if (!p.topic && !p.all.known) {
		request_topic(request); /* which refuses it */
		publication_done(&p.all);
		return;
	}
	wrong = p.batch ? read_batch(&p, &refusal) : read_one(&p, options, &refusal);
	if (wrong == EVENT_GOOD)
		publish_commit(request, &p.all, p.batch, level, &once);
	else
		refuse(&p, wrong, &refusal);
	publication_done(&p.all);
}
