/* src/client/queue.c -- queues: listed, configured, paused, removed. Thread: loop. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"

static struct wh__ask *ask_queue(wh_client *client, const char *method, const char *queue, const char *verb,
                                 const struct wh_how *how, wh__ask_answer *answer, wh_future *ret_failed)
{
	struct wh__ask *ask = wh__ask_new(client, method, how, answer, ret_failed);

	if (!ask)
		return NULL;
	if (!queue || !*queue) {
		*ret_failed = wh__ask_refuse(ask, -EINVAL);
		return NULL;
	}
	wh__ask_path(ask, "/v1/queues/");
	wh__ask_segment(ask, queue);
	wh__ask_path(ask, verb);
	return ask;
}

/* ---- changed ------------------------------------------------------------------------------- */

static void put_member(struct wh__text *json, const char *name)
{
	wh__text_str(json, json->len > 1 ? ",\"" : "\"");
	wh__text_str(json, name);
	wh__text_str(json, "\":");
}

static void put_duration(struct wh__text *json, const char *name, int64_t ns)
{
	put_member(json, name);
	wh__text_format(json, "\"%lldms\"", (long long)((ns + WH_NS_PER_MS - 1) / WH_NS_PER_MS));
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
		put_duration(&json, "time_to_run", settings->time_to_run_ns);
	if (settings->retention_ns != 0)
		put_duration(&json, "retention", settings->retention_ns > 0 ? settings->retention_ns : 0);
	if (settings->attempts > 0) {
		put_member(&json, "attempts");
		wh__text_u64(&json, settings->attempts);
	}
	if (settings->jobs_max > 0) {
		put_member(&json, "jobs_max");
		wh__text_u64(&json, settings->jobs_max);
	}
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

static bool take_queue(struct wh_slice json, struct wh_queue *queue, char **strings)
{
	struct wh_slice jobs = wh__json_member(json, "jobs");
	uint64_t attempts;
	size_t len;

	if (!wh__json_string(wh__json_member(json, "name"), *strings, &len))
		return false;
	queue->name = *strings;
	*strings += len + 1; /* the rest is zero */
	for (int state = WH_JOB_DELAYED; state <= WH_JOB_BURIED; state++) {
		if (!wh__json_u64(wh__json_member(jobs, wh_job_state_name(state)), &queue->jobs[state]))
			return false;
	}
	if (!wh__json_u64(wh__json_member(json, "jobs_max"), &queue->settings.jobs_max))
		queue->settings.jobs_max = 0; /* null */
	if (!wh__json_u64(wh__json_member(json, "attempts"), &attempts) || attempts > UINT32_MAX ||
	    !wh__read_duration(wh__json_member(json, "retention"), &queue->settings.retention_ns))
		return false;
	queue->settings.attempts = (uint32_t)attempts;
	if (queue->settings.retention_ns == 0)
		queue->settings.retention_ns = -1;
	return wh__json_bool(wh__json_member(json, "paused"), &queue->paused) &&
	       wh__json_u64(wh__json_member(json, "submitted"), &queue->submitted) &&
	       wh__read_duration(wh__json_member(json, "time_to_run"), &queue->settings.time_to_run_ns);
}

/* list: absent if json is one queue. */
static int64_t read_queues(struct wh_slice json, struct wh_slice list, struct wh_queues **ret)
{
	struct wh_slice at = {NULL, 0};
	size_t count = list.data ? 0 : 1;
	struct wh_queues *queues;
	struct wh_queue *queue;
	char *text, *strings;
	bool good = true;

	while (wh__json_next(list, &at))
		count++;
	queues = calloc(1, sizeof(*queues) + count * sizeof(*queue) + 2 * (json.len + 1));
	if (!queues)
		return -ENOMEM;
	queue = (struct wh_queue *)(void *)(queues + 1);
	text = (char *)(queue + count);
	strings = text + json.len + 1;
	*queues = (struct wh_queues){count, queue, text};
	memcpy(text, json.data, json.len);
	at.data = NULL;
	if (!list.data)
		good = take_queue(json, queue, &strings);
	while (good && wh__json_next(list, &at))
		good = take_queue(at, queue++, &strings);
	if (!good) {
		free(queues);
		return -WH_EHTTP_SYNTAX;
	}
	*ret = queues;
	return 0;
}

static void listed(struct wh__ask *ask, struct wh_http_response *response)
{
	struct wh_slice json = wh__body_json(response), list = wh__json_member(json, "queues");
	struct wh_queues *queues = NULL;
	int64_t error =
		response->status == 200 && json.data ? read_queues(json, list, &queues) : -WH_EHTTP_SYNTAX;

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
