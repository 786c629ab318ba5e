/* tests/sim/store_model.h -- what the tests of the store on simulated machines remember of it, and what must hold after a
 * recovery.
 *
 * A model keeps, for each change, the jobs that it moves and, once it is answered, its position and the level reached.
 * After each recovery the published ends of the epochs say which changes are there, and every job must be in the state
 * that follows (I2, I10); a change answered at a level is there whenever that level promises so, and what a read has
 * shown is, too (I1, I4); a change that was not answered is there for all of its jobs or for none (I3); counters
 * agree with a recount and with the model (I5); ids and leases only rise (I6); what a recovery has shown stays (I7);
 * a crash is never reported as damage (I8).
 *
 * Included by test_sim_lives.c, which makes the changes.
 */
#ifndef WH_TESTS_SIM_STORE_MODEL_H
#define WH_TESTS_SIM_STORE_MODEL_H

#include "plan.h"

#include "store/store.h"

enum {
	JOBS_MAX = 800,
	OPS_MAX = 600,
	OP_JOBS_MAX = 8,
	BURST_MAX = 6,
	PAYLOAD_MAX = 3000,
	STEPS = 12, /* of one life */
	LIVES = 3,
	QUEUES = 3,
	PROBE = 60, /* ids beyond the highest known one that are looked for after a crash */
	ID_RANGE = 65536,
	STARTS_MAX = 16,
	NONE = -1,
};

#define DAY (86400 * WH_NS_PER_S)

static const char *const queue_names[QUEUES] = {"alpha", "beta", "gamma"};

struct job {
	uint64_t id; /* 0: its submission was never answered */
	int queue;
	int state; /* enum job_state, as far as is known; JOB_NONE: gone, or never there */
	int base;  /* .. at the last recovery */
	int op;    /* the newest change of it that no recovery has judged, NONE: all have been */
	bool busy; /* in a change that is not answered yet */
	struct job_lease lease, lease_highest;
	uint32_t made_by, made_index; /* what its payload says */
};

struct op {
	int kind; /* STORE_..., RESERVE */
	int count;
	int jobs[OP_JOBS_MAX], before[OP_JOBS_MAX], after[OP_JOBS_MAX];
	struct job_lease leases[OP_JOBS_MAX]; /* that a reservation gave */
	bool answered, refused, revealed;
	int level;
	struct store_position position;
	int there; /* after a recovery: 1, 0; NONE: not known */
	int number;
};
enum { RESERVE = 100, SUBMIT_MANY, HAND_OVER };

static wh_sim *sim;
static wh_loop *loop;
static struct store *store;
static struct job jobs[JOBS_MAX];
static int jobs_count;
static struct op ops[OPS_MAX];
static int ops_count, ops_judged;      /* at the last recovery */
static uint64_t id_highest, id_judged; /* at the last recovery */
static bool failed;                    /* the store said so */
static uint64_t refusals;
/* Where ranges of ids may begin, modulo ID_RANGE; the first is that of an empty store. */
static uint64_t starts[STARTS_MAX];
static size_t starts_count;

/* ---- payloads that can be recognised ------------------------------------------------------- */

static size_t payload_of(int made_by, int index, char to[PAYLOAD_MAX + 1])
{
	size_t len = (size_t)snprintf(to, PAYLOAD_MAX, "%" PRIu64 "/%d/%d/", plan.seed, made_by, index);
	size_t end = len + (size_t)(made_by * 7919 + index * 104729) % ((made_by % 4) ? 60 : 2500);
	for (; len < end; len++)
		to[len] = (char)('a' + (len * 31 + (size_t)made_by) % 26);
	return len;
}

/* What the completion of a job says. The slice lasts until the next call. */
static struct store_slice result_of(const struct job *job)
{
	static char text[PAYLOAD_MAX];
	size_t len = (size_t)snprintf(text, sizeof text, "result of %" PRIu64, job->id);
	size_t end = job->id % 3 ? len : len + job->id % 1999;
	for (; len < end; len++)
		text[len] = (char)('a' + (len * 17 + job->id) % 26);
	return (struct store_slice){text, len};
}

/* A body, wherever it is: in its record, or in a file that is read in pieces. It lasts until the next call. Result: its length, or
 * why it cannot be had. */
