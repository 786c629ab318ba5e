/* src/job/entry.c -- jobs as a checkpoint tells them, to bytes and back, docs/format-records.md. See record.h. */
#include "job/bytes.h"
#include "job/record.h"

enum { SIZES = 32, ATTEMPTS_MAX = 2047, QUEUE_MAX = (1 << 24) - 1 };

void job_entry_put(const struct job_entry *e, uint8_t to[JOB_ENTRY_BYTES])
{
	put64(to, e->id | (uint64_t)e->size << 56);
	put48(to + 8, e->place);
	put16(to + 14, e->changed);
	put32(to + 16, e->queue | (uint32_t)e->state << 24);
	put32(to + 20, e->priority);
	put48(to + 24, (uint64_t)e->when_ms);
	put16(to + 30, e->attempts);
	put32(to + 32, e->submit);
	put32(to + 36, e->flags);
}

bool job_entry_get(const uint8_t from[JOB_ENTRY_BYTES], struct job_entry *ret)
{
	uint64_t id = get64(from);
	uint32_t queue = get32(from + 16), flags = get32(from + 36);

	*ret = (struct job_entry){.id = id & (UINT64_MAX >> 8),
	                          .size = (uint8_t)(id >> 56),
	                          .place = get48(from + 8),
	                          .changed = get16(from + 14),
	                          .queue = queue & 0xffffff,
	                          .state = (uint8_t)(queue >> 24),
	                          .priority = get32(from + 20),
	                          .when_ms = (int64_t)get48(from + 24),
	                          .attempts = get16(from + 30),
	                          .submit = get32(from + 32),
	                          .flags = (uint8_t)flags};
	return ret->id > 0 && ret->id <= JOB_ID_MAX && ret->size < SIZES && ret->state > JOB_NONE &&
	       ret->state < JOB_STATES && ret->when_ms < INT64_C(1) << 44 && ret->attempts <= ATTEMPTS_MAX &&
	       (flags & ~(uint32_t)JOB_ENTRY_CANCEL) == 0 &&
	       (ret->submit == 0 || job_state_finished(ret->state));
}

void job_entry_put_ext(const struct job_entry *e, uint8_t to[JOB_ENTRY_EXT_BYTES])
{
	job_entry_put(e, to);
	put64(to + 40, e->claim);
	put64(to + 48, e->error_place);
	put64(to + 56, e->progress_place);
	put_i64(to + 64, e->retention_ms);
	put32(to + 72, e->time_to_run);
	put32(to + 76, e->epoch);
	put32(to + 80, e->changes);
	put16(to + 84, e->attempts_max);
	put16(to + 86, e->timeouts);
	put32(to + 88, e->ext_flags);
	put32(to + 92, e->reserves);
	put32(to + 96, e->releases);
	put32(to + 100, e->buries);
	put32(to + 104, e->kicks);
	put32(to + 108, e->delay_s);
	put32(to + 112, e->error_bytes);
	put32(to + 116, e->progress_bytes);
}

bool job_entry_get_ext(const uint8_t from[JOB_ENTRY_EXT_BYTES], struct job_entry *ret)
{
	if (!job_entry_get(from, ret))
		return false;
	ret->claim = get64(from + 40);
	ret->error_place = get64(from + 48);
	ret->progress_place = get64(from + 56);
	ret->retention_ms = get_i64(from + 64);
	ret->time_to_run = get32(from + 72);
	ret->epoch = get32(from + 76);
	ret->changes = get32(from + 80);
	ret->attempts_max = get16(from + 84);
	ret->timeouts = get16(from + 86);
	ret->ext_flags = get32(from + 88);
	ret->reserves = get32(from + 92);
	ret->releases = get32(from + 96);
	ret->buries = get32(from + 100);
	ret->kicks = get32(from + 104);
	ret->delay_s = get32(from + 108);
	ret->error_bytes = get32(from + 112);
	ret->progress_bytes = get32(from + 116);
	return !job_state_finished(ret->state);
}

void job_entry_put_policy(const struct job_entry *e, uint8_t to[JOB_ENTRY_POLICY_BYTES])
{
	job_entry_put_ext(e, to);
	put_i64(to + 120, e->expires_ms);
	put64(to + 128, e->unique[0]);
	put64(to + 136, e->unique[1]);
	put64(to + 144, e->group[0]);
	put64(to + 152, e->group[1]);
	put32(to + 160, e->dead_from);
	put32(to + 164, e->policy_flags);
}

