/* tests/unit/test_store_keys.c -- changes under a key: done once, forgotten in time, bounded; over restarts and checkpoints. */
#include "store_support.h"

static struct store_key key_of(const char *name, const char *request)
{
	struct store_key key = {.name = text(name)};

	store_key_mix(key.fingerprint, request, strlen(request));
	return key;
}

/* count jobs for queue; the commit. */
static struct store_commit *once(struct bench *b, const char *name, const char *request, size_t count,
                                 int level)
{
	struct store_action *actions = calloc(count, sizeof(*actions));
	struct store_key key = key_of(name, request);
	wh_res res;

	for (size_t i = 0; i < count; i++)
		actions[i] = submission("q", request);
	res = wh_await(store_apply_once(b->store, actions, count, level, &key));
	free(actions);
	assert_int_equal(res.n, 0);
	return res.ptr;
}

static uint64_t first_id(struct bench *b, const char *name, const char *request, size_t count, bool replayed)
{
	struct store_commit *commit = once(b, name, request, count, STORE_LOCAL);
	uint64_t id = commit->results[0].job;

	assert_int_equal(commit->error, 0);
	assert_int_equal(commit->count, count);
	assert_int_equal(commit->replayed, replayed);
	assert_true(commit->position.lsn > 0 && commit->level == STORE_LOCAL);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(commit->results[i].job, id + i);
		assert_int_equal(commit->results[i].state, JOB_READY);
	}
	store_commit_free(commit);
	return id;
}

static int refusal(struct bench *b, const char *name, const char *request, size_t count)
{
	struct store_commit *commit = once(b, name, request, count, STORE_LOCAL);
	int error = commit->error;

	assert_true(error < 0 && commit->reason[0] != 0);
	store_commit_free(commit);
	return error;
}

static uint64_t submitted(struct bench *b)
{
	struct store_queue_view view;

	assert_int_equal(store_queue_now(b->store, text("q"), &view), 0);
	return view.submitted;
}

static void test_once(void **state)
{
	struct bench *b = *state;
	uint64_t one = first_id(b, "a", "x", 1, false), many = first_id(b, "b", "y", 10000, false);
	struct store_stats stats;

	assert_int_equal(first_id(b, "a", "x", 1, true), one);
	assert_int_equal(first_id(b, "b", "y", 10000, true), many);
	assert_int_equal(refusal(b, "a", "y", 1), -JOB_EKEY);
	assert_int_equal(refusal(b, "b", "y", 9999), -JOB_EKEY);
	assert_int_equal(submitted(b), 10001);
	store_stats(b->store, &stats);
	assert_int_equal(stats.keys, 2);
	assert_true(stats.key_bytes < 1000); /* a batch is one run */
	assert_int_equal(stats.keys_replayed, 2);
	assert_int_equal(stats.keys_misused, 2);
	for (int i = 0; i < 3; i++) {
		close_and_reopen(b);
		assert_int_equal(first_id(b, "a", "x", 1, true), one);
		assert_int_equal(first_id(b, "b", "y", 10000, true), many);
		assert_int_equal(refusal(b, "a", "y", 1), -JOB_EKEY);
	}
	assert_int_equal(submitted(b), 10001);
	assert_int_equal(store_recount(b->store), 0);
}

/* What is not a run: every result comes back as it was. */
static void test_results(void **state)
{
	struct bench *b = *state;
	struct store_action actions[6] = {submission("q", "1"),   submission("q", "2"), submission("q", "3"),
	                                  {.kind = STORE_CANCEL}, {.kind = STORE_FAIL}, submission("q", "4")},
			    other = submission("q", "5");
	struct store_key key = key_of("a", "b");
	struct store_commit *first, *again;
	struct store_leased job;

	/* the sixth is there already, as somebody else's */
	actions[5].submit.unique = other.submit.unique = text("unique");
	store_commit_free(apply(b, other, STORE_LOCAL));
	submit(b, "r", "x");
	job = reserve_one(b, "r");
	actions[1].submit.delay_ns = 3600 * WH_NS_PER_S;
	actions[3].job = submit(b, "r", "y");
	actions[4].job = job.job;
	actions[4].lease = job.lease;
	first = wh_await(store_apply_once(b->store, actions, 6, STORE_LOCAL, &key)).ptr;
	assert_int_equal(first->error, 0);
	assert_true(first->results[5].duplicate && !first->results[0].duplicate);
	close_and_reopen(b);
	again = wh_await(store_apply_once(b->store, actions, 6, STORE_LOCAL, &key)).ptr;
	assert_true(again->error == 0 && again->replayed);
	assert_int_equal(again->position.epoch, first->position.epoch);
	assert_int_equal(again->position.lsn, first->position.lsn);
	for (int i = 0; i < 6; i++) {
		assert_int_equal(again->results[i].job, first->results[i].job);
		assert_int_equal(again->results[i].duplicate, first->results[i].duplicate);
		assert_int_equal(again->results[i].state, first->results[i].state);
		assert_int_equal(again->results[i].at, first->results[i].at);
	}
	assert_int_equal(again->results[1].state, JOB_DELAYED);
	assert_int_equal(again->results[3].state, JOB_CANCELLED);
	assert_true(again->results[4].at > 0);
	store_commit_free(first);
	store_commit_free(again);
}

