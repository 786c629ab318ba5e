/* src/front/api_service.c -- /v1/services and /v1/queues/{queue}/target: whom calls and jobs are sent to, kept as settings of the store. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deliver/push.h"
#include "front/page.h"

enum { KEY_BYTES = sizeof(SERVICE_SETTING_PREFIX) + TARGET_NAME_BYTES_MAX };

static struct store_slice key_of(bool target, const char *name, size_t len, char key[KEY_BYTES])
{
	const char *prefix = target ? TARGET_SETTING_PREFIX : SERVICE_SETTING_PREFIX;
	size_t prefix_len = strlen(prefix);

	memcpy(key, prefix, prefix_len);
	memcpy(key + prefix_len, name, len);
	return (struct store_slice){key, prefix_len + len};
}

static struct service_table *table_of(struct api *api, bool target)
{
	return target ? &api->targets : &api->services;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct service *const *)a)->name, (*(const struct service *const *)b)->name);
}

void api_service_list(struct request *request)
{
	struct api *api = request->api;
	const struct service *all[SERVICES_MAX];
	struct wh__text text;
	struct page page;
	size_t count = 0;

	if (!page_read(request, &page))
		return;
	for (const struct service *service = api->services.first; service; service = service->next) {
		if (count < SERVICES_MAX &&
		    namespace_show(request->namespace,
		                   (struct wh_slice){service->name, strlen(service->name)})
		            .data)
			all[count++] = service;
	}
	qsort(all, count, sizeof(all[0]), by_name);
	wh__text_init(&text, NULL, 0);
	wh__text_str(&text, "{\"services\":[");
	for (size_t i = 0; i < count; i++) {
		struct wh_slice name = {all[i]->name, strlen(all[i]->name)},
				shown = namespace_show(request->namespace, name);

		if (!page_takes(&page, shown))
			continue;
		if (page.count > 1)
			wh__text_put(&text, ",", 1);
		service_write(&text, all[i], name.len - shown.len);
	}
	page_end(&page, &text);
	wh__text_put(&text, "\n", 1);
	answer_text(api, request->x, 200, "application/json", &text);
}

static void unknown(struct request *request, bool target)
{
	if (target) {
		answer_problem(request->api, request->x, PROBLEM_UNKNOWN_TARGET, NULL,
		               "queue '%.*s' has no target; PUT /v1/queues/{queue}/target gives it one",
		               SHOWN(request));
		return;
	}
	answer_problem(
		request->api, request->x, PROBLEM_UNKNOWN_SERVICE, NULL,
		"there is no service '%.*s'; PUT /v1/services/{name} makes one, GET /v1/services lists them",
		SHOWN(request));
}

static void get(struct request *request, bool target)
{
	struct api *api = request->api;
	const struct service *service = service_find(table_of(api, target), request->name, request->name_len);
	struct wh__text text;

	if (!request_options(request, NULL, 0))
		return;
	if (!service) {
		unknown(request, target);
		return;
	}
	wh__text_init(&text, NULL, 0);
	service_write_state(&text, service, request->hidden, wh_now(api->loop));
	if (target && !text.failed) {
		text.len--;
		wh__text_format(&text, ",\"concurrency_now\":%u}", push_limit(api->push, service));
	}
	wh__text_put(&text, "\n", 1);
	answer_text(api, request->x, 200, "application/json", &text);
}

void api_service_get(struct request *request)
{
	get(request, false);
}

void api_target_get(struct request *request)
{
	get(request, true);
}

static bool failed(struct call *call, wh_res res)
{
	struct store_commit *commit = res.ptr;
	char subject[TARGET_NAME_BYTES_MAX + 30];

	if (res.n >= 0 && commit->error == 0)
		return false;
	snprintf(subject, sizeof(subject), "%s '%.*s'", call->action ? "target of queue" : "service",
	         SHOWN(call));
	answer_error(call->api, call->x, res.n < 0 ? res.n : commit->error, res.n < 0 ? NULL : commit->reason,
	             JOB_NONE, subject);
	if (res.n >= 0)
		store_commit_free(commit);
	return true;
}

/* The table changes when the setting is durable: what the gateway does is never ahead of what a restart knows. */
static void put_done(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct api *api = call->api;
	struct store_commit *commit = res.ptr;
	struct service *service = call->arg;
	struct wh__text text;

	call->arg = NULL;
	if (failed(call, res)) {
		service_unref(service);
		call_end(call);
		return;
	}
	wh__text_init(&text, NULL, 0);
	service_write(&text, service, call->hidden);
	wh__text_put(&text, "\n", 1);
	service_put(table_of(api, service->target), service);
	push_service(api->push, service);
	answer_committed(call->x, commit->level, commit->position);
	answer_done(api, call->x, commit->results[0].created ? 201 : 200, "application/json", &text);
	store_commit_free(commit);
	call_end(call);
}

