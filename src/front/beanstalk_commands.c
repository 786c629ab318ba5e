/* src/front/beanstalk_commands.c -- what the commands of the beanstalkd protocol do to the store, and what is answered.
 *
 * put is a submit; reserve is a lease that is bound to this run of the server and, through the connection's list of holds,
 * to the connection; delete of a job that the connection holds is its completion without a result, any other delete cancels a
 * waiting job. A finished job, which the store may keep for whoever asks over HTTP, does not exist here.
 * Thread: loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "deliver/service.h"
#include "front/beanstalk_inside.h"

#define DEADLINE_MARGIN_NS  WH_NS_PER_S
#define KEPT_FOR_WAITERS_NS (60 * WH_NS_PER_S) /* so that who waits over HTTP can read how it ended */

enum { JOBS_AT_ONCE = 64 };

/* Jobs of the server's own queues are nobody's here, and neither are those of a namespace: no tube can be called so, and nobody shows a token. */
static bool is_servers(const struct beanstalk *front, uint64_t job)
{
	struct store_slice queue;

	return store_queue_of(front->store, job, &queue) == 0 &&
	       (service_owns_queue(queue.data, queue.len) || job_name_skip(queue.data, queue.len) > 0);
}

static struct store_slice tube_name(const struct beanstalk_tube *tube)
{
	return (struct store_slice){tube->name, tube->len};
}

/* "WORD number\r\n" */
static void reply_number(struct beanstalk_connection *c, const char *word, size_t len, uint64_t number)
{
	char text[64];

	memcpy(text, word, len);
	len += wh__put_u64(text + len, number);
	memcpy(text + len, "\r\n", 2);
	beanstalk_reply(c, text, len + 2);
}
#define REPLY_NUMBER(c, word, number) reply_number(c, word " ", sizeof(word), number)

/* "WORD id bytes\r\n" and the body */
static void reply_job(struct beanstalk_connection *c, const char *word, uint64_t job,
                      const struct store_bytes *payload)
{
	size_t body = payload->body.len, len = strlen(word);
	char text[64], *room;

	memcpy(text, word, len);
	text[len++] = ' ';
	len += wh__put_u64(text + len, job);
	text[len++] = ' ';
	len += wh__put_u64(text + len, body);
	memcpy(text + len, "\r\n", 2);
	len += 2;
	room = beanstalk_reply_room(c, len + body + 2);
	if (!room)
		return;
	memcpy(room, text, len);
	if (body > 0)
		memcpy(room + len, payload->body.data, body);
	memcpy(room + len + body, "\r\n", 2);
}

static void reply_using(struct beanstalk_connection *c, const struct beanstalk_tube *tube)
{
	char *room = beanstalk_reply_room(c, 6 + tube->len + 2);

	if (!room)
		return;
	memcpy(room, "USING ", 6);
	memcpy(room + 6, tube->name, tube->len);
	memcpy(room + 6 + tube->len, "\r\n", 2);
}

void beanstalk_reply_failure(struct beanstalk_connection *c, int64_t error)
{
	if (error == -ENOMEM || error == -ENOSPC || error == -JOB_EMEMORY_FULL || job_is_full(error) ||
	    error == -JOB_EBUSY)
		BEANSTALK_REPLY(c, "OUT_OF_MEMORY");
	else if (error == -JOB_EUNKNOWN_QUEUE)
		BEANSTALK_REPLY(c, "NOT_FOUND");
	else if (error == -JOB_ETOO_LARGE)
		BEANSTALK_REPLY(c, "JOB_TOO_BIG");
	else
		BEANSTALK_REPLY(c, "INTERNAL_ERROR");
}

/* ---- put ---------------------------------------------------------------------------------- */

static struct store_submit submit_of(const struct beanstalk_connection *c,
                                     const struct beanstalk_command *put)
{
	const struct beanstalk *front = c->front;

	return (struct store_submit){
		.queue = tube_name(c->use),
		.priority = put->priority,
		.attempts_max = JOB_ATTEMPTS_UNLIMITED,
		.delay_ns = put->delay_s * WH_NS_PER_S,
		.time_to_run_ns = (put->ttr_s > 0 ? put->ttr_s : 1) * WH_NS_PER_S,
		.retention_ns = front->options.retention_ns > 0 ? front->options.retention_ns : -1,
	};
}

