/* src/front/scheduler.c -- schedules become jobs, or events (schedule_publish.c), when their time has come. See scheduler.h, schedule/schedule.h.
 *
 * The jobs of a run and how far the schedule has come are one commit: whatever ends the server, each due time is dealt with once. Due is what the wall clock
 * says, not the store's time, which follows a clock that is set slowly. A timer sleeps until the next due time, but never long: a clock
 * that is set, or a machine that was asleep, is noticed within seconds. A run that the store refuses (a full queue, a full disk) is tried again, later and later.
 * Thread: the loop of the store.
 */
#include "front/scheduler.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/units.h"
#include "deliver/push.h"
#include "front/api.h"
#include "front/publish.h"

enum { COMMIT_JOBS = 100 };
#define LOOK_NS      (5 * WH_NS_PER_S)
#define REST_NS      (24 * 3600 * WH_NS_PER_S)
#define AGAIN_NS     WH_NS_PER_S
#define AGAIN_MAX_NS (60 * WH_NS_PER_S)
#define LATE_NS      (60 * WH_NS_PER_S)

/* A commit that is under way. */
struct run {
	struct api *api;
	uint64_t serial;
	bool publishes;
	int64_t due, at; /* of its last job or event; when it was begun */
	size_t count;
	bool called_back;
	size_t name_len;
	char name[];
};

static void tell(struct api *api, const struct schedule *s, const char *event, const char *why)
{
	struct wh__text text;

	if (!api->options.event)
		return;
	wh__text_init(&text, NULL, 0);
	wh__text_str(&text, "schedule=");
	wh__text_json(&text, s->name, s->name_len);
	wh__text_str(&text, " reason=");
	wh__text_json(&text, why, strlen(why));
	wh__text_put(&text, "", 1);
	if (!text.failed)
		api->options.event(WH_LOG_WARNING, event, text.data, api->options.event_arg);
	wh__text_done(&text);
}

/* ---- what a run does --------------------------------------------------------------------- */

/* An instant is one, and so is a job that others run after; a schedule is for many. And its events are its own to make. */
static bool may_say(const char *member, struct wh_slice name, struct transaction_refusal *refusal)
{
	static const char *const unsaid[] = {"\"run_at\"",        "\"expires_at\"", "\"after\"",
	                                     "\"after_failure\"", "\"action\"",     "\"event\""};
	bool may = true;

	for (size_t i = 0; i < sizeof(unsaid) / sizeof(unsaid[0]); i++)
		may = may && !wh_slice_equal(name, unsaid[i]);
	if (!may)
		snprintf(refusal->detail, sizeof(refusal->detail), "%s: there is no member %.*s here", member,
		         (int)name.len, name.data);
	return may;
}

/* Who has written a job or an event knows of no action. */
static void say_member(const char *member, const char *verb, struct transaction_refusal *refusal)
{
	char action[40], said[sizeof(refusal->detail)];
	int len = snprintf(action, sizeof(action), "action 0, %s: ", verb);

	if (strncmp(refusal->detail, action, (size_t)len) != 0)
		return;
	memcpy(said, refusal->detail, sizeof(said));
	snprintf(refusal->detail, sizeof(refusal->detail), "%s: %s", member, said + len);
}

bool schedule_read_action(struct transaction *t, const struct schedule *schedule, const char *member,
                          struct wh_slice json, const char *verb, const char *beside, uint64_t item_bytes_max,
                          struct transaction_refusal *refusal)
{
	struct wh_slice at = {NULL, 0}, name;
	struct wh__text text;
	bool good = true;

	*t = (struct transaction){0};
	*refusal = (struct transaction_refusal){.problem = PROBLEM_BAD_JSON, .action = -1};
	wh__text_init(&text, NULL, 0);
	wh__text_format(&text, "{\"actions\":[{\"action\":\"%s\"", verb);
	while (good && wh__json_each(json, &at, &name)) {
		if (wh_slice_equal(name, beside))
			continue;
		good = may_say(member, name, refusal);
		wh__text_put(&text, ",", 1);
		wh__text_put(&text, name.data, name.len);
		wh__text_put(&text, ":", 1);
		wh__text_put(&text, at.data, at.len);
	}
	wh__text_str(&text, "}]}");
	if (good && text.failed) {
		refusal->problem = PROBLEM_TOO_BUSY;
		snprintf(refusal->detail, sizeof(refusal->detail), "out of memory");
	}
	if (good && !text.failed &&
	    !transaction_read(t, namespace_of(schedule->name, schedule->name_len), text.data, text.len,
	                      item_bytes_max, refusal)) {
		good = false;
		say_member(member, verb, refusal);
	}
	good = good && !text.failed;
	wh__text_done(&text);
	return good;
}

