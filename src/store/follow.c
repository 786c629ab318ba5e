/* src/store/follow.c -- what happens to jobs, one event after the other, for who follows a queue. See store.h.
 *
 * A ring of the newest events. A start fills it with what the log tells of earlier runs, from its checkpoint on, so that whoever followed
 * goes on behind what it was told. When nobody does before it has turned round it goes, and comes back with the first who follows: a change
 * costs one branch meanwhile. Each event has a position and is shown when the log is flushed beyond it: that of its record; of the n-th job that a record removes n
 * bytes further; of what time alone did the last byte of the log as it was then. So positions tell events with records apart, and rise. The
 * events of a queue are linked: following one costs nothing for the others. A follower is a number, that of the last event
 * it was given. Whoever is slower than the ring turns is told so and goes on with what is new: nobody's memory grows.
 * Thread: the store's.
 */
#include "store/inside.h"

enum { EVENTS_MIN = 16, EVENTS_MAX = 1 << 24 };
/* This far before the end of the log is a position behind all records, and before what time alone does then. */
enum { BEHIND = 2 };

struct entry {
	struct store_channel *channel;
	uint64_t next; /* of its channel; 0: none yet */
	uint64_t position, job;
	int64_t at, when_ms;
	uint32_t attempts, epoch;
	uint8_t type, state;
	bool paused, cancel;
};

/* The events of one queue. Outlives it: as long as events or followers name it. */
struct store_channel {
	uint32_t references;
	uint32_t number;
	int64_t created_ns;
	bool woken;
	struct store_channel *next_woken;
	uint64_t first, last;         /* oldest and newest event in the ring; 0: none */
	uint64_t lost, lost_position; /* the newest event that is not in the ring any more */
	struct store_follow *follows;
	size_t name_len;
	char name[];
};

struct store_events {
	struct entry *ring;
	uint64_t cap, end; /* end: number of the next event; numbers begin with 1 */
	uint64_t began,
		lost_position; /* positions: recording began; the newest event, of any queue, that is not here any more */
	struct store_channel **channels; /* by number of the queue */
	size_t channels_cap;
	struct store_channel *woken;
	struct store_follow *all, *any; /* of all queues; of one or all */
	bool all_woken;
	bool followed;   /* by anybody, in this run */
	uint64_t opened; /* .end when the log had been read */
	/* while it is being read: when the record was written, and in which epoch; 0: now */
	int64_t replay_at;
	uint32_t replay_epoch;
};

struct store_follow {
	struct store *store;
	struct store_channel *channel;   /* NULL: all queues */
	struct store_follow *next, **at; /* of the channel, or of all queues */
	struct store_follow *next_any, **at_any;
	uint64_t told;     /* number of the last event given, or passed over */
	uint64_t position; /* of it */
	wh_future waiting;
	bool is_waiting;
	int level;
};

static void channel_unref(struct store_channel *channel)
{
	if (channel && --channel->references == 0)
		free(channel);
}

static struct entry *entry_at(const struct store_events *events, uint64_t number)
{
	return &events->ring[number & (events->cap - 1)];
}

static uint64_t oldest(const struct store_events *events)
{
	return events->end > events->cap ? events->end - events->cap : 1;
}

static struct store_channel *channel_of(struct store_events *events, const struct job_queue *q)
{
	struct store_channel **at, *channel;

	if (q->number >= events->channels_cap) {
		size_t cap = events->channels_cap ? events->channels_cap : 64;
		struct store_channel **channels;

		while (cap <= q->number)
			cap *= 2;
		channels = realloc(events->channels, cap * sizeof(channels[0]));
		if (!channels)
			return NULL;
		memset(channels + events->channels_cap, 0,
		       (cap - events->channels_cap) * sizeof(channels[0]));
		events->channels = channels;
		events->channels_cap = cap;
	}
	at = &events->channels[q->number];
	if (*at && (*at)->created_ns == q->created_ns && (*at)->name_len == q->name_len &&
	    memcmp((*at)->name, q->name, q->name_len) == 0)
		return *at;
	channel = calloc(1, sizeof(*channel) + q->name_len);
	if (!channel)
		return NULL;
	channel->references = 1;
	channel->number = q->number;
	channel->created_ns = q->created_ns;
	channel->name_len = q->name_len;
	memcpy(channel->name, q->name, q->name_len);
	channel_unref(*at); /* a queue that had the number before */
	*at = channel;
	return channel;
}

