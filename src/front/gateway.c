/* src/front/gateway.c -- /call/{service}/...: which mood a call is in, and recorded calls.
 *
 * Without a preference a call passes through (relay.c). With one, or for a service that records, it is received
 * whole and committed as a job of the queue call/{service} before anything is promised; deliver/push.c does the rest.
 */
#include "front/gateway.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "deliver/message.h"
#include "deliver/push.h"
#include "front/once.h"

/* ---- what goes on to the backend --------------------------------------------------------- */

static void put_peer(wh_http_exchange *x, char to[64])
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	const void *ip = NULL;

	snprintf(to, 64, "unix");
	if (wh_http_peer(x, &address, &len) != 0)
		snprintf(to, 64, "unknown");
	else if (address.ss_family == AF_INET)
		ip = &((const struct sockaddr_in *)&address)->sin_addr;
	else if (address.ss_family == AF_INET6)
		ip = &((const struct sockaddr_in6 *)&address)->sin6_addr;
	if (ip && !inet_ntop(address.ss_family, ip, to, 64))
		snprintf(to, 64, "unknown");
}

static bool is_preference(struct wh_slice name)
{
	return wh_slice_equal_caseless(name, "Prefer") || wh_slice_equal_caseless(name, "Whilst-Commit") ||
	       wh_slice_equal_caseless(name, "Whilst-Callback");
}

static void add(struct gateway_fields *to, const char *name, struct wh_slice value)
{
	if (to->count < GATEWAY_FIELDS_MAX)
		to->fields[to->count++] = (struct wh_http_field){{name, strlen(name)}, value};
}

/* A list field of ours: what came before, and our part. Its place in .text is told by offset, as that may move. */
static struct wh_slice joined(struct gateway_fields *to, wh_http_exchange *x, const char *name,
                              const char *ours)
{
	size_t at = to->text.len, count = wh_http_field_count(x);

	for (size_t i = 0; i < count; i++) {
		struct wh_http_field field = wh_http_field(x, i);
		if (!wh_slice_equal_caseless(field.name, name) || field.value.len == 0)
			continue;
		wh__text_put(&to->text, field.value.data, field.value.len);
		wh__text_put(&to->text, ", ", 2);
	}
	wh__text_str(&to->text, ours);
	return (struct wh_slice){(const char *)at, to->text.len - at};
}

/* Of OPTIONS and TRACE, RFC 9110 7.6.2: how many more may forward it. false: it does not say. */
static bool read_forwards(wh_http_exchange *x, uint64_t *ret)
{
	struct wh_slice value = wh_http_header(x, "Max-Forwards");
	enum wh_http_method method = wh_http_method(x);

	return (method == WH_HTTP_OPTIONS || method == WH_HTTP_TRACE) && value.data &&
	       wh__parse_u64(value.data, value.len, UINT64_MAX, ret);
}

static bool is_replaced(wh_http_exchange *x, struct wh_slice name)
{
	uint64_t forwards;

	if (wh_slice_equal_caseless(name, "Max-Forwards"))
		return read_forwards(x, &forwards);
	return wh_slice_equal_caseless(name, "Host") || wh_slice_equal_caseless(name, "Via") ||
	       wh_slice_equal_caseless(name, "traceparent") || wh_slice_equal_caseless(name, "tracestate") ||
	       wh_slice_equal_caseless(name, "X-Forwarded-For") ||
	       wh_slice_equal_caseless(name, "X-Forwarded-Host") ||
	       wh_slice_equal_caseless(name, "X-Forwarded-Proto") || is_preference(name);
}

bool gateway_fields(struct gateway_fields *to, const struct api *api, wh_http_exchange *x)
{
	size_t count = wh_http_field_count(x), connections_count = 0, first;
	struct wh_slice connections[MESSAGE_CONNECTIONS_MAX], host = wh_http_host(x), parent, state;
	uint64_t forwards;

	wh__text_init(&to->text, NULL, 0);
	to->count = 0;
	for (size_t i = 0; i < count && connections_count < MESSAGE_CONNECTIONS_MAX; i++) {
		struct wh_http_field field = wh_http_field(x, i);
		if (wh_slice_equal_caseless(field.name, "Connection"))
			connections[connections_count++] = field.value;
	}
	for (size_t i = 0; i < count; i++) {
		struct wh_http_field field = wh_http_field(x, i);
		if (to->count < GATEWAY_FIELDS_MAX - GATEWAY_FIELDS_OURS && !is_replaced(x, field.name) &&
		    !authorize_is_credential(api, field) &&
		    message_is_end_to_end(field.name, connections, connections_count))
			to->fields[to->count++] = field;
	}
	put_peer(x, to->peer);
	first = to->count;
	add(to, "Via", joined(to, x, "Via", message_via(wh_http_version(x))));
	add(to, "X-Forwarded-For", joined(to, x, "X-Forwarded-For", to->peer));
	if (to->text.failed)
		return false;
	for (size_t i = first; i < to->count; i++)
		to->fields[i].value.data = to->text.data + (uintptr_t)to->fields[i].value.data;
	trace_read(x, &to->trace);
	trace_split(to->trace.text, to->trace.len, &parent, &state);
	if (parent.data)
		add(to, "traceparent", parent);
	if (state.data)
		add(to, "tracestate", state);
	if (host.len > 0)
		add(to, "X-Forwarded-Host", host);
	add(to, "X-Forwarded-Proto",
	    wh_http_tls(x) ? (struct wh_slice){"https", 5} : (struct wh_slice){"http", 4});
	if (read_forwards(x, &forwards) && forwards > 0)
		add(to, "Max-Forwards",
		    (struct wh_slice){to->forwards,
		                      (size_t)snprintf(to->forwards, sizeof(to->forwards), "%llu",
		                                       (unsigned long long)forwards - 1)});
	return true;
}

