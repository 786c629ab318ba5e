/* src/job/snapshot.c -- the state as it was at one moment, written down while the machine goes on. See job.h.
 *
 * Copied on first change, job by job: whoever changes a job or a queue calls job_snapshot_keep() before, which puts it among the
 * entries unless it is there already; steps put the rest there, in the order of slots, and hand out what is full. So the
 * entries are of the moment when the snapshot began, whatever happened since. What begins later is not in it.
 * Queues come first, since jobs name them; until they are all out the jobs' entries stay here.
 *
 * Memory: a bit for each slot, queue, key and bucket, and the entries not handed out yet. Keeping cannot fail: without memory the snapshot is
 * spoilt, which the next step says.
 */
#include <errno.h>

#include "job/machine.h"

enum { CHUNK_BYTES = 16376, STEP_OF_CHUNK = 256, WALK_AT_ONCE = 256 };

struct chunk {
	struct chunk *next;
	uint32_t bytes;
	uint8_t data[CHUNK_BYTES];
};

/* Entries of one kind: full chunks, and the last one that is being filled. */
struct pile {
	struct chunk *first, *last;
};

/* Things of one kind, by number: each is saved once. */
struct walk {
	uint32_t end;   /* what is beyond began later */
	uint32_t at;    /* what is below has been seen */
	uint64_t *seen; /* bits: has been seen, or is of later */
};

enum stage {
	STAGE_COUNTERS,
	STAGE_QUEUES,
	STAGE_QUEUES_OUT,
	STAGE_JOBS,
	STAGE_UNIQUES,
	STAGE_BUCKETS,
	STAGE_ALL_OUT
};

struct job_snapshot {
	int stage;
	int error;
	struct walk slots, queues, uniques, buckets;
	struct pile queue_states, entries, entries_ext, entries_policy, unique_entries, bucket_entries, joins;
	uint64_t bytes;
	uint64_t counters[JOB_COUNTERS_END + 2 * JOB_RANGES_MAX];
	size_t counters_count;
};

static void spoil(struct job_snapshot *snap)
{
	snap->error = -ENOMEM;
}

/* Room for bytes more at the end of a pile; NULL: no memory. */
static uint8_t *pile_room(struct job_snapshot *snap, struct pile *pile, uint32_t bytes)
{
	struct chunk *chunk = pile->last;
	uint8_t *at;

	if (!chunk || chunk->bytes + bytes > CHUNK_BYTES) {
		chunk = malloc(sizeof(*chunk));
		if (!chunk) {
			spoil(snap);
			return NULL;
		}
		chunk->next = NULL;
		chunk->bytes = 0;
		*(pile->last ? &pile->last->next : &pile->first) = chunk;
		pile->last = chunk;
		snap->bytes += sizeof(*chunk);
	}
	at = chunk->data + chunk->bytes;
	chunk->bytes += bytes;
	return at;
}

static void pile_drop(struct job_snapshot *snap, struct pile *pile)
{
	struct chunk *chunk = pile->first;

	pile->first = chunk->next;
	if (!pile->first)
		pile->last = NULL;
	snap->bytes -= sizeof(*chunk);
	free(chunk);
}

/* ---- what is kept ------------------------------------------------------------------------ */

static void save_join(void *arg, const struct job_join_entry *entry)
{
	struct job_snapshot *snap = arg;
	uint8_t *to = pile_room(snap, &snap->joins, JOB_JOIN_BYTES);

	if (to)
		job_join_put(entry, to);
}

