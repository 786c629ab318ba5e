/* tests/unit/test_store_many.c -- what is done to many jobs at once, step by step, and lists of them. */
#include "store_support.h"

static void fill(struct bench *b, const char *queue, size_t count, int64_t delay_ns, bool buried)
{
	struct store_submit options = {.queue = text(queue), .delay_ns = delay_ns, .buried = buried};
	struct store_slice *payloads = calloc(count, sizeof(*payloads));
	wh_res res;

	for (size_t at = 0; at < count; at += 10000) {
		res = wh_await(store_submit_many(b->store, &options, payloads,
		                                 count - at < 10000 ? count - at : 10000, STORE_LOCAL));
		assert_int_equal(res.n, 0);
		assert_int_equal(((struct store_commit *)res.ptr)->error, 0);
		store_commit_free(res.ptr);
	}
	free(payloads);
}

static uint64_t in_state(struct bench *b, const char *queue, int state)
{
	struct store_queue_view view;

	assert_int_equal(store_queue_now(b->store, text(queue), &view), 0);
	return view.jobs[state];
}

static uint64_t many(struct bench *b, struct store_many what)
{
	wh_res res = wh_await(store_do_many(b->store, &what));
	struct store_commit *commit = res.ptr;
	uint64_t count;

	assert_int_equal(res.n, 0);
	assert_int_equal(commit->level, STORE_LOCAL);
	assert_true(commit->position.lsn > 0);
	count = commit->results[0].count;
	store_commit_free(commit);
	return count;
}

#define READY     (1u << JOB_READY)
#define DELAYED   (1u << JOB_DELAYED)
#define BURIED    (1u << JOB_BURIED)
#define CANCELLED (1u << JOB_CANCELLED)
#define ANY       (~1u)

static void test_cancel(void **state)
{
	struct bench *b = *state;

	fill(b, "a", 30000, 0, false);
	fill(b, "a", 2000, 3600 * WH_NS_PER_S, false);
	fill(b, "a", 1000, 0, true);
	fill(b, "b", 500, 0, false);
	assert_int_equal(
		many(b, (struct store_many){.kind = STORE_CANCEL, .queue = text("a"), .states = BURIED}),
		1000);
	assert_int_equal(many(b, (struct store_many){.kind = STORE_CANCEL,
	                                             .queue = text("a"),
	                                             .states = READY | DELAYED,
	                                             .id_min = 11,
	                                             .id_max = 20}),
	                 10);
	assert_int_equal(many(b, (struct store_many){.kind = STORE_CANCEL,
	                                             .queue = text("a"),
	                                             .states = READY,
	                                             .count_max = 990}),
	                 990);
	assert_int_equal(in_state(b, "a", JOB_READY), 29000);
	assert_int_equal(many(b, (struct store_many){.kind = STORE_CANCEL,
	                                             .queue = text("a"),
	                                             .states = READY | DELAYED}),
	                 31000);
	assert_int_equal(in_state(b, "a", JOB_CANCELLED), 33000);
	assert_int_equal(in_state(b, "b", JOB_READY), 500);
	assert_int_equal(
		many(b, (struct store_many){.kind = STORE_DELETE, .queue = text("a"), .states = CANCELLED}),
		33000);
	assert_int_equal(in_state(b, "a", JOB_CANCELLED), 0);
	assert_int_equal(
		many(b, (struct store_many){.kind = STORE_DELETE, .queue = text("a"), .states = CANCELLED}),
		0);
	assert_int_equal(store_recount(b->store), 0);
	close_and_reopen(b);
	assert_int_equal(in_state(b, "a", JOB_CANCELLED) + in_state(b, "a", JOB_READY), 0);
	assert_int_equal(in_state(b, "b", JOB_READY), 500);
}

static void test_kick(void **state)
{
	struct bench *b = *state;
	struct store_many kick = {.kind = STORE_KICK, .queue = text("a")};
	uint64_t soon[10];

	fill(b, "a", 6000, 7200 * WH_NS_PER_S, false);
	for (int i = 0; i < 10; i++) { /* the soonest, out of order */
		struct store_action action = submission("a", "soon");
		struct store_commit *commit;

		action.submit.delay_ns = (i * 7 % 10 + 100) * WH_NS_PER_S;
		commit = apply(b, action, STORE_LOCAL);
		soon[i * 7 % 10] = commit->results[0].job;
		store_commit_free(commit);
	}
	fill(b, "a", 2500, 0, true);
	/* buried ones, and nothing else while there are some */
	kick.count_max = 1000;
	assert_int_equal(many(b, kick), 1000);
	kick.count_max = 9000;
	assert_int_equal(many(b, kick), 1500);
	assert_int_equal(in_state(b, "a", JOB_DELAYED), 6010);
	/* then delayed ones, soonest first */
	kick.count_max = 4;
	assert_int_equal(many(b, kick), 4);
	for (int i = 0; i < 10; i++)
		assert_int_equal(store_state(b->store, soon[i]), i < 4 ? JOB_READY : JOB_DELAYED);
	kick.count_max = 5500;
	assert_int_equal(many(b, kick), 5500);
	kick.count_max = 0;
	assert_int_equal(many(b, kick), 506);
	assert_int_equal(many(b, kick), 0);
	assert_int_equal(in_state(b, "a", JOB_READY), 8510);
	kick.states = BURIED;
	fill(b, "a", 10, 0, true);
	fill(b, "a", 10, 3600 * WH_NS_PER_S, false);
	kick.states = DELAYED;
	assert_int_equal(many(b, kick), 10);
	assert_int_equal(in_state(b, "a", JOB_BURIED), 10);
	kick.states = DELAYED | BURIED;
	assert_int_equal(many(b, kick), 10);
	assert_int_equal(store_recount(b->store), 0);
}

