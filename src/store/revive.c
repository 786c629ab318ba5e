/* src/store/revive.c -- jobs that an action moves to another queue or calls back from their failure, beside others of the same commit. See
 * store.h, inside.h.
 *
 * A failed job is called back with what its records say, since its options left memory when it failed. That is read before the transaction is
 * judged, some at a time, by bulk_read.c; what has changed meanwhile is noticed when it is judged, and the whole is refused as too busy.
 */
#include "store/bulk.h"

struct store_revival {
	struct store_bulk bulk; /* as bulk_read.c wants it: .store, .revives, .items */
	unsigned references;
	wh_future read; /* of those that are being read */
	size_t ids_at, ids_count;
	uint32_t hint; /* where the next one is looked for */
	uint64_t ids[];
};

/* ---- reading ----------------------------------------------------------------------------- */

bool store_revival_needed(const struct store *store, const struct store_wish *wish)
{
	struct job_info info;

	for (size_t i = 0; i < wish->count; i++)
		if (wish->actions[i].kind == STORE_REPLAY &&
		    job_look(store->jobs, wish->actions[i].job, &info) == 0 && info.state == JOB_FAILED)
			return true;
	return false;
}

static void on_read(struct store_bulk *bulk)
{
	struct store_revival *revival = (struct store_revival *)(void *)bulk;

	wh_resolve(revival->read, 0, NULL);
}

int store_revival_new(struct store *store, const struct store_wish *wish, struct store_revival **ret)
{
	struct store_revival *revival;
	size_t count = 0;

	for (size_t i = 0; i < wish->count; i++)
		count += wish->actions[i].kind == STORE_REPLAY;
	revival = calloc(1, sizeof(*revival) + count * sizeof(revival->ids[0]));
	if (revival)
		revival->bulk.items = calloc(count, sizeof(revival->bulk.items[0]));
	if (!revival || !revival->bulk.items) {
		free(revival);
		return -ENOMEM;
	}
	revival->references = 1;
	revival->bulk.store = store;
	revival->bulk.revives = true;
	revival->bulk.until_ns = INT64_MAX;
	revival->bulk.on_read = on_read;
	for (size_t i = 0; i < wish->count; i++)
		if (wish->actions[i].kind == STORE_REPLAY)
			revival->ids[revival->ids_count++] = wish->actions[i].job;
	*ret = revival;
	return 0;
}

bool store_revival_ended(const struct store_revival *revival)
{
	return revival->ids_at == revival->ids_count;
}

wh_future store_revival_read(struct store_revival *revival)
{
	size_t count = revival->ids_count - revival->ids_at;
	wh_future read = wh_promise(revival->bulk.store->loop, NULL, NULL);

	if (wh_done(read))
		return read;
	if (count > BULK_READ_JOBS)
		count = BULK_READ_JOBS;
	revival->read = read;
	revival->ids_at += count;
	if (!bulk_read_failed(&revival->bulk, revival->ids + revival->ids_at - count, count))
		wh_resolve(read, 0, NULL);
	return read;
}

struct store_revival *store_revival_ref(struct store_revival *revival)
{
	if (revival)
		revival->references++;
	return revival;
}

struct store_revival *store_revival_unref(struct store_revival *revival)
{
	if (revival && --revival->references == 0) {
		bulk_read_forget(&revival->bulk);
		free(revival->bulk.items);
		free(revival);
	}
	return NULL;
}

/* What was read of a job; they are asked for in their order. NULL: nothing. */
static const struct bulk_item *find(const struct store_wish *wish, uint64_t job)
{
	struct store_revival *revival = wish->revival;
	uint32_t count = revival ? revival->bulk.items_count : 0;

	for (uint32_t n = 0; n < count; n++) {
		uint32_t i = (revival->hint + n) % count;

		if (revival->bulk.items[i].id == job) {
			revival->hint = i;
			return &revival->bulk.items[i];
		}
	}
	return NULL;
}

uint64_t store_revival_bytes(const struct store_wish *wish, const struct store_action *a)
{
	const struct bulk_item *item = find(wish, a->job);

	return item && item->known ? item->r.text.len + item->r.group.len + item->r.unique.len : 0;
}

/* ---- check ------------------------------------------------------------------------------- */

/* The queue that it is to go to; *ret 0: none is named. */
static int find_queue(const struct store *store, const struct store_action *a, uint32_t *ret)
{
	const struct job_queue *q = a->move.to.len > 0 ? job_queue_find(store->jobs, a->move.to) : NULL;

	if (a->move.to.len > 0 && !q)
		return -JOB_EUNKNOWN_QUEUE;
	*ret = q ? q->number : 0;
	return 0;
}

int store_check_move(struct store *store, const struct store_action *a, struct job_record *r)
{
	struct job_info info;
	uint32_t to;
	int error = find_queue(store, a, &to);

	if (error < 0)
		return error;
	if (to == 0 || (job_look(store->jobs, a->job, &info) == 0 && info.queue->number == to))
		return -JOB_EVALUE;
	return job_check_move(store->jobs, a->job, to, false, r);
}

/* One whose records were read. */
static int check_failed(struct store *store, const struct store_wish *wish, const struct job_info *info,
                        uint32_t to, struct job_record *r)
{
	const struct bulk_item *item = find(wish, info->id);

	if (!item)
		return -JOB_EBUSY; /* it has failed since */
	if (item->error < 0)
		return (int)item->error;
	if (!bulk_item_holds(item))
		return -JOB_EBUSY;
	*r = item->r;
	to = to ? to : info->queue->number;
	if (item->submit_queue != to) /* a key is that of one queue */
		r->unique = (struct job_slice){0};
	if (r->unique.len == 0)
		r->unique_while_ms = 0;
	return job_check_revive(store->jobs, info->id, to, r);
}

int store_check_replay(struct store *store, const struct store_wish *wish, const struct store_action *a,
                       struct job_record *r)
{
	struct job_info info;
	uint32_t to;
	int error = find_queue(store, a, &to);

	if (error == 0)
		error = job_look(store->jobs, a->job, &info);
	if (error < 0)
		return error;
	if (info.state == JOB_FAILED)
		return check_failed(store, wish, &info, to, r);
	/* what waits is called back only from where the dead go */
	if ((info.state == JOB_DELAYED || info.state == JOB_READY) && !info.dead_from)
		return -JOB_ESTATE;
	if (to == 0 && info.dead_from && !info.dead_from->gone)
		to = info.dead_from->number;
	if (to == info.queue->number)
		to = 0;
	if (to == 0 && info.state != JOB_BURIED)
		return job_state_finished(info.state) ? -JOB_EFINISHED : -JOB_ESTATE;
	return job_check_move(store->jobs, a->job, to, true, r);
}
