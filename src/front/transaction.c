/* src/front/transaction.c -- the body of POST /v1/transactions, read into actions of the store. See transaction.h.
 *
 * {"actions": [{"action": "complete", "job": 17, "lease": "3.42", "result": ...}, {"action": "submit", "queue": ...}]}: an
 * action has its verb and the verb's members, and nothing else. An event stays as it was written, to the digit.
 */
#include "front/transaction_inside.h"

#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>

#include "base/json.h"
#include "base/units.h"
#include "front/namespace.h"

#define DAY_NS (INT64_C(86400) * WH_NS_PER_S)

enum {
	LEASED = BIT(STORE_COMPLETE) | BIT(STORE_FAIL) | BIT(STORE_RELEASE) | BIT(STORE_EXTEND) |
	         BIT(STORE_PROGRESS) | BIT(STORE_BURY),
	OF_A_JOB = LEASED | BIT(STORE_CANCEL) | BIT(STORE_KICK) | BIT(STORE_EDIT) | BIT(STORE_MOVE) |
	           BIT(STORE_REPLAY)
};

static const struct transaction_verb verbs[] = {
	{"submit", STORE_SUBMIT, TOKEN_SUBMIT, true}, {"complete", STORE_COMPLETE, TOKEN_WORK, true},
	{"fail", STORE_FAIL, TOKEN_WORK, true},       {"release", STORE_RELEASE, TOKEN_WORK, true},
	{"extend", STORE_EXTEND, TOKEN_WORK, true},   {"progress", STORE_PROGRESS, TOKEN_WORK, true},
	{"bury", STORE_BURY, TOKEN_WORK, true},       {"cancel", STORE_CANCEL, TOKEN_SUBMIT, true},
	{"kick", STORE_KICK, TOKEN_ADMIN, true},      {"publish", TRANSACTION_PUBLISH, TOKEN_PUBLISH, true},
	{"edit", STORE_EDIT, TOKEN_SUBMIT, true},     {"move", STORE_MOVE, TOKEN_ADMIN, true},
	{"replay", STORE_REPLAY, TOKEN_ADMIN, true},
};
enum { VERBS = sizeof(verbs) / sizeof(verbs[0]) };

enum form {
	FORM_NUMBER,
	FORM_DURATION,
	FORM_INSTANT,
	FORM_FLAG,
	FORM_TEXT,
	FORM_VALUE,  /* a string is its text, anything else its JSON */
	FORM_JSON,   /* its JSON, whatever it is */
	FORM_BASE64, /* a string in base64 */
	FORM_LEASE,
	FORM_EVENT, /* an object, as it stands */
	FORM_AFTER, /* ids of jobs, or {"action": index} */
};

