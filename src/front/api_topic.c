/* src/front/api_topic.c -- /v1/topics and their subscriptions: kept as settings of the store, read by publishing from a table.
 *
 * The table changes in the moment in which the change goes to the store, and back if it is refused: what is published from then on is
 * behind it in the log, so that a restart knows no event without the subscription that it was judged by.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/page.h"
#include "front/publish.h"
#include "front/topic.h"

/* A change on its way: what it replaces, and what it is about. */
struct change {
	struct call *call;
	struct subscription *now, *old; /* of a subscription: in the table; out of it */
	/* of a topic: as it was, as it is to be */
	bool was_declared;
	struct topic_config was, config;
	enum topic_from from;
	bool replay; /* and nothing else */
	struct store_position position;
	size_t name_len; /* of the subscription */
	char name[TARGET_NAME_BYTES_MAX];
};

/* ---- names ------------------------------------------------------------------------------- */

static void unknown_topic(struct request *request)
{
	answer_problem(
		request->api, request->x, PROBLEM_UNKNOWN_TOPIC, NULL,
		"there is no topic '%.*s'; PUT /v1/topics/{topic} makes one, and so does a subscription",
		SHOWN(request));
}

struct topic *request_topic(struct request *request)
{
	struct topic *topic = topic_there(&request->api->topics, request->name, request->name_len);

	if (!topic)
		unknown_topic(request);
	return topic;
}

static bool check_topic_name(struct request *request)
{
	if (request->name_len <= TOPIC_NAME_BYTES_MAX)
		return true;
	answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL,
	               "the name of a topic has at most %d bytes",
	               TOPIC_NAME_BYTES_MAX - (int)request->hidden);
	return false;
}

static bool read_subscription_name(struct request *request, char name[TARGET_NAME_BYTES_MAX], size_t *ret_len)
{
	const char *wrong = target_name(request->target.segments[4], name, ret_len);

	if (wrong)
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "path: the name of the subscription %s", wrong);
	else if (*ret_len > SUBSCRIPTION_NAME_BYTES_MAX)
		answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL,
		               "the name of a subscription has at most %d bytes",
		               SUBSCRIPTION_NAME_BYTES_MAX);
	return !wrong && *ret_len <= SUBSCRIPTION_NAME_BYTES_MAX;
}