static void refuse(struct request *request, const struct service_refusal *refusal)
{
	char members[64] = "";

	if (refusal->line > 0)
		snprintf(members, sizeof(members), ",\"line\":%d,\"column\":%d", refusal->line,
		         refusal->column);
	if (!refusal->detail[0])
		answer_problem(request->api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
	else
		answer_problem(request->api, request->x, refusal->json ? PROBLEM_BAD_JSON : PROBLEM_BAD_VALUE,
		               members, "%s", refusal->detail);
}

/* May a queue be pushed there? What users name must not lead into the machine or the networks around it. */
static bool target_allowed(struct request *request, const struct service *service)
{
	struct wh_http_url url;

	for (size_t i = 0; i < service->backends_count; i++) {
		const char *text = service->backends[i]->url;

		if (wh_http_url_parse((struct wh_slice){text, strlen(text)}, &url) != 0) {
			answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL,
			               "%.300s is not a URL that can be asked", text);
			return false;
		}
		if (ranges_allow_host(&request->api->ranges, url.host.data, url.host.len))
			continue;
		answer_problem(
			request->api, request->x, PROBLEM_TARGET_REFUSED, NULL,
			"%.300s leads into this machine or a network that is not for everybody; the setting "
			"allow-private-targets names those that may be reached",
			text);
		return false;
	}
	return true;
}

static bool has_room(struct request *request, bool target)
{
	const struct service_table *table = table_of(request->api, target);

	if (table->count < SERVICES_MAX || service_find(table, request->name, request->name_len))
		return true;
	answer_limit(request->api, request->x, PROBLEM_BAD_VALUE, SERVICES_MAX, NULL,
	             "there are %d %s, which is the most", SERVICES_MAX, target ? "targets" : "services");
	return false;
}

static void put(struct request *request, bool target)
{
	struct wh_slice body = request_body(request);
	struct store_action action = {.kind = STORE_SETTING_PUT};
	struct service_refusal refusal;
	struct service *service;
	struct wh__text text;
	struct call *call;
	char key[KEY_BYTES];
	int level;

	if (!request_json(request) || !request_options(request, NULL, 0) ||
	    !request_level(request, true, &level))
		return;
	service = service_parse(request->name, request->name_len, target, body.data ? body.data : "",
	                        body.len, &refusal);
	if (!service) {
		refuse(request, &refusal);
		return;
	}
	if (!has_room(request, target) || (target && !target_allowed(request, service))) {
		service_unref(service);
		return;
	}
	/* once the setting is there it holds: nothing that delivering needs may be missing then */
	if (push_prepare(service) != 0) {
		service_unref(service);
		answer_problem(request->api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		return;
	}
	call = call_new(request, CALL_OTHER);
	if (!call) {
		service_unref(service);
		return;
	}
	call->arg = service;
	call->action = target;
	wh__text_init(&text, NULL, 0);
	service_write(&text, service, 0);
	action.setting.key = key_of(target, request->name, request->name_len, key);
	action.setting.value = (struct store_slice){text.data, text.len};
	call_then(call,
	          text.failed ? wh_failed(request->api->loop, -ENOMEM)
	                      : store_apply(request->api->store, &action, 1, 0, level),
	          put_done);
	wh__text_done(&text);
}

void api_service_put(struct request *request)
{
	put(request, false);
}

void api_target_put(struct request *request)
{
	if (service_owns_queue(request->name, request->name_len))
		answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL,
		               "queue '%.*s' is the server's own", SHOWN(request));
	else
		put(request, true);
}

static void delete_done(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	struct wh__text text;

	struct service_table *table = table_of(call->api, call->action);
	const struct service *service = service_find(table, call->name, call->name_len);

	if (!failed(call, res)) {
		if (service)
			push_forget(call->api->push, service);
		service_remove(table, call->name, call->name_len);
		wh__text_init(&text, NULL, 0);
		wh__text_str(&text, "{\"name\":");
		wh__text_json(&text, call->name + call->hidden, call->name_len - call->hidden);
		wh__text_str(&text, "}\n");
		answer_committed(call->x, commit->level, commit->position);
		answer_done(call->api, call->x, 200, "application/json", &text);
		store_commit_free(commit);
	}
	call_end(call);
}

static void delete (struct request *request, bool target)
{
	struct store_action action = {.kind = STORE_SETTING_DELETE};
	char key[KEY_BYTES];
	struct call *call;
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, true, &level))
		return;
	if (!service_find(table_of(request->api, target), request->name, request->name_len)) {
		unknown(request, target);
		return;
	}
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	call->action = target;
	action.setting.key = key_of(target, request->name, request->name_len, key);
	call_then(call, store_apply(request->api->store, &action, 1, 0, level), delete_done);
}

void api_service_delete(struct request *request)
{
	delete (request, false);
}

void api_target_delete(struct request *request)
{
	delete (request, true);
}
