/* src/client/batch.c -- many jobs in one request: submit and complete in the binary form (docs/reference/batch.md).
 *
 * item = length(4) bytes(length), little-endian. Thread: loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"

static const char batch_type[] = "application/vnd.whilst.batch";

enum { COMPLETION_BYTES = 24 };

uint32_t wh__batch_u32(const void *from)
{
	const uint8_t *b = from;

	return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

uint64_t wh__batch_u64(const void *from)
{
	return wh__batch_u32(from) | (uint64_t)wh__batch_u32((const uint8_t *)from + 4) << 32;
}

static char *put_number(char *to, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		*to++ = (char)(value >> (8 * i));
	return to;
}

static char *put_bytes(char *to, const void *bytes, size_t len)
{
	if (len > 0)
		memcpy(to, bytes, len);
	return to + len;
}

/* Takes body. */
static wh_future start(struct wh__ask *ask, const char *queue, const char *verb, const char *type, char *body,
                       size_t len, const struct wh_submit_options *options)
{
	wh__ask_field(ask, "Content-Type", batch_type, sizeof(batch_type) - 1);
	if (!wh__ask_bytes(ask, body, len))
		return wh__ask_refuse(ask, -ENOMEM);
	wh__ask_path(ask, "/v1/queues/");
	wh__ask_segment(ask, queue);
	wh__ask_path(ask, verb);
	wh__ask_options(ask, options);
	if (type) {
		wh__ask_query(ask, "content-type");
		wh__ask_segment(ask, type);
	}
	return wh__ask_start(ask);
}

/* ---- submit -------------------------------------------------------------------------------- */

struct wh_ids *wh_ids_free(struct wh_ids *ids)
{
	free(ids);
	return NULL;
}

static void dispose_ids(wh_res res, void *arg)
{
	(void)arg;
	wh_ids_free(res.ptr);
}

static void submitted(struct wh__ask *ask, struct wh_http_response *response)
{
	size_t count = response->body.len / 12;
	struct wh_ids *ids;
	uint64_t *id;

	if (response->status != 202 || count == 0 || response->body.len % 12 != 0 ||
	    !wh__ask_receipt(ask, response)) {
		wh__ask_garbled(ask, response);
		return;
	}
	ids = malloc(sizeof(*ids) + count * sizeof(*id));
	if (!ids) {
		wh__ask_out_of_memory(ask, response);
		return;
	}
	id = (uint64_t *)(void *)(ids + 1);
	for (size_t i = 0; i < count; i++)
		id[i] = wh__batch_u64(response->body.data + 12 * i + 4);
	*ids = (struct wh_ids){count, id};
	wh_http_response_free(response);
	wh__ask_end(ask, (int64_t)count, ids, dispose_ids);
}

wh_future wh_client_submit_many(wh_client *client, const char *queue, const struct iovec *payloads,
                                size_t count, const char *type, const struct wh_submit_options *options,
                                const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = wh__ask_new(client, "POST", how, submitted, &failed);
	size_t len = 0;
	char *body, *at;

	if (!ask)
		return failed;
	if (!queue || !*queue || count == 0 || count > WH__ASK_ITEMS_MAX || !wh__ask_key(ask, how))
		return wh__ask_refuse(ask, -EINVAL);
	for (size_t i = 0; i < count; i++) {
		if (payloads[i].iov_len > UINT32_MAX)
			return wh__ask_refuse(ask, -EINVAL);
		len += 4 + payloads[i].iov_len;
	}
	body = at = malloc(len);
	for (size_t i = 0; body && i < count; i++) {
		at = put_number(at, payloads[i].iov_len, 4);
		at = put_bytes(at, payloads[i].iov_base, payloads[i].iov_len);
	}
	return start(ask, queue, "/jobs", type, body, len, options);
}

/* ---- complete ------------------------------------------------------------------------------ */

struct wh_outcomes *wh_outcomes_free(struct wh_outcomes *outcomes)
{
	free(outcomes);
	return NULL;
}

static void dispose_outcomes(wh_res res, void *arg)
{
	(void)arg;
	wh_outcomes_free(res.ptr);
}

static int64_t error_of(uint32_t status)
{
	switch (status) {
	case 200:
		return 0;
	case 404:
		return -WH_ECALL_UNKNOWN_JOB;
	case 409:
		return -WH_ECALL_LEASE_LOST;
	case 410:
		return -WH_ECALL_EXPIRED;
	case 413:
		return -WH_ECALL_TOO_LARGE;
	default:
		return -WH_ECALL_REFUSED;
	}
}

static void completed(struct wh__ask *ask, struct wh_http_response *response)
{
	size_t count = response->body.len / 8, done = 0;
	struct wh_outcomes *outcomes;
	int64_t *errors;

	if (response->status != 200 || count == 0 || response->body.len % 8 != 0 ||
	    !wh__ask_receipt(ask, response)) {
		wh__ask_garbled(ask, response);
		return;
	}
	outcomes = malloc(sizeof(*outcomes) + count * sizeof(*errors));
	if (!outcomes) {
		wh__ask_out_of_memory(ask, response);
		return;
	}
	errors = (int64_t *)(void *)(outcomes + 1);
	for (size_t i = 0; i < count; i++) {
		errors[i] = error_of(wh__batch_u32(response->body.data + 8 * i + 4));
		done += errors[i] == 0;
	}
	*outcomes = (struct wh_outcomes){count, errors};
	wh_http_response_free(response);
	wh__ask_end(ask, (int64_t)done, outcomes, dispose_outcomes);
}

wh_future wh_client_complete_many(wh_client *client, const char *queue,
                                  const struct wh_completion *completions, size_t count, const char *type,
                                  const struct wh_how *how)
{
	wh_future failed;
	struct wh__ask *ask = wh__ask_new(client, "POST", how, completed, &failed);
	size_t len = 0;
	char *body, *at;

	if (!ask)
		return failed;
	if (!queue || !*queue || count == 0 || count > WH__ASK_ITEMS_MAX)
		return wh__ask_refuse(ask, -EINVAL);
	for (size_t i = 0; i < count; i++) {
		if (completions[i].len > UINT32_MAX - COMPLETION_BYTES)
			return wh__ask_refuse(ask, -EINVAL);
		len += 4 + COMPLETION_BYTES + completions[i].len;
	}
	body = at = malloc(len);
	for (size_t i = 0; body && i < count; i++) {
		const struct wh_completion *c = &completions[i];

		at = put_number(at, COMPLETION_BYTES + c->len, 4);
		at = put_number(at, c->lease.job, 8);
		at = put_number(at, c->lease.claim, 8);
		at = put_number(at, c->lease.epoch, 4);
		at = put_number(at, 0, 4);
		at = put_bytes(at, c->bytes, c->len);
	}
	return start(ask, queue, "/complete", type, body, len, NULL);
}