static const struct {
	const char *name;
	unsigned kinds, needed; /* BIT(kind) each */
	enum form form;
	int64_t min, max;
} members[MEMBERS] = {
	[QUEUE] = {"queue", BIT(STORE_SUBMIT), BIT(STORE_SUBMIT), FORM_TEXT, 0, 0},
	[JOB] = {"job", OF_A_JOB, OF_A_JOB, FORM_NUMBER, 1, JOB_ID_MAX},
	[LEASE] = {"lease", LEASED, LEASED, FORM_LEASE, 0, 0},
	[PAYLOAD] = {"payload", BIT(STORE_SUBMIT) | BIT(TRANSACTION_PUBLISH), 0, FORM_VALUE, 0, 0},
	[PAYLOAD_BASE64] = {"payload_base64", BIT(STORE_SUBMIT) | BIT(TRANSACTION_PUBLISH), 0, FORM_BASE64, 0,
                            0},
	[RESULT] = {"result", BIT(STORE_COMPLETE), 0, FORM_VALUE, 0, 0},
	[RESULT_BASE64] = {"result_base64", BIT(STORE_COMPLETE), 0, FORM_BASE64, 0, 0},
	[CONTENT_TYPE] = {"content_type", BIT(STORE_SUBMIT) | BIT(STORE_COMPLETE) | BIT(TRANSACTION_PUBLISH),
                          0, FORM_TEXT, 0, 0},
	[STATUS] = {"status", BIT(STORE_COMPLETE), 0, FORM_NUMBER, 200, 599},
	[PRIORITY] = {"priority", BIT(STORE_SUBMIT) | BIT(STORE_RELEASE) | BIT(STORE_BURY) | BIT(STORE_EDIT),
                      0, FORM_NUMBER, 0, UINT32_MAX},
	[DELAY] = {"delay", BIT(STORE_SUBMIT) | BIT(STORE_FAIL) | BIT(STORE_RELEASE) | BIT(STORE_EDIT), 0,
                   FORM_DURATION, 0, 3650 * DAY_NS},
	[RUN_AT] = {"run_at", BIT(STORE_SUBMIT) | BIT(STORE_EDIT), 0, FORM_INSTANT, 0, 0},
	[TIME_TO_RUN] = {"time_to_run", BIT(STORE_SUBMIT) | BIT(STORE_EDIT), 0, FORM_DURATION, WH_NS_PER_MS,
                         30 * DAY_NS},
	[ATTEMPTS] = {"attempts", BIT(STORE_SUBMIT), 0, FORM_NUMBER, 1, JOB_ATTEMPTS_MAX},
	[RETENTION] = {"retention", BIT(STORE_SUBMIT) | BIT(STORE_EDIT), 0, FORM_DURATION, 0, 3650 * DAY_NS},
	[EXPIRES] = {"expires", BIT(STORE_SUBMIT) | BIT(STORE_EDIT), 0, FORM_DURATION, WH_NS_PER_MS,
                     3650 * DAY_NS},
	[EXPIRES_AT] = {"expires_at", BIT(STORE_SUBMIT) | BIT(STORE_EDIT), 0, FORM_INSTANT, 0, 0},
	[UNIQUE] = {"unique", BIT(STORE_SUBMIT), 0, FORM_TEXT, 0, 0},
	[UNIQUE_WHILE] = {"unique_while", BIT(STORE_SUBMIT), 0, FORM_TEXT, 0, 0},
	[GROUP] = {"group", BIT(STORE_SUBMIT), 0, FORM_TEXT, 0, 0},
	[AFTER] = {"after", BIT(STORE_SUBMIT), 0, FORM_AFTER, 0, 0},
	[AFTER_FAILURE] = {"after_failure", BIT(STORE_SUBMIT), 0, FORM_TEXT, 0, 0},
	[CALLBACK] = {"callback", BIT(STORE_SUBMIT), 0, FORM_TEXT, 0, 0},
	[ATTEMPTS_MAX] = {"attempts_max", BIT(STORE_EDIT), 0, FORM_NUMBER, 1, JOB_ATTEMPTS_MAX},
	[IF_MATCH] = {"if_match", BIT(STORE_EDIT), 0, FORM_TEXT, 0, 0},
	[TO] = {"to", BIT(STORE_MOVE) | BIT(STORE_REPLAY), BIT(STORE_MOVE), FORM_TEXT, 0, 0},
	[ERROR] = {"error", BIT(STORE_FAIL) | BIT(STORE_BURY), 0, FORM_TEXT, 0, 0},
	[RETRY] = {"retry", BIT(STORE_FAIL), 0, FORM_FLAG, 0, 0},
	[BY] = {"by", BIT(STORE_EXTEND), 0, FORM_DURATION, WH_NS_PER_MS, 30 * DAY_NS},
	[PROGRESS] = {"progress", BIT(STORE_PROGRESS), BIT(STORE_PROGRESS), FORM_JSON, 0, 0},
	[TOPIC] = {"topic", BIT(TRANSACTION_PUBLISH), BIT(TRANSACTION_PUBLISH), FORM_TEXT, 0, 0},
	[EVENT] = {"event", BIT(TRANSACTION_PUBLISH), 0, FORM_EVENT, 0, 0},
	[TYPE] = {"type", BIT(TRANSACTION_PUBLISH), 0, FORM_TEXT, 0, 0},
	[SOURCE] = {"source", BIT(TRANSACTION_PUBLISH), 0, FORM_TEXT, 0, 0},
	[SUBJECT] = {"subject", BIT(TRANSACTION_PUBLISH), 0, FORM_TEXT, 0, 0},
};

