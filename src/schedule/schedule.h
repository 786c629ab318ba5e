/* src/schedule/schedule.h -- schedules: their JSON, when they are due, and a table of them.
 *
 * A schedule is a setting "schedule/NAME" of the store, in the JSON of docs/reference/http.md, and from its first run on a second one,
 * "scheduled/NAME": how far it has come. That one is put in the commit of the jobs or events, so that a run is done and noted, or neither.
 * through is the heart of it: up to that instant everything that was due has been dealt with. It only rises.
 * Instants are nanoseconds since 1970. Pure but for memory. Thread: any.
 */
#ifndef WH_SCHEDULE_SCHEDULE_H
#define WH_SCHEDULE_SCHEDULE_H

#include "base/text.h"
#include "base/units.h"
#include "schedule/cron.h"
#include "whilst/whilst.h"

#define SCHEDULE_SETTING_PREFIX  "schedule/"
#define SCHEDULED_SETTING_PREFIX "scheduled/"

enum {
	SCHEDULES_MAX = 1000,
	SCHEDULE_NAME_BYTES_MAX = 200,
	SCHEDULE_KEY_BYTES = 256,
	SCHEDULE_JOB_BYTES_MAX = 60 << 10, /* of its JSON, or that of its event */
	SCHEDULE_EVENT_ID_BYTES = SCHEDULE_NAME_BYTES_MAX + 1 + WH__INSTANT_TEXT_BYTES,
	SCHEDULE_MISSED_MAX = 1000,
	SCHEDULE_MISSED_DEFAULT = 100,
	SCHEDULE_DETAIL_BYTES = 300,
};
#define SCHEDULE_EVERY_MIN_NS (INT64_C(1000000000))
#define SCHEDULE_EVERY_MAX_NS (INT64_C(366) * 86400 * 1000000000)

/* What becomes of runs that were due while no server ran, or that could not be done for another reason. */
enum schedule_missed {
	SCHEDULE_ONCE, /* one job for all of them */
	SCHEDULE_SKIP, /* none, but one that is not a minute late */
	SCHEDULE_ALL,  /* one each, the newest missed_max */
};

/* What became of an event. */
struct schedule_published {
	bool known;     /* by this life of the server */
	bool duplicate; /* it had been published before */
	uint32_t epoch; /* its position; 0: nobody wanted it, or it is a duplicate */
	uint64_t lsn;
	uint64_t jobs;
};

struct schedule {
	/* what was put */
	bool by_cron, paused;
	struct cron cron;
	char cron_text[CRON_BYTES_MAX + 1];
	size_t cron_len;
	char zone_name[ZONE_NAME_BYTES_MAX + 1];
	struct zone *zone;           /* NULL: not loaded; not needed without cron */
	int64_t every_ns, anchor_ns; /* due at anchor and n times every, n from 1 */
	enum schedule_missed missed;
	uint32_t missed_max;
	int64_t since_ns; /* nothing before it counts */
	struct wh_slice job,
		publish; /* JSON, as it was sent, of what it does; owned; one of them is absent */
	/* how far it has come */
	int64_t through_ns, last_due_ns, last_at_ns; /* last: 0: no run yet */
	int64_t next_ns, next_of_ns; /* schedule_next() of the latter, if it is through_ns; else not known */
	uint64_t last_job;           /* 0: not known (any more) */
	struct schedule_published last_event;
	uint64_t runs;
	/* what is under way, or has gone wrong */
	uint64_t serial; /* of its making: one that was removed and made again is another */
	bool running;
	uint32_t step;    /* jobs that a commit makes at most; 0: as many as it may */
	int64_t again_at; /* wh_now(): not before; 0: at once */
	int64_t pause_ns; /* before the next try */
	int64_t error;    /* why the last try was refused; 0: it was not */
	size_t name_len;
	char name[SCHEDULE_NAME_BYTES_MAX + 1];
};

struct schedule_table {
	struct schedule **all; /* by name */
	size_t count, cap;
	uint64_t serial;
};

enum schedule_wrong { SCHEDULE_GOOD, SCHEDULE_BAD_JSON, SCHEDULE_BAD_VALUE, SCHEDULE_NO_MEMORY };