/* Events: one result each, whatever they took; the second time there may be other subscriptions, or none. */
static void test_events(void **state)
{
	struct bench *b = *state;
	struct store_asked items[4] = {{.actions = 3, .event = true},
	                               {.actions = 1},
	                               {.actions = 0, .event = true},
	                               {.actions = 1, .event = true}},
			   others[4] = {{.actions = 1, .event = true},
	                                {.actions = 1},
	                                {.actions = 3, .event = true},
	                                {.actions = 0, .event = true}};
	struct store_asking asking = {.items = items, .count = 4, .note = "a note"};
	struct store_action actions[5];
	struct store_key key = key_of("a", "b"), empty = key_of("e", "f");
	struct store_commit *first, *again;

	for (int i = 0; i < 5; i++)
		actions[i] = submission("q", "1");
	for (int i = 0; i < 3; i++)
		actions[i].submit.event = 1;
	actions[4].submit.event = 2;
	actions[0].submit.done = true;
	actions[0].submit.queue = text("topic/t");
	actions[0].submit.retention_ns = 60 * WH_NS_PER_S;
	assert_false(store_key_known(b->store, &key));
	first = wh_await(store_apply_asked(b->store, actions, 5, &asking, STORE_LOCAL, &key)).ptr;
	assert_true(first->error == 0 && !first->replayed && first->count == 4);
	assert_true(store_key_known(b->store, &key));
	assert_true(first->results[0].event && first->results[0].job == 1 && first->results[0].count == 2);
	assert_true(!first->results[1].event && first->results[1].state == JOB_READY);
	assert_true(first->results[2].event && first->results[2].job == 0 && first->results[2].count == 0);
	assert_true(first->results[3].event && first->results[3].job == 2 && first->results[3].count == 1);
	assert_int_equal(submitted(b), 4);
	for (int round = 0; round < 3; round++) {
		b->options.checkpoint_bytes = round == 1 ? 1 : 0;
		close_and_reopen(b);
		asking = (struct store_asking){.items = others, .count = 4, .note = "another", .known = true};
		again = wh_await(store_apply_asked(b->store, actions, 5, &asking, STORE_LOCAL, &key)).ptr;
		assert_true(again->error == 0 && again->replayed && again->count == 4);
		assert_string_equal((const char *)again->note, "a note");
		assert_true(again->events_from == first->events_from);
		assert_true(again->position.lsn == first->position.lsn);
		for (int i = 0; i < 4; i++) {
			assert_true(again->results[i].job == first->results[i].job);
			assert_true(again->results[i].count == first->results[i].count);
			assert_true(again->results[i].event == first->results[i].event);
			assert_true(again->results[i].state == first->results[i].state);
		}
		store_commit_free(again);
	}
	store_commit_free(first);
	assert_int_equal(submitted(b), 4);
	/* another number of things is another request; and without an answer of then there is none */
	asking.count = 3;
	again = wh_await(store_apply_asked(b->store, actions, 4, &asking, STORE_LOCAL, &key)).ptr;
	assert_int_equal(again->error, -JOB_EKEY);
	store_commit_free(again);
	asking.count = 4;
	again = wh_await(store_apply_asked(b->store, actions, 5, &asking, STORE_LOCAL, &empty)).ptr;
	assert_int_equal(again->error, -JOB_EBUSY);
	store_commit_free(again);
	/* what nobody wants is done under a key all the same */
	asking = (struct store_asking){.items = &items[2], .count = 1};
	for (int round = 0; round < 2; round++) {
		again = wh_await(store_apply_asked(b->store, NULL, 0, &asking, STORE_DEFAULT, &empty)).ptr;
		assert_true(again->error == 0 && again->count == 1 && again->replayed == (round > 0));
		assert_true(again->results[0].event && again->results[0].job == 0);
		assert_int_equal(again->level, STORE_LOCAL);
		store_commit_free(again);
		close_and_reopen(b);
	}
	again = wh_await(store_apply_asked(b->store, NULL, 0, &asking, STORE_LOCAL, NULL)).ptr;
	assert_true(again->error == 0 && again->results[0].event && !again->replayed);
	store_commit_free(again);
	asking.count = 0;
	assert_int_equal(wh_await(store_apply_asked(b->store, NULL, 0, &asking, STORE_LOCAL, NULL)).n,
	                 -JOB_EVALUE);
	assert_int_equal(submitted(b), 4);
	assert_int_equal(store_recount(b->store), 0);
}

