/* src/store/commit.c -- commits: records into the log, and answers when their mark has come far enough.
 *
 * See inside.h. The order of answers at one level is the order of commits, so a ring and one wait at the
 * log's mark are enough for any number of them.
 */
#include "store/inside.h"

enum { IDS_BLOCK = 65536 };

int store_level(int asked, int otherwise, int *ret)
{
	if (asked == STORE_DEFAULT)
		asked = otherwise;
	if (asked != STORE_ASYNC && asked != STORE_LOCAL)
		return -JOB_ELEVEL;
	*ret = asked;
	return 0;
}

/* ---- append ------------------------------------------------------------------------------ */

uint64_t store_record_bytes(const struct job_record *r)
{
	return LOG_RECORD_BYTES + JOB_RECORD_SMALL_MAX + 8 + r->content_type.len + r->headers.len +
	       (r->after_count > 0 ? 32 : 0) + r->body.len + r->text.len + r->unique.len + r->group.len +
	       r->trace.len + 16 + (r->type == JOB_QUEUE ? job_options_bytes(r) : 0);
}

int store_begin(struct store *store, uint64_t bytes_max, bool essential)
{
	int error;

	if (store->failed)
		return (int)store->failed;
	if (store->closing)
		return -ECANCELED;
	error = store_answers_room(store);
	if (error < 0)
		return error;
	error = log_begin(store->log, bytes_max, essential ? LOG_ESSENTIAL : 0);
	if (error == -EMSGSIZE)
		error = -JOB_ETOO_LARGE;
	if (error < 0)
		return error;
	store->in_commit = true;
	store->commit_from = 0;
	return 0;
}

static uint64_t append_one(struct store *store, const struct job_record *r)
{
	struct job_slice rest[JOB_RECORD_SLICES_MAX];
	uint8_t fixed[JOB_RECORD_FIXED_MAX];
	struct iovec iov[JOB_RECORD_SLICES_MAX];
	size_t fixed_bytes = job_record_fixed(r, fixed);
	int count = job_record_rest(r, rest);
	struct log_append append = {.type = r->type,
	                            .version = JOB_RECORD_VERSION,
	                            .fixed_bytes = (uint16_t)fixed_bytes,
	                            .fixed = fixed,
	                            .payload = iov,
	                            .payload_count = count};
	uint64_t place;

	for (int i = 0; i < count; i++) {
		iov[i] = (struct iovec){(void *)(uintptr_t)rest[i].data, rest[i].len};
		store->stats.record_bytes += rest[i].len;
	}
	place = log_append(store->log, &append);
	store->stats.records++;
	store->stats.record_bytes += fixed_bytes;
	if (store->commit_from == 0)
		store->commit_from = place;
	if (r->type == JOB_SUBMIT || r->type == JOB_FINISH || job_record_is_error(r) ||
	    r->type == JOB_PROGRESS)
		store_recent_add(&store->recent, place, r->type, fixed, fixed_bytes, rest, count);
	return place;
}

/* Jobs that awaited this one, and none any more. */
static void tell_released(struct store *store, uint64_t place, unsigned flags)
{
	uint64_t job;

	while ((job = job_released(store->jobs)) != 0) {
		store->hides = store->hides || (flags & JOB_HIDDEN);
		if (store->events)
			store_events_released(store, job, place);
		store_notice_awaiting(store, job);
	}
}

void store_append(struct store *store, struct job_record *r, unsigned flags)
{
	uint64_t place;

	assert(store->in_commit);
	place = append_one(store, r);
	if (r->type == JOB_SETTING)
		store_setting_apply(store, r);
	else if (r->type == JOB_KEY)
		store_keys_apply(store, r, place);
	if (store->events)
		store_events_before(store, r, place);
	job_apply(store->jobs, r, place, flags);
	if (store->events)
		store_events_after(store, r, place);
	store_blobs_apply(store, r, place);
	if (store->waits_count > 0)
		store_notice(store, r);
	tell_released(store, place, flags);
	store_later(store);
}

static void add_span(struct store *store, uint64_t end)
{
	if (store->spans_count == store->spans_cap) {
		/* without memory the span is remembered by making the last one longer: later, never earlier */
		if (store->spans_count == 0)
			abort();
		store->spans[(store->spans_first + store->spans_count - 1) % store->spans_cap].end = end;
		return;
	}
	store->spans[(store->spans_first + store->spans_count++) % store->spans_cap] =
		(struct store_span){store->commit_from, end};
}

struct store_position store_end(struct store *store, int level)
{
	struct log_commit commit = log_commit(store->log, level == STORE_ASYNC ? LOG_ASYNC : LOG_LOCAL);

