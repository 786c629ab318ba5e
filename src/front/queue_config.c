/* src/front/queue_config.c -- the configuration of a queue as JSON. See queue_config.h. */
#include "front/queue_config.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/units.h"
#include "deliver/service.h"
#include "front/json_words.h"
#include "front/namespace.h"

#define DAY_NS (INT64_C(86400) * WH_NS_PER_S)

/* ---- reading ----------------------------------------------------------------------------- */

static bool bad_json(struct request *request, const char *key, const char *wanted)
{
	answer_problem(request->api, request->x, PROBLEM_BAD_JSON, NULL, "%.100s must be %s", key, wanted);
	return false;
}

static bool bad_value(struct request *request, const char *key, const char *range)
{
	answer_problem(request->api, request->x, PROBLEM_BAD_VALUE, NULL, "%s must be %s", key, range);
	return false;
}

static bool set_duration(struct request *request, const char *key, const json_t *value, int64_t min,
                         int64_t max, int64_t *ret)
{
	char range[100], low[WH__DURATION_TEXT_BYTES], high[WH__DURATION_TEXT_BYTES];
	int64_t ns;

	if (!json_is_string(value) ||
	    !wh__parse_duration(json_string_value(value), json_string_length(value), &ns))
		return bad_json(request, key, "a duration with its unit, such as \"30s\"");
	if (ns < min || ns > max) {
		snprintf(range, sizeof(range), "from %.*s to %.*s", (int)wh__put_duration(low, min), low,
		         (int)wh__put_duration(high, max), high);
		return bad_value(request, key, range);
	}
	*ret = ns;
	return true;
}

/* null: 0, which is no limit. */
static bool set_count(struct request *request, const char *key, const json_t *value, json_int_t max,
                      uint64_t *ret)
{
	json_int_t number = json_is_integer(value) ? json_integer_value(value) : 0;
	char range[60];

	if (!json_is_integer(value) && !json_is_null(value))
		return bad_json(request, key, "a whole number, or null for no limit");
	if (json_is_integer(value) && (number < 1 || number > max)) {
		snprintf(range, sizeof(range), max == INT64_MAX ? "1 or more" : "from 1 to %lld",
		         (long long)max);
		return bad_value(request, key, range);
	}
	*ret = (uint64_t)number;
	return true;
}

static bool set_small(struct request *request, const char *key, const json_t *value, json_int_t max,
                      uint32_t *ret)
{
	uint64_t number = 0;

	if (!set_count(request, key, value, max, &number))
		return false;
	*ret = (uint32_t)number;
	return true;
}

static bool set_retention(struct request *request, const char *key, const json_t *value,
                          struct job_queue_config *config)
{
	if (!set_duration(request, key, value, 0, 3650 * DAY_NS, &config->retention_ns))
		return false;
	if (config->retention_ns == 0)
		config->retention_ns = -1;
	return true;
}

/* One pause that doubles, or a list of them. */
static bool set_backoff(struct request *request, const char *key, const json_t *value,
                        struct job_queue_config *config)
{
	size_t count = json_array_size(value);
	int64_t ns;

	if (!json_is_array(value))
		return set_duration(request, key, value, WH_NS_PER_MS, 366 * DAY_NS, &config->backoff_ns);
	if (count < 1 || count > JOB_BACKOFFS_MAX)
		return bad_value(request, key, "a duration, or a list of 1 to 16 of them");
	for (size_t i = 0; i < count; i++) {
		if (!set_duration(request, key, json_array_get(value, i), 0, 30 * DAY_NS, &ns))
			return false;
		config->backoff_list_ms[i] = (uint32_t)((ns + WH_NS_PER_MS - 1) / WH_NS_PER_MS);
	}
	config->backoffs = (uint32_t)count;
	return true;
}

static bool set_jitter(struct request *request, const char *key, const json_t *value,
                       struct job_queue_config *config)
{
	json_int_t percent = json_integer_value(value);

	if (!json_is_integer(value))
		return bad_json(request, key, "a whole number of percent");
	if (percent < 0 || percent > 100)
		return bad_value(request, key, "from 0 to 100");
	config->backoff_jitter = percent == 0 ? JOB_NO_JITTER : (uint32_t)percent;
	return true;
}

static bool set_dead_letter(struct request *request, const char *key, const json_t *value,
                            struct queue_config *ret)
{
	struct wh_slice said = {json_string_value(value), json_string_length(value)},
			queue = {request->name, request->name_len};
	char name[TARGET_NAME_BYTES_MAX];
	size_t len = 0;

	if (json_is_null(value))
		return true;
	if (!json_is_string(value))
		return bad_json(request, key, "the name of a queue, or null for none");
	if (namespace_name(request->namespace, said, name, &len) || service_owns_queue(name, len))
		return bad_value(
			request, key,
			"a name of 1 to 200 bytes of A-Z a-z 0-9 - + / ; . $ _ ( ), the first not '-', "
			"which is not callbacks and does not begin with call/, topic/ or callbacks/");
	if (!namespace_same((struct wh_slice){name, len}, queue))
		return bad_value(request, key, "a queue of the same namespace");
	if (len == request->name_len && memcmp(name, request->name, len) == 0)
		return bad_value(request, key, "another queue than the one that it is of");
	memcpy(ret->dead_letter, name, len);
	ret->dead_letter_len = len;
	return true;
}