/* Under way at the same time: the second waits for the first's commit. */
static void test_together(void **state)
{
	struct bench *b = *state;
	struct store_action action = submission("q", "x");
	struct store_key key = key_of("a", "x");
	wh_future f[4];
	uint64_t id = 0;

	for (int i = 0; i < 4; i++)
		f[i] = store_apply_once(b->store, &action, 1, i % 2 ? STORE_LOCAL : STORE_ASYNC, &key);
	for (int i = 0; i < 4; i++) {
		struct store_commit *commit = wh_await(f[i]).ptr;

		assert_int_equal(commit->error, 0);
		assert_int_equal(commit->replayed, i > 0);
		assert_true(id == 0 || commit->results[0].job == id);
		id = commit->results[0].job;
		store_commit_free(commit);
	}
	assert_int_equal(submitted(b), 1);
}

static void test_refused_is_not_kept(void **state)
{
	struct bench *b = *state;
	struct store_action put = {.kind = STORE_QUEUE_PUT,
	                           .queue = {.name = text("q"), .config.jobs_max = 1}};
	struct store_stats stats;
	uint64_t id;

	assert_int_equal(try(b, put), 0);
	id = submit(b, "q", "in the way");
	assert_int_equal(refusal(b, "a", "x", 1), -JOB_EQUEUE_FULL);
	store_stats(b->store, &stats);
	assert_int_equal(stats.keys, 0);
	assert_int_equal(try(b, (struct store_action){.kind = STORE_CANCEL, .job = id}), 0);
	first_id(b, "a", "x", 1, false);
	assert_int_equal(wh_await(store_apply_once(b->store, &put, 1, STORE_LOCAL, &(struct store_key){0})).n,
	                 -JOB_EVALUE);
}

static void test_bounded(void **state)
{
	struct bench *b = *state;
	struct store_stats stats;
	uint64_t first, second;

	b->options.keys_max = 2;
	close_and_reopen(b);
	first = first_id(b, "a", "x", 1, false);
	second = first_id(b, "b", "x", 1, false);
	assert_int_equal(refusal(b, "c", "x", 1), -JOB_EKEYS_FULL);
	assert_int_equal(first_id(b, "a", "x", 1, true), first);
	store_stats(b->store, &stats);
	assert_int_equal(stats.keys_refused, 1);
	/* fewer than there are: none is lost, and none is added */
	b->options.keys_max = 1;
	close_and_reopen(b);
	assert_int_equal(first_id(b, "b", "x", 1, true), second);
	assert_int_equal(refusal(b, "c", "x", 1), -JOB_EKEYS_FULL);
	assert_int_equal(submitted(b), 2);
	/* a time that is over for all of them makes room */
	b->options.keys_retention_ns = 1;
	close_and_reopen(b);
	assert_true(first_id(b, "a", "x", 1, false) > second);
	store_stats(b->store, &stats);
	assert_int_equal(stats.keys, 1);
	b->options.keys_retention_ns = 0;
	close_and_reopen(b);
	first_id(b, "a", "x", 1, true);
}

