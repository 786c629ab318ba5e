/* tests/unit/repair_help.h -- what tests of a repair share: jobs in every shape, and all that a look at one shows.
 *
 * The program says how it fails: repair_wrong() tells of it and does not return. With what it is about in repair_context, so that a damage
 * can be made again.
 */
#ifndef TESTS_REPAIR_HELP_H
#define TESTS_REPAIR_HELP_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"

enum {
	REPAIR_BLOB = 8 << 10, /* bodies above that are in files */
	REPAIR_TEXT = 4000,    /* so much of a body is compared */
	/* Shapes are what is done to a job: see treat(). From 12 on they are of what few jobs have; 17 and 18 need queues "short" and
	 * "rated", and from 20 on, where nothing is done, the program submits them itself. */
	REPAIR_SHAPES_PLAIN = 12,
	REPAIR_SHAPE_READY = 20,
};

#define REPAIR_DAY (86400 * WH_NS_PER_S)

static char repair_context[256];

/* Of a condition that must hold, what it was about, and more. */
static void __attribute__((noreturn)) repair_wrong(const char *text);

static inline void __attribute__((noreturn, format(printf, 2, 3)))
repair_wrongf(const char *condition, const char *format, ...)
{
	static char text[1 << 16];
	size_t len = (size_t)snprintf(text, sizeof(text), "%s: %s: ", repair_context, condition);
	va_list args;
	va_start(args, format);
	vsnprintf(text + len, sizeof(text) - len, format, args);
	va_end(args);
	repair_wrong(text);
}

