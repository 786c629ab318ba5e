/* tests/unit/test_store_compact.c -- checkpoints and compaction on a real disk, with small segments: what is not needed goes,
 * in whatever order jobs end; what is needed stays, and reads the same; a start reads little.
 */
#include "store_support.h"

#include "store/inside.h"

enum {
	SEGMENT = 1 << 20,
	SLACK = 8 << 20,
	BATCH = 100,
	BODY = 2000,
	SPARE = 4 *
	        SEGMENT, /* the segment written to, the one made ahead, one being released, and a checkpoint */
};

static int set_up_small(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	snprintf(b->directory, sizeof(b->directory), "/tmp/whilst-store-XXXXXX");
	assert_non_null(mkdtemp(b->directory));
	assert_int_equal(wh_loop_open(&b->loop, NULL), 0);
	*state = b;
	b->options.segment_bytes = SEGMENT;
	b->options.checkpoint_bytes = SEGMENT;
	b->options.compact_slack = SLACK;
	b->options.recent_bytes = 4096; /* reads come from the disk */
	reopen(b);
	return 0;
}

static struct store_stats stats(struct bench *b)
{
	struct store_stats s;

	store_stats(b->store, &s);
	return s;
}

static void fill(char *to, uint64_t seed, size_t len)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (char)('a' + (seed * 31 + i * 7) % 26);
}

static size_t body_of(uint64_t n, char *to)
{
	size_t len = BODY / 2 + (size_t)(n * 7919 % BODY);

	fill(to, n, len);
	return len;
}

/* A batch of jobs; their ids. */
static void submit_batch(struct bench *b, const char *queue, uint64_t first, uint64_t *ids)
{
	static char bodies[BATCH][2 * BODY];
	struct store_slice payloads[BATCH];
	struct store_submit options = {
		.queue = text(queue), .priority = JOB_PRIORITY_DEFAULT, .retention_ns = -1};
	struct store_commit *commit;
	wh_res res;

	for (size_t i = 0; i < BATCH; i++)
		payloads[i] = (struct store_slice){bodies[i], body_of(first + i, bodies[i])};
	res = wh_await(store_submit_many(b->store, &options, payloads, BATCH, STORE_ASYNC));
	assert_int_equal(res.n, 0);
	commit = res.ptr;
	assert_int_equal(commit->error, 0);
	for (size_t i = 0; i < BATCH; i++)
		ids[i] = commit->results[i].job;
	store_commit_free(commit);
}

/* DELETE: durable before it is answered, so that who writes is held up by the disk; CANCEL: not. */
static void end_many(struct bench *b, int kind, const uint64_t *ids, size_t count)
{
	struct store_action actions[2 * BATCH];
	struct store_commit *commit;
	wh_res res;

	for (size_t i = 0; i < count; i++)
		actions[i] = (struct store_action){.kind = kind, .job = ids[i]};
	res = wh_await(store_apply(b->store, actions, count, 0, STORE_ASYNC));
	assert_int_equal(res.n, 0);
	commit = res.ptr;
	assert_int_equal(commit->error, 0);
	store_commit_free(commit);
}

/* Jobs that come and go, so that the log rolls. */
static void churn(struct bench *b, uint64_t bytes)
{
	uint64_t from = stats(b).log_written_bytes, ids[BATCH];

	while (stats(b).log_written_bytes - from < bytes) {
		submit_batch(b, "churn", 0, ids);
		end_many(b, STORE_CANCEL, ids, BATCH);
	}
}

/* Let it come to rest. */
static void settle(struct bench *b)
{
	uint64_t released = 0;

	for (int quiet = 0; quiet < 30; quiet++) {
		wh_await(wh_sleep(b->loop, 10 * WH_NS_PER_MS));
		if (stats(b).segments_released != released)
			quiet = 0;
		released = stats(b).segments_released;
	}
}

