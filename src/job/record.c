/* src/job/record.c -- records to bytes and back, docs/format-records.md. See record.h. */
#include "job/record.h"

#include <errno.h>

#include "job/bytes.h"
#include "job/options.h"

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
	DEAD_BYTES = 40,
	RATE_BYTES = 16,
	GROUP_RATE_BYTES = 16,
	GROUP_HASH_BYTES = 16,
	EDIT_BYTES = 56,
	REVIVE_BYTES = 48,
	AFTER_BYTES = 16,
	REMOVE_BYTES = 8,
	SETTING_BYTES = 8,
	WHOLE_BYTES = 16,
	ENTRIES_BYTES = 8,
	COUNTERS_BYTES = 8,
	KEYS_BYTES = 8,
};

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
	[JOB_BLOBS] = {"blobs", 0},
	[JOB_RETURN] = {"return", ID_BYTES},
	[JOB_WHOLE] = {"whole", WHOLE_BYTES},
	[JOB_ENTRIES] = {"entries", ENTRIES_BYTES},
	[JOB_ENTRIES_EXT] = {"entries-ext", ENTRIES_BYTES},
	[JOB_COUNTERS] = {"counters", COUNTERS_BYTES},
	[JOB_QUEUE_STATE] = {"queue-state", QUEUE_BYTES},
	[JOB_DEAD] = {"dead", DEAD_BYTES},
	[JOB_ENTRIES_POLICY] = {"entries-policy", ENTRIES_BYTES},
	[JOB_UNIQUES] = {"uniques", ENTRIES_BYTES},
	[JOB_RATE] = {"rate", RATE_BYTES},
	[JOB_KEY] = {"key", JOB_KEY_BYTES},
	[JOB_KEYS] = {"keys", KEYS_BYTES},
	[JOB_EDIT] = {"edit", EDIT_BYTES},
	[JOB_AFTER] = {"after", AFTER_BYTES},
	[JOB_REVIVE] = {"revive", REVIVE_BYTES},
	[JOB_JOINS] = {"joins", ENTRIES_BYTES},
	[JOB_GROUP_RATE] = {"group-rate", GROUP_RATE_BYTES},
	[JOB_BUCKETS] = {"buckets", ENTRIES_BYTES},
};

const char *job_record_name(int type)
{
	return type >= JOB_IDS && type < JOB_RECORD_TYPES_END && kinds[type].name ? kinds[type].name
	                                                                          : "unknown";
}

static size_t put_submit(const struct job_record *r, uint8_t *to)
{
	put64(to, r->id);
	put32(to + 8, r->queue);
	put32(to + 12, r->priority);
	put_i64(to + 16, r->at_ns);
	put32(to + 24, r->body.len);
	put16(to + 28, r->headers.len);
	put16(to + 30, job_options_put(r, to + SUBMIT_BYTES));
	to[32] = (uint8_t)r->content_type.len;
	to[33] = r->flags;
	memset(to + 34, 0, 6);
	return SUBMIT_BYTES + get16(to + 30);
}

/* A finished job's own values, when they are not those of its SUBMIT. */
enum { OWN_EDITED = 1, OWN_SECONDS = 2, OWN_RETENTION = 4 };

static void put_own(const struct job_record *r, uint8_t *to)
{
	bool seconds = r->time_to_run_ms > UINT32_MAX;
	uint32_t attempts = r->attempts_max == JOB_ATTEMPTS_UNLIMITED ? UINT16_MAX : r->attempts_max;

	put64(to, 0);
	if (!r->edited)
		return;
	put32(to, (uint64_t)(seconds ? (r->time_to_run_ms + 999) / 1000 : r->time_to_run_ms));
	put16(to + 4, attempts);
	put16(to + 6, OWN_EDITED | (seconds ? OWN_SECONDS : 0) | (r->retention_ms != 0 ? OWN_RETENTION : 0));
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
	put_own(r, to + 64);
}

