/* src/front/api_schedule.c -- /v1/schedules: kept as settings of the store, made jobs and events of by scheduler.c.
 *
 * The table changes when the setting is durable, as that of services does. Who puts a schedule must be allowed to submit to its
 * queue, or to publish to its topic, as well: its jobs and events are in that name.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/page.h"
#include "front/publication.h"
#include "front/publish.h"

/* ---- looking ----------------------------------------------------------------------------- */

void api_schedule_list(struct request *request)
{
	struct api *api = request->api;
	const struct schedule_table *table = &api->scheduler.table;
	int64_t now = wh_wall_now(api->loop);
	struct wh__text text;
	struct page page;

	if (!page_read(request, &page))
		return;
	wh__text_init(&text, NULL, 0);
	wh__text_str(&text, "{\"schedules\":[");
	for (size_t i = 0; i < table->count; i++) {
		const struct schedule *s = table->all[i];
		struct wh_slice name = {s->name, s->name_len},
				shown = namespace_show(request->namespace, name);

		if (!shown.data || !page_takes(&page, shown))
			continue;
		if (page.count > 1)
			wh__text_put(&text, ",", 1);
		schedule_write(&text, s, name.len - shown.len, now, scheduler_error(s));
	}
	page_end(&page, &text);
	wh__text_put(&text, "\n", 1);
	answer_text(api, request->x, 200, "application/json", &text);
}

static void unknown(struct api *api, wh_http_exchange *x, int len, const char *name)
{
	answer_problem(api, x, PROBLEM_UNKNOWN_SCHEDULE, NULL,
	               "there is no schedule '%.*s'; PUT /v1/schedules/{name} makes one, GET /v1/schedules "
	               "lists them",
	               len, name);
}

void api_schedule_get(struct request *request)
{
	struct api *api = request->api;
	const struct schedule *s = schedule_find(&api->scheduler.table, request->name, request->name_len);
	struct wh__text text;

	if (!request_options(request, NULL, 0))
		return;
	if (!s) {
		unknown(api, request->x, SHOWN(request));
		return;
	}
	wh__text_init(&text, NULL, 0);
	schedule_write(&text, s, request->hidden, wh_wall_now(api->loop), scheduler_error(s));
	wh__text_put(&text, "\n", 1);
	answer_text(api, request->x, 200, "application/json", &text);
}

/* ---- putting ----------------------------------------------------------------------------- */

/* call->arg is the schedule that is to be, until it is the table's. */
static void put_end(struct call *call)
{
	schedule_free(call->arg);
	call->arg = NULL;
	call_end(call);
}

