/* src/front/callback.c -- who submits a job, or records a call, may name a URL that is told of its end. See api.h, deliver/push.h.
 *
 * The URL is judged before anything is accepted. The job and the callback that waits for it are one commit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "deliver/push.h"
#include "front/api.h"
#include "front/once.h"

bool callback_asked(wh_http_exchange *x)
{
	return wh_http_header(x, "Whilst-Callback").data != NULL;
}

const char *callback_wrong(const struct api *api, struct wh_slice url, enum problem *ret)
{
	struct wh_http_url parts;

	*ret = PROBLEM_BAD_REQUEST;
	if (url.len > CALLBACK_URL_BYTES_MAX || wh_http_url_parse(url, &parts) != 0 || parts.userinfo.data)
		return "wanted is http:// or https://, a host, at most 1000 bytes and no user information";
	*ret = PROBLEM_BAD_VALUE;
	if (!push_has_secrets(api->push))
		return "callbacks are signed, and the server has no secrets (the setting callback-secrets)";
	*ret = PROBLEM_TARGET_REFUSED;
	if (!ranges_allow_host(&api->ranges, parts.host.data, parts.host.len))
		return "it leads into this machine or a network that is not for everybody; the setting "
		       "allow-private-targets names those that may be reached";
	return NULL;
}

bool callback_read(struct request *request, struct wh_slice option, struct wh_slice *ret)
{
	struct wh_slice url = wh_http_header(request->x, "Whilst-Callback");
	enum problem problem = PROBLEM_BAD_REQUEST;
	const char *why = NULL;

	if (url.data && option.data)
		why = "it is named twice, in the query and by Whilst-Callback";
	else if (!url.data)
		url = option;
	*ret = url;
	if (!why && url.data)
		why = callback_wrong(request->api, url, &problem);
	if (why)
		answer_problem(request->api, request->x, problem, NULL, "callback %.*s: %s",
		               (int)(url.len < 200 ? url.len : 200), url.data, why);
	return !why;
}

static bool refuse_line(struct request *request, size_t nth, const char *member, enum problem problem,
                        struct wh_slice url, const char *why)
{
	char members[40];

	snprintf(members, sizeof(members), ",\"line\":%zu", nth + 1);
	answer_problem(request->api, request->x, problem, members, "line %zu, %.100s %.*s: %s", nth + 1,
	               member, (int)(url.len < 200 ? url.len : 200), url.data, why);
	return false;
}

/* A member that is not there, or null, says nothing. */
static bool read_line(struct request *request, struct wh_slice line, size_t nth, const char *member,
                      struct callback_urls *urls, char **to)
{
	struct wh_slice value = wh__json_member(line, member), url = {*to, 0};
	enum problem problem;
	const char *why;

	urls->each[nth] = urls->of_all;
	if (!wh__json_check(line))
		return refuse_line(request, nth, member, PROBLEM_BAD_JSON, (struct wh_slice){"", 0},
		                   "is not looked for in what is nested more than 128 deep");
	if (!value.data || wh__json_is_null(value))
		return true;
	if (!wh__json_string(value, *to, &url.len))
		return refuse_line(request, nth, member, PROBLEM_BAD_JSON, value, "must be a string");
	why = callback_wrong(request->api, url, &problem);
	if (why)
		return refuse_line(request, nth, member, problem, url, why);
	*to += url.len;
	urls->each[nth] = url;
	return true;
}

bool callback_read_lines(struct request *request, const struct store_slice *lines, size_t count,
                         const char *member, struct callback_urls *urls)
{
	size_t bytes = 0;
	char *to;

	if (!member) {
		urls->count = urls->of_all.data ? count : 0;
		return true;
	}
	for (size_t i = 0; i < count; i++)
		bytes += wh__json_member((struct wh_slice){lines[i].data, lines[i].len}, member).len;
	urls->each = calloc(count, sizeof(urls->each[0]));
	urls->text = to = malloc(bytes + 1);
	if (!urls->each || !to) {
		answer_problem(request->api, request->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		return false;
	}
	for (size_t i = 0; i < count; i++) {
		if (!read_line(request, (struct wh_slice){lines[i].data, lines[i].len}, i, member, urls, &to))
			return false;
		urls->count += urls->each[i].data != NULL;
	}
	return true;
}

void callback_urls_done(struct callback_urls *urls)
{
	free(urls->each);
	free(urls->text);
}

/* The job that stands for a callback until the one before it has finished. */
static struct store_action pending_action(struct wh_slice url, struct store_slice trace)
{
	return (struct store_action){.kind = STORE_SUBMIT,
	                             .submit = {.queue = STORE_SLICE(CALLBACKS_PENDING),
	                                        .payload = {url.data, url.len},
	                                        .content_type = STORE_SLICE("text/uri-list"),
	                                        .trace = trace,
	                                        .priority = JOB_PRIORITY_DEFAULT}};
}

wh_future callback_submit(struct store *store, const struct store_submit *submit, struct wh_slice url,
                          int level, struct once *once)
{
	struct store_action actions[2] = {{.kind = STORE_SUBMIT, .submit = *submit},
	                                  pending_action(url, submit->trace)};

	return once_apply(store, actions, url.data ? 2 : 1, level, once);
}

void callback_fill(struct store_action *actions, size_t count, struct wh_slice url)
{
	for (size_t i = 0; i < count; i++)
		actions[2 * i + 1] = pending_action(url, actions[2 * i].submit.trace);
}

void callback_begin(struct api *api, const struct store_commit *commit)
{
	/* one that was there before waits already, or has been told */
	for (size_t i = 0; i + 1 < commit->count && !commit->replayed; i += 2)
		push_callback(api->push, commit->results[i].job, commit->results[i + 1].job);
}