static void check_body(struct bench *b, uint64_t id, uint64_t n)
{
	static char expected[2 * BODY];
	wh_res res = wh_await(store_payload(b->store, id, STORE_DEFAULT));
	size_t len = body_of(n, expected);

	assert_int_equal(res.n, len);
	assert_memory_equal(((struct store_bytes *)res.ptr)->body.data, expected, len);
	store_bytes_unref(res.ptr);
}

static uint64_t bound(const struct store_stats *s)
{
	return 2 * s->live_bytes + SLACK + SPARE;
}

/* Every tenth job stays; of those that stay the oldest goes when there are enough. 50 times what is kept passes through. */
static void test_bound(void **state)
{
	enum { KEPT = 2000, ROUNDS = KEPT / (BATCH / 10) * 5 };
	static uint64_t kept[KEPT], numbers[KEPT];
	struct bench *b = *state;
	uint64_t ids[BATCH], most = 0, over = 0, number = 0;
	size_t at = 0, count = 0;
	struct store_stats s;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t others[2 * BATCH];
		size_t others_count = 0;

		submit_batch(b, "q", number, ids);
		for (size_t i = 0; i < BATCH; i++, number++) {
			if (i % 10 != (size_t)round % 10) {
				others[others_count++] = ids[i];
				continue;
			}
			if (count == KEPT && round % 3 > 0) /* some in the middle, some for ever */
				at = (at + 1 + (size_t)round % 7) % KEPT;
			if (count == KEPT)
				others[others_count++] = kept[at];
			kept[at] = ids[i];
			numbers[at] = number;
			at = (at + 1) % KEPT;
			count += count < KEPT;
		}
		end_many(b, STORE_DELETE, others, others_count);
		s = stats(b);
		most = s.log_bytes > most ? s.log_bytes : most;
		over = s.log_bytes > bound(&s) + over ? s.log_bytes - bound(&s) : over;
		/* who writes as fast as the disk takes it is ahead by what is written during a checkpoint */
		for (int tries = 0; s.log_bytes > bound(&s); tries++) {
			assert_true(tries < 2000);
			wh_await(wh_sleep(b->loop, 5 * WH_NS_PER_MS));
			s = stats(b);
		}
	}
	assert_true(over < 16 * SEGMENT);
	settle(b);
	s = stats(b);
	print_message("%.1f MB written, %.1f MB needed, %.1f MB on disk, %.1f at most, %.1f over; %d "
	              "checkpoints, %d segments scanned, %d "
	              "released, %d jobs moved, %.1f MB\n",
	              (double)s.log_written_bytes / 1e6, (double)s.live_bytes / 1e6,
	              (double)s.log_bytes / 1e6, (double)most / 1e6, (double)over / 1e6, (int)s.checkpoints,
	              (int)s.segments_scanned, (int)s.segments_released, (int)s.moved,
	              (double)s.moved_bytes / 1e6);
	assert_true(s.log_written_bytes > 20 * s.live_bytes);
	assert_true(s.checkpoints > 5 && s.moved > KEPT / 10);
	/* the estimate is of what is really there */
	assert_true(s.live_bytes > count * BODY * 3 / 4 && s.live_bytes < count * BODY * 3 / 2);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < count; i++)
			check_body(b, kept[i], numbers[i]);
		assert_int_equal(store_recount(b->store), 0);
		close_and_reopen(b);
		/* nothing of the history is read again */
		assert_true(stats(b).log_since_checkpoint < 2 * SEGMENT);
		s = stats(b);
		assert_true(s.log_bytes <= bound(&s));
	}
}

/* ---- all that a job can have -------------------------------------------------------------- */

enum { SHAPES = 12 };