/* ---- recording --------------------------------------------------------------------------- */

static void push_out(struct store_events *events, struct entry *e, uint64_t number)
{
	struct store_channel *channel = e->channel;

	if (!channel)
		return;
	events->lost_position = channel->lost_position = e->position;
	channel->lost = number;
	channel->first = e->next;
	if (channel->first == 0)
		channel->last = 0;
	e->channel = NULL;
	channel_unref(channel);
}

/* As if the ring had turned round: what is known begins behind a position. */
static void forget(struct store_events *events, uint64_t position)
{
	for (size_t i = 0; i < events->cap; i++)
		push_out(events, &events->ring[i], events->end - 1);
	events->began = position;
	events->end += events->cap;
}

static void wake(struct store_events *events, struct store_channel *channel)
{
	events->all_woken = events->all != NULL;
	if (channel->woken || !channel->follows)
		return;
	channel->woken = true;
	channel->references++;
	channel->next_woken = events->woken;
	events->woken = channel;
}

static void record(struct store *store, const struct job_queue *q, struct entry event)
{
	struct store_events *events = store->events;
	struct store_channel *channel = channel_of(events, q);
	struct entry *e;

	if (!channel) { /* no memory */
		forget(events, event.position);
		events->all_woken = events->all != NULL;
		return;
	}
	e = entry_at(events, events->end);
	push_out(events, e, events->end - events->cap);
	event.channel = channel;
	event.at = events->replay_epoch ? events->replay_at : store_now_ns(store);
	event.epoch = events->replay_epoch ? events->replay_epoch : log_epoch(store->log);
	*e = event;
	channel->references++;
	if (channel->last != 0)
		entry_at(events, channel->last)->next = events->end;
	else
		channel->first = events->end;
	channel->last = events->end++;
	wake(events, channel);
}

/* Edits of these kinds are told apart, beyond the types of records. */
enum { TYPE_MOVED = 200, TYPE_ANEW };

static void record_job(struct store *store, uint64_t job, uint8_t type, uint64_t position)
{
	struct job_info info;

	if (job_look(store->jobs, job, &info) < 0)
		return;
	record(store, info.queue,
	       (struct entry){.position = position,
	                      .job = job,
	                      .type = type,
	                      .state = type == JOB_REMOVE ? JOB_NONE : info.state,
	                      .when_ms = info.state == JOB_DELAYED ? info.when_ms : 0,
	                      .attempts = info.attempts,
	                      .cancel = info.cancel_requested});
}

void store_events_before(struct store *store, const struct job_record *r, uint64_t place)
{
	const struct job_queue *q;

	if (r->type == JOB_REMOVE) {
		for (size_t i = 0; i < r->body.len / 8; i++) {
			uint64_t id;

			memcpy(&id, (const uint8_t *)r->body.data + 8 * i, 8);
			record_job(store, id, r->type, place + i);
		}
	} else if (r->type == JOB_QUEUE_GONE && (q = job_queue_at(store->jobs, r->queue)) != NULL) {
		record(store, q, (struct entry){.position = place, .type = r->type});
	}
}

void store_events_after(struct store *store, const struct job_record *r, uint64_t place)
{
	const struct job_queue *q;

	switch (r->type) {
	case JOB_IDS:
	case JOB_QUEUE_GONE:
	case JOB_REMOVE: /* before */
	case JOB_SETTING:
	case JOB_BLOBS:
	case JOB_KEY:
	case JOB_WHOLE:
	case JOB_EXTEND:
	case JOB_AFTER: /* its SUBMIT is told */
		return;
	case JOB_QUEUE:
		q = job_queue_at(store->jobs, r->queue);
		if (q)
			record(store, q,
			       (struct entry){.position = place, .type = r->type, .paused = q->paused});
		return;
	case JOB_EDIT:
		record_job(store, r->id,
		           r->flags & JOB_EDIT_ANEW    ? TYPE_ANEW
		           : r->flags & JOB_EDIT_QUEUE ? TYPE_MOVED
		                                       : JOB_EDIT,
		           place);
		return;
	default:
		record_job(store, r->id, r->type, place);
	}
}

