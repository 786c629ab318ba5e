/* src/job/machine.h -- the inside of the job machine: slots, extensions, directory, wheels, lanes.
 *
 * A job is a slot of 44 bytes, found by its id through the directory. It stands in at most one structure at a
 * time, through next and prev: a lane's list or heap, the hidden list, a wheel's bucket, the buried list. What
 * only some jobs need (a lease, options of their own, errors) is in an extension.
 * Used by: src/job only. Slots and extensions are numbers (0: none), so that they stay small and pages never move.
 */
#ifndef JOB_MACHINE_H
#define JOB_MACHINE_H

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "job/job.h"

enum { JOB_PAGE_BITS = 16, JOB_PAGE = 1 << JOB_PAGE_BITS };
enum { JOB_EXT_PAGE_BITS = 12, JOB_EXT_PAGE = 1 << JOB_EXT_PAGE_BITS };
enum { JOB_POOL_PAGE_BITS = 10 };
enum { JOB_WHEEL_LEVELS = 4, JOB_WHEEL_LISTS = 256 };
enum { JOB_LANES_MAX = 64, JOB_RANGES_MAX = 256 };
enum { JOB_SUBMIT_BITS = 27, JOB_SUBMIT_SHIFT = 21 }; /* together 48: any place */

enum job_where {
	JOB_AT_NONE,
	JOB_AT_HIDDEN,   /* the machine's list of ready jobs that are not to be leased yet */
	JOB_AT_FIFO,     /* list of its lane, ids rising */
	JOB_AT_HEAP,     /* heap of its lane: came back, or came out of turn */
	JOB_AT_OVERFLOW, /* the queue's heap for priorities without a lane */
	JOB_AT_DELAYS,   /* wheels */
	JOB_AT_LEASES,
	JOB_AT_RETAIN,
	JOB_AT_BURIED, /* list of its queue */
	JOB_AT_GROUP,  /* ready, but held back until those before it in its group are out of the way */
	JOB_AT_JOIN,   /* in no list: the jobs that it awaits know it */
};

enum job_slot_flags {
	JOB_SLOT_CANCEL = 1,
	JOB_SLOT_TOUCHED = 2,
	JOB_SLOT_UNREVEALED = 4,
	JOB_SLOT_WATCHED = 8,
	JOB_SLOT_AWAITED = 16, /* a submit of the transaction being checked is to run after it */
};

struct job_slot {
	uint32_t place_low;
	uint16_t place_high;
	uint16_t changed; /* bits 12 to 27 of the place of the newest record */
	uint32_t id_low;
	uint32_t id_high : 21, attempts : 11;
	uint32_t when_low; /* of the instant; buried: which burial it was; in a heap: the first child */
	uint32_t when_high : 12, state : 4, where : 4, bucket : 10, size_high : 2;
	uint32_t priority;
	uint32_t next, prev;
	uint32_t queue : 24, flags : 5, size_low : 3; /* size: class of the record at place */
	uint32_t
		ext; /* finished: where about its SUBMIT is, 27 bits, and its size; 0: it is in the record at place */
};
_Static_assert(sizeof(struct job_slot) == 44, "memory per waiting job");

enum job_ext_flags {
	JOB_EXT_RETENTION = 1,
	JOB_EXT_SECONDS = 2, /* time_to_run is in seconds: more than 49 days */
	JOB_EXT_BOUND = 4,   /* the lease is */
	JOB_EXT_EDITED = 8,  /* its own values are not those of its SUBMIT */
	JOB_EXT_EDIT = 256,  /* this and all above: how often it was edited, low bits */
};
enum { JOB_EXT_UNLIMITED = UINT16_MAX };

struct job_ext {
	uint64_t claim;
	uint64_t error_place;
	uint64_t progress_place;
	int64_t retention_ms; /* with JOB_EXT_RETENTION */
	uint32_t time_to_run; /* ms, or s with JOB_EXT_SECONDS; 0: the queue's */
	uint32_t epoch;
	uint32_t changes;      /* extensions and progress since the claim */
	uint16_t attempts_max; /* 0: the queue's; JOB_EXT_UNLIMITED */
	uint16_t timeouts;
	uint32_t flags;
	uint32_t reserves, releases, buries, kicks;
	uint32_t delay_s;
	union {
		uint32_t error_bytes; /* of the record at error_place */
		uint32_t next_free;
	};
	uint32_t progress_bytes;
	uint32_t policy; /* what few jobs have; 0: none */
	uint32_t
		claimed_ms; /* of the lease, by the wall clock, low bits; 0: not known, since an earlier run gave it */
};
_Static_assert(sizeof(struct job_ext) == 88, "memory per job with an extension");