const char *transaction_name(enum member member)
{
	return members[member].name;
}

const char *transaction_verb(int kind)
{
	for (size_t i = 0; i < VERBS; i++) {
		if (verbs[i].kind == kind)
			return verbs[i].name;
	}
	return "action";
}

enum token_action transaction_scope(int kind)
{
	for (size_t i = 0; i < VERBS; i++) {
		if (verbs[i].kind == kind)
			return verbs[i].scope;
	}
	return TOKEN_ADMIN;
}

bool transaction_wrong(struct reading *reading, enum problem problem, const char *what, const char *how)
{
	reading->refusal->problem = problem;
	reading->refusal->action = (long)reading->index;
	snprintf(reading->refusal->detail, sizeof(reading->refusal->detail), "action %zu%s%s: \"%.60s\" %s",
	         reading->index, reading->verb ? ", " : "", reading->verb ? reading->verb->name : "", what,
	         how);
	return false;
}

bool transaction_no_memory(struct reading *reading)
{
	reading->refusal->problem = PROBLEM_TOO_BUSY;
	reading->refusal->action = -1;
	snprintf(reading->refusal->detail, sizeof(reading->refusal->detail), "out of memory");
	return false;
}

/* Remember memory that is the transaction's; NULL is passed on as want of memory. */
bool transaction_own(struct reading *reading, void *memory)
{
	struct transaction *t = reading->transaction;

	if (memory && t->owned_count == t->owned_cap) {
		size_t cap = t->owned_cap ? t->owned_cap * 2 : 16;
		void **owned = realloc(t->owned, cap * sizeof(owned[0]));

		if (!owned) {
			free(memory);
			return transaction_no_memory(reading);
		}
		t->owned = owned;
		t->owned_cap = cap;
	}
	if (!memory)
		return transaction_no_memory(reading);
	t->owned[t->owned_count++] = memory;
	return true;
}

/* ---- members ----------------------------------------------------------------------------- */

static struct store_slice string_of(const json_t *value)
{
	return (struct store_slice){json_string_value(value), json_string_length(value)};
}

static bool read_json(struct reading *reading, const json_t *json, struct value *ret)
{
	char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);

	if (!transaction_own(reading, text))
		return false;
	ret->text = (struct store_slice){text, strlen(text)};
	ret->is_json = true;
	return true;
}

static bool read_base64(struct reading *reading, enum member member, const json_t *json, struct value *ret)
{
	struct store_slice text = string_of(json);
	char *bytes;
	size_t len;

	if (!json_is_string(json))
		return transaction_wrong(reading, PROBLEM_BAD_JSON, members[member].name,
		                         "must be a string in base64");
	bytes = malloc(text.len + 1);
	if (bytes && text.len > 0)
		memcpy(bytes, text.data, text.len);
	if (!transaction_own(reading, bytes))
		return false;
	if (!wh__unbase64(bytes, text.len, &len))
		return transaction_wrong(reading, PROBLEM_BAD_VALUE, members[member].name,
		                         "is not base64 (RFC 4648, with padding)");
	ret->text = (struct store_slice){bytes, len};
	return true;
}

static bool read_number(struct reading *reading, enum member member, const json_t *json, struct value *ret)
{
	char range[80];

	if (!json_is_integer(json))
		return transaction_wrong(reading, PROBLEM_BAD_JSON, members[member].name,
		                         "must be a whole number");
	ret->number = json_integer_value(json);
	if (ret->number >= members[member].min && ret->number <= members[member].max)
		return true;
	snprintf(range, sizeof(range), "must be from %lld to %lld", (long long)members[member].min,
	         (long long)members[member].max);
	return transaction_wrong(reading, PROBLEM_BAD_VALUE, members[member].name, range);
}

