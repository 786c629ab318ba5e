/* src/http/redirect.c -- redirects that the client follows: RFC 9110 section 15.4. Thread: loop. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http/client.h"
#include "http/message.h"

static bool is_redirect(int status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* What asks for a thing goes on as GET: 303 always, but HEAD stays HEAD; 301 and 302 for POST, as everybody does. */
static bool becomes_get(const wh_http_call *call, int status)
{
	enum wh_http_method method = wh__http_method_of(call->head, call->method_len);

	if (status == 303)
		return method != WH_HTTP_HEAD && method != WH_HTTP_GET;
	return (status == 301 || status == 302) && method == WH_HTTP_POST;
}

static int check_location(const wh_http_call *call, const char *location)
{
	struct wh_http_url from = {0}, to = {0};

	if (wh_http_url_parse((struct wh_slice){call->url, strlen(call->url)}, &from) != 0 ||
	    wh_http_url_parse((struct wh_slice){location, strlen(location)}, &to) != 0)
		return -WH_EHTTP_REDIRECT;
	if (to.userinfo.data || (from.https && !to.https && !call->redirect_insecure))
		return -WH_EHTTP_REDIRECT;
	return 0;
}

int wh__http_redirect_begin(wh_http_call *call)
{
	int status = call->response->status, error;
	struct wh_slice reference = wh_http_response_header(call->response, "location");
	struct wh_http_url base;

	if (call->redirects_max == 0 || !is_redirect(status) || !reference.data || !call->url)
		return 0;
	if (!becomes_get(call, status) && call->body_length != 0 && !call->whole)
		return 0; /* the pieces are gone */
	if (!call->request_done && !call->whole)
		return 0;
	if (call->redirects >= call->redirects_max)
		return -WH_EHTTP_REDIRECT;
	error = wh_http_url_parse((struct wh_slice){call->url, strlen(call->url)}, &base);
	if (error == 0)
		error = wh__http_url_resolve(&base, reference, &call->location);
	if (error == 0)
		error = check_location(call, call->location);
	if (error == 0)
		return 1;
	free(call->location);
	call->location = NULL;
	return error == -ENOMEM ? error : -WH_EHTTP_REDIRECT;
}

static int go_to(wh_http_call *call, char *location, struct wh__http_origin **ret_origin)
{
	struct wh_http_url from = {0};
	struct wh__http_place place;
	bool get = becomes_get(call, call->response->status);
	int error = wh__http_place_of_url(call->client, location, &place);

	if (error == 0)
		error = wh_http_url_parse((struct wh_slice){call->url, strlen(call->url)}, &from);
	if (error == 0)
		error = wh__http_head_rewrite(call, &place, get,
		                              !wh__http_url_same_origin(&from, &place.url));
	if (error != 0)
		return error;
	if (get) {
		call->body_len = 0;
		/* pieces that waited for the server's word would be taken for the next request */
		wh__http_chain_clear(&call->early);
		call->early_bytes = 0;
	}
	*ret_origin = place.origin;
	return 0;
}

void wh__http_redirect_follow(wh_http_call *call, bool reusable)
{
	struct wh__http_origin *origin;
	char *location = call->location;
	int error;

	call->location = NULL;
	error = go_to(call, location, &origin);
	if (error != 0) {
		free(location);
		wh__http_call_fail(call, error);
		return;
	}
	free(call->url);
	call->url = location;
	call->redirects++;
	call->client->stats.redirects++;
	call->response = wh_http_response_free(call->response);
	origin->call_count++;
	wh__http_call_again(call, reusable);
	call->origin->call_count--;
	call->origin = origin;
	wh__http_call_begin(call);
}