bool schedule_action(struct transaction *t, const struct schedule *schedule, uint64_t item_bytes_max,
                     struct transaction_refusal *refusal)
{
	struct wh__text text;
	bool good;

	*t = (struct transaction){0};
	*refusal = (struct transaction_refusal){.problem = PROBLEM_BAD_JSON, .action = -1};
	wh__text_init(&text, NULL, 0);
	good = schedule_put_fields(&text, schedule, refusal); /* are they good? */
	wh__text_done(&text);
	return good && schedule_read_action(t, schedule, "job", schedule->job, "submit", "\"headers\"",
	                                    item_bytes_max, refusal);
}

static void put_fields(struct wh__text *text, const struct schedule *s, int64_t due)
{
	struct wh_slice name = namespace_plain((struct wh_slice){s->name, s->name_len});
	struct transaction_refusal refusal;
	char instant[WH__INSTANT_TEXT_BYTES];

	wh__text_str(text, "Whilst-Schedule: ");
	wh__text_put(text, name.data, name.len);
	wh__text_format(text, "\r\nWhilst-Due: %.*s\r\n", (int)wh__put_instant(instant, due), instant);
	(void)schedule_put_fields(text, s, &refusal); /* they were good when it was put */
}

const char *scheduler_error(const struct schedule *s)
{
	if (s->by_cron && !s->zone)
		return "its time zone cannot be read";
	if (s->error == -JOB_EUNKNOWN_SETTING) /* which is never said of the setting that is put with it */
		return "its topic is not there";
	return s->error ? job_strerror(s->error) : NULL;
}

static void refused(struct api *api, struct schedule *s, int64_t error)
{
	bool again = error == s->error;

	api->scheduler.refusals++;
	s->pause_ns = s->pause_ns == 0 ? AGAIN_NS : s->pause_ns * 2;
	if (s->pause_ns > AGAIN_MAX_NS)
		s->pause_ns = AGAIN_MAX_NS;
	s->again_at = wh_now(api->loop) + s->pause_ns;
	s->error = error;
	if (!again)
		tell(api, s, "schedule-refused", scheduler_error(s));
	if (job_is_full(error)) /* as many as there is room for, not all or none */
		s->step = 1;
}

/* What has become of the n-th due time; a job whose end somebody is to be told of is two. */
static const struct store_result *result_of(const struct run *run, const struct store_commit *commit,
                                            size_t n)
{
	return &commit->results[run->called_back ? 2 * n : n];
}

static void count_made(struct api *api, const struct run *run, const struct store_commit *commit)
{
	uint64_t made = 0;

	for (size_t i = 0; i < run->count; i++)
		made += !result_of(run, commit, i)->duplicate;
	for (size_t i = 0; run->called_back && i < run->count; i++)
		push_callback(api->push, commit->results[2 * i].job, commit->results[2 * i + 1].job);
	if (!run->publishes) {
		api->scheduler.jobs += made;
		return;
	}
	api->scheduler.events += made;
	api->events_published += made;
	api->events_duplicate += run->count - made;
	publish_replay(api); /* if one has come to a halt for want of memory */
}

/* What has come of it, for who looks. */
static void note_last(struct schedule *s, const struct run *run, const struct store_commit *commit)
{
	const struct store_result *last = result_of(run, commit, run->count - 1);
	bool there = run->publishes && !last->duplicate && last->job > 0;

	s->last_due_ns = run->due;
	s->last_at_ns = run->at;
	s->last_job = run->publishes ? 0 : last->job;
	s->last_event = (struct schedule_published){
		.known = run->publishes,
		.duplicate = run->publishes && last->duplicate,
		.epoch = there ? commit->position.epoch : 0,
		.lsn = there ? commit->events_from + last->job : 0,
		.jobs = last->count,
	};
	s->runs += run->count;
}

static void committed(wh_loop *loop, wh_res res, void *arg)
{
	struct run *run = arg;
	struct api *api = run->api;
	struct store_commit *commit = res.ptr;
	int64_t error = res.n < 0 ? res.n : commit->error;
	struct schedule *s = schedule_find(&api->scheduler.table, run->name, run->name_len);

	if (s && s->serial != run->serial) /* another one of that name */
		s = NULL;
	if (s)
		s->running = false;
	if (error == 0) {
		count_made(api, run, commit);
		if (s) {
			if (run->due > s->through_ns)
				s->through_ns = run->due;
			note_last(s, run, commit);
			s->error = 0;
			s->again_at = s->pause_ns = 0;
			s->step = s->step * 2 < COMMIT_JOBS ? s->step * 2 : 0;
		}
	} else if (s && error == -JOB_ETOO_LARGE && run->count > 1) { /* together */
		s->step = (uint32_t)run->count / 2;
	} else if (s && error != -ECANCELED) {
		refused(api, s, error);
	}
	if (res.n >= 0)
		store_commit_free(commit);
	free(run);
	api->calls_count--;
	scheduler_wake(api);
	front_check_drained(api);
}