/* What can be seen of a job, as text. */
static size_t describe(struct bench *b, uint64_t id, char *to, size_t cap)
{
	wh_res res = wh_await(store_get(b->store, id, STORE_DEFAULT));
	struct store_view *v = res.ptr;
	size_t len;

	assert_true(res.n >= 0);
	len = (size_t)snprintf(
		to, cap,
		"%d v%llx a%u/%u t%u r%u.%u.%u.%u d%lld c%lld run%lld dead%lld fin%lld exp%lld "
		"lease%u.%llu %.*s %.*s/%llu %u %.*s/%llu [%.*s]",
		v->state, (unsigned long long)v->version, v->attempts, v->attempts_max, v->timeouts,
		v->reserves, v->releases, v->buries, v->kicks, (long long)v->delay_ns,
		(long long)v->created_at, (long long)v->run_at, (long long)v->deadline,
		(long long)v->finished_at, (long long)v->expires_at, v->lease.epoch,
		(unsigned long long)v->lease.claim, (int)v->queue.len, (const char *)v->queue.data,
		(int)v->content_type.len, (const char *)v->content_type.data,
		(unsigned long long)v->payload_bytes, v->result_status, (int)v->result_content_type.len,
		(const char *)v->result_content_type.data, (unsigned long long)v->result_bytes,
		(int)v->progress.len, (const char *)v->progress.data);
	for (uint32_t i = 0; i < v->errors_count; i++)
		len += (size_t)snprintf(to + len, cap - len, " %u@%lld:%.*s", v->errors[i].attempt,
		                        (long long)v->errors[i].at, (int)v->errors[i].text.len,
		                        (const char *)v->errors[i].text.data);
	if (res.n == JOB_DONE) {
		wh_res result = wh_await(store_result(b->store, id, STORE_DEFAULT));
		struct store_bytes *bytes = result.ptr;

		assert_true(result.n >= 0);
		len += (size_t)snprintf(to + len, cap - len, " ={%.*s}%.*s", (int)bytes->headers.len,
		                        (const char *)bytes->headers.data, (int)bytes->body.len,
		                        (const char *)bytes->body.data);
		store_bytes_unref(bytes);
	}
	store_view_free(v);
	return len;
}

static void fail_times(struct bench *b, const char *queue, int times, bool for_good)
{
	for (int i = 0; i < times; i++) {
		struct store_action failing = with_lease(STORE_FAIL, reserve_one(b, queue));
		char error[200];

		snprintf(error, sizeof(error), "attempt %d of %s", i + 1, queue);
		failing.fail.error = text(error);
		failing.fail.delay_set = true;
		failing.fail.no_retry = for_good && i + 1 == times;
		assert_int_equal(try(b, failing), 0);
		churn(b, SEGMENT / 2); /* the chain goes through many segments */
	}
}

static void progress(struct bench *b, const char *queue, bool complete)
{
	struct store_leased job = reserve_one(b, queue);
	struct store_action a = with_lease(STORE_PROGRESS, job);

	a.progress.bytes = text("half of it");
	assert_int_equal(try(b, a), 0);
	churn(b, SEGMENT);
	a = with_lease(STORE_COMPLETE, job);
	a.complete.bytes = text("the result");
	a.complete.headers = text("X: y");
	a.complete.content_type = text("text/x-result");
	if (complete)
		assert_int_equal(try(b, a), 0);
}

