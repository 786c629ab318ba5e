/* src/job/record.c -- records to bytes and back, docs/format-records.md. See record.h. */
#include "job/record.h"

#include <errno.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they are in memory");

enum {
	IDS_BYTES = 16,
	QUEUE_BYTES = 72,
	QUEUE_GONE_BYTES = 8,
	SUBMIT_BYTES = 40,
	CLAIM_BYTES = 32,
	EXTEND_BYTES = 16,
	RELEASE_BYTES = 24,
	RETRY_BYTES = 40,
	FINISH_BYTES = 72,
	ID_BYTES = 8,
	BURY_BYTES = 32,
	REMOVE_BYTES = 8,
	SETTING_BYTES = 8,
};

enum { OPTION_RUN_AT = 1, OPTION_TIME_TO_RUN, OPTION_RETENTION, OPTION_ATTEMPTS_MAX, OPTION_IGNORABLE = 128 };

static const struct {
	const char *name;
	size_t fixed;
} kinds[JOB_RECORD_TYPES_END] = {
	[JOB_IDS] = {"ids", IDS_BYTES},
	[JOB_QUEUE] = {"queue", QUEUE_BYTES},
	[JOB_QUEUE_GONE] = {"queue-gone", QUEUE_GONE_BYTES},
	[JOB_SUBMIT] = {"submit", SUBMIT_BYTES},
	[JOB_CLAIM] = {"claim", CLAIM_BYTES},
	[JOB_EXTEND] = {"extend", EXTEND_BYTES},
	[JOB_RELEASE] = {"release", RELEASE_BYTES},
	[JOB_RETRY] = {"retry", RETRY_BYTES},
	[JOB_FINISH] = {"finish", FINISH_BYTES},
	[JOB_CANCEL] = {"cancel", ID_BYTES},
	[JOB_PROGRESS] = {"progress", ID_BYTES},
	[JOB_BURY] = {"bury", BURY_BYTES},
	[JOB_KICK] = {"kick", ID_BYTES},
	[JOB_REMOVE] = {"remove", REMOVE_BYTES},
	[JOB_SETTING] = {"setting", SETTING_BYTES},
	[JOB_PART] = {"part", 0},
	[JOB_RETURN] = {"return", ID_BYTES},
};

const char *job_record_name(int type)
{
	return type >= JOB_IDS && type < JOB_RECORD_TYPES_END ? kinds[type].name : "unknown";
}

static inline void put16(uint8_t *to, size_t value)
{
	uint16_t v = (uint16_t)value;
	memcpy(to, &v, sizeof(v));
}

static inline void put32(uint8_t *to, size_t value)
{
	uint32_t v = (uint32_t)value;
	memcpy(to, &v, sizeof(v));
}

static inline void put64(uint8_t *to, uint64_t value)
{
	memcpy(to, &value, sizeof(value));
}

static inline void put_i64(uint8_t *to, int64_t value)
{
	memcpy(to, &value, sizeof(value));
}

static inline uint16_t get16(const uint8_t *from)
{
	uint16_t v;
	memcpy(&v, from, sizeof(v));
	return v;
}

static inline uint32_t get32(const uint8_t *from)
{
	uint32_t v;
	memcpy(&v, from, sizeof(v));
	return v;
}

static inline uint64_t get64(const uint8_t *from)
{
	uint64_t v;
	memcpy(&v, from, sizeof(v));
	return v;
}

static inline int64_t get_i64(const uint8_t *from)
{
	int64_t v;
	memcpy(&v, from, sizeof(v));
	return v;
}

static size_t options_size(const struct job_record *r)
{
	return (r->when_ms != 0 ? 10u : 0u) + (r->time_to_run_ms != 0 ? 10u : 0u) +
	       (r->retention_ms != 0 ? 10u : 0u) + (r->attempts_max != 0 ? 6u : 0u);
}

static uint8_t *put_option(uint8_t *to, uint8_t tag, int64_t value)
{
	if (value == 0)
		return to;
	to[0] = tag;
	to[1] = 8;
	put_i64(to + 2, value);
	return to + 10;
}

