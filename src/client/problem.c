/* src/client/problem.c -- what a refusal means: from application/problem+json to a code and a sentence. Pure. */
#include <errno.h>
#include <string.h>

#include "client/ask.h"

static const char type_prefix[] = "urn:whilst:problem:";

/* The codes of docs/reference/http.md; those that are not here are WH_ECALL_REFUSED. */
static const struct {
	const char *code;
	int64_t error;
} codes[] = {
	{"bad-value", WH_ECALL_BAD_VALUE},
	{"too-large", WH_ECALL_TOO_LARGE},
	{"unknown-queue", WH_ECALL_UNKNOWN_QUEUE},
	{"unknown-job", WH_ECALL_UNKNOWN_JOB},
	{"unknown-service", WH_ECALL_UNKNOWN_SERVICE},
	{"unknown-topic", WH_ECALL_UNKNOWN_TOPIC},
	{"unknown-subscription", WH_ECALL_UNKNOWN_TOPIC},
	{"lease-lost", WH_ECALL_LEASE_LOST},
	{"not-ready", WH_ECALL_NOT_READY},
	{"job-finished", WH_ECALL_JOB_FINISHED},
	{"job-cancelled", WH_ECALL_JOB_CANCELLED},
	{"job-failed", WH_ECALL_JOB_FAILED},
	{"queue-not-empty", WH_ECALL_QUEUE_NOT_EMPTY},
	{"wrong-state", WH_ECALL_WRONG_STATE},
	{"precondition-failed", WH_ECALL_CHANGED},
	{"expired", WH_ECALL_EXPIRED},
	{"lost", WH_ECALL_LOST},
	{"level-unavailable", WH_ECALL_LEVEL_UNAVAILABLE},
	{"key-reused", WH_ECALL_KEY_REUSED},
	{"queue-full", WH_ECALL_QUEUE_FULL},
	{"namespace-full", WH_ECALL_QUEUE_FULL},
	{"disk-full", WH_ECALL_DISK_FULL},
	{"draining", WH_ECALL_DRAINING},
	{"too-busy", WH_ECALL_TOO_BUSY},
	{"internal", WH_ECALL_INTERNAL},
	{"backend-unreachable", WH_ECALL_BACKEND},
	{"backend-error", WH_ECALL_BACKEND},
	{"backend-timeout", WH_ECALL_BACKEND},
};

static int64_t error_of(const char *code)
{
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		if (strcmp(codes[i].code, code) == 0)
			return -codes[i].error;
	}
	return -WH_ECALL_REFUSED;
}

/* A string's beginning, as much as there is room for; whole characters only. */
static void copy_string(struct wh_slice value, char *to, size_t size)
{
	char whole[1024];
	size_t len;

	if (value.len > sizeof(whole) || !wh__json_string(value, whole, &len))
		return;
	if (len >= size) {
		len = size - 1;
		while (len > 0 && ((uint8_t)whole[len] & 0xc0) == 0x80)
			len--;
	}
	memcpy(to, whole, len);
	to[len] = 0;
}

static struct wh_slice problem_json(const struct wh_http_response *response)
{
	struct wh_slice type = wh_http_response_header(response, "Content-Type");

	if (!type.data || !wh_slice_equal_caseless(type, "application/problem+json"))
		return (struct wh_slice){NULL, 0};
	return wh__body_json(response);
}

bool wh__problem_is_ours(const struct wh_http_response *response)
{
	struct wh_slice type = wh__json_member(problem_json(response), "type");

	return type.len > sizeof(type_prefix) &&
	       memcmp(type.data + 1, type_prefix, sizeof(type_prefix) - 1) == 0;
}

int64_t wh__problem_read(const struct wh_http_response *response, struct wh_problem *ret)
{
	struct wh_slice json = problem_json(response), job;
	uint64_t seconds, action;

	*ret = (struct wh_problem){.error = -WH_ECALL_REFUSED, .status = response->status, .action = -1};
	if (wh__read_header_u64(response, "Retry-After", &seconds) && seconds < 86400)
		ret->retry_after_ns = (int64_t)seconds * WH_NS_PER_S;
	if (wh__problem_is_ours(response)) {
		copy_string(wh__json_member(json, "code"), ret->code, sizeof(ret->code));
		copy_string(wh__json_member(json, "state"), ret->state, sizeof(ret->state));
		copy_string(wh__json_member(json, "detail"), ret->detail, sizeof(ret->detail));
		(void)wh__json_u64(wh__json_member(json, "limit"), &ret->limit); /* most have none */
		if (wh__json_u64(wh__json_member(json, "action"), &action))
			ret->action = (int64_t)action;
		copy_string(wh__json_member(json, "cause"), ret->code, sizeof(ret->code));
		job = wh__json_member(json, "job");
		if (job.data && !wh__json_u64(wh__json_member(job, "id"), &ret->job))
			ret->job = 0;
		ret->error = error_of(ret->code);
	} else if (response->status == 413) {
		ret->error = -WH_ECALL_TOO_LARGE; /* of something in between */
	}
	if (!ret->detail[0]) {
		struct wh__text text;
		wh__text_init(&text, ret->detail, sizeof(ret->detail) - 1);
		wh__text_str(&text, "the server answered ");
		wh__text_u64(&text, (uint64_t)response->status);
		wh__text_put(&text, " ", 1);
		wh__text_str(&text, wh_http_reason(response->status));
	}
	ret->cause = ret->error;
	return ret->error;
}