/* A job in its own queue, and what is done to it. */
static uint64_t make(struct bench *b, int shape)
{
	struct store_action a = submission("", "payload");
	struct store_commit *commit;
	char queue[16], body[BODY];
	uint64_t id;

	snprintf(queue, sizeof(queue), "shape-%d", shape);
	fill(body, (uint64_t)shape, sizeof(body));
	a.submit.queue = text(queue);
	a.submit.payload = (struct store_slice){body, sizeof(body)};
	a.submit.attempts_max = 100;
	a.submit.retention_ns = 86400 * WH_NS_PER_S;
	a.submit.time_to_run_ns = 86400 * WH_NS_PER_S;
	a.submit.delay_ns = shape == 1 ? 86400 * WH_NS_PER_S : 0;
	a.submit.buried = shape == 2;
	commit = apply(b, a, STORE_DEFAULT);
	id = commit->results[0].job;
	store_commit_free(commit);
	churn(b, SEGMENT / 2);
	switch (shape) {
	case 3:
		fail_times(b, queue, 3, false);
		break;
	case 4:
		fail_times(b, queue, 13, true); /* more than are kept */
		break;
	case 5:
		progress(b, queue, false);
		break;
	case 6:
		progress(b, queue, true);
		break;
	case 7:
		fail_times(b, queue, 2, false);
		progress(b, queue, true);
		break;
	case 8:
		fail_times(b, queue, 2, false);
		progress(b, queue, false);
		assert_int_equal(try(b, (struct store_action){.kind = STORE_CANCEL, .job = id}), 0);
		break;
	case 9:
		assert_int_equal(try(b, (struct store_action){.kind = STORE_CANCEL, .job = id}), 0);
		break;
	case 10: {
		struct store_action bury;

		fail_times(b, queue, 1, false);
		bury = with_lease(STORE_BURY, reserve_one(b, queue));
		bury.bury.error = text("set aside");
		assert_int_equal(try(b, bury), 0);
		break;
	}
	case 11: {
		struct store_action release;

		fail_times(b, queue, 1, false);
		release = with_lease(STORE_RELEASE, reserve_one(b, queue));
		release.release.delay_ns = 3600 * WH_NS_PER_S;
		assert_int_equal(try(b, release), 0);
		break;
	}
	}
	return id;
}

static void test_everything_stays(void **state)
{
	static char before[SHAPES][8192], after[8192];
	struct bench *b = *state;
	struct store_action setting = {.kind = STORE_SETTING_PUT, .setting = {text("key"), text("value")}};
	uint64_t ids[SHAPES], released;
	char queue[16];
	wh_res res;

	assert_int_equal(try(b, setting), 0);
	for (int i = 0; i < SHAPES; i++)
		ids[i] = make(b, i);
	for (int i = 0; i < SHAPES; i++)
		describe(b, ids[i], before[i], sizeof(before[i]));
	for (int round = 0; round < 3; round++) {
		released = stats(b).segments_released;
		churn(b, SLACK + 20 * SEGMENT);
		settle(b);
		assert_true(round == 2 || stats(b).segments_released > released + 5);
		for (int i = 0; i < SHAPES; i++) {
			static char body[BODY];

			describe(b, ids[i], after, sizeof(after));
			assert_string_equal(after, before[i]);
			fill(body, (uint64_t)i, sizeof(body));
			res = wh_await(store_payload(b->store, ids[i], STORE_DEFAULT));
			assert_int_equal(res.n, sizeof(body));
			assert_memory_equal(((struct store_bytes *)res.ptr)->body.data, body, sizeof(body));
			store_bytes_unref(res.ptr);
		}
		assert_int_equal(store_recount(b->store), 0);
		if (round == 0) {
			assert_true(stats(b).moved > SHAPES / 2);
			close_and_reopen(b);
		}
	}
	res = wh_await(store_settings(b->store, text("key")));
	assert_int_equal(res.n, 1);
	assert_memory_equal(((struct store_settings *)res.ptr)->settings[0].value.data, "value", 5);
	store_settings_free(res.ptr);
	/* they go on from where they were */
	fail_times(b, "shape-3", 1, false);
	describe(b, ids[3], after, sizeof(after));
	assert_non_null(strstr(after, "attempt 3 of shape-3"));
	snprintf(queue, sizeof(queue), "shape-%d", 0);
	assert_int_equal(reserve_one(b, queue).job, ids[0]);
}

/* ---- readers ------------------------------------------------------------------------------- */

/* One that looks at a job again and again; what it sees is whole, wherever its records are just then. */
struct reader {
	struct bench *b;
	uint64_t id, reads;
	bool stop, pending;
};

static void read_on(struct reader *reader);