static void save_slot(struct job_machine *m, uint32_t slot)
{
	const struct job_slot *s = job_slot(m, slot);
	const struct job_ext *e = job_slot_ext(m, s);
	struct job_snapshot *snap = m->snapshot;
	struct job_entry entry = {.id = job_slot_id(s),
	                          .place = job_slot_place(s),
	                          .queue = s->queue,
	                          .priority = s->priority,
	                          .submit = job_state_finished(s->state) ? s->ext : 0,
	                          .changed = s->changed,
	                          .attempts = s->attempts,
	                          .state = s->state,
	                          .size = (uint8_t)job_slot_size(s),
	                          .flags = s->flags & JOB_SLOT_CANCEL ? JOB_ENTRY_CANCEL : 0,
	                          .when_ms = s->state == JOB_READY ? 0 : job_slot_when(s)};
	uint8_t *to;

	if (!e) {
		to = pile_room(snap, &snap->entries, JOB_ENTRY_BYTES);
		if (to)
			job_entry_put(&entry, to);
		return;
	}
	entry.claim = e->claim;
	entry.error_place = e->error_place;
	entry.progress_place = e->progress_place;
	entry.retention_ms = e->retention_ms;
	entry.time_to_run = e->time_to_run;
	entry.epoch = e->epoch;
	entry.changes = e->changes;
	entry.ext_flags = e->flags;
	entry.reserves = e->reserves;
	entry.releases = e->releases;
	entry.buries = e->buries;
	entry.kicks = e->kicks;
	entry.delay_s = e->delay_s;
	entry.error_bytes = e->error_bytes;
	entry.progress_bytes = e->progress_bytes;
	entry.attempts_max = e->attempts_max;
	entry.timeouts = e->timeouts;
	if (e->policy != 0) {
		job_policy_save(m, job_policy(m, e->policy), &entry);
		to = pile_room(snap, &snap->entries_policy, JOB_ENTRY_POLICY_BYTES);
		if (to)
			job_entry_put_policy(&entry, to);
		if (s->state == JOB_AWAITING) /* behind its entry, and goes out behind it */
			job_join_save(m, s, save_join, snap);
		return;
	}
	to = pile_room(snap, &snap->entries_ext, JOB_ENTRY_EXT_BYTES);
	if (to)
		job_entry_put_ext(&entry, to);
}

static void save_unique(struct job_machine *m, uint32_t number)
{
	const struct job_unique *u = job_unique(m, number);
	struct job_unique_entry entry = {
		.hash = {u->hash[0], u->hash[1]}, .id = u->id, .until_ms = u->until_ms};
	uint8_t *to = pile_room(m->snapshot, &m->snapshot->unique_entries, JOB_UNIQUE_BYTES);

	if (to)
		job_unique_put(&entry, to);
}

static void save_bucket(struct job_machine *m, uint32_t number)
{
	struct job_bucket_entry entry;
	uint8_t *to = pile_room(m->snapshot, &m->snapshot->bucket_entries, JOB_BUCKET_BYTES);

	job_bucket_save(m, number, &entry);
	if (to)
		job_bucket_put(&entry, to);
}

static void save_queue(struct job_machine *m, const struct job_queue *q)
{
	uint64_t counters[JOB_QUEUE_COUNTERS_END] = {[JOB_QUEUE_SUBMITTED] = q->submitted,
	                                             [JOB_QUEUE_ATTEMPTS] = q->attempts,
	                                             [JOB_QUEUE_COMPLETED] = q->completed,
	                                             [JOB_QUEUE_FAILED] = q->failed,
	                                             [JOB_QUEUE_CANCELLED] = q->cancelled,
	                                             [JOB_QUEUE_TIMEOUTS] = q->timeouts,
	                                             [JOB_QUEUE_RETRIES] = q->retries,
	                                             [JOB_QUEUE_DEAD] = q->dead,
	                                             [JOB_QUEUE_RATE_FULL] = (uint64_t)q->rate_full_ns};
	struct job_record r = {.type = JOB_QUEUE_STATE,
	                       .queue = q->number,
	                       .flags = (uint8_t)((q->paused ? JOB_QUEUE_PAUSED : 0) |
	                                          (q->implicit ? JOB_QUEUE_IMPLICIT : 0) |
	                                          (q->gone ? JOB_QUEUE_GONE_FLAG : 0)),
	                       .at_ns = q->created_ns,
	                       .config = q->own,
	                       .headers = {counters, sizeof(counters)},
	                       .body = {q->name, q->name_len}};
	uint8_t *to = pile_room(m->snapshot, &m->snapshot->queue_states, (uint32_t)job_part_bytes(&r));

	memcpy(counters + JOB_QUEUE_JOBS, q->jobs + 1, (JOB_STATES - 1) * sizeof(counters[0]));
	if (to)
		job_part_put(&r, to);
}