/* Nobody's record: its time has come. It is told when what was in the log by then is flushed. */
void store_events_due(struct store *store, uint64_t job)
{
	uint64_t appended = wh_mark_read(log_appended(store->log));

	record_job(store, job, 0, appended - 1);
	store_events_end(store, appended);
}

/* The jobs that it was to run after have ended, the last one by the record at place: told behind that, and as often as whoever follows goes on
 * from there. */
void store_events_released(struct store *store, uint64_t job, uint64_t place)
{
	record_job(store, job, 0, place + 1);
}

static void wake_all(struct store *store, struct store_follow *follow, uint64_t lsn)
{
	for (; follow; follow = follow->next) {
		if (!follow->is_waiting)
			continue;
		follow->is_waiting = false;
		store_answer(store, follow->level,
		             (struct store_answer){
				     .lsn = lsn, .future = follow->waiting, .kind = STORE_ANSWER_PLAIN});
	}
}

void store_events_end(struct store *store, uint64_t lsn)
{
	struct store_events *events = store->events;

	if (!events->followed && events->end - events->opened > events->cap) {
		job_watch_all(store->jobs, false);
		store_events_done(store);
		return;
	}
	while (events->woken) {
		struct store_channel *channel = events->woken;

		events->woken = channel->next_woken;
		channel->woken = false;
		wake_all(store, channel->follows, lsn);
		channel_unref(channel);
	}
	if (events->all_woken)
		wake_all(store, events->all, lsn);
	events->all_woken = false;
}

/* Behind all that was recorded, before all that will be. */
static uint64_t position_now(const struct store *store)
{
	return wh_mark_read(log_appended(store->log)) - BEHIND;
}

static int make(struct store *store, uint64_t began)
{
	uint64_t cap = EVENTS_MIN;
	struct store_events *events;

	while (cap < store->options.events_max && cap < EVENTS_MAX)
		cap *= 2;
	events = calloc(1, sizeof(*events));
	if (!events)
		return -ENOMEM;
	events->ring = calloc(cap, sizeof(events->ring[0]));
	if (!events->ring) {
		free(events);
		return -ENOMEM;
	}
	events->cap = cap;
	events->end = 1;
	events->began = began;
	store->events = events;
	job_watch_all(store->jobs, true);
	return 0;
}

static int begin(struct store *store)
{
	int error = store->events ? 0 : make(store, position_now(store));

	if (error == 0)
		store->events->followed = true;
	return error;
}

/* ---- the start --------------------------------------------------------------------------- */

void store_events_open(struct store *store)
{
	(void)!make(store, 0); /* without memory: as if nothing were known */
}

void store_events_replay(struct store *store, const struct log_record *record)
{
	store->events->replay_at = record->wall_time;
	store->events->replay_epoch = record->epoch;
}

void store_events_lost(struct store *store, uint64_t end)
{
	forget(store->events, end - BEHIND);
}

void store_events_opened(struct store *store, uint64_t checkpoint)
{
	struct store_events *events = store->events;

	events->replay_epoch = 0;
	events->opened = events->end;
	if (checkpoint > BEHIND && events->began < checkpoint - BEHIND)
		events->began = checkpoint - BEHIND;
}

bool store_events_followed(const struct store *store)
{
	return store->events && store->events->followed;
}

static void unlink_follow(struct store_follow *f)
{
	*f->at = f->next;
	if (f->next)
		f->next->at = f->at;
	*f->at_any = f->next_any;
	if (f->next_any)
		f->next_any->at_any = f->at_any;
	f->at = NULL;
}