/* What an unfinished job has that was submitted with a group, an active or queued unique key, or an instant by which it must have been
 * begun, or that is dead. */
struct job_policy {
	union {
		uint32_t slot;
		uint32_t next_free;
	};
	uint32_t
		expiry_at; /* where it stands in the heap of those that are to be begun in time; 0: not there */
	int64_t expires_ms;                 /* 0: never */
	uint32_t unique;                    /* its key, queued or active; 0: none */
	uint32_t group;                     /* 0: none */
	uint32_t next, prev;                /* slots: the waiting ones of the group */
	uint32_t dead_from : 24, flags : 8; /* queue, 0: it is not dead; enum job_policy_flag */
	uint32_t join;                      /* what it awaits; 0: nothing */
};
_Static_assert(sizeof(struct job_policy) == 40, "memory per job with a policy");
enum job_policy_flag { JOB_GROUP_LISTED = 1, JOB_GROUP_OPEN = 2 };

static inline void job_policy_flag(struct job_policy *p, unsigned flags)
{
	p->flags = (p->flags | flags) & 0xff;
}

static inline void job_policy_unflag(struct job_policy *p, unsigned flags)
{
	p->flags = (p->flags & ~flags) & 0xff;
}

/* Jobs of a queue that are to run in their order. Those that wait (delayed or ready, not buried) are listed, ids rising; the
 * first of them are open: as many as may run beside those that run. */
struct job_group {
	union {
		uint32_t next; /* in its chain of the table */
		uint32_t next_free;
	};
	uint32_t queue;
	uint64_t hash[2];
	uint32_t first, last;
	uint32_t open_last; /* 0: none is open */
	uint32_t open, running;
	uint32_t members; /* unfinished jobs: waiting, running, buried */
	uint32_t bucket;  /* of its rate; 0: it is full, or there is none */
};

/* What a group has taken of its queue's rate for each: bucket.c. */
struct job_bucket {
	union {
		uint32_t next; /* in its chain of the table */
		uint32_t next_free;
	};
	uint32_t queue;
	uint64_t hash[2];
	int64_t full_ns;
	int64_t wake_ms;  /* when time changes something about it */
	uint32_t wake_at; /* where it stands in the heap of those that time changes; 0: it is not used */
	bool rests;       /* too empty for a job */
};

/* A unique key. Active and queued ones live as long as their job, others until an instant. */
struct job_unique {
	union {
		uint32_t next; /* in its chain of the table */
		uint32_t next_free;
	};
	uint32_t until_at; /* where it stands in the heap of those that pass; 0: not there */
	uint64_t hash[2];
	uint64_t id;
	int64_t until_ms; /* 0: as long as its job says */
	bool queued;      /* while its job waits; else while it is unfinished */
	bool held;        /* keeps others out now */
};

/* A job that is to run after others. Its edges are a list, and each is in the list of the job that it leads to. */
struct job_join {
	union {
		uint32_t slot;
		uint32_t next_free;
	};
	uint32_t first, last; /* edges: jobs that have not ended yet */
	uint32_t open;        /* how many these are */
	uint32_t missing;     /* jobs that its AFTER, which is the next record, will tell */
	uint32_t count;       /* it was to run after so many */
	uint32_t next, prev;  /* joins in the machine's list of those that are doomed, or released */
	int64_t delay_ms;     /* from the end of the last one on */
	uint64_t by;          /* doomed: the job that did not end well */
	uint64_t place;       /* released: of the record that did it */
	uint8_t stage;        /* enum job_join_stage */
	uint8_t failure;      /* enum job_after_failure */
	uint8_t why;          /* doomed: enum job_awaited_end */
};
enum job_join_stage {
	JOB_JOIN_WAITS,
	JOB_JOIN_DOOMED,   /* one did not end well: job_advance() says so */
	JOB_JOIN_RELEASED, /* not awaiting any more, which job_released() will tell */
	JOB_JOIN_HIDDEN,   /* told, but not to be leased before job_reveal() passes .place */
};
_Static_assert(sizeof(struct job_join) == 64, "memory per job that awaits others");

struct job_edge {
	union {
		uint32_t join;
		uint32_t next_free;
	};
	uint32_t awaited;
	uint32_t next, prev;           /* of the same join */
	uint32_t next_same, prev_same; /* of the same job awaited */
};