void beanstalk_put_body(struct beanstalk_connection *c, const struct beanstalk_command *put,
                        struct store_body *body)
{
	struct beanstalk *front = c->front;
	struct beanstalk_op *op = beanstalk_op_new(c, BEANSTALK_PUT, 0);
	struct store_submit submit = submit_of(c, put);

	front->commands[BEANSTALK_PUT]++;
	if (!op)
		return;
	op->count = 1;
	submit.body = body;
	beanstalk_op_start(op, store_submit(front->store, &submit, front->options.level));
}

void beanstalk_put(struct beanstalk_connection *c, const struct beanstalk_command *put, uint32_t count)
{
	struct beanstalk *front = c->front;
	struct beanstalk_op *op = beanstalk_op_new(c, BEANSTALK_PUT, 0);
	struct store_submit submit = submit_of(c, put);

	front->commands[BEANSTALK_PUT] += count;
	c->producer = true;
	if (!op)
		return;
	op->count = count;
	beanstalk_op_start(
		op, store_submit_many(front->store, &submit, front->payloads, count, front->options.level));
}

static void answer_put(struct beanstalk_connection *c, const struct beanstalk_op *op)
{
	struct store_commit *commit = op->res.n >= 0 ? op->res.ptr : NULL;

	for (uint32_t i = 0; i < op->count; i++) {
		if (!commit)
			beanstalk_reply_failure(c, op->res.n);
		else if (commit->error < 0)
			beanstalk_reply_failure(c, commit->error);
		else
			REPLY_NUMBER(c, "INSERTED", commit->results[i].job);
	}
	store_commit_free(commit);
}

/* ---- changes of jobs ---------------------------------------------------------------------- */

void beanstalk_action(struct beanstalk_connection *c, const struct beanstalk_command *command, uint32_t at)
{
	const struct beanstalk_hold *hold = beanstalk_hold_find(c, command->id);
	int64_t keep_ns = store_waited_for(c->front->store, command->id) ? KEPT_FOR_WAITERS_NS : 0;
	struct store_action *a = &c->front->actions[at];

	c->front->commands[command->kind]++;
	*a = (struct store_action){.job = command->id};
	if (hold)
		a->lease = hold->lease;
	else if (is_servers(c->front, command->id))
		a->job = 0; /* which is no job */
	switch (command->kind) {
	case BEANSTALK_DELETE:
		a->kind = hold ? STORE_COMPLETE : STORE_CANCEL;
		if (hold) {
			a->complete.keep_ns = keep_ns;
		} else {
			a->cancel.waiting_only = true;
			a->cancel.keep_ns = keep_ns;
		}
		break;
	case BEANSTALK_RELEASE:
		a->kind = STORE_RELEASE;
		a->release.delay_ns = command->delay_s * WH_NS_PER_S;
		a->release.priority_set = true;
		a->release.priority = command->priority;
		break;
	case BEANSTALK_BURY:
		a->kind = STORE_BURY;
		a->bury.priority_set = true;
		a->bury.priority = command->priority;
		break;
	case BEANSTALK_TOUCH:
		a->kind = STORE_EXTEND;
		break;
	default:
		a->kind = STORE_KICK;
	}
}

void beanstalk_apply(struct beanstalk_connection *c, int kind, uint32_t count)
{
	struct beanstalk *front = c->front;
	struct beanstalk_op *op = beanstalk_op_new(c, kind, count);

	if (!op)
		return;
	for (uint32_t i = 0; i < count; i++)
		op->ids[i] = front->actions[i].job;
	beanstalk_op_start(op, store_apply(front->store, front->actions, count, STORE_EACH,
	                                   kind == BEANSTALK_TOUCH ? STORE_ASYNC : front->options.level));
}

