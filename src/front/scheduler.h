/* src/front/scheduler.h -- schedules become jobs and events: what looks at the clock, and what the rest of the front tells it.
 *
 * Thread: the loop of the store.
 */
#ifndef WH_FRONT_SCHEDULER_H
#define WH_FRONT_SCHEDULER_H

#include "front/event.h"
#include "front/target.h"
#include "front/transaction.h"
#include "schedule/schedule.h"

struct api;
struct publication;
struct topic;

struct scheduler {
	struct schedule_table table;
	wh_future timer;
	bool timed, stopped;
	uint64_t jobs, events, refusals;
};

/* scheduler_open() - the schedules of the store; those whose zone cannot be read stand still, and the log says so. Synchronous. 0 or -errno.
 * scheduler_start(): from now on they run. 0 or -ENOMEM. */
int scheduler_open(struct api *api);
int scheduler_start(struct api *api);
/* scheduler_wake() - something of the table has changed. scheduler_stop(): when the front drains or closes. */
void scheduler_wake(struct api *api);
void scheduler_stop(struct api *api);
/* scheduler_topic_put() - a topic is there: what was put off for want of it is tried at once. */
void scheduler_topic_put(struct api *api);
/* scheduler_error() - why a schedule does not run at present; NULL: it does. */
const char *scheduler_error(const struct schedule *schedule);
/* scheduler_reload() - read all zones anew, since there may be a newer database. Synchronous, or in a task. */
void scheduler_reload(struct api *api);
/* scheduler_late() - how many have been due for more than a minute. */
uint64_t scheduler_late(const struct api *api);

/* schedule_action() - the job of a schedule, which is in JSON the submit of a transaction without its verb, as an action of the store. Names in it
 * are those of the schedule's namespace, whoever has put it. false: *refusal says why; transaction_done() in any case. */
bool schedule_action(struct transaction *transaction, const struct schedule *schedule,
                     uint64_t item_bytes_max, struct transaction_refusal *refusal);

/* schedule_read_action() - what a schedule does, JSON in member, as the one action of a transaction of this verb; but for its member beside, which is read by who
 * asks. As schedule_action(), of which it is a part. */
bool schedule_read_action(struct transaction *transaction, const struct schedule *schedule,
                          const char *member, struct wh_slice json, const char *verb, const char *beside,
                          uint64_t item_bytes_max, struct transaction_refusal *refusal);

/* ---- a schedule that publishes (schedule_publish.c) ---------------------------------------- */

/* Its event, but for what each due time has of its own. */
struct schedule_event {
	struct transaction transaction;
	size_t count;
	struct event_attribute attributes[EVENT_ATTRIBUTES_MAX];
	char *texts;  /* of the attributes */
	size_t bytes; /* of its data and attributes, about: of each job that it becomes */
	char source[sizeof("/v1/schedules/") + 3 * TARGET_NAME_BYTES_MAX];
	char instant[WH__INSTANT_TEXT_BYTES]; /* of the newest that was made */
};
/* schedule_event_read() - false: *refusal says why. schedule_event_done() in any case. schedule_event_topic() - the full name. */
bool schedule_event_read(struct schedule_event *event, const struct schedule *schedule,
                         uint64_t item_bytes_max, struct transaction_refusal *refusal);
void schedule_event_done(struct schedule_event *event);
struct store_slice schedule_event_topic(const struct schedule_event *event);
/* schedule_event_make() - the event of this id and instant; event and id are borrowed as long as ret is used, and until another one is made. schedule_event_add() - the same, put into a
 * publication, as publication_event(). */
enum event_wrong schedule_event_make(struct schedule_event *event, struct wh_slice id, int64_t at_ns,
                                     struct event *ret, struct event_refusal *refusal);
enum event_wrong schedule_event_add(struct schedule_event *event, struct publication *publication,
                                    const struct topic *topic, struct wh_slice id, int64_t at_ns,
                                    struct event_refusal *refusal);
/* schedule_event_commit() - an event for each of these instants, as many as a commit may have, and that they are dealt with; *ret_count of them.
 * As store_apply_asked(): the results of the events come first. -JOB_EUNKNOWN_SETTING: there is no such topic. */
wh_future schedule_event_commit(struct api *api, const struct schedule *schedule, const int64_t *due,
                                size_t count, int64_t now_ns, size_t *ret_count);

/* schedule_put_fields() - (schedule_fields.c) the header fields that it gives its jobs, as lines; false: *refusal says why not. */
bool schedule_put_fields(struct wh__text *lines, const struct schedule *schedule,
                         struct transaction_refusal *refusal);

/* zone_load() - (zone_file.c) n = 0, ptr = struct zone *. -ENOENT and the like, -EINVAL, -ENOTSUP: as zone_read(). directory NULL: where Linux
 * distributions keep the database. */
wh_future zone_load(wh_loop *loop, const char *directory, const char *name);

#endif
