/* src/front/after.h -- which jobs a new one is to run after, as clients say it.
 *
 * Used by: api_submit.c, transaction.c, api_transaction.c, answer.c. Thread: the front's.
 */
#ifndef WH_FRONT_AFTER_H
#define WH_FRONT_AFTER_H

#include "base/text.h"
#include "front/token.h"
#include "store/store.h"
#include "whilst/whilst.h"

struct api;

enum { AFTER_QUERY_MAX = 1000 }; /* ids in a query; a transaction may have JOB_AFTER_MAX */
struct after {
	size_t count;
	uint64_t ids[AFTER_QUERY_MAX];
};

/* after_read() - "12,13,17". false: it is not that, or there are too many. */
bool after_read(struct wh_slice text, struct after *ret);

/* after_failure() - "cancel", ... of an enum job_after_failure. after_failure_read(): and back; false: none of them. */
const char *after_failure(int failure);
bool after_failure_read(const char *text, size_t len, uint8_t *ret);

/* after_refused() - one of the jobs that the token may neither look at nor hand over nor work on; 0: none is. What is not there is not told. */
uint64_t after_refused(struct api *api, const struct token *token, struct store_slice after);

/* after_put() - what an awaiting job waits for, as JSON; null of any other. */
void after_put(struct wh__text *text, const struct store_view *view);

#endif
