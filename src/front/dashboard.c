/* src/front/dashboard.c -- GET /: a page for browsers, a list of what there is for everybody else.
 *
 * The page (web/) is the same for every server: what it shows it asks the interface for, with the token that whoever looks at it gives it. So it
 * needs none itself, and a browser, which cannot show one when an address is typed, gets it. Its policy lets nothing run but its own script and
 * nothing be asked but this server. Who asks for HTML is a browser; curl and libraries accept anything.
 * Thread: the loop of the store.
 */
#include <string.h>
#include <strings.h>

#include "front/api.h"

#define PLAIN "text/plain; charset=utf-8"

/* dashboard_page.c, by scripts/embed-page */
extern const unsigned char dashboard_page[];
extern const unsigned long dashboard_page_bytes;
extern const char dashboard_page_policy[], dashboard_page_tag[];

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Parameters of a media range: is its weight 0, so that it is not wanted? */
static bool is_unwanted(const char *at, const char *end)
{
	for (; at < end; at++) {
		if (*at != ';')
			continue;
		for (at++; at < end && is_blank(*at); at++)
			;
		if (end - at < 3 || strncasecmp(at, "q=0", 3) != 0)
			continue;
		for (at += 3; at < end && (*at == '.' || *at == '0'); at++)
			;
		return at == end || *at == ';' || is_blank(*at);
	}
	return false;
}

/* Does this list name HTML, and want it? */
static bool accepts_html(struct wh_slice accept, bool *ret_wanted)
{
	static const char html[] = "text/html";
	const char *at = accept.data, *end = accept.data ? accept.data + accept.len : NULL, *comma;

	for (; at < end; at = comma + 1) {
		comma = memchr(at, ',', (size_t)(end - at));
		if (!comma)
			comma = end;
		while (at < comma && is_blank(*at))
			at++;
		if ((size_t)(comma - at) < sizeof(html) - 1 || strncasecmp(at, html, sizeof(html) - 1) != 0)
			continue;
		at += sizeof(html) - 1;
		if (at == comma || *at == ';' || is_blank(*at)) {
			*ret_wanted = !is_unwanted(at, comma);
			return true;
		}
	}
	return false;
}

bool answer_is_page(const wh_http_exchange *x)
{
	size_t count = wh_http_field_count(x);
	bool wanted = false;

	for (size_t i = 0; i < count; i++) {
		struct wh_http_field field = wh_http_field(x, i);

		if (wh_slice_equal_caseless(field.name, "Accept") && accepts_html(field.value, &wanted))
			break;
	}
	return wanted;
}

static void answer_page(struct request *request)
{
	wh_http_exchange *x = request->x;

	wh_http_set(x, "Cache-Control", "no-cache");
	wh_http_set(x, "ETag", dashboard_page_tag);
	wh_http_set(x, "Vary", "Accept");
	wh_http_set(x, "Content-Security-Policy", dashboard_page_policy);
	wh_http_set(x, "X-Content-Type-Options", "nosniff");
	wh_http_set(x, "X-Frame-Options", "DENY");
	wh_http_set(x, "Referrer-Policy", "no-referrer");
	/* a page of a service, which is of the same origin, has no hold on this one by having opened it */
	wh_http_set(x, "Cross-Origin-Opener-Policy", "same-origin");
	if (request_names_tag(x, dashboard_page_tag, strlen(dashboard_page_tag)))
		answer_bytes(request->api, x, 304, NULL, "", 0);
	else
		answer_bytes(request->api, x, 200, "text/html; charset=utf-8", dashboard_page,
		             dashboard_page_bytes);
}

void answer_foreign(struct call *call, struct store_slice content_type)
{
	static const char pdf[] =
		"application/pdf"; /* browsers keep it apart themselves, and show none in a sandbox */

	if (!call->is_page || (content_type.len >= sizeof(pdf) - 1 &&
	                       strncasecmp(content_type.data, pdf, sizeof(pdf) - 1) == 0))
		return;
	wh_http_add(call->x, "Content-Security-Policy", "sandbox");
	wh_http_set(call->x, "X-Content-Type-Options", "nosniff");
}

const struct route *dashboard_route(const struct api *api, const wh_http_exchange *x)
{
	static const struct route page = {
		.path = "", .handler = answer_page, .body_max = API_CONFIG_BODY_MAX, .action = TOKEN_OPEN};

	return api->options.dashboard && answer_is_page(x) ? &page : NULL;
}

#define PAGE_LINE "GET    /  with Accept: text/html      a page to watch and steer it with\n"

void api_index(struct request *request)
{
	static const char body[] =
		"whilst " WH_VERSION
		": hand over work, carry on, and wait, poll or be called back for the outcome\n\n"
		"POST   /v1/queues/{queue}/jobs        submit; the body is the payload\n"
		"GET    /v1/jobs/{id}                  poll; with Prefer: wait=N wait for the end\n"
		"GET    /v1/jobs/{id}/result           the result; /payload: what was submitted\n"
		"DELETE /v1/jobs/{id}                  cancel\n"
		"PATCH  /v1/jobs/{id}                  another priority, delay, time to run, ... of a job\n"
		"POST   /v1/queues/{queue}/reserve     lease jobs\n"
		"POST   /v1/jobs/{id}/complete         and fail, release, extend, progress, bury, kick\n"
		"POST   /v1/transactions               several of these, all or none\n"
		"GET    /v1/queues                     queues and their counters\n"
		"GET    /v1/queues/{queue}/jobs        its jobs; POST .../replay, move, kick, purge\n"
		"GET    /v1/queues/{queue}/events      what happens to its jobs, as server-sent events\n"
		"PUT    /v1/queues/{queue}/target      have its jobs pushed to an HTTP server\n"
		"POST   /v1/topics/{topic}/events      publish; PUT .../subscriptions/{name}\n"
		"PUT    /v1/schedules/{name}           jobs or events at given times\n"
		"PUT    /v1/services/{name}            a backend for the gateway\n"
		"ANY    /call/{service}/{path}         the gateway\n"
		"GET    /v1/log                        how far the log has come\n"
		"GET    /v1/log/backup                 a copy of the data, as a tar archive\n"
		"GET    /livez /readyz /metrics        operation\n"
		"GET    /openapi.json                  all of this in detail, for programs\n" PAGE_LINE;
	bool page = request->api->options.dashboard;

	wh_http_set(request->x, "Vary", "Accept");
	wh_http_set(request->x, "Link", "</openapi.json>; rel=\"service-desc\"");
	answer_bytes(request->api, request->x, 200, PLAIN, body,
	             sizeof(body) - 1 - (page ? 0 : sizeof(PAGE_LINE) - 1));
}