static void link_follow(struct store_follow *f, struct store_follow **list, struct store_follow **any)
{
	f->next = *list;
	f->at = list;
	if (f->next)
		f->next->at = &f->next;
	*list = f;
	f->next_any = *any;
	f->at_any = any;
	if (f->next_any)
		f->next_any->at_any = &f->next_any;
	*any = f;
}

void store_events_done(struct store *store)
{
	struct store_events *events = store->events;

	if (!events)
		return;
	while (events->any)
		unlink_follow(events->any);
	for (uint64_t i = 0; i < events->cap; i++)
		push_out(events, &events->ring[i], 0);
	for (size_t i = 0; i < events->channels_cap; i++)
		channel_unref(events->channels[i]);
	free(events->channels);
	free(events->ring);
	free(events);
	store->events = NULL;
}

void store_events_fail(struct store *store, int64_t error)
{
	for (struct store_follow *f = store->events ? store->events->any : NULL; f; f = f->next_any) {
		if (f->is_waiting)
			wh_resolve(f->waiting, error, NULL);
		f->is_waiting = false;
	}
}

/* ---- following --------------------------------------------------------------------------- */

/* Go on behind a position. false: what came after it is not all here. */
static bool find(struct store_follow *f, struct store_position last)
{
	struct store *store = f->store;
	struct store_events *events = store->events;
	struct store_channel *channel = f->channel;
	uint64_t end, number;
	int error = log_epoch_end(store->log, last.epoch, &end);

	if (error == -EINPROGRESS)
		end = wh_mark_read(log_appended(store->log));
	else if (error < 0)
		return false;
	if (last.lsn > end || last.lsn < events->began ||
	    last.lsn < (channel ? channel->lost_position : events->lost_position))
		return false;
	f->position = last.lsn;
	f->told = channel ? channel->lost : oldest(events) - 1;
	number = channel ? channel->first : oldest(events);
	while (number != 0 && number < events->end && entry_at(events, number)->position <= last.lsn) {
		f->told = number;
		number = channel ? entry_at(events, number)->next : number + 1;
	}
	return true;
}

static void skip(struct store_follow *f)
{
	struct store_events *events = f->store->events;

	f->told = f->channel && f->channel->last != 0 ? f->channel->last : events->end - 1;
	f->position = position_now(f->store);
}

int store_follow(struct store *store, struct store_slice queue, const struct store_position *last, int level,
                 struct store_follow **ret, bool *ret_reset)
{
	struct job_queue *q = queue.len > 0 ? job_queue_find(store->jobs, queue) : NULL;
	struct store_follow *f, **list;
	int error = store_level(level, STORE_LOCAL, &level);

	if (error == 0 && store->failed)
		error = (int)store->failed;
	if (error == 0 && queue.len > 0 && !q)
		error = -JOB_EUNKNOWN_QUEUE;
	if (error == 0)
		error = begin(store);
	if (error < 0)
		return error;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->store = store;
	f->level = level;
	if (q) {
		f->channel = channel_of(store->events, q);
		if (!f->channel) {
			free(f);
			return -ENOMEM;
		}
		f->channel->references++;
	}
	list = q ? &f->channel->follows : &store->events->all;
	link_follow(f, list, &store->events->any);
	*ret_reset = last && !find(f, *last);
	if (!last || *ret_reset)
		skip(f);
	*ret = f;
	return 0;
}

struct store_follow *store_follow_free(struct store_follow *f)
{
	if (!f)
		return NULL;
	if (f->at)
		unlink_follow(f);
	channel_unref(f->channel);
	free(f);
	return NULL;
}

/* The number of the next event, 0: none. -1: it was pushed out. */
static int64_t next_number(const struct store_follow *f)
{
	const struct store_events *events = f->store->events;
	const struct store_channel *channel = f->channel;
	uint64_t next = f->told + 1;

	if (!channel)
		return next < oldest(events) ? -1 : next < events->end ? (int64_t)next : 0;
	if (channel->lost > f->told)
		return -1;
	if (channel->last <= f->told)
		return 0;
	/* the last one given is not in the ring any more, or was none: what is next is the oldest */
	if (channel->first > f->told)
		return (int64_t)channel->first;
	return (int64_t)entry_at(events, f->told)->next;
}

