/* src/front/transaction_take.c -- what the members of an action say, put together as an action of the store. See transaction_inside.h.
 *
 * Here is judged what one action says by itself: members that contradict each other, names, sizes. What it asks for is judged by the store.
 */
#include "front/transaction_inside.h"

#include <stdio.h>
#include <stdlib.h>

#include "deliver/service.h"
#include "front/after.h"
#include "front/namespace.h"

/* The body of a submit or complete, said in one way or the other. */
static bool take_body(struct reading *reading, enum member plain, enum member base64, struct store_slice *ret,
                      struct store_slice *ret_type)
{
	const struct value *value = &reading->values[plain], *type = &reading->values[CONTENT_TYPE];

	if (value->given && reading->values[base64].given)
		return transaction_wrong(reading, PROBLEM_BAD_JSON, transaction_name(base64),
		                         "and its plain form are two ways to say the same: give one of them");
	*ret_type = STORE_SLICE("application/octet-stream");
	if (value->given)
		*ret_type = value->is_json ? STORE_SLICE("application/json")
		                           : STORE_SLICE("text/plain; charset=utf-8");
	*ret = value->given ? value->text : reading->values[base64].text;
	if (type->given)
		*ret_type = type->text;
	if (ret_type->len > JOB_CONTENT_TYPE_MAX)
		return transaction_wrong(reading, PROBLEM_BAD_VALUE, "content_type",
		                         "is longer than 255 bytes");
	for (size_t i = 0; i < ret_type->len; i++) { /* it will be a header field */
		uint8_t c = ((const uint8_t *)ret_type->data)[i];

		if (c < 0x20 || c == 0x7f)
			return transaction_wrong(reading, PROBLEM_BAD_VALUE, "content_type",
			                         "has a control character");
	}
	if (ret->len <= reading->item_bytes_max)
		return true;
	reading->refusal->limit = reading->item_bytes_max;
	return transaction_wrong(reading, PROBLEM_TOO_LARGE, transaction_name(plain),
	                         "is larger than max-payload");
}

static bool take_key(struct reading *reading, enum member member, struct store_slice *ret)
{
	const struct value *value = &reading->values[member];

	*ret = value->text;
	for (size_t i = 0; i < ret->len; i++) {
		uint8_t c = ((const uint8_t *)ret->data)[i];

		if (c < 0x20 || c == 0x7f)
			return transaction_wrong(reading, PROBLEM_BAD_VALUE, transaction_name(member),
			                         "has a control character");
	}
	return !value->given || (ret->len > 0 && ret->len <= JOB_KEY_MAX) ||
	       transaction_wrong(reading, PROBLEM_BAD_VALUE, transaction_name(member),
	                         "must be 1 to 200 bytes");
}

/* What few submits say. */
static bool take_policy(struct reading *reading, struct store_submit *submit)
{
	const struct value *v = reading->values, *scope = &v[UNIQUE_WHILE];

	if (v[EXPIRES].given && v[EXPIRES_AT].given)
		return transaction_wrong(reading, PROBLEM_BAD_JSON, "expires_at",
		                         "and expires are two ways to say the same: give one of them");
	submit->expires_ns = v[EXPIRES].number;
	if (v[EXPIRES_AT].given)
		submit->expires_at = v[EXPIRES_AT].number > 0 ? v[EXPIRES_AT].number : 1;
	if (scope->given && !v[UNIQUE].given)
		return transaction_wrong(reading, PROBLEM_BAD_JSON, "unique_while",
		                         "says nothing without unique");
	if (scope->given &&
	    !request_unique_while(scope->text.data, scope->text.len, &submit->unique_while_ns))
		return transaction_wrong(reading, PROBLEM_BAD_VALUE, "unique_while",
		                         "must be \"queued\", \"active\" or a duration from 1ms to 3650d");
	if (v[AFTER_FAILURE].given && !v[AFTER].given)
		return transaction_wrong(reading, PROBLEM_BAD_JSON, "after_failure",
		                         "says nothing without after");
	if (v[AFTER_FAILURE].given && !after_failure_read(v[AFTER_FAILURE].text.data,
	                                                  v[AFTER_FAILURE].text.len, &submit->after_failure))
		return transaction_wrong(reading, PROBLEM_BAD_VALUE, "after_failure",
		                         "must be \"cancel\", \"bury\", \"run\" or \"wait\"");
	submit->after = v[AFTER].text;
	return take_key(reading, UNIQUE, &submit->unique) && take_key(reading, GROUP, &submit->group);
}