#define check(condition, ...)                                   \
	do {                                                    \
		if (!(condition))                               \
			repair_wrongf(#condition, __VA_ARGS__); \
	} while (0)

/* ---- steps ------------------------------------------------------------------------------- */

static inline struct store_slice words(const char *text)
{
	return (struct store_slice){text, strlen(text)};
}

static inline struct store_result apply(struct store *store, struct store_action action)
{
	wh_res res = wh_await(store_apply(store, &action, 1, 0, STORE_ASYNC));
	struct store_commit *commit = res.ptr;
	check(res.n == 0 && commit->error == 0, "action %d: %s", action.kind,
	      job_strerror(res.n < 0 ? res.n : commit->error));
	struct store_result result = commit->results[0];
	store_commit_free(commit);
	return result;
}

static inline struct store_action leased(struct store *store, int kind, uint64_t job)
{
	wh_res res =
		wh_await(store_reserve(store, &(struct store_reserve){.job = job, .level = STORE_ASYNC}));
	struct store_lot *lot = res.ptr;
	check(res.n == 1, "job %" PRIu64 " is not to be had: %s", job, job_strerror(res.n));
	struct store_action a = {.kind = kind, .job = job, .lease = lot->jobs[0].lease};
	store_lot_free(lot);
	return a;
}

static inline void fail_once(struct store *store, uint64_t job, int attempt, bool last)
{
	struct store_action a = leased(store, STORE_FAIL, job);
	char error[100];
	snprintf(error, sizeof(error), "attempt %d of job %" PRIu64, attempt, job);
	a.fail.error = words(error);
	a.fail.delay_set = true;
	a.fail.no_retry = last;
	apply(store, a);
}

static inline void end_one(struct store *store, uint64_t job, bool large)
{
	static char body[2 * REPAIR_BLOB];
	struct store_action a = leased(store, STORE_COMPLETE, job);
	memset(body, 'r', sizeof(body));
	a.complete.bytes = large ? (struct store_slice){body, sizeof(body)} : words("the result");
	a.complete.content_type = words("text/x-result");
	apply(store, a);
}

/* One of its kind for every shape; all values that a queue could say are the job's own. */
static inline struct store_submit shaped(unsigned i, unsigned shape, char queue[16], char key[16],
                                         uint8_t *body)
{
	struct store_submit s = {.payload = {body, 100 + i * 37 % 700},
	                         .content_type = words("text/plain"),
	                         .headers = words("x: y\r\n"),
	                         .priority = JOB_PRIORITY_DEFAULT,
	                         .attempts_max = 10,
	                         .retention_ns = 9 * REPAIR_DAY,
	                         .time_to_run_ns = 9 * REPAIR_DAY};
	memset(body, 'a' + (int)(i % 26), 2 * REPAIR_BLOB);
	snprintf(queue, 16, "q%u", i % 4);
	snprintf(key, 16, "k%u", i);
	if (shape == 0)
		s.delay_ns = 9 * REPAIR_DAY;
	if (shape == 1)
		s.payload.len = REPAIR_BLOB + 1 + i;
	if (shape == 11)
		s.buried = true;
	if (shape == 12 || shape == 13)
		s.unique = words(key);
	if (shape == 12)
		s.unique_while_ns = 9 * REPAIR_DAY;
	if (shape == 14 || shape == 18)
		s.group = words(key);
	if (shape == 15)
		s.expires_ns = 9 * REPAIR_DAY;
	if (shape == 16) {
		snprintf(queue, 16, "topic/t");
		s.done = true;
		s.event = 1;
	}
	if (shape == 17) {
		snprintf(queue, 16, "short");
		s.attempts_max = 1;
	}
	if (shape == 18)
		snprintf(queue, 16, "rated");
	s.queue = words(queue);
	return s;
}

static inline uint64_t submit_one(struct store *store, unsigned i, unsigned shape)
{
	static uint8_t body[2 * REPAIR_BLOB];
	char queue[16], key[16];
	return apply(store, (struct store_action){.kind = STORE_SUBMIT,
	                                          .submit = shaped(i, shape, queue, key, body)})
	        .job;
}

/* One that runs after another, which is delayed, or has ended by now. */
static inline uint64_t submit_after(struct store *store, unsigned i, bool ended)
{
	static uint8_t body[2 * REPAIR_BLOB];
	char queue[16], key[16];
	uint64_t other = submit_one(store, i, ended ? REPAIR_SHAPE_READY : 0);
	struct store_action a = {.kind = STORE_SUBMIT,
	                         .submit = shaped(i, REPAIR_SHAPE_READY, queue, key, body)};
	a.submit.after = (struct store_slice){&other, sizeof(other)};
	uint64_t id = apply(store, a).job;
	if (ended)
		end_one(store, other, false);
	return id;
}

static inline uint64_t submit_once(struct store *store, unsigned i)
{
	static uint8_t body[2 * REPAIR_BLOB];
	char queue[16], unique[16], name[32];
	struct store_action a = {.kind = STORE_SUBMIT,
	                         .submit = shaped(i, REPAIR_SHAPE_READY, queue, unique, body)};
	struct store_key key = {.name = {name, (size_t)snprintf(name, sizeof(name), "once %u", i)}};
	wh_res res = wh_await(store_apply_once(store, &a, 1, STORE_ASYNC, &key));
	struct store_commit *commit = res.ptr;
	check(res.n == 0 && commit->error == 0, "once: %s", wh_strerror(res.n));
	uint64_t id = commit->results[0].job;
	store_commit_free(commit);
	return id;
}

static inline void try_again(struct store *store, uint64_t job)
{
	struct store_many many = {.kind = STORE_REPLAY, .queue = {0}, .ids = &job, .ids_count = 1};
	struct store_slice queue;
	check(store_queue_of(store, job, &queue) == 0, "its queue");
	char name[16];
	snprintf(name, sizeof(name), "%.*s", (int)queue.len, (const char *)queue.data);
	many.queue = words(name);
	wh_res res = wh_await(store_do_many(store, &many));
	struct store_commit *commit = res.ptr;
	check(res.n == 0 && commit->results[0].count == 1, "replay: %s", job_strerror(res.n));
	store_commit_free(commit);
}

static inline void reserve_from(struct store *store, const char *queue)
{
	struct store_slice name = words(queue);
	wh_res res = wh_await(store_reserve(
		store, &(struct store_reserve){.queues = &name, .queues_count = 1, .level = STORE_ASYNC}));
	check(res.n == 1, "nothing in %s: %s", queue, job_strerror(res.n));
	store_lot_free(res.ptr);
}

/* What is done to a job once it is there. */
static inline void treat(struct store *store, uint64_t job, unsigned shape)
{
	struct store_action a;
	switch (shape) {
	case 2:
		a = leased(store, STORE_PROGRESS, job);
		a.progress.bytes = words("half of it");
		apply(store, a);
		a.kind = STORE_EXTEND;
		a.extend.by_ns = 8 * REPAIR_DAY;
		apply(store, a);
		break;
	case 3:
	case 4:
		fail_once(store, job, 1, false);
		fail_once(store, job, 2, shape == 4);
		break;
	case 5:
	case 6:
		end_one(store, job, shape == 6);
		break;
	case 7:
		apply(store, (struct store_action){.kind = STORE_CANCEL, .job = job});
		break;
	case 8:
		fail_once(store, job, 1, false);
		end_one(store, job, false);
		break;
	case 9:
		if (job % 2)
			end_one(store, job, false);
		apply(store, (struct store_action){.kind = STORE_DELETE, .job = job});
		break;
	case 10:
		a = leased(store, STORE_BURY, job);
		a.bury.error = words("set aside");
		apply(store, a);
		break;
	case 11:
		apply(store, (struct store_action){.kind = STORE_KICK, .job = job});
		a = leased(store, STORE_RELEASE, job);
		a.release.delay_ns = 8 * REPAIR_DAY;
		apply(store, a);
		break;
	case 13:
		a = leased(store, STORE_RETURN, job);
		apply(store, a);
		break;
	case 14:
		leased(store, STORE_CANCEL, job);
		apply(store, (struct store_action){.kind = STORE_CANCEL, .job = job});
		break;
	case 15:
		apply(store, (struct store_action){.kind = STORE_EDIT,
		                                   .job = job,
		                                   .edit = {.fields = STORE_EDIT_PRIORITY, .priority = 7}});
		break;
	case 17:
		fail_once(store, job, 1, false); /* dead */
		break;
	case 18:
		reserve_from(store, "rated");
		break;
	case 19:
		fail_once(store, job, 1, true);
		try_again(store, job);
		break;
	}
}

/* What comes and goes, so that there is something to compact. */
static inline void churn(struct store *store, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++)
		apply(store, (struct store_action){.kind = STORE_DELETE,
		                                   .job = submit_one(store, i, REPAIR_SHAPE_READY)});
}