static void put_then(struct call *call, wh_future future, wh_callback *callback)
{
	if (wh_then(future, callback, call) == 0)
		return;
	answer_problem(call->api, call->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	put_end(call);
}

static void refuse(struct call *call, int64_t error, const char *reason)
{
	char subject[SCHEDULE_NAME_BYTES_MAX + 30];

	snprintf(subject, sizeof(subject), "schedule '%.*s'", SHOWN(call));
	answer_error(call->api, call->x, error, reason, JOB_NONE, subject);
}

static void put_done(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct api *api = call->api;
	struct store_commit *commit = res.ptr;
	struct schedule *s = call->arg, *old;
	int64_t error = res.n < 0 ? res.n : commit->error;
	struct wh__text text;

	if (error == 0) {
		old = schedule_find(&api->scheduler.table, s->name, s->name_len);
		if (old) {
			schedule_take_over(s, old);
			schedule_keep_zone(s, old);
		}
		error = schedule_put(&api->scheduler.table, s);
	}
	if (error < 0) {
		refuse(call, error, res.n < 0 ? NULL : commit->reason);
	} else {
		call->arg = NULL;
		wh__text_init(&text, NULL, 0);
		schedule_write(&text, s, call->hidden, wh_wall_now(loop), scheduler_error(s));
		wh__text_put(&text, "\n", 1);
		answer_committed(call->x, commit->level, commit->position);
		answer_done(api, call->x, commit->results[0].created ? 201 : 200, "application/json", &text);
		scheduler_wake(api);
	}
	if (res.n >= 0)
		store_commit_free(commit);
	put_end(call);
}

static wh_callback pause_done;

/* instead: as of struct store_action. */
static void put_setting(struct call *call, struct store_slice instead)
{
	struct api *api = call->api;
	struct schedule *s = call->arg;
	struct store_action action = {.kind = STORE_SETTING_PUT, .setting.instead = instead};
	char key[SCHEDULE_KEY_BYTES];
	struct wh__text text;

	wh__text_init(&text, NULL, 0);
	schedule_write_setting(&text, s);
	action.setting.key =
		(struct store_slice){key, schedule_key(key, SCHEDULE_SETTING_PREFIX, s->name, s->name_len)};
	action.setting.value = (struct store_slice){text.data, text.len};
	put_then(call,
	         text.failed ? wh_failed(api->loop, -ENOMEM)
	                     : store_apply(api->store, &action, 1, 0, call->level),
	         instead.data ? pause_done : put_done);
	wh__text_done(&text);
}

static void put_new(struct call *call)
{
	struct api *api = call->api;
	struct schedule *s = call->arg;

	schedule_begin(s, schedule_find(&api->scheduler.table, s->name, s->name_len), wh_wall_now(api->loop));
	put_setting(call, (struct store_slice){NULL, 0});
}

/* ---- pausing ----------------------------------------------------------------------------- */

/* What is stored with all that has been asked for so far, and the one member changed; put only if it is still that when its turn comes. */
static void pause(struct call *call)
{
	struct api *api = call->api;
	char key[SCHEDULE_KEY_BYTES], detail[SCHEDULE_DETAIL_BYTES];
	struct store_slice value;
	struct schedule *s;
	size_t len = schedule_key(key, SCHEDULE_SETTING_PREFIX, call->name, call->name_len);

	if (!store_setting_now(api->store, (struct store_slice){key, len}, &value)) {
		unknown(api, call->x, SHOWN(call));
		call_end(call);
		return;
	}
	if (schedule_read(answer_slice(value), call->name, call->name_len, true, &s, detail) !=
	    SCHEDULE_GOOD) { /* it was, when it was put */
		refuse(call, -ENOMEM, NULL);
		call_end(call);
		return;
	}
	schedule_pause(s, call->action, wh_wall_now(api->loop));
	call->arg = s;
	put_setting(call, value);
}

static void pause_done(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;

	if (res.n < 0 || commit->error != -JOB_EVERSION) {
		put_done(loop, res, arg);
		return;
	}
	/* somebody else has changed it in between: once more, of what it is now */
	store_commit_free(commit);
	call->arg = schedule_free(call->arg);
	pause(call);
}

static void set_paused(struct request *request, bool paused)
{
	struct call *call;
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, true, &level))
		return;
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	call->level = (int8_t)level;
	call->action = paused;
	pause(call);
}

void api_schedule_pause(struct request *request)
{
	set_paused(request, true);
}

void api_schedule_resume(struct request *request)
{
	set_paused(request, false);
}

/* ---- putting, from the request ----------------------------------------------------------- */

static void got_zone(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct schedule *s = call->arg;

	(void)loop;
	if (res.n >= 0) {
		schedule_set_zone(s, res.ptr);
		put_new(call);
		return;
	}
	if (res.n == -ENOMEM || res.n == -ECANCELED)
		refuse(call, res.n, NULL);
	else
		answer_problem(call->api, call->x, PROBLEM_BAD_VALUE, NULL,
		               "time_zone: '%s' cannot be read from the machine's tz database (the package "
		               "tzdata): %s",
		               s->zone_name, wh_strerror(res.n));
	put_end(call);
}

