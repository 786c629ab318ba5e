/* src/store/bulk.c -- what is done to many jobs of a queue: step by step, so that nobody waits for it. See store.h, inside.h.
 *
 * A step looks at so many jobs and changes so many, in one commit, which takes well under a millisecond; the next one comes a turn later, and
 * whatever else is asked for comes in between. The first step is taken at once: few jobs are dealt with as if they were one change. Which jobs:
 * those of the queue that are in the states and of the ids asked for when their turn comes; none that was submitted since it began.
 *
 * A crash, a cancelled future or the end of the store leaves what was done so far. The answer comes when the last commit is flushed.
 */
#include "store/inside.h"

enum { STEP_JOBS = 512, STEP_SLOTS = 16384, SOON_JOBS = 4096, LIST_MAX = 1000 };

#define WAITING (1u << JOB_READY | 1u << JOB_DELAYED | 1u << JOB_BURIED)

enum order { BY_SLOT, BY_BURIAL, BY_INSTANT };

struct store_bulk {
	struct store_bulk *next, *prev;
	struct store *store;
	wh_future future;
	int kind; /* of the action: CANCEL, KICK, DELETE */
	uint8_t order;
	bool list;
	unsigned states;
	uint64_t id_min, id_max, left, done;
	uint32_t queue, cursor;
	uint64_t lsn; /* of the last commit; 0: none */
	/* to be dealt with, in turn */
	uint64_t *ids;
	uint32_t ids_at, ids_count;
	struct store_list *listed;
};

static void step(struct store_bulk *bulk);

static void bulk_free(struct store_bulk *bulk)
{
	*(bulk->prev ? &bulk->prev->next : &bulk->store->bulks) = bulk->next;
	if (bulk->next)
		bulk->next->prev = bulk->prev;
	store_list_free(bulk->listed);
	free(bulk->ids);
	free(bulk);
}

static void bulk_fail(struct store_bulk *bulk, int64_t error)
{
	wh_resolve(bulk->future, error, NULL);
	bulk_free(bulk);
}

void store_bulks_fail(struct store *store, int64_t error)
{
	for (struct store_bulk *bulk = store->bulks; bulk; bulk = bulk->next)
		if (!wh_done(bulk->future))
			wh_resolve(bulk->future, error, NULL); /* the next step frees it */
}

static void on_turn(wh_loop *loop, wh_res res, void *arg)
{
	struct store_bulk *bulk = arg;
	struct store *store = bulk->store;

	(void)loop;
	if (!store_operation_end(store)) {
		/* the store is gone with its list */
		store_list_free(bulk->listed);
		free(bulk->ids);
		free(bulk);
	} else if (store->failed || store->closing) {
		bulk_fail(bulk, store->failed ? store->failed : -ECANCELED);
	} else if (wh_done(bulk->future)) {
		bulk_free(bulk); /* cancelled: it stops here */
	} else if (res.n < 0 && !store_lacks_memory(store, res.n)) {
		bulk_fail(bulk, res.n);
	} else {
		step(bulk);
	}
}

static void go_on(struct store_bulk *bulk, wh_future when)
{
	if (wh_then(when, on_turn, bulk) == 0)
		bulk->store->operations++;
	else
		bulk_fail(bulk, -ENOMEM);
}

/* ---- which jobs -------------------------------------------------------------------------- */

/* The next ids, where none are left. false: there are no more. */
static bool look(struct store_bulk *bulk, struct job_queue *q)
{
	struct job_machine *m = bulk->store->jobs;
	uint64_t max = bulk->left < SOON_JOBS ? bulk->left : SOON_JOBS;
	int64_t soon;

	bulk->ids_at = bulk->ids_count = 0;
	switch (bulk->order) {
	case BY_BURIAL:
		bulk->ids_count = job_buried_some(m, q, bulk->ids, STEP_JOBS);
		return bulk->ids_count > 0;
	case BY_INSTANT:
		soon = job_delayed_soonest(m, q, bulk->ids, max);
		bulk->ids_count = soon > 0 ? (uint32_t)soon : 0;
		return bulk->ids_count > 0;
	default:
		if (job_scan_ended(m, bulk->cursor))
			return false;
		bulk->ids_count =
			job_scan_some(m, q, bulk->states, STEP_SLOTS, &bulk->cursor, bulk->ids, STEP_JOBS);
		return true;
	}
}