/* A job that others await, by its id: what it is itself does not matter here. */
struct job_awaited {
	union {
		uint32_t next; /* in its chain of the table */
		uint32_t next_free;
	};
	uint32_t count;
	uint64_t hash[2]; /* its id, twice */
	uint32_t first, last;
};

struct job_join_list {
	uint32_t first, last;
};

/* Things of one size, which have numbers from 1 on and never move. */
struct job_pool {
	uint8_t **pages;
	uint32_t pages_count, end, free; /* end: from here on were never used */
	uint32_t each;                   /* bytes */
	uint64_t used;
};

/* Chains by hash of things in a pool, each of which begins like this. */
struct job_keyed {
	uint32_t next; /* in its chain */
	uint32_t own;
	uint64_t hash[2];
};
_Static_assert(offsetof(struct job_group, queue) == offsetof(struct job_keyed, own) &&
                       offsetof(struct job_bucket, queue) == offsetof(struct job_keyed, own) &&
                       offsetof(struct job_group, hash) == offsetof(struct job_keyed, hash) &&
                       offsetof(struct job_unique, hash) == offsetof(struct job_keyed, hash) &&
                       offsetof(struct job_bucket, hash) == offsetof(struct job_keyed, hash) &&
                       offsetof(struct job_awaited, hash) == offsetof(struct job_keyed, hash),
               "what stands in a table");
struct job_table {
	uint32_t *chains;
	uint32_t cap; /* power of two, 0: none yet */
};

/* Numbers of things in a pool by an instant of theirs, which know where they stand. [0] is not used. */
struct job_heap {
	uint32_t *all;
	uint32_t count, cap;
};

enum { JOB_SPACE_BUCKETS = 256 };

struct job_wheel {
	uint64_t base; /* everything up to this ms has been given out */
	uint64_t count;
	uint32_t first[JOB_WHEEL_LEVELS * JOB_WHEEL_LISTS], last[JOB_WHEEL_LEVELS * JOB_WHEEL_LISTS];
	uint64_t bits[JOB_WHEEL_LEVELS][JOB_WHEEL_LISTS / 64]; /* clear: the list is empty */
};

struct job_kept { /* a finished job, for who goes first */
	int64_t when_ms;
	uint64_t id;
};

struct job_lane {
	uint32_t priority;
	uint32_t first, last;
	uint32_t heap;
};

/* 65,536 ids: an array while it is well filled, then a small table. */
struct job_shard {
	uint64_t number; /* id >> 16 */
	uint32_t live;
	uint32_t cap;    /* of the table; 0: dense */
	uint32_t *slots; /* dense: by id & 0xffff; table: with keys[] */
	uint16_t *keys;
};

struct job_directory {
	struct job_shard **table; /* open addressing by number */
	size_t cap, count;
	struct job_shard *newest;
	uint64_t bytes;
};

/* Ids that were given, to tell "was here" from "never was": one range for each run of the server. */
struct job_range {
	uint64_t from, until;
};

struct job_machine {
	struct job_limits limits;
	struct job_slot **pages;
	uint32_t pages_count;
	uint32_t slots_end;  /* slots from here on were never used */
	uint32_t slots_free; /* list through next */
	uint64_t slots_used;
	struct job_ext **ext_pages;
	uint32_t ext_pages_count, ext_end, ext_free;
	uint64_t ext_used;
	struct job_directory directory;
	struct job_wheel delays, leases, retain;
	uint32_t hidden_first, hidden_last;
	uint64_t revealed; /* places below may be leased */
	struct job_queue **queues;
	uint32_t queues_end, queues_cap, queues_live, queues_free;
	struct job_queue **names;
	uint32_t names_cap;
	struct job_queue *queue_spare; /* for the next queue, made by job_queue_room() */
	struct job_space *spaces[JOB_SPACE_BUCKETS], *space_spare;
	struct job_queue *woken;
	struct job_queue *over;    /* retain.c */
	struct job_queue *pending; /* job_pend() */
	int64_t pauses_end_ms;     /* of the pauses for a time the first; INT64_MAX: none */
	int64_t rates_end_ms; /* when a queue may give out a job again that it had to keep, the first; INT64_MAX */
	struct job_pool policies, groups, uniques, buckets, joins, edges, awaited;
	struct job_table group_table, unique_table, bucket_table, awaited_table;
	struct job_join_list doomed, released;
	struct job_heap expiries, untils, wakes;
	int64_t buckets_now_ms; /* what job_bucket_pass() saw last */
	uint64_t expiring;      /* policies with an instant */
	job_ready_function *ready, *fewer;
	void *ready_arg;
	bool watches_all;
	uint64_t ids_next, ids_until;
	struct job_range ranges[JOB_RANGES_MAX]; /* when full, the two oldest become one */
	size_t ranges_count;
	uint64_t claim_last;
	uint64_t burial_last; /* burials are numbered, so that a checkpoint can tell their order */
	struct job_totals totals;
	job_live_function *live;
	void *live_arg;
	struct job_snapshot *snapshot; /* NULL: none is under way */
	struct job_load *load;         /* a checkpoint is being read */
};

