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

static bool refuse(struct request *request, enum problem problem, const char *why, struct wh_slice url)
{
	answer_problem(request->api, request->x, problem, NULL, "callback %.*s: %s",
	               (int)(url.len < 200 ? url.len : 200), url.data, why);
	return false;
}

bool callback_read(struct request *request, struct wh_slice option, struct wh_slice *ret)
{
	struct wh_slice url = wh_http_header(request->x, "Whilst-Callback");
	struct wh_http_url parts;

	if (url.data && option.data)
		return refuse(request, PROBLEM_BAD_REQUEST,
		              "it is named twice, in the query and by Whilst-Callback", url);
	if (!url.data)
		url = option;
	*ret = url;
	if (!url.data)
		return true;
	if (url.len > CALLBACK_URL_BYTES_MAX || wh_http_url_parse(url, &parts) != 0 || parts.userinfo.data)
		return refuse(
			request, PROBLEM_BAD_REQUEST,
			"wanted is http:// or https://, a host, at most 1000 bytes and no user information",
			url);
	if (!push_has_secrets(request->api->push))
		return refuse(
			request, PROBLEM_BAD_VALUE,
			"callbacks are signed, and the server has no secrets (the setting callback-secrets)",
			url);
	if (!ranges_allow_host(&request->api->ranges, parts.host.data, parts.host.len))
		return refuse(
			request, PROBLEM_TARGET_REFUSED,
			"it leads into this machine or a network that is not for everybody; the setting "
			"allow-private-targets names those that may be reached",
			url);
	return true;
}

wh_future callback_submit(struct store *store, const struct store_submit *submit, struct wh_slice url,
                          int level, struct once *once)
{
	struct store_action actions[2] = {
		{.kind = STORE_SUBMIT, .submit = *submit},
		{.kind = STORE_SUBMIT,
	         .submit = {.queue = STORE_SLICE(CALLBACKS_PENDING),
	                    .payload = {url.data, url.len},
	                    .content_type = STORE_SLICE("text/uri-list"),
	                    .trace = submit->trace,
	                    .priority = JOB_PRIORITY_DEFAULT}},
	};

	return once_apply(store, actions, url.data ? 2 : 1, level, once);
}

void callback_begin(struct api *api, const struct store_commit *commit)
{
	/* one that was there before waits already, or has been told */
	if (commit->count == 2 && !commit->replayed)
		push_callback(api->push, commit->results[0].job, commit->results[1].job);
}