static bool shown(const struct store_follow *f, const struct entry *e)
{
	return e->position < store_reached(f->store, f->level);
}

static uint8_t change_of(int type)
{
	switch (type) {
	case 0:
		return STORE_CHANGE_DUE;
	case JOB_SUBMIT:
		return STORE_CHANGE_SUBMIT;
	case JOB_CLAIM:
		return STORE_CHANGE_RESERVE;
	case JOB_RELEASE:
		return STORE_CHANGE_RELEASE;
	case JOB_RETRY:
	case JOB_DEAD: /* it is retried, elsewhere */
		return STORE_CHANGE_RETRY;
	case JOB_FINISH:
		return STORE_CHANGE_FINISH;
	case JOB_CANCEL:
		return STORE_CHANGE_CANCEL;
	case JOB_EDIT:
		return STORE_CHANGE_EDIT;
	case TYPE_MOVED:
		return STORE_CHANGE_MOVE;
	case TYPE_ANEW:
	case JOB_REVIVE:
		return STORE_CHANGE_REPLAY;
	case JOB_PROGRESS:
		return STORE_CHANGE_PROGRESS;
	case JOB_BURY:
		return STORE_CHANGE_BURY;
	case JOB_KICK:
		return STORE_CHANGE_KICK;
	case JOB_REMOVE:
		return STORE_CHANGE_FORGET;
	case JOB_RETURN:
		return STORE_CHANGE_RETURN;
	case JOB_QUEUE:
		return STORE_CHANGE_QUEUE;
	case JOB_QUEUE_GONE:
		return STORE_CHANGE_QUEUE_GONE;
	default:
		return STORE_CHANGE_OTHER;
	}
}

int store_follow_next(struct store_follow *f, struct store_event *ret)
{
	int64_t number = next_number(f);
	const struct entry *e;

	if (number < 0) {
		skip(f);
		return -JOB_ELOST;
	}
	if (number == 0)
		return 0;
	e = entry_at(f->store->events, (uint64_t)number);
	if (!shown(f, e))
		return 0;
	f->told = (uint64_t)number;
	f->position = e->position;
	*ret = (struct store_event){.job = e->job,
	                            .queue = {e->channel->name, e->channel->name_len},
	                            .at = e->at,
	                            .run_at = e->when_ms * STORE_NS_PER_MS,
	                            .position = {e->epoch, e->type == 0 ? 0 : e->position},
	                            .attempts = e->attempts,
	                            .state = e->state,
	                            .cancel_requested = e->cancel,
	                            .paused = e->paused,
	                            .change = change_of(e->type)};
	return 1;
}

struct store_position store_follow_position(const struct store_follow *f)
{
	return (struct store_position){log_epoch(f->store->log), f->position};
}

struct store_position store_follow_reached(struct store_follow *f)
{
	int64_t number = next_number(f);
	uint64_t until = store_reached(f->store, f->level);

	if (number > 0 && entry_at(f->store->events, (uint64_t)number)->position < until)
		until = entry_at(f->store->events, (uint64_t)number)->position;
	if (number >= 0 && until > f->position + BEHIND)
		f->position = until - BEHIND;
	return store_follow_position(f);
}

wh_future store_follow_wait(struct store_follow *f)
{
	struct store *store = f->store;
	int64_t number = next_number(f);
	const struct entry *e = number > 0 ? entry_at(store->events, (uint64_t)number) : NULL;
	wh_future future;

	if (store->failed)
		return wh_failed(store->loop, store->failed);
	future = wh_promise(store->loop, NULL, NULL);
	if (wh_done(future))
		return future; /* no memory */
	if (number < 0 || (e && shown(f, e))) {
		wh_resolve(future, 0, NULL);
	} else if (e) {
		store_answer(store, f->level,
		             (struct store_answer){.lsn = store_whole_at(store, e->position + 1),
		                                   .future = future,
		                                   .kind = STORE_ANSWER_PLAIN});
	} else {
		f->waiting = future;
		f->is_waiting = true;
	}
	return future;
}
