/* src/store/reserve.c -- reservations: granted at once, or in line until a job comes. See inside.h.
 *
 * Every queue has a line of the reservations that watch it, oldest first; a reservation that watches several stands
 * in each. Jobs are given out once per turn, so that a batch of jobs becomes one grant and not many. A reservation
 * whose caller has gone (its future is done) is passed over and takes no job.
 */
#include "store/inside.h"

enum { BYTES_DEFAULT = 64 << 20, BYTES_GUESS = 64 << 10, SWEEP_MIN = 64 };

/* ---- lots -------------------------------------------------------------------------------- */

struct store_lot *store_lot_free(struct store_lot *lot)
{
	if (!lot)
		return NULL;
	for (size_t i = 0; i < lot->count; i++) {
		const void *name = lot->jobs[i].queue.data;

		store_bytes_unref(lot->jobs[i].payload);
		if (i + 1 == lot->count || lot->jobs[i + 1].queue.data != name) /* see name_of() */
			free((void *)(uintptr_t)name);
	}
	free(lot);
	return NULL;
}

int64_t store_release_lot(struct store *store, const struct store_lot *lot)
{
	int64_t now_ms = store_now_ns(store) / STORE_NS_PER_MS;
	int error = store_begin(store, lot->count * (LOG_RECORD_BYTES + JOB_RECORD_SMALL_MAX), true);

	if (error < 0)
		return error; /* the leases pass by themselves */
	for (size_t i = 0; i < lot->count; i++) {
		const struct store_leased *job = &lot->jobs[i];
		struct job_record r = {0};

		error = job_check_return(store->jobs, job->job, job->lease, now_ms, &r);
		if (error == -JOB_ECANCELLED)
			error = job_check_acknowledge(store->jobs, job->job, store_now_ns(store), &r);
		if (error == 0)
			store_append(store, &r, 0);
	}
	store_end(store, STORE_ASYNC);
	return 0;
}

struct store_lot *store_lot_return(struct store *store, struct store_lot *lot)
{
	if (lot && lot->count > 0)
		store_release_lot(store, lot);
	return store_lot_free(lot);
}

/* A lot that was given to a future which nobody consumed. By then the store may have been closed: its number tells. */
static void dispose_lot(wh_res res, void *arg)
{
	struct store *store = store_by_number((uintptr_t)arg);

	if (store && !store->failed && !store->closing)
		store_lot_return(store, res.ptr);
	else
		store_lot_free(res.ptr);
}

void store_lot_finish(struct store_lot_making *making)
{
	struct store *store = making->store;
	struct store_lot *lot = making->lot;

	if (making->reading > 0 || !making->reached)
		return;
	if (store->failed) {
		wh_resolve(making->future, store->failed, NULL);
		store_lot_free(lot);
	} else if (wh_resolve(making->future, (int64_t)lot->count, lot) < 0) {
		store_lot_return(store, lot); /* its caller has gone in the meantime */
	} else {
		store->stats.reserved += lot->count;
	}
	free(making);
}

static void on_payload(void *arg, int64_t error, struct store_bytes *bytes)
{
	struct store_lot_read *read = arg;
	struct store_lot_making *making = read->making;
	struct store_leased *job = &making->lot->jobs[read - making->reads];

	job->payload = bytes;
	job->error = (int32_t)error;
	if (bytes && job->attempt == 1)
		wh__histogram_add(&making->store->stats.wait, making->at - bytes->since, STORE_JOB_SHIFT);
	making->reading--;
	store_lot_finish(making);
}

/* ---- grant ------------------------------------------------------------------------------- */

struct grant { /* what is asked for */
	struct job_queue *const *queues;
	size_t queues_count;
	uint32_t jobs_max;
	int level;
	uint64_t bytes_max;
	int64_t lease_ms;
	bool bound;
	uint64_t job; /* 0: whichever is next */
};

/* About how many bytes of payload does the job bring? */
static uint64_t payload_bytes(struct store *store, uint64_t id, uint64_t place)
{
	const struct store_blob_entry *e = store_blob_table_find(&store->blobs.table, id);
	uint64_t bytes = BYTES_GUESS;

	if (e && e->payload.number != 0)
		return e->payload.bytes;
	(void)store_recent_bytes(&store->recent, place, &bytes);
	return bytes;
}

