/* src/front/api_reserve.c -- POST /v1/queues/{queue}/reserve: lease jobs, waiting for them or not.
 *
 * A reservation that waits ends when its client leaves; a lot that arrives in the same moment goes back
 * to the queue, so that no job is swallowed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/units.h"
#include "deliver/trace.h"
#include "front/api.h"
#include "front/batch.h"
#include "front/event.h"

/* Base64 of more would hold up everybody else. One payload may be larger. */
enum { JSON_PAYLOADS_MAX = 16 << 20 };
enum { ANSWER_PAYLOAD, ANSWER_JSON, ANSWER_BATCH, ANSWER_TRACED_BATCH, ANSWER_EVENT, ANSWER_EVENTS };

#define TRACED_BATCH_TYPE BATCH_TYPE "; trace=1"

static size_t put_lease(char *to, struct job_lease lease)
{
	size_t len = wh__put_u64(to, lease.epoch);

	to[len++] = '.';
	return len + wh__put_u64(to + len, lease.claim);
}

static void release_bytes(void *arg)
{
	store_bytes_unref(arg);
}

static void set(wh_http_exchange *x, const char *name, const char *value, size_t len)
{
	wh_http_set_slice(x, (struct wh_slice){name, strlen(name)}, (struct wh_slice){value, len});
}

static void set_lease_fields(struct call *call, const struct store_leased *leased)
{
	char text[64];

	answer_event(call->x, leased->payload);
	trace_set(call->x, leased->payload->trace.data, leased->payload->trace.len);
	set(call->x, "Whilst-Job", text, wh__put_u64(text, leased->job));
	set(call->x, "Whilst-Lease", text, put_lease(text, leased->lease));
	set(call->x, "Whilst-Attempt", text, wh__put_u64(text, leased->attempt));
	set(call->x, "Whilst-Time-To-Run", text, wh__put_duration(text, leased->time_to_run_ns));
}

static void set_payload_fields(struct call *call, const struct store_leased *leased)
{
	const struct store_bytes *payload = leased->payload;

	if (payload->content_type.len > 0)
		set(call->x, "Content-Type", answer_slice(payload->content_type).data,
		    payload->content_type.len);
	answer_kept(call->x, payload->headers);
	set_lease_fields(call, leased);
}

static void answer_payload(struct call *call, struct store_leased *leased)
{
	struct store_bytes *payload = leased->payload;

	set_payload_fields(call, leased);
	leased->payload = NULL;
	answer_count(call->api, call->x, 200);
	wh_http_respond_own(call->x, 200, payload->body.data, payload->body.len, release_bytes, payload);
}

/* The header fields that are kept with a payload, and the position of the event that it is about. */
static void put_json_kept(struct wh__text *text, const struct store_bytes *payload)
{
	const char *at = payload->headers.data, *end = at + payload->headers.len;
	const char *separator = ",\"headers\":{";

	while (at < end) {
		const char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
		const char *colon = line_end ? memchr(at, ':', (size_t)(line_end - at)) : NULL;

		if (!colon || colon + 2 > line_end)
			break;
		wh__text_str(text, separator);
		separator = ",";
		wh__text_json(text, at, (size_t)(colon - at));
		wh__text_put(text, ":", 1);
		wh__text_json(text, colon + 2, (size_t)(line_end - colon - 2));
		at = line_end + 2;
	}
	if (payload->headers.len > 0 && separator[1] == 0)
		wh__text_put(text, "}", 1);
	if (payload->event.epoch != 0)
		wh__text_format(text, ",\"event\":\"%u/%llu\"", payload->event.epoch,
		                (unsigned long long)payload->event.lsn);
}

/* false: no memory, and that was answered. */
static bool answer_made(struct call *call, const char *type, struct wh__text *text)
{
	bool made = !text->failed;

	answer_text(call->api, call->x, 200, type, text);
	return made;
}

/* A job up to its payload, without what closes it. */
static void put_json_job(struct wh__text *text, const struct store_leased *leased, char lease[48],
                         char duration[WH__DURATION_TEXT_BYTES])
{
	struct wh_slice trace, state;

	wh__text_format(
		text,
		"{\"id\":%llu,\"lease\":\"%.*s\",\"attempt\":%u,\"time_to_run\":\"%.*s\",\"content_type\":",
		(unsigned long long)leased->job, (int)put_lease(lease, leased->lease), lease, leased->attempt,
		(int)wh__put_duration(duration, leased->time_to_run_ns), duration);
	wh__text_json(text, answer_slice(leased->payload->content_type).data,
	              leased->payload->content_type.len);
	put_json_kept(text, leased->payload);
	trace_split(leased->payload->trace.data, leased->payload->trace.len, &trace, &state);
	if (trace.data) {
		wh__text_str(text, ",\"traceparent\":");
		wh__text_json(text, trace.data, trace.len);
	}
	if (state.data) {
		wh__text_str(text, ",\"tracestate\":");
		wh__text_json(text, state.data, state.len);
	}
	wh__text_str(text, ",\"payload\":\"");
}