static size_t put_queue(const struct job_record *r, uint8_t *to)
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
	put16(to + 64, r->body.len);
	put16(to + 66, job_options_put(r, to + QUEUE_BYTES));
	put32(to + 68, r->config.finished_max);
	return QUEUE_BYTES + get16(to + 66);
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

static void put_dead(const struct job_record *r, uint8_t *to)
{
	put64(to, r->id);
	put_i64(to + 8, r->at_ns);
	put64(to + 16, r->error_place);
	put32(to + 24, r->queue);
	put16(to + 28, r->text.len);
	put16(to + 30, r->attempt);
	to[32] = r->reason;
	memset(to + 33, 0, 7);
}

static void put_edit(const struct job_record *r, uint8_t *to)
{
	put64(to, r->id);
	put32(to + 8, r->flags);
	put32(to + 12, r->priority);
	put_i64(to + 16, r->when_ms);
	put_i64(to + 24, r->time_to_run_ms);
	put_i64(to + 32, r->retention_ms);
	put_i64(to + 40, r->expires_ms);
	put32(to + 48, r->attempts_max);
	put32(to + 52, r->queue);
}

static size_t put_revive(const struct job_record *r, uint8_t *to)
{
	put64(to, r->id);
	put_i64(to + 8, r->at_ns);
	put64(to + 16, r->error_place);
	put64(to + 24, r->submit_place);
	put32(to + 32, r->queue);
	put16(to + 36, r->text.len);
	put16(to + 38, r->attempt);
	put16(to + 40, job_options_put(r, to + REVIVE_BYTES));
	put16(to + 42, r->timeouts);
	to[44] = r->reason;
	memset(to + 45, 0, 3);
	return REVIVE_BYTES + get16(to + 40);
}

/* Bytes of one of those that the record has many of; 0: it has not. */
static size_t entry_bytes(int type)
{
	switch (type) {
	case JOB_ENTRIES:
		return JOB_ENTRY_BYTES;
	case JOB_ENTRIES_EXT:
		return JOB_ENTRY_EXT_BYTES;
	case JOB_ENTRIES_POLICY:
		return JOB_ENTRY_POLICY_BYTES;
	case JOB_UNIQUES:
		return JOB_UNIQUE_BYTES;
	case JOB_JOINS:
		return JOB_JOIN_BYTES;
	case JOB_BUCKETS:
		return JOB_BUCKET_BYTES;
	default:
		return 0;
	}
}

size_t job_record_fixed(const struct job_record *r, uint8_t to[JOB_RECORD_FIXED_MAX])
{
	switch (r->type) {
	case JOB_IDS:
		put64(to, r->id);
		put64(to + 8, r->claim);
		break;
	case JOB_QUEUE:
	case JOB_QUEUE_STATE:
		return put_queue(r, to);
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
		put16(to, r->reason);
		put48(to + 2, r->at_ns > 0 ? (uint64_t)r->at_ns / 1000000 : 0);
		break;
	case JOB_SETTING:
		put16(to, r->text.len);
		put16(to + 2, r->flags);
		put32(to + 4, r->body.len);
		break;
	case JOB_KEY:
		put_i64(to, r->at_ns);
		put32(to + 8, r->epoch);
		put16(to + 12, r->text.len);
		put16(to + 14, r->flags);
		put32(to + 16, r->claim);
		put32(to + 20, r->body.len / JOB_KEY_RUN_BYTES);
		break;
	case JOB_KEYS:
		put32(to, r->claim);
		put32(to + 4, 0);
		break;
	case JOB_WHOLE:
		put64(to, r->id);
		put32(to + 8, r->flags);
		put32(to + 12, 0);
		break;
	case JOB_DEAD:
		put_dead(r, to);
		break;
	case JOB_EDIT:
		put_edit(r, to);
		break;
	case JOB_REVIVE:
		return put_revive(r, to);
	case JOB_AFTER:
		put64(to, r->id);
		put_i64(to + 8, r->at_ns);
		break;
	case JOB_RATE:
	case JOB_GROUP_RATE:
		put32(to, r->queue);
		put32(to + 4, r->type == JOB_GROUP_RATE ? r->flags : 0);
		put_i64(to + 8, r->at_ns);
		break;
	case JOB_ENTRIES:
	case JOB_ENTRIES_EXT:
	case JOB_ENTRIES_POLICY:
	case JOB_UNIQUES:
	case JOB_JOINS:
	case JOB_BUCKETS:
		put32(to, r->body.len / entry_bytes(r->type));
		put32(to + 4, 0);
		break;
	case JOB_COUNTERS:
		put32(to, (r->body.len - JOB_COUNTERS_END * sizeof(uint64_t)) / 16);
		put32(to + 4, 0);
		break;
	}
	return kinds[r->type].fixed;
}