static bool read_duration(struct reading *reading, enum member member, const json_t *json, struct value *ret)
{
	struct store_slice text = string_of(json);

	if (!json_is_string(json) || !wh__parse_duration(text.data, text.len, &ret->number))
		return transaction_wrong(reading, PROBLEM_BAD_JSON, members[member].name,
		                         "must be a duration with its unit, such as \"30s\"");
	if (ret->number >= members[member].min && ret->number <= members[member].max)
		return true;
	return transaction_wrong(reading, PROBLEM_BAD_VALUE, members[member].name,
	                         members[member].max == 30 * DAY_NS ? "must be from 1ms to 30d"
	                         : members[member].min > 0          ? "must be from 1ms to 3650d"
	                                                            : "must be at most 3650d");
}

static bool read_lease(const struct store_slice text, struct job_lease *ret)
{
	const char *at = text.data, *dot = text.len > 0 ? memchr(at, '.', text.len) : NULL;
	uint64_t epoch, claim;

	if (!dot || !wh__parse_u64(at, (size_t)(dot - at), UINT32_MAX, &epoch) ||
	    !wh__parse_u64(dot + 1, text.len - (size_t)(dot + 1 - at), UINT64_MAX, &claim))
		return false;
	*ret = (struct job_lease){(uint32_t)epoch, claim};
	return true;
}

/* The text of a member of the present action. */
static bool read_raw(struct reading *reading, enum member member, struct value *ret)
{
	struct wh_slice raw;

	while (reading->at_index <= reading->index && wh__json_next(reading->list, &reading->at))
		reading->at_index++;
	raw = wh__json_member(reading->at, members[member].name);
	if (!raw.data) /* found by its name with the escapes undone */
		return transaction_wrong(
			reading, PROBLEM_BAD_JSON, members[member].name,
			"must be named without escapes, and nest no deeper than its data may");
	ret->text = (struct store_slice){raw.data, raw.len};
	return true;
}

/* One that it is to run after: 17, or {"action": 0}, a submit before this one. */
static bool read_awaited(struct reading *reading, const json_t *json, uint64_t *ret)
{
	const json_t *index =
		json_is_object(json) && json_object_size(json) == 1 ? json_object_get(json, "action") : NULL;
	json_int_t number = json_integer_value(index ? index : json);

	if (!json_is_integer(index ? index : json))
		return transaction_wrong(
			reading, PROBLEM_BAD_JSON, "after",
			"must hold ids of jobs, or {\"action\": i} for a submit of this transaction");
	if (!index && (number < 1 || number > (json_int_t)JOB_ID_MAX))
		return transaction_wrong(reading, PROBLEM_BAD_VALUE, "after", "holds what is no id of a job");
	if (index && (number < 0 || (size_t)number >= reading->index ||
	              reading->transaction->actions[number].kind != STORE_SUBMIT))
		return transaction_wrong(reading, PROBLEM_BAD_VALUE, "after",
		                         "names an action that is no submit, or not before this one");
	*ret = index ? STORE_AFTER_ACTION | (uint64_t)number : (uint64_t)number;
	return true;
}

static bool read_after(struct reading *reading, const json_t *json, struct value *ret)
{
	size_t count = json_array_size(json);
	uint64_t *ids;

	if (!json_is_array(json) || count == 0 || count > JOB_AFTER_MAX)
		return transaction_wrong(reading, PROBLEM_BAD_JSON, "after",
		                         "must be an array of 1 to 10000 jobs");
	ids = malloc(count * sizeof(ids[0]));
	if (!transaction_own(reading, ids))
		return false;
	for (size_t i = 0; i < count; i++)
		if (!read_awaited(reading, json_array_get(json, i), &ids[i]))
			return false;
	ret->text = (struct store_slice){ids, count * sizeof(ids[0])};
	return true;
}