/* An item up to its payload; what follows it in memory is room for more bytes. false: no memory. */
static bool put_batch_job(struct wh__text *text, const struct store_leased *leased, bool traced, size_t more)
{
	const struct store_slice *trace = &leased->payload->trace;
	size_t head = traced ? 26 + trace->len : 24;
	char *to = wh__text_room(text, 4 + head + more);

	if (!to)
		return false;
	batch_put_u32(to, (uint32_t)(head + leased->payload->bytes));
	batch_put_u64(to + 4, leased->job);
	batch_put_u64(to + 12, leased->lease.claim);
	batch_put_u32(to + 20, leased->lease.epoch);
	batch_put_u32(to + 24, leased->attempt);
	if (traced) {
		to[28] = (char)trace->len;
		to[29] = (char)(trace->len >> 8);
		if (trace->len > 0)
			memcpy(to + 30, trace->data, trace->len);
	}
	text->len += 4 + head;
	return true;
}

static void set_batch_type(struct call *call)
{
	if (call->action == ANSWER_BATCH)
		set(call->x, "Content-Type", BATCH_TYPE, sizeof(BATCH_TYPE) - 1);
	else
		set(call->x, "Content-Type", TRACED_BATCH_TYPE, sizeof(TRACED_BATCH_TYPE) - 1);
}

static bool answer_json(struct call *call, const struct store_lot *lot)
{
	char given[4096], lease[48], duration[WH__DURATION_TEXT_BYTES];
	struct wh__text text;

	wh__text_init(&text, given, sizeof(given));
	wh__text_str(&text, "{\"jobs\":[");
	for (size_t i = 0; i < lot->count; i++) {
		const struct store_leased *leased = &lot->jobs[i];
		if (i > 0)
			wh__text_put(&text, ",", 1);
		put_json_job(&text, leased, lease, duration);
		wh__text_base64(&text, leased->payload->body.data, leased->payload->body.len);
		wh__text_str(&text, "\"}");
	}
	wh__text_str(&text, "]}\n");
	return answer_made(call, "application/json", &text);
}

/* A job as an event in JSON, and its lease as attributes of it. What is no event is told as one. */
static void put_event_job(struct wh__text *text, const struct call *call, const struct store_leased *leased)
{
	const struct store_bytes *payload = leased->payload;
	char lease[48], duration[WH__DURATION_TEXT_BYTES], id[24];
	char more[300], source[sizeof("/v1/queues/") + 3 * TARGET_NAME_BYTES_MAX] = "/v1/queues/";
	struct event event;
	enum event_wrong wrong;
	int n;

	n = snprintf(more, sizeof(more),
	             ",\"whilstjob\":\"%llu\",\"whilstlease\":\"%.*s\",\"whilstattempt\":%u,"
	             "\"whilsttimetorun\":\"%.*s\"",
	             (unsigned long long)leased->job, (int)put_lease(lease, leased->lease), lease,
	             leased->attempt, (int)wh__put_duration(duration, leased->time_to_run_ns), duration);
	if (payload->event.epoch != 0)
		snprintf(more + n, sizeof(more) - (size_t)n, ",\"whilstevent\":\"%u/%llu\"",
		         payload->event.epoch, (unsigned long long)payload->event.lsn);
	wrong = event_read_kept(&event, answer_slice(payload->headers), answer_slice(payload->content_type),
	                        answer_slice(payload->body));
	if (wrong == EVENT_BARE || wrong == EVENT_BAD) {
		size_t len = sizeof("/v1/queues/") - 1;

		event.count = 0;
		len += target_encode(call->name + call->hidden, call->name_len - call->hidden, source + len);
		event_set(&event, "id", (struct wh_slice){id, wh__put_u64(id, leased->job)});
		event_set(&event, "source", (struct wh_slice){source, len});
		event_set(&event, "type", (struct wh_slice){"whilst.job", 10});
	}
	if (wrong == EVENT_NO_MEMORY)
		text->failed = true;
	else
		event_put_json(text, &event, more, "whilst");
	event_done(&event);
}