/* One change was made or refused. */
static void answer_change(struct beanstalk_connection *c, const struct beanstalk_op *op, uint32_t i,
                          int error)
{
	struct beanstalk_hold *hold =
		op->kind == BEANSTALK_KICK_JOB ? NULL : beanstalk_hold_find(c, op->ids[i]);

	/* whoever asked for its cancellation gets what the worker does here */
	if (error == -JOB_ECANCELLED && op->kind == BEANSTALK_DELETE)
		error = 0;
	if (error < 0 && error > -JOB_EUNKNOWN_JOB) {
		beanstalk_reply_failure(c, error);
		return;
	}
	if (error == 0 && op->kind == BEANSTALK_TOUCH) {
		if (hold)
			hold->deadline = wh_now(c->front->loop) + hold->time_to_run_ns;
	} else {
		beanstalk_hold_remove(hold);
	}
	if (error < 0)
		BEANSTALK_REPLY(c, "NOT_FOUND");
	else if (op->kind == BEANSTALK_DELETE)
		BEANSTALK_REPLY(c, "DELETED");
	else if (op->kind == BEANSTALK_RELEASE)
		BEANSTALK_REPLY(c, "RELEASED");
	else if (op->kind == BEANSTALK_BURY)
		BEANSTALK_REPLY(c, "BURIED");
	else if (op->kind == BEANSTALK_TOUCH)
		BEANSTALK_REPLY(c, "TOUCHED");
	else
		BEANSTALK_REPLY(c, "KICKED");
}

static void answer_changes(struct beanstalk_connection *c, const struct beanstalk_op *op)
{
	struct store_commit *commit = op->res.n >= 0 ? op->res.ptr : NULL;

	for (uint32_t i = 0; i < op->count; i++)
		answer_change(c, op, i, commit ? commit->results[i].error : (int)op->res.n);
	store_commit_free(commit);
}

static void kick(struct beanstalk_connection *c, uint64_t count)
{
	struct beanstalk *front = c->front;
	struct beanstalk_op *op;
	struct store_queue_view view;
	struct store_action action = {.kind = STORE_QUEUE_KICK,
	                              .queue = {.name = tube_name(c->use), .count = count}};

	if (count == 0 || store_queue_now(front->store, action.queue.name, &view) < 0) {
		BEANSTALK_REPLY(c, "KICKED 0");
		return;
	}
	op = beanstalk_op_new(c, BEANSTALK_KICK, 1);
	if (op)
		beanstalk_op_start(op, store_apply(front->store, &action, 1, 0, front->options.level));
}

static void answer_kick(struct beanstalk_connection *c, const struct beanstalk_op *op)
{
	struct store_commit *commit = op->res.n >= 0 ? op->res.ptr : NULL;

	if (!commit || commit->error < 0)
		beanstalk_reply_failure(c, commit ? commit->error : op->res.n);
	else
		REPLY_NUMBER(c, "KICKED", commit->results[0].count);
	store_commit_free(commit);
}

/* ---- reserve ------------------------------------------------------------------------------ */

static wh_future reserve(struct beanstalk_connection *c, uint32_t jobs_max, bool wait, uint64_t job)
{
	struct store_slice queues[JOB_RESERVE_QUEUES_MAX];
	struct store_reserve reserve = {.queues = queues,
	                                .queues_count = job ? 0 : c->watch_count,
	                                .jobs_max = jobs_max,
	                                .bytes_max = BEANSTALK_LOT_BYTES,
	                                .wait = wait,
	                                .job = job,
	                                .bound = true};

	for (uint32_t i = 0; i < reserve.queues_count; i++)
		queues[i] = tube_name(c->watch[i]);
	return store_reserve(c->front->store, &reserve);
}

/* Begin the next of a run: as many as there are jobs for; only one waits in line, so that nobody else is kept waiting. */
void beanstalk_reserve(struct beanstalk_connection *c)
{
	struct beanstalk *front = c->front;
	int64_t now = wh_now(front->loop), first = beanstalk_deadline(c, now, DEADLINE_MARGIN_NS),
		until = INT64_MAX;
	bool soon = first <= now + DEADLINE_MARGIN_NS;
	bool wait = (c->reserves_left == 1 || c->reserves_waiting) && !soon && !c->half_closed;
	struct beanstalk_op *op;
	wh_future future;

	if (c->reserves_kind == BEANSTALK_RESERVE_TIMEOUT) {
		until = now + c->reserves_s * WH_NS_PER_S;
		wait = wait && c->reserves_s > 0;
	}
	op = beanstalk_op_new(c, c->reserves_kind, 0);
	if (!op)
		return;
	op->until = until;
	op->count = wait ? 1 : c->reserves_left < JOBS_AT_ONCE ? c->reserves_left : JOBS_AT_ONCE;
	c->reserves_waiting = false;
	future = reserve(c, op->count, wait, 0);
	op->asked = wait;
	op->waits = wait && store_is_last_in_line(front->store, future);
	if (first != INT64_MAX && first - DEADLINE_MARGIN_NS < until)
		until = first - DEADLINE_MARGIN_NS;
	if (op->waits && until != INT64_MAX)
		future = wh_deadline(future, until);
	beanstalk_op_start(op, future);
}

