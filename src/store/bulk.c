/* src/store/bulk.c -- what is done to many jobs of a queue: step by step, so that nobody waits for it. See store.h, inside.h.
 *
 * A step looks at so many jobs and changes so many, in one commit, which takes well under a millisecond; the next one comes a turn later, and
 * whatever else is asked for comes in between. The first step is taken at once: few jobs are dealt with as if they were one change. Which jobs:
 * those of the queue that are in the states and of the ids asked for when their turn comes; none that was submitted since it began. Where
 * something of them must be read (an error's text, what brings a failed one back), a step is of fewer jobs, and comes when that has been read.
 *
 * A crash, a cancelled future or the end of the store leaves what was done so far. The answer comes when the last commit is flushed.
 */
#include "store/bulk.h"

enum { STEP_SLOTS = 16384, LIST_MAX = 1000 };

#define WAITING    (1u << JOB_READY | 1u << JOB_DELAYED | 1u << JOB_BURIED | 1u << JOB_AWAITING)
#define REPLAYABLE ((WAITING & ~(1u << JOB_AWAITING)) | 1u << JOB_FAILED)

static void step(struct store_bulk *bulk);

static void memory_free(struct store_bulk *bulk)
{
	bulk_read_forget(bulk);
	store_list_free(bulk->listed);
	free(bulk->items);
	free(bulk->given);
	free(bulk->text);
	free(bulk->ids);
	free(bulk);
}

