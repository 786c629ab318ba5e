/* src/store/read.c -- records back from memory or disk, and the bodies in them. See inside.h. */
#include "store/inside.h"

/* ---- one record -------------------------------------------------------------------------- */

struct reading {
	struct store *store;
	uint64_t place;
	int part;
	store_read_function *done;
	void *arg;
};

static int64_t decode(const struct log_data *data, struct job_record *ret)
{
	return job_record_get(data->type, data->version, (struct job_slice){data->fixed, data->fixed_bytes},
	                      (struct job_slice){data->payload, data->payload_bytes}, ret);
}

/* The record that is wanted, out of the WHOLE that is there. */
static int64_t unwrap(uint64_t place, int part, struct job_record *r)
{
	struct job_record whole = *r;

	if (r->type != JOB_WHOLE || part == 0)
		return 0;
	if (!job_part_find(&whole, part, r))
		return -WH_EDAMAGED;
	if (part == JOB_FINISH) {
		r->submit_place = place;
		r->error_place = whole.flags & JOB_WHOLE_ERRORS ? place : 0;
	}
	return 0;
}

static void on_read(wh_loop *loop, wh_res res, void *arg)
{
	struct reading *reading = arg;
	struct log_data *data = res.n >= 0 ? res.ptr : NULL;
	struct job_record r;
	int64_t error = res.n < 0 ? res.n : decode(data, &r);

	(void)loop;
	if (error >= 0)
		error = unwrap(reading->place, reading->part, &r);
	reading->done(reading->arg, error < 0 ? error : 0, error < 0 ? NULL : &r);
	(void)store_operation_end(reading->store);
	log_data_free(data);
	free(reading);
}

void store_read(struct store *store, uint64_t place, int part, store_read_function *done, void *arg)
{
	struct reading *reading;
	struct log_data data;
	struct job_record r;

	if (store->failed) {
		done(arg, store->failed, NULL);
		return;
	}
	if (store_recent_find(&store->recent, place, &r)) {
		store->stats.payload_reads_memory++;
		done(arg, 0, &r);
		return;
	}
	if (log_peek(store->log, place, &data)) {
		int64_t error = decode(&data, &r);

		if (error >= 0)
			error = unwrap(place, part, &r);
		store->stats.payload_reads_memory++;
		done(arg, error, error < 0 ? NULL : &r);
		return;
	}
	reading = malloc(sizeof(*reading));
	if (!reading) {
		done(arg, -ENOMEM, NULL);
		return;
	}
	store->stats.payload_reads_disk++;
	*reading = (struct reading){store, place, part, done, arg};
	if (wh_then(log_read(store->log, place, 0), on_read, reading) == 0) {
		store->operations++;
		return;
	}
	free(reading);
	done(arg, -ENOMEM, NULL);
}

/* ---- bodies ------------------------------------------------------------------------------ */

static struct store_bytes *bytes_make(const struct job_record *r)
{
	struct job_blob blob = job_record_blob(r);
	size_t body = blob.number ? 0 : r->body.len;
	struct store_bytes *b =
		malloc(sizeof(*b) + r->content_type.len + r->headers.len + body + r->trace.len);
	uint8_t *to;

	if (!b)
		return NULL;
	to = (uint8_t *)(b + 1);
	*b = (struct store_bytes){.references = 1,
	                          .status = r->type == JOB_FINISH ? r->status : 0,
	                          .content_type = {to, r->content_type.len},
	                          .headers = {to + r->content_type.len, r->headers.len},
	                          .body = {to + r->content_type.len + r->headers.len, body},
	                          .trace = {to + r->content_type.len + r->headers.len + body, r->trace.len},
	                          .bytes = job_body_bytes(r),
	                          .job = r->id,
	                          .event = {r->event_epoch, r->event_lsn},
	                          .since = r->type == JOB_SUBMIT && r->when_ms * STORE_NS_PER_MS > r->at_ns
	                                           ? r->when_ms * STORE_NS_PER_MS
	                                           : r->at_ns,
	                          .blob = blob};
	if (r->content_type.len > 0)
		memcpy(to, r->content_type.data, r->content_type.len);
	if (r->headers.len > 0)
		memcpy(to + r->content_type.len, r->headers.data, r->headers.len);
	if (body > 0)
		memcpy(to + r->content_type.len + r->headers.len, r->body.data, body);
	if (r->trace.len > 0)
		memcpy(to + r->content_type.len + r->headers.len + body, r->trace.data, r->trace.len);
	return b;
}

struct store_bytes *store_bytes_ref(struct store_bytes *b)
{
	b->references++;
	return b;
}

struct store_bytes *store_bytes_unref(struct store_bytes *b)
{
	if (b && --b->references == 0)
		free(b);
	return NULL;
}

struct first_read {
	struct store *store;
	store_bytes_function *done;
	void *arg;
	bool result;
};

static void on_first(struct first_read *first, int64_t error, const struct job_record *r)
{
	struct store_bytes *bytes;

	if (error == 0 && r->type != (first->result ? JOB_FINISH : JOB_SUBMIT))
		error = -WH_EDAMAGED;
	if (error < 0) {
		first->done(first->arg, error, NULL);
		return;
	}
	bytes = bytes_make(r);
	first->done(first->arg, bytes ? 0 : -ENOMEM, bytes);
}

static void on_first_later(void *arg, int64_t error, const struct job_record *r)
{
	struct first_read first = *(struct first_read *)arg;

	free(arg);
	on_first(&first, error, r);
}

void store_read_bytes(struct store *store, uint64_t place, bool result, store_bytes_function *done, void *arg)
{
	struct first_read first = {store, done, arg, result}, *later;
	struct job_record r;

	if (store_recent_find(&store->recent, place, &r)) {
		store->stats.payload_reads_memory++;
		on_first(&first, 0, &r);
		return;
	}
	later = malloc(sizeof(*later));
	if (!later) {
		done(arg, -ENOMEM, NULL);
		return;
	}
	*later = first;
	store_read(store, place, result ? JOB_FINISH : JOB_SUBMIT, on_first_later, later);
}