void gateway_fields_done(struct gateway_fields *fields)
{
	wh__text_done(&fields->text);
}

void gateway_target(struct wh__text *text, wh_http_exchange *x, const struct service *service)
{
	struct wh_slice path = wh_http_path(x), query = wh_http_query(x);
	const char *name = path.data + sizeof("/call/") - 1;
	const char *rest = memchr(name, '/', path.len - (size_t)(name - path.data));

	wh__text_str(text, service->backends[0]->base); /* that of all */
	if (rest)
		wh__text_put(text, rest, path.len - (size_t)(rest - path.data));
	else if (!service->backends[0]->base[0])
		wh__text_put(text, "/", 1);
	if (query.data) {
		wh__text_put(text, "?", 1);
		wh__text_put(text, query.data, query.len);
	}
}

/* What a segment is, to whoever follows "..": parameters (";") do not count, and nothing is no step down. */
struct climb {
	size_t len;
	long depth;
	bool is_dots, is_cut;
};

static bool step(struct climb *c)
{
	if (c->is_dots && c->len == 2)
		c->depth--;
	else if (c->len > 1 || (c->len == 1 && !c->is_dots))
		c->depth++;
	c->len = 0;
	c->is_dots = true;
	c->is_cut = false;
	return c->depth >= 0;
}

static bool is_slash(struct wh_slice path, size_t i, char byte, bool loose)
{
	return path.data[i] == '/' || (loose && (byte == '/' || byte == '\\'));
}

/* loose: for backends that decode before they look for slashes, and to whom a backslash is one. */
static bool climbs(struct wh_slice path, bool loose)
{
	struct climb c = {.is_dots = true};

	for (size_t i = 0; i < path.len; i++) {
		size_t at = i;
		char byte = path.data[i], decoded[1];

		if (byte == '%' && path.len - i >= 3 &&
		    target_decode(path.data + i, 3, decoded, sizeof(decoded)) == 1) {
			byte = decoded[0];
			i += 2;
		}
		if (is_slash(path, at, byte, loose)) {
			if (!step(&c))
				return true;
		} else if (byte == ';' || c.is_cut) {
			c.is_cut = true;
		} else {
			c.is_dots = c.is_dots && byte == '.';
			c.len++;
		}
	}
	return !step(&c);
}

/* The path of its URL is as far as a service reaches: who may call it may call nothing beside it. */
static bool leads_out(struct api *api, wh_http_exchange *x)
{
	struct wh_slice path = wh_http_path(x);
	const char *name = path.data + sizeof("/call/") - 1;
	const char *rest = memchr(name, '/', path.len - (size_t)(name - path.data));

	if (rest)
		path = (struct wh_slice){rest, path.len - (size_t)(rest - path.data)};
	if (!rest || (!climbs(path, false) && !climbs(path, true)))
		return false;
	answer_problem(
		api, x, PROBLEM_BAD_REQUEST, NULL,
		"path: by \"..\" it leads out of what the service is for; send the path that is meant");
	return true;
}

struct service *gateway_service(struct api *api, wh_http_exchange *x, struct wh_slice namespace)
{
	struct target target;
	char name[TARGET_NAME_BYTES_MAX];
	size_t len;

	if (!target_split(&target, wh_http_path(x), (struct wh_slice){NULL, 0}) ||
	    namespace_target(namespace, target.segments[1], name, &len) != NULL)
		return NULL;
	return service_find(&api->services, name, len);
}

/* ---- moods ------------------------------------------------------------------------------- */

static struct prefer read_prefer(const struct api *api, wh_http_exchange *x)
{
	struct prefer prefer = {0};
	size_t count = wh_http_field_count(x);