/* "100/s", "10/m", "5000/h", "1/d", or in any time: "3/250ms". */
static bool parse_rate(const char *text, size_t len, struct job_rate *ret)
{
	const char *slash = memchr(text, '/', len);
	size_t unit_len = slash ? len - (size_t)(slash + 1 - text) : 0;
	char period[40] = "1";
	uint64_t count;
	int64_t ns;

	if (!slash || unit_len == 0 || unit_len > sizeof(period) - 2 ||
	    !wh__parse_u64(text, (size_t)(slash - text), JOB_RATE_MAX, &count) || count == 0)
		return false;
	memcpy(period + (slash[1] >= '0' && slash[1] <= '9' ? 0 : 1), slash + 1, unit_len);
	if (!wh__parse_duration(period, strlen(period), &ns) || ns < WH_NS_PER_MS || ns > DAY_NS ||
	    ns % WH_NS_PER_MS != 0)
		return false;
	ret->count = (uint32_t)count;
	ret->period_ms = (uint32_t)(ns / WH_NS_PER_MS);
	return true;
}

static bool set_rate(struct request *request, const char *key, const json_t *value, struct job_rate *ret)
{
	if (json_is_null(value))
		return true;
	if (!json_is_string(value))
		return bad_json(request, key, "a rate such as \"100/s\", or null for none");
	if (!parse_rate(json_string_value(value), json_string_length(value), ret))
		return bad_value(
			request, key,
			"jobs, 1 to 1000000, in a time of 1ms to 1d: \"100/s\", \"10/m\", \"3/250ms\"");
	return true;
}

static bool set_attempts(struct request *request, const char *key, const json_t *value,
                         struct job_queue_config *config)
{
	if (!json_is_integer(value))
		return bad_json(request, key, "a whole number");
	return set_small(request, key, value, JOB_ATTEMPTS_MAX, &config->attempts_max);
}

static bool set_member(struct request *request, struct queue_config *ret, const char *key,
                       const json_t *value)
{
	struct job_queue_config *c = &ret->config;

	if (strcmp(key, "time_to_run") == 0)
		return set_duration(request, key, value, WH_NS_PER_MS, 30 * DAY_NS, &c->time_to_run_ns);
	if (strcmp(key, "retention") == 0)
		return set_retention(request, key, value, c);
	if (strcmp(key, "attempts") == 0)
		return set_attempts(request, key, value, c);
	if (strcmp(key, "jobs_max") == 0)
		return set_count(request, key, value, INT64_MAX, &c->jobs_max);
	if (strcmp(key, "finished_max") == 0)
		return set_count(request, key, value, UINT32_MAX, &c->finished_max);
	if (strcmp(key, "backoff") == 0)
		return set_backoff(request, key, value, c);
	if (strcmp(key, "backoff_max") == 0)
		return set_duration(request, key, value, WH_NS_PER_MS, 366 * DAY_NS, &c->backoff_max_ns);
	if (strcmp(key, "backoff_jitter") == 0)
		return set_jitter(request, key, value, c);
	if (strcmp(key, "dead_letter") == 0)
		return set_dead_letter(request, key, value, ret);
	if (strcmp(key, "concurrency") == 0)
		return set_small(request, key, value, UINT32_MAX, &c->concurrency);
	if (strcmp(key, "rate") == 0)
		return set_rate(request, key, value, &c->rate);
	if (strcmp(key, "rate_burst") == 0)
		return set_small(request, key, value, JOB_RATE_MAX, &c->rate.burst);
	if (strcmp(key, "group_concurrency") == 0)
		return set_small(request, key, value, UINT32_MAX, &c->group_concurrency);
	if (strcmp(key, "group_rate") == 0)
		return set_rate(request, key, value, &c->group_rate);
	if (strcmp(key, "group_rate_burst") == 0)
		return set_small(request, key, value, JOB_RATE_MAX, &c->group_rate.burst);
	answer_problem(request->api, request->x, PROBLEM_BAD_JSON, NULL,
	               "there is no member \"%.100s\"; known: time_to_run, attempts, retention, jobs_max, "
	               "finished_max, backoff, backoff_max, backoff_jitter, dead_letter, concurrency, rate, "
	               "rate_burst, group_concurrency, group_rate, group_rate_burst",
	               key);
	return false;
}

static bool burst_fits(struct request *request, const char *key, const struct job_rate *rate)
{
	if (rate->burst > 0 && rate->count == 0)
		return bad_value(request, key, "given together with a rate");
	if (rate->burst > 0 && rate->burst > INT64_C(366) * 86400000 * rate->count / rate->period_ms)
		return bad_value(request, key, "so small that the rate makes up for it within 366d");
	return true;
}