/* What an edit may set back, by null. */
static bool is_edited(enum member member)
{
	return member == PRIORITY || member == RUN_AT || member == DELAY || member == TIME_TO_RUN ||
	       member == ATTEMPTS_MAX || member == RETENTION || member == EXPIRES || member == EXPIRES_AT;
}

static bool read_member(struct reading *reading, enum member member, const json_t *json)
{
	struct value *value = &reading->values[member];
	const char *name = members[member].name;

	value->given = true;
	value->is_null = json_is_null(json) && reading->verb->kind == STORE_EDIT && is_edited(member);
	if (value->is_null)
		return true;
	switch (members[member].form) {
	case FORM_NUMBER:
		return read_number(reading, member, json, value);
	case FORM_DURATION:
		return read_duration(reading, member, json, value);
	case FORM_INSTANT:
		return (json_is_string(json) &&
		        wh__parse_instant(json_string_value(json), json_string_length(json),
		                          &value->number)) ||
		       transaction_wrong(reading, PROBLEM_BAD_JSON, name,
		                         "must be an instant as in RFC 3339 before the year 2262, such as "
		                         "\"2026-11-23T20:00:00Z\"");
	case FORM_FLAG:
		value->number = json_is_true(json);
		return json_is_boolean(json) ||
		       transaction_wrong(reading, PROBLEM_BAD_JSON, name, "must be true or false");
	case FORM_TEXT:
		value->text = string_of(json);
		return json_is_string(json) ||
		       transaction_wrong(reading, PROBLEM_BAD_JSON, name, "must be a string");
	case FORM_VALUE:
		value->text = string_of(json);
		return json_is_string(json) || read_json(reading, json, value);
	case FORM_JSON:
		return read_json(reading, json, value);
	case FORM_BASE64:
		return read_base64(reading, member, json, value);
	case FORM_AFTER:
		return read_after(reading, json, value);
	case FORM_LEASE:
		return (json_is_string(json) && read_lease(string_of(json), &value->lease)) ||
		       transaction_wrong(reading, PROBLEM_BAD_JSON, name, "must be a token such as \"3.42\"");
	case FORM_EVENT:
		if (!json_is_object(json))
			return transaction_wrong(reading, PROBLEM_BAD_JSON, name,
			                         "must be an object, a CloudEvent");
		return read_raw(reading, member, value);
	}
	return false;
}

/* ---- actions ----------------------------------------------------------------------------- */

static const struct transaction_verb *find_verb(const json_t *name)
{
	for (size_t i = 0; i < VERBS && json_is_string(name); i++) {
		if (strcmp(json_string_value(name), verbs[i].name) == 0)
			return &verbs[i];
	}
	return NULL;
}

static bool read_action(struct reading *reading, json_t *json, struct store_action *action)
{
	const char *key;
	json_t *value;
	unsigned bit;

	memset(reading->values, 0, sizeof(reading->values));
	reading->verb = NULL;
	if (!json_is_object(json))
		return transaction_wrong(reading, PROBLEM_BAD_JSON, "actions", "must hold objects");
	reading->verb = find_verb(json_object_get(json, "action"));
	if (!reading->verb)
		return transaction_wrong(
			reading, PROBLEM_BAD_JSON, "action",
			"must be submit, complete, fail, release, extend, progress, bury, cancel, kick, "
			"edit, "
			"move, replay or publish");
	if (reading->namespace.len > 0 && !reading->verb->within)
		return transaction_wrong(reading, PROBLEM_NOT_WITHIN, "action",
		                         "is not for a token with a prefix");
	bit = BIT(reading->verb->kind);
	json_object_foreach(json, key, value)
	{
		int member = 0;

		if (strcmp(key, "action") == 0)
			continue;
		if (reading->namespace.len > 0 &&
		    !namespace_knows_option((struct wh_slice){key, strlen(key)}))
			return transaction_wrong(reading, PROBLEM_NOT_WITHIN, key,
			                         "is not for a token with a prefix");
		while (member < MEMBERS &&
		       (!(members[member].kinds & bit) || strcmp(key, members[member].name) != 0))
			member++;
		if (member == MEMBERS)
			return transaction_wrong(reading, PROBLEM_BAD_JSON, key,
			                         "is no member of this action");
		if (!read_member(reading, (enum member)member, value))
			return false;
	}
	for (int member = 0; member < MEMBERS; member++) {
		if ((members[member].needed & bit) && !reading->values[member].given)
			return transaction_wrong(reading, PROBLEM_BAD_JSON, members[member].name,
			                         "is missing");
	}
	return transaction_take(reading, action);
}