static inline struct job_slot *job_slot(const struct job_machine *m, uint32_t slot)
{
	return &m->pages[slot >> JOB_PAGE_BITS][slot & (JOB_PAGE - 1)];
}

static inline struct job_ext *job_ext(const struct job_machine *m, uint32_t ext)
{
	return &m->ext_pages[ext >> JOB_EXT_PAGE_BITS][ext & (JOB_EXT_PAGE - 1)];
}

static inline uint64_t job_slot_id(const struct job_slot *s)
{
	return (uint64_t)s->id_high << 32 | s->id_low;
}

static inline uint64_t job_slot_place(const struct job_slot *s)
{
	return (uint64_t)s->place_high << 32 | s->place_low;
}

static inline void job_slot_set_place(struct job_slot *s, uint64_t place)
{
	s->place_low = (uint32_t)place;
	s->place_high = (uint16_t)(place >> 32);
}

static inline int64_t job_slot_when(const struct job_slot *s)
{
	return (int64_t)((uint64_t)s->when_high << 32 | s->when_low);
}

/* 44 bits of milliseconds: until the year 2527. */
static inline int64_t job_clamp_ms(int64_t ms)
{
	return ms < 0 ? 0 : ms > (INT64_C(1) << 44) - 1 ? (INT64_C(1) << 44) - 1 : ms;
}

static inline void job_slot_set_when(struct job_slot *s, int64_t ms)
{
	uint64_t when = (uint64_t)job_clamp_ms(ms);
	s->when_low = (uint32_t)when;
	s->when_high = (uint32_t)(when >> 32) & 0xfff;
}

static inline void job_slot_flag(struct job_slot *s, unsigned flags)
{
	s->flags = (s->flags | flags) & 0x1f;
}

static inline void job_slot_unflag(struct job_slot *s, unsigned flags)
{
	s->flags = (s->flags & ~flags) & 0x1f;
}

/* The extension, NULL when there is none. */
static inline struct job_ext *job_slot_ext(const struct job_machine *m, const struct job_slot *s)
{
	return s->ext == 0 || job_state_finished(s->state) ? NULL : job_ext(m, s->ext);
}

static inline uint32_t job_slot_size(const struct job_slot *s)
{
	return (uint32_t)s->size_high << 3 | s->size_low;
}

static inline void job_slot_set_size(struct job_slot *s, uint32_t size)
{
	s->size_high = size >> 3 & 3;
	s->size_low = size & 7;
}

static inline struct job_queue *job_slot_queue(const struct job_machine *m, const struct job_slot *s)
{
	return m->queues[s->queue];
}

/* slots.c */
int job_slots_room(struct job_machine *m, uint64_t count);
uint32_t job_slot_take(struct job_machine *m); /* needs room */
void job_slot_give(struct job_machine *m, uint32_t slot);
int job_ext_room(struct job_machine *m, uint64_t count);
struct job_ext *job_ext_need(struct job_machine *m,
                             struct job_slot *s); /* its extension; needs room if it has none */
void job_ext_give(struct job_machine *m, struct job_slot *s);
void job_ext_trim(struct job_machine *m, struct job_slot *s); /* frees it when it says nothing */
void job_slots_done(struct job_machine *m);

/* pool.c */
int job_pool_room(struct job_pool *pool, uint64_t count);
uint32_t job_pool_take(struct job_pool *pool); /* zeroed; needs room */
void job_pool_give(struct job_pool *pool, uint32_t number);
void job_pool_done(struct job_pool *pool);
uint64_t job_pool_bytes(const struct job_pool *pool);
static inline void *job_pool_at(const struct job_pool *pool, uint32_t number)
{
	return pool->pages[number >> JOB_POOL_PAGE_BITS] +
	       (size_t)pool->each * (number & ((1u << JOB_POOL_PAGE_BITS) - 1));
}