static bool test_and_set(uint64_t *bits, uint32_t i)
{
	bool was = bits[i / 64] >> (i % 64) & 1;

	bits[i / 64] |= UINT64_C(1) << (i % 64);
	return was;
}

/* Is it to be saved now, before it changes? */
static bool unseen(struct walk *walk, uint32_t number)
{
	return number >= walk->at && number < walk->end && !test_and_set(walk->seen, number);
}

static void skip(struct walk *walk, uint32_t number)
{
	if (number < walk->end)
		test_and_set(walk->seen, number);
}

void job_snapshot_keep_queue(struct job_machine *m, const struct job_queue *q)
{
	if (unseen(&m->snapshot->queues, q->number))
		save_queue(m, q);
}

void job_snapshot_keep(struct job_machine *m, uint32_t slot)
{
	job_snapshot_keep_queue(m, job_slot_queue(m, job_slot(m, slot)));
	if (unseen(&m->snapshot->slots, slot))
		save_slot(m, slot);
}

void job_snapshot_skip(struct job_machine *m, uint32_t slot)
{
	skip(&m->snapshot->slots, slot);
}

void job_snapshot_skip_queue(struct job_machine *m, uint32_t number)
{
	skip(&m->snapshot->queues, number);
}

void job_snapshot_keep_unique(struct job_machine *m, uint32_t number)
{
	if (unseen(&m->snapshot->uniques, number))
		save_unique(m, number);
}

void job_snapshot_skip_unique(struct job_machine *m, uint32_t number)
{
	skip(&m->snapshot->uniques, number);
}

void job_snapshot_keep_bucket(struct job_machine *m, uint32_t number)
{
	if (unseen(&m->snapshot->buckets, number))
		save_bucket(m, number);
}

void job_snapshot_skip_bucket(struct job_machine *m, uint32_t number)
{
	skip(&m->snapshot->buckets, number);
}

/* ---- begin ------------------------------------------------------------------------------- */

static void count(const struct job_machine *m, struct job_snapshot *snap)
{
	const struct job_totals *t = &m->totals;
	uint64_t *c = snap->counters;

	c[JOB_COUNT_IDS_NEXT] = m->ids_next;
	c[JOB_COUNT_IDS_UNTIL] = m->ids_until;
	c[JOB_COUNT_CLAIM_LAST] = m->claim_last;
	c[JOB_COUNT_BURIAL_LAST] = m->burial_last;
	c[JOB_COUNT_SUBMITTED] = t->submitted;
	c[JOB_COUNT_ATTEMPTS] = t->attempts;
	c[JOB_COUNT_COMPLETED] = t->completed;
	c[JOB_COUNT_FAILED] = t->failed;
	c[JOB_COUNT_CANCELLED] = t->cancelled;
	c[JOB_COUNT_TIMEOUTS] = t->timeouts;
	c[JOB_COUNT_RETRIES] = t->retries;
	c[JOB_COUNT_EXPIRED] = t->expired;
	c[JOB_COUNT_DEAD] = t->dead;
	c[JOB_COUNT_QUEUES] = m->queues_end - 1 - m->queues_free;
	memcpy(c + JOB_COUNT_JOBS, t->jobs + 1, (JOB_STATES - 1) * sizeof(c[0]));
	memcpy(c + JOB_COUNTERS_END, m->ranges, m->ranges_count * sizeof(m->ranges[0]));
	snap->counters_count = JOB_COUNTERS_END + 2 * m->ranges_count;
}

static void snapshot_free(struct job_snapshot *snap)
{
	struct pile *piles[] = {&snap->queue_states,   &snap->entries,        &snap->entries_ext,
	                        &snap->entries_policy, &snap->unique_entries, &snap->bucket_entries,
	                        &snap->joins};

	for (size_t i = 0; i < sizeof(piles) / sizeof(piles[0]); i++)
		while (piles[i]->first)
			pile_drop(snap, piles[i]);
	free(snap->slots.seen);
	free(snap->queues.seen);
	free(snap->uniques.seen);
	free(snap->buckets.seen);
	free(snap);
}