bool job_entry_get_policy(const uint8_t from[JOB_ENTRY_POLICY_BYTES], struct job_entry *ret)
{
	if (!job_entry_get_ext(from, ret))
		return false;
	ret->expires_ms = get_i64(from + 120);
	ret->unique[0] = get64(from + 128);
	ret->unique[1] = get64(from + 136);
	ret->group[0] = get64(from + 144);
	ret->group[1] = get64(from + 152);
	ret->dead_from = get32(from + 160);
	ret->policy_flags = get32(from + 164);
	return (ret->policy_flags & ~(uint32_t)JOB_POLICY_FLAGS_ALL) == 0 && ret->dead_from <= QUEUE_MAX &&
	       ret->expires_ms >= 0 && ret->expires_ms < INT64_C(1) << 44 &&
	       ((ret->policy_flags & JOB_POLICY_UNIQUE) ||
	        !(ret->policy_flags & (JOB_POLICY_UNIQUE_QUEUED | JOB_POLICY_UNIQUE_HELD)));
}

void job_unique_put(const struct job_unique_entry *e, uint8_t to[JOB_UNIQUE_BYTES])
{
	put64(to, e->hash[0]);
	put64(to + 8, e->hash[1]);
	put64(to + 16, e->id);
	put_i64(to + 24, e->until_ms);
}

bool job_unique_get(const uint8_t from[JOB_UNIQUE_BYTES], struct job_unique_entry *ret)
{
	*ret = (struct job_unique_entry){
		{get64(from), get64(from + 8)}, get64(from + 16), get_i64(from + 24)};
	return ret->id > 0 && ret->id <= JOB_ID_MAX && ret->until_ms > 0 && ret->until_ms < INT64_C(1) << 44;
}

void job_bucket_put(const struct job_bucket_entry *e, uint8_t to[JOB_BUCKET_BYTES])
{
	put64(to, e->hash[0]);
	put64(to + 8, e->hash[1]);
	put_i64(to + 16, e->full_ns);
	put32(to + 24, e->queue);
	put32(to + 28, 0);
}

bool job_bucket_get(const uint8_t from[JOB_BUCKET_BYTES], struct job_bucket_entry *ret)
{
	*ret = (struct job_bucket_entry){.hash = {get64(from), get64(from + 8)},
	                                 .full_ns = get_i64(from + 16),
	                                 .queue = get32(from + 24)};
	return ret->queue > 0 && ret->queue <= QUEUE_MAX && get32(from + 28) == 0;
}

void job_join_put(const struct job_join_entry *e, uint8_t to[JOB_JOIN_BYTES])
{
	put64(to, e->id);
	put64(to + 8, e->other);
	put_i64(to + 16, e->delay_ms);
	put32(to + 24, e->count);
	to[28] = e->kind;
	to[29] = e->failure;
	to[30] = e->why;
	to[31] = 0;
}

bool job_join_get(const uint8_t from[JOB_JOIN_BYTES], struct job_join_entry *ret)
{
	*ret = (struct job_join_entry){.id = get64(from),
	                               .other = get64(from + 8),
	                               .delay_ms = get_i64(from + 16),
	                               .count = get32(from + 24),
	                               .kind = from[28],
	                               .failure = from[29],
	                               .why = from[30]};
	if (ret->id == 0 || ret->id > JOB_ID_MAX || ret->other >= ret->id || from[31] != 0)
		return false;
	if (ret->kind == JOB_JOIN_EDGE)
		return ret->other > 0 && ret->delay_ms == 0 && ret->count == 0 && ret->failure == 0 &&
		       ret->why == 0;
	return ret->kind == JOB_JOIN_JOB && ret->delay_ms >= 0 && ret->delay_ms < INT64_C(1) << 44 &&
	       ret->count > 0 && ret->count <= JOB_AFTER_MAX && ret->failure < JOB_AFTER_FAILURES &&
	       ret->why < JOB_AWAITED_ENDS && ret->why != JOB_AWAITED_DONE;
}
