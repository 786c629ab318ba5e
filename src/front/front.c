/* src/front/front.c -- the HTTP front: opened over a store, dispatches requests, drains and closes. See front.h. */
#include "front/front.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deliver/push.h"
#include "front/api.h"
#include "front/batch.h"
#include "front/publish.h"

/* Requests of the gateway carry this instead of a route of the table. */
static const struct route gateway_route = {
	.path = "call", .variable = ROUTE_SERVICE, .action = TOKEN_CALL, .reach = REACH_WITHIN};

static void put_methods(wh_http_exchange *x, unsigned methods)
{
	static const char *const names[] = {
		[WH_HTTP_GET] = "GET",   [WH_HTTP_HEAD] = "HEAD",     [WH_HTTP_POST] = "POST",
		[WH_HTTP_PUT] = "PUT",   [WH_HTTP_DELETE] = "DELETE", [WH_HTTP_PATCH] = "PATCH",
		[WH_HTTP_OPTIONS] = NULL};
	char allow[64];
	size_t len = 0;

	for (unsigned i = WH_HTTP_GET; i < WH_HTTP_OPTIONS; i++) {
		if (!(methods >> i & 1))
			continue;
		if (len > 0) {
			memcpy(allow + len, ", ", 2);
			len += 2;
		}
		memcpy(allow + len, names[i], strlen(names[i]));
		len += strlen(names[i]);
	}
	allow[len] = 0;
	wh_http_set(x, "Allow", allow);
}

static void no_route(struct api *api, wh_http_exchange *x, unsigned methods)
{
	struct wh_slice path = wh_http_path(x), method = wh_http_method_token(x);

	if (methods == 0) {
		answer_problem(api, x, PROBLEM_UNKNOWN_PATH, NULL,
		               "there is nothing at %.*s; GET / names what there is",
		               (int)(path.len < 200 ? path.len : 200), path.data);
		return;
	}
	put_methods(x, methods);
	if (wh_http_method(x) == WH_HTTP_OPTIONS)
		answer_bytes(api, x, 204, NULL, NULL, 0);
	else
		answer_problem(api, x, PROBLEM_WRONG_METHOD, NULL, "%.*s is not for %.*s", (int)method.len,
		               method.data, (int)(path.len < 200 ? path.len : 200), path.data);
}

static bool is_call(const struct target *target)
{
	return target->segments_count >= 2 && wh_slice_equal(target->segments[0], "call");
}

static bool is_batch(const wh_http_exchange *x)
{
	struct wh_slice type = wh_http_header(x, "Content-Type");

	return type.data && (request_is_type(type, BATCH_TYPE) || request_is_type(type, BATCH_LINES));
}

/* Does the body come in pieces? A batch is taken apart in memory, and is smaller. */
static bool is_streamed(const struct route *route, const wh_http_exchange *x)
{
	return (route->handler == api_submit || route->handler == api_complete) && upload_needed(x) &&
	       !(route->handler == api_submit && is_batch(x));
}

/* What a connection may have side by side of waits for answers that may be large; those for a job are asked for many at a time by
 * workers in a hurry, and seldom are. */
enum { LARGE_WAITS_MAX = 4, RESERVES_MAX = 16 };

/* While requests are pipelined behind one that is answered in its turn nobody sees the client leave, which whoever waits has to
 * know, and the stream of all queues. */
static bool is_wait(const struct route *route, const wh_http_exchange *x)
{
	struct wh_slice accept = wh_http_header(x, "Accept");

	if (route->handler == api_queue_list)
		return accept.data && request_is_type(accept, "text/event-stream");
	return route->handler == api_reserve ||
	       (route->handler == api_job_result && wh_http_header(x, "Prefer").data);
}

/* What a request does is in the store's order when its handler returns; only the answer may come later. One that may be large holds
 * up what is pipelined behind it: 64 of these, not read, would be in memory at once. */
static void take_turn(const struct route *route, wh_http_exchange *x)
{
	unsigned side_by_side = route->handler == api_reserve ? RESERVES_MAX : LARGE_WAITS_MAX;

	if (is_wait(route, x) ? wh_http_pipelined(x) >= side_by_side : route->answers_much)
		wh_http_in_turn(x);
	else
		wh_http_parallel(x);
}

