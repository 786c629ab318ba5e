/* src/front/request.c -- what a request says: path, preferences, commit level, query, lease. See api.h.
 *
 * One pass over the header fields; a field of ours that is malformed is refused by the handler that needs it, never guessed at. One
 * that has a single value and is given twice has been refused before, with the head.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/units.h"
#include "front/api.h"

static bool is(struct wh_slice name, const char *wanted)
{
	return strncasecmp(name.data, wanted, name.len) == 0;
}

/* ---- fields that have one value ---------------------------------------------------------- */

/* Of RFC 9110 those that a request may have and that are no lists, the ones that browsers and intermediaries send, and our own. Host and Content-Length
 * are the library's to refuse; a traceparent that is given twice is none, says its standard. */
static const char *const singles[] = {"Authorization",
                                      "Content-Location",
                                      "Content-Range",
                                      "Content-Type",
                                      "Date",
                                      "From",
                                      "Idempotency-Key",
                                      "If-Modified-Since",
                                      "If-Range",
                                      "If-Unmodified-Since",
                                      "Last-Event-ID",
                                      "Max-Forwards",
                                      "Origin",
                                      "Proxy-Authorization",
                                      "Range",
                                      "Referer",
                                      "User-Agent",
                                      "Whilst-Callback",
                                      "Whilst-Commit",
                                      "Whilst-Lease",
                                      "Whilst-Token"};
enum { SINGLES = sizeof(singles) / sizeof(singles[0]) };
_Static_assert(SINGLES <= 32, "there is a bit for each");

/* Two fields of one name have names of one length, which hardly any two of a request have otherwise. */
static bool has_like_names(const wh_http_exchange *x)
{
	size_t count = wh_http_field_count(x);
	uint64_t lengths = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t bit = UINT64_C(1) << (wh_http_field(x, i).name.len % 64);

		if (lengths & bit)
			return true;
		lengths |= bit;
	}
	return false;
}

static const char *single_given_twice(const wh_http_exchange *x)
{
	size_t count = wh_http_field_count(x);
	uint32_t seen = 0;

	for (size_t i = 0; i < count; i++) {
		struct wh_slice name = wh_http_field(x, i).name;

		for (size_t k = 0; k < SINGLES; k++) {
			if (!wh_slice_equal_caseless(name, singles[k]))
				continue;
			if (seen & UINT32_C(1) << k)
				return singles[k];
			seen |= UINT32_C(1) << k;
			break;
		}
	}
	return NULL;
}

bool request_singles(struct api *api, wh_http_exchange *x)
{
	const char *twice = has_like_names(x) ? single_given_twice(x) : NULL;

	if (twice)
		answer_problem(api, x, PROBLEM_BAD_REQUEST, NULL,
		               "%s is given twice, and has one value: which one is meant cannot be known",
		               twice);
	return !twice;
}

/* ---- all fields, in one pass ------------------------------------------------------------- */

static void read_level(struct request *request, struct wh_slice value)
{
	static const struct {
		const char *name;
		int level;
	} levels[] = {{"local", STORE_LOCAL},
	              {"async", STORE_ASYNC},
	              {"remote-write", STORE_REMOTE_WRITE},
	              {"remote-flush", STORE_REMOTE_FLUSH}};

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (wh_slice_equal(value, levels[i].name)) {
			request->level = levels[i].level;
			return;
		}
	}
	request->wrong = "Whilst-Commit";
	request->wrong_value = value;
}