static void refuse_json(struct request *request, enum topic_wrong wrong, const char *detail)
{
	if (wrong == TOPIC_NO_MEMORY)
		answer_problem(request->api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	else
		answer_problem(request->api, request->x,
		               wrong == TOPIC_BAD_JSON ? PROBLEM_BAD_JSON : PROBLEM_BAD_VALUE, NULL, "%s",
		               detail);
}

/* ---- looking ----------------------------------------------------------------------------- */

static uint64_t events_of(struct api *api, const struct topic *topic)
{
	return store_kept_count(api->store, topic_queue(topic), 0);
}

static uint64_t replay_left(struct api *api, const struct topic *topic, const struct subscription *s)
{
	if (s->replay_until == 0)
		return 0;
	return store_kept_count(api->store, topic_queue(topic), s->replay_after) -
	       store_kept_count(api->store, topic_queue(topic), s->replay_until);
}

static void shown(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	const char *json = call->arg;

	if (res.n < 0)
		answer_error(call->api, call->x, res.n, NULL, JOB_NONE, "topics");
	else
		answer_bytes(call->api, call->x, 200, "application/json", json, strlen(json));
	call_end(call);
}

/* What is shown, kept events and how far a replay has come among it, is on the disk when it is told. */
static void show(struct request *request, struct wh__text *text)
{
	struct call *call = call_new(request, CALL_OTHER);
	int level = request->level == STORE_ASYNC ? STORE_ASYNC : STORE_LOCAL;
	struct store_marks marks;

	if (!call) {
		wh__text_done(text);
		return;
	}
	wh__text_put(text, "\n", 2); /* and its NUL */
	call->arg = wh__text_take(text);
	store_marks(request->api->store, &marks);
	call_then(call,
	          call->arg ? store_wait_position(request->api->store,
	                                          (struct store_position){marks.epoch, marks.appended}, level)
	                    : wh_failed(request->api->loop, -ENOMEM),
	          shown);
}

void api_topic_list(struct request *request)
{
	struct api *api = request->api;
	struct wh__text text;
	struct page page;
	int level;

	if (!request_level(request, false, &level) || !page_read(request, &page))
		return;
	wh__text_init(&text, NULL, 0);
	wh__text_str(&text, "{\"topics\":[");
	for (size_t i = 0; i < api->topics.count; i++) {
		const struct topic *topic = api->topics.topics[i];
		struct wh_slice name = {topic->name, topic->name_len},
				shown = namespace_show(request->namespace, name);

		if (!topic_is_there(topic) || !shown.data || !page_takes(&page, shown))
			continue;
		if (page.count > 1)
			wh__text_put(&text, ",", 1);
		topic_write(&text, topic, name.len - shown.len, events_of(api, topic));
	}
	page_end(&page, &text);
	show(request, &text);
}

void api_topic_get(struct request *request)
{
	struct topic *topic;
	struct wh__text text;
	int level;

	if (!request_level(request, false, &level) || !request_options(request, NULL, 0) ||
	    !(topic = request_topic(request)))
		return;
	wh__text_init(&text, NULL, 0);
	topic_write(&text, topic, request->hidden, events_of(request->api, topic));
	show(request, &text);
}

static struct subscription *request_subscription(struct request *request, struct topic **ret_topic)
{
	char name[TARGET_NAME_BYTES_MAX];
	struct subscription *s;
	struct topic *topic;
	size_t len;

	if (!read_subscription_name(request, name, &len) || !(topic = request_topic(request)))
		return NULL;
	s = subscription_find(topic, name, len);
	if (!s)
		answer_problem(request->api, request->x, PROBLEM_UNKNOWN_SUBSCRIPTION, NULL,
		               "topic '%.*s' has no subscription '%.*s'", SHOWN(request), (int)len, name);
	*ret_topic = topic;
	return s;
}

void api_subscription_get(struct request *request)
{
	struct topic *topic = NULL;
	struct subscription *s;
	struct wh__text text;
	int level;

	if (!request_level(request, false, &level) || !request_options(request, NULL, 0) ||
	    !(s = request_subscription(request, &topic)))
		return;
	wh__text_init(&text, NULL, 0);
	subscription_write(&text, topic, s, request->hidden, replay_left(request->api, topic, s));
	show(request, &text);
}

/* ---- changing: what both have in common ---------------------------------------------------- */

static struct change *change_new(struct request *request)
{
	struct change *change = calloc(1, sizeof(*change));
	struct call *call = NULL;

	if (!change)
		answer_problem(request->api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	else
		call = call_new(request, CALL_OTHER);
	if (!call) {
		free(change);
		return NULL;
	}
	change->call = call;
	call->arg = change;
	return change;
}

static void refuse(struct change *change, int64_t error, const char *reason)
{
	char subject[2 * TARGET_NAME_BYTES_MAX + 40];
	struct call *call = change->call;

	if (change->name_len > 0)
		snprintf(subject, sizeof(subject), "subscription '%.*s' of topic '%.*s'",
		         (int)change->name_len, change->name, SHOWN(call));
	else
		snprintf(subject, sizeof(subject), "topic '%.*s'", SHOWN(call));
	if (!reason && error == -JOB_EVALUE)
		reason = "from: there is nothing at that position yet";
	answer_error(call->api, call->x, error, reason, JOB_NONE, subject);
	subscription_free(change->old);
	call_end(call);
}

/* The commit's error; 0: it is done. */
static int64_t outcome(wh_res res, const char **ret_reason)
{
	const struct store_commit *commit = res.ptr;

	*ret_reason = res.n < 0 ? NULL : commit->reason;
	return res.n < 0 ? res.n : commit->error;
}

/* Goes to the store now; done(…, call). */
static void apply(struct call *call, int kind, struct store_slice key, struct wh__text *value,
                  wh_callback *done)
{
	struct store_action action = {.kind = kind, .setting.key = key};

	if (value)
		action.setting.value = (struct store_slice){value->data, value->len};
	call_then(call,
	          value && value->failed ? wh_failed(call->api->loop, -ENOMEM)
	                                 : store_apply(call->api->store, &action, 1, 0, call->level),
	          done);
	if (value)
		wh__text_done(value);
}

static void answer_changed(struct call *call, const struct store_commit *commit, int status,
                           struct wh__text *text)
{
	wh__text_put(text, "\n", 1);
	answer_committed(call->x, commit->level, commit->position);
	answer_done(call->api, call->x, status, "application/json", text);
	call_end(call);
}

/* ---- topics ------------------------------------------------------------------------------ */

static void topic_set(struct topic *topic, bool declared, struct topic_config config)
{
	topic->declared = declared;
	topic->config = config;
}

static void topic_put_done(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct change *change = call->arg;
	struct store_commit *commit = res.ptr;
	struct topic *topic = topic_find(&call->api->topics, call->name, call->name_len);
	const char *reason;
	int64_t error = outcome(res, &reason);
	struct wh__text text;

	if (error != 0) {
		if (topic) {
			topic_set(topic, change->was_declared, change->was);
			topic_drop(&call->api->topics, topic);
		}
		refuse(change, error, reason);
	} else {
		struct topic as_put = {.config = change->config};

		wh__text_init(&text, NULL, 0);
		if (!topic) { /* removed in the meantime */
			memcpy(as_put.name, call->name, call->name_len);
			as_put.name_len = call->name_len;
		}
		topic_write(&text, topic ? topic : &as_put, call->hidden,
		            topic ? events_of(call->api, topic) : 0);
		scheduler_topic_put(call->api);
		answer_changed(call, commit, commit->results[0].created ? 201 : 200, &text);
	}
	if (res.n >= 0)
		store_commit_free(commit);
}

static void topic_put_setting(struct change *change)
{
	struct call *call = change->call;
	struct topic *topic = topic_make(&call->api->topics, call->name, call->name_len);
	char key[TOPIC_KEY_BYTES];
	struct wh__text text;

	if (!topic) {
		refuse(change, -ENOMEM, NULL);
		return;
	}
	change->was_declared = topic->declared;
	change->was = topic->config;
	topic_set(topic, true, change->config);
	wh__text_init(&text, NULL, 0);
	topic_write_setting(&text, &change->config);
	apply(call, STORE_SETTING_PUT, topic_key(key, call->name, call->name_len), &text, topic_put_done);
}

static void topic_queue_done(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	const char *reason;
	int64_t error = outcome(res, &reason);

	if (error != 0)
		refuse(call->arg, error, reason);
	else
		topic_put_setting(call->arg);
	if (res.n >= 0)
		store_commit_free(res.ptr);
}

void api_topic_put(struct request *request)
{
	struct store_action queue = {.kind = STORE_QUEUE_PUT};
	struct wh_slice body = request_body(request);
	char detail[TOPIC_DETAIL_BYTES], name[sizeof(TOPIC_QUEUE_PREFIX) + TOPIC_NAME_BYTES_MAX];
	struct topic_config config = {0};
	enum topic_wrong wrong = TOPIC_GOOD;
	struct change *change;
	int level;

	if (!request_json(request) || !request_options(request, NULL, 0) ||
	    !request_level(request, true, &level) || !check_topic_name(request))
		return;
	if (body.len > 0)
		wrong = topic_read(body, request->name, request->name_len, &config, detail);
	if (wrong != TOPIC_GOOD) {
		refuse_json(request, wrong, detail);
		return;
	}
	if (request->api->topics.count >= TOPICS_MAX &&
	    !topic_find(&request->api->topics, request->name, request->name_len)) {
		answer_limit(request->api, request->x, PROBLEM_BAD_VALUE, TOPICS_MAX, NULL,
		             "there are %d topics, which is the most", TOPICS_MAX);
		return;
	}
	change = change_new(request);
	if (!change)
		return;
	change->call->level = (int8_t)level;
	change->config = config;
	if (config.retention_ns == 0) {
		topic_put_setting(change);
		return;
	}
	queue.queue.name = topic_queue_name(name, request->name, request->name_len);
	queue.queue.config.retention_ns = config.retention_ns;
	queue.queue.config.finished_max = config.events_max;
	call_then(change->call, store_apply(request->api->store, &queue, 1, 0, level), topic_queue_done);
}

static void topic_delete_done(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct change *change = call->arg;
	const char *reason;
	int64_t error = outcome(res, &reason);
	struct topic *topic;
	struct wh__text text;

	topic = topic_find(&call->api->topics, call->name, call->name_len);
	if (error != 0) {
		if (topic && !topic->declared)
			topic_set(topic, true, change->was);
		refuse(change, error, reason);
	} else {
		if (topic)
			topic_drop(&call->api->topics, topic);
		wh__text_init(&text, NULL, 0);
		wh__text_str(&text, "{\"name\":");
		wh__text_json(&text, call->name + call->hidden, call->name_len - call->hidden);
		wh__text_put(&text, "}", 1);
		answer_changed(call, res.ptr, 200, &text);
	}
	if (res.n >= 0)
		store_commit_free(res.ptr);
}

void api_topic_delete(struct request *request)
{
	struct topic *topic;
	struct change *change;
	char key[TOPIC_KEY_BYTES], members[48];
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, true, &level) ||
	    !(topic = request_topic(request)))
		return;
	if (topic->count > 0) {
		snprintf(members, sizeof(members), ",\"subscriptions\":%zu", topic->count);
		answer_problem(request->api, request->x, PROBLEM_TOPIC_NOT_EMPTY, members,
		               "topic '%.*s' has subscriptions: remove these first", SHOWN(request));
		return;
	}
	change = change_new(request);
	if (!change)
		return;
	change->call->level = (int8_t)level;
	change->was = topic->config;
	topic_set(topic, false,
	          (struct topic_config){
			  0}); /* it stays in the table, so that it can come back without memory */
	apply(change->call, STORE_SETTING_DELETE, topic_key(key, request->name, request->name_len), NULL,
	      topic_delete_done);
}