static void on_head(wh_http_exchange *x, void *arg)
{
	struct api *api = arg;
	const struct route *route;
	struct target target;
	unsigned methods = 0;
	uint64_t body_max;

	if (host_refused(api, x) || !request_singles(api, x))
		return;
	if (!target_split(&target, wh_http_path(x), wh_http_query(x))) {
		if (wh_http_method(x) == WH_HTTP_OPTIONS) { /* of the server as a whole */
			wh_http_set(x, "Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
			answer_bytes(api, x, 204, NULL, NULL, 0);
		} else {
			answer_problem(api, x, PROBLEM_BAD_REQUEST, NULL, "the request target is not a path");
		}
		return;
	}
	if (is_call(&target)) {
		if (wh_http_pipelined(x) >= LARGE_WAITS_MAX)
			wh_http_in_turn(x);
		if (!authorize(api, x, &target, &gateway_route))
			return;
		wh_http_set_arg(x, (void *)(uintptr_t)&gateway_route);
		gateway_head(x, api);
		return;
	}
	route = route_find(&target, wh_http_method(x), &methods);
	if (!route) {
		no_route(api, x, methods);
		return;
	}
	if (route->handler == api_index && dashboard_route(api, x))
		route = dashboard_route(api, x);
	if (!authorize(api, x, &target, route))
		return;
	wh_http_set_arg(x, (void *)(uintptr_t)route);
	body_max = route->body_max ? route->body_max : api->options.payload_bytes_max;
	if (is_streamed(route, x)) {
		wh_http_stream(x, body_max);
		return;
	}
	if (route->handler == api_publish)
		body_max = publish_body_max(wh_http_header(x, "Content-Type"));
	/* in memory whole, so the largest payload is no measure */
	if (route->handler == api_submit && is_batch(x))
		body_max = API_BATCH_BODY_MAX;
	wh_http_collect(x, body_max);
	take_turn(route, x);
}

static void on_request(wh_http_exchange *x, void *arg)
{
	struct api *api = arg;
	const struct route *route = wh_http_arg(x);
	struct request request;

	if (route == &gateway_route) {
		gateway_request(x, api);
		return;
	}
	if (!request_read(&request, api, x))
		return;
	if (request.from_elsewhere && route->method != WH_HTTP_GET) {
		answer_problem(api, x, PROBLEM_NOT_ALLOWED, NULL,
		               "a browser was told to send this by a page of another site; such a page may "
		               "look at most");
		return;
	}
	request.streamed = is_streamed(route, x);
	route->handler(&request);
}

/* What the server itself refuses speaks of problems in the same words. */
static size_t server_problem(int status, const char *detail, uint64_t limit, char *to, size_t max, void *arg)
{
	static const struct {
		int status;
		enum problem problem;
	} table[] = {{408, PROBLEM_REQUEST_TIMEOUT},    {411, PROBLEM_LENGTH_REQUIRED},
	             {413, PROBLEM_TOO_LARGE},          {414, PROBLEM_TARGET_TOO_LONG},
	             {417, PROBLEM_EXPECTATION_FAILED}, {431, PROBLEM_HEADERS_TOO_LARGE},
	             {501, PROBLEM_UNSUPPORTED},        {503, PROBLEM_TOO_BUSY},
	             {505, PROBLEM_HTTP_VERSION}};
	enum problem problem = status >= 500 ? PROBLEM_INTERNAL : PROBLEM_BAD_REQUEST;
	struct api *api = arg;
	struct wh__text text;
	char members[PROBLEM_MEMBERS_BYTES];
	size_t len;

	api->codes[status < API_CODES ? status : 500]++;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		if (table[i].status == status)
			problem = table[i].problem;
	}
	wh__text_init(&text, to, max);
	problem_put(&text, problem, problem_limit(members, limit, NULL), "%s", detail ? detail : "");
	len = text.failed || text.data != to ? 0 : text.len;
	wh__text_done(&text);
	return len;
}

static int open_server(struct api *api)
{
	struct wh_http_server_options options = {
		.on_head = on_head,
		.on_request = on_request,
		.arg = api,
		.body_bytes_max = api->options.payload_bytes_max,
		.connections_max = api->options.connections_max,
		.threads = api->options.threads,
		.head_timeout_ns = api->options.request_timeout_ns,
		.body_timeout_ns = api->options.request_timeout_ns,
		.idle_timeout_ns = api->options.idle_timeout_ns,
		.problem = server_problem,
	};

	return wh_http_server_open(api->loop, &options, &api->server);
}