static void read_field(struct request *request, struct wh_http_field field)
{
	switch (field.name.len) {
	case 6:
		if (is(field.name, "Prefer")) {
			prefer_add(&request->prefer, field.value.data, field.value.len);
			request->prefer_seen = true;
		} else if (is(field.name, "Accept") && !request->accept.data) {
			request->accept = field.value;
		}
		break;
	case 8:
		request->if_match |= is(field.name, "If-Match");
		break;
	case 11:
		if (is(field.name, "traceparent"))
			request->traced = true;
		break;
	case 12:
		if (is(field.name, "Content-Type"))
			request->content_type = field.value;
		else if (is(field.name, "Whilst-Lease"))
			request->lease = field.value;
		break;
	case 13:
		if (is(field.name, "Whilst-Commit"))
			read_level(request, field.value);
		else if (is(field.name, "If-None-Match"))
			request->if_none_match = true;
		else if (is(field.name, "Last-Event-ID"))
			request->last_event_id = field.value;
		break;
	case 14:
		if (is(field.name, "Sec-Fetch-Site"))
			request->from_elsewhere |=
				!is(field.value, "same-origin") && !is(field.value, "none");
		break;
	case 15:
		if (is(field.name, "Idempotency-Key"))
			request->idempotency_key = field.value;
		break;
	default:
		break;
	}
}

static bool read_name(struct request *request, const char *what)
{
	const char *wrong = namespace_target(request->namespace, request->target.segments[2], request->name,
	                                     &request->name_len);

	request->hidden = request->namespace.len > 0 ? request->namespace.len + 1 : 0;
	if (wrong)
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "path: the name of the %s %s", what, wrong);
	return !wrong;
}

bool request_knows_job(const struct request *request, uint64_t job)
{
	struct store_slice queue;

	return request->namespace.len == 0 || (store_queue_of(request->api->store, job, &queue) == 0 &&
	                                       namespace_show(request->namespace, answer_slice(queue)).data);
}

/* To a client of a namespace a job of elsewhere, or one whose retention has passed, is none. */
static bool knows_job(struct request *request)
{
	if (request_knows_job(request, request->job))
		return true;
	answer_problem(request->api, request->x, PROBLEM_UNKNOWN_JOB, NULL,
	               "there is no such job, or its retention has passed");
	return false;
}

bool request_within(struct request *request, const char *kind, struct wh_slice name)
{
	if (request->namespace.len == 0 || namespace_knows_option(name))
		return true;
	answer_problem(request->api, request->x, PROBLEM_NOT_WITHIN, NULL,
	               "%s: '%.*s' is not for a token with a prefix", kind,
	               (int)(name.len < 100 ? name.len : 100), name.data);
	return false;
}

static bool read_variable(struct request *request)
{
	struct wh_slice id;

	switch (request->route->variable) {
	case ROUTE_NONE:
		return true;
	case ROUTE_QUEUE:
		return read_name(request, "queue");
	case ROUTE_SERVICE:
		return read_name(request, "service");
	case ROUTE_TOPIC:
		return read_name(request, "topic");
	case ROUTE_SCHEDULE:
		return read_name(request, "schedule");
	case ROUTE_JOB:
		id = request->target.segments[2];
		if (wh__parse_u64(id.data, id.len, JOB_ID_MAX, &request->job) && request->job > 0)
			return knows_job(request);
		answer_problem(
			request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
			"path: '%.*s' is not the id of a job, which is a decimal number from 1 to 2^53 - 1",
			(int)(id.len < 40 ? id.len : 40), id.data);
		return false;
	}
	return true;
}

bool request_read(struct request *request, struct api *api, wh_http_exchange *x)
{
	size_t count = wh_http_field_count(x);

	memset(request, 0, offsetof(struct request, name));
	request->name_len = request->hidden = 0;
	request->job = 0;
	request->api = api;
	request->x = x;
	request->route = wh_http_arg(x);
	for (size_t i = 0; i < count; i++)
		read_field(request, wh_http_field(x, i));
	prefer_clamp(&request->prefer, api->wait_s_max);
	return authorize_namespace(api, x, request->route, &request->namespace) &&
	       target_split(&request->target, wh_http_path(x), wh_http_query(x)) && read_variable(request);
}

static bool not_wrong(struct request *request)
{
	if (!request->wrong)
		return true;
	answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
	               "%s: '%.*s' is not what it may be", request->wrong,
	               (int)(request->wrong_value.len < 100 ? request->wrong_value.len : 100),
	               request->wrong_value.data);
	return false;
}