static int64_t body_of(struct store_bytes *bytes, struct store_slice *ret)
{
	static char text[PAYLOAD_MAX + 1];
	struct store_reader *reader;
	wh_res res;

	*ret = bytes->body;
	if (bytes->blob.number == 0)
		return (int64_t)bytes->bytes;
	*ret = (struct store_slice){text, 0};
	res.n = store_reader_open(store, bytes, &reader);
	if (res.n < 0)
		return res.n;
	res = wh_await(store_reader_check(reader));
	while (res.n > 0 && (res = wh_await(store_reader_next(reader))).n > 0) {
		must(ret->len + (size_t)res.n <= PAYLOAD_MAX, "a body of more than %d bytes", PAYLOAD_MAX);
		memcpy(text + ret->len, res.ptr, (size_t)res.n);
		ret->len += (size_t)res.n;
	}
	store_reader_free(reader);
	return res.n < 0 ? res.n : (int64_t)ret->len;
}

static void check_payload(const struct job *job, struct store_slice body)
{
	char expected[PAYLOAD_MAX + 1];
	size_t len = payload_of((int)job->made_by, (int)job->made_index, expected);
	must(body.len == len && !memcmp(body.data, expected, len), "payload of job %" PRIu64, job->id);
}

/* ---- the model ---------------------------------------------------------------------------- */

static int job_new(int queue, int made_by, int index)
{
	must(jobs_count < JOBS_MAX, "too many jobs");
	jobs[jobs_count] = (struct job){.queue = queue,
	                                .state = JOB_NONE,
	                                .base = JOB_NONE,
	                                .op = NONE,
	                                .made_by = (uint32_t)made_by,
	                                .made_index = (uint32_t)index};
	return jobs_count++;
}

static struct op *op_new(int kind)
{
	if (ops_count == OPS_MAX || jobs_count + OP_JOBS_MAX > JOBS_MAX)
		return NULL;
	struct op *op = &ops[ops_count];
	*op = (struct op){.kind = kind, .there = NONE, .number = ops_count};
	ops_count++;
	return op;
}

static void op_moves(struct op *op, int at, int after)
{
	jobs[at].busy = true;
	op->jobs[op->count] = at;
	op->before[op->count] = jobs[at].state;
	op->after[op->count] = after;
	op->count++;
}

/* The answer has come: its jobs have moved. */
static void op_done(struct op *op, int level, struct store_position position)
{
	op->answered = true;
	op->level = level;
	op->position = position;
	for (int i = 0; i < op->count; i++) {
		struct job *job = &jobs[op->jobs[i]];
		job->busy = false;
		job->state = op->after[i];
		job->op = op->number;
	}
}

static void op_refused(struct op *op)
{
	op->answered = op->refused = true;
	for (int i = 0; i < op->count; i++)
		jobs[op->jobs[i]].busy = false;
	refusals++;
}

/* An unlocked job in one of the states, by chance. */
static int pick(unsigned states)
{
	if (jobs_count == 0)
		return NONE;
	int from = (int)chance((uint64_t)jobs_count);
	for (int i = 0; i < jobs_count; i++) {
		int at = (from + i) % jobs_count;
		if (!jobs[at].busy && jobs[at].id && states >> jobs[at].state & 1)
			return at;
	}
	return NONE;
}

static bool lease_is_older(struct job_lease lease, struct job_lease than)
{
	return lease.epoch < than.epoch || (lease.epoch == than.epoch && lease.claim < than.claim);
}

/* No lease is ever like one that was given before, not even like one that is lost. */
static void lease_seen(struct job *job, struct job_lease lease)
{
	const struct job_lease *highest = &job->lease_highest;
	must(lease_is_older(*highest, lease), "lease %u.%" PRIu64 " of job %" PRIu64 " after %u.%" PRIu64,
	     lease.epoch, lease.claim, job->id, highest->epoch, highest->claim);
	job->lease = job->lease_highest = lease;
}

static void id_seen(struct job *job, uint64_t id)
{
	for (int i = 0; i < jobs_count; i++)
		must(jobs[i].id != id, "id %" PRIu64 " was given before", id);
	job->id = id;
	if (id > id_highest)
		id_highest = id;
}