	for (size_t i = 0; i < count; i++) {
		struct wh_http_field field = wh_http_field(x, i);
		if (wh_slice_equal_caseless(field.name, "Prefer"))
			prefer_add(&prefer, field.value.data, field.value.len);
	}
	prefer_clamp(&prefer, api->wait_s_max);
	return prefer;
}

static void no_service(struct api *api, wh_http_exchange *x)
{
	struct wh_slice path = wh_http_path(x);

	answer_problem(api, x, PROBLEM_UNKNOWN_SERVICE, NULL,
	               "%.*s: there is no such service; GET /v1/services lists them, PUT /v1/services/{name} "
	               "makes one",
	               (int)(path.len < 200 ? path.len : 200), path.data);
}

static bool is_recorded(wh_http_exchange *x, const struct service *service, const struct prefer *prefer)
{
	return service->record || prefer->respond_async || prefer->wait || callback_asked(x);
}

/* Servers like this one that a request has come by; another one may stand behind it in good order, and so may a few. */
static unsigned count_of_us(wh_http_exchange *x)
{
	static const char name[] = MESSAGE_VIA_NAME;
	size_t fields = wh_http_field_count(x), len = sizeof(name) - 1;
	unsigned count = 0;

	for (size_t i = 0; i < fields; i++) {
		struct wh_http_field field = wh_http_field(x, i);
		const char *at = field.value.data, *end = at + field.value.len;

		if (!wh_slice_equal_caseless(field.name, "Via"))
			continue;
		for (; (at = memmem(at, (size_t)(end - at), name, len)) != NULL; at += len)
			count++;
	}
	return count;
}