bool request_level(struct request *request, bool no_async, int *ret_level)
{
	if (!not_wrong(request))
		return false;
	if (request->level > STORE_LOCAL) {
		answer_problem(
			request->api, request->x, PROBLEM_LEVEL_UNAVAILABLE, NULL,
			"Whilst-Commit: %s needs a standby, and none is configured; use local or async",
			answer_level(request->level));
		return false;
	}
	if (no_async && request->level == STORE_ASYNC) {
		answer_problem(
			request->api, request->x, PROBLEM_LEVEL_UNAVAILABLE, NULL,
			"Whilst-Commit: what is configured or removed is never committed async; use local");
		return false;
	}
	*ret_level = request->level;
	return true;
}

int request_read_level(const struct request *request)
{
	return request->level == STORE_ASYNC ? STORE_ASYNC : STORE_DEFAULT;
}

static bool bad_option(struct request *request, const char *name, enum problem problem, const char *wrong)
{
	answer_problem(request->api, request->x, problem, NULL, "query: %s %s", name, wrong);
	return false;
}

static bool out_of_range(struct request *request, const struct option *option)
{
	char range[100], low[WH__DURATION_TEXT_BYTES], high[WH__DURATION_TEXT_BYTES];

	if (option->kind == OPTION_DURATION)
		snprintf(range, sizeof(range), "must be from %.*s to %.*s",
		         (int)wh__put_duration(low, option->min), low,
		         (int)wh__put_duration(high, option->max), high);
	else
		snprintf(range, sizeof(range), "must be from %lld to %lld", (long long)option->min,
		         (long long)option->max);
	return bad_option(request, option->name, PROBLEM_BAD_VALUE, range);
}

static bool read_option(struct request *request, struct option *option, struct wh_slice value)
{
	char text[JOB_CONTENT_TYPE_MAX];
	long n = target_decode(value.data, value.len, text, sizeof(text));
	size_t len = n < 0 ? 0 : (size_t)n;
	uint64_t number;

	if (option->given)
		return bad_option(request, option->name, PROBLEM_BAD_REQUEST, "is given twice");
	if (option->kind == OPTION_RAW) {
		option->given = true;
		option->raw = value;
		return true;
	}
	if (n < 0)
		return bad_option(request, option->name, PROBLEM_BAD_REQUEST,
		                  "is longer than 255 bytes or has a malformed percent-encoding");
	option->given = true;
	switch (option->kind) {
	case OPTION_NUMBER:
		if (!wh__parse_u64(text, len, INT64_MAX, &number))
			return bad_option(request, option->name, PROBLEM_BAD_REQUEST,
			                  "must be a decimal number");
		option->value = (int64_t)number;
		break;
	case OPTION_DURATION:
		if (!wh__parse_duration(text, len, &option->value))
			return bad_option(
				request, option->name, PROBLEM_BAD_REQUEST,
				"must be a duration with its unit, such as 500ms, 30s, 5m, 2h or 7d");
		break;
	case OPTION_INSTANT:
		if (!wh__parse_instant(text, len, &option->value))
			return bad_option(request, option->name, PROBLEM_BAD_REQUEST,
			                  "must be an instant as in RFC 3339 before the year 2262, such as "
			                  "2026-11-23T20:00:00Z");
		return true;
	case OPTION_RAW: /* before */
		return true;
	case OPTION_FLAG:
		option->value = len == 4 && memcmp(text, "true", 4) == 0;
		if (!option->value && !(len == 5 && memcmp(text, "false", 5) == 0))
			return bad_option(request, option->name, PROBLEM_BAD_REQUEST,
			                  "must be true or false");
		return true;
	case OPTION_TEXT:
		memcpy(option->text, text, len);
		option->text[len] = 0;
		option->value = (int64_t)len;
		return true;
	}
	return (option->value >= option->min && option->value <= option->max) ||
	       out_of_range(request, option);
}