static bool begin_walk(struct job_snapshot *snap, struct walk *walk, uint32_t end)
{
	*walk = (struct walk){end, 1, calloc(end / 64 + 1, sizeof(walk->seen[0]))};
	snap->bytes += end / 8;
	return walk->seen != NULL;
}

int job_snapshot_begin(struct job_machine *m)
{
	struct job_snapshot *snap;

	if (m->snapshot)
		return -EBUSY;
	snap = calloc(1, sizeof(*snap));
	if (!snap)
		return -ENOMEM;
	snap->bytes = sizeof(*snap);
	if (!begin_walk(snap, &snap->slots, m->slots_end) ||
	    !begin_walk(snap, &snap->queues, m->queues_end) ||
	    !begin_walk(snap, &snap->uniques, m->uniques.end) ||
	    !begin_walk(snap, &snap->buckets, m->buckets.end)) {
		snapshot_free(snap);
		return -ENOMEM;
	}
	count(m, snap);
	m->snapshot = snap;
	return 0;
}

uint64_t job_snapshot_bytes(const struct job_machine *m)
{
	return m->snapshot ? m->snapshot->bytes : 0;
}

void job_snapshot_cancel(struct job_machine *m)
{
	if (m->snapshot)
		snapshot_free(m->snapshot);
	m->snapshot = NULL;
}

/* ---- steps ------------------------------------------------------------------------------- */

static int emit_counters(struct job_snapshot *snap, job_emit_function *emit, void *arg)
{
	struct job_record r = {.type = JOB_COUNTERS,
	                       .body = {snap->counters, snap->counters_count * sizeof(snap->counters[0])}};

	return emit(arg, &r);
}

/* The queues of a chunk, one by one. */
static int emit_queues(const struct chunk *chunk, job_emit_function *emit, void *arg)
{
	struct job_record all = {.body = {chunk->data, chunk->bytes}}, r;
	size_t cursor = 0;
	int error = 0;

	while (error == 0 && job_part_get(&all, &cursor, &r))
		error = emit(arg, &r);
	return error;
}

static int emit_chunk(const struct chunk *chunk, int type, job_emit_function *emit, void *arg)
{
	struct job_record r = {.type = (uint8_t)type, .body = {chunk->data, chunk->bytes}};

	return type == JOB_QUEUE_STATE ? emit_queues(chunk, emit, arg) : emit(arg, &r);
}

/* Hand out chunks, the last one only with all. */
static int pile_out(struct job_snapshot *snap, struct pile *pile, int type, bool all, int64_t *budget,
                    job_emit_function *emit, void *arg)
{
	while (pile->first && (all || pile->first != pile->last) && *budget > 0) {
		int error = emit_chunk(pile->first, type, emit, arg);

		if (error < 0)
			return error;
		*budget -= STEP_OF_CHUNK;
		pile_drop(snap, pile);
	}
	return 0;
}

static void walk_queues(struct job_machine *m, int64_t *budget)
{
	struct walk *walk = &m->snapshot->queues;

	for (; walk->at<walk->end && * budget> 0; walk->at++, *budget -= 4) {
		const struct job_queue *q = m->queues[walk->at];

		if (q && unseen(walk, walk->at))
			save_queue(m, q);
	}
}

static void walk_jobs(struct job_machine *m, int64_t *budget)
{
	struct walk *walk = &m->snapshot->slots;
	int64_t until = *budget > WALK_AT_ONCE ? *budget - WALK_AT_ONCE : 0;

	for (; walk->at<walk->end && * budget> until; walk->at++, --*budget) {
		if (walk->at % 64 == 0 && walk->seen[walk->at / 64] == UINT64_MAX) {
			walk->at += 63;
			continue;
		}
		if (job_slot(m, walk->at)->state != JOB_NONE && unseen(walk, walk->at))
			save_slot(m, walk->at);
	}
}