/* Many, of all lengths, while checkpoints are made; the newest of a name counts. */
static void test_checkpoints(void **state)
{
	enum { KEYS = 3000 };
	static uint64_t ids[KEYS];
	struct bench *b = *state;
	struct store_stats stats = {0};
	char name[STORE_KEY_MAX + 1];

	b->options.checkpoint_bytes = 32 << 10;
	close_and_reopen(b);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < KEYS; i++) {
			snprintf(name, sizeof(name), "%04d%0*d", i, 1 + i * 7 % (STORE_KEY_MAX - 5), 0);
			if (round == 0 && i % 2 == 0)
				continue;
			ids[i] = first_id(b, name, "x", 1 + (size_t)i % 3,
			                  round == 2 || (round == 1 && i % 2));
		}
		/* one was begun, and comes to its end */
		for (store_stats(b->store, &stats); round < 2 && stats.checkpoints == 0;
		     store_stats(b->store, &stats))
			assert_int_equal(wh_await(wh_sleep(b->loop, WH_NS_PER_MS)).n, 0);
		close_and_reopen(b);
	}
	store_stats(b->store, &stats);
	assert_int_equal(stats.keys, KEYS);
	for (int i = 0; i < KEYS; i++) {
		snprintf(name, sizeof(name), "%04d%0*d", i, 1 + i * 7 % (STORE_KEY_MAX - 5), 0);
		assert_int_equal(first_id(b, name, "x", 1 + (size_t)i % 3, true), ids[i]);
	}
	/* all of them old: each is replaced while checkpoints go on */
	b->options.keys_retention_ns = 1;
	close_and_reopen(b);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "%04d%0*d", i, 1 + i * 7 % (STORE_KEY_MAX - 5), 0);
		assert_true(first_id(b, name, "x", 1, false) > ids[KEYS - 1]);
	}
	b->options.keys_retention_ns = 0;
	close_and_reopen(b);
	store_stats(b->store, &stats);
	assert_true(stats.keys >= 1 && stats.keys <= 300);
	assert_int_equal(store_recount(b->store), 0);
}

/* Bodies in files: those of a repetition are not kept. */
static void test_bodies(void **state)
{
	struct bench *b = *state;
	struct store_action action = submission("q", "");
	struct store_stats stats;
	char *large = calloc(1, 300000);
	struct store_key key = key_of("a", "x");
	wh_future f[3];
	int replayed = 0;

	b->options.blob_bytes = 100000;
	close_and_reopen(b);
	action.submit.payload = (struct store_slice){large, 300000};
	for (int i = 0; i < 3; i++)
		f[i] = store_apply_once(b->store, &action, 1, STORE_LOCAL, &key);
	for (int i = 0; i < 3; i++) {
		struct store_commit *commit = wh_await(f[i]).ptr;

		assert_int_equal(commit->error, 0);
		replayed += commit->replayed;
		store_commit_free(commit);
	}
	assert_int_equal(replayed, 2);
	store_stats(b->store, &stats);
	assert_int_equal(stats.blobs, 1);
	assert_int_equal(submitted(b), 1);
	/* known: not even written */
	store_commit_free(wh_await(store_apply_once(b->store, &action, 1, STORE_LOCAL, &key)).ptr);
	store_stats(b->store, &stats);
	assert_int_equal(stats.blobs_written, 3);
	free(large);
}

static void test_fingerprints(void **state)
{
	struct bench *b = *state;
	uint8_t whole[STORE_FINGERPRINT_BYTES] = {0}, parts[STORE_FINGERPRINT_BYTES] = {0},
		body[STORE_FINGERPRINT_BYTES] = {0};
	struct store_body *streamed;

	store_key_mix(whole, "ab", 2);
	store_key_mix(parts, "a", 1);
	store_key_mix(parts, "b", 1);
	assert_memory_not_equal(whole, parts, sizeof(whole));
	assert_int_equal(store_body_open(b->store, -1, 0, &streamed), 0);
	assert_int_equal(wh_await(store_body_write(streamed, "before", 6)).n, 0);
	assert_int_equal(store_body_mark(streamed), 0);
	assert_int_equal(wh_await(store_body_write(streamed, "a", 1)).n, 0);
	assert_int_equal(wh_await(store_body_write(streamed, "b", 1)).n, 0);
	assert_int_equal(wh_await(store_body_end(streamed)).n, 8);
	store_key_mix_body(body, streamed);
	assert_memory_equal(whole, body, sizeof(whole));
	store_body_free(streamed);
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {ONE(test_once),
	                                   ONE(test_results),
	                                   ONE(test_events),
	                                   ONE(test_together),
	                                   ONE(test_refused_is_not_kept),
	                                   ONE(test_bounded),
	                                   ONE(test_checkpoints),
	                                   ONE(test_bodies),
	                                   ONE(test_fingerprints)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
