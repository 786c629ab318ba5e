/* src/front/answer.c -- answers: counted, with their common header fields; a job as JSON. See api.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "deliver/trace.h"
#include "front/after.h"
#include "front/api.h"
#include "front/batch.h"

enum { ANSWER_BYTES = 2048 };

const char *answer_state(int state)
{
	static const char *const names[JOB_STATES] = {"none",   "delayed",   "ready",  "running", "done",
	                                              "failed", "cancelled", "buried", "awaiting"};

	return state >= 0 && state < JOB_STATES ? names[state] : "none";
}

const char *answer_level(int level)
{
	static const char *const names[] = {"local", "async", "local", "remote-write", "remote-flush"};

	return level >= 0 && level <= STORE_REMOTE_FLUSH ? names[level] : "local";
}

struct wh_slice answer_slice(struct store_slice slice)
{
	return (struct wh_slice){slice.data ? slice.data : "", slice.len};
}

/* What a request was about, for figures; what waits because its client asked for it says nothing of how fast the server is. */
static enum answer_class class_of(const wh_http_exchange *x)
{
	const struct route *route = wh_http_arg(x);

	if (!route)
		return ANSWER_OTHER;
	switch (route->action) {
	case TOKEN_SUBMIT:
		return ANSWER_SUBMIT;
	case TOKEN_WORK:
		return ANSWER_WORK;
	case TOKEN_READ:
		return ANSWER_READ;
	case TOKEN_CALL:
		return ANSWER_CALL;
	case TOKEN_ADMIN:
		return ANSWER_ADMIN;
	case TOKEN_ACTIONS:
		return ANSWER_WAIT;
	default:
		return ANSWER_OTHER;
	}
}

void answer_count(struct api *api, wh_http_exchange *x, int status)
{
	api->codes[status]++;
	wh__histogram_add(&api->seconds[class_of(x)], wh_now(api->loop) - wh_http_received_at(x),
	                  STORE_COMMIT_SHIFT);
}

void answer_waits(wh_http_exchange *x)
{
	static const struct route waiting = {.path = "", .action = TOKEN_ACTIONS};

	wh_http_set_arg(x, (void *)(uintptr_t)&waiting);
}

void answer_bytes(struct api *api, wh_http_exchange *x, int status, const char *type, const void *body,
                  size_t len)
{
	answer_count(api, x, status);
	if (type)
		wh_http_set(x, "Content-Type", type);
	wh_http_respond(x, status, body, len);
}