/* ---- changes ----------------------------------------------------------------------------- */

static int check(struct store_bulk *bulk, uint64_t id, int64_t now_ns, struct job_record *r)
{
	struct job_machine *m = bulk->store->jobs;
	struct job_info info;

	if (id < bulk->id_min || id > bulk->id_max || job_look(m, id, &info) < 0 ||
	    !(bulk->states >> info.state & 1))
		return -JOB_ESTATE;
	switch (bulk->kind) {
	case STORE_CANCEL:
		return job_check_cancel(m, id, now_ns, r);
	case STORE_KICK:
		return job_check_kick(m, id, r);
	default:
		return job_check_delete(m, id, NULL, now_ns / STORE_NS_PER_MS, r);
	}
}

/* One commit, of at most STEP_JOBS. */
static int change_some(struct store_bulk *bulk)
{
	const uint64_t record_bytes = LOG_RECORD_BYTES + JOB_RECORD_SMALL_MAX + 32;
	struct store *store = bulk->store;
	uint64_t room = log_transaction_max(store->log) / record_bytes,
		 count = bulk->ids_count - bulk->ids_at;
	int64_t now_ns = store_now_ns(store);
	int error = 0;

	count = count < STEP_JOBS ? count : STEP_JOBS;
	count = count < room ? count : room;
	count = count < bulk->left ? count : bulk->left;
	if (count == 0)
		return 0;
	error = store_begin(store, count * record_bytes, true);
	if (error < 0)
		return error;
	for (; count > 0 && error != -ENOMEM; count--) {
		struct job_record r;

		error = check(bulk, bulk->ids[bulk->ids_at], now_ns, &r);
		bulk->ids_at += error != -ENOMEM;
		if (error < 0 || r.type == 0)
			continue;
		store_append(store, &r, 0);
		bulk->done++;
		bulk->left--;
	}
	bulk->lsn = store_end(store, STORE_LOCAL).lsn;
	return error == -ENOMEM ? error : 0;
}

static void answer(struct store_bulk *bulk)
{
	struct store *store = bulk->store;
	struct store_commit *commit = store_commit_new(store, 1);

	if (!commit) {
		bulk_fail(bulk, -ENOMEM);
		return;
	}
	commit->results[0].count = bulk->done;
	commit->position = (struct store_position){
		log_epoch(store->log), bulk->lsn ? bulk->lsn : wh_mark_read(log_appended(store->log))};
	store_answer(store, STORE_LOCAL,
	             (struct store_answer){.lsn = commit->position.lsn,
	                                   .future = bulk->future,
	                                   .object = commit,
	                                   .kind = STORE_ANSWER_COMMIT});
	bulk_free(bulk);
}

/* ---- a list ------------------------------------------------------------------------------ */

struct store_list *store_list_free(struct store_list *list)
{
	free(list);
	return NULL;
}

static void list_dispose(wh_res res, void *arg)
{
	(void)arg;
	store_list_free(res.ptr);
}

static void list_some(struct store_bulk *bulk, const struct job_queue *q)
{
	struct store_list *list = bulk->listed;

	(void)q;
	for (; bulk->ids_at < bulk->ids_count && bulk->left > 0; bulk->ids_at++) {
		uint64_t id = bulk->ids[bulk->ids_at];
		struct job_info info;

		if (id < bulk->id_min || id > bulk->id_max || job_look(bulk->store->jobs, id, &info) < 0)
			continue;
		list->jobs[list->count++] = (struct store_listed){.job = id,
		                                                  .state = info.state,
		                                                  .cancel_requested = info.cancel_requested,
		                                                  .priority = info.priority,
		                                                  .attempts = info.attempts,
		                                                  .attempts_max = info.attempts_max,
		                                                  .at = info.when_ms * STORE_NS_PER_MS};
		bulk->left--;
	}
}

