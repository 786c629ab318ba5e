/* src/front/authorize.c -- may whoever sends a request do what it asks for? Bearer tokens, RFC 6750. See token.h.
 *
 * Judged from the head alone, before a byte of the body is taken. The credential is the Whilst-Token field or, if there is none,
 * Authorization: so a call through the gateway can carry an Authorization that is meant for the backend.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/units.h"
#include "front/api.h"

enum {
	TOKEN_TEXT_MAX = 512,
	PREFIX_BYTES = sizeof(TOPIC_QUEUE_PREFIX) - 1,
	SUBJECT_BYTES = PREFIX_BYTES + TARGET_NAME_BYTES_MAX,
	CALL_BYTES = sizeof(SERVICE_QUEUE_PREFIX) - 1,
};

/* "Bearer TOKEN" */
static struct wh_slice bearer(struct wh_slice value)
{
	static const char scheme[] = "Bearer ";
	size_t len = sizeof(scheme) - 1;

	if (value.len <= len || strncasecmp(value.data, scheme, len) != 0)
		return (struct wh_slice){0};
	while (len < value.len && value.data[len] == ' ')
		len++;
	return (struct wh_slice){value.data + len, value.len - len};
}

static struct wh_slice presented(wh_http_exchange *x)
{
	struct wh_slice own = wh_http_header(x, "Whilst-Token");
	struct wh_slice token = own.data ? own : bearer(wh_http_header(x, "Authorization"));

	return token.len <= TOKEN_TEXT_MAX ? token : (struct wh_slice){0};
}

bool authorize_is_credential(const struct api *api, struct wh_http_field field)
{
	struct wh_slice token;

	if (wh_slice_equal_caseless(field.name, "Whilst-Token"))
		return true;
	if (!api->tokens || !wh_slice_equal_caseless(field.name, "Authorization"))
		return false;
	token = bearer(field.value);
	return token.len > 0 && token.len <= TOKEN_TEXT_MAX && token_find(api->tokens, token) != NULL;
}

static void tell(struct api *api, wh_http_exchange *x, const struct token *token, enum token_action action,
                 bool allowed)
{
	struct wh_slice path = wh_http_path(x), method = wh_http_method_token(x);
	struct wh_slice namespace = token ? token_namespace(token) : (struct wh_slice){0};
	struct wh__text text;

	if (!api->options.event)
		return;
	wh__text_init(&text, NULL, 0);
	wh__text_format(&text, "token=%s namespace=%.*s action=%s allowed=%s method=%.*s path=",
	                token ? token_name(token) : "-", namespace.len ? (int)namespace.len : 1,
	                namespace.len ? namespace.data : "-", token_action_name(action),
	                allowed ? "yes" : "no", (int)method.len, method.data);
	wh__text_json(&text, path.data, path.len < 300 ? path.len : 300);
	if (!allowed && api->refusals_untold > 0)
		wh__text_format(&text, " untold=%llu", (unsigned long long)api->refusals_untold);
	wh__text_put(&text, "", 1);
	if (!text.failed)
		api->options.event(allowed ? WH_LOG_INFO : WH_LOG_WARNING, "audit", text.data,
		                   api->options.event_arg);
	wh__text_done(&text);
}

void authorize_tell(struct api *api, wh_http_exchange *x, const struct token *token, enum token_action action)
{
	tell(api, x, token, action, true);
}

/* A flood of refusals is not a flood of lines: ten a second, and how many were left out. */
static void tell_refusal(struct api *api, wh_http_exchange *x, const struct token *token,
                         enum token_action action)
{
	int64_t now = wh_now(api->loop);

	if (api->refusal_told_at != 0 && now - api->refusal_told_at < 100 * WH_NS_PER_MS) {
		api->refusals_untold++;
		return;
	}
	tell(api, x, token, action, false);
	api->refusal_told_at = now;
	api->refusals_untold = 0;
}

static void refuse_unknown(struct api *api, wh_http_exchange *x, bool shown, enum token_action action)
{
	tell_refusal(api, x, NULL, action);
	wh_http_set(x, "WWW-Authenticate",
	            shown ? "Bearer realm=\"whilst\", error=\"invalid_token\"" : "Bearer realm=\"whilst\"");
	answer_problem(api, x, PROBLEM_NO_TOKEN, NULL, "%s",
	               shown ? "the token that was shown is not known here"
	                     : "wanted is Authorization: Bearer TOKEN, or Whilst-Token: TOKEN");
}