/* job_table_room() - so that count more things of the pool find a chain. 0 or -ENOMEM. */
int job_table_room(struct job_table *table, const struct job_pool *pool, uint64_t count);
/* job_table_find() - the first of this hash whose second word is own; 0: none. job_table_remove(): out of its chain. */
uint32_t job_table_find(const struct job_table *table, const struct job_pool *pool, uint32_t own,
                        const uint64_t hash[2]);
void job_table_remove(struct job_table *table, const struct job_pool *pool, uint32_t number);
static inline uint32_t *job_table_chain(const struct job_table *table, const uint64_t hash[2])
{
	return &table->chains[hash[0] & (table->cap - 1)];
}

/* policy.c */
static inline struct job_policy *job_policy(const struct job_machine *m, uint32_t policy)
{
	return job_pool_at(&m->policies, policy);
}
static inline struct job_policy *job_slot_policy(const struct job_machine *m, const struct job_slot *s)
{
	const struct job_ext *e = job_slot_ext(m, s);

	return e && e->policy != 0 ? job_policy(m, e->policy) : NULL;
}
void job_policies_init(struct job_machine *m);
void job_policies_done(struct job_machine *m);
uint64_t job_policies_bytes(const struct job_machine *m);
struct job_policy *job_policy_need(struct job_machine *m,
                                   uint32_t slot); /* made if it has none; needs room */
int job_policy_room(struct job_machine *m,
                    uint64_t count); /* of everything that a job may need, unique keys apart */
int job_unique_room(struct job_machine *m, uint64_t count);
/* What the record says, before the job gets its state; needs room. */
void job_policy_submit(struct job_machine *m, uint32_t slot, const struct job_record *r);
/* The job gets another state; its counters and structures are still those of the one before. */
void job_policy_state(struct job_machine *m, uint32_t slot, uint32_t state);
void job_policy_end(struct job_machine *m, uint32_t slot); /* it finishes, or goes */
/* It leaves its queue, as dead or not: needs room for one. job_policy_arrive(): it is in the other queue now. */
void job_policy_leave(struct job_machine *m, uint32_t slot, bool dead, uint64_t group[2]);
void job_policy_arrive(struct job_machine *m, uint32_t slot, const uint64_t group[2]);
void job_policy_expire(struct job_machine *m, uint32_t slot, int64_t expires_ms); /* 0: never */
void job_policy_save(const struct job_machine *m, const struct job_policy *p, struct job_entry *entry);
void job_policy_load(struct job_machine *m, uint32_t slot, const struct job_entry *entry); /* needs room */
bool job_policy_sound(const struct job_machine *m, const struct job_slot *s);
uint64_t job_policy_fingerprint(const struct job_machine *m, const struct job_policy *p);
uint32_t job_policy_due(const struct job_machine *m, int64_t now_ms); /* slot that was not begun in time; 0 */
int64_t job_policies_next(const struct job_machine *m);

/* unique.c */
static inline struct job_unique *job_unique(const struct job_machine *m, uint32_t unique)
{
	return job_pool_at(&m->uniques, unique);
}
void job_unique_hash(const struct job_queue *q, struct job_slice key, uint64_t ret[2]);
const struct job_unique *job_unique_holder(const struct job_machine *m, const uint64_t hash[2],
                                           int64_t now_ms);
uint32_t job_unique_add(struct job_machine *m, const struct job_unique_entry *entry, bool queued, bool held);
void job_unique_remove(struct job_machine *m, uint32_t number);
void job_unique_hold(struct job_machine *m, uint32_t number, bool held); /* if nobody else does */
bool job_unique_pass(struct job_machine *m, int64_t now_ms); /* one that has passed; false: there is none */
uint64_t job_uniques_fingerprint(const struct job_machine *m, int64_t now_ms);
bool job_uniques_sound(const struct job_machine *m);

/* group.c */
static inline struct job_group *job_group(const struct job_machine *m, uint32_t group)
{
	return job_pool_at(&m->groups, group);
}
int job_group_room(struct job_machine *m, uint64_t count);
uint32_t job_group_find(const struct job_machine *m, uint32_t queue, const uint64_t hash[2]); /* 0: none */
void job_group_join(struct job_machine *m, struct job_policy *p, const uint64_t hash[2]);     /* needs room */
void job_group_quit(struct job_machine *m, struct job_policy *p);
void job_group_list(struct job_machine *m, struct job_policy *p);
void job_group_unlist(struct job_machine *m, struct job_policy *p);
void job_group_settle(struct job_machine *m, uint32_t group);
void job_groups_settle(struct job_machine *m, const struct job_queue *q);     /* all of a queue */
bool job_group_allows(const struct job_machine *m, const struct job_slot *s); /* may it be leased? */
bool job_groups_sound(const struct job_machine *m);

