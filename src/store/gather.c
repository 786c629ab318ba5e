/* src/store/gather.c -- a job's records read together, to be written again as one. See inside.h, docs/format-records.md.
 *
 * Of a finished job all that it has; of another one its errors. They are read one after the other, as the places in them say; what
 * is read cannot change, and whether the job still stands by it is asked before it is written. One at a time, for
 * compaction, which is paused meanwhile.
 */
#include "store/inside.h"

enum { PARTS_MAX = 2 + JOB_ERRORS_KEPT };

struct store_gather {
	struct store *store;
	store_gather_function *done;
	uint64_t job, place;
	struct job_places places;
	uint64_t reading, error_place;
	uint32_t errors;
	unsigned flags;
	unsigned phase;
	bool found; /* the record at place is one of them */
	size_t len;
};

static void end(struct store_gather *g, int64_t result)
{
	struct store *store = g->store;
	store_gather_function *done = g->done;

	store->compact.gather = NULL;
	store_look_end(store, g->phase);
	free(g);
	done(store, result);
}

static bool add(struct store_gather *g, const struct job_record *part)
{
	struct store_compact *c = &g->store->compact;

	if (!store_compact_scratch(g->store, g->len + job_part_bytes(part)))
		return false;
	g->len += job_part_put(part, c->scratch + g->len);
	return true;
}

static bool add_errors(struct store_gather *g, const struct job_record *whole)
{
	struct job_record part;
	size_t cursor = 0;

	while (job_part_get(whole, &cursor, &part) && g->errors < JOB_ERRORS_KEPT) {
		if (!job_record_is_error(&part))
			continue;
		if (!add(g, &part))
			return false;
		g->errors++;
	}
	return true;
}

static void go_on(struct store_gather *g);

static void on_error_record(void *arg, int64_t error, const struct job_record *r)
{
	struct store_gather *g = arg;
	bool good = true;

	g->found = g->found || g->reading == g->place;
	g->error_place = 0;
	if (error == 0 && r->type == JOB_WHOLE) {
		good = add_errors(g, r);
	} else if (error == 0 && job_record_is_error(r)) {
		good = add(g, r);
		g->errors++;
		g->error_place = r->error_place;
	} else if (error == 0) {
		error = -WH_EDAMAGED;
	}
	g->flags |= g->errors > 0 ? JOB_WHOLE_ERRORS : 0;
	if (error == 0 && !good)
		error = -ENOMEM;
	if (error < 0)
		end(g, error);
	else
		go_on(g);
}

static void on_submit(void *arg, int64_t error, const struct job_record *r)
{
	struct store_gather *g = arg;

	g->found = g->found || g->reading == g->place;
	if (error == 0 && r->type != JOB_SUBMIT)
		error = -WH_EDAMAGED;
	if (error == 0 && !add(g, r))
		error = -ENOMEM;
	g->flags |= JOB_WHOLE_PAYLOAD;
	if (error < 0)
		end(g, error);
	else
		go_on(g);
}

/* Whatever a finished job is in: a WHOLE has everything already. */
static void on_base(void *arg, int64_t error, const struct job_record *r)
{
	struct store_gather *g = arg;

	g->found = g->reading == g->place;
	if (error == 0 && r->type != JOB_WHOLE && r->type != JOB_FINISH)
		error = -WH_EDAMAGED;
	if (error == 0 && !(r->type == JOB_WHOLE ? store_compact_scratch(g->store, r->body.len) : add(g, r)))
		error = -ENOMEM;
	if (error < 0) {
		end(g, error);
		return;
	}
	if (r->type == JOB_WHOLE) {
		memcpy(g->store->compact.scratch, r->body.data, r->body.len);
		g->len = r->body.len;
		g->flags = r->flags;
		go_on(g);
		return;
	}
	g->flags = JOB_WHOLE_RESULT;
	g->error_place = r->error_place;
	g->reading = r->submit_place;
	store_read(g->store, g->reading, JOB_SUBMIT, on_submit, g);
}

static void go_on(struct store_gather *g)
{
	struct job_record whole = {.type = JOB_WHOLE, .id = g->job, .flags = (uint8_t)g->flags};
	int error;

	if (g->error_place != 0 && g->errors < JOB_ERRORS_KEPT) {
		g->reading = g->error_place;
		store_read(g->store, g->reading, 0, on_error_record, g);
		return;
	}
	if (!g->found) {
		end(g, 1);
		return;
	}
	whole.body = (struct job_slice){g->store->compact.scratch, g->len};
	error = store_move(g->store, &g->places, &whole);
	end(g, error);
}

void store_gather(struct store *store, uint64_t job, uint64_t place, store_gather_function *done)
{
	struct store_gather *g = malloc(sizeof(*g));
	struct job_places places;

	if (!g || job_places(store->jobs, job, &places) < 0) {
		done(store, g ? 0 : -ENOMEM);
		free(g);
		return;
	}
	*g = (struct store_gather){.store = store,
	                           .done = done,
	                           .job = job,
	                           .place = place,
	                           .places = places,
	                           .phase = store_look_begin(store)};
	store->compact.gather = g;
	if (job_state_finished(places.state)) {
		g->reading = places.base;
		store_read(store, g->reading, 0, on_base, g);
	} else {
		g->error_place = places.error;
		go_on(g);
	}
}