static void on_view(wh_loop *loop, wh_res res, void *arg)
{
	struct reader *reader = arg;
	struct store_view *v = res.ptr;

	(void)loop;
	if (res.n != JOB_FAILED)
		fail_msg("job %llu: %lld", (unsigned long long)reader->id, (long long)res.n);
	assert_int_equal(v->errors_count, JOB_ERRORS_KEPT);
	store_view_free(v);
	reader->reads++;
	reader->pending = false;
	if (!reader->stop)
		read_on(reader);
}

static void read_on(struct reader *reader)
{
	reader->pending = true;
	assert_int_equal(wh_then(store_get(reader->b->store, reader->id, STORE_DEFAULT), on_view, reader), 0);
}

static void test_readers(void **state)
{
	struct bench *b = *state;
	struct reader readers[4];
	uint64_t reads = 0;

	for (size_t i = 0; i < 4; i++) {
		readers[i] = (struct reader){.b = b, .id = make(b, 4)};
		read_on(&readers[i]);
	}
	churn(b, SLACK + 20 * SEGMENT);
	settle(b);
	assert_true(stats(b).moved > 0 && stats(b).segments_released > 10);
	for (size_t i = 0; i < 4; i++) {
		readers[i].stop = true;
		while (readers[i].pending)
			wh_loop_turn(b->loop, -1);
		reads += readers[i].reads;
	}
	assert_true(reads > 100);
}

/* Somebody who has read one place and has still to read the next, for as long as he likes: what he knows stays. */
static void test_slow_reader(void **state)
{
	struct bench *b = *state;
	uint64_t ids[BATCH], released;
	unsigned phase;

	submit_batch(b, "q", 0, ids);
	phase = store_look_begin(b->store);
	for (int round = 0; !b->store->compact.draining; round++) {
		assert_true(round < 100000);
		churn(b, SEGMENT / 4);
		wh_await(wh_sleep(b->loop, WH_NS_PER_MS));
	}
	released = stats(b).segments_released;
	for (int turn = 0; turn < 100; turn++) {
		assert_true(b->store->compact.draining);
		wh_await(wh_sleep(b->loop, WH_NS_PER_MS));
	}
	assert_int_equal(stats(b).segments_released, released);
	for (size_t i = 0; i < BATCH; i++)
		check_body(b, ids[i], i);
	store_look_end(b->store, phase);
	assert_int_equal(stats(b).segments_released, released + 1);
}

/* ---- a segment that is needed is gone ------------------------------------------------------ */

static void test_missing_segment(void **state)
{
	struct bench *b = *state;
	struct store_problem problem = {0};
	char path[256], number[64];
	uint64_t id = submit(b, "left-behind", "payload"), segment = store_segment(b->store, id);
	int error;

	churn(b, 4 * SEGMENT);
	assert_int_equal(store_segment(b->store, id), segment);
	assert_int_equal(store_close(b->store), 0);
	b->store = NULL;
	snprintf(path, sizeof(path), "%s/seg-%016llx.log", b->directory, (unsigned long long)segment);
	assert_int_equal(unlink(path), 0);
	error = store_open(b->loop, &b->options, &b->store, &problem);
	assert_int_equal(error, -WH_EDAMAGED);
	assert_int_equal(problem.exit_status, 3);
	if (!strstr(problem.text, "left-behind"))
		fail_msg("%s", problem.text);
	snprintf(number, sizeof(number), "job %llu ", (unsigned long long)id);
	assert_non_null(strstr(problem.text, number));
	b->store = NULL;
}