int job_record_rest(const struct job_record *r, struct job_slice ret[JOB_RECORD_SLICES_MAX])
{
	const struct job_slice *order[JOB_RECORD_SLICES_MAX] = {&r->content_type, &r->headers, &r->body,
	                                                        &r->text};
	int count = 0;

	if (r->type == JOB_SETTING || r->type == JOB_KEY) {
		order[0] = &r->text;
		order[3] = &r->content_type;
	}
	for (int i = 0; i < JOB_RECORD_SLICES_MAX; i++)
		if (order[i]->len > 0)
			ret[count++] = *order[i];
	return count;
}

uint64_t job_record_bytes(const struct job_record *r)
{
	return JOB_LOG_HEADER_BYTES + kinds[r->type].fixed + job_options_put(r, NULL) + r->content_type.len +
	       r->headers.len + r->body.len + r->text.len;
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

void job_blob_put(const struct job_blob *blob, uint8_t to[JOB_BLOB_BYTES])
{
	put64(to, blob->number);
	put64(to + 8, blob->bytes);
	memcpy(to + 16, blob->hash, sizeof(blob->hash));
}

struct job_blob job_blob_get(const uint8_t from[JOB_BLOB_BYTES])
{
	struct job_blob blob = {.number = get64(from), .bytes = get64(from + 8)};

	memcpy(blob.hash, from + 16, sizeof(blob.hash));
	return blob;
}

struct job_blob job_record_blob(const struct job_record *r)
{
	return r->flags & JOB_BODY_IN_BLOB ? job_blob_get(r->body.data) : (struct job_blob){0};
}

uint64_t job_body_bytes(const struct job_record *r)
{
	return r->flags & JOB_BODY_IN_BLOB ? get64((const uint8_t *)r->body.data + 8) : r->body.len;
}

static bool good_body(const struct job_record *r)
{
	return (r->flags & JOB_BODY_IN_BLOB) == 0 ||
	       (r->body.len == JOB_BLOB_BYTES && get64(r->body.data) != 0);
}

/* What it says of the jobs that it awaits. */
static bool good_after(const struct job_record *r)
{
	return r->after_count == 0
	               ? r->after_failure == 0 && r->after_delay_ms == 0
	               : r->after_count <= JOB_AFTER_MAX && r->after_delay_ms >= 0 &&
	                         r->after_failure < JOB_AFTER_FAILURES && !(r->flags & JOB_SUBMIT_BURIED);
}

/* Own values that a job may have. */
static bool good_own(const struct job_record *r)
{
	return (r->attempts_max <= JOB_ATTEMPTS_MAX || r->attempts_max == JOB_ATTEMPTS_UNLIMITED) &&
	       r->time_to_run_ms >= 0 && r->time_to_run_ms <= JOB_TIME_TO_RUN_MAX_MS && r->expires_ms >= 0;
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
	return (r->flags & ~(JOB_BODY_IN_BLOB | JOB_SUBMIT_BURIED)) == 0 && good_body(r) &&
	       zeros(b + 34, 6) && job_options_get(b + SUBMIT_BYTES, get16(b + 30), r) && good_own(r) &&
	       good_after(r) &&
	       (r->unique_while_ms == 0 || (r->unique.len > 0 && r->unique_while_ms >= JOB_UNIQUE_QUEUED));
}

static bool get_own(const uint8_t *b, struct job_record *r)
{
	unsigned own = get16(b + 6);

	if (!(own & OWN_EDITED))
		return zeros(b, 8);
	r->edited = true;
	r->time_to_run_ms = get32(b) * (own & OWN_SECONDS ? INT64_C(1000) : 1);
	r->attempts_max = get16(b + 4) == UINT16_MAX ? JOB_ATTEMPTS_UNLIMITED : get16(b + 4);
	if ((own & OWN_RETENTION) && __builtin_sub_overflow(r->when_ms, r->at_ns / 1000000, &r->retention_ms))
		return false;
	return (own & ~(unsigned)(OWN_EDITED | OWN_SECONDS | OWN_RETENTION)) == 0 && good_own(r);
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
	return job_state_finished(r->state) && (r->flags & ~JOB_BODY_IN_BLOB) == 0 && good_body(r) &&
	       get_own(b + 64, r);
}

static bool get_queue(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	bool state = r->type == JOB_QUEUE_STATE;
	int flags = JOB_QUEUE_PAUSED | JOB_QUEUE_IMPLICIT | (state ? JOB_QUEUE_GONE_FLAG : 0);

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
	r->config.finished_max = get32(b + 68);
	if (state)
		r->headers = take(rest, JOB_QUEUE_COUNTERS_END * sizeof(uint64_t));
	r->body = take(rest, get16(b + 64));
	return (r->flags & ~flags) == 0 && zeros(b + 5, 3) &&
	       job_options_get(b + QUEUE_BYTES, get16(b + 66), r) && r->body.len > 0 &&
	       r->body.len <= JOB_NAME_MAX && r->queue > 0 && r->queue < (1u << 24);
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

static bool get_dead(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	r->id = get64(b);
	r->at_ns = get_i64(b + 8);
	r->error_place = get64(b + 16);
	r->queue = get32(b + 24);
	r->attempt = get16(b + 30);
	r->reason = b[32];
	r->text = take(rest, get16(b + 28));
	return zeros(b + 33, 7);
}

/* Every value is one that it says, or 0. */
static bool get_edit(const uint8_t *b, struct job_record *r)
{
	r->id = get64(b);
	r->flags = b[8];
	r->priority = get32(b + 12);
	r->when_ms = get_i64(b + 16);
	r->time_to_run_ms = get_i64(b + 24);
	r->retention_ms = get_i64(b + 32);
	r->expires_ms = get_i64(b + 40);
	r->attempts_max = get32(b + 48);
	r->queue = get32(b + 52);
	return zeros(b + 9, 3) && r->flags != 0 && r->when_ms >= 0 && good_own(r) &&
	       (r->flags & JOB_EDIT_PRIORITY || r->priority == 0) &&
	       (r->flags & JOB_EDIT_RUN_AT || r->when_ms == 0) &&
	       (r->flags & JOB_EDIT_TIME_TO_RUN || r->time_to_run_ms == 0) &&
	       (r->flags & JOB_EDIT_RETENTION || r->retention_ms == 0) &&
	       (r->flags & JOB_EDIT_EXPIRES || r->expires_ms == 0) &&
	       (r->flags & JOB_EDIT_ATTEMPTS || r->attempts_max == 0) &&
	       !(r->flags & JOB_EDIT_QUEUE) == (r->queue == 0);
}

static bool get_revive(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	r->id = get64(b);
	r->at_ns = get_i64(b + 8);
	r->error_place = get64(b + 16);
	r->submit_place = get64(b + 24);
	r->queue = get32(b + 32);
	r->attempt = get16(b + 38);
	r->timeouts = get16(b + 42);
	r->reason = b[44];
	r->text = take(rest, get16(b + 36));
	return zeros(b + 45, 3) && job_options_get(b + REVIVE_BYTES, get16(b + 40), r) && good_own(r) &&
	       r->when_ms == 0 && r->expires_ms == 0 && r->event_epoch == 0 && r->trace.len == 0 &&
	       r->after_count == 0 &&
	       (r->unique_while_ms == 0 || (r->unique.len > 0 && r->unique_while_ms == JOB_UNIQUE_QUEUED));
}

static bool get_setting(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	r->flags = b[2];
	r->text = take(rest, get16(b));
	r->body = take(rest, get32(b + 4));
	return (r->flags & ~JOB_SETTING_REMOVED) == 0 && b[3] == 0 && r->text.len > 0;
}

/* An event has no state, and is counted from what stands beside the fingerprint. */
static bool key_run_valid(const uint8_t *run, uint8_t flags)
{
	bool event = run[21] & 2;

	return (run[21] & ~3) == 0 && zeros(run + 22, 2) &&
	       (!event || (run[20] == 0 && (flags & JOB_KEY_EVENTS)));
}

/* Every result is in one run. */
static bool get_key(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	uint32_t runs = get32(b + 20);
	uint64_t results = 0;

	r->at_ns = get_i64(b);
	r->epoch = get32(b + 8);
	r->flags = b[14];
	r->claim = get32(b + 16);
	r->text = take(rest, get16(b + 12));
	r->headers =
		take(rest, JOB_FINGERPRINT_BYTES + (r->flags & JOB_KEY_EVENTS ? JOB_KEY_EVENTS_BYTES : 0));
	if (rest->bad || rest->len / JOB_KEY_RUN_BYTES != runs)
		return false;
	r->body = take(rest, (size_t)runs * JOB_KEY_RUN_BYTES);
	for (uint32_t i = 0; i < runs; i++) {
		const uint8_t *run = (const uint8_t *)r->body.data + (size_t)i * JOB_KEY_RUN_BYTES;

		if (!key_run_valid(run, r->flags))
			return false;
		results += get32(run + 16);
	}
	return (r->flags & ~JOB_KEY_EVENTS) == 0 && b[15] == 0 && r->text.len > 0 &&
	       r->text.len <= JOB_KEY_NAME_MAX && results == r->claim && r->claim > 0 &&
	       r->claim <= JOB_ACTIONS_MAX;
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
	case JOB_RATE:
	case JOB_GROUP_RATE:
		r->id = 0;
		r->queue = get32(b);
		r->at_ns = get_i64(b + 8);
		if (r->type == JOB_RATE)
			return zeros(b + 4, 4);
		r->flags = b[4] & JOB_GROUP_RESTS;
		r->body = take(rest, rest->len);
		return b[4] == r->flags && zeros(b + 5, 3) && r->body.len == GROUP_HASH_BYTES;
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
		if (get48(b + 2) > INT64_MAX / 1000000)
			return false;
		r->at_ns = (int64_t)get48(b + 2) * 1000000;
		r->body = take(rest, rest->len);
		return r->body.len % 8 == 0 && b[1] == 0;
	case JOB_AFTER:
		r->at_ns = get_i64(b + 8);
		r->body = take(rest, rest->len);
		return r->body.len % 8 == 0 && r->body.len > 0 && r->body.len / 8 <= JOB_AFTER_MAX;
	default:
		return true;
	}
}

/* Everything up to the end, count times so many bytes after some others. */
static bool get_array(const uint8_t *b, struct rest *rest, size_t before, size_t each, struct job_record *r)
{
	r->body = take(rest, rest->len);
	return zeros(b + 4, 4) && r->body.len == before + get32(b) * each;
}

static bool get_whole(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	struct job_record part;
	unsigned seen = 0, errors = 0;
	size_t cursor = 0;

	r->id = get64(b);
	r->flags = b[8];
	r->body = take(rest, rest->len);
	if (!zeros(b + 9, 7))
		return false;
	while (job_part_get(r, &cursor, &part)) {
		unsigned bit = part.type == JOB_SUBMIT     ? JOB_WHOLE_PAYLOAD
		               : part.type == JOB_FINISH   ? JOB_WHOLE_RESULT
		               : part.type == JOB_PROGRESS ? JOB_WHOLE_PROGRESS
		                                           : JOB_WHOLE_ERRORS;

		if (part.type == JOB_QUEUE_STATE || part.type == JOB_KEY || part.id != r->id ||
		    (bit == JOB_WHOLE_ERRORS ? errors++ >= JOB_ERRORS_KEPT : seen & bit))
			return false;
		seen |= bit;
	}
	/* the result alone would lose its payload */
	return cursor == r->body.len && seen == r->flags && seen != 0 &&
	       (!(seen & JOB_WHOLE_RESULT) || (seen & JOB_WHOLE_PAYLOAD));
}

static bool get_any(const uint8_t *b, struct rest *rest, struct job_record *r)
{
	switch (r->type) {
	case JOB_WHOLE:
		return get_whole(b, rest, r);
	case JOB_ENTRIES:
	case JOB_ENTRIES_EXT:
	case JOB_ENTRIES_POLICY:
	case JOB_UNIQUES:
	case JOB_JOINS:
	case JOB_BUCKETS:
		return get_array(b, rest, 0, entry_bytes(r->type), r);
	case JOB_COUNTERS:
		return get_array(b, rest, JOB_COUNTERS_END * sizeof(uint64_t), 16, r);
	case JOB_QUEUE_STATE:
		return get_queue(b, rest, r);
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
	case JOB_DEAD:
		return get_dead(b, rest, r);
	case JOB_EDIT:
		return get_edit(b, r);
	case JOB_REVIVE:
		return get_revive(b, rest, r);
	case JOB_SETTING:
		return get_setting(b, rest, r);
	case JOB_KEY:
		return get_key(b, rest, r);
	case JOB_KEYS:
		r->claim = get32(b);
		r->body = take(rest, rest->len);
		return zeros(b + 4, 4);
	case JOB_BLOBS:
		r->body = take(rest, rest->len);
		return r->body.len % JOB_BLOBS_ENTRY_BYTES == 0;
	default:
		return get_small(b, rest, r);
	}
}

int job_record_get(int type, int version, struct job_slice fixed, struct job_slice bytes,
                   struct job_record *ret)
{
	struct rest rest = {bytes.data, bytes.len, false};
	size_t fixed_bytes;

	if (type < JOB_IDS || type >= JOB_RECORD_TYPES_END || !kinds[type].name ||
	    version != JOB_RECORD_VERSION)
		return -EPROTO;
	fixed_bytes = kinds[type].fixed;
	if (fixed.len < fixed_bytes)
		return -EPROTO;
	if (type == JOB_SUBMIT)
		fixed_bytes += get16((const uint8_t *)fixed.data + 30);
	if (type == JOB_REVIVE)
		fixed_bytes += get16((const uint8_t *)fixed.data + 40);
	if (type == JOB_QUEUE || type == JOB_QUEUE_STATE)
		fixed_bytes += get16((const uint8_t *)fixed.data + 66);
	*ret = (struct job_record){.type = (uint8_t)type};
	if (fixed.len != fixed_bytes || !get_any(fixed.data, &rest, ret) || rest.bad || rest.len != 0 ||
	    ret->id > JOB_ID_MAX || ret->text.len > JOB_ERROR_TEXT_MAX)
		return -EPROTO;
	return 0;
}
