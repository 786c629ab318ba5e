/* src/store/live.c -- which segments of the log hold what is needed, and about how much. See inside.h, job.h.
 *
 * The job machine tells of every record that begins or ceases to be needed; here it is added up by segment. The sums are
 * for choosing what to compact: nothing is released because of them.
 */
#include "store/inside.h"

#include <stdio.h>

struct store_segment *store_segment_at(struct store *store, uint64_t number)
{
	struct store_segments *s = &store->segments;

	if (s->count == 0)
		s->first = number;
	if (number < s->first)
		return NULL;
	if (number - s->first >= s->cap) {
		size_t cap = s->cap ? s->cap : 64;
		struct store_segment *list;

		while (cap <= number - s->first)
			cap *= 2;
		list = realloc(s->list, cap * sizeof(list[0]));
		if (!list)
			return NULL;
		memset(list + s->cap, 0, (cap - s->cap) * sizeof(list[0]));
		s->list = list;
		s->cap = cap;
	}
	if (number - s->first >= s->count)
		s->count = number - s->first + 1;
	return &s->list[number - s->first];
}

static void on_live(void *arg, uint64_t place, int64_t bytes)
{
	struct store *store = arg;
	uint64_t number = log_segment_number(store->log, place);
	struct store_segment *segment = number == LOG_SEGMENT_NONE ? NULL : store_segment_at(store, number);

	store->segments.live += bytes;
	if (segment)
		segment->live += bytes;
}

static uint64_t oldest(const struct store *store)
{
	struct log_stats stats;

	log_stats(store->log, &stats);
	return stats.segment_oldest;
}

/* Its file is gone, its number will not come back. */
void store_live_released(struct store *store, uint64_t number)
{
	struct store_segments *s = &store->segments;
	struct store_segment *segment = store_segment_at(store, number);
	size_t gone = 0;
	uint64_t first = oldest(store);

	if (segment)
		*segment = (struct store_segment){0};
	while (gone < s->count && first > s->first + gone)
		gone++;
	if (gone < s->count / 2 || gone < 64)
		return;
	memmove(s->list, s->list + gone, (s->count - gone) * sizeof(s->list[0]));
	memset(s->list + s->count - gone, 0, gone * sizeof(s->list[0]));
	s->first += gone;
	s->count -= gone;
}

void store_live_done(struct store *store)
{
	free(store->segments.list);
}

static void add(void *arg, uint64_t place, int64_t bytes)
{
	(void)place;
	*(int64_t *)arg += bytes;
}

int store_live_recount(const struct store *store, char *what, size_t cap)
{
	int64_t live = 0;

	job_live_each(store->jobs, add, &live);
	if (live == store->segments.live)
		return 0;
	snprintf(what, cap, "%lld bytes of the log are needed, %lld counted", (long long)live,
	         (long long)store->segments.live);
	return -EPROTO;
}

/* ---- after the start --------------------------------------------------------------------- */

struct places_check {
	struct store *store;
	struct store_problem *problem;
};

static bool there(const struct store *store, uint64_t place)
{
	return place == 0 || log_segment_number(store->log, place) != LOG_SEGMENT_NONE;
}

static int check_places(void *arg, uint64_t id, const struct job_queue *queue,
                        const struct job_places *places)
{
	struct places_check *check = arg;
	const struct store *store = check->store;
	const char *what = NULL;
	uint64_t place = 0;

	if (!there(store, place = places->base))
		what = job_state_finished(places->state) ? "result" : "payload";
	else if (!there(store, place = places->error))
		what = "errors";
	else if (!there(store, place = places->progress))
		what = "progress";
	else if (place = places->submit,
	         places->submit_until != 0 && log_bytes_held(store->log, place, places->submit_until) == 0)
		what = "payload";
	if (!what)
		return 0;
	if (check->problem) {
		check->problem->exit_status = 3;
		snprintf(check->problem->text, sizeof(check->problem->text),
		         "the %s of job %llu of queue %s should be at byte %llu of the log, and the segment "
		         "that holds it "
		         "is missing; put the file back, restore the folder from a backup, or see what "
		         "`whilst log "
		         "repair` would keep",
		         what, (unsigned long long)id, queue->name, (unsigned long long)place);
	}
	return -WH_EDAMAGED;
}

int store_live_open(struct store *store, struct store_problem *ret_problem)
{
	struct places_check check = {store, ret_problem};
	int error = job_places_each(store->jobs, check_places, &check);

	if (error < 0)
		return error;
	store_segment_at(store, oldest(store));
	job_live_each(store->jobs, on_live, store);
	job_live(store->jobs, on_live, store);
	return 0;
}
