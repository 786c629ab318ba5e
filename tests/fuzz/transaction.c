/* tests/fuzz/transaction.c -- the body of POST /v1/transactions.
 *
 * Properties: any bytes are actions that the store may be given, or refused with a problem of 400, 413, 422 or 503 that says so; a body is within
 * its limit; nothing is left.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "front/namespace.h"
#include "front/transaction.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define REQUIRE(condition)        \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

enum { ITEM_MAX = 40 };

static void check(const struct store_action *a)
{
	volatile uint8_t sum = 0;

	REQUIRE(transaction_scope(a->kind) == TOKEN_SUBMIT || transaction_scope(a->kind) == TOKEN_WORK ||
	        transaction_scope(a->kind) == TOKEN_ADMIN || transaction_scope(a->kind) == TOKEN_PUBLISH);
	REQUIRE(strcmp(transaction_verb(a->kind), "action") != 0);
	REQUIRE((a->kind == STORE_SUBMIT || a->kind == TRANSACTION_PUBLISH) ||
	        (a->job > 0 && a->job <= JOB_ID_MAX));
	if (a->kind == STORE_SUBMIT) {
		REQUIRE(a->submit.queue.len > 0 && a->submit.queue.len <= JOB_NAME_MAX);
		REQUIRE(a->submit.payload.len <= ITEM_MAX &&
		        a->submit.content_type.len <= JOB_CONTENT_TYPE_MAX);
		for (size_t i = 0; i < a->submit.payload.len; i++)
			sum += ((const uint8_t *)a->submit.payload.data)[i];
	}
	if (a->kind == STORE_COMPLETE) {
		REQUIRE(a->complete.bytes.len <= ITEM_MAX);
		for (size_t i = 0; i < a->complete.bytes.len; i++)
			sum += ((const uint8_t *)a->complete.bytes.data)[i];
	}
	(void)sum;
}

static void check_event(const struct transaction_event *event, struct wh_slice namespace)
{
	volatile uint8_t sum = 0;

	REQUIRE(event->json.data || event->data.len <= ITEM_MAX);
	REQUIRE(namespace_show(namespace, (struct wh_slice){event->topic.data, event->topic.len}).len > 0);
	REQUIRE(!event->json.data || (event->json.data[0] == '{' && !event->data.data && !event->type.data));
	for (size_t i = 0; i < event->json.len; i++)
		sum += (uint8_t)event->json.data[i];
	for (size_t i = 0; i < event->data.len; i++)
		sum += (uint8_t)event->data.data[i];
	(void)sum;
}

/* As a client of this namespace sends it: what it names is in there. */
static void read_as(struct wh_slice namespace, const char *text, size_t len)
{
	struct transaction_refusal refusal;
	struct transaction transaction;

	if (transaction_read(&transaction, namespace, text, len, ITEM_MAX, &refusal)) {
		REQUIRE(transaction.count > 0 && transaction.count <= JOB_ACTIONS_MAX);
		for (size_t i = 0; i < transaction.count; i++) {
			const struct store_slice *queue = &transaction.actions[i].submit.queue;

			check(&transaction.actions[i]);
			if (transaction.actions[i].kind == STORE_SUBMIT && namespace.len > 0)
				REQUIRE(namespace_show(namespace, (struct wh_slice){queue->data, queue->len})
				                .len > 0);
		}
		for (size_t i = 0; i < transaction.events_count; i++)
			check_event(&transaction.events[i], namespace);
	} else {
		int status = problem_status(refusal.problem);

		REQUIRE(status == 400 || status == 413 || status == 422 || status == 503 ||
		        (status == 403 && namespace.len > 0));
		REQUIRE(refusal.detail[0] != 0 && refusal.action >= -1);
	}
	transaction_done(&transaction);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	/* of its own, so that a byte read beyond is seen */
	char *copy = malloc(len + (len == 0));

	REQUIRE(copy);
	if (len > 0)
		memcpy(copy, data, len);
	read_as((struct wh_slice){NULL, 0}, copy, len);
	read_as((struct wh_slice){"acme", 4}, copy, len);
	free(copy);
	return 0;
}