/* One commit: a job for each of these instants, whom its end is told, and that they are dealt with. */
static wh_future commit_jobs(struct api *api, const struct schedule *s, const int64_t *due, size_t count,
                             int64_t now, bool *ret_called_back)
{
	struct store_action *actions = calloc(2 * count + 1, sizeof(*actions));
	struct transaction_refusal refusal;
	struct transaction t;
	struct wh__text fields, state;
	char key[SCHEDULE_KEY_BYTES];
	size_t at[COMMIT_JOBS + 1], step;
	struct store_action *last;
	wh_future future;
	bool good = schedule_action(&t, s, api->options.payload_bytes_max, &refusal) && actions;

	wh__text_init(&fields, NULL, 0);
	wh__text_init(&state, NULL, 0);
	for (size_t i = 0; i < count; i++) {
		at[i] = fields.len;
		put_fields(&fields, s, due[i]);
	}
	at[count] = fields.len;
	schedule_write_state(&state, due[count - 1], now, s->runs + count);
	good = good && !fields.failed && !state.failed;
	*ret_called_back = good && t.callbacks;
	step = *ret_called_back ? 2 : 1;
	for (size_t i = 0; good && i < count; i++) {
		actions[i * step] = t.actions[0];
		actions[i * step].submit.headers =
			(struct store_slice){fields.data + at[i], at[i + 1] - at[i]};
	}
	if (*ret_called_back)
		callback_fill(actions, count, t.callbacks[0]);
	if (good) {
		last = &actions[count * step];
		last->kind = STORE_SETTING_PUT;
		last->setting.key = (struct store_slice){
			key, schedule_key(key, SCHEDULED_SETTING_PREFIX, s->name, s->name_len)};
		last->setting.value = (struct store_slice){state.data, state.len};
		future = store_apply(api->store, actions, count * step + 1, 0, STORE_LOCAL);
	} else {
		/* what max-payload has become too small for since it was put */
		future = wh_failed(api->loop, !actions || refusal.problem != PROBLEM_TOO_LARGE
		                                      ? -ENOMEM
		                                      : -JOB_ETOO_LARGE);
	}
	wh__text_done(&fields);
	wh__text_done(&state);
	transaction_done(&t);
	free(actions);
	return future;
}

static void begin(struct api *api, struct schedule *s, const int64_t *due, size_t count, int64_t now)
{
	struct run *run = malloc(sizeof(*run) + s->name_len);
	wh_future future;

	if (!run) {
		refused(api, s, -ENOMEM);
		return;
	}
	*run = (struct run){.api = api,
	                    .serial = s->serial,
	                    .publishes = s->publish.data != NULL,
	                    .at = now,
	                    .count = count,
	                    .name_len = s->name_len};
	memcpy(run->name, s->name, s->name_len);
	s->running = true;
	api->calls_count++;
	future = run->publishes ? schedule_event_commit(api, s, due, count, now, &run->count)
	                        : commit_jobs(api, s, due, count, now, &run->called_back);
	run->due = run->count > 0 ? due[run->count - 1] : 0;
	if (wh_then(future, committed, run) != 0) {
		/* only a failure without a slot has no room for its callback: nothing was done */
		s->running = false;
		refused(api, s, -ENOMEM);
		free(run);
		api->calls_count--;
	}
}

/* ---- the clock --------------------------------------------------------------------------- */

/* What is due of it now is begun. When to look again: an instant of the wall clock. */
static int64_t look(struct api *api, struct schedule *s, int64_t now)
{
	int64_t due[SCHEDULE_MISSED_MAX], through, next;
	size_t count, step = s->step > 0 ? s->step : COMMIT_JOBS;

	if (s->paused || s->running)
		return INT64_MAX;
	if (schedule_set_back(s, now))
		tell(api, s, "schedule-clock", "the clock was set back by more than three hours");
	if (s->again_at > 0) {
		int64_t wait = s->again_at - wh_now(api->loop);

		if (wait > 0)
			return now + wait;
		s->again_at = 0;
	}
	next = schedule_first(s);
	if (next > now)
		return next;
	count = schedule_due(s, now, due, SCHEDULE_MISSED_MAX, &through);
	if (count == 0) { /* too late for all of them */
		s->through_ns = through;
		return schedule_first(s);
	}
	begin(api, s, due, count < step ? count : step, now);
	return s->again_at > 0 ? now + s->pause_ns : INT64_MAX;
}