/* A copy of the queue's name; jobs of one queue that follow each other in a lot share it. NULL: no memory. */
static const char *name_of(const struct job_queue *q, const struct store_leased *before)
{
	char *name;

	if (before && before->queue.len == q->name_len &&
	    memcmp(before->queue.data, q->name, q->name_len) == 0)
		return before->queue.data;
	name = malloc(q->name_len);
	if (name)
		memcpy(name, q->name, q->name_len);
	return name;
}

static int claim(struct store *store, uint64_t id, int64_t now_ns, const struct grant *grant,
                 const struct store_leased *before, struct store_leased *job, uint64_t *ret_place)
{
	struct job_record r, rate;
	struct job_info info;
	const char *name;
	int error = job_check_claim(store->jobs, id, now_ns, grant->lease_ms, log_epoch(store->log),
	                            grant->bound, &r);

	if (error < 0)
		return error;
	if (job_look(store->jobs, id, &info) < 0)
		return -ENOMEM;
	name = name_of(info.queue, before);
	if (!name)
		return -ENOMEM;
	store_append(store, &r, 0);
	if (job_check_rate(store->jobs, info.queue->number, now_ns, &rate) == 0 && rate.type != 0)
		store_append(store, &rate, 0);
	if (job_check_group_rate(store->jobs, id, now_ns, &rate) == 0 && rate.type != 0)
		store_append(store, &rate, 0);
	*job = (struct store_leased){.job = id,
	                             .lease = {r.epoch, r.claim},
	                             .attempt = r.attempt,
	                             .attempts_max = info.attempts_max,
	                             .priority = info.priority,
	                             .time_to_run_ns = info.time_to_run_ms * STORE_NS_PER_MS,
	                             .deadline = r.when_ms * STORE_NS_PER_MS,
	                             .queue = {name, info.queue->name_len}};
	*ret_place = info.place;
	return 0;
}

/* Lease what is there and answer future with it. Result: how many, 0 when nothing is, or a negative error. */
static int64_t grant_jobs(struct store *store, const struct grant *grant, wh_future future)
{
	struct store_lot_making *making;
	uint64_t places[JOB_RESERVE_MAX], bytes = 0, id;
	int64_t now_ns = store_now_ns(store);
	struct store_lot *lot;
	int error;

	if (job_late(store->jobs, now_ns / STORE_NS_PER_MS))
		store_advance(store); /* so that it is not in the way of others */
	id = grant->job ? grant->job : job_pick(store->jobs, grant->queues, grant->queues_count, now_ns);
	if (id == 0)
		return 0;
	lot = calloc(1, sizeof(*lot) + grant->jobs_max * sizeof(lot->jobs[0]));
	making = malloc(sizeof(*making) + grant->jobs_max * sizeof(making->reads[0]));
	error = lot && making ? store_begin(store,
	                                    grant->jobs_max * (LOG_RECORD_BYTES + JOB_RECORD_SMALL_MAX), true)
	                      : -ENOMEM;
	if (error < 0) {
		free(making);
		free(lot);
		return error;
	}
	while (id != 0 && lot->count < grant->jobs_max) {
		struct store_leased *job = &lot->jobs[lot->count];

		error = claim(store, id, now_ns, grant, lot->count > 0 ? job - 1 : NULL, job,
		              &places[lot->count]);
		if (error < 0)
			break;
		bytes += payload_bytes(store, id, places[lot->count]);
		lot->count++;
		if (grant->job != 0 || bytes >= grant->bytes_max)
			break;
		id = job_pick(store->jobs, grant->queues, grant->queues_count, now_ns);
	}
	lot->position = store_end(store, grant->level);
	if (lot->count == 0) {
		free(making);
		free(lot);
		return error == -JOB_EBUSY && grant->job == 0 ? 0 : error; /* late, see store_advance() */
	}
	lot->level = grant->level;
	*making = (struct store_lot_making){.store = store,
	                                    .lot = lot,
	                                    .future = future,
	                                    .reading = (uint32_t)lot->count,
	                                    .at = store_now_ns(store)};
	store_answer(
		store, grant->level,
		(struct store_answer){.lsn = lot->position.lsn, .object = making, .kind = STORE_ANSWER_LOT});
	making->reading++; /* held while the reads begin, so that the last of them does not free it */
	for (size_t i = 0, count = lot->count; i < count; i++) {
		making->reads[i].making = making;
		store_read_bytes(store, places[i], false, on_payload, &making->reads[i]);
	}
	making->reading--;
	error = (int)lot->count;
	store_lot_finish(making);
	return error;
}

/* ---- the lines --------------------------------------------------------------------------- */

static struct store_line *line_of(struct job_queue *q)
{
	if (!q->waiters)
		q->waiters = calloc(1, sizeof(struct store_line));
	return q->waiters;
}