/* A request that is not to go further, or comes round and round. true: answered. */
static bool ends_here(struct api *api, wh_http_exchange *x)
{
	uint64_t forwards;

	if (count_of_us(x) >= GATEWAY_PASSES_MAX) {
		answer_problem(api, x, PROBLEM_LOOP_DETECTED, NULL,
		               "the call has come by %d servers like this one: a service leads back to it",
		               GATEWAY_PASSES_MAX);
		return true;
	}
	if (!read_forwards(x, &forwards) || forwards > 0)
		return false;
	wh_http_set(x, "Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
	if (wh_http_method(x) == WH_HTTP_OPTIONS)
		answer_bytes(api, x, 204, NULL, NULL, 0);
	else
		answer_problem(api, x, PROBLEM_WRONG_METHOD, NULL,
		               "this server, where Max-Forwards ends, does not answer TRACE");
	return true;
}

void gateway_head(wh_http_exchange *x, void *arg)
{
	struct api *api = arg;
	struct prefer prefer = read_prefer(api, x);
	struct wh_slice namespace;
	struct service *service;

	if (!authorize_namespace(api, x, wh_http_arg(x), &namespace))
		return;
	service = gateway_service(api, x, namespace);
	if (!service)
		no_service(api, x);
	else if (leads_out(api, x) || ends_here(api, x))
		return;
	else if (is_recorded(x, service, &prefer) && upload_needed(x))
		wh_http_stream(x, api->options.payload_bytes_max);
	else if (is_recorded(x, service, &prefer))
		wh_http_collect(x, api->options.payload_bytes_max);
	else
		wh_http_stream(x, UINT64_MAX);
}

static void put_message(struct wh__text *text, wh_http_exchange *x, const struct service *service,
                        const struct gateway_fields *fields)
{
	struct wh_slice method = wh_http_method_token(x), body = wh_http_body(x);
	struct wh_slice host = wh_http_host(x);
	int64_t length = upload_needed(x) ? wh_http_body_length(x) : (int64_t)body.len;

	wh__text_put(text, method.data, method.len);
	wh__text_put(text, " ", 1);
	gateway_target(text, x, service);
	wh__text_str(text, " HTTP/1.1\r\n");
	message_field(text, (struct wh_slice){"Host", 4}, host.data ? host : (struct wh_slice){"", 0});
	for (size_t i = 0; i < fields->count; i++)
		message_field(text, fields->fields[i].name, fields->fields[i].value);
	if (length > 0) /* of a body that is received in pieces it may not be known */
		wh__text_format(text, "Content-Length: %lld\r\n", (long long)length);
	wh__text_put(text, "\r\n", 2);
	if (body.len > 0)
		wh__text_put(text, body.data, body.len);
}

static void recorded(wh_loop *loop, wh_res res, void *arg)
{
	struct call *call = arg;
	struct store_commit *commit = res.ptr;
	char subject[TARGET_NAME_BYTES_MAX + 20];
	int64_t error = res.n < 0 ? res.n : commit->error;
	int state;

	if (error != 0) {
		snprintf(subject, sizeof(subject), "queue '%.*s'", SHOWN(call));
		answer_commit_refused(call, res, call_queue(call), NULL, subject);
		if (res.n >= 0)
			store_commit_free(commit);
		call_end(call);
		return;
	}
	once_told(call->x, commit);
	call->job = commit->results[0].job;
	call->level = (int8_t)commit->level;
	call->position = commit->position;
	state = commit->results[0].state;
	callback_begin(call->api, commit);
	store_commit_free(commit);
	if (call->prefer.respond_async && !call->prefer.wait) {
		call_accepted(call, state);
		call_end(call);
	} else {
		call_wait_finished(call);
	}
}

/* What the call is, apart from what proxies add to it. false: refused and answered. */
static bool read_once(struct request *request, const struct service *service, struct wh_slice url,
                      struct once *once)
{
	struct wh_slice name = {service->name, strlen(service->name)};

	if (!once_read(request, 'c', name, once))
		return false;
	once_mix(once, wh_http_method_token(request->x));
	once_mix(once, wh_http_path(request->x));
	once_mix(once, wh_http_query(request->x));
	once_mix(once, request->content_type);
	once_mix(once, url);
	if (!upload_needed(request->x))
		once_mix(once, wh_http_body(request->x));
	return true;
}

static void record(struct request *request, const struct service *service, struct wh_slice url, int level,
                   struct once *once)
{
	struct api *api = request->api;
	struct gateway_fields fields;
	struct wh__text message;
	struct call *call;
	struct store_submit submit = {
		.content_type = STORE_SLICE("application/http"),
		.priority = JOB_PRIORITY_DEFAULT,
		.attempts_max = service->attempts,
		.time_to_run_ns = service->timeout_ns + PUSH_LEASE_MARGIN_NS,
	};

	wh__text_init(&message, NULL, 0);
	if (gateway_fields(&fields, request->api, request->x))
		put_message(&message, request->x, service, &fields);
	else
		message.failed = true;
	request->name_len = strlen(service->queue);
	memcpy(request->name, service->queue, request->name_len);
	request->hidden = request->namespace.len > 0 ? request->namespace.len + 1 : 0;
	submit.queue = request_queue(request);
	submit.payload = (struct store_slice){message.data, message.len};
	if (!message.failed)
		submit.trace = (struct store_slice){fields.trace.text, fields.trace.len};
	call = call_new(request, CALL_RECORDED);
	if (call) {
		call_set_wait(call, request);
		if (!call->prefer.wait)
			call->until =
				wh_http_received_at(request->x) + (int64_t)api->wait_s_max * WH_NS_PER_S;
		call->read_async = false;
		call->cancel_at_end = service->cancel_on_wait_end;
		if (upload_needed(request->x)) {
			struct store_action action = {.kind = STORE_SUBMIT, .submit = submit};

			action.submit.payload = (struct store_slice){0};
			upload_start(call, &action, &message, url, level, once, recorded);
		} else if (message.failed) {
			call_then(call, wh_failed(api->loop, -ENOMEM), recorded);
		} else {
			struct store_action action = {.kind = STORE_SUBMIT, .submit = submit};

			call_then(call,
			          once->given || url.data
			                  ? callback_submit(api->store, &action.submit, url, level, once)
			                  : store_submit(api->store, &submit, level),
			          recorded);
		}
	}
	wh__text_done(&message);
	gateway_fields_done(&fields);
}

static const struct route recorded_route = {.path = "call", .action = TOKEN_CALL, .reach = REACH_WITHIN};

void gateway_request(wh_http_exchange *x, void *arg)
{
	struct api *api = arg;
	struct prefer prefer = read_prefer(api, x);
	struct wh_slice url, namespace;
	struct service *service;
	struct request request;
	struct once once;
	int level;

	if (!authorize_namespace(api, x, wh_http_arg(x), &namespace))
		return;
	service = gateway_service(api, x, namespace);
	/* the service may have gone while the body came */
	if (!service) {
		no_service(api, x);
		return;
	}
	if (!is_recorded(x, service, &prefer)) {
		relay_start(api, x, service, namespace.len > 0 ? namespace.len + 1 : 0);
		return;
	}
	wh_http_set_arg(x, (void *)(uintptr_t)&recorded_route);
	if (!request_read(&request, api, x) || !request_level(&request, false, &level) ||
	    !callback_read(&request, (struct wh_slice){NULL, 0}, &url) ||
	    !read_once(&request, service, url, &once))
		return;
	/* who wants to be called back does not wait, unless it says so */
	if (url.data && !request.prefer.wait)
		request.prefer.respond_async = true;
	record(&request, service, url, level, &once);
}
