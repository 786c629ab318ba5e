/* src/front/download.c -- an answer whose bodies are in files: compared with their records, then sent piece by piece.
 *
 * No byte goes out before all bodies of the answer have been found whole, so what is damaged is refused with a problem and not broken off.
 * A piece is read when the client has taken the last: a slow client holds a piece, not a body.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/api.h"

struct part {
	size_t text_from, text_len; /* in .text, before the body */
	struct store_bytes *bytes;  /* NULL: text alone */
	struct store_reader *reader;
};

struct download {
	struct call *call;
	struct wh__text text;
	int status;
	int64_t length; /* of the answer; WH_HTTP_CHUNKED */
	bool base64;
	struct store_lot *lot; /* of a reservation, until the answer has begun */
	size_t count, at;
	uint8_t carry[2]; /* base64: bytes that make no group of three yet */
	size_t carry_len;
	struct part parts[];
};

static void send_next(struct download *d);
static void check_next(struct download *d);

struct download *download_new(struct call *call, int status, size_t parts_max)
{
	struct download *d = calloc(1, sizeof(*d) + (parts_max + 1) * sizeof(d->parts[0]));

	if (!d)
		return NULL;
	d->call = call;
	d->status = status;
	wh__text_init(&d->text, NULL, 0);
	return d;
}

struct wh__text *download_text(struct download *d)
{
	return &d->text;
}

void download_add(struct download *d, struct store_bytes *bytes)
{
	struct part *part = &d->parts[d->count++];
	size_t from = d->count > 1 ? part[-1].text_from + part[-1].text_len : 0;

	*part = (struct part){.text_from = from,
	                      .text_len = d->text.len - from,
	                      .bytes = bytes ? store_bytes_ref(bytes) : NULL};
	d->length += (int64_t)part->text_len + (bytes ? (int64_t)bytes->bytes : 0);
}

static void then(struct download *d, wh_future future, wh_callback *callback)
{
	wh_loop *loop = d->call->api->loop;

	if (wh_then(future, callback, d) == 0 || wh_then(wh_failed(loop, -ENOMEM), callback, d) == 0)
		return;
	/* no memory to say so later: whoever calls this does nothing else with it */
	callback(loop, (wh_res){-ENOMEM, NULL}, d);
}

/* The exchange has been answered. */
static void end(struct download *d)
{
	struct call *call = d->call;

	for (size_t i = 0; i < d->count; i++) {
		store_reader_free(d->parts[i].reader);
		store_bytes_unref(d->parts[i].bytes);
	}
	store_lot_free(d->lot);
	wh__text_done(&d->text);
	free(d);
	call_end(call);
}

void answer_unreadable(struct call *call, uint64_t job, const struct store_bytes *bytes, int64_t error)
{
	char name[STORE_FILE_NAME_BYTES];
	char subject[60];

	store_file_name(bytes, name);
	if (error == -WH_EDAMAGED) {
		answer_problem(call->api, call->x, PROBLEM_DAMAGED, NULL,
		               "%s of job %llu: %s is missing, or not what was written",
		               bytes->status ? "result" : "payload", (unsigned long long)job, name);
		return;
	}
	snprintf(subject, sizeof(subject), "%s of job %llu", bytes->status ? "result" : "payload",
	         (unsigned long long)job);
	answer_error(call->api, call->x, error, NULL, JOB_NONE, subject);
}

static void buried(wh_loop *loop, wh_res res, void *arg)
{
	if (res.n >= 0)
		store_commit_free(res.ptr);
}

void reserve_give_back(struct call *call, struct store_lot *lot, size_t bad, int64_t error)
{
	static const char text[] = "the payload is damaged: what is on the disk is not what was written";
	struct store_action action = {.kind = STORE_BURY,
	                              .job = lot->jobs[bad].job,
	                              .lease = lot->jobs[bad].lease,
	                              .bury.error = {text, sizeof(text) - 1}};

	/* else it would be the next to be reserved again, for ever */
	if (error == -WH_EDAMAGED)
		(void)!wh_then(store_apply(call->api->store, &action, 1, 0, STORE_LOCAL), buried, NULL);
	store_lot_return(call->api->store, lot);
}

static void refuse(struct download *d, int64_t error)
{
	const struct part *part = &d->parts[d->at];
	struct store_lot *lot = d->lot;
	size_t bad = 0;

	answer_unreadable(d->call, part->bytes->job, part->bytes, error);
	d->lot = NULL;
	while (lot && bad + 1 < lot->count && lot->jobs[bad].job != part->bytes->job)
		bad++;
	if (lot)
		reserve_give_back(d->call, lot, bad, error);
	end(d);
}

static void cut_off(struct download *d)
{
	wh_http_abort(d->call->x);
	end(d);
}

/* ---- sending ----------------------------------------------------------------------------- */

static void sent(wh_loop *loop, wh_res res, void *arg)
{
	struct download *d = arg;

	if (res.n < 0)
		cut_off(d);
	else
		send_next(d);
}