/* ---- subscriptions ----------------------------------------------------------------------- */

static void subscription_put_done(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct change *change = call->arg;
	struct topic_table *table = &call->api->topics;
	struct topic *topic = topic_find(table, call->name, call->name_len);
	struct subscription *s = topic ? subscription_find(topic, change->name, change->name_len) : NULL,
			    *mine = NULL;
	struct store_commit *commit = res.ptr;
	const char *reason;
	int64_t error = outcome(res, &reason);
	struct wh__text text;

	if (error != 0) {
		/* as it was, unless it has been changed again */
		if (s && s == change->now) {
			if (change->old)
				subscription_put(table, topic, change->old, &mine);
			else
				mine = subscription_take(table, topic, change->name, change->name_len);
			change->old = NULL;
			subscription_free(mine);
			topic_drop(table, topic);
		}
		refuse(change, error, reason);
	} else if (s) {
		wh__text_init(&text, NULL, 0);
		subscription_write(&text, topic, s, call->hidden, replay_left(call->api, topic, s));
		subscription_free(change->old);
		change->old = NULL;
		publish_replay(call->api);
		scheduler_topic_put(call->api);
		answer_changed(call, commit,
		               change->replay               ? 202
		               : commit->results[0].created ? 201
		                                            : 200,
		               &text);
	} else {
		subscription_free(change->old);
		change->old = NULL;
		refuse(change, -JOB_EUNKNOWN_SETTING, "it was removed in the meantime");
	}
	if (res.n >= 0)
		store_commit_free(commit);
}