static bool answer_events(struct call *call, const struct store_lot *lot)
{
	bool many = call->action == ANSWER_EVENTS;
	char given[4096];
	struct wh__text text;

	wh__text_init(&text, given, sizeof(given));
	for (size_t i = 0; i < lot->count; i++) {
		if (many)
			wh__text_str(&text, i > 0 ? "," : "[");
		put_event_job(&text, call, &lot->jobs[i]);
	}
	wh__text_str(&text, many ? "]\n" : "\n");
	if (!many)
		set_lease_fields(call, &lot->jobs[0]);
	return answer_made(call, many ? EVENT_BATCH_TYPE : EVENT_TYPE, &text);
}

static bool answer_batch(struct call *call, const struct store_lot *lot)
{
	char given[4096];
	struct wh__text text;

	wh__text_init(&text, given, sizeof(given));
	for (size_t i = 0; i < lot->count; i++) {
		const struct store_leased *leased = &lot->jobs[i];
		size_t len = leased->payload->body.len;
		if (!put_batch_job(&text, leased, call->action == ANSWER_TRACED_BATCH, len))
			break;
		wh__text_put(&text, leased->payload->body.data, len);
	}
	return answer_made(call, call->action == ANSWER_BATCH ? BATCH_TYPE : TRACED_BATCH_TYPE, &text);
}