/* A piece as base64; what makes no group waits for the next piece, or is ended with the body. */
static wh_future write_base64(struct download *d, const uint8_t *bytes, size_t len, bool last)
{
	struct wh__text out;
	wh_future future;
	size_t rest;

	wh__text_init(&out, NULL, 0);
	if (d->carry_len > 0) {
		uint8_t group[3];
		size_t take = 3 - d->carry_len < len ? 3 - d->carry_len : len;

		memcpy(group, d->carry, d->carry_len);
		if (take > 0)
			memcpy(group + d->carry_len, bytes, take);
		if (d->carry_len + take == 3 || last)
			wh__text_base64(&out, group, d->carry_len + take);
		else
			memcpy(d->carry, group, d->carry_len + take);
		d->carry_len = d->carry_len + take == 3 || last ? 0 : d->carry_len + take;
		bytes += take;
		len -= take;
	}
	rest = last ? 0 : len % 3;
	if (len > rest)
		wh__text_base64(&out, bytes, len - rest);
	if (rest > 0) {
		memcpy(d->carry, bytes + len - rest, rest);
		d->carry_len = rest;
	}
	future = out.failed ? wh_failed(d->call->api->loop, -ENOMEM)
	                    : wh_http_write(d->call->x, out.data, out.len);
	wh__text_done(&out);
	return future;
}

static wh_future write_body(struct download *d, const void *bytes, size_t len, bool last)
{
	return d->base64 ? write_base64(d, bytes, len, last) : wh_http_write(d->call->x, bytes, len);
}

static void got_piece(wh_loop *loop, wh_res res, void *arg)
{
	struct download *d = arg;

	if (res.n < 0) {
		cut_off(d);
		return;
	}
	if (res.n == 0) {
		d->parts[d->at].reader = store_reader_free(d->parts[d->at].reader);
		d->at++;
		if (d->base64 && d->carry_len > 0)
			then(d, write_body(d, "", 0, true), sent);
		else
			send_next(d);
		return;
	}
	then(d, write_body(d, res.ptr, (size_t)res.n, false), sent);
}

static void send_next(struct download *d)
{
	struct part *part = &d->parts[d->at];

	if (d->at == d->count) {
		wh_http_end(d->call->x);
		end(d);
	} else if (part->text_len > 0) {
		wh_future future = wh_http_write(d->call->x, d->text.data + part->text_from, part->text_len);

		part->text_len = 0;
		then(d, future, sent);
	} else if (part->reader) {
		then(d, store_reader_next(part->reader), got_piece);
	} else {
		struct store_slice body = part->bytes ? part->bytes->body : (struct store_slice){"", 0};

		d->at++;
		if (body.len > 0)
			then(d, write_body(d, body.data, body.len, true), sent);
		else
			send_next(d);
	}
}

static void begin(struct download *d)
{
	wh_http_exchange *x = d->call->x;

	if (d->call->gone || wh_http_is_closed(x) || wh_http_start(x, d->status, d->length) != 0) {
		/* nobody has been told of these jobs */
		store_lot_return(d->call->api->store, d->lot);
		d->lot = NULL;
		cut_off(d);
		return;
	}
	answer_count(d->call->api, x, d->status);
	d->lot = store_lot_free(d->lot);
	d->at = 0;
	if (wh_http_method(x) == WH_HTTP_HEAD)
		d->at = d->count;
	send_next(d);
}

/* ---- comparing --------------------------------------------------------------------------- */

static void checked(wh_loop *loop, wh_res res, void *arg)
{
	struct download *d = arg;

	if (res.n < 0) {
		refuse(d, res.n);
		return;
	}
	d->at++;
	check_next(d);
}

static void check_next(struct download *d)
{
	struct part *part;
	int error;

	while (d->at < d->count && (!d->parts[d->at].bytes || d->parts[d->at].bytes->blob.number == 0))
		d->at++;
	if (d->at == d->count) {
		begin(d);
		return;
	}
	part = &d->parts[d->at];
	error = store_reader_open(d->call->api->store, part->bytes, &part->reader);
	if (error < 0)
		refuse(d, error);
	else
		then(d, store_reader_check(part->reader), checked);
}

void download_start(struct download *d, bool base64, struct store_lot *lot)
{
	struct call *call = d->call;

	d->lot = lot;
	if (d->text.len > (d->count ? d->parts[d->count - 1].text_from + d->parts[d->count - 1].text_len : 0))
		download_add(d, NULL);
	if (d->text.failed) {
		d->lot = NULL;
		store_lot_return(call->api->store, lot);
		answer_problem(call->api, call->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		end(d);
		return;
	}
	d->base64 = base64;
	if (base64)
		d->length = WH_HTTP_CHUNKED;
	d->at = 0;
	check_next(d);
}

bool download_bytes(struct call *call, int status, struct store_bytes *bytes)
{
	struct download *d;

	if (bytes->blob.number == 0)
		return false;
	d = download_new(call, status, 1);
	if (d) {
		download_add(d, bytes);
		download_start(d, false, NULL);
	} else {
		answer_problem(call->api, call->x, PROBLEM_TOO_BUSY, NULL, "out of memory");
		call_end(call);
	}
	store_bytes_unref(bytes);
	return true;
}