static void free_empty_lines(const struct grant *grant)
{
	for (size_t i = 0; i < grant->queues_count; i++) {
		if (grant->queues[i]->waiters_count == 0) {
			free(grant->queues[i]->waiters);
			grant->queues[i]->waiters = NULL;
		}
	}
}

static void leave(struct store *store, struct store_waiter *w)
{
	for (size_t i = 0; i < w->count; i++) {
		struct store_link *link = &w->links[i];
		struct store_line *line = link->queue->waiters;

		*(link->prev ? &link->prev->next : &line->first) = link->next;
		*(link->next ? &link->next->prev : &line->last) = link->prev;
		link->queue->waiters_count--;
		if (link->queue->waiters_count == 0) {
			free(line);
			link->queue->waiters = NULL;
			job_queue_free_if_gone(store->jobs, link->queue);
		}
	}
	*(w->prev ? &w->prev->next : &store->waiters_first) = w->next;
	*(w->next ? &w->next->prev : &store->waiters_last) = w->prev;
	store->waiters_count--;
	free(w);
}

static void sweep(struct store *store)
{
	for (struct store_waiter *w = store->waiters_first, *next; w; w = next) {
		next = w->next;
		if (wh_done(w->future))
			leave(store, w);
	}
	store->waiters_sweep_at = store->waiters_count * 2 + SWEEP_MIN;
}

static int park(struct store *store, const struct grant *grant, wh_future future)
{
	struct store_waiter *w = malloc(sizeof(*w) + grant->queues_count * sizeof(w->links[0]));

	if (!w)
		return -ENOMEM;
	for (size_t i = 0; i < grant->queues_count; i++) {
		if (!line_of(grant->queues[i])) {
			free_empty_lines(grant);
			free(w);
			return -ENOMEM;
		}
	}
	*w = (struct store_waiter){.future = future,
	                           .prev = store->waiters_last,
	                           .jobs_max = grant->jobs_max,
	                           .level = (uint8_t)grant->level,
	                           .bytes_max = grant->bytes_max,
	                           .lease_ms = grant->lease_ms,
	                           .bound = grant->bound,
	                           .count = (uint16_t)grant->queues_count};
	*(store->waiters_last ? &store->waiters_last->next : &store->waiters_first) = w;
	store->waiters_last = w;
	store->waiters_count++;
	for (size_t i = 0; i < w->count; i++) {
		struct store_line *line = grant->queues[i]->waiters;

		w->links[i] = (struct store_link){.waiter = w, .queue = grant->queues[i], .prev = line->last};
		*(line->last ? &line->last->next : &line->first) = &w->links[i];
		line->last = &w->links[i];
		grant->queues[i]->waiters_count++;
	}
	return 0;
}

/* The first of the line that is still there. */
static struct store_waiter *first_waiting(struct store *store, struct job_queue *q)
{
	struct store_line *line = q->waiters;

	while (line && line->first && wh_done(line->first->waiter->future)) {
		bool last = q->waiters_count == 1;

		leave(store, line->first->waiter);
		if (last)
			return NULL; /* the queue itself may be gone with it */
	}
	return line && line->first ? line->first->waiter : NULL;
}

/* Give q's jobs to those who wait for them. false: the log has no room now. */
static bool serve(struct store *store, struct job_queue *q)
{
	struct store_waiter *w;

	while ((w = first_waiting(store, q)) != NULL) {
		struct job_queue *queues[JOB_RESERVE_QUEUES_MAX];
		struct grant grant = {.queues = queues,
		                      .queues_count = w->count,
		                      .jobs_max = w->jobs_max,
		                      .level = w->level,
		                      .bytes_max = w->bytes_max,
		                      .lease_ms = w->lease_ms,
		                      .bound = w->bound};
		bool last = q->waiters_count == 1;
		int64_t n;

		for (size_t i = 0; i < w->count; i++)
			queues[i] = w->links[i].queue;
		n = grant_jobs(store, &grant, w->future);
		if (n == 0)
			return true;
		if (n == -EAGAIN)
			return false;
		if (n < 0)
			wh_resolve(w->future, n, NULL);
		leave(store, w);
		if (last)
			return true;
	}
	return true;
}

void store_match(struct store *store)
{
	struct job_queue *q;

	while (!store->failed && (q = job_woken(store->jobs)) != NULL) {
		if (!serve(store, q)) {
			job_queue_wake(store->jobs, q);
			store_wait_for_room(store);
			return;
		}
	}
}