/* What the client asked for, sent in pieces: some of the payloads are in files. */
static void answer_pieces(struct call *call, struct store_lot *lot)
{
	struct download *d = download_new(call, 200, lot->count);
	char lease[48], duration[WH__DURATION_TEXT_BYTES];
	struct wh__text *text;
	bool json;

	if (!d) {
		answer_problem(call->api, call->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		store_lot_return(call->api->store, lot);
		call_end(call);
		return;
	}
	/* in the middle of a file no event in JSON is told: these are told as without Accept */
	if (call->action == ANSWER_EVENT)
		call->action = ANSWER_PAYLOAD;
	else if (call->action == ANSWER_EVENTS)
		call->action = ANSWER_JSON;
	json = call->action == ANSWER_JSON;
	text = download_text(d);
	for (size_t i = 0; i < lot->count; i++) {
		struct store_leased *leased = &lot->jobs[i];

		if (call->action == ANSWER_PAYLOAD) {
			set_payload_fields(call, leased);
		} else if (json) {
			wh__text_str(text, i ? "\"}," : "{\"jobs\":[");
			put_json_job(text, leased, lease, duration);
		} else {
			(void)put_batch_job(text, leased, call->action == ANSWER_TRACED_BATCH, 0);
		}
		download_add(d, leased->payload);
	}
	if (json) {
		wh__text_str(text, "\"}]}\n");
		set(call->x, "Content-Type", "application/json", 16);
	} else if (call->action != ANSWER_PAYLOAD) {
		set_batch_type(call);
	}
	download_start(d, json, lot);
}

static bool in_files(const struct store_lot *lot)
{
	for (size_t i = 0; i < lot->count; i++) {
		if (lot->jobs[i].payload->blob.number != 0)
			return true;
	}
	return false;
}

static void no_job(struct call *call, int64_t error)
{
	char subject[TARGET_NAME_BYTES_MAX + 20];

	answer_preference(call->x, &call->prefer, true);
	if (error == -ECANCELED && call->api->draining) {
		answer_problem(call->api, call->x, PROBLEM_DRAINING, NULL,
		               "the server is stopping; ask again when it is back");
	} else if (error == 0 || error == -ETIMEDOUT || error == -ECANCELED) {
		answer_bytes(call->api, call->x, 204, NULL, NULL, 0);
	} else {
		snprintf(subject, sizeof(subject), "queue '%.*s'", SHOWN(call));
		answer_error(call->api, call->x, error, NULL, JOB_NONE, subject);
	}
	call_end(call);
}

/* -WH_EDAMAGED and the like: a payload that cannot be read is no payload. */
static struct store_leased *unreadable(struct store_lot *lot)
{
	for (size_t i = 0; i < lot->count; i++) {
		if (!lot->jobs[i].payload)
			return &lot->jobs[i];
	}
	return NULL;
}

static void reserved(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_lot *lot = res.ptr;
	struct store_leased *bad;
	bool made = true;

	res.n = parked_remove(call, res.n);
	if (res.n <= 0 || !lot) {
		no_job(call, res.n);
		return;
	}
	if (call->gone || wh_http_is_closed(call->x)) {
		store_lot_return(call->api->store, lot);
		no_job(call, -ECANCELED);
		return;
	}
	bad = unreadable(lot);
	if (bad) {
		char subject[40];
		snprintf(subject, sizeof(subject), "payload of job %llu", (unsigned long long)bad->job);
		answer_error(call->api, call->x, bad->error, NULL, JOB_NONE, subject);
		reserve_give_back(call, lot, (size_t)(bad - lot->jobs), bad->error);
		call_end(call);
		return;
	}
	answer_committed(call->x, lot->level, lot->position);
	answer_preference(call->x, &call->prefer, true);
	if (in_files(lot)) {
		answer_pieces(call, lot);
		return;
	}
	if (call->action == ANSWER_PAYLOAD)
		answer_payload(call, &lot->jobs[0]);
	else if (call->action == ANSWER_JSON)
		made = answer_json(call, lot);
	else if (call->action == ANSWER_EVENT || call->action == ANSWER_EVENTS)
		made = answer_events(call, lot);
	else
		made = answer_batch(call, lot);
	if (made)
		store_lot_free(lot);
	else /* nobody has been given them: no attempt is lost */
		store_lot_return(call->api->store, lot);
	call_end(call);
}

/* "; trace=1" behind the type. */
static bool wants_trace(struct wh_slice accept)
{
	static const char wanted[] = "trace=1";
	size_t at = sizeof(BATCH_TYPE) - 1;

	if (at == accept.len || accept.data[at++] != ';')
		return false;
	while (at < accept.len && (accept.data[at] == ' ' || accept.data[at] == '\t'))
		at++;
	return accept.len - at >= sizeof(wanted) - 1 &&
	       strncasecmp(accept.data + at, wanted, sizeof(wanted) - 1) == 0 &&
	       (accept.len - at == sizeof(wanted) - 1 || strchr("; \t,", accept.data[at + 7]));
}

static uint8_t answer_form(const struct request *request, bool many)
{
	struct wh_slice accept = request->accept;

	if (accept.data && request_is_type(accept, BATCH_TYPE))
		return wants_trace(accept) ? ANSWER_TRACED_BATCH : ANSWER_BATCH;
	if (accept.data && request_is_type(accept, EVENT_BATCH_TYPE))
		return ANSWER_EVENTS;
	if (accept.data && request_is_type(accept, EVENT_TYPE))
		return many ? ANSWER_EVENTS : ANSWER_EVENT;
	return many ? ANSWER_JSON : ANSWER_PAYLOAD;
}

/* The queues of recorded calls and of kept events are not for workers. */
static bool is_own_queue(struct request *request)
{
	static const struct {
		const char *prefix, *why;
	} own[] = {
		{SERVICE_QUEUE_PREFIX, "the gateway itself takes the jobs of queues that begin with call/"},
		{TOPIC_QUEUE_PREFIX, "what topics keep is in queues that begin with topic/; a subscription "
	                             "has a queue to take jobs from"}};

	const size_t skip = job_name_skip(request->name, request->name_len);

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		size_t len = strlen(own[i].prefix);

		if (request->name_len < skip + len || memcmp(request->name + skip, own[i].prefix, len) != 0)
			continue;
		answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL, "queue '%.*s': %s",
		               SHOWN(request), own[i].why);
		return true;
	}
	if (!service_owns_queue(request->name, request->name_len))
		return false;
	answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL,
	               "queue '%.*s': the server itself sends what is in the queues of callbacks",
	               SHOWN(request));
	return true;
}

void api_reserve(struct request *request)
{
	struct option options[] = {{"n", OPTION_NUMBER, 1, JOB_RESERVE_MAX, false, 1, ""}};
	struct store_slice queue = request_queue(request);
	struct store_reserve reserve = {.queues = &queue, .queues_count = 1};
	struct call *call;

	if (is_own_queue(request))
		return;
	if (!request_level(request, false, &reserve.level) || !request_options(request, options, 1))
		return;
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	call_set_wait(call, request);
	call->action = answer_form(request, options[0].given);
	reserve.jobs_max = (uint32_t)options[0].value;
	if (call->action == ANSWER_JSON || call->action == ANSWER_EVENTS)
		reserve.bytes_max = JSON_PAYLOADS_MAX;
	reserve.wait = request->prefer.wait && request->prefer.wait_s > 0;
	if (!reserve.wait) {
		call_then(call, store_reserve(request->api->store, &reserve), reserved);
		return;
	}
	/* a lease handed to a connection that is half closed would be lost with it */
	call_watch(call, true);
	call_park(call, store_reserve(request->api->store, &reserve), reserved);
}