static void reserve_job(struct beanstalk_connection *c, uint64_t job)
{
	struct beanstalk_op *op;

	c->worker = true;
	if (job == 0 || job > JOB_ID_MAX || is_servers(c->front, job)) {
		BEANSTALK_REPLY(c, "NOT_FOUND");
		return;
	}
	op = beanstalk_op_new(c, BEANSTALK_RESERVE_JOB, 0);
	if (op)
		beanstalk_op_start(op, reserve(c, 1, false, job));
}

/* Jobs that were leased, in order. */
static void answer_lot(struct beanstalk_connection *c, struct store_lot *lot)
{
	for (size_t i = 0; i < lot->count; i++) {
		struct store_leased *leased = &lot->jobs[i];
		struct beanstalk_hold *hold = beanstalk_hold_find(c, leased->job);

		beanstalk_hold_remove(hold); /* of a lease that has passed */
		if (!leased->payload)
			beanstalk_reply_failure(c, leased->error);
		else if (!beanstalk_hold_add(c, leased))
			c->failed = true;
		else if (leased->payload->blob.number != 0) /* the last of the lot: more than its bytes_max */
			beanstalk_large_reply(c, leased->payload, leased);
		else
			reply_job(c, "RESERVED", leased->job, leased->payload);
	}
	store_lot_free(lot);
}

/* The reservations of a run that nothing was there for. */
static void answer_nothing(struct beanstalk_connection *c, const struct beanstalk_op *op)
{
	int64_t now = wh_now(c->front->loop);
	bool soon = beanstalk_deadline(c, now, DEADLINE_MARGIN_NS) <= now + DEADLINE_MARGIN_NS;

	if (c->reserves_left > 1 && !soon && !c->half_closed &&
	    !(op->kind == BEANSTALK_RESERVE_TIMEOUT && c->reserves_s == 0)) {
		/* several were tried without waiting: now the first of them waits */
		c->reserves_waiting = true;
		return;
	}
	if (soon)
		BEANSTALK_REPLY(c, "DEADLINE_SOON");
	else
		BEANSTALK_REPLY(c, "TIMED_OUT");
	c->reserves_left--;
}

static void answer_reserve(struct beanstalk_connection *c, const struct beanstalk_op *op)
{
	int64_t n = op->res.n;

	if (n > 0) {
		c->reserves_left -= (uint32_t)n < c->reserves_left ? (uint32_t)n : c->reserves_left;
		answer_lot(c, op->res.ptr);
	} else if (n == -ECANCELED && op->waits && c->half_closed) {
		/* the peer's end may have come before a job that is there by now: once more, without waiting */
	} else if (n == 0 || n == -ETIMEDOUT || (n == -JOB_EBUSY && !op->asked)) {
		answer_nothing(c, op);
	} else {
		c->reserves_left--;
		beanstalk_reply_failure(c, n);
	}
}

static void answer_reserve_job(struct beanstalk_connection *c, const struct beanstalk_op *op)
{
	if (op->res.n > 0)
		answer_lot(c, op->res.ptr);
	else if (op->res.n <= -JOB_EUNKNOWN_JOB && op->res.n != -JOB_EBUSY)
		BEANSTALK_REPLY(c, "NOT_FOUND");
	else
		beanstalk_reply_failure(c, op->res.n);
}

/* ---- peek --------------------------------------------------------------------------------- */

bool beanstalk_job_shown(const struct beanstalk *front, uint64_t job)
{
	int state = job <= JOB_ID_MAX ? store_state(front->store, job) : JOB_NONE;

	return state != JOB_NONE && !job_state_finished(state) && !is_servers(front, job);
}