static bool is_outside(const struct sockaddr *address, socklen_t len, void *arg)
{
	return ranges_allow(arg, address, len);
}

static int open_client(struct api *api)
{
	struct wh_http_client_options options = {
		.connections_max = SERVICE_CONCURRENCY_MAX,
		.body_bytes_max = api->options.payload_bytes_max,
		.head_bytes_max = JOB_HEADERS_MAX,
		/* the time-out of a service is the one that counts */
		.first_byte_timeout_ns = -1,
		.read_timeout_ns = -1,
	};

	int error = wh_http_client_open(api->loop, &options, &api->client);

	if (error != 0)
		return error;
	options.address_allowed = is_outside;
	options.address_arg = &api->ranges;
	return wh_http_client_open(api->loop, &options, &api->outside);
}

static int load_service(struct api *api, const struct store_setting *setting, bool target)
{
	size_t prefix = strlen(target ? TARGET_SETTING_PREFIX : SERVICE_SETTING_PREFIX);
	const char *name = (const char *)setting->key.data + prefix;
	struct service_refusal refusal;
	struct service *service = service_parse(name, setting->key.len - prefix, target, setting->value.data,
	                                        setting->value.len, &refusal);

	if (!service)
		return refusal.detail[0] ? -EINVAL : -ENOMEM;
	if (push_prepare(service) != 0) {
		service_unref(service);
		return -ENOMEM;
	}
	service_put(target ? &api->targets : &api->services, service);
	push_service(api->push, service);
	return 0;
}

static int load_services(struct api *api, bool target)
{
	wh_res res = wh_await(store_settings(api->store, target ? STORE_SLICE(TARGET_SETTING_PREFIX)
	                                                        : STORE_SLICE(SERVICE_SETTING_PREFIX)));
	struct store_settings *settings = res.ptr;
	int error = 0;

	if (res.n < 0)
		return (int)res.n;
	for (size_t i = 0; settings && i < settings->count && error == 0; i++)
		error = load_service(api, &settings->settings[i], target);
	store_settings_free(settings);
	return error;
}

static int load_topics(struct api *api, struct store_slice prefix)
{
	wh_res res = wh_await(store_settings(api->store, prefix));
	struct store_settings *settings = res.ptr;
	int error = 0;

	if (res.n < 0)
		return (int)res.n;
	for (size_t i = 0; settings && i < settings->count && error == 0; i++)
		error = topic_load(&api->topics, &settings->settings[i]);
	store_settings_free(settings);
	return error;
}

int front_open(wh_loop *loop, struct store *store, const struct front_options *options, struct api **ret)
{
	struct api *api = calloc(1, sizeof(*api));
	int error;

	if (!api)
		return -ENOMEM;
	api->loop = loop;
	api->store = store;
	api->options = *options;
	if (options->ranges)
		api->ranges = *options->ranges;
	api->wait_s_max = (uint32_t)(options->wait_ns_max / WH_NS_PER_S);
	error = open_client(api);
	if (error == 0)
		error = open_server(api);
	if (error == 0)
		error = push_open(loop, store, api->client, api->outside,
		                  &(struct push_options){options->payload_bytes_max, options->event,
		                                         options->event_arg},
		                  &api->push);
	if (error == 0)
		error = load_services(api, false);
	if (error == 0)
		error = load_services(api, true);
	if (error == 0)
		error = load_topics(api, STORE_SLICE(TOPIC_SETTING_PREFIX));
	if (error == 0)
		error = load_topics(api, STORE_SLICE(SUBSCRIPTION_SETTING_PREFIX));
	if (error == 0)
		error = scheduler_open(api);
	if (error == 0)
		error = publish_replay_open(api);
	if (error == 0)
		error = push_callbacks_open(api->push);
	if (error != 0) {
		front_close(api);
		return error;
	}
	publish_replay(api);
	*ret = api;
	return 0;
}