/* ---- what must hold after a recovery ------------------------------------------------------- */

static uint64_t end_of(const struct store_log *log, uint32_t epoch)
{
	for (size_t i = 0; i < log->epochs_count; i++)
		if (log->epochs[i].epoch == epoch)
			return log->epochs[i].end;
	must(false, "no end of epoch %u", epoch);
	return 0;
}

/* Which changes are there, as far as their positions say. */
static void judge_ops(bool killed)
{
	wh_res res = wh_await(store_log(store));
	must(res.n == 0, "%s", wh_strerror(res.n));
	struct store_log *log = res.ptr;
	for (int i = 0; i < ops_count; i++) {
		struct op *op = &ops[i];
		if (!op->answered || op->refused || op->count == 0)
			continue;
		bool there = op->position.lsn <= end_of(log, op->position.epoch);
		must(op->there == NONE || op->there == there, "op %d was %d, is %d", i, op->there, there);
		if (op->there == NONE) {
			must(there || op->level != STORE_LOCAL,
			     "op %d (%d) was answered as local and is gone", i, op->kind);
			must(there || !op->revealed, "op %d (%d) was shown and is gone", i, op->kind);
			must(there || !killed, "op %d (%d) was answered and is gone with the process", i,
			     op->kind);
			tally.checked++;
			tally.kept += there;
			tally.lost += !there;
		}
		op->there = there;
	}
	store_log_free(log);
}

/* The newest lease of a job that its reservations gave, those that are there. */
static struct job_lease lease_there(int at)
{
	struct job_lease newest = {0};
	for (int i = 0; i < ops_count; i++)
		for (int k = 0; k < ops[i].count && ops[i].kind == RESERVE && ops[i].there == 1; k++)
			if (ops[i].jobs[k] == at && lease_is_older(newest, ops[i].leases[k]))
				newest = ops[i].leases[k];
	return newest;
}

/* The state of a job now, JOB_NONE when it is gone or never was. */
static int observe(struct job *job)
{
	wh_res res = wh_await(store_get(store, job->id, STORE_DEFAULT));
	if (res.n == -JOB_EUNKNOWN_JOB || res.n == -JOB_EEXPIRED)
		return JOB_NONE;
	must(res.n >= 0, "job %" PRIu64 ": %s", job->id, wh_strerror(res.n));
	int state = (int)res.n;
	struct store_view *view = res.ptr;
	must(view->queue.len == strlen(queue_names[job->queue]) &&
	             !memcmp(view->queue.data, queue_names[job->queue], view->queue.len),
	     "queue of job %" PRIu64, job->id);
	if (res.n == JOB_RUNNING) {
		must(!lease_is_older(view->lease, lease_there((int)(job - jobs))),
		     "job %" PRIu64 " has an older lease than was given", job->id);
		job->lease = view->lease;
		if (lease_is_older(job->lease_highest, job->lease))
			job->lease_highest = job->lease;
	}
	store_view_free(view);
	res = wh_await(store_payload(store, job->id, STORE_DEFAULT));
	must(res.n >= 0, "payload of job %" PRIu64 ": %s", job->id, wh_strerror(res.n));
	struct store_slice body;
	int64_t n = body_of(res.ptr, &body);
	must(n >= 0, "payload of job %" PRIu64 ": %s", job->id, wh_strerror(n));
	check_payload(job, body);
	store_bytes_unref(res.ptr);
	if (state == JOB_DONE) {
		struct store_slice expected = result_of(job);
		res = wh_await(store_result(store, job->id, STORE_DEFAULT));
		must(res.n == (int64_t)expected.len, "result of job %" PRIu64 ": %" PRId64, job->id, res.n);
		n = body_of(res.ptr, &body);
		must(n == (int64_t)expected.len && !memcmp(body.data, expected.data, expected.len),
		     "result of job %" PRIu64, job->id);
		store_bytes_unref(res.ptr);
	}
	return state;
}