/* schedule_read() - from a PUT or, with stored, from its setting, where since and anchor are as well. Its zone is not loaded. detail has
 * SCHEDULE_DETAIL_BYTES. */
enum schedule_wrong schedule_read(struct wh_slice json, const char *name, size_t name_len, bool stored,
                                  struct schedule **ret, char *detail);
struct schedule *schedule_free(struct schedule *schedule); /* NULL; accepts NULL */

/* schedule_begin() - of one that is put at now: since when it counts. One that is due at the same times as the one that it replaces (NULL: none) goes on where
 * that stands; any other one, and one that was paused, begins now. schedule_take_over(): in its place, with what has become of it meanwhile: what has
 * been dealt with does not come again. */
void schedule_begin(struct schedule *schedule, const struct schedule *old, int64_t now_ns);
void schedule_take_over(struct schedule *schedule, const struct schedule *old);
/* schedule_pause() - of one that was read with stored: it is paused from now on, or not any more. A pause that ends is not made up for, and what it is due
 * by stays. schedule_keep_zone(): the zone of the one in whose place it comes, if it needs that and has none. */
void schedule_pause(struct schedule *schedule, bool paused, int64_t now_ns);
void schedule_keep_zone(struct schedule *schedule, struct schedule *old);
/* schedule_set_back() - the clock was set back by more than three hours, behind what has been dealt with by the one before: begin at now, so that
 * nothing stands still until a time comes again that was wrong. After less, nothing runs until that time has come. Was it? */
bool schedule_set_back(struct schedule *schedule, int64_t now_ns);

/* schedule_write() - as it is shown, its name without so many bytes of its beginning: with what was due last and is next after now. schedule_write_setting(), schedule_write_state(): as they
 * are stored. */
void schedule_write(struct wh__text *text, const struct schedule *schedule, size_t hidden, int64_t now_ns,
                    const char *error);
void schedule_write_setting(struct wh__text *text, const struct schedule *schedule);
void schedule_write_state(struct wh__text *text, int64_t through_ns, int64_t at_ns, uint64_t runs);

/* schedule_event_id() - "NAME/DUE", the id of the event of a due time: the same one whenever it is made, and none else's within a namespace. Its
 * length; without a NUL. */
size_t schedule_event_id(char id[SCHEDULE_EVENT_ID_BYTES], const struct schedule *schedule, int64_t due_ns);

/* schedule_key() - the key of a setting; its length. */
size_t schedule_key(char key[SCHEDULE_KEY_BYTES], const char *prefix, const char *name, size_t len);

/* schedule_next() - the first instant behind after; INT64_MAX: none. schedule_last(): the last one up to until, behind after; INT64_MIN:
 * none, as while its zone is not loaded. Paused or not. */
int64_t schedule_next(const struct schedule *schedule, int64_t after_ns);
/* schedule_first() - the same behind through, known from the last time when nothing has changed. schedule_set_zone(): takes zone. */
int64_t schedule_first(struct schedule *schedule);
void schedule_set_zone(struct schedule *schedule, struct zone *zone);
int64_t schedule_last(const struct schedule *schedule, int64_t after_ns, int64_t until_ns);

/* schedule_due() - for which instants behind through are jobs to be made at now, by what it says of missed runs? Oldest first, at most max
 * of them (SCHEDULE_MISSED_MAX at least); how many. 0: none, and through may rise to *ret_through. */
size_t schedule_due(const struct schedule *schedule, int64_t now_ns, int64_t *ret, size_t max,
                    int64_t *ret_through);

struct schedule *schedule_find(const struct schedule_table *table, const char *name, size_t len);
/* schedule_put() - takes it, and frees its namesake. 0, or -ENOMEM (not taken). */
int schedule_put(struct schedule_table *table, struct schedule *schedule);
void schedule_remove(struct schedule_table *table, const char *name, size_t len);
void schedule_clear(struct schedule_table *table);

/* schedule_load() - one setting of the store, of either kind; all schedules before all states. 0, -EINVAL, -ENOMEM. */
int schedule_load(struct schedule_table *table, struct wh_slice key, struct wh_slice value);

#endif
