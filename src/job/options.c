/* src/job/options.c -- options to bytes and back, docs/format-records.md. See options.h.
 *
 * An option is tag(1) length(2) value. Written in the order of their tags, read in any; what is 0 is left out.
 */
#include "job/options.h"

#include <string.h>

#include "job/bytes.h"

/* on disk */
enum submit_option {
	SUBMIT_RUN_AT = 1,
	SUBMIT_TIME_TO_RUN,
	SUBMIT_RETENTION,
	SUBMIT_ATTEMPTS_MAX,
	SUBMIT_UNIQUE,
	SUBMIT_GROUP,
	SUBMIT_TRACE = 8,
	SUBMIT_UNIQUE_WHILE,
	SUBMIT_EXPIRES,
	SUBMIT_EVENT = 20,
	SUBMIT_AFTER = 24,
	SUBMIT_AFTER_FAILURE,
	SUBMIT_AFTER_DELAY,
};
enum queue_option {
	QUEUE_BACKOFF_LIST = 1,
	QUEUE_DEAD_LETTER,
	QUEUE_CONCURRENCY,
	QUEUE_RATE,
	QUEUE_GROUP_CONCURRENCY,
	QUEUE_GROUP_RATE
};
enum { IGNORABLE = 128, HEADER_BYTES = 3 };

/* ---- writing ----------------------------------------------------------------------------- */

struct out {
	uint8_t *at; /* NULL: only counting */
	size_t len;
};

static uint8_t *begin(struct out *out, int tag, size_t len)
{
	uint8_t *to = out->at ? out->at + out->len : NULL;

	out->len += HEADER_BYTES + len;
	if (!to)
		return NULL;
	to[0] = (uint8_t)tag;
	put16(to + 1, len);
	return to + HEADER_BYTES;
}

static void put_number(struct out *out, int tag, int64_t value)
{
	uint8_t *to = value != 0 ? begin(out, tag, 8) : NULL;

	if (to)
		put_i64(to, value);
}

static void put_small(struct out *out, int tag, uint32_t value)
{
	uint8_t *to = value != 0 ? begin(out, tag, 4) : NULL;

	if (to)
		put32(to, value);
}

static void put_text(struct out *out, int tag, struct job_slice text)
{
	uint8_t *to = text.len > 0 ? begin(out, tag, text.len) : NULL;

	if (to)
		memcpy(to, text.data, text.len);
}

static void put_event(struct out *out, const struct job_record *r)
{
	uint8_t *to = r->event_epoch != 0 ? begin(out, SUBMIT_EVENT, 12) : NULL;

	if (!to)
		return;
	put64(to, r->event_lsn);
	put32(to + 8, r->event_epoch);
}

/* Most have none, and are asked several times. */
static bool has_none(const struct job_record *r)
{
	uint64_t numbers = (uint64_t)(r->when_ms | r->time_to_run_ms | r->retention_ms | r->unique_while_ms |
	                              r->expires_ms | r->after_delay_ms);
	uint32_t small =
		r->attempts_max | r->event_epoch | (uint32_t)r->after_count | (uint32_t)r->after_failure;

	return (numbers | small | r->unique.len | r->group.len | r->trace.len) == 0;
}

static void put_submit(struct out *out, const struct job_record *r)
{
	if (has_none(r))
		return;
	put_number(out, SUBMIT_RUN_AT, r->when_ms);
	put_number(out, SUBMIT_TIME_TO_RUN, r->time_to_run_ms);
	put_number(out, SUBMIT_RETENTION, r->retention_ms);
	put_small(out, SUBMIT_ATTEMPTS_MAX, r->attempts_max);
	put_text(out, SUBMIT_UNIQUE, r->unique);
	put_text(out, SUBMIT_GROUP, r->group);
	put_text(out, SUBMIT_TRACE, r->trace);
	put_number(out, SUBMIT_UNIQUE_WHILE, r->unique_while_ms);
	put_number(out, SUBMIT_EXPIRES, r->expires_ms);
	put_event(out, r);
	put_small(out, SUBMIT_AFTER, r->after_count);
	put_small(out, SUBMIT_AFTER_FAILURE, r->after_failure);
	put_number(out, SUBMIT_AFTER_DELAY, r->after_delay_ms);
}

static void put_rate(struct out *out, int tag, const struct job_rate *rate)
{
	uint8_t *to = rate->count > 0 ? begin(out, tag, 12) : NULL;

	if (!to)
		return;
	put32(to, rate->count);
	put32(to + 4, rate->period_ms);
	put32(to + 8, rate->burst);
}

static void put_queue(struct out *out, const struct job_queue_config *c)
{
	uint8_t *to = c->backoffs > 0 ? begin(out, QUEUE_BACKOFF_LIST, 4 * (size_t)c->backoffs) : NULL;

	for (uint32_t i = 0; to && i < c->backoffs; i++)
		put32(to + 4 * (size_t)i, c->backoff_list_ms[i]);
	put_small(out, QUEUE_DEAD_LETTER, c->dead_letter);
	put_small(out, QUEUE_CONCURRENCY, c->concurrency);
	put_rate(out, QUEUE_RATE, &c->rate);
	put_small(out, QUEUE_GROUP_CONCURRENCY, c->group_concurrency);
	put_rate(out, QUEUE_GROUP_RATE, &c->group_rate);
}