/* ---- the whole --------------------------------------------------------------------------- */

static bool wrong_whole(struct transaction_refusal *refusal, enum problem problem, uint64_t limit,
                        const char *detail)
{
	refusal->problem = problem;
	refusal->limit = limit;
	snprintf(refusal->detail, sizeof(refusal->detail), "%s", detail);
	return false;
}

static json_t *read_list(const char *text, size_t len, struct transaction *t,
                         struct transaction_refusal *refusal)
{
	json_error_t error;
	json_t *list, *value;
	const char *key;

	t->json = json_loadb(text ? text : "", len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	if (!t->json && (!error.text[0] || json_error_code(&error) == json_error_out_of_memory)) {
		wrong_whole(refusal, PROBLEM_TOO_BUSY, 0, "out of memory");
		return NULL;
	}
	if (!t->json) {
		refusal->line = error.line;
		refusal->column = error.column;
		snprintf(refusal->detail, sizeof(refusal->detail), "line %d, column %d: %s", error.line,
		         error.column, error.text);
		return NULL;
	}
	list = json_object_get(t->json, "actions");
	if (!json_is_array(list)) {
		wrong_whole(refusal, PROBLEM_BAD_JSON, 0,
		            "the body must be an object with an array of \"actions\"");
		return NULL;
	}
	json_object_foreach((json_t *)t->json, key, value)
	{
		if (strcmp(key, "actions") == 0)
			continue;
		snprintf(refusal->detail, sizeof(refusal->detail),
		         "there is no member \"%.100s\"; known: actions", key);
		return NULL;
	}
	return list;
}

bool transaction_read(struct transaction *t, struct wh_slice namespace, const char *text, size_t len,
                      uint64_t item_bytes_max, struct transaction_refusal *refusal)
{
	struct reading reading = {.transaction = t,
	                          .refusal = refusal,
	                          .namespace = namespace,
	                          .item_bytes_max = item_bytes_max};
	json_t *list;
	size_t count;

	*t = (struct transaction){0};
	*refusal = (struct transaction_refusal){.problem = PROBLEM_BAD_JSON, .action = -1};
	list = read_list(text, len, t, refusal);
	if (!list)
		return false;
	count = json_array_size(list);
	if (count == 0)
		return wrong_whole(refusal, PROBLEM_BAD_VALUE, 0, "\"actions\" is empty");
	if (count > JOB_ACTIONS_MAX)
		return wrong_whole(refusal, PROBLEM_TOO_LARGE, JOB_ACTIONS_MAX,
		                   "a transaction has at most 10000 actions");
	reading.list = wh__json_member((struct wh_slice){text, len}, "actions");
	t->actions = calloc(count, sizeof(t->actions[0]));
	if (!t->actions)
		return transaction_no_memory(&reading);
	reading.count = count;
	for (size_t i = 0; i < count; i++) {
		reading.index = i;
		if (!read_action(&reading, json_array_get(list, i), &t->actions[i]))
			return false;
	}
	t->count = count;
	return true;
}

void transaction_done(struct transaction *t)
{
	for (size_t i = 0; i < t->owned_count; i++)
		free(t->owned[i]);
	free(t->owned);
	free(t->actions);
	free(t->callbacks);
	free(t->events);
	json_decref(t->json);
}