static void bulk_free(struct store_bulk *bulk)
{
	*(bulk->prev ? &bulk->prev->next : &bulk->store->bulks) = bulk->next;
	if (bulk->next)
		bulk->next->prev = bulk->prev;
	memory_free(bulk);
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
		memory_free(bulk); /* the store is gone with its list */
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

/* What was awaited is there, or has been read. */
static void go_on(struct store_bulk *bulk, wh_future when)
{
	if (wh_then(when, on_turn, bulk) == 0)
		bulk->store->operations++;
	else
		bulk_fail(bulk, -ENOMEM);
}

void bulk_go_on(struct store_bulk *bulk)
{
	go_on(bulk, wh_sleep(bulk->store->loop, 0));
}

/* ---- which jobs -------------------------------------------------------------------------- */

bool bulk_means(const struct store_bulk *bulk, uint64_t id, const struct job_info *info)
{
	bool waits = info->state == JOB_DELAYED || info->state == JOB_READY;

	if (id < bulk->id_min || id > bulk->id_max || info->queue->number != bulk->queue ||
	    !(bulk->states >> info->state & 1) || (bulk->dead && !info->dead_from))
		return false;
	/* what waits is called back only from where the dead go */
	return bulk->kind != STORE_REPLAY || !waits || info->dead_from;
}

/* The next ids, where none are left. 1; 0: there are no more; -ENOMEM. */
static int look(struct store_bulk *bulk, struct job_queue *q)
{
	struct job_machine *m = bulk->store->jobs;
	uint64_t max = bulk->left < BULK_SOON_JOBS ? bulk->left : BULK_SOON_JOBS;
	int64_t soon;

	bulk->ids_at = bulk->ids_count = 0;
	switch (bulk->order) {
	case BULK_BY_BURIAL:
		bulk->ids_count = job_buried_some(m, q, bulk->ids, BULK_STEP_JOBS);
		return bulk->ids_count > 0;
	case BULK_BY_INSTANT:
		soon = job_delayed_soonest(m, q, bulk->ids, max);
		bulk->ids_count = soon > 0 ? (uint32_t)soon : 0;
		return soon < 0 ? (int)soon : soon > 0;
	case BULK_BY_ID:
		while (bulk->ids_count < BULK_STEP_JOBS && bulk->given_at < bulk->given_count)
			bulk->ids[bulk->ids_count++] = bulk->given[bulk->given_at++];
		return bulk->ids_count > 0;
	default:
		if (job_scan_ended(m, bulk->cursor))
			return 0;
		bulk->ids_count = job_scan_some(m, q, bulk->states, STEP_SLOTS, &bulk->cursor, bulk->ids,
		                                BULK_STEP_JOBS);
		return 1;
	}
}

/* ---- changes ----------------------------------------------------------------------------- */

/* A waiting job: back to where it became dead, or ready where it is, or where it is told to. */
static int check_replay(struct store_bulk *bulk, uint64_t id, const struct job_info *info,
                        struct job_record *r)
{
	const struct bulk_item *item;
	uint32_t to = bulk->to;

	if (info->state != JOB_FAILED) {
		if (to == 0 && info->dead_from && !info->dead_from->gone)
			to = info->dead_from->number;
		if (to == bulk->queue)
			to = 0;
		if (to == 0 && info->state != JOB_BURIED)
			return -JOB_ESTATE;
		return job_check_move(bulk->store->jobs, id, to, true, r);
	}
	item = bulk_read_item(bulk, id);
	if (!item || !item->known)
		return -JOB_ESTATE;
	*r = item->r;
	to = to ? to : bulk->queue;
	if (item->submit_queue != to) /* a key is that of one queue */
		r->unique = (struct job_slice){0};
	if (r->unique.len == 0)
		r->unique_while_ms = 0;
	return job_check_revive(bulk->store->jobs, id, to, r);
}

/* -EAGAIN: what was read of it is not true any more. */
static int check_read(struct store_bulk *bulk, uint64_t id)
{
	const struct bulk_item *item = bulk_read_item(bulk, id);
	struct job_info info;

	for (uint32_t i = 0; !item && i < bulk->items_count; i++)
		if (bulk->items[i].id == id)
			return -EAGAIN;
	if (item)
		return item->error == -ENOMEM ? -ENOMEM : item->known && item->matches ? 0 : -JOB_ESTATE;
	/* nothing had to be read of it, unless it has become another since */
	if (job_look(bulk->store->jobs, id, &info) == 0 && bulk->revives && info.state == JOB_FAILED)
		return -JOB_ESTATE;
	return bulk_asks(bulk) ? -JOB_ESTATE : 0;
}

static int check(struct store_bulk *bulk, uint64_t id, int64_t now_ns, struct job_record *r)
{
	struct job_machine *m = bulk->store->jobs;
	struct job_info info;
	int error;

	if (job_look(m, id, &info) < 0 || !bulk_means(bulk, id, &info))
		return -JOB_ESTATE;
	error = bulk_reads(bulk) ? check_read(bulk, id) : 0;
	if (error < 0)
		return error;
	switch (bulk->kind) {
	case STORE_CANCEL:
		return job_check_cancel(m, id, now_ns, r);
	case STORE_KICK:
		return job_check_kick(m, id, r);
	case STORE_MOVE:
		return job_check_move(m, id, bulk->to, false, r);
	case STORE_REPLAY:
		return check_replay(bulk, id, &info, r);
	default:
		return job_check_delete(m, id, NULL, now_ns / STORE_NS_PER_MS, r);
	}
}

/* The most that the record of one job takes. */
static uint64_t record_bytes(const struct store_bulk *bulk)
{
	uint64_t more = bulk->revives ? JOB_ERROR_TEXT_MAX + 2 * (uint64_t)JOB_KEY_MAX : 0;

	return LOG_RECORD_BYTES + JOB_RECORD_SMALL_MAX + 32 + more;
}

/* One commit, of at most BULK_STEP_JOBS. */
static int change_some(struct store_bulk *bulk)
{
	struct store *store = bulk->store;
	uint64_t room = log_transaction_max(store->log) / record_bytes(bulk),
		 count = bulk->ids_count - bulk->ids_at,
		 most = bulk_reads(bulk) ? BULK_READ_JOBS : BULK_STEP_JOBS;
	int64_t now_ns = store_now_ns(store);
	int error = 0;

	count = count < most ? count : most;
	count = count < room ? count : room;
	if (count == 0 || bulk->left == 0)
		return 0;
	error = store_begin(store, count * record_bytes(bulk), true);
	if (error < 0)
		return error;
	for (; count > 0 && bulk->left > 0; count--) {
		struct job_record r;

		error = check(bulk, bulk->ids[bulk->ids_at], now_ns, &r);
		if (error == -ENOMEM || error == -EAGAIN || error == -JOB_EUNKNOWN_QUEUE)
			break;
		bulk->ids_at++;
		if (error < 0 || r.type == 0)
			continue;
		store_append(store, &r, JOB_HIDDEN);
		bulk->done++;
		bulk->left--;
	}
	bulk->lsn = store_end(store, STORE_LOCAL).lsn;
	return error == -ENOMEM || error == -JOB_EUNKNOWN_QUEUE ? error : 0;
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

static int list_some(struct store_bulk *bulk)
{
	struct store_list *list = bulk->listed;
	uint32_t until = bulk_reads(bulk) ? bulk->ids_at + BULK_READ_JOBS : bulk->ids_count;

	for (; bulk->ids_at < bulk->ids_count && bulk->ids_at < until && bulk->left > 0; bulk->ids_at++) {
		uint64_t id = bulk->ids[bulk->ids_at];
		struct job_info info;
		int error;

		if (job_look(bulk->store->jobs, id, &info) < 0 || !bulk_means(bulk, id, &info))
			continue;
		error = bulk_reads(bulk) ? check_read(bulk, id) : 0;
		if (error == -ENOMEM || error == -EAGAIN)
			return error == -ENOMEM ? error : 0;
		if (error < 0)
			continue;
		list->jobs[list->count++] = (struct store_listed){.job = id,
		                                                  .state = info.state,
		                                                  .cancel_requested = info.cancel_requested,
		                                                  .priority = info.priority,
		                                                  .attempts = info.attempts,
		                                                  .attempts_max = info.attempts_max,
		                                                  .at = info.when_ms * STORE_NS_PER_MS,
		                                                  .dead = info.dead_from != NULL};
		bulk->left--;
	}
	return 0;
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
	bool over = !q || bulk->left == 0;
	int error = 0;

	if (!over && bulk->ids_at == bulk->ids_count) {
		error = look(bulk, q);
		over = error == 0;
	}
	if (error < 0) {
		go_on(bulk, wh_sleep(store->loop, 5 * STORE_NS_PER_MS));
		return;
	}
	if (over) {
		if (bulk->list && bulk->left > 0)
			bulk->listed->next = 0;
		end(bulk);
		return;
	}
	if (bulk_reads(bulk) && !bulk->read && bulk_read(bulk)) {
		bulk->read = true; /* it goes on when all of that is there */
		return;
	}
	bulk->read = false;
	if (bulk->list) {
		error = list_some(bulk);
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
	else if (bulk->left == 0 || (bulk->ids_at == bulk->ids_count && bulk->order == BULK_BY_SLOT &&
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
		bulk->ids = malloc(BULK_SOON_JOBS * sizeof(bulk->ids[0]));
	if (!bulk || !bulk->ids) {
		free(bulk);
		wh_resolve(future, q ? -ENOMEM : -JOB_EUNKNOWN_QUEUE, NULL);
		return NULL;
	}
	bulk->store = store;
	bulk->future = future;
	bulk->on_read = bulk_go_on;
	bulk->queue = q->number;
	bulk->id_max = job_ids_next(store->jobs) - 1;
	bulk->next = store->bulks;
	if (bulk->next)
		bulk->next->prev = bulk;
	store->bulks = bulk;
	return bulk;
}

/* What makes it choose among the jobs of the queue, kept. 0 or -ENOMEM. */
static int choose(struct store_bulk *bulk, const struct store_many *many)
{
	int64_t now_ns = store_now_ns(bulk->store);

	bulk->states = many->states;
	bulk->id_min = many->id_min;
	if (many->id_max > 0 && many->id_max < bulk->id_max)
		bulk->id_max = many->id_max;
	bulk->dead = many->dead;
	bulk->until_ns = many->older_ns > 0 ? now_ns - many->older_ns : INT64_MAX;
	bulk->from_ns = many->newer_ns > 0 && many->newer_ns < now_ns ? now_ns - many->newer_ns : 0;
	if (many->error.len > 0) {
		bulk->text = malloc(many->error.len);
		if (!bulk->text)
			return -ENOMEM;
		memcpy(bulk->text, many->error.data, many->error.len);
		bulk->text_len = many->error.len;
	}
	if (many->ids_count > 0) {
		bulk->given = malloc(many->ids_count * sizeof(bulk->given[0]));
		if (!bulk->given)
			return -ENOMEM;
		memcpy(bulk->given, many->ids, many->ids_count * sizeof(bulk->given[0]));
		bulk->given_count = many->ids_count;
		bulk->order = BULK_BY_ID;
	}
	if (many->kind == STORE_REPLAY && many->states == 0)
		bulk->states = REPLAYABLE;
	if (many->kind == STORE_MOVE && many->states == 0)
		bulk->states = WAITING;
	bulk->revives = many->kind == STORE_REPLAY && (bulk->states & 1u << JOB_FAILED);
	if (!bulk_reads(bulk))
		return 0;
	bulk->items = calloc(BULK_READ_JOBS, sizeof(bulk->items[0]));
	return bulk->items ? 0 : -ENOMEM;
}

/* Are all that are in these states meant? */
static bool means_all(const struct store_bulk *bulk, const struct store_many *many)
{
	return many->id_min == 0 && many->id_max == 0 && !bulk->dead && !bulk_reads(bulk) &&
	       bulk->given_count == 0;
}

static void start(struct store *store, const struct store_many *many, uint32_t to, wh_future future)
{
	struct store_bulk *bulk = bulk_new(store, many->queue, future);
	const struct job_queue *q;

	if (!bulk)
		return;
	q = job_queue_at(store->jobs, bulk->queue);
	bulk->kind = many->kind;
	bulk->to = to;
	bulk->left = many->count_max ? many->count_max : UINT64_MAX;
	if (choose(bulk, many) < 0) {
		bulk_fail(bulk, -ENOMEM);
		return;
	}
	/* beanstalkd's way: buried ones, and if there are none delayed ones, of which the soonest */
	if (many->kind == STORE_KICK && many->states == 0)
		bulk->states = q->jobs[JOB_BURIED] > 0 ? 1u << JOB_BURIED : 1u << JOB_DELAYED;
	if (many->kind == STORE_KICK && means_all(bulk, many)) {
		if (bulk->states == 1u << JOB_BURIED)
			bulk->order = BULK_BY_BURIAL;
		else if (bulk->states == 1u << JOB_DELAYED && bulk->left < q->jobs[JOB_DELAYED])
			bulk->order = BULK_BY_INSTANT;
	}
	if (bulk->order == BULK_BY_BURIAL && bulk->left > q->jobs[JOB_BURIED])
		bulk->left = q->jobs[JOB_BURIED]; /* those that are buried while it goes on are not meant */
	if (bulk->order == BULK_BY_BURIAL || bulk->order == BULK_BY_INSTANT)
		bulk->id_max = UINT64_MAX;
	step(bulk);
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
	start(store, &many, 0, wish->future);
}

/* Is that a way to choose? */
static bool is_choice(const struct store_many *many)
{
	return many->ids_count <= STORE_MANY_IDS_MAX && many->error.len <= JOB_ERROR_TEXT_MAX &&
	       many->older_ns >= 0 && many->newer_ns >= 0;
}

static bool is_valid(const struct store_many *many)
{
	static const unsigned allowed[] = {[STORE_CANCEL] = WAITING,
	                                   [STORE_KICK] = 1u << JOB_BURIED | 1u << JOB_DELAYED,
	                                   [STORE_DELETE] = WAITING | 1u << JOB_DONE | 1u << JOB_FAILED |
	                                                    1u << JOB_CANCELLED,
	                                   [STORE_MOVE] = WAITING,
	                                   [STORE_REPLAY] = REPLAYABLE};
	bool moves = many->kind == STORE_MOVE,
	     states = many->kind == STORE_CANCEL || many->kind == STORE_DELETE;

	if (many->kind != STORE_CANCEL && many->kind != STORE_KICK && many->kind != STORE_DELETE && !moves &&
	    many->kind != STORE_REPLAY)
		return false;
	return !(many->states & ~allowed[many->kind]) && (many->states != 0 || !states) &&
	       (many->to.len > 0 ? moves || many->kind == STORE_REPLAY : !moves) && is_choice(many);
}

/* The queue that they go to, made if it is not there; *ret 0: none. */
static int find_target(struct store *store, const struct store_many *many, uint32_t *ret)
{
	struct job_queue *q;
	int error = 0;

	*ret = 0;
	if (many->to.len == 0)
		return 0;
	if (!job_queue_find(store->jobs, many->queue))
		return -JOB_EUNKNOWN_QUEUE;
	q = job_queue_find(store->jobs, many->to);
	if (!q)
		error = job_name_valid(many->to) ? store_queue_make(store, many->to) : -JOB_EVALUE;
	if (error < 0)
		return error == -EAGAIN ? -JOB_EBUSY : error;
	q = job_queue_find(store->jobs, many->to);
	if (many->kind == STORE_MOVE && q == job_queue_find(store->jobs, many->queue))
		return -JOB_EVALUE;
	*ret = q->number;
	return 0;
}

wh_future store_do_many(struct store *store, const struct store_many *many)
{
	wh_future future = wh_promise(store->loop, store_commit_dispose, NULL);
	uint32_t to = 0;
	int error;

	if (wh_done(future))
		return future;
	if (store->failed || store->closing) {
		wh_resolve(future, store->failed ? store->failed : -ECANCELED, NULL);
		return future;
	}
	error = is_valid(many) ? find_target(store, many, &to) : -JOB_EVALUE;
	if (error < 0)
		wh_resolve(future, error, NULL);
	else
		start(store, many, to, future);
	return future;
}

wh_future store_list_some(struct store *store, const struct store_many *which, uint32_t after, uint32_t max)
{
	wh_future future = wh_promise(store->loop, list_dispose, NULL);
	struct store_bulk *bulk;

	if (wh_done(future))
		return future;
	if (store->failed || store->closing || max == 0 || max > LIST_MAX || which->ids_count > 0 ||
	    !is_choice(which)) {
		wh_resolve(future,
		           store->failed    ? store->failed
		           : store->closing ? -ECANCELED
		                            : -JOB_EVALUE,
		           NULL);
		return future;
	}
	bulk = bulk_new(store, which->queue, future);
	if (!bulk)
		return future;
	bulk->list = true;
	bulk->cursor = after;
	bulk->left = max;
	bulk->listed = malloc(sizeof(*bulk->listed) + max * sizeof(bulk->listed->jobs[0]));
	if (!bulk->listed || choose(bulk, which) < 0) {
		bulk_fail(bulk, -ENOMEM);
		return future;
	}
	bulk->listed->count = 0;
	bulk->listed->next = 0;
	step(bulk);
	return future;
}

wh_future store_list(struct store *store, struct store_slice queue, unsigned states, uint32_t after,
                     uint32_t max)
{
	struct store_many which = {.queue = queue, .states = states};

	return store_list_some(store, &which, after, max);
}
