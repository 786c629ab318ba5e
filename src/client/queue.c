/* src/client/queue.c -- queues: listed, configured, paused, removed. Thread: loop. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"
#include "client/members.h"

static struct wh__ask *ask_queue(wh_client *client, const char *method, const char *queue, const char *verb,
                                 const struct wh_how *how, wh__ask_answer *answer, wh_future *ret_failed)
{
	struct wh__ask *ask = wh__ask_named(client, method, "/v1/queues/", queue, how, answer, ret_failed);

	if (ask)
		wh__ask_path(ask, verb);
	return ask;
}

/* ---- changed ------------------------------------------------------------------------------- */

static void put_count(struct wh__text *json, const char *name, uint64_t number)
{
	if (number == 0)
		return;
	wh__member_number(json, name, number);
}

static void put_policies(struct wh__text *json, const struct wh_queue_settings *settings)
{
	uint32_t pauses = settings->backoff_count <= 16 ? settings->backoff_count : 16;

	if (pauses > 0)
		wh__member(json, "backoff");
	for (uint32_t i = 0; i < pauses; i++)
		wh__text_format(json, "%s\"%lldms\"", i ? "," : "[",
		                (long long)((settings->backoffs_ns[i] + WH_NS_PER_MS - 1) / WH_NS_PER_MS));
	if (pauses > 0)
		wh__text_put(json, "]", 1);
	else if (settings->backoff_ns > 0)
		wh__member_duration(json, "backoff", settings->backoff_ns);
	if (pauses == 0 && settings->backoff_max_ns > 0)
		wh__member_duration(json, "backoff_max", settings->backoff_max_ns);
	if (settings->backoff_jitter != 0) {
		wh__member(json, "backoff_jitter");
		wh__text_format(json, "%d", settings->backoff_jitter > 0 ? settings->backoff_jitter : 0);
	}
	wh__member_string(json, "dead_letter", settings->dead_letter);
	put_count(json, "concurrency", settings->concurrency);
	wh__member_string(json, "rate", settings->rate);
	put_count(json, "rate_burst", settings->rate_burst);
	put_count(json, "group_concurrency", settings->group_concurrency);
	wh__member_string(json, "group_rate", settings->group_rate);
	put_count(json, "group_rate_burst", settings->group_rate_burst);
}

wh_future wh_client_queue_put(wh_client *client, const char *queue, const struct wh_queue_settings *settings,
                              const struct wh_how *how)
{
	static const struct wh_queue_settings defaults;
	wh_future failed;
	struct wh__ask *ask = ask_queue(client, "PUT", queue, "", how, wh__answer_created, &failed);
	struct wh__text json;
	size_t len;

	if (!ask)
		return failed;
	if (!settings)
		settings = &defaults;
	wh__text_init(&json, NULL, 0);
	wh__text_put(&json, "{", 1);
	if (settings->time_to_run_ns > 0)
		wh__member_duration(&json, "time_to_run", settings->time_to_run_ns);
	if (settings->retention_ns != 0)
		wh__member_duration(&json, "retention",
		                    settings->retention_ns > 0 ? settings->retention_ns : 0);
	if (settings->attempts > 0) {
		wh__member(&json, "attempts");
		wh__text_u64(&json, settings->attempts);
	}
	if (settings->jobs_max > 0) {
		wh__member(&json, "jobs_max");
		wh__text_u64(&json, settings->jobs_max);
	}
	put_policies(&json, settings);
	wh__text_put(&json, "}", 1);
	wh__ask_field(ask, "Content-Type", "application/json", 16);
	len = json.len;
	if (!wh__ask_bytes(ask, wh__text_take(&json), len))
		return wh__ask_refuse(ask, -ENOMEM);
	return wh__ask_start(ask);
}

wh_future wh_client_queue_delete(wh_client *client, const char *queue, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_queue(client, "DELETE", queue, "", how, wh__answer_zero, &failed);

	return ask ? wh__ask_start(ask) : failed;
}

wh_future wh_client_queue_pause(wh_client *client, const char *queue, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_queue(client, "POST", queue, "/pause", how, wh__answer_zero, &failed);

	return ask ? wh__ask_start(ask) : failed;
}

wh_future wh_client_queue_resume(wh_client *client, const char *queue, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = ask_queue(client, "POST", queue, "/resume", how, wh__answer_zero, &failed);

	return ask ? wh__ask_start(ask) : failed;
}

/* ---- many jobs ----------------------------------------------------------------------------- */

static void put_text_option(struct wh__ask *ask, const char *name, const char *text)
{
	if (!text)
		return;
	wh__ask_query(ask, name);
	wh__ask_segment(ask, text);
}