	store->in_commit = false;
	if (store->commit_from != 0 && commit.lsn - store->commit_from > store->span_bytes)
		add_span(store, commit.lsn);
	if (store->ids_told > 0)
		store_answer(store, STORE_LOCAL,
		             (struct store_answer){.lsn = commit.lsn,
		                                   .n = (int64_t)store->ids_told,
		                                   .kind = STORE_ANSWER_IDS});
	store->ids_told = 0;
	if (store->hides)
		store_answer(store, STORE_LOCAL,
		             (struct store_answer){.lsn = commit.lsn, .kind = STORE_ANSWER_REVEAL});
	store->hides = false;
	store_wakes_commit(store, commit.lsn);
	if (store->events)
		store_events_end(store, commit.lsn);
	return (struct store_position){log_epoch(store->log), commit.lsn};
}

/* ---- marks ------------------------------------------------------------------------------- */

uint64_t store_reached(const struct store *store, int level)
{
	uint64_t lsn = wh_mark_read(level == STORE_ASYNC ? log_written(store->log) : log_flushed(store->log));

	for (size_t i = 0; i < store->spans_count; i++) {
		const struct store_span *span = &store->spans[(store->spans_first + i) % store->spans_cap];
		if (lsn > span->from && lsn < span->end)
			return span->from & ~UINT64_C(4095); /* where its first group begins */
	}
	return lsn;
}

uint64_t store_whole_at(const struct store *store, uint64_t lsn)
{
	for (size_t i = 0; i < store->spans_count; i++) {
		const struct store_span *span = &store->spans[(store->spans_first + i) % store->spans_cap];
		if (lsn > span->from && lsn < span->end)
			return span->end;
	}
	return lsn;
}

static void forget_spans(struct store *store)
{
	uint64_t flushed = wh_mark_read(log_flushed(store->log));

	while (store->spans_count > 0 && store->spans[store->spans_first].end <= flushed) {
		store->spans_first = (store->spans_first + 1) % store->spans_cap;
		store->spans_count--;
	}
}

/* Which lsn a level must reach before a job's present state may be shown; 0: it is already. Only 16 bits of the place
 * of a job's last record are known, which may make an old one look new: then the answer is late, never early. */
uint64_t store_needed(const struct store *store, const struct job_info *info, int level)
{
	uint64_t reached = store_reached(store, level), appended = wh_mark_read(log_appended(store->log));
	uint64_t block = appended >> 12, place;

	/* In a log that nobody appends to, a place that only looks new would be waited for without end. */
	if (reached >= appended)
		return 0;
	block -= (block - info->changed) & 0xffff;
	place = block << 12;
	if (block > appended >> 12 || place < reached)
		return 0;
	/* the newest place that it can be: everything below the end of its block */
	place += 1;
	for (size_t i = 0; i < store->spans_count; i++) {
		const struct store_span *span = &store->spans[(store->spans_first + i) % store->spans_cap];
		if (place + 4096 > span->from && place <= span->end)
			place = span->end;
	}
	return place;
}

/* ---- answers ----------------------------------------------------------------------------- */

void store_fifo_init(struct store *store, struct store_fifo *fifo, wh_mark *mark, int level)
{
	*fifo = (struct store_fifo){.store = store, .mark = mark, .level = level};
}

static int fifo_room(struct store_fifo *fifo, size_t more)
{
	size_t cap = fifo->cap ? fifo->cap : 256;
	struct store_answer *ring;

	if (fifo->count + more <= fifo->cap)
		return 0;
	while (cap < fifo->count + more)
		cap *= 2;
	ring = malloc(cap * sizeof(ring[0]));
	if (!ring)
		return -ENOMEM;
	for (size_t i = 0; i < fifo->count; i++)
		ring[i] = fifo->ring[(fifo->first + i) & (fifo->cap - 1)];
	free(fifo->ring);
	fifo->ring = ring;
	fifo->cap = cap;
	fifo->first = 0;
	return 0;
}

int store_answers_room(struct store *store)
{
	size_t more = 16;

	if (store->spans_cap == 0) {
		store->spans = malloc(64 * sizeof(store->spans[0]));
		if (!store->spans)
			return -ENOMEM;
		store->spans_cap = 64;
	}
	return fifo_room(&store->written, more) < 0 || fifo_room(&store->flushed, more) < 0 ? -ENOMEM : 0;
}

void store_commit_dispose(wh_res res, void *arg)
{
	(void)arg;
	store_commit_free(res.ptr);
}

static void dispose(struct store_answer *a)
{
	switch (a->kind) {
	case STORE_ANSWER_COMMIT:
		store_commit_free(a->object);
		break;
	case STORE_ANSWER_VIEW:
		store_view_free(a->object);
		break;
	case STORE_ANSWER_LIST:
		store_list_free(a->object);
		break;
	case STORE_ANSWER_BYTES:
		store_bytes_unref(a->object);
		break;
	default:
		break;
	}
}

static void count_commit(struct store *store, int level, size_t actions, int64_t ns)
{
	if (level == STORE_ASYNC) {
		store->stats.commits_async++;
		wh__histogram_add(&store->stats.commit_async, ns, STORE_COMMIT_SHIFT);
	} else {
		store->stats.commits_local++;
		wh__histogram_add(&store->stats.commit_local, ns, STORE_COMMIT_SHIFT);
		store->flush_actions += actions;
	}
}