/* bucket.c */
static inline struct job_bucket *job_bucket(const struct job_machine *m, uint32_t bucket)
{
	return job_pool_at(&m->buckets, bucket);
}
int job_bucket_room(struct job_machine *m, uint64_t count);
uint32_t job_bucket_find(const struct job_machine *m, uint32_t queue, const uint64_t hash[2]); /* 0: none */
void job_bucket_apply(struct job_machine *m, const struct job_record *r); /* needs room */
void job_bucket_give_back(struct job_machine *m, const struct job_slot *s);
void job_buckets_drop(struct job_machine *m,
                      const struct job_queue *q);            /* all of a queue: its groups begin anew */
bool job_bucket_pass(struct job_machine *m, int64_t now_ms); /* one that time changes; false: there is none */
int64_t job_bucket_next(const struct job_machine *m);
void job_bucket_save(const struct job_machine *m, uint32_t number, struct job_bucket_entry *entry);
int job_bucket_load(struct job_machine *m, const struct job_bucket_entry *entry);
uint64_t job_buckets_fingerprint(const struct job_machine *m, int64_t now_ms);
bool job_buckets_sound(const struct job_machine *m);

/* join.c */
static inline struct job_join *job_join(const struct job_machine *m, uint32_t join)
{
	return job_pool_at(&m->joins, join);
}
static inline struct job_join *job_slot_join(const struct job_machine *m, const struct job_slot *s)
{
	const struct job_policy *p = s->ext != 0 ? job_slot_policy(m, s) : NULL;

	return p && p->join != 0 ? job_join(m, p->join) : NULL;
}
void job_joins_init(struct job_machine *m);
void job_joins_done(struct job_machine *m);
uint64_t job_joins_bytes(const struct job_machine *m);
/* A new job awaits others, which its AFTER tells. */
void job_join_submit(struct job_machine *m, uint32_t slot, const struct job_record *r);
void job_apply_after(struct job_machine *m, uint32_t slot, const struct job_record *r, uint64_t place,
                     unsigned flags);
bool job_after_fits(const struct job_machine *m, const struct job_slot *s, const struct job_record *r);
/* It awaits nothing any more, whatever it has awaited. */
void job_join_drop(struct job_machine *m, struct job_policy *p);
/* A job has ended, or has become dead: its end is told to those that await it. for_good: it cannot come back. */
struct job_end {
	uint64_t id;
	int why; /* enum job_awaited_end */
	bool for_good;
	int64_t at_ms;
	uint64_t place;
	unsigned flags; /* of job_apply() */
};
void job_awaited_end(struct job_machine *m, const struct job_end *end);
uint32_t job_doomed(const struct job_machine *m); /* slot of a job that one awaited did not end well for; 0 */
void job_doomed_record(struct job_machine *m, uint32_t slot, int64_t now_ns, struct job_record *r, char *text,
                       size_t cap);
uint64_t job_hidden_place(const struct job_machine *m, const struct job_slot *s); /* see job_reveal() */
void job_join_shown(struct job_machine *m, const struct job_slot *s);             /* it has been revealed */
typedef void job_join_save_function(void *arg, const struct job_join_entry *entry);
void job_join_save(const struct job_machine *m, const struct job_slot *s, job_join_save_function *save,
                   void *arg);
int job_join_load(struct job_machine *m, const struct job_join_entry *entry);
bool job_join_sound(const struct job_machine *m, const struct job_slot *s);
bool job_joins_sound(const struct job_machine *m);
uint64_t job_join_fingerprint(const struct job_machine *m, const struct job_slot *s);

/* heap.c */
typedef int64_t job_heap_key(const struct job_machine *m, uint32_t number, uint32_t **ret_at);
int job_heap_room(struct job_heap *heap, uint64_t count); /* for so many in all */
void job_heap_add(struct job_machine *m, struct job_heap *heap, job_heap_key *key, uint32_t number);
void job_heap_remove(struct job_machine *m, struct job_heap *heap, job_heap_key *key, uint32_t number);