static void look_at_all(struct api *api)
{
	struct scheduler *scheduler = &api->scheduler;
	int64_t now = wh_wall_now(api->loop), next = now + LOOK_NS;
	size_t active = 0;

	for (size_t i = 0; i < scheduler->table.count; i++) {
		struct schedule *s = scheduler->table.all[i];
		int64_t at = look(api, s, now);

		active += !s->paused;
		if (at < next)
			next = at;
	}
	if (active > 0)
		(void)!wh_rearm(scheduler->timer, wh_now(api->loop) + (next > now ? next - now : 0));
}

static void tick(wh_loop *loop, wh_res res, void *arg)
{
	struct api *api = arg;

	api->scheduler.timed = false;
	if (api->scheduler.stopped || res.n < 0)
		return;
	/* in the place of the one that has just ended, so that it never fails for want of memory; without schedules nothing has it
	 * moved */
	api->scheduler.timer = wh_sleep(loop, REST_NS);
	api->scheduler.timed = wh_then(api->scheduler.timer, tick, api) == 0;
	look_at_all(api);
}

void scheduler_wake(struct api *api)
{
	if (!api->scheduler.stopped)
		(void)!wh_rearm(api->scheduler.timer, wh_now(api->loop));
}

void scheduler_topic_put(struct api *api)
{
	for (size_t i = 0; i < api->scheduler.table.count; i++)
		if (api->scheduler.table.all[i]->error == -JOB_EUNKNOWN_SETTING)
			api->scheduler.table.all[i]->again_at = 0;
	scheduler_wake(api);
}

void scheduler_stop(struct api *api)
{
	api->scheduler.stopped = true;
	if (api->scheduler.timed)
		wh_cancel(api->scheduler.timer);
}

uint64_t scheduler_late(const struct api *api)
{
	int64_t now = wh_wall_now(api->loop);
	uint64_t late = 0;

	for (size_t i = 0; i < api->scheduler.table.count; i++) {
		struct schedule *s = api->scheduler.table.all[i];

		late += !s->paused && ((s->by_cron && !s->zone) || schedule_first(s) < now - LATE_NS);
	}
	return late;
}

/* ---- open -------------------------------------------------------------------------------- */

static int load(struct api *api, struct store_slice prefix)
{
	wh_res res = wh_await(store_settings(api->store, prefix));
	struct store_settings *settings = res.ptr;
	int error = 0;

	if (res.n < 0)
		return (int)res.n;
	for (size_t i = 0; settings && i < settings->count && error == 0; i++)
		error = schedule_load(&api->scheduler.table, answer_slice(settings->settings[i].key),
		                      answer_slice(settings->settings[i].value));
	store_settings_free(settings);
	return error;
}

void scheduler_reload(struct api *api)
{
	char name[SCHEDULE_NAME_BYTES_MAX], zone[ZONE_NAME_BYTES_MAX + 1];

	for (size_t i = 0; i < api->scheduler.table.count; i++) {
		struct schedule *s = api->scheduler.table.all[i];
		uint64_t serial = s->serial;
		size_t len = s->name_len;
		wh_res res;

		if (!s->by_cron)
			continue;
		memcpy(name, s->name, len);
		memcpy(zone, s->zone_name, sizeof(zone));
		res = wh_await(zone_load(api->loop, api->options.zone_directory, zone));
		/* the table may have changed meanwhile */
		s = schedule_find(&api->scheduler.table, name, len);
		if (!s || s->serial != serial || strcmp(s->zone_name, zone) != 0) {
			if (res.n >= 0)
				zone_free(res.ptr);
		} else if (res.n >= 0) {
			schedule_set_zone(s, res.ptr);
		} else if (!s->zone) {
			tell(api, s, "schedule-zone", wh_strerror(res.n));
		}
	}
	scheduler_wake(api);
}

int scheduler_open(struct api *api)
{
	int error = load(api, STORE_SLICE(SCHEDULE_SETTING_PREFIX));

	api->scheduler.stopped = true; /* until scheduler_start() */
	if (error == 0)
		error = load(api, STORE_SLICE(SCHEDULED_SETTING_PREFIX));
	if (error == 0)
		scheduler_reload(api);
	return error;
}

int scheduler_start(struct api *api)
{
	int error;

	api->scheduler.timer = wh_sleep(api->loop, 0);
	error = wh_then(api->scheduler.timer, tick, api);
	api->scheduler.timed = error == 0;
	api->scheduler.stopped = error != 0;
	return error;
}