/* Into the table and to the store, in one turn. */
static void subscription_put_setting(struct change *change, uint64_t replay_after)
{
	struct call *call = change->call;
	struct topic_table *table = &call->api->topics;
	struct topic *topic = topic_make(table, call->name, call->name_len);
	struct subscription *s = change->now, *known;
	char key[TOPIC_KEY_BYTES];
	struct wh__text text;

	if (!topic) {
		subscription_free(s);
		refuse(change, -ENOMEM, NULL);
		return;
	}
	known = subscription_find(topic, s->name, s->name_len);
	/* a replay under way goes on, by the new filters */
	s->replay_after = known ? known->replay_after : 0;
	s->replay_until = known ? known->replay_until : 0;
	if (change->from != TOPIC_FROM_NOW &&
	    store_kept_next(call->api->store, topic_queue(topic), replay_after) != 0) {
		if (s->replay_until == 0 || replay_after < s->replay_after)
			s->replay_after = replay_after;
		s->replay_until = store_kept_last(call->api->store, topic_queue(topic));
	}
	if (subscription_put(table, topic, s, &change->old) < 0) {
		subscription_free(s);
		topic_drop(table, topic);
		refuse(change, -ENOMEM, NULL);
		return;
	}
	wh__text_init(&text, NULL, 0);
	subscription_write_setting(&text, s);
	apply(call, STORE_SETTING_PUT,
	      subscription_setting_key(key, call->name, call->name_len, s->name, s->name_len), &text,
	      subscription_put_done);
}

