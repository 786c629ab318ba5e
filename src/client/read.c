/* src/client/read.c -- what answers have in common: header fields, positions, states, instants. See ask.h. */
#include "client/ask.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "client/members.h"

static const char *const state_names[] = {"",       "delayed",   "ready",  "running", "done",
                                          "failed", "cancelled", "buried", "awaiting"};
enum { STATES = sizeof(state_names) / sizeof(state_names[0]) };

const char *wh_job_state_name(int state)
{
	return state > 0 && state < STATES ? state_names[state] : "";
}

bool wh_job_is_finished(int state)
{
	return state == WH_JOB_DONE || state == WH_JOB_FAILED || state == WH_JOB_CANCELLED;
}

/* Without the quotes of JSON, if it has them. */
static struct wh_slice unquoted(struct wh_slice text)
{
	if (text.len >= 2 && text.data[0] == '"')
		return (struct wh_slice){text.data + 1, text.len - 2};
	return text;
}

int wh__read_state(struct wh_slice value)
{
	struct wh_slice name = unquoted(value);

	for (int state = 1; state < STATES; state++) {
		if (wh_slice_equal(name, state_names[state]))
			return state;
	}
	return 0;
}

bool wh__read_header_u64(const struct wh_http_response *response, const char *name, uint64_t *ret)
{
	struct wh_slice value = wh_http_response_header(response, name);

	return value.data && wh__parse_u64(value.data, value.len, UINT64_MAX, ret);
}

/* Two decimal numbers with something in between. */
static bool read_pair(struct wh_slice text, char between, uint32_t *ret_first, uint64_t *ret_second)
{
	const char *at = text.data ? memchr(text.data, between, text.len) : NULL;
	uint64_t first, second;

	if (!at || !wh__parse_u64(text.data, (size_t)(at - text.data), UINT32_MAX, &first) ||
	    !wh__parse_u64(at + 1, (size_t)(text.data + text.len - at - 1), UINT64_MAX, &second))
		return false;
	*ret_first = (uint32_t)first;
	*ret_second = second;
	return true;
}

bool wh__read_position(struct wh_slice text, struct wh_position *ret)
{
	return read_pair(unquoted(text), '/', &ret->epoch, &ret->lsn);
}

bool wh__read_lease(struct wh_slice text, struct wh_lease *ret)
{
	return read_pair(unquoted(text), '.', &ret->epoch, &ret->claim);
}

bool wh__read_duration(struct wh_slice value, int64_t *ret)
{
	struct wh_slice text = unquoted(value);

	return text.data && wh__parse_duration(text.data, text.len, ret);
}

bool wh__read_instant(struct wh_slice value, int64_t *ret)
{
	struct wh_slice text = unquoted(value);

	if (wh__json_is_null(value)) {
		*ret = 0;
		return true;
	}
	return text.data && wh__parse_instant(text.data, text.len, ret);
}

struct wh_slice wh__body_json(const struct wh_http_response *response)
{
	return wh__json_check(response->body) ? response->body : (struct wh_slice){NULL, 0};
}

static int read_level(struct wh_slice name)
{
	static const char *const levels[] = {"async", "local", "remote-write", "remote-flush"};

	for (int i = 0; i < 4; i++) {
		if (wh_slice_equal(name, levels[i]))
			return i + WH_LEVEL_ASYNC;
	}
	return WH_LEVEL_DEFAULT;
}

bool wh__ask_receipt(struct wh__ask *ask, const struct wh_http_response *response)
{
	struct wh_receipt receipt = {.job = ask->job};

	receipt.level = read_level(wh_http_response_header(response, "Whilst-Commit"));
	if (receipt.level == WH_LEVEL_DEFAULT ||
	    !wh__read_position(wh_http_response_header(response, "Whilst-Position"), &receipt.position))
		return false;
	if (ask->receipt)
		*ask->receipt = receipt;
	return true;
}

void wh__answer_state(struct wh__ask *ask, struct wh_http_response *response)
{
	int state = wh__read_state(wh__json_member(wh__body_json(response), "state"));

	if ((response->status != 200 && response->status != 202) || state == 0 ||
	    !wh__ask_receipt(ask, response)) {
		wh__ask_garbled(ask, response);
		return;
	}
	wh_http_response_free(response);
	wh__ask_end(ask, state, NULL, NULL);
}

void wh__answer_zero(struct wh__ask *ask, struct wh_http_response *response)
{
	if (response->status != 200 || !wh__ask_receipt(ask, response)) {
		wh__ask_garbled(ask, response);
		return;
	}
	wh_http_response_free(response);
	wh__ask_end(ask, 0, NULL, NULL);
}

void wh__answer_created(struct wh__ask *ask, struct wh_http_response *response)
{
	int status = response->status;

	if ((status != 200 && status != 201) || !wh__ask_receipt(ask, response)) {
		wh__ask_garbled(ask, response);
		return;
	}
	wh_http_response_free(response);
	wh__ask_end(ask, status == 201, NULL, NULL);
}

int64_t wh__read_list(struct wh_slice json, struct wh_slice list, size_t head_bytes, size_t thing_bytes,
                      wh__take *take, struct wh__list *ret)
{
	struct wh_slice at = {NULL, 0};
	size_t count = list.data ? 0 : 1;
	char *memory, *thing, *text, *strings;
	bool good = true;

	while (wh__json_next(list, &at))
		count++;
	memory = calloc(1, head_bytes + count * thing_bytes + 2 * (json.len + 1));
	if (!memory)
		return -ENOMEM;
	thing = memory + head_bytes;
	text = thing + count * thing_bytes;
	strings = text + json.len + 1;
	*ret = (struct wh__list){memory, thing, text, count};
	memcpy(text, json.data, json.len);
	at.data = NULL;
	if (!list.data)
		good = take(json, thing, &strings);
	for (; good && wh__json_next(list, &at); thing += thing_bytes)
		good = take(at, thing, &strings);
	if (good)
		return 0;
	free(memory);
	return -WH_EHTTP_SYNTAX;
}