void answer_text(struct api *api, wh_http_exchange *x, int status, const char *type, struct wh__text *text)
{
	if (text->failed)
		answer_problem(api, x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	else
		answer_bytes(api, x, status, type, text->data, text->len);
	wh__text_done(text);
}

void answer_done(struct api *api, wh_http_exchange *x, int status, const char *type, struct wh__text *text)
{
	bool is_json = strcmp(type, "application/json") == 0;

	if (text->failed)
		answer_bytes(api, x, status, is_json ? type : NULL, "{}\n", is_json ? 3 : 0);
	else
		answer_bytes(api, x, status, type, text->data, text->len);
	wh__text_done(text);
}

static void respond_problem(struct api *api, wh_http_exchange *x, enum problem problem, const char *members,
                            const char *detail, va_list list) __attribute__((format(printf, 5, 0)));

static void respond_problem(struct api *api, wh_http_exchange *x, enum problem problem, const char *members,
                            const char *detail, va_list list)
{
	static const char last[] =
		"{\"type\":\"urn:whilst:problem:too-busy\",\"title\":\"A limit of the server is reached\","
		"\"status\":503,\"code\":\"too-busy\",\"detail\":\"out of memory\"}\n";
	char given[ANSWER_BYTES];
	struct wh__text text;
	int status = problem_status(problem);

	wh__text_init(&text, given, sizeof(given));
	problem_write(&text, problem, members, detail, list);
	/* who knows better has said so already */
	if (problem != PROBLEM_BACKEND_UNAVAILABLE && problem != PROBLEM_TOO_MANY_REQUESTS &&
	    (status == 503 || status == 429 || problem == PROBLEM_NOT_READY))
		wh_http_set(x, "Retry-After", "1");
	if (text.failed)
		answer_bytes(api, x, 503, "application/problem+json", last, sizeof(last) - 1);
	else
		answer_bytes(api, x, status, "application/problem+json", text.data, text.len);
	wh__text_done(&text);
}

void answer_problem(struct api *api, wh_http_exchange *x, enum problem problem, const char *members,
                    const char *detail, ...)
{
	va_list list;

	va_start(list, detail);
	respond_problem(api, x, problem, members, detail, list);
	va_end(list);
}

enum problem answer_problem_of(int64_t error)
{
	static const struct {
		int64_t error;
		enum problem problem;
	} table[] = {
		{JOB_EUNKNOWN_JOB, PROBLEM_UNKNOWN_JOB},
		{JOB_EEXPIRED, PROBLEM_EXPIRED},
		{JOB_EUNKNOWN_QUEUE, PROBLEM_UNKNOWN_QUEUE},
		{JOB_EUNKNOWN_SETTING, PROBLEM_UNKNOWN_SERVICE},
		{JOB_ELEASE_LOST, PROBLEM_LEASE_LOST},
		{JOB_ECANCELLED, PROBLEM_JOB_CANCELLED},
		{JOB_EFINISHED, PROBLEM_JOB_FINISHED},
		{JOB_ESTATE, PROBLEM_WRONG_STATE},
		{JOB_ENOT_READY, PROBLEM_NOT_READY},
		{JOB_ENO_RESULT, PROBLEM_NOT_READY},
		{JOB_EQUEUE_FULL, PROBLEM_QUEUE_FULL},
		{JOB_ENOT_EMPTY, PROBLEM_QUEUE_NOT_EMPTY},
		{JOB_ETOO_LARGE, PROBLEM_TOO_LARGE},
		{JOB_EVALUE, PROBLEM_BAD_VALUE},
		{JOB_ETWICE, PROBLEM_BAD_REQUEST},
		{JOB_EMEMORY_FULL, PROBLEM_TOO_BUSY},
		{JOB_ELEVEL, PROBLEM_LEVEL_UNAVAILABLE},
		{JOB_ELOST, PROBLEM_LOST},
		{JOB_EBUSY, PROBLEM_TOO_BUSY},
		{JOB_EIN_USE, PROBLEM_WRONG_STATE},
		{JOB_EDEAD_LOOP, PROBLEM_BAD_VALUE},
		{JOB_EKEY, PROBLEM_KEY_REUSED},
		{JOB_EKEYS_FULL, PROBLEM_TOO_BUSY},
		{JOB_EVERSION, PROBLEM_PRECONDITION_FAILED},
		{JOB_EAWAITED, PROBLEM_UNKNOWN_AWAITED},
		{JOB_EAWAITED_FULL, PROBLEM_AWAITED_FULL},
		{JOB_ENAMESPACE_FULL, PROBLEM_NAMESPACE_FULL},
		{WH_EDAMAGED, PROBLEM_DAMAGED},
		{ENOSPC, PROBLEM_DISK_FULL},
		{EDQUOT, PROBLEM_DISK_FULL},
		{ENOMEM, PROBLEM_TOO_BUSY},
		{EAGAIN, PROBLEM_TOO_BUSY},
		{ENOBUFS, PROBLEM_TOO_BUSY},
		{ECANCELED, PROBLEM_DRAINING},
	};

	if (error < 0)
		error = -error;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (table[i].error == error)
			return table[i].problem;
	}
	return PROBLEM_INTERNAL;
}

void answer_limit(struct api *api, wh_http_exchange *x, enum problem problem, uint64_t limit,
                  const char *more, const char *detail, ...)
{
	char members[PROBLEM_MEMBERS_BYTES];
	va_list list;

	va_start(list, detail);
	respond_problem(api, x, problem, problem_limit(members, limit, more), detail, list);
	va_end(list);
}

void answer_refused(struct api *api, wh_http_exchange *x, const struct refused *r)
{
	const char *why = r->reason && *r->reason ? r->reason : job_strerror(r->error), *name;
	enum problem problem = r->in_action ? PROBLEM_ACTION_REFUSED : answer_problem_of(r->error);
	uint64_t limit = store_limit(api->store, r->error, r->queue, &name);

	if (limit > 0 && !r->in_action)
		answer_limit(api, x, problem, limit, r->members, "%s: %s, %s is %llu", r->subject,
		             job_strerror(r->error), name, (unsigned long long)limit);
	else
		answer_limit(api, x, problem, limit > 0 ? limit : r->limit, r->members, "%s: %s%s",
		             r->subject, why, r->in_action ? "; nothing was done" : "");
}