/* May whoever asks do that there? */
static bool is_allowed(struct request *request, enum token_action action, struct store_slice name)
{
	struct api *api = request->api;
	const struct token *token = api->tokens ? authorize_who(api, request->x) : NULL;

	if (api->tokens && !token) { /* it was taken away while the body came */
		answer_problem(api, request->x, PROBLEM_NO_TOKEN, NULL,
		               "the token that was shown is not known here");
		return false;
	}
	if (token && !authorize_allows(token, action, answer_slice(name))) {
		authorize_refuse(api, request->x, token, action, answer_slice(name), NULL);
		return false;
	}
	return true;
}

/* Will there be one? */
static bool queue_is_good(struct request *request, struct store_slice queue)
{
	struct api *api = request->api;
	struct store_queue_view view;

	if (!is_allowed(request, TOKEN_SUBMIT, queue))
		return false;
	if (store_makes_queues(api->store) || store_queue_now(api->store, queue, &view) == 0)
		return true;
	answer_problem(api, request->x, PROBLEM_UNKNOWN_QUEUE, NULL,
	               "job: there is no queue '%.*s', and the server makes none by itself",
	               (int)namespace_plain(answer_slice(queue)).len,
	               namespace_plain(answer_slice(queue)).data);
	return false;
}

/* May anybody be told of its jobs there? false: refused and answered. */
static bool may_tell(struct request *request, struct wh_slice url)
{
	enum problem problem;
	const char *why = callback_wrong(request->api, url, &problem);

	if (why)
		answer_problem(request->api, request->x, problem, NULL, "job, callback %.*s: %s",
		               (int)(url.len < 200 ? url.len : 200), url.data, why);
	return !why;
}

static const struct topic *find_topic(struct request *request, struct store_slice name)
{
	const struct topic *topic = topic_there(&request->api->topics, name.data, name.len);
	struct wh_slice plain = namespace_plain(answer_slice(name));

	if (!topic)
		answer_problem(request->api, request->x, PROBLEM_UNKNOWN_TOPIC, NULL,
		               "publish: there is no topic '%.*s'", (int)plain.len, plain.data);
	return topic;
}

static void refuse_action(struct request *request, const struct transaction_refusal *refusal)
{
	answer_limit(request->api, request->x, refusal->problem, refusal->limit, NULL, "%s", refusal->detail);
}

static bool job_is_good(struct request *request, const struct schedule *s)
{
	struct transaction_refusal refusal;
	struct transaction transaction;
	bool good = schedule_action(&transaction, s, request->api->options.payload_bytes_max, &refusal);

	if (good)
		good = queue_is_good(request, transaction.actions[0].submit.queue) &&
		       (!transaction.callbacks || may_tell(request, transaction.callbacks[0]));
	else
		refuse_action(request, &refusal);
	transaction_done(&transaction);
	return good;
}

static bool event_is_good(struct request *request, const struct schedule *s)
{
	struct transaction_refusal refusal;
	struct schedule_event event;
	bool good = schedule_event_read(&event, s, request->api->options.payload_bytes_max, &refusal);

	if (good)
		good = is_allowed(request, TOKEN_PUBLISH, schedule_event_topic(&event)) &&
		       find_topic(request, schedule_event_topic(&event));
	else
		refuse_action(request, &refusal);
	schedule_event_done(&event);
	return good;
}

static bool has_room(struct request *request)
{
	const struct schedule_table *table = &request->api->scheduler.table;

	if (table->count < SCHEDULES_MAX || schedule_find(table, request->name, request->name_len))
		return true;
	answer_limit(request->api, request->x, PROBLEM_BAD_VALUE, SCHEDULES_MAX, NULL,
	             "there are %d schedules, which is the most", SCHEDULES_MAX);
	return false;
}

static void start_put(struct request *request, struct schedule *s, int level)
{
	struct call *call = call_new(request, CALL_OTHER);

	if (!call) {
		schedule_free(s);
		return;
	}
	call->arg = s;
	call->level = (int8_t)level;
	if (s->by_cron)
		put_then(call,
		         zone_load(request->api->loop, request->api->options.zone_directory, s->zone_name),
		         got_zone);
	else
		put_new(call);
}