static void put_number_option(struct wh__ask *ask, const char *name, uint64_t number)
{
	if (number == 0)
		return;
	wh__ask_query(ask, name);
	wh__ask_number(ask, number);
}

static void put_duration_option(struct wh__ask *ask, const char *name, int64_t ns)
{
	if (ns <= 0)
		return;
	wh__ask_query(ask, name);
	wh__ask_duration(ask, ns);
}

static void answer_count(struct wh__ask *ask, struct wh_http_response *response)
{
	uint64_t count;

	if (response->status != 200 ||
	    !wh__json_u64(wh__json_member(wh__body_json(response), "count"), &count) || count > INT64_MAX ||
	    !wh__ask_receipt(ask, response)) {
		wh__ask_garbled(ask, response);
		return;
	}
	wh_http_response_free(response);
	wh__ask_end(ask, (int64_t)count, NULL, NULL);
}

/* false: no memory. */
static bool put_ids(struct wh__ask *ask, const struct wh_many *many)
{
	struct wh__text json;
	size_t len;

	wh__text_init(&json, NULL, 0);
	wh__text_str(&json, "{\"ids\":[");
	for (size_t i = 0; i < many->id_count; i++) {
		if (i > 0)
			wh__text_put(&json, ",", 1);
		wh__text_u64(&json, many->ids[i]);
	}
	wh__text_put(&json, "]}", 2);
	wh__ask_field(ask, "Content-Type", "application/json", 16);
	len = json.len;
	return wh__ask_bytes(ask, wh__text_take(&json), len);
}

wh_future wh_client_many(wh_client *client, const char *queue, int verb, const struct wh_many *many,
                         const struct wh_how *how)
{
	static const char *const verbs[] = {NULL, "/purge", "/kick", "/replay", "/move"};
	static const struct wh_many all;
	wh_future failed;
	struct wh__ask *ask = ask_queue(client, "POST", queue,
	                                verb >= WH_MANY_PURGE && verb <= WH_MANY_MOVE ? verbs[verb] : "", how,
	                                answer_count, &failed);

	if (!ask)
		return failed;
	if (verb < WH_MANY_PURGE || verb > WH_MANY_MOVE)
		return wh__ask_refuse(ask, -EINVAL);
	if (!many)
		many = &all;
	put_text_option(ask, "state", many->state);
	put_text_option(ask, "to", many->to);
	put_number_option(ask, "from", many->from);
	put_number_option(ask, "until", many->until);
	put_number_option(ask, "count", many->count);
	put_text_option(ask, "dead", many->dead ? "true" : NULL);
	put_text_option(ask, "error", many->error);
	put_duration_option(ask, "older", many->older_ns);
	put_duration_option(ask, "newer", many->newer_ns);
	if (many->id_count > 0 && !put_ids(ask, many))
		return wh__ask_refuse(ask, -ENOMEM);
	return wh__ask_start(ask);
}

/* ---- listed -------------------------------------------------------------------------------- */

struct wh_queues *wh_queues_free(struct wh_queues *queues)
{
	free(queues);
	return NULL;
}

static void dispose(wh_res res, void *arg)
{
	(void)arg;
	wh_queues_free(res.ptr);
}

/* Absent and null: 0. */
static void take_count(struct wh_slice json, const char *name, uint32_t *ret)
{
	uint64_t number;

	*ret = wh__json_u64(wh__json_member(json, name), &number) && number <= UINT32_MAX ? (uint32_t)number
	                                                                                  : 0;
}

static void take_policies(struct wh_slice json, struct wh_queue_settings *ret, char **strings)
{
	struct wh_slice backoff = wh__json_member(json, "backoff"), at = {NULL, 0};
	uint64_t percent;

	if (!wh__read_duration(backoff, &ret->backoff_ns))
		ret->backoff_ns = 0; /* a list */
	while (ret->backoff_count < 16 && wh__json_next(backoff, &at) &&
	       wh__read_duration(at, &ret->backoffs_ns[ret->backoff_count]))
		ret->backoff_count++;
	if (!wh__read_duration(wh__json_member(json, "backoff_max"), &ret->backoff_max_ns))
		ret->backoff_max_ns = 0;
	if (wh__json_u64(wh__json_member(json, "backoff_jitter"), &percent))
		ret->backoff_jitter = percent > 0 && percent <= 100 ? (int)percent : -1;
	ret->dead_letter = wh__take_string(json, "dead_letter", strings);
	ret->rate = wh__take_string(json, "rate", strings);
	take_count(json, "concurrency", &ret->concurrency);
	take_count(json, "rate_burst", &ret->rate_burst);
	take_count(json, "group_concurrency", &ret->group_concurrency);
	ret->group_rate = wh__take_string(json, "group_rate", strings);
	take_count(json, "group_rate_burst", &ret->group_rate_burst);
}