/* Those that hold for a time: others are told with their jobs. */
static void walk_uniques(struct job_machine *m, int64_t *budget)
{
	struct walk *walk = &m->snapshot->uniques;

	for (; walk->at<walk->end && * budget> 0; walk->at++, --*budget)
		if (job_unique(m, walk->at)->until_ms != 0 && unseen(walk, walk->at))
			save_unique(m, walk->at);
}

static void walk_buckets(struct job_machine *m, int64_t *budget)
{
	struct walk *walk = &m->snapshot->buckets;

	for (; walk->at<walk->end && * budget> 0; walk->at++, --*budget)
		if (job_bucket(m, walk->at)->wake_at != 0 && unseen(walk, walk->at))
			save_bucket(m, walk->at);
}

/* What is full, or with all everything. */
static int entries_out(struct job_snapshot *snap, bool all, int64_t *budget, job_emit_function *emit,
                       void *arg)
{
	struct {
		struct pile *pile;
		int type;
	} kinds[] = {{&snap->entries, JOB_ENTRIES},
	             {&snap->entries_ext, JOB_ENTRIES_EXT},
	             {&snap->entries_policy, JOB_ENTRIES_POLICY},
	             {&snap->unique_entries, JOB_UNIQUES},
	             {&snap->bucket_entries, JOB_BUCKETS}};
	int error = 0;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && error == 0; i++)
		error = pile_out(snap, kinds[i].pile, kinds[i].type, all, budget, emit, arg);
	/* what is awaited comes after the jobs that await it, which are all out then */
	if (error == 0 && snap->joins.first != (all ? NULL : snap->joins.last)) {
		error = pile_out(snap, &snap->entries_policy, JOB_ENTRIES_POLICY, true, budget, emit, arg);
		if (error == 0 && !snap->entries_policy.first)
			error = pile_out(snap, &snap->joins, JOB_JOINS, all, budget, emit, arg);
	}
	return error;
}

/* One piece of the present stage; what has come to its end is followed by the next. */
static int advance(struct job_machine *m, int64_t *budget, job_emit_function *emit, void *arg)
{
	struct job_snapshot *snap = m->snapshot;
	int error = 0;

	switch (snap->stage) {
	case STAGE_COUNTERS:
		error = emit_counters(snap, emit, arg);
		snap->stage++;
		break;
	case STAGE_QUEUES:
		walk_queues(m, budget);
		snap->stage += snap->queues.at >= snap->queues.end;
		break;
	case STAGE_QUEUES_OUT:
		error = pile_out(snap, &snap->queue_states, JOB_QUEUE_STATE, true, budget, emit, arg);
		snap->stage += snap->queue_states.first == NULL;
		break;
	case STAGE_JOBS:
		/* out first, and a small step after it: what is held does not grow by the walk */
		error = entries_out(snap, false, budget, emit, arg);
		walk_jobs(m, budget);
		snap->stage += snap->slots.at >= snap->slots.end;
		break;
	case STAGE_UNIQUES:
		error = entries_out(snap, false, budget, emit, arg);
		walk_uniques(m, budget);
		snap->stage += snap->uniques.at >= snap->uniques.end;
		break;
	case STAGE_BUCKETS:
		error = entries_out(snap, false, budget, emit, arg);
		walk_buckets(m, budget);
		snap->stage += snap->buckets.at >= snap->buckets.end;
		break;
	default:
		error = entries_out(snap, true, budget, emit, arg);
		snap->stage += !snap->entries.first && !snap->entries_ext.first &&
		               !snap->entries_policy.first && !snap->unique_entries.first &&
		               !snap->bucket_entries.first && !snap->joins.first;
	}
	return error < 0 ? error : snap->error;
}

int job_snapshot_step(struct job_machine *m, uint32_t budget, job_emit_function *emit, void *arg)
{
	struct job_snapshot *snap = m->snapshot;
	int64_t left = budget;
	int error = snap->error;

	while (error == 0 && left > 0 && snap->stage <= STAGE_ALL_OUT)
		error = advance(m, &left, emit, arg);
	if (error == 0 && snap->stage <= STAGE_ALL_OUT)
		return 1;
	job_snapshot_cancel(m);
	return error;
}