static void peek(struct beanstalk_connection *c, uint64_t job)
{
	struct beanstalk_op *op;

	if (!beanstalk_job_shown(c->front, job)) {
		BEANSTALK_REPLY(c, "NOT_FOUND");
		return;
	}
	op = beanstalk_op_new(c, BEANSTALK_PEEK, 0);
	if (!op)
		return;
	op->job = job;
	beanstalk_op_start(op, store_payload(c->front->store, job, c->front->options.level));
}

static void answer_peek(struct beanstalk_connection *c, const struct beanstalk_op *op)
{
	if (op->res.n >= 0) {
		struct store_bytes *bytes = op->res.ptr;

		if (bytes->blob.number != 0)
			beanstalk_large_reply(c, bytes, NULL);
		else
			reply_job(c, "FOUND", op->job, bytes);
		store_bytes_unref(op->res.ptr);
	} else if (op->res.n <= -JOB_EUNKNOWN_JOB) {
		BEANSTALK_REPLY(c, "NOT_FOUND");
	} else {
		beanstalk_reply_failure(c, op->res.n);
	}
}

/* ---- tubes -------------------------------------------------------------------------------- */

static struct beanstalk_tube *wanted_tube(struct beanstalk_connection *c,
                                          const struct beanstalk_command *command)
{
	struct beanstalk_tube *tube;

	if (service_owns_queue(command->tube, command->tube_len)) {
		BEANSTALK_REPLY(c, "BAD_FORMAT");
		return NULL;
	}
	tube = beanstalk_tube_get(c->front, command->tube, command->tube_len);
	if (!tube)
		BEANSTALK_REPLY(c, "OUT_OF_MEMORY");
	return tube;
}

static void use(struct beanstalk_connection *c, const struct beanstalk_command *command)
{
	struct beanstalk_tube *tube = wanted_tube(c, command), *before = c->use;

	if (!tube)
		return;
	tube->using ++;
	before->using --;
	c->use = tube;
	if (before != tube)
		beanstalk_tube_release(c->front, before);
	reply_using(c, tube);
}

static void watch(struct beanstalk_connection *c, const struct beanstalk_command *command)
{
	struct beanstalk_tube *tube = wanted_tube(c, command), **list;
	uint32_t cap = c->watch_cap * 2;

	if (!tube)
		return;
	for (uint32_t i = 0; i < c->watch_count; i++) {
		if (c->watch[i] == tube) {
			REPLY_NUMBER(c, "WATCHING", c->watch_count);
			return;
		}
	}
	tube->watching++;
	if (c->watch_count == c->watch_cap) {
		list = c->watch_count < JOB_RESERVE_QUEUES_MAX
		               ? realloc(c->watch == &c->watch_one ? NULL : c->watch, cap * sizeof(list[0]))
		               : NULL;
		if (!list) {
			tube->watching--;
			beanstalk_tube_release(c->front, tube);
			BEANSTALK_REPLY(c, "OUT_OF_MEMORY");
			return;
		}
		if (c->watch == &c->watch_one)
			list[0] = c->watch_one;
		c->watch = list;
		c->watch_cap = cap;
	}
	c->watch[c->watch_count++] = tube;
	REPLY_NUMBER(c, "WATCHING", c->watch_count);
}

static void ignore(struct beanstalk_connection *c, const struct beanstalk_command *command)
{
	struct beanstalk_tube *tube = beanstalk_tube_find(c->front, command->tube, command->tube_len);
	uint32_t i = 0;

	while (i < c->watch_count && c->watch[i] != tube)
		i++;
	if (i < c->watch_count && c->watch_count == 1) {
		BEANSTALK_REPLY(c, "NOT_IGNORED");
		return;
	}
	if (i < c->watch_count) {
		c->watch_count--;
		c->watch[i] = c->watch[c->watch_count]; /* the last takes its place, as in beanstalkd */
		tube->watching--;
		beanstalk_tube_release(c->front, tube);
	}
	REPLY_NUMBER(c, "WATCHING", c->watch_count);
}