/* Others are served meanwhile, what comes later is left alone, and who gives up stops it. */
static void test_in_steps(void **state)
{
	struct bench *b = *state;
	struct store_many purge = {.kind = STORE_CANCEL, .queue = text("a"), .states = READY};
	wh_future f;
	uint64_t later, left;
	wh_res res;

	fill(b, "a", 50000, 0, false);
	f = store_do_many(b->store, &purge);
	later = submit(b, "a", "later");
	assert_false(wh_done(f)); /* a submit was committed in between */
	res = wh_await(f);
	assert_int_equal(res.n, 0);
	store_commit_free(res.ptr);
	assert_int_equal(in_state(b, "a", JOB_READY), 1);
	assert_int_equal(store_state(b->store, later), JOB_READY);
	fill(b, "a", 50000, 0, false);
	f = store_do_many(b->store, &purge);
	do {
		assert_int_equal(wh_loop_turn(b->loop, 0), 0);
	} while (in_state(b, "a", JOB_READY) == 50001);
	wh_cancel(f);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	left = in_state(b, "a", JOB_READY);
	assert_true(left > 0 && left < 50001);
	submit(b, "b", "x");
	assert_int_equal(in_state(b, "a", JOB_READY), left);
	/* and the end of the store */
	f = store_do_many(b->store, &purge);
	assert_int_equal(store_close(b->store), 0);
	assert_int_equal(wh_await(f).n, -ECANCELED);
	reopen(b);
	assert_true(in_state(b, "a", JOB_READY) > 0);
	many(b, purge);
	assert_int_equal(in_state(b, "a", JOB_READY), 0);
	assert_int_equal(store_recount(b->store), 0);
}

static struct store_list *list(struct bench *b, const char *queue, unsigned states, uint32_t after,
                               uint32_t max)
{
	wh_res res = wh_await(store_list(b->store, text(queue), states, after, max));
	struct store_list *l = res.ptr;

	assert_true(res.n >= 0 && l->count == (size_t)res.n && l->count <= max);
	return l;
}

static void test_list(void **state)
{
	struct bench *b = *state;
	static bool seen[30001];
	struct store_list *l;
	struct store_leased job;
	uint32_t after = 0, pages = 0;
	size_t count = 0;

	fill(b, "a", 20000, 0, false);
	fill(b, "b", 5000, 0, false);
	fill(b, "a", 300, 0, true);
	job = reserve_one(b, "b");
	do {
		l = list(b, "a", ANY, after, 1000);
		for (size_t i = 0; i < l->count; i++) {
			assert_true(l->jobs[i].job <= 25300 && !seen[l->jobs[i].job]);
			assert_true(l->jobs[i].state == JOB_READY || l->jobs[i].state == JOB_BURIED);
			seen[l->jobs[i].job] = true;
			count++;
		}
		after = l->next;
		store_list_free(l);
		pages++;
	} while (after != 0);
	assert_int_equal(count, 20300);
	assert_true(pages >= 21);
	l = list(b, "a", BURIED, 0, 1000);
	assert_int_equal(l->count, 300);
	store_list_free(l);
	l = list(b, "b", 1u << JOB_RUNNING, 0, 10);
	assert_int_equal(l->count, 1);
	assert_true(l->jobs[0].job == job.job && l->jobs[0].at == job.deadline && l->jobs[0].attempts == 1);
	store_list_free(l);
	l = list(b, "b", 1u << JOB_FAILED, 0, 10);
	assert_int_equal(l->count, 0);
	store_list_free(l);
	(void)wh_drop(store_list(b->store, text("a"), BURIED, 0, 10));
}

static void test_refused(void **state)
{
	struct bench *b = *state;
	struct store_many bad = {.kind = STORE_CANCEL, .queue = text("nowhere"), .states = READY};

	assert_int_equal(wh_await(store_do_many(b->store, &bad)).n, -JOB_EUNKNOWN_QUEUE);
	assert_int_equal(wh_await(store_list(b->store, bad.queue, ANY, 0, 1)).n, -JOB_EUNKNOWN_QUEUE);
	submit(b, "a", "x");
	bad.queue = text("a");
	bad.states = 0;
	assert_int_equal(wh_await(store_do_many(b->store, &bad)).n, -JOB_EVALUE);
	bad.states = 1u << JOB_DONE;
	assert_int_equal(wh_await(store_do_many(b->store, &bad)).n, -JOB_EVALUE);
	bad.kind = STORE_SUBMIT;
	assert_int_equal(wh_await(store_do_many(b->store, &bad)).n, -JOB_EVALUE);
	assert_int_equal(wh_await(store_list(b->store, bad.queue, ANY, 0, 0)).n, -JOB_EVALUE);
	assert_int_equal(wh_await(store_list(b->store, bad.queue, ANY, 0, 1001)).n, -JOB_EVALUE);
}

#define ONE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {ONE(test_cancel), ONE(test_kick), ONE(test_in_steps),
	                                   ONE(test_list), ONE(test_refused)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
