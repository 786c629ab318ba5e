/* tests/sim/test_sim_store.c -- the power goes at every disk call of a random life of the store.
 *
 * Jobs are submitted alone, in batches and in transactions, reserved, completed, failed, cancelled, at both levels and
 * many at a time. After each crash, for each kind of damage to what was not flushed, the store is opened again and must
 * keep the invariants of the durability contract: I1 what was acknowledged at a level survives what the level promises
 * to survive; I2, I10 the published end of each epoch says of every acknowledged commit whether it survived; I3 a batch
 * survives whole or not at all; I4 a completion that survived is not undone, and its result is what was given; I5 no job in
 * two states, counters as recounted; I6 no id is given twice; I7 recovering twice gives the same; I8 it starts.
 *
 * In the gate, calls are skipped so that it takes seconds; STORE_CRASH_ALL=1 takes every one, STORE_CRASH_SEEDS=n lives.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/inside.h"
#include "whilst/sim.h"

enum { OPS_MAX = 2000, JOBS_MAX = 4000, OUTSTANDING_MAX = 24, STEPS = 90 };

enum op_kind { OP_SUBMIT, OP_COMPLETE, OP_BOTH, OP_CANCEL, OP_FAIL, OP_RESERVE };

struct op {
	int kind;
	bool acked, open;
	int error, level;
	wh_future future;
	struct store_position position;
	size_t first, count; /* jobs submitted: in ids[] once acked */
	uint64_t job;        /* completed, cancelled, failed */
	uint32_t tag;
	int life;
};

struct model {
	struct op ops[OPS_MAX];
	size_t ops_count;
	uint64_t ids[JOBS_MAX];
	uint32_t tags[JOBS_MAX]; /* what the payload is made of */
	size_t ids_count;
	uint64_t id_max;
	struct store_leased held[64];
	size_t held_count;
	uint64_t seed;
	int life;
};

static const int damages[] = {WH_SIM_RANDOM, WH_SIM_KEEP_NEW, WH_SIM_KEEP_OLD,
                              WH_SIM_ZERO,   WH_SIM_GARBAGE,  WH_SIM_KILLED};
enum { DAMAGES = sizeof(damages) / sizeof(damages[0]) };

static struct model model;
static wh_loop *loop;
static struct store *store;
static char context[160];
static uint64_t recoveries, acked, lost_async;

#define CHECK(condition)                                         \
	do {                                                     \
		if (!(condition))                                \
			fail_msg("%s: %s", context, #condition); \
	} while (0)

static uint64_t environment(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 10) : otherwise;
}

static uint32_t below(uint32_t n)
{
	uint64_t z = (model.seed += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t)((z ^ (z >> 31)) % n);
}

/* A body that its tag tells: length and every byte. */
static struct store_slice body_of(uint32_t tag, uint8_t *to)
{
	size_t len = tag % 13 == 0 ? 3000 : tag % 200;

	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)(tag * 31 + i);
	return (struct store_slice){to, len};
}

static bool open_store(wh_sim *sim)
{
	/* a simulated machine is off for about an hour: nothing is to end by time alone in between */
	const int64_t day = 86400 * WH_NS_PER_S;
	struct store_options options = {.directory = "data",
	                                .recent_bytes = 8192,
	                                .segment_bytes = 256 << 10,
	                                .defaults = {.time_to_run_ns = 10 * day, .retention_ns = 30 * day}};
	struct store_problem problem;
	int error;

	store = NULL;
	loop = NULL;
	CHECK(wh_loop_open(&loop, &(struct wh_loop_options){.engine = WH_SIM, .sim = sim}) == 0);
	error = store_open(loop, &options, &store, &problem);
	if (error == 0)
		return true;
	if (wh_sim_has_power(sim))
		fail_msg("%s: does not start: %s", context, problem.text);
	loop = wh_loop_close(loop);
	return false;
}

static void close_store(void)
{
	store_close(store);
	store = NULL;
	loop = wh_loop_close(loop);
}

/* ---- a life ------------------------------------------------------------------------------ */

static struct op *new_op(int kind, int level)
{
	struct op *op;

	if (model.ops_count == OPS_MAX)
		return NULL;
	op = &model.ops[model.ops_count++];
	*op = (struct op){
		.kind = kind, .open = true, .level = level, .life = model.life, .tag = below(1 << 20)};
	return op;
}

static int any_level(void)
{
	return below(2) ? STORE_ASYNC : STORE_LOCAL;
}

