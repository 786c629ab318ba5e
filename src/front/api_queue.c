/* src/front/api_queue.c -- /v1/queues: list, counters, configure, pause, resume, remove. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/units.h"
#include "front/event_stream.h"

#define DAY_NS (INT64_C(86400) * WH_NS_PER_S)

static void refused(struct call *call, int64_t error, const char *reason)
{
	char subject[TARGET_NAME_BYTES_MAX + 20];

	snprintf(subject, sizeof(subject), "queue '%.*s'", (int)call->name_len, call->name);
	answer_error(call->api, call->x, error, reason, JOB_NONE, subject);
	call_end(call);
}

static void put_queue(struct wh__text *text, const struct store_queue_view *queue)
{
	static const int order[] = {JOB_DELAYED, JOB_READY,     JOB_RUNNING, JOB_DONE,
	                            JOB_FAILED,  JOB_CANCELLED, JOB_BURIED};
	char duration[WH__DURATION_TEXT_BYTES];

	wh__text_str(text, "{\"name\":");
	wh__text_json(text, queue->name.data, queue->name.len);
	wh__text_format(text, ",\"paused\":%s,\"jobs\":{", queue->paused ? "true" : "false");
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		wh__text_format(text, "%s\"%s\":%llu", i ? "," : "", answer_state(order[i]),
		                (unsigned long long)queue->jobs[order[i]]);
	wh__text_format(text, "},\"submitted\":%llu,\"time_to_run\":\"%.*s\"",
	                (unsigned long long)queue->submitted,
	                (int)wh__put_duration(duration, queue->config.time_to_run_ns), duration);
	wh__text_format(text,
	                ",\"attempts\":%u,\"retention\":\"%.*s\",\"jobs_max\":", queue->config.attempts_max,
	                (int)wh__put_duration(duration, queue->config.retention_ns), duration);
	if (queue->config.jobs_max > 0)
		wh__text_u64(text, queue->config.jobs_max);
	else
		wh__text_str(text, "null");
	wh__text_str(text, ",\"finished_max\":");
	if (queue->config.finished_max > 0)
		wh__text_u64(text, queue->config.finished_max);
	else
		wh__text_str(text, "null");
	wh__text_put(text, "}", 1);
}

static void listed(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_queues *queues = res.ptr;
	char given[2048];
	struct wh__text text;

	if (res.n < 0) {
		refused(call, res.n, NULL);
		return;
	}
	wh__text_init(&text, given, sizeof(given));
	if (call->action)
		wh__text_str(&text, "{\"queues\":[");
	for (size_t i = 0; queues && i < queues->count; i++) {
		if (i > 0)
			wh__text_put(&text, ",", 1);
		put_queue(&text, &queues->queues[i]);
	}
	wh__text_str(&text, call->action ? "]}\n" : "\n");
	answer_text(call->api, call->x, 200, "application/json", &text);
	store_queues_free(queues);
	call_end(call);
}

static void look(struct request *request, bool all)
{
	struct store *store = request->api->store;
	struct call *call;
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, false, &level))
		return;
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	if (all && event_stream_wanted(request)) {
		api_queue_stream(call, request->last_event_id);
		return;
	}
	call->action = all;
	call_then(call, all ? store_queues(store) : store_queue(store, request_queue(request)), listed);
}

void api_queue_list(struct request *request)
{
	look(request, true);
}

void api_queue_get(struct request *request)
{
	look(request, false);
}

void api_queue_events(struct request *request)
{
	struct call *call;
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, false, &level))
		return;
	if (wh_http_method(request->x) == WH_HTTP_HEAD) {
		answer_bytes(request->api, request->x, 200, "text/event-stream", NULL, 0);
		return;
	}
	call = call_new(request, CALL_OTHER);
	if (call)
		api_queue_stream(call, request->last_event_id);
}

static void changed(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	char body[TARGET_NAME_BYTES_MAX * 2 + 16], location[TARGET_NAME_BYTES_MAX * 3 + 16];
	struct wh__text text;
	int status = 200;

	if (res.n < 0) {
		refused(call, res.n, NULL);
		return;
	}
	if (commit->error != 0) {
		refused(call, commit->error, commit->reason);
		store_commit_free(commit);
		return;
	}
	if (call->action == STORE_QUEUE_PUT && commit->results[0].created) {
		size_t len = 11;
		memcpy(location, "/v1/queues/", len);
		len += target_encode(call->name, call->name_len, location + len);
		wh_http_set_slice(call->x, (struct wh_slice){"Location", 8},
		                  (struct wh_slice){location, len});
		status = 201;
	}
	wh__text_init(&text, body, sizeof(body));
	wh__text_str(&text, "{\"name\":");
	wh__text_json(&text, call->name, call->name_len);
	wh__text_str(&text, "}\n");
	answer_committed(call->x, commit->level, commit->position);
	answer_text(call->api, call->x, status, "application/json", &text);
	store_commit_free(commit);
	call_end(call);
}

static void change(struct request *request, int kind, const struct job_queue_config *config)
{
	struct store_action action = {.kind = kind, .queue.name = request_queue(request)};
	struct call *call;
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, true, &level))
		return;
	if (config)
		action.queue.config = *config;
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	call->action = (uint8_t)kind;
	call_then(call, store_apply(request->api->store, &action, 1, 0, level), changed);
}

void api_queue_delete(struct request *request)
{
	if (service_find(&request->api->targets, request->name, request->name_len)) {
		answer_problem(request->api, request->x, PROBLEM_HAS_TARGET, NULL,
		               "queue '%.*s' is pushed to a target, which would make it anew; DELETE "
		               "/v1/queues/{queue}/target first",
		               (int)request->name_len, request->name);
		return;
	}
	change(request, STORE_QUEUE_DELETE, NULL);
}

void api_queue_pause(struct request *request)
{
	change(request, STORE_QUEUE_PAUSE, NULL);
}

void api_queue_resume(struct request *request)
{
	change(request, STORE_QUEUE_RESUME, NULL);
}

static bool bad_json(struct request *request, const char *key, const char *wanted)
{
	answer_problem(request->api, request->x, PROBLEM_BAD_JSON, NULL, "%.100s must be %s", key, wanted);
	return false;
}

static bool bad_value(struct request *request, const char *key, const char *range)
{
	answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL, "%s must be %s", key, range);
	return false;
}

static bool set_duration(struct request *request, const char *key, const json_t *value, int64_t min,
                         int64_t max, int64_t *ret)
{
	int64_t ns;

	if (!json_is_string(value) ||
	    !wh__parse_duration(json_string_value(value), json_string_length(value), &ns))
		return bad_json(request, key, "a duration with its unit, such as \"30s\"");
	if (ns < min || ns > max)
		return bad_value(request, key, min > 0 ? "from 1ms to 30d" : "at most 3650d");
	*ret = ns;
	return true;
}

static bool set_member(struct request *request, struct job_queue_config *config, const char *key,
                       const json_t *value)
{
	json_int_t number = json_is_integer(value) ? json_integer_value(value) : 0;

	if (strcmp(key, "time_to_run") == 0)
		return set_duration(request, key, value, WH_NS_PER_MS, 30 * DAY_NS, &config->time_to_run_ns);
	if (strcmp(key, "retention") == 0) {
		if (!set_duration(request, key, value, 0, 3650 * DAY_NS, &config->retention_ns))
			return false;
		if (config->retention_ns == 0)
			config->retention_ns = -1;
		return true;
	}
	if (strcmp(key, "attempts") == 0) {
		if (!json_is_integer(value))
			return bad_json(request, key, "a whole number");
		if (number < 1 || number > JOB_ATTEMPTS_MAX)
			return bad_value(request, key, "from 1 to 1000");
		config->attempts_max = (uint32_t)number;
		return true;
	}
	if (strcmp(key, "jobs_max") == 0 || strcmp(key, "finished_max") == 0) {
		bool finished = key[0] == 'f';

		if (!json_is_integer(value) && !json_is_null(value))
			return bad_json(request, key, "a whole number, or null for no limit");
		if (number < 0 || (json_is_integer(value) && number == 0))
			return bad_value(request, key, "1 or more");
		if (finished && number > UINT32_MAX)
			return bad_value(request, key, "below 2^32");
		*(finished ? &config->finished_max : &config->jobs_max) = (uint64_t)number;
		return true;
	}
	answer_problem(request->api, request->x, PROBLEM_BAD_JSON, NULL,
	               "there is no member \"%.100s\"; known: time_to_run, attempts, retention, jobs_max, "
	               "finished_max",
	               key);
	return false;
}

static bool read_config(struct request *request, struct job_queue_config *config)
{
	struct wh_slice body = request_body(request);
	json_error_t error;
	json_t *root = json_loadb(body.data ? body.data : "", body.len, JSON_REJECT_DUPLICATES, &error),
	       *value;
	char members[64];
	const char *key;
	bool good = json_is_object(root);

	if (!root) {
		snprintf(members, sizeof(members), ",\"line\":%d,\"column\":%d", error.line, error.column);
		answer_problem(request->api, request->x, PROBLEM_BAD_JSON, members, "line %d, column %d: %s",
		               error.line, error.column, error.text);
		return false;
	}
	if (!good)
		bad_json(request, "the body", "an object");
	json_object_foreach(root, key, value)
	{
		good = good && set_member(request, config, key, value);
	}
	json_decref(root);
	return good;
}

void api_queue_put(struct request *request)
{
	struct job_queue_config config = {0};

	if (request_json(request) && read_config(request, &config))
		change(request, STORE_QUEUE_PUT, &config);
}