/* error 0: the level is reached. now: read anew, since a flush may take place within a turn of the loop. */
static void deliver(struct store *store, struct store_answer *a, int level, int64_t error, int64_t now)
{
	if (a->kind == STORE_ANSWER_LOT) {
		struct store_lot_making *making = a->object;

		making->reached = true;
		store_lot_finish(making);
		return;
	}
	if (a->kind == STORE_ANSWER_IDS) {
		if (error == 0 && (uint64_t)a->n > store->ids_safe)
			store->ids_safe = (uint64_t)a->n;
		return;
	}
	if (a->kind == STORE_ANSWER_REVEAL)
		return;
	if (a->kind == STORE_ANSWER_WAKES) {
		store_wakes_deliver(store, a->object, error);
		return;
	}
	if (a->kind == STORE_ANSWER_COMMIT && error == 0) {
		struct store_commit *commit = a->object;

		commit->level = level;
		if (commit->error < 0)
			store->stats.refused++;
		else
			count_commit(store, level, commit->count, now - a->begun);
	}
	if (error < 0) {
		dispose(a);
		wh_resolve(a->future, error, NULL);
	} else if (wh_resolve(a->future, a->n, a->object) < 0) {
		dispose(a);
	}
}

static void on_mark(wh_loop *loop, wh_res res, void *arg);

void store_fifo_wait(struct store_fifo *fifo)
{
	if (fifo->waiting || fifo->count == 0)
		return;
	fifo->wait = wh_mark_wait(fifo->mark, fifo->ring[fifo->first].lsn);
	if (wh_then(fifo->wait, on_mark, fifo) == 0) {
		fifo->waiting = true;
		fifo->store->operations++;
	} else {
		store_again(fifo->store);
	}
}

static void on_mark(wh_loop *loop, wh_res res, void *arg)
{
	struct store_fifo *fifo = arg;
	struct store *store = fifo->store;
	uint64_t reached;
	int64_t now;

	fifo->waiting = false;
	if (!store_operation_end(store))
		return;
	if (store_lacks_memory(store, res.n)) {
		store_again(store);
		return;
	}
	if (res.n < 0) {
		store_fail(store, res.n);
		return;
	}
	if (fifo->level == STORE_LOCAL) {
		forget_spans(store);
		job_reveal(store->jobs, store_reached(store, STORE_LOCAL));
		store_later(store);
	}
	reached = wh_mark_read(fifo->mark);
	now = wh_clock(loop);
	while (fifo->count > 0 && fifo->ring[fifo->first].lsn <= reached) {
		struct store_answer answer = fifo->ring[fifo->first];

		fifo->first = (fifo->first + 1) & (fifo->cap - 1);
		fifo->count--;
		deliver(store, &answer, fifo->level, 0, now);
	}
	if (store->flush_actions > 0)
		wh__histogram_add(&store->stats.flush_actions, (int64_t)store->flush_actions - 1, 0);
	store->flush_actions = 0;
	store_fifo_wait(fifo);
}

void store_answer(struct store *store, int level, struct store_answer answer)
{
	struct store_fifo *fifo = level == STORE_ASYNC ? &store->written : &store->flushed;

	if (store->failed) {
		deliver(store, &answer, level, store->failed, 0);
		return;
	}
	if (fifo->count == 0 && answer.lsn <= wh_mark_read(fifo->mark)) {
		deliver(store, &answer, level, 0, wh_clock(store->loop));
		return;
	}
	if (fifo_room(fifo, 1) < 0) {
		deliver(store, &answer, level, -ENOMEM, 0);
		return;
	}
	fifo->ring[(fifo->first + fifo->count++) & (fifo->cap - 1)] = answer;
	store_fifo_wait(fifo);
}

void store_fifo_fail(struct store *store, struct store_fifo *fifo, int64_t error)
{
	while (fifo->count > 0) {
		struct store_answer answer = fifo->ring[fifo->first];

		fifo->first = (fifo->first + 1) & (fifo->cap - 1);
		fifo->count--;
		deliver(store, &answer, fifo->level, error, 0);
	}
}

/* ---- ids --------------------------------------------------------------------------------- */

uint64_t store_ids_bytes(void)
{
	return LOG_RECORD_BYTES + JOB_RECORD_SMALL_MAX + 8;
}

/* Part of a commit, before its SUBMITs. Half a block ahead, so that the new range is flushed before it is used. */
int store_ids_room(struct store *store, uint64_t count)
{
	struct job_record r;
	int error;

	if (job_ids_left(store->jobs) >= count + IDS_BLOCK / 2)
		return 0;
	error = job_check_ids(store->jobs, IDS_BLOCK, false, &r);
	if (error < 0)
		return error;
	store_append(store, &r, 0);
	store->ids_told = r.claim;
	return 0;
}
