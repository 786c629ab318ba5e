/* tests/sim/test_sim_lives.c -- the store on the simulated machine: submits, leases, transactions, with power cut at every
 * disk call, in recovery too, and every disk call failing; then every job is where it was promised to be.
 *
 * A model keeps, for each change, the jobs that it moves and, once it is answered, its position and the level reached.
 * After each recovery the published ends of the epochs say which changes are there, and every job must be in the state
 * that follows (I2, I10); a change answered at a level is there whenever that level promises so, and what a read has
 * shown is, too (I1, I4); a change that was not answered is there for all of its jobs or for none (I3); counters
 * agree with a recount and with the model (I5); ids and leases only rise (I6); what a recovery has shown stays (I7);
 * a crash is never reported as damage (I8).
 */
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

/* ---- payloads that can be recognised ------------------------------------------------------- */

static size_t payload_of(int made_by, int index, char to[PAYLOAD_MAX + 1])
{
	size_t len = (size_t)snprintf(to, PAYLOAD_MAX, "%" PRIu64 "/%d/%d/", plan.seed, made_by, index);
	size_t end = len + (size_t)(made_by * 7919 + index * 104729) % ((made_by % 4) ? 60 : 2500);
	for (; len < end; len++)
		to[len] = (char)('a' + (len * 31 + (size_t)made_by) % 26);
	return len;
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

static void lease_seen(struct job *job, struct job_lease lease)
{
	const struct job_lease *highest = &job->lease_highest;
	must(lease.epoch > highest->epoch || (lease.epoch == highest->epoch && lease.claim > highest->claim),
	     "lease %u.%" PRIu64 " of job %" PRIu64 " after %u.%" PRIu64, lease.epoch, lease.claim, job->id,
	     highest->epoch, highest->claim);
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

/* ---- changes ------------------------------------------------------------------------------ */

struct started {
	struct op *op;
	wh_future future;
};

static struct store_slice slice(const char *text)
{
	return (struct store_slice){text, strlen(text)};
}

static int chosen_level(void)
{
	static const int levels[] = {STORE_DEFAULT, STORE_ASYNC, STORE_LOCAL};
	return levels[chance(3)];
}

static struct store_action submission(struct op *op, int queue, char *payload)
{
	int index = op->count;
	bool delayed = chance(4) == 0;
	int at = job_new(queue, op->number, index);
	op_moves(op, at, delayed ? JOB_DELAYED : JOB_READY);
	struct store_action action = {.kind = STORE_SUBMIT};
	action.submit.queue = slice(queue_names[queue]);
	action.submit.payload = (struct store_slice){payload, payload_of(op->number, index, payload)};
	action.submit.content_type = slice("text/plain");
	action.submit.priority = (uint32_t)chance(4);
	action.submit.attempts_max = 100;
	action.submit.delay_ns = delayed ? DAY : 0;
	action.submit.time_to_run_ns = DAY;
	action.submit.retention_ns = 7 * DAY;
	return action;
}

static bool start_submit(struct started *to)
{
	char payloads[OP_JOBS_MAX][PAYLOAD_MAX + 1];
	struct store_action actions[OP_JOBS_MAX];
	struct op *op = op_new(STORE_SUBMIT);
	if (!op)
		return false;
	size_t count = chance(3) ? 1 : 2 + chance(OP_JOBS_MAX - 2);
	for (size_t i = 0; i < count; i++)
		actions[i] = submission(op, (int)chance(QUEUES), payloads[i]);
	int level = chosen_level();
	to->op = op;
	to->future = count == 1 && chance(2) ? store_submit(store, &actions[0].submit, level)
	                                     : store_apply(store, actions, count, 0, level);
	return true;
}

static bool start_submit_many(struct started *to)
{
	char payloads[OP_JOBS_MAX][PAYLOAD_MAX + 1];
	struct store_slice slices[OP_JOBS_MAX];
	struct op *op = op_new(SUBMIT_MANY);
	if (!op)
		return false;
	size_t count = 2 + chance(OP_JOBS_MAX - 2);
	int queue = (int)chance(QUEUES);
	struct store_submit options = {.queue = slice(queue_names[queue]),
	                               .content_type = slice("text/plain"),
	                               .attempts_max = 100,
	                               .time_to_run_ns = DAY,
	                               .retention_ns = 7 * DAY};
	for (size_t i = 0; i < count; i++) {
		int at = job_new(queue, op->number, (int)i);
		op_moves(op, at, JOB_READY);
		slices[i] = (struct store_slice){payloads[i], payload_of(op->number, (int)i, payloads[i])};
	}
	to->op = op;
	to->future = store_submit_many(store, &options, slices, count, chosen_level());
	return true;
}

/* One job that is there already. */
static bool start_change(struct started *to)
{
	static const struct {
		int kind;
		unsigned from;
		int after;
	} changes[] = {
		{STORE_COMPLETE, 1U << JOB_RUNNING, JOB_DONE},
		{STORE_COMPLETE, 1U << JOB_RUNNING, JOB_DONE},
		{STORE_FAIL, 1U << JOB_RUNNING, JOB_DELAYED},
		{STORE_FAIL, 1U << JOB_RUNNING, JOB_FAILED}, /* no_retry */
		{STORE_RELEASE, 1U << JOB_RUNNING, JOB_READY},
		{STORE_RELEASE, 1U << JOB_RUNNING, JOB_DELAYED},
		{STORE_EXTEND, 1U << JOB_RUNNING, JOB_RUNNING},
		{STORE_PROGRESS, 1U << JOB_RUNNING, JOB_RUNNING},
		{STORE_BURY, 1U << JOB_RUNNING, JOB_BURIED},
		{STORE_CANCEL, 1U << JOB_READY | 1U << JOB_DELAYED | 1U << JOB_BURIED, JOB_CANCELLED},
		{STORE_KICK, 1U << JOB_DELAYED | 1U << JOB_BURIED, JOB_READY},
		{STORE_DELETE, 1U << JOB_READY | 1U << JOB_DONE | 1U << JOB_FAILED, JOB_NONE},
	};
	size_t which = chance(sizeof changes / sizeof *changes);
	int kind = changes[which].kind, after = changes[which].after, at = pick(changes[which].from);
	struct op *op = at == NONE ? NULL : op_new(kind);
	if (!op)
		return false;
	struct store_action action = {.kind = kind, .job = jobs[at].id, .lease = jobs[at].lease};
	op_moves(op, at, after);
	switch (kind) {
	case STORE_COMPLETE:
		action.complete.bytes = slice("result");
		break;
	case STORE_FAIL:
		action.fail.error = slice("failed");
		action.fail.no_retry = after == JOB_FAILED;
		action.fail.delay_set = true;
		action.fail.delay_ns = DAY;
		break;
	case STORE_RELEASE:
		action.release.delay_ns = after == JOB_DELAYED ? DAY : 0;
		break;
	case STORE_EXTEND:
		action.extend.by_ns = 2 * DAY;
		break;
	case STORE_PROGRESS:
		action.progress.bytes = slice("half");
		break;
	case STORE_BURY:
		action.bury.error = slice("aside");
		break;
	default:
		break;
	}
	to->op = op;
	to->future = store_apply(store, &action, 1, 0, chosen_level());
	return true;
}

/* A job is completed and its successors submitted in one transaction. */
static bool start_hand_over(struct started *to)
{
	char payloads[3][PAYLOAD_MAX + 1];
	struct store_action actions[3];
	int at = pick(1U << JOB_RUNNING);
	struct op *op = at == NONE ? NULL : op_new(HAND_OVER);
	if (!op)
		return false;
	actions[0] =
		(struct store_action){.kind = STORE_COMPLETE, .job = jobs[at].id, .lease = jobs[at].lease};
	actions[0].complete.bytes = slice("handed over");
	op_moves(op, at, JOB_DONE);
	size_t count = 2 + chance(2);
	for (size_t i = 1; i < count; i++)
		actions[i] = submission(op, (int)chance(QUEUES), payloads[i]);
	to->op = op;
	to->future = store_apply(store, actions, count, 0, chosen_level());
	return true;
}

/* A given job, so that the model knows which even if no answer comes. */
static bool start_reserve(struct started *to)
{
	int at = pick(1U << JOB_READY);
	struct op *op = at == NONE ? NULL : op_new(RESERVE);
	if (!op)
		return false;
	op_moves(op, at, JOB_RUNNING);
	struct store_reserve reserve = {.job = jobs[at].id, .level = chosen_level()};
	to->op = op;
	to->future = store_reserve(store, &reserve);
	return true;
}

static bool start_one(struct started *to)
{
	switch (chance(8)) {
	case 0:
	case 1:
		return start_submit(to);
	case 2:
		return start_submit_many(to);
	case 3:
		return start_hand_over(to);
	case 4:
	case 5:
		return start_reserve(to);
	default:
		return start_change(to);
	}
}

/* A read may fail by itself: then the lease is given, and says so. */
static void check_leased(const struct job *job, const struct store_leased *leased)
{
	if (leased->payload)
		check_payload(job, leased->payload->body);
	else
		must(leased->error == -WH_ESIM_POWER_CUT || plan.fail_at > 0, "no payload: %s",
		     wh_strerror(leased->error));
}

static void answered_lot(struct op *op, struct store_lot *lot)
{
	if (!lot) {
		op_refused(op);
		return;
	}
	must(lot->count == 1, "%zu jobs", lot->count);
	struct job *job = &jobs[op->jobs[0]];
	must(lot->jobs[0].job == job->id, "job %" PRIu64 " instead of %" PRIu64, lot->jobs[0].job, job->id);
	check_leased(job, &lot->jobs[0]);
	lease_seen(job, lot->jobs[0].lease);
	op_done(op, lot->level, lot->position);
	store_lot_free(lot);
}

static void answered_commit(struct op *op, struct store_commit *commit)
{
	if (commit->error) {
		must(commit->error != -JOB_ELEASE_LOST, "lease lost");
		op_refused(op);
	} else {
		must(commit->count == (size_t)op->count, "%zu results", commit->count);
		for (int i = 0; i < op->count; i++) {
			struct job *job = &jobs[op->jobs[i]];
			if (!job->id)
				id_seen(job, commit->results[i].job);
			must(op->after[i] == JOB_NONE || commit->results[i].state == op->after[i],
			     "op %d: state %d, not %d", op->kind, commit->results[i].state, op->after[i]);
		}
		op_done(op, commit->level, commit->position);
	}
	store_commit_free(commit);
}

/* Judged, and not done: said by the store, not by what is below it. */
static bool is_refusal(int64_t n)
{
	return n <= -JOB_EUNKNOWN_JOB && n >= -JOB_EIN_GROUP;
}

/* 0, or why there is no answer. */
static int64_t finish(struct started *started)
{
	wh_res res = wh_await(started->future);
	if (res.n < 0) {
		if (is_refusal(res.n)) {
			op_refused(started->op);
			return 0;
		}
		return res.n;
	}
	if (started->op->kind == RESERVE)
		answered_lot(started->op, res.ptr);
	else
		answered_commit(started->op, res.ptr);
	return 0;
}

static int64_t burst(void)
{
	struct started started[BURST_MAX];
	size_t count = 0;
	int64_t error = 0;
	for (uint64_t n = 1 + chance(BURST_MAX); n > 0; n--)
		count += start_one(&started[count]);
	for (size_t i = 0; i < count; i++) {
		int64_t n = finish(&started[i]);
		error = error ? error : n;
	}
	return error;
}

/* What a read shows is durable: the change that it shows is as good as local. */
static int64_t look(void)
{
	int at = pick(~0U);
	if (at == NONE)
		return 0;
	wh_res res = wh_await(store_get(store, jobs[at].id, STORE_DEFAULT));
	if (jobs[at].state == JOB_NONE && (res.n == -JOB_EEXPIRED || res.n == -JOB_EUNKNOWN_JOB))
		return 0;
	if (res.n < 0)
		return res.n;
	must(res.n == jobs[at].state, "job %" PRIu64 " is shown in state %d, not %d", jobs[at].id, (int)res.n,
	     jobs[at].state);
	store_view_free(res.ptr);
	if (jobs[at].op != NONE)
		ops[jobs[at].op].revealed = true;
	return 0;
}

/* Whatever the queues give. The jobs are not known if no answer comes, so it is alone; local: then it is answered or
 * the life is over. */
static int64_t reserve_from_queues(void)
{
	struct store_slice names[QUEUES];
	size_t count = 1 + chance(QUEUES);
	struct op *op = op_new(RESERVE);
	if (!op)
		return 0;
	for (size_t i = 0; i < count; i++)
		names[i] = slice(queue_names[i]);
	/* every ready job of these queues may be one of them */
	struct store_reserve reserve = {
		.queues = names, .queues_count = count, .jobs_max = 1 + (uint32_t)chance(3)};
	wh_res res = wh_await(store_reserve(store, &reserve));
	if (is_refusal(res.n)) {
		op_refused(op);
		return 0;
	}
	if (res.n < 0) {
		op->kind = RESERVE + 1000; /* judged by check_fuzzy() */
		op->count = (int)count;
		return res.n;
	}
	struct store_lot *lot = res.ptr;
	for (size_t i = 0; lot && i < lot->count; i++) {
		int at = 0;
		while (at < jobs_count && jobs[at].id != lot->jobs[i].job)
			at++;
		must(at < jobs_count, "an unknown job %" PRIu64, lot->jobs[i].job);
		must(jobs[at].state == JOB_READY, "job %" PRIu64 " was in state %d, and is reserved",
		     jobs[at].id, jobs[at].state);
		check_leased(&jobs[at], &lot->jobs[i]);
		lease_seen(&jobs[at], lot->jobs[i].lease);
		op_moves(op, at, JOB_RUNNING);
	}
	if (lot)
		op_done(op, lot->level, lot->position);
	else
		op->answered = op->refused = true;
	store_lot_free(lot);
	return 0;
}

static int64_t step(void)
{
	switch (chance(8)) {
	case 0:
		return reserve_from_queues();
	case 1:
		return look();
	case 2:
		return wh_await(wh_sleep(loop, (int64_t)chance(15) * WH_NS_PER_MS)).n;
	default:
		return burst();
	}
}

/* ---- lives -------------------------------------------------------------------------------- */

static void on_failure(int64_t error, const char *message, void *arg)
{
	failed = true;
}

static int open_store(void)
{
	struct store_problem problem = {0};
	struct store_options options = {
		.directory = "/data",
		.segment_bytes = 64 << 10,
		.recent_bytes = 4096,
		.on_failure = on_failure,
		.log = verbose ? tell : NULL,
	};
	failed = false;
	int error = store_open(loop, &options, &store, &problem);
	if (error != 0)
		tell(0, problem.text, NULL);
	return error;
}

static int64_t live(uint64_t steps)
{
	int64_t error = 0;
	for (uint64_t i = 0; i < steps && error == 0; i++)
		error = step();
	int closed = store_close(store);
	store = NULL;
	return error != 0 ? error : closed;
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
		const struct job_lease *highest = &job->lease_highest;
		must(view->lease.epoch > highest->epoch ||
		             (view->lease.epoch == highest->epoch && view->lease.claim >= highest->claim),
		     "job %" PRIu64 " has an older lease than was given", job->id);
		job->lease = job->lease_highest = view->lease;
	}
	store_view_free(view);
	res = wh_await(store_payload(store, job->id, STORE_DEFAULT));
	must(res.n >= 0, "payload of job %" PRIu64 ": %s", job->id, wh_strerror(res.n));
	check_payload(job, ((struct store_bytes *)res.ptr)->body);
	store_bytes_unref(res.ptr);
	return state;
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
		memcpy(text, bytes->body.data, bytes->body.len < 63 ? bytes->body.len : 63);
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

/* Each start takes ids from a new range, so they may be at the beginning of one. */
static void find_untold(void)
{
	uint64_t highest = id_highest;
	for (uint64_t from = id_judged + 1, to; from <= highest + PROBE; from = to) {
		/* as far as one range, and not through the gap between two */
		to = from + PROBE;
		for (int at = 0; at < jobs_count; at++)
			if (jobs[at].id >= to && jobs[at].id / ID_RANGE == from / ID_RANGE)
				to = jobs[at].id + PROBE;
		find_untold_between(from, to);
		if (to <= highest)
			to = (from / ID_RANGE + 1) * ID_RANGE;
	}
	for (uint64_t range = highest / ID_RANGE; range < highest / ID_RANGE + 8; range++)
		if (range * ID_RANGE >= highest)
			find_untold_between(range * ID_RANGE, range * ID_RANGE + PROBE);
	id_judged = id_highest;
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

static void check_recovered(bool killed)
{
	static int states[JOBS_MAX], before[JOBS_MAX];
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

/* Start the machine again, to lose power at a disk call (0: not), and open the store. */
static int start_again(int damage, uint64_t cut)
{
	struct wh_sim_options options = {.seed = plan.seed * 1000 + chance(1000), .crash_at_io = cut};
	loop = wh_loop_close(loop);
	int error = wh_sim_restart(sim, &options, damage);
	must(error == 0, "restart: %s", wh_strerror(error));
	loop = plan_loop(sim);
	error = open_store();
	must(error == 0 || (error == -WH_ESIM_POWER_CUT && cut > 0), "recovery: %s", wh_strerror(error));
	return error;
}

/* Recover, perhaps with power cuts within, and check what is there. */
static void recover(int damage, bool faulty)
{
	bool killed = damage == WH_SIM_KILLED && !faulty;
	tally.crashes++;
	for (uint64_t nested = chance(3); nested > 0; nested--) {
		if (start_again(damage, 1 + chance(60)) == 0)
			store = (store_close(store), NULL);
		if (wh_sim_has_power(sim)) {
			damage = WH_SIM_KILLED;
			continue;
		}
		tally.crashes++;
		tally.crashes_in_recovery++;
		damage = (int)chance(WH_SIM_KILLED + 1);
		killed = killed && damage == WH_SIM_KILLED;
	}
	(void)start_again(damage, 0);
	check_recovered(killed);
}

/* Another life, which may end by a power cut. Returns the damage that it leaves. */
static int live_again(void)
{
	int closed = store_close(store);
	must(closed == 0, "close: %s", wh_strerror(closed));
	store = NULL;
	int64_t error = start_again(WH_SIM_KILLED, 1 + chance(300));
	if (error == 0)
		error = live(STEPS);
	must(error == 0 || error == -WH_ESIM_POWER_CUT, "a life: %s", wh_strerror(error));
	return (int)chance(WH_SIM_KILLED + 1);
}

static void begin_run(void)
{
	struct wh_sim_options options = {.seed = plan.seed,
	                                 .crash_at_io = plan.crash_at,
	                                 .fail_at_io = plan.fail_at,
	                                 .fail_error = plan.error,
	                                 .fail_from_then_on = plan.from_then_on};
	int error = wh_sim_open(&sim, &options);
	must(error == 0, "%s", wh_strerror(error));
	chance_state = plan.seed;
	jobs_count = ops_count = ops_judged = 0;
	id_highest = id_judged = 0;
	loop = plan_loop(sim);
	tally.runs++;
}

static uint64_t run(void)
{
	begin_run();
	int64_t error = open_store();
	if (error == 0)
		error = live(STEPS);
	must(error == 0 || plan.crash_at > 0 || plan.fail_at > 0, "the first life: %s", wh_strerror(error));
	uint64_t calls = wh_sim_io_count(sim);
	tally.faults += plan.fail_at > 0 && plan.fail_at <= calls;
	chance_state = plan.seed + plan.crash_at * 77 + (uint64_t)plan.damage;
	int damage = plan.damage;
	for (int life = 1; life < LIVES; life++) {
		recover(damage, life == 1 && plan.fail_at > 0);
		damage = live_again();
	}
	recover(damage, false);
	int closed = store_close(store);
	must(closed == 0, "close: %s", wh_strerror(closed));
	store = NULL;
	loop = wh_loop_close(loop);
	sim = wh_sim_close(sim);
	return calls;
}

/* ---- tests -------------------------------------------------------------------------------- */

static void test_power_is_cut_at_every_disk_call(void **state)
{
	uint64_t first = env_number("WHILST_SIM_FIRST", 1), seeds = env_number("WHILST_SIM_SEEDS", 3);
	double from = seconds();
	tally = (struct tally){0};
	refusals = 0;
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		plan = (struct plan){.seed = seed};
		uint64_t calls = run();
		for (uint64_t at = 1; at <= calls; at++) {
			for (int damage = 0; damage <= WH_SIM_KILLED; damage++) {
				plan = (struct plan){.seed = seed, .crash_at = at, .damage = damage};
				(void)run();
			}
		}
	}
	tally_print("power cuts", first, seeds, from);
	assert_true(tally.kept > tally.lost);
	assert_true(tally.lost > 0);
	assert_true(refusals < tally.kept / 20); /* the model knows what is possible */
}

static void test_every_disk_call_fails(void **state)
{
	static const int errors[] = {EIO, ENOSPC};
	uint64_t first = env_number("WHILST_SIM_FIRST", 1), seeds = env_number("WHILST_SIM_SEEDS", 3);
	double from = seconds();
	tally = (struct tally){0};
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		plan = (struct plan){.seed = seed};
		uint64_t calls = run();
		for (uint64_t at = 1; at <= calls; at++) {
			for (int kind = 0; kind < 4; kind++) {
				plan = (struct plan){.seed = seed,
				                     .fail_at = at,
				                     .error = errors[kind / 2],
				                     .from_then_on = kind % 2,
				                     .damage = at % 3 ? WH_SIM_KILLED : WH_SIM_RANDOM};
				(void)run();
			}
		}
	}
	tally_print("faults", first, seeds, from);
	assert_true(tally.kept > tally.lost);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_is_cut_at_every_disk_call),
		cmocka_unit_test(test_every_disk_call_fails),
	};
	if (plan_from_environment()) {
		(void)run();
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
