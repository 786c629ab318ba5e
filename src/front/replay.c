/* src/front/replay.c -- kept events handed over to a subscription again, a step at a time.
 *
 * A step reads some events, and its jobs and how far the replay has come are one commit: whatever ends the server, each event
 * is handed over once. What is published meanwhile goes to the subscription as always. One step is under way at any time, of the
 * subscriptions in turn, so that a replay of whatever size takes little memory and leaves the server to the others.
 * Thread: the loop of the store.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/api.h"
#include "front/publish.h"

enum { STEP_EVENTS = 100, LOOK_EVENTS = 1000 };
#define STEP_BYTES (1 << 20)
#define AGAIN_NS   WH_NS_PER_S

struct replay {
	struct api *api;
	wh_future pause;
	bool pausing, over;            /* over: its last step */
	uint64_t after, until, cursor; /* cursor: events up to here are looked at */
	uint32_t looked_at;
	size_t count, bytes;
	size_t step;                                      /* events at most */
	struct store_bytes *events[STEP_EVENTS];          /* that are wanted */
	struct wh__text keys;                             /* of their jobs, one behind the other */
	uint16_t group[STEP_EVENTS], unique[STEP_EVENTS]; /* bytes of these */
	int64_t unique_while_ns;
	size_t topic_len, name_len;
	char topic[TOPIC_NAME_BYTES_MAX], name[SUBSCRIPTION_NAME_BYTES_MAX];
};

static void end(struct replay *r)
{
	struct api *api = r->api;

	for (size_t i = 0; i < r->count; i++)
		store_bytes_unref(r->events[i]);
	wh__text_done(&r->keys);
	api->replay = NULL;
	api->calls_count--;
	front_check_drained(api);
}

/* Over with this step: the next one, at once or after a pause. */
static void end_and_go_on(struct replay *r)
{
	struct api *api = r->api;

	end(r);
	publish_replay(api);
}

static void pause_over(wh_loop *loop, wh_res res, void *arg)
{
	struct replay *r = arg;

	r->pausing = false;
	if (res.n < 0)
		end(r);
	else
		end_and_go_on(r);
}

static void then(struct replay *r, wh_future future, wh_callback *callback)
{
	if (wh_then(future, callback, r) != 0)
		end(r); /* no memory, not even for a pause: the next event, change or start goes on */
}

/* A queue that is full, a full disk: the jobs have to wait. */
static void pause(struct replay *r)
{
	r->pause = wh_sleep(r->api->loop, AGAIN_NS);
	r->pausing = true;
	then(r, r->pause, pause_over);
}

/* The subscription, if it still stands where this step began. */
static struct subscription *find(const struct replay *r, struct topic **ret_topic)
{
	struct subscription *s;

	*ret_topic = topic_find(&r->api->topics, r->topic, r->topic_len);
	s = *ret_topic ? subscription_find(*ret_topic, r->name, r->name_len) : NULL;
	return s && s->replay_until == r->until && s->replay_after == r->after ? s : NULL;
}

/* ---- committing ---------------------------------------------------------------------------- */

static void committed(wh_loop *loop, wh_res res, void *arg)
{
	struct replay *r = arg;
	struct store_commit *commit = res.ptr;
	int64_t error = res.n < 0 ? res.n : commit->error;
	struct topic *topic = NULL;
	struct subscription *s = find(r, &topic);

	if (res.n >= 0)
		store_commit_free(commit);
	if (error == 0) {
		if (s)
			subscription_replay(&r->api->topics, s, r->cursor, r->over ? 0 : r->until);
		r->api->events_replayed += r->count;
		r->api->replay_step = r->step * 2 < STEP_EVENTS ? (uint32_t)r->step * 2 : STEP_EVENTS;
		end_and_go_on(r);
		return;
	}
	if (job_is_full(error)) /* as many as there is room for, not all or none */
		r->api->replay_step = 1;
	if (error == -ECANCELED || r->api->draining)
		end(r);
	else if (job_is_full(error) && r->count > 1)
		end_and_go_on(r);
	else
		pause(r);
}

static void commit(struct replay *r)
{
	struct store_action *actions = calloc(r->count + 1, sizeof(*actions));
	struct topic *topic = NULL;
	struct subscription *s = find(r, &topic), then_put;
	char key[TOPIC_KEY_BYTES];
	const char *keys = r->keys.data ? r->keys.data : "";
	struct wh__text text;

	if (!s || !actions) {
		free(actions);
		if (s)
			pause(r);
		else
			end_and_go_on(r);
		return;
	}
	for (size_t i = 0; i < r->count; i++) {
		const struct store_bytes *event = r->events[i];

		actions[i].kind = STORE_SUBMIT;
		actions[i].submit = (struct store_submit){.queue = {s->queue, strlen(s->queue)},
		                                          .payload = event->body,
		                                          .content_type = event->content_type,
		                                          .headers = event->headers,
		                                          .trace = event->trace,
		                                          .priority = JOB_PRIORITY_DEFAULT,
		                                          .about = event->event,
		                                          .group = {keys, r->group[i]},
		                                          .unique = {keys + r->group[i], r->unique[i]}};
		if (r->unique[i] > 0)
			actions[i].submit.unique_while_ns = r->unique_while_ns;
		keys += r->group[i] + r->unique[i];
	}
	/* the table follows when it is done: who puts the subscription anew meanwhile says where it stood, and loses nothing */
	then_put = *s;
	then_put.replay_after = r->cursor;
	then_put.replay_until = r->over ? 0 : r->until;
	wh__text_init(&text, NULL, 0);
	subscription_write_setting(&text, &then_put);
	actions[r->count].kind = STORE_SETTING_PUT;
	actions[r->count].setting.key =
		subscription_setting_key(key, topic->name, topic->name_len, s->name, s->name_len);
	actions[r->count].setting.value = (struct store_slice){text.data, text.len};
	then(r,
	     text.failed ? wh_failed(r->api->loop, -ENOMEM)
	                 : store_apply(r->api->store, actions, r->count + 1, 0, STORE_LOCAL),
	     committed);
	wh__text_done(&text);
	free(actions);
}