static void found_position(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct change *change = call->arg;

	if (res.n >= 0) {
		subscription_put_setting(change, (uint64_t)res.n);
		return;
	}
	subscription_free(change->now);
	refuse(change, res.n, NULL);
}

static void position_judged(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct change *change = call->arg;
	char queue[sizeof(TOPIC_QUEUE_PREFIX) + TOPIC_NAME_BYTES_MAX];

	if (res.n >= 0) {
		call_then(call,
		          store_kept_find(call->api->store,
		                          topic_queue_name(queue, call->name, call->name_len),
		                          change->position),
		          found_position);
		return;
	}
	subscription_free(change->now);
	refuse(change, res.n, NULL);
}

static void subscription_go_on(struct change *change)
{
	struct call *call = change->call;

	if (change->from == TOPIC_FROM_POSITION)
		call_then(call, store_wait_position(call->api->store, change->position, STORE_ASYNC),
		          position_judged);
	else
		subscription_put_setting(change, 0);
}

static void subscription_queue_done(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct change *change = call->arg;
	const char *reason;
	int64_t error = outcome(res, &reason);

	if (error == 0) {
		subscription_go_on(change);
	} else {
		subscription_free(change->now);
		refuse(change, error, reason);
	}
	if (res.n >= 0)
		store_commit_free(res.ptr);
}

static bool check_limits(struct request *request, const char *name, size_t name_len)
{
	struct topic_table *table = &request->api->topics;
	struct topic *topic = topic_find(table, request->name, request->name_len);

	if (!topic && table->count >= TOPICS_MAX) {
		answer_limit(request->api, request->x, PROBLEM_BAD_VALUE, TOPICS_MAX, NULL,
		             "there are %d topics, which is the most", TOPICS_MAX);
		return false;
	}
	if (topic && topic->count >= TOPIC_SUBSCRIPTIONS_MAX && !subscription_find(topic, name, name_len)) {
		answer_limit(request->api, request->x, PROBLEM_BAD_VALUE, TOPIC_SUBSCRIPTIONS_MAX, NULL,
		             "topic '%.*s' has %d subscriptions, which is the most", SHOWN(request),
		             TOPIC_SUBSCRIPTIONS_MAX);
		return false;
	}
	return true;
}

/* The queue is there before the subscription, so that publishing never fails for want of it. */
static void subscription_put_queue(struct change *change, struct subscription *s)
{
	struct call *call = change->call;
	struct store_action queue = {.kind = STORE_QUEUE_PUT, .queue.name = {s->queue, strlen(s->queue)}};
	struct store_queue_view view;

	change->now = s;
	memcpy(change->name, s->name, s->name_len);
	change->name_len = s->name_len;
	if (store_queue_now(call->api->store, queue.queue.name, &view) == 0)
		subscription_go_on(change);
	else
		call_then(call, store_apply(call->api->store, &queue, 1, 0, call->level),
		          subscription_queue_done);
}

void api_subscription_put(struct request *request)
{
	struct wh_slice topic = {request->name, request->name_len}, name = {NULL, 0};
	char room[TARGET_NAME_BYTES_MAX], detail[TOPIC_DETAIL_BYTES];
	enum topic_from from = TOPIC_FROM_NOW;
	struct store_position position = {0, 0};
	struct subscription *s;
	struct change *change;
	enum topic_wrong wrong;
	int level;

	name.data = room;
	if (!request_json(request) || !request_options(request, NULL, 0) ||
	    !request_level(request, true, &level) || !check_topic_name(request) ||
	    !read_subscription_name(request, room, &name.len) || !check_limits(request, room, name.len))
		return;
	wrong = subscription_read(request_body(request), request->namespace, &topic, &name, false, &s, &from,
	                          &position, detail);
	if (wrong != TOPIC_GOOD) {
		refuse_json(request, wrong, detail);
		return;
	}
	change = change_new(request);
	if (!change) {
		subscription_free(s);
		return;
	}
	change->call->level = (int8_t)level;
	change->from = from;
	change->position = position;
	subscription_put_queue(change, s);
}