void store_queue_removed(struct store *store, uint32_t number)
{
	struct job_queue *q = job_queue_at(store->jobs, number);

	while (q && q->gone && q->waiters_count > 0) {
		struct store_line *line = q->waiters;
		bool last = q->waiters_count == 1;

		wh_resolve(line->first->waiter->future, -JOB_EUNKNOWN_QUEUE, NULL);
		leave(store, line->first->waiter);
		if (last)
			break;
	}
}

void store_waiters_fail(struct store *store, int64_t error)
{
	while (store->waiters_first) {
		wh_resolve(store->waiters_first->future, error, NULL);
		leave(store, store->waiters_first);
	}
}

/* ---- the call ---------------------------------------------------------------------------- */

/* Queues by name, made where they are not there yet. */
static int find_queues(struct store *store, const struct store_reserve *reserve, struct job_queue **queues)
{
	for (size_t i = 0; i < reserve->queues_count; i++) {
		queues[i] = job_queue_find(store->jobs, reserve->queues[i]);
		if (!queues[i]) {
			int error = store_queue_make(store, reserve->queues[i]);

			if (error < 0)
				return error;
			queues[i] = job_queue_find(store->jobs, reserve->queues[i]);
		}
		for (size_t k = 0; k < i; k++)
			if (queues[k] == queues[i])
				return -JOB_EVALUE;
	}
	return 0;
}

static int check(struct store *store, const struct store_reserve *reserve, struct grant *grant)
{
	if (store->failed)
		return (int)store->failed;
	if (store->closing)
		return -ECANCELED;
	if (reserve->queues_count > JOB_RESERVE_QUEUES_MAX ||
	    (reserve->queues_count == 0 && reserve->job == 0) || reserve->jobs_max > JOB_RESERVE_MAX ||
	    reserve->lease_ns < 0)
		return -JOB_EVALUE;
	*grant = (struct grant){.jobs_max = reserve->jobs_max ? reserve->jobs_max : 1,
	                        .bytes_max = reserve->bytes_max ? reserve->bytes_max : BYTES_DEFAULT,
	                        .lease_ms = (reserve->lease_ns + STORE_NS_PER_MS - 1) / STORE_NS_PER_MS,
	                        .bound = reserve->bound,
	                        .job = reserve->job};
	if (grant->job != 0)
		grant->jobs_max = 1;
	return store_level(reserve->level, STORE_ASYNC, &grant->level);
}

wh_future store_reserve(struct store *store, const struct store_reserve *reserve)
{
	struct job_queue *queues[JOB_RESERVE_QUEUES_MAX];
	struct grant grant;
	wh_future future;
	int64_t n = check(store, reserve, &grant);
	bool in_line = false;

	if (n == 0)
		n = find_queues(store, reserve, queues);
	if (n == -EAGAIN) { /* the log has no room for a new queue just now */
		store_wait_for_room(store);
		n = -JOB_EBUSY;
	}
	if (n < 0)
		return wh_failed(store->loop, n);
	grant.queues = queues;
	grant.queues_count = reserve->queues_count;
	future = wh_promise(store->loop, dispose_lot, (void *)store->number);
	if (wh_done(future))
		return future; /* no memory */
	if (job_woken_any(store->jobs))
		store_match(store); /* those who came before */
	for (size_t i = 0; i < grant.queues_count; i++)
		in_line |= first_waiting(store, queues[i]) != NULL && job_woken_any(store->jobs);
	n = in_line ? 0 : grant_jobs(store, &grant, future);
	if (n == -EAGAIN) {
		store_wait_for_room(store);
		n = reserve->wait ? 0 : -JOB_EBUSY;
	}
	if (n == 0 && reserve->wait && grant.job == 0) {
		if (store->waiters_count >= store->waiters_sweep_at)
			sweep(store);
		n = park(store, &grant, future);
		for (size_t i = 0; n == 0 && i < grant.queues_count; i++)
			if (queues[i]->limited)
				store_later(store); /* a rate may have something to wait for: the timer */
		if (n == 0 && job_pick(store->jobs, queues, grant.queues_count, store_now_ns(store)) != 0)
			for (size_t i = 0; i < grant.queues_count; i++)
				job_queue_wake(store->jobs, queues[i]);
		if (n == 0)
			return future;
	}
	if (n <= 0)
		wh_resolve(future, n, NULL);
	return future;
}

bool store_is_last_in_line(const struct store *store, wh_future reserved)
{
	return store->waiters_last && store->waiters_last->future.id == reserved.id;
}