void authorize_refuse(struct api *api, wh_http_exchange *x, const struct token *token,
                      enum token_action action, struct wh_slice name, const char *members)
{
	if (name.len > 0)
		name = namespace_show(token_namespace(token), name);
	tell_refusal(api, x, token, action);
	wh_http_set(x, "WWW-Authenticate", "Bearer realm=\"whilst\", error=\"insufficient_scope\"");
	answer_problem(api, x, PROBLEM_NOT_ALLOWED, members, "the token of %s has no scope %s%s%.*s",
	               token_name(token), token_action_name(action), name.len > 0 ? ":" : "", (int)name.len,
	               name.data ? name.data : "");
}

/* Routes that nobody has shown to keep within a namespace are not for one. */
static bool reaches(struct api *api, wh_http_exchange *x, const struct token *token,
                    const struct route *route)
{
	if (token_namespace(token).len == 0 || route->reach != REACH_ALL)
		return true;
	tell_refusal(api, x, token, route->action);
	answer_problem(
		api, x, PROBLEM_NOT_WITHIN, NULL,
		"the token of %s has a prefix: it knows what is in its namespace, and this is about all "
		"of the server",
		token_name(token));
	return false;
}

enum subject { SUBJECT_READ, SUBJECT_UNKNOWN_JOB, SUBJECT_UNREADABLE };

/* "NAMESPACE:NAME" with before in front of NAME. */
static size_t put_before(char *name, size_t len, const char *before, size_t before_len)
{
	size_t skip = job_name_skip(name, len);

	memmove(name + skip + before_len, name + skip, len - skip);
	memcpy(name + skip, before, before_len);
	return len + before_len;
}

/* What the request is about: the full name of a queue or service. */
static enum subject read_subject(struct api *api, const struct token *token, const struct target *target,
                                 const struct route *route, char room[SUBJECT_BYTES], struct wh_slice *ret)
{
	struct wh_slice namespace = token_namespace(token);
	struct store_slice queue;
	size_t len = 0;
	uint64_t job;

	*ret = (struct wh_slice){0};
	if (route->variable == ROUTE_NONE)
		return SUBJECT_READ;
	if (route->variable == ROUTE_JOB) {
		struct wh_slice text = target->segments[2];
		if (!wh__parse_u64(text.data, text.len, UINT64_MAX, &job))
			return SUBJECT_UNREADABLE;
		if (store_queue_of(api->store, job, &queue) != 0 ||
		    !namespace_show(namespace, answer_slice(queue)).data)
			return SUBJECT_UNKNOWN_JOB;
		*ret = answer_slice(queue);
		return SUBJECT_READ;
	}
	if (namespace_target(namespace, target->segments[route->action == TOKEN_CALL ? 1 : 2], room, &len))
		return SUBJECT_UNREADABLE;
	/* who may look at the queue of its events may look at the topic */
	if (route->variable == ROUTE_TOPIC && route->action == TOKEN_READ)
		len = put_before(room, len, TOPIC_QUEUE_PREFIX, PREFIX_BYTES);
	*ret = (struct wh_slice){room, len};
	return SUBJECT_READ;
}

/* Jobs of the gateway stand in queues named after their services: who may call may look at them, and cancel them. */
bool authorize_allows(const struct token *token, enum token_action action, struct wh_slice name)
{
	struct wh_slice said = namespace_show(token_namespace(token), name);
	char service[SUBJECT_BYTES];
	size_t skip;

	if (name.len > 0 && !said.data)
		return false;
	if (token_allows(token, action, said))
		return true;
	skip = job_name_skip(said.data, said.len);
	if ((action != TOKEN_READ && action != TOKEN_SUBMIT) || said.len <= skip + CALL_BYTES ||
	    said.len > sizeof(service) || memcmp(said.data + skip, SERVICE_QUEUE_PREFIX, CALL_BYTES) != 0)
		return false;
	memcpy(service, said.data, skip);
	memcpy(service + skip, said.data + skip + CALL_BYTES, said.len - skip - CALL_BYTES);
	return token_allows(token, TOKEN_CALL, (struct wh_slice){service, said.len - CALL_BYTES});
}