static size_t put_submit(const struct job_record *r, uint8_t *to)
{
	put64(to, r->id);
	put32(to + 8, r->queue);
	put32(to + 12, r->priority);
	put_i64(to + 16, r->at_ns);
	put32(to + 24, r->body.len);
	put16(to + 28, r->headers.len);
	put16(to + 30, options_size(r));
	to[32] = (uint8_t)r->content_type.len;
	to[33] = r->flags;
	memset(to + 34, 0, 6);
	to = put_option(to + SUBMIT_BYTES, OPTION_RUN_AT, r->when_ms);
	to = put_option(to, OPTION_TIME_TO_RUN, r->time_to_run_ms);
	to = put_option(to, OPTION_RETENTION, r->retention_ms);
	if (r->attempts_max != 0) {
		to[0] = OPTION_ATTEMPTS_MAX;
		to[1] = 4;
		put32(to + 2, r->attempts_max);
	}
	return SUBMIT_BYTES + options_size(r);
}

static void put_finish(const struct job_record *r, uint8_t *to)
{
	put64(to, r->id);
	put_i64(to + 8, r->at_ns);
	put_i64(to + 16, r->when_ms);
	put64(to + 24, r->submit_place);
	put64(to + 32, r->error_place);
	put32(to + 40, r->body.len);
	put16(to + 44, r->headers.len);
	put16(to + 46, r->text.len);
	to[48] = (uint8_t)r->content_type.len;
	to[49] = r->state;
	to[50] = r->flags;
	to[51] = r->reason;
	put32(to + 52, r->status);
	put32(to + 56, r->attempt);
	put32(to + 60, r->timeouts);
	put64(to + 64, 0);
}

static void put_queue(const struct job_record *r, uint8_t *to)
{
	put32(to, r->queue);
	put32(to + 4, r->flags);
	put_i64(to + 8, r->at_ns);
	put_i64(to + 16, r->config.time_to_run_ns);
	put_i64(to + 24, r->config.retention_ns);
	put_i64(to + 32, r->config.backoff_ns);
	put_i64(to + 40, r->config.backoff_max_ns);
	put64(to + 48, r->config.jobs_max);
	put32(to + 56, r->config.backoff_jitter);
	put32(to + 60, r->config.attempts_max);
	put32(to + 64, r->body.len);
	put32(to + 68, 0);
}

static void put_retry(const struct job_record *r, uint8_t *to)
{
	put64(to, r->id);
	put_i64(to + 8, r->at_ns);
	put_i64(to + 16, r->when_ms);
	put64(to + 24, r->error_place);
	put16(to + 32, r->attempt);
	put16(to + 34, r->text.len);
	to[36] = r->reason;
	memset(to + 37, 0, 3);
}

static void put_bury(const struct job_record *r, uint8_t *to)
{
	put64(to, r->id);
	put_i64(to + 8, r->at_ns);
	put64(to + 16, r->error_place);
	put32(to + 24, r->priority);
	put16(to + 28, r->text.len);
	put16(to + 30, r->attempt);
}

size_t job_record_fixed(const struct job_record *r, uint8_t to[JOB_RECORD_FIXED_MAX])
{
	switch (r->type) {
	case JOB_IDS:
		put64(to, r->id);
		put64(to + 8, r->claim);
		break;
	case JOB_QUEUE:
		put_queue(r, to);
		break;
	case JOB_QUEUE_GONE:
		put32(to, r->queue);
		put32(to + 4, 0);
		break;
	case JOB_SUBMIT:
		return put_submit(r, to);
	case JOB_CLAIM:
		put64(to, r->id);
		put64(to + 8, r->claim);
		put_i64(to + 16, r->when_ms);
		put32(to + 24, r->epoch);
		put16(to + 28, r->attempt);
		put16(to + 30, r->flags);
		break;
	case JOB_EXTEND:
		put64(to, r->id);
		put_i64(to + 8, r->when_ms);
		break;
	case JOB_RELEASE:
		put64(to, r->id);
		put_i64(to + 8, r->when_ms);
		put32(to + 16, r->priority);
		put32(to + 20, r->delay_s);
		break;
	case JOB_RETRY:
		put_retry(r, to);
		break;
	case JOB_FINISH:
		put_finish(r, to);
		break;
	case JOB_CANCEL:
	case JOB_KICK:
	case JOB_RETURN:
	case JOB_PROGRESS:
		put64(to, r->id);
		break;
	case JOB_BURY:
		put_bury(r, to);
		break;
	case JOB_REMOVE:
		put32(to, r->reason);
		put32(to + 4, 0);
		break;
	case JOB_SETTING:
		put16(to, r->text.len);
		put16(to + 2, r->flags);
		put32(to + 4, r->body.len);
		break;
	}
	return kinds[r->type].fixed;
}