/* ---- reading ------------------------------------------------------------------------------- */

static void read_next(struct replay *r);

static void put_keys(struct replay *r, const struct subscription *s, const struct event *event)
{
	size_t at = r->keys.len;

	subscription_put_group(&r->keys, s, event);
	r->group[r->count] = (uint16_t)(r->keys.len - at);
	at = r->keys.len;
	subscription_put_unique(&r->keys, s, event);
	r->unique[r->count] = (uint16_t)(r->keys.len - at);
	r->unique_while_ns = s->unique_while_ns;
}

/* 1, and its keys are there; 0; -ENOMEM: it cannot be told just now. */
static int is_wanted(struct replay *r, const struct subscription *s, const struct store_bytes *bytes)
{
	struct event event;
	enum event_wrong wrong =
		event_read_kept(&event, answer_slice(bytes->headers), answer_slice(bytes->content_type),
	                        answer_slice(bytes->body));
	int yes;

	if (wrong != EVENT_GOOD)
		return wrong == EVENT_NO_MEMORY ? -ENOMEM : 0;
	yes = filter_matches(s->filter, &event);
	if (yes)
		put_keys(r, s, &event);
	event_done(&event);
	return r->keys.failed ? -ENOMEM : yes;
}

static void got_event(wh_loop *loop, wh_res res, void *arg)
{
	struct replay *r = arg;
	struct store_bytes *bytes = res.n >= 0 ? res.ptr : NULL;
	struct topic *topic = NULL;
	struct subscription *s = find(r, &topic);
	int wanted;

	if (!s || res.n == -ECANCELED || r->api->draining) {
		store_bytes_unref(bytes);
		if (s)
			end(r);
		else
			end_and_go_on(r);
		return;
	}
	if (!bytes && res.n != -JOB_EEXPIRED && res.n != -JOB_EUNKNOWN_JOB && res.n != -WH_EDAMAGED) {
		pause(r);
		return;
	}
	wanted = bytes ? is_wanted(r, s, bytes) : 0;
	if (wanted < 0) {
		store_bytes_unref(bytes);
		pause(r);
		return;
	}
	r->looked_at++;
	if (wanted > 0) {
		r->bytes += bytes->bytes;
		r->events[r->count++] = bytes;
	} else {
		store_bytes_unref(bytes);
	}
	read_next(r);
}

static void read_next(struct replay *r)
{
	struct topic *topic = topic_find(&r->api->topics, r->topic, r->topic_len);
	uint64_t next = topic ? store_kept_next(r->api->store, topic_queue(topic), r->cursor) : 0;
	bool over = next == 0 || next > r->until;

	if (over || r->count == r->step || r->bytes >= STEP_BYTES || r->looked_at == LOOK_EVENTS) {
		r->over = over;
		commit(r);
		return;
	}
	r->cursor = next;
	then(r, store_payload(r->api->store, next, STORE_ASYNC), got_event);
}

int publish_replay_open(struct api *api)
{
	api->replay_room = calloc(1, sizeof(*api->replay_room));
	return api->replay_room ? 0 : -ENOMEM;
}

void publish_replay_stop(struct api *api)
{
	if (api->replay && api->replay->pausing)
		wh_cancel(api->replay->pause);
}

/* ---- whose turn it is ---------------------------------------------------------------------- */

/* The one whose replay is furthest behind: so all of them come to their turn. */
static struct subscription *choose(const struct topic_table *table, const struct topic **ret_topic)
{
	struct subscription *chosen = NULL;

	for (size_t i = 0; i < table->count; i++) {
		for (size_t j = 0; j < table->topics[i]->count; j++) {
			struct subscription *s = table->topics[i]->subscriptions[j];

			if (s->replay_until > 0 && (!chosen || s->replay_after < chosen->replay_after)) {
				chosen = s;
				*ret_topic = table->topics[i];
			}
		}
	}
	return chosen;
}

void publish_replay(struct api *api)
{
	const struct topic *topic = NULL;
	struct subscription *s;
	struct replay *r;

	if (api->replay || api->draining || api->topics.replays == 0)
		return;
	s = choose(&api->topics, &topic);
	if (!s)
		return;
	r = api->replay_room;
	*r = (struct replay){.api = api,
	                     .after = s->replay_after,
	                     .until = s->replay_until,
	                     .cursor = s->replay_after,
	                     .step = api->replay_step ? api->replay_step : STEP_EVENTS,
	                     .topic_len = topic->name_len,
	                     .name_len = s->name_len};
	wh__text_init(&r->keys, NULL, 0);
	memcpy(r->topic, topic->name, topic->name_len);
	memcpy(r->name, s->name, s->name_len);
	api->replay = r;
	api->calls_count++;
	read_next(r);
}