const struct token *authorize_who(struct api *api, wh_http_exchange *x)
{
	struct wh_slice shown = presented(x);

	return shown.len > 0 ? token_find(api->tokens, shown) : NULL;
}

static void leave(void *arg)
{
	token_leave(arg);
}

static const char *whose(const struct token_excess *excess)
{
	return excess->of_namespace ? "the namespace of the token" : "the token";
}

/* A request holds a connection until it is over: waits, streams and large bodies for long. Connections on which none is under way
 * are nobody's, since each request brings its own token. */
static bool enter(struct api *api, wh_http_exchange *x, const struct token *token, enum token_action action)
{
	struct token_excess excess = {0};
	struct token_use *use = token_enter(token, &excess);

	if (use) {
		wh_http_on_end(x, leave, use);
		return true;
	}
	tell_refusal(api, x, token, action);
	wh_http_set(x, "Retry-After", "1");
	answer_limit(api, x, PROBLEM_TOO_MANY_REQUESTS, excess.value, NULL,
	             "%s of %s may have %llu requests under way at once, waits and streams among them",
	             whose(&excess), token_name(token), (unsigned long long)excess.value);
	return false;
}

/* Judged before the body is read, by the length that it announces. */
static bool within_limits(struct api *api, wh_http_exchange *x, const struct token *token,
                          enum token_action action)
{
	struct token_excess excess = {0};
	int64_t wait = token_spend(token, wh_now(api->loop), wh_http_body_length(x), &excess);

	if (wait == 0)
		return true;
	if (wait < 0) {
		answer_problem(api, x, PROBLEM_LENGTH_REQUIRED, NULL,
		               "%s of %s is limited in bytes: a body must say its Content-Length",
		               whose(&excess), token_name(token));
		return false;
	}
	tell_refusal(api, x, token, action);
	wh_http_setf(x, "Retry-After", "%lld", (long long)((wait + WH_NS_PER_S - 1) / WH_NS_PER_S));
	answer_limit(api, x, PROBLEM_TOO_MANY_REQUESTS, excess.value, NULL,
	             "%s of %s may have %llu %s a second; come again in %.3f s", whose(&excess),
	             token_name(token), (unsigned long long)excess.value,
	             excess.limit[0] == 'r' ? "requests" : "bytes of bodies", (double)wait / 1e9);
	return false;
}

bool authorize_namespace(struct api *api, wh_http_exchange *x, const struct route *route,
                         struct wh_slice *ret)
{
	const struct token *token;

	*ret = (struct wh_slice){NULL, 0};
	if (!api->tokens || route->action == TOKEN_OPEN)
		return true;
	/* what was judged by tokens of before is judged anew */
	if (!token_table_namespaced(api->tokens) && wh_http_received_at(x) > api->tokens_since)
		return true;
	token = authorize_who(api, x);
	if (!token) {
		refuse_unknown(api, x, true, route->action);
		return false;
	}
	*ret = token_namespace(token);
	return reaches(api, x, token, route);
}

bool authorize(struct api *api, wh_http_exchange *x, const struct target *target, const struct route *route)
{
	char room[SUBJECT_BYTES];
	const struct token *token;
	struct wh_slice name;

	if (!api->tokens || route->action == TOKEN_OPEN)
		return true;
	token = authorize_who(api, x);
	if (!token) {
		refuse_unknown(api, x, presented(x).len > 0, route->action);
		return false;
	}
	if (!reaches(api, x, token, route))
		return false;
	switch (read_subject(api, token, target, route, room, &name)) {
	case SUBJECT_UNREADABLE: /* its handler says what is wrong with it, whatever happens meanwhile */
		break;
	case SUBJECT_UNKNOWN_JOB:
		/* It may be there once the body is: so only who may do this to any job goes on. In a namespace nobody may do that. */
		if (token_namespace(token).len > 0 || !authorize_allows(token, route->action, name)) {
			answer_problem(api, x, PROBLEM_UNKNOWN_JOB, NULL,
			               "there is no such job, or its retention has passed");
			return false;
		}
		break;
	case SUBJECT_READ:
		if (!authorize_allows(token, route->action, name)) {
			authorize_refuse(api, x, token, route->action, name, NULL);
			return false;
		}
		break;
	}
	if (!enter(api, x, token, route->action) || !within_limits(api, x, token, route->action))
		return false;
	if (route->action == TOKEN_ADMIN)
		tell(api, x, token, route->action, true);
	return true;
}