static void subscription_delete_done(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct change *change = call->arg;
	struct topic_table *table = &call->api->topics;
	struct subscription *later = NULL;
	const char *reason;
	int64_t error = outcome(res, &reason);
	struct topic *topic;
	struct wh__text text;

	topic = topic_find(table, call->name, call->name_len);
	if (error != 0) {
		if (topic && !subscription_find(topic, change->name, change->name_len) &&
		    subscription_put(table, topic, change->old, &later) == 0)
			change->old = NULL;
		refuse(change, error, reason);
	} else {
		if (topic)
			topic_drop(table, topic);
		wh__text_init(&text, NULL, 0);
		wh__text_str(&text, "{\"topic\":");
		wh__text_json(&text, call->name + call->hidden, call->name_len - call->hidden);
		wh__text_str(&text, ",\"name\":");
		wh__text_json(&text, change->name, change->name_len);
		wh__text_put(&text, "}", 1);
		subscription_free(change->old);
		change->old = NULL;
		answer_changed(call, res.ptr, 200, &text);
	}
	if (res.n >= 0)
		store_commit_free(res.ptr);
}

void api_subscription_delete(struct request *request)
{
	struct topic *topic = NULL;
	struct subscription *s;
	struct change *change;
	char key[TOPIC_KEY_BYTES];
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, true, &level) ||
	    !(s = request_subscription(request, &topic)))
		return;
	change = change_new(request);
	if (!change)
		return;
	change->call->level = (int8_t)level;
	memcpy(change->name, s->name, s->name_len);
	change->name_len = s->name_len;
	change->old = subscription_take(&request->api->topics, topic, s->name, s->name_len);
	apply(change->call, STORE_SETTING_DELETE,
	      subscription_setting_key(key, request->name, request->name_len, change->name, change->name_len),
	      NULL, subscription_delete_done);
}

/* ---- replay ------------------------------------------------------------------------------ */

/* The same subscription, put again with another beginning. */
void api_subscription_replay(struct request *request)
{
	struct option options[] = {{"from", OPTION_TEXT, 0, 0, false, 0, ""}};
	struct topic *topic = NULL;
	struct subscription *s, *copy;
	struct store_position position = {0, 0};
	enum topic_from from = TOPIC_FROM_BEGINNING;
	char detail[TOPIC_DETAIL_BYTES];
	struct wh_slice topic_name, name;
	struct change *change;
	struct wh__text text;
	enum topic_wrong wrong;
	int level;

	if (!request_options(request, options, 1))
		return;
	if (options[0].given && strcmp(options[0].text, "beginning") != 0) {
		from = TOPIC_FROM_POSITION;
		if (!topic_position(options[0].text, (size_t)options[0].value, &position)) {
			answer_problem(
				request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
				"query: from '%.60s' is neither beginning nor a position such as 3/90112",
				options[0].text);
			return;
		}
	}
	if (!request_level(request, true, &level) || !(s = request_subscription(request, &topic)))
		return;
	wh__text_init(&text, NULL, 0);
	subscription_write_setting(&text, s);
	topic_name = (struct wh_slice){topic->name, topic->name_len};
	name = (struct wh_slice){s->name, s->name_len};
	wrong = text.failed ? TOPIC_NO_MEMORY
	                    : subscription_read((struct wh_slice){text.data, text.len},
	                                        (struct wh_slice){NULL, 0}, &topic_name, &name, true, &copy,
	                                        NULL, NULL, detail);
	wh__text_done(&text);
	if (wrong != TOPIC_GOOD) {
		refuse_json(request, wrong, detail);
		return;
	}
	change = change_new(request);
	if (!change) {
		subscription_free(copy);
		return;
	}
	change->call->level = (int8_t)level;
	change->from = from;
	change->position = position;
	change->replay = true;
	subscription_put_queue(change, copy);
}