/* limit.c: how many jobs of a queue may run, and how many may be begun in which time. ns that one job takes of a rate, and all of a burst */
int64_t job_rate_one(const struct job_rate *rate);
int64_t job_rate_burst(const struct job_rate *rate);
void job_limit_configure(struct job_machine *m, struct job_queue *q);
bool job_limit_allows(struct job_machine *m, struct job_queue *q, int64_t now_ns);
void job_limit_give_back(struct job_queue *q);
void job_limit_apply(struct job_machine *m, const struct job_record *r);
void job_limits_end(struct job_machine *m, int64_t now_ms);

/* directory.c */
int job_directory_room(struct job_directory *d, uint64_t first_id, uint64_t count);
void job_directory_add(struct job_directory *d, uint64_t id, uint32_t slot); /* needs room */
void job_directory_remove(struct job_directory *d, uint64_t id);
uint32_t job_directory_find(const struct job_directory *d, uint64_t id);    /* 0: none */
int job_directory_put(struct job_directory *d, uint64_t id, uint32_t slot); /* out of order, while loading */
/* Every job, ids rising; what else is new in the shard of next goes there. -ENOMEM. */
int job_directory_each(struct job_directory *d, uint64_t next, void (*each)(void *arg, uint32_t slot),
                       void *arg);
void job_directory_done(struct job_directory *d);

/* wheel.c: the slot's instant decides; where is JOB_AT_DELAYS and so on */
void job_wheel_init(struct job_wheel *w, int64_t now_ms);
void job_wheel_add(struct job_machine *m, struct job_wheel *w, uint32_t slot, int where);
void job_wheel_remove(struct job_machine *m, struct job_wheel *w, uint32_t slot);
uint32_t job_wheel_due(struct job_machine *m, struct job_wheel *w,
                       int64_t now_ms);            /* one, taken out; 0: none */
int64_t job_wheel_next(const struct job_wheel *w); /* at the earliest; INT64_MAX: empty */
/* job_wheel_turns() - the lists that are not empty, in the order of their turns. Of what is in a list nothing is due before
 * its turn, but for what was due already when it was put there: that is in the list whose turn is base + 1. ret: room for
 * JOB_WHEEL_LEVELS * JOB_WHEEL_LISTS. How many. */
struct job_wheel_turn {
	uint64_t at;
	uint32_t list;
};
uint32_t job_wheel_turns(const struct job_wheel *w, struct job_wheel_turn *ret);
uint32_t job_wheel_earliest(const struct job_machine *m, const struct job_wheel *w); /* about; 0: empty */

/* ready.c: ready jobs of a queue, and the lists. job_ready_stand(): where it belongs, in its group or among those that may go */
void job_ready_stand(struct job_machine *m, struct job_queue *q, uint32_t slot);
void job_ready_add(struct job_machine *m, struct job_queue *q, uint32_t slot);
void job_ready_remove(struct job_machine *m, struct job_queue *q, uint32_t slot);
uint32_t job_ready_first(struct job_machine *m, struct job_queue *q);
void job_list_append(struct job_machine *m, uint32_t *first, uint32_t *last, uint32_t slot);
void job_list_remove(struct job_machine *m, uint32_t *first, uint32_t *last, uint32_t slot);

/* queue.c */
void job_queue_apply(struct job_machine *m, const struct job_record *r);
int job_queue_load(struct job_machine *m, const struct job_record *r, struct job_queue **ret);
void job_queue_apply_gone(struct job_machine *m, const struct job_record *r);
int job_queue_room(struct job_machine *m, uint32_t number);
/* space.c: job_space_room() - for one more namespace, -ENOMEM; job_space_enter() - a new queue, which has its name, is of its namespace; _leave(): it is freed.
 * job_space_count() - a job of its queues changes from one state to another. */
int job_space_room(struct job_machine *m);
void job_space_enter(struct job_machine *m, struct job_queue *q);
void job_space_leave(struct job_machine *m, struct job_queue *q);
bool job_spaces_sound(const struct job_machine *m);
void job_spaces_done(struct job_machine *m);
static inline bool job_is_unfinished(uint32_t state)
{
	return state != JOB_NONE && !job_state_finished((int)state);
}
static inline void job_space_count(struct job_space *space, uint32_t before, uint32_t state)
{
	space->unfinished += job_is_unfinished(state);
	space->unfinished -= job_is_unfinished(before);
}
void job_queue_woken_forget(struct job_machine *m, struct job_queue *q);
void job_queues_done(struct job_machine *m);