static void answer_list(struct store_bulk *bulk)
{
	struct store *store = bulk->store;
	struct store_list *list = bulk->listed;

	bulk->listed = NULL;
	store_answer(store, STORE_LOCAL,
	             (struct store_answer){.lsn = wh_mark_read(log_appended(store->log)),
	                                   .future = bulk->future,
	                                   .n = (int64_t)list->count,
	                                   .object = list,
	                                   .kind = STORE_ANSWER_LIST});
	bulk_free(bulk);
}

/* ---- steps ------------------------------------------------------------------------------- */

static void end(struct store_bulk *bulk)
{
	if (bulk->list)
		answer_list(bulk);
	else
		answer(bulk);
}

static void step(struct store_bulk *bulk)
{
	struct store *store = bulk->store;
	struct job_queue *q = job_queue_at(store->jobs, bulk->queue);
	int error = 0;

	if (!q || bulk->left == 0 || (bulk->ids_at == bulk->ids_count && !look(bulk, q))) {
		if (bulk->list && bulk->left > 0)
			bulk->listed->next = 0;
		end(bulk);
		return;
	}
	if (bulk->list) {
		list_some(bulk, q);
		/* a page ends after its last job, not after what was looked at beyond */
		if (bulk->left == 0)
			bulk->listed->next =
				job_scan_ended(store->jobs, bulk->cursor) && bulk->ids_at == bulk->ids_count
					? 0
					: job_scan_cursor(store->jobs, bulk->ids[bulk->ids_at - 1]);
	} else {
		error = change_some(bulk);
	}
	if (error == -EAGAIN)
		go_on(bulk, log_room_wait(store->log));
	else if (error < 0 && error != -ENOMEM)
		bulk_fail(bulk, error);
	else if (bulk->left == 0 || (bulk->ids_at == bulk->ids_count && bulk->order == BY_SLOT &&
	                             job_scan_ended(store->jobs, bulk->cursor)))
		end(bulk);
	else
		go_on(bulk, wh_sleep(store->loop, error == -ENOMEM ? 5 * STORE_NS_PER_MS : 0));
}

/* *ret_future: wish's, or one of its own. NULL: it has been answered. */
static struct store_bulk *bulk_new(struct store *store, struct store_slice queue, wh_future future)
{
	struct job_queue *q = job_queue_find(store->jobs, queue);
	struct store_bulk *bulk = q ? calloc(1, sizeof(*bulk)) : NULL;

	if (bulk)
		bulk->ids = malloc(SOON_JOBS * sizeof(bulk->ids[0]));
	if (!bulk || !bulk->ids) {
		free(bulk);
		wh_resolve(future, q ? -ENOMEM : -JOB_EUNKNOWN_QUEUE, NULL);
		return NULL;
	}
	bulk->store = store;
	bulk->future = future;
	bulk->queue = q->number;
	bulk->id_max = job_ids_next(store->jobs) - 1;
	bulk->next = store->bulks;
	if (bulk->next)
		bulk->next->prev = bulk;
	store->bulks = bulk;
	return bulk;
}

