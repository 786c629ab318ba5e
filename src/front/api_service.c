/* src/front/api_service.c -- /v1/services: the backends of the gateway, kept as settings of the store. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deliver/push.h"
#include "front/api.h"

enum { KEY_BYTES = sizeof(SERVICE_SETTING_PREFIX) + TARGET_NAME_BYTES_MAX };

static struct store_slice key_of(const char *name, size_t len, char key[KEY_BYTES])
{
	memcpy(key, SERVICE_SETTING_PREFIX, sizeof(SERVICE_SETTING_PREFIX) - 1);
	memcpy(key + sizeof(SERVICE_SETTING_PREFIX) - 1, name, len);
	return (struct store_slice){key, sizeof(SERVICE_SETTING_PREFIX) - 1 + len};
}

void api_service_list(struct request *request)
{
	struct api *api = request->api;
	struct wh__text text;

	if (!request_options(request, NULL, 0))
		return;
	wh__text_init(&text, NULL, 0);
	wh__text_str(&text, "{\"services\":[");
	for (const struct service *service = api->services.first; service; service = service->next) {
		if (service != api->services.first)
			wh__text_put(&text, ",", 1);
		service_write(&text, service);
	}
	wh__text_str(&text, "]}\n");
	answer_text(api, request->x, 200, "application/json", &text);
}

static void unknown(struct api *api, wh_http_exchange *x, const char *name, size_t len)
{
	answer_problem(
		api, x, PROBLEM_UNKNOWN_SERVICE, NULL,
		"there is no service '%.*s'; PUT /v1/services/{name} makes one, GET /v1/services lists them",
		(int)len, name);
}

void api_service_get(struct request *request)
{
	struct api *api = request->api;
	const struct service *service = service_find(&api->services, request->name, request->name_len);
	struct wh__text text;

	if (!request_options(request, NULL, 0))
		return;
	if (!service) {
		unknown(api, request->x, request->name, request->name_len);
		return;
	}
	wh__text_init(&text, NULL, 0);
	service_write_state(&text, service, wh_now(api->loop));
	wh__text_put(&text, "\n", 1);
	answer_text(api, request->x, 200, "application/json", &text);
}

static bool failed(struct call *call, wh_res res)
{
	struct store_commit *commit = res.ptr;
	char subject[TARGET_NAME_BYTES_MAX + 20];

	if (res.n >= 0 && commit->error == 0)
		return false;
	snprintf(subject, sizeof(subject), "service '%.*s'", (int)call->name_len, call->name);
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
	service_write(&text, service);
	wh__text_put(&text, "\n", 1);
	service_put(&api->services, service);
	push_service(api->push, service);
	answer_committed(call->x, commit->level, commit->position);
	answer_text(api, call->x, commit->results[0].created ? 201 : 200, "application/json", &text);
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

void api_service_put(struct request *request)
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
	service = service_parse(request->name, request->name_len, body.data ? body.data : "", body.len,
	                        &refusal);
	if (!service) {
		refuse(request, &refusal);
		return;
	}
	if (request->api->services.count >= SERVICES_MAX &&
	    !service_find(&request->api->services, request->name, request->name_len)) {
		answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL,
		               "there are %d services, which is the most", SERVICES_MAX);
		service_unref(service);
		return;
	}
	call = call_new(request, CALL_OTHER);
	if (!call) {
		service_unref(service);
		return;
	}
	call->arg = service;
	wh__text_init(&text, NULL, 0);
	service_write(&text, service);
	action.setting.key = key_of(request->name, request->name_len, key);
	action.setting.value = (struct store_slice){text.data, text.len};
	call_then(call,
	          text.failed ? wh_failed(request->api->loop, -ENOMEM)
	                      : store_apply(request->api->store, &action, 1, 0, level),
	          put_done);
	wh__text_done(&text);
}

static void delete_done(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	struct wh__text text;

	if (!failed(call, res)) {
		push_forget(call->api->push, call->name, call->name_len);
		service_remove(&call->api->services, call->name, call->name_len);
		wh__text_init(&text, NULL, 0);
		wh__text_str(&text, "{\"name\":");
		wh__text_json(&text, call->name, call->name_len);
		wh__text_str(&text, "}\n");
		answer_committed(call->x, commit->level, commit->position);
		answer_text(call->api, call->x, 200, "application/json", &text);
		store_commit_free(commit);
	}
	call_end(call);
}

void api_service_delete(struct request *request)
{
	struct store_action action = {.kind = STORE_SETTING_DELETE};
	char key[KEY_BYTES];
	struct call *call;
	int level;

	if (!request_options(request, NULL, 0) || !request_level(request, true, &level))
		return;
	if (!service_find(&request->api->services, request->name, request->name_len)) {
		unknown(request->api, request->x, request->name, request->name_len);
		return;
	}
	call = call_new(request, CALL_OTHER);
	if (!call)
		return;
	action.setting.key = key_of(request->name, request->name_len, key);
	call_then(call, store_apply(request->api->store, &action, 1, 0, level), delete_done);
}