static bool take_queue(struct wh_slice json, void *thing, char **strings)
{
	struct wh_queue *queue = thing;
	struct wh_slice jobs = wh__json_member(json, "jobs");
	uint64_t attempts;
	size_t len;

	if (!wh__json_string(wh__json_member(json, "name"), *strings, &len))
		return false;
	queue->name = *strings;
	*strings += len + 1; /* the rest is zero */
	for (int state = WH_JOB_DELAYED; state < WH_JOB_STATES; state++) {
		if (!wh__json_u64(wh__json_member(jobs, wh_job_state_name(state)), &queue->jobs[state]))
			return false;
	}
	if (!wh__json_u64(wh__json_member(json, "jobs_max"), &queue->settings.jobs_max))
		queue->settings.jobs_max = 0; /* null */
	if (!wh__json_u64(wh__json_member(json, "attempts"), &attempts) || attempts > UINT32_MAX ||
	    !wh__read_duration(wh__json_member(json, "retention"), &queue->settings.retention_ns))
		return false;
	queue->settings.attempts = (uint32_t)attempts;
	take_policies(json, &queue->settings, strings);
	if (queue->settings.retention_ns == 0)
		queue->settings.retention_ns = -1;
	return wh__json_bool(wh__json_member(json, "paused"), &queue->paused) &&
	       wh__json_u64(wh__json_member(json, "submitted"), &queue->submitted) &&
	       wh__read_duration(wh__json_member(json, "time_to_run"), &queue->settings.time_to_run_ns);
}

static int64_t read_queues(struct wh_slice json, struct wh_slice list, struct wh_queues **ret)
{
	struct wh__list all;
	int64_t error = wh__read_list(json, list, sizeof(**ret), sizeof(struct wh_queue), take_queue, &all);

	if (error != 0)
		return error;
	*ret = all.head;
	**ret = (struct wh_queues){all.count, all.things, all.json};
	return 0;
}

/* The next page is asked for: behind this name, which is still as JSON has it. false: no memory. */
static bool ask_on(struct wh__ask *ask, struct wh_slice list, struct wh_slice next)
{
	char *name = malloc(next.len + 1);
	size_t len = 0;

	wh__text_str(&ask->pages, ask->pages.len > 0 ? "," : "{\"queues\":[");
	wh__text_put(&ask->pages, list.data + 1, list.len - 2); /* without its brackets */
	if (name && wh__json_string(next, name, &len)) {
		name[len] = 0;
		ask->target.len = 0;
		wh__ask_path(ask, "/v1/queues");
		wh__ask_query(ask, "after");
		wh__ask_segment(ask, name);
	}
	free(name);
	return name && !ask->pages.failed;
}

/* All pages as one. */
static int64_t join(struct wh__ask *ask, struct wh_slice list, struct wh_queues **ret)
{
	struct wh_slice all;

	wh__text_put(&ask->pages, ",", list.len > 2);
	wh__text_put(&ask->pages, list.data + 1, list.len - 2);
	wh__text_str(&ask->pages, "],\"next\":null}");
	if (ask->pages.failed)
		return -ENOMEM;
	all = (struct wh_slice){ask->pages.data, ask->pages.len};
	return read_queues(all, wh__json_member(all, "queues"), ret);
}

static void listed(struct wh__ask *ask, struct wh_http_response *response)
{
	struct wh_slice json = wh__body_json(response), list = wh__json_member(json, "queues"),
			next = wh__json_member(json, "next");
	struct wh_queues *queues = NULL;
	int64_t error = -WH_EHTTP_SYNTAX;

	if (response->status == 200 && list.data && *list.data == '[' && next.data && *next.data == '"') {
		if (ask_on(ask, list, next)) {
			wh_http_response_free(response);
			wh__ask_page(ask);
		} else {
			wh__ask_out_of_memory(ask, response);
		}
		return;
	}
	if (response->status == 200 && json.data)
		error = ask->pages.len > 0 && list.data && *list.data == '['
		                ? join(ask, list, &queues)
		                : read_queues(json, list, &queues);

	if (error == -ENOMEM) {
		wh__ask_out_of_memory(ask, response);
	} else if (error != 0) {
		wh__ask_garbled(ask, response);
	} else {
		wh_http_response_free(response);
		wh__ask_end(ask, (int64_t)queues->count, queues, dispose);
	}
}

wh_future wh_client_queues(wh_client *client, const char *queue, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask;

	if (queue) {
		ask = ask_queue(client, "GET", queue, "", how, listed, &failed);
	} else {
		ask = wh__ask_new(client, "GET", how, listed, &failed);
		if (ask)
			wh__ask_path(ask, "/v1/queues");
	}
	return ask ? wh__ask_start(ask) : failed;
}