static void op_submit(void)
{
	struct op *op = new_op(OP_SUBMIT, any_level());
	struct store_submit options = {.queue = STORE_SLICE("q"), .priority = below(3)};
	static uint8_t bytes[8][4096];
	struct store_slice payloads[8];

	if (!op)
		return;
	op->count = below(3) ? 1 : 2 + below(6);
	for (uint32_t i = 0; i < op->count; i++)
		payloads[i] = body_of(op->tag + i, bytes[i]);
	op->future = store_submit_many(store, &options, payloads, op->count, op->level);
}

static void op_reserve(void)
{
	struct op *op = new_op(OP_RESERVE, any_level());
	struct store_slice name = STORE_SLICE("q");
	struct store_reserve reserve = {.queues = &name, .queues_count = 1, .jobs_max = 1 + below(3)};

	if (!op)
		return;
	reserve.level = op->level;
	op->future = store_reserve(store, &reserve);
}

static void op_with_lease(void)
{
	uint32_t dice = below(8);
	struct op *op;
	struct store_action actions[2] = {0};
	static uint8_t result[4096], payload[4096];
	struct store_leased job;

	if (model.held_count == 0)
		return;
	op = new_op(dice < 5 ? OP_COMPLETE : dice < 6 ? OP_BOTH : OP_FAIL, any_level());
	if (!op)
		return;
	job = model.held[--model.held_count];
	op->job = job.job;
	actions[0] = (struct store_action){.kind = STORE_COMPLETE, .job = job.job, .lease = job.lease};
	actions[0].complete.bytes = body_of(op->tag, result);
	if (op->kind == OP_FAIL) {
		actions[0].kind = STORE_FAIL;
		actions[0].fail.error = (struct store_slice){"broken", 6};
		actions[0].fail.no_retry = below(2);
		actions[0].fail.delay_set = true;
		actions[0].fail.delay_ns = 0;
	}
	if (op->kind == OP_BOTH) {
		op->count = 1;
		actions[1].kind = STORE_SUBMIT;
		actions[1].submit.queue = (struct store_slice){"r", 1};
		actions[1].submit.payload = body_of(op->tag + 1, payload);
	}
	op->future = store_apply(store, actions, op->kind == OP_BOTH ? 2 : 1, 0, op->level);
}

static void op_cancel(void)
{
	struct op *op;
	struct store_action action = {.kind = STORE_CANCEL};

	if (model.ids_count == 0)
		return;
	op = new_op(OP_CANCEL, any_level());
	if (!op)
		return;
	action.job = op->job = model.ids[below((uint32_t)model.ids_count)];
	op->future = store_apply(store, &action, 1, 0, op->level);
}

static void take_lot(struct op *op, struct store_lot *lot)
{
	static uint8_t expected[4096];

	for (size_t i = 0; lot && i < lot->count; i++) {
		const struct store_leased *job = &lot->jobs[i];

		for (size_t k = 0; k < model.ids_count; k++) {
			if (model.ids[k] == job->job && job->payload) {
				struct store_slice body = body_of(model.tags[k], expected);
				CHECK(job->payload->body.len == body.len);
				CHECK(body.len == 0 ||
				      memcmp(job->payload->body.data, body.data, body.len) == 0);
			}
		}
		for (size_t k = 0; k < model.held_count; k++)
			CHECK(model.held[k].job != job->job || model.held[k].lease.claim < job->lease.claim);
		if (model.held_count < 64) {
			model.held[model.held_count] = *job;
			model.held[model.held_count++].payload = NULL;
		}
	}
	if (lot)
		op->position = lot->position;
	store_lot_free(lot);
}

static void take_commit(struct op *op, struct store_commit *commit)
{
	uint32_t tag = op->kind == OP_BOTH ? op->tag + 1 : op->tag;
	size_t first = op->kind == OP_BOTH ? 1 : 0;

	op->error = commit->error;
	op->level = commit->level;
	op->position = commit->position;
	if (commit->error == 0) {
		op->first = model.ids_count;
		for (uint32_t i = 0; i < op->count && model.ids_count < JOBS_MAX; i++) {
			uint64_t id = commit->results[first + i].job;

			for (size_t k = 0; k < model.ids_count; k++)
				CHECK(model.ids[k] != id); /* I6 */
			model.ids[model.ids_count] = id;
			model.tags[model.ids_count++] = tag + i;
			model.id_max = id > model.id_max ? id : model.id_max;
		}
	}
	store_commit_free(commit);
}

/* Whatever has been answered. */
static void collect(bool wait_for_first)
{
	for (size_t i = 0; i < model.ops_count; i++) {
		struct op *op = &model.ops[i];
		wh_res res;

		if (!op->open || op->life != model.life)
			continue;
		if (wait_for_first)
			res = wh_await(op->future);
		else if (!wh_poll(op->future, &res))
			continue;
		wait_for_first = false;
		op->open = false;
		if (res.n < 0) {
			op->error = (int)res.n;
			continue;
		}
		op->acked = true;
		acked++;
		if (op->kind == OP_RESERVE)
			take_lot(op, res.ptr);
		else
			take_commit(op, res.ptr);
	}
}