size_t job_options_put(const struct job_record *r, uint8_t *to)
{
	struct out out = {to, 0};

	if (r->type == JOB_SUBMIT || r->type == JOB_REVIVE)
		put_submit(&out, r);
	else if (r->type == JOB_QUEUE || r->type == JOB_QUEUE_STATE)
		put_queue(&out, &r->config);
	return out.len;
}

size_t job_options_bytes(const struct job_record *r)
{
	return job_options_put(r, NULL);
}

/* ---- reading ----------------------------------------------------------------------------- */

static bool get_number(const uint8_t *value, size_t len, int64_t *ret)
{
	if (len != 8)
		return false;
	*ret = get_i64(value);
	return true;
}

static bool get_small(const uint8_t *value, size_t len, uint32_t *ret)
{
	if (len != 4)
		return false;
	*ret = get32(value);
	return true;
}

static bool get_key(const uint8_t *value, size_t len, struct job_slice *ret)
{
	*ret = (struct job_slice){value, len};
	return len > 0 && len <= JOB_KEY_MAX;
}

static bool get_event(const uint8_t *value, size_t len, struct job_record *r)
{
	if (len != 12)
		return false;
	r->event_lsn = get64(value);
	r->event_epoch = get32(value + 8);
	return r->event_epoch != 0;
}

static bool get_submit(int tag, const uint8_t *value, size_t len, struct job_record *r)
{
	switch (tag) {
	case SUBMIT_RUN_AT:
		return get_number(value, len, &r->when_ms);
	case SUBMIT_TIME_TO_RUN:
		return get_number(value, len, &r->time_to_run_ms);
	case SUBMIT_RETENTION:
		return get_number(value, len, &r->retention_ms);
	case SUBMIT_ATTEMPTS_MAX:
		return get_small(value, len, &r->attempts_max);
	case SUBMIT_UNIQUE:
		return get_key(value, len, &r->unique);
	case SUBMIT_GROUP:
		return get_key(value, len, &r->group);
	case SUBMIT_TRACE:
		r->trace = (struct job_slice){value, len};
		return len > 0 && len <= JOB_TRACE_MAX;
	case SUBMIT_UNIQUE_WHILE:
		return get_number(value, len, &r->unique_while_ms);
	case SUBMIT_EXPIRES:
		return get_number(value, len, &r->expires_ms);
	case SUBMIT_EVENT:
		return get_event(value, len, r);
	case SUBMIT_AFTER:
		return get_small(value, len, &r->after_count);
	case SUBMIT_AFTER_FAILURE:
		return get_small(value, len, &r->after_failure);
	case SUBMIT_AFTER_DELAY:
		return get_number(value, len, &r->after_delay_ms);
	default:
		return tag >= IGNORABLE;
	}
}

static bool get_backoffs(const uint8_t *value, size_t len, struct job_queue_config *c)
{
	if (len == 0 || len % 4 != 0 || len / 4 > JOB_BACKOFFS_MAX)
		return false;
	c->backoffs = (uint32_t)(len / 4);
	for (uint32_t i = 0; i < c->backoffs; i++)
		c->backoff_list_ms[i] = get32(value + 4 * (size_t)i);
	return true;
}

static bool get_rate(const uint8_t *value, size_t len, struct job_rate *ret)
{
	if (len != 12)
		return false;
	*ret = (struct job_rate){get32(value), get32(value + 4), get32(value + 8)};
	return ret->count > 0 && ret->period_ms > 0;
}

static bool get_queue(int tag, const uint8_t *value, size_t len, struct job_queue_config *c)
{
	switch (tag) {
	case QUEUE_BACKOFF_LIST:
		return get_backoffs(value, len, c);
	case QUEUE_DEAD_LETTER:
		return get_small(value, len, &c->dead_letter);
	case QUEUE_CONCURRENCY:
		return get_small(value, len, &c->concurrency);
	case QUEUE_RATE:
		return get_rate(value, len, &c->rate);
	case QUEUE_GROUP_CONCURRENCY:
		return get_small(value, len, &c->group_concurrency);
	case QUEUE_GROUP_RATE:
		return get_rate(value, len, &c->group_rate);
	default:
		return tag >= IGNORABLE;
	}
}

bool job_options_get(const uint8_t *at, size_t len, struct job_record *r)
{
	size_t value;

	if (len > JOB_OPTIONS_MAX)
		return false;
	for (; len > 0; at += HEADER_BYTES + value, len -= HEADER_BYTES + value) {
		bool good;

		if (len < HEADER_BYTES || len - HEADER_BYTES < get16(at + 1))
			return false;
		value = get16(at + 1);
		good = r->type == JOB_SUBMIT || r->type == JOB_REVIVE
		               ? get_submit(at[0], at + HEADER_BYTES, value, r)
		               : get_queue(at[0], at + HEADER_BYTES, value, &r->config);
		if (!good)
			return false;
	}
	return true;
}