int job_record_rest(const struct job_record *r, struct job_slice ret[JOB_RECORD_SLICES_MAX])
{
	const struct job_slice *order[JOB_RECORD_SLICES_MAX] = {&r->content_type, &r->headers, &r->body,
	                                                        &r->text};
	int count = 0;

	if (r->type == JOB_SETTING) {
		order[0] = &r->text;
		order[3] = &r->content_type;
	}
	for (int i = 0; i < JOB_RECORD_SLICES_MAX; i++)
		if (order[i]->len > 0)
			ret[count++] = *order[i];
	return count;
}

/* ---- reading ----------------------------------------------------------------------------- */

struct rest {
	const uint8_t *at;
	size_t len;
	bool bad;
};

static struct job_slice take(struct rest *rest, size_t len)
{
	struct job_slice slice = {rest->at, len};

	if (rest->len < len) {
		rest->bad = true;
		return (struct job_slice){0};
	}
	rest->at += len;
	rest->len -= len;
	return slice;
}

static bool zeros(const uint8_t *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (at[i] != 0)
			return false;
	return true;
}

static bool get_options(const uint8_t *at, size_t len, struct job_record *r)
{
	const uint8_t *end = at + len;

	while (at < end) {
		if (end - at < 2 || end - at - 2 < at[1])
			return false;
		if (at[0] <= OPTION_RETENTION && at[0] > 0 && at[1] == 8) {
			int64_t value = get_i64(at + 2);
			if (at[0] == OPTION_RUN_AT)
				r->when_ms = value;
			else if (at[0] == OPTION_TIME_TO_RUN)
				r->time_to_run_ms = value;
			else
				r->retention_ms = value;
		} else if (at[0] == OPTION_ATTEMPTS_MAX && at[1] == 4) {
			r->attempts_max = get32(at + 2);
		} else if (at[0] < OPTION_IGNORABLE) {
			return false;
		}
		at += 2 + at[1];
	}
	return true;
}

uint64_t job_body_bytes(const struct job_record *r)
{
	return r->flags & JOB_BODY_IN_PARTS ? get64(r->body.data) : r->body.len;
}

static bool good_body(const struct job_record *r)
{
	return (r->flags & JOB_BODY_IN_PARTS) == 0 || (r->body.len % 8 == 0 && r->body.len >= 16);
}

static bool get_submit(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	r->id = get64(b);
	r->queue = get32(b + 8);
	r->priority = get32(b + 12);
	r->at_ns = get_i64(b + 16);
	r->flags = b[33];
	r->content_type = take(rest, b[32]);
	r->headers = take(rest, get16(b + 28));
	r->body = take(rest, get32(b + 24));
	return (r->flags & ~(JOB_BODY_IN_PARTS | JOB_SUBMIT_BURIED)) == 0 && good_body(r) &&
	       zeros(b + 34, 6) && get_options(b + SUBMIT_BYTES, get16(b + 30), r) &&
	       (r->attempts_max <= JOB_ATTEMPTS_MAX || r->attempts_max == JOB_ATTEMPTS_UNLIMITED) &&
	       r->time_to_run_ms >= 0 && r->time_to_run_ms <= JOB_TIME_TO_RUN_MAX_MS;
}

static bool get_finish(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	r->id = get64(b);
	r->at_ns = get_i64(b + 8);
	r->when_ms = get_i64(b + 16);
	r->submit_place = get64(b + 24);
	r->error_place = get64(b + 32);
	r->state = b[49];
	r->flags = b[50];
	r->reason = b[51];
	r->status = get32(b + 52);
	r->attempt = get32(b + 56);
	r->timeouts = get32(b + 60);
	r->content_type = take(rest, b[48]);
	r->headers = take(rest, get16(b + 44));
	r->body = take(rest, get32(b + 40));
	r->text = take(rest, get16(b + 46));
	return job_state_finished(r->state) && (r->flags & ~JOB_BODY_IN_PARTS) == 0 && good_body(r) &&
	       zeros(b + 64, 8);
}

