/* tests/fuzz/http_message.h -- reads messages as server and client do, split where the input itself says, and says in a digest what was read.
 *
 * Properties: the digest does not depend on the split; every span lies in its head; a value holds no line end; what
 * is framed by length is not framed by chunks too.
 */
#ifndef FUZZ_HTTP_MESSAGE_H
#define FUZZ_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/message.h"
#include "http/parse.h"

#define REQUIRE(condition)        \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

static const struct wh__http_limits fuzz_limits = {
	.head_bytes_max = 600, .target_bytes_max = 100, .fields_max = 10};

struct fuzz_reader {
	bool response, head_request, in_body, over;
	struct wh__http_scan scan;
	struct wh__http_chunked chunked;
	struct wh__http_head head;
	char held[1024];
	size_t held_len;
	uint64_t left;
	uint64_t digest;
};

static void fuzz_digest(struct fuzz_reader *r, const void *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		r->digest = (r->digest ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
}

static void fuzz_number(struct fuzz_reader *r, uint64_t number)
{
	fuzz_digest(r, &number, sizeof(number));
}

static void fuzz_span(struct fuzz_reader *r, struct wh__http_span span, unsigned class)
{
	REQUIRE(span.off <= r->held_len && span.len <= r->held_len - span.off);
	REQUIRE(wh__http_all(r->held + span.off, span.len, class));
	fuzz_number(r, span.len);
	fuzz_digest(r, r->held + span.off, span.len);
}

static void fuzz_head(struct fuzz_reader *r)
{
	struct wh__http_head *head = &r->head;
	const char *reason = NULL;
	int status = r->response ? wh__http_parse_response(r->held, r->held_len, &fuzz_limits,
	                                                   r->head_request, head, &reason)
	                         : wh__http_parse_request(r->held, r->held_len, &fuzz_limits, head, &reason);

	fuzz_number(r, (uint64_t)status);
	if (status) {
		REQUIRE(reason && status >= 400 && status <= 505);
		r->over = true;
		return;
	}
	REQUIRE(head->version == 10 || head->version == 11);
	REQUIRE(head->field_count <= fuzz_limits.fields_max);
	REQUIRE(!((head->flags & WH__HTTP_CHUNKED) && (head->flags & WH__HTTP_LENGTH)));
	if (!r->response) {
		REQUIRE(head->target.len > 0 && head->target.len <= fuzz_limits.target_bytes_max);
		fuzz_span(r, head->target, WH__HTTP_TARGET);
		fuzz_span(r, head->path, WH__HTTP_TARGET);
		fuzz_span(r, head->query, WH__HTTP_TARGET);
		fuzz_span(r, head->host, WH__HTTP_VALUE);
	} else {
		fuzz_span(r, head->reason, WH__HTTP_VALUE);
	}
	for (size_t i = 0; i < head->field_count; i++) {
		REQUIRE(head->fields[i].name.len > 0);
		fuzz_span(r, head->fields[i].name, WH__HTTP_TOKEN);
		fuzz_span(r, head->fields[i].value, WH__HTTP_VALUE);
	}
	fuzz_number(r, head->flags);
	fuzz_number(r, head->content_length);
	r->held_len = 0;
	memset(&r->chunked, 0, sizeof(r->chunked));
	r->left = head->content_length;
	r->in_body = head->flags & (WH__HTTP_CHUNKED | WH__HTTP_UNTIL_CLOSE) || r->left > 0;
	if (r->response &&
	    (r->head_request || head->status < 200 || head->status == 204 || head->status == 304))
		r->in_body = false;
}

static size_t fuzz_body(struct fuzz_reader *r, char *data, size_t len)
{
	size_t consumed = len, produced = len;
	const char *reason = NULL;

	if (r->head.flags & WH__HTTP_CHUNKED) {
		int status = wh__http_chunked(&r->chunked, data, len, &consumed, &produced, &reason);

		if (status > 1) {
			r->over = true;
			r->digest = (uint64_t)status; /* how much was read before it depends on the split */
			return len;
		}
		REQUIRE(consumed <= len && produced <= consumed && (status == 1 || consumed == len));
		r->in_body = status == 0;
	} else if (r->head.flags & WH__HTTP_LENGTH) {
		consumed = produced = len < r->left ? len : (size_t)r->left;
		r->left -= consumed;
		r->in_body = r->left > 0;
	}
	fuzz_digest(r, data, produced);
	return consumed;
}

static void fuzz_feed(struct fuzz_reader *r, const uint8_t *bytes, size_t len)
{
	char *copy = malloc(len + 1);

	REQUIRE(copy);
	memcpy(copy, bytes, len);
	for (size_t at = 0; at < len && !r->over;) {
		size_t consumed, skipped;
		const char *reason = NULL;
		bool end;
		int status;

		if (r->in_body) {
			at += fuzz_body(r, copy + at, len - at);
			continue;
		}
		status = wh__http_scan(&r->scan, &fuzz_limits, copy + at, len - at, &consumed, &skipped, &end,
		                       &reason);
		if (status) {
			REQUIRE(reason);
			fuzz_number(r, (uint64_t)status);
			r->over = true;
			break;
		}
		REQUIRE(consumed > 0 && consumed <= len - at && skipped <= consumed);
		REQUIRE(end || consumed == len - at);
		if (skipped)
			r->held_len = 0;
		REQUIRE(r->held_len + consumed - skipped <= sizeof(r->held));
		memcpy(r->held + r->held_len, copy + at + skipped, consumed - skipped);
		r->held_len += consumed - skipped;
		at += consumed;
		if (end)
			fuzz_head(r);
	}
	free(copy);
}

static uint64_t fuzz_read(const uint8_t *bytes, size_t len, size_t step, bool response, bool head_request)
{
	struct fuzz_reader r = {.response = response, .head_request = head_request, .digest = 1};

	r.scan.response = response;
	for (size_t at = 0; at < len && !r.over; at += step)
		fuzz_feed(&r, bytes + at, len - at < step ? len - at : step);
	return r.digest;
}

/* Whole, byte by byte, and in steps that the length decides. */
static void fuzz_message(const uint8_t *bytes, size_t len, bool response, bool head_request)
{
	uint64_t whole = fuzz_read(bytes, len, len ? len : 1, response, head_request);

	REQUIRE(fuzz_read(bytes, len, 1, response, head_request) == whole);
	REQUIRE(fuzz_read(bytes, len, len % 13 + 2, response, head_request) == whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#endif