void answer_error(struct api *api, wh_http_exchange *x, int64_t error, const char *reason, int state,
                  const char *subject)
{
	char members[40] = "";

	if (state > JOB_NONE)
		snprintf(members, sizeof(members), ",\"state\":\"%s\"", answer_state(state));
	answer_refused(
		api, x,
		&(struct refused){.error = error, .reason = reason, .members = members, .subject = subject});
}

void answer_commit_refused(struct call *call, wh_res res, struct store_slice queue, const char *members,
                           const char *subject)
{
	const struct store_commit *commit = res.n < 0 ? NULL : res.ptr;

	answer_refused(call->api, call->x,
	               &(struct refused){.error = commit ? commit->error : res.n,
	                                 .reason = commit ? commit->reason : NULL,
	                                 .limit = commit ? commit->limit : 0,
	                                 .queue = queue,
	                                 .members = members,
	                                 .subject = subject});
}

void answer_committed(wh_http_exchange *x, int level, struct store_position position)
{
	char text[32];
	size_t len = wh__put_u64(text, position.epoch);

	text[len++] = '/';
	len += wh__put_u64(text + len, position.lsn);
	wh_http_set(x, "Whilst-Commit", answer_level(level));
	wh_http_set_slice(x, (struct wh_slice){"Whilst-Position", 15}, (struct wh_slice){text, len});
}

void answer_preference(wh_http_exchange *x, const struct prefer *prefer, bool vary)
{
	char applied[PREFER_APPLIED_BYTES];
	size_t len = prefer_applied(prefer, applied);

	if (len > 0)
		wh_http_set_slice(x, (struct wh_slice){"Preference-Applied", 18},
		                  (struct wh_slice){applied, len});
	if (vary)
		wh_http_set(x, "Vary", "Prefer");
}

static void put_instant(struct wh__text *text, const char *name, int64_t at)
{
	char instant[WH__INSTANT_TEXT_BYTES];

	if (at == 0)
		wh__text_format(text, ",\"%s\":null", name);
	else
		wh__text_format(text, ",\"%s\":\"%.*s\"", name, (int)wh__put_instant(instant, at), instant);
}

/* A name as a client of this namespace is told it. What is of another one, because an administrator has moved the job, it is not told. */
static void put_name(struct wh__text *text, struct wh_slice namespace, struct store_slice name)
{
	struct wh_slice shown = namespace_show(namespace, answer_slice(name));

	if (shown.len > 0)
		wh__text_json(text, shown.data, shown.len);
	else
		wh__text_str(text, "null");
}

static void put_text(struct wh__text *text, const char *name, struct store_slice value)
{
	wh__text_format(text, ",\"%s\":", name);
	if (value.len > 0)
		wh__text_json(text, value.data, value.len);
	else
		wh__text_str(text, "null");
}

static void put_errors(struct wh__text *text, const struct store_view *view)
{
	char instant[WH__INSTANT_TEXT_BYTES];

	wh__text_str(text, ",\"errors\":[");
	for (uint32_t i = 0; i < view->errors_count; i++) {
		const struct store_error *error = &view->errors[i];
		wh__text_format(text, "%s{\"attempt\":%u,\"at\":\"%.*s\",\"message\":", i ? "," : "",
		                error->attempt, (int)wh__put_instant(instant, error->at), instant);
		wh__text_json(text, error->text.data, error->text.len);
		wh__text_put(text, "}", 1);
	}
	wh__text_put(text, "]", 1);
}