static bool get_queue(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	r->queue = get32(b);
	r->flags = b[4];
	r->at_ns = get_i64(b + 8);
	r->config.time_to_run_ns = get_i64(b + 16);
	r->config.retention_ns = get_i64(b + 24);
	r->config.backoff_ns = get_i64(b + 32);
	r->config.backoff_max_ns = get_i64(b + 40);
	r->config.jobs_max = get64(b + 48);
	r->config.backoff_jitter = get32(b + 56);
	r->config.attempts_max = get32(b + 60);
	r->body = take(rest, get32(b + 64));
	return (r->flags & ~(JOB_QUEUE_PAUSED | JOB_QUEUE_IMPLICIT)) == 0 && zeros(b + 5, 3) &&
	       zeros(b + 68, 4) && r->body.len > 0 && r->body.len <= JOB_NAME_MAX && r->queue > 0 &&
	       r->queue < (1u << 24);
}

static bool get_retry(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	r->id = get64(b);
	r->at_ns = get_i64(b + 8);
	r->when_ms = get_i64(b + 16);
	r->error_place = get64(b + 24);
	r->attempt = get16(b + 32);
	r->reason = b[36];
	r->text = take(rest, get16(b + 34));
	return zeros(b + 37, 3);
}

static bool get_bury(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	r->id = get64(b);
	r->at_ns = get_i64(b + 8);
	r->error_place = get64(b + 16);
	r->priority = get32(b + 24);
	r->attempt = get16(b + 30);
	r->text = take(rest, get16(b + 28));
	return true;
}

static bool get_setting(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	r->flags = b[2];
	r->text = take(rest, get16(b));
	r->body = take(rest, get32(b + 4));
	return (r->flags & ~JOB_SETTING_REMOVED) == 0 && b[3] == 0 && r->text.len > 0;
}

static bool get_small(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	r->id = get64(b);
	switch (r->type) {
	case JOB_IDS:
		r->claim = get64(b + 8);
		return r->claim >= r->id && r->claim <= JOB_ID_MAX + 1;
	case JOB_QUEUE_GONE:
		r->id = 0;
		r->queue = get32(b);
		return zeros(b + 4, 4);
	case JOB_CLAIM:
		r->claim = get64(b + 8);
		r->when_ms = get_i64(b + 16);
		r->epoch = get32(b + 24);
		r->attempt = get16(b + 28);
		r->flags = b[30];
		return (r->flags & ~JOB_CLAIM_BOUND) == 0 && b[31] == 0;
	case JOB_EXTEND:
		r->when_ms = get_i64(b + 8);
		return true;
	case JOB_RELEASE:
		r->when_ms = get_i64(b + 8);
		r->priority = get32(b + 16);
		r->delay_s = get32(b + 20);
		return true;
	case JOB_PROGRESS:
		r->body = take(rest, rest->len);
		return r->body.len <= JOB_PROGRESS_MAX;
	case JOB_REMOVE:
		r->id = 0;
		r->reason = b[0];
		r->body = take(rest, rest->len);
		return r->body.len % 8 == 0 && zeros(b + 1, 7);
	default:
		return true;
	}
}

static bool get_any(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	switch (r->type) {
	case JOB_SUBMIT:
		return get_submit(b, rest, r);
	case JOB_FINISH:
		return get_finish(b, rest, r);
	case JOB_QUEUE:
		return get_queue(b, rest, r);
	case JOB_RETRY:
		return get_retry(b, rest, r);
	case JOB_BURY:
		return get_bury(b, rest, r);
	case JOB_SETTING:
		return get_setting(b, rest, r);
	case JOB_PART:
		r->body = take(rest, rest->len);
		return true;
	default:
		return get_small(b, rest, r);
	}
}

int job_record_get(int type, int version, struct job_slice fixed, struct job_slice bytes,
                   struct job_record *ret)
{
	struct rest rest = {bytes.data, bytes.len, false};
	size_t fixed_bytes;

	if (type < JOB_IDS || type >= JOB_RECORD_TYPES_END || version != JOB_RECORD_VERSION)
		return -EPROTO;
	fixed_bytes = kinds[type].fixed;
	if (fixed.len < fixed_bytes)
		return -EPROTO;
	if (type == JOB_SUBMIT)
		fixed_bytes += get16((const uint8_t *)fixed.data + 30);
	*ret = (struct job_record){.type = (uint8_t)type};
	if (fixed.len != fixed_bytes || !get_any(fixed.data, &rest, ret) || rest.bad || rest.len != 0 ||
	    ret->id > JOB_ID_MAX || ret->text.len > JOB_ERROR_TEXT_MAX)
		return -EPROTO;
	return 0;
}
