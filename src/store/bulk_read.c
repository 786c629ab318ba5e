/* src/store/bulk_read.c -- what is read of many jobs, some at a time: newest errors, ends, and what brings a failed job back. See bulk.h.
 *
 * A failed job's FINISH has its last error and leads to its SUBMIT, whose options left memory when it finished. Of another job the newest
 * error is a record of its own; one without any has its SUBMIT. Records never change, but compaction moves them: whether the job still
 * stands by what was read is asked before anything is done with it.
 */
#include "store/bulk.h"

enum { STAGE_END, STAGE_ERROR, STAGE_SUBMIT };

static void go_on(struct bulk_item *item);

void bulk_read_forget(struct store_bulk *bulk)
{
	for (uint32_t i = 0; i < bulk->items_count; i++)
		free(bulk->items[i].bytes);
	bulk->items_count = 0;
}

static bool same_places(const struct job_places *a, const struct job_places *b)
{
	return a->state == b->state && a->base == b->base && a->error == b->error && a->submit == b->submit;
}

bool bulk_item_holds(const struct bulk_item *item)
{
	struct job_places now;

	return job_places(item->bulk->store->jobs, item->id, &now) == 0 && same_places(&now, &item->places);
}

const struct bulk_item *bulk_read_item(struct store_bulk *bulk, uint64_t id)
{
	for (uint32_t i = 0; i < bulk->items_count; i++) {
		const struct bulk_item *item = &bulk->items[i];

		if (item->id == id)
			return item->error != 0 || bulk_item_holds(item) ? item : NULL;
	}
	return NULL;
}

/* ---- what is kept ------------------------------------------------------------------------ */

/* A copy behind what is kept already; bytes has room. */
static struct job_slice keep(struct bulk_item *item, struct job_slice slice)
{
	struct job_slice kept = {item->bytes + item->bytes_len, slice.len};

	if (slice.len > 0)
		memcpy(item->bytes + item->bytes_len, slice.data, slice.len);
	item->bytes_len += slice.len;
	return kept;
}

static void take_error(struct bulk_item *item, const struct job_record *r)
{
	const struct store_bulk *bulk = item->bulk;

	item->has_error = true;
	item->at_ns = r->at_ns;
	item->matches = !bulk->text || memmem(r->text.data, r->text.len, bulk->text, bulk->text_len) != NULL;
}

/* The newest of the errors of a job that were written again together. */
static void take_whole(struct bulk_item *item, const struct job_record *whole)
{
	struct job_record part;
	size_t cursor = 0;

	while (!item->has_error && job_part_get(whole, &cursor, &part))
		if (job_record_is_error(&part))
			take_error(item, &part);
}

static bool take_end(struct bulk_item *item, const struct job_record *r)
{
	item->at_ns = r->at_ns;
	item->r = (struct job_record){.at_ns = r->at_ns,
	                              .reason = r->reason,
	                              .attempt = r->attempt,
	                              .timeouts = r->timeouts < UINT16_MAX ? r->timeouts : UINT16_MAX,
	                              .submit_place = r->submit_place,
	                              .error_place = r->error_place,
	                              .edited = r->edited,
	                              .time_to_run_ms = r->time_to_run_ms,
	                              .retention_ms = r->retention_ms,
	                              .attempts_max = r->attempts_max};
	if (r->state == JOB_FAILED) {
		take_error(item, r);
		item->at_ns = r->at_ns;
	}
	if (!item->bulk->revives || r->state != JOB_FAILED)
		return true;
	item->bytes = malloc(r->text.len + 2 * (size_t)JOB_KEY_MAX + 1);
	if (!item->bytes)
		return false;
	item->r.text = keep(item, r->text);
	return true;
}

static void take_submit(struct bulk_item *item, const struct job_record *r)
{
	struct job_record *to = &item->r;

	if (!job_state_finished(item->state)) {
		item->at_ns = r->at_ns;
		item->matches = !item->bulk->text;
		return;
	}
	item->submit_queue = r->queue;
	if (!to->edited) {
		to->time_to_run_ms = r->time_to_run_ms;
		to->retention_ms = r->retention_ms;
		to->attempts_max = r->attempts_max;
	}
	to->group = keep(item, r->group);
	if (r->unique_while_ms <= 0) { /* one that is a length of time is there, or has passed */
		to->unique = keep(item, r->unique);
		to->unique_while_ms = r->unique_while_ms;
	}
}