void answer_view(struct wh__text *text, const struct store_view *view, struct wh_slice namespace)
{
	char duration[WH__DURATION_TEXT_BYTES];
	struct wh_slice trace, state;

	wh__text_format(text, "{\"id\":%llu,\"queue\":", (unsigned long long)view->job);
	put_name(text, namespace, view->queue);
	wh__text_format(text, ",\"state\":\"%s\",\"priority\":%u,\"attempts\":%u,\"attempts_max\":",
	                answer_state(view->state), view->priority, view->attempts);
	if (view->attempts_max == JOB_ATTEMPTS_UNLIMITED)
		wh__text_str(text, "null");
	else
		wh__text_u64(text, view->attempts_max);
	put_instant(text, "created_at", view->created_at);
	put_instant(text, "run_at", view->run_at);
	put_instant(text, "deadline", view->deadline);
	put_instant(text, "finished_at", view->finished_at);
	put_instant(text, "expires_at", view->begin_by);
	put_text(text, "unique", view->unique);
	put_text(text, "group", view->group);
	wh__text_str(text, ",\"dead_from\":");
	put_name(text, namespace, view->dead_from);
	wh__text_str(text, ",\"awaits\":");
	after_put(text, view);
	wh__text_format(text, ",\"time_to_run\":\"%.*s\"",
	                (int)wh__put_duration(duration, view->time_to_run_ns), duration);
	wh__text_format(text, ",\"retention\":\"%.*s\"", (int)wh__put_duration(duration, view->retention_ns),
	                duration);
	wh__text_str(text, ",\"content_type\":");
	wh__text_json(text, view->content_type.data, view->content_type.len);
	trace_split(view->trace.data, view->trace.len, &trace, &state);
	wh__text_str(text, ",\"traceparent\":");
	if (trace.data)
		wh__text_json(text, trace.data, trace.len);
	else
		wh__text_str(text, "null");
	wh__text_format(text, ",\"bytes\":%llu,\"progress\":", (unsigned long long)view->payload_bytes);
	/* progress was checked to be JSON when it came */
	if (view->progress.len > 0)
		wh__text_put(text, view->progress.data, view->progress.len);
	else
		wh__text_str(text, "null");
	wh__text_format(text, ",\"cancel_requested\":%s", view->cancel_requested ? "true" : "false");
	put_errors(text, view);
	if (view->state == JOB_DONE) {
		wh__text_format(
			text, ",\"result\":{\"url\":\"/v1/jobs/%llu/result\",\"status\":%u,\"content_type\":",
			(unsigned long long)view->job, view->result_status);
		wh__text_json(text, view->result_content_type.data, view->result_content_type.len);
		wh__text_format(text, ",\"bytes\":%llu}}", (unsigned long long)view->result_bytes);
	} else {
		wh__text_str(text, ",\"result\":null}");
	}
}

void batch_refuse(struct request *request, const struct batch *batch, int wrong)
{
	uint64_t item_max = request->api->options.payload_bytes_max;
	struct api *api = request->api;
	char members[64];

	switch (wrong) {
	case BATCH_EMPTY:
		answer_problem(api, request->x, PROBLEM_BAD_REQUEST, NULL, "the batch is empty");
		break;
	case BATCH_CUT:
		answer_problem(api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "the body ends within item %zu, which is a length of four bytes and as many "
		               "bytes as it says",
		               batch->bad);
		break;
	case BATCH_TOO_MANY:
		answer_limit(api, request->x, PROBLEM_TOO_LARGE, BATCH_ITEMS_MAX, NULL,
		             "a batch has at most %d items", BATCH_ITEMS_MAX);
		break;
	case BATCH_ITEM_TOO_LARGE:
		answer_limit(api, request->x, PROBLEM_TOO_LARGE, item_max, NULL,
		             "item %zu has more than %llu bytes", batch->bad, (unsigned long long)item_max);
		break;
	case BATCH_BAD_JSON:
		snprintf(members, sizeof(members), ",\"line\":%d,\"column\":%d", batch->line, batch->column);
		answer_problem(api, request->x, PROBLEM_BAD_JSON, members, "line %d, column %d: %s",
		               batch->line, batch->column, batch->detail);
		break;
	default:
		answer_problem(api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	}
}

void answer_kept(wh_http_exchange *x, struct store_slice headers)
{
	const char *at = headers.data, *end = at + headers.len;

	while (at < end) {
		const char *line_end = memmem(at, (size_t)(end - at), "\r\n", 2);
		const char *colon = line_end ? memchr(at, ':', (size_t)(line_end - at)) : NULL;
		if (!colon || colon + 2 > line_end)
			return;
		wh_http_add_slice(x, (struct wh_slice){at, (size_t)(colon - at)},
		                  (struct wh_slice){colon + 2, (size_t)(line_end - colon - 2)});
		at = line_end + 2;
	}
}

void answer_event(wh_http_exchange *x, const struct store_bytes *payload)
{
	char text[40];

	if (payload->event.epoch == 0)
		return;
	snprintf(text, sizeof(text), "%u/%llu", payload->event.epoch, (unsigned long long)payload->event.lsn);
	wh_http_set(x, "Whilst-Event", text);
}
