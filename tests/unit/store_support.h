/* tests/unit/store_support.h -- what tests of the store share: a folder, a loop, short names for long calls. */
#ifndef STORE_SUPPORT_H
#define STORE_SUPPORT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/store.h"

/* How long what should come may take; a second when something has not come before, since then the program has failed anyhow. */
static int64_t wait_s = 60;

struct bench {
	char directory[64];
	wh_loop *loop;
	struct store *store;
	struct store_options options;
	int failures;
};

static inline void on_failure(int64_t error, const char *message, void *arg)
{
	(void)error;
	(void)message;
	((struct bench *)arg)->failures++;
}

static inline void on_log(int level, const char *message, void *arg)
{
	(void)arg;
	if (level >= WH_LOG_ERROR)
		fprintf(stderr, "%s\n", message);
}

static inline void reopen(struct bench *b)
{
	struct store_problem problem;
	int error;

	b->options.directory = b->directory;
	b->options.on_failure = on_failure;
	b->options.failure_arg = b;
	b->options.log = on_log;
	if (b->options.recent_bytes == 0)
		b->options.recent_bytes = 1 << 20;
	if (b->options.segment_bytes == 0)
		b->options.segment_bytes = 4 << 20;
	error = store_open(b->loop, &b->options, &b->store, &problem);
	if (error < 0)
		fail_msg("open: %s", problem.text);
}

static inline int set_up_below(void **state, const char *parent)
{
	struct bench *b = calloc(1, sizeof(*b));

	snprintf(b->directory, sizeof(b->directory), "%s/whilst-store-XXXXXX", parent);
	assert_non_null(mkdtemp(b->directory));
	assert_int_equal(wh_loop_open(&b->loop, NULL), 0);
	reopen(b);
	*state = b;
	return 0;
}

static inline int set_up(void **state)
{
	return set_up_below(state, "/tmp");
}

/* Where flushes are so short that the log does not leave them to others. */
static inline int set_up_in_memory(void **state)
{
	return set_up_below(state, "/dev/shm");
}

static inline int tear_down(void **state)
{
	struct bench *b = *state;
	char command[128];

	store_close(b->store);
	wh_loop_close(b->loop);
	snprintf(command, sizeof(command), "rm -rf %s", b->directory);
	assert_int_equal(system(command), 0);
	free(b);
	return 0;
}

static inline void close_and_reopen(struct bench *b)
{
	assert_int_equal(store_close(b->store), 0);
	reopen(b);
}

/* Awaits what may not come if the store is mistaken: the test fails then, and says what has not come. */
static inline wh_res await(struct bench *b, wh_future future, const char *what)
{
	wh_res res = wh_await(wh_deadline(future, wh_clock(b->loop) + wait_s * WH_NS_PER_S));

	if (res.n == -ETIMEDOUT) {
		wait_s = 1;
		fail_msg("%s: it has not come", what);
	}
	return res;
}

static inline struct store_slice text(const char *s)
{
	return (struct store_slice){s, strlen(s)};
}

static inline struct store_commit *apply(struct bench *b, struct store_action action, int level)
{
	wh_res res = wh_await(store_apply(b->store, &action, 1, 0, level));

	assert_true(res.n == 0);
	return res.ptr;
}

/* One action; its error. */
static inline int try(struct bench *b, struct store_action action)
{
	struct store_commit *commit = apply(b, action, STORE_DEFAULT);
	int error = commit->error;

	store_commit_free(commit);
	return error;
}

static inline struct store_action submission(const char *queue, const char *payload)
{
	return (struct store_action){.kind = STORE_SUBMIT,
	                             .submit = {.queue = text(queue),
	                                        .payload = text(payload),
	                                        .content_type = text("text/plain"),
	                                        .priority = JOB_PRIORITY_DEFAULT}};
}

static inline uint64_t submit_level(struct bench *b, const char *queue, const char *payload, int level)
{
	struct store_commit *commit = apply(b, submission(queue, payload), level);
	uint64_t id = commit->results[0].job;

	assert_int_equal(commit->error, 0);
	assert_true(id > 0);
	store_commit_free(commit);
	return id;
}

static inline uint64_t submit(struct bench *b, const char *queue, const char *payload)
{
	return submit_level(b, queue, payload, STORE_DEFAULT);
}

static inline wh_future reserve_start(struct bench *b, const char *queue, uint32_t jobs_max, bool wait)
{
	struct store_slice name = text(queue);
	struct store_reserve reserve = {
		.queues = &name, .queues_count = 1, .jobs_max = jobs_max, .wait = wait};

	return store_reserve(b->store, &reserve);
}

static inline struct store_lot *reserve(struct bench *b, const char *queue, uint32_t jobs_max)
{
	wh_res res = wh_await(reserve_start(b, queue, jobs_max, false));

	assert_true(res.n >= 0);
	return res.ptr;
}

/* One job, or {0}. */
static inline struct store_leased reserve_one(struct bench *b, const char *queue)
{
	struct store_lot *lot = reserve(b, queue, 1);
	struct store_leased job = {0};

	if (lot)
		job = lot->jobs[0];
	store_lot_free(lot);
	return job;
}

static inline struct store_action with_lease(int kind, struct store_leased job)
{
	return (struct store_action){.kind = kind, .job = job.job, .lease = job.lease};
}

/* A body, wherever it is, in memory of its own; len, or why it cannot be had. */
static inline int64_t bytes_body(struct bench *b, struct store_bytes *bytes, char **ret)
{
	struct store_reader *reader;
	size_t len = 0;
	wh_res res;

	*ret = malloc(bytes->bytes + 1);
	assert_non_null(*ret);
	if (bytes->blob.number == 0) {
		memcpy(*ret, bytes->body.data, bytes->body.len);
		return (int64_t)bytes->body.len;
	}
	assert_int_equal(store_reader_open(b->store, bytes, &reader), 0);
	res = wh_await(store_reader_check(reader));
	while (res.n > 0 && (res = wh_await(store_reader_next(reader))).n > 0) {
		assert_true(len + (size_t)res.n <= bytes->bytes);
		memcpy(*ret + len, res.ptr, (size_t)res.n);
		len += (size_t)res.n;
	}
	store_reader_free(reader);
	return res.n < 0 ? res.n : (int64_t)len;
}

static inline void check_bytes(struct bench *b, struct store_bytes *bytes, const void *expected, size_t len)
{
	char *body;

	assert_int_equal(bytes->bytes, len);
	assert_int_equal(bytes_body(b, bytes, &body), len);
	assert_memory_equal(body, expected, len);
	free(body);
}

static inline int state_of(struct bench *b, uint64_t job)
{
	wh_res res = wh_await(store_get(b->store, job, STORE_DEFAULT));

	if (res.n >= 0)
		store_view_free(res.ptr);
	return (int)res.n;
}

#endif