/* Of a finished job only about where its payload is: at the beginning of the log, too. */
static void test_missing_payload(void **state)
{
	struct bench *b = *state;
	struct store_problem problem = {0};
	char path[256];
	uint64_t id = submit(b, "left-behind", "payload");
	struct store_leased job = reserve_one(b, "left-behind");

	assert_int_equal(store_segment(b->store, id), 0);
	churn(b, 5 * SEGMENT);
	assert_int_equal(try(b, with_lease(STORE_COMPLETE, job)), 0);
	assert_true(store_segment(b->store, id) > 3);
	assert_int_equal(store_close(b->store), 0);
	b->store = NULL;
	for (unsigned long long i = 0; i < 3; i++) { /* more than 2 MiB */
		snprintf(path, sizeof(path), "%s/seg-%016llx.log", b->directory, i);
		assert_true(unlink(path) == 0 || i > 0); /* the others may have gone already */
	}
	assert_int_equal(store_open(b->loop, &b->options, &b->store, &problem), -WH_EDAMAGED);
	if (!strstr(problem.text, "the payload of job") || !strstr(problem.text, "left-behind"))
		fail_msg("%s", problem.text);
	b->store = NULL;
}

/* Failed and called back again and again, while what is written of them moves: the same payload, and every error. */
static void test_called_back(void **state)
{
	struct bench *b = *state;
	enum { JOBS = 40, ROUNDS = 4 };
	uint64_t ids[JOBS], released = 0, moved = 0; /* before it was opened anew, and then in all */
	char body[2 * BODY];

	for (uint64_t i = 0; i < JOBS; i++) {
		struct store_action action = submission("keep", "");
		struct store_commit *commit;

		action.submit.payload = (struct store_slice){body, body_of(i, body)};
		commit = apply(b, action, STORE_DEFAULT);
		ids[i] = commit->results[0].job;
		store_commit_free(commit);
	}
	for (int round = 1; round <= ROUNDS; round++) {
		struct store_many replay = {
			.kind = STORE_REPLAY, .queue = text("keep"), .error = text("round")};
		wh_res res;

		for (int i = 0; i < JOBS; i++) {
			struct store_action a = with_lease(STORE_FAIL, reserve_one(b, "keep"));

			snprintf(body, sizeof(body), "round %d", round);
			a.fail.error = text(body);
			a.fail.no_retry = true;
			assert_int_equal(try(b, a), 0);
		}
		if (round % 2)
			churn(b, 6 * SEGMENT); /* failed ones are written again */
		settle(b);
		res = wh_await(store_do_many(b->store, &replay));
		assert_int_equal(res.n, 0);
		assert_int_equal(((struct store_commit *)res.ptr)->results[0].count, JOBS);
		store_commit_free(res.ptr);
		if (round != 1)
			churn(b, 6 * SEGMENT); /* and those that have come back */
		settle(b);
		if (round == 2) {
			released = stats(b).segments_released;
			moved = stats(b).moved;
			close_and_reopen(b);
		}
		assert_int_equal(store_recount(b->store), 0);
	}
	released += stats(b).segments_released;
	moved += stats(b).moved;
	if (released <= 4 || moved <= JOBS)
		fail_msg("%d segments released, %d moved: too few for this to have been tried", (int)released,
		         (int)moved);
	for (uint64_t i = 0; i < JOBS; i++) {
		wh_res res = wh_await(store_get(b->store, ids[i], STORE_DEFAULT));
		struct store_view *v = res.ptr;
		size_t len;

		assert_int_equal(res.n, JOB_READY);
		assert_int_equal(v->errors_count, ROUNDS);
		for (int round = 1; round <= ROUNDS; round++) {
			snprintf(body, sizeof(body), "round %d", round);
			assert_memory_equal(v->errors[round - 1].text.data, body, strlen(body));
		}
		store_view_free(v);
		res = wh_await(store_payload(b->store, ids[i], STORE_DEFAULT));
		assert_true(res.n > 0);
		len = body_of(i, body);
		check_bytes(b, res.ptr, body, len);
		store_bytes_unref(res.ptr);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bound, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_everything_stays, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_readers, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_slow_reader, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_missing_segment, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_missing_payload, set_up_small, tear_down),
		cmocka_unit_test_setup_teardown(test_called_back, set_up_small, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
