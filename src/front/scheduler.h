/* src/front/scheduler.h -- schedules become jobs: what looks at the clock, and what the rest of the front tells it.
 *
 * Thread: the loop of the store.
 */
#ifndef WH_FRONT_SCHEDULER_H
#define WH_FRONT_SCHEDULER_H

#include "front/transaction.h"
#include "schedule/schedule.h"

struct api;

struct scheduler {
	struct schedule_table table;
	wh_future timer;
	bool timed, stopped;
	uint64_t jobs, refusals;
};

/* scheduler_open() - the schedules of the store; those whose zone cannot be read stand still, and the log says so. Synchronous. 0 or -errno.
 * scheduler_start(): from now on they run. 0 or -ENOMEM. */
int scheduler_open(struct api *api);
int scheduler_start(struct api *api);
/* scheduler_wake() - something of the table has changed. scheduler_stop(): when the front drains or closes. */
void scheduler_wake(struct api *api);
void scheduler_stop(struct api *api);
/* scheduler_reload() - read all zones anew, since there may be a newer database. Synchronous, or in a task. */
void scheduler_reload(struct api *api);
/* scheduler_late() - how many have been due for more than a minute. */
uint64_t scheduler_late(const struct api *api);

/* schedule_action() - the job of a schedule, which is in JSON the submit of a transaction without its verb, as an action of the store. Names in it
 * are those of the schedule's namespace, whoever has put it. false: *refusal says why; transaction_done() in any case. */
bool schedule_action(struct transaction *transaction, const struct schedule *schedule,
                     uint64_t item_bytes_max, struct transaction_refusal *refusal);

/* schedule_put_fields() - (schedule_fields.c) the header fields that it gives its jobs, as lines; false: *refusal says why not. */
bool schedule_put_fields(struct wh__text *lines, const struct schedule *schedule,
                         struct transaction_refusal *refusal);

/* zone_load() - (zone_file.c) n = 0, ptr = struct zone *. -ENOENT and the like, -EINVAL, -ENOTSUP: as zone_read(). directory NULL: where Linux
 * distributions keep the database. */
wh_future zone_load(wh_loop *loop, const char *directory, const char *name);

#endif