/* The full name of what is named. */
static bool take_name(struct reading *reading, enum member member, struct store_slice *ret)
{
	const struct value *value = &reading->values[member];
	struct wh_slice said = {value->text.data, value->text.len};
	char name[TARGET_NAME_BYTES_MAX], *copy;
	size_t len;

	if (namespace_name(reading->namespace, said, name, &len))
		return transaction_wrong(
			reading, PROBLEM_BAD_VALUE, transaction_name(member),
			"must be 1 to 200 bytes of A-Z a-z 0-9 - + / ; . $ _ ( ), the first not '-'");
	*ret = value->text;
	if (len == said.len)
		return true;
	copy = malloc(len);
	if (copy)
		memcpy(copy, name, len);
	if (!transaction_own(reading, copy))
		return false;
	*ret = (struct store_slice){copy, len};
	return true;
}

/* Whether anybody may be told at that URL is judged by who knows the settings. */
static bool take_callback(struct reading *reading)
{
	const struct value *v = reading->values;
	struct transaction *t = reading->transaction;

	if (!v[CALLBACK].given)
		return true;
	if (v[UNIQUE].given)
		return transaction_wrong(reading, PROBLEM_BAD_VALUE, "callback",
		                         "does not go with unique, whose job may be there already");
	if (!t->callbacks)
		t->callbacks = calloc(reading->count, sizeof(t->callbacks[0]));
	if (!t->callbacks)
		return transaction_no_memory(reading);
	t->callbacks[reading->index] = (struct wh_slice){v[CALLBACK].text.data, v[CALLBACK].text.len};
	return true;
}

static bool take_submit(struct reading *reading, struct store_submit *submit)
{
	const struct value *v = reading->values;

	if (!take_name(reading, QUEUE, &submit->queue))
		return false;
	if (service_owns_queue(submit->queue.data, submit->queue.len))
		return transaction_wrong(
			reading, PROBLEM_BAD_VALUE, "queue",
			"must not be callbacks or begin with call/, topic/ or callbacks/: such names "
			"are the server's");
	if (v[DELAY].given && v[RUN_AT].given)
		return transaction_wrong(reading, PROBLEM_BAD_JSON, "run_at",
		                         "and delay are two ways to say the same: give one of them");
	submit->priority = v[PRIORITY].given ? (uint32_t)v[PRIORITY].number : JOB_PRIORITY_DEFAULT;
	submit->delay_ns = v[DELAY].number;
	submit->run_at = v[RUN_AT].given ? (v[RUN_AT].number > 0 ? v[RUN_AT].number : 1) : 0;
	submit->time_to_run_ns = v[TIME_TO_RUN].number;
	submit->attempts_max = (uint32_t)v[ATTEMPTS].number;
	submit->retention_ns = v[RETENTION].given && v[RETENTION].number == 0 ? -1 : v[RETENTION].number;
	return take_policy(reading, submit) && take_callback(reading) &&
	       take_body(reading, PAYLOAD, PAYLOAD_BASE64, &submit->payload, &submit->content_type);
}

static struct wh_slice slice_of(const struct value *value)
{
	return (struct wh_slice){value->given ? value->text.data : NULL, value->text.len};
}

/* What an event is beyond its form is judged when it is published. */
static bool take_publish(struct reading *reading, struct store_action *action)
{
	const struct value *v = reading->values;
	struct transaction *t = reading->transaction;
	struct transaction_event event = {.json = slice_of(&v[EVENT])};
	struct store_slice data, type;

	for (int member = 0; member < MEMBERS && v[EVENT].given; member++) {
		if (v[member].given && member != TOPIC && member != EVENT)
			return transaction_wrong(reading, PROBLEM_BAD_JSON,
			                         transaction_name((enum member)member),
			                         "is for what is no event yet, and \"event\" is one");
	}
	if (!take_name(reading, TOPIC, &event.topic) ||
	    !take_body(reading, PAYLOAD, PAYLOAD_BASE64, &data, &type))
		return false;
	if (data.len > 0 || v[PAYLOAD].given || v[PAYLOAD_BASE64].given)
		event.data = (struct wh_slice){data.data, data.len};
	if (event.data.data || v[CONTENT_TYPE].given)
		event.content_type = (struct wh_slice){type.data, type.len};
	event.type = slice_of(&v[TYPE]);
	event.source = slice_of(&v[SOURCE]);
	event.subject = slice_of(&v[SUBJECT]);
	if (t->events_count == t->events_cap) {
		size_t cap = t->events_cap ? t->events_cap * 2 : 16;
		struct transaction_event *events = realloc(t->events, cap * sizeof(*events));

		if (!events)
			return transaction_no_memory(reading);
		t->events = events;
		t->events_cap = cap;
	}
	action->job = t->events_count;
	t->events[t->events_count++] = event;
	return true;
}

/* Two ways to say the same: an instant, and how long from now. */
static bool take_when(struct reading *reading, enum member instant, enum member from_now, unsigned field,
                      struct store_edit *edit, int64_t *ret_at, int64_t *ret_ns)
{
	const struct value *at = &reading->values[instant], *ns = &reading->values[from_now];
	char how[80];