static size_t outstanding(void)
{
	size_t n = 0;

	for (size_t i = 0; i < model.ops_count; i++)
		n += model.ops[i].open && model.ops[i].life == model.life;
	return n;
}

static void live(void)
{
	for (int i = 0; i < STEPS; i++) {
		uint32_t dice = below(16);

		if (dice < 6)
			op_submit();
		else if (dice < 10)
			op_reserve();
		else if (dice < 14)
			op_with_lease();
		else
			op_cancel();
		if (below(3) == 0 && wh_loop_turn(loop, 0) < 0)
			break;
		collect(outstanding() >= OUTSTANDING_MAX || below(8) == 0);
		if (below(25) == 0)
			wh_await(wh_sleep(loop, below(30) * WH_NS_PER_MS));
	}
}

/* What is still on its way when the store is closed: some of it is answered by then. */
static void end_life(wh_sim *sim)
{
	(void)sim;
	store_close(store);
	store = NULL;
	collect(false);
	loop = wh_loop_close(loop);
	for (size_t i = 0; i < model.ops_count; i++)
		model.ops[i].open = false;
}

/* ---- what must hold afterwards ----------------------------------------------------------- */

static bool survived(const struct store_log *log, const struct op *op)
{
	for (size_t i = 0; i < log->epochs_count; i++)
		if (log->epochs[i].epoch == op->position.epoch)
			return op->position.lsn <= log->epochs[i].end;
	fail_msg("%s: epoch %u is not known", context, op->position.epoch);
	return false;
}

static void check_result(uint64_t job, uint32_t tag)
{
	static uint8_t expected[4096];
	struct store_slice body = body_of(tag, expected);
	wh_res res = wh_await(store_result(store, job, STORE_LOCAL));
	struct store_bytes *bytes = res.ptr;

	CHECK(res.n == (int64_t)body.len);
	CHECK(body.len == 0 || memcmp(bytes->body.data, body.data, body.len) == 0);
	store_bytes_unref(bytes);
}

static void check_submit(const struct op *op, bool there)
{
	struct job_info info;

	for (size_t i = 0; i < op->count; i++)
		CHECK((job_look(store->jobs, model.ids[op->first + i], &info) == 0) ==
		      there); /* I1, I3, I10 */
}

static void check_payloads(void)
{
	static uint8_t expected[4096];

	for (size_t k = 0; k < model.ids_count; k += 5) {
		struct store_slice body = body_of(model.tags[k], expected);
		wh_res res = wh_await(store_payload(store, model.ids[k], STORE_LOCAL));
		struct store_bytes *bytes = res.ptr;

		if (res.n < 0) {
			CHECK(res.n == -JOB_EUNKNOWN_JOB);
			continue;
		}
		CHECK(bytes->body.len == body.len);
		CHECK(body.len == 0 || memcmp(bytes->body.data, body.data, body.len) == 0);
		store_bytes_unref(bytes);
	}
}

static void check_all(bool killed)
{
	struct store_log *log = wh_await(store_log(store)).ptr;
	struct job_info info;

	for (size_t i = 0; i < model.ops_count; i++) {
		const struct op *op = &model.ops[i];
		bool there;

		if (!op->acked || op->error != 0 || op->kind == OP_RESERVE)
			continue;
		there = survived(log, op);
		CHECK(there || op->level == STORE_ASYNC); /* I1 */
		CHECK(there || !killed ||
		      op->life < model.life); /* I1: async survives the end of the process */
		lost_async += !there;
		if (op->kind == OP_SUBMIT || op->kind == OP_BOTH)
			check_submit(op, there);
		if (op->kind == OP_COMPLETE || op->kind == OP_BOTH) {
			bool done = job_look(store->jobs, op->job, &info) == 0 && info.state == JOB_DONE;

			CHECK(done || !there); /* I4 */
			if (there && i % 3 == 0)
				check_result(op->job, op->tag);
		}
	}
	check_payloads();
	CHECK(store_recount(store) == 0); /* I5 */
	store_log_free(log);
	recoveries++;
}

/* I6: an id that is given now was never given. */
static void check_new_id(void)
{
	struct store_submit submit = {.queue = STORE_SLICE("new")};
	wh_res res = wh_await(store_submit(store, &submit, STORE_LOCAL));
	struct store_commit *commit = res.ptr;

	CHECK(res.n == 0 && commit->error == 0);
	CHECK(commit->results[0].job > model.id_max);
	model.id_max = commit->results[0].job;
	store_commit_free(commit);
}