void api_schedule_put(struct request *request)
{
	char detail[SCHEDULE_DETAIL_BYTES];
	enum schedule_wrong wrong;
	struct schedule *s;
	int level;

	if (!request_json(request) || !request_options(request, NULL, 0) ||
	    !request_level(request, true, &level) || !has_room(request))
		return;
	wrong = schedule_read(request_body(request), request->name, request->name_len, false, &s, detail);
	if (wrong == SCHEDULE_NO_MEMORY) {
		answer_problem(request->api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	} else if (wrong != SCHEDULE_GOOD) {
		answer_problem(request->api, request->x,
		               wrong == SCHEDULE_BAD_JSON ? PROBLEM_BAD_JSON : PROBLEM_BAD_VALUE, NULL, "%s",
		               detail);
	} else if (s->publish.data ? event_is_good(request, s) : job_is_good(request, s)) {
		start_put(request, s, level);
	} else {
		schedule_free(s);
	}
}

/* ---- now --------------------------------------------------------------------------------- */

static void ran(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	int64_t error = res.n < 0 ? res.n : commit->error;
	char subject[TARGET_NAME_BYTES_MAX + 20];
	int state;

	(void)loop;
	if (error < 0) {
		snprintf(subject, sizeof(subject), "queue '%.*s'", SHOWN(call));
		answer_commit_refused(call, res, call_queue(call), NULL, subject);
		if (res.n >= 0)
			store_commit_free(commit);
		call_end(call);
		return;
	}
	call->job = commit->results[0].job;
	call->level = (int8_t)commit->level;
	call->position = commit->position;
	call->duplicate = commit->results[0].duplicate;
	state = commit->results[0].state;
	callback_begin(call->api, commit);
	store_commit_free(commit);
	if (call->prefer.wait) {
		call_wait_finished(call);
		return;
	}
	call_accepted(call, state);
	call_end(call);
}

/* The answer is that of a request to this queue or topic. */
static void rename_request(struct request *request, struct store_slice name)
{
	memcpy(request->name, name.data, name.len);
	request->name_len = name.len;
}

static void submit_now(struct request *request, const struct schedule *s, int level)
{
	struct transaction_refusal refusal;
	struct transaction transaction;
	struct store_submit *submit;
	struct wh__text fields;
	struct wh_slice name, url = {NULL, 0};
	struct call *call;

	if (!schedule_action(&transaction, s, request->api->options.payload_bytes_max, &refusal)) {
		refuse_action(request, &refusal);
		transaction_done(&transaction);
		return;
	}
	submit = &transaction.actions[0].submit;
	if (transaction.callbacks)
		url = transaction.callbacks[0];
	wh__text_init(&fields, NULL, 0);
	name = namespace_plain((struct wh_slice){s->name, s->name_len});
	wh__text_str(&fields, "Whilst-Schedule: ");
	wh__text_put(&fields, name.data, name.len);
	wh__text_put(&fields, "\r\n", 2);
	(void)schedule_put_fields(&fields, s, &refusal);
	submit->headers = (struct store_slice){fields.data, fields.len};
	rename_request(request, submit->queue);
	call = call_new(request, CALL_SUBMIT);
	if (call) {
		call_set_wait(call, request);
		call_then(call,
		          fields.failed ? wh_failed(request->api->loop, -ENOMEM)
		          : url.data    ? callback_submit(request->api->store, submit, url, level, NULL)
		                        : store_submit(request->api->store, submit, level),
		          ran);
	}
	wh__text_done(&fields);
	transaction_done(&transaction);
}

/* "NAME/" and what no other event has. */
static size_t make_id(wh_loop *loop, const struct schedule *s, char id[SCHEDULE_EVENT_ID_BYTES])
{
	struct wh_slice name = namespace_plain((struct wh_slice){s->name, s->name_len});
	uint8_t random[14];
	size_t len = name.len;

	wh_random(loop, random, sizeof(random));
	memcpy(id, name.data, len);
	id[len++] = '/';
	for (size_t i = 0; i < sizeof(random); i++, len += 2)
		snprintf(id + len, 3, "%02x", random[i]);
	return len;
}

static void publish_now(struct request *request, const struct schedule *s, int level)
{
	struct api *api = request->api;
	struct event_refusal why = {0, ""};
	struct transaction_refusal refusal;
	char id[SCHEDULE_EVENT_ID_BYTES];
	const struct topic *topic = NULL;
	struct schedule_event event;
	enum event_wrong wrong;
	struct publication p;

	publication_open(&p, api->loop);
	if (!schedule_event_read(&event, s, api->options.payload_bytes_max, &refusal))
		refuse_action(request, &refusal);
	else
		topic = find_topic(request, schedule_event_topic(&event));
	if (topic) {
		wrong = schedule_event_add(&event, &p, topic,
		                           (struct wh_slice){id, make_id(api->loop, s, id)},
		                           wh_wall_now(api->loop), &why);
		rename_request(request, schedule_event_topic(&event));
		if (wrong == EVENT_GOOD)
			publish_commit(request, &p, false, level, NULL);
		else /* its form was judged as that of any other of it was */
			answer_problem(api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	}
	schedule_event_done(&event);
	publication_done(&p);
}

/* A job or event of it now, which is for none of the times at which it is due; they come as they would have. */
void api_schedule_run(struct request *request)
{
	const struct schedule *s =
		schedule_find(&request->api->scheduler.table, request->name, request->name_len);
	int level;

	if (!request_level(request, false, &level) || !request_options(request, NULL, 0))
		return;
	if (!s)
		unknown(request->api, request->x, SHOWN(request));
	else if (s->publish.data)
		publish_now(request, s, level);
	else
		submit_now(request, s, level);
}

/* ---- removing ---------------------------------------------------------------------------- */

static void delete_done(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	int64_t error = res.n < 0 ? res.n : commit->results[0].error;
	struct wh__text text;

	(void)loop;
	if (error == -JOB_EUNKNOWN_SETTING) {
		unknown(call->api, call->x, SHOWN(call));
	} else if (error < 0) {
		refuse(call, error, res.n < 0 ? NULL : commit->reason);
	} else {
		schedule_remove(&call->api->scheduler.table, call->name, call->name_len);
		wh__text_init(&text, NULL, 0);
		wh__text_str(&text, "{\"name\":");
		wh__text_json(&text, call->name + call->hidden, call->name_len - call->hidden);
		wh__text_str(&text, "}\n");
		answer_committed(call->x, commit->level, commit->position);
		answer_done(call->api, call->x, 200, "application/json", &text);
	}
	if (res.n >= 0)
		store_commit_free(commit);
	call_end(call);
}

void api_schedule_delete(struct request *request)
{
	static const char *const prefixes[] = {SCHEDULE_SETTING_PREFIX, SCHEDULED_SETTING_PREFIX};
	struct store_action actions[2];
	char keys[2][SCHEDULE_KEY_BYTES];
	struct call *call;
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, true, &level))
		return;
	if (!schedule_find(&request->api->scheduler.table, request->name, request->name_len)) {
		unknown(request->api, request->x, SHOWN(request));
		return;
	}
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	for (int i = 0; i < 2; i++) {
		size_t len = schedule_key(keys[i], prefixes[i], request->name, request->name_len);

		actions[i] = (struct store_action){.kind = STORE_SETTING_DELETE};
		actions[i].setting.key = (struct store_slice){keys[i], len};
	}
	/* one that has not run yet has no second setting */
	call_then(call, store_apply(request->api->store, actions, 2, STORE_EACH, level), delete_done);
}
