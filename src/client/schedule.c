/* src/client/schedule.c -- schedules: put, listed, paused, removed. Thread: loop. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"
#include "client/members.h"

enum { NEXT_MAX = sizeof(((struct wh_schedule *)0)->next) / sizeof(int64_t) };

static const char *const missed_names[] = {"once", "skip", "all"};

/* ---- put ----------------------------------------------------------------------------------- */

static void put_when(struct wh__text *json, const struct wh_schedule_settings *settings)
{
	wh__member_string(json, "cron", settings->cron);
	wh__member_string(json, "time_zone", settings->time_zone);
	if (settings->every_ns > 0)
		wh__member_duration(json, "every", settings->every_ns);
	wh__member_string(json, "missed", missed_names[settings->missed]);
	if (settings->missed_max > 0)
		wh__member_number(json, "missed_max", settings->missed_max);
	if (settings->paused) {
		wh__member(json, "paused");
		wh__text_str(json, "true");
	}
}

/* Takes the text. */
static bool take_json(struct wh__ask *ask, struct wh__text *json)
{
	size_t len = json->len;

	wh__ask_field(ask, "Content-Type", "application/json", 16);
	return wh__ask_bytes(ask, wh__text_take(json), len);
}

static bool put_job(struct wh__text *json, const struct wh_schedule_settings *settings)
{
	if (!settings->queue || !*settings->queue || settings->payload.release)
		return false;
	wh__member(json, "job");
	wh__text_put(json, "{", 1);
	wh__put_submit(json, settings->queue, &settings->payload, &settings->options);
	if (settings->field_count > 0) {
		wh__member(json, "headers");
		wh__text_put(json, "{", 1);
	}
	for (size_t i = 0; i < settings->field_count; i++) {
		wh__text_put(json, ",", i > 0);
		wh__text_json(json, settings->fields[i].name, strlen(settings->fields[i].name));
		wh__text_put(json, ":", 1);
		wh__text_json(json, settings->fields[i].value, strlen(settings->fields[i].value));
	}
	wh__text_str(json, settings->field_count > 0 ? "}}}" : "}}");
	return true;
}

/* What is of a job is refused rather than passed over, but for its options. */
static bool put_event(struct wh__text *json, const struct wh_schedule_settings *settings)
{
	static const struct wh_event nothing;
	const struct wh_event *event = settings->event ? settings->event : &nothing;

	if (!*settings->topic || settings->queue || settings->payload.bytes || settings->field_count > 0 ||
	    event->id || event->time != 0 || event->data.release ||
	    event->attribute_count > WH_ATTRIBUTES_MAX)
		return false;
	wh__member(json, "publish");
	wh__text_put(json, "{", 1);
	wh__put_event(json, settings->topic, event);
	if (event->attribute_count > 0) {
		wh__member(json, "attributes");
		wh__text_put(json, "{", 1);
	}
	for (size_t i = 0; i < event->attribute_count; i++) {
		if (!wh__is_attribute(event->attributes[i].name) || !event->attributes[i].value)
			return false;
		wh__member_string(json, event->attributes[i].name, event->attributes[i].value);
	}
	wh__text_str(json, event->attribute_count > 0 ? "}}}" : "}}");
	return true;
}

wh_future wh_client_schedule_put(wh_client *client, const char *name,
                                 const struct wh_schedule_settings *settings, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask =
		wh__ask_named(client, "PUT", "/v1/schedules/", name, how, wh__answer_created, &failed);
	struct wh__text json;

	if (!ask)
		return failed;
	if (!settings || settings->missed < WH_MISSED_ONCE || settings->missed > WH_MISSED_ALL)
		return wh__ask_refuse(ask, -EINVAL);
	wh__text_init(&json, NULL, 0);
	wh__text_put(&json, "{", 1);
	put_when(&json, settings);
	if (settings->topic ? !put_event(&json, settings) : !put_job(&json, settings)) {
		wh__text_done(&json);
		return wh__ask_refuse(ask, -EINVAL);
	}
	return take_json(ask, &json) ? wh__ask_start(ask) : wh__ask_refuse(ask, -ENOMEM);
}

wh_future wh_client_schedule_delete(wh_client *client, const char *name, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask =
		wh__ask_named(client, "DELETE", "/v1/schedules/", name, how, wh__answer_zero, &failed);

	return ask ? wh__ask_start(ask) : failed;
}

/* ---- paused -------------------------------------------------------------------------------- */

wh_future wh_client_schedule_pause(wh_client *client, const char *name, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask =
		wh__ask_named(client, "POST", "/v1/schedules/", name, how, wh__answer_zero, &failed);

	if (ask)
		wh__ask_path(ask, "/pause");
	return ask ? wh__ask_start(ask) : failed;
}