/* Of all that can be seen of all jobs. */
static uint64_t fingerprint(void)
{
	uint64_t sum = 0;
	for (int i = 0; i < jobs_count; i++) {
		if (jobs[i].id == 0)
			continue;
		wh_res res = wh_await(store_get(store, jobs[i].id, STORE_DEFAULT));
		const struct store_view *view = res.ptr;
		sum = (sum ^ (uint64_t)res.n ^ (view ? view->version : 0)) * UINT64_C(0x100000001b3);
		if (res.n >= 0)
			store_view_free(res.ptr);
	}
	return sum;
}

/* Jobs whose submission was not answered, under ids that nobody was told. */
static void find_untold_between(uint64_t from, uint64_t to)
{
	for (uint64_t id = from; id < to; id++) {
		uint64_t seed;
		int made_by, index;
		wh_res res = wh_await(store_payload(store, id, STORE_DEFAULT));
		if (res.n == -JOB_EUNKNOWN_JOB || res.n == -JOB_EEXPIRED)
			continue;
		must(res.n >= 0, "%s", wh_strerror(res.n));
		struct store_bytes *bytes = res.ptr;
		char text[64] = "";
		struct store_slice body;
		must(body_of(bytes, &body) >= 0, "the payload of job %" PRIu64, id);
		memcpy(text, body.data, body.len < 63 ? body.len : 63);
		must(sscanf(text, "%" SCNu64 "/%d/%d/", &seed, &made_by, &index) == 3 && seed == plan.seed &&
		             made_by < ops_count,
		     "job %" PRIu64 " is nobody's: %s", id, text);
		store_bytes_unref(bytes);
		int at = 0;
		while (at < jobs_count &&
		       ((int)jobs[at].made_by != made_by || (int)jobs[at].made_index != index))
			at++;
		must(at < jobs_count, "job %" PRIu64 " is nobody's: %s", id, text);
		if (jobs[at].id == id)
			continue;
		must(!jobs[at].id && !ops[made_by].answered, "op %d made job %d twice", made_by, index);
		id_seen(&jobs[at], id);
	}
}

/* Each start takes ids from a new range: it begins where that of the start before it ended, if that one was not used up,
 * and otherwise behind the highest id. So it begins a whole number of ranges behind one that was the highest. */
static void find_untold(void)
{
	uint64_t highest = id_highest;
	for (uint64_t from = id_judged + 1, to; from <= highest + PROBE; from = to) {
		/* as far as one range, and not through the gap between two */
		to = from + PROBE;
		for (int at = 0; at < jobs_count; at++)
			if (jobs[at].id >= from && jobs[at].id + PROBE > to &&
			    jobs[at].id / ID_RANGE == from / ID_RANGE)
				to = jobs[at].id + PROBE;
		find_untold_between(from, to);
		if (to <= highest)
			to = (from / ID_RANGE + 1) * ID_RANGE;
	}
	for (uint64_t range = highest / ID_RANGE; range < highest / ID_RANGE + 8; range++)
		for (size_t i = 0; i < starts_count; i++)
			if (range * ID_RANGE + starts[i] >= highest)
				find_untold_between(range * ID_RANGE + starts[i],
				                    range * ID_RANGE + starts[i] + PROBE);
	id_judged = id_highest;
	must(starts_count < STARTS_MAX, "too many recoveries");
	starts[starts_count++] = (id_highest + 1) % ID_RANGE;
}

/* What its changes since the last recovery leave a job in, those that are there. */
static int expected_state(const struct job *job, int at)
{
	int state = job->base;
	for (int i = ops_judged; i < ops_count; i++) {
		const struct op *op = &ops[i];
		for (int k = 0; k < op->count && op->kind < 1000; k++)
			if (op->jobs[k] == at && op->answered && !op->refused && op->there == 1)
				state = op->after[k];
	}
	return state;
}

/* A change that was not answered: for all of its jobs, or for none. */
static void judge_unanswered(struct op *op, const int *states, const int *before)
{
	int there = NONE;
	for (int i = 0; i < op->count; i++) {
		int at = op->jobs[i], state = jobs[at].id ? states[at] : JOB_NONE;
		if (before[at] == op->after[i])
			continue; /* does not show */
		must(state == before[at] || state == op->after[i],
		     "op %d (%d): job %" PRIu64 " is in state %d, neither %d nor %d", op->number, op->kind,
		     jobs[at].id, state, before[at], op->after[i]);
		int done = state == op->after[i];
		must(there == NONE || there == done,
		     "op %d (%d) is there for a part of its jobs: job %" PRIu64 " in state %d", op->number,
		     op->kind, jobs[at].id, state);
		there = done;
	}
	op->there = there;
}