static int start(struct store *store, const struct store_many *many, wh_future future)
{
	struct store_bulk *bulk = bulk_new(store, many->queue, future);
	const struct job_queue *q;

	if (!bulk)
		return 0;
	q = job_queue_at(store->jobs, bulk->queue);
	bulk->kind = many->kind;
	bulk->states = many->states;
	bulk->left = many->count_max ? many->count_max : UINT64_MAX;
	bulk->id_min = many->id_min;
	if (many->id_max > 0 && many->id_max < bulk->id_max)
		bulk->id_max = many->id_max;
	/* beanstalkd's way: buried ones, and if there are none delayed ones, of which the soonest */
	if (many->kind == STORE_KICK && many->states == 0)
		bulk->states = q->jobs[JOB_BURIED] > 0 ? 1u << JOB_BURIED : 1u << JOB_DELAYED;
	if (many->kind == STORE_KICK && many->id_min == 0 && many->id_max == 0) {
		if (bulk->states == 1u << JOB_BURIED)
			bulk->order = BY_BURIAL;
		else if (bulk->states == 1u << JOB_DELAYED && bulk->left < q->jobs[JOB_DELAYED])
			bulk->order = BY_INSTANT;
	}
	if (bulk->order == BY_BURIAL && bulk->left > q->jobs[JOB_BURIED])
		bulk->left = q->jobs[JOB_BURIED]; /* those that are buried while it goes on are not meant */
	if (bulk->order != BY_SLOT)
		bulk->id_max = UINT64_MAX;
	step(bulk);
	return 0;
}

/* ---- the calls --------------------------------------------------------------------------- */

void store_bulk_grant(struct store *store, const struct store_wish *wish)
{
	const struct store_action *a = &wish->actions[0];
	struct store_many many = {.kind = STORE_CANCEL, .queue = a->queue.name, .states = WAITING};

	if (a->kind == STORE_QUEUE_KICK)
		many = (struct store_many){
			.kind = STORE_KICK, .queue = a->queue.name, .count_max = a->queue.count};
	if (a->kind == STORE_QUEUE_KICK && a->queue.count == 0)
		many.count_max = UINT64_MAX;
	(void)start(store, &many, wish->future);
}

wh_future store_do_many(struct store *store, const struct store_many *many)
{
	static const unsigned allowed[] = {[STORE_CANCEL] = WAITING,
	                                   [STORE_KICK] = 1u << JOB_BURIED | 1u << JOB_DELAYED,
	                                   [STORE_DELETE] = WAITING | 1u << JOB_DONE | 1u << JOB_FAILED |
	                                                    1u << JOB_CANCELLED};
	wh_future future = wh_promise(store->loop, store_commit_dispose, NULL);

	if (wh_done(future))
		return future;
	if (store->failed || store->closing)
		wh_resolve(future, store->failed ? store->failed : -ECANCELED, NULL);
	else if ((many->kind != STORE_CANCEL && many->kind != STORE_KICK && many->kind != STORE_DELETE) ||
	         (many->states & ~allowed[many->kind]) || (many->states == 0 && many->kind != STORE_KICK))
		wh_resolve(future, -JOB_EVALUE, NULL);
	else
		(void)start(store, many, future);
	return future;
}

wh_future store_list(struct store *store, struct store_slice queue, unsigned states, uint32_t after,
                     uint32_t max)
{
	wh_future future = wh_promise(store->loop, list_dispose, NULL);
	struct store_bulk *bulk;

	if (wh_done(future))
		return future;
	if (store->failed || store->closing || max == 0 || max > LIST_MAX) {
		wh_resolve(future,
		           store->failed    ? store->failed
		           : store->closing ? -ECANCELED
		                            : -JOB_EVALUE,
		           NULL);
		return future;
	}
	bulk = bulk_new(store, queue, future);
	if (!bulk)
		return future;
	bulk->list = true;
	bulk->states = states;
	bulk->cursor = after;
	bulk->left = max;
	bulk->listed = malloc(sizeof(*bulk->listed) + max * sizeof(bulk->listed->jobs[0]));
	if (!bulk->listed) {
		bulk_fail(bulk, -ENOMEM);
		return future;
	}
	bulk->listed->count = 0;
	bulk->listed->next = 0;
	step(bulk);
	return future;
}