/* ---- looking ----------------------------------------------------------------------------- */

static inline char *describe(struct store *store, uint64_t id)
{
	static char to[REPAIR_TEXT * 8];
	wh_res res = wh_await(store_get(store, id, STORE_LOCAL));
	struct store_view *v = res.ptr;
	if (res.n == -JOB_EUNKNOWN_JOB || res.n == -JOB_EEXPIRED)
		return NULL;
	check(res.n >= 0, "job %" PRIu64 ": %s", id, job_strerror(res.n));
	size_t len = (size_t)snprintf(
		to, sizeof(to),
		"%d a%u/%u t%u r%u.%u.%u.%u p%u c%lld run%lld fin%lld exp%lld by%lld lease%u.%llu %.*s "
		"%.*s/%llu %u "
		"%.*s/%llu [%.*s] u:%.*s g:%.*s d:%.*s %d",
		v->state, v->attempts, v->attempts_max, v->timeouts, v->reserves, v->releases, v->buries,
		v->kicks, v->priority, (long long)v->created_at, (long long)v->run_at,
		(long long)v->finished_at, (long long)v->expires_at, (long long)v->begin_by, v->lease.epoch,
		(unsigned long long)v->lease.claim, (int)v->queue.len, (const char *)v->queue.data,
		(int)v->content_type.len, (const char *)v->content_type.data,
		(unsigned long long)v->payload_bytes, v->result_status, (int)v->result_content_type.len,
		(const char *)v->result_content_type.data, (unsigned long long)v->result_bytes,
		(int)v->progress.len, (const char *)v->progress.data, (int)v->unique.len,
		(const char *)v->unique.data, (int)v->group.len, (const char *)v->group.data,
		(int)v->dead_from.len, (const char *)v->dead_from.data, v->cancel_requested);
	for (uint32_t i = 0; i < v->errors_count; i++)
		len += (size_t)snprintf(to + len, sizeof(to) - len, " %u:%.*s", v->errors[i].attempt,
		                        (int)v->errors[i].text.len, (const char *)v->errors[i].text.data);
	for (int result = 0; result < 1 + (v->state == JOB_DONE); result++) {
		wh_res body = wh_await(result ? store_result(store, id, STORE_LOCAL)
		                              : store_payload(store, id, STORE_LOCAL));
		struct store_bytes *bytes = body.ptr;
		check(body.n >= 0, "body %d of job %" PRIu64 ": %s", result, id, job_strerror(body.n));
		len += (size_t)snprintf(to + len, sizeof(to) - len, " {%.*s}%llx.%zu",
		                        bytes->body.len < REPAIR_TEXT ? (int)bytes->body.len : REPAIR_TEXT,
		                        (const char *)bytes->body.data,
		                        (unsigned long long)bytes->blob.number, bytes->headers.len);
		if (bytes->blob.number != 0) {
			struct store_reader *reader;
			check(store_reader_open(store, bytes, &reader) == 0, "reader");
			int64_t n = wh_await(store_reader_check(reader)).n;
			check(n == (int64_t)bytes->blob.bytes, "file of body %d of job %" PRIu64 ": %s",
			      result, id, job_strerror(n));
			store_reader_free(reader);
		}
		store_bytes_unref(bytes);
	}
	store_view_free(v);
	return strdup(to);
}

#endif