static void pause_tube(struct beanstalk_connection *c, const struct beanstalk_command *command)
{
	struct store_slice name = {command->tube, command->tube_len};
	struct beanstalk *front = c->front;
	struct store_queue_view view;
	int error = 0;

	if (!beanstalk_tube_find(front, command->tube, command->tube_len) &&
	    (store_queue_now(front->store, name, &view) < 0 || !beanstalk_queue_shown(&view))) {
		BEANSTALK_REPLY(c, "NOT_FOUND");
		return;
	}
	error = store_pause(front->store, name, command->delay_s * WH_NS_PER_S);
	if (error < 0)
		beanstalk_reply_failure(c, error);
	else
		BEANSTALK_REPLY(c, "PAUSED");
}

/* ---- all ---------------------------------------------------------------------------------- */

void beanstalk_command(struct beanstalk_connection *c, const struct beanstalk_command *command)
{
	struct beanstalk *front = c->front;

	front->commands[command->kind]++;
	switch (command->kind) {
	case BEANSTALK_RESERVE_JOB:
		reserve_job(c, command->id);
		break;
	case BEANSTALK_PEEK:
		peek(c, command->id);
		break;
	case BEANSTALK_PEEK_READY:
		peek(c, store_first(front->store, tube_name(c->use), JOB_READY));
		break;
	case BEANSTALK_PEEK_DELAYED:
		peek(c, store_first(front->store, tube_name(c->use), JOB_DELAYED));
		break;
	case BEANSTALK_PEEK_BURIED:
		peek(c, store_first(front->store, tube_name(c->use), JOB_BURIED));
		break;
	case BEANSTALK_KICK:
		kick(c, command->count);
		break;
	case BEANSTALK_STATS:
		beanstalk_stats(c);
		break;
	case BEANSTALK_STATS_JOB:
		beanstalk_stats_job(c, command->id);
		break;
	case BEANSTALK_STATS_TUBE:
		beanstalk_stats_tube(c, command->tube, command->tube_len);
		break;
	case BEANSTALK_USE:
		use(c, command);
		break;
	case BEANSTALK_WATCH:
		watch(c, command);
		break;
	case BEANSTALK_IGNORE:
		ignore(c, command);
		break;
	case BEANSTALK_LIST_TUBES:
		beanstalk_list_tubes(c);
		break;
	case BEANSTALK_LIST_TUBE_USED:
		reply_using(c, c->use);
		break;
	case BEANSTALK_LIST_TUBES_WATCHED:
		beanstalk_list_watched(c);
		break;
	case BEANSTALK_PAUSE_TUBE:
		pause_tube(c, command);
		break;
	case BEANSTALK_QUIT:
		c->quit = true;
		break;
	case BEANSTALK_BAD_FORMAT:
		BEANSTALK_REPLY(c, "BAD_FORMAT");
		break;
	default:
		BEANSTALK_REPLY(c, "UNKNOWN_COMMAND");
	}
}

void beanstalk_answer(struct beanstalk_connection *c, struct beanstalk_op *op)
{
	switch (op->kind) {
	case BEANSTALK_PUT:
		answer_put(c, op);
		break;
	case BEANSTALK_RESERVE:
	case BEANSTALK_RESERVE_TIMEOUT:
		answer_reserve(c, op);
		break;
	case BEANSTALK_RESERVE_JOB:
		answer_reserve_job(c, op);
		break;
	case BEANSTALK_PEEK:
		answer_peek(c, op);
		break;
	case BEANSTALK_KICK:
		answer_kick(c, op);
		break;
	case BEANSTALK_STATS:
	case BEANSTALK_STATS_JOB:
		beanstalk_stats_answer(c, op);
		break;
	default:
		answer_changes(c, op);
	}
}

void beanstalk_answer_nobody(struct beanstalk *front, struct beanstalk_op *op)
{
	free(op->memory);
	if (op->res.n < 0)
		return;
	switch (op->kind) {
	case BEANSTALK_STATS:
		break;
	case BEANSTALK_RESERVE:
	case BEANSTALK_RESERVE_TIMEOUT:
	case BEANSTALK_RESERVE_JOB:
		if (front->closed)
			store_lot_free(op->res.ptr); /* the store may be gone; the next start returns them */
		else
			store_lot_return(front->store, op->res.ptr);
		break;
	case BEANSTALK_PEEK:
		store_bytes_unref(op->res.ptr);
		break;
	case BEANSTALK_STATS_JOB:
		store_view_free(op->res.ptr);
		break;
	default:
		store_commit_free(op->res.ptr);
	}
}
