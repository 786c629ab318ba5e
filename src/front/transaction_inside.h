/* src/front/transaction_inside.h -- the inside of reading a transaction: shared by transaction.c, which reads members by their tables, and
 * transaction_take.c, which makes an action of them.
 */
#ifndef WH_FRONT_TRANSACTION_INSIDE_H
#define WH_FRONT_TRANSACTION_INSIDE_H

#include "front/api.h"
#include "front/transaction.h"

#define BIT(kind) (1u << (kind))

struct transaction_verb {
	const char *name;
	int kind;
	enum token_action scope;
	bool within; /* it names nothing outside a client's namespace */
};

enum member {
	QUEUE,
	JOB,
	LEASE,
	PAYLOAD,
	PAYLOAD_BASE64,
	RESULT,
	RESULT_BASE64,
	CONTENT_TYPE,
	STATUS,
	PRIORITY,
	DELAY,
	RUN_AT,
	TIME_TO_RUN,
	ATTEMPTS,
	RETENTION,
	EXPIRES,
	EXPIRES_AT,
	UNIQUE,
	UNIQUE_WHILE,
	GROUP,
	AFTER,
	AFTER_FAILURE,
	CALLBACK,
	ATTEMPTS_MAX,
	IF_MATCH,
	TO,
	ERROR,
	RETRY,
	BY,
	PROGRESS,
	TOPIC,
	EVENT,
	TYPE,
	SOURCE,
	SUBJECT,
	MEMBERS
};

struct value {
	bool given, is_json, is_null;
	int64_t number;
	struct store_slice text;
	struct job_lease lease;
};

struct reading {
	struct transaction *transaction;
	struct transaction_refusal *refusal;
	struct wh_slice namespace;
	size_t index, count;
	uint64_t item_bytes_max;
	struct wh_slice list, at; /* as text: the array, and the action of index at_index */
	size_t at_index;
	const struct transaction_verb *verb;
	struct value values[MEMBERS];
};

/* false: why has been put down. transaction_own() - remember memory that is the transaction's; NULL is passed on as want of memory. */
bool transaction_wrong(struct reading *reading, enum problem problem, const char *what, const char *how);
bool transaction_no_memory(struct reading *reading);
bool transaction_own(struct reading *reading, void *memory);
const char *transaction_name(enum member member); /* as clients call it */

/* transaction_take() (transaction_take.c) - the action that the verb and the values are. false: as above. */
bool transaction_take(struct reading *reading, struct store_action *action);

#endif
