/* src/front/api_queue.c -- /v1/queues: list, counters, configure, pause, resume, remove. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/event_stream.h"
#include "front/own.h"
#include "front/page.h"
#include "front/queue_config.h"

static void refused(struct call *call, int64_t error, const char *reason)
{
	char subject[TARGET_NAME_BYTES_MAX + 20];

	snprintf(subject, sizeof(subject), "queue '%.*s'", SHOWN(call));
	answer_refused(
		call->api, call->x,
		&(struct refused){
			.error = error, .reason = reason, .queue = call_queue(call), .subject = subject});
	call_end(call);
}

static void put_queue(struct wh__text *text, const struct store_queue_view *queue, struct wh_slice namespace,
                      struct wh_slice name)
{
	static const int order[] = {JOB_DELAYED, JOB_READY,     JOB_RUNNING, JOB_DONE,
	                            JOB_FAILED,  JOB_CANCELLED, JOB_BURIED,  JOB_AWAITING};

	wh__text_str(text, "{\"name\":");
	wh__text_json(text, name.data, name.len);
	wh__text_format(text, ",\"paused\":%s,\"jobs\":{", queue->paused ? "true" : "false");
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		wh__text_format(text, "%s\"%s\":%llu", i ? "," : "", answer_state(order[i]),
		                (unsigned long long)queue->jobs[order[i]]);
	wh__text_format(text, "},\"submitted\":%llu,\"dead\":%llu", (unsigned long long)queue->submitted,
	                (unsigned long long)queue->dead);
	queue_config_put(text, queue, namespace);
	wh__text_put(text, "}", 1);
}

static void listed(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_queues *queues = res.ptr;
	struct page *page = call->arg; /* of a list */
	char given[2048];
	struct wh__text text;

	if (res.n < 0) {
		refused(call, res.n, NULL);
		return;
	}
	wh__text_init(&text, given, sizeof(given));
	if (page)
		wh__text_str(&text, "{\"queues\":[");
	for (size_t i = 0; queues && i < queues->count; i++) {
		struct wh_slice name =
			namespace_show(call_namespace(call), answer_slice(queues->queues[i].name));

		if (!name.data || (page && !page_takes(page, name)))
			continue;
		if (page && page->count > 1)
			wh__text_put(&text, ",", 1);
		put_queue(&text, &queues->queues[i], call_namespace(call), name);
	}
	if (page) {
		page->more = queues->more;
		page_end(page, &text);
	}
	wh__text_put(&text, "\n", 1);
	answer_text(call->api, call->x, 200, "application/json", &text);
	store_queues_free(queues);
	call_end(call);
}

/* Those of the client's namespace, from where it is on. */
static wh_future some_queues(struct request *request, const struct page *page)
{
	char within[NAMESPACE_BYTES_MAX + 1] = {0}, after[NAMESPACE_BYTES_MAX + 1 + TARGET_NAME_BYTES_MAX];
	size_t len = request->namespace.len;

	if (len > 0) {
		memcpy(within, request->namespace.data, len);
		within[len++] = ':';
	}
	memcpy(after, within, len);
	memcpy(after + len, page->after, page->after_len);
	return store_queues_page(request->api->store, (struct store_slice){within, len},
	                         (struct store_slice){after, page->after_len > 0 ? len + page->after_len : 0},
	                         page->limit);
}

void api_queue_list(struct request *request)
{
	bool streams = event_stream_wanted(request);
	struct page *page;
	struct call *call;
	int level;

	if ((streams && !request_options(request, NULL, 0)) || !request_level(request, false, &level))
		return;
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	if (streams) {
		api_queue_stream(call, request->last_event_id);
		return;
	}
	page = call->arg = malloc(sizeof(*page));
	if (!page)
		answer_problem(request->api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	if (!page || !page_read(request, page))
		call_end(call);
	else
		call_then(call, some_queues(request, page), listed);
}

void api_queue_get(struct request *request)
{
	struct call *call;
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, false, &level))
		return;
	call = call_new(request, CALL_OTHER);
	if (call)
		call_then(call, store_queue(request->api->store, request_queue(request)), listed);
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
		bool dead = call->action == STORE_QUEUE_PUT && commit->error == -JOB_EUNKNOWN_QUEUE;

		refused(call, commit->error,
		        dead ? "there is no such queue as its dead_letter" : commit->reason);
		store_commit_free(commit);
		return;
	}
	if (call->action == STORE_QUEUE_PUT && commit->results[0].created) {
		size_t len = 11;
		memcpy(location, "/v1/queues/", len);
		len += target_encode(call->name + call->hidden, call->name_len - call->hidden,
		                     location + len);
		wh_http_set_slice(call->x, (struct wh_slice){"Location", 8},
		                  (struct wh_slice){location, len});
		status = 201;
	}
	wh__text_init(&text, body, sizeof(body));
	wh__text_str(&text, "{\"name\":");
	wh__text_json(&text, call->name + call->hidden, call->name_len - call->hidden);
	wh__text_str(&text, "}\n");
	answer_committed(call->x, commit->level, commit->position);
	answer_done(call->api, call->x, status, "application/json", &text);
	store_commit_free(commit);
	call_end(call);
}

static void change(struct request *request, int kind, const struct queue_config *config)
{
	struct store_action action = {.kind = kind, .queue.name = request_queue(request)};
	struct call *call;
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, true, &level))
		return;
	if (config) {
		action.queue.config = config->config;
		action.queue.dead_letter = (struct store_slice){config->dead_letter, config->dead_letter_len};
	}
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	call->action = (uint8_t)kind;
	call_then(call, store_apply(request->api->store, &action, 1, 0, level), changed);
}

void api_queue_delete(struct request *request)
{
	if (own_refused(request, OWN_REMOVE))
		return;
	if (service_find(&request->api->targets, request->name, request->name_len)) {
		answer_problem(request->api, request->x, PROBLEM_HAS_TARGET, NULL,
		               "queue '%.*s' is pushed to a target, which would make it anew; DELETE "
		               "/v1/queues/{queue}/target first",
		               SHOWN(request));
		return;
	}
	change(request, STORE_QUEUE_DELETE, NULL);
}

void api_queue_pause(struct request *request)
{
	if (!own_refused(request, OWN_PAUSE))
		change(request, STORE_QUEUE_PAUSE, NULL);
}

void api_queue_resume(struct request *request)
{
	if (!own_refused(request, OWN_PAUSE))
		change(request, STORE_QUEUE_RESUME, NULL);
}

void api_queue_put(struct request *request)
{
	struct queue_config config;

	if (!own_refused(request, OWN_CONFIGURE) && request_json(request) &&
	    queue_config_read(request, &config))
		change(request, STORE_QUEUE_PUT, &config);
}