/* What was lost is gone for the lives to come as well; its answers are no promise any more. */
static void forget_lost(void)
{
	struct store_log *log = wh_await(store_log(store)).ptr;
	size_t kept = 0;

	for (size_t i = 0; i < model.ops_count; i++)
		if (model.ops[i].acked && model.ops[i].error == 0 && model.ops[i].kind != OP_RESERVE &&
		    survived(log, &model.ops[i]))
			model.ops[kept++] = model.ops[i];
	model.ops_count = kept;
	store_log_free(log);
}

/* ---- runs -------------------------------------------------------------------------------- */

static wh_sim *new_machine(uint64_t seed, uint64_t crash_at)
{
	wh_sim *sim = NULL;

	CHECK(wh_sim_open(&sim, &(struct wh_sim_options){.seed = seed, .crash_at_io = crash_at}) == 0);
	model = (struct model){.seed = seed};
	return sim;
}

/* true: the life came to its end with the power on. */
static bool one_life(wh_sim *sim)
{
	model.life++;
	model.held_count = 0;
	if (!open_store(sim))
		return false;
	live();
	end_life(sim);
	return wh_sim_has_power(sim);
}

/* The same for the same jobs in the same states. */
static uint64_t fingerprint(void)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < model.ids_count; i++) {
		struct job_info info = {0};
		int error = job_look(store->jobs, model.ids[i], &info);
		uint64_t words[] = {model.ids[i], (uint64_t)-error, info.state,       info.attempts,
		                    info.place,   info.error_place, info.lease.claim, (uint64_t)info.when_ms};

		for (size_t k = 0; k < sizeof(words) / sizeof(words[0]); k++)
			sum = (sum ^ words[k]) * UINT64_C(0x100000001b3);
	}
	return sum;
}

/* Open after a crash: everything is checked, twice. */
static void recover(wh_sim *sim, bool killed)
{
	uint64_t before;

	model.life++;
	if (!open_store(sim))
		fail_msg("%s: no power", context);
	check_all(killed);
	check_new_id();
	forget_lost();
	before = fingerprint();
	wh_sim_power_cut(sim);
	close_store();
	CHECK(wh_sim_restart(sim, NULL, WH_SIM_RANDOM) == 0);
	model.life++;
	CHECK(open_store(sim));
	CHECK(fingerprint() == before); /* I7 */
	check_all(false);
	close_store();
}

static uint64_t calls_of_lives(uint64_t seed)
{
	wh_sim *sim = new_machine(seed, 0);
	uint64_t calls;

	snprintf(context, sizeof(context), "seed %llu, no crash", (unsigned long long)seed);
	CHECK(one_life(sim) && one_life(sim));
	calls = wh_sim_io_count(sim);
	wh_sim_close(sim);
	return calls;
}

static void crash_at(uint64_t seed, uint64_t k, int damage)
{
	wh_sim *sim = new_machine(seed, k);

	snprintf(context, sizeof(context), "seed %llu, crash at call %llu, damage %d",
	         (unsigned long long)seed, (unsigned long long)k, damage);
	if (one_life(sim))
		one_life(sim);
	wh_sim_power_cut(sim);
	CHECK(wh_sim_restart(sim, &(struct wh_sim_options){.seed = seed ^ k}, damage) == 0);
	recover(sim, damage == WH_SIM_KILLED);
	/* and a life after it, which must not be mixed up with what was lost */
	CHECK(one_life(sim));
	recover(sim, true);
	wh_sim_close(sim);
}

static void a_crash_at_every_call(void **state)
{
	bool all = environment("STORE_CRASH_ALL", 0) != 0;
	uint64_t seeds = environment("STORE_CRASH_SEEDS", 2);

	(void)state;
	for (uint64_t seed = 1; seed <= seeds; seed++) {
		uint64_t calls = calls_of_lives(seed), stride = all ? 1 : 7;

		print_message("seed %llu: %llu disk calls\n", (unsigned long long)seed,
		              (unsigned long long)calls);
		CHECK(calls > 50);
		for (uint64_t i = 0; i < DAMAGES; i++)
			for (uint64_t k = 1 + (i + seed) % stride; k <= calls; k += stride)
				crash_at(seed, k, damages[i]);
	}
	print_message("%llu recoveries, %llu acknowledged, %llu asynchronous ones lost as published\n",
	              (unsigned long long)recoveries, (unsigned long long)acked,
	              (unsigned long long)lost_async);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_crash_at_every_call)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