/* ---- reading ----------------------------------------------------------------------------- */

static void end(struct bulk_item *item, int64_t error)
{
	struct store_bulk *bulk = item->bulk;

	store_look_end(bulk->store, item->phase);
	item->error = error;
	item->known = error == 0;
	if (item->at_ns < bulk->from_ns || item->at_ns > bulk->until_ns)
		item->matches = false;
	if (--bulk->reading == 0)
		bulk->on_read(bulk);
}

static void on_record(void *arg, int64_t error, const struct job_record *r)
{
	struct bulk_item *item = arg;
	bool revives = item->bulk->revives && item->state == JOB_FAILED;

	if (error < 0) {
		end(item, error);
		return;
	}
	switch (item->stage) {
	case STAGE_END:
		if (!take_end(item, r)) {
			end(item, -ENOMEM);
			return;
		}
		if (item->state != JOB_FAILED)
			item->matches = !item->bulk->text;
		if (revives && item->matches) {
			item->stage = STAGE_SUBMIT;
			go_on(item);
			return;
		}
		break;
	case STAGE_ERROR:
		if (r->type == JOB_WHOLE)
			take_whole(item, r);
		else
			take_error(item, r);
		break;
	default:
		take_submit(item, r);
	}
	end(item, 0);
}

static void go_on(struct bulk_item *item)
{
	static const int parts[] = {[STAGE_END] = JOB_FINISH, [STAGE_ERROR] = 0, [STAGE_SUBMIT] = JOB_SUBMIT};
	uint64_t place = item->stage == STAGE_ERROR        ? item->places.error
	                 : item->stage == STAGE_END        ? item->places.base
	                 : job_state_finished(item->state) ? item->r.submit_place
	                                                   : item->places.base;

	store_read(item->bulk->store, place, parts[item->stage], on_record, item);
}

/* What is to be read of it; false: nothing. */
static bool begin(struct store_bulk *bulk, uint64_t id, const struct job_info *info, struct bulk_item *item)
{
	if (!bulk_asks(bulk) && info->state != JOB_FAILED)
		return false;
	*item = (struct bulk_item){.bulk = bulk, .id = id, .state = info->state, .matches = true};
	(void)job_places(bulk->store->jobs, id, &item->places);
	item->stage = job_state_finished(info->state) ? STAGE_END
	              : item->places.error != 0       ? STAGE_ERROR
	                                              : STAGE_SUBMIT;
	return true;
}

/* Those from first on. false: there are none. */
static bool read_all(struct store_bulk *bulk, uint32_t first)
{
	uint32_t count = bulk->items_count;

	if (count == first)
		return false;
	/* the last one to end goes on: none may, before all have begun */
	bulk->reading = count - first;
	for (uint32_t i = first; i < count; i++)
		bulk->items[i].phase = store_look_begin(bulk->store);
	for (uint32_t i = first; i < count; i++)
		go_on(&bulk->items[i]);
	return true;
}

bool bulk_read(struct store_bulk *bulk)
{
	uint32_t until = bulk->ids_at + BULK_READ_JOBS;

	bulk_read_forget(bulk);
	if (until > bulk->ids_count)
		until = bulk->ids_count;
	for (uint32_t i = bulk->ids_at; i < until; i++) {
		struct job_info info;

		if (job_look(bulk->store->jobs, bulk->ids[i], &info) == 0 &&
		    bulk_means(bulk, bulk->ids[i], &info))
			bulk->items_count +=
				begin(bulk, bulk->ids[i], &info, &bulk->items[bulk->items_count]);
	}
	return read_all(bulk, 0);
}

bool bulk_read_failed(struct store_bulk *bulk, const uint64_t *ids, size_t count)
{
	uint32_t first = bulk->items_count;
	struct job_info info;

	for (size_t i = 0; i < count; i++)
		if (job_look(bulk->store->jobs, ids[i], &info) == 0)
			bulk->items_count += begin(bulk, ids[i], &info, &bulk->items[bulk->items_count]);
	return read_all(bulk, first);
}