	snprintf(how, sizeof(how), "and %s are two ways to say the same: give one of them",
	         transaction_name(from_now));
	if (at->given && ns->given)
		return transaction_wrong(reading, PROBLEM_BAD_JSON, transaction_name(instant), how);
	if (at->given || ns->given)
		edit->fields |= field;
	if (at->given && !at->is_null)
		*ret_at = at->number > 0 ? at->number : 1; /* long ago is not the same as never */
	*ret_ns = ns->number;
	return true;
}

/* As PATCH /v1/jobs/{id} (api_edit.c): null is what a job has that was submitted without the member. */
static bool take_edit(struct reading *reading, struct store_edit *edit)
{
	const struct value *v = reading->values;
	const char *why;

	if (v[IF_MATCH].given) {
		why = api_edit_match((struct wh_slice){v[IF_MATCH].text.data, v[IF_MATCH].text.len}, edit);
		if (why)
			return transaction_wrong(reading, PROBLEM_BAD_JSON, "if_match", why);
	}
	if (v[PRIORITY].given) {
		edit->fields |= STORE_EDIT_PRIORITY;
		edit->priority = v[PRIORITY].is_null ? JOB_PRIORITY_DEFAULT : (uint32_t)v[PRIORITY].number;
	}
	if (v[TIME_TO_RUN].given) {
		edit->fields |= STORE_EDIT_TIME_TO_RUN;
		edit->time_to_run_ns = v[TIME_TO_RUN].number;
	}
	if (v[ATTEMPTS_MAX].given) {
		edit->fields |= STORE_EDIT_ATTEMPTS;
		edit->attempts_max = (uint32_t)v[ATTEMPTS_MAX].number;
	}
	if (v[RETENTION].given) {
		edit->fields |= STORE_EDIT_RETENTION;
		edit->retention_ns =
			v[RETENTION].number == 0 && !v[RETENTION].is_null ? -1 : v[RETENTION].number;
	}
	return take_when(reading, RUN_AT, DELAY, STORE_EDIT_RUN_AT, edit, &edit->run_at, &edit->delay_ns) &&
	       take_when(reading, EXPIRES_AT, EXPIRES, STORE_EDIT_EXPIRES, edit, &edit->expires_at,
	                 &edit->expires_ns);
}

/* Only jobs of people go to queues of people. */
static bool take_move(struct reading *reading, struct store_action *action)
{
	if (!reading->values[TO].given)
		return true;
	if (!take_name(reading, TO, &action->move.to))
		return false;
	return !service_owns_queue(action->move.to.data, action->move.to.len) ||
	       transaction_wrong(
		       reading, PROBLEM_BAD_VALUE, "to",
		       "must not be callbacks or begin with call/, topic/ or callbacks/: no jobs of "
		       "others come to such queues");
}

bool transaction_take(struct reading *reading, struct store_action *action)
{
	const struct value *v = reading->values;

	action->kind = reading->verb->kind;
	action->job = (uint64_t)v[JOB].number;
	action->lease = v[LEASE].lease;
	switch (action->kind) {
	case STORE_SUBMIT:
		return take_submit(reading, &action->submit);
	case TRANSACTION_PUBLISH:
		return take_publish(reading, action);
	case STORE_COMPLETE:
		action->complete.status = (uint32_t)v[STATUS].number;
		return take_body(reading, RESULT, RESULT_BASE64, &action->complete.bytes,
		                 &action->complete.content_type);
	case STORE_FAIL:
		action->fail.error = v[ERROR].text;
		action->fail.no_retry = v[RETRY].given && !v[RETRY].number;
		action->fail.delay_set = v[DELAY].given;
		action->fail.delay_ns = v[DELAY].number;
		return true;
	case STORE_RELEASE:
		action->release.delay_ns = v[DELAY].number;
		action->release.priority_set = v[PRIORITY].given;
		action->release.priority = (uint32_t)v[PRIORITY].number;
		return true;
	case STORE_EXTEND:
		action->extend.by_ns = v[BY].number;
		return true;
	case STORE_PROGRESS:
		action->progress.bytes = v[PROGRESS].text;
		if (action->progress.bytes.len <= JOB_PROGRESS_MAX)
			return true;
		reading->refusal->limit = JOB_PROGRESS_MAX;
		return transaction_wrong(reading, PROBLEM_TOO_LARGE, "progress", "is larger than 4 KiB");
	case STORE_BURY:
		action->bury.error = v[ERROR].text;
		action->bury.priority_set = v[PRIORITY].given;
		action->bury.priority = (uint32_t)v[PRIORITY].number;
		return true;
	case STORE_EDIT:
		return take_edit(reading, &action->edit);
	case STORE_MOVE:
	case STORE_REPLAY:
		return take_move(reading, action);
	default:
		return true;
	}
}