/* What two members say together. */
static bool together(struct request *request, const struct job_queue_config *c)
{
	if (c->backoffs > 0 && c->backoff_max_ns > 0)
		return bad_value(request, "backoff_max",
		                 "left out with a list of pauses, which ends with the longest");
	return burst_fits(request, "rate_burst", &c->rate) &&
	       burst_fits(request, "group_rate_burst", &c->group_rate);
}

bool queue_config_read(struct request *request, struct queue_config *ret)
{
	struct wh_slice body = request_body(request);
	json_error_t error;
	json_t *root = json_loadb(body.data ? body.data : "", body.len, JSON_REJECT_DUPLICATES, &error),
	       *value;
	char members[64];
	const char *key;
	bool good = json_is_object(root);

	*ret = (struct queue_config){.dead_letter_len = 0};
	if (!root) {
		snprintf(members, sizeof(members), ",\"line\":%d,\"column\":%d", error.line, error.column);
		answer_problem(request->api, request->x, PROBLEM_BAD_JSON, members, "line %d, column %d: %s",
		               error.line, error.column, json_words(&error));
		return false;
	}
	if (!good)
		bad_json(request, "the body", "an object");
	json_object_foreach(root, key, value)
	{
		good = good && set_member(request, ret, key, value);
	}
	json_decref(root);
	return good && together(request, &ret->config);
}

/* ---- writing ----------------------------------------------------------------------------- */

static void put_duration(struct wh__text *text, const char *before, int64_t ns)
{
	char duration[WH__DURATION_TEXT_BYTES];

	wh__text_format(text, "%s\"%.*s\"", before, (int)wh__put_duration(duration, ns), duration);
}

static void put_count(struct wh__text *text, const char *name, uint64_t number)
{
	wh__text_format(text, ",\"%s\":", name);
	if (number > 0)
		wh__text_u64(text, number);
	else
		wh__text_str(text, "null");
}

static void put_backoff(struct wh__text *text, const struct job_queue_config *c)
{
	if (c->backoffs == 0)
		put_duration(text, ",\"backoff\":", c->backoff_ns);
	else
		wh__text_str(text, ",\"backoff\":[");
	for (uint32_t i = 0; i < c->backoffs; i++)
		put_duration(text, i ? "," : "", c->backoff_list_ms[i] * WH_NS_PER_MS);
	if (c->backoffs > 0)
		wh__text_str(text, "],\"backoff_max\":null");
	else
		put_duration(text, ",\"backoff_max\":",
		             c->backoff_max_ns > c->backoff_ns ? c->backoff_max_ns : c->backoff_ns);
	wh__text_format(text, ",\"backoff_jitter\":%u",
	                c->backoff_jitter == JOB_NO_JITTER ? 0 : c->backoff_jitter);
}

static void put_rate(struct wh__text *text, const char *name, const struct job_rate *rate)
{
	static const struct {
		uint32_t ms;
		const char *unit;
	} units[] = {{1000, "s"}, {60000, "m"}, {3600000, "h"}, {86400000, "d"}};
	char duration[WH__DURATION_TEXT_BYTES];

	if (rate->count == 0) {
		wh__text_format(text, ",\"%s\":null,\"%s_burst\":null", name, name);
		return;
	}
	wh__text_format(text, ",\"%s\":\"%u/", name, rate->count);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (units[i].ms == rate->period_ms) {
			wh__text_str(text, units[i].unit);
			break;
		}
		if (i + 1 == sizeof(units) / sizeof(units[0]))
			wh__text_put(text, duration,
			             wh__put_duration(duration, rate->period_ms * WH_NS_PER_MS));
	}
	wh__text_format(text, "\",\"%s_burst\":%u", name, rate->burst ? rate->burst : rate->count);
}

void queue_config_put(struct wh__text *text, const struct store_queue_view *queue, struct wh_slice namespace)
{
	const struct job_queue_config *c = &queue->config;
	struct wh_slice dead_letter = namespace_show(namespace, answer_slice(queue->dead_letter));

	put_duration(text, ",\"time_to_run\":", c->time_to_run_ns);
	wh__text_format(text, ",\"attempts\":%u", c->attempts_max);
	put_duration(text, ",\"retention\":", c->retention_ns > 0 ? c->retention_ns : 0);
	put_count(text, "jobs_max", c->jobs_max);
	put_count(text, "finished_max", c->finished_max);
	put_backoff(text, c);
	wh__text_str(text, ",\"dead_letter\":");
	if (dead_letter.len > 0)
		wh__text_json(text, dead_letter.data, dead_letter.len);
	else
		wh__text_str(text, "null");
	put_count(text, "concurrency", c->concurrency);
	put_rate(text, "rate", &c->rate);
	wh__text_format(text, ",\"group_concurrency\":%u", c->group_concurrency ? c->group_concurrency : 1);
	put_rate(text, "group_rate", &c->group_rate);
}