wh_future wh_client_schedule_resume(wh_client *client, const char *name, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask =
		wh__ask_named(client, "POST", "/v1/schedules/", name, how, wh__answer_zero, &failed);

	if (ask)
		wh__ask_path(ask, "/resume");
	return ask ? wh__ask_start(ask) : failed;
}

/* ---- listed -------------------------------------------------------------------------------- */

struct wh_schedules *wh_schedules_free(struct wh_schedules *schedules)
{
	free(schedules);
	return NULL;
}

static void dispose(wh_res res, void *arg)
{
	(void)arg;
	wh_schedules_free(res.ptr);
}

static bool take_last(struct wh_slice last, struct wh_schedule *ret)
{
	bool duplicate = false;

	if (wh__json_is_null(last))
		return true;
	if (!wh__json_u64(wh__json_member(last, "job"), &ret->last_job))
		ret->last_job = 0; /* null, or of what publishes */
	if (!wh__read_position(wh__json_member(last, "event"), &ret->last_event))
		ret->last_event = (struct wh_position){0};
	if (!wh__json_u64(wh__json_member(last, "jobs"), &ret->last_jobs))
		ret->last_jobs = 0;
	ret->last_duplicate = wh__json_bool(wh__json_member(last, "duplicate"), &duplicate) && duplicate;
	return wh__read_instant(wh__json_member(last, "due"), &ret->last_due) &&
	       wh__read_instant(wh__json_member(last, "at"), &ret->last_at);
}

static bool take_missed(struct wh_slice json, struct wh_schedule *ret)
{
	struct wh_slice missed = wh__json_member(json, "missed");
	char quoted[8];
	uint64_t most;

	for (int i = WH_MISSED_ONCE; i <= WH_MISSED_ALL; i++) {
		snprintf(quoted, sizeof(quoted), "\"%s\"", missed_names[i]);
		if (!wh_slice_equal(missed, quoted))
			continue;
		ret->missed = i;
		if (!wh__json_u64(wh__json_member(json, "missed_max"), &most) || most > UINT32_MAX)
			return false;
		ret->missed_max = (uint32_t)most;
		return true;
	}
	return false;
}

static bool take_schedule(struct wh_slice json, void *thing, char **strings)
{
	struct wh_schedule *ret = thing;
	struct wh_slice next = wh__json_member(json, "next"), at = {NULL, 0};

	ret->name = wh__take_string(json, "name", strings);
	ret->cron = wh__take_string(json, "cron", strings);
	ret->time_zone = wh__take_string(json, "time_zone", strings);
	ret->queue = wh__take_string(wh__json_member(json, "job"), "queue", strings);
	ret->topic = wh__take_string(wh__json_member(json, "publish"), "topic", strings);
	ret->error = wh__take_string(json, "error", strings);
	if (!ret->cron && !wh__read_duration(wh__json_member(json, "every"), &ret->every_ns))
		return false;
	for (; ret->next_count < NEXT_MAX && wh__json_next(next, &at); ret->next_count++)
		if (!wh__read_instant(at, &ret->next[ret->next_count]))
			return false;
	return ret->name && take_missed(json, ret) && take_last(wh__json_member(json, "last"), ret) &&
	       wh__json_bool(wh__json_member(json, "paused"), &ret->paused) &&
	       wh__json_u64(wh__json_member(json, "runs"), &ret->runs);
}

static int64_t read_schedules(struct wh_slice json, struct wh_slice list, struct wh_schedules **ret)
{
	struct wh__list all;
	int64_t error =
		wh__read_list(json, list, sizeof(**ret), sizeof(struct wh_schedule), take_schedule, &all);

	if (error != 0)
		return error;
	*ret = all.head;
	**ret = (struct wh_schedules){all.count, all.things, all.json};
	return 0;
}

static void listed(struct wh__ask *ask, struct wh_http_response *response)
{
	struct wh_slice json = wh__body_json(response), list = wh__json_member(json, "schedules");
	struct wh_schedules *schedules = NULL;
	int64_t error = response->status == 200 && json.data ? read_schedules(json, list, &schedules)
	                                                     : -WH_EHTTP_SYNTAX;

	if (error == -ENOMEM) {
		wh__ask_out_of_memory(ask, response);
	} else if (error != 0) {
		wh__ask_garbled(ask, response);
	} else {
		wh_http_response_free(response);
		wh__ask_end(ask, (int64_t)schedules->count, schedules, dispose);
	}
}

wh_future wh_client_schedules(wh_client *client, const char *name, const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask;

	if (name) {
		ask = wh__ask_named(client, "GET", "/v1/schedules/", name, how, listed, &failed);
	} else {
		ask = wh__ask_new(client, "GET", how, listed, &failed);
		if (ask)
			wh__ask_path(ask, "/v1/schedules");
	}
	return ask ? wh__ask_start(ask) : failed;
}
