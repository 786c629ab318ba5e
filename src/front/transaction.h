/* src/front/transaction.h -- the body of POST /v1/transactions, read into actions of the store.
 *
 * A verb is a row of one table, a member of a verb is a row of another; whoever adds a kind of action adds rows. Pure, but for
 * memory. Thread: any.
 */
#ifndef WH_FRONT_TRANSACTION_H
#define WH_FRONT_TRANSACTION_H

#include "front/problem.h"
#include "front/token.h"
#include "store/store.h"

enum { TRANSACTION_BYTES_MAX = 16 << 20 };

/* Kinds of actions that are more than one of the store's. */
enum { TRANSACTION_PUBLISH = 31 };

/* An event to be published: whole, or the data and what is said of it. */
struct transaction_event {
	struct store_slice topic;
	struct wh_slice json; /* absent: it is to be made of the rest */
	struct wh_slice data, content_type, type, source, subject;
};

struct transaction {
	size_t count;
	struct store_action *actions; /* point into the rest; of an event .job is its index */
	struct wh_slice *
		callbacks; /* of each action the URL to be told of the job's end, or absent; NULL: there is none */
	struct transaction_event *events;
	size_t events_count, events_cap;
	void **owned; /* texts and bytes that were made while reading */
	size_t owned_count, owned_cap;
	void *json;
};

/* What is wrong with it. */
struct transaction_refusal {
	enum problem problem;
	long action; /* index; -1: of the whole */
	int line, column;
	uint64_t limit;
	char detail[300];
};

/* transaction_read() - by a client of this namespace (empty: of none), in whose words it names queues. text is borrowed for the call. false: *refusal says why. transaction_done() in any case. */
bool transaction_read(struct transaction *transaction, struct wh_slice namespace, const char *text,
                      size_t len, uint64_t item_bytes_max, struct transaction_refusal *refusal);
void transaction_done(struct transaction *transaction);

/* transaction_verb() - "complete", of an action's kind. transaction_scope() - what a token must be good for at its queue. */
const char *transaction_verb(int kind);
enum token_action transaction_scope(int kind);

#endif
