/* src/store/wait.c -- waits for jobs: a table by id. See inside.h.
 *
 * A wait reads the state first and is entered only if it is not fulfilled; every change of a job that is in the table
 * then looks at its waits. Cancelled waits are swept out when the table has doubled since the last time.
 */
#include "store/inside.h"

enum { BUCKETS_MIN = 64 };

static size_t bucket(const struct store *store, uint64_t job)
{
	return (size_t)((job * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (store->waits_cap - 1);
}

static void sweep(struct store *store)
{
	for (size_t i = 0; i < store->waits_cap; i++) {
		for (struct store_wait_entry **at = &store->waits[i]; *at;) {
			struct store_wait_entry *e = *at;

			if (!wh_done(e->future)) {
				at = &e->next;
				continue;
			}
			*at = e->next;
			free(e);
			store->waits_count--;
		}
	}
	store->waits_sweep_at = store->waits_count * 2 + BUCKETS_MIN;
}

static void move(struct store_wait_entry **from, struct store_wait_entry **to)
{
	struct store_wait_entry *e = *from;

	*from = e->next;
	e->next = *to;
	*to = e;
}

static int grow(struct store *store)
{
	size_t cap = store->waits_cap ? store->waits_cap * 2 : BUCKETS_MIN, before = store->waits_cap;
	struct store_wait_entry **old = store->waits, **waits;

	if (store->waits_count < store->waits_cap)
		return 0;
	waits = calloc(cap, sizeof(waits[0]));
	if (!waits)
		return before ? 0 : -ENOMEM;
	store->waits = waits;
	store->waits_cap = cap;
	for (size_t i = 0; i < before; i++) {
		struct store_wait_entry *turned = NULL;

		while (old[i]) /* turned round twice, so that of one job the newest stays first */
			move(&old[i], &turned);
		while (turned)
			move(&turned, &waits[bucket(store, turned->job)]);
	}
	free(old);
	return 0;
}

static bool fulfilled(const struct job_info *info, int wait_for, uint64_t seen)
{
	return job_state_finished(info->state) || (wait_for == STORE_WAIT_CHANGE && info->version != seen);
}

wh_future store_wait(struct store *store, uint64_t job, int wait_for, uint64_t seen, int level)
{
	struct store_wait_entry *e;
	struct job_info info;
	wh_future future;
	int error = store_level(level, STORE_LOCAL, &level);

	if (error == 0)
		error = job_look(store->jobs, job, &info);
	if (store->failed)
		error = (int)store->failed;
	if (error < 0)
		return wh_failed(store->loop, error);
	future = wh_promise(store->loop, NULL, NULL);
	if (wh_done(future))
		return future; /* no memory */
	if (fulfilled(&info, wait_for, seen)) {
		store_answer(store, level,
		             (struct store_answer){.lsn = store_needed(store, &info, level),
		                                   .future = future,
		                                   .n = info.state,
		                                   .kind = STORE_ANSWER_PLAIN});
		return future;
	}
	if (store->waits_count >= store->waits_sweep_at)
		sweep(store);
	e = malloc(sizeof(*e));
	if (!e || grow(store) < 0) {
		free(e);
		wh_resolve(future, -ENOMEM, NULL);
		return future;
	}
	*e = (struct store_wait_entry){.job = job,
	                               .seen = seen,
	                               .future = future,
	                               .wait_for = (uint8_t)wait_for,
	                               .level = (uint8_t)level};
	e->next = store->waits[bucket(store, job)];
	store->waits[bucket(store, job)] = e;
	store->waits_count++;
	job_watch(store->jobs, job);
	return future;
}

bool store_waited_for(const struct store *store, uint64_t job)
{
	const struct store_wait_entry *e = store->waits_count > 0 ? store->waits[bucket(store, job)] : NULL;

	while (e && (e->job != job || wh_done(e->future)))
		e = e->next;
	return e != NULL;
}

/* Take out the waits for a job that are fulfilled (all of them when it is gone: info NULL). */
static struct store_wait_entry *take(struct store *store, uint64_t job, const struct job_info *info)
{
	struct store_wait_entry *taken = NULL;

	for (struct store_wait_entry **at = &store->waits[bucket(store, job)]; *at;) {
		struct store_wait_entry *e = *at;

		if (e->job != job || (info && !fulfilled(info, e->wait_for, e->seen))) {
			at = &e->next;
			continue;
		}
		*at = e->next;
		e->next = taken;
		taken = e;
		store->waits_count--;
	}
	return taken;
}

static void notice_job(struct store *store, uint64_t job, int state_if_gone)
{
	struct job_info info;
	bool gone = job_look(store->jobs, job, &info) < 0;
	struct store_wait_entry *e = take(store, job, gone ? NULL : &info);

	while (e) {
		struct store_wait_entry *next = e->next;

		e->wait_for = (uint8_t)(gone ? state_if_gone : info.state);
		store_wakes_add(&store->woken[e->level != STORE_ASYNC], e);
		e = next;
	}
}

void store_notice_awaiting(void *arg, uint64_t job)
{
	struct store *store = arg;

	if (store->waits_count > 0)
		notice_job(store, job, JOB_NONE);
}

void store_notice(struct store *store, const struct job_record *r)
{
	switch (r->type) {
	case JOB_IDS:
	case JOB_QUEUE:
	case JOB_QUEUE_GONE:
	case JOB_SETTING:
	case JOB_BLOBS:
	case JOB_RATE:
	case JOB_GROUP_RATE:
	case JOB_KEY:
	case JOB_KEYS:
	case JOB_SUBMIT:
	case JOB_AFTER:
	case JOB_WHOLE: /* changes nothing that is seen */
		return;
	case JOB_REMOVE:
		for (size_t i = 0; i < r->body.len / 8; i++) {
			uint64_t id;

			memcpy(&id, (const uint8_t *)r->body.data + 8 * i, 8);
			notice_job(store, id, JOB_NONE);
		}
		return;
	default:
		notice_job(store, r->id, r->type == JOB_FINISH ? r->state : JOB_NONE);
	}
}

/* A delayed job's time has come: no record says so. */
void store_notice_ready(void *arg, uint64_t job)
{
	struct store *store = arg;
	struct store_wait_entry *e;
	struct store_wakes due[2];
	struct job_info info;

	if (store->events)
		store_events_due(store, job);
	if (store->waits_count == 0 || job_look(store->jobs, job, &info) < 0)
		return;
	store_wakes_empty(&due[0]);
	store_wakes_empty(&due[1]);
	e = take(store, job, &info);
	while (e) {
		struct store_wait_entry *next = e->next;

		e->wait_for = info.state;
		store_wakes_add(&due[e->level != STORE_ASYNC], e);
		e = next;
	}
	for (int i = 0; i < 2; i++) {
		int level = i == 0 ? STORE_ASYNC : STORE_LOCAL;

		if (due[i].first)
			store_answer(store, level,
			             (struct store_answer){.lsn = store_needed(store, &info, level),
			                                   .object = due[i].first,
			                                   .kind = STORE_ANSWER_WAKES});
	}
}

void store_waits_fail(struct store *store, int64_t error)
{
	for (size_t i = 0; i < store->waits_cap; i++) {
		while (store->waits[i]) {
			struct store_wait_entry *e = store->waits[i];

			store->waits[i] = e->next;
			wh_resolve(e->future, error, NULL);
			free(e);
		}
	}
	store->waits_count = 0;
}