int front_service(struct api *api, const char *name, const char *url, char *detail, size_t detail_len)
{
	struct service *known = service_find(&api->services, name, strlen(name)), *service;
	struct store_action action = {.kind = STORE_SETTING_PUT};
	struct service_refusal refusal;
	struct store_commit *commit;
	struct wh__text text, key;
	int64_t error;
	wh_res res;

	if (known && known->backends_count == 1 && strcmp(known->backends[0]->url, url) == 0)
		return 0;
	service = service_from_url(name, strlen(name), url, &refusal);
	if (!service || push_prepare(service) != 0) {
		snprintf(detail, detail_len, "%s", refusal.detail);
		service_unref(service);
		return refusal.detail[0] ? -EINVAL : -ENOMEM;
	}
	wh__text_init(&text, NULL, 0);
	service_write(&text, service, 0);
	wh__text_init(&key, NULL, 0);
	wh__text_format(&key, SERVICE_SETTING_PREFIX "%s", name);
	action.setting.key = (struct store_slice){key.data, key.len};
	action.setting.value = (struct store_slice){text.data, text.len};
	res = wh_await(store_apply(api->store, &action, 1, 0, STORE_LOCAL));
	commit = res.ptr;
	error = res.n < 0 ? res.n : commit->error;
	if (res.n >= 0)
		store_commit_free(commit);
	wh__text_done(&text);
	wh__text_done(&key);
	if (error != 0) {
		snprintf(detail, detail_len, "%s", job_strerror(error));
		service_unref(service);
		return (int)error;
	}
	service_put(&api->services, service);
	push_service(api->push, service);
	return 0;
}

/* What namespaces may hold is the store's to keep. */
static int limit_spaces(struct api *api, const struct token_table *tokens)
{
	size_t count = tokens ? token_table_spaces(tokens, NULL, 0) : 0;
	struct job_space_limit *limits = calloc(count + 1, sizeof(*limits));
	int error;

	if (!limits)
		return -ENOMEM;
	if (count > 0)
		(void)token_table_spaces(tokens, limits, count);
	error = store_limit_spaces(api->store, limits, count);
	free(limits);
	return error;
}

int front_use_tokens(struct api *api, struct token_table *tokens)
{
	int error = limit_spaces(api, tokens);

	if (error != 0)
		return error;
	if (tokens)
		token_table_follow(tokens, api->tokens);
	token_table_free(api->tokens);
	api->tokens = tokens;
	api->tokens_since = wh_now(api->loop);
	return 0;
}

void front_use_hosts(struct api *api, const char *const *names, unsigned count)
{
	api->hosts = (struct hosts){names, count};
}

int front_use_secrets(struct api *api, const struct secrets *secrets)
{
	return push_use_secrets(api->push, secrets);
}

int front_schedules(struct api *api)
{
	return scheduler_start(api);
}

void front_reload_zones(struct api *api)
{
	scheduler_reload(api);
}

int front_listen(struct api *api, int fd, wh_tls_context *tls)
{
	return tls ? wh_http_server_listen_tls(api->server, fd, tls) : wh_http_server_listen(api->server, fd);
}

void front_check_drained(struct api *api)
{
	if (api->draining && api->calls_count == 0 && api->server_drained && api->push_drained)
		wh_resolve(api->drained, 0, NULL);
}

static void server_drained(wh_loop *loop, wh_res res, void *arg)
{
	struct api *api = arg;

	api->server_drained = true;
	front_check_drained(api);
}

static void push_drained(wh_loop *loop, wh_res res, void *arg)
{
	struct api *api = arg;

	api->push_drained = true;
	front_check_drained(api);
}

wh_future front_drain(struct api *api, int64_t until)
{
	wh_future server = wh_http_server_drain(api->server);
	api->draining = true;
	publish_replay_stop(api);
	scheduler_stop(api);
	api->drained = wh_promise(api->loop, NULL, NULL);
	parked_end_all(api);
	(void)!wh_then(wh_deadline(server, until), server_drained, api);
	(void)!wh_then(push_drain(api->push, until), push_drained, api);
	return api->drained;
}

void front_close(struct api *api)
{
	if (!api)
		return;
	api->draining = true;
	publish_replay_stop(api);
	scheduler_stop(api);
	parked_end_all(api);
	api->server = wh_http_server_close(api->server);
	api->push = push_close(api->push);
	api->client = wh_http_client_close(api->client);
	api->outside = wh_http_client_close(api->outside);
}

void front_free(struct api *api)
{
	if (!api)
		return;
	service_clear(&api->services);
	service_clear(&api->targets);
	topic_clear(&api->topics);
	schedule_clear(&api->scheduler.table);
	token_table_free(api->tokens);
	free(api->replay_room);
	free(api);
}