bool request_options(struct request *request, struct option *options, size_t count)
{
	struct wh_slice name, value;
	size_t at = 0;

	while (target_query_next(&request->target, &at, &name, &value)) {
		size_t i = 0;
		while (i < count && !wh_slice_equal(name, options[i].name))
			i++;
		if (i == count) {
			answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
			               "query: there is no '%.*s' here",
			               (int)(name.len < 100 ? name.len : 100), name.data);
			return false;
		}
		if (!request_within(request, "query", name) || !read_option(request, &options[i], value))
			return false;
	}
	return true;
}

bool request_unique_while(const char *text, size_t len, int64_t *ret)
{
	*ret = JOB_UNIQUE_ACTIVE;
	if (len == 6 && memcmp(text, "active", 6) == 0)
		return true;
	if (len == 6 && memcmp(text, "queued", 6) == 0) {
		*ret = JOB_UNIQUE_QUEUED;
		return true;
	}
	return wh__parse_duration(text, len, ret) && *ret >= WH_NS_PER_MS &&
	       *ret <= INT64_C(3650) * 86400 * WH_NS_PER_S;
}

bool request_lease(struct request *request, struct job_lease *ret)
{
	struct wh_slice lease = request->lease;
	const char *dot = lease.data ? memchr(lease.data, '.', lease.len) : NULL;
	uint64_t epoch, claim;

	if (!not_wrong(request))
		return false;
	if (!lease.data) {
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "Whilst-Lease is missing: send the token that came with the job");
		return false;
	}
	if (!dot || !wh__parse_u64(lease.data, (size_t)(dot - lease.data), UINT32_MAX, &epoch) ||
	    !wh__parse_u64(dot + 1, lease.len - (size_t)(dot + 1 - lease.data), UINT64_MAX, &claim)) {
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "Whilst-Lease: '%.*s' is not a token such as 3.42",
		               (int)(lease.len < 60 ? lease.len : 60), lease.data);
		return false;
	}
	*ret = (struct job_lease){(uint32_t)epoch, claim};
	return true;
}

bool request_content_type(struct request *request, struct store_slice *ret)
{
	if (!request->content_type.data || request->content_type.len == 0) {
		*ret = STORE_SLICE("application/octet-stream");
		return true;
	}
	if (request->content_type.len > JOB_CONTENT_TYPE_MAX) {
		answer_problem(request->api, request->x, PROBLEM_BAD_REQUEST, NULL,
		               "Content-Type: longer than %d bytes", JOB_CONTENT_TYPE_MAX);
		return false;
	}
	*ret = (struct store_slice){request->content_type.data, request->content_type.len};
	return true;
}

bool request_is_type(struct wh_slice content_type, const char *type)
{
	size_t len = strlen(type);

	return content_type.len >= len && strncasecmp(content_type.data, type, len) == 0 &&
	       (content_type.len == len || strchr("; \t,", content_type.data[len]));
}

bool request_names_tag(const wh_http_exchange *x, const char *tag, size_t len)
{
	size_t count = wh_http_field_count(x);

	for (size_t i = 0; i < count; i++) {
		struct wh_http_field field = wh_http_field(x, i);

		if (!wh_slice_equal_caseless(field.name, "If-None-Match"))
			continue;
		/* weak comparison: what stands before the quotes does not matter */
		if (wh_slice_equal(field.value, "*") || memmem(field.value.data, field.value.len, tag, len))
			return true;
	}
	return false;
}

bool request_json(struct request *request)
{
	struct wh_slice type = request->content_type;

	/* curl -d says form data unless it is told otherwise: a JSON body is recognised by being one */
	if (!type.data || request_is_type(type, "application/json") ||
	    request_is_type(type, "application/x-www-form-urlencoded"))
		return true;
	answer_problem(request->api, request->x, PROBLEM_WRONG_CONTENT_TYPE, NULL,
	               "Content-Type: '%.*s' is not application/json", (int)(type.len < 100 ? type.len : 100),
	               type.data);
	return false;
}

struct wh_slice request_body(const struct request *request)
{
	return wh_http_body(request->x);
}