/* live.c: how many bytes of the log are needed where. Sizes are classes of two to a power of two; 0: nothing */
uint32_t job_size_class(uint64_t bytes);
uint64_t job_class_bytes(uint32_t size);
uint32_t job_submit_about(const struct job_slot *s); /* for ext of a finished job */
void job_live_tell(const struct job_machine *m, const struct job_slot *s, int sign);
static inline void job_live_at(const struct job_machine *m, uint64_t place, int64_t bytes)
{
	if (m->live && bytes != 0)
		m->live(m->live_arg, place, bytes);
}

/* snapshot.c: what a snapshot that is under way has not seen yet is kept before it changes */
void job_snapshot_keep(struct job_machine *m, uint32_t slot); /* the job and its queue */
void job_snapshot_keep_queue(struct job_machine *m, const struct job_queue *q);
void job_snapshot_skip(struct job_machine *m, uint32_t slot); /* not a job when it began */
void job_snapshot_skip_queue(struct job_machine *m, uint32_t number);
void job_snapshot_keep_unique(struct job_machine *m, uint32_t number);
void job_snapshot_skip_unique(struct job_machine *m, uint32_t number);
void job_snapshot_keep_bucket(struct job_machine *m, uint32_t number);
void job_snapshot_skip_bucket(struct job_machine *m, uint32_t number);
static inline void job_changes(struct job_machine *m, uint32_t slot)
{
	if (__builtin_expect(m->snapshot != NULL, 0))
		job_snapshot_keep(m, slot);
}

/* retain.c */
typedef int job_kept_function(void *arg, uint32_t slot);
void job_kept_add(struct job_machine *m, struct job_queue *q, const struct job_slot *s); /* it has finished */
void job_kept_check(struct job_machine *m, struct job_queue *q); /* are there too many? */
void job_kept_forget(struct job_machine *m, struct job_queue *q);
/* Gives remove() those that are too many, at most *budget, which is counted down, and calls flush() after some of them. */
int job_kept_evict(struct job_machine *m, uint32_t *budget, job_kept_function *remove,
                   job_kept_function *flush, void *arg);

/* load.c */
void job_load_done(struct job_machine *m);

/* values.c: what holds for a job, its own or its queue's */
int64_t job_time_to_run_ms(const struct job_machine *m, const struct job_slot *s);
int64_t job_retention_ms(const struct job_machine *m, const struct job_slot *s);
uint32_t job_attempts_max(const struct job_machine *m, const struct job_slot *s);
void job_finish_record(const struct job_machine *m, const struct job_slot *s, int state, int64_t now_ns,
                       struct job_record *r);
/* Its last attempt has failed: failed, or dead, as its queue says. r->reason and text are given. 0, -ENOMEM. */
int job_fail_record(struct job_machine *m, const struct job_slot *s, int64_t now_ns, struct job_record *r);

/* edit.c: what a job is told to be. Its own values: a time to run or attempts of 0 are the queue's */
void job_own_time_to_run(struct job_ext *e, int64_t ms);
void job_own_retention(struct job_ext *e, int64_t ms); /* 0: the queue's; negative: none */
void job_own_attempts(struct job_ext *e, uint32_t attempts_max);
void job_apply_edit(struct job_machine *m, uint32_t slot, const struct job_record *r);
void job_apply_revive(struct job_machine *m, uint32_t slot, const struct job_record *r, uint64_t place);
bool job_edit_fits(const struct job_machine *m, const struct job_slot *s, const struct job_record *r);
bool job_revive_fits(const struct job_machine *m, const struct job_slot *s, const struct job_record *r);

/* apply.c: the steps that a job is changed by. Another state, its counters and policy told; into ready or delayed, from wherever it was
 * taken out; to the end of the buried ones of its queue; its newest error */
void job_set_state(struct job_machine *m, struct job_slot *s, uint32_t state);
void job_wait_again(struct job_machine *m, uint32_t slot, int64_t when_ms);
void job_set_aside(struct job_machine *m, uint32_t slot);
void job_set_error(struct job_machine *m, struct job_ext *e, const struct job_record *r, uint64_t place);
uint32_t job_find(const struct job_machine *m, uint64_t id); /* slot, 0: none */
int job_missing(const struct job_machine *m, uint64_t id);   /* -JOB_EUNKNOWN_JOB or -JOB_EEXPIRED */
void job_detach(struct job_machine *m, uint32_t slot);       /* out of whatever structure it is in */

#endif