static int unanswered_op_of(int at)
{
	for (int i = ops_count; i-- > 0;)
		for (int k = 0; k < ops[i].count && ops[i].kind < 1000; k++)
			if (ops[i].jobs[k] == at && !ops[i].answered && ops[i].there == NONE)
				return i;
	return NONE;
}

/* A reservation from whole queues that was not answered: ready jobs of them may be running. */
static bool may_be_reserved(int at)
{
	for (int i = 0; i < ops_count; i++)
		if (ops[i].kind == RESERVE + 1000 && ops[i].there == NONE && jobs[at].queue < ops[i].count)
			return true;
	return false;
}

/* When a plan is repeated: which jobs does the model not know? */
static void find_strangers(void)
{
	for (uint64_t id = 1; id < UINT64_C(20) * ID_RANGE; id++) {
		wh_res res = wh_await(store_get(store, id, STORE_ASYNC));
		if (res.n < 0)
			continue;
		store_view_free(res.ptr);
		int at = 0;
		while (at < jobs_count && jobs[at].id != id)
			at++;
		if (at == jobs_count || jobs[at].state != res.n)
			fprintf(stderr, "\tjob %" PRIu64 " in state %d: %s\n", id, (int)res.n,
			        at == jobs_count ? "unknown" : "known in another one");
	}
}

static void check_counts(void)
{
	struct store_stats stats;
	uint64_t counts[JOB_STATES] = {0};
	must(store_recount(store) == 0, "counters");
	store_stats(store, &stats);
	for (int i = 0; i < jobs_count; i++)
		counts[jobs[i].state]++;
	for (int state = 1; state < JOB_STATES && verbose; state++)
		if (stats.jobs[state] != counts[state])
			find_strangers();
	for (int state = 1; state < JOB_STATES; state++)
		must(stats.jobs[state] == counts[state], "%" PRIu64 " jobs in state %d, not %" PRIu64,
		     stats.jobs[state], state, counts[state]);
}

/* Every file of a body belongs to a job, and none is there that does not. */
static void check_files(void)
{
	struct store_stats stats;
	store_stats(store, &stats);
	wh_res res = wh_await(wh_list(loop, "/data/blobs"));
	must(res.n == (int64_t)stats.blobs, "%" PRId64 " files of bodies, not %" PRIu64, res.n, stats.blobs);
	tally.files += stats.blobs;
	wh_names_free(res.ptr);
}

static void check_recovered(bool killed)
{
	static int states[JOBS_MAX], before[JOBS_MAX];
	check_files();
	judge_ops(killed);
	find_untold();
	for (int at = 0; at < jobs_count; at++) {
		struct job *job = &jobs[at];
		before[at] = expected_state(job, at);
		states[at] = job->id ? observe(job) : JOB_NONE;
		if (unanswered_op_of(at) != NONE)
			continue;
		must(states[at] == before[at] ||
		             (before[at] == JOB_READY && states[at] == JOB_RUNNING && may_be_reserved(at)),
		     "job %" PRIu64 " is in state %d, not %d", job->id, states[at], before[at]);
	}
	for (int i = 0; i < ops_count; i++) {
		if (!ops[i].answered && ops[i].there == NONE && ops[i].kind < 1000)
			judge_unanswered(&ops[i], states, before);
		if (ops[i].there == NONE)
			ops[i].there = 0;
	}
	for (int at = 0; at < jobs_count; at++) {
		jobs[at].state = jobs[at].base = states[at];
		jobs[at].op = NONE;
		jobs[at].busy = false;
	}
	/* judged for good: what is there stays there, and is part of the states now */
	for (int i = 0; i < ops_count; i++) {
		ops[i].level = ops[i].there == 1 ? STORE_LOCAL : ops[i].level;
		if (!ops[i].answered)
			ops[i].refused = ops[i].answered = true;
	}
	ops_judged = ops_count;
	check_counts();
	tally.recoveries++;
}

#endif
