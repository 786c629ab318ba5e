/* src/front/callback.c -- who submits a job, or records a call, may name a URL that is told of its end. See api.h, deliver/push.h.
 *
 * The URL is judged before anything is accepted. The job and the callback that waits for it are one commit.
 */
#include <string.h>

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
